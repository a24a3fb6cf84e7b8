package reconcile

import (
	"context"
	"fmt"
	"slices"

	"github.com/skep-io/skep/spec"
)

// SourceStale is why a stack is held whose source is older than what was rolled out
// of it last.
const SourceStale = "SourceStale"

// A SourceCheck has a pass find out whether the stack's source is older than what was
// rolled out of it last, by whatever controller: one that begins to act may have a
// directory that lags behind.
type SourceCheck struct {
	// Commit is the one that the directory is at, nil without git.
	Commit *spec.Commit
	// Descent tells how Commit stands to another one, of which the hash is given.
	Descent func(hash string) (spec.Descent, error)
	// Seen are the fingerprints that the stack's source had in this directory before: one
	// that has had what was rolled out last, and has something else now, does not lag.
	Seen []string
	// Doubt says of a stack whose file is gone why the directory may be an older one,
	// "" where nothing does. Where commits tell, they count.
	Doubt string
}

// stale says, in a sentence, that the source is older than what was rolled out last, or
// "". The newest release that came of a file counts, whatever became of it; what
// somebody asked for by hand came of no directory.
//
//	source as that release's                           current
//	somebody said that it may be older                 current
//	this directory had that release's source before    current
//	both commits known: same, or descends from it      current
//	                    older, or beside it            stale
//	                    cannot be told (shallow clone) current if committed later, else stale
//	a commit is not known: as what runs, since that
//	                         release was gone back from current
//	                       as an earlier release's     stale
//	                       else                        as check.Doubt says
//
// source is the stack's fingerprint as releases have it, "" where its file is gone; so
// are check's.
func stale(source string, check *SourceCheck, releases []*Release, state State) (why string, than *Release, err error) {
	newest := newestByFile(releases)
	if check == nil || newest == nil || newest.Number <= state.Older && state.Older > 0 || source != "" && source == newest.Source {
		return "", nil, nil
	}
	if slices.Contains(check.Seen, newest.Source) && newest.Source != "" {
		return "", nil, nil
	}
	if check.Commit == nil || newest.Commit == "" {
		return staleByContent(source, check, releases, newest)
	}
	descent, err := check.Descent(newest.Commit)
	if err != nil {
		return "", nil, err
	}
	switch {
	case descent == spec.DescentSame, descent == spec.DescentNewer:
		return "", nil, nil
	case descent == spec.DescentUnknown && check.Commit.Time.After(newest.Committed):
		return "", nil, nil
	}
	return fmt.Sprintf("the directory is at commit %s of %s, which %s %.7s of %s, of which %s was made%s",
		check.Commit.Short, moment(check.Commit.Time), descentWords[descent], newest.Commit, moment(newest.Committed), told(newest), untilCaughtUp), newest, nil
}

var descentWords = map[spec.Descent]string{
	spec.DescentUnknown: "was not committed after",
	spec.DescentOlder:   "is older than",
	spec.DescentAside:   "does not descend from",
}

const untilCaughtUp = " (it is held until the directory has caught up, or: skep resume)"

// staleByContent is stale without commits: content that was there before, and was
// replaced since, has come back.
func staleByContent(source string, check *SourceCheck, releases []*Release, newest *Release) (string, *Release, error) {
	if source == "" {
		if check.Doubt == "" {
			return "", nil, nil
		}
		return check.Doubt + untilCaughtUp, newest, nil
	}
	if runs := inForce(releases); newest.Phase == PhaseFailed && runs != newest && runs != nil && runs.Source == source {
		return "", nil, nil // somebody took the file back, most likely; nothing goes back in any case
	}
	for _, r := range slices.Backward(releases) {
		if r != newest && byFile(r) && r.Source == source {
			return fmt.Sprintf("its files are as they were for %s, and %s came after that%s", told(r), told(newest), untilCaughtUp), newest, nil
		}
	}
	return "", nil, nil
}

// byFile says that a release came of a file: not of what somebody asked for by hand,
// and not of what was found.
func byFile(r *Release) bool { return r.By != ByHand && r.Number > 0 }

func newestByFile(releases []*Release) *Release {
	for _, r := range slices.Backward(releases) {
		if byFile(r) {
			return r
		}
	}
	return nil
}

// checkSource finds out whether a pass's source is stale, where that was asked.
func (p *pass) checkSource(check *SourceCheck, owner string) (err error) {
	if rel := last(p.releases); rel != nil && rel.owner != "" && rel.owner != owner {
		return nil // another controller's stack: that is an error of its own
	}
	p.stale, p.staleTo, err = stale(p.source, check.keyed(p.key), p.releases, p.state)
	return err
}

// keyed is a check whose fingerprints are as releases have them.
func (c *SourceCheck) keyed(key []byte) *SourceCheck {
	if c == nil {
		return nil
	}
	k := *c
	k.Seen = nil
	for _, fingerprint := range c.Seen {
		k.Seen = append(k.Seen, keyedHash(key, fingerprint))
	}
	return &k
}

// markStale writes into a stack's state that it is held for its source, so that resume
// knows what it ends.
func (r *Reconciler) markStale(ctx context.Context, stack string, state State, than *Release) error {
	if state.Stale == than.Number {
		return nil
	}
	return r.memory.setState(ctx, stack, func(s State) State {
		s.Stale = than.Number
		return s
	})
}

// unmarkStale forgets a hold that has come to its end.
func (r *Reconciler) unmarkStale(ctx context.Context, p *pass, res *Result) error {
	res.Transitions = append(res.Transitions, Transition{Action: "caught-up", Reason: res.Reason, Message: res.Message})
	return r.memory.setState(ctx, p.stack.Name, func(s State) State {
		s.Stale = 0
		return s
	})
}
