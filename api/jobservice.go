package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/hashfinder/hashfinder/jobs"
	"github.com/hashfinder/hashfinder/jobs/search"
	hashfinderv1 "github.com/hashfinder/hashfinder/proto/hashfinder/v1"
)

// jobService is hashfinder.v1.JobService.
type jobService struct {
	hashfinderv1.UnimplementedJobServiceServer
	service    *jobs.Service
	cancelWait time.Duration
	maxScanned int // defaultMaxScanned, but for tests
	estimates  *estimates
}

// SubmitJob implements hashfinder.v1.JobService.
func (s *jobService) SubmitJob(ctx context.Context, req *hashfinderv1.SubmitJobRequest) (*hashfinderv1.Job, error) {
	spec, err := specOf(req.GetJob())
	if err != nil {
		return nil, err
	}
	id, err := requestUUID(req.GetRequestId())
	if err != nil {
		return nil, err
	}
	job, err := s.service.Submit(ctx, jobs.Request{
		Tenant: tenantOf(ctx), Spec: spec, RequestID: id, ValidateOnly: req.GetValidateOnly(),
	})
	if err != nil {
		return nil, inField("job.spec.", err)
	}
	return s.estimates.jobOf(&job)
}

// GetJob implements hashfinder.v1.JobService.
func (s *jobService) GetJob(ctx context.Context, req *hashfinderv1.GetJobRequest) (*hashfinderv1.Job, error) {
	id, err := jobID(req.GetName())
	if err != nil {
		return nil, err
	}
	job, err := s.service.Get(ctx, tenantOf(ctx), id)
	if err != nil {
		return nil, err
	}
	return s.estimates.jobOf(&job)
}

// WatchJob implements hashfinder.v1.JobService.
func (s *jobService) WatchJob(req *hashfinderv1.WatchJobRequest, stream grpc.ServerStreamingServer[hashfinderv1.WatchJobResponse]) error {
	ctx := stream.Context()
	id, err := jobID(req.GetName())
	if err != nil {
		return err
	}
	if req.GetAfterSequence() < 0 {
		return invalidField("after_sequence", "it must not be negative, but is %d", req.GetAfterSequence())
	}
	w, job, err := s.service.Watch(ctx, tenantOf(ctx), id, uint64(req.GetAfterSequence()))
	if err != nil {
		return err
	}
	defer w.Close()
	q, err := decodeQuery(&job)
	if err != nil {
		return err
	}
	// A job that is paused may go on while it is watched.
	estimate, goesOn := s.estimates.of(q), goesOn(&job) || !job.PauseTime.IsZero()
	for {
		event, err := w.Next(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		response := &hashfinderv1.WatchJobResponse{Sequence: signed(event.Sequence)}
		switch {
		case event.Hit != nil:
			response.Event = &hashfinderv1.WatchJobResponse_Hit{Hit: hitOf(event.Hit)}
		case event.Progress != nil:
			response.Event = &hashfinderv1.WatchJobResponse_Progress{Progress: progressOf(event.Progress, estimate, goesOn)}
		case event.Extended != "":
			response.Event = &hashfinderv1.WatchJobResponse_Extended{Extended: reasonOf(event.Extended)}
		case event.End != nil:
			end, err := s.estimates.jobOf(event.End)
			if err != nil {
				return err
			}
			response.Event = &hashfinderv1.WatchJobResponse_End{End: end}
		}
		if err := stream.Send(response); err != nil {
			return err
		}
	}
}

// CancelJob implements hashfinder.v1.JobService.
func (s *jobService) CancelJob(ctx context.Context, req *hashfinderv1.CancelJobRequest) (*hashfinderv1.Job, error) {
	id, err := jobID(req.GetName())
	if err != nil {
		return nil, err
	}
	job, err := s.service.Cancel(ctx, tenantOf(ctx), id, jobs.CancelledByClient, s.cancelWait)
	if err != nil {
		return nil, err
	}
	if job.State.Terminal() && job.State != jobs.Cancelled { // a budget had told it to stop before
		return nil, fmt.Errorf("cancel job %s: %w", id, jobs.ErrEnded)
	}
	return s.estimates.jobOf(&job)
}

// PauseJob implements hashfinder.v1.JobService.
func (s *jobService) PauseJob(ctx context.Context, req *hashfinderv1.PauseJobRequest) (*hashfinderv1.Job, error) {
	id, err := jobID(req.GetName())
	if err != nil {
		return nil, err
	}
	job, err := s.service.Pause(ctx, tenantOf(ctx), id, s.cancelWait)
	if err != nil {
		return nil, err
	}
	return s.estimates.jobOf(&job)
}

// ResumeJob implements hashfinder.v1.JobService.
func (s *jobService) ResumeJob(ctx context.Context, req *hashfinderv1.ResumeJobRequest) (*hashfinderv1.Job, error) {
	id, err := jobID(req.GetName())
	if err != nil {
		return nil, err
	}
	job, err := s.service.Resume(ctx, tenantOf(ctx), id)
	if err != nil {
		return nil, err
	}
	return s.estimates.jobOf(&job)
}

// ExtendJob implements hashfinder.v1.JobService.
func (s *jobService) ExtendJob(ctx context.Context, req *hashfinderv1.ExtendJobRequest) (*hashfinderv1.Job, error) {
	id, err := jobID(req.GetName())
	if err != nil {
		return nil, err
	}
	budget, err := budgetOf("budget.", req.GetBudget())
	if err != nil {
		return nil, err
	}
	request, err := requestUUID(req.GetRequestId())
	if err != nil {
		return nil, err
	}
	job, err := s.service.Extend(ctx, jobs.Extension{Tenant: tenantOf(ctx), Job: id, Budget: budget, RequestID: request})
	if err != nil {
		return nil, err
	}
	return s.estimates.jobOf(&job)
}

// DeleteJob implements hashfinder.v1.JobService.
func (s *jobService) DeleteJob(ctx context.Context, req *hashfinderv1.DeleteJobRequest) (*emptypb.Empty, error) {
	id, err := jobID(req.GetName())
	if err != nil {
		return nil, err
	}
	revision := uint64(0) // any
	if req.GetEtag() != "" {
		revision = revisionOf(req.GetEtag())
	}
	if err := s.service.Delete(ctx, tenantOf(ctx), id, revision); err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, nil
}

// EstimateSearch implements hashfinder.v1.JobService.
func (s *jobService) EstimateSearch(ctx context.Context, req *hashfinderv1.EstimateSearchRequest) (*hashfinderv1.Estimate, error) {
	q := search.Query{Name: req.GetDesiredName(), Ideal: int(req.GetIdealHammingDistance())}
	if err := q.Validate(); err != nil {
		return nil, err
	}
	fleet, err := s.service.Fleet(ctx)
	if err != nil {
		return nil, err
	}
	return estimateOf(s.estimates.of(q), fleet.Rate), nil
}
