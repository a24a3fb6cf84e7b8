package reconcile

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"github.com/skep-io/skep/spec"
)

// Going back by hand runs no job, be it one that failed: it would be the failed one's.
func TestPinRunsNoJobThatFailed(t *testing.T) {
	w := newWorld(t, migrating("app:1", "migrate:1"))
	w.pass()
	w.runJob("shop_migrate", swarm.TaskStateComplete)
	w.settle()
	w.stack = migrating("app:2", "migrate:2")
	w.pass()
	w.runJob("shop_migrate", swarm.TaskStateComplete)
	w.settle()
	w.stack = migrating("app:3", "migrate:3")
	w.pass()
	w.runJob("shop_migrate", swarm.TaskStateFailed)
	w.settle()
	if w.phases() != "1:Healthy 2:Healthy 3:Failed" {
		t.Fatalf("releases %s", w.phases())
	}
	w.pin(1)
	w.serviceWrites()
	res := w.settle()
	if got := w.serviceWrites(); got != "update service shop_web" || res.Reason != "Pinned" {
		t.Errorf("%s; %s: %s", got, res.Reason, res.Message)
	}
}

// A job that failed is started anew by the next release in its own wave, too.
func TestFailedJobOfALaterWaveRunsAgain(t *testing.T) {
	make := func(db, migration string) *spec.Stack {
		return watched(makeStack("shop", service("shop", "db", db), job(service("shop", "migrate", migration, "db"))))
	}
	w := newWorld(t, make("db:1", "migrate:1"))
	w.pass()
	w.engine.turn()
	w.pass()
	w.pass()
	w.runJob("shop_migrate", swarm.TaskStateComplete)
	w.settle()
	w.stack = make("db:1", "migrate:2")
	w.pass()
	w.runJob("shop_migrate", swarm.TaskStateFailed)
	w.settle()
	if w.phases() != "1:Healthy 2:Failed" {
		t.Fatalf("releases %s", w.phases())
	}
	w.serviceWrites()
	w.stack = make("db:2", "migrate:2")
	w.pass()
	w.engine.turn()
	for range 5 {
		w.pass()
	}
	if got := w.serviceWrites(); got != "update service shop_db, update service shop_migrate" {
		t.Errorf("writes %s", got)
	}
	w.runJob("shop_migrate", swarm.TaskStateComplete)
	w.settle()
	if w.phases() != "1:Healthy 2:Failed 3:Healthy" || w.serviceWrites() != "" {
		t.Errorf("releases %s", w.phases())
	}
}

// What a superseded release wrote is answered for by the next one, also where the
// controller died before it could record that.
func TestDeathBetweenSupersedingAndBeginning(t *testing.T) {
	w := newWorld(t, two("app:1", "db:1"))
	w.settle()
	w.stack = two("app:2", "db:2")
	w.pass()
	w.engine.turn()
	w.stack = two("app:3", "db:2")
	s := w.engine.service(t, "shop_web")
	w.engine.tasks[s.ID][0].Status.State = swarm.TaskStateStarting // it has not converged
	down := errors.New("no such host")
	w.engine.fault = func(op string, after bool) error {
		if op == "create config" && !after {
			return down
		}
		return nil
	}
	w.pass()
	w.engine.fault = nil
	w.restart()
	if w.phases() != "1:Healthy 2:Superseded" {
		t.Fatalf("releases %s", w.phases())
	}
	w.pass()
	w.engine.turn()
	w.sicken("shop_db")
	w.settle()
	if w.images() != "shop_db=db:1 shop_web=app:1" || w.phases() != "1:Healthy 2:Superseded 3:Failed" {
		t.Errorf("%s; %s", w.images(), w.phases())
	}
}

