package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/hashfinder/hashfinder/jobs"
	"github.com/hashfinder/hashfinder/jobs/jobstest"
)

const tenant = jobs.DefaultTenant

// bench is a service without workers and without a running reconciler: nothing happens but what the test does.
type bench struct {
	client     redis.UniversalClient
	store      *jobs.Store
	queue      *jobs.Queue
	inspector  *asynq.Inspector
	relay      *jobs.Relay
	service    *jobs.Service
	reconciler *jobs.Reconciler
	claims     int
}

func newBench(t *testing.T, client redis.UniversalClient, limits jobs.Limits) *bench {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	b := &bench{
		client: client, store: jobs.NewStore(client), queue: jobs.NewQueue(client), inspector: asynq.NewInspectorFromRedisClient(client),
	}
	b.relay = jobs.NewRelay(b.store, log)
	t.Cleanup(func() { b.relay.Close() })
	b.service = jobs.NewService(b.store, b.queue, b.relay, limits, log)
	b.reconciler = jobs.NewReconciler(b.store, b.queue, log)
	return b
}

// firstChunk is the end of the first chunk of every sweep of spec, and secondChunk that of the next one.
const firstChunk, secondChunk = 65_793, 65_793 + 65_536

// spec is that of a job which lives on its own.
func spec(candidates uint64) jobs.Spec {
	return jobs.Spec{
		Profile: "test", Query: []byte(`{"name":"doctor"}`), Grid: []uint64{firstChunk, 16_843_009},
		Budget: jobs.Budget{Candidates: candidates},
	}
}

func attached(s jobs.Spec) jobs.Spec {
	s.Attached = true
	return s
}

// submit stores a job of the default tenant.
func (b *bench) submit(t *testing.T, spec jobs.Spec) jobs.Job {
	t.Helper()
	job, err := b.service.Submit(t.Context(), jobs.Request{Tenant: tenant, Spec: spec})
	if err != nil {
		t.Fatal(err)
	}
	return job
}

func (b *bench) get(t *testing.T, id string) jobs.Job {
	t.Helper()
	job, err := b.service.Get(t.Context(), tenant, id)
	if err != nil {
		t.Fatal(err)
	}
	return job
}

// waiting returns the tickets of a sweep that wait in a queue.
func (b *bench) waiting(t *testing.T, queue, sweep string) []jobs.Ticket {
	t.Helper()
	tasks, err := b.inspector.ListPendingTasks(queue, asynq.PageSize(1000))
	if err != nil && !errors.Is(err, asynq.ErrQueueNotFound) {
		t.Fatal(err)
	}
	var waiting []jobs.Ticket
	for _, task := range tasks {
		ticket, err := jobs.DecodeTicket(task.Payload)
		if err != nil {
			t.Fatal(err)
		}
		if ticket.Sweep == sweep {
			waiting = append(waiting, ticket)
		}
	}
	return waiting
}

// tryClaim does what a worker does with the tickets of a job's sweep; nil when they call for nothing.
func (b *bench) tryClaim(t *testing.T, job jobs.Job) *jobs.Chunk {
	t.Helper()
	queue := jobs.QueueBatch
	if job.Spec.Attached {
		queue = jobs.QueueInteractive
	}
	for _, ticket := range b.waiting(t, queue, job.ID) {
		b.claims++
		chunk, err := b.store.Claim(t.Context(), ticket, fmt.Sprint(job.ID, "/", b.claims), "worker", 1<<16)
		if err == nil {
			b.lease(t, chunk, later) // it ends when the test wants it, however slow the machine is
			return chunk
		}
		if !errors.Is(err, jobs.ErrIdle) {
			t.Fatal(err)
		}
	}
	return nil
}

func (b *bench) claim(t *testing.T, job jobs.Job) *jobs.Chunk {
	t.Helper()
	chunk := b.tryClaim(t, job)
	if chunk == nil { // a reconciler may have made a ticket that it has yet to put into the queue
		jobstest.Until(t, "a ticket of the job calls for a worker", func() bool {
			chunk = b.tryClaim(t, job)
			return chunk != nil
		})
	}
	return chunk
}

