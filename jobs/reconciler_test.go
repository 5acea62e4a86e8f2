package jobs_test

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/hashfinder/hashfinder/jobs"
	"github.com/hashfinder/hashfinder/jobs/jobstest"
)

// lead runs a reconciler until the returned function is called, at the latest when the test ends.
func (b *bench) lead(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		jobs.NewReconciler(b.store, b.queue, slog.New(slog.DiscardHandler)).Run(ctx)
	}()
	stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(stop)
	return stop
}

// due sets when the tickets of a sweep are looked after again.
func (b *bench) due(t *testing.T, id string, at time.Time) {
	t.Helper()
	key := jobs.KeySweep(id) + ":tickets"
	numbers, err := b.client.ZRange(t.Context(), key, 0, -1).Result()
	if err != nil || len(numbers) == 0 {
		t.Fatalf("the sweep has no tickets (%v)", err)
	}
	for _, n := range numbers {
		if err := b.client.ZAdd(t.Context(), key, redis.Z{Score: float64(at.UnixMilli()), Member: n}).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// Times that are far from now however slow the machine is.
var longAgo, later = time.UnixMilli(1), time.Now().Add(time.Hour)

func (b *bench) setJob(t *testing.T, id, field string, value any) {
	t.Helper()
	if err := b.client.HSet(t.Context(), jobs.KeyJob(id), field, value).Err(); err != nil {
		t.Fatal(err)
	}
}

func TestLostTicketsAreReplaced(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		b := newBench(t, open(), jobs.Limits{})
		alone, watched := b.submit(t, spec(10)), b.submit(t, attached(spec(10)))
		for queue, id := range map[string]string{jobs.QueueBatch: alone.ID, jobs.QueueInteractive: watched.ID} {
			for _, ticket := range b.waiting(t, queue, id) {
				if err := b.inspector.DeleteTask(queue, ticket.ID()); err != nil {
					t.Fatal(err)
				}
			}
			if lost := b.waiting(t, queue, id); len(lost) > 0 {
				t.Fatalf("tickets are left: %v", lost)
			}
			b.due(t, id, longAgo) // as if two seconds had passed
		}
		b.lead(t)
		for _, job := range []jobs.Job{alone, watched} {
			jobstest.Until(t, "the lost tickets are replaced", func() bool { return b.tryClaim(t, job) != nil })
		}
	})
}

// A worker that is killed after it took a task, but before it claimed, leaves the task active for asynq, which looks
// after it one or two minutes later.
func TestTicketsOfAWorkerThatDiedBeforeItClaimedAreReplaced(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		b := newBench(t, open(), jobs.Limits{})
		job := b.submit(t, spec(10))
		const rounds = 3
		for range rounds {
			b.takeAll(t, job.ID)
			b.due(t, job.ID, later)
			b.reconcile(t)
			if early := b.waiting(t, jobs.QueueBatch, job.ID); len(early) > 0 {
				t.Fatalf("a ticket that was just taken was replaced: %+v", early)
			}
			b.due(t, job.ID, longAgo)
			b.reconcile(t)
			if len(b.waiting(t, jobs.QueueBatch, job.ID)) == 0 {
				t.Fatal("the tickets are with dead workers, and there are no others")
			}
			b.due(t, job.ID, longAgo)
			b.reconcile(t)
			if got := b.waiting(t, jobs.QueueBatch, job.ID); len(got) > 2 {
				t.Fatalf("got %d tickets in the queue, want as many as the window, 2", len(got))
			}
		}
		b.succeed(t, job)
	})
}

// takeAll lets a worker take all tasks of a sweep, which never gets to claim.
func (b *bench) takeAll(t *testing.T, id string) {
	t.Helper()
	stuck := make(chan struct{})
	t.Cleanup(func() { close(stuck) })
	server := asynq.NewServerFromRedisClient(b.client, asynq.Config{
		Queues: map[string]int{jobs.QueueBatch: 1}, Concurrency: 10, TaskCheckInterval: 5 * time.Millisecond, LogLevel: asynq.FatalLevel,
		// It gives up its tasks when it is shut down, at the end of the test.
		ShutdownTimeout: time.Millisecond,
	})
	if err := server.Start(asynq.HandlerFunc(func(context.Context, *asynq.Task) error {
		<-stuck
		return nil
	})); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Shutdown)
	jobstest.Until(t, "all tasks are taken", func() bool { return len(b.waiting(t, jobs.QueueBatch, id)) == 0 })
	server.Stop()
}

