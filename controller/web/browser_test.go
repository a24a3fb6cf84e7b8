package web

import (
	"context"
	"flag"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/accessibility"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

var shots = flag.String("shots", "", "a directory to put screenshots of all scenes into")

// hardened is a site as a daemon serves it: its own policy takes the place of the
// door's, and nothing else does.
func hardened(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'none'")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cross-Origin-Resource-Policy", "same-origin")
		w.Header().Set("Cache-Control", "no-store")
		h.ServeHTTP(w, r)
	})
}

// serve serves a site until the test ends.
func serve(t *testing.T, s *Site) (url string) {
	t.Helper()
	server := httptest.NewServer(hardened(s))
	t.Cleanup(func() {
		s.Close()
		server.CloseClientConnections()
		server.Close()
	})
	return server.URL
}

// browse starts a Chromium, which make test installs.
func browse(t *testing.T) context.Context {
	t.Helper()
	chromium := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			chromium = path
			break
		}
	}
	if chromium == "" {
		t.Fatal("there is no chromium (make tools installs it; go test -short leaves this out)")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(chromium), chromedp.NoSandbox,
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("no-proxy-server", true), chromedp.UserDataDir(t.TempDir()))
	ctx, stop := context.WithTimeout(t.Context(), 90*time.Second)
	t.Cleanup(stop)
	ctx, stop = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(stop)
	ctx, stop = chromedp.NewContext(ctx)
	t.Cleanup(stop)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start chromium: %v", err)
	}
	return ctx
}

// sized has a page be so wide, and light or dark.
func sized(width int64, scheme string) chromedp.Action[chromedp.Void] {
	return chromedp.Steps(chromedp.EmulateViewport(width, 900), chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
		_, err := cdp.Call(ctx, tab, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
		return err
	}))
}

// complaints gathers what the browser says of a page: scripts that break, and whatever
// is against the page's policy.
type complaints struct {
	mu   sync.Mutex
	said []string
}

func (c *complaints) listen(t *testing.T, ctx context.Context) {
	t.Helper()
	err := chromedp.Listen(ctx, func(ev any) {
		c.mu.Lock()
		defer c.mu.Unlock()
		switch x := ev.(type) {
		case *log.EventEntryAdded:
			c.said = append(c.said, string(x.Entry.Level)+": "+x.Entry.Text+" "+x.Entry.URL)
		case *runtime.EventExceptionThrown:
			c.said = append(c.said, x.ExceptionDetails.Text)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	do(t, ctx, chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
		_, err := cdp.Call(ctx, tab, log.Enable, cdp.Empty{})
		return err
	}))
}

func (c *complaints) take() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	said := c.said
	c.said = nil
	return said
}

func do(t *testing.T, ctx context.Context, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	if err := chromedp.Do(ctx, steps...); err != nil {
		t.Fatal(err)
	}
}

func eval[T any](t *testing.T, ctx context.Context, expression string) T {
	t.Helper()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// until waits until an expression is true in the page.
func until(t *testing.T, ctx context.Context, expression string) {
	t.Helper()
	for late := time.Now().Add(15 * time.Second); !eval[bool](t, ctx, expression); {
		if time.Now().After(late) {
			t.Fatalf("it did not come about: %s", expression)
		}
		time.Sleep(20 * time.Millisecond) // waits for a condition
	}
}

const isLive = `document.getElementById("live").textContent === "Live"`

// A moving source knows something else as time goes by.
type moving struct {
	mu  sync.Mutex
	now *Snapshot
}

func (m *moving) Snapshot(context.Context) *Snapshot {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now
}

func (m *moving) Changes(context.Context, string) map[int]Change { return changed() }

func (m *moving) is(s *Snapshot) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.now = s
}

