//go:build amd64 && !purego

package kernel

import (
	"cmp"
	"math/bits"
	"slices"
	"sync/atomic"

	"github.com/hashfinder/hashfinder/jobs/search"
)

// AVX512 is the kernel for CPUs with AVX-512 and its byte instructions: F, BW,
// VL, VBMI, VBMI2 and GFNI. It computes 16 candidates at a time.
//
// It searches block by block, a block being 2^16 or 2^20 candidates that it sees
// in another order than that of their indexes, and hands the hits of each on in
// order. What is less than about a lane's share of a block it leaves to the
// generic kernel's code, as it does secrets of up to two bytes.
type AVX512 struct{}

// Name returns "avx512".
func (AVX512) Name() string { return "avx512" }

// The costs, in nanoseconds, that decide between a block's steps and the plain
// code for a part of a block. They are rough: the two meet at a few thousand
// candidates.
const (
	avx512StepCost  = 21_000 // a step
	avx512MatchCost = 1_500  // a query's matches with a step
	plainCost       = 60     // a candidate
	plainMatchCost  = 15     // a query's match with a candidate
	avx512GroupCost = 7_000  // a group's look at a step
	plainGroupCost  = 70     // a group's look at a candidate
)

// avx512GroupLeast is how many queries it takes to look for them together.
const avx512GroupLeast = 4

// avx512Hits is how many hits of a block are kept at most: 24 MB. A block with
// more is left to the plain code, at least its beginning.
const avx512Hits = 1 << 20

// Scan implements [Kernel].
func (k AVX512) Scan(queries []Query, lo, hi uint64, stop *atomic.Bool, report Report) uint64 {
	return k.scanPass(newPass(queries, k.least()), len(queries), lo, hi, stop, report)
}

func (AVX512) least() int { return avx512GroupLeast }

func (AVX512) scanPass(from pass, places int, lo, hi uint64, stop *atomic.Bool, report Report) uint64 {
	p := avx512Pass{
		pass:      from,
		matchers:  make([]*avx512Matcher, places),
		matcherOf: make([]*matcher, places),
		stop:      stop,
		report:    report,
		at:        lo,
		reported:  lo,
	}
	for i := range p.live {
		p.matchers[p.live[i].query] = newAVX512Matcher(&p.live[i])
	}
	if p.many != nil {
		p.group = new(avx512Group)
	}
	p.retire(lo)
	for p.at < hi && p.queries() > 0 && !stop.Load() {
		secretLen, plan, end := p.part(min(hi, p.lastEnd()))
		if plan == nil || !p.worthwhile(secretLen, plan, end) {
			p.plain(end)
			continue
		}
		p.flush()
		switch p.block(secretLen, plan, end) {
		case blockDone:
			p.hand(end)
		case blockFull:
			p.plain(p.at + min(end-p.at, 1<<plan.laneLow))
		case blockStopped:
		}
	}
	p.flush()
	return p.reported
}

// avx512Pass is the state of one Scan.
type avx512Pass struct {
	pass
	matchers []*avx512Matcher // by the query's place, of those in live
	vectors  *avx512Hasher    // nil until it is needed
	group    *avx512Group     // nil if no queries are looked for together
	// found has the hits of a block, those of each lane in order if there is
	// one query. lanes counts them.
	found []Hit
	lanes [avx512Lanes]int
	order []Hit // found in order
	// matcherOf has the matchers in live by their queries' places while hits
	// are handed on.
	matcherOf []*matcher

	stop         *atomic.Bool
	report       Report
	at, reported uint64
	end          uint64 // of the part of a block that is searched
}

// lastEnd returns where the last of the live queries ends.
func (p *avx512Pass) lastEnd() (end uint64) {
	for i := range p.live {
		end = max(end, p.live[i].end)
	}
	if p.many != nil {
		end = max(end, p.many.lastEnd())
	}
	return end
}

// part returns how far at most, up to end, the secrets from at on are of one
// length and of one block; that length; and the block's plan, nil if there is
// none for the length.
func (p *avx512Pass) part(end uint64) (secretLen int, plan *avx512Plan, _ uint64) {
	secretLen = search.SecretLen(p.at)
	start := search.LengthStart(secretLen)
	if secretLen < maxSecretLen {
		end = min(end, search.LengthStart(secretLen+1))
	}
	plans := avx512Plans[secretLen]
	if len(plans) == 0 {
		return secretLen, nil, end
	}
	// The larger block only if all of it is needed, and it has few hits.
	large, small := &plans[0], &plans[1]
	if (p.at-start)%large.size() == 0 && end-p.at >= large.size() && p.fewHits() {
		return secretLen, large, p.at + large.size()
	}
	if rest := small.size() - (p.at-start)%small.size(); rest < end-p.at {
		end = p.at + rest
	}
	return secretLen, small, end
}

