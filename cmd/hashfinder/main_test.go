package main

import (
	"context"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"
)

// program is the name by which this test program is the real one.
const program = "hashfinder"

// raceOptions keep each program under the race detector from sleeping for a second at its end.
const raceOptions = "atexit_sleep_ms=0"

var update = flag.Bool("update", false, "write the golden files and the expectations of the scripts")

func TestMain(m *testing.M) {
	testscript.Main(leakChecked{m}, map[string]func(){program: main})
}

// leakChecked fails when tests leave goroutines behind.
type leakChecked struct{ m *testing.M }

func (l leakChecked) Run() int {
	if code := l.m.Run(); code != 0 {
		return code
	}
	if err := goleak.Find(); err != nil {
		_, _ = os.Stderr.WriteString(err.Error() + "\n")
		return 1
	}
	return 0
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			fake, err := startFake()
			if err != nil {
				return err
			}
			env.Defer(fake.stop)
			env.Setenv("HASHFINDER_SERVER", fake.addr)
			env.Setenv("GORACE", raceOptions)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"status": scriptStatus},
	})
}

// scriptStatus runs "status CODE PROGRAM ARG...": the program must exit with the code.
func scriptStatus(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status CODE PROGRAM ARG...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("run %s: %v", args[1], err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("%s exited with status %d, want %d", strings.Join(args[1:], " "), got, want)
	}
}

// patient is how long a test waits for what should come soon.
const patient = 30 * time.Second

// output keeps what a program writes.
type output struct {
	strings.Builder
	// wrote is sent to with each write.
	wrote chan struct{}
}

// Write keeps p.
func (o *output) Write(p []byte) (int, error) {
	defer func() { o.wrote <- struct{}{} }()
	return o.Builder.Write(p)
}

// start starts the real program against a fake service. What it writes can be read when it has ended.
func start(t *testing.T, fake *fakeService, args ...string) (command *exec.Cmd, out, errs *output) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patient)
	t.Cleanup(cancel)
	command = exec.CommandContext(ctx, self)
	command.Args = append([]string{program}, args...)
	command.Env = append(os.Environ(), "HASHFINDER_SERVER="+fake.addr, "GORACE="+raceOptions)
	const writes = 100
	out, errs = &output{wrote: make(chan struct{}, writes)}, &output{wrote: make(chan struct{}, writes)}
	command.Stdout, command.Stderr = out, errs
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	return command, out, errs
}

// await waits until something has happened at the fake service.
func await(t *testing.T, happened <-chan struct{}) {
	t.Helper()
	select {
	case <-happened:
	case <-time.After(patient):
		t.Fatal("it does not happen")
	}
}

func newFake(t *testing.T) *fakeService {
	t.Helper()
	fake, err := startFake()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fake.stop)
	return fake
}
