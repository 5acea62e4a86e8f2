package history_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hashfinder/hashfinder/jobs"
	"github.com/hashfinder/hashfinder/jobs/jobstest/history"
)

// The reference of all jobs here: hits at 10, 20 and so on, the one at 70 ideal.
func reference(_ string, end uint64, most int) ([]jobs.Hit, error) {
	var hits []jobs.Hit
	for index := uint64(10); index < end && index <= 70 && len(hits) < most; index += 10 {
		hits = append(hits, jobs.Hit{Index: index, Distance: 1, Ideal: index == 70})
	}
	return hits, nil
}

// tape is a history in the making. Its clock is moved by hand.
type tape struct {
	*history.Recorder
	now time.Duration
}

func newTape() *tape {
	t := &tape{}
	t.Recorder = history.NewRecorderWithClock("client", func() int64 { return int64(t.now) })
	return t
}

func (t *tape) wait(d time.Duration) { t.now += d }

const query = "q"

func (t *tape) submit(job string, spec history.Spec) {
	spec.Query = query + job
	op := t.Begin(history.Event{Kind: history.Submit, Tenant: "t", Request: "r" + job, Spec: &spec})
	op.End(history.Event{Outcome: history.OK, Job: job, Seen: &history.Snapshot{State: jobs.Pending}})
}

func (t *tape) get(job string, seen history.Snapshot) {
	t.Begin(history.Event{Kind: history.Get, Tenant: "t", Job: job}).End(history.Event{Outcome: history.OK, Seen: &seen})
}

func (t *tape) missing(job, tenant string) {
	t.Begin(history.Event{Kind: history.Get, Tenant: tenant, Job: job}).End(history.Event{Outcome: history.NotFound})
}

func (t *tape) cancel(outcome history.Outcome, seen *history.Snapshot) {
	t.Begin(history.Event{Kind: history.Cancel, Tenant: "t", Job: "a"}).End(history.Event{Outcome: outcome, Seen: seen})
}

func (t *tape) begin(process string, lo, hi uint64) *history.Op {
	return t.Begin(history.Event{Kind: history.Batch, Process: process, Query: query + "a", Lo: lo, Hi: hi})
}

func (t *tape) batch(process string, lo, hi uint64) {
	op := t.begin(process, lo, hi)
	t.wait(100 * time.Millisecond)
	op.End(history.Event{Through: hi})
}

func (t *tape) fault(what, target string) {
	t.Note(history.Event{Kind: history.Fault, Fault: what, Target: target})
}

func (t *tape) lasting(what, target string) *history.Op {
	return t.Begin(history.Event{Kind: history.Fault, Fault: what, Target: target})
}

func (t *tape) claim(attempt, ticket string, lo, hi uint64) {
	t.Begin(history.Event{Kind: history.Claim, Job: "a", Attempt: attempt, Ticket: ticket}).
		End(history.Event{Outcome: history.Granted, Lo: lo, Hi: hi})
}

func (t *tape) call(kind history.Kind, attempt string, outcome history.Outcome) {
	t.Begin(history.Event{Kind: kind, Job: "a", Attempt: attempt}).End(history.Event{Outcome: outcome})
}

// watch records a stream of hits with the numbers from after+1 on, and of the end.
func (t *tape) watch(after uint64, indexes []uint64, end *history.Snapshot) {
	op := t.Begin(history.Event{Kind: history.Watch, Tenant: "t", Job: "a", After: after})
	for i, index := range indexes {
		op.Note(history.Event{Sequence: after + uint64(i) + 1, Hit: &jobs.Hit{Index: index, Distance: 1, Ideal: index == 70}})
	}
	if end == nil {
		op.End(history.Event{Outcome: history.Aborted})
		return
	}
	op.Note(history.Event{Sequence: after + uint64(len(indexes)) + 1, Seen: end})
	op.End(history.Event{Outcome: history.OK})
}

