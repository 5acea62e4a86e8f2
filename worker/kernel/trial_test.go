package kernel_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/hashfinder/hashfinder/jobs/search"
	"github.com/hashfinder/hashfinder/worker/kernel"
)

// trial is one Scan, chosen at random, to compare a kernel by.
type trial struct {
	queries []kernel.Query
	lo, hi  uint64
	// stopReports sets the stop flag with so many reports, stopTime after so
	// long. Negative is never.
	stopReports int
	stopTime    time.Duration
}

// newTrial chooses a range of at most longest indexes, and queries most of
// which have hits in it.
func newTrial(r *rand.Rand, longest uint64) trial {
	tr := trial{stopReports: -1, stopTime: -1}
	tr.lo, tr.hi = randomRange(r, longest)
	n := 1
	switch r.IntN(10) {
	case 0:
		n = r.IntN(50)
	case 1, 2, 3:
		n = 2 + r.IntN(8)
	}
	for range n {
		tr.queries = append(tr.queries, randomQuery(r, tr.lo, tr.hi))
	}
	switch r.IntN(10) {
	case 0:
		tr.stopReports = r.IntN(4)
	case 1:
		tr.stopTime = time.Duration(r.IntN(300)) * time.Microsecond
	}
	return tr
}

// randomRange chooses ranges at places of every length: across its start, near
// round numbers and anywhere.
func randomRange(r *rand.Rand, longest uint64) (lo, hi uint64) {
	// Kernels have little to do with the shortest and with the longest.
	n := [...]int{0, 1, 2, 3, 3, 3, 4, 4, 4, 5, 5, 5, 6, 6, 7, 7, 8}[r.IntN(17)]
	start, end := lengthRange(n)
	switch lo = start + r.Uint64N(end-start); r.IntN(4) {
	case 0:
		lo = start - min(start, r.Uint64N(longest/2))
	case 1:
		lo = start + (lo-start)>>r.IntN(64)&^(1<<r.IntN(25)-1) // round, and not always far
		lo -= min(lo, r.Uint64N(40))
	}
	if r.IntN(2) == 0 {
		longest >>= r.IntN(14)
	}
	span := r.Uint64N(longest)
	if r.IntN(4) == 0 {
		span &^= 15
	}
	return lo, lo + min(math.MaxUint64-lo, span)
}

// lengthRange returns the indexes of the secrets of n bytes.
func lengthRange(n int) (lo, hi uint64) {
	if n == 8 {
		return search.LengthStart(n), math.MaxUint64
	}
	return search.LengthStart(n), search.LengthStart(n + 1)
}

// randomQuery chooses a name that is a hit in the range, for some distance, or
// else any name.
func randomQuery(r *rand.Rand, lo, hi uint64) kernel.Query {
	n := 1 + r.IntN(search.MaxNameLen)
	if r.IntN(2) == 0 {
		n = 3 + r.IntN(8)
	}
	mutations := r.IntN(min(n, 3) + 1)
	if r.IntN(8) == 0 {
		mutations = r.IntN(n + 1)
	}
	name := plant(r, randomIndex(r, lo, hi), n, mutations)
	// Most queries report what was planted and little more.
	q := kernel.Query{Query: search.Query{Name: name, Ideal: mutations - 1, Interesting: mutations}, End: math.MaxUint64}
	switch r.IntN(8) {
	case 0, 1:
		q.Ideal = mutations
	case 2, 3:
		q.Ideal, q.Interesting = -1, min(n, mutations+1)
	case 4:
		q.Ideal, q.Interesting = r.IntN(n+1), r.IntN(n+1)
	}
	if r.IntN(4) == 0 {
		q.End = lo - min(lo, 10) + r.Uint64N(hi-lo+20)
	}
	if r.IntN(4) == 0 {
		q.MaxHits = r.IntN(20)
	}
	return q
}

// randomIndex chooses from the range, its ends more often than the rest.
func randomIndex(r *rand.Rand, lo, hi uint64) uint64 {
	if lo == hi {
		return lo
	}
	switch r.IntN(4) {
	case 0:
		return lo
	case 1:
		return hi - 1
	}
	return lo + r.Uint64N(hi-lo)
}

// plant returns n characters of the hashed name at index, with as many of them
// replaced as mutations says, and in a random case.
func plant(r *rand.Rand, index uint64, n, mutations int) string {
	hashed := search.HashedName(search.AppendSecret(nil, index))
	name := hashed[r.IntN(search.HashedNameLen-n+1):][:n]
	if r.IntN(8) == 0 {
		name = hashed[search.HashedNameLen-n:] // the padding
	}
	for _, at := range r.Perm(n)[:mutations] {
		if r.IntN(2) == 0 {
			name[at] = "+/=-_ @[`{aZ09"[r.IntN(14)] // in base64, beside it and beside the letters
		} else {
			name[at] = byte(' ' + r.IntN('~'-' '+1))
		}
	}
	for at, c := range name {
		if unicode.IsLetter(rune(c)) && r.IntN(2) == 0 {
			name[at] ^= 0x20
		}
	}
	return string(name)
}

// run returns an error unless k finds what it should.
func (tr trial) run(k kernel.Kernel, want outcome) error {
	var stop atomic.Bool
	r := newRecorder(tr.lo, tr.hi)
	if tr.stopReports >= 0 {
		stop.Store(tr.stopReports == 0)
		r.onReport = func() { stop.Store(r.reports >= tr.stopReports) }
	}
	if tr.stopTime >= 0 {
		defer time.AfterFunc(tr.stopTime, func() { stop.Store(true) }).Stop()
	}
	err := r.scan(k, tr.queries, &stop)
	if err == nil {
		err = r.compare(want, stop.Load())
	}
	if err != nil {
		return fmt.Errorf("kernel %s, %+v: %w", k.Name(), tr, err)
	}
	return nil
}
