package jobs

import (
	"context"
	"fmt"
)

// Extension is what a client asks for that wants more of an exhausted job.
type Extension struct {
	Tenant    string
	Job       string // id of the exhausted job
	Budget    Budget // what both may use together; zero fields stand for what that one could use
	RequestID string // empty, or makes a retry safe
}

// Extend stores a job that goes on where an exhausted one ended, and calls for workers: it has that one's spec but for
// the budget, its hits and its log, and searches what that one has not. The exhausted job stays as it is. When the
// request id was used before for the same request, Extend returns the job that this made.
//
// Errors: *FieldError when a budget is smaller than that of the job, or not larger where that is used up, or more than
// the server allows; ErrNotFound, ErrNotUsedUp, *ExtendedError, ErrRequestUsed, *QuotaError, ErrUnavailable (with a
// request id it is safe to ask again).
func (s *Service) Extend(ctx context.Context, ext Extension) (Job, error) {
	fingerprint, err := fingerprint(struct {
		Extends string
		Budget  Budget
	}{ext.Job, ext.Budget})
	if err != nil {
		return Job{}, err
	}
	// What has ended does not change, so it can be read before the script that stores the extension.
	old, err := s.store.Get(ctx, ext.Tenant, ext.Job)
	if err != nil {
		return Job{}, err
	}
	if old.State != Exhausted {
		return Job{}, fmt.Errorf("extend job %s: %w", ext.Job, ErrNotUsedUp)
	}
	spec := old.Spec
	if spec.Budget, err = enlarge(&old, ext.Budget); err != nil {
		return Job{}, err
	}
	if err := s.complete(&spec); err != nil {
		return Job{}, err
	}
	return s.create(ctx, Submission{
		Tenant: ext.Tenant, Spec: spec, RequestID: ext.RequestID, Fingerprint: fingerprint, Extends: ext.Job,
	})
}

// enlarge returns the budget of an extension of old, for which asked was asked.
func enlarge(old *Job, asked Budget) (Budget, error) {
	budget := old.Spec.Budget
	for _, bound := range []struct {
		field      string
		have       *uint64
		asked      uint64
		exhausting Reason
	}{
		{"budget.max_candidates", &budget.Candidates, asked.Candidates, CandidatesExhausted},
		{"budget.max_hits", &budget.Hits, asked.Hits, HitsExhausted},
	} {
		switch wanted := orElse(bound.asked, *bound.have); {
		case old.Reason == bound.exhausting && wanted <= *bound.have:
			return Budget{}, &FieldError{bound.field, fmt.Sprintf("it must be more than %d, which the job has used up", *bound.have)}
		case wanted < *bound.have:
			return Budget{}, &FieldError{bound.field, fmt.Sprintf("it must be at least %d, as the job has it", *bound.have)}
		default:
			*bound.have = wanted
		}
	}
	const field = "budget.max_duration"
	switch wanted := orElse(asked.Duration, budget.Duration); {
	case old.Reason == DurationExhausted && wanted <= budget.Duration:
		return Budget{}, &FieldError{field, fmt.Sprintf("it must be more than %v, which the job has used up", budget.Duration)}
	case budget.Duration == 0 && wanted != 0:
		return Budget{}, &FieldError{field, "the job has no such bound, so its extension cannot have one"}
	case wanted < budget.Duration:
		return Budget{}, &FieldError{field, fmt.Sprintf("it must be at least %v, as the job has it", budget.Duration)}
	default:
		budget.Duration = wanted
	}
	return budget, nil
}
