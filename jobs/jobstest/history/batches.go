package history

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/hashfinder/hashfinder/jobs"
)

// span is [lo, hi), of indexes or of times.
type span[T cmp.Ordered] struct{ lo, hi T }

// cover is a set of indexes: spans in order, with gaps between them.
type cover []span[uint64]

// add puts [lo, hi) into the set.
func (c cover) add(lo, hi uint64) cover {
	if lo >= hi {
		return c
	}
	from, _ := slices.BinarySearchFunc(c, lo, func(s span[uint64], lo uint64) int { return cmp.Compare(s.hi, lo) })
	to := from
	for to < len(c) && c[to].lo <= hi {
		lo, hi = min(lo, c[to].lo), max(hi, c[to].hi)
		to++
	}
	return slices.Replace(c, from, to, span[uint64]{lo, hi})
}

// from returns the end of the span that lo is in, or lo.
func (c cover) from(lo uint64) uint64 {
	for _, s := range c {
		if s.lo <= lo && lo < s.hi {
			return s.hi
		}
	}
	return lo
}

// checkSelf looks for what would make the other checkers wrong.
func (h *History) checkSelf(*Options) []Violation {
	var found []Violation
	for _, e := range h.stray {
		found = append(found, Violation{What: "a batch looked for what no job wants", Events: []Event{e}})
	}
	if !h.batches {
		return found
	}
	first := map[string]*job{}
	for _, j := range h.jobs {
		if j.spec() == nil {
			continue
		}
		if other := first[j.spec().Query]; other != nil {
			found = append(found, j.violate("it shares its query with job "+other.id+", so that their batches cannot be told apart",
				append(other.specs[0].events(), j.specs[0].events()...)...))
		}
		first[j.spec().Query] = j
	}
	return found
}

// checkBudget compares what kernels searched with the budget, and with what the job says was searched.
func (h *History) checkBudget(o *Options) []Violation {
	var found []Violation
	for _, j := range h.jobs {
		if v := j.overBudget(); v != nil {
			found = append(found, *v)
		}
		if h.batches && !o.PartialBatches {
			if v := j.unsearched(); v != nil {
				found = append(found, *v)
			}
		}
	}
	return found
}

func (j *job) overBudget() *Violation {
	if j.candidates(never) == 0 {
		return nil // not known
	}
	over := func(what string, n uint64, e Event) *Violation {
		v := j.violate(fmt.Sprintf("%s %d, and its budget is %d candidates", what, n, j.candidates(e.Time)), e)
		return &v
	}
	for _, b := range j.batches {
		if b.hi > j.candidates(b.begin) {
			return over("a kernel was to search up to", b.hi, b.shown[0])
		}
	}
	for _, s := range j.sights {
		if s.seen.Searched > j.candidates(s.to) {
			return over("it was searched up to", s.seen.Searched, s.event)
		}
	}
	for _, op := range j.streams {
		for _, note := range op.notes {
			if note.Hit != nil && note.Hit.Index >= j.candidates(note.Time) {
				return over("it has a hit at", note.Hit.Index, note)
			}
		}
	}
	return nil
}

// unsearched looks for a time at which more was called searched than kernels had reported.
func (j *job) unsearched() *Violation {
	type report struct {
		time   int64
		lo, hi uint64
	}
	var reports []report
	for _, b := range j.batches {
		for _, e := range b.reports {
			reports = append(reports, report{e.Time, b.lo, min(e.Through, b.hi)})
		}
	}
	slices.SortFunc(reports, func(a, b report) int { return cmp.Compare(a.time, b.time) })
	var searched cover
	at := 0
	for _, s := range j.sights { // by time
		for ; at < len(reports) && reports[at].time <= s.to; at++ {
			searched = searched.add(reports[at].lo, reports[at].hi)
		}
		if through := searched.from(0); through < s.seen.Searched {
			v := j.violate(fmt.Sprintf("it was called searched up to %d when kernels had searched up to %d", s.seen.Searched, through), s.event)
			return &v
		}
	}
	return nil
}

// stopped is the first sight of a job that says that nothing computes for it any more.
func (j *job) stopped() *sight {
	for i, s := range j.sights {
		if s.seen.State == jobs.Cancelled || s.seen.State == jobs.Exhausted && s.seen.Reason == jobs.DurationExhausted {
			return &j.sights[i]
		}
	}
	return nil
}

// computing returns the first time after at when the batch computed, or never. A process that was stalled is given
// grace to notice, after it goes on.
func (h *History) computing(b *batch, at int64, grace time.Duration) int64 {
	at = max(at, b.begin)
	for changed := true; changed; {
		changed = false
		for _, op := range h.faults {
			if op.begin.Fault == Stall && op.begin.Target == b.process && op.begin.Time <= at {
				if until := op.returned(); until == never {
					return never
				} else if until+int64(grace) > at {
					at, changed = until+int64(grace), true
				}
			}
		}
	}
	if at >= b.end {
		return never
	}
	return at
}

