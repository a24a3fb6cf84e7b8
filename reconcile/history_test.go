package reconcile

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"

	"github.com/skep-io/skep/spec"
)

var update = flag.Bool("update", false, "write goldens")

// golden compares with a file in testdata/history.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", "history", name)
	if *update {
		must(t, os.MkdirAll(filepath.Dir(file), 0o777))
		must(t, os.WriteFile(file, []byte(got), 0o666))
	}
	want, err := os.ReadFile(file)
	must(t, err)
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}

// A stack's life: a first release, one that fails and goes back, a good one, a rollback
// by hand.
func TestHistoryOfALife(t *testing.T) {
	w := newWorld(t, makeStack("shop", service("shop", "web", "app:1")))
	w.settle()
	for _, image := range []string{"app:2", "app:bad", "app:3"} {
		w.engine.advance(time.Hour)
		w.stack = makeStack("shop", service("shop", "web", image))
		w.settle()
	}
	w.engine.advance(time.Hour)
	in, err := w.r.RequestRollback(t.Context(), "shop", Any)
	must(t, err)
	if !in.Changed || in.State.Pin != 2 {
		t.Fatalf("%+v, want to go back to release 2", in)
	}
	w.settle()
	if got := w.images(); got != "shop_web=app:2" {
		t.Errorf("after the rollback %s runs", got)
	}
	h, err := w.r.History(t.Context(), "shop")
	must(t, err)
	text, err := json.MarshalIndent(h, "", "  ")
	must(t, err)
	golden(t, "life.json", string(text)+"\n")

	w.restart() // nothing of it was in the process
	again, err := w.r.History(t.Context(), "shop")
	must(t, err)
	if a, _ := json.MarshalIndent(again, "", "  "); string(a) != string(text) {
		t.Errorf("after a restart history is\n%s\nwas\n%s", a, text)
	}
}

// What a release changed is told as in a plan, and what looks secret is masked.
func TestCompare(t *testing.T) {
	first := makeStack("shop", service("shop", "web", "app:1"), service("shop", "db", "db:1"))
	first.Services[0].Spec.TaskTemplate.ContainerSpec.Env = []string{"COLOUR=red", "API_TOKEN=abcdefgh12345678"}
	first.Configs = []spec.Config{{Key: "site", Name: "shop_site", Spec: swarm.ConfigSpec{Annotations: swarm.Annotations{Name: "shop_site", Labels: map[string]string{spec.LabelNamespace: "shop"}}, Data: []byte("one")}}}
	w := newWorld(t, first)
	w.settle()

	second := makeStack("shop", service("shop", "web", "app:2"), service("shop", "cache", "cache:1"))
	second.Services[0].Spec.TaskTemplate.ContainerSpec.Env = []string{"COLOUR=blue", "API_TOKEN=ijklmnop87654321"}
	second.Services[0].Spec.Labels["tier"] = "front"
	second.Configs = []spec.Config{{Key: "site", Name: "shop_site", Spec: swarm.ConfigSpec{Annotations: swarm.Annotations{Name: "shop_site", Labels: map[string]string{spec.LabelNamespace: "shop"}}, Data: []byte("two")}}}
	second.Networks = append(second.Networks, spec.Network{Key: "back", Name: "shop_back", Create: network.CreateOptions{Driver: "overlay", Internal: true, Labels: map[string]string{spec.LabelNamespace: "shop"}}})
	w.engine.advance(time.Hour)
	w.stack = second
	w.settle()

	third := makeStack("shop", service("shop", "web", "app:2"), service("shop", "cache", "cache:1"))
	third.Services[0].Spec = second.Services[0].Spec
	third.Networks = []spec.Network{second.Networks[0], {Key: "back", Name: "shop_back", Create: network.CreateOptions{Driver: "overlay", Attachable: true, Options: map[string]string{"encrypted": ""}, Labels: map[string]string{spec.LabelNamespace: "shop"}}}}
	replicas := uint64(5)
	third.Services[1].Spec.Mode.Replicated = &swarm.ReplicatedService{Replicas: &replicas}
	third.Source.Fingerprint, third.Source.Revision = "sha256:third", "rev-third"
	w.engine.advance(time.Hour)
	w.stack = third
	w.settle()

	var b bytes.Buffer
	for n := 1; n <= 3; n++ {
		c, err := w.r.Compare(t.Context(), "shop", n)
		must(t, err)
		must(t, RenderComparison(&b, false, c))
		b.WriteString("\n")
		if text, err := json.Marshal(c.Plan.View()); err != nil || bytes.Contains(text, []byte("abcdefgh")) || bytes.Contains(text, []byte("ijklmnop")) {
			t.Errorf("%v; a secret shows in %s", err, text)
		}
	}
	golden(t, "compare.txt", b.String())
}

// A release that says the same as the one before differs in nothing.
func TestCompareTheSame(t *testing.T) {
	w := newWorld(t, makeStack("shop", service("shop", "web", "app:1")))
	w.settle()
	before := w.recorded(1)
	if plan := changesBetween(before, before); !plan.Empty() {
		t.Errorf("a release differs from itself in %+v", plan.Changes)
	}
}

// recorded is a release's stored stack.
func (w *world) recorded(n int) *Desired {
	w.t.Helper()
	releases, err := w.r.memory.releases(w.t.Context(), w.stack.Name)
	must(w.t, err)
	rel, err := numbered(w.stack.Name, releases, n)
	must(w.t, err)
	d, err := w.r.memory.load(w.t.Context(), rel)
	must(w.t, err)
	return d
}

