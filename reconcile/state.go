package reconcile

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/swarm"
)

// What people ask of a stack, and are asked about it, is kept beside its releases, in a
// config object of its own whose data says nothing and whose labels say all. It is
// written by compare-and-set only when somebody asks for something, or when what was
// asked for has come to its end; it goes when the stack is forgotten.
const (
	labelSuspended = "skep.suspended"
	labelWhy       = "skep.suspended-why"
	labelPinned    = "skep.pinned"
	labelPin       = "skep.pin"
	labelPinDigest = "skep.pin-digest"
	labelPinSource = "skep.pin-source"
	labelPardoned  = "skep.pardoned"
	labelStale     = "skep.stale"
	labelOlder     = "skep.older"
	labelPardonAt  = "skep.pardoned-at"

	labelPrunePlan      = "skep.prune-plan"
	labelPruneServices  = "skep.prune-services"
	labelPruneOf        = "skep.prune-of"
	labelPruneSince     = "skep.prune-since"
	labelPruneConfirmed = "skep.prune-confirmed"

	stateData = "What it says is in its labels.\n" // an engine wants some

	// stateTries is how often a write starts over after somebody else's: people are
	// few, and of those who write at the same moment one always gets through.
	stateTries = 10
)

// A State is what people asked of a stack, until they or its files say otherwise.
// The zero value asks for nothing.
type State struct {
	// Suspended is since when nothing may be written; zero: it may.
	Suspended time.Time `json:"suspended,omitzero"`
	Why       string    `json:"why,omitempty"` // in the words of who suspended it
	// Pinned is since when the stack is to be as release Pin, which can be 0, was;
	// zero: it is to be as its file says.
	Pinned time.Time `json:"pinned,omitzero"`
	Pin    int       `json:"pin,omitempty"`
	// PinDigest and PinSource are what the stack's file was by then, as the newest
	// release that came of it says: the pin ends when the file is neither.
	PinDigest string `json:"pinDigest,omitempty"`
	PinSource string `json:"pinSource,omitempty"`
	// Pardoned is the newest release whose failure is forgiven, with all before it:
	// what failed in them may be tried again.
	Pardoned int `json:"pardoned,omitempty"`
	// PardonedAt is when that was; zero where it is not known.
	PardonedAt time.Time `json:"pardonedAt,omitzero"`
	// PrunePlan is the ID of a removal of services that is too much to go unasked, since
	// PruneSince: the file has lost PruneServices (names with commas between them) of
	// PruneOf that live. PruneConfirmed is the ID that a person has confirmed.
	PrunePlan      string    `json:"prunePlan,omitempty"`
	PruneServices  string    `json:"pruneServices,omitempty"`
	PruneOf        int       `json:"pruneOf,omitempty"`
	PruneSince     time.Time `json:"pruneSince,omitzero"`
	PruneConfirmed string    `json:"pruneConfirmed,omitempty"`
	// Stale is the release that is newer than the stack's source, while it is held for
	// that; Older is the newest release that an older source may follow, since somebody
	// said so. 0 is none.
	Stale int `json:"stale,omitempty"`
	Older int `json:"older,omitempty"`
}

// Retries says of a stack's newest release that it failed and is to be tried again,
// since somebody asked for that, and that nobody did so yet.
func (s State) Retries(newest int, phase Phase) bool {
	return phase == PhaseFailed && newest <= s.Pardoned
}

// IsSuspended says that nothing may be written.
func (s State) IsSuspended() bool { return !s.Suspended.IsZero() }

// IsPinned says that the stack is to be as release s.Pin was.
func (s State) IsPinned() bool { return !s.Pinned.IsZero() }

// unpinned is s when the pin has come to its end.
func (s State) unpinned() State {
	s.Pinned, s.Pin, s.PinDigest, s.PinSource = time.Time{}, 0, "", ""
	return s
}

