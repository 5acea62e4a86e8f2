//go:build purego

package kernel_test

// purego is set when there is no assembly.
const purego = true
