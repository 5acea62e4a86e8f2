package api

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/hashfinder/hashfinder/jobs"
	"github.com/hashfinder/hashfinder/proto/hash_name"
	hashfinderv1 "github.com/hashfinder/hashfinder/proto/hashfinder/v1"
)

func TestRedisAway(t *testing.T) {
	e := newEnv(t, jobs.Limits{}, nil)
	ctx := t.Context()
	name := e.submit(t, never, 0, 1000, nil).GetName()
	stream, err := e.jobs.WatchJob(ctx, &hashfinderv1.WatchJobRequest{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	e.redis.SetError("LOADING it is away")
	for method, call := range map[string]func() error{
		"Find":      func() error { return e.call(ctx, "Find") },
		"FindRange": func() error { return e.call(ctx, "FindRange") },
		"SubmitJob": func() error {
			_, err := e.jobs.SubmitJob(ctx, &hashfinderv1.SubmitJobRequest{
				Job: &hashfinderv1.Job{Spec: &hashfinderv1.JobSpec{DesiredName: never}},
			})
			return err
		},
		"GetJob": func() error {
			_, err := e.jobs.GetJob(ctx, &hashfinderv1.GetJobRequest{Name: name})
			return err
		},
		"ListJobs": func() error {
			_, err := e.jobs.ListJobs(ctx, &hashfinderv1.ListJobsRequest{})
			return err
		},
		"WatchJob": func() error {
			_, err := e.watch(t, name, 0)
			return err
		},
		"CancelJob": func() error {
			_, err := e.jobs.CancelJob(ctx, &hashfinderv1.CancelJobRequest{Name: name})
			return err
		},
		"PauseJob": func() error {
			_, err := e.jobs.PauseJob(ctx, &hashfinderv1.PauseJobRequest{Name: name})
			return err
		},
		"ResumeJob": func() error {
			_, err := e.jobs.ResumeJob(ctx, &hashfinderv1.ResumeJobRequest{Name: name})
			return err
		},
		"ExtendJob": func() error {
			_, err := e.jobs.ExtendJob(ctx, &hashfinderv1.ExtendJobRequest{Name: name})
			return err
		},
		"DeleteJob": func() error {
			_, err := e.jobs.DeleteJob(ctx, &hashfinderv1.DeleteJobRequest{Name: name})
			return err
		},
	} {
		t.Run(method, func(t *testing.T) { wantError(t, call(), codes.Unavailable, reasonUnavailable) })
	}
	e.redis.SetError("")
	// The stream that was open goes on.
	if _, err := e.jobs.CancelJob(ctx, &hashfinderv1.CancelJobRequest{Name: name}); err != nil {
		t.Fatal(err)
	}
	rest, err := received(stream)
	if err != nil || len(rest) == 0 || rest[len(rest)-1].GetEnd().GetState() != hashfinderv1.Job_CANCELLED {
		t.Errorf("got %v (%v), want the end", rest, err)
	}
}

func TestHealth(t *testing.T) {
	e := newEnv(t, jobs.Limits{}, nil)
	web := httptest.NewServer(e.server.http.Handler)
	defer web.Close()
	client := healthpb.NewHealthClient(e.conn)
	is := func(want healthpb.HealthCheckResponse_ServingStatus, code int) {
		t.Helper()
		for _, service := range []string{"", "hash_name.HashFinder", "hashfinder.v1.JobService"} {
			eventually(t, service+" is "+want.String(), func() bool {
				got, err := client.Check(t.Context(), &healthpb.HealthCheckRequest{Service: service})
				return err == nil && got.GetStatus() == want
			})
		}
		if got, body := get(t, web, "/healthz"); got != code || body == "" {
			t.Errorf("/healthz: got %d %q, want %d", got, body, code)
		}
	}
	is(healthpb.HealthCheckResponse_SERVING, http.StatusOK)
	e.redis.SetError("LOADING it is away")
	is(healthpb.HealthCheckResponse_NOT_SERVING, http.StatusServiceUnavailable)
	e.redis.SetError("")
	is(healthpb.HealthCheckResponse_SERVING, http.StatusOK)

	watch, err := client.Watch(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := watch.Recv(); err != nil || got.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Fatalf("got %v (%v)", got, err)
	}
	e.server.Shutdown(t.Context())
	for err = nil; err == nil; {
		_, err = watch.Recv()
	}
	if got, _ := get(t, web, "/healthz"); got != http.StatusServiceUnavailable {
		t.Errorf("/healthz after the shutdown: got %d", got)
	}
}

func get(t *testing.T, web *httptest.Server, path string) (code int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, web.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := web.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.Header.Get("X-Content-Type-Options") != "nosniff" || !strings.Contains(resp.Header.Get("Content-Security-Policy"), "frame-ancestors 'none'") {
		t.Errorf("%s: headers %v", path, resp.Header)
	}
	return resp.StatusCode, string(text)
}

func TestHTTP(t *testing.T) {
	dashboard := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/queues/") {
			http.NotFound(w, r)
			return
		}
		writeText(w, "dashboard")
	})
	for _, test := range []struct {
		name, method, host, path string
		dashboard                http.Handler
		header                   http.Header
		code                     int
		body                     string
	}{
		{"root", "GET", "localhost:8080", "/", nil, nil, 200, "gRPC"},
		{"root of a dashboard", "GET", "localhost", "/", dashboard, nil, 302, "/queues/"},
		{"dashboard", "GET", "127.0.0.1", "/queues/api/x", dashboard, nil, 200, "dashboard"},
		{"dashboard by IPv6", "GET", "[::1]:80", "/queues/", dashboard, nil, 200, "dashboard"},
		{"no dashboard", "GET", "localhost", "/queues/", nil, nil, 404, ""},
		{"another path", "GET", "localhost", "/x", dashboard, nil, 404, ""},
		{"another method", "POST", "localhost", "/healthz", dashboard, nil, 405, ""},
		{"rebound name", "GET", "evil.example:8080", "/queues/", dashboard, nil, 403, ""},
		{"rebound address", "GET", "192.0.2.1", "/healthz", dashboard, nil, 403, ""},
		{"no host", "GET", "", "/healthz", dashboard, nil, 403, ""},
		{"post of another origin", "POST", "localhost", "/queues/x", dashboard, http.Header{"Sec-Fetch-Site": {"cross-site"}}, 403, ""},
		{"post of the same origin", "POST", "localhost", "/queues/x", dashboard, http.Header{"Sec-Fetch-Site": {"same-origin"}}, 200, "dashboard"},
	} {
		t.Run(test.name, func(t *testing.T) {
			server := newHTTP(slog.New(slog.DiscardHandler), test.dashboard, nil, func() bool { return true })
			ctx := context.WithValue(t.Context(), loopbackKey{}, true)
			req := httptest.NewRequestWithContext(ctx, test.method, test.path, nil)
			req.Host = test.host
			maps.Copy(req.Header, test.header)
			w := httptest.NewRecorder()
			server.Handler.ServeHTTP(w, req)
			if w.Code != test.code || !strings.Contains(w.Body.String(), test.body) {
				t.Errorf("got %d %q, want %d %q", w.Code, w.Body, test.code, test.body)
			}
		})
	}
}

