package reconcile

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

// A world is a reconciler on a fake engine, and the stack it is to bring about.
type world struct {
	t      *testing.T
	engine *fakeEngine
	r      *Reconciler
	stack  *spec.Stack
}

func newWorld(t *testing.T, stack *spec.Stack) *world {
	w := &world{t: t, engine: newFakeEngine(), stack: stack}
	w.restart()
	return w
}

// restart forgets all that a process knows.
func (w *world) restart() { w.r = New(Options{Swarm: w.engine, Now: w.engine.now}) }

func (w *world) pass() Result {
	w.t.Helper()
	res := w.r.Reconcile(context.Background(), Input{Name: w.stack.Name, Stack: w.stack})
	w.engine.advance(time.Second)
	return res
}

// settle makes passes, with the engine's rollouts in between, until a pass finds
// nothing more to do.
func (w *world) settle() Result {
	w.t.Helper()
	var last Result
	for range 400 {
		res := w.pass()
		if res.Err != nil {
			w.t.Fatalf("pass: %v", res.Err)
		}
		if (res.Outcome == Unchanged || res.Outcome == Held) && len(res.Transitions) == 0 {
			return res
		}
		w.engine.turn()
		last = res
	}
	w.t.Fatalf("passes do not come to an end: %s %s: %s", last.Outcome, last.Reason, last.Message)
	return Result{}
}

func (w *world) phases() string {
	w.t.Helper()
	w.r.Noticed("")
	list, err := w.r.memory.releases(context.Background(), w.stack.Name)
	if err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for _, r := range list {
		out = append(out, fmt.Sprintf("%d:%s", r.Number, r.Phase))
	}
	return strings.Join(out, " ")
}

