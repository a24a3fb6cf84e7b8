package reconcile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"

	"github.com/skep-io/skep/spec"
)

// A chapter is a change of a stack's file, and what kinds of API calls it takes.
type chapter struct {
	name  string
	stack *spec.Stack // nil: its file is gone
	// replaced is how often the tasks of each service that the change is about are
	// replaced by it: a rollback goes there and back.
	replaced map[string]int
}

// tale is the life of a stack: each kind of write that skep ever makes is in it.
func tale() []chapter {
	type parts struct {
		web, db, conf, key string
		extra              bool
	}
	at := func(p parts) *spec.Stack {
		web := service("shop", "web", p.web, "db")
		c := web.Spec.TaskTemplate.ContainerSpec
		c.Configs = []*swarm.ConfigReference{{ConfigName: "shop_conf", File: &swarm.ConfigReferenceFileTarget{Name: "/conf", UID: "0", GID: "0", Mode: 0o444}}}
		c.Secrets = []*swarm.SecretReference{{SecretName: "shop_key", File: &swarm.SecretReferenceFileTarget{Name: "key", UID: "0", GID: "0", Mode: 0o400}}}
		services := []spec.Service{web, service("shop", "db", p.db)}
		if p.extra {
			e := service("shop", "extra", "extra:1")
			e.Spec.TaskTemplate.Networks = append(e.Spec.TaskTemplate.Networks, swarm.NetworkAttachmentConfig{Target: "shop_back"})
			services = append(services, e)
		}
		st := makeStack("shop", services...)
		st.Source.Fingerprint += p.conf + p.key
		own := map[string]string{spec.LabelNamespace: "shop"}
		st.Configs = []spec.Config{{Key: "conf", Name: "shop_conf", Spec: swarm.ConfigSpec{Annotations: swarm.Annotations{Name: "shop_conf", Labels: own}, Data: []byte(p.conf)}}}
		st.Secrets = []spec.Secret{{Key: "key", Name: "shop_key", Spec: swarm.SecretSpec{Annotations: swarm.Annotations{Name: "shop_key", Labels: own}}, Value: spec.NewSensitive([]byte(p.key))}}
		if p.extra {
			st.Networks = append(st.Networks, spec.Network{Key: "back", Name: "shop_back", Create: network.CreateOptions{Driver: "overlay", Labels: own}})
		}
		return st
	}
	first := parts{"app:1", "db:1", "one", "k1", true}
	updated := parts{"app:2", "db:1", "one", "k1", true}
	rotated := parts{"app:2", "db:1", "two", "k2", true}
	pruned := parts{"app:2", "db:1", "two", "k2", false}
	bad := parts{"app:3-bad", "db:1", "two", "k2", false}
	good := parts{"app:4", "db:2", "two", "k2", false}
	again := parts{"app:4", "db:2", "three", "k3", false}
	last := parts{"app:5", "db:2", "three", "k3", false}
	return []chapter{
		{"create", at(first), map[string]int{"shop_web": 1, "shop_db": 1, "shop_extra": 1}},
		{"update", at(updated), map[string]int{"shop_web": 1}},
		{"rotate", at(rotated), map[string]int{"shop_web": 1}},
		{"prune", at(pruned), nil},
		{"rollback", at(bad), map[string]int{"shop_web": 2}},
		{"mend", at(good), map[string]int{"shop_web": 1, "shop_db": 1}},
		{"rotate again", at(again), map[string]int{"shop_web": 1}},
		{"forget what is old", at(last), map[string]int{"shop_web": 1}},
		{"file gone", nil, nil}, // with a state, which goes too
	}
}

// A faulty is a fake engine whose calls fail as the test says, reads too.
type faulty struct {
	*fakeEngine
	mu    sync.Mutex
	calls map[string]int // how often each kind of call was made
	// fail is asked before and after each call: its kind, and how many of that kind
	// there have been with it.
	fail func(kind string, nth int, after bool) error
}

// kindOf tells kinds of calls apart: a record's are not a config's.
func kindOf(op, name string) string {
	if strings.HasPrefix(name, ownPrefix(KindRelease)) {
		return strings.Replace(op, "config", "record", 1)
	}
	return op
}

func (f *faulty) call(kind string, do func() error) error {
	f.mu.Lock()
	f.calls[kind]++
	nth, fail := f.calls[kind], f.fail
	f.mu.Unlock()
	if fail == nil {
		return do()
	}
	if err := fail(kind, nth, false); err != nil {
		return err
	}
	err := do()
	if lost := fail(kind, nth, true); lost != nil {
		return lost
	}
	return err
}

