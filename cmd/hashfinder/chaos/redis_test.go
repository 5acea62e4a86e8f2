//go:build chaos

package chaos

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/hashfinder/hashfinder/jobs/jobstest/history"
)

// redisServer is a redis-server that keeps all that it has acknowledged in a file, and can be killed.
type redisServer struct {
	process
	address string
	client  *redis.Client // for what faults do to it
	data    string        // directory
	clock   string        // file that says how far its clock is ahead
	ahead   time.Duration
}

// newRedis returns a redis-server. steps says that its clock can be stepped.
func newRedis(ctx context.Context, dir string, recorder *history.Recorder, steps bool) (*redisServer, error) {
	server, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, err
	}
	address := newAddress()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	s := &redisServer{address: address, data: filepath.Join(dir, "redis")}
	if err := os.Mkdir(s.data, 0o700); err != nil {
		return nil, err
	}
	var env []string
	if steps {
		library := filepath.Join(dir, "clock.so")
		compile := exec.CommandContext(ctx, "gcc", "-shared", "-fPIC", "-O1", "-o", library, filepath.Join("testdata", "clock.c"))
		if out, err := compile.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("compile the clock that can be stepped: %w\n%s", err, out)
		}
		s.clock = filepath.Join(dir, "clock")
		if err := s.step(0); err != nil {
			return nil, err
		}
		env = []string{"LD_PRELOAD=" + library, "CHAOS_CLOCK=" + s.clock}
	}
	s.process = process{
		slot: "redis", dir: dir, ready: "Ready to accept connections", recorder: recorder,
		command: func(string) (*exec.Cmd, error) {
			// Not the run's context: the end is left to close.
			cmd := exec.CommandContext(context.WithoutCancel(ctx), server, "--bind", host, "--port", port, "--dir", s.data,
				"--save", "", "--appendonly", "yes", "--appendfsync", "always", "--aof-load-truncated", "yes", "--enable-debug-command", "local")
			cmd.Env = append(os.Environ(), env...)
			return cmd, nil
		},
	}
	// Its calls may take as long as a fault lasts, and are not repeated.
	s.client = redis.NewClient(&redis.Options{Addr: s.address, MaxRetries: -1, ContextTimeoutEnabled: true, ReadTimeout: -1})
	return s, nil
}

// answers waits until the server serves. It loads its file first.
func (s *redisServer) answers(ctx context.Context) error {
	if err := until(ctx, func() bool { return s.client.Ping(ctx).Err() == nil }); err != nil {
		return fmt.Errorf("redis does not answer: %w", err)
	}
	return nil
}

// down kills the server, does something to its file, and starts it again after a while.
func (s *redisServer) down(ctx context.Context, wait func() error, change func(file string) error) error {
	op := s.recorder.Begin(history.Event{Kind: history.Fault, Fault: history.Outage, Target: "redis"})
	s.kill()
	if err := wait(); err != nil {
		return err
	}
	if change != nil {
		files, err := filepath.Glob(filepath.Join(s.data, "appendonlydir", "*.incr.aof"))
		if err != nil || len(files) == 0 {
			return fmt.Errorf("no append-only file: %w", err)
		}
		slices.Sort(files)
		if err := change(files[len(files)-1]); err != nil {
			return err
		}
	}
	if err := s.mend(ctx); err != nil {
		return err
	}
	if err := s.start(); err != nil {
		return err
	}
	if err := s.answers(ctx); err != nil {
		return err
	}
	op.End(history.Event{})
	return nil
}

// mend cuts off what the server's file ends with that is not whole, as docs/operations.md has it done before a start. Redis
// does so too, but leaves the begin of a transaction there, with which the next start runs what does not belong to it.
func (s *redisServer) mend(ctx context.Context) error {
	manifest := filepath.Join(s.data, "appendonlydir", "appendonly.aof.manifest")
	check := exec.CommandContext(ctx, "redis-check-aof", "--fix", manifest)
	check.Stdin = strings.NewReader("y\n")
	if out, err := check.CombinedOutput(); err != nil {
		return fmt.Errorf("check the append-only file: %w\n%s", err, out)
	}
	return nil
}

// step moves the server's clock, if it was made with one that can be.
func (s *redisServer) step(d time.Duration) error {
	s.ahead += d
	file, err := os.OpenFile(s.clock, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	// In place: the server has mapped it.
	_, err = file.WriteAt(binary.NativeEndian.AppendUint64(nil, uint64(s.ahead)), 0)
	return err
}
