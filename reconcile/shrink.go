package reconcile

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/skep-io/skep/spec"
)

// What goes since it is no longer in the files goes only where that is little. A
// directory that lies (a mount that is empty, a checkout that was cut off, the wrong
// branch) looks just like one that somebody tidied up: so what would take much away
// waits for a person, who names it by its plan's ID.

// PruneBlocked is the reason of what waits for a person to confirm a removal.
const PruneBlocked = "PruneBlocked"

// A Blockade is a removal that waits for `skep prune --confirm`.
type Blockade struct {
	// ID stands for what would go, and changes with it: eight hex digits.
	ID string `json:"id"`
	// Stack is whose services would go; empty: Names are whole stacks.
	Stack string   `json:"stack,omitempty"`
	Names []string `json:"names"` // what would go, sorted
	Of    int      `json:"of"`    // how many there are
	// Lost is how many stacks went a short while ago, and weigh with these.
	Lost  int       `json:"lost,omitempty"`
	Since time.Time `json:"since,omitzero"`
}

// What is it that would go: "stacks", or the services of one.
func (b *Blockade) what() string {
	if b.Stack == "" {
		return "stacks"
	}
	return "services of stack " + b.Stack
}

// Why says in a sentence why it waits, and what to do.
func (b *Blockade) Why() string {
	limit := "more than half"
	switch {
	case len(b.Names) == b.Of:
		limit = "all of them"
	case b.Lost > 0:
		limit = fmt.Sprintf("with the %d that went within the last hour more than a third", b.Lost)
	case b.Stack == "":
		limit = "more than a third"
	}
	return fmt.Sprintf("the files no longer have %d of %d %s, %s: %s (if that is meant: skep prune --confirm %s or, without a daemon, skep apply --confirm %s; else put them back)",
		len(b.Names), b.Of, b.what(), limit, few(b.Names), b.ID, b.ID)
}

// newBlockade names a removal.
func newBlockade(stack string, names []string, of int) *Blockade {
	b := &Blockade{Stack: stack, Names: slices.Sorted(slices.Values(names)), Of: of}
	b.ID = planID(b.what(), b.Names)
	return b
}

// StacksID is the ID of the removal of whole stacks.
func StacksID(names []string) string { return newBlockade("", names, 0).ID }

// planID is the same for the same removal, whoever works it out: the first eight hex
// digits of SHA-256 over the kind of what would go, and its names.
func planID(kind string, sorted []string) string {
	sum := sha256.Sum256([]byte(kind + "\n" + strings.Join(sorted, "\n")))
	return hex.EncodeToString(sum[:4])
}

// GuardStacks says of the stacks whose files are going, or gone, which may be removed.
// known are the owner's stacks that live or are remembered, confirmed those whose
// removal a person has confirmed, lost those that were removed unasked a short while ago:
// a directory that loses one stack after the other loses as much as one that loses them
// at once, and they are weighed together. No more than most of the others count: as many
// as there were when the first of them began to go, since what a directory brings with it
// does not make less of what it lacks. 0: all do.
//
//	of what is known, or lost, and not confirmed     goes, or went
//	one stack of several, or up to a third           allowed
//	all, be it one, or more than a third and one     blocked
//
// What is confirmed is allowed. Nothing is both, and what is not known is neither.
func GuardStacks(known, going, confirmed, lost []string, most int) (allowed []string, blocked *Blockade) {
	known = slices.Compact(slices.Sorted(slices.Values(known)))
	lost = slices.Compact(slices.Sorted(slices.Values(lost)))
	lost = slices.DeleteFunc(lost, func(name string) bool { return slices.Contains(known, name) }) // it is back, or only half gone
	var rest []string
	of := len(known)
	if most > 0 {
		of = min(of, most)
	}
	for _, name := range known {
		switch {
		case !slices.Contains(going, name):
		case slices.Contains(confirmed, name):
			allowed = append(allowed, name)
			of--
		default:
			rest = append(rest, name)
		}
	}
	switch n := len(rest) + len(lost); {
	case len(rest) == 0:
		return allowed, nil
	case len(rest) >= of, n > 1 && 3*n > of+len(lost):
		b := newBlockade("", rest, max(len(rest), of))
		b.Lost = len(lost)
		return allowed, b
	}
	allowed = append(allowed, rest...)
	slices.Sort(allowed)
	return allowed, nil
}

// LossWindow is for how long a stack that was removed unasked weighs with others.
const LossWindow = time.Hour

// Losses are stacks that were removed unasked, with when.
type Losses map[string]time.Time

// Add notes that a stack was removed.
func (l Losses) Add(stack string, at time.Time) { l[stack] = at }

// Recent are those that still count at a moment, sorted. It forgets the others.
func (l Losses) Recent(now time.Time) []string {
	maps.DeleteFunc(l, func(_ string, at time.Time) bool { return now.Sub(at) >= LossWindow })
	return sortedKeys(l)
}

// GuardServices is the same for the services that a stack's file has lost, of those
// that live and are its own: more than half of them, and more than two, wait.
func GuardServices(stack string, live, going []string) *Blockade {
	if n := len(going); n <= 2 || 2*n <= len(live) {
		return nil
	}
	return newBlockade(stack, going, len(live))
}

