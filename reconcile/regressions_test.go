package reconcile

// Each test here is a way in which passes once went wrong, played on the fake engine.

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"

	"github.com/skep-io/skep/spec"
)

func (w *world) refresh() {
	w.t.Helper()
	if _, err := w.r.Refresh(context.Background()); err != nil {
		w.t.Fatal(err)
	}
}

// touch changes a live service as a person would.
func (w *world) touch(name string, f func(*swarm.Service)) {
	w.t.Helper()
	s := w.engine.service(w.t, name)
	f(s)
	w.engine.next += 2000
	s.Version.Index = uint64(w.engine.next)
	w.refresh()
}

// A rollout that converged while the daemon was away is failed and rolled back.
func TestConvergedWhileAway(t *testing.T) {
	w := newWorld(t, makeStack("shop", service("shop", "web", "app:1")))
	w.settle()
	w.stack = makeStack("shop", service("shop", "web", "app:2"))
	w.pass()        // written
	w.engine.turn() // all tasks run app:2, update completed
	w.engine.advance(11 * time.Minute)
	w.restart()
	w.settle()
	if w.images() != "shop_web=app:2" || w.phases() != "1:Healthy 2:Healthy" {
		t.Errorf("%s; %s", w.images(), w.phases())
	}
}

// Superseding loses the marks of what the superseded release wrote.
func TestSupersedeLosesMarks(t *testing.T) {
	st := func(web, db string) *spec.Stack {
		return makeStack("shop", service("shop", "web", web), service("shop", "db", db))
	}
	w := newWorld(t, st("app:1", "db:1"))
	w.settle()
	w.stack = st("app:2-bad", "db:1")
	w.pass() // written, Swarm is at it
	w.stack = st("app:2-bad", "db:2")
	w.pass()
	// db converges, web still "updating"
	db, web := w.engine.service(t, "shop_db"), w.engine.service(t, "shop_web")
	delete(w.engine.dirty, web.ID)
	w.engine.turn()
	for range 5 {
		w.pass()
	}
	_ = db
	t.Logf("while web has not converged: %s", w.phases())
	w.engine.dirty[web.ID] = true
	res := w.settle()
	if w.images() != "shop_db=db:1 shop_web=app:1" {
		t.Errorf("%s; %s; %s %s %s", w.images(), w.phases(), res.Outcome, res.Reason, res.Message)
	}
}

// A removal that the engine refuses fails the release and rolls it back.
func TestRefusedRemovalFailsRelease(t *testing.T) {
	st := func(image string, extra bool) *spec.Stack {
		s := makeStack("shop", service("shop", "web", image))
		if extra {
			s.Networks = append(s.Networks, spec.Network{Key: "old", Name: "shop_old", Create: network.CreateOptions{Driver: "overlay", Labels: map[string]string{spec.LabelNamespace: "shop"}}})
		}
		return s
	}
	w := newWorld(t, st("app:1", true))
	w.settle()
	tried := 0
	w.engine.fault = func(op string, _ bool) error {
		if op == "remove network" {
			tried++
			return errors.New("Error response from daemon: rpc error: code = FailedPrecondition desc = network xyz is in use by task abc")
		}
		return nil
	}
	w.stack = st("app:2", false)
	var res Result
	for range 700 {
		res = w.pass()
		w.engine.turn()
		if res.Outcome == Unchanged || res.Outcome == Held {
			break
		}
	}
	if w.images() != "shop_web=app:2" || w.phases() != "1:Healthy 2:Healthy" {
		t.Errorf("%d refused removals; %s; %s; %s %s: %s", tried, w.images(), w.phases(), res.Outcome, res.Reason, res.Message)
	}
}

// What does not stick costs a record write a minute, and a "drift-corrected" each.
func TestNotStickingWritesRecords(t *testing.T) {
	w := newWorld(t, makeStack("shop", service("shop", "web", "app:1")))
	w.settle()
	undo := func() {
		w.touch("shop_web", func(s *swarm.Service) { s.Spec.TaskTemplate.ContainerSpec.Image = "app:0" })
	}
	undo()
	w.engine.takeWrites()
	told := 0
	for range 20 {
		res := w.pass()
		for _, tr := range res.Transitions {
			if tr.Action == "drift-corrected" {
				told++
			}
		}
		undo()
		w.engine.advance(time.Minute)
	}
	writes := strings.Join(w.engine.takeWrites(), ", ")
	if strings.Count(writes, "update config") > 3 || told > 2 {
		t.Errorf("%d record writes, %d service writes, drift-corrected told %d times", strings.Count(writes, "update config"), strings.Count(writes, "update service"), told)
	}
}

