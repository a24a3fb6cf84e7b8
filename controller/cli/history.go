package cli

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/skep-io/skep/reconcile"
)

func (a *app) history() *cobra.Command {
	var (
		engine engineFlags
		format formatFlag
		quiet  bool
		owner  string
		filter filterFlag
		whole  bool
	)
	cmd := &cobra.Command{
		Use:     "history STACK [RELEASE]",
		Short:   "Tell a stack's releases, or what one of them changed",
		GroupID: groupEngine,
		Long: `Tell a stack's releases, newest first: what was rolled out, when, by whom, what
became of it and why. With a release's number tell what that changed: its
differences to the one before, as skep plan tells them.

It asks the engine: releases are remembered in the Swarm itself, as many as the
controller's --history says.`,
		Example: `  skep history shop
  skep history shop 7
  skep history shop --filter phase=failed --no-trunc
  skep history shop --format json
  skep history shop --format '{{.Number}} {{.Phase}} {{.Revision}}'`,
		Args: usageArgs(cobra.RangeArgs(1, 2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := format.parse()
			if err != nil {
				return err
			}
			wanted, err := filter.parse()
			if err != nil {
				return err
			}
			number := -1
			if len(args) == 2 {
				if number, err = releaseNumberOf(args[1]); err != nil {
					return err
				}
			}
			swarm, err := engine.connect()
			if err != nil {
				return err
			}
			defer swarm.Close()
			r := reconcile.New(reconcile.Options{Swarm: swarm, Owner: owner})
			if number >= 0 {
				c, err := r.Compare(cmd.Context(), args[0], number)
				if err != nil {
					return answer(unknownStack(cmd.Context(), r, args[0], err), engine.explain)
				}
				if format.value != "table" {
					return printEach(a.out, t, []comparison{compared(c)})
				}
				return a.printComparison(c, time.Now(), whole)
			}
			h, err := r.History(cmd.Context(), args[0])
			if err != nil {
				return answer(unknownStack(cmd.Context(), r, args[0], err), engine.explain)
			}
			shown := filtered(wanted, h.Releases, historyValue)
			switch {
			case quiet:
				for _, e := range shown {
					fmt.Fprintln(a.out, e.Number)
				}
				return nil
			case format.value != "table":
				return printEach(a.out, t, shown)
			}
			for _, line := range asked(h.State, time.Now()) {
				fmt.Fprintf(a.err, "stack %s is %s\n", h.Stack, line)
			}
			if newest := h.Releases[0]; h.State.Retries(newest.Number, newest.Phase) && !h.State.IsPinned() {
				fmt.Fprintf(a.err, "stack %s is to be tried again%s: a running daemon does so, or: skep apply\n", h.Stack, sincePardon(h.State, time.Now()))
			}
			return printHistory(a.out, shown, time.Now(), whole)
		},
	}
	engine.install(cmd)
	a.completeStacks(cmd, &engine, &owner, releasesOf)
	format.install(cmd, "table", "json")
	filter.install(cmd, "phase", "reason", "revision", "by")
	installNoTrunc(cmd, &whole)
	installOwner(cmd, &owner)
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "Print numbers only")
	return cmd
}

// releaseNumberOf reads a release's number, which can be 0: what skep found.
func releaseNumberOf(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return 0, usagef("%q is not the number of a release (`skep history STACK` shows them)", text)
	}
	return n, nil
}

// answer makes a verdict of an answer that is no, and else says what to do about err.
func answer(err error, explain func(error) error) error {
	if v, ok := errors.AsType[verdict](err); ok {
		return v
	}
	if isRefused(err) {
		return verdict{err.Error()}
	}
	return explain(err)
}

var historyHeaders = []string{"RELEASE", "NOW", "PHASE", "BY", "REVISION", "DIGEST", "STARTED", "TOOK", "REASON"}

// historyValue is what --filter looks at.
func historyValue(e *reconcile.HistoryEntry, key string) string {
	switch key {
	case "phase":
		return string(e.Phase)
	case "reason":
		return e.Reason
	case "revision":
		return e.Revision
	}
	return e.By
}

// printHistory prints a line for each release, and below what there is to say of some.
func printHistory(w io.Writer, entries []reconcile.HistoryEntry, now time.Time, whole bool) error {
	if err := printTable(w, historyHeaders, historyRows(entries, now, whole)); err != nil {
		return err
	}
	var said sentences
	for _, e := range entries {
		if e.Phase != reconcile.PhaseHealthy { // that says it all
			said.add("release "+strconv.Itoa(e.Number), e.Message)
		}
	}
	said.print(w)
	return nil
}