func TestDurationBudgetEndsAJob(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		b := newBench(t, open(), jobs.Limits{})
		bounded := spec(secondChunk)
		bounded.Budget.Duration = time.Hour
		job := b.submit(t, bounded)
		chunk := b.claim(t, job)
		b.commit(t, chunk, jobs.Hit{Index: 5, Distance: 2})
		chunk = b.claim(t, job)
		b.reconcile(t)
		if got := b.get(t, job.ID); got.State != jobs.Running {
			t.Fatalf("got %s within the budget, want RUNNING", got.State)
		}
		b.setJob(t, job.ID, "start", time.Now().Add(-time.Hour).UnixMilli())
		b.reconcile(t)
		if got := b.get(t, job.ID); got.State != jobs.Cancelling || got.Reason != jobs.DurationExhausted {
			t.Fatalf("got %s %s over the budget, want CANCELLING DURATION_EXHAUSTED", got.State, got.Reason)
		}
		if err := b.store.Renew(t.Context(), chunk); !errors.Is(err, jobs.ErrStop) {
			t.Errorf("renew: got %v, want ErrStop", err)
		}
		b.release(t, chunk, false)
		got := b.get(t, job.ID)
		if got.State != jobs.Exhausted || got.Reason != jobs.DurationExhausted || got.Hits != 1 || got.Progress.Searched != firstChunk {
			t.Errorf("got %+v, want EXHAUSTED DURATION_EXHAUSTED with the hit found until then", got)
		}
	})
}

func TestJobsThatNobodyHasBegunKeepTheirDuration(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		b := newBench(t, open(), jobs.Limits{})
		bounded := spec(10)
		bounded.Budget.Duration = time.Hour
		job := b.submit(t, bounded)
		b.setJob(t, job.ID, "create", 1)
		b.reconcile(t)
		if got := b.get(t, job.ID); got.State != jobs.Pending {
			t.Errorf("got %s %s, want PENDING: the duration counts from the first worker on", got.State, got.Reason)
		}
	})
}

func TestAttachedJobsLiveWhileTheyAreWatched(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		b := newBench(t, open(), jobs.Limits{})
		orphan, adopted, alone := b.submit(t, attached(spec(10))), b.submit(t, attached(spec(10))), b.submit(t, spec(10))
		b.reconcile(t)
		if got := b.get(t, orphan.ID); got.State != jobs.Pending {
			t.Fatalf("a new job: got %s, want PENDING: its watcher is to come", got.State)
		}
		for _, id := range []string{orphan.ID, adopted.ID} {
			b.setJob(t, id, "orphan", 1) // as if ten seconds had passed
		}
		w, _, err := b.service.Watch(t.Context(), tenant, adopted.ID, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		plain, _, err := b.service.Watch(t.Context(), tenant, alone.ID, 0)
		if err != nil {
			t.Fatal(err)
		}
		plain.Close()
		b.reconcile(t)
		if got := b.get(t, orphan.ID); got.State != jobs.Cancelled || got.Reason != jobs.Orphaned {
			t.Errorf("without a watcher: got %s %s, want CANCELLED ORPHANED", got.State, got.Reason)
		}
		for _, job := range []jobs.Job{adopted, alone} {
			if got := b.get(t, job.ID); got.State != jobs.Pending {
				t.Errorf("got %s %s, want PENDING", got.State, got.Reason)
			}
		}
		if b.client.HExists(t.Context(), jobs.KeyJob(alone.ID), "orphan").Val() {
			t.Error("a job that lives on its own became attached by being watched")
		}
	})
}

func TestRelayKeepsAttachedJobsAlive(t *testing.T) {
	t.Parallel()
	b := newBench(t, jobstest.Open(t, jobstest.StartRedis(t)), jobs.Limits{})
	job := b.submit(t, attached(spec(10)))
	b.service.Follow(job) // nobody reads, but the watcher is open
	soon := time.Now().Add(6 * time.Second).UnixMilli()
	b.setJob(t, job.ID, "orphan", soon)
	jobstest.Until(t, "the job may live on", func() bool {
		until, err := b.client.HGet(t.Context(), jobs.KeyJob(job.ID), "orphan").Int64()
		return err == nil && until > soon
	})
}

