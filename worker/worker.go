package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/hashfinder/hashfinder/jobs"
	"github.com/hashfinder/hashfinder/jobs/search"
	"github.com/hashfinder/hashfinder/worker/kernel"
)

const (
	heartbeatPeriod = time.Second
	// chunkTime is what a chunk may take at most by the measured rate; as lengths are powers of two, it takes at
	// least half of it.
	chunkTime = 500 * time.Millisecond
)

// Config is what a worker needs.
type Config struct {
	// Redis serves asynq. It is the worker's alone, and the caller's to close after Run has returned.
	Redis redis.UniversalClient
	// Source brings tickets. Default: asynq on Redis, which is not used for anything else.
	Source Source
	Store  *jobs.Store
	Queue  jobs.Enqueuer
	// Queues are those that the worker serves. Default: all.
	Queues []string
	// Concurrency is the number of chunks that run at a time, for each queue. Default: GOMAXPROCS.
	Concurrency int
	// Ahead is the number of chunks, for each queue, that are claimed before there is room to search them, so that no
	// time passes between one and the next. Other workers cannot have them: it is for one that is alone.
	Ahead int
	// Kernel searches. Default: kernel.Best().
	Kernel kernel.Kernel
	// Logger gets what happens. Default: slog.Default().
	Logger *slog.Logger
}

// Source brings tickets to a worker.
type Source interface {
	// Serve calls handle for the tickets of a queue, for up to slots of them at a time, until ctx ends, and gives those
	// that are running some time to finish. handle returns a note of what it did, for people; after an error it gets
	// the ticket again.
	Serve(ctx context.Context, queue string, slots int, handle func(context.Context, jobs.Ticket) (note string, err error)) error
}

// Worker runs chunks. Create it with New, run it once with Run.
type Worker struct {
	cfg    Config
	log    *slog.Logger
	name   string
	serial atomic.Uint64 // of the last attempt
	orders atomic.Uint64 // that have come
	kernel atomic.Pointer[kernel.Kernel]
	rate   rate
	room   room
	turns  map[string]chan struct{} // by queue: a place for each chunk that is searched

	mu   sync.Mutex
	runs map[*run]struct{}
	all  sync.WaitGroup // handlers; the source abandons those that outlast its time to drain
}

// New returns a worker, after testing its kernel and measuring its rate. A kernel that fails its test is replaced by
// the generic one; if that fails too, New fails.
func New(cfg Config) (*Worker, error) {
	if cfg.Concurrency == 0 {
		cfg.Concurrency = runtime.GOMAXPROCS(0)
	}
	if cfg.Queues == nil {
		cfg.Queues = []string{jobs.QueueInteractive, jobs.QueueBatch}
	}
	if cfg.Concurrency < 0 {
		return nil, fmt.Errorf("worker: concurrency %d is negative", cfg.Concurrency)
	}
	if cfg.Kernel == nil {
		cfg.Kernel = kernel.Best()
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	w := newWorker(cfg)
	if err := kernel.SelfTest(cfg.Kernel); err != nil {
		w.log.Error("kernel failed its self-test", "kernel", cfg.Kernel.Name(), "error", err)
		cfg.Kernel = kernel.Generic{}
		if err := kernel.SelfTest(cfg.Kernel); err != nil {
			return nil, fmt.Errorf("worker: %w", err)
		}
		w.kernel.Store(&cfg.Kernel)
	}
	w.calibrate()
	return w, nil
}

// newWorker returns a worker that has not tested its kernel, for a complete config.
func newWorker(cfg Config) *Worker {
	name := fmt.Sprintf("%s%d/%s", hostPrefix(), os.Getpid(), uuid.NewString()[:8])
	w := &Worker{cfg: cfg, name: name, log: cfg.Logger.With("worker", name), runs: map[*run]struct{}{}, turns: map[string]chan struct{}{}}
	for _, queue := range cfg.Queues {
		w.turns[queue] = make(chan struct{}, cfg.Concurrency)
	}
	w.kernel.Store(&cfg.Kernel)
	return w
}

// hostPrefix begins the name of every worker of this host.
func hostPrefix() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return host + "/"
}

// Present tells whether a worker of this host is in the fleet: it has run, and said so within five seconds.
func Present(ctx context.Context, store *jobs.Store) (bool, error) {
	workers, err := store.Workers(ctx)
	return slices.ContainsFunc(workers, func(name string) bool { return strings.HasPrefix(name, hostPrefix()) }), err
}