// TestHTTPHosts looks that those who ask by another name are refused, also where the listener is not on loopback.
func TestHTTPHosts(t *testing.T) {
	for host, want := range map[string]int{
		"localhost:8080": 200, "LocalHost": 200, "127.0.0.1:80": 200, "[::1]:8080": 200, "[::1]": 200,
		"evil.example:8080": 403, "127.0.0.2": 403, "localhost.evil.example": 403, "": 403,
	} {
		server := newHTTP(slog.New(slog.DiscardHandler), nil, []string{"localhost", "127.0.0.1", "::1"}, func() bool { return true })
		req := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/healthz", nil)
		req.Host = host
		w := httptest.NewRecorder()
		server.Handler.ServeHTTP(w, req)
		if w.Code != want {
			t.Errorf("%q: got %d %q, want %d", host, w.Code, w.Body, want)
		}
	}
}

// TestServeHTTPOn looks that a listener on loopback refuses names of others, and one on all addresses does not.
func TestServeHTTPOn(t *testing.T) {
	for address, want := range map[string]int{"127.0.0.1:0": http.StatusForbidden, "0.0.0.0:0": http.StatusOK} {
		e := newEnv(t, jobs.Limits{}, nil)
		lis, err := new(net.ListenConfig).Listen(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		go func() { served <- e.server.ServeHTTPOn(lis) }()
		_, port, _ := net.SplitHostPort(lis.Addr().String())
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1:"+port+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host, req.Close = "evil.example", true
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: got %d, want %d", address, resp.StatusCode, want)
		}
		e.server.Shutdown(t.Context())
		if err := <-served; err != nil {
			t.Errorf("ServeHTTPOn: %v", err)
		}
	}
}

