//go:build chaos

package chaos

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"github.com/hashfinder/hashfinder/jobs/jobstest/history"
)

// fault is something that befalls a system.
type fault struct {
	name string
	// strike does it once, and undoes it. What it does is recorded as history's faults.
	strike  func(ctx context.Context, s *system) error
	strikes int  // of a run; by default one
	clients int  // default: -clients
	long    bool // it takes long, or is like another, and is left out by default
	with    setup
	lives   []life // default: all but toPoison
	readers bool   // streams are read slowly
	partial bool   // not all batches are recorded
	// waived are the promises that the fault leaves no room for; docs/reliability.md says why.
	waived []string
	orphan time.Duration // default: as promised
}

// pace is so slow that what a client waits for lasts seconds, and that the machine has time for all else.
const pace = 1e6

// nap is how long such a kernel sleeps at a time. A real one looks more often whether it is to stop; so many
// that wake up so often would keep the machine busy with nothing else.
const nap = 5 * time.Millisecond

// everyday are the lives of jobs that need no clock.
var everyday = []life{toSpend, toCancel, toFind, toLeave, toSpend, toSpend, toCancel, toStay}

// faults are all of them.
func faults() []fault {
	all := []fault{
		{name: "none", strikes: 2, strike: func(ctx context.Context, _ *system) error { return pause(ctx, time.Second) }},
		{name: "only cancels", clients: 3, strikes: 1, long: true, lives: []life{toStop}, with: setup{pace: 2e5, nap: 300 * time.Microsecond, slots: 1, direct: true}, strike: func(ctx context.Context, _ *system) error { return pause(ctx, 40*time.Second) }},
		{name: "kill worker, only budgets", clients: 8, strikes: 10, long: true, lives: []life{toSpend}, strike: func(ctx context.Context, s *system) error { return restart(ctx, one(s.workers)) }},
		{name: "kill worker", strikes: 3, strike: func(ctx context.Context, s *system) error { return restart(ctx, one(s.workers)) }},
		{name: "kill redis", strikes: 3, orphan: goneTime, strike: func(ctx context.Context, s *system) error { return s.redis.down(ctx, briefly(ctx), nil) }},
		{name: "kill api", strikes: 3, lives: everyday, strike: func(ctx context.Context, s *system) error { return restart(ctx, one(s.fronts)) }},
		{name: "kill api, only finds", strikes: 10, long: true, lives: []life{toStay}, with: setup{ceiling: 1 << 23}, strike: killFront},
		{name: "kill all", strikes: 2, strike: killAll, orphan: goneTime},
		{name: "stall worker 5 s", strikes: 1, strike: stall(5 * time.Second)},
		{name: "stall worker 35 s", clients: 12, strikes: 1, long: true, strike: stall(35 * time.Second)},
		{name: "stall worker 90 s", clients: 12, strikes: 1, long: true, strike: stall(90 * time.Second)},
		{name: "redis slow", strikes: 2, strike: everyLink("latency", map[string]any{"latency": 150, "jitter": 100}, 2*time.Second)},
		{name: "redis resets", strikes: 3, orphan: goneTime, strike: everyLink("reset_peer", map[string]any{"timeout": 0}, 500*time.Millisecond)},
		{name: "worker half-open", strikes: 1, strike: func(ctx context.Context, s *system) error { return halfOpen(ctx, s, one(s.workers)) }},
		{name: "api half-open", strikes: 1, strike: func(ctx context.Context, s *system) error { return halfOpen(ctx, s, one(s.fronts)) }},
		{
			// A smallest chunk takes four seconds, so that what is cut off has long to go.
			name: "worker cut off, long chunks", strikes: 5, long: true, lives: []life{toCancel}, with: setup{pace: 16e3},
			strike: func(ctx context.Context, s *system) error { return halfOpen(ctx, s, one(s.workers)) },
		},
		{name: "worker refused", strikes: 1, long: true, strike: func(ctx context.Context, s *system) error { return refused(ctx, s, one(s.workers)) }},
		{name: "api refused", strikes: 1, long: true, strike: func(ctx context.Context, s *system) error { return refused(ctx, s, one(s.fronts)) }},
		{name: "redis sleeps 5 s", strikes: 1, strike: sleep, orphan: goneTime},
		{name: "no pub/sub", strikes: 2, strike: noPubSub},
		{name: "torn file", strikes: 3, orphan: goneTime, strike: func(ctx context.Context, s *system) error { return s.redis.down(ctx, briefly(ctx), tear) }},
		{
			// What was acknowledged is gone, so what clients saw before proves nothing. Once a run: Redis 7.0 leaves the
			// begin of a transaction in the file that it has cut short, and loses what follows on it at its next start.
			name: "lost tail", strikes: 1, strike: func(ctx context.Context, s *system) error { return s.redis.down(ctx, briefly(ctx), lose) },
			waived: []string{"register", "I1", "I3", "I5", "I6", "I7", "I12", "I13", "tickets", promiseAnswers},
		},
		{name: "slow reader", strikes: 2, readers: true, strike: func(ctx context.Context, _ *system) error { return pause(ctx, time.Second) }},
		{name: "client vanishes", clients: 12, strikes: 1, long: true, strike: vanish, orphan: vanishTime, with: setup{ceiling: 1 << 40}, lives: []life{toSpend, toCancel}},
		{name: "clock +2 s", strikes: 2, long: true, with: setup{clock: true, ceiling: 1 << 23}, lives: everyday, strike: step(2 * time.Second)},
		{name: "clock -2 s", strikes: 2, long: true, with: setup{clock: true, ceiling: 1 << 23}, lives: everyday, strike: step(-2 * time.Second)},
		{name: "clock +60 s", strikes: 2, long: true, with: setup{clock: true, ceiling: 1 << 23}, lives: everyday, strike: step(60 * time.Second)},
		{name: "clock -60 s", strikes: 2, long: true, with: setup{clock: true, ceiling: 1 << 23}, lives: everyday, strike: step(-60 * time.Second)},
		{name: "clock +300 s", strikes: 1, with: setup{clock: true, ceiling: 1 << 23}, lives: everyday, strike: step(300 * time.Second)},
		{name: "clock -300 s", strikes: 1, with: setup{clock: true, ceiling: 1 << 23}, lives: everyday, strike: step(-300 * time.Second)},
		{
			name: "mixed versions", strikes: 3, with: setup{older: olderHalf}, partial: true,
			strike: func(ctx context.Context, s *system) error {
				return restart(ctx, one(append(append([]*process(nil), s.workers...), s.fronts...)))
			},
		},
		poisonous(poisonPanic, setup{}, true),
		poisonous(poisonLie, setup{}, true),
		poisonous(poisonHang, setup{}, false),
		poisonous(poisonDie, setup{mortal: true}, false),
	}
	for i := range all {
		all[i].with.pace = cmp.Or(all[i].with.pace, pace)
		all[i].with.ceiling = cmp.Or(all[i].with.ceiling, ceiling)
	}
	return all
}

