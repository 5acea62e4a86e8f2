//go:build race

package kernel_test

// race is set under the race detector, which makes candidates slow and
// crypto/sha1 allocate.
const race = true
