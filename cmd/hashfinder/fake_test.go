package main

import (
	"context"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	hashfinderv1 "github.com/hashfinder/hashfinder/proto/hashfinder/v1"
)

// fakeService plays the scripts of [plot]: how a job goes is told by its desired name. Its jobs are numbered.
type fakeService struct {
	hashfinderv1.UnimplementedJobServiceServer

	addr   string
	server *grpc.Server
	served sync.WaitGroup
	// Each is sent to when it happens: a stream of an endless job has sent all it has, a job is cancelled.
	watched, cancelled chan struct{}

	mu   sync.Mutex
	jobs []*fakeJob
}

type fakeJob struct {
	*hashfinderv1.Job
	streams   int
	cancelled chan struct{}
}

func startFake() (*fakeService, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // at once
	if err != nil {
		return nil, err
	}
	f := &fakeService{
		addr: listener.Addr().String(), server: grpc.NewServer(),
		watched: make(chan struct{}, 100), cancelled: make(chan struct{}, 100),
	}
	hashfinderv1.RegisterJobServiceServer(f.server, f)
	f.served.Go(func() { _ = f.server.Serve(listener) })
	return f, nil
}

func (f *fakeService) stop() {
	f.server.Stop()
	f.served.Wait()
}

// began and ended are the times of every job.
var (
	began = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	ended = began.Add(2 * time.Second)
)

// fakeHit returns a hit for "doctor".
func fakeHit(index int64) *hashfinderv1.Hit {
	var secret []byte
	for left, size := index, int64(1); ; size *= 256 {
		if left < size {
			secret = make([]byte, len(secret))
			for i := range secret {
				secret[len(secret)-1-i] = byte(left >> (8 * i))
			}
			break
		}
		left -= size
		secret = append(secret, 0)
	}
	sum := sha1.Sum(secret)
	hit := &hashfinderv1.Hit{Index: index, Secret: secret, HashedName: base64.StdEncoding.EncodeToString(sum[:])}
	const name = "doctor"
	hit.HammingDistance = int32(len(name))
	for at := range len(hit.GetHashedName()) - len(name) + 1 {
		distance := int32(0)
		for i := range len(name) {
			if !strings.EqualFold(hit.GetHashedName()[at+i:at+i+1], name[i:i+1]) {
				distance++
			}
		}
		hit.HammingDistance = min(hit.GetHammingDistance(), distance)
	}
	return hit
}

// doctor is the first secret of all whose hashed name contains "doctor".
const doctor = 10874375

// plot is how the job of a desired name goes.
func plot(name string) (hits []int64, state hashfinderv1.Job_State, reason hashfinderv1.Job_EndReason) {
	switch name {
	case "doctor", "flaky", "gap":
		return []int64{58098, 65025, doctor}, hashfinderv1.Job_SUCCEEDED, hashfinderv1.Job_FOUND
	case "empty":
		return []int64{0}, hashfinderv1.Job_SUCCEEDED, hashfinderv1.Job_FOUND
	case "rare":
		return nil, hashfinderv1.Job_EXHAUSTED, hashfinderv1.Job_CANDIDATES_EXHAUSTED
	case "poison":
		return nil, hashfinderv1.Job_FAILED, hashfinderv1.Job_POISONED
	case "orphan":
		return nil, hashfinderv1.Job_CANCELLED, hashfinderv1.Job_ORPHANED
	default: // "endless", and "stubborn", which does not heed a cancel
		return []int64{58098}, hashfinderv1.Job_CANCELLED, hashfinderv1.Job_CANCELLED_BY_CLIENT
	}
}

// state returns the state of the nth job.
func (f *fakeService) state(n int) hashfinderv1.Job_State {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.jobs[n].GetState()
}

func refusal(code codes.Code, message string, details ...proto.Message) error {
	s := &rpcstatus.Status{Code: int32(code), Message: message}
	for _, detail := range details {
		packed, err := anypb.New(detail)
		if err != nil {
			return err
		}
		s.Details = append(s.Details, packed)
	}
	return status.ErrorProto(s)
}

