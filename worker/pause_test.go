package worker_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/hashfinder/hashfinder/jobs"
	"github.com/hashfinder/hashfinder/jobs/jobstest"
	"github.com/hashfinder/hashfinder/jobs/search"
	"github.com/hashfinder/hashfinder/worker"
)

// submitAlone submits a job that lives on its own: others cannot be paused.
func submitAlone(t *testing.T, service *jobs.Service, q search.Query, budget jobs.Budget) jobs.Job {
	t.Helper()
	request := jobs.Request{Tenant: jobs.DefaultTenant, Spec: spec(q, 0)}
	request.Spec.Attached, request.Spec.Budget = false, budget
	job, err := service.Submit(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	return job
}

func TestPausedMeansThatNothingRuns(t *testing.T) {
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		service, _, _ := jobstest.NewService(t, open(), jobs.Limits{})
		k := &faulty{}
		start(t, open(), worker.Config{Concurrency: 2, Kernel: k})
		job := submitAlone(t, service, search.Query{Name: "stay"}, jobs.Budget{})
		for range 5 {
			jobstest.Until(t, "both slots compute", func() bool { return k.running.Load() == 2 })
			paused, err := service.Pause(t.Context(), jobs.DefaultTenant, job.ID, time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			if running := k.running.Load(); paused.State != jobs.Paused || running != 0 {
				t.Fatalf("got %s with %d kernels running, want PAUSED and 0", paused.State, running)
			}
			if _, err := service.Resume(t.Context(), jobs.DefaultTenant, job.ID); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := service.Cancel(t.Context(), jobs.DefaultTenant, job.ID, jobs.CancelledByClient, time.Minute); err != nil {
			t.Fatal(err)
		}
	})
}

// The answer does not depend on pauses.
func TestPausesChangeNoAnswer(t *testing.T) {
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		service, _, _ := jobstest.NewService(t, open(), jobs.Limits{})
		start(t, open(), worker.Config{Concurrency: 2})
		const candidates = 1 << 20
		query := search.Query{Name: "gopherhole", Interesting: 6}
		job := submitAlone(t, service, query, jobs.Budget{Candidates: candidates})
		pauses := make(chan int, 1)
		go func() {
			n := 0
			defer func() { pauses <- n }()
			// Every other pause comes at once, before or while a chunk is searched. More of them would leave a slow machine no
			// time to finish one.
			for n < 50 {
				if _, err := service.Pause(t.Context(), jobs.DefaultTenant, job.ID, time.Minute); err != nil {
					return // it has ended
				}
				n++
				resumed, err := service.Resume(t.Context(), jobs.DefaultTenant, job.ID)
				if err != nil {
					return
				}
				for wait := n%2 == 0; wait; {
					got, err := service.Get(t.Context(), jobs.DefaultTenant, job.ID)
					if err != nil || got.State.Terminal() {
						return
					}
					wait = got.Progress.Searched == resumed.Progress.Searched
				}
			}
		}()
		hits, end := watch(t, service, job.ID)
		if diff := cmp.Diff(reference(query, candidates), hits); diff != "" {
			t.Errorf("hits (-want +got):\n%s", diff)
		}
		if end.State != jobs.Exhausted || end.Progress.Searched != candidates {
			t.Errorf("got %+v, want EXHAUSTED after %d", end, candidates)
		}
		n := <-pauses
		if n == 0 {
			t.Error("it was not paused once")
		}
		t.Logf("%d pauses, %d candidates searched again", n, end.Progress.Redone)
	})
}