// Drift: report is not honoured after a revert (newest release is of another digest).
func TestDriftReportAfterRevert(t *testing.T) {
	good := makeStack("shop", service("shop", "web", "app:1"))
	good.Policy.Drift = spec.DriftReport
	good.Services[0].Spec.UpdateConfig.Order = ""
	w := newWorld(t, good)
	w.settle()
	// the same, rendered otherwise (an order that is the default)
	other := makeStack("shop", service("shop", "web", "app:1"))
	other.Policy.Drift = spec.DriftReport
	other.Services[0].Spec.UpdateConfig.Order = "stop-first"
	w.stack = other
	if res := w.settle(); res.Outcome != Unchanged {
		t.Fatalf("%s %s", res.Outcome, res.Reason)
	}
	w.engine.takeWrites()
	five := uint64(5)
	w.touch("shop_web", func(s *swarm.Service) { s.Spec.Mode.Replicated.Replicas = &five })
	res := w.settle()
	if got := w.engine.takeWrites(); len(got) > 0 {
		t.Errorf("writes though drift is report: %v; %s %s", got, res.Outcome, res.Reason)
	}
}

// Nor while a failed release has been rolled back.
func TestDriftReportWhileRolledBack(t *testing.T) {
	mk := func(i string) *spec.Stack {
		s := makeStack("shop", service("shop", "web", i))
		s.Policy.Drift = spec.DriftReport
		return s
	}
	w := newWorld(t, mk("app:1"))
	w.settle()
	w.stack = mk("app:2-bad")
	w.settle()
	w.engine.takeWrites()
	five := uint64(5)
	w.touch("shop_web", func(s *swarm.Service) { s.Spec.Mode.Replicated.Replicas = &five })
	w.settle()
	if got := w.engine.takeWrites(); len(got) > 0 {
		t.Errorf("writes though drift is report: %v", got)
	}
}

// With drift: report, the clean-up of old configs is "drift": never done, never Ready.
func TestDriftReportAndOldConfigs(t *testing.T) {
	w := newWorld(t, configured("app:1", "0"))
	w.r = New(Options{Swarm: w.engine, Now: w.engine.now, History: 3})
	var res Result
	for i := range 6 {
		w.stack = configured("app:1", fmt.Sprint(i))
		w.stack.Policy.Drift = spec.DriftReport
		res = w.settle()
	}
	if res.Outcome != Unchanged || !res.Conditions[0].True {
		t.Errorf("%s %s: %s", res.Outcome, res.Reason, res.Message)
	}
}

// A rollback creates a config anew whose data nobody has: empty.
func TestRollbackCreatesEmptyConfig(t *testing.T) {
	w := newWorld(t, configured("app:1", "one"))
	w.settle()
	w.stack = configured("app:2-bad", "two")
	w.pass()
	w.pass()
	for id, c := range w.engine.configs { // a person tidies up: not in use any more
		if strings.HasPrefix(c.Spec.Name, "shop_conf-") && string(c.Spec.Data) == "one" {
			delete(w.engine.configs, id)
		}
	}
	w.refresh()
	w.settle()
	for _, c := range w.engine.configs {
		if strings.HasPrefix(c.Spec.Name, "shop_conf-") && len(c.Spec.Data) == 0 {
			t.Errorf("config %s was created empty; service uses %s, image %s", c.Spec.Name,
				w.engine.service(t, "shop_web").Spec.TaskTemplate.ContainerSpec.Configs[0].ConfigName, w.images())
		}
	}
}

