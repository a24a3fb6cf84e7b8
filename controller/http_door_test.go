package controller

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

const goodToken = "0123456789abcdef0123456789abcdef"

// ask sends a request as it stands to what is behind the door.
func ask(t testing.TB, d *door, raw string) *http.Response {
	t.Helper()
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(raw)))
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	d.guard(handler(prometheus.NewRegistry(), fine, fine, acting), pages()).ServeHTTP(w, r)
	return w.Result()
}

func fine() error { return nil }

func withToken(t testing.TB, text string) (*token, string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	write(t, file, text)
	tok, err := newToken(file, time.Now, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	return tok, file
}

func TestDoor(t *testing.T) {
	tok, _ := withToken(t, goodToken+"\n")
	open, locked, own := &door{}, &door{token: tok}, &door{ownNameOnly: true}
	const host = "\r\nHost: tasks.skep:9470\r\n"
	for _, tt := range []struct {
		name string
		door *door
		raw  string
		want int
	}{
		{"metrics", locked, "GET /metrics HTTP/1.1" + host, 200},
		{"health", locked, "GET /healthz HTTP/1.1" + host, 200},
		{"ready", locked, "HEAD /readyz HTTP/1.1" + host, 200},
		{"the page without a token set", open, "GET / HTTP/1.1" + host, 200},
		{"the page without the token", locked, "GET / HTTP/1.1" + host, 401},
		{"what is not there, without the token", locked, "GET /x HTTP/1.1" + host, 401},
		{"bearer", locked, "GET / HTTP/1.1" + host + "Authorization: bearer " + goodToken + "\r\n", 200},
		{"basic", locked, "GET / HTTP/1.1" + host + "Authorization: Basic " + basicAuth("anyone", goodToken) + "\r\n", 200},
		{"what is not there", locked, "GET /x HTTP/1.1" + host + "Authorization: Bearer " + goodToken + "\r\n", 404},
		{"another token", locked, "GET / HTTP/1.1" + host + "Authorization: Bearer " + goodToken + "0\r\n", 401},
		{"the token as the user", locked, "GET / HTTP/1.1" + host + "Authorization: Basic " + basicAuth(goodToken, "") + "\r\n", 401},
		{"an empty bearer", locked, "GET / HTTP/1.1" + host + "Authorization: Bearer \r\n", 401},
		{"another scheme", locked, "GET / HTTP/1.1" + host + "Authorization: Digest " + goodToken + "\r\n", 401},
		{"the token in the URL", locked, "GET /?token=" + goodToken + " HTTP/1.1" + host, 401},
		{"POST", open, "POST /metrics HTTP/1.1" + host + "Content-Length: 0\r\n", 405},
		{"TRACE", open, "TRACE / HTTP/1.1" + host + "X-Mirror: planted\r\n", 405},
		{"OPTIONS", open, "OPTIONS * HTTP/1.1" + host, 405},
		{"CONNECT", open, "CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n", 405},
		{"a method of its own", open, "PLANTED / HTTP/1.1" + host, 405},
		{"a body", open, "GET /healthz HTTP/1.1" + host + "Content-Length: 3\r\n\r\nabc", 413},
		{"a body in chunks", open, "GET /healthz HTTP/1.1" + host + "Transfer-Encoding: chunked\r\n\r\n0\r\n", 413},
		{"out of the root", open, "GET /../../etc/passwd HTTP/1.1" + host, 404},
		{"out of the root, encoded", open, "GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1" + host, 404},
		{"roundabout to what is open", locked, "GET /x/../metrics HTTP/1.1" + host, 401},
		{"two slashes", open, "GET //metrics HTTP/1.1" + host, 404},
		{"below metrics", locked, "GET /metrics/ HTTP/1.1" + host, 401},
		{"another server's URL", open, "GET http://planted.example/metrics HTTP/1.1" + host, 200},
		{"its own name", own, "GET / HTTP/1.1\r\nHost: localhost:9470\r\n", 200},
		{"its own address", own, "GET / HTTP/1.1\r\nHost: 127.0.0.1:9470\r\n", 200},
		{"its own address, version 6", own, "GET / HTTP/1.1\r\nHost: [::1]:9470\r\n", 200},
		{"a name that was made to lead here", own, "GET /metrics HTTP/1.1\r\nHost: planted.example:9470\r\n", 421},
		{"no name", own, "GET /metrics HTTP/1.0\r\n", 421},
	} {
		t.Run(tt.name, func(t *testing.T) {
			raw := tt.raw
			if !strings.Contains(raw, "\r\n\r\n") {
				raw += "\r\n"
			}
			answer := ask(t, tt.door, raw)
			if answer.StatusCode != tt.want {
				t.Errorf("%d, want %d", answer.StatusCode, tt.want)
			}
			checkAnswer(t, answer)
			if tt.want == 401 && len(answer.Header.Values("WWW-Authenticate")) != 2 {
				t.Error("it does not say how to give the token")
			}
			if tt.want == 405 && answer.Header.Get("Allow") != "GET, HEAD" {
				t.Error("it does not say which methods there are")
			}
		})
	}
}

func basicAuth(user, password string) string {
	r := &http.Request{Header: http.Header{}}
	r.SetBasicAuth(user, password)
	return strings.TrimPrefix(r.Header.Get("Authorization"), "Basic ")
}

// said are all words that come in answer to whatever is asked.
var said = map[string]bool{
	"ok\n": true, "acts\n": true, "there is nothing here\n": true, "skep: see /metrics, /healthz and /readyz\n": true,
	"nothing here changes anything: only GET and HEAD\n": true, "no request here has a body\n": true,
	"ask by 127.0.0.1 or localhost (or give skep --http-token-file)\n":         true,
	"the token is needed: as a bearer token, or as the password of any user\n": true,
	"": true, // of an empty registry
}

// checkAnswer sees that an answer is in skep's own words, and keeps a browser from harm.
func checkAnswer(t testing.TB, answer *http.Response) {
	t.Helper()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	if answer.Header.Get("Content-Encoding") == "" && !said[string(body)] {
		t.Errorf("an answer that skep has no words for: %q", body)
	}
	for name, want := range map[string]string{
		"Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
		"X-Content-Type-Options":  "nosniff", "X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer",
		"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin", "Cache-Control": "no-store",
	} {
		if got := answer.Header.Values(name); len(got) != 1 || got[0] != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	if !strings.HasPrefix(answer.Header.Get("Content-Type"), "text/plain") {
		t.Errorf("Content-Type: %s", answer.Header.Get("Content-Type"))
	}
	for _, name := range []string{"Location", "Set-Cookie", "Access-Control-Allow-Origin"} {
		if answer.Header.Get(name) != "" {
			t.Errorf("%s: %s", name, answer.Header.Get(name))
		}
	}
}

// FuzzHTTP sends whatever there is: all answers are skep's own words, and without the
// token nobody sees a page.
func FuzzHTTP(f *testing.F) {
	for _, raw := range []string{
		"GET /metrics HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer x\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Basic Og==\r\n\r\n",
		"HEAD /../readyz?<script> HTTP/1.1\r\nHost: <b>\r\n\r\n",
		"POST /healthz HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
	} {
		f.Add([]byte(raw))
	}
	tok, _ := withToken(f, goodToken)
	inside := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { f.Error("somebody got in") })
	locked := (&door{token: tok}).guard(handler(prometheus.NewRegistry(), fine, fine, acting), inside)
	own := (&door{ownNameOnly: true}).guard(handler(prometheus.NewRegistry(), fine, fine, acting), pages())
	f.Fuzz(func(t *testing.T, raw []byte) {
		if bytes.Contains(raw, []byte(goodToken)) {
			return
		}
		for _, h := range []http.Handler{locked, own} {
			r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw)))
			if err != nil {
				return
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			checkAnswer(t, w.Result())
		}
	})
}

