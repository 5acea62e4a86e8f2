//go:build chaos

package chaos

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashfinder/hashfinder/jobs"
	"github.com/hashfinder/hashfinder/jobs/jobstest/history"
	"github.com/hashfinder/hashfinder/jobs/search"
)

const (
	// settleTime is how long jobs have to end after the last strike. An orphan takes ten seconds.
	settleTime = 60 * time.Second
	// runTime bounds a run without that.
	runTime = 5 * time.Minute
	// shown is the most violations that are shown of a run.
	shown = 5
)

// The columns of the matrix beside those of package history.
const (
	promiseAnswers = "errors" // no answer that no fault accounts for
	promisePoison  = "poison" // a job fails if, and only if, a chunk of it kills its workers
)

func TestChaos(t *testing.T) {
	if _, err := exec.LookPath("redis-server"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("redis-server is not installed; CI needs it")
		}
		t.Skip("redis-server is not installed")
	}
	which, err := regexp.Compile(*only)
	if err != nil {
		t.Fatalf("-fault: %v", err)
	}
	binary, err := program()
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(filepath.Dir(binary))
	var table matrix
	answers := &references{hits: map[search.Query][]jobs.Hit{}}
	t.Run("fault", func(t *testing.T) {
		for _, f := range faults() {
			if !which.MatchString(f.name) || f.long && *only == "" && *histories == 0 {
				continue
			}
			t.Run(f.name, func(t *testing.T) {
				t.Parallel()
				for total := 0; ; {
					r := run(t, &f, answers)
					table.add(&f, r)
					if err := table.write(); err != nil {
						t.Error(err)
					}
					if total += r.histories; total >= *histories || r.histories == 0 {
						return
					}
				}
			})
		}
	})
	t.Log("\n" + table.String())
}

// result is what came of a run.
type result struct {
	strikes, jobs, histories int
	violations               map[string]int             // by promise
	resumed                  int64                      // streams
	spent                    int                        // jobs that searched their whole budget and no more
	times                    map[string][]time.Duration // by what was timed
}

// run starts a system, has clients use it while a fault strikes, and checks what was recorded.
func run(t *testing.T, f *fault, answers *references) result {
	t.Helper()
	r := result{violations: map[string]int{}}
	ctx, cancel := context.WithTimeout(t.Context(), runTime)
	defer cancel()
	var mu sync.Mutex
	violate := func(promise, what string) {
		mu.Lock()
		defer mu.Unlock()
		if slices.Contains(f.waived, promise) {
			return
		}
		if r.violations[promise]++; r.violations[promise] <= shown {
			t.Errorf("%s: %s", promise, what)
		}
	}
	if f.with.older != nil { // to build it may take longer than a start
		if _, err := olderProgram(); err != nil {
			t.Fatal(err)
		}
	}
	// A subtest, so that each run of a fault leaves nothing to the next.
	t.Run("run", func(t *testing.T) {
		s, err := newSystem(ctx, t, f.with, func(what string) { violate(promiseAnswers, what) })
		if err != nil {
			t.Fatal(err)
		}
		l := &load{client: s.client, clients: cmp.Or(f.clients, *clients), ceiling: min(ceiling, f.with.ceiling), lives: f.lives, slow: f.readers}
		if l.lives == nil {
			l.lives = []life{toSpend, toCancel, toFind, toLeave, toSpend, toExpire, toSpend, toCancel}
		}
		var strikes []strike
		running, stopRunning := context.WithCancelCause(ctx)
		defer stopRunning(nil)
		stop := make(chan struct{})
		var striking sync.WaitGroup
		striking.Go(func() {
			defer close(stop)
			strikes, err = strikeAll(running, s, l, f)
			time.AfterFunc(settleTime, func() { stopRunning(fmt.Errorf("%v after the last strike", settleTime)) })
		})
		l.run(running, t, stop)
		striking.Wait()
		if err != nil {
			t.Fatalf("strike: %v", err)
		}
		settle(ctx, s, l)
		events, err := s.events()
		if err != nil {
			t.Fatal(err)
		}
		h := history.New(events)
		for _, v := range h.Check(f.options(answers)) {
			violate(v.Promise, v.String())
		}
		for _, job := range l.all {
			if job.end == nil {
				continue
			}
			deadly := job.life == toPoison && f.with.poison == poisonDie
			if failed := job.end.State == jobs.Failed; failed != deadly {
				violate(promisePoison, fmt.Sprintf("job %s of kind %d ended as %s, %s", job.id, job.life, job.end.State, job.end.Reason))
			}
			if job.end.Reason == jobs.CandidatesExhausted {
				r.spent++
			}
		}
		r.strikes, r.jobs, r.histories, r.resumed = len(strikes), len(l.all), l.struck(strikes), l.resumed.Load()
		r.times = map[string][]time.Duration{
			timedStop: h.StopTimes(), timedFence: h.FenceTimes(), timedOrphan: h.OrphanTimes(), timedRerun: h.Reruns(),
		}
		if t.Failed() || len(r.violations) > 0 {
			s.show(t)
			store(t, f, events)
		}
	})
	return r
}