// A damaged record of the healthy release stops the stack altogether.
func TestDamagedHealthyRecord(t *testing.T) {
	w := newWorld(t, makeStack("shop", service("shop", "web", "app:0")))
	w.settle()
	w.stack = makeStack("shop", service("shop", "web", "app:1"))
	w.settle()
	for id, c := range w.engine.configs {
		if c.Spec.Name == "skep-release-shop-2" {
			c.Spec.Data = []byte("junk")
			w.engine.configs[id] = c
		}
	}
	w.restart()
	w.stack = makeStack("shop", service("shop", "web", "app:2-bad"))
	var res Result
	for range 20 {
		res = w.pass()
		w.engine.turn()
	}
	if res.Err != nil {
		t.Errorf("%s %s: %s; %s", res.Outcome, res.Reason, res.Message, w.images())
	}
}

// A rollback is refused since an external config is "missing" after a restart.
func TestRollbackAndExternalConfig(t *testing.T) {
	mk := func(image string, ext bool) *spec.Stack {
		st := makeStack("shop", service("shop", "web", image))
		if ext {
			st.Configs = []spec.Config{{Key: "outside", Name: "outside", External: true}}
			st.Services[0].Spec.TaskTemplate.ContainerSpec.Configs = []*swarm.ConfigReference{{ConfigName: "outside", File: &swarm.ConfigReferenceFileTarget{Name: "/x"}}}
		}
		return st
	}
	w := newWorld(t, mk("app:1", true))
	_, _ = w.engine.ConfigCreate(context.Background(), swarm.ConfigSpec{Annotations: swarm.Annotations{Name: "outside"}, Data: []byte("x")})
	w.settle()
	w.stack = mk("app:2-bad", false)
	w.pass()
	w.restart()
	res := w.settle()
	if w.images() != "shop_web=app:1" {
		t.Errorf("%s %s: %s; %s", res.Outcome, res.Reason, res.Message, w.images())
	}
}

// A Progressing release is forgotten about when the file goes back to a quarantined
// digest, and fails at once by its old deadline when its turn comes again.
func TestProgressingLeftBehind(t *testing.T) {
	w := newWorld(t, makeStack("shop", service("shop", "web", "app:1")))
	w.settle()
	bad, next := makeStack("shop", service("shop", "web", "app:2-bad")), makeStack("shop", service("shop", "web", "app:3"))
	w.stack = bad
	w.settle()
	w.stack = next
	w.pass() // release 3 is under way
	w.stack = bad
	w.settle()
	t.Log(w.phases())
	w.engine.advance(time.Hour)
	w.stack = next
	res := w.settle()
	if w.images() != "shop_web=app:3" {
		t.Errorf("%s; %s; %s %s: %s", w.images(), w.phases(), res.Outcome, res.Reason, res.Message)
	}
}

// Jobs are not rerun by a rollback.
func TestRollbackRerunsJob(t *testing.T) {
	mk := func(image, job string) *spec.Stack {
		j := service("shop", "migrate", job)
		one := uint64(1)
		j.Spec.Mode = swarm.ServiceMode{ReplicatedJob: &swarm.ReplicatedJob{MaxConcurrent: &one, TotalCompletions: &one}}
		j.Spec.UpdateConfig = nil
		return makeStack("shop", service("shop", "web", image), j)
	}
	w := newWorld(t, mk("app:1", "job:1"))
	w.engine.fault = nil
	for range 30 {
		w.pass()
		w.engine.turn()
	}
	t.Log(w.phases())
	w.stack = mk("app:2-bad", "job:2")
	for range 5 {
		w.pass()
	}
	w.engine.takeWrites()
	for range 700 {
		w.pass()
		w.engine.turn()
	}
	got := w.engine.takeWrites()
	t.Log(got, w.images(), w.phases())
	if slices.Contains(got, "update service shop_migrate") {
		t.Errorf("the rollback reran the job: %v; %s", got, w.images())
	}
}

// The pass after adoption is asked for.
func TestSnapshotAsksForNextPass(t *testing.T) {
	stack := makeStack("shop", service("shop", "web", "app:1"))
	w := newWorld(t, stack)
	ctx := context.Background()
	_, _ = w.engine.NetworkCreate(ctx, "shop_default", stack.Networks[0].Create)
	_, _ = w.engine.ServiceCreate(ctx, stack.Services[0].Spec, swarm.ServiceCreateOptions{})
	w.engine.turn()
	w.stack = makeStack("shop", service("shop", "web", "app:2"))
	res := w.pass()
	t.Logf("%+v %v", res.Transitions, res.Requeue)
	if res.Requeue == 0 {
		t.Errorf("after %s %s nobody asks for the next pass; %s", res.Outcome, res.Transitions[0].Message, w.phases())
	}
}

