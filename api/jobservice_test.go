package api

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/hashfinder/hashfinder/jobs"
	"github.com/hashfinder/hashfinder/jobs/search"
	hashfinderv1 "github.com/hashfinder/hashfinder/proto/hashfinder/v1"
)

// submit submits a job for name, within a number of candidates.
func (e *env) submit(t *testing.T, name string, interesting int32, candidates int64, labels map[string]string) *hashfinderv1.Job {
	t.Helper()
	job, err := e.jobs.SubmitJob(t.Context(), &hashfinderv1.SubmitJobRequest{Job: &hashfinderv1.Job{
		Spec: &hashfinderv1.JobSpec{
			DesiredName: name, InterestingHammingDistance: interesting, Budget: &hashfinderv1.Budget{MaxCandidates: &candidates},
		},
		Labels: labels,
	}})
	if err != nil {
		t.Fatal(err)
	}
	return job
}

func (e *env) watch(t *testing.T, name string, after int64) ([]*hashfinderv1.WatchJobResponse, error) {
	t.Helper()
	stream, err := e.jobs.WatchJob(t.Context(), &hashfinderv1.WatchJobRequest{Name: name, AfterSequence: after})
	if err != nil {
		t.Fatal(err)
	}
	return received(stream)
}

func TestSubmitJob(t *testing.T) {
	e := newEnv(t, jobs.Limits{}, nil)
	req := &hashfinderv1.SubmitJobRequest{
		Job: &hashfinderv1.Job{
			Name: "jobs/mine", State: hashfinderv1.Job_FAILED, Etag: "mine", // ignored: they are the server's
			Spec: &hashfinderv1.JobSpec{
				DesiredName: "dog", InterestingHammingDistance: 1,
				Budget: &hashfinderv1.Budget{MaxHits: new(int64(7)), MaxDuration: durationpb.New(time.Minute)},
			},
			Labels: map[string]string{"team": "red"},
		},
		ValidateOnly: true,
	}
	want := &hashfinderv1.Job{
		Spec: &hashfinderv1.JobSpec{
			DesiredName: "dog", InterestingHammingDistance: 1,
			Budget: &hashfinderv1.Budget{
				MaxCandidates: new(int64(1 << 36)), MaxHits: new(int64(7)), MaxDuration: durationpb.New(time.Minute),
			},
		},
		Labels: map[string]string{"team": "red"}, State: hashfinderv1.Job_PENDING, Progress: &hashfinderv1.Progress{},
	}
	before := e.keys()
	got, err := e.jobs.SubmitJob(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("validated job (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(before, e.keys()); diff != "" {
		t.Errorf("validate_only stored something (-want +got):\n%s", diff)
	}

	req.ValidateOnly = false
	if got, err = e.jobs.SubmitJob(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	if _, err := jobID(got.GetName()); err != nil || got.GetCreateTime() == nil || got.GetEtag() == "" {
		t.Errorf("got name %q, create time %v, etag %q", got.GetName(), got.GetCreateTime(), got.GetEtag())
	}
	want.Name, want.CreateTime, want.Etag = got.GetName(), got.GetCreateTime(), got.GetEtag()
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("submitted job (-want +got):\n%s", diff)
	}
	again, err := e.jobs.GetJob(t.Context(), &hashfinderv1.GetJobRequest{Name: got.GetName()})
	if diff := cmp.Diff(got, again, protocmp.Transform()); err != nil || diff != "" {
		t.Errorf("GetJob: %v, job (-want +got):\n%s", err, diff)
	}
}

func TestRequestID(t *testing.T) {
	e := newEnv(t, jobs.Limits{}, nil)
	id := uuid.NewString()
	submit := func(id, name string, labels map[string]string) (*hashfinderv1.Job, error) {
		return e.jobs.SubmitJob(t.Context(), &hashfinderv1.SubmitJobRequest{
			Job: &hashfinderv1.Job{Spec: &hashfinderv1.JobSpec{DesiredName: name}, Labels: labels}, RequestId: id,
		})
	}
	first, err := submit(id, never, nil)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := submit(id, never, map[string]string{}); err != nil || again.GetName() != first.GetName() {
		t.Errorf("the same again: got %s (%v), want %s", again.GetName(), err, first.GetName())
	}
	if other, err := submit(uuid.NewString(), never, nil); err != nil || other.GetName() == first.GetName() {
		t.Errorf("another request: got %s (%v), want another than %s", other.GetName(), err, first.GetName())
	}
	_, err = submit(id, never+"y", nil)
	wantField(t, err, "request_id", reasonRequestReused)
	_, err = submit(id, never, map[string]string{"a": "b"})
	wantField(t, err, "request_id", reasonRequestReused)
}

func TestQuota(t *testing.T) {
	e := newEnv(t, jobs.Limits{MaxActive: 1}, nil)
	e.submit(t, never, 0, 1000, nil)
	before := e.keys()
	for _, method := range []string{"Find", "FindRange"} {
		err := e.call(t.Context(), method)
		info := wantError(t, err, codes.ResourceExhausted, reasonQuotaExceeded)
		if info.GetMetadata()["limit"] != "1" || len(detail[*errdetails.QuotaFailure](err).GetViolations()) != 1 ||
			detail[*errdetails.RetryInfo](err) == nil {
			t.Errorf("got %v, details %v", info, err)
		}
	}
	if diff := cmp.Diff(before, e.keys()); diff != "" {
		t.Errorf("what was refused stored something (-want +got):\n%s", diff)
	}
}

func TestWatchJob(t *testing.T) {
	e := newEnv(t, jobs.Limits{}, nil)
	e.work(t)
	const candidates = 1000
	name := e.submit(t, never, 20, candidates, nil).GetName()
	events, err := e.watch(t, name, 0)
	if err != nil {
		t.Fatal(err)
	}
	var numbered []*hashfinderv1.WatchJobResponse
	for _, event := range events {
		if event.GetProgress() == nil {
			numbered = append(numbered, event)
		}
	}
	want := scanned(search.Query{Name: never, Interesting: 20}, candidates)
	if len(numbered) != len(want)+1 || events[len(events)-1].GetEnd() == nil {
		t.Fatalf("got %d events, want %d hits and the end last", len(numbered), len(want))
	}
	for i, event := range numbered {
		if event.GetSequence() != int64(i+1) {
			t.Errorf("event %d has sequence %d", i+1, event.GetSequence())
		}
		if i < len(want) && event.GetHit().GetHashedName() != want[i].GetHashedName() {
			t.Errorf("event %d: got %v, want %v", i+1, event.GetHit(), want[i])
		}
	}
	end := numbered[len(want)].GetEnd()
	if end.GetState() != hashfinderv1.Job_EXHAUSTED || end.GetEndReason() != hashfinderv1.Job_CANDIDATES_EXHAUSTED ||
		end.GetProgress().GetCandidatesSearched() != candidates || end.GetProgress().GetEtaP50() != nil ||
		end.GetBestHit() == nil || end.GetAnswer() != nil || end.GetStopLatency() != nil || end.GetEndTime() == nil {
		t.Errorf("got end %v", end)
	}

	// Resumed anywhere, the rest is the same.
	for _, after := range []int{0, 1, len(want) / 2, len(want), len(want) + 1} {
		rest, err := e.watch(t, name, int64(after))
		if err != nil {
			t.Fatal(err)
		}
		if len(rest) > 0 && rest[0].GetProgress() != nil {
			rest = rest[1:]
		}
		if diff := cmp.Diff(numbered[after:], rest, protocmp.Transform(), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("after %d (-want +got):\n%s", after, diff)
		}
	}
	_, err = e.watch(t, name, int64(len(want)+2))
	info := wantError(t, err, codes.OutOfRange, reasonOutOfRange)
	if got, want := info.GetMetadata()["last_sequence"], uintText(uint64(len(numbered))); got != want {
		t.Errorf("got last_sequence %s, want %s", got, want)
	}
}

// TestWatchSucceeded watches a job whose answer is found.
func TestWatchSucceeded(t *testing.T) {
	e := newEnv(t, jobs.Limits{}, nil)
	e.work(t)
	events, err := e.watch(t, e.submit(t, "dog", 0, 1<<20, nil).GetName(), 0)
	if err != nil {
		t.Fatal(err)
	}
	end := events[len(events)-1].GetEnd()
	if end.GetState() != hashfinderv1.Job_SUCCEEDED || end.GetEndReason() != hashfinderv1.Job_FOUND ||
		end.GetAnswer().GetHashedName() != scanned(search.Query{Name: "dog"}, 1<<20)[0].GetHashedName() ||
		!cmp.Equal(end.GetAnswer(), end.GetBestHit(), protocmp.Transform()) {
		t.Errorf("got end %v", end)
	}
}

func TestPoisoned(t *testing.T) {
	e := newEnv(t, jobs.Limits{}, nil)
	result := make(chan error, 1)
	go func() { result <- e.call(t.Context(), "Find") }()
	job := e.onlyJob(t)
	for ticket := 1; ; ticket++ {
		chunk, err := e.claim(t.Context(), job.ID, ticket)
		if err != nil {
			break
		}
		if _, err := e.store.Release(t.Context(), chunk, true); err != nil {
			t.Fatal(err)
		}
	}
	info := wantError(t, <-result, codes.Internal, reasonPoisoned)
	if got := info.GetMetadata()["chunk"]; got != "0:65793" {
		t.Errorf("got chunk %q", got)
	}
	got, err := e.jobs.GetJob(t.Context(), &hashfinderv1.GetJobRequest{Name: jobName(job.ID)})
	if err != nil || got.GetState() != hashfinderv1.Job_FAILED || codes.Code(got.GetError().GetCode()) != codes.Internal {
		t.Errorf("got job %v (%v), want a failed one with its error", got, err)
	}
}

func TestCancelJob(t *testing.T) {
	e := newEnv(t, jobs.Limits{}, nil)
	ctx := t.Context()
	cancel := func(name string) (*hashfinderv1.Job, error) {
		return e.jobs.CancelJob(ctx, &hashfinderv1.CancelJobRequest{Name: name})
	}
	pending := e.submit(t, never, 0, 1000, nil)
	for range 2 { // again is no error
		got, err := cancel(pending.GetName())
		if err != nil || got.GetState() != hashfinderv1.Job_CANCELLED || got.GetEndReason() != hashfinderv1.Job_CANCELLED_BY_CLIENT ||
			got.GetStopLatency() == nil || got.GetEtag() == pending.GetEtag() {
			t.Errorf("got %v (%v), want it cancelled", got, err)
		}
	}

	running := e.submit(t, never, 0, 1000, nil)
	id, _ := jobID(running.GetName())
	chunk, err := e.claim(ctx, id, 1)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := cancel(running.GetName()); err != nil || got.GetState() != hashfinderv1.Job_CANCELLING {
		t.Errorf("got %v (%v), want it still cancelling", got, err)
	}
	_, err = e.jobs.DeleteJob(ctx, &hashfinderv1.DeleteJobRequest{Name: running.GetName()})
	wantError(t, err, codes.FailedPrecondition, reasonJobActive)
	if _, err := e.store.Release(ctx, chunk, false); err != nil {
		t.Fatal(err)
	}
	if got, err := cancel(running.GetName()); err != nil || got.GetState() != hashfinderv1.Job_CANCELLED {
		t.Errorf("got %v (%v), want it cancelled", got, err)
	}

	e.work(t)
	done := e.submit(t, never, 0, 1000, nil)
	id, _ = jobID(done.GetName())
	e.ended(t, id)
	_, err = cancel(done.GetName())
	wantError(t, err, codes.FailedPrecondition, reasonJobEnded)
}

func TestDeleteJob(t *testing.T) {
	e := newEnv(t, jobs.Limits{}, nil)
	ctx := t.Context()
	remove := func(name, etag string) error {
		_, err := e.jobs.DeleteJob(ctx, &hashfinderv1.DeleteJobRequest{Name: name, Etag: etag})
		return err
	}
	job := e.submit(t, never, 0, 1000, nil)
	wantError(t, remove(job.GetName(), ""), codes.FailedPrecondition, reasonJobActive)
	ended, err := e.jobs.CancelJob(ctx, &hashfinderv1.CancelJobRequest{Name: job.GetName()})
	if err != nil {
		t.Fatal(err)
	}
	for _, etag := range []string{job.GetEtag(), "r0", "r", "x", " " + ended.GetEtag()} {
		wantError(t, remove(job.GetName(), etag), codes.Aborted, reasonEtagMismatch)
	}
	if err := remove(job.GetName(), ended.GetEtag()); err != nil {
		t.Error(err)
	}
	wantError(t, remove(job.GetName(), ""), codes.NotFound, reasonJobNotFound)
}

func TestListJobs(t *testing.T) {
	e := newEnv(t, jobs.Limits{}, nil)
	ctx := t.Context()
	const n = 7
	var names []string // the newest first
	for i := range n {
		labels := map[string]string{"team": []string{"red", "blue"}[i%2]}
		names = append([]string{e.submit(t, never, 0, 1000, labels).GetName()}, names...)
	}
	if _, err := e.jobs.CancelJob(ctx, &hashfinderv1.CancelJobRequest{Name: names[0]}); err != nil {
		t.Fatal(err)
	}
	list := func(t *testing.T, filter string, size int32) (all []string, pages int) {
		t.Helper()
		req := &hashfinderv1.ListJobsRequest{Filter: filter, PageSize: size}
		for {
			page, err := e.jobs.ListJobs(ctx, req)
			if err != nil {
				t.Fatal(err)
			}
			pages++
			for _, job := range page.GetJobs() {
				all = append(all, job.GetName())
			}
			if req.PageToken = page.GetNextPageToken(); req.PageToken == "" {
				return all, pages
			}
		}
	}
	red := []string{names[0], names[2], names[4], names[6]}
	blue := []string{names[1], names[3], names[5]}
	for _, test := range []struct {
		name, filter string
		size         int32
		want         []string
		pages        int
	}{
		{"all", "", 0, names, 1},
		{"pages", "", 3, names, 3},
		{"exactly one page", "", n, names, 1},
		{"more than there are", "", 5000, names, 1},
		{"state", "state = CANCELLED", 0, names[:1], 1},
		{"not state", "state != CANCELLED", 2, names[1:], 3},
		{"label", `labels.team = "red"`, 2, red, 2},
		{"not label", `labels.team != "red"`, 1, blue, 4}, // a last page without any: one more was left to look at
		{"absent label", `labels.other != "x"`, 0, names, 1},
		{"both", `labels.team = red AND state = PENDING`, 0, red[1:], 1},
		{"time", `create_time > "2020-01-01T00:00:00Z" AND create_time < '2100-01-01T00:00:00+01:00'`, 0, names, 1},
		{"none", `create_time < "2020-01-01T00:00:00Z"`, 1, nil, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, pages := list(t, test.filter, test.size)
			if diff := cmp.Diff(test.want, got); diff != "" || pages != test.pages {
				t.Errorf("%d pages, want %d; (-want +got):\n%s", pages, test.pages, diff)
			}
		})
	}
}