// equal compares times as moments.
func (s State) equal(t State) bool {
	same := s.Suspended.Equal(t.Suspended) && s.Pinned.Equal(t.Pinned) && s.PardonedAt.Equal(t.PardonedAt) && s.PruneSince.Equal(t.PruneSince)
	for _, x := range []*State{&s, &t} {
		x.Suspended, x.Pinned, x.PardonedAt, x.PruneSince = time.Time{}, time.Time{}, time.Time{}, time.Time{}
	}
	return same && s == t
}

// labels writes a state over the labels that its config had: what a newer skep may
// have put there stays.
func (s State) labels(old map[string]string, owner, stack string) map[string]string {
	l := maps.Clone(old)
	if l == nil {
		l = map[string]string{}
	}
	for _, key := range []string{labelSuspended, labelWhy, labelPinned, labelPin, labelPinDigest, labelPinSource, labelPardoned, labelPardonAt,
		labelStale, labelOlder, labelPrunePlan, labelPruneServices, labelPruneOf, labelPruneSince, labelPruneConfirmed} {
		delete(l, key)
	}
	l[labelKind], l[labelStack], l[LabelOwner] = KindState, stack, owner
	if s.IsSuspended() {
		l[labelSuspended] = s.Suspended.UTC().Format(time.RFC3339Nano)
		if s.Why != "" {
			l[labelWhy] = clip(s.Why, maxMessage)
		}
	}
	if s.IsPinned() {
		l[labelPinned] = s.Pinned.UTC().Format(time.RFC3339Nano)
		l[labelPin], l[labelPinDigest], l[labelPinSource] = strconv.Itoa(s.Pin), s.PinDigest, s.PinSource
	}
	for key, n := range map[string]int{labelPardoned: s.Pardoned, labelStale: s.Stale, labelOlder: s.Older} {
		if n > 0 {
			l[key] = strconv.Itoa(n)
		}
	}
	if s.Pardoned > 0 && !s.PardonedAt.IsZero() {
		l[labelPardonAt] = s.PardonedAt.UTC().Format(time.RFC3339Nano)
	}
	if s.PrunePlan != "" {
		l[labelPrunePlan], l[labelPruneServices], l[labelPruneOf] = s.PrunePlan, s.PruneServices, strconv.Itoa(s.PruneOf)
		l[labelPruneSince] = s.PruneSince.UTC().Format(time.RFC3339Nano)
		if s.PruneConfirmed != "" {
			l[labelPruneConfirmed] = s.PruneConfirmed
		}
	}
	return l
}

// parseState reads labels. A time that makes no sense must not set a suspended stack
// free: then it is since when the labels were written.
func parseState(l map[string]string, written time.Time) State {
	at := func(key string) time.Time {
		if t, err := time.Parse(time.RFC3339Nano, l[key]); err == nil && !t.IsZero() {
			return t
		}
		if written.IsZero() {
			return time.Unix(0, 0).UTC()
		}
		return written
	}
	var s State
	if _, ok := l[labelSuspended]; ok {
		s.Suspended, s.Why = at(labelSuspended), l[labelWhy]
	}
	if pin, err := strconv.Atoi(l[labelPin]); err == nil && pin >= 0 {
		s.Pinned, s.Pin, s.PinDigest, s.PinSource = at(labelPinned), pin, l[labelPinDigest], l[labelPinSource]
	}
	for key, n := range map[string]*int{labelPardoned: &s.Pardoned, labelStale: &s.Stale, labelOlder: &s.Older} {
		if number, err := strconv.Atoi(l[key]); err == nil && number > 0 {
			*n = number
		}
	}
	if s.Pardoned > 0 && l[labelPardonAt] != "" {
		s.PardonedAt = at(labelPardonAt)
	}
	if l[labelPrunePlan] != "" {
		s.PrunePlan, s.PruneServices, s.PruneSince = l[labelPrunePlan], l[labelPruneServices], at(labelPruneSince)
		s.PruneOf, _ = strconv.Atoi(l[labelPruneOf])
		s.PruneConfirmed = l[labelPruneConfirmed]
	}
	return s
}

