package main

import (
	"os"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	hashfinderv1 "github.com/hashfinder/hashfinder/proto/hashfinder/v1"
)

const firstHit = "4fE=          E0Vzxl8baz59WBMz6iACDOCQorI=   1  58098\n"

func TestInterrupt(t *testing.T) {
	const stopping = "hashfinder: interrupted: stopping the search\n"
	for _, test := range []struct {
		name   string
		args   []string
		signal os.Signal
		errs   string
		state  hashfinderv1.Job_State
	}{
		{
			name: "find is confirmed", args: []string{"find", "endless"}, signal: os.Interrupt,
			errs:  stopping + "hashfinder: cancelled: by a client, searched 58099 candidates in 2s, 29k/s\n",
			state: hashfinderv1.Job_CANCELLED,
		},
		{
			name: "quiet find", args: []string{"find", "--quiet", "endless"}, signal: syscall.SIGTERM,
			state: hashfinderv1.Job_CANCELLED,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			fake := newFake(t)
			command, out, errs := start(t, fake, test.args...)
			await(t, fake.watched)
			if err := command.Process.Signal(test.signal); err != nil {
				t.Fatal(err)
			}
			_ = command.Wait() // the status says it
			if got := command.ProcessState.ExitCode(); got != exitInterrupted {
				t.Errorf("exit status %d, want %d", got, exitInterrupted)
			}
			if diff := cmp.Diff(firstHit, out.String()); diff != "" {
				t.Errorf("standard output (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.errs, errs.String()); diff != "" {
				t.Errorf("standard error (-want +got):\n%s", diff)
			}
			if got := fake.state(0); got != test.state {
				t.Errorf("the job is %v, want %v", got, test.state)
			}
		})
	}
}

// Watching is not owning: the job goes on.
func TestInterruptWatch(t *testing.T) {
	fake := newFake(t)
	submit, _, _ := start(t, fake, "submit", "endless")
	if err := submit.Wait(); err != nil {
		t.Fatal(err)
	}
	command, out, errs := start(t, fake, "watch", "00000000-0000-7000-8000-000000000001")
	await(t, out.wrote)
	if err := command.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_ = command.Wait() // the status says it
	if got := command.ProcessState.ExitCode(); got != exitInterrupted {
		t.Errorf("exit status %d, want %d", got, exitInterrupted)
	}
	if got, want := out.String()+errs.String(), firstHit; got != want {
		t.Errorf("output %q, want %q", got, want)
	}
	if got, want := fake.state(0), hashfinderv1.Job_PENDING; got != want {
		t.Errorf("the job is %v, want %v", got, want)
	}
}

// The second signal does not wait for a confirmation that does not come.
func TestInterruptTwice(t *testing.T) {
	fake := newFake(t)
	command, _, _ := start(t, fake, "find", "stubborn")
	await(t, fake.watched)
	if err := command.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	await(t, fake.cancelled)
	if err := command.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_ = command.Wait() // the status says it
	if got := command.ProcessState.ExitCode(); got != exitInterrupted {
		t.Errorf("exit status %d, want %d", got, exitInterrupted)
	}
}
