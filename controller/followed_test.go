package controller

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"
	inprocess "github.com/google/go-containerregistry/pkg/registry"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/skep-io/skep/controller/follow"
	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
)

// A registryOf has one image, of which the test says what its tag means. It is the
// transport to itself.
type registryOf struct {
	mu     sync.Mutex
	digest string // of one digit, repeated
	asked  int
}

func (r *registryOf) RoundTrip(req *http.Request) (*http.Response, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	rec := httptest.NewRecorder()
	rec.Header().Set("Docker-Content-Digest", "sha256:"+strings.Repeat(r.digest, 64))
	resp := rec.Result()
	resp.Request = req
	return resp, nil
}

func (r *registryOf) has(digest string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.digest = digest
}

func (r *registryOf) take() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	asked := r.asked
	r.asked = 0
	return asked
}

// follows makes a world whose registries are r.
func (w *world) follows(r *registryOf) {
	w.followed.tags = follow.New(follow.Config{Transport: r, Asks: w.leads, Jitter: func(time.Duration) time.Duration { return 0 },
		Told: func(_ string, result follow.Result) { w.metrics.followed.WithLabelValues(string(result)).Inc() }})
}

// follower is a stack that follows a tag.
func follower(name, version string) *spec.Stack {
	s := stack(name, version)
	x := spec.Service{Key: "web", Name: name + "_web", Follow: spec.Follow{Tag: "1", Every: 5 * time.Minute}}
	x.Spec.TaskTemplate.ContainerSpec = &swarm.ContainerSpec{Image: "registry.example.com/app:1"}
	s.Services = []spec.Service{x}
	return s
}

func image(digit string) string {
	return "registry.example.com/app:1@sha256:" + strings.Repeat(digit, 64)
}

// What a registry says reaches the passes over the stacks that follow it, at once, and no
// others get one for it.
func TestNewerTagCausesAPass(t *testing.T) {
	r := &registryOf{digest: "1"}
	inDaemon(t, func(w *world) {
		w.follows(r)
		w.snapshot = snapshot(follower("a", "1"), follower("b", "1"), stack("c", "1"))
	}, func(t *testing.T, w *world) {
		w.sleep(5 * time.Second)
		if got := w.last("a").Found["a_web"].Image; got != image("1") || w.last("c").Found != nil {
			t.Fatalf("the pass was told of %q, and c's of %v", got, w.last("c").Found)
		}
		if n := r.take(); n != 1 {
			t.Errorf("%d requests for two stacks that follow one tag", n)
		}
		r.has("2")
		w.taken()
		w.sleep(5*time.Minute - 10*time.Second)
		w.taken()
		w.sleep(10 * time.Second)
		passes, _ := w.taken()
		passes = slices.Compact(passes)
		if !slices.Contains(passes, "a") || !slices.Contains(passes, "b") || r.take() != 1 {
			t.Errorf("passes %v", passes)
		}
		w.files(follower("a", "2"), follower("b", "1"), stack("c", "1"))
		w.sleep(time.Second)
		if got := w.last("a").Found["a_web"].Image; got != image("2") {
			t.Errorf("the pass was told of %q", got)
		}
		for result, want := range map[follow.Result]float64{follow.Changed: 2, follow.Failed: 0} {
			if got := testutil.ToFloat64(w.metrics.followed.WithLabelValues(string(result))); got != want {
				t.Errorf("%s was counted %v times", result, got)
			}
		}
	})
}

// What is suspended, by its file or by hand, is not asked for, and is again at once when
// that ends.
func TestSuspendedStackAsksNoRegistry(t *testing.T) {
	r := &registryOf{digest: "1"}
	var mu sync.Mutex
	suspended := time.Now()
	inDaemon(t, func(w *world) {
		w.follows(r)
		byFile := follower("a", "1")
		byFile.Policy.Suspend = true
		w.snapshot = snapshot(byFile, follower("b", "1"))
		w.reconcile = func(context.Context, reconcile.Input) reconcile.Result {
			mu.Lock()
			defer mu.Unlock()
			res := good()
			res.State.Suspended = suspended
			return res
		}
	}, func(t *testing.T, w *world) {
		w.sleep(10 * time.Second)
		r.take() // b's first pass was not made yet when it was asked for
		w.sleep(time.Hour)
		if n := r.take(); n > 0 {
			t.Errorf("%d requests for what is suspended", n)
		}
		mu.Lock()
		suspended = time.Time{}
		mu.Unlock()
		w.sleep(w.Resync + time.Second)
		if n := r.take(); n != 1 {
			t.Errorf("%d requests when it is resumed", n)
		}
	})
}

