package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/hashfinder/hashfinder/jobs"
)

// healthcheckCmd asks the process that the same environment configures whether it is well: for containers, which have
// no shell to ask with.
type healthcheckCmd struct {
	Roles      []string `default:"api,worker,dashboard" enum:"api,worker,dashboard" env:"HASHFINDER_ROLES" help:"Roles of the process."`
	Redis      string   `env:"HASHFINDER_REDIS" placeholder:"URL" help:"Redis of the process."`
	HTTPListen string   `name:"http-listen" default:"127.0.0.1:8080" env:"HASHFINDER_HTTP_LISTEN" placeholder:"ADDR" help:"Address of its /healthz (${default})."`
}

// Run returns an error that says what is wrong. A process with an API or a dashboard is asked by HTTP; one that
// only works is as well as its Redis.
func (c *healthcheckCmd) Run(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	if !slices.Contains(c.Roles, roleAPI) && !slices.Contains(c.Roles, roleDashboard) {
		client, err := jobs.OpenRedis(c.Redis)
		if err != nil {
			return err
		}
		defer client.Close()
		return jobs.NewStore(client).Ping(ctx)
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
