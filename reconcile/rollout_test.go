package reconcile

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"github.com/skep-io/skep/spec"
)

// watched gives a stack a policy under which releases bake and are guarded.
func watched(s *spec.Stack) *spec.Stack {
	s.Policy.Rollout.Bake, s.Policy.Rollout.Guard = time.Minute, 10*time.Minute
	s.Policy.Rollout.Scope = spec.ScopeStack
	return s
}

// sicken lets the first task of a service die again and again, as often as it takes to
// count as failing.
func (w *world) sicken(name string) {
	w.t.Helper()
	s := w.engine.service(w.t, name)
	w.engine.mu.Lock()
	defer w.engine.mu.Unlock()
	var left []swarm.Task
	for _, t := range w.engine.tasks[s.ID] {
		if t.Slot != 1 || t.Status.State != swarm.TaskStateRunning {
			left = append(left, t)
		}
	}
	for i := range failsForGood {
		w.engine.clock = w.engine.clock.Add(5 * time.Second)
		t := w.engine.task(s, 1, swarm.TaskStateFailed)
		t.Status.Err, t.Status.Message = "task: non-zero exit (1)", "started"
		if t.DesiredState = swarm.TaskStateShutdown; i == failsForGood-1 {
			left = append(left, w.engine.task(s, 1, swarm.TaskStateStarting))
		}
		left = append(left, t)
	}
	w.engine.tasks[s.ID] = left
}

// until makes passes until one has a reason, and returns it.
func (w *world) until(reason string) Result {
	w.t.Helper()
	var res Result
	for range 200 {
		if res = w.pass(); res.Reason == reason {
			return res
		}
		w.engine.turn()
	}
	w.t.Fatalf("never %s, but %s: %s", reason, res.Reason, res.Message)
	return res
}

func (w *world) serviceWrites() string {
	var out []string
	for _, write := range w.engine.takeWrites() {
		if strings.Contains(write, " service ") {
			out = append(out, write)
		}
	}
	return strings.Join(out, ", ")
}

func one(image string) *spec.Stack {
	return watched(makeStack("shop", service("shop", "web", image)))
}

func two(web, db string) *spec.Stack {
	return watched(makeStack("shop", service("shop", "web", web), service("shop", "db", db)))
}

func TestReleaseBakesWithOneWrite(t *testing.T) {
	w := newWorld(t, one("app:1"))
	res := w.until("Baking")
	if !strings.Contains(res.Message, "bakes for 1m0s") || w.phases() != "1:Progressing" {
		t.Errorf("%s; %s", res.Message, w.phases())
	}
	w.engine.takeWrites()
	for range 30 {
		res = w.pass()
	}
	if got := w.engine.takeWrites(); len(got) > 0 || res.Reason != "Baking" || !strings.Contains(res.Message, "bakes until 00:01:0") {
		t.Errorf("in the bake: %v; %s %s", got, res.Reason, res.Message)
	}
	if st, err := w.r.Status(context.Background(), "shop"); err != nil || st.Reason != "Baking" || st.Conditions[0].True || !strings.Contains(st.Message, " more") {
		t.Errorf("status: %s %s, %v", st.Reason, st.Message, err)
	}
	w.restart() // the bake goes on where it was
	w.engine.advance(30 * time.Second)
	if res = w.settle(); res.Outcome != Unchanged || w.phases() != "1:Healthy" {
		t.Errorf("%s %s; %s", res.Outcome, res.Reason, w.phases())
	}
}

func TestOneDeathInTheBakeFailsNothing(t *testing.T) {
	w := newWorld(t, one("app:1"))
	w.until("Baking")
	s := w.engine.service(t, "shop_web")
	dead := &w.engine.tasks[s.ID][0]
	dead.Status, dead.DesiredState = swarm.TaskStatus{State: swarm.TaskStateFailed, Timestamp: w.engine.now(), Err: "task: non-zero exit (1)"}, swarm.TaskStateShutdown
	if res := w.pass(); res.Reason != "RollingOut" {
		t.Errorf("while it is down: %s %s", res.Reason, res.Message)
	}
	w.engine.tasks[s.ID] = append(w.engine.tasks[s.ID], w.engine.task(s, 1, swarm.TaskStateRunning))
	w.settle()
	if w.phases() != "1:Healthy" {
		t.Errorf("releases %s", w.phases())
	}
}

