package reconcile

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/swarm"

	"github.com/skep-io/skep/spec"
)

// describe adds to a result what a pass saw: services, release and findings, and
// looks again soon while a service is not whole.
func (r *Reconciler) describe(res *Result, p *pass, st *stackState, d Decision) {
	if res.Release == nil {
		res.Release = d.Release
	}
	if res.Release == nil && len(p.releases) > 0 {
		res.Release = p.releases[len(p.releases)-1]
	}
	res.Findings = append(append([]spec.Finding{}, p.stack.Findings...), p.plan.Findings...)
	if st.findingsOf == p.digest {
		res.Findings = append(res.Findings, st.findings...)
	}
	res.Findings = append(res.Findings, p.gradeTold(p.missing)...)
	for i := range p.desired.Services {
		ds := &p.desired.Services[i]
		h, ok := p.health[ds.Name]
		if !ok {
			h = Judge(ds.Key, nil, Tasks{}, nil, r.o.Now())
		}
		res.Services = append(res.Services, serviceStatus(ds.Key, ds.Name, p.live.Services[ds.Name], h))
	}
	if res.Requeue == 0 {
		res.Requeue = p.retry
	}
	if worst := worstOf(res.Services); worst != nil && res.Requeue == 0 && (worst.Health == HealthProgressing || worst.Health == HealthDegraded) {
		res.Requeue = 5 * again
		if res.Message == "" {
			res.Message = worst.Reason
		}
	}
}

func serviceStatus(key, name string, s *swarm.Service, h ServiceHealth) ServiceStatus {
	st := ServiceStatus{Name: name, Key: key, Running: h.Serving, Updated: h.Running, Desired: h.Desired, Health: h.Status, Reason: h.Reason}
	if s == nil {
		return st
	}
	if c := s.Spec.TaskTemplate.ContainerSpec; c != nil {
		st.Image, _, _ = strings.Cut(c.Image, "@")
	}
	st.Mode = modeName(&s.Spec.Mode)
	return st
}

func modeName(m *swarm.ServiceMode) string {
	switch {
	case m.Global != nil:
		return "global"
	case m.ReplicatedJob != nil:
		return "replicated job"
	case m.GlobalJob != nil:
		return "global job"
	}
	return "replicated"
}

func worstOf(services []ServiceStatus) *ServiceStatus {
	var worst *ServiceStatus
	for i := range services {
		if worst == nil || rank(services[i].Health) > rank(worst.Health) {
			worst = &services[i]
		}
	}
	return worst
}

// conditions sums a result up.
//
//	Ready        live is as the file says, released, and every service is healthy
//	Progressing  a rollout, a correction or a rollback is under way
//	Degraded     a service is, or the newest release failed
//	Stalled      nothing will happen until a person, or the world, changes something
func conditions(res *Result) []Condition {
	worst := worstOf(res.Services)
	sick := worst != nil && worst.Health == HealthDegraded
	failed := res.Release != nil && res.Release.Phase == PhaseFailed
	whole := worst == nil || worst.Health == Healthy
	message := res.Message
	if sick && message == "" {
		message = worst.Reason
	}
	if message == "" && whole && res.Outcome == Unchanged {
		message = undone(res.Findings)
	}
	held := res.Outcome == Held
	list := []Condition{
		{Type: Ready, True: res.Outcome == Unchanged && whole},
		{Type: Progressing, True: res.Outcome == Applied || res.Outcome == Waiting || res.Outcome == RolledBack},
		{Type: Degraded, True: sick || failed},
		{Type: Stalled, True: held && res.Reason != "Suspended" || res.Outcome == Failed},
	}
	for i := range list {
		list[i].Reason = res.Reason
		if list[i].True || list[i].Type == Ready { // what does not hold needs no words, but for Ready
			list[i].Message = message
		}
	}
	return list
}

// Status tells of a stack what the Swarm knows of it, without its files: what
// lives, its tasks where it is not whole, and the newest release.
func (r *Reconciler) Status(ctx context.Context, stack string) (Result, error) {
	live, err := r.observer.get(ctx, stack, 0)
	if err != nil {
		return Result{}, err
	}
	releases, err := r.memory.releases(ctx, stack)
	if err != nil {
		return Result{}, err
	}
	p := &pass{stack: &spec.Stack{Name: stack}, live: live, releases: releases, plan: &Plan{Stack: stack}, closely: true}
	p.desired = fromLive(stack, live)
	if n := len(releases); n > 0 && releases[n-1].Number > 0 { // what the stack merely also holds says nothing of it
		p.desired.Services = slices.DeleteFunc(p.desired.Services, func(d DesiredService) bool {
			ref := Ref{KindService, d.Name}
			return live.labels(ref)[LabelOwner] == "" && !retained(releases)(ref)
		})
	}
	if p.health, err = r.judge(ctx, p); err != nil {
		return Result{}, err
	}
	res := Result{Stack: stack, Outcome: Unchanged, Reason: "InSync"}
	p.plan.Findings = standing(p)
	if len(releases) > 0 {
		rel := releases[len(releases)-1]
		res.Release, p.digest = rel, rel.Digest
		told := fmt.Sprintf("release %d (%s)", rel.Number, rel.Revision)
		switch rel.Phase {
		case PhaseProgressing:
			res.Outcome, res.Reason, res.Message = Waiting, "RollingOut", told+": "+laggard(p.health)
		case PhaseFailed:
			res.Outcome, res.Reason = Held, rel.Reason
			res.Message = told + " failed: " + rel.Message
			if back := newest(releases, PhaseHealthy); back != nil {
				res.Message += fmt.Sprintf("; release %d (%s) runs", back.Number, back.Revision)
			}
		case PhaseHealthy:
			if len(rel.index.corrected) > 0 {
				res.Outcome, res.Reason, res.Message = Waiting, "CorrectingDrift", laggard(p.health)
			}
		}
	}
	r.describe(&res, p, &stackState{}, Decision{})
	res.Requeue = 0
	if lost := lostServices(stack, releases, live); len(lost) > 0 {
		res.Services = append(res.Services, lost...)
		if res.Message == "" {
			res.Message = lost[0].Reason
		}
	}
	res.Conditions = conditions(&res)
	for i := range res.Conditions {
		res.Conditions[i].Since = live.At
		if res.Release != nil {
			res.Conditions[i].Since = res.Release.since()
		}
	}
	return res, nil
}

// lostServices are those that the release in force names and that do not live.
func lostServices(stack string, releases []*Release, live *Live) []ServiceStatus {
	in := newest(releases, PhaseHealthy)
	if n := len(releases); n > 0 && releases[n-1].Phase == PhaseProgressing {
		in = releases[n-1]
	}
	if in == nil {
		return nil
	}
	var lost []ServiceStatus
	for _, ref := range slices.SortedFunc(maps.Keys(in.index.objects), func(a, b Ref) int { return strings.Compare(a.Name, b.Name) }) {
		if ref.Kind == KindService && live.Services[ref.Name] == nil {
			key := keyOf(stack, ref.Name)
			lost = append(lost, serviceStatus(key, ref.Name, nil, Judge(key, nil, Tasks{}, nil, live.At)))
		}
	}
	return lost
}
