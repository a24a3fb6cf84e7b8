package cli

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/shlex"
	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"skep": func() { os.Exit(Main(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) },
	})
}

// The scripts use the verbs as people do, each in a process of its own. $ENGINE is the
// address of a Swarm that plays along, $HOOK that of a webhook that writes the file
// messages, $FORGE that of a forge's API that writes the file statuses, $VECTORS files
// that are encrypted.
func TestScripts(t *testing.T) {
	deploy, err := filepath.Abs("../../deploy")
	if err != nil {
		t.Fatal(err)
	}
	vectors, err := filepath.Abs("../../spec/sops/testdata")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Setup: func(e *testscript.Env) error {
			e.Setenv("DEPLOY", deploy)
			e.Setenv("VECTORS", vectors)
			e.Setenv("ENGINE", newSmallEngine(e.Defer))
			e.Setenv("HOOK", newHook(e.Defer, filepath.Join(e.WorkDir, "messages")))
			e.Setenv("FORGE", newForge(e.Defer, filepath.Join(e.WorkDir, "statuses")))
			return nil
		},
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

// Every example in a help text is a call that skep understands.
func TestExamplesParse(t *testing.T) {
	examples := 0
	for cmd := range commands(newRoot(nil)) {
		for _, line := range strings.Split(cmd.Example, "\n") {
			if line = strings.TrimSpace(line); line == "" {
				continue
			}
			examples++
			line, _, _ = strings.Cut(line, " | ")
			line, _, _ = strings.Cut(line, " > ")
			words, err := shlex.Split(line)
			if err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			env := map[string]string{}
			for len(words) > 0 && strings.Contains(words[0], "=") {
				name, value, _ := strings.Cut(words[0], "=")
				env[name] = value
				words = words[1:]
			}
			if words[0] != "skep" {
				t.Errorf("%q does not call skep", line)
				continue
			}
			checkCall(t, env, words[1:])
		}
	}
	if examples < 15 {
		t.Errorf("only %d examples were found", examples)
	}
}

// checkCall takes a call as far as a verb's own work.
func checkCall(t *testing.T, env map[string]string, args []string) {
	t.Helper()
	root := newRoot(env)
	root.InitDefaultCompletionCmd()
	cmd, rest, err := root.Find(args)
	if err != nil {
		t.Errorf("%v: %v", args, err)
		return
	}
	if err := cmd.ParseFlags(rest); err != nil {
		t.Errorf("%v: %v", args, err)
		return
	}
	if cmd.Args != nil {
		if err := cmd.Args(cmd, cmd.Flags().Args()); err != nil {
			t.Errorf("%v: %v", args, err)
		}
	}
	for name := range env {
		if !hasVariable(cmd, name) {
			t.Errorf("%v: %s is no flag's variable", args, name)
		}
	}
}

func hasVariable(cmd *cobra.Command, name string) bool {
	found := false
	cmd.Flags().VisitAll(func(f *pflag.Flag) { found = found || envName(f.Name) == name })
	return found
}

// Every verb that is shown says what it does and how it is used, and no flag of one
// verb means something else in another.
func TestVerbsAreDescribed(t *testing.T) {
	kinds := map[string]string{}
	for cmd := range commands(newRoot(nil)) {
		if cmd.Hidden {
			continue
		}
		if cmd.Short == "" || cmd.Example == "" {
			t.Errorf("%s: no description or no example", cmd.CommandPath())
		}
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" {
				t.Errorf("%s --%s: no description", cmd.CommandPath(), f.Name)
			}
			if k, ok := kinds[f.Name]; ok && k != f.Value.Type() {
				t.Errorf("%s --%s is a %s, elsewhere a %s", cmd.CommandPath(), f.Name, f.Value.Type(), k)
			}
			kinds[f.Name] = f.Value.Type()
		})
	}
}

