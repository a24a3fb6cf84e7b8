package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/skep-io/skep/reconcile"
)

// isRefused says that an error is an answer that is no.
func isRefused(err error) bool { return errors.Is(err, reconcile.ErrRefused) }

// An asking is a verb that asks for something and leaves it to the acting controller.
type asking struct {
	app    *app
	engine engineFlags
	format formatFlag
	owner  string
	quiet  bool
}

func (x *asking) install(cmd *cobra.Command) {
	x.engine.install(cmd)
	x.app.completeStacks(cmd, &x.engine, &x.owner, nil)
	x.format.install(cmd, "text", "json")
	installOwner(cmd, &x.owner)
	cmd.Flags().BoolVarP(&x.quiet, "quiet", "q", false, "Print errors only")
}

// run asks, and then does what is left to do.
func (x *asking) run(ctx context.Context, stack string, ask func(*reconcile.Reconciler) (reconcile.Intent, error), then func(*reconcile.Reconciler, reconcile.Intent) error) error {
	t, err := x.format.parse()
	if err != nil {
		return err
	}
	swarm, err := x.engine.connect()
	if err != nil {
		return err
	}
	defer swarm.Close()
	r := reconcile.New(reconcile.Options{Swarm: swarm, Owner: x.owner})
	in, err := ask(r)
	if err != nil {
		return answer(unknownStack(ctx, r, stack, err), x.engine.explain)
	}
	switch {
	case x.format.value != "text":
		err = printEach(x.app.out, t, []reconcile.Intent{in})
	case !x.quiet:
		fmt.Fprintln(x.app.err, reconcile.Printable(in.Message))
	}
	if err != nil || then == nil {
		return err
	}
	return then(r, in)
}

// tellWho says who carries an intent out.
func (x *asking) tellWho(in reconcile.Intent) {
	if in.Changed && !x.quiet && x.format.value == "text" {
		fmt.Fprintf(x.app.err, "A running daemon carries it out; without one: skep apply --specs DIR %s\n", in.Stack)
	}
}

func (a *app) rollback() *cobra.Command {
	var (
		x       = asking{app: a}
		to      int
		wait    bool
		timeout time.Duration
	)
	cmd := &cobra.Command{
		Use:     "rollback STACK",
		Short:   "Go back to an earlier release, and stay there",
		GroupID: groupEngine,
		Long: `Go back to an earlier release of a stack: to the newest that was healthy before
what runs, or to the one that --to names. The stack is pinned to it: it stays so
until its files change or skep resume.

This only asks for it. A running daemon carries it out at once; without one,
skep apply does. With --wait it stays to see what becomes of it: exit code 1 says
that the stack is not healthy there, or that nobody carried it out in time.`,
		Example: `  skep rollback shop --wait
  skep rollback shop --to 4`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("to") && to < 0 {
				return usagef("--to %d is not the number of a release (`skep history %s` shows them)", to, args[0])
			}
			return x.run(cmd.Context(), args[0], func(r *reconcile.Reconciler) (reconcile.Intent, error) {
				return r.RequestRollback(cmd.Context(), args[0], to)
			}, func(r *reconcile.Reconciler, in reconcile.Intent) error {
				x.tellWho(in)
				if !wait {
					return nil
				}
				w := pinWatch{observer: r, stack: in.Stack, pin: in.State.Pin, explain: x.engine.explain, board: a.board(x.quiet)}
				return w.until(cmd.Context(), timeout)
			})
		},
	}
	x.install(cmd)
	f := cmd.Flags()
	f.IntVar(&to, "to", reconcile.Any, "Release to go back to (default: the newest that was healthy before what runs)")
	f.Lookup("to").DefValue = "0" // which help leaves out: the sentence says it
	_ = cmd.RegisterFlagCompletionFunc("to", func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		return a.askToComplete(cmd, &x.engine, &x.owner, func(ctx context.Context, r *reconcile.Reconciler) []string {
			if len(args) == 0 {
				return nil
			}
			return releasesOf(ctx, r, args[0])
		}), cobra.ShellCompDirectiveNoFileComp
	})
	f.BoolVar(&wait, "wait", false, "Wait until the stack is there and healthy, or that is of no use")
	f.DurationVar(&timeout, "timeout", 10*time.Minute, "How long to wait")
	return cmd
}

func (a *app) suspend() *cobra.Command {
	var (
		x   = asking{app: a}
		why string
	)
	cmd := &cobra.Command{
		Use:     "suspend STACK",
		Short:   "Write nothing of a stack until it is resumed",
		GroupID: groupEngine,
		Long: `Write nothing of a stack until skep resume, whatever its files say and whatever
becomes of it: no release, no correction of drift, no rollback. What Swarm itself is
at goes on.

It holds for daemons and for skep apply, survives both, and is shown by status,
history and plan.`,
		Example: `  skep suspend shop --why "moving the database, ask the on-call"`,
		Args:    usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return x.run(cmd.Context(), args[0], func(r *reconcile.Reconciler) (reconcile.Intent, error) {
				return r.Suspend(cmd.Context(), args[0], why)
			}, nil)
		},
	}
	x.install(cmd)
	cmd.Flags().StringVar(&why, "why", "", "Reason, for those who wonder")
	return cmd
}

