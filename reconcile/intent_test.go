package reconcile

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// past is a stack's releases as these say: "H1" is release 1, healthy, F failed, S
// superseded, P under way, B failed and went back; "H4of2" repeats release 2 by hand.
func past(text string) []*Release {
	phases := map[byte]Phase{'H': PhaseHealthy, 'F': PhaseFailed, 'B': PhaseFailed, 'S': PhaseSuperseded, 'P': PhaseProgressing}
	var list []*Release
	for i, word := range strings.Fields(text) {
		number, of, hand := strings.Cut(word[1:], "of")
		r := &Release{Number: i, Phase: phases[word[0]], Message: "why", By: ByFile, owner: "skep"}
		r.Number = int(number[0] - '0')
		r.Digest, r.Source = "d"+number, "s"+number
		r.index.back = word[0] == 'B'
		if hand {
			r.By, r.Of, r.Digest = ByHand, int(of[0]-'0'), "d"+of
		}
		list = append(list, r)
	}
	return list
}

func TestWayBack(t *testing.T) {
	suspended := State{Suspended: noon, Why: "not now"}
	for _, tt := range []struct {
		name     string
		releases string
		state    State
		to       int
		want     int    // the release, or
		no       string // what is in the refusal
	}{
		{name: "the one before", releases: "H1 H2 H3", to: Any, want: 2},
		{name: "not to what failed", releases: "H1 F2 H3", to: Any, want: 1},
		{name: "not to what was superseded", releases: "H1 S2 H3", to: Any, want: 1},
		{name: "from what is under way", releases: "H1 H2 P3", to: Any, want: 2},
		{name: "from what failed and is held", releases: "H1 H2 F3", to: Any, want: 2},
		{name: "further than what failed went back by itself", releases: "H1 H2 B3", to: Any, want: 1},
		{name: "further back the second time", releases: "H1 H2 H3 H4of2", to: Any, want: 1},
		{name: "never to what was fled from", releases: "H2 H3 H4of2", to: Any, no: "no release to go back to"},
		{name: "to what skep found", releases: "H0 H1", to: Any, want: 0},
		{name: "the first", releases: "H1", to: Any, no: "no release to go back to"},
		{name: "by number", releases: "H1 H2 H3", to: 1, want: 1},
		{name: "release 0", releases: "H0 H1 H2", to: 0, want: 0},
		{name: "forwards again", releases: "H1 H2 H3 H4of2", to: 3, want: 3},
		{name: "what runs", releases: "H1 H2", to: 2, no: "at release 2 already"},
		{name: "what runs, under its first number", releases: "H1 H2 H3of1", to: 1, no: "at release 1 already"},
		{name: "what was gone back to", releases: "H1 B2", to: 1, no: "at release 1 already"},
		{name: "what failed", releases: "H1 B2 H3", to: 2, no: "release 2 of stack shop failed: why"},
		{name: "what was superseded", releases: "H1 S2 H3", to: 2, no: "never healthy, but superseded"},
		{name: "what is under way", releases: "H1 P2", to: 2, no: "never healthy, but progressing"},
		{name: "what there is not", releases: "H2 H3", to: 1, no: "no release 1: releases 2 to 3"},
		{name: "what failed when it was tried again", releases: "H1 H2 F3of1", to: 1, no: "as release 3: why"},
		{name: "the same, forgiven", releases: "H1 H2 F3of1 H4", state: State{Pardoned: 3}, to: 1, want: 1},
		{name: "suspended", releases: "H1 H2", state: suspended, to: 1, no: "suspended, since 2026-01-02 12:00:00 UTC (not now)"},
		{name: "pinned there already", releases: "H1 H2 H3of1", state: State{Pinned: noon, Pin: 1}, to: 1, want: 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := wayBack("shop", past(tt.releases), tt.state, tt.to)
			switch {
			case tt.no != "":
				if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), tt.no) {
					t.Errorf("%v, %v; want a no with %q", got, err, tt.no)
				}
			case err != nil || got.Number != tt.want:
				t.Errorf("%+v, %v; want release %d", got, err, tt.want)
			}
		})
	}
}

