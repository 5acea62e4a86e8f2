//go:build chaos

package chaos

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashfinder/hashfinder/jobs"
	"github.com/hashfinder/hashfinder/jobs/jobstest/history"
	"github.com/hashfinder/hashfinder/jobs/jobstest/tap"
	"github.com/hashfinder/hashfinder/jobs/search"
	"github.com/hashfinder/hashfinder/worker"
	"github.com/hashfinder/hashfinder/worker/kernel"
	"github.com/hashfinder/hashfinder/worker/workertest"
)

// The environment of the test program when it is a worker.
const (
	envWorker  = "HASHFINDER_CHAOS_WORKER"  // its name in the history
	envRedis   = "HASHFINDER_CHAOS_REDIS"   // URL
	envHistory = "HASHFINDER_CHAOS_HISTORY" // file to record to
	envPace    = "HASHFINDER_CHAOS_PACE"    // candidates a second of each kernel call; 0: as fast as it can
	envNap     = "HASHFINDER_CHAOS_NAP"     // how long such a kernel goes without looking whether it is to stop
	envSlots   = "HASHFINDER_CHAOS_SLOTS"   // of each of its two queues
	envPoison  = "HASHFINDER_CHAOS_POISON"  // what the kernel does to poisoned queries
)

// slots is how many a worker has for each of its two queues, more than there are cores for: its kernels sleep most of the
// time.
const slots = 4

// runWorker is what `hashfinder serve --roles worker` does, with a kernel that records.
func runWorker() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	file, err := os.OpenFile(os.Getenv(envHistory), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	pace, err := strconv.ParseFloat(os.Getenv(envPace), 64)
	if err != nil {
		return fmt.Errorf("%s: %w", envPace, err)
	}
	nap, err := time.ParseDuration(os.Getenv(envNap))
	if err != nil {
		return fmt.Errorf("%s: %w", envNap, err)
	}
	slots, err := strconv.Atoi(os.Getenv(envSlots))
	if err != nil {
		return fmt.Errorf("%s: %w", envSlots, err)
	}
	client, err := jobs.OpenRedis(os.Getenv(envRedis))
	if err != nil {
		return err
	}
	defer client.Close()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	recorder := history.NewRecorder(os.Getenv(envWorker), file)
	scripts, err := tap.Load(os.DirFS("../../../jobs/lua"))
	if err != nil {
		return err
	}
	client.AddHook(&tap.Hook{Scripts: scripts, Recorder: recorder})
	store, queue := jobs.NewStore(client), jobs.NewQueue(client)
	for store.Ping(ctx) != nil { // as the program waits; it fails slowly enough
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	k := workertest.Record(&poisoned{Kernel: &paced{Kernel: kernel.Best(), rate: pace, nap: nap}, how: os.Getenv(envPoison)}, recorder, "")
	w, err := worker.New(worker.Config{
		Redis: client, Store: store, Queue: queue, Concurrency: slots, Kernel: k, Logger: log,
	})
	if err != nil {
		return err
	}
	k.Start()
	var reconciling sync.WaitGroup
	defer reconciling.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	reconciling.Go(func() { jobs.NewReconciler(store, queue, log).Run(ctx) })
	if err := w.Run(ctx); err != nil {
		return err
	}
	return recorder.Err()
}

// paced slows a kernel down.
type paced struct {
	kernel.Kernel
	rate float64       // candidates a second; 0: as fast as it can
	nap  time.Duration // after which it looks whether it is to stop
}

func (p *paced) Scan(queries []kernel.Query, lo, hi uint64, stop *atomic.Bool, report kernel.Report) uint64 {
	if p.rate == 0 {
		return p.Kernel.Scan(queries, lo, hi, stop, report)
	}
	begin := time.Now()
	return p.Kernel.Scan(queries, lo, hi, stop, func(through uint64, hits []kernel.Hit) {
		report(through, hits)
		due := begin.Add(time.Duration(float64(through-lo) / p.rate * float64(time.Second)))
		for time.Now().Before(due) && !stop.Load() {
			time.Sleep(min(p.nap, time.Until(due)))
		}
	})
}

// What is done to poisoned queries.
const (
	poisonPanic = "panic"
	poisonLie   = "lie"
	poisonHang  = "hang" // once in a process, for ever
	poisonDie   = "die"
)

// poisonedAt is the index that a chunk must have to be poisoned.
const poisonedAt = 1 << 17

// poisonedIdeal marks the queries that are poisoned: no other has this distance.
const poisonedIdeal = 1

// poisoned fails in one chunk of poisoned queries.
type poisoned struct {
	kernel.Kernel
	how  string
	hung atomic.Bool
}

func (p *poisoned) Scan(queries []kernel.Query, lo, hi uint64, stop *atomic.Bool, report kernel.Report) uint64 {
	if p.how == "" || queries[0].Ideal != poisonedIdeal || lo > poisonedAt || hi <= poisonedAt {
		return p.Kernel.Scan(queries, lo, hi, stop, report)
	}
	switch p.how {
	case poisonPanic:
		panic("a fault of the kernel")
	case poisonLie:
		report(lo+1, []kernel.Hit{{Query: 0, Hit: search.Hit{Index: lo, Distance: 0}}})
		return p.Kernel.Scan(queries, lo, hi, stop, report)
	case poisonHang:
		if !p.hung.Swap(true) {
			select {} // it heeds nothing; the process is killed in the end
		}
	case poisonDie:
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // until it is dead
	}
	return p.Kernel.Scan(queries, lo, hi, stop, report)
}
