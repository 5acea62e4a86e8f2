package worker

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/hashfinder/hashfinder/jobs"
)

// handle runs one chunk for a ticket, and says which. An error leads the source to deliver the ticket again, a second
// later.
func (w *Worker) handle(ctx context.Context, ticket jobs.Ticket) (note string, err error) {
	w.all.Add(1)
	defer w.all.Done()
	// asynq ends its context when it has already given the task to somebody else. Our own lease decides instead.
	ctx = context.WithoutCancel(ctx)

	attempt := w.name + "/" + strconv.FormatUint(w.serial.Add(1), 10)
	claimed, orders := time.Now(), w.orders.Load()
	chunk, err := w.cfg.Store.Claim(ctx, ticket, attempt, w.name, w.rate.chunk())
	if errors.Is(err, jobs.ErrIdle) {
		return "", nil
	}
	if err != nil {
		// It may have been granted although the answer did not come: then nobody works on it.
		if _, releaseErr := w.cfg.Store.Release(ctx, jobs.Unanswered(ticket, attempt), false); releaseErr != nil {
			w.log.Debug("cannot release an unanswered claim", "sweep", ticket.Sweep, "error", releaseErr)
		}
		return "", err
	}
	r, err := newRun(chunk)
	if err != nil {
		w.log.Error("chunk refused", "sweep", chunk.Sweep, "error", err)
		tickets, err := w.cfg.Store.Release(ctx, chunk, true)
		return "", errors.Join(err, w.cfg.Queue.Enqueue(ctx, tickets))
	}
	w.compute(ctx, r, ticket.Queue, claimed, orders)
	computed := time.Now()
	tickets, err := w.finish(ctx, r)
	w.log.Debug("chunk", "job", chunk.Members[0].Job, "ticket", ticket.Number, "lo", chunk.Lo, "hi", chunk.Hi,
		"computed", computed.Sub(claimed), "finished", time.Since(computed), "cause", r.cause(), "tickets", len(tickets))
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("[%d, %d)", chunk.Lo, chunk.Hi), w.cfg.Queue.Enqueue(ctx, tickets)
}

// compute searches a chunk while it keeps its lease, and returns when nothing computes any more. orders is how many had
// come when the chunk was claimed.
func (w *Worker) compute(ctx context.Context, r *run, queue string, claimed time.Time, orders uint64) {
	w.mu.Lock()
	w.runs[r] = struct{}{}
	w.mu.Unlock()
	if w.orders.Load() != orders { // one of them may have been for this chunk, which was not there
		r.poke()
	}
	defer func() {
		w.mu.Lock()
		delete(w.runs, r)
		w.mu.Unlock()
	}()
	if time.Since(claimed) >= fenceTime { // a slow answer: the lease may have been taken over
		r.halt(errFenced)
		return
	}
	tending, stopTending := context.WithCancel(ctx)
	tended := make(chan struct{})
	go func() {
		defer close(tended)
		r.tend(tending, w.cfg.Store, claimed)
	}()
	turn := w.turns[queue]
	select {
	case turn <- struct{}{}:
		defer func() { <-turn }()
	case <-r.halted:
	}
	alone, leave := w.room.enter(r.chunk.Deaths >= suspectDeaths, r.stop.Load)
	if alone {
		// If this fails the chunk is not blamed, whatever happens.
		err := w.cfg.Store.Alone(ctx, r.chunk)
		if errors.Is(err, jobs.ErrStop) || errors.Is(err, jobs.ErrLost) {
			r.halt(err)
		}
	}
	if !r.stop.Load() {
		w.search(r)
	}
	leave()
	stopTending()
	<-tended
}

// finish settles a chunk that is not computed any more, and returns the tickets to put into the queue.
func (w *Worker) finish(ctx context.Context, r *run) ([]jobs.Ticket, error) {
	log := w.log.With("job", r.chunk.Members[0].Job, "lo", r.chunk.Lo, "hi", r.chunk.Hi)
	switch cause := r.cause(); {
	case errors.Is(cause, jobs.ErrLost):
		log.Warn("chunk lost", "error", cause)
		return nil, nil // whatever was done is fenced
	case errors.Is(cause, errFenced):
		// The chunk is not to blame, and if Redis is back another need not wait for the lease to run out.
		log.Warn("chunk given up", "error", cause)
		return w.cfg.Store.Release(ctx, r.chunk, false)
	case errors.Is(cause, jobs.ErrStop), errors.Is(cause, errDrained):
		return w.cfg.Store.Release(ctx, r.chunk, false)
	case cause != nil:
		log.Error("chunk failed", "error", cause)
		return w.cfg.Store.Release(ctx, r.chunk, true)
	}
	for r.pending() > jobs.MaxBatch {
		switch err := r.flush(ctx, w.cfg.Store); {
		case errors.Is(err, jobs.ErrStop):
			return w.cfg.Store.Release(ctx, r.chunk, false)
		case err != nil:
			return late(err)
		}
	}
	hits, _, _ := r.batch()
	tickets, more, err := w.cfg.Store.Commit(ctx, r.chunk, hits)
	if err != nil {
		return late(err)
	}
	for more { // if this is cut short the reconciler goes on
		if more, err = w.cfg.Store.Drain(ctx, r.chunk); err != nil {
			return nil, err
		}
	}
	return tickets, nil
}

// late tells a result that came too late, which is nobody's fault, from one that could not be handed over.
func late(err error) ([]jobs.Ticket, error) {
	if errors.Is(err, jobs.ErrLost) {
		return nil, nil
	}
	return nil, err
}

// pollStops looks at the cancel keys of the jobs that chunks run for. They are the truth; pub/sub is only faster.
func (w *Worker) pollStops(ctx context.Context) {
	ticker := time.NewTicker(stopPeriod)
	defer ticker.Stop()
	outage := outage{log: w.log, what: "poll of cancel keys"}
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		ids := w.running()
		if len(ids) == 0 {
			continue
		}
		stopped, err := w.cfg.Store.Stopped(ctx, ids)
		outage.note(ctx, err)
		for i, stop := range stopped {
			if stop {
				w.order(ids[i], true)
			}
		}
	}
}

// running returns the jobs that chunks run for.
func (w *Worker) running() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	seen := map[string]bool{}
	var ids []string
	for r := range w.runs {
		for _, m := range r.chunk.Members {
			if !seen[m.Job] {
				seen[m.Job] = true
				ids = append(ids, m.Job)
			}
		}
	}
	return ids
}

// order has a job's chunks stopped, or their leases renewed now; all leases for "". A chunk that was stopped for an order
// that does not hold any more is given back, and searched again.
func (w *Worker) order(job string, stop bool) {
	w.orders.Add(1)
	w.mu.Lock()
	defer w.mu.Unlock()
	for r := range w.runs {
		switch {
		case stop && r.serves(job) && len(r.chunk.Members) == 1:
			r.halt(jobs.ErrStop)
		case job == "" || r.serves(job):
			r.poke()
		}
	}
}

func (w *Worker) haltAll(cause error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for r := range w.runs {
		r.halt(cause)
	}
}
