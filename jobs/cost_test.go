package jobs_test

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/hashfinder/hashfinder/jobs"
	"github.com/hashfinder/hashfinder/jobs/jobstest"
)

// BenchmarkCommit measures what one commit of a long job costs Redis, which runs one script at a time: redis-µs/op is the
// median of what the server itself counts. 16 chunks are held all the time; each has found 3 hits.
func BenchmarkCommit(b *testing.B) {
	const held = 16
	client := jobstest.Open(b, jobstest.StartRedis(b))
	store := jobs.NewStore(client)
	id := uuid.Must(uuid.NewV7()).String()
	_, tickets, err := store.Submit(b.Context(), jobs.Submission{
		ID: id, Tenant: "t", MaxActive: 1, Retention: time.Hour, Window: 2 * held,
		Spec: jobs.Spec{
			Profile: "test", Query: []byte("q"), Grid: []uint64{firstChunk}, Budget: jobs.Budget{Candidates: jobs.MaxCandidates, Hits: 1 << 40},
		},
	})
	if err != nil {
		b.Fatal(err)
	}
	var chunks []*jobs.Chunk
	attempt := 0
	claim := func() {
		for len(chunks) < held && len(tickets) > 0 {
			attempt++
			chunk, err := store.Claim(b.Context(), tickets[0], fmt.Sprint("host.example/12345/0a1b2c3d/", attempt), "host.example/12345/0a1b2c3d", 1<<16)
			if err != nil {
				b.Fatal(err)
			}
			tickets, chunks = tickets[1:], append(chunks, chunk)
		}
	}
	commit := func() {
		chunk := chunks[0]
		hits := []jobs.Hit{{Index: chunk.Lo, Distance: 2}, {Index: chunk.Lo + 1, Distance: 3}, {Index: chunk.Lo + 2, Distance: 4}}
		next, _, err := store.Commit(b.Context(), chunk, [][]jobs.Hit{hits})
		if err != nil {
			b.Fatal(err)
		}
		tickets, chunks = append(tickets, next...), chunks[1:]
	}
	for range 2000 { // a job of many chunks
		claim()
		commit()
	}
	var spent []time.Duration
	b.ReportAllocs()
	for b.Loop() {
		claim()
		before := scriptTime(b, client)
		commit()
		spent = append(spent, scriptTime(b, client)-before)
	}
	slices.Sort(spent)
	b.ReportMetric(float64(spent[len(spent)/2].Microseconds()), "redis-µs/op")
}

var evalsha = regexp.MustCompile(`cmdstat_evalsha:calls=\d+,usec=(\d+)`)

// scriptTime is what the server has spent in scripts so far.
func scriptTime(b *testing.B, client redis.UniversalClient) time.Duration {
	b.Helper()
	info, err := client.Info(b.Context(), "commandstats").Result()
	if err != nil {
		b.Fatal(err)
	}
	match := evalsha.FindStringSubmatch(info)
	if match == nil {
		b.Fatalf("no such statistics: %s", info)
	}
	µs, err := strconv.ParseInt(match[1], 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return time.Duration(µs) * time.Microsecond
}