// What is asked for where there is nothing of it is an answer that is no, and says what
// there is.
func TestHistoryRefusals(t *testing.T) {
	w := newWorld(t, makeStack("shop", service("shop", "web", "app:1")))
	w.settle()
	w.stack = makeStack("shop", service("shop", "web", "app:bad"))
	w.settle()
	must(t, w.spoil(1))
	for _, tt := range []struct {
		ask  func() error
		want string
	}{
		{func() error { _, err := w.r.History(t.Context(), "nosuch"); return err }, `no stack "nosuch" that skep knows`},
		{func() error { _, err := w.r.Compare(t.Context(), "nosuch", 1); return err }, `no stack "nosuch" that skep knows`},
		{func() error { _, err := w.r.Compare(t.Context(), "shop", 7); return err }, "stack shop has no release 7: releases 1 to 2 are remembered"},
		{func() error { _, err := w.r.Compare(t.Context(), "shop", 1); return err }, "the record of release 1 of stack shop is damaged"},
		{func() error { _, err := w.r.RequestRollback(t.Context(), "shop", 1); return err }, "the record of release 1 of stack shop is damaged"},
		{func() error { _, err := w.r.RequestRollback(t.Context(), "shop", 2); return err }, "release 2 of stack shop failed: "},
		{func() error { _, err := w.r.RequestRollback(t.Context(), "shop", 3); return err }, "stack shop has no release 3"},
		{func() error { _, err := w.r.RequestRollback(t.Context(), "nosuch", Any); return err }, `no stack "nosuch" that skep knows`},
		{func() error { _, err := w.r.Suspend(t.Context(), "nosuch", ""); return err }, `no stack "nosuch" that skep knows`},
		{func() error { _, err := w.r.Resume(t.Context(), "nosuch"); return err }, `no stack "nosuch" that skep knows`},
	} {
		if err := tt.ask(); !errors.Is(err, ErrRefused) || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("got %v, want a no that begins with %q", err, tt.want)
		}
	}
	// With what is before it lost, all of a release is new.
	c, err := w.r.Compare(t.Context(), "shop", 2)
	must(t, err)
	if c.Against != nil || len(c.Plan.Changes) != 2 {
		t.Errorf("against %v: %+v", c.Against, c.Plan.Changes)
	}
	for _, write := range w.engine.takeWrites() {
		if strings.Contains(write, "skep-state-") {
			t.Errorf("a no wrote: %s", write)
		}
	}
}

// spoil damages a release's record.
func (w *world) spoil(n int) error {
	w.engine.mu.Lock()
	defer w.engine.mu.Unlock()
	for id, c := range w.engine.configs {
		if c.Spec.Name == recordName(w.stack.Name, n) {
			c.Spec.Data = []byte("not what was written")
			w.engine.configs[id] = c
			w.r.memory.forget("")
			return nil
		}
	}
	return fmt.Errorf("no record of release %d", n)
}

func TestInForce(t *testing.T) {
	healthy := &Release{Number: 1, Phase: PhaseHealthy}
	failed := &Release{Number: 2, Phase: PhaseFailed}
	leaving := &Release{Number: 2, Phase: PhaseFailed, index: index{corrected: map[string]string{"shop_web": "-"}}}
	left := &Release{Number: 2, Phase: PhaseFailed, index: index{back: true}}
	partly := &Release{Number: 2, Phase: PhaseFailed, index: index{back: true, reverts: map[string]bool{"shop_web": true}}}
	under := &Release{Number: 3, Phase: PhaseProgressing}
	for _, tt := range []struct {
		releases []*Release
		want     *Release
	}{
		{nil, nil},
		{[]*Release{healthy}, healthy},
		{[]*Release{healthy, failed}, failed},
		{[]*Release{healthy, leaving}, healthy},
		{[]*Release{healthy, left}, healthy},
		{[]*Release{healthy, partly}, partly},
		{[]*Release{left}, nil},
		{[]*Release{healthy, left, under}, under},
	} {
		if got := inForce(tt.releases); got != tt.want {
			t.Errorf("%+v: %+v, want %+v", tt.releases, got, tt.want)
		}
	}
}

// As many releases are remembered as asked for, and the one that runs always is.
func TestHistoryIsBounded(t *testing.T) {
	w := newWorld(t, makeStack("shop", service("shop", "web", "app:0")))
	w.r = New(Options{Swarm: w.engine, Now: w.engine.now, History: 3})
	w.settle()
	for i := range 6 {
		image := fmt.Sprintf("app:%d", i)
		if i > 1 {
			image = "bad" + image
		}
		w.stack = makeStack("shop", service("shop", "web", image))
		w.settle()
	}
	h, err := w.r.History(t.Context(), "shop")
	must(t, err)
	if len(h.Releases) != 3 || !slices.ContainsFunc(h.Releases, func(e HistoryEntry) bool { return e.Running && e.Phase == PhaseHealthy }) {
		t.Errorf("%d releases are remembered: %+v", len(h.Releases), h.Releases)
	}
}

// The waves of what runs are those of its release, not those of one that failed and was
// left; a stack without a release has none.
func TestWavesOfARelease(t *testing.T) {
	w := newWorld(t, makeStack("shop", service("shop", "db", "db:1"), service("shop", "web", "app:1", "db")))
	if waves, err := w.r.Waves(t.Context(), "shop"); err != nil || len(waves) > 0 {
		t.Errorf("before the first release: %v, %v", waves, err)
	}
	w.settle()
	w.stack = makeStack("shop", service("shop", "db", "db:1"), service("shop", "web", "app:bad"))
	w.settle()
	waves, err := w.r.Waves(t.Context(), "shop")
	must(t, err)
	if len(waves) != 2 || waves["shop_db"] != 0 || waves["shop_web"] != 1 {
		t.Errorf("%v, want web in the second", waves)
	}
}
