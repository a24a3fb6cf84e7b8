package gitsync

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"go.uber.org/goleak"

	"github.com/skep-io/skep/spec"
)

// A ref that does not go on from where it was is not followed, until somebody allows it;
// when it comes back to what descends from the last commit, it is again.
func TestRewound(t *testing.T) {
	r := newRepo(t)
	first := r.commit("one", map[string]string{"web.yml": stack("nginx:1")})
	second := r.commit("two", map[string]string{"web.yml": stack("nginx:2")})
	cfg := Config{URL: r.url(), Cache: t.TempDir()}
	s := open(t, cfg)
	looked(t, s)
	wantCommit(t, s, second)

	r.git("reset", "-q", "--hard", first)
	if changes := looked(t, s); changes != 1 { // of what State says
		t.Errorf("%d changes were told, want 1", changes)
	}
	wantState(t, s, GitRewound, "moved back", first[:7], second[:7], "--git-allow-rewind")
	wantCommit(t, s, second)
	before := s.State().Error()
	if changes := looked(t, s); changes != 0 || s.State().Error() != before {
		t.Errorf("%d changes were told of what stays the same: %v", changes, s.State())
	}

	rewritten := r.commit("two again", map[string]string{"web.yml": stack("nginx:2b")})
	looked(t, s)
	wantState(t, s, GitRewound, "rewritten", rewritten[:7])
	wantCommit(t, s, second)

	r.git("reset", "-q", "--hard", second)
	third := r.commit("three", map[string]string{"web.yml": stack("nginx:3")})
	looked(t, s)
	wantState(t, s, "")
	wantCommit(t, s, third)

	r.git("reset", "-q", "--hard", rewritten)
	looked(t, s)
	wantState(t, s, GitRewound)
	s.Close()
	cfg.AllowRewind = true
	s = open(t, cfg)
	wantCommit(t, s, third)
	looked(t, s)
	wantState(t, s, "")
	wantCommit(t, s, rewritten)
}

// A history that shares nothing with the last commit is told from one that is too far
// away to see.
func TestUnrelatedHistory(t *testing.T) {
	r := newRepo(t)
	first := r.commit("one", map[string]string{"web.yml": stack("nginx:1")})
	s := open(t, Config{URL: r.url()})
	looked(t, s)
	r.git("checkout", "-q", "--orphan", "other")
	r.commit("other", map[string]string{"web.yml": stack("nginx:2")})
	r.git("branch", "-f", "main", "other")
	looked(t, s)
	wantState(t, s, GitRewound)
	wantCommit(t, s, first)
}

// manyCommits adds commits by git fast-import, each with a file of its own text.
func (r *repo) manyCommits(n int) string {
	r.t.Helper()
	var in strings.Builder
	for i := range n {
		text := stack(fmt.Sprint("nginx:", i))
		fmt.Fprintf(&in, "commit refs/heads/main\ncommitter Ann <ann@example.org> %d +0000\ndata 1\nx\n", 1_800_000_000+i)
		if i == 0 {
			fmt.Fprintf(&in, "from refs/heads/main^0\n")
		}
		fmt.Fprintf(&in, "M 100644 inline web.yml\ndata %d\n%s\n", len(text), text)
	}
	gitIn(r.t, r.dir, []byte(in.String()), "fast-import", "--quiet", "--force")
	return r.git("rev-parse", "main")
}