func TestChunksOfDeadWorkersRunAgain(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		b := newBench(t, open(), jobs.Limits{})
		job := b.submit(t, spec(secondChunk))
		first, dead := b.claim(t, job), b.claim(t, job)
		b.commit(t, first)
		b.expireLease(t, dead)
		b.reconcile(t)
		again := b.claim(t, job)
		if again.Lo != dead.Lo || again.Hi != dead.Hi || again.Attempt == dead.Attempt {
			t.Fatalf("got %+v, want the chunk of %+v", again, dead)
		}
		if _, _, err := b.store.Commit(t.Context(), dead, [][]jobs.Hit{{{Index: dead.Lo, Ideal: true}}}); !errors.Is(err, jobs.ErrLost) {
			t.Errorf("commit of the dead worker: got %v, want ErrLost", err)
		}
		if err := b.store.Renew(t.Context(), dead); !errors.Is(err, jobs.ErrLost) {
			t.Errorf("renewal of the dead worker: got %v, want ErrLost", err)
		}
		if err := b.store.Flush(t.Context(), dead, dead.Hi, [][]jobs.Hit{{{Index: dead.Lo, Ideal: true}}}); !errors.Is(err, jobs.ErrLost) {
			t.Errorf("flush of the dead worker: got %v, want ErrLost", err)
		}
		b.release(t, dead, true)
		if err := b.store.Renew(t.Context(), again); err != nil {
			t.Errorf("renewal of the new worker: %v", err)
		}
		b.commit(t, again)
		got := b.get(t, job.ID)
		if got.State != jobs.Exhausted || got.Progress.Redone != again.Hi-again.Lo || got.Progress.Searched != secondChunk || got.Hits != 0 {
			t.Errorf("got %+v, want EXHAUSTED with %d redone", got, again.Hi-again.Lo)
		}
	})
}

func TestChunkThatKillsThreeWorkersFailsItsJobAlone(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		b := newBench(t, open(), jobs.Limits{})
		bad, good := b.submit(t, spec(1<<20)), b.submit(t, spec(10))
		b.commit(t, b.claim(t, bad), jobs.Hit{Index: 4, Distance: 1})
		fine := b.claim(t, good)
		for death := range 3 {
			if got := b.get(t, bad.ID); got.State != jobs.Running {
				t.Fatalf("got %s after %d deaths, want RUNNING", got.State, death)
			}
			chunk := b.claim(t, bad)
			if chunk.Lo != firstChunk || chunk.Deaths != uint64(death) {
				t.Fatalf("got the chunk at %d after %d deaths, want that at %d after %d", chunk.Lo, chunk.Deaths, firstChunk, death)
			}
			if death == 1 { // its worker saw it die
				b.release(t, chunk, true)
				continue
			}
			if death == 2 {
				// One that another chunk may have killed its worker for does not count.
				b.expireLease(t, chunk)
				b.reconcile(t)
				if err := b.store.Renew(t.Context(), chunk); !errors.Is(err, jobs.ErrLost) { // nor is it taken back
					t.Errorf("renewal: got %v, want ErrLost", err)
				}
				if chunk = b.claim(t, bad); chunk.Deaths != 2 {
					t.Fatalf("got %d deaths, want 2", chunk.Deaths)
				}
				if err := b.store.Alone(t.Context(), chunk); err != nil {
					t.Fatal(err)
				}
			}
			b.expireLease(t, chunk)
			b.reconcile(t)
		}
		got := b.get(t, bad.ID)
		if got.State != jobs.Failed || got.Reason != jobs.Poisoned || got.Poison != "65793:131329" || got.Hits != 1 {
			t.Errorf("got %+v, want FAILED POISONED by 65793:131329 with the hit found until then", got)
		}
		if b.tryClaim(t, bad) != nil {
			t.Error("a failed job is still searched")
		}
		b.commit(t, fine)
		if got := b.get(t, good.ID); got.State != jobs.Exhausted || got.Poison != "" {
			t.Errorf("the other job: got %+v, want EXHAUSTED", got)
		}
	})
}