func (f *faulty) setFail(fail func(kind string, nth int, after bool) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls, f.fail = map[string]int{}, fail
}

func (f *faulty) taken() map[string]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.calls)
}

func (f *faulty) ServiceList(ctx context.Context, o swarm.ServiceListOptions) (l []swarm.Service, err error) {
	err = f.call("list services", func() error { l, err = f.fakeEngine.ServiceList(ctx, o); return err })
	return l, err
}

func (f *faulty) TaskList(ctx context.Context, o swarm.TaskListOptions) (l []swarm.Task, err error) {
	err = f.call("list tasks", func() error { l, err = f.fakeEngine.TaskList(ctx, o); return err })
	return l, err
}

func (f *faulty) NodeList(ctx context.Context, o swarm.NodeListOptions) (l []swarm.Node, err error) {
	err = f.call("list nodes", func() error { l, err = f.fakeEngine.NodeList(ctx, o); return err })
	return l, err
}

func (f *faulty) NetworkList(ctx context.Context, o network.ListOptions) (l []network.Summary, err error) {
	err = f.call("list networks", func() error { l, err = f.fakeEngine.NetworkList(ctx, o); return err })
	return l, err
}

func (f *faulty) ConfigList(ctx context.Context, o swarm.ConfigListOptions) (l []swarm.Config, err error) {
	err = f.call("list configs", func() error { l, err = f.fakeEngine.ConfigList(ctx, o); return err })
	return l, err
}

func (f *faulty) ConfigInspectWithRaw(ctx context.Context, id string) (c swarm.Config, raw []byte, err error) {
	err = f.call("inspect config", func() error { c, raw, err = f.fakeEngine.ConfigInspectWithRaw(ctx, id); return err })
	return c, raw, err
}

func (f *faulty) SecretList(ctx context.Context, o swarm.SecretListOptions) (l []swarm.Secret, err error) {
	err = f.call("list secrets", func() error { l, err = f.fakeEngine.SecretList(ctx, o); return err })
	return l, err
}

func (f *faulty) ServiceCreate(ctx context.Context, s swarm.ServiceSpec, o swarm.ServiceCreateOptions) (r swarm.ServiceCreateResponse, err error) {
	err = f.call("create service", func() error { r, err = f.fakeEngine.ServiceCreate(ctx, s, o); return err })
	return r, err
}

func (f *faulty) ServiceUpdate(ctx context.Context, id string, v swarm.Version, s swarm.ServiceSpec, o swarm.ServiceUpdateOptions) (r swarm.ServiceUpdateResponse, err error) {
	err = f.call("update service", func() error { r, err = f.fakeEngine.ServiceUpdate(ctx, id, v, s, o); return err })
	return r, err
}

func (f *faulty) ServiceRemove(ctx context.Context, id string) error {
	return f.call("remove service", func() error { return f.fakeEngine.ServiceRemove(ctx, id) })
}

func (f *faulty) NetworkCreate(ctx context.Context, name string, o network.CreateOptions) (r network.CreateResponse, err error) {
	err = f.call("create network", func() error { r, err = f.fakeEngine.NetworkCreate(ctx, name, o); return err })
	return r, err
}

// What is in use cannot be removed: 400, in the engine's words.
func (f *faulty) NetworkRemove(ctx context.Context, id string) error {
	return f.call("remove network", func() error {
		if f.uses(id) {
			return fmt.Errorf("network is in use: %w", cerrdefs.ErrInvalidArgument)
		}
		return f.fakeEngine.NetworkRemove(ctx, id)
	})
}

func (f *faulty) ConfigCreate(ctx context.Context, c swarm.ConfigSpec) (r swarm.ConfigCreateResponse, err error) {
	err = f.call(kindOf("create config", c.Name), func() error { r, err = f.fakeEngine.ConfigCreate(ctx, c); return err })
	return r, err
}

func (f *faulty) ConfigUpdate(ctx context.Context, id string, v swarm.Version, c swarm.ConfigSpec) error {
	return f.call(kindOf("update config", c.Name), func() error { return f.fakeEngine.ConfigUpdate(ctx, id, v, c) })
}

func (f *faulty) ConfigRemove(ctx context.Context, id string) error {
	f.fakeEngine.mu.Lock()
	name := f.configs[id].Spec.Name
	f.fakeEngine.mu.Unlock()
	return f.call(kindOf("remove config", name), func() error {
		if f.uses(id) {
			return fmt.Errorf("config %s is in use by a service: %w", name, cerrdefs.ErrInvalidArgument)
		}
		return f.fakeEngine.ConfigRemove(ctx, id)
	})
}

