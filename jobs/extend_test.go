package jobs_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/hashfinder/hashfinder/jobs"
	"github.com/hashfinder/hashfinder/jobs/jobstest"
)

func (b *bench) extend(t *testing.T, id string, budget jobs.Budget) jobs.Job {
	t.Helper()
	job, err := b.service.Extend(t.Context(), jobs.Extension{Tenant: tenant, Job: id, Budget: budget})
	if err != nil {
		t.Fatal(err)
	}
	return job
}

// exhaust submits a job and runs its one chunk, with two hits.
func (b *bench) exhaust(t *testing.T, spec jobs.Spec) jobs.Job {
	t.Helper()
	job := b.submit(t, spec)
	b.commit(t, b.claim(t, job), jobs.Hit{Index: 5, Distance: 2}, jobs.Hit{Index: 8, Distance: 1})
	if job = b.get(t, job.ID); job.State != jobs.Exhausted {
		t.Fatalf("got %+v, want EXHAUSTED", job)
	}
	return job
}

// told reads the events after a sequence number up to the end, in short.
func (b *bench) told(t *testing.T, id string, after uint64) []string {
	t.Helper()
	w := b.watch(t, id, after)
	var all []string
	for {
		event, err := next(t.Context(), w)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case event.Hit != nil:
			all = append(all, fmt.Sprintf("%d hit %d", event.Sequence, event.Hit.Index))
		case event.Extended != "":
			all = append(all, fmt.Sprintf("%d extended %s", event.Sequence, event.Extended))
		case event.End != nil:
			return append(all, fmt.Sprintf("%d end %s %s", event.Sequence, event.End.State, event.End.Reason))
		}
	}
}

func TestExtensionGoesOnWhereTheJobEnded(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		b := newBench(t, open(), jobs.Limits{Retention: time.Hour})
		asked := spec(100)
		asked.Labels = map[string]string{"team": "red"}
		old := b.exhaust(t, asked)
		job := b.extend(t, old.ID, jobs.Budget{Candidates: secondChunk + 7})

		want := old
		want.ExtendedBy = job.ID
		if diff := cmp.Diff(want, b.get(t, old.ID)); diff != "" {
			t.Errorf("the extended job (-want +got):\n%s", diff)
		}
		origin := jobs.Origin{Job: old.ID, Searched: 100, Sequence: 3, Duration: old.EndTime.Sub(old.StartTime)}
		if job.State != jobs.Pending || job.Extends == nil || *job.Extends != origin || job.Progress.Searched != 100 ||
			job.Hits != 2 || job.Best == nil || job.Best.Index != 8 || job.LastSequence != 3 || job.Progress.Redone != 0 {
			t.Errorf("the extension: got %+v of %+v", job, job.Extends)
		}
		wantSpec := asked
		wantSpec.Budget = jobs.Budget{Candidates: secondChunk + 7, Hits: old.Spec.Budget.Hits}
		if diff := cmp.Diff(wantSpec, job.Spec); diff != "" {
			t.Errorf("its spec (-want +got):\n%s", diff)
		}
		if ttl := b.client.PTTL(t.Context(), jobs.KeyLog(job.ID)).Val(); ttl >= 0 {
			t.Errorf("its log expires in %v, as that of the old job does", ttl)
		}

		// The rest of the chunk that the budget had cut, and from there on the grid.
		for i, bounds := range [][2]uint64{{100, firstChunk}, {firstChunk, secondChunk}, {secondChunk, secondChunk + 65_536}} {
			chunk := b.claim(t, job)
			if chunk.Lo != bounds[0] || chunk.Hi != bounds[1] {
				t.Fatalf("chunk %d: got [%d, %d), want %v", i, chunk.Lo, chunk.Hi, bounds)
			}
			if i == 1 {
				if err := b.client.Del(t.Context(), jobs.KeyJob(old.ID), jobs.KeyLog(old.ID)).Err(); err != nil { // it expires
					t.Fatal(err)
				}
			}
			b.commit(t, chunk, jobs.Hit{Index: chunk.Lo + 1, Distance: 3})
		}
		all := []string{
			"1 hit 5", "2 hit 8", "3 extended CANDIDATES_EXHAUSTED", "4 hit 101",
			fmt.Sprint("5 hit ", firstChunk+1), fmt.Sprint("6 hit ", secondChunk+1), "7 end EXHAUSTED CANDIDATES_EXHAUSTED",
		}
		for after := range all {
			if diff := cmp.Diff(all[after:], b.told(t, job.ID, uint64(after))); diff != "" {
				t.Errorf("after %d (-want +got):\n%s", after, diff)
			}
		}
		got := b.get(t, job.ID)
		if got.Progress.Searched != secondChunk+7 || got.Hits != 5 || got.Progress.Redone != 0 {
			t.Errorf("got %+v, want all searched once", got)
		}
	})
}