// A name that is taken for good is an endless loop at 4 Hz.
func TestPersistentConflict(t *testing.T) {
	w := newWorld(t, makeStack("shop", service("shop", "web", "app:1")))
	tried := 0
	w.engine.fault = func(op string, after bool) error {
		if op == "create network" && !after {
			tried++
			return errors.New("network with name shop_default already exists")
		}
		return nil
	}
	var res Result
	for range 100 {
		res = w.pass()
	}
	if res.Err == nil {
		t.Errorf("%d refused writes; %s %s, again in %s: %s", tried, res.Outcome, res.Reason, res.Requeue, res.Message)
	}
}

// What another stack makes is not seen by one that waits for it.
func TestOtherStacksNetwork(t *testing.T) {
	st := makeStack("shop", service("shop", "web", "app:1"))
	st.Networks = append(st.Networks, spec.Network{Key: "infra", Name: "infra_net", External: true})
	w := newWorld(t, st)
	if res := w.pass(); res.Outcome != Held {
		t.Fatal(res.Outcome)
	}
	_, _ = w.engine.NetworkCreate(context.Background(), "infra_net", network.CreateOptions{Driver: "overlay", Labels: map[string]string{spec.LabelNamespace: "infra"}})
	changed, _ := w.r.Refresh(context.Background())
	res := w.pass()
	if res.Outcome == Held || !slices.Contains(changed, "shop") {
		t.Errorf("%s %s: %s; Refresh says changed: %v", res.Outcome, res.Reason, res.Message, changed)
	}
}

// A rollback that does not converge in one wave never reaches the next.
func TestRollbackGatedForEver(t *testing.T) {
	mk := func(db, web string) *spec.Stack {
		return makeStack("shop", service("shop", "db", db), service("shop", "web", web, "db"))
	}
	w := newWorld(t, mk("db:1", "app:1"))
	w.settle()
	w.stack = mk("db:2", "app:2-bad")
	w.pass()
	w.engine.turn()
	w.pass()
	w.pass()        // web written
	w.engine.turn() // paused; stop-first: an old task is gone already
	web := w.engine.service(t, "shop_web").ID
	w.engine.tasks[web] = w.engine.tasks[web][:1]
	var res Result
	for range 200 { // the old web does not get well on the new db: the engine says "updating"
		res = w.pass()
		w.engine.advance(time.Minute)
	}
	t.Logf("%s %s %s %s", w.images(), w.phases(), res.Reason, res.Message)
	if strings.Contains(w.images(), "db:2") {
		t.Errorf("after 3 hours: %s; %s; %s %s: %s", w.images(), w.phases(), res.Outcome, res.Reason, res.Message)
	}
}

// A reading of the releases that began before a write is kept after it.
func TestForgetWhileReading(t *testing.T) {
	w := newWorld(t, makeStack("shop", service("shop", "web", "app:1")))
	w.settle()
	w.r.Noticed("")
	slow := &slowConfigs{fakeEngine: w.engine}
	w.r.memory.swarm = slow
	slow.after = func() { // somebody else records a release, and its event comes in, before the answer is taken
		for id, c := range w.engine.configs {
			if c.Spec.Name == "skep-release-shop-1" {
				l := map[string]string{}
				for k, v := range c.Spec.Labels {
					l[k] = v
				}
				l[labelPhase] = string(PhaseFailed)
				c.Spec.Labels = l
				w.engine.configs[id] = c
			}
		}
		w.r.Noticed("skep-release-shop-1")
	}
	ctx := context.Background()
	_, _ = w.r.memory.releases(ctx, "shop")
	slow.after = nil
	list, _ := w.r.memory.releases(ctx, "shop")
	if list[0].Phase != PhaseFailed {
		t.Errorf("phase %s: the reading from before the write is kept", list[0].Phase)
	}
}

type slowConfigs struct {
	*fakeEngine
	after func()
}

func (s *slowConfigs) ConfigList(ctx context.Context, o swarm.ConfigListOptions) ([]swarm.Config, error) {
	l, err := s.fakeEngine.ConfigList(ctx, o)
	if s.after != nil {
		s.after()
	}
	return l, err
}