func TestEnvironmentStandsForFlags(t *testing.T) {
	for _, tt := range []struct {
		name    string
		env     map[string]string
		args    []string
		flag    string
		want    string
		wantErr string
	}{
		{name: "default", flag: "resync", want: "1m0s"},
		{name: "environment", env: map[string]string{"SKEP_RESYNC": "5s"}, flag: "resync", want: "5s"},
		{name: "flag beats environment", env: map[string]string{"SKEP_RESYNC": "5s"}, args: []string{"--resync", "7s"}, flag: "resync", want: "7s"},
		{name: "flag beats a bad environment", env: map[string]string{"SKEP_RESYNC": "soon"}, args: []string{"--resync", "7s"}, flag: "resync", want: "7s"},
		{name: "empty is not set", env: map[string]string{"SKEP_RESYNC": ""}, flag: "resync", want: "1m0s"},
		{name: "dashes", env: map[string]string{"SKEP_PRUNE_STACKS": "true"}, flag: "prune-stacks", want: "true"},
		{name: "several", env: map[string]string{"SKEP_ENV": "A,B"}, flag: "env", want: "[A,B]"},
		{name: "bad", env: map[string]string{"SKEP_RESYNC": "soon"}, wantErr: `SKEP_RESYNC="soon": time: invalid duration`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := newApp(tt.env)
			cmd, _, err := a.root().Find([]string{"run"})
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.ParseFlags(tt.args); err != nil {
				t.Fatal(err)
			}
			err = a.fromEnvironment(cmd)
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Fatalf("error %v, want one with %q", err, tt.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := cmd.Flag(tt.flag).Value.String(); got != tt.want {
				t.Errorf("--%s is %s, want %s", tt.flag, got, tt.want)
			}
		})
	}
}

func TestSpecOptionsPassOnNamedVariablesOnly(t *testing.T) {
	lookup := newApp(map[string]string{"A": "1", "B": "2", "EMPTY": ""}).lookup
	o, err := (&specFlags{env: []string{"A", "EMPTY", "UNSET"}}).options(lookup)
	if err != nil {
		t.Fatal(err)
	}
	if len(o.Env) != 2 || o.Env["A"] != "1" || o.Env["EMPTY"] != "" {
		t.Errorf("variables %v, want A and EMPTY", o.Env)
	}
	if _, err := (&specFlags{env: []string{"A=1"}}).options(lookup); err == nil {
		t.Error("NAME=VALUE was taken for a name")
	}
}

func TestSizeValue(t *testing.T) {
	for text, want := range map[string]sizeValue{"512": 512, "512k": 512 << 10, "2MiB": 2 << 20} {
		var v sizeValue
		if err := v.Set(text); err != nil || v != want {
			t.Errorf("%s: %d, %v; want %d", text, v, err, want)
		}
	}
	for _, text := range []string{"", "0", "-1", "much"} {
		var v sizeValue
		if err := v.Set(text); err == nil {
			t.Errorf("%q gave no error", text)
		}
	}
}

func TestNearestFlag(t *testing.T) {
	cmd, _, _ := newRoot(nil).Find([]string{"run"})
	for name, want := range map[string]string{"spec": "specs", "resink": "resync", "prune": "prune-stacks", "colour-of-money": "", "x": ""} {
		if got := nearestFlag(cmd.Flags(), name); got != want {
			t.Errorf("--%s: got %q, want %q", name, got, want)
		}
	}
}

// newApp is an app with its own environment, whose output goes nowhere.
func newApp(env map[string]string) *app {
	return &app{in: &bytes.Buffer{}, out: io.Discard, err: io.Discard, lookup: func(name string) (string, bool) {
		value, ok := env[name]
		return value, ok
	}}
}

func newRoot(env map[string]string) *cobra.Command { return newApp(env).root() }

// commands yields a command and all below it.
func commands(root *cobra.Command) func(func(*cobra.Command) bool) {
	return func(yield func(*cobra.Command) bool) {
		queue := []*cobra.Command{root}
		for len(queue) > 0 {
			cmd := queue[0]
			if !yield(cmd) {
				return
			}
			queue = append(queue[1:], cmd.Commands()...)
		}
	}
}
