package main

import (
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

// TestEmbeddedRedisBuffers looks that its connections take a pipeline whose replies begin before all of it is sent, as
// that for a page of jobs.
func TestEmbeddedRedisBuffers(t *testing.T) {
	server, err := startEmbeddedRedis()
	if err != nil {
		t.Fatal(err)
	}
	defer server.close()
	client, err := server.open()
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	value := strings.Repeat("x", 100)
	replies, err := client.Pipelined(t.Context(), func(p redis.Pipeliner) error {
		for i := range 1000 {
			p.Echo(t.Context(), value+strconv.Itoa(i))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, reply := range replies {
		if got, want := reply.(*redis.StringCmd).Val(), value+strconv.Itoa(i); got != want {
			t.Fatalf("reply %d: got %q, want %q", i, got, want)
		}
	}
}
