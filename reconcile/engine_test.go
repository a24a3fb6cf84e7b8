package reconcile

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/registry"
	"github.com/docker/docker/api/types/swarm"
)

// fakeEngine plays the part of an engine that a pass depends on: names that
// clash, versions that guard, specs that come back, tasks that follow a rollout
// when the test says so. An image with "bad" in its name never runs.
type fakeEngine struct {
	mu       sync.Mutex
	next     int
	clock    time.Time
	services map[string]*swarm.Service // by ID
	tasks    map[string][]swarm.Task   // by service ID
	dirty    map[string]bool           // services whose rollout is not over
	networks map[string]network.Summary
	configs  map[string]swarm.Config
	secrets  map[string]swarm.Secret

	writes  []string
	calls   int
	nodes   []swarm.Node
	digest  string         // of every image a registry is asked for; "": it is not reachable
	noImage error          // what a registry says instead
	written map[string]int // image → how often it was written into a service
	// replaced counts, by service name, how often its tasks had to make room for others.
	replaced map[string]int
	onTasks  func() // called before tasks are listed
	// fault, if set, is asked before and after each write.
	fault func(op string, after bool) error
}

func newFakeEngine() *fakeEngine {
	return &fakeEngine{
		clock:    time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		services: map[string]*swarm.Service{}, tasks: map[string][]swarm.Task{}, dirty: map[string]bool{},
		networks: map[string]network.Summary{}, configs: map[string]swarm.Config{}, secrets: map[string]swarm.Secret{},
		written: map[string]int{}, replaced: map[string]int{}, nodes: []swarm.Node{{ID: "n1", Status: swarm.NodeStatus{State: swarm.NodeStateReady}}},
	}
}

func (e *fakeEngine) now() time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.clock
}

func (e *fakeEngine) advance(d time.Duration) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.clock = e.clock.Add(d)
}

func (e *fakeEngine) id() string { e.next++; return fmt.Sprintf("id%d", e.next) }

func (e *fakeEngine) meta(old swarm.Meta) swarm.Meta {
	e.next++
	old.Version.Index = uint64(e.next)
	old.UpdatedAt = e.clock
	return old
}

// write runs one write, unless a fault says otherwise, and notes it.
func (e *fakeEngine) write(op, name string, f func() error) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.fault != nil {
		if err := e.fault(op, false); err != nil {
			return err
		}
	}
	if err := f(); err != nil {
		return err
	}
	e.writes = append(e.writes, op+" "+name)
	if e.fault != nil {
		return e.fault(op, true)
	}
	return nil
}

func (e *fakeEngine) read() func() {
	e.mu.Lock()
	e.calls++
	return e.mu.Unlock
}

// takeWrites returns the writes since it was called last.
func (e *fakeEngine) takeWrites() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	w := e.writes
	e.writes = nil
	return w
}

func (e *fakeEngine) ClientVersion() string { return "1.41" }

func (e *fakeEngine) ServiceList(_ context.Context, o swarm.ServiceListOptions) ([]swarm.Service, error) {
	defer e.read()()
	var list []swarm.Service
	for _, id := range slices.Sorted(maps.Keys(e.services)) {
		if o.Filters.Contains("id") && !o.Filters.ExactMatch("id", id) {
			continue
		}
		s := *e.services[id]
		s.Spec = *cloneSpec(&s.Spec)
		st := swarm.ServiceStatus{DesiredTasks: replicasOf(&s.Spec)}
		for _, t := range e.tasks[id] {
			if t.Status.State == swarm.TaskStateRunning && t.DesiredState == swarm.TaskStateRunning {
				st.RunningTasks++
			}
		}
		if isJob(&s.Spec) {
			st.CompletedTasks, st.RunningTasks = st.RunningTasks, 0
		}
		s.ServiceStatus = &st
		if s.UpdateStatus != nil {
			u := *s.UpdateStatus
			s.UpdateStatus = &u
		}
		list = append(list, s)
	}
	return list, nil
}

