package controller

import (
	"net"
	"sync"
)

// How many connections the daemon keeps open: in all, and with one address. So one
// client that takes all it can get leaves room for the others, and for the
// container's own healthcheck.
const (
	maxConnections     = 128
	maxConnectionsEach = 32
)

// limitConnections closes what comes to l beyond the limits, at once: a client that
// waited in a queue would take a daemon for dead that is only busy.
func limitConnections(l net.Listener, all, each int) net.Listener {
	return &limited{Listener: l, all: all, each: each, open: map[string]int{}}
}

type limited struct {
	net.Listener
	all, each int

	mu    sync.Mutex
	count int
	open  map[string]int // by address
}

func (l *limited) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		from := address(c)
		if l.take(from) {
			return &counted{Conn: c, gone: sync.OnceFunc(func() { l.leave(from) })}, nil
		}
		_ = c.Close()
	}
}

func (l *limited) take(from string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.count >= l.all || l.open[from] >= l.each {
		return false
	}
	l.count++
	l.open[from]++
	return true
}

func (l *limited) leave(from string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count--
	if l.open[from]--; l.open[from] == 0 {
		delete(l.open, from)
	}
}

func address(c net.Conn) string {
	host, _, err := net.SplitHostPort(c.RemoteAddr().String())
	if err != nil {
		return c.RemoteAddr().String()
	}
	return host
}

// counted is a connection that is counted until it is closed.
type counted struct {
	net.Conn
	gone func()
}

func (c *counted) Close() error {
	c.gone()
	return c.Conn.Close()
}
