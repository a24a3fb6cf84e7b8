package spec

import (
	"os"
	"testing"
	"time"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// commit makes a commit of all that is in the directory.
func (d specsDir) commit() {
	d.Helper()
	repo, err := git.PlainOpen(d.dir)
	if err != nil {
		repo, err = git.PlainInit(d.dir, false)
	}
	d.check(err)
	tree, err := repo.Worktree()
	d.check(err)
	d.check(tree.AddWithOptions(&git.AddOptions{All: true}))
	_, err = tree.Commit("Change it", &git.CommitOptions{Author: &object.Signature{Name: "a", Email: "a@example.com", When: time.Unix(1e9, 0)}})
	d.check(err)
}

// Half a checkout: what the commit has and the work tree has not is not gone, also for
// who never saw it, until the commit has it no more.
func TestHalfACheckout(t *testing.T) {
	d := newSpecs(t, map[string]string{
		"a.yml": "files: []", "b.yml": "name: bee", "c/compose.yaml": "files: []", "d/compose.yaml": "name: dee", "_e.yml": "files: []", "notes.txt": "x",
	})
	d.commit()
	s, _ := d.scanner()
	if snap := s.Scan(t.Context()); !snap.Complete || len(snap.Findings) > 0 || snap.Gone("bee") {
		t.Fatalf("%v, %v", snap.Err, snap.Findings)
	}
	for _, file := range []string{"b.yml", "c/compose.yaml", "d", "_e.yml"} {
		d.check(os.RemoveAll(d.path(file)))
	}
	fresh, _ := d.scanner()
	for _, s := range []*Scanner{s, s, fresh} {
		snap := s.Scan(t.Context())
		if got := outline(snap); !snap.Complete || got != "a" || len(snap.Findings) != 3 {
			t.Errorf("%s, %v, %v", got, snap.Err, snap.Findings)
		}
		for name, gone := range map[string]bool{"bee": false, "c": false, "dee": false, "b": true, "e": true, "d": true} {
			if snap.Gone(name) != gone {
				t.Errorf("stack %s gone: %t", name, !gone)
			}
		}
	}
	d.commit()
	if snap := s.Scan(t.Context()); !snap.Gone("bee") || !snap.Gone("c") || !snap.Gone("dee") || len(snap.Findings) > 0 {
		t.Errorf("it is committed, and %v", snap.Findings)
	}
}

// A file that was moved and not committed is not told of as absent.
func TestMovedUncommitted(t *testing.T) {
	d := newSpecs(t, map[string]string{"b.yml": "name: bee", "a.yml": "files: []"})
	d.commit()
	d.check(os.Rename(d.path("b.yml"), d.path("c.yml")))
	snap := d.scan()
	if outline(snap) != "a; bee" || len(snap.Findings) > 0 || snap.Gone("bee") {
		t.Errorf("%s: %v", outline(snap), snap.Findings)
	}
}

// The specs are a folder of the repository, or none of its business.
func TestAbsentBelowTheTop(t *testing.T) {
	d := newSpecs(t, map[string]string{"live/a.yml": "files: []", "live/b.yml": "files: []", "other/c.yml": "files: []"})
	d.commit()
	d.check(os.Remove(d.path("live/b.yml")))
	d.check(os.Remove(d.path("other/c.yml")))
	d.write("ignored/x.yml", "files: []")
	for sub, absent := range map[string]int{"live": 1, "ignored": 0} {
		s := NewScanner(d.path(sub), Options{})
		_, l := d.scanner()
		s.load = l.load
		if snap := s.Scan(t.Context()); !snap.Complete || len(snap.Findings) != absent || snap.Gone("b") == (absent == 1) || !snap.Gone("c") {
			t.Errorf("%s: %v, %v", sub, snap.Err, snap.Findings)
		}
	}
}
