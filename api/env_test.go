package api

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/hashfinder/hashfinder/jobs"
	"github.com/hashfinder/hashfinder/jobs/search"
	"github.com/hashfinder/hashfinder/proto/hash_name"
	hashfinderv1 "github.com/hashfinder/hashfinder/proto/hashfinder/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what a test waits for.
const patience = 20 * time.Second

// env is a front end on a Redis of its own, without workers.
type env struct {
	redis   *miniredis.Miniredis
	store   *jobs.Store
	service *jobs.Service
	server  *Server
	conn    *grpc.ClientConn
	finder  hash_name.HashFinderClient
	jobs    hashfinderv1.JobServiceClient
}

// newEnv starts an env; config changes its configuration.
func newEnv(t *testing.T, limits jobs.Limits, config func(*Config)) *env {
	t.Helper()
	e := &env{redis: miniredis.RunT(t)}
	// No retries: a test that takes Redis away wants to see it at once.
	client := redis.NewClient(&redis.Options{Addr: e.redis.Addr(), MaxRetries: -1})
	t.Cleanup(func() { _ = client.Close() })
	log := slog.New(slog.DiscardHandler)
	e.store = jobs.NewStore(client)
	relay := jobs.NewRelay(e.store, log)
	t.Cleanup(func() { _ = relay.Close() })
	e.service = jobs.NewService(e.store, jobs.NewQueue(client), relay, limits, log)

	cfg := Config{Service: e.service, Logger: log, CancelWait: 100 * time.Millisecond}
	if config != nil {
		config(&cfg)
	}
	e.server = New(cfg)
	e.conn = serve(t, e.server)
	e.finder, e.jobs = hash_name.NewHashFinderClient(e.conn), hashfinderv1.NewJobServiceClient(e.conn)
	return e
}

// serve serves gRPC in memory for the rest of the test, and returns a connection to it.
func serve(t *testing.T, server *Server) *grpc.ClientConn {
	t.Helper()
	lis := bufconn.Listen(1 << 20)
	served := make(chan error, 1)
	go func() { served <- server.ServeGRPC(lis) }()
	conn, err := grpc.NewClient("passthrough:bufconn", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = conn.Close()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		server.Shutdown(ctx)
		if err := <-served; err != nil {
			t.Errorf("ServeGRPC: %v", err)
		}
	})
	return conn
}

// keys returns the keys of Redis.
func (e *env) keys() []string { return e.redis.Keys() }

// work runs a worker for the rest of the test.
func (e *env) work(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() {
		used := map[string]int{} // job -> the last ticket
		for ctx.Err() == nil {
			list, _, err := e.service.List(ctx, jobs.DefaultTenant, "", 100)
			if err != nil && ctx.Err() == nil {
				t.Errorf("worker: %v", err)
				return
			}
			for i := range list {
				if goesOn(&list[i]) {
					e.workOn(ctx, t, &list[i], used)
				}
			}
			wait(ctx)
		}
	})
	t.Cleanup(func() { cancel(); done.Wait() })
}

// workOn runs the chunks of the tickets of a job, after those that were used.
func (e *env) workOn(ctx context.Context, t *testing.T, job *jobs.Job, used map[string]int) {
	t.Helper()
	q, err := decodeQuery(job)
	if err != nil {
		t.Errorf("worker: %v", err)
		return
	}
	for {
		chunk, err := e.claim(ctx, job.ID, used[job.ID]+1)
		if errors.Is(err, jobs.ErrIdle) || ctx.Err() != nil {
			return
		}
		if err != nil {
			t.Errorf("worker: %v", err)
			return
		}
		used[job.ID]++
		var hits []jobs.Hit
		search.Scan(q, chunk.Lo, min(chunk.Hi, chunk.Members[0].Limit), func(h search.Hit) bool {
			hits = append(hits, jobs.Hit{Index: h.Index, Distance: h.Distance, Ideal: h.Distance <= q.Ideal})
			return len(hits) < int(min(chunk.Members[0].MaxHits, jobs.MaxBatch))
		})
		if _, _, err := e.store.Commit(ctx, chunk, [][]jobs.Hit{hits}); err != nil && !errors.Is(err, jobs.ErrLost) && ctx.Err() == nil {
			t.Errorf("worker: %v", err)
		}
	}
}

// claim takes a lease with one of the tickets that a job's sweep has minted.
func (e *env) claim(ctx context.Context, id string, ticket int) (*jobs.Chunk, error) {
	return e.store.Claim(ctx, jobs.Ticket{
		Sweep: id, Number: strconv.Itoa(ticket), Queue: jobs.QueueInteractive, Jobs: []string{id},
	}, uuid.NewString(), "test", 1<<16)
}

// wait lets a moment pass between two looks at something.
func wait(ctx context.Context) {
	timer := time.NewTimer(2 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// eventually waits until f is true.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for !f() {
		if ctx.Err() != nil {
			t.Fatalf("waited in vain until %s", what)
		}
		wait(ctx)
	}
}

// onlyJob waits for the one job that there is.
func (e *env) onlyJob(t *testing.T) jobs.Job {
	t.Helper()
	var list []jobs.Job
	eventually(t, "there is a job", func() bool {
		var err error
		if list, _, err = e.service.List(t.Context(), jobs.DefaultTenant, "", 2); err != nil {
			t.Fatal(err)
		}
		return len(list) > 0
	})
	if len(list) != 1 {
		t.Fatalf("got %d jobs, want 1", len(list))
	}
	return list[0]
}

// ended waits for the end of a job.
func (e *env) ended(t *testing.T, id string) jobs.Job {
	t.Helper()
	var job jobs.Job
	eventually(t, "job "+id+" has ended", func() bool {
		var err error
		if job, err = e.service.Get(t.Context(), jobs.DefaultTenant, id); err != nil {
			t.Fatal(err)
		}
		return job.State.Terminal()
	})
	return job
}

// detail returns the detail of that type of an error's status, nil if there is none.
func detail[T any](err error) T {
	for _, d := range status.Convert(err).Details() {
		if found, ok := d.(T); ok {
			return found
		}
	}
	var none T
	return none
}

// wantError checks an error's code and its ErrorInfo, which it returns.
func wantError(t *testing.T, err error, code codes.Code, reason string) *errdetails.ErrorInfo {
	t.Helper()
	info := detail[*errdetails.ErrorInfo](err)
	if status.Code(err) != code || info.GetReason() != reason || info.GetDomain() != domain {
		t.Fatalf("got error %v (%v), want %v of reason %s", err, info, code, reason)
	}
	if transient := code == codes.Unavailable; transient && detail[*errdetails.RetryInfo](err).GetRetryDelay().AsDuration() <= 0 {
		t.Errorf("error %v has no RetryInfo", err)
	}
	return info
}

// wantField checks that an error is about a field of the request.
func wantField(t *testing.T, err error, field, reason string) {
	t.Helper()
	wantError(t, err, codes.InvalidArgument, reason)
	violations := detail[*errdetails.BadRequest](err).GetFieldViolations()
	if !slices.ContainsFunc(violations, func(v *errdetails.BadRequest_FieldViolation) bool {
		return v.GetField() == field && v.GetReason() == reason && v.GetDescription() != ""
	}) {
		t.Fatalf("got violations %v, want one of %s", violations, field)
	}
}

// received reads a stream to its end.
func received[T any](stream grpc.ServerStreamingClient[T]) ([]*T, error) {
	var all []*T
	for {
		message, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		all = append(all, message)
	}
}

// never is a name that no test finds.
const never = "abcdefghijklmnopqrstuvwx"