// Of 500 commits in a burst the newest is taken, with one checkout, and it is seen that
// it descends from the last one, though that is further away than is fetched at first.
func TestBurst(t *testing.T) {
	for name, serve := range map[string]func(r *repo) string{
		"file": (*repo).url,
		"http": func(r *repo) string {
			srv := httptest.NewServer(httpBackend(t, filepath.Dir(r.dir)))
			t.Cleanup(srv.Close)
			return srv.URL + "/stacks/.git"
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRepo(t)
			r.commit("one", map[string]string{"web.yml": stack("nginx:1")})
			r.manyCommits(100) // so that the first fetch is shallow
			s := open(t, Config{URL: serve(r)})
			looked(t, s)
			wantState(t, s, "")
			newest := r.manyCommits(500)
			if changes := looked(t, s); changes != 1 {
				t.Errorf("%d changes were told, want 1", changes)
			}
			wantState(t, s, "")
			wantCommit(t, s, newest)
			trees, err := os.ReadDir(filepath.Join(s.cfg.Cache, "trees"))
			if err != nil || len(trees) != 2 {
				t.Errorf("%d trees, want the last and the one before: %v", len(trees), err)
			}
			git(t, s.Dir(), "fsck", "--connectivity-only") // what git itself thinks of the cache
		})
	}
}

// What the remote loses, and when it cannot be asked, leaves the last commit in force.
func TestGoneAndBack(t *testing.T) {
	r := newRepo(t)
	commit := r.commit("one", map[string]string{"web.yml": stack("nginx:1")})
	s := open(t, Config{URL: r.url()})
	looked(t, s)
	r.git("branch", "-m", "main", "other")
	looked(t, s)
	wantState(t, s, GitRefGone, "no branch or tag main", commit[:7]+" stays in force")
	wantCommit(t, s, commit)
	r.git("branch", "-m", "other", "main")
	looked(t, s)
	wantState(t, s, "")

	away := r.dir + ".away"
	if err := os.Rename(r.dir, away); err != nil {
		t.Fatal(err)
	}
	looked(t, s)
	wantState(t, s, GitUnreachable, "the remote was last heard of at")
	before := s.State().Error()
	if changes := looked(t, s); changes != 0 || s.State().Error() != before {
		t.Errorf("%d changes; the state was %s, is %v", changes, before, s.State())
	}
	wantCommit(t, s, commit)
	if err := os.Rename(away, r.dir); err != nil {
		t.Fatal(err)
	}
	next := r.commit("two", map[string]string{"web.yml": stack("nginx:2")})
	looked(t, s)
	wantState(t, s, "")
	wantCommit(t, s, next)
}

// Tags are followed as branches are, annotated ones too; a branch comes first.
func TestRefs(t *testing.T) {
	r := newRepo(t)
	first := r.commit("one", map[string]string{"web.yml": stack("nginx:1")})
	r.git("tag", "-a", "-m", "one", "v1")
	r.git("tag", "light")
	r.git("tag", "-a", "-m", "a tag of a tag", "v1-again", "v1")
	r.git("tag", "both")
	second := r.commit("two", map[string]string{"web.yml": stack("nginx:2")})
	r.git("branch", "both")
	srv := httptest.NewServer(httpBackend(t, filepath.Dir(r.dir)))
	defer srv.Close()
	for ref, want := range map[string]string{
		"v1": first, "light": first, "v1-again": first, "refs/tags/v1": first, "both": second, "refs/tags/both": first, "refs/heads/main": second, "HEAD": second,
	} {
		for _, u := range []string{r.url(), srv.URL + "/stacks/.git"} {
			s := open(t, Config{URL: u, Ref: ref})
			looked(t, s)
			wantState(t, s, "")
			wantCommit(t, s, want)
		}
	}
	blob := gitIn(t, r.dir, []byte("text"), "hash-object", "-w", "--stdin")
	r.git("tag", "blob", blob)
	s := open(t, Config{URL: r.url(), Ref: "blob"})
	looked(t, s)
	wantState(t, s, GitRefused, "not about a commit")
}