func (b *bench) commit(t *testing.T, chunk *jobs.Chunk, hits ...jobs.Hit) {
	t.Helper()
	next, more, err := b.store.Commit(t.Context(), chunk, [][]jobs.Hit{hits})
	for more && err == nil {
		more, err = b.store.Drain(t.Context(), chunk)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := b.queue.Enqueue(t.Context(), next); err != nil {
		t.Fatal(err)
	}
}

func (b *bench) release(t *testing.T, chunk *jobs.Chunk, died bool) {
	t.Helper()
	next, err := b.store.Release(t.Context(), chunk, died)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.queue.Enqueue(t.Context(), next); err != nil {
		t.Fatal(err)
	}
}

func (b *bench) reconcile(t *testing.T) {
	t.Helper()
	if err := b.reconciler.Reconcile(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// succeed runs a job of one chunk to its end.
func (b *bench) succeed(t *testing.T, job jobs.Job) {
	t.Helper()
	b.commit(t, b.claim(t, job), jobs.Hit{Index: 0, Ideal: true})
	if got := b.get(t, job.ID); got.State != jobs.Succeeded {
		t.Fatalf("got %s, want SUCCEEDED", got.State)
	}
}

// cancel stops a job that nothing runs for.
func (b *bench) cancel(t *testing.T, id string) {
	t.Helper()
	if err := b.store.Cancel(t.Context(), tenant, id, jobs.CancelledByClient); err != nil {
		t.Fatal(err)
	}
}

func keys(t *testing.T, client redis.UniversalClient) []string {
	t.Helper()
	names, err := client.Keys(t.Context(), "*").Result()
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return names
}

// contents returns all keys and what they hold.
func contents(t *testing.T, client redis.UniversalClient) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, key := range keys(t, client) {
		kind, err := client.Type(t.Context(), key).Result()
		if err != nil {
			t.Fatal(err)
		}
		var value any
		switch kind {
		case "string":
			value, err = client.Get(t.Context(), key).Result()
		case "hash":
			value, err = client.HGetAll(t.Context(), key).Result() // fmt sorts it
		case "zset":
			value, err = client.ZRangeWithScores(t.Context(), key, 0, -1).Result()
		case "set":
			var members []string
			members, err = client.SMembers(t.Context(), key).Result()
			slices.Sort(members)
			value = members
		case "list":
			value, err = client.LRange(t.Context(), key, 0, -1).Result()
		case "stream":
			value, err = client.XRange(t.Context(), key, "-", "+").Result()
		default:
			t.Fatalf("key %s is a %s", key, kind)
		}
		if err != nil {
			t.Fatal(err)
		}
		all[key] = fmt.Sprint(kind, " ", value)
	}
	return all
}

// unchanged returns a check that Redis holds what it holds now.
func unchanged(t *testing.T, client redis.UniversalClient) func(what string) {
	t.Helper()
	before := contents(t, client)
	return func(what string) {
		t.Helper()
		if diff := cmp.Diff(before, contents(t, client)); diff != "" {
			t.Errorf("%s has written (-before +after):\n%s", what, diff)
		}
	}
}

func TestSubmitFillsInDefaults(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		for _, c := range []struct {
			name        string
			limits      jobs.Limits
			asked, want jobs.Budget
		}{
			{name: "built in", want: jobs.Budget{Candidates: 1 << 36, Hits: 100_000}},
			{
				name:   "of the server",
				limits: jobs.Limits{Default: jobs.Budget{Candidates: 7, Hits: 8, Duration: 9 * time.Second}},
				want:   jobs.Budget{Candidates: 7, Hits: 8, Duration: 9 * time.Second},
			},
			{
				name:   "asked for",
				limits: jobs.Limits{Default: jobs.Budget{Candidates: 7, Hits: 8, Duration: 9 * time.Second}},
				asked:  jobs.Budget{Candidates: 1, Hits: 2, Duration: 3 * time.Millisecond},
				want:   jobs.Budget{Candidates: 1, Hits: 2, Duration: 3 * time.Millisecond},
			},
			{
				name:   "ceilings below the defaults",
				limits: jobs.Limits{Ceiling: jobs.Budget{Candidates: 70, Hits: 80, Duration: time.Hour}},
				want:   jobs.Budget{Candidates: 70, Hits: 80, Duration: time.Hour},
			},
			{
				name: "ceilings below the server's own defaults",
				limits: jobs.Limits{
					Default: jobs.Budget{Candidates: 700, Hits: 800, Duration: 2 * time.Hour},
					Ceiling: jobs.Budget{Candidates: 70, Hits: 80, Duration: time.Hour},
				},
				want: jobs.Budget{Candidates: 70, Hits: 80, Duration: time.Hour},
			},
		} {
			t.Run(c.name, func(t *testing.T) {
				b := newBench(t, open(), c.limits)
				asked := spec(0)
				asked.Budget, asked.Labels = c.asked, map[string]string{"team": "blue", "ünï": "{p1}:\n"}
				job := b.submit(t, asked)
				if job.Spec.Budget != c.want {
					t.Errorf("budget: got %+v, want %+v", job.Spec.Budget, c.want)
				}
				want := asked
				want.Budget = c.want
				if diff := cmp.Diff(want, job.Spec); diff != "" {
					t.Errorf("spec (-want +got):\n%s", diff)
				}
				if job.State != jobs.Pending || job.Reason != "" || job.Revision != 1 || job.LastSequence != 0 || job.CreateTime.IsZero() ||
					!job.StartTime.IsZero() || !job.EndTime.IsZero() || !job.ExpireTime.IsZero() {
					t.Errorf("a new job: got %+v", job)
				}
				if diff := cmp.Diff(job, b.get(t, job.ID)); diff != "" {
					t.Errorf("Get (-submitted +got):\n%s", diff)
				}
			})
		}
	})
}

