package spec

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// A repo is a git work tree in a test; its specs directory lies in a folder of it.
type repo struct {
	specsDir
	*git.Repository
	top string
}

func newRepo(t *testing.T, files map[string]string) repo {
	t.Helper()
	top, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	r := repo{specsDir: specsDir{t, filepath.Join(top, "deploy/specs")}, top: top}
	r.Repository, err = git.PlainInit(top, false)
	r.check(err)
	for name, text := range files {
		r.write(name, text)
	}
	return r
}

// commit commits all that is there.
func (r repo) commit(message string) string {
	r.Helper()
	w, err := r.Worktree()
	r.check(err)
	r.check(w.AddWithOptions(&git.AddOptions{All: true}))
	hash, err := w.Commit(message, &git.CommitOptions{
		AllowEmptyCommits: true,
		Author:            &object.Signature{Name: "specs test", Email: "specs@test.invalid", When: time.Unix(1000, 0)},
		Committer:         &object.Signature{Name: "specs test", Email: "specs@test.invalid", When: time.Unix(2000, 0)},
	})
	r.check(err)
	return hash.String()
}

func TestScanTellsTheCommit(t *testing.T) {
	r := newRepo(t, map[string]string{"a.yml": "x: 1", "b/compose.yml": "files: [./conf]", "b/conf": "1"})
	hash := r.commit("Deploy \x1b[31mthe shop  \n\nAnd why.\n")
	snap := r.scan()
	c := snap.Commit
	if c == nil || c.Hash != hash || c.Short != hash[:7] || c.Subject != "Deploy [31mthe shop" || c.Author != "specs test" || !c.Time.Equal(time.Unix(2000, 0)) || c.Dirty {
		t.Fatalf("commit %+v, want %s; findings %v", c, hash, snap.Findings)
	}
	if snap.Revision != hash[:7] {
		t.Errorf("revision %q", snap.Revision)
	}
	for _, stack := range snap.Stacks {
		if stack.Source.Commit != c || stack.Source.Revision != snap.Revision {
			t.Errorf("%s is of %q %+v", stack.Name, stack.Source.Revision, stack.Source.Commit)
		}
	}
}

func TestScanTellsDirtyFiles(t *testing.T) {
	cases := map[string]struct {
		change func(repo)
		dirty  bool
	}{
		"nothing":              {func(r repo) {}, false},
		"touched":              {func(r repo) { r.write("a.yml", "x: 1") }, false},
		"compose file changed": {func(r repo) { r.write("a.yml", "x: 2") }, true},
		"config's file":        {func(r repo) { r.write("b/conf", "2") }, true},
		"added":                {func(r repo) { r.write("c.yml", "x: 1") }, true},
		"variables added":      {func(r repo) { r.write("b/.env", "A=1") }, true},
		"unread file changed":  {func(r repo) { r.write("README.md", "2") }, false},
		"unread file added":    {func(r repo) { r.write("_x.yml", "2") }, false},
		"outside the specs":    {func(r repo) { r.write("../main.go", "2") }, false},
		"broken file changed":  {func(r repo) { r.write("a.yml", "x: [") }, true},
		"link's target":        {func(r repo) { r.write("_shared/x.yml", "x: 2") }, true},
		"link turned": {func(r repo) {
			r.write("_shared/y.yml", "x: 1")
			r.check(os.Remove(r.path("link.yml")))
			r.link("_shared/y.yml", "link.yml")
		}, true},
		"link made a file":     {func(r repo) { r.check(os.Remove(r.path("link.yml"))); r.write("link.yml", "x: 1") }, true},
		"folder link's target": {func(r repo) { r.write("_folder/compose.yml", "x: 2") }, true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := newRepo(t, map[string]string{
				"a.yml": "x: 1", "b/compose.yml": "files: [./conf]", "b/conf": "1", "README.md": "1", "../main.go": "1",
				"_shared/x.yml": "x: 1", "_folder/compose.yml": "x: 1",
			})
			r.link("_shared/x.yml", "link.yml")
			r.link("_folder", "folder")
			hash := r.commit("one")
			s, _ := r.scanner()
			if snap := s.Scan(context.Background()); snap.Commit == nil || snap.Commit.Dirty {
				t.Fatalf("%+v before the change", snap.Commit)
			}
			c.change(r)
			snap := s.Scan(context.Background())
			if snap.Commit == nil || snap.Commit.Hash != hash || snap.Commit.Dirty != c.dirty {
				t.Fatalf("%+v, want dirty %v; findings %v", snap.Commit, c.dirty, snap.Findings)
			}
			if want := map[bool]string{true: hash[:7] + "-dirty", false: hash[:7]}[c.dirty]; snap.Revision != want {
				t.Errorf("revision %q, want %q", snap.Revision, want)
			}
			hash = r.commit("two")
			if snap := s.Scan(context.Background()); snap.Commit == nil || snap.Commit.Hash != hash || snap.Commit.Dirty || snap.Commit.Subject != "two" {
				t.Errorf("%+v after the commit %s", snap.Commit, hash)
			}
		})
	}
}

