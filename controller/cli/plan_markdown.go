package cli

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
)

// maxComment is the size of a comment in bytes, and with it in characters. GitHub takes
// 65,536 characters and other forges more: the rest is for what a job puts around it.
const maxComment = 65_000

// commentMark begins every comment, so that a job finds the one to update. Markdown does
// not show it.
const commentMark = "<!-- skep plan -->"

// Bounds of what is shown of lists that may be long.
const (
	maxOpenLines   = 15 // of changes that are shown unfolded
	maxNamesInLine = 20 // of stacks in one line
	maxNameInLine  = 80 // characters of one of these
)

// A comment is a plan as Markdown (CommonMark, with the details element that forges let
// through). All that comes from files or from the Swarm stands in it as code: in a fence
// or in a code span, where forges look for no markup, no mention, no link and no command.
// Everything else is one of the few words below.
type comment struct {
	dir, revision string                    // what was read; the revision may be empty
	problems      map[string][]spec.Finding // by stack: why it did not load

	head     []string  // what is never cut
	sections []section // what is, the last one first
	tail     []string  // what is never cut, behind it
}

// A section tells of one stack.
type section struct {
	name string
	text string
}

// commentOn begins a comment on a snapshot, or on the stacks of it that are named.
func commentOn(snapshot *spec.Snapshot, names []string) *comment {
	c := &comment{dir: snapshot.Dir, problems: maps.Clone(snapshot.Problems)}
	if !strings.HasSuffix(snapshot.Dir, "("+snapshot.Revision+")") { // as that of a ref does
		c.revision = snapshot.Revision
	}
	maps.DeleteFunc(c.problems, func(name string, _ []spec.Finding) bool {
		return len(names) > 0 && !slices.Contains(names, name)
	})
	return c
}

// printComment prints the plans as a comment for a merge request.
func (p *planning) printComment(w io.Writer, c *comment, prune bool) error {
	c.head = []string{commentMark, "## skep plan: " + p.headline(c, prune), c.of()}
	if prune {
		c.removedWhole(p)
	}
	c.invalid()
	var same []string
	for _, plan := range p.plans {
		if plan.Empty() && len(plan.Findings) == 0 {
			same = append(same, plan.Stack)
			continue
		}
		c.sections = append(c.sections, section{plan.Stack, planSection(plan, p.whole)})
	}
	if len(same) > 0 {
		c.tail = append(c.tail, "No changes: "+nameList(same)+".")
	}
	if !prune && len(p.orphans) > 0 {
		c.tail = append(c.tail, "No file here, and not removed: "+nameList(p.orphans)+".")
	}
	_, err := io.WriteString(w, c.fit(maxComment))
	return err
}

// headline counts.
func (p *planning) headline(c *comment, prune bool) string {
	words := []string{strings.TrimPrefix(reconcile.Summarize(p.plans...).String(), "plan: ")}
	if n := len(c.problems); n == 1 {
		words = append(words, "1 stack is invalid")
	} else if n > 1 {
		words = append(words, fmt.Sprintf("%d stacks are invalid", n))
	}
	if n := len(p.orphans); n > 0 && prune {
		words = append(words, plural(n, "stack")+" to remove")
	}
	return strings.Join(words, "; ")
}

// of says what was read.
func (c *comment) of() string {
	if c.revision == "" {
		return "Of " + asCode(clipped(c.dir)) + "."
	}
	return "Of " + asCode(clipped(c.dir)) + ", revision " + asCode(clipped(c.revision)) + "."
}

// removedWhole tells of the stacks that go since their files are gone.
func (c *comment) removedWhole(p *planning) {
	if len(p.orphans) == 0 {
		return
	}
	lines := []string{"### Stacks to remove", "", "Their files are gone; volumes stay.", ""}
	if p.blocked != nil {
		lines = append(lines, "This waits for a person: "+asCode(p.blocked.Why()), "")
	}
	var removed []string
	for _, name := range p.orphans {
		removed = append(removed, "- stack "+reconcile.Printable(name))
	}
	c.sections = append(c.sections, section{"stacks to remove", strings.Join(append(lines, folded(removed)...), "\n")})
}

