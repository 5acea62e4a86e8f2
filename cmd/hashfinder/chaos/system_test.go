//go:build chaos

package chaos

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/hashfinder/hashfinder/jobs/jobstest/history"
)

const (
	fronts = 2
	crew   = 2 // workers
	// startTime bounds the start of a system.
	startTime = time.Minute
)

// system is hashfinder as it is run: Redis, front ends and workers, each a process.
type system struct {
	dir      string
	recorder *history.Recorder // of the clients and the faults
	redis    *redisServer
	fronts   []*process
	workers  []*process
	links    map[*process]*link // to Redis
	client   *client
}

// setup is what differs from one system to another.
type setup struct {
	poison string        // of the workers' kernels
	mortal bool          // workers may die by themselves
	clock  bool          // Redis's clock can be stepped
	pace   float64       // candidates a second of each kernel call
	nap    time.Duration // default: nap
	slots  int           // of each worker, for each of its two queues; default: slots
	direct bool          // no link between Redis and the others, which takes time too
	// ceiling is the server's for budgets of candidates.
	ceiling uint64
	// older, if not nil, returns another program for some of the processes, and "" for the others.
	older func(slot string) (string, error)
}

// newSystem starts a system that ends with the test, and waits until it serves.
func newSystem(ctx context.Context, t *testing.T, with setup, surprise func(string)) (*system, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	dir, err := os.MkdirTemp("", "hashfinder-chaos")
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &system{dir: dir, recorder: history.NewRecorder("client", nil), links: map[*process]*link{}}
	if s.redis, err = newRedis(ctx, dir, s.recorder, with.clock); err != nil {
		return nil, err
	}
	t.Cleanup(s.close)
	if err := s.redis.start(); err != nil {
		return nil, err
	}
	if err := s.redis.answers(ctx); err != nil {
		return nil, err
	}
	s.client = &client{recorder: s.recorder, surprise: surprise}
	for n := range fronts {
		if err := s.addFront(ctx, fmt.Sprintf("a%d", n+1), with); err != nil {
			return nil, err
		}
	}
	for n := range crew {
		if err := s.addWorker(ctx, fmt.Sprintf("w%d", n+1), with); err != nil {
			return nil, err
		}
	}
	for p := range s.links {
		if err := p.serves(ctx); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (s *system) addFront(ctx context.Context, slot string, with setup) error {
	binary, err := program()
	if err != nil {
		return err
	}
	if with.older != nil {
		older, err := with.older(slot)
		if err != nil {
			return err
		}
		binary = cmp.Or(older, binary)
	}
	listen := [2]string{newAddress(), newAddress()}
	conn, err := dial(listen[0])
	if err != nil {
		return err
	}
	s.client.fronts, s.client.addresses = append(s.client.fronts, conn), append(s.client.addresses, listen[0])
	p, err := s.add(slot, "msg=serving", with, func(_, url string) *exec.Cmd {
		return exec.CommandContext(context.WithoutCancel(ctx), binary, "serve", "--roles", "api", "--redis", url,
			"--grpc-listen", listen[0], "--http-listen", listen[1],
			"--max-candidates", fmt.Sprint(with.ceiling), "--max-hits", fmt.Sprint(maxHits))
	})
	s.fronts = append(s.fronts, p)
	return err
}

func (s *system) addWorker(ctx context.Context, slot string, with setup) error {
	binary, err := os.Executable()
	if err != nil {
		return err
	}
	older := ""
	if with.older != nil {
		if older, err = with.older(slot); err != nil {
			return err
		}
	}
	p, err := s.add(slot, "worker ready", with, func(name, url string) *exec.Cmd {
		if older != "" {
			return exec.CommandContext(context.WithoutCancel(ctx), older, "serve", "--roles", "worker", "--redis", url, "--concurrency", fmt.Sprint(cmp.Or(with.slots, slots)))
		}
		cmd := exec.CommandContext(context.WithoutCancel(ctx), binary)
		cmd.Env = append(os.Environ(), envWorker+"="+name, envRedis+"="+url, envHistory+"="+filepath.Join(s.dir, name+".history"),
			envPace+"="+fmt.Sprint(with.pace), envNap+"="+cmp.Or(with.nap, nap).String(), envSlots+"="+fmt.Sprint(cmp.Or(with.slots, slots)),
			envPoison+"="+with.poison)
		return cmd
	})
	s.workers = append(s.workers, p)
	if p != nil {
		p.mortal = with.mortal
	}
	return err
}

// add starts a process with a link to Redis.
func (s *system) add(slot, ready string, with setup, command func(name, url string) *exec.Cmd) (*process, error) {
	way, err := newLink(s.redis.address)
	if err != nil {
		return nil, err
	}
	address := way.address
	if with.direct {
		address = s.redis.address
	}
	p := &process{
		slot: slot, dir: s.dir, ready: ready, recorder: s.recorder,
		command: func(name string) (*exec.Cmd, error) { return command(name, "redis://"+address), nil },
	}
	s.links[p] = way
	return p, p.start()
}

// close ends all that the system is made of.
func (s *system) close() {
	if s.client != nil {
		for _, conn := range s.client.fronts {
			closeConn(conn)
		}
	}
	for p, way := range s.links {
		p.close()
		way.close()
	}
	s.redis.close()
	s.redis.client.Close()
}

func closeConn(conn *grpc.ClientConn) { _ = conn.Close() } // it is closed

// events merges what clients and workers have recorded.
func (s *system) events() ([]history.Event, error) {
	files, err := filepath.Glob(filepath.Join(s.dir, "*.history"))
	if err != nil {
		return nil, err
	}
	events, err := history.Read(files...)
	if err != nil {
		return nil, err
	}
	events = append(events, s.recorder.Events()...)
	history.Sort(events)
	return events, nil
}

// without records that something does not serve while f runs.
func (s *system) without(what, target string, f func() error) error {
	op := s.recorder.Begin(history.Event{Kind: history.Fault, Fault: what, Target: target})
	if err := f(); err != nil {
		return err
	}
	op.End(history.Event{})
	return nil
}
