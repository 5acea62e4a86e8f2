package kernel

import (
	"cmp"
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

// genericGroup is how many queries it takes to look for them together, which
// costs as much for a candidate as four alone.
const genericGroup = 6

// Scan implements [Kernel].
func (k Generic) Scan(queries []Query, lo, hi uint64, stop *atomic.Bool, report Report) uint64 {
	return k.scanPass(newPass(queries, k.least()), len(queries), lo, hi, stop, report)
}

func (Generic) least() int { return genericGroup }

func (Generic) scanPass(p pass, _ int, lo, hi uint64, stop *atomic.Bool, report Report) uint64 {
	return p.scan(lo, hi, stop, report, func(at, end uint64) uint64 { return p.stretch(at, at+p.span(at, end-at)) })
}

// pass is the state of one Scan.
type pass struct {
	live   []matcher // of the queries that are looked for one by one and have not ended, in their order
	many   *group    // those that are looked for together, nil for none
	hits   []Hit     // not reported yet
	hasher *hasher
}

// newPass looks for queries together if there are so many that can be.
func newPass(queries []Query, least int) pass {
	p := pass{hasher: newHasher()}
	together := make([]matcher, 0, len(queries))
	for i, q := range queries {
		m := newMatcher(i, q)
		if m.anchorable() {
			together = append(together, m)
		} else {
			p.live = append(p.live, m)
		}
	}
	if len(together) >= least {
		p.many = newGroup(together)
		return p
	}
	p.live = append(p.live, together...)
	slices.SortFunc(p.live, func(a, b matcher) int { return cmp.Compare(a.query, b.query) })
	return p
}

// queries returns how many queries have not ended.
func (p *pass) queries() int {
	if p.many != nil {
		return len(p.live) + p.many.live
	}
	return len(p.live)
}

// scan is Scan by stretch, which searches from at on, up to end at most, for
// the queries that are in live, and returns the index that it has reached. It
// does so in a fraction of a millisecond.
func (p *pass) scan(lo, hi uint64, stop *atomic.Bool, report Report, stretch func(at, end uint64) uint64) uint64 {
	at, reported := lo, lo
	p.retire(at)
	for at < hi && p.queries() > 0 && !stop.Load() {
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
	if p.many != nil {
		p.many.retire(at)
	}
}

// span returns how many indexes from at on, limit at most, are of secrets of
// one length, below every query's end, and few enough not to look at the stop
// flag in between.
func (p *pass) span(at, limit uint64) uint64 {
	work := digestCost + len(p.live)
	if p.many != nil {
		work += genericGroup
		limit = min(limit, p.many.ends-at)
	}
	limit = min(limit, max(1, stopEvery/uint64(work)))
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
		d := p.hasher.next()
		before := len(p.hits)
		if len(p.live) > 0 {
			text.fill(d)
		}
		for i := range p.live {
			m := &p.live[i]
			if !m.near(&text) {
				continue
			}
			if d := m.distance(&text); d <= m.bound {
				p.hits = append(p.hits, m.hit(at, d))
			}
		}
		if p.many != nil {
			p.hits = p.many.hit(d, at, p.hits, before)
		}
		if len(p.hits) > before && (len(p.hits) >= hitsAhead || p.someEnd(at+1)) {
			return at + 1
		}
	}
	return at
}

// someEnd reports whether a query ends at or below at.
func (p *pass) someEnd(at uint64) bool {
	return p.many != nil && p.many.ends <= at || slices.ContainsFunc(p.live, func(m matcher) bool { return m.end <= at })
}

// compareHits puts hits in the order of reports.
func compareHits(a, b Hit) int {
	return cmp.Or(cmp.Compare(a.Index, b.Index), cmp.Compare(a.Query, b.Query))
}