func stateName(stack string) string { return fitName(ownPrefix(KindState), stack, "") }

// stackOfState is stateName's way back: "" where the name is shortened.
func stackOfState(name string) string {
	if len(name) == maxObjectName {
		return ""
	}
	return strings.TrimPrefix(name, ownPrefix(KindState))
}

// isState says that a config is its stack's state.
func isState(c *swarm.Config) bool {
	return c.Spec.Labels[labelKind] == KindState && c.Spec.Name == stateName(c.Spec.Labels[labelStack])
}

// state returns what is asked of a stack; the zero State where nothing is, never nil.
func (m *memory) state(ctx context.Context, stack string) (*State, error) {
	_, s, err := m.read(ctx, stack)
	if err != nil {
		return nil, err
	}
	return &s, nil
}

// setState changes what is asked of a stack, by compare-and-set: change gets the
// newest state, and again where somebody else wrote first, so it may be called more
// than once. What it leaves as it is is not written. The state that then holds comes
// back in what change made of it.
func (m *memory) setState(ctx context.Context, stack string, change func(State) State) error {
	var err error
	for range stateTries {
		var old *swarm.Config
		if old, err = m.readState(ctx, stack); err != nil {
			return fmt.Errorf("read the state of stack %s: %w", stack, err)
		}
		was := State{}
		if old != nil {
			was = parseState(old.Spec.Labels, old.UpdatedAt)
		}
		to := change(was)
		if to.equal(was) {
			return nil
		}
		if err = m.writeState(ctx, stack, old, to); err == nil {
			return nil
		}
		if !isConflict(err) && !isNotFound(err) {
			break
		}
	}
	return fmt.Errorf("write the state of stack %s: %w", stack, err)
}

// readState fetches the config that has a stack's state, nil where there is none.
func (m *memory) readState(ctx context.Context, stack string) (*swarm.Config, error) {
	configs, err := m.swarm.ConfigList(ctx, swarm.ConfigListOptions{Filters: filters.NewArgs(
		filters.Arg("label", labelKind+"="+KindState),
		filters.Arg("label", labelStack+"="+stack),
	)})
	if err != nil {
		return nil, err
	}
	for i := range configs {
		if isState(&configs[i]) {
			return &configs[i], nil
		}
	}
	return nil, nil
}

func (m *memory) writeState(ctx context.Context, stack string, old *swarm.Config, s State) (err error) {
	name := stateName(stack)
	forgets := m.write(name)
	if old == nil {
		_, err = m.swarm.ConfigCreate(ctx, swarm.ConfigSpec{
			Annotations: swarm.Annotations{Name: name, Labels: s.labels(nil, m.owner, stack)}, Data: []byte(stateData),
		})
	} else {
		err = m.swarm.ConfigUpdate(ctx, old.ID, old.Version, swarm.ConfigSpec{
			Annotations: swarm.Annotations{Name: name, Labels: s.labels(old.Spec.Labels, m.owner, stack)},
		})
	}
	if err != nil {
		m.forget(stack)
		return err
	}
	m.putState(stack, s, forgets)
	return nil
}

// putState takes over what an own write made of a state, unless something was
// forgotten meanwhile: then the stack is read again.
func (m *memory) putState(stack string, s State, forgets int) {
	m.mu.Lock()
	_, ok := m.stacks[stack]
	ok = (ok || m.whole && !m.stale[stack]) && m.forgets == forgets
	if ok {
		m.states[stack] = s
		m.reads[stack]++
	}
	m.mu.Unlock()
	if !ok {
		m.forget(stack)
	}
}

// removeState forgets what was asked of a stack.
func (m *memory) removeState(ctx context.Context, stack string) error {
	c, err := m.readState(ctx, stack)
	if err == nil && c != nil && c.Spec.Labels[LabelOwner] == m.owner {
		err = m.swarm.ConfigRemove(ctx, c.ID)
	}
	if err != nil && !isNotFound(err) {
		return fmt.Errorf("remove the state of stack %s: %w", stack, err)
	}
	return nil
}
