package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/skep-io/skep/controller"
	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
)

func (a *app) apply() *cobra.Command {
	var (
		engine    engineFlags
		specs     specFlags
		acting    actingFlags
		format    formatFlag
		from      sourceFlags
		wait      bool
		quiet     bool
		timeout   time.Duration
		confirmed string
		older     bool
	)
	cmd := &cobra.Command{
		Use:     "apply --specs DIR [STACK...]",
		Short:   "Make the Swarm be what the directory says, without a daemon",
		GroupID: groupEngine,
		Long: `Make the Swarm be what the stacks in a directory say, all of them or those that
are named: for a CI job, or for a Swarm without a daemon.

Without --wait it ends when all is written: services that depend on others wait
for them, and what fails meanwhile is taken back; the last to be written are not
waited for. With --wait it stays until every stack is settled, bake and all, and
takes back what fails. It gives the warnings that skep plan gives; what files alone
give warning of is for skep validate to tell.

What would remove many stacks, or most services of one, is held: --confirm with the ID
that is told has it done.

Where the directory's commit is older than what a stack was rolled out of last, or of
another branch, the stack is held: a job may have an old checkout. --allow-older goes
back to it. A revert that is committed is no older, and without git nothing is asked.

It holds the lease of its --owner for as long as it acts. Exit code 2 says, besides
that something could not be told, that another controller has it.

Exit code 1 says that a stack is invalid, failed, went back, is held, or was not
ready in time.`,
		Example: `  skep apply --specs stacks/ shop
  skep apply --specs stacks/ --wait --timeout 15m`,
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := format.parse()
			if err != nil {
				return err
			}
			guard, err := acting.guard.load()
			if err != nil {
				return err
			}
			snapshot, err := a.readSpecs(cmd.Context(), &from, &specs)
			if err != nil {
				return err
			}
			swarm, err := engine.connect()
			if err != nil {
				return err
			}
			defer swarm.Close()
			ctx, cancel := context.WithTimeoutCause(cmd.Context(), timeout, errTimedOut)
			defer cancel()
			a.tellProblems(snapshot, args)
			lease := controller.NewLease(swarm, acting.owner, "")
			release, err := lease.Take(ctx, a.tellsWait(quiet))
			if err != nil {
				return engine.explain(err)
			}
			defer release()
			progress := newProgress(a.board(quiet))
			defer progress.board.end()
			fenced := controller.Fence(swarm, lease)
			reconciler, names := acting.reconciler(fenced, guard, confirmed), args
			if acting.pruneStacks {
				if _, err := reconciler.Refresh(ctx); err != nil {
					return engine.explain(err)
				}
				again := func() (*spec.Snapshot, error) { return a.readSpecs(ctx, &from, &specs) }
				if slices.ContainsFunc(reconciler.Stacks(), snapshot.Gone) && !quiet {
					fmt.Fprintf(a.err, "stacks have no file: reading the directory again in %s, before anything is removed\n", controller.VanishAfter)
				}
				if snapshot, err = confirm(ctx, reconciler.Stacks(), snapshot, again); err != nil {
					return err
				}
				if len(args) == 0 {
					names = everything(reconciler.Stacks(), snapshot)
				}
			}
			before, err := whatWaits(ctx, fenced, &acting, reconciler.Stacks(), names, snapshot, confirmed, len(args) == 0)
			if err != nil {
				return engine.explain(err)
			}
			chosen := maps.Clone(snapshot.Stacks)
			maps.DeleteFunc(chosen, func(name string, _ *spec.Stack) bool { return len(names) > 0 && !slices.Contains(names, name) })
			results := controller.Settle(ctx, reconciler, snapshot, names, wait, progress.pass,
				controller.SettleOptions{Found: acting.askRegistries(ctx, chosen), Waited: before, Confirmed: []string{confirmed}, AllowOlder: older})
			progress.board.end()
			if err := cmd.Context().Err(); err != nil {
				return fmt.Errorf("apply: %w (what was begun goes on in the Swarm)", err)
			}
			if !quiet {
				tellStale(a.err, results)
			}
			suggest(results, snapshot)
			rows := applied(results, progress.wrote)
			switch {
			case format.value != "table":
				err = printEach(a.out, t, rows)
			case !quiet:
				err = printApplied(a.out, rows)
			}
			if err != nil {
				return err
			}
			return timedOut(ctx, timeout, applyVerdict(results, wait, engine.explain))
		},
	}
	a.completeFiles(cmd, &from, &specs)
	engine.install(cmd)
	specs.install(cmd)
	acting.install(cmd)
	format.install(cmd, "table", "json")
	from.install(cmd)
	f := cmd.Flags()
	f.BoolVar(&wait, "wait", false, "Stay until every stack is settled")
	f.DurationVar(&timeout, "timeout", 30*time.Minute, "How long to stay")
	f.StringVar(&confirmed, "confirm", "", "ID of a removal that waits for a person, to have it done (see skep prune)")
	f.BoolVar(&older, "allow-older", false, "Go back to a commit that is older than what was rolled out last")
	f.BoolVarP(&quiet, "quiet", "q", false, "Print errors only")
	return cmd
}

