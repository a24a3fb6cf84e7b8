package conformance

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the tables of docs/compose.md anew")

const (
	docsFile   = "../../docs/compose.md"
	tableBegin = "<!-- The tables up to the end mark are made by: cd spec/conformance && go test -run TestDocs -update -->\n"
	tableEnd   = "<!-- end -->\n"
)

// TestDocs holds the tables of docs/compose.md against differences.yaml.
func TestDocs(t *testing.T) {
	text, err := os.ReadFile(docsFile)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, begins := strings.Cut(string(text), tableBegin)
	got, after, ends := strings.Cut(rest, tableEnd)
	if !begins || !ends {
		t.Fatalf("%s has not both marks of its tables", docsFile)
	}
	want := tables(readDifferences(t))
	switch {
	case got == want:
	case *update:
		if err := os.WriteFile(docsFile, []byte(before+tableBegin+want+tableEnd+after), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("the tables of %s are not those of %s (run go test -run TestDocs -update)", docsFile, differencesFile)
	}
}

// tables are the differences as Markdown.
func tables(d *differences) string {
	var out strings.Builder
	out.WriteString("\n| Field | docker stack deploy | skep | Why |\n|---|---|---|---|\n")
	for _, f := range d.Fields {
		fmt.Fprintf(&out, "| `%s` | %s | %s | %s |\n", f.Path, shown(f.Docker), shown(f.Skep), f.Reason)
	}
	out.WriteString("\n| File | docker stack deploy | skep | Why |\n|---|---|---|---|\n")
	for _, r := range d.Refusals {
		fmt.Fprintf(&out, "| `%s` | %s | %s | %s |\n", r.File, refused(r.Docker), refused(r.Skep), r.Reason)
	}
	out.WriteString("\n")
	return out.String()
}

func shown(value *string) string {
	if value == nil {
		return "not set"
	}
	return code(*value)
}

// refused is a side's errors: of several of one kind, each kind once.
func refused(errors []string) string {
	if len(errors) == 0 {
		return "takes it"
	}
	var kinds []string
	seen := map[string]bool{}
	for _, e := range errors {
		if line, finding, ok := strings.Cut(e, ": "); ok && strings.Trim(line, "0123456789") == "" {
			e = finding
		}
		if !seen[e] {
			kinds = append(kinds, code(e))
		}
		seen[e] = true
	}
	return "refuses it: " + strings.Join(kinds, ", ")
}

// code is a text as code in a table's cell.
func code(text string) string {
	fence := "`"
	for strings.Contains(text, fence) {
		fence += "`"
	}
	if len(fence) > 1 {
		text = " " + text + " "
	}
	return fence + strings.ReplaceAll(text, "|", `\|`) + fence
}
