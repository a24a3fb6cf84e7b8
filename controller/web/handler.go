package web

import (
	"bytes"
	"compress/gzip"
	"context"
	_ "embed"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A Source is a controller, as far as pages ask it.
type Source interface {
	// Snapshot is what it knows now. It is never changed after it was given.
	Snapshot(ctx context.Context) *Snapshot
	// Changes tells what releases of a stack changed, by number, as far as that is known
	// or can be found out soon.
	Changes(ctx context.Context, stack string) map[int]Change
}

const (
	// maxViewers bounds the pages that are told of changes at the same time; others are
	// pages without that. It is less than the connections that one address may have: all
	// viewers may come by one proxy, which needs some for everything else.
	maxViewers = 24
	// tellEvery is how often one of them is told at most, and beatEvery how often it is
	// sent a sign of life, so that a proxy does not take it for dead.
	tellEvery = time.Second
	beatEvery = 15 * time.Second
	// writeTime is how long one answer, or one piece of a stream, may take.
	writeTime = 20 * time.Second
)

// policy is what a page may load: what is served here, and nothing inline.
const policy = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

//go:embed static/style.css
var styleSheet []byte

//go:embed static/live.js
var script []byte

//go:embed static/icon.svg
var icon []byte

//go:embed openapi.json
var openAPI []byte

// A Site serves the pages of a source.
type Site struct {
	source Source

	mu      sync.Mutex
	viewers int
	number  uint64        // of the newest change
	change  chan struct{} // closed when there is a newer one
	done    chan struct{} // closed by Close
	closed  bool
}

// NewSite serves a source.
func NewSite(source Source) *Site {
	return &Site{source: source, change: make(chan struct{}), done: make(chan struct{})}
}

// Changed says that a Snapshot would be another one now. It never blocks.
func (s *Site) Changed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.number++
	close(s.change)
	s.change = make(chan struct{})
}

// Close ends the streams of all viewers.
func (s *Site) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		close(s.done)
	}
}

// Watched says that somebody is told of changes now.
func (s *Site) Watched() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.viewers > 0
}

// ServeHTTP answers by the path as it is. Whoever calls it has seen to the method, and
// to who may look.
func (s *Site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch path := r.URL.Path; path {
	case "/":
		s.board(w, r)
	case "/style.css":
		send(w, r, http.StatusOK, "text/css; charset=utf-8", styleSheet)
	case "/live.js":
		send(w, r, http.StatusOK, "text/javascript; charset=utf-8", script)
	case "/icon.svg":
		send(w, r, http.StatusOK, "image/svg+xml", icon)
	case "/events":
		s.events(w, r)
	case "/api/v1/":
		sendJSON(w, r, http.StatusOK, index)
	case "/api/v1/openapi.json":
		send(w, r, http.StatusOK, "application/json", openAPI)
	case "/api/v1/stacks":
		sendJSON(w, r, http.StatusOK, NewBoard(s.source.Snapshot(r.Context())))
	default:
		if name, ok := strings.CutPrefix(path, "/api/v1/stacks/"); ok {
			if p := s.stack(r.Context(), name); p != nil {
				sendJSON(w, r, http.StatusOK, p)
			} else {
				sendJSON(w, r, http.StatusNotFound, Problem{"there is no such stack"})
			}
			return
		}
		if name, ok := strings.CutPrefix(path, "/stacks/"); ok {
			if p := s.stack(r.Context(), name); p != nil {
				sendPage(w, r, func(b io.Writer) error { return WriteStack(b, p) })
				return
			}
		}
		if strings.HasPrefix(path, "/api/") {
			sendJSON(w, r, http.StatusNotFound, Problem{"there is nothing here"})
			return
		}
		send(w, r, http.StatusNotFound, "text/plain; charset=utf-8", []byte("there is nothing here\n"))
	}
}

// A Problem is why the API has no answer.
type Problem struct {
	Error string `json:"error"`
}

// An Index is where the API begins.
type Index struct {
	Stacks  string `json:"stacks"`
	Stack   string `json:"stack"`
	OpenAPI string `json:"openapi"`
	Events  string `json:"events"`
}

var index = Index{Stacks: "/api/v1/stacks", Stack: "/api/v1/stacks/{stack}", OpenAPI: "/api/v1/openapi.json", Events: "/events"}

