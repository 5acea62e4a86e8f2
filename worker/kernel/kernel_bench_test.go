package kernel_test

import (
	"crypto/sha1"
	"fmt"
	"math"
	"sync/atomic"
	"testing"

	"github.com/hashfinder/hashfinder/jobs/search"
	"github.com/hashfinder/hashfinder/worker/kernel"
)

// BenchmarkSHA1 is the yardstick: crypto/sha1.Sum of four bytes and no more.
func BenchmarkSHA1(b *testing.B) {
	b.ReportAllocs()
	var secret [4]byte
	var sink byte
	for i := 0; b.Loop(); i++ {
		secret[3] = byte(i)
		sum := sha1.Sum(secret[:])
		sink ^= sum[0]
	}
	_ = sink
	reportRate(b, uint64(b.N))
}

// BenchmarkScan measures every kernel over secrets of four bytes, 2^18 a Scan.
func BenchmarkScan(b *testing.B) {
	for _, k := range kernel.All() {
		for _, name := range []string{"goph", "doctor", "hashfinder", "thequickbrownfox"} {
			for _, d := range []int{0, 1, 2, 3} {
				if d < len(name) {
					b.Run(fmt.Sprintf("%s/name=%s/distance=%d", k.Name(), name, d), func(b *testing.B) {
						benchmarkScan(b, k, []kernel.Query{query(name, d)})
					})
				}
			}
		}
		for _, n := range []int{4, 64, 1000} {
			queries := make([]kernel.Query, n)
			for i := range queries {
				queries[i] = query(fmt.Sprintf("name%03d", i), i%3)
			}
			b.Run(fmt.Sprintf("%s/queries=%d", k.Name(), n), func(b *testing.B) {
				benchmarkScan(b, k, queries)
			})
		}
	}
}

// query looks for name within the distance and goes on after a hit, except
// that distance 0 is ideal.
func query(name string, distance int) kernel.Query {
	return kernel.Query{Query: search.Query{Name: name, Interesting: distance}, End: math.MaxUint64}
}

// benchmarkScan starts the next range at once when a query ends early.
func benchmarkScan(b *testing.B, k kernel.Kernel, queries []kernel.Query) {
	b.ReportAllocs()
	const span = 1 << 18
	var stop atomic.Bool
	lo := search.LengthStart(4)
	start := lo
	for b.Loop() {
		for hi := lo + span; lo < hi; {
			lo = k.Scan(queries, lo, hi, &stop, func(uint64, []kernel.Hit) {})
		}
	}
	reportRate(b, lo-start)
}

// reportRate reports million candidates per second.
func reportRate(b *testing.B, candidates uint64) {
	b.ReportMetric(float64(candidates)/b.Elapsed().Seconds()/1e6, "Mcps")
}