func TestTokenFollowsItsFile(t *testing.T) {
	now := time.Now()
	core, log := observer.New(zap.InfoLevel)
	file := filepath.Join(t.TempDir(), "token")
	write(t, file, goodToken)
	tok, err := newToken(file, func() time.Time { return now }, zap.New(core))
	if err != nil {
		t.Fatal(err)
	}
	opens := func(word string) bool {
		now = now.Add(lookAgain)
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Authorization", "Bearer "+word)
		return tok.opens(r)
	}
	if !opens(goodToken) {
		t.Error("the token does not open")
	}
	other := strings.Repeat("z", minToken)
	write(t, file, other)
	if opens(goodToken) || !opens(other) {
		t.Error("the new token is not followed")
	}
	write(t, file, "")
	if opens(other) || opens("") {
		t.Error("somebody gets in by an empty file")
	}
	write(t, file, "short")
	if opens("short") {
		t.Error("somebody gets in by a short token")
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if opens(other) || opens("") {
			t.Error("somebody gets in by a token that was taken back")
		}
	}
	write(t, file, other)
	if !opens(other) {
		t.Error("a token that came back does not open")
	}
	if n := log.FilterLevelExact(zap.WarnLevel).Len(); n != 3-1 { // empty and short read the same
		t.Errorf("%d warnings: %v", n, log.All())
	}
	for _, e := range log.All() {
		for _, v := range e.ContextMap() {
			if text, _ := v.(string); strings.Contains(text, other) || strings.Contains(text, goodToken) {
				t.Errorf("a token is in the log: %v", v)
			}
		}
	}
}

func TestSiteSaysWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	short, none := filepath.Join(dir, "short"), filepath.Join(dir, "none")
	write(t, short, "abc\n")
	two := filepath.Join(dir, "two")
	write(t, two, goodToken+"\n"+goodToken+"\n")
	cert, key := certificate(t, dir, "a")
	_, otherKey := certificate(t, dir, "b")
	for name, tt := range map[string]struct {
		config Config
		want   string
	}{
		"no token":             {Config{TokenFile: none}, "--http-token-file"},
		"a short token":        {Config{TokenFile: short}, "16 characters"},
		"two lines":            {Config{TokenFile: two}, "one line"},
		"no certificate":       {Config{TLSCert: none, TLSKey: key}, "--http-tls-cert"},
		"no key":               {Config{TLSCert: cert, TLSKey: none}, "--http-tls-key"},
		"a certificate alone":  {Config{TLSCert: cert}, "give both"},
		"a key alone":          {Config{TLSKey: key}, "give both"},
		"of different parents": {Config{TLSCert: cert, TLSKey: otherKey}, "with the key"},
	} {
		t.Run(name, func(t *testing.T) {
			c := tt.config
			c.Specs, c.Listen = dir, "127.0.0.1:0"
			if err := c.check(); err != nil {
				t.Fatal(err)
			}
			s, err := c.site()
			if err == nil {
				s.listener.Close()
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "abc") {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

// certificate makes one for localhost, and writes it and its key into files.
func certificate(t testing.TB, dir, name string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")
	write(t, cert, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	write(t, key, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})))
	return cert, key
}

// serving runs a site until the test ends, and gives its address.
func serving(t *testing.T, c Config) string {
	t.Helper()
	c.Specs, c.Listen = t.TempDir(), "127.0.0.1:0"
	if err := c.check(); err != nil {
		t.Fatal(err)
	}
	s, err := c.site()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- s.serve(ctx, handler(prometheus.NewRegistry(), fine, fine, acting), pages(), zap.NewNop())
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the site ended with %v", err)
		}
	})
	return s.listener.Addr().String()
}

