package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/hashfinder/hashfinder/jobs"
	"github.com/hashfinder/hashfinder/jobs/jobstest"
)

// patience bounds how long a test waits for what should come at once.
const patience = 30 * time.Second

func (b *bench) watch(t *testing.T, id string, after uint64) *jobs.Watcher {
	t.Helper()
	w, _, err := b.service.Watch(t.Context(), tenant, id, after)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)
	return w
}

// next returns the next event that is not progress.
func next(ctx context.Context, w *jobs.Watcher) (jobs.Event, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		event, err := w.Next(ctx)
		if err != nil || event.Progress == nil {
			return event, err
		}
	}
}

// follow reads the hits after a sequence number up to the end. It fails on anything but a log without gaps.
func follow(ctx context.Context, w *jobs.Watcher, after uint64) ([]jobs.Hit, *jobs.Job, error) {
	var hits []jobs.Hit
	for seq := after + 1; ; seq++ {
		event, err := next(ctx, w)
		switch {
		case err != nil:
			return hits, nil, fmt.Errorf("instead of event %d: %w", seq, err)
		case event.Sequence != seq:
			return hits, nil, fmt.Errorf("got event %d, want %d", event.Sequence, seq)
		case event.End != nil:
			if _, err := w.Next(ctx); !errors.Is(err, io.EOF) {
				return hits, event.End, fmt.Errorf("after the end: got %w, want io.EOF", err)
			}
			return hits, event.End, nil
		}
		hits = append(hits, *event.Hit)
	}
}

// finds returns n hits from an index on.
func finds(from uint64, n int) []jobs.Hit {
	hits := make([]jobs.Hit, n)
	for i := range hits {
		hits[i] = jobs.Hit{Index: from + uint64(i), Distance: 1 + i%7}
	}
	return hits
}

// find hands hits of a running chunk over, all below the last of them being searched.
func (b *bench) find(t *testing.T, chunk *jobs.Chunk, hits []jobs.Hit) {
	t.Helper()
	for batch := range slices.Chunk(hits, jobs.MaxBatch) {
		if err := b.store.Flush(t.Context(), chunk, batch[len(batch)-1].Index+1, [][]jobs.Hit{batch}); err != nil {
			t.Fatal(err)
		}
	}
}

// killPubSub breaks all connections that have subscribed. miniredis cannot.
func (b *bench) killPubSub(t *testing.T) {
	t.Helper()
	if err := b.client.Do(t.Context(), "CLIENT", "KILL", "TYPE", "pubsub").Err(); err != nil && !strings.Contains(t.Name(), "/miniredis") {
		t.Fatal(err)
	}
}

func TestWatchersGetEachEventOnceAndInOrder(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		batch int
		slow  bool // watchers read only when all is over
		// disturb is called before each batch.
		disturb func(t *testing.T, b *bench, id string, n int)
	}{
		{name: "one by one", batch: 1},
		{name: "full batches", batch: 1000},
		{name: "slow watchers", batch: 1000, slow: true},
		{name: "slow watchers of many small messages", batch: 10, slow: true},
		{name: "connections break", batch: 100, disturb: func(t *testing.T, b *bench, _ string, _ int) { b.killPubSub(t) }},
		{name: "without pub/sub", batch: 500, disturb: func(_ *testing.T, b *bench, _ string, _ int) { b.relay.Close() }},
		{name: "messages that are wrong, early, late and double", batch: 10, disturb: func(t *testing.T, b *bench, id string, n int) {
			for _, message := range []string{
				"", "\n", "skipped", "7", "x hit 1 2 3", "1 hit 1 2", "0 progress 1 2 3", "18446744073709551616 hit 1 1 0",
				fmt.Sprintf("%d hit 77777 1 0", n+2000), // what is between was lost
				fmt.Sprintf("%d end SUCCEEDED FOUND", n+2000),
				"1 hit 0 1 0\n2 hit 1 2 0", // again, or too early
			} {
				if err := b.client.Publish(t.Context(), jobs.KeyLog(id), message).Err(); err != nil {
					t.Fatal(err)
				}
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
				b := newBench(t, open(), jobs.Limits{})
				all := finds(0, min(5000, 50*c.batch))
				job := b.submit(t, spec(firstChunk))
				chunk := b.claim(t, job)

				type result struct {
					hits []jobs.Hit
					end  *jobs.Job
					err  error
				}
				results := make(chan result, 3)
				begin := make(chan struct{})
				if !c.slow {
					close(begin)
				}
				watchers := []*jobs.Watcher{b.watch(t, job.ID, 0), b.watch(t, job.ID, 0), newBench(t, open(), jobs.Limits{}).watch(t, job.ID, 0)}
				for _, w := range watchers {
					go func() {
						<-begin
						hits, end, err := follow(t.Context(), w, 0)
						results <- result{hits, end, err}
					}()
				}
				sent := 0
				for batch := range slices.Chunk(all, c.batch) {
					if c.disturb != nil {
						c.disturb(t, b, job.ID, sent)
					}
					b.find(t, chunk, batch)
					sent += len(batch)
				}
				b.commit(t, chunk)
				if c.slow {
					close(begin)
				}
				for range watchers {
					got := <-results
					if got.err != nil {
						t.Errorf("after %d hits: %v", len(got.hits), got.err)
						continue
					}
					if !slices.Equal(got.hits, all) {
						t.Errorf("got %d hits, want the %d that there are", len(got.hits), len(all))
					}
					if got.end.ID != job.ID || got.end.State != jobs.Exhausted || got.end.Hits != uint64(len(all)) || got.end.LastSequence != uint64(len(all)+1) {
						t.Errorf("end: got %+v", got.end)
					}
				}
			})
		})
	}
}

