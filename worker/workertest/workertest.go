// Package workertest shows tests what workers compute.
package workertest

import (
	"sync/atomic"

	"github.com/hashfinder/hashfinder/jobs/jobstest/history"
	"github.com/hashfinder/hashfinder/worker/kernel"
)

// Kernel does what another kernel does, under the same name, and records each call once for each query: its begin, its
// reports, and its end. A worker that takes it out of service goes on with one that records nothing.
type Kernel struct {
	kernel.Kernel
	recorder *history.Recorder
	process  string
	started  atomic.Bool
}

// Record returns a kernel that does what k does. process names the worker in the history; "" stands for the recorder's
// own. It records from Start on.
func Record(k kernel.Kernel, recorder *history.Recorder, process string) *Kernel {
	return &Kernel{Kernel: k, recorder: recorder, process: process}
}

// Start begins to record. It is to be called between worker.New, whose tests of the kernel are no jobs, and Run.
func (k *Kernel) Start() { k.started.Store(true) }

// Scan implements kernel.Kernel.
func (k *Kernel) Scan(queries []kernel.Query, lo, hi uint64, stop *atomic.Bool, report kernel.Report) uint64 {
	if !k.started.Load() {
		return k.Kernel.Scan(queries, lo, hi, stop, report)
	}
	ops := make([]*history.Op, len(queries))
	for i, q := range queries {
		ops[i] = k.recorder.Begin(history.Event{
			Kind: history.Batch, Process: k.process, Query: string(q.Encode()), Lo: lo, Hi: min(hi, q.End),
		})
	}
	// Deferred: a kernel that panics does not compute any more either.
	through := lo
	defer func() {
		for _, op := range ops {
			op.End(history.Event{Through: through})
		}
	}()
	k.Kernel.Scan(queries, lo, hi, stop, func(upto uint64, hits []kernel.Hit) {
		through = upto
		for _, op := range ops {
			op.Note(history.Event{Through: upto})
		}
		report(upto, hits)
	})
	return through
}