// A worker whose lease ran out while it was stopped, or cut off, or because the clock was set forward, was not killed by
// its chunk: whatever it then asks for shows that.
func TestChunkOfAWorkerThatIsHeardAgainIsNoPoison(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		b := newBench(t, open(), jobs.Limits{})
		lost := func(what string, err error) {
			t.Helper()
			if !errors.Is(err, jobs.ErrLost) {
				t.Errorf("%s of a lease that ran out: got %v, want ErrLost", what, err)
			}
		}
		job := b.submit(t, spec(10))
		for range 3 {
			for _, heard := range []func(*jobs.Chunk){
				func(c *jobs.Chunk) { lost("renewal", b.store.Renew(t.Context(), c)) },
				func(c *jobs.Chunk) { lost("flush", b.store.Flush(t.Context(), c, c.Lo, [][]jobs.Hit{nil})) },
				func(c *jobs.Chunk) {
					_, _, err := b.store.Commit(t.Context(), c, [][]jobs.Hit{nil})
					lost("commit", err)
				},
				func(c *jobs.Chunk) { b.release(t, c, false) },
			} {
				chunk := b.claim(t, job)
				b.expireLease(t, chunk)
				b.reconcile(t)
				heard(chunk)
				heard(chunk) // that takes back no other's death
			}
		}
		if got := b.get(t, job.ID); got.State != jobs.Running {
			t.Fatalf("got %s %s, want RUNNING", got.State, got.Reason)
		}
		for range 3 {
			chunk := b.claim(t, job)
			if err := b.store.Alone(t.Context(), chunk); err != nil {
				t.Fatal(err)
			}
			b.expireLease(t, chunk)
			b.reconcile(t)
			b.release(t, chunk, true) // it blames the chunk
		}
		if got := b.get(t, job.ID); got.Reason != jobs.Poisoned {
			t.Errorf("after three deaths: got %s %s, want FAILED POISONED", got.State, got.Reason)
		}
	})
}

// Released by a worker that shuts down is not died.
func TestChunksGivenBackInPeaceAreNoPoison(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		b := newBench(t, open(), jobs.Limits{})
		job := b.submit(t, spec(10))
		for range 5 {
			b.release(t, b.claim(t, job), false)
		}
		b.succeed(t, job)
	})
}

func TestJobThatCannotBeReconciledDoesNotKeepTheOthersFromIt(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		b := newBench(t, open(), jobs.Limits{})
		broken, next := b.submit(t, attached(spec(10))), b.submit(t, attached(spec(10)))
		if err := b.client.HDel(t.Context(), jobs.KeySweep(broken.ID)+":queries", broken.ID).Err(); err != nil {
			t.Fatal(err)
		}
		b.setJob(t, next.ID, "orphan", 1)
		if err := b.reconciler.Reconcile(t.Context()); err == nil || errors.Is(err, jobs.ErrUnavailable) || !strings.Contains(err.Error(), broken.ID) {
			t.Errorf("got %v, want an error that names job %s", err, broken.ID)
		}
		if got := b.get(t, next.ID); got.State != jobs.Cancelled {
			t.Errorf("the next job: got %s, want CANCELLED", got.State)
		}
	})
}

func (b *bench) leader(t *testing.T) string {
	t.Helper()
	leader, err := b.client.Get(t.Context(), jobs.KeyLeader).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		t.Fatal(err)
	}
	return leader
}

func TestOneReconcilerLeadsAndTheOtherTakesOver(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		one, other := newBench(t, open(), jobs.Limits{}), newBench(t, open(), jobs.Limits{})
		orphan := func() jobs.Job {
			job := one.submit(t, attached(spec(10)))
			one.setJob(t, job.ID, "orphan", 1)
			return job
		}
		ended := func(job jobs.Job) func() bool {
			return func() bool { return one.get(t, job.ID).State == jobs.Cancelled }
		}
		var tries calls
		one.client.AddHook(&tries)
		if err := other.client.Set(t.Context(), jobs.KeyLeader, "somebody", 0).Err(); err != nil {
			t.Fatal(err)
		}
		job := orphan()
		stop := one.lead(t)
		jobstest.Until(t, "it has tried to lead", func() bool { return tries.of(jobs.KeyLeader) >= 1 })
		if one.leader(t) != "somebody" || ended(job)() {
			t.Fatalf("%s leads, want somebody else; the job: %s", one.leader(t), one.get(t, job.ID).State)
		}
		if err := other.client.Del(t.Context(), jobs.KeyLeader).Err(); err != nil {
			t.Fatal(err)
		}
		jobstest.Until(t, "it leads", ended(job))

		leader := one.leader(t)
		stopOther := other.lead(t)
		stop()
		if got := one.leader(t); got == leader {
			t.Error("a leader that has stopped still leads")
		}
		jobstest.Until(t, "the other takes over", ended(orphan()))
		stopOther()
		if got := one.leader(t); got != "" {
			t.Errorf("%s leads although nobody is left", got)
		}
	})
}