// Run serves its queues until ctx ends; then it finishes the chunks that run, and returns when nothing of it is left.
func (w *Worker) Run(ctx context.Context) error {
	// What keeps leases alive must outlast the handlers.
	helping, stopHelping := context.WithCancel(context.WithoutCancel(ctx))
	var helpers sync.WaitGroup
	helpers.Go(func() { w.heartbeat(helping) })
	helpers.Go(func() { w.pollStops(helping) })
	helpers.Go(func() { w.cfg.Store.Listen(helping, w.order) })
	defer func() {
		stopHelping()
		helpers.Wait()
	}()

	source := w.cfg.Source
	if source == nil {
		source = &asynqSource{client: w.cfg.Redis, log: w.log}
	}
	w.log.Info("worker ready", "kernel", w.currentKernel().Name(), "slots", w.cfg.Concurrency, "rate", w.rate.get())
	serving, stopServing := context.WithCancel(ctx)
	defer stopServing()
	ended := make(chan error, len(w.cfg.Queues))
	for _, queue := range w.cfg.Queues {
		go func() { ended <- source.Serve(serving, queue, w.cfg.Concurrency+w.cfg.Ahead, w.handle) }()
	}
	var failed error
	for range w.cfg.Queues { // one that fails ends the other
		if err := <-ended; err != nil {
			failed = errors.Join(failed, fmt.Errorf("worker: %w", err))
			stopServing()
		}
	}
	w.haltAll(errDrained)
	w.all.Wait()
	return failed
}

// heartbeat counts the worker into the fleet while it runs.
func (w *Worker) heartbeat(ctx context.Context) {
	ticker := time.NewTicker(heartbeatPeriod)
	defer ticker.Stop()
	outage := outage{log: w.log, what: "heartbeat"}
	for {
		outage.note(ctx, w.cfg.Store.Heartbeat(ctx, w.name, w.cfg.Concurrency, w.rate.get()*float64(w.cfg.Concurrency)))
		select {
		case <-ctx.Done():
			// The fleet forgets it in five seconds anyway.
			leaving, cancel := context.WithTimeout(context.WithoutCancel(ctx), heartbeatPeriod)
			defer cancel()
			if err := w.cfg.Store.Heartbeat(leaving, w.name, 0, 0); err != nil {
				w.log.Warn("cannot leave the fleet", "error", err)
			}
			return
		case <-ticker.C:
		}
	}
}

func (w *Worker) currentKernel() kernel.Kernel { return *w.kernel.Load() }

// retire takes a kernel out of service, and returns the one that takes its place; false if there is none.
func (w *Worker) retire(bad kernel.Kernel, why error) (kernel.Kernel, bool) {
	var generic kernel.Kernel = kernel.Generic{}
	if bad.Name() == generic.Name() {
		return nil, false
	}
	w.log.Error("kernel taken out of service", "kernel", bad.Name(), "error", why)
	w.kernel.Store(&generic)
	return generic, true
}

// calibrate measures the kernel's rate, which sizes the first chunks.
func (w *Worker) calibrate() {
	const count = 1 << 18
	lo := search.LengthStart(4)
	query := kernel.Query{Query: search.Query{Name: "doctor"}, End: lo + count}
	var stop atomic.Bool
	begin := time.Now()
	w.currentKernel().Scan([]kernel.Query{query}, lo, lo+count, &stop, func(uint64, []kernel.Hit) {})
	w.rate.add(count, time.Since(begin))
}

// rate is the candidates a second that one slot searches, a moving mean.
type rate struct {
	mu   sync.Mutex
	mean float64
}

func (r *rate) add(count uint64, took time.Duration) {
	latest := float64(count) / max(took, time.Microsecond).Seconds()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mean == 0 {
		r.mean = latest
	}
	r.mean += (latest - r.mean) / 4
}

func (r *rate) get() float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mean
}

// chunk is the longest power of two that takes at most chunkTime.
func (r *rate) chunk() uint64 {
	n := uint64(max(1, r.get()*chunkTime.Seconds()))
	return 1 << (bits.Len64(n) - 1)
}

// errDrained stops chunks that outlast the time to drain.
var errDrained = errors.New("the worker shuts down")
