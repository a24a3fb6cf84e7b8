package follow

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/docker/docker/api/types/registry"
	inprocess "github.com/google/go-containerregistry/pkg/registry"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A world has registries by host, and keeps what they are asked: it is the transport
// itself, so that time stands still while they answer.
type world struct {
	mu    sync.Mutex
	hosts map[string]http.Handler
	asked []string // "12:00:00 registry.example.com GET /v2/…"
	auth  []string // the Authorization of each
}

func (w *world) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	w.mu.Lock()
	w.asked = append(w.asked, fmt.Sprintf("%s %s %s", r.URL.Host, r.Method, r.URL.Path))
	w.auth = append(w.auth, r.URL.Scheme+"://"+r.URL.Host+" "+r.Header.Get("Authorization"))
	h := w.hosts[r.URL.Host]
	w.mu.Unlock()
	if h == nil {
		return nil, fmt.Errorf("no route to host")
	}
	if r.Body == nil {
		r.Body = http.NoBody
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	resp := rec.Result()
	resp.Request = r
	return resp, nil
}

// take are the requests since it was called last.
func (w *world) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	asked := w.asked
	w.asked, w.auth = nil, nil
	return asked
}

func (w *world) with(host string, h http.Handler) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.hosts == nil {
		w.hosts = map[string]http.Handler{}
	}
	w.hosts[host] = h
}

// newRegistry is a whole one, in memory.
func newRegistry() http.Handler { return inprocess.New(inprocess.Logger(log.New(io.Discard, "", 0))) }

