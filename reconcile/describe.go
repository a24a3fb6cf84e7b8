package reconcile

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

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
	res.Drifted = p.drifted()
	tellWaiting(res, p.waiting)
	r.tellProgress(res, p)
	res.Findings = append(append([]spec.Finding{}, p.stack.Findings...), p.plan.Findings...)
	if st.findingsOf == p.digest {
		res.Findings = append(res.Findings, st.findings...)
	}
	res.Findings = append(res.Findings, p.gradeTold(p.missing)...)
	res.Findings = append(res.Findings, p.followFindings()...)
	res.Followed = p.follow.status
	for i := range p.desired.Services {
		ds := &p.desired.Services[i]
		h, ok := p.health[ds.Name]
		if !ok && p.back && isJob(&ds.Spec) {
			continue // a rollback runs no job
		}
		if !ok {
			h = Judge(ds.Key, nil, Tasks{}, nil, r.o.Now())
		}
		st := serviceStatus(ds.Key, ds.Name, p.live.Services[ds.Name], h)
		if of := jobOf(p.releases, p.live.Services[ds.Name]); of != nil {
			st.Reason = strings.TrimPrefix(st.Reason+"; ", "; ")
			if st.Reason == "" {
				st.Reason = ds.Key + ": "
			}
			st.Reason += fmt.Sprintf("of release %d, not run again when going back", of.Number)
		}
		res.Services = append(res.Services, st)
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

// drifted counts the objects that live otherwise than they were rolled out, or gone back
// to. While a release is under way, or a newer file waits for its own, nothing tells
// drift from what is still to be written.
func (p *pass) drifted() int {
	rel := last(p.releases)
	switch {
	case p.plan == nil || rel == nil || rel.Phase == PhaseProgressing:
		return 0
	case p.back && !rel.index.back, !p.back && rel.Digest != p.digest:
		return 0
	}
	n := 0
	for _, c := range slices.Concat(p.plan.Changes, p.plan.Held) {
		if !tidies(&Plan{Changes: []Change{c}}) {
			n++
		}
	}
	return n
}

// jobOf is the release that a job is of, where the stack went back from that and left the
// job as it is; else nil.
func jobOf(releases []*Release, s *swarm.Service) *Release {
	runs := inForce(releases)
	if s == nil || !isJob(&s.Spec) || runs == nil {
		return nil
	}
	from := runs.Number // what came after it was gone back from
	if runs.By == ByHand {
		from = runs.Of
	}
	for _, rel := range slices.Backward(releases) {
		if before, wrote := rel.index.changed[s.Spec.Name]; rel.Number > from && rel != runs && wrote && before != mark(s) {
			return rel
		}
	}
	return nil
}

func serviceStatus(key, name string, s *swarm.Service, h ServiceHealth) ServiceStatus {
	st := ServiceStatus{Name: name, Key: key, Running: h.Serving, Updated: h.Running, Desired: h.Desired, Failed: h.Failed, Health: h.Status, Reason: h.Reason,
		Code: h.Code, Cause: h.Cause, Since: h.Since, Until: h.Until, Wave: h.Wave}
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
		c := &list[i]
		if !c.True && c.Type != Ready { // what does not hold needs no words, but for Ready
			continue
		}
		c.Reason, c.Message = res.Reason, message
		if wellWords[c.Reason] && (!c.True || c.Type == Degraded) && worst != nil && !whole {
			c.Reason = orElse(worst.Code, string(worst.Health))
		}
		if c.Type == Degraded && failed && wellWords[c.Reason] {
			c.Reason = orElse(res.Release.Reason, "ReleaseFailed")
		}
	}
	return list
}

// wellWords are reasons that say that nothing is left to write: they are none for a
// stack that is not well.
var wellWords = map[string]bool{"": true, "InSync": true, "Pinned": true}

// Status tells of a stack what the Swarm knows of it, without its files: what
// lives, its tasks where it is not whole, and the newest release.
func (r *Reconciler) Status(ctx context.Context, stack string) (Result, error) {
	live, err := r.observer.get(ctx, stack, 0)
	if err != nil {
		return Result{}, err
	}
	releases, state, err := r.memory.read(ctx, stack)
	if err != nil {
		return Result{}, err
	}
	p := passOver(stack, live, releases, state)
	if p.health, err = r.judge(ctx, p); err != nil {
		return Result{}, err
	}
	return r.statusOf(p), nil
}

// passOver is a look at a stack without its files, closely at the tasks of every service.
func passOver(stack string, live *Live, releases []*Release, state State) *pass {
	p := &pass{stack: &spec.Stack{Name: stack}, live: live, releases: releases, state: state, plan: &Plan{Stack: stack}, closely: true}
	p.desired = fromLive(stack, live)
	if n := len(releases); n > 0 && releases[n-1].Number > 0 { // what the stack merely also holds says nothing of it
		p.desired.Services = slices.DeleteFunc(p.desired.Services, func(d DesiredService) bool {
			ref := Ref{KindService, d.Name}
			return live.labels(ref)[LabelOwner] == "" && !retained(releases)(ref)
		})
	}
	return p
}

