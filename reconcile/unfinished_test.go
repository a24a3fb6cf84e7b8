package reconcile

import (
	"context"
	"strings"
	"testing"

	"github.com/skep-io/skep/spec"
)

// broken is a stack that cannot be rolled out here: it wants a network that is nowhere.
func broken(s *spec.Stack) *spec.Stack {
	s.Networks = append(s.Networks, spec.Network{Key: "away", Name: "away", External: true})
	return s
}

func TestBadReleaseGoesBackThoughTheNewerFileCannotBeRolledOut(t *testing.T) {
	w := newWorld(t, one("app:1"))
	w.settle()
	w.stack = one("app:2")
	w.pass()
	w.engine.turn()
	w.stack = broken(one("app:3"))
	res := w.pass()
	if !strings.Contains(res.Message, "a newer file waits") || !strings.Contains(res.Message, "away") || w.phases() != "1:Healthy 2:Progressing" {
		t.Fatalf("%s: %s; %s", res.Reason, res.Message, w.phases())
	}
	w.sicken("shop_web")
	res = w.settle()
	if w.images() != "shop_web=app:1" || w.phases() != "1:Healthy 2:Failed" || res.Outcome != Held {
		t.Errorf("%s %s: %s; %s; %s", res.Outcome, res.Reason, res.Message, w.images(), w.phases())
	}
	if !strings.Contains(res.Message, "away") {
		t.Errorf("at rest it tells not of the file: %s", res.Message)
	}
	w.stack = one("app:3")
	if w.settle(); w.images() != "shop_web=app:3" {
		t.Errorf("mended: %s", w.images())
	}
}

func TestReleaseIsFinishedWhileTheNewerFileWaitsForAnotherStack(t *testing.T) {
	ordered := func(web, db string) *spec.Stack {
		return watched(makeStack("shop", service("shop", "web", web, "db"), service("shop", "db", db)))
	}
	w := newWorld(t, ordered("app:1", "db:1"))
	w.settle()
	w.stack = ordered("app:2", "db:2")
	w.pass() // the first wave
	w.stack = ordered("app:3", "db:2")
	for range 60 {
		res := w.r.Reconcile(context.Background(), Input{Name: "shop", Stack: w.stack, Blocked: "infra is not Ready"})
		if res.Err != nil {
			t.Fatal(res.Err)
		}
		w.engine.turn()
		w.engine.advance(5e9)
	}
	if w.images() != "shop_db=db:2 shop_web=app:2" || w.phases() != "1:Healthy 2:Healthy" {
		t.Errorf("%s; %s", w.images(), w.phases())
	}
	if w.settle(); w.images() != "shop_db=db:2 shop_web=app:3" {
		t.Errorf("in the end: %s", w.images())
	}
}
