package reconcile

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/swarm"
	"pgregory.net/rapid"

	"github.com/skep-io/skep/spec"
)

// What becomes of a service that is written, by its image's tag: "app:3-late".
const (
	fateGood  = "good"  // it runs
	fateBad   = "bad"   // it fails within Swarm's monitor: paused, or rolled back
	fateStuck = "stuck" // its update, or creation, never comes to an end
	fateLate  = "late"  // it runs, and crashes again and again some time later
	fateSick  = "sick"  // its tasks die at once; with failure_action: continue nobody minds
	fateUnfit = "unfit" // no node can ever take it
)

var fates = []string{fateGood, fateGood, fateGood, fateBad, fateStuck, fateLate, fateSick, fateUnfit}

// unfitFor is the constraint of what is unfit.
const unfitFor = "node.labels.zone == nowhere"

func fateOf(image string) string {
	for _, fate := range fates[1:] {
		if strings.HasSuffix(image, "-"+fate) {
			return fate
		}
	}
	return fateGood
}

// A model is a reconciler, in whatever process, on a Swarm in which anything happens.
type model struct {
	*checkedEngine
	r       *Reconciler
	stack   *spec.Stack
	policy  spec.Rollout
	action  string               // the file's failure_action
	ripe    map[string]time.Time // by service ID: when a late one turns sick
	given   map[string]time.Time // by service ID: when Swarm, which is to continue, has given every task its chance
	storms  int                  // writes that are to fail yet
	version int
	files   []*spec.Stack // all that there were
}

// A checkedEngine holds every write of a service to what may be written.
type checkedEngine struct {
	*fakeEngine
	t      *rapid.T
	broken error // the first rule that a write broke
	allow  func(name string, before, after *swarm.ServiceSpec, status *swarm.UpdateStatus) error
}

func (e *checkedEngine) ServiceUpdate(ctx context.Context, id string, v swarm.Version, s swarm.ServiceSpec, o swarm.ServiceUpdateOptions) (swarm.ServiceUpdateResponse, error) {
	e.mu.Lock()
	live := e.services[id]
	e.mu.Unlock()
	if live != nil && live.Version == v {
		e.hold("update", s.Name, e.allow(s.Name, &live.Spec, &s, live.UpdateStatus))
	}
	return e.fakeEngine.ServiceUpdate(ctx, id, v, s, o)
}

func (e *checkedEngine) ServiceCreate(ctx context.Context, s swarm.ServiceSpec, o swarm.ServiceCreateOptions) (swarm.ServiceCreateResponse, error) {
	e.hold("creation", s.Name, e.allow(s.Name, nil, &s, nil))
	return e.fakeEngine.ServiceCreate(ctx, s, o)
}

// hold keeps what a write broke until the pass is over: writes are made side by side.
func (e *checkedEngine) hold(op, name string, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err != nil && e.broken == nil {
		e.broken = fmt.Errorf("%s of %s: %w", op, name, err)
	}
}

func newModel(t *rapid.T) *model {
	m := &model{checkedEngine: &checkedEngine{fakeEngine: newFakeEngine(), t: t}, ripe: map[string]time.Time{}, given: map[string]time.Time{}}
	m.allow = m.mayBeWritten
	m.policy = spec.Rollout{
		Deadline:  10 * time.Minute,
		Bake:      rapid.SampledFrom([]time.Duration{0, time.Minute}).Draw(t, "bake"),
		Guard:     rapid.SampledFrom([]time.Duration{0, 2 * time.Minute}).Draw(t, "guard"),
		Scope:     rapid.SampledFrom([]spec.ScopePolicy{spec.ScopeStack, spec.ScopeStack, spec.ScopeService}).Draw(t, "scope"),
		OnFailure: rapid.SampledFrom([]spec.FailurePolicy{spec.OnFailureRollback, spec.OnFailureRollback, spec.OnFailureRollback, spec.OnFailureHold}).Draw(t, "on_failure"),
	}
	m.action = rapid.SampledFrom([]string{"pause", "rollback", "continue"}).Draw(t, "failure_action")
	m.fault = m.fails
	m.write("good", "good")
	m.restart()
	return m
}