// suggest adds to what was said of a stack that there is not which was probably meant.
func suggest(results map[string]reconcile.Result, snapshot *spec.Snapshot) {
	for name, r := range results {
		if r.Reason == "UnknownStack" && r.Err != nil {
			r.Err = fmt.Errorf("%w (%s)", r.Err, known(snapshot, name))
			r.Message = r.Err.Error()
			results[name] = r
		}
	}
}

// timedOut says of a no that the time was over.
func timedOut(ctx context.Context, timeout time.Duration, err error) error {
	if err == no && errors.Is(context.Cause(ctx), errTimedOut) {
		return verdict{fmt.Sprintf("timed out after %s (what was begun goes on in the Swarm; skep apply again carries it on)", timeout)}
	}
	return err
}

// everything names the stacks of a snapshot, and those that live though their file
// is gone.
func everything(live []string, snapshot *spec.Snapshot) []string {
	names := slices.Collect(maps.Keys(snapshot.Stacks))
	names = slices.AppendSeq(names, maps.Keys(snapshot.Problems))
	for _, name := range live {
		if snapshot.Gone(name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// whatWaits reads what waited before, and publishes what waits now, unless it is confirmed:
// the next apply finds more stacks there than this one, and must not take that for leave.
func whatWaits(ctx context.Context, engine reconcile.Swarm, acting *actingFlags, live, names []string, snapshot *spec.Snapshot, confirmed string, all bool) (*reconcile.Blockade, error) {
	if !acting.pruneStacks {
		return nil, nil
	}
	before, err := controller.Waited(ctx, engine, acting.owner)
	if err != nil {
		return nil, err
	}
	going := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !snapshot.Gone(name) })
	b := controller.Waits(live, going, before)
	if b != nil && b.ID == confirmed {
		b = nil
	}
	if b == nil && !all { // what was not asked for may wait still
		return before, nil
	}
	return before, controller.PublishWaits(ctx, engine, acting.owner, b, time.Now())
}

// confirm reads the directory once more where a stack that lives has no file in it.
// What the second reading misses and the first did not may be on its way back.
func confirm(ctx context.Context, live []string, first *spec.Snapshot, again func() (*spec.Snapshot, error)) (*spec.Snapshot, error) {
	if !slices.ContainsFunc(live, first.Gone) {
		return first, nil
	}
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-time.After(controller.VanishAfter):
	}
	second, err := again()
	if err != nil {
		return nil, err
	}
	for _, name := range live {
		if second.Gone(name) && !first.Gone(name) {
			return nil, fmt.Errorf("read stacks: the file of stack %s went while they were read (try again)", name)
		}
	}
	return second, nil
}

var errTimedOut = errors.New("timed out")

// tellProblems prints why stacks did not load: those that are named, or all.
func (a *app) tellProblems(snapshot *spec.Snapshot, names []string) (found bool) {
	for _, name := range slices.Sorted(maps.Keys(snapshot.Problems)) {
		if len(names) == 0 || slices.Contains(names, name) {
			found = true
			a.printFindings(a.err, snapshot.Problems[name])
		}
	}
	return found
}

// progress tells what passes do, when it is something new, and shows on a board what
// is under way.
type progress struct {
	board  *board
	now    func() time.Time
	last   map[string]string            // by stack: what was told of its state
	wrote  map[string]reconcile.Outcome // by stack: applied or rolled_back, where a pass was that
	told   map[string]bool              // warnings
	stacks map[string]stackStatus       // those that are under way
}