func replicasOf(s *swarm.ServiceSpec) uint64 {
	if s.Mode.Replicated != nil && s.Mode.Replicated.Replicas != nil {
		return *s.Mode.Replicated.Replicas
	}
	return 1
}

var errClash = fmt.Errorf("name conflicts with an existing object: %w", cerrdefs.ErrConflict)

func (e *fakeEngine) stored(s swarm.ServiceSpec) swarm.ServiceSpec {
	c := cloneSpec(&s)
	e.written[c.TaskTemplate.ContainerSpec.Image]++
	for i := range c.TaskTemplate.Networks {
		n := &c.TaskTemplate.Networks[i]
		for id, net := range e.networks {
			if net.Name == n.Target {
				n.Target = id
			}
		}
	}
	return *c
}

func (e *fakeEngine) ServiceCreate(_ context.Context, s swarm.ServiceSpec, _ swarm.ServiceCreateOptions) (resp swarm.ServiceCreateResponse, err error) {
	err = e.write("create service", s.Name, func() error {
		for _, o := range e.services {
			if o.Spec.Name == s.Name {
				return errClash
			}
		}
		id := e.id()
		e.replaced[s.Name]++
		e.services[id] = &swarm.Service{ID: id, Meta: e.meta(swarm.Meta{CreatedAt: e.clock}), Spec: e.stored(s)}
		if isJob(&s) {
			e.services[id].JobStatus = &swarm.JobStatus{LastExecution: e.clock}
		}
		e.dirty[id] = true
		resp.ID = id
		return nil
	})
	return resp, err
}

func (e *fakeEngine) ServiceUpdate(_ context.Context, id string, v swarm.Version, s swarm.ServiceSpec, _ swarm.ServiceUpdateOptions) (resp swarm.ServiceUpdateResponse, err error) {
	err = e.write("update service", s.Name, func() error {
		o := e.services[id]
		switch {
		case o == nil:
			return cerrdefs.ErrNotFound
		case o.Version != v:
			return errors.New("rpc error: code = Unknown desc = update out of sequence")
		case s.TaskTemplate.Placement == nil && o.Spec.TaskTemplate.Placement != nil:
			return errors.New("a nil Placement takes the leader down")
		}
		prev := o.Spec
		o.PreviousSpec, o.Spec, o.Meta, o.UpdateStatus = &prev, e.stored(s), e.meta(o.Meta), nil
		if o.JobStatus != nil { // each update runs it again
			o.JobStatus = &swarm.JobStatus{JobIteration: swarm.Version{Index: o.JobStatus.JobIteration.Index + 1}, LastExecution: e.clock}
		}
		if !reflect.DeepEqual(prev.TaskTemplate, o.Spec.TaskTemplate) {
			e.replaced[s.Name]++
		}
		e.dirty[id] = e.dirty[id] || !reflect.DeepEqual(prev.TaskTemplate, o.Spec.TaskTemplate) || replicasOf(&prev) != replicasOf(&o.Spec)
		return nil
	})
	return resp, err
}

func (e *fakeEngine) ServiceRemove(_ context.Context, id string) error {
	return e.write("remove service", id, func() error {
		if e.services[id] == nil {
			return cerrdefs.ErrNotFound
		}
		delete(e.services, id)
		delete(e.tasks, id)
		return nil
	})
}

// turn lets every rollout come to its end: good images run, bad ones are paused
// or rolled back as the service's failure action says.
func (e *fakeEngine) turn() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for id := range e.dirty {
		delete(e.dirty, id)
		s := e.services[id]
		if s == nil {
			continue
		}
		fresh := s.PreviousSpec == nil
		started := e.clock
		if strings.Contains(s.Spec.TaskTemplate.ContainerSpec.Image, "bad") {
			e.fail(s, fresh, started)
			continue
		}
		e.run(s)
		if !fresh {
			s.UpdateStatus = &swarm.UpdateStatus{State: swarm.UpdateStateCompleted, StartedAt: &started}
		}
		s.Meta = e.meta(s.Meta)
	}
}