func TestWatchFromEverySequenceNumber(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		b := newBench(t, open(), jobs.Limits{})
		all := finds(10, 12)
		job := b.submit(t, spec(firstChunk))
		chunk := b.claim(t, job)
		b.find(t, chunk, all)
		last := uint64(len(all))
		beyond := func(after, last uint64) {
			t.Helper()
			w, _, err := b.service.Watch(t.Context(), tenant, job.ID, after)
			if wrong, ok := errors.AsType[*jobs.RangeError](err); !ok || *wrong != (jobs.RangeError{After: after, Last: last}) {
				t.Errorf("after %d: got %v, %v, want a RangeError", after, w, err)
			}
		}
		beyond(last+1, last)
		var watchers []*jobs.Watcher // before the end
		for after := range last + 1 {
			watchers = append(watchers, b.watch(t, job.ID, after))
		}
		b.commit(t, chunk)
		for after := range last + 1 { // after the end
			watchers = append(watchers, b.watch(t, job.ID, after))
		}
		for i, w := range watchers {
			after := uint64(i) % (last + 1)
			hits, end, err := follow(t.Context(), w, after)
			if err != nil || !slices.Equal(hits, all[after:]) || end.State != jobs.Exhausted {
				t.Errorf("watcher %d, after %d: got %v, %+v, %v", i, after, hits, end, err)
			}
		}
		end := b.get(t, job.ID).LastSequence
		if event, err := b.watch(t, job.ID, end).Next(t.Context()); !errors.Is(err, io.EOF) {
			t.Errorf("after the last event: got %+v, %v, want io.EOF", event, err)
		}
		beyond(end+1, end)
		beyond(math.MaxUint64, end)
	})
}

func TestWatcherOfADeletedJob(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		b := newBench(t, open(), jobs.Limits{})
		remove := func(id string) {
			t.Helper()
			b.cancel(t, id)
			if err := b.service.Delete(t.Context(), tenant, id, 0); err != nil {
				t.Fatal(err)
			}
		}
		unread, waiting := b.submit(t, spec(10)), b.submit(t, spec(10))
		w := b.watch(t, unread.ID, 0)
		remove(unread.ID)
		if event, err := next(t.Context(), w); !errors.Is(err, jobs.ErrNotFound) {
			t.Errorf("deleted before it was read: got %+v, %v, want ErrNotFound", event, err)
		}

		w = b.watch(t, waiting.ID, 0)
		if event, err := w.Next(t.Context()); err != nil || event.Progress == nil {
			t.Fatalf("got %+v, %v, want progress first", event, err)
		}
		done := make(chan error, 1)
		go func() {
			_, err := next(t.Context(), w)
			done <- err
		}()
		remove(waiting.ID)
		// It may have seen the end before that.
		if err := <-done; err != nil && !errors.Is(err, jobs.ErrNotFound) {
			t.Errorf("deleted while it is watched: got %v, want ErrNotFound", err)
		}
	})
}

