package reconcile

import (
	"context"
	"strings"
	"testing"

	"github.com/skep-io/skep/spec"
)

// unattended is a stack whose bad release was written, and then left alone.
func unattended(t *testing.T) *world {
	w := newWorld(t, one("app:1"))
	w.settle()
	w.stack = one("app:2-bad")
	w.until("NewRevision")
	w.engine.turn()
	w.restart()
	return w
}

// What a plan has nothing of, and yet the next pass does, is told by the plan: else it
// would say that all is well.
func TestPlanTellsOfAReleaseThatIsToBeTakenBack(t *testing.T) {
	w := unattended(t)
	plan, err := w.r.Plan(t.Context(), w.stack)
	if err != nil {
		t.Fatal(err)
	}
	f := finding(plan.Findings, "release-pending")
	if f == nil || f.Severity != spec.Warning || !strings.Contains(f.Message, "release 2 is under way and is at fault: web: ") || !strings.Contains(f.Message, "the stack goes back to release 1 ") {
		t.Fatalf("%+v", plan.Findings)
	}
	w.stack.Policy.Rollout.OnFailure = spec.OnFailureHold
	if plan, err = w.r.Plan(t.Context(), w.stack); err != nil || !strings.Contains(finding(plan.Findings, "release-pending").Message, "it is held, and not tried again") {
		t.Errorf("%v, %v", plan.Findings, err)
	}
	w.stack = one("app:3") // and then the plan has all there is to do
	if plan, err = w.r.Plan(t.Context(), w.stack); err != nil || finding(plan.Findings, "release-pending") != nil || plan.Empty() {
		t.Errorf("%v, %v", plan.Findings, err)
	}
}

// An update that is paused has no deadline any more.
func TestStatusOfAReleaseThatIsToBeTakenBack(t *testing.T) {
	w := unattended(t)
	res, err := w.r.Status(context.Background(), "shop")
	if err != nil || strings.Contains(res.Message, "must be healthy within") || !strings.Contains(res.Message, "it has failed by that") || !res.Progress.Until.IsZero() {
		t.Errorf("%s, %+v, %v", res.Message, res.Progress, err)
	}
}

// What is to be tried again may live already: nothing is written, and it is watched.
func TestTryingAgainWhatLivesAlready(t *testing.T) {
	w := newWorld(t, one("app:1"))
	w.until("Baking")
	w.sicken("shop_web")
	if res := w.until("ReleaseFailed"); res.Outcome != Held {
		t.Fatalf("%s %s", res.Outcome, res.Message)
	}
	w.resume()
	plan, err := w.r.Plan(t.Context(), w.stack)
	if err != nil || !plan.Empty() || finding(plan.Findings, "release-pending") == nil {
		t.Errorf("%+v, %v", plan, err)
	}
	w.engine.run(w.engine.service(t, "shop_web"))
	for _, tr := range w.until("Pardoned").Transitions {
		if tr.Action == "rollout-started" && tr.Message == "release 2: nothing to write, live is as it shall be already and is watched anew" {
			return
		}
	}
	t.Error("it does not say that nothing is written")
}
