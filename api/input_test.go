package api

import (
	"context"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/hashfinder/hashfinder/jobs"
	"github.com/hashfinder/hashfinder/proto/hash_name"
	hashfinderv1 "github.com/hashfinder/hashfinder/proto/hashfinder/v1"
)

const someJob = "jobs/01980000-0000-7000-8000-000000000000"

// TestBadInput sends what is to be refused, and looks that nothing was stored.
func TestBadInput(t *testing.T) {
	e := newEnv(t, jobs.Limits{Ceiling: jobs.Budget{Candidates: 1000, Hits: 10, Duration: time.Hour}}, nil)
	ctx := t.Context()

	type call func() error
	find := func(name string, ideal, interesting int32) call {
		return func() error {
			_, err := e.finder.Find(ctx, &hash_name.HashNameRequest{
				DesiredName: name, IdealHammingDistance: ideal, InterestingHammingDistance: interesting,
			})
			return err
		}
	}
	findRange := func(name string, ideal, interesting int32) call {
		return func() error {
			stream, err := e.finder.FindRange(ctx, &hash_name.HashNameRequest{
				DesiredName: name, IdealHammingDistance: ideal, InterestingHammingDistance: interesting,
			})
			if err != nil {
				return err
			}
			_, err = received(stream)
			return err
		}
	}
	submit := func(change func(*hashfinderv1.SubmitJobRequest)) call {
		return func() error {
			req := &hashfinderv1.SubmitJobRequest{Job: &hashfinderv1.Job{Spec: &hashfinderv1.JobSpec{
				DesiredName: "ab", Budget: &hashfinderv1.Budget{},
			}}}
			change(req)
			_, err := e.jobs.SubmitJob(ctx, req)
			return err
		}
	}
	get := func(name string) call {
		return func() error {
			_, err := e.jobs.GetJob(ctx, &hashfinderv1.GetJobRequest{Name: name})
			return err
		}
	}
	list := func(req *hashfinderv1.ListJobsRequest) call {
		return func() error {
			_, err := e.jobs.ListJobs(ctx, req)
			return err
		}
	}
	watch := func(name string, after int64) call {
		return func() error {
			stream, err := e.jobs.WatchJob(ctx, &hashfinderv1.WatchJobRequest{Name: name, AfterSequence: after})
			if err != nil {
				return err
			}
			_, err = received(stream)
			return err
		}
	}
	cancel := func(name string) call {
		return func() error {
			_, err := e.jobs.CancelJob(ctx, &hashfinderv1.CancelJobRequest{Name: name})
			return err
		}
	}
	pause := func(name string) call {
		return func() error {
			_, err := e.jobs.PauseJob(ctx, &hashfinderv1.PauseJobRequest{Name: name})
			return err
		}
	}
	resume := func(name string) call {
		return func() error {
			_, err := e.jobs.ResumeJob(ctx, &hashfinderv1.ResumeJobRequest{Name: name})
			return err
		}
	}
	remove := func(name, etag string) call {
		return func() error {
			_, err := e.jobs.DeleteJob(ctx, &hashfinderv1.DeleteJobRequest{Name: name, Etag: etag})
			return err
		}
	}
	estimate := func(name string, ideal int32) call {
		return func() error {
			_, err := e.jobs.EstimateSearch(ctx, &hashfinderv1.EstimateSearchRequest{DesiredName: name, IdealHammingDistance: ideal})
			return err
		}
	}
	budget := func(b *hashfinderv1.Budget) func(*hashfinderv1.SubmitJobRequest) {
		return func(r *hashfinderv1.SubmitJobRequest) { r.Job.Spec.Budget = b }
	}
	labels := func(key, value string) func(*hashfinderv1.SubmitJobRequest) {
		return func(r *hashfinderv1.SubmitJobRequest) { r.Job.Labels = map[string]string{key: value} }
	}
	many := map[string]string{}
	for _, a := range "abcdefghi" {
		for _, b := range "abcdefghi" {
			many[string(a)+string(b)] = ""
		}
	}

	invalid := []struct {
		name, field, reason string
		call                call
	}{
		{"find no name", "desired_name", reasonInvalidField, find("", 0, 0)},
		{"find long name", "desired_name", reasonInvalidField, find(strings.Repeat("a", 29), 0, 0)},
		{"find name of control characters", "desired_name", reasonInvalidField, find("a\n", 0, 0)},
		{"find name beyond ASCII", "desired_name", reasonInvalidField, find("é", 0, 0)},
		{"find negative distance", "ideal_hamming_distance", reasonInvalidField, find("ab", -1, 0)},
		{"find great distance", "ideal_hamming_distance", reasonInvalidField, find("ab", 3, 0)},
		{"find impossible", "ideal_hamming_distance", reasonUnsatisfiable, find("a b", 0, 0)},
		{"find impossible padding", "ideal_hamming_distance", reasonUnsatisfiable, find("B=", 0, 0)},
		{"range no name", "desired_name", reasonInvalidField, findRange("", 0, 0)},
		{"range negative ideal", "ideal_hamming_distance", reasonInvalidField, findRange("ab", math.MinInt32, 0)},
		{"range negative interesting", "interesting_hamming_distance", reasonInvalidField, findRange("ab", 0, -1)},
		{"range great interesting", "interesting_hamming_distance", reasonInvalidField, findRange("ab", 0, 3)},
		{"range impossible", "ideal_hamming_distance", reasonUnsatisfiable, findRange("=a", 0, 1)},

		{"submit no job", "job", reasonInvalidField, submit(func(r *hashfinderv1.SubmitJobRequest) { r.Job = nil })},
		{"submit no spec", "job.spec", reasonInvalidField, submit(func(r *hashfinderv1.SubmitJobRequest) { r.Job.Spec = nil })},
		{"submit no name", "job.spec.desired_name", reasonInvalidField, submit(func(r *hashfinderv1.SubmitJobRequest) { r.Job.Spec.DesiredName = "" })},
		{"submit great ideal", "job.spec.ideal_hamming_distance", reasonInvalidField, submit(func(r *hashfinderv1.SubmitJobRequest) { r.Job.Spec.IdealHammingDistance = 3 })},
		{"submit great interesting", "job.spec.interesting_hamming_distance", reasonInvalidField, submit(func(r *hashfinderv1.SubmitJobRequest) { r.Job.Spec.InterestingHammingDistance = 3 })},
		{"submit impossible", "job.spec.ideal_hamming_distance", reasonUnsatisfiable, submit(func(r *hashfinderv1.SubmitJobRequest) { r.Job.Spec.DesiredName = "a b" })},
		{"submit no candidates", "job.spec.budget.max_candidates", reasonInvalidField, submit(budget(&hashfinderv1.Budget{MaxCandidates: new(int64)}))},
		{"submit negative candidates", "job.spec.budget.max_candidates", reasonInvalidField, submit(budget(&hashfinderv1.Budget{MaxCandidates: new(int64(-1))}))},
		{"submit too many candidates", "job.spec.budget.max_candidates", reasonInvalidField, submit(budget(&hashfinderv1.Budget{MaxCandidates: new(int64(1001))}))},
		{"submit no hits", "job.spec.budget.max_hits", reasonInvalidField, submit(budget(&hashfinderv1.Budget{MaxHits: new(int64)}))},
		{"submit too many hits", "job.spec.budget.max_hits", reasonInvalidField, submit(budget(&hashfinderv1.Budget{MaxHits: new(int64(11))}))},
		{"submit no duration", "job.spec.budget.max_duration", reasonInvalidField, submit(budget(&hashfinderv1.Budget{MaxDuration: &durationpb.Duration{}}))},
		{"submit negative duration", "job.spec.budget.max_duration", reasonInvalidField, submit(budget(&hashfinderv1.Budget{MaxDuration: durationpb.New(-time.Second)}))},
		{"submit malformed duration", "job.spec.budget.max_duration", reasonInvalidField, submit(budget(&hashfinderv1.Budget{MaxDuration: &durationpb.Duration{Seconds: 1, Nanos: -1}}))},
		{"submit long duration", "job.spec.budget.max_duration", reasonInvalidField, submit(budget(&hashfinderv1.Budget{MaxDuration: durationpb.New(2 * time.Hour)}))},
		{"submit too many labels", "job.labels", reasonInvalidField, submit(func(r *hashfinderv1.SubmitJobRequest) { r.Job.Labels = many })},
		{"submit label without key", "job.labels", reasonInvalidField, submit(labels("", "v"))},
		{"submit label in upper case", "job.labels", reasonInvalidField, submit(labels("Team", "v"))},
		{"submit label of a digit", "job.labels", reasonInvalidField, submit(labels("1a", "v"))},
		{"submit label of 64", "job.labels", reasonInvalidField, submit(labels(strings.Repeat("a", 64), "v"))},
		{"submit label value of 64", "job.labels", reasonInvalidField, submit(labels("a", strings.Repeat("é", 64)))},
		{"submit request id no UUID", "request_id", reasonInvalidField, submit(func(r *hashfinderv1.SubmitJobRequest) { r.RequestId = "1" })},
		{"submit request id zero", "request_id", reasonInvalidField, submit(func(r *hashfinderv1.SubmitJobRequest) { r.RequestId = "00000000-0000-0000-0000-000000000000" })},
		{"submit request id in braces", "request_id", reasonInvalidField, submit(func(r *hashfinderv1.SubmitJobRequest) { r.RequestId = "{" + someJob[len("jobs/"):] + "}" })},
		{"validate only", "job.spec.desired_name", reasonInvalidField, submit(func(r *hashfinderv1.SubmitJobRequest) { r.ValidateOnly, r.Job.Spec.DesiredName = true, "" })},

		{"get no name", "name", reasonInvalidField, get("")},
		{"get other collection", "name", reasonInvalidField, get("searches/" + someJob[len("jobs/"):])},
		{"get no UUID", "name", reasonInvalidField, get("jobs/1")},
		{"get upper case", "name", reasonInvalidField, get("jobs/0198000A-0000-7000-8000-000000000000")},
		{"get braces", "name", reasonInvalidField, get("jobs/{01980000-0000-7000-8000-000000000000}")},
		{"get more", "name", reasonInvalidField, get(someJob + "/x")},
		{"watch no name", "name", reasonInvalidField, watch("", 0)},
		{"watch negative", "after_sequence", reasonInvalidField, watch(someJob, -1)},
		{"cancel no name", "name", reasonInvalidField, cancel("jobs/")},
		{"pause no name", "name", reasonInvalidField, pause("")},
		{"resume no name", "name", reasonInvalidField, resume("jobs/x")},
		{"delete no name", "name", reasonInvalidField, remove("jobs", "")},
		{"list negative", "page_size", reasonInvalidField, list(&hashfinderv1.ListJobsRequest{PageSize: -1})},
		{"list bad token", "page_token", reasonInvalidField, list(&hashfinderv1.ListJobsRequest{PageToken: "x"})},
		{"list token of other filter", "page_token", reasonInvalidField, list(&hashfinderv1.ListJobsRequest{
			PageToken: newPageToken(someJob[len("jobs/"):], ""), Filter: "state = RUNNING",
		})},
		{"list bad filter", "filter", reasonInvalidField, list(&hashfinderv1.ListJobsRequest{Filter: "state"})},
		{"estimate no name", "desired_name", reasonInvalidField, estimate("", 0)},
		{"estimate impossible", "ideal_hamming_distance", reasonUnsatisfiable, estimate("_", 0)},
	}
	before := e.keys()
	for _, test := range invalid {
		t.Run(test.name, func(t *testing.T) { wantField(t, test.call(), test.field, test.reason) })
	}
	for name, call := range map[string]call{
		"get": get(someJob), "watch": watch(someJob, 0), "cancel": cancel(someJob), "pause": pause(someJob), "resume": resume(someJob),
		"delete": remove(someJob, ""), "delete etag": remove(someJob, "x"),
	} {
		t.Run(name+" absent", func(t *testing.T) { wantError(t, call(), codes.NotFound, reasonJobNotFound) })
	}
	t.Run("too large", func(t *testing.T) {
		err := find(strings.Repeat("a", 5_000_000), 0, 0)()
		if status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "larger than max") {
			t.Errorf("got %v, want RESOURCE_EXHAUSTED that tells of the size", err)
		}
	})
	if after := e.keys(); !slices.Equal(before, after) {
		t.Errorf("keys before: %v, after: %v", before, after)
	}
	// Also what was valid, or Redis would have had no reason to be written to.
	if _, err := e.jobs.SubmitJob(context.Background(), &hashfinderv1.SubmitJobRequest{
		Job: &hashfinderv1.Job{Spec: &hashfinderv1.JobSpec{DesiredName: "ab"}},
	}); err != nil || len(e.keys()) == 0 {
		t.Errorf("got %v and keys %v for a valid job", err, e.keys())
	}
}