func (f *faulty) SecretCreate(ctx context.Context, s swarm.SecretSpec) (r swarm.SecretCreateResponse, err error) {
	err = f.call("create secret", func() error { r, err = f.fakeEngine.SecretCreate(ctx, s); return err })
	return r, err
}

func (f *faulty) SecretRemove(ctx context.Context, id string) error {
	return f.call("remove secret", func() error {
		if f.uses(id) {
			return fmt.Errorf("secret is in use by a service: %w", cerrdefs.ErrInvalidArgument)
		}
		return f.fakeEngine.SecretRemove(ctx, id)
	})
}

func (f *faulty) uses(id string) bool {
	f.fakeEngine.mu.Lock()
	defer f.fakeEngine.mu.Unlock()
	for _, s := range f.services {
		c := s.Spec.TaskTemplate.ContainerSpec
		if slices.ContainsFunc(c.Configs, func(r *swarm.ConfigReference) bool { return r.ConfigID == id }) ||
			slices.ContainsFunc(c.Secrets, func(r *swarm.SecretReference) bool { return r.SecretID == id }) ||
			slices.ContainsFunc(s.Spec.TaskTemplate.Networks, func(n swarm.NetworkAttachmentConfig) bool { return n.Target == id }) {
			return true
		}
	}
	return false
}

// writeKinds are the twelve kinds of writes that skep makes of its own accord.
var writeKinds = []string{
	"create network", "create config", "create secret", "create service", "update service",
	"create record", "update record", "remove service", "remove network", "remove config", "remove secret", "remove record",
}

// readKinds are what it asks.
var readKinds = []string{"list services", "list tasks", "list nodes", "list networks", "list configs", "list secrets", "inspect config"}

// A stage is a reconciler on a faulty engine on which the tale is played.
type stage struct {
	t      *testing.T
	engine *faulty
	r      *Reconciler
	bake   time.Duration
	skew   time.Duration // of our clock, against the engine's
	began  time.Time
}

func newStage(t *testing.T) *stage { return newStageOf(t, 0) }

// newStageOf is a stage on which releases bake.
func newStageOf(t *testing.T, bake time.Duration) *stage {
	s := &stage{t: t, bake: bake, engine: &faulty{fakeEngine: newFakeEngine(), calls: map[string]int{}}}
	s.began = s.engine.now()
	// With one key the names of secrets are the same on every stage.
	if _, err := s.engine.fakeEngine.ConfigCreate(context.Background(), swarm.ConfigSpec{
		Annotations: swarm.Annotations{Name: keyName, Labels: map[string]string{labelKind: KindKey}}, Data: []byte(strings.Repeat("k", 32)),
	}); err != nil {
		t.Fatal(err)
	}
	s.restart()
	return s
}

// restart is a new process: it knows nothing.
func (s *stage) restart() {
	s.r = New(Options{Swarm: s.engine, History: 3, PruneStacks: true, Now: s.now, Uptime: func() time.Duration { return s.engine.now().Sub(s.began) }})
}

// asked writes down that somebody asked for something of the stack: that what failed
// be forgiven.
func (s *stage) asked() {
	if err := newMemory(s.engine.fakeEngine, "skep", 3, s.now).setState(context.Background(), "shop", func(State) State { return State{Pardoned: 5} }); err != nil {
		s.t.Fatal(err)
	}
	s.r.Noticed("")
}

func (s *stage) now() time.Time { return s.engine.now().Add(s.skew) }

// play brings the stack to where the chapter ends, however many passes fail, calling
// after after each of them. It says whether it came to an end.
func (s *stage) play(stack *spec.Stack, after func(Result)) bool {
	if stack != nil && s.bake > 0 {
		stack.Policy.Rollout.Bake, stack.Policy.Rollout.Guard = s.bake, 2*s.bake
	}
	for range 300 {
		if _, err := s.r.Refresh(context.Background()); err == nil { // as events and resyncs have it
			res := s.r.Reconcile(context.Background(), Input{Name: "shop", Stack: stack})
			if after != nil {
				after(res)
			}
			if (res.Outcome == Unchanged || res.Outcome == Held) && len(res.Transitions) == 0 && res.Requeue == 0 {
				return true
			}
		} else if after != nil {
			after(Result{Outcome: Failed, Err: err})
		}
		s.engine.advance(time.Second)
		s.engine.turn()
	}
	return false
}