func (m *model) restart() { m.r = New(Options{Swarm: m.checkedEngine, Now: m.now, History: 50}) }

// fails lets a write fail while there is a storm: refused, or done without a word of it.
func (m *model) fails(op string, after bool) error {
	if m.storms == 0 {
		return nil
	}
	m.storms--
	if after == (m.storms%2 == 0) {
		return nil
	}
	if after {
		return errors.New("rpc error: code = Unknown desc = node lost leader status")
	}
	return fmt.Errorf("update out of sequence: %w", cerrdefs.ErrConflict)
}

// write puts a new file in the place of the old one. What has no new fate stays.
func (m *model) write(web, db string) {
	m.version++
	image := func(service, fate string, before int) string {
		if fate == "" && m.stack != nil {
			return writtenImage(&m.stack.Services[before])
		}
		return fmt.Sprintf("%s:%d-%s", service, m.version, orElse(fate, fateGood))
	}
	s := makeStack("shop", service("shop", "web", image("app", web, 0), "db"), service("shop", "db", image("db", db, 1)))
	for i := range s.Services {
		to := &s.Services[i].Spec
		to.UpdateConfig.FailureAction = m.action
		if fateOf(to.TaskTemplate.ContainerSpec.Image) == fateUnfit {
			to.TaskTemplate.Placement.Constraints = []string{unfitFor}
		}
	}
	s.Policy.Rollout = m.policy
	m.stack, m.files = s, append(m.files, s)
}

func (m *model) releases() ([]*Release, State) {
	list, state, err := newMemory(m.fakeEngine, "skep", 50, m.now).read(context.Background(), "shop")
	if err != nil {
		panic(err) // the fake engine always answers
	}
	return list, state
}

// mayBeWritten says why a write of a service must not be: it brings what failed, or,
// where what failed is taken back, it brings something else than what was healthy, or
// what is there already.
func (m *model) mayBeWritten(name string, before, after *swarm.ServiceSpec, status *swarm.UpdateStatus) error {
	releases, state := m.releases()
	r := last(releases)
	switch {
	case r == nil:
		return errors.New("nothing of it was recorded before")
	case state.IsSuspended():
		return errors.New("the stack is suspended")
	case r.Phase == PhaseSuperseded:
		return errors.New("its release is superseded")
	}
	same := before != nil && reflect.DeepEqual(before.TaskTemplate, after.TaskTemplate) && replicasOf(before) == replicasOf(after) && maps.Equal(before.Labels, after.Labels)
	stopped := status != nil && (status.State == swarm.UpdateStatePaused || status.State == swarm.UpdateStateRollbackPaused)
	if same && !stopped && reflect.DeepEqual(before.UpdateConfig, after.UpdateConfig) {
		return fmt.Errorf("it is so already, and release %d is %s", r.Number, r.Phase)
	}
	if r.Phase != PhaseFailed {
		return nil
	}
	if same && !stopped {
		return errors.New("a rollback to what is there already")
	}
	back := healthyOf(releases)
	if back == nil || m.policy.OnFailure == spec.OnFailureHold {
		return errors.New("there is nothing to go back to")
	}
	if len(r.index.reverts) > 0 && !r.index.reverts[name] {
		back = r // what does not go back stays
	}
	d, err := newMemory(m.fakeEngine, "skep", 50, m.now).load(context.Background(), back)
	if err != nil {
		return err
	}
	for i := range d.Services {
		if d.Services[i].Name == name && d.Services[i].Spec.TaskTemplate.ContainerSpec.Image == after.TaskTemplate.ContainerSpec.Image {
			return nil
		}
	}
	return fmt.Errorf("release %d failed, and it brings %s, which release %d does not have", r.Number, after.TaskTemplate.ContainerSpec.Image, back.Number)
}

// healthyOf is the newest release that was found healthy.
func healthyOf(releases []*Release) *Release {
	var found *Release
	for _, r := range releases {
		if r.Phase == PhaseHealthy {
			found = r
		}
	}
	return found
}