func TestScanWithoutACommit(t *testing.T) {
	cases := map[string]struct {
		change func(repo)
		info   bool
	}{
		"no repository": {func(r repo) { r.check(os.RemoveAll(filepath.Join(r.top, ".git"))) }, false},
		"no commit":     {func(r repo) {}, false},
		"not in the commit": {func(r repo) {
			r.check(os.Rename(r.dir, r.dir+".x"))
			r.write("../a", "")
			r.commit("one")
			r.check(os.Rename(r.dir+".x", r.dir))
		}, false},
		"empty .git": {func(r repo) {
			r.check(os.RemoveAll(filepath.Join(r.top, ".git")))
			r.check(os.Mkdir(filepath.Join(r.top, ".git"), 0o755))
		}, true},
		".git leads nowhere": {func(r repo) {
			r.check(os.RemoveAll(filepath.Join(r.top, ".git")))
			r.check(os.WriteFile(filepath.Join(r.top, ".git"), []byte("gitdir: /nowhere\n"), 0o644))
		}, true},
		".git is nonsense": {func(r repo) {
			r.check(os.RemoveAll(filepath.Join(r.top, ".git")))
			r.check(os.WriteFile(filepath.Join(r.top, ".git"), []byte("\x00"), 0o644))
		}, true},
		"no objects": {func(r repo) { r.commit("one"); r.check(os.RemoveAll(filepath.Join(r.top, ".git/objects"))) }, true},
		"objects cut short": {func(r repo) {
			r.commit("one")
			r.check(filepath.Walk(filepath.Join(r.top, ".git/objects"), func(p string, fi os.FileInfo, err error) error {
				if err != nil || fi.IsDir() {
					return err
				}
				return os.Chmod(p, 0o644)
			}))
			r.check(filepath.Walk(filepath.Join(r.top, ".git/objects"), func(p string, fi os.FileInfo, err error) error {
				if err != nil || fi.IsDir() {
					return err
				}
				return os.Truncate(p, 5)
			}))
		}, true},
		"config is nonsense": {func(r repo) {
			r.commit("one")
			r.check(os.WriteFile(filepath.Join(r.top, ".git/config"), []byte("[[["), 0o644))
		}, true},
		"HEAD is nonsense": {func(r repo) {
			r.commit("one")
			r.check(os.WriteFile(filepath.Join(r.top, ".git/HEAD"), []byte("zzz"), 0o644))
		}, true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			r := newRepo(t, map[string]string{"a.yml": "x: 1"})
			c.change(r)
			snap := r.scan()
			if !snap.Complete || snap.Commit != nil || !strings.HasPrefix(snap.Revision, "sha256:") || len(snap.Stacks) != 1 {
				t.Errorf("complete %v (%v), commit %+v, revision %q, %s", snap.Complete, snap.Err, snap.Commit, snap.Revision, outline(snap))
			}
			if (len(snap.Findings) > 0) != c.info {
				t.Errorf("findings %v", snap.Findings)
			}
			for _, f := range snap.Findings {
				if f.Severity != Info || f.Code != "git-unreadable" {
					t.Error(f)
				}
			}
		})
	}
}

// linkWorktree makes a linked work tree of r's HEAD at dir, as `git worktree add`
// does: a .git file there, and a folder for it in the repository.
func (r repo) linkWorktree(dir, hash string, files map[string]string) {
	r.Helper()
	admin := filepath.Join(r.top, ".git/worktrees", filepath.Base(dir))
	r.check(os.MkdirAll(admin, 0o755))
	r.check(os.MkdirAll(dir, 0o755))
	for path, text := range map[string]string{
		filepath.Join(admin, "HEAD"):      hash + "\n",
		filepath.Join(admin, "commondir"): "../..\n",
		filepath.Join(admin, "gitdir"):    filepath.Join(dir, ".git") + "\n",
		filepath.Join(dir, ".git"):        "gitdir: " + admin + "\n",
	} {
		r.check(os.WriteFile(path, []byte(text), 0o644))
	}
	for name, text := range files {
		path := filepath.Join(dir, "deploy/specs", name)
		r.check(os.MkdirAll(filepath.Dir(path), 0o755))
		r.check(os.WriteFile(path, []byte(text), 0o644))
	}
}

