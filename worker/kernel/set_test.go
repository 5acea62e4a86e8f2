package kernel_test

import (
	"flag"
	"fmt"
	"maps"
	"math"
	"math/bits"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hashfinder/hashfinder/jobs/search"
	"github.com/hashfinder/hashfinder/worker/kernel"
)

var sets = flag.Int("sets", 40, "number of random sets that TestSets compares")

// TestSets compares what searchers of sets find, while queries join and leave,
// with what the generic kernel finds for each query alone.
//
//	go test ./worker/kernel -run TestSets -v -timeout 0 -sets 10000
func TestSets(t *testing.T) {
	first := *seed
	if first == 0 {
		first = rand.Uint64()
	}
	n := *sets
	if race {
		n /= 10
	}
	var next, hits, searched atomic.Int64
	var wait sync.WaitGroup
	for range 2 {
		wait.Go(func() {
			for i := next.Add(1) - 1; i < int64(n) && !t.Failed(); i = next.Add(1) - 1 {
				r := rand.New(rand.NewPCG(first, uint64(i)))
				n := 2 + r.IntN(6)
				s := newSetTrial(search.LengthStart(n) - 1000 + r.Uint64N(1<<(8*n-1)))
				if err := s.run(r); err != nil {
					t.Errorf("-seed %d -sets %d: %v", first, i+1, err)
				}
				hits.Add(int64(s.hits))
				searched.Add(int64(s.searched))
			}
		})
	}
	wait.Wait()
	t.Logf("%d sets, %d kernels, %d candidates times queries, %d hits, -seed %d", n, len(kernel.All()), searched.Load(), hits.Load(), first)
	if hits.Load() == 0 {
		t.Error("no hits at all")
	}
}

// setTrial is slices one after the other, between which queries join and leave.
// All kernels search them, each by a searcher of its own.
type setTrial struct {
	set            kernel.QuerySet
	kernels        []kernel.Kernel
	searchers      []*kernel.Searcher
	lo             uint64
	members        map[kernel.ID]kernel.Query
	hits, searched int
}

func newSetTrial(lo uint64) *setTrial {
	s := &setTrial{lo: lo, kernels: kernel.All(), members: make(map[kernel.ID]kernel.Query)}
	for _, k := range s.kernels {
		s.searchers = append(s.searchers, kernel.NewSearcher(k, &s.set))
	}
	return s
}

func (s *setTrial) run(r *rand.Rand) error {
	sizes := []int{1, 5, 20, 90, 200, 700, 2000, 5000}
	size := sizes[r.IntN(len(sizes))]
	kind := r.IntN(5)
	for range 3 {
		span := 2 + r.Uint64N(1<<14)
		if r.IntN(4) == 0 {
			span = 1<<16 + r.Uint64N(1<<16)
		}
		span = max(100, min(span, 200_000/(1+uint64(size)))) // the plain search takes its time
		for range size/2 + r.IntN(size+1) {
			s.join(setQuery(r, kind, s.lo, span))
		}
		if err := s.leave(func() bool { return r.IntN(3) == 0 }); err != nil {
			return err
		}
		if err := s.slice(span); err != nil {
			return err
		}
	}
	return nil
}

func (s *setTrial) join(q kernel.Query) { s.members[s.set.Join(q)] = q }

// leave removes those that which says, asked for each in order.
func (s *setTrial) leave(which func() bool) error {
	for _, id := range slices.Sorted(maps.Keys(s.members)) {
		if which() {
			if !s.set.Leave(id) || s.set.Leave(id) {
				return fmt.Errorf("query %d cannot leave once", id)
			}
			delete(s.members, id)
		}
	}
	if got := s.set.Len(); got != len(s.members) {
		return fmt.Errorf("the set has %d queries, want %d", got, len(s.members))
	}
	return nil
}

