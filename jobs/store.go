package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"
)

// requestMemory is how long a request id is remembered.
const requestMemory = 30 * 24 * time.Hour

// Store is the state of all jobs, in Redis: one typed call for each transition in lua/. It is safe for concurrent
// use. Calls that fail with ErrUnavailable may or may not have had their effect; each may be made again.
type Store struct {
	client   redis.UniversalClient
	scripts  scripts
	replicas Replicas
}

// NewStore returns a store on client, which stays the caller's to close.
func NewStore(client redis.UniversalClient) *Store {
	return &Store{client: client, scripts: loadScripts()}
}

// Submission is what Submit stores.
type Submission struct {
	ID          string // a new UUIDv7: ids sort by time
	Tenant      string
	Spec        Spec
	RequestID   string // empty, or the id that makes a retry of the client safe
	Fingerprint string // of all that the client asked for; tells a retry from a clash
	MaxActive   uint64 // jobs of the tenant that may be active at once, this one included
	Retention   time.Duration
	Window      int    // tickets that the sweep may have at a time
	Extends     string // id of the exhausted job that it goes on from; empty: it begins from nothing
}

// Submit stores a job, and returns its id and the tickets to put into the queue. When the request id was used
// before for the same fingerprint, it stores nothing and returns the id of that job and no tickets.
//
// Errors: ErrRequestUsed, *QuotaError, ErrUnavailable; with Extends also ErrNotFound, ErrNotUsedUp, *ExtendedError.
func (s *Store) Submit(ctx context.Context, sub Submission) (string, []Ticket, error) {
	labels, err := json.Marshal(sub.Spec.Labels)
	if err != nil {
		return "", nil, fmt.Errorf("encode labels: %w", err)
	}
	fields := []any{
		"profile", sub.Spec.Profile, "query", sub.Spec.Query, "grid", sub.Spec.grid(), "labels", labels, "sweep", sweepOf(sub.ID),
		"max_candidates", sub.Spec.Budget.Candidates, "max_hits", sub.Spec.Budget.Hits, "max_wall", sub.Spec.Budget.Duration.Milliseconds(),
		"attached", boolArg(sub.Spec.Attached), "retention", sub.Retention.Milliseconds(),
	}
	known := ""    // extension of the same job
	for range 10 { // it may change between two calls; not ten times
		reply, err := s.submit(ctx, &sub, known, fields)
		if err != nil {
			return "", nil, redisError(ctx, "submit job", err)
		}
		switch reply[0] {
		case "created":
			return sub.ID, tickets(sweepOf(sub.ID), sub.Spec.queue(), []string{sub.ID}, sub.Spec.Query, reply[1:]), nil
		case "exists":
			return reply[1], nil, nil
		case "conflict":
			return "", nil, fmt.Errorf("submit job: %w", ErrRequestUsed)
		case "quota":
			count, _ := strconv.ParseUint(reply[1], 10, 64)
			return "", nil, &QuotaError{Tenant: sub.Tenant, Active: count, Limit: sub.MaxActive}
		case "missing":
			return "", nil, fmt.Errorf("extend job %s: %w", sub.Extends, ErrNotFound)
		case "unfit":
			return "", nil, fmt.Errorf("extend job %s: %w", sub.Extends, ErrNotUsedUp)
		case "taken":
			return "", nil, fmt.Errorf("extend job %s: %w", sub.Extends, &ExtendedError{By: reply[1]})
		case "extended":
			known = reply[1]
		default:
			return "", nil, fmt.Errorf("submit job: unknown reply %q", reply)
		}
	}
	return "", nil, fmt.Errorf("extend job %s: its extensions keep changing", sub.Extends)
}

// submit calls the script; known is the job that is known to have extended the same one, or empty.
func (s *Store) submit(ctx context.Context, sub *Submission, known string, fields []any) ([]string, error) {
	keys := []string{keyTenantJobs(sub.Tenant), keyRequest(sub.Tenant, sub.RequestID), keyTenants}
	if sub.Extends != "" {
		keys = append(keys, keyJob(sub.Extends), keyLog(sub.Extends))
	}
	if known != "" {
		keys = append(keys, keyJob(known))
	}
	args := append([]any{
		sub.Tenant, sub.MaxActive, sub.RequestID, sub.Fingerprint, requestMemory.Milliseconds(),
		sub.Spec.Budget.Candidates, sub.Spec.grid(), sub.Spec.queue(), sub.Window, sub.Extends, known,
	}, fields...)
	return s.run(ctx, s.scripts.submit, sweepOf(sub.ID), []string{sub.ID}, keys, args...)
}

