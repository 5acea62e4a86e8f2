package jobs_test

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"github.com/hashfinder/hashfinder/jobs"
	"github.com/hashfinder/hashfinder/jobs/jobstest"
)

// resender sends every call of a script twice, as go-redis does when the first reply is lost, and hands out the second
// reply.
type resender struct {
	names map[string]string // digest of a script -> its name
	after func(script string, first, second any)
	sent  func() // between the two
}

// newResender knows the scripts by their files. after gets both replies of each call.
func newResender(t *testing.T, after func(script string, first, second any)) *resender {
	t.Helper()
	read := func(path string) string {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	r := &resender{names: map[string]string{}, after: after, sent: func() {}}
	paths, err := filepath.Glob("lua/*.lua")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), ".lua")
		for _, text := range []string{read(path), read("lua/prelude.lua") + read(path)} {
			sum := sha1.Sum([]byte(text))
			r.names[hex.EncodeToString(sum[:])] = name
		}
	}
	return r
}

func (r *resender) DialHook(next redis.DialHook) redis.DialHook { return next }

func (r *resender) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (r *resender) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		script, ok := cmd.(*redis.Cmd)
		if !ok || !strings.HasPrefix(cmd.Name(), "eval") {
			return next(ctx, cmd)
		}
		text, _ := cmd.Args()[1].(string)
		name := r.names[text]
		if cmd.Name() == "eval" {
			sum := sha1.Sum([]byte(text))
			name = r.names[hex.EncodeToString(sum[:])]
		}
		if name == "" { // asynq's
			return next(ctx, cmd)
		}
		if err := next(ctx, cmd); err != nil { // the server may not have the script yet
			return err
		}
		first := script.Val()
		r.sent()
		if err := next(ctx, cmd); err != nil {
			return err
		}
		r.after(name, first, script.Val())
		return nil
	}
}

// moments are times in milliseconds, and scores that are.
var moments = regexp.MustCompile(`\b1[0-9]{12}\b|\b1\.[0-9]+e\+12\b`)