// avx512Few is how many queries can be searched for in the larger blocks. The
// more there are, the longer a block takes, and the less of it is hashing.
const avx512Few = 4

// fewHits reports whether there are few queries, all of which hit rarely.
func (p *avx512Pass) fewHits() bool {
	return len(p.live) <= avx512Few && !slices.ContainsFunc(p.live, func(m matcher) bool {
		return p.matchers[m.query].filter == avx512NoFilter
	})
}

// worthwhile reports whether [at, end), which is in one block, takes less time
// as steps of the block than by the plain code.
func (p *avx512Pass) worthwhile(secretLen int, plan *avx512Plan, end uint64) bool {
	from := (p.at - search.LengthStart(secretLen)) % plan.size()
	_, count := plan.steps(from, from+end-p.at)
	n := uint64(len(p.live))
	step, plain := avx512StepCost+n*avx512MatchCost, plainCost+n*plainMatchCost
	if p.many != nil {
		step, plain = step+avx512GroupCost, plain+plainGroupCost
	}
	return count*step < (end-p.at)*plain
}

// plain searches from at to end as the generic kernel does.
func (p *avx512Pass) plain(end uint64) {
	for p.at < end && p.queries() > 0 && !p.stop.Load() {
		p.at = p.stretch(p.at, p.at+p.span(p.at, min(end-p.at, ReportEvery-(p.at-p.reported))))
		p.retire(p.at)
		if p.at-p.reported == ReportEvery || len(p.hits) >= hitsAhead {
			p.flush()
		}
	}
}

// flush reports what has not been reported.
func (p *avx512Pass) flush() {
	if p.at > p.reported {
		p.report(p.at, p.hits)
		p.hits = p.hits[:0]
		p.reported = p.at
	}
}

// blockEnd is how the search of a block has ended.
type blockEnd uint8

const (
	blockDone    blockEnd = iota
	blockStopped          // the stop flag is set
	blockFull             // there are more than avx512Hits hits
)

// block searches from at to end, which are in one block, and leaves the hits
// in found.
func (p *avx512Pass) block(secretLen int, plan *avx512Plan, end uint64) blockEnd {
	start := search.LengthStart(secretLen)
	from := (p.at - start) % plan.size()
	base := p.at - from
	if p.vectors == nil {
		p.vectors = new(avx512Hasher)
		p.found = make([]Hit, 0, 4*hitsAhead)
	}
	h := p.vectors
	if h.plan != plan {
		h.begin(secretLen, plan)
	}
	h.block(base - start)
	p.found = p.found[:0]
	p.lanes = [avx512Lanes]int{}
	for i := range p.live {
		p.matchers[p.live[i].query].beginBlock(min(end, p.live[i].end))
	}
	p.end = end
	if p.many != nil {
		p.group.begin(p.many)
	}
	first, count := plan.steps(from, from+end-p.at)
	for step := range plan.stepCount() {
		if (step-first)%plan.stepCount() >= count {
			continue
		}
		h.step(step)
		for v := 0; v < avx512Vectors; v += avx512Batch {
			if p.stop.Load() {
				return blockStopped
			}
			at := base + step<<avx512StepLow + uint64(v)
			h.hash(v)
			if p.many != nil {
				p.matchGroup(at, v/avx512Batch)
			}
			for i := range p.live {
				if i%avx512StopEvery == avx512StopEvery-1 && p.stop.Load() {
					return blockStopped
				}
				p.match(&p.live[i], at, plan.laneLow)
			}
			if len(p.found) > avx512Hits {
				return blockFull
			}
		}
	}
	return blockDone
}

// avx512StopEvery is how many queries are matched with a batch, 0.2 µs each,
// between two looks at the stop flag.
const avx512StopEvery = 1 << 8

