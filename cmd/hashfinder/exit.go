package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// The exit statuses; doc.go tells their meaning.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitExhausted   = 3
	exitCancelled   = 4
	exitInterrupted = 130
)

// errInterrupted is the cause of a context that SIGINT or SIGTERM has ended.
var errInterrupted error = interruptedError{}

// interruptedError is a context.Canceled that says who cancelled.
type interruptedError struct{}

// Error names the reason.
func (interruptedError) Error() string { return "interrupted" }

// Unwrap returns context.Canceled.
func (interruptedError) Unwrap() error { return context.Canceled }

// exitError ends the program with a status.
type exitError struct {
	status int
	// err is told to the user; nil when all is said.
	err error
}

// Error returns what is told to the user.
func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

// Unwrap returns the reason, nil when there is nothing to tell.
func (e *exitError) Unwrap() error { return e.err }

// isCancelled tells whether err means no more than that the caller's context has ended.
func isCancelled(err error) bool {
	return errors.Is(err, context.Canceled) || status.Code(err) == codes.Canceled
}

// interruptible returns a context that the first SIGINT or SIGTERM ends with the cause errInterrupted. The second
// ends the process with status 130. stop gives the signals back.
func interruptible(parent context.Context) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	stopped, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-signals:
			cancel(errInterrupted)
		case <-stopped:
			return
		}
		select {
		case <-signals:
			os.Exit(exitInterrupted)
		case <-stopped:
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(stopped)
		<-done
		cancel(nil)
	}
}
