package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/skep-io/skep/controller"
	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
)

// pollEvery is how often a verb that waits looks again.
const pollEvery = time.Second

// An observer tells what the Swarm knows of stacks. *reconcile.Reconciler is one.
type observer interface {
	Refresh(ctx context.Context) (changed []string, err error)
	Forget(stack string)
	Stacks() []string
	Status(ctx context.Context, stack string) (reconcile.Result, error)
}

// A stackStatus is a line of status, and what --format gets.
type stackStatus struct {
	Name     string                    `json:"name"`
	Status   string                    `json:"status"` // the condition that says most, or Unknown
	Ready    bool                      `json:"ready"`
	Running  uint64                    `json:"running"` // tasks
	Desired  uint64                    `json:"desired"`
	Release  int                       `json:"release,omitempty"`
	Phase    reconcile.Phase           `json:"phase,omitempty"`
	Revision string                    `json:"revision,omitempty"`
	Subject  string                    `json:"subject,omitempty"`
	Started  time.Time                 `json:"started,omitzero"`
	Runs     *runningRelease           `json:"runs,omitempty"`    // where it is not the newest, which failed
	Reason   string                    `json:"reason,omitempty"`  // one CamelCase word
	Message  string                    `json:"message,omitempty"` // one sentence
	Services []reconcile.ServiceStatus `json:"services"`
	// Tasks are, by the names of services, how many of their tasks are in which state;
	// only where one stack was asked for.
	Tasks map[string]taskCounts `json:"tasks,omitempty"`
	// Progress is what is under way, State what people ask of the stack; left out where
	// that is nothing.
	Progress *reconcile.Progress `json:"progress,omitempty"`
	State    *reconcile.State    `json:"state,omitempty"`

	// Reported is when the controller wrote what Reason and Message say, where it was the
	// controller that knew and not the Swarm.
	Reported time.Time `json:"reported,omitzero"`
	// Source says why the specs directory is not believed, where it is not.
	Source *controller.PublishedSource `json:"source,omitempty"`

	left bool // reported by a controller when nobody acts any more

	Conditions []reconcile.Condition `json:"conditions"`
	// Followed is what services follow, as the acting controller tells.
	Followed []reconcile.FollowStatus `json:"followed,omitempty"`
	// Findings are those that the newest release began with, and those of the Swarm now.
	Findings []spec.Finding `json:"findings"`
}

// A runningRelease is one that runs in the place of a newer one, which failed.
type runningRelease struct {
	Release  int    `json:"release"`
	Revision string `json:"revision"`
	Subject  string `json:"subject,omitempty"`
}

// summarize makes a line of what the Swarm knows.
func summarize(r reconcile.Result) stackStatus {
	leading := leadingCondition(r.Conditions)
	s := stackStatus{
		Name:       r.Stack,
		Status:     leading.word,
		Ready:      ready(r.Conditions),
		Reason:     leading.Reason,
		Message:    leading.Message,
		Services:   append([]reconcile.ServiceStatus{}, r.Services...),
		Conditions: append([]reconcile.Condition{}, r.Conditions...),
		Findings:   append([]spec.Finding{}, r.Findings...),
		Progress:   r.Progress,
	}
	if r.State.IsSuspended() || r.State.IsPinned() {
		s.State = &r.State
	}
	for _, service := range r.Services {
		s.Running += service.Running
		s.Desired += service.Desired
	}
	if r.Release != nil {
		s.Release, s.Phase = r.Release.Number, r.Release.Phase
		s.Revision, s.Subject, s.Started = r.Release.Revision, r.Release.Subject, r.Release.Started
	}
	if r.Runs != nil {
		s.Runs = &runningRelease{r.Runs.Number, r.Runs.Revision, r.Runs.Subject}
	}
	if s.Message == "" {
		s.Reason, s.Message = r.Reason, r.Message
	}
	return s
}

type statusWord struct {
	word string
	reconcile.Condition
}

// leadingCondition is the condition that says most about a stack.
func leadingCondition(conditions []reconcile.Condition) statusWord {
	word, c := reconcile.Leading(conditions)
	return statusWord{word, c}
}

// ready says that a stack is as it should be: Ready, and nothing against it.
func ready(conditions []reconcile.Condition) bool {
	good := false
	for _, c := range conditions {
		switch {
		case c.Type == reconcile.Ready:
			good = c.True
		case (c.Type == reconcile.Degraded || c.Type == reconcile.Stalled) && c.True:
			return false
		}
	}
	return good
}

// stalled says that waiting is of no use: a person has to act.
func stalled(conditions []reconcile.Condition) bool {
	return slices.ContainsFunc(conditions, func(c reconcile.Condition) bool {
		return c.Type == reconcile.Stalled && c.True
	})
}

