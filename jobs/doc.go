// Package jobs is the heart of hashfinder: what a search job is, and every change that it goes through.
//
// A job is one search with its spec, state, event log and accounts. What is claimed and done of the index space it
// walks is kept apart from it, in the ledger of a sweep; now each job has a sweep of its own. All state is in
// Redis and changes in Lua, one script a transition (lua/), so that any process may die between any two of them:
//
//   - [Store] is one typed call for each transition, and the reads.
//   - [Queue] puts tickets ("run any one chunk of sweep S") into asynq. The queue only wakes workers; the ledger is
//     the truth, and a lost ticket is replaced.
//   - [Relay] reads event logs on behalf of watchers, woken by pub/sub.
//   - [Reconciler] brings each job to where it should be, whatever was lost on the way.
//   - [Service] is what a front end calls: all of these together, with the budgets that bound a job.
//
// The package knows nothing of what is hashed: a query is a profile's name and bytes that only jobs/search and the
// kernels understand. It promises that a job has exactly one terminal state; that its hits are those of a
// sequential scan up to its end, in index order, whatever died on the way; that no index at or beyond its budget is
// searched; and that CANCELLED, and PAUSED too, means that no worker computes for it any more. It does not promise that a chunk is
// computed only once.
package jobs