// checkStop looks for kernels that go on after a job was said to have been stopped, or too long after the order.
func (h *History) checkStop(o *Options) []Violation {
	found := h.unfenced(o)
	for _, j := range h.jobs {
		if s := j.stopped(); s != nil {
			for _, b := range j.batches {
				if at := h.computing(b, s.to, o.Stop); at != never {
					found = append(found, j.violate("a kernel computed after nothing was said to", append([]Event{s.event}, b.shown...)...))
				}
			}
		}
		for _, op := range j.ops {
			if op.begin.Kind != Cancel || op.outcome() != OK {
				continue
			}
			for _, b := range j.batches {
				// A process needs a moment to be back when it was cut off.
				ordered, within, since := op.begin.Time, o.Stop, op.begin.Time-int64(o.CutOff)
				disturbed := h.during(since, op.returned(), "", Outage, Losses)
				if disturbed || h.during(since, op.returned(), "", Cut) || h.during(op.begin.Time, op.returned(), op.begin.Process, Stall) {
					ordered = op.returned() // at the latest
				}
				if disturbed || h.during(since, ordered+int64(o.CutOff), b.process, Cut) {
					within = o.CutOff
				}
				limit := ordered + int64(within)
				if at := h.computing(b, limit, o.Stop); at != never {
					found = append(found, j.violate(fmt.Sprintf("a kernel computed %v after the order to stop", ms(at-op.begin.Time)),
						append(op.events(), b.shown...)...))
				}
			}
		}
	}
	return found
}

// StopTimes returns, for each cancel that a kernel computed during, the time from its begin to the end of the last
// batch of its job.
func (h *History) StopTimes() []time.Duration {
	var all []time.Duration
	for _, j := range h.jobs {
		for _, op := range j.ops {
			if op.begin.Kind != Cancel || op.outcome() != OK {
				continue
			}
			var last int64
			for _, b := range j.batches {
				if b.end > op.begin.Time && b.end != never {
					last = max(last, b.end)
				}
			}
			if last > 0 {
				all = append(all, time.Duration(last-op.begin.Time))
			}
			break // a second cancel finds nothing to stop
		}
	}
	return all
}

// eachCut calls f for each worker's absence from Redis during which a kernel of it computed, with the batches that did.
func (h *History) eachCut(f func(op *operation, left map[*job][]*batch)) {
	for _, op := range h.faults {
		if op.begin.Fault != Cut {
			continue
		}
		left := map[*job][]*batch{}
		for _, j := range h.jobs {
			for _, b := range j.batches {
				if b.process == op.begin.Target && b.begin < op.begin.Time && b.end > op.begin.Time {
					left[j] = append(left[j], b)
				}
			}
		}
		if len(left) > 0 {
			f(op, left)
		}
	}
}

// unfenced looks for kernels that compute for long on a worker that does not reach Redis.
func (h *History) unfenced(o *Options) []Violation {
	var found []Violation
	h.eachCut(func(op *operation, left map[*job][]*batch) {
		limit := op.begin.Time + int64(o.CutOff)
		if op.returned() <= limit {
			return
		}
		for j, all := range left {
			for _, b := range all {
				if at := h.computing(b, limit, o.Stop); at < op.returned() {
					found = append(found, j.violate(fmt.Sprintf("a kernel computed %v after its worker was cut off", ms(at-op.begin.Time)),
						append(op.events(), b.shown...)...))
				}
			}
		}
	})
	return found
}

// FenceTimes returns, for each absence of a worker from Redis that kernels of it ran into, the time until the last of
// them had stopped.
func (h *History) FenceTimes() []time.Duration {
	var all []time.Duration
	h.eachCut(func(op *operation, left map[*job][]*batch) {
		last := op.begin.Time
		for _, batches := range left {
			for _, b := range batches {
				if b.end == never || h.death[b.process] == b.end {
					return // it was killed
				}
				last = max(last, b.end)
			}
		}
		all = append(all, time.Duration(last-op.begin.Time))
	})
	return all
}

// OrphanTimes returns, for each job that was ended as an orphan while kernels computed for it, the time from the end of
// its last stream until the last of them had stopped.
func (h *History) OrphanTimes() []time.Duration {
	var all []time.Duration
	for _, j := range h.jobs {
		if !slices.ContainsFunc(j.sights, func(s sight) bool { return s.seen.Reason == jobs.Orphaned }) {
			continue
		}
		var last int64
		for _, b := range j.batches {
			if b.end != never {
				last = max(last, b.end)
			}
		}
		if left, _ := h.attended(j, never); last > left {
			all = append(all, time.Duration(last-left))
		}
	}
	return all
}

// checkOrphans looks for kernels that compute for an attached job long after its last stream.
func (h *History) checkOrphans(o *Options) []Violation {
	var found []Violation
	for _, j := range h.jobs {
		spec := j.spec()
		if spec == nil || !spec.Attached {
			continue
		}
		for _, b := range j.batches {
			last, shown := h.attended(j, b.end)
			// An absence of Redis gives watchers time to come back.
			from := h.calm(last, o.Orphan, Outage, Losses, Clock, Kill, Cut, Stall, Nobody)
			if from == never || b.end == never {
				continue
			}
			if at := h.computing(b, from+int64(o.Orphan), o.Stop); at != never {
				found = append(found, j.violate(fmt.Sprintf("a kernel computed %v after it was left", ms(b.end-last)), append([]Event{shown}, b.shown...)...))
				break
			}
		}
	}
	return found
}

