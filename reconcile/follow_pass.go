package reconcile

import (
	"fmt"
	"maps"
	"slices"

	"github.com/skep-io/skep/spec"
)

// Where following comes into a pass: before anything is bound, the stack becomes one whose
// services run what they were followed to.

// A followCache is what a stack's file comes to, worked out once for as long as it is the
// same.
type followCache struct {
	of     *spec.Stack
	key    string
	digest string
	marks  map[string]string
	images map[string]string
	stack  *spec.Stack // of, with images
}

// followIn takes what is followed to for what the file has.
func (r *Reconciler) followIn(p *pass) {
	if !slices.ContainsFunc(p.stack.Services, func(s spec.Service) bool { return s.Follow.On() }) {
		return
	}
	c := &r.state(p.stack.Name).follows
	if c.of != p.stack || c.key != string(p.key) {
		*c = followCache{of: p.stack, key: string(p.key), digest: Digest(p.stack, p.key), marks: marksOfFollowers(p.stack, p.key)}
	}
	q := followQuestion{stack: p.stack, digest: c.digest, source: p.source, marks: c.marks, releases: p.releases, state: p.state, found: p.found,
		refuses: p.guard.refusesImage(p.stack)}
	p.follow = follow(q)
	if p.follow.fresh && r.driftStands(p, q) {
		q.still = "what lives has drifted, and x-skep.drift is report"
		p.follow = follow(q)
	}
	p.stack = c.with(p.follow.images())
}

// with is the cache's stack with images.
func (c *followCache) with(images map[string]string) *spec.Stack {
	if c.stack == nil || !maps.Equal(images, c.images) {
		c.stack, c.images = withImages(c.of, images), images
	}
	return c.stack
}

// driftStands says that a stack whose drift is only to be told has some: a release that
// somebody's commit did not ask for is not to write over it.
func (r *Reconciler) driftStands(p *pass, q followQuestion) bool {
	rel := last(p.releases)
	if p.stack.Policy.Drift != spec.DriftReport || rel == nil || rel.Phase != PhaseHealthy {
		return false
	}
	q.still = "it has drifted"
	as := *p
	held := follow(q)
	as.stack = withImages(p.stack, held.images())
	if as.digest = Digest(as.stack, p.key); as.digest != rel.Digest {
		return false
	}
	as.desired = Bind(as.stack, Binding{Key: p.key, Live: p.live, Believed: believed(p.releases), Pins: currentPins(&as)})
	as.plan = r.diff(&as)
	return !tidies(&Plan{Changes: slices.Concat(as.plan.Changes, as.plan.Held)})
}

// refusesImage says what the operator's policy has against an image of a service; nil
// where there is no policy.
func (g Guard) refusesImage(stack *spec.Stack) func(service, image string) string {
	if g.Policy == nil {
		return nil
	}
	return func(service, image string) string {
		a := &inspection{Guard: g, desired: &Desired{Stack: stack.Name}, told: map[spec.Finding]bool{}, key: service, what: "image"}
		a.rules = g.Policy.For(stack.Name, stack.Source.File)
		if a.image(image); len(a.found) > 0 {
			return a.found[0].Message
		}
		return ""
	}
}

// identity is what a release of this pass would be made of, as Quarantined has it.
func (p *pass) identity() string {
	if p.source == "" {
		return ""
	}
	return identityOf(p.source, p.follow.record)
}

// sameFile says that a release came of the file as it is now.
func (p *pass) sameFile(rel *Release) bool {
	return rel != nil && byFile(rel) && rel.index.follow != nil && p.follow.record != nil && rel.index.follow.Digest == p.follow.record.Digest
}

// followRecord is what the release that this pass makes remembers of following.
func (p *pass) followRecord() *followRecord {
	if p.pinned == nil {
		return p.follow.record
	}
	of := p.pinned.index.follow
	if of == nil {
		return nil
	}
	again := &followRecord{Digest: of.Digest, Services: map[string]followed{}, Barred: barsOf(p.releases, p.state.Pardoned)}
	for name, x := range of.Services {
		x.Before, x.New = "", false
		again.Services[name] = x
	}
	return again
}

// followedWords says what a release would be followed to, "" where the file asks for
// something else too.
func (p *pass) followedWords() string {
	if p.pinned != nil || !p.follow.fresh || !p.sameFile(last(p.releases)) {
		return ""
	}
	return few(p.follow.record.words())
}

// unheard says, in a sentence, that a registry has yet to say what a service is to run of
// which nothing is in force.
func (p *pass) unheard() string {
	if p.follow.unheard == "" || p.pinned != nil {
		return ""
	}
	return fmt.Sprintf("the registry has not answered yet what %s follows", p.follow.unheard)
}

// followFindings tells of what is not followed, and why. What a person asked for tells
// itself.
func (p *pass) followFindings() []spec.Finding {
	var found []spec.Finding
	tell := func(code, service, message string) {
		f := spec.Finding{Severity: spec.Warning, Code: code, Service: service, Message: message}
		f.File, f.Line, f.Column = p.stack.Where(service, "image")
		if f.File == "" {
			f.File = p.stack.Source.File
		}
		found = append(found, f)
	}
	for _, st := range p.follow.status {
		if st.Problem != "" {
			tell("follow-away", st.Service, fmt.Sprintf("%s follows %s, and %s (what runs stays)", st.Service, st.Follows, st.Problem))
		}
		if st.Held != "" && !p.state.IsSuspended() && !p.stack.Policy.Suspend && p.pinned == nil {
			tell("follow-held", st.Service, fmt.Sprintf("%s follows %s, and what was found is held: %s", st.Service, st.Follows, st.Held))
		}
	}
	return p.gradeTold(found)
}
