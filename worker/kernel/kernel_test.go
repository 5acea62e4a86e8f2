package kernel_test

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"unicode"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/hashfinder/hashfinder/jobs/search"
	"github.com/hashfinder/hashfinder/worker/kernel"
)

// reference is what a pass must find, by search.Scan: the hits by index and
// then by query, and where each query ends.
func reference(queries []kernel.Query, lo, hi uint64) (hits []kernel.Hit, ends []uint64) {
	for i, q := range queries {
		end, n := max(lo, min(hi, q.End)), 0
		search.Scan(q.Query, lo, end, func(h search.Hit) bool {
			hits = append(hits, kernel.Hit{Query: i, Hit: h})
			if n++; n == q.MaxHits || h.Distance <= q.Ideal {
				end = h.Index + 1
				return false
			}
			return true
		})
		ends = append(ends, end)
	}
	slices.SortStableFunc(hits, func(a, b kernel.Hit) int { return cmp.Compare(a.Index, b.Index) })
	return hits, ends
}

// failer is what *testing.T and *rapid.T have in common.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// recorder takes reports and checks what must hold of each.
type recorder struct {
	t        failer
	lo, hi   uint64
	hits     []kernel.Hit
	through  uint64 // of the last report
	reports  int
	onReport func()
}

func (r *recorder) report(through uint64, hits []kernel.Hit) {
	r.t.Helper()
	if through <= r.through || through > r.hi {
		r.t.Fatalf("report through %d after %d in [%d, %d)", through, r.through, r.lo, r.hi)
	}
	if through-r.through > kernel.ReportEvery {
		r.t.Fatalf("report through %d after %d: more than ReportEvery", through, r.through)
	}
	for _, h := range hits {
		if h.Index < r.through || h.Index >= through {
			r.t.Fatalf("hit %+v in the report of [%d, %d)", h, r.through, through)
		}
	}
	r.hits = append(r.hits, hits...)
	r.through = through
	r.reports++
	if r.onReport != nil {
		r.onReport()
	}
}

// scan runs k and checks what must hold of any scan, stopped or not.
func scan(t failer, k kernel.Kernel, queries []kernel.Query, lo, hi uint64, stop *atomic.Bool, onReport func()) (through uint64, hits []kernel.Hit) {
	t.Helper()
	r := recorder{t: t, lo: lo, hi: hi, through: lo, onReport: onReport}
	through = k.Scan(queries, lo, hi, stop, r.report)
	if through != r.through {
		t.Fatalf("Scan of [%d, %d) = %d, the last report was through %d", lo, hi, through, r.through)
	}
	want, ends := reference(queries, lo, through)
	if diff := gocmp.Diff(want, r.hits); diff != "" {
		t.Fatalf("hits of %+v in [%d, %d) (-want +got):\n%s", queries, lo, through, diff)
	}
	if !stop.Load() {
		if want := slices.Max(append(ends, lo)); through != want && through < hi {
			t.Fatalf("Scan of [%d, %d) = %d, the last query ends at %d", lo, hi, through, want)
		}
		if slices.Max(append(ends, lo)) < through {
			t.Fatalf("Scan of [%d, %d) = %d, after all queries had ended: %d", lo, hi, through, ends)
		}
	}
	return through, r.hits
}

func drawQuery(lo, hi uint64) *rapid.Generator[kernel.Query] {
	return rapid.Custom(func(t *rapid.T) kernel.Query {
		name := rapid.StringOfN(rapid.OneOf(
			rapid.RuneFrom([]rune("aAbBzZ09+/=-")),
			rapid.RuneFrom(nil, &unicode.RangeTable{R16: []unicode.Range16{{Lo: 0x20, Hi: 0x7e, Stride: 1}}}),
		), 1, search.MaxNameLen, -1).Draw(t, "name")
		q := kernel.Query{Query: search.Query{
			Name:        name,
			Ideal:       rapid.IntRange(0, len(name)).Draw(t, "ideal"),
			Interesting: rapid.IntRange(0, len(name)).Draw(t, "interesting"),
		}, End: math.MaxUint64}
		if rapid.Bool().Draw(t, "ends") {
			q.End = rapid.Uint64Range(lo-min(lo, 10), hi).Draw(t, "end")
		}
		if rapid.Bool().Draw(t, "limited") {
			q.MaxHits = rapid.IntRange(0, 20).Draw(t, "max hits")
		}
		return q
	})
}