// An adopted stack whose file is gone is not known after a restart.
func TestAdoptedOrphanAfterRestart(t *testing.T) {
	stack := makeStack("shop", service("shop", "web", "app:1"))
	w := newWorld(t, stack)
	ctx := context.Background()
	_, _ = w.engine.NetworkCreate(ctx, "shop_default", stack.Networks[0].Create)
	_, _ = w.engine.ServiceCreate(ctx, stack.Services[0].Spec, swarm.ServiceCreateOptions{})
	w.engine.turn()
	w.settle()
	w.restart()
	w.refresh()
	if got := w.r.Stacks(); !slices.Contains(got, "shop") {
		t.Errorf("stacks %v", got)
	}
}

// Superseding a release that Swarm gave up on forgets that it failed.
func TestSupersededThoughFailed(t *testing.T) {
	bad := makeStack("shop", service("shop", "web", "app:2-bad"))
	w := newWorld(t, makeStack("shop", service("shop", "web", "app:1")))
	w.settle()
	w.stack = bad
	w.pass()
	w.engine.turn() // paused, before the next pass
	w.stack = makeStack("shop", service("shop", "web", "app:3"))
	w.settle()
	w.stack = bad
	w.engine.takeWrites()
	w.settle()
	for _, wr := range w.engine.takeWrites() {
		if wr == "update service shop_web" {
			t.Errorf("the failed digest is tried again; %s", w.phases())
			break
		}
	}
}

// A global service that has no tasks yet counts as converged.
func TestGlobalWithoutTasksYet(t *testing.T) {
	s := &swarm.Service{ID: "x", Spec: swarm.ServiceSpec{Annotations: swarm.Annotations{Name: "shop_agent"}, Mode: swarm.ServiceMode{Global: &swarm.GlobalService{}}},
		ServiceStatus: &swarm.ServiceStatus{}} // what the engine lists right after the create
	nodes := map[string]*swarm.Node{"n1": {ID: "n1", Status: swarm.NodeStatus{State: swarm.NodeStateReady}, Spec: swarm.NodeSpec{Availability: swarm.NodeAvailabilityActive}}}
	s.CreatedAt = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	if h := Judge("agent", s, Tasks{Known: true}, nodes, s.CreatedAt.Add(time.Second)); h.Converged {
		t.Errorf("converged with no task at all: %+v", h)
	}
	if h := Judge("agent", s, Tasks{Known: true}, nodes, s.CreatedAt.Add(time.Minute)); !h.Converged {
		t.Errorf("a constraint may leave it without tasks: %+v", h)
	}
}

// Ignored fields survive a replacement.
func TestReplaceKeepsIgnored(t *testing.T) {
	mk := func(global bool) *spec.Stack {
		s := service("shop", "web", "app:1")
		s.Spec.TaskTemplate.ContainerSpec.Env = []string{"A=file"}
		if global {
			s.Spec.Mode = swarm.ServiceMode{Global: &swarm.GlobalService{}}
		}
		st := makeStack("shop", s)
		st.Source.Fingerprint += fmt.Sprint(global)
		st.Policy.Ignore = []spec.IgnorePath{{Service: "web", Path: "environment.A"}}
		return st
	}
	w := newWorld(t, mk(false))
	w.settle()
	w.touch("shop_web", func(s *swarm.Service) { s.Spec.TaskTemplate.ContainerSpec.Env = []string{"A=live"} })
	w.stack = mk(true)
	w.settle()
	if env := w.engine.service(t, "shop_web").Spec.TaskTemplate.ContainerSpec.Env; !slices.Equal(env, []string{"A=live"}) {
		t.Errorf("env %v", env)
	}
}

// Drift of a later wave waits for ever for a correction that does not converge.
func TestDriftGatedForEver(t *testing.T) {
	w := newWorld(t, makeStack("shop", service("shop", "db", "db:1"), service("shop", "web", "app:1", "db")))
	w.settle()
	ctx := context.Background()
	_ = w.engine.ServiceRemove(ctx, w.engine.service(t, "shop_db").ID)
	w.refresh()
	w.pass() // db is made anew, and one of its tasks never finds a node
	_ = w.engine.ServiceRemove(ctx, w.engine.service(t, "shop_web").ID)
	w.refresh()
	var res Result
	calls := w.engine.calls
	for range 200 {
		res = w.pass()
		w.engine.advance(time.Minute)
	}
	if !strings.Contains(w.images(), "shop_web") {
		t.Errorf("after 3 hours: %s; %s %s: %s; %d requests, %v", w.images(), res.Outcome, res.Reason, res.Message, w.engine.calls-calls, res.Conditions)
	}
}

