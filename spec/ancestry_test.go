package spec

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
	"pgregory.net/rapid"
)

// A story is a repository whose commits are made in any shape, without files.
type story struct {
	top  string
	repo *git.Repository
	n    int
}

func newStory(t rapid.TB, top string) *story {
	t.Helper()
	repo, err := git.PlainInit(top, false)
	if err != nil {
		t.Fatal(err)
	}
	return &story{top: top, repo: repo}
}

// commit makes one, an hour after the one before it.
func (s *story) commit(t rapid.TB, parents ...string) string {
	t.Helper()
	s.n++
	w, err := s.repo.Worktree()
	if err != nil {
		t.Fatal(err)
	}
	who := &object.Signature{Name: "specs test", When: time.Date(2026, 1, 1, s.n, 0, 0, 0, time.UTC)}
	o := &git.CommitOptions{Author: who, Committer: who, AllowEmptyCommits: true}
	for _, p := range parents {
		o.Parents = append(o.Parents, plumbing.NewHash(p))
	}
	if len(parents) == 0 { // one that begins anew
		if err := s.repo.Storer.SetReference(plumbing.NewSymbolicReference(plumbing.HEAD, plumbing.NewBranchReferenceName(fmt.Sprint("root", s.n)))); err != nil {
			t.Fatal(err)
		}
	}
	h, err := w.Commit(fmt.Sprint("commit ", s.n), o)
	if err != nil {
		t.Fatal(err)
	}
	return h.String()
}

// lose takes a commit out of the clone, as if it had never been fetched.
func (s *story) lose(t rapid.TB, hash string) {
	t.Helper()
	if err := os.Remove(filepath.Join(s.top, ".git", "objects", hash[:2], hash[2:])); err != nil {
		t.Fatal(err)
	}
}

func descent(t rapid.TB, a *Ancestry, commit, other string) Descent {
	t.Helper()
	d, err := a.Descent(commit, other)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestDescent(t *testing.T) {
	s := newStory(t, t.TempDir())
	one := s.commit(t)
	two := s.commit(t, one)
	branch := s.commit(t, one)
	three := s.commit(t, two)
	merge := s.commit(t, three, branch)
	other := s.commit(t) // a history that has nothing to do with it
	never := "0123456789abcdef0123456789abcdef01234567"
	for _, tt := range []struct {
		name, commit, other string
		want                Descent
	}{
		{"itself", three, three, DescentSame},
		{"child", two, one, DescentNewer},
		{"grandchild", three, one, DescentNewer},
		{"parent", one, two, DescentOlder},
		{"grandparent", one, three, DescentOlder},
		{"side branch", branch, three, DescentAside},
		{"merge of a branch", merge, branch, DescentNewer},
		{"what was merged", branch, merge, DescentOlder},
		{"another history", three, other, DescentAside},
		{"never fetched", three, never, DescentUnknown},
		{"own commit not fetched", never, three, DescentUnknown},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := descent(t, NewAncestry(s.top), tt.commit, tt.other); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

// In a shallow clone the way to a commit may be missing, or the commit itself.
func TestDescentInAShallowClone(t *testing.T) {
	s := newStory(t, t.TempDir())
	one := s.commit(t)
	two := s.commit(t, one)
	three := s.commit(t, two)
	four := s.commit(t, three)
	s.lose(t, two)
	a := NewAncestry(s.top)
	for _, tt := range []struct {
		commit, other string
		want          Descent
	}{
		{four, three, DescentNewer},
		{three, four, DescentOlder},
		{four, two, DescentUnknown}, // gone
		{four, one, DescentUnknown}, // there, and the way to it is not
	} {
		if got := descent(t, a, tt.commit, tt.other); got != tt.want {
			t.Errorf("%.7s to %.7s: %q, want %q", tt.commit, tt.other, got, tt.want)
		}
	}
}

// What a clone lacks may come with the next fetch: it is asked for again.
func TestDescentIsFoundAfterAFetch(t *testing.T) {
	s := newStory(t, t.TempDir())
	one := s.commit(t)
	two := s.commit(t, one)
	file := filepath.Join(s.top, ".git", "objects", one[:2], one[2:])
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s.lose(t, one)
	a := NewAncestry(s.top)
	if got := descent(t, a, two, one); got != DescentUnknown {
		t.Fatalf("before the fetch: %q", got)
	}
	if err := os.WriteFile(file, data, 0o444); err != nil {
		t.Fatal(err)
	}
	if got := descent(t, a, two, one); got != DescentNewer {
		t.Errorf("after the fetch: %q", got)
	}
}

func TestDescentWithoutARepository(t *testing.T) {
	a := NewAncestry(t.TempDir())
	if got := descent(t, a, "0123456789abcdef0123456789abcdef01234567", "1123456789abcdef0123456789abcdef01234567"); got != DescentUnknown {
		t.Errorf("%q", got)
	}
	if _, err := NewAncestry(filepath.Join(t.TempDir(), "away")).Descent("a", "b"); err == nil {
		t.Error("a directory that is away is no error")
	}
}

// Whatever a history's shape, the answer is what its edges say, and turned round it is
// its opposite.
func TestDescentFollowsTheEdges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		top, err := os.MkdirTemp("", "skep-ancestry-")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = os.RemoveAll(top) }()
		s := newStory(t, top)
		var hashes []string
		above := map[string]map[string]bool{} // commit → its ancestors
		for i := range rapid.IntRange(2, 8).Draw(t, "commits") {
			var parents []string
			for j := range i {
				if len(parents) < 2 && rapid.Bool().Draw(t, fmt.Sprintf("%d from %d", i, j)) {
					parents = append(parents, hashes[j])
				}
			}
			h := s.commit(t, parents...)
			above[h] = map[string]bool{}
			for _, p := range parents {
				above[h][p] = true
				for q := range above[p] {
					above[h][q] = true
				}
			}
			hashes = append(hashes, h)
		}
		a := NewAncestry(top)
		for _, x := range hashes {
			for _, y := range hashes {
				want := DescentAside
				switch {
				case x == y:
					want = DescentSame
				case above[x][y]:
					want = DescentNewer
				case above[y][x]:
					want = DescentOlder
				}
				if got := descent(t, a, x, y); got != want {
					t.Fatalf("%.7s to %.7s: %q, want %q", x, y, got, want)
				}
			}
		}
	})
}
