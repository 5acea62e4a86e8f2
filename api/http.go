package api

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Content security policies. The dashboard's page has inline scripts and styles, and names a web font that it can do
// without; all else is text.
const (
	strictPolicy    = "default-src 'self'; frame-ancestors 'none'"
	dashboardPolicy = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; " +
		"script-src 'self' 'unsafe-inline'; frame-ancestors 'none'"
)

// loopbackKey is the context key under which a request finds whether its listener is on loopback.
type loopbackKey struct{}

// newHTTP returns the HTTP server, which is not serving yet. ready tells whether gRPC is.
func newHTTP(log *slog.Logger, dashboard http.Handler, hosts []string, ready func() bool) *http.Server {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if !ready() {
			http.Error(w, "redis does not answer", http.StatusServiceUnavailable)
			return
		}
		writeText(w, "ok\n")
	})
	if dashboard == nil {
		mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
			writeText(w, "hashfinder serves gRPC on another port; here is /healthz.\n")
		})
	} else {
		mux.Handle("GET /{$}", http.RedirectHandler("/queues/", http.StatusFound))
		mux.Handle("/queues/", http.NewCrossOriginProtection().Handler(withPolicy(dashboardPolicy, dashboard)))
	}
	return &http.Server{
		Handler:           refuseRebinding(hosts, withPolicy(strictPolicy, mux)),
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    maxHeaderSize,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		BaseContext: func(lis net.Listener) context.Context {
			return context.WithValue(context.Background(), loopbackKey{}, isLoopback(lis.Addr().String()))
		},
	}
}

func withPolicy(policy string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", policy)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Referrer-Policy", "no-referrer")
		next.ServeHTTP(w, r)
	})
}

// refuseRebinding lets nobody through who asks by another name than hosts, or, if there are none, than the machine's own
// to a listener on loopback. Otherwise any web page could have its own name resolve to loopback, and its visitors'
// browsers read what is served here.
func refuseRebinding(hosts []string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := withoutPort(r.Host)
		only, _ := r.Context().Value(loopbackKey{}).(bool)
		switch {
		case len(hosts) > 0 && !slices.ContainsFunc(hosts, func(h string) bool { return strings.EqualFold(h, host) }):
			http.Error(w, "this address serves "+strings.Join(hosts, ", ")+" only", http.StatusForbidden)
		case len(hosts) == 0 && only && !isLoopback(r.Host):
			http.Error(w, "this address serves localhost only", http.StatusForbidden)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// isLoopback tells whether an address, with or without a port, names loopback.
func isLoopback(address string) bool {
	host := withoutPort(address)
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}

// withoutPort returns the host of an address, without the brackets that an IPv6 address has there.
func withoutPort(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	if n := len(host); n > 1 && host[0] == '[' && host[n-1] == ']' {
		host = host[1 : n-1]
	}
	return host
}

func writeText(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte(text)) // fails only when the client is gone
}
