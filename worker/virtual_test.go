package worker_test

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/hashfinder/hashfinder/jobs"
	"github.com/hashfinder/hashfinder/jobs/jobstest/history"
	"github.com/hashfinder/hashfinder/jobs/jobstest/tap"
	"github.com/hashfinder/hashfinder/jobs/search"
	"github.com/hashfinder/hashfinder/worker/kernel"
)

// plan is what happens in a world, but for the chances that its seed decides.
type plan struct {
	Seed      uint64
	Fronts    int
	Workers   []workerPlan
	Jobs      []jobPlan
	Faults    []faultPlan
	Noise     float64 // the share of calls to Redis that something is wrong with
	QueueLoss float64 // the share of tickets that are lost, and of those that are repeated
}

type workerPlan struct {
	Slots int
	Rate  float64 // candidates a second of a slot
}

type jobPlan struct {
	At         time.Duration
	Query      int
	Candidates uint64
	Hits       uint64
	Duration   time.Duration
	Attached   bool
	Twice      bool // is submitted twice at once
	Cancel     time.Duration
	AtCommit   bool          // the cancel waits until a worker is about to commit
	Wait       time.Duration // of the cancel for its confirmation
	Watchers   []watcherPlan
	Gets       int
}

func (p *jobPlan) query() search.Query { return queries[p.Query] }

// watcherPlan is a watcher that comes, and comes back some times.
type watcherPlan struct {
	At, For time.Duration
	Again   int
}

type faultPlan struct {
	At, For time.Duration
	Kind    string
	Target  int
	// A worker is struck when it makes this call, before or after it; at once when there is none.
	On    string
	After bool
	// The call that it was struck at is on its way, and arrives so much later; or just after another worker claimed a
	// chunk, when the lease must have run out.
	Late     time.Duration
	Takeover bool
}

// queries are what jobs look for, one for each job of a plan: with an ideal hit near, far or never, and with few or
// many others. Beside each is its ideal hit.
var queries = []search.Query{
	{Name: "seed", Interesting: 1},     // 17090
	{Name: "d0g4", Interesting: 1},     // 137602
	{Name: "gopher", Interesting: 2},   // 260107
	{Name: "bear"},                     // 262689
	{Name: "hashfind", Interesting: 4}, // none
	{Name: "abcdefghijkl", Interesting: 8},
}

// space is more than any job of a plan may search.
const space = 330_000

// tables are the hits of the queries.
var tables = sync.OnceValue(func() map[string][]jobs.Hit {
	all := map[string][]jobs.Hit{}
	var stop atomic.Bool
	for _, q := range queries {
		var hits []jobs.Hit
		kernel.Best().Scan([]kernel.Query{{Query: q, End: space}}, 0, space, &stop, func(_ uint64, found []kernel.Hit) {
			for _, hit := range found {
				hits = append(hits, jobs.Hit{Index: hit.Index, Distance: hit.Distance, Ideal: hit.Distance <= q.Ideal})
			}
		})
		all[string(q.Encode())] = hits
	}
	return all
})

func table(query string) []jobs.Hit { return tables()[query] }

// between returns the hits in [lo, hi).
func between(hits []jobs.Hit, lo, hi uint64) []jobs.Hit {
	at := func(index uint64) int {
		n, _ := slices.BinarySearchFunc(hits, index, func(h jobs.Hit, index uint64) int { return cmp.Compare(h.Index, index) })
		return n
	}
	return hits[at(lo):at(hi)]
}

// tabled is the reference of the checkers.
func tabled(query string, end uint64, most int) ([]jobs.Hit, error) {
	hits := between(table(query), 0, end)
	return hits[:min(most, len(hits))], nil
}

// below draws a number below n, all about as likely; rapid by itself prefers small ones. It is a multiple of n/4096.
func below(n uint64) *rapid.Generator[uint64] {
	digit := rapid.SampledFrom([]uint64{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15})
	return rapid.Custom(func(t *rapid.T) uint64 {
		return n * (256*digit.Draw(t, "high") + 16*digit.Draw(t, "middle") + digit.Draw(t, "low")) / 4096
	})
}

