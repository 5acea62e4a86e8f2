package history

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/hashfinder/hashfinder/jobs"
)

// Violation is a promise that a history breaks.
type Violation struct {
	Promise string // of a Checker
	Job     string
	What    string
	Events  []Event // that show it
}

// String tells what is wrong, and the events that show it, a line each.
func (v Violation) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: job %s: %s", v.Promise, v.Job, v.What)
	for i := range v.Events {
		line, err := json.Marshal(v.Events[i])
		if err != nil {
			line = []byte(err.Error())
		}
		fmt.Fprintf(&b, "\n\t%s", line)
	}
	return b.String()
}

// Options are what the checkers need to know of the system. The zero value of a field means its default.
type Options struct {
	// Reference returns the first hits of a query in [0, end), in order, up to the first ideal one and at most most.
	// Default: the plain scan, which takes a second for a few million candidates.
	Reference func(query string, end uint64, most int) ([]jobs.Hit, error)

	Stop   time.Duration // from the order to stop until nothing computes: 250 ms
	CutOff time.Duration // the same for a worker without Redis: 2.25 s
	Late   time.Duration // from a job's deadline to its end: 5 s
	Rerun  time.Duration // from a worker's death until its chunk runs again: 5 s
	Orphan time.Duration // from the last watcher's end until nothing computes for an attached job: 10.25 s
	Lease  time.Duration // that an attempt is held without renewal: 3 s

	// Prompt is how soon an open stream brings something after the commit that ends a job, when nothing is lost.
	// Default: not checked.
	Prompt time.Duration
	// MaxActive is the most jobs that a tenant may have that have not ended. Default: not checked.
	MaxActive int
	// PartialBatches says that not every kernel's batches are recorded, so that what was searched is not complete.
	PartialBatches bool
}

func (o Options) withDefaults() Options {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&o.Stop, 250 * time.Millisecond},
		{&o.CutOff, 2250 * time.Millisecond},
		{&o.Late, 5 * time.Second},
		{&o.Rerun, 5 * time.Second},
		{&o.Orphan, 10250 * time.Millisecond},
		{&o.Lease, 3 * time.Second},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if o.Reference == nil {
		o.Reference = (&scans{}).hits
	}
	return o
}

// Checker looks for violations of one promise.
type Checker struct {
	Promise string // its number in docs/reliability.md, or a name
	Says    string
	check   func(*History, *Options) []Violation
}

// Check returns the violations of the promise that a history shows.
func (c Checker) Check(h *History, options Options) []Violation {
	options = options.withDefaults()
	found := c.check(h, &options)
	for i := range found {
		found[i].Promise = c.Promise
	}
	return found
}

// Checkers returns all checkers.
func Checkers() []Checker {
	return []Checker{
		{"history", "each batch has one job, and the history's own faults are none of the system's", (*History).checkSelf},
		{"register", "submit, get, cancel and streams tell of one state that changes as the diagram allows", (*History).checkRegister},
		{"I1", "a job has one terminal state", (*History).checkTerminal},
		{"I2", "the answer equals the sequential scan's; a partial answer is its prefix", (*History).checkAnswer},
		{"I3", "a stream brings each event once, in order, and ends with the job's end", (*History).checkStreams},
		{"I4", "the searched range is [0, budget), and what is called searched was searched", (*History).checkBudget},
		{"I5", "after CANCELLED nothing computes, and running work stops in time", (*History).checkStop},
		{"I6", "an acknowledged submit survives", (*History).checkDurable},
		{"I7", "one request id, one job", (*History).checkRequests},
		{"I8", "each job ends in time, and a dead worker's chunk runs again in time", (*History).checkProgress},
		{"I9", "nobody sees another tenant's job", (*History).checkTenants},
		{"I10", "a tenant has no more jobs than it may have", (*History).checkQuota},
		{"I11", "no worker ends by itself", (*History).checkExits},
		{"I12", "an orphaned search stops in time", (*History).checkOrphans},
		{"I13", "a stale attempt changes nothing", (*History).checkFencing},
		{"tickets", "a ticket is good for one chunk", (*History).checkTickets},
		{"prompt", "an open stream brings the end of a job at once", (*History).checkPrompt},
	}
}

// Check runs all checkers.
func (h *History) Check(options Options) []Violation {
	options = options.withDefaults() // once, so that references are shared
	var all []Violation
	for _, c := range Checkers() {
		all = append(all, c.Check(h, options)...)
	}
	return all
}

// violate makes a violation of a job.
func (j *job) violate(what string, events ...Event) Violation {
	return Violation{Job: j.id, What: what, Events: events}
}

func ms(d int64) time.Duration { return time.Duration(d).Round(time.Millisecond) }
