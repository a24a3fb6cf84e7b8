package reconcile

import (
	"cmp"
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"github.com/skep-io/skep/spec"
)

// A Glance is what is known of a stack without asking the engine for anything: who
// only looks must not cost the Swarm a request. It is as old as what it was made of.
type Glance struct {
	// Result is how the stack is as far as the Swarm knows, as Status tells it.
	Result Result
	// At is when the Swarm was listed.
	At       time.Time
	Releases []ReleaseGlance // newest first
	// Tasks are those of services by name, oldest first; a service of which none were
	// asked for is not in it.
	Tasks map[string]TaskGlance
}

// A ReleaseGlance is a release with the moments that a picture of it needs.
type ReleaseGlance struct {
	HistoryEntry
	Converged time.Time // since when it bakes, or did
	// Until is when it has to have converged or, while it bakes, is healthy.
	Until   time.Time
	Changed []string // the services that it set out to write, sorted
	// BackAt is when going back from it began; BackTo the release that was gone back
	// to, -1 where none was; Back says that this has come to its end.
	BackAt time.Time
	BackTo int
	Back   bool
}

// A TaskGlance is the tasks of a service, as they were at a moment.
type TaskGlance struct {
	At    time.Time
	Tasks []TaskView
}

// A TaskView is a task as people are shown it.
type TaskView struct {
	ID    string
	Slot  int    // 0 for the task of a node
	Node  string // its name; empty where none was chosen yet
	State string // Swarm's own word
	// Wanted says that Swarm wants it to run, Current that it is of the service's
	// newest spec, Up that it does what it shall: it runs, or a job's has completed.
	Wanted, Current, Up bool
	Image               string // without its digest
	Created             time.Time
	Since               time.Time // it is in that state
	Error               string    // what looks secret is masked
}

// Failed says that it ended as it was not meant to.
func (t *TaskView) Failed() bool {
	return t.State == string(swarm.TaskStateFailed) || t.State == string(swarm.TaskStateRejected)
}

// sightings are what passes came to see of tasks, kept for those who glance.
type sightings struct {
	mu       sync.Mutex
	services map[string]sighting // by service ID
	memories map[string]memories // by stack: as they were known last
}

type sighting struct {
	at      time.Time
	version swarm.Version // the service's
	tasks   []TaskView    // Node is an ID
	health  ServiceHealth
}

type memories struct {
	releases []*Release
	state    State
}

func newSightings() *sightings {
	return &sightings{services: map[string]sighting{}, memories: map[string]memories{}}
}

// note keeps the tasks of a service, where they were asked for.
func (g *sightings) note(s *swarm.Service, tasks Tasks, h ServiceHealth, now time.Time) {
	if !tasks.Known {
		return
	}
	x := sighting{at: now, version: s.Version, health: h}
	for _, list := range []struct {
		tasks   []swarm.Task
		current bool
	}{{tasks.Old, false}, {tasks.Current, true}} {
		for i := range list.tasks {
			x.tasks = append(x.tasks, viewTask(s, &list.tasks[i], list.current))
		}
	}
	slices.SortFunc(x.tasks, func(a, b TaskView) int {
		return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.ID, b.ID))
	})
	g.mu.Lock()
	defer g.mu.Unlock()
	g.services[s.ID] = x
}

