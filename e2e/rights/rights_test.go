package rights

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/client"
	"go.uber.org/goleak"
	"gopkg.in/yaml.v3"
)

// asked are requests as a client sends them, and whether the list has them.
var asked = map[string]bool{
	"HEAD /_ping": true, "GET /_ping": true,
	"GET /v1.41/services": true, "GET /v1.51/events": true, "GET /v1.100/nodes": true,
	"POST /v1.41/services/create": true, "POST /v1.41/services/x2u/update": true, "DELETE /v1.51/configs/skep-lease-skep": true,
	"GET /v1.51/distribution/registry:5000/a/b:1/json":                             true,
	"GET /v1.51/distribution/docker.io/library/nginx@sha256:0123456789abcdef/json": true,
	"GET /v1.51/services/x/logs":                                                   true, "POST /v1.51/services/x/logs": false, "GET /v1.51/tasks/x/logs": false,

	"GET /v1.51/swarm": false, "POST /v1.51/swarm/init": false, "POST /v1.51/swarm/leave": false, "GET /v1.51/info": false,
	"GET /v1.51/containers/json": false, "POST /v1.51/containers/create": false, "POST /v1.51/containers/x/exec": false,
	"POST /v1.51/exec/x/start": false, "GET /v1.51/plugins": false, "POST /v1.51/plugins/pull": false, "POST /v1.51/build": false,
	"GET /v1.51/images/json": false, "POST /v1.51/images/create": false, "DELETE /v1.51/volumes/x": false,
	"POST /v1.51/nodes/x/update": false, "DELETE /v1.51/nodes/x": false, "GET /v1.51/nodes/x": false,
	"GET /v1.51/secrets/x": false, "GET /services": false, "GET /v1.51/_ping": false,
	"PUT /v1.51/services/create": false, "POST /v1.51/services": false, "POST /v1.51/networks/x/connect": false,
	"GET /v1.51/configs/../containers/json": false, "GET /v1.51/configs/%2e%2e/info": false, "GET /v1.51//services": false,
	"GET /v1.51/distribution/x/../../containers/x/json": false, "GET /v2/services": false, "GET /v1.51/configs/": false,
}

