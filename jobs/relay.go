package jobs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// watchBuffer bounds the events that wait for a slow reader; when it is full they are read from the log later.
	watchBuffer = 256
	// watchPoll is how often a log is read when nothing is published: pub/sub loses messages without a sign.
	watchPoll = time.Second
	// progressPeriod spaces the progress that a watcher gets.
	progressPeriod = 500 * time.Millisecond
	// attendPeriod is how often a watched job is kept alive; it lives ten seconds without.
	attendPeriod = 3 * time.Second
)

// Relay brings events to watchers. The log of a job is the truth, and pub/sub only tells early what is in it: a
// watcher takes a published event only if it is the next one, and else reads the log. So no watcher sees a gap, a
// duplicate or another order, whatever is lost. One connection serves all watchers of a process.
type Relay struct {
	store  *Store
	log    *slog.Logger
	pubsub *redis.PubSub
	wake   chan struct{} // a topic has come or gone
	done   sync.WaitGroup
	cancel context.CancelFunc

	mu     sync.Mutex
	topics map[string]map[*Watcher]struct{} // job -> its watchers
}

// NewRelay starts a relay on the store. Close ends it.
func NewRelay(store *Store, log *slog.Logger) *Relay {
	ctx, cancel := context.WithCancel(context.Background())
	r := &Relay{
		store: store, log: log, wake: make(chan struct{}, 1), cancel: cancel,
		pubsub: store.client.Subscribe(ctx), topics: map[string]map[*Watcher]struct{}{},
	}
	messages := r.pubsub.ChannelWithSubscriptions()
	r.done.Go(func() { r.subscribe(ctx) })
	r.done.Go(func() { r.attend(ctx) })
	r.done.Go(func() {
		for message := range messages { // ends with Close
			r.dispatch(message)
		}
	})
	return r
}

// Close ends the relay. Watchers go on by reading the log alone.
func (r *Relay) Close() error {
	r.cancel()
	err := r.pubsub.Close()
	r.done.Wait()
	return err
}

// Watch returns a watcher of a job's events with sequence numbers above after, of which the last may be the job's. It
// must be closed. While it is open, an attached job is kept alive.
func (r *Relay) Watch(job Job, after uint64) *Watcher {
	w := &Watcher{
		relay: r, job: job, seq: after, stale: true, wake: make(chan struct{}, 1), progress: &job.Progress,
		ended: job.State.Terminal() && after >= job.LastSequence,
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.topics[job.ID] == nil {
		r.topics[job.ID] = map[*Watcher]struct{}{}
		signal(r.wake)
	}
	r.topics[job.ID][w] = struct{}{}
	return w
}

func (r *Relay) remove(w *Watcher) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.topics[w.job.ID], w)
	if len(r.topics[w.job.ID]) == 0 {
		delete(r.topics, w.job.ID)
		signal(r.wake)
	}
}

// subscribe keeps the subscriptions equal to the topics. It alone changes them, so that a slow Redis holds up
// nobody else.
func (r *Relay) subscribe(ctx context.Context) {
	subscribed := map[string]bool{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wake:
		}
		var add, drop []string
		r.mu.Lock()
		for id := range r.topics {
			if !subscribed[id] {
				add = append(add, keyLog(id))
				subscribed[id] = true
			}
		}
		for id := range subscribed {
			if r.topics[id] == nil {
				drop = append(drop, keyLog(id))
				delete(subscribed, id)
			}
		}
		r.mu.Unlock()
		// After a failure go-redis subscribes anew by itself, and meanwhile watchers poll.
		if len(add) > 0 {
			if err := r.pubsub.Subscribe(ctx, add...); err != nil && ctx.Err() == nil {
				r.log.Warn("cannot subscribe to events", "error", err)
			}
		}
		if len(drop) > 0 {
			if err := r.pubsub.Unsubscribe(ctx, drop...); err != nil && ctx.Err() == nil {
				r.log.Warn("cannot unsubscribe from events", "error", err)
			}
		}
	}
}

// attend keeps the attached jobs alive that are watched here, however slow their watchers read.
func (r *Relay) attend(ctx context.Context) {
	ticker := time.NewTicker(attendPeriod)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		var attached []string
		r.mu.Lock()
		for id, watchers := range r.topics {
			for w := range watchers {
				if w.job.Spec.Attached {
					attached = append(attached, id)
				}
				break // they all watch the same job
			}
		}
		r.mu.Unlock()
		for _, id := range attached {
			if err := r.store.Attend(ctx, id); err != nil && ctx.Err() == nil && !errors.Is(err, ErrNotFound) {
				r.log.Warn("cannot keep job alive", "job", id, "error", err)
			}
		}
	}
}

func (r *Relay) dispatch(message any) {
	switch m := message.(type) {
	case *redis.Subscription:
		// A new subscription, or a new connection: what was published before it is in the log only.
		r.each(m.Channel, func(w *Watcher) { w.offer(nil, true) })
	case *redis.Message:
		var events []Event
		stale := false
		for line := range strings.SplitSeq(m.Payload, "\n") {
			event, err := parseEvent(line)
			if err != nil { // also "skipped": more than a message carries
				stale = true
				continue
			}
			events = append(events, event)
		}
		r.each(m.Channel, func(w *Watcher) { w.offer(events, stale) })
	}
}

func (r *Relay) each(channel string, f func(*Watcher)) {
	id := strings.TrimSuffix(strings.TrimPrefix(channel, keyJob("")), ":log")
	r.mu.Lock()
	defer r.mu.Unlock()
	for w := range r.topics[id] {
		f(w)
	}
}