func one(all []*process) *process { return all[rand.IntN(len(all))] }

func briefly(ctx context.Context) func() error {
	return func() error { return pause(ctx, between(0, 700*time.Millisecond)) }
}

// restart kills a process, and starts it again after a while.
func restart(ctx context.Context, p *process) error {
	p.kill()
	if err := briefly(ctx)(); err != nil {
		return err
	}
	if err := p.start(); err != nil {
		return err
	}
	return p.serves(ctx)
}

// killFront kills a front end, and starts it again when the searches that have lived by it should be over.
func killFront(ctx context.Context, s *system) error {
	p := one(s.fronts)
	p.kill()
	if err := pause(ctx, 10500*time.Millisecond); err != nil {
		return err
	}
	if err := p.start(); err != nil {
		return err
	}
	return p.serves(ctx)
}

// goneTime is how long an orphan may go on when Redis was gone for three seconds: watchers get ten anew to come back, from
// when a process is there again. Strikes that come one upon the other are such an absence too: go-redis tries no more often
// than once a second, so between them nobody may get through.
const goneTime = 12 * time.Second

// killAll kills everything, and starts it again.
func killAll(ctx context.Context, s *system) error {
	return s.without(history.Nobody, "all", func() error {
		err := s.redis.down(ctx, func() error {
			for p := range s.links {
				p.kill()
			}
			return briefly(ctx)()
		}, nil)
		if err != nil {
			return err
		}
		for p := range s.links {
			if err := p.start(); err != nil {
				return err
			}
		}
		for p := range s.links {
			if err := p.serves(ctx); err != nil {
				return err
			}
		}
		return nil
	})
}

func stall(d time.Duration) func(context.Context, *system) error {
	return func(ctx context.Context, s *system) error { return one(s.workers).stall(ctx, d) }
}

// everyLink disturbs all links to Redis.
func everyLink(toxic string, attributes map[string]any, d time.Duration) func(context.Context, *system) error {
	return func(ctx context.Context, s *system) error {
		return s.without(history.Outage, "redis", func() error {
			for _, way := range s.links {
				undo, err := way.disturb(ctx, toxic, attributes)
				if err != nil {
					return err
				}
				defer undo()
			}
			return pause(ctx, d)
		})
	}
}

