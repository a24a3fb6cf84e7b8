package controller

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
)

// applier is a reconciler under which a stack needs some passes until it is Ready.
type applier struct {
	*world
	needs map[string]int // passes until Ready; -1: never, -2: fails
	done  map[string]int
}

func newApplier(needs map[string]int) *applier {
	a := &applier{world: &world{}, needs: needs, done: map[string]int{}}
	a.reconcile = a.step
	return a
}

func (a *applier) step(_ context.Context, in reconcile.Input) reconcile.Result {
	a.mu.Lock()
	defer a.mu.Unlock()
	if in.Blocked != "" {
		r := result(reconcile.Waiting, false)
		r.Message = in.Blocked
		r.Plan = &reconcile.Plan{Changes: []reconcile.Change{{Op: reconcile.OpCreate}}}
		return r
	}
	a.done[in.Name]++
	switch needs := a.needs[in.Name]; {
	case needs == -2:
		return failed(in.Name, "Refused", errors.New("refused"))
	case needs == -1:
		return result(reconcile.Held, false)
	case a.done[in.Name] < needs:
		return result(reconcile.Applied, false, reconcile.Progressing)
	}
	return good()
}

func settle(t *testing.T, a *applier, snap *spec.Snapshot, wait bool, names ...string) map[string]string {
	t.Helper()
	var results map[string]reconcile.Result
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		results = Settle(ctx, a, snap, names, wait, nil, SettleOptions{})
		if ctx.Err() != nil {
			t.Error("it did not settle")
		}
	})
	out := map[string]string{}
	for name, r := range results {
		out[name] = string(r.Outcome)
	}
	return out
}

func TestSettleWaits(t *testing.T) {
	snap := broken(snapshot(
		stack("infra", "1"), stack("app", "1", "infra"), stack("late", "1", "app"),
		stack("bad", "1"), stack("on-bad", "1", "bad"), stack("on-on-bad", "1", "on-bad"),
		stack("held", "1"), stack("on-held", "1", "held"), stack("on-typo", "1", "typo"),
		stack("x", "1", "y"), stack("y", "1", "x"), stack("on-x", "1", "x"),
	), "torn", "not a map")
	a := newApplier(map[string]int{"infra": 3, "app": 2, "bad": -2, "held": -1})
	got := settle(t, a, snap, true)
	want := map[string]string{
		"infra": "unchanged", "app": "unchanged", "late": "unchanged",
		"bad": "error", "on-bad": "waiting", "on-on-bad": "waiting",
		"held": "held", "on-held": "waiting", "on-typo": "waiting",
		"x": "waiting", "y": "waiting", "on-x": "waiting", "torn": "error",
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	if a.done["bad"] != settleTries || a.done["infra"] != 3 {
		t.Errorf("passes: %v", a.done)
	}
}

func TestSettleWithoutWaitEndsWhenAllIsWritten(t *testing.T) {
	snap := snapshot(stack("a-app", "1", "infra"), stack("infra", "1"), stack("z-new", "1"), stack("on-new", "1", "z-new"))
	a := newApplier(map[string]int{"z-new": 3})
	got := settle(t, a, snap, false)
	want := map[string]string{"a-app": "unchanged", "infra": "unchanged", "z-new": "unchanged", "on-new": "unchanged"}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if a.done["z-new"] != 3 {
		t.Errorf("passes: %v", a.done)
	}
}

// What has failed by the time of an apply is found so by its first pass, and taken back
// by the next: neither waits for another call.
func TestSettleWithoutWaitTakesBackWhatFailed(t *testing.T) {
	a := newApplier(nil)
	passes := []reconcile.Result{
		result(reconcile.Waiting, false, reconcile.Degraded, reconcile.Progressing),
		result(reconcile.RolledBack, false, reconcile.Degraded, reconcile.Progressing),
		result(reconcile.Waiting, false, reconcile.Degraded, reconcile.Progressing),
	}
	passes[0].Transitions = []reconcile.Transition{{Action: "rollout-failed", Bad: true}}
	made := 0
	a.reconcile = func(context.Context, reconcile.Input) reconcile.Result {
		made++
		return passes[made-1]
	}
	if got := settle(t, a, snapshot(stack("a", "1")), false); got["a"] != "waiting" || made != len(passes) {
		t.Errorf("%v after %d passes", got, made)
	}
}

func TestSettleTakesOnlyTheNamed(t *testing.T) {
	snap := snapshot(stack("infra", "1"), stack("app", "1", "infra"))
	a := newApplier(nil)
	a.live = []string{"orphan"}
	got := settle(t, a, snap, true, "app", "typo", "orphan")
	want := map[string]string{"app": "waiting", "typo": "error", "orphan": "unchanged"}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if a.done["infra"] > 0 {
		t.Error("a stack that was not named got a pass")
	}
}

// teller can also say how stacks are that it is not asked to work on.
type teller struct {
	*applier
	of string // the fingerprint that infra's release was made of
}

func (s teller) Status(_ context.Context, name string) (reconcile.Result, error) {
	return good(), nil
}

func (s teller) Released(_ context.Context, stack *spec.Stack) (bool, error) {
	return s.of == fingerprint(stack), nil
}

func TestSettleBelievesTheStatusOfOthers(t *testing.T) {
	snap := snapshot(stack("infra", "2"), stack("app", "1", "infra"))
	for of, want := range map[string]reconcile.Outcome{"infra@2": reconcile.Unchanged, "infra@1": reconcile.Waiting} {
		got := Settle(t.Context(), teller{newApplier(nil), of}, snap, []string{"app"}, true, nil, SettleOptions{})
		if got["app"].Outcome != want {
			t.Errorf("infra at %s: app is %s, want %s", of, got["app"].Outcome, want)
		}
	}
}

func TestSettleEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		a := newApplier(map[string]int{"a": 1000})
		start := time.Now()
		got := Settle(ctx, a, snapshot(stack("a", "1"), stack("b", "1", "a")), nil, true, nil, SettleOptions{})
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("it took %s", took)
		}
		if got["a"].Outcome != reconcile.Applied || got["b"].Outcome != reconcile.Waiting {
			t.Errorf("got %v", got)
		}
	})
}