func (a *app) status() *cobra.Command {
	var (
		engine  engineFlags
		format  formatFlag
		quiet   bool
		owner   string
		wait    bool
		timeout time.Duration
		infos   bool
		filter  filterFlag
		whole   bool
	)
	cmd := &cobra.Command{
		Use:     "status [STACK]",
		Short:   "Tell how stacks are, and why",
		GroupID: groupEngine,
		Long: `Tell how the stacks of the Swarm are that skep knows, or one of them in detail:
its services wave by wave, with a sign for each task.

  ■ running   ◧ starting   □ pending   ✗ failed   ✓ done

It asks the engine, not the daemon, which keeps there what only it can know: a specs
directory that cannot be believed, files that do not load, why a stack is held. Exit
code 1 says that a stack is not Ready or, of all stacks, that the directory or the
policy file is not; with --filter, that one that is shown is not Ready.`,
		Example: `  skep status
  skep status shop
  skep status shop --wait --timeout 5m
  skep status --filter status=Stalled --filter status=Degraded
  skep status --filter 'stack=shop-*' -q
  skep status --format '{{.Name}} {{.Status}} {{.Message}}'`,
		Args: usageArgs(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := format.parse()
			if err != nil {
				return err
			}
			wanted, err := filter.parse()
			if err != nil {
				return err
			}
			swarm, err := engine.connect()
			if err != nil {
				return err
			}
			defer swarm.Close()
			reconciler := reconcile.New(reconcile.Options{Swarm: swarm, Owner: owner})
			w := &watch{
				observer: reconciler,
				stack:    strings.Join(args, ""),
				explain:  engine.explain,
				board:    a.board(quiet),
				published: func(ctx context.Context) (*controller.Published, error) {
					return controller.ReadPublished(ctx, swarm, owner)
				},
			}
			if wait {
				err = w.until(cmd.Context(), timeout)
			} else {
				err = w.look(cmd.Context())
			}
			if err != nil {
				return err
			}
			holder, err := controller.ReadHolder(cmd.Context(), swarm, owner)
			if err != nil {
				return engine.explain(err)
			}
			w.tellAway(holder, time.Now())
			if len(wanted) > 0 {
				w.stacks, w.filtered = filtered(wanted, w.stacks, statusValue), true
			}
			if err := w.lookCloser(cmd.Context(), swarm, reconciler.Waves); err != nil {
				return engine.explain(err)
			}
			if !quiet && format.value == "table" {
				fmt.Fprintln(a.err, holderLine(holder, time.Now()))
			}
			switch {
			case quiet:
				err = printNames(a.out, w.stacks)
			case format.value != "table":
				err = printEach(a.out, t, w.stacks)
			case len(args) == 1:
				err = a.printStack(w.stacks, time.Now(), infos, whole)
			default:
				err = a.printStacks(w.stacks, time.Now())
			}
			if err != nil {
				return err
			}
			if !quiet {
				w.tellPublished(a.err, time.Now())
			}
			return w.verdict()
		},
	}
	engine.install(cmd)
	a.completeStacks(cmd, &engine, &owner, nil)
	format.install(cmd, "table", "json")
	filter.install(cmd, "stack", "status", "reason", "revision", "ready")
	installNoTrunc(cmd, &whole)
	installOwner(cmd, &owner)
	f := cmd.Flags()
	f.BoolVarP(&quiet, "quiet", "q", false, "Print names only")
	f.BoolVar(&infos, "findings", false, "Show findings of severity info too")
	f.BoolVar(&wait, "wait", false, "Wait until Ready, or until waiting is of no use")
	f.DurationVar(&timeout, "timeout", 10*time.Minute, "How long to wait")
	return cmd
}

// A watch looks at one stack, or at all.
type watch struct {
	observer
	stack   string // empty: all
	explain func(error) error
	board   *board // what is drawn while it waits; nil: nothing
	// published asks for what the acting controller tells; nil: nobody does.
	published func(context.Context) (*controller.Published, error)

	report   *controller.Published // nil: nothing is told
	away     bool                  // nobody acts by now, and the report is left from before
	stacks   []stackStatus
	names    []string // of all stacks there are
	filtered bool     // some of them were left out
	timedOut bool
}

// statusValue is what --filter looks at.
func statusValue(s *stackStatus, key string) string {
	switch key {
	case "stack":
		return s.Name
	case "status":
		return s.Status
	case "reason":
		return s.Reason
	case "revision":
		return s.Revision
	}
	return strconv.FormatBool(s.Ready)
}