// push has a registry have a tag, whose digest is of its content.
func push(t interface{ Fatalf(string, ...any) }, h http.Handler, repository, tag, content string) {
	body := fmt.Sprintf(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[],"annotations":{"v":%q}}`, content)
	r := httptest.NewRequest(http.MethodPut, "/v2/"+repository+"/manifests/"+tag, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/vnd.oci.image.index.v1+json")
	rec := httptest.NewRecorder()
	if h.ServeHTTP(rec, r); rec.Code != http.StatusCreated {
		t.Fatalf("push %s:%s: %d %s", repository, tag, rec.Code, rec.Body)
	}
}

func remove(h http.Handler, repository, tag string) {
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodDelete, "/v2/"+repository+"/manifests/"+tag, nil))
}

const example = "registry.example.com"

func following(image string, f spec.Follow) reconcile.Following {
	if f.Every == 0 {
		f.Every = 5 * time.Minute
	}
	return reconcile.Following{Image: image, Follow: f}
}

func web(f reconcile.Following) map[string]map[string]reconcile.Following {
	return map[string]map[string]reconcile.Following{"shop": {"shop_web": f}}
}

// A runner is a poller that runs, on a clock that stands still.
type runner struct {
	*Poller
	*world
	t       *testing.T
	mu      sync.Mutex
	changed []string
	results map[Result]int
}

func run(t *testing.T, c Config, test func(r *runner)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &runner{world: &world{}, t: t, results: map[Result]int{}}
		c.Transport = r.world
		c.Jitter = func(time.Duration) time.Duration { return 0 }
		c.Told = func(_ string, result Result) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.results[result]++
		}
		r.Poller = New(c)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			r.Run(ctx, func(stacks []string) {
				r.mu.Lock()
				defer r.mu.Unlock()
				r.changed = append(r.changed, stacks...)
			})
		}()
		test(r)
		cancel()
		<-done
	})
}

func (r *runner) sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (r *runner) told() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	changed := r.changed
	r.changed = nil
	return changed
}

func (r *runner) found() reconcile.Found { return r.Found("shop")["shop_web"] }

func TestNewerTagsAreFound(t *testing.T) {
	run(t, Config{}, func(r *runner) {
		reg := newRegistry()
		r.with(example, reg)
		push(t, reg, "team/app", "1.27.2", "a")
		push(t, reg, "team/app", "latest", "a")
		r.Want(web(following(example+"/team/app:1.27.0", spec.Follow{Semver: "~1.27"})))
		r.sleep(time.Second)
		first := r.found()
		if !strings.HasPrefix(first.Image, example+"/team/app:1.27.2@sha256:") || first.Problem != "" || first.Asked.IsZero() {
			t.Fatalf("found %+v", first)
		}
		if told := r.told(); !slices.Equal(told, []string{"shop"}) {
			t.Errorf("told of %v", told)
		}
		want := []string{example + " GET /v2/team/app/tags/list", example + " HEAD /v2/team/app/manifests/1.27.2"}
		if asked := r.take(); !slices.Equal(asked, want) {
			t.Errorf("asked %v", asked)
		}
		r.sleep(4 * time.Minute)
		push(t, reg, "team/app", "1.27.3", "b")
		if asked := r.take(); len(asked) > 0 {
			t.Errorf("asked before it was time: %v", asked)
		}
		r.sleep(2 * time.Minute)
		if now := r.found(); !strings.HasPrefix(now.Image, example+"/team/app:1.27.3@sha256:") {
			t.Errorf("found %+v", now)
		}
		push(t, reg, "team/app", "1.27.3", "rebuilt")
		before := r.found().Image
		r.sleep(5 * time.Minute)
		if now := r.found().Image; now == before || !strings.HasPrefix(now, example+"/team/app:1.27.3@") {
			t.Errorf("a tag that was pushed again: %s", now)
		}
		r.told()
		r.sleep(time.Hour)
		if told := r.told(); len(told) > 0 {
			t.Errorf("told of %v, and nothing changed", told)
		}
		if r.results[Changed] != 3 || r.results[Unchanged] != 12 {
			t.Errorf("results %v", r.results)
		}
	})
}

func TestWhatCannotBeFoundKeepsWhatWas(t *testing.T) {
	for name, tt := range map[string]struct {
		follow spec.Follow
		breaks func(r *runner, reg http.Handler)
		says   string
		result Result
	}{
		"the tag vanished":     {spec.Follow{Tag: "1.27"}, func(_ *runner, reg http.Handler) { remove(reg, "app", "1.27") }, "has no tag 1.27", Missing},
		"no version is left":   {spec.Follow{Semver: "~1.27"}, func(_ *runner, reg http.Handler) { remove(reg, "app", "1.27.1") }, "has no version that fits ~1.27", Missing},
		"the registry is away": {spec.Follow{Tag: "1.27"}, func(r *runner, _ http.Handler) { r.with(example, nil) }, "cannot be asked: no route to host", Failed},
		"it fails":             {spec.Follow{Tag: "1.27"}, func(r *runner, _ http.Handler) { r.with(example, status(502, "")) }, "status 502", Failed},
		"it denies":            {spec.Follow{Tag: "1.27"}, func(r *runner, _ http.Handler) { r.with(example, status(403, "")) }, "denies access", Denied},
		"it limits":            {spec.Follow{Tag: "1.27"}, func(r *runner, _ http.Handler) { r.with(example, status(429, "")) }, "limits how often", Limited},
		"it talks nonsense": {spec.Follow{Semver: "~1.27"}, func(r *runner, _ http.Handler) {
			r.with(example, answers("<html>"))
		}, "no list of tags", Failed},
		"a digest that is none": {spec.Follow{Tag: "1.27"}, func(r *runner, _ http.Handler) {
			r.with(example, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Docker-Content-Digest", "sha256:short") }))
		}, "a digest that is none", Failed},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, Config{}, func(r *runner) {
				reg := newRegistry()
				r.with(example, reg)
				push(t, reg, "app", "1.27", "a")
				push(t, reg, "app", "1.27.1", "a")
				remove(reg, "app", map[bool]string{true: "1.27.1", false: "1.27"}[tt.follow.Tag != ""])
				r.Want(web(following(example+"/app:1.27", tt.follow)))
				r.sleep(time.Second)
				before := r.found()
				r.told()
				tt.breaks(r, reg)
				r.sleep(5 * time.Minute)
				now := r.found()
				if now.Image != before.Image || before.Image == "" || !strings.Contains(now.Problem, tt.says) {
					t.Errorf("found %+v, and before %+v", now, before)
				}
				if told := r.told(); !slices.Equal(told, []string{"shop"}) || r.results[tt.result] != 1 {
					t.Errorf("told of %v, results %v", told, r.results)
				}
				r.with(example, reg)
				push(t, reg, "app", "1.27", "b")
				push(t, reg, "app", "1.27.1", "b")
				r.sleep(time.Hour)
				if now := r.found(); now.Problem != "" || now.Image == before.Image {
					t.Errorf("it is back, and found is %+v", now)
				}
			})
		})
	}
}

func status(code int, retryAfter string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if retryAfter != "" {
			w.Header().Set("Retry-After", retryAfter)
		}
		w.WriteHeader(code)
	})
}

func answers(text string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) })
}

// A host that limits or fails is left alone for as long as it says, or longer each time;
// others are asked as ever.
func TestHostsAreLeftAlone(t *testing.T) {
	for name, tt := range map[string]struct {
		code  int
		after string
		asked []time.Duration // from the first, within four hours
	}{
		"Retry-After in seconds": {429, "3600", []time.Duration{0, time.Hour, 2 * time.Hour, 3 * time.Hour}},
		"no Retry-After":         {429, "", []time.Duration{0, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute, 20 * time.Minute, 28 * time.Minute, 44 * time.Minute, 76 * time.Minute, 136 * time.Minute, 196 * time.Minute}},
		"nonsense":               {503, "soon", []time.Duration{0, 5 * time.Minute, 10 * time.Minute, 15 * time.Minute, 20 * time.Minute, 28 * time.Minute, 44 * time.Minute, 76 * time.Minute, 136 * time.Minute, 196 * time.Minute}},
		"more than a day":        {429, "99999999999", []time.Duration{0}},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, Config{}, func(r *runner) {
				var times []time.Duration
				start := time.Now()
				r.with(example, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
					times = append(times, time.Since(start))
					status(tt.code, tt.after).ServeHTTP(w, req)
				}))
				other := newRegistry()
				push(t, other, "x", "1", "a")
				r.with("other.example.com", other)
				r.Want(map[string]map[string]reconcile.Following{
					"shop": {"shop_web": following(example+"/app:1", spec.Follow{Tag: "1"})},
					"blog": {"blog_web": following("other.example.com/x:1", spec.Follow{Tag: "1"})},
				})
				r.sleep(4*time.Hour - time.Minute)
				if !slices.Equal(times, tt.asked) {
					t.Errorf("asked after %v, want %v", times, tt.asked)
				}
				if n := r.results[Unchanged]; n != 47 {
					t.Errorf("the other registry was asked %d times", n)
				}
			})
		})
	}
}

// Who comes to a host that is left alone is told so, and does not wait for it.
func TestNobodyWaitsForAHostThatIsLeftAlone(t *testing.T) {
	run(t, Config{}, func(r *runner) {
		r.with(example, status(429, "7200"))
		shop := map[string]reconcile.Following{"shop_web": following(example+"/app:1", spec.Follow{Tag: "1"})}
		r.Want(map[string]map[string]reconcile.Following{"shop": shop})
		r.sleep(time.Minute)
		r.told()
		r.take()
		r.Want(map[string]map[string]reconcile.Following{"shop": shop, "blog": {"blog_web": following(example+"/other:1", spec.Follow{Tag: "1"})}})
		r.sleep(time.Second)
		if f := r.Found("blog")["blog_web"]; !strings.Contains(f.Problem, "left alone") || !f.Asked.IsZero() {
			t.Errorf("found %+v", f)
		}
		if told, asked := r.told(), r.take(); !slices.Equal(told, []string{"blog"}) || len(asked) > 0 {
			t.Errorf("told of %v, and asked %v", told, asked)
		}
	})
}

// Asking once is each question once, and no more than that where a host fails.
func TestOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		reg := newRegistry()
		push(t, reg, "app", "1.0.0", "a")
		w.with(example, reg)
		w.with("other.example.com", status(500, ""))
		p := New(Config{Transport: w})
		p.Want(map[string]map[string]reconcile.Following{"shop": {
			"shop_a": following(example+"/app:1", spec.Follow{Semver: "^1"}),
			"shop_b": following(example+"/app:1", spec.Follow{Tag: "1.0.0"}),
			"shop_c": following("other.example.com/app:1", spec.Follow{Tag: "1"}),
		}})
		p.Once(t.Context())
		found := p.Found("shop")
		if found["shop_a"].Image == "" || found["shop_a"].Image != found["shop_b"].Image || !strings.Contains(found["shop_c"].Problem, "status 500") {
			t.Errorf("found %+v", found)
		}
		if asked := w.take(); len(asked) != 3 {
			t.Errorf("asked %v", asked)
		}
	})
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"": 0, "0": 0, "120": 2 * time.Minute, " 7 ": 7 * time.Second, "-5": 0, "1.5": 0, "x": 0,
		"Thu, 01 Jan 2026 12:30:00 GMT": 30 * time.Minute, "Thu, 01 Jan 2026 11:00:00 GMT": 0, "9223372036854775807": maxRetryWait,
		"Fri, 01 Jan 2100 12:30:00 GMT": maxRetryWait,
	} {
		if got := retryAfter(http.Header{"Retry-After": {text}}, now); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

// A paged list is read to its end, wherever the newest is.
func TestPages(t *testing.T) {
	run(t, Config{}, func(r *runner) {
		reg := newRegistry()
		pages := 0
		r.with(example, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if !strings.HasSuffix(req.URL.Path, "/tags/list") {
				reg.ServeHTTP(w, req)
				return
			}
			pages++
			page, _ := strconv.Atoi(req.URL.Query().Get("page"))
			if page < 3 {
				w.Header().Set("Link", fmt.Sprintf(`</v2/app/tags/list?page=%d&n=2>; rel="next"`, page+1))
			}
			_ = json.NewEncoder(w).Encode(map[string]any{"name": "app", "tags": []string{fmt.Sprintf("1.27.%d", page), "a b", "latest"}})
		}))
		push(t, reg, "app", "1.27.3", "a")
		r.Want(web(following(example+"/app:1", spec.Follow{Semver: "~1.27"})))
		r.sleep(time.Second)
		if !strings.HasPrefix(r.found().Image, example+"/app:1.27.3@") || pages != 4 {
			t.Errorf("found %+v in %d pages", r.found(), pages)
		}
	})
}

// A list that never ends, leads elsewhere or is too large is not read to its end.
func TestHostileLists(t *testing.T) {
	for name, link := range map[string]string{
		"in a circle":    `</v2/app/tags/list?n=1000>; rel="next"`,
		"elsewhere":      `<https://evil.example.com/v2/app/tags/list>; rel="next"`,
		"without TLS":    `<http://registry.example.com/v2/app/tags/list?n=5>; rel="next"`,
		"another's list": `</v2/other/tags/list?n=5>; rel="next"`,
		"no URL":         "<%zz>; rel=next",
		"for ever":       "",
	} {
		t.Run(name, func(t *testing.T) {
			run(t, Config{}, func(r *runner) {
				n := 0
				r.with(example, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					n++
					next := link
					if next == "" {
						next = fmt.Sprintf(`</v2/app/tags/list?last=%d>; rel="next"`, n)
					}
					w.Header().Set("Link", next)
					_, _ = io.WriteString(w, `{"tags":["1.0.0"]}`)
				}))
				r.Want(web(following(example+"/app:1", spec.Follow{Semver: "^1"})))
				r.sleep(time.Second)
				if f := r.found(); f.Image != "" || f.Problem == "" || n > maxPages {
					t.Errorf("found %+v after %d pages", f, n)
				}
				for _, asked := range r.take() {
					if !strings.HasPrefix(asked, example+" GET /v2/app/") {
						t.Errorf("asked %s", asked)
					}
				}
			})
		})
	}
	if err := decode(strings.NewReader(strings.Repeat(" ", 100)+"{}"), 50, new(any)); err == nil {
		t.Error("an answer that is too large was read")
	}
}

