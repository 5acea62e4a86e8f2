// Package dashboard shows the asynq queues in a browser, with asynqmon: which tickets wait, which are being run, and the
// job, query and chunk of each.
//
// It has no authentication of its own. It is read-only unless asked: asynqmon's cancel button is asynq's cancel, which
// frees a worker's slot while the worker still computes, and deleting tickets only makes the reconciler make new ones.
package dashboard

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/hibiken/asynqmon"
	"github.com/redis/go-redis/v9"

	"github.com/hashfinder/hashfinder/jobs"
	"github.com/hashfinder/hashfinder/jobs/search"
)

// Path is where the dashboard is to be mounted.
const Path = "/queues"

// New returns a handler of Path and everything below. client stays the caller's to close.
func New(client redis.UniversalClient, readOnly bool) http.Handler {
	store := jobs.NewStore(client)
	return asynqmon.New(asynqmon.Options{
		RootPath:         Path,
		RedisConnOpt:     shared{client},
		ReadOnly:         readOnly,
		PayloadFormatter: asynqmon.PayloadFormatterFunc(func(_ string, payload []byte) string { return describe(store, payload) }),
		ResultFormatter:  asynqmon.ResultFormatterFunc(func(_ string, result []byte) string { return string(result) }),
	})
}

// describe tells a person what a ticket is for: "doctor [65793, 131329) jobs/…". The name comes first, because asynqmon's
// column is narrow. There is no chunk unless a worker holds one.
func describe(store *jobs.Store, payload []byte) string {
	ticket, err := jobs.DecodeTicket(payload)
	if err != nil {
		return "not a ticket"
	}
	what := ticket.Query
	if query, err := search.DecodeQuery([]byte(ticket.Query)); err == nil {
		what = query.Name
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	lo, hi, held, err := store.Holding(ctx, ticket)
	switch {
	case err != nil:
		what += " (chunk unknown: the store does not answer)"
	case held:
		what = fmt.Sprintf("%s [%d, %d)", what, lo, hi)
	}
	return what + " jobs/" + strings.Join(ticket.Jobs, ", jobs/")
}

// shared hands asynqmon a client that it does not own.
type shared struct{ client redis.UniversalClient }

// MakeRedisClient is asynq.RedisConnOpt.
func (s shared) MakeRedisClient() any { return s.client }
