package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	hashfinderv1 "github.com/hashfinder/hashfinder/proto/hashfinder/v1"
)

const (
	// connectTimeout bounds one attempt to connect.
	connectTimeout = 5 * time.Second
	// callTimeout bounds a call that is no stream. CancelJob takes the longest, a few seconds.
	callTimeout = 30 * time.Second
)

// serverFlags name the server of the commands that need one.
type serverFlags struct {
	Server string `env:"HASHFINDER_SERVER" default:"127.0.0.1:50051" placeholder:"ADDR" help:"Address of the server, ${default} if not given."`
}

func (f serverFlags) connect() (*remote, error) { return dial(f.Server) }

// outputFlags choose the form of the answer.
type outputFlags struct {
	Output string `short:"o" enum:"text,json" default:"text" help:"Form of the output: text, or json with one object a line."`
}

func (f outputFlags) json() bool { return f.Output == "json" }

// remote is a service to call.
type remote struct {
	hashfinderv1.JobServiceClient
	// addr is where the service is; empty when it is in this process.
	addr string
	// close ends the connection, and the service if it is in this process.
	close func()
}

// dial returns the service at an address. It connects with the first call.
func dial(addr string) (*remote, error) {
	conn, err := grpc.NewClient(addr,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{
				BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 3 * time.Second,
			},
			MinConnectTimeout: connectTimeout,
		}),
		grpc.WithUnaryInterceptor(boundCall),
	)
	if err != nil {
		return nil, &exitError{status: exitUsage, err: fmt.Errorf("--server %q: %w", addr, err)}
	}
	return &remote{
		JobServiceClient: hashfinderv1.NewJobServiceClient(conn),
		addr:             addr,
		close:            func() { _ = conn.Close() },
	}, nil
}

// embed starts the service in this process. It outlives ctx: only close ends it, so that a job can still be
// cancelled when ctx has ended.
func embed(ctx context.Context, con *console, workers int) (*remote, error) {
	conn, stop, err := startEmbedded(context.WithoutCancel(ctx), embeddedOptions{
		workers: workers,
		logger:  slog.New(slog.NewTextHandler(con.err, &slog.HandlerOptions{Level: slog.LevelError})),
	})
	if err != nil {
		return nil, fmt.Errorf("start the search: %w", err)
	}
	return &remote{JobServiceClient: hashfinderv1.NewJobServiceClient(conn), close: stop}, nil
}

// boundCall is a client interceptor that keeps a server which does not answer from holding the user up for ever.
func boundCall(
	ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, call grpc.UnaryInvoker, opts ...grpc.CallOption,
) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return call(ctx, method, req, reply, conn, opts...)
}

// callError is a call's error in the user's words.
type callError struct {
	text string
	err  error
}

// Error returns the user's words.
func (e *callError) Error() string { return e.text }

// Unwrap returns the error of the call.
func (e *callError) Unwrap() error { return e.err }

// failure turns the error of a call into what is told to the user, with the exit status that it stands for. Other
// errors, and those that it has turned before, are returned as they are.
func (r *remote) failure(err error) error {
	s, ok := status.FromError(err)
	if _, turned := errors.AsType[*callError](err); turned || !ok {
		return err
	}
	text := wording(s)
	// A status that the server sent has details; one that this side made has none.
	if len(s.Details()) == 0 && r.addr != "" {
		switch s.Code() {
		case codes.Unavailable:
			text = fmt.Sprintf("cannot reach the server at %s: %s\nIs it running? \"hashfinder serve\" starts one; --server names another.",
				r.addr, dialReason(text))
		case codes.DeadlineExceeded:
			text = fmt.Sprintf("no answer from the server at %s within %v", r.addr, callTimeout)
		case codes.Unimplemented:
			text = fmt.Sprintf("the server at %s does not know this call: %s", r.addr, text)
		default:
		}
	}
	failed := &callError{text: text, err: err}
	if s.Code() == codes.InvalidArgument {
		return &exitError{status: exitUsage, err: failed}
	}
	return failed
}

// dialReason returns the part of grpc-go's connection errors that means something to a user.
func dialReason(message string) string {
	for _, before := range []string{"Error while dialing: ", "desc = \"", "last error: "} {
		if _, after, ok := strings.Cut(message, before); ok {
			message = after
		}
	}
	return strings.TrimRight(message, `"`)
}

// wording returns the message of a status and what its details say beyond that, each on a line of its own.
func wording(s *status.Status) string {
	text, more := s.Message(), ""
	for _, detail := range s.Details() {
		switch d := detail.(type) {
		case *errdetails.BadRequest:
			for _, v := range d.GetFieldViolations() {
				line := fieldName(v.GetField()) + ": " + v.GetDescription()
				if text == v.GetField()+": "+v.GetDescription() { // the same, without the flag
					text = line
				} else {
					more += "\n  " + line
				}
			}
		case *errdetails.QuotaFailure:
			for _, v := range d.GetViolations() {
				if text != v.GetDescription() {
					more += "\n  " + v.GetSubject() + ": " + v.GetDescription()
				}
			}
		case *errdetails.RetryInfo:
			if delay := d.GetRetryDelay().AsDuration(); delay > 0 {
				more += fmt.Sprintf("\n  It may work in %v.", delay)
			}
		}
	}
	return text + more
}

// fieldName returns the flag or argument that sets a field of a request, in front of the field's own name.
func fieldName(path string) string {
	flag, ok := map[string]string{
		"desired_name":                 "NAME",
		"ideal_hamming_distance":       "--distance",
		"interesting_hamming_distance": "--show-inferior",
		"max_candidates":               "--max-candidates",
		"max_hits":                     "--max-hits",
		"max_duration":                 "--max-duration",
		"request_id":                   "--request-id",
		"labels":                       "--label",
		"name":                         "JOB",
		"after_sequence":               "--after-sequence",
		"page_size":                    "--page-size",
		"filter":                       "--filter",
		"etag":                         "--etag",
	}[path[strings.LastIndexByte(path, '.')+1:]]
	if !ok {
		return path
	}
	return flag + " (" + path + ")"
}
