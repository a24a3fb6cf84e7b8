package controller

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
)

// descentLimit is how long the repository around the directory has to tell how two
// commits stand to each other.
const descentLimit = 10 * time.Second

// descents ask how commits stand to each other, side by side with the pass that wants to
// know: on a mount that hangs the answer never comes, and no pass may wait for that. One
// question is asked at a time, so that no more than one hangs.
type descents struct {
	dir   string
	ask   func(commit, other string) (spec.Descent, error)
	limit time.Duration
	free  chan struct{} // holds a value while none is asked
}

func newDescents(dir string) *descents {
	d := &descents{dir: dir, ask: spec.NewAncestry(dir).Descent, limit: descentLimit, free: make(chan struct{}, 1)}
	d.free <- struct{}{}
	return d
}

// tell is spec.Ancestry's Descent, or an error where that does not come to an end in time.
func (d *descents) tell(commit, other string) (spec.Descent, error) {
	late := time.NewTimer(d.limit)
	defer late.Stop()
	hangs := fmt.Errorf("compare commits %.7s and %.7s: the git repository of %s did not answer within %s (is it on a mount that hangs?)", commit, other, d.dir, d.limit)
	select {
	case <-d.free:
	case <-late.C:
		return spec.DescentUnknown, hangs
	}
	type answer struct {
		descent spec.Descent
		err     error
	}
	told := make(chan answer, 1)
	go func() {
		defer func() { d.free <- struct{}{} }()
		var a answer
		if err := protect(func() error { a.descent, a.err = d.ask(commit, other); return nil }); err != nil {
			a.err = err
		}
		told <- a
	}()
	select {
	case a := <-told:
		return a.descent, a.err
	case <-late.C:
		return spec.DescentUnknown, hangs
	}
}

// askCommits has a check of a stack's source ask for commits. That of a stack is asked of
// the source that it is of. A stack that has no file was of any of them: that one counts
// whose repository knows the other commit, and where none does, the one that was committed
// first. ask asks the source at an index how a commit of its stands to another.
func askCommits(check *reconcile.SourceCheck, stack *spec.Stack, sources []spec.Directory, ask func(i int, commit, other string) (spec.Descent, error)) {
	commits := map[int]*spec.Commit{}
	for i, s := range sources {
		switch {
		case stack == nil && s.Commit != nil:
			commits[i] = s.Commit
		case stack != nil && stack.Source.Name == s.Name && stack.Source.Commit != nil:
			commits[i] = stack.Source.Commit
		}
	}
	if len(commits) == 0 {
		return
	}
	may := slices.Sorted(maps.Keys(commits))
	commit := *slices.MinFunc(slices.Collect(maps.Values(commits)), func(a, b *spec.Commit) int { return a.Time.Compare(b.Time) })
	check.Commit = &commit
	check.Descent = func(other string) (spec.Descent, error) {
		for _, i := range may {
			d, err := ask(i, commits[i].Hash, other)
			if err != nil || d != spec.DescentUnknown {
				commit = *commits[i] // whose descent it is
				return d, err
			}
		}
		return spec.DescentUnknown, nil
	}
}
