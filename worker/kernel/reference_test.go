package kernel_test

import (
	"cmp"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/hashfinder/hashfinder/jobs/search"
	"github.com/hashfinder/hashfinder/worker/kernel"
)

// outcome is what a pass over a range must find: the hits by index and then
// by query, and through, the index at which the last query has ended.
type outcome struct {
	hits    []kernel.Hit
	through uint64
}

// reference is the outcome by search.Scan, one query after the other.
func reference(queries []kernel.Query, lo, hi uint64) outcome {
	want := outcome{through: lo}
	for i, q := range queries {
		end, n := min(hi, q.End), 0
		search.Scan(q.Query, lo, end, func(h search.Hit) bool {
			want.hits = append(want.hits, kernel.Hit{Query: i, Hit: h})
			if n++; n == q.MaxHits || h.Distance <= q.Ideal {
				end = h.Index + 1
				return false
			}
			return true
		})
		want.through = max(want.through, end)
	}
	slices.SortStableFunc(want.hits, func(a, b kernel.Hit) int { return cmp.Compare(a.Index, b.Index) })
	return want
}

// twin is the outcome by the generic kernel, which is compared with the
// reference itself.
func twin(queries []kernel.Query, lo, hi uint64) outcome {
	var want outcome
	want.through = kernel.Generic{}.Scan(queries, lo, hi, new(atomic.Bool), func(_ uint64, hits []kernel.Hit) {
		want.hits = append(want.hits, hits...)
	})
	return want
}

// recorder takes the reports of one Scan and checks what must hold of each.
type recorder struct {
	lo, hi  uint64
	through uint64 // of the last report
	hits    []kernel.Hit
	reports int
	fault   error // the first
	// onReport is called with each report, unless it is nil.
	onReport func()
}

func newRecorder(lo, hi uint64) *recorder { return &recorder{lo: lo, hi: hi, through: lo} }

func (r *recorder) report(through uint64, hits []kernel.Hit) {
	if r.fault == nil {
		r.fault = r.check(through, hits)
	}
	r.hits = append(r.hits, hits...)
	r.through = through
	r.reports++
	if r.onReport != nil {
		r.onReport()
	}
}

func (r *recorder) check(through uint64, hits []kernel.Hit) error {
	switch {
	case through <= r.through || through > r.hi:
		return fmt.Errorf("report through %d after %d in [%d, %d)", through, r.through, r.lo, r.hi)
	case through-r.through > kernel.ReportEvery:
		return fmt.Errorf("report through %d after %d: more than ReportEvery", through, r.through)
	}
	for _, h := range hits {
		if h.Index < r.through || h.Index >= through {
			return fmt.Errorf("hit %+v in the report of [%d, %d)", h, r.through, through)
		}
	}
	return nil
}

// scan runs k and returns an error unless its reports are as they must be.
func (r *recorder) scan(k kernel.Kernel, queries []kernel.Query, stop *atomic.Bool) error {
	through := k.Scan(queries, r.lo, r.hi, stop, r.report)
	if r.fault == nil && through != r.through {
		r.fault = fmt.Errorf("Scan of [%d, %d) = %d, the last report was through %d", r.lo, r.hi, through, r.through)
	}
	return r.fault
}

// compare returns an error unless the hits are those of want, all of them or,
// when it was stopped, those below the index that was reached.
func (r *recorder) compare(want outcome, stopped bool) error {
	if r.through > want.through || r.through < want.through && !stopped {
		return fmt.Errorf("Scan of [%d, %d) = %d, the last query ends at %d", r.lo, r.hi, r.through, want.through)
	}
	return firstDifference(r.hits, want.below(r.through))
}

// below returns the hits below through.
func (o outcome) below(through uint64) []kernel.Hit {
	n, _ := slices.BinarySearchFunc(o.hits, through, func(h kernel.Hit, at uint64) int { return cmp.Compare(h.Index, at) })
	return o.hits[:n]
}

// firstDifference returns an error about the first hit that is not as it
// should be.
func firstDifference(got, want []kernel.Hit) error {
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			return fmt.Errorf("hit %d of %d is missing: %+v", i, len(want), want[i])
		case i >= len(want):
			return fmt.Errorf("hit %d is more than the %d there are: %+v", i, len(want), got[i])
		case got[i] != want[i]:
			return fmt.Errorf("hit %d of %d is %+v, want %+v", i, len(want), got[i], want[i])
		}
	}
	return nil
}
