package jobs_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/hashfinder/hashfinder/jobs"
	"github.com/hashfinder/hashfinder/jobs/jobstest"
)

// When Redis's clock is set back, what was timed before lies in the future, and is not to be waited for.
func TestClockThatIsSetBack(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		b := newBench(t, open(), jobs.Limits{})
		job := b.submit(t, attached(spec(10)))
		b.claim(t, job) // by a worker that dies
		b.due(t, job.ID, later)
		b.setJob(t, job.ID, "orphan", later.UnixMilli())
		leases := jobs.KeySweep(job.ID) + ":leases"
		for _, attempt := range b.client.ZRange(t.Context(), leases, 0, -1).Val() {
			if err := b.client.ZAdd(t.Context(), leases, redis.Z{Score: float64(later.UnixMilli()), Member: attempt}).Err(); err != nil {
				t.Fatal(err)
			}
		}
		b.reconcile(t)
		const most = time.Minute // a lease is held for 3 s, a ticket for 2
		soon := float64(time.Now().Add(most).UnixMilli())
		for _, key := range []string{leases, jobs.KeySweep(job.ID) + ":tickets"} {
			all := b.client.ZRangeWithScores(t.Context(), key, 0, -1).Val()
			if len(all) == 0 || all[len(all)-1].Score > soon {
				t.Errorf("%s: got %v, want what ends within %v", key, all, most)
			}
		}
		if orphan, err := b.client.HGet(t.Context(), jobs.KeyJob(job.ID), "orphan").Float64(); err != nil || orphan > soon {
			t.Errorf("an attached job is an orphan at %v (%v), want within %v", orphan, err, most)
		}
	})
}

func TestLeaderOfAClockThatIsSetBack(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		b := newBench(t, open(), jobs.Limits{})
		const leader = "hashfinder:{p0}:leader"
		if err := b.client.Set(t.Context(), leader, "dead", time.Hour).Err(); err != nil {
			t.Fatal(err)
		}
		b.lead(t)
		jobstest.Until(t, "another leads", func() bool { return b.client.Get(t.Context(), leader).Val() != "dead" })
	})
}

func TestStopOfAClockThatIsSetBack(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		b := newBench(t, open(), jobs.Limits{})
		job := b.submit(t, spec(10))
		chunk := b.claim(t, job)
		if _, err := b.service.Cancel(t.Context(), tenant, job.ID, jobs.CancelledByClient, 0); err != nil {
			t.Fatal(err)
		}
		b.setJob(t, job.ID, "stop", later.UnixMilli())
		b.release(t, chunk, false)
		if got := b.get(t, job.ID); got.State != jobs.Cancelled || got.StopLatency != 0 {
			t.Errorf("got %s after %v, want CANCELLED after 0s", got.State, got.StopLatency)
		}
	})
}
