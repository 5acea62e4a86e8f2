package history

import (
	"fmt"
	"slices"
	"sync"

	"github.com/hashfinder/hashfinder/jobs"
	"github.com/hashfinder/hashfinder/jobs/search"
)

// scans is the plain reference; it remembers what it has scanned.
type scans struct {
	mu   sync.Mutex
	done map[string]*scanned
}

type scanned struct {
	end  uint64 // all below was looked at, or up to the ideal hit
	hits []jobs.Hit
}

func (s *scans) hits(text string, end uint64, most int) ([]jobs.Hit, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	query, err := search.DecodeQuery([]byte(text))
	if err != nil {
		return nil, err
	}
	if s.done == nil {
		s.done = map[string]*scanned{}
	}
	all := s.done[text]
	if all == nil {
		all = &scanned{}
		s.done[text] = all
	}
	n := len(all.hits)
	if all.end < end && n < most && (n == 0 || !all.hits[n-1].Ideal) {
		from := all.end
		all.end = end
		search.Scan(query, from, end, func(hit search.Hit) bool {
			all.hits = append(all.hits, jobs.Hit{Index: hit.Index, Distance: hit.Distance, Ideal: hit.Distance <= query.Ideal})
			if len(all.hits) == most {
				all.end = hit.Index + 1
				return false
			}
			return true
		})
	}
	return within(all.hits, end, most), nil
}

// within returns those of hits that are below end, at most most.
func within(hits []jobs.Hit, end uint64, most int) []jobs.Hit {
	n, _ := slices.BinarySearchFunc(hits, end, func(hit jobs.Hit, end uint64) int {
		if hit.Index < end {
			return -1
		}
		return 1
	})
	return hits[:min(n, most)]
}

// ending is how a job ends by itself.
type ending struct {
	hits   []jobs.Hit
	state  jobs.State
	reason jobs.Reason
	end    uint64 // of what is searched
}

// endings returns how a job ends under each of the budgets that it may have had, the last one being the longest.
func (j *job) endings(o *Options) ([]ending, error) {
	var all []ending
	for _, budget := range j.budgets(never) {
		if budget.Candidates == 0 || budget.Hits == 0 {
			return nil, nil // not known
		}
		hits, err := o.Reference(j.spec().Query, budget.Candidates, int(budget.Hits))
		if err != nil {
			return nil, fmt.Errorf("reference of %s: %w", j.spec().Query, err)
		}
		e := ending{hits, jobs.Exhausted, jobs.CandidatesExhausted, budget.Candidates}
		if n := len(hits); n > 0 {
			switch {
			case hits[n-1].Ideal:
				e.state, e.reason, e.end = jobs.Succeeded, jobs.Found, hits[n-1].Index+1
			case uint64(n) == budget.Hits:
				e.reason, e.end = jobs.HitsExhausted, hits[n-1].Index+1
			}
		}
		all = append(all, e)
	}
	slices.SortStableFunc(all, func(a, b ending) int { return len(a.hits) - len(b.hits) })
	return all, nil
}

// checkAnswer compares what was seen with the sequential scan.
func (h *History) checkAnswer(o *Options) []Violation {
	var found []Violation
	for _, j := range h.jobs {
		if j.spec() == nil {
			continue
		}
		endings, err := j.endings(o)
		if err != nil {
			found = append(found, j.violate(err.Error()))
		}
		if len(endings) == 0 {
			continue
		}
		all := endings[len(endings)-1].hits
		for _, s := range j.sights {
			if what := wrongSight(s.seen, endings); what != "" {
				found = append(found, j.violate(what, s.event))
				break
			}
		}
		for _, op := range j.streams {
			if v := j.wrongStream(op, all); v != nil {
				found = append(found, *v)
			}
		}
	}
	return found
}

// wrongSight says what a snapshot tells that is not so.
func wrongSight(seen *Snapshot, endings []ending) string {
	if seen.State == "" {
		return ""
	}
	all := endings[len(endings)-1].hits
	hits := within(all, seen.Searched, len(all))
	if seen.Hits != uint64(len(hits)) {
		return fmt.Sprintf("it has %d hits below %d, where the reference has %d", seen.Hits, seen.Searched, len(hits))
	}
	var best, answer *jobs.Hit
	for i := range hits {
		if best == nil || hits[i].Distance < best.Distance {
			best = &hits[i]
		}
		if hits[i].Ideal {
			answer = &hits[i]
		}
	}
	if !sameHit(seen.Best, best) && seen.Best != nil {
		return fmt.Sprintf("its best hit is %+v, where the reference's is %+v", seen.Best, best)
	}
	if !sameHit(seen.Answer, answer) {
		return fmt.Sprintf("its answer is %+v, where the reference's is %+v", seen.Answer, answer)
	}
	byItself := seen.State == jobs.Succeeded || seen.State == jobs.Exhausted && seen.Reason != jobs.DurationExhausted
	if byItself && !slices.ContainsFunc(endings, func(e ending) bool {
		return seen.State == e.state && seen.Reason == e.reason && seen.Searched == e.end
	}) {
		return fmt.Sprintf("it ended as %s, %s at %d, where the reference has %v", seen.State, seen.Reason, seen.Searched, endings[len(endings)-1])
	}
	return ""
}

