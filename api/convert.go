package api

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/hashfinder/hashfinder/jobs"
	"github.com/hashfinder/hashfinder/jobs/search"
	"github.com/hashfinder/hashfinder/proto/hash_name"
	hashfinderv1 "github.com/hashfinder/hashfinder/proto/hashfinder/v1"
)

var states = map[jobs.State]hashfinderv1.Job_State{
	jobs.Pending:    hashfinderv1.Job_PENDING,
	jobs.Running:    hashfinderv1.Job_RUNNING,
	jobs.Pausing:    hashfinderv1.Job_PAUSING,
	jobs.Paused:     hashfinderv1.Job_PAUSED,
	jobs.Cancelling: hashfinderv1.Job_CANCELLING,
	jobs.Succeeded:  hashfinderv1.Job_SUCCEEDED,
	jobs.Exhausted:  hashfinderv1.Job_EXHAUSTED,
	jobs.Failed:     hashfinderv1.Job_FAILED,
	jobs.Cancelled:  hashfinderv1.Job_CANCELLED,
}

var reasons = map[jobs.Reason]hashfinderv1.Job_EndReason{
	jobs.Found:               hashfinderv1.Job_FOUND,
	jobs.CandidatesExhausted: hashfinderv1.Job_CANDIDATES_EXHAUSTED,
	jobs.HitsExhausted:       hashfinderv1.Job_HITS_EXHAUSTED,
	jobs.DurationExhausted:   hashfinderv1.Job_DURATION_EXHAUSTED,
	jobs.CancelledByClient:   hashfinderv1.Job_CANCELLED_BY_CLIENT,
	jobs.DeadlineExceeded:    hashfinderv1.Job_DEADLINE_EXCEEDED,
	jobs.Orphaned:            hashfinderv1.Job_ORPHANED,
	jobs.Poisoned:            hashfinderv1.Job_POISONED,
}

// reasonOf returns unspecified for the empty reason of a job that goes on.
func reasonOf(r jobs.Reason) hashfinderv1.Job_EndReason { return reasons[r] }

// stateNamed is the inverse of states, from the name of the proto's value.
func stateNamed(name string) (jobs.State, bool) {
	value, ok := hashfinderv1.Job_State_value[name]
	if !ok {
		return "", false
	}
	for state, s := range states {
		if s == hashfinderv1.Job_State(value) {
			return state, true
		}
	}
	return "", false
}

const namePrefix = "jobs/"

func jobName(id string) string { return namePrefix + id }

// jobID reads the name of a job. Only the form that the server writes is a name.
func jobID(name string) (string, error) {
	id, ok := strings.CutPrefix(name, namePrefix)
	if parsed, err := uuid.Parse(id); !ok || err != nil || parsed.String() != id {
		return "", invalidField("name", `it must be "jobs/" and a UUID in lower case`)
	}
	return id, nil
}

// requestUUID reads a request_id; "" stands for none.
func requestUUID(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	// uuid.Parse takes other forms too, which are longer or shorter.
	const plain = len("00000000-0000-0000-0000-000000000000")
	id, err := uuid.Parse(text)
	if err != nil || len(text) != plain || id == uuid.Nil {
		return "", invalidField("request_id", "it must be a UUID that is not zero")
	}
	return id.String(), nil
}

// etagOf is the etag of a job's revision. revisionOf reads it; what is no etag is the revision of no job.
func etagOf(revision uint64) string { return "r" + strconv.FormatUint(revision, 36) }

func revisionOf(etag string) uint64 {
	const none = math.MaxUint64
	digits, _ := strings.CutPrefix(etag, "r")
	revision, err := strconv.ParseUint(digits, 36, 64)
	if err != nil || revision == 0 || etagOf(revision) != etag {
		return none
	}
	return revision
}

// queryOf is the query of a request of HashFinder.
func queryOf(req *hash_name.HashNameRequest) search.Query {
	return search.Query{
		Name:        req.GetDesiredName(),
		Ideal:       int(req.GetIdealHammingDistance()),
		Interesting: int(req.GetInterestingHammingDistance()),
	}
}

// newSpec is the spec of a job that looks for q, which must be valid, within the server's default budget.
func newSpec(q search.Query) jobs.Spec {
	return jobs.Spec{Profile: search.Profile, Query: q.Encode(), Grid: search.Grid()}
}