func TestSickInTheBakeGoesBack(t *testing.T) {
	w := newWorld(t, one("app:1"))
	w.settle()
	w.stack = one("app:2")
	w.until("Baking")
	w.sicken("shop_web")
	res := w.settle()
	if res.Reason != "RolledBack" || w.images() != "shop_web=app:1" || w.phases() != "1:Healthy 2:Failed" {
		t.Errorf("%s: %s; %s; %s", res.Reason, res.Message, w.images(), w.phases())
	}
	if res.Release == nil || !slices.Equal(res.Release.Failed, []string{"shop_web"}) || res.Release.Reason != CodeCrashLoop {
		t.Errorf("release %+v", res.Release)
	}
}

func TestGuardTakesBackWhatWasHealthy(t *testing.T) {
	w := newWorld(t, one("app:1"))
	w.settle()
	w.stack = one("app:2")
	if res := w.settle(); res.Requeue == 0 || res.Requeue > guardEvery {
		t.Errorf("while the guard is on it is looked at again in %s", res.Requeue)
	}
	w.engine.takeWrites()
	w.pass()
	if got := w.engine.takeWrites(); len(got) > 0 {
		t.Errorf("the guard writes %v", got)
	}
	w.sicken("shop_web")
	w.restart()
	res := w.settle()
	if res.Reason != "RolledBack" || w.images() != "shop_web=app:1" || w.phases() != "1:Healthy 2:Failed" {
		t.Errorf("%s: %s; %s; %s", res.Reason, res.Message, w.images(), w.phases())
	}
	w.engine.takeWrites()
	w.engine.advance(time.Hour)
	w.restart()
	if w.settle(); w.serviceWrites() != "" {
		t.Error("it was tried again")
	}
}

func TestGuardIsOverAndTellsOnce(t *testing.T) {
	w := newWorld(t, one("app:1"))
	w.settle()
	w.stack = one("app:2")
	w.settle()
	w.engine.advance(11 * time.Minute)
	w.sicken("shop_web")
	w.refresh()
	told := 0
	var res Result
	for range 10 {
		res = w.pass()
		for _, tr := range res.Transitions {
			if tr.Action == "degraded" {
				told++
			}
		}
	}
	if told != 1 || res.Outcome != Unchanged || res.Conditions[0].True || !res.Conditions[2].True || w.images() != "shop_web=app:2" {
		t.Errorf("told %d times; %s %s: %s; %v; %s", told, res.Outcome, res.Reason, res.Message, res.Conditions, w.images())
	}
	w.engine.run(w.engine.service(t, "shop_web"))
	w.refresh()
	if res = w.pass(); len(res.Transitions) != 1 || res.Transitions[0].Action != "recovered" {
		t.Errorf("transitions %+v", res.Transitions)
	}
}

func TestGuardSparesWhatAnotherTroubleExplains(t *testing.T) {
	for name, trouble := range map[string]func(*world){
		"an unchanged service is sick": func(w *world) { w.sicken("shop_db") },
		"a node is lost": func(w *world) {
			n := swarm.Node{ID: "n2", Status: swarm.NodeStatus{State: swarm.NodeStateDown}}
			n.UpdatedAt, n.Description.Hostname = w.engine.now(), "rack2"
			w.engine.nodes = append(w.engine.nodes, n)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, two("app:1", "db:1"))
			w.settle()
			w.stack = two("app:2", "db:1")
			w.settle()
			trouble(w)
			w.sicken("shop_web")
			w.restart()
			w.engine.takeWrites()
			res := w.settle()
			if got := w.engine.takeWrites(); len(got) > 0 || w.phases() != "1:Healthy 2:Healthy" {
				t.Errorf("%v; %s; %s %s", got, w.phases(), res.Reason, res.Message)
			}
			if res.Conditions[0].True || !res.Conditions[2].True {
				t.Errorf("conditions %+v", res.Conditions)
			}
		})
	}
}

