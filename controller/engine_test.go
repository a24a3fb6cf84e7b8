package controller

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/docker/cli/cli/context/docker"
	"github.com/docker/cli/cli/context/store"
	"github.com/docker/docker/client"
)

func TestConnectResolvesTheHostAsDockerDoes(t *testing.T) {
	dir := t.TempDir()
	writeContext(t, dir, "lab", "tcp://lab:2375")
	writeContext(t, dir, "far", "ssh://somebody@far")

	for _, tt := range []struct {
		name    string
		options EngineOptions
		env     map[string]string
		current string
		want    string
		wantErr string
	}{
		{name: "nothing said", want: "unix:///var/run/docker.sock"},
		{name: "environment", env: map[string]string{"DOCKER_HOST": "tcp://a:1"}, want: "tcp://a:1"},
		{name: "flag beats environment", options: EngineOptions{Host: "unix:///x.sock"}, env: map[string]string{"DOCKER_HOST": "tcp://a:1"}, want: "unix:///x.sock"},
		{name: "host without a scheme", options: EngineOptions{Host: "a:99"}, want: "tcp://a:99"},
		{name: "current context", current: "lab", want: "tcp://lab:2375"},
		{name: "environment's host beats the current context", current: "lab", env: map[string]string{"DOCKER_HOST": "tcp://a:1"}, want: "tcp://a:1"},
		{name: "environment's context", env: map[string]string{"DOCKER_CONTEXT": "lab"}, want: "tcp://lab:2375"},
		{name: "environment's default context beats the current one", current: "lab", env: map[string]string{"DOCKER_CONTEXT": "default"}, want: "unix:///var/run/docker.sock"},
		{name: "context flag beats environment's host", options: EngineOptions{Context: "lab"}, env: map[string]string{"DOCKER_HOST": "tcp://a:1"}, want: "tcp://lab:2375"},
		{name: "both flags", options: EngineOptions{Context: "lab", Host: "tcp://a:1"}, wantErr: "both --host and --context"},
		{name: "unknown context", options: EngineOptions{Context: "nowhere"}, wantErr: `docker context "nowhere"`},
		{name: "ssh", options: EngineOptions{Host: "ssh://a"}, wantErr: "ssh is not supported"},
		{name: "ssh in a context", current: "far", wantErr: "ssh is not supported"},
		{name: "not a host", options: EngineOptions{Host: "http://a"}, wantErr: "engine host"},
		{name: "TLS without certificates", options: EngineOptions{Host: "tcp://a:1", TLSVerify: true}, wantErr: "--tlscacert"},
		{name: "TLS is nothing to a socket", options: EngineOptions{Host: "unix:///x.sock", TLSVerify: true}, want: "unix:///x.sock"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			config, err := json.Marshal(map[string]string{"currentContext": tt.current})
			if err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(dir, "config.json"), string(config))
			tt.options.ConfigDir = dir
			tt.options.Getenv = func(k string) string { return tt.env[k] }

			c, err := Connect(tt.options)
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Fatalf("error %v, want one with %q", err, tt.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if c.DaemonHost() != tt.want {
				t.Errorf("host %s, want %s", c.DaemonHost(), tt.want)
			}
		})
	}
}

func TestConnectReportsBrokenDockerConfig(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "config.json"), "{")
	_, err := Connect(EngineOptions{ConfigDir: dir, Getenv: noEnv})
	if err == nil || !strings.Contains(err.Error(), "current context") {
		t.Fatalf("error %v, want one about the current context", err)
	}
}