func TestFileOf(t *testing.T) {
	asked := State{PinDigest: "asked", PinSource: "then"}
	for releases, want := range map[string]string{"H1 H2": "d2", "H1 H2 H3of1": "d2", "H1 B2 H3of1": "d2", "H3of1 H4of3": "asked"} {
		if digest, _ := fileOf(past(releases), asked); digest != want {
			t.Errorf("%s: the file's digest is %s, want %s", releases, digest, want)
		}
	}
}

func TestUnpardoned(t *testing.T) {
	for _, tt := range []struct {
		releases string
		pardoned int
		file     int
		some     bool
	}{
		{"H1", 0, 0, false},
		{"H1 F2", 0, 2, true},
		{"H1 F2", 2, 0, false},
		{"H1 F2 H3", 0, 0, false}, // the file is another by now
		{"H1 F2 H3of1", 0, 2, true},
		{"H1 H2 F3of1", 0, 0, true},
		{"H1 F2 F3", 2, 3, true},
	} {
		file, some := unpardoned(past(tt.releases), State{Pardoned: tt.pardoned})
		number := 0
		if file != nil {
			number = file.Number
		}
		if number != tt.file || some != tt.some {
			t.Errorf("%s, pardoned %d: release %d, %t; want %d, %t", tt.releases, tt.pardoned, number, some, tt.file, tt.some)
		}
	}
}

// asking is a world with two healthy releases.
func asking(t *testing.T) *world {
	w := newWorld(t, makeStack("shop", service("shop", "web", "app:1")))
	w.settle()
	w.engine.advance(time.Minute)
	w.stack = makeStack("shop", service("shop", "web", "app:2"))
	w.settle()
	w.engine.takeWrites()
	return w
}

// Asking writes the state and nothing else, and asking again nothing.
func TestIntentsAreWrittenOnce(t *testing.T) {
	w := asking(t)
	state := func(want string, ask func() (Intent, error)) Intent {
		t.Helper()
		in, err := ask()
		must(t, err)
		if got := strings.Join(w.engine.takeWrites(), ", "); got != want {
			t.Errorf("%s: wrote %q, want %q", in.Message, got, want)
		}
		if in.Changed != (want != "") || in.Stack != "shop" || in.Message == "" {
			t.Errorf("%+v", in)
		}
		return in
	}
	ctx := t.Context()
	rollback := func() (Intent, error) { return w.r.RequestRollback(ctx, "shop", 1) }
	resume := func() (Intent, error) { return w.r.Resume(ctx, "shop") }
	state("", resume)
	state("create config skep-state-shop", rollback)
	w.engine.advance(time.Minute)
	in := state("", rollback)
	if in.State.Pin != 1 || in.State.PinDigest == "" || in.State.PinSource != "sha256:webapp:2" {
		t.Errorf("%+v", in.State)
	}
	state("update config skep-state-shop", func() (Intent, error) { return w.r.Suspend(ctx, "shop", "not\n now ") })
	w.engine.advance(time.Minute)
	in = state("", func() (Intent, error) { return w.r.Suspend(ctx, "shop", "") })
	if in.State.Why != "not now" || !in.State.IsPinned() {
		t.Errorf("%+v", in.State)
	}
	if _, err := rollback(); !errors.Is(err, ErrRefused) || len(w.engine.takeWrites()) > 0 {
		t.Errorf("a rollback of what is suspended: %v", err)
	}
	in = state("update config skep-state-shop", resume)
	if !in.State.equal(State{}) || in.Message != "stack shop is no longer suspended, and is no longer pinned to release 1" {
		t.Errorf("%+v", in)
	}
	state("", resume)
}

// Three who ask at the same moment each get what they asked for.
func TestIntentsRace(t *testing.T) {
	w := asking(t)
	var racers sync.WaitGroup
	errs := make([]error, 3)
	for i, ask := range []func(*Reconciler) (Intent, error){
		func(r *Reconciler) (Intent, error) { return r.RequestRollback(t.Context(), "shop", 1) },
		func(r *Reconciler) (Intent, error) { return r.RequestRollback(t.Context(), "shop", Any) },
		func(r *Reconciler) (Intent, error) { return r.Resume(t.Context(), "shop") },
	} {
		r := New(Options{Swarm: w.engine, Now: w.engine.now})
		racers.Go(func() { _, errs[i] = ask(r) })
	}
	racers.Wait()
	must(t, errors.Join(errs...))
	if _, err := w.r.Suspend(t.Context(), "shop", "all got through"); err != nil {
		t.Error(err)
	}
}

