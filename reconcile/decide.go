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
	ActUnpin    Act = "unpin"    // forget a pin that has come to its end
	ActMovePin  Act = "move-pin" // let a pin hold until the file changes that waited when it was made
	ActCurrent  Act = "current"  // forget that the source was older than what was rolled out
	ActAdopt    Act = "adopt"    // remember what runs, which is what the file says, as a healthy release
	ActSnapshot Act = "snapshot" // remember what runs, which differs, as healthy release 0
	ActRefuse   Act = "refuse"   // remember that the file asks for what failed before
	ActBegin    Act = "begin"    // make a new release and write its first changes
	ActContinue Act = "continue" // write more of the current release
	ActBake     Act = "bake"     // remember that the current release has converged
	ActHeal     Act = "heal"     // the current release is healthy
	ActFail     Act = "fail"     // the current release has failed
	ActCorrect  Act = "correct"  // put drift right
	ActRollBack Act = "rollback" // write the newest healthy release
	ActSettle   Act = "settle"   // a correction or a rollback has converged
)

// A Situation is all that Decide looks at.
type Situation struct {
	Now    time.Time
	Policy spec.Policy
	// Rollouts are the policies of services, by service name; where one has none
	// Policy.Rollout is its own.
	Rollouts map[string]spec.Rollout
	Blocked  string // which stack comes first, in a sentence
	// Stale says, in a sentence, that the stack's source is older than what was rolled
	// out of it last, which is release StaleTo.
	Stale   string
	StaleTo *Release
	State   State // what people ask of the stack
	// Pinned is the release that the stack is pinned to, nil where it is not or where
	// that release is none to go back to. PinEnds says that the file has changed since.
	Pinned  *Release
	PinEnds bool
	// PinMoves says that the file is another than when it was released last, and was so
	// before the stack was pinned.
	PinMoves bool
	// Digest and Source are the file's or, of a stack that is pinned, that release's;
	// Source has with it what is followed to.
	Digest, Source string
	// Followed says what a release would follow to that the newest one did not; Unheard,
	// in a sentence, that a registry has yet to say what the stack begins with.
	Followed, Unheard string
	Releases          []*Release // oldest first
	// Plan leads from live to what Digest says; where that is quarantined it leads to
	// the newest healthy release instead. Back says that it leads to a release as
	// recorded: last wave first.
	Plan *Plan
	Back bool
	// Shrinks is what P would remove too much of for a release to do it unasked; nil:
	// it does not, or a person has confirmed it.
	Shrinks *Blockade
	// Whole says of a newest release that is Progressing, not known to have converged,
	// and of another digest, that what lives is what it says.
	Whole bool
	// Away says that nobody carried on what is under way until now: the stack was
	// suspended, or held, or this process has only just come to it.
	Away bool
	// Broken is when a pass last saw that not all was whole any more of what the newest
	// release changed, though it had converged; zero: none did.
	Broken time.Time
	// Exists says that services of the stack are live.
	Exists bool
	// Health is by service name: that of the services that Plan leads to, and of those
	// that the newest release changed, as far as they live.
	Health map[string]ServiceHealth
	// Lost tells of nodes that are down, by host name, since when.
	Lost map[string]time.Time
}

// A Decision is one act, and why.
type Decision struct {
	Act     Act
	Reason  string
	Message string
	// Brief is Message for those who were told already why the release failed, where it
	// says that.
	Brief   string
	Again   time.Duration
	Release *Release // that the act is about: the one that fails, heals, is held for, or goes back
	// Failed names the services for which a release fails, where it is for some.
	Failed []string
	// Anew says that a release's deadline begins anew.
	Anew bool
}

