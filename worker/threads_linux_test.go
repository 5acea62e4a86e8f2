package worker_test

import (
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/alicebob/miniredis/v2"

	"github.com/hashfinder/hashfinder/jobs"
	"github.com/hashfinder/hashfinder/jobs/jobstest"
	"github.com/hashfinder/hashfinder/jobs/search"
	"github.com/hashfinder/hashfinder/worker"
	"github.com/hashfinder/hashfinder/worker/kernel"
)

// wanderer lets Go's scheduler take many turns while it searches, and counts those after which it is on another thread.
type wanderer struct {
	kernel.Generic
	name       string
	moved      atomic.Int64
	processors atomic.Int64
}

func (k *wanderer) Scan(queries []kernel.Query, lo, hi uint64, stop *atomic.Bool, report kernel.Report) uint64 {
	if queries[0].Name == k.name { // and not the self-test
		k.processors.Store(int64(runtime.GOMAXPROCS(0)))
		thread := syscall.Gettid()
		for range 2000 {
			runtime.Gosched()
			if syscall.Gettid() != thread {
				k.moved.Add(1)
				thread = syscall.Gettid()
			}
		}
	}
	return k.Generic.Scan(queries, lo, hi, stop, report)
}

func TestThreads(t *testing.T) {
	address := "redis://" + miniredis.RunT(t).Addr()
	service, _, _ := jobstest.NewService(t, jobstest.Open(t, address), jobs.Limits{})
	k := &wanderer{name: "gopherhole"}
	const slots = 2
	before := runtime.GOMAXPROCS(0)
	stop := start(t, jobstest.Open(t, address), worker.Config{Concurrency: slots, Threads: true, Kernel: k})
	job, err := service.Submit(t.Context(), jobs.Request{Tenant: jobs.DefaultTenant, Spec: spec(search.Query{Name: k.name}, 1<<16)})
	if err != nil {
		t.Fatal(err)
	}
	if _, end := watch(t, service, job.ID); end.Reason != jobs.CandidatesExhausted {
		t.Errorf("the search ended for %s", end.Reason)
	}
	if moved := k.moved.Load(); moved != 0 {
		t.Errorf("a search went on on another thread %d times", moved)
	}
	if got, want := int(k.processors.Load()), before+2*slots; got != want {
		t.Errorf("%d processors while a chunk was searched, want %d", got, want)
	}
	stop()
	if after := runtime.GOMAXPROCS(0); after != before {
		t.Errorf("%d processors after the worker, want %d", after, before)
	}
}
