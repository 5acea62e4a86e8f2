package worker_test

import (
	"slices"
	"testing"
	"time"

	"github.com/hashfinder/hashfinder/jobs/jobstest/tap"
)

// bugs are faults of the scripts that each break a promise, and the checkers of which one must find them. They are put
// into the text of the scripts on its way to Redis, so that production code has no switch for them.
var bugs = []struct {
	bug    tap.Bug
	caught []string // by one of these
	// bend makes more of the schedules such that the bug shows. Default: as they are drawn.
	bend func(*plan)
}{
	{tap.Bug{Name: "no fencing", Edits: []tap.Edit{
		// An attempt whose lease has run out is remembered, and may commit.
		{Script: "prelude", Old: `  redis.call('ZREM', leases, attempt)
  redis.call('HDEL', attempts, attempt)
  local alone`, New: `  redis.call('ZREM', leases, attempt)
  local alone`},
		{Script: "prelude", Old: `  if not finished(lo, hi) and not held(lo) then`, New: `  if not finished(lo, hi) then`},
		{Script: "commit", Old: `if not redis.call('ZSCORE', leases, attempt) then`, New: `if redis.call('HEXISTS', attempts, attempt) == 0 then`},
	}}, []string{"I13"}, loseLease("commit")},
	{tap.Bug{Name: "lost publish", Edits: []tap.Edit{
		{Script: "prelude", Old: `    if #j.out > 0 then redis.call('PUBLISH'`, New: `    if false then redis.call('PUBLISH'`},
	}}, []string{"prompt"}, calm},
	{tap.Bug{Name: "commit without state check", Edits: []tap.Edit{
		{Script: "commit", Old: `  if state(j) == 'RUNNING' then`, New: `  if true then`},
	}}, []string{"register", "I1"}, cancelAtCommit},
	{tap.Bug{Name: "watermark off by one", Edits: []tap.Edit{
		{Script: "commit", Old: `    if advance(j, watermark) then more = true end`, New: `    if advance(j, watermark + 1) then more = true end`},
	}}, []string{"I2", "I4"}, nil},
	{tap.Bug{Name: "budget counted at commit instead of grant", Edits: []tap.Edit{
		{Script: "claim", Old: `int(score(redis.call('ZSCORE', limits, j.id)))`, New: `int(score(redis.call('ZSCORE', limits, j.id)) + 65536)`},
	}}, []string{"I4"}, nil},
	{tap.Bug{Name: "cancel key without state", Edits: []tap.Edit{
		{Script: "prelude", Old: `'state', 'CANCELLING', 'reason', reason, 'final', final,`, New: `'reason', reason, 'final', final,`},
	}}, []string{"register", "I8"}, nil},
	{tap.Bug{Name: "replay without index check", Edits: []tap.Edit{
		{Script: "prelude", Old: `if index >= searched and index < limit then`, New: `if index < limit then`},
	}}, []string{"I2", "I3"}, nil},
	{tap.Bug{Name: "lease renewed after loss", Edits: []tap.Edit{
		{Script: "renew", Old: `if not redis.call('ZSCORE', leases, args[1]) then return lost(args[1]) end`, New: `if not redis.call('ZSCORE', leases, args[1]) then return {'held', int(stop)} end`},
		{Script: "flush", Old: `if not redis.call('ZSCORE', leases, args[1]) then return lost(args[1]) end`, New: `if not redis.call('ZSCORE', leases, args[1]) then return {'held'} end`},
	}}, []string{"I13"}, loseLease("flush")},
	{tap.Bug{Name: "double ticket number", Edits: []tap.Edit{
		{Script: "prelude", Old: `local n = redis.call('HINCRBY', sweep, 'ticket_seq', 1)`, New: `local n = redis.call('HINCRBY', sweep, 'ticket_seq', 0) + 1`},
	}}, []string{"tickets"}, nil},
	{tap.Bug{Name: "retried script that is not idempotent", Edits: []tap.Edit{
		{Script: "submit", Old: `if redis.call('EXISTS', j.key) == 1 then return {'created', unpack(redis.call('ZRANGE', tickets, 0, -1))} end`, New: ``},
	}}, []string{"register", "I1", "I8"}, nil},
}

// one leaves a schedule one long job, and no chances.
func one(p *plan) *jobPlan {
	p.Jobs, p.Faults, p.Noise, p.QueueLoss = p.Jobs[:1], nil, 0, 0
	p.Jobs[0] = jobPlan{Query: 5, Candidates: p.Jobs[0].Candidates/2 + space/2, Hits: 100_000}
	return &p.Jobs[0]
}

// loseLease kills all workers when one makes a call, which arrives when its chunk is another's.
func loseLease(call string) func(*plan) {
	return func(p *plan) {
		one(p)
		p.Faults = []faultPlan{{Kind: "kill workers", After: call == "flush", At: time.Duration(p.Seed % uint64(time.Second))}}
	}
}

// calm has somebody watch a job to its end.
func calm(p *plan) { one(p).Watchers = []watcherPlan{{For: time.Minute}} }

// cancelAtCommit has a job cancelled just when a worker commits.
func cancelAtCommit(p *plan) {
	job := one(p)
	job.Query, job.Candidates = 1, job.Candidates/8 // one chunk, whose commit ends the job
	job.Cancel, job.AtCommit = time.Millisecond, true
}

// bugSchedules is how many schedules a bug has to show in.
const bugSchedules = 100

// The checkers are worth what they find: each of these bugs is found, in few schedules, which are the same ones each
// time.
func TestSeededBugsAreCaught(t *testing.T) {
	tables()
	for _, test := range bugs {
		t.Run(test.bug.Name, func(t *testing.T) {
			scripts := load(t, test.bug)
			others := map[string]int{}
			for seed := range bugSchedules {
				p := drawPlan.Example(seed)
				if test.bend != nil {
					test.bend(&p)
				}
				for _, v := range play(t, p, scripts) {
					if slices.Contains(test.caught, v.Promise) {
						t.Logf("caught in schedule %d: %v", seed, v)
						return
					}
					others[v.Promise]++
				}
			}
			t.Errorf("not caught in %d schedules; others that were broken: %v", bugSchedules, others)
		})
	}
}
