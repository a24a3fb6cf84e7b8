package reconcile

import (
	"context"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/swarm"

	"github.com/skep-io/skep/spec"
)

// bind works out what the stack shall be, and the plan that leads there: by the file
// or, of a stack that is pinned, by that release as recorded; and where that is
// quarantined by the newest healthy release, unless failures are to be held.
func (r *Reconciler) bind(ctx context.Context, p *pass, mayCreateKey bool) (err error) {
	if hasMasked(p.stack) || slices.ContainsFunc(p.stack.Secrets, func(s spec.Secret) bool { return !s.External }) {
		if p.key, err = r.memory.secretKey(ctx, mayCreateKey); err != nil {
			return err
		}
	}
	p.source = keyedHash(p.key, p.stack.Source.Fingerprint)
	r.followIn(p)
	p.digest = r.digest(p.stack, p.key)
	p.bindPin()
	p.failed = Quarantined(p.releases, p.digest, p.identity(), p.state.Pardoned)
	if p.failed != nil && !holds(p.stack.Policy.Rollout, p.rollouts(), p.failed) {
		if back := goesBackTo(p.releases, p.failed); back != nil {
			return r.bindBack(ctx, p, back)
		}
	}
	if p.pinned != nil {
		return r.bindRecord(ctx, p, p.pinned, nil)
	}
	p.desired = Bind(p.stack, Binding{Key: p.key, Live: p.live, Believed: believed(p.releases), Pins: currentPins(p)})
	p.plan = r.diff(p)
	return nil
}

// bindPin takes a release for the file, where people asked for it: until the file is
// another, in what it says and in how it says it.
func (p *pass) bindPin() {
	if !p.state.IsPinned() {
		return
	}
	if p.digest != p.state.PinDigest && p.source != p.state.PinSource {
		p.pinEnds, p.pinMoves = !p.fileWaited, p.fileWaited
		return
	}
	if p.pinned = pinnedTo(p.state.Pin, p.releases); p.pinned != nil {
		p.digest, p.source = p.pinned.Digest, ""
	}
}

// pinnedTo is release n, or one that repeated it, where it was good; else nil.
func pinnedTo(n int, releases []*Release) *Release {
	var found *Release
	for _, rel := range releases {
		switch {
		case rel.damaged || !rel.repeats(n) || rel.Phase == PhaseFailed:
		case rel.Number == n && rel.Phase == PhaseHealthy:
			return rel
		case rel.By == ByHand:
			found = rel
		}
	}
	return found
}

// bindBack leads to the newest healthy release: as a whole or, where only some
// services go back, with these.
func (r *Reconciler) bindBack(ctx context.Context, p *pass, back *Release) error {
	p.added = func(ref Ref) bool {
		return slices.ContainsFunc(p.releases, func(rel *Release) bool { return rel.Number > back.Number && rel.index.objects[ref] })
	}
	if len(p.failed.index.reverts) == 0 || p.failed != last(p.releases) || p.failed.damaged {
		return r.bindRecord(ctx, p, back, nil)
	}
	failed, err := r.memory.load(ctx, p.failed)
	if err != nil {
		return err
	}
	return r.bindRecord(ctx, p, back, failed)
}

// bindRecord leads to a release as recorded; where failed is given, it stays as that
// but for the services that go back from it.
func (r *Reconciler) bindRecord(ctx context.Context, p *pass, rel *Release, failed *Desired) (err error) {
	if p.desired, err = r.memory.load(ctx, rel); err != nil {
		return err
	}
	if failed != nil {
		p.desired = partly(failed, p.desired, p.failed.index.reverts, p.live)
	}
	r.observer.wantConfigs(p.desired.Configs)
	if p.live, err = r.observer.get(ctx, p.stack.Name, 0); err != nil {
		return err
	}
	p.desired.fillFrom(Bind(p.stack, Binding{Key: p.key, Live: p.live, Believed: believed(p.releases)}))
	p.resolved = true
	p.plan, p.back = goingBack(r.diff(p)), true
	return nil
}

