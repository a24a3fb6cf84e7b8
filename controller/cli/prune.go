package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/skep-io/skep/controller"
	"github.com/skep-io/skep/reconcile"
)

// A waitingPrune is a removal that waits, as a line of prune and what --format gets.
type waitingPrune struct {
	reconcile.Blockade
	More int    `json:"more,omitempty"` // how many names are left out
	Why  string `json:"why"`            // a sentence
}

func (a *app) prune() *cobra.Command {
	var (
		engine engineFlags
		format formatFlag
		owner  string
		id     string
		quiet  bool
	)
	cmd := &cobra.Command{
		Use:     "prune [--confirm ID]",
		Short:   "Tell which removals wait for a person, and confirm one",
		GroupID: groupEngine,
		Long: `Tell which removals wait for a person, or confirm one of them by its ID.

A directory that lost much at once is more often broken than tidied up. So skep waits
before it removes more than a third of the stacks (with --prune-stacks) and more than
one, or all of them; and before it rolls out a file that lost more than half of its
stack's services, and more than two. An ID stands for just what would go: where that
becomes something else, so does the ID.

Confirming only asks for it. A running daemon carries it out at once; without one,
skep apply --confirm ID does. Exit code 1 says that something waits, or that nothing
with that ID does.`,
		Example: `  skep prune
  skep prune --confirm 1f3c9a02`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			t, err := format.parse()
			if err != nil {
				return err
			}
			swarm, err := engine.connect()
			if err != nil {
				return err
			}
			defer swarm.Close()
			p := pruning{engine: swarm, owner: owner, reconciler: reconcile.New(reconcile.Options{Swarm: swarm, Owner: owner})}
			if err := p.look(cmd.Context()); err != nil {
				return engine.explain(err)
			}
			if cmd.Flags().Changed("confirm") || a.byVariable["confirm"] {
				said, err := p.confirm(cmd.Context(), strings.TrimSpace(id))
				if _, no := errors.AsType[verdict](err); no {
					return err
				}
				if err != nil {
					return answer(err, engine.explain)
				}
				if !quiet {
					fmt.Fprintln(a.err, reconcile.Printable(said))
				}
				return nil
			}
			switch {
			case quiet:
				for _, w := range p.waiting {
					fmt.Fprintln(a.out, w.ID)
				}
			case format.value != "table":
				err = printEach(a.out, t, p.waiting)
			case len(p.waiting) == 0:
				fmt.Fprintln(a.err, "no removal waits")
			default:
				err = a.printWaiting(p.waiting, time.Now())
			}
			if err == nil && len(p.waiting) > 0 {
				err = no
			}
			return err
		},
	}
	engine.install(cmd)
	format.install(cmd, "table", "json")
	installOwner(cmd, &owner)
	f := cmd.Flags()
	f.StringVar(&id, "confirm", "", "ID of the removal to confirm")
	f.BoolVarP(&quiet, "quiet", "q", false, "Print IDs only")
	return cmd
}

// A pruning knows what waits.
type pruning struct {
	engine     reconcile.Swarm
	owner      string
	reconciler *reconcile.Reconciler
	waiting    []waitingPrune
}

// look asks the Swarm what waits: whole stacks first, by what the acting controller
// tells, then services, by what is remembered of their stacks.
func (p *pruning) look(ctx context.Context) error {
	published, err := controller.ReadPublished(ctx, p.engine, p.owner)
	if err != nil {
		return err
	}
	if published != nil && published.Prune != nil {
		p.waiting = append(p.waiting, waitingPrune{published.Prune.Blockade, published.Prune.More, published.Prune.Message})
	}
	if _, err := p.reconciler.Refresh(ctx); err != nil {
		return err
	}
	for _, b := range p.reconciler.Blockades() {
		p.waiting = append(p.waiting, waitingPrune{b, 0, b.Why()})
	}
	return nil
}

// confirm confirms the removal with that ID, and says what becomes of it.
func (p *pruning) confirm(ctx context.Context, id string) (said string, err error) {
	for _, w := range p.waiting {
		if w.ID != id || id == "" {
			continue
		}
		if w.Stack != "" {
			in, err := p.reconciler.ConfirmPrune(ctx, w.Stack, id)
			return in.Message, err
		}
		gone, err := controller.ConfirmPrune(ctx, p.engine, p.owner, id)
		switch {
		case errors.Is(err, controller.ErrUnknownPlan):
			return "", verdict{fmt.Sprintf("%s is out of date: the files have changed meanwhile (`skep prune` shows what waits)", id)}
		case err != nil:
			return "", err
		}
		return fmt.Sprintf("%s are to be removed, volumes stay: %s", plural(len(gone.Names)+gone.More, "stack"), strings.Join(gone.Names, ", ")), nil
	}
	if len(p.waiting) == 0 {
		return "", verdict{fmt.Sprintf("no removal waits, so there is none with the ID %q (it may be carried out, or out of date)", id)}
	}
	return "", verdict{fmt.Sprintf("no removal with the ID %q waits: it is out of date, or misspelt (`skep prune` shows those that do)", id)}
}

func (a *app) printWaiting(waiting []waitingPrune, now time.Time) error {
	rows := make([][]string, 0, len(waiting))
	for _, w := range waiting {
		what := "stacks"
		if w.Stack != "" {
			what = "services of " + w.Stack
		}
		names := strings.Join(w.Names, ", ")
		if w.More > 0 {
			names += fmt.Sprintf(" and %d more", w.More)
		}
		rows = append(rows, []string{w.ID, what, strconv.Itoa(len(w.Names)+w.More) + " of " + strconv.Itoa(w.Of), age(now, w.Since), names})
	}
	if err := printTable(a.out, []string{"ID", "WHAT", "HOW MANY", "SINCE", "WOULD GO"}, rows); err != nil {
		return err
	}
	for _, w := range waiting {
		fmt.Fprintf(a.out, "\n%s: %s\n", w.ID, printable(w.Why))
	}
	return nil
}
