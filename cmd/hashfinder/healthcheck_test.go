package main

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"github.com/hashfinder/hashfinder/jobs"
	"github.com/hashfinder/hashfinder/jobs/jobstest"
)

// TestHealthcheckOfWorker looks that a process which only works is well while it works, not whenever Redis is.
func TestHealthcheckOfWorker(t *testing.T) {
	server := miniredis.RunT(t)
	command := healthcheckCmd{Roles: []string{roleWorker}, Redis: "redis://" + server.Addr()}
	const none = "no worker of this host"
	if err := command.check(t.Context()); err == nil || !strings.Contains(err.Error(), none) {
		t.Errorf("without a worker: got %v, want %q", err, none)
	}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		ended <- runNode(ctx, nodeConfig{
			open:  func() (redis.UniversalClient, error) { return jobs.OpenRedis(command.Redis) },
			roles: map[string]bool{roleWorker: true}, concurrency: 1, logger: slog.New(slog.DiscardHandler),
		})
	}()
	jobstest.Until(t, "the worker is well", func() bool { return command.check(t.Context()) == nil })
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := command.check(t.Context()); err == nil || !strings.Contains(err.Error(), none) {
		t.Errorf("after the worker has ended: got %v, want %q", err, none)
	}

	server.Close()
	if err := command.check(t.Context()); err == nil || strings.Contains(err.Error(), none) {
		t.Errorf("without Redis: got %v, want why", err)
	}
}

// TestHealthcheckOfHTTP looks that it asks by a name that the server serves, and says what the server says.
func TestHealthcheckOfHTTP(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "hashfinder.example" {
			http.Error(w, "not "+r.Host, http.StatusForbidden)
		}
	}))
	defer server.Close()
	command := healthcheckCmd{Roles: []string{roleAPI}, HTTPListen: server.Listener.Addr().String()}
	if err := command.check(t.Context()); err == nil || !strings.Contains(err.Error(), "403 Forbidden: not 127.0.0.1") {
		t.Errorf("by its address: got %v, want what the server says", err)
	}
	command.HTTPHosts = []string{"hashfinder.example", "127.0.0.1"}
	if err := command.check(t.Context()); err != nil {
		t.Errorf("by its name: %v", err)
	}
	server.CloseClientConnections()
	http.DefaultClient.CloseIdleConnections()
}