// Below Path alone is written out, and what is missing there is told.
func TestPath(t *testing.T) {
	r := newRepo(t)
	first := r.commit("one", map[string]string{"deep/stacks/web.yml": stack("nginx:1"), "big/file": "x", "web.yml": stack("no")})
	s := open(t, Config{URL: r.url(), Path: "/deep/stacks/"})
	looked(t, s)
	snap := wantCommit(t, s, first)
	if len(snap.Stacks) != 1 || snap.Stacks["web"] == nil {
		t.Errorf("stacks %v", snap.Stacks)
	}
	if _, err := os.Stat(filepath.Join(s.Dir(), "..", "..", "big")); err == nil {
		t.Error("what nobody asked for is written out")
	}
	r.git("mv", "deep", "elsewhere")
	r.commit("two", nil)
	looked(t, s)
	wantState(t, s, GitPathGone, "no folder deep")
	wantCommit(t, s, first)
}

// A start uses what the cache has, before anybody is asked, and without the remote.
func TestOfflineStart(t *testing.T) {
	r := newRepo(t)
	commit := r.commit("one", map[string]string{"web.yml": stack("nginx:1")})
	cfg := Config{URL: r.url(), Cache: t.TempDir()}
	s := open(t, cfg)
	looked(t, s)
	if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), "belongs to another process") {
		t.Errorf("a second source got the same cache: %v", err)
	}
	s.Close()
	if err := os.Rename(r.dir, r.dir+".away"); err != nil {
		t.Fatal(err)
	}
	s = open(t, cfg)
	wantCommit(t, s, commit)
	wantState(t, s, GitNotRead, commit[:7]+" stays in force")
	looked(t, s)
	wantState(t, s, GitUnreachable, commit[:7]+" stays in force")
	wantCommit(t, s, commit)
}

// A cache of another repository, ref or path is begun anew; what was left midway goes.
func TestCacheOfSomethingElse(t *testing.T) {
	r := newRepo(t)
	r.commit("one", map[string]string{"web.yml": stack("nginx:1"), "sub/web.yml": stack("nginx:2")})
	r.git("branch", "prod")
	cfg := Config{URL: r.url(), Cache: t.TempDir()}
	s := open(t, cfg)
	looked(t, s)
	s.Close()
	pack := filepath.Join(cfg.Cache, "repo", "1", ".git", "objects", "pack", tempPrefix+"1")
	tree := filepath.Join(cfg.Cache, "trees", tempPrefix+"x", "web.yml")
	writeFile(t, pack, "x")
	writeFile(t, tree, "x")
	s = open(t, cfg)
	for _, left := range []string{pack, tree} {
		if _, err := os.Stat(left); err == nil {
			t.Errorf("%s is left", left)
		}
	}
	if s.Status().Commit == "" {
		t.Error("the cache of the same source was not used")
	}
	s.Close()
	for _, change := range []func(*Config){func(c *Config) { c.Ref = "prod" }, func(c *Config) { c.Path = "sub" }, func(c *Config) { c.URL += "/." }} {
		change(&cfg)
		s = open(t, cfg)
		if s.Status().Commit != "" {
			t.Errorf("%+v begins with the commit of something else", cfg)
		}
		looked(t, s)
		wantState(t, s, "")
		s.Close()
	}
}

// A damaged cache mends itself, and what is in force stays so meanwhile.
func TestDamagedCache(t *testing.T) {
	r := newRepo(t)
	first := r.commit("one", map[string]string{"web.yml": stack("nginx:1"), "same.txt": "this does not change\n"})
	s := open(t, Config{URL: r.url()})
	looked(t, s)
	packs, err := filepath.Glob(filepath.Join(s.cfg.Cache, "repo", "1", ".git", "objects", "pack", "*"))
	if err != nil || len(packs) == 0 {
		t.Fatal(packs, err)
	}
	// Its index has the trees and texts no more, and still the commits.
	for _, p := range packs {
		if err := os.Remove(p); err != nil {
			t.Fatal(err)
		}
	}
	tree := r.git("rev-parse", "HEAD^{tree}")
	for _, o := range []string{"commit " + first, "tree " + tree} {
		kind, hash, _ := strings.Cut(o, " ")
		text := r.git("cat-file", kind, hash) + "\n"
		if kind == "tree" {
			continue
		}
		gitIn(t, filepath.Join(s.cfg.Cache, "repo", "1"), []byte(text), "hash-object", "-w", "-t", kind, "--stdin", "--literally")
	}
	second := r.commit("two", map[string]string{"web.yml": stack("nginx:2")})
	looked(t, s)
	wantState(t, s, "")
	wantCommit(t, s, second)
	if text := readFile(t, filepath.Join(s.Dir(), "same.txt")); text != "this does not change\n" {
		t.Errorf("same.txt is %q", text)
	}
	if err := os.RemoveAll(filepath.Join(s.cfg.Cache, "trees")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(s.cfg.Cache, "trees"), 0o700); err != nil {
		t.Fatal(err)
	}
	looked(t, s)
	wantState(t, s, "")
	wantCommit(t, s, second)
}