// attended returns when somebody last attended to an attached job before a time, at the latest.
func (h *History) attended(j *job, before int64) (last int64, shown Event) {
	for _, op := range slices.Concat(j.specs, j.streams) {
		until := op.returned()
		if death, ok := h.death[op.begin.Process]; ok && until == never {
			until = death
		}
		if until = min(until, before); op.begin.Time < before && until >= last {
			last, shown = until, op.begin
		}
	}
	return last, shown
}

// checkExits looks for processes that ended by themselves.
func (h *History) checkExits(*Options) []Violation {
	var found []Violation
	for _, op := range h.faults {
		if op.begin.Fault == Exit {
			found = append(found, Violation{What: op.begin.Target + " ended by itself", Events: op.events()})
		}
	}
	return found
}

// disturbances are the faults that give everything more time.
var disturbances = []string{Kill, Stall, Cut, Outage, Losses, Tickets, Clock, NoWorker, Nobody}

// checkProgress looks for jobs that did not end in time, and for chunks that nobody took over.
func (h *History) checkProgress(o *Options) []Violation {
	var found []Violation
	for _, j := range h.jobs {
		if v := h.overdue(j, o); v != nil {
			found = append(found, *v)
		}
		if v := h.unended(j); v != nil {
			found = append(found, *v)
		}
	}
	return append(found, h.notRerun(o)...)
}

// unended looks for a job that had not ended when it had had all it needed.
func (h *History) unended(j *job) *Violation {
	settled := h.settled()
	for _, s := range j.sights {
		if s.from > settled && s.seen.State != "" && !s.seen.State.Terminal() && s.seen.State != "PAUSED" {
			v := j.violate("it had not ended when it had had all it needed", s.event)
			return &v
		}
	}
	return nil
}

// overdue looks for a job that had not ended long after its time was used up.
func (h *History) overdue(j *job, o *Options) *Violation {
	spec := j.spec()
	if spec == nil || spec.Duration == 0 || len(j.batches) == 0 {
		return nil
	}
	begun := j.batches[0].begin
	for _, b := range j.batches {
		begun = min(begun, b.begin)
	}
	for _, op := range j.ops { // a pause may stop its clock
		if op.begin.Kind == Pause || op.begin.Kind == Extend {
			return nil
		}
	}
	due := h.calm(begun+int64(spec.Duration), o.Late, disturbances...)
	if due == never {
		return nil
	}
	due += int64(o.Late)
	for _, s := range j.sights {
		if s.from > due && s.seen.State != "" && !s.seen.State.Terminal() {
			v := j.violate(fmt.Sprintf("it had not ended %v after its time was used up", ms(s.from-begun-int64(spec.Duration))), j.batches[0].shown[0], s.event)
			return &v
		}
	}
	return nil
}

// Reruns returns, for each batch that a kill cut off, the time from the kill until another batch searched the first
// index that was left.
func (h *History) Reruns() []time.Duration {
	var all []time.Duration
	h.eachCutOff(func(j *job, b *batch, death int64) {
		if again := j.again(b, death); again > death && again != never {
			all = append(all, time.Duration(again-death))
		}
	})
	return all
}

// eachCutOff calls f for each batch that a kill cut off.
func (h *History) eachCutOff(f func(j *job, b *batch, death int64)) {
	for _, j := range h.jobs {
		for _, b := range j.batches {
			if death, ok := h.death[b.process]; ok && b.end == death && b.through < b.hi {
				f(j, b, death)
			}
		}
	}
}

// again returns when the first index that a batch did not reach was searched, or had been; never if it was not.
func (j *job) again(cut *batch, death int64) int64 {
	first := int64(never)
	for _, b := range j.batches {
		if b == cut || cut.through < b.lo || cut.through >= b.hi {
			continue
		}
		if b.through > cut.through && b.end <= death { // it was searched before
			return death
		}
		if b.end > death {
			first = min(first, max(b.begin, death))
		}
	}
	return first
}

// notRerun looks for chunks of killed workers that did not run again in time, although their jobs went on.
func (h *History) notRerun(o *Options) []Violation {
	var found []Violation
	h.eachCutOff(func(j *job, b *batch, death int64) {
		calm := h.calm(death+1, o.Rerun, disturbances...)
		if calm == never {
			return
		}
		due := calm + int64(o.Rerun)
		if j.again(b, death) <= due {
			return
		}
		// It was still wanted: seen to run afterwards, or searched again then.
		for _, s := range j.sights {
			if s.from > due && (s.seen.State == jobs.Pending || s.seen.State == jobs.Running) {
				found = append(found, j.violate(fmt.Sprintf("a killed worker's chunk had not run again after %v", ms(due-death)),
					append(slices.Clone(b.shown), s.event)...))
				return
			}
		}
	})
	return found
}
