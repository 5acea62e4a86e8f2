//go:build amd64 && !purego

package kernel

import (
	"encoding/binary"
	"math/bits"
	"sync/atomic"

	"github.com/hashfinder/hashfinder/jobs/search"
)

// AVX2 is the kernel for CPUs with AVX2. It hashes eight candidates at once
// (avx2hash.go), flags those that may be hits (avx2filter.go), and matches
// these one by one as the generic kernel does. Secrets of up to two bytes it
// leaves to that kernel.
type AVX2 struct{}

// Name returns "avx2".
func (AVX2) Name() string { return "avx2" }

const (
	// avx2Stretch is how many rows are hashed and then looked through. Their
	// digests stay in the first-level cache.
	avx2Stretch = 64
	// avx2Work bounds a stretch in candidates times queries: 0.2 to 0.5 ms.
	avx2Work = 1 << 16
	// avx2Least is how many candidates take the generic kernel as long as a
	// pair of rows takes this one.
	avx2Least = 4
	// avx2Group is how many queries it takes to look for them together, which is
	// done as the generic kernel does it.
	avx2Group = 100
)

// Scan implements [Kernel].
func (k AVX2) Scan(queries []Query, lo, hi uint64, stop *atomic.Bool, report Report) uint64 {
	return k.scanPass(newPass(queries, k.least()), len(queries), lo, hi, stop, report)
}

func (AVX2) least() int { return avx2Group }

func (AVX2) scanPass(p pass, places int, lo, hi uint64, stop *atomic.Bool, report Report) uint64 {
	s := newAVX2Scan(p, places)
	return s.scan(lo, hi, stop, report, s.stretch)
}

// avx2Scan is the state of one Scan. It is large enough to begin with a page,
// so the vectors that come first are aligned.
type avx2Scan struct {
	digests [avx2Stretch]avx2Digests
	text    [28][avx2Lanes]uint32 // for avx2CountMost
	avx2Hasher
	pass
	filters []avx2Filter // by the query's place in the slice given to Scan

	// Of the queries in live: their flags, and as the assembly wants them the
	// filters and the counts.
	flags    []*[avx2Stretch]uint8
	filtered []*[avx2Stretch]uint8
	counted  []*[avx2Stretch][avx2Lanes]uint32
}

func newAVX2Scan(p pass, places int) *avx2Scan {
	n := len(p.live)
	s := &avx2Scan{
		pass:     p,
		filters:  make([]avx2Filter, places),
		flags:    make([]*[avx2Stretch]uint8, 0, n),
		filtered: make([]*[avx2Stretch]uint8, 0, n),
		counted:  make([]*[avx2Stretch][avx2Lanes]uint32, 0, n),
	}
	total := 0
	for i := range p.live {
		total += avx2PieceCount(p.live[i].wants)
	}
	pieces := make([]avx2Piece, total)
	for i := range p.live {
		q := p.live[i].wants
		k := avx2PieceCount(q)
		s.filters[p.live[i].query].set(q, pieces[:k:k], n)
		pieces = pieces[k:]
	}
	return s
}

// stretch searches from at on, up to end at most, and returns the index that
// it has reached.
func (s *avx2Scan) stretch(at, end uint64) uint64 {
	if len(s.flags) != len(s.live) {
		s.relist()
	}
	n := search.SecretLen(at)
	if n < maxSecretLen {
		end = min(end, search.LengthStart(n+1))
	}
	if n < avx2ShortestSecret || end-at < avx2Least {
		return s.pass.stretch(at, at+s.span(at, end-at))
	}
	start := search.LengthStart(n)
	block, place := (at-start)/avx2Block, (at-start)%avx2Block
	s.begin(n)
	s.setBlock(block)
	row := int(place/avx2Lanes) &^ 1 // of the pair that at is in
	first := start + block*avx2Block + uint64(row)*avx2Lanes
	const pair = 2 * avx2Lanes
	pairs := min(avx2Stretch/2, (avx2Rows-row)/2, max(1, avx2Work/pair/max(1, len(s.live))), int((end-first-1)/pair)+1)
	s.hash(row, pairs, &s.digests)
	return s.match(at, first+min(end-first, uint64(pairs)*pair), first, 2*pairs)
}

// relist lists what is in live.
func (s *avx2Scan) relist() {
	s.flags, s.filtered, s.counted = s.flags[:0], s.filtered[:0], s.counted[:0]
	for i := range s.live {
		switch f := &s.filters[s.live[i].query]; {
		case f.count != nil:
			s.counted = append(s.counted, &f.count.most)
			s.flags = append(s.flags, &f.count.flags)
		case len(f.pieces) > 0:
			s.filtered = append(s.filtered, &f.flags)
			s.flags = append(s.flags, &f.flags)
		default: // no candidate can be a hit
			s.flags = append(s.flags, &f.flags)
		}
	}
}

// match searches [at, end), which is among the candidates of so many rows that
// begin with the index first. It returns end, or less if all queries end
// before.
func (s *avx2Scan) match(at, end, first uint64, rows int) uint64 {
	if n := len(s.filtered); n > 0 {
		avx2Flag(&s.digests[0], rows, &s.filtered[0], n)
	}
	if n := len(s.counted); n > 0 {
		avx2CountMost(&s.digests[0], rows, &s.counted[0], n, &s.text)
	}
	var some [avx2Stretch]uint8 // flags of all queries together
	for _, f := range s.flags {
		for r := 0; r < rows; r += 8 {
			b := some[r : r+8]
			binary.NativeEndian.PutUint64(b, binary.NativeEndian.Uint64(b)|binary.NativeEndian.Uint64(f[r:]))
		}
	}
	if s.many != nil {
		s.matchAll(at, end, first, &some)
		rows = 0
	}
	for r := range rows {
		for lanes := some[r]; lanes != 0; lanes &= lanes - 1 {
			lane := bits.TrailingZeros8(lanes)
			if index := first + uint64(r*avx2Lanes+lane); index >= at && index < end {
				s.matchOne(index, r, lane%avx2Lanes)
			}
		}
	}
	last := at
	for i := range s.live {
		last = max(last, s.live[i].end)
	}
	if s.many != nil {
		last = max(last, s.many.lastEnd())
	}
	return min(end, last)
}

// matchAll is the rest of match where some queries are looked for together.
func (s *avx2Scan) matchAll(at, end, first uint64, flags *[avx2Stretch]uint8) {
	for index := at; index < end; index++ {
		row, lane := int(index-first)/avx2Lanes, int(index-first)%avx2Lanes
		before := len(s.hits)
		if flags[row]>>lane&1 != 0 {
			s.matchOne(index, row, lane)
		}
		s.hits = s.many.hit(avx2Digest(&s.digests[row], lane), index, s.hits, before)
	}
}

// matchOne reports the hits of the candidate at index, which is flagged.
func (s *avx2Scan) matchOne(index uint64, row, lane int) {
	var text places
	filled := false
	for i, flags := range s.flags {
		m := &s.live[i]
		if flags[row]>>lane&1 == 0 || index >= m.end {
			continue
		}
		if c := s.filters[m.query].count; c != nil {
			s.hits = append(s.hits, m.hit(index, m.n-int(c.most[row][lane])))
			continue
		}
		if !filled {
			text.fill(avx2Digest(&s.digests[row], lane))
			filled = true
		}
		if !m.near(&text) {
			continue
		}
		if d := m.distance(&text); d <= m.bound {
			s.hits = append(s.hits, m.hit(index, d))
		}
	}
}
