package history

import (
	"fmt"
)

// attempt is a worker's hold on a chunk, as the ledger told of it.
type attempt struct {
	name   string
	lo, hi uint64
	claim  *operation // that was granted
	commit *operation // that was done. Sent again, it is told the same, and counts no more.
	calls  []*operation
}

// counts reports whether op is a call by which the attempt had a chunk.
func (a *attempt) counts(op *operation) bool {
	return op.outcome() == Held || op == a.commit
}

func (j *job) attempts() []*attempt {
	byName := map[string]*attempt{}
	var all []*attempt
	for _, op := range j.ledger {
		a := byName[op.begin.Attempt]
		if a == nil {
			a = &attempt{name: op.begin.Attempt}
			byName[op.begin.Attempt] = a
			all = append(all, a)
		}
		a.calls = append(a.calls, op)
		if op.begin.Kind == Claim && op.outcome() == Granted && a.claim == nil {
			a.claim, a.lo, a.hi = op, op.end.Lo, op.end.Hi
		}
		if op.begin.Kind == Commit && op.outcome() == Done && a.commit == nil {
			a.commit = op
		}
	}
	return all
}

// checkFencing looks for attempts that still counted after they were over.
func (h *History) checkFencing(o *Options) []Violation {
	var found []Violation
	for _, j := range h.jobs {
		all := j.attempts()
		for _, a := range all {
			if v := j.zombie(a); v != nil {
				found = append(found, *v)
			}
			if v := h.expired(j, a, all, o); v != nil {
				found = append(found, *v)
			}
		}
		done := map[uint64]*operation{}
		for _, a := range all {
			if a.claim == nil || a.commit == nil {
				continue
			}
			if first := done[a.lo]; first != nil {
				found = append(found, j.violate(fmt.Sprintf("the chunk at %d was committed twice", a.lo), *first.end, *a.commit.end))
			}
			done[a.lo] = a.commit
		}
	}
	return found
}

// zombie looks for an attempt that counted after a call had told that it does not. A call that was sent twice has two
// answers; only one that began after the other's end says anything.
func (j *job) zombie(a *attempt) *Violation {
	var over *operation
	for _, op := range a.calls {
		if over != nil && op.begin.Time > over.returned() && a.counts(op) {
			v := j.violate(fmt.Sprintf("attempt %s counted after it was over", a.name), append(over.events(), op.events()...)...)
			return &v
		}
		ends := op.outcome() == Lost || op.outcome() == Done
		if ends && (over == nil || op.returned() < over.returned()) {
			over = op
		}
	}
	return nil
}

// expired looks for an attempt that counted although its lease had run out and its chunk had been given to another.
func (h *History) expired(j *job, a *attempt, all []*attempt, o *Options) *Violation {
	if a.claim == nil {
		return nil
	}
	for _, op := range a.calls {
		if !a.counts(op) {
			continue
		}
		// The last extension before this call, at the latest: a call without an answer may have been one, at any time.
		refreshed, known := int64(0), true
		for _, other := range a.calls {
			extends := other.begin.Kind == Claim && other.outcome() == Granted || other.begin.Kind == Renew && other.outcome() == Held
			switch {
			case other == op || other.begin.Time > op.returned():
			case other.outcome() == Unknown && (other.begin.Kind == Claim || other.begin.Kind == Renew):
				known = false
			case extends:
				refreshed = max(refreshed, other.returned())
			}
		}
		if !known || h.during(refreshed, op.returned(), "", Clock) {
			continue
		}
		for _, b := range all {
			if b == a || b.claim == nil || b.lo != a.lo {
				continue
			}
			if b.claim.begin.Time > refreshed+int64(o.Lease) && b.claim.returned() < op.begin.Time {
				v := j.violate(fmt.Sprintf("attempt %s counted after its lease had run out and %s had its chunk", a.name, b.name),
					*a.claim.end, *b.claim.end, *op.end)
				return &v
			}
		}
	}
	return nil
}

// checkTickets looks for tickets that were good for two chunks.
func (h *History) checkTickets(*Options) []Violation {
	var found []Violation
	for _, j := range h.jobs {
		used := map[string]*attempt{}
		for _, a := range j.attempts() {
			if a.claim == nil {
				continue
			}
			ticket := a.claim.begin.Ticket
			if first := used[ticket]; first != nil && ticket != "" {
				found = append(found, j.violate("ticket "+ticket+" was good for two chunks", append(first.claim.events(), a.claim.events()...)...))
			}
			used[ticket] = a
		}
	}
	return found
}
