//go:build race

package worker_test

// The race detector slows virtual time down by a factor of five to ten.
const virtualRounds = 1