// setQuery returns a query for a slice and of a kind of set: any, short names, long
// names, names that are much alike, one that many have.
func setQuery(r *rand.Rand, kind int, lo, span uint64) kernel.Query {
	planted := search.HashedName(search.AppendSecret(nil, lo+r.Uint64N(span)))
	length, distance := 1+r.IntN(search.MaxNameLen), 0
	switch kind {
	case 0:
		distance = r.IntN(4)
	case 1:
		length = 4 + r.IntN(3)
	case 2:
		distance = r.IntN(3)
		length = min(search.MaxNameLen-1, 6*(distance+1)+r.IntN(6))
	}
	at := r.IntN(search.MaxNameLen - length + 1)
	name := slices.Clone(planted[at : at+length])
	switch kind {
	case 3:
		for i := range name {
			name[i] = "aAb"[r.IntN(3)]
		}
	case 4:
		name = []byte("doctor's"[:1+r.IntN(8)])
		distance = r.IntN(2)
	}
	for i := range distance + r.IntN(2) {
		if r.IntN(3) > 0 {
			name[(7*i)%len(name)] = "abcXYZ019+/=-"[r.IntN(13)]
		}
	}
	distance = min(distance, len(name))
	q := kernel.Query{Query: search.Query{Name: string(name), Ideal: -1, Interesting: distance}, End: math.MaxUint64}
	switch r.IntN(6) {
	case 0:
		q.Ideal = r.IntN(distance + 1)
	case 1:
		q.MaxHits = 1 + r.IntN(5)
	case 2:
		q.End = lo + r.Uint64N(2*span)
	}
	return q
}

// setOutcome is what is found for a query alone.
type setOutcome struct {
	hits     []search.Hit
	through  uint64
	overflow bool
}

// slice searches the next slice and compares.
func (s *setTrial) slice(span uint64) error {
	lo, hi := s.lo, s.lo+span
	s.lo = hi
	want, through := s.alone(lo, hi)
	for i, searcher := range s.searchers {
		if err := s.compare(searcher, lo, hi, through, want); err != nil {
			return fmt.Errorf("%s, %d queries in [%d, %d): %w", s.kernels[i].Name(), len(s.members), lo, hi, err)
		}
	}
	for id, w := range want {
		s.hits += len(w.hits)
		s.searched += int(hi - lo)
		if q := s.members[id]; len(w.hits) > 0 && w.hits[len(w.hits)-1].Distance <= q.Ideal {
			q.End = min(q.End, w.through)
			s.members[id] = q
		}
	}
	return nil
}

// alone returns what the generic kernel finds when it looks for so few queries at a
// time that it looks for each alone, and where the last query ends.
func (s *setTrial) alone(lo, hi uint64) (map[kernel.ID]setOutcome, uint64) {
	want, last := make(map[kernel.ID]setOutcome), lo
	for some := range slices.Chunk(slices.Sorted(maps.Keys(s.members)), 5) {
		queries := make([]kernel.Query, len(some))
		for i, id := range some {
			queries[i] = s.members[id]
			if queries[i].MaxHits == 0 {
				queries[i].MaxHits = kernel.SliceHits
			}
		}
		found := make([][]search.Hit, len(some))
		for _, h := range twin(queries, lo, hi).hits {
			found[h.Query] = append(found[h.Query], h.Hit)
		}
		for i, q := range queries {
			o := setOutcome{hits: found[i], through: max(lo, min(hi, q.End))}
			if n := len(o.hits); n > 0 && (o.hits[n-1].Distance <= q.Ideal || n == q.MaxHits) {
				o.through = o.hits[n-1].Index + 1
				o.overflow = o.hits[n-1].Distance > q.Ideal
			}
			want[some[i]] = o
			last = max(last, o.through)
		}
	}
	return want, last
}

