package jobs

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// decoder reads the fields of a Redis hash, and keeps the first error.
type decoder struct {
	fields map[string]string
	err    error
}

func (d *decoder) uint(name string) uint64 {
	text := d.fields[name]
	if text == "" {
		return 0
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil && d.err == nil {
		d.err = fmt.Errorf("field %s: %w", name, err)
	}
	return n
}

func (d *decoder) duration(name string) time.Duration {
	return time.Duration(d.uint(name)) * time.Millisecond
}

func (d *decoder) time(name string) time.Time {
	if d.fields[name] == "" {
		return time.Time{}
	}
	return time.UnixMilli(int64(d.uint(name))).UTC()
}

func (d *decoder) hit(prefix string) *Hit {
	if d.fields[prefix+"_index"] == "" {
		return nil
	}
	return &Hit{Index: d.uint(prefix + "_index"), Distance: int(d.uint(prefix + "_distance"))}
}

// decodeJob reads a job from its hash and the sweep's next index.
func decodeJob(fields map[string]string, next string) (Job, error) {
	d := decoder{fields: fields}
	job := Job{
		ID: fields["id"], Tenant: fields["tenant"],
		Spec: Spec{
			Profile: fields["profile"], Query: []byte(fields["query"]), Attached: fields["attached"] == "1",
			Budget: Budget{Candidates: d.uint("max_candidates"), Hits: d.uint("max_hits"), Duration: d.duration("max_wall")},
		},
		State: State(fields["state"]), Reason: Reason(fields["reason"]),
		Progress: Progress{Searched: d.uint("searched"), Redone: d.uint("redone"), Rate: float64(d.uint("rate"))},
		Hits:     d.uint("hits"), Best: d.hit("best"), Answer: d.hit("answer"), Poison: fields["poison"],
		CreateTime: d.time("create"), StartTime: d.time("start"), EndTime: d.time("end"), ExpireTime: d.time("expire"),
		PausedFor: d.duration("paused_for"), StopLatency: d.duration("stop_latency"), LastSequence: d.uint("seq"), Revision: d.uint("revision"),
	}
	if fields["pause"] != "" && (job.State == Pending || job.State == Running) { // see the prelude of the scripts
		job.State, job.PauseTime = Pausing, d.time("pause")
		if fields["paused"] != "" {
			job.State = Paused
		}
	}
	for bound := range strings.SplitSeq(fields["grid"], ",") {
		n, err := strconv.ParseUint(bound, 10, 64)
		if err != nil {
			return Job{}, fmt.Errorf("field grid: %w", err)
		}
		job.Spec.Grid = append(job.Spec.Grid, n)
	}
	if err := json.Unmarshal([]byte(fields["labels"]), &job.Spec.Labels); err != nil {
		return Job{}, fmt.Errorf("field labels: %w", err)
	}
	if job.Answer != nil {
		job.Answer.Ideal = true
		if job.Best != nil && job.Best.Index == job.Answer.Index {
			job.Best.Ideal = true
		}
	}
	job.ExtendedBy = fields["extended_by"]
	if fields["extends"] != "" {
		job.Extends = &Origin{
			Job: fields["extends"], Searched: d.uint("origin"), Sequence: d.uint("base"), Duration: d.duration("carried"),
		}
	}
	if next != "" && !job.State.Terminal() {
		d.fields = map[string]string{"next": next}
		if claimed := min(d.uint("next"), job.Spec.Budget.Candidates); claimed > job.Progress.Searched {
			job.Progress.InFlight = claimed - job.Progress.Searched
		}
	}
	return job, d.err
}

// parseEvent reads an event as the scripts write it: "<sequence> hit <index> <distance> <1 if ideal>",
// "<sequence> end <state> <reason>", or "0 progress <searched> <in flight> <redone> <rate> <ms>".
func parseEvent(line string) (Event, error) {
	words := strings.Fields(line)
	bad := fmt.Errorf("malformed event %q", line)
	if len(words) < 2 {
		return Event{}, bad
	}
	numbers := make([]uint64, 0, 6)
	for i, word := range words {
		if i == 1 || words[1] == "end" && i > 1 {
			continue
		}
		n, err := strconv.ParseUint(word, 10, 64)
		if err != nil {
			return Event{}, bad
		}
		numbers = append(numbers, n)
	}
	event := Event{Sequence: numbers[0]}
	switch {
	case words[1] == "hit" && len(words) == 5:
		event.Hit = &Hit{Index: numbers[1], Distance: int(numbers[2]), Ideal: numbers[3] == 1}
	case words[1] == "end" && len(words) == 4:
		event.End = &Job{State: State(words[2]), Reason: Reason(words[3])}
	case words[1] == "progress" && len(words) == 7:
		event.Progress = &Progress{
			Searched: numbers[1], InFlight: numbers[2], Redone: numbers[3], Rate: float64(numbers[4]),
			Time: time.UnixMilli(int64(numbers[5])).UTC(),
		}
	default:
		return Event{}, bad
	}
	return event, nil
}
