package controller

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
)

// TestDaemonOnRealFilesAndHTTP runs a daemon with real files, a real watch and real
// requests; only the engine is made up.
func TestDaemonOnRealFilesAndHTTP(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	dir := t.TempDir()
	put := func(image string) {
		t.Helper()
		text := "services: {web: {image: \"" + image + "\"}}\n"
		if err := os.WriteFile(filepath.Join(dir, "shop.yml"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	put("nginx:1")
	e := &quietEngine{images: make(chan string, 100)}
	address := make(chan net.Addr, 1)
	cfg := Config{
		Specs: dir, Listen: "127.0.0.1:0", Logger: zap.NewNop(), Registry: prometheus.NewRegistry(), Version: "v1",
		Listening: func(a net.Addr) { address <- a },
	}
	if err := cfg.check(); err != nil {
		t.Fatal(err)
	}
	scanner := spec.NewScanner(dir, spec.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- run(ctx, cfg, edges{reconciler: e, events: e, scan: func(ctx context.Context, _ Source) *spec.Snapshot { return scanner.Scan(ctx) },
			watch: func(ctx context.Context, _ Source) <-chan struct{} { return Watch(ctx, dir) }})
	}()
	base := "http://" + (<-address).String()

	e.await(t, "nginx:1")
	eventually(t, func() bool { code, _ := get(t, base+"/readyz"); return code == http.StatusOK })
	start := time.Now()
	put("nginx:2")
	e.await(t, "nginx:2")
	if took := time.Since(start); took > time.Second {
		t.Errorf("a file took %s to become a pass", took)
	}
	if code, body := get(t, base+"/healthz"); code != http.StatusOK || body != "ok\n" {
		t.Errorf("healthz: %d %q", code, body)
	}
	_, body := get(t, base+"/metrics")
	for _, want := range []string{
		`skep_stack_condition{condition="Ready",stack="shop"} 1`,
		`skep_reconcile_total{result="unchanged",stack="shop"}`,
		`skep_source_ready{source="specs"} 1`, "skep_engine_ready 1", `version="v1"`,
		"go_goroutines", "process_resident_memory_bytes", `workqueue_depth{name="stacks"} 0`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
	// A specs directory that is away is told by the next scan.
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool {
		code, body := get(t, base+"/readyz")
		return code == http.StatusServiceUnavailable && strings.Contains(body, "specs: ")
	})
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	http.DefaultClient.CloseIdleConnections()
}

// quietEngine is in good order and has nothing to tell.
type quietEngine struct{ images chan string }

func (quietEngine) Noticed(string) {}

func (quietEngine) Refresh(context.Context) ([]string, error) { return nil, nil }
func (quietEngine) Stacks() []string                          { return nil }
func (quietEngine) Events(ctx context.Context, _ events.ListOptions) (<-chan events.Message, <-chan error) {
	errs := make(chan error, 1)
	context.AfterFunc(ctx, func() { errs <- ctx.Err() })
	return nil, errs
}

func (e quietEngine) Reconcile(_ context.Context, in reconcile.Input) reconcile.Result {
	if in.Stack != nil {
		e.images <- in.Stack.Services[0].Spec.TaskTemplate.ContainerSpec.Image
	}
	return good()
}

// await waits for a pass over that image.
func (e quietEngine) await(t *testing.T, image string) {
	t.Helper()
	late := time.After(10 * time.Second)
	for {
		select {
		case got := <-e.images:
			if got == image {
				return
			}
		case <-late:
			t.Fatalf("no pass over %s", image)
		}
	}
}

func eventually(t *testing.T, f func() bool) {
	t.Helper()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	late := time.After(10 * time.Second)
	for !f() {
		select {
		case <-ticker.C:
		case <-late:
			t.Fatal("it did not come about")
		}
	}
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

func TestAddressInUseIsToldBeforeAnythingStarts(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	w := newWorld()
	w.Listen = l.Addr().String()
	err = w.daemon(t.Context())
	if err == nil || !strings.Contains(err.Error(), "--listen") {
		t.Errorf("error %v", err)
	}
	if w.refreshes+w.scans > 0 {
		t.Error("it started all the same")
	}
}

func TestHandlerSaysWhyNot(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	l, err := listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var why error
	ready := func() error { mu.Lock(); defer mu.Unlock(); return why }
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- serve(ctx, l, nil, (&door{}).guard(handler(prometheus.NewRegistry(), func() error { return nil }, ready, func() string { return "acts" }), pages()), zap.NewNop())
	}()
	base := "http://" + l.Addr().String()
	if code, body := get(t, base+"/readyz"); code != 200 || body != "acts\n" {
		t.Errorf("ready: %d %q", code, body)
	}
	mu.Lock()
	why = errors.New("engine: connection refused")
	mu.Unlock()
	if code, body := get(t, base+"/readyz"); code != 503 || body != "engine: connection refused\n" {
		t.Errorf("not ready: %d %q", code, body)
	}
	if code, _ := get(t, base+"/other"); code != 404 {
		t.Errorf("another path: %d", code)
	}
	response, err := http.Post(base+"/metrics", "text/plain", nil)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", response.StatusCode)
	}
	huge, _ := http.NewRequest(http.MethodGet, base+"/healthz", nil)
	huge.Header.Set("X-Huge", strings.Repeat("x", 64<<10))
	response, err = http.DefaultClient.Do(huge)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("64 KiB of header: %d", response.StatusCode)
	}
	// A client that sends nothing does not hold up the stop.
	idle, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	start := time.Now()
	cancel()
	err = <-done
	if took := time.Since(start); took > shutdownLimit+time.Second || err != nil {
		t.Errorf("stopped after %s, error %v", took, err)
	}
	http.DefaultClient.CloseIdleConnections()
}

// pages stands for what may be seen with the token only.
func pages() http.Handler {
	return byPath{"/": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		say(w, http.StatusOK, "skep: see /metrics, /healthz and /readyz")
	})}
}