// git-sync: every revision is a linked work tree, and a symlink is swapped.
func TestScanOfLinkedWorktrees(t *testing.T) {
	r := newRepo(t, map[string]string{"a.yml": "x: 1", "b.yml": "x: 1"})
	one := r.commit("one")
	r.write("a.yml", "x: 2")
	two := r.commit("two")
	base := t.TempDir()
	r.linkWorktree(filepath.Join(base, one), one, map[string]string{"a.yml": "x: 1", "b.yml": "x: 1"})
	r.linkWorktree(filepath.Join(base, two), two, map[string]string{"a.yml": "x: 2", "b.yml": "x: 1"})
	current := filepath.Join(base, "current")
	r.check(os.Symlink(one, current))

	s, l := specsDir{t, filepath.Join(current, "deploy/specs")}.scanner()
	if snap := s.Scan(context.Background()); snap.Revision != one[:7] {
		t.Fatalf("revision %q, want %s: %v %v", snap.Revision, one, snap.Err, snap.Findings)
	}
	l.total()
	r.check(os.Symlink(two, current+".tmp"))
	r.check(os.Rename(current+".tmp", current))
	snap := s.Scan(context.Background())
	if snap.Revision != two[:7] || snap.Stacks["a"].Source.Revision != two[:7] || snap.Stacks["b"].Source.Revision != two[:7] {
		t.Fatalf("revision %q, want %s: %v %v", snap.Revision, two, snap.Err, snap.Findings)
	}
	if n := l.total(); n != 1 {
		t.Errorf("%d stacks loaded where one changed", n)
	}
}

// A panic in the library is an error of reading git, no end of the daemon.
func TestGitPanicIsCaught(t *testing.T) {
	r := newRepo(t, map[string]string{"a.yml": "x: 1"})
	r.commit("one")
	var g gitSource
	file := gitFile{"a.yml", plumbing.ComputeHash(plumbing.BlobObject, []byte("x: 1"))}
	if c, err := g.at(r.dir, []gitFile{file}); c == nil || c.Dirty || err != nil {
		t.Fatalf("%+v, %v", c, err)
	}
	g.entries = nil // a write to it panics
	if c, err := g.at(r.dir, []gitFile{file}); c != nil || err == nil {
		t.Fatalf("%+v, %v", c, err)
	}
	if c, err := g.at(r.dir, []gitFile{file}); c == nil || err != nil {
		t.Fatalf("%+v, %v after the panic", c, err)
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"":                       "",
		"  Ship it\t":            "Ship it",
		"\x1b]0;x\a\u202eevil":   "]0;xevil",
		"Größe ändern":           "Größe ändern",
		strings.Repeat("ä", 300): strings.Repeat("ä", 199) + "…",
	} {
		if got := printable(in); got != want {
			t.Errorf("%q is shown as %q, want %q", in, got, want)
		}
	}
}

// Reading the same commit again costs little, however many files there are.
func BenchmarkGit(b *testing.B) {
	top := b.TempDir()
	r, err := git.PlainInit(top, false)
	if err != nil {
		b.Fatal(err)
	}
	var files []gitFile
	for i := range 1000 {
		name, text := fmt.Sprintf("s%d.yml", i), []byte(fmt.Sprint(i))
		if err := os.WriteFile(filepath.Join(top, name), text, 0o644); err != nil {
			b.Fatal(err)
		}
		files = append(files, gitFile{name, plumbing.ComputeHash(plumbing.BlobObject, text)})
	}
	w, err := r.Worktree()
	if err != nil {
		b.Fatal(err)
	}
	if err := w.AddGlob("."); err != nil {
		b.Fatal(err)
	}
	if _, err := w.Commit("one", &git.CommitOptions{Author: &object.Signature{Name: "specs test"}}); err != nil {
		b.Fatal(err)
	}
	var g gitSource
	for b.Loop() {
		if c, err := g.at(top, files); c == nil || c.Dirty || err != nil {
			b.Fatalf("%+v, %v", c, err)
		}
	}
}