// SubmitJob makes a job, or refuses some names.
func (f *fakeService) SubmitJob(_ context.Context, r *hashfinderv1.SubmitJobRequest) (*hashfinderv1.Job, error) {
	switch r.GetJob().GetSpec().GetDesiredName() {
	case "invalid":
		return nil, refusal(codes.InvalidArgument, "the job is not valid", &errdetails.BadRequest{
			FieldViolations: []*errdetails.BadRequest_FieldViolation{
				{Field: "job.spec.ideal_hamming_distance", Description: "must be 0 to 7, not 8"},
				{Field: "job.spec.unheard_of", Description: "must be heard of"},
			},
		})
	case "invalid too":
		const field, description = "job.spec.budget.max_hits", "must be at least 1, not 0"
		return nil, refusal(codes.InvalidArgument, field+": "+description, &errdetails.BadRequest{
			FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: field, Description: description}},
		})
	case "quota":
		return nil, refusal(codes.ResourceExhausted, "too many jobs", &errdetails.QuotaFailure{
			Violations: []*errdetails.QuotaFailure_Violation{{Subject: "jobs", Description: "10 of 10 are active"}},
		}, &errdetails.RetryInfo{RetryDelay: durationpb.New(30 * time.Second)})
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	job := proto.CloneOf(r.GetJob())
	if job.GetSpec().GetBudget().MaxCandidates == nil {
		job.Spec.Budget.MaxCandidates = proto.Int64(1 << 36)
	}
	if job.GetSpec().GetBudget().MaxHits == nil {
		job.Spec.Budget.MaxHits = proto.Int64(100_000)
	}
	job.State = hashfinderv1.Job_PENDING
	job.CreateTime = timestamppb.New(began)
	if r.GetValidateOnly() {
		return job, nil
	}
	job.Name = fmt.Sprintf("jobs/00000000-0000-7000-8000-%012d", len(f.jobs)+1)
	job.Etag = "e1"
	f.jobs = append(f.jobs, &fakeJob{Job: job, cancelled: make(chan struct{})})
	return proto.CloneOf(job), nil
}

func (f *fakeService) find(name string) (*fakeJob, error) {
	for _, job := range f.jobs {
		if job.GetName() == name {
			return job, nil
		}
	}
	return nil, refusal(codes.NotFound, "there is no "+name, &errdetails.ErrorInfo{Reason: "NOT_FOUND", Domain: "hashfinder"})
}

// GetJob returns a job.
func (f *fakeService) GetJob(_ context.Context, r *hashfinderv1.GetJobRequest) (*hashfinderv1.Job, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	job, err := f.find(r.GetName())
	if err != nil {
		return nil, err
	}
	return proto.CloneOf(job.Job), nil
}

// ListJobs lists two jobs at a time.
func (f *fakeService) ListJobs(_ context.Context, r *hashfinderv1.ListJobsRequest) (*hashfinderv1.ListJobsResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	left := len(f.jobs)
	if r.GetPageToken() != "" {
		if _, err := fmt.Sscan(r.GetPageToken(), &left); err != nil {
			return nil, err
		}
	}
	var page hashfinderv1.ListJobsResponse
	for ; left > 0 && len(page.GetJobs()) < 2; left-- {
		page.Jobs = append(page.Jobs, proto.CloneOf(f.jobs[left-1].Job))
	}
	if left > 0 {
		page.NextPageToken = fmt.Sprint(left)
	}
	return &page, nil
}

// CancelJob ends an endless job.
func (f *fakeService) CancelJob(_ context.Context, r *hashfinderv1.CancelJobRequest) (*hashfinderv1.Job, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	job, err := f.find(r.GetName())
	f.cancelled <- struct{}{}
	switch {
	case err != nil:
		return nil, err
	case job.GetEndTime() != nil && job.GetState() != hashfinderv1.Job_CANCELLED:
		return nil, refusal(codes.FailedPrecondition, "the job has ended", &errdetails.ErrorInfo{Reason: "ENDED", Domain: "hashfinder"})
	case job.GetSpec().GetDesiredName() == "stubborn":
		job.State = hashfinderv1.Job_CANCELLING
	case job.GetEndTime() == nil:
		close(job.cancelled)
		f.end(job)
	}
	return proto.CloneOf(job.Job), nil
}

// PauseJob pauses a job that has not ended.
func (f *fakeService) PauseJob(_ context.Context, r *hashfinderv1.PauseJobRequest) (*hashfinderv1.Job, error) {
	return f.setPause(r.GetName(), hashfinderv1.Job_PAUSED, timestamppb.New(began))
}

