package reconcile

import (
	"fmt"
	"slices"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"github.com/skep-io/skep/spec"
)

// A fault is why a release has failed.
type fault struct {
	services []string // for which, where it is for some
	reason   string
	message  string
}

func (f *fault) fails(r *Release) Decision {
	return Decision{Act: ActFail, Reason: f.reason, Message: f.message, Again: again, Release: r, Failed: f.services}
}

// A voice says why a release that is under way, or bakes, has failed; nil: it has
// nothing against it.
type voice func(s Situation, r *Release) *fault

// voices are heard in this order. Who else is to have a say in a rollout (a URL that is
// asked, a metric) is added here, with what it needs in the Situation.
var voices = []voice{gaveUp, sick}

// A pause keeps a release that has converged from being healthy yet.
type pause struct {
	reason  string
	message string
	again   time.Duration
}

// pauses are made in this order. What else is to be waited for is added here.
var pauses = []func(s Situation, r *Release) *pause{bakes}

func objection(s Situation, r *Release) *fault {
	for _, v := range voices {
		if f := v(s, r); f != nil {
			return f
		}
	}
	return nil
}

func decideRollout(s Situation, r *Release) Decision {
	if f := objection(s, r); f != nil {
		return f.fails(r)
	}
	if s.Plan.Empty() && converged(s.Health, r.index.changed) { // also where that was seen too late: a controller that was away fails nothing
		return decideConverged(s, r)
	}
	if f := late(s, r); f != nil {
		if leftAlone(s, r) {
			return Decision{Act: ActContinue, Reason: "RollingOut", Message: "writing " + planNames(&Plan{Changes: step(s.Plan, s.Back)}) + ", which nobody was there to do", Again: again, Release: r, Anew: true}
		}
		return f.fails(r)
	}
	left := ""
	if l := timeLeft(s, r); l > 0 {
		left = fmt.Sprintf(" (must be healthy within %s)", inWords(l))
	}
	if !s.Plan.Empty() && waveOpen(s, r.index.changed, s.Back) {
		return Decision{Act: ActContinue, Reason: "RollingOut", Message: "writing " + planNames(&Plan{Changes: step(s.Plan, s.Back)}) + left, Again: again, Release: r}
	}
	return wait("RollingOut", laggard(s.Health)+left).about(r)
}

// decideConverged is about a release all of which has converged.
func decideConverged(s Situation, r *Release) Decision {
	if bake := bakeOf(s, r); bake > 0 && r.Converged.IsZero() {
		return Decision{Act: ActBake, Reason: "Baking", Message: fmt.Sprintf("release %d has converged and bakes for %s", r.Number, inWords(bake)), Again: again, Release: r}
	}
	for _, f := range pauses {
		if p := f(s, r); p != nil {
			d := wait(p.reason, p.message).about(r)
			d.Again = p.again
			return d
		}
	}
	return healed(r)
}

func healed(r *Release) Decision {
	return Decision{Act: ActHeal, Reason: "Converged", Message: fmt.Sprintf("release %d has converged", r.Number), Again: again, Release: r}
}

// decideBaking lets a release that bakes, and passes, come to its end before a newer
// file supersedes it: so there is always a newest healthy release. A person's word does
// not wait. One that converged while nobody looked, as after an apply that did not wait,
// may have been whole for that long already.
func decideBaking(s Situation, r *Release) (Decision, bool) {
	if r == nil || r.Phase != PhaseProgressing || r.Converged.IsZero() && !s.Whole || r.Digest == s.Digest || s.Pinned != nil {
		return Decision{}, false
	}
	if f := objection(s, r); f != nil {
		return f.fails(r), true
	}
	if !converged(s.Health, r.index.changed) {
		return Decision{}, false
	}
	if bakedUnseen(s, r) {
		return healed(r), true
	}
	d := decideConverged(s, r)
	if d.Act == ActWait || d.Act == ActBake {
		d.Message += "; a newer file comes then"
	}
	return d, true
}

// bakedUnseen says that all that a release changed has run, as it is, for longer than
// the release's bake, though nobody was there to see it converge.
func bakedUnseen(s Situation, r *Release) bool {
	if !r.Converged.IsZero() {
		return false
	}
	bake := bakeOf(s, r)
	for name := range r.index.changed {
		if h, lives := s.Health[name]; lives && (h.Since.IsZero() || s.Now.Sub(h.Since) < bake) {
			return false
		}
	}
	return s.Now.Sub(r.Started) >= bake
}