// TestListScanned pages through jobs of which a call looks at a few only.
func TestListScanned(t *testing.T) {
	e := newEnv(t, jobs.Limits{}, nil)
	want := e.submit(t, never, 0, 1000, map[string]string{"a": "b"}).GetName()
	for range 6 {
		e.submit(t, never, 0, 1000, nil)
	}
	s := &jobService{service: e.service, maxScanned: 3, estimates: newEstimates()}
	req := &hashfinderv1.ListJobsRequest{Filter: "labels.a = b"}
	for i, names := range [][]string{nil, nil, {want}} {
		page, err := s.ListJobs(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, job := range page.GetJobs() {
			got = append(got, job.GetName())
		}
		req.PageToken = page.GetNextPageToken()
		if last := i == 2; !cmp.Equal(got, names) || (req.PageToken == "") != last {
			t.Errorf("page %d: got %v and token %q, want %v", i, got, req.PageToken, names)
		}
	}
}

func TestEstimateSearch(t *testing.T) {
	e := newEnv(t, jobs.Limits{}, nil)
	if err := e.store.Heartbeat(t.Context(), "w", 4, 1000); err != nil {
		t.Fatal(err)
	}
	got, err := e.jobs.EstimateSearch(t.Context(), &hashfinderv1.EstimateSearchRequest{DesiredName: "doctor"})
	if err != nil {
		t.Fatal(err)
	}
	want := search.NewEstimate(search.Query{Name: "doctor"})
	if got.GetExpectedCandidates() != want.Expected() || got.GetProbabilityPerCandidate() != want.PerCandidate() ||
		got.GetCandidatesPerSecond() != 1000 {
		t.Errorf("got %v", got)
	}
	if p50 := got.GetTimeP50().AsDuration(); (p50 - time.Duration(want.Quantile(0.5)*float64(time.Millisecond))).Abs() > time.Millisecond {
		t.Errorf("got a median of %v for %v candidates", p50, want.Quantile(0.5))
	}
}

// TestWatchShutdown shuts down below an open stream.
func TestWatchShutdown(t *testing.T) {
	e := newEnv(t, jobs.Limits{}, nil)
	job := e.submit(t, never, 0, 1000, nil)
	stream, err := e.jobs.WatchJob(t.Context(), &hashfinderv1.WatchJobRequest{Name: job.GetName()})
	if err != nil {
		t.Fatal(err)
	}
	if event, err := stream.Recv(); err != nil || event.GetProgress() == nil {
		t.Fatalf("got %v (%v), want progress first", event, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	e.server.Shutdown(ctx)
	if ctx.Err() != nil {
		t.Error("an open stream held up the shutdown")
	}
	_, err = received(stream)
	wantError(t, err, codes.Unavailable, reasonShuttingDown)
	// The job belongs to no call, and goes on.
	id, _ := jobID(job.GetName())
	if got, err := e.service.Get(t.Context(), jobs.DefaultTenant, id); err != nil || got.State != jobs.Pending {
		t.Errorf("got job %v (%v), want it pending", got, err)
	}
}
