// Package browser looks at pages for tests as a Chromium lays them out. It is for tests
// alone: the browser runs without its sandbox, as root has to, and may reach only what
// the test serves.
package browser

import (
	"context"
	_ "embed"
	"os"
	"os/exec"
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
)

//go:embed contrast.js
var contrast string

// A Tab is a page that is looked at.
type Tab struct {
	t   testing.TB
	ctx context.Context

	mu   sync.Mutex
	said []string
}

// A Step is something that is done in a tab.
type Step = chromedp.Action[chromedp.Void]

// Open starts a Chromium, which make tools installs, until the test ends.
func Open(t testing.TB) *Tab {
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
	ctx, stop := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(stop)
	ctx, stop = chromedp.NewContext(ctx)
	t.Cleanup(stop)
	tab := &Tab{t: t, ctx: ctx}
	if err := chromedp.Listen(ctx, tab.hear); err != nil {
		t.Fatalf("start chromium: %v", err)
	}
	tab.Do(chromedp.Func(func(ctx context.Context, page *chromedp.Target) error {
		_, err := cdp.Call(ctx, page, log.Enable, cdp.Empty{})
		return err
	}))
	return tab
}

// hear takes in scripts that break, and whatever is against a page's policy.
func (b *Tab) hear(ev any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch x := ev.(type) {
	case *log.EventEntryAdded:
		b.said = append(b.said, string(x.Entry.Level)+": "+x.Entry.Text+" "+x.Entry.URL)
	case *runtime.EventExceptionThrown:
		b.said = append(b.said, x.ExceptionDetails.Text)
	}
}

// Complaints are what the browser said of pages since the last call.
func (b *Tab) Complaints() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	said := b.said
	b.said = nil
	return said
}

// limit is how long anything may take.
const limit = 30 * time.Second

// Do takes steps. One that found what it was for, and then no more, since the page was
// drawn anew meanwhile, is taken again: it has not done anything yet.
func (b *Tab) Do(steps ...Step) {
	b.t.Helper()
	late := time.Now().Add(limit)
	for _, step := range steps {
		err := b.Try(step)
		for err != nil && strings.Contains(err.Error(), drawnAnew) && time.Now().Before(late) {
			time.Sleep(20 * time.Millisecond) // waits for a condition
			err = b.Try(step)
		}
		if err != nil {
			b.t.Fatal(err)
		}
	}
}

// drawnAnew is what Chromium says of an element that is not there any more.
const drawnAnew = "Could not find node with given id"

// Try takes steps, and says why they could not be.
func (b *Tab) Try(steps ...Step) error {
	// The first run makes the browser, which lives as long as its context.
	if chromedp.FromContext(b.ctx).Target == nil {
		return chromedp.Do(b.ctx, steps...)
	}
	ctx, stop := context.WithTimeout(b.ctx, limit)
	defer stop()
	return chromedp.Do(ctx, steps...)
}

// Eval is the value of an expression in the page.
func Eval[T any](b *Tab, expression string) T {
	b.t.Helper()
	ctx, stop := context.WithTimeout(b.ctx, limit)
	defer stop()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// Until waits until an expression is true in the page.
func (b *Tab) Until(expression string) {
	b.t.Helper()
	for late := time.Now().Add(limit); !Eval[bool](b, expression); {
		if time.Now().After(late) {
			b.t.Fatalf("it did not come about: %s", expression)
		}
		time.Sleep(20 * time.Millisecond) // waits for a condition
	}
}

// Sized has pages be so wide, in pixels, and "light" or "dark".
func Sized(width int64, scheme string) Step {
	return chromedp.Steps(chromedp.EmulateViewport(width, 900), chromedp.Func(func(ctx context.Context, page *chromedp.Target) error {
		_, err := cdp.Call(ctx, page, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
		return err
	}))
}

// WithoutScript has pages run none.
func WithoutScript() Step {
	return chromedp.Func(func(ctx context.Context, page *chromedp.Target) error {
		_, err := cdp.Call(ctx, page, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
		return err
	})
}

// Shoot writes a picture of the whole page into a file.
func (b *Tab) Shoot(file string) {
	b.t.Helper()
	ctx, stop := context.WithTimeout(b.ctx, limit)
	defer stop()
	png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err == nil {
		err = os.WriteFile(file, png, 0o644)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// Check holds a page that is shown to what people need: no text too faint, nothing
// beyond the edge, a name for whatever can be operated, and no complaint of the browser.
func (b *Tab) Check(where string) {
	b.t.Helper()
	if wide := Eval[int](b, `document.documentElement.scrollWidth - document.documentElement.clientWidth`); wide > 0 {
		b.t.Errorf("%s goes %d px beyond the edge", where, wide)
	}
	for _, bad := range Eval[[]string](b, contrast) {
		b.t.Errorf("%s: %s", where, bad)
	}
	b.names(where)
	for _, bad := range b.Complaints() {
		b.t.Errorf("%s: the browser says %s", where, bad)
	}
}

// named are the roles of what needs a name, by the browser's own accessibility tree.
var named = map[string]bool{"link": true, "button": true, "searchbox": true, "image": true, "region": true, "navigation": true, "heading": true,
	"DisclosureTriangle": true, "columnheader": true, "rowheader": true}

func (b *Tab) names(where string) {
	b.t.Helper()
	ctx, stop := context.WithTimeout(b.ctx, limit)
	defer stop()
	tree, err := chromedp.Run(ctx, func(ctx context.Context, page *chromedp.Target) (accessibility.GetFullAXTreeResult, error) {
		return cdp.Call(ctx, page, accessibility.GetFullAXTree, accessibility.GetFullAXTreeParams{})
	})
	if err != nil {
		b.t.Fatal(err)
	}
	seen := map[string]int{}
	for _, n := range tree.Nodes {
		if n.Ignored {
			continue
		}
		role := text(n.Role)
		seen[role]++
		if named[role] && text(n.Name) == "" {
			b.t.Errorf("%s: a %s without a name", where, role)
		}
	}
	for _, role := range []string{"main", "banner", "contentinfo", "heading", "link"} {
		if seen[role] == 0 {
			b.t.Errorf("%s: there is no %s: %v", where, role, seen)
		}
	}
}

func text(v *accessibility.Value) string {
	if v == nil {
		return ""
	}
	return strings.Trim(string(v.Value), `"`)
}
