package main

import (
	"context"
	"time"

	hashfinderv1 "github.com/hashfinder/hashfinder/proto/hashfinder/v1"
)

// extendCmd goes on with an exhausted job.
type extendCmd struct {
	jobArg        `embed:""`
	serverFlags   `embed:""`
	outputFlags   `embed:""`
	MaxCandidates *int64         `placeholder:"N" help:"Search at most N candidates; if not given, as many as before."`
	MaxHits       *int64         `placeholder:"N" help:"End with the Nth hit; if not given, as before."`
	MaxDuration   *time.Duration `placeholder:"D" help:"End after this long, such as 90s or 2h; if not given, as before."`
	RequestID     string         `placeholder:"UUID" help:"Makes the call safe to repeat: the same UUID with the same budget is the same job."`
}

// Help explains the budget.
func (*extendCmd) Help() string {
	return `Prints the name of a new job, which has the hits of the old one and searches what that one has not. Budgets count both together; the one that was used up must be given, and larger.`
}

// Run extends the job and prints the new one.
func (c *extendCmd) Run(ctx context.Context, con *console) error {
	service, err := c.connect()
	if err != nil {
		return err
	}
	defer service.close()
	job, err := service.ExtendJob(ctx, &hashfinderv1.ExtendJobRequest{
		Name: string(c.Job), Budget: budget(c.MaxCandidates, c.MaxHits, c.MaxDuration), RequestId: c.RequestID,
	})
	switch {
	case err != nil:
		return service.failure(err)
	case c.json():
		return con.printJSON(job)
	}
	return con.printLine(job.GetName())
}
