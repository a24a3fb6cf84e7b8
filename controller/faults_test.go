package controller_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/client"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/skep-io/skep/controller"
	"github.com/skep-io/skep/e2e/faults"
)

// quietEngine is the engine of a manager of an empty Swarm in which nothing happens.
func quietEngine(t *testing.T) string {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/_ping", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Api-Version", "1.45")
		w.Header().Set("Swarm", "active/manager")
	})
	mux.HandleFunc("/v1.45/events", func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.Method != http.MethodGet {
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `{"message":"nothing is to be written here"}`)
			return
		}
		_, _ = io.WriteString(w, `[]`)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return "tcp://" + server.Listener.Addr().String()
}

func proxy(t *testing.T, o faults.Options) *faults.Proxy {
	t.Helper()
	p, err := faults.Listen(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func connect(t *testing.T, o controller.EngineOptions) *client.Client {
	t.Helper()
	o.ConfigDir, o.Getenv = t.TempDir(), func(string) string { return "" }
	c, err := controller.Connect(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// A running is a daemon on an empty directory, to be asked whether it is ready.
type running struct {
	t    *testing.T
	url  string
	stop context.CancelFunc
	done chan error
}

func run(t *testing.T, c *client.Client) *running {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "README.md"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	r := &running{t: t, stop: stop, done: make(chan error, 1)}
	addr := make(chan net.Addr, 1)
	go func() {
		r.done <- controller.Run(ctx, controller.Config{
			Specs: dir, Client: c, Resync: 200 * time.Millisecond, Registry: prometheus.NewRegistry(), Listen: "127.0.0.1:0", Listening: func(a net.Addr) { addr <- a },
			Check:   func(ctx context.Context) error { return controller.CheckEngine(ctx, c) },
			Explain: func(err error) error { return controller.ExplainEngine(c.DaemonHost(), err) },
		})
	}()
	r.url = "http://" + (<-addr).String() + "/readyz"
	return r
}

// end stops the daemon, and says how long that took.
func (r *running) end() time.Duration {
	r.t.Helper()
	began := time.Now()
	r.stop()
	if err := <-r.done; err != nil {
		r.t.Errorf("stop: %v", err)
	}
	return time.Since(began)
}

// engine is what readiness tells of the engine; "" where that is nothing.
func (r *running) engine() string {
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Get(r.url)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	text, _ := io.ReadAll(resp.Body)
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "engine: "); ok {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}

// tells waits until readiness tells that of the engine.
func (r *running) tells(want string) {
	r.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		got := r.engine()
		if got == want || want != "" && strings.Contains(got, want) {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("readiness tells %q of the engine, want %q", got, want)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// A daemon on a real connection goes through all that an engine can do to it; then it
// is ready, and as large as it was.
func TestFaultsLeaveNothingBehind(t *testing.T) {
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, before) }) // when all else is cleaned up
	p := proxy(t, faults.Options{Engine: quietEngine(t)})
	c := connect(t, controller.EngineOptions{Host: p.Host()})
	r := run(t, c)
	r.tells("")
	c.HTTPClient().CloseIdleConnections()
	goroutines, heap := settled()
	for name, fault := range map[string]struct {
		strike func()
		tells  string
	}{
		"refused":   {p.Refuse, "no Docker engine answers"},
		"no leader": {func() { p.Add(faults.Rule{Operation: "ServiceList", Times: faults.Always, Fault: faults.NoLeader()}) }, "has no leader"},
		"a worker":  {func() { p.Add(faults.Rule{Operation: "NodeList", Times: faults.Always, Fault: faults.NoManager()}) }, "is not a Swarm manager"},
		"broken": {func() {
			p.Add(faults.Rule{Operation: "ConfigList", Times: faults.Always, Fault: faults.Status(503, "it is broken")})
		}, "it is broken"},
		"cut off":    {func() { p.Add(faults.Rule{Operation: "SecretList", Times: faults.Always, Fault: faults.CutAfter()}) }, "EOF"},
		"cut stream": {p.CutStreams, ""},
	} {
		fault.strike()
		r.tells(fault.tells)
		p.Clear()
		if err := p.Accept(); err != nil {
			t.Fatal(err)
		}
		r.tells("")
		t.Logf("%s: it came through", name)
	}
	awaitCount(t, c, goroutines+3)
	if _, now := settled(); now > heap+4<<20 {
		t.Errorf("the heap grew from %d to %d bytes", heap, now)
	}
	if took := r.end(); took > 5*time.Second {
		t.Errorf("it stopped after %s", took)
	}
	for _, q := range p.Recorded() {
		if q.Write() && q.Object != "skep-lease-skep" { // which it is refused
			t.Errorf("written into an empty Swarm: %+v", q)
		}
	}
}

// settled is how many goroutines there are, and how many bytes of heap in use.
func settled() (goroutines int, heap uint64) {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return runtime.NumGoroutine(), m.HeapAlloc
}

// awaitCount waits until there are no more goroutines than that, but for those of
// connections that wait to be used again.
func awaitCount(t *testing.T, c *client.Client, most int) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for runtime.NumGoroutine() > most {
		c.HTTPClient().CloseIdleConnections()
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, there were %d:\n%s", runtime.NumGoroutine(), most, buf[:runtime.Stack(buf, true)])
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// A stop that comes while the engine holds every request ends all the same.
func TestStopWhileTheEngineHangs(t *testing.T) {
	p := proxy(t, faults.Options{Engine: quietEngine(t)})
	p.Add(faults.Rule{Path: regexp.MustCompile("^/(services|configs|events|nodes)"), Times: faults.Always, Fault: faults.HalfOpen()})
	r := run(t, connect(t, controller.EngineOptions{Host: p.Host()}))
	deadline := time.Now().Add(10 * time.Second)
	for p.Struck() < 2 && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	if took := r.end(); took > 5*time.Second || p.Struck() < 2 {
		t.Errorf("it stopped after %s, with %d requests hanging", took, p.Struck())
	}
}

// TestClientCertificates speaks to an engine over TCP as it has to be exposed: with
// certificates on both sides.
func TestClientCertificates(t *testing.T) {
	ca := newAuthority(t)
	other := newAuthority(t)
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	p := proxy(t, faults.Options{Engine: quietEngine(t), Listen: "tcp://127.0.0.1:0", TLS: &tls.Config{
		Certificates: []tls.Certificate{ca.issue(t, "engine", x509.ExtKeyUsageServerAuth)}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
	}})
	mine, theirs := ca.write(t, ca, "skep"), other.write(t, ca, "skep")
	for name, tt := range map[string]struct {
		options controller.EngineOptions
		tells   string
	}{
		"both trusted":             {controller.EngineOptions{CACert: mine.ca, Cert: mine.cert, Key: mine.key}, ""},
		"no certificate":           {controller.EngineOptions{CACert: mine.ca}, "do not trust each other"},
		"one of another authority": {controller.EngineOptions{CACert: mine.ca, Cert: theirs.cert, Key: theirs.key}, "do not trust each other"},
		"an engine of another one": {controller.EngineOptions{CACert: other.write(t, other, "skep").ca, Cert: mine.cert, Key: mine.key}, "certificate signed by unknown authority"},
	} {
		t.Run(name, func(t *testing.T) {
			o := tt.options
			o.Host, o.TLSVerify = p.Host(), true
			r := run(t, connect(t, o))
			r.tells(tt.tells)
			r.end()
		})
	}
	if len(p.Recorded()) == 0 {
		t.Error("nothing went through")
	}
}

// An authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{key: newKey(t)}
	a.cert, _ = sign(t, &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotAfter: time.Now().Add(time.Hour)}, nil, &a.key.PublicKey, a.key)
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t *testing.T, template, parent *x509.Certificate, public *ecdsa.PublicKey, key *ecdsa.PrivateKey) (*x509.Certificate, []byte) {
	t.Helper()
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert, der
}

func (a *authority) issue(t *testing.T, name string, usage x509.ExtKeyUsage) tls.Certificate {
	t.Helper()
	key := newKey(t)
	_, der := sign(t, &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{usage}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}, a.cert, &key.PublicKey, a.key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

type pemFiles struct{ ca, cert, key string }

// write puts a client's certificate, and the authority it trusts, into files.
func (a *authority) write(t *testing.T, trusted *authority, name string) pemFiles {
	t.Helper()
	pair := a.issue(t, name, x509.ExtKeyUsageClientAuth)
	key, err := x509.MarshalECPrivateKey(pair.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for file, block := range map[string]*pem.Block{
		"ca.pem":   {Type: "CERTIFICATE", Bytes: trusted.cert.Raw},
		"cert.pem": {Type: "CERTIFICATE", Bytes: pair.Certificate[0]},
		"key.pem":  {Type: "EC PRIVATE KEY", Bytes: key},
	} {
		if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(fmt.Errorf("write %s: %w", file, err))
		}
	}
	return pemFiles{filepath.Join(dir, "ca.pem"), filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")}
}
