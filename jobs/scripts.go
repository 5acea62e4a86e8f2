package jobs

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

//go:embed lua/*.lua
var luaFiles embed.FS

// scripts are the transitions. Each is atomic, and may run again after its reply was lost.
type scripts struct {
	submit, claim, renew, flush, commit, drain, release, cancel, pause, resume, reconcile, attend, remove *redis.Script

	list, heartbeat, lead, schema *redis.Script
}

func loadScripts() scripts {
	read := func(name string) string {
		text, err := luaFiles.ReadFile("lua/" + name + ".lua")
		if err != nil {
			panic(err) //nolint:forbidigo // not reachable: the files are embedded, and every test loads them
		}
		return string(text)
	}
	prelude := read("prelude")
	sweep := func(name string) *redis.Script { return redis.NewScript(prelude + read(name)) }
	alone := func(name string) *redis.Script { return redis.NewScript(read(name)) }
	return scripts{
		submit: sweep("submit"), claim: sweep("claim"), renew: sweep("renew"), flush: sweep("flush"),
		commit: sweep("commit"), drain: sweep("drain"), release: sweep("release"), cancel: sweep("cancel"),
		pause: sweep("pause"), resume: sweep("resume"), reconcile: sweep("reconcile"), attend: sweep("attend"), remove: sweep("delete"),
		list: alone("list"), heartbeat: alone("heartbeat"), lead: alone("lead"), schema: alone("schema"),
	}
}

// opTimeout bounds one call to Redis, retries included. A worker without Redis has fenced itself by then.
const opTimeout = 5 * time.Second

// run calls a script for a sweep and some of its jobs. more are keys beyond those of the prelude.
func (s *Store) run(ctx context.Context, script *redis.Script, sweep string, jobs, more []string, args ...any) ([]string, error) {
	call, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	argv := make([]any, 0, 1+len(jobs)+len(args))
	argv = append(argv, len(jobs))
	for _, id := range jobs {
		argv = append(argv, id)
	}
	argv = append(argv, args...)
	return script.Run(call, s.client, append(keysSweep(sweep, jobs), more...), argv...).StringSlice()
}

// redisError wraps what go-redis returned for a call with ctx; nil for nil. Whatever is neither the caller's doing nor
// a fault of a script or of the data is ErrUnavailable: the same call may work later. ctx is the caller's, not one with
// a deadline of the store's own.
func redisError(ctx context.Context, what string, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", what, context.Cause(ctx))
	}
	// What a script could not write because memory is full (OOM) or the server a replica (READONLY) names the script too.
	if reply, ok := errors.AsType[redis.Error](err); ok {
		text := reply.Error()
		if strings.HasPrefix(text, "ERR ") && strings.Contains(text, "script") || strings.HasPrefix(text, "WRONGTYPE") {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	return fmt.Errorf("%s: %w: %w", what, ErrUnavailable, err)
}
