package worker_test

import (
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/hashfinder/hashfinder/jobs"
	"github.com/hashfinder/hashfinder/jobs/jobstest"
	"github.com/hashfinder/hashfinder/jobs/search"
	"github.com/hashfinder/hashfinder/worker"
	"github.com/hashfinder/hashfinder/worker/kernel"
)

// surveyor is the generic kernel, and notes what of the index space it was told to search.
type surveyor struct {
	kernel.Generic
	mu     sync.Mutex
	ranges [][2]uint64
}

func (*surveyor) Name() string { return "surveyor" }

func (s *surveyor) Scan(queries []kernel.Query, lo, hi uint64, stop *atomic.Bool, report kernel.Report) uint64 {
	if queries[0].Name == "gopherhole" { // not the self-test's
		s.mu.Lock()
		s.ranges = append(s.ranges, [2]uint64{lo, min(hi, queries[0].End)})
		s.mu.Unlock()
	}
	return s.Generic.Scan(queries, lo, hi, stop, report)
}

// take returns what was searched since the last call, sorted and with neighbours joined.
func (s *surveyor) take() [][2]uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	slices.SortFunc(s.ranges, func(a, b [2]uint64) int { return int(a[0]) - int(b[0]) })
	var joined [][2]uint64
	for _, r := range s.ranges {
		if n := len(joined); n > 0 && joined[n-1][1] == r[0] {
			joined[n-1][1] = r[1]
		} else {
			joined = append(joined, r)
		}
	}
	s.ranges = nil
	return joined
}

// A job of N candidates and its extensions search exactly [0, N), [N, 2N) and so on, and find what one scan finds.
func TestExtensionsSearchNothingTwice(t *testing.T) {
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		service, _, _ := jobstest.NewService(t, open(), jobs.Limits{})
		k := &surveyor{}
		start(t, open(), worker.Config{Concurrency: 2, Kernel: k})
		query := search.Query{Name: "gopherhole", Interesting: 6}
		for _, n := range []uint64{1, 256, 65_792, 65_793, 65_793 + 1<<16, 1 + rand.Uint64N(150_000), 1 + rand.Uint64N(150_000)} {
			job := submit(t, service, query, jobs.Budget{Candidates: n})
			var hits []search.Hit
			for turn := uint64(1); ; turn++ {
				var end jobs.Job
				hits, end = watch(t, service, job.ID)
				if end.State != jobs.Exhausted || end.Progress.Searched != turn*n {
					t.Fatalf("N = %d, turn %d: got %+v", n, turn, end)
				}
				searched := k.take()
				// On a machine that is slow enough, chunks are copied.
				if diff := cmp.Diff([][2]uint64{{(turn - 1) * n, turn * n}}, searched); diff != "" && end.Progress.Redone == 0 {
					t.Fatalf("N = %d, turn %d: searched (-want +got):\n%s", n, turn, diff)
				}
				if turn == 3 {
					break
				}
				var err error
				job, err = service.Extend(t.Context(), jobs.Extension{
					Tenant: jobs.DefaultTenant, Job: job.ID, Budget: jobs.Budget{Candidates: (turn + 1) * n},
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(reference(query, 3*n), hits); diff != "" {
				t.Errorf("N = %d: hits (-want +got):\n%s", n, diff)
			}
		}
	})
}
