//go:build amd64 && !purego

package kernel

import "golang.org/x/sys/cpu"

// vectorKernels returns the kernels in assembly that run on this machine, the
// fastest first.
//
// GODEBUG switches instructions off, and with them the kernels: avx512 by
// cpu.avx512=off, or cpu.avx512f=off and so on, avx2 by cpu.avx2=off. Package cpu
// describes it.
func vectorKernels() []Kernel {
	x := &cpu.X86
	var kernels []Kernel
	if x.HasAVX512 && x.HasAVX512F && x.HasAVX512BW && x.HasAVX512DQ && x.HasAVX512VL &&
		x.HasAVX512VBMI && x.HasAVX512VBMI2 && x.HasAVX512GFNI {
		kernels = append(kernels, AVX512{})
	}
	if x.HasAVX2 {
		kernels = append(kernels, AVX2{})
	}
	return kernels
}
