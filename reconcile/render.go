package reconcile

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/docker/docker/api/types/swarm"

	"github.com/skep-io/skep/spec"
)

// A PlanView is a plan as `skep plan --format json` prints it. Its form is
// stable: fields are added, never renamed.
type PlanView struct {
	Stack    string         `json:"stack"`
	Changes  []ChangeView   `json:"changes"`
	Held     []ChangeView   `json:"held,omitempty"` // what errors keep from being written
	Findings []spec.Finding `json:"findings"`
	Followed []FollowStatus `json:"followed,omitempty"` // what services follow
	Summary  Summary        `json:"summary"`
}

// A ChangeView is one change of a PlanView.
type ChangeView struct {
	Op       Op       `json:"op"`
	Kind     Kind     `json:"kind"`
	Name     string   `json:"name"`
	Key      string   `json:"key,omitempty"`
	Fields   []Field  `json:"fields,omitempty"`
	Restarts bool     `json:"restarts"`
	Wave     int      `json:"wave"`
	Early    bool     `json:"early,omitempty"`
	Rollout  *Restart `json:"rollout,omitempty"` // how tasks are replaced, where they are
}

// A Restart says how a change replaces a service's tasks.
type Restart struct {
	Mode  string `json:"mode"`
	Tasks uint64 `json:"tasks,omitempty"` // 0 where nodes decide how many
	// Parallelism is how many are replaced at a time, 0 for all at once.
	Parallelism uint64 `json:"parallelism"`
	Delay       string `json:"delay,omitempty"`
	Order       string `json:"order"`
}

// A Summary counts what plans do.
type Summary struct {
	Create   int `json:"create"`
	Update   int `json:"update"`
	Replace  int `json:"replace"`
	Remove   int `json:"remove"`
	Restarts int `json:"restarts"` // services whose tasks are replaced
	Blocked  int `json:"blocked"`  // stacks with an error: nothing of theirs is done
	Held     int `json:"held"`     // changes of those, which are not counted above
	Failed   int `json:"failed"`   // stacks that failed and are not tried again
	Pending  int `json:"pending"`  // stacks that are to be taken back, or to be tried again
}

// View is the JSON form of a plan.
func (p *Plan) View() PlanView {
	v := PlanView{Stack: p.Stack, Changes: []ChangeView{}, Findings: []spec.Finding{}, Followed: p.Followed, Summary: Summarize(p)}
	v.Findings = append(v.Findings, p.Findings...)
	v.Changes, v.Held = viewed(v.Changes, p.Changes), viewed(nil, p.Held)
	return v
}

func viewed(views []ChangeView, changes []Change) []ChangeView {
	for i := range changes {
		c := &changes[i]
		views = append(views, ChangeView{
			Op: c.Op, Kind: c.Kind, Name: c.Name, Key: c.Key, Fields: c.Fields,
			Restarts: c.Restarts, Wave: c.Wave, Early: c.Early, Rollout: restartOfChange(c),
		})
	}
	return views
}

// Summarize counts over plans.
func Summarize(plans ...*Plan) Summary {
	var s Summary
	for _, p := range plans {
		for i := range p.Changes {
			switch p.Changes[i].Op {
			case OpCreate:
				s.Create++
			case OpUpdate:
				s.Update++
			case OpReplace:
				s.Replace++
			case OpRemove:
				s.Remove++
			}
			if p.Changes[i].Restarts {
				s.Restarts++
			}
		}
		has := func(which func(spec.Finding) bool) int {
			if slices.ContainsFunc(p.Findings, which) {
				return 1
			}
			return 0
		}
		s.Blocked += has(func(f spec.Finding) bool { return f.Severity == spec.Error })
		s.Failed += has(func(f spec.Finding) bool { return f.Code == "release-failed" })
		s.Pending += has(func(f spec.Finding) bool { return f.Code == "release-pending" })
		s.Held += len(p.Held)
	}
	return s
}

