package worker_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/hashfinder/hashfinder/jobs"
	"github.com/hashfinder/hashfinder/jobs/jobstest"
	"github.com/hashfinder/hashfinder/jobs/search"
	"github.com/hashfinder/hashfinder/worker"
)

// start runs a worker until the test ends, or until the returned function is called.
func start(t *testing.T, client redis.UniversalClient, cfg worker.Config) (stop func()) {
	t.Helper()
	cfg.Redis, cfg.Store, cfg.Queue = client, jobs.NewStore(client), jobs.NewQueue(client)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	w, err := worker.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("worker: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

func spec(q search.Query, candidates uint64) jobs.Spec {
	return jobs.Spec{
		Profile: search.Profile, Query: q.Encode(), Grid: search.Grid(), Attached: true,
		Budget: jobs.Budget{Candidates: candidates},
	}
}

// watch returns the hits and the end of a job.
func watch(t *testing.T, service *jobs.Service, id string) ([]search.Hit, jobs.Job) {
	t.Helper()
	w, _, err := service.Watch(t.Context(), jobs.DefaultTenant, id, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	var hits []search.Hit
	var seq uint64
	for {
		event, err := w.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if event.Progress != nil {
			continue
		}
		if seq++; event.Sequence != seq {
			t.Fatalf("got event %d, want %d", event.Sequence, seq)
		}
		if event.Extended != "" {
			continue
		}
		if event.End != nil {
			if _, err := w.Next(t.Context()); !errors.Is(err, io.EOF) {
				t.Errorf("after the end: got %v, want io.EOF", err)
			}
			return hits, *event.End
		}
		hits = append(hits, search.Hit{Index: event.Hit.Index, Distance: event.Hit.Distance})
	}
}

// reference is the plain scan, which is slow: keep end small.
func reference(q search.Query, end uint64) []search.Hit {
	var hits []search.Hit
	search.Scan(q, 0, end, func(h search.Hit) bool {
		hits = append(hits, h)
		return true
	})
	return hits
}

func submit(t *testing.T, service *jobs.Service, q search.Query, budget jobs.Budget) jobs.Job {
	t.Helper()
	request := jobs.Request{Tenant: jobs.DefaultTenant, Spec: spec(q, 0)}
	request.Spec.Budget = budget
	job, err := service.Submit(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	return job
}

func TestAnswerEqualsSequentialScan(t *testing.T) {
	tests := []struct {
		name       string
		query      search.Query
		candidates uint64
		workers    int
		state      jobs.State
		reason     jobs.Reason
	}{
		{"ideal hit", search.Query{Name: "seed", Interesting: 1}, 1 << 30, 1, jobs.Succeeded, jobs.Found},
		{"ideal hit, two workers", search.Query{Name: "seed", Interesting: 1}, 1 << 30, 2, jobs.Succeeded, jobs.Found},
		{"candidates used up", search.Query{Name: "doctor", Interesting: 3}, 200_003, 2, jobs.Exhausted, jobs.CandidatesExhausted},
		{"more hits than a batch holds", search.Query{Name: "abcdefghijkl", Interesting: 9}, 100_000, 2, jobs.Exhausted, jobs.CandidatesExhausted},
		{"one candidate", search.Query{Name: "doctor"}, 1, 1, jobs.Exhausted, jobs.CandidatesExhausted},
		{"first candidate is ideal", search.Query{Name: "a", Ideal: 1}, 5, 1, jobs.Succeeded, jobs.Found},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
				service, _, _ := jobstest.NewService(t, open(), jobs.Limits{})
				for range test.workers {
					start(t, open(), worker.Config{Concurrency: 2})
				}
				job := submit(t, service, test.query, jobs.Budget{Candidates: test.candidates})
				hits, end := watch(t, service, job.ID)
				if end.State != test.state || end.Reason != test.reason {
					t.Errorf("got %s, %s, want %s, %s", end.State, end.Reason, test.state, test.reason)
				}
				want := reference(test.query, test.candidates)
				if diff := cmp.Diff(want, hits); diff != "" {
					t.Errorf("hits (-want +got):\n%s", diff)
				}
				searched := test.candidates
				if test.state == jobs.Succeeded {
					searched = want[len(want)-1].Index + 1
				}
				if end.Progress.Searched != searched {
					t.Errorf("searched: got %d, want %d", end.Progress.Searched, searched)
				}
			})
		})
	}
}

