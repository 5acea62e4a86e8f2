package jobs

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/redis/go-redis/v9"
)

// errRedisURL quotes nothing of the URL: a password with such a character ends up in any part of it.
var errRedisURL = errors.New("redis URL: malformed; in a user name or password characters such as / ? # @ : % are written as %2F and so on")

// OpenRedis returns a client for a URL, without connecting:
//
//   - redis://[user:password@]host:port[/db] or rediss://… for one server, unix:///path for one on a socket
//   - redis-sentinel://[user:password@]host:port[/db]?master_name=NAME[&addr=host:port…]; this user is that of the
//     Sentinels, that of the server is set by [&username=…]&password=…
//   - redis-cluster://[user:password@]host:port[?addr=host:port…]
//
// The query may set go-redis's options, such as pool_size=20. The client tries each command up to ten times: asynq's
// own repair of a failed "done" does not work (v0.26.0), so its calls must outlast a short absence of Redis; after
// about three seconds the error tells what is wrong. A call
// ends with the deadline of its context also while Redis hangs, which go-redis by itself gives five seconds: a worker
// that cannot renew its lease must know in time. No error tells the password.
func OpenRedis(rawURL string) (redis.UniversalClient, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, errRedisURL
	}
	if u.Opaque != "" { // redis:6379 has the scheme redis and no host
		return nil, errors.New("redis URL: it needs // after its scheme: redis://host:port")
	}
	if unix := u.Scheme == "unix"; unix && u.Host != "" || !unix && u.User == nil && strings.Contains(rawURL, "@") {
		return nil, errRedisURL
	}
	switch u.Scheme {
	case "redis", "rediss", "unix":
		opt, err := redis.ParseURL(rawURL)
		if err != nil {
			return nil, fmt.Errorf("redis URL: %w", err)
		}
		return NewRedis(opt), nil
	case "redis-sentinel", "rediss-sentinel":
		u.Scheme = u.Scheme[:len(u.Scheme)-len("-sentinel")]
		opt, err := redis.ParseFailoverURL(u.String())
		if err != nil {
			return nil, fmt.Errorf("redis URL: %w", err)
		}
		if opt.MasterName == "" {
			return nil, errors.New("redis URL: master_name is missing, the name by which the Sentinels know the server")
		}
		opt.MaxRetries, opt.DialerRetries, opt.ContextTimeoutEnabled = redisRetries, 1, true
		return redis.NewFailoverClient(opt), nil
	case "redis-cluster", "rediss-cluster":
		u.Scheme = u.Scheme[:len(u.Scheme)-len("-cluster")]
		opt, err := redis.ParseClusterURL(u.String())
		if err != nil {
			return nil, fmt.Errorf("redis URL: %w", err)
		}
		opt.MaxRedirects, opt.DialerRetries, opt.ContextTimeoutEnabled = redisRetries, 1, true
		return redis.NewClusterClient(opt), nil
	}
	return nil, errors.New("redis URL: unknown scheme: want redis, rediss, unix, redis-sentinel or redis-cluster")
}

// redisRetries is how often a command is tried again.
const redisRetries = 10

// NewRedis returns a client of one server as OpenRedis does, without connecting.
func NewRedis(opt *redis.Options) redis.UniversalClient {
	opt.MaxRetries, opt.DialerRetries, opt.ContextTimeoutEnabled = redisRetries, 1, true
	return redis.NewClient(opt)
}
