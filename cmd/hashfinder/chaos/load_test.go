//go:build chaos

package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashfinder/hashfinder/jobs"
	"github.com/hashfinder/hashfinder/jobs/jobstest/history"
	"github.com/hashfinder/hashfinder/jobs/search"
	"github.com/hashfinder/hashfinder/worker/kernel"
)

const (
	// ceiling is the largest budget of candidates. The server gives it to the searches of the older service.
	ceiling = 1 << 25
	maxHits = 1_000_000
	// longest is the largest budget of a job that is to end by itself.
	longest = 1 << 21
)

// What becomes of a job that a client submits.
type life int

const (
	toSpend  life = iota // it uses up its candidates or hits
	toFind               // it finds its ideal hit
	toCancel             // it is cancelled
	toExpire             // it uses up its time
	toLeave              // the older service: its client leaves
	toStay               // the older service: its client stays as long as it can
	toPoison             // a chunk of it is poisoned
	toStop               // it is cancelled while it is searched, on a machine that has nothing else to do
)

// load is clients that have jobs done.
type load struct {
	client  *client
	clients int    // that have a job each
	ceiling uint64 // of their budgets
	lives   []life
	slow    bool // streams are read slowly
	// resumed counts streams that were resumed.
	resumed atomic.Int64

	mu    sync.Mutex
	names int
	all   []*lived
}

// lived is a job and its time; until is 0 while it goes on.
type lived struct {
	id          string
	life        life
	from, until int64
	end         *history.Snapshot // nil when the job was not there in the end
}

// run has jobs done one after another by each of the clients until stop is closed, and returns when all have ended, or
// ctx has.
func (l *load) run(ctx context.Context, t *testing.T, stop <-chan struct{}) {
	t.Helper()
	var all sync.WaitGroup
	for n := range l.clients {
		all.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				select {
				case <-stop:
					return
				default:
				}
				life := l.lives[(n+i*l.clients)%len(l.lives)]
				if err := l.live(ctx, life); err != nil {
					t.Errorf("a job of kind %d: %v", life, err)
					return
				}
			}
		})
	}
	all.Wait()
}

// live sees one job through.
func (l *load) live(ctx context.Context, life life) error {
	spec := l.spec(life)
	if life == toLeave || life == toStay {
		leave := time.Duration(0)
		if life == toLeave {
			leave = between(50*time.Millisecond, 1500*time.Millisecond)
		}
		var job *lived
		err := l.client.findRange(ctx, spec, leave, func(id string) { job = l.begin(id, life) })
		if job == nil && err != nil { // that is recorded
			return pause(ctx, retryPause)
		}
		return l.see(ctx, job)
	}
	id, err := l.client.submit(ctx, spec)
	if err != nil {
		return ctx.Err() // others are recorded
	}
	job := l.begin(id, life)
	q, err := search.DecodeQuery([]byte(spec.Query))
	if err != nil {
		return err
	}
	watching, leave := context.WithCancel(ctx)
	defer leave()
	var watchers sync.WaitGroup
	watch := func(patience func() time.Duration, read func()) {
		watchers.Go(func() {
			resumed, _ := l.client.watch(watching, id, q.Ideal, patience, read) // its errors are recorded
			l.resumed.Add(int64(resumed))
		})
	}
	read := func() {}
	if l.slow {
		read = func() { _ = pause(ctx, 2*time.Millisecond) }
	}
	watch(func() time.Duration { return 0 }, read)
	if life != toStop && rand.IntN(2) == 0 {
		watch(func() time.Duration { return between(50*time.Millisecond, time.Second) }, func() {})
	}
	if life == toCancel || life == toStop {
		patience := between(0, 1200*time.Millisecond)
		if life == toStop {
			patience = between(30*time.Millisecond, 120*time.Millisecond)
		}
		_ = pause(ctx, patience)
		if _, err := l.client.cancel(ctx, id); err != nil && again(err) {
			return err
		}
	}
	watchers.Wait()
	return l.see(ctx, job)
}

// see looks at a job until it has ended.
func (l *load) see(ctx context.Context, job *lived) error {
	for {
		seen, err := l.client.get(ctx, job.id)
		if err == nil && seen.State.Terminal() || err != nil && !again(err) {
			l.mu.Lock()
			job.until, job.end = history.Monotonic(), seen
			l.mu.Unlock()
			return nil // that it is not there is recorded
		}
		if err := pause(ctx, retryPause); err != nil {
			if seen != nil {
				return fmt.Errorf("job %s has not ended, it is %s: %w", job.id, seen.State, err)
			}
			return fmt.Errorf("job %s has not ended: %w", job.id, err)
		}
	}
}

