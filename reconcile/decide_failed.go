package reconcile

import (
	"fmt"
	"slices"
	"time"

	"github.com/skep-io/skep/spec"
)

func decideFailed(s Situation, f *Release) Decision {
	back := goesBackTo(s.Releases, f)
	if f != last(s.Releases) {
		return Decision{Act: ActRefuse, Reason: f.Reason, Again: again, Release: f,
			Message: fmt.Sprintf("it failed before, as release %d: %s", f.Number, f.Message)}
	}
	t := telling{
		whole: fmt.Sprintf("release %d (%s) failed: %s", f.Number, f.Revision, f.Message),
		brief: fmt.Sprintf("release %d failed", f.Number),
	}
	switch {
	case holds(s.Policy.Rollout, s.Rollouts, f):
		return t.of(hold("ReleaseFailed", " (held as x-skep.rollout.on_failure says; it is tried again after: skep resume; or change the file)").about(f))
	case back == nil:
		return t.of(hold("ReleaseFailed", " (there is no other healthy release to go back to; it is tried again after: skep resume; or change the file)").about(f))
	}
	if name := anyVerdict(s.Health, "rollback_started"); name != "" && !overdue(s, f) {
		return t.of(wait("RollingBack", "; "+s.Health[name].Reason).about(f))
	}
	if name := rollbackFault(s, f); name != "" {
		return t.of(hold("RollbackFailed", "; the rollback to release "+fmt.Sprint(back.Number)+" failed too: "+s.Health[name].Reason).about(f))
	}
	if !s.Plan.Empty() {
		d := t.of(goBack(s, f, back))
		if d.Act == ActRollBack {
			d.Brief = fmt.Sprintf("to release %d (%s)%s, since release %d failed", back.Number, back.Revision, onlyWith(f), f.Number)
		}
		return d
	}
	return t.of(wentBack(s, f, back))
}

// A telling says that a release failed, why, and what is done about it.
type telling struct{ whole, brief string }

// of puts it before the message of a decision, which goes on from there.
func (t telling) of(d Decision) Decision {
	d.Message, d.Brief = t.whole+d.Message, t.brief+d.Message
	return d
}

// goesBackTo is the newest healthy release, where a failed one is another: what was
// healthy once, and failed when it was tried again, is not tried a third time.
func goesBackTo(releases []*Release, f *Release) *Release {
	if back := newest(releases, PhaseHealthy); back != nil && back.Digest != f.Digest {
		return back
	}
	return nil
}

// goBack writes what differs from the release that is gone back to, a wave at a time.
func goBack(s Situation, f, back *Release) Decision {
	switch {
	case f.index.back && s.Policy.Drift == spec.DriftReport && !tidies(s.Plan):
		return hold("Drifted", "; what went back has drifted in "+planNames(s.Plan)+" (x-skep.drift is report)").about(f)
	case !waveOpen(s, f.index.corrected, true) && !overdue(s, f):
		return wait("RollingBack", "; "+laggard(s.Health)).about(f)
	}
	return Decision{Act: ActRollBack, Reason: "RollingBack", Again: again, Release: f,
		Message: fmt.Sprintf("; going back%s to release %d (%s)", onlyWith(f), back.Number, back.Revision)}
}

// onlyWith names what goes back, where that is not all that a release changed.
func onlyWith(f *Release) string {
	if len(f.index.reverts) > 0 {
		return " with " + few(sortedKeys(f.index.reverts))
	}
	return ""
}

// wentBack waits for what was rolled back, and tells once when that has come to its end.
func wentBack(s Situation, f, back *Release) Decision {
	done := fmt.Sprintf("; release %d (%s) runs until the file changes, or: skep resume", back.Number, back.Revision)
	if len(f.index.reverts) > 0 {
		done = fmt.Sprintf("; %s went back to release %d (%s) until the file changes, or: skep resume", few(sortedKeys(f.index.reverts)), back.Number, back.Revision)
	}
	switch settled := f.index.back && len(f.index.corrected) == 0; {
	case settled:
		return hold("RolledBack", done).about(f)
	case allConverged(s.Health):
		return Decision{Act: ActSettle, Reason: "RolledBack", Message: done, Again: again, Release: f}
	case overdue(s, f):
		return Decision{Act: ActSettle, Reason: "RollbackIncomplete", Message: done + ", but not whole: " + laggard(s.Health), Again: again, Release: f}
	}
	return wait("RollingBack", "; "+laggard(s.Health)).about(f)
}

// rollbackFault names a service that went back and is at fault again: Swarm gave up on
// it or, when all has been written, it is Degraded by a cause of its own. Before that
// it may miss those that go back after it.
func rollbackFault(s Situation, f *Release) string {
	if name := verdictSince(s.Health, f.index.corrected); name != "" {
		return name
	}
	if !s.Plan.Empty() {
		return ""
	}
	for _, name := range sortedKeys(f.index.corrected) {
		if atFault(s.Health[name]) {
			return name
		}
	}
	return ""
}

// holds says that a failed release is left as it is: the policy of a service for which
// it failed says so or, where it failed for none, the stack's.
func holds(stack spec.Rollout, services map[string]spec.Rollout, f *Release) bool {
	if len(f.Failed) == 0 {
		return stack.OnFailure == spec.OnFailureHold
	}
	return slices.ContainsFunc(f.Failed, func(name string) bool {
		return rolloutOf(stack, services, name).OnFailure == spec.OnFailureHold
	})
}

// overdue says that a correction or a rollback has had as long as a rollout may
// take. Then it waits for nobody any more: a service that does not get well must
// not keep the others from going where they belong.
func overdue(s Situation, r *Release) bool {
	limit := s.Policy.Rollout.Deadline
	if limit <= 0 {
		limit = 10 * time.Minute
	}
	began := r.index.correctedAt
	if began.IsZero() {
		began = r.since()
	}
	return s.Now.Sub(began) > limit
}
