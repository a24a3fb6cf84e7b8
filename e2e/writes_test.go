package e2e

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/skep-io/skep/e2e/lab/swarmlab"
)

// leasePrefix begins the names of leases.
const leasePrefix = "skep-lease-"

// A writeCount stands before an engine and notes what is asked of it that is more
// than a question, but for who acts.
type writeCount struct {
	host string // what DOCKER_HOST is set to

	mu     sync.Mutex
	writes []string
}

// countWrites puts one before the first node's engine.
func countWrites(t *testing.T, l *swarmlab.Lab) *writeCount {
	t.Helper()
	socket := filepath.Join(l.Dir, "counted.sock")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var d net.Dialer
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return d.DialContext(ctx, "unix", l.Nodes[0].Socket)
	}}
	engine := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "engine"})
	engine.Transport = transport
	w := &writeCount{host: "unix://" + socket}
	srv := &http.Server{Handler: gate.guard("apply", http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				http.Error(out, err.Error(), http.StatusBadGateway)
				return
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
			if !bytes.Contains(body, []byte(`"Name":"`+leasePrefix)) {
				w.note(r.Method + " " + r.URL.Path)
			}
		}
		engine.ServeHTTP(out, r)
	}))}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(ln) }()
	t.Cleanup(func() {
		_ = srv.Close()
		<-done
		transport.CloseIdleConnections()
	})
	return w
}

func (w *writeCount) note(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writes = append(w.writes, what)
}

func (w *writeCount) reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writes = nil
}

func (w *writeCount) all() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.writes)
}
