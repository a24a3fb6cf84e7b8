package cli

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestHealth(t *testing.T) {
	answer := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/healthz" {
			t.Errorf("asked for %s", r.URL.Path)
		}
		w.WriteHeader(answer)
		_, _ = w.Write([]byte("the engine loop is silent\n"))
	}))
	address := server.Listener.Addr().String()

	if err := askHealth(t.Context(), address, false); err != nil {
		t.Errorf("well: %v", err)
	}
	answer = http.StatusServiceUnavailable
	err := askHealth(t.Context(), address, false)
	checkVerdict(t, err, "not healthy: 503 Service Unavailable the engine loop is silent")
	server.Close()
	checkVerdict(t, askHealth(t.Context(), address, false), "not healthy: ")
}

func TestHealthOfSilence(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer server.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	checkVerdict(t, askHealth(ctx, server.Listener.Addr().String(), false), "not healthy: ")
}

// The certificate is of the name under which others ask.
func TestHealthOverTLS(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
	defer server.Close()
	if err := askHealth(t.Context(), server.Listener.Addr().String(), true); err != nil {
		t.Error(err)
	}
	checkVerdict(t, askHealth(t.Context(), server.Listener.Addr().String(), false), "not healthy: ")
}

func TestLocal(t *testing.T) {
	for listen, want := range map[string]string{
		":9470": "127.0.0.1:9470", "0.0.0.0:1": "127.0.0.1:1", "[::]:1": "[::1]:1", "127.0.0.1:2": "127.0.0.1:2", "10.0.0.1:3": "10.0.0.1:3",
	} {
		if got, err := local(listen); err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", listen, got, err, want)
		}
	}
	if _, err := local("9470"); err == nil || !strings.Contains(err.Error(), "--listen") {
		t.Errorf("a bare port: %v", err)
	}
}
