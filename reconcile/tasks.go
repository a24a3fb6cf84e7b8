package reconcile

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/swarm"
)

// judge gives each service of the stack its verdict. Tasks are asked for only
// where a service has not converged or was written by what is under way. What they
// tell of their nodes goes into p.missing.
func (r *Reconciler) judge(ctx context.Context, p *pass) (map[string]ServiceHealth, error) {
	var ids []string
	services := p.judged()
	for i := range services {
		if s := p.live.Services[services[i].Name]; s != nil && needsTasks(s, p, r.o.Now()) {
			ids = append(ids, s.ID)
		}
	}
	tasks, err := r.tasks(ctx, ids)
	if err != nil {
		return nil, err
	}
	moved, err := r.moved(ctx, p.live, ids)
	if err != nil {
		return nil, err
	}
	health := map[string]ServiceHealth{}
	for i := range services {
		d := &services[i]
		s := p.live.Services[d.Name]
		if s == nil {
			continue
		}
		ts := tasks[s.ID]
		ts.Since = beganAt(s, p.releases)
		h := Judge(d.Key, s, ts, p.live.Nodes, r.o.Now())
		if h.Wave = d.Wave; h.Converged && moved[s.ID] {
			h.Converged, h.Status, h.Reason = false, HealthProgressing, d.Key+": Swarm is at it right now"
		}
		health[d.Name] = h
		r.seen.note(s, ts, h, r.o.Now())
		if f := missingBinds(d.Key, &d.Spec, ts.Current, p.live.Nodes); f != nil {
			p.missing = append(p.missing, *f)
		}
	}
	return health, nil
}

// moved says of services whether they are no longer as the listing has them. The
// tasks were asked for after it: an update that began in between has new tasks
// already, and would look converged in a listing that does not know of it.
func (r *Reconciler) moved(ctx context.Context, live *Live, ids []string) (map[string]bool, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	f := filters.NewArgs()
	moved := make(map[string]bool, len(ids))
	for _, id := range ids {
		f.Add("id", id)
		moved[id] = true // unless it is found as it was
	}
	list, err := r.o.Swarm.ServiceList(ctx, swarm.ServiceListOptions{Filters: f})
	if err != nil {
		return nil, fmt.Errorf("list services in a rollout: %w", err)
	}
	for i := range list {
		if known := live.Services[list[i].Spec.Name]; known != nil {
			moved[list[i].ID] = known.Version != list[i].Version
		}
	}
	return moved, nil
}

// needsTasks says whether a service's own counts do not do: where it is not whole,
// where it was written by what is under way or a short while ago, and where they may
// count tasks on a node that is down.
func needsTasks(s *swarm.Service, p *pass, now time.Time) bool {
	running, desired := counts(s, Tasks{}, nil)
	global := onEachNode(&s.Spec)
	if p.closely || running != desired || !updaterDone(s) || verdict(s) != "" || global && desired == 0 || s.Spec.Mode.GlobalJob != nil {
		return true
	}
	for _, n := range p.live.Nodes {
		if n.Status.State == swarm.NodeStateDown {
			return true
		}
	}
	for _, rel := range p.releases {
		if _, ok := rel.index.corrected[s.Spec.Name]; ok {
			return true
		}
		if _, ok := rel.index.changed[s.Spec.Name]; ok && (rel.Phase == PhaseProgressing || guarded(rel, p, s.Spec.Name, now)) {
			return true
		}
	}
	return false
}

// guarded says that a release became healthy so short a while ago that it still
// answers for what a service does.
func guarded(rel *Release, p *pass, name string, now time.Time) bool {
	return rel.Phase == PhaseHealthy && now.Sub(rel.Ended) < rolloutOf(p.stack.Policy.Rollout, p.rollouts(), name).Guard
}

// beganAt is when the newest release that wrote a service, or put it right, began to:
// the zero time where none did. Where Swarm's updater has begun since then, that is
// told by the Swarm's own clock.
func beganAt(s *swarm.Service, releases []*Release) time.Time {
	for _, rel := range slices.Backward(releases) {
		before, began := "", rel.Started
		if m, ok := rel.index.corrected[s.Spec.Name]; ok {
			before, began = m, rel.index.correctedAt
		} else if m, ok := rel.index.changed[s.Spec.Name]; ok {
			before = m
		} else {
			continue
		}
		if mark(s) != before && !goesBack(s) && s.UpdateStatus != nil && s.UpdateStatus.StartedAt != nil {
			return *s.UpdateStatus.StartedAt
		}
		return began
	}
	return time.Time{}
}

// goesBack says that Swarm's updater went back by itself: of such an update it tells
// when going back began.
func goesBack(s *swarm.Service) bool {
	v := verdict(s)
	return v != "" && v != string(swarm.UpdateStatePaused)
}

// tasks lists the tasks of services, by service ID. Which are of the current spec
// is the engine's word: tasks carry no version of it.
func (r *Reconciler) tasks(ctx context.Context, ids []string) (map[string]Tasks, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	f := filters.NewArgs()
	for _, id := range ids {
		f.Add("service", id)
	}
	all, err := r.o.Swarm.TaskList(ctx, swarm.TaskListOptions{Filters: f})
	if err != nil {
		return nil, fmt.Errorf("list tasks: %w", err)
	}
	f = f.Clone()
	f.Add("_up-to-date", "true")
	current, err := r.o.Swarm.TaskList(ctx, swarm.TaskListOptions{Filters: f})
	if err != nil {
		return nil, fmt.Errorf("list tasks of current specs: %w", err)
	}
	return sortTasks(ids, all, current), nil
}

func sortTasks(ids []string, all, current []swarm.Task) map[string]Tasks {
	isCurrent := make(map[string]bool, len(current))
	for i := range current {
		isCurrent[current[i].ID] = true
	}
	tasks := make(map[string]Tasks, len(ids))
	for _, id := range ids {
		tasks[id] = Tasks{Known: true}
	}
	for _, t := range all {
		ts := tasks[t.ServiceID]
		if isCurrent[t.ID] {
			ts.Current = append(ts.Current, t)
		} else {
			ts.Old = append(ts.Old, t)
		}
		tasks[t.ServiceID] = ts
	}
	return tasks
}
