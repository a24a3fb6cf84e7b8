package rights

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"slices"
	"sync"
)

// A Gate lets through what its rights name. It may stand before several engines.
type Gate struct {
	list []Right
	// Tap is given each request that is let through, with its whole body, before the
	// engine has it; nil: nobody looks.
	Tap func(r *http.Request, body []byte)

	mu      sync.Mutex
	used    map[int]int // by index in list
	refused map[string]int
}

// NewGate makes one that lets these through.
func NewGate(list []Right) *Gate {
	return &Gate{list: list, used: map[int]int{}, refused: map[string]int{}}
}

// Guard stands before next. What the list does not name gets 403.
func (g *Gate) Guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !g.note(r) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `{"message":"not among the rights of docs/rights.md"}`+"\n")
			return
		}
		if g.Tap != nil {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				panic(http.ErrAbortHandler) // the client has gone
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
			g.Tap(r, body)
		}
		next.ServeHTTP(w, r)
	})
}

func (g *Gate) note(r *http.Request) bool {
	i := of(g.list, r)
	g.mu.Lock()
	defer g.mu.Unlock()
	if i < 0 {
		g.refused[r.Method+" "+r.URL.EscapedPath()]++
		return false
	}
	g.used[i]++
	return true
}

// Refused tells what was asked for in vain, and how often.
func (g *Gate) Refused() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var all []string
	for what, n := range g.refused {
		all = append(all, fmt.Sprintf("%s (%d times)", what, n))
	}
	slices.Sort(all)
	return all
}

// Unused are the rights that nobody needed.
func (g *Gate) Unused() []Right {
	g.mu.Lock()
	defer g.mu.Unlock()
	var all []Right
	for i, r := range g.list {
		if g.used[i] == 0 {
			all = append(all, r)
		}
	}
	return all
}

// Open listens at one unix socket for the engine at another, until shut is called. An
// engine that does not answer is one whose connection breaks.
func (g *Gate) Open(socket, engine string) (shut func(), err error) {
	l, err := net.Listen("unix", socket)
	if err != nil {
		return nil, fmt.Errorf("stand before the engine at %s: %w", engine, err)
	}
	through := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = "http", "engine" },
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return (&net.Dialer{}).DialContext(ctx, "unix", engine)
			},
			DisableKeepAlives:  true, // a connection would outlive the engine
			DisableCompression: true,
		},
		FlushInterval: -1, // events come one by one
		ErrorLog:      log.New(io.Discard, "", 0),
		ErrorHandler:  func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	srv := &http.Server{Handler: g.Guard(through), ErrorLog: log.New(io.Discard, "", 0)}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	return func() { _ = srv.Close(); <-done }, nil
}
