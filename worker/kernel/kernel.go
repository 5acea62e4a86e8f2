package kernel

import (
	"sync/atomic"

	"github.com/hashfinder/hashfinder/jobs/search"
)

// Query is one search of a pass.
type Query struct {
	search.Query
	// End is the query's own bound: indexes at or above it are not looked at
	// for this query.
	End uint64
	// MaxHits ends the query with that many hits of this pass. 0 is no bound.
	MaxHits int
}

// Hit is a hit of one query of a pass.
type Hit struct {
	// Query is the query's place in the slice given to Scan.
	Query int
	search.Hit
}

// Report tells that all indexes below through have been searched for every
// query that has not ended, and hands over the hits found since the last
// report, by index and then by query. The slice is valid only during the call.
// It is called by the goroutine that called Scan, which waits for it.
type Report func(through uint64, hits []Hit)

// ReportEvery is the largest number of candidates between two reports: one
// to two milliseconds of the generic kernel's time for one query. A kernel may
// report sooner, and does when many hits have come together.
const ReportEvery = 1 << 14

// Kernel is one way to compute searches. It has no state: Scan may be called
// by several goroutines at once.
type Kernel interface {
	// Name identifies the kernel in logs and metrics.
	Name() string

	// Scan searches [lo, hi) for queries in one pass. Each must be valid by
	// [search.Query.Validate], except that its ideal distance may be out of
	// reach, or -1, which no hit is within. A query ends at its End, with its
	// first ideal hit, or with its MaxHits-th hit, and is not reported again.
	//
	// Scan returns when all queries have ended, at hi or, within a
	// millisecond, when stop is set. It then returns through, between lo and
	// hi (lo for an empty range), such that everything in [lo, through) was
	// searched for the queries that have not ended, and all hits below
	// through and none at or above it were reported. Unless through is lo,
	// the last report was about through.
	Scan(queries []Query, lo, hi uint64, stop *atomic.Bool, report Report) (through uint64)
}
