package jobs_test

import (
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/hashfinder/hashfinder/jobs"
	"github.com/hashfinder/hashfinder/jobs/jobstest"
)

// age sets when an attempt began.
func (b *bench) age(t *testing.T, chunk *jobs.Chunk, begin time.Time) {
	t.Helper()
	key := jobs.KeySweep(chunk.Sweep) + ":attempts"
	record, err := b.client.HGet(t.Context(), key, chunk.Attempt).Result()
	if err != nil {
		t.Fatal(err)
	}
	words := strings.SplitN(record, ":", 5)
	words[2] = strconv.FormatInt(begin.UnixMilli(), 10)
	if err := b.client.HSet(t.Context(), key, chunk.Attempt, strings.Join(words, ":")).Err(); err != nil {
		t.Fatal(err)
	}
}

func TestLastChunkIsGivenToASecondWorker(t *testing.T) {
	t.Parallel()
	hits := []jobs.Hit{{Index: 3, Distance: 2}, {Index: 8, Distance: 1}}
	for name, slow := range map[string]bool{"the copy is first": true, "the copy is second": false} {
		t.Run(name, func(t *testing.T) {
			jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
				b := newBench(t, open(), jobs.Limits{})
				job := b.submit(t, spec(10))
				first := b.claim(t, job)
				b.age(t, first, later)
				b.reconcile(t)
				if extra := b.tryClaim(t, job); extra != nil {
					t.Fatalf("a chunk that was just claimed was copied: %+v", extra)
				}
				b.age(t, first, longAgo)
				b.reconcile(t)
				second := b.claim(t, job)
				if second.Lo != first.Lo || second.Hi != first.Hi {
					t.Fatalf("got %+v, want a copy of %+v", second, first)
				}
				b.age(t, second, time.Now().Add(-3*time.Second)) // for which a first copy comes
				b.reconcile(t)
				if third := b.tryClaim(t, job); third != nil {
					t.Fatalf("a copy was copied: %+v", third)
				}
				// Both find the same, and the slow one has even handed something over.
				if err := b.store.Flush(t.Context(), first, 4, [][]jobs.Hit{hits[:1]}); err != nil {
					t.Fatal(err)
				}
				winner, loser := first, second
				if slow {
					winner, loser = second, first
				}
				b.commit(t, winner, hits...)
				if _, _, err := b.store.Commit(t.Context(), loser, [][]jobs.Hit{hits}); !errors.Is(err, jobs.ErrLost) {
					t.Errorf("the second commit: got %v, want ErrLost", err)
				}
				got := b.get(t, job.ID)
				if got.State != jobs.Exhausted || got.Hits != 2 || got.Progress.Redone != 10 || got.Progress.Searched != 10 {
					t.Errorf("got %+v, want EXHAUSTED with 2 hits and 10 redone", got)
				}
				if log, _ := b.log(t, job.ID); len(log) != 2 || log[0] != hits[0] || log[1] != hits[1] {
					t.Errorf("got the hits %v, want %v", log, hits)
				}
			})
		})
	}
}

// TestHungCopiesAreCopiedAgain has a chunk hang in two workers that live on: a third gets it.
func TestHungCopiesAreCopiedAgain(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		b := newBench(t, open(), jobs.Limits{})
		if err := b.store.Heartbeat(t.Context(), "w", 8, 1); err != nil {
			t.Fatal(err)
		}
		job := b.submit(t, spec(10))
		first := b.claim(t, job)
		b.age(t, first, longAgo)
		b.reconcile(t)
		second := b.claim(t, job)
		b.age(t, second, longAgo)
		b.reconcile(t)
		third := b.claim(t, job)
		if third.Lo != first.Lo || third.Hi != first.Hi {
			t.Fatalf("got %+v, want another copy of %+v", third, first)
		}
		b.commit(t, third)
		for _, hung := range []*jobs.Chunk{first, second} {
			if _, _, err := b.store.Commit(t.Context(), hung, make([][]jobs.Hit, 1)); !errors.Is(err, jobs.ErrLost) {
				t.Errorf("the commit of one that hung: got %v, want ErrLost", err)
			}
		}
		if got := b.get(t, job.ID); got.State != jobs.Exhausted || got.Progress.Redone != 20 || got.Progress.Searched != 10 {
			t.Errorf("got %+v, want EXHAUSTED with 20 redone", got)
		}
	})
}

func TestFinishedChunksAreNotCopied(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		b := newBench(t, open(), jobs.Limits{})
		if err := b.store.Heartbeat(t.Context(), "w", 8, 1); err != nil {
			t.Fatal(err)
		}
		job := b.submit(t, spec(secondChunk))
		dead, slow := b.claim(t, job), b.claim(t, job)
		b.age(t, dead, longAgo)
		b.age(t, slow, longAgo.Add(time.Second))
		b.reconcile(t)
		b.commit(t, b.claim(t, job)) // a copy of the dead worker's, whose lease goes on for a while
		b.reconcile(t)
		if got := b.claim(t, job); got.Lo != slow.Lo {
			t.Errorf("got a copy of the chunk at %d, which is finished; want one of that at %d", got.Lo, slow.Lo)
		}
		if extra := b.tryClaim(t, job); extra != nil {
			t.Errorf("got %+v, want nothing: one chunk is finished, the other copied", extra)
		}
	})
}
