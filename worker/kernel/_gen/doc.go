// Command _gen writes the assembly of package kernel, and what its Go code has
// to know of it. It is a module of its own, so that nothing else depends on
// the assembler's generator, avo.
//
//	go generate ./worker/kernel
//
// It reads as the algorithm:
//
//   - schedule.go: the message schedule of SHA-1 is linear over xor, so each
//     of its words is a part that depends on the lane, xor a part that depends
//     on the number v of a vector. Mostly one of them is nothing, or they have
//     no bit in common and xor is addition.
//   - plan.go: the search for the bits of the index that lanes and v stand on,
//     such that the fewest words need work. It is printed.
//   - rounds.go: SHA-1 as a list of operations, each done as early as it can
//     be: by the generator, once for a step, or once for a vector.
//   - avx512.go and avx512match.go: the operations in AVX-512, two vectors
//     side by side, and the matchers that look for names in the digests.
//   - avx512set.go and avx512sieve.go: the filters that look for many names
//     together, and what is made of the flags they list.
//   - avx2.go and avx2match.go: the same in AVX2, but for those filters.
//   - allocate.go: registers for vectors.
//   - assemble.go: the files.
package main