func TestSubmitRefusesMoreThanTheCeiling(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		bounded := jobs.Limits{Ceiling: jobs.Budget{Candidates: 100, Hits: 10, Duration: time.Minute}}
		for _, c := range []struct {
			name   string
			limits jobs.Limits
			asked  jobs.Budget
			field  string // empty: accepted
		}{
			{name: "at every ceiling", limits: bounded, asked: jobs.Budget{Candidates: 100, Hits: 10, Duration: time.Minute}},
			{name: "candidates", limits: bounded, asked: jobs.Budget{Candidates: 101}, field: "budget.max_candidates"},
			{name: "hits", limits: bounded, asked: jobs.Budget{Hits: 11}, field: "budget.max_hits"},
			{name: "duration", limits: bounded, asked: jobs.Budget{Duration: time.Minute + 1}, field: "budget.max_duration"},
			{name: "negative duration", limits: bounded, asked: jobs.Budget{Duration: -1}, field: "budget.max_duration"},
			{name: "duration too small to count", limits: bounded, asked: jobs.Budget{Duration: time.Millisecond - 1}, field: "budget.max_duration"},
			{name: "largest budget", asked: jobs.Budget{Candidates: jobs.MaxCandidates}},
			{name: "beyond exact numbers", asked: jobs.Budget{Candidates: jobs.MaxCandidates + 1}, field: "budget.max_candidates"},
			{
				name:   "beyond exact numbers, which the server would allow",
				limits: jobs.Limits{Ceiling: jobs.Budget{Candidates: 1 << 60}},
				asked:  jobs.Budget{Candidates: jobs.MaxCandidates + 1}, field: "budget.max_candidates",
			},
		} {
			t.Run(c.name, func(t *testing.T) {
				b := newBench(t, open(), c.limits)
				check := unchanged(t, b.client)
				asked := spec(0)
				asked.Budget = c.asked
				job, err := b.service.Submit(t.Context(), jobs.Request{Tenant: tenant, Spec: asked, RequestID: uuid.NewString()})
				if c.field == "" {
					if err != nil || job.ID == "" {
						t.Fatalf("got %+v, %v", job, err)
					}
					return
				}
				if wrong, ok := errors.AsType[*jobs.FieldError](err); !ok || wrong.Field != c.field || wrong.Description == "" {
					t.Errorf("got %v, want a FieldError of %s", err, c.field)
				}
				check("a refused submit")
			})
		}
	})
}

