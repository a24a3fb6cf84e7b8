package web

import (
	"embed"
	"fmt"
	"html/template"
	"io"
	"strings"
	"time"

	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
)

//go:embed templates/*.html
var templateFiles embed.FS

var templates = template.Must(template.New("").Funcs(template.FuncMap{
	"when":      when,
	"left":      left,
	"squares":   squares,
	"tasks":     func(n TaskCount) string { return n.String() },
	"word":      conditionWord,
	"lower":     strings.ToLower,
	"took":      took,
	"short":     short,
	"where":     where,
	"sum":       func(a, b float64) float64 { return a + b },
	"sub":       func(a, b float64) float64 { return a - b },
	"sign":      sign,
	"orNone":    func(s string) string { return orElse(reconcile.Printable(s), "(none)") },
	"clip":      clip,
	"healthy":   func(s reconcile.HealthStatus) bool { return s == reconcile.Healthy },
	"stateWord": stateWord,
	"plural":    plural,
	"worst":     worstFindings,
	"heading":   heading,
	"anchor":    anchor,
}).ParseFS(templateFiles, "templates/*.html"))

// A frame is a page with what surrounds it.
type frame struct {
	Title string
	Now   time.Time
	*Controller
	Notices []Notice
	Board   *Board     // one of the two
	Page    *StackPage //
}

// WriteBoard writes the page of all stacks.
func WriteBoard(w io.Writer, b *Board) error {
	title := "skep"
	if bad := b.Counts.Total - b.Counts.Ready - b.Counts.Progressing; bad > 0 {
		title = fmt.Sprintf("(%d) skep", bad)
	}
	return templates.ExecuteTemplate(w, "page", frame{Title: title, Now: b.At, Controller: &b.Controller, Notices: b.Notices, Board: b})
}

// WriteStack writes a stack's page.
func WriteStack(w io.Writer, p *StackPage) error {
	return templates.ExecuteTemplate(w, "page", frame{Title: p.Name + ": " + heading(p.Condition) + " · skep", Now: p.At, Controller: &p.Controller, Notices: p.Notices, Page: p})
}

// A moment is a time as a page shows it.
type moment struct {
	Machine, Exact, Words string
}

// when tells a time, and how long ago that was.
func when(now, t time.Time) *moment {
	if t.IsZero() {
		return nil
	}
	return &moment{t.UTC().Format(time.RFC3339), clock(t), ago(now.Sub(t))}
}

// ago tells an age in words: the script does the same as time goes by.
func ago(d time.Duration) string {
	s := int(d.Seconds())
	switch {
	case s < 5:
		return "just now"
	case s < 120:
		return fmt.Sprintf("%d seconds ago", s)
	case s < 120*60:
		return fmt.Sprintf("%d minutes ago", s/60)
	case s < 48*3600:
		return fmt.Sprintf("%d hours ago", s/3600)
	}
	return fmt.Sprintf("%d days ago", s/86400)
}

// left tells how much longer something takes at most, "" where that is not known or over.
func left(now, until time.Time) string {
	if d := until.Sub(now); !until.IsZero() && d > 0 {
		return "at most " + d.Round(time.Second).String() + " more"
	}
	return ""
}

// squares are a stack's tasks as they are drawn: what is not well is never left out.
type drawn struct {
	Kinds []string
	More  int
}

func squares(n TaskCount) drawn {
	var d drawn
	room := maxSquares
	add := func(kind string, count int) {
		shown := min(count, room)
		for range shown {
			d.Kinds = append(d.Kinds, kind)
		}
		room -= shown
		d.More += count - shown
	}
	add("failed", n.Failed)
	add("missing", n.Missing)
	add("starting", n.Starting)
	add("old", n.Old)
	add("running", n.Running)
	return d
}

// String tells tasks in words: "2 of 3 tasks run; 1 failed".
func (n TaskCount) String() string {
	total := n.total()
	switch {
	case total == 0:
		return "no tasks"
	case n.Running == total && total == 1:
		return "1 task runs"
	case n.Running == total:
		return fmt.Sprintf("%d tasks run", total)
	}
	parts := []string{fmt.Sprintf("%d of %d tasks run", n.Running, total)}
	for _, p := range []struct {
		n    int
		word string
	}{{n.Old, "of an earlier version"}, {n.Starting, "starting"}, {n.Failed, "failed"}, {n.Missing, "missing"}} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.word))
		}
	}
	return strings.Join(parts, ", ")
}

// conditionWord is a condition as a class of the style sheet.
func conditionWord(condition string) string {
	switch condition {
	case string(reconcile.Stalled), string(reconcile.Degraded):
		return "bad"
	case string(reconcile.Progressing):
		return "busy"
	case string(reconcile.Ready):
		return "good"
	}
	return "warn"
}

func heading(condition string) string {
	if condition == reconcile.NotReady {
		return "Not ready"
	}
	return condition
}

var stateWords = map[string]string{"running": "runs", "old": "runs, of an earlier version", "starting": "starts", "failed": "failed"}

func stateWord(state string) string { return stateWords[state] }

func took(e Entry) string {
	d := time.Duration(e.Seconds * float64(time.Second)).Round(time.Second)
	if e.Phase == reconcile.PhaseProgressing {
		return d.String() + " so far"
	}
	return "took " + d.String()
}

const (
	shortID   = 12
	maxValue  = 160 // characters of a value in a difference
	maxRevise = 80  // of a revision or subject in a line
)

// short is enough of a digest or a long revision to tell it from others.
func short(s string) string {
	if kind, hex, ok := strings.Cut(s, ":"); ok && len(hex) > shortID {
		return kind + ":" + hex[:shortID]
	}
	return clip(s, maxRevise)
}

func clip(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// where says where a file has what a finding is about.
func where(f spec.Finding) string {
	at := f.File
	if f.Line > 0 {
		at = fmt.Sprintf("%s:%d", at, f.Line)
	}
	if f.Service != "" {
		at = strings.TrimSpace(at + " " + f.Service)
	}
	return reconcile.Printable(at)
}

func sign(op reconcile.Op) string {
	return map[reconcile.Op]string{reconcile.OpCreate: "+", reconcile.OpUpdate: "~", reconcile.OpRemove: "−", reconcile.OpReplace: "±"}[op]
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// worstFindings are those of at least warning, and then how many are left.
func worstFindings(all []spec.Finding) (out []spec.Finding) {
	for _, f := range all {
		if f.Severity != spec.Info {
			out = append(out, f)
		}
	}
	return out
}

// anchor names what a link of the counts leads to: the first stack of that condition.
func anchor(stacks []StackLine, i int) string {
	if i == 0 || stacks[i-1].Condition != stacks[i].Condition {
		return "first-" + strings.ToLower(stacks[i].Condition)
	}
	return ""
}
