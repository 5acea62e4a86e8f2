package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
)

const (
	reconcilePeriod = 500 * time.Millisecond
	// leaderTTL is how long a leader that died keeps the others from leading.
	leaderTTL = 2 * time.Second
	// indexPeriod counts reconciliations between two looks at the tenants' indexes.
	indexPeriod = 20
)

// Reconciler brings every job to where it should be: it replaces lost tickets, gives back the chunks of dead workers,
// stops jobs that are orphaned or over their time, and ends those that nothing runs for any more. Every process has
// one, and one of them leads at a time; two that lead at once do no harm.
type Reconciler struct {
	store *Store
	queue Enqueuer
	log   *slog.Logger
	name  string
}

// NewReconciler returns a reconciler; Run runs it.
func NewReconciler(store *Store, queue Enqueuer, log *slog.Logger) *Reconciler {
	return &Reconciler{store: store, queue: queue, log: log, name: uuid.NewString()}
}

// Run reconciles twice a second until ctx ends, and steps down then.
func (r *Reconciler) Run(ctx context.Context) {
	ticker := time.NewTicker(reconcilePeriod)
	defer ticker.Stop()
	failing := false
	for tick := 0; ; tick++ {
		select {
		case <-ctx.Done():
			// The successor need not wait; if this fails it waits for leaderTTL.
			if _, err := r.lead(context.WithoutCancel(ctx), 0); err != nil {
				r.log.Warn("cannot step down as leader", "error", err)
			}
			return
		case <-ticker.C:
		}
		err := r.tick(ctx, tick)
		if err != nil && ctx.Err() == nil && !failing {
			r.log.Warn("cannot reconcile", "error", err) // once, not twice a second
		}
		if err == nil && failing {
			r.log.Info("reconciling again")
		}
		failing = err != nil
	}
}

func (r *Reconciler) tick(ctx context.Context, tick int) error {
	leads, err := r.lead(ctx, leaderTTL)
	if err != nil || !leads {
		return err
	}
	if tick%indexPeriod == 0 {
		if err := r.store.sweepIndexes(ctx); err != nil {
			return err
		}
	}
	return r.Reconcile(ctx)
}

func (r *Reconciler) lead(ctx context.Context, ttl time.Duration) (bool, error) {
	call, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	leads, err := r.store.scripts.lead.Run(call, r.store.client, []string{keyLeader, keyPresence}, r.name, ttl.Milliseconds()).Bool()
	return leads, redisError(ctx, "lead", err)
}

// Reconcile looks at every job once. A job that cannot be reconciled does not keep the others from it.
func (r *Reconciler) Reconcile(ctx context.Context) error {
	led := time.Now()
	live, err := r.store.client.ZRange(ctx, keyLive, 0, -1).Result()
	if err != nil {
		return redisError(ctx, "list live jobs", err)
	}
	fleet, err := r.store.Fleet(ctx)
	if err != nil {
		return err
	}
	sharing, err := r.store.sharing(ctx, live)
	if err != nil {
		return err
	}
	var failed []error
	for _, id := range live {
		tickets, err := r.store.reconcile(ctx, id, fleet.window(sharing))
		if errors.Is(err, ErrUnavailable) || ctx.Err() != nil {
			return err
		}
		if err == nil {
			err = r.queue.Enqueue(ctx, tickets)
		}
		if err != nil {
			failed = append(failed, err)
		}
		// A long pass must not end the leadership, or every process would begin one.
		if time.Since(led) >= leaderTTL/2 {
			if leads, err := r.lead(ctx, leaderTTL); err != nil || !leads {
				return errors.Join(append(failed, err)...)
			}
			led = time.Now()
		}
	}
	return errors.Join(failed...)
}

// sharing counts those of the jobs that share the fleet: the others are paused.
func (s *Store) sharing(ctx context.Context, ids []string) (int, error) {
	call, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	replies, err := s.client.Pipelined(call, func(p redis.Pipeliner) error {
		for _, id := range ids {
			p.HExists(call, keyJob(id), "pause")
		}
		return nil
	})
	if err != nil {
		return 0, redisError(ctx, "look for paused jobs", err)
	}
	count := len(ids)
	for _, reply := range replies {
		if paused, ok := reply.(*redis.BoolCmd); ok && paused.Val() {
			count--
		}
	}
	return count, nil
}

// reconcile looks at one job and its sweep, and returns the tickets that should be in the queue.
func (s *Store) reconcile(ctx context.Context, id string, window int) ([]Ticket, error) {
	members := []string{id}
	reply, err := s.run(ctx, s.scripts.reconcile, sweepOf(id), members, []string{keyPresence}, window, uuid.NewString())
	if err != nil {
		return nil, redisError(ctx, "reconcile job "+id, err)
	}
	if len(reply) == 0 {
		return nil, nil
	}
	if len(reply) == 1 {
		return nil, fmt.Errorf("reconcile job %s: unknown reply %q", id, reply)
	}
	return tickets(sweepOf(id), reply[0], members, []byte(reply[1]), reply[2:]), nil
}