// Every way to ask for TLS reaches an engine that speaks TLS only.
func TestConnectSpeaksTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(engine("1.45", "active/manager"))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // one handshake is meant to fail
	server.StartTLS()
	defer server.Close()
	host := "tcp://" + server.Listener.Addr().String()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})

	dir := t.TempDir()
	write(t, filepath.Join(dir, "ca.pem"), string(ca))
	elsewhere := t.TempDir()
	writeContext(t, elsewhere, "secure", host)
	s := contextStore(elsewhere)
	if err := s.ResetEndpointTLSMaterial("secure", docker.DockerEndpoint, &store.EndpointTLSData{Files: map[string][]byte{"ca.pem": ca}}); err != nil {
		t.Fatal(err)
	}

	for name, o := range map[string]EngineOptions{
		"flags":               {Host: host, TLSVerify: true, CACert: filepath.Join(dir, "ca.pem"), ConfigDir: t.TempDir(), Getenv: noEnv},
		"environment":         {Getenv: env("DOCKER_HOST", host, "DOCKER_TLS_VERIFY", "1", "DOCKER_CERT_PATH", dir), ConfigDir: t.TempDir()},
		"configuration":       {Host: host, TLSVerify: true, ConfigDir: dir, Getenv: noEnv},
		"context":             {Context: "secure", ConfigDir: elsewhere, Getenv: noEnv},
		"without verifying":   {Host: host, TLS: true, ConfigDir: dir, Getenv: noEnv},
		"DOCKER_TLS is --tls": {Host: host, ConfigDir: dir, Getenv: env("DOCKER_TLS", "1")},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := Connect(o)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if err := CheckEngine(t.Context(), c); err != nil {
				t.Error(err)
			}
		})
	}

	t.Run("a certificate that nobody vouches for is refused", func(t *testing.T) {
		c, err := Connect(EngineOptions{Host: host, TLSVerify: true, CACert: otherCA(t), ConfigDir: t.TempDir(), Getenv: noEnv})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := CheckEngine(t.Context(), c); err == nil {
			t.Error("no error")
		}
	})
}

