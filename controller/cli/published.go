package cli

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/skep-io/skep/controller"
	"github.com/skep-io/skep/reconcile"
)

// told are the names of stacks that live, and of those that the acting controller tells
// of, sorted: one that is held before its first release does not live.
func told(p *controller.Published, live []string) []string {
	names := slices.Clone(live)
	if p != nil {
		for _, s := range p.Stacks {
			names = append(names, s.Stack)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// withPublished adds to what the Swarm tells of a stack what the acting controller does,
// and says whether that is anything. A release that began since then counts more.
func withPublished(r reconcile.Result, name string, p *controller.Published) (reconcile.Result, bool) {
	if p == nil {
		return r, false
	}
	if p.Prune != nil && slices.Contains(p.Prune.Names, name) {
		return overlaid(r, name, controller.PublishedStack{Reason: reconcile.PruneBlocked, Since: p.Prune.Since,
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
func orphaned(r reconcile.Result, name string, s controller.PublishedStack) reconcile.Result {
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
func overlaid(r reconcile.Result, name string, s controller.PublishedStack) reconcile.Result {
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

// tellAway takes in who acts: of a report that is left by one who does not any more, what
// it says is marked as such.
func (w *watch) tellAway(holder controller.Holder, now time.Time) {
	if w.report == nil || w.report.Empty() || acts(holder, now) {
		return
	}
	w.away = true
	for i := range w.stacks {
		w.stacks[i].left = !w.stacks[i].Reported.IsZero()
	}
}

// tellPublished says what is the matter with all stacks together.
func (w *watch) tellPublished(out io.Writer, now time.Time) {
	p := w.report
	if p == nil {
		return
	}
	if w.away {
		fmt.Fprintf(out, "no controller acts: what it told last was written %s, and may be otherwise by now\n", strings.ToLower(age(now, p.At)))
	}
	if !p.Source.Ready {
		fmt.Fprintf(out, "%s, %s: the specs cannot be believed, and what was read before stays in force: %s\n", p.Source.Reason, age(now, p.Source.Since), reconcile.Printable(p.Source.Message))
	}
	if p.Policy != nil {
		fmt.Fprintf(out, "PolicyInvalid, %s: the policy file cannot be read, and its last good version stays in force: %s\n", age(now, p.Policy.Since), reconcile.Printable(p.Policy.Message))
	}
	if w.stack != "" {
		return
	}
	if p.Prune != nil {
		fmt.Fprintf(out, "%s, %s: %s\n", reconcile.PruneBlocked, age(now, p.Prune.Since), reconcile.Printable(p.Prune.Message))
	}
	for _, s := range p.Stacks {
		for _, f := range s.Findings[min(1, len(s.Findings)):] { // the first is the stack's sentence
			fmt.Fprintln(out, f.String())
		}
	}
	if p.Omitted > 0 {
		fmt.Fprintf(out, "something is the matter with %d stacks more, which the report has no room for (see the controller's log)\n", p.Omitted)
	}
}
