package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/hashfinder/hashfinder/jobs"
	"github.com/hashfinder/hashfinder/worker"
)

// healthcheckCmd asks the process that the same environment configures whether it is well: for containers, which have
// no shell to ask with.
type healthcheckCmd struct {
	Roles      []string `default:"api,worker,dashboard" enum:"api,worker,dashboard" env:"HASHFINDER_ROLES" help:"Roles of the process."`
	Redis      string   `env:"HASHFINDER_REDIS" placeholder:"URL" help:"Redis of the process."`
	HTTPListen string   `name:"http-listen" default:"127.0.0.1:8080" env:"HASHFINDER_HTTP_LISTEN" placeholder:"ADDR" help:"Address of its /healthz (${default})."`
	HTTPHosts  []string `name:"http-hosts" env:"HASHFINDER_HTTP_HOSTS" placeholder:"HOST" help:"Names by which it may be asked; the first is used."`
}

// Run returns an error that says what is wrong.
func (c *healthcheckCmd) Run(ctx context.Context) error {
	redis.SetLogger(redisLogger{slog.New(slog.DiscardHandler)})
	return c.check(ctx)
}

// check tells what is wrong. A process with an API or a dashboard is asked by HTTP; one that
// only works is well while it tells the others, by way of Redis, that it is there.
func (c *healthcheckCmd) check(ctx context.Context) error {
	// Docker gives it 3 s, and would not tell why it took longer.
	ctx, cancel := context.WithTimeout(ctx, 2500*time.Millisecond)
	defer cancel()
	if !slices.Contains(c.Roles, roleAPI) && !slices.Contains(c.Roles, roleDashboard) {
		client, err := jobs.OpenRedis(c.Redis)
		if err != nil {
			return err
		}
		defer client.Close()
		switch present, err := worker.Present(ctx, jobs.NewStore(client)); {
		case err != nil:
			return err
		case !present:
			return errors.New("no worker of this host is known to Redis")
		}
		return nil
	}
	host, port, err := net.SplitHostPort(c.HTTPListen)
	if err != nil {
		return fmt.Errorf("--http-listen: %w", err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(host, port)+"/healthz", nil)
	if err != nil {
		return err
	}
	if len(c.HTTPHosts) > 0 {
		request.Host = c.HTTPHosts[0]
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	const enough = 1 << 10
	body, err := io.ReadAll(io.LimitReader(response.Body, enough))
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", response.Status, strings.TrimSpace(string(body)))
	}
	return nil
}
