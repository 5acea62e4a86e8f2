package jobs_test

import (
	"errors"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/hashfinder/hashfinder/jobs"
	"github.com/hashfinder/hashfinder/jobs/jobstest"
)

// withReplica returns a bench on a redis-server which wants one replica to have every change and waits so long for it, a
// client of a server that can be that replica, and what makes it follow, or stop to.
func withReplica(t *testing.T, wait time.Duration) (b *bench, replica redis.UniversalClient, follow func(bool)) {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	master := jobstest.Open(t, jobstest.StartRedis(t, "--bind", "127.0.0.1", "--port", port, "--repl-diskless-sync-delay", "0"))
	replica = jobstest.Open(t, jobstest.StartRedis(t))
	follow = func(follow bool) {
		t.Helper()
		of := []any{"REPLICAOF", "NO", "ONE"}
		if follow {
			of = []any{"REPLICAOF", "127.0.0.1", port}
		}
		if err := replica.Do(t.Context(), of...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	b = newBench(t, master, jobs.Limits{})
	b.store = b.store.WithReplicas(jobs.Replicas{Count: 1, Wait: wait})
	b.service = jobs.NewService(b.store, b.queue, b.relay, jobs.Limits{}, slog.New(slog.DiscardHandler))
	return b, replica, follow
}

func TestReplicasHaveWhatIsAcknowledged(t *testing.T) {
	t.Parallel()
	b, replica, follow := withReplica(t, jobs.MaxReplicasWait)
	follow(true)
	// The first copy of everything takes a moment.
	var job jobs.Job
	jobstest.Until(t, "a submit is acknowledged", func() bool {
		var err error
		job, err = b.service.Submit(t.Context(), request("first", 10))
		return err == nil
	})
	// No look at the replica may come too early now.
	has := func(id, field, want string) {
		t.Helper()
		if got := replica.HGet(t.Context(), jobs.KeyJob(id), field).Val(); got != want {
			t.Errorf("the replica has %s %q of the job, want %q", field, got, want)
		}
	}
	has(job.ID, "state", "PENDING")
	for range 20 {
		other := b.submit(t, spec(10))
		has(other.ID, "state", "PENDING")
		b.pause(t, other.ID)
		if replica.HGet(t.Context(), jobs.KeyJob(other.ID), "paused").Val() == "" {
			t.Error("the replica does not know that the job is paused")
		}
		b.resume(t, other.ID)
		has(other.ID, "paused", "")
		if _, err := b.service.Cancel(t.Context(), tenant, other.ID, jobs.CancelledByClient, time.Minute); err != nil {
			t.Fatal(err)
		}
		has(other.ID, "state", "CANCELLED")
	}
	old := b.exhaust(t, spec(100))
	has(b.extend(t, old.ID, jobs.Budget{Candidates: 200}).ID, "extends", old.ID)
}

func TestCallsThatNoReplicaHasSeenCanBeRepeated(t *testing.T) {
	t.Parallel()
	b, replica, follow := withReplica(t, 100*time.Millisecond)
	submit := func() (jobs.Job, error) { return b.service.Submit(t.Context(), request("id", 10)) }
	wantRefused := func(call string, err error) {
		t.Helper()
		if !errors.Is(err, jobs.ErrNotReplicated) || !errors.Is(err, jobs.ErrUnavailable) {
			t.Errorf("%s without a replica: got %v, want ErrNotReplicated, which is ErrUnavailable", call, err)
		}
	}
	for range 3 {
		_, err := submit()
		wantRefused("submit", err)
	}
	list, _, err := b.service.List(t.Context(), tenant, "", 10)
	if err != nil || len(list) != 1 {
		t.Fatalf("got %d jobs, %v, want the one of the request", len(list), err)
	}
	id := list[0].ID
	_, err = b.service.Pause(t.Context(), tenant, id, time.Minute)
	wantRefused("pause", err)
	_, err = b.service.Resume(t.Context(), tenant, id)
	wantRefused("resume", err)
	// It is stored, and workers are called.
	if got := b.waiting(t, jobs.QueueBatch, id); len(got) == 0 {
		t.Error("no worker is called for a job that is stored")
	}

	follow(true)
	var job jobs.Job
	jobstest.Until(t, "the same submit is acknowledged", func() bool {
		job, err = submit()
		return err == nil
	})
	if job.ID != id || replica.Exists(t.Context(), jobs.KeyJob(id)).Val() != 1 {
		t.Errorf("got job %s, want %s, which the replica has", job.ID, id)
	}

	// The replica goes. What it has seen before does not count for what it has not.
	follow(false)
	jobstest.Until(t, "a cancel is not acknowledged", func() bool {
		_, err := b.service.Cancel(t.Context(), tenant, id, jobs.CancelledByClient, time.Minute)
		return errors.Is(err, jobs.ErrNotReplicated)
	})
	_, err = submit()
	wantRefused("the submit that was acknowledged before", err)
	follow(true)
	jobstest.Until(t, "the cancel is acknowledged", func() bool {
		job, err = b.service.Cancel(t.Context(), tenant, id, jobs.CancelledByClient, time.Minute)
		return err == nil
	})
	if got := replica.HGet(t.Context(), jobs.KeyJob(id), "state").Val(); job.State != jobs.Cancelled || got != "CANCELLED" {
		t.Errorf("got %s, and %s at the replica, want CANCELLED", job.State, got)
	}
}

// Whoever an attached job lives by sees its loss, so a search that somebody waits for does not wait for replicas.
func TestAttachedJobsWaitForNoReplica(t *testing.T) {
	t.Parallel()
	b, _, _ := withReplica(t, 100*time.Millisecond)
	job := b.submit(t, attached(spec(10)))
	if _, err := b.service.Cancel(t.Context(), tenant, job.ID, jobs.CancelledByClient, time.Minute); err != nil {
		t.Error(err)
	}
}

// A front end that has lost the data to a failover must not acknowledge what is gone.
func TestNothingThatIsGoneIsAcknowledged(t *testing.T) {
	t.Parallel()
	b, _, follow := withReplica(t, 100*time.Millisecond)
	follow(true)
	jobstest.Until(t, "a submit is acknowledged", func() bool {
		_, err := b.service.Submit(t.Context(), request("first", 10))
		return err == nil
	})
	err := b.store.Acknowledge(t.Context(), &jobs.Job{ID: "gone"})
	if !errors.Is(err, jobs.ErrNotReplicated) {
		t.Errorf("got %v, want ErrNotReplicated", err)
	}
}

func TestReplicasOfACluster(t *testing.T) {
	t.Parallel()
	b := newBench(t, jobstest.Open(t, jobstest.StartCluster(t)), jobs.Limits{})
	b.store = b.store.WithReplicas(jobs.Replicas{Count: 1, Wait: time.Millisecond})
	b.service = jobs.NewService(b.store, b.queue, b.relay, jobs.Limits{}, slog.New(slog.DiscardHandler))
	_, err := b.service.Submit(t.Context(), request("id", 10))
	if !errors.Is(err, jobs.ErrNotReplicated) {
		t.Errorf("on a cluster without replicas: got %v, want ErrNotReplicated", err)
	}
}