// An engine that asks for a certificate gets the one that flags or DOCKER_CERT_PATH
// name; without it nobody gets in.
func TestConnectShowsItsCertificate(t *testing.T) {
	dir := t.TempDir()
	cert, key := certificate(t, dir, "cert")
	rename(t, key, filepath.Join(dir, "key.pem"))
	key = filepath.Join(dir, "key.pem")
	pool := x509.NewCertPool()
	text, err := os.ReadFile(cert)
	if err != nil || !pool.AppendCertsFromPEM(text) {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(engine("1.45", "active/manager"))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // one handshake is meant to fail
	server.TLS = &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}
	server.StartTLS()
	defer server.Close()
	host := "tcp://" + server.Listener.Addr().String()
	ca := filepath.Join(dir, "ca.pem")
	write(t, ca, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})))
	for name, tt := range map[string]struct {
		o  EngineOptions
		in bool
	}{
		"flags":       {EngineOptions{Host: host, TLSVerify: true, CACert: ca, Cert: cert, Key: key, ConfigDir: t.TempDir(), Getenv: noEnv}, true},
		"environment": {EngineOptions{Getenv: env("DOCKER_HOST", host, "DOCKER_TLS_VERIFY", "1", "DOCKER_CERT_PATH", dir), ConfigDir: t.TempDir()}, true},
		"without one": {EngineOptions{Host: host, TLSVerify: true, CACert: ca, ConfigDir: t.TempDir(), Getenv: noEnv}, false},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := Connect(tt.o)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if err := CheckEngine(t.Context(), c); (err == nil) != tt.in {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestConnectWrapsEveryRequest(t *testing.T) {
	server := httptest.NewServer(engine("1.45", "active/manager"))
	defer server.Close()
	var requests atomic.Int64
	c, err := Connect(EngineOptions{
		Host: "tcp://" + server.Listener.Addr().String(), ConfigDir: t.TempDir(), Getenv: noEnv,
		Wrap: func(next http.RoundTripper) http.RoundTripper {
			return roundTripper(func(r *http.Request) (*http.Response, error) {
				requests.Add(1)
				return next.RoundTrip(r)
			})
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := CheckEngine(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	if requests.Load() == 0 {
		t.Error("the wrapper saw no request")
	}
}

func TestCheckEngine(t *testing.T) {
	for _, tt := range []struct {
		name    string
		handler http.Handler
		env     func(string) string
		version string
		wantErr string
	}{
		{name: "oldest", handler: engine("1.41", ""), version: "1.41"},
		{name: "newer than the client", handler: engine("1.99", "active/manager"), version: "1.51"},
		{name: "too old", handler: engine("1.40", "active/manager"), wantErr: "API version 1.40 is too old, skep needs 1.41"},
		{name: "too old by environment", handler: engine("1.45", "active/manager"), env: env("DOCKER_API_VERSION", "1.30"), wantErr: "DOCKER_API_VERSION"},
		{name: "no engine", handler: http.NotFoundHandler(), wantErr: "404"},
		{name: "something that says yes to everything", handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), wantErr: "does not say which Docker API"},
		{name: "worker", handler: engine("1.45", "active/worker"), wantErr: "is not a Swarm manager"},
		{name: "no Swarm", handler: engine("1.45", "inactive"), wantErr: "is not a Swarm manager"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := httptest.NewServer(tt.handler)
			defer server.Close()
			if tt.env == nil {
				tt.env = noEnv
			}
			c, err := Connect(EngineOptions{Host: "tcp://" + server.Listener.Addr().String(), ConfigDir: t.TempDir(), Getenv: tt.env})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			err = CheckEngine(t.Context(), c)
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Fatalf("error %v, want one with %q", err, tt.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if c.ClientVersion() != tt.version {
				t.Errorf("version %s, want %s", c.ClientVersion(), tt.version)
			}
		})
	}
}

func TestCheckEngineNobodyThere(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "docker.sock")
	c, err := Connect(EngineOptions{Host: "unix://" + socket, ConfigDir: t.TempDir(), Getenv: noEnv})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	err = CheckEngine(t.Context(), c)
	if err == nil || !strings.Contains(err.Error(), "no Docker engine answers at unix://"+socket) || !strings.Contains(err.Error(), "DOCKER_HOST") {
		t.Fatalf("error %v", err)
	}
	if !client.IsErrConnectionFailed(err) {
		t.Error("the cause is lost")
	}
}

func TestExplainEngine(t *testing.T) {
	const host = "unix:///s"
	denied := &net.OpError{Op: "dial", Net: "unix", Err: os.NewSyscallError("connect", syscall.EACCES)}
	if got := ExplainEngine(host, denied).Error(); !strings.Contains(got, "no permission") || !strings.Contains(got, "group") {
		t.Errorf("permission: %s", got)
	}
	if got := ExplainEngine(host, context.DeadlineExceeded).Error(); !strings.Contains(got, "did not answer in time") {
		t.Errorf("deadline: %s", got)
	}
	for words, want := range map[string]string{
		"list nodes: Error response from daemon: rpc error: code = DeadlineExceeded desc = context deadline exceeded":                                     "did not answer in time",
		"Error response from daemon: Swarm is encrypted and needs to be unlocked before it can be used. Please use \"docker swarm unlock\" to unlock it.": "docker swarm unlock",
		"Error response from daemon: rpc error: code = Unknown desc = The swarm does not have a leader.":                                                  "no leader",
	} {
		if got := ExplainEngine(host, errors.New(words)).Error(); !strings.Contains(got, want) {
			t.Errorf("%s: %s", words, got)
		}
	}
	if got := ExplainEngine(host, net.ErrClosed); got != net.ErrClosed {
		t.Errorf("an unknown error became %v", got)
	}
	if got := ExplainEngine(host, nil); got != nil {
		t.Errorf("nil became %v", got)
	}
}

// engine plays as much of an engine as a check looks at. Its manager lists
// nodes, any other says what a real one says.
func engine(version, swarm string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/_ping", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Api-Version", version)
		if swarm != "" {
			w.Header().Set("Swarm", swarm)
		}
	})
	mux.HandleFunc("/v1.41/nodes", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("[]")) })
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte(`{"message":"This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again."}`))
	})
	return mux
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func noEnv(string) string { return "" }

func env(pairs ...string) func(string) string {
	m := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return func(k string) string { return m[k] }
}

func contextStore(dir string) *store.ContextStore {
	return store.New(filepath.Join(dir, "contexts"), store.NewConfig(func() any { return &map[string]any{} },
		store.EndpointTypeGetter(docker.DockerEndpoint, func() any { return &docker.EndpointMeta{} })))
}

func writeContext(t *testing.T, dir, name, host string) {
	t.Helper()
	meta := store.Metadata{Name: name, Endpoints: map[string]any{docker.DockerEndpoint: docker.EndpointMeta{Host: host}}}
	if err := contextStore(dir).CreateOrUpdate(meta); err != nil {
		t.Fatal(err)
	}
}

// otherCA is the certificate of somebody who did not sign the server's.
func otherCA(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "ca.pem")
	write(t, path, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	return path
}

func write(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