// String is the one line at the end of a plan.
func (s Summary) String() string {
	var parts []string
	count := func(n int, what string) {
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, what))
		}
	}
	count(s.Create, "to create")
	count(s.Update, "to update")
	count(s.Replace, "to replace")
	count(s.Remove, "to remove")
	nothing := "no changes"
	if s.Held > 0 {
		nothing = "nothing to write"
	}
	line := "plan: " + cmp.Or(strings.Join(parts, ", "), nothing)
	if len(parts) > 0 {
		line += "; " + plural(uint64(s.Restarts), "service restarts", "services restart")
	}
	if s.Blocked > 0 {
		line += "; " + plural(uint64(s.Blocked), "stack is held up by errors", "stacks are held up by errors")
	}
	if s.Held > 0 {
		line += " (" + plural(uint64(s.Held), "change", "changes") + ")"
	}
	if s.Failed > 0 {
		line += "; " + plural(uint64(s.Failed), "stack failed and is not tried again", "stacks failed and are not tried again")
	}
	if s.Pending > 0 {
		line += "; " + plural(uint64(s.Pending), "stack is to be taken back or tried again", "stacks are to be taken back or tried again")
	}
	return line
}

func plural(n uint64, one, many string) string {
	switch n {
	case 0:
		return "no " + many
	case 1:
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func restartOfChange(c *Change) *Restart {
	if !c.Restarts || c.Spec == nil {
		return nil
	}
	u := or(c.Spec.UpdateConfig, &defaultUpdate)
	if c.Op == OpReplace { // which is no update: what was is gone before anything new is there
		u = &swarm.UpdateConfig{}
	}
	r := &Restart{Mode: modeOf(c.Spec), Tasks: scaleOf(c.Spec).total, Parallelism: u.Parallelism, Order: orElse(u.Order, swarm.UpdateOrderStopFirst)}
	if u.Delay > 0 {
		r.Delay = showDuration(u.Delay)
	}
	return r
}

// String tells a restart in words.
func (r *Restart) String() string {
	what := "tasks"
	switch r.Mode {
	case modeReplicated:
		what = plural(r.Tasks, "task", "tasks")
	case modeGlobal:
		what = "one task a node"
	default:
		return "the job runs again"
	}
	at := plural(r.Parallelism, "at a time", "at a time")
	if r.Parallelism == 0 {
		at = "all at once"
	}
	words := []string{"restarts " + what, at, r.Order}
	if r.Mode == modeReplicated && r.Tasks <= 1 {
		words = []string{"restarts " + what, r.Order}
	}
	if r.Delay != "" {
		words = append(words, r.Delay+" apart")
	}
	return strings.Join(words, ", ")
}

// RenderPlan writes plans for people: what changes in each stack, field by field,
// what restarts and how, what was found, and one line that sums it up. Plans
// without changes and findings are left out.
func RenderPlan(w io.Writer, color bool, plans ...*Plan) error {
	return Rendering{Color: color}.Plan(w, plans...)
}

// A Rendering says how plans are written for people.
type Rendering struct {
	Color bool
	Whole bool // long values too; else what is around their first difference
}

// Plan is RenderPlan.
func (o Rendering) Plan(w io.Writer, plans ...*Plan) error {
	r := &renderer{Rendering: o}
	for _, p := range plans {
		if !p.Empty() || len(p.Findings) > 0 || len(p.Followed) > 0 {
			r.stack(p)
		}
	}
	r.line("%s", Summarize(plans...))
	_, err := io.WriteString(w, r.b.String())
	return err
}

type renderer struct {
	b strings.Builder
	Rendering
}

// Colours of a terminal.
const (
	red     = "31"
	green   = "32"
	yellow  = "33"
	magenta = "35"
	bold    = "1"
)

func (r *renderer) paint(c, s string) string {
	if !r.Color {
		return s
	}
	return "\x1b[" + c + "m" + s + "\x1b[0m"
}

func (r *renderer) line(format string, args ...any) {
	fmt.Fprintf(&r.b, format+"\n", args...)
}

var opSigns = map[Op]struct{ sign, color string }{
	OpCreate:  {"+", green},
	OpUpdate:  {"~", yellow},
	OpRemove:  {"-", red},
	OpReplace: {"±", magenta},
}

func (r *renderer) stack(p *Plan) {
	r.line("%s", r.paint(bold, "stack "+p.Stack))
	changes := p.Changes
	if len(p.Held) > 0 {
		changes = p.Held
		r.line("  held, until the errors below are mended:")
	}
	var restarting []string
	for i := range changes {
		c := &changes[i]
		r.change(c)
		if c.Restarts {
			restarting = append(restarting, c.Name)
		}
	}
	if len(restarting) > 1 {
		r.line("  restart in this order: %s", strings.Join(restarting, ", then "))
	}
	for _, f := range p.Followed {
		r.line("  %s", f)
	}
	for _, f := range p.Findings {
		r.finding(f)
	}
	r.line("")
}

func (r *renderer) change(c *Change) {
	s := opSigns[c.Op]
	line := "  " + r.paint(s.color, fmt.Sprintf("%s %-7s %s", s.sign, c.Kind, Printable(c.Name)))
	var notes []string
	if how := restartOfChange(c); how != nil {
		notes = append(notes, how.String())
	}
	if c.Op == OpReplace {
		notes = append([]string{"removed and created anew"}, notes...)
	}
	if c.Early {
		notes = append(notes, "first, to free a port")
	}
	if len(notes) > 0 {
		line += "  (" + strings.Join(notes, "; ") + ")"
	}
	r.line("%s", line)
	r.fields(c.Fields)
}

func (r *renderer) fields(fields []Field) {
	width, oldWidth := 0, 0
	shown := make([][2]string, len(fields))
	for i, f := range fields {
		before, after := f.Shown(r.Whole)
		shown[i] = [2]string{cmp.Or(before, "(none)"), cmp.Or(after, "(none)")}
		width = max(width, utf8.RuneCountInString(Printable(f.Path)))
		oldWidth = max(oldWidth, utf8.RuneCountInString(shown[i][0]))
	}
	for i, f := range fields {
		before, after := shown[i][0], shown[i][1]
		room := pad("", min(oldWidth, maxAligned)-utf8.RuneCountInString(before))
		r.line("      %s  %s%s → %s", pad(Printable(f.Path), width), r.paint(red, before), room, r.paint(green, after))
	}
}

// Shown gives the old and the new value on one line each, shortened to what is around
// their first difference unless they are wanted whole.
func (f Field) Shown(whole bool) (before, after string) {
	before, after = Printable(f.Old), Printable(f.New)
	if whole {
		return before, after
	}
	return clipBoth(before, after)
}

// maxAligned is how far old values are padded, so that one long value does not
// push all others away.
const maxAligned = 40

func pad(s string, width int) string {
	return s + strings.Repeat(" ", max(0, width-utf8.RuneCountInString(s)))
}

func (r *renderer) finding(f spec.Finding) {
	c := map[spec.Severity]string{spec.Error: red, spec.Warning: yellow}[f.Severity]
	name := string(f.Severity)
	if c != "" {
		name = r.paint(c, name)
	}
	where := ""
	if f.Service != "" {
		where = Printable(f.Service) + ": "
	}
	switch {
	case f.File != "" && f.Line > 0:
		where = fmt.Sprintf("%s:%d: ", Printable(f.File), f.Line) + where
	case f.File != "":
		where = Printable(f.File) + ": " + where
	}
	r.line("  %s: %s%s [%s]", name, where, Printable(f.Message), f.Code)
}

// Masked is a text without what looks secret in it, on one line.
func Masked(s string) string { return Printable(maskText(s)) }

// Printable takes a file's power over the terminal away.
func Printable(s string) string {
	if !strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsPrint(c) }) {
		return s
	}
	var b strings.Builder
	for _, c := range s {
		switch {
		case c == '\n':
			b.WriteString(`\n`)
		case c == '\t':
			b.WriteString(`\t`)
		case unicode.IsPrint(c):
			b.WriteRune(c)
		default:
			fmt.Fprintf(&b, `\x%02x`, c)
		}
	}
	return b.String()
}

// maxShown is how many characters of a value a plan shows; lead is how many of
// them stand before the first difference.
const (
	maxShown = 120
	lead     = 30
)

// clipBoth shortens long values to what is around their first difference.
func clipBoth(a, b string) (string, string) {
	ra, rb := []rune(a), []rune(b)
	if len(ra) <= maxShown && len(rb) <= maxShown {
		return a, b
	}
	same := 0
	for same < len(ra) && same < len(rb) && ra[same] == rb[same] {
		same++
	}
	from := max(0, same-lead)
	return window(ra, from), window(rb, from)
}

func window(r []rune, from int) string {
	if len(r) == 0 {
		return ""
	}
	from = min(from, len(r))
	to := min(len(r), from+maxShown)
	s := string(r[from:to])
	if from > 0 {
		s = "…" + s
	}
	if to < len(r) {
		s += "…"
	}
	return s
}
