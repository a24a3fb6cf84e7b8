package reconcile

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/skep-io/skep/spec"
)

// takenBack are releases of which the newest failed, and was gone back from as a whole.
func takenBack(releases []*Release) []*Release {
	last(releases).index.back = true
	return releases
}

func TestStale(t *testing.T) {
	at := func(hour int) time.Time { return time.Date(2026, 1, 1, hour, 0, 0, 0, time.UTC) }
	commit := func(hash string, hour int) *spec.Commit { return &spec.Commit{Hash: hash, Short: hash, Time: at(hour)} }
	is := func(d spec.Descent) func(string) (spec.Descent, error) {
		return func(hash string) (spec.Descent, error) {
			if hash != "c9" {
				t.Errorf("asked about %s", hash)
			}
			return d, nil
		}
	}
	// releases are of commits c<number>, committed at that hour.
	committed := func(list []*Release) []*Release {
		for _, r := range list {
			r.Commit, r.Committed = "c"+string(rune('0'+r.Number)), at(r.Number)
		}
		return list
	}
	for _, tt := range []struct {
		name     string
		source   string
		check    SourceCheck
		releases []*Release
		state    State
		want     string // "" is current
	}{
		{name: "nothing was rolled out", source: "s1"},
		{name: "only what was found", source: "s1", releases: past("H0")},

		{name: "content of the newest", source: "s2", releases: past("H1 H2")},
		{name: "content that is new", source: "s3", releases: past("H1 H2")},
		{name: "content of an earlier one", source: "s1", releases: past("H1 H2"), want: "its files are as they were for release 1, and release 2 came after that"},
		{name: "content of an earlier one, the newest failed", source: "s1", releases: past("H1 F2"), want: "as they were for release 1"},
		{name: "content of what runs, since the newest failed", source: "s1", releases: takenBack(past("H1 F2"))},
		{name: "content of one before what runs", source: "s1", releases: takenBack(past("H1 H2 F3")), want: "release 3 came after"},
		{name: "content of an earlier one, and of the newest", source: "s1", releases: append(past("H1 H2"), &Release{Number: 3, Source: "s1", By: ByFile})},
		{name: "what somebody went back to is no file's", source: "s2", releases: past("H1 H2 H3of1")},
		{name: "before what somebody went back from", source: "s1", releases: past("H1 H2 H3of1"), want: "release 2 came after"},
		{name: "this directory had the newest before", source: "s1", check: SourceCheck{Seen: []string{"s1", "s2"}}, releases: past("H1 H2")},
		{name: "this directory had others before", source: "s1", check: SourceCheck{Seen: []string{"s0", "s1"}}, releases: past("H1 H2"), want: "release 2 came after"},
		{name: "no file, and this directory had the newest before", check: SourceCheck{Seen: []string{"s1"}, Doubt: "others are"}, releases: past("H1")},
		{name: "somebody said so", source: "s1", releases: past("H1 H2"), state: State{Older: 2}},
		{name: "somebody said so of an earlier one", source: "s1", releases: past("H1 H2"), state: State{Older: 1}, want: "release 2 came after"},

		{name: "the same commit", source: "x", check: SourceCheck{Commit: commit("c9", 9), Descent: is(spec.DescentSame)}, releases: committed(past("H1 H9"))},
		{name: "a newer commit", source: "x", check: SourceCheck{Commit: commit("ca", 5), Descent: is(spec.DescentNewer)}, releases: committed(past("H1 H9"))},
		{name: "a revert, which is a newer commit", source: "s1", check: SourceCheck{Commit: commit("ca", 10), Descent: is(spec.DescentNewer)}, releases: committed(past("H1 H9"))},
		{name: "an older commit", source: "x", check: SourceCheck{Commit: commit("c5", 5), Descent: is(spec.DescentOlder)}, releases: committed(past("H1 H9")), want: "at commit c5 of 2026-01-01 05:00:00 UTC, which is older than c9"},
		{name: "an older commit with the clock of a newer", source: "x", check: SourceCheck{Commit: commit("c5", 23), Descent: is(spec.DescentOlder)}, releases: committed(past("H1 H9")), want: "older than"},
		{name: "an older commit that has the same files", source: "s9", check: SourceCheck{Commit: commit("c5", 5), Descent: is(spec.DescentOlder)}, releases: committed(past("H1 H9"))},
		{name: "another branch", source: "x", check: SourceCheck{Commit: commit("c5", 10), Descent: is(spec.DescentAside)}, releases: committed(past("H9")), want: "does not descend from"},
		{name: "shallow, committed later", source: "x", check: SourceCheck{Commit: commit("ca", 10), Descent: is(spec.DescentUnknown)}, releases: committed(past("H9"))},
		{name: "shallow, committed at the same time", source: "x", check: SourceCheck{Commit: commit("c5", 9), Descent: is(spec.DescentUnknown)}, releases: committed(past("H9")), want: "was not committed after"},
		{name: "shallow, committed earlier", source: "x", check: SourceCheck{Commit: commit("c5", 5), Descent: is(spec.DescentUnknown)}, releases: committed(past("H9")), want: "was not committed after"},
		{name: "a commit, and releases without", source: "x", check: SourceCheck{Commit: commit("c5", 5)}, releases: past("H1 H9")},
		{name: "releases with a commit, and none here", source: "s1", releases: committed(past("H1 H9")), want: "its files are as they were"},

		{name: "no file, a newer commit", check: SourceCheck{Commit: commit("ca", 5), Descent: is(spec.DescentNewer), Doubt: "others are"}, releases: committed(past("H9"))},
		{name: "no file, an older commit", check: SourceCheck{Commit: commit("c5", 5), Descent: is(spec.DescentOlder)}, releases: committed(past("H9")), want: "older than"},
		{name: "no file, no commit", releases: past("H1")},
		{name: "no file, no commit, others are older", check: SourceCheck{Doubt: "others are"}, releases: past("H1"), want: "others are"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, than, err := stale(tt.source, &tt.check, tt.releases, tt.state)
			if err != nil || (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
				t.Errorf("%q, %v; want %q", got, err, tt.want)
			}
			if (got == "") != (than == nil) {
				t.Errorf("%q, older than %+v", got, than)
			}
		})
	}
	if got, _, err := stale("s1", nil, past("H1 H2"), State{}); got != "" || err != nil {
		t.Errorf("not asked: %q %v", got, err)
	}
	broken := SourceCheck{Commit: commit("c5", 5), Descent: func(string) (spec.Descent, error) { return "", errors.New("unreadable") }}
	if _, _, err := stale("x", &broken, committed(past("H9")), State{}); err == nil {
		t.Error("a repository that cannot be read is no error")
	}
}