// A store with many packs is replaced by a new one.
func TestStoreIsRenewed(t *testing.T) {
	r := newRepo(t)
	var last string
	s := open(t, Config{URL: r.url()})
	s.cache.packs = 4
	for i := range s.cache.packs + 2 {
		last = r.manyOrOne(i)
		looked(t, s)
		wantState(t, s, "")
	}
	wantCommit(t, s, last)
	stores := s.cache.stores()
	if len(stores) == 0 || stores[len(stores)-1] < 2 {
		t.Errorf("the stores are %v", stores)
	}
	last = r.manyOrOne(1000)
	looked(t, s)
	wantCommit(t, s, last)
	if stores = s.cache.stores(); len(stores) != 1 {
		t.Errorf("old stores are left: %v", stores)
	}
}

func (r *repo) manyOrOne(i int) string {
	return r.commit(fmt.Sprint(i), map[string]string{"web.yml": stack(fmt.Sprint("nginx:", i))})
}

// A repository in a directory that has the git library panic fails its source, and not
// the process.
func TestPanicOfTheLibrary(t *testing.T) {
	p := &packing{ctx: t.Context(), objects: []plumbing.Hash{{1}}} // without a repository
	d := p.deliver()
	defer d.close()
	if _, err := io.ReadAll(d.pack); err == nil || !strings.Contains(err.Error(), "cannot be read") {
		t.Errorf("the error is %v", err)
	}
}

// Looks are counted by what came of them.
func TestLooksAreCounted(t *testing.T) {
	r := newRepo(t)
	r.commit("one", map[string]string{"web.yml": stack("nginx:1")})
	s := open(t, Config{URL: r.url()})
	for _, step := range []struct {
		do   func()
		want string
	}{
		{func() {}, LookChanged}, {func() {}, LookUnchanged},
		{func() { r.git("branch", "-m", "main", "other") }, LookRefused},
		{func() {
			if err := os.Rename(r.dir, r.dir+".away"); err != nil {
				t.Fatal(err)
			}
		}, LookFailed},
	} {
		step.do()
		before := s.Status()
		looked(t, s)
		after := s.Status()
		for _, result := range LookResults() {
			n, counted := after.Looks[result]
			if n-before.Looks[result] != uint64(boolInt(result == step.want)) || !counted {
				t.Errorf("%s: %v after %v", step.want, after.Looks, before.Looks)
			}
		}
		if step.want != LookFailed && !after.Heard.After(before.Heard) || step.want == LookFailed && after.Heard != before.Heard {
			t.Errorf("%s: heard at %s after %s", step.want, after.Heard, before.Heard)
		}
	}
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// A disk that is full leaves the last commit in force and nothing half-written behind.
func TestDiskFull(t *testing.T) {
	r := newRepo(t)
	first := r.commit("one", map[string]string{"web.yml": stack("nginx:1")})
	s := open(t, Config{URL: r.url()})
	looked(t, s)
	written := 0
	s.cache.write = func(f *os.File, r io.Reader) (int64, error) {
		if written++; written > 3 {
			_, _ = f.WriteString("half")
			return 4, &os.PathError{Op: "write", Path: f.Name(), Err: syscall.ENOSPC}
		}
		return io.Copy(f, r)
	}
	second := r.commit("two", map[string]string{"web.yml": stack("nginx:2"), "a": "1", "b": "2", "c": "3", "d": "4"})
	looked(t, s)
	wantState(t, s, GitCacheFull, "no space left", first[:7])
	wantCommit(t, s, first)
	trees, err := os.ReadDir(filepath.Join(s.cfg.Cache, "trees"))
	if err != nil || len(trees) != 1 {
		t.Errorf("trees are left: %v, %v", trees, err)
	}
	written = -1000
	looked(t, s)
	wantState(t, s, "")
	wantCommit(t, s, second)
}

// A look that is cut off by the end of all says nothing.
func TestCutOff(t *testing.T) {
	r := newRepo(t)
	r.commit("one", map[string]string{"web.yml": stack("nginx:1")})
	backend := httpBackend(t, filepath.Dir(r.dir))
	release := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			w.Header().Set("Content-Type", "application/x-git-upload-pack-result")
			_, _ = io.WriteString(w, "0000")
			w.(http.Flusher).Flush()
			<-release
			return
		}
		backend.ServeHTTP(w, r)
	}))
	defer srv.Close()
	defer close(release)
	s := open(t, Config{URL: srv.URL + "/stacks/.git"})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	s.lookOnce(ctx, func() { t.Error("a look that was cut off is told") })
	wantState(t, s, GitNotRead)
}