// invalid tells why stacks did not load.
func (c *comment) invalid() {
	for _, name := range slices.Sorted(maps.Keys(c.problems)) {
		lines := []string{"### " + asCode(name) + ": invalid", "", "Nothing of it is written or removed until this is mended:", ""}
		c.sections = append(c.sections, section{name, strings.Join(append(lines, findingList(c.problems[name])...), "\n")})
	}
}

// planSection is what a plan does to one stack.
func planSection(plan *reconcile.Plan, whole bool) string {
	view := plan.View()
	lines := []string{"### " + asCode(plan.Stack) + ": " + planWords(view), ""}
	errors, others := partition(view.Findings, isError)
	if len(errors) > 0 {
		lines = append(lines, "Nothing of it is written until this is mended:", "")
		lines = append(append(lines, findingList(errors)...), "")
	}
	changes := view.Changes
	if len(view.Held) > 0 {
		changes = view.Held
	}
	if len(changes) > 0 {
		lines = append(append(lines, folded(changeLines(changes, whole))...), "")
	}
	if order := restartOrder(changes); order != "" {
		lines = append(lines, order, "")
	}
	lines = append(lines, findingList(others)...)
	return strings.TrimRight(strings.Join(lines, "\n"), "\n")
}

func partition(findings []spec.Finding, which func(spec.Finding) bool) (these, others []spec.Finding) {
	for _, f := range findings {
		if which(f) {
			these = append(these, f)
		} else {
			others = append(others, f)
		}
	}
	return these, others
}

// planWords counts what a plan does to one stack.
func planWords(v reconcile.PlanView) string {
	var words []string
	add := func(n int, what string) {
		if n > 0 {
			words = append(words, fmt.Sprintf("%d %s", n, what))
		}
	}
	s := v.Summary
	add(s.Create, "to create")
	add(s.Update, "to update")
	add(s.Replace, "to replace")
	add(s.Remove, "to remove")
	switch {
	case s.Restarts == 1:
		words = append(words, "1 service restarts")
	default:
		add(s.Restarts, "services restart")
	}
	add(s.Held, "held back")
	switch {
	case s.Blocked > 0 && s.Held == 0:
		words = append(words, "held up by errors")
	case s.Failed > 0:
		words = append(words, "failed, and is not tried again")
	case s.Pending > 0:
		words = append(words, "to be taken back or tried again")
	}
	if len(words) == 0 {
		return "no changes"
	}
	return strings.Join(words, ", ")
}

// changeSigns are what a fence of diffs colours lines by.
var changeSigns = map[reconcile.Op]string{reconcile.OpCreate: "+", reconcile.OpRemove: "-", reconcile.OpUpdate: "!", reconcile.OpReplace: "!"}

// changeLines are the changes, as a diff.
func changeLines(changes []reconcile.ChangeView, whole bool) []string {
	var lines []string
	for _, c := range changes {
		var notes []string
		if c.Op == reconcile.OpReplace {
			notes = append(notes, "removed and created anew")
		}
		if c.Rollout != nil {
			notes = append(notes, c.Rollout.String())
		}
		if c.Early {
			notes = append(notes, "first, to free a port")
		}
		line := fmt.Sprintf("%s %s %s", changeSigns[c.Op], c.Kind, reconcile.Printable(c.Name))
		if len(notes) > 0 {
			line += "  (" + reconcile.Printable(strings.Join(notes, "; ")) + ")"
		}
		lines = append(lines, line)
		for _, f := range c.Fields {
			before, after := f.Shown(whole)
			path := reconcile.Printable(f.Path)
			if f.Old == "" && f.New == "" {
				lines = append(lines, "!     "+path)
			}
			if f.Old != "" {
				lines = append(lines, "-     "+path+": "+before)
			}
			if f.New != "" {
				lines = append(lines, "+     "+path+": "+after)
			}
		}
	}
	return lines
}

// restartOrder tells in which order services restart, where there are several.
func restartOrder(changes []reconcile.ChangeView) string {
	var names []string
	for _, c := range changes {
		if c.Restarts {
			names = append(names, c.Name)
		}
	}
	if len(names) < 2 {
		return ""
	}
	return "Restarts in this order: " + nameList(names) + "."
}