func TestDecideStale(t *testing.T) {
	plan := &Plan{Changes: []Change{{Op: OpUpdate, Kind: KindService, Name: "s_web"}}}
	other := &Plan{Findings: []spec.Finding{{Severity: spec.Error, Code: codeOtherOwner, Message: "it is another's"}}}
	r := &Release{Number: 2, Digest: "d2", Phase: PhaseHealthy}
	for _, tt := range []struct {
		name   string
		s      Situation
		act    Act
		reason string
	}{
		{"stale", Situation{Stale: "old", StaleTo: r, Plan: plan}, ActHold, SourceStale},
		{"stale and suspended", Situation{Stale: "old", StaleTo: r, State: State{Suspended: noon}, Plan: plan}, ActHold, "Suspended"},
		{"an older file ends no pin", Situation{Stale: "old", StaleTo: r, State: State{Pinned: noon, Pin: 1}, PinEnds: true, Plan: plan}, ActHold, SourceStale},
		{"what it is pinned to is no file's", Situation{Stale: "old", StaleTo: r, State: State{Pinned: noon, Pin: 2}, Pinned: r, Digest: "d2", Plan: &Plan{}}, ActNothing, "Pinned"},
		{"not any more", Situation{State: State{Stale: 2}, Plan: plan}, ActCurrent, "SourceCurrent"},
		{"another's, whose pin this one must not end", Situation{State: State{Pinned: noon, Pin: 1}, PinEnds: true, Plan: other}, ActHold, "OtherOwner"},
		{"another's, whose mark this one must not take away", Situation{State: State{Stale: 2}, Plan: other}, ActHold, "OtherOwner"},
	} {
		tt.s.Releases = []*Release{r}
		if d := Decide(tt.s); d.Act != tt.act || d.Reason != tt.reason {
			t.Errorf("%s: %s %s: %s", tt.name, d.Act, d.Reason, d.Message)
		}
	}
}

// asks makes a pass that has to find out whether the source is stale.
func (w *world) asks(check *SourceCheck) Result {
	w.t.Helper()
	res := w.r.Reconcile(context.Background(), Input{Name: w.stack.Name, Stack: w.stack, Source: check})
	w.engine.advance(time.Second)
	if res.Err != nil {
		w.t.Fatal(res.Err)
	}
	return res
}

