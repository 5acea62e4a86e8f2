package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"github.com/redis/go-redis/v9"

	"github.com/hashfinder/hashfinder/jobs"
)

// serveCmd runs the service.
type serveCmd struct {
	Roles       []string `default:"api,worker,dashboard" enum:"api,worker,dashboard" env:"HASHFINDER_ROLES" help:"What this process does: any of api, worker, dashboard."`
	Redis       string   `env:"HASHFINDER_REDIS" placeholder:"URL" help:"Redis to keep jobs in: redis://, rediss://, unix://, redis-sentinel:// or redis-cluster://. Without it, one inside this process, which keeps nothing."`
	GRPCListen  string   `name:"grpc-listen" default:"127.0.0.1:50051" env:"HASHFINDER_GRPC_LISTEN" placeholder:"ADDR" help:"Address of the gRPC API (${default})."`
	HTTPListen  string   `name:"http-listen" default:"127.0.0.1:8080" env:"HASHFINDER_HTTP_LISTEN" placeholder:"ADDR" help:"Address of /healthz and the dashboard (${default})."`
	HTTPHosts   []string `name:"http-hosts" env:"HASHFINDER_HTTP_HOSTS" placeholder:"HOST" help:"Names and addresses by which HTTP may be asked, and no others: a browser is kept from reading it for a page that has its own name lead here. Default: loopback's on loopback, any elsewhere."`
	Insecure    bool     `env:"HASHFINDER_INSECURE" help:"Listen on other addresses than loopback, without encryption or authentication."`
	Concurrency int      `env:"HASHFINDER_CONCURRENCY" placeholder:"N" help:"Chunks that a worker searches at a time. Default: one a core."`

	RedisReplicasAcked   int           `env:"HASHFINDER_REDIS_REPLICAS_ACKED" placeholder:"N" help:"Acknowledge a submit, extension, pause, resume or cancel only when N replicas of Redis have it. Default: 0."`
	RedisReplicasTimeout time.Duration `default:"1s" env:"HASHFINDER_REDIS_REPLICAS_TIMEOUT" placeholder:"D" help:"How long to wait for them, at most 2s (${default}); then the call fails with UNAVAILABLE and may be repeated."`

	MaxCandidates uint64        `env:"HASHFINDER_MAX_CANDIDATES" placeholder:"N" help:"Largest budget of candidates that a job may have. Default: 2^53."`
	MaxHits       uint64        `env:"HASHFINDER_MAX_HITS" placeholder:"N" help:"Largest budget of hits that a job may have. Default: 1000000."`
	MaxDuration   time.Duration `env:"HASHFINDER_MAX_DURATION" placeholder:"D" help:"Longest time that a job may take, such as 24h. Default: no bound."`
	MaxActive     uint64        `name:"max-active-jobs" env:"HASHFINDER_MAX_ACTIVE_JOBS" placeholder:"N" help:"Jobs that may be active at a time. Default: 1000."`
	Retention     time.Duration `env:"HASHFINDER_RETENTION" placeholder:"D" help:"How long ended jobs are kept. Default: 24h."`

	Reflection        bool   `default:"true" negatable:"" env:"HASHFINDER_REFLECTION" help:"Offer gRPC reflection (on)."`
	DashboardWritable bool   `env:"HASHFINDER_DASHBOARD_WRITABLE" help:"Let the dashboard delete, retry and pause."`
	LogFormat         string `default:"text" enum:"text,json" env:"HASHFINDER_LOG_FORMAT" help:"text or json."`
	LogLevel          string `default:"info" enum:"debug,info,warn,error" env:"HASHFINDER_LOG_LEVEL" help:"debug, info, warn or error."`
}