func (l *load) begin(id string, life life) *lived {
	l.mu.Lock()
	defer l.mu.Unlock()
	job := &lived{id: id, life: life, from: history.Monotonic()}
	l.all = append(l.all, job)
	return job
}

// busy counts the jobs that are under way.
func (l *load) busy() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, job := range l.all {
		if job.until == 0 {
			n++
		}
	}
	return n
}

// struck counts the jobs whose lives a strike fell into.
func (l *load) struck(strikes []strike) int {
	n := 0
	for _, job := range l.all {
		for _, s := range strikes {
			if job.from < s.to && (job.until == 0 || job.until > s.from) {
				n++
				break
			}
		}
	}
	return n
}

// strike is the time of a fault.
type strike struct{ from, to int64 }

// bases are names of which no two queries have more than a spelling in common.
var bases = []string{
	"gopherit", "hashname", "doctoral", "mongoose", "bluebird", "sandwich", "clockize", "faultily", "journeys", "publican", "workload", "zeppelin",
}

// spec returns what a job is to be. Each has another spelling of a name, so that the kernels' batches tell its job.
func (l *load) spec(life life) *history.Spec {
	l.mu.Lock()
	n := l.names
	l.names++
	l.mu.Unlock()
	base, mask := bases[n%len(bases)], n/len(bases)+1
	var name strings.Builder
	for i, c := range base {
		if mask>>i&1 == 1 {
			c -= 'a' - 'A'
		}
		name.WriteRune(c)
	}
	q := search.Query{Name: name.String(), Interesting: 3}
	spec := &history.Spec{Candidates: l.ceiling, Hits: maxHits}
	switch life {
	case toSpend:
		// As many short ones as long ones: chunks of all lengths.
		spec.Candidates = 1 + rand.Uint64N(1<<(9+rand.IntN(13)))
		q.Interesting += rand.IntN(2)
		if rand.IntN(4) == 0 {
			spec.Candidates, spec.Hits = longest, 1+rand.Uint64N(200)
			q.Interesting = 4
		}
	case toFind:
		q.Ideal = 2
	case toCancel:
		q.Interesting = 4
	case toStop: // few hits, so that nothing else is done
	case toExpire:
		spec.Duration = between(300*time.Millisecond, 1500*time.Millisecond).Truncate(time.Millisecond)
	case toLeave, toStay:
		spec.Attached = true
	case toPoison:
		q.Ideal, spec.Candidates = poisonedIdeal, longest
	}
	spec.Query = string(q.Encode())
	return spec
}

// between returns a random time.
func between(least, most time.Duration) time.Duration {
	return least + rand.N(most-least)
}

// references are the answers: the hits of each query below ceiling. Spellings of a name have the same.
type references struct {
	mu   sync.Mutex
	hits map[search.Query][]jobs.Hit
}

// plain is how far the fast reference is held to the plain scan.
const plain = 1 << 17

// of implements history.Options.Reference. It is computed by the fastest kernel in one pass.
func (r *references) of(text string, end uint64, most int) ([]jobs.Hit, error) {
	q, err := search.DecodeQuery([]byte(text))
	if err != nil {
		return nil, err
	}
	q.Name = strings.ToLower(q.Name)
	r.mu.Lock()
	defer r.mu.Unlock()
	all, ok := r.hits[q]
	if !ok {
		if all, err = reference(q); err != nil {
			return nil, err
		}
		r.hits[q] = all
	}
	n := 0
	for n < len(all) && n < most && all[n].Index < end {
		n++
	}
	return all[:n], nil
}

func reference(q search.Query) ([]jobs.Hit, error) {
	var all []jobs.Hit
	var stop atomic.Bool
	kernel.Best().Scan([]kernel.Query{{Query: q, End: ceiling}}, 0, ceiling, &stop, func(_ uint64, hits []kernel.Hit) {
		for _, hit := range hits {
			all = append(all, jobs.Hit{Index: hit.Index, Distance: hit.Distance, Ideal: hit.Distance <= q.Ideal})
		}
	})
	n, wrong := 0, false
	search.Scan(q, 0, plain, func(hit search.Hit) bool {
		wrong = n >= len(all) || all[n].Index != hit.Index || all[n].Distance != hit.Distance
		n++
		return !wrong
	})
	if wrong || n < len(all) && all[n].Index < plain {
		return nil, fmt.Errorf("the reference of %+v is not that of the plain scan at hit %d", q, n)
	}
	return all, nil
}
