package api

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/hashfinder/hashfinder/jobs"
	"github.com/hashfinder/hashfinder/proto/hash_name"
)

const (
	// requestIDHeader carries the id of a call, which the client may choose, in requests and responses.
	requestIDHeader = "x-request-id"
	maxRequestID    = 64
	// shortCall bounds calls that have no reason to take long, besides what they are asked to wait for.
	shortCall = 30 * time.Second
)

// searchCalls take as long as the search does, and MaxCallDuration bounds them.
var searchCalls = map[string]bool{
	hash_name.HashFinder_Find_FullMethodName:      true,
	hash_name.HashFinder_FindRange_FullMethodName: true,
}

// tenantOf returns the owner of what a call does.
func tenantOf(context.Context) string { return jobs.DefaultTenant }

// guard runs a call. Every call, unary or stream, passes through it: it gives the call an id, bounds it, recovers its
// panics, turns its error into a status, and logs it.
func (s *Server) guard(ctx context.Context, method string, stream bool, run func(context.Context) error) error {
	begin := time.Now()
	id := requestID(ctx)
	_ = grpc.SetHeader(ctx, metadata.Pairs(requestIDHeader, id)) // fails only when the client is gone

	ctx, release := s.bound(ctx, method, stream)
	defer release()
	err := recovered(func() error { return run(ctx) })
	st, known := statusOf(ctx, err, id)

	log := s.log.With("method", method, "request_id", id, "code", st.Code().String(), "duration", time.Since(begin))
	if known {
		log.Debug("call ended")
	} else {
		log.Error("call failed", "error", err)
	}
	return st.Err()
}

// bound gives a call its longest duration, and lets Shutdown end it if it may take long.
func (s *Server) bound(ctx context.Context, method string, stream bool) (context.Context, context.CancelFunc) {
	if !stream && !searchCalls[method] {
		return context.WithTimeout(ctx, shortCall+s.cancelWait)
	}
	ctx, release := s.endable(ctx)
	if s.maxCall <= 0 || !searchCalls[method] {
		return ctx, release
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.maxCall, &longCallError{limit: s.maxCall})
	return ctx, func() { cancel(); release() }
}

func (s *Server) interceptUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (resp any, err error) {
	err = s.guard(ctx, info.FullMethod, false, func(ctx context.Context) (err error) {
		resp, err = handle(ctx, req)
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// interceptStream runs the handler in a goroutine of its own. Nothing but the end of the call unblocks a Send that
// waits for a client that does not read; so when that takes too long the call ends here, and the handler after it.
func (s *Server) interceptStream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	return s.guard(ss.Context(), info.FullMethod, true, func(ctx context.Context) error {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		stream := &stream{ServerStream: ss, ctx: ctx, patience: s.patience, stalled: make(chan struct{}, 1)}
		done := make(chan error, 1)
		s.handlers.Go(func() { done <- recovered(func() error { return handle(srv, stream) }) })
		select {
		case err := <-done:
			return err
		case <-stream.stalled:
			cancel(errStalled)
			return errStalled
		}
	})
}

// stream is a stream whose Send tells when it is stalled.
type stream struct {
	grpc.ServerStream
	ctx      context.Context //nolint:containedctx // a ServerStream hands out its context
	patience time.Duration
	stalled  chan struct{}
}

func (s *stream) Context() context.Context { return s.ctx }

func (s *stream) SendMsg(message any) error {
	timer := time.AfterFunc(s.patience, func() {
		select {
		case s.stalled <- struct{}{}:
		default:
		}
	})
	defer timer.Stop()
	err := s.ServerStream.SendMsg(message)
	if err != nil && s.ctx.Err() != nil {
		return context.Cause(s.ctx) // why it failed
	}
	return err
}

// panicError is a panic of a handler.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v\n%s", e.value, e.stack) }

// recovered runs f and turns its panic into an error.
func recovered(f func() error) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = &panicError{value: value, stack: debug.Stack()}
		}
	}()
	return f()
}

// requestID returns the id that the client gave the call, or a new one when it gave none, or one that cannot
// stand in a log as it is.
func requestID(ctx context.Context) string {
	given := metadata.ValueFromIncomingContext(ctx, requestIDHeader)
	if len(given) == 1 && saneID(given[0]) {
		return given[0]
	}
	return uuid.NewString()
}

func saneID(id string) bool {
	if id == "" || len(id) > maxRequestID {
		return false
	}
	for _, c := range []byte(id) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return true
}