// lookCloser asks, of the stack that was asked for, how many tasks are in which state,
// and in which wave each service was written.
func (w *watch) lookCloser(ctx context.Context, engine taskLister, wavesOf func(context.Context, string) (map[string]int, error)) error {
	for i := range w.stacks {
		s := &w.stacks[i]
		if s.Name != w.stack {
			continue
		}
		waves, err := wavesOf(ctx, s.Name)
		if err != nil {
			return err
		}
		for j := range s.Services {
			if wave, ok := waves[s.Services[j].Name]; ok {
				s.Services[j].Wave = wave
			}
		}
		if s.Tasks, err = countTasks(ctx, engine, s.Name); err != nil {
			return err
		}
	}
	return nil
}

// look takes one look, at what a daemon may have written since the last one.
func (w *watch) look(ctx context.Context) error {
	w.Forget(w.stack)
	if _, err := w.Refresh(ctx); err != nil {
		return w.explain(err)
	}
	if w.report = nil; w.published != nil {
		var err error
		if w.report, err = w.published(ctx); err != nil {
			return w.explain(err)
		}
	}
	names := told(w.report, w.Stacks())
	w.names = names
	if w.stack != "" {
		names = []string{w.stack}
	}
	w.stacks = w.stacks[:0]
	for _, name := range names {
		r, err := w.Status(ctx, name)
		if err != nil {
			return fmt.Errorf("status of stack %s: %w", name, w.explain(err))
		}
		r, known := withPublished(r, name, w.report)
		if known || len(r.Services) > 0 || r.Release != nil {
			s := summarize(r)
			if known {
				s.Reported = w.report.At
			}
			s.Followed = followedBy(w.report, name)
			if w.report != nil && !w.report.Source.Ready {
				s.Source = &w.report.Source
			}
			w.stacks = append(w.stacks, s)
		}
	}
	return nil
}

// until looks again and again: until all is Ready, a stack is stalled, or the
// time is over.
func (w *watch) until(ctx context.Context, timeout time.Duration) error {
	limit := time.NewTimer(timeout)
	defer limit.Stop()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	if w.board != nil {
		defer w.board.end()
	}
	for {
		if err := w.look(ctx); err != nil {
			return err
		}
		if w.settled() {
			return nil
		}
		if w.board != nil {
			w.board.show(w.stacks, time.Now())
		}
		select {
		case <-tick.C:
		case <-limit.C:
			w.timedOut = true
			return nil
		case <-ctx.Done():
			return fmt.Errorf("wait for stacks: %w", context.Cause(ctx))
		}
	}
}

func (w *watch) settled() bool {
	allReady := len(w.stacks) > 0
	for _, s := range w.stacks {
		if stalled(s.Conditions) {
			return true
		}
		allReady = allReady && s.Ready
	}
	return allReady
}

// verdict is the answer of the last look.
func (w *watch) verdict() error {
	if w.stack != "" && len(w.stacks) == 0 && !w.filtered {
		return verdict{w.unknown()}
	}
	if w.timedOut {
		return verdict{"timed out before the stacks were Ready"}
	}
	if slices.ContainsFunc(w.stacks, func(s stackStatus) bool { return !s.Ready }) {
		return no
	}
	if w.stack == "" && !w.filtered && w.report != nil && (!w.report.Source.Ready || w.report.Policy != nil) {
		return no
	}
	return nil
}

// unknown says that there is no such stack, and which was probably meant.
func (w *watch) unknown() string {
	text := fmt.Sprintf("no stack %q that skep knows (`skep status` lists those there are)", w.stack)
	if word := meant(w.stack, w.names); word != "" {
		text += "; " + word
	}
	return text
}

var statusHeaders = []string{"NAME", "SERVICES", "READY", "STATUS", "RELEASE", "REVISION", "AGE", "REASON"}

func statusRows(stacks []stackStatus, now time.Time) [][]string {
	rows := make([][]string, 0, len(stacks))
	for _, s := range stacks {
		rows = append(rows, []string{
			s.Name, strconv.Itoa(len(s.Services)), fmt.Sprintf("%d/%d", s.Running, s.Desired), statusOf(s),
			releaseNumber(s), dash(s.Revision), age(now, s.Started), dash(s.Reason),
		})
	}
	return rows
}

// printStacks prints a line for each stack, and below what there is to say of some.
func (a *app) printStacks(stacks []stackStatus, now time.Time) error {
	if err := printTable(a.out, statusHeaders, statusRows(stacks, now)); err != nil {
		return err
	}
	var said sentences
	for _, s := range stacks {
		said.add(s.Name, s.Message)
	}
	said.print(a.out)
	return nil
}

// marked is a stack's status with what people ask of it: "Ready, pinned".
func marked(word string, state *reconcile.State) string {
	if state != nil && state.IsSuspended() {
		word += ", suspended"
	}
	if state != nil && state.IsPinned() {
		word += ", pinned"
	}
	return word
}