// A successor whose directory is older does not go back in time; it goes on when it
// has caught up, or when somebody says so.
func TestSuccessorWithAnOlderDirectory(t *testing.T) {
	one, two := makeStack("shop", service("shop", "web", "app:1")), makeStack("shop", service("shop", "web", "app:2"))
	start := func() *world {
		w := newWorld(t, one)
		w.settle()
		w.stack = two
		w.settle()
		w.restart()
		w.stack = one
		w.engine.takeWrites()
		res := w.asks(&SourceCheck{})
		if res.Outcome != Held || res.Reason != SourceStale || res.Current || !holdsCondition(res, Stalled) {
			t.Fatalf("%s %s %s", res.Outcome, res.Reason, res.Message)
		}
		if writes := w.engine.takeWrites(); !slices.Equal(writes, []string{"create config skep-state-shop"}) {
			t.Fatalf("it wrote %v", writes)
		}
		for range 5 {
			w.asks(&SourceCheck{})
		}
		w.restart() // the mark outlives the process
		if res := w.asks(&SourceCheck{}); res.Reason != SourceStale || len(w.engine.takeWrites()) > 0 {
			t.Fatalf("again: %s", res.Reason)
		}
		status, err := w.r.Status(t.Context(), "shop")
		if err != nil || status.Reason != SourceStale || status.Outcome != Held {
			t.Fatalf("status: %+v %v", status, err)
		}
		return w
	}

	t.Run("catches up", func(t *testing.T) {
		w := start()
		w.stack = two
		if res := w.asks(&SourceCheck{}); !res.Current || res.Reason != "SourceCurrent" {
			t.Errorf("%s %s", res.Outcome, res.Reason)
		}
		if res := w.settle(); res.Outcome != Unchanged || w.images() != "shop_web=app:2" || w.phases() != "1:Healthy 2:Healthy" {
			t.Errorf("%s, %s, %s", res.Outcome, w.images(), w.phases())
		}
		if st, err := w.r.memory.state(t.Context(), "shop"); err != nil || *st != (State{}) {
			t.Errorf("left: %+v %v", st, err)
		}
	})
	t.Run("becomes something new", func(t *testing.T) {
		w := start()
		w.stack = makeStack("shop", service("shop", "web", "app:3"))
		w.asks(&SourceCheck{})
		w.settle()
		if w.images() != "shop_web=app:3" {
			t.Error(w.images())
		}
	})
	t.Run("resume", func(t *testing.T) {
		w := start()
		in, err := w.r.Resume(t.Context(), "shop")
		if err != nil || !in.Changed || !strings.Contains(in.Message, "older source than release 2") {
			t.Fatalf("%+v %v", in, err)
		}
		w.restart() // a cron job says it anew
		if res := w.asks(&SourceCheck{}); !res.Current || res.Outcome != Applied {
			t.Errorf("%s %s %s", res.Outcome, res.Reason, res.Message)
		}
		w.engine.turn()
		if w.settle(); w.images() != "shop_web=app:1" {
			t.Error(w.images())
		}
		if again, err := w.r.Resume(t.Context(), "shop"); err != nil || again.Changed {
			t.Errorf("once more: %+v %v", again, err)
		}
	})
	t.Run("not asked", func(t *testing.T) { // who has acted all the time knows what the file means
		w := start()
		if w.settle(); w.images() != "shop_web=app:1" {
			t.Error(w.images())
		}
	})
}

func holdsCondition(res Result, t ConditionType) bool {
	return slices.ContainsFunc(res.Conditions, func(c Condition) bool { return c.Type == t && c.True })
}

// A directory that is older than a stack does not remove it.
func TestOlderDirectoryRemovesNothing(t *testing.T) {
	w := newWorld(t, makeStack("shop", service("shop", "web", "app:1")))
	w.stack.Source.Commit = &spec.Commit{Hash: strings.Repeat("9", 40), Short: "9999999", Time: noon}
	w.settle()
	w.r = New(Options{Swarm: w.engine, Now: w.engine.now, PruneStacks: true})
	w.engine.takeWrites()
	older := &SourceCheck{Commit: &spec.Commit{Hash: strings.Repeat("1", 40), Short: "1111111", Time: noon.Add(-time.Hour)},
		Descent: func(hash string) (spec.Descent, error) {
			if hash != w.stack.Source.Commit.Hash {
				t.Errorf("asked about %s", hash)
			}
			return spec.DescentOlder, nil
		}}
	pass := func(check *SourceCheck) Result {
		res := w.r.Reconcile(t.Context(), Input{Name: "shop", Source: check})
		w.engine.advance(time.Second)
		return res
	}
	for range 3 {
		if res := pass(older); res.Outcome != Held || res.Reason != SourceStale || res.Current {
			t.Fatalf("%s %s %s", res.Outcome, res.Reason, res.Message)
		}
	}
	if writes := w.engine.takeWrites(); !slices.Equal(writes, []string{"create config skep-state-shop"}) {
		t.Fatalf("it wrote %v", writes)
	}
	newer := &SourceCheck{Commit: older.Commit, Descent: func(string) (spec.Descent, error) { return spec.DescentNewer, nil }}
	for range 10 {
		pass(newer)
		w.engine.turn()
	}
	if w.images() != "" || len(w.engine.configs) > 0 {
		t.Errorf("left: %s, %d configs", w.images(), len(w.engine.configs))
	}
}

