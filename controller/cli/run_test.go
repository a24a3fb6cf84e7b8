package cli

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// silentEngine is the address of one that takes connections and never says a word.
func silentEngine(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-done })
	return "tcp://" + l.Addr().String()
}

// A daemon whose engine hangs is there to be asked soon: what watches over it, as a
// container's healthcheck does, would end it again and again. Told to stop, it stops.
func TestRunIsSoonThereThoughTheEngineHangs(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close() // which the daemon takes
	specs := t.TempDir()
	if err := os.WriteFile(filepath.Join(specs, "shop.yml"), []byte("services: {web: {image: 'app:1'}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	engine := silentEngine(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan int, 1)
	var out strings.Builder
	go func() {
		ended <- Main(ctx, []string{"run", "--specs", specs, "--host", engine, "--listen", address}, strings.NewReader(""), io.Discard, &out)
	}()
	begun, healthy := time.Now(), false
	for !healthy && time.Since(begun) < 15*time.Second {
		asking, cancel := context.WithTimeout(ctx, time.Second)
		healthy = askHealth(asking, address, false) == nil
		cancel()
		select {
		case code := <-ended:
			t.Fatalf("it ended with %d: %s", code, out.String())
		case <-time.After(50 * time.Millisecond):
		}
	}
	if !healthy {
		t.Errorf("nobody answers after %s", time.Since(begun))
	}
	stop()
	stopped := time.Now()
	if code := <-ended; code != 0 || time.Since(stopped) > 5*time.Second {
		t.Errorf("it ended with %d after %s: %s", code, time.Since(stopped), out.String())
	}
}
