package reconcile

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/skep-io/skep/spec"
)

// An Intent is what somebody asked of a stack, as it was written into the stack's
// state. Asking writes nothing else: the controller that acts carries it out, with
// its next pass.
type Intent struct {
	Stack string `json:"stack"`
	// Changed says that it was written; else the stack was asked for that already.
	Changed bool   `json:"changed"`
	Message string `json:"message"` // a sentence: what was asked for, until when
	State   State  `json:"state"`   // what holds now
}

// Any is the release to go back to where nobody said which: the newest that was
// healthy before what runs.
const Any = -1

// RequestRollback asks for a stack to go back to release to, or Any, and to stay there
// until its files change or Resume. It is ErrRefused where that release cannot be gone
// back to: it is not remembered, was never healthy, cannot be read, or runs already.
func (r *Reconciler) RequestRollback(ctx context.Context, stack string, to int) (Intent, error) {
	releases, err := r.releasesToAsk(ctx, stack)
	if err != nil {
		return Intent{}, err
	}
	return r.ask(ctx, stack, func(s State) (State, string, error) {
		target, err := wayBack(stack, releases, s, to)
		switch {
		case err != nil:
			return s, "", err
		case s.IsPinned() && s.Pin == target.Number:
			return s, fmt.Sprintf("stack %s is pinned to %s already, since %s", stack, told(target), moment(s.Pinned)), nil
		}
		s.PinDigest, s.PinSource = fileOf(releases, s)
		s.Pinned, s.Pin = r.o.Now(), target.Number
		return s, fmt.Sprintf("stack %s is to go back to %s, and stays there until its files change or `skep resume %s`", stack, told(target), stack), nil
	})
}

// Suspend asks for nothing of a stack to be written until Resume, whatever its files
// say and whatever becomes of it. why is for those who wonder; suspended again, with
// another one, the stack stays suspended since it was.
func (r *Reconciler) Suspend(ctx context.Context, stack, why string) (Intent, error) {
	if err := r.knows(ctx, stack); err != nil {
		return Intent{}, err
	}
	why = clip(strings.Join(strings.Fields(why), " "), maxMessage)
	return r.ask(ctx, stack, func(s State) (State, string, error) {
		if s.IsSuspended() {
			if why != "" {
				s.Why = why
			}
			return s, fmt.Sprintf("stack %s is suspended already, since %s%s", stack, moment(s.Suspended), inBrackets(s.Why)), nil
		}
		s.Suspended, s.Why = r.o.Now(), why
		return s, fmt.Sprintf("stack %s is suspended%s: nothing of it is written until `skep resume %s`", stack, inBrackets(why), stack), nil
	})
}

// Resume takes back what people asked of a stack: it is as its files say again, even
// where a release of that failed, which is tried again. Of a stack that was suspended
// only that ends: its failure did not hold it, and takes another Resume.
func (r *Reconciler) Resume(ctx context.Context, stack string) (Intent, error) {
	releases, err := r.releasesToAsk(ctx, stack)
	if err != nil && !r.heldBackUnreleased(ctx, stack) {
		return Intent{}, err
	}
	return r.ask(ctx, stack, func(s State) (State, string, error) {
		var did []string
		only := s.IsSuspended() && !s.IsPinned() && s.Stale == 0
		if s.IsSuspended() {
			did = append(did, "is no longer suspended")
		}
		if s.IsPinned() {
			did = append(did, fmt.Sprintf("is no longer pinned to release %d", s.Pin))
		}
		if s.Stale > 0 {
			did = append(did, fmt.Sprintf("is no longer held for having an older source than release %d", s.Stale))
			s.Stale, s.Older = 0, s.Stale
		}
		file, some := unpardoned(releases, s)
		left := ""
		if only { // what failed is not what held it
			if file != nil {
				left = fmt.Sprintf("; what failed as %s is not tried again by that (once more `skep resume %s`, or another file)", told(file), stack)
			}
			file, some = nil, false
		}
		if file != nil {
			did = append(did, fmt.Sprintf("may try again what failed as %s", told(file)))
		}
		if some {
			s.Pardoned, s.PardonedAt = releases[len(releases)-1].Number, r.o.Now()
		}
		if newest := last(releases); len(did) == 0 && newest != nil && s.Retries(newest.Number, newest.Phase) {
			return s, fmt.Sprintf("stack %s is to be tried again already%s, and nobody did so yet: it failed as %s", stack, sincePardon(s), told(newest)), nil
		}
		if len(did) == 0 {
			return s, fmt.Sprintf("nothing holds stack %s: it is neither suspended nor pinned, and its newest release did not fail", stack), nil
		}
		s = s.unpinned()
		s.Suspended, s.Why = time.Time{}, ""
		return s, fmt.Sprintf("stack %s %s%s", stack, strings.Join(did, ", and "), left), nil
	})
}

