package kernelbench

import (
	"time"

	"golang.org/x/sys/unix"
)

// threadTime returns the time for which the calling thread has had a CPU.
func threadTime() time.Duration {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t) // Linux has this clock
	return time.Duration(t.Nano())
}
