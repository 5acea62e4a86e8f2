package kernel

import (
	"slices"
	"sync/atomic"

	"github.com/hashfinder/hashfinder/jobs/search"
)

// Generic is the kernel for every machine, and the twin that specifies all
// others. For each candidate it takes the SHA-1 (hash.go), notes where each
// character stands (places), and then asks each query's matcher (match.go).
type Generic struct{}

// Name returns "generic".
func (Generic) Name() string { return "generic" }

const (
	// stopEvery is the work between two looks at the stop flag, in matches of
	// one candidate with one query: 0.1 to 0.2 ms.
	stopEvery = 1 << 14
	// digestCost is the work for a candidate's digest and places.
	digestCost = 8
	// hitsAhead is the number of hits that bring a report forward. Those of one
	// candidate stay together, so there may be more.
	hitsAhead = 1 << 10
)

// Scan implements [Kernel].
func (Generic) Scan(queries []Query, lo, hi uint64, stop *atomic.Bool, report Report) uint64 {
	p := newPass(queries)
	return p.scan(lo, hi, stop, report, func(at, end uint64) uint64 { return p.stretch(at, at+p.span(at, end-at)) })
}

// pass is the state of one Scan.
type pass struct {
	live   []matcher // of the queries that have not ended, in their order
	hits   []Hit     // not reported yet
	hasher *hasher
}

func newPass(queries []Query) pass {
	p := pass{live: make([]matcher, 0, len(queries)), hasher: newHasher()}
	for i, q := range queries {
		p.live = append(p.live, newMatcher(i, q))
	}
	return p
}

// scan is Scan by stretch, which searches from at on, up to end at most, for
// the queries that are in live, and returns the index that it has reached. It
// does so in a fraction of a millisecond.
func (p *pass) scan(lo, hi uint64, stop *atomic.Bool, report Report, stretch func(at, end uint64) uint64) uint64 {
	at, reported := lo, lo
	p.retire(at)
	for at < hi && len(p.live) > 0 && !stop.Load() {
		at = stretch(at, at+min(hi-at, ReportEvery-(at-reported)))
		p.retire(at)
		if at-reported == ReportEvery || len(p.hits) >= hitsAhead {
			report(at, p.hits)
			p.hits = p.hits[:0]
			reported = at
		}
	}
	if at > reported {
		report(at, p.hits)
	}
	return at
}

// retire removes the queries that end at or below at.
func (p *pass) retire(at uint64) {
	p.live = slices.DeleteFunc(p.live, func(m matcher) bool { return m.end <= at })
}

// span returns how many indexes from at on, limit at most, are of secrets of
// one length, below every query's end, and few enough not to look at the stop
// flag in between.
func (p *pass) span(at, limit uint64) uint64 {
	limit = min(limit, max(1, stopEvery/uint64(digestCost+len(p.live))))
	if n := search.SecretLen(at); n < maxSecretLen {
		limit = min(limit, search.LengthStart(n+1)-at)
	}
	for i := range p.live {
		limit = min(limit, p.live[i].end-at)
	}
	return limit
}

// stretch searches [at, end), which span has chosen, and returns the index
// that it has reached: less than end when a query has ended before, or when
// there are hitsAhead hits.
func (p *pass) stretch(at, end uint64) uint64 {
	p.hasher.start(at)
	var text places
	for ; at < end; at++ {
		text.fill(p.hasher.next())
		found := false
		for i := range p.live {
			m := &p.live[i]
			if !m.near(&text) {
				continue
			}
			if d := m.distance(&text); d <= m.bound {
				p.hits = append(p.hits, m.hit(at, d))
				found = true
			}
		}
		if found && (len(p.hits) >= hitsAhead || p.someEnd(at+1)) {
			return at + 1
		}
	}
	return at
}

// someEnd reports whether a query ends at or below at.
func (p *pass) someEnd(at uint64) bool {
	return slices.ContainsFunc(p.live, func(m matcher) bool { return m.end <= at })
}