// options are what the checkers are to demand.
func (f *fault) options(answers *references) history.Options {
	// The times are those that are promised. An orphan's begins anew when nobody has led the reconcilers for three
	// seconds, as it may be when the leader is killed on a loaded machine.
	return history.Options{
		Reference: answers.of, PartialBatches: f.partial,
		Stop: 250*time.Millisecond + *slack, CutOff: 2250*time.Millisecond + *slack, Late: 5*time.Second + *slack,
		Rerun: 5*time.Second + *slack, Orphan: cmp.Or(f.orphan, 10250*time.Millisecond) + 2**slack,
	}
}

// strikeAll strikes now and then, and returns when.
func strikeAll(ctx context.Context, s *system, l *load, f *fault) ([]strike, error) {
	var all []strike
	times := f.strikes
	if *histories == 0 {
		times = 1
	}
	for range times {
		if err := pause(ctx, between(300*time.Millisecond, 1200*time.Millisecond)); err != nil {
			return all, err
		}
		if err := until(ctx, func() bool { return l.busy() >= l.clients*3/4 }); err != nil {
			return all, fmt.Errorf("few jobs are under way: %w", err)
		}
		from := history.Monotonic()
		if err := f.strike(ctx, s); err != nil {
			return all, err
		}
		all = append(all, strike{from, history.Monotonic()})
	}
	return all, nil
}

// settle looks at each job once more, when all that had to end had the time to do so.
func settle(ctx context.Context, s *system, l *load) {
	s.recorder.Note(history.Event{Kind: history.Fault, Fault: history.Settled})
	for _, job := range l.all {
		for {
			if _, err := s.client.get(ctx, job.id); err == nil || !again(err) {
				break
			}
			if pause(ctx, retryPause) != nil {
				break
			}
		}
	}
}

// show logs the ends of the processes' logs.
func (s *system) show(t *testing.T) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(s.dir, "*.log"))
	if err != nil {
		t.Error(err)
	}
	const tail = 1500
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Error(err)
		}
		t.Logf("%s:\n%s", filepath.Base(file), text[max(0, len(text)-tail):])
	}
}

// store keeps a history that shows a violation.
func store(t *testing.T, f *fault, events []history.Event) {
	t.Helper()
	if *keep == "" {
		return
	}
	var all strings.Builder
	for i := range events {
		line, err := json.Marshal(&events[i])
		if err != nil {
			t.Fatal(err)
		}
		all.Write(append(line, '\n'))
	}
	name := filepath.Join(*keep, fmt.Sprintf("%s-%08x.history", strings.ReplaceAll(f.name, " ", "-"), rand.Uint32()))
	if err := os.WriteFile(name, []byte(all.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Logf("history kept in %s", name)
}