// A registry need not say a manifest's digest.
func TestDigestOfTheManifestItself(t *testing.T) {
	run(t, Config{}, func(r *runner) {
		r.with(example, answers("hello"))
		r.Want(web(following(example+"/app:1", spec.Follow{Tag: "1"})))
		r.sleep(time.Second)
		if f := r.found(); f.Image != example+"/app:1@sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824" {
			t.Errorf("found %+v", f)
		}
	})
}

type credentials func(image string) (string, error)

func (c credentials) EncodedAuth(image string) (string, error) { return c(image) }

func loggedIn(a registry.AuthConfig) credentials {
	return func(image string) (string, error) {
		if !strings.HasPrefix(image, example) {
			return "", nil
		}
		return registry.EncodeAuthConfig(a)
	}
}

// Credentials go to the registry that they are of, and to the server of tokens that it
// names, by TLS; and nowhere else.
func TestCredentials(t *testing.T) {
	const user, password = "robot", "hunter2"
	basicAuth := "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
	guarded := func(challenge, accepts string) http.Handler {
		reg := newRegistry()
		push(t, reg, "app", "1", "a")
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != accepts {
				w.Header().Set("WWW-Authenticate", challenge)
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			reg.ServeHTTP(w, r)
		})
	}
	tokens := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		good := r.Header.Get("Authorization") == basicAuth || r.Method == http.MethodPost && r.Form.Get("refresh_token") == "identity"
		if !good || r.Form.Get("scope") != "repository:app:pull" || r.Form.Get("service") != "s" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = io.WriteString(w, `{"token":"t0ken"}`)
	})
	bearer := func(realm string) string {
		return fmt.Sprintf(`Bearer realm=%q,service="s",scope="repository:evil:push"`, realm)
	}
	for name, tt := range map[string]struct {
		auth      registry.AuthConfig
		challenge string
		accepts   string
		redirect  string
		good      bool
	}{
		"basic":                   {auth: registry.AuthConfig{Username: user, Password: password}, challenge: `Basic realm="r"`, accepts: basicAuth, good: true},
		"a token":                 {auth: registry.AuthConfig{Username: user, Password: password}, challenge: bearer("https://tokens.example.com/t"), accepts: "Bearer t0ken", good: true},
		"by an identity":          {auth: registry.AuthConfig{IdentityToken: "identity"}, challenge: bearer("https://tokens.example.com/t"), accepts: "Bearer t0ken", good: true},
		"a registry token":        {auth: registry.AuthConfig{RegistryToken: "rt"}, challenge: `Bearer realm="https://tokens.example.com/t"`, accepts: "Bearer rt", good: true},
		"wrong ones":              {auth: registry.AuthConfig{Username: user, Password: "no"}, challenge: bearer("https://tokens.example.com/t"), accepts: "Bearer t0ken"},
		"none":                    {challenge: `Basic realm="r"`, accepts: basicAuth},
		"a realm without TLS":     {auth: registry.AuthConfig{Username: user, Password: password}, challenge: bearer("http://tokens.example.com/t"), accepts: "Bearer t0ken"},
		"a realm that is no URL":  {auth: registry.AuthConfig{Username: user, Password: password}, challenge: bearer("tokens"), accepts: "Bearer t0ken"},
		"sent elsewhere":          {auth: registry.AuthConfig{Username: user, Password: password}, challenge: `Basic realm="r"`, redirect: "https://evil.example.com/v2/app/manifests/1"},
		"sent to where TLS is no": {auth: registry.AuthConfig{Username: user, Password: password}, challenge: `Basic realm="r"`, redirect: "http://" + example + "/v2/app/manifests/1"},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, Config{Credentials: loggedIn(tt.auth)}, func(r *runner) {
				r.with(example, guarded(tt.challenge, tt.accepts))
				if tt.redirect != "" {
					r.with(example, http.RedirectHandler(tt.redirect, http.StatusTemporaryRedirect))
				}
				r.with("tokens.example.com", tokens)
				r.with("evil.example.com", newRegistry())
				r.Want(web(following(example+"/app:1", spec.Follow{Tag: "1"})))
				r.sleep(time.Second)
				f := r.found()
				if (f.Image != "") != tt.good || (f.Problem == "") != tt.good {
					t.Errorf("found %+v", f)
				}
				for _, secret := range []string{password, "t0ken", "identity", `"rt"`} {
					if strings.Contains(f.Problem, secret) {
						t.Errorf("it tells a secret: %s", f.Problem)
					}
				}
				for _, a := range r.auth {
					where, what, _ := strings.Cut(a, " ")
					if what != "" && where != "https://"+example && where != "https://tokens.example.com" {
						t.Errorf("%s got %s", where, what)
					}
				}
			})
		})
	}
}

