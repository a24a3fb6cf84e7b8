package faults

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// maxBody bounds a request's body, in bytes: the engine takes no object of more.
const maxBody = 8 << 20

// Options of a Proxy.
type Options struct {
	Engine string // where the engine is: unix:///PATH or tcp://HOST:PORT
	// Listen is where the proxy is to be found, in the same words. Default: a unix
	// socket in a directory of its own, which goes with it.
	Listen string
	// TLS is spoken on Listen, if not nil; to the engine never.
	TLS *tls.Config
}

// A Proxy is at work until Close. Its methods may be called from many goroutines, also
// from the functions that a fault calls.
type Proxy struct {
	network, address string
	tls              *tls.Config
	dir              string // to be removed with the proxy
	transport        *http.Transport
	ctx              context.Context // ends with the proxy
	end              context.CancelFunc
	serving          sync.WaitGroup

	mu      sync.Mutex
	engine  [2]string // network and address
	server  *http.Server
	rules   []*counted
	records []*Request
	streams map[*stream]bool
	streamy func(*stream) // what is done to a stream when it opens
}

// counted is a rule with how many requests it has picked and struck.
type counted struct {
	Rule
	picked, struck int
}

// Listen makes a proxy and starts it.
func Listen(o Options) (*Proxy, error) {
	p := &Proxy{tls: o.TLS, streams: map[*stream]bool{}}
	if err := p.Lead(o.Engine); err != nil {
		return nil, err
	}
	if o.Listen == "" {
		dir, err := os.MkdirTemp("", "faults-")
		if err != nil {
			return nil, fmt.Errorf("make a place for the proxy's socket: %w", err)
		}
		p.dir, o.Listen = dir, "unix://"+filepath.Join(dir, "p.sock")
	}
	var err error
	if p.network, p.address, err = parse(o.Listen); err != nil {
		return nil, err
	}
	p.ctx, p.end = context.WithCancel(context.Background())
	p.transport = &http.Transport{
		DialContext:        p.dial,
		DisableKeepAlives:  true, // a connection kept would lead to the engine before
		DisableCompression: true,
	}
	if err := p.Accept(); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// parse takes a host apart as DOCKER_HOST has it.
func parse(host string) (network, address string, err error) {
	network, address, ok := strings.Cut(host, "://")
	if !ok || address == "" || network != "unix" && network != "tcp" {
		return "", "", fmt.Errorf("%q: want unix:///PATH or tcp://HOST:PORT", host)
	}
	return network, address, nil
}

// Host is what DOCKER_HOST is set to, to go through the proxy.
func (p *Proxy) Host() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.network + "://" + p.address
}

// Lead sends what comes from now on to another engine.
func (p *Proxy) Lead(engine string) error {
	network, address, err := parse(engine)
	if err != nil {
		return fmt.Errorf("the engine behind the proxy: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.engine = [2]string{network, address}
	return nil
}

func (p *Proxy) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	p.mu.Lock()
	to := p.engine
	p.mu.Unlock()
	return (&net.Dialer{}).DialContext(ctx, to[0], to[1])
}

// Refuse closes every connection and takes no new ones, until Accept: an engine that is
// not there.
func (p *Proxy) Refuse() {
	p.mu.Lock()
	server := p.server
	p.server = nil
	p.mu.Unlock()
	if server != nil {
		_ = server.Close() // the socket's file goes with it
	}
	p.CutStreams()
}

// Accept takes connections again, at the same address.
func (p *Proxy) Accept() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.server != nil {
		return nil
	}
	l, err := net.Listen(p.network, p.address)
	if err != nil {
		return fmt.Errorf("listen for skep: %w", err)
	}
	if p.network == "tcp" {
		p.address = l.Addr().String() // where the port was 0
	}
	if p.tls != nil {
		l = tls.NewListener(l, p.tls)
	}
	server := &http.Server{Handler: http.HandlerFunc(p.serve), ErrorLog: log.New(io.Discard, "", 0)}
	p.server = server
	p.serving.Go(func() { _ = server.Serve(l) })
	return nil
}

// Close ends the proxy and all that goes through it.
func (p *Proxy) Close() error {
	p.Refuse()
	p.end()
	p.serving.Wait()
	p.transport.CloseIdleConnections()
	if p.dir != "" {
		return os.RemoveAll(p.dir)
	}
	return nil
}