// lines is a log for tests.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// TestUnknownErrors shows that clients learn an id of them, and the log the rest.
func TestUnknownErrors(t *testing.T) {
	for name, fail := range map[string]func() error{
		"panic": func() error { panic("secret") },
		"error": func() error { return errors.New("secret") },
	} {
		t.Run(name, func(t *testing.T) {
			var log lines
			s := New(Config{Service: newEnv(t, jobs.Limits{}, nil).service, Logger: slog.New(slog.NewTextHandler(&log, nil))})
			defer s.Shutdown(t.Context())
			ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs(requestIDHeader, "my-id"))
			_, unary := s.interceptUnary(ctx, nil, &grpc.UnaryServerInfo{}, func(context.Context, any) (any, error) { return nil, fail() })
			stream := s.interceptStream(nil, &fakeStream{ctx: ctx}, &grpc.StreamServerInfo{}, func(any, grpc.ServerStream) error { return fail() })
			for _, err := range []error{unary, stream} {
				info := wantError(t, err, codes.Internal, reasonInternal)
				if strings.Contains(err.Error(), "secret") || info.GetMetadata()["request_id"] != "my-id" {
					t.Errorf("got %v, %v", err, info)
				}
			}
			if got := log.String(); strings.Count(got, "secret") != 2 || strings.Count(got, "request_id=my-id") != 2 {
				t.Errorf("got log %s", got)
			}
			if name == "panic" && !strings.Contains(log.String(), "server_test.go") {
				t.Errorf("the log has no stack: %s", log.String())
			}
		})
	}
}

type fakeStream struct {
	grpc.ServerStream
	ctx context.Context //nolint:containedctx // a ServerStream hands out its context
}

func (s *fakeStream) Context() context.Context { return s.ctx }

func TestPanicStopsJob(t *testing.T) {
	e := newEnv(t, jobs.Limits{}, nil)
	e.work(t)
	f := &finder{service: e.service, log: slog.New(slog.DiscardHandler)}
	err := recovered(func() error {
		return f.search(t.Context(), queryOf(&hash_name.HashNameRequest{DesiredName: never, InterestingHammingDistance: 20}),
			func(*jobs.Hit) error { panic("no") })
	})
	if err == nil {
		t.Error("the panic was lost")
	}
	if job := e.ended(t, e.onlyJob(t).ID); job.Reason != jobs.Orphaned {
		t.Errorf("the job ended %s, want ORPHANED", job.Reason)
	}
}

func TestRequestIDHeader(t *testing.T) {
	e := newEnv(t, jobs.Limits{}, nil)
	for given, kept := range map[string]bool{"abc-1.2_X": true, "a b": false, "": false, strings.Repeat("x", 65): false} {
		ctx := metadata.AppendToOutgoingContext(t.Context(), requestIDHeader, given)
		var header metadata.MD
		_, err := e.jobs.GetJob(ctx, &hashfinderv1.GetJobRequest{Name: someJob}, grpc.Header(&header))
		wantError(t, err, codes.NotFound, reasonJobNotFound)
		if got := header.Get(requestIDHeader); len(got) != 1 || got[0] == "" || (got[0] == given) != kept {
			t.Errorf("got id %q for %q", got, given)
		}
	}
}

// TestStalledStream reads nothing of a stream of many hits.
func TestStalledStream(t *testing.T) {
	e := newEnv(t, jobs.Limits{}, nil)
	e.server.patience = 50 * time.Millisecond
	e.work(t)
	// One hit for each candidate, far more than the buffers of a connection hold.
	stream, err := e.finder.FindRange(t.Context(), &hash_name.HashNameRequest{
		DesiredName: never, InterestingHammingDistance: int32(len(never)),
	})
	if err != nil {
		t.Fatal(err)
	}
	job := e.ended(t, e.onlyJob(t).ID)
	got, err := received(stream)
	wantError(t, err, codes.Unavailable, reasonStalled)
	if job.Reason != jobs.Orphaned || len(got) == 0 {
		t.Errorf("got %d hits, and the job ended %s", len(got), job.Reason)
	}
}

func TestReflection(t *testing.T) {
	for _, offered := range []bool{false, true} {
		e := newEnv(t, jobs.Limits{}, func(c *Config) { c.Reflection = offered })
		stream, err := reflectionpb.NewServerReflectionClient(e.conn).ServerReflectionInfo(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_ = stream.Send(&reflectionpb.ServerReflectionRequest{
			MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{},
		})
		_ = stream.CloseSend()
		_, err = stream.Recv()
		if offered != (err == nil) || !offered && status.Code(err) != codes.Unimplemented {
			t.Errorf("reflection %v: got %v", offered, err)
		}
	}
}

// TestShutdownIdle shuts down more than once, and before anything was served.
func TestShutdownIdle(t *testing.T) {
	e := newEnv(t, jobs.Limits{}, nil)
	s := New(Config{Service: e.service})
	s.Shutdown(t.Context())
	s.Shutdown(t.Context())
	lis, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.ServeGRPC(lis); err != nil {
		t.Errorf("ServeGRPC after Shutdown: %v", err)
	}
}