func TestWatcherStopsWithItsContext(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		b := newBench(t, open(), jobs.Limits{})
		w := b.watch(t, b.submit(t, spec(10)).ID, 0)
		reason := errors.New("the client has left")
		ctx, cancel := context.WithCancelCause(t.Context())
		done := make(chan error, 1)
		go func() {
			_, err := next(ctx, w)
			done <- err
		}()
		cancel(reason)
		select {
		case err := <-done:
			if !errors.Is(err, reason) {
				t.Errorf("got %v, want the cause %v", err, reason)
			}
		case <-time.After(patience):
			t.Error("Next does not return")
		}
	})
}

// A call that was given up took nothing away from the next one.
func TestWatcherGoesOnAfterItsContextHasEnded(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		b := newBench(t, open(), jobs.Limits{})
		job := b.submit(t, spec(firstChunk))
		chunk := b.claim(t, job)
		w := b.watch(t, job.ID, 0)
		b.find(t, chunk, finds(0, 1))
		if event, err := next(t.Context(), w); err != nil || event.Sequence != 1 {
			t.Fatalf("got %+v, %v, want event 1", event, err)
		}
		b.commit(t, chunk)
		over, cancel := context.WithCancel(t.Context())
		cancel()
		tries := 0
		jobstest.Until(t, "calls without time were made", func() bool {
			if event, err := next(over, w); !errors.Is(err, context.Canceled) {
				t.Fatalf("got %+v, %v, want context.Canceled", event, err)
			}
			tries++
			return tries == 50
		})
		if event, err := next(t.Context(), w); err != nil || event.End == nil || event.Sequence != 2 {
			t.Errorf("got %+v, %v, want the end", event, err)
		}
	})
}

func TestProgressIsNoPartOfTheSequence(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		b := newBench(t, open(), jobs.Limits{})
		job := b.submit(t, spec(1<<20))
		w := b.watch(t, job.ID, 0)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		begin, reports := time.Now(), 0
		var seq uint64
		for round := 0; ; round++ {
			chunk := b.claim(t, job)
			b.commit(t, chunk, jobs.Hit{Index: chunk.Lo, Distance: 1})
			if chunk.Hi >= 1<<20 {
				t.Fatal("no progress before the end")
			}
			for seq <= uint64(round) {
				event, err := w.Next(ctx)
				if err != nil {
					t.Fatal(err)
				}
				if event.Progress == nil {
					if seq++; event.Sequence != seq {
						t.Fatalf("got event %d, want %d", event.Sequence, seq)
					}
					continue
				}
				if reports++; event.Sequence != 0 || event.Hit != nil || event.End != nil {
					t.Fatalf("got %+v, want progress alone", event)
				}
			}
			if round == 5 {
				break
			}
		}
		// It comes by itself, without an event.
		for {
			event, err := w.Next(ctx)
			if err != nil {
				t.Fatal(err)
			}
			reports++
			if event.Progress != nil && event.Progress.Searched == b.get(t, job.ID).Progress.Searched {
				break
			}
			b.reconcile(t)
		}
		if most := 2 + int(time.Since(begin)/(500*time.Millisecond)); reports > most {
			t.Errorf("got %d reports in %v, want at most about two a second", reports, time.Since(begin))
		}
	})
}

// The log is the truth: what it has lost is said, not waited for.
func TestWatcherOfALogWithAGap(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		for name, damage := range map[string]func(b *bench, id string) error{
			"all of it is gone": func(b *bench, id string) error { return b.client.Del(t.Context(), jobs.KeyLog(id)).Err() },
			"one is missing":    func(b *bench, id string) error { return b.client.XDel(t.Context(), jobs.KeyLog(id), "2-0").Err() },
			"the last is gone":  func(b *bench, id string) error { return b.client.XDel(t.Context(), jobs.KeyLog(id), "4-0").Err() },
		} {
			t.Run(name, func(t *testing.T) {
				b := newBench(t, open(), jobs.Limits{})
				job := b.submit(t, spec(firstChunk))
				b.commit(t, b.claim(t, job), finds(0, 3)...)
				if err := damage(b, job.ID); err != nil {
					t.Fatal(err)
				}
				if hits, end, err := follow(t.Context(), b.watch(t, job.ID, 0), 0); !errors.Is(err, jobs.ErrLogLost) {
					t.Errorf("got %v, %+v, %v, want ErrLogLost", hits, end, err)
				}
			})
		}
	})
}

