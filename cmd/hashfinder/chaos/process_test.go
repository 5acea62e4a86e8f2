//go:build chaos

package chaos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/hashfinder/hashfinder/jobs/jobstest/history"
)

// process is a program that can be killed and started again. Each time it has another name in the history.
type process struct {
	slot     string // such as w1
	dir      string // of its logs
	ready    string // what its log says when it serves
	command  func(name string) (*exec.Cmd, error)
	recorder *history.Recorder
	mortal   bool // it may kill itself, and is then started again

	mu      sync.Mutex
	n       int
	name    string
	cmd     *exec.Cmd
	asked   bool // to end
	closed  bool
	ended   chan struct{}
	waiters sync.WaitGroup
}

// start starts the program. It does not wait until it serves.
func (p *process) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return errors.New("it is closed")
	}
	p.n++
	p.name = fmt.Sprintf("%s.%d", p.slot, p.n)
	cmd, err := p.command(p.name)
	if err != nil {
		return err
	}
	log, err := os.Create(p.log(p.name))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	// It ends with the test, even if that is killed.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	ended := make(chan struct{})
	p.cmd, p.asked, p.ended = cmd, false, ended
	p.waiters.Go(func() { p.wait(cmd, p.name, ended) })
	return nil
}

func (p *process) log(name string) string { return filepath.Join(p.dir, name+".log") }

// wait waits for the end, and records one that nobody asked for.
func (p *process) wait(cmd *exec.Cmd, name string, ended chan struct{}) {
	err := cmd.Wait()
	p.mu.Lock()
	asked := p.asked
	p.mu.Unlock()
	what := history.Kill
	if !asked && !p.mortal {
		what = history.Exit
	}
	p.recorder.Note(history.Event{Kind: history.Fault, Fault: what, Target: name, Error: fmt.Sprint(err)})
	close(ended)
	if !asked && p.mortal {
		_ = p.start() // it fails only when the run is over
	}
}

// kill kills the process; when it returns nothing of it runs.
func (p *process) kill() {
	p.mu.Lock()
	p.asked = true
	cmd, ended := p.cmd, p.ended
	p.mu.Unlock()
	if cmd == nil {
		return
	}
	_ = cmd.Process.Kill() // it may have ended
	<-ended
}

// close kills the process for good.
func (p *process) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.kill()
	p.waiters.Wait()
}

// stall stops the process for a while.
func (p *process) stall(ctx context.Context, d time.Duration) error {
	p.mu.Lock()
	name, pid := p.name, p.cmd.Process
	p.mu.Unlock()
	op := p.recorder.Begin(history.Event{Kind: history.Fault, Fault: history.Stall, Target: name})
	if err := pid.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	err := pause(ctx, d)
	if err := pid.Signal(syscall.SIGCONT); err != nil {
		return err
	}
	op.End(history.Event{})
	return err
}

// current is the process's name now.
func (p *process) current() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.name
}

// serves waits until the process serves.
func (p *process) serves(ctx context.Context) error {
	p.mu.Lock()
	name, ended := p.name, p.ended
	p.mu.Unlock()
	for {
		log, err := os.ReadFile(p.log(name))
		if err == nil && bytes.Contains(log, []byte(p.ready)) {
			return nil
		}
		select {
		case <-ended:
			return fmt.Errorf("%s has ended:\n%s", name, log)
		default:
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return fmt.Errorf("%s does not serve: %w\n%s", name, err, log)
		}
	}
}

// pause waits.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// until polls until a condition holds.
func until(ctx context.Context, holds func() bool) error {
	for !holds() {
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}
