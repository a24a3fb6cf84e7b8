package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/skep-io/skep/controller"
	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
)

func (a *app) validate() *cobra.Command {
	var (
		specs  specFlags
		format formatFlag
		dir    string
		strict bool
		quiet  bool
		guard  guardFlags
		ref    string
	)
	cmd := &cobra.Command{
		Use:     "validate [--specs DIR] [PATH...]",
		Short:   "Find what is wrong with stacks, or will not do what it looks like",
		GroupID: groupFiles,
		Long: `Find what is wrong with stacks, or will not do what it looks like.

A PATH is a compose file, the folder of one, or a specs directory; by default the
current directory. --specs says that a directory is one of stacks, even where a
compose file of something else lies in it too. No engine is asked.

With --policy it finds what that refuses too, as far as files tell it. The directories
of a policy are those below the specs directory, which for a PATH is that of --specs or
SKEP_SPECS. Without one a warning tells the rules that cannot be judged: the PATH is
taken as it is written.

With --git-ref it is what another branch, tag or commit of the repository around the
directory of --specs says.

Encrypted files are opened where --age-key-file names a key; without one a warning
tells that their values are not known.

Exit code 1 says that there are errors, and with --strict warnings; 2 that a file
could not be read.`,
		Example: `  skep validate
  skep validate stacks/shop.yml stacks/blog
  skep validate --specs .
  skep validate --specs stacks/ --git-ref origin/main
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
			o = specs.lookOnly(o)
			guarded, err := guard.load()
			if err != nil {
				return err
			}
			source, dir, _ := namedDirectory(dir)
			if a.byVariable["git-ref"] && (dir == "" || len(args) > 0) {
				ref = "" // who names paths means these
			}
			report := validation{guard: guarded, source: source, specs: dir, ref: ref}
			if err := report.checkRef(args); err != nil {
				return err
			}
			if len(args) > 0 && a.byVariable["specs"] {
				dir = "" // who names paths means these
			}
			report.readAll(cmd.Context(), dir, args, o)
			if err := cmd.Context().Err(); err != nil {
				return fmt.Errorf("validate: %w", err)
			}
			if format.value == "github" {
				workspace, _ := a.lookup("GITHUB_WORKSPACE")
				report.showFrom(workspace)
			}
			shown := report.sorted()
			if quiet {
				shown = slices.DeleteFunc(shown, func(f spec.Finding) bool {
					return f.Severity != spec.Error && (!strict || f.Severity != spec.Warning)
				})
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
	guard.install(cmd)
	format.install(cmd, "text", "json", "github")
	installSpecs(cmd, &dir)
	installGitRef(cmd, &ref)
	cmd.Flags().BoolVar(&strict, "strict", false, "Take warnings for errors")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "Print errors only; with --strict, warnings too")
	return cmd
}

// A validation gathers what was found in several paths.
type validation struct {
	guard    reconcile.Guard
	source   string // what the specs directory is called, empty for nothing
	specs    string // the specs directory, as far as it was named
	ref      string // the git ref to read it at, empty for the work tree
	findings []spec.Finding
	stacks   map[string]bool     // the absolute path of each stack's file
	sites    map[string][]string // the files of stacks of specs directories, as rules see them
	unread   []error             // why one cannot tell
	taken    []string            // the folders that were taken for specs directories
}

// checkRef refuses a git ref without the directory to read at it.
func (v *validation) checkRef(paths []string) error {
	if v.ref != "" && (v.specs == "" || len(paths) > 0) {
		return usagef("--git-ref reads the directory of --specs as another commit has it (give --specs DIR, and no PATH)")
	}
	return nil
}

// readAll takes in a specs directory, if one is named, and paths.
func (v *validation) readAll(ctx context.Context, dir string, paths []string, o spec.Options) {
	if dir != "" {
		v.scan(ctx, dir, o)
	} else if len(paths) == 0 {
		paths = []string{"."}
	}
	for _, path := range paths {
		v.read(ctx, path, o)
	}
	v.policyInOtherHands(dir)
	if len(v.unread) == 0 { // else a rule may be for what was not read
		v.note("", v.guard.Policy.Unused(v.sites))
	}
	if here, err := os.Getwd(); err == nil {
		v.showFrom(here)
	}
}

// policyInOtherHands warns of a policy that those who write stacks may write too, as
// `skep run` does in its log.
func (v *validation) policyInOtherHands(dir string) {
	if v.guard.Policy == nil {
		return
	}
	file := v.guard.Policy.File
	for _, specs := range append([]string{dir, v.specs}, v.taken...) {
		if how := controller.PolicyInOtherHands(file, specs); how != "" {
			v.note("", []spec.Finding{{File: file, Severity: spec.Warning, Code: "policy-in-other-hands",
				Message: "who writes stacks may be able to write the policy: " + how}})
			return
		}
	}
}

// read takes in a file, a folder or a specs directory.
func (v *validation) read(ctx context.Context, path string, o spec.Options) {
	info, err := os.Stat(path)
	if err != nil {
		v.unread = append(v.unread, err)
		return
	}
	stack, findings := spec.LoadFile(ctx, path, o)
	if info.IsDir() && stack == nil && isSpecsDirectory(findings) {
		v.policyInOtherHands(path)
		if path != "." {
			v.taken = append(v.taken, path)
		}
		v.scan(ctx, path, o)
		return
	}
	if stack != nil {
		file, known := v.below(stack.Source.File)
		if !known {
			v.note("", v.guard.Policy.Unjudged(stack.Name))
		}
		if known {
			file = spec.Source{Name: v.source, File: file}.Site()
		}
		v.note("", v.guard.CheckStackAt(stack, file))
	}
	v.add("", stack, findings)
}

// below is a file relative to the specs directory, and whether it lies in one that was
// named; else the file as it was.
func (v *validation) below(file string) (string, bool) {
	if v.specs == "" {
		return file, false
	}
	dir, full := absolute(v.specs), absolute(file)
	if in, err := filepath.Rel(dir, full); err == nil && filepath.IsLocal(in) {
		return filepath.ToSlash(in), true
	}
	dir, err1 := filepath.EvalSymlinks(dir)
	folder, err2 := filepath.EvalSymlinks(filepath.Dir(full))
	in, err := filepath.Rel(dir, filepath.Join(folder, filepath.Base(full)))
	if err1 != nil || err2 != nil || err != nil || !filepath.IsLocal(in) {
		return file, false
	}
	return filepath.ToSlash(in), true
}

// isSpecsDirectory says whether a folder did not load because it is not that of
// one stack.
func isSpecsDirectory(findings []spec.Finding) bool {
	return len(findings) == 1 && findings[0].Code == "not-a-stack"
}

// scan takes in a specs directory.
func (v *validation) scan(ctx context.Context, dir string, o spec.Options) {
	source := ""
	if dir == v.specs {
		source = v.source
	}
	o.Part = source != ""
	snapshot, err := v.snapshot(ctx, dir, o)
	if err != nil {
		v.unread = append(v.unread, err)
		return
	}
	if v.sites == nil {
		v.sites = map[string][]string{}
	}
	snapshot = spec.Join(spec.Part{Name: source, Snapshot: snapshot})
	for name, files := range spec.SitesOf(snapshot.Stacks, snapshot.Problems) {
		v.sites[name] = append(v.sites[name], files...)
	}
	for _, stack := range snapshot.Stacks {
		v.add(dir, stack, stack.Findings)
		v.note(dir, v.guard.CheckStack(stack))
	}
	for _, problems := range snapshot.Problems {
		v.add(dir, nil, problems)
	}
	v.note(dir, snapshot.Findings)
}

// snapshot is all of a specs directory.
func (v *validation) snapshot(ctx context.Context, dir string, o spec.Options) (*spec.Snapshot, error) {
	if v.ref != "" {
		return scanRef(ctx, dir, v.ref, o)
	}
	snapshot := spec.Scan(ctx, dir, o)
	if !snapshot.Complete {
		return nil, snapshot.Err
	}
	return snapshot, nil
}

// add takes in a stack, nil where it did not load, with its findings, whose files
// are relative to dir.
func (v *validation) add(dir string, stack *spec.Stack, findings []spec.Finding) {
	file := ""
	if stack != nil {
		file = stack.Source.File
	} else if i := slices.IndexFunc(findings, isError); i >= 0 {
		file = findings[i].File
	}
	if v.stacks == nil {
		v.stacks = map[string]bool{}
	}
	v.stacks[absolute(filepath.Join(dir, file))] = true
	v.note(dir, findings)
}

func isError(f spec.Finding) bool { return f.Severity == spec.Error }

// hides says that a finding may hide others of its file.
func hides(f spec.Finding) bool {
	code, _ := spec.CodeOf(f.Code)
	return isError(f) && code.Hides()
}

// unreadable says that a finding leaves open whether a stack is good.
func unreadable(f spec.Finding) bool { return f.Code == "unreadable" || f.Code == "unstable" }

func (v *validation) note(dir string, findings []spec.Finding) {
	for _, f := range findings {
		f.File, f.Source = filepath.ToSlash(filepath.Join(dir, f.File)), "" // the path tells
		if unreadable(f) {
			v.unread = append(v.unread, fmt.Errorf("%s could not be read", f.File))
		}
		v.findings = append(v.findings, f)
	}
}

// showFrom names files relative to a folder, if there is one, that they lie in: so
// an editor or a forge finds them.
func (v *validation) showFrom(folder string) {
	if folder == "" {
		return
	}
	for i, f := range v.findings {
		if near, err := filepath.Rel(folder, absolute(f.File)); err == nil && filepath.IsLocal(near) {
			v.findings[i].File = filepath.ToSlash(near)
		}
	}
}

// absolute is a file's path from the root, or as it was where nobody knows the
// current directory.
func absolute(file string) string {
	if full, err := filepath.Abs(file); err == nil {
		return full
	}
	return file
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
	lines := []string{fmt.Sprintf("%s, %s, %s", plural(len(v.stacks), "stack"), plural(v.count(spec.Error), "error"), plural(v.count(spec.Warning), "warning"))}
	if slices.ContainsFunc(v.findings, hides) {
		lines = append(lines, "more may be found when these are mended")
	}
	for _, folder := range v.taken {
		lines = append(lines, folder+" holds no compose file, and was taken for a specs directory: each YAML file in it for a stack")
	}
	return strings.Join(lines, "\n")
}

// verdict is the answer: what could not be read leaves it open.
func (v *validation) verdict(strict bool) error {
	if len(v.unread) > 0 {
		return fmt.Errorf("validate: %w", errors.Join(v.unread...))
	}
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