func (a *app) resume() *cobra.Command {
	x := asking{app: a}
	cmd := &cobra.Command{
		Use:     "resume STACK",
		Short:   "End a suspension or a pin, and try again what failed",
		GroupID: groupEngine,
		Long: `Let a stack be as its files say again: end its suspension, end the pin of a
skep rollback, and forgive what failed. If the newest release of its files failed,
that is tried again: where that is not wanted, correct the files first. Of a stack
that is suspended, and not pinned, only that ends: what failed before takes another
skep resume.

A suspension by x-skep.suspend in the file is the file's to end.`,
		Example: `  skep resume shop`,
		Args:    usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return x.run(cmd.Context(), args[0], func(r *reconcile.Reconciler) (reconcile.Intent, error) {
				return r.Resume(cmd.Context(), args[0])
			}, func(_ *reconcile.Reconciler, in reconcile.Intent) error {
				x.tellWho(in)
				return nil
			})
		},
	}
	x.install(cmd)
	return cmd
}

// A pinWatch waits until a stack is as the release that it is pinned to.
type pinWatch struct {
	observer
	stack   string
	pin     int
	explain func(error) error
	board   *board
}

func (w *pinWatch) until(ctx context.Context, timeout time.Duration) error {
	limit := time.NewTimer(timeout)
	defer limit.Stop()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	defer w.board.end()
	for {
		w.Forget(w.stack)
		if _, err := w.Refresh(ctx); err != nil {
			return w.explain(err)
		}
		res, err := w.Status(ctx, w.stack)
		if err != nil {
			return fmt.Errorf("status of stack %s: %w", w.stack, w.explain(err))
		}
		w.board.show([]stackStatus{w.shown(res)}, time.Now())
		if over, err := pinned(res, w.pin); over {
			return err
		}
		select {
		case <-tick.C:
		case <-limit.C:
			return verdict{late(res, w.pin, timeout)}
		case <-ctx.Done():
			return fmt.Errorf("wait for stack %s: %w (what was asked for holds)", w.stack, context.Cause(ctx))
		}
	}
}

// shown is how the stack is; until somebody begins that says nothing of what is waited
// for.
func (w *pinWatch) shown(res reconcile.Result) stackStatus {
	if !repeats(res.Release, w.pin) {
		return stackStatus{Name: w.stack, Status: "waiting for a controller to begin"}
	}
	return summarize(res)
}

// pinned says whether waiting for a stack to be as release pin is over: it is so and
// healthy, it failed to be, or it is not asked for any more.
func pinned(r reconcile.Result, pin int) (over bool, no error) {
	switch rel := r.Release; {
	case !r.State.IsPinned() || r.State.Pin != pin:
		return true, verdict{fmt.Sprintf("stack %s is not pinned to release %d any more: its files have changed, or somebody asked for something else (`skep history %s`)", r.Stack, pin, r.Stack)}
	case r.State.IsSuspended():
		return true, verdict{fmt.Sprintf("stack %s was suspended meanwhile: nothing of it is written (`skep resume %s`)", r.Stack, r.Stack)}
	case !repeats(rel, pin):
		return false, nil // nobody has begun yet
	case rel.Phase == reconcile.PhaseFailed, stalled(r.Conditions):
		return true, verdict{fmt.Sprintf("stack %s went back to release %d and is not healthy there: %s", r.Stack, pin, summarize(r).Message)}
	default:
		return rel.Phase == reconcile.PhaseHealthy && r.Progress == nil && whole(r.Services), nil
	}
}

// repeats says that a release is release n, or that somebody asked for it again.
func repeats(rel *reconcile.Release, n int) bool {
	return rel != nil && (rel.Number == n || rel.By == reconcile.ByHand && rel.Of == n)
}

func whole(services []reconcile.ServiceStatus) bool {
	for _, s := range services {
		if s.Health != reconcile.Healthy {
			return false
		}
	}
	return true
}

// late says why a wait ended without an answer.
func late(r reconcile.Result, pin int, timeout time.Duration) string {
	if !repeats(r.Release, pin) {
		return fmt.Sprintf("nobody took stack %s back to release %d within %s: is a daemon running? (it stays asked for; without a daemon: skep apply --specs DIR %s)", r.Stack, pin, timeout, r.Stack)
	}
	return fmt.Sprintf("stack %s was not healthy at release %d within %s: %s", r.Stack, pin, timeout, summarize(r).Message)
}