func historyRows(entries []reconcile.HistoryEntry, now time.Time, whole bool) [][]string {
	rows := make([][]string, 0, len(entries))
	for _, e := range entries {
		rows = append(rows, []string{
			strconv.Itoa(e.Number), dash(marks(e)), string(e.Phase), by(e), dash(revision(e, whole)), dash(shortDigest(e.Digest, whole)),
			age(now, e.Started), took(e), dash(e.Reason),
		})
	}
	return rows
}

// marks says what a release has to do with what the stack is now.
func marks(e reconcile.HistoryEntry) string {
	var words []string
	for _, m := range []struct {
		holds bool
		word  string
	}{{e.Running, "runs"}, {e.Pinned, "pinned"}, {e.Damaged, "damaged"}} {
		if m.holds {
			words = append(words, m.word)
		}
	}
	return strings.Join(words, ", ")
}

// by says who asked for a release: a file, or somebody who wanted an earlier one.
func by(e reconcile.HistoryEntry) string {
	if e.Of == nil {
		return e.By
	}
	return fmt.Sprintf("%s, of %d", e.By, *e.Of)
}

const maxSubject = 40 // characters of a commit's subject in a table

func revision(e reconcile.HistoryEntry, whole bool) string {
	subject := []rune(reconcile.Printable(e.Subject))
	if len(subject) > maxSubject && !whole {
		subject = append(subject[:maxSubject-1], '…')
	}
	return strings.TrimSpace(reconcile.Printable(e.Revision) + " " + string(subject))
}

const shownDigest = 12

// shortDigest is enough of a digest to tell it from others.
func shortDigest(digest string, whole bool) string {
	if whole {
		return digest
	}
	if _, hex, ok := strings.Cut(digest, ":"); ok {
		digest = hex
	}
	if len(digest) > shownDigest {
		return digest[:shownDigest]
	}
	return digest
}

// took is how long a release took, or takes by now.
func took(e reconcile.HistoryEntry) string {
	d := time.Duration(e.Seconds * float64(time.Second)).Round(time.Second)
	if e.Phase == reconcile.PhaseProgressing {
		return d.String() + " so far"
	}
	return d.String()
}

// asked tells what people ask of a stack, a line each.
func asked(s reconcile.State, now time.Time) []string {
	var lines []string
	if s.IsSuspended() {
		line := "suspended, " + since(now, s.Suspended)
		if s.Why != "" {
			line += ": " + reconcile.Printable(s.Why)
		}
		lines = append(lines, line)
	}
	if s.IsPinned() {
		lines = append(lines, fmt.Sprintf("pinned to release %d, %s", s.Pin, since(now, s.Pinned)))
	}
	return lines
}

// sincePardon is since when failures are forgiven, where that is known.
func sincePardon(s reconcile.State, now time.Time) string {
	if s.PardonedAt.IsZero() {
		return ""
	}
	return ", " + since(now, s.PardonedAt)
}

func since(now, t time.Time) string { return "since " + moment(now, t) }

// moment tells a time, and how long ago that was.
func moment(now, t time.Time) string {
	return fmt.Sprintf("%s (%s ago)", t.UTC().Format("2006-01-02 15:04:05 UTC"), strings.ToLower(units.HumanDuration(now.Sub(t))))
}

// A comparison is what --format gets of a release's differences.
type comparison struct {
	Stack   string                 `json:"stack"`
	Release reconcile.HistoryEntry `json:"release"`
	Against *int                   `json:"against"` // null: none before it is remembered
	Changes []reconcile.ChangeView `json:"changes"`
	Summary reconcile.Summary      `json:"summary"`
}

func compared(c *reconcile.Comparison) comparison {
	v := c.Plan.View()
	return comparison{Stack: v.Stack, Release: c.Release, Against: c.Against, Changes: v.Changes, Summary: v.Summary}
}

func (a *app) printComparison(c *reconcile.Comparison, now time.Time, whole bool) error {
	printEntry(a.out, c.Release, now)
	return reconcile.Rendering{Color: a.colour(a.out), Whole: whole}.Comparison(a.out, c)
}

// printEntry prints a release's outcome above what it changed.
func printEntry(w io.Writer, e reconcile.HistoryEntry, now time.Time) {
	line := func(key, value string) {
		if value != "" {
			fmt.Fprintf(w, "%-10s %s\n", key+":", value)
		}
	}
	line("Release", fmt.Sprintf("%d, %s", e.Number, strings.ToLower(string(e.Phase))))
	line("Now", marks(e))
	line("Reason", reconcile.Printable(e.Message))
	line("Revision", strings.TrimSpace(reconcile.Printable(e.Revision+" "+e.Subject)))
	if words := reconcile.Printable(strings.Join(e.Followed, ", ")); words != reconcile.Printable(e.Subject) {
		line("Followed", strings.TrimPrefix(words, "followed "))
	}
	line("Digest", reconcile.Printable(e.Digest))
	line("By", by(e))
	line("Started", moment(now, e.Started))
	line("Took", took(e))
	fmt.Fprintln(w)
}
