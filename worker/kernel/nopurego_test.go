//go:build !purego

package kernel_test

const purego = false
