package spec

import (
	"context"
	"strings"
	"testing"
)

// A file that makes skep panic is its own stack's problem, and nothing of the file gets
// into what is told of it.
func TestPanicOfOneStack(t *testing.T) {
	d := newSpecs(t, map[string]string{"a.yml": "files: []", "b.yml": "name: bee", "c/compose.yaml": "files: []", "c/.env": "PW=hunter2"})
	s, l := d.scanner()
	if got := outline(s.Scan(t.Context())); got != "a; bee; c" {
		t.Fatal(got)
	}
	load, panics := l.load, true
	s.load = func(ctx context.Context, f stackFile, o Options) (*Stack, []Finding) {
		switch {
		case panics && f.name == "b":
			panic("the password is hunter2")
		case panics && f.name == "c":
			var none []string
			_ = none[len(f.name)] //nolint:staticcheck // it is to panic
		}
		return load(ctx, f, o)
	}
	for _, file := range []string{"a.yml", "b.yml", "c/compose.yaml"} {
		d.write(file, map[string]string{"a.yml": "files: [] # 2", "b.yml": "name: bee # 2", "c/compose.yaml": "files: [] # 2"}[file])
	}
	snap := s.Scan(t.Context())
	if got := outline(snap); !snap.Complete || got != "a; bee: internal@b.yml; c: internal@c/compose.yaml" {
		t.Fatalf("%s, %v", got, snap.Err)
	}
	if snap.Gone("bee") || snap.Gone("c") || snap.Gone("other") {
		t.Error("something is gone")
	}
	for name, want := range map[string]string{"bee": "a string", "c": "index out of range"} {
		text := snap.Problems[name][0].String()
		if strings.Contains(text, "hunter2") || !strings.Contains(text, want) || !strings.Contains(text, "source_panic_test.go") {
			t.Errorf("told: %s", text)
		}
	}
	panics = false
	if got := outline(s.Scan(t.Context())); got != "a; bee; c" {
		t.Errorf("when it is mended: %s", got)
	}
}

// Should even looking for its name make skep panic, the stack keeps the one that it had.
func TestPanicTwice(t *testing.T) {
	d := newSpecs(t, map[string]string{"a.yml": "name: store", "b.yml": "files: []"})
	s, l := d.scanner()
	s.Scan(t.Context())
	load := l.load
	s.load = func(ctx context.Context, f stackFile, o Options) (*Stack, []Finding) {
		if f.name == "a" {
			panic("once")
		}
		return load(ctx, f, o)
	}
	at := site{stackFile: stackFile{file: "a.yml", name: "a", dotenv: ".env"}, key: "a.yml", files: []string{"a.yml"}} // without a root
	r := s.unread(t.Context(), at, "why")
	if !r.unsure || strings.Join(r.names, " ") != "a store" || r.memo.name != "store" || r.findings[0].Code != "internal" {
		t.Errorf("%+v", r)
	}
}
