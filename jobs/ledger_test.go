package jobs_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"github.com/hashfinder/hashfinder/jobs"
	"github.com/hashfinder/hashfinder/jobs/jobstest"
)

// model is one job on a real store, run by workers that do everything that a worker can do, in any order and more
// than once: it knows the hits of the whole space, so it knows the answer.
type model struct {
	store   *jobs.Store
	space   []jobs.Hit // every hit of the index space, in order
	budget  jobs.Budget
	id      string
	tickets []jobs.Ticket
	held    []*hold
	attempt int
	paused  bool // or to be
	ended   *jobs.Job
	before  []jobs.Job // those that the job extends, the latest last
}

// hold is an attempt that its worker still believes in.
type hold struct {
	chunk   *jobs.Chunk
	rest    []jobs.Hit // not handed over yet
	expired bool
}

// answer is what a sequential scan gives: the hits and how it ends.
func (m *model) answer() (hits []jobs.Hit, state jobs.State, reason jobs.Reason, searched uint64) {
	for _, hit := range m.space {
		if hit.Index >= m.budget.Candidates {
			break
		}
		hits = append(hits, hit)
		if hit.Ideal {
			return hits, jobs.Succeeded, jobs.Found, hit.Index + 1
		}
		if uint64(len(hits)) == m.budget.Hits {
			return hits, jobs.Exhausted, jobs.HitsExhausted, hit.Index + 1
		}
	}
	return hits, jobs.Exhausted, jobs.CandidatesExhausted, m.budget.Candidates
}

func newModel(t *rapid.T, client redis.UniversalClient) *model {
	m := &model{
		store: jobs.NewStore(client), id: uuid.Must(uuid.NewV7()).String(),
		budget: jobs.Budget{
			Candidates: rapid.Uint64Range(1, 1<<20).Draw(t, "candidates"),
			Hits:       rapid.Uint64Range(1, 40).Draw(t, "max hits"),
		},
	}
	gap := rapid.Uint64Range(1, 1<<16)
	ideal := rapid.IntRange(0, 50).Draw(t, "ideal")
	for index, n := gap.Draw(t, "gap")-1, 0; index < 1<<20; index, n = index+gap.Draw(t, "gap"), n+1 {
		m.space = append(m.space, jobs.Hit{Index: index, Distance: rapid.IntRange(1, 9).Draw(t, "distance"), Ideal: n == ideal})
	}
	spec := jobs.Spec{Profile: "test", Query: []byte(`{"a":"b:c"}`), Grid: []uint64{65793, 300_001}, Budget: m.budget}
	_, tickets, err := m.store.Submit(t.Context(), jobs.Submission{
		ID: m.id, Tenant: "t", Spec: spec, MaxActive: math.MaxInt32, Retention: time.Hour, Window: rapid.IntRange(2, 5).Draw(t, "window"),
	})
	if err != nil {
		t.Fatal(err)
	}
	m.tickets = tickets
	return m
}

// claim uses one of the tickets, which may have been used before.
func (m *model) claim(t *rapid.T) {
	if len(m.tickets) == 0 {
		t.Skip("no ticket")
	}
	ticket := rapid.SampledFrom(m.tickets).Draw(t, "ticket")
	m.attempt++
	attempt := fmt.Sprint(m.id, "/", m.attempt)
	want := uint64(1) << rapid.IntRange(10, 19).Draw(t, "want")
	chunk, err := m.store.Claim(t.Context(), ticket, attempt, "w", want)
	if errors.Is(err, jobs.ErrIdle) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if again, err := m.store.Claim(t.Context(), ticket, attempt, "w", want); err != nil || again.Lo != chunk.Lo || again.Hi != chunk.Hi {
		t.Fatalf("the same claim again: got %+v, %v, want %+v", again, err, chunk)
	}
	if m.paused {
		t.Fatalf("claimed [%d, %d) of a paused job", chunk.Lo, chunk.Hi)
	}
	if len(m.before) > 0 && chunk.Lo < m.before[len(m.before)-1].Progress.Searched {
		t.Fatalf("claimed [%d, %d) of an extension, although it was searched", chunk.Lo, chunk.Hi)
	}
	if chunk.Lo >= m.budget.Candidates {
		t.Fatalf("claimed [%d, %d) beyond the budget %d", chunk.Lo, chunk.Hi, m.budget.Candidates)
	}
	m.held = append(m.held, &hold{chunk: chunk, rest: m.search(chunk)})
}