// statusOf tells what a look without files found.
func (r *Reconciler) statusOf(p *pass) Result {
	stack, live, releases, state := p.stack.Name, p.live, p.releases, p.state
	res := Result{Stack: stack, Outcome: Unchanged, Reason: "InSync"}
	p.plan.Findings = standing(p)
	if rel := last(releases); rel != nil {
		res.Release, res.Runs, p.digest = rel, standIn(releases), rel.Digest
		tellRelease(&res, p, rel, r.o.Now())
	}
	if state.IsSuspended() {
		res.Outcome, res.Reason, res.Message = Held, "Suspended", suspendedBy(state)
	} else if b := state.Blockade(stack); b != nil {
		res.Outcome, res.Reason, res.Message = Held, PruneBlocked, b.Why()
	} else if state.Stale > 0 {
		res.Outcome, res.Reason = Held, SourceStale
		res.Message = fmt.Sprintf("the acting controller's directory is older than what release %d was made of%s", state.Stale, untilCaughtUp)
	}
	r.describe(&res, p, &stackState{}, Decision{})
	if rel := last(releases); rel != nil && rel.Phase == PhaseProgressing && res.Progress != nil && stopped(p, rel) {
		res.Progress.Until = time.Time{}
	}
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
	return res
}

// tellRelease tells how far the newest release is.
func tellRelease(res *Result, p *pass, rel *Release, now time.Time) {
	told := fmt.Sprintf("release %d (%s)", rel.Number, rel.Revision)
	switch {
	case rel.Phase == PhaseProgressing && !rel.Converged.IsZero() && converged(p.health, rel.index.changed):
		end := bakedBy(rel, p.health, now)
		res.Outcome, res.Reason = Waiting, "Baking"
		if res.Message = told + " bakes until " + clock(end); end.After(now) {
			res.Message += ", " + inWords(end.Sub(now)) + " more"
		}
	case rel.Phase == PhaseProgressing:
		res.Outcome, res.Reason, res.Message = Waiting, "RollingOut", told+": "+laggard(p.health)
		if stopped(p, rel) { // a deadline would not be waited for
			res.Message += "; it has failed by that, which a running daemon finds, or: skep apply"
		} else if left := rel.begun().Add(rel.index.deadline).Sub(now); left > 0 && rel.Converged.IsZero() {
			res.Message += " (must be healthy within " + inWords(left) + ")"
		}
	case p.state.Retries(rel.Number, rel.Phase) && !p.state.IsPinned():
		res.Outcome, res.Reason, res.Message = Waiting, "Pardoned", fmt.Sprintf("%s failed: %s; it is to be tried again%s, by a running daemon or: skep apply", told, rel.Message, sincePardon(p.state))
	case rel.Phase == PhaseFailed && rollbackFailed(p, rel) != "":
		name, back := rollbackFailed(p, rel), goesBackTo(p.releases, rel)
		res.Outcome, res.Reason = Held, "RollbackFailed"
		res.Message = fmt.Sprintf("%s failed: %s; the rollback to release %d (%s) failed too: %s", told, rel.Message, back.Number, back.Revision, p.health[name].Reason)
	case rel.Phase == PhaseFailed && goesBackNow(p, rel, now):
		back := goesBackTo(p.releases, rel)
		res.Outcome, res.Reason, res.Message = Waiting, "RollingBack", fmt.Sprintf("%s failed: %s; going back to release %d (%s)", told, rel.Message, back.Number, back.Revision)
	case rel.Phase == PhaseFailed:
		res.Outcome, res.Reason, res.Message = Held, rel.Reason, told+" failed: "+rel.Message+wayBackOf(p.releases, rel)
	case len(rel.index.corrected) > 0:
		res.Outcome, res.Reason, res.Message = Waiting, "CorrectingDrift", laggard(p.health)
	case p.state.IsPinned() && rel.repeats(p.state.Pin):
		res.Reason, res.Message = "Pinned", staysAs(p.state.Pin, rel.Revision)
	}
}

// stopped says that a release which is under way does not come to its end any more: a
// service that it wrote is at fault, or Swarm gave up on one.
func stopped(p *pass, rel *Release) bool {
	for name, before := range rel.index.changed {
		if h := p.health[name]; atFault(h) && (h.Verdict == "" || h.Mark != before) {
			return true
		}
	}
	return false
}

// rollbackFailed names a service that went back from a failed release and is at fault
// again, "" where none is, as Decide has it.
func rollbackFailed(p *pass, f *Release) string {
	if goesBackTo(p.releases, f) == nil || anyVerdict(p.health, "rollback_started") != "" {
		return ""
	}
	return rollbackFault(Situation{Health: p.health, Plan: p.plan}, f)
}

// beginsBack is how soon after a release failed its rollback has begun, where there is
// one: by what is remembered alone it cannot be told whether there is anything to write.
const beginsBack = 5 * time.Second

// goesBackNow says that the rollback from a failed release is under way.
func goesBackNow(p *pass, f *Release, now time.Time) bool {
	switch {
	case f.index.back || goesBackTo(p.releases, f) == nil:
		return false
	case len(f.index.corrected) == 0:
		return !f.index.held && now.Sub(f.Ended) < beginsBack
	}
	under := progressOf(p.releases)
	return under != nil && now.Before(under.Until) && verdictSince(p.health, f.index.corrected) == ""
}

// wayBackOf tells what runs in the place of a failed release.
func wayBackOf(releases []*Release, f *Release) string {
	back := goesBackTo(releases, f)
	switch {
	case back == nil || !f.index.back && len(f.index.corrected) == 0:
		return ""
	case len(f.index.reverts) > 0:
		return fmt.Sprintf("; %s went back to release %d (%s)", few(sortedKeys(f.index.reverts)), back.Number, back.Revision)
	}
	return fmt.Sprintf("; release %d (%s) runs", back.Number, back.Revision)
}

// standIn is the release that runs in the place of a failed one that the stack went back
// from as a whole, or that was never tried; else nil.
func standIn(releases []*Release) *Release {
	rel := last(releases)
	if runs := inForce(releases); runs != rel && (rel.index.back || rel.index.untried && len(rel.index.corrected) == 0) {
		return runs
	}
	return nil
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