// ResumeJob lets a job run that has not ended.
func (f *fakeService) ResumeJob(_ context.Context, r *hashfinderv1.ResumeJobRequest) (*hashfinderv1.Job, error) {
	return f.setPause(r.GetName(), hashfinderv1.Job_RUNNING, nil)
}

func (f *fakeService) setPause(name string, state hashfinderv1.Job_State, at *timestamppb.Timestamp) (*hashfinderv1.Job, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	job, err := f.find(name)
	switch {
	case err != nil:
		return nil, err
	case job.GetEndTime() != nil:
		return nil, refusal(codes.FailedPrecondition, "the job has ended", &errdetails.ErrorInfo{Reason: "ENDED", Domain: "hashfinder"})
	case at == nil && job.GetPauseTime() != nil:
		job.PausedDuration = durationpb.New(90 * time.Second)
	}
	job.State, job.PauseTime = state, at
	return proto.CloneOf(job.Job), nil
}

// ExtendJob makes a job of a "rare" one that has ended.
func (f *fakeService) ExtendJob(_ context.Context, r *hashfinderv1.ExtendJobRequest) (*hashfinderv1.Job, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	old, err := f.find(r.GetName())
	switch {
	case err != nil:
		return nil, err
	case old.GetState() != hashfinderv1.Job_EXHAUSTED:
		return nil, refusal(codes.FailedPrecondition, "the job has not used up its budget")
	case r.GetBudget().GetMaxCandidates() <= old.GetSpec().GetBudget().GetMaxCandidates():
		const field, description = "budget.max_candidates", "it must be more"
		return nil, refusal(codes.InvalidArgument, field+": "+description, &errdetails.BadRequest{
			FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: field, Description: description}},
		})
	}
	job := proto.CloneOf(old.Job)
	proto.Merge(job.GetSpec().GetBudget(), r.GetBudget())
	job.Name = fmt.Sprintf("jobs/00000000-0000-7000-8000-%012d", len(f.jobs)+1)
	job.State, job.EndReason, job.StartTime, job.EndTime = hashfinderv1.Job_PENDING, 0, nil, nil
	job.Extends = &hashfinderv1.Extension{
		Job: old.GetName(), CandidatesSearched: old.GetProgress().GetCandidatesSearched(), LastSequence: old.GetLastSequence(),
		Duration: durationpb.New(2 * time.Second),
	}
	old.ExtendedBy = job.GetName()
	f.jobs = append(f.jobs, &fakeJob{Job: job, cancelled: make(chan struct{})})
	return proto.CloneOf(job), nil
}

// DeleteJob forgets a job.
func (f *fakeService) DeleteJob(_ context.Context, r *hashfinderv1.DeleteJobRequest) (*emptypb.Empty, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	job, err := f.find(r.GetName())
	if err != nil {
		return nil, err
	}
	if r.GetEtag() != "" && r.GetEtag() != job.GetEtag() {
		return nil, refusal(codes.Aborted, "the job has changed", &errdetails.ErrorInfo{Reason: "CHANGED", Domain: "hashfinder"})
	}
	job.Name = ""
	return &emptypb.Empty{}, nil
}

// GetJobAudit knows one story.
func (f *fakeService) GetJobAudit(_ context.Context, r *hashfinderv1.GetJobAuditRequest) (*hashfinderv1.JobAudit, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	job, err := f.find(r.GetName())
	if err != nil {
		return nil, err
	}
	at := func(ms int) *timestamppb.Timestamp {
		return timestamppb.New(began.Add(time.Duration(ms) * time.Millisecond))
	}
	const worker = "host/7/0a1b2c3d"
	return &hashfinderv1.JobAudit{
		Job: job.GetName(), Tenant: "default", RequestId: "11111111-1111-4111-8111-111111111111",
		Changes: []*hashfinderv1.StateChange{
			{Time: at(0), State: hashfinderv1.Job_PENDING},
			{Time: at(12), State: hashfinderv1.Job_RUNNING},
			{Time: at(2345), State: hashfinderv1.Job_CANCELLING, EndReason: hashfinderv1.Job_ORPHANED},
		},
		Attempts: []*hashfinderv1.Attempt{
			{
				FirstCandidate: 0, EndCandidate: 65793, Worker: worker, BeginTime: at(12), EndTime: at(345),
				Outcome: hashfinderv1.Attempt_COMMITTED,
			},
			{FirstCandidate: 65793, EndCandidate: 131329, Worker: worker, BeginTime: at(350), Outcome: hashfinderv1.Attempt_RUNNING},
		},
		AttemptsDropped: 64,
	}, nil
}

