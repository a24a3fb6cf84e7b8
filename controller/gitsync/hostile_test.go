package gitsync

import (
	"bytes"
	"fmt"
	"io/fs"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skep-io/skep/spec"
)

// An item is an entry of a tree that the git program would not make by itself.
type item struct{ mode, name, hash string }

// blob, tree and commitTree write objects as they are told, whatever git thinks of them.
func (r *repo) blob(text string) string {
	r.t.Helper()
	return gitIn(r.t, r.dir, []byte(text), "hash-object", "-w", "--stdin")
}

func (r *repo) tree(items ...item) string {
	r.t.Helper()
	var raw bytes.Buffer
	for _, it := range items {
		fmt.Fprintf(&raw, "%s %s\x00", it.mode, it.name)
		for i := 0; i < len(it.hash); i += 2 {
			var b byte
			fmt.Sscanf(it.hash[i:i+2], "%02x", &b)
			raw.WriteByte(b)
		}
	}
	return gitIn(r.t, r.dir, raw.Bytes(), "hash-object", "-w", "-t", "tree", "--stdin", "--literally")
}

// put makes main a commit of a tree.
func (r *repo) put(tree string) string {
	r.t.Helper()
	c := git(r.t, r.dir, "commit-tree", "-m", "hostile", "-p", "main", tree)
	r.git("update-ref", "refs/heads/main", c)
	return c
}

// files lists what lies below a directory.
func files(t testing.TB, dir string) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		out[strings.TrimPrefix(path, dir)] = true
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Nothing of a hostile tree is believed, and nothing of it is written anywhere but below
// its own folder; the commit before stays.
func TestHostileTrees(t *testing.T) {
	parent := t.TempDir()
	r := newRepo(t)
	first := r.commit("one", map[string]string{"web.yml": stack("nginx:1")})
	text, dir := r.blob("evil\n"), r.tree(item{"100644", "evil", r.blob("evil\n")})
	link := func(target string) string { return r.blob(target) }
	deep := dir
	for range maxNesting + 2 {
		deep = r.tree(item{"40000", "d", deep})
	}
	bomb := dir
	for range 10 {
		var items []item
		for i := range 10 {
			items = append(items, item{"40000", fmt.Sprint("d", i), bomb})
		}
		bomb = r.tree(items...)
	}
	for name, test := range map[string]struct {
		reason, words string
		items         []item
	}{
		"above":                   {GitRefused, "leads out of its folder", []item{{"100644", "..", text}}},
		"above, a folder":         {GitRefused, "leads out of its folder", []item{{"40000", "..", dir}}},
		"itself":                  {GitRefused, "leads out of its folder", []item{{"40000", ".", dir}}},
		"a path":                  {GitRefused, "separator", []item{{"100644", "../../evil", text}}},
		"a path with backslashes": {GitRefused, "separator", []item{{"100644", `..\evil`, text}}},
		"an absolute path":        {GitRefused, "separator", []item{{"100644", "/tmp/evil", text}}},
		"no name":                 {GitRefused, "no name", []item{{"100644", "", text}}},
		"git's config":            {GitRefused, "git's own", []item{{"40000", ".git", r.tree(item{"100644", "config", text})}}},
		"git's file":              {GitRefused, "git's own", []item{{"100644", ".git", r.blob("gitdir: /tmp/evil\n")}}},
		"git in capitals":         {GitRefused, "git's own", []item{{"40000", ".GiT", dir}}},
		"git of HFS":              {GitRefused, "git's own", []item{{"40000", ".g\u200cit", dir}}},
		"git of NTFS":             {GitRefused, "git's own", []item{{"40000", "git~1", dir}}},
		"git below":               {GitRefused, "git's own", []item{{"40000", "sub", r.tree(item{"40000", ".git", dir})}}},
		"a link out":              {GitRefused, "leads out", []item{{"120000", "evil", link("../../../evil")}}},
		"an absolute link":        {GitRefused, "leads out", []item{{"120000", "evil", link("/etc/passwd")}}},
		"a link to nowhere":       {GitRefused, "leads out", []item{{"120000", "evil", link("")}}},
		"a link out by others": {GitRefused, "by way of others", []item{
			{"40000", "sub", r.tree(item{"120000", "up", link("..")})}, {"120000", "evil", link("sub/up/../evil")},
		}},
		"a link, and files through it": {GitRefused, "twice", []item{{"120000", "evil", link("sub")}, {"40000", "evil", dir}, {"40000", "sub", dir}}},
		"a name twice":                 {GitRefused, "twice", []item{{"100644", "a", text}, {"100755", "a", text}}},
		"a device":                     {GitRefused, "no file, folder", []item{{"60000", "sda", text}}},
		"a socket":                     {GitRefused, "no file, folder", []item{{"140000", "sock", text}}},
		"a mode that is none":          {GitRefused, "no file, folder", []item{{"", "a", text}}},
		"a name that is too long":      {GitRefused, "longer", []item{{"100644", strings.Repeat("a", 256), text}}},
		"a tree in place of a text":    {GitRefused, "where a blob should be", []item{{"100644", "a", dir}}},
		"a text in place of a tree":    {GitRefused, "where a tree should be", []item{{"40000", "a", text}}},
		"deep folders":                 {GitTooLarge, "deeper", []item{{"40000", "d", deep}}},
		"ten thousand million files":   {GitTooLarge, "more than 500 files", []item{{"40000", "d", bomb}}},
		"a huge file":                  {GitTooLarge, "64 KiB", []item{{"100644", "a", r.blob(strings.Repeat("x", 64<<10+1))}}},
		"a long link":                  {GitTooLarge, "4 KiB", []item{{"120000", "a", link(strings.Repeat("x", maxTarget+1))}}},
		"much together": {GitTooLarge, "together", []item{
			{"100644", "a", r.blob(strings.Repeat("x", 60<<10))}, {"100644", "b", r.blob(strings.Repeat("x", 60<<10))},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			r.git("update-ref", "refs/heads/main", first)
			cache := filepath.Join(parent, fmt.Sprint(t.Name()), "cache")
			s := open(t, Config{URL: r.url(), Cache: cache, Limits: Limits{Files: 500, File: 64 << 10, Tree: 100 << 10}})
			looked(t, s)
			wantCommit(t, s, first)
			outside := files(t, filepath.Dir(cache))
			r.put(r.tree(append([]item{{"100644", "web.yml", r.blob(stack("nginx:2"))}}, test.items...)...))
			looked(t, s)
			wantState(t, s, test.reason, test.words)
			wantCommit(t, s, first)
			for f := range files(t, filepath.Dir(cache)) {
				if !outside[f] && !strings.Contains(f, "/repo/") {
					t.Errorf("%s is there, and was not", f)
				}
			}
		})
	}
}

// 100,000 files are refused, by the limits that hold where nothing is said.
func TestManyFiles(t *testing.T) {
	r := newRepo(t)
	first := r.commit("one", map[string]string{"web.yml": stack("nginx:1")})
	s := open(t, Config{URL: r.url()})
	looked(t, s)
	text := r.blob("x\n")
	var in bytes.Buffer
	for i := range 100_000 {
		fmt.Fprintf(&in, "100644 blob %s\tf%d\n", text, i)
	}
	r.put(gitIn(t, r.dir, in.Bytes(), "mktree"))
	looked(t, s)
	wantState(t, s, GitTooLarge, "more than 20000 files and folders")
	wantCommit(t, s, first)
	before := s.State().Error()
	looked(t, s)
	if s.State().Error() != before {
		t.Errorf("the state was %s, is %v", before, s.State())
	}
}

// What a tree may have is written out as git does.
func TestOrdinaryTree(t *testing.T) {
	r := newRepo(t)
	r.commit("one", map[string]string{"web.yml": stack("nginx:1"), "sub/run.sh": "#!/bin/sh\n", "empty": "", ".gitignore": "x\n", ".gitattributes": "* filter=evil\n", "a b/ä\n": "x"})
	if err := os.Symlink("../web.yml", filepath.Join(r.dir, "sub", "link.yml")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("missing", filepath.Join(r.dir, "sub", "dangling")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("circle", filepath.Join(r.dir, "sub", "circle")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(r.dir, "sub", "run.sh"), 0o755); err != nil {
		t.Fatal(err)
	}
	r.commit("two", nil)
	r.git("update-index", "--add", "--cacheinfo", "160000,"+strings.Repeat("1", 40)+",module")
	r.git("commit", "-q", "-m", "three")
	commit := r.git("rev-parse", "HEAD")
	s := open(t, Config{URL: r.url()})
	looked(t, s)
	wantState(t, s, "")
	wantCommit(t, s, commit)
	at := func(name string) string { return filepath.Join(s.Dir(), name) }
	if info, err := os.Stat(at("sub/run.sh")); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("run.sh: %v, %v", info, err)
	}
	if info, err := os.Stat(at("web.yml")); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("web.yml: %v, %v", info, err)
	}
	if target, err := os.Readlink(at("sub/link.yml")); err != nil || target != "../web.yml" {
		t.Errorf("link.yml leads to %q, %v", target, err)
	}
	if entries, err := os.ReadDir(at("module")); err != nil || len(entries) != 0 {
		t.Errorf("the submodule has %v, %v", entries, err)
	}
	if text := readFile(t, at("a b/ä\n")); text != "x" {
		t.Errorf("text %q", text)
	}
	// Git itself finds that nothing differs.
	git(t, s.Dir(), "reset", "-q", commit)
	if diff := git(t, s.Dir(), "status", "--porcelain"); diff != "" {
		t.Errorf("git finds differences: %s", diff)
	}
	if d, err := spec.NewAncestry(s.Dir()).Descent(commit, commit+""); d != spec.DescentSame || err != nil {
		t.Errorf("%q, %v", d, err)
	}
}