// A release record whose name is taken.
func TestRecordNameTaken(t *testing.T) {
	w := newWorld(t, makeStack("shop", service("shop", "web", "app:1")))
	_, _ = w.engine.ConfigCreate(context.Background(), swarm.ConfigSpec{Annotations: swarm.Annotations{Name: "skep-release-shop-1"}, Data: []byte("x")})
	var res Result
	for range 50 {
		res = w.pass()
	}
	t.Logf("%s %s %s", res.Outcome, res.Reason, res.Requeue)
}

// Two --owner: an object that another owner wrote last.
func TestOtherOwner(t *testing.T) {
	w := newWorld(t, makeStack("shop", service("shop", "web", "app:1")))
	w.settle()
	w.r = New(Options{Swarm: w.engine, Now: w.engine.now, Owner: "other", PruneStacks: true})
	w.engine.takeWrites()
	for range 6 {
		w.r.Reconcile(context.Background(), Input{Name: "shop"})
	}
	if got := w.engine.takeWrites(); len(got) > 0 {
		t.Errorf("%v", got)
	}
}

// Suspended during a rollout: the deadline goes on.
func TestSuspendedRollout(t *testing.T) {
	w := newWorld(t, makeStack("shop", service("shop", "web", "app:1")))
	w.settle()
	st := makeStack("shop", service("shop", "web", "app:2"))
	w.stack = st
	w.pass()
	held := *st
	held.Policy.Suspend = true
	w.stack = &held
	w.pass()
	w.engine.turn()
	w.engine.advance(time.Hour)
	w.stack = st
	w.refresh()
	w.settle()
	if w.images() != "shop_web=app:2" {
		t.Errorf("%s; %s", w.images(), w.phases())
	}
}

// Damaged pins etc: skep-key lost.
func TestRollbackIgnoredReplicas(t *testing.T) {
	mk := func(i string) *spec.Stack {
		s := makeStack("shop", service("shop", "web", i))
		s.Policy.Ignore = []spec.IgnorePath{{Service: "web", Path: "deploy.replicas"}}
		return s
	}
	w := newWorld(t, mk("app:1"))
	w.settle()
	five := uint64(5)
	w.touch("shop_web", func(s *swarm.Service) { s.Spec.Mode.Replicated.Replicas = &five })
	w.stack = mk("app:2-bad")
	w.settle()
	if n := replicasOf(&w.engine.service(t, "shop_web").Spec); n != 5 || w.images() != "shop_web=app:1" {
		t.Errorf("%d %s", n, w.images())
	}
}

// History trimming makes an adopted plain config foreign.
func TestAdoptedPlainConfigNeverGoes(t *testing.T) {
	st := configured("app:1", "one")
	w := newWorld(t, st)
	w.r = New(Options{Swarm: w.engine, Now: w.engine.now, History: 3})
	ctx := context.Background()
	_, _ = w.engine.NetworkCreate(ctx, "shop_default", st.Networks[0].Create)
	c, _ := w.engine.ConfigCreate(ctx, st.Configs[0].Spec)
	sp := cloneSpec(&st.Services[0].Spec)
	sp.TaskTemplate.ContainerSpec.Configs[0].ConfigID = c.ID
	_, _ = w.engine.ServiceCreate(ctx, *sp, swarm.ServiceCreateOptions{})
	w.engine.turn()
	w.settle()
	for i := range 8 {
		w.stack = configured("app:1", fmt.Sprint(i))
		w.settle()
	}
	for _, c := range w.engine.configs {
		if c.Spec.Name == "shop_conf" {
			t.Error("shop_conf is still there")
		}
	}
}

