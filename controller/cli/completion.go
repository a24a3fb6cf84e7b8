package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/skep-io/skep/reconcile"
)

// completionLimit is how long a person who pressed a key is kept waiting.
const completionLimit = 3 * time.Second

// completeStacks has the shell complete the one name of a stack that a verb takes, from
// those that skep knows in the Swarm. Whatever keeps it from knowing completes nothing:
// the verb itself will say what is wrong. then completes what comes after the name.
func (a *app) completeStacks(cmd *cobra.Command, engine *engineFlags, owner *string, then func(context.Context, *reconcile.Reconciler, string) []string) {
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		words := a.askToComplete(cmd, engine, owner, func(ctx context.Context, r *reconcile.Reconciler) []string {
			if len(args) == 0 {
				return stacksOf(ctx, r)
			}
			if then == nil {
				return nil
			}
			return then(ctx, r, args[0])
		})
		return words, cobra.ShellCompDirectiveNoFileComp
	}
}

// askToComplete asks the engine that the flags so far name.
func (a *app) askToComplete(cmd *cobra.Command, engine *engineFlags, owner *string, ask func(context.Context, *reconcile.Reconciler) []string) []string {
	parent := cmd.Context()
	if parent == nil {
		parent = context.Background()
	}
	ctx, cancel := context.WithTimeout(parent, completionLimit)
	defer cancel()
	if a.fromEnvironment(cmd) != nil {
		return nil
	}
	swarm, err := engine.client(nil)
	if err != nil {
		return nil
	}
	defer swarm.Close()
	return ask(ctx, reconcile.New(reconcile.Options{Swarm: swarm, Owner: *owner}))
}

func stacksOf(ctx context.Context, r *reconcile.Reconciler) []string {
	if _, err := r.Refresh(ctx); err != nil {
		return nil
	}
	return r.Stacks()
}

// releasesOf are the numbers of a stack's releases, each with what became of it.
func releasesOf(ctx context.Context, r *reconcile.Reconciler, stack string) []string {
	h, err := r.History(ctx, stack)
	if err != nil {
		return nil
	}
	words := make([]string, 0, len(h.Releases))
	for _, e := range h.Releases {
		words = append(words, cobra.CompletionWithDesc(strconv.Itoa(e.Number), fmt.Sprintf("%s, %s", e.Phase, revision(e, false))))
	}
	return words
}

// completeFiles has the shell complete names of stacks from the specs directory that
// the flags so far name.
func (a *app) completeFiles(cmd *cobra.Command, from *sourceFlags, specs *specFlags) {
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if a.fromEnvironment(cmd) != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		parent := cmd.Context()
		if parent == nil {
			parent = context.Background()
		}
		ctx, cancel := context.WithTimeout(parent, completionLimit)
		defer cancel()
		snapshot, err := a.scan(ctx, from, specs)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		names := slices.Collect(maps.Keys(snapshot.Stacks))
		names = slices.AppendSeq(names, maps.Keys(snapshot.Problems))
		names = slices.DeleteFunc(names, func(name string) bool { return slices.Contains(args, name) })
		slices.Sort(names)
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}
