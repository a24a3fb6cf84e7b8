package reconcile

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"

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

// A file whose images no registry knows waits as one does that cannot be rolled out: what
// came before it is carried on to its end, and the registry is asked again.
func TestReleaseIsFinishedWhileTheNewerFilesImageIsNowhere(t *testing.T) {
	ordered := func(web, db string) *spec.Stack {
		s := watched(makeStack("shop", service("shop", "web", web, "db"), service("shop", "db", db)))
		s.Policy.Images = spec.ImagesPin
		s.Policy.Findings = map[string]spec.Severity{"image-not-pinned": spec.Error}
		return s
	}
	w := newWorld(t, ordered("app:1", "db:1"))
	w.engine.digest = "there"
	w.settle()
	w.stack = ordered("app:2", "db:2")
	w.pass() // the first wave
	w.stack, w.engine.digest = ordered("app:3", "db:2"), ""
	var waits, asked int
	for range 200 {
		res := w.pass()
		if res.Err != nil {
			t.Fatal(res.Err)
		}
		switch {
		case strings.Contains(res.Message, "a newer file waits: app:3: no registry could tell the digest"):
			waits++
		case res.Reason == "ImageNotPinned":
			asked++
		}
		w.engine.turn()
		w.engine.advance(2 * time.Second)
	}
	images := w.images()
	if !strings.Contains(images, "shop_db=db:2@") || !strings.Contains(images, "shop_web=app:2@") || w.phases() != "1:Healthy 2:Healthy" {
		t.Errorf("%s; %s", images, w.phases())
	}
	if waits == 0 || asked == 0 {
		t.Errorf("%d passes told that the file waits, %d asked for its image", waits, asked)
	}
	w.engine.digest = "there"
	w.engine.advance(2 * negativeFor)
	if w.settle(); !strings.Contains(w.images(), "shop_web=app:3") {
		t.Errorf("in the end: %s", w.images())
	}
}

// Who dies in a bake, be it a short one, and is started again begins the bake anew.
func TestDeathBeginsTheBakeAnew(t *testing.T) {
	w := newWorld(t, one("app:1"))
	w.stack.Policy.Rollout.Bake = 2 * time.Second
	w.until("Baking")
	s := w.engine.service(t, "shop_web")
	for death := range failsForGood - 1 {
		w.engine.mu.Lock()
		dead := w.engine.tasks[s.ID][0]
		dead.Status.State, dead.Status.Err, dead.DesiredState, dead.Status.Timestamp = swarm.TaskStateFailed, "task: non-zero exit (1)", swarm.TaskStateShutdown, w.engine.clock
		w.engine.tasks[s.ID] = append([]swarm.Task{w.engine.task(s, dead.Slot, swarm.TaskStateStarting)}, append(w.engine.tasks[s.ID][1:], dead)...)
		w.engine.mu.Unlock()
		for range 5 { // the restart policy's delay
			if res := w.pass(); res.Reason != "RollingOut" {
				t.Fatalf("death %d: %s: %s", death, res.Reason, res.Message)
			}
		}
		w.engine.mu.Lock()
		up := &w.engine.tasks[s.ID][0]
		up.Status.State, up.Status.Timestamp = swarm.TaskStateRunning, w.engine.clock
		w.engine.mu.Unlock()
		if res := w.pass(); res.Reason != "Baking" || res.Release.Phase != PhaseProgressing {
			t.Fatalf("up again, death %d: %s: %s", death, res.Reason, res.Message)
		}
	}
	if w.settle(); w.phases() != "1:Healthy" {
		t.Errorf("whole for its bake: %s", w.phases())
	}
}

