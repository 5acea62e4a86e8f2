package jobs_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/hashfinder/hashfinder/jobs"
	"github.com/hashfinder/hashfinder/jobs/jobstest"
)

func TestOpenRedis(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, url string
		want      func(client redis.UniversalClient) bool
	}{
		{"one server", "redis://user:pa%2Fss@example.com:1234/5?pool_size=7", func(client redis.UniversalClient) bool {
			o := client.(*redis.Client).Options()
			return o.Addr == "example.com:1234" && o.Username == "user" && o.Password == "pa/ss" && o.DB == 5 && o.PoolSize == 7 && o.TLSConfig == nil
		}},
		{"default port", "redis://example.com", func(client redis.UniversalClient) bool {
			o := client.(*redis.Client).Options()
			return o.Addr == "example.com:6379" && o.Password == "" && o.DB == 0
		}},
		{"TLS", "rediss://:pass@example.com:1234", func(client redis.UniversalClient) bool {
			o := client.(*redis.Client).Options()
			return o.TLSConfig != nil && o.Password == "pass"
		}},
		{"socket", "unix:///run/a@b/redis.sock?db=3", func(client redis.UniversalClient) bool {
			o := client.(*redis.Client).Options()
			return o.Network == "unix" && o.Addr == "/run/a@b/redis.sock" && o.DB == 3
		}},
		{"sentinel", "redis-sentinel://sentinel:other@example.com:26379/2?master_name=main&addr=example.org:26380&username=user&password=pass", func(client redis.UniversalClient) bool {
			o := client.(*redis.Client).Options()
			return o.Addr == "FailoverClient" && o.DB == 2 && o.Username == "user" && o.Password == "pass"
		}},
		{"sentinel with TLS", "rediss-sentinel://example.com:26379?master_name=main", func(client redis.UniversalClient) bool {
			o := client.(*redis.Client).Options()
			return o.Addr == "FailoverClient" && o.TLSConfig != nil
		}},
		{"cluster", "redis-cluster://user:pass@example.com:7000?addr=example.org:7001", func(client redis.UniversalClient) bool {
			o := client.(*redis.ClusterClient).Options()
			return slices.Equal(o.Addrs, []string{"example.com:7000", "example.org:7001"}) && o.Password == "pass" && o.TLSConfig == nil
		}},
		{"cluster with TLS", "rediss-cluster://example.com:7000", func(client redis.UniversalClient) bool {
			return client.(*redis.ClusterClient).Options().TLSConfig != nil
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			client, err := jobs.OpenRedis(c.url)
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			if !c.want(client) {
				t.Errorf("the options of %T are not those of %s", client, c.url)
			}
		})
	}
}

func TestOpenRedisRefusesWithoutTellingThePassword(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"",
		"example.com:6379",
		"redis:6379",
		"user:hunter2@example.com:6379",
		"http://user:hunter2@example.com",
		"redis+tls://user:hunter2@example.com",
		"redis-sentinel+tls://user:hunter2@example.com?master_name=main",
		"redis://user:hunter2@example.com:port",
		"redis://user:hunter2@exa mple.com",
		"redis://user:hunter2%zz@example.com",
		"redis://user:%zzhunter2@example.com",
		"redis://user:hunter2\x7f@example.com",
		"redis://user:hunter2@example.com/db",
		"redis://user:hunter2@example.com/1/2",
		"redis://user:hunter2@example.com?no_such_option=1",
		"redis://user:hunter2@example.com?pool_size=many",
		"redis-sentinel://user:hunter2@example.com",
		"redis-sentinel://user:hunter2@example.com?master_name=main&no_such_option=1",
		"redis-cluster://user:hunter2@example.com?no_such_option=1",
		"redis-cluster://user:hunter2@example.com?pool_size=many",
		// Characters that should have been escaped end the password before its end.
		"redis://user:hun/ter2@example.com",
		"redis://user:hun#ter2@example.com",
		"redis://user:hun?ter2@example.com",
		"redis://:hunter2/@example.com",
		"redis://user:1/hunter2@example.com",
		"redis://user:1?hunter2@example.com",
		"redis://user:1#hunter2@example.com",
		"redis-cluster://user:1?hunter2=1@example.com",
		"redis-sentinel://user:1/hunter2@example.com?master_name=main",
		"unix://user:hunter2@/run/redis.sock?no_such_option=1",
		"unix://user:hunter2@",
		"unix://user:1/hunter2@/run/redis.sock",
	} {
		client, err := jobs.OpenRedis(url)
		if err == nil {
			t.Errorf("%q was accepted", url)
			client.Close()
			continue
		}
		for _, part := range []string{"hun", "ter2", "%zz"} {
			if strings.Contains(err.Error(), part) {
				t.Errorf("%q: the error tells the password: %v", url, err)
			}
		}
		if len(err.Error()) < len("redis URL: x") {
			t.Errorf("%q: the error %q says nothing", url, err)
		}
	}
}