// Validate refuses flags that contradict each other, and variables that are no flag's.
func (c *serveCmd) Validate(command *kong.Context) error {
	if err := checkEnvironment(command.Model, os.Environ()); err != nil {
		return err
	}
	switch {
	case c.Redis == "" && !slices.Contains(c.Roles, roleWorker):
		return fmt.Errorf("--roles without worker needs --redis: nobody else can reach the embedded one")
	case c.Redis == "" && !slices.Contains(c.Roles, roleAPI):
		return fmt.Errorf("--roles without api needs --redis: nobody else can reach the embedded one")
	case c.Redis == "" && c.RedisReplicasAcked != 0:
		return fmt.Errorf("--redis-replicas-acked needs --redis: the embedded one has no replicas")
	case c.RedisReplicasAcked < 0:
		return fmt.Errorf("--redis-replicas-acked must not be negative")
	case c.RedisReplicasTimeout < time.Millisecond || c.RedisReplicasTimeout > jobs.MaxReplicasWait:
		return fmt.Errorf("--redis-replicas-timeout must be 1ms to %v", jobs.MaxReplicasWait)
	case c.Concurrency < 0:
		return fmt.Errorf("--concurrency must be at least 1")
	case c.MaxDuration < 0:
		return fmt.Errorf("--max-duration must not be negative")
	case c.Retention != 0 && c.Retention < time.Second:
		return fmt.Errorf("--retention must be at least 1s")
	case c.MaxCandidates > jobs.MaxCandidates:
		return fmt.Errorf("--max-candidates must be at most %d", uint64(jobs.MaxCandidates))
	}
	if c.Redis != "" {
		client, err := jobs.OpenRedis(c.Redis)
		if err != nil {
			return fmt.Errorf("--redis: %w", err)
		}
		client.Close()
	}
	for _, address := range []struct{ flag, value string }{{"--grpc-listen", c.GRPCListen}, {"--http-listen", c.HTTPListen}} {
		host, _, err := net.SplitHostPort(address.value)
		if err != nil {
			return fmt.Errorf("%s: %w", address.flag, err)
		}
		ip := net.ParseIP(host)
		if loopback := host == "localhost" || ip != nil && ip.IsLoopback(); !loopback && !c.Insecure {
			return fmt.Errorf("%s %s is not a loopback address: whoever reaches it may use the service; --insecure allows it", address.flag, address.value)
		}
	}
	return nil
}

// Run serves until ctx ends, and drains.
func (c *serveCmd) Run(ctx context.Context, con *console) error {
	log := c.logger(con.err)
	redis.SetLogger(redisLogger{log})
	cfg := nodeConfig{
		open:        func() (redis.UniversalClient, error) { return jobs.OpenRedis(c.Redis) },
		roles:       map[string]bool{},
		concurrency: c.Concurrency,
		limits: jobs.Limits{
			Ceiling:   jobs.Budget{Candidates: c.MaxCandidates, Hits: c.MaxHits, Duration: c.MaxDuration},
			MaxActive: c.MaxActive,
			Retention: c.Retention,
		},
		replicas:          jobs.Replicas{Count: c.RedisReplicasAcked, Wait: c.RedisReplicasTimeout},
		httpHosts:         c.HTTPHosts,
		reflection:        c.Reflection,
		dashboardWritable: c.DashboardWritable,
		logger:            log,
	}
	for _, role := range c.Roles {
		cfg.roles[role] = true
	}
	var listen net.ListenConfig
	var err error
	if cfg.roles[roleAPI] {
		if cfg.grpc, err = listen.Listen(ctx, "tcp", c.GRPCListen); err != nil {
			return fmt.Errorf("--grpc-listen: %w", err)
		}
		defer cfg.grpc.Close()
		log.Info("gRPC", "listen", cfg.grpc.Addr().String())
	}
	if cfg.roles[roleAPI] || cfg.roles[roleDashboard] {
		if cfg.http, err = listen.Listen(ctx, "tcp", c.HTTPListen); err != nil {
			return fmt.Errorf("--http-listen: %w", err)
		}
		defer cfg.http.Close()
		log.Info("HTTP", "listen", cfg.http.Addr().String())
	}
	if c.Redis == "" {
		log.Warn("no --redis: jobs are kept inside this process only, and are lost when it ends")
		embedded, err := startEmbeddedRedis()
		if err != nil {
			return err
		}
		defer embedded.close()
		cfg.open, cfg.alone = embedded.open, true
	}
	log.Info("hashfinder", "version", readBuild().String(), "roles", c.Roles)
	err = runNode(ctx, cfg)
	log.Info("hashfinder has ended")
	return err
}

// checkEnvironment refuses a variable that looks like one of the program's and is none: misspelt, it would be silently
// without effect.
func checkEnvironment(app *kong.Application, environ []string) error {
	known := map[string]bool{}
	err := kong.Visit(app, func(node kong.Visitable, next kong.Next) error {
		if flag, ok := node.(*kong.Flag); ok {
			for _, name := range flag.Envs {
				known[name] = true
			}
		}
		return next(nil)
	})
	if err != nil {
		return err
	}
	for _, variable := range environ {
		if name, _, _ := strings.Cut(variable, "="); strings.HasPrefix(name, "HASHFINDER_") && !known[name] {
			return fmt.Errorf("the environment variable %s is none of hashfinder's", name)
		}
	}
	return nil
}

func (c *serveCmd) logger(stderr io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		level = slog.LevelInfo // not reachable: kong checks the enum
	}
	options := &slog.HandlerOptions{Level: level}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(stderr, options))
	}
	return slog.New(slog.NewTextHandler(stderr, options))
}

// redisLogger writes what go-redis has to say to slog. It repeats what the errors tell, so nobody needs it but to debug.
type redisLogger struct{ log *slog.Logger }

// Printf is go-redis's logging interface.
func (l redisLogger) Printf(ctx context.Context, format string, v ...any) {
	l.log.DebugContext(ctx, "go-redis", "text", fmt.Sprintf(format, v...))
}