func TestNewerFileWaitsForAPassingBake(t *testing.T) {
	w := newWorld(t, one("app:1"))
	w.settle()
	w.stack = one("app:2")
	w.until("Baking")
	w.stack = one("app:3")
	w.engine.takeWrites()
	for range 20 {
		if res := w.pass(); res.Reason != "Baking" || res.Outcome != Waiting {
			t.Fatalf("%s %s: %s", res.Outcome, res.Reason, res.Message)
		}
	}
	if got := w.engine.takeWrites(); len(got) > 0 {
		t.Errorf("writes %v", got)
	}
	w.settle()
	if w.images() != "shop_web=app:3" || w.phases() != "1:Healthy 2:Healthy 3:Healthy" {
		t.Errorf("%s; %s", w.images(), w.phases())
	}
}

func TestNewerFileDoesNotWaitForABakeThatDoesNotPass(t *testing.T) {
	w := newWorld(t, one("app:1"))
	w.settle()
	w.stack = one("app:2")
	w.until("Baking")
	s := w.engine.service(t, "shop_web")
	w.engine.tasks[s.ID][0].Status.State = swarm.TaskStateStarting
	w.stack = one("app:3")
	w.pass()
	if w.phases() != "1:Healthy 2:Superseded 3:Progressing" {
		t.Errorf("releases %s", w.phases())
	}
}

// What a superseded release wrote is not where a later one goes back to, be it Swarm
// itself that landed there.
func TestSwarmsRollbackToASupersededReleaseIsNotAccepted(t *testing.T) {
	make := func(image string) *spec.Stack {
		s := one(image)
		s.Services[0].Spec.UpdateConfig.FailureAction = swarm.UpdateFailureActionRollback
		return s
	}
	w := newWorld(t, make("app:1"))
	w.settle()
	w.stack = make("app:2")
	w.pass()
	w.stack = make("app:3-bad")
	w.pass() // supersedes 2: Swarm goes back from 3 to 2
	w.engine.turn()
	if w.images() != "shop_web=app:2" {
		t.Fatalf("Swarm went back to %s", w.images())
	}
	res := w.settle()
	if res.Reason != "RolledBack" || w.images() != "shop_web=app:1" || w.phases() != "1:Healthy 2:Superseded 3:Failed" {
		t.Errorf("%s: %s; %s; %s", res.Reason, res.Message, w.images(), w.phases())
	}
}

// Swarm's own rollback that lands on the newest healthy release is left as it is.
func TestSwarmsRollbackToTheHealthyReleaseIsAccepted(t *testing.T) {
	make := func(image string) *spec.Stack {
		s := one(image)
		s.Services[0].Spec.UpdateConfig.FailureAction = swarm.UpdateFailureActionRollback
		return s
	}
	w := newWorld(t, make("app:1"))
	w.settle()
	w.stack = make("app:2-bad")
	w.pass()
	w.serviceWrites()
	if res := w.settle(); res.Reason != "RolledBack" || w.serviceWrites() != "" || w.images() != "shop_web=app:1" {
		t.Errorf("%s: %s; %s", res.Reason, res.Message, w.images())
	}
}

func TestPausedRollbackOfSwarmIsRepaired(t *testing.T) {
	w := newWorld(t, one("app:1"))
	w.settle()
	w.stack = one("app:2-bad")
	w.pass()
	// Swarm goes back, which fails half-way: the spec is the old one, a task of the new
	// one is left.
	w.touch("shop_web", func(s *swarm.Service) {
		started := w.engine.now()
		bad := s.Spec
		s.Spec, s.PreviousSpec = *s.PreviousSpec, nil
		w.engine.tasks[s.ID] = nil
		w.engine.run(s)
		w.engine.tasks[s.ID][1].Spec = bad.TaskTemplate
		s.UpdateStatus = &swarm.UpdateStatus{State: swarm.UpdateStateRollbackPaused, StartedAt: &started}
		delete(w.engine.dirty, s.ID)
	})
	w.serviceWrites()
	w.until("RollingBack")
	s := w.engine.service(t, "shop_web")
	w.engine.dirty[s.ID] = true
	res := w.settle()
	if got := w.serviceWrites(); got != "update service shop_web" || res.Reason != "RolledBack" || w.images() != "shop_web=app:1" {
		t.Errorf("%s; %s: %s; %s", got, res.Reason, res.Message, w.images())
	}
	if how := s.Spec.UpdateConfig; how == nil || how.FailureAction != swarm.UpdateFailureActionPause {
		t.Errorf("it was written with %+v", how)
	}
}

