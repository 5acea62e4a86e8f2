package jobs_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/hashfinder/hashfinder/jobs"
	"github.com/hashfinder/hashfinder/jobs/jobstest"
)

// everything makes every kind of call once at least, and returns the jobs that were submitted, all of which have ended.
func (b *bench) everything(t *testing.T) []jobs.Job {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(b.store.Heartbeat(t.Context(), "worker", 4, 1e6))
	must(b.service.Ready(t.Context()))
	request := jobs.Request{Tenant: tenant, Spec: spec(1 << 18), RequestID: "request"}
	request.Spec.Labels = map[string]string{"a": "b"}
	job, err := b.service.Submit(t.Context(), request)
	must(err)
	_, err = b.service.Submit(t.Context(), request)
	must(err)
	w := b.watch(t, job.ID, 0)
	b.reconcile(t) // the service may not know the worker yet
	first, second, third := b.claim(t, job), b.claim(t, job), b.claim(t, job)
	b.commit(t, second, finds(second.Lo, 1000)...) // they wait for the first chunk
	b.reconcile(t)
	must(b.store.Renew(t.Context(), third))
	b.release(t, third, true)
	b.commit(t, first, finds(first.Lo, 1000)...)
	var jobsDone []jobs.Job
	for !b.get(t, job.ID).State.Terminal() {
		chunk := b.claim(t, job)
		b.find(t, chunk, []jobs.Hit{{Index: chunk.Lo + 1, Distance: 3}})
		if _, _, ok, err := b.store.Holding(t.Context(), jobs.Ticket{Sweep: job.ID, Number: "1"}); err != nil || ok {
			t.Errorf("the first ticket: held %v, %v", ok, err)
		}
		b.commit(t, chunk)
	}
	if _, end, err := follow(t.Context(), w, 0); err != nil || end.State != jobs.Exhausted || end.Progress.Searched != 1<<18 {
		t.Fatalf("got %+v, %v, want EXHAUSTED", end, err)
	}
	jobsDone = append(jobsDone, job)

	stopped := b.submit(t, attached(spec(1<<18)))
	chunk := b.claim(t, stopped)
	must(b.store.Flush(t.Context(), chunk, 1, [][]jobs.Hit{finds(5, 3)}))
	must(b.store.Attend(t.Context(), stopped.ID))
	b.cancel(t, stopped.ID)
	b.reconcile(t)
	if found, err := b.store.Stopped(t.Context(), []string{job.ID, stopped.ID}); err != nil || !slices.Equal(found, []bool{true, true}) {
		t.Errorf("cancel keys: got %v, %v", found, err)
	}
	b.release(t, chunk, false)
	jobsDone = append(jobsDone, b.get(t, stopped.ID))

	failed := b.submit(t, spec(1<<18))
	for range 3 {
		chunk := b.claim(t, failed)
		must(b.store.Alone(t.Context(), chunk))
		b.expireLease(t, chunk)
		b.reconcile(t)
	}
	jobsDone = append(jobsDone, failed)
	for _, job := range jobsDone {
		if got := b.get(t, job.ID); !got.State.Terminal() {
			t.Fatalf("got %+v, want an ended job", got)
		}
	}
	page, _, err := b.service.List(t.Context(), tenant, "", 100)
	if err != nil || len(page) < len(jobsDone) {
		t.Errorf("List: got %d jobs, %v, want at least %d", len(page), err, len(jobsDone))
	}
	return jobsDone
}

func own(t *testing.T, client redis.UniversalClient) []string {
	t.Helper()
	return slices.DeleteFunc(keys(t, client), func(key string) bool { return strings.HasPrefix(key, "asynq:") })
}

func TestKeysAreNamedAndGone(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		b := newBench(t, open(), jobs.Limits{})
		live := b.submit(t, spec(10))
		b.claim(t, live)
		ended := b.everything(t)
		for _, key := range own(t, b.client) {
			if !strings.HasPrefix(key, jobs.Pool) {
				t.Errorf("the key %s is outside of the pool", key)
			}
		}
		if len(own(t, b.client)) < 20 {
			t.Errorf("got %v: nothing was busy", own(t, b.client))
		}

		b.cancel(t, live.ID)
		b.expireLeases(t, live.ID)
		b.reconcile(t)
		for _, job := range append(ended, live) {
			if err := b.service.Delete(t.Context(), tenant, job.ID, 0); err != nil {
				t.Fatal(err)
			}
		}
		want := []string{jobs.KeyFleet, jobs.KeyRequest(tenant, "request"), jobs.KeyTenants}
		for _, job := range append(ended, live) { // for a while, so that a call that comes again knows what it has done
			want = append(want, jobs.KeyStop(job.ID))
			if ttl := b.client.PTTL(t.Context(), jobs.KeyStop(job.ID)).Val(); ttl <= 0 || ttl > 10*time.Second {
				t.Errorf("the cancel key of a deleted job expires in %v, want ten seconds", ttl)
			}
		}
		slices.Sort(want)
		if diff := cmp.Diff(want, own(t, b.client)); diff != "" {
			t.Errorf("keys that are left of deleted jobs (-want +got):\n%s", diff)
		}
	})
}

