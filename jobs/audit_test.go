package jobs_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/hashfinder/hashfinder/jobs"
	"github.com/hashfinder/hashfinder/jobs/jobstest"
)

// audited returns the audit of a job, and it in short: its changes, and of its attempts where they began and how they
// ended. It fails when a time is missing or out of order.
func (b *bench) audited(t *testing.T, id string) (audit jobs.Audit, changes, attempts []string) {
	t.Helper()
	audit, err := b.service.Audit(t.Context(), tenant, id)
	if err != nil {
		t.Fatal(err)
	}
	last := b.get(t, id).CreateTime
	for _, c := range audit.Changes {
		if c.Time.Before(last) {
			t.Errorf("%+v comes after %v", c, last)
		}
		last = c.Time
		changes = append(changes, fmt.Sprintf("%s %s", c.State, c.Reason))
	}
	for _, a := range audit.Attempts {
		if a.Begin.IsZero() || a.End.Before(a.Begin) && a.Outcome != "" || a.End.IsZero() != (a.Outcome == "") || a.Worker != "worker" || a.Name == "" {
			t.Errorf("got the attempt %+v", a)
		}
		attempts = append(attempts, fmt.Sprintf("%d %s", a.Lo, a.Outcome))
	}
	return audit, changes, attempts
}

func wantAudit(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestAuditTellsWhatBecameOfEachAttempt(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		b := newBench(t, open(), jobs.Limits{})
		if err := b.store.Heartbeat(t.Context(), "w", 8, 1); err != nil {
			t.Fatal(err)
		}
		job, err := b.service.Submit(t.Context(), jobs.Request{Tenant: tenant, Spec: spec(secondChunk + 2*65_536), RequestID: "request"})
		if err != nil {
			t.Fatal(err)
		}
		audit, changes, attempts := b.audited(t, job.ID)
		if audit.Job != job.ID || audit.Tenant != tenant || audit.RequestID != "request" {
			t.Errorf("who submitted: got %+v", audit)
		}
		wantAudit(t, "changes", changes, "PENDING ")
		wantAudit(t, "attempts", attempts)

		b.reconcile(t)
		first, second, third := b.claim(t, job), b.claim(t, job), b.claim(t, job)
		fourth := b.claim(t, job)
		b.release(t, first, false)
		b.release(t, second, true)
		b.expireLease(t, third)
		b.reconcile(t)
		if _, _, err := b.store.Commit(t.Context(), third, [][]jobs.Hit{nil}); !errors.Is(err, jobs.ErrLost) {
			t.Fatalf("got %v, want ErrLost", err)
		}
		_, changes, attempts = b.audited(t, job.ID)
		wantAudit(t, "changes", changes, "PENDING ", "RUNNING ")
		wantAudit(t, "attempts", attempts, "0 RELEASED", "65793 DIED", "131329 EXPIRED", "196865 ")

		// A copy of the last chunk, which is slow, comes second. Then the ideal hit makes what lies above it unwanted.
		again := b.claim(t, job)
		b.claim(t, job)
		b.claim(t, job)
		b.age(t, fourth, longAgo)
		b.reconcile(t)
		copied := b.claim(t, job)
		b.commit(t, copied)
		if _, _, err := b.store.Commit(t.Context(), fourth, [][]jobs.Hit{nil}); !errors.Is(err, jobs.ErrLost) {
			t.Fatalf("got %v, want ErrLost", err)
		}
		b.commit(t, again, jobs.Hit{Index: 3, Ideal: true})
		audit, changes, attempts = b.audited(t, job.ID)
		wantAudit(t, "changes", changes, "PENDING ", "RUNNING ", "SUCCEEDED FOUND")
		wantAudit(t, "the first attempts", attempts[:5], "0 RELEASED", "65793 DIED", "131329 EXPIRED", "196865 COMMITTED", "196865 STALE")
		ended := map[string]bool{}
		for _, line := range attempts[5:] {
			ended[line] = true
		}
		if len(attempts) != 8 || !ended["0 COMMITTED"] || !ended["65793 FENCED"] || !ended["131329 FENCED"] {
			t.Errorf("got the attempts %v, want one committed at 0 and two fenced", attempts)
		}
		if audit.DroppedAttempts != 0 || audit.DroppedChanges != 0 {
			t.Errorf("got %+v, want nothing dropped", audit)
		}
		if got := b.get(t, job.ID); got.LastSequence != 2 {
			t.Errorf("got %+v: the audit is no part of the log", got)
		}
	})
}