// search is what a kernel does.
func (m *model) search(c *jobs.Chunk) []jobs.Hit {
	var hits []jobs.Hit
	for _, hit := range m.space {
		if hit.Index < c.Lo || hit.Index >= min(c.Hi, c.Members[0].Limit) {
			continue
		}
		hits = append(hits, hit)
		if hit.Ideal || uint64(len(hits)) == c.Members[0].MaxHits {
			break
		}
	}
	return hits
}

func (m *model) draw(t *rapid.T) *hold {
	if len(m.held) == 0 {
		t.Skip("nothing is held")
	}
	return rapid.SampledFrom(m.held).Draw(t, "held")
}

func (m *model) drop(h *hold) {
	m.held = slices.DeleteFunc(m.held, func(o *hold) bool { return o == h })
}

// flush hands over some of the hits.
func (m *model) flush(t *rapid.T) {
	h := m.draw(t)
	count := rapid.IntRange(0, len(h.rest)).Draw(t, "count")
	upto := h.chunk.Hi
	if count < len(h.rest) {
		upto = h.rest[count].Index
	}
	for range rapid.IntRange(1, 2).Draw(t, "times") {
		err := m.store.Flush(t.Context(), h.chunk, upto, [][]jobs.Hit{h.rest[:count]})
		if errors.Is(err, jobs.ErrStop) {
			m.giveBack(t, h)
			return
		}
		if errors.Is(err, jobs.ErrLost) {
			m.drop(h)
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.expired { // the lease is held again: nobody had taken it over
			h.expired = false
		}
	}
	h.rest = h.rest[count:]
}

func (m *model) renew(t *rapid.T) {
	h := m.draw(t)
	switch err := m.store.Renew(t.Context(), h.chunk); {
	case errors.Is(err, jobs.ErrStop):
		m.giveBack(t, h)
	case errors.Is(err, jobs.ErrLost):
		m.drop(h)
	case err != nil:
		t.Fatal(err)
	default:
		h.expired = false
	}
}

func (m *model) commit(t *rapid.T) {
	h := m.draw(t)
	for range rapid.IntRange(1, 2).Draw(t, "times") {
		tickets, more, err := m.store.Commit(t.Context(), h.chunk, [][]jobs.Hit{h.rest})
		if err != nil && !errors.Is(err, jobs.ErrLost) {
			t.Fatal(err)
		}
		if more {
			t.Fatal("more to drain, with so few hits")
		}
		m.tickets = append(m.tickets, tickets...)
	}
	m.drop(h)
}

func (m *model) giveBack(t *rapid.T, h *hold) {
	tickets, err := m.store.Release(t.Context(), h.chunk, false)
	if err != nil {
		t.Fatal(err)
	}
	m.tickets = append(m.tickets, tickets...)
	m.drop(h)
}

func (m *model) pause(t *rapid.T) {
	for range rapid.IntRange(1, 2).Draw(t, "times") {
		err := m.store.Pause(t.Context(), "t", m.id)
		if (err == nil) != (m.ended == nil) || err != nil && !errors.Is(err, jobs.ErrEnded) {
			t.Fatalf("pause: got %v; has the job ended: %v", err, m.ended != nil)
		}
	}
	m.paused = true
}

func (m *model) resume(t *rapid.T) {
	for range rapid.IntRange(1, 2).Draw(t, "times") {
		numbers, err := m.store.Resume(t.Context(), "t", m.id)
		if (err == nil) != (m.ended == nil) || err != nil && !errors.Is(err, jobs.ErrEnded) {
			t.Fatalf("resume: got %v; has the job ended: %v", err, m.ended != nil)
		}
		for _, n := range numbers {
			m.tickets = append(m.tickets, jobs.Ticket{Sweep: m.id, Number: n, Queue: jobs.QueueBatch, Jobs: []string{m.id}, Query: "q"})
		}
	}
	m.paused = false
}

// expire lets a lease run out. Its worker goes on, and may even commit later.
func (m *model) expire(t *rapid.T) {
	h := m.draw(t)
	err := m.store.Client().ZAddXX(t.Context(), jobs.KeySweep(m.id)+":leases", redis.Z{Score: 1, Member: h.chunk.Attempt}).Err()
	if err != nil {
		t.Fatal(err)
	}
	// Two deaths of one chunk are bad luck; the third would be poison.
	if err := m.store.Client().Del(t.Context(), jobs.KeySweep(m.id)+":deaths").Err(); err != nil {
		t.Fatal(err)
	}
	h.expired = true
}

func (m *model) reconcile(t *rapid.T) {
	tickets, err := m.store.ReconcileJob(t.Context(), m.id, 3)
	if err != nil {
		t.Fatal(err)
	}
	m.tickets = append(m.tickets, tickets...)
}

// check holds what must be true at any time.
func (m *model) check(t *rapid.T) {
	job, err := m.store.Get(t.Context(), "t", m.id)
	if err != nil {
		t.Fatal(err)
	}
	if m.ended != nil && (job.State != m.ended.State || job.Reason != m.ended.Reason || job.LastSequence != m.ended.LastSequence) {
		t.Fatalf("the job changed after its end: got %+v, was %+v", job, m.ended)
	}
	if job.State.Terminal() {
		m.ended = &job
	} else if toPause := job.State == jobs.Pausing || job.State == jobs.Paused; toPause != m.paused {
		t.Fatalf("the job is %s; was it paused: %v", job.State, m.paused)
	}
	if job.State == jobs.Paused {
		for _, h := range m.held {
			if err := m.store.Renew(t.Context(), h.chunk); !errors.Is(err, jobs.ErrStop) {
				t.Fatalf("renewal while the job is paused: got %v, want ErrStop", err)
			}
		}
	}
	events, err := m.store.Log(t.Context(), m.id, 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	want, _, _, searched := m.answer()
	if job.Progress.Searched > searched {
		t.Fatalf("searched %d, want at most %d", job.Progress.Searched, searched)
	}
	earlier := 0 // ends of jobs that this one extends
	for i, event := range events {
		if event.Sequence != uint64(i+1) {
			t.Fatalf("event %d has the sequence number %d", i+1, event.Sequence)
		}
		hit := i - earlier
		switch {
		case earlier < len(m.before) && event.Sequence == m.before[earlier].LastSequence:
			if event.End == nil || event.End.Reason != m.before[earlier].Reason {
				t.Fatalf("got %+v, want the end of the job before", event)
			}
			earlier++
		case event.End != nil:
			if i != len(events)-1 || !job.State.Terminal() {
				t.Fatalf("an end that is none: %+v of %d, job %s", event, len(events), job.State)
			}
		case hit >= len(want) || *event.Hit != want[hit]:
			t.Fatalf("hit %d: got %+v, want one of %+v", i, *event.Hit, want)
		case event.Hit.Index >= job.Progress.Searched:
			t.Fatalf("hit %+v left above the watermark %d", *event.Hit, job.Progress.Searched)
		}
	}
}

// complete runs the job to its end by workers that do as they should, and compares the answer.
func (m *model) complete(t *rapid.T) {
	for _, h := range slices.Clone(m.held) { // they died
		if err := m.store.Client().ZAddXX(t.Context(), jobs.KeySweep(m.id)+":leases", redis.Z{Score: 1, Member: h.chunk.Attempt}).Err(); err != nil {
			t.Fatal(err)
		}
	}
	m.held = nil
	if m.ended == nil {
		m.resume(t)
	}
	for n := 0; m.ended == nil; n++ {
		if n > 1000 {
			t.Fatal("the job does not end")
		}
		m.reconcile(t)
		calls := m.tickets
		m.tickets = nil
		for _, ticket := range calls {
			m.attempt++
			chunk, err := m.store.Claim(t.Context(), ticket, fmt.Sprint(m.id, "/", m.attempt), "w", 1<<18)
			if errors.Is(err, jobs.ErrIdle) {
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			next, _, err := m.store.Commit(t.Context(), chunk, [][]jobs.Hit{m.search(chunk)})
			if err != nil {
				t.Fatal(err)
			}
			m.tickets = append(m.tickets, next...)
		}
		m.check(t)
	}
	hits, state, reason, searched := m.answer()
	if m.ended.State != state || m.ended.Reason != reason || m.ended.Progress.Searched != searched || m.ended.Hits != uint64(len(hits)) {
		t.Fatalf("got %s, %s, %d searched, %d hits, want %s, %s, %d, %d", m.ended.State, m.ended.Reason,
			m.ended.Progress.Searched, m.ended.Hits, state, reason, searched, len(hits))
	}
	keys, err := m.store.Client().Keys(t.Context(), jobs.KeySweep(m.id)+"*").Result()
	if err != nil || len(keys) > 0 {
		t.Fatalf("the sweep left %v behind (%v)", keys, err)
	}
}

// extend goes on from the end of the job with a larger budget.
func (m *model) extend(t *rapid.T) {
	old := *m.ended
	budget := jobs.Budget{
		Candidates: m.budget.Candidates + rapid.Uint64Range(0, 1<<18).Draw(t, "more candidates"),
		Hits:       m.budget.Hits + rapid.Uint64Range(0, 20).Draw(t, "more hits"),
	}
	if old.Reason == jobs.CandidatesExhausted {
		budget.Candidates++
	} else {
		budget.Hits++
	}
	id := uuid.Must(uuid.NewV7()).String()
	spec := old.Spec
	spec.Budget = budget
	_, tickets, err := m.store.Submit(t.Context(), jobs.Submission{
		ID: id, Tenant: "t", Spec: spec, MaxActive: math.MaxInt32, Retention: time.Hour, Window: 3, Extends: old.ID,
	})
	if err != nil {
		t.Fatal(err)
	}
	m.before = append(m.before, old)
	m.id, m.budget, m.tickets, m.held, m.paused, m.ended = id, budget, tickets, nil, false, nil
}

// history does anything in any order, and comes to the right end, and to that of its extensions.
func (m *model) history(t *rapid.T) {
	actions := map[string]func(*rapid.T){
		"":          m.check,
		"claim":     m.claim,
		"claim2":    m.claim,
		"flush":     m.flush,
		"renew":     m.renew,
		"commit":    m.commit,
		"expire":    m.expire,
		"reconcile": m.reconcile,
		"pause":     m.pause,
		"resume":    m.resume,
		"resume2":   m.resume,
		"release":   func(t *rapid.T) { m.giveBack(t, m.draw(t)) },
	}
	t.Repeat(actions)
	m.complete(t)
	for range rapid.SampledFrom([]int{0, 0, 1, 2}).Draw(t, "extensions") {
		if m.ended.State != jobs.Exhausted {
			break
		}
		m.extend(t)
		m.check(t)
		t.Repeat(actions)
		m.complete(t)
	}
	for i, old := range m.before { // what has ended stays so
		old.ExtendedBy = m.id
		if i+1 < len(m.before) {
			old.ExtendedBy = m.before[i+1].ID
		}
		got, err := m.store.Get(t.Context(), "t", old.ID)
		if diff := cmp.Diff(old, got); err != nil || diff != "" {
			t.Fatalf("an extended job: %v (-as it ended +later)\n%s", err, diff)
		}
	}
}

func TestLedgerAnswersLikeASequentialScan(t *testing.T) {
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		client := open()
		rapid.Check(t, func(t *rapid.T) { newModel(t, client).history(t) })
	})
}

// TestCancelEndsOnceNothingRuns orders a stop at any point of such a history.
func TestCancelEndsOnceNothingRuns(t *testing.T) {
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		client := open()
		rapid.Check(t, func(t *rapid.T) {
			m := newModel(t, client)
			for range rapid.IntRange(0, 10).Draw(t, "steps") {
				if len(m.tickets) > 0 {
					m.claim(t)
				}
				if len(m.held) > 0 && rapid.Bool().Draw(t, "commit") {
					m.commit(t)
				}
				m.check(t)
				if m.ended == nil && rapid.IntRange(0, 3).Draw(t, "pause") == 0 {
					m.pause(t)
					m.check(t)
				}
				if m.ended == nil && m.paused && rapid.Bool().Draw(t, "resume") {
					m.resume(t)
				}
			}
			err := m.store.Cancel(t.Context(), "t", m.id, jobs.CancelledByClient)
			m.paused = false
			if m.ended != nil {
				if !errors.Is(err, jobs.ErrEnded) {
					t.Fatalf("cancel of an ended job: got %v, want ErrEnded", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for len(m.held) > 0 {
				m.check(t)
				if m.ended != nil {
					t.Fatalf("%s although %d attempts run", m.ended.State, len(m.held))
				}
				h := m.draw(t)
				if rapid.Bool().Draw(t, "release") {
					if err := m.store.Renew(t.Context(), h.chunk); !errors.Is(err, jobs.ErrStop) {
						t.Fatalf("renew after cancel: got %v, want ErrStop", err)
					}
					m.giveBack(t, h)
				} else {
					m.commit(t)
				}
			}
			m.check(t)
			if m.ended == nil || m.ended.State != jobs.Cancelled || m.ended.Reason != jobs.CancelledByClient {
				t.Fatalf("got %+v, want CANCELLED", m.ended)
			}
			if err := m.store.Cancel(t.Context(), "t", m.id, jobs.DeadlineExceeded); err != nil {
				t.Fatalf("cancel again: %v", err)
			}
			m.check(t)
		})
	})
}

// Numbers pass through Lua, JSON and scores, each of which has a way of its own to write large ones.
func TestLargeBudgetsStayExact(t *testing.T) {
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		store := jobs.NewStore(open())
		for _, candidates := range []uint64{1, 100_000, 1_000_000, 100_000_000, 1e15, 1<<53 - 1, 1 << 53} {
			id := uuid.Must(uuid.NewV7()).String()
			_, tickets, err := store.Submit(t.Context(), jobs.Submission{
				ID: id, Tenant: "t", MaxActive: 100, Retention: time.Hour, Window: 1,
				Spec: jobs.Spec{Profile: "test", Query: []byte("q"), Grid: []uint64{1 << 16}, Budget: jobs.Budget{Candidates: candidates, Hits: 1}},
			})
			if err != nil {
				t.Fatal(err)
			}
			chunk, err := store.Claim(t.Context(), tickets[0], id, "w", 1<<16)
			if err != nil {
				t.Fatal(err)
			}
			if got := chunk.Members[0].Limit; got != candidates {
				t.Errorf("limit: got %d, want %d", got, candidates)
			}
			hit := jobs.Hit{Index: candidates - 1, Distance: 3}
			if err := store.Flush(t.Context(), chunk, candidates, [][]jobs.Hit{{hit}}); !errors.Is(err, jobs.ErrStop) {
				t.Fatalf("flush up to the limit: got %v, want ErrStop", err)
			}
			job, err := store.Get(t.Context(), "t", id)
			if err != nil {
				t.Fatal(err)
			}
			if job.State != jobs.Exhausted || job.Progress.Searched != candidates || job.Best == nil || *job.Best != hit {
				t.Errorf("budget %d: got %+v", candidates, job)
			}
		}
	})
}