// A worker whose renewal hangs must know in time that it is fenced.
func TestCallsEndWithTheirDeadlineWhenRedisHangs(t *testing.T) {
	t.Parallel()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0") // the kernel accepts; nobody answers
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	for _, scheme := range []string{"redis://", "redis-cluster://"} {
		t.Run(scheme, func(t *testing.T) {
			store := jobs.NewStore(jobstest.Open(t, scheme+listener.Addr().String()))
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			begin := time.Now()
			err := store.Renew(ctx, &jobs.Chunk{Sweep: "s", Members: []jobs.Member{{Job: "s"}}})
			if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, jobs.ErrUnavailable) {
				t.Errorf("got %v, want DeadlineExceeded", err)
			}
			// The client's own patience is five seconds for a read.
			if took := time.Since(begin); took > 4*time.Second {
				t.Errorf("a call with 100 ms took %v", took)
			}
		})
	}
}

// A script that has written goes on when memory is full, and one that has not is refused: nothing is done by half.
func TestFullRedisIsUnavailableAndLosesNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t, jobstest.Open(t, jobstest.StartRedis(t)), jobs.Limits{})
	job := b.submit(t, spec(secondChunk))
	first, second := b.claim(t, job), b.claim(t, job)
	memory := func(limit int) {
		t.Helper()
		if err := b.client.ConfigSet(t.Context(), "maxmemory", strconv.Itoa(limit)).Err(); err != nil {
			t.Fatal(err)
		}
	}
	memory(1)
	check := unchanged(t, b.client)
	if _, err := b.service.Submit(t.Context(), jobs.Request{Tenant: tenant, Spec: spec(10)}); !errors.Is(err, jobs.ErrUnavailable) {
		t.Errorf("submit: got %v, want ErrUnavailable", err)
	}
	if err := b.queue.Enqueue(t.Context(), []jobs.Ticket{ticket(jobs.QueueBatch)}); !errors.Is(err, jobs.ErrUnavailable) {
		t.Errorf("enqueue: got %v, want ErrUnavailable", err)
	}
	check("a full Redis")
	if got := b.get(t, job.ID); got.State != jobs.Running {
		t.Errorf("got %s, want RUNNING", got.State)
	}
	_, _, commitErr := b.store.Commit(t.Context(), first, [][]jobs.Hit{finds(0, 3)})
	_, releaseErr := b.store.Release(t.Context(), second, true)
	b.expireLeases(t, job.ID)
	reconcileErr := b.reconciler.Reconcile(t.Context())
	memory(0)
	t.Logf("commit: %v; release: %v; reconcile: %v", commitErr, releaseErr, reconcileErr)
	for !b.get(t, job.ID).State.Terminal() {
		b.due(t, job.ID, longAgo)
		b.reconcile(t)
		chunk := b.claim(t, job)
		if chunk.Lo == 0 {
			b.commit(t, chunk, finds(0, 3)...)
		} else {
			b.commit(t, chunk)
		}
	}
	if hits, _ := b.log(t, job.ID); !slices.Equal(hits, finds(0, 3)) {
		t.Errorf("got the hits %v", hits)
	}
}

// On a cluster a command, and a script, may only touch keys of one slot.
func TestCluster(t *testing.T) {
	t.Parallel()
	url := jobstest.StartCluster(t)
	b := newBench(t, jobstest.Open(t, url), jobs.Limits{})
	stop := b.lead(t)
	jobstest.Until(t, "it leads", func() bool { return b.leader(t) != "" })
	stop()
	b.everything(t)

	job := b.submit(t, spec(secondChunk))
	w := b.watch(t, job.ID, 0)
	var all []jobs.Hit
	for range 2 {
		chunk := b.claim(t, job)
		hits := []jobs.Hit{{Index: chunk.Lo + 7, Distance: 2}, {Index: chunk.Lo + 9, Distance: 3}}
		b.find(t, chunk, hits)
		b.commit(t, chunk, jobs.Hit{Index: chunk.Lo + 11, Distance: 4})
		all = append(all, append(hits, jobs.Hit{Index: chunk.Lo + 11, Distance: 4})...)
	}
	hits, end, err := follow(t.Context(), w, 0)
	if err != nil || !slices.Equal(hits, all) || end.State != jobs.Exhausted || end.Progress.Searched != secondChunk {
		t.Errorf("got %v, %+v, %v, want %v", hits, end, err, all)
	}
}
