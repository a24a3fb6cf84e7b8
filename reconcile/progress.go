package reconcile

import (
	"time"

	"github.com/skep-io/skep/spec"
)

// Steps of what is under way.
const (
	StepConverge = "converging"     // a release is being written, or its tasks start
	StepBake     = "baking"         // it has converged, and is watched before it counts as healthy
	StepBack     = "going back"     // an earlier release is being written
	StepCorrect  = "correcting"     // drift is put right
	overdueAfter = 10 * time.Minute // how long the last two may take where a stack sets no deadline
)

// Progress is what is under way in a stack, since when, and how long it can still take.
type Progress struct {
	Step  string    `json:"step"`
	Since time.Time `json:"since"`
	// Until is when it is over at the latest, one way or the other; zero where nothing
	// bounds it.
	Until time.Time `json:"until,omitzero"`
}

// progressOf is what is under way by what is remembered, nil for nothing. It knows no
// file: how long things may take is what the file said when the release began.
func progressOf(releases []*Release) *Progress {
	if len(releases) == 0 {
		return nil
	}
	r := releases[len(releases)-1]
	p := &Progress{}
	var limit time.Duration
	switch {
	case r.Phase == PhaseProgressing && r.Converged.IsZero():
		p.Step, p.Since, limit = StepConverge, r.begun(), r.index.deadline
	case r.Phase == PhaseProgressing:
		p.Step, p.Since, limit = StepBake, r.Converged, r.index.bake
	case len(r.index.corrected) == 0:
		return nil
	default:
		p.Step, p.Since, limit = StepCorrect, r.index.correctedAt, r.index.deadline
		if r.Phase == PhaseFailed {
			p.Step = StepBack
		}
		if limit <= 0 {
			limit = overdueAfter
		}
	}
	if limit > 0 {
		p.Until = p.Since.Add(limit)
	}
	return p
}

// bakedBy is when a release that bakes will have done so, by what was recorded of it and,
// for want of better, by what tasks say of when they came up.
func bakedBy(rel *Release, health map[string]ServiceHealth, now time.Time) time.Time {
	s := Situation{Policy: spec.Policy{Rollout: spec.Rollout{Bake: rel.index.bake, Deadline: rel.index.deadline}}, Health: health}
	for name := range rel.index.changed {
		if since := health[name].Since; since.Before(now) && since.After(s.Broken) {
			s.Broken = since
		}
	}
	return bakeEnd(s, rel)
}

// tellProgress adds to a result what is under way, and what people ask of the stack.
func (r *Reconciler) tellProgress(res *Result, p *pass) {
	releases, state, ok := r.memory.latest(p.stack.Name)
	if !ok {
		releases = p.releases
	}
	res.State = state
	if state.IsSuspended() {
		return
	}
	if res.Progress = progressOf(releases); res.Progress != nil && res.Progress.Step == StepBake {
		res.Progress.Until = bakedBy(last(releases), p.health, r.o.Now())
	}
}
