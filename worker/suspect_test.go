package worker_test

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashfinder/hashfinder/worker"
)

// A chunk that may have killed its workers is searched while the worker searches nothing else, so that what kills the
// worker then is known.
func TestSuspectIsAlone(t *testing.T) {
	const long = 3_600_000
	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	type visit struct {
		name          string
		suspect       bool
		comes, leaves int // in milliseconds, the second one after it is in
		halted        bool
	}
	tests := []struct {
		name   string
		visits []visit
		want   []int  // when each is in, in milliseconds
		alone  string // those that are
	}{
		{"others are together", []visit{{"a", false, 0, long, false}, {"b", false, 10, long, false}}, []int{0, 10}, ""},
		{"alone at once", []visit{{"s", true, 0, 100, false}}, []int{0}, "s"},
		{
			"waits for those before it, and those after it wait",
			[]visit{{"a", false, 0, 300, false}, {"s", true, 100, 200, false}, {"b", false, 150, long, false}},
			[]int{0, 300, 500},
			"s",
		},
		{
			"one after the other",
			[]visit{{"s", true, 0, 300, false}, {"t", true, 100, 300, false}},
			[]int{0, 300},
			"st",
		},
		{
			"not for one that hangs",
			[]visit{{"a", false, 0, long, false}, {"s", true, 100, 200, false}, {"b", false, 200, long, false}},
			[]int{0, 1100, 1200},
			"",
		},
		{"not when nobody wants it", []visit{{"a", false, 0, long, false}, {"s", true, 100, 200, true}}, []int{0, 100}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var room worker.Room
				begin := time.Now()
				got, alone := make([]time.Duration, len(test.visits)), make([]bool, len(test.visits))
				var all sync.WaitGroup
				for i, v := range test.visits {
					all.Go(func() {
						time.Sleep(ms(v.comes))
						is, leave := room.Enter(v.suspect, func() bool { return v.halted })
						got[i], alone[i] = time.Since(begin), is
						time.Sleep(ms(v.leaves))
						leave()
					})
				}
				all.Wait()
				for i, v := range test.visits { // which of those that wait looks first is as it comes
					if off := got[i] - ms(test.want[i]); off < 0 || off > 10*time.Millisecond {
						t.Errorf("%s is in after %v, want %v", v.name, got[i], ms(test.want[i]))
					}
					if want := strings.Contains(test.alone, v.name); alone[i] != want {
						t.Errorf("%s is alone: got %v, want %v", v.name, alone[i], want)
					}
				}
				if !slices.IsSorted(got) {
					t.Errorf("they are in after %v", got)
				}
			})
		})
	}
}
