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

// TestWork holds that hits are found and end nothing, and that what is counted
// was searched.
func TestWork(t *testing.T) {
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
					got := test.Work(counter)(&stop, func(searched uint64) bool { return searched < n })
					if !stop.Load() || got < n || got != counter.searched {
						t.Errorf("stopped: %t; Work = %d, searched %d, want at least %d", stop.Load(), got, counter.searched, n)
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
		if n := c.Work(kernel.Best())(new(atomic.Bool), func(uint64) bool { return false }); n == 0 || n > search.LengthStart(c.SecretLength+1) {
			t.Errorf("%v searched %d candidates", c, n)
		}
	}
}

func TestInTurn(t *testing.T) {
	works := []kernelbench.Work{kernelbench.SHA1, kernelbench.One().Work(kernel.Generic{})}
	rates, err := kernelbench.InTurn(t.Context(), time.Millisecond, works...)
	if err != nil || len(rates) != len(works) {
		t.Fatalf("%d rates, error %v", len(rates), err)
	}
	for i, r := range rates {
		if m := r.Median(); m < 1e4 || m > 1e10 {
			t.Errorf("work %d: rate %g", i, m)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	for i, work := range works {
		if _, err := kernelbench.InTurn(ctx, time.Hour, work); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("work %d: error %v, want context.DeadlineExceeded", i, err)
		}
	}
}

// TestRates has a machine that is slow in two rounds.
func TestRates(t *testing.T) {
	one, many := kernelbench.Rates{100, 40, 104, 50, 96}, kernelbench.Rates{51, 20, 52, 26, 47}
	if got := many.Median(); got != 47 {
		t.Errorf("median %g, want 47", got)
	}
	if got := many.To(one); got != 0.5 {
		t.Errorf("ratio %g, want 0.5", got)
	}
	if one[0] != 100 || many[0] != 51 {
		t.Errorf("the rates have changed: %g, %g", one, many)
	}
}
