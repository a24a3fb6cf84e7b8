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

// act carries out a decision: at most one act, whatever comes of it.
func (r *Reconciler) act(ctx context.Context, p *pass, st *stackState, d Decision) Result {
	res := Result{Stack: p.stack.Name, Reason: d.Reason, Message: d.Message, Brief: d.Brief, Requeue: d.Again, Plan: p.plan}
	var err error
	switch d.Act {
	case ActNothing:
		res.Outcome = Unchanged
		err = r.tidy(ctx, p, &res)
	case ActHold:
		res.Outcome = Held
		if err = r.tidy(ctx, p, &res); err == nil && d.Reason == SourceStale {
			err = r.markStale(ctx, p.stack.Name, p.state, d.Release)
		}
	case ActCurrent:
		res.Outcome = Waiting
		err = r.unmarkStale(ctx, p, &res)
	case ActWait:
		res.Outcome = Waiting
	case ActUnpin:
		res.Outcome = Waiting
		err = r.unpin(ctx, p, &res)
	case ActMovePin:
		res.Outcome = Waiting
		err = r.movePin(ctx, p, &res)
	case ActAdopt:
		res.Outcome = Applied
		err = r.adopt(ctx, p, &res)
	case ActSnapshot:
		res.Outcome = Applied
		err = r.snapshot(ctx, p, &res)
	case ActRefuse:
		res.Outcome = Waiting
		err = r.refuse(ctx, p, d, &res)
	case ActBegin:
		res.Outcome = Applied
		err = r.begin(ctx, p, st, &res)
	case ActContinue:
		res.Outcome = Applied
		err = r.carryOn(ctx, p, st, d, &res)
	case ActBake:
		res.Outcome = Waiting
		err = r.bake(ctx, p, d, &res)
	case ActHeal:
		if res.Outcome = Waiting; d.Release.Digest == p.digest {
			res.Outcome, res.Reason, res.Message = Unchanged, "InSync", "" // from now on
			if p.pinned != nil {
				res.Reason, res.Message = "Pinned", staysAs(p.pinned.Number, p.pinned.Revision)
			}
		}
		err = r.end(ctx, p, d, &res)
	case ActFail:
		res.Outcome = Waiting
		err = r.end(ctx, p, d, &res)
	case ActCorrect:
		res.Outcome = Applied
		err = r.correct(ctx, p, st, d, &res, p.step())
	case ActRollBack:
		res.Outcome = RolledBack
		err = r.correct(ctx, p, st, d, &res, p.step())
	case ActSettle:
		if res.Outcome = Unchanged; d.Release.Phase == PhaseFailed {
			res.Outcome = Held
		}
		err = r.settle(ctx, p, st, d, &res)
	}
	return afterWrites(res, err)
}

// step is what may be written now of a pass's plan.
func (p *pass) step() []Change {
	changes := step(p.plan, p.back)
	if !p.back {
		return changes
	}
	return withRollbackConfig(changes, func(name string) bool {
		return p.failed == nil || len(p.failed.index.reverts) == 0 || p.failed.index.reverts[name]
	})
}

// tidy removes the records that are beyond the number kept, which the end of a release
// does where nothing comes between: skep was killed, or the engine failed. What only
// they named goes after them.
func (r *Reconciler) tidy(ctx context.Context, p *pass, res *Result) error {
	if p.state.IsSuspended() || p.stack.Policy.Suspend {
		return nil
	}
	trimmed, err := r.memory.trim(ctx, p.stack.Name, p.releases)
	if trimmed > 0 {
		res.Requeue = again
	}
	return err
}

// unpin forgets a pin that has come to its end, unless it is another one by now.
func (r *Reconciler) unpin(ctx context.Context, p *pass, res *Result) error {
	res.Transitions = append(res.Transitions, Transition{Action: "unpinned", Reason: res.Reason, Message: res.Message})
	return r.memory.setState(ctx, p.stack.Name, func(s State) State {
		if s.Pin == p.state.Pin && s.Pinned.Equal(p.state.Pinned) {
			return s.unpinned()
		}
		return s
	})
}