// The time that a stack is suspended for is none that its release has taken.
func TestSuspendedTimeIsNotTheReleases(t *testing.T) {
	ordered := func(web, db string) *spec.Stack {
		return watched(makeStack("shop", service("shop", "web", web, "db"), service("shop", "db", db)))
	}
	w := newWorld(t, ordered("app:1", "db:1"))
	w.settle()
	w.stack = ordered("app:2", "db:2")
	w.pass() // the first wave
	if _, err := w.r.Suspend(context.Background(), "shop", ""); err != nil {
		t.Fatal(err)
	}
	w.engine.turn()
	w.pass()
	w.engine.advance(time.Hour)
	w.resume()
	w.settle()
	if w.phases() != "1:Healthy 2:Healthy" || w.images() != "shop_db=db:2 shop_web=app:2" {
		t.Errorf("%s; %s", w.phases(), w.images())
	}
}

// A pardon is for releases that there were, not for those of a history that begins anew.
func TestPardonOutlivesNoHistory(t *testing.T) {
	w := newWorld(t, one("app:1"))
	w.settle()
	w.ask(func(s State) State { s.Pardoned = 8; return s })
	for id, c := range w.engine.configs {
		if c.Spec.Labels[labelKind] == KindRelease {
			delete(w.engine.configs, id)
		}
	}
	w.restart()
	w.settle()
	w.stack = one("app:2-bad")
	w.settle()
	if w.engine.written["app:2-bad"] != 1 {
		t.Errorf("it was written %d times; %s", w.engine.written["app:2-bad"], w.phases())
	}
}

// A release whose job was never written is not whole, and nobody says that it was healthy.
func TestReleaseWhoseJobWasNeverWrittenIsSuperseded(t *testing.T) {
	w := newWorld(t, migrating("app:1", "migrate:1"))
	w.pass()
	w.runJob("shop_migrate", swarm.TaskStateComplete)
	w.settle()
	w.stack = migrating("app:1", "migrate:2")
	w.engine.fault = func(op string, after bool) error {
		if op == "update service" && !after {
			return errors.New("no such host")
		}
		return nil
	}
	w.pass()
	w.engine.fault = nil
	w.restart()
	w.engine.advance(time.Hour)
	w.stack = migrating("app:1", "migrate:3")
	w.pass()
	if w.phases() != "1:Healthy 2:Superseded 3:Progressing" {
		t.Errorf("releases %s; %s", w.phases(), w.images())
	}
}

// A pin that nobody here has heard of yet keeps its release.
func TestTrimKeepsWhatWasPinnedAMomentAgo(t *testing.T) {
	w := newWorld(t, one("app:1"))
	w.r = New(Options{Swarm: w.engine, Now: w.engine.now, History: 3})
	for _, image := range []string{"app:1", "app:2", "app:3"} {
		w.stack = one(image)
		w.settle()
	}
	w.stack = one("app:4")
	w.until("Baking")
	other := New(Options{Swarm: w.engine, Now: w.engine.now})
	if _, err := other.RequestRollback(context.Background(), "shop", 1); err != nil {
		t.Fatal(err)
	}
	for range 100 { // without a word of it
		w.pass()
	}
	if got := w.phases(); !strings.HasPrefix(got, "1:Healthy 3:Healthy 4:Healthy") {
		t.Errorf("releases %s", got)
	}
}

// What was asked of a stack that is pruned goes with it, whenever the controller dies.
func TestPrunedStackLeavesNothingAsked(t *testing.T) {
	w := newWorld(t, one("app:1"))
	w.settle()
	w.ask(func(s State) State { s.Pardoned = 1; return s })
	w.r = New(Options{Swarm: w.engine, Now: w.engine.now, PruneStacks: true})
	down, left := errors.New("no such host"), 1
	w.engine.fault = func(op string, after bool) error {
		if op == "remove config" && !after {
			if left--; left < 0 {
				return down
			}
		}
		return nil
	}
	for range 20 {
		w.r.Reconcile(context.Background(), Input{Name: "shop"})
		w.engine.advance(5 * time.Second)
	}
	w.engine.fault = nil
	w.r = New(Options{Swarm: w.engine, Now: w.engine.now, PruneStacks: true})
	for range 5 {
		w.r.Reconcile(context.Background(), Input{Name: "shop"})
		w.engine.advance(5 * time.Second)
	}
	for _, c := range w.engine.configs {
		t.Errorf("%s is left", c.Spec.Name)
	}
}

