package spec

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// A folder whose compose file has a name that skep does not look for is told, and
// the stack that may be meant is not gone.
func TestFolderWithoutAComposeFile(t *testing.T) {
	t.Parallel()
	const text = "services:\n  web:\n    image: a:1\n"
	d := newSpecs(t, map[string]string{
		"shop.yml": text + "    configs: [c]\nconfigs: {c: {file: used/c.yaml}}\n", "used/c.yaml": "a: b\n",
		"blog/compose.yaml": "name: journal\n" + text,
		"docs/README.md":    "words\n", "_base/base.yaml": text, ".git2/base.yaml": text,
	})
	s := NewScanner(d.dir, Options{})
	bare := func(snap *Snapshot) (files []string) {
		for _, f := range snap.Findings {
			if f.Code == "no-compose-file" {
				files = append(files, f.File)
				if f.Severity != Warning || !strings.Contains(f.Message, "prod.yml") {
					t.Errorf("%v", f)
				}
			}
		}
		return files
	}
	if snap := s.Scan(t.Context()); bare(snap) != nil || snap.Stacks["journal"] == nil {
		t.Fatalf("%v", snap.Findings)
	}
	d.check(os.Rename(d.path("blog/compose.yaml"), d.path("blog/prod.yml")))
	d.write("blog/more.yml", text)
	for scanner, s := range map[string]*Scanner{"the same": s, "another": NewScanner(d.dir, Options{})} {
		for range 2 {
			snap := s.Scan(t.Context())
			if !snap.Complete || !slices.Equal(bare(snap), []string{"blog"}) {
				t.Errorf("%s: complete %t, findings %v", scanner, snap.Complete, snap.Findings)
			}
			if snap.Gone("journal") || snap.Gone("blog") || !snap.Gone("other") {
				t.Errorf("%s: gone: journal %t, blog %t, other %t", scanner, snap.Gone("journal"), snap.Gone("blog"), snap.Gone("other"))
			}
		}
	}
	// What the stack was called is remembered, even where the file says it no more.
	d.write("blog/prod.yml", text)
	if snap := s.Scan(t.Context()); snap.Gone("journal") {
		t.Error("journal is gone with its folder still there")
	}
	d.check(os.RemoveAll(d.path("blog")))
	if snap := s.Scan(t.Context()); bare(snap) != nil || !snap.Gone("journal") || !snap.Gone("blog") {
		t.Errorf("with the folder gone: %v", snap.Findings)
	}
}

// A folder with nothing in it is what a mount leaves that is not there, and a submodule
// that is not checked out: its stack is not gone. Nor is that of a folder which is a file
// now.
func TestEmptiedFolderIsNotGone(t *testing.T) {
	t.Parallel()
	const text = "services:\n  web:\n    image: a:1\n"
	d := newSpecs(t, map[string]string{"shop.yml": text, "blog/compose.yaml": "name: journal\n" + text, "mail/compose.yaml": text})
	d.check(os.Mkdir(d.path("_empty"), 0o755))
	s := NewScanner(d.dir, Options{})
	if snap := s.Scan(t.Context()); len(snap.Stacks) != 3 || len(snap.Findings) > 0 {
		t.Fatalf("%v, %v", snap.Stacks, snap.Findings)
	}
	for _, folder := range []string{"blog", "mail"} {
		d.check(os.Remove(d.path(folder + "/compose.yaml")))
	}
	for scanner, s := range map[string]*Scanner{"the same": s, "another": NewScanner(d.dir, Options{})} {
		for range 2 {
			snap := s.Scan(t.Context())
			if !snap.Complete || len(snap.Findings) != 2 || snap.Findings[0].File != "blog" || !strings.Contains(snap.Findings[0].Message, "empty") {
				t.Errorf("%s: complete %t, findings %v", scanner, snap.Complete, snap.Findings)
			}
			if snap.Gone("mail") || snap.Gone("journal") && scanner == "the same" || !snap.Gone("other") {
				t.Errorf("%s: gone: mail %t, journal %t, other %t", scanner, snap.Gone("mail"), snap.Gone("journal"), snap.Gone("other"))
			}
		}
	}
	d.check(os.Remove(d.path("mail")))
	d.check(os.Remove(d.path("blog")))
	d.write("blog", "../_blog") // a link, as it is checked out where there are none
	for range 2 {
		snap := s.Scan(t.Context())
		if !snap.Complete || snap.Gone("journal") || snap.Problems["journal"] == nil {
			t.Errorf("a file in the folder's place: gone %t, problems %v", snap.Gone("journal"), snap.Problems)
		}
	}
	d.check(os.Remove(d.path("blog")))
	if snap := s.Scan(t.Context()); !snap.Gone("journal") || !snap.Gone("mail") || len(snap.Findings) > 0 {
		t.Errorf("without the folders: gone: mail %t, journal %t, findings %v", snap.Gone("mail"), snap.Gone("journal"), snap.Findings)
	}
}

// In a git work tree the commit tells which empty folders are meant: submodules are, and
// what somebody emptied is not.
func TestSubmoduleNotCheckedOut(t *testing.T) {
	t.Parallel()
	const text = "services:\n  web:\n    image: a:1\n"
	d := newSpecs(t, map[string]string{"shop.yml": text, "mail/compose.yaml": text})
	d.commit()
	repo, err := git.PlainOpen(d.dir)
	d.check(err)
	index, err := repo.Storer.Index()
	d.check(err)
	sub := index.Add("blog")
	sub.Mode, sub.Hash = filemode.Submodule, plumbing.NewHash("0123456789abcdef0123456789abcdef01234567")
	d.check(repo.Storer.SetIndex(index))
	d.check(os.Remove(d.path("mail/compose.yaml")))
	tree, err := repo.Worktree()
	d.check(err)
	_, err = tree.Remove("mail/compose.yaml")
	d.check(err)
	_, err = tree.Commit("Take it in", &git.CommitOptions{Author: &object.Signature{Name: "a", Email: "a@example.com"}})
	d.check(err)
	d.check(os.MkdirAll(d.path("mail"), 0o755))
	d.write("blog/.git", "gitdir: ../.git/modules/blog\n")
	snap := NewScanner(d.dir, Options{}).Scan(t.Context())
	if !snap.Complete || snap.Gone("blog") || !snap.Gone("mail") || len(snap.Findings) != 1 || snap.Findings[0].File != "blog" {
		t.Errorf("complete %t, gone: blog %t, mail %t, findings %v", snap.Complete, snap.Gone("blog"), snap.Gone("mail"), snap.Findings)
	}
}