// specOf reads what SubmitJob is to submit. Its errors name fields from the request on.
func specOf(job *hashfinderv1.Job) (jobs.Spec, error) {
	switch {
	case job == nil:
		return jobs.Spec{}, invalidField("job", "it is required")
	case job.GetSpec() == nil:
		return jobs.Spec{}, invalidField("job.spec", "it is required")
	}
	from := job.GetSpec()
	q := search.Query{
		Name:        from.GetDesiredName(),
		Ideal:       int(from.GetIdealHammingDistance()),
		Interesting: int(from.GetInterestingHammingDistance()),
	}
	if err := q.Validate(); err != nil {
		return jobs.Spec{}, inField("job.spec.", err)
	}
	spec := newSpec(q)
	spec.Attached = from.GetAttached()
	var err error
	if spec.Budget, err = budgetOf("job.spec.budget.", from.GetBudget()); err != nil {
		return jobs.Spec{}, err
	}
	if err := checkLabels(job.GetLabels()); err != nil {
		return jobs.Spec{}, err
	}
	if len(job.GetLabels()) > 0 { // no labels have one form: request ids tell requests apart by it
		spec.Labels = job.GetLabels()
	}
	return spec, nil
}

// budgetOf reads a budget. path is that of its fields in the request.
func budgetOf(path string, from *hashfinderv1.Budget) (jobs.Budget, error) {
	var budget jobs.Budget
	if from == nil {
		return budget, nil
	}
	for _, bound := range []struct {
		field string
		value *int64
		to    *uint64
	}{{"max_candidates", from.MaxCandidates, &budget.Candidates}, {"max_hits", from.MaxHits, &budget.Hits}} {
		if bound.value == nil {
			continue
		}
		if *bound.value < 1 {
			return budget, invalidField(path+bound.field, "it must be at least 1, not %d", *bound.value)
		}
		*bound.to = uint64(*bound.value)
	}
	if d := from.GetMaxDuration(); d != nil {
		if err := d.CheckValid(); err != nil {
			return budget, invalidField(path+"max_duration", "it is not a valid duration")
		}
		// AsDuration saturates at 292 years. The store counts milliseconds.
		if budget.Duration = d.AsDuration(); budget.Duration < time.Millisecond {
			return budget, invalidField(path+"max_duration", "it must be at least a millisecond, not %v", budget.Duration)
		}
	}
	return budget, nil
}

func checkLabels(labels map[string]string) error {
	const maxLabels, maxValue = 64, 63
	if len(labels) > maxLabels {
		return invalidField("job.labels", "there may be %d at most, not %d", maxLabels, len(labels))
	}
	for key, value := range labels {
		if !isLabelKey(key) {
			return invalidField("job.labels", "the key %q must be 1 to 63 of a-z, 0-9, _ and -, and begin with a letter", key)
		}
		if n := utf8.RuneCountInString(value); n > maxValue {
			return invalidField("job.labels", "the value of %s may have %d characters at most, not %d", key, maxValue, n)
		}
	}
	return nil
}

func isLabelKey(key string) bool {
	if key == "" || len(key) > 63 || key[0] < 'a' || key[0] > 'z' {
		return false
	}
	for _, c := range []byte(key) {
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '_', c == '-':
		default:
			return false
		}
	}
	return true
}

// decodeQuery reads the query of a job. A fault in it is the server's, not one of the request.
func decodeQuery(job *jobs.Job) (search.Query, error) {
	if job.Spec.Profile != search.Profile {
		return search.Query{}, fmt.Errorf("job %s: unknown profile %q", job.ID, job.Spec.Profile)
	}
	q, err := search.DecodeQuery(job.Spec.Query)
	if err != nil {
		return search.Query{}, errors.New("job " + job.ID + ": " + err.Error())
	}
	return q, nil
}

// jobOf is the proto of a job.
func (e *estimates) jobOf(job *jobs.Job) (*hashfinderv1.Job, error) {
	q, err := decodeQuery(job)
	if err != nil {
		return nil, err
	}
	budget := &job.Spec.Budget
	p := &hashfinderv1.Job{
		Spec: &hashfinderv1.JobSpec{
			DesiredName:                q.Name,
			IdealHammingDistance:       int32(q.Ideal),
			InterestingHammingDistance: int32(q.Interesting),
			Budget:                     &hashfinderv1.Budget{MaxCandidates: new(signed(budget.Candidates)), MaxHits: new(signed(budget.Hits))},
			Attached:                   job.Spec.Attached,
		},
		Labels: job.Spec.Labels, State: states[job.State], EndReason: reasonOf(job.Reason),
		Progress:   progressOf(&job.Progress, e.of(q), goesOn(job)),
		CreateTime: timeOf(job.CreateTime), StartTime: timeOf(job.StartTime),
		EndTime: timeOf(job.EndTime), ExpireTime: timeOf(job.ExpireTime),
		LastSequence: signed(job.LastSequence), PauseTime: timeOf(job.PauseTime),
	}
	if job.PausedFor > 0 {
		p.PausedDuration = durationpb.New(job.PausedFor)
	}
	if job.ID != "" { // not so while it is only validated
		p.Name, p.Etag = jobName(job.ID), etagOf(job.Revision)
	}
	if budget.Duration > 0 {
		p.Spec.Budget.MaxDuration = durationpb.New(budget.Duration)
	}
	if job.ExtendedBy != "" {
		p.ExtendedBy = jobName(job.ExtendedBy)
	}
	if from := job.Extends; from != nil {
		p.Extends = &hashfinderv1.Extension{
			Job: jobName(from.Job), CandidatesSearched: signed(from.Searched), LastSequence: signed(from.Sequence),
			Duration: durationpb.New(from.Duration),
		}
	}
	if job.Best != nil {
		p.BestHit = hitOf(job.Best)
	}
	if job.Answer != nil {
		p.Answer = hitOf(job.Answer)
	}
	if job.State == jobs.Failed {
		p.Error = poisonStatus(job).Proto()
	}
	if job.StopLatency > 0 || job.State == jobs.Cancelled {
		p.StopLatency = durationpb.New(job.StopLatency)
	}
	return p, nil
}

