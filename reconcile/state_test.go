package reconcile

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"
	"pgregory.net/rapid"
)

func drawState(t *rapid.T) State {
	at := func(label string) time.Time {
		return time.Unix(rapid.Int64Range(1, 4e9).Draw(t, label), rapid.Int64Range(0, 999_999_999).Draw(t, label+" ns")).UTC()
	}
	var s State
	if rapid.Bool().Draw(t, "suspended") {
		s.Suspended, s.Why = at("since"), rapid.String().Draw(t, "why")
	}
	if rapid.Bool().Draw(t, "pinned") {
		s.Pinned, s.Pin = at("pinned at"), rapid.IntRange(0, 1000).Draw(t, "pin")
		s.PinDigest, s.PinSource = rapid.String().Draw(t, "digest"), rapid.String().Draw(t, "source")
	}
	s.Pardoned = rapid.IntRange(0, 1000).Draw(t, "pardoned")
	if rapid.Bool().Draw(t, "shrinks") {
		s.PrunePlan, s.PruneSince = rapid.StringMatching(`[0-9a-f]{8}`).Draw(t, "plan"), at("shrinks at")
		s.PruneServices, s.PruneOf = rapid.String().Draw(t, "services"), rapid.IntRange(0, 1000).Draw(t, "of")
		s.PruneConfirmed = rapid.StringMatching(`([0-9a-f]{8})?`).Draw(t, "confirmed")
	}
	s.Stale, s.Older = rapid.IntRange(0, 1000).Draw(t, "stale"), rapid.IntRange(0, 1000).Draw(t, "older")
	return s
}

func TestStateIsReadAsItWasWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, old := drawState(t), map[string]string{"skep.from-a-newer-one": "kept", labelPin: "7", labelSuspended: "once"}
		l := s.labels(old, "skep", "shop")
		if got := parseState(l, time.Time{}); !got.equal(s) {
			t.Fatalf("wrote %+v\nread %+v", s, got)
		}
		if l["skep.from-a-newer-one"] != "kept" || l[labelKind] != KindState || l[labelStack] != "shop" || l[LabelOwner] != "skep" {
			t.Fatalf("labels %v", l)
		}
	})
}

// Labels that somebody spoilt must not set a suspended stack free, nor take skep down.
func TestSpoiltState(t *testing.T) {
	written := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		labels map[string]string
		want   State
	}{
		{nil, State{}},
		{map[string]string{labelSuspended: "yes"}, State{Suspended: written}},
		{map[string]string{labelSuspended: "0001-01-01T00:00:00Z"}, State{Suspended: written}},
		{map[string]string{labelPin: "3"}, State{Pin: 3, Pinned: written}},
		{map[string]string{labelPin: "-3", labelPinned: "2026-01-02T00:00:00Z"}, State{}},
		{map[string]string{labelPin: "three"}, State{}},
		{map[string]string{labelPardoned: "many"}, State{}},
		{map[string]string{labelPardoned: "-1"}, State{}},
	} {
		if got := parseState(tt.labels, written); !got.equal(tt.want) {
			t.Errorf("%v: %+v, want %+v", tt.labels, got, tt.want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		l := map[string]string{}
		for _, key := range []string{labelSuspended, labelPinned, labelPin, labelPardoned} {
			if rapid.Bool().Draw(t, key) {
				l[key] = rapid.String().Draw(t, key+" value")
			}
		}
		if _, ok := l[labelSuspended]; ok && !parseState(l, time.Time{}).IsSuspended() {
			t.Fatalf("%v sets free", l)
		}
	})
}

func TestNamesOfStates(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := rapid.StringMatching(`[a-z][a-z0-9_-]{0,80}`).Draw(t, "stack")
		b := rapid.StringMatching(`[a-z][a-z0-9_-]{0,80}`).Draw(t, "another")
		name := stateName(a)
		if len(name) > maxObjectName || (stateName(b) == name) != (a == b) {
			t.Fatalf("%q and %q: %q", a, b, name)
		}
		if back := stackOfState(name); back != "" && back != a {
			t.Fatalf("%q is taken for the state of %q, is of %q", name, back, a)
		}
	})
}

