package spec

import (
	"container/heap"
	"errors"
	"fmt"
	"sync"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// A Descent says how one commit stands to another.
type Descent string

const (
	// DescentUnknown: the clone lacks the other commit, or the way to it; shallow
	// clones, as git-sync makes them, often do.
	DescentUnknown Descent = ""
	DescentSame    Descent = "same"
	DescentNewer   Descent = "newer" // the commit descends from the other one
	DescentOlder   Descent = "older" // the other one descends from it
	DescentAside   Descent = "aside" // neither: history was rewritten, or it is another branch
)

// maxAncestry is how many commits are looked at before a descent counts as unknown.
const maxAncestry = 100_000

// An Ancestry tells how commits of the repository around a directory stand to each
// other. It reads the repository's files alone, and each answer once, but for those
// that a fetch can change. It may be used from many goroutines.
type Ancestry struct {
	dir  string
	mu   sync.Mutex
	memo map[[2]string]Descent
}

// NewAncestry makes an Ancestry of the work tree that dir lies in.
func NewAncestry(dir string) *Ancestry {
	return &Ancestry{dir: dir, memo: map[[2]string]Descent{}}
}

// Descent tells how a commit stands to another, both as 40 hex digits. The error says
// that the repository cannot be read; the descent is unknown then.
func (a *Ancestry) Descent(commit, other string) (d Descent, err error) {
	if commit == other {
		return DescentSame, nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	pair := [2]string{commit, other}
	if d, ok := a.memo[pair]; ok {
		return d, nil
	}
	defer func() {
		if p := recover(); p != nil { // go-git, of a damaged repository
			d, err = DescentUnknown, fmt.Errorf("read the git repository of %s: %v", a.dir, p)
		}
	}()
	if d, err = a.find(plumbing.NewHash(commit), plumbing.NewHash(other)); err != nil {
		return DescentUnknown, fmt.Errorf("compare commits %.7s and %.7s: %w", commit, other, err)
	}
	if d != DescentUnknown {
		a.memo[pair] = d
	}
	return d, nil
}

func (a *Ancestry) find(commit, other plumbing.Hash) (Descent, error) {
	at, err := locate(a.dir)
	if err != nil {
		return DescentUnknown, err
	}
	top, _ := findGit(at.path)
	if top == "" {
		return DescentUnknown, nil
	}
	repo, err := openGit(top)
	if err != nil {
		return DescentUnknown, err
	}
	if _, err := repo.CommitObject(other); err != nil {
		return DescentUnknown, unlessMissing(err)
	}
	reached, whole, err := reaches(repo, commit, other)
	switch {
	case err != nil:
		return DescentUnknown, err
	case reached:
		return DescentNewer, nil
	}
	back, _, err := reaches(repo, other, commit)
	switch {
	case err != nil:
		return DescentUnknown, err
	case back:
		return DescentOlder, nil
	case whole:
		return DescentAside, nil
	}
	return DescentUnknown, nil
}

// unlessMissing is nil for an object that the clone lacks.
func unlessMissing(err error) error {
	if errors.Is(err, plumbing.ErrObjectNotFound) {
		return nil
	}
	return err
}

// reaches says whether target is among the ancestors of from. Where it is not, whole
// says that all of them were looked at. The newest go first, so that what lies a few
// commits back in a long history is found after a few commits.
func reaches(repo *git.Repository, from, target plumbing.Hash) (reached, whole bool, err error) {
	seen := map[plumbing.Hash]bool{from: true}
	whole = true
	first, err := repo.CommitObject(from)
	if err != nil {
		return false, false, unlessMissing(err)
	}
	next := commitHeap{first}
	for len(next) > 0 {
		c := heap.Pop(&next).(*object.Commit)
		for _, parent := range c.ParentHashes {
			if parent == target {
				return true, true, nil
			}
			if seen[parent] {
				continue
			}
			if seen[parent] = true; len(seen) > maxAncestry {
				return false, false, nil
			}
			p, err := repo.CommitObject(parent)
			if errors.Is(err, plumbing.ErrObjectNotFound) { // where a shallow clone ends
				whole = false
				continue
			}
			if err != nil {
				return false, false, err
			}
			heap.Push(&next, p)
		}
	}
	return false, whole, nil
}

// commitHeap has the newest commit on top, by the committer's clock.
type commitHeap []*object.Commit

func (h commitHeap) Len() int           { return len(h) }
func (h commitHeap) Less(i, j int) bool { return h[i].Committer.When.After(h[j].Committer.When) }
func (h commitHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *commitHeap) Push(x any)        { *h = append(*h, x.(*object.Commit)) }
func (h *commitHeap) Pop() any {
	last := len(*h) - 1
	c := (*h)[last]
	*h = (*h)[:last]
	return c
}
