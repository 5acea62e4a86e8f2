package kernel_test

import (
	"math"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashfinder/hashfinder/jobs/search"
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
	cases := append(slices.Concat(kernelbench.Cases(), kernelbench.SetCases()),
		kernelbench.Case{SecretLength: 4, NameLength: 16, Distance: 3, Queries: 1},
		kernelbench.Case{SecretLength: 4, NameLength: 7, Distance: 1, Queries: 64},
		kernelbench.Case{SecretLength: 4, NameLength: 7, Distance: 1, Queries: 1000},
	)
	for _, k := range kernel.All() {
		for _, c := range cases {
			b.Run(k.Name()+"/"+c.String(), func(b *testing.B) {
				benchmark(b, c.Work(k))
			})
		}
	}
}

// benchmark reports million candidates per second. Kernels go on to their next
// report, which is more than b.N, so ns/op says a little too much.
func benchmark(b *testing.B, work kernelbench.Work) {
	b.ReportAllocs()
	searched := work(new(atomic.Bool), func(searched uint64) bool { return searched < uint64(b.N) })
	b.ReportMetric(float64(searched)/b.Elapsed().Seconds()/1e6, "Mcps")
}

// BenchmarkStop measures how long Scan goes on after the stop flag is set, as
// the median and the longest of all stops. It is to be less than a millisecond.
func BenchmarkStop(b *testing.B) {
	every := kernel.Query{Query: search.Query{Name: "ab", Ideal: -1, Interesting: 2}, End: math.MaxUint64}
	rare := kernel.Query{Query: search.Query{Name: "hashfinder", Ideal: -1, Interesting: 2}, End: math.MaxUint64}
	for _, test := range []struct {
		about   string
		queries []kernel.Query
	}{
		{"NoHits", []kernel.Query{rare}},
		{"AllHits", []kernel.Query{every}},
		{"40Queries", slices.Repeat([]kernel.Query{rare}, 40)},
	} {
		for _, k := range kernel.All() {
			b.Run(test.about+"/"+k.Name(), func(b *testing.B) {
				var took []time.Duration
				for b.Loop() {
					var stop atomic.Bool
					set := make(chan time.Time, 1)
					// At another place of the kernel's work each time.
					time.AfterFunc(time.Duration(len(took)%24)*317*time.Microsecond, func() {
						set <- time.Now()
						stop.Store(true)
					})
					k.Scan(test.queries, search.LengthStart(4), search.LengthStart(5), &stop, func(uint64, []kernel.Hit) {})
					took = append(took, time.Since(<-set))
				}
				slices.Sort(took)
				b.ReportMetric(float64(took[len(took)/2].Microseconds()), "µs-median")
				b.ReportMetric(float64(took[len(took)-1].Microseconds()), "µs-max")
			})
		}
	}
}
