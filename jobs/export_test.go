package jobs

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// What tests need to see of the store.

func (s *Store) Client() redis.UniversalClient { return s.client }

func (s *Store) ReconcileJob(ctx context.Context, id string, window int) ([]Ticket, error) {
	return s.reconcile(ctx, id, window)
}

// Acknowledge waits until replicas have a job.
func (s *Store) Acknowledge(ctx context.Context, job *Job) error { return s.acknowledge(ctx, job) }

// Lead is what a reconciler does to lead, or to step down.
func (r *Reconciler) Lead(ctx context.Context, lead bool) (bool, error) {
	if lead {
		return r.lead(ctx, leaderTTL)
	}
	return r.lead(ctx, 0)
}

// Window is how many tickets each sweep may have when so many are live.
func (f Fleet) Window(live int) int { return f.window(live) }

// ParseEvent is what a watcher makes of a line of a message, or of a log.
var ParseEvent = parseEvent

// Pool begins every key of the package's own.
const Pool = pool

var (
	KeySweep = keySweep
	KeyJob   = keyJob
	KeyLog   = keyLog
	KeyStop  = keyStop

	KeyChanges = keyChanges
	KeyTrail   = keyTrail

	KeyTenantJobs = keyTenantJobs
	KeyRequest    = keyRequest
)

const (
	KeyFleet    = keyFleet
	KeyLeader   = keyLeader
	KeyPresence = keyPresence
	KeyTenants  = keyTenants
)