func (e *fakeEngine) run(s *swarm.Service) {
	e.tasks[s.ID] = nil
	for slot := range replicasOf(&s.Spec) {
		e.tasks[s.ID] = append(e.tasks[s.ID], e.task(s, int(slot)+1, swarm.TaskStateRunning))
	}
}

func (e *fakeEngine) task(s *swarm.Service, slot int, state swarm.TaskState) swarm.Task {
	return swarm.Task{ID: e.id(), ServiceID: s.ID, Slot: slot, Meta: swarm.Meta{CreatedAt: e.clock}, Spec: cloneSpec(&s.Spec).TaskTemplate,
		DesiredState: swarm.TaskStateRunning, Status: swarm.TaskStatus{State: state, Timestamp: e.clock}}
}

func (e *fakeEngine) fail(s *swarm.Service, fresh bool, started time.Time) {
	if fresh {
		return // the engine's updater has no part in a creation
	}
	state := swarm.UpdateStatePaused
	if u := s.Spec.UpdateConfig; u != nil && u.FailureAction == swarm.UpdateFailureActionRollback {
		state = swarm.UpdateStateRollbackCompleted
		s.Spec, s.PreviousSpec = *s.PreviousSpec, nil
		e.run(s)
	}
	s.UpdateStatus = &swarm.UpdateStatus{State: state, StartedAt: &started, Message: "update paused due to failure or early termination of task"}
	s.Meta = e.meta(s.Meta)
}

func (e *fakeEngine) TaskList(_ context.Context, o swarm.TaskListOptions) ([]swarm.Task, error) {
	if e.onTasks != nil {
		e.onTasks()
	}
	defer e.read()()
	var list []swarm.Task
	ids := o.Filters.Get("service")
	if len(ids) == 0 { // then of all
		ids = slices.Sorted(maps.Keys(e.tasks))
	}
	for _, id := range ids {
		for _, t := range e.tasks[id] {
			if s := e.services[id]; s != nil && (!o.Filters.Contains("_up-to-date") || reflect.DeepEqual(t.Spec, s.Spec.TaskTemplate)) {
				list = append(list, t)
			}
		}
	}
	return list, nil
}

func (e *fakeEngine) NodeList(context.Context, swarm.NodeListOptions) ([]swarm.Node, error) {
	defer e.read()()
	return slices.Clone(e.nodes), nil
}

func (e *fakeEngine) NetworkList(context.Context, network.ListOptions) ([]network.Summary, error) {
	defer e.read()()
	return slices.Collect(maps.Values(e.networks)), nil
}

func (e *fakeEngine) NetworkCreate(_ context.Context, name string, o network.CreateOptions) (resp network.CreateResponse, err error) {
	err = e.write("create network", name, func() error {
		for _, n := range e.networks {
			if n.Name == name {
				return errClash
			}
		}
		resp.ID = e.id()
		e.networks[resp.ID] = network.Summary{ID: resp.ID, Name: name, Scope: "swarm", Driver: o.Driver, Labels: o.Labels, Options: o.Options, Attachable: o.Attachable, Internal: o.Internal}
		return nil
	})
	return resp, err
}

func (e *fakeEngine) NetworkRemove(_ context.Context, id string) error {
	return e.write("remove network", id, func() error { delete(e.networks, id); return nil })
}

func labelled(labels map[string]string, want []string) bool {
	for _, w := range want {
		key, value, exact := strings.Cut(w, "=")
		if v, ok := labels[key]; !ok || exact && v != value {
			return false
		}
	}
	return true
}

