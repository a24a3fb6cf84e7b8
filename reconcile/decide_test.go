package reconcile

import (
	"strings"
	"testing"
	"time"

	"github.com/skep-io/skep/spec"
)

// Each row of Decide's table, in its order.
func TestDecide(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	update := &Plan{Changes: []Change{{Op: OpUpdate, Kind: KindService, Name: "s_web"}}}
	later := &Plan{Changes: []Change{{Op: OpUpdate, Kind: KindService, Name: "s_app", Wave: 1}}}
	broken := &Plan{Findings: []spec.Finding{{Severity: spec.Error, Code: "external-missing", Message: "it is not there"}}}
	release := func(n int, digest string, phase Phase) *Release {
		return &Release{Number: n, Digest: digest, Phase: phase, Started: now.Add(-time.Minute)}
	}
	with := func(r *Release, changed, corrected map[string]string) *Release {
		r.index.changed, r.index.corrected = changed, corrected
		return r
	}
	settled := func(r *Release) *Release {
		r.index.back = true
		return r
	}
	marks := map[string]string{"s_web": "1"}
	health := func(h ServiceHealth) map[string]ServiceHealth { return map[string]ServiceHealth{"s_web": h} }
	good := ServiceHealth{Status: Healthy, Converged: true, Mark: "2"}
	under := ServiceHealth{Status: HealthProgressing, Mark: "2", Reason: "web: 1 of 3 tasks run"}
	paused := ServiceHealth{Status: HealthDegraded, Mark: "2", Verdict: "paused", Reason: "web: paused"}
	before := ServiceHealth{Status: Healthy, Converged: true, Mark: "1", Verdict: "rollback_completed"}
	rolling := ServiceHealth{Status: HealthProgressing, Mark: "2", Verdict: "rollback_started", Reason: "web: rolling back"}
	held := spec.Policy{Rollout: spec.Rollout{OnFailure: spec.OnFailureHold}}
	short := spec.Policy{Rollout: spec.Rollout{Deadline: 30 * time.Second}}

	for _, c := range []struct {
		name   string
		s      Situation
		act    Act
		reason string
	}{
		{"suspended", Situation{Policy: spec.Policy{Suspend: true}, Plan: update}, ActHold, "Suspended"},
		{"the plan has an error", Situation{Plan: broken}, ActHold, "ExternalMissing"},

		{"failed, to be held", Situation{Policy: held, Releases: []*Release{release(1, "a", PhaseHealthy), release(2, "d", PhaseFailed)}, Plan: update}, ActHold, "ReleaseFailed"},
		{"failed, nothing healthy", Situation{Releases: []*Release{release(1, "d", PhaseFailed)}, Plan: update}, ActHold, "ReleaseFailed"},
		{"failed, Swarm rolls back", Situation{Releases: []*Release{release(1, "a", PhaseHealthy), release(2, "d", PhaseFailed)}, Plan: update, Health: health(rolling)}, ActWait, "RollingBack"},
		{"failed, the rollback too", Situation{Releases: []*Release{release(1, "a", PhaseHealthy), with(release(2, "d", PhaseFailed), nil, marks)}, Plan: update, Health: health(paused)}, ActHold, "RollbackFailed"},
		{"failed, to go back", Situation{Releases: []*Release{release(1, "a", PhaseHealthy), release(2, "d", PhaseFailed)}, Plan: update, Health: health(paused)}, ActRollBack, "RollingBack"},
		{"failed, going back", Situation{Releases: []*Release{release(1, "a", PhaseHealthy), with(release(2, "d", PhaseFailed), nil, marks)}, Plan: &Plan{}, Health: health(under)}, ActWait, "RollingBack"},
		{"failed, back", Situation{Releases: []*Release{release(1, "a", PhaseHealthy), with(release(2, "d", PhaseFailed), nil, marks)}, Plan: &Plan{}, Health: health(good)}, ActSettle, "RolledBack"},
		{"failed, back by Swarm", Situation{Releases: []*Release{release(1, "a", PhaseHealthy), release(2, "d", PhaseFailed)}, Plan: &Plan{}, Health: health(good)}, ActSettle, "RolledBack"},
		{"failed, back, not whole for too long", Situation{Policy: short, Releases: []*Release{release(1, "a", PhaseHealthy), release(2, "d", PhaseFailed)}, Plan: &Plan{}, Health: health(under)}, ActSettle, "RollbackIncomplete"},
		{"failed, and told", Situation{Releases: []*Release{release(1, "a", PhaseHealthy), settled(release(2, "d", PhaseFailed))}, Plan: &Plan{}, Health: health(good)}, ActHold, "RolledBack"},
		{"failed, told, drifted", Situation{Releases: []*Release{release(1, "a", PhaseHealthy), settled(release(2, "d", PhaseFailed))}, Plan: update, Health: health(good)}, ActRollBack, "RollingBack"},
		{"failed, told, drifted, to report", Situation{Policy: spec.Policy{Drift: spec.DriftReport}, Releases: []*Release{release(1, "a", PhaseHealthy), settled(release(2, "d", PhaseFailed))}, Plan: update, Health: health(good)}, ActHold, "Drifted"},

		{"first", Situation{Plan: update}, ActBegin, "FirstRelease"},
		{"first, another stack before", Situation{Plan: update, Blocked: "infra"}, ActWait, "DependencyNotReady"},
		{"adopt", Situation{Plan: &Plan{}, Exists: true}, ActAdopt, "Adopted"},
		{"adopt what differs", Situation{Plan: update, Exists: true}, ActSnapshot, "Adopted"},

		{"rollout, Swarm gave up", Situation{Releases: []*Release{with(release(1, "d", PhaseProgressing), marks, nil)}, Plan: &Plan{}, Health: health(paused)}, ActFail, "UpdatePaused"},
		{"rollout, Swarm gave up before it", Situation{Releases: []*Release{with(release(1, "d", PhaseProgressing), marks, nil)}, Plan: update, Health: health(before)}, ActContinue, "RollingOut"},
		{"rollout, done while nobody looked", Situation{Policy: short, Releases: []*Release{with(release(1, "d", PhaseProgressing), marks, nil)}, Plan: &Plan{}, Health: health(good)}, ActHeal, "Converged"},
		{"rollout, too long", Situation{Policy: short, Releases: []*Release{with(release(1, "d", PhaseProgressing), marks, nil)}, Plan: &Plan{}, Health: health(under)}, ActFail, "DeadlineExceeded"},
		{"rollout, next wave not yet", Situation{Releases: []*Release{with(release(1, "d", PhaseProgressing), marks, nil)}, Plan: later, Health: health(under)}, ActWait, "RollingOut"},
		{"rollout, next wave", Situation{Releases: []*Release{with(release(1, "d", PhaseProgressing), marks, nil)}, Plan: later, Health: health(good)}, ActContinue, "RollingOut"},
		{"rollout, going on", Situation{Releases: []*Release{with(release(1, "d", PhaseProgressing), marks, nil)}, Plan: &Plan{}, Health: health(under)}, ActWait, "RollingOut"},
		{"rollout, done", Situation{Releases: []*Release{with(release(1, "d", PhaseProgressing), marks, nil)}, Plan: &Plan{}, Health: health(good)}, ActHeal, "Converged"},

		{"drift, Swarm gave up", Situation{Releases: []*Release{with(release(1, "d", PhaseHealthy), nil, marks)}, Plan: update, Health: health(paused)}, ActHold, "CorrectionFailed"},
		{"in sync", Situation{Releases: []*Release{release(1, "d", PhaseHealthy)}, Plan: &Plan{}}, ActNothing, "InSync"},
		{"drift corrected", Situation{Releases: []*Release{with(release(1, "d", PhaseHealthy), nil, marks)}, Plan: &Plan{}, Health: health(good)}, ActSettle, "DriftCorrected"},
		{"drift under correction", Situation{Releases: []*Release{with(release(1, "d", PhaseHealthy), nil, marks)}, Plan: &Plan{}, Health: health(under)}, ActWait, "CorrectingDrift"},
		{"drift under correction for too long", Situation{Policy: short, Releases: []*Release{with(release(1, "d", PhaseHealthy), nil, marks)}, Plan: &Plan{}, Health: health(under)}, ActSettle, "CorrectionIncomplete"},
		{"drift, to report", Situation{Policy: spec.Policy{Drift: spec.DriftReport}, Releases: []*Release{release(1, "d", PhaseHealthy)}, Plan: update}, ActHold, "Drifted"},
		{"drift", Situation{Releases: []*Release{release(1, "d", PhaseHealthy)}, Plan: update, Health: health(good)}, ActCorrect, "Drifted"},

		{"new, Swarm gave up on the one before", Situation{Releases: []*Release{with(release(1, "a", PhaseProgressing), marks, nil)}, Plan: update, Health: health(paused)}, ActFail, "UpdatePaused"},
		{"a revert", Situation{Releases: []*Release{release(1, "d", PhaseHealthy), release(2, "a", PhaseFailed)}, Plan: &Plan{}}, ActAdopt, "SameRelease"},
		{"what failed before", Situation{Releases: []*Release{release(1, "a", PhaseHealthy), release(2, "d", PhaseFailed), release(3, "b", PhaseHealthy)}, Plan: update}, ActRefuse, ""},
		{"renders otherwise, means the same", Situation{Releases: []*Release{release(1, "a", PhaseHealthy)}, Plan: &Plan{}}, ActAdopt, "SameMeaning"},
		{"new, another stack before", Situation{Releases: []*Release{release(1, "a", PhaseHealthy)}, Plan: update, Blocked: "infra"}, ActWait, "DependencyNotReady"},
		{"new", Situation{Releases: []*Release{release(1, "a", PhaseHealthy)}, Plan: update}, ActBegin, "NewRevision"},
		{"new, amid another", Situation{Releases: []*Release{release(1, "a", PhaseProgressing)}, Plan: &Plan{}}, ActBegin, "NewRevision"},
		{"new, after a failed one", Situation{Releases: []*Release{release(1, "a", PhaseHealthy), release(2, "b", PhaseFailed)}, Plan: update}, ActBegin, "NewRevision"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.s.Now, c.s.Digest, c.s.Source = now, "d", "src"
			if d := Decide(c.s); d.Act != c.act || d.Reason != c.reason {
				t.Errorf("%s %s (%s), want %s %s", d.Act, d.Reason, d.Message, c.act, c.reason)
			}
		})
	}
}

