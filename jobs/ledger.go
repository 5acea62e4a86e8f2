package jobs

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Chunk is a worker's hold on the indexes [Lo, Hi) of a sweep.
type Chunk struct {
	Sweep   string
	Queue   string // of the sweep's tickets
	Attempt string
	Lo, Hi  uint64
	Members []Member
	Deaths  uint64 // attempts of it that have died
}

// Member is a job that a chunk is searched for.
type Member struct {
	Job     string
	Profile string
	Query   []byte
	Limit   uint64 // indexes at or above do not matter to it
	MaxHits uint64 // it needs no more hits than that
}

// jobs are the ids of the chunk's members.
func (c *Chunk) jobs() []string {
	ids := make([]string, len(c.Members))
	for i := range c.Members {
		ids[i] = c.Members[i].Job
	}
	return ids
}

// tickets are those that a script has minted for the chunk's sweep.
func (c *Chunk) tickets(numbers []string) []Ticket {
	return tickets(c.Sweep, c.Queue, c.jobs(), c.Members[0].Query, numbers)
}

// MaxBatch is the number of hits that one Flush or Commit takes, over all members together.
const MaxBatch = 1000

// Outcomes of a call about an attempt that is no longer what it was.
var (
	// ErrIdle says that a ticket calls for nothing: it was used, or its sweep has no chunk to give.
	ErrIdle = errors.New("there is no chunk to claim")
	// ErrLost says that the attempt is fenced: nothing that it does counts any more.
	ErrLost = errors.New("the lease was lost")
	// ErrStop says that nobody wants the chunk any more: stop computing, then Release.
	ErrStop = errors.New("the chunk is not wanted any more")
)

// Claim turns a ticket into a lease on a chunk of at most want indexes (a power of two), where the grid allows.
// attempt is a name that was never used before. Errors: ErrIdle, ErrUnavailable.
func (s *Store) Claim(ctx context.Context, ticket Ticket, attempt, worker string, want uint64) (*Chunk, error) {
	members := ticket.Jobs
	for range 10 { // members may change between two calls; not ten times
		reply, err := s.run(ctx, s.scripts.claim, ticket.Sweep, members, nil, attempt, ticket.Number, worker, want)
		if err != nil {
			return nil, redisError(ctx, "claim chunk of sweep "+ticket.Sweep, err)
		}
		switch reply[0] {
		case "chunk":
			return decodeChunk(ticket, attempt, reply[1:])
		case "members":
			members = reply[1:]
		case "idle":
			return nil, ErrIdle
		default:
			return nil, fmt.Errorf("claim chunk of sweep %s: unknown reply %q", ticket.Sweep, reply)
		}
	}
	return nil, fmt.Errorf("claim chunk of sweep %s: its members keep changing", ticket.Sweep)
}

func decodeChunk(ticket Ticket, attempt string, reply []string) (*Chunk, error) {
	d := decoder{fields: map[string]string{"lo": reply[0], "hi": reply[1]}}
	chunk := &Chunk{Sweep: ticket.Sweep, Queue: ticket.Queue, Attempt: attempt, Lo: d.uint("lo"), Hi: d.uint("hi")}
	m := reply[2:]
	for ; len(m) >= 3; m = m[3:] {
		record := strings.SplitN(m[2], ":", 3)
		if len(record) != 3 {
			return nil, fmt.Errorf("claim chunk of sweep %s: malformed query record %q", ticket.Sweep, m[2])
		}
		d.fields = map[string]string{"limit": m[1], "max_hits": record[0]}
		chunk.Members = append(chunk.Members, Member{
			Job: m[0], Profile: record[1], Query: []byte(record[2]), Limit: d.uint("limit"), MaxHits: d.uint("max_hits"),
		})
	}
	if len(m) > 0 {
		d.fields = map[string]string{"deaths": m[0]}
		chunk.Deaths = d.uint("deaths")
	}
	if d.err != nil {
		return nil, fmt.Errorf("claim chunk of sweep %s: %w", ticket.Sweep, d.err)
	}
	return chunk, nil
}

// Unanswered is what Release needs to give back a chunk that a claim may have been granted although it failed.
func Unanswered(ticket Ticket, attempt string) *Chunk {
	chunk := &Chunk{Sweep: ticket.Sweep, Queue: ticket.Queue, Attempt: attempt}
	for _, id := range ticket.Jobs {
		chunk.Members = append(chunk.Members, Member{Job: id, Query: []byte(ticket.Query)})
	}
	return chunk
}

// Renew extends the chunk's lease. Errors: ErrStop, ErrLost, ErrUnavailable.
func (s *Store) Renew(ctx context.Context, c *Chunk) error {
	reply, err := s.run(ctx, s.scripts.renew, c.Sweep, c.jobs(), nil, c.Attempt)
	if err != nil {
		return redisError(ctx, "renew lease "+c.Attempt, err)
	}
	return held(reply)
}

// Alone is Renew by a worker that searches nothing else: if it dies of the chunk, that is known. Errors: as Renew.
func (s *Store) Alone(ctx context.Context, c *Chunk) error {
	reply, err := s.run(ctx, s.scripts.renew, c.Sweep, c.jobs(), nil, c.Attempt, boolArg(true))
	if err != nil {
		return redisError(ctx, "renew lease "+c.Attempt, err)
	}
	return held(reply)
}

