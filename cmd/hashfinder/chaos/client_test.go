//go:build chaos

package chaos

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/hashfinder/hashfinder/jobs"
	"github.com/hashfinder/hashfinder/jobs/jobstest/history"
	"github.com/hashfinder/hashfinder/jobs/search"
	"github.com/hashfinder/hashfinder/proto/hash_name"
	hashfinderv1 "github.com/hashfinder/hashfinder/proto/hashfinder/v1"
)

const (
	// callTime bounds a call that is no stream. CancelJob takes five seconds at most.
	callTime = 8 * time.Second
	// retryPause spaces a client's attempts.
	retryPause = 100 * time.Millisecond
)

// client asks the front ends, and records what it was told.
type client struct {
	recorder *history.Recorder
	fronts   []*grpc.ClientConn
	// addresses are those of fronts.
	addresses []string
	// surprise is told of an answer that no fault accounts for.
	surprise func(what string)
}

// dial returns a connection that soon tries again.
func dial(address string) (*grpc.ClientConn, error) {
	return grpc.NewClient(address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.5, Jitter: 0.2, MaxDelay: 500 * time.Millisecond},
			MinConnectTimeout: time.Second,
		}))
}

// front returns one of the front ends.
func (c *client) front() *grpc.ClientConn { return c.fronts[rand.IntN(len(c.fronts))] }

func (c *client) jobs() hashfinderv1.JobServiceClient {
	return hashfinderv1.NewJobServiceClient(c.front())
}

// submit submits a job until that is acknowledged, and returns its id.
func (c *client) submit(ctx context.Context, spec *history.Spec) (string, error) {
	request := uuid.NewString()
	for {
		id, err := c.trySubmit(ctx, spec, request)
		if err == nil && rand.IntN(8) == 0 {
			_, _ = c.trySubmit(ctx, spec, request) // the answer is recorded
		}
		if err == nil || !again(err) {
			return id, err
		}
		if err := pause(ctx, retryPause); err != nil {
			return "", err
		}
	}
}

func (c *client) trySubmit(ctx context.Context, spec *history.Spec, request string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	q, err := search.DecodeQuery([]byte(spec.Query))
	if err != nil {
		return "", err
	}
	sent := &hashfinderv1.JobSpec{
		DesiredName: q.Name, IdealHammingDistance: int32(q.Ideal), InterestingHammingDistance: int32(q.Interesting), Attached: spec.Attached,
		Budget: &hashfinderv1.Budget{MaxCandidates: new(int64(spec.Candidates)), MaxHits: new(int64(spec.Hits))},
	}
	if spec.Duration > 0 {
		sent.Budget.MaxDuration = durationpb.New(spec.Duration)
	}
	op := c.recorder.Begin(history.Event{Kind: history.Submit, Tenant: jobs.DefaultTenant, Request: request, Spec: spec})
	job, err := c.jobs().SubmitJob(ctx, &hashfinderv1.SubmitJobRequest{Job: &hashfinderv1.Job{Spec: sent}, RequestId: request})
	if err != nil {
		op.End(c.failed(history.Submit, err))
		return "", err
	}
	id := idOf(job.GetName())
	op.End(history.Event{Outcome: history.OK, Job: id, Seen: seen(job)})
	return id, nil
}

// get returns a job as it is.
func (c *client) get(ctx context.Context, id string) (*history.Snapshot, error) {
	return c.call(ctx, history.Get, id, func(ctx context.Context) (*hashfinderv1.Job, error) {
		return c.jobs().GetJob(ctx, &hashfinderv1.GetJobRequest{Name: "jobs/" + id})
	})
}

// cancel cancels a job until that is acknowledged, and returns how it then is.
func (c *client) cancel(ctx context.Context, id string) (*history.Snapshot, error) {
	for {
		seen, err := c.call(ctx, history.Cancel, id, func(ctx context.Context) (*hashfinderv1.Job, error) {
			return c.jobs().CancelJob(ctx, &hashfinderv1.CancelJobRequest{Name: "jobs/" + id})
		})
		if err == nil || !again(err) {
			return seen, err
		}
		if err := pause(ctx, retryPause); err != nil {
			return nil, err
		}
	}
}