// shrinks is what a pass's plan would remove too much of, whether confirmed or not. A
// rollback removes what its release had not, which nobody has to confirm.
func (p *pass) shrinks() *Blockade {
	if p.back {
		return nil
	}
	going := map[string]bool{}
	for _, c := range slices.Concat(p.plan.Changes, p.plan.Held) {
		if c.Kind == KindService && c.Op == OpRemove {
			going[c.Name] = true
		}
	}
	live := sortedKeys(going)
	for i := range p.desired.Services {
		if name := p.desired.Services[i].Name; p.live.Services[name] != nil {
			live = append(live, name)
		}
	}
	b := GuardServices(p.stack.Name, live, sortedKeys(going))
	if b != nil {
		b.Since = p.state.PruneSince
		if p.state.PrunePlan != b.ID {
			b.Since = time.Time{}
		}
	}
	return b
}

// confirmed says that a person wants a removal.
func (r *Reconciler) confirmed(b *Blockade, s State) bool {
	return s.PruneConfirmed == b.ID || slices.Contains(r.o.Confirmed, b.ID)
}

// blockade is what the pass must not remove.
func (r *Reconciler) blockade(p *pass) *Blockade {
	if b := p.shrinks(); b != nil && !r.confirmed(b, p.state) {
		return b
	}
	return nil
}

// tellBlockade adds to a plan that is only told what keeps it from being written.
func (r *Reconciler) tellBlockade(p *pass) {
	rel := last(p.releases)
	underWay := rel != nil && rel.Digest == p.digest && rel.Phase == PhaseProgressing
	if b := r.blockade(p); b != nil && !underWay {
		p.plan.Findings = append(p.plan.Findings, spec.Finding{File: p.stack.Source.File, Severity: spec.Error, Code: "prune-blocked", Message: b.Why()})
		p.plan.hold()
	}
}

// withBlockade is a state that says what waits, since when. b is what the stack's plan
// would remove too much of: nil ends it, and so what was confirmed.
func (s State) withBlockade(b *Blockade, waits bool, now time.Time) State {
	switch {
	case b == nil:
		return s.unblocked()
	case !waits || s.PrunePlan == b.ID:
		return s
	}
	s.PrunePlan, s.PruneServices, s.PruneOf, s.PruneSince, s.PruneConfirmed = b.ID, strings.Join(b.Names, ","), b.Of, now, ""
	return s
}

// noteBlockade keeps what waits for a person where the person's tools find it: in the
// stack's state, and in nothing but changes of it.
func (r *Reconciler) noteBlockade(ctx context.Context, p *pass, res Result) Result {
	if p.back || p.waiting != "" || res.Outcome == Failed {
		return res
	}
	b, waits, now := p.shrinks(), res.Reason == PruneBlocked, r.o.Now()
	if p.state.withBlockade(b, waits, now).equal(p.state) {
		return res
	}
	err := r.memory.setState(ctx, p.stack.Name, func(s State) State {
		res.State = s.withBlockade(b, waits, now)
		return res.State
	})
	if err != nil {
		return afterWrites(res, err)
	}
	return res
}

func (s State) unblocked() State {
	s.PrunePlan, s.PruneServices, s.PruneOf, s.PruneSince, s.PruneConfirmed = "", "", 0, time.Time{}, ""
	return s
}

// Blockade is what waits to be confirmed, nil where nothing does.
func (s State) Blockade(stack string) *Blockade {
	if s.PrunePlan == "" || s.PruneConfirmed == s.PrunePlan {
		return nil
	}
	return &Blockade{ID: s.PrunePlan, Stack: stack, Names: splitNames(s.PruneServices), Of: s.PruneOf, Since: s.PruneSince}
}

// Blockades are the removals of services that wait in this owner's stacks, by what is
// remembered of all of them. Refresh comes first.
func (r *Reconciler) Blockades() []Blockade {
	var list []Blockade
	for _, stack := range r.Stacks() {
		if _, state, ok := r.memory.latest(stack); ok {
			if b := state.Blockade(stack); b != nil {
				list = append(list, *b)
			}
		}
	}
	return list
}

// ConfirmPrune confirms a removal of services that waits in a stack. It is ErrRefused
// where that is not, or no longer, what would go.
func (r *Reconciler) ConfirmPrune(ctx context.Context, stack, id string) (Intent, error) {
	if _, err := r.releasesToAsk(ctx, stack); err != nil {
		return Intent{}, err
	}
	return r.ask(ctx, stack, func(s State) (State, string, error) {
		b := s.Blockade(stack)
		switch {
		case s.PruneConfirmed == id && id != "":
			return s, fmt.Sprintf("the removal %s of services of stack %s is confirmed already", id, stack), nil
		case b == nil || b.ID != id:
			return s, "", refuse("%s is not what waits in stack %s (`skep prune` shows what does)", id, stack)
		}
		s.PruneConfirmed = id
		return s, fmt.Sprintf("%d services of stack %s are to be removed, with the release that waits for that: %s", len(b.Names), stack, few(b.Names)), nil
	})
}