func TestValidateOnlyWritesNothing(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		b := newBench(t, open(), jobs.Limits{Default: jobs.Budget{Hits: 5}, MaxActive: 1})
		validate := func(request string, spec jobs.Spec) (jobs.Job, error) {
			t.Helper()
			defer unchanged(t, b.client)("validation")
			return b.service.Submit(t.Context(), jobs.Request{Tenant: tenant, Spec: spec, RequestID: request, ValidateOnly: true})
		}
		wantValid := func(request string) {
			t.Helper()
			job, err := validate(request, spec(10))
			if err != nil || job.ID != "" || job.State != jobs.Pending || job.Spec.Budget != (jobs.Budget{Candidates: 10, Hits: 5}) {
				t.Errorf("got %+v, %v, want the job as it would be", job, err)
			}
		}
		wantValid("request")
		if _, err := b.service.Submit(t.Context(), jobs.Request{Tenant: tenant, Spec: spec(10), RequestID: "request"}); err != nil {
			t.Fatal(err)
		}
		wantValid("request") // it would be answered with that job
		if job, err := validate("request", spec(11)); !errors.Is(err, jobs.ErrRequestUsed) {
			t.Errorf("a request id that was used: got %+v, %v, want ErrRequestUsed", job, err)
		}
		for _, request := range []string{"", "another"} {
			job, err := validate(request, spec(10))
			if _, ok := errors.AsType[*jobs.QuotaError](err); !ok {
				t.Errorf("beyond the quota: got %+v, %v, want a QuotaError", job, err)
			}
		}
	})
}

func TestRequestIDMakesOneJob(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		b := newBench(t, open(), jobs.Limits{})
		submit := func(service *jobs.Service, tenant string, spec jobs.Spec) (jobs.Job, error) {
			return service.Submit(t.Context(), jobs.Request{Tenant: tenant, Spec: spec, RequestID: "request"})
		}
		first, err := submit(b.service, tenant, spec(0))
		if err != nil {
			t.Fatal(err)
		}
		check := unchanged(t, b.client)
		again, err := submit(b.service, tenant, spec(0))
		if err != nil || again.ID != first.ID {
			t.Errorf("the same request: got job %s, %v, want %s", again.ID, err, first.ID)
		}
		later := newBench(t, b.client, jobs.Limits{Default: jobs.Budget{Candidates: 5}})
		if again, err := submit(later.service, tenant, spec(0)); err != nil || again.ID != first.ID {
			t.Errorf("the same request after a change of defaults: got job %s, %v, want %s", again.ID, err, first.ID)
		}
		other := spec(0)
		other.Labels = map[string]string{"a": "b"}
		for name, spec := range map[string]jobs.Spec{"budget": spec(1), "labels": other, "attached": attached(spec(0))} {
			if got, err := submit(b.service, tenant, spec); !errors.Is(err, jobs.ErrRequestUsed) {
				t.Errorf("another %s: got %+v, %v, want ErrRequestUsed", name, got, err)
			}
		}
		check("a repeated request")

		elsewhere, err := submit(b.service, "another", spec(1))
		if err != nil || elsewhere.ID == first.ID {
			t.Errorf("the same request id of another tenant: got %s, %v, want a new job", elsewhere.ID, err)
		}

		b.cancel(t, first.ID)
		if again, err := submit(b.service, tenant, spec(0)); err != nil || again.State != jobs.Cancelled {
			t.Errorf("the same request after the end: got %+v, %v, want that job", again, err)
		}
		if err := b.service.Delete(t.Context(), tenant, first.ID, 0); err != nil {
			t.Fatal(err)
		}
		check = unchanged(t, b.client)
		if got, err := submit(b.service, tenant, spec(0)); !errors.Is(err, jobs.ErrRequestUsed) {
			t.Errorf("the same request after the job was deleted: got %+v, %v, want ErrRequestUsed", got, err)
		}
		check("a request whose job is gone")
	})
}

