package cli

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/skep-io/skep/controller"
	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
)

// A planner tells what passes would write. *reconcile.Reconciler is one.
type planner interface {
	Refresh(ctx context.Context) (changed []string, err error)
	Stacks() []string
	PlanFollowing(ctx context.Context, stack *spec.Stack, found map[string]reconcile.Found) (*reconcile.Plan, error)
}

func (a *app) plan() *cobra.Command {
	var (
		engine engineFlags
		specs  specFlags
		acting actingFlags
		format formatFlag
		from   sourceFlags
		strict bool
		quiet  bool
		whole  bool
		ref    string
	)
	cmd := &cobra.Command{
		Use:     "plan --specs DIR [STACK...]",
		Short:   "Tell what would change, field by field, and what restarts",
		GroupID: groupEngine,
		Long: `Tell what would change in the Swarm if the stacks in a directory were applied, all
of them or those that are named: field by field, as the compose file has them,
what restarts, and in which order. Nothing is written.

With --git-ref it is what another branch, tag or commit of the repository around the
directory says. The work tree stays as it is, nothing is fetched, and what is not
committed does not count.

--format markdown is a comment for a merge request: values of files stand in it as
code, it mentions nobody and has no links, and it is cut where a forge takes no more.

Exit code 1 says that there are differences, or that a stack is invalid, and with
--strict that the plan warns of something; 2, that nobody can tell. What files alone
give warning of is for skep validate to tell.`,
		Example: `  skep plan --specs stacks/
  skep plan --specs stacks/ shop blog
  skep plan --specs stacks/ --strict
  skep plan --specs stacks/ --git-ref origin/main
  skep plan --specs stacks/ --format markdown > comment.md
  skep plan --specs stacks/ --format json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := format.parse()
			if err != nil {
				return err
			}
			guard, err := acting.guard.load()
			if err != nil {
				return err
			}
			snapshot, err := a.readSpecsAt(cmd.Context(), &from, ref, &specs)
			if err != nil {
				return err
			}
			stacks, err := choose(snapshot, args)
			if err != nil {
				return err
			}
			swarm, err := engine.connect()
			if err != nil {
				return err
			}
			defer swarm.Close()
			p := planning{planner: acting.reconciler(swarm, guard), explain: engine.explain, whole: whole}
			p.found = acting.askRegistries(cmd.Context(), byName(stacks))
			if err := p.make(cmd.Context(), stacks); err != nil {
				return err
			}
			before, err := controller.Waited(cmd.Context(), swarm, acting.owner)
			if err != nil {
				return engine.explain(err)
			}
			p.findOrphans(snapshot, args, before)
			invalid := a.tellProblems(snapshot, args)
			switch {
			case quiet:
				p.printNames(a.out, acting.pruneStacks)
			case format.value == "text":
				err = p.print(a.out, a.colour(a.out), acting.pruneStacks)
			case format.value == "markdown":
				err = p.printComment(a.out, commentOn(snapshot, args), acting.pruneStacks)
			default:
				err = printEach(a.out, t, p.documents(acting.pruneStacks))
			}
			if err != nil {
				return err
			}
			return p.verdict(invalid || strict && p.warns(), acting.pruneStacks)
		},
	}
	a.completeFiles(cmd, &from, &specs)
	engine.install(cmd)
	specs.install(cmd)
	acting.install(cmd)
	format.install(cmd, "text", "json", "markdown")
	from.install(cmd)
	installGitRef(cmd, &ref)
	installNoTrunc(cmd, &whole)
	cmd.Flags().BoolVar(&strict, "strict", false, "Take warnings for errors")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "Print the names of stacks that differ only")
	return cmd
}

// choose gives the stacks of these names, or all, sorted by name.
func choose(snapshot *spec.Snapshot, names []string) ([]*spec.Stack, error) {
	if len(names) == 0 {
		names = slices.Sorted(maps.Keys(snapshot.Stacks))
	}
	var stacks []*spec.Stack
	for _, name := range slices.Compact(slices.Sorted(slices.Values(names))) {
		switch {
		case snapshot.Stacks[name] != nil:
			stacks = append(stacks, snapshot.Stacks[name])
		case snapshot.Problems[name] == nil:
			return nil, fmt.Errorf("no stack %q in %s (%s)", name, snapshot.Dir, known(snapshot, name))
		}
	}
	return stacks, nil
}

func byName(stacks []*spec.Stack) map[string]*spec.Stack {
	out := make(map[string]*spec.Stack, len(stacks))
	for _, s := range stacks {
		out[s.Name] = s
	}
	return out
}

// known tells, for an error, the stack that was probably meant, and those there are.
func known(snapshot *spec.Snapshot, name string) string {
	names := slices.Collect(maps.Keys(snapshot.Stacks))
	names = slices.AppendSeq(names, maps.Keys(snapshot.Problems))
	slices.Sort(names)
	if len(names) == 0 {
		return "there are none"
	}
	all := "there are: " + strings.Join(names, ", ")
	if word := meant(name, names); word != "" {
		return word + " " + all
	}
	return all
}

// A planning gathers the plans of several stacks.
type planning struct {
	planner
	explain func(error) error
	found   map[string]map[string]reconcile.Found // what registries said, by stack

	plans   []*reconcile.Plan
	orphans []string            // stacks that live without a file
	blocked *reconcile.Blockade // what of them would not be removed unasked
	whole   bool                // nothing is shortened
}

func (p *planning) make(ctx context.Context, stacks []*spec.Stack) error {
	if _, err := p.Refresh(ctx); err != nil {
		return p.explain(err)
	}
	for _, stack := range stacks {
		plan, err := p.PlanFollowing(ctx, stack, p.found[stack.Name])
		if err != nil {
			return fmt.Errorf("plan stack %s: %w", stack.Name, p.explain(err))
		}
		plan.Findings = append(plan.Findings, contended(stack, plan)...)
		p.plans = append(p.plans, plan)
	}
	return nil
}

// contended are the warnings of a stack's file that another one of the directory
// publishes a port too, which the plan is to publish: while neither lives the Swarm
// has nothing against it, and then only the first of them gets it.
func contended(stack *spec.Stack, plan *reconcile.Plan) []spec.Finding {
	var found []spec.Finding
	for _, f := range stack.Findings {
		if f.Code == "port-conflict" && slices.ContainsFunc(plan.Changes, func(c reconcile.Change) bool {
			return c.Kind == reconcile.KindService && c.Key == f.Service && publishes(c)
		}) {
			found = append(found, f)
		}
	}
	return found
}

// publishes says that a change may publish a port that was not.
func publishes(c reconcile.Change) bool {
	return c.Op == reconcile.OpCreate || slices.ContainsFunc(c.Fields, func(f reconcile.Field) bool { return strings.HasPrefix(f.Path, "ports") })
}

// findOrphans finds the stacks that live without a file, unless some were named: then
// others are not asked for. before is what waited for a person before, nil for nothing.
func (p *planning) findOrphans(snapshot *spec.Snapshot, named []string, before *reconcile.Blockade) {
	if len(named) > 0 {
		return
	}
	for _, name := range p.Stacks() {
		if snapshot.Gone(name) {
			p.orphans = append(p.orphans, name)
		}
	}
	p.blocked = controller.Waits(p.Stacks(), p.orphans, before)
}

// print prints the plans for people, and what becomes of orphans.
func (p *planning) print(w io.Writer, colour, prune bool) error {
	if err := (reconcile.Rendering{Color: colour, Whole: p.whole}).Plan(w, p.plans...); err != nil {
		return err
	}
	p.tellOrphans(w, prune)
	return nil
}

// A planDocument is a stack's plan as --format json has it.
type planDocument struct {
	reconcile.PlanView
	Orphan bool `json:"orphan,omitempty"` // its file is gone
	Pruned bool `json:"pruned,omitempty"` // and so the stack would be removed
}

// documents are the plans for machines.
func (p *planning) documents(prune bool) []planDocument {
	var documents []planDocument
	for _, plan := range p.plans {
		documents = append(documents, planDocument{PlanView: plan.View()})
	}
	for _, name := range p.orphans {
		documents = append(documents, planDocument{PlanView: (&reconcile.Plan{Stack: name}).View(), Orphan: true, Pruned: prune})
	}
	return documents
}

// printNames prints the names of the stacks that differ.
func (p *planning) printNames(w io.Writer, prune bool) {
	for _, plan := range p.plans {
		if differs(plan) {
			fmt.Fprintln(w, plan.Stack)
		}
	}
	if prune {
		for _, name := range p.orphans {
			fmt.Fprintln(w, name)
		}
	}
}

// maxOrphans is how many stacks that stay are named; those that would be removed are
// all named.
const maxOrphans = 5

// tellOrphans says in a line what becomes of stacks that have no file.
func (p *planning) tellOrphans(w io.Writer, prune bool) {
	n := len(p.orphans)
	if n == 0 {
		return
	}
	has, stay := "has", "stays as it is"
	if n > 1 {
		has, stay = "have", "stay as they are"
	}
	if prune {
		fmt.Fprintf(w, "%s %s no file here and would be removed, volumes stay: %s\n", plural(n, "stack"), has, strings.Join(p.orphans, ", "))
		if p.blocked != nil {
			fmt.Fprintf(w, "That waits for a person: %s\n", p.blocked.Why())
		}
		return
	}
	most := maxOrphans
	if p.whole {
		most = n
	}
	names := strings.Join(p.orphans[:min(n, most)], ", ")
	if n > most {
		names += fmt.Sprintf(" and %d more", n-most)
	}
	fmt.Fprintf(w, "%s %s no file here and %s: %s (--prune-stacks removes what has none; where another directory has it, give each directory its own --owner)\n", plural(n, "stack"), has, stay, names)
}

// warns says that a plan comes with a warning.
func (p *planning) warns() bool {
	return slices.ContainsFunc(p.plans, func(plan *reconcile.Plan) bool {
		return slices.ContainsFunc(plan.Findings, func(f spec.Finding) bool { return f.Severity == spec.Warning })
	})
}

// verdict is the answer to whether the Swarm is what the files say, and nothing else
// is wrong.
func (p *planning) verdict(wrong, prune bool) error {
	if wrong || prune && len(p.orphans) > 0 || slices.ContainsFunc(p.plans, differs) {
		return no
	}
	return nil
}

// differs says that a plan writes something, or cannot although it should, or that
// the file asks for what failed and is not tried again, or what a pin stands against, or
// that a release is to be taken back or tried again.
func differs(plan *reconcile.Plan) bool {
	return !plan.Empty() || slices.ContainsFunc(plan.Findings, func(f spec.Finding) bool {
		return f.Severity == spec.Error || slices.Contains([]string{"release-failed", "release-pending", "pinned"}, f.Code)
	})
}