// TestInBrowser looks at pages as a browser lays them out: as people with a small screen,
// a keyboard, a screen reader, a dark room or no script have them.
func TestInBrowser(t *testing.T) {
	if testing.Short() {
		t.Skip("needs chromium")
	}
	ctx := browse(t)
	var said complaints
	said.listen(t, ctx)
	rule, err := os.ReadFile("testdata/contrast.js")
	if err != nil {
		t.Fatal(err)
	}
	site := func(scene string) string { return serve(t, NewSite(still{scenes()[scene], changed()})) }
	urls := []string{site("stale") + "/", site("empty") + "/", site("standby") + "/"}
	fleetURL := site("fleet")
	for _, page := range []string{"/", "/stacks/shop", "/stacks/search", "/stacks/queue", "/stacks/mail"} {
		urls = append(urls, fleetURL+page)
	}
	for _, url := range urls {
		for _, width := range []int64{320, 360, 720, 1280, 2560} {
			for _, scheme := range []string{"light", "dark"} {
				if scheme == "dark" && width != 360 {
					continue
				}
				do(t, ctx, sized(width, scheme), chromedp.Navigate(url), chromedp.WaitVisible("main"))
				until(t, ctx, isLive)
				eval[bool](t, ctx, `document.querySelectorAll("details").forEach((d) => d.open = true) === undefined`)
				if wide := eval[int](t, ctx, `document.documentElement.scrollWidth - document.documentElement.clientWidth`); wide > 0 {
					t.Errorf("%s at %d px goes %d px beyond the edge", url, width, wide)
				}
				for _, bad := range eval[[]string](t, ctx, string(rule)) {
					t.Errorf("%s, %s: %s", url, scheme, bad)
				}
				for _, bad := range said.take() {
					t.Errorf("%s: the browser says %s", url, bad)
				}
			}
		}
		checkNames(t, ctx, url)
	}
}

