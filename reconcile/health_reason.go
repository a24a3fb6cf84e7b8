package reconcile

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/docker/docker/api/types/swarm"
)

// tell adds to a verdict what is the matter, since when, and what helps.
func (h *ServiceHealth) tell(name string, x *exam) {
	worst := worstOfSymptoms(x.symptoms)
	switch {
	case h.Verdict != "":
		h.tellVerdict(name, x)
	case h.Converged && worst == nil:
		h.Code, h.Since = CodeConverged, x.wholeSince()
	case worst != nil:
		h.Code, h.Cause, h.Since, h.Until = worst.code, worst.cause, worst.since, worst.until
		h.Reason = name + ": " + worst.sentence(h.Desired)
		if h.Converged {
			h.Reason += ", which deploy.update_config.max_failure_ratio allows"
		}
	case isJob(&x.s.Spec):
		h.Code, h.Reason = CodeScaling, fmt.Sprintf("%s: %d of %d tasks completed", name, h.Running, h.Desired)
	case h.Running < h.Desired:
		h.Code, h.Reason = CodeScaling, fmt.Sprintf("%s: %d of %d tasks run", name, h.Running, h.Desired)
	case x.old > 0:
		h.Code, h.Since = CodeUpdating, x.wholeSince()
		h.Reason = fmt.Sprintf("%s: all %d new tasks run, %d old ones are being stopped", name, h.Desired, x.old)
	case updaterDone(x.s):
		h.Code, h.Reason = CodeScaling, name+": its first tasks are being made"
	default:
		h.Code, h.Since = CodeUpdating, x.wholeSince()
		h.Reason = fmt.Sprintf("%s: all %d tasks run, Swarm still watches the update", name, h.Desired)
	}
}

// sentence tells of how many tasks what holds: state, nodes, error and remedy.
func (y *symptom) sentence(of uint64) string {
	text := fmt.Sprintf("%s%d of %d tasks %s", y.of, y.slots, of, y.state)
	if len(y.nodes) > 0 {
		text += " on " + fewOf(y.nodes)
	}
	text = strings.TrimSuffix(text, ",")
	if y.text != "" {
		text += ": " + y.text
	}
	if y.remedy != "" {
		text += " (" + y.remedy + ")"
	}
	return text
}

// tellVerdict tells of what the tasks died, and that Swarm gave up on their update for
// it. Swarm's own words name but a task's ID: they are told where nothing else is known.
func (h *ServiceHealth) tellVerdict(name string, x *exam) {
	what := ""
	switch h.Verdict {
	case string(swarm.UpdateStatePaused):
		h.Code, what = CodeUpdatePaused, "Swarm paused the update"
	case string(swarm.UpdateStateRollbackStarted):
		h.Code, what = CodeSwarmRolledBack, "Swarm takes the update back"
	case string(swarm.UpdateStateRollbackCompleted):
		h.Code, what = CodeSwarmRolledBack, "Swarm took the update back"
	case string(swarm.UpdateStateRollbackPaused):
		h.Code, what = CodeRollbackPaused, "Swarm's rollback failed and is paused, versions are mixed"
	}
	st := x.s.UpdateStatus
	h.Cause, h.Since = CauseOwn, value(st.StartedAt, time.Time{})
	if st.CompletedAt != nil {
		h.Since = *st.CompletedAt
	}
	y := x.culprit(h.Verdict)
	if y != nil && y.gravity > gravityWaiting {
		what = y.sentence(h.Desired) + "; " + what
	} else {
		if st.Message != "" {
			what += ": " + st.Message
		}
		if y != nil {
			what += "; " + y.sentence(h.Desired)
		}
	}
	if y != nil {
		h.blame(y)
	}
	h.Reason = name + ": " + what
}

// blame puts a verdict of Swarm's down to what its tasks died of, or wait for.
func (h *ServiceHealth) blame(y *symptom) {
	if y.gravity == gravityDied || y.gravity == gravityFailing {
		h.Died = y.code
	}
	if h.Died == CodeRestarting { // nobody will, for this update
		h.Died = CodeCrashed
	}
	if h.Cause = orElse(y.cause, CauseOwn); h.Verdict == string(swarm.UpdateStatePaused) || h.Verdict == string(swarm.UpdateStateRollbackPaused) {
		h.Since = y.since // since when it pauses is not told
	}
}

// culprit is what most of the tasks died of on which Swarm gave up: those of the
// current spec or, where it went back, of the one before; or what they wait for. What
// Swarm made in the place of a dead one may happen to run at this moment: that it gave
// up is still for the one that died.
func (x *exam) culprit(verdict string) *symptom {
	worst := worstOfSymptoms(x.symptoms)
	switch verdict {
	case string(swarm.UpdateStateRollbackStarted), string(swarm.UpdateStateRollbackCompleted):
		return cmp.Or(x.diedIn(slotsOf(x.s, x.tasks.Old, x.nodes)), worst)
	case string(swarm.UpdateStatePaused), string(swarm.UpdateStateRollbackPaused):
		if worst == nil || worst.gravity <= gravityWaiting {
			var all [][]*swarm.Task
			for i := range x.slots {
				all = append(all, x.slots[i].tasks)
			}
			return cmp.Or(x.diedIn(all), worst)
		}
	}
	return worst
}

// diedIn is what most of the tasks in slots died of last, nil where none did.
func (x *exam) diedIn(slots [][]*swarm.Task) *symptom {
	var all []symptom
	for _, list := range slots {
		if deaths := x.inARow(list); len(deaths) > 0 {
			y := x.death(&slot{tasks: list, deaths: deaths[:1]})
			y.slots = 1
			all = append(all, y)
		}
	}
	return worstOfSymptoms(all)
}

// wholeSince is when the last of the tasks came up or, where none is wanted, when the
// service was written.
func (x *exam) wholeSince() time.Time {
	var whole time.Time
	for i := range x.slots {
		if t := x.slots[i].up; t != nil && since(t).After(whole) {
			whole = since(t)
		}
	}
	if st := x.s.UpdateStatus; st != nil && st.CompletedAt != nil && st.CompletedAt.After(whole) {
		whole = *st.CompletedAt
	}
	if whole.IsZero() {
		return x.s.UpdatedAt
	}
	return whole
}
