package cli

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// man is for who packages skep: a release has its manual page and completion files.
func (a *app) man() *cobra.Command {
	return &cobra.Command{
		Use:     "man",
		Short:   "Print the manual page skep(1)",
		Hidden:  true,
		Example: `  skep man > skep.1`,
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return printManual(a.out, cmd.Root(), buildVersion().Version)
		},
	}
}

// A manual writes in roff's man macros (man(7) of groff and mandoc).
type manual struct{ *bufio.Writer }

// printManual prints one page for all verbs that help shows. The same skep prints the
// same page.
func printManual(w io.Writer, root *cobra.Command, version string) error {
	m := manual{bufio.NewWriter(w)}
	m.macro("TH", "SKEP", "1", "", "skep "+version, "User Commands")
	m.macro("SH", "NAME")
	m.text("skep - " + strings.ToLower(root.Short[:1]) + root.Short[1:])
	m.macro("SH", "SYNOPSIS")
	for _, cmd := range verbs(root) {
		m.macro("PP")
		m.text("skep " + cmd.Use)
	}
	m.macro("SH", "DESCRIPTION")
	m.prose(root.Long)
	m.macro("SH", "VERBS")
	for _, cmd := range verbs(root) {
		m.macro("SS", "skep "+cmd.Use)
		m.prose(orElse(cmd.Long, cmd.Short+"."))
		cmd.LocalFlags().VisitAll(m.flag)
		if cmd.Example != "" {
			m.macro("PP")
			m.text("Examples:")
			m.verbatim(cmd.Example)
		}
	}
	m.macro("SH", "ENVIRONMENT")
	m.prose("SKEP_… stands for every flag. DOCKER_HOST, DOCKER_CONTEXT, DOCKER_CONFIG, DOCKER_CERT_PATH and DOCKER_TLS_VERIFY mean what they mean to docker. NO_COLOR leaves colours out.")
	m.macro("SH", "EXIT STATUS")
	m.prose("0: good. 1: a no (differences, invalid, degraded, rolled back, timed out). 2: could not tell.")
	if err := m.Flush(); err != nil {
		return fmt.Errorf("print the manual page: %w", err)
	}
	return nil
}

// verbs are those that help shows, without what only helps with them.
func verbs(root *cobra.Command) []*cobra.Command {
	var shown []*cobra.Command
	for _, cmd := range root.Commands() {
		if !cmd.Hidden && cmd.Name() != "help" && cmd.Name() != "completion" {
			shown = append(shown, cmd)
		}
	}
	return shown
}

// macro writes a request with its arguments.
func (m manual) macro(name string, args ...string) {
	fmt.Fprintf(m, ".%s", name)
	for _, arg := range args {
		fmt.Fprintf(m, ` "%s"`, strings.ReplaceAll(escape(arg), `"`, `\(dq`))
	}
	fmt.Fprintln(m)
}

// text writes lines that roff fills.
func (m manual) text(s string) {
	for _, line := range strings.Split(s, "\n") {
		fmt.Fprintln(m, guarded(escape(line)))
	}
}

// prose writes paragraphs; one that is indented stays as it is.
func (m manual) prose(s string) {
	for _, paragraph := range strings.Split(strings.TrimSpace(s), "\n\n") {
		if strings.HasPrefix(paragraph, "  ") {
			m.verbatim(paragraph)
			continue
		}
		m.macro("PP")
		m.text(paragraph)
	}
}

func (m manual) verbatim(s string) {
	m.macro("PP")
	m.macro("nf")
	m.macro("RS")
	for _, line := range strings.Split(s, "\n") {
		fmt.Fprintln(m, guarded(escape(strings.TrimPrefix(line, "  "))))
	}
	m.macro("RE")
	m.macro("fi")
}

func (m manual) flag(f *pflag.Flag) {
	if f.Hidden || f.Name == "help" {
		return
	}
	kind, usage := pflag.UnquoteUsage(f)
	head := `\fB` + escape("--"+f.Name) + `\fR`
	if f.Shorthand != "" {
		head = `\fB` + escape("-"+f.Shorthand) + `\fR, ` + head
	}
	if kind != "" {
		head += ` \fI` + escape(kind) + `\fR`
	}
	fmt.Fprintf(m, ".TP\n%s\n", head)
	if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "[]" && f.DefValue != "0" {
		usage += fmt.Sprintf(" (default %s)", f.DefValue)
	}
	m.text(usage)
}

// escape keeps roff from taking text for its own: a backslash, and hyphens, which are to
// be copied as they are.
func escape(s string) string {
	return strings.NewReplacer(`\`, `\e`, "-", `\-`, "'", `\(aq`, "`", "\\(ga").Replace(s)
}

// guarded keeps a line that begins with a dot from being a request.
func guarded(line string) string {
	if strings.HasPrefix(line, ".") {
		return `\&` + line
	}
	return line
}
