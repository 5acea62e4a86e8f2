package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	hashfinderv1 "github.com/hashfinder/hashfinder/proto/hashfinder/v1"
)

// submitted returns a client of a fake service, and the name of a job there.
func submitted(t *testing.T, fake *fakeService, desiredName string) (*remote, string) {
	t.Helper()
	service, err := dial(fake.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(service.close)
	job, err := service.SubmitJob(t.Context(), &hashfinderv1.SubmitJobRequest{
		Job: &hashfinderv1.Job{Spec: (&specFlags{Name: desiredName}).spec(true)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return service, job.GetName()
}

func TestFollowerGivesUp(t *testing.T) {
	fake := newFake(t)
	service, name := submitted(t, fake, "endless")
	var told int
	f := &follower{
		client: service, broken: func(error) { told++ }, firstWait: time.Millisecond, patience: 20 * time.Millisecond,
	}
	var last error
	for event, err := range f.events(t.Context(), name, 0) {
		last = err
		if event.GetHit() != nil {
			fake.stop() // it does not come back
		}
	}
	if got, want := status.Code(last), codes.Unavailable; got != want {
		t.Errorf("it ended with %v, want %v", last, want)
	}
	if told != 1 {
		t.Errorf("it told of the broken stream %d times, want once", told)
	}
}

func TestFollowerEndsWithContext(t *testing.T) {
	fake := newFake(t)
	service, name := submitted(t, fake, "endless")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	f := &follower{client: service, broken: func(err error) { t.Errorf("it broke: %v", err) }, patience: patient}
	var last error
	for event, err := range f.events(ctx, name, 0) {
		last = err
		if event.GetHit() != nil {
			cancel(errInterrupted)
		}
	}
	if !errors.Is(last, errInterrupted) {
		t.Errorf("it ended with %v, want %v", last, errInterrupted)
	}
}

// Who takes no more hits wants no more searching.
func TestSearchCancelsWhenOutputFails(t *testing.T) {
	fake := newFake(t)
	service, name := submitted(t, fake, "endless")
	closed, w := io.Pipe()
	closed.Close()
	d := &display{con: &console{out: w, err: new(bytes.Buffer), columns: func() int { return 0 }}}
	_, err := runSearch(t.Context(), service, d, name)
	if !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("it ended with %v, want %v", err, io.ErrClosedPipe)
	}
	if got, want := fake.state(0), hashfinderv1.Job_CANCELLED; got != want {
		t.Errorf("the job is %v, want %v", got, want)
	}
}

func TestDialReason(t *testing.T) {
	for _, test := range []struct{ message, want string }{
		{
			`connection error: desc = "transport: Error while dialing: dial tcp 127.0.0.1:1: connect: connection refused"`,
			"dial tcp 127.0.0.1:1: connect: connection refused",
		},
		{
			`last connection error: connection error: desc = "error reading server preface: http2: frame too large"`,
			"error reading server preface: http2: frame too large",
		},
		{"name resolver error: produced zero addresses", "name resolver error: produced zero addresses"},
	} {
		if got := dialReason(test.message); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
}

func TestFailureKeepsOtherErrors(t *testing.T) {
	r := &remote{addr: "there"}
	if err := r.failure(io.EOF); !errors.Is(err, io.EOF) || err.Error() != io.EOF.Error() {
		t.Errorf("got %v, want %v", err, io.EOF)
	}
	once := r.failure(status.Error(codes.Internal, "call 7"))
	if twice := r.failure(once); twice.Error() != once.Error() || strings.Contains(once.Error(), "code =") {
		t.Errorf("got %v and then %v, want both in the server's words", once, twice)
	}
}
