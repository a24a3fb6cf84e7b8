package gitsync

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/skep-io/skep/spec"
)

func TestMain(m *testing.M) {
	// No test takes part in whatever the machine's own git is set up for.
	for name, value := range map[string]string{
		"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.DevNull, "GIT_TERMINAL_PROMPT": "0",
		"GIT_AUTHOR_NAME": "Ann", "GIT_AUTHOR_EMAIL": "ann@example.org",
		"GIT_COMMITTER_NAME": "Ann", "GIT_COMMITTER_EMAIL": "ann@example.org",
	} {
		os.Setenv(name, value)
	}
	goleak.VerifyTestMain(m)
}

// git runs the git program, and returns what it prints.
func git(t testing.TB, dir string, args ...string) string {
	t.Helper()
	return gitIn(t, dir, nil, args...)
}

func gitIn(t testing.TB, dir string, in []byte, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir, cmd.Stdin = dir, bytes.NewReader(in)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, &stderr)
	}
	return strings.TrimSpace(string(out))
}

// A repo is a repository with a work tree, made by the git program.
type repo struct {
	t   testing.TB
	dir string
}

func newRepo(t testing.TB) *repo {
	t.Helper()
	r := &repo{t, filepath.Join(t.TempDir(), "stacks")}
	git(t, ".", "init", "-q", "-b", "main", r.dir)
	git(t, r.dir, "config", "gc.auto", "0")
	return r
}

// commit writes files and commits them, and returns the commit.
func (r *repo) commit(message string, files map[string]string) string {
	r.t.Helper()
	for name, text := range files {
		writeFile(r.t, filepath.Join(r.dir, name), text)
	}
	git(r.t, r.dir, "add", "-A")
	git(r.t, r.dir, "commit", "-q", "--allow-empty", "-m", message)
	return git(r.t, r.dir, "rev-parse", "HEAD")
}

func (r *repo) git(args ...string) string {
	r.t.Helper()
	return git(r.t, r.dir, args...)
}

func (r *repo) url() string { return "file://" + r.dir }

func writeFile(t testing.TB, name, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

func readFile(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// stack is a stack's file.
func stack(image string) string {
	return fmt.Sprintf("services:\n  web:\n    image: %s\n", image)
}

// open makes a Source that the test closes.
func open(t testing.TB, cfg Config) *Source {
	t.Helper()
	if cfg.Cache == "" {
		cfg.Cache = t.TempDir()
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// looked looks once, and returns what State says then, and how often changed was called.
func looked(t testing.TB, s *Source) (changes int) {
	t.Helper()
	s.lookOnce(t.Context(), func() { changes++ })
	return changes
}

// wantCommit sees that a commit is in force, and that package spec takes it for that.
func wantCommit(t testing.TB, s *Source, commit string) *spec.Snapshot {
	t.Helper()
	if got := s.Status().Commit; got != commit {
		t.Fatalf("commit %q is in force, want %q (state: %v)", got, commit, s.State())
	}
	snap := spec.Scan(t.Context(), s.Dir(), spec.Options{})
	if !snap.Complete || snap.Commit == nil || snap.Commit.Hash != commit || snap.Commit.Dirty {
		t.Fatalf("the scan is complete %v (%v), of %+v; want commit %s", snap.Complete, snap.Err, snap.Commit, commit)
	}
	return snap
}

// wantState sees that a Source has a reason, or none, and words in its sentence.
func wantState(t testing.TB, s *Source, reason string, words ...string) {
	t.Helper()
	err := s.State()
	if got := spec.SourceReason(err); got != reason {
		t.Fatalf("the state is %q (%v), want %q", got, err, reason)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("state %q does not say %q", err, w)
		}
	}
}

// httpBackend serves the repositories in root as git's own program does.
func httpBackend(t testing.TB, root string) http.Handler {
	t.Helper()
	return &cgi.Handler{
		Path:   filepath.Join(git(t, ".", "--exec-path"), "git-http-backend"),
		Env:    []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_GLOBAL=" + filepath.Join(root, "..", "none"), "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*"},
		Stderr: os.Stderr,
	}
}

// basicAuth lets those in who know.
func basicAuth(h http.Handler, user, password func() string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if u, p, ok := r.BasicAuth(); !ok || u != user() || p != password() {
			w.Header().Set("WWW-Authenticate", "Basic")
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// eventually waits for something.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for !ok() {
		if !sleep(ctx, 5*time.Millisecond) {
			t.Fatalf("it never came about that %s", what)
		}
	}
}
