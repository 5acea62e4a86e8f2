package history

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// never is the time of what did not happen.
const never = math.MaxInt64

// History is what happened, in order and by job.
type History struct {
	jobs    []*job // in the order in which they were first seen
	byID    map[string]*job
	faults  []*operation
	death   map[string]int64 // process -> when it was gone
	batches bool             // there are some
	stray   []Event          // batches of queries that no job has
	maybe   map[string]bool  // queries of submits without an answer: there may be a job, or none
}

// operation is what was begun, and what came of it.
type operation struct {
	begin Event
	notes []Event
	end   *Event
}

func (o *operation) outcome() Outcome {
	if o.end == nil {
		return Unknown
	}
	return o.end.Outcome
}

// returned is when the operation ended, or never.
func (o *operation) returned() int64 {
	if o.end == nil {
		return never
	}
	return o.end.Time
}

// events are the begin and the end, to show.
func (o *operation) events() []Event {
	if o.end == nil {
		return []Event{o.begin}
	}
	return []Event{o.begin, *o.end}
}

// job is what happened to one job.
type job struct {
	id, tenant string
	specs      []*operation // the submits that made it, and the extensions
	ops        []*operation // of clients, streams excepted
	streams    []*operation
	ledger     []*operation
	batches    []*batch
	sights     []sight // by the time at which they were over
}

// spec is what the job was asked to be, nil when no submit of it is known.
func (j *job) spec() *Spec {
	for _, op := range j.specs {
		if op.begin.Kind == Submit {
			return op.begin.Spec
		}
	}
	return nil
}

// budgets are those that the job may have had before a time, the first one first.
func (j *job) budgets(before int64) []*Spec {
	var all []*Spec
	for _, op := range j.specs {
		if (op.begin.Kind == Submit && len(all) == 0) ||
			(op.begin.Kind == Extend && op.begin.Time < before && (op.outcome() == OK || op.outcome() == Unknown)) {
			all = append(all, op.begin.Spec)
		}
	}
	return all
}

// candidates is the largest budget that the job may have had before a time, 0 when it is not known.
func (j *job) candidates(before int64) uint64 {
	var most uint64
	for _, spec := range j.budgets(before) {
		most = max(most, spec.Candidates)
	}
	return most
}

// sight is a look at a job: at some time between from and to it was so.
type sight struct {
	from, to int64
	seen     *Snapshot
	event    Event
}

// batch is a kernel's search of [lo, hi) for a job.
type batch struct {
	process string
	lo, hi  uint64
	begin   int64
	end     int64 // when nothing computed any more; never if that is not known
	through uint64
	reports []Event
	shown   []Event
}

// New makes a history of events, which it sorts.
func New(events []Event) *History {
	Sort(events)
	h := &History{byID: map[string]*job{}, death: map[string]int64{}, maybe: map[string]bool{}}
	type key struct {
		process string
		op      uint64
	}
	open := map[key]*operation{}
	var ops []*operation
	for _, e := range events {
		k := key{e.Process, e.Op}
		op := open[k]
		switch {
		case e.Phase == Begin || e.Op == 0:
			op = &operation{begin: e}
			ops = append(ops, op)
			if e.Op != 0 {
				open[k] = op
			}
		case op == nil: // its begin was not recorded
		case e.Phase == End:
			op.end = &e
			delete(open, k)
		default:
			op.notes = append(op.notes, e)
		}
		if e.Kind == Fault && e.Fault == Kill {
			h.death[e.Target] = e.Time
		}
	}
	byQuery := map[string][]*job{}
	for _, op := range ops {
		h.add(op)
	}
	for _, j := range h.jobs {
		slices.SortStableFunc(j.sights, func(a, b sight) int { return cmp.Compare(a.to, b.to) })
		if spec := j.spec(); spec != nil {
			byQuery[spec.Query] = append(byQuery[spec.Query], j)
		}
	}
	for _, op := range ops {
		if op.begin.Kind == Batch {
			h.addBatch(op, byQuery)
		}
	}
	return h
}

// add files an operation under its job.
func (h *History) add(op *operation) {
	id := op.begin.Job
	switch op.begin.Kind {
	case Fault:
		h.faults = append(h.faults, op)
		return
	case Batch:
		return
	case Submit:
		if op.end == nil || op.end.Job == "" {
			if op.outcome() == Unknown {
				h.maybe[op.begin.Spec.Query] = true
			}
			return // it made no job that anybody knows of
		}
		id = op.end.Job
	default:
	}
	j := h.byID[id]
	if j == nil {
		j = &job{id: id}
		h.byID[id] = j
		h.jobs = append(h.jobs, j)
	}
	switch op.begin.Kind {
	case Submit:
		j.tenant = op.begin.Tenant
		j.specs = append(j.specs, op)
		j.ops = append(j.ops, op)
	case Extend:
		j.specs = append(j.specs, op)
		j.ops = append(j.ops, op)
	case Watch:
		j.streams = append(j.streams, op)
		from := op.begin.Time
		for _, note := range op.notes {
			if note.Seen != nil {
				j.sights = append(j.sights, sight{from, note.Time, note.Seen, note})
			}
			from = note.Time
		}
		return
	case Claim, Renew, Commit, Release:
		j.ledger = append(j.ledger, op)
		return
	default:
		j.ops = append(j.ops, op)
	}
	if op.end != nil && op.end.Seen != nil {
		j.sights = append(j.sights, sight{op.begin.Time, op.end.Time, op.end.Seen, *op.end})
	}
}

func (h *History) addBatch(op *operation, byQuery map[string][]*job) {
	h.batches = true
	e := op.begin
	b := &batch{process: e.Process, lo: e.Lo, hi: e.Hi, begin: e.Time, end: op.returned(), through: e.Lo, shown: op.events()}
	b.reports = op.notes
	if op.end != nil {
		b.reports = append(slices.Clone(op.notes), *op.end)
	}
	if death, ok := h.death[b.process]; ok {
		b.end = min(b.end, death)
	}
	for _, report := range b.reports {
		b.through = max(b.through, min(report.Through, b.hi))
	}
	owners := byQuery[e.Query]
	if len(owners) == 0 && !h.maybe[e.Query] {
		h.stray = append(h.stray, e)
	}
	for _, j := range owners {
		j.batches = append(j.batches, b)
	}
}

// during tells whether one of these faults, of a target ("" for any), was there at some time in [from, to].
func (h *History) during(from, to int64, target string, faults ...string) bool {
	for _, op := range h.faults {
		until := op.returned()
		if op.begin.Phase == Note && op.begin.Fault != Clock {
			until = op.begin.Time
		}
		if slices.Contains(faults, op.begin.Fault) && (target == "" || op.begin.Target == target) &&
			op.begin.Time <= to && until >= from {
			return true
		}
	}
	return false
}

// calm returns the first time, from at on, from which on there is none of these faults for as long as d; or never.
func (h *History) calm(at int64, d time.Duration, faults ...string) int64 {
	for changed := true; changed; {
		changed = false
		for _, op := range h.faults {
			until := op.returned()
			if op.begin.Phase == Note {
				until = op.begin.Time
			}
			if slices.Contains(faults, op.begin.Fault) && op.begin.Time <= at+int64(d) && until >= at {
				if until == never {
					return never
				}
				at, changed = until+1, true
			}
		}
	}
	return at
}

// settled is when the system had had all that it needs, or never.
func (h *History) settled() int64 {
	for _, op := range h.faults {
		if op.begin.Fault == Settled {
			return op.begin.Time
		}
	}
	return never
}