// What failed before and was not tried again changed nothing: what was left as it was
// goes on running.
func TestWhatWasNeverTriedDoesNotRun(t *testing.T) {
	w := newWorld(t, one("app:1"))
	w.settle()
	fails := func(image string) {
		w.stack = one(image)
		w.stack.Policy.Rollout.OnFailure = spec.OnFailureHold
		w.settle()
	}
	fails("app:2-bad")
	fails("app:3-bad")
	fails("app:2-bad")
	if w.phases() != "1:Healthy 2:Failed 3:Failed 4:Failed" {
		t.Fatal(w.phases())
	}
	h, err := w.r.History(t.Context(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range h.Releases {
		if e.Running != (e.Number == 3) || e.Untried != (e.Number == 4) {
			t.Errorf("release %d: runs %t, untried %t", e.Number, e.Running, e.Untried)
		}
	}
	for n, want := range map[int]string{1: " against nothing (no release before it is remembered)\n", 3: " against release 2 (what it set out to write; it may not have come to all of it)\n", 4: " against release 3 (what its file asks for; none of it was written)\n"} {
		c, err := w.r.Compare(t.Context(), "shop", n)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		if err := RenderComparison(&b, false, c); err != nil || !strings.Contains(b.String(), want) {
			t.Errorf("%s, %v, want %q", b.String(), err, want)
		}
	}
	res, err := w.r.Status(t.Context(), "shop")
	if err != nil || res.Runs == nil || res.Runs.Number != 3 {
		t.Errorf("status: %+v, %v", res.Runs, err)
	}
}

// The end of a suspension is not the pardon of what failed before it.
func TestResumeOfASuspensionTriesNothingAgain(t *testing.T) {
	w := newWorld(t, one("app:1"))
	w.settle()
	w.stack = one("app:2-bad")
	w.settle()
	if _, err := w.r.Suspend(t.Context(), "shop", ""); err != nil {
		t.Fatal(err)
	}
	w.settle()
	in, err := w.r.Resume(t.Context(), "shop")
	if err != nil || !in.Changed || in.State.Pardoned != 0 || !strings.HasPrefix(in.Message, "stack shop is no longer suspended; what failed as release 2 ") {
		t.Fatalf("%+v, %v", in, err)
	}
	if w.settle(); w.phases() != "1:Healthy 2:Failed" {
		t.Errorf("after the suspension: %s", w.phases())
	}
	if in, err = w.r.Resume(t.Context(), "shop"); err != nil || in.State.Pardoned != 2 {
		t.Fatalf("%+v, %v", in, err)
	}
	if w.settle(); w.phases() != "1:Healthy 2:Failed 3:Failed" {
		t.Errorf("after the pardon: %s", w.phases())
	}
}

// A condition holds since it came to hold, however its reasons change meanwhile.
func TestConditionsHoldSinceTheyCameTo(t *testing.T) {
	w := newWorld(t, one("app:1"))
	began := w.engine.now()
	for range 20 {
		res := w.pass()
		for _, c := range res.Conditions {
			if c.Type == Ready && !c.True && !c.Since.Equal(began) {
				t.Fatalf("%s (%s): not Ready since %s, want %s", res.Reason, res.Message, c.Since, began)
			}
		}
		if res.Reason == "Baking" {
			w.sicken("shop_web")
		}
		w.engine.turn()
	}
}

// Status tells what runs in the place of what failed.
func TestStatusTellsWhatRuns(t *testing.T) {
	w := newWorld(t, one("app:1"))
	if w.settle(); runsNow(t, w) != 0 {
		t.Error("what runs is the newest")
	}
	w.stack = one("app:2-bad")
	w.until("RollingBack")
	if runsNow(t, w) != 0 {
		t.Error("it goes back still")
	}
	if w.settle(); runsNow(t, w) != 1 {
		t.Error("it went back to release 1")
	}
}

func runsNow(t *testing.T, w *world) int {
	t.Helper()
	w.r.Forget("shop")
	res, err := w.r.Status(t.Context(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	if res.Runs == nil {
		return 0
	}
	return res.Runs.Number
}

// Who holds failures goes nowhere, and status does not say so for a moment.
func TestStatusOfAFailureThatIsHeld(t *testing.T) {
	w := newWorld(t, one("app:1"))
	w.settle()
	w.stack = one("app:2-bad")
	w.stack.Policy.Rollout.OnFailure = spec.OnFailureHold
	for w.phases() != "1:Healthy 2:Failed" {
		w.pass()
		w.engine.turn()
	}
	w.r.Forget("shop")
	res, err := w.r.Status(t.Context(), "shop")
	if err != nil || res.Outcome != Held || strings.Contains(res.Message, "going back") {
		t.Errorf("%s %s: %s, %v", res.Outcome, res.Reason, res.Message, err)
	}
}