// Of each script, in each way that it can go: a second call leaves everything as it is, but for the times until which
// something is held, and gets the same reply.
func TestEveryScriptMayRunTwice(t *testing.T) {
	t.Parallel()
	hits := func(c *jobs.Chunk) [][]jobs.Hit {
		return [][]jobs.Hit{{{Index: c.Lo + 1, Distance: 2}, {Index: c.Lo + 2, Distance: 1}}}
	}
	ideal := func(c *jobs.Chunk) [][]jobs.Hit { return [][]jobs.Hit{{{Index: c.Lo, Ideal: true}}} }
	lost := func(err error) error { return want(err, jobs.ErrLost) }
	// Each prepares what it needs and returns the call.
	cases := []struct {
		script, name string
		prepare      func(t *testing.T, b *bench) func(ctx context.Context) error
	}{
		{"submit", "new", func(t *testing.T, b *bench) func(context.Context) error {
			return func(ctx context.Context) error { _, err := b.service.Submit(ctx, request("", 10)); return err }
		}},
		{"submit", "of a request", func(t *testing.T, b *bench) func(context.Context) error {
			return func(ctx context.Context) error { _, err := b.service.Submit(ctx, request("id", 10)); return err }
		}},
		{"submit", "of a request that was made", func(t *testing.T, b *bench) func(context.Context) error {
			if _, err := b.service.Submit(t.Context(), request("id", 10)); err != nil {
				t.Fatal(err)
			}
			return func(ctx context.Context) error { _, err := b.service.Submit(ctx, request("id", 10)); return err }
		}},
		{"submit", "of a request id that was used", func(t *testing.T, b *bench) func(context.Context) error {
			if _, err := b.service.Submit(t.Context(), request("id", 10)); err != nil {
				t.Fatal(err)
			}
			return func(ctx context.Context) error {
				_, err := b.service.Submit(ctx, request("id", 11))
				return want(err, jobs.ErrRequestUsed)
			}
		}},
		{"submit", "an extension", func(t *testing.T, b *bench) func(context.Context) error {
			old := b.exhaust(t, spec(100))
			return func(ctx context.Context) error { return extend(ctx, b, old, 200) }
		}},
		{"submit", "an extension of what was extended", func(t *testing.T, b *bench) func(context.Context) error {
			old := b.exhaust(t, spec(100))
			b.extend(t, old.ID, jobs.Budget{Candidates: 200})
			return func(ctx context.Context) error {
				err := extend(ctx, b, old, 300)
				if _, ok := errors.AsType[*jobs.ExtendedError](err); !ok {
					return fmt.Errorf("got %w, want an ExtendedError", err)
				}
				return nil
			}
		}},
		{"claim", "the next chunk", func(t *testing.T, b *bench) func(context.Context) error {
			ticket := b.waiting(t, jobs.QueueBatch, b.submit(t, spec(1<<20)).ID)[0]
			return func(ctx context.Context) error { return claim(ctx, b, ticket, nil) }
		}},
		{"claim", "a chunk that was given back", func(t *testing.T, b *bench) func(context.Context) error {
			job := b.submit(t, spec(1<<20))
			ticket := b.waiting(t, jobs.QueueBatch, job.ID)[1]
			b.release(t, b.claim(t, job), false)
			return func(ctx context.Context) error { return claim(ctx, b, ticket, nil) }
		}},
		{"claim", "with a ticket that was used", func(t *testing.T, b *bench) func(context.Context) error {
			job := b.submit(t, spec(1<<20))
			ticket := b.waiting(t, jobs.QueueBatch, job.ID)[0]
			b.claim(t, job)
			return func(ctx context.Context) error { return claim(ctx, b, ticket, jobs.ErrIdle) }
		}},
		{"claim", "when there is nothing to do", func(t *testing.T, b *bench) func(context.Context) error {
			job := b.submit(t, spec(10))
			ticket := b.waiting(t, jobs.QueueBatch, job.ID)[1]
			b.claim(t, job)
			return func(ctx context.Context) error { return claim(ctx, b, ticket, jobs.ErrIdle) }
		}},
		{"claim", "by somebody who knows other members", func(t *testing.T, b *bench) func(context.Context) error {
			ticket := b.waiting(t, jobs.QueueBatch, b.submit(t, spec(1<<20)).ID)[0]
			ticket.Jobs = []string{"none"}
			return func(ctx context.Context) error { return claim(ctx, b, ticket, nil) }
		}},
		{"renew", "held", held(func(b *bench, c *jobs.Chunk) callFunc {
			return func(ctx context.Context) error { return b.store.Renew(ctx, c) }
		})},
		{"renew", "alone", held(func(b *bench, c *jobs.Chunk) callFunc {
			return func(ctx context.Context) error { return b.store.Alone(ctx, c) }
		})},
		{"renew", "lost", expired(func(b *bench, c *jobs.Chunk) callFunc {
			return func(ctx context.Context) error { return lost(b.store.Renew(ctx, c)) }
		})},
		{"flush", "held", held(func(b *bench, c *jobs.Chunk) callFunc {
			return func(ctx context.Context) error { return b.store.Flush(ctx, c, c.Lo+5, hits(c)) }
		})},
		{"flush", "the end of the job", held(func(b *bench, c *jobs.Chunk) callFunc {
			return func(ctx context.Context) error { return want(b.store.Flush(ctx, c, c.Lo+5, ideal(c)), jobs.ErrStop) }
		})},
		{"flush", "lost", expired(func(b *bench, c *jobs.Chunk) callFunc {
			return func(ctx context.Context) error { return lost(b.store.Flush(ctx, c, c.Lo+5, hits(c))) }
		})},
		{"commit", "done", held(func(b *bench, c *jobs.Chunk) callFunc {
			return func(ctx context.Context) error { return commit(ctx, b, c, hits(c)) }
		})},
		{"commit", "the end of the job", held(func(b *bench, c *jobs.Chunk) callFunc {
			return func(ctx context.Context) error { return commit(ctx, b, c, ideal(c)) }
		})},
		{"commit", "with more than it logs", func(t *testing.T, b *bench) func(context.Context) error {
			job := b.submit(t, spec(1<<20))
			first, second := b.claim(t, job), b.claim(t, job)
			b.find(t, second, finds(second.Lo, 2500))
			b.commit(t, second)
			return func(ctx context.Context) error {
				_, more, err := b.store.Commit(ctx, first, [][]jobs.Hit{nil})
				if !more && err == nil {
					return errors.New("there is no more")
				}
				return err
			}
		}},
		{"commit", "lost", expired(func(b *bench, c *jobs.Chunk) callFunc {
			return func(ctx context.Context) error { return lost(commit(ctx, b, c, ideal(c))) }
		})},
		{"commit", "stale", func(t *testing.T, b *bench) func(context.Context) error {
			job := b.submit(t, spec(10))
			slow := b.claim(t, job)
			b.age(t, slow, longAgo)
			b.reconcile(t)
			fast := b.claim(t, job)
			// The job would end with the chunk; that other member of the sweep is not known to this version.
			if err := b.client.ZAdd(t.Context(), jobs.KeySweep(job.ID)+":limits", redis.Z{Score: 20, Member: "other"}).Err(); err != nil {
				t.Fatal(err)
			}
			b.commit(t, fast)
			return func(ctx context.Context) error { return lost(commit(ctx, b, slow, hits(slow))) }
		}},
		{"commit", "while the job is being paused", held(func(b *bench, c *jobs.Chunk) callFunc {
			return func(ctx context.Context) error {
				if err := b.store.Pause(ctx, tenant, c.Sweep); err != nil {
					return err
				}
				return commit(ctx, b, c, hits(c))
			}
		})},
		{"drain", "what waits", func(t *testing.T, b *bench) func(context.Context) error {
			job := b.submit(t, spec(1<<20))
			first, second := b.claim(t, job), b.claim(t, job)
			b.find(t, second, finds(second.Lo, 1500))
			b.commit(t, second)
			if _, more, err := b.store.Commit(t.Context(), first, [][]jobs.Hit{nil}); err != nil || !more {
				t.Fatal(more, err)
			}
			return func(ctx context.Context) error { _, err := b.store.Drain(ctx, first); return err }
		}},
		{"release", "in peace", held(func(b *bench, c *jobs.Chunk) callFunc {
			return func(ctx context.Context) error { _, err := b.store.Release(ctx, c, false); return err }
		})},
		{"release", "died", held(func(b *bench, c *jobs.Chunk) callFunc {
			return func(ctx context.Context) error { _, err := b.store.Release(ctx, c, true); return err }
		})},
		{"release", "died for the third time", func(t *testing.T, b *bench) func(context.Context) error {
			job := b.submit(t, spec(10))
			b.release(t, b.claim(t, job), true)
			b.release(t, b.claim(t, job), true)
			chunk := b.claim(t, job)
			return func(ctx context.Context) error { _, err := b.store.Release(ctx, chunk, true); return err }
		}},
		{"release", "the last of a cancelled job", func(t *testing.T, b *bench) func(context.Context) error {
			job := b.submit(t, spec(10))
			chunk := b.claim(t, job)
			b.cancel(t, job.ID)
			return func(ctx context.Context) error { _, err := b.store.Release(ctx, chunk, false); return err }
		}},
		{"cancel", "pending", func(t *testing.T, b *bench) func(context.Context) error {
			job := b.submit(t, spec(10))
			return func(ctx context.Context) error { return b.store.Cancel(ctx, tenant, job.ID, jobs.CancelledByClient) }
		}},
		{"cancel", "running", held(func(b *bench, c *jobs.Chunk) callFunc {
			return func(ctx context.Context) error { return b.store.Cancel(ctx, tenant, c.Sweep, jobs.CancelledByClient) }
		})},
		{"pause", "pending", func(t *testing.T, b *bench) func(context.Context) error {
			job := b.submit(t, spec(10))
			return func(ctx context.Context) error { return b.store.Pause(ctx, tenant, job.ID) }
		}},
		{"pause", "running", held(func(b *bench, c *jobs.Chunk) callFunc {
			return func(ctx context.Context) error { return b.store.Pause(ctx, tenant, c.Sweep) }
		})},
		{"resume", "paused", func(t *testing.T, b *bench) func(context.Context) error {
			job := b.submit(t, spec(10))
			b.pause(t, job.ID)
			return func(ctx context.Context) error {
				numbers, err := b.store.Resume(ctx, tenant, job.ID)
				if err == nil && len(numbers) == 0 {
					return errors.New("no workers are called")
				}
				return err
			}
		}},
		{"reconcile", "tickets that nobody used", func(t *testing.T, b *bench) func(context.Context) error {
			job := b.submit(t, spec(1<<20))
			b.due(t, job.ID, longAgo)
			return func(ctx context.Context) error { return reconcile(ctx, b, job.ID, 2) }
		}},
		{"reconcile", "a dead worker", expiredOnly(func(b *bench, c *jobs.Chunk) callFunc {
			return func(ctx context.Context) error { return reconcile(ctx, b, c.Sweep, 1) }
		})},
		{"reconcile", "an orphan", func(t *testing.T, b *bench) func(context.Context) error {
			job := b.submit(t, attached(spec(10)))
			b.setJob(t, job.ID, "orphan", 1)
			return func(ctx context.Context) error { return reconcile(ctx, b, job.ID, 0) }
		}},
		{"attend", "an attached job", func(t *testing.T, b *bench) func(context.Context) error {
			job := b.submit(t, attached(spec(10)))
			return func(ctx context.Context) error { return b.store.Attend(ctx, job.ID) }
		}},
		{"delete", "ended", func(t *testing.T, b *bench) func(context.Context) error {
			job := b.submit(t, spec(10))
			b.succeed(t, job)
			return func(ctx context.Context) error { return b.store.Delete(ctx, tenant, job.ID, 0) }
		}},
		{"delete", "of a revision", func(t *testing.T, b *bench) func(context.Context) error {
			job := b.submit(t, spec(10))
			b.succeed(t, job)
			revision := b.get(t, job.ID).Revision
			return func(ctx context.Context) error { return b.store.Delete(ctx, tenant, job.ID, revision) }
		}},
		{"delete", "that is gone", func(t *testing.T, b *bench) func(context.Context) error {
			job := b.submit(t, spec(10))
			b.succeed(t, job)
			if err := b.store.Delete(t.Context(), tenant, job.ID, 0); err != nil {
				t.Fatal(err)
			}
			return func(ctx context.Context) error { return want(b.store.Delete(ctx, tenant, job.ID, 0), jobs.ErrNotFound) }
		}},
		{"list", "a page with expired jobs", func(t *testing.T, b *bench) func(context.Context) error {
			for range 3 {
				if err := b.client.Del(t.Context(), jobs.KeyJob(b.submit(t, spec(10)).ID)).Err(); err != nil {
					t.Fatal(err)
				}
				b.submit(t, spec(10))
			}
			return func(ctx context.Context) error { _, _, err := b.store.List(ctx, tenant, "", 2); return err }
		}},
		{"heartbeat", "present", func(_ *testing.T, b *bench) func(context.Context) error {
			return func(ctx context.Context) error { return b.store.Heartbeat(ctx, "w", 2, 1e6) }
		}},
		{"heartbeat", "leaving", func(t *testing.T, b *bench) func(context.Context) error {
			if err := b.store.Heartbeat(t.Context(), "w", 2, 1e6); err != nil {
				t.Fatal(err)
			}
			return func(ctx context.Context) error { return b.store.Heartbeat(ctx, "w", 0, 0) }
		}},
		{"lead", "and step down", func(_ *testing.T, b *bench) func(context.Context) error {
			return func(ctx context.Context) error {
				for _, leads := range []bool{true, false} {
					if got, err := b.reconciler.Lead(ctx, leads); err != nil || got != leads {
						return fmt.Errorf("lead: got %v, %w", got, err)
					}
				}
				return nil
			}
		}},
		{"schema", "of no data yet", func(_ *testing.T, b *bench) func(context.Context) error { return b.store.Join }},
	}
	covered := map[string]bool{"prelude": true}
	for _, c := range cases {
		covered[c.script] = true
	}
	for _, name := range newResender(t, nil).names {
		if !covered[name] {
			t.Errorf("there is no case for %s.lua", name)
		}
	}
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		for _, c := range cases {
			t.Run(c.script+" "+c.name, func(t *testing.T) {
				plain := open()
				if err := plain.FlushAll(t.Context()).Err(); err != nil { // the server is the test's own
					t.Fatal(err)
				}
				call := c.prepare(t, newBench(t, plain, jobs.Limits{}))
				resent := false
				snapshot := func() map[string]string {
					all := contents(t, plain)
					for key, value := range all {
						all[key] = moments.ReplaceAllString(value, "TIME")
					}
					return all
				}
				var before map[string]string
				hook := newResender(t, func(script string, first, second any) {
					resent = resent || script == c.script
					if diff := cmp.Diff(first, second); diff != "" {
						t.Errorf("reply of %s (-first +second):\n%s", script, diff)
					}
					if diff := cmp.Diff(before, snapshot()); diff != "" {
						t.Errorf("what the second call of %s changed (-first +second):\n%s", script, diff)
					}
				})
				hook.sent = func() { before = snapshot() }
				plain.AddHook(hook)
				if err := call(t.Context()); err != nil {
					t.Error(err)
				}
				if !resent {
					t.Errorf("%s was not called", c.script)
				}
			})
		}
	})
}

