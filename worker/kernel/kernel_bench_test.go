package kernel_test

import (
	"sync/atomic"
	"testing"

	"github.com/hashfinder/hashfinder/worker/kernel"
	"github.com/hashfinder/hashfinder/worker/kernel/kernelbench"
)

// BenchmarkSHA1 is the yardstick: crypto/sha1.Sum of four bytes and no more.
// One operation is one hash.
func BenchmarkSHA1(b *testing.B) { benchmark(b, kernelbench.SHA1) }

// BenchmarkScan measures every kernel by what "hashfinder bench kernel"
// measures, and by searches that are far from common. One operation is one
// candidate.
func BenchmarkScan(b *testing.B) {
	cases := append(kernelbench.Cases(),
		kernelbench.Case{SecretLength: 4, NameLength: 16, Distance: 3, Queries: 1},
		kernelbench.Case{SecretLength: 4, NameLength: 7, Distance: 1, Queries: 64},
		kernelbench.Case{SecretLength: 4, NameLength: 7, Distance: 1, Queries: 1000},
	)
	for _, k := range kernel.All() {
		for _, c := range cases {
			b.Run(k.Name()+"/"+c.String(), func(b *testing.B) {
				benchmark(b, func(stop *atomic.Bool, more func(uint64) bool) uint64 { return c.Run(k, stop, more) })
			})
		}
	}
}

// benchmark reports million candidates per second. Kernels go on to their next
// report, which is more than b.N, so ns/op says a little too much.
func benchmark(b *testing.B, run func(stop *atomic.Bool, more func(uint64) bool) uint64) {
	b.ReportAllocs()
	searched := run(new(atomic.Bool), func(searched uint64) bool { return searched < uint64(b.N) })
	b.ReportMetric(float64(searched)/b.Elapsed().Seconds()/1e6, "Mcps")
}