// cutTime is longer than a lease.
const cutTime = 4 * time.Second

// halfOpen lets a process's connections to Redis be, and nothing pass.
func halfOpen(ctx context.Context, s *system, p *process) error {
	return s.without(history.Cut, p.current(), func() error {
		undo, err := s.links[p].disturb(ctx, "timeout", map[string]any{"timeout": 0})
		if err != nil {
			return err
		}
		defer undo()
		return pause(ctx, cutTime)
	})
}

// refused breaks a process's connections to Redis, and lets it make no others.
func refused(ctx context.Context, s *system, p *process) error {
	return s.without(history.Cut, p.current(), func() error {
		s.links[p].refuse()
		if err := pause(ctx, cutTime); err != nil {
			return err
		}
		return s.links[p].accept()
	})
}

// sleep makes Redis answer nobody for five seconds.
func sleep(ctx context.Context, s *system) error {
	return s.without(history.Outage, "redis", func() error { return s.redis.client.Do(ctx, "DEBUG", "SLEEP", "5").Err() })
}

// noPubSub breaks all subscriptions, again and again.
func noPubSub(ctx context.Context, s *system) error {
	return s.without(history.Losses, "redis", func() error {
		const times = 40
		for range times {
			if err := s.redis.client.Do(ctx, "CLIENT", "KILL", "TYPE", "pubsub").Err(); err != nil {
				return err
			}
			if err := pause(ctx, 50*time.Millisecond); err != nil {
				return err
			}
		}
		return nil
	})
}

// tear leaves half of a command at the end of a file: one that Redis was writing when it died, and had told nobody of.
func tear(name string) error {
	file, err := os.OpenFile(name, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = file.WriteString("*3\r\n$3\r\nSET\r\n$9\r\nhashfin")
	return err
}

// lose cuts the end of a file off, and with it what was acknowledged.
func lose(name string) error {
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	const largest = 20_000
	return os.Truncate(name, max(0, info.Size()-1-rand.Int64N(largest)))
}

// step moves Redis's clock, which is the one that leases, deadlines and orphans go by.
func step(d time.Duration) func(context.Context, *system) error {
	return func(ctx context.Context, s *system) error {
		// Never at its end: what was timed by the old clock stays.
		s.recorder.Begin(history.Event{Kind: history.Fault, Fault: history.Clock, Target: "redis"})
		if err := s.redis.step(d); err != nil {
			return err
		}
		clock, err := s.redis.client.Time(ctx).Result()
		if err != nil {
			return err
		}
		if off := time.Until(clock) - s.redis.ahead; off.Abs() > time.Second {
			return fmt.Errorf("Redis's clock is %v from where it was to be", off)
		}
		return restart(ctx, one(s.workers)) // whose leases are of the old time
	}
}

// vanishTime is how soon a front end notices that a client is gone whose network says nothing: its keepalive asks
// after 30 s and waits for 10. The promise begins then.
const vanishTime = 40*time.Second + 250*time.Millisecond

// vanish has the host of a client be gone while it searches.
func vanish(ctx context.Context, s *system) error {
	way, err := newLink(s.client.addresses[0])
	if err != nil {
		return err
	}
	defer way.close()
	conn, err := dial(way.address)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	gone, leave := context.WithCancel(ctx)
	defer leave()
	distant := *s.client
	distant.fronts = distant.fronts[:0:0]
	distant.fronts = append(distant.fronts, conn)
	known, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- distant.findRange(gone, &history.Spec{Query: `{"name":"VANISHED","ideal":0,"interesting":3}`, Attached: true},
			0, func(string) { close(known) })
	}()
	select {
	case <-known:
	case err := <-done:
		return fmt.Errorf("the search that is to be left: %w", err)
	}
	if _, err := way.disturb(ctx, "timeout", map[string]any{"timeout": 0}); err != nil {
		return err
	}
	leave() // nothing of it gets through
	if err := <-done; err != nil {
		return err
	}
	return pause(ctx, vanishTime)
}

// poisonous is a kernel that fails in a chunk of some jobs.
func poisonous(how string, with setup, partial bool) fault {
	with.poison = how
	return fault{
		name: "poison: " + how, strikes: 2, with: with, partial: partial,
		lives:  []life{toSpend, toCancel, toPoison, toSpend, toFind, toSpend, toSpend},
		strike: func(ctx context.Context, _ *system) error { return pause(ctx, 2*time.Second) },
	}
}
