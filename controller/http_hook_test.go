package controller

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/skep-io/skep/controller/forge"
)

const hookSecret = "a secret of some length"

func gitHubSigns(secret, body string) string {
	h := hmac.New(sha256.New, []byte(secret))
	io.WriteString(h, body)
	return "sha256=" + hex.EncodeToString(h.Sum(nil))
}

// Forges get in by their signature alone: without the token, and by whatever name.
func TestDoorToHooks(t *testing.T) {
	tok, _ := withToken(t, goodToken)
	secrets, err := forge.ParseSecrets(hookSecret)
	if err != nil {
		t.Fatal(err)
	}
	signed := "X-Hub-Signature-256: " + gitHubSigns(hookSecret, "{}") + "\r\nContent-Length: 2\r\n\r\n{}"
	for name, tt := range map[string]struct {
		hooked bool
		raw    string
		want   int
	}{
		"a hook":                         {true, "POST /hooks/git HTTP/1.1\r\nHost: skep.example\r\n" + signed, 202},
		"with a query":                   {true, "POST /hooks/git?a=b HTTP/1.1\r\nHost: skep.example\r\n" + signed, 202},
		"unsigned":                       {true, "POST /hooks/git HTTP/1.1\r\nHost: skep.example\r\nContent-Length: 2\r\n\r\n{}", 401},
		"the token is none of theirs":    {true, "POST /hooks/git HTTP/1.1\r\nHost: skep.example\r\nAuthorization: Bearer " + goodToken + "\r\nContent-Length: 2\r\n\r\n{}", 401},
		"looked at":                      {true, "GET /hooks/git HTTP/1.1\r\nHost: skep.example\r\n\r\n", 405},
		"large":                          {true, "POST /hooks/git HTTP/1.1\r\nHost: skep.example\r\nContent-Length: 1048577\r\n\r\n", 413},
		"below it":                       {true, "POST /hooks/git/ HTTP/1.1\r\nHost: skep.example\r\n" + signed, 405},
		"beside it":                      {true, "POST /hooks HTTP/1.1\r\nHost: skep.example\r\n" + signed, 405},
		"encoded":                        {true, "POST /hooks/%67it HTTP/1.1\r\nHost: skep.example\r\n" + signed, 202},
		"a hook without secrets":         {false, "POST /hooks/git HTTP/1.1\r\nHost: skep.example\r\n" + signed, 404},
		"without secrets, looked at":     {false, "GET /hooks/git HTTP/1.1\r\nHost: skep.example\r\n\r\n", 404},
		"a page is what it was, signed":  {true, "POST / HTTP/1.1\r\nHost: skep.example\r\n" + signed, 405},
		"a page is not opened by a hook": {true, "GET / HTTP/1.1\r\nHost: localhost\r\nX-Gitlab-Token: " + hookSecret + "\r\n\r\n", 401},
	} {
		t.Run(name, func(t *testing.T) {
			for _, d := range []*door{{token: tok}, {token: tok, ownNameOnly: true}} {
				looks := 0
				if tt.hooked {
					d.hook = forge.NewHook(func() forge.Secrets { return secrets }, func() { looks++ }, func(string) {}, time.Now)
				}
				r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(tt.raw)))
				if err != nil {
					t.Fatal(err)
				}
				w := httptest.NewRecorder()
				d.guard(handler(prometheus.NewRegistry(), fine, fine, acting), pages()).ServeHTTP(w, r)
				if w.Code != tt.want || (looks == 1) != (tt.want == 202) {
					t.Errorf("%d, %d looks; want %d", w.Code, looks, tt.want)
				}
				if w.Header().Get("Content-Security-Policy") == "" || w.Header().Get("X-Content-Type-Options") != "nosniff" || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain") {
					t.Errorf("headers %v", w.Header())
				}
			}
		})
	}
}