// services says which images run, by service key.
func (w *world) images() string {
	w.engine.mu.Lock()
	defer w.engine.mu.Unlock()
	var out []string
	for _, s := range w.engine.services {
		out = append(out, s.Spec.Name+"="+s.Spec.TaskTemplate.ContainerSpec.Image)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// service makes a desired service as the loader would.
func service(stack, key, image string, dependsOn ...string) spec.Service {
	replicas := uint64(2)
	s := spec.Service{Key: key, Name: stack + "_" + key, DependsOn: dependsOn}
	s.Spec.Name = s.Name
	s.Spec.Labels = map[string]string{spec.LabelNamespace: stack, spec.LabelImage: image}
	s.Spec.TaskTemplate = swarm.TaskSpec{
		ContainerSpec: &swarm.ContainerSpec{Image: image, Labels: map[string]string{spec.LabelNamespace: stack}},
		Networks:      []swarm.NetworkAttachmentConfig{{Target: stack + "_default", Aliases: []string{key}}},
		Placement:     &swarm.Placement{},
	}
	s.Spec.Mode = swarm.ServiceMode{Replicated: &swarm.ReplicatedService{Replicas: &replicas}}
	s.Spec.UpdateConfig = &swarm.UpdateConfig{Parallelism: 1, Order: "start-first", FailureAction: "pause"}
	return s
}

func makeStack(name string, services ...spec.Service) *spec.Stack {
	images := ""
	for i := range services {
		images += services[i].Key + writtenImage(&services[i])
	}
	return &spec.Stack{
		Name:     name,
		Source:   spec.Source{File: name + ".yml", Fingerprint: "sha256:" + images, Revision: "rev-" + images},
		Services: services,
		Networks: []spec.Network{{Key: "default", Name: name + "_default", Create: network.CreateOptions{Driver: "overlay", Labels: map[string]string{spec.LabelNamespace: name}}}},
		Policy:   spec.Policy{Prune: true, Drift: spec.DriftCorrect, Images: spec.ImagesAsWritten, Rollout: spec.Rollout{Deadline: 10 * time.Minute, OnFailure: spec.OnFailureRollback}},
	}
}

func TestFirstDeploymentConvergesAndIsRemembered(t *testing.T) {
	w := newWorld(t, makeStack("shop", service("shop", "web", "app:1")))
	res := w.settle()
	if res.Outcome != Unchanged || !res.Conditions[0].True {
		t.Errorf("outcome %s, conditions %+v", res.Outcome, res.Conditions)
	}
	if got := w.phases(); got != "1:Healthy" {
		t.Errorf("releases %s", got)
	}
}

func TestSteadyStateWritesNothingAndAsksNothing(t *testing.T) {
	w := newWorld(t, makeStack("shop", service("shop", "web", "app:1"), service("shop", "db", "db:1")))
	w.settle()
	w.engine.takeWrites()
	calls := w.engine.calls
	for range 5 {
		w.pass()
	}
	if w.engine.calls != calls {
		t.Errorf("%d requests for an unchanged stack", w.engine.calls-calls)
	}
	w.restart()
	w.settle()
	if got := w.engine.takeWrites(); len(got) > 0 {
		t.Errorf("writes after a restart: %v", got)
	}
}

func TestWavesWaitForConvergence(t *testing.T) {
	w := newWorld(t, makeStack("shop", service("shop", "web", "app:1", "db"), service("shop", "db", "db:1")))
	w.pass()
	for range 3 {
		w.pass() // db has not converged: nothing more may be written
	}
	if got := w.images(); got != "shop_db=db:1" {
		t.Fatalf("before db converged: %s", got)
	}
	w.settle()
	if got := w.images(); got != "shop_db=db:1 shop_web=app:1" {
		t.Errorf("at the end: %s", got)
	}
}

func TestFailedReleaseGoesBackAndIsNotTriedAgain(t *testing.T) {
	for _, action := range []string{"pause", "rollback"} {
		t.Run(action, func(t *testing.T) {
			make := func(image string) *spec.Stack {
				s := service("shop", "web", image)
				s.Spec.UpdateConfig.FailureAction = action
				return makeStack("shop", s)
			}
			w := newWorld(t, make("app:1"))
			w.settle()
			w.stack = make("app:2-bad")
			res := w.settle()
			if res.Outcome != Held || res.Reason != "RolledBack" {
				t.Errorf("%s %s: %s", res.Outcome, res.Reason, res.Message)
			}
			if w.images() != "shop_web=app:1" || w.phases() != "1:Healthy 2:Failed" {
				t.Errorf("%s; %s", w.images(), w.phases())
			}
			w.engine.takeWrites()
			for range 3 {
				w.restart()
				w.engine.advance(time.Hour)
				w.settle()
			}
			if got := w.engine.takeWrites(); len(got) > 0 {
				t.Errorf("the failed release was tried again: %v", got)
			}
			w.stack = make("app:3")
			w.settle()
			if w.images() != "shop_web=app:3" || w.phases() != "1:Healthy 2:Failed 3:Healthy" {
				t.Errorf("%s; %s", w.images(), w.phases())
			}
		})
	}
}

func TestRevertAfterFailureIsInSync(t *testing.T) {
	good := makeStack("shop", service("shop", "web", "app:1"))
	w := newWorld(t, good)
	w.settle()
	w.stack = makeStack("shop", service("shop", "web", "app:2-bad"))
	w.settle()
	w.engine.takeWrites()
	w.stack = good
	res := w.settle()
	if res.Outcome != Unchanged || !res.Conditions[0].True {
		t.Errorf("%s %s %+v", res.Outcome, res.Reason, res.Conditions)
	}
	if got := w.engine.takeWrites(); !slices.Equal(got, []string{"create config skep-release-shop-3"}) {
		t.Errorf("writes: %v", got)
	}
	if w.phases() != "1:Healthy 2:Failed 3:Healthy" {
		t.Errorf("%s", w.phases())
	}
}

func TestWhatFailedBeforeIsRefused(t *testing.T) {
	good, bad := makeStack("shop", service("shop", "web", "app:1")), makeStack("shop", service("shop", "web", "app:2-bad"))
	w := newWorld(t, good)
	for _, stack := range []*spec.Stack{good, bad, good} {
		w.stack = stack
		w.settle()
	}
	w.engine.takeWrites()
	w.stack = bad
	res := w.settle()
	if res.Outcome != Held || w.images() != "shop_web=app:1" || w.phases() != "1:Healthy 2:Failed 3:Healthy 4:Failed" {
		t.Errorf("%s %s; %s; %s", res.Outcome, res.Reason, w.images(), w.phases())
	}
	for _, got := range w.engine.takeWrites() {
		if strings.Contains(got, "service") {
			t.Errorf("write %s", got)
		}
	}
	if st, err := w.r.Status(context.Background(), "shop"); err != nil || st.Outcome != Held || st.Conditions[0].True {
		t.Errorf("status: %s %v, %v", st.Outcome, st.Conditions, err)
	}
}

func TestStatusMissesWhatIsGone(t *testing.T) {
	w := newWorld(t, makeStack("shop", service("shop", "web", "app:1")))
	w.settle()
	if err := w.engine.ServiceRemove(context.Background(), w.engine.service(t, "shop_web").ID); err != nil {
		t.Fatal(err)
	}
	w.restart()
	st, err := w.r.Status(context.Background(), "shop")
	if err != nil || st.Conditions[0].True || len(st.Services) != 1 || st.Services[0].Health != Missing {
		t.Errorf("%+v, %v", st, err)
	}
}

func TestFirstReleaseThatFailsIsHeld(t *testing.T) {
	w := newWorld(t, makeStack("shop", service("shop", "web", "app:bad")))
	w.pass()
	w.engine.advance(11 * time.Minute)
	res := w.settle()
	if res.Outcome != Held || res.Reason != "ReleaseFailed" || w.phases() != "1:Failed" {
		t.Errorf("%s %s; %s", res.Outcome, res.Reason, w.phases())
	}
}

func TestDriftIsCorrectedOnceAndReportedWhereAsked(t *testing.T) {
	w := newWorld(t, makeStack("shop", service("shop", "web", "app:1")))
	w.settle()
	scale := func(n uint64) {
		s := w.engine.service(t, "shop_web")
		s.Spec.Mode.Replicated.Replicas = &n
		s.Version.Index += 1000
		w.engine.next += 2000
		if _, err := w.r.Refresh(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	scale(5)
	w.engine.takeWrites()
	if res := w.settle(); res.Outcome != Unchanged {
		t.Errorf("%s: %s", res.Outcome, res.Message)
	}
	if got := strings.Join(w.engine.takeWrites(), ", "); strings.Count(got, "service") != 1 {
		t.Errorf("writes: %s", got)
	}
	w.stack.Policy.Drift = spec.DriftReport
	scale(7)
	w.engine.takeWrites()
	if res := w.settle(); res.Outcome != Held || res.Reason != "Drifted" {
		t.Errorf("%s %s", res.Outcome, res.Reason)
	}
	if got := w.engine.takeWrites(); len(got) > 0 {
		t.Errorf("writes: %v", got)
	}
}

func TestManualRollbackIsDriftEachTime(t *testing.T) {
	w := newWorld(t, makeStack("shop", service("shop", "web", "app:1")))
	w.settle()
	w.stack = makeStack("shop", service("shop", "web", "app:2"))
	w.settle()
	for range 3 {
		s := w.engine.service(t, "shop_web")
		s.Spec, s.PreviousSpec = *s.PreviousSpec, &s.Spec
		started := w.engine.now()
		s.UpdateStatus = &swarm.UpdateStatus{State: swarm.UpdateStateRollbackCompleted, StartedAt: &started}
		s.Version.Index += 1000
		w.engine.next += 2000
		w.engine.run(s)
		if _, err := w.r.Refresh(context.Background()); err != nil {
			t.Fatal(err)
		}
		if res := w.settle(); res.Outcome != Unchanged || w.images() != "shop_web=app:2" {
			t.Fatalf("%s %s: %s; %s", res.Outcome, res.Reason, res.Message, w.images())
		}
	}
}

func TestAdoptWithoutDifferenceTouchesNothing(t *testing.T) {
	stack := makeStack("shop", service("shop", "web", "app:1"))
	w := newWorld(t, stack)
	ctx := context.Background()
	if _, err := w.engine.NetworkCreate(ctx, "shop_default", stack.Networks[0].Create); err != nil {
		t.Fatal(err)
	}
	if _, err := w.engine.ServiceCreate(ctx, stack.Services[0].Spec, swarm.ServiceCreateOptions{}); err != nil {
		t.Fatal(err)
	}
	w.engine.turn()
	w.engine.takeWrites()
	w.settle()
	if got := w.engine.takeWrites(); !slices.Equal(got, []string{"create config skep-release-shop-1"}) {
		t.Errorf("writes: %v", got)
	}
}

func TestAdoptWithDifferenceRemembersWhatWas(t *testing.T) {
	stack := makeStack("shop", service("shop", "web", "app:1"))
	w := newWorld(t, stack)
	ctx := context.Background()
	_, _ = w.engine.NetworkCreate(ctx, "shop_default", stack.Networks[0].Create)
	_, _ = w.engine.ServiceCreate(ctx, stack.Services[0].Spec, swarm.ServiceCreateOptions{})
	w.engine.turn()
	w.stack = makeStack("shop", service("shop", "web", "app:2-bad"))
	res := w.settle()
	if res.Reason != "RolledBack" || w.images() != "shop_web=app:1" || w.phases() != "0:Healthy 1:Failed" {
		t.Errorf("%s: %s; %s; %s", res.Reason, res.Message, w.images(), w.phases())
	}
}

func TestNewerRevisionSupersedesARollout(t *testing.T) {
	w := newWorld(t, makeStack("shop", service("shop", "web", "app:1")))
	w.settle()
	w.stack = makeStack("shop", service("shop", "web", "app:2"))
	w.pass()
	w.stack = makeStack("shop", service("shop", "web", "app:3"))
	w.settle()
	if w.images() != "shop_web=app:3" || w.phases() != "1:Healthy 2:Superseded 3:Healthy" {
		t.Errorf("%s; %s", w.images(), w.phases())
	}
}

func configured(image, content string) *spec.Stack {
	s := service("shop", "web", image)
	s.Spec.TaskTemplate.ContainerSpec.Configs = []*swarm.ConfigReference{{ConfigName: "shop_conf", File: &swarm.ConfigReferenceFileTarget{Name: "/conf", UID: "0", GID: "0", Mode: 0o444}}}
	st := makeStack("shop", s)
	st.Source.Fingerprint += content
	st.Configs = []spec.Config{{Key: "conf", Name: "shop_conf", Spec: swarm.ConfigSpec{
		Annotations: swarm.Annotations{Name: "shop_conf", Labels: map[string]string{spec.LabelNamespace: "shop"}}, Data: []byte(content)}}}
	return st
}

func TestNewConfigContentRollsTheService(t *testing.T) {
	w := newWorld(t, configured("app:1", "one"))
	w.settle()
	w.stack = configured("app:1", "two")
	w.engine.takeWrites()
	w.settle()
	got := strings.Join(w.engine.takeWrites(), "; ")
	if !strings.Contains(got, "create config shop_conf-") || strings.Count(got, "update service shop_web") != 1 {
		t.Errorf("writes: %s", got)
	}
}

func TestOldConfigsGoWithTheLastReleaseThatNamesThem(t *testing.T) {
	w := newWorld(t, configured("app:1", "0"))
	w.r = New(Options{Swarm: w.engine, Now: w.engine.now, History: 3})
	for i := range 8 {
		w.stack = configured("app:1", fmt.Sprint(i))
		w.settle()
	}
	n := 0
	for _, c := range w.engine.configs {
		if strings.HasPrefix(c.Spec.Name, "shop_conf-") {
			n++
		}
	}
	if n < 3 || n > 4 {
		t.Errorf("%d configs are left of 8, 3 releases are kept", n)
	}
}

func TestAdoptedConfigKeepsItsPlainNameUntilItChanges(t *testing.T) {
	st := configured("app:1", "one")
	w := newWorld(t, st)
	ctx := context.Background()
	_, _ = w.engine.NetworkCreate(ctx, "shop_default", st.Networks[0].Create)
	c, _ := w.engine.ConfigCreate(ctx, st.Configs[0].Spec)
	sp := cloneSpec(&st.Services[0].Spec)
	sp.TaskTemplate.ContainerSpec.Configs[0].ConfigID = c.ID
	_, _ = w.engine.ServiceCreate(ctx, *sp, swarm.ServiceCreateOptions{})
	w.engine.turn()
	w.engine.takeWrites()
	w.settle()
	if got := w.engine.takeWrites(); len(got) != 1 {
		t.Errorf("writes at adoption: %v", got)
	}
	w.stack = configured("app:1", "two")
	w.settle()
	if ref := w.engine.service(t, "shop_web").Spec.TaskTemplate.ContainerSpec.Configs[0].ConfigName; !strings.HasPrefix(ref, "shop_conf-") {
		t.Errorf("after a change the service uses %s", ref)
	}
}

func TestMissingExternalObjectIsToldBeforeAnythingIsTouched(t *testing.T) {
	st := makeStack("shop", service("shop", "web", "app:1"))
	st.Configs = []spec.Config{{Key: "outside", Name: "outside", External: true}}
	st.Services[0].Spec.TaskTemplate.ContainerSpec.Configs = []*swarm.ConfigReference{{ConfigName: "outside", File: &swarm.ConfigReferenceFileTarget{Name: "/x"}}}
	w := newWorld(t, st)
	res := w.settle()
	if res.Outcome != Held || !strings.Contains(res.Message, "outside") {
		t.Errorf("%s %s: %s", res.Outcome, res.Reason, res.Message)
	}
	if got := w.engine.takeWrites(); len(got) > 0 {
		t.Errorf("writes: %v", got)
	}
	if _, err := w.engine.ConfigCreate(context.Background(), swarm.ConfigSpec{Annotations: swarm.Annotations{Name: "outside"}, Data: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.r.Refresh(context.Background()); err != nil {
		t.Fatal(err)
	}
	if res := w.settle(); res.Outcome != Unchanged {
		t.Errorf("%s %s: %s", res.Outcome, res.Reason, res.Message)
	}
}

func TestFileGone(t *testing.T) {
	for _, prune := range []bool{false, true} {
		t.Run(fmt.Sprint(prune), func(t *testing.T) {
			w := newWorld(t, makeStack("shop", service("shop", "web", "app:1")))
			w.settle()
			w.r = New(Options{Swarm: w.engine, Now: w.engine.now, PruneStacks: prune})
			var res Result
			for range 10 {
				if res = w.r.Reconcile(context.Background(), Input{Name: "shop"}); res.Requeue == 0 {
					break
				}
			}
			left := len(w.engine.services) + len(w.engine.networks) + len(w.engine.configs)
			if prune && left != 0 || !prune && (left != 3 || res.Reason != "Orphaned") {
				t.Errorf("%d objects are left, %s", left, res.Reason)
			}
		})
	}
}

func TestWriteFaults(t *testing.T) {
	// Each fault strikes once, before or after the write it is put to, at any of
	// the writes of a first deployment and an update; the end is always the same.
	for _, after := range []bool{false, true} {
		for n := range 8 {
			t.Run(fmt.Sprintf("write %d, after=%v", n, after), func(t *testing.T) {
				w := newWorld(t, configured("app:1", "one"))
				count := 0
				w.engine.fault = func(_ string, done bool) error {
					if done != after {
						return nil
					}
					if count++; count == n+1 {
						return errors.New("rpc error: code = Unavailable desc = the swarm does not have a leader")
					}
					return nil
				}
				w.passThroughFaults()
				w.stack = configured("app:2", "two")
				w.passThroughFaults()
				if w.images() != "shop_web=app:2" || len(w.engine.services) != 1 || len(w.engine.networks) != 1 {
					t.Errorf("%s; %d networks", w.images(), len(w.engine.networks))
				}
				if w.phases() == "" || !strings.HasSuffix(w.phases(), "Healthy") {
					t.Errorf("releases %s", w.phases())
				}
				w.engine.takeWrites()
				w.restart()
				w.settle()
				if got := w.engine.takeWrites(); len(got) > 0 {
					t.Errorf("writes afterwards: %v", got)
				}
			})
		}
	}
}

func (w *world) passThroughFaults() {
	w.t.Helper()
	for range 400 {
		res := w.pass()
		if res.Outcome == Unchanged || res.Outcome == Held {
			return
		}
		w.engine.turn()
	}
	w.t.Fatal("passes do not come to an end")
}

func TestWhatDoesNotStickIsNotWrittenForEver(t *testing.T) {
	w := newWorld(t, makeStack("shop", service("shop", "web", "app:1")))
	w.settle()
	w.stack = makeStack("shop", service("shop", "web", "app:2"))
	undo := func() {
		s := w.engine.service(t, "shop_web")
		s.Spec.TaskTemplate.ContainerSpec.Image = "app:1"
	}
	w.engine.takeWrites()
	for range 20 {
		w.pass()
		undo()
		w.engine.turn()
	}
	if n := strings.Count(strings.Join(w.engine.takeWrites(), ","), "update service"); n > 2 {
		t.Errorf("%d writes of the same", n)
	}
}

func TestReleasesAreReadAtOnce(t *testing.T) {
	w := newWorld(t, makeStack("shop", service("shop", "web", "app:1")))
	w.settle()
	w.restart()
	ctx := context.Background()
	if _, err := w.r.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	if got := w.r.Stacks(); !slices.Equal(got, []string{"shop"}) {
		t.Errorf("stacks %v", got)
	}
	calls := w.engine.calls
	for _, stack := range []string{"shop", "other"} {
		if _, err := w.r.memory.releases(ctx, stack); err != nil {
			t.Fatal(err)
		}
	}
	if w.engine.calls != calls {
		t.Errorf("%d more requests", w.engine.calls-calls)
	}
	if ok, err := w.r.Released(ctx, w.stack); !ok || err != nil {
		t.Errorf("released %v, %v", ok, err)
	}
	if ok, _ := w.r.Released(ctx, makeStack("shop", service("shop", "web", "app:2"))); ok {
		t.Error("another revision counts as released")
	}
}

func TestDamagedRecordStopsNobody(t *testing.T) {
	w := newWorld(t, makeStack("shop", service("shop", "web", "app:1")))
	w.settle()
	w.engine.mu.Lock()
	for id, c := range w.engine.configs {
		c.Spec.Data = []byte("no gzip")
		w.engine.configs[id] = c
	}
	w.engine.mu.Unlock()
	w.restart()
	w.engine.takeWrites()
	w.settle()
	if got := w.engine.takeWrites(); len(got) > 0 {
		t.Errorf("writes: %v", got)
	}
	w.stack = makeStack("shop", service("shop", "web", "app:2"))
	w.settle()
	if w.images() != "shop_web=app:2" {
		t.Errorf("%s", w.images())
	}
}

// A record that nobody can tell for one any more, since somebody took its labels away,
// still has its name: the releases that come take other numbers.
func TestRecordWithoutLabelsStopsNobody(t *testing.T) {
	for name, labels := range map[string]map[string]string{
		"skep-release-shop-1": nil,
		"skep-release-shop-2": nil,
		"skep-state-shop":     nil,
		"another's number":    {labelKind: KindRelease, labelStack: "shop", labelRelease: "two"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, one("app:1"))
			w.settle()
			w.ask(func(s State) State { s.Pardoned = 1; return s })
			w.stack = one("app:2")
			w.settle()
			w.engine.mu.Lock()
			for id, c := range w.engine.configs {
				if c.Spec.Name == name || labels != nil && c.Spec.Name == "skep-release-shop-2" {
					c.Spec.Labels = labels
					w.engine.configs[id] = c
				}
			}
			w.engine.mu.Unlock()
			w.restart()
			w.stack = one("app:3")
			w.settle()
			if w.images() != "shop_web=app:3" || !strings.HasSuffix(w.phases(), ":Healthy") {
				t.Errorf("%s; releases %s", w.images(), w.phases())
			}
		})
	}
}

// An update that Swarm begins between the listing of services and that of tasks
// has its new tasks running at once; Swarm still watches them, and so does skep.
func TestConvergenceIsNotReadOffAnOldListing(t *testing.T) {
	w := newWorld(t, makeStack("shop", service("shop", "web", "app:1")))
	w.settle()
	w.stack = makeStack("shop", service("shop", "web", "app:2"))
	w.pass()
	w.engine.onTasks = func() {
		w.engine.onTasks = nil
		w.engine.turn()
		s := w.engine.service(t, "shop_web")
		s.UpdateStatus.State = swarm.UpdateStateUpdating
	}
	for range 3 {
		w.pass()
	}
	if w.phases() != "1:Healthy 2:Progressing" {
		t.Errorf("while Swarm watches the update: %s", w.phases())
	}
}
