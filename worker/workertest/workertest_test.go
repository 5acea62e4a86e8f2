package workertest_test

import (
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/hashfinder/hashfinder/jobs/jobstest/history"
	"github.com/hashfinder/hashfinder/jobs/search"
	"github.com/hashfinder/hashfinder/worker/kernel"
	"github.com/hashfinder/hashfinder/worker/workertest"
)

// bomb reports once, and panics.
type bomb struct{ kernel.Generic }

func (bomb) Scan(_ []kernel.Query, lo, _ uint64, _ *atomic.Bool, report kernel.Report) uint64 {
	report(lo+1, nil)
	panic("a fault of the kernel")
}

func TestRecord(t *testing.T) {
	recorder := history.NewRecorder("worker", nil)
	query := search.Query{Name: "doctor"}
	pass := []kernel.Query{{Query: query, End: 1000}}
	nothing := func(uint64, []kernel.Hit) {}
	var stop atomic.Bool

	k := workertest.Record(kernel.Generic{}, recorder, "")
	if err := kernel.SelfTest(k); err != nil {
		t.Error(err)
	}
	k.Start()
	if through := k.Scan(pass, 10, 2000, &stop, nothing); through != 1000 {
		t.Errorf("searched through %d, want 1000", through)
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the kernel's panic is gone")
			}
		}()
		dying := workertest.Record(bomb{}, recorder, "other")
		dying.Start()
		dying.Scan(pass, 10, 2000, &stop, nothing)
	}()

	text := string(query.Encode())
	want := []history.Event{
		{Process: "worker", Op: 1, Kind: history.Batch, Phase: history.Begin, Query: text, Lo: 10, Hi: 1000},
		{Process: "worker", Op: 1, Kind: history.Batch, Phase: history.Note, Through: 1000},
		{Process: "worker", Op: 1, Kind: history.Batch, Phase: history.End, Through: 1000},
		{Process: "other", Op: 2, Kind: history.Batch, Phase: history.Begin, Query: text, Lo: 10, Hi: 1000},
		{Process: "other", Op: 2, Kind: history.Batch, Phase: history.Note, Through: 11},
		{Process: "other", Op: 2, Kind: history.Batch, Phase: history.End, Through: 11},
	}
	if diff := cmp.Diff(want, recorder.Events(), cmpopts.IgnoreFields(history.Event{}, "Time")); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}
