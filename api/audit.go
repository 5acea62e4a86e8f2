package api

import (
	"context"

	"github.com/hashfinder/hashfinder/jobs"
	hashfinderv1 "github.com/hashfinder/hashfinder/proto/hashfinder/v1"
)

// outcomes are those of attempts; the empty one is that of an attempt which runs.
var outcomes = map[jobs.Outcome]hashfinderv1.Attempt_Outcome{
	"":             hashfinderv1.Attempt_RUNNING,
	jobs.Committed: hashfinderv1.Attempt_COMMITTED,
	jobs.Stale:     hashfinderv1.Attempt_STALE,
	jobs.Released:  hashfinderv1.Attempt_RELEASED,
	jobs.Died:      hashfinderv1.Attempt_DIED,
	jobs.Expired:   hashfinderv1.Attempt_EXPIRED,
	jobs.Fenced:    hashfinderv1.Attempt_FENCED,
}

// GetJobAudit implements hashfinder.v1.JobService.
func (s *jobService) GetJobAudit(ctx context.Context, req *hashfinderv1.GetJobAuditRequest) (*hashfinderv1.JobAudit, error) {
	id, err := jobID(req.GetName())
	if err != nil {
		return nil, err
	}
	audit, err := s.service.Audit(ctx, tenantOf(ctx), id)
	if err != nil {
		return nil, err
	}
	return auditOf(&audit), nil
}

func auditOf(from *jobs.Audit) *hashfinderv1.JobAudit {
	p := &hashfinderv1.JobAudit{
		Job: jobName(from.Job), Tenant: from.Tenant, RequestId: from.RequestID,
		ChangesDropped: signed(from.DroppedChanges), AttemptsDropped: signed(from.DroppedAttempts),
	}
	for _, c := range from.Changes {
		p.Changes = append(p.Changes, &hashfinderv1.StateChange{Time: timeOf(c.Time), State: states[c.State], EndReason: reasonOf(c.Reason)})
	}
	for _, a := range from.Attempts {
		p.Attempts = append(p.Attempts, &hashfinderv1.Attempt{
			FirstCandidate: signed(a.Lo), EndCandidate: signed(a.Hi), Worker: a.Worker,
			BeginTime: timeOf(a.Begin), EndTime: timeOf(a.End), Outcome: outcomes[a.Outcome],
		})
	}
	return p
}
