package jobs

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Limits bound what a job may use, and how many there may be. The zero value of a field means its default.
type Limits struct {
	Default   Budget        // of a job that asks for none: 2^36 candidates, 100,000 hits, no bound on its duration
	Ceiling   Budget        // of any job: MaxCandidates, 1,000,000 hits, no bound on its duration
	MaxActive uint64        // jobs of a tenant that have not ended: 1,000
	Retention time.Duration // that an ended job is kept: 24 hours; an attached one at most ten minutes
}

// attachedRetention bounds how long an ended attached job is kept: whoever asked for it has its hits by then.
const attachedRetention = 10 * time.Minute

func (l Limits) withDefaults() Limits {
	l.Ceiling.Candidates = min(orElse(l.Ceiling.Candidates, MaxCandidates), MaxCandidates)
	l.Ceiling.Hits = orElse(l.Ceiling.Hits, 1_000_000)
	l.Default.Candidates = min(orElse(l.Default.Candidates, 1<<36), l.Ceiling.Candidates)
	l.Default.Hits = min(orElse(l.Default.Hits, 100_000), l.Ceiling.Hits)
	l.Default.Duration = orElse(l.Default.Duration, l.Ceiling.Duration)
	if l.Ceiling.Duration > 0 {
		l.Default.Duration = min(l.Default.Duration, l.Ceiling.Duration)
	}
	l.MaxActive = orElse(l.MaxActive, 1000)
	l.Retention = orElse(l.Retention, 24*time.Hour)
	return l
}

func orElse[T comparable](value, other T) T {
	var zero T
	if value == zero {
		return other
	}
	return value
}

// Request is what a client asks for.
type Request struct {
	Tenant       string
	Spec         Spec   // zero fields of the budget stand for the server's defaults
	RequestID    string // empty, or makes a retry safe
	ValidateOnly bool   // store nothing
}

// Service is what a front end calls. It is safe for concurrent use.
type Service struct {
	store  *Store
	queue  Enqueuer
	relay  *Relay
	limits Limits
	log    *slog.Logger

	mu        sync.Mutex
	fleet     Fleet
	fleetTime time.Time
}

// NewService returns a service on its parts.
func NewService(store *Store, queue Enqueuer, relay *Relay, limits Limits, log *slog.Logger) *Service {
	return &Service{store: store, queue: queue, relay: relay, limits: limits.withDefaults(), log: log}
}

// Submit stores a job and calls for workers. When the request id was used before for the same request, it returns
// that job. With ValidateOnly it returns the job as it would be, without an ID, or the error that it would meet now.
//
// Errors: *FieldError, ErrRequestUsed, *QuotaError, ErrUnavailable (the job may have been stored; with a request id
// it is safe to ask again).
func (s *Service) Submit(ctx context.Context, req Request) (Job, error) {
	// What the client asked for, not what the defaults of today make of it: a retry after a change of those is still a
	// retry.
	fingerprint, err := fingerprint(req.Spec)
	if err != nil {
		return Job{}, err
	}
	if err := s.complete(&req.Spec); err != nil {
		return Job{}, err
	}
	if req.ValidateOnly {
		if err := s.store.check(ctx, req.Tenant, req.RequestID, fingerprint, s.limits.MaxActive); err != nil {
			return Job{}, err
		}
		return Job{Tenant: req.Tenant, Spec: req.Spec, State: Pending}, nil
	}
	return s.create(ctx, Submission{Tenant: req.Tenant, Spec: req.Spec, RequestID: req.RequestID, Fingerprint: fingerprint})
}

// create stores a job that is complete but for what every job gets, calls for workers, and returns it, or the one that
// the same request made before.
func (s *Service) create(ctx context.Context, sub Submission) (Job, error) {
	fleet, err := s.Fleet(ctx)
	if err != nil {
		return Job{}, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return Job{}, fmt.Errorf("make job id: %w", err)
	}
	sub.ID, sub.MaxActive, sub.Retention, sub.Window = id.String(), s.limits.MaxActive, s.limits.Retention, fleet.window(1)
	if sub.Spec.Attached {
		sub.Retention = min(sub.Retention, attachedRetention)
	}
	stored, tickets, err := s.store.Submit(ctx, sub)
	if err != nil {
		return Job{}, err
	}
	s.enqueue(ctx, stored, tickets)
	job, err := s.store.Get(ctx, sub.Tenant, stored)
	if errors.Is(err, ErrNotFound) {
		return Job{}, fmt.Errorf("submit job: %w: it made %s, which is gone", ErrRequestUsed, stored)
	}
	return s.acknowledged(ctx, job, err)
}

// acknowledged returns a job that was read after a change, once as many replicas have that as are asked for.
func (s *Service) acknowledged(ctx context.Context, job Job, err error) (Job, error) {
	if err == nil {
		err = s.store.acknowledge(ctx, &job)
	}
	if err != nil {
		return Job{}, err
	}
	return job, nil
}

