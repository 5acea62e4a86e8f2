package worker_test

import (
	"errors"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/hashfinder/hashfinder/jobs"
	"github.com/hashfinder/hashfinder/jobs/jobstest"
	"github.com/hashfinder/hashfinder/jobs/search"
	"github.com/hashfinder/hashfinder/worker"
	"github.com/hashfinder/hashfinder/worker/kernel"
)

// faulty is the generic kernel until it meets a query whose name tells it to misbehave.
type faulty struct {
	kernel.Generic
	calls   atomic.Int64 // that misbehaved
	running atomic.Int64 // calls of "stay" that have not returned
}

func (*faulty) Name() string { return "faulty" }

func (f *faulty) Scan(queries []kernel.Query, lo, hi uint64, stop *atomic.Bool, report kernel.Report) uint64 {
	switch queries[0].Name {
	case "liar": // finds what is not there
		f.calls.Add(1)
		report(lo+1, []kernel.Hit{{Query: 0, Hit: search.Hit{Index: lo, Distance: 0}}})
		return hi
	case "bomb":
		f.calls.Add(1)
		panic("a fault of the kernel")
	case "stay": // computes until it is told to stop
		f.running.Add(1)
		defer f.running.Add(-1)
		for !stop.Load() {
			runtime.Gosched()
		}
		return lo
	}
	return f.Generic.Scan(queries, lo, hi, stop, report)
}

func TestFaultyKernelIsReplaced(t *testing.T) {
	for _, name := range []string{"liar", "bomb"} {
		t.Run(name, func(t *testing.T) {
			jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
				service, _, _ := jobstest.NewService(t, open(), jobs.Limits{})
				bad := &faulty{}
				start(t, open(), worker.Config{Concurrency: 1, Kernel: bad})
				query := search.Query{Name: name, Interesting: 2}
				job := submit(t, service, query, jobs.Budget{Candidates: 150_000})
				hits, _ := watch(t, service, job.ID)
				if diff := cmp.Diff(reference(query, 150_000), hits); diff != "" {
					t.Errorf("hits (-want +got):\n%s", diff)
				}
				if got := bad.calls.Load(); got != 1 {
					t.Errorf("the faulty kernel was used %d times, want 1", got)
				}
			})
		})
	}
}

func TestKernelThatFailsItsSelfTestIsNotUsed(t *testing.T) {
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		service, _, _ := jobstest.NewService(t, open(), jobs.Limits{})
		start(t, open(), worker.Config{Concurrency: 1, Kernel: blind{}})
		query := search.Query{Name: "seed"}
		hits, _ := watch(t, service, submit(t, service, query, jobs.Budget{}).ID)
		if diff := cmp.Diff(reference(query, 1<<30), hits); diff != "" {
			t.Errorf("hits (-want +got):\n%s", diff)
		}
	})
}

// blind finds nothing.
type blind struct{}

func (blind) Name() string { return "blind" }

func (blind) Scan(_ []kernel.Query, _, hi uint64, _ *atomic.Bool, report kernel.Report) uint64 {
	report(hi, nil)
	return hi
}

func TestCancelledMeansThatNothingRuns(t *testing.T) {
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		service, _, _ := jobstest.NewService(t, open(), jobs.Limits{})
		k := &faulty{}
		start(t, open(), worker.Config{Concurrency: 2, Kernel: k})
		for range 5 {
			job := submit(t, service, search.Query{Name: "stay"}, jobs.Budget{})
			jobstest.Until(t, "both slots compute", func() bool { return k.running.Load() == 2 })
			cancelled, err := service.Cancel(t.Context(), jobs.DefaultTenant, job.ID, jobs.CancelledByClient, time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			if running := k.running.Load(); cancelled.State != jobs.Cancelled || running != 0 {
				t.Fatalf("got %s with %d kernels running, want CANCELLED and 0", cancelled.State, running)
			}
		}
	})
}