// partly is a failed release but for the services that go back from it: these are as
// they were before, or go where they were not there. What it wanted to remove, and
// still lives, stays.
func partly(failed, before *Desired, reverts map[string]bool, live *Live) *Desired {
	out := &Desired{Stack: failed.Stack, Networks: failed.Networks, Configs: failed.Configs, Secrets: failed.Secrets}
	known := map[string]bool{}
	for _, ds := range failed.Services {
		known[ds.Name] = true
		if !reverts[ds.Name] {
			out.Services = append(out.Services, ds)
		}
	}
	for _, ds := range before.Services {
		if reverts[ds.Name] || !known[ds.Name] && live.Services[ds.Name] != nil {
			out.Services = append(out.Services, ds)
			out.needs(&ds.Spec, before)
		}
	}
	slices.SortFunc(out.Services, func(a, b DesiredService) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// needs adds the objects that a service of another desired stack refers to.
func (d *Desired) needs(s *swarm.ServiceSpec, from *Desired) {
	refs := refsOf(s)
	for _, n := range from.Networks {
		if refs[Ref{KindNetwork, n.Name}] && !slices.ContainsFunc(d.Networks, func(o DesiredNetwork) bool { return o.Name == n.Name }) {
			d.Networks = append(slices.Clip(d.Networks), n)
		}
	}
	add := func(kind Kind, to, from []DesiredObject) []DesiredObject {
		for _, o := range from {
			if refs[Ref{kind, o.Name}] && !slices.ContainsFunc(to, func(have DesiredObject) bool { return have.Name == o.Name }) {
				to = append(slices.Clip(to), o)
			}
		}
		return to
	}
	d.Configs = add(KindConfig, d.Configs, from.Configs)
	d.Secrets = add(KindSecret, d.Secrets, from.Secrets)
}

// refsOf are the networks, configs and secrets that a desired service names.
func refsOf(s *swarm.ServiceSpec) map[Ref]bool {
	refs := map[Ref]bool{}
	for _, n := range networksOf(s) {
		refs[Ref{KindNetwork, n.Target}] = true
	}
	c := containerOf(s)
	for _, ref := range c.Configs {
		refs[Ref{KindConfig, ref.ConfigName}] = true
	}
	for _, ref := range c.Secrets {
		refs[Ref{KindSecret, ref.SecretName}] = true
	}
	if pr := c.Privileges; pr != nil && pr.CredentialSpec != nil {
		refs[Ref{KindConfig, pr.CredentialSpec.Config}] = true
	}
	return refs
}

// livesUnseen says whether a release that a newer file is about to supersede, and that
// nobody saw converge, has been written wholly: an apply that did not wait for it, or a
// controller that was away, has left it so.
func (r *Reconciler) livesUnseen(ctx context.Context, p *pass) (bool, error) {
	rel := last(p.releases)
	if rel == nil || rel.Phase != PhaseProgressing || !rel.Converged.IsZero() || rel.Digest == p.digest || rel.damaged || p.pinned != nil {
		return false, nil
	}
	q := *p
	if err := r.bindRecord(ctx, &q, rel, nil); err != nil {
		return false, err
	}
	return q.plan.Empty() && !blocks(q.plan.Findings) && !slices.ContainsFunc(r.diff(&q).Changes, isOfJob), nil
}

// judged are the services to give a verdict on: those that the plan leads to and,
// while a release bakes that a newer file waits for, those that it changed.
func (p *pass) judged() []DesiredService {
	services := p.desired.Services
	r := last(p.releases)
	if r == nil || r.Phase != PhaseProgressing || r.Converged.IsZero() && !p.whole || r.Digest == p.digest {
		return services
	}
	for _, name := range sortedKeys(r.index.changed) {
		if !slices.ContainsFunc(services, func(ds DesiredService) bool { return ds.Name == name }) {
			services = append(slices.Clip(services), DesiredService{Key: keyOf(p.stack.Name, name), Name: name})
		}
	}
	return services
}

// standing adds to a plan the services that are as they should be and yet have come to
// a stop: written once more, just as they are, they go on. Going back starts no job.
func (p *pass) standing(plan *Plan, stopped func(*swarm.Service, ServiceHealth) bool) *Plan {
	out := *plan
	if blocks(plan.Findings) {
		return plan
	}
	for i := range p.desired.Services {
		ds := &p.desired.Services[i]
		ls, h := p.live.Services[ds.Name], p.health[ds.Name]
		if ls == nil || h.Converged || p.back && isJob(&ls.Spec) || !stopped(ls, h) || inPlan(plan, ds.Name) {
			continue
		}
		out.Changes = append(slices.Clip(out.Changes), onceMore(ds, ls, h))
	}
	return &out
}

// stillToStart says that the release that is under way set out to start a service anew,
// and has not come to it yet: it is of a later wave, and as it was.
func (p *pass) stillToStart(ls *swarm.Service, h ServiceHealth) bool {
	r, is := last(p.releases), mark(ls)
	if r == nil || r.Phase != PhaseProgressing || r.Digest != p.digest || is == noMark || r.index.changed[ls.Spec.Name] != is {
		return false
	}
	return stoppedForGood(h) || isJob(&ls.Spec) && h.Code == CodeScaling // whose deaths were before the release
}

// stoppedByOthers says that an update came to a stop that is no release's own failure:
// Swarm's rollback failed, and versions are mixed; or a node went in the middle of it.
func stoppedByOthers(h ServiceHealth) bool {
	return h.Verdict == string(swarm.UpdateStateRollbackPaused) || pausedByWorld(h)
}

// pausedByWorld says that Swarm paused an update since a node went.
func pausedByWorld(h ServiceHealth) bool {
	return h.Verdict == string(swarm.UpdateStatePaused) && h.Cause == CauseWorld
}

// stoppedForGood says that nothing goes on with a service, as an earlier release left
// it: a job that failed, an update that is paused, tasks that nobody starts again. A
// new release starts it anew.
//
// What waits for a node does not: the scheduler goes on with it by itself as soon as one
// fits, and a release that does not change it is not to answer for it.
func stoppedForGood(h ServiceHealth) bool {
	return h.Final && !waitsForNode(h) || h.Verdict == string(swarm.UpdateStatePaused) || h.Verdict == string(swarm.UpdateStateRollbackPaused)
}

func waitsForNode(h ServiceHealth) bool {
	switch h.Code {
	case CodeNoNodeFits, CodePortTaken, CodeResourcesShort, CodeMaxReplicas, CodePluginMissing:
		return true
	}
	return false
}

// onceMore writes a service as it is. The engine does not ask whether anything differs:
// its updater begins anew, and a job runs again.
func onceMore(ds *DesiredService, ls *swarm.Service, h ServiceHealth) Change {
	s := cloneSpec(&ls.Spec)
	mutPlacement(s)
	return Change{
		Op: OpUpdate, Kind: KindService, Name: ds.Name, Key: ds.Key, Wave: ds.Wave, ID: ls.ID, Version: ls.Version,
		Spec: s, Restarts: true, Fields: []Field{{Path: "update status", Old: orElse(h.Verdict, h.Code), New: "started again", Restarts: true}},
	}
}