func TestNames(t *testing.T) {
	for name, bad := range map[string]bool{
		"a": false, ".gitignore": false, ".gitmodules": false, ".github": false, "git": false, "git~": false, "git~x": false, "..a": false, "a..": false, "...": false, "a:b": false, ".gi": false,
		"": true, ".": true, "..": true, "a/b": true, `a\b`: true, "a\x00": true,
		".git": true, ".GIT": true, ".git ": true, ".git.": true, ".git. . ": true, ".git::$INDEX_ALLOCATION": true, ".git:x": true,
		"git~1": true, "GIT~2": true, "git~10": true, "git~1.": true, ".g\u200dit": true, "\ufeff.git": true, ".git\u206a": true,
		strings.Repeat("a", 255): false, strings.Repeat("a", 256): true,
	} {
		if got := badName(name); (got != "") != bad {
			t.Errorf("%q: %q", name, got)
		}
	}
}

// What a server says is told without what steers a terminal, and not at length.
func TestClean(t *testing.T) {
	for text, want := range map[string]string{
		"plain": "plain", " a\r\n b\t": "a   b", "\x1b[31mred": "[31mred", "a\u202eb": "ab", strings.Repeat("ä", 400): strings.Repeat("ä", maxSpoken/2) + "…",
	} {
		if got := clean(text); got != want {
			t.Errorf("%q is told as %q", text, got)
		}
	}
}

// A commit whose words are a book is refused, however it comes, and whatever it is to the
// one that is wanted: each is read as a whole.
func TestLargeCommits(t *testing.T) {
	r := newRepo(t)
	first := r.commit("one", map[string]string{"web.yml": stack("nginx:1")})
	srv := httptest.NewServer(httpBackend(t, filepath.Dir(r.dir)))
	defer srv.Close()
	for _, url := range []string{r.url(), srv.URL + "/stacks/.git"} {
		r.git("reset", "-q", "--hard", first)
		s := open(t, Config{URL: url})
		looked(t, s)
		wantState(t, s, "")
		gitIn(t, r.dir, []byte(strings.Repeat("word ", maxMeta/5+1)), "commit", "-q", "--allow-empty", "-F", "-")
		looked(t, s)
		wantState(t, s, GitTooLarge)
		wantCommit(t, s, first)
		r.commit("on top of it", map[string]string{"web.yml": stack("nginx:2")})
		looked(t, s)
		wantState(t, s, GitTooLarge)
		wantCommit(t, s, first)
	}
}