// Nothing is asked while another controller acts; and what was found before is forgotten,
// since it may be old by the time this one does.
func TestStandbyAsksNothing(t *testing.T) {
	var mu sync.Mutex
	acts := false
	set := func(to bool) { mu.Lock(); defer mu.Unlock(); acts = to }
	run(t, Config{Asks: func() bool { mu.Lock(); defer mu.Unlock(); return acts }}, func(r *runner) {
		reg := newRegistry()
		push(t, reg, "app", "1", "a")
		r.with(example, reg)
		r.Want(web(following(example+"/app:1", spec.Follow{Tag: "1"})))
		r.sleep(time.Hour)
		if asked := r.take(); len(asked) > 0 {
			t.Errorf("a standby asked %v", asked)
		}
		set(true)
		r.Look()
		r.sleep(time.Second)
		if asked := r.take(); len(asked) != 1 || r.found().Image == "" {
			t.Errorf("who acts asked %v, and found %+v", asked, r.found())
		}
		set(false)
		r.sleep(time.Hour)
		if asked := r.take(); len(asked) > 0 || r.found().Image != "" {
			t.Errorf("who acts no more asked %v, and has %+v", asked, r.found())
		}
	})
}

func TestWhereRegistriesAre(t *testing.T) {
	for image, want := range map[string]string{
		"nginx": "https://registry-1.docker.io docker.io", "ghcr.io/a/b": "https://ghcr.io ghcr.io", "localhost:5000/x": "http://localhost:5000 localhost:5000",
		"127.0.0.1/x": "http://127.0.0.1 127.0.0.1", "10.0.0.1:5000/x": "https://10.0.0.1:5000 10.0.0.1:5000", "plain.example.com/x": "http://plain.example.com plain.example.com",
	} {
		_, named, ok := keyOf(following(image, spec.Follow{Tag: "1"}))
		base, name := baseOf(named, func(host string) bool { return host == "plain.example.com" })
		if got := strings.TrimSuffix(base.String(), "/") + " " + name; !ok || got != want {
			t.Errorf("%s is at %s, want %s", image, got, want)
		}
	}
}

