// Package cli is the command line of skep: a verb a file, each of which reads
// its flags, calls the packages that know, and prints what they said.
//
// It decides nothing about stacks, keeps no state, and never prints a secret's
// value. Data goes to standard output, words to standard error. Verbs other than
// run speak to the engine, not to a daemon: state is in the Swarm.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/skep-io/skep/controller"
)

// Exit codes of every verb.
const (
	exitGood    = 0
	exitNo      = 1 // differences, invalid, degraded, rolled back, timed out
	exitUnknown = 2 // could not tell: usage, engine and file errors
)

// An app is what the verbs of one invocation share.
type app struct {
	in       io.Reader
	out, err io.Writer
	// lookup reads the environment.
	lookup func(string) (string, bool)
	// byVariable holds the flags whose values came from the environment.
	byVariable map[string]bool
	// openGit makes a source of a git repository; nil: none can be fetched.
	openGit func(SourceConfig) (controller.Source, error)
}

// Main runs skep with args (without the program's name) until it is done or ctx
// is, and returns the exit code.
func Main(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{in: stdin, out: stdout, err: stderr, lookup: os.LookupEnv}
	root := a.root()
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	return a.exit(cmd, err)
}

// A verdict is an answer that is no: exit code 1, with a sentence or without.
type verdict struct{ reason string }

func (v verdict) Error() string { return v.reason }

// no is for what the output already told.
var no = verdict{}

// A usageError is a call that skep does not understand.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// exit tells err, once, and gives the exit code for it.
func (a *app) exit(cmd *cobra.Command, err error) int {
	if err == nil {
		return exitGood
	}
	if v, ok := errors.AsType[verdict](err); ok {
		if v.reason != "" {
			fmt.Fprintf(a.err, "skep: %s\n", v.reason)
		}
		return exitNo
	}
	fmt.Fprintf(a.err, "skep: %s\n", strings.TrimSpace(err.Error()))
	if _, ok := errors.AsType[usageError](err); ok {
		fmt.Fprintf(a.err, "See '%s --help'.\n", cmd.CommandPath())
	}
	return exitUnknown
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "skep",
		Short: "Keep a Docker Swarm as a directory of compose files says",
		Long: `skep keeps a Docker Swarm as a directory of compose files says: it deploys,
updates, corrects what drifts, and goes back when a release turns out bad.

Every flag can be given in the environment too: --resync is SKEP_RESYNC. A flag
beats the environment. Docker's own flags and variables name the engine.

Exit codes: 0 good, 1 a no (differences, invalid, degraded, rolled back, timed
out), 2 could not tell.`,
		Example: `  skep validate stacks/
  skep plan --specs stacks/
  skep run --specs stacks/`,
		SilenceErrors:              true,
		SilenceUsage:               true,
		DisableFlagsInUseLine:      true,
		SuggestionsMinimumDistance: 2,
		Args:                       a.unknownVerb,
		RunE:                       func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			return a.fromEnvironment(cmd)
		},
	}
	root.SetIn(a.in)
	root.SetOut(a.out)
	root.SetErr(a.err)
	root.SetFlagErrorFunc(flagError)
	root.AddGroup(
		&cobra.Group{ID: groupFiles, Title: "Without an engine:"},
		&cobra.Group{ID: groupEngine, Title: "With an engine:"},
	)
	root.SetHelpCommandGroupID(groupFiles)
	root.SetCompletionCommandGroupID(groupFiles)
	root.AddCommand(
		a.run(), a.plan(), a.apply(), a.status(),
		a.history(), a.logs(), a.rollback(), a.suspend(), a.resume(), a.prune(),
		a.doctor(), a.validate(), a.render(), a.schema(),
		a.version(), a.health(), a.man(),
	)
	return root
}

const (
	groupFiles  = "files"
	groupEngine = "engine"
)

// unknownVerb tells a verb that there is not, with those that look like it.
func (a *app) unknownVerb(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	near := cmd.SuggestionsFor(args[0])
	if len(near) == 0 {
		return usagef("%q is no verb of skep", args[0])
	}
	return usagef("%q is no verb of skep (did you mean %s?)", args[0], strings.Join(near, " or "))
}

// usageArgs makes cobra's complaints about arguments usage errors, which say what is
// taken.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return usagef("%w (as in: skep %s)", err, cmd.Use)
		}
		return nil
	}
}
