package history

import (
	"cmp"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/hashfinder/hashfinder/jobs"
)

// states is a set of states in which a job may be.
type states uint16

const (
	absent states = 1 << iota // not submitted yet
	pending
	running
	paused
	cancelling
	succeeded
	exhausted
	failed
	cancelled
	gone // deleted

	anyState = 1<<iota - 1
)

var stateBits = map[jobs.State]states{
	jobs.Pending: pending, jobs.Running: running, "PAUSED": paused, jobs.Cancelling: cancelling,
	jobs.Succeeded: succeeded, jobs.Exhausted: exhausted, jobs.Failed: failed, jobs.Cancelled: cancelled,
}

// registerTimeout bounds the search for an order of one job's operations.
const registerTimeout = 30 * time.Second

// step is one access to a job's state: of a client's call, what it does, or what it read.
type step struct {
	kind    Kind // Get reads
	outcome Outcome
	read    jobs.State
}

// drift adds the states that a job may come to by itself. stops tells that it may be stopped without a cancel.
func drift(s states, stops bool) states {
	if s&pending != 0 {
		s |= running
	}
	if s&(pending|running|paused) != 0 && stops {
		s |= cancelling
	}
	if s&running != 0 {
		s |= succeeded | exhausted | failed
	}
	if s&cancelling != 0 {
		s |= cancelled
		if stops {
			s |= exhausted
		}
	}
	return s
}

// effect returns the states after a step that succeeds in one of the states s; none when it cannot.
func (i step) effect(s states) states {
	switch i.kind {
	case Submit:
		if s&absent != 0 {
			s = s&^absent | pending
		}
		return s
	case Cancel:
		after := s & (cancelling | cancelled)
		if s&(pending|running|paused) != 0 {
			after |= cancelling
		}
		return after
	case Pause:
		after := s & paused
		if s&(pending|running) != 0 {
			after |= paused
		}
		return after
	case Resume:
		after := s & (pending | running)
		if s&paused != 0 {
			after |= pending | running
		}
		return after
	case Extend:
		after := s & (pending | running | paused)
		if s&exhausted != 0 {
			after |= pending | running
		}
		return after
	case Delete:
		if s&(succeeded|exhausted|failed|cancelled|gone) != 0 {
			return gone
		}
		return 0
	default:
		return s & stateBits[i.read]
	}
}

// next returns the states in which the job may be after a step, none when the step is impossible.
func (i step) next(s states, stops bool) states {
	s = drift(s, stops)
	switch i.outcome {
	case OK:
		return i.effect(s)
	case NotFound:
		return s & (absent | gone)
	case Ended:
		if i.kind == Cancel {
			return s & (succeeded | exhausted | failed)
		}
		return s & (succeeded | exhausted | failed | cancelled)
	case Unknown:
		return s | i.effect(s)
	default: // refused: it says nothing of the state
		return s
	}
}

// steps are the accesses of a job's operations, with what shows each.
func (j *job) steps() []porcupine.Operation {
	var all []porcupine.Operation
	add := func(s step, from, to int64, event Event) {
		all = append(all, porcupine.Operation{Input: s, Call: from, Return: to, Metadata: event})
	}
	for _, op := range j.ops {
		if op.begin.Kind == Get && op.outcome() != NotFound {
			continue // its sight says all
		}
		event := op.begin
		if op.end != nil {
			event = *op.end
		}
		until := op.returned()
		if op.outcome() == Unknown {
			until = never // it may still be on its way
		}
		add(step{kind: op.begin.Kind, outcome: op.outcome()}, op.begin.Time, until, event)
	}
	for _, s := range j.sights {
		if s.seen.State != "" {
			add(step{kind: Get, outcome: OK, read: s.seen.State}, s.from, s.to, s.event)
		}
	}
	slices.SortStableFunc(all, func(a, b porcupine.Operation) int { return cmp.Compare(a.Return, b.Return) })
	return all
}

// checkRegister looks for an order of all that clients did and saw of a job's state in which each is possible.
func (h *History) checkRegister(*Options) []Violation {
	var found []Violation
	for _, j := range h.jobs {
		spec := j.spec()
		stops := spec == nil || spec.Attached || spec.Duration > 0
		first := absent
		if spec == nil {
			first = anyState
		}
		model := porcupine.Model{
			Init: func() any { return first },
			Step: func(state, input, _ any) (bool, any) {
				next := input.(step).next(state.(states), stops)
				return next != 0, next
			},
		}
		all := j.steps()
		switch porcupine.CheckOperationsTimeout(model, all, registerTimeout) {
		case porcupine.Ok:
			continue
		case porcupine.Unknown:
			found = append(found, j.violate("whether its states are possible could not be found out in time"))
			continue
		case porcupine.Illegal:
		}
		// The first of them that does not fit, and what was seen just before.
		n := 1
		for n < len(all) && porcupine.CheckOperations(model, all[:n]) {
			n++
		}
		var events []Event
		for _, op := range all[max(0, n-6):n] {
			events = append(events, op.Metadata.(Event))
		}
		found = append(found, j.violate("its states are not possible in any order", events...))
	}
	return found
}

