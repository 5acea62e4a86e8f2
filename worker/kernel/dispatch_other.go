//go:build !amd64 || purego

package kernel

// vectorKernels returns nil: there is no assembly for this machine.
func vectorKernels() []Kernel { return nil }
