package jobs_test

import (
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/hashfinder/hashfinder/jobs"
	"github.com/hashfinder/hashfinder/jobs/jobstest"
)

// pause pauses a job that nothing runs for.
func (b *bench) pause(t *testing.T, id string) jobs.Job {
	t.Helper()
	job, err := b.service.Pause(t.Context(), tenant, id, time.Minute)
	if err != nil || job.State != jobs.Paused || job.PauseTime.IsZero() {
		t.Fatalf("pause: got %+v, %v, want PAUSED", job, err)
	}
	return job
}

func (b *bench) resume(t *testing.T, id string) jobs.Job {
	t.Helper()
	job, err := b.service.Resume(t.Context(), tenant, id)
	if err != nil || !job.PauseTime.IsZero() {
		t.Fatalf("resume: got %+v, %v", job, err)
	}
	return job
}

func TestPausedJobGoesOnWhereItWas(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		b := newBench(t, open(), jobs.Limits{})
		job := b.submit(t, spec(secondChunk))
		first, second := b.claim(t, job), b.claim(t, job)
		b.find(t, first, []jobs.Hit{{Index: 5, Distance: 2}})

		// Workers are told, and until they have stopped the job is not paused.
		for range 2 {
			got, err := b.service.Pause(t.Context(), tenant, job.ID, 30*time.Millisecond)
			if err != nil || got.State != jobs.Pausing || got.Revision != 3 {
				t.Fatalf("got %+v, %v, want PAUSING while chunks are held", got, err)
			}
		}
		if stopped, err := b.store.Stopped(t.Context(), []string{job.ID}); err != nil || !stopped[0] {
			t.Errorf("cancel key: got %v, %v", stopped, err)
		}
		if err := b.store.Renew(t.Context(), first); !errors.Is(err, jobs.ErrStop) {
			t.Errorf("renew: got %v, want ErrStop", err)
		}
		b.release(t, first, false)
		b.commit(t, second, jobs.Hit{Index: second.Lo, Distance: 3}) // it had just finished: that counts
		paused := b.pause(t, job.ID)
		if paused.Progress.Searched != 6 || paused.Hits != 1 || paused.Reason != "" || !paused.EndTime.IsZero() {
			t.Errorf("paused: got %+v", paused)
		}
		check := unchanged(t, b.client)
		b.pause(t, job.ID)
		check("a second pause")
		b.reconcile(t)
		if chunk := b.tryClaim(t, job); chunk != nil {
			t.Fatalf("claimed %+v of a paused job", chunk)
		}

		resumed := b.resume(t, job.ID)
		if resumed.State != jobs.Running || resumed.Revision != paused.Revision+1 {
			t.Fatalf("got %+v, want RUNNING", resumed)
		}
		if stopped, err := b.store.Stopped(t.Context(), []string{job.ID}); err != nil || stopped[0] {
			t.Errorf("cancel key after resume: got %v, %v", stopped, err)
		}
		check = unchanged(t, b.client)
		b.resume(t, job.ID)
		check("a second resume")
		again := b.claim(t, job)
		if again.Lo != first.Lo || again.Hi != first.Hi {
			t.Fatalf("got %+v, want the chunk that was given back", again)
		}
		b.commit(t, again, jobs.Hit{Index: 5, Distance: 2}, jobs.Hit{Index: 70, Distance: 4})
		end := b.get(t, job.ID)
		if end.State != jobs.Exhausted || end.Progress.Searched != secondChunk || end.Progress.Redone != firstChunk {
			t.Errorf("got %+v, want EXHAUSTED with the first chunk alone searched again", end)
		}
		want := []jobs.Hit{{Index: 5, Distance: 2}, {Index: 70, Distance: 4}, {Index: second.Lo, Distance: 3}}
		if hits, events := b.log(t, job.ID); len(hits) != 3 || hits[0] != want[0] || hits[1] != want[1] || hits[2] != want[2] || events != 4 {
			t.Errorf("got the hits %v of %d events, want %v and the end", hits, events, want)
		}
	})
}

