package web

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/skep-io/skep/e2e/browser"
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

func open(t *testing.T) *browser.Tab {
	t.Helper()
	if testing.Short() {
		t.Skip("needs chromium")
	}
	return browser.Open(t)
}

const isLive = `document.getElementById("live").textContent === "Live"`

// views are the pages that are looked at, by scene.
var views = map[string][]string{"fleet": {"/", "/stacks/shop", "/stacks/search", "/stacks/queue", "/stacks/mail"}, "stale": {"/"}, "standby": {"/", "/stacks/shop"}, "empty": {"/"}}

// TestInBrowser looks at pages as a browser lays them out: as people with a small screen,
// a screen reader or a dark room have them.
func TestInBrowser(t *testing.T) {
	tab := open(t)
	for scene, pages := range views {
		url := serve(t, NewSite(still{scenes()[scene], changed()}))
		for _, page := range pages {
			for _, width := range []int64{320, 360, 720, 1280, 2560} {
				for _, scheme := range []string{"light", "dark"} {
					wanted := *shots != "" && (width == 360 || width == 1280)
					if scheme == "dark" && width != 360 && !wanted {
						continue
					}
					tab.Do(browser.Sized(width, scheme), chromedp.Navigate(url+page), chromedp.WaitVisible("main"))
					tab.Until(isLive)
					if wanted {
						tab.Shoot(filepath.Join(*shots, fmt.Sprintf("%s-%s-%s-%d.png", scene, filepath.Base("/board"+strings.TrimSuffix(page, "/")), scheme, width)))
					}
					browser.Eval[bool](tab, `document.querySelectorAll("details").forEach((d) => d.open = true) === undefined`)
					tab.Check(fmt.Sprintf("%s %s at %d px, %s", scene, page, width, scheme))
				}
			}
		}
	}
}

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

func TestPageFollows(t *testing.T) {
	tab := open(t)
	source := &moving{now: fleet()}
	site := NewSite(source)
	url := serve(t, site)
	tab.Do(browser.Sized(1280, "light"), chromedp.Navigate(url+"/stacks/shop"), chromedp.WaitVisible("main"))
	tab.Until(isLive)
	// What somebody opened and stands on stays so.
	tab.Do(chromedp.Click(chromedp.CSS("#events > summary")))
	browser.Eval[bool](tab, `(window.sameDocument = true)`)
	next := fleet()
	next.Now = noon.Add(20 * time.Second)
	for i := range next.Stacks {
		if next.Stacks[i].Name == "shop" {
			next.Stacks[i] = wentBack("shop")
		}
	}
	source.is(next)
	site.Changed()
	tab.Until(`document.querySelector("h1").textContent.includes("Stalled")`)
	for what, expression := range map[string]string{
		"the page was loaded anew":         `window.sameDocument === true`,
		"what was opened is closed":        `document.getElementById("events").open`,
		"the focus is lost":                `document.activeElement === document.querySelector("#events > summary")`,
		"the title is the old one":         `document.title.startsWith("shop: Stalled")`,
		"the time is that of the old page": `document.querySelector("main").dataset.at === "2026-03-14T12:00:20Z"`,
	} {
		if !browser.Eval[bool](tab, expression) {
			t.Error(what)
		}
	}
	for _, bad := range tab.Complaints() {
		t.Errorf("the browser says %s", bad)
	}
	site.Close()
	tab.Until(`document.getElementById("live").textContent.startsWith("Not live")`)
}

func TestByKeyboard(t *testing.T) {
	tab := open(t)
	url := serve(t, NewSite(still{fleet(), changed()}))
	tab.Do(browser.Sized(1280, "light"), chromedp.Navigate(url), chromedp.WaitVisible("main"))
	tab.Until(isLive)
	for _, want := range []string{"#main", "/", "#first-stalled", "#first-degraded", "#first-unknown", "#first-notready", "#first-progressing", "#first-ready", "name", "/stacks/mail", "/stacks/search"} {
		tab.Do(chromedp.KeyEvent(kb.Tab))
		if got := browser.Eval[string](tab, `document.activeElement.getAttribute("href") || document.activeElement.id || document.activeElement.tagName`); got != want {
			t.Fatalf("the focus is on %s, want %s", got, want)
		}
		if !browser.Eval[bool](tab, `(() => { const s = getComputedStyle(document.activeElement); return s.outlineStyle !== "none" || document.activeElement.className === "skip"; })()`) {
			t.Errorf("on %s the focus cannot be seen", want)
		}
	}
	tab.Do(chromedp.Focus(chromedp.CSS("#name")), chromedp.KeyEvent("TEAM"))
	if n := browser.Eval[int](tab, `[...document.querySelectorAll(".stack")].filter((s) => !s.hidden).length`); n != 4 {
		t.Errorf("%d stacks are left by the filter, want 4", n)
	}
	tab.Do(chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(kb.Enter))
	tab.Until(`location.pathname === "/stacks/team-a" && Boolean(document.querySelector("h1")?.textContent.includes("team-a"))`)
}

func TestWithoutScript(t *testing.T) {
	tab := open(t)
	url := serve(t, NewSite(still{fleet(), changed()}))
	tab.Do(browser.WithoutScript(), browser.Sized(360, "dark"), chromedp.Navigate(url+"/"), chromedp.WaitVisible(chromedp.CSS(".stack")),
		chromedp.WaitNotVisible(chromedp.CSS("#filter")), chromedp.WaitNotVisible(chromedp.CSS("#live")),
		chromedp.Click(chromedp.CSS(`a[href="/stacks/search"]`)), chromedp.WaitVisible(chromedp.CSS(".timeline svg")),
		chromedp.Click(chromedp.CSS("#events > summary")), chromedp.WaitVisible(chromedp.CSS(".events li")))
}