// Decide weighs desired, live and remembered. D is the digest of the file or, of a
// stack that is pinned, of that release; R is the newest release, P the plan. The
// first row that fits is taken.
//
//	suspended, by the file or by hand                  hold
//	another controller's                               hold
//	its source is older than what was rolled out       hold, unless pinned
//	it was, and is not any more                        forget that
//	pinned, and the file has changed since             unpin
//	pinned while a newer file waited                   move the pin to that file
//	pinned to what is lost, or was not healthy         hold
//	P has an error:
//	    what R wrote is at fault, or did not converge
//	      by its deadline                              fail
//	    else                                           hold
//	R is of another digest, and bakes, or lives as it says, whole and unseen:
//	    a service R changed is at fault                fail
//	    all that R changed is converged                wait for the end of the bake, then heal
//	    else, or by hand                               go on below: it is superseded
//	D is quarantined (its newest release failed unpardoned, or a failed one had this source):
//	    R is another release                           refuse (a release that fails untried)
//	    on_failure: hold, or nothing healthy yet       hold
//	    Swarm is rolling back                          wait, for as long as a rollout may take
//	    the rollback failed in turn                    hold, stalled
//	    P to the newest healthy release is not empty   roll back, in reverse waves
//	    what was rolled back has not converged         wait, for as long as a rollout may take
//	    else                                           settle once, hold
//	no release yet:    nothing lives                   begin
//	                   P is empty                      adopt
//	                   else                            snapshot what lives
//	R is of D and Progressing:
//	    a service R changed is at fault                fail
//	    all that R changed has converged, P is empty   bake, wait for its end, heal
//	    the deadline is over                           fail, unless nobody was there to write P
//	    P has something of the next wave               continue
//	    else                                           wait
//	R is of D and Healthy:
//	    Swarm gave up on a correction                  hold, stalled
//	    R's guard is on, a service R changed is
//	      at fault, and nothing else is the matter     fail
//	    P is empty                                     settle once, nothing
//	    drift: report                                  hold
//	    P removes too many services, unconfirmed       hold
//	    else                                           correct
//	R is of another digest, or of D and pardoned:
//	    R is Progressing, and Swarm gave up on it      fail
//	    P is empty, and live is as something healthy   adopt (a revert, or the same in other words)
//	    another stack comes first                      wait
//	    a registry has yet to say what is followed     wait
//	    P removes too many services, unconfirmed       hold
//	    else                                           begin (R, if Progressing, is superseded)
//
// At fault is a service on which Swarm gave up, or that is Degraded by a cause of its
// own (see voices, where more may have a say). A file that has an error, or waits for
// another stack, leaves D to a release R that is under way or still has to go back (see
// goOn).
func Decide(s Situation) Decision {
	switch bad := firstError(s.Plan); {
	case s.Policy.Suspend:
		return hold("Suspended", "x-skep.suspend is set: skep looks, and writes nothing")
	case s.State.IsSuspended():
		return hold("Suspended", suspendedBy(s.State))
	case claimed(s.Plan) != nil:
		return hold(camel(codeOtherOwner), claimed(s.Plan).Message)
	case s.Stale != "" && s.Pinned == nil:
		return hold(SourceStale, s.Stale).about(s.StaleTo)
	case s.State.Stale > 0 && s.Stale == "":
		return Decision{Act: ActCurrent, Reason: "SourceCurrent", Message: fmt.Sprintf("the source is not older any more than what release %d was made of", s.State.Stale), Again: again / 4}
	case s.PinEnds:
		return Decision{Act: ActUnpin, Reason: "PinEnded", Message: fmt.Sprintf("the files have changed since the stack was pinned to release %d", s.State.Pin), Again: again / 4}
	case s.PinMoves:
		return Decision{Act: ActMovePin, Reason: "PinMoved", Message: fmt.Sprintf("a newer file waited when the stack was pinned to release %d, which holds until that file changes, or: skep resume", s.State.Pin), Again: again / 4}
	case s.State.IsPinned() && s.Pinned == nil:
		return hold("PinLost", fmt.Sprintf("the stack is pinned to release %d, which is not remembered any more or was never healthy (pin it to another, or: skep resume)", s.State.Pin))
	case bad != nil:
		return decideBarred(s, bad)
	}
	r := last(s.Releases)
	if d, ok := decideBaking(s, r); ok {
		return d
	}
	if f := Quarantined(s.Releases, s.Digest, s.Source, s.State.Pardoned); f != nil {
		return decideFailed(s, f)
	}
	switch {
	case r == nil:
		return decideFirst(s)
	case r.Digest == s.Digest && r.Phase == PhaseProgressing:
		return decideRollout(s, r)
	case r.Digest == s.Digest && r.Phase == PhaseHealthy:
		return decideDrift(s, r)
	default:
		return decideNext(s, r)
	}
}

// Quarantined returns the failed release that keeps a digest, or a source (with what
// was followed to), from being rolled out again, or nil. What failed in releases up to pardoned is forgiven.
func Quarantined(releases []*Release, digest, source string, pardoned int) *Release {
	for _, r := range slices.Backward(releases) {
		if r.Digest == digest || source != "" && r.identity() == source {
			if r.Phase == PhaseFailed && r.Number > pardoned {
				return r
			}
			return nil
		}
	}
	return nil
}

