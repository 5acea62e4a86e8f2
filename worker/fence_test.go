package worker_test

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/hashfinder/hashfinder/jobs"
	"github.com/hashfinder/hashfinder/jobs/jobstest"
	"github.com/hashfinder/hashfinder/jobs/search"
	"github.com/hashfinder/hashfinder/worker"
	"github.com/hashfinder/hashfinder/worker/kernel"
)

// hesitant is the generic kernel. Its first two searches of "gopherhole" are the test's: the first one reports when it
// is told to, and both go on until they are stopped.
type hesitant struct {
	kernel.Generic
	calls    atomic.Int64
	stopped  atomic.Int64 // of those two
	report   chan []kernel.Hit
	reported sync.WaitGroup
}

func (*hesitant) Name() string { return "hesitant" }

func (h *hesitant) Scan(queries []kernel.Query, lo, hi uint64, stop *atomic.Bool, report kernel.Report) uint64 {
	if queries[0].Name != "gopherhole" {
		return h.Generic.Scan(queries, lo, hi, stop, report)
	}
	n := h.calls.Add(1)
	if n > 2 {
		return h.Generic.Scan(queries, lo, hi, stop, report)
	}
	for !stop.Load() {
		select {
		case hits := <-h.report:
			report(hits[len(hits)-1].Index+1, hits)
			h.reported.Done()
		default:
		}
	}
	h.stopped.Add(1)
	return lo
}

// What a worker has found when it fences itself is not handed over later: by then the chunk may be another's.
func TestFencedWorkerDiscardsItsBatch(t *testing.T) {
	server := miniredis.RunT(t)
	open := func() redis.UniversalClient { return jobstest.Open(t, "redis://"+server.Addr()) }
	service, _, _ := jobstest.NewService(t, open(), jobs.Limits{})
	query := search.Query{Name: "gopherhole", Interesting: 6}
	const candidates = 60_000
	want := reference(query, candidates)
	k := &hesitant{report: make(chan []kernel.Hit)}
	start(t, open(), worker.Config{Concurrency: 1, Kernel: k})
	job := submitAlone(t, service, query, jobs.Budget{Candidates: candidates})
	jobstest.Until(t, "it computes", func() bool { return k.calls.Load() == 1 })

	server.Close()
	k.reported.Add(1)
	k.report <- []kernel.Hit{{Query: 0, Hit: want[0]}}
	k.reported.Wait()
	jobstest.Until(t, "it has fenced itself", func() bool { return k.stopped.Load() == 1 })
	if err := server.Restart(); err != nil {
		t.Fatal(err)
	}
	jobstest.Until(t, "it computes again", func() bool { return k.calls.Load() == 2 })
	got, err := service.Get(t.Context(), jobs.DefaultTenant, job.ID)
	if err != nil || got.Hits != 0 || got.LastSequence != 0 || got.Progress.Searched != 0 {
		t.Errorf("got %+v, %v, want nothing of what it had found", got, err)
	}
	for _, key := range server.Keys() {
		if strings.HasSuffix(key, ":pending") {
			t.Errorf("%s holds hits of the fenced attempt", key)
		}
	}

	// Cut off once more, it is then searched by the kernel as it is.
	server.Close()
	jobstest.Until(t, "it has fenced itself again", func() bool { return k.stopped.Load() == 2 })
	if err := server.Restart(); err != nil {
		t.Fatal(err)
	}
	hits, _ := watch(t, service, job.ID)
	if diff := cmp.Diff(want, hits); diff != "" {
		t.Errorf("hits (-want +got):\n%s", diff)
	}
}

// A chunk that is claimed ahead is held and not searched while there is no room for it, and is given up with its job.
func TestChunkClaimedAheadWaits(t *testing.T) {
	server := miniredis.RunT(t)
	open := func() redis.UniversalClient { return jobstest.Open(t, "redis://"+server.Addr()) }
	service, _, _ := jobstest.NewService(t, open(), jobs.Limits{})
	k := &hesitant{report: make(chan []kernel.Hit)}
	start(t, open(), worker.Config{Concurrency: 1, Ahead: 1, Kernel: k})
	job := submit(t, service, search.Query{Name: "gopherhole"}, jobs.Budget{Candidates: 1 << 20})
	jobstest.Until(t, "a chunk is searched, and one more is held", func() bool {
		if k.calls.Load() == 0 {
			return false
		}
		for _, key := range server.Keys() {
			if strings.HasSuffix(key, ":leases") {
				held, err := server.ZMembers(key)
				return err == nil && len(held) == 2
			}
		}
		return false
	})
	if got := k.calls.Load(); got != 1 {
		t.Errorf("%d chunks are searched, want 1", got)
	}
	got, err := service.Cancel(t.Context(), jobs.DefaultTenant, job.ID, jobs.CancelledByClient, time.Minute)
	if err != nil || got.State != jobs.Cancelled {
		t.Errorf("got %s, %v, want it cancelled", got.State, err)
	}
}
