package e2e

import (
	"context"
	"encoding/base64"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/image"

	"github.com/skep-io/skep/controller/cli"
	"github.com/skep-io/skep/e2e/lab/swarmlab"
)

const (
	registryUser     = "deployer"
	registryPassword = "correct horse"
)

// TestRegistryPin follows an image through a registry that wants credentials: its
// tag is pinned to a digest, every node may pull it, and the digest stays what it
// is until the file changes, also when the tag moves or the registry is away.
func TestRegistryPin(t *testing.T) {
	t.Parallel()
	const stack = "regpin"
	cleanUp(t, stack)
	g := guarded(t)
	ref := g.push(t, "shop/web:1.0", "v1.0")
	first := g.digest(t, "shop/web", "1.0")
	d := runs(t, "--registry-config", g.config(t), "--resync", "2s")
	d.write(stack+".yml", registryStack(ref, ""))
	awaitReady(t, d, stack, 1)

	t.Log("the tag is pinned, the label has the image as written, every node pulled by itself")
	pinned := ref + "@" + first
	awaitRunning(t, time.Minute, stack+"_web", pinned, len(lab.Nodes))
	if written := service(t, stack+"_web").Spec.Labels["com.docker.stack.image"]; written != ref {
		t.Errorf("com.docker.stack.image is %q, the file says %q", written, ref)
	}
	for _, n := range lab.Nodes {
		if !g.served(n.Address.String(), first) {
			t.Errorf("%s did not pull %s with credentials", n.Name, first)
		}
	}

	t.Log("the tag moves: that alone is no reason to roll out")
	g.push(t, "shop/web:1.0", "v2.0")
	second := g.digest(t, "shop/web", "1.0")
	if second == first {
		t.Fatal("the tag did not move")
	}
	before := versions(t, stack)
	d.write(stack+".yml", registryStack(ref, "")) // touched
	d.stop()
	d = runs(t, "--registry-config", g.config(t), "--resync", "2s", "--owner", d.owner, "--specs", d.specs)
	always(t, 8*time.Second, "a tag that moved does not roll out", func() error {
		if now := versions(t, stack); !maps.Equal(now, before) {
			return fmt.Errorf("versions moved from %v to %v", before, now)
		}
		return nil
	})

	t.Log("the registry is away while the file changes: a warning, and the pinned digest stays")
	tasks := taskIDs(t, stack+"_web")
	g.cut()
	d.write(stack+".yml", registryStack(ref, "first"))
	awaitLabel(t, stack+"_web", "first")
	awaitReady(t, d, stack, 2)
	if image := service(t, stack+"_web").Spec.TaskTemplate.ContainerSpec.Image; image != pinned {
		t.Errorf("the service has %s, not the digest it was pinned to, %s", image, pinned)
	}
	if now := taskIDs(t, stack+"_web"); !slices.Equal(now, tasks) {
		t.Errorf("tasks were replaced: %v, then %v", tasks, now)
	}
	if !strings.Contains(d.log.String(), "image-not-pinned") {
		t.Error("there is no warning")
	}
	g.mend()

	t.Log("the file changes: the tag is asked for again")
	d.stop() // and with it the memory that the registry was away
	d = runs(t, "--registry-config", g.config(t), "--resync", "2s", "--owner", d.owner, "--specs", d.specs)
	d.write(stack+".yml", registryStack(ref, "second"))
	awaitRunning(t, 3*time.Minute, stack+"_web", ref+"@"+second, len(lab.Nodes))
	awaitReady(t, d, stack, 3)
}

// TestRegistryAsWritten says that a stack may forgo pins.
func TestRegistryAsWritten(t *testing.T) {
	t.Parallel()
	const stack = "regwritten"
	cleanUp(t, stack)
	g := guarded(t)
	ref := g.push(t, "shop/web:1.0", "v1.0")
	d := runs(t, "--registry-config", g.config(t))
	d.write(stack+".yml", "x-skep: {images: as-written}\n"+registryStack(ref, ""))
	awaitReady(t, d, stack, 1)
	awaitRunning(t, time.Minute, stack+"_web", ref, len(lab.Nodes))
	if image := service(t, stack+"_web").Spec.TaskTemplate.ContainerSpec.Image; image != ref {
		t.Errorf("the service has %s, the file says %s", image, ref)
	}
	if strings.Contains(d.log.String(), "image-not-pinned") {
		t.Error("it warns of what was asked for")
	}
}

// TestRegistryRefuses says what a person sees who forgot the credentials, and that
// giving them is enough.
func TestRegistryRefuses(t *testing.T) {
	t.Parallel()
	const stack = "regrefuses"
	cleanUp(t, stack)
	g := guarded(t)
	ref := g.push(t, "shop/web:1.0", "v1.0")
	config := filepath.Join(t.TempDir(), "config.json") // not there yet
	d := runs(t, "--registry-config", config)
	d.write(stack+".yml", registryStack(ref, ""))
	await(t, 30*time.Second, "a warning that names the image and the flag", func() error {
		if text := d.log.String(); !strings.Contains(text, "image-not-pinned") || !strings.Contains(text, ref) || !strings.Contains(text, "--registry-config") {
			return fmt.Errorf("the log has %s", text)
		}
		return nil
	})
	awaitReason(t, d, stack, ref)
	if err := os.WriteFile(config, g.auths(), 0o600); err != nil {
		t.Fatal(err)
	}
	d.stop()
	d = runs(t, "--registry-config", config, "--owner", d.owner, "--specs", d.specs)
	d.write(stack+".yml", registryStack(ref, "with credentials"))
	awaitRunning(t, 2*time.Minute, stack+"_web", ref+"@"+g.digest(t, "shop/web", "1.0"), len(lab.Nodes))
	if text := d.log.String(); strings.Contains(text, registryPassword) || strings.Contains(text, g.basic()) {
		t.Error("the log has the password")
	}
}

