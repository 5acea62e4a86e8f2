package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"github.com/hashfinder/hashfinder/jobs"
)

// embeddedBuffer is what connections inside this process hold for each direction: a pipeline that is longer would wait for
// its own answers.
const embeddedBuffer = 1 << 18

// embeddedRedis is a Redis inside this process, so that nothing needs to be installed. It keeps nothing, and has no port,
// because sockets would take as much of the CPUs again.
type embeddedRedis struct {
	server   *miniredis.Miniredis
	listener *bufconn.Listener
	stop     chan struct{}
	done     sync.WaitGroup
}

func startEmbeddedRedis() (*embeddedRedis, error) {
	e := &embeddedRedis{server: miniredis.NewMiniRedis(), listener: bufconn.Listen(embeddedBuffer), stop: make(chan struct{})}
	conn, err := e.server.Dial() // which starts one without a port; its own connections have no buffer
	if err != nil {
		return nil, fmt.Errorf("start embedded Redis: %w", err)
	}
	conn.Close()
	e.done.Go(func() {
		for {
			conn, err := e.listener.Accept()
			if err != nil { // it is closed
				return
			}
			e.server.Server().ServeConn(conn)
		}
	})
	// Keys do not expire by themselves there.
	e.done.Go(func() {
		const period = time.Second
		ticker := time.NewTicker(period)
		defer ticker.Stop()
		for {
			select {
			case <-e.stop:
				return
			case <-ticker.C:
				e.server.FastForward(period)
			}
		}
	})
	return e, nil
}

func (e *embeddedRedis) open() (redis.UniversalClient, error) {
	return jobs.NewRedis(&redis.Options{
		Addr:   "embedded",
		Dialer: func(ctx context.Context, _, _ string) (net.Conn, error) { return e.listener.DialContext(ctx) },
	}), nil
}

func (e *embeddedRedis) close() {
	close(e.stop)
	e.listener.Close()
	e.done.Wait()
	e.server.Close()
}

// embeddedOptions are those of a service inside this process.
type embeddedOptions struct {
	workers int // chunks at a time; 0: one a core
	logger  *slog.Logger
}

// startEmbedded starts the whole service in this process, and returns a connection to it and what ends it. It is the
// service that serve runs; only the addresses differ.
func startEmbedded(ctx context.Context, opts embeddedOptions) (*grpc.ClientConn, func(), error) {
	store, err := startEmbeddedRedis()
	if err != nil {
		return nil, nil, err
	}
	listener := bufconn.Listen(embeddedBuffer)
	conn, err := grpc.NewClient("passthrough:///embedded",
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		store.close()
		return nil, nil, fmt.Errorf("connect to the embedded service: %w", err)
	}
	// It ends by what is returned, after the client has cancelled its job, not with ctx.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		err := runNode(ctx, nodeConfig{
			open: store.open, alone: true, private: true, roles: map[string]bool{roleAPI: true, roleWorker: true}, grpc: listener,
			concurrency: opts.workers, logger: opts.logger,
		})
		if err != nil {
			opts.logger.Error("embedded service", "error", err)
			listener.Close() // whoever waits for an answer gets an error
		}
	}()
	return conn, func() {
		conn.Close()
		cancel()
		<-ended
		store.close()
	}, nil
}
