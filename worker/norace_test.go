//go:build !race

package worker_test

const virtualRounds = 3
