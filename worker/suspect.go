package worker

import (
	"sync"
	"time"
)

const (
	// suspectDeaths is how many attempts of a chunk have died when it is searched alone: a worker that is killed takes all
	// its chunks with it, and at the next death of a chunk its job fails.
	suspectDeaths = 2
	// suspectPatience is how long a chunk waits for others: twice what most take. One that hangs is not waited for.
	suspectPatience = 2 * chunkTime
	// suspectPoll is how often one that waits looks.
	suspectPoll = 5 * time.Millisecond
)

// room holds the chunks that a worker searches: any number, or one suspect alone.
type room struct {
	mu      sync.Mutex
	inside  int
	suspect bool // one is inside, or waits until it is alone
}

// count is how many chunks are searched.
func (m *room) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.inside
}

// enter lets a chunk in, after a while in any case, or when the chunk is halted. alone tells whether it is, which no other
// is that is no suspect. leave is to be called in the end.
func (m *room) enter(suspect bool, halted func() bool) (alone bool, leave func()) {
	begin, claimed := time.Now(), false
	may := func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		if suspect && !m.suspect {
			m.suspect, claimed = true, true
		}
		free := !m.suspect && !suspect || claimed && m.inside == 0
		if free || halted() || time.Since(begin) >= suspectPatience {
			m.inside++
			alone = claimed && m.inside == 1
			return true
		}
		return false
	}
	if !may() {
		ticker := time.NewTicker(suspectPoll)
		defer ticker.Stop()
		for !may() {
			<-ticker.C
		}
	}
	return alone, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.inside--
		if claimed {
			m.suspect = false
		}
	}
}