// span draws a time.
func span(from, to time.Duration) *rapid.Generator[time.Duration] {
	return rapid.Map(below(uint64(to-from)), func(n uint64) time.Duration { return from + time.Duration(n) })
}

// maybe is a value, or as often none.
func maybe[T any](g *rapid.Generator[T]) *rapid.Generator[T] {
	var none T
	return rapid.OneOf(rapid.Just(none), g)
}

var drawWorker = rapid.Custom(func(t *rapid.T) workerPlan {
	return workerPlan{
		Slots: rapid.IntRange(1, 2).Draw(t, "slots"),
		Rate:  rapid.SampledFrom([]float64{30_000, 100_000, 300_000, 1_000_000}).Draw(t, "rate"),
	}
})

var drawWatcher = rapid.Custom(func(t *rapid.T) watcherPlan {
	return watcherPlan{
		At: span(0, 3*time.Second).Draw(t, "at"), For: span(0, 8*time.Second).Draw(t, "for"), Again: rapid.IntRange(0, 3).Draw(t, "again"),
	}
})

var drawFault = rapid.Custom(func(t *rapid.T) faultPlan {
	return faultPlan{
		Kind: rapid.SampledFrom([]string{
			"kill worker", "stall worker", "cut worker", "kill worker", "stall worker", "cut worker", "kill workers", "kill workers", "kill workers", "drain worker",
			"kill front", "stall front", "cut front", "outage", "mute", "disconnect",
		}).Draw(t, "kind"),
		At: span(0, 1500*time.Millisecond).Draw(t, "at"), Target: rapid.IntRange(0, 2).Draw(t, "target"),
		For:   rapid.OneOf(span(0, 2*time.Second), span(2*time.Second, 6*time.Second), span(6*time.Second, 40*time.Second)).Draw(t, "for"),
		On:    maybe(rapid.SampledFrom([]string{"claim", "flush", "renew", "commit", "renew", "commit", "release"})).Draw(t, "on"),
		After: rapid.Bool().Draw(t, "after"),
		Late:  maybe(span(0, 8*time.Second)).Draw(t, "late"), Takeover: rapid.Bool().Draw(t, "takeover"),
	}
})

var drawJob = rapid.Custom(func(t *rapid.T) jobPlan {
	p := jobPlan{
		At: span(0, time.Second).Draw(t, "at"),
		Candidates: rapid.OneOf(
			rapid.Map(below(space-1), func(n uint64) uint64 { return n + 1 }),
			rapid.Map(below(space-1), func(n uint64) uint64 { return n + 1 }),
			rapid.SampledFrom([]uint64{1, 2, 65792, 65793, 65794, 131328, 131329, 131330, 196865, 262401, space}), // the grid's
		).Draw(t, "candidates"),
		Hits:     rapid.OneOf(rapid.Just(uint64(100_000)), rapid.Just(uint64(100_000)), rapid.Just(uint64(100_000)), rapid.Uint64Range(1, 30)).Draw(t, "hits"),
		Duration: maybe(maybe(span(time.Millisecond, 5*time.Second))).Draw(t, "duration"),
		Attached: rapid.Bool().Draw(t, "attached"),
		Twice:    maybe(rapid.Just(true)).Draw(t, "twice"),
		Cancel:   maybe(maybe(span(time.Millisecond, 4*time.Second))).Draw(t, "cancel"),
		AtCommit: rapid.Bool().Draw(t, "at commit"),
		Wait:     maybe(span(0, 5*time.Second)).Draw(t, "wait"),
		Watchers: rapid.SliceOfN(drawWatcher, 0, 2).Draw(t, "watchers"),
		Gets:     rapid.IntRange(0, 4).Draw(t, "gets"),
	}
	return p
})

var drawPlan = rapid.Custom(func(t *rapid.T) plan {
	p := plan{
		Seed:      rapid.Uint64().Draw(t, "seed"),
		Fronts:    rapid.IntRange(1, 2).Draw(t, "fronts"),
		Workers:   rapid.SliceOfN(drawWorker, 1, 3).Draw(t, "workers"),
		Jobs:      rapid.SliceOfN(drawJob, 1, 3).Draw(t, "jobs"),
		Faults:    rapid.SliceOfN(drawFault, 0, 3).Draw(t, "faults"),
		Noise:     rapid.SampledFrom([]float64{0, 0, 0.01, 0.05}).Draw(t, "noise"),
		QueueLoss: rapid.SampledFrom([]float64{0, 0, 0.1, 0.3}).Draw(t, "queue loss"),
	}
	first := rapid.IntRange(0, len(queries)-1).Draw(t, "first query")
	for i := range p.Jobs { // each another
		p.Jobs[i].Query = (first + i) % len(queries)
	}
	return p
})