// A silent remote answers, and then never sends what it promised.
type silent struct{ mute }

func (silent) fetch(ctx context.Context, _ request) (*delivery, error) {
	return &delivery{pack: blocked{ctx}, close: func() error { return nil }}, nil
}

type blocked struct{ ctx context.Context }

func (b blocked) Read([]byte) (int, error) {
	<-b.ctx.Done()
	return 0, b.ctx.Err()
}

// A look that never comes back, as of a mount that hangs, is told when it is overdue; what
// it comes back with counts again.
func TestLookThatHangs(t *testing.T) {
	r := newRepo(t)
	r.commit("one", map[string]string{"web.yml": stack("nginx:1")})
	now := time.Date(2024, 5, 1, 12, 0, 0, 0, time.UTC)
	var clock sync.Mutex
	s := open(t, Config{URL: r.url(), Now: func() time.Time {
		clock.Lock()
		defer clock.Unlock()
		return now
	}})
	looked(t, s)
	asked, release := make(chan struct{}), make(chan struct{})
	s.dial = func(c *Config, at address) (connection, error) {
		close(asked)
		<-release
		return dial(c, at)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.lookOnce(t.Context(), func() {})
	}()
	<-asked
	pass := func(d time.Duration) {
		clock.Lock()
		defer clock.Unlock()
		now = now.Add(d)
	}
	pass(fetchLimit)
	wantState(t, s, "")
	pass(overdueAfter)
	wantState(t, s, GitUnreachable, "since 2024-05-01T12:00:00Z", "hangs")
	close(release)
	<-done
	wantState(t, s, "")
}

// A remote that stops in the middle is given up.
func TestStall(t *testing.T) {
	s := open(t, Config{URL: "file:///nowhere"})
	synctest.Test(t, func(t *testing.T) {
		st, _, err := s.cache.store()
		if err != nil {
			t.Fatal(err)
		}
		f := &fetching{s: s, remote: silent{}, adv: packp.NewAdvRefs(), st: st}
		begun := time.Now()
		err = f.fetchTo(t.Context(), 1)
		if reasonOf(err) != GitUnreachable || !strings.Contains(err.Error(), "nothing came for") {
			t.Errorf("the error is %v", err)
		}
		if d := time.Since(begun); d > headerLimit {
			t.Errorf("it took %s", d)
		}
	})
}

