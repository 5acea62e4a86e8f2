package worker

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/hashfinder/hashfinder/jobs"
)

const (
	// drainTime is how long running chunks have at shutdown: more than twice chunkTime, because asynq gives a task
	// to another worker when it is over.
	drainTime = 5 * time.Second

	// Polling of the two queues while they are empty, one of them also while the other has work. It costs about a tenth of
	// a core at 5 ms, in proportion to the frequency, and delays the first chunk of a search by as much.
	pollInteractive = 5 * time.Millisecond
	pollBatch       = 200 * time.Millisecond
)

// asynqSource brings the tickets that jobs.Queue has put into asynq. Each queue has a server of its own.
type asynqSource struct {
	client redis.UniversalClient
	log    *slog.Logger
}

// Serve implements Source.
func (s *asynqSource) Serve(ctx context.Context, queue string, slots int, handle func(context.Context, jobs.Ticket) (string, error)) error {
	poll := pollBatch
	if queue == jobs.QueueInteractive {
		poll = pollInteractive
	}
	server := asynq.NewServerFromRedisClient(s.client, asynq.Config{
		Concurrency:              slots,
		Queues:                   map[string]int{queue: 1},
		TaskCheckInterval:        poll,
		DelayedTaskCheckInterval: time.Second,
		ShutdownTimeout:          drainTime,
		RetryDelayFunc:           func(int, error, *asynq.Task) time.Duration { return time.Second },
		Logger:                   asynqLogger{s.log.With("queue", queue)},
		LogLevel:                 asynq.WarnLevel,
	})
	err := server.Start(asynq.HandlerFunc(func(ctx context.Context, task *asynq.Task) error {
		if task.Type() != jobs.TaskType {
			return fmt.Errorf("unknown task type %q: %w", task.Type(), asynq.SkipRetry)
		}
		ticket, err := jobs.DecodeTicket(task.Payload())
		if err != nil {
			return fmt.Errorf("%w: %w", err, asynq.SkipRetry)
		}
		note, err := handle(ctx, ticket)
		if note != "" {
			// For people who look at the queue; nothing depends on it.
			if _, err := task.ResultWriter().Write([]byte(note)); err != nil {
				s.log.Warn("cannot note the chunk in its task", "sweep", ticket.Sweep, "error", err)
			}
		}
		return err
	}))
	if err != nil {
		return fmt.Errorf("start asynq server: %w", err)
	}
	<-ctx.Done()
	s.log.Info("worker draining", "queue", queue)
	server.Shutdown()
	return nil
}
