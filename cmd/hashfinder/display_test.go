package main

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	hashfinderv1 "github.com/hashfinder/hashfinder/proto/hashfinder/v1"
)

var (
	early = &hashfinderv1.Progress{CandidatesSearched: 0}
	later = &hashfinderv1.Progress{
		CandidatesSearched: 1 << 35, CandidatesPerSecond: 3.1e8, ProbabilityFound: 0.123,
		EtaP50: durationpb.New(190 * time.Second),
	}
	done = &hashfinderv1.Progress{CandidatesSearched: 1 << 36, CandidatesPerSecond: 3.1e8, ProbabilityFound: 1}
)

// A progress line that is as wide as the terminal, or wider, would leave its remains behind.
func TestProgressLineWidth(t *testing.T) {
	control := regexp.MustCompile(`\x1b\[[0-9;]*[A-Za-z]|\r`)
	var lines strings.Builder
	for columns := range 200 {
		for _, p := range []*hashfinderv1.Progress{early, later, done} {
			line := control.ReplaceAllString(progressLine(p, 1<<36, columns), "")
			if width := utf8.RuneCountInString(line); width > max(columns-1, 0) {
				t.Errorf("%d columns: the line has %d: %q", columns, width, line)
			}
			if columns%20 == 0 || columns == 1 {
				fmt.Fprintf(&lines, "%3d |%s\n", columns, line)
			}
		}
	}
	golden(t, "progress.txt", lines.String())
}

func TestProgressLineShowsNearerEnd(t *testing.T) {
	for _, test := range []struct {
		name          string
		p             *hashfinderv1.Progress
		maxCandidates int64
		want          string
	}{
		{"budget", later, 1 << 36, " 50% "},
		{"probability", later, 1 << 40, " 12% "},
		{"no budget", later, 0, " 12% "},
		{"all", done, 1 << 36, " 99% "},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := progressLine(test.p, test.maxCandidates, 80); !strings.Contains(got, test.want) {
				t.Errorf("got %q, want %q in it", got, test.want)
			}
		})
	}
}

// terminal is a terminal that both streams write to, as it then looks.
type terminal struct{ bytes.Buffer }

func (s *terminal) lines() string {
	var b strings.Builder
	for line := range strings.Lines(s.String()) {
		if _, after, erased := cutLast(line, eraseLine); erased {
			line = after
		}
		b.WriteString(line)
	}
	return b.String()
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

func play(events ...*hashfinderv1.WatchJobResponse) func(func(*hashfinderv1.WatchJobResponse, error) bool) {
	return func(yield func(*hashfinderv1.WatchJobResponse, error) bool) {
		for _, event := range events {
			if !yield(event, nil) {
				return
			}
		}
	}
}

func progressEvent(p *hashfinderv1.Progress) *hashfinderv1.WatchJobResponse {
	return &hashfinderv1.WatchJobResponse{Event: &hashfinderv1.WatchJobResponse_Progress{Progress: p}}
}

func hitEvent(sequence, index int64) *hashfinderv1.WatchJobResponse {
	return &hashfinderv1.WatchJobResponse{
		Sequence: sequence, Event: &hashfinderv1.WatchJobResponse_Hit{Hit: fakeHit(index)},
	}
}

func endEvent(sequence int64) *hashfinderv1.WatchJobResponse {
	return &hashfinderv1.WatchJobResponse{Sequence: sequence, Event: &hashfinderv1.WatchJobResponse_End{
		End: &hashfinderv1.Job{State: hashfinderv1.Job_SUCCEEDED, Progress: done},
	}}
}

func TestDisplayClearsProgress(t *testing.T) {
	const (
		hit = "pO0G          Sp0dOCTORuYUE/jHhX6sk5+8rvA=   0  10874375\n"
		end = "hashfinder: succeeded, searched 68719476736 candidates\n"
	)
	for _, test := range []struct {
		name    string
		columns int
		quiet   bool
		want    string
	}{
		{"wide", 120, false, hit + end},
		{"narrow", 30, false, hit + end},
		{"no terminal", 0, false, hit + end},
		{"quiet", 120, true, hit},
	} {
		t.Run(test.name, func(t *testing.T) {
			var screen terminal
			d := &display{
				con:   &console{out: &screen, err: &screen, columns: func() int { return test.columns }},
				spec:  &hashfinderv1.JobSpec{Budget: &hashfinderv1.Budget{MaxCandidates: proto.Int64(1 << 36)}},
				quiet: test.quiet,
			}
			job, err := d.relay(play(
				progressEvent(early), progressEvent(later), hitEvent(1, doctor), progressEvent(done), endEvent(2)))
			if err != nil || job.GetState() != hashfinderv1.Job_SUCCEEDED {
				t.Fatalf("relay returned %v, %v", job, err)
			}
			if got := screen.lines(); got != test.want {
				t.Errorf("the terminal shows %q, want %q", got, test.want)
			}
			if drawn, want := strings.Contains(screen.String(), "%"), test.columns > 0 && !test.quiet; drawn != want {
				t.Errorf("progress was drawn: %v, want %v", drawn, want)
			}
		})
	}
}
