package api

import (
	"context"
	"encoding/base64"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/hashfinder/hashfinder/jobs"
	"github.com/hashfinder/hashfinder/jobs/search"
	"github.com/hashfinder/hashfinder/proto/hash_name"
	hashfinderv1 "github.com/hashfinder/hashfinder/proto/hashfinder/v1"
)

// scanned is what a sequential scan of [0, hi) reports.
func scanned(q search.Query, hi uint64) []*hash_name.HashNameResponse {
	var all []*hash_name.HashNameResponse
	search.Scan(q, 0, hi, func(h search.Hit) bool {
		secret := search.AppendSecret(nil, h.Index)
		hashed := search.HashedName(secret)
		all = append(all, &hash_name.HashNameResponse{
			Secret: base64.StdEncoding.EncodeToString(secret), HashedName: string(hashed[:]), HammingDistance: int32(h.Distance),
		})
		return true
	})
	return all
}

func wantResponses(t *testing.T, got, want []*hash_name.HashNameResponse) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("got %d hits, want %d", len(got), len(want))
	}
	for i := range got {
		if got[i].String() != want[i].String() {
			t.Fatalf("hit %d: got %v, want %v", i, got[i], want[i])
		}
	}
}

func TestFind(t *testing.T) {
	e := newEnv(t, jobs.Limits{}, nil)
	e.work(t)
	q := search.Query{Name: "Dog"}
	var header metadata.MD
	// Whatever the interesting distance is, Find pays no heed to it.
	got, err := e.finder.Find(t.Context(), &hash_name.HashNameRequest{DesiredName: q.Name, InterestingHammingDistance: -7}, grpc.Header(&header))
	if err != nil {
		t.Fatal(err)
	}
	wantResponses(t, []*hash_name.HashNameResponse{got}, scanned(q, 1<<20))

	job := e.onlyJob(t)
	if job.State != jobs.Succeeded || job.Hits != 1 || !job.Spec.Attached {
		t.Errorf("got job %+v, want an attached one that has succeeded with one hit", job)
	}
	if got := header.Get(jobHeader); len(got) != 1 || got[0] != jobName(job.ID) {
		t.Errorf("got header %v, want %s", got, jobName(job.ID))
	}
}

func TestFindRange(t *testing.T) {
	e := newEnv(t, jobs.Limits{}, nil)
	e.work(t)
	for _, q := range []search.Query{
		{Name: "dog", Ideal: 0, Interesting: 1},
		{Name: "dog", Ideal: 0},
		{Name: "doctor", Ideal: 3, Interesting: 2},
		{Name: "a", Ideal: 1, Interesting: 1}, // the empty secret
	} {
		stream, err := e.finder.FindRange(t.Context(), &hash_name.HashNameRequest{
			DesiredName: q.Name, IdealHammingDistance: int32(q.Ideal), InterestingHammingDistance: int32(q.Interesting),
		})
		if err != nil {
			t.Fatal(err)
		}
		got, err := received(stream)
		if err != nil {
			t.Fatalf("%v: %v", q, err)
		}
		wantResponses(t, got, scanned(q, 1<<20))
	}
}

func TestFindRangeExhausted(t *testing.T) {
	t.Run("candidates", func(t *testing.T) {
		e := newEnv(t, jobs.Limits{Ceiling: jobs.Budget{Candidates: 1000}}, nil)
		e.work(t)
		q := search.Query{Name: never, Interesting: 19}
		stream, err := e.finder.FindRange(t.Context(), &hash_name.HashNameRequest{DesiredName: q.Name, InterestingHammingDistance: 19})
		if err != nil {
			t.Fatal(err)
		}
		got, err := received(stream)
		wantBudget(t, err, "candidates", "1000", "1000")
		wantResponses(t, got, scanned(q, 1000))
	})
	t.Run("hits", func(t *testing.T) {
		e := newEnv(t, jobs.Limits{Ceiling: jobs.Budget{Hits: 3}}, nil)
		e.work(t)
		stream, err := e.finder.FindRange(t.Context(), &hash_name.HashNameRequest{DesiredName: never, InterestingHammingDistance: 24})
		if err != nil {
			t.Fatal(err)
		}
		got, err := received(stream)
		wantBudget(t, err, "hits", "3", "3")
		wantResponses(t, got, scanned(search.Query{Name: never, Interesting: 24}, 3))
	})
	t.Run("duration of the call", func(t *testing.T) {
		e := newEnv(t, jobs.Limits{}, func(c *Config) { c.MaxCallDuration = 50 * time.Millisecond })
		_, err := e.finder.Find(t.Context(), &hash_name.HashNameRequest{DesiredName: never})
		wantBudget(t, err, "duration", "50ms", "50ms")
		if job := e.ended(t, e.onlyJob(t).ID); job.Reason != jobs.DeadlineExceeded {
			t.Errorf("the job ended %s, want DEADLINE_EXCEEDED", job.Reason)
		}
	})
}

