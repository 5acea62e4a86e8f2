package kernel

import (
	"sync"
	"sync/atomic"

	"github.com/hashfinder/hashfinder/jobs/search"
)

// ID identifies a query of a [QuerySet]. Each join has one of its own.
type ID uint64

// QuerySet is queries that come and go while searchers go through slices of the
// index space for all that are there. All methods may be called at any time, by
// several goroutines. The zero value is an empty set.
//
// A set holds about 200 bytes for each query. Each [Searcher] of it has tables of
// its own, 142 KB and about 440 bytes for each query, and the AVX-512 kernel takes
// another 600 KB while it searches a slice.
type QuerySet struct {
	mu      sync.Mutex
	last    ID
	queries map[ID]Query
	// changes are the latest ones, the first of which has the number first.
	changes []change
	first   uint64
}

// change says that a query has joined, has another end, or has left.
type change struct {
	id    ID
	query Query
	left  bool
}

// Join adds a query, valid by [search.Query.Validate] except that its ideal
// distance may be out of reach, or -1. It is looked for in all slices that begin
// from now on. Its End bounds it in all of them, its MaxHits in each; 0 stands for
// [SliceHits].
func (s *QuerySet) Join(q Query) ID {
	if q.MaxHits == 0 {
		q.MaxHits = SliceHits
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last++
	s.change(change{id: s.last, query: q})
	return s.last
}

// SliceHits is the most hits that a query has in a slice unless it says so itself.
const SliceHits = 1 << 16

// Leave removes a query, and reports whether it was there. No slice that begins
// from now on looks for it; those that have begun go on to their ends.
func (s *QuerySet) Leave(id ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.queries[id]; !ok {
		return false
	}
	s.change(change{id: id, left: true})
	return true
}

// Len returns the number of queries.
func (s *QuerySet) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.queries)
}

// retire moves the end of a query down to the index behind its ideal hit.
func (s *QuerySet) retire(id ID, end uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q, ok := s.queries[id]; ok && end < q.End {
		q.End = end
		s.change(change{id: id, query: q})
	}
}

// change makes a change, and notes it for searchers.
func (s *QuerySet) change(c change) {
	if s.queries == nil {
		s.queries = make(map[ID]Query)
	}
	if c.left {
		delete(s.queries, c.id)
	} else {
		s.queries[c.id] = c.query
	}
	// A searcher that has missed more than there are queries begins anew.
	if len(s.changes) > 2*len(s.queries)+1024 {
		drop := len(s.changes) / 2
		s.first += uint64(drop)
		s.changes = append(make([]change, 0, cap(s.changes)), s.changes[drop:]...)
	}
	s.changes = append(s.changes, c)
}

// since calls apply with the changes from a number on, or, if not all of them are
// known any more, reset and then apply for all queries there are. It returns the
// number of the next change.
func (s *QuerySet) since(number uint64, reset func(), apply func(change)) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.first + uint64(len(s.changes))
	if number < s.first {
		reset()
		for id, q := range s.queries {
			apply(change{id: id, query: q})
		}
		return next
	}
	for _, c := range s.changes[number-s.first:] {
		apply(c)
	}
	return next
}

// SetHit is a hit of one query of a set.
type SetHit struct {
	ID ID
	search.Hit
}

// Overflow is a query that had as many hits in a slice as it may have, and was not
// looked for in the rest of it. It is complete in the slice below Through.
type Overflow struct {
	ID      ID
	Through uint64
}

// Searcher searches slices for the queries of a set. It is for one goroutine at a
// time; a set may have several, each with a slice of its own.
type Searcher struct {
	kernel Kernel
	set    *QuerySet
	next   uint64 // number of the first change that it has not seen

	group   *group // of the queries that can be looked for together
	queries []Query
	ids     []ID // by place; 0 for a free one
	places  map[ID]int
	free    []int

	hits     []SetHit
	found    []int // of each query in the slice
	overflow []Overflow
}

// NewSearcher returns a searcher of a set, by a kernel.
func NewSearcher(k Kernel, set *QuerySet) *Searcher {
	s := &Searcher{kernel: k, set: set}
	s.reset()
	return s
}

func (s *Searcher) reset() {
	s.group, s.places = newGroup(nil), make(map[ID]int)
	s.queries, s.ids, s.free = nil, nil, nil
}

// apply makes a change of the set one of the searcher.
func (s *Searcher) apply(c change) {
	place, ok := s.places[c.id]
	switch {
	case c.left && ok:
		if s.group.at(place) != nil {
			s.group.leave(place)
		}
		s.ids[place] = 0
		delete(s.places, c.id)
		s.free = append(s.free, place)
	case c.left:
	case ok:
		s.queries[place] = c.query
	default:
		if n := len(s.free); n > 0 {
			place, s.free = s.free[n-1], s.free[:n-1]
		} else {
			place = len(s.ids)
			s.ids, s.queries, s.found = append(s.ids, 0), append(s.queries, Query{}), append(s.found, 0)
		}
		s.ids[place], s.queries[place], s.places[c.id] = c.id, c.query, place
		if m := newMatcher(place, c.query); m.anchorable() {
			s.group.join(m)
		}
	}
}

// Scan searches the slice [lo, hi) for the queries that are in the set when it
// begins, each as if it were alone: its hits up to the first ideal one, its End, or
// its MaxHits-th. With an ideal hit it ends for all slices that begin later, but for
// what they have below it. The rest is as [Kernel] says; report is called with hits
// by index.
//
// It returns how far it has come, and the queries that had too many hits, which is
// valid until the next call.
func (s *Searcher) Scan(lo, hi uint64, stop *atomic.Bool, report func(through uint64, hits []SetHit)) (uint64, []Overflow) {
	s.next = s.set.since(s.next, s.reset, s.apply)
	clear(s.found)
	s.overflow = s.overflow[:0]
	through := s.scan(lo, hi, stop, func(through uint64, hits []Hit) {
		s.hits = s.hits[:0]
		for _, h := range hits {
			id, q := s.ids[h.Query], &s.queries[h.Query]
			s.hits = append(s.hits, SetHit{id, h.Hit})
			s.found[h.Query]++
			switch {
			case h.Distance <= q.Ideal:
				s.set.retire(id, h.Index+1)
			case s.found[h.Query] == q.MaxHits:
				s.overflow = append(s.overflow, Overflow{id, h.Index + 1})
			}
		}
		report(through, s.hits)
	})
	return through, s.overflow
}

// passScanner is a kernel that can search with a group which is there already.
type passScanner interface {
	// least is how many queries it takes to look for them together.
	least() int
	scanPass(p pass, places int, lo, hi uint64, stop *atomic.Bool, report Report) uint64
}

func (s *Searcher) scan(lo, hi uint64, stop *atomic.Bool, report Report) uint64 {
	k, ok := s.kernel.(passScanner)
	if !ok || s.group.count < k.least() {
		queries := make([]Query, len(s.queries))
		for place, q := range s.queries {
			if queries[place] = q; s.ids[place] == 0 {
				queries[place] = Query{Query: search.Query{Name: "-"}} // has ended
			}
		}
		return s.kernel.Scan(queries, lo, hi, stop, report)
	}
	p := pass{many: s.group, hasher: newHasher()}
	for place, id := range s.ids {
		if id == 0 {
			continue
		}
		q := &s.queries[place]
		if w := s.group.at(place); w != nil {
			w.end, w.left = q.End, q.MaxHits
		} else {
			p.live = append(p.live, newMatcher(place, *q))
		}
	}
	s.group.ends = 0 // those that have ended before are not in this slice
	return k.scanPass(p, len(s.ids), lo, hi, stop, report)
}