func (c *client) call(
	ctx context.Context, kind history.Kind, id string, call func(context.Context) (*hashfinderv1.Job, error),
) (*history.Snapshot, error) {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	op := c.recorder.Begin(history.Event{Kind: kind, Tenant: jobs.DefaultTenant, Job: id})
	job, err := call(ctx)
	if err != nil {
		op.End(c.failed(kind, err))
		return nil, err
	}
	snapshot := seen(job)
	op.End(history.Event{Outcome: history.OK, Seen: snapshot})
	return snapshot, nil
}

// watch follows a job to its end, and resumes a stream that breaks where it broke. read is called after each event,
// and may take its time; patience is how long each stream lasts until the client breaks it itself, 0 for ever; hits up
// to the ideal distance are ideal. It returns how often the stream was resumed.
func (c *client) watch(ctx context.Context, id string, ideal int, patience func() time.Duration, read func()) (int, error) {
	last := uint64(0)
	for resumed := 0; ; resumed++ {
		ended, err := c.stream(ctx, id, ideal, &last, patience(), read)
		if ended || err != nil && !again(err) || ctx.Err() != nil {
			return resumed, err
		}
		if err != nil && status.Code(err) != codes.Canceled {
			if err := pause(ctx, retryPause); err != nil {
				return resumed, err
			}
		}
	}
}

func (c *client) stream(
	ctx context.Context, id string, ideal int, last *uint64, patience time.Duration, read func(),
) (ended bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if patience > 0 {
		timer := time.AfterFunc(patience, cancel)
		defer timer.Stop()
	}
	op := c.recorder.Begin(history.Event{Kind: history.Watch, Tenant: jobs.DefaultTenant, Job: id, After: *last})
	stream, err := c.jobs().WatchJob(ctx, &hashfinderv1.WatchJobRequest{Name: "jobs/" + id, AfterSequence: int64(*last)})
	for err == nil {
		var event *hashfinderv1.WatchJobResponse
		if event, err = stream.Recv(); err != nil {
			break
		}
		note := history.Event{Sequence: uint64(event.GetSequence())}
		switch {
		case event.GetHit() != nil:
			distance := int(event.GetHit().GetHammingDistance())
			note.Hit = &jobs.Hit{Index: uint64(event.GetHit().GetIndex()), Distance: distance, Ideal: distance <= ideal}
		case event.GetProgress() != nil:
			note.Seen = &history.Snapshot{
				Searched: uint64(event.GetProgress().GetCandidatesSearched()), Redone: uint64(event.GetProgress().GetCandidatesRedone()),
			}
		case event.GetEnd() != nil:
			note.Seen = seen(event.GetEnd())
			ended = true
		}
		op.Note(note)
		*last = max(*last, note.Sequence)
		read()
	}
	if errors.Is(err, io.EOF) {
		op.End(history.Event{Outcome: history.OK})
		if !ended { // a checker says so too
			err = status.Error(codes.Internal, "the stream was over before the job")
		} else {
			err = nil
		}
		return ended, err
	}
	if ctx.Err() != nil {
		op.End(history.Event{Outcome: history.Aborted})
		return ended, err
	}
	op.End(c.failed(history.Watch, err))
	return ended, err
}

