package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
)

// version is set by -ldflags "-X main.version=…".
var version = "dev"

const description = `Look for secrets whose base64 SHA-1 contains a name.

Exit status: 0 found or done, 1 failed, 2 asked wrongly, 3 a budget was used up, 4 cancelled or timed out, 130 interrupted.`

// cli is the command line.
type cli struct {
	Find        findCmd        `cmd:"" help:"Search for a name, here or on a server, and print the hits as they are found."`
	Submit      submitCmd      `cmd:"" help:"Submit a search as a job and print the job's name."`
	Get         getCmd         `cmd:"" help:"Print a job."`
	List        listCmd        `cmd:"" help:"List jobs, the newest first."`
	Watch       watchCmd       `cmd:"" help:"Print a job's hits to its end."`
	Cancel      cancelCmd      `cmd:"" help:"Stop a job."`
	Pause       pauseCmd       `cmd:"" help:"Have a job left alone until it is resumed."`
	Resume      resumeCmd      `cmd:"" help:"Let a paused job go on."`
	Extend      extendCmd      `cmd:"" help:"Go on with a job that has used up a budget."`
	Delete      deleteCmd      `cmd:"" help:"Remove a job that has ended."`
	Estimate    estimateCmd    `cmd:"" help:"Tell how long a search can be expected to take."`
	Serve       serveCmd       `cmd:"" help:"Serve searches."`
	Bench       benchCmd       `cmd:"" help:"Measure this machine."`
	Healthcheck healthcheckCmd `cmd:"" help:"Exit with status 0 if the service in this place is healthy."`
	Version     versionCmd     `cmd:"" help:"Print the version."`

	VersionFlag kong.VersionFlag `name:"version" help:"Print the version and exit."`
}

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run runs one command line and returns the exit status. The first SIGINT or SIGTERM ends the context that the
// command gets, with the cause errInterrupted; the second ends the process.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	con := newConsole(stdin, stdout, stderr)
	exited := -1
	var c cli
	parser, err := kong.New(&c,
		kong.Name("hashfinder"),
		kong.Description(description),
		kong.Writers(stdout, stderr),
		kong.Exit(func(status int) { exited = cmp.Or(max(exited, 0), status) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.Vars{"version": readBuild().String()},
	)
	if err != nil {
		return con.report(fmt.Errorf("build the command line: %w", err))
	}
	command, err := parser.Parse(args)
	if exited >= 0 { // --help or --version has answered
		return exited
	}
	if err != nil {
		return con.report(&exitError{status: exitUsage, err: withHint(err)})
	}

	// Without it a closed standard output would kill the process before it can cancel its job.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := interruptible(context.Background())
	defer stop()
	command.BindTo(ctx, (*context.Context)(nil))
	if err := command.Run(con); err != nil {
		if errors.Is(context.Cause(ctx), errInterrupted) && isCancelled(err) {
			return exitInterrupted
		}
		return con.report(err)
	}
	return exitOK
}

// withHint adds to a fault of the command line where to read about it.
func withHint(err error) error {
	of := "hashfinder"
	if parse, ok := errors.AsType[*kong.ParseError](err); ok && parse.Context != nil {
		if node := parse.Context.Selected(); node != nil {
			of += " " + node.Path()
		}
	}
	return fmt.Errorf("%w\nRun \"%s --help\" for more.", err, of) //nolint:staticcheck,revive // two lines for a person
}
