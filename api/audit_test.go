package api

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"google.golang.org/grpc/codes"

	"github.com/hashfinder/hashfinder/jobs"
	hashfinderv1 "github.com/hashfinder/hashfinder/proto/hashfinder/v1"
)

func TestGetJobAudit(t *testing.T) {
	e := newEnv(t, jobs.Limits{}, nil)
	ctx := t.Context()
	request := uuid.NewString()
	job, err := e.jobs.SubmitJob(ctx, &hashfinderv1.SubmitJobRequest{
		Job:       &hashfinderv1.Job{Spec: &hashfinderv1.JobSpec{DesiredName: never, Budget: &hashfinderv1.Budget{MaxCandidates: new(int64(100_000))}}},
		RequestId: request,
	})
	if err != nil {
		t.Fatal(err)
	}
	id, _ := jobID(job.GetName())
	first, err := e.claim(ctx, id, 1)
	if err != nil {
		t.Fatal(err)
	}
	second, err := e.claim(ctx, id, 2)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := e.store.Commit(ctx, second, [][]jobs.Hit{nil}); err != nil {
		t.Fatal(err)
	}
	get := func() *hashfinderv1.JobAudit {
		t.Helper()
		audit, err := e.jobs.GetJobAudit(ctx, &hashfinderv1.GetJobAuditRequest{Name: job.GetName()})
		if err != nil {
			t.Fatal(err)
		}
		return audit
	}
	audit := get()
	if audit.GetJob() != job.GetName() || audit.GetTenant() != jobs.DefaultTenant || audit.GetRequestId() != request ||
		audit.GetChangesDropped() != 0 || audit.GetAttemptsDropped() != 0 {
		t.Errorf("got %v", audit)
	}
	var got []hashfinderv1.Attempt_Outcome
	for _, a := range audit.GetAttempts() {
		got = append(got, a.GetOutcome())
		if a.GetBeginTime() == nil || (a.GetEndTime() == nil) != (a.GetOutcome() == hashfinderv1.Attempt_RUNNING) || a.GetWorker() != "test" {
			t.Errorf("got attempt %v", a)
		}
	}
	if diff := cmp.Diff([]hashfinderv1.Attempt_Outcome{hashfinderv1.Attempt_COMMITTED, hashfinderv1.Attempt_RUNNING}, got); diff != "" {
		t.Errorf("outcomes (-want +got):\n%s", diff)
	}
	if a := audit.GetAttempts()[0]; a.GetFirstCandidate() != int64(second.Lo) || a.GetEndCandidate() != int64(second.Hi) {
		t.Errorf("got attempt %v, want that of [%d, %d)", a, second.Lo, second.Hi)
	}

	if _, err := e.jobs.CancelJob(ctx, &hashfinderv1.CancelJobRequest{Name: job.GetName()}); err != nil {
		t.Fatal(err)
	}
	if _, err := e.store.Release(ctx, first, false); err != nil {
		t.Fatal(err)
	}
	var changes []string
	for _, c := range get().GetChanges() {
		changes = append(changes, c.GetState().String()+" "+c.GetEndReason().String())
		if c.GetTime() == nil {
			t.Errorf("got change %v", c)
		}
	}
	want := []string{
		"PENDING END_REASON_UNSPECIFIED", "RUNNING END_REASON_UNSPECIFIED",
		"CANCELLING CANCELLED_BY_CLIENT", "CANCELLED CANCELLED_BY_CLIENT",
	}
	if diff := cmp.Diff(want, changes); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}

	_, err = e.jobs.GetJobAudit(ctx, &hashfinderv1.GetJobAuditRequest{Name: someJob})
	wantError(t, err, codes.NotFound, reasonJobNotFound)
	_, err = e.jobs.GetJobAudit(ctx, &hashfinderv1.GetJobAuditRequest{Name: "x"})
	wantField(t, err, "name", reasonInvalidField)
	e.redis.SetError("LOADING it is away")
	_, err = e.jobs.GetJobAudit(ctx, &hashfinderv1.GetJobAuditRequest{Name: job.GetName()})
	wantError(t, err, codes.Unavailable, reasonUnavailable)
	e.redis.SetError("")
}

// TestOutcomes shows that each outcome has a value of its own in the proto, and each value an outcome.
func TestOutcomes(t *testing.T) {
	seen := map[hashfinderv1.Attempt_Outcome]bool{0: true}
	for outcome, value := range outcomes {
		if seen[value] || outcome != "" && value.String() != string(outcome) {
			t.Errorf("%q becomes %s", outcome, value)
		}
		seen[value] = true
	}
	if len(seen) != len(hashfinderv1.Attempt_Outcome_name) {
		t.Errorf("the proto has %d values, of which %d are used", len(hashfinderv1.Attempt_Outcome_name), len(seen))
	}
	for _, outcome := range constantsOf(t, "../jobs/audit.go", "Outcome") {
		if _, ok := outcomes[jobs.Outcome(outcome)]; !ok {
			t.Errorf("%s has no value", outcome)
		}
	}
	if !slices.Contains(constantsOf(t, "../jobs/audit.go", "Outcome"), "STALE") {
		t.Error("the constants were not found")
	}
}