func newProgress(b *board) *progress {
	return &progress{board: b, now: time.Now, last: map[string]string{}, wrote: map[string]reconcile.Outcome{}, told: map[string]bool{}, stacks: map[string]stackStatus{}}
}

// pass tells of one pass.
func (p *progress) pass(r reconcile.Result) {
	if r.Outcome == reconcile.RolledBack || r.Outcome == reconcile.Applied && p.wrote[r.Stack] == "" {
		p.wrote[r.Stack] = r.Outcome
	}
	if p.board.quiet {
		return
	}
	p.tell(r)
	if p.board.size == nil {
		return
	}
	delete(p.stacks, r.Stack)
	if r.Requeue > 0 && r.Err == nil {
		p.stacks[r.Stack] = summarize(r)
	}
	shown := make([]stackStatus, 0, len(p.stacks))
	for _, name := range slices.Sorted(maps.Keys(p.stacks)) {
		shown = append(shown, p.stacks[name])
	}
	p.board.show(shown, p.now())
}

// tell prints what stays.
func (p *progress) tell(r reconcile.Result) {
	for _, line := range warnings(r) {
		if !p.told[line] {
			p.told[line] = true
			p.board.tell(line)
		}
	}
	for _, t := range r.Transitions {
		p.board.tell(fmt.Sprintf("%s: %s%s", r.Stack, strings.ReplaceAll(t.Action, "-", " "), colon(t.Message)))
	}
	for _, c := range r.Written {
		p.board.tell(fmt.Sprintf("%s: %s", r.Stack, describeChange(c)))
	}
	if len(r.Transitions)+len(r.Written) > 0 { // they said it
		return
	}
	line := fmt.Sprintf("%s: %s", r.Stack, state(r))
	news := line
	if r.Outcome == reconcile.Waiting {
		if p.board.size != nil { // the board says it
			return
		}
		news = newsOf(r)
	}
	if p.last[r.Stack] != news {
		p.last[r.Stack] = news
		p.board.tell(line)
	}
}

// tellStale says what to do about stacks that are held since the directory is an older one.
func tellStale(out io.Writer, results map[string]reconcile.Result) {
	for _, r := range results {
		if r.Reason == reconcile.SourceStale {
			fmt.Fprintln(out, "the directory is older than what was rolled out last: bring it up to date or, if going back is meant, apply with --allow-older")
			return
		}
	}
}

// newsOf is what has to be different for a pass that waits to be told again: its
// message has times in it, which always are.
func newsOf(r reconcile.Result) string {
	words := []string{r.Reason}
	for _, s := range r.Services {
		words = append(words, s.Name, doneOf(s), string(s.Health), s.Code)
	}
	if len(r.Services) == 0 {
		words = append(words, r.Message)
	}
	return strings.Join(words, "\x00")
}

// warnings are those that come of the file and the Swarm together. They name no line,
// unlike those that the file alone gives, which are for validate.
func warnings(r reconcile.Result) []string {
	var lines []string
	for _, f := range r.Findings {
		if f.Severity == spec.Warning && f.Line == 0 {
			lines = append(lines, fmt.Sprintf("%s: %s", r.Stack, f))
		}
	}
	return lines
}

// state is how a pass found a stack. One that needs no write is not as the file says
// where something was left undone, or is not well.
func state(r reconcile.Result) string {
	if why := leadingCondition(r.Conditions).Message; r.Outcome == reconcile.Unchanged && why != "" {
		return "nothing left to write: " + why
	}
	return outcomeWord[r.Outcome] + colon(cmp.Or(r.Brief, r.Message))
}

var outcomeWord = map[reconcile.Outcome]string{
	reconcile.Unchanged:  "as the file says",
	reconcile.Applied:    "written",
	reconcile.Waiting:    "waiting",
	reconcile.Held:       "held",
	reconcile.RolledBack: "going back",
	reconcile.Failed:     "failed",
}

// describeChange is "update service shop_web (image, environment.X; restarts)".
func describeChange(c reconcile.Change) string {
	var paths []string
	for _, f := range c.Fields {
		paths = append(paths, f.Path)
	}
	notes := strings.Join(paths, ", ")
	if c.Restarts {
		notes = strings.TrimPrefix(notes+"; restarts", "; ")
	}
	if notes != "" {
		notes = " (" + notes + ")"
	}
	return fmt.Sprintf("%s %s %s%s", c.Op, c.Kind, c.Name, notes)
}