// A record that is too large supersedes nothing: what is under way goes on, and is judged.
func TestTooLargeRecordSupersedesNothing(t *testing.T) {
	w := newWorld(t, two("app:1", "db:1"))
	w.settle()
	w.stack = two("app:2", "db:2")
	w.pass()
	w.stack = two("app:3", "db:2")
	noise := make([]byte, maxRecord+100_000) // which nothing compresses
	_, _ = rand.NewChaCha8([32]byte{}).Read(noise)
	w.stack.Services[0].Spec.TaskTemplate.ContainerSpec.Env = []string{fmt.Sprintf("NOISE=%x", noise)}
	res := w.pass()
	if res.Err == nil || w.phases() != "1:Healthy 2:Progressing" {
		t.Errorf("%s: %s; releases %s", res.Reason, res.Message, w.phases())
	}
}

// An apply that does not wait makes one pass. The next wave is the next one's, however
// late it comes.
func TestReleaseThatNobodyCarriedOnIsNotLate(t *testing.T) {
	ordered := func(web, db string) *spec.Stack {
		return watched(makeStack("shop", service("shop", "web", web, "db"), service("shop", "db", db)))
	}
	w := newWorld(t, ordered("app:1", "db:1"))
	w.settle()
	w.stack = ordered("app:2", "db:2")
	for range 3 {
		w.pass()
		for range 3 {
			w.engine.turn()
		}
		w.engine.advance(15 * time.Minute)
		w.restart()
	}
	w.engine.takeWrites()
	w.settle()
	if w.phases() != "1:Healthy 2:Healthy" || w.images() != "shop_db=db:2 shop_web=app:2" || w.serviceWrites() != "" {
		t.Errorf("%s; %s", w.phases(), w.images())
	}
}

// What was written and does not converge is late, whoever comes to see it; and so is what
// cannot be written.
func TestReleaseThatDoesNotConvergeIsLateAlsoForWhoComesLate(t *testing.T) {
	w := newWorld(t, one("app:1"))
	w.settle()
	w.stack = one("app:2")
	w.pass()
	w.engine.advance(15 * time.Minute)
	w.restart()
	w.pass()
	if w.phases() != "1:Healthy 2:Failed" {
		t.Errorf("releases %s", w.phases())
	}

	w = newWorld(t, one("app:1"))
	w.settle()
	w.stack = one("app:2")
	w.engine.fault = func(op string, after bool) error {
		if op == "update service" && !after && w.engine.written["app:2"] == 0 {
			return errors.New("the engine does not like it")
		}
		return nil
	}
	for range 15 {
		w.pass()
		w.engine.advance(time.Minute)
	}
	if w.phases() != "1:Healthy 2:Failed" {
		t.Errorf("releases %s", w.phases())
	}
}

// A node's clock that is behind hides no death: a task does not die before it is made.
func TestDeathsByAClockThatIsBehind(t *testing.T) {
	w := newWorld(t, one("app:1"))
	w.settle()
	w.stack = one("app:2")
	w.until("Baking")
	w.sicken("shop_web")
	s := w.engine.service(t, "shop_web")
	for i := range w.engine.tasks[s.ID] {
		task := &w.engine.tasks[s.ID][i]
		task.Status.Timestamp = task.Status.Timestamp.Add(-20 * time.Minute)
	}
	w.pass()
	if w.phases() != "1:Healthy 2:Failed" {
		t.Errorf("releases %s", w.phases())
	}
}

// A service that is paused half-way is not as a healthy release was, though its spec is.
func TestRevertToWhatCouldNotBeGoneBackToStartsItAnew(t *testing.T) {
	w := newWorld(t, one("app:1"))
	w.settle()
	w.stack = one("app:2-bad")
	w.until("RollingBack")
	s := w.engine.service(t, "shop_web")
	started := w.engine.now()
	delete(w.engine.dirty, s.ID)
	w.engine.tasks[s.ID] = w.engine.tasks[s.ID][:1]
	s.UpdateStatus = &swarm.UpdateStatus{State: swarm.UpdateStatePaused, StartedAt: &started}
	w.engine.next++
	s.Version.Index = uint64(w.engine.next)
	w.refresh()
	if res := w.pass(); res.Reason != "RollbackFailed" {
		t.Fatalf("%s: %s", res.Reason, res.Message)
	}
	w.stack = one("app:1")
	for range 3 {
		w.pass()
	}
	w.engine.run(s)
	w.settle()
	if st := s.UpdateStatus; st != nil && st.State == swarm.UpdateStatePaused {
		t.Errorf("it is paused for ever; releases %s", w.phases())
	}
}