// calls counts the scripts that are called, by their first key, and the reads of logs.
type calls struct{ count sync.Map }

func (c *calls) of(key string) int64 {
	n, _ := c.count.LoadOrStore(key, new(atomic.Int64))
	return n.(*atomic.Int64).Load()
}

func (c *calls) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c *calls) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		args, key := cmd.Args(), 1
		if strings.HasPrefix(cmd.Name(), "eval") {
			key = 3
		} else if cmd.Name() != "xrange" {
			return err
		}
		if err == nil {
			n, _ := c.count.LoadOrStore(args[key], new(atomic.Int64))
			n.(*atomic.Int64).Add(1)
		}
		return err
	}
}

func (c *calls) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// The time of keys does not pass by itself on miniredis.
func TestLeadershipOfADeadProcessEnds(t *testing.T) {
	t.Parallel()
	b := newBench(t, jobstest.Open(t, jobstest.StartRedis(t)), jobs.Limits{})
	stop := b.lead(t)
	jobstest.Until(t, "it leads", func() bool { return b.leader(t) != "" })
	var left time.Duration
	jobstest.Until(t, "its leadership is to end", func() bool {
		left = b.client.PTTL(t.Context(), jobs.KeyLeader).Val()
		return left > 0
	})
	if left > 2*time.Second {
		t.Errorf("the leadership of a dead process ends only in %v", left)
	}
	stop()
	if err := b.client.Set(t.Context(), jobs.KeyLeader, "dead", left/4).Err(); err != nil {
		t.Fatal(err)
	}
	b.lead(t)
	jobstest.Until(t, "the next takes over", func() bool { leader := b.leader(t); return leader != "" && leader != "dead" })
}

func TestIndexesForgetExpiredJobsThatNobodyLists(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		b := newBench(t, open(), jobs.Limits{})
		kept := map[string]string{}
		for _, owner := range []string{tenant, "another"} {
			for i := range 30 {
				job, err := b.service.Submit(t.Context(), jobs.Request{Tenant: owner, Spec: spec(10)})
				if err != nil {
					t.Fatal(err)
				}
				if i == 17 {
					kept[owner] = job.ID
				} else if err := b.client.Del(t.Context(), jobs.KeyJob(job.ID)).Err(); err != nil {
					t.Fatal(err)
				}
			}
		}
		b.lead(t)
		for owner, id := range kept {
			jobstest.Until(t, "the index of tenant "+owner+" holds the one job that there is", func() bool {
				index, err := b.client.ZRange(t.Context(), jobs.KeyTenantJobs(owner), 0, -1).Result()
				return err == nil && len(index) == 1 && index[0] == id
			})
		}
	})
}

// log returns the hits of a job's log and the number of its events.
func (b *bench) log(t *testing.T, id string) (hits []jobs.Hit, length int) {
	t.Helper()
	events, err := b.store.Log(t.Context(), id, 0, 100_000)
	if err != nil {
		t.Fatal(err)
	}
	for _, event := range events {
		if event.Hit != nil {
			hits = append(hits, *event.Hit)
		}
	}
	return hits, len(events)
}