// sincePardon is ", since …" where that is known.
func sincePardon(s State) string {
	if s.PardonedAt.IsZero() {
		return ""
	}
	return ", since " + moment(s.PardonedAt)
}

// Forget makes the next look at a stack read again what is remembered of it, and asked;
// with "" at any. It is for those who hear of no events.
func (r *Reconciler) Forget(stack string) { r.memory.forget(stack) }

// ask writes what change makes of a stack's state, and tells what became of that.
func (r *Reconciler) ask(ctx context.Context, stack string, change func(State) (State, string, error)) (Intent, error) {
	in := Intent{Stack: stack}
	var refusal error
	err := r.memory.setState(ctx, stack, func(s State) State {
		in.State, in.Message, refusal = change(s)
		in.Changed = !in.State.equal(s)
		return in.State
	})
	if refusal != nil {
		return Intent{}, refusal
	}
	return in, err
}

// wayBack is the release to go back to.
func wayBack(stack string, releases []*Release, s State, to int) (*Release, error) {
	if s.IsSuspended() {
		return nil, refuse("stack %s is suspended, since %s%s, and nothing of it is written (first `skep resume %s`)", stack, moment(s.Suspended), inBrackets(s.Why), stack)
	}
	now := inForce(releases)
	if to == Any {
		return healthyBefore(stack, releases, now, s)
	}
	target, err := numbered(stack, releases, to)
	see := fmt.Sprintf("`skep history %s` shows those that were healthy", stack)
	switch {
	case err != nil:
		return nil, err
	case s.IsPinned() && s.Pin == to:
		return target, nil
	case target.Phase == PhaseFailed:
		return nil, refuse("release %d of stack %s failed: %s (%s)", to, stack, target.Message, see)
	case target.Phase != PhaseHealthy:
		return nil, refuse("release %d of stack %s was never healthy, but %s (%s)", to, stack, strings.ToLower(string(target.Phase)), see)
	case target.damaged:
		return nil, refuse("the record of release %d of stack %s is damaged: there is no way back to it (%s)", to, stack, see)
	case failedSince(releases, target, s) != nil:
		f := failedSince(releases, target, s)
		return nil, refuse("what release %d of stack %s was failed when it was tried again, as release %d: %s (%s)", to, stack, f.Number, f.Message, see)
	case now != nil && (now.repeats(to) || now.Digest == target.Digest):
		return nil, refuse("stack %s is at release %d already, or on its way there: there is nothing to write (`skep suspend %s` keeps it as it is)", stack, to, stack)
	}
	return target, nil
}

// healthyBefore is the newest release that was healthy before what runs, and is not the same.
// Where somebody went back already it is one before that, so that going back twice goes
// back further, and never to what was fled from.
func healthyBefore(stack string, releases []*Release, now *Release, s State) (*Release, error) {
	limit := releases[len(releases)-1].Number + 1
	if now != nil {
		limit = now.Number
		if now.By == ByHand {
			limit = now.Of
		}
	}
	for _, rel := range slices.Backward(releases) {
		same := now != nil && rel.Digest == now.Digest
		if rel.Number < limit && rel.Phase == PhaseHealthy && !rel.damaged && !same && failedSince(releases, rel, s) == nil {
			return rel, nil
		}
	}
	return nil, refuse("stack %s has no release to go back to: before what runs none is remembered that was healthy and is not the same (`skep history %s`)", stack, stack)
}

// failedSince is the newest release that was the same as one that was healthy, if it
// failed and was not forgiven.
func failedSince(releases []*Release, healthy *Release, s State) *Release {
	for _, rel := range slices.Backward(releases) {
		if rel.Digest == healthy.Digest && rel.Phase == PhaseFailed && rel.Number > s.Pardoned {
			return rel
		}
	}
	return nil
}

