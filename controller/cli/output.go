package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"text/template"
	"time"
	"unicode"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// formatFlag is --format: one of the verb's words, the first of which is its
// default, or a Go template that is applied to each object.
type formatFlag struct {
	value string
	words []string
}

func (f *formatFlag) install(cmd *cobra.Command, words ...string) {
	f.words = words
	cmd.Flags().StringVar(&f.value, "format", words[0],
		fmt.Sprintf("Output: %s, or a Go template", strings.Join(words, ", ")))
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
}

// parse gives the template to use, nil where the format is one of the words.
func (f *formatFlag) parse() (*template.Template, error) {
	if slices.Contains(f.words, f.value) {
		return nil, nil
	}
	if !strings.Contains(f.value, "{{") {
		hint := meant(f.value, f.words)
		if hint != "" {
			hint = " (" + hint + ")"
		}
		return nil, usagef("--format %q is neither %s nor a Go template such as '{{json .}}'%s", f.value, strings.Join(f.words, ", "), hint)
	}
	t, err := template.New("").Funcs(templateFuncs).Parse(f.value)
	if err != nil {
		return nil, usagef("--format: %w", err)
	}
	return t, nil
}

var templateFuncs = template.FuncMap{
	"json":  func(v any) (string, error) { b, err := marshal(v); return strings.TrimSpace(string(b)), err },
	"join":  strings.Join,
	"lower": strings.ToLower,
	"upper": strings.ToUpper,
	"title": func(s string) string {
		if s == "" {
			return s
		}
		return strings.ToUpper(s[:1]) + s[1:]
	},
}

// printEach prints objects as JSON, one a line as the docker command does, or
// with a template.
func printEach[T any](w io.Writer, t *template.Template, objects []T) error {
	for _, o := range objects {
		if t == nil {
			b, err := marshal(o)
			if err != nil {
				return err
			}
			if _, err := w.Write(b); err != nil {
				return err
			}
			continue
		}
		if err := t.Execute(w, o); err != nil {
			return usagef("--format: %w", err)
		}
		if _, err := fmt.Fprintln(w); err != nil {
			return err
		}
	}
	return nil
}

// marshal is JSON on one line, with a line's end, and <, > and & as they are.
func marshal(v any) ([]byte, error) {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("print as JSON: %w", err)
	}
	return []byte(b.String()), nil
}

// installNoTrunc adds --no-trunc, as docker's verbs have it.
func installNoTrunc(cmd *cobra.Command, whole *bool) {
	cmd.Flags().BoolVar(whole, "no-trunc", false, "Shorten nothing")
}

// printTable prints rows below headers with the docker command's spacing.
func printTable(w io.Writer, headers []string, rows [][]string) error {
	t := tabwriter.NewWriter(w, 10, 1, 3, ' ', 0)
	fmt.Fprintln(t, strings.Join(headers, "\t"))
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = printable(cell)
		}
		fmt.Fprintln(t, strings.Join(cells, "\t"))
	}
	return t.Flush()
}

// sentences stand below a table that has one word of each: whose, and what there is to
// say.
type sentences []string

func (s *sentences) add(whose, text string) {
	if text = strings.TrimSpace(printable(text)); text != "" {
		*s = append(*s, whose+": "+strings.TrimPrefix(text, whose+": "))
	}
}

func (s sentences) print(w io.Writer) {
	if len(s) > 0 {
		fmt.Fprintf(w, "\n%s\n", strings.Join(s, "\n"))
	}
}

// printable is text on one line that cannot steer a terminal: what an engine says of
// a task has words in it that come from a container.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s)
}

// age is how long ago t was, as docker says it; "-" for no time.
func age(now, t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return units.HumanDuration(now.Sub(t)) + " ago"
}

// dash stands for nothing in a table.
func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

// Colours of a terminal, by what they say.
const (
	red    = "31"
	green  = "32"
	yellow = "33"
)

// paint colours s where on is true.
func paint(on bool, colour, s string) string {
	if !on {
		return s
	}
	return "\x1b[" + colour + "m" + s + "\x1b[0m"
}

// isTerminal says whether a person sits behind w.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// colour says whether w wants it: a terminal that can, and nobody who set NO_COLOR
// (https://no-color.org).
func (a *app) colour(w io.Writer) bool {
	if !isTerminal(w) {
		return false
	}
	if v, _ := a.lookup("NO_COLOR"); v != "" {
		return false
	}
	kind, _ := a.lookup("TERM")
	return kind != "dumb"
}
