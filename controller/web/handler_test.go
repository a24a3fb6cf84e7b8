package web

import (
	"bufio"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestPaths(t *testing.T) {
	site := NewSite(still{fleet(), changed()})
	for path, want := range map[string]struct {
		code int
		kind string
		text string
	}{
		"/":                            {200, "text/html; charset=utf-8", "Stacks, worst first"},
		"/?a=<script>":                 {200, "text/html; charset=utf-8", "Stacks, worst first"},
		"/stacks/shop":                 {200, "text/html; charset=utf-8", "The rollout under way"},
		"/stacks/":                     {404, "text/plain; charset=utf-8", "there is nothing here\n"},
		"/stacks/planted":              {404, "text/plain; charset=utf-8", "there is nothing here\n"},
		"/stacks/shop/":                {404, "text/plain; charset=utf-8", "there is nothing here\n"},
		"/stacks/%2e%2e/shop":          {404, "text/plain; charset=utf-8", "there is nothing here\n"},
		"/planted":                     {404, "text/plain; charset=utf-8", "there is nothing here\n"},
		"/style.css":                   {200, "text/css; charset=utf-8", "prefers-color-scheme"},
		"/live.js":                     {200, "text/javascript; charset=utf-8", "EventSource"},
		"/icon.svg":                    {200, "image/svg+xml", "<svg"},
		"/api/v1":                      {404, "application/json", "there is nothing here"},
		"/api/v1/planted":              {404, "application/json", "there is nothing here"},
		"/api/v1/stacks":               {200, "application/json", `"counts":{"total":13,`},
		"/api/v1/stacks/planted":       {404, "application/json", `{"error":"there is no such stack"}`},
		"/api/v1/stacks/shop":          {200, "application/json", `"timeline":{"release":7,`},
		"/api/v1/openapi.json":         {200, "application/json", `"openapi": "3.1.0"`},
		"/static/style.css":            {404, "text/plain; charset=utf-8", "there is nothing here\n"},
		"/templates/page.html":         {404, "text/plain; charset=utf-8", "there is nothing here\n"},
		"/api/v1/stacks?q=planted-too": {200, "application/json", `"counts"`},
	} {
		w := get(t, site, path)
		if w.Code != want.code || w.Header().Get("Content-Type") != want.kind || !strings.Contains(w.Body.String(), want.text) {
			t.Errorf("%s: %d %s %.200s", path, w.Code, w.Header().Get("Content-Type"), w.Body)
		}
		if strings.Contains(w.Body.String(), "planted") {
			t.Errorf("%s: what was asked for is in the answer", path)
		}
		csp := w.Header().Get("Content-Security-Policy")
		if !strings.HasPrefix(csp, "default-src 'none'; ") || strings.Contains(csp, "unsafe") {
			t.Errorf("%s: policy %s", path, csp)
		}
		if got := w.Header().Get("Content-Length"); got != fmt.Sprint(w.Body.Len()) {
			t.Errorf("%s: length %s", path, got)
		}
	}
}

func TestHeadHasNoBody(t *testing.T) {
	w := httptest.NewRecorder()
	NewSite(still{snapshot: fleet()}).ServeHTTP(w, httptest.NewRequest(http.MethodHead, "/", nil))
	if w.Code != 200 || w.Body.Len() != 0 || w.Header().Get("Content-Length") == "0" {
		t.Errorf("%d with %d bytes, length %s", w.Code, w.Body.Len(), w.Header().Get("Content-Length"))
	}
}

func TestPacked(t *testing.T) {
	site := NewSite(still{snapshot: fleet()})
	for accept, packed := range map[string]bool{"gzip": true, "br, gzip;q=0.5": true, "gzip;q=0": false, "": false, "x-gzip": false} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Accept-Encoding", accept)
		w := httptest.NewRecorder()
		site.ServeHTTP(w, r)
		var body io.Reader = w.Body
		if got := w.Header().Get("Content-Encoding") == "gzip"; got != packed {
			t.Errorf("%q: packed %t", accept, got)
		}
		if packed {
			z, err := gzip.NewReader(w.Body)
			if err != nil {
				t.Fatal(err)
			}
			body = z
		}
		text, err := io.ReadAll(body)
		if err != nil || !strings.Contains(string(text), "</html>") {
			t.Errorf("%q: %v", accept, err)
		}
	}
}

// listen is a viewer: what it is told comes in lines.
func listen(t *testing.T, url string) (lines <-chan string, end func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	if answer.StatusCode != 200 || answer.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%d %s", answer.StatusCode, answer.Header.Get("Content-Type"))
	}
	out := make(chan string, 100)
	go func() {
		defer close(out)
		defer answer.Body.Close()
		s := bufio.NewScanner(answer.Body)
		for s.Scan() {
			if strings.HasPrefix(s.Text(), "data: ") {
				out <- s.Text()
			}
		}
	}()
	return out, cancel
}

func next(t *testing.T, lines <-chan string) string {
	t.Helper()
	select {
	case line := <-lines:
		return line
	case <-time.After(10 * time.Second):
		t.Fatal("nobody was told")
	}
	return ""
}

func TestViewersAreTold(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	site := NewSite(still{snapshot: fleet()})
	server := httptest.NewServer(site)
	defer server.Close()
	defer http.DefaultClient.CloseIdleConnections()
	lines, end := listen(t, server.URL)
	defer end()
	if got := next(t, lines); got != "data: 0" {
		t.Errorf("at first: %s", got)
	}
	if !site.Watched() {
		t.Error("nobody seems to look")
	}
	for range 5 {
		site.Changed()
	}
	if got := next(t, lines); got != "data: 5" { // what comes together is told once
		t.Errorf("after five changes: %s", got)
	}
	site.Close()
	site.Changed() // is for nobody
	if line, on := <-lines; on {
		t.Errorf("after the end: %s", line)
	}
}

func TestViewersAreBounded(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	site := NewSite(still{snapshot: fleet()})
	server := httptest.NewServer(site)
	defer server.Close()
	defer site.Close()
	defer http.DefaultClient.CloseIdleConnections()
	var ends []func()
	for range maxViewers {
		lines, end := listen(t, server.URL)
		next(t, lines)
		ends = append(ends, end)
	}
	answer, err := http.Get(server.URL + "/events")
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusServiceUnavailable || answer.Header.Get("Retry-After") == "" {
		t.Errorf("one more: %d", answer.StatusCode)
	}
	if answer, err = http.Get(server.URL + "/"); err != nil || answer.StatusCode != 200 {
		t.Fatalf("the page beside them: %v", err)
	}
	answer.Body.Close()
	for _, end := range ends {
		end()
	}
	for late := time.Now().Add(10 * time.Second); site.Watched(); {
		if time.Now().After(late) {
			t.Fatal("those who left are still counted")
		}
		time.Sleep(5 * time.Millisecond) // waits for a condition
	}
}
