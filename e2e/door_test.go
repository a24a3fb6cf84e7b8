package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skep-io/skep/e2e/lab/swarmlab"
)

// A door is the socket that a daemon reaches its engine by: it writes down what is
// written through it, and can be led to another engine.
type door struct {
	socket string
	lab    *swarmlab.Lab

	mu     sync.Mutex
	to     int
	names  map[string]string // by ID, of what was created or updated here
	writes []write
}

// A write is one that the engine agreed to.
type write struct {
	at     time.Time
	method string // "create", "update" or "remove"
	kind   string // "services", "configs", …
	name   string
	stack  string
}

func newDoor(t *testing.T, lab *swarmlab.Lab, to int) *door {
	t.Helper()
	d := &door{socket: filepath.Join(lab.Dir, "door.sock"), lab: lab, to: to, names: map[string]string{}}
	l, err := net.Listen("unix", d.socket)
	if err != nil {
		t.Fatal(err)
	}
	through := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = "http", "engine" },
		Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", lab.Nodes[d.node()].Socket)
		}, DisableKeepAlives: true}, // which would go on to the engine before
		FlushInterval: -1, // events come one by one
		ErrorLog:      log.New(io.Discard, "", 0),
	}
	srv := &http.Server{Handler: gate.guard("run", d.note(through))}
	go func() { _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close() })
	return d
}

func (d *door) node() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.to
}

func (d *door) lead(to int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.to = to
}

// note writes down what next agreed to.
func (d *door) note(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			next.ServeHTTP(w, r)
			return
		}
		parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
		if strings.HasPrefix(parts[0], "v1.") {
			parts = parts[1:]
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		answer := &recorder{ResponseWriter: w, code: http.StatusOK}
		next.ServeHTTP(answer, r)
		if answer.code < 300 && len(parts) >= 2 {
			d.wrote(r.Method, parts, body, answer.body.Bytes())
		}
	})
}

func (d *door) wrote(method string, parts []string, body, answer []byte) {
	var sent, got struct{ Name, ID, Id string }
	_ = json.Unmarshal(body, &sent) // a removal sends none
	_ = json.Unmarshal(answer, &got)
	w := write{at: time.Now(), kind: parts[0], name: sent.Name}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case method == http.MethodDelete:
		w.method, w.name = "remove", d.names[parts[1]]
	case parts[1] == "create":
		w.method = "create"
		d.names[got.ID+got.Id] = w.name
	default:
		w.method = "update"
		d.names[parts[1]] = w.name
	}
	w.stack = stackOf(w.name)
	d.writes = append(d.writes, w)
}

// stackOf is the stack that an object of that name belongs to.
func stackOf(name string) string {
	if rest, ok := strings.CutPrefix(name, "skep-release-"); ok {
		return rest[:strings.LastIndexByte(rest, '-')]
	}
	stack, _, _ := strings.Cut(strings.TrimPrefix(name, "skep-state-"), "_")
	return stack
}

// of returns what was written of a stack since then; kind "" is any.
func (d *door) of(stack, kind string, since time.Time) []write {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []write
	for _, w := range d.writes {
		if w.stack == stack && !w.at.Before(since) && (kind == "" || w.kind == kind) {
			all = append(all, w)
		}
	}
	return all
}

type recorder struct {
	http.ResponseWriter
	code int
	body bytes.Buffer
}

func (r *recorder) WriteHeader(code int) {
	r.code = code
	r.ResponseWriter.WriteHeader(code)
}

func (r *recorder) Write(p []byte) (int, error) {
	r.body.Write(p)
	return r.ResponseWriter.Write(p)
}

// Unwrap lets events be flushed.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
