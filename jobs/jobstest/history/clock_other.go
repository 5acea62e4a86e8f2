//go:build !linux

package history

import "time"

// Monotonic returns the nanoseconds since the process began: histories of several processes need Linux.
func Monotonic() int64 { return int64(time.Since(epoch)) }

var epoch = time.Now()
