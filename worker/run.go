package worker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashfinder/hashfinder/jobs"
	"github.com/hashfinder/hashfinder/jobs/search"
	"github.com/hashfinder/hashfinder/worker/kernel"
)

const (
	// stopPeriod is how often cancel keys are polled, and hits handed over.
	stopPeriod = 100 * time.Millisecond
	// renewPeriod leaves a lease of three seconds room for two renewals that fail.
	renewPeriod = time.Second
	// fenceTime is how long a worker computes without having renewed its lease. It ends before the lease does, so
	// that nobody else computes for the job by then, whatever the clocks say.
	fenceTime = 2 * time.Second
	// shortestSample is the least time whose rate tells something: a search that ends at once says only what it costs to
	// begin.
	shortestSample = 5 * time.Millisecond
)

// errFenced says that the worker could not renew a lease in time.
var errFenced = errors.New("the lease could not be renewed")

// run is one chunk being searched.
type run struct {
	chunk   *jobs.Chunk
	queries []kernel.Query // one for each member
	stop    atomic.Bool    // tells the kernel
	halted  chan struct{}  // is closed when why is set
	wake    chan struct{}

	mu       sync.Mutex
	why      error
	restarts int
	hits     []kernel.Hit // not yet handed over, by index; at most MaxHits for each query
	through  uint64       // everything below is searched
}

// newRun fails when a member asks for what this worker cannot search.
func newRun(chunk *jobs.Chunk) (*run, error) {
	r := &run{chunk: chunk, halted: make(chan struct{}), wake: make(chan struct{}, 1), through: chunk.Lo}
	for i := range chunk.Members {
		m := &chunk.Members[i]
		if m.Profile != search.Profile {
			return nil, fmt.Errorf("job %s: unknown profile %q", m.Job, m.Profile)
		}
		query, err := search.DecodeQuery(m.Query)
		if err != nil {
			return nil, fmt.Errorf("job %s: %w", m.Job, err)
		}
		r.queries = append(r.queries, kernel.Query{Query: query, End: min(m.Limit, chunk.Hi), MaxHits: int(m.MaxHits)})
	}
	return r, nil
}

// halt stops the kernel. The first cause stays.
func (r *run) halt(cause error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.why == nil {
		r.why = cause
		close(r.halted)
	}
	r.stop.Store(true)
}

func (r *run) cause() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.why
}

func (r *run) serves(job string) bool {
	for i := range r.chunk.Members {
		if r.chunk.Members[i].Job == job {
			return true
		}
	}
	return false
}

func (r *run) poke() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// report takes what the kernel has found.
func (r *run) report(through uint64, hits []kernel.Hit) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hits = append(r.hits, hits...)
	r.through = through
}

// restart forgets what a kernel has found that is not trusted any more, and lets another search, unless the run was
// halted.
func (r *run) restart() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.restarts++
	r.hits, r.through = nil, r.chunk.Lo
	r.stop.Store(r.why != nil)
}

func (r *run) pending() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.hits)
}

// batch returns the next hits to hand over, for each member, how many they are, and the index below which nothing else
// is to come. The caller holds the lock, or is alone.
func (r *run) batch() (hits [][]jobs.Hit, count int, upto uint64) {
	count, upto = len(r.hits), r.through
	if count > jobs.MaxBatch {
		count = jobs.MaxBatch
		upto = r.hits[count].Index
	}
	hits = make([][]jobs.Hit, len(r.chunk.Members))
	for _, hit := range r.hits[:count] {
		ideal := hit.Distance <= r.queries[hit.Query].Ideal
		hits[hit.Query] = append(hits[hit.Query], jobs.Hit{Index: hit.Index, Distance: hit.Distance, Ideal: ideal})
	}
	return hits, count, upto
}

// flush hands over one batch, and keeps it when that fails. The commit drains what it leaves to be logged.
func (r *run) flush(ctx context.Context, store *jobs.Store) error {
	r.mu.Lock()
	hits, count, upto := r.batch()
	restarts := r.restarts
	r.mu.Unlock()
	if err := store.Flush(ctx, r.chunk, upto, hits); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.restarts == restarts {
		r.hits = r.hits[count:]
	}
	return nil
}

// tend keeps the lease and hands hits over until ctx ends or the run is halted.
func (r *run) tend(ctx context.Context, store *jobs.Store, renewed time.Time) {
	ticker := time.NewTicker(stopPeriod)
	defer ticker.Stop()
	// Whatever a call is doing by then.
	fence := time.AfterFunc(time.Until(renewed.Add(fenceTime)), func() { r.halt(errFenced) })
	defer fence.Stop()
	for {
		poked := false
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
			poked = true
		case <-ticker.C:
		}
		begin := time.Now()
		call, cancel := context.WithDeadline(ctx, renewed.Add(fenceTime))
		var err error
		switch {
		case poked || begin.Sub(renewed) >= renewPeriod:
			err = store.Renew(call, r.chunk)
		case r.pending() > 0:
			err = r.flush(call, store)
		default:
			cancel()
			continue
		}
		cancel()
		switch {
		case err == nil:
			renewed = begin
			fence.Reset(time.Until(renewed.Add(fenceTime)))
		case ctx.Err() != nil:
			return
		case errors.Is(err, jobs.ErrStop), errors.Is(err, jobs.ErrLost):
			r.halt(err)
			return
		case time.Since(renewed) >= fenceTime: // the fence may be about to fall, and falls no more after the return
			r.halt(fmt.Errorf("%w: %w", errFenced, err))
			return
		}
	}
}

// search runs the kernel over the chunk. When it returns, nothing computes for the chunk.
func (w *Worker) search(r *run) {
	k := w.currentKernel()
	network := newPoller(w.log)
	defer network.close()
	for {
		begin := time.Now()
		err := r.scan(k, func() { network.poll(w.room.count) })
		if err == nil {
			if took := time.Since(begin); r.cause() == nil && took >= shortestSample {
				w.rate.add(r.through-r.chunk.Lo, took)
			}
			return
		}
		next, ok := w.retire(k, err)
		if !ok {
			r.halt(err)
			return
		}
		k = next
		r.restart()
	}
}

// scan returns an error if the kernel panics, or finds what the plain reference does not. between is called after
// each report of the kernel.
func (r *run) scan(k kernel.Kernel, between func()) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("kernel %s panicked: %v", k.Name(), p)
		}
	}()
	var wrong error
	k.Scan(r.queries, r.chunk.Lo, r.chunk.Hi, &r.stop, func(through uint64, hits []kernel.Hit) {
		if wrong != nil {
			return
		}
		for _, hit := range hits {
			if got, ok := search.Evaluate(r.queries[hit.Query].Query, hit.Index); !ok || got != hit.Hit {
				wrong = fmt.Errorf("kernel %s found %+v for %q, which is %+v", k.Name(), hit.Hit, r.queries[hit.Query].Name, got)
				r.stop.Store(true)
				return
			}
		}
		r.report(through, hits)
		between()
	})
	return wrong
}