// drawRange draws short ranges at places of every length, many of them across
// the start of a length.
func drawRange(t *rapid.T, longest uint64) (lo, hi uint64) {
	n := rapid.IntRange(0, 8).Draw(t, "length")
	start := search.LengthStart(n)
	if rapid.Bool().Draw(t, "straddles") {
		lo = start - min(start, rapid.Uint64Range(0, longest/2).Draw(t, "before"))
	} else {
		last := uint64(math.MaxUint64)
		if n < 8 {
			last = search.LengthStart(n + 1)
		}
		lo = rapid.Uint64Range(start, last).Draw(t, "lo")
	}
	return lo, lo + min(math.MaxUint64-lo, rapid.Uint64Range(0, longest).Draw(t, "span"))
}

func TestScanAgainstReference(t *testing.T) {
	for _, k := range kernel.All() {
		t.Run(k.Name(), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				lo, hi := drawRange(t, 700)
				queries := rapid.SliceOfN(drawQuery(lo, hi), 0, 5).Draw(t, "queries")
				scan(t, k, queries, lo, hi, new(atomic.Bool), nil)
			})
		})
	}
}

// TestScanEveryDistance takes every length of name at every distance, from
// names that stand in the range and are changed in as many places.
func TestScanEveryDistance(t *testing.T) {
	lo := search.LengthStart(3) - 40
	var queries []kernel.Query
	for n := 1; n <= search.MaxNameLen; n++ {
		for d := 0; d <= n; d++ {
			hashed := search.HashedName(search.AppendSecret(nil, lo+uint64(n+d)))
			name := hashed[search.HashedNameLen-n-d%(search.HashedNameLen-n+1):][:n]
			for i := range d {
				name[i*7%n] = '-'
			}
			queries = append(queries, kernel.Query{Query: search.Query{Name: string(name), Interesting: d}, End: math.MaxUint64})
		}
	}
	for _, k := range kernel.All() {
		t.Run(k.Name(), func(t *testing.T) {
			through, hits := scan(t, k, queries, lo, lo+100, new(atomic.Bool), nil)
			found := make(map[int]bool)
			for _, h := range hits {
				found[h.Query] = true
			}
			if through != lo+100 || len(found) != len(queries) {
				t.Errorf("through %d with %d queries hit, want %d with %d", through, len(found), lo+100, len(queries))
			}
		})
	}
}

func TestScanRanges(t *testing.T) {
	every := search.Query{Name: "doctor", Interesting: 6}
	open := uint64(math.MaxUint64)
	for _, test := range []struct {
		about   string
		queries []kernel.Query
		lo, hi  uint64
		through uint64
		hits    int
	}{
		{"no query", nil, 5, 50, 5, 0},
		{"empty range", []kernel.Query{{Query: every, End: open}}, 50, 50, 50, 0},
		{"backward range", []kernel.Query{{Query: every, End: open}}, 50, 5, 50, 0},
		{"one candidate", []kernel.Query{{Query: every, End: open}}, 0, 1, 1, 1},
		{"the last candidate", []kernel.Query{{Query: every, End: open}}, open - 1, open, open, 1},
		{"query ended before", []kernel.Query{{Query: every, End: 5}}, 5, 50, 5, 0},
		{"query ends within", []kernel.Query{{Query: every, End: 20}}, 5, 50, 20, 15},
		{"the later end", []kernel.Query{{Query: every, End: 20}, {Query: every, End: 30}}, 5, 50, 30, 40},
		{"hits end it", []kernel.Query{{Query: every, End: open, MaxHits: 7}}, 5, 50, 12, 7},
		{"ideal hit ends it", []kernel.Query{{Query: search.Query{Name: "doctor"}, End: open}}, 10874000, 10875000, 10874376, 1},
		{"lengths 0 to 3", []kernel.Query{{Query: every, End: open}}, 0, 66000, 66000, 66000},
	} {
		t.Run(test.about, func(t *testing.T) {
			for _, k := range kernel.All() {
				t.Run(k.Name(), func(t *testing.T) {
					through, hits := scan(t, k, test.queries, test.lo, test.hi, new(atomic.Bool), nil)
					if through != test.through || len(hits) != test.hits {
						t.Errorf("Scan = %d with %d hits, want %d with %d", through, len(hits), test.through, test.hits)
					}
				})
			}
		})
	}
}

