package history

import (
	"time"

	"github.com/hashfinder/hashfinder/jobs"
)

// Kind says what an event is about.
type Kind string

// What clients do. Each is an operation: a begin, and an end when there was an answer.
const (
	Submit Kind = "submit" // begin: Tenant, Request, Spec; end: Job, Seen
	Get    Kind = "get"    // begin: Tenant, Job; end: Seen
	Cancel Kind = "cancel" // begin: Tenant, Job; end: Seen
	Delete Kind = "delete" // begin: Tenant, Job
	Pause  Kind = "pause"  // begin: Tenant, Job; end: Seen
	Resume Kind = "resume" // begin: Tenant, Job; end: Seen
	Extend Kind = "extend" // begin: Tenant, Job, Spec with the larger budget; end: Seen

	// Watch is a stream. Begin: Tenant, Job, After; a note for each event: Sequence with Hit or Seen (the job's end), or
	// Seen alone (progress); end: OK after the job's end, DataLoss, Aborted, Unknown when the stream broke.
	Watch Kind = "watch"
)

// What workers do.
const (
	// Batch is one call of a kernel, for one query. Begin: Query, Lo, Hi; a note for each report and the end: Through.
	Batch Kind = "batch"

	// Calls of the ledger, as Redis answered them; Outcome has the script's word.
	Claim   Kind = "claim"   // begin: Job, Attempt, Ticket; end: Granted with Lo and Hi, or another
	Renew   Kind = "renew"   // begin: Job, Attempt; also for a flush, which renews
	Commit  Kind = "commit"  // begin: Job, Attempt; end: Done or Lost
	Release Kind = "release" // begin: Job, Attempt
)

// Fault is what is done to the system. One that lasts is an operation; Kill, Exit and Settled are single notes.
const Fault Kind = "fault"

// What a fault is; Target is the process that it befalls.
const (
	Kill     = "kill"      // Target is gone, certainly at this time
	Exit     = "exit"      // Target ended by itself, although nothing asked it to
	Stall    = "stall"     // from begin to end Target does not run (SIGSTOP, SIGCONT)
	Cut      = "cut"       // from begin to end Target does not reach Redis
	Outage   = "outage"    // from begin to end Redis does not serve, or not in time
	Losses   = "losses"    // from begin to end messages are lost or late
	Tickets  = "tickets"   // from begin to end tickets are lost or repeated
	Clock    = "clock"     // from begin on Redis's clock is not to be trusted
	Settled  = "settled"   // from here on there are no faults, and what has to end had the time to do so
	NoWorker = "no worker" // from begin to end no worker serves
	Nobody   = "nobody"    // from begin to end no process serves
)

// Phase is an event's place in its operation.
type Phase string

// The phases of an operation; a note may also stand alone.
const (
	Begin Phase = "begin"
	Note  Phase = "note"
	End   Phase = "end"
)

// Outcome says how an operation ended.
type Outcome string

// Outcomes. The last ones are the words of the ledger's scripts.
const (
	OK       Outcome = "ok"
	NotFound Outcome = "not found"
	Ended    Outcome = "ended"     // refused: the job has ended
	Refused  Outcome = "refused"   // any other error that says that nothing was done
	Unknown  Outcome = "unknown"   // it may or may not have been done
	DataLoss Outcome = "data loss" // of a stream
	Aborted  Outcome = "aborted"   // of a stream: its client ended it

	Granted Outcome = "chunk"
	Idle    Outcome = "idle"
	Held    Outcome = "held"
	Stop    Outcome = "stop"
	Done    Outcome = "done"
	Lost    Outcome = "lost"
)

// Event is one thing that happened. Which fields are set depends on its kind and phase.
type Event struct {
	Time    int64   `json:"time"` // nanoseconds of the clock
	Process string  `json:"process"`
	Op      uint64  `json:"op,omitempty"` // ties the events of an operation together within the process
	Kind    Kind    `json:"kind"`
	Phase   Phase   `json:"phase"`
	Outcome Outcome `json:"outcome,omitempty"`
	Error   string  `json:"error,omitempty"` // for people

	Tenant  string    `json:"tenant,omitempty"`
	Job     string    `json:"job,omitempty"`
	Request string    `json:"request,omitempty"`
	Spec    *Spec     `json:"spec,omitempty"`
	Seen    *Snapshot `json:"seen,omitempty"`

	After    uint64    `json:"after,omitempty"`
	Sequence uint64    `json:"sequence,omitempty"`
	Hit      *jobs.Hit `json:"hit,omitempty"`

	Query   string `json:"query,omitempty"` // as Spec.Query
	Lo      uint64 `json:"lo,omitempty"`
	Hi      uint64 `json:"hi,omitempty"`      // exclusive, and never above the query's own end
	Through uint64 `json:"through,omitempty"` // all below was searched

	Attempt string   `json:"attempt,omitempty"`
	Ticket  string   `json:"ticket,omitempty"`
	Minted  []string `json:"minted,omitempty"` // numbers of the tickets that a script made or asked for

	Fault  string `json:"fault,omitempty"`
	Target string `json:"target,omitempty"`
}

// Spec is what was asked for. Zero fields of the budget are unknown bounds, not absent ones.
type Spec struct {
	Query      string        `json:"query"` // as the profile encodes it
	Candidates uint64        `json:"candidates,omitempty"`
	Hits       uint64        `json:"hits,omitempty"`
	Duration   time.Duration `json:"duration,omitempty"`
	Attached   bool          `json:"attached,omitempty"`
}

// Snapshot is a job as a client saw it.
type Snapshot struct {
	State    jobs.State  `json:"state,omitempty"` // empty in progress
	Reason   jobs.Reason `json:"reason,omitempty"`
	Searched uint64      `json:"searched"`
	Redone   uint64      `json:"redone,omitempty"`
	// Hits and what follows are not in progress.
	Hits     uint64    `json:"hits,omitempty"`
	Best     *jobs.Hit `json:"best,omitempty"`
	Answer   *jobs.Hit `json:"answer,omitempty"`
	Sequence uint64    `json:"sequence,omitempty"`
}

// Of is the snapshot of a job.
func Of(job *jobs.Job) *Snapshot {
	return &Snapshot{
		State: job.State, Reason: job.Reason, Searched: job.Progress.Searched, Redone: job.Progress.Redone,
		Hits: job.Hits, Best: job.Best, Answer: job.Answer, Sequence: job.LastSequence,
	}
}

// OfProgress is the snapshot that progress gives.
func OfProgress(p *jobs.Progress) *Snapshot { return &Snapshot{Searched: p.Searched, Redone: p.Redone} }

// OfSpec is the spec of a job with its budget filled in.
func OfSpec(spec *jobs.Spec) *Spec {
	return &Spec{
		Query: string(spec.Query), Candidates: spec.Budget.Candidates, Hits: spec.Budget.Hits,
		Duration: spec.Budget.Duration, Attached: spec.Attached,
	}
}
