package controller

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
)

// What the acting controller knows and the Swarm cannot tell is published in the Swarm,
// in one config object, so that `skep status` needs no door into the daemon: a source
// that cannot be believed, files that do not load, why a stack is held before its first
// release, a removal that waits. What the Swarm tells by itself is not in it, nor what
// only goes on: of a state that stays as it is nothing is written.

// Published is that report.
type Published struct {
	At     time.Time       `json:"at"` // when it was written
	Source PublishedSource `json:"source"`
	// Sources are those that are not believed, where there are several: Source says it of
	// all of them together.
	Sources []PublishedSource `json:"sources,omitempty"`
	// Policy says why what the policy file says is not in force; nil: it is.
	Policy *PublishedPolicy `json:"policy,omitempty"`
	// Stacks are those with something the matter, sorted by name.
	Stacks []PublishedStack `json:"stacks,omitempty"`
	Prune  *PublishedPrune  `json:"prune,omitempty"` // stacks whose removal waits; nil: none
	// Lost are stacks that were removed within reconcile.LossWindow without a person's word,
	// with when: whoever acts next weighs them too.
	Lost map[string]time.Time `json:"lost,omitempty"`
	// Follows is what services follow, sorted by stack. When a registry answered last is
	// written anew once an hour, where nothing else is different.
	Follows []PublishedFollow `json:"follows,omitempty"`
	// Omitted is how many more stacks there are that something is the matter with.
	Omitted int `json:"omitted,omitempty"`
}

// PublishedSource says whether the specs directory is believed, or one of several.
type PublishedSource struct {
	Name    string    `json:"name,omitempty"` // where there are several
	Ready   bool      `json:"ready"`
	Reason  string    `json:"reason,omitempty"` // one CamelCase word
	Message string    `json:"message,omitempty"`
	Since   time.Time `json:"since,omitzero"`
}

// PublishedPolicy says that the policy file cannot be read, and an earlier version of it
// is in force or, where it is missing, nothing is done.
type PublishedPolicy struct {
	Message string    `json:"message"`
	Since   time.Time `json:"since"`
	Missing bool      `json:"missing,omitempty"`
}

// PublishedStack says what is the matter with a stack.
type PublishedStack struct {
	Stack   string    `json:"stack"`
	Reason  string    `json:"reason"` // one CamelCase word
	Message string    `json:"message"`
	Since   time.Time `json:"since"`
	// Release is the newest release by then, -1 for none: what a newer one says counts
	// more.
	Release  int            `json:"release"`
	Findings []spec.Finding `json:"findings,omitempty"` // the errors of a file that does not load
}

// PublishedFollow is what becomes of what a service of a stack follows.
type PublishedFollow struct {
	Stack string `json:"stack"`
	reconcile.FollowStatus
}

// PublishedPrune is a removal of whole stacks that waits.
type PublishedPrune struct {
	reconcile.Blockade
	Message string `json:"message"`
	More    int    `json:"more,omitempty"` // how many names were left out
}

// sourceInvalid is the reason of a stack whose file does not load.
const sourceInvalid = "SourceInvalid"

// Bounds of what is published, and how often it is.
const (
	maxPublished        = 64 << 10 // bytes
	maxPublishedFinding = 5        // of a stack
	maxPublishedNames   = 200      // of stacks whose removal waits
	maxPublishedSources = 20       // that are not believed
	maxPublishedWords   = 500      // characters of a sentence
	maxPublishedFollows = 200      // services that follow

	publishEvery = 5 * time.Second
	// rewordEvery is how long nothing is written but for other words for the same.
	rewordEvery = time.Minute
	// publishRetry is how long after a write that failed the next one comes.
	publishRetry = 10 * time.Second
	// reaskEvery is how long nothing is written but that a registry answered once more.
	reaskEvery = time.Hour

	labelReport = reconcile.LabelPrefix + "report"
)

// toldBySwarm are reasons that `skep status` finds out from what is remembered, with the
// words of the moment.
var toldBySwarm = map[string]bool{
	"Suspended": true, "ReleaseFailed": true, "RolledBack": true, "RollbackFailed": true, "RollbackIncomplete": true,
	reconcile.SourceStale:  true,
	reconcile.PruneBlocked: true, // services, in the stack's state; stacks are in Published.Prune
}

// found is what there is to publish now.
func (c *controller) found(now time.Time) Published {
	d := c.desired.Load()
	p := Published{Source: PublishedSource{Ready: true}}
	if err := c.sourceReady(); err != nil && c.policy.missing() == nil {
		p.Source = PublishedSource{Reason: sourceReason(d), Message: words(err.Error()), Since: d.since}
		p.Sources = c.unbelieved(d)
	}
	if b := c.policy.problem(); b != nil {
		p.Policy = &PublishedPolicy{Message: words(b.err.Error()), Since: b.since, Missing: c.policy.missing() != nil}
	}
	results := c.book.results()
	for name, r := range results {
		if s, ok := heldStack(name, r, now); ok && d.problems[name] == nil {
			p.Stacks = append(p.Stacks, s)
		}
	}
	for name, findings := range d.problems {
		s := PublishedStack{Stack: name, Reason: sourceInvalid, Message: words(d.problem(name)), Since: now, Release: releaseOf(results[name])}
		for _, f := range findings {
			if f.Severity == spec.Error && len(s.Findings) < maxPublishedFinding {
				f.Message = words(f.Message)
				s.Findings = append(s.Findings, f)
			}
		}
		p.Stacks = append(p.Stacks, s)
	}
	slices.SortFunc(p.Stacks, func(a, b PublishedStack) int { return strings.Compare(a.Stack, b.Stack) })
	if b := c.kept.waited(); b != nil && c.PruneStacks {
		p.Prune = publishedPrune(b)
	}
	p.Lost = c.kept.losses()
	p.Follows = c.follows(d, results)
	return p
}