// Slots that are as fast as each other have little to wait for at the end of a search.
func TestSlotsEndTogether(t *testing.T) {
	const want, slots = 1 << 24, 3
	type busy struct {
		chunk *jobs.Chunk
		until uint64 // a candidate takes a unit of time
	}
	for _, candidates := range []uint64{20*want + 12_345_678, 10*want + 1, 3 * want} {
		jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
			store := jobs.NewStore(open())
			id := uuid.Must(uuid.NewV7()).String()
			_, tickets, err := store.Submit(t.Context(), jobs.Submission{
				ID: id, Tenant: "t", MaxActive: 100, Retention: time.Hour, Window: slots,
				Spec: jobs.Spec{Profile: "test", Query: []byte("q"), Grid: []uint64{1 << 16}, Budget: jobs.Budget{Candidates: candidates, Hits: 1}},
			})
			if err != nil {
				t.Fatal(err)
			}
			var now uint64
			var running []busy
			for claims := 0; ; {
				for ; len(tickets) > 0 && len(running) < slots; tickets = tickets[1:] {
					claims++
					chunk, err := store.Claim(t.Context(), tickets[0], fmt.Sprint(id, "/", claims), "w", want)
					if err == nil {
						running = append(running, busy{chunk, now + min(chunk.Hi, candidates) - chunk.Lo})
					} else if !errors.Is(err, jobs.ErrIdle) {
						t.Fatal(err)
					}
				}
				if len(running) == 0 {
					break
				}
				first := 0
				for i := range running {
					if running[i].until < running[first].until {
						first = i
					}
				}
				now = running[first].until
				next, _, err := store.Commit(t.Context(), running[first].chunk, [][]jobs.Hit{nil})
				if err != nil {
					t.Fatal(err)
				}
				running = slices.Delete(running, first, first+1)
				tickets = append(tickets, next...)
			}
			if job, err := store.Get(t.Context(), "t", id); err != nil || job.State != jobs.Exhausted {
				t.Fatalf("got %+v, %v, want EXHAUSTED", job, err)
			}
			if late := now - candidates/slots; late > want/8 {
				t.Errorf("%d slots took %.2f of a chunk longer for %d candidates than they must", slots, float64(late)/want, candidates)
			}
		})
	}
}
