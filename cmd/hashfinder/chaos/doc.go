// Package chaos runs hashfinder as it is run for real, breaks it, and checks what was seen.
//
// TestChaos starts a private redis-server with an append-only file, front ends and workers, each a process of its own
// with a link to Redis that can be cut, delayed, reset or left half open. Clients submit, watch, cancel and leave; a
// fault strikes; in the end the clients' records and those of the workers' kernels are merged and held to each
// promise by package history.
//
// A run is one fresh system, its clients, and some strikes of one fault. A history is what was recorded of one job
// whose life a strike fell into. By default each fault has one run:
//
//	go test -tags chaos ./cmd/hashfinder/chaos
//
// More of them print the matrix of faults and promises, and the times that were measured:
//
//	go test -tags chaos ./cmd/hashfinder/chaos -v -timeout 0 -histories 300 -fault 'kill worker'
//
// It has a build tag because the times that it holds the service to need a machine with nothing else to do.
//
// The front ends are the program itself. The workers are the test program under another name, made of the same parts,
// so that they can record what their kernels compute, and so that these can be made to fail. Their kernels are slowed
// down, so that many jobs are under way for long on a machine that is not loaded.
package chaos
