package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/hibiken/asynq"
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
	// drainTime is how long running chunks have at shutdown: more than twice chunkTime, because asynq gives a task
	// to another worker when it is over.
	drainTime = 5 * time.Second

	// Idle polling of the two queues. It costs about a tenth of a core at 5 ms, in proportion to the frequency, and
	// delays the first chunk of a search by as much.
	pollInteractive = 5 * time.Millisecond
	pollBatch       = 50 * time.Millisecond
)

// Config is what a worker needs.
type Config struct {
	// Redis serves asynq. It is the worker's alone, and the caller's to close after Run has returned.
	Redis redis.UniversalClient
	Store *jobs.Store
	Queue *jobs.Queue
	// Concurrency is the number of chunks that run at a time, for each of the two queues. Default: GOMAXPROCS.
	Concurrency int
	// Kernel searches. Default: kernel.Best().
	Kernel kernel.Kernel
	// Logger gets what happens. Default: slog.Default().
	Logger *slog.Logger
}

// Worker runs chunks. Create it with New, run it once with Run.
type Worker struct {
	cfg    Config
	log    *slog.Logger
	name   string
	serial atomic.Uint64 // of the last attempt
	kernel atomic.Pointer[kernel.Kernel]
	rate   rate

	mu   sync.Mutex
	runs map[*run]struct{}
	all  sync.WaitGroup // handlers; asynq abandons those that outlast its shutdown
}

// New returns a worker, after testing its kernel and measuring its rate. A kernel that fails its test is replaced by
// the generic one; if that fails too, New fails.
func New(cfg Config) (*Worker, error) {
	if cfg.Concurrency == 0 {
		cfg.Concurrency = runtime.GOMAXPROCS(0)
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
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	name := fmt.Sprintf("%s/%d/%s", host, os.Getpid(), uuid.NewString()[:8])
	w := &Worker{cfg: cfg, name: name, log: cfg.Logger.With("worker", name), runs: map[*run]struct{}{}}
	if err := kernel.SelfTest(cfg.Kernel); err != nil {
		w.log.Error("kernel failed its self-test", "kernel", cfg.Kernel.Name(), "error", err)
		cfg.Kernel = kernel.Generic{}
		if err := kernel.SelfTest(cfg.Kernel); err != nil {
			return nil, fmt.Errorf("worker: %w", err)
		}
	}
	w.kernel.Store(&cfg.Kernel)
	w.calibrate()
	return w, nil
}

// Run serves both queues until ctx ends; then it finishes the chunks that run, and returns when nothing of it is left.
func (w *Worker) Run(ctx context.Context) error {
	// What keeps leases alive must outlast the handlers.
	helping, stopHelping := context.WithCancel(context.WithoutCancel(ctx))
	var helpers sync.WaitGroup
	helpers.Go(func() { w.heartbeat(helping) })
	helpers.Go(func() { w.pollStops(helping) })
	helpers.Go(func() { w.cfg.Store.Listen(helping, w.poke) })
	defer func() {
		stopHelping()
		helpers.Wait()
	}()

	servers := []*asynq.Server{
		w.server(jobs.QueueInteractive, pollInteractive),
		w.server(jobs.QueueBatch, pollBatch),
	}
	var started []*asynq.Server
	var err error
	for _, server := range servers {
		if err = server.Start(asynq.HandlerFunc(w.handle)); err != nil {
			err = fmt.Errorf("worker: start asynq server: %w", err)
			break
		}
		started = append(started, server)
	}
	if err == nil {
		w.log.Info("worker ready", "kernel", w.currentKernel().Name(), "slots", w.cfg.Concurrency, "rate", w.rate.get())
		<-ctx.Done()
		w.log.Info("worker draining")
	}
	var stopping sync.WaitGroup
	for _, server := range started {
		stopping.Go(server.Shutdown)
	}
	stopping.Wait()
	w.haltAll(errDrained)
	w.all.Wait()
	return err
}

func (w *Worker) server(queue string, poll time.Duration) *asynq.Server {
	return asynq.NewServerFromRedisClient(w.cfg.Redis, asynq.Config{
		Concurrency:              w.cfg.Concurrency,
		Queues:                   map[string]int{queue: 1},
		TaskCheckInterval:        poll,
		DelayedTaskCheckInterval: time.Second,
		ShutdownTimeout:          drainTime,
		RetryDelayFunc:           func(int, error, *asynq.Task) time.Duration { return time.Second },
		Logger:                   asynqLogger{w.log.With("queue", queue)},
		LogLevel:                 asynq.WarnLevel,
	})
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