var (
	big       = history.Spec{Candidates: 100, Hits: 50}
	small     = history.Spec{Candidates: 35, Hits: 50}
	running   = history.Snapshot{State: jobs.Running}
	cancelled = history.Snapshot{State: jobs.Cancelled, Reason: jobs.CancelledByClient}
	found     = history.Snapshot{
		State: jobs.Succeeded, Reason: jobs.Found, Searched: 71, Hits: 7, Answer: &jobs.Hit{Index: 70, Distance: 1, Ideal: true}, Sequence: 8,
	}
	usedUp = history.Snapshot{State: jobs.Exhausted, Reason: jobs.CandidatesExhausted, Searched: 35, Hits: 3, Sequence: 4}
	all    = []uint64{10, 20, 30, 40, 50, 60, 70}
)

// check holds a history to the promises that it is to break, and to all others.
func check(t *testing.T, record func(t *tape), want ...string) {
	t.Helper()
	tape := newTape()
	tape.wait(time.Hour)
	record(tape)
	options := history.Options{Reference: reference, MaxActive: 2, Prompt: 100 * time.Millisecond}
	violations := history.New(tape.Events()).Check(options)
	var got []string
	for _, v := range violations {
		if !slices.Contains(got, v.Promise) {
			got = append(got, v.Promise)
		}
		if v.What == "" || len(v.Events) == 0 {
			t.Errorf("a violation that shows nothing: %v", v)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		var text strings.Builder
		for _, v := range violations {
			fmt.Fprintln(&text, v)
		}
		t.Errorf("broken promises (-want +got):\n%s\n%s", diff, &text)
	}
}

// Histories that are as they should be, although they look strange.
func TestGoodHistories(t *testing.T) {
	tests := map[string]func(*tape){
		"nothing": func(*tape) {},
		"a job that succeeds": func(t *tape) {
			t.submit("a", big)
			t.batch("w", 0, 50)
			t.get("a", history.Snapshot{State: jobs.Running, Searched: 40, Hits: 3})
			t.batch("w", 50, 100)
			t.watch(0, all, &found)
			t.watch(3, all[3:], &found)
			t.watch(0, all[:2], nil)
			t.get("a", found)
			t.cancel(history.Ended, nil)
		},
		"a commit that comes again": func(t *tape) {
			t.submit("a", big)
			t.claim("1", "t1", 0, 50)
			t.call(history.Commit, "1", history.Done)
			t.wait(time.Minute)
			t.call(history.Commit, "1", history.Done)
		},
		"a job that a submit made without saying so": func(t *tape) {
			spec := big
			spec.Query = query + "a"
			t.Begin(history.Event{Kind: history.Submit, Tenant: "t", Spec: &spec}).End(history.Event{Outcome: history.Unknown})
			t.batch("w", 0, 50)
		},
		"a job that is used up, in two workers at once": func(t *tape) {
			t.submit("a", small)
			one, two := t.begin("w1", 0, 20), t.begin("w2", 20, 35)
			two.End(history.Event{Through: 35})
			t.get("a", running)
			one.End(history.Event{Through: 20})
			t.watch(0, all[:3], &usedUp)
		},
		"a cancel in time": func(t *tape) {
			t.submit("a", big)
			op := t.begin("w", 0, 100)
			t.cancel(history.OK, &history.Snapshot{State: jobs.Cancelling})
			t.wait(200 * time.Millisecond)
			op.End(history.Event{})
			t.get("a", cancelled)
			t.cancel(history.OK, &cancelled)
		},
		"a cancel whose answer never came": func(t *tape) {
			t.submit("a", big)
			t.Begin(history.Event{Kind: history.Cancel, Tenant: "t", Job: "a"})
			t.get("a", running)
			t.get("a", history.Snapshot{State: jobs.Cancelling})
		},
		"a worker that was stopped while its job was cancelled": func(t *tape) {
			t.submit("a", big)
			op := t.begin("w", 0, 100)
			stall := t.lasting(history.Stall, "w")
			t.cancel(history.OK, &history.Snapshot{State: jobs.Cancelling})
			t.wait(5 * time.Second)
			t.get("a", cancelled)
			stall.End(history.Event{})
			t.wait(20 * time.Millisecond)
			op.End(history.Event{})
		},
		"a cancel by a front end without Redis": func(t *tape) {
			t.submit("a", big)
			op := t.begin("w", 0, 100)
			cut := t.lasting(history.Cut, "client")
			cancel := t.Begin(history.Event{Kind: history.Cancel, Tenant: "t", Job: "a"})
			t.wait(time.Second)
			cut.End(history.Event{})
			op.End(history.Event{})
			cancel.End(history.Event{Outcome: history.OK, Seen: &cancelled})
		},
		"a cancel by a front end that has just got Redis back": func(t *tape) {
			t.submit("a", big)
			op := t.begin("w", 0, 100)
			t.lasting(history.Cut, "client").End(history.Event{})
			cancel := t.Begin(history.Event{Kind: history.Cancel, Tenant: "t", Job: "a"})
			t.wait(time.Second)
			op.End(history.Event{})
			cancel.End(history.Event{Outcome: history.OK, Seen: &cancelled})
		},
		"a killed worker": func(t *tape) {
			t.submit("a", small)
			t.begin("w1", 0, 35).Note(history.Event{Through: 15})
			t.fault(history.Kill, "w1")
			t.wait(4 * time.Second)
			t.batch("w2", 0, 35)
			t.wait(4 * time.Second)
			t.get("a", usedUp)
		},
		"an attempt that is late": func(t *tape) {
			t.submit("a", big)
			t.claim("one", "1", 0, 50)
			t.wait(4 * time.Second)
			t.claim("two", "2", 0, 50)
			t.call(history.Commit, "two", history.Done)
			t.call(history.Renew, "one", history.Lost)
			t.call(history.Commit, "one", history.Lost)
		},
		"a copy of a straggler's chunk": func(t *tape) {
			t.submit("a", big)
			t.claim("one", "1", 0, 50)
			t.wait(2 * time.Second)
			t.call(history.Renew, "one", history.Held)
			t.claim("two", "2", 0, 50)
			t.call(history.Commit, "one", history.Done)
			t.call(history.Commit, "two", history.Lost)
		},
		"a retry of a submit": func(t *tape) {
			t.submit("a", big)
			t.submit("a", big)
		},
		"an exhausted job that is extended": func(t *tape) {
			t.submit("a", small)
			t.batch("w", 0, 35)
			t.get("a", usedUp)
			more := big
			more.Query = query + "a"
			t.Begin(history.Event{Kind: history.Extend, Tenant: "t", Job: "a", Spec: &more}).
				End(history.Event{Outcome: history.OK, Seen: &history.Snapshot{State: jobs.Running, Searched: 35, Hits: 3}})
			t.batch("w", 35, 100)
			t.get("a", found)
		},
		"a paused job": func(t *tape) {
			t.submit("a", big)
			t.Begin(history.Event{Kind: history.Pause, Tenant: "t", Job: "a"}).
				End(history.Event{Outcome: history.OK, Seen: &history.Snapshot{State: "PAUSED"}})
			t.Begin(history.Event{Kind: history.Resume, Tenant: "t", Job: "a"}).
				End(history.Event{Outcome: history.OK, Seen: &running})
			t.get("a", running)
		},
	}
	for name, record := range tests {
		t.Run(name, func(t *testing.T) { check(t, record) })
	}
}

// Histories that break a promise each, or two that go together.
func TestBadHistories(t *testing.T) {
	tests := map[string]struct {
		record func(*tape)
		want   []string
	}{
		"a job that goes back to pending": {func(t *tape) {
			t.submit("a", big)
			t.get("a", running)
			t.get("a", history.Snapshot{State: jobs.Pending})
		}, []string{"register"}},
		"a cancel that nobody obeys": {func(t *tape) {
			t.submit("a", big)
			t.cancel(history.OK, nil)
			t.get("a", running)
		}, []string{"register"}},
		"success after a cancel": {func(t *tape) {
			t.submit("a", big)
			t.batch("w", 0, 100)
			t.cancel(history.OK, &history.Snapshot{State: jobs.Cancelling})
			t.get("a", found)
		}, []string{"register"}},
		"a job that is cancelled although nobody asked": {func(t *tape) {
			t.submit("a", big)
			t.get("a", cancelled)
		}, []string{"register"}},
		"two ends": {func(t *tape) {
			t.submit("a", history.Spec{Candidates: 100, Hits: 50, Duration: time.Hour})
			t.cancel(history.OK, &cancelled)
			t.get("a", history.Snapshot{State: jobs.Exhausted, Reason: jobs.DurationExhausted})
		}, []string{"register", "I1"}},
		"an end of two reasons": {func(t *tape) {
			t.submit("a", big)
			t.cancel(history.OK, &cancelled)
			t.get("a", history.Snapshot{State: jobs.Cancelled, Reason: jobs.Orphaned})
		}, []string{"I1"}},
		"a job that lives again": {func(t *tape) {
			t.submit("a", big)
			t.cancel(history.OK, &cancelled)
			t.get("a", running)
		}, []string{"register", "I1"}},
		"a hit that is missing": {func(t *tape) {
			t.submit("a", big)
			t.watch(0, []uint64{10, 30}, nil)
		}, []string{"I2"}},
		"a hit that is not there": {func(t *tape) {
			t.submit("a", big)
			t.watch(0, []uint64{10, 11}, nil)
		}, []string{"I2"}},
		"too few hits for what was searched": {func(t *tape) {
			t.submit("a", big)
			t.get("a", history.Snapshot{State: jobs.Running, Searched: 41, Hits: 3})
		}, []string{"I2"}},
		"used up although there was an ideal hit": {func(t *tape) {
			t.submit("a", big)
			t.get("a", history.Snapshot{State: jobs.Exhausted, Reason: jobs.CandidatesExhausted, Searched: 100, Hits: 7, Answer: found.Answer})
		}, []string{"I2"}},
		"an end that came too early": {func(t *tape) {
			t.submit("a", small)
			t.get("a", history.Snapshot{State: jobs.Exhausted, Reason: jobs.CandidatesExhausted, Searched: 34, Hits: 3})
		}, []string{"I2"}},
		"a gap in a stream": {func(t *tape) {
			t.submit("a", big)
			op := t.Begin(history.Event{Kind: history.Watch, Tenant: "t", Job: "a"})
			op.Note(history.Event{Sequence: 2, Hit: &jobs.Hit{Index: 10, Distance: 1}})
		}, []string{"I3"}},
		"an event twice": {func(t *tape) {
			t.submit("a", big)
			op := t.Begin(history.Event{Kind: history.Watch, Tenant: "t", Job: "a", After: 1})
			op.Note(history.Event{Sequence: 2, Hit: &jobs.Hit{Index: 20, Distance: 1}})
			op.Note(history.Event{Sequence: 2, Hit: &jobs.Hit{Index: 30, Distance: 1}})
		}, []string{"I3"}},
		"two streams that differ": {func(t *tape) {
			t.submit("a", big)
			t.watch(1, []uint64{20}, nil)
			t.watch(1, []uint64{30}, nil)
		}, []string{"I3"}},
		"a stream that is over before the job": {func(t *tape) {
			t.submit("a", big)
			t.Begin(history.Event{Kind: history.Watch, Tenant: "t", Job: "a"}).End(history.Event{Outcome: history.OK})
		}, []string{"I3"}},
		"an event after the end": {func(t *tape) {
			t.submit("a", small)
			op := t.Begin(history.Event{Kind: history.Watch, Tenant: "t", Job: "a", After: 3})
			op.Note(history.Event{Sequence: 4, Seen: &usedUp})
			op.Note(history.Event{Sequence: 5, Seen: &usedUp})
		}, []string{"I3"}},
		"a kernel beyond the budget": {func(t *tape) {
			t.submit("a", small)
			t.batch("w", 0, 36)
		}, []string{"I4"}},
		"more called searched than was": {func(t *tape) {
			t.submit("a", big)
			t.batch("w", 0, 20)
			t.batch("w", 21, 30)
			t.get("a", history.Snapshot{State: jobs.Running, Searched: 30, Hits: 2})
		}, []string{"I4"}},
		"computing after CANCELLED": {func(t *tape) {
			t.submit("a", big)
			op := t.begin("w", 0, 100)
			t.cancel(history.OK, &cancelled)
			op.End(history.Event{})
		}, []string{"I5"}},
		"a late stop": {func(t *tape) {
			t.submit("a", big)
			op := t.begin("w", 0, 100)
			t.cancel(history.OK, &history.Snapshot{State: jobs.Cancelling})
			t.wait(300 * time.Millisecond)
			op.End(history.Event{})
		}, []string{"I5"}},
		"a stopped worker that does not notice when it goes on": {func(t *tape) {
			t.submit("a", big)
			op := t.begin("w", 0, 100)
			stall := t.lasting(history.Stall, "w")
			t.cancel(history.OK, &cancelled)
			t.wait(time.Second)
			stall.End(history.Event{})
			t.wait(time.Second)
			op.End(history.Event{})
		}, []string{"I5"}},
		"a worker without Redis that goes on": {func(t *tape) {
			t.submit("a", big)
			t.lasting(history.Cut, "w")
			op := t.begin("w", 0, 100)
			t.cancel(history.OK, &history.Snapshot{State: jobs.Cancelling})
			t.wait(2300 * time.Millisecond)
			op.End(history.Event{})
		}, []string{"I5"}},
		"a worker without Redis that goes on although nobody has cancelled": {func(t *tape) {
			t.submit("a", big)
			op := t.begin("w", 0, 100)
			t.lasting(history.Cut, "w")
			t.wait(2300 * time.Millisecond)
			op.End(history.Event{})
		}, []string{"I5"}},
		"a job that is gone": {func(t *tape) {
			t.submit("a", big)
			t.missing("a", "t")
		}, []string{"register", "I6"}},
		"one request, two jobs": {func(t *tape) {
			for _, job := range []string{"a", "b"} {
				t.Begin(history.Event{Kind: history.Submit, Tenant: "t", Request: "r", Spec: &big}).
					End(history.Event{Outcome: history.OK, Job: job})
			}
		}, []string{"I7"}},
		"a job that does not end": {func(t *tape) {
			t.submit("a", big)
			t.fault(history.Settled, "")
			t.get("a", running)
		}, []string{"I8"}},
		"a job that is over its time": {func(t *tape) {
			t.submit("a", history.Spec{Candidates: 100, Hits: 50, Duration: time.Second})
			op := t.begin("w", 0, 100)
			t.wait(7 * time.Second)
			t.get("a", running)
			op.End(history.Event{})
		}, []string{"I8"}},
		"a chunk that nobody takes over": {func(t *tape) {
			t.submit("a", big)
			t.begin("w1", 0, 100)
			t.fault(history.Kill, "w1")
			t.wait(6 * time.Second)
			t.get("a", running)
		}, []string{"I8"}},
		"another tenant's job": {func(t *tape) {
			t.submit("a", big)
			t.Begin(history.Event{Kind: history.Get, Tenant: "u", Job: "a"}).End(history.Event{Outcome: history.OK, Seen: &running})
		}, []string{"I9"}},
		"a job over the quota": {func(t *tape) {
			for _, job := range []string{"a", "b", "c"} {
				t.submit(job, big)
			}
			t.get("a", running)
			t.get("b", running)
		}, []string{"I10"}},
		"a worker that crashes": {func(t *tape) { t.fault(history.Exit, "w") }, []string{"I11"}},
		"an orphan that goes on": {func(t *tape) {
			t.submit("a", history.Spec{Candidates: 100, Hits: 50, Attached: true})
			t.watch(0, nil, nil)
			op := t.begin("w", 0, 100)
			t.wait(10300 * time.Millisecond)
			op.End(history.Event{})
			t.watch(0, nil, nil)
		}, []string{"I12"}},
		"a commit after the lease was lost": {func(t *tape) {
			t.submit("a", big)
			t.claim("one", "1", 0, 50)
			t.wait(4 * time.Second)
			t.claim("two", "2", 0, 50)
			t.call(history.Commit, "one", history.Done)
		}, []string{"I13"}},
		"a renewal after the lease was lost": {func(t *tape) {
			t.submit("a", big)
			t.claim("one", "1", 0, 50)
			t.wait(4 * time.Second)
			t.claim("two", "2", 0, 50)
			t.call(history.Renew, "one", history.Held)
		}, []string{"I13"}},
		"an attempt that is told both": {func(t *tape) {
			t.submit("a", big)
			t.claim("one", "1", 0, 50)
			t.call(history.Renew, "one", history.Lost)
			t.call(history.Renew, "one", history.Held)
		}, []string{"I13"}},
		"a chunk that is committed twice": {func(t *tape) {
			t.submit("a", big)
			t.claim("one", "1", 0, 50)
			t.claim("two", "2", 0, 50)
			t.call(history.Commit, "one", history.Done)
			t.call(history.Commit, "two", history.Done)
		}, []string{"I13"}},
		"a ticket that is used twice": {func(t *tape) {
			t.submit("a", big)
			t.claim("one", "1", 0, 50)
			t.claim("two", "1", 50, 100)
		}, []string{"tickets"}},
		"an end that comes late": {func(t *tape) {
			t.submit("a", small)
			op := t.Begin(history.Event{Kind: history.Watch, Tenant: "t", Job: "a", After: 3})
			t.claim("one", "1", 0, 35)
			t.call(history.Commit, "one", history.Done)
			t.wait(time.Second)
			op.Note(history.Event{Sequence: 4, Seen: &usedUp})
		}, []string{"prompt"}},
		"two jobs of one query": {func(t *tape) {
			t.submit("a", big)
			spec := big
			spec.Query = query + "a"
			t.Begin(history.Event{Kind: history.Submit, Tenant: "t", Spec: &spec}).End(history.Event{Outcome: history.OK, Job: "b"})
			t.batch("w", 0, 10)
		}, []string{"history"}},
		"a batch of no job": {func(t *tape) { t.batch("w", 0, 10) }, []string{"history"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { check(t, test.record, test.want...) })
	}
}

// The files of two processes, one of which was killed while it wrote, are one history.
func TestFilesAreMerged(t *testing.T) {
	dir := t.TempDir()
	var names []string
	want := 0
	for _, process := range []string{"api", "worker"} {
		name := filepath.Join(dir, process)
		file, err := os.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		recorder := history.NewRecorder(process, file)
		for range 10 {
			op := recorder.Begin(history.Event{Kind: history.Get, Tenant: "t", Job: "j"})
			op.End(history.Event{Outcome: history.OK, Seen: &running})
			want += 2
		}
		if _, err := file.WriteString(`{"time":1,"pro`); err != nil {
			t.Fatal(err)
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
		recorder.Note(history.Event{Kind: history.Fault})
		if recorder.Err() == nil {
			t.Error("writing to a closed file is no error")
		}
	}
	events, err := history.Read(names...)
	if err != nil {
		t.Fatal(err)
	}
	if len(events) != want {
		t.Errorf("got %d events, want %d", len(events), want)
	}
	if !slices.IsSortedFunc(events, func(a, b history.Event) int { return int(a.Time - b.Time) }) {
		t.Error("they are not in the order of their times")
	}
	if events[0].Process != "api" || *events[1].Seen != running {
		t.Errorf("got %+v first", events[:2])
	}
	if err := os.WriteFile(names[0], []byte("not JSON\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := history.Read(names...); err == nil {
		t.Error("a malformed file is no error")
	}
}

// The default reference is the plain scan.
func TestDefaultReference(t *testing.T) {
	tape := newTape()
	spec := history.Spec{Query: `{"name":"abcdefghijkl","ideal":0,"interesting":9}`, Candidates: 40, Hits: 100}
	tape.Begin(history.Event{Kind: history.Submit, Tenant: "t", Spec: &spec}).End(history.Event{Outcome: history.OK, Job: "a"})
	tape.watch(0, []uint64{39}, nil)
	got := history.New(tape.Events()).Check(history.Options{})
	if len(got) != 1 || got[0].Promise != "I2" {
		t.Errorf("got %v, want a violation of I2", got)
	}
}