// pass makes one pass and holds what it did to the rules.
func (m *model) pass() Result {
	before, state := m.releases()
	m.takeWrites()
	res := m.r.Reconcile(context.Background(), Input{Name: "shop", Stack: m.stack})
	writes := m.takeWrites()
	if m.broken != nil {
		m.t.Fatal(m.broken)
	}
	quietly := res.Outcome == Unchanged || res.Outcome == Held || res.Outcome == Waiting && res.Reason != "Conflict"
	if quietly && len(res.Transitions) == 0 && len(writes) > 0 {
		m.t.Fatalf("%s %s wrote %v", res.Outcome, res.Reason, writes)
	}
	m.heldToQuarantine(before, state)
	return res
}

// heldToQuarantine says that no new release is of a digest that failed, unless that was
// pardoned.
func (m *model) heldToQuarantine(before []*Release, state State) {
	after, _ := m.releases()
	known := len(before)
	for _, r := range after {
		if known > 0 && r.Number <= before[known-1].Number {
			continue
		}
		if f := Quarantined(before, r.Digest, "", state.Pardoned); f != nil && r.Phase != PhaseFailed {
			m.t.Fatalf("release %d is of the digest of release %d, which failed: %s", r.Number, f.Number, f.Message)
		}
	}
	n := 0
	for _, r := range after {
		if r.Phase == PhaseProgressing {
			n++
		}
	}
	if n > 1 {
		m.t.Fatalf("%d releases are under way at once", n)
	}
}

// turn lets Swarm do what it does meanwhile.
func (m *model) turn() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(m.services)) {
		s := m.services[id]
		if m.dirty[id] {
			m.roll(s)
		}
		if at, late := m.ripe[id]; late && !m.clock.Before(at) {
			delete(m.ripe, id)
			m.crash(s)
		}
		if at, continues := m.given[id]; continues && !m.clock.Before(at) {
			delete(m.given, id)
			if s.UpdateStatus == nil { // it was written meanwhile
				continue
			}
			done := m.clock
			s.UpdateStatus = &swarm.UpdateStatus{State: swarm.UpdateStateCompleted, StartedAt: s.UpdateStatus.StartedAt, CompletedAt: &done}
			s.Meta = m.meta(s.Meta)
		}
	}
}

// roll brings a rollout to the end that its image is fated to.
func (m *model) roll(s *swarm.Service) {
	fresh, started := s.PreviousSpec == nil, m.clock
	delete(m.ripe, s.ID)
	delete(m.given, s.ID)
	fate := fateOf(s.Spec.TaskTemplate.ContainerSpec.Image)
	continues := s.Spec.UpdateConfig != nil && s.Spec.UpdateConfig.FailureAction == swarm.UpdateFailureActionContinue
	switch {
	case fate == fateStuck, fate == fateUnfit:
		if fate == fateUnfit {
			m.waits(s)
		}
		if !fresh {
			s.UpdateStatus = &swarm.UpdateStatus{State: swarm.UpdateStateUpdating, StartedAt: &started}
		}
	case fate == fateSick, fate == fateBad && (continues || fresh):
		m.crashAll(s)
		if !fresh {
			s.UpdateStatus = &swarm.UpdateStatus{State: swarm.UpdateStateUpdating, StartedAt: &started}
			m.given[s.ID] = started.Add(40 * time.Second)
		}
	case fate == fateBad:
		m.fail(s, fresh, started)
	default:
		m.run(s)
		if fate == fateLate {
			m.ripe[s.ID] = m.clock.Add(20 * time.Second)
		}
		if !fresh {
			s.UpdateStatus = &swarm.UpdateStatus{State: swarm.UpdateStateCompleted, StartedAt: &started, CompletedAt: &started}
		}
	}
	delete(m.dirty, s.ID)
	s.Meta = m.meta(s.Meta)
}

// waits adds a task that the scheduler has no node for to those that run.
func (m *model) waits(s *swarm.Service) {
	t := m.task(s, 1, swarm.TaskStatePending)
	t.Status.Err = noSuitableNode + " (scheduling constraints not satisfied on 1 node)"
	m.tasks[s.ID] = append(m.tasks[s.ID], t)
}