// A rollback on which Swarm gives up is told, loudly, and nothing is written any more.
func TestRollbackThatFailsStalls(t *testing.T) {
	w := newWorld(t, one("app:1"))
	w.settle()
	w.stack = one("app:2-bad")
	w.until("RollingBack")
	s := w.engine.service(t, "shop_web")
	started := w.engine.now()
	delete(w.engine.dirty, s.ID)
	s.UpdateStatus = &swarm.UpdateStatus{State: swarm.UpdateStatePaused, StartedAt: &started}
	s.Version.Index = uint64(w.engine.next + 1)
	w.engine.next++
	w.refresh()
	w.engine.takeWrites()
	var res Result
	for range 5 {
		w.restart()
		w.engine.advance(20 * time.Minute)
		res = w.pass()
	}
	if got := w.engine.takeWrites(); len(got) > 0 || res.Reason != "RollbackFailed" || !res.Conditions[3].True {
		t.Errorf("%v; %s: %s", got, res.Reason, res.Message)
	}
}

// What failed for good is told once, wherever its tasks die next.
func TestHoldIsToldOnce(t *testing.T) {
	st, release := &stackState{}, &Release{Number: 2}
	for i, c := range []struct {
		res   Result
		tells bool
	}{
		{Result{Outcome: Held, Reason: "RollbackFailed", Message: "rejected on node1", Release: release}, true},
		{Result{Outcome: Held, Reason: "RollbackFailed", Message: "rejected on node1, node2", Release: release}, false},
		{Result{Outcome: Held, Reason: "RollbackFailed", Message: "rejected on node1", Release: &Release{Number: 3}}, true},
		{Result{Outcome: Held, Reason: "Drifted", Message: "in service a", Release: release}, true},
		{Result{Outcome: Held, Reason: "Drifted", Message: "in service b", Release: release}, true},
		{Result{Outcome: Unchanged, Release: release}, false},
		{Result{Outcome: Held, Reason: "Drifted", Message: "in service b", Release: release}, true},
	} {
		if got := len(tellHold(st, &c.res)) > 0; got != c.tells {
			t.Errorf("%d: %v", i, got)
		}
	}
}