func wantBudget(t *testing.T, err error, budget, used, limit string) {
	t.Helper()
	info := wantError(t, err, codes.ResourceExhausted, reasonBudgetUsedUp).GetMetadata()
	if info["budget"] != budget || info["used"] != used || info["limit"] != limit {
		t.Errorf("got metadata %v, want budget %s, used %s, limit %s", info, budget, used, limit)
	}
	if len(detail[*errdetails.QuotaFailure](err).GetViolations()) != 1 {
		t.Errorf("error %v has no QuotaFailure", err)
	}
}

// TestCallEnds lets calls end before their searches do, in every way, while a worker holds a chunk.
func TestCallEnds(t *testing.T) {
	for _, test := range []struct {
		name   string
		end    func(t *testing.T, e *env, cancel context.CancelFunc, chunk *jobs.Chunk)
		code   codes.Code
		reason string // of the ErrorInfo, "" where the client makes the error itself
		job    jobs.Reason
	}{
		{
			"client cancels", func(_ *testing.T, _ *env, cancel context.CancelFunc, _ *jobs.Chunk) { cancel() },
			codes.Canceled, "", jobs.CancelledByClient,
		},
		{
			"client vanishes", func(_ *testing.T, e *env, _ context.CancelFunc, _ *jobs.Chunk) { _ = e.conn.Close() },
			codes.Canceled, "", jobs.CancelledByClient,
		},
		{"server shuts down", func(t *testing.T, e *env, _ context.CancelFunc, _ *jobs.Chunk) {
			t.Helper()
			e.server.Shutdown(t.Context())
		}, codes.Unavailable, reasonShuttingDown, jobs.Orphaned},
		{"somebody cancels the job", func(t *testing.T, e *env, _ context.CancelFunc, chunk *jobs.Chunk) {
			t.Helper()
			job, err := e.jobs.CancelJob(t.Context(), &hashfinderv1.CancelJobRequest{Name: jobName(chunk.Sweep)})
			if err != nil || job.GetState() != hashfinderv1.Job_CANCELLING {
				t.Errorf("got state %v (%v) while a worker computes, want CANCELLING", job.GetState(), err)
			}
			if _, err := e.store.Release(t.Context(), chunk, false); err != nil {
				t.Error(err)
			}
		}, codes.Canceled, reasonJobCancelled, jobs.CancelledByClient},
	} {
		for _, method := range []string{"Find", "FindRange"} {
			t.Run(test.name+" "+method, func(t *testing.T) {
				e := newEnv(t, jobs.Limits{}, nil)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				result := make(chan error, 1)
				go func() { result <- e.call(ctx, method) }()
				job := e.onlyJob(t)
				chunk, err := e.claim(t.Context(), job.ID, 1)
				if err != nil {
					t.Fatal(err)
				}
				test.end(t, e, cancel, chunk)
				if err := <-result; test.reason != "" {
					wantError(t, err, test.code, test.reason)
				} else if status.Code(err) != test.code {
					t.Errorf("got %v, want %v", err, test.code)
				}
				eventually(t, "the job is told to stop", func() bool {
					stopped, err := e.store.Stopped(t.Context(), []string{job.ID})
					return err == nil && stopped[0]
				})
				got, err := e.service.Get(t.Context(), jobs.DefaultTenant, job.ID)
				if err != nil || got.Reason != test.job {
					t.Errorf("got job %s: %s (%v), want reason %s", got.State, got.Reason, err, test.job)
				}
			})
		}
	}
}

// call makes a call of HashFinder that finds nothing.
func (e *env) call(ctx context.Context, method string) error {
	req := &hash_name.HashNameRequest{DesiredName: never}
	if method == "Find" {
		_, err := e.finder.Find(ctx, req)
		return err
	}
	stream, err := e.finder.FindRange(ctx, req)
	if err != nil {
		return err
	}
	_, err = received(stream)
	return err
}

func TestFindDeadline(t *testing.T) {
	e := newEnv(t, jobs.Limits{}, nil)
	for _, method := range []string{"Find", "FindRange"} {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		err := e.call(ctx, method)
		cancel()
		if code := codes.DeadlineExceeded; status.Code(err) != code {
			t.Errorf("%s: got %v, want %v", method, err, code)
		}
	}
	var list []jobs.Job
	eventually(t, "there are two jobs", func() bool {
		var err error
		if list, _, err = e.service.List(t.Context(), jobs.DefaultTenant, "", 10); err != nil {
			t.Fatal(err)
		}
		return len(list) == 2
	})
	for i := range list {
		if job := e.ended(t, list[i].ID); job.State != jobs.Cancelled || job.Reason != jobs.DeadlineExceeded {
			t.Errorf("got job %s: %s, want CANCELLED: DEADLINE_EXCEEDED", job.State, job.Reason)
		}
	}
}