// A failed release's rollback, with drift of a service of its own meanwhile, and NotSticking.
func TestRollbackOfRemovedService(t *testing.T) {
	w := newWorld(t, makeStack("shop", service("shop", "web", "app:1"), service("shop", "old", "old:1")))
	w.settle()
	w.stack = makeStack("shop", service("shop", "web", "app:2-bad"), service("shop", "new", "new:1"))
	w.settle()
	if w.images() != "shop_old=old:1 shop_web=app:1" {
		t.Errorf("%s %s", w.images(), w.phases())
	}
}

// ReadAll (the event stream was opened anew) overtakes a pass's own record.
func TestReadAllOverOwnRecord(t *testing.T) {
	w := newWorld(t, makeStack("shop", service("shop", "web", "app:1")))
	w.settle()
	w.refresh()
	slow := &slowConfigs{fakeEngine: w.engine}
	w.r.memory.swarm = slow
	w.stack = makeStack("shop", service("shop", "web", "app:2-bad"))
	w.r.Noticed("") // the stream is opened anew
	slow.after = func() {
		slow.after = nil
		w.pass() // a worker makes release 2 and writes web, its event comes in
		w.r.Noticed("skep-release-shop-2")
	}
	w.refresh() // its listing of records began before that
	var res Result
	for range 20 {
		res = w.pass()
		w.engine.turn()
		w.refresh()
	}
	if got := w.images(); got != "shop_web=app:1" {
		t.Errorf("%s; %s %s ready=%v", got, res.Outcome, res.Reason, res.Conditions[0].True)
	}
}

// Two controllers that both have a file for a stack: the second one is told, and
// touches nothing.
func TestStackOfAnotherOwner(t *testing.T) {
	w := newWorld(t, makeStack("shop", service("shop", "web", "app:1")))
	w.settle()
	w.r = New(Options{Swarm: w.engine, Now: w.engine.now, Owner: "other"})
	w.stack = makeStack("shop", service("shop", "web", "app:2"))
	w.engine.takeWrites()
	res := w.settle()
	if res.Outcome != Held || res.Reason != "OtherOwner" || !strings.Contains(res.Message, `"skep"`) || !strings.Contains(res.Message, `"other"`) {
		t.Errorf("%s %s: %s", res.Outcome, res.Reason, res.Message)
	}
	if got := w.engine.takeWrites(); len(got) > 0 {
		t.Errorf("writes: %v", got)
	}
}