// movePin lets a pin hold as long as the file is as it is, unless it is another one by now.
func (r *Reconciler) movePin(ctx context.Context, p *pass, res *Result) error {
	res.Transitions = append(res.Transitions, Transition{Action: "pin-moved", Reason: res.Reason, Message: res.Message})
	return r.memory.setState(ctx, p.stack.Name, func(s State) State {
		if s.Pin == p.state.Pin && s.Pinned.Equal(p.state.Pinned) {
			s.PinDigest, s.PinSource = p.digest, p.source
		}
		return s
	})
}

// afterWrites turns an error into the pass's outcome. A conflict is no error:
// somebody else wrote first, so the next pass looks again and decides anew.
func afterWrites(res Result, err error) Result {
	if err == nil {
		return res
	}
	if errorsOnly(err) == nil {
		res.Outcome, res.Reason, res.Requeue = Waiting, "Conflict", again/4
		res.Message = "something else wrote at the same time, or has the name: " + err.Error()
		return res
	}
	res.Outcome, res.Reason, res.Message, res.Err = Failed, "WriteFailed", err.Error(), errorsOnly(err)
	return res
}

// adopt remembers what lives, which is what the file says, without touching it.
func (r *Reconciler) adopt(ctx context.Context, p *pass, res *Result) error {
	rel := r.newRelease(p, PhaseHealthy)
	rel.Reason, rel.Message, rel.Ended = res.Reason, res.Message, rel.Started
	res.Transitions = append(res.Transitions, Transition{Action: "adopted", Reason: res.Reason, Message: fmt.Sprintf("release %d: %s", rel.Number, res.Message)})
	if err := r.record(ctx, p, res, rel, currentPins(p), nil); err != nil {
		return err
	}
	_, err := r.memory.trim(ctx, p.stack.Name, append(slices.Clone(p.releases), rel))
	return err
}

// refuse remembers that the file asks for what failed before, as a release that
// fails untried: so the newest release is always the file's, and who looks at the
// Swarm alone sees what the daemon sees.
func (r *Reconciler) refuse(ctx context.Context, p *pass, d Decision, res *Result) error {
	rel := r.newRelease(p, PhaseFailed)
	rel.Reason, rel.Message, rel.Ended = d.Reason, d.Message, rel.Started
	rel.index.held = holds(p.stack.Policy.Rollout, p.rollouts(), rel)
	rel.index.untried, rel.index.back = true, p.plan.Empty() && allConverged(p.health) // there is no way to go
	res.Release = rel
	res.Transitions = append(res.Transitions, Transition{Action: "rollout-refused", Reason: d.Reason, Message: fmt.Sprintf("release %d: %s", rel.Number, d.Message), Bad: true})
	if p.pinned != nil {
		var err error
		if p.desired, err = r.memory.load(ctx, p.pinned); err != nil {
			return err
		}
	} else {
		p.desired = Bind(p.stack, Binding{Key: p.key, Live: p.live, Believed: believed(p.releases)})
	}
	if err := r.record(ctx, p, res, rel, d.Release.index.pins, unsettled(p.releases)); err != nil {
		return err
	}
	_, err := r.memory.trim(ctx, p.stack.Name, append(slices.Clone(p.releases), rel))
	return err
}

// snapshot remembers what lives before anything is written over it, so that there
// is something to go back to.
func (r *Reconciler) snapshot(ctx context.Context, p *pass, res *Result) error {
	now := r.time.now()
	found := fromLive(p.stack.Name, p.live)
	rel := &Release{Number: 0, Digest: "live:" + p.digest, Revision: "as found", Phase: PhaseHealthy, Reason: "Adopted",
		Message: "what was running before skep's first change", Started: now, Ended: now}
	res.Transitions = append(res.Transitions, Transition{Action: "adopted", Reason: "Adopted", Message: "what runs differs from the file; it is remembered as release 0"})
	return r.memory.create(ctx, p.stack.Name, rel, recordOf(found, currentPins(p), nil))
}

