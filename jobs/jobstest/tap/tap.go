// Package tap stands between a process and Redis, as a hook of its go-redis client: it knows the scripts of package
// jobs, records what the ledger answers, replaces the text of a script by a faulty one, and lets a test hold up, lose
// or repeat each call. What it does not stand in the way of is pub/sub, which has connections of its own.
package tap

import (
	"context"
	"crypto/sha1" // what Redis names scripts by
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/hashfinder/hashfinder/jobs/jobstest/history"
)

// Scripts are the scripts of package jobs as a process sends them.
type Scripts struct {
	names   map[string]string // text or digest, as the process sends it -> name of the file, without ".lua"
	replace map[string]string // text or digest -> what goes to Redis in its place
}

const prelude = "prelude"

// Load reads scripts from dir, the directory of the files that package jobs embeds, with some bugs put in. Each edit of
// a bug must fit exactly once.
func Load(dir fs.FS, bugs ...Bug) (*Scripts, error) {
	files, err := fs.Glob(dir, "*.lua")
	if err != nil {
		return nil, err
	}
	good, bad := map[string]string{}, map[string]string{}
	for _, name := range files {
		text, err := fs.ReadFile(dir, name)
		if err != nil {
			return nil, err
		}
		name = strings.TrimSuffix(name, ".lua")
		good[name], bad[name] = string(text), string(text)
	}
	if _, ok := good[prelude]; !ok {
		return nil, errors.New("there is no prelude.lua")
	}
	for _, bug := range bugs {
		for _, edit := range bug.Edits {
			if n := strings.Count(bad[edit.Script], edit.Old); n != 1 {
				return nil, fmt.Errorf("bug %q: script %s has %d times the text %q, want once", bug.Name, edit.Script, n, edit.Old)
			}
			bad[edit.Script] = strings.Replace(bad[edit.Script], edit.Old, edit.New, 1)
		}
	}
	s := &Scripts{names: map[string]string{}, replace: map[string]string{}}
	for name := range good {
		if name == prelude {
			continue
		}
		s.add(name, good[prelude]+good[name], bad[prelude]+bad[name])
		s.add(name, good[name], bad[name]) // some do without
	}
	return s, nil
}

func (s *Scripts) add(name, good, bad string) {
	s.names[good], s.names[digest(good)] = name, name
	if good != bad {
		s.replace[good], s.replace[digest(good)] = bad, digest(bad)
	}
}

// Preload puts all scripts into Redis, so that no call is refused because its script is not known there.
func (s *Scripts) Preload(ctx context.Context, client redis.UniversalClient) error {
	for text := range s.names {
		if len(text) == 2*sha1.Size {
			continue // a digest
		}
		if bad, ok := s.replace[text]; ok {
			text = bad
		}
		if err := client.ScriptLoad(ctx, text).Err(); err != nil {
			return fmt.Errorf("load script: %w", err)
		}
	}
	return nil
}

func digest(text string) string {
	sum := sha1.Sum([]byte(text))
	return hex.EncodeToString(sum[:])
}

// Bug is a fault of the scripts.
type Bug struct {
	Name  string
	Edits []Edit
}

// Edit replaces a text that a script has exactly once.
type Edit struct{ Script, Old, New string }

// Call is a call to Redis that is about to happen.
type Call struct {
	Name string // of the script, or the command in lower case, or "pipeline"
	// Do makes the call, and returns its error. The answer is that of the last time.
	Do func() error
	// Again makes the same call apart from the caller, who does not see its answer; nil for what is no script.
	Again func(ctx context.Context) error
}

// Around makes a call happen: once, later, more than once, or not at all, and may return an error in place of the
// answer. It is called by the goroutine that makes the call.
type Around func(ctx context.Context, call Call) error

// Hook is the hook of one process; redis.UniversalClient's AddHook takes it.
type Hook struct {
	Scripts *Scripts
	// Recorder gets the calls of the ledger. Default: none.
	Recorder *history.Recorder
	// Process names the process in the history. Default: the recorder's.
	Process string
	// Around stands around each call. Default: it happens once.
	Around Around
}

// DialHook implements redis.Hook.
func (h *Hook) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