// statusOf is a stack's status as a table has it. What is left of a controller that is gone
// is marked: nobody has looked since.
func statusOf(s stackStatus) string {
	word := marked(s.Status, s.State)
	if s.left {
		word += ", as reported"
	}
	return word
}

func releaseNumber(s stackStatus) string {
	if s.Phase == "" {
		return "-"
	}
	return strconv.Itoa(s.Release)
}

func printNames(w io.Writer, stacks []stackStatus) error {
	for _, s := range stacks {
		if _, err := fmt.Fprintln(w, s.Name); err != nil {
			return err
		}
	}
	return nil
}

// printStack prints what is known of one stack.
func (a *app) printStack(stacks []stackStatus, now time.Time, infos, whole bool) error {
	for _, s := range stacks {
		fmt.Fprintf(a.out, "Stack:     %s\nStatus:    %s\n", s.Name, paint(a.colour(a.out), statusColour(s), s.Status))
		if s.left {
			fmt.Fprintf(a.out, "Reported:  %s, by a controller that does not act any more\n", age(now, s.Reported))
		}
		if s.Message != "" {
			fmt.Fprintf(a.out, "Reason:    %s\n", printable(s.Message))
		}
		if s.State != nil {
			for _, line := range asked(*s.State, now) {
				fmt.Fprintf(a.out, "Asked for: %s\n", line)
			}
		}
		if s.Phase != "" {
			fmt.Fprintf(a.out, "Release:   %d, %s, %s\n", s.Release, strings.ToLower(string(s.Phase)), age(now, s.Started))
			fmt.Fprintf(a.out, "Revision:  %s\n", strings.TrimSpace(s.Revision+" "+s.Subject))
		}
		if s.Runs != nil {
			fmt.Fprintf(a.out, "Runs:      release %d, %s\n", s.Runs.Release, printable(strings.TrimSpace(s.Runs.Revision+" "+s.Runs.Subject)))
		}
		if s.Progress != nil {
			fmt.Fprintf(a.out, "Under way: %s%s\n", s.Progress.Step, times(now, s.Progress.Since, s.Progress.Until))
		}
		for _, f := range s.Followed {
			fmt.Fprintf(a.out, "Follows:   %s\n", printable(f.String()))
		}
		fmt.Fprintln(a.out)
		if len(s.Services) > 0 {
			a.drawServices(s.Services, s.Tasks, now, whole, s.Message)
			fmt.Fprintln(a.out)
		}
		if err := printTable(a.out, []string{"CONDITION", "TRUE", "SINCE", "REASON", "MESSAGE"}, conditionRows(s.Conditions, now, s.Message)); err != nil {
			return err
		}
		findings := s.Findings
		if !infos {
			findings = slices.DeleteFunc(slices.Clone(findings), func(f spec.Finding) bool { return f.Severity == spec.Info })
		}
		if len(findings) == 0 {
			continue
		}
		fmt.Fprintln(a.out)
		if err := printTable(a.out, []string{"FINDING", "SEVERITY", "WHERE", "MESSAGE"}, findingRows(findings)); err != nil {
			return err
		}
	}
	return nil
}

// statusColour is green for what is well, yellow for what goes on, red for the rest.
func statusColour(s stackStatus) string {
	switch {
	case s.Status == string(reconcile.Stalled), s.Status == string(reconcile.Degraded):
		return red
	case s.Ready:
		return green
	}
	return yellow
}

// findingRows tells findings, each where the file has it, or of which service it is.
func findingRows(findings []spec.Finding) [][]string {
	rows := make([][]string, 0, len(findings))
	for _, f := range findings {
		where := f.Service
		if f.Line > 0 {
			where = fmt.Sprintf("%s:%d", f.File, f.Line)
		}
		rows = append(rows, []string{f.Code, string(f.Severity), dash(where), f.Message})
	}
	return rows
}

// conditionRows tells conditions. said is a sentence that was told already, and what
// does not hold has none, but for Ready.
func conditionRows(conditions []reconcile.Condition, now time.Time, said string) [][]string {
	rows := make([][]string, 0, len(conditions))
	for _, c := range conditions {
		reason, message := c.Reason, c.Message
		if !c.True && c.Type != reconcile.Ready {
			reason, message = "", ""
		}
		if message == said {
			message = ""
		}
		rows = append(rows, []string{string(c.Type), strconv.FormatBool(c.True), age(now, c.Since), dash(reason), dash(message)})
	}
	return rows
}

// healthWord is a service's health, with the step it is in or what is the matter:
// "Progressing, Starting".
func healthWord(s reconcile.ServiceStatus) string {
	if s.Code == "" || s.Health == reconcile.Healthy || s.Code == string(s.Health) {
		return string(s.Health)
	}
	return string(s.Health) + ", " + s.Code
}