// fileOf is the digest and the source of the stack's file, as the newest release that
// came of it has them.
func fileOf(releases []*Release, s State) (digest, source string) {
	for _, rel := range slices.Backward(releases) {
		if rel.By != ByHand {
			return rel.Digest, rel.Source
		}
	}
	return s.PinDigest, s.PinSource
}

// unpardoned looks for failures that keep the stack from what its file says: file is
// the newest release of that, if it failed, and some says that one did since then.
func unpardoned(releases []*Release, s State) (file *Release, some bool) {
	for _, rel := range slices.Backward(releases) {
		failed := rel.Phase == PhaseFailed && rel.Number > s.Pardoned
		some = some || failed
		switch {
		case rel.By == ByHand:
		case failed:
			return rel, some
		default:
			return nil, some
		}
	}
	return nil, some
}

// releasesToAsk reads a stack's releases anew; that there are none is ErrRefused.
func (r *Reconciler) releasesToAsk(ctx context.Context, stack string) ([]*Release, error) {
	r.memory.forget(stack)
	releases, err := r.memory.releases(ctx, stack)
	switch {
	case err != nil:
		return nil, err
	case len(releases) == 0:
		return nil, r.noReleases(ctx, stack)
	}
	if owner := releases[len(releases)-1].owner; owner != r.o.Owner {
		return nil, refuse("stack %s belongs to the controller %q, and this asks as %q (ask as that one: --owner %s)", stack, owner, r.o.Owner, owner)
	}
	return releases, nil
}

// knows is nil for a stack that has releases, or lives: one can be suspended before
// skep's first change.
func (r *Reconciler) knows(ctx context.Context, stack string) error {
	_, err := r.releasesToAsk(ctx, stack)
	if err == nil {
		return nil
	}
	if releases, _ := r.memory.releases(ctx, stack); len(releases) > 0 {
		return err
	}
	if live, lerr := r.observer.get(ctx, stack, 0); lerr == nil && len(live.Stack(stack)) > 0 {
		return nil
	}
	return err
}

// heldBackUnreleased says that a stack without any release is suspended or pinned: it was
// suspended before its first, or its records are lost.
func (r *Reconciler) heldBackUnreleased(ctx context.Context, stack string) bool {
	releases, state, err := r.memory.read(ctx, stack)
	return err == nil && len(releases) == 0 && (state.IsSuspended() || state.IsPinned())
}

// asked tells what keeps a plan from being written, or makes it lead elsewhere than
// the file says, since somebody asked for that.
func (p *pass) asked() []spec.Finding {
	var found []spec.Finding
	tell := func(code, format string, args ...any) {
		found = append(found, spec.Finding{File: p.stack.Source.File, Severity: spec.Warning, Code: code, Message: fmt.Sprintf(format, args...)})
	}
	switch {
	case p.stack.Policy.Suspend:
		tell("suspended", "x-skep.suspend is set: nothing of the stack is written until the file says otherwise")
	case p.state.IsSuspended():
		tell("suspended", "the stack is suspended since %s%s: nothing of it is written (skep resume %s ends that)", moment(p.state.Suspended), inBrackets(p.state.Why), p.stack.Name)
	}
	switch {
	case !p.state.IsPinned() || p.pinEnds:
	case p.pinned == nil:
		tell("pinned", "the stack is pinned to release %d since %s, which is not remembered any more or failed: nothing of it is written (pin it to another, or skep resume %s)", p.state.Pin, moment(p.state.Pinned), p.stack.Name)
	default:
		tell("pinned", "the stack is pinned to %s since %s: this leads there, and not to what the file says, until the file changes (or skep resume %s)", told(p.pinned), moment(p.state.Pinned), p.stack.Name)
	}
	return found
}

// told names a release for people: "release 4 (abc1234 Show prices)".
func told(r *Release) string {
	return fmt.Sprintf("release %d%s", r.Number, inBrackets(strings.TrimSpace(r.Revision+" "+r.Subject)))
}

func inBrackets(s string) string {
	if s == "" {
		return ""
	}
	return " (" + s + ")"
}

// moment tells a time to people who may live anywhere.
func moment(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }
