package spec

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
	"pgregory.net/rapid"
)

// refRepo has the commits one, two and three on main, a branch and tags, and is checked
// out at three, with something that is not committed.
func refRepo(t *testing.T) (r repo, hashes []string) {
	t.Helper()
	r = newRepo(t, map[string]string{"shop/compose.yml": refShop(1), "shop/.env": "A=1\n", "shop/site.conf": "1"})
	hashes = append(hashes, r.commit("one"))
	r.write("shop/compose.yml", refShop(2))
	hashes = append(hashes, r.commit("two"))
	r.write("new.yml", refShop(3))
	hashes = append(hashes, r.commit("three"))
	r.write("shop/compose.yml", "broken: [")
	for name, hash := range map[string]string{
		"refs/heads/next": hashes[0], "refs/heads/feature/a.b": hashes[1], "refs/remotes/origin/main": hashes[0],
		"refs/remotes/up/HEAD": hashes[1], "refs/tags/v1": hashes[0], "refs/tags/both": hashes[0], "refs/heads/both": hashes[1],
		"refs/heads/" + hashes[2][:6]: hashes[0],
	} {
		r.check(r.Storer.SetReference(plumbing.NewHashReference(plumbing.ReferenceName(name), plumbing.NewHash(hash))))
	}
	_, err := r.CreateTag("v2", plumbing.NewHash(hashes[1]), &git.CreateTagOptions{Message: "m", Tagger: &object.Signature{Name: "x", Email: "x@test.invalid"}})
	r.check(err)
	return r, hashes
}

func refShop(n int) string {
	return fmt.Sprintf("services:\n  web:\n    image: shop:%d\n    volumes: [./data:/data]\n", n)
}

func TestOpenRefFindsCommits(t *testing.T) {
	r, hashes := refRepo(t)
	one, two, three := hashes[0], hashes[1], hashes[2]
	for ref, want := range map[string]string{
		"HEAD": three, "HEAD~1": two, "HEAD^": two, "HEAD~~": one, "HEAD^1~1": one, "HEAD~0": three, "HEAD^0": three,
		"next": one, "heads/next": one, "refs/heads/next": one, "feature/a.b": two, "origin/main": one, "up": two,
		"v1": one, "v2": two, "v2~1": one, "refs/tags/v2": two, "both": one, // as git: the tag
		one: one, strings.ToUpper(two): two, two[:7]: two, three[:6]: one, // a branch of this name
	} {
		tree, err := OpenRef(t.Context(), r.dir, ref)
		if err != nil {
			t.Errorf("%s: %v", ref, err)
			continue
		}
		if tree.Commit.Hash != want {
			t.Errorf("%s is %s, want %s", ref, tree.Commit.Hash, want)
		}
		r.check(tree.Close())
	}
	for ref, want := range map[string]string{
		"nosuch": "no such branch", "": "no name", "~1": "no such branch", "HEAD~9": "no such parent", "HEAD^2": "no such parent",
		"config": "no such branch", "../x": "no such branch", "refs/heads/../../config": "no such branch", "-x": "no such branch",
		strings.Repeat("0", 40): "no such branch", "HEAD@{1}": "no such branch", ":/two": "no such branch", "HEAD:x": "no such branch",
		"a\x1b[2Jb": `"a\x1b[2Jb"`, "abc": "no such branch",
	} {
		tree, err := OpenRef(t.Context(), r.dir, ref)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\x1b") {
			t.Errorf("%q: %v, want %q", ref, err, want)
		}
		if tree != nil {
			r.check(tree.Close())
		}
	}
}

// A short hash that is of two commits is of none.
func TestOpenRefRefusesAmbiguousHashes(t *testing.T) {
	r := newRepo(t, map[string]string{"a.yml": refShop(1)})
	seen := map[string]bool{}
	for i := 0; ; i++ {
		hash := r.commit(fmt.Sprint("commit ", i))[:4]
		if seen[hash] {
			_, err := OpenRef(t.Context(), r.dir, hash)
			if err == nil || !strings.Contains(err.Error(), "2 commits begin like this") {
				t.Errorf("%s: %v", hash, err)
			}
			return
		}
		seen[hash] = true
	}
}

// What a ref says is what a checkout of it would: the same stacks, revision, and paths.
func TestOpenRefIsAsACheckout(t *testing.T) {
	temporary := t.TempDir()
	t.Setenv("TMPDIR", temporary)
	r, hashes := refRepo(t)
	before := r.listing()
	tree, err := OpenRef(t.Context(), r.dir, "feature/a.b")
	r.check(err)
	snap := tree.Scan(t.Context(), Options{})
	if info, err := os.Stat(tree.place); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the copy is open to others: %v, %v", info.Mode(), err)
	}
	r.check(tree.Close())
	if left, _ := os.ReadDir(temporary); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if after := r.listing(); after != before {
		t.Errorf("the repository changed from\n%s\nto\n%s", before, after)
	}
	if !snap.Complete || snap.Err != nil || len(snap.Problems) > 0 {
		t.Fatalf("%v, %v", snap.Err, snap.Problems)
	}
	if snap.Revision != hashes[1][:7] || snap.Commit == nil || snap.Commit.Hash != hashes[1] || snap.Commit.Dirty {
		t.Errorf("revision %s, commit %+v, want %s", snap.Revision, snap.Commit, hashes[1])
	}
	w, err := r.Worktree()
	r.check(err)
	r.check(w.Checkout(&git.CheckoutOptions{Hash: plumbing.NewHash(hashes[1]), Force: true}))
	want := Scan(t.Context(), r.dir, Options{})
	if len(snap.Stacks) != 1 || snap.Stacks["shop"] == nil || want.Stacks["shop"] == nil {
		t.Fatalf("stacks %v, want shop", snap.Stacks)
	}
	got, shop := snap.Stacks["shop"], want.Stacks["shop"]
	if got.Source.Fingerprint != shop.Source.Fingerprint || got.Source.File != shop.Source.File || got.Source.Revision != shop.Source.Revision {
		t.Errorf("source %+v, want %+v", got.Source, shop.Source)
	}
	if a, b := fmt.Sprintf("%+v", got.Services[0].Spec.TaskTemplate.ContainerSpec.Mounts), fmt.Sprintf("%+v", shop.Services[0].Spec.TaskTemplate.ContainerSpec.Mounts); a != b || !strings.Contains(a, r.dir) {
		t.Errorf("mounts %s, want %s", a, b)
	}
	if a, b := fmt.Sprint(got.Findings), fmt.Sprint(shop.Findings); a != b || strings.Contains(a, temporary) {
		t.Errorf("findings %s, want %s", a, b)
	}
}

// listing is every file of the work tree and of its git directory, with its content.
func (r repo) listing() string {
	var b strings.Builder
	r.check(filepath.Walk(r.top, func(name string, info os.FileInfo, err error) error {
		if err != nil || info.IsDir() {
			return err
		}
		text, err := os.ReadFile(name)
		fmt.Fprintf(&b, "%s %x\n", name, plumbing.ComputeHash(plumbing.BlobObject, text))
		return err
	}))
	return b.String()
}

// A linked work tree, as `git worktree` makes them, shows the refs of all.
func TestOpenRefOfALinkedWorkTree(t *testing.T) {
	r, hashes := refRepo(t)
	tree, err := OpenRef(t.Context(), r.dir, "next")
	r.check(err)
	defer func() { r.check(tree.Close()) }()
	again, err := OpenRef(t.Context(), tree.copied, "v2")
	r.check(err)
	defer func() { r.check(again.Close()) }()
	if snap := again.Scan(t.Context(), Options{}); snap.Commit == nil || snap.Commit.Hash != hashes[1] {
		t.Errorf("%+v, %v", snap.Commit, snap.Err)
	}
}

// The directory need not be there in the work tree, and may be missing in the ref.
func TestOpenRefOfOtherDirectories(t *testing.T) {
	r, _ := refRepo(t)
	r.check(os.RemoveAll(r.dir))
	tree, err := OpenRef(t.Context(), r.dir, "HEAD")
	r.check(err)
	if snap := tree.Scan(t.Context(), Options{}); !snap.Complete || len(snap.Stacks) != 2 {
		t.Errorf("%v, %v", snap.Stacks, snap.Err)
	}
	r.check(tree.Close())
	for dir, want := range map[string]string{
		filepath.Join(r.top, "nosuch"):                        "there is no ",
		filepath.Join(r.top, "deploy/specs/shop/compose.yml"): "is not a directory",
		t.TempDir(): "is in no git repository",
	} {
		if _, err := OpenRef(t.Context(), dir, "HEAD"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", dir, err, want)
		}
	}
	tree, err = OpenRef(t.Context(), filepath.Join(r.top, "deploy/specs/shop"), "HEAD")
	r.check(err)
	snap := tree.Scan(t.Context(), Options{})
	if snap.Complete && snap.Err == nil && strings.Contains(fmt.Sprint(snap.Problems), tree.place) || snap.Err != nil && strings.Contains(snap.Err.Error(), tree.place) {
		t.Errorf("names where the copy was: %v, %v", snap.Problems, snap.Err)
	}
	r.check(tree.Close())
}

// A rawEntry is an entry of a tree as no git would make it: it stands as it is given.
type rawEntry struct {
	name    string
	mode    filemode.FileMode
	content string
	sub     []rawEntry
}

func (r repo) rawTree(entries []rawEntry) plumbing.Hash {
	var t object.Tree
	for _, e := range entries {
		var hash plumbing.Hash
		switch {
		case e.mode == filemode.Dir:
			hash = r.rawTree(e.sub)
		case e.mode != filemode.Submodule:
			o := r.Storer.NewEncodedObject()
			o.SetType(plumbing.BlobObject)
			w, err := o.Writer()
			r.check(err)
			_, err = w.Write([]byte(e.content))
			r.check(err)
			r.check(w.Close())
			hash, err = r.Storer.SetEncodedObject(o)
			r.check(err)
		default:
			hash = plumbing.NewHash(strings.Repeat("1", 40))
		}
		t.Entries = append(t.Entries, object.TreeEntry{Name: e.name, Mode: e.mode, Hash: hash})
	}
	// By hand: go-git encodes no tree that is out of order.
	o := r.Storer.NewEncodedObject()
	o.SetType(plumbing.TreeObject)
	w, err := o.Writer()
	r.check(err)
	for _, e := range t.Entries {
		_, err := fmt.Fprintf(w, "%o %s\x00%s", uint32(e.Mode), e.Name, e.Hash[:])
		r.check(err)
	}
	r.check(w.Close())
	hash, err := r.Storer.SetEncodedObject(o)
	r.check(err)
	return hash
}

func (r repo) rawCommit(entries []rawEntry) string {
	c := object.Commit{Message: "raw", TreeHash: r.rawTree([]rawEntry{{name: "deploy", mode: filemode.Dir, sub: []rawEntry{{name: "specs", mode: filemode.Dir, sub: entries}}}})}
	o := r.Storer.NewEncodedObject()
	r.check(c.Encode(o))
	hash, err := r.Storer.SetEncodedObject(o)
	r.check(err)
	return hash.String()
}

