package tap_test

import (
	"context"
	"errors"
	"os"
	"testing"
	"testing/fstest"

	"github.com/alicebob/miniredis/v2"

	"github.com/hashfinder/hashfinder/jobs"
	"github.com/hashfinder/hashfinder/jobs/jobstest"
	"github.com/hashfinder/hashfinder/jobs/jobstest/history"
	"github.com/hashfinder/hashfinder/jobs/jobstest/tap"
)

func TestMain(m *testing.M) { jobstest.Main(m) }

func TestBugsMustFitOnce(t *testing.T) {
	dir := fstest.MapFS{"prelude.lua": {Data: []byte("-- a b b\n")}, "claim.lua": {Data: []byte("return 1\n")}}
	for name, test := range map[string]struct {
		edit tap.Edit
		ok   bool
	}{
		"once":      {tap.Edit{Script: "prelude", Old: "a", New: "c"}, true},
		"never":     {tap.Edit{Script: "prelude", Old: "x", New: "c"}, false},
		"twice":     {tap.Edit{Script: "prelude", Old: "b", New: "c"}, false},
		"no script": {tap.Edit{Script: "other", Old: "a", New: "c"}, false},
	} {
		_, err := tap.Load(dir, tap.Bug{Name: name, Edits: []tap.Edit{test.edit}})
		if (err == nil) != test.ok {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := tap.Load(fstest.MapFS{}); err == nil {
		t.Error("a directory without scripts is no error")
	}
}

// The calls of the ledger are recorded with their answers, those that did not get to Redis as refused; and what a bug
// replaces is what runs.
func TestHook(t *testing.T) {
	server := miniredis.RunT(t)
	client := jobstest.Open(t, "redis://"+server.Addr())
	scripts, err := tap.Load(os.DirFS("../../lua"), tap.Bug{Name: "idle", Edits: []tap.Edit{
		{Script: "claim", Old: "if redis.call('ZREM', tickets, ticket) == 0 then return {'idle'} end", New: "if true then return {'idle'} end"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := scripts.Preload(t.Context(), client); err != nil {
		t.Fatal(err)
	}
	recorder := history.NewRecorder("worker", nil)
	down := errors.New("no way through")
	var broken bool
	client.AddHook(&tap.Hook{Scripts: scripts, Recorder: recorder, Around: func(_ context.Context, call tap.Call) error {
		if broken {
			return down
		}
		return call.Do()
	}})
	store := jobs.NewStore(client)
	spec := jobs.Spec{Profile: "p", Query: []byte("q"), Grid: []uint64{300}, Budget: jobs.Budget{Candidates: 10, Hits: 1}}
	id, tickets, err := store.Submit(t.Context(), jobs.Submission{ID: "id", Tenant: "t", Spec: spec, MaxActive: 1, Retention: 1e9, Window: 2})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Claim(t.Context(), tickets[0], "attempt", "worker", 1); !errors.Is(err, jobs.ErrIdle) {
		t.Errorf("claim: got %v, want ErrIdle, which the bug makes of it", err)
	}
	broken = true
	if _, err := store.Claim(t.Context(), tickets[0], "attempt", "worker", 1); !errors.Is(err, down) {
		t.Errorf("claim without Redis: got %v", err)
	}
	events := recorder.Events()
	if len(events) != 4 || events[0].Job != id || events[0].Attempt != "attempt" || events[0].Ticket != tickets[0].Number ||
		events[1].Outcome != history.Idle || events[3].Outcome != history.Refused {
		t.Errorf("got the events %+v", events)
	}
}