func TestSettleWithoutEngineFailsAll(t *testing.T) {
	a := newApplier(nil)
	a.refreshErr = errors.New("connection refused")
	got := settle(t, a, snapshot(stack("a", "1"), stack("b", "1")), true)
	if want := map[string]string{"a": "error", "b": "error"}; !maps.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	if len(a.passes) > 0 {
		t.Error("passes without an engine")
	}
}

func TestOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		defer w.queue.work.ShutDown()
		w.live = []string{"a", "old"}
		w.snapshot = snapshot(stack("a", "1"), stack("b", "1"))
		w.PruneStacks = true
		if err := w.once(t.Context()); err != nil {
			t.Error(err)
		}
		if w.scans != 2 {
			t.Errorf("%d scans before an orphan counts as one", w.scans)
		}
		if in := w.last("old"); in.Name != "old" || in.Stack != nil {
			t.Errorf("no pass over the orphan: %v", in)
		}
		passes, _ := w.taken()
		equal(t, "passes", slices.Compact(passes), []string{"a", "b", "old"})

		w.reconcile = func(_ context.Context, in reconcile.Input) reconcile.Result {
			return failed(in.Name, "Refused", errors.New("refused"))
		}
		w.live, w.snapshot = nil, snapshot(stack("a", "1"))
		if err := w.once(t.Context()); err == nil || err.Error() != "stack a: refused" {
			t.Errorf("error %v", err)
		}
		w.snapshot = &spec.Snapshot{Err: errors.New("no such directory")}
		if err := w.once(t.Context()); err == nil || err.Error() != "read specs: no such directory" {
			t.Errorf("error %v", err)
		}
	})
}

// Where there is git every stack is asked for its commit, one without a file for the
// directory's, until that was found to be no older.
func TestSettleAsksForOlderCommits(t *testing.T) {
	commit := &spec.Commit{Hash: "0123456789012345678901234567890123456789"}
	for _, tt := range []struct {
		commit *spec.Commit
		o      SettleOptions
		asked  int
	}{{nil, SettleOptions{}, 0}, {commit, SettleOptions{AllowOlder: true}, 0}, {commit, SettleOptions{}, 2}} {
		synctest.Test(t, func(t *testing.T) {
			w, asked := newWorld(), map[string]int{}
			defer w.queue.work.ShutDown()
			var mu sync.Mutex
			w.live = []string{"a", "b", "c", "gone"}
			w.reconcile = func(_ context.Context, in reconcile.Input) reconcile.Result {
				mu.Lock()
				defer mu.Unlock()
				if in.Source == nil {
					return good()
				}
				if asked[in.Name]++; asked[in.Name] == 1 {
					return failed(in.Name, "EngineError", errors.New("nobody knows"))
				}
				return result(reconcile.Waiting, false, reconcile.Progressing)
			}
			snap := snapshot(stack("a", "1"), stack("b", "1"), stack("c", "1"))
			snap.Commit = tt.commit
			for _, s := range snap.Stacks {
				s.Source.Commit = tt.commit
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			Settle(ctx, w, snap, []string{"a", "gone"}, true, nil, tt.o)
			if asked["a"] != tt.asked || asked["gone"] != tt.asked || ctx.Err() != nil {
				t.Errorf("%+v: asked %v, %v", tt.o, asked, ctx.Err())
			}
		})
	}
}
