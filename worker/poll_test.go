package worker

import (
	"log/slog"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestWhoWaitsForAFileHasATurnWhileAllProcessorsCompute(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	var got atomic.Int64
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer in.Close()
		for b := make([]byte, 1); ; got.Add(1) {
			if n, _ := in.Read(b); n == 0 {
				return
			}
		}
	}()
	p := newPoller(slog.New(slog.DiscardHandler))
	defer p.close()
	// One poll may come back before the other goroutine has run; Go's scheduler looks after ten.
	const most = 5
	for sent := int64(1); sent <= 100; sent++ {
		if _, err := out.Write([]byte{0}); err != nil {
			t.Fatal(err)
		}
		polls := 0
		for ; got.Load() < sent; polls++ {
			for begin := time.Now(); time.Since(begin) < pollPeriod; { // it computes
			}
			p.poll(func() int { return 1 })
		}
		if polls > most {
			t.Fatalf("what was sent was received after %d polls, want at most %d", polls, most)
		}
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	<-ended
}

func TestSearchGoesOnWithoutPipes(t *testing.T) {
	var said strings.Builder
	p := newPoller(slog.New(slog.NewTextHandler(&said, nil)))
	p.close()
	for range 2 {
		p.last = time.Time{}
		p.poll(func() int { return runtime.GOMAXPROCS(0) })
	}
	if got := strings.Count(said.String(), "level=WARN"); got != 1 {
		t.Errorf("said %q, want one warning", said.String())
	}
}