// findingList is a list of findings.
func findingList(findings []spec.Finding) []string {
	var lines []string
	for _, f := range findings {
		var where []string
		switch {
		case f.File != "" && f.Line > 0:
			where = append(where, asCode(fmt.Sprintf("%s:%d", f.File, f.Line)))
		case f.File != "":
			where = append(where, asCode(f.File))
		}
		if f.Service != "" {
			where = append(where, asCode(f.Service))
		}
		where = append(where, asCode(f.Message), "("+asCode(f.Code)+")")
		lines = append(lines, "- **"+severityWord(f.Severity)+"** "+strings.Join(where, " "))
	}
	return lines
}

func severityWord(s spec.Severity) string {
	switch s {
	case spec.Error, spec.Warning, spec.Info:
		return string(s)
	}
	return "finding"
}

// nameList is a line of names, not too long.
func nameList(names []string) string {
	var shown []string
	for _, name := range names[:min(len(names), maxNamesInLine)] {
		shown = append(shown, asCode(clipped(name)))
	}
	line := strings.Join(shown, ", ")
	if n := len(names) - len(shown); n > 0 {
		line += fmt.Sprintf(" and %d more", n)
	}
	return line
}

// clipped is a name, or as much of it as a line has room for.
func clipped(name string) string {
	r := []rune(reconcile.Printable(name))
	if len(r) <= maxNameInLine {
		return string(r)
	}
	return string(r[:maxNameInLine-1]) + "…"
}

// folded is a fence of lines, folded where there are many.
func folded(lines []string) []string {
	out := fenced(lines)
	if len(lines) <= maxOpenLines {
		return out
	}
	out = append([]string{fmt.Sprintf("<details><summary>%d lines</summary>", len(lines)), ""}, out...)
	return append(out, "", "</details>")
}

// fenced puts lines, each of which has a sign before it, into a fence of diffs that
// nothing in them can close.
func fenced(lines []string) []string {
	fence := strings.Repeat("`", max(3, longestRun(strings.Join(lines, "\n"))+1))
	out := []string{fence + "diff"}
	for _, line := range lines {
		out = append(out, strings.ToValidUTF8(line, "\uFFFD"))
	}
	return append(out, fence)
}

// asCode is a text on one line as code that nothing in it can end (CommonMark 0.31,
// 6.1): between more backticks than stand in it in a row.
func asCode(s string) string {
	s = strings.ToValidUTF8(reconcile.Printable(s), "\uFFFD")
	if strings.TrimSpace(s) == "" {
		s = "(none)"
	}
	if strings.HasPrefix(s, "`") || strings.HasSuffix(s, "`") || strings.HasPrefix(s, " ") && strings.HasSuffix(s, " ") {
		s = " " + s + " " // one space on each side is taken off again
	}
	ticks := strings.Repeat("`", longestRun(s)+1)
	return ticks + s + ticks
}

// longestRun is the greatest number of backticks in a row.
func longestRun(s string) int {
	longest, run := 0, 0
	for i := range len(s) {
		if s[i] != '`' {
			run = 0
			continue
		}
		run++
		longest = max(longest, run)
	}
	return longest
}

// fit is the whole comment in so many bytes: sections that are longer than all of it
// go, then the last ones, until the rest fits, and it is told which went.
func (c *comment) fit(most int) string {
	var kept []section
	var cut []string
	size := 0
	for _, s := range c.sections {
		if c.around([]string{s.name})+s.size() > most {
			cut = append(cut, s.name)
			continue
		}
		kept, size = append(kept, s), size+s.size()
	}
	for len(kept) > 0 && c.around(cut)+size > most {
		last := len(kept) - 1
		cut, size, kept = append(cut, kept[last].name), size-kept[last].size(), kept[:last]
	}
	return c.assemble(kept, cut)
}

// size is what a section adds to a comment.
func (s section) size() int { return len(s.text) + len(between) }

// around is the size of a comment without its sections, of which these are cut.
func (c *comment) around(cut []string) int { return len(c.assemble(nil, cut)) }

// between stands between the parts of a comment.
const between = "\n\n"

// assemble puts a comment together, with what it lacks.
func (c *comment) assemble(sections []section, cut []string) string {
	parts := slices.Clone(c.head)
	for _, s := range sections {
		parts = append(parts, s.text)
	}
	if len(cut) > 0 {
		names := slices.Sorted(slices.Values(cut))
		parts = append(parts, fmt.Sprintf("**Cut:** a comment has no room for %s: %s.", plural(len(cut), "section"), nameList(names)))
	}
	return strings.Join(append(parts, c.tail...), between) + "\n"
}