// EstimateSearch knows one estimate.
func (f *fakeService) EstimateSearch(context.Context, *hashfinderv1.EstimateSearchRequest) (*hashfinderv1.Estimate, error) {
	return &hashfinderv1.Estimate{
		ProbabilityPerCandidate: 2.09e-8, ExpectedCandidates: 4.78e7,
		CandidatesP50: 3.31e7, CandidatesP90: 1.1e8, CandidatesP99: 2.2e8,
		CandidatesPerSecond: 1e7, TimeP50: durationpb.New(3310 * time.Millisecond), TimeP90: durationpb.New(11 * time.Second),
	}, nil
}

// end fills in the end of a job. f.mu is held.
func (f *fakeService) end(job *fakeJob) {
	hits, state, reason := plot(job.GetSpec().GetDesiredName())
	job.State, job.EndReason = state, reason
	job.StartTime, job.EndTime = timestamppb.New(began), timestamppb.New(ended)
	job.Progress = &hashfinderv1.Progress{CandidatesSearched: 1 << 20, CandidatesPerSecond: 1 << 19, ProbabilityFound: 0.02}
	job.LastSequence = job.GetExtends().GetLastSequence() + int64(len(hits)) + 1
	job.Etag = "e2"
	if len(hits) > 0 {
		job.BestHit = fakeHit(hits[len(hits)-1])
		job.Progress.CandidatesSearched = hits[len(hits)-1] + 1
	}
	if state == hashfinderv1.Job_SUCCEEDED {
		job.Answer = job.GetBestHit()
	}
	if state == hashfinderv1.Job_FAILED {
		job.Error = &rpcstatus.Status{Code: int32(codes.Internal), Message: "a chunk died three times"}
	}
}

// WatchJob plays the plot. "flaky" breaks off after the first hit of its first stream, and then repeats that hit;
// "gap" leaves a hit out.
func (f *fakeService) WatchJob(r *hashfinderv1.WatchJobRequest, stream hashfinderv1.JobService_WatchJobServer) error {
	f.mu.Lock()
	job, err := f.find(r.GetName())
	first := false
	if err == nil {
		job.streams++
		first = job.streams == 1
	}
	f.mu.Unlock()
	if err != nil {
		return err
	}
	name := job.GetSpec().GetDesiredName()
	progress := &hashfinderv1.Progress{CandidatesSearched: 1000, CandidatesPerSecond: 5e5, ProbabilityFound: 0.001}
	if err := stream.Send(&hashfinderv1.WatchJobResponse{Event: &hashfinderv1.WatchJobResponse_Progress{Progress: progress}}); err != nil {
		return err
	}
	hits, state, _ := plot(name)
	sequence := job.GetExtends().GetLastSequence()
	if sequence > r.GetAfterSequence() {
		event := &hashfinderv1.WatchJobResponse{
			Sequence: sequence, Event: &hashfinderv1.WatchJobResponse_Extended{Extended: hashfinderv1.Job_CANDIDATES_EXHAUSTED},
		}
		if err := stream.Send(event); err != nil {
			return err
		}
	}
	for _, index := range hits {
		sequence++
		if sequence <= r.GetAfterSequence() && name != "flaky" || name == "gap" && sequence == 2 {
			continue
		}
		event := &hashfinderv1.WatchJobResponse{Sequence: sequence, Event: &hashfinderv1.WatchJobResponse_Hit{Hit: fakeHit(index)}}
		if err := stream.Send(event); err != nil {
			return err
		}
		if name == "flaky" && first {
			return refusal(codes.Unavailable, "Redis is away", &errdetails.RetryInfo{})
		}
	}
	if state == hashfinderv1.Job_CANCELLED && name != "orphan" {
		f.watched <- struct{}{}
		select {
		case <-job.cancelled:
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
	f.mu.Lock()
	if job.GetEndTime() == nil {
		f.end(job)
	}
	end := proto.CloneOf(job.Job)
	f.mu.Unlock()
	return stream.Send(&hashfinderv1.WatchJobResponse{Sequence: sequence + 1, Event: &hashfinderv1.WatchJobResponse_End{End: end}})
}
