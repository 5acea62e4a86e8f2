package worker_test

import (
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// bufferedPipe returns the ends of a connection in memory whose writes never wait, as those to a socket with room in
// its buffer do not. On net.Pipe, go-redis and miniredis write under locks until the other side reads, and who waits for
// such a lock keeps the time of a bubble from passing.
func bufferedPipe() (client, server net.Conn) {
	there, back := &stream{}, &stream{}
	return &bufferedConn{in: back, out: there}, &bufferedConn{in: there, out: back}
}

// stream is one direction of a connection.
type stream struct {
	mu     sync.Mutex
	data   []byte
	closed bool
	change chan struct{} // closed by the next change; nil while nobody waits
}

func (s *stream) changed() {
	if s.change != nil {
		close(s.change)
		s.change = nil
	}
}

func (s *stream) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.changed()
}

type bufferedConn struct {
	in, out *stream

	mu       sync.Mutex
	deadline time.Time
}

func (c *bufferedConn) Read(to []byte) (int, error) {
	for {
		c.in.mu.Lock()
		if len(c.in.data) > 0 {
			n := copy(to, c.in.data)
			c.in.data = c.in.data[n:]
			c.in.mu.Unlock()
			return n, nil
		}
		if c.in.closed {
			c.in.mu.Unlock()
			return 0, io.EOF
		}
		if c.in.change == nil {
			c.in.change = make(chan struct{})
		}
		change := c.in.change
		c.in.mu.Unlock()
		if err := c.wait(change); err != nil {
			return 0, err
		}
	}
}

// wait returns when something has changed, or the deadline is over.
func (c *bufferedConn) wait(change <-chan struct{}) error {
	c.mu.Lock()
	deadline := c.deadline
	c.mu.Unlock()
	if deadline.IsZero() {
		<-change
		return nil
	}
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	select {
	case <-change:
		return nil
	case <-timer.C:
		return os.ErrDeadlineExceeded
	}
}

func (c *bufferedConn) Write(data []byte) (int, error) {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	if c.out.closed {
		return 0, net.ErrClosed
	}
	c.out.data = append(c.out.data, data...)
	c.out.changed()
	return len(data), nil
}

func (c *bufferedConn) Close() error {
	c.in.close()
	c.out.close()
	return nil
}

// SetReadDeadline is for the reads to come.
func (c *bufferedConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	return nil
}

func (c *bufferedConn) SetWriteDeadline(time.Time) error { return nil }

func (c *bufferedConn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

func (*bufferedConn) LocalAddr() net.Addr { return &net.UnixAddr{Name: "local"} }

func (*bufferedConn) RemoteAddr() net.Addr { return &net.UnixAddr{Name: "remote"} }