func TestConcurrentSubmitsOfOneRequestMakeOneJob(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		const front = 4 // front ends
		var services []*jobs.Service
		for range front {
			services = append(services, newBench(t, open(), jobs.Limits{}).service)
		}
		for round := range 10 {
			ids := make([]string, front)
			var all sync.WaitGroup
			for i, service := range services {
				all.Go(func() {
					job, err := service.Submit(t.Context(), jobs.Request{Tenant: tenant, Spec: spec(5), RequestID: fmt.Sprint(round)})
					if err != nil {
						t.Error(err)
					}
					ids[i] = job.ID
				})
			}
			all.Wait()
			if len(slices.Compact(ids)) != 1 {
				t.Fatalf("one request made the jobs %v", ids)
			}
		}
		page, _, err := services[0].List(t.Context(), tenant, "", 100)
		if err != nil || len(page) != 10 {
			t.Errorf("got %d jobs, %v, want 10", len(page), err)
		}
	})
}

func TestQuotaIsPerTenantAndFreedByEveryEnd(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		b := newBench(t, open(), jobs.Limits{MaxActive: 2})
		running, idle := b.submit(t, spec(10)), b.submit(t, spec(10))
		full := func() {
			t.Helper()
			check := unchanged(t, b.client)
			_, err := b.service.Submit(t.Context(), jobs.Request{Tenant: tenant, Spec: spec(10), RequestID: uuid.NewString()})
			if quota, ok := errors.AsType[*jobs.QuotaError](err); !ok || *quota != (jobs.QuotaError{Tenant: tenant, Active: 2, Limit: 2}) {
				t.Fatalf("the third job: got %v, want a QuotaError", err)
			}
			check("a submit beyond the quota")
		}
		full()
		if _, err := b.service.Submit(t.Context(), jobs.Request{Tenant: "another", Spec: spec(10)}); err != nil {
			t.Errorf("a job of another tenant: %v", err)
		}

		// Told to stop is not stopped: its workers still compute.
		chunk := b.claim(t, running)
		b.cancel(t, running.ID)
		full()
		b.release(t, chunk, false)
		third := b.submit(t, spec(10))
		full()
		b.succeed(t, idle)
		b.submit(t, spec(10))
		full()
		b.commit(t, b.claim(t, third))
		b.submit(t, spec(10))
		full()
	})
}

func TestOtherTenantsSeeNothing(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		b := newBench(t, open(), jobs.Limits{})
		live, ended := b.submit(t, attached(spec(10))), b.submit(t, spec(10))
		b.succeed(t, ended)
		check := unchanged(t, b.client)
		calls := func(id string) map[string]error {
			errs := map[string]error{}
			_, errs["Get"] = b.service.Get(t.Context(), "another", id)
			_, errs["Cancel"] = b.service.Cancel(t.Context(), "another", id, jobs.CancelledByClient, time.Minute)
			errs["Delete"] = b.service.Delete(t.Context(), "another", id, 0)
			errs["Delete of a revision"] = b.service.Delete(t.Context(), "another", id, 77)
			_, _, errs["Watch"] = b.service.Watch(t.Context(), "another", id, 0)
			_, _, errs["Watch beyond the end"] = b.service.Watch(t.Context(), "another", id, 77)
			return errs
		}
		none := uuid.NewString()
		missing := calls(none)
		for _, id := range []string{live.ID, ended.ID} {
			for call, err := range calls(id) {
				if !errors.Is(err, jobs.ErrNotFound) {
					t.Errorf("%s: got %v, want ErrNotFound", call, err)
					continue
				}
				if got, want := strings.ReplaceAll(err.Error(), id, "ID"), strings.ReplaceAll(missing[call].Error(), none, "ID"); got != want {
					t.Errorf("%s tells a job of somebody else's from none: %q, %q", call, got, want)
				}
			}
		}
		page, next, err := b.service.List(t.Context(), "another", "", 10)
		if err != nil || len(page) != 0 || next != "" {
			t.Errorf("List: got %d jobs, %q, %v, want none", len(page), next, err)
		}
		check("another tenant")
	})
}