// String tells of the end alone.
func (e ending) String() string {
	return fmt.Sprintf("%s, %s at %d with %d hits", e.state, e.reason, e.end, len(e.hits))
}

// wrongStream compares the hits of a stream with the reference, where it is known which hit is the first.
func (j *job) wrongStream(op *operation, all []jobs.Hit) *Violation {
	at := -1
	if op.begin.After == 0 {
		at = 0
	}
	for _, note := range op.notes {
		if note.Hit == nil {
			continue
		}
		if at < 0 {
			at = slices.Index(all, *note.Hit)
		}
		if at < 0 || at >= len(all) || all[at] != *note.Hit {
			want := "none"
			if at >= 0 && at < len(all) {
				want = fmt.Sprintf("%+v", all[at])
			}
			v := j.violate(fmt.Sprintf("a stream brought hit %+v, where the reference has %s", *note.Hit, want), op.begin, note)
			return &v
		}
		at++
	}
	return nil
}

// checkStreams looks at each stream, and holds the streams of a job to one another.
func (h *History) checkStreams(*Options) []Violation {
	var found []Violation
	for _, j := range h.jobs {
		log := map[uint64]Event{}
		for _, op := range j.streams {
			if v := j.badStream(op, log); v != nil {
				found = append(found, *v)
			}
		}
	}
	return found
}

func (j *job) badStream(op *operation, log map[uint64]Event) *Violation {
	broken := func(what string, events ...Event) *Violation {
		v := j.violate(what, append([]Event{op.begin}, events...)...)
		return &v
	}
	last, ended := op.begin.After, false
	var before []Event
	for _, note := range op.notes {
		if note.Sequence == 0 {
			continue // progress
		}
		switch {
		case ended:
			return broken("an event followed the end", append(before, note)...)
		case note.Sequence != last+1:
			return broken(fmt.Sprintf("event %d followed event %d", note.Sequence, last), append(before, note)...)
		}
		last, ended, before = note.Sequence, note.Seen != nil, []Event{note}
		if first, ok := log[note.Sequence]; !ok {
			log[note.Sequence] = note
		} else if !sameHit(first.Hit, note.Hit) || (first.Seen == nil) != (note.Seen == nil) {
			return broken("two streams brought different events of one number", first, note)
		}
	}
	if op.end != nil && op.outcome() == OK && !ended && !j.endedBy(op) {
		return broken("the stream was over before the job", *op.end)
	}
	return nil
}

// endedBy tells whether a stream began after the last event of the job, so that there was nothing to bring.
func (j *job) endedBy(op *operation) bool {
	return slices.ContainsFunc(j.sights, func(s sight) bool {
		return s.seen.State.Terminal() && s.seen.Sequence == op.begin.After && s.from <= op.returned()
	})
}

// checkPrompt looks for streams to which the end of a job came late.
func (h *History) checkPrompt(o *Options) []Violation {
	if o.Prompt == 0 {
		return nil
	}
	var found []Violation
	for _, j := range h.jobs {
		if v := h.late(j, o); v != nil {
			found = append(found, *v)
		}
	}
	return found
}

// endedByItself tells whether the job was seen to have ended with its last commit.
func (j *job) endedByItself() bool {
	return slices.ContainsFunc(j.sights, func(s sight) bool {
		return s.seen.State == jobs.Succeeded || s.seen.Reason == jobs.CandidatesExhausted
	})
}

// late compares what a stream brought with the ledger: the last commit of the job.
func (h *History) late(j *job, o *Options) *Violation {
	var last *operation
	for _, op := range j.ledger {
		if op.begin.Kind != Commit {
			continue
		}
		switch op.outcome() {
		case Done:
			last = op
		case Lost:
		default: // it may have been the one that ended the job
			last = nil
		}
	}
	if last == nil {
		return nil
	}
	for _, stream := range j.streams {
		// The first that the stream brings after the commit; until then it may have had much to catch up with.
		before := stream.begin
		for _, note := range stream.notes {
			if note.Time <= last.returned() {
				before = note
				continue
			}
			due := max(last.returned(), before.Time) + int64(o.Prompt)
			if note.Time > due && j.endedByItself() && !h.during(stream.begin.Time, note.Time, "", Outage, Losses, Cut, Stall, Kill) {
				v := j.violate(fmt.Sprintf("a stream brought nothing for %v after the commit that ended the job", ms(note.Time-last.returned())),
					*last.end, before, note)
				return &v
			}
			break
		}
	}
	return nil
}