// enqueue calls for workers. What is stored runs even if this fails: the reconciler looks for tickets that are not in
// the queue.
func (s *Service) enqueue(ctx context.Context, id string, tickets []Ticket) {
	if err := s.queue.Enqueue(ctx, tickets); err != nil {
		s.log.Warn("cannot enqueue; the reconciler will", "job", id, "error", err)
	}
}

// complete fills in the defaults of a spec's budget and holds it to the ceiling.
func (s *Service) complete(spec *Spec) error {
	budget, ceiling := &spec.Budget, s.limits.Ceiling
	budget.Candidates = orElse(budget.Candidates, s.limits.Default.Candidates)
	budget.Hits = orElse(budget.Hits, s.limits.Default.Hits)
	budget.Duration = orElse(budget.Duration, s.limits.Default.Duration)
	switch {
	case budget.Candidates > ceiling.Candidates:
		return &FieldError{"budget.max_candidates", fmt.Sprintf("%d is more than this server allows, %d", budget.Candidates, ceiling.Candidates)}
	case budget.Hits > ceiling.Hits:
		return &FieldError{"budget.max_hits", fmt.Sprintf("%d is more than this server allows, %d", budget.Hits, ceiling.Hits)}
	case budget.Duration < 0 || budget.Duration > 0 && budget.Duration < time.Millisecond:
		return &FieldError{"budget.max_duration", "it must be at least a millisecond"}
	case ceiling.Duration > 0 && budget.Duration > ceiling.Duration:
		return &FieldError{"budget.max_duration", fmt.Sprintf("%v is more than this server allows, %v", budget.Duration, ceiling.Duration)}
	}
	return nil
}

// fingerprint tells what was asked for from anything else.
func fingerprint(asked any) (string, error) {
	text, err := json.Marshal(asked)
	if err != nil {
		return "", fmt.Errorf("encode request: %w", err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}

// Get returns a tenant's job. Errors: ErrNotFound, ErrUnavailable.
func (s *Service) Get(ctx context.Context, tenant, id string) (Job, error) {
	return s.store.Get(ctx, tenant, id)
}

// List is Store.List.
func (s *Service) List(ctx context.Context, tenant, after string, limit int) ([]Job, string, error) {
	return s.store.List(ctx, tenant, after, limit)
}

// Delete is Store.Delete.
func (s *Service) Delete(ctx context.Context, tenant, id string, revision uint64) error {
	return s.store.Delete(ctx, tenant, id, revision)
}

// Cancel orders a tenant's job to stop and waits, for up to wait, until nothing runs for it any more. It returns the job
// as it then is: Cancelled, or still Cancelling. Errors: ErrNotFound, ErrEnded, ErrUnavailable.
func (s *Service) Cancel(ctx context.Context, tenant, id string, reason Reason, wait time.Duration) (Job, error) {
	if err := s.store.Cancel(ctx, tenant, id, reason); err != nil {
		return Job{}, err
	}
	job, err := s.store.Get(ctx, tenant, id)
	if err != nil || job.State.Terminal() || wait <= 0 {
		return s.acknowledged(ctx, job, err)
	}
	waiting, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	w := s.relay.Watch(job, job.LastSequence)
	defer w.Close()
	for {
		event, err := w.Next(waiting)
		if waiting.Err() != nil && ctx.Err() == nil {
			job, err := s.store.Get(ctx, tenant, id)
			return s.acknowledged(ctx, job, err)
		}
		if err != nil {
			return Job{}, err
		}
		if event.End != nil {
			return s.acknowledged(ctx, *event.End, nil)
		}
	}
}

// Watch returns a watcher of a tenant's job, and the job. Errors: ErrNotFound, ErrUnavailable, *RangeError when the
// job has no event of sequence number after.
func (s *Service) Watch(ctx context.Context, tenant, id string, after uint64) (*Watcher, Job, error) {
	job, err := s.store.Get(ctx, tenant, id)
	if err != nil {
		return nil, Job{}, err
	}
	if after > job.LastSequence {
		return nil, Job{}, fmt.Errorf("watch job %s: %w", id, &RangeError{After: after, Last: job.LastSequence})
	}
	if job.Spec.Attached && !job.State.Terminal() {
		if err := s.store.Attend(ctx, id); err != nil {
			return nil, Job{}, err
		}
	}
	return s.relay.Watch(job, after), job, nil
}

// Follow returns a watcher of all events of a job that Submit has just returned.
func (s *Service) Follow(job Job) *Watcher { return s.relay.Watch(job, 0) }

// Fleet returns the workers present, as of at most a second ago.
func (s *Service) Fleet(ctx context.Context) (Fleet, error) {
	s.mu.Lock()
	fleet, age := s.fleet, time.Since(s.fleetTime)
	s.mu.Unlock()
	if age < time.Second {
		return fleet, nil
	}
	fleet, err := s.store.Fleet(ctx)
	if err != nil {
		return Fleet{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fleet, s.fleetTime = fleet, time.Now()
	return fleet, nil
}

// Ready tells whether the service can serve: Redis answers.
func (s *Service) Ready(ctx context.Context) error { return s.store.Ping(ctx) }