func TestListPagesThroughJobsThatExpireMeanwhile(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		b := newBench(t, open(), jobs.Limits{})
		var want []string // the newest first
		for i := range 57 {
			job := b.submit(t, spec(10))
			if i%3 == 0 || i > 45 { // it expires, and so does the whole first page
				if err := b.client.Del(t.Context(), jobs.KeyJob(job.ID)).Err(); err != nil {
					t.Fatal(err)
				}
				continue
			}
			want = append([]string{job.ID}, want...)
		}
		for _, limit := range []int{1, 7, len(want), 100} {
			var got []string
			for after, pages := "", 0; ; pages++ {
				page, next, err := b.service.List(t.Context(), tenant, after, limit)
				if err != nil {
					t.Fatal(err)
				}
				if len(page) < limit && next != "" || len(page) > limit || pages > len(want) {
					t.Fatalf("page %d of %d jobs, then %q", pages, len(page), next)
				}
				for _, job := range page {
					got = append(got, job.ID)
				}
				if next == "" {
					break
				}
				after = next
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("pages of %d (-want +got):\n%s", limit, diff)
			}
		}
		index, err := b.client.ZRange(t.Context(), jobs.KeyTenantJobs(tenant), 0, -1).Result()
		if err != nil || len(index) != len(want) {
			t.Errorf("the index has %d jobs, %v, want %d: those that were listed as gone are forgotten", len(index), err, len(want))
		}
	})
}

func TestDelete(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		b := newBench(t, open(), jobs.Limits{})
		job := b.submit(t, spec(10))
		refused := func(revision uint64, want error) {
			t.Helper()
			check := unchanged(t, b.client)
			if err := b.service.Delete(t.Context(), tenant, job.ID, revision); !errors.Is(err, want) {
				t.Errorf("delete of revision %d in %s: got %v, want %v", revision, b.get(t, job.ID).State, err, want)
			}
			check("a refused delete")
		}
		refused(0, jobs.ErrActive)
		refused(1, jobs.ErrActive)
		refused(2, jobs.ErrChanged)
		chunk := b.claim(t, job)
		refused(0, jobs.ErrActive)
		b.cancel(t, job.ID)
		refused(0, jobs.ErrActive)
		b.release(t, chunk, false)
		revision := b.get(t, job.ID).Revision
		refused(revision-1, jobs.ErrChanged)
		refused(revision+1, jobs.ErrChanged)
		if err := b.service.Delete(t.Context(), tenant, job.ID, revision); err != nil {
			t.Fatal(err)
		}
		if _, err := b.service.Get(t.Context(), tenant, job.ID); !errors.Is(err, jobs.ErrNotFound) {
			t.Errorf("get after delete: got %v, want ErrNotFound", err)
		}
		if err := b.service.Delete(t.Context(), tenant, job.ID, 0); !errors.Is(err, jobs.ErrNotFound) {
			t.Errorf("delete again: got %v, want ErrNotFound", err)
		}
		if page, _, err := b.service.List(t.Context(), tenant, "", 10); err != nil || len(page) > 0 {
			t.Errorf("list after delete: got %v, %v", page, err)
		}
	})
}

func TestRevisionGrowsWithEachChangeOfState(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		b := newBench(t, open(), jobs.Limits{})
		job := b.submit(t, spec(10))
		var got []string
		note := func() {
			job = b.get(t, job.ID)
			got = append(got, fmt.Sprint(job.Revision, " ", job.State, " ", job.Reason))
		}
		note()
		chunk := b.claim(t, job)
		note()
		b.cancel(t, job.ID)
		note()
		b.release(t, chunk, false)
		note()
		want := []string{"1 PENDING ", "2 RUNNING ", "3 CANCELLING CANCELLED_BY_CLIENT", "4 CANCELLED CANCELLED_BY_CLIENT"}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if job.StartTime.Before(job.CreateTime) || job.EndTime.Before(job.StartTime) || job.ExpireTime.Sub(job.EndTime) != 24*time.Hour {
			t.Errorf("created %v, started %v, ended %v, expires %v", job.CreateTime, job.StartTime, job.EndTime, job.ExpireTime)
		}
	})
}

