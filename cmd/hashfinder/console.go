package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"golang.org/x/term"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	hashfinderv1 "github.com/hashfinder/hashfinder/proto/hashfinder/v1"
)

// console is what a command talks to its user through.
type console struct {
	in  io.Reader
	out io.Writer
	err io.Writer
	// color is set when out is a terminal that shows colours.
	color bool
	// columns returns the width of the terminal that err is, 0 when it is none.
	columns func() int
}

// newConsole finds out which of the streams are terminals.
func newConsole(stdin io.Reader, stdout, stderr io.Writer) *console {
	con := &console{in: stdin, out: stdout, err: stderr, columns: func() int { return 0 }}
	// https://no-color.org
	con.color = isTerminal(stdout) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	if isTerminal(stderr) && os.Getenv("TERM") != "dumb" {
		con.columns = func() int { return terminalColumns(stderr) }
	}
	return con
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

func terminalColumns(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok {
		return 0
	}
	columns, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return columns
}

// report tells the user about an error and returns the exit status that it stands for.
func (con *console) report(err error) int {
	exit := &exitError{status: exitFailure, err: err}
	if found, ok := errors.AsType[*exitError](err); ok {
		exit = found
	}
	// Whoever closed our output has seen enough: no need to say so.
	if exit.err != nil && !errors.Is(err, syscall.EPIPE) {
		con.note("%s", exit.err)
	}
	return exit.status
}

// note writes a line to standard error. That nobody may read it is no error.
func (con *console) note(format string, args ...any) {
	_, _ = fmt.Fprintf(con.err, "hashfinder: "+format+"\n", args...)
}

// printJSON writes a message as one line of JSON. The same message always gives the same bytes.
func (con *console) printJSON(m proto.Message) error {
	line, err := jsonLine(m)
	if err != nil {
		return err
	}
	return con.printLine(line)
}

// printState writes what has become of a job: all of it as JSON, as text only its name and state.
func (con *console) printState(job *hashfinderv1.Job, asJSON bool) error {
	if asJSON {
		return con.printJSON(job)
	}
	return con.printLine(job.GetName() + " " + stateText(job))
}

// printLine writes a line, whole in one call, to standard output.
func (con *console) printLine(line string) error {
	if _, err := io.WriteString(con.out, line+"\n"); err != nil {
		return fmt.Errorf("write the output: %w", err)
	}
	return nil
}

// jsonLine returns the JSON of a message with the proto's field names and zero values, without a line break.
func jsonLine(m proto.Message) (string, error) {
	random, err := protojson.MarshalOptions{UseProtoNames: true, EmitUnpopulated: true}.Marshal(m)
	if err != nil {
		return "", fmt.Errorf("encode the output: %w", err)
	}
	// protojson adds spaces at random, to keep anyone from relying on its bytes. Ours are relied on.
	var line bytes.Buffer
	if err := json.Compact(&line, random); err != nil {
		return "", fmt.Errorf("encode the output: %w", err)
	}
	return line.String(), nil
}