// gaveUp is Swarm's own voice: its updater paused, or rolled back, what r wrote.
func gaveUp(s Situation, r *Release) *fault {
	var names []string
	for _, name := range sortedKeys(r.index.changed) {
		if h, ok := s.Health[name]; ok && h.Verdict != "" && h.Mark != r.index.changed[name] && isOurs(s, r, name, h) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	h := s.Health[names[0]]
	return &fault{services: names, reason: orElse(h.Died, verdictWord(h.Verdict)), message: h.Reason}
}

// isOurs says that what Swarm gave up on is what r wrote: not somebody else's update
// in the middle of it, nor one that was paused since a node went.
func isOurs(s Situation, r *Release, name string, h ServiceHealth) bool {
	if r.Digest != s.Digest {
		return true // P tells nothing of what r wrote
	}
	switch differs := inPlan(s.Plan, name); h.Verdict {
	case string(swarm.UpdateStatePaused):
		return !differs && h.Cause != CauseWorld
	case string(swarm.UpdateStateRollbackStarted), string(swarm.UpdateStateRollbackCompleted):
		return differs
	}
	return true
}

// sick is the judge's voice: a service that r wrote is Degraded by a cause of its own.
func sick(s Situation, r *Release) *fault {
	if r.Digest != s.Digest && r.Converged.IsZero() && !s.Whole {
		return nil // it cannot be told what of it was written
	}
	var names []string
	for _, name := range sortedKeys(r.index.changed) {
		waits := r.Digest == s.Digest && inPlan(s.Plan, name) // what lives there is not r's
		if h := s.Health[name]; atFault(h) && h.Verdict == "" && !waits {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	h := s.Health[names[0]]
	return &fault{services: names, reason: orElse(h.Code, "Degraded"), message: h.Reason}
}

// atFault says that a service is Degraded, which is for good, by its own doing.
func atFault(h ServiceHealth) bool { return h.Status == HealthDegraded && h.Cause == CauseOwn }

// bakes waits until a release that has converged has been whole for its bake, which
// begins anew with each task that is started again, though not for ever.
func bakes(s Situation, r *Release) *pause {
	end := bakeEnd(s, r)
	if r.Converged.IsZero() || !s.Now.Before(end) {
		return nil
	}
	left := end.Sub(s.Now)
	return &pause{reason: "Baking", again: min(left, 2*again),
		message: fmt.Sprintf("release %d bakes until %s, %s more", r.Number, clock(end), inWords(left))}
}

// bakeEnd is when all that a release changed will have been whole for as long as it
// bakes. What tasks say of when they came up is by their nodes' clocks, which can be
// wrong: it counts for one bake at most. What passes saw themselves counts for as long as
// a rollout may take: who dies seldom enough not to fail by then lives longer than
// anybody asked for.
func bakeEnd(s Situation, r *Release) time.Time {
	bake, whole := bakeOf(s, r), r.Converged
	for name := range r.index.changed {
		if since := s.Health[name].Since; since.After(whole) {
			whole = since
		}
	}
	if latest := r.Converged.Add(bake); whole.After(latest) {
		whole = latest
	}
	limit := longestLimit(s, r)
	if limit <= 0 {
		limit = overdueAfter
	}
	if seen := earlier(s.Broken, deadlineFrom(s, r).Add(limit)); seen.After(whole) {
		whole = seen
	}
	return whole.Add(bake)
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// bakeOf is the longest bake of the services that a release changed: it is one release,
// and good or bad as a whole.
func bakeOf(s Situation, r *Release) time.Duration {
	longest := time.Duration(0)
	for name := range r.index.changed {
		longest = max(longest, rolloutOf(s.Policy.Rollout, s.Rollouts, name).Bake)
	}
	return longest
}

// late says that something of a release has not converged by its deadline. Once it had,
// it has the bake and as long again.
func late(s Situation, r *Release) *fault {
	waiting, took := pending(s, r), s.Now.Sub(deadlineFrom(s, r))
	limit, names := time.Duration(0), []string(nil)
	for _, name := range waiting {
		if l := limitOf(s, r, name); l > 0 && took > l {
			names, limit = append(names, name), max(limit, l)
		}
	}
	if l := longestLimit(s, r); len(waiting) == 0 && l > 0 && took > l { // what is no service is not written
		limit = l
	}
	if limit == 0 {
		return nil
	}
	return &fault{services: written(s, names), reason: "DeadlineExceeded", message: fmt.Sprintf("not healthy within %s: %s", inWords(limit), laggard(s.Health))}
}

// leftAlone says that a release is late since nobody carried it on: all that was written
// of it has converged, and the rest could have been.
func leftAlone(s Situation, r *Release) bool {
	return s.Away && !s.Plan.Empty() && len(underWay(s, r.index.changed)) == 0
}

// deadlineFrom is when the time begins that a release has to converge.
func deadlineFrom(s Situation, r *Release) time.Time {
	if baked := r.Converged.Add(bakeOf(s, r)); !r.Converged.IsZero() && baked.After(r.begun()) {
		return baked
	}
	return r.begun()
}

// timeLeft is how long it is until the first deadline of what has not converged.
func timeLeft(s Situation, r *Release) time.Duration {
	first := longestLimit(s, r)
	if first <= 0 {
		return 0
	}
	for _, name := range pending(s, r) {
		first = min(first, limitOf(s, r, name))
	}
	return deadlineFrom(s, r).Add(first).Sub(s.Now)
}

// pending names the services a release changed that are not where they should be.
func pending(s Situation, r *Release) []string {
	return slices.DeleteFunc(sortedKeys(r.index.changed), func(name string) bool {
		h, lives := s.Health[name]
		return (!lives || h.Converged) && !inPlan(s.Plan, name)
	})
}

// written are those of names that are not still to be written: who waits is not to
// blame. Where all wait, all are.
func written(s Situation, names []string) []string {
	begun := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return inPlan(s.Plan, name) })
	if len(begun) == 0 {
		return names
	}
	return begun
}

// waveOf is a service's wave: it lives, or is still to be made.
func waveOf(s Situation, name string) int {
	if h, ok := s.Health[name]; ok {
		return h.Wave
	}
	for _, c := range s.Plan.Changes {
		if c.Kind == KindService && c.Name == name {
			return c.Wave
		}
	}
	return 0
}

// limitOf is how long a service has to converge: its deadline or, where that is longer,
// one of a service that is written before it.
func limitOf(s Situation, r *Release, name string) time.Duration {
	wave, limit := waveOf(s, name), time.Duration(0)
	for other := range r.index.changed {
		first := waveOf(s, other) < wave
		if s.Back {
			first = waveOf(s, other) > wave
		}
		if first || other == name {
			limit = max(limit, rolloutOf(s.Policy.Rollout, s.Rollouts, other).Deadline)
		}
	}
	return limit
}

func longestLimit(s Situation, r *Release) time.Duration {
	limit := s.Policy.Rollout.Deadline
	for name := range r.index.changed {
		limit = max(limit, rolloutOf(s.Policy.Rollout, s.Rollouts, name).Deadline)
	}
	return limit
}

// rolloutOf is a service's rollout policy.
func rolloutOf(stack spec.Rollout, services map[string]spec.Rollout, name string) spec.Rollout {
	if own, ok := services[name]; ok {
		return own
	}
	return stack
}

// verdictSince names a service, of those in marks, on whose update Swarm gave up
// after that mark was taken; "" if there is none. What is paused since a node went is
// written once more instead (see standing).
func verdictSince(health map[string]ServiceHealth, marks map[string]string) string {
	for _, name := range sortedKeys(marks) {
		if h, ok := health[name]; ok && h.Verdict != "" && h.Mark != marks[name] && !pausedByWorld(h) {
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
	case string(swarm.UpdateStatePaused):
		return CodeUpdatePaused
	case string(swarm.UpdateStateRollbackPaused):
		return CodeRollbackPaused
	default:
		return CodeSwarmRolledBack
	}
}

// clock tells a moment of the near past or future.
func clock(t time.Time) string { return t.UTC().Format("15:04:05") + " UTC" }

// inWords tells how long something takes, to the second: 90 is 1m30s.
func inWords(d time.Duration) string {
	if d < time.Second {
		return "1s"
	}
	return d.Round(time.Second).String()
}