func TestPauseOfAJobThatNobodyHasBegun(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		b := newBench(t, open(), jobs.Limits{MaxActive: 1})
		job := b.submit(t, spec(10))
		b.pause(t, job.ID)
		if b.tryClaim(t, job) != nil {
			t.Fatal("a worker got a chunk of a paused job")
		}
		// It has not ended, so it counts.
		if _, err := b.service.Submit(t.Context(), jobs.Request{Tenant: tenant, Spec: spec(10)}); err == nil {
			t.Error("a paused job counts against no quota")
		}
		b.setJob(t, job.ID, "pause", 1)
		if got := b.resume(t, job.ID); got.State != jobs.Pending || got.PausedFor != 0 {
			t.Errorf("got %+v, want PENDING as before", got)
		}
		b.succeed(t, job)
	})
}

func TestPauseIsRefused(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		b := newBench(t, open(), jobs.Limits{})
		live, ended, stopping := b.submit(t, attached(spec(10))), b.submit(t, spec(10)), b.submit(t, spec(10))
		b.succeed(t, ended)
		b.claim(t, stopping)
		b.cancel(t, stopping.ID)
		check := unchanged(t, b.client)
		for _, c := range []struct {
			name, tenant, id string
			pause, resume    error
		}{
			{"attached", tenant, live.ID, jobs.ErrAttached, nil},
			{"ended", tenant, ended.ID, jobs.ErrEnded, jobs.ErrEnded},
			{"cancelling", tenant, stopping.ID, jobs.ErrStopping, jobs.ErrStopping},
			{"of another tenant", "another", live.ID, jobs.ErrNotFound, jobs.ErrNotFound},
			{"no job", tenant, "none", jobs.ErrNotFound, jobs.ErrNotFound},
		} {
			if _, err := b.service.Pause(t.Context(), c.tenant, c.id, 0); !errors.Is(err, c.pause) {
				t.Errorf("pause of a job %s: got %v, want %v", c.name, err, c.pause)
			}
			if _, err := b.service.Resume(t.Context(), c.tenant, c.id); !errors.Is(err, c.resume) {
				t.Errorf("resume of a job %s: got %v, want %v", c.name, err, c.resume)
			}
		}
		check("what was refused")
	})
}

func TestCancelOfAPausedJob(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		b := newBench(t, open(), jobs.Limits{})
		for name, held := range map[string]bool{"paused": false, "pausing": true} {
			t.Run(name, func(t *testing.T) {
				job := b.submit(t, spec(10))
				chunk := b.claim(t, job)
				if !held {
					b.release(t, chunk, false)
				}
				if _, err := b.service.Pause(t.Context(), tenant, job.ID, 0); err != nil {
					t.Fatal(err)
				}
				b.cancel(t, job.ID)
				if held {
					if got := b.get(t, job.ID); got.State != jobs.Cancelling {
						t.Fatalf("got %s while a chunk is held, want CANCELLING", got.State)
					}
					b.release(t, chunk, false)
				}
				if got := b.get(t, job.ID); got.State != jobs.Cancelled || got.Reason != jobs.CancelledByClient || !got.PauseTime.IsZero() {
					t.Errorf("got %+v, want CANCELLED", got)
				}
				if _, err := b.service.Resume(t.Context(), tenant, job.ID); !errors.Is(err, jobs.ErrEnded) {
					t.Errorf("resume: got %v, want ErrEnded", err)
				}
			})
		}
	})
}