// begin makes a new release: its record first, then its first writes, so that
// whatever happens in between, what was meant is known.
func (r *Reconciler) begin(ctx context.Context, p *pass, st *stackState, res *Result) error {
	pins := p.pinnedPins()
	if p.pinned == nil {
		pins = r.pin(ctx, p)
	}
	st.findings, st.findingsOf = p.images, p.digest
	p.plan = p.standing(p.plan, func(_ *swarm.Service, h ServiceHealth) bool { return stoppedForGood(h) })
	res.Plan = p.plan
	if bad := firstError(&Plan{Findings: slices.Concat(p.plan.Findings, p.images)}); bad != nil {
		res.Outcome, res.Reason, res.Message, res.Requeue = Held, camel(bad.Code), bad.Message, negativeFor
		st.images = imageFault{p.digest, bad.Message, r.time.steady().Add(negativeFor)}
		if p.unfinished() { // which goes on meanwhile
			res.Outcome, res.Requeue = Waiting, again
		}
		return nil
	}
	rel := r.newRelease(p, PhaseProgressing)
	if err := r.record(ctx, p, res, rel, pins, mergeMarks(unsettled(p.releases), marksOf(p.plan.Changes, p.live))); err != nil {
		return err
	}
	res.Release = rel
	res.Transitions = append(res.Transitions, Transition{Action: "rollout-started", Reason: res.Reason, Message: fmt.Sprintf("release %d: %s", rel.Number, countChanges(p.plan))})
	return r.write(ctx, p, st, res, p.step())
}

// pinnedPins are the image digests of the release that the stack is pinned to.
func (p *pass) pinnedPins() map[string]Pin {
	if p.pinned == nil {
		return nil
	}
	return p.pinned.index.pins
}

// carryOn writes more of a release that is under way; where its deadline begins anew
// that is recorded first.
func (r *Reconciler) carryOn(ctx context.Context, p *pass, st *stackState, d Decision, res *Result) error {
	if d.Anew {
		rel := *d.Release
		rel.Resumed = r.time.now()
		if err := r.memory.update(ctx, p.stack.Name, &rel); err != nil {
			return err
		}
		res.Release = &rel
	}
	return r.write(ctx, p, st, res, p.step())
}

// bake records that all that a release changed has converged for the first time.
func (r *Reconciler) bake(ctx context.Context, p *pass, d Decision, res *Result) error {
	rel := *d.Release
	rel.Converged = r.time.now()
	if err := r.memory.update(ctx, p.stack.Name, &rel); err != nil {
		return err
	}
	res.Release = &rel
	res.Transitions = append(res.Transitions, Transition{Action: "rollout-converged", Reason: d.Reason, Message: d.Message, Duration: rel.Converged.Sub(rel.Started)})
	return nil
}

func (r *Reconciler) supersede(ctx context.Context, p *pass, res *Result) error {
	old := *p.releases[len(p.releases)-1]
	old.Phase, old.Reason, old.Message, old.Ended = PhaseSuperseded, "Superseded", "a newer revision came before it was healthy", r.time.now()
	res.Transitions = append(res.Transitions, Transition{Action: "superseded", Reason: old.Reason, Message: fmt.Sprintf("release %d: %s", old.Number, old.Message)})
	return r.memory.update(ctx, p.stack.Name, &old)
}