func (b *bench) expireLeases(t *testing.T, id string) {
	t.Helper()
	attempts, err := b.client.ZRange(t.Context(), jobs.KeySweep(id)+":leases", 0, -1).Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, attempt := range attempts {
		b.expireLease(t, &jobs.Chunk{Sweep: id, Attempt: attempt})
	}
}

// The time of keys does not pass by itself on miniredis.
func TestEndedJobsExpire(t *testing.T) {
	t.Parallel()
	b := newBench(t, jobstest.Open(t, jobstest.StartRedis(t)), jobs.Limits{Retention: 200 * time.Millisecond})
	job := b.submit(t, spec(10))
	w := b.watch(t, job.ID, 0)
	if event, err := w.Next(t.Context()); err != nil || event.Progress == nil {
		t.Fatalf("got %+v, %v, want progress", event, err)
	}
	b.cancel(t, job.ID)
	jobstest.Until(t, "the job has expired", func() bool {
		_, err := b.service.Get(t.Context(), tenant, job.ID)
		return errors.Is(err, jobs.ErrNotFound)
	})
	if page, next, err := b.service.List(t.Context(), tenant, "", 10); err != nil || len(page) != 0 || next != "" {
		t.Errorf("List: got %v, %q, %v", page, next, err)
	}
	if diff := cmp.Diff([]string{jobs.KeyTenants}, own(t, b.client)); diff != "" {
		t.Errorf("keys that are left of expired jobs (-want +got):\n%s", diff)
	}
	if event, err := next(t.Context(), w); !errors.Is(err, jobs.ErrNotFound) {
		t.Errorf("its watcher: got %+v, %v, want ErrNotFound", event, err)
	}
	if err := b.store.Delete(t.Context(), tenant, job.ID, 0); !errors.Is(err, jobs.ErrNotFound) {
		t.Errorf("Delete: got %v, want ErrNotFound", err)
	}
}

func TestDrainLogsWhatOneCommitCannot(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		b := newBench(t, open(), jobs.Limits{})
		for name, drain := range map[string]func(chunk *jobs.Chunk){
			"by the worker": func(chunk *jobs.Chunk) {
				for more := true; more; {
					var err error
					if more, err = b.store.Drain(t.Context(), chunk); err != nil {
						t.Fatal(err)
					}
				}
			},
			"by the reconciler, when the worker has died": func(chunk *jobs.Chunk) {
				for range 4 {
					b.reconcile(t)
				}
			},
		} {
			t.Run(name, func(t *testing.T) {
				job := b.submit(t, spec(secondChunk))
				first, second := b.claim(t, job), b.claim(t, job)
				all := append(finds(first.Lo, 1500), finds(second.Lo, 2100)...)
				for batch := range slices.Chunk(all[1500:], jobs.MaxBatch) { // ahead of the watermark
					if err := b.store.Flush(t.Context(), second, second.Lo, [][]jobs.Hit{batch}); err != nil {
						t.Fatal(err)
					}
				}
				b.commit(t, second)
				if hits, _ := b.log(t, job.ID); len(hits) > 0 {
					t.Fatalf("%d hits left above the watermark", len(hits))
				}
				b.find(t, first, all[:1500])
				_, more, err := b.store.Commit(t.Context(), first, [][]jobs.Hit{nil})
				if err != nil || !more {
					t.Fatalf("got more %v, %v, want more", more, err)
				}
				if got := b.get(t, job.ID); got.State != jobs.Running || got.Hits >= uint64(len(all)) {
					t.Fatalf("got %+v, want RUNNING while hits wait", got)
				}
				drain(first)
				hits, events := b.log(t, job.ID)
				if !slices.Equal(hits, all) || events != len(all)+1 {
					t.Errorf("got %d hits of %d events, want %d and the end", len(hits), events, len(all))
				}
				if got := b.get(t, job.ID); got.State != jobs.Exhausted || got.Hits != uint64(len(all)) {
					t.Errorf("got %+v, want EXHAUSTED", got)
				}
			})
		}
	})
}