// Flush hands over hits of a chunk that still runs, one slice for each member, in index order; everything below upto was
// searched, and its hits handed over. It extends the lease. More than MaxBatch hits may then wait to be logged; they
// follow with the next call, or with Commit. Errors: ErrStop, ErrLost, ErrUnavailable.
func (s *Store) Flush(ctx context.Context, c *Chunk, upto uint64, hits [][]Hit) error {
	args := append([]any{c.Attempt, upto}, hitArgs(hits)...)
	reply, err := s.run(ctx, s.scripts.flush, c.Sweep, c.jobs(), nil, args...)
	if err != nil {
		return redisError(ctx, "flush hits of lease "+c.Attempt, err)
	}
	return held(reply)
}

// Commit finishes a chunk: [Lo, Hi) was searched for each member up to its limit, its first ideal hit or its
// MaxHits-th hit. hits are those not flushed. The first attempt to commit a chunk wins; for any other it is ErrLost. It
// returns the tickets to put into the queue; more tells that hits still wait to be logged: call Drain. Errors: ErrLost, ErrUnavailable.
func (s *Store) Commit(ctx context.Context, c *Chunk, hits [][]Hit) (next []Ticket, more bool, err error) {
	args := append([]any{c.Attempt}, hitArgs(hits)...)
	reply, err := s.run(ctx, s.scripts.commit, c.Sweep, c.jobs(), nil, args...)
	if err != nil {
		return nil, false, redisError(ctx, "commit lease "+c.Attempt, err)
	}
	if reply[0] == "lost" {
		return nil, false, ErrLost
	}
	return c.tickets(reply[2:]), reply[1] == "1", nil
}

// Drain logs more of the hits that wait below the watermark; more tells that there are still some.
func (s *Store) Drain(ctx context.Context, c *Chunk) (more bool, err error) {
	reply, err := s.run(ctx, s.scripts.drain, c.Sweep, c.jobs(), nil)
	if err != nil {
		return false, redisError(ctx, "drain sweep "+c.Sweep, err)
	}
	return reply[0] == "1", nil
}

// Release ends an attempt without a result; nothing may compute for it any more. died says that the chunk itself was to
// blame. It returns the tickets to put into the queue.
func (s *Store) Release(ctx context.Context, c *Chunk, died bool) ([]Ticket, error) {
	reply, err := s.run(ctx, s.scripts.release, c.Sweep, c.jobs(), nil, c.Attempt, boolArg(died))
	if err != nil {
		return nil, redisError(ctx, "release lease "+c.Attempt, err)
	}
	return c.tickets(reply[1:]), nil
}

// Stopped tells, for each of the jobs, whether its cancel key is there.
func (s *Store) Stopped(ctx context.Context, jobs []string) ([]bool, error) {
	call, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	// One read a key, pipelined: a command on keys of several slots fails on a Cluster.
	replies, err := s.client.Pipelined(call, func(p redis.Pipeliner) error {
		for _, id := range jobs {
			p.Exists(call, keyStop(id))
		}
		return nil
	})
	if err != nil {
		return nil, redisError(ctx, "poll cancel keys", err)
	}
	stopped := make([]bool, len(jobs))
	for i, reply := range replies {
		exists, ok := reply.(*redis.IntCmd)
		stopped[i] = ok && exists.Val() == 1
	}
	return stopped, nil
}

// Holding returns the indexes [lo, hi) of the chunk that a ticket was used for; ok is false when no worker holds it.
func (s *Store) Holding(ctx context.Context, ticket Ticket) (lo, hi uint64, ok bool, err error) {
	call, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	attempts, err := s.client.HVals(call, keySweep(ticket.Sweep)+":attempts").Result()
	if err != nil {
		return 0, 0, false, redisError(ctx, "read attempts of sweep "+ticket.Sweep, err)
	}
	for _, record := range attempts {
		words := strings.SplitN(record, ":", 5)
		if len(words) == 5 && words[3] == ticket.Number {
			d := decoder{fields: map[string]string{"lo": words[0], "hi": words[1]}}
			return d.uint("lo"), d.uint("hi"), true, d.err
		}
	}
	return 0, 0, false, nil
}

// Listen calls order with the id of each job whose workers should renew their leases now, because the answer has
// changed, and with "" when it may have missed some. With stop, the answer for the job is to stop; the job may go on
// since. Listen returns when ctx ends.
func (s *Store) Listen(ctx context.Context, order func(job string, stop bool)) {
	pubsub := s.client.Subscribe(ctx, channelControl)
	stop := context.AfterFunc(ctx, func() { pubsub.Close() })
	defer stop()
	for message := range pubsub.ChannelWithSubscriptions() {
		switch m := message.(type) {
		case *redis.Subscription:
			order("", false)
		case *redis.Message:
			job, word, _ := strings.Cut(m.Payload, " ")
			order(job, word == "stop")
		}
	}
}

func held(reply []string) error {
	switch reply[0] {
	case "held":
		return nil
	case "stop":
		return ErrStop
	case "lost":
		return ErrLost
	}
	return fmt.Errorf("unknown reply %q", reply)
}

func hitArgs(hits [][]Hit) []any {
	var args []any
	for _, of := range hits {
		args = append(args, len(of))
		for _, hit := range of {
			args = append(args, strconv.FormatUint(hit.Index, 10)+":"+strconv.Itoa(hit.Distance)+":"+boolArg(hit.Ideal))
		}
	}
	return args
}