// ProcessPipelineHook implements redis.Hook.
func (h *Hook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := h.around(ctx, Call{Name: "pipeline", Do: func() error { return next(ctx, cmds) }})
		for _, cmd := range cmds { // a call that did not happen has left no error in them
			if err != nil && cmd.Err() == nil {
				cmd.SetErr(err)
			}
		}
		return err
	}
}

// ProcessHook implements redis.Hook.
func (h *Hook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		args := cmd.Args()
		sent := false
		call := Call{Name: strings.ToLower(cmd.Name()), Do: func() error {
			sent = true
			return next(ctx, cmd)
		}}
		script, err := h.script(cmd)
		if err != nil {
			cmd.SetErr(err)
			return err
		}
		if script != "" {
			call.Name = script
			if bad, ok := h.Scripts.replace[fmt.Sprint(args[1])]; ok {
				args[1] = bad // the command's own slice
			}
			call.Again = func(ctx context.Context) error {
				copied := redis.NewCmd(ctx, args...)
				op := h.begin(call.Name, args)
				err := next(ctx, copied)
				if op != nil {
					op.End(result(copied, err))
				}
				return err
			}
		}
		op := h.begin(call.Name, args)
		err = h.around(ctx, call)
		if err != nil {
			cmd.SetErr(err)
		}
		if op != nil {
			e := result(cmd, err)
			if !sent {
				e.Outcome = history.Refused
			}
			op.End(e)
		}
		return err
	}
}

func (h *Hook) around(ctx context.Context, call Call) error {
	if h.Around == nil {
		return call.Do()
	}
	return h.Around(ctx, call)
}

// script returns the name of the script of package jobs that a command runs, "" if it runs none.
func (h *Hook) script(cmd redis.Cmder) (string, error) {
	args := cmd.Args()
	if !slices.Contains([]string{"eval", "evalsha"}, strings.ToLower(cmd.Name())) || len(args) < 4 {
		return "", nil
	}
	name, ok := h.Scripts.names[fmt.Sprint(args[1])]
	if !ok && strings.HasPrefix(fmt.Sprint(args[3]), "hashfinder:{") {
		return "", errors.New("tap: a script of package jobs is not among those that were loaded: the process was built from others")
	}
	return name, nil
}

// begin records the begin of a call of the ledger; nil for any other.
func (h *Hook) begin(name string, args []any) *history.Op {
	e := history.Event{Process: h.Process}
	switch name {
	case "claim":
		e.Kind = history.Claim
	case "renew", "flush":
		e.Kind = history.Renew
	case "commit":
		e.Kind = history.Commit
	case "release":
		e.Kind = history.Release
	default:
		return nil
	}
	if h.Recorder == nil {
		return nil
	}
	// After the script: number of keys, keys, number of jobs, their ids, and what the script takes.
	text := make([]string, len(args))
	for i := range args {
		text[i] = fmt.Sprint(args[i])
	}
	keys, _ := strconv.Atoi(text[2])
	rest := text[3+keys:]
	members, _ := strconv.Atoi(rest[0])
	e.Job, rest = rest[1], rest[1+members:]
	e.Attempt = rest[0]
	if e.Kind == history.Claim {
		e.Ticket = rest[1]
	}
	return h.Recorder.Begin(e)
}

// result is the end of a call of the ledger.
func result(cmd redis.Cmder, err error) history.Event {
	if err != nil {
		e := history.Event{Outcome: history.Unknown, Error: err.Error()}
		if _, ok := errors.AsType[redis.Error](err); ok {
			e.Outcome = history.Refused // NOSCRIPT, for one
		}
		return e
	}
	reply, err := cmd.(*redis.Cmd).StringSlice()
	if err != nil || len(reply) == 0 {
		return history.Event{Outcome: history.Unknown, Error: fmt.Sprint("reply ", reply, err)}
	}
	e := history.Event{Outcome: history.Outcome(reply[0])}
	if e.Outcome == history.Granted && len(reply) > 2 {
		e.Lo, _ = strconv.ParseUint(reply[1], 10, 64)
		e.Hi, _ = strconv.ParseUint(reply[2], 10, 64)
	}
	return e
}