func TestKeysExpireOnlyAfterTheEnd(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		b := newBench(t, open(), jobs.Limits{Retention: time.Hour})
		ends := map[string]func(jobs.Job, *jobs.Chunk){
			"succeeded": func(_ jobs.Job, c *jobs.Chunk) { b.commit(t, c, jobs.Hit{Index: 3, Ideal: true}) },
			"exhausted": func(_ jobs.Job, c *jobs.Chunk) { b.commit(t, c) },
			"cancelled": func(job jobs.Job, c *jobs.Chunk) {
				b.cancel(t, job.ID)
				b.release(t, c, false)
			},
			"failed": func(job jobs.Job, c *jobs.Chunk) {
				for range 2 {
					b.release(t, c, true)
					c = b.claim(t, job)
				}
				b.release(t, c, true)
			},
		}
		for name, end := range ends {
			t.Run(name, func(t *testing.T) {
				job := b.submit(t, spec(10))
				chunk := b.claim(t, job)
				// One hit has left, and one waits.
				err := b.store.Flush(t.Context(), chunk, 2, [][]jobs.Hit{{{Index: 1, Distance: 1}, {Index: 2, Distance: 2}}})
				if err != nil {
					t.Fatal(err)
				}
				own := func() map[string]time.Duration {
					t.Helper()
					all := map[string]time.Duration{}
					for _, key := range keys(t, b.client) {
						if !strings.HasPrefix(key, jobs.Pool) || !strings.Contains(key, job.ID) {
							continue
						}
						if all[key], err = b.client.PTTL(t.Context(), key).Result(); err != nil {
							t.Fatal(err)
						}
					}
					return all
				}
				for key, ttl := range own() {
					if ttl >= 0 {
						t.Errorf("%s of a running job expires in %v", key, ttl)
					}
				}
				end(job, chunk)
				kept := own()
				want := []string{
					jobs.KeyJob(job.ID), jobs.KeyChanges(job.ID), jobs.KeyLog(job.ID), jobs.KeyStop(job.ID), jobs.KeyTrail(job.ID),
				}
				if diff := cmp.Diff(want, slices.Sorted(maps.Keys(kept))); diff != "" {
					t.Errorf("keys of an ended job (-want +got):\n%s", diff)
				}
				for key, ttl := range kept {
					if ttl <= 0 || ttl > time.Hour {
						t.Errorf("%s of an ended job expires in %v, want an hour", key, ttl)
					}
				}
			})
		}
	})
}

