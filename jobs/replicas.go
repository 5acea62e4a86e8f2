package jobs

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// Replicas says how many of Redis's replicas must have a change before it is acknowledged. The zero value asks for none.
type Replicas struct {
	Count int
	Wait  time.Duration // for them, at most two seconds; 0 stands for one
}

// MaxReplicasWait bounds Replicas.Wait: go-redis takes a connection that is silent for three seconds for dead.
const MaxReplicasWait = 2 * time.Second

// ErrNotReplicated says that something was stored, but fewer replicas have it than are asked for: a failover may lose
// it. It comes with ErrUnavailable, and what was asked for may be asked for again.
var ErrNotReplicated = errors.New("too few replicas have confirmed it")

// WithReplicas returns a store on the same client whose changes Service acknowledges only when replicas have them.
func (s *Store) WithReplicas(replicas Replicas) *Store {
	other := *s
	other.replicas = replicas
	other.replicas.Wait = min(orElse(replicas.Wait, time.Second), MaxReplicasWait)
	return &other
}

// acknowledge returns nil once all that the store holds of a job has reached as many replicas as are asked for. Attached
// jobs are not waited for: whoever they live by sees their loss.
//
// It waits for a write of its own. Replicas take all writes in one order, so this one vouches for all before it, also
// for those of a call that is now repeated. And it looks on the same connection whether the job is there: a server that
// has become the master meanwhile may never have had it.
//
// Errors: ErrUnavailable, together with ErrNotReplicated if that is why.
func (s *Store) acknowledge(ctx context.Context, job *Job) error {
	if s.replicas.Count == 0 || job.Spec.Attached {
		return nil
	}
	what := "acknowledge job " + job.ID
	call, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	var node redis.Cmdable = s.client
	if cluster, ok := s.client.(*redis.ClusterClient); ok { // WAIT has no key to find the node by
		master, err := cluster.MasterForKey(call, keyReplicated)
		if err != nil {
			return redisError(ctx, what, err)
		}
		node = master
	}
	var exists *redis.IntCmd
	var wait *redis.Cmd
	_, err := node.Pipelined(call, func(p redis.Pipeliner) error {
		exists = p.Exists(call, keyJob(job.ID))
		p.Incr(call, keyReplicated)
		wait = p.Do(call, "WAIT", s.replicas.Count, s.replicas.Wait.Milliseconds())
		return nil
	})
	if err != nil {
		return redisError(ctx, what, err)
	}
	count, err := wait.Int()
	switch {
	case err != nil:
		return redisError(ctx, what, err)
	case exists.Val() == 0:
		return fmt.Errorf("%s: %w: %w: it is not there any more", what, ErrUnavailable, ErrNotReplicated)
	case count < s.replicas.Count:
		return fmt.Errorf("%s: %w: %w: %d of %d in %v", what, ErrUnavailable, ErrNotReplicated, count, s.replicas.Count, s.replicas.Wait)
	}
	return nil
}
