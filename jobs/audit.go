package jobs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Audit tells what has happened to a job. The scripts write it with what it tells of. Of the changes, and of the attempts
// that have ended, the latest are kept, 448 at least and 512 at most; it lives as long as the job.
type Audit struct {
	Job, Tenant     string
	RequestID       string // by which it was submitted; empty when there was none
	Changes         []Change
	DroppedChanges  uint64
	Attempts        []Attempt // those that have ended, in that order, then those that run
	DroppedAttempts uint64
}

// Change says that a job came into a state.
type Change struct {
	Time   time.Time
	State  State
	Reason Reason // empty while the job goes on
}

// Outcome is how an attempt ended.
type Outcome string

// The outcomes of attempts. All but the first say that what it found beyond what it had handed over counted for nothing.
const (
	Committed Outcome = "COMMITTED" // it searched its chunk, as the first to do so
	Stale     Outcome = "STALE"     // so did another before
	Released  Outcome = "RELEASED"  // its worker gave the chunk back, in peace
	Died      Outcome = "DIED"      // its worker gave the chunk back, and blames the chunk
	Expired   Outcome = "EXPIRED"   // its worker did not renew the lease
	Fenced    Outcome = "FENCED"    // the job ended without it
)

// Attempt is one worker's hold on a chunk.
type Attempt struct {
	Lo, Hi  uint64
	Worker  string
	Name    string // no other attempt has it
	Begin   time.Time
	End     time.Time // zero while it runs
	Outcome Outcome   // empty while it runs
}

// Audit returns what has happened to a tenant's job. Errors: ErrNotFound, ErrUnavailable.
func (s *Store) Audit(ctx context.Context, tenant, id string) (Audit, error) {
	call, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	var fields *redis.SliceCmd
	var changes, trail *redis.StringSliceCmd
	var running *redis.MapStringStringCmd
	_, err := s.client.TxPipelined(call, func(p redis.Pipeliner) error { // at one moment
		fields = p.HMGet(call, keyJob(id), "tenant", "request", "changes_dropped", "trail_dropped")
		changes = p.LRange(call, keyChanges(id), 0, -1)
		trail = p.LRange(call, keyTrail(id), 0, -1)
		running = p.HGetAll(call, keySweep(sweepOf(id))+":attempts")
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return Audit{}, redisError(ctx, "audit job "+id, err)
	}
	text := func(i int) string {
		value, _ := fields.Val()[i].(string)
		return value
	}
	if text(0) != tenant {
		return Audit{}, fmt.Errorf("audit job %s: %w", id, ErrNotFound)
	}
	d := decoder{fields: map[string]string{"changes": text(2), "attempts": text(3)}}
	audit := Audit{
		Job: id, Tenant: tenant, RequestID: text(1), DroppedChanges: d.uint("changes"), DroppedAttempts: d.uint("attempts"),
	}
	for _, line := range changes.Val() {
		words := strings.Fields(line)
		if len(words) != 3 {
			return Audit{}, fmt.Errorf("audit job %s: malformed change %q", id, line)
		}
		d.fields = map[string]string{"time": words[0]}
		audit.Changes = append(audit.Changes, Change{Time: d.time("time"), State: State(words[1]), Reason: Reason(strings.Trim(words[2], "-"))})
	}
	for _, line := range trail.Val() {
		words := strings.Fields(line)
		if len(words) != 8 {
			return Audit{}, fmt.Errorf("audit job %s: malformed attempt %q", id, line)
		}
		attempt := d.attempt(words[1:4], words[6], words[7])
		d.fields = map[string]string{"end": words[4]}
		attempt.End, attempt.Outcome = d.time("end"), Outcome(words[0])
		audit.Attempts = append(audit.Attempts, attempt)
	}
	ended := len(audit.Attempts)
	for name, record := range running.Val() {
		words := strings.SplitN(record, ":", 5)
		if len(words) != 5 {
			return Audit{}, fmt.Errorf("audit job %s: malformed attempt %q", id, record)
		}
		audit.Attempts = append(audit.Attempts, d.attempt(words, words[4], name))
	}
	slices.SortFunc(audit.Attempts[ended:], func(a, b Attempt) int {
		return cmp.Or(a.Begin.Compare(b.Begin), cmp.Compare(a.Name, b.Name))
	})
	if d.err != nil {
		return Audit{}, fmt.Errorf("audit job %s: %w", id, d.err)
	}
	return audit, nil
}

// attempt reads an attempt that begins with lo, hi and the time of its begin.
func (d *decoder) attempt(words []string, worker, name string) Attempt {
	d.fields = map[string]string{"lo": words[0], "hi": words[1], "begin": words[2]}
	return Attempt{Lo: d.uint("lo"), Hi: d.uint("hi"), Begin: d.time("begin"), Worker: worker, Name: name}
}

// Audit is Store.Audit.
func (s *Service) Audit(ctx context.Context, tenant, id string) (Audit, error) {
	return s.store.Audit(ctx, tenant, id)
}
