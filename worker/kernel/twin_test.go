package kernel_test

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashfinder/hashfinder/jobs/search"
	"github.com/hashfinder/hashfinder/worker/kernel"
)

var (
	long = flag.Int("long", 800, "number of random ranges that TestLong compares")
	seed = flag.Uint64("seed", 0, "what TestLong begins with, to repeat it; 0 is the time")
)

// TestLong compares kernels in random ranges: the generic one with search.Scan,
// and the others with the generic one, which bears longer ranges.
//
//	go test ./worker/kernel -run TestLong -v -timeout 0 -long 1000000
func TestLong(t *testing.T) {
	first, n := *seed, *long
	if first == 0 {
		first = uint64(time.Now().UnixNano())
	}
	if race {
		n /= 10
	}
	start := time.Now()
	var next, searched, hits atomic.Int64
	var wait sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wait.Go(func() {
			for i := next.Add(1) - 1; i < int64(n) && !t.Failed(); i = next.Add(1) - 1 {
				tr, want, err := compareAtRandom(rand.New(rand.NewPCG(first, uint64(i))))
				if err != nil {
					t.Errorf("-seed %d -long %d: %v", first, i+1, err)
				}
				searched.Add(int64(tr.hi - tr.lo))
				hits.Add(int64(len(want.hits)))
			}
		})
	}
	wait.Wait()
	t.Logf("%d ranges, %d candidates, %d hits, %d kernels, -seed %d: %s",
		n, searched.Load(), hits.Load(), len(kernel.All()), first, time.Since(start).Round(time.Millisecond))
}

// compareAtRandom compares each kernel with its truth in a range of its own
// choice, and returns the trial of the last.
func compareAtRandom(r *rand.Rand) (trial, outcome, error) {
	fast, generic := kernels()
	if len(fast) == 0 || r.IntN(8) == 0 {
		tr := newTrial(r, 1<<13)
		tr.hi = min(tr.hi, tr.lo+2000/uint64(len(tr.queries)+1))
		want := reference(tr.queries, tr.lo, tr.hi)
		return tr, want, tr.run(generic, want)
	}
	// Kernels leave short ranges to the generic one's code.
	longest := uint64(1 << 13)
	switch r.IntN(32) {
	case 0:
		longest = 1 << 18
	case 1, 2, 3, 4, 5, 6, 7, 8, 9, 10:
		longest = 1 << 15
	}
	tr := newTrial(r, longest)
	want := twin(tr.queries, tr.lo, tr.hi)
	for _, k := range fast {
		if err := tr.run(k, want); err != nil {
			return tr, want, err
		}
	}
	return tr, want, nil
}

// kernels returns the kernels of this machine but for the generic one, and
// that.
func kernels() (fast []kernel.Kernel, generic kernel.Kernel) {
	all := kernel.All()
	return all[:len(all)-1], all[len(all)-1]
}