func (r *Reconciler) newRelease(p *pass, phase Phase) *Release {
	src := p.stack.Source
	rel := &Release{Number: 1, Digest: p.digest, Source: p.source, Revision: src.Revision, By: ByFile, Phase: phase, Started: r.time.now()}
	if src.Commit != nil {
		rel.Subject, rel.Commit, rel.Committed = src.Commit.Subject, src.Commit.Hash, src.Commit.Time
	}
	if words := p.follow.record.words(); len(words) > 0 && p.sameFile(last(p.releases)) { // the file has nothing to do with it
		rel.Subject = few(words)
	}
	if of := p.pinned; of != nil {
		rel.Commit, rel.Committed = of.Commit, of.Committed
		rel.Source, rel.Revision, rel.Subject, rel.By, rel.Of = of.Source, of.Revision, of.Subject, ByHand, p.state.Pin
	}
	if n := len(p.releases); n > 0 {
		rel.Number = p.releases[n-1].Number + 1
	}
	rel.Number = r.memory.free(p.stack.Name, max(rel.Number, p.state.Pardoned+1)) // a pardon is for what was, also where its records are lost
	return rel
}

// record writes a new release's record, and that it supersedes one that is under way:
// which goes on, where the record is too large.
func (r *Reconciler) record(ctx context.Context, p *pass, res *Result, rel *Release, pins map[string]Pin, changed map[string]string) error {
	data := recordOf(p.desired, pins, changed)
	data.Findings, data.Severities = lasting(p.stack.Findings, p.plan.Findings, p.images), p.stack.Policy.Findings
	data.Deadline, data.Bake = p.timesOf(changed)
	data.Follow = p.followRecord()
	mine := indexOf(data).objects
	own := r.owned(p.live, p.releases)
	for _, ref := range p.live.Stack(p.stack.Name) {
		if !mine[ref] && own(ref) && p.live.labels(ref)[LabelOwner] == "" {
			data.Left = append(data.Left, ref)
		}
	}
	if old := last(p.releases); old != nil && old.Phase == PhaseProgressing {
		if _, err := pack(data); err != nil {
			return fmt.Errorf("record release %d of stack %s: %w", rel.Number, p.stack.Name, err)
		}
		if err := r.supersede(ctx, p, res); err != nil {
			return err
		}
	}
	return r.memory.create(ctx, p.stack.Name, rel, data)
}

// timesOf are the longest deadline and the longest bake of services that are changed.
func (p *pass) timesOf(changed map[string]string) (deadline, bake time.Duration) {
	s := Situation{Policy: p.stack.Policy, Rollouts: p.rollouts()}
	rel := &Release{index: index{changed: changed}}
	return longestLimit(s, rel), bakeOf(s, rel)
}

func recordOf(d *Desired, pins map[string]Pin, changed map[string]string) *record {
	rec := &record{Format: 1, Desired: d, Changed: changed}
	for _, name := range sortedKeys(pins) {
		rec.Pins = append(rec.Pins, namedPin{name, pins[name]})
	}
	return rec
}

// marksOf takes the mark of each service that the changes write.
func marksOf(changes []Change, live *Live) map[string]string {
	marks := map[string]string{}
	for _, c := range changes {
		if c.Kind == KindService && c.Op != OpRemove {
			marks[c.Name] = mark(live.Services[c.Name])
		}
	}
	return marks
}

// end records how the current release ended.
func (r *Reconciler) end(ctx context.Context, p *pass, d Decision, res *Result) error {
	rel := *d.Release
	rel.Reason, rel.Message, rel.Ended = d.Reason, d.Message, r.time.now()
	t := Transition{Action: "rollout-healthy", Reason: d.Reason, Message: fmt.Sprintf("release %d is healthy", rel.Number), Duration: rel.Ended.Sub(rel.Started)}
	rel.Phase = PhaseHealthy
	if d.Act == ActFail {
		rel.Phase, rel.Failed = PhaseFailed, d.Failed
		rel.index.corrected, rel.index.reverts, rel.index.held = nil, p.reverts(&rel), holds(p.stack.Policy.Rollout, p.rollouts(), &rel)
		t.Action, t.Bad, t.Message = "rollout-failed", true, fmt.Sprintf("release %d failed: %s", rel.Number, d.Message)
		t.Late = d.Release.Phase == PhaseHealthy
	}
	if err := r.memory.update(ctx, p.stack.Name, &rel); err != nil {
		return err
	}
	res.Release = &rel
	res.Transitions = append(res.Transitions, t)
	_, err := r.memory.trim(ctx, p.stack.Name, append(append([]*Release{}, p.releases[:len(p.releases)-1]...), &rel))
	return err
}