// Whatever was used up, more of it lets the search go on.
func TestExtensionOfEveryBudget(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		b := newBench(t, open(), jobs.Limits{})
		t.Run("hits", func(t *testing.T) {
			asked := spec(100)
			asked.Budget.Hits = 2
			old := b.exhaust(t, asked)
			job := b.extend(t, old.ID, jobs.Budget{Hits: 3})
			chunk := b.claim(t, job)
			if chunk.Lo != 9 || chunk.Members[0].Limit != 100 {
				t.Fatalf("got %+v, want what follows the last hit", chunk)
			}
			b.commit(t, chunk, jobs.Hit{Index: 10, Distance: 3}, jobs.Hit{Index: 11, Distance: 3})
			want := []string{"1 hit 5", "2 hit 8", "3 extended HITS_EXHAUSTED", "4 hit 10", "5 end EXHAUSTED HITS_EXHAUSTED"}
			if diff := cmp.Diff(want, b.told(t, job.ID, 0)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			// And once more, of the extension.
			again := b.extend(t, job.ID, jobs.Budget{Hits: 4, Candidates: 200})
			b.commit(t, b.claim(t, again), jobs.Hit{Index: 111, Ideal: true})
			want = append(want[:4], "5 extended HITS_EXHAUSTED", "6 hit 111", "7 end SUCCEEDED FOUND")
			if diff := cmp.Diff(want, b.told(t, again.ID, 0)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
		t.Run("hits at the very end of the candidates", func(t *testing.T) {
			asked := spec(9)
			asked.Budget.Hits = 2
			job := b.extend(t, b.exhaust(t, asked).ID, jobs.Budget{Hits: 3})
			want := []string{"1 hit 5", "2 hit 8", "3 extended HITS_EXHAUSTED", "4 end EXHAUSTED CANDIDATES_EXHAUSTED"}
			if diff := cmp.Diff(want, b.told(t, job.ID, 0)); diff != "" {
				t.Errorf("nothing is left to search (-want +got):\n%s", diff)
			}
		})
		t.Run("duration", func(t *testing.T) {
			asked := spec(secondChunk)
			asked.Budget.Duration = time.Hour
			job := b.submit(t, asked)
			b.commit(t, b.claim(t, job))
			ahead := b.claim(t, job)
			b.setJob(t, job.ID, "start", time.Now().Add(-time.Hour).UnixMilli())
			b.reconcile(t)
			b.release(t, ahead, false)
			old := b.get(t, job.ID)
			if old.Reason != jobs.DurationExhausted {
				t.Fatalf("got %+v", old)
			}
			job = b.extend(t, old.ID, jobs.Budget{Duration: 2 * time.Hour})
			if used := job.Extends.Duration; used < time.Hour || used > time.Hour+time.Minute {
				t.Errorf("it took over %v of the duration, want an hour", used)
			}
			b.release(t, b.claim(t, job), false)
			b.setJob(t, job.ID, "start", time.Now().Add(-50*time.Minute).UnixMilli())
			b.reconcile(t)
			if got := b.get(t, job.ID); got.State != jobs.Running {
				t.Fatalf("after 110 of 120 minutes: got %s %s, want RUNNING", got.State, got.Reason)
			}
			b.setJob(t, job.ID, "start", time.Now().Add(-61*time.Minute).UnixMilli())
			b.reconcile(t)
			if got := b.get(t, job.ID); got.State != jobs.Exhausted || got.Reason != jobs.DurationExhausted || got.Progress.Searched != firstChunk {
				t.Errorf("after 121 of 120 minutes: got %+v, want EXHAUSTED", got)
			}
		})
	})
}

func TestExtensionIsRefused(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		b := newBench(t, open(), jobs.Limits{Ceiling: jobs.Budget{Candidates: 1 << 20, Hits: 1000, Duration: time.Hour}, MaxActive: 3})
		bounded := spec(100)
		bounded.Budget.Hits, bounded.Budget.Duration = 2, time.Minute
		byHits := b.exhaust(t, bounded)
		bounded.Budget.Hits = 10
		byCandidates := b.exhaust(t, bounded)
		running, found := b.submit(t, spec(10)), b.submit(t, spec(10))
		b.succeed(t, found)
		cancelled := b.submit(t, spec(10))
		b.cancel(t, cancelled.ID)

		check := unchanged(t, b.client)
		for _, c := range []struct {
			name, tenant, id string
			asked            jobs.Budget
			field            string // of the FieldError, or
			want             error
		}{
			{name: "nothing more", id: byCandidates.ID, field: "budget.max_candidates"},
			{name: "not more candidates", id: byCandidates.ID, asked: jobs.Budget{Candidates: 100, Hits: 11}, field: "budget.max_candidates"},
			{name: "fewer hits", id: byCandidates.ID, asked: jobs.Budget{Candidates: 101, Hits: 9}, field: "budget.max_hits"},
			{name: "less time", id: byCandidates.ID, asked: jobs.Budget{Candidates: 101, Duration: time.Second}, field: "budget.max_duration"},
			{name: "fewer candidates", id: byHits.ID, asked: jobs.Budget{Candidates: 99, Hits: 3}, field: "budget.max_candidates"},
			{name: "not more hits", id: byHits.ID, asked: jobs.Budget{Candidates: 200}, field: "budget.max_hits"},
			{name: "candidates above the ceiling", id: byCandidates.ID, asked: jobs.Budget{Candidates: 1<<20 + 1}, field: "budget.max_candidates"},
			{name: "hits above the ceiling", id: byHits.ID, asked: jobs.Budget{Hits: 1001}, field: "budget.max_hits"},
			{name: "time above the ceiling", id: byHits.ID, asked: jobs.Budget{Hits: 3, Duration: 2 * time.Hour}, field: "budget.max_duration"},
			{name: "running", id: running.ID, asked: jobs.Budget{Candidates: 20}, want: jobs.ErrNotUsedUp},
			{name: "succeeded", id: found.ID, asked: jobs.Budget{Candidates: 20}, want: jobs.ErrNotUsedUp},
			{name: "cancelled", id: cancelled.ID, asked: jobs.Budget{Candidates: 20}, want: jobs.ErrNotUsedUp},
			{name: "no job", id: "none", want: jobs.ErrNotFound},
			{name: "another tenant", tenant: "another", id: byHits.ID, asked: jobs.Budget{Hits: 3}, want: jobs.ErrNotFound},
		} {
			t.Run(c.name, func(t *testing.T) {
				if c.tenant == "" {
					c.tenant = tenant
				}
				got, err := b.service.Extend(t.Context(), jobs.Extension{Tenant: c.tenant, Job: c.id, Budget: c.asked, RequestID: "request"})
				wrong, ok := errors.AsType[*jobs.FieldError](err)
				if c.want != nil && !errors.Is(err, c.want) || c.want == nil && (!ok || wrong.Field != c.field || wrong.Description == "") {
					t.Errorf("got %+v, %v, want an error of %s %v", got, err, c.field, c.want)
				}
			})
		}
		check("a refused extension")

		b.submit(t, spec(10))
		b.submit(t, spec(10))
		check = unchanged(t, b.client)
		_, err := b.service.Extend(t.Context(), jobs.Extension{Tenant: tenant, Job: byHits.ID, Budget: jobs.Budget{Hits: 3}, RequestID: "request"})
		if _, ok := errors.AsType[*jobs.QuotaError](err); !ok {
			t.Errorf("over the quota: got %v, want a QuotaError", err)
		}
		check("an extension over the quota")
	})
}

