package jobs

import (
	"context"
	"fmt"
	"time"
)

// pausePoll is how often Service.Pause looks whether workers have stopped, which takes them some milliseconds.
const pausePoll = 10 * time.Millisecond

// Pause orders a tenant's job to be left alone and waits, for up to wait, until nothing runs for it any more. It
// returns the job as it then is: Paused, or still Pausing. Pausing a paused job changes nothing. Errors: ErrNotFound,
// ErrEnded, ErrStopping, ErrAttached, ErrUnavailable.
func (s *Service) Pause(ctx context.Context, tenant, id string, wait time.Duration) (Job, error) {
	if err := s.store.Pause(ctx, tenant, id); err != nil {
		return Job{}, err
	}
	waiting, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	poll := time.NewTicker(pausePoll)
	defer poll.Stop()
	for {
		job, err := s.store.Get(ctx, tenant, id)
		switch {
		case err != nil:
			return Job{}, err
		case job.State.Terminal(): // a worker had the end of it in its hands
			return Job{}, fmt.Errorf("pause job %s: %w", id, ErrEnded)
		case job.State == Cancelling:
			return Job{}, fmt.Errorf("pause job %s: %w", id, ErrStopping)
		case job.State != Pausing: // somebody may have resumed it meanwhile
			return s.acknowledged(ctx, job, nil)
		}
		select {
		case <-ctx.Done():
			return Job{}, context.Cause(ctx)
		case <-waiting.Done():
			return s.acknowledged(ctx, job, nil)
		case <-poll.C:
		}
	}
}

// Resume lets a tenant's job go on that is paused, or is to be, and returns it. Resuming any other job that has not
// ended changes nothing. Errors: ErrNotFound, ErrEnded, ErrStopping, ErrUnavailable.
func (s *Service) Resume(ctx context.Context, tenant, id string) (Job, error) {
	numbers, err := s.store.Resume(ctx, tenant, id)
	if err != nil {
		return Job{}, err
	}
	job, err := s.store.Get(ctx, tenant, id)
	if err != nil {
		return Job{}, err
	}
	s.enqueue(ctx, job.ID, tickets(sweepOf(job.ID), job.Spec.queue(), []string{job.ID}, job.Spec.Query, numbers))
	return s.acknowledged(ctx, job, nil)
}
