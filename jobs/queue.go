package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"
)

// TaskType is the type of the asynq tasks that carry tickets.
const TaskType = "hashfinder:ticket"

const (
	// ticketRetries bounds how often asynq may deliver a ticket again; every death of a worker uses one up.
	ticketRetries = 100
	// ticketTimeout ends a handler's context. Chunks take about a second; asynq's default is half an hour.
	ticketTimeout = 10 * time.Minute
	// ticketRetention is how long the dashboard shows the chunk that a ticket was used for.
	ticketRetention = time.Minute
	// ticketCopies bounds how many tasks carry one ticket: as many as workers that took one and died before they claimed.
	ticketCopies = 10
)

// Ticket calls for a worker: "run any one chunk of this sweep". Which one is settled when it is claimed. It is the
// payload of an asynq task; losing one, or running it twice, does no harm.
type Ticket struct {
	Sweep  string   `json:"sweep"`
	Number string   `json:"ticket"` // never used again in its sweep
	Queue  string   `json:"queue"`
	Jobs   []string `json:"jobs"`  // members of the sweep when the ticket was made: a hint
	Query  string   `json:"query"` // of the first of those, for people who look at the queue
}

// ID is the id of the ticket's asynq task; that of a copy of it has ":2" and so on behind it.
func (t *Ticket) ID() string { return t.Sweep + ":t" + t.Number }

func tickets(sweep, queue string, jobs []string, query []byte, numbers []string) []Ticket {
	var all []Ticket
	for _, n := range numbers {
		all = append(all, Ticket{Sweep: sweep, Number: n, Queue: queue, Jobs: jobs, Query: string(query)})
	}
	return all
}

// DecodeTicket reads the payload of a task of TaskType.
func DecodeTicket(payload []byte) (Ticket, error) {
	var t Ticket
	if err := json.Unmarshal(payload, &t); err != nil {
		return Ticket{}, fmt.Errorf("decode ticket: %w", err)
	}
	if t.Sweep == "" || t.Number == "" || len(t.Jobs) == 0 || slices.Contains(t.Jobs, "") ||
		!slices.Contains([]string{QueueInteractive, QueueBatch}, t.Queue) {
		return Ticket{}, errors.New("decode ticket: it lacks its sweep, ticket, queue or jobs")
	}
	return t, nil
}

// Enqueuer takes tickets that workers are to come for. [Queue] is one; tests of what becomes of lost and repeated
// tickets have their own.
type Enqueuer interface {
	// Enqueue puts tickets into the queue. After an error some may be there. Error: ErrUnavailable.
	Enqueue(ctx context.Context, tickets []Ticket) error
}

// Queue puts tickets into asynq. It is safe for concurrent use.
type Queue struct {
	client    *asynq.Client
	inspector *asynq.Inspector
}

// NewQueue returns a queue on client, which stays the caller's to close.
func NewQueue(client redis.UniversalClient) *Queue {
	return &Queue{client: asynq.NewClientFromRedisClient(client), inspector: asynq.NewInspectorFromRedisClient(client)}
}

// Enqueue puts tickets into the queue, each unless it is there already. After an error some may be there; the
// reconciler puts in the others. Error: ErrUnavailable.
func (q *Queue) Enqueue(ctx context.Context, tickets []Ticket) error {
	for i := range tickets {
		if err := q.enqueue(ctx, &tickets[i]); err != nil {
			return fmt.Errorf("enqueue ticket %s: %w: %w", tickets[i].ID(), ErrUnavailable, err)
		}
	}
	return nil
}

func (q *Queue) enqueue(ctx context.Context, t *Ticket) error {
	payload, err := json.Marshal(t)
	if err != nil {
		return err
	}
	id := t.ID()
	for n := 2; ; n++ {
		active, err := q.put(ctx, t.Queue, id, payload)
		if err != nil || !active || n > ticketCopies {
			return err
		}
		// The ledger waits for the ticket, but a worker has taken the task: it claims in a moment, or has died before it
		// could. asynq then delivers the task again, but only after one or two minutes (v0.26.0); a copy does at once
		// what it calls for, and nothing if the ticket is used by then.
		id = fmt.Sprintf("%s:%d", t.ID(), n)
	}
}

// put puts a task into a queue unless one of its id can still run there. active tells that a worker has that one.
func (q *Queue) put(ctx context.Context, queue, id string, payload []byte) (active bool, err error) {
	task := asynq.NewTask(TaskType, payload, asynq.TaskID(id), asynq.Queue(queue),
		asynq.MaxRetry(ticketRetries), asynq.Timeout(ticketTimeout), asynq.Retention(ticketRetention))
	ctx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	_, err = q.client.EnqueueContext(ctx, task)
	if !errors.Is(err, asynq.ErrTaskIDConflict) {
		return false, err
	}
	// Its id is taken. A task that can still run is the ticket itself; one that cannot, although the ledger waits for
	// the ticket, was archived after too many failures: it makes room.
	info, err := q.inspector.GetTaskInfo(queue, id)
	if errors.Is(err, asynq.ErrTaskNotFound) || errors.Is(err, asynq.ErrQueueNotFound) {
		return false, nil // it has just gone; the reconciler looks again
	}
	if err != nil || info.State != asynq.TaskStateArchived && info.State != asynq.TaskStateCompleted {
		return err == nil && info.State == asynq.TaskStateActive, err
	}
	if err := q.inspector.DeleteTask(queue, id); err != nil && !errors.Is(err, asynq.ErrTaskNotFound) {
		return false, err
	}
	_, err = q.client.EnqueueContext(ctx, task)
	if errors.Is(err, asynq.ErrTaskIDConflict) {
		return false, nil
	}
	return false, err
}
