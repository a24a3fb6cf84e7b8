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
	baked := spec.Policy{Rollout: spec.Rollout{Deadline: 30 * time.Second, Bake: time.Minute, Guard: 10 * time.Minute}}
	sick := ServiceHealth{Status: HealthDegraded, Cause: CauseOwn, Code: CodeCrashLoop, Mark: "2", Reason: "web: crashes"}
	lost := ServiceHealth{Status: HealthDegraded, Cause: CauseWorld, Code: CodeNodeLost, Mark: "2", Reason: "web: lost"}
	stopped := ServiceHealth{Status: HealthDegraded, Cause: CauseWorld, Verdict: "paused", Mark: "2", Reason: "web: lost"}
	rolledBack := ServiceHealth{Status: Healthy, Converged: true, Cause: CauseOwn, Verdict: "rollback_completed", Mark: "2"}
	whole := ServiceHealth{Status: Healthy, Converged: true, Mark: "2", Since: now.Add(-20 * time.Second)}
	converged := func(r *Release, ago time.Duration) *Release {
		r.Converged, r.Started = now.Add(-ago), now.Add(-ago-20*time.Second)
		return r
	}
	ended := func(r *Release, ago time.Duration) *Release {
		r.Ended = now.Add(-ago)
		return r
	}
	hand := func(r *Release, of int) *Release {
		r.By, r.Of = ByHand, of
		return r
	}
	old := release(1, "a", PhaseHealthy)
	both := func(web, db ServiceHealth) map[string]ServiceHealth {
		return map[string]ServiceHealth{"s_web": web, "s_db": db}
	}
	pinTo := State{Pinned: now.Add(-time.Hour), Pin: 1}
	create := &Plan{Changes: []Change{{Op: OpCreate, Kind: KindService, Name: "s_db"}}}

	for _, c := range []struct {
		name   string
		s      Situation
		act    Act
		reason string
	}{
		{"suspended", Situation{Policy: spec.Policy{Suspend: true}, Plan: update}, ActHold, "Suspended"},
		{"suspended by hand", Situation{State: State{Suspended: now.Add(-time.Hour), Why: "the database moves"}, Plan: update}, ActHold, "Suspended"},
		{"pinned, the file has changed", Situation{State: pinTo, PinEnds: true, Plan: broken}, ActUnpin, "PinEnded"},
		{"suspended, pinned, the file has changed", Situation{State: State{Suspended: now, Pinned: now}, PinEnds: true, Plan: update}, ActHold, "Suspended"},
		{"pinned to what is lost", Situation{State: pinTo, Plan: update}, ActHold, "PinLost"},
		{"pinned, to be written", Situation{State: pinTo, Pinned: release(1, "d", PhaseHealthy), Back: true, Releases: []*Release{release(1, "d", PhaseHealthy), release(2, "a", PhaseHealthy)}, Plan: update, Blocked: "infra"}, ActBegin, "Pinned"},
		{"pinned, amid a bake", Situation{Policy: baked, State: pinTo, Pinned: release(1, "d", PhaseHealthy), Back: true, Releases: []*Release{release(1, "d", PhaseHealthy), converged(with(release(2, "a", PhaseProgressing), marks, nil), 10*time.Second)}, Plan: update, Health: health(whole)}, ActBegin, "Pinned"},
		{"pinned, and there", Situation{State: pinTo, Pinned: release(1, "d", PhaseHealthy), Back: true, Releases: []*Release{release(2, "a", PhaseHealthy), hand(release(3, "d", PhaseHealthy), 1)}, Plan: &Plan{}}, ActNothing, "Pinned"},
		{"pinned, and runs as the fallback already", Situation{State: pinTo, Pinned: old, Back: true, Releases: []*Release{release(1, "d", PhaseHealthy), settled(release(2, "a", PhaseFailed))}, Plan: &Plan{}}, ActAdopt, "SameRelease"},
		{"the plan has an error", Situation{Plan: broken}, ActHold, "ExternalMissing"},
		{"an error, what was written is well", Situation{Policy: short, Releases: []*Release{old, with(release(2, "d", PhaseProgressing), marks, nil)}, Plan: broken, Health: health(good)}, ActHold, "ExternalMissing"},
		{"an error, what was written is sick", Situation{Releases: []*Release{old, with(release(2, "d", PhaseProgressing), marks, nil)}, Plan: broken, Health: health(sick)}, ActFail, CodeCrashLoop},
		{"an error, what was written takes too long", Situation{Policy: short, Releases: []*Release{old, with(release(2, "d", PhaseProgressing), marks, nil)}, Plan: broken, Health: health(under)}, ActFail, "DeadlineExceeded"},
		{"an error, Swarm gave up on another digest", Situation{Releases: []*Release{old, with(release(2, "x", PhaseProgressing), marks, nil)}, Plan: broken, Health: health(paused)}, ActFail, "UpdatePaused"},
		{"an error, failed, to be held", Situation{Policy: held, Releases: []*Release{old, release(2, "d", PhaseFailed)}, Plan: broken}, ActHold, "ReleaseFailed"},
		{"an error in the way back", Situation{Back: true, Releases: []*Release{old, release(2, "d", PhaseFailed)}, Plan: broken}, ActHold, "ExternalMissing"},

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

		{"failed, the rollback is sick", Situation{Releases: []*Release{old, with(release(2, "d", PhaseFailed), nil, marks)}, Plan: &Plan{}, Health: health(sick)}, ActHold, "RollbackFailed"},
		{"failed, the rollback is sick, not all is written", Situation{Releases: []*Release{old, with(release(2, "d", PhaseFailed), nil, marks)}, Plan: later, Back: true, Health: health(sick)}, ActRollBack, "RollingBack"},
		{"failed, the world is sick", Situation{Policy: spec.Policy{Rollout: spec.Rollout{Deadline: time.Hour}}, Releases: []*Release{old, with(release(2, "d", PhaseFailed), nil, marks)}, Plan: &Plan{}, Health: health(lost)}, ActWait, "RollingBack"},
		{"failed for a service to be held", Situation{Rollouts: map[string]spec.Rollout{"s_web": held.Rollout}, Releases: []*Release{old, failedFor(release(2, "d", PhaseFailed), "s_web")}, Plan: update}, ActHold, "ReleaseFailed"},
		{"failed for a service not to be held", Situation{Policy: held, Rollouts: map[string]spec.Rollout{"s_web": {}}, Releases: []*Release{old, failedFor(release(2, "d", PhaseFailed), "s_web")}, Plan: update}, ActRollBack, "RollingBack"},
		{"failed, pardoned", Situation{State: State{Pardoned: 2}, Releases: []*Release{old, settled(release(2, "d", PhaseFailed))}, Plan: update, Health: health(good)}, ActBegin, "Pardoned"},
		{"failed, held, pardoned, nothing to write", Situation{Policy: held, State: State{Pardoned: 2}, Releases: []*Release{old, release(2, "d", PhaseFailed)}, Plan: &Plan{}, Health: health(good)}, ActBegin, "Pardoned"},
		{"failed again after it was pardoned", Situation{State: State{Pardoned: 2}, Releases: []*Release{old, release(2, "d", PhaseFailed), release(3, "d", PhaseFailed)}, Plan: update}, ActRollBack, "RollingBack"},

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

		{"rollout, sick", Situation{Releases: []*Release{with(release(1, "d", PhaseProgressing), marks, nil)}, Plan: &Plan{}, Health: health(sick)}, ActFail, CodeCrashLoop},
		{"rollout, sick as it was, to be written", Situation{Releases: []*Release{with(release(1, "d", PhaseProgressing), marks, nil)}, Plan: update, Health: health(sick)}, ActContinue, "RollingOut"},
		{"rollout, another is sick", Situation{Releases: []*Release{with(release(1, "d", PhaseProgressing), marks, nil)}, Plan: &Plan{}, Health: both(good, sick)}, ActHeal, "Converged"},
		{"rollout, a node is lost", Situation{Releases: []*Release{with(release(1, "d", PhaseProgressing), marks, nil)}, Plan: &Plan{}, Health: health(lost)}, ActWait, "RollingOut"},
		{"rollout, a node is lost for too long", Situation{Policy: short, Releases: []*Release{with(release(1, "d", PhaseProgressing), marks, nil)}, Plan: &Plan{}, Health: health(lost)}, ActFail, "DeadlineExceeded"},
		{"rollout, paused since a node is lost", Situation{Releases: []*Release{with(release(1, "d", PhaseProgressing), marks, nil)}, Plan: update, Health: health(stopped)}, ActContinue, "RollingOut"},
		{"rollout, Swarm paused what somebody else wrote", Situation{Releases: []*Release{with(release(1, "d", PhaseProgressing), marks, nil)}, Plan: update, Health: health(paused)}, ActContinue, "RollingOut"},
		{"rollout, Swarm took back what somebody else wrote", Situation{Releases: []*Release{with(release(1, "d", PhaseProgressing), marks, nil)}, Plan: &Plan{}, Health: health(rolledBack)}, ActHeal, "Converged"},
		{"rollout, Swarm took it back", Situation{Releases: []*Release{with(release(1, "d", PhaseProgressing), marks, nil)}, Plan: update, Health: health(rolledBack)}, ActFail, "SwarmRolledBack"},
		{"rollout, converged, to bake", Situation{Policy: baked, Releases: []*Release{with(release(1, "d", PhaseProgressing), marks, nil)}, Plan: &Plan{}, Health: health(whole)}, ActBake, "Baking"},
		{"rollout, bakes", Situation{Policy: baked, Releases: []*Release{converged(with(release(1, "d", PhaseProgressing), marks, nil), 20*time.Second)}, Plan: &Plan{}, Health: health(whole)}, ActWait, "Baking"},
		{"rollout, baked", Situation{Policy: baked, Releases: []*Release{converged(with(release(1, "d", PhaseProgressing), marks, nil), time.Minute)}, Plan: &Plan{}, Health: health(good)}, ActHeal, "Converged"},
		{"rollout, baked, whole again for a short while", Situation{Policy: baked, Releases: []*Release{converged(with(release(1, "d", PhaseProgressing), marks, nil), 70*time.Second)}, Plan: &Plan{}, Health: health(whole)}, ActWait, "Baking"},
		{"rollout, baked twice, whole again for a short while", Situation{Policy: baked, Releases: []*Release{converged(with(release(1, "d", PhaseProgressing), marks, nil), 2*time.Minute)}, Plan: &Plan{}, Health: health(whole)}, ActHeal, "Converged"},
		{"rollout, seen broken when it was to have baked", Situation{Policy: baked, Broken: now.Add(-30 * time.Second), Releases: []*Release{converged(with(release(1, "d", PhaseProgressing), marks, nil), 70*time.Second)}, Plan: &Plan{}, Health: health(good)}, ActWait, "Baking"},
		{"rollout, seen broken, and whole for a bake", Situation{Policy: baked, Broken: now.Add(-time.Minute), Releases: []*Release{converged(with(release(1, "d", PhaseProgressing), marks, nil), 2*time.Minute)}, Plan: &Plan{}, Health: health(good)}, ActHeal, "Converged"},
		{"rollout, seen broken after the first bake and the deadline", Situation{Policy: baked, Broken: now.Add(-time.Second), Releases: []*Release{converged(with(release(1, "d", PhaseProgressing), marks, nil), 151*time.Second)}, Plan: &Plan{}, Health: health(good)}, ActHeal, "Converged"},
		{"rollout, sick in the bake", Situation{Policy: baked, Releases: []*Release{converged(with(release(1, "d", PhaseProgressing), marks, nil), 20*time.Second)}, Plan: &Plan{}, Health: health(sick)}, ActFail, CodeCrashLoop},
		{"rollout, not whole in the bake", Situation{Policy: baked, Releases: []*Release{converged(with(release(1, "d", PhaseProgressing), marks, nil), 70*time.Second)}, Plan: &Plan{}, Health: health(under)}, ActWait, "RollingOut"},
		{"rollout, not whole since the bake, for too long", Situation{Policy: baked, Releases: []*Release{converged(with(release(1, "d", PhaseProgressing), marks, nil), 91*time.Second)}, Plan: &Plan{}, Health: health(under)}, ActFail, "DeadlineExceeded"},
		{"rollout, drifted in the bake", Situation{Policy: baked, Releases: []*Release{converged(with(release(1, "d", PhaseProgressing), marks, nil), 20*time.Second)}, Plan: update, Health: health(good)}, ActContinue, "RollingOut"},

		{"guard, sick", Situation{Policy: baked, Releases: []*Release{old, ended(with(release(2, "d", PhaseHealthy), marks, nil), time.Minute)}, Plan: &Plan{}, Health: health(sick)}, ActFail, CodeCrashLoop},
		{"guard, over", Situation{Policy: baked, Releases: []*Release{old, ended(with(release(2, "d", PhaseHealthy), marks, nil), 11*time.Minute)}, Plan: &Plan{}, Health: health(sick)}, ActNothing, CodeCrashLoop},
		{"guard, off", Situation{Releases: []*Release{old, ended(with(release(2, "d", PhaseHealthy), marks, nil), time.Minute)}, Plan: &Plan{}, Health: health(sick)}, ActNothing, CodeCrashLoop},
		{"guard, of another service", Situation{Policy: baked, Rollouts: map[string]spec.Rollout{"s_web": {}}, Releases: []*Release{old, ended(with(release(2, "d", PhaseHealthy), marks, nil), time.Minute)}, Plan: &Plan{}, Health: health(sick)}, ActNothing, CodeCrashLoop},
		{"guard, an unchanged service is sick", Situation{Policy: baked, Releases: []*Release{old, ended(with(release(2, "d", PhaseHealthy), marks, nil), time.Minute)}, Plan: &Plan{}, Health: both(good, sick)}, ActNothing, CodeCrashLoop},
		{"guard, an unchanged service is sick too", Situation{Policy: baked, Releases: []*Release{old, ended(with(release(2, "d", PhaseHealthy), marks, nil), time.Minute)}, Plan: &Plan{}, Health: both(sick, sick)}, ActNothing, CodeCrashLoop},
		{"guard, a service is missing", Situation{Policy: baked, Releases: []*Release{old, ended(with(release(2, "d", PhaseHealthy), marks, nil), time.Minute)}, Plan: create, Health: health(sick)}, ActCorrect, "Drifted"},
		{"guard, a node is lost", Situation{Policy: baked, Lost: map[string]time.Time{"n2": now}, Releases: []*Release{old, ended(with(release(2, "d", PhaseHealthy), marks, nil), time.Minute)}, Plan: &Plan{}, Health: health(sick)}, ActNothing, CodeCrashLoop},
		{"guard, a node was lost long before", Situation{Policy: baked, Lost: map[string]time.Time{"n2": now.Add(-time.Hour)}, Releases: []*Release{old, ended(with(release(2, "d", PhaseHealthy), marks, nil), time.Minute)}, Plan: &Plan{}, Health: health(sick)}, ActFail, CodeCrashLoop},
		{"guard, the world's doing", Situation{Policy: baked, Releases: []*Release{old, ended(with(release(2, "d", PhaseHealthy), marks, nil), time.Minute)}, Plan: &Plan{}, Health: health(lost)}, ActNothing, CodeNodeLost},
		{"guard, nothing to go back to", Situation{Policy: baked, Releases: []*Release{ended(with(release(1, "d", PhaseHealthy), marks, nil), time.Minute)}, Plan: &Plan{}, Health: health(sick)}, ActNothing, CodeCrashLoop},
		{"guard, failures are held", Situation{Policy: spec.Policy{Rollout: spec.Rollout{Guard: time.Hour, OnFailure: spec.OnFailureHold}}, Releases: []*Release{old, ended(with(release(2, "d", PhaseHealthy), marks, nil), time.Minute)}, Plan: &Plan{}, Health: health(sick)}, ActNothing, CodeCrashLoop},

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
		{"new, amid a bake that passes", Situation{Policy: baked, Releases: []*Release{converged(with(release(1, "a", PhaseProgressing), marks, nil), 10*time.Second)}, Plan: update, Health: health(whole)}, ActWait, "Baking"},
		{"new, after a bake that passed", Situation{Policy: baked, Releases: []*Release{converged(with(release(1, "a", PhaseProgressing), marks, nil), time.Minute)}, Plan: update, Health: health(good)}, ActHeal, "Converged"},
		{"new, amid a bake that does not pass", Situation{Policy: baked, Releases: []*Release{converged(with(release(1, "a", PhaseProgressing), marks, nil), 10*time.Second)}, Plan: update, Health: health(under)}, ActBegin, "NewRevision"},
		{"new, amid a bake that fails", Situation{Policy: baked, Releases: []*Release{converged(with(release(1, "a", PhaseProgressing), marks, nil), 10*time.Second)}, Plan: update, Health: health(sick)}, ActFail, CodeCrashLoop},
		{"what failed before, amid a bake that passes", Situation{Policy: baked, Releases: []*Release{release(1, "d", PhaseFailed), converged(with(release(2, "a", PhaseProgressing), marks, nil), 10*time.Second)}, Plan: update, Health: health(whole)}, ActWait, "Baking"},
		{"means what failed and was left", Situation{Policy: held, Releases: []*Release{old, release(2, "b", PhaseFailed)}, Plan: &Plan{}, Health: health(good)}, ActBegin, "NewRevision"},
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

func failedFor(r *Release, services ...string) *Release {
	r.Failed = services
	return r
}

// A service has a policy of its own, and a release is judged by those of the services
// that it changed.
func TestPoliciesOfServices(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	rel := &Release{Number: 1, Digest: "d", Phase: PhaseProgressing, Started: now}
	rel.index.changed = map[string]string{"s_db": "-", "s_web": "-", "s_log": "-"}
	s := Situation{
		Digest: "d", Releases: []*Release{rel}, Plan: &Plan{},
		Policy:   spec.Policy{Rollout: spec.Rollout{Deadline: 10 * time.Minute, Bake: time.Minute}},
		Rollouts: map[string]spec.Rollout{"s_db": {Deadline: 30 * time.Minute, Bake: 5 * time.Minute}, "s_log": {Deadline: time.Minute}, "s_other": {Deadline: time.Hour, Bake: time.Hour}},
	}
	on := ServiceHealth{Status: HealthProgressing, Reason: "on its way"}
	web := on
	web.Wave = 1
	well := ServiceHealth{Status: Healthy, Converged: true}
	for _, c := range []struct {
		name   string
		after  time.Duration
		health map[string]ServiceHealth
		act    Act
		failed string
	}{
		{"within all deadlines", time.Minute, map[string]ServiceHealth{"s_db": on, "s_web": web, "s_log": on}, ActWait, ""},
		{"one has a shorter one", 2 * time.Minute, map[string]ServiceHealth{"s_db": on, "s_web": web, "s_log": on}, ActFail, "s_log"},
		{"one has a longer one, and another waits for it", 20 * time.Minute, map[string]ServiceHealth{"s_db": on, "s_web": web, "s_log": well}, ActWait, ""},
		{"and that has passed", 31 * time.Minute, map[string]ServiceHealth{"s_db": on, "s_web": web, "s_log": well}, ActFail, "s_db,s_web"},
		{"all have converged", time.Minute, map[string]ServiceHealth{"s_db": well, "s_web": well, "s_log": well}, ActBake, ""},
	} {
		s.Now, s.Health = now.Add(c.after), c.health
		if d := Decide(s); d.Act != c.act || strings.Join(d.Failed, ",") != c.failed {
			t.Errorf("%s: %s %s for %v: %s", c.name, d.Act, d.Reason, d.Failed, d.Message)
		}
	}
	if got := bakeOf(s, rel); got != 5*time.Minute {
		t.Errorf("it bakes for %s, its longest is 5m", got)
	}
}

// What is still to be written is not to blame for a deadline.
func TestWhoWaitsIsNotToBlame(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	rel := &Release{Number: 1, Digest: "d", Phase: PhaseProgressing, Started: now.Add(-time.Hour)}
	rel.index.changed = map[string]string{"s_db": "-", "s_web": "-"}
	d := Decide(Situation{
		Now: now, Digest: "d", Releases: []*Release{rel}, Policy: spec.Policy{Rollout: spec.Rollout{Deadline: time.Minute}},
		Plan:   &Plan{Changes: []Change{{Op: OpUpdate, Kind: KindService, Name: "s_web", Wave: 1}}},
		Health: map[string]ServiceHealth{"s_db": {Status: HealthProgressing}, "s_web": {Status: Healthy, Converged: true, Wave: 1}},
	})
	if d.Act != ActFail || strings.Join(d.Failed, ",") != "s_db" {
		t.Errorf("%s for %v", d.Act, d.Failed)
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
		if got := Quarantined([]*Release{healthy, failed}, c.digest, c.source, failed.Number); got != nil {
			t.Errorf("%s, pardoned: %v", c.name, got)
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
