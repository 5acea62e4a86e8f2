package worker

import (
	"context"
	"fmt"
	"log/slog"
)

// asynqLogger writes what asynq has to say to slog.
type asynqLogger struct{ log *slog.Logger }

func (l asynqLogger) Debug(args ...any) { l.log.Debug("asynq", "text", fmt.Sprint(args...)) }
func (l asynqLogger) Info(args ...any)  { l.log.Info("asynq", "text", fmt.Sprint(args...)) }
func (l asynqLogger) Warn(args ...any)  { l.log.Warn("asynq", "text", fmt.Sprint(args...)) }
func (l asynqLogger) Error(args ...any) { l.log.Error("asynq", "text", fmt.Sprint(args...)) }

// Fatal does not end the process: that is for its main function to decide.
func (l asynqLogger) Fatal(args ...any) { l.log.Error("asynq", "text", fmt.Sprint(args...)) }

// outage tells of something that is done all the time when it begins to fail and when it works again, and not in
// between.
type outage struct {
	log     *slog.Logger
	what    string
	failing bool
}

// note takes the outcome of one try. What fails because ctx has ended does not count.
func (o *outage) note(ctx context.Context, err error) {
	switch {
	case ctx.Err() != nil:
	case err != nil && !o.failing:
		o.failing = true
		o.log.Warn("failing", "what", o.what, "error", err)
	case err == nil && o.failing:
		o.failing = false
		o.log.Info("working again", "what", o.what)
	}
}
