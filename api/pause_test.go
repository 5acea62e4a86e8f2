package api

import (
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/hashfinder/hashfinder/jobs"
	hashfinderv1 "github.com/hashfinder/hashfinder/proto/hashfinder/v1"
)

func TestPauseJob(t *testing.T) {
	e := newEnv(t, jobs.Limits{}, nil)
	ctx := t.Context()
	pause := func(name string) (*hashfinderv1.Job, error) {
		return e.jobs.PauseJob(ctx, &hashfinderv1.PauseJobRequest{Name: name})
	}
	resume := func(name string) (*hashfinderv1.Job, error) {
		return e.jobs.ResumeJob(ctx, &hashfinderv1.ResumeJobRequest{Name: name})
	}
	job := e.submit(t, never, 20, 1000, nil)
	id, _ := jobID(job.GetName())
	chunk, err := e.claim(ctx, id, 1)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := pause(job.GetName()); err != nil || got.GetState() != hashfinderv1.Job_PAUSING || got.GetPauseTime() == nil {
		t.Errorf("got %v (%v), want it still pausing", got, err)
	}
	if _, err := e.store.Release(ctx, chunk, false); err != nil {
		t.Fatal(err)
	}
	paused, err := pause(job.GetName())
	if err != nil || paused.GetState() != hashfinderv1.Job_PAUSED || paused.GetEtag() == job.GetEtag() ||
		paused.GetEndReason() != 0 || paused.GetProgress().GetEtaP50() != nil {
		t.Errorf("got %v (%v), want it paused", paused, err)
	}
	list, err := e.jobs.ListJobs(ctx, &hashfinderv1.ListJobsRequest{Filter: "state = PAUSED"})
	if err != nil || len(list.GetJobs()) != 1 {
		t.Errorf("got %v (%v), want the paused job", list, err)
	}
	_, err = e.jobs.DeleteJob(ctx, &hashfinderv1.DeleteJobRequest{Name: job.GetName()})
	wantError(t, err, codes.FailedPrecondition, reasonJobActive)
	for range 2 {
		got, err := resume(job.GetName())
		if err != nil || got.GetState() != hashfinderv1.Job_RUNNING || got.GetPauseTime() != nil || got.GetPausedDuration() == nil {
			t.Errorf("got %v (%v), want it running", got, err)
		}
	}
	for ticket := 2; ; ticket++ { // those from before the pause call for nothing
		if chunk, err = e.claim(ctx, id, ticket); err == nil {
			break
		}
		if ticket > 10 {
			t.Fatal(err)
		}
	}
	if _, _, err := e.store.Commit(ctx, chunk, [][]jobs.Hit{nil}); err != nil {
		t.Fatal(err)
	}
	_, err = pause(job.GetName())
	wantError(t, err, codes.FailedPrecondition, reasonJobEnded)
	_, err = resume(job.GetName())
	wantError(t, err, codes.FailedPrecondition, reasonJobEnded)
}

func TestPauseJobIsRefused(t *testing.T) {
	e := newEnv(t, jobs.Limits{}, nil)
	ctx := t.Context()
	attached, err := e.jobs.SubmitJob(ctx, &hashfinderv1.SubmitJobRequest{
		Job: &hashfinderv1.Job{Spec: &hashfinderv1.JobSpec{DesiredName: never, Attached: true}},
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = e.jobs.PauseJob(ctx, &hashfinderv1.PauseJobRequest{Name: attached.GetName()})
	wantError(t, err, codes.FailedPrecondition, reasonJobAttached)

	id, _ := jobID(attached.GetName())
	if _, err := e.claim(ctx, id, 1); err != nil {
		t.Fatal(err)
	}
	if _, err := e.jobs.CancelJob(ctx, &hashfinderv1.CancelJobRequest{Name: attached.GetName()}); err != nil {
		t.Fatal(err)
	}
	_, err = e.jobs.PauseJob(ctx, &hashfinderv1.PauseJobRequest{Name: attached.GetName()})
	wantError(t, err, codes.FailedPrecondition, reasonJobStopping)
	_, err = e.jobs.ResumeJob(ctx, &hashfinderv1.ResumeJobRequest{Name: attached.GetName()})
	wantError(t, err, codes.FailedPrecondition, reasonJobStopping)
}