// reverts names the services that go back from a failed release, where all those for
// which it failed ask for no more: they, those that depend on them, and what has not
// converged. Nil: the stack goes back as a whole.
func (p *pass) reverts(rel *Release) map[string]bool {
	policies := p.rollouts()
	for _, name := range rel.Failed {
		if rolloutOf(p.stack.Policy.Rollout, policies, name).Scope != spec.ScopeService {
			return nil
		}
	}
	if len(rel.Failed) == 0 || rel.Digest != p.digest || p.pinned != nil {
		return nil
	}
	set := map[string]bool{}
	for _, name := range rel.Failed {
		set[name] = true
	}
	for name := range rel.index.changed {
		if h, ok := p.health[name]; ok && !h.Converged || inPlan(p.plan, name) {
			set[name] = true
		}
	}
	p.addDependents(set)
	for name := range rel.index.changed {
		if !set[name] {
			return set
		}
	}
	return nil // they are all that it changed
}

// addDependents adds the services that depend on one of a set, and those on them.
func (p *pass) addDependents(set map[string]bool) {
	for more := true; more; {
		more = false
		for i := range p.stack.Services {
			s := &p.stack.Services[i]
			if !set[s.Name] && slices.ContainsFunc(s.DependsOn, func(key string) bool { return set[p.serviceName(key)] }) {
				set[s.Name], more = true, true
			}
		}
	}
}

// serviceName is the name of the service with a compose key.
func (p *pass) serviceName(key string) string {
	for i := range p.stack.Services {
		if p.stack.Services[i].Key == key {
			return p.stack.Services[i].Name
		}
	}
	return ""
}

// correct writes drift right, or the release that is gone back to. Which services
// it writes is recorded first: should Swarm give up on them in turn, that is
// known and not tried again.
func (r *Reconciler) correct(ctx context.Context, p *pass, st *stackState, d Decision, res *Result, changes []Change) error {
	if c := notSticking(st, changes); c != nil {
		return r.write(ctx, p, st, res, changes) // holds, and says so
	}
	if marks := mergeMarks(d.Release.index.corrected, marksOf(changes, p.live)); !maps.Equal(marks, d.Release.index.corrected) {
		rel := *d.Release
		now := r.time.now()
		if d.Act == ActRollBack && (rel.index.back || rel.index.backFrom.IsZero()) {
			rel.index.backFrom = now
		}
		rel.index.corrected, rel.index.correctedAt, rel.index.back = marks, now, false
		if err := r.memory.update(ctx, p.stack.Name, &rel); err != nil {
			return err
		}
	}
	t := Transition{Action: "drift-corrected", Reason: d.Reason, Message: d.Message}
	if d.Act == ActRollBack {
		t.Action, t.Bad, t.brief = "going-back", true, d.Brief
		t.Begins = st.backFrom != d.Release.Number && len(d.Release.index.corrected) == 0
		st.backFrom = d.Release.Number
	}
	res.Transitions = append(res.Transitions, t)
	return r.write(ctx, p, st, res, changes)
}

// unsettled are the marks of what the newest release wrote and nobody saw
// converge: whoever comes after it answers for that too.
func unsettled(releases []*Release) map[string]string {
	if len(releases) == 0 {
		return nil
	}
	r := releases[len(releases)-1]
	switch { // superseded and yet the newest: its successor was never recorded
	case r.Phase == PhaseProgressing, r.Phase == PhaseSuperseded, r.Phase == PhaseFailed && !r.index.back:
		return mergeMarks(r.index.changed, r.index.corrected)
	}
	return r.index.corrected
}

func mergeMarks(old, more map[string]string) map[string]string {
	m := maps.Clone(old)
	if m == nil {
		m = map[string]string{}
	}
	maps.Copy(m, more)
	return m
}