type callFunc = func(ctx context.Context) error

type prepareFunc = func(t *testing.T, b *bench) func(ctx context.Context) error

// held prepares a chunk of a job of many.
func held(call func(b *bench, c *jobs.Chunk) callFunc) prepareFunc {
	return func(t *testing.T, b *bench) func(context.Context) error {
		t.Helper()
		return call(b, b.claim(t, b.submit(t, spec(1<<20))))
	}
}

// expiredOnly prepares one whose lease has run out, and expired one that was given back for that.
func expiredOnly(call func(b *bench, c *jobs.Chunk) callFunc) prepareFunc {
	return func(t *testing.T, b *bench) func(context.Context) error {
		t.Helper()
		chunk := b.claim(t, b.submit(t, spec(1<<20)))
		b.expireLease(t, chunk)
		return call(b, chunk)
	}
}

func expired(call func(b *bench, c *jobs.Chunk) callFunc) prepareFunc {
	return expiredOnly(func(b *bench, c *jobs.Chunk) callFunc {
		return func(ctx context.Context) error {
			if err := b.reconciler.Reconcile(ctx); err != nil {
				return err
			}
			return call(b, c)(ctx)
		}
	})
}

func request(id string, candidates uint64) jobs.Request {
	return jobs.Request{Tenant: tenant, Spec: spec(candidates), RequestID: id}
}

