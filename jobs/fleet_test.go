package jobs_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/hashfinder/hashfinder/jobs"
	"github.com/hashfinder/hashfinder/jobs/jobstest"
)

func TestFleet(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		store := jobs.NewStore(open())
		beat := func(worker string, slots int, rate float64) {
			t.Helper()
			if err := store.Heartbeat(t.Context(), worker, slots, rate); err != nil {
				t.Fatal(err)
			}
			// It counts for five seconds; here, however slow the machine is.
			if slots > 0 {
				record := fmt.Sprintf("%d %d %.0f", later.UnixMilli(), slots, rate)
				if err := store.Client().HSet(t.Context(), jobs.KeyFleet, worker, record).Err(); err != nil {
					t.Fatal(err)
				}
			}
		}
		want := func(what string, want jobs.Fleet) {
			t.Helper()
			if got, err := store.Fleet(t.Context()); err != nil || got != want {
				t.Errorf("%s: got %+v, %v, want %+v", what, got, err, want)
			}
		}
		want("nobody", jobs.Fleet{})
		beat("a", 4, 1e6)
		want("one", jobs.Fleet{Workers: 1, Slots: 4, Rate: 1e6})
		beat("b", 2, 123456789012.5)
		beat("c d", 1, 0)
		want("three", jobs.Fleet{Workers: 3, Slots: 7, Rate: 1e6 + 123456789012})
		beat("a", 8, 2e6)
		beat("b", 0, 0)
		want("one grew and one left", jobs.Fleet{Workers: 2, Slots: 9, Rate: 2e6})
		beat("b", 0, 0)
		want("one left twice", jobs.Fleet{Workers: 2, Slots: 9, Rate: 2e6})

		if err := store.Client().HSet(t.Context(), jobs.KeyFleet, "a", "1000 8 2000000").Err(); err != nil {
			t.Fatal(err)
		}
		want("one has gone quiet", jobs.Fleet{Workers: 1, Slots: 1})
		beat("e", 1, 5)
		if left, err := store.Client().HExists(t.Context(), jobs.KeyFleet, "a").Result(); err != nil || left {
			t.Errorf("the record of a worker that has gone quiet is kept (%v)", err)
		}
		want("another came", jobs.Fleet{Workers: 2, Slots: 2, Rate: 5})
		names, err := store.Workers(t.Context())
		if slices.Sort(names); err != nil || !slices.Equal(names, []string{"c d", "e"}) {
			t.Errorf("got %q, %v, want the workers present", names, err)
		}
	})
}

func TestHeartbeatsLastFiveSeconds(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		store := jobs.NewStore(open())
		var before, until int64
		now, err := store.Client().Time(t.Context()).Result()
		if err != nil {
			t.Fatal(err)
		}
		before = now.UnixMilli()
		if err := store.Heartbeat(t.Context(), "w", 3, 7); err != nil {
			t.Fatal(err)
		}
		record, err := store.Client().HGet(t.Context(), jobs.KeyFleet, "w").Result()
		if err != nil {
			t.Fatal(err)
		}
		if now, err = store.Client().Time(t.Context()).Result(); err != nil {
			t.Fatal(err)
		}
		var slots, rate int
		if _, err := fmt.Sscan(record, &until, &slots, &rate); err != nil || slots != 3 || rate != 7 {
			t.Fatalf("got the record %q, %v", record, err)
		}
		if until < before+5000 || until > now.UnixMilli()+5000 {
			t.Errorf("a heartbeat between %d and %d counts until %d, want five seconds", before, now.UnixMilli(), until)
		}
	})
}

func TestWindow(t *testing.T) {
	t.Parallel()
	for slots := range 70 {
		fleet := jobs.Fleet{Slots: slots}
		for live := range 200 {
			window := fleet.Window(live)
			switch {
			case window < 2:
				t.Errorf("%d slots, %d jobs: a window of %d leaves a slot idle between two chunks", slots, live, window)
			case window*max(1, live) < slots:
				t.Errorf("%d slots, %d jobs: windows of %d leave slots idle", slots, live, window)
			case window > max(2, slots/max(1, live)+2):
				t.Errorf("%d slots, %d jobs: a window of %d is more than its share", slots, live, window)
			case live > 1 && window > fleet.Window(live-1):
				t.Errorf("%d slots: the window grows with the %dth job", slots, live)
			}
		}
		if window := fleet.Window(1); window < slots {
			t.Errorf("%d slots: a lone job has a window of %d", slots, window)
		}
	}
}

func TestWindowFollowsTheFleet(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		b := newBench(t, open(), jobs.Limits{})
		alone := b.submit(t, spec(1<<30))
		tickets := func(job jobs.Job) int { return len(b.waiting(t, jobs.QueueBatch, job.ID)) }
		if got := tickets(alone); got != 2 {
			t.Errorf("no workers: got %d tickets, want 2", got)
		}
		if err := b.client.HSet(t.Context(), jobs.KeyFleet, "w", fmt.Sprint(later.UnixMilli(), " 16 0")).Err(); err != nil {
			t.Fatal(err)
		}
		b.reconcile(t)
		if got := tickets(alone); got < 16 {
			t.Errorf("16 slots came: got %d tickets, want one for each", got)
		}
		// With many others it shares: what it has done calls for nobody while more work for it than its part.
		for range 7 {
			b.submit(t, spec(1<<30))
		}
		b.reconcile(t)
		before := tickets(alone)
		b.commit(t, b.claim(t, alone))
		if got := tickets(alone); got != before {
			t.Errorf("7 jobs came: got %d new tickets after a commit, want none", got-before)
		}
	})
}
