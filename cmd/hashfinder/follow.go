package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	hashfinderv1 "github.com/hashfinder/hashfinder/proto/hashfinder/v1"
)

// follower reads the events of a job, across streams that break.
type follower struct {
	client hashfinderv1.JobServiceClient
	// broken is told the first time that a stream breaks.
	broken func(error)
	// firstWait is how long it waits before it resumes a broken stream; each further wait is twice as long, at most
	// 5 seconds, until something is heard again.
	firstWait time.Duration
	// patience is how long it goes on to try when nothing is heard.
	patience time.Duration
}

const (
	firstWait = 200 * time.Millisecond
	maxWait   = 5 * time.Second
	patience  = time.Minute
)

// events yields the events of a job with a number above after, once each and in order, and the progress between
// them. The end is the last one. An error, also the last, is that of the call, or the cause of ctx.
func (f *follower) events(ctx context.Context, name string, after int64) iter.Seq2[*hashfinderv1.WatchJobResponse, error] {
	return func(yield func(*hashfinderv1.WatchJobResponse, error) bool) {
		var lost time.Time // when the first stream broke of those since something was heard
		wait, told := f.firstWait, false
		for {
			err := f.stream(ctx, name, after, func(event *hashfinderv1.WatchJobResponse) bool {
				lost, wait = time.Time{}, f.firstWait
				after = max(after, event.GetSequence())
				return yield(event, nil)
			})
			if lost.IsZero() {
				lost = time.Now()
			}
			switch {
			case err == nil:
				return
			case ctx.Err() != nil:
				yield(nil, context.Cause(ctx))
				return
			case !resumable(err) || time.Since(lost) > f.patience:
				yield(nil, err)
				return
			}
			if !told {
				told = true
				f.broken(err)
			}
			select {
			// Everyone who watches loses the server at the same time; they should not all come back at the same time.
			case <-time.After(wait/2 + rand.N(wait/2+1)): //nolint:gosec // no secret
			case <-ctx.Done():
			}
			wait = min(2*wait, maxWait)
		}
	}
}

// stream hands the events of one stream to take until that returns false or has the end; then it returns nil.
func (f *follower) stream(
	ctx context.Context, name string, after int64, take func(*hashfinderv1.WatchJobResponse) bool,
) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events, err := f.client.WatchJob(ctx, &hashfinderv1.WatchJobRequest{Name: name, AfterSequence: after})
	if err != nil {
		return err
	}
	for {
		event, err := events.Recv()
		if errors.Is(err, io.EOF) {
			return status.Error(codes.Unavailable, "the server closed the stream before the end of the job")
		}
		if err != nil {
			return err
		}
		switch n := event.GetSequence(); {
		case n == 0: // progress
		case n <= after: // seen on the stream before
			continue
		case n > after+1:
			return fmt.Errorf("the server left out events: %d came after %d", n, after)
		default:
			after = n
		}
		if !take(event) || event.GetEnd() != nil {
			return nil
		}
	}
}

// resumable tells whether another try may succeed where a call met err.
func resumable(err error) bool {
	s, ok := status.FromError(err)
	if !ok {
		return false
	}
	for _, detail := range s.Details() {
		if _, ok := detail.(*errdetails.RetryInfo); ok {
			return true
		}
	}
	return s.Code() == codes.Unavailable
}