// objects names all that the Swarm holds, of the stack and of what is remembered of it.
func (s *stage) objects() []string {
	e := s.engine.fakeEngine
	e.mu.Lock()
	defer e.mu.Unlock()
	var all []string
	for _, x := range e.services {
		all = append(all, "service "+x.Spec.Name+" "+x.Spec.TaskTemplate.ContainerSpec.Image)
	}
	for _, x := range e.networks {
		all = append(all, "network "+x.Name)
	}
	for _, x := range e.secrets {
		all = append(all, "secret "+x.Spec.Name)
	}
	for _, x := range e.configs {
		all = append(all, "config "+x.Spec.Name+" "+x.Spec.Labels[labelPhase])
	}
	slices.Sort(all)
	return all
}

// tally is what the tale does without any fault: the end of each chapter, and which
// calls it takes.
type tally struct {
	objects []string
	calls   map[string]int
	writes  map[string]int // of names
}

func undisturbed(t *testing.T) []tally { return undisturbedOf(t, 0) }

func undisturbedOf(t *testing.T, bake time.Duration) []tally {
	t.Helper()
	s := newStageOf(t, bake)
	var all []tally
	for _, c := range tale() {
		if c.stack == nil {
			s.asked()
		}
		s.engine.setFail(nil)
		s.engine.takeWrites()
		if !s.play(c.stack, nil) {
			t.Fatalf("%s does not come to an end", c.name)
		}
		all = append(all, tally{s.objects(), s.engine.taken(), count(s.engine.takeWrites())})
	}
	return all
}

func count(list []string) map[string]int {
	n := map[string]int{}
	for _, x := range list {
		n[x]++
	}
	return n
}

// upTo plays the chapters before the nth without a fault.
func (s *stage) upTo(n int) {
	s.t.Helper()
	s.engine.setFail(nil)
	for _, c := range tale()[:n] {
		if !s.play(c.stack, nil) {
			s.t.Fatalf("%s does not come to an end", c.name)
		}
	}
	if tale()[n].stack == nil {
		s.asked()
	}
	s.engine.takeWrites()
	s.engine.fakeEngine.mu.Lock()
	s.engine.replaced = map[string]int{}
	s.engine.fakeEngine.mu.Unlock()
}

