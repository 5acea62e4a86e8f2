package jobs_test

import (
	"context"
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/hashfinder/hashfinder/jobs"
	"github.com/hashfinder/hashfinder/jobs/jobstest"
)

func ticket(queue string) jobs.Ticket {
	return jobs.Ticket{Sweep: "sweep", Number: "1", Queue: queue, Jobs: []string{"job"}, Query: `{"name":"doctor"}`}
}

func (b *bench) enqueue(t *testing.T, ticket jobs.Ticket) {
	t.Helper()
	if err := b.queue.Enqueue(t.Context(), []jobs.Ticket{ticket}); err != nil {
		t.Fatal(err)
	}
}

func TestEnqueue(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		for _, queue := range []string{jobs.QueueInteractive, jobs.QueueBatch} {
			t.Run(queue, func(t *testing.T) {
				b := newBench(t, open(), jobs.Limits{})
				ticket := ticket(queue)
				wantOne := func(what string) {
					t.Helper()
					if diff := cmp.Diff([]jobs.Ticket{ticket}, b.waiting(t, queue, "sweep")); diff != "" {
						t.Errorf("%s: waiting tickets (-want +got):\n%s", what, diff)
					}
				}
				b.enqueue(t, ticket)
				wantOne("once")
				b.enqueue(t, ticket)
				wantOne("twice")

				// Too many workers died of it, which archives the task; the ledger still waits for the ticket.
				if err := b.inspector.ArchiveTask(queue, ticket.ID()); err != nil {
					t.Fatal(err)
				}
				b.enqueue(t, ticket)
				wantOne("archived")

				// A handler returned although nobody claimed. Its task is kept for a while for people to see.
				server := asynq.NewServerFromRedisClient(b.client, asynq.Config{
					Queues: map[string]int{queue: 1}, TaskCheckInterval: 5 * time.Millisecond, LogLevel: asynq.FatalLevel,
				})
				if err := server.Start(asynq.HandlerFunc(func(context.Context, *asynq.Task) error { return nil })); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(server.Shutdown)
				jobstest.Until(t, "the task is done", func() bool {
					info, err := b.inspector.GetTaskInfo(queue, ticket.ID())
					return err == nil && info.State == asynq.TaskStateCompleted
				})
				server.Shutdown()
				b.enqueue(t, ticket)
				wantOne("completed")

				if err := b.inspector.DeleteTask(queue, ticket.ID()); err != nil {
					t.Fatal(err)
				}
				b.enqueue(t, ticket)
				wantOne("deleted")
			})
		}
	})
}

func TestJobsAreServedFromTheQueueOfTheirKind(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		b := newBench(t, open(), jobs.Limits{})
		if err := b.store.Heartbeat(t.Context(), "w", 3, 1); err != nil {
			t.Fatal(err)
		}
		for queue, spec := range map[string]jobs.Spec{jobs.QueueBatch: spec(1 << 20), jobs.QueueInteractive: attached(spec(1 << 20))} {
			job := b.submit(t, spec)
			if first := b.waiting(t, queue, job.ID); len(first) != 2 {
				t.Errorf("%s: got %d tickets, want two to begin with", queue, len(first))
			}
			b.reconcile(t)
			first := b.waiting(t, queue, job.ID)
			if len(first) < 3 {
				t.Errorf("%s: got %d tickets, want one for each of the 3 slots", queue, len(first))
			}
			b.commit(t, b.claim(t, job))
			b.reconcile(t)
			var numbers []string
			for _, ticket := range b.waiting(t, queue, job.ID) {
				if ticket.Queue != queue || !slices.Equal(ticket.Jobs, []string{job.ID}) || ticket.Query != string(spec.Query) {
					t.Errorf("%s: got %+v", queue, ticket)
				}
				numbers = append(numbers, ticket.Number)
			}
			if slices.Sort(numbers); len(slices.Compact(numbers)) != len(first)+1 {
				t.Errorf("%s: got the tickets %v, want a new one after a commit", queue, numbers)
			}
			for _, other := range []string{jobs.QueueBatch, jobs.QueueInteractive} {
				if got := b.waiting(t, other, job.ID); other != queue && len(got) > 0 {
					t.Errorf("the queue %s has %d tickets of a job of %s", other, len(got), queue)
				}
			}
		}
	})
}

func FuzzDecodeTicket(f *testing.F) {
	good, err := json.Marshal(ticket(jobs.QueueBatch))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	for _, payload := range []string{
		"", "null", "{}", "[]", "\x00", `{"sweep":"s","ticket":"1","queue":"batch","jobs":[]}`, `{"sweep":"s","ticket":"1","queue":"batch","jobs":[""]}`,
		`{"sweep":"s","ticket":"1","queue":"other","jobs":["j"]}`, `{"sweep":"","ticket":"1","queue":"batch","jobs":["j"]}`,
		`{"sweep":"s","ticket":1,"queue":"batch","jobs":["j"]}`, `{"sweep":"s","ticket":"1","queue":"batch","jobs":["j"]} x`,
		`{"SWEEP":"s","ticket":"1","queue":"interactive","jobs":["j"],"new":{}}`,
	} {
		f.Add([]byte(payload))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		ticket, err := jobs.DecodeTicket(payload)
		if err != nil {
			if !cmp.Equal(ticket, jobs.Ticket{}) {
				t.Errorf("got %+v beside the error %v", ticket, err)
			}
			return
		}
		if ticket.Sweep == "" || ticket.Number == "" || len(ticket.Jobs) == 0 || slices.Contains(ticket.Jobs, "") ||
			ticket.Queue != jobs.QueueBatch && ticket.Queue != jobs.QueueInteractive {
			t.Errorf("accepted the incomplete ticket %+v", ticket)
		}
		text, err := json.Marshal(ticket)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := jobs.DecodeTicket(text); err != nil || !cmp.Equal(again, ticket) {
			t.Errorf("got %+v, %v, want %+v", again, err, ticket)
		}
	})
}