func TestCancel(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		b := newBench(t, open(), jobs.Limits{})
		cancel := func(id string, wait time.Duration) (jobs.Job, error) {
			return b.service.Cancel(t.Context(), tenant, id, jobs.CancelledByClient, wait)
		}
		t.Run("pending", func(t *testing.T) {
			job := b.submit(t, spec(10))
			got, err := cancel(job.ID, time.Minute)
			if err != nil || got.State != jobs.Cancelled || got.Reason != jobs.CancelledByClient || got.EndTime.IsZero() || got.LastSequence != 1 {
				t.Fatalf("got %+v, %v, want CANCELLED at once", got, err)
			}
			if b.tryClaim(t, job) != nil {
				t.Error("a worker got a chunk of a cancelled job")
			}
			check := unchanged(t, b.client)
			again, err := cancel(job.ID, time.Minute)
			if diff := cmp.Diff(got, again); err != nil || diff != "" {
				t.Errorf("cancelled twice: %v (-first +second):\n%s", err, diff)
			}
			check("a second cancel")
		})
		t.Run("succeeded", func(t *testing.T) {
			job := b.submit(t, spec(10))
			b.succeed(t, job)
			check := unchanged(t, b.client)
			if got, err := cancel(job.ID, time.Minute); !errors.Is(err, jobs.ErrEnded) {
				t.Errorf("got %+v, %v, want ErrEnded", got, err)
			}
			check("a cancel after the end")
		})
		t.Run("exhausted", func(t *testing.T) {
			job := b.submit(t, spec(10))
			b.commit(t, b.claim(t, job))
			if got, err := cancel(job.ID, time.Minute); !errors.Is(err, jobs.ErrEnded) {
				t.Errorf("got %+v, %v, want ErrEnded", got, err)
			}
		})
		t.Run("held for longer than the caller waits", func(t *testing.T) {
			job := b.submit(t, spec(10))
			chunk := b.claim(t, job)
			for _, wait := range []time.Duration{0, 50 * time.Millisecond} {
				got, err := cancel(job.ID, wait)
				if err != nil || got.State != jobs.Cancelling || got.Reason != jobs.CancelledByClient {
					t.Fatalf("after %v: got %+v, %v, want CANCELLING", wait, got, err)
				}
			}
			stopped, err := b.store.Stopped(t.Context(), []string{uuid.NewString(), job.ID})
			if err != nil || stopped[0] || !stopped[1] {
				t.Errorf("cancel keys: got %v, %v, want that of the job alone", stopped, err)
			}
			if err := b.store.Renew(t.Context(), chunk); !errors.Is(err, jobs.ErrStop) {
				t.Errorf("renew: got %v, want ErrStop", err)
			}
			if err := b.store.Flush(t.Context(), chunk, 5, [][]jobs.Hit{{{Index: 1}}}); !errors.Is(err, jobs.ErrStop) {
				t.Errorf("flush: got %v, want ErrStop", err)
			}
			b.reconcile(t)
			if got := b.get(t, job.ID); got.State != jobs.Cancelling {
				t.Fatalf("got %s while a worker computes, want CANCELLING", got.State)
			}
			b.release(t, chunk, false)
			got := b.get(t, job.ID)
			if got.State != jobs.Cancelled || got.StopLatency < 50*time.Millisecond || got.Hits != 0 {
				t.Errorf("got %+v, want CANCELLED after the 50 ms that the lease was held", got)
			}
		})
		t.Run("released while the caller waits", func(t *testing.T) {
			job := b.submit(t, spec(10))
			chunk := b.claim(t, job)
			type result struct {
				job jobs.Job
				err error
			}
			done := make(chan result, 1)
			go func() {
				got, err := cancel(job.ID, time.Minute)
				done <- result{got, err}
			}()
			jobstest.Until(t, "the worker is told", func() bool { return errors.Is(b.store.Renew(t.Context(), chunk), jobs.ErrStop) })
			select {
			case got := <-done:
				t.Fatalf("returned while the chunk is held: %+v", got)
			default:
			}
			b.release(t, chunk, false)
			if got := <-done; got.err != nil || got.job.State != jobs.Cancelled {
				t.Errorf("got %+v, want CANCELLED", got)
			}
		})
		t.Run("the worker has died", func(t *testing.T) {
			job := b.submit(t, spec(10))
			chunk := b.claim(t, job)
			b.cancel(t, job.ID)
			b.expireLease(t, chunk)
			b.reconcile(t)
			if got := b.get(t, job.ID); got.State != jobs.Cancelled {
				t.Errorf("got %s, want CANCELLED: nothing runs any more", got.State)
			}
		})
		t.Run("the caller leaves", func(t *testing.T) {
			job := b.submit(t, spec(10))
			b.claim(t, job)
			ctx, leave := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() {
				_, err := b.service.Cancel(ctx, tenant, job.ID, jobs.CancelledByClient, time.Minute)
				done <- err
			}()
			jobstest.Until(t, "the order is given", func() bool { return b.get(t, job.ID).State == jobs.Cancelling })
			leave()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want context.Canceled", err)
			}
		})
	})
}

// lease sets when the lease of a chunk runs out.
func (b *bench) lease(t *testing.T, chunk *jobs.Chunk, until time.Time) {
	t.Helper()
	changed, err := b.client.ZAddArgs(t.Context(), jobs.KeySweep(chunk.Sweep)+":leases", redis.ZAddArgs{
		XX: true, Ch: true, Members: []redis.Z{{Score: float64(until.UnixMilli()), Member: chunk.Attempt}},
	}).Result()
	if err != nil || changed != 1 {
		t.Fatalf("no such lease: %v", err)
	}
}

func (b *bench) expireLease(t *testing.T, chunk *jobs.Chunk) {
	t.Helper()
	b.lease(t, chunk, longAgo)
}
