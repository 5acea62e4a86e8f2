package history

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
)

// Recorder takes the events of one process. It is safe for concurrent use; its times are strictly increasing, so that
// what it recorded first was first.
type Recorder struct {
	process string
	now     func() int64

	mu     sync.Mutex
	out    io.Writer
	events []Event
	last   int64
	op     uint64
	err    error
}

// NewRecorder returns a recorder for a process, whose name is its own: a process that is started again gets another. Each
// event is written to out as a line of JSON in one call of Write, so that a file keeps what was recorded when the
// process is killed; with out nil the events are kept in memory, for Events.
func NewRecorder(process string, out io.Writer) *Recorder {
	return &Recorder{process: process, now: Monotonic, out: out}
}

// NewRecorderWithClock returns a recorder in memory that reads another clock, in nanoseconds.
func NewRecorderWithClock(process string, now func() int64) *Recorder {
	return &Recorder{process: process, now: now}
}

// Op is an operation that has begun. End is called at most once; without it the operation's outcome stays unknown.
type Op struct {
	recorder *Recorder
	op       uint64
	kind     Kind
	process  string
}

// Begin records the begin of an operation. The fields that say when, where and which phase are filled in; Process only
// when it is empty, so that one recorder serves the parts of one process, or several processes in virtual time.
func (r *Recorder) Begin(e Event) *Op {
	e.Phase = Begin
	e = r.record(e, true)
	return &Op{recorder: r, op: e.Op, kind: e.Kind, process: e.Process}
}

// Note records an event that stands alone.
func (r *Recorder) Note(e Event) {
	e.Phase = Note
	r.record(e, false)
}

// Note records an event within the operation.
func (o *Op) Note(e Event) { o.record(Note, e) }

// End records the operation's outcome.
func (o *Op) End(e Event) { o.record(End, e) }

func (o *Op) record(phase Phase, e Event) {
	e.Kind, e.Phase, e.Op, e.Process = o.kind, phase, o.op, o.process
	o.recorder.record(e, false)
}

func (r *Recorder) record(e Event, begins bool) Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = max(r.now(), r.last+1)
	e.Time = r.last
	if e.Process == "" {
		e.Process = r.process
	}
	if begins {
		r.op++
		e.Op = r.op
	}
	if r.out == nil {
		r.events = append(r.events, e)
		return e
	}
	line, err := json.Marshal(e)
	if err == nil {
		_, err = r.out.Write(append(line, '\n'))
	}
	if r.err == nil && err != nil {
		r.err = fmt.Errorf("record %s: %w", e.Kind, err)
	}
	return e
}

// Events returns the events kept so far, in order.
func (r *Recorder) Events() []Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events)
}

// Err returns the first error of writing.
func (r *Recorder) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// Read merges the events of files, each of one process, in the order of their times. A last line that is cut short, by
// the death of its process, is left out.
func Read(files ...string) ([]Event, error) {
	var all []Event
	for _, name := range files {
		events, err := readFile(name)
		if err != nil {
			return nil, fmt.Errorf("read history %s: %w", name, err)
		}
		all = append(all, events...)
	}
	Sort(all)
	return all, nil
}

// Sort orders events by their times; those of one recorder keep their order.
func Sort(events []Event) {
	slices.SortStableFunc(events, func(a, b Event) int { return cmp.Compare(a.Time, b.Time) })
}

func readFile(name string) ([]Event, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var events []Event
	for in := bufio.NewReader(file); ; {
		line, err := in.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return events, nil // what is in line has no end, and so does not count
		}
		if err != nil {
			return nil, err
		}
		var e Event
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, fmt.Errorf("event %d: %w", len(events)+1, err)
		}
		events = append(events, e)
	}
}