// check returns the error that Submit would meet, and changes nothing.
func (s *Store) check(ctx context.Context, tenant, requestID, fingerprint string, maxActive uint64) error {
	call, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	if requestID != "" {
		record, err := s.client.Get(call, keyRequest(tenant, requestID)).Result()
		if err != nil && !errors.Is(err, redis.Nil) {
			return redisError(ctx, "check job", err)
		}
		if _, used, ok := strings.Cut(record, " "); ok {
			if used != fingerprint {
				return fmt.Errorf("check job: %w", ErrRequestUsed)
			}
			return nil // it would be answered with the job that there is
		}
	}
	count, err := s.client.HGet(call, keyActive, tenant).Uint64()
	if err != nil && !errors.Is(err, redis.Nil) {
		return redisError(ctx, "check job", err)
	}
	if count >= maxActive {
		return &QuotaError{Tenant: tenant, Active: count, Limit: maxActive}
	}
	return nil
}

// Get returns a tenant's job. Errors: ErrNotFound, ErrUnavailable.
func (s *Store) Get(ctx context.Context, tenant, id string) (Job, error) {
	jobs, err := s.read(ctx, []string{id})
	if err != nil {
		return Job{}, fmt.Errorf("get job %s: %w", id, err)
	}
	if len(jobs) == 0 || jobs[0].Tenant != tenant {
		return Job{}, fmt.Errorf("get job %s: %w", id, ErrNotFound)
	}
	return jobs[0], nil
}

// List returns up to limit of a tenant's jobs, the newest first, from the one after the id after on ("" for the
// newest), and the id to go on after, "" at the end. Error: ErrUnavailable.
func (s *Store) List(ctx context.Context, tenant, after string, limit int) ([]Job, string, error) {
	var page []Job
	for {
		want := limit - len(page)
		ids, err := s.list(ctx, tenant, after, want, nil)
		if err != nil {
			return nil, "", err
		}
		jobs, err := s.readOrForget(ctx, tenant, ids)
		if err != nil {
			return nil, "", err
		}
		page = append(page, jobs...)
		if len(ids) < want {
			return page, "", nil
		}
		after = ids[len(ids)-1]
		if len(page) == limit {
			return page, after, nil
		}
	}
}

// sweepIndexes forgets expired jobs in each tenant's index, so that one that nobody lists stays bounded too: from the
// oldest on, as long as most are expired, and a sample of the others, because an old job may be kept for long.
func (s *Store) sweepIndexes(ctx context.Context) error {
	const sample = 100
	const page = 1000
	tenants, err := s.client.SMembers(ctx, keyTenants).Result()
	if err != nil {
		return redisError(ctx, "list tenants", err)
	}
	for _, tenant := range tenants {
		for kept := int64(0); ; {
			ids, err := s.client.ZRange(ctx, keyTenantJobs(tenant), kept, kept+page-1).Result()
			if err != nil {
				return redisError(ctx, "list old jobs of tenant "+tenant, err)
			}
			jobs, err := s.readOrForget(ctx, tenant, ids)
			if err != nil {
				return err
			}
			if len(ids) < page || len(jobs) > page/2 {
				break
			}
			kept += int64(len(jobs))
		}
		ids, err := s.client.ZRandMember(ctx, keyTenantJobs(tenant), sample).Result()
		if err != nil {
			return redisError(ctx, "sample jobs of tenant "+tenant, err)
		}
		if _, err := s.readOrForget(ctx, tenant, ids); err != nil {
			return err
		}
	}
	return nil
}

// readOrForget returns those jobs of a tenant's index that there are, and drops the others from the index.
func (s *Store) readOrForget(ctx context.Context, tenant string, ids []string) ([]Job, error) {
	jobs, err := s.read(ctx, ids)
	if err != nil || len(jobs) == len(ids) {
		return jobs, err
	}
	have := make(map[string]bool, len(jobs))
	for i := range jobs {
		have[jobs[i].ID] = true
	}
	gone := slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return have[id] })
	_, err = s.list(ctx, tenant, "", 0, gone)
	return jobs, err
}

func (s *Store) list(ctx context.Context, tenant, after string, limit int, gone []string) ([]string, error) {
	call, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	keys, args := []string{keyTenantJobs(tenant)}, []any{after, limit}
	for _, id := range gone {
		keys, args = append(keys, keyJob(id)), append(args, id)
	}
	ids, err := s.scripts.list.Run(call, s.client, keys, args...).StringSlice()
	return ids, redisError(ctx, "list jobs", err)
}

// Cancel orders a tenant's job to stop, for a reason. The job ends when nothing runs for it any more; ordering it
// again is no error. Errors: ErrNotFound, ErrEnded when it ended otherwise before, ErrUnavailable.
func (s *Store) Cancel(ctx context.Context, tenant, id string, reason Reason) error {
	reply, err := s.run(ctx, s.scripts.cancel, sweepOf(id), []string{id}, nil, tenant, string(reason), string(Cancelled))
	if err != nil {
		return redisError(ctx, "cancel job "+id, err)
	}
	return answer("cancel job "+id, reply)
}