// While Redis, or the machine, was away nobody could attend: that is no reason to give up on those who come back.
func TestAttachedJobsOutliveAnAbsence(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		b := newBench(t, open(), jobs.Limits{})
		job := b.submit(t, attached(spec(10)))
		b.reconcile(t)
		b.setJob(t, job.ID, "orphan", 1) // more than ten seconds have passed
		if err := b.client.HSet(t.Context(), jobs.KeySweep(job.ID), "seen", 1).Err(); err != nil {
			t.Fatal(err)
		}
		b.reconcile(t)
		if got := b.get(t, job.ID); got.State != jobs.Pending {
			t.Fatalf("after the absence: got %s %s, want PENDING", got.State, got.Reason)
		}
		b.setJob(t, job.ID, "orphan", 1) // and nobody came back
		b.reconcile(t)
		if got := b.get(t, job.ID); got.State != jobs.Cancelled || got.Reason != jobs.Orphaned {
			t.Fatalf("later: got %s %s, want CANCELLED ORPHANED", got.State, got.Reason)
		}
	})
}

// A leader that dies is no absence: the other processes were there all the time, and could attend. The grace of an orphan
// goes on.
func TestOrphansDoNotOutliveALeader(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		b := newBench(t, open(), jobs.Limits{})
		lead := func() {
			t.Helper()
			if leads, err := b.reconciler.Lead(t.Context(), true); err != nil || !leads {
				t.Fatalf("lead: got %v, %v", leads, err)
			}
		}
		orphan := func(called time.Time) jobs.Job {
			t.Helper()
			job := b.submit(t, attached(spec(10)))
			b.reconcile(t)
			b.setJob(t, job.ID, "orphan", 1)
			now, err := b.client.Time(t.Context()).Result()
			if err != nil {
				t.Fatal(err)
			}
			must := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			must(b.client.HSet(t.Context(), jobs.KeySweep(job.ID), "seen", now.Add(-time.Hour).UnixMilli()).Err())
			must(b.client.HSet(t.Context(), jobs.KeyPresence, "called", called.UnixMilli(), "back", now.Add(-2*time.Hour).UnixMilli()).Err())
			return job
		}
		job := orphan(later) // the leader was away for an hour, the others were not, however long this test takes
		b.reconcile(t)
		if got := b.get(t, job.ID); got.Reason != jobs.Orphaned {
			t.Errorf("when the leader was away: got %s %s, want CANCELLED ORPHANED", got.State, got.Reason)
		}
		job = orphan(longAgo) // all were away
		lead()
		b.reconcile(t)
		if got := b.get(t, job.ID); got.State != jobs.Pending {
			t.Errorf("when all were away: got %s %s, want PENDING", got.State, got.Reason)
		}
		job = orphan(longAgo) // all were away, and the leader has led for long: the clock was set forward
		b.reconcile(t)
		if got := b.get(t, job.ID); got.State != jobs.Pending {
			t.Errorf("when nobody has called since: got %s %s, want PENDING", got.State, got.Reason)
		}
	})
}

// Who does not lead is there all the same, and one that was set back in time is soon there again.
func TestPresence(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		one, other := newBench(t, open(), jobs.Limits{}), newBench(t, open(), jobs.Limits{})
		presence := func() (called, back time.Time) {
			t.Helper()
			all, err := one.client.HGetAll(t.Context(), jobs.KeyPresence).Result()
			if err != nil {
				t.Fatal(err)
			}
			at := func(field string) time.Time {
				n, err := strconv.ParseInt(all[field], 10, 64)
				if err != nil {
					t.Fatalf("%s: %v", field, err)
				}
				return time.UnixMilli(n)
			}
			return at("called"), at("back")
		}
		lead := func(b *bench, want bool) {
			t.Helper()
			if leads, err := b.reconciler.Lead(t.Context(), true); err != nil || leads != want {
				t.Fatalf("lead: got %v, %v, want %v", leads, err, want)
			}
		}
		lead(one, true)
		first, back := presence()
		if !back.Equal(first) {
			t.Errorf("back at %v, want %v, when the first came", back, first)
		}
		jobstest.Until(t, "one that does not lead has said that it is there", func() bool {
			lead(other, false)
			called, _ := presence()
			return called.After(first)
		})
		if _, got := presence(); !got.Equal(back) {
			t.Errorf("back at %v, want %v still", got, back)
		}
		if err := one.client.HSet(t.Context(), jobs.KeyPresence, "called", later.UnixMilli()).Err(); err != nil {
			t.Fatal(err)
		}
		lead(other, false)
		if called, back := presence(); !called.Before(later) || !back.Equal(called) {
			t.Errorf("after the clock was set back: there at %v, back at %v; want now", called, back)
		}
	})
}