// settle records that what was corrected, or rolled back, has converged.
func (r *Reconciler) settle(ctx context.Context, p *pass, st *stackState, d Decision, res *Result) error {
	rel := *d.Release
	rel.index.corrected = nil
	t := Transition{Action: "drift-settled", Reason: d.Reason, Message: d.Message, Bad: d.Reason == "CorrectionIncomplete"}
	if rel.Phase == PhaseFailed {
		t = Transition{Action: "rolled-back", Reason: d.Reason, Message: d.Message, Bad: true}
		if len(d.Release.index.corrected) == 0 && st.backFrom != rel.Number {
			t.Begins = true // Swarm went back by itself
			t.Message = "nothing was to be written for it: " + t.Message
			if d.Brief != "" {
				d.Brief = "nothing was to be written for it: " + d.Brief
			}
		}
		t.brief, rel.index.back = d.Brief, true
	}
	res.Transitions = append(res.Transitions, t)
	return r.memory.update(ctx, p.stack.Name, &rel)
}

// write carries out changes, unless they were written before and did not stick:
// an engine that does not keep a field must not be written to for ever.
func (r *Reconciler) write(ctx context.Context, p *pass, st *stackState, res *Result, changes []Change) error {
	if c := notSticking(st, changes); c != nil {
		res.Outcome, res.Reason = Held, "NotSticking"
		res.Message = fmt.Sprintf("%s was written and is different again: %s (the engine, or something else, does not keep it: list it in x-skep.ignore, or find who writes it)", c.Name, fieldPaths(c))
		res.Requeue = time.Minute
		return nil
	}
	if len(changes) == 0 {
		return nil
	}
	defer r.observer.wrote(p.stack.Name)
	a := &applier{swarm: r.o.Swarm, creds: r.o.Credentials, owner: r.o.Owner, live: p.live}
	err := a.apply(ctx, changes)
	for id := range a.refused {
		st.refused[id] = refusal{r.time.steady(), st.refused[id].times + 1}
	}
	if err != nil {
		return err
	}
	res.Written = append(res.Written, changes...)
	for _, c := range changes {
		if f := fieldsKey(&c); f != "" {
			st.lastWrites[c.Name] = f
		}
	}
	return nil
}

// notSticking returns a change that was written before, just the same.
func notSticking(st *stackState, changes []Change) *Change {
	for i := range changes {
		if f := fieldsKey(&changes[i]); f != "" && st.lastWrites[changes[i].Name] == f {
			return &changes[i]
		}
	}
	return nil
}

// forgetWhatStuck drops the services that a look found as they were written.
func forgetWhatStuck(st *stackState, plan *Plan) {
	for name := range st.lastWrites {
		if !inPlan(plan, name) {
			delete(st.lastWrites, name)
		}
	}
}

func fieldsKey(c *Change) string {
	if c.Kind != KindService || c.Op != OpUpdate {
		return ""
	}
	return fmt.Sprint(c.Fields)
}

func fieldPaths(c *Change) string {
	text := ""
	for i, f := range c.Fields {
		if i > 0 {
			text += ", "
		}
		text += f.Path
	}
	return text
}

// goingBack leaves out of a plan that goes back what need not: what only differs in
// how updates go, which after a rollback is the overlay of withRollbackConfig, or
// what Swarm's own rollback left; and jobs, which a rollback never runs.
func goingBack(plan *Plan) *Plan {
	kept := plan.Changes[:0:0]
	for _, c := range plan.Changes {
		if c.Kind == KindService && c.Op == OpUpdate && onlyUpdateConfig(c.Fields) {
			continue
		}
		if isOfJob(c) {
			continue
		}
		kept = append(kept, c)
	}
	out := *plan
	out.Changes = kept
	out.Findings = slices.DeleteFunc(slices.Clone(plan.Findings), func(f spec.Finding) bool {
		return f.Code == "mode-changed" && !slices.ContainsFunc(kept, func(c Change) bool { return c.Op == OpReplace && c.Key == f.Service })
	})
	return &out
}