// checkNames holds what can be operated, or is a landmark or picture, to a name, by the
// browser's own accessibility tree.
func checkNames(t *testing.T, ctx context.Context, url string) {
	t.Helper()
	tree, err := chromedp.Run(ctx, func(ctx context.Context, tab *chromedp.Target) (accessibility.GetFullAXTreeResult, error) {
		return cdp.Call(ctx, tab, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
	})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	text := func(v *accessibility.Value) string {
		if v == nil {
			return ""
		}
		return strings.Trim(string(v.Value), `"`)
	}
	for _, n := range tree.Nodes {
		if n.Ignored {
			continue
		}
		role, name := text(n.Role), text(n.Name)
		seen[role]++
		switch role {
		case "link", "button", "searchbox", "image", "region", "navigation", "heading", "DisclosureTriangle", "columnheader", "rowheader":
			if name == "" {
				t.Errorf("%s: a %s without a name", url, role)
			}
		}
	}
	for _, role := range []string{"main", "banner", "contentinfo", "heading", "link"} {
		if seen[role] == 0 {
			t.Errorf("%s: there is no %s: %v", url, role, seen)
		}
	}
}

func TestPageFollows(t *testing.T) {
	if testing.Short() {
		t.Skip("needs chromium")
	}
	source := &moving{now: fleet()}
	site := NewSite(source)
	url := serve(t, site)
	ctx := browse(t)
	var said complaints
	said.listen(t, ctx)
	do(t, ctx, sized(1280, "light"), chromedp.Navigate(url+"/stacks/shop"), chromedp.WaitVisible("main"))
	until(t, ctx, isLive)
	// What somebody opened and stands on stays so.
	do(t, ctx, chromedp.Click(chromedp.CSS("#events > summary")))
	eval[bool](t, ctx, `(window.sameDocument = true)`)
	next := fleet()
	next.Now = noon.Add(20 * time.Second)
	for i := range next.Stacks {
		if next.Stacks[i].Name == "shop" {
			next.Stacks[i] = wentBack("shop")
		}
	}
	source.is(next)
	site.Changed()
	until(t, ctx, `document.querySelector("h1").textContent.includes("Stalled")`)
	for what, expression := range map[string]string{
		"the page was loaded anew":         `window.sameDocument === true`,
		"what was opened is closed":        `document.getElementById("events").open`,
		"the focus is lost":                `document.activeElement === document.querySelector("#events > summary")`,
		"the title is the old one":         `document.title.startsWith("shop: Stalled")`,
		"the time is that of the old page": `document.querySelector("main").dataset.at === "2026-03-14T12:00:20Z"`,
	} {
		if !eval[bool](t, ctx, expression) {
			t.Error(what)
		}
	}
	for _, bad := range said.take() {
		t.Errorf("the browser says %s", bad)
	}
	site.Close()
	until(t, ctx, `document.getElementById("live").textContent.startsWith("Not live")`)
}

func TestByKeyboard(t *testing.T) {
	if testing.Short() {
		t.Skip("needs chromium")
	}
	url := serve(t, NewSite(still{fleet(), changed()}))
	ctx := browse(t)
	do(t, ctx, sized(1280, "light"), chromedp.Navigate(url), chromedp.WaitVisible("main"))
	until(t, ctx, isLive)
	at := func() string {
		return eval[string](t, ctx, `document.activeElement.getAttribute("href") || document.activeElement.id || document.activeElement.tagName`)
	}
	want := []string{"#main", "/", "#first-stalled", "#first-degraded", "#first-unknown", "#first-notready", "#first-progressing", "#first-ready", "name", "/stacks/mail", "/stacks/search"}
	for _, w := range want {
		do(t, ctx, chromedp.KeyEvent(kb.Tab))
		if got := at(); got != w {
			t.Fatalf("the focus is on %s, want %s", got, w)
		}
		if !eval[bool](t, ctx, `(() => { const s = getComputedStyle(document.activeElement); return s.outlineStyle !== "none" || document.activeElement.className === "skip"; })()`) {
			t.Errorf("on %s the focus cannot be seen", w)
		}
	}
	do(t, ctx, chromedp.Focus(chromedp.CSS("#name")), chromedp.KeyEvent("TEAM"))
	if n := eval[int](t, ctx, `[...document.querySelectorAll(".stack")].filter((s) => !s.hidden).length`); n != 4 {
		t.Errorf("%d stacks are left by the filter, want 4", n)
	}
	do(t, ctx, chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(kb.Enter))
	until(t, ctx, `location.pathname === "/stacks/team-a" && Boolean(document.querySelector("h1")?.textContent.includes("team-a"))`)
}

func TestWithoutScript(t *testing.T) {
	if testing.Short() {
		t.Skip("needs chromium")
	}
	url := serve(t, NewSite(still{fleet(), changed()}))
	ctx := browse(t)
	do(t, ctx, chromedp.Func(func(ctx context.Context, tab *chromedp.Target) error {
		_, err := cdp.Call(ctx, tab, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
		return err
	}), sized(360, "dark"), chromedp.Navigate(url+"/"), chromedp.WaitVisible(chromedp.CSS(".stack")), chromedp.WaitNotVisible(chromedp.CSS("#filter")), chromedp.WaitNotVisible(chromedp.CSS("#live")),
		chromedp.Click(chromedp.CSS(`a[href="/stacks/search"]`)), chromedp.WaitVisible(chromedp.CSS(".timeline svg")), chromedp.Click(chromedp.CSS("#events > summary")), chromedp.WaitVisible(chromedp.CSS(".events li")))
}

func TestShots(t *testing.T) {
	if *shots == "" {
		t.SkipNow()
	}
	ctx := browse(t)
	for scene, pages := range map[string][]string{"fleet": {"/", "/stacks/shop", "/stacks/search", "/stacks/queue", "/stacks/mail"}, "stale": {"/"}, "standby": {"/"}, "empty": {"/"}} {
		url := serve(t, NewSite(still{scenes()[scene], changed()}))
		for _, page := range pages {
			for _, width := range []int64{360, 1280} {
				for _, scheme := range []string{"light", "dark"} {
					if err := chromedp.Do(ctx, sized(width, scheme), chromedp.Navigate(url+page), chromedp.WaitVisible("#live:not([hidden])")); err != nil {
						t.Fatal(err)
					}
					png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
					if err != nil {
						t.Fatal(err)
					}
					name := filepath.Join(*shots, scene+"-"+strings.TrimPrefix(strings.ReplaceAll(page, "/stacks/", "/"), "/")+"-"+scheme+"-"+map[int64]string{360: "360", 1280: "1280"}[width]+".png")
					if err := os.WriteFile(name, png, 0o644); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	}
}