// only forgets what is of no service that lives, where there is such.
func (g *sightings) only(live *Live) {
	g.mu.Lock()
	most := len(g.services)
	g.mu.Unlock()
	if most <= len(live.Services) {
		return
	}
	ids := make(map[string]bool, len(live.Services))
	for _, s := range live.Services {
		ids[s.ID] = true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for id := range g.services {
		if !ids[id] {
			delete(g.services, id)
		}
	}
}

func (g *sightings) of(id string) (sighting, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	x, ok := g.services[id]
	return x, ok
}

// remember keeps what is remembered of a stack or, where that is to be read anew, gives
// what was kept before.
func (g *sightings) remember(stack string, m memories, known bool) memories {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !known {
		return g.memories[stack]
	}
	if len(m.releases) == 0 {
		delete(g.memories, stack)
		return m
	}
	g.memories[stack] = m
	return m
}

func viewTask(s *swarm.Service, t *swarm.Task, current bool) TaskView {
	v := TaskView{ID: t.ID, Slot: t.Slot, Node: t.NodeID, State: string(t.Status.State), Wanted: wanted(t), Current: current,
		Created: t.CreatedAt, Since: t.Status.Timestamp}
	v.Up = t.Status.State == swarm.TaskStateRunning || isJob(&s.Spec) && completed(t)
	if c := t.Spec.ContainerSpec; c != nil {
		v.Image, _, _ = strings.Cut(c.Image, "@")
	}
	if v.Error = t.Status.Err; v.Error == "" && v.Failed() && t.Status.ContainerStatus != nil && t.Status.ContainerStatus.ExitCode != 0 {
		v.Error = fmt.Sprintf("exit code %d", t.Status.ContainerStatus.ExitCode)
	}
	v.Error = clip(Printable(maskText(v.Error)), maxMessage)
	return v
}

// Glance tells of a stack what is known already. It is false before the Swarm was
// listed, and for a stack of which nothing is known.
func (r *Reconciler) Glance(stack string) (Glance, bool) {
	live := r.observer.newest()
	if live == nil {
		return Glance{}, false
	}
	releases, state, known := r.memory.latest(stack)
	m := r.seen.remember(stack, memories{releases, state}, known)
	if len(m.releases) == 0 && len(live.Stack(stack)) == 0 {
		return Glance{}, false
	}
	p := passOver(stack, live, m.releases, m.state)
	g := Glance{At: live.At, Tasks: map[string]TaskGlance{}, Releases: glanceReleases(m.releases, m.state, r.o.Now())}
	p.health = r.healthSeen(p, &g)
	g.Result = r.statusOf(p)
	return g, true
}

// healthSeen judges services by the tasks that were seen, where they still tell, or else
// by the engine's own counts.
func (r *Reconciler) healthSeen(p *pass, g *Glance) map[string]ServiceHealth {
	health := map[string]ServiceHealth{}
	for i := range p.desired.Services {
		d := &p.desired.Services[i]
		s := p.live.Services[d.Name]
		if s == nil {
			continue
		}
		x, seen := r.seen.of(s.ID)
		h := Judge(d.Key, s, Tasks{}, nil, r.o.Now())
		if seen {
			g.Tasks[d.Name] = TaskGlance{x.at, onNodes(x.tasks, p.live.Nodes)}
			if x.version == s.Version && x.health.Serving == h.Serving {
				h = x.health
			}
		}
		health[d.Name] = h
	}
	return health
}

// onNodes are tasks with their nodes' names.
func onNodes(tasks []TaskView, nodes map[string]*swarm.Node) []TaskView {
	out := slices.Clone(tasks)
	for i := range out {
		if out[i].Up = out[i].Up && !nodeDown(out[i].Node, nodes); out[i].Node != "" {
			out[i].Node = Printable(hostname(out[i].Node, nodes))
		}
	}
	return out
}

func glanceReleases(releases []*Release, state State, now time.Time) []ReleaseGlance {
	out := make([]ReleaseGlance, 0, len(releases))
	for i, rel := range slices.Backward(releases) {
		g := ReleaseGlance{HistoryEntry: entryOf(rel, releases, state, now), Converged: rel.Converged, Changed: sortedKeys(rel.index.changed), BackTo: -1}
		if limit := rel.begun().Add(rel.index.deadline); rel.index.deadline > 0 {
			g.Until = limit
		}
		if !rel.Converged.IsZero() {
			g.Until = rel.Converged.Add(rel.index.bake)
		}
		if rel.Phase == PhaseFailed {
			if g.BackAt, g.Back = rel.index.backFrom, rel.index.back; g.BackAt.IsZero() {
				g.BackAt = rel.index.correctedAt
			}
			if back := goesBackTo(releases[:i+1], rel); back != nil && (g.Back || len(rel.index.corrected) > 0) {
				g.BackTo = back.Number
			}
		}
		out = append(out, g)
	}
	return out
}

// rereadMost bounds the stacks that one Look reads anew.
const rereadMost = 20

// Look asks the engine for what a Glance lacks: the tasks of all services, in one
// request, and what is remembered of stacks of which somebody has written since. Who
// calls it says how often that may be.
func (r *Reconciler) Look(ctx context.Context) error {
	live := r.observer.newest()
	if live == nil {
		return nil
	}
	for _, stack := range r.memory.unread(rereadMost) {
		if _, _, err := r.memory.read(ctx, stack); err != nil {
			return err
		}
	}
	tasks, err := r.o.Swarm.TaskList(ctx, swarm.TaskListOptions{})
	if err != nil {
		return fmt.Errorf("list tasks: %w", err)
	}
	of := map[string][]swarm.Task{}
	for _, t := range tasks {
		of[t.ServiceID] = append(of[t.ServiceID], t)
	}
	for _, s := range live.Services {
		ts := Tasks{Known: true}
		for _, t := range of[s.ID] {
			if sameTask(&t.Spec, &s.Spec.TaskTemplate) {
				ts.Current = append(ts.Current, t)
			} else {
				ts.Old = append(ts.Old, t)
			}
		}
		name := s.Spec.Name
		stack := s.Spec.Labels[spec.LabelNamespace]
		releases, _, _ := r.memory.latest(stack)
		ts.Since = beganAt(s, releases)
		r.seen.note(s, ts, Judge(keyOf(stack, name), s, ts, live.Nodes, r.o.Now()), r.o.Now())
	}
	return nil
}

// sameTask says that a task was made of a template, as far as people can tell: a pass
// that decides asks the engine.
func sameTask(a, b *swarm.TaskSpec) bool {
	return a.ForceUpdate == b.ForceUpdate && reflect.DeepEqual(a.ContainerSpec, b.ContainerSpec)
}

// unread names stacks of which something is remembered that is to be read anew.
func (m *memory) unread(most int) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.whole {
		return nil // the next Refresh reads all
	}
	names := sortedKeys(m.stale)
	return names[:min(most, len(names))]
}

// Leading is the condition that says most about a stack, with a word for it: what
// needs a person comes before what goes on, and that before what is well.
func Leading(conditions []Condition) (word string, c Condition) {
	for _, t := range []ConditionType{Stalled, Degraded, Progressing, Ready} {
		for _, c := range conditions {
			if c.Type == t && c.True {
				return string(t), c
			}
		}
	}
	for _, c := range conditions {
		if c.Type == Ready {
			return NotReady, c
		}
	}
	return string(Unknown), Condition{}
}

// NotReady is the word for a stack of which no condition is true.
const NotReady = "NotReady"

// MaskText hides in a sentence what looks like a secret, as plans do.
func MaskText(s string) string { return maskText(s) }