// Status, which knows no file, tells of a rollback that failed what the passes do.
func TestStatusOfARollbackThatFails(t *testing.T) {
	w := newWorld(t, one("app:1"))
	w.settle()
	w.stack = one("app:2-bad")
	w.until("RollingBack")
	for range 20 {
		w.engine.turn()
	}
	w.sicken("shop_web")
	w.refresh()
	pass := w.pass()
	status, err := w.r.Status(t.Context(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	if pass.Reason != "RollbackFailed" || status.Reason != pass.Reason || !status.Conditions[3].True {
		t.Errorf("a pass says %s: %s\nstatus says %s: %s", pass.Reason, pass.Message, status.Reason, status.Message)
	}
}

func TestScopeServiceTakesBackTheOne(t *testing.T) {
	scoped := func(web, db, log string) *spec.Stack {
		s := watched(makeStack("shop", service("shop", "web", web, "db"), service("shop", "db", db), service("shop", "log", log)))
		s.Policy.Rollout.Scope = spec.ScopeService
		return s
	}
	w := newWorld(t, scoped("app:1", "db:1", "log:1"))
	w.settle()
	w.stack = scoped("app:2", "db:2", "log:2")
	w.until("Baking")
	w.sicken("shop_db")
	res := w.settle()
	if want := "shop_db=db:1 shop_log=log:2 shop_web=app:1"; w.images() != want || res.Reason != "RolledBack" || w.phases() != "1:Healthy 2:Failed" {
		t.Errorf("%s: %s; %s; %s", res.Reason, res.Message, w.images(), w.phases())
	}
	if !strings.Contains(res.Message, "shop_db, shop_web went back to release 1") {
		t.Errorf("message %s", res.Message)
	}
	w.engine.takeWrites()
	w.restart()
	w.engine.advance(time.Hour)
	w.settle()
	if got := w.engine.takeWrites(); len(got) > 0 {
		t.Errorf("writes %v", got)
	}
	w.stack = scoped("app:3", "db:3", "log:2")
	w.settle()
	if want := "shop_db=db:3 shop_log=log:2 shop_web=app:3"; w.images() != want || w.phases() != "1:Healthy 2:Failed 3:Healthy" {
		t.Errorf("%s; %s", w.images(), w.phases())
	}
}

// A service that the release added, and that fails, goes; the others stay.
func TestScopeServiceRemovesWhatWasNew(t *testing.T) {
	before := watched(makeStack("shop", service("shop", "web", "app:1")))
	after := watched(makeStack("shop", service("shop", "web", "app:2"), service("shop", "new", "new:1")))
	after.Policy.Rollout.Scope = spec.ScopeService
	w := newWorld(t, before)
	w.settle()
	w.stack = after
	w.until("Baking")
	w.sicken("shop_new")
	if res := w.settle(); w.images() != "shop_web=app:2" || res.Reason != "RolledBack" {
		t.Errorf("%s; %s: %s", w.images(), res.Reason, res.Message)
	}
}

func TestPolicyOfTheServiceThatFailed(t *testing.T) {
	for name, c := range map[string]struct {
		own    spec.Rollout
		images string
		reason string
	}{
		"hold":    {spec.Rollout{Deadline: time.Minute, OnFailure: spec.OnFailureHold}, "shop_db=db:2 shop_web=app:2", "ReleaseFailed"},
		"service": {spec.Rollout{Deadline: time.Minute, Bake: time.Minute, Scope: spec.ScopeService}, "shop_db=db:2 shop_web=app:1", "RolledBack"},
		"stack":   {spec.Rollout{Deadline: time.Minute, Bake: time.Minute, Scope: spec.ScopeStack}, "shop_db=db:1 shop_web=app:1", "RolledBack"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, two("app:1", "db:1"))
			w.settle()
			w.stack = two("app:2", "db:2")
			w.stack.Services[0].Rollout = c.own
			w.until("Baking")
			w.sicken("shop_web")
			if res := w.settle(); w.images() != c.images || res.Reason != c.reason {
				t.Errorf("%s; %s: %s", w.images(), res.Reason, res.Message)
			}
		})
	}
}

// x-skep changes alone do not try again what failed.
func TestPolicyAloneTriesNothingAgain(t *testing.T) {
	w := newWorld(t, one("app:1"))
	w.settle()
	w.stack = one("app:2-bad")
	w.settle()
	w.engine.takeWrites()
	w.stack = one("app:2-bad")
	w.stack.Policy.Rollout.Scope, w.stack.Policy.Rollout.Bake = spec.ScopeService, time.Hour
	w.stack.Source.Fingerprint += "x-skep"
	if res := w.settle(); res.Reason != "RolledBack" || len(w.engine.takeWrites()) > 0 {
		t.Errorf("%s: %s", res.Reason, res.Message)
	}
}

// job makes a service a job that runs once and has nothing to update.
func job(s spec.Service) spec.Service {
	one := uint64(1)
	s.Spec.Mode = swarm.ServiceMode{ReplicatedJob: &swarm.ReplicatedJob{MaxConcurrent: &one, TotalCompletions: &one}}
	s.Spec.UpdateConfig = nil
	s.Spec.TaskTemplate.RestartPolicy = &swarm.RestartPolicy{Condition: swarm.RestartPolicyConditionNone}
	return s
}

// runJob lets a job's newest run end.
func (w *world) runJob(name string, state swarm.TaskState) {
	w.t.Helper()
	s := w.engine.service(w.t, name)
	w.engine.mu.Lock()
	defer w.engine.mu.Unlock()
	delete(w.engine.dirty, s.ID)
	t := w.engine.task(s, 1, state)
	t.JobIteration, t.DesiredState = &swarm.Version{Index: s.JobStatus.JobIteration.Index}, swarm.TaskStateComplete
	if state == swarm.TaskStateFailed {
		t.Status.Err, t.DesiredState = "task: non-zero exit (1)", swarm.TaskStateShutdown
	}
	w.engine.tasks[s.ID] = []swarm.Task{t}
	w.engine.next++
	s.Version.Index = uint64(w.engine.next)
}

