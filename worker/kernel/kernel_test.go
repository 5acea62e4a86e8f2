package kernel_test

import (
	"fmt"
	"math"
	"strings"
	"sync/atomic"
	"testing"
	"unicode"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/hashfinder/hashfinder/jobs/search"
	"github.com/hashfinder/hashfinder/worker/kernel"
)

// failer is what *testing.T and *rapid.T have in common.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// scan runs k, fails unless it finds what search.Scan does, stopped or not,
// and returns what it has found.
func scan(t failer, k kernel.Kernel, queries []kernel.Query, lo, hi uint64) outcome {
	t.Helper()
	r := newRecorder(lo, hi)
	if err := r.scan(k, queries, new(atomic.Bool)); err != nil {
		t.Fatalf("%+v: %v", queries, err)
	}
	if err := r.compare(reference(queries, lo, hi), false); err != nil {
		t.Fatalf("%+v: %v", queries, err)
	}
	return outcome{r.hits, r.through}
}

// scanStopped runs k over a range too long for it until onReport has set stop,
// fails unless it has found what search.Scan does up to there, and returns the
// number of reports.
func scanStopped(t *testing.T, k kernel.Kernel, queries []kernel.Query, lo uint64, stop *atomic.Bool, onReport func(reports int)) int {
	t.Helper()
	r := newRecorder(lo, lo+1<<60)
	r.onReport = func() { onReport(r.reports) }
	if err := r.scan(k, queries, stop); err != nil {
		t.Fatal(err)
	}
	if err := r.compare(reference(queries, lo, r.through), false); err != nil {
		t.Fatal(err)
	}
	return r.reports
}

// drawName draws a name that is near to a hashed name of the range, or any.
func drawName(t *rapid.T, lo, hi uint64) string {
	characters := rapid.OneOf(
		rapid.RuneFrom([]rune("aAbBzZ09+/=-")),
		rapid.RuneFrom(nil, &unicode.RangeTable{R16: []unicode.Range16{{Lo: 0x20, Hi: 0x7e, Stride: 1}}}),
	)
	if lo == hi || rapid.Bool().Draw(t, "anything") {
		return rapid.StringOfN(characters, 1, search.MaxNameLen, -1).Draw(t, "name")
	}
	hashed := search.HashedName(search.AppendSecret(nil, rapid.Uint64Range(lo, hi-1).Draw(t, "index")))
	at := rapid.IntRange(0, search.HashedNameLen-1).Draw(t, "at")
	name := hashed[at : at+rapid.IntRange(1, search.HashedNameLen-at).Draw(t, "length")]
	for range rapid.IntRange(0, 3).Draw(t, "mutations") {
		name[rapid.IntRange(0, len(name)-1).Draw(t, "mutated")] = byte(characters.Draw(t, "character"))
	}
	return string(name)
}

func drawQuery(lo, hi uint64) *rapid.Generator[kernel.Query] {
	return rapid.Custom(func(t *rapid.T) kernel.Query {
		name := drawName(t, lo, hi)
		distance := rapid.OneOf(rapid.IntRange(0, min(3, len(name))), rapid.IntRange(0, len(name)))
		q := kernel.Query{Query: search.Query{
			Name:        name,
			Ideal:       distance.Draw(t, "ideal") - 1,
			Interesting: distance.Draw(t, "interesting"),
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
	start, end := lengthRange(n)
	if rapid.Bool().Draw(t, "straddles") {
		lo = start - min(start, rapid.Uint64Range(0, longest/2).Draw(t, "before"))
	} else {
		lo = rapid.Uint64Range(start, end).Draw(t, "lo")
	}
	return lo, lo + min(math.MaxUint64-lo, rapid.Uint64Range(0, longest).Draw(t, "span"))
}

func TestScanAgainstReference(t *testing.T) {
	for _, k := range kernel.All() {
		t.Run(k.Name(), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				lo, hi := drawRange(t, 700)
				queries := rapid.SliceOfN(drawQuery(lo, hi), 0, 5).Draw(t, "queries")
				scan(t, k, queries, lo, hi)
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
			got := scan(t, k, queries, lo, lo+100)
			found := make(map[int]bool)
			for _, h := range got.hits {
				found[h.Query] = true
			}
			if got.through != lo+100 || len(found) != len(queries) {
				t.Errorf("through %d with %d queries hit, want %d with %d", got.through, len(found), lo+100, len(queries))
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
					got := scan(t, k, test.queries, test.lo, test.hi)
					if got.through != test.through || len(got.hits) != test.hits {
						t.Errorf("Scan = %d with %d hits, want %d with %d", got.through, len(got.hits), test.through, test.hits)
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
					reports := scanStopped(t, k, queries, 60000, &stop, func(reports int) { stop.Store(reports >= after) })
					// One more for what was searched since.
					if reports > after+1 {
						t.Errorf("%d reports, the flag was set after %d", reports, after)
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
				scanStopped(t, k, queries, 1<<30, &stop, func(reports int) {
					if reports == 1 {
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
			allocations := func(span uint64) float64 {
				lo := search.LengthStart(4) - 1<<9
				return testing.AllocsPerRun(1, func() {
					k.Scan(queries, lo, lo+span, new(atomic.Bool), func(uint64, []kernel.Hit) {})
				})
			}
			short, long := allocations(1<<17), allocations(1<<19)
			if short > 500 || long > short+50 {
				t.Errorf("%g allocations for 2^17 candidates, %g for 2^19", short, long)
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
			scan(t, k, []kernel.Query{{Query: q, End: hi, MaxHits: int(maxHits)}}, lo, hi)
		}
	})
}