func TestHookSecretsFollowTheirFile(t *testing.T) {
	now := time.Now()
	core, log := observer.New(zap.InfoLevel)
	file := filepath.Join(t.TempDir(), "secrets")
	write(t, file, hookSecret)
	s, err := newHookSecrets(file, func() time.Time { return now }, zap.New(core))
	if err != nil {
		t.Fatal(err)
	}
	believes := func(secret string) bool {
		now = now.Add(lookAgain)
		h := forge.NewHook(s.newest, func() {}, func(string) {}, time.Now)
		r := httptest.NewRequest(http.MethodPost, hookPath, strings.NewReader("{}"))
		r.Header.Set("X-Gitlab-Token", secret)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code == http.StatusAccepted
	}
	next := strings.Repeat("z", 20)
	if !believes(hookSecret) || believes(next) {
		t.Error("the secret is not that of the file")
	}
	write(t, file, hookSecret+"\n"+next+"\n")
	if !believes(hookSecret) || !believes(next) {
		t.Error("of two secrets one is not good")
	}
	write(t, file, next)
	if believes(hookSecret) || !believes(next) {
		t.Error("the old secret was not taken back")
	}
	write(t, file, "short")
	if believes(next) || believes("short") {
		t.Error("somebody is believed by a file that holds no secret")
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if believes(next) || believes("") {
		t.Error("somebody is believed without a file")
	}
	write(t, file, next)
	if !believes(next) {
		t.Error("a secret that came back is not good")
	}
	if n := log.FilterLevelExact(zap.WarnLevel).Len(); n != 2 {
		t.Errorf("%d warnings: %v", n, log.All())
	}
	for _, e := range log.All() {
		if text := fmt.Sprint(e.Message, e.ContextMap()); strings.Contains(text, hookSecret) || strings.Contains(text, next) {
			t.Errorf("a secret is in the log: %s", text)
		}
	}
}

func TestHooksSayWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	short := filepath.Join(dir, "short")
	write(t, short, "planted\n")
	for name, tt := range map[string]struct {
		config Config
		want   string
	}{
		"no file":    {Config{WebhookSecretFile: filepath.Join(dir, "none"), Listen: "127.0.0.1:0"}, "--git-webhook-secret-file"},
		"a short":    {Config{WebhookSecretFile: short, Listen: "127.0.0.1:0"}, "line 1: the secret has 7 bytes"},
		"no address": {Config{WebhookSecretFile: short}, "give --listen one"},
	} {
		c := tt.config
		c.Specs, c.Registry = dir, prometheus.NewRegistry()
		err := c.check()
		if err == nil {
			_, err = (&controller{Config: c, metrics: newMetrics(c.Registry)}).openSite()
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "planted") {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

// A hook has the sources looked at and the directory read, and is counted.
func TestHookHasTheSourcesLookedAt(t *testing.T) {
	var looks atomic.Int32
	inDaemon(t, func(w *world) {
		w.snapshot = snapshot(stack("a", "1"))
		w.Sources[0].Look = func() { looks.Add(1) }
	}, func(t *testing.T, w *world) {
		w.sleep(time.Second)
		w.taken()
		w.files(stack("a", "2"))
		begun := time.Now()
		for range 500 {
			w.look()
		}
		w.sleep(100 * time.Millisecond)
		if passes, _ := w.taken(); len(passes) != 1 || looks.Load() != 500 {
			t.Errorf("%s later: passes %v, %d looks", time.Since(begun), passes, looks.Load())
		}
	})
}

// One genuine hook that is sent again and again does not have the directories read again
// and again, and the last one is not forgotten.
func TestReplayedHooksAreFewReadings(t *testing.T) {
	inDaemon(t, func(w *world) {
		w.snapshot = snapshot(stack("a", "1"))
		w.Resync = time.Hour
	}, func(t *testing.T, w *world) {
		w.sleep(time.Second)
		w.with(func() { w.scans = 0 })
		for range 500 {
			w.look()
			w.sleep(10 * time.Millisecond)
		}
		w.taken()
		w.with(func() { w.snapshot = snapshot(stack("a", "2")) })
		w.look()
		w.sleep(2 * time.Second)
		if passes, _ := w.taken(); len(passes) != 1 {
			t.Errorf("the last one came to passes %v", passes)
		}
		w.with(func() {
			if w.scans > 8 {
				t.Errorf("%d scans in 7 seconds", w.scans)
			}
		})
	})
}

// Over the network, with all that stands between: headers, limits, chunks.
func TestHooksOverTheNetwork(t *testing.T) {
	var looks atomic.Int32
	file := filepath.Join(t.TempDir(), "secrets")
	write(t, file, hookSecret)
	c := Config{Listen: "127.0.0.1:0", WebhookSecretFile: file, Registry: prometheus.NewRegistry(),
		Sources: []Source{{Name: "stacks", Dir: t.TempDir(), Look: func() { looks.Add(1) }}}}
	if err := c.check(); err != nil {
		t.Fatal(err)
	}
	x := &controller{Config: c, metrics: newMetrics(c.Registry)}
	x.feeds = newFeeds(x)
	s, err := x.openSite()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.serve(ctx, handler(c.Registry, fine, fine, acting), pages(), zap.NewNop()) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	post := func(body io.Reader, header ...string) int {
		t.Helper()
		r, err := http.NewRequest(http.MethodPost, "http://"+s.listener.Addr().String()+"/hooks/git", body)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = "skep.example" // behind a proxy
		for i := 0; i+1 < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		answer, err := client.Do(r)
		if err != nil {
			return 0 // closed, in the middle of what it does not read
		}
		defer answer.Body.Close()
		return answer.StatusCode
	}
	push := `{"ref":"refs/heads/main"}`
	if code := post(strings.NewReader(push), "X-Hub-Signature-256", gitHubSigns(hookSecret, push)); code != 202 {
		t.Errorf("a hook: %d", code)
	}
	if code := post(io.MultiReader(strings.NewReader(push)), "X-Gitea-Signature", gitHubSigns(hookSecret, push)[7:]); code != 202 {
		t.Errorf("in chunks: %d", code)
	}
	// skep's own webhook, signed as notify_webhook.go does
	at := strconv.FormatInt(time.Now().Unix(), 10)
	if code := post(strings.NewReader(push), headerTimestamp, at, headerSignature, sign([]byte(hookSecret), at, []byte(push))); code != 202 {
		t.Errorf("of another skep: %d", code)
	}
	if code := post(strings.NewReader(push), "X-Hub-Signature-256", gitHubSigns("another secret here", push)); code != 401 {
		t.Errorf("forged: %d", code)
	}
	if code := post(io.MultiReader(strings.NewReader(strings.Repeat("x", 3<<20))), "X-Gitlab-Token", hookSecret); code != 413 && code != 0 {
		t.Errorf("three megabytes in chunks: %d", code)
	}
	limited := 0
	for range 100 {
		if post(strings.NewReader(push)) == 429 {
			limited++
		}
	}
	if limited < 60 {
		t.Errorf("of 100 forged hooks %d were limited", limited)
	}
	if looks.Load() != 3 || len(x.feeds.all[0].rescan) != 1 {
		t.Errorf("%d looks", looks.Load())
	}
	for result, want := range map[string]float64{forge.HookAccepted: 3, forge.HookTooLarge: 1, forge.HookLimited: float64(limited)} {
		if got := testutil.ToFloat64(x.metrics.webhooks.WithLabelValues(result)); got != want {
			t.Errorf("%s: %v were counted, want %v", result, got, want)
		}
	}
}

// A hook that reaches one that stands by is passed on, once however many come; and who
// acts looks when another one says so, and passes nothing on.
func TestHooksArePassedOn(t *testing.T) {
	f := newFakeNotes()
	var looks atomic.Int32
	besideAnother(t, func(w *world) {
		w.snapshot = snapshot(stack("a", "1"))
		w.Sources[0].Look = func() { looks.Add(1) }
		w.relay = newRelay(f, "skep")
		file := filepath.Join(t.TempDir(), "secrets")
		write(t, file, hookSecret)
		w.WebhookSecretFile = file // no address: the test looks by itself
	}, func(t *testing.T, w *world, l *stagedLease) {
		l.stands(hers)
		for range 100 {
			w.look()
		}
		w.sleep(500 * time.Millisecond)
		if n := f.takeWrites(); n != 1 || looks.Load() != 100 {
			t.Errorf("%d writes, %d looks", n, looks.Load())
		}
		for range 100 {
			w.look()
		}
		w.sleep(10 * time.Second)
		if n := f.takeWrites(); n != 1 {
			t.Errorf("%d writes after that", n)
		}
		looks.Store(0)
		if !w.hears("skep-look-skep") || looks.Load() != 0 {
			t.Errorf("it looked %d times for itself", looks.Load())
		}
		l.stands(Standing{Term: 1})
		w.sleep(time.Second)
		w.hears("skep-look-other")
		if looks.Load() != 0 {
			t.Error("it looked for another owner's hook")
		}
		w.hears("skep-look-skep")
		if looks.Load() != 1 {
			t.Errorf("it looked %d times", looks.Load())
		}
		w.look()
		w.sleep(10 * time.Second)
		if n := f.takeWrites(); n != 0 {
			t.Errorf("who acts passed on %d", n)
		}
		l.stands(hers)
		f.cutOff()
		before := len(w.loud())
		w.look()
		w.sleep(10 * time.Second)
		if w.told(zapcore.DebugLevel, "a hook cannot be passed on to the controller that acts") != 1 || len(w.loud()) != before {
			t.Errorf("it says: %v", w.loud())
		}
	})
}
