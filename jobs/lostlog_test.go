package jobs_test

import (
	"errors"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/hashfinder/hashfinder/jobs"
	"github.com/hashfinder/hashfinder/jobs/jobstest"
)

// A Redis that has lost the end of its file has lost events that watchers have seen. They are told, rather than left to
// wait for a number that the log may never come to.
func TestWatcherIsToldThatTheLogIsBehindIt(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		for _, test := range []struct {
			name, state string
			last        int
		}{
			{"the job goes on", "RUNNING", 1},
			{"the job has ended", "CANCELLED", 2},
		} {
			t.Run(test.name, func(t *testing.T) {
				b := newBench(t, open(), jobs.Limits{})
				job := b.submit(t, spec(secondChunk))
				b.commit(t, b.claim(t, job), jobs.Hit{Index: 5, Distance: 2}, jobs.Hit{Index: 6, Distance: 2})
				w := b.service.Follow(job)
				defer w.Close()
				for hits := 0; hits < 2; {
					event, err := w.Next(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					if event.Hit != nil {
						hits++
					}
				}
				b.setJob(t, job.ID, "state", test.state)
				b.setJob(t, job.ID, "seq", test.last)
				if err := b.client.XDel(t.Context(), jobs.KeyLog(job.ID), "2-0").Err(); err != nil {
					t.Fatal(err)
				}
				for {
					if event, err := w.Next(t.Context()); err != nil {
						if !errors.Is(err, jobs.ErrLogLost) {
							t.Errorf("got %v, want ErrLogLost", err)
						}
						return
					} else if event.Progress == nil {
						t.Fatalf("got %+v, want ErrLogLost", event)
					}
				}
			})
		}
	})
}
