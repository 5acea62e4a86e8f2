package main

import (
	"context"

	"google.golang.org/grpc/status"

	hashfinderv1 "github.com/hashfinder/hashfinder/proto/hashfinder/v1"
)

// watchCmd shows a job to its end.
type watchCmd struct {
	jobArg        `embed:""`
	serverFlags   `embed:""`
	outputFlags   `embed:""`
	AfterSequence int64 `placeholder:"N" default:"0" help:"Begin after the event with this number."`
	Progress      bool  `help:"With --output json, print progress as lines too."`
	Quiet         bool  `short:"q" help:"Print the hits only: no progress, no summary."`
}

// Help explains the output.
func (*watchCmd) Help() string {
	return `Text lines are those of "hashfinder find". JSON lines are hits, each with its sequence for --after-sequence, and last the job as it ended; in the log of an extended job, "extended" says why it had ended there before.

Ctrl-C ends the watching, not the job. The exit status is that of "hashfinder find".`
}

// Run shows the events until the job or ctx ends.
func (c *watchCmd) Run(ctx context.Context, con *console) error {
	service, err := c.connect()
	if err != nil {
		return err
	}
	defer service.close()
	// The events do not say what is searched.
	job, err := service.GetJob(ctx, &hashfinderv1.GetJobRequest{Name: string(c.Job)})
	if err != nil {
		return service.failure(err)
	}
	screen := &display{
		con: con, spec: job.GetSpec(), json: c.json(), quiet: c.Quiet, events: true, progressLines: c.Progress,
	}
	if job.GetPauseTime() != nil {
		screen.note("the job is %s; \"hashfinder resume\" lets it go on", stateText(job))
	}
	end, err := screen.relay(newFollower(service, screen).events(ctx, job.GetName(), c.AfterSequence))
	if err != nil {
		return service.failure(err)
	}
	return outcome(end)
}

// newFollower returns a follower that tells the user of broken streams.
func newFollower(service *remote, screen *display) *follower {
	return &follower{
		client: service,
		broken: func(err error) {
			screen.note("the connection broke, trying to resume: %s", dialReason(status.Convert(err).Message()))
		},
		firstWait: firstWait,
		patience:  patience,
	}
}