func TestOnlyWhoActsAsksRegistries(t *testing.T) {
	r := &registryOf{digest: "1"}
	besideAnother(t, func(w *world) {
		w.follows(r)
		w.snapshot = snapshot(follower("a", "1"))
	}, func(t *testing.T, w *world, l *stagedLease) {
		w.sleep(time.Hour)
		if n := r.take(); n > 0 {
			t.Errorf("a standby made %d requests", n)
		}
		l.stands(Standing{Term: 1})
		w.sleep(time.Second)
		if n := r.take(); n != 1 {
			t.Errorf("%d requests when it began to act", n)
		}
		l.stands(hers)
		w.sleep(time.Hour)
		if n := r.take(); n > 0 {
			t.Errorf("%d requests after it lost the lease", n)
		}
	})
}

// What is followed is published, and that a registry answered once more is no reason to
// write for an hour.
func TestWhatIsFollowedIsPublished(t *testing.T) {
	r := &registryOf{digest: "1"}
	notes := newFakeNotes()
	inDaemon(t, func(w *world) {
		w.follows(r)
		w.keepIn(notes)
		w.snapshot = snapshot(follower("a", "1"))
		w.reconcile = func(_ context.Context, in reconcile.Input) reconcile.Result {
			res := good()
			f := in.Found["a_web"]
			res.Followed = []reconcile.FollowStatus{{Service: "web", Name: "a_web", Follows: "app, tag 1", Image: f.Image, Found: f}}
			return res
		}
	}, func(t *testing.T, w *world) {
		w.sleep(20 * time.Second)
		p := notes.published(t)
		if p == nil || !p.Empty() || len(p.Follows) != 1 || p.Follows[0].Stack != "a" || p.Follows[0].Image != image("1") || p.Follows[0].Asked.IsZero() {
			t.Fatalf("published %+v", p)
		}
		first := p.Follows[0].Asked
		notes.takeWrites()
		w.sleep(50 * time.Minute)
		if n := notes.takeWrites(); n > 0 {
			t.Errorf("%d writes, and nothing but time has passed", n)
		}
		w.sleep(20 * time.Minute)
		if n, p := notes.takeWrites(), notes.published(t); n != 1 || p.Follows[0].Asked.Sub(first) < reaskEvery {
			t.Errorf("%d writes after more than an hour: %+v", n, p.Follows)
		}
		r.has("2")
		w.sleep(6 * time.Minute)
		if p := notes.published(t); p.Follows[0].Image != image("2") {
			t.Errorf("published %+v", p.Follows)
		}
		var many []PublishedFollow
		for i := range 3000 {
			many = append(many, PublishedFollow{Stack: fmt.Sprint(i), FollowStatus: p.Follows[0].FollowStatus})
		}
		p.Follows = many
		if n := len(p.fitted().text()); n > maxPublished {
			t.Errorf("%d bytes are published", n)
		}
	})
}

// Who makes passes without a daemon asks once, and a stack that nothing answered for does
// not wait.
func TestAskOnce(t *testing.T) {
	r := &registryOf{digest: "1"}
	found := askOnce(t.Context(), follow.New(follow.Config{Transport: r}), map[string]*spec.Stack{"a": follower("a", "1"), "b": follower("b", "1"), "c": stack("c", "1")})
	if len(found) != 2 || found["a"]["a_web"].Image != image("1") || found["b"]["b_web"].Image != image("1") || r.take() != 1 {
		t.Errorf("found %+v", found)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	found = askOnce(ended, follow.New(follow.Config{Transport: r}), map[string]*spec.Stack{"a": follower("a", "1")})
	if f := found["a"]["a_web"]; f.Problem == "" || f.Image != "" {
		t.Errorf("found %+v", found)
	}
}

// A registry of this machine is asked over a real connection, without TLS.
func TestAskRegistriesOverTheNetwork(t *testing.T) {
	reg := httptest.NewServer(inprocess.New(inprocess.Logger(log.New(io.Discard, "", 0))))
	defer reg.Close()
	at := strings.TrimPrefix(reg.URL, "http://")
	for _, tag := range []string{"1.0.0", "1.0.1", "1.1.0"} {
		body := `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, reg.URL+"/v2/team/app/manifests/"+tag, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil || resp.StatusCode != http.StatusCreated {
			t.Fatal(resp, err)
		}
		resp.Body.Close()
	}
	s := follower("a", "1")
	s.Services[0].Follow = spec.Follow{Semver: "~1.0", Every: time.Minute}
	s.Services[0].Spec.TaskTemplate.ContainerSpec.Image = at + "/team/app:1.0.0"
	found := AskRegistries(t.Context(), map[string]*spec.Stack{"a": s}, nil, nil)
	if f := found["a"]["a_web"]; !strings.HasPrefix(f.Image, at+"/team/app:1.0.1@sha256:") || f.Problem != "" {
		t.Errorf("found %+v", f)
	}
	http.DefaultClient.CloseIdleConnections()
}
