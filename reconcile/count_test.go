package reconcile

import (
	"testing"

	"pgregory.net/rapid"
)

// followed makes passes until nothing happens any more, and returns what was told of
// action, and the most objects that had drifted.
func (w *world) followed(action string) (told []Transition, drifted int) {
	for range 300 {
		res := w.pass()
		for _, tr := range res.Transitions {
			if tr.Action == action {
				told = append(told, tr)
			}
		}
		drifted = max(drifted, res.Drifted)
		w.engine.turn()
	}
	return told, drifted
}

// A rollout and a rollback are no drift, and a rollback begins once, however many waves
// and controllers it takes.
func TestRollbackBeginsOnce(t *testing.T) {
	w := newWorld(t, two("app:1", "db:1"))
	w.settle()
	w.stack = two("app:2-bad", "db:2")
	var began int
	for i := range 300 {
		if i%3 == 0 {
			w.restart()
		}
		res := w.pass()
		for _, tr := range res.Transitions {
			if tr.Begins {
				began++
			}
			if tr.Begins && tr.Action != "going-back" || tr.Late {
				t.Errorf("%+v", tr)
			}
		}
		if res.Drifted > 0 {
			t.Errorf("%d objects drifted: %s", res.Drifted, res.Message)
		}
		w.engine.turn()
	}
	if w.phases() != "1:Healthy 2:Failed" || began != 1 {
		t.Errorf("%s; a rollback began %d times", w.phases(), began)
	}
}

func TestGuardFailsLate(t *testing.T) {
	w := newWorld(t, one("app:1"))
	w.settle()
	w.stack = one("app:2")
	w.settle()
	w.sicken("shop_web")
	w.refresh()
	failed, drifted := w.followed("rollout-failed")
	if len(failed) != 1 || !failed[0].Late || drifted > 0 {
		t.Errorf("told %+v, %d drifted", failed, drifted)
	}
}

// What died is counted, and nothing else is.
func TestFailedTasksAreCounted(t *testing.T) {
	cases := healthCases(t)
	for name, want := range map[string]uint64{"converged": 0, "one-death-healed": 1, "old-failures-of-earlier-spec": 0, "old-failures-of-the-same-spec": 0,
		"crash-loop-first": 6, "job-complete": 0, "node-down-moved": 0, "image-missing": 15} {
		if got := cases[name].judge().Failed; got != want {
			t.Errorf("%s: %d failed, want %d", name, got, want)
		}
	}
}

// However a stack drifts, no more objects have than it has.
func TestDriftedIsBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		plan := &Plan{}
		n := rapid.IntRange(0, 5).Draw(t, "services")
		for range n {
			plan.Changes = append(plan.Changes, Change{Op: OpUpdate, Kind: KindService})
		}
		for range rapid.IntRange(0, 3).Draw(t, "configs") {
			plan.Changes = append(plan.Changes, Change{Op: OpRemove, Kind: KindConfig})
		}
		phase := rapid.SampledFrom([]Phase{PhaseProgressing, PhaseHealthy, PhaseFailed}).Draw(t, "phase")
		same, back := rapid.Bool().Draw(t, "same file"), rapid.Bool().Draw(t, "back")
		rel := &Release{Digest: "a", Phase: phase}
		rel.index.back = rapid.Bool().Draw(t, "went back")
		p := &pass{plan: plan, digest: "b", back: back, releases: []*Release{rel}}
		if same {
			p.digest = "a"
		}
		want := n
		if phase == PhaseProgressing || back && !rel.index.back || !back && !same {
			want = 0
		}
		if got := p.drifted(); got != want {
			t.Fatalf("%d drifted, want %d", got, want)
		}
	})
}