func TestChunkOfADeadWorkerRunsAgain(t *testing.T) {
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		service, store, _ := jobstest.NewService(t, open(), jobs.Limits{})
		query := search.Query{Name: "gopherhole", Interesting: 6}
		job := submit(t, service, query, jobs.Budget{Candidates: 200_000})
		// The dead worker: it takes a chunk, hands over a few of its hits, and is not heard of again.
		ticket := jobs.Ticket{Sweep: job.ID, Number: "1", Queue: jobs.QueueInteractive, Jobs: []string{job.ID}, Query: "q"}
		chunk, err := store.Claim(t.Context(), ticket, "dead/1", "dead", 1<<16)
		if err != nil {
			t.Fatal(err)
		}
		first := reference(query, chunk.Hi)[0]
		hit := jobs.Hit{Index: first.Index, Distance: first.Distance}
		if err := store.Flush(t.Context(), chunk, hit.Index+1, [][]jobs.Hit{{hit}}); err != nil {
			t.Fatal(err)
		}
		start(t, open(), worker.Config{Concurrency: 2})
		hits, end := watch(t, service, job.ID)
		if diff := cmp.Diff(reference(query, 200_000), hits); diff != "" {
			t.Errorf("hits (-want +got):\n%s", diff)
		}
		if end.Progress.Searched != 200_000 || end.Progress.Redone != chunk.Hi-chunk.Lo {
			t.Errorf("got %d searched and %d redone, want 200000 and %d", end.Progress.Searched, end.Progress.Redone, chunk.Hi-chunk.Lo)
		}
		if _, _, err := store.Commit(t.Context(), chunk, [][]jobs.Hit{nil}); !errors.Is(err, jobs.ErrLost) {
			t.Errorf("commit of the dead worker: got %v, want ErrLost", err)
		}
	})
}

// A worker that Redis does not answer stops computing before its leases can be given to others.
func TestWorkerWithoutRedisStopsComputing(t *testing.T) {
	server := miniredis.RunT(t)
	open := func() redis.UniversalClient { return jobstest.Open(t, "redis://"+server.Addr()) }
	service, _, _ := jobstest.NewService(t, open(), jobs.Limits{})
	k := &faulty{}
	start(t, open(), worker.Config{Concurrency: 2, Kernel: k})
	job := submit(t, service, search.Query{Name: "stay"}, jobs.Budget{})
	jobstest.Until(t, "both slots compute", func() bool { return k.running.Load() == 2 })
	server.Close()
	jobstest.Until(t, "nothing computes", func() bool { return k.running.Load() == 0 })
	if err := server.Restart(); err != nil {
		t.Fatal(err)
	}
	jobstest.Until(t, "it computes again", func() bool { return k.running.Load() > 0 })
	if _, err := service.Cancel(t.Context(), jobs.DefaultTenant, job.ID, jobs.CancelledByClient, time.Minute); err != nil {
		t.Fatal(err)
	}
}

func TestShutdownLeavesNothingHeld(t *testing.T) {
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		service, store, _ := jobstest.NewService(t, open(), jobs.Limits{})
		query := search.Query{Name: "gopherhole", Interesting: 6}
		job := submit(t, service, query, jobs.Budget{Candidates: 1 << 19})
		stop := start(t, open(), worker.Config{Concurrency: 2})
		jobstest.Until(t, "it has begun", func() bool {
			job, err := service.Get(t.Context(), jobs.DefaultTenant, job.ID)
			if err != nil {
				t.Fatal(err)
			}
			return job.Progress.Searched > 0
		})
		stop()
		fleet, err := store.Fleet(t.Context())
		if err != nil || fleet.Workers != 0 {
			t.Errorf("fleet after the shutdown: got %+v, %v, want no worker", fleet, err)
		}
		start(t, open(), worker.Config{Concurrency: 1})
		hits, end := watch(t, service, job.ID)
		if diff := cmp.Diff(reference(query, 1<<19), hits); diff != "" {
			t.Errorf("hits (-want +got):\n%s", diff)
		}
		if end.Progress.Redone != 0 {
			t.Errorf("%d candidates were searched again", end.Progress.Redone)
		}
	})
}
