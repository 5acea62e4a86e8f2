// Package kernel computes searches fast: one pass over a range of indexes for
// any number of queries, with the same hits as [search.Scan].
//
// The generic kernel, in generic.go, is plain Go and runs on every machine. It
// is also the truth that every other kernel is compared with, so it changes
// first. [Best] chooses the kernel of this machine and [SelfTest] tries one
// out before it is used.
//
// The kernels in assembly, [AVX512] and [AVX2], are written by the program in
// _gen, which explains them; go generate runs it. They are built without the
// tag purego.
//
// A kernel guarantees that its hits are those of the plain scan, each with its
// exact distance, in index order and below the index that it says it has
// reached. It does not guarantee where it reports and stops: that depends on
// the kernel and on the number of queries.
//
// Names of which four characters in a row have to match, as most have at small
// distances, are looked for together when there are many: anchor.go, group.go and sieve.go.
// A [QuerySet] has queries that come and go while [Searcher] goes through the
// index space for all of them, slice by slice.
//
// Least use:
//
//	var stop atomic.Bool
//	queries := []kernel.Query{{Query: q, End: 1 << 32}}
//	kernel.Best().Scan(queries, 0, 1<<32, &stop, func(through uint64, hits []kernel.Hit) {
//		for _, h := range hits {
//			fmt.Println(h.Index, h.Distance)
//		}
//	})
package kernel
