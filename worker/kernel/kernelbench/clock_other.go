//go:build !linux

package kernelbench

import "time"

// threadTime returns the time, for want of the time for which the calling
// thread has had a CPU.
func threadTime() time.Duration { return time.Since(epoch) }

// epoch is when the program began, by the monotonic clock.
var epoch = time.Now()