// Where that fails too there is nothing left to go back to: not what is the same.
func TestNoWayBackToWhatFailedItself(t *testing.T) {
	w := newWorld(t, one("app:1"))
	w.settle()
	w.stack = one("app:2")
	w.until("Baking")
	w.sicken("shop_web")
	w.until("RollingBack")
	w.stack = one("app:1") // before that has converged, and somebody else writes
	w.touch("shop_web", func(s *swarm.Service) { s.Spec.TaskTemplate.ContainerSpec.Image = "app:9" })
	w.until("Baking")
	w.sicken("shop_web")
	w.until("ReleaseFailed")
	w.engine.takeWrites()
	w.engine.advance(time.Hour)
	res := w.settle()
	if got := w.engine.takeWrites(); len(got) > 0 || w.phases() != "1:Healthy 2:Failed 3:Failed" || !strings.Contains(res.Message, "no other healthy release") {
		t.Errorf("%v; %s; %s: %s", got, w.phases(), res.Reason, res.Message)
	}
}

// What of a release cannot be read is no reason to find it good.
func TestDamagedReleaseUnderWayIsJudged(t *testing.T) {
	w := newWorld(t, one("app:1"))
	w.settle()
	w.stack = one("app:2")
	w.pass()
	for id, c := range w.engine.configs {
		if c.Spec.Name == "skep-release-shop-2" {
			c.Spec.Data = []byte("by a newer skep")
			w.engine.configs[id] = c
		}
	}
	w.engine.turn()
	w.sicken("shop_web")
	w.restart()
	for range 5 {
		w.pass()
	}
	if w.phases() == "1:Healthy 2:Healthy" {
		t.Errorf("releases %s", w.phases())
	}
}

// What was suspended before skep's first change can be resumed.
func TestResumeOfAStackWithoutReleases(t *testing.T) {
	w := newWorld(t, one("app:1"))
	w.settle()
	for id, c := range w.engine.configs {
		if c.Spec.Labels[labelKind] == KindRelease {
			delete(w.engine.configs, id)
		}
	}
	w.restart()
	if _, err := w.r.Suspend(context.Background(), "shop", ""); err != nil {
		t.Fatal(err)
	}
	if res := w.pass(); res.Reason != "Suspended" {
		t.Fatalf("%s: %s", res.Reason, res.Message)
	}
	if _, err := w.r.Resume(context.Background(), "shop"); err != nil {
		t.Fatal(err)
	}
	if w.settle(); w.phases() != "1:Healthy" {
		t.Errorf("releases %s", w.phases())
	}
}

// pauses lets Swarm come to a stop with a service, in a state since now.
func (w *world) pauses(name string, state swarm.UpdateState) {
	w.t.Helper()
	s := w.engine.service(w.t, name)
	started := w.engine.now()
	delete(w.engine.dirty, s.ID)
	s.UpdateStatus = &swarm.UpdateStatus{State: state, StartedAt: &started}
	w.engine.next++
	s.Version.Index = uint64(w.engine.next)
	w.refresh()
}

// Swarm's own rollback that never ends is waited for as long as a rollout may take.
func TestSwarmsRollbackThatHangs(t *testing.T) {
	make := func(image string) *spec.Stack {
		s := one(image)
		s.Services[0].Spec.UpdateConfig.FailureAction = swarm.UpdateFailureActionRollback
		return s
	}
	w := newWorld(t, make("app:1"))
	w.settle()
	w.stack = make("app:2-bad")
	w.pass()
	w.engine.turn()
	w.pauses("shop_web", swarm.UpdateStateRollbackStarted)
	s := w.engine.service(t, "shop_web")
	w.engine.tasks[s.ID][0].Status.State = swarm.TaskStatePreparing
	if res := w.until("RollingBack"); res.Outcome != Waiting {
		t.Fatalf("%s %s: %s", res.Outcome, res.Reason, res.Message)
	}
	w.engine.advance(11 * time.Minute)
	res := w.settle()
	if res.Outcome != Held || res.Reason != "RolledBack" {
		t.Errorf("%s %s: %s", res.Outcome, res.Reason, res.Message)
	}
}

