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
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
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