// A bound where there was none would be less.
func TestExtensionCannotBoundTheDurationAnew(t *testing.T) {
	t.Parallel()
	b := newBench(t, jobstest.Open(t, jobstest.StartRedis(t)), jobs.Limits{})
	old := b.exhaust(t, spec(100))
	_, err := b.service.Extend(t.Context(), jobs.Extension{
		Tenant: tenant, Job: old.ID, Budget: jobs.Budget{Candidates: 200, Duration: time.Hour},
	})
	if wrong, ok := errors.AsType[*jobs.FieldError](err); !ok || wrong.Field != "budget.max_duration" {
		t.Errorf("got %v, want a FieldError of budget.max_duration", err)
	}
}

func TestJobIsExtendedOnce(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		b := newBench(t, open(), jobs.Limits{})
		old := b.exhaust(t, spec(100))
		ask := func(request string, candidates uint64) (jobs.Job, error) {
			return b.service.Extend(t.Context(), jobs.Extension{
				Tenant: tenant, Job: old.ID, Budget: jobs.Budget{Candidates: candidates}, RequestID: request,
			})
		}
		first, err := ask("request", 200)
		if err != nil {
			t.Fatal(err)
		}
		check := unchanged(t, b.client)
		if again, err := ask("request", 200); err != nil || again.ID != first.ID {
			t.Errorf("the same request: got %s, %v, want %s", again.ID, err, first.ID)
		}
		if got, err := ask("request", 300); !errors.Is(err, jobs.ErrRequestUsed) {
			t.Errorf("the same request id for more: got %+v, %v, want ErrRequestUsed", got, err)
		}
		if got, err := b.service.Submit(t.Context(), jobs.Request{Tenant: tenant, Spec: spec(200), RequestID: "request"}); !errors.Is(err, jobs.ErrRequestUsed) {
			t.Errorf("the same request id for a new job: got %+v, %v, want ErrRequestUsed", got, err)
		}
		// Two extensions would search the same twice.
		for _, request := range []string{"", "another"} {
			got, err := ask(request, 200)
			if by, ok := errors.AsType[*jobs.ExtendedError](err); !ok || by.By != first.ID {
				t.Errorf("a second extension: got %+v, %v, want an ExtendedError that names %s", got, err, first.ID)
			}
		}
		check("a repeated extension")

		// But what has become of the first is no reason to begin from nothing.
		b.cancel(t, first.ID)
		if err := b.service.Delete(t.Context(), tenant, first.ID, 0); err != nil {
			t.Fatal(err)
		}
		second, err := ask("third", 400)
		if err != nil || second.Progress.Searched != 100 || b.get(t, old.ID).ExtendedBy != second.ID {
			t.Errorf("after the first was deleted: got %+v, %v", second, err)
		}
	})
}

