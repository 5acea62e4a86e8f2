package main

import (
	"context"
	"errors"
	"strings"

	hashfinderv1 "github.com/hashfinder/hashfinder/proto/hashfinder/v1"
)

// jobName is an argument that names a job, "jobs/{uuid}" or only the uuid.
type jobName string

// UnmarshalText takes both forms. Whether there can be such a job is for the server to say.
func (n *jobName) UnmarshalText(text []byte) error {
	const collection = "jobs/"
	id := strings.TrimPrefix(string(text), collection)
	if id == "" {
		return errors.New("must name a job")
	}
	*n = jobName(collection + id)
	return nil
}

// jobArg is the argument of the commands about one job.
type jobArg struct {
	Job jobName `arg:"" help:"The job: jobs/UUID, or only the UUID."`
}

// getCmd prints a job.
type getCmd struct {
	jobArg      `embed:""`
	serverFlags `embed:""`
	outputFlags `embed:""`
	Audit       bool `help:"Print what has happened to the job instead: its states, and what became of each piece that workers took."`
}

// Run gets and prints.
func (c *getCmd) Run(ctx context.Context, con *console) error {
	service, err := c.connect()
	if err != nil {
		return err
	}
	defer service.close()
	if c.Audit {
		audit, err := service.GetJobAudit(ctx, &hashfinderv1.GetJobAuditRequest{Name: string(c.Job)})
		switch {
		case err != nil:
			return service.failure(err)
		case c.json():
			return con.printJSON(audit)
		}
		return con.printLine(auditText(audit))
	}
	job, err := service.GetJob(ctx, &hashfinderv1.GetJobRequest{Name: string(c.Job)})
	switch {
	case err != nil:
		return service.failure(err)
	case c.json():
		return con.printJSON(job)
	}
	return con.printLine(jobText(job))
}

// listCmd prints many jobs.
type listCmd struct {
	serverFlags `embed:""`
	outputFlags `embed:""`
	Filter      string `placeholder:"F" help:"Only jobs that fit, such as 'state = RUNNING AND labels.team = \"red\"'."`
	PageSize    int32  `placeholder:"N" help:"Jobs to ask the server for at a time; if not given, as many as it likes."`
	Limit       int    `placeholder:"N" default:"100" help:"Print at most this many, ${default} if not given; 0 is all."`
}

// Validate refuses what the server would not see.
func (c *listCmd) Validate() error {
	if c.Limit < 0 {
		return errors.New("--limit must not be negative")
	}
	return nil
}

// Run prints page after page, up to the limit.
func (c *listCmd) Run(ctx context.Context, con *console) error {
	service, err := c.connect()
	if err != nil {
		return err
	}
	defer service.close()
	var jobs []*hashfinderv1.Job
	request := &hashfinderv1.ListJobsRequest{Filter: c.Filter, PageSize: c.PageSize}
	for {
		page, err := service.ListJobs(ctx, request)
		if err != nil {
			return service.failure(err)
		}
		jobs = append(jobs, page.GetJobs()...)
		request.PageToken = page.GetNextPageToken()
		full := c.Limit > 0 && len(jobs) >= c.Limit
		if full && (len(jobs) > c.Limit || request.GetPageToken() != "") {
			jobs = jobs[:c.Limit]
			con.note("there are more than %d jobs; --limit prints more", c.Limit)
		}
		if full || request.GetPageToken() == "" {
			break
		}
	}
	if !c.json() {
		return con.printLine(jobTable(jobs))
	}
	for _, job := range jobs {
		if err := con.printJSON(job); err != nil {
			return err
		}
	}
	return nil
}

// cancelCmd stops a job.
type cancelCmd struct {
	jobArg      `embed:""`
	serverFlags `embed:""`
	outputFlags `embed:""`
}

// Run cancels the job and prints how far that has come.
func (c *cancelCmd) Run(ctx context.Context, con *console) error {
	service, err := c.connect()
	if err != nil {
		return err
	}
	defer service.close()
	job, err := service.CancelJob(ctx, &hashfinderv1.CancelJobRequest{Name: string(c.Job)})
	if err != nil {
		return service.failure(err)
	}
	return con.printState(job, c.json())
}

// deleteCmd removes a job.
type deleteCmd struct {
	jobArg      `embed:""`
	serverFlags `embed:""`
	outputFlags `embed:""`
	Etag        string `placeholder:"E" help:"Only if this is still the job's etag."`
}

// Run deletes the job. It prints nothing as text, as rm does.
func (c *deleteCmd) Run(ctx context.Context, con *console) error {
	service, err := c.connect()
	if err != nil {
		return err
	}
	defer service.close()
	empty, err := service.DeleteJob(ctx, &hashfinderv1.DeleteJobRequest{Name: string(c.Job), Etag: c.Etag})
	switch {
	case err != nil:
		return service.failure(err)
	case c.json():
		return con.printJSON(empty)
	}
	return nil
}