// A worker may have the ideal hit in its hands when the job is paused.
func TestPauseRacingWithTheIdealHit(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		b := newBench(t, open(), jobs.Limits{})
		job := b.submit(t, spec(secondChunk))
		chunk, ahead := b.claim(t, job), b.claim(t, job)
		b.commit(t, ahead, jobs.Hit{Index: ahead.Lo + 7, Ideal: true})
		if _, err := b.service.Pause(t.Context(), tenant, job.ID, 0); err != nil {
			t.Fatal(err)
		}
		b.commit(t, chunk)
		got := b.get(t, job.ID)
		if got.State != jobs.Succeeded || got.Answer == nil || got.Answer.Index != ahead.Lo+7 || !got.PauseTime.IsZero() {
			t.Fatalf("got %+v, want SUCCEEDED: everything was searched", got)
		}
		check := unchanged(t, b.client)
		if _, err := b.service.Pause(t.Context(), tenant, job.ID, 0); !errors.Is(err, jobs.ErrEnded) {
			t.Errorf("pause: got %v, want ErrEnded", err)
		}
		b.reconcile(t)
		check("a pause after the end")

		// Found above what is still to be searched, it waits for that.
		other := b.submit(t, spec(secondChunk))
		chunk, ahead = b.claim(t, other), b.claim(t, other)
		if _, err := b.service.Pause(t.Context(), tenant, other.ID, 0); err != nil {
			t.Fatal(err)
		}
		b.commit(t, ahead, jobs.Hit{Index: ahead.Lo, Ideal: true})
		b.release(t, chunk, false)
		b.pause(t, other.ID)
		b.resume(t, other.ID)
		b.commit(t, b.claim(t, other))
		if got := b.get(t, other.ID); got.State != jobs.Succeeded || got.Answer.Index != ahead.Lo || got.LastSequence != 2 {
			t.Errorf("got %+v, want SUCCEEDED", got)
		}
	})
}

func TestPausedTimeIsNotCharged(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		b := newBench(t, open(), jobs.Limits{})
		bounded := spec(10)
		bounded.Budget.Duration = time.Hour
		job := b.submit(t, bounded)
		b.release(t, b.claim(t, job), false)
		b.pause(t, job.ID)
		ago := func(d time.Duration) int64 { return time.Now().Add(-d).UnixMilli() }
		// It has run for 50 minutes, and was paused two hours ago.
		b.setJob(t, job.ID, "start", ago(170*time.Minute))
		b.setJob(t, job.ID, "pause", ago(2*time.Hour))
		b.reconcile(t)
		if got := b.get(t, job.ID); got.State != jobs.Paused {
			t.Fatalf("got %s %s, want PAUSED", got.State, got.Reason)
		}
		if got := b.resume(t, job.ID); got.PausedFor < 2*time.Hour || got.PausedFor > 2*time.Hour+time.Minute {
			t.Errorf("got %v of pause, want two hours", got.PausedFor)
		}
		b.reconcile(t)
		if got := b.get(t, job.ID); got.State != jobs.Running {
			t.Fatalf("after 50 of 60 minutes: got %s %s, want RUNNING", got.State, got.Reason)
		}
		b.setJob(t, job.ID, "start", ago(181*time.Minute))
		b.reconcile(t)
		if got := b.get(t, job.ID); got.State != jobs.Exhausted || got.Reason != jobs.DurationExhausted {
			t.Errorf("after 61 of 60 minutes: got %s %s, want EXHAUSTED", got.State, got.Reason)
		}
	})
}

func TestWorkerThatDiedIsNoneThatHoldsAPause(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		b := newBench(t, open(), jobs.Limits{})
		job := b.submit(t, spec(10))
		dead := b.claim(t, job)
		if got, err := b.service.Pause(t.Context(), tenant, job.ID, 0); err != nil || got.State != jobs.Pausing {
			t.Fatalf("got %+v, %v, want PAUSING", got, err)
		}
		b.expireLease(t, dead)
		b.reconcile(t)
		if got := b.get(t, job.ID); got.State != jobs.Paused {
			t.Fatalf("got %s, want PAUSED: nothing runs any more", got.State)
		}
		b.resume(t, job.ID)
		b.succeed(t, job)
	})
}

// Paused jobs want no workers, so those that run share the fleet without them.
func TestPausedJobsTakeNoShareOfTheFleet(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		b := newBench(t, open(), jobs.Limits{})
		if err := b.store.Heartbeat(t.Context(), "w", 8, 1); err != nil {
			t.Fatal(err)
		}
		running := b.submit(t, spec(1<<20))
		for range 7 {
			b.pause(t, b.submit(t, spec(1<<20)).ID)
		}
		b.reconcile(t)
		if got := len(b.waiting(t, jobs.QueueBatch, running.ID)); got != 9 {
			t.Errorf("got %d tickets, want 9: one for each slot, and one more", got)
		}
	})
}