// crash leaves a service with tasks that run, but for one that died often enough.
func (m *model) crash(s *swarm.Service) {
	m.run(s)
	m.tasks[s.ID] = append(m.tasks[s.ID][1:], m.deaths(s, 1)...)
}

// crashAll leaves it without one that runs.
func (m *model) crashAll(s *swarm.Service) {
	m.tasks[s.ID] = nil
	for slot := range replicasOf(&s.Spec) {
		m.tasks[s.ID] = append(m.tasks[s.ID], m.deaths(s, int(slot)+1)...)
	}
}

// deaths are those of a slot that fails for good, and the task that is tried next.
func (m *model) deaths(s *swarm.Service, slot int) []swarm.Task {
	var tasks []swarm.Task
	for i := range failsForGood + 1 {
		t := m.task(s, slot, swarm.TaskStateFailed)
		t.CreatedAt = m.clock.Add(time.Duration(i-failsForGood) * time.Second)
		t.Status.Timestamp, t.Status.Err, t.Status.Message = t.CreatedAt.Add(time.Second), "task: non-zero exit (1)", "started"
		t.DesiredState = swarm.TaskStateShutdown
		tasks = append(tasks, t)
	}
	return append(tasks, m.task(s, slot, swarm.TaskStateStarting))
}

// keepsCrashing renews the deaths of services that are sick: they go on dying.
func (m *model) keepsCrashing() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, s := range m.services {
		died := func(t swarm.Task) bool { return t.Status.State == swarm.TaskStateFailed }
		runs := func(t swarm.Task) bool { return t.Status.State == swarm.TaskStateRunning }
		switch dies := slices.ContainsFunc(m.tasks[id], died) && !m.dirty[id]; {
		case dies && slices.ContainsFunc(m.tasks[id], runs):
			m.crash(s)
		case dies:
			m.crashAll(s)
		}
	}
}

// stirs says that Swarm is still at something.
func (m *model) stirs() bool {
	for id := range m.services {
		_, late := m.ripe[id]
		_, continues := m.given[id]
		if late || continues || m.dirty[id] {
			return true
		}
	}
	return false
}

func (m *model) someService(t *rapid.T) *swarm.Service {
	ids := slices.Sorted(maps.Keys(m.services))
	if len(ids) == 0 {
		t.Skip("there is no service")
	}
	return m.services[rapid.SampledFrom(ids).Draw(t, "service")]
}

// byHand is a write that is not skep's.
func (m *model) byHand(t *rapid.T, f func(s *swarm.Service)) {
	defer m.look()
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.someService(t)
	previous := s.Spec
	s.Spec = *cloneSpec(&s.Spec)
	f(s)
	if s.PreviousSpec == nil || !reflect.DeepEqual(s.Spec, *s.PreviousSpec) {
		s.PreviousSpec = &previous
	}
	s.UpdateStatus, m.dirty[s.ID] = nil, true
	s.Meta = m.meta(s.Meta)
}

func (m *model) look() {
	if _, err := m.r.Refresh(context.Background()); err != nil {
		m.t.Fatal(err)
	}
}

func (m *model) asked(_ Intent, err error) {
	if err != nil && !errors.Is(err, ErrRefused) {
		m.t.Fatal(err)
	}
}

