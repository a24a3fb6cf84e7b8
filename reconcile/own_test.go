package reconcile

import (
	"context"
	"maps"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/swarm"
	"pgregory.net/rapid"

	"github.com/skep-io/skep/spec"
)

// An engine takes names for the same that differ in upper and lower case alone: two
// owners must not share a lease's.
func TestCheckOwner(t *testing.T) {
	for owner, ok := range map[string]bool{
		"skep": true, "a": true, "a-b": true, "team_1.prod": true,
		"": false, "-a": false, "a.": false, "a b": false, "é": false, "Prod": false, "pROD": false,
	} {
		if err := CheckOwner(owner); (err == nil) != ok {
			t.Errorf("%q: %v", owner, err)
		}
	}
}

// All places that name what skep keeps for itself agree: each object's name tells its
// kind, however long the stack's or the owner's name is; no stack may have or read one,
// and a name that is no such object's is free.
func TestOwnNames(t *testing.T) {
	name := rapid.StringMatching(`[a-z0-9]([a-z0-9_.-]{0,70}[a-z0-9])?`)
	rapid.Check(t, func(t *rapid.T) {
		of := name.Draw(t, "of")
		own := map[string]string{
			recordName(of, rapid.IntRange(0, maxRelease).Draw(t, "number")): KindRelease,
			stateName(of): KindState,
			keyName:       KindKey,
		}
		for _, kind := range []string{KindLease, KindReport, KindTold, KindPrune, KindLook} {
			own[OwnName(kind, of)] = kind
		}
		if len(own) != len(ownKinds) {
			t.Fatalf("%d names of %d kinds", len(own), len(ownKinds))
		}
		for name, kind := range own {
			if got := OwnKind(name); got != kind || !strings.HasPrefix(name, ownStart+kind) || len(name) > maxObjectName {
				t.Fatalf("%s is of kind %q, want %q", name, got, kind)
			}
			if !guards(name) {
				t.Fatalf("a stack may have %s", name)
			}
		}
		for _, free := range []string{of, "shop_" + of, "skep_" + of, keyName + of, "skep-config-" + of} {
			if _, is := own[free]; !is && OwnKind(free) == "" && guards(free) {
				t.Fatalf("no stack may have %s", free)
			}
		}
	})
	for _, free := range []string{"", "skep-", "skep", "skep-key-2", "skep-keys", "skep-lease", "skep-releases-x", "my-skep-lease-x"} {
		if kind := OwnKind(free); kind != "" {
			t.Errorf("%q counts as skep's own %s", free, kind)
		}
	}
}

// guards says that no stack gets to have, or to read, a config of that name.
func guards(name string) bool {
	has := &Desired{Stack: "shop", Configs: []DesiredObject{{Name: name, Plain: name}}}
	reads := &Desired{Stack: "shop", Services: []DesiredService{{Spec: swarm.ServiceSpec{TaskTemplate: swarm.TaskSpec{
		ContainerSpec: &swarm.ContainerSpec{Configs: []*swarm.ConfigReference{{ConfigName: name}}}}}}}}
	a, b := len((Guard{}).Check(has, "", nil, nil, true)), len((Guard{}).Check(reads, "", nil, nil, true))
	if a != b {
		panic("what a stack may not have it may read, or the other way round: " + name)
	}
	return a > 0
}

// Whatever skep itself writes, and no stack asked for, has such a name, its kind on it
// and no namespace.
func TestOwnObjectsAreKnownByTheirNames(t *testing.T) {
	stack := one("app:1")
	stack.Secrets = []spec.Secret{{Key: "a", Name: "shop_a", Value: spec.NewSensitive([]byte("planted"))}}
	w := newWorld(t, stack)
	w.settle()
	if _, err := w.r.Suspend(context.Background(), "shop", "why"); err != nil {
		t.Fatal(err)
	}
	kinds := map[string]bool{}
	for _, c := range w.engine.configs {
		kind, l := OwnKind(c.Spec.Name), c.Spec.Labels
		if _, of := l[spec.LabelNamespace]; kind == "" || l[LabelKind] != kind || of {
			t.Errorf("config %s has the labels %v", c.Spec.Name, l)
		}
		kinds[kind] = true
	}
	if want := map[string]bool{KindRelease: true, KindState: true, KindKey: true}; !maps.Equal(kinds, want) {
		t.Errorf("written were %v", kinds)
	}
}

// What controllers write of themselves is no change of any stack.
func TestOwnObjectsChangeNoStack(t *testing.T) {
	w := newWorld(t, one("app:1"))
	w.settle()
	if _, err := w.r.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.pass() // looks at what it has written last
	for _, kind := range []string{KindLease, KindReport, KindTold, KindPrune, KindLook} {
		spec := swarm.ConfigSpec{Annotations: swarm.Annotations{Name: OwnName(kind, "skep"), Labels: map[string]string{LabelKind: kind, LabelOwner: "skep"}}}
		made, err := w.engine.ConfigCreate(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			spec.Labels = maps.Clone(spec.Labels)
			spec.Labels["skep.renewed"] += "1"
			if err := w.engine.ConfigUpdate(t.Context(), made.ID, w.engine.configs[made.ID].Version, spec); err != nil {
				t.Fatal(err)
			}
			w.r.Noticed(spec.Name)
			if changed, err := w.r.Refresh(t.Context()); err != nil || len(changed) > 0 {
				t.Fatalf("a write of %s changed %v, %v", spec.Name, changed, err)
			}
			calls := w.engine.calls
			if w.pass(); w.engine.calls != calls {
				t.Errorf("a write of %s made a pass ask %d times", spec.Name, w.engine.calls-calls)
			}
		}
	}
	if stacks := w.r.Stacks(); len(stacks) != 1 {
		t.Errorf("stacks %v", stacks)
	}
}