// checkTerminal holds all that was seen of ended jobs to the first that was.
func (h *History) checkTerminal(*Options) []Violation {
	var found []Violation
	for _, j := range h.jobs {
		var extended int64 // an exhausted job that was seen before may go on
		for _, op := range j.specs {
			if op.begin.Kind == Extend && (op.outcome() == OK || op.outcome() == Unknown) {
				extended = op.returned()
			}
		}
		var first *sight
		for i := range j.sights {
			s := &j.sights[i]
			switch {
			case s.seen.State == "", s.seen.State == jobs.Exhausted && s.from <= extended:
			case first == nil && s.seen.State.Terminal():
				first = s
			case first == nil:
			case s.seen.State.Terminal() && !s.seen.same(first.seen):
				found = append(found, j.violate("it ended in two ways", first.event, s.event))
			case !s.seen.State.Terminal() && s.from > first.to:
				found = append(found, j.violate("it had ended, and then had not", first.event, s.event))
			}
		}
	}
	return found
}

// same tells whether two snapshots of an ended job agree.
func (s *Snapshot) same(other *Snapshot) bool {
	return s.State == other.State && s.Reason == other.Reason && s.Searched == other.Searched && s.Hits == other.Hits &&
		sameHit(s.Best, other.Best) && sameHit(s.Answer, other.Answer) && s.Sequence == other.Sequence
}

func sameHit(a, b *jobs.Hit) bool { return a == nil && b == nil || a != nil && b != nil && *a == *b }

// checkDurable looks for acknowledged jobs that were not there later.
func (h *History) checkDurable(*Options) []Violation {
	var found []Violation
	for _, j := range h.jobs {
		var acknowledged *operation
		for _, op := range j.ops {
			if op.begin.Kind == Submit && (acknowledged == nil || op.returned() < acknowledged.returned()) && op.outcome() == OK {
				acknowledged = op
			}
		}
		if acknowledged == nil {
			continue
		}
		for _, op := range slices.Concat(j.ops, j.streams) {
			if op.outcome() == NotFound && op.begin.Time > acknowledged.returned() && op.begin.Tenant == j.tenant &&
				!j.deleted(op.returned()) {
				found = append(found, j.violate("it was acknowledged, and then was not there",
					append(acknowledged.events(), op.events()...)...))
				break
			}
		}
	}
	return found
}

// deleted tells whether a client had begun to delete the job before a time.
func (j *job) deleted(before int64) bool {
	return slices.ContainsFunc(j.ops, func(op *operation) bool {
		return op.begin.Kind == Delete && op.begin.Time < before && (op.outcome() == OK || op.outcome() == Unknown)
	})
}

// checkRequests looks for request ids that made two jobs.
func (h *History) checkRequests(*Options) []Violation {
	type request struct{ tenant, id string }
	made := map[request]*operation{}
	var found []Violation
	for _, j := range h.jobs {
		for _, op := range j.specs {
			if op.begin.Kind != Submit || op.begin.Request == "" || op.outcome() != OK {
				continue
			}
			r := request{op.begin.Tenant, op.begin.Request}
			first := made[r]
			switch {
			case first == nil:
				made[r] = op
			case first.end.Job != op.end.Job:
				found = append(found, j.violate("its request id made another job too", append(first.events(), op.events()...)...))
			case *first.begin.Spec != *op.begin.Spec:
				found = append(found, j.violate("its request id was taken for another request", append(first.events(), op.events()...)...))
			}
		}
	}
	return found
}

// checkTenants looks for answers about jobs of other tenants.
func (h *History) checkTenants(*Options) []Violation {
	var found []Violation
	for _, j := range h.jobs {
		for _, op := range slices.Concat(j.ops, j.streams) {
			if j.spec() != nil && op.begin.Tenant != j.tenant && op.outcome() != NotFound && op.outcome() != Unknown {
				found = append(found, j.violate("another tenant was told of it", op.events()...))
			}
		}
	}
	return found
}

// checkQuota counts the jobs of a tenant that certainly had not ended while another was accepted.
func (h *History) checkQuota(o *Options) []Violation {
	if o.MaxActive == 0 {
		return nil
	}
	// A job is certainly active from the end of its submit to the begin of the last look that saw it so.
	type life struct{ from, to int64 }
	lives := map[string][]life{}
	for _, j := range h.jobs {
		l := life{from: never}
		for _, op := range j.specs {
			if op.begin.Kind == Submit {
				l.from = min(l.from, op.returned())
			}
		}
		for _, s := range j.sights {
			if s.seen.State != "" && !s.seen.State.Terminal() {
				l.to = max(l.to, s.from)
			}
		}
		lives[j.tenant] = append(lives[j.tenant], l)
	}
	var found []Violation
	for _, j := range h.jobs {
		for _, op := range j.specs {
			if op.begin.Kind != Submit {
				continue
			}
			others := 0
			for _, l := range lives[j.tenant] {
				if l.from < op.begin.Time && l.to > op.returned() {
					others++
				}
			}
			if others >= o.MaxActive {
				found = append(found, j.violate("it was accepted over the tenant's quota", op.events()...))
			}
		}
	}
	return found
}