// compare returns an error unless a searcher finds that.
func (s *setTrial) compare(searcher *kernel.Searcher, lo, hi, last uint64, want map[kernel.ID]setOutcome) error {
	got := make(map[kernel.ID][]search.Hit)
	reported, outside := lo, false
	through, overflow := searcher.Scan(lo, hi, new(atomic.Bool), func(through uint64, hits []kernel.SetHit) {
		for _, h := range hits {
			outside = outside || h.Index < reported || h.Index >= through
			got[h.ID] = append(got[h.ID], h.Hit)
		}
		reported = through
	})
	if outside || through != last {
		return fmt.Errorf("through %d, want %d; hits outside of their report: %t", through, last, outside)
	}
	over := make(map[kernel.ID]uint64)
	for _, o := range overflow {
		over[o.ID] = o.Through
	}
	for id, w := range want {
		if !slices.Equal(got[id], w.hits) {
			return fmt.Errorf("%+v: got %v, want %v", s.members[id], got[id], w.hits)
		}
		if end, ok := over[id]; ok != w.overflow || ok && end != w.through {
			return fmt.Errorf("%+v: overflow %t through %d, want %t through %d", s.members[id], ok, end, w.overflow, w.through)
		}
		delete(got, id)
	}
	if len(got) > 0 {
		return fmt.Errorf("hits of queries that are no members: %v", got)
	}
	return nil
}

