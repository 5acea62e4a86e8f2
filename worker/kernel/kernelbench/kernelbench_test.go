package kernelbench_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashfinder/hashfinder/jobs/search"
	"github.com/hashfinder/hashfinder/worker/kernel"
	"github.com/hashfinder/hashfinder/worker/kernel/kernelbench"
)

// counted counts the hits of a kernel, and how far it searches.
type counted struct {
	kernel.Kernel
	hits     int
	searched uint64
}

func (c *counted) Scan(queries []kernel.Query, lo, hi uint64, stop *atomic.Bool, report kernel.Report) uint64 {
	through := c.Kernel.Scan(queries, lo, hi, stop, func(through uint64, hits []kernel.Hit) {
		c.hits += len(hits)
		report(through, hits)
	})
	c.searched += through - lo
	return through
}

// TestRun holds that hits are found and end nothing, and that what is counted
// was searched.
func TestRun(t *testing.T) {
	const n = 1 << 17
	for _, test := range []struct {
		about string
		kernelbench.Case
		hits int
	}{
		{"four letters end at distance 0 otherwise", kernelbench.Case{SecretLength: 4, NameLength: 4, Queries: 1}, 1},
		{"one in seven", kernelbench.Case{SecretLength: 4, NameLength: 4, Distance: 2, Queries: 1}, n / 8},
		{"secrets of one byte, round and round", kernelbench.Case{SecretLength: 1, NameLength: 2, Distance: 1, Queries: 1}, n / 2},
		{"many queries", kernelbench.Case{SecretLength: 5, NameLength: 6, Distance: 2, Queries: 8}, 8 * n / 5000},
	} {
		t.Run(test.about, func(t *testing.T) {
			for _, k := range kernel.All() {
				t.Run(k.Name(), func(t *testing.T) {
					counter := &counted{Kernel: k}
					var stop atomic.Bool
					got := test.Run(counter, &stop, func(searched uint64) bool { return searched < n })
					if !stop.Load() || got < n || got != counter.searched {
						t.Errorf("stopped: %t; Run = %d, searched %d, want at least %d", stop.Load(), got, counter.searched, n)
					}
					if counter.hits < test.hits {
						t.Errorf("%d hits among %d candidates, want at least %d", counter.hits, got, test.hits)
					}
				})
			}
		})
	}
}

// TestCases holds that each case is one, and none is there twice.
func TestCases(t *testing.T) {
	seen := make(map[kernelbench.Case]bool)
	for _, c := range slices.Concat(kernelbench.Cases(), kernelbench.SetCases()) {
		if seen[c] {
			t.Errorf("%v is there twice", c)
		}
		seen[c] = true
		if n := c.Run(kernel.Best(), new(atomic.Bool), func(uint64) bool { return false }); n == 0 || n > search.LengthStart(c.SecretLength+1) {
			t.Errorf("%v searched %d candidates", c, n)
		}
	}
}

func TestRate(t *testing.T) {
	for _, test := range []struct {
		about string
		rate  func(context.Context, time.Duration) (float64, error)
	}{
		{"sha1", kernelbench.SHA1Rate},
		{"kernel", func(ctx context.Context, d time.Duration) (float64, error) {
			return kernelbench.Cases()[0].Rate(ctx, kernel.Generic{}, d)
		}},
	} {
		t.Run(test.about, func(t *testing.T) {
			rate, err := test.rate(t.Context(), time.Millisecond)
			if err != nil || rate < 1e4 || rate > 1e10 {
				t.Errorf("rate %g, error %v", rate, err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			defer cancel()
			if rate, err := test.rate(ctx, time.Hour); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("rate %g, error %v, want context.DeadlineExceeded", rate, err)
			}
		})
	}
}