// TestBlocks compares in ranges so long that kernels do many blocks of their
// own order of candidates, at each length of secret, around a round number.
// The first is around the end of the three-byte secrets.
func TestBlocks(t *testing.T) {
	fast, _ := kernels()
	switch {
	case len(fast) == 0:
		t.Skip("there is no kernel to compare with the generic one")
	case testing.Short() || race:
		t.Skip("looks at ten million candidates")
	}
	for n := 3; n <= 7; n++ {
		t.Run(fmt.Sprintf("secret=%d", n), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(uint64(n), 0))
			const span = 1 << 21
			lo := search.LengthStart(n) + (r.Uint64N(1<<(8*n-24))+1)<<24 - span/2 - 77
			hi := lo + span
			queries := []kernel.Query{
				{Query: search.Query{Name: plant(r, hi-1, 5, 0), Ideal: -1}, End: math.MaxUint64},
				{Query: search.Query{Name: plant(r, lo, 8, 2), Ideal: -1, Interesting: 2}, End: math.MaxUint64},
				{Query: search.Query{Name: plant(r, lo+span/3, 12, 1), Ideal: 1}, End: math.MaxUint64},
			}
			want := twin(queries, lo, hi)
			for _, k := range fast {
				tr := trial{queries: queries, lo: lo, hi: hi, stopReports: -1, stopTime: -1}
				if err := tr.run(k, want); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestMoreHitsThanKept compares where a million and more hits come together,
// as many as no kernel keeps before it reports them.
func TestMoreHitsThanKept(t *testing.T) {
	if race {
		t.Skip("looks at 70,000 candidates for 20 queries")
	}
	query := kernel.Query{Query: search.Query{Name: "ab", Ideal: -1, Interesting: 2}, End: math.MaxUint64}
	lo := search.LengthStart(4) + 1<<20 - 99
	tr := trial{queries: slices.Repeat([]kernel.Query{query}, 20), lo: lo, hi: lo + 70_000, stopReports: -1, stopTime: -1}
	want := twin(tr.queries, tr.lo, tr.hi)
	fast, _ := kernels()
	for _, k := range fast {
		if err := tr.run(k, want); err != nil {
			t.Error(err)
		}
	}
}

// TestTrials holds that the random ranges are worth something: that queries
// have hits, at the ends too, and end in all the ways there are.
func TestTrials(t *testing.T) {
	got := make(map[string]int)
	r := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		tr := newTrial(r, 1<<13)
		want := twin(tr.queries, tr.lo, tr.hi)
		count := func(what string, is bool) {
			if is {
				got[what]++
			}
		}
		count("empty", tr.lo == tr.hi)
		count("across lengths", tr.lo < tr.hi && search.SecretLen(tr.lo) != search.SecretLen(tr.hi-1))
		count("long", tr.hi-tr.lo > 1<<10)
		count("stopped", tr.stopReports >= 0 || tr.stopTime >= 0)
		count("ended early", want.through < tr.hi)
		count("no hit", len(want.hits) == 0)
		count("hits", len(want.hits) > 0)
		count("many hits", len(want.hits) > 1000)
		for _, h := range want.hits {
			count("first hit", h.Index == tr.lo)
			count("last hit", h.Index == tr.hi-1)
		}
	}
	for _, what := range []string{
		"empty", "across lengths", "long", "stopped", "ended early", "no hit", "hits", "many hits", "first hit", "last hit",
	} {
		if got[what] < 10 {
			t.Errorf("%d of 500 trials are %q, want at least 10", got[what], what)
		}
	}
	t.Log(got)
}

// TestTrialsFindFaults holds that a kernel with a fault does not get through.
func TestTrialsFindFaults(t *testing.T) {
	for _, fault := range faults {
		t.Run(fault.about, func(t *testing.T) {
			r := rand.New(rand.NewPCG(3, 4))
			for range 100 {
				tr := newTrial(r, 1<<13)
				if tr.run(faulty{kernel.Generic{}, fault.change}, twin(tr.queries, tr.lo, tr.hi)) != nil {
					return
				}
			}
			t.Error("100 trials found no fault")
		})
	}
}

// FuzzTwin compares kernels with the generic one in longer ranges than
// FuzzScan can.
func FuzzTwin(f *testing.F) {
	f.Add("doctor", uint8(0), uint8(2), uint64(10874000), uint16(500), uint8(0), int8(-1))
	f.Add("hashfinder", uint8(1), uint8(7), search.LengthStart(4)-99, uint16(math.MaxUint16), uint8(7), int8(-1))
	f.Add("qvQ=", uint8(0), uint8(1), search.LengthStart(5)+1<<24-5, uint16(1<<15), uint8(0), int8(1))
	f.Add("a+/", uint8(0), uint8(1), search.LengthStart(6)+1<<40-1, uint16(1<<12), uint8(200), int8(-1))
	f.Add("not base64!", uint8(2), uint8(11), search.LengthStart(8)-1<<10, uint16(1<<11), uint8(0), int8(0))
	f.Fuzz(func(t *testing.T, name string, ideal, interesting uint8, lo uint64, span uint16, maxHits uint8, stopReports int8) {
		q := search.Query{Name: name, Ideal: int(ideal), Interesting: int(interesting)}
		if q.Validate() != nil {
			return
		}
		hi := lo + min(math.MaxUint64-lo, uint64(span))
		queries := []kernel.Query{{Query: q, End: hi, MaxHits: int(maxHits)}}
		want := twin(queries, lo, hi)
		fast, _ := kernels()
		for _, k := range fast {
			tr := trial{queries: queries, lo: lo, hi: hi, stopReports: int(stopReports), stopTime: -1}
			if err := tr.run(k, want); err != nil {
				t.Fatal(err)
			}
		}
	})
}
