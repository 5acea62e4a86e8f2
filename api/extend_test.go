package api

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/hashfinder/hashfinder/jobs"
	"github.com/hashfinder/hashfinder/jobs/search"
	hashfinderv1 "github.com/hashfinder/hashfinder/proto/hashfinder/v1"
)

func TestExtendJob(t *testing.T) {
	e := newEnv(t, jobs.Limits{}, nil)
	e.work(t)
	ctx := t.Context()
	old := e.submit(t, never, 20, 1000, map[string]string{"team": "red"})
	before, err := e.watch(t, old.GetName(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if old, err = e.jobs.GetJob(ctx, &hashfinderv1.GetJobRequest{Name: old.GetName()}); err != nil {
		t.Fatal(err)
	}
	request := &hashfinderv1.ExtendJobRequest{
		Name: old.GetName(), Budget: &hashfinderv1.Budget{MaxCandidates: new(int64(2000))}, RequestId: uuid.NewString(),
	}
	job, err := e.jobs.ExtendJob(ctx, request)
	if err != nil {
		t.Fatal(err)
	}
	from := job.GetExtends()
	if job.GetName() == old.GetName() || from.GetJob() != old.GetName() || from.GetCandidatesSearched() != 1000 ||
		from.GetLastSequence() != old.GetLastSequence() || from.GetDuration() == nil || job.GetSpec().GetBudget().GetMaxCandidates() != 2000 ||
		job.GetLabels()["team"] != "red" {
		t.Errorf("got %v", job)
	}
	if again, err := e.jobs.ExtendJob(ctx, request); err != nil || again.GetName() != job.GetName() {
		t.Errorf("the same request: got %s (%v), want %s", again.GetName(), err, job.GetName())
	}
	got, err := e.jobs.GetJob(ctx, &hashfinderv1.GetJobRequest{Name: old.GetName()})
	old.ExtendedBy = job.GetName()
	if diff := cmp.Diff(old, got, protocmp.Transform()); err != nil || diff != "" {
		t.Errorf("the extended job: %v (-want +got):\n%s", err, diff)
	}

	// Together they are what one job with the larger budget is, and the place of the end of the first is told.
	events, err := e.watch(t, job.GetName(), 0)
	if err != nil {
		t.Fatal(err)
	}
	var hits []string
	sequence := int64(0)
	for _, event := range events {
		if event.GetProgress() != nil {
			continue
		}
		if sequence++; event.GetSequence() != sequence {
			t.Fatalf("got event %d, want %d", event.GetSequence(), sequence)
		}
		if extended := event.GetExtended(); (extended == hashfinderv1.Job_CANDIDATES_EXHAUSTED) != (sequence == from.GetLastSequence()) {
			t.Errorf("event %d: got %v", sequence, event)
		}
		if hit := event.GetHit(); hit != nil {
			hits = append(hits, hit.GetHashedName())
		}
	}
	var want []string
	for _, hit := range scanned(search.Query{Name: never, Interesting: 20}, 2000) {
		want = append(want, hit.GetHashedName())
	}
	if diff := cmp.Diff(want, hits); diff != "" {
		t.Errorf("hits (-want +got):\n%s", diff)
	}
	end := events[len(events)-1].GetEnd()
	if end.GetState() != hashfinderv1.Job_EXHAUSTED || end.GetProgress().GetCandidatesSearched() != 2000 {
		t.Errorf("got end %v", end)
	}
	// The log of the old job is as it was.
	after, err := e.watch(t, old.GetName(), 0)
	if err != nil || len(after) == 0 || len(before) == 0 || after[len(after)-1].GetSequence() != before[len(before)-1].GetSequence() {
		t.Errorf("the log of the extended job: got %v (%v)", after, err)
	}
}

func TestExtendJobIsRefused(t *testing.T) {
	e := newEnv(t, jobs.Limits{Ceiling: jobs.Budget{Candidates: 5000}}, nil)
	e.work(t)
	ctx := t.Context()
	extend := func(name string, budget *hashfinderv1.Budget, request string) error {
		_, err := e.jobs.ExtendJob(ctx, &hashfinderv1.ExtendJobRequest{Name: name, Budget: budget, RequestId: request})
		return err
	}
	candidates := func(n int64) *hashfinderv1.Budget { return &hashfinderv1.Budget{MaxCandidates: &n} }
	old := e.submit(t, never, 0, 1000, nil).GetName()
	id, _ := jobID(old)
	e.ended(t, id)

	for _, test := range []struct {
		name, field string
		err         error
	}{
		{"no name", "name", extend("", candidates(2000), "")},
		{"request id no UUID", "request_id", extend(old, candidates(2000), "1")},
		{"no budget", "budget.max_candidates", extend(old, nil, "")},
		{"no candidates", "budget.max_candidates", extend(old, candidates(0), "")},
		{"not more", "budget.max_candidates", extend(old, candidates(1000), "")},
		{"above the ceiling", "budget.max_candidates", extend(old, candidates(5001), "")},
		{"fewer hits", "budget.max_hits", extend(old, &hashfinderv1.Budget{MaxCandidates: new(int64(2000)), MaxHits: new(int64(1))}, "")},
		{"a new bound", "budget.max_duration", extend(old, &hashfinderv1.Budget{
			MaxCandidates: new(int64(2000)), MaxDuration: durationpb.New(time.Hour),
		}, "")},
	} {
		t.Run(test.name, func(t *testing.T) { wantField(t, test.err, test.field, reasonInvalidField) })
	}
	wantError(t, extend(someJob, candidates(2000), ""), codes.NotFound, reasonJobNotFound)

	request := uuid.NewString()
	if err := extend(old, candidates(2000), request); err != nil {
		t.Fatal(err)
	}
	wantField(t, extend(old, candidates(3000), request), "request_id", reasonRequestReused)
	info := wantError(t, extend(old, candidates(3000), ""), codes.FailedPrecondition, reasonJobExtended)
	if info.GetMetadata()["extended_by"] == "" {
		t.Errorf("got %v, want the name of the extension", info)
	}
	found := e.submit(t, "dog", 0, 5000, nil).GetName()
	id, _ = jobID(found)
	e.ended(t, id)
	wantError(t, extend(found, candidates(5000), ""), codes.FailedPrecondition, reasonNotExhausted)
}