func (e *fakeEngine) ConfigList(_ context.Context, o swarm.ConfigListOptions) ([]swarm.Config, error) {
	defer e.read()()
	var list []swarm.Config
	for _, c := range e.configs {
		names := o.Filters.Get("name")
		named := len(names) == 0 || slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(c.Spec.Name, n) })
		if named && labelled(c.Spec.Labels, o.Filters.Get("label")) {
			list = append(list, c)
		}
	}
	return list, nil
}

func (e *fakeEngine) ConfigInspectWithRaw(_ context.Context, id string) (swarm.Config, []byte, error) {
	defer e.read()()
	c, ok := e.configs[id]
	if !ok {
		return c, nil, cerrdefs.ErrNotFound
	}
	return c, nil, nil
}

func (e *fakeEngine) ConfigCreate(_ context.Context, c swarm.ConfigSpec) (resp swarm.ConfigCreateResponse, err error) {
	err = e.write("create config", c.Name, func() error {
		for _, o := range e.configs {
			if o.Spec.Name == c.Name {
				return errClash
			}
		}
		resp.ID = e.id()
		e.configs[resp.ID] = swarm.Config{ID: resp.ID, Meta: e.meta(swarm.Meta{}), Spec: c}
		return nil
	})
	return resp, err
}

func (e *fakeEngine) ConfigUpdate(_ context.Context, id string, v swarm.Version, c swarm.ConfigSpec) error {
	return e.write("update config", c.Name, func() error {
		o, ok := e.configs[id]
		switch {
		case !ok:
			return cerrdefs.ErrNotFound
		case o.Version != v:
			return errors.New("update out of sequence")
		}
		o.Spec.Labels, o.Meta = c.Labels, e.meta(o.Meta)
		e.configs[id] = o
		return nil
	})
}

func (e *fakeEngine) ConfigRemove(_ context.Context, id string) error {
	e.mu.Lock()
	name := e.configs[id].Spec.Name
	e.mu.Unlock()
	return e.write("remove config", name, func() error { delete(e.configs, id); return nil })
}

func (e *fakeEngine) SecretList(context.Context, swarm.SecretListOptions) ([]swarm.Secret, error) {
	defer e.read()()
	var list []swarm.Secret
	for _, s := range e.secrets {
		s.Spec.Data = nil
		list = append(list, s)
	}
	return list, nil
}

func (e *fakeEngine) SecretCreate(_ context.Context, s swarm.SecretSpec) (resp swarm.SecretCreateResponse, err error) {
	err = e.write("create secret", s.Name, func() error {
		resp.ID = e.id()
		e.secrets[resp.ID] = swarm.Secret{ID: resp.ID, Meta: e.meta(swarm.Meta{}), Spec: s}
		return nil
	})
	return resp, err
}

func (e *fakeEngine) SecretUpdate(_ context.Context, id string, v swarm.Version, s swarm.SecretSpec) error {
	return e.write("update secret", s.Name, func() error {
		o := e.secrets[id]
		if o.Version != v {
			return errors.New("update out of sequence")
		}
		o.Spec.Labels, o.Meta = s.Labels, e.meta(o.Meta)
		e.secrets[id] = o
		return nil
	})
}

func (e *fakeEngine) SecretRemove(_ context.Context, id string) error {
	e.mu.Lock()
	name := e.secrets[id].Spec.Name
	e.mu.Unlock()
	return e.write("remove secret", name, func() error { delete(e.secrets, id); return nil })
}

func (e *fakeEngine) DistributionInspect(context.Context, string, string) (d registry.DistributionInspect, err error) {
	defer e.read()()
	if e.noImage != nil {
		return d, e.noImage
	}
	if e.digest == "" {
		return d, errors.New("registry is not reachable")
	}
	d.Descriptor.Digest = "sha256:" + "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	return d, nil
}

// service returns a live service by name.
func (e *fakeEngine) service(t *testing.T, name string) *swarm.Service {
	t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, s := range e.services {
		if s.Spec.Name == name {
			return s
		}
	}
	t.Fatalf("no service %s", name)
	return nil
}

var _ Swarm = (*fakeEngine)(nil)
