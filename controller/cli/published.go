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
// and says whether that is anything.
func withPublished(r reconcile.Result, name string, p *controller.Published) (reconcile.Result, bool) {
	return p.Over(r, name)
}

// followedBy is what services of a stack follow, as the acting controller tells.
func followedBy(p *controller.Published, stack string) []reconcile.FollowStatus {
	if p == nil {
		return nil
	}
	var out []reconcile.FollowStatus
	for _, f := range p.Follows {
		if f.Stack == stack {
			out = append(out, f.FollowStatus)
		}
	}
	return out
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
	for _, s := range p.Sources {
		fmt.Fprintf(out, "%s, %s: source %s cannot be believed, and what was read of it before stays in force: %s\n", s.Reason, age(now, s.Since), reconcile.Printable(s.Name), reconcile.Printable(s.Message))
	}
	if !p.Source.Ready && p.Sources == nil {
		fmt.Fprintf(out, "%s, %s: the specs cannot be believed, and what was read before stays in force: %s\n", p.Source.Reason, age(now, p.Source.Since), reconcile.Printable(p.Source.Message))
	}
	if p.Policy != nil {
		meanwhile := "its last good version stays in force"
		if p.Policy.Missing {
			meanwhile = "nothing is done before it can"
		}
		fmt.Fprintf(out, "PolicyInvalid, %s: the policy file cannot be read, and %s: %s\n", age(now, p.Policy.Since), meanwhile, reconcile.Printable(p.Policy.Message))
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