// However many services follow whatever, and whenever that changes: a registry is asked
// for the tags of a repository once an interval at most, and for each tag's digest once.
func TestOneRequestARepositoryAndInterval(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		everies := []time.Duration{time.Minute, 7 * time.Minute}
		draw := func(label string) map[string]map[string]reconcile.Following {
			all := map[string]map[string]reconcile.Following{}
			for i := range rapid.IntRange(0, 12).Draw(rt, label) {
				f := spec.Follow{Every: rapid.SampledFrom(everies).Draw(rt, "every")}
				if rapid.Bool().Draw(rt, "versions") {
					f.Semver = rapid.SampledFrom([]string{"~1.0", "^1"}).Draw(rt, "semver")
				} else {
					f.Tag = rapid.SampledFrom([]string{"1.0.1", "gone"}).Draw(rt, "tag")
				}
				stack := fmt.Sprint("s", i%4)
				if all[stack] == nil {
					all[stack] = map[string]reconcile.Following{}
				}
				all[stack][fmt.Sprint(stack, "_", i)] = following(example+"/"+rapid.SampledFrom([]string{"a", "b"}).Draw(rt, "repository")+":1", f)
			}
			return all
		}
		first, second := draw("first"), draw("second")
		run(t, Config{}, func(r *runner) {
			reg := newRegistry()
			for _, repository := range []string{"a", "b"} {
				push(t, reg, repository, "1.0.1", "x")
				push(t, reg, repository, "1.1.0", "y")
			}
			r.with(example, reg)
			for i, wants := range []map[string]map[string]reconcile.Following{first, first, second} {
				if r.Want(wants); i == 0 {
					r.sleep(0)
				}
				r.sleep(21 * time.Minute)
			}
			groups := map[string]map[time.Duration]bool{}
			for _, wants := range []map[string]map[string]reconcile.Following{first, second} {
				for _, services := range wants {
					for _, f := range services {
						key, _, _ := keyOf(f)
						if groups[key.repository] == nil {
							groups[key.repository] = map[time.Duration]bool{}
						}
						groups[key.repository][f.Every] = true
					}
				}
			}
			count := map[string]int{}
			for _, asked := range r.take() {
				count[asked]++
			}
			for asked, n := range count {
				repository := example + "/" + strings.Split(asked, "/")[2]
				most := 0
				for every := range maps.Keys(groups[repository]) {
					most += int(63*time.Minute/every) + 4 // at the start, at each change, and at the ends
				}
				if n > most {
					t.Errorf("%s %d times in 63 minutes, more than %d (%v)", asked, n, most, groups[repository])
				}
			}
			for stack, services := range second {
				for service := range services {
					if f, ok := r.Found(stack)[service]; !ok || f.Image == "" && f.Problem == "" {
						t.Errorf("nothing was found for %s", service)
					}
				}
			}
		})
	})
}
