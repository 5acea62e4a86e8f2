//go:build chaos

package chaos

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/hashfinder/hashfinder/jobs/jobstest/history"
)

// unseen are the promises of which these histories show nothing: there is one tenant, who has few jobs, and how soon the
// end of a job comes depends on the machine.
var unseen = []string{"I9", "I10", "prompt"}

// What is timed.
const (
	timedStop   = "cancel to the end of the last batch"
	timedFence  = "worker cut off to the end of its last batch"
	timedOrphan = "last stream broken to the end of the last batch, of orphans"
	timedRerun  = "kill -9 until the chunk runs again"
)

// matrix is what came of all runs, by fault and promise.
type matrix struct {
	mu   sync.Mutex
	rows []*row
}

type row struct {
	fault *fault
	runs  int
	result
}

// add takes in a run.
func (m *matrix) add(f *fault, r result) {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := slices.IndexFunc(m.rows, func(row *row) bool { return row.fault.name == f.name })
	if at < 0 {
		at = len(m.rows)
		m.rows = append(m.rows, &row{fault: f, result: result{violations: map[string]int{}, times: map[string][]time.Duration{}}})
	}
	to := m.rows[at]
	to.runs++
	to.strikes += r.strikes
	to.jobs += r.jobs
	to.histories += r.histories
	to.resumed += r.resumed
	to.spent += r.spent
	for what, all := range r.times {
		to.times[what] = append(to.times[what], all...)
	}
	for promise, n := range r.violations {
		to.violations[promise] += n
	}
}

// String is the matrix as a table: the violations of each promise, "-" where a fault leaves no room for it. Below it are
// the times.
func (m *matrix) String() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	order := faults()
	slices.SortFunc(m.rows, func(a, b *row) int {
		at := func(r *row) int { return slices.IndexFunc(order, func(f fault) bool { return f.name == r.fault.name }) }
		return at(a) - at(b)
	})
	var promises []string
	for _, c := range history.Checkers() {
		if !slices.Contains(unseen, c.Promise) {
			promises = append(promises, c.Promise)
		}
	}
	promises = append(promises, promiseAnswers, promisePoison)
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "fault\truns\tstrikes\thistories\t%s\tspent\tresumed\n", strings.Join(promises, "\t"))
	total := result{times: map[string][]time.Duration{}}
	for _, r := range m.rows {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d", r.fault.name, r.runs, r.strikes, r.histories)
		for _, p := range promises {
			if slices.Contains(r.fault.waived, p) {
				fmt.Fprint(w, "\t-")
			} else {
				fmt.Fprintf(w, "\t%d", r.violations[p])
			}
		}
		fmt.Fprintf(w, "\t%d\t%d\n", r.spent, r.resumed)
		total.spent += r.spent
		total.resumed += r.resumed
		for what, all := range r.times {
			total.times[what] = append(total.times[what], all...)
		}
	}
	_ = w.Flush() // a strings.Builder takes all
	fmt.Fprintf(&b, "\n%d jobs searched the whole of their budgets and no more; streams were resumed %d times\n", total.spent, total.resumed)
	for _, what := range []string{timedStop, timedFence, timedOrphan, timedRerun} {
		if len(total.times[what]) == 0 {
			continue
		}
		fmt.Fprintf(&b, "\n%s\n", what)
		w = tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
		fmt.Fprintf(w, "fault\tn\tp50\tp99\tmax\n")
		line := func(fault string, all []time.Duration) {
			if len(all) > 0 {
				fmt.Fprintf(w, "%s\t%d\t%v\t%v\t%v\n", fault, len(all), quantile(all, 0.5), quantile(all, 0.99), quantile(all, 1))
			}
		}
		for _, r := range m.rows {
			line(r.fault.name, r.times[what])
		}
		line("all", total.times[what])
		_ = w.Flush()
	}
	return b.String()
}

// write writes the table to -table.
func (m *matrix) write() error {
	if *tables == "" {
		return nil
	}
	return os.WriteFile(*tables, []byte(m.String()), 0o600)
}

// quantile returns the smallest of the times that a part of them does not exceed.
func quantile(all []time.Duration, part float64) time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[max(0, int(math.Ceil(part*float64(len(sorted))))-1)].Round(100 * time.Microsecond)
}