// Add puts rules in force. The first one that strikes a request decides; each counts
// what it picks from when it was added.
func (p *Proxy) Add(rules ...Rule) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range rules {
		p.rules = append(p.rules, &counted{Rule: r})
	}
}

// Clear takes all rules back, and lets streams be that open from now on.
func (p *Proxy) Clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules, p.streamy = nil, nil
}

// Struck is how many requests the rules in force have struck.
func (p *Proxy) Struck() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for _, r := range p.rules {
		n += r.struck
	}
	return n
}

// Recorded returns every request since the start, or since Forget, in the order in
// which they came.
func (p *Proxy) Recorded() []Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]Request, len(p.records))
	for i, q := range p.records {
		all[i] = *q
	}
	return all
}

// Writes returns those of Recorded that are more than a question and that the engine
// agreed to.
func (p *Proxy) Writes() []Request {
	return slices.DeleteFunc(p.Recorded(), func(q Request) bool {
		return !q.Write() || !q.Sent || q.Status >= 300
	})
}

// Forget drops what was recorded.
func (p *Proxy) Forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.records = nil
}

// note records a request and finds the fault that strikes it.
func (p *Proxy) note(q *Request) Fault {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.records = append(p.records, q)
	var fault Fault
	struck := false
	for _, r := range p.rules {
		if !r.picks(*q) {
			continue
		}
		r.picked++
		if !struck && r.strikes(r.picked) {
			r.struck++
			fault, struck = r.Fault, true
		}
	}
	q.Fault = fault.String()
	return fault
}

// serve takes one request through its fault to the engine and back.
func (p *Proxy) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	q := describe(r, body)
	fault := p.note(&q)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(p.ctx, cancel)()

	if fault.before != nil {
		fault.before(p.copy(&q))
	}
	switch fault.kind {
	case delayed:
		if !wait(ctx, fault.delay) {
			return
		}
	case dropped:
		hangUp(w)
		return
	case answered:
		p.settle(&q, fault.status, false)
		refuse(w, fault)
		return
	case silent:
		<-ctx.Done()
		hangUp(w)
		return
	}
	p.forward(ctx, w, r, &q, body, fault)
}

// forward asks the engine, and passes its answer on unless the fault says otherwise.
func (p *Proxy) forward(ctx context.Context, w http.ResponseWriter, r *http.Request, q *Request, body []byte, fault Fault) {
	out := r.Clone(ctx)
	out.URL.Scheme, out.URL.Host, out.RequestURI = "http", "engine", ""
	out.Body, out.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	if len(body) == 0 {
		out.Body = http.NoBody
	}
	p.settle(q, 0, true)
	answer, err := p.transport.RoundTrip(out)
	if err != nil {
		hangUp(w) // as an engine that is gone would
		return
	}
	defer func() { _ = answer.Body.Close() }()
	p.settle(q, answer.StatusCode, true)
	if q.Operation == "Events" && answer.StatusCode == http.StatusOK {
		p.follow(ctx, w, answer)
		return
	}
	text, err := io.ReadAll(answer.Body)
	if fault.after != nil {
		fault.after(p.copy(q))
	}
	if err != nil || fault.kind == cut {
		hangUp(w)
		return
	}
	copyHead(w, answer)
	_, _ = w.Write(text)
}

func copyHead(w http.ResponseWriter, answer *http.Response) {
	for key, values := range answer.Header {
		if key != "Connection" && key != "Transfer-Encoding" && key != "Content-Length" {
			w.Header()[key] = values
		}
	}
	w.WriteHeader(answer.StatusCode)
}

// settle notes what became of a request.
func (p *Proxy) settle(q *Request, status int, sent bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	q.Status, q.Sent = status, sent
}

func (p *Proxy) copy(q *Request) Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return *q
}

// wait is false where ctx ended first.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// refuse answers as the engine words an error.
func refuse(w http.ResponseWriter, f Fault) {
	text, _ := json.Marshal(map[string]string{"message": f.message}) // of strings: never fails
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(f.status)
	_, _ = w.Write(text)
}

// hangUp closes the connection without an answer, with a reset where it is TCP.
func hangUp(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler) // the server closes it then
	}
	if c, ok := conn.(*net.TCPConn); ok {
		_ = c.SetLinger(0)
	}
	_ = conn.Close()
}