// want returns nil if err is the one that is wanted.
func want(err, wanted error) error {
	if errors.Is(err, wanted) {
		return nil
	}
	return fmt.Errorf("got %w, want %w", err, wanted)
}

func extend(ctx context.Context, b *bench, old jobs.Job, candidates uint64) error {
	_, err := b.service.Extend(ctx, jobs.Extension{Tenant: tenant, Job: old.ID, Budget: jobs.Budget{Candidates: candidates}})
	return err
}

func claim(ctx context.Context, b *bench, ticket jobs.Ticket, wanted error) error {
	_, err := b.store.Claim(ctx, ticket, "worker/1000", "worker", 1<<16)
	if wanted != nil {
		return want(err, wanted)
	}
	return err
}

func commit(ctx context.Context, b *bench, c *jobs.Chunk, hits [][]jobs.Hit) error {
	_, _, err := b.store.Commit(ctx, c, hits)
	return err
}

// reconcile wants at least so many tickets.
func reconcile(ctx context.Context, b *bench, id string, least int) error {
	calling, err := b.store.ReconcileJob(ctx, id, 4)
	if err == nil && len(calling) < least {
		return fmt.Errorf("got the tickets %v, want at least %d", calling, least)
	}
	return err
}

// TestLedgerAnswersAlikeWhenEveryCallIsSentTwice runs whole histories so. Where the two kinds of Redis could differ, the
// test above has been; this one takes five times as long on miniredis.
func TestLedgerAnswersAlikeWhenEveryCallIsSentTwice(t *testing.T) {
	t.Parallel()
	client := jobstest.Open(t, jobstest.StartRedis(t))
	client.AddHook(newResender(t, func(script string, first, second any) {
		if diff := cmp.Diff(first, second); diff != "" {
			t.Errorf("reply of %s (-first +second):\n%s", script, diff)
		}
	}))
	rapid.Check(t, func(t *rapid.T) { newModel(t, client).history(t) })
}

// A worker that is told twice that nobody wants its chunk has no lease that it does not know of.
func TestClaimThatComesAgainAfterACancelHoldsNothing(t *testing.T) {
	t.Parallel()
	jobstest.Each(t, func(t *testing.T, open func() redis.UniversalClient) {
		b := newBench(t, open(), jobs.Limits{})
		job := b.submit(t, spec(10))
		ticket := b.waiting(t, jobs.QueueBatch, job.ID)[0]
		if _, err := b.store.Claim(t.Context(), ticket, "worker/1", "worker", 1<<16); err != nil { // its reply is lost
			t.Fatal(err)
		}
		b.cancel(t, job.ID)
		if _, err := b.store.Claim(t.Context(), ticket, "worker/1", "worker", 1<<16); !errors.Is(err, jobs.ErrIdle) {
			t.Fatalf("got %v, want ErrIdle", err)
		}
		if got := b.get(t, job.ID); got.State != jobs.Cancelled || got.StopLatency > time.Minute {
			t.Errorf("got %+v, want CANCELLED: nothing is held", got)
		}
	})
}