// The log is copied in the script. With -v it tells how long that holds up Redis.
func TestExtensionOfALongLog(t *testing.T) {
	if testing.Short() {
		t.Skip("it logs 200,000 hits")
	}
	t.Parallel()
	b := newBench(t, jobstest.Open(t, jobstest.StartRedis(t)), jobs.Limits{})
	const hits = 200_000
	asked := spec(math.MaxUint32)
	asked.Budget.Hits = hits
	job := b.submit(t, asked)
	for left := finds(0, hits); len(left) > 0; {
		chunk := b.claim(t, job)
		n, _ := slices.BinarySearchFunc(left, chunk.Hi, func(h jobs.Hit, hi uint64) int { return int(h.Index) - int(hi) })
		head := left[:n]
		left = left[n:]
		last := max(0, len(head)-500)
		b.find(t, chunk, head[:last])
		b.commit(t, chunk, head[last:]...)
	}
	if got := b.get(t, job.ID); got.Reason != jobs.HitsExhausted {
		t.Fatalf("got %+v", got)
	}
	if err := b.client.ConfigSet(t.Context(), "slowlog-log-slower-than", "0").Err(); err != nil {
		t.Fatal(err)
	}
	more := b.extend(t, job.ID, jobs.Budget{Hits: hits + 1})
	slow, err := b.client.SlowLogGet(t.Context(), 100).Result()
	if err != nil {
		t.Fatal(err)
	}
	var longest time.Duration
	for _, entry := range slow {
		longest = max(longest, entry.Duration)
	}
	t.Logf("the longest command took %v of Redis's time", longest)
	if events, err := b.store.Log(t.Context(), more.ID, hits-1, 10); err != nil || len(events) != 2 || events[0].Hit == nil || events[1].End == nil {
		t.Errorf("the end of the copied log: got %+v, %v", events, err)
	}
}