// Watcher reads the events of one job. Next and Close are for one goroutine.
type Watcher struct {
	relay *Relay
	job   Job
	seq   uint64 // of the last event returned
	ended bool

	progressTime time.Time // when progress was last returned
	readTime     time.Time // when the log was last read

	wake chan struct{}

	mu       sync.Mutex
	buffer   []Event   // events above seq, in order, at most watchBuffer
	progress *Progress // the latest, not yet returned
	stale    bool      // the log may hold what the buffer does not
}

// offer takes published events. It never blocks: what does not fit is left to the log.
func (w *Watcher) offer(events []Event, stale bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stale = w.stale || stale
	for _, event := range events {
		switch {
		case event.Progress != nil:
			w.progress = event.Progress
		case len(w.buffer) < watchBuffer:
			w.buffer = append(w.buffer, event)
		default:
			w.stale = true
		}
	}
	signal(w.wake)
}

// Next returns the next event: hits, the ends of jobs that this one extends, and its own end, in their order, each once;
// and between them progress, at most twice a second. After the end it returns io.EOF.
//
// While Redis is away it waits, and goes on where it was. Errors: that of ctx, after which another call goes on;
// ErrNotFound when the job was deleted or has expired; ErrLogLost when the job is there but its log has a gap.
func (w *Watcher) Next(ctx context.Context) (Event, error) {
	if w.ended {
		return Event{}, io.EOF
	}
	poll := time.NewTicker(watchPoll)
	defer poll.Stop()
	for {
		// Also when there is always something else to return.
		if time.Since(w.readTime) >= watchPoll {
			w.offer(nil, true)
		}
		if progress := w.takeProgress(); progress != nil {
			return Event{Progress: progress}, nil
		}
		if event, ok := w.take(); ok {
			return w.deliver(ctx, event)
		}
		if w.takeStale() {
			if err := w.readLog(ctx); err != nil {
				return Event{}, err
			}
			continue
		}
		select {
		case <-ctx.Done():
			return Event{}, context.Cause(ctx)
		case <-w.wake:
		case <-poll.C:
			w.offer(nil, true)
		}
	}
}

// Close ends the watcher.
func (w *Watcher) Close() { w.relay.remove(w) }

// take returns the next event of the buffer, if it is the next of the log.
func (w *Watcher) take() (Event, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.buffer) > 0 {
		event := w.buffer[0]
		if event.Sequence > w.seq+1 { // something between was lost
			w.buffer, w.stale = nil, true
			break
		}
		w.buffer = w.buffer[1:]
		if event.Sequence == w.seq+1 {
			w.seq = event.Sequence
			return event, true
		}
	}
	return Event{}, false
}

func (w *Watcher) takeStale() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	stale := w.stale
	w.stale = false
	return stale
}

func (w *Watcher) takeProgress() *Progress {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.progress == nil || time.Since(w.progressTime) < progressPeriod {
		return nil
	}
	progress := w.progress
	w.progress, w.progressTime = nil, time.Now()
	return progress
}

// readLog fills the buffer from the log.
func (w *Watcher) readLog(ctx context.Context) error {
	w.readTime = time.Now()
	events, err := w.relay.store.Log(ctx, w.job.ID, w.seq, watchBuffer)
	if err == nil && len(events) == 0 {
		events, err = w.missing(ctx)
	}
	if err == nil && len(events) > 0 && events[0].Sequence != w.seq+1 {
		err = ErrLogLost
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if errors.Is(err, ErrUnavailable) {
		return nil // stay: the poll asks again
	}
	if err != nil {
		w.stale = true // for a call to come
		return fmt.Errorf("watch job %s: %w", w.job.ID, err)
	}
	if len(events) > 0 {
		w.buffer = events // whatever was published beyond them is read again, in turn
		w.stale = true
	}
	return nil
}

// missing finds out why the log has nothing to go on with: there is nothing yet, or it has just come, or the job is gone,
// or only its events are.
func (w *Watcher) missing(ctx context.Context) ([]Event, error) {
	job, err := w.relay.store.Get(ctx, w.job.Tenant, w.job.ID)
	if err != nil {
		return nil, err
	}
	switch {
	case job.LastSequence < w.seq, job.LastSequence == w.seq && job.State.Terminal():
		return nil, ErrLogLost // the store has lost events that were seen here, and the end has the number of one of them
	case job.LastSequence == w.seq:
		return nil, nil
	}
	events, err := w.relay.store.Log(ctx, w.job.ID, w.seq, watchBuffer)
	if err != nil || len(events) > 0 {
		return events, err
	}
	if _, err := w.relay.store.Get(ctx, w.job.Tenant, w.job.ID); err != nil {
		return nil, err // the job went between the two reads
	}
	return nil, ErrLogLost
}

// deliver completes an event for the caller.
func (w *Watcher) deliver(ctx context.Context, event Event) (Event, error) {
	if event.End == nil {
		return event, nil
	}
	if w.job.Extends != nil && event.Sequence <= w.job.Extends.Sequence {
		return Event{Sequence: event.Sequence, Extended: event.End.Reason}, nil
	}
	job, err := w.final(ctx)
	if err != nil {
		w.seq-- // a call to come reads the end from the log
		w.offer(nil, true)
		return Event{}, err
	}
	w.ended, event.End = true, &job
	return event, nil
}

// final returns the job as it has ended.
func (w *Watcher) final(ctx context.Context) (Job, error) {
	for {
		job, err := w.relay.store.Get(ctx, w.job.Tenant, w.job.ID)
		if !errors.Is(err, ErrUnavailable) {
			return job, err
		}
		select {
		case <-ctx.Done():
			return Job{}, context.Cause(ctx)
		case <-time.After(watchPoll):
		}
	}
}

// signal wakes the reader of a channel of capacity one, unless it is to wake already.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
