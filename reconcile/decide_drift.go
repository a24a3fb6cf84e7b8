package reconcile

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/skep-io/skep/spec"
)

// guardEvery is how often a release is looked at while its guard is on. Tasks make no
// events.
const guardEvery = 10 * time.Second

func decideDrift(s Situation, r *Release) Decision {
	if name := verdictSince(s.Health, r.index.corrected); name != "" {
		return hold("CorrectionFailed", "drift was corrected, and Swarm gave up on that: "+s.Health[name].Reason+" (find out why, then change the file)").about(r)
	}
	fault, spared := guard(s, r)
	if fault != nil {
		return fault.fails(r)
	}
	correcting := len(r.index.corrected) > 0
	switch {
	case s.Plan.Empty() && correcting && converged(s.Health, r.index.corrected):
		return Decision{Act: ActSettle, Reason: "DriftCorrected", Message: "live is as the file says again", Again: again, Release: r}
	case s.Plan.Empty() && correcting && overdue(s, r):
		return Decision{Act: ActSettle, Reason: "CorrectionIncomplete", Message: "corrected drift does not converge: " + laggard(s.Health), Again: again, Release: r}
	case s.Plan.Empty() && correcting:
		return wait("CorrectingDrift", laggard(s.Health)).about(r)
	case s.Plan.Empty():
		return inSync(s, r, spared)
	case s.Policy.Drift == spec.DriftReport && !tidies(s.Plan):
		return hold("Drifted", "live differs from the file in "+planNames(s.Plan)+" (x-skep.drift is report: skep plan shows it)").about(r)
	case !waveOpen(s, r.index.corrected, s.Back) && !overdue(s, r):
		return wait("CorrectingDrift", laggard(s.Health)).about(r)
	case s.Shrinks != nil:
		return hold(PruneBlocked, s.Shrinks.Why()).about(r)
	}
	return Decision{Act: ActCorrect, Reason: "Drifted", Message: "live differs from the file in " + planNames(s.Plan), Again: again, Release: r}
}

// inSync tells of a service that is Degraded and is left alone, and why.
func inSync(s Situation, r *Release, spared string) Decision {
	d := Decision{Act: ActNothing, Reason: "InSync", Release: r, Again: guardOn(s, r)}
	if s.Pinned != nil {
		d.Reason, d.Message = "Pinned", staysAs(s.Pinned.Number, s.Pinned.Revision)
	}
	if name := worstOff(s.Health); name != "" && s.Health[name].Status == HealthDegraded {
		d.Reason, d.Message = orElse(s.Health[name].Code, "Degraded"), s.Health[name].Reason
		if spared != "" {
			d.Message += " (left as it is: " + spared + ")"
		}
	}
	return d
}

// staysAs tells of a stack that is pinned, and is as it was pinned.
func staysAs(release int, revision string) string {
	return fmt.Sprintf("it stays as release %d (%s) was, by hand, until the files change or: skep resume", release, revision)
}

// guard says that a release which became healthy a short while ago has failed after
// all: a service that it changed is at fault, for good. It spares the release, and says
// why, where an old version would not help: another service that it did not change is
// sick as well, or a node was lost. Without an older healthy release, or where failures
// are held, there is nothing that guarding could do.
func guard(s Situation, r *Release) (f *fault, spared string) {
	var names []string
	for _, name := range sortedKeys(r.index.changed) {
		if atFault(s.Health[name]) && !inPlan(s.Plan, name) && s.Now.Sub(r.Ended) < guardOf(s, r, name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil, ""
	}
	if spared = otherTrouble(s, r); spared != "" {
		return nil, spared
	}
	h := s.Health[names[0]]
	return &fault{services: names, reason: orElse(h.Code, "Degraded"), message: "it was healthy, and then: " + h.Reason}, ""
}

// guardOf is how long after it became healthy a release answers for a service.
func guardOf(s Situation, r *Release, name string) time.Duration {
	policy := rolloutOf(s.Policy.Rollout, s.Rollouts, name)
	if policy.OnFailure == spec.OnFailureHold || newest(before(s.Releases, r), PhaseHealthy) == nil {
		return 0
	}
	return policy.Guard
}

// guardOn is when to look at a release again whose guard is on; 0 where it is not.
func guardOn(s Situation, r *Release) time.Duration {
	longest := time.Duration(0)
	for name := range r.index.changed {
		longest = max(longest, guardOf(s, r, name)-s.Now.Sub(r.Ended))
	}
	return min(longest, guardEvery)
}

// otherTrouble tells of something else that is the matter than what a release changed.
func otherTrouble(s Situation, r *Release) string {
	for _, name := range sortedKeys(s.Health) {
		if _, changed := r.index.changed[name]; !changed && s.Health[name].Status == HealthDegraded {
			return fmt.Sprintf("%s, which release %d did not change, is sick too", name, r.Number)
		}
	}
	for _, c := range s.Plan.Changes {
		if c.Kind == KindService && c.Op == OpCreate {
			return c.Name + " is missing"
		}
	}
	for _, host := range sortedKeys(s.Lost) {
		if since := s.Lost[host]; since.IsZero() || since.After(r.Started) {
			return "node " + host + " was lost"
		}
	}
	return ""
}

// before are the releases that came before r.
func before(releases []*Release, r *Release) []*Release {
	i := slices.Index(releases, r)
	return releases[:max(i, 0)]
}

// few lists names, and says how many are left out.
func few(names []string) string {
	if len(names) > 5 {
		names = append(slices.Clone(names[:5]), fmt.Sprintf("%d more", len(names)-5))
	}
	return strings.Join(names, ", ")
}