// A node that goes in the middle of a rollback is no failure of it: it goes on.
func TestRollbackThatANodeStopsGoesOn(t *testing.T) {
	w := newWorld(t, one("app:1"))
	w.settle()
	w.stack = one("app:2-bad")
	w.until("RollingBack")
	s := w.engine.service(t, "shop_web")
	w.engine.run(s)
	w.engine.tasks[s.ID][0].NodeID = "n2"
	w.engine.nodes = append(w.engine.nodes, swarm.Node{ID: "n2", Status: swarm.NodeStatus{State: swarm.NodeStateDown}})
	w.pauses("shop_web", swarm.UpdateStatePaused)
	w.serviceWrites()
	w.pass()
	if got := w.serviceWrites(); got != "update service shop_web" {
		t.Errorf("writes %q", got)
	}
	w.engine.dirty[s.ID] = true
	if res := w.settle(); res.Reason != "RolledBack" || w.images() != "shop_web=app:1" {
		t.Errorf("%s %s: %s; %s", res.Outcome, res.Reason, res.Message, w.images())
	}
}

// A file that was there and waited when a person asked for another release is no change
// since then.
func TestPinHoldsThoughANewerFileWaits(t *testing.T) {
	w := newWorld(t, one("app:1"))
	w.settle()
	w.stack = one("app:2")
	w.until("Baking")
	w.stack = one("app:3")
	if res := w.pass(); res.Reason != "Baking" {
		t.Fatalf("%s: %s", res.Reason, res.Message)
	}
	w.pin(1)
	w.settle()
	w.restart()
	w.settle()
	if w.images() != "shop_web=app:1" || w.engine.written["app:3"] > 0 {
		t.Errorf("%s; %s", w.images(), w.phases())
	}
	w.stack = one("app:4")
	if w.settle(); w.images() != "shop_web=app:4" {
		t.Errorf("%s; %s", w.images(), w.phases())
	}
}

// A service that a failed release added goes, whatever x-skep.prune says of what leaves
// the file.
func TestRollbackRemovesWhatWasAddedWithoutPrune(t *testing.T) {
	before := watched(makeStack("shop", service("shop", "web", "app:1")))
	after := watched(makeStack("shop", service("shop", "web", "app:2"), service("shop", "new", "new:1")))
	before.Policy.Prune, after.Policy.Prune = false, false
	w := newWorld(t, before)
	w.settle()
	w.stack = after
	w.until("Baking")
	w.sicken("shop_new")
	if res := w.settle(); w.images() != "shop_web=app:1" {
		t.Errorf("%s; %s: %s", w.images(), res.Reason, res.Message)
	}
}

// A file that was broken for long while a release was under way fails nothing.
func TestErrorInTheMiddleOfARelease(t *testing.T) {
	ordered := func(web, db string) *spec.Stack {
		return watched(makeStack("shop", service("shop", "web", web, "db"), service("shop", "db", db)))
	}
	w := newWorld(t, ordered("app:1", "db:1"))
	w.settle()
	w.stack = ordered("app:2", "db:2")
	w.pass()
	w.engine.turn()
	s := w.engine.service(t, "shop_web")
	w.touch("shop_web", func(s *swarm.Service) { s.Spec.Labels[LabelOwner] = "other" })
	w.engine.advance(time.Hour)
	if res := w.pass(); res.Outcome != Held {
		t.Fatalf("%s %s", res.Outcome, res.Reason)
	}
	w.touch("shop_web", func(*swarm.Service) { s.Spec.Labels[LabelOwner] = "skep" })
	if res := w.settle(); w.phases() != "1:Healthy 2:Healthy" {
		t.Errorf("%s; %s: %s", w.phases(), res.Reason, res.Message)
	}
}