func colon(s string) string {
	if s == "" {
		return ""
	}
	return ": " + s
}

// outcomePinned is the outcome of a stack that is, in good health, what somebody went
// back to, and so not what its file says.
const outcomePinned reconcile.Outcome = "pinned"

// An applyResult is a line of what apply did, and what --format gets.
type applyResult struct {
	Name     string            `json:"name"`
	Outcome  reconcile.Outcome `json:"outcome"` // of all passes together
	Status   string            `json:"status"`
	Ready    bool              `json:"ready"`
	Release  int               `json:"release,omitempty"`
	Revision string            `json:"revision,omitempty"`
	Reason   string            `json:"reason,omitempty"`
	Message  string            `json:"message,omitempty"`
	State    *reconcile.State  `json:"state,omitempty"` // what people ask of the stack

	known bool // there is a release
}

func applied(results map[string]reconcile.Result, wrote map[string]reconcile.Outcome) []applyResult {
	rows := make([]applyResult, 0, len(results))
	for _, name := range slices.Sorted(maps.Keys(results)) {
		r := results[name]
		r.Stack = name
		s := summarize(r)
		if w := wrote[name]; w != "" && (r.Outcome == reconcile.Unchanged || r.Outcome == reconcile.Waiting) {
			r.Outcome = w // the last pass had nothing left to write, an earlier one had
		}
		if s.Ready && r.State.IsPinned() { // all is well, and yet not as the file says
			r.Outcome = outcomePinned
		}
		rows = append(rows, applyResult{
			Name: name, Outcome: r.Outcome, Status: s.Status, Ready: s.Ready, State: s.State,
			Release: s.Release, Revision: s.Revision, Reason: s.Reason, Message: s.Message, known: s.Phase != "",
		})
	}
	return rows
}

var applyHeaders = []string{"NAME", "OUTCOME", "STATUS", "RELEASE", "REVISION", "REASON"}

// printApplied prints a line for each stack, and below what there is to say of some.
func printApplied(w io.Writer, results []applyResult) error {
	if err := printTable(w, applyHeaders, applyRows(results)); err != nil {
		return err
	}
	var said sentences
	for _, r := range results {
		said.add(r.Name, r.Message)
	}
	said.print(w)
	return nil
}

func applyRows(results []applyResult) [][]string {
	rows := make([][]string, 0, len(results))
	for _, r := range results {
		release := "-"
		if r.known {
			release = fmt.Sprint(r.Release)
		}
		rows = append(rows, []string{r.Name, string(r.Outcome), marked(r.Status, r.State), release, dash(r.Revision), dash(r.Reason)})
	}
	return rows
}

// applyVerdict weighs the results: what could not be told weighs more than a no.
func applyVerdict(results map[string]reconcile.Result, wait bool, explain func(error) error) error {
	var unknown []error
	bad := false
	for _, name := range slices.Sorted(maps.Keys(results)) {
		r := results[name]
		switch {
		case errors.Is(r.Err, errTimedOut):
			bad = true
		case r.Outcome == reconcile.Failed && r.Reason != "SourceInvalid":
			unknown = append(unknown, fmt.Errorf("stack %s: %w", name, explain(orMessage(r))))
		case !good(r, wait):
			bad = true
		}
	}
	switch {
	case len(unknown) > 0:
		return errors.Join(unknown...)
	case bad:
		return no
	}
	return nil
}

// good says that a stack is as one may expect after an apply: Ready where that was
// waited for, on the way there where not.
func good(r reconcile.Result, wait bool) bool {
	if r.State.IsPinned() { // to what somebody went back to: what the file says is not there
		return false
	}
	if ready(r.Conditions) {
		return true
	}
	if wait {
		return false
	}
	// What waits with its difference unwritten is not on the way: nobody writes it.
	onTheWay := r.Outcome == reconcile.Applied || r.Plan.Empty() && (r.Outcome == reconcile.Waiting || r.Outcome == reconcile.Unchanged)
	return onTheWay && !slices.ContainsFunc(r.Conditions, func(c reconcile.Condition) bool {
		return c.True && (c.Type == reconcile.Degraded || c.Type == reconcile.Stalled)
	})
}

func orMessage(r reconcile.Result) error {
	if r.Err != nil {
		return r.Err
	}
	return errors.New(r.Message)
}
