package main

import (
	"context"

	hashfinderv1 "github.com/hashfinder/hashfinder/proto/hashfinder/v1"
)

// submitCmd submits a job.
type submitCmd struct {
	specFlags    `embed:""`
	serverFlags  `embed:""`
	outputFlags  `embed:""`
	RequestID    string            `placeholder:"UUID" help:"Makes the call safe to repeat: the same UUID with the same search is the same job."`
	Label        map[string]string `mapsep:"none" placeholder:"KEY=VALUE" help:"Label of the job; may be given several times."`
	ValidateOnly bool              `help:"Submit nothing: print the job as it would be submitted, or what is wrong with it."`
}

// Run submits and prints.
func (c *submitCmd) Run(ctx context.Context, con *console) error {
	service, err := c.connect()
	if err != nil {
		return err
	}
	defer service.close()
	job, err := service.SubmitJob(ctx, &hashfinderv1.SubmitJobRequest{
		Job:          &hashfinderv1.Job{Spec: c.spec(false), Labels: c.Label},
		RequestId:    c.RequestID,
		ValidateOnly: c.ValidateOnly,
	})
	switch {
	case err != nil:
		return service.failure(err)
	case c.json():
		return con.printJSON(job)
	case c.ValidateOnly:
		return con.printLine(jobText(job))
	}
	return con.printLine(job.GetName())
}
