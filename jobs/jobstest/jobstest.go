// Package jobstest gives tests a Redis of their own: miniredis in the process, and a private redis-server. What
// passes on the one can fail on the other, so tests of anything that touches Redis run on both.
//
// Where the redis-server binary is missing those tests are skipped, and fail when CI is set in the environment.
package jobstest

import (
	"context"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/hashfinder/hashfinder/jobs"
)

// Main runs a package's tests: without go-redis's remarks on servers that tests take away, and with a check that no
// goroutine is left in the end.
func Main(m *testing.M) {
	redis.SetLogger(quiet{})
	goleak.VerifyTestMain(m)
}

type quiet struct{}

// Printf is go-redis's logging interface.
func (quiet) Printf(context.Context, string, ...any) {}

// Each runs a test on miniredis and on a private redis-server, each empty. open returns a new client of the same
// Redis, which the test need not close.
func Each(t *testing.T, test func(t *testing.T, open func() redis.UniversalClient)) {
	t.Run("miniredis", func(t *testing.T) {
		server := miniredis.RunT(t)
		test(t, func() redis.UniversalClient { return Open(t, "redis://"+server.Addr()) })
	})
	t.Run("redis", func(t *testing.T) {
		url := StartRedis(t)
		test(t, func() redis.UniversalClient { return Open(t, url) })
	})
}

// Open returns a client for a URL that is closed when the test ends.
func Open(t testing.TB, url string) redis.UniversalClient {
	t.Helper()
	client, err := jobs.OpenRedis(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

// StartRedis starts an empty redis-server that ends with the test, and returns its URL. args are added to its
// command line.
func StartRedis(t testing.TB, args ...string) string {
	t.Helper()
	// Not t.TempDir: the path of a socket has room for about a hundred characters.
	dir, err := os.MkdirTemp("", "hashfinder") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "redis.sock")
	url := "unix://" + socket
	start(t, url, append([]string{"--port", "0", "--unixsocket", socket, "--dir", dir}, args...))
	return url
}

// StartCluster starts an empty Redis Cluster of one node, which serves all slots and so refuses commands on keys of
// several slots as any cluster does. It ends with the test. The URL is that of a cluster.
func StartCluster(t testing.TB) string {
	t.Helper()
	ports := freePorts(t, 2)
	address := "127.0.0.1:" + ports[0]
	client := start(t, "redis://"+address, []string{
		"--bind", "127.0.0.1", "--port", ports[0], "--cluster-port", ports[1], "--cluster-enabled", "yes", "--dir", t.TempDir(),
	})
	if err := client.Do(t.Context(), "CLUSTER", "ADDSLOTSRANGE", 0, 16383).Err(); err != nil {
		t.Fatal(err)
	}
	Until(t, "the cluster is ready", func() bool {
		info, err := client.ClusterInfo(t.Context()).Result()
		return err == nil && strings.Contains(info, "cluster_state:ok")
	})
	return "redis-cluster://" + address
}

// start runs a redis-server, and returns a client of the URL where it answers.
func start(t testing.TB, url string, args []string) redis.UniversalClient {
	t.Helper()
	binary, err := exec.LookPath("redis-server")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("redis-server is not installed; CI needs it")
		}
		t.Skip("redis-server is not installed: not tested on a real Redis")
	}
	// Not the test's context, which ends before what the test leaves to Cleanup, and that may need the server.
	cmd := exec.CommandContext(context.Background(), binary, append([]string{"--save", "", "--appendonly", "no"}, args...)...)
	// It ends with the test binary, even if that is killed.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Kill(); err != nil {
			t.Errorf("end redis-server: %v", err)
		}
		_ = cmd.Wait() // it tells of the kill
	})
	client := Open(t, url)
	Until(t, "redis-server answers", func() bool { return client.Ping(t.Context()).Err() == nil })
	return client
}

// freePorts returns TCP ports that nobody listened on a moment ago.
func freePorts(t testing.TB, n int) []string {
	t.Helper()
	var ports []string
	for range n {
		listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close() // only then, so that they differ
		_, port, err := net.SplitHostPort(listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		ports = append(ports, port)
	}
	return ports
}

// Until polls until a condition holds, and fails the test when it does not within 30 seconds.
func Until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !holds() {
		select {
		case <-deadline.C:
			t.Fatalf("not within 30 seconds: %s", what)
		case <-t.Context().Done():
			t.Fatalf("the test has ended before: %s", what)
		case <-ticker.C:
		}
	}
}

// NewService returns a service on a Redis with a running reconciler. Both end with the test.
func NewService(t testing.TB, client redis.UniversalClient, limits jobs.Limits) (*jobs.Service, *jobs.Store, *jobs.Queue) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	store, queue := jobs.NewStore(client), jobs.NewQueue(client)
	relay := jobs.NewRelay(store, log)
	t.Cleanup(func() { relay.Close() })
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		jobs.NewReconciler(store, queue, log).Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return jobs.NewService(store, queue, relay, limits, log), store, queue
}