// Whatever a commit has in it: nothing is written outside of the private place, nothing
// outside is read, and nothing stays behind.
func TestOpenRefOfHostileTrees(t *testing.T) {
	r := newRepo(t, map[string]string{"a.yml": refShop(1)})
	r.commit("one")
	base, outside := t.TempDir(), t.TempDir()
	t.Setenv("TMPDIR", base)
	r.check(os.WriteFile(filepath.Join(outside, "compose.yml"), []byte(refShop(1)), 0o600))
	good := rawEntry{name: "a.yml", mode: filemode.Regular, content: refShop(1)}
	deep := []rawEntry{good}
	for range 7 {
		deep = []rawEntry{{name: "d", mode: filemode.Dir, sub: deep}}
	}
	var many []rawEntry
	for i := range 11 {
		many = append(many, rawEntry{name: fmt.Sprintf("f%06d", i), mode: filemode.Regular})
	}
	big := strings.Repeat("x", 1<<20)
	for name, tt := range map[string]struct {
		entries []rawEntry
		want    string // in the error; else it is read
		problem string // in the problems then
	}{
		"dot dot":          {entries: []rawEntry{good, {name: "..", mode: filemode.Dir, sub: []rawEntry{good}}}, want: "cannot be named"},
		"a path":           {entries: []rawEntry{{name: "../../x", mode: filemode.Regular}}, want: "cannot be named"},
		"a rooted path":    {entries: []rawEntry{{name: "/x", mode: filemode.Regular}}, want: "cannot be named"},
		"git":              {entries: []rawEntry{good, {name: ".Git", mode: filemode.Dir, sub: []rawEntry{{name: "config", mode: filemode.Regular}}}}, want: "cannot be named"},
		"no name":          {entries: []rawEntry{{name: "", mode: filemode.Regular}}, want: "empty filename"},
		"twice":            {entries: []rawEntry{good, good}, want: "exists"},
		"through a link":   {entries: []rawEntry{{name: "x", mode: filemode.Symlink, content: outside}, {name: "x", mode: filemode.Dir, sub: []rawEntry{good}}}, want: "exists"},
		"deep":             {entries: deep, want: "deeper than 5"},
		"many":             {entries: many, want: "more than 10 files"},
		"big":              {entries: []rawEntry{{name: "a", mode: filemode.Regular, content: big}, {name: "b", mode: filemode.Regular, content: big + "y"}}, want: "more than 2 MiB"},
		"a long link":      {entries: []rawEntry{{name: "a", mode: filemode.Symlink, content: strings.Repeat("x", maxRefLink+1)}}, want: "more than"},
		"a link out":       {entries: []rawEntry{good, {name: "b.yml", mode: filemode.Symlink, content: filepath.Join(outside, "compose.yml")}}, problem: "outside"},
		"a folder out":     {entries: []rawEntry{good, {name: "b", mode: filemode.Symlink, content: outside}}, problem: "outside"},
		"a crooked link":   {entries: []rawEntry{good, {name: "l", mode: filemode.Symlink, content: "."}, {name: "b.yml", mode: filemode.Symlink, content: "l/../../../../git/HEAD"}}, problem: "outside"},
		"a submodule":      {entries: []rawEntry{good, {name: "sub", mode: filemode.Submodule}}},
		"a link that goes": {entries: []rawEntry{good, {name: "c.yml", mode: filemode.Symlink, content: "a.yml"}}},
	} {
		t.Run(name, func(t *testing.T) {
			hash := r.rawCommit(tt.entries)
			tree, err := openRef(t.Context(), r.dir, hash, refLimits{files: 10, bytes: 2 << 20, depth: 5})
			if err != nil {
				if tt.want == "" || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("%v, want %q", err, tt.want)
				}
			} else {
				snap := tree.Scan(t.Context(), Options{})
				if tt.want != "" || tt.problem == "" != (len(snap.Problems) == 0) || !strings.Contains(fmt.Sprint(snap.Problems), tt.problem) || snap.Stacks["a"] == nil {
					t.Errorf("error %v, stacks %v, problems %v; want %q", snap.Err, snap.Stacks, snap.Problems, tt.want+tt.problem)
				}
				r.check(tree.Close())
			}
			if left, _ := os.ReadDir(base); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// Who is interrupted leaves nothing behind.
func TestOpenRefIsInterrupted(t *testing.T) {
	r, _ := refRepo(t)
	base := t.TempDir()
	t.Setenv("TMPDIR", base)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := OpenRef(ctx, r.dir, "HEAD"); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if left, _ := os.ReadDir(base); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	t.Setenv("TMPDIR", filepath.Join(base, "nosuch"))
	if _, err := OpenRef(t.Context(), r.dir, "HEAD"); err == nil || !strings.Contains(err.Error(), "TMPDIR") {
		t.Errorf("%v", err)
	}
}

// No name of a ref makes it read something else than a commit, or fail in another way.
func TestOpenRefOfAnyName(t *testing.T) {
	r, hashes := refRepo(t)
	known := map[string]bool{hashes[0]: true, hashes[1]: true, hashes[2]: true}
	rapid.Check(t, func(rt *rapid.T) {
		word := rapid.OneOf(rapid.SampledFrom([]string{"HEAD", "next", "v1", "both", "refs/heads/", "origin/", "~", "^", "1", "..", "/", hashes[0][:5], "@{", ":"}), rapid.String())
		ref := strings.Join(rapid.SliceOfN(word, 1, 4).Draw(rt, "ref"), "")
		repository, err := openGit(r.top)
		if err != nil {
			rt.Fatal(err)
		}
		if c, err := resolveCommit(repository, ref); err == nil && !known[c.Hash.String()] || err == nil && c == nil {
			rt.Errorf("%q is %v", ref, c)
		}
	})
}
