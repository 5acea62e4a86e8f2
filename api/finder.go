package api

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/hashfinder/hashfinder/jobs"
	"github.com/hashfinder/hashfinder/jobs/search"
	"github.com/hashfinder/hashfinder/proto/hash_name"
)

const (
	// jobHeader tells the name of the job that a call of HashFinder is.
	jobHeader = "hashfinder-job"
	// submitTimeout and stopTimeout bound what is seen through even when the client is gone.
	submitTimeout = 10 * time.Second
	stopTimeout   = 5 * time.Second
)

// finder is hash_name.HashFinder: each call is a job that lives as long as the call.
type finder struct {
	hash_name.UnimplementedHashFinderServer
	service *jobs.Service
	log     *slog.Logger
}

// Find implements hash_name.HashFinder.
func (f *finder) Find(ctx context.Context, req *hash_name.HashNameRequest) (*hash_name.HashNameResponse, error) {
	q := queryOf(req)
	q.Interesting = 0 // it pays no heed to it
	var found *hash_name.HashNameResponse
	err := f.search(ctx, q, func(hit *jobs.Hit) error {
		found = responseOf(hit)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return found, nil
}

// FindRange implements hash_name.HashFinder.
func (f *finder) FindRange(req *hash_name.HashNameRequest, stream grpc.ServerStreamingServer[hash_name.HashNameResponse]) error {
	return f.search(stream.Context(), queryOf(req), func(hit *jobs.Hit) error {
		return stream.Send(responseOf(hit))
	})
}

// search runs a job for q, calls report with each of its hits, and returns nil after the ideal one. However else it
// returns, the job has ended or is told to stop.
func (f *finder) search(ctx context.Context, q search.Query, report func(*jobs.Hit) error) error {
	if err := q.Validate(); err != nil {
		return err
	}
	spec := newSpec(q)
	spec.Attached = true
	tenant := tenantOf(ctx)
	job, err := f.submit(ctx, jobs.Request{Tenant: tenant, Spec: spec})
	if err != nil {
		return err
	}
	ended := false
	defer func() { // also when report panics
		if !ended {
			f.stop(ctx, tenant, job.ID)
		}
	}()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	// At once, so that a search that takes long can be found; it fails only when the client is gone.
	_ = grpc.SendHeader(ctx, metadata.Pairs(jobHeader, jobName(job.ID)))

	w := f.service.Follow(job)
	defer w.Close()
	for {
		event, err := w.Next(ctx)
		if err != nil {
			return err
		}
		switch {
		case event.End != nil:
			ended = true
			return &endError{job: *event.End}
		case event.Hit != nil:
			// The ideal hit enters the log together with the end, which therefore need not be waited for.
			ended = event.Hit.Ideal
			if err := report(event.Hit); err != nil || ended {
				return err
			}
		}
	}
}

// submit sees the submission through even when the client leaves meanwhile: a job whose id nobody learned could not
// be stopped.
func (f *finder) submit(ctx context.Context, req jobs.Request) (jobs.Job, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), submitTimeout)
	defer cancel()
	return f.service.Submit(ctx, req)
}

// stop tells the job of a call that is over to stop.
func (f *finder) stop(ctx context.Context, tenant, id string) {
	reason := stopReason(ctx)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	_, err := f.service.Cancel(ctx, tenant, id, reason, 0)
	if err != nil && !errors.Is(err, jobs.ErrEnded) && !errors.Is(err, jobs.ErrNotFound) {
		f.log.Warn("cannot cancel the job of a call; it ends as an orphan", "job", id, "error", err)
	}
}

// stopReason says why the job of a call whose context is ctx is to stop.
func stopReason(ctx context.Context) jobs.Reason {
	var longCall *longCallError
	switch cause := context.Cause(ctx); {
	case errors.As(cause, &longCall), errors.Is(cause, context.DeadlineExceeded):
		return jobs.DeadlineExceeded
	case errors.Is(cause, context.Canceled) && deadlinePassed(ctx):
		return jobs.DeadlineExceeded
	case errors.Is(cause, context.Canceled):
		return jobs.CancelledByClient
	}
	return jobs.Orphaned // the server gave the call up: it shuts down, the client does not read, or a fault
}