func last(releases []*Release) *Release {
	if len(releases) == 0 {
		return nil
	}
	return releases[len(releases)-1]
}

func suspendedBy(st State) string {
	text := "suspended by hand since " + clock(st.Suspended)
	if st.Why != "" {
		text += ": " + st.Why
	}
	return text + " (skep looks, and writes nothing until: skep resume)"
}

func decideFirst(s Situation) Decision {
	switch {
	case !s.Exists && s.Blocked != "":
		return blocked(s)
	case !s.Exists && s.Unheard != "":
		return wait("FollowUnheard", s.Unheard)
	case !s.Exists:
		return Decision{Act: ActBegin, Reason: "FirstRelease", Message: "nothing of the stack lives yet", Again: again}
	case s.Plan.Empty():
		return adopting(s.Plan, "Adopted", "what lives is what the file says")
	}
	return Decision{Act: ActSnapshot, Reason: "Adopted", Message: "what lives differs from the file and is remembered as release 0", Again: again}
}

func decideNext(s Situation, r *Release) Decision {
	if f := gaveUp(s, r); f != nil && r.Phase == PhaseProgressing {
		return f.fails(r)
	}
	back := newest(s.Releases, PhaseHealthy)
	switch means := s.Plan.Empty() && back != nil && livesHealthy(s, r, back); {
	case means && back.Digest == s.Digest:
		return Decision{Act: ActAdopt, Reason: "SameRelease", Message: fmt.Sprintf("the file says what release %d said, which runs", back.Number), Again: again, Release: back}
	case means:
		return adopting(s.Plan, "SameMeaning", "the file says the same in other words").about(r)
	case s.Blocked != "" && s.Pinned == nil:
		return blocked(s)
	case s.Pinned != nil:
		return Decision{Act: ActBegin, Reason: "Pinned", Message: fmt.Sprintf("going back to release %d (%s) by hand", s.Pinned.Number, s.Pinned.Revision), Again: again, Release: r}
	case s.Shrinks != nil:
		return hold(PruneBlocked, s.Shrinks.Why()).about(r)
	case s.Unheard != "":
		return wait("FollowUnheard", s.Unheard)
	case s.Followed != "":
		return Decision{Act: ActBegin, Reason: "Followed", Message: s.Followed, Again: again, Release: r}
	case r.Digest == s.Digest:
		return Decision{Act: ActBegin, Reason: "Pardoned", Message: fmt.Sprintf("release %d is tried again by hand", r.Number), Again: again, Release: r}
	}
	return Decision{Act: ActBegin, Reason: "NewRevision", Message: "the file asks for something else than release " + fmt.Sprint(r.Number), Again: again, Release: r}
}

// livesHealthy says that what lives was found healthy, if it is what the file says: by
// the newest release r, or by back, to which a failed one went back. What failed and
// was left as it is has to prove itself, whatever its file is called now; and so has
// what Swarm gave up on going back to.
func livesHealthy(s Situation, r, back *Release) bool {
	switch r.Phase {
	case PhaseProgressing:
		return false
	case PhaseFailed:
		return r.index.back || back.Digest == s.Digest && verdictSince(s.Health, r.index.corrected) == ""
	}
	return true
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

// claimed is what says that the stack is another controller's, or nil.
func claimed(p *Plan) *spec.Finding {
	if p == nil {
		return nil
	}
	for i := range p.Findings {
		if p.Findings[i].Code == codeOtherOwner {
			return &p.Findings[i]
		}
	}
	return nil
}

// ReasonOf is the reason of a result, or a condition, that a finding of this code is the
// cause of.
func ReasonOf(code string) string { return camel(code) }

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
	if name := worstOff(health); name != "" && health[name].Reason != "" {
		return health[name].Reason
	}
	return "waiting for Swarm"
}

// worstOff names the service that is worst off of those that have not converged.
func worstOff(health map[string]ServiceHealth) string {
	worst := ""
	for _, name := range sortedKeys(health) {
		h := health[name]
		if !h.Converged && (worst == "" || rank(h.Status) > rank(health[worst].Status)) {
			worst = name
		}
	}
	return worst
}

var ranks = []HealthStatus{Healthy, Suspended, HealthProgressing, Missing, HealthDegraded, Unknown}

func rank(s HealthStatus) int { return slices.Index(ranks, s) }

func planNames(p *Plan) string {
	var names []string
	for _, c := range p.Changes {
		names = append(names, string(c.Kind)+" "+c.Name)
	}
	return few(names)
}