// Three who ask at the same moment all get through: none writes over another's.
func TestStateIsWrittenByCompareAndSet(t *testing.T) {
	for _, exists := range []bool{false, true} {
		e := newFakeEngine()
		memories := make([]*memory, 3)
		for i := range memories {
			memories[i] = newMemory(e, "skep", 10, e.now)
		}
		if exists {
			must(t, memories[0].setState(t.Context(), "shop", func(s State) State { s.Pardoned = 1; return s }))
		}
		const each = 5
		var racers sync.WaitGroup
		errs := make([]error, len(memories))
		for i, m := range memories {
			racers.Go(func() {
				for range each {
					errs[i] = errors.Join(errs[i], m.setState(t.Context(), "shop", func(s State) State {
						s.Pardoned++
						return s
					}))
				}
			})
		}
		racers.Wait()
		must(t, errors.Join(errs...))
		want := len(memories) * each
		if exists {
			want++
		}
		for i, m := range memories {
			m.forget("")
			if s, err := m.state(t.Context(), "shop"); err != nil || s.Pardoned != want {
				t.Errorf("exists %t: racer %d reads %+v, %v; want %d writes to be in it", exists, i, s, err, want)
			}
		}
		if len(e.configs) != 1 {
			t.Errorf("exists %t: %d configs, want the one", exists, len(e.configs))
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestStateIsWrittenOnlyWhenItDiffers(t *testing.T) {
	e := newFakeEngine()
	m := newMemory(e, "skep", 10, e.now)
	set := func(change func(State) State) []string {
		t.Helper()
		must(t, m.setState(t.Context(), "shop", change))
		return e.takeWrites()
	}
	if w := set(func(s State) State { return s }); len(w) != 0 {
		t.Errorf("asking for nothing wrote %v", w)
	}
	suspend := func(s State) State { s.Suspended = noon; return s }
	if w := set(suspend); !slices.Equal(w, []string{"create config skep-state-shop"}) {
		t.Errorf("the first wrote %v", w)
	}
	for _, c := range e.configs {
		if len(c.Spec.Data) == 0 || c.Spec.Labels["com.docker.stack.namespace"] != "" {
			t.Errorf("an engine refuses it, or a stack takes it along: %+v", c.Spec)
		}
	}
	if w := set(suspend); len(w) != 0 {
		t.Errorf("asking for the same wrote %v", w)
	}
	// The same moment in another part of the world.
	if w := set(func(s State) State { s.Suspended = noon.In(time.FixedZone("", 3600)); return s }); len(w) != 0 {
		t.Errorf("the same moment wrote %v", w)
	}
	if w := set(func(State) State { return State{} }); !slices.Equal(w, []string{"update config skep-state-shop"}) {
		t.Errorf("taking it back wrote %v", w)
	}
}

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// A write whose outcome is not known is looked at before it is repeated.
func TestStateAfterAnAmbiguousWrite(t *testing.T) {
	e := newFakeEngine()
	m := newMemory(e, "skep", 10, e.now)
	e.fault = func(op string, after bool) error {
		if after {
			e.fault = nil
			return errors.New("rpc error: context deadline exceeded")
		}
		return nil
	}
	pin := func(s State) State { s.Pinned, s.Pin = noon, 3; return s }
	if err := m.setState(t.Context(), "shop", pin); err == nil {
		t.Fatal("the write came back without its error")
	}
	if s, err := m.state(t.Context(), "shop"); err != nil || s.Pin != 3 {
		t.Errorf("read %+v, %v; want what was written", s, err)
	}
	e.takeWrites()
	must(t, m.setState(t.Context(), "shop", pin))
	if w := e.takeWrites(); len(w) != 0 {
		t.Errorf("it was there and is written again: %v", w)
	}
}

// Somebody who always writes first does not keep us for ever.
func TestStateGivesUp(t *testing.T) {
	e := newFakeEngine()
	m := newMemory(e, "skep", 10, e.now)
	tries := 0
	e.fault = func(op string, after bool) error {
		tries++
		return fmt.Errorf("update out of sequence")
	}
	err := m.setState(t.Context(), "shop", func(s State) State { s.Pardoned++; return s })
	if !isConflict(err) || tries != stateTries || !strings.HasPrefix(err.Error(), "write the state of stack shop: ") {
		t.Errorf("after %d tries: %v", tries, err)
	}
}

// What another process asks for is noticed: by its event, and after a gap by reading all.
func TestOthersStateIsNoticed(t *testing.T) {
	for _, stack := range []string{"shop", strings.Repeat("long", 20)} {
		for _, gap := range []bool{false, true} {
			w := newWorld(t, makeStack("blog", service("blog", "web", "app:1")))
			refresh := func() []string {
				t.Helper()
				changed, err := w.r.Refresh(t.Context())
				must(t, err)
				return changed
			}
			refresh()
			w.settle()
			w.stack = makeStack(stack, service(stack, "web", "app:1"))
			w.settle()
			refresh()
			if changed := refresh(); len(changed) != 0 {
				t.Fatalf("%v are changed though nothing is", changed)
			}
			other := newMemory(w.engine, "skep", 10, w.engine.now)
			must(t, other.setState(t.Context(), stack, func(s State) State { s.Suspended = noon; return s }))
			if gap {
				w.r.Noticed("")
			} else {
				w.r.Noticed(stateName(stack))
			}
			if changed := refresh(); !slices.Contains(changed, stack) || slices.Contains(changed, "blog") {
				t.Errorf("stack %s, gap %t: %v want a pass", stack, gap, changed)
			}
			if s, err := w.r.memory.state(t.Context(), stack); err != nil || !s.IsSuspended() {
				t.Errorf("stack %s, gap %t: %+v, %v", stack, gap, s, err)
			}
		}
	}
}

// Our own writes of a state are known without a reading, and a pass that found nothing
// to do looks again after one.
func TestOwnStateIsNotReadBack(t *testing.T) {
	w := newWorld(t, makeStack("shop", service("shop", "web", "app:1")))
	_, err := w.r.Refresh(t.Context())
	must(t, err)
	w.settle()
	reading := w.r.memory.reading("shop")
	must(t, w.r.memory.setState(t.Context(), "shop", func(s State) State { s.Suspended = noon; return s }))
	w.r.Noticed(stateName("shop")) // the event of it
	calls := w.engine.calls
	s, err := w.r.memory.state(t.Context(), "shop")
	if err != nil || !s.Suspended.Equal(noon) || w.engine.calls != calls {
		t.Errorf("%+v, %v, %d requests", s, err, w.engine.calls-calls)
	}
	if w.r.memory.reading("shop") == reading {
		t.Error("a pass that looked at the state before is taken for one that did after")
	}
}

// A state outlives releases, goes with its stack, and is never taken for a release or
// for something of the stack.
func TestStateBesideReleases(t *testing.T) {
	w := newWorld(t, makeStack("shop", service("shop", "web", "app:1")))
	w.settle()
	must(t, w.r.memory.setState(t.Context(), "shop", func(s State) State { s.Pardoned = 1; return s }))
	w.r.memory.forget("")
	live, err := w.r.observer.get(t.Context(), "shop", 0)
	must(t, err)
	if live.Configs[stateName("shop")] != nil {
		t.Error("it is among the configs of the Swarm")
	}
	releases, err := w.r.memory.releases(t.Context(), "shop")
	if err != nil || len(releases) != 1 {
		t.Fatalf("%d releases, %v", len(releases), err)
	}
	must(t, w.r.memory.removeAll(t.Context(), "shop", releases))
	if left := slices.Collect(maps.Values(w.engine.configs)); slices.ContainsFunc(left, func(c swarm.Config) bool {
		return strings.HasPrefix(c.Spec.Name, "skep-state-")
	}) {
		t.Errorf("it stays when its stack is forgotten: %v", left)
	}
	must(t, w.r.memory.setState(t.Context(), "shop", func(s State) State { s.Pardoned = 1; return s }))
	must(t, newMemory(w.engine, "other", 10, w.engine.now).removeAll(t.Context(), "shop", nil))
	if s, err := w.r.memory.state(t.Context(), "shop"); err != nil || s.Pardoned != 1 {
		t.Errorf("another owner removed it: %+v, %v", s, err)
	}
	// A config that somebody calls so is not one.
	id, err := w.engine.ConfigCreate(t.Context(), swarm.ConfigSpec{Annotations: swarm.Annotations{Name: "mine", Labels: State{Suspended: noon}.labels(nil, "skep", "shop")}})
	must(t, err)
	w.r.memory.forget("")
	if s, err := w.r.memory.state(t.Context(), "shop"); err != nil || s.IsSuspended() {
		t.Errorf("config %s is taken for the state: %+v, %v", id.ID, s, err)
	}
}
