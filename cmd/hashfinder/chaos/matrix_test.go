//go:build chaos

package chaos

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/hashfinder/hashfinder/jobs/jobstest/history"
)

// unseen are the promises of which these histories show nothing: there is one tenant, who has few jobs, and the calls of
// the ledger are not recorded.
var unseen = []string{"I9", "I10", "I13", "tickets", "prompt"}

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
		m.rows = append(m.rows, &row{fault: f, result: result{violations: map[string]int{}}})
	}
	to := m.rows[at]
	to.runs++
	to.strikes += r.strikes
	to.jobs += r.jobs
	to.histories += r.histories
	to.resumed += r.resumed
	to.spent += r.spent
	to.stops = append(to.stops, r.stops...)
	to.reruns = append(to.reruns, r.reruns...)
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
	fmt.Fprintf(w, "fault\truns\tstrikes\thistories\t%s\n", strings.Join(promises, "\t"))
	var reruns []time.Duration
	spent, resumed := 0, int64(0)
	for _, r := range m.rows {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d", r.fault.name, r.runs, r.strikes, r.histories)
		for _, p := range promises {
			if slices.Contains(r.fault.waived, p) {
				fmt.Fprint(w, "\t-")
			} else {
				fmt.Fprintf(w, "\t%d", r.violations[p])
			}
		}
		fmt.Fprintln(w)
		spent += r.spent
		resumed += r.resumed
		reruns = append(reruns, r.reruns...)
	}
	_ = w.Flush() // a strings.Builder takes all
	fmt.Fprintf(&b, "\n%d jobs searched the whole of their budgets and no more; streams were resumed %d times\n", spent, resumed)
	w = tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "time\tfault\tn\tp50\tp99\tmax\n")
	line := func(what, fault string, all []time.Duration) {
		if len(all) > 0 {
			fmt.Fprintf(w, "%s\t%s\t%d\t%v\t%v\t%v\n", what, fault, len(all), quantile(all, 0.5), quantile(all, 0.99), quantile(all, 1))
		}
	}
	for _, r := range m.rows {
		line("cancel to the last batch's end", r.fault.name, r.stops)
	}
	for _, r := range m.rows {
		line("kill -9 until the chunk runs again", r.fault.name, r.reruns)
	}
	line("kill -9 until the chunk runs again", "all", reruns)
	_ = w.Flush()
	return b.String()
}

// quantile returns the smallest of the times that a part of them does not exceed.
func quantile(all []time.Duration, part float64) time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[max(0, int(math.Ceil(part*float64(len(sorted))))-1)].Round(100 * time.Microsecond)
}