// A stack can be suspended before skep's first change to it.
func TestSuspendWhatWasNotReleased(t *testing.T) {
	w := asking(t)
	releases, err := w.r.memory.releases(t.Context(), "shop")
	must(t, err)
	must(t, w.r.memory.removeAll(t.Context(), "shop", releases))
	_, err = w.r.Suspend(t.Context(), "shop", "")
	must(t, err)
	w.engine.takeWrites()
	if res := w.pass(); res.Outcome != Held || res.Reason != "Suspended" || len(w.engine.takeWrites()) > 0 {
		t.Errorf("%s %s: %s", res.Outcome, res.Reason, res.Message)
	}
}

// What a plan says of a stack that people asked something of.
func TestPlanTellsWhatWasAsked(t *testing.T) {
	w := asking(t)
	codes := func() (codes []string) {
		t.Helper()
		plan, err := w.r.Plan(t.Context(), w.stack)
		must(t, err)
		for _, f := range plan.Findings {
			codes = append(codes, f.Code)
		}
		return codes
	}
	if got := codes(); len(got) > 0 {
		t.Errorf("%v, and nothing was asked", got)
	}
	_, err := w.r.RequestRollback(t.Context(), "shop", 1)
	must(t, err)
	if got := codes(); !slices.Equal(got, []string{"pinned"}) {
		t.Errorf("%v, want that it is pinned", got)
	}
	_, err = w.r.Suspend(t.Context(), "shop", "")
	must(t, err)
	if got := codes(); !slices.Equal(got, []string{"suspended", "pinned"}) {
		t.Errorf("%v, want that it is suspended and pinned", got)
	}
	w.stack = makeStack("shop", service("shop", "web", "app:3")) // the pin has ended
	if got := codes(); !slices.Equal(got, []string{"suspended"}) {
		t.Errorf("%v, want that it is suspended", got)
	}
}

func TestProgressOf(t *testing.T) {
	deadline, bake := 10*time.Minute, time.Minute
	at := func(d time.Duration) time.Time { return noon.Add(d) }
	timed := index{deadline: deadline, bake: bake}
	corrected := index{deadline: deadline, corrected: map[string]string{"web": "-"}, correctedAt: at(time.Hour)}
	unbounded := index{corrected: corrected.corrected, correctedAt: at(time.Hour)}
	for _, tt := range []struct {
		name string
		r    *Release
		want *Progress
	}{
		{"nothing", &Release{Phase: PhaseHealthy}, nil},
		{"held", &Release{Phase: PhaseFailed}, nil},
		{"a rollout", &Release{Phase: PhaseProgressing, Started: noon, index: timed}, &Progress{StepConverge, noon, at(deadline)}},
		{"one without a deadline", &Release{Phase: PhaseProgressing, Started: noon}, &Progress{Step: StepConverge, Since: noon}},
		{"a bake", &Release{Phase: PhaseProgressing, Started: noon, Converged: at(bake), index: timed}, &Progress{StepBake, at(bake), at(2 * bake)}},
		{"a rollback", &Release{Phase: PhaseFailed, index: corrected}, &Progress{StepBack, at(time.Hour), at(time.Hour + deadline)}},
		{"a correction", &Release{Phase: PhaseHealthy, index: corrected}, &Progress{StepCorrect, at(time.Hour), at(time.Hour + deadline)}},
		{"one without a deadline, which ends all the same", &Release{Phase: PhaseHealthy, index: unbounded}, &Progress{StepCorrect, at(time.Hour), at(time.Hour + overdueAfter)}},
	} {
		got := progressOf([]*Release{{Phase: PhaseFailed}, tt.r})
		if (got == nil) != (tt.want == nil) || got != nil && *got != *tt.want {
			t.Errorf("%s: %+v, want %+v", tt.name, got, tt.want)
		}
	}
	if got := progressOf(nil); got != nil {
		t.Errorf("before the first release: %+v", got)
	}
}
