package worker

// NewUntested is New without the tests of the kernel, which take long, and without measuring its rate. Every field of
// the config must be set.
func NewUntested(cfg Config) *Worker { return newWorker(cfg) }

// Room is what keeps suspects alone.
type Room struct{ room }

// Enter is room.enter.
func (r *Room) Enter(suspect bool, halted func() bool) (alone bool, leave func()) {
	return r.enter(suspect, halted)
}