// registryStack is a stack with a task on every node. A note is a label of the
// service: it restarts nothing.
func registryStack(ref, note string) string {
	return fmt.Sprintf(`services:
  web:
    x-skep: {rollout: {bake: 1s}}
    image: %s
    deploy:
      mode: global
      endpoint_mode: dnsrr
      labels:
        note: %q
`, ref, note)
}

func awaitLabel(t *testing.T, name, note string) {
	t.Helper()
	await(t, 30*time.Second, name+" has the label", func() error {
		if got := service(t, name).Spec.Labels["note"]; got != note {
			return fmt.Errorf("it is %q", got)
		}
		return nil
	})
}

// runs is start through the command line: the verb run with args, which replace
// what it is given otherwise.
func runs(t *testing.T, args ...string) *daemon {
	t.Helper()
	d := &daemon{t: t, owner: strings.ToLower(t.Name()), log: &logbook{}}
	for i, a := range args {
		switch a {
		case "--owner":
			d.owner = args[i+1]
		case "--specs":
			d.specs = args[i+1]
		}
	}
	if d.specs == "" {
		d.specs = t.TempDir()
	}
	ctx, cancel := context.WithCancel(context.Background())
	code := make(chan int, 1)
	all := append([]string{"run", "--host", skepHost(lab, 0, "run"), "--specs", d.specs, "--owner", d.owner,
		"--listen", "127.0.0.1:0", "--log-format", "json"}, args...)
	go func() { code <- cli.Main(ctx, all, strings.NewReader(""), d.log, d.log) }()
	d.stop = sync.OnceFunc(func() {
		cancel()
		if c := <-code; c != 0 {
			t.Errorf("skep run ended with %d", c)
		}
	})
	t.Cleanup(func() {
		d.stop()
		if t.Failed() {
			t.Logf("the daemon's log:\n%s", d.log)
		}
	})
	return d
}

var loggingIn sync.Mutex

// A guard is a registry that wants a name and a password, and can be cut off.
type guard struct {
	registry *swarmlab.Registry

	mu    sync.Mutex
	away  bool
	asked map[string]bool // "address path", of what was served
}

func guarded(t *testing.T) *guard {
	t.Helper()
	g := &guard{asked: map[string]bool{}}
	r, err := lab.Registry(g.wrap)
	if err != nil {
		t.Fatal(err)
	}
	g.registry = r
	// Where the lab's docker command keeps it, which two logins at a time would
	// overwrite for each other; skep is given a file of its own.
	loggingIn.Lock()
	defer loggingIn.Unlock()
	docker(t, "login", "--username", registryUser, "--password", registryPassword, r.Addr)
	return g
}

func (g *guard) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if g.isAway() {
			panic(http.ErrAbortHandler) // hangs up
		}
		if user, password, ok := r.BasicAuth(); !ok || user != registryUser || password != registryPassword {
			w.Header().Set("WWW-Authenticate", `Basic realm="lab"`)
			http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"log in first"}]}`, http.StatusUnauthorized)
			return
		}
		g.note(r)
		next.ServeHTTP(w, r)
	})
}

func (g *guard) note(r *http.Request) {
	host, _, _ := net.SplitHostPort(r.RemoteAddr)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asked[host+" "+r.URL.Path] = true
}

func (g *guard) isAway() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.away
}

func (g *guard) set(away bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.away = away
}

func (g *guard) cut()  { g.set(true) }
func (g *guard) mend() { g.set(false) }

// served says whether a host got the manifest with that digest, with credentials.
func (g *guard) served(address, digest string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for key := range g.asked {
		if strings.HasPrefix(key, address+" ") && strings.HasSuffix(key, "/manifests/"+digest) {
			return true
		}
	}
	return false
}

// push makes the web application of that version, pushes it and returns its name.
// No engine keeps it.
func (g *guard) push(t *testing.T, repo, version string) string {
	t.Helper()
	img, err := lab.Web(t.Context(), repo, "APP_VERSION="+version)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := g.registry.Push(t.Context(), img, repo)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for i := range lab.Nodes { // some pulled it by digest, which is untagged
			_, _ = lab.Client(i).ImageRemove(context.Background(), ref, image.RemoveOptions{Force: true})
		}
	})
	return ref
}

// digest asks the registry itself for the digest of a tag.
func (g *guard) digest(t *testing.T, repo, tag string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodHead, fmt.Sprintf("http://%s/v2/%s/manifests/%s", g.registry.Addr, repo, tag), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth(registryUser, registryPassword)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	digest := resp.Header.Get("Docker-Content-Digest")
	if resp.StatusCode != http.StatusOK || digest == "" {
		t.Fatalf("ask for the digest of %s:%s: %s", repo, tag, resp.Status)
	}
	return digest
}

func (g *guard) basic() string {
	return base64.StdEncoding.EncodeToString([]byte(registryUser + ":" + registryPassword))
}

func (g *guard) auths() []byte {
	return fmt.Appendf(nil, `{"auths": {%q: {"auth": %q}}}`, g.registry.Addr, g.basic())
}

// config writes a Docker config file with the credentials.
func (g *guard) config(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.json")
	if err := os.WriteFile(file, g.auths(), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
