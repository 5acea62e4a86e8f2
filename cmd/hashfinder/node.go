package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/hashfinder/hashfinder/api"
	"github.com/hashfinder/hashfinder/jobs"
	"github.com/hashfinder/hashfinder/jobs/dashboard"
	"github.com/hashfinder/hashfinder/worker"
)

// Roles of a process.
const (
	roleAPI       = "api"
	roleWorker    = "worker"
	roleDashboard = "dashboard"
)

const (
	// redisRetry spaces the attempts to reach Redis at the start, and redisRemind the words about it.
	redisRetry  = 500 * time.Millisecond
	redisRemind = 5 * time.Second
	// drainTime is how long calls have to end at shutdown; those of Find and FindRange are ended at once.
	drainTime = 10 * time.Second
)

// nodeConfig says what a process does.
type nodeConfig struct {
	open              func() (redis.UniversalClient, error) // a new client, which the node closes
	roles             map[string]bool
	grpc              net.Listener // served with roleAPI; the node closes it
	http              net.Listener // served unless nil, with roleAPI or roleDashboard; the node closes it
	httpHosts         []string
	concurrency       int  // 0: GOMAXPROCS
	alone             bool // nobody else has this Redis
	private           bool // nor calls this service: all jobs are attached
	limits            jobs.Limits
	replicas          jobs.Replicas
	reflection        bool
	dashboardWritable bool
	logger            *slog.Logger
}

// runNode serves the roles of a process until ctx ends, and then drains: calls and streams are ended so that clients
// can resume them, and chunks that run are finished. It returns when nothing of it is left.
func runNode(ctx context.Context, cfg nodeConfig) (err error) {
	// Workers have a client of their own, so that their load does not make front ends wait for connections.
	client, err := cfg.open()
	if err != nil {
		return err
	}
	defer client.Close()
	workerClient, err := cfg.open()
	if err != nil {
		return err
	}
	defer workerClient.Close()

	store, queue := jobs.NewStore(client).WithReplicas(cfg.replicas), jobs.NewQueue(client)
	if err := joinStore(ctx, store, cfg.logger); err != nil {
		return err
	}
	relay := jobs.NewRelay(store, cfg.logger) //nolint:contextcheck // it ends by Close, after whoever uses it
	defer func() { err = errors.Join(err, relay.Close()) }()

	// The first part that fails takes the others down.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var parts sync.WaitGroup
	run := func(name string, part func() error) {
		parts.Go(func() {
			if err := part(); err != nil {
				cancel(fmt.Errorf("%s: %w", name, err))
			}
		})
	}
	run("reconciler", func() error {
		jobs.NewReconciler(store, queue, cfg.logger).Run(ctx)
		return nil
	})
	if cfg.roles[roleWorker] {
		var queues []string // all
		if cfg.private {
			queues = []string{jobs.QueueInteractive}
		}
		ahead := 0
		if cfg.alone {
			ahead = 1
		}
		run("worker", func() error {
			w, err := worker.New(worker.Config{
				Redis: workerClient, Store: jobs.NewStore(workerClient), Queue: jobs.NewQueue(workerClient),
				Queues: queues, Concurrency: cfg.concurrency, Ahead: ahead, Logger: cfg.logger,
			})
			if err != nil {
				return err
			}
			return w.Run(ctx)
		})
	}
	if cfg.roles[roleAPI] || cfg.roles[roleDashboard] {
		edge := api.Config{
			Service:    jobs.NewService(store, queue, relay, cfg.limits, cfg.logger),
			Logger:     cfg.logger,
			HTTPHosts:  cfg.httpHosts,
			Reflection: cfg.reflection,
		}
		if cfg.roles[roleDashboard] {
			edge.Dashboard = dashboard.New(client, !cfg.dashboardWritable) //nolint:contextcheck // asynqmon hands it none
		}
		server := api.New(edge) //nolint:contextcheck // it ends by Shutdown
		if cfg.roles[roleAPI] {
			run("gRPC", func() error { return server.ServeGRPC(cfg.grpc) })
		}
		if cfg.http != nil {
			run("HTTP", func() error { return server.ServeHTTPOn(cfg.http) })
		}
		run("shutdown", func() error {
			<-ctx.Done()
			ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
			defer cancel()
			server.Shutdown(ending)
			return nil
		})
	}
	<-ctx.Done()
	parts.Wait()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// joinStore returns when Redis answers, with an error if its data are another version's. Until then it says now and then
// what it waits for, rather than end and be started again and again.
func joinStore(ctx context.Context, store *jobs.Store, log *slog.Logger) error {
	var said time.Time
	for {
		try, cancel := context.WithTimeout(ctx, redisRemind)
		err := store.Join(try)
		cancel()
		switch {
		case err == nil:
			if !said.IsZero() {
				log.Info("the job store answers")
			}
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, jobs.ErrSchema):
			return err
		case time.Since(said) >= redisRemind:
			said = time.Now()
			log.Warn("waiting for the job store", "error", err)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(redisRetry):
		}
	}
}