// FuzzSet has queries of the fuzzer's names, one a line, search two slices; before
// the second, those leave whose bit is set.
func FuzzSet(f *testing.F) {
	f.Add("doctor\ngopher\ndoctor\ngo", uint8(1), uint64(10_874_000), uint16(900), uint64(1))
	f.Add("aaaa\naaaaa\naaaaaa\naaaa\nbaaaa\naaaab", uint8(0), search.LengthStart(4)-99, uint16(math.MaxUint16), uint64(0b1010))
	f.Add("a+/a\n+///\nzzzz=\nqvQ=\nnot base64!", uint8(2), search.LengthStart(5)+1<<24-5, uint16(1<<15), uint64(0))
	f.Add(strings.Repeat("hash\nfinder\nhashfinder\n", 40), uint8(1), search.LengthStart(6)+1<<40-1, uint16(1<<14), uint64(0xaaaaaaaaaaaaaaaa))
	f.Fuzz(func(t *testing.T, names string, distance uint8, lo uint64, span uint16, leave uint64) {
		const longest, most = 1 << 17, 300
		if lo >= math.MaxUint64-2*longest || len(names) > most*search.MaxNameLen {
			return
		}
		s := newSetTrial(lo)
		for name := range strings.SplitSeq(names, "\n") {
			q := search.Query{Name: name, Ideal: -1, Interesting: min(int(distance), len(name))}
			if (&search.Query{Name: name, Interesting: q.Interesting}).Validate() == nil && len(s.members) < most {
				s.join(kernel.Query{Query: q, End: math.MaxUint64, MaxHits: 1000})
			}
		}
		for range 2 {
			if err := s.slice(1 + min(uint64(span), longest/uint64(1+len(s.members)))); err != nil {
				t.Fatal(err)
			}
			err := s.leave(func() bool {
				leave = bits.RotateLeft64(leave, 1)
				return leave&1 != 0
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestSetChangesWhileInUse has queries come and go in the middle of slices. Each
// slice is as if they did not.
func TestSetChangesWhileInUse(t *testing.T) {
	for _, k := range kernel.All() {
		t.Run(k.Name(), func(t *testing.T) {
			var set kernel.QuerySet
			lo := search.LengthStart(3)
			hi := lo + 40_000
			stays := kernel.Query{Query: search.Query{Name: "goph", Ideal: -1, Interesting: 1}, End: math.MaxUint64}
			id := set.Join(stays)
			for i := range 200 {
				set.Join(kernel.Query{Query: search.Query{Name: fmt.Sprintf("name%d", i), Ideal: -1}, End: math.MaxUint64})
			}
			want := twin([]kernel.Query{stays}, lo, hi)
			stop := make(chan struct{})
			var changing sync.WaitGroup
			changing.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					other := set.Join(kernel.Query{Query: search.Query{Name: fmt.Sprintf("x%dgoph", i), Ideal: -1}, End: math.MaxUint64})
					if !set.Leave(other) {
						t.Error("a query that has joined cannot leave")
						return
					}
				}
			})
			var searching sync.WaitGroup
			for range 2 {
				searching.Go(func() {
					searcher := kernel.NewSearcher(k, &set)
					for range 3 {
						var got []kernel.Hit
						searcher.Scan(lo, hi, new(atomic.Bool), func(_ uint64, hits []kernel.SetHit) {
							for _, h := range hits {
								if h.ID == id {
									got = append(got, kernel.Hit{Hit: h.Hit})
								}
							}
						})
						if err := firstDifference(got, want.hits); err != nil {
							t.Error(err)
						}
					}
				})
			}
			searching.Wait()
			close(stop)
			changing.Wait()
		})
	}
}

// TestSetRetires holds that an ideal hit ends a query for the slices behind it, and
// not for those before.
func TestSetRetires(t *testing.T) {
	q := search.Query{Name: "doctor", Ideal: 0, Interesting: 2}
	const ideal = 10874375
	for _, k := range kernel.All() {
		t.Run(k.Name(), func(t *testing.T) {
			var set kernel.QuerySet
			set.Join(kernel.Query{Query: q, End: math.MaxUint64})
			searcher := kernel.NewSearcher(k, &set)
			scan := func(lo, hi uint64) (n int, through uint64) {
				through, _ = searcher.Scan(lo, hi, new(atomic.Bool), func(_ uint64, hits []kernel.SetHit) { n += len(hits) })
				return n, through
			}
			if n, through := scan(ideal-1000, ideal+100_000); n == 0 || through != ideal+1 {
				t.Errorf("slice with the ideal hit: %d hits through %d", n, through)
			}
			if n, through := scan(ideal+1, ideal+200_000); n != 0 || through != ideal+1 {
				t.Errorf("slice behind it: %d hits through %d, want none", n, through)
			}
			lo := uint64(ideal - 200_000)
			want := len(twin([]kernel.Query{{Query: q, End: math.MaxUint64}}, lo, lo+100_000).hits)
			if n, through := scan(lo, lo+100_000); n != want || through != lo+100_000 {
				t.Errorf("slice before it: %d hits through %d, want %d", n, through, want)
			}
		})
	}
}

// TestSetLaggingSearcher holds that a searcher which has missed more changes than
// the set remembers is right all the same.
func TestSetLaggingSearcher(t *testing.T) {
	var set kernel.QuerySet
	lagging := kernel.NewSearcher(kernel.Best(), &set)
	name := search.HashedName(search.AppendSecret(nil, 70_000))
	q := kernel.Query{Query: search.Query{Name: string(name[3:9]), Ideal: -1}, End: math.MaxUint64}
	scan := func() (n int) {
		lagging.Scan(69_000, 71_000, new(atomic.Bool), func(_ uint64, hits []kernel.SetHit) { n += len(hits) })
		return n
	}
	early := set.Join(q)
	if got := scan(); got != 1 {
		t.Errorf("%d hits, want 1", got)
	}
	for range 5000 {
		set.Leave(set.Join(q))
	}
	set.Leave(early)
	if got := scan(); got != 0 {
		t.Errorf("%d hits after it has left, want none", got)
	}
	for range 3 {
		set.Join(q)
	}
	if got := scan(); got != 3 {
		t.Errorf("%d hits for three queries, want 3", got)
	}
}

// BenchmarkSetChange measures a join and a leave in a set of 1,000 queries,
// together with what they cost the searcher: half a slice's beginning, as there are
// 64 of each for a slice.
func BenchmarkSetChange(b *testing.B) {
	random := rand.New(rand.NewPCG(1, 1))
	query := func() kernel.Query {
		name := make([]byte, 4+random.IntN(7))
		for i := range name {
			name[i] = byte('a' + random.IntN(26))
		}
		return kernel.Query{Query: search.Query{Name: string(name), Ideal: -1}, End: math.MaxUint64}
	}
	var set kernel.QuerySet
	var ids []kernel.ID
	for range 1000 {
		ids = append(ids, set.Join(query()))
	}
	queries := make([]kernel.Query, 1<<12)
	for i := range queries {
		queries[i] = query()
	}
	searcher := kernel.NewSearcher(kernel.Best(), &set)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		i := n % len(ids)
		set.Leave(ids[i])
		ids[i] = set.Join(queries[n%len(queries)])
		if n++; n%64 == 0 {
			searcher.Scan(0, 0, new(atomic.Bool), func(uint64, []kernel.SetHit) {})
		}
	}
}
