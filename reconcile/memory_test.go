package reconcile

import (
	"testing"
	"time"
)

// A release is recorded, found converged and recorded again without its stack's
// records being listed: what an own write made of them is known.
func TestOwnWritesAreNotReadBack(t *testing.T) {
	w := newWorld(t, makeStack("shop", service("shop", "web", "app:1")))
	if _, err := w.r.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	reading := func() *Release {
		t.Helper()
		calls := w.engine.calls
		list, err := w.r.memory.releases(t.Context(), "shop")
		if err != nil || w.engine.calls != calls {
			t.Fatalf("%v, %d requests", err, w.engine.calls-calls)
		}
		return list[len(list)-1]
	}
	w.pass()
	w.r.Noticed("skep-release-shop-1") // the event of the pass's own write
	if r := reading(); r.Phase != PhaseProgressing {
		t.Errorf("release %d is %s", r.Number, r.Phase)
	}
	w.settle()
	w.r.Noticed("skep-release-shop-1")
	if r := reading(); r.Phase != PhaseHealthy {
		t.Errorf("release %d is %s", r.Number, r.Phase)
	}
}

func TestOthersWritesAreReadBack(t *testing.T) {
	w := newWorld(t, makeStack("shop", service("shop", "web", "app:1")))
	w.settle()
	fail := func() {
		for id, c := range w.engine.configs {
			if c.Spec.Name == "skep-release-shop-1" {
				labels := map[string]string{}
				for k, v := range c.Spec.Labels {
					labels[k] = v
				}
				labels[labelPhase] = string(PhaseFailed)
				c.Spec.Labels, c.Meta = labels, w.engine.meta(c.Meta)
				w.engine.configs[id] = c
			}
		}
	}
	fail()
	w.r.Noticed("skep-release-shop-1") // taken for our own event, which it comes right after
	list, _ := w.r.memory.releases(t.Context(), "shop")
	rel := *list[0]
	rel.Message = "what we would write over it"
	if err := w.r.memory.update(t.Context(), "shop", &rel); !isConflict(err) {
		t.Errorf("a write over somebody else's: %v", err)
	}
	list, _ = w.r.memory.releases(t.Context(), "shop")
	if list[0].Phase != PhaseFailed {
		t.Errorf("after the conflict the release is %s", list[0].Phase)
	}
	fail()
	w.engine.advance(time.Minute)
	w.r.Noticed("skep-release-shop-1")
	if !w.r.memory.stale["shop"] {
		t.Error("an event that is not our own is not noticed")
	}
}