func (m *model) actions() map[string]func(*rapid.T) {
	ctx := context.Background()
	fate := rapid.SampledFrom(append([]string{""}, fates...))
	passes := func(t *rapid.T) {
		for range rapid.IntRange(1, 15).Draw(t, "passes") {
			m.pass()
			m.turn()
			m.advance(time.Duration(rapid.IntRange(1, 20).Draw(t, "seconds")) * time.Second)
		}
	}
	return map[string]func(*rapid.T){
		"pass":      passes,
		"pass more": passes,
		"restart":   func(*rapid.T) { m.restart() },
		"file":      func(t *rapid.T) { m.write(fate.Draw(t, "web"), fate.Draw(t, "db")) },
		"revert":    func(t *rapid.T) { m.stack = m.files[rapid.IntRange(0, len(m.files)-1).Draw(t, "to file")] },
		"file that cannot be": func(t *rapid.T) {
			m.write(fate.Draw(t, "web"), fate.Draw(t, "db"))
			m.stack = broken(m.stack)
		},
		"time":  func(t *rapid.T) { m.advance(time.Duration(rapid.IntRange(1, 12).Draw(t, "minutes")) * time.Minute) },
		"storm": func(t *rapid.T) { m.storms = rapid.IntRange(1, 6).Draw(t, "writes") },
		"crashes": func(t *rapid.T) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.crash(m.someService(t))
		},
		"scaled": func(t *rapid.T) {
			m.byHand(t, func(s *swarm.Service) { s.Spec.Mode.Replicated.Replicas = new(uint64(5)) })
		},
		"updated": func(t *rapid.T) {
			m.byHand(t, func(s *swarm.Service) { s.Spec.TaskTemplate.ContainerSpec.Image = "hand:1-" + fateGood })
		},
		"rolled back by hand": func(t *rapid.T) {
			m.byHand(t, func(s *swarm.Service) {
				if s.PreviousSpec != nil {
					s.Spec, s.PreviousSpec = *cloneSpec(s.PreviousSpec), nil
				}
			})
		},
		"node": func(t *rapid.T) {
			n := swarm.Node{ID: "n2", Status: swarm.NodeStatus{State: rapid.SampledFrom([]swarm.NodeState{swarm.NodeStateDown, swarm.NodeStateReady}).Draw(t, "state")}}
			n.UpdatedAt = m.now()
			m.mu.Lock()
			m.nodes = append(m.nodes[:1:1], n)
			m.mu.Unlock()
			m.look()
		},
		"rollback": func(t *rapid.T) {
			m.asked(m.r.RequestRollback(ctx, "shop", rapid.SampledFrom([]int{Any, Any, 1, 2, 3}).Draw(t, "to")))
		},
		"suspend": func(*rapid.T) { m.asked(m.r.Suspend(ctx, "shop", "since a person said so")) },
		"resume":  func(*rapid.T) { m.asked(m.r.Resume(ctx, "shop")) },
	}
}

// ends lets the world stop changing, and holds the run to come to its end: as the file
// says, held or stalled, without a write from then on.
func (m *model) ends() {
	m.storms = 0
	m.comesToRest()
	m.restart() // a process may take two writes by hand in a row for one of its own that does not stick
	m.comesToRest()
	for _, later := range []time.Duration{time.Second, time.Minute, time.Minute, time.Hour, time.Hour} {
		m.advance(later)
		m.keepsCrashing()
		m.restart()
		m.takeWrites()
		res := m.r.Reconcile(context.Background(), Input{Name: "shop", Stack: m.stack})
		if writes := m.takeWrites(); len(writes) > 0 {
			m.t.Fatalf("at rest it writes %v: %s %s: %s", writes, res.Outcome, res.Reason, res.Message)
		}
	}
}

// comesToRest makes passes until nothing is under way any more, in skep or in Swarm,
// and as long as a guard may last.
func (m *model) comesToRest() {
	const step = 5 * time.Second
	var res Result
	for n := 0; n < 2000; n++ {
		res = m.pass()
		rests := (res.Outcome == Unchanged || res.Outcome == Held) && len(res.Transitions) == 0
		if rests && n > int(m.policy.Guard/step) && !m.stirs() {
			return
		}
		m.turn()
		m.advance(step)
		if n%6 == 0 {
			m.keepsCrashing()
		}
	}
	m.t.Fatalf("it does not come to rest: %s %s: %s", res.Outcome, res.Reason, res.Message)
}

// Whatever happens in a Swarm, and whoever writes into it: what failed is never applied
// again unless it was pardoned, what is taken back was healthy and is not there already,
// nothing is written where nothing is to be done, and all comes to an end.
func TestModelOfASwarmThatFails(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newModel(t)
		t.Repeat(m.actions())
		m.ends()
	})
}
