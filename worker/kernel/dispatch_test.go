package kernel_test

import (
	"sync/atomic"
	"testing"

	"github.com/hashfinder/hashfinder/worker/kernel"
)

func TestSelfTest(t *testing.T) {
	for _, k := range kernel.All() {
		t.Run(k.Name(), func(t *testing.T) {
			if err := kernel.SelfTest(k); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestBestIsOneOfAll(t *testing.T) {
	if got, want := kernel.Best().Name(), kernel.All()[0].Name(); got != want {
		t.Errorf("Best is %s, want %s", got, want)
	}
	all := kernel.All()
	if got := all[len(all)-1].Name(); got != "generic" {
		t.Errorf("the last of All is %s, want generic", got)
	}
}

// faulty is a kernel whose hits are changed before they are reported.
type faulty struct {
	kernel.Kernel
	change func([]kernel.Hit) []kernel.Hit
}

func (f faulty) Scan(queries []kernel.Query, lo, hi uint64, stop *atomic.Bool, report kernel.Report) uint64 {
	return f.Kernel.Scan(queries, lo, hi, stop, func(through uint64, hits []kernel.Hit) {
		report(through, f.change(hits))
	})
}

var faults = []struct {
	about  string
	change func([]kernel.Hit) []kernel.Hit
}{
	{"finds nothing", func([]kernel.Hit) []kernel.Hit { return nil }},
	{"loses the last hit", func(h []kernel.Hit) []kernel.Hit { return h[:max(0, len(h)-1)] }},
	{"repeats a hit", func(h []kernel.Hit) []kernel.Hit { return append(h, h[:min(1, len(h))]...) }},
	{"wrong distance", func(h []kernel.Hit) []kernel.Hit {
		for i := range h {
			h[i].Distance++
		}
		return h
	}},
	{"wrong query", func(h []kernel.Hit) []kernel.Hit {
		for i := range h {
			h[i].Query ^= 1
		}
		return h
	}},
}

func TestSelfTestFindsFaults(t *testing.T) {
	for _, fault := range faults {
		t.Run(fault.about, func(t *testing.T) {
			if err := kernel.SelfTest(faulty{kernel.Best(), fault.change}); err == nil {
				t.Error("SelfTest found no fault")
			}
		})
	}
}

// early is a kernel that says it has searched less than it was asked to.
type early struct{ kernel.Kernel }

func (e early) Scan(queries []kernel.Query, lo, hi uint64, stop *atomic.Bool, report kernel.Report) uint64 {
	return e.Kernel.Scan(queries, lo, hi, stop, report) - 1
}

func TestSelfTestFindsEarlyReturn(t *testing.T) {
	if err := kernel.SelfTest(early{kernel.Best()}); err == nil {
		t.Error("SelfTest found no fault")
	}
}

func BenchmarkSelfTest(b *testing.B) {
	for _, k := range kernel.All() {
		b.Run(k.Name(), func(b *testing.B) {
			for b.Loop() {
				if err := kernel.SelfTest(k); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
