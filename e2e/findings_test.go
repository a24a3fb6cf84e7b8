package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/skep-io/skep/controller/cli"
	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
)

// TestMissingBindIsTold: a host's folder that some nodes have not is no error to
// Swarm, which rejects task after task there. skep names the path and the nodes.
func TestMissingBindIsTold(t *testing.T) {
	t.Parallel()
	const stack = "missing-bind"
	cleanUp(t, stack)
	dir := filepath.Join(t.TempDir(), "host")
	if err := os.MkdirAll(filepath.Join(dir, "data"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{1, 2} {
		if err := lab.Hide(t.Context(), i, dir); err != nil {
			t.Fatal(err)
		}
	}
	specs := specsWith(t, stack, fmt.Sprintf(`services:
  web:
    image: app:1.0
    volumes: ["%s/data:/data"]
    deploy: {mode: global}
`, dir))
	skepSays[applied](t, skepHost(lab, 0, "apply"), stack, "apply", specs)
	await(t, time.Minute, "plan names the nodes", func() error {
		f := finding(t, stack, specs, "bind-missing-on-nodes")
		if f == nil {
			return errors.New("it has no such finding")
		}
		for _, i := range []int{1, 2} {
			if !strings.Contains(f.Message, lab.Nodes[i].Name) {
				return errors.New(f.Message)
			}
		}
		if strings.Contains(f.Message, lab.Nodes[0].Name) || !strings.Contains(f.Message, dir+"/data") {
			t.Errorf("it says %s", f.Message)
		}
		t.Logf("plan says: %s", f.Message)
		return nil
	})
}

// TestModeChangeReplaces: what an engine refuses skep does in two steps, and says so
// before.
func TestModeChangeReplaces(t *testing.T) {
	t.Parallel()
	const stack = "mode-change"
	cleanUp(t, stack)
	specs := specsWith(t, stack, web("app:1.0", 1))
	skepSays[applied](t, skepHost(lab, 0, "apply"), stack, "apply", specs)
	awaitRunning(t, time.Minute, stack+"_web", "app:1.0", 1)
	before := service(t, stack+"_web").ID

	text := strings.Replace(web("app:1.0", 1), "replicas: 1", "mode: global", 1)
	if err := os.WriteFile(filepath.Join(specs, stack+".yml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if f := finding(t, stack, specs, "mode-changed"); f == nil {
		t.Error("plan does not say that the service is replaced")
	}
	skepSays[applied](t, skepHost(lab, 0, "apply"), stack, "apply", specs)
	awaitRunning(t, time.Minute, stack+"_web", "app:1.0", len(lab.Nodes))
	if s := service(t, stack+"_web"); s.ID == before || s.Spec.Mode.Global == nil {
		t.Errorf("it is not another service, or not a global one: %s, %+v", s.ID, s.Spec.Mode)
	}
	if f := finding(t, stack, specs, "mode-changed"); f != nil {
		t.Errorf("plan still says: %s", f.Message)
	}
}

// TestSocketIsRefused: a stack that mounts the engine's socket is root on its node. It
// is held, and nothing of it is there, until somebody allows it.
func TestSocketIsRefused(t *testing.T) {
	t.Parallel()
	const stack = "socket"
	cleanUp(t, stack)
	specs := specsWith(t, stack, `services:
  web:
    image: app:1.0
    volumes: ["/var/run/docker.sock:/var/run/docker.sock:ro"]
`)
	for _, r := range skepSays[applied](t, lab.DockerHost(0), stack, "apply", specs) {
		if r.Outcome != reconcile.Held || !strings.Contains(r.Message, "--allow-host-root") {
			t.Errorf("it is %s: %s", r.Outcome, r.Message)
		}
	}
	if f := finding(t, stack, specs, "host-root"); f == nil || f.Severity != spec.Error {
		t.Errorf("plan says: %+v", f)
	}
	if out, err := lab.Docker(t.Context(), 0, "service", "ls", "-q", "--filter", "name="+stack+"_"); err != nil || strings.TrimSpace(out) != "" {
		t.Errorf("services live: %s, %v", out, err)
	}
}

// specsWith makes a directory of stacks with one in it.
func specsWith(t *testing.T, stack, text string) (specs string) {
	t.Helper()
	specs = t.TempDir()
	if err := os.WriteFile(filepath.Join(specs, stack+".yml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return specs
}

// finding asks skep plan for a finding, nil where it has none.
func finding(t *testing.T, owner, specs, code string) *spec.Finding {
	t.Helper()
	for _, p := range skepSays[reconcile.PlanView](t, skepHost(lab, 0, "plan"), owner, "plan", specs) {
		for _, f := range p.Findings {
			if f.Code == code {
				return &f
			}
		}
	}
	return nil
}

// An applied is what skep apply --format json prints of a stack.
type applied struct {
	Name    string            `json:"name"`
	Outcome reconcile.Outcome `json:"outcome"`
	Message string            `json:"message"`
}

// skepSays runs a verb of skep on a directory of stacks and gives the JSON that it
// prints, a line a stack. Whatever the exit code, that is an answer.
func skepSays[T any](t *testing.T, host, owner, verb, specs string, flags ...string) []T {
	t.Helper()
	var stdout, stderr bytes.Buffer
	args := []string{verb, "--host", host, "--specs", specs, "--owner", owner, "--format", "json"}
	args = append(args, flags...)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	if code := cli.Main(ctx, args, strings.NewReader(""), &stdout, &stderr); code > 1 && stdout.Len() == 0 {
		t.Fatalf("skep %s ended with %d: %s", verb, code, &stderr)
	}
	var all []T
	leaked.Look("skep "+verb, append(bytes.Clone(stdout.Bytes()), stderr.Bytes()...))
	for dec := json.NewDecoder(&stdout); ; {
		var v T
		err := dec.Decode(&v)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatalf("skep %s: %v", verb, err)
		}
		all = append(all, v)
	}
}
