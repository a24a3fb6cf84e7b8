package reconcile

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/skep-io/skep/spec"
)

// again is how soon a pass wants to be called while something is under way.
const again = time.Second

// An Act is what a pass does.
type Act string

const (
	ActNothing  Act = "nothing"  // live is as desired
	ActWait     Act = "wait"     // something is under way
	ActHold     Act = "hold"     // there is a difference that is not to be written
	ActAdopt    Act = "adopt"    // remember what runs, which is what the file says, as a healthy release
	ActSnapshot Act = "snapshot" // remember what runs, which differs, as healthy release 0
	ActRefuse   Act = "refuse"   // remember that the file asks for what failed before
	ActBegin    Act = "begin"    // make a new release and write its first changes
	ActContinue Act = "continue" // write more of the current release
	ActHeal     Act = "heal"     // the current release has converged
	ActFail     Act = "fail"     // the current release has failed
	ActCorrect  Act = "correct"  // put drift right
	ActRollBack Act = "rollback" // write the newest healthy release
	ActSettle   Act = "settle"   // a correction or a rollback has converged
)

// A Situation is all that Decide looks at.
type Situation struct {
	Now     time.Time
	Policy  spec.Policy
	Blocked string // which stack comes first, in a sentence
	// Digest and Source are the file's.
	Digest, Source string
	Releases       []*Release // oldest first
	// Plan leads from live to what the file says; where the file's digest is
	// quarantined it leads to the newest healthy release instead.
	Plan *Plan
	// Exists says that services of the stack are live.
	Exists bool
	Health map[string]ServiceHealth // by service name
}

// A Decision is one act, and why.
type Decision struct {
	Act     Act
	Reason  string
	Message string
	Again   time.Duration
	Release *Release // that the act is about: the one that fails, heals, is held for, or goes back
}

// Decide weighs desired, live and remembered. D is the digest of the file, R the
// newest release, P the plan. The first row that fits is taken.
//
//	suspended                                          hold
//	P has an error                                     hold
//	D is quarantined (its newest release failed, or a failed one had this source):
//	    R is another release                           refuse (a release that fails untried)
//	    on_failure: hold, or nothing healthy yet       hold
//	    Swarm is rolling back                          wait
//	    the rollback failed in turn                    hold, stalled
//	    P to the newest healthy release is not empty   roll back, in reverse waves
//	    what was rolled back has not converged         wait, for as long as a rollout may take
//	    else                                           settle once, hold
//	no release yet:    nothing lives                   begin
//	                   P is empty                      adopt
//	                   else                            snapshot what lives
//	R is of D and Progressing:
//	    Swarm gave up on a service R changed           fail
//	    all that R changed has converged, P is empty   heal
//	    the deadline is over                           fail
//	    P has something of the next wave               continue
//	    else                                           wait
//	R is of D and Healthy:
//	    Swarm gave up on a correction                  hold, stalled
//	    P is empty                                     settle once, nothing
//	    drift: report                                  hold
//	    else                                           correct
//	R is of another digest:
//	    R is Progressing, and Swarm gave up on it      fail
//	    P is empty, R is no rollout under way          adopt (a revert, or the same in other words)
//	    another stack comes first                      wait
//	    else                                           begin (R, if Progressing, is superseded)
func Decide(s Situation) Decision {
	switch bad := firstError(s.Plan); {
	case s.Policy.Suspend:
		return hold("Suspended", "x-skep.suspend is set: skep looks, and writes nothing")
	case bad != nil:
		return hold(camel(bad.Code), bad.Message)
	}
	if f := Quarantined(s.Releases, s.Digest, s.Source); f != nil {
		return decideFailed(s, f)
	}
	if len(s.Releases) == 0 {
		return decideFirst(s)
	}
	switch r := s.Releases[len(s.Releases)-1]; {
	case r.Digest == s.Digest && r.Phase == PhaseProgressing:
		return decideRollout(s, r)
	case r.Digest == s.Digest && r.Phase == PhaseHealthy:
		return decideDrift(s, r)
	default:
		return decideNext(s, r)
	}
}

// Quarantined returns the failed release that keeps a digest, or a source, from
// being rolled out again, or nil.
func Quarantined(releases []*Release, digest, source string) *Release {
	for _, r := range slices.Backward(releases) {
		if r.Digest == digest || r.Source == source && source != "" {
			if r.Phase == PhaseFailed {
				return r
			}
			return nil
		}
	}
	return nil
}

