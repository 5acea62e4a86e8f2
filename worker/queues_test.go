package worker_test

import (
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/alicebob/miniredis/v2"

	"github.com/hashfinder/hashfinder/jobs"
	"github.com/hashfinder/hashfinder/jobs/jobstest"
	"github.com/hashfinder/hashfinder/worker"
)

// sourceOfNone has no tickets, and remembers which queues it was asked for.
type sourceOfNone struct {
	mu     sync.Mutex
	queues []string
}

func (s *sourceOfNone) Serve(ctx context.Context, queue string, _ int, _ func(context.Context, jobs.Ticket) (string, error)) error {
	s.mu.Lock()
	s.queues = append(s.queues, queue)
	s.mu.Unlock()
	<-ctx.Done()
	return nil
}

func TestWorkerServesItsQueues(t *testing.T) {
	for _, test := range []struct {
		name   string
		config []string
		want   []string
	}{
		{"all, if not told", nil, []string{jobs.QueueBatch, jobs.QueueInteractive}},
		{"one", []string{jobs.QueueInteractive}, []string{jobs.QueueInteractive}},
	} {
		t.Run(test.name, func(t *testing.T) {
			client := jobstest.Open(t, "redis://"+miniredis.RunT(t).Addr())
			source := &sourceOfNone{}
			start(t, client, worker.Config{Source: source, Queues: test.config, Concurrency: 1})()
			slices.Sort(source.queues)
			if !slices.Equal(source.queues, test.want) {
				t.Errorf("got %v, want %v", source.queues, test.want)
			}
		})
	}
}