func TestAuditTellsEachChangeWithItsReason(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		b := newBench(t, open(), jobs.Limits{})
		job := b.submit(t, spec(10))
		b.pause(t, job.ID)
		b.pause(t, job.ID)
		b.resume(t, job.ID)
		b.resume(t, job.ID)
		chunk := b.claim(t, job)
		if _, err := b.service.Pause(t.Context(), tenant, job.ID, 0); err != nil {
			t.Fatal(err)
		}
		b.release(t, chunk, false)
		b.resume(t, job.ID)
		chunk = b.claim(t, job)
		b.cancel(t, job.ID)
		b.cancel(t, job.ID)
		b.release(t, chunk, false)
		_, changes, attempts := b.audited(t, job.ID)
		wantAudit(t, "changes", changes, "PENDING ", "PAUSING ", "PAUSED ", "PENDING ", "RUNNING ", "PAUSING ", "PAUSED ", "RUNNING ",
			"CANCELLING CANCELLED_BY_CLIENT", "CANCELLED CANCELLED_BY_CLIENT")
		wantAudit(t, "attempts", attempts, "0 RELEASED", "0 RELEASED")

		poisoned := b.submit(t, spec(10))
		for range 3 {
			b.release(t, b.claim(t, poisoned), true)
		}
		_, changes, attempts = b.audited(t, poisoned.ID)
		wantAudit(t, "changes", changes, "PENDING ", "RUNNING ", "FAILED POISONED")
		wantAudit(t, "attempts", attempts, "0 DIED", "0 DIED", "0 DIED")
	})
}

func TestAuditOfALongJobIsBounded(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		b := newBench(t, open(), jobs.Limits{})
		job := b.submit(t, spec(1<<40))
		number, committed := 0, 0
		claim := func(tickets []jobs.Ticket) *jobs.Chunk {
			for _, ticket := range tickets {
				number++
				chunk, err := b.store.Claim(t.Context(), ticket, fmt.Sprint("worker/", number), "worker", 1<<16)
				if err == nil {
					return chunk
				}
				if !errors.Is(err, jobs.ErrIdle) {
					t.Fatal(err)
				}
			}
			t.Fatal("no ticket is left")
			return nil
		}
		tickets := b.waiting(t, jobs.QueueBatch, job.ID)
		for range 600 {
			next, _, err := b.store.Commit(t.Context(), claim(tickets), [][]jobs.Hit{nil})
			if err != nil {
				t.Fatal(err)
			}
			tickets = next
			committed++
			if committed%100 != 0 {
				continue
			}
			audit, _, _ := b.audited(t, job.ID)
			kept := len(audit.Attempts)
			if kept > 512 || kept < min(448, committed) || kept+int(audit.DroppedAttempts) != committed {
				t.Fatalf("after %d attempts %d are kept and %d dropped", committed, kept, audit.DroppedAttempts)
			}
			if newest := audit.Attempts[kept-1]; newest.Name != fmt.Sprint("worker/", number) {
				t.Fatalf("the newest attempt is %+v, want number %d", newest, number)
			}
		}
		for range 200 {
			b.pause(t, job.ID)
			b.resume(t, job.ID)
		}
		audit, _, _ := b.audited(t, job.ID)
		if kept := len(audit.Changes); kept > 512 || kept < 448 || kept+int(audit.DroppedChanges) != 602 {
			t.Errorf("of 602 changes %d are kept and %d dropped", kept, audit.DroppedChanges)
		}
	})
}

func TestAuditIsTheTenants(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		b := newBench(t, open(), jobs.Limits{})
		job := b.submit(t, spec(10))
		b.succeed(t, job)
		for _, c := range [][2]string{{"another", job.ID}, {tenant, "none"}} {
			if audit, err := b.service.Audit(t.Context(), c[0], c[1]); !errors.Is(err, jobs.ErrNotFound) {
				t.Errorf("got %+v, %v, want ErrNotFound", audit, err)
			}
		}
		if err := b.service.Delete(t.Context(), tenant, job.ID, 0); err != nil {
			t.Fatal(err)
		}
		if audit, err := b.service.Audit(t.Context(), tenant, job.ID); !errors.Is(err, jobs.ErrNotFound) {
			t.Errorf("after the job was deleted: got %+v, %v, want ErrNotFound", audit, err)
		}
	})
}

// It lives as long as the job, also when its first entry comes with the job's end.
func TestAuditExpiresWithTheJob(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		b := newBench(t, open(), jobs.Limits{Retention: time.Hour})
		job := b.submit(t, spec(10))
		b.commit(t, b.claim(t, job))
		for _, key := range []string{jobs.KeyTrail(job.ID), jobs.KeyChanges(job.ID)} {
			if ttl := b.client.PTTL(t.Context(), key).Val(); ttl <= 0 || ttl > time.Hour {
				t.Errorf("%s expires in %v, want an hour", key, ttl)
			}
		}
	})
}