// findRange searches by the older service, in which a job lives as long as its call. It leaves after a while, never
// with 0. Its hits have the numbers that the job's log gives them. known is told of the job as soon as it is there.
func (c *client) findRange(ctx context.Context, spec *history.Spec, leave time.Duration, known func(id string)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	q, err := search.DecodeQuery([]byte(spec.Query))
	if err != nil {
		return err
	}
	submit := c.recorder.Begin(history.Event{Kind: history.Submit, Tenant: jobs.DefaultTenant, Spec: spec})
	stream, err := hash_name.NewHashFinderClient(c.front()).FindRange(ctx, &hash_name.HashNameRequest{
		DesiredName: q.Name, IdealHammingDistance: int32(q.Ideal), InterestingHammingDistance: int32(q.Interesting),
	})
	var header metadata.MD
	if err == nil {
		header, err = stream.Header()
	}
	if err == nil && len(header.Get(jobHeader)) == 0 { // refused
		_, err = stream.Recv()
	}
	if err != nil {
		submit.End(c.failed(history.Submit, err))
		return err
	}
	id := idOf(header.Get(jobHeader)[0])
	submit.End(history.Event{Outcome: history.OK, Job: id})
	op := c.recorder.Begin(history.Event{Kind: history.Watch, Tenant: jobs.DefaultTenant, Job: id})
	known(id)
	if leave > 0 {
		timer := time.AfterFunc(leave, cancel)
		defer timer.Stop()
	}
	for n := uint64(1); ; n++ {
		got, err := stream.Recv()
		if err != nil {
			outcome := history.Aborted // also when a budget is used up, or the ideal hit was the last: the log has its end yet
			if ctx.Err() == nil && !errors.Is(err, io.EOF) && status.Code(err) != codes.ResourceExhausted {
				op.End(c.failed(history.Watch, err))
				return err
			}
			op.End(history.Event{Outcome: outcome})
			return nil
		}
		secret, err := base64.StdEncoding.DecodeString(got.GetSecret())
		if err != nil {
			return err
		}
		index, err := search.IndexOf(secret)
		if err != nil {
			return err
		}
		distance := int(got.GetHammingDistance())
		op.Note(history.Event{Sequence: n, Hit: &jobs.Hit{Index: index, Distance: distance, Ideal: distance <= q.Ideal}})
	}
}

// jobHeader is where FindRange tells the name of its job.
const jobHeader = "hashfinder-job"

// failed is the end of an operation that failed. It looks for errors that no fault of another accounts for.
func (c *client) failed(kind history.Kind, err error) history.Event {
	e := history.Event{Error: err.Error()}
	expected := true
	switch code := status.Code(err); code {
	case codes.NotFound:
		e.Outcome = history.NotFound // a checker looks at it
	case codes.DataLoss:
		e.Outcome, expected = history.DataLoss, false
	case codes.FailedPrecondition:
		e.Outcome, expected = history.Ended, kind == history.Cancel
	case codes.InvalidArgument, codes.ResourceExhausted, codes.OutOfRange:
		e.Outcome, expected = history.Refused, false
	default:
		e.Outcome = history.Unknown
		expected = code == codes.Unavailable || code == codes.DeadlineExceeded || code == codes.Canceled
	}
	if !expected {
		c.surprise(fmt.Sprintf("%s: %v", kind, err))
	}
	return e
}

// again tells whether a call that failed is worth another try.
func again(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
		return true
	default:
		return false
	}
}

func idOf(name string) string { return strings.TrimPrefix(name, "jobs/") }

// seen is a job as its message tells of it.
func seen(job *hashfinderv1.Job) *history.Snapshot {
	s := &history.Snapshot{
		State: jobs.State(job.GetState().String()), Searched: uint64(job.GetProgress().GetCandidatesSearched()),
		Redone: uint64(job.GetProgress().GetCandidatesRedone()), Sequence: uint64(job.GetLastSequence()),
		Best: hitOf(job, job.GetBestHit()), Answer: hitOf(job, job.GetAnswer()),
	}
	if job.GetEndReason() != hashfinderv1.Job_END_REASON_UNSPECIFIED {
		s.Reason = jobs.Reason(job.GetEndReason().String())
	}
	// All events of a log but the end are hits.
	s.Hits = s.Sequence
	if s.State.Terminal() {
		s.Hits--
	}
	return s
}

func hitOf(job *hashfinderv1.Job, hit *hashfinderv1.Hit) *jobs.Hit {
	if hit == nil {
		return nil
	}
	return &jobs.Hit{
		Index: uint64(hit.GetIndex()), Distance: int(hit.GetHammingDistance()),
		Ideal: hit.GetHammingDistance() <= job.GetSpec().GetIdealHammingDistance(),
	}
}
