package jobs

// pool is the hash tag of all keys that one script may change together, so that they are in one slot of a Redis
// Cluster. There is one pool; when one Redis node is outgrown, a job's pool is to follow from its id.
const pool = "hashfinder:{p0}:"

// Names of the asynq queues. Each has an asynq server of its own in every worker.
const (
	QueueInteractive = "interactive" // jobs that somebody is waiting for
	QueueBatch       = "batch"
)

// Keys of the pool.
const (
	keyLive     = pool + "live"     // zset: jobs that have not ended, by creation time
	keyActive   = pool + "active"   // hash: tenant -> number of those
	keyFleet    = pool + "fleet"    // hash: worker -> when it is dropped, slots, rate
	keyTenants  = pool + "tenants"  // set: those that ever submitted a job
	keyLeader   = pool + "leader"   // string: the process whose reconciler leads
	keyPresence = pool + "presence" // hash: when the processes were last there
	keySchema   = pool + "schema"   // string: of which schema all of these are

	keyReplicated = pool + "replicated" // counter: writes by which replicas confirm all before them

	// channelControl carries the ids of jobs whose workers should look at their leases now.
	channelControl = keyLive + ":control"
)

func keyJob(id string) string     { return pool + "job:" + id }
func keyPending(id string) string { return keyJob(id) + ":pending" } // zset: hits that may not leave yet
func keyLog(id string) string     { return keyJob(id) + ":log" }     // stream: events; and the channel they are published on
func keyStop(id string) string    { return keyJob(id) + ":stop" }    // string: the cancel key

func keyChanges(id string) string { return keyJob(id) + ":changes" } // list: the states it was in
func keyTrail(id string) string   { return keyJob(id) + ":trail" }   // list: its attempts that have ended

func keyTenantJobs(tenant string) string { return pool + "tenant:" + tenant + ":jobs" } // zset: ids, which sort by time
func keyRequest(tenant, request string) string {
	return pool + "tenant:" + tenant + ":request:" + request // string: job id and fingerprint
}

func keySweep(id string) string { return pool + "sweep:" + id }

// keysSweep are the KEYS that lua/prelude.lua binds, for a sweep and some of its jobs.
func keysSweep(sweep string, jobs []string) []string {
	s := keySweep(sweep)
	keys := []string{
		keyLive, keyActive, s, s + ":queries", s + ":limits", s + ":leases", s + ":attempts", s + ":done", s + ":retry",
		s + ":deaths", s + ":tickets",
	}
	for _, id := range jobs {
		keys = append(keys, keyJob(id), keyPending(id), keyLog(id), keyStop(id), keyChanges(id), keyTrail(id))
	}
	return keys
}

// sweepOf is the sweep that walks for a job: for now its own.
func sweepOf(job string) string { return job }
