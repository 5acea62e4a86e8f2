package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	hashfinderv1 "github.com/hashfinder/hashfinder/proto/hashfinder/v1"
)

// stopPatience is how long find waits for the confirmation that its job has stopped. A worker that is cut off
// stops by itself long before.
const stopPatience = 30 * time.Second

var (
	errTimedOut    = errors.New("the time given by --timeout has passed")
	errUnconfirmed = errors.New("the server has not confirmed that the job has stopped")
)

// specFlags say what to search, and how much.
type specFlags struct {
	Name          string         `arg:"" help:"The name to look for: 1 to 28 printable ASCII characters. Case does not matter."`
	Distance      int32          `placeholder:"N" default:"0" help:"End with the first secret whose distance is at most N, 0 if not given."`
	ShowInferior  int32          `placeholder:"N" default:"0" help:"Also print secrets whose distance is at most N on the way."`
	MaxCandidates *int64         `placeholder:"N" help:"Search at most N candidates; if not given, as many as the server lets (2^36)."`
	MaxHits       *int64         `placeholder:"N" help:"End with the Nth hit; if not given, the server's bound (100,000)."`
	MaxDuration   *time.Duration `placeholder:"D" help:"End the job this long after its first worker began, such as 90s or 2h; if not given, the server's bound."`
}

func (f specFlags) spec(attached bool) *hashfinderv1.JobSpec {
	return &hashfinderv1.JobSpec{
		DesiredName:                f.Name,
		IdealHammingDistance:       f.Distance,
		InterestingHammingDistance: f.ShowInferior,
		Budget:                     budget(f.MaxCandidates, f.MaxHits, f.MaxDuration),
		Attached:                   attached,
	}
}

// budget returns the budget of what was given.
func budget(candidates, hits *int64, duration *time.Duration) *hashfinderv1.Budget {
	b := &hashfinderv1.Budget{MaxCandidates: candidates, MaxHits: hits}
	if duration != nil {
		b.MaxDuration = durationpb.New(*duration)
	}
	return b
}

// findCmd searches, and waits for the end.
type findCmd struct {
	specFlags   `embed:""`
	outputFlags `embed:""`
	Timeout     time.Duration `placeholder:"D" help:"Cancel the search after this time, such as 90s or 2h, and exit with status 4."`
	Server      string        `env:"HASHFINDER_SERVER" placeholder:"ADDR" help:"Search on the workers of this server instead of in this process."`
	Workers     int           `placeholder:"N" help:"Searching threads of this process, one per core if not given. Not with --server."`
	Quiet       bool          `short:"q" help:"Print the hits only: no progress, no summary."`
}

// Help explains the output.
func (*findCmd) Help() string {
	return `Each hit is a line: the secret in base64 ("" is the empty one), its hashed name, the distance, and the place of the secret among all bytestrings.

Without --server everything runs in this process and nothing is kept. Ctrl-C stops the search, also on the server; once more leaves at once.`
}

// Validate refuses what the server would not see.
func (c *findCmd) Validate() error {
	switch {
	case c.Timeout < 0:
		return errors.New("--timeout must not be negative")
	case c.Workers < 0:
		return errors.New("--workers must not be negative")
	case c.Workers > 0 && c.Server != "":
		return errors.New("--workers is for a search in this process; the server (--server, HASHFINDER_SERVER) has its own workers")
	}
	return nil
}

// Run searches. When ctx ends or the timeout passes it cancels the job and waits for the confirmation.
func (c *findCmd) Run(ctx context.Context, con *console) error {
	if c.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, c.Timeout, errTimedOut)
		defer cancel()
	}
	service, err := c.connect(ctx, con)
	if err != nil {
		return err
	}
	defer service.close()
	// Not under ctx: a call that is given up may have made a job that then nobody knows to cancel.
	job, err := service.SubmitJob(context.WithoutCancel(ctx), &hashfinderv1.SubmitJobRequest{
		Job: &hashfinderv1.Job{Spec: c.spec(true)},
	})
	if err != nil {
		return service.failure(err)
	}
	screen := &display{con: con, spec: job.GetSpec(), json: c.json(), quiet: c.Quiet}
	end, err := runSearch(ctx, service, screen, job.GetName())
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, errInterrupted):
		return &exitError{status: exitInterrupted, err: err}
	case err != nil && errors.Is(cause, errTimedOut):
		return &exitError{status: exitCancelled, err: err}
	case err != nil:
		return err
	}
	return outcome(end)
}

func (c *findCmd) connect(ctx context.Context, con *console) (*remote, error) {
	if c.Server != "" {
		return dial(c.Server)
	}
	if !c.Quiet {
		con.note("searching in this process, nothing is kept")
	}
	return embed(ctx, con, c.Workers)
}

// runSearch shows the events of a job and returns the job as it ended. If ctx ends before, it cancels the job and goes
// on to the end that this makes. It leaves no job running, as far as it can.
func runSearch(ctx context.Context, service *remote, screen *display, name string) (*hashfinderv1.Job, error) {
	watching, abandon := context.WithCancelCause(context.WithoutCancel(ctx))
	var canceller sync.WaitGroup
	canceller.Go(func() {
		select {
		case <-ctx.Done():
			screen.note("%v: stopping the search", context.Cause(ctx))
			abandon(stopJob(watching, service, name))
		case <-watching.Done():
		}
	})
	end, err := screen.relay(newFollower(service, screen).events(watching, name, 0))
	abandon(nil)
	canceller.Wait()
	if err == nil {
		return end, nil
	}
	if ctx.Err() == nil {
		// Best effort: the job is attached, so it ends soon also without us.
		_, _ = service.CancelJob(context.WithoutCancel(ctx), &hashfinderv1.CancelJobRequest{Name: name})
	}
	return nil, service.failure(err)
}

// stopJob cancels a job and lets its watcher see the end. It returns when ctx ends, or with the reason to wait no
// longer.
func stopJob(ctx context.Context, service *remote, name string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, stopPatience, errUnconfirmed)
	defer cancel()
	for {
		_, err := service.CancelJob(ctx, &hashfinderv1.CancelJobRequest{Name: name})
		switch {
		case err == nil, status.Code(err) == codes.FailedPrecondition: // cancelled, or ended otherwise just before
			<-ctx.Done()
		case !resumable(err) && ctx.Err() == nil:
			return fmt.Errorf("cancel the job: %w", service.failure(err))
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(firstWait):
		}
	}
}

// outcome returns the exit status of a job that has ended: nil if it has found the name.
func outcome(job *hashfinderv1.Job) error {
	switch job.GetState() {
	case hashfinderv1.Job_SUCCEEDED:
		return nil
	case hashfinderv1.Job_EXHAUSTED:
		return &exitError{status: exitExhausted}
	case hashfinderv1.Job_CANCELLED:
		return &exitError{status: exitCancelled}
	case hashfinderv1.Job_FAILED:
		return fmt.Errorf("the search failed: %s", job.GetError().GetMessage())
	default:
		return fmt.Errorf("the server ended the search in the state %v", job.GetState())
	}
}