// isOfJob says that a change would run a job.
func isOfJob(c Change) bool {
	return c.Kind == KindService && c.Op != OpRemove && c.Spec != nil && isJob(c.Spec)
}

// withRollbackConfig makes services that go back, as which says, do so as their rollback_config
// says: the engine reads that only in its own rollback, so it goes where the
// engine looks now. A failure pauses; otherwise the engine would return to the
// very version that failed.
func withRollbackConfig(changes []Change, which func(name string) bool) []Change {
	out := make([]Change, len(changes))
	for i, c := range changes {
		if c.Kind == KindService && c.Op == OpUpdate && c.Spec != nil && !isJob(c.Spec) && which(c.Name) {
			s := cloneSpec(c.Spec)
			how := swarm.UpdateConfig{Parallelism: 1, Order: swarm.UpdateOrderStopFirst}
			switch {
			case s.RollbackConfig != nil:
				how = *s.RollbackConfig
			case s.UpdateConfig != nil:
				how = *s.UpdateConfig
			}
			how.FailureAction = swarm.UpdateFailureActionPause
			s.UpdateConfig = &how
			c.Spec = s
		}
		out[i] = c
	}
	return out
}

// A refusal is a removal that the engine refused, since something still uses the
// object: when, and how often by now.
type refusal struct {
	at    time.Time
	times int
}

// rest is how long after a refusal the removal is left alone: tasks that are being
// stopped need seconds, a container of somebody else's may stay for ever.
func (f refusal) rest(now time.Time) time.Duration {
	return f.at.Add(min(2*time.Second<<min(f.times, 8), 5*time.Minute)).Sub(now)
}

// withoutRefused leaves out removals that were refused a short while ago: they are
// no difference that a release, or its deadline, has to answer for. It says when
// the first of them may be tried again.
func withoutRefused(plan *Plan, refused map[string]refusal, now time.Time) (*Plan, time.Duration) {
	out, retry := *plan, time.Duration(0)
	out.Changes = nil
	for _, c := range plan.Changes {
		f, ok := refused[c.ID]
		rest := f.rest(now)
		if !ok || c.Op != OpRemove || c.Early || rest <= 0 {
			out.Changes = append(out.Changes, c)
			continue
		}
		if retry == 0 || rest < retry {
			retry = rest
		}
		out.Findings = append(slices.Clone(out.Findings), spec.Finding{Severity: spec.Warning, Code: "still-used",
			Message: fmt.Sprintf("%s %s left the file, and the engine says that it is in use: it goes later", c.Kind, c.Name)})
	}
	return &out, retry
}

func countChanges(p *Plan) string {
	if p.Empty() {
		return "nothing to write, live is as it shall be already and is watched anew"
	}
	n := map[Op]int{}
	restarts := 0
	for _, c := range p.Changes {
		n[c.Op]++
		if c.Restarts {
			restarts++
		}
	}
	text := fmt.Sprintf("%d to create, %d to update, %d to remove", n[OpCreate], n[OpUpdate], n[OpRemove])
	if n[OpReplace] > 0 {
		text = fmt.Sprintf("%d to create, %d to update, %d to replace, %d to remove", n[OpCreate], n[OpUpdate], n[OpReplace], n[OpRemove])
	}
	switch restarts {
	case 0:
		return text
	case 1:
		return text + "; 1 service restarts"
	}
	return fmt.Sprintf("%s; %d services restart", text, restarts)
}

// onlyUpdateConfig says whether fields differ in how updates and rollbacks go, and
// in nothing else.
func onlyUpdateConfig(fields []Field) bool {
	for _, f := range fields {
		if !strings.HasPrefix(f.Path, "deploy.update_config") && !strings.HasPrefix(f.Path, "deploy.rollback_config") {
			return false
		}
	}
	return len(fields) > 0
}
