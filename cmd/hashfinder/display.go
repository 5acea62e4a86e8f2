package main

import (
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"

	hashfinderv1 "github.com/hashfinder/hashfinder/proto/hashfinder/v1"
)

// display shows a search to the user: hits on standard output; progress, notes and the summary on standard error.
// It may be used by several goroutines.
type display struct {
	con  *console
	spec *hashfinderv1.JobSpec
	json bool
	// quiet leaves out progress, notes and the summary.
	quiet bool
	// events makes the JSON that of a log of events: hits have their sequence, and the ended job is the last line.
	events bool
	// progressLines adds progress to a JSON log of events.
	progressLines bool

	mu sync.Mutex
	// drawn is set while there is a progress line on the terminal.
	drawn bool
}

// relay shows the events of a job to its end, which it returns.
func (d *display) relay(events iter.Seq2[*hashfinderv1.WatchJobResponse, error]) (*hashfinderv1.Job, error) {
	defer d.clear()
	for event, err := range events {
		if err != nil {
			return nil, err
		}
		switch e := event.GetEvent().(type) {
		case *hashfinderv1.WatchJobResponse_Hit:
			err = d.hit(event.GetSequence(), e.Hit)
		case *hashfinderv1.WatchJobResponse_Progress:
			err = d.progress(e.Progress)
		case *hashfinderv1.WatchJobResponse_Extended:
			err = d.extended(event.GetSequence(), e.Extended)
		case *hashfinderv1.WatchJobResponse_End:
			return e.End, d.end(e.End)
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, errors.New("the events ended before the job")
}

func (d *display) hit(sequence int64, hit *hashfinderv1.Hit) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.erase()
	if !d.json {
		return d.con.printLine(hitLine(hit, d.spec.GetDesiredName(), d.con.color))
	}
	line, err := jsonLine(hit)
	if err != nil {
		return err
	}
	if d.events {
		// As protojson would have it: 64 bit integers are strings, because JavaScript's numbers have 53 bits.
		line = fmt.Sprintf(`%s,"sequence":"%d"}`, strings.TrimSuffix(line, "}"), sequence)
	}
	return d.con.printLine(line)
}

func (d *display) progress(p *hashfinderv1.Progress) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.progressLines && d.json {
		return d.con.printJSON(p)
	}
	if d.quiet {
		return nil
	}
	if line := progressLine(p, d.spec.GetBudget().GetMaxCandidates(), d.con.columns()); line != "" {
		d.drawn = true
		_, _ = fmt.Fprint(d.con.err, line) // nobody may be looking
	}
	return nil
}

// extended tells where the job goes on that another one was before.
func (d *display) extended(sequence int64, reason hashfinderv1.Job_EndReason) error {
	d.note("extended here: %s", reasonText(reason))
	if d.json && d.events {
		return d.con.printLine(fmt.Sprintf(`{"extended":"%s","sequence":"%d"}`, reason, sequence))
	}
	return nil
}

// note tells the user something on the way.
func (d *display) note(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.quiet {
		return
	}
	d.erase()
	d.con.note(format, args...)
}

func (d *display) end(job *hashfinderv1.Job) error {
	d.note("%s", summary(job))
	if d.json && d.events {
		return d.con.printJSON(job)
	}
	return nil
}

func (d *display) clear() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.erase()
}

// erase removes the progress line. d.mu is held.
func (d *display) erase() {
	if d.drawn {
		d.drawn = false
		_, _ = fmt.Fprint(d.con.err, eraseLine)
	}
}
