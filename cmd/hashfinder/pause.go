package main

import (
	"context"

	hashfinderv1 "github.com/hashfinder/hashfinder/proto/hashfinder/v1"
)

// pauseCmd has a job left alone.
type pauseCmd struct {
	jobArg      `embed:""`
	serverFlags `embed:""`
	outputFlags `embed:""`
}

// Run pauses the job and prints how far that has come.
func (c *pauseCmd) Run(ctx context.Context, con *console) error {
	service, err := c.connect()
	if err != nil {
		return err
	}
	defer service.close()
	job, err := service.PauseJob(ctx, &hashfinderv1.PauseJobRequest{Name: string(c.Job)})
	if err != nil {
		return service.failure(err)
	}
	return con.printState(job, c.json())
}

// resumeCmd lets a paused job go on.
type resumeCmd struct {
	jobArg      `embed:""`
	serverFlags `embed:""`
	outputFlags `embed:""`
}

// Run resumes the job and prints its state.
func (c *resumeCmd) Run(ctx context.Context, con *console) error {
	service, err := c.connect()
	if err != nil {
		return err
	}
	defer service.close()
	job, err := service.ResumeJob(ctx, &hashfinderv1.ResumeJobRequest{Name: string(c.Job)})
	if err != nil {
		return service.failure(err)
	}
	return con.printState(job, c.json())
}
