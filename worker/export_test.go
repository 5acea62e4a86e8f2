package worker

// NewUntested is New without the tests of the kernel, which take long, and without measuring its rate. Every field of
// the config must be set.
func NewUntested(cfg Config) *Worker { return newWorker(cfg) }