func TestClosedWatchersAreForgotten(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		b := newBench(t, open(), jobs.Limits{})
		job := b.submit(t, spec(10))
		channels := func() int {
			names, err := b.client.PubSubChannels(t.Context(), jobs.Pool+"*").Result()
			if err != nil {
				t.Fatal(err)
			}
			return len(names)
		}
		one, other := b.watch(t, job.ID, 0), b.watch(t, job.ID, 0)
		jobstest.Until(t, "the relay has subscribed", func() bool { return channels() == 1 })
		one.Close()
		b.succeed(t, job)
		if _, end, err := follow(t.Context(), other, 0); err != nil || end.State != jobs.Succeeded {
			t.Errorf("the watcher that stays: got %+v, %v", end, err)
		}
		other.Close()
		jobstest.Until(t, "the relay has unsubscribed", func() bool { return channels() == 0 })
	})
}

func TestRelayCloseLeavesWatchersTheLog(t *testing.T) {
	t.Parallel()
	b := newBench(t, jobstest.Open(t, jobstest.StartRedis(t)), jobs.Limits{})
	relay := jobs.NewRelay(b.store, slog.New(slog.DiscardHandler))
	job := b.submit(t, spec(10))
	w := relay.Watch(job, 0)
	defer w.Close()
	if err := relay.Close(); err != nil {
		t.Error(err)
	}
	var reads calls
	b.client.AddHook(&reads)
	done := make(chan error, 1)
	go func() {
		_, end, err := follow(t.Context(), w, 0)
		if err == nil && end.State != jobs.Succeeded {
			err = fmt.Errorf("it ended %s", end.State)
		}
		done <- err
	}()
	// It looks again and again.
	jobstest.Until(t, "the log was read three times", func() bool { return reads.of(jobs.KeyLog(job.ID)) >= 3 })
	b.succeed(t, job)
	if err := <-done; err != nil {
		t.Errorf("got %v, want the end", err)
	}
}

func FuzzParseEvent(f *testing.F) {
	for _, line := range []string{
		"1 hit 65793 2 1", "2 end SUCCEEDED FOUND", "0 progress 1 2 3 4 1700000000000", "skipped", "", "1 hit", "1 end A", "x hit 1 2 3",
		"1 hit 18446744073709551616 2 0", "1 hit -1 2 0", "1 hit 1 18446744073709551615 0", "\x00 \xff",
	} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		event, err := jobs.ParseEvent(line)
		if err != nil {
			if event != (jobs.Event{}) {
				t.Errorf("got %+v beside the error %v", event, err)
			}
			return
		}
		kinds := 0
		for _, set := range []bool{event.Hit != nil, event.Progress != nil, event.End != nil} {
			if set {
				kinds++
			}
		}
		if kinds != 1 {
			t.Errorf("got %+v, want exactly one of hit, progress and end", event)
		}
	})
}

// A lost message is made good within about a second even while there is always progress to tell of.
func TestLostMessageUnderSteadyProgress(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		b := newBench(t, open(), jobs.Limits{})
		job := b.submit(t, spec(1<<20))
		w := b.watch(t, job.ID, 0)
		publishing, stop := context.WithCancel(t.Context())
		var published sync.WaitGroup
		published.Go(func() {
			ticker := time.NewTicker(100 * time.Millisecond)
			defer ticker.Stop()
			for publishing.Err() == nil {
				b.client.Publish(publishing, jobs.KeyLog(job.ID), "0 progress 1 2 3 4 5")
				<-ticker.C
			}
		})
		defer published.Wait()
		defer stop()
		next := func() jobs.Event {
			event, err := w.Next(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return event
		}
		next()
		next() // it has read the log by now
		// In the log, and never published.
		if err := b.client.XAdd(t.Context(), &redis.XAddArgs{Stream: jobs.KeyLog(job.ID), ID: "1-0", Values: []string{"e", "hit 5 1 0"}}).Err(); err != nil {
			t.Fatal(err)
		}
		b.setJob(t, job.ID, "seq", 1)
		jobstest.Until(t, "the hit arrives", func() bool {
			event := next()
			return event.Hit != nil && event.Hit.Index == 5
		})
	})
}