// match matches the batch of which the first candidate has index at.
func (p *avx512Pass) match(m *matcher, at uint64, laneLow uint) {
	vm := p.matchers[m.query]
	vm.flag(p.vectors)
	for i, flags := range vm.flags {
		for flags != 0 {
			// All flags of a vector.
			v := bits.TrailingZeros64(flags) / avx512Lanes
			lanes := uint64(uint16(flags >> (v * avx512Lanes)))
			flags &^= lanes << (v * avx512Lanes)
			v += i * (64 / avx512Lanes)
			lanes &= vm.hits(p.vectors, v)
			for ; lanes != 0; lanes &= lanes - 1 {
				lane := bits.TrailingZeros64(lanes)
				index := at + uint64(lane)<<laneLow + uint64(v)
				if index < p.at || index >= vm.end {
					continue
				}
				d := m.n - int(vm.most[v][lane])
				p.found = append(p.found, Hit{Query: m.query, Hit: search.Hit{Index: index, Distance: d}})
				p.lanes[lane]++
				// Each lane finds its hits in order. After the last one of a
				// query no later index matters to it.
				if vm.found[lane]++; d <= m.ideal || vm.found[lane] == m.left {
					vm.end = index + 1
				}
			}
		}
	}
}

// sort puts found in order.
func (p *avx512Pass) sort(laneLow uint) []Hit {
	var ends [avx512Lanes]int
	sum := 0
	for lane, n := range p.lanes {
		ends[lane] = sum
		sum += n
	}
	p.order = slices.Grow(p.order[:0], sum)[:sum]
	start := search.LengthStart(p.vectors.secretLen)
	for _, h := range p.found {
		lane := (h.Index - start) >> laneLow % avx512Lanes
		p.order[ends[lane]] = h
		ends[lane]++
	}
	if len(p.live) > 1 || p.many != nil {
		begin := 0
		for _, end := range ends {
			sortLane(p.order[begin:end])
			begin = end
		}
		p.order = slices.Compact(p.order) // a group finds some of them twice
	}
	return p.order
}

// sortLane sorts the hits of a lane. A group finds them in order, but for those
// of one candidate.
func sortLane(hits []Hit) {
	if !slices.IsSortedFunc(hits, func(a, b Hit) int { return cmp.Compare(a.Index, b.Index) }) {
		slices.SortFunc(hits, compareHits)
		return
	}
	for begin := 0; begin < len(hits); {
		end := begin + 1
		for end < len(hits) && hits[end].Index == hits[begin].Index {
			end++
		}
		if end-begin > 1 {
			slices.SortFunc(hits[begin:end], compareHits)
		}
		begin = end
	}
}

// hand reports the hits of a block that has been searched up to end.
func (p *avx512Pass) hand(end uint64) {
	hits := p.sort(p.vectors.plan.laneLow)
	for p.at < end && p.queries() > 0 && !p.stop.Load() {
		through := p.at + min(end-p.at, ReportEvery)
		for i := range p.live {
			p.matcherOf[p.live[i].query] = &p.live[i]
		}
		for len(hits) > 0 && hits[0].Index < through {
			h := hits[0]
			hits = hits[1:]
			if w := p.member(h.Query); w != nil {
				if h.Index < w.end {
					p.hits = append(p.hits, p.many.accept(h))
				}
			} else if m := p.matcherOf[h.Query]; m != nil && h.Index < m.end {
				p.hits = append(p.hits, m.hit(h.Index, h.Distance))
			}
		}
		for i := range p.live {
			p.matcherOf[p.live[i].query] = nil
		}
		last := uint64(0)
		if p.many == nil || p.many.live == 0 || p.many.ends <= through { // else there is one that goes on
			last = p.lastEnd()
		}
		p.retire(through)
		if p.queries() == 0 {
			through = last
		}
		p.at = through
		p.flush()
	}
}

// member returns the group's member at a place, nil if there is none.
func (p *avx512Pass) member(place int) *wanted {
	if p.many == nil {
		return nil
	}
	return p.many.at(place)
}

// size returns the number of candidates of a block.
func (p *avx512Plan) size() uint64 { return avx512Lanes << p.laneLow }

// stepCount returns the number of steps of a block.
func (p *avx512Plan) stepCount() uint64 { return 1 << (p.laneLow - avx512StepLow) }

// steps returns which steps of a block [from, to) takes, first the first; they
// go on with 0 after the last one.
func (p *avx512Plan) steps(from, to uint64) (first, count uint64) {
	first = from >> avx512StepLow
	count = min((to-1)>>avx512StepLow-first+1, p.stepCount())
	return first % p.stepCount(), count
}