// unbelieved are the sources that are not believed, where there are several.
func (c *controller) unbelieved(d *desired) (found []PublishedSource) {
	for _, s := range d.sources {
		if err := s.problem(); err != nil && len(c.Sources) > 1 && len(found) < maxPublishedSources {
			found = append(found, PublishedSource{Name: s.name, Reason: spec.SourceReason(err), Message: words(err.Error()), Since: s.since})
		}
	}
	return found
}

func publishedPrune(b *reconcile.Blockade) *PublishedPrune {
	p := &PublishedPrune{Blockade: *b, Message: b.Why()}
	if more := len(b.Names) - maxPublishedNames; more > 0 {
		p.Names, p.More = b.Names[:maxPublishedNames], more
	}
	return p
}

// heldStack says what a pass found the matter with a stack, if the Swarm cannot tell.
func heldStack(name string, r reconcile.Result, now time.Time) (PublishedStack, bool) {
	s := PublishedStack{Stack: name, Reason: cmp.Or(r.Reason, string(r.Outcome)), Message: words(sentence(r)), Since: now, Release: releaseOf(r)}
	switch {
	case r.Outcome == reconcile.Held:
		return s, !toldBySwarm[r.Reason]
	case r.Outcome == reconcile.Failed:
		return s, !errors.Is(r.Err, context.Canceled)
	case r.Outcome == reconcile.Waiting && r.Reason == "DependencyNotReady":
		s.Message, _, _ = strings.Cut(s.Message, ": ") // what the other one is at it tells itself
		return s, true
	}
	return s, false
}

func releaseOf(r reconcile.Result) int {
	if r.Release == nil {
		return -1
	}
	return r.Release.Number
}

func sourceReason(d *desired) string {
	if d.err == nil {
		return sourceNotRead
	}
	return spec.SourceReason(d.err)
}

// words is a sentence that is not too long, and on one line.
func words(s string) string {
	s = reconcile.Printable(s)
	if r := []rune(s); len(r) > maxPublishedWords {
		s = string(r[:maxPublishedWords-1]) + "…"
	}
	return s
}

// Empty says that there is nothing to tell.
func (p *Published) Empty() bool {
	return p.Source.Ready && p.Policy == nil && len(p.Stacks) == 0 && p.Prune == nil && p.Omitted == 0
}

// after is p as it follows old: what was so before has been so since then.
func (p Published) after(old *Published) Published {
	if old == nil {
		return p
	}
	if p.Source.Reason == old.Source.Reason {
		p.Source.Since = old.Source.Since
	}
	p.Sources = slices.Clone(p.Sources)
	for i := range p.Sources {
		s := &p.Sources[i]
		if n := slices.IndexFunc(old.Sources, func(o PublishedSource) bool { return o.Name == s.Name && o.Reason == s.Reason }); n >= 0 {
			s.Since = old.Sources[n].Since
		}
	}
	if p.Policy != nil && old.Policy != nil {
		p.Policy = &PublishedPolicy{Message: p.Policy.Message, Since: old.Policy.Since, Missing: p.Policy.Missing}
	}
	since := map[[2]string]time.Time{}
	for _, s := range old.Stacks {
		since[[2]string{s.Stack, s.Reason}] = s.Since
	}
	p.Stacks = slices.Clone(p.Stacks)
	for i := range p.Stacks {
		if at, ok := since[[2]string{p.Stacks[i].Stack, p.Stacks[i].Reason}]; ok {
			p.Stacks[i].Since = at
		}
	}
	p.Follows = askedAfter(p.Follows, old.Follows)
	if p.Prune != nil && old.Prune != nil && p.Prune.ID == old.Prune.ID {
		again := *p.Prune
		again.Since, p.Prune = old.Prune.Since, &again
	}
	return p
}

// news says whether p tells something else than old, and whether only in other words.
func (p Published) news(old *Published) (differs, wordsOnly bool) {
	if old == nil {
		return !p.Empty() || len(p.Lost) > 0 || len(p.Follows) > 0, false
	}
	was := *old
	p.At, was.At = time.Time{}, time.Time{}
	if p.text() == was.text() {
		return false, false
	}
	return true, reflect.DeepEqual(p.wordless(), was.wordless())
}