// goesOn tells whether a job may still find something.
func goesOn(job *jobs.Job) bool { return job.State == jobs.Pending || job.State == jobs.Running }

func hitOf(hit *jobs.Hit) *hashfinderv1.Hit {
	secret := search.AppendSecret(nil, hit.Index)
	hashed := search.HashedName(secret)
	return &hashfinderv1.Hit{
		Index: signed(hit.Index), Secret: secret, HashedName: string(hashed[:]),
		HammingDistance: int32(hit.Distance),
	}
}

// responseOf is a hit as HashFinder reports it.
func responseOf(hit *jobs.Hit) *hash_name.HashNameResponse {
	h := hitOf(hit)
	return &hash_name.HashNameResponse{
		Secret: base64.StdEncoding.EncodeToString(h.GetSecret()), HashedName: h.GetHashedName(), HammingDistance: h.GetHammingDistance(),
	}
}

// progressOf is the progress of a search with the chances e; one that does not go on has no ETA.
func progressOf(from *jobs.Progress, e search.Estimate, goesOn bool) *hashfinderv1.Progress {
	p := &hashfinderv1.Progress{
		CandidatesSearched: signed(from.Searched), CandidatesInFlight: signed(from.InFlight), CandidatesRedone: signed(from.Redone),
		CandidatesPerSecond: from.Rate, ProbabilityFound: e.FoundBy(float64(from.Searched)),
	}
	if goesOn {
		// Digests have no memory: what was searched in vain changes nothing.
		p.EtaP50, p.EtaP90, p.EtaP99 = timesAt(from.Rate, e)
	}
	return p
}

// estimateOf is the proto of an estimate, for workers that together do rate candidates a second.
func estimateOf(e search.Estimate, rate float64) *hashfinderv1.Estimate {
	p := &hashfinderv1.Estimate{
		ProbabilityPerCandidate: e.PerCandidate(), ExpectedCandidates: e.Expected(),
		CandidatesP50: e.Quantile(0.5), CandidatesP90: e.Quantile(0.9), CandidatesP99: e.Quantile(0.99),
		CandidatesPerSecond: rate,
	}
	p.TimeP50, p.TimeP90, p.TimeP99 = timesAt(rate, e)
	return p
}

func timesAt(rate float64, e search.Estimate) (p50, p90, p99 *durationpb.Duration) {
	return secondsOf(e.Quantile(0.5) / rate), secondsOf(e.Quantile(0.9) / rate), secondsOf(e.Quantile(0.99) / rate)
}

// secondsOf is a time in seconds; nil for what a proto's Duration cannot hold, more than 10,000 years.
func secondsOf(seconds float64) *durationpb.Duration {
	const limit = 315_576_000_000
	if !(seconds >= 0 && seconds < limit) { // not a number also
		return nil
	}
	whole, part := math.Modf(seconds)
	return &durationpb.Duration{Seconds: int64(whole), Nanos: int32(part * 1e9)}
}

func timeOf(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// signed is n in a proto's int64; indexes and counts end far below its end.
func signed(n uint64) int64 { return int64(min(n, math.MaxInt64)) }

// estimates keeps estimates, which take up to two milliseconds each: a page of a list wants a thousand.
type estimates struct {
	mu   sync.Mutex
	made map[search.Query]search.Estimate // at most maxEstimates
}

const maxEstimates = 4096

func newEstimates() *estimates { return &estimates{made: map[search.Query]search.Estimate{}} }

// of returns the estimate for q, which must be valid.
func (e *estimates) of(q search.Query) search.Estimate {
	q.Interesting = 0 // has no part in it
	e.mu.Lock()
	estimate, ok := e.made[q]
	e.mu.Unlock()
	if ok {
		return estimate
	}
	estimate = search.NewEstimate(q)
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.made) >= maxEstimates {
		clear(e.made)
	}
	e.made[q] = estimate
	return estimate
}