// holds says what must hold after a chapter in which something went wrong: all is as it
// would be without, no task was replaced more often than the change takes, nothing was
// removed to be made again, and nothing is written any more, by a new process neither.
func (s *stage) holds(c chapter, want tally) {
	s.t.Helper()
	if got := s.objects(); !slices.Equal(got, want.objects) {
		s.t.Errorf("there is\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want.objects, "\n  "))
	}
	s.engine.fakeEngine.mu.Lock()
	for name, n := range s.engine.replaced {
		if n > c.replaced[name] {
			s.t.Errorf("the tasks of %s were replaced %d times, %d are due", name, n, c.replaced[name])
		}
	}
	s.engine.fakeEngine.mu.Unlock()
	for what, n := range count(s.engine.takeWrites()) {
		if !strings.HasPrefix(what, "update ") && n > max(want.writes[what], 1) {
			s.t.Errorf("%s %d times", what, n)
		}
	}
	s.restart()
	s.play(c.stack, nil)
	for range 30 {
		s.r.Reconcile(context.Background(), Input{Name: "shop", Stack: c.stack})
		s.engine.advance(time.Second)
	}
	if got := s.engine.takeWrites(); len(got) > 0 {
		s.t.Errorf("written afterwards: %v", got)
	}
}

var errKilled = errors.New("killed")

// TestKilledAtEachWrite kills skep before and after every write of every chapter: the
// process is gone with all that it knew, and what it had under way is never sent.
func TestKilledAtEachWrite(t *testing.T) {
	want, points := undisturbed(t), map[string]int{}
	for i, c := range tale() {
		for _, kind := range writeKinds {
			for nth := 1; nth <= want[i].calls[kind]; nth++ {
				for _, after := range []bool{false, true} {
					t.Run(fmt.Sprintf("%s/%s %d, after=%v", c.name, kind, nth, after), func(t *testing.T) {
						s := newStage(t)
						s.upTo(i)
						var dead, died bool
						var mu sync.Mutex
						s.engine.setFail(func(k string, n int, done bool) error {
							mu.Lock()
							defer mu.Unlock()
							if k == kind && n == nth && done == after && !died {
								dead, died = true, true
							}
							if dead && (!done || k == kind && n == nth) {
								return errKilled
							}
							return nil
						})
						ended := s.play(c.stack, func(Result) {
							mu.Lock()
							defer mu.Unlock()
							if dead {
								dead = false
								s.restart()
							}
						})
						if !ended || !died && nth == 1 {
							t.Fatalf("it came to an end: %v; it was killed: %v", ended, died)
						}
						if !died {
							return // what is removed side by side is in use by chance: a call more or less
						}
						points[kind]++
						s.holds(c, want[i])
					})
				}
			}
		}
	}
	n := 0
	for _, kind := range writeKinds {
		if points[kind] == 0 {
			t.Errorf("nowhere in the tale is there a %q", kind)
		}
		n += points[kind]
	}
	t.Logf("killed at %d points of %d kinds", n, len(points))
}

// An apiFault is one way for a call to go wrong.
type apiFault struct {
	name  string
	after bool // the engine did what it was asked
	err   error
}

// apiFaults are the six that a write can meet; a question meets them too, where
// "after" makes no difference.
var apiFaults = []apiFault{
	{"500", false, errors.New("rpc error: code = Unknown desc = The swarm does not have a leader")},
	{"503", false, fmt.Errorf("node is not a swarm manager: %w", cerrdefs.ErrUnavailable)},
	{"conflict", false, fmt.Errorf("rpc error: code = Unknown desc = update out of sequence: %w", cerrdefs.ErrConflict)},
	{"slow", true, fmt.Errorf("no answer within 30s: %w", context.DeadlineExceeded)},
	{"reset before send", false, io.ErrUnexpectedEOF},
	{"reset after send", true, io.EOF},
}

// TestEachFaultAtEachCall has each fault strike each kind of call, once and three times
// in a row, in the chapter where it first is.
func TestEachFaultAtEachCall(t *testing.T) {
	want := undisturbed(t)
	times := 0
	for _, kind := range slices.Concat(writeKinds, readKinds) {
		in := slices.IndexFunc(want, func(x tally) bool { return x.calls[kind] > 0 })
		if in < 0 {
			t.Errorf("nowhere in the tale is there a %q", kind)
			continue
		}
		for _, fault := range apiFaults {
			for _, row := range []int{1, 3} {
				times++
				t.Run(fmt.Sprintf("%s/%s x%d", kind, fault.name, row), func(t *testing.T) {
					s := newStage(t)
					s.upTo(in)
					struck := 0
					var mu sync.Mutex
					s.engine.setFail(func(k string, _ int, done bool) error {
						mu.Lock()
						defer mu.Unlock()
						if k == kind && done == fault.after && struck < row {
							struck++
							return fault.err
						}
						return nil
					})
					if c := tale()[in]; !s.play(c.stack, nil) {
						t.Fatal("it does not come to an end")
					} else if struck == 0 {
						t.Error("the fault struck nothing")
					} else {
						s.holds(c, want[in])
					}
				})
			}
		}
	}
	t.Logf("%d faults", times)
}

// TestClockSetBackAndForth puts our clock an hour back or forth, and back again some
// passes later, at each pass of each chapter: whatever is measured in times of day, a
// deadline, a bake or a guard, nothing is taken back or written for it. The engine's
// clock, and what it says of tasks, stays as it is.
func TestClockSetBackAndForth(t *testing.T) {
	const bake = 10 * time.Second
	want := undisturbedOf(t, bake)
	times := 0
	for i, c := range tale() {
		passes := 0
		s := newStageOf(t, bake)
		s.upTo(i)
		s.play(c.stack, func(Result) { passes++ })
		for _, by := range []time.Duration{time.Hour, -time.Hour} {
			for at := 1; at <= passes; at += max(1, passes/3) {
				times++
				t.Run(fmt.Sprintf("%s/%s at pass %d", c.name, by, at), func(t *testing.T) {
					s := newStageOf(t, bake)
					s.upTo(i)
					n := 0
					if !s.play(c.stack, func(Result) {
						switch n++; n {
						case at:
							s.skew = by
						case at + 7:
							s.skew = 0
						}
					}) {
						t.Fatal("it does not come to an end")
					}
					s.holds(c, want[i])
				})
			}
		}
	}
	t.Logf("the clock was set %d times", times)
}

// TestClockThatIsWrongAllAlong has a clock that is an hour ahead of the engine's, or
// behind it, from the beginning.
func TestClockThatIsWrongAllAlong(t *testing.T) {
	const bake = 10 * time.Second
	want := undisturbedOf(t, bake)
	for _, skew := range []time.Duration{time.Hour, -time.Hour} {
		for i, c := range tale() {
			t.Run(fmt.Sprintf("%s/%s", c.name, skew), func(t *testing.T) {
				s := newStageOf(t, bake)
				s.skew = skew
				s.restart()
				s.upTo(i)
				if !s.play(c.stack, nil) {
					t.Fatal("it does not come to an end")
				}
				s.holds(c, want[i])
			})
		}
	}
}