func (s *Site) board(w http.ResponseWriter, r *http.Request) {
	b := NewBoard(s.source.Snapshot(r.Context()))
	sendPage(w, r, func(out io.Writer) error { return WriteBoard(out, b) })
}

// stack is a stack's page, nil where there is no such stack.
func (s *Site) stack(ctx context.Context, name string) *StackPage {
	snapshot := s.source.Snapshot(ctx)
	if p := NewStackPage(snapshot, name, nil); p == nil {
		return nil
	}
	return NewStackPage(snapshot, name, s.source.Changes(ctx, name))
}

func sendPage(w http.ResponseWriter, r *http.Request, write func(io.Writer) error) {
	var b bytes.Buffer
	if err := write(&b); err != nil {
		send(w, r, http.StatusInternalServerError, "text/plain; charset=utf-8", []byte("the page could not be made (a bug in skep: please report it)\n"))
		return
	}
	send(w, r, http.StatusOK, "text/html; charset=utf-8", b.Bytes())
}

func sendJSON(w http.ResponseWriter, r *http.Request, code int, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		panic("encode an answer: " + err.Error()) // plain data
	}
	send(w, r, code, "application/json", append(text, '\n'))
}

// smallest is how long an answer has to be to be worth packing, in bytes.
const smallest = 2048

// send answers with a text, packed where the client takes that. Nothing that a client
// sent is in it, so that its length tells nobody a secret.
func send(w http.ResponseWriter, r *http.Request, code int, kind string, text []byte) {
	h := w.Header()
	h.Set("Content-Type", kind)
	h.Set("Content-Security-Policy", policy)
	h.Set("Vary", "Accept-Encoding")
	if len(text) >= smallest && takesGzip(r) {
		var packed bytes.Buffer
		z, _ := gzip.NewWriterLevel(&packed, gzip.BestSpeed)
		_, _ = z.Write(text) // into memory
		_ = z.Close()
		text = packed.Bytes()
		h.Set("Content-Encoding", "gzip")
	}
	h.Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(code)
	if r.Method != http.MethodHead {
		_, _ = w.Write(text)
	}
}

func takesGzip(r *http.Request) bool {
	for part := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		if name, q, _ := strings.Cut(strings.TrimSpace(part), ";"); name == "gzip" {
			return strings.TrimSpace(q) != "q=0"
		}
	}
	return false
}

// enter counts a viewer in, unless there are enough.
func (s *Site) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.viewers >= maxViewers {
		return false
	}
	s.viewers++
	return true
}

func (s *Site) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.viewers--
}

// newest is the number of the newest change, and what closes with the next one.
func (s *Site) newest() (number uint64, change <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.number, s.change
}

// events tells a page that it changed, and nothing of what: it fetches that itself.
func (s *Site) events(w http.ResponseWriter, r *http.Request) {
	if !s.enter() {
		w.Header().Set("Retry-After", "30")
		send(w, r, http.StatusServiceUnavailable, "text/plain; charset=utf-8", []byte("enough pages are told of changes already: load this one anew now and then\n"))
		return
	}
	defer s.leave()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Content-Security-Policy", policy)
	w.Header().Set("X-Accel-Buffering", "no") // nginx would hold it back
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return
	}
	out := http.NewResponseController(w)
	say := func(text string) bool {
		_ = out.SetWriteDeadline(time.Now().Add(writeTime))
		_, err := io.WriteString(w, text)
		return err == nil && out.Flush() == nil
	}
	_ = out.SetReadDeadline(time.Time{}) // it outlives what a request may take
	number, change := s.newest()
	if !say("retry: 3000\n\n" + event(number)) {
		return
	}
	beat := time.NewTicker(beatEvery)
	defer beat.Stop()
	for {
		select {
		case <-r.Context().Done():
			return
		case <-s.done:
			return
		case <-beat.C:
			if !say(": on\n\n") {
				return
			}
			continue
		case <-change:
		}
		select { // what comes close together is told at once
		case <-r.Context().Done():
			return
		case <-s.done:
			return
		case <-time.After(tellEvery):
		}
		if number, change = s.newest(); !say(event(number)) {
			return
		}
	}
}

func event(number uint64) string {
	n := strconv.FormatUint(number, 10)
	return "id: " + n + "\nevent: changed\ndata: " + n + "\n\n"
}
