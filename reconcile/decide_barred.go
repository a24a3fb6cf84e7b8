package reconcile

import (
	"fmt"
	"slices"

	"github.com/skep-io/skep/spec"
)

// decideBarred is about a plan that must not be written: the policy forbids it by now, an
// external object is gone. Nothing of it is. What was written of a release before is
// judged all the same: whoever made the rest be refused did not ask for a sick version to
// be left running. Of a failed release whose way back is barred both is told.
func decideBarred(s Situation, bad *spec.Finding) Decision {
	held := hold(camel(bad.Code), bad.Message)
	r := last(s.Releases)
	if f := Quarantined(s.Releases, s.Digest, s.Source, s.State.Pardoned); f != nil && f == r {
		return barredWayBack(s, f, held)
	}
	if r == nil {
		return held
	}
	q := s
	q.Plan = s.Plan.unheld()
	if f := wentBad(q, r); f != nil {
		return f.fails(r)
	}
	return held
}

// wentBad says why a release has failed of which nothing more can be written. That the
// rest of it is missing is not held against it.
func wentBad(s Situation, r *Release) *fault {
	switch {
	case r.Phase == PhaseProgressing && r.Digest != s.Digest:
		return gaveUp(s, r)
	case r.Phase == PhaseProgressing:
		if f := objection(s, r); f != nil || len(underWay(s, r.index.changed)) == 0 {
			return f
		}
		return late(s, r)
	case r.Phase == PhaseHealthy && r.Digest == s.Digest:
		f, _ := guard(s, r)
		return f
	}
	return nil
}

// barredWayBack tells of a failed release that cannot be taken back.
func barredWayBack(s Situation, f *Release, held Decision) Decision {
	back := goesBackTo(s.Releases, f)
	if back == nil || holds(s.Policy.Rollout, s.Rollouts, f) {
		return decideFailed(s, f) // which asks for nothing to be written
	}
	if !s.Back {
		return held.about(f)
	}
	t := telling{
		whole: fmt.Sprintf("release %d (%s) failed: %s", f.Number, f.Revision, f.Message),
		brief: fmt.Sprintf("release %d failed", f.Number),
	}
	held.Message = fmt.Sprintf("; it cannot go back to release %d (%s): %s", back.Number, back.Revision, held.Message)
	return t.of(held.about(f))
}

// unheld is a plan as it was before its errors.
func (p *Plan) unheld() *Plan {
	out := *p
	out.Changes, out.Held = slices.Concat(p.Changes, p.Held), nil
	return &out
}