func TestTLSFollowsItsFiles(t *testing.T) {
	dir := t.TempDir()
	cert, key := certificate(t, dir, "a")
	start := time.Now()
	var passed time.Duration
	pair, err := newKeyPair(cert, key, func() time.Time { return start.Add(passed) }, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	name := func() string {
		t.Helper()
		passed += lookAgain
		c, err := pair.certificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		return c.Leaf.Subject.CommonName
	}
	if got := name(); got != "a" {
		t.Errorf("certificate %s", got)
	}
	newCert, newKey := certificate(t, dir, "b")
	rename(t, newCert, cert)
	if got := name(); got != "a" {
		t.Errorf("half renewed, the certificate is %s", got)
	}
	rename(t, newKey, key)
	if got := name(); got != "b" {
		t.Errorf("renewed, the certificate is %s", got)
	}
	if err := os.Remove(cert); err != nil {
		t.Fatal(err)
	}
	if got := name(); got != "b" {
		t.Errorf("without the file, the certificate is %s", got)
	}
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func TestServesOverTLS(t *testing.T) {
	cert, key := certificate(t, t.TempDir(), "a")
	address := serving(t, Config{TLSCert: cert, TLSKey: key})
	pool := x509.NewCertPool()
	text, err := os.ReadFile(cert)
	if err != nil || !pool.AppendCertsFromPEM(text) {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, ForceAttemptHTTP2: true,
		TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "localhost"}}}
	answer, err := client.Get("https://" + address + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK || answer.ProtoMajor != 1 {
		t.Errorf("%s %s", answer.Proto, answer.Status)
	}
	old, err := tls.Dial("tcp", address, &tls.Config{RootCAs: pool, ServerName: "localhost", MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11})
	if err == nil {
		old.Close()
		t.Error("it speaks TLS 1.1")
	}
	if code, _ := get(t, "http://"+address+"/healthz"); code != http.StatusBadRequest {
		t.Errorf("in clear: %d", code)
	}
}

// A pipeListener is a network within a synctest bubble, where time is the test's.
type pipeListener struct {
	come   chan net.Conn
	closed chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.come:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { close(l.closed); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9470} }

func (l *pipeListener) dial() net.Conn {
	mine, theirs := net.Pipe()
	l.come <- theirs
	return mine
}

func TestSlowClientsAreCutOff(t *testing.T) {
	for name, tt := range map[string]struct {
		first string        // sent at once
		drip  string        // sent every second after that
		limit time.Duration // within which the connection ends
	}{
		"nothing is sent":       {"", "", headerTime},
		"a header that drips":   {"GET /healthz HTTP/1.1\r\nHost: localhost\r\n", "X: y\r\n", headerTime},
		"a line that drips":     {"GET /", "a", headerTime},
		"a body that drips":     {"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n", "a", requestTime},
		"nothing after the one": {"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n", "", idleTime},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := &pipeListener{come: make(chan net.Conn), closed: make(chan struct{})}
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() {
					done <- serve(ctx, l, nil, (&door{}).guard(handler(prometheus.NewRegistry(), fine, fine, acting), pages()), zap.NewNop())
				}()
				c := l.dial()
				start := time.Now()
				dripped := make(chan struct{})
				go func() {
					defer close(dripped)
					_, err := io.WriteString(c, tt.first)
					for err == nil && tt.drip != "" {
						time.Sleep(time.Second)
						_, err = io.WriteString(c, tt.drip)
					}
				}()
				if _, err := io.Copy(io.Discard, c); err != nil && !errors.Is(err, io.ErrClosedPipe) {
					t.Error(err)
				}
				if took := time.Since(start); took > tt.limit+time.Second {
					t.Errorf("it was cut off after %s", took)
				}
				_ = c.Close()
				<-dripped
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestConnectionsAreLimited(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := limitConnections(inner, 5, 3)
	defer l.Close()
	accepted := make(chan net.Conn, 10)
	go func() {
		defer close(accepted)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	from := func(ip string) net.Conn {
		t.Helper()
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}
		c, err := d.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	stays := func(ip string) net.Conn {
		t.Helper()
		from(ip)
		select {
		case c := <-accepted:
			return c
		case <-time.After(10 * time.Second):
			t.Fatalf("a connection from %s was not let in", ip)
			return nil
		}
	}
	goes := func(ip string) {
		t.Helper()
		c := from(ip)
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("a connection from %s stays: %v", ip, err)
		}
	}
	first := stays("127.0.0.1")
	rest := []net.Conn{stays("127.0.0.1"), stays("127.0.0.1")}
	goes("127.0.0.1") // all that one address gets
	rest = append(rest, stays("127.0.0.2"), stays("127.0.0.2"))
	goes("127.0.0.3") // all that there is
	_ = first.Close()
	_ = first.Close() // twice counts once
	rest = append(rest, stays("127.0.0.1"))
	goes("127.0.0.3")
	for _, c := range rest {
		_ = c.Close()
	}
	if got := len(l.(*limited).open); got != 0 {
		t.Errorf("%d addresses are kept in mind", got)
	}
	_ = l.Close()
	<-accepted
}

// acting is what a controller that acts says of itself.
func acting() string { return "acts" }
