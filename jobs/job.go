package jobs

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// MaxCandidates is the largest budget of candidates that a job can have. Indexes are numbers of Lua and scores of
// sorted sets in Redis, which are exact up to here.
const MaxCandidates = 1 << 53

// DefaultTenant owns the jobs of callers without a credential.
const DefaultTenant = "default"

// State of a job. See the state diagram in docs/architecture.md.
type State string

// The states of a job, in the order in which it can pass through them; the last four are terminal.
const (
	Pending    State = "PENDING"
	Running    State = "RUNNING"
	Pausing    State = "PAUSING"
	Paused     State = "PAUSED"
	Cancelling State = "CANCELLING"
	Succeeded  State = "SUCCEEDED"
	Exhausted  State = "EXHAUSTED"
	Failed     State = "FAILED"
	Cancelled  State = "CANCELLED"
)

// Terminal tells whether a job in this state has ended for good.
func (s State) Terminal() bool {
	switch s {
	case Succeeded, Exhausted, Failed, Cancelled:
		return true
	case Pending, Running, Pausing, Paused, Cancelling:
		return false
	}
	return false
}

// Reason says why a job stops or has stopped; empty while it goes on.
type Reason string

// The reasons for which a job ends.
const (
	Found               Reason = "FOUND"
	CandidatesExhausted Reason = "CANDIDATES_EXHAUSTED"
	HitsExhausted       Reason = "HITS_EXHAUSTED"
	DurationExhausted   Reason = "DURATION_EXHAUSTED"
	CancelledByClient   Reason = "CANCELLED_BY_CLIENT"
	DeadlineExceeded    Reason = "DEADLINE_EXCEEDED"
	Orphaned            Reason = "ORPHANED"
	Poisoned            Reason = "POISONED"
)

// Budget bounds what a job may use. Each bound is exact but for the duration, which is looked at twice a second.
type Budget struct {
	Candidates uint64        // the indexes [0, Candidates) are searched, at most MaxCandidates
	Hits       uint64        // the job ends with this many hits
	Duration   time.Duration // the job is stopped this long after its first worker began, pauses not counted; 0: no bound
}

// Spec says what a job is. It never changes.
type Spec struct {
	Profile  string // name of the index space, hash and match
	Query    []byte // the query in the profile's encoding
	Grid     []uint64
	Budget   Budget
	Labels   map[string]string
	Attached bool // the job lives only while it is watched, and is served first
}

// Hit is a candidate within the wanted distance.
type Hit struct {
	Index    uint64
	Distance int
	Ideal    bool // it ends the search
}

// Progress tells how far a job is.
type Progress struct {
	Searched uint64    // all indexes below are searched, and their hits are in the log
	InFlight uint64    // indexes above that are leased to workers, or finished ahead
	Redone   uint64    // indexes given out again: after a crash, or as a copy of a slow worker's chunk
	Rate     float64   // candidates a second over the last seconds
	Time     time.Time // when this was so
}

// Job is a job as it was when it was read.
type Job struct {
	ID       string
	Tenant   string
	Spec     Spec
	State    State
	Reason   Reason
	Progress Progress
	Hits     uint64 // hits in the log
	Best     *Hit   // the first of those with the smallest distance
	Answer   *Hit   // the ideal hit; set if and only if the job has succeeded
	Poison   string // the chunk "lo:hi" that killed its workers; set if and only if the job has failed

	CreateTime, StartTime, EndTime, ExpireTime time.Time // zero when it has not come to that

	Extends    *Origin // what it took over; nil when it extends no other
	ExtendedBy string  // id of the job that extends it, empty when there was none

	PauseTime    time.Time     // of the order to pause; zero when it is not to be paused
	PausedFor    time.Duration // from orders to pause until it went on, since its first worker began; a pause that lasts not included
	StopLatency  time.Duration // from the order to stop until nothing ran any more; 0 when there was no such order
	LastSequence uint64
	Revision     uint64 // grows with each change of the state
}

// Origin is what a job took over from the exhausted one that it extends. That one stays as it ended, and may be gone.
type Origin struct {
	Job      string
	Searched uint64        // it had searched the indexes below
	Sequence uint64        // of its end. The log up to there is a copy of its log
	Duration time.Duration // of the budget that it had used
}

// Event is one entry of a job's log, or progress. Exactly one of Hit, Progress, Extended and End is set.
type Event struct {
	Sequence uint64 // 1, 2, 3 and so on; 0 for progress
	Hit      *Hit
	Progress *Progress
	Extended Reason // for which the job ended here that this one extends; the search goes on
	End      *Job   // the last event of a job
}

// Errors that callers tell apart. They are wrapped with what was being done.
var (
	ErrNotFound    = errors.New("no such job")
	ErrEnded       = errors.New("the job has ended")
	ErrActive      = errors.New("the job has not ended")
	ErrStopping    = errors.New("the job is to stop")
	ErrNotUsedUp   = errors.New("the job has not used up its budget")
	ErrAttached    = errors.New("the job lives only while it is watched")
	ErrChanged     = errors.New("the job has changed since")
	ErrRequestUsed = errors.New("the request id was used for another job")
	ErrUnavailable = errors.New("the store is unavailable")
	ErrLogLost     = errors.New("events of the job are lost")
)

// FieldError says which field of a spec is wrong, and why.
type FieldError struct {
	Field, Description string
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Description }

// QuotaError says that a tenant has as many jobs that have not ended as it may have.
type QuotaError struct {
	Tenant string
	Active uint64
	Limit  uint64
}

func (e *QuotaError) Error() string {
	return fmt.Sprintf("tenant %s has %d jobs that have not ended, and may have %d", e.Tenant, e.Active, e.Limit)
}

// ExtendedError says that a job has been extended, by a job that is there.
type ExtendedError struct {
	By string // id of that job
}

func (e *ExtendedError) Error() string { return "the job has been extended, by job " + e.By }

// RangeError says that a job has no event of a sequence number yet.
type RangeError struct {
	After uint64 // what was asked for
	Last  uint64 // the last that there is
}

func (e *RangeError) Error() string {
	return fmt.Sprintf("the job has no event %d; the last is %d", e.After, e.Last)
}

// queue is the name of the asynq queue that serves a job.
func (s *Spec) queue() string {
	if s.Attached {
		return QueueInteractive
	}
	return QueueBatch
}

// grid is the sweep's grid as its hash holds it.
func (s *Spec) grid() string {
	bounds := make([]string, len(s.Grid))
	for i, bound := range s.Grid {
		bounds[i] = fmt.Sprint(bound)
	}
	return strings.Join(bounds, ",")
}