// wordless is what p tells, without its sentences.
func (p Published) wordless() []string {
	out := []string{p.Source.Reason, fmt.Sprint(p.Policy != nil, p.Policy != nil && p.Policy.Missing), fmt.Sprint(p.Omitted), fmt.Sprint(p.Lost)}
	for _, s := range p.Sources {
		out = append(out, s.Name, s.Reason)
	}
	for _, s := range p.Stacks {
		out = append(out, s.Stack, s.Reason, fmt.Sprint(s.Release))
		for _, f := range s.Findings {
			out = append(out, f.File, f.Code)
		}
	}
	if p.Prune != nil {
		out = append(out, p.Prune.ID)
	}
	for _, f := range p.Follows {
		out = append(out, f.Stack, f.Service, f.Follows, f.Image, f.Held, fmt.Sprint(f.Problem != ""))
	}
	return out
}

func (p Published) text() string {
	b, err := json.Marshal(p)
	if err != nil {
		panic("encode a report: " + err.Error()) // plain data
	}
	return string(b)
}

// fitted is p within maxPublished: first findings go, then sentences get shorter, then
// the last stacks go, which are counted.
func (p Published) fitted() Published {
	if len(p.text()) <= maxPublished {
		return p
	}
	p.Stacks, p.Follows = slices.Clone(p.Stacks), nil
	for i := range p.Stacks {
		s := &p.Stacks[i]
		s.Findings = nil
		if r := []rune(s.Message); len(r) > 100 {
			s.Message = string(r[:99]) + "…"
		}
	}
	all := p.Stacks
	fits := sort.Search(len(all), func(n int) bool { // the most that fit
		p.Stacks, p.Omitted = all[:n+1], len(all)-n-1
		return len(p.text()) > maxPublished
	})
	p.Stacks, p.Omitted = all[:fits], len(all)-fits
	return p
}

// ReadPublished reads what the controller of an owner published; nil where that is
// nothing, or cannot be understood.
func ReadPublished(ctx context.Context, engine reconcile.Swarm, owner string) (*Published, error) {
	n := note{engine, reconcile.KindReport, owner}
	c, err := n.read(ctx)
	if err != nil || c == nil {
		return nil, err
	}
	return parsePublished(c.Spec.Labels[labelReport]), nil
}

// Over adds to what the Swarm tells of a stack what the acting controller does, and says
// whether that is anything. A release that began since then counts more.
func (p *Published) Over(r reconcile.Result, name string) (reconcile.Result, bool) {
	if p == nil {
		return r, false
	}
	if p.Prune != nil && slices.Contains(p.Prune.Names, name) {
		return overlaid(r, name, PublishedStack{Reason: reconcile.PruneBlocked, Since: p.Prune.Since,
			Message: "its file is gone, and its removal, with others, waits for a person (see: skep prune)"}), true
	}
	for _, s := range p.Stacks {
		if s.Stack == name {
			if r.Release != nil && r.Release.Number > s.Release {
				return r, false
			}
			if s.Reason == reconcile.Orphaned {
				return orphaned(r, name, s), true
			}
			return overlaid(r, name, s), true
		}
	}
	return r, false
}

// orphaned is a result of a stack whose file is gone. That is said beside how it is, and
// makes it no worse: without --prune-stacks it is to stay.
func orphaned(r reconcile.Result, name string, s PublishedStack) reconcile.Result {
	r.Stack, r.Reason, r.Message = name, s.Reason, s.Message
	r.Conditions = slices.Clone(r.Conditions)
	for i := range r.Conditions {
		if c := &r.Conditions[i]; c.Message != "" {
			c.Message += "; " + s.Message
		}
	}
	return r
}

// overlaid is a result with what is the matter with its stack: it is not Ready, and
// nothing goes on with it unless it waits for another one.
func overlaid(r reconcile.Result, name string, s PublishedStack) reconcile.Result {
	r.Stack, r.Reason, r.Message = name, s.Reason, s.Message
	waits := s.Reason == "DependencyNotReady"
	conditions := slices.Clone(r.Conditions)
	if len(conditions) == 0 {
		for _, t := range []reconcile.ConditionType{reconcile.Ready, reconcile.Progressing, reconcile.Degraded, reconcile.Stalled} {
			conditions = append(conditions, reconcile.Condition{Type: t, Since: s.Since})
		}
	}
	for i := range conditions {
		c := &conditions[i]
		switch c.Type {
		case reconcile.Ready:
			*c = reconcile.Condition{Type: c.Type, Reason: s.Reason, Message: s.Message, Since: s.Since}
		case reconcile.Progressing:
			*c = reconcile.Condition{Type: c.Type, True: waits, Since: s.Since}
		case reconcile.Stalled:
			*c = reconcile.Condition{Type: c.Type, True: !waits, Since: s.Since}
		}
		if c.True && c.Type != reconcile.Degraded {
			c.Reason, c.Message = s.Reason, s.Message
		}
	}
	r.Conditions = conditions
	r.Findings = append(slices.Clone(r.Findings), s.Findings...)
	return r
}

func parsePublished(text string) *Published {
	var p Published
	if len(text) > 2*maxPublished || json.Unmarshal([]byte(text), &p) != nil {
		return nil
	}
	return &p
}
