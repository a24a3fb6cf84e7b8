package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
)

// A planDocument is a stack's plan as --format json has it: what its Go type says,
// without what only the writing needs.
type planDocument struct {
	Stack    string         `json:"stack"`
	Changes  []changeRecord `json:"changes"` // in the order they would be carried out
	Findings []spec.Finding `json:"findings"`
	Orphan   bool           `json:"orphan,omitempty"` // its file is gone
}

type changeRecord struct {
	Op       reconcile.Op      `json:"op"`
	Kind     reconcile.Kind    `json:"kind"`
	Name     string            `json:"name"`
	Key      string            `json:"key,omitempty"`
	Fields   []reconcile.Field `json:"fields,omitempty"`
	Restarts bool              `json:"restarts,omitempty"`
	Wave     int               `json:"wave,omitempty"`
	Early    bool              `json:"early,omitempty"`
}

func documentOf(p *reconcile.Plan) planDocument {
	d := planDocument{Stack: p.Stack, Changes: []changeRecord{}, Findings: append([]spec.Finding{}, p.Findings...)}
	for _, c := range p.Changes {
		d.Changes = append(d.Changes, changeRecord{
			Op: c.Op, Kind: c.Kind, Name: c.Name, Key: c.Key, Fields: c.Fields, Restarts: c.Restarts, Wave: c.Wave, Early: c.Early,
		})
	}
	return d
}

// How a change begins, and in which colour.
var opSign = map[reconcile.Op]struct{ sign, colour string }{
	reconcile.OpCreate:  {"+", green},
	reconcile.OpUpdate:  {"~", yellow},
	reconcile.OpRemove:  {"-", red},
	reconcile.OpReplace: {"±", red},
}

// printPlan prints what a plan changes, in order, field by field.
func printPlan(w io.Writer, p *reconcile.Plan, colour bool) {
	fmt.Fprintf(w, "%s: %s\n", p.Stack, countChanges(p.Changes))
	for _, c := range p.Changes {
		sign := opSign[c.Op]
		fmt.Fprintf(w, "  %s %s %s%s\n", paint(colour, sign.colour, sign.sign), c.Kind, c.Name, remarks(c))
		width := 0
		for _, f := range c.Fields {
			width = max(width, len([]rune(f.Path)))
		}
		for _, f := range c.Fields {
			fmt.Fprintf(w, "      %-*s  %s → %s\n", width, f.Path, nothing(f.Old), nothing(f.New))
		}
	}
	for _, f := range p.Findings {
		fmt.Fprintf(w, "  %s: %s\n", paint(colour, severityColour[f.Severity], string(f.Severity)), f.Message)
	}
}

// remarks say what a change means for tasks, and when its turn is.
func remarks(c reconcile.Change) string {
	var notes []string
	if c.Restarts && c.Op != reconcile.OpCreate {
		notes = append(notes, "restarts")
	}
	if c.Early {
		notes = append(notes, "first, to free its port")
	}
	if c.Wave > 0 {
		notes = append(notes, fmt.Sprintf("after wave %d", c.Wave))
	}
	if len(notes) == 0 {
		return ""
	}
	return " (" + strings.Join(notes, ", ") + ")"
}

func nothing(s string) string {
	if s == "" {
		return "(none)"
	}
	return s
}

// countChanges is "1 to create, 2 to update; 1 service restarts".
func countChanges(changes []reconcile.Change) string {
	if len(changes) == 0 {
		return "no changes"
	}
	counts := map[reconcile.Op]int{}
	restarts := 0
	for _, c := range changes {
		counts[c.Op]++
		if c.Restarts && (c.Op == reconcile.OpUpdate || c.Op == reconcile.OpReplace) {
			restarts++
		}
	}
	var parts []string
	for _, op := range []reconcile.Op{reconcile.OpCreate, reconcile.OpUpdate, reconcile.OpReplace, reconcile.OpRemove} {
		if counts[op] > 0 {
			parts = append(parts, fmt.Sprintf("%d to %s", counts[op], op))
		}
	}
	said := strings.Join(parts, ", ")
	switch restarts {
	case 0:
		return said
	case 1:
		return said + "; 1 service restarts"
	}
	return fmt.Sprintf("%s; %d services restart", said, restarts)
}