func decideFailed(s Situation, f *Release) Decision {
	back := newest(s.Releases, PhaseHealthy)
	if f != s.Releases[len(s.Releases)-1] {
		return Decision{Act: ActRefuse, Reason: f.Reason, Again: again, Release: f,
			Message: fmt.Sprintf("it failed before, as release %d: %s", f.Number, f.Message)}
	}
	told := fmt.Sprintf("release %d (%s) failed: %s", f.Number, f.Revision, f.Message)
	switch {
	case s.Policy.Rollout.OnFailure == spec.OnFailureHold:
		return hold("ReleaseFailed", told+" (held as x-skep.rollout.on_failure says; it is tried again when the file asks for something else)").about(f)
	case back == nil:
		return hold("ReleaseFailed", told+" (there is no healthy release to go back to; it is tried again when the file asks for something else)").about(f)
	}
	if name := anyVerdict(s.Health, "rollback_started"); name != "" {
		return wait("RollingBack", told+"; "+s.Health[name].Reason).about(f)
	}
	if name := verdictSince(s.Health, f.index.corrected); name != "" {
		return hold("RollbackFailed", told+"; the rollback to release "+fmt.Sprint(back.Number)+" failed too: "+s.Health[name].Reason).about(f)
	}
	late := overdue(s, f)
	if !s.Plan.Empty() {
		switch {
		case f.index.back && s.Policy.Drift == spec.DriftReport && !tidies(s.Plan):
			return hold("Drifted", told+"; what went back has drifted in "+planNames(s.Plan)+" (x-skep.drift is report)").about(f)
		case !waveOpen(s, f.index.corrected, true) && !late:
			return wait("RollingBack", told+"; "+laggard(s.Health)).about(f)
		}
		return Decision{Act: ActRollBack, Reason: "RollingBack", Message: fmt.Sprintf("%s; going back to release %d (%s)", told, back.Number, back.Revision), Again: again, Release: f}
	}
	done := fmt.Sprintf("%s; release %d (%s) runs until the file asks for something else", told, back.Number, back.Revision)
	switch settled := f.index.back && len(f.index.corrected) == 0; {
	case settled:
		return hold("RolledBack", done).about(f)
	case allConverged(s.Health):
		return Decision{Act: ActSettle, Reason: "RolledBack", Message: done, Again: again, Release: f}
	case late:
		return Decision{Act: ActSettle, Reason: "RollbackIncomplete", Message: done + ", but not whole: " + laggard(s.Health), Again: again, Release: f}
	}
	return wait("RollingBack", told+"; "+laggard(s.Health)).about(f)
}

func decideFirst(s Situation) Decision {
	switch {
	case !s.Exists && s.Blocked != "":
		return blocked(s)
	case !s.Exists:
		return Decision{Act: ActBegin, Reason: "FirstRelease", Message: "nothing of the stack lives yet", Again: again}
	case s.Plan.Empty():
		return adopting(s.Plan, "Adopted", "what lives is what the file says")
	}
	return Decision{Act: ActSnapshot, Reason: "Adopted", Message: "what lives differs from the file and is remembered as release 0", Again: again}
}

func decideRollout(s Situation, r *Release) Decision {
	if name := verdictSince(s.Health, r.index.changed); name != "" {
		return Decision{Act: ActFail, Reason: verdictWord(s.Health[name].Verdict), Message: s.Health[name].Reason, Again: again, Release: r}
	}
	if s.Plan.Empty() && converged(s.Health, r.index.changed) { // also where that was seen too late: a controller that was away fails nothing
		return Decision{Act: ActHeal, Reason: "Converged", Message: fmt.Sprintf("release %d has converged", r.Number), Again: again, Release: r}
	}
	if limit := s.Policy.Rollout.Deadline; limit > 0 && s.Now.Sub(r.Started) > limit {
		return Decision{Act: ActFail, Reason: "DeadlineExceeded", Message: fmt.Sprintf("not healthy within %s: %s", limit, laggard(s.Health)), Again: again, Release: r}
	}
	if !s.Plan.Empty() && waveOpen(s, r.index.changed, false) {
		return Decision{Act: ActContinue, Reason: "RollingOut", Message: "writing the next changes", Again: again, Release: r}
	}
	return wait("RollingOut", laggard(s.Health)).about(r)
}

func decideDrift(s Situation, r *Release) Decision {
	if name := verdictSince(s.Health, r.index.corrected); name != "" {
		return hold("CorrectionFailed", "drift was corrected, and Swarm gave up on that: "+s.Health[name].Reason+" (find out why, then change the file)").about(r)
	}
	switch {
	case s.Plan.Empty() && len(r.index.corrected) > 0 && converged(s.Health, r.index.corrected):
		return Decision{Act: ActSettle, Reason: "DriftCorrected", Message: "live is as the file says again", Again: again, Release: r}
	case s.Plan.Empty() && len(r.index.corrected) > 0 && overdue(s, r):
		return Decision{Act: ActSettle, Reason: "CorrectionIncomplete", Message: "corrected drift does not converge: " + laggard(s.Health), Again: again, Release: r}
	case s.Plan.Empty() && len(r.index.corrected) > 0:
		return wait("CorrectingDrift", laggard(s.Health)).about(r)
	case s.Plan.Empty():
		return Decision{Act: ActNothing, Reason: "InSync", Release: r}
	case s.Policy.Drift == spec.DriftReport && !tidies(s.Plan):
		return hold("Drifted", "live differs from the file in "+planNames(s.Plan)+" (x-skep.drift is report: skep plan shows it)").about(r)
	case !waveOpen(s, r.index.corrected, false) && !overdue(s, r):
		return wait("CorrectingDrift", laggard(s.Health)).about(r)
	}
	return Decision{Act: ActCorrect, Reason: "Drifted", Message: "live differs from the file in " + planNames(s.Plan), Again: again, Release: r}
}