func TestScanStopped(t *testing.T) {
	queries := []kernel.Query{
		{Query: search.Query{Name: "ab", Ideal: 0, Interesting: 1}, End: math.MaxUint64},
		{Query: search.Query{Name: "-o", Ideal: 0, Interesting: 1}, End: math.MaxUint64},
	}
	for _, k := range kernel.All() {
		t.Run(k.Name(), func(t *testing.T) {
			for after := range 4 {
				t.Run(fmt.Sprintf("after %d reports", after), func(t *testing.T) {
					var stop atomic.Bool
					stop.Store(after == 0)
					reports := 0
					const lo, hi = 60000, 1 << 40
					through, _ := scan(t, k, queries, lo, hi, &stop, func() {
						reports++
						stop.Store(reports >= after)
					})
					// One more for what was searched since.
					if reports > after+1 {
						t.Errorf("Scan = %d after %d reports, the flag was set after %d", through, reports, after)
					}
				})
			}
		})
	}
}

// TestScanStoppedAnywhere sets the flag from another goroutine, so it is seen
// between reports too.
func TestScanStoppedAnywhere(t *testing.T) {
	queries := []kernel.Query{{Query: search.Query{Name: "-ab", Interesting: 2}, End: math.MaxUint64}}
	for _, k := range kernel.All() {
		t.Run(k.Name(), func(t *testing.T) {
			for range 20 {
				var stop atomic.Bool
				first := make(chan struct{})
				done := make(chan struct{})
				go func() {
					defer close(done)
					<-first
					stop.Store(true)
				}()
				const lo, hi = 1 << 30, 1 << 60
				reports := 0
				scan(t, k, queries, lo, hi, &stop, func() {
					if reports++; reports == 1 {
						close(first)
					}
				})
				<-done
			}
		})
	}
}

// TestFirstDoctor walks all secrets up to the first ideal hit.
func TestFirstDoctor(t *testing.T) {
	if testing.Short() || race {
		t.Skip("looks at eleven million candidates, in one goroutine")
	}
	for _, k := range kernel.All() {
		t.Run(k.Name(), func(t *testing.T) {
			queries := []kernel.Query{{Query: search.Query{Name: "doctor"}, End: math.MaxUint64}}
			var hits []kernel.Hit
			through := k.Scan(queries, 0, 1<<24, new(atomic.Bool), func(_ uint64, found []kernel.Hit) {
				hits = append(hits, found...)
			})
			want := []kernel.Hit{{Hit: search.Hit{Index: 10874375}}}
			if diff := gocmp.Diff(want, hits); diff != "" || through != 10874376 {
				t.Errorf("Scan = %d, want 10874376; hits (-want +got):\n%s", through, diff)
			}
		})
	}
}

// TestScanAllocations holds that what a Scan allocates does not grow with the
// candidates it looks at.
func TestScanAllocations(t *testing.T) {
	if race {
		t.Skip("crypto/sha1 allocates under the race detector")
	}
	queries := []kernel.Query{
		{Query: search.Query{Name: "doctor", Interesting: 3}, End: math.MaxUint64},
		{Query: search.Query{Name: "goph", Interesting: 3}, End: math.MaxUint64},
		{Query: search.Query{Name: strings.Repeat("a", 28), Interesting: 12}, End: math.MaxUint64},
	}
	for _, k := range kernel.All() {
		t.Run(k.Name(), func(t *testing.T) {
			for _, span := range []uint64{1 << 10, 1 << 17} {
				lo := search.LengthStart(4) - span/2
				got := testing.AllocsPerRun(3, func() {
					k.Scan(queries, lo, lo+span, new(atomic.Bool), func(uint64, []kernel.Hit) {})
				})
				if got > 40 {
					t.Errorf("%g allocations for %d candidates", got, span)
				}
			}
		})
	}
}

func FuzzScan(f *testing.F) {
	f.Add("doctor", uint8(0), uint8(2), uint64(10874000), uint16(500), uint8(0))
	f.Add("=", uint8(0), uint8(0), uint64(0), uint16(300), uint8(1))
	f.Add("x a=", uint8(2), uint8(4), uint64(65000), uint16(1000), uint8(3))
	f.Fuzz(func(t *testing.T, name string, ideal, interesting uint8, lo uint64, span uint16, maxHits uint8) {
		q := search.Query{Name: name, Ideal: int(ideal), Interesting: int(interesting)}
		if q.Validate() != nil {
			return
		}
		hi := lo + min(math.MaxUint64-lo, uint64(span))
		for _, k := range kernel.All() {
			scan(t, k, []kernel.Query{{Query: q, End: hi, MaxHits: int(maxHits)}}, lo, hi, new(atomic.Bool), nil)
		}
	})
}