func TestHitBudgetIsExact(t *testing.T) {
	query := search.Query{Name: "abcdefghijkl", Interesting: 9} // every tenth candidate hits
	all := reference(query, 1<<17)
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		service, _, _ := jobstest.NewService(t, open(), jobs.Limits{})
		start(t, open(), worker.Config{Concurrency: 2})
		start(t, open(), worker.Config{Concurrency: 2})
		for _, budget := range []uint64{1, 999, 1000, 1001, 7777} {
			job := submit(t, service, query, jobs.Budget{Candidates: 1 << 30, Hits: budget})
			hits, end := watch(t, service, job.ID)
			if end.State != jobs.Exhausted || end.Reason != jobs.HitsExhausted || end.Hits != budget {
				t.Errorf("budget %d: got %s, %s, %d hits", budget, end.State, end.Reason, end.Hits)
			}
			if diff := cmp.Diff(all[:budget], hits); diff != "" {
				t.Errorf("budget %d: hits (-want +got):\n%s", budget, diff)
			}
			if want := all[budget-1].Index + 1; end.Progress.Searched != want {
				t.Errorf("budget %d: searched %d, want %d", budget, end.Progress.Searched, want)
			}
		}
	})
}

func TestManyJobsAtOnce(t *testing.T) {
	queries := []search.Query{{Name: "dog", Interesting: 1}, {Name: "cat"}, {Name: "gopher", Ideal: 2}, {Name: "+/+"}, {Name: "x=", Ideal: 1}}
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		service, _, _ := jobstest.NewService(t, open(), jobs.Limits{})
		start(t, open(), worker.Config{Concurrency: 1})
		start(t, open(), worker.Config{Concurrency: 2})
		var ids []string
		for _, q := range queries {
			ids = append(ids, submit(t, service, q, jobs.Budget{Candidates: 1 << 17}).ID)
		}
		for i, q := range queries {
			hits, _ := watch(t, service, ids[i])
			if diff := cmp.Diff(reference(q, 1<<17), hits); diff != "" {
				t.Errorf("%v: hits (-want +got):\n%s", q, diff)
			}
		}
	})
}

func TestStrangeTasksDoNoHarm(t *testing.T) {
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		client := open()
		service, _, _ := jobstest.NewService(t, client, jobs.Limits{})
		start(t, open(), worker.Config{Concurrency: 1})
		queue := asynq.NewClientFromRedisClient(client)
		inspector := asynq.NewInspectorFromRedisClient(client)
		tasks := []*asynq.Task{
			asynq.NewTask("other:type", []byte(`{}`)),
			asynq.NewTask(jobs.TaskType, nil),
			asynq.NewTask(jobs.TaskType, []byte("\x00\xff not JSON")),
			asynq.NewTask(jobs.TaskType, []byte(`{"sweep":"x","ticket":"1","queue":"interactive","jobs":[]}`)),
			asynq.NewTask(jobs.TaskType, []byte(`{"sweep":"x","ticket":"1","queue":"elsewhere","jobs":["x"]}`)),
		}
		for _, task := range tasks {
			if _, err := queue.Enqueue(task, asynq.Queue(jobs.QueueInteractive)); err != nil {
				t.Fatal(err)
			}
		}
		// A ticket of a sweep that never was is not malformed: there is just nothing to do.
		stray := asynq.NewTask(jobs.TaskType, []byte(`{"sweep":"x","ticket":"1","queue":"interactive","jobs":["x"],"query":"q"}`))
		if _, err := queue.Enqueue(stray, asynq.Queue(jobs.QueueInteractive)); err != nil {
			t.Fatal(err)
		}
		query := search.Query{Name: "seed"}
		job := submit(t, service, query, jobs.Budget{Candidates: 1 << 30})
		hits, _ := watch(t, service, job.ID)
		if diff := cmp.Diff(reference(query, 1<<30), hits); diff != "" {
			t.Errorf("hits (-want +got):\n%s", diff)
		}
		jobstest.Until(t, "the malformed tasks are archived", func() bool {
			info, err := inspector.GetQueueInfo(jobs.QueueInteractive)
			if err != nil {
				t.Fatal(err)
			}
			return info.Archived == len(tasks) && info.Retry == 0
		})
	})
}
