// Package worker runs the chunks of searches.
//
// A worker takes tickets from asynq. For each it claims a chunk from the ledger, searches it with a kernel, hands
// its hits over, commits it, and puts the tickets that the commit minted back at the tail of the queue, so that all
// sweeps have their turn.
//
// It holds a chunk by a lease that it renews each second. It stops computing when the lease is lost, when it could
// not renew it for two seconds, or when nobody wants the chunk any more: pub/sub says so within a millisecond, and the
// cancel keys of its jobs, polled ten times a second, say so in any case. It gives the lease back only after the
// kernel has returned, so that a released lease means that nothing runs.
//
// Every hit is checked against the plain reference before it is handed over. A kernel that fails the check, or
// panics, is taken out of service for the life of the process, and the generic one does the chunk again.
package worker