func request(t *testing.T, s string) *http.Request {
	t.Helper()
	method, path, _ := strings.Cut(s, " ")
	r, err := http.NewRequest(method, "http://engine"+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestList(t *testing.T) {
	list := List()
	for s, want := range asked {
		if got := of(list, request(t, s)) >= 0; got != want {
			t.Errorf("%s: %v, want %v", s, got, want)
		}
	}
	for _, bad := range []string{"GET /x", "GET /x nobody", "GET x look", "GET /x look\nGET /x run"} {
		if _, err := parse(bad); err == nil {
			t.Errorf("%q is taken for a list", bad)
		}
	}
}

func TestWho(t *testing.T) {
	for verb, want := range map[string]map[string]bool{
		"status":  {"GET /v1.45/services": true, "POST /v1.45/configs/create": false, "GET /v1.45/events": false},
		"suspend": {"GET /v1.45/services": true, "POST /v1.45/configs/x/update": true, "DELETE /v1.45/configs/x": false, "POST /v1.45/services/create": false},
		"apply":   {"POST /v1.45/services/create": true, "DELETE /v1.45/secrets/x": true, "GET /v1.45/events": false},
		"run":     {"POST /v1.45/services/create": true, "GET /v1.45/events": true, "GET /v1.45/services/x/logs": false},
		"doctor":  {"GET /v1.45/services": true, "GET /v1.45/info": false, "GET /v1.45/services/x/logs": false},
		"logs":    {"GET /v1.45/services": true, "GET /v1.45/services/x/logs": true, "POST /v1.45/configs/create": false, "GET /v1.45/events": false},
	} {
		list := For(OfVerb(verb))
		for s, allowed := range want {
			if got := of(list, request(t, s)) >= 0; got != allowed {
				t.Errorf("%s, %s: %v", verb, s, got)
			}
		}
	}
	if len(For("run")) != len(List())-1 {
		t.Error("run may not do all that there is but logs")
	}
}

// docs/rights.md lists the same, in the same order.
func TestDocs(t *testing.T) {
	text := docs(t)
	var told []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([A-Z]+) (/[^`]*)` \\| ([a-z]+) \\|").FindAllStringSubmatch(text, -1) {
		told = append(told, m[1]+" "+m[2]+" "+m[3])
	}
	var want []string
	for _, r := range List() {
		want = append(want, r.String()+" "+r.Who)
	}
	if !slices.Equal(told, want) {
		t.Errorf("docs/rights.md tells\n%s\nwant\n%s", strings.Join(told, "\n"), strings.Join(want, "\n"))
	}
}

func docs(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/rights.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// shownFilter reads the filter that a page shows: patterns of paths by method.
func shownFilter(t *testing.T, text string) map[string][]*regexp.Regexp {
	t.Helper()
	allowed := map[string][]*regexp.Regexp{}
	for _, block := range regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$").FindAllStringSubmatch(text, -1) {
		var file struct {
			Services map[string]struct {
				Command []string `yaml:"command"`
			} `yaml:"services"`
		}
		if yaml.Unmarshal([]byte(block[1]), &file) != nil {
			continue // no compose file, but a list of something else
		}
		for _, s := range file.Services {
			for _, arg := range s.Command {
				if m := regexp.MustCompile(`^-allow([A-Z]+)=(.*)$`).FindStringSubmatch(arg); m != nil {
					allowed[m[1]] = append(allowed[m[1]], regexp.MustCompile("^(?:"+m[2]+")$"))
				}
			}
		}
	}
	return allowed
}

// The filter that docs/ci.md shows lets through what plan asks, and nothing that writes.
func TestShownFilterForLooking(t *testing.T) {
	text, err := os.ReadFile("../../docs/ci.md")
	if err != nil {
		t.Fatal(err)
	}
	allowed := shownFilter(t, string(text))
	if len(allowed) != 2 {
		t.Fatalf("methods %v, want HEAD and GET", allowed)
	}
	passes := func(method, path string) bool {
		return slices.ContainsFunc(allowed[method], func(p *regexp.Regexp) bool { return p.MatchString(path) })
	}
	for _, right := range List() {
		path := strings.NewReplacer("{id}", "abc123", "{image}", "registry:5000/a/b:1").Replace(right.Path)
		if path != "/_ping" {
			path = "/v1.45" + path
		}
		if got, want := passes(right.Method, path), right.Who == "look"; got != want {
			t.Errorf("%s %s: %v, want %v", right.Method, path, got, want)
		}
	}
	for s, want := range asked {
		if strings.Contains(s, "..") || strings.Contains(s, "%") || strings.Contains(s, "//") {
			continue // the engine cleans them after the filter has seen them: no client sends them
		}
		r := request(t, s)
		if passes(r.Method, r.URL.Path) && !want {
			t.Errorf("%s passes", s)
		}
	}
}

// The filter that docs/rights.md shows lets through what the daemon asks and nothing else.
func TestShownFilter(t *testing.T) {
	allowed := shownFilter(t, docs(t))
	if len(allowed) != 4 {
		t.Fatalf("methods %v, want four", allowed)
	}
	for s, want := range asked {
		r := request(t, s)
		if strings.Contains(s, "..") || strings.Contains(s, "%") || strings.Contains(s, "//") {
			continue // the engine cleans them after the filter has seen them: no client sends them
		}
		got := slices.ContainsFunc(allowed[r.Method], func(p *regexp.Regexp) bool { return p.MatchString(r.URL.Path) })
		if strings.HasSuffix(s, "/logs") {
			want = false // a person's, not the daemon's
		}
		if got != want {
			t.Errorf("%s: %v, want %v", s, got, want)
		}
	}
	for _, right := range For("run") {
		path := strings.NewReplacer("{id}", "abc123", "{image}", "registry:5000/a/b:1").Replace(right.Path)
		if path != "/_ping" {
			path = "/v1.45" + path
		}
		if !slices.ContainsFunc(allowed[right.Method], func(p *regexp.Regexp) bool { return p.MatchString(path) }) {
			t.Errorf("%s %s is refused", right.Method, path)
		}
	}
}

func TestGate(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	dir := t.TempDir()
	var mu sync.Mutex
	var reached []string
	engine := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.45")
		body, _ := io.ReadAll(r.Body)
		switch {
		case strings.HasSuffix(r.URL.Path, "/events"):
			_, _ = io.WriteString(w, `{"Type":"config","Action":"create"}`)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
			return
		case strings.HasSuffix(r.URL.Path, "/services"):
			_, _ = io.WriteString(w, "[]")
		case strings.HasSuffix(r.URL.Path, "/create"):
			_, _ = io.WriteString(w, `{"ID":"x"}`)
		}
		mu.Lock()
		defer mu.Unlock()
		reached = append(reached, r.Method+" "+r.URL.Path+" "+string(body[:min(len(body), 2)]))
	})}
	l, err := net.Listen("unix", filepath.Join(dir, "engine.sock"))
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = engine.Serve(l) }()
	g := NewGate(List())
	var tapped int
	g.Tap = func(_ *http.Request, body []byte) { tapped += len(body) }
	shut, err := g.Open(filepath.Join(dir, "gate.sock"), filepath.Join(dir, "engine.sock"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.NewClientWithOpts(client.WithHost("unix://"+filepath.Join(dir, "gate.sock")), client.WithAPIVersionNegotiation())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := c.ServiceList(ctx, swarm.ServiceListOptions{}); err != nil {
		t.Error(err)
	}
	if _, err := c.ConfigCreate(ctx, swarm.ConfigSpec{Data: []byte("x")}); err != nil {
		t.Error(err)
	}
	if _, err := c.ContainerList(ctx, container.ListOptions{}); err == nil || !strings.Contains(err.Error(), "not among the rights") {
		t.Errorf("containers: %v", err)
	}
	messages, errs := c.Events(ctx, events.ListOptions{})
	select {
	case <-messages: // at once, not when the stream ends
	case err := <-errs:
		t.Error(err)
	}
	cancel()
	<-errs
	if got := g.Refused(); !slices.Equal(got, []string{"GET /v1.45/containers/json (1 times)"}) {
		t.Errorf("refused %q", got)
	}
	mu.Lock()
	defer mu.Unlock()
	if want := []string{"HEAD /_ping ", "GET /v1.45/services ", `POST /v1.45/configs/create {"`}; !slices.Equal(reached, want) {
		t.Errorf("reached the engine: %q, want %q", reached, want)
	}
	if tapped == 0 {
		t.Error("nothing was tapped")
	}
	if got := len(g.Unused()); got != len(List())-4 {
		t.Errorf("%d rights are unused", got)
	}
	_ = engine.Close()
	if _, err := c.ServiceList(t.Context(), swarm.ServiceListOptions{}); err == nil || !client.IsErrConnectionFailed(err) && !strings.Contains(err.Error(), "EOF") {
		t.Errorf("an engine that is gone: %v", err)
	}
	_ = c.Close()
	shut()
}
