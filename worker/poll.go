package worker

import (
	"errors"
	"log/slog"
	"os"
	"runtime"
	"syscall"
	"time"
)

// pollPeriod is how long what comes from the network waits for a searching goroutine.
const pollPeriod = time.Millisecond

// poller lets a goroutine that computes have Go's scheduler look at the network. While every processor of Go's is busy, that
// happens only every 10 ms otherwise, and a cancel would wait as long for each step of its way. More processors than CPUs
// would help too, but then searches wander from thread to thread, and CPUs are idle until the operating system has
// spread the threads again; a thread for each search costs three switches every 10 ms.
//
// A goroutine that waits for a file lets its processor run whatever else can run, and then ask the operating system which
// files are ready. One that waits for a pipe into which it has just written comes back from there at once, with all
// others that have waited.
type poller struct {
	log     *slog.Logger
	in, out *os.File
	conn    syscall.RawConn // of in; nil if it does not work
	last    time.Time
}

// newPoller returns a poller that does nothing, after a warning, if there are no pipes.
func newPoller(log *slog.Logger) *poller {
	p := &poller{log: log, last: time.Now()}
	var err error
	if p.in, p.out, err = os.Pipe(); err == nil {
		p.conn, err = p.in.SyscallConn()
	}
	p.check(err)
	return p
}

// check gives up after an error: searching is slower to hear of a cancel then, but as good.
func (p *poller) check(err error) {
	if err != nil {
		p.log.Warn("searching goroutines do not look at the network", "error", err)
		p.conn = nil
	}
}

// poll looks at the network if that is due and searching goroutines keep all processors busy. Otherwise Go does so itself.
func (p *poller) poll(searching func() int) {
	if p.conn == nil || time.Since(p.last) < pollPeriod {
		return
	}
	p.last = time.Now()
	if searching() < runtime.GOMAXPROCS(0) {
		return
	}
	var written, read error
	waited := false
	err := p.conn.Read(func(uintptr) (done bool) {
		if waited {
			return true
		}
		waited = true
		// Not before: Read begins by forgetting what was ready.
		_, written = p.out.Write([]byte{0})
		return written != nil
	})
	if err == nil && written == nil {
		_, read = p.in.Read(make([]byte, 1))
	}
	p.check(errors.Join(err, written, read))
}

func (p *poller) close() {
	_ = p.in.Close() // nothing is lost with it
	_ = p.out.Close()
}