func TestDelay(t *testing.T) {
	for _, test := range []struct {
		fails  int
		chance float64
		want   time.Duration
	}{
		{0, 0.5, time.Minute}, {0, 0, 54 * time.Second}, {0, 1, 66 * time.Second},
		{1, 0.5, time.Minute}, {2, 0.5, 2 * time.Minute}, {3, 0.5, 4 * time.Minute}, {4, 0.5, 5 * time.Minute}, {1000, 0.5, 5 * time.Minute}, {1000, 1, 330 * time.Second},
	} {
		if got := delay(time.Minute, test.fails, test.chance).Round(time.Second); got != test.want {
			t.Errorf("after %d failures, chance %g: %s, want %s", test.fails, test.chance, got, test.want)
		}
	}
}

// A mute is a remote that never has anything, and counts who asks.
type mute struct{ asked *atomic.Int32 }

func (m mute) refs(context.Context) (*packp.AdvRefs, error) {
	m.asked.Add(1)
	return nil, errors.New("nobody is at home")
}
func (m mute) fetch(context.Context, request) (*delivery, error) { panic("nothing was found") }
func (m mute) secrets() []string                                 { return nil }
func (m mute) end()                                              {}

// A flood of wishes is one look a second, none is lost, and failures make it slower.
func TestLooksAreFew(t *testing.T) {
	cfg := Config{URL: "file:///nowhere", Cache: t.TempDir(), Interval: time.Minute}
	synctest.Test(t, func(t *testing.T) {
		s, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		var asked, changes atomic.Int32
		s.dial = func(*Config, address) (connection, error) { return mute{&asked}, nil }
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.Run(ctx, func() { changes.Add(1) })
		}()
		defer func() {
			cancel()
			<-done
		}()
		synctest.Wait()
		if asked.Load() != 1 {
			t.Fatalf("%d looks at the start", asked.Load())
		}
		for range 50 { // five seconds of them
			for range 10 {
				go s.Look()
			}
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(2 * lookGap)
		if n := asked.Load(); n < 5 || n > 8 {
			t.Errorf("%d looks in five seconds", n)
		}
		before := asked.Load()
		time.Sleep(31 * time.Minute)
		if n := asked.Load() - before; n < 5 || n > 8 {
			t.Errorf("%d looks in half an hour of failures, want one in about five minutes", n)
		}
		before = asked.Load()
		s.Look()
		time.Sleep(time.Millisecond)
		if n := asked.Load() - before; n != 1 {
			t.Errorf("%d looks at once when asked", n)
		}
		if changes.Load() != 1 {
			t.Errorf("%d changes were told of one that lasts", changes.Load())
		}
		wantState(t, s, GitUnreachable, "nobody is at home")
	})
}

// Run follows a real repository, and leaves nothing behind.
func TestRun(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	r := newRepo(t)
	r.commit("one", map[string]string{"web.yml": stack("nginx:1")})
	s := open(t, Config{URL: r.url(), Interval: 50 * time.Millisecond})
	ctx, cancel := context.WithCancel(t.Context())
	var changes atomic.Int32
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Run(ctx, func() { changes.Add(1) })
	}()
	defer func() {
		cancel()
		<-done
	}()
	eventually(t, "the first commit came", func() bool { return s.State() == nil && changes.Load() == 1 })
	second := r.commit("two", map[string]string{"web.yml": stack("nginx:2")})
	eventually(t, "the second commit came", func() bool { return s.Status().Commit == second && changes.Load() == 2 })
	// Whoever reads meanwhile sees whole commits.
	scanner := spec.NewScanner(s.Dir(), spec.Options{})
	for i := range 5 {
		r.commit("more", map[string]string{"web.yml": stack(fmt.Sprint("nginx:1", i)), "db.yml": stack(fmt.Sprint("nginx:1", i))})
		snap := scanner.Scan(t.Context())
		if !snap.Complete {
			t.Errorf("the scan is not complete: %v", snap.Err)
		}
	}
}
