//go:build chaos

package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// link is a way to a server that can be disturbed.
type link struct {
	address string
	proxy   *toxiproxy.Proxy
}

// newLink returns a link to a server.
func newLink(upstream string) (*link, error) {
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	l := &link{address: newAddress()}
	l.proxy = toxiproxy.NewProxy(server, l.address, l.address, upstream)
	return l, l.proxy.Start()
}

// refuse breaks all connections, and accepts no others until accept.
func (l *link) refuse() { l.proxy.Stop() }

// accept ends refuse.
func (l *link) accept() error { return l.proxy.Start() }

// close breaks all connections for good.
func (l *link) close() { l.proxy.Stop() }

// disturb puts a toxic into both directions, and returns what takes it out again.
func (l *link) disturb(ctx context.Context, toxic string, attributes map[string]any) (func(), error) {
	for _, direction := range []string{"upstream", "downstream"} {
		text, err := json.Marshal(map[string]any{"type": toxic, "name": toxic + direction, "stream": direction, "attributes": attributes})
		if err != nil {
			return nil, err
		}
		if _, err := l.proxy.Toxics.AddToxicJson(strings.NewReader(string(text))); err != nil {
			return nil, fmt.Errorf("%s: %w", toxic, err)
		}
	}
	return func() { l.proxy.Toxics.ResetToxics(context.WithoutCancel(ctx)) }, nil
}

// newAddress returns an address that nobody listens on, nor will while its server is gone for a while: of the 16 million
// hosts that all are this machine, ports are only given away at the first.
func newAddress() string {
	return fmt.Sprintf("127.%d.%d.%d:%d", 1+rand.IntN(254), 1+rand.IntN(254), 1+rand.IntN(254), 10_000+rand.IntN(50_000))
}
