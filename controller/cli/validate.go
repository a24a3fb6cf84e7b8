package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/skep-io/skep/spec"
)

func (a *app) validate() *cobra.Command {
	var (
		specs  specFlags
		format formatFlag
		strict bool
		quiet  bool
	)
	cmd := &cobra.Command{
		Use:     "validate [PATH...]",
		Short:   "Find what is wrong with stacks, or will not do what it looks like",
		GroupID: groupFiles,
		Long: `Find what is wrong with stacks, or will not do what it looks like.

A PATH is a compose file, the folder of one, or a specs directory; by default the
current directory. No engine is asked. Exit code 1 says that there are errors,
and with --strict warnings.`,
		Example: `  skep validate
  skep validate stacks/shop.yml
  skep validate --format github --strict stacks/`,
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := format.parse()
			if err != nil {
				return err
			}
			o, err := specs.options(a.lookup)
			if err != nil {
				return err
			}
			if len(args) == 0 {
				args = []string{"."}
			}
			var report validation
			for _, path := range args {
				if err := report.read(cmd.Context(), path, o); err != nil {
					return err
				}
			}
			shown := report.sorted()
			if quiet {
				shown = slices.DeleteFunc(shown, func(f spec.Finding) bool { return f.Severity != spec.Error })
			}
			switch format.value {
			case "text":
				a.printFindings(a.out, shown)
			case "github":
				printGitHub(a.out, shown)
			default:
				if err := printEach(a.out, t, shown); err != nil {
					return err
				}
			}
			if !quiet {
				fmt.Fprintln(a.err, report.summary())
			}
			return report.verdict(strict)
		},
	}
	specs.install(cmd)
	format.install(cmd, "text", "json", "github")
	cmd.Flags().BoolVar(&strict, "strict", false, "Take warnings for errors")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "Print errors only")
	return cmd
}

// A validation gathers what was found in several paths.
type validation struct {
	findings []spec.Finding
	stacks   int
}

// read takes in a file, a folder or a specs directory. Its error says that one
// could not tell.
func (v *validation) read(ctx context.Context, path string, o spec.Options) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("validate: %w", err)
	}
	stack, findings := spec.LoadFile(ctx, path, o)
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("validate %s: %w", path, err)
	}
	if info.IsDir() && stack == nil && isSpecsDirectory(findings) {
		return v.scan(ctx, path, o)
	}
	v.stacks++
	v.findings = append(v.findings, findings...)
	return nil
}

// isSpecsDirectory says whether a folder did not load because it is not that of
// one stack.
func isSpecsDirectory(findings []spec.Finding) bool {
	return len(findings) == 1 && findings[0].Code == "not-a-stack"
}

func (v *validation) scan(ctx context.Context, dir string, o spec.Options) error {
	snapshot := spec.Scan(ctx, dir, o)
	if !snapshot.Complete {
		return fmt.Errorf("validate: %w", snapshot.Err)
	}
	v.stacks += len(snapshot.Stacks) + len(snapshot.Problems)
	add := func(findings []spec.Finding) {
		for _, f := range findings {
			f.File = filepath.ToSlash(filepath.Join(dir, f.File))
			v.findings = append(v.findings, f)
		}
	}
	add(snapshot.Findings)
	for _, stack := range snapshot.Stacks {
		add(stack.Findings)
	}
	for _, problems := range snapshot.Problems {
		add(problems)
	}
	return nil
}

func (v *validation) sorted() []spec.Finding {
	findings := slices.Clone(v.findings)
	slices.SortFunc(findings, compareFindings)
	return slices.Compact(findings)
}

func compareFindings(a, b spec.Finding) int {
	return cmp.Or(
		cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column),
		cmp.Compare(a.Code, b.Code), cmp.Compare(a.Message, b.Message), cmp.Compare(a.Service, b.Service),
	)
}

func (v *validation) count(s spec.Severity) int {
	n := 0
	for _, f := range v.sorted() {
		if f.Severity == s {
			n++
		}
	}
	return n
}

func (v *validation) summary() string {
	return fmt.Sprintf("%s, %s, %s", plural(v.stacks, "stack"), plural(v.count(spec.Error), "error"), plural(v.count(spec.Warning), "warning"))
}

func (v *validation) verdict(strict bool) error {
	if v.count(spec.Error) > 0 || strict && v.count(spec.Warning) > 0 {
		return no
	}
	return nil
}

func plural(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}

// printFindings prints a finding a line, as compilers do.
func (a *app) printFindings(w io.Writer, findings []spec.Finding) {
	on := a.colour(w)
	for _, f := range findings {
		line := f.String()
		if on {
			word := ": " + string(f.Severity) + ": "
			line = strings.Replace(line, word, ": "+paint(true, severityColour[f.Severity], string(f.Severity))+": ", 1)
		}
		fmt.Fprintln(w, line)
	}
}

var severityColour = map[spec.Severity]string{spec.Error: red, spec.Warning: yellow, spec.Info: green}

// printGitHub prints the workflow commands by which GitHub shows findings beside
// the lines they are about.
func printGitHub(w io.Writer, findings []spec.Finding) {
	commands := map[spec.Severity]string{spec.Error: "error", spec.Warning: "warning", spec.Info: "notice"}
	for _, f := range findings {
		properties := []string{"file=" + githubProperty.Replace(f.File)}
		if f.Line > 0 {
			properties = append(properties, fmt.Sprintf("line=%d", f.Line))
		}
		if f.Column > 0 {
			properties = append(properties, fmt.Sprintf("col=%d", f.Column))
		}
		properties = append(properties, "title="+githubProperty.Replace(f.Code))
		fmt.Fprintf(w, "::%s %s::%s\n", commands[f.Severity], strings.Join(properties, ","), githubData.Replace(f.Message))
	}
}

// How workflow commands write the characters that mean something in them.
var (
	githubData     = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	githubProperty = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
)