// avx512Matcher looks for one query in batches of digests. Where hits are
// rare, a filter flags what may be one, and only flagged vectors are given to
// the matcher for exact distances, which costs two to three times as much.
type avx512Matcher struct {
	filter avx512Filter
	// groups is how many of tables are in use: one for eight of the name's
	// characters. Both say what each code of a digest maps to.
	groups   int
	tables   [4][8][64]byte
	sequence [3][64]byte // for avx512Sequence
	pieces   [2][64]byte // for avx512Pieces
	begins   uint32      // where the name can stand
	needs    uint32      // how many characters of a hit match

	flags [avx512Batch * avx512Lanes / 64]uint64
	most  [avx512Batch][avx512Lanes]uint8 // characters that match, of hits

	end   uint64           // in the block, no hit at or above it matters
	found [avx512Lanes]int // hits in the block
}

// avx512Filter is a cheap way to see that most candidates are no hits.
type avx512Filter uint8

const (
	avx512NoFilter    avx512Filter = iota
	avx512BySequence6              // three characters in a row, that begin before the last vector of codes
	avx512BySequence7              // three characters in a row
	avx512ByPieces                 // the first three characters in a row, or the next three
	avx512ByFour5                  // four of five characters
	avx512ByFour6
	avx512ByFour7
	avx512ByFour8
)

func newAVX512Matcher(m *matcher) *avx512Matcher {
	v := new(avx512Matcher)
	switch {
	case m.bound == 0 && (m.n >= 7 || m.n == 6 && m.class[5] != classPadding):
		v.filter = avx512BySequence6
	case m.bound == 0 && m.n >= 3:
		v.filter = avx512BySequence7
	case m.bound == 1 && m.n >= 6:
		v.filter = avx512ByPieces
	case m.bound >= 1 && m.bound <= 4 && m.n >= 4+m.bound:
		v.filter = avx512ByFour5 + avx512Filter(m.bound) - 1
	}
	v.groups = (m.n + 7) / 8
	v.needs = uint32(m.n - m.bound)
	for place := range search.HashedNameLen - m.n + 1 {
		v.begins |= 1 << (8*(place%4) + place/4)
	}
	for i, c := range m.class[:m.n] {
		t := &v.tables[i/8]
		bit := byte(1) << (i % 8)
		for code, class := range codeClass {
			if class != c {
				continue
			}
			for w := range 7 {
				t[w][code] |= bits.RotateLeft8(bit, w)
			}
			switch {
			case v.filter == avx512ByPieces && i < 6:
				v.pieces[0][code] |= bit
			case i < 3:
				v.sequence[0][code] |= bit
				v.sequence[1][code] |= bit << 3
			}
		}
		if c != classPadding {
			continue
		}
		// Of the last vector, byte 3 of each candidate has no code.
		for b := 3; b < len(t[7]); b += 4 {
			t[7][b] |= bits.RotateLeft8(bit, 6)
			switch {
			case v.filter == avx512ByPieces && i < 6:
				v.pieces[1][b] |= bit
			case i < 3:
				v.sequence[2][b] |= bit << 3
			}
		}
	}
	return v
}

// beginBlock makes ready for a block, in which no hit at or above end matters.
func (v *avx512Matcher) beginBlock(end uint64) {
	v.end = end
	v.found = [avx512Lanes]int{}
}

// flag sets the flags for h's batch.
func (v *avx512Matcher) flag(h *avx512Hasher) {
	const batch = avx512Batch
	digests, flags := &h.digests[0], &v.flags[0]
	switch v.filter {
	case avx512BySequence6:
		avx512Sequence6(&v.sequence, digests, flags, batch)
	case avx512BySequence7:
		avx512Sequence7(&v.sequence, digests, flags, batch)
	case avx512ByPieces:
		avx512Pieces(&v.pieces, digests, flags, batch)
	case avx512ByFour5:
		avx512Filter5(&v.tables[0], v.begins, digests, flags, batch)
	case avx512ByFour6:
		avx512Filter6(&v.tables[0], v.begins, digests, flags, batch)
	case avx512ByFour7:
		avx512Filter7(&v.tables[0], v.begins, digests, flags, batch)
	case avx512ByFour8:
		avx512Filter8(&v.tables[0], v.begins, digests, flags, batch)
	case avx512NoFilter:
		avx512Distance(&v.tables[0], v.groups, v.begins, v.needs, digests, flags, &v.most[0], batch)
	}
}

// hits returns the lanes of a flagged vector that are hits, and sets most.
func (v *avx512Matcher) hits(h *avx512Hasher, vector int) (lanes uint64) {
	if v.filter == avx512NoFilter {
		return 1<<avx512Lanes - 1 // flag has seen to it
	}
	avx512Distance(&v.tables[0], v.groups, v.begins, v.needs, &h.digests[vector], &lanes, &v.most[vector], 1)
	return lanes
}