func migrating(image, migration string) *spec.Stack {
	return watched(makeStack("shop", service("shop", "web", image, "migrate"), job(service("shop", "migrate", migration))))
}

// A migration that fails fails the release, and its application is never written; once
// it is corrected it goes first.
func TestMigrationGoesBeforeItsApplication(t *testing.T) {
	w := newWorld(t, migrating("app:1", "migrate:1"))
	w.pass()
	w.runJob("shop_migrate", swarm.TaskStateComplete)
	w.settle()
	if w.phases() != "1:Healthy" || w.images() != "shop_migrate=migrate:1 shop_web=app:1" {
		t.Fatalf("%s; %s", w.phases(), w.images())
	}
	w.stack = migrating("app:2", "migrate:2")
	w.serviceWrites()
	w.pass()
	w.runJob("shop_migrate", swarm.TaskStateFailed)
	res := w.settle()
	if got := w.serviceWrites(); got != "update service shop_migrate" || w.phases() != "1:Healthy 2:Failed" || w.engine.written["app:2"] > 0 {
		t.Errorf("%s; %s; %s: %s", got, w.phases(), res.Reason, res.Message)
	}
	if res.Release.Reason != CodeJobFailed {
		t.Errorf("it failed for %s: %s", res.Release.Reason, res.Release.Message)
	}

	w.stack = migrating("app:3", "migrate:2") // the database is up again
	w.pass()
	if got := w.serviceWrites(); got != "update service shop_migrate" {
		t.Errorf("the migration is run again by %q", got)
	}
	w.runJob("shop_migrate", swarm.TaskStateComplete)
	w.settle()
	if w.images() != "shop_migrate=migrate:2 shop_web=app:3" || w.phases() != "1:Healthy 2:Failed 3:Healthy" {
		t.Errorf("%s; %s", w.images(), w.phases())
	}
}