// How docs/high-availability.md hands a stack to another owner: services that say its name,
// and the records away. What they hold is adopted as it is. A network that says the old
// name, which nobody can change, keeps it from that.
func TestHandingOver(t *testing.T) {
	for _, ownNetwork := range []bool{false, true} {
		st := makeStack("shop", service("shop", "web", "app:1"))
		w := newWorld(t, st)
		if !ownNetwork {
			_, _ = w.engine.NetworkCreate(context.Background(), "shop_default", st.Networks[0].Create) // as `docker stack deploy` makes it
		}
		w.settle()
		first := w.r
		gone := func() Result { return first.Reconcile(context.Background(), Input{Name: "shop"}) }
		if res := gone(); res.Outcome != Held || res.Reason != Orphaned {
			t.Errorf("the first owner: %s %s: %s", res.Outcome, res.Reason, res.Message)
		}
		w.refresh()
		w.engine.service(t, "shop_web").Spec.Labels[LabelOwner] = "other"
		configs, err := w.engine.ConfigList(context.Background(), swarm.ConfigListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for i := range configs {
			if l := configs[i].Spec.Labels; l[labelStack] == "shop" {
				_ = w.engine.ConfigRemove(context.Background(), configs[i].ID)
			}
		}
		w.engine.takeWrites()
		w.r = New(Options{Swarm: w.engine, Now: w.engine.now, Owner: "other"})
		res, writes := w.settle(), w.engine.takeWrites()
		switch {
		case ownNetwork && (res.Outcome != Held || res.Reason != "OtherOwner" || len(writes) > 0):
			t.Errorf("with a network of the first owner's: %s %s: %s, wrote %v", res.Outcome, res.Reason, res.Message, writes)
		case !ownNetwork && (res.Reason != "InSync" || w.phases() != "1:Healthy" || !slices.Equal(writes, []string{"create config skep-release-shop-1"})):
			t.Errorf("%s %s: %s, wrote %v", res.Outcome, res.Reason, res.Message, writes)
		}
	}
}

// An adopted secret cannot be compared, which is said; once believed, it is known.
func TestBelievedSecretIsTold(t *testing.T) {
	mk := func(value string) *spec.Stack {
		st := makeStack("shop", service("shop", "web", "app:1"))
		st.Source.Fingerprint += value
		st.Services[0].Spec.TaskTemplate.ContainerSpec.Secrets = []*swarm.SecretReference{{SecretName: "shop_pw", File: &swarm.SecretReferenceFileTarget{Name: "pw"}}}
		st.Secrets = []spec.Secret{{Key: "pw", Name: "shop_pw", Value: spec.NewSensitive([]byte(value)),
			Spec: swarm.SecretSpec{Annotations: swarm.Annotations{Name: "shop_pw", Labels: map[string]string{spec.LabelNamespace: "shop"}}}}}
		return st
	}
	w := newWorld(t, mk("one"))
	ctx := context.Background()
	_, _ = w.engine.NetworkCreate(ctx, "shop_default", w.stack.Networks[0].Create)
	c, _ := w.engine.SecretCreate(ctx, w.stack.Secrets[0].Spec)
	sp := cloneSpec(&w.stack.Services[0].Spec)
	sp.TaskTemplate.ContainerSpec.Secrets[0].SecretID = c.ID
	_, _ = w.engine.ServiceCreate(ctx, *sp, swarm.ServiceCreateOptions{})
	w.engine.turn()
	told := func(p *Plan) bool {
		return slices.ContainsFunc(p.Findings, func(f spec.Finding) bool { return f.Code == "secret-believed" })
	}
	plan, err := w.r.Plan(ctx, w.stack)
	if err != nil || !plan.Empty() || !told(plan) {
		t.Errorf("plan %+v, %v", plan, err)
	}
	w.settle()
	if plan, _ = w.r.Plan(ctx, w.stack); told(plan) {
		t.Error("it is told for ever")
	}
	w.stack = mk("two")
	w.settle()
	if name := w.engine.service(t, "shop_web").Spec.TaskTemplate.ContainerSpec.Secrets[0].SecretName; !strings.HasPrefix(name, "shop_pw-") {
		t.Errorf("after a change the service uses %s", name)
	}
}

// A plan before the Swarm has a key names a secret by what is known of it.
func TestPlanWithoutAKey(t *testing.T) {
	st := makeStack("shop", service("shop", "web", "app:1"))
	st.Secrets = []spec.Secret{{Key: "pw", Name: "shop_pw", Value: spec.NewSensitive([]byte("x"))}}
	w := newWorld(t, st)
	plan, err := w.r.Plan(context.Background(), st)
	if err != nil || !slices.ContainsFunc(plan.Changes, func(c Change) bool { return c.Name == "shop_pw-(new)" }) {
		t.Errorf("%+v, %v", plan, err)
	}
	if got := w.engine.takeWrites(); len(got) > 0 {
		t.Errorf("a plan writes: %v", got)
	}
}

// A removal that was refused is tried again by itself, ever more seldom.
func TestRefusedRemovalIsTriedAgain(t *testing.T) {
	st := func(image string, extra bool) *spec.Stack {
		s := makeStack("shop", service("shop", "web", image))
		if extra {
			s.Networks = append(s.Networks, spec.Network{Key: "old", Name: "shop_old", Create: network.CreateOptions{Driver: "overlay", Labels: map[string]string{spec.LabelNamespace: "shop"}}})
		}
		return s
	}
	w := newWorld(t, st("app:1", true))
	w.settle()
	tried := 0
	w.engine.fault = func(op string, after bool) error {
		if op == "remove network" && !after {
			if tried++; tried < 4 {
				return errors.New("network xyz is in use by task abc")
			}
		}
		return nil
	}
	w.stack = st("app:1", false)
	waited := time.Duration(0)
	for range 40 {
		res := w.pass()
		w.engine.turn()
		if res.Requeue == 0 {
			break
		}
		waited += res.Requeue
		w.engine.advance(res.Requeue)
	}
	if tried != 4 || len(w.engine.networks) != 1 || waited > time.Minute {
		t.Errorf("tried %d times in %s, %d networks are left", tried, waited, len(w.engine.networks))
	}
}