func decideNext(s Situation, r *Release) Decision {
	if name := verdictSince(s.Health, r.index.changed); r.Phase == PhaseProgressing && name != "" {
		return Decision{Act: ActFail, Reason: verdictWord(s.Health[name].Verdict), Message: s.Health[name].Reason, Again: again, Release: r}
	}
	back := newest(s.Releases, PhaseHealthy)
	switch means := s.Plan.Empty() && r.Phase != PhaseProgressing && back != nil; {
	case means && back.Digest == s.Digest:
		return Decision{Act: ActAdopt, Reason: "SameRelease", Message: fmt.Sprintf("the file says what release %d said, which runs", back.Number), Again: again, Release: back}
	case means:
		return adopting(s.Plan, "SameMeaning", "the file says the same in other words").about(r)
	case s.Blocked != "":
		return blocked(s)
	}
	return Decision{Act: ActBegin, Reason: "NewRevision", Message: "the file asks for something else than release " + fmt.Sprint(r.Number), Again: again, Release: r}
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

// tidies says that a plan only removes configs and secrets that no release names
// any more: skep's own housekeeping, and no drift.
func tidies(p *Plan) bool {
	return !slices.ContainsFunc(p.Changes, func(c Change) bool {
		return c.Op != OpRemove || c.Kind != KindConfig && c.Kind != KindSecret
	})
}

func hold(reason, message string) Decision {
	return Decision{Act: ActHold, Reason: reason, Message: message}
}

func wait(reason, message string) Decision {
	return Decision{Act: ActWait, Reason: reason, Message: message, Again: again}
}

// blocked waits for another stack, whose becoming Ready calls for the next pass.
func blocked(s Situation) Decision {
	return Decision{Act: ActWait, Reason: "DependencyNotReady", Message: s.Blocked}
}

func (d Decision) about(r *Release) Decision {
	d.Release = r
	return d
}

func firstError(p *Plan) *spec.Finding {
	if p == nil {
		return nil
	}
	for i := range p.Findings {
		if p.Findings[i].Severity == spec.Error {
			return &p.Findings[i]
		}
	}
	return nil
}

// camel makes a condition's reason of a finding's code.
func camel(code string) string {
	var b strings.Builder
	for part := range strings.SplitSeq(code, "-") {
		if part != "" {
			b.WriteString(strings.ToUpper(part[:1]) + part[1:])
		}
	}
	return b.String()
}

// verdictSince names a service, of those in marks, on whose update Swarm gave up
// after that mark was taken; "" if there is none.
func verdictSince(health map[string]ServiceHealth, marks map[string]string) string {
	for _, name := range sortedKeys(marks) {
		if h, ok := health[name]; ok && h.Verdict != "" && h.Mark != marks[name] {
			return name
		}
	}
	return ""
}

func anyVerdict(health map[string]ServiceHealth, verdict string) string {
	for _, name := range sortedKeys(health) {
		if health[name].Verdict == verdict {
			return name
		}
	}
	return ""
}

func verdictWord(verdict string) string {
	switch verdict {
	case "paused":
		return "UpdatePaused"
	default:
		return "SwarmRolledBack"
	}
}

// converged says that every service in names that still exists has converged.
func converged(health map[string]ServiceHealth, names map[string]string) bool {
	for name := range names {
		if h, ok := health[name]; ok && !h.Converged {
			return false
		}
	}
	return true
}

func allConverged(health map[string]ServiceHealth) bool {
	for _, h := range health {
		if !h.Converged {
			return false
		}
	}
	return true
}

// laggard is the reason of the service that is worst off, or a plain word.
func laggard(health map[string]ServiceHealth) string {
	worst := ""
	for _, name := range sortedKeys(health) {
		h := health[name]
		if !h.Converged && (worst == "" || rank(h.Status) > rank(health[worst].Status)) {
			worst = name
		}
	}
	if worst == "" {
		return "waiting for Swarm"
	}
	return health[worst].Reason
}

var ranks = []HealthStatus{Healthy, Suspended, HealthProgressing, Missing, HealthDegraded, Unknown}

func rank(s HealthStatus) int { return slices.Index(ranks, s) }

func planNames(p *Plan) string {
	var names []string
	for _, c := range p.Changes {
		names = append(names, string(c.Kind)+" "+c.Name)
	}
	if len(names) > 5 {
		names = append(names[:5], fmt.Sprintf("%d more", len(names)-5))
	}
	return strings.Join(names, ", ")
}