func TestRollbackRunsNoJob(t *testing.T) {
	w := newWorld(t, migrating("app:1", "migrate:1"))
	w.pass()
	w.runJob("shop_migrate", swarm.TaskStateComplete)
	w.settle()
	w.stack = migrating("app:2-bad", "migrate:2")
	w.pass()
	w.runJob("shop_migrate", swarm.TaskStateComplete)
	w.until("RollingBack")
	w.serviceWrites()
	res := w.settle()
	if got := w.serviceWrites(); strings.Contains(got, "migrate") || res.Reason != "RolledBack" || w.images() != "shop_migrate=migrate:2 shop_web=app:1" {
		t.Errorf("%s; %s; %s: %s", got, w.images(), res.Reason, res.Message)
	}
	if res = w.pass(); len(w.engine.takeWrites()) > 0 {
		t.Errorf("it goes on: %s", res.Message)
	}
	res, err := w.r.Status(context.Background(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range res.Services {
		if want := "migrate: of release 2, not run again when going back"; s.Key == "migrate" && s.Reason != want || s.Key == "web" && s.Reason != "" {
			t.Errorf("%s: %q", s.Key, s.Reason)
		}
	}
}

func (w *world) ask(change func(State) State) {
	w.t.Helper()
	if err := w.r.memory.setState(context.Background(), w.stack.Name, change); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) pin(n int) {
	w.t.Helper()
	if _, err := w.r.RequestRollback(context.Background(), w.stack.Name, n); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) resume() {
	w.t.Helper()
	if _, err := w.r.Resume(context.Background(), w.stack.Name); err != nil {
		w.t.Fatal(err)
	}
}

func TestPinGoesBackAndStaysUntilTheFileChanges(t *testing.T) {
	w := newWorld(t, one("app:1"))
	w.settle()
	w.stack = one("app:2")
	w.settle()
	w.pin(1)
	res := w.settle()
	if w.images() != "shop_web=app:1" || w.phases() != "1:Healthy 2:Healthy 3:Healthy" || res.Reason != "Pinned" {
		t.Fatalf("%s; %s; %s: %s", w.images(), w.phases(), res.Reason, res.Message)
	}
	if res.Release.By != ByHand || res.Release.Of != 1 {
		t.Errorf("release %+v", res.Release)
	}
	if how := w.engine.service(t, "shop_web").Spec.UpdateConfig; how.FailureAction != swarm.UpdateFailureActionPause {
		t.Errorf("it went back with %+v", how)
	}
	w.engine.takeWrites()
	w.restart()
	w.engine.advance(time.Hour)
	w.stack = one("app:2") // the same, in other words
	w.stack.Source.Fingerprint += "comment"
	if w.settle(); len(w.engine.takeWrites()) > 0 {
		t.Error("a pin that stays writes")
	}
	w.touch("shop_web", func(s *swarm.Service) { s.Spec.TaskTemplate.ContainerSpec.Image = "app:9" })
	if w.settle(); w.images() != "shop_web=app:1" {
		t.Errorf("drift of what is pinned: %s", w.images())
	}
	w.stack = one("app:3")
	w.settle()
	if w.images() != "shop_web=app:3" || w.phases() != "1:Healthy 2:Healthy 3:Healthy 4:Healthy" {
		t.Errorf("%s; %s", w.images(), w.phases())
	}
	if st, err := w.r.memory.state(context.Background(), "shop"); err != nil || st.IsPinned() {
		t.Errorf("the pin is %+v, %v", st, err)
	}
}

func TestResumeEndsAPin(t *testing.T) {
	w := newWorld(t, one("app:1"))
	w.settle()
	w.stack = one("app:2")
	w.settle()
	w.pin(1)
	w.settle()
	w.resume()
	w.settle()
	if w.images() != "shop_web=app:2" || w.phases() != "1:Healthy 2:Healthy 3:Healthy 4:Healthy" {
		t.Errorf("%s; %s", w.images(), w.phases())
	}
}

// A rollback that somebody asks for does not wait for anybody's bake, and one that
// fails leads back to where it came from.
func TestPinThatFailsGoesBack(t *testing.T) {
	w := newWorld(t, one("app:1"))
	w.settle()
	w.stack = one("app:2")
	w.until("Baking")
	w.pin(1)
	w.until("Baking")
	if w.phases() != "1:Healthy 2:Superseded 3:Progressing" {
		t.Fatalf("releases %s", w.phases())
	}
	w.settle()
	w.resume()
	w.settle()
	w.pin(1)
	w.until("Baking")
	w.sicken("shop_web")
	res := w.settle()
	if w.images() != "shop_web=app:2" || res.Reason != "RolledBack" || w.phases() != "1:Healthy 2:Superseded 3:Healthy 4:Healthy 5:Failed" {
		t.Errorf("%s; %s; %s: %s", w.images(), w.phases(), res.Reason, res.Message)
	}
}

func TestPardonTriesAgain(t *testing.T) {
	for _, hold := range []bool{false, true} {
		make := func(image string) *spec.Stack {
			s := one(image)
			if hold {
				s.Policy.Rollout.OnFailure = spec.OnFailureHold
			}
			return s
		}
		w := newWorld(t, make("app:1"))
		w.settle()
		w.stack = make("app:2")
		w.until("Baking")
		w.sicken("shop_web")
		w.settle()
		w.resume()
		w.engine.run(w.engine.service(t, "shop_web")) // its trouble is over
		w.settle()
		if w.images() != "shop_web=app:2" || w.phases() != "1:Healthy 2:Failed 3:Healthy" {
			t.Errorf("held: %v; %s; %s", hold, w.images(), w.phases())
		}
	}
}

// What is paused where it failed goes on when it is tried again.
func TestPardonStartsWhatIsPaused(t *testing.T) {
	w := newWorld(t, one("app:1"))
	w.settle()
	w.stack = one("app:2-bad")
	w.stack.Policy.Rollout.OnFailure = spec.OnFailureHold
	if res := w.settle(); res.Reason != "ReleaseFailed" {
		t.Fatalf("%s: %s", res.Reason, res.Message)
	}
	w.serviceWrites()
	w.resume()
	w.pass()
	if got := w.serviceWrites(); got != "update service shop_web" || w.phases() != "1:Healthy 2:Failed 3:Progressing" {
		t.Errorf("%s; %s", got, w.phases())
	}
}

func TestSuspendedWritesNothing(t *testing.T) {
	w := newWorld(t, one("app:1"))
	w.settle()
	w.ask(func(s State) State { s.Suspended, s.Why = w.engine.now(), "the database moves"; return s })
	w.engine.takeWrites()
	w.stack = one("app:2")
	res := w.settle()
	if got := w.engine.takeWrites(); len(got) > 0 || res.Reason != "Suspended" || res.Conditions[3].True || !strings.Contains(res.Message, "the database moves") {
		t.Errorf("%v; %s: %s", got, res.Reason, res.Message)
	}
	if st, err := w.r.Status(context.Background(), "shop"); err != nil || st.Reason != "Suspended" {
		t.Errorf("status: %s, %v", st.Reason, err)
	}
	w.r = New(Options{Swarm: w.engine, Now: w.engine.now, PruneStacks: true})
	res = w.r.Reconcile(context.Background(), Input{Name: "shop"})
	if got := w.engine.takeWrites(); len(got) > 0 || res.Reason != "Suspended" {
		t.Errorf("with its file gone: %v; %s", got, res.Reason)
	}
	w.resume()
	w.settle()
	if w.images() != "shop_web=app:2" {
		t.Errorf("resumed: %s", w.images())
	}
}

// An apply that does not wait leaves a release that runs and that nobody saw converge.
// It is what a bad one after it goes back to.
func TestReleaseThatNobodySawConvergeIsHealthyBeforeTheNext(t *testing.T) {
	w := newWorld(t, one("app:1"))
	if w.pass(); w.phases() != "1:Progressing" {
		t.Fatalf("releases %s", w.phases())
	}
	for range 3 {
		w.engine.turn()
	}
	w.engine.advance(24 * time.Hour)
	w.restart()
	w.stack = one("app:2")
	if res := w.pass(); w.phases() != "1:Healthy" {
		t.Fatalf("%s: %s; releases %s", res.Reason, res.Message, w.phases())
	}
	w.pass()
	w.engine.turn()
	w.sicken("shop_web")
	res := w.settle()
	if res.Reason != "RolledBack" || w.images() != "shop_web=app:1" || w.phases() != "1:Healthy 2:Failed" {
		t.Errorf("%s: %s; %s; %s", res.Reason, res.Message, w.images(), w.phases())
	}
}

// Where it has only just come up, it bakes first.
func TestReleaseThatNobodySawConvergeBakesBeforeTheNext(t *testing.T) {
	w := newWorld(t, one("app:1"))
	w.pass()
	for range 3 {
		w.engine.turn()
	}
	w.restart()
	w.stack = one("app:2")
	res := w.pass()
	if res.Reason != "Baking" || !strings.Contains(res.Message, "a newer file comes then") || w.images() != "shop_web=app:1" {
		t.Fatalf("%s: %s; %s", res.Reason, res.Message, w.images())
	}
	w.engine.advance(2 * time.Minute)
	w.settle()
	if w.phases() != "1:Healthy 2:Healthy" {
		t.Errorf("releases %s", w.phases())
	}
}

// One that was not written wholly is superseded at once.
func TestReleaseThatWasNotWrittenWhollyIsSuperseded(t *testing.T) {
	ordered := func(web, db string) *spec.Stack {
		return watched(makeStack("shop", service("shop", "web", web, "db"), service("shop", "db", db)))
	}
	w := newWorld(t, ordered("app:1", "db:1"))
	w.settle()
	w.stack = ordered("app:2", "db:2")
	w.pass() // the first wave
	for range 3 {
		w.engine.turn()
	}
	w.restart()
	w.stack = ordered("app:3", "db:2")
	w.pass()
	if w.phases() != "1:Healthy 2:Superseded 3:Progressing" {
		t.Errorf("releases %s; %s", w.phases(), w.images())
	}
}
