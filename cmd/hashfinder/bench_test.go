package main

import (
	"os"
	"strings"
	"testing"
)

// Ctrl-C ends a measurement that is under way, and says nothing.
func TestInterruptBench(t *testing.T) {
	command, out, errs := start(t, newFake(t), "bench", "kernel", "--time", "1h")
	await(t, out.wrote) // the header
	if err := command.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_ = command.Wait() // the status says it
	if got := command.ProcessState.ExitCode(); got != exitInterrupted {
		t.Errorf("exit status %d, want %d", got, exitInterrupted)
	}
	if got := strings.Count(out.String(), "\n"); got != 2 || errs.String() != "" {
		t.Errorf("%d lines of output, want the header's 2; standard error %q, want none", got, errs.String())
	}
}

func TestModelName(t *testing.T) {
	for _, test := range []struct{ about, cpuinfo, want string }{
		{"amd64", "processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel\t\t: 17\nmodel name\t: AMD EPYC: the one\nmodel name\t: other\n", "AMD EPYC: the one"},
		{"arm64 has none", "processor\t: 0\nBogoMIPS\t: 50.00\nCPU part\t: 0xd0c\n", ""},
		{"nothing", "", ""},
	} {
		t.Run(test.about, func(t *testing.T) {
			if got := modelName(strings.NewReader(test.cpuinfo)); got != test.want {
				t.Errorf("modelName = %q, want %q", got, test.want)
			}
		})
	}
}