// load reads the scripts, with a bug or none.
func load(t *testing.T, bugs ...tap.Bug) *tap.Scripts {
	t.Helper()
	scripts, err := tap.Load(os.DirFS("../jobs/lua"), bugs...)
	if err != nil {
		t.Fatal(err)
	}
	return scripts
}

// play plays a plan, and returns the promises that were broken.
func play(t *testing.T, p plan, scripts *tap.Scripts) []history.Violation {
	t.Helper()
	var events []history.Event
	synctest.Test(t, func(t *testing.T) { events = virtualRun(t, p, scripts) })
	return history.New(events).Check(history.Options{Reference: tabled, Prompt: 100 * time.Millisecond})
}

// Whatever dies, stops, is lost or repeated: all promises hold.
//
// Each round plays as many schedules as -rapid.checks says. Without that flag they are always the same ones, so that it
// is a change that breaks them. A long run, of some hours, draws its own:
//
//	GOMAXPROCS=1 GOGC=800 go test ./worker -run 'TestVirtualHistories/0$' -rapid.checks 2500 -timeout 0
func TestVirtualHistories(t *testing.T) {
	tables() // not in a bubble
	scripts := load(t)
	for round := range virtualRounds {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			if checks, seed := flag.Lookup("rapid.checks"), flag.Lookup("rapid.seed"); checks.Value.String() == checks.DefValue &&
				seed.Value.String() == seed.DefValue {
				set := func(to string) {
					if err := seed.Value.Set(to); err != nil {
						t.Fatal(err)
					}
				}
				set(strconv.Itoa(round + 1))
				defer set(seed.DefValue)
			}
			rapid.Check(t, func(rt *rapid.T) {
				p := drawPlan.Draw(rt, "plan")
				if found := play(t, p, scripts); len(found) > 0 {
					var text strings.Builder
					for _, v := range found {
						fmt.Fprintln(&text, v)
					}
					rt.Fatalf("%d violations:\n%s", len(found), &text)
				}
			})
		})
	}
}

// A search that somebody waits for ends with them, whenever they leave: the grace of ten seconds includes the time until
// the reconciler comes by.
func TestVirtualOrphansStopInTime(t *testing.T) {
	tables()
	scripts := load(t)
	for i := range 10 {
		p := plan{
			Seed: uint64(i), Fronts: 1, Workers: []workerPlan{{Slots: 1, Rate: 20_000}},
			Jobs: []jobPlan{{
				Query: 5, Candidates: space, Hits: 100_000, Attached: true, Watchers: []watcherPlan{{For: time.Duration(i) * 50 * time.Millisecond}},
			}},
		}
		for _, v := range play(t, p, scripts) {
			t.Errorf("left after %v: %v", p.Jobs[0].Watchers[0].For, v)
		}
	}
}

// A cancel stops kernels by its message or its key: what a renewal answers is not waited for.
func TestVirtualCancelNeedsNoRenewal(t *testing.T) {
	tables()
	scripts := load(t, tap.Bug{Name: "deaf renewals", Edits: []tap.Edit{
		{Script: "renew", Old: `if stop == 0 then return {'stop'} end`, New: `if stop == 0 then return {'held', '0'} end`},
	}})
	for i := range 10 {
		p := plan{
			Seed: uint64(i), Fronts: 1, Workers: []workerPlan{{Slots: 1, Rate: 20_000}}, // three seconds a chunk
			Jobs: []jobPlan{{Query: 3, Candidates: space, Hits: 100_000, Cancel: time.Duration(i+1) * 150 * time.Millisecond, Wait: time.Second}},
		}
		for _, v := range play(t, p, scripts) {
			t.Errorf("cancelled after %v: %v", p.Jobs[0].Cancel, v)
		}
	}
}