func TestReleaseRemembersItsCommit(t *testing.T) {
	w := newWorld(t, makeStack("shop", service("shop", "web", "app:1")))
	at := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	w.stack.Source.Commit = &spec.Commit{Hash: strings.Repeat("ab", 20), Short: "abababa", Subject: "one", Time: at}
	w.settle()
	w.restart()
	list, err := w.r.memory.releases(t.Context(), "shop")
	if err != nil || len(list) != 1 || list[0].Commit != strings.Repeat("ab", 20) || !list[0].Committed.Equal(at) {
		t.Errorf("%+v %v", list, err)
	}
}

// Two controllers of different owners on one Swarm: neither touches, or counts as its
// own, what the other has; who claims the other's stack is told whose it is.
func TestTwoOwners(t *testing.T) {
	e := newFakeEngine()
	owned := func(owner string, stack *spec.Stack) *world {
		return &world{t: t, engine: e, stack: stack, r: New(Options{Swarm: e, Now: e.now, Owner: owner, PruneStacks: true})}
	}
	a, b := owned("a", makeStack("shop", service("shop", "web", "app:1"))), owned("b", makeStack("blog", service("blog", "web", "app:2")))
	a.settle()
	b.settle()
	refresh := func() {
		t.Helper()
		for _, w := range []*world{a, b} {
			w.r.Noticed("")
			if _, err := w.r.Refresh(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	refresh()
	if got, other := a.r.Stacks(), b.r.Stacks(); !slices.Equal(got, []string{"shop"}) || !slices.Equal(other, []string{"blog"}) {
		t.Errorf("a has %v, b %v", got, other)
	}
	e.takeWrites()
	for _, x := range []struct {
		w     *world
		other string
	}{{a, "blog"}, {b, "shop"}} {
		if res := x.w.r.Reconcile(t.Context(), Input{Name: x.other}); res.Outcome != Unchanged || res.Reason != "Gone" {
			t.Errorf("the other's %s: %s %s", x.other, res.Outcome, res.Message)
		}
	}
	claim := func(what string) {
		t.Helper()
		for _, x := range []struct {
			w          *world
			stack      *spec.Stack
			mine, hers string
		}{{a, b.stack, `"a"`, `"b"`}, {b, a.stack, `"b"`, `"a"`}} {
			res := x.w.r.Reconcile(t.Context(), Input{Name: x.stack.Name, Stack: x.stack, Source: &SourceCheck{}})
			if res.Outcome != Held || res.Reason != "OtherOwner" || !strings.Contains(res.Message, x.mine) || !strings.Contains(res.Message, x.hers) {
				t.Errorf("%s: %s claims %s: %s %s: %s", what, x.mine, x.stack.Name, res.Outcome, res.Reason, res.Message)
			}
			if _, err := x.w.r.Suspend(t.Context(), x.stack.Name, "mine"); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), x.hers) {
				t.Errorf("%s: %s suspends %s: %v", what, x.mine, x.stack.Name, err)
			}
		}
	}
	claim("both live")
	// docker stack rm leaves what is remembered, which is a claim too.
	for id, s := range e.services {
		delete(e.services, id)
		delete(e.tasks, s.ID)
	}
	clear(e.networks)
	refresh()
	claim("only remembered")
	if writes := e.takeWrites(); len(writes) > 0 {
		t.Errorf("somebody wrote %v", writes)
	}
}

// What one owner adopted, which carries no label, is none of another's.
func TestAdoptedByAnotherOwner(t *testing.T) {
	w := newWorld(t, makeStack("shop", service("shop", "web", "app:1")))
	w.r = New(Options{Swarm: w.engine, Now: w.engine.now, Owner: "a"})
	w.settle()
	for _, s := range w.engine.services {
		delete(s.Spec.Labels, LabelOwner)
	}
	for id, n := range w.engine.networks {
		delete(n.Labels, LabelOwner)
		w.engine.networks[id] = n
	}
	b := New(Options{Swarm: w.engine, Now: w.engine.now, Owner: "b", PruneStacks: true})
	w.engine.takeWrites()
	if res := b.Reconcile(t.Context(), Input{Name: "shop"}); res.Reason != "Gone" {
		t.Errorf("%s %s", res.Outcome, res.Message)
	}
	if writes := w.engine.takeWrites(); len(writes) > 0 {
		t.Errorf("b wrote %v", writes)
	}
}