// Pause orders a tenant's job to be left alone until it is resumed. It is paused when nothing runs for it any more;
// ordering it again is no error. Errors: ErrNotFound, ErrEnded, ErrStopping, ErrAttached, ErrUnavailable.
func (s *Store) Pause(ctx context.Context, tenant, id string) error {
	reply, err := s.run(ctx, s.scripts.pause, sweepOf(id), []string{id}, nil, tenant)
	if err != nil {
		return redisError(ctx, "pause job "+id, err)
	}
	return answer("pause job "+id, reply)
}

// Resume lets a tenant's job go on that is paused, or is to be; for any other that has not ended it is no error. It
// returns the numbers of the tickets that should be in the queue. Errors: ErrNotFound, ErrEnded, ErrStopping,
// ErrUnavailable.
func (s *Store) Resume(ctx context.Context, tenant, id string) ([]string, error) {
	reply, err := s.run(ctx, s.scripts.resume, sweepOf(id), []string{id}, nil, tenant)
	if err != nil {
		return nil, redisError(ctx, "resume job "+id, err)
	}
	return reply[1:], answer("resume job "+id, reply)
}

// Delete removes a tenant's job that has ended; revision 0 stands for any. Errors: ErrNotFound, ErrActive,
// ErrChanged when it is not of that revision, ErrUnavailable.
func (s *Store) Delete(ctx context.Context, tenant, id string, revision uint64) error {
	expect := ""
	if revision != 0 {
		expect = strconv.FormatUint(revision, 10)
	}
	reply, err := s.run(ctx, s.scripts.remove, sweepOf(id), []string{id}, []string{keyTenantJobs(tenant)}, tenant, expect, uuid.NewString())
	if err != nil {
		return redisError(ctx, "delete job "+id, err)
	}
	return answer("delete job "+id, reply)
}

// Attend keeps an attached job alive for another ten seconds; to any other it does nothing.
func (s *Store) Attend(ctx context.Context, id string) error {
	reply, err := s.run(ctx, s.scripts.attend, sweepOf(id), []string{id}, nil)
	if err != nil {
		return redisError(ctx, "attend job "+id, err)
	}
	return answer("attend job "+id, reply)
}

// answer turns the first word of a script's reply into an error.
func answer(what string, reply []string) error {
	switch reply[0] {
	case "ok":
		return nil
	case "missing":
		return fmt.Errorf("%s: %w", what, ErrNotFound)
	case "ended":
		return fmt.Errorf("%s: %w", what, ErrEnded)
	case "stopping":
		return fmt.Errorf("%s: %w", what, ErrStopping)
	case "attached":
		return fmt.Errorf("%s: %w", what, ErrAttached)
	case "active":
		return fmt.Errorf("%s: %w", what, ErrActive)
	case "changed":
		return fmt.Errorf("%s: %w", what, ErrChanged)
	}
	return fmt.Errorf("%s: unknown reply %q", what, reply)
}

// Log returns up to limit events of a job's log with sequence numbers above after. The end's Job is not filled in.
func (s *Store) Log(ctx context.Context, id string, after uint64, limit int) ([]Event, error) {
	call, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	from := fmt.Sprintf("%d-0", after+1)
	entries, err := s.client.XRangeN(call, keyLog(id), from, "+", int64(limit)).Result()
	if err != nil {
		return nil, redisError(ctx, "read log of job "+id, err)
	}
	events := make([]Event, 0, len(entries))
	for _, entry := range entries {
		seq, _, _ := strings.Cut(entry.ID, "-")
		text, _ := entry.Values["e"].(string)
		event, err := parseEvent(seq + " " + text)
		if err != nil {
			return nil, fmt.Errorf("read log of job %s: %w", id, err)
		}
		events = append(events, event)
	}
	return events, nil
}

// Ping tells whether the store answers.
func (s *Store) Ping(ctx context.Context) error {
	return redisError(ctx, "ping", s.client.Ping(ctx).Err())
}

// read returns those jobs of the ids that there are, in that order.
func (s *Store) read(ctx context.Context, ids []string) ([]Job, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	call, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	hashes := make([]*redis.MapStringStringCmd, len(ids))
	nexts := make([]*redis.StringCmd, len(ids))
	_, err := s.client.Pipelined(call, func(p redis.Pipeliner) error {
		for i, id := range ids {
			hashes[i] = p.HGetAll(call, keyJob(id))
			nexts[i] = p.HGet(call, keySweep(sweepOf(id)), "next")
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, redisError(ctx, "read jobs", err)
	}
	var jobs []Job
	for i := range ids {
		if len(hashes[i].Val()) == 0 {
			continue
		}
		job, err := decodeJob(hashes[i].Val(), nexts[i].Val())
		if err != nil {
			return nil, fmt.Errorf("job %s: %w", ids[i], err)
		}
		jobs = append(jobs, job)
	}
	return jobs, nil
}

func boolArg(b bool) string {
	if b {
		return "1"
	}
	return "0"
}
