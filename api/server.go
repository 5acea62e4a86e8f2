package api

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"github.com/hashfinder/hashfinder/jobs"
	"github.com/hashfinder/hashfinder/proto/hash_name"
	hashfinderv1 "github.com/hashfinder/hashfinder/proto/hashfinder/v1"
)

const (
	maxRequestSize = 256 << 10
	maxHeaderSize  = 16 << 10
	// maxStreams bounds the calls of one connection, not those of the server.
	maxStreams = 1024
	// readyPeriod is how often Redis is asked whether it answers, and how long it may take.
	readyPeriod = time.Second
	// sendPatience is how long a client may take until there is room for the next message of a stream.
	sendPatience = 30 * time.Second
)

// Config says what a Server serves. Service is required; every other field may be zero.
type Config struct {
	// Service does the work. It stays the caller's, who stops it after Shutdown.
	Service *jobs.Service
	// Logger takes what operators should know; nil stands for slog.Default().
	Logger *slog.Logger
	// Reflection offers gRPC server reflection.
	Reflection bool
	// Dashboard is mounted at /queues/ on HTTP, with the full path in its requests; nil: there is none.
	Dashboard http.Handler
	// HTTPHosts are the only names and addresses, without a port, by which HTTP may be asked. Empty: loopback's on a
	// loopback address, and any on another.
	HTTPHosts []string
	// MaxCallDuration bounds every call of Find and FindRange, which then ends with RESOURCE_EXHAUSTED; 0: no bound.
	MaxCallDuration time.Duration
	// CancelWait is how long CancelJob waits until nothing runs for the job any more; 0 stands for 5 s.
	CancelWait time.Duration
}

// Server serves gRPC and HTTP. It is safe for concurrent use. Make it with New and end it with Shutdown.
type Server struct {
	service    *jobs.Service
	log        *slog.Logger
	cancelWait time.Duration
	maxCall    time.Duration
	patience   time.Duration // sendPatience, but for tests

	grpc     *grpc.Server
	http     *http.Server
	health   *health.Server
	ready    atomic.Bool    // Redis answers, and Shutdown was not called
	handlers sync.WaitGroup // of streams, which may outlast their calls by a moment

	stopHealth context.CancelFunc
	healthDone sync.WaitGroup

	mu      sync.Mutex
	closing bool
	calls   map[*context.CancelCauseFunc]struct{} // ends each call that may take long
}

// New returns a server that is not serving yet. It asks cfg.Service at once, and every second until Shutdown,
// whether it is ready.
func New(cfg Config) *Server {
	s := &Server{
		service: cfg.Service, log: cfg.Logger, cancelWait: cfg.CancelWait, maxCall: cfg.MaxCallDuration,
		patience: sendPatience, health: health.NewServer(), calls: map[*context.CancelCauseFunc]struct{}{},
	}
	if s.log == nil {
		s.log = slog.Default()
	}
	if s.cancelWait <= 0 {
		s.cancelWait = 5 * time.Second
	}
	s.grpc = grpc.NewServer(
		grpc.ConnectionTimeout(10*time.Second),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.MaxRecvMsgSize(maxRequestSize),
		grpc.MaxHeaderListSize(maxHeaderSize),
		grpc.WaitForHandlers(true),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 20 * time.Second, PermitWithoutStream: true}),
		// No MaxConnectionAge: it ends a Find that takes longer than its grace.
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionIdle: 5 * time.Minute, Time: 30 * time.Second, Timeout: 10 * time.Second,
		}),
		grpc.UnaryInterceptor(s.interceptUnary),
		grpc.StreamInterceptor(s.interceptStream),
	)
	hash_name.RegisterHashFinderServer(s.grpc, &finder{service: s.service, log: s.log})
	hashfinderv1.RegisterJobServiceServer(s.grpc, &jobService{
		service: s.service, cancelWait: s.cancelWait, maxScanned: defaultMaxScanned, estimates: newEstimates(),
	})
	healthpb.RegisterHealthServer(s.grpc, s.health)
	if cfg.Reflection {
		reflection.Register(s.grpc)
	}
	s.http = newHTTP(s.log, cfg.Dashboard, cfg.HTTPHosts, s.ready.Load)

	s.setServing(false)
	ctx, cancel := context.WithCancel(context.Background())
	s.stopHealth = cancel
	s.healthDone.Go(func() { s.watchHealth(ctx) })
	return s
}

// ServeGRPC serves gRPC on lis, which it closes, until Shutdown; then it returns nil.
func (s *Server) ServeGRPC(lis net.Listener) error {
	if err := s.grpc.Serve(lis); !errors.Is(err, grpc.ErrServerStopped) {
		return err
	}
	return nil
}

// ServeHTTPOn serves HTTP on lis, which it closes, until Shutdown; then it returns nil.
func (s *Server) ServeHTTPOn(lis net.Listener) error {
	if err := s.http.Serve(lis); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Shutdown ends the server. It stops to accept, ends streams and searches with UNAVAILABLE so that clients go on
// elsewhere, and cancels the jobs of Find and FindRange. Other calls may finish until ctx ends; then they are cut off.
// When it returns, nothing of the server runs any more. It may be called more than once.
func (s *Server) Shutdown(ctx context.Context) {
	s.stopHealth()
	s.healthDone.Wait()
	s.setServing(false)
	s.health.Shutdown()

	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		s.grpc.GracefulStop()
	}()
	s.endCalls()
	if err := s.http.Shutdown(ctx); err != nil {
		_ = s.http.Close() // cut off
	}
	select {
	case <-stopped:
	case <-ctx.Done():
		s.grpc.Stop()
		<-stopped
	}
	s.handlers.Wait()
}

// endCalls ends the calls that may take long, those that are still to begin included.
func (s *Server) endCalls() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closing = true
	for cancel := range s.calls {
		(*cancel)(errShutdown)
	}
}

// endable returns a context that Shutdown ends. The caller must call release.
func (s *Server) endable(ctx context.Context) (_ context.Context, release func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		cancel(errShutdown)
	}
	s.calls[&cancel] = struct{}{}
	return ctx, func() {
		s.mu.Lock()
		delete(s.calls, &cancel)
		s.mu.Unlock()
		cancel(nil)
	}
}

// watchHealth keeps what the health services tell true until ctx ends.
func (s *Server) watchHealth(ctx context.Context) {
	ticker := time.NewTicker(readyPeriod)
	defer ticker.Stop()
	for first := true; ; first = false {
		asking, cancel := context.WithTimeout(ctx, readyPeriod)
		err := s.service.Ready(asking)
		cancel()
		if ctx.Err() != nil {
			return
		}
		if serving := err == nil; first || serving != s.ready.Load() {
			s.setServing(serving)
			if serving {
				s.log.Info("serving")
			} else {
				s.log.Warn("not serving: redis does not answer", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (s *Server) setServing(serving bool) {
	s.ready.Store(serving)
	status := healthpb.HealthCheckResponse_NOT_SERVING
	if serving {
		status = healthpb.HealthCheckResponse_SERVING
	}
	for _, name := range []string{"", hash_name.HashFinder_ServiceDesc.ServiceName, hashfinderv1.JobService_ServiceDesc.ServiceName} {
		s.health.SetServingStatus(name, status)
	}
}