func TestQuarantine(t *testing.T) {
	healthy := &Release{Number: 1, Digest: "a", Source: "sa", Phase: PhaseHealthy}
	failed := &Release{Number: 2, Digest: "b", Source: "sb", Phase: PhaseFailed}
	for _, c := range []struct {
		name, digest, source string
		want                 *Release
	}{
		{"its digest", "b", "other", failed},
		{"its source, rendered by another skep", "other", "sb", failed},
		{"another", "c", "sc", nil},
		{"the healthy one", "a", "sa", nil},
		{"nothing known of the source", "c", "", nil},
	} {
		if got := Quarantined([]*Release{healthy, failed}, c.digest, c.source, 0); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestStep(t *testing.T) {
	p := &Plan{Changes: []Change{
		{Op: OpCreate, Kind: KindNetwork, Name: "n"},
		{Op: OpRemove, Kind: KindService, Name: "early", Early: true},
		{Op: OpUpdate, Kind: KindService, Name: "db"},
		{Op: OpUpdate, Kind: KindService, Name: "web", Wave: 1},
		{Op: OpRemove, Kind: KindService, Name: "old"},
	}}
	names := func(changes []Change) string {
		var s []string
		for _, c := range changes {
			s = append(s, c.Name)
		}
		return strings.Join(s, " ")
	}
	if got := names(step(p, false)); got != "n early db" {
		t.Errorf("first: %s", got)
	}
	if got := names(step(p, true)); got != "n early web" {
		t.Errorf("first of a rollback: %s", got)
	}
	if got := names(step(&Plan{Changes: p.Changes[4:]}, false)); got != "old" {
		t.Errorf("last: %s", got)
	}
}
