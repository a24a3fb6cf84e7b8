package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"

	"github.com/docker/docker/client"
	"github.com/docker/go-units"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/skep-io/skep/controller"
	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
	"github.com/skep-io/skep/spec/sops"
)

// envName is the variable that stands for a flag.
func envName(flag string) string {
	return "SKEP_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// fromEnvironment gives every flag that the command line left out the value of
// its variable, if that is set and not empty.
func (a *app) fromEnvironment(cmd *cobra.Command) error {
	var failed error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Changed || f.Name == "help" || failed != nil {
			return
		}
		value, ok := a.lookup(envName(f.Name))
		if !ok || value == "" {
			return
		}
		if err := cmd.Flags().Set(f.Name, value); err != nil {
			failed = usagef("%s=%q: %s", envName(f.Name), value, innermost(err))
		}
		if a.byVariable == nil {
			a.byVariable = map[string]bool{}
		}
		a.byVariable[f.Name] = true
	})
	if failed != nil {
		return failed
	}
	return a.presetSpecs(cmd.Flags())
}

// presetSpecsVariable names the directory that stacks are in where nothing else says so. It is
// for images, which have one: SKEP_SPECS would stand beside a repository.
const presetSpecsVariable = "SKEP_DEFAULT_SPECS"

func (a *app) presetSpecs(flags *pflag.FlagSet) error {
	dir, _ := a.lookup(presetSpecsVariable)
	if dir == "" || flags.Lookup("specs") == nil {
		return nil
	}
	for _, name := range []string{"specs", "sources", "git"} {
		if flags.Changed(name) {
			return nil
		}
	}
	if err := flags.Set("specs", dir); err != nil {
		return usagef("%s=%q: %s", presetSpecsVariable, dir, innermost(err))
	}
	if a.byVariable == nil {
		a.byVariable = map[string]bool{}
	}
	a.byVariable["specs"] = true
	return nil
}

// innermost leaves out pflag's own words, which name a flag that nobody gave.
func innermost(err error) string {
	if invalid, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		return invalid.Unwrap().Error()
	}
	return err.Error()
}

// flagError tells an unknown flag with the one that looks most like it.
func flagError(cmd *cobra.Command, err error) error {
	unknown, ok := errors.AsType[*pflag.NotExistError](err)
	if !ok {
		return usageError{err}
	}
	name := unknown.GetSpecifiedName()
	if near := nearestFlag(cmd.Flags(), name); near != "" {
		return usagef("%w (did you mean --%s?)", err, near)
	}
	return usageError{err}
}

// nearestFlag is the flag that was probably meant.
func nearestFlag(flags *pflag.FlagSet, name string) string {
	var names []string
	flags.VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	})
	return nearest(name, names)
}

// editDistance is Levenshtein's.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// engineFlags are Docker's own, by which every verb that needs an engine finds it.
type engineFlags struct {
	controller.EngineOptions
	cmd   *cobra.Command
	found string // the host that was found
}

func (e *engineFlags) install(cmd *cobra.Command) {
	e.cmd = cmd
	f := cmd.Flags()
	f.StringVarP(&e.Host, "host", "H", "", "Engine to speak to (default: DOCKER_HOST, else the current docker context)")
	f.StringVarP(&e.Context, "context", "c", "", "Docker context that names the engine")
	f.BoolVar(&e.TLS, "tls", false, "Use TLS; implied by --tlsverify")
	f.BoolVar(&e.TLSVerify, "tlsverify", false, "Use TLS and verify the engine")
	f.StringVar(&e.CACert, "tlscacert", "", "Trust certificates signed by this CA only")
	f.StringVar(&e.Cert, "tlscert", "", "TLS certificate file")
	f.StringVar(&e.Key, "tlskey", "", "TLS key file")
}

// connect makes a client and makes sure that the engine behind it will do.
func (e *engineFlags) connect() (*client.Client, error) {
	c, err := e.client(nil)
	if err != nil {
		return nil, err
	}
	if err := controller.CheckEngine(e.cmd.Context(), c); err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// client makes a client without speaking to the engine.
func (e *engineFlags) client(wrap func(http.RoundTripper) http.RoundTripper) (*client.Client, error) {
	o := e.EngineOptions
	// As with the docker command, --tlsverify=false still asks for TLS.
	o.TLS = o.TLS || e.cmd.Flags().Changed("tlsverify")
	o.Wrap = wrap
	o.UserAgent = fmt.Sprintf("skep/%s", buildVersion().Version)
	c, err := controller.Connect(o)
	if err != nil {
		return nil, err
	}
	e.found = c.DaemonHost()
	return c, nil
}

// explain turns an error of the engine into one that says what to do.
func (e *engineFlags) explain(err error) error {
	return controller.ExplainEngine(e.found, err)
}

// specFlags say how stacks are read.
type specFlags struct {
	env      []string
	profiles []string
	maxSize  sizeValue
	ageKeys  string // the file
	sops     string // when the program is executed
}

func (s *specFlags) install(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringSliceVar(&s.env, "env", nil, "Environment variable that stacks may use, by name; repeatable. No other is passed on")
	f.StringSliceVar(&s.profiles, "profile", nil, "Profile to enable; repeatable")
	s.maxSize = 1 << 20
	f.Var(&s.maxSize, "max-file-size", "Largest compose file that is read")
	f.StringVar(&s.ageKeys, "age-key-file", "", "File of the age keys that open encrypted files, as age-keygen writes it")
	f.StringVar(&s.sops, "sops", string(sops.Auto), "Have the program sops open encrypted files: auto (those that no age key here opens), never, always")
	_ = cmd.MarkFlagFilename("age-key-file")
}

// options reads the values of the variables that were allowed.
func (s *specFlags) options(lookup func(string) (string, bool)) (spec.Options, error) {
	o := spec.Options{Env: map[string]string{}, Profiles: s.profiles, MaxFileSize: int64(s.maxSize)}
	for _, name := range s.env {
		if name == "" || strings.ContainsAny(name, "= ") {
			return o, usagef("--env %q is not the name of a variable (its value comes from skep's own environment)", name)
		}
		if value, ok := lookup(name); ok {
			o.Env[name] = value
		}
	}
	keys, err := s.keys()
	o.Keys = keys
	return o, err
}

// keys are what encrypted files are opened with.
func (s *specFlags) keys() (*sops.Keys, error) {
	mode := cmp.Or(sops.Mode(s.sops), sops.Auto)
	if mode != sops.Auto && mode != sops.Never && mode != sops.Always {
		return nil, usagef("--sops %q is none of auto, never and always", s.sops)
	}
	var program *sops.Program
	if path, err := exec.LookPath("sops"); err == nil && mode != sops.Never {
		program = sops.NewProgram(path, os.Environ())
	}
	keys, err := sops.NewKeys(s.ageKeys, mode, program)
	if err != nil {
		return nil, usagef("--sops %s: %w", s.sops, err)
	}
	return keys, nil
}

// lookOnly has encrypted files left closed where no key is given: that is a warning to
// who looks at files alone.
func (s *specFlags) lookOnly(o spec.Options) spec.Options {
	o.Lenient = s.ageKeys == "" && s.sops != string(sops.Always)
	return o
}

// sizeValue is a number of bytes that people write as 512k or 2MiB.
type sizeValue int64

func (v *sizeValue) Set(s string) error {
	n, err := units.RAMInBytes(s)
	if err != nil {
		return err
	}
	if n <= 0 {
		return errors.New("must be more than nothing")
	}
	*v = sizeValue(n)
	return nil
}

func (v *sizeValue) String() string { return units.BytesSize(float64(*v)) }
func (v *sizeValue) Type() string   { return "bytes" }

// errNoSpecs is a verb without its directory.
var errNoSpecs = usagef("which stacks? (give --specs DIR, or set SKEP_SPECS)")

func installSpecs(cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVar(dir, "specs", "", "Directory of the stacks, or NAME=DIR")
	_ = cmd.MarkFlagDirname("specs")
}

func installGitRef(cmd *cobra.Command, ref *string) {
	cmd.Flags().StringVar(ref, "git-ref", "", "Branch, tag or commit to read the directory at, instead of the work tree")
	_ = cmd.RegisterFlagCompletionFunc("git-ref", cobra.NoFileCompletions)
}

func installOwner(cmd *cobra.Command, owner *string) {
	*owner = "skep"
	cmd.Flags().Var((*ownerValue)(owner), "owner", "Name of the controller; several may share a Swarm under names of their own")
}

// ownerValue is the name of an owner, which becomes a part of objects' names.
type ownerValue string

func (v *ownerValue) Set(s string) error {
	if err := reconcile.CheckOwner(s); err != nil {
		return err
	}
	*v = ownerValue(s)
	return nil
}

func (v *ownerValue) String() string { return string(*v) }
func (v *ownerValue) Type() string   { return "string" }

// actingFlags are those of the verbs that write to the Swarm, or tell what they
// would write.
type actingFlags struct {
	owner          string
	pruneStacks    bool
	history        int
	registryConfig string
	insecure       []string
	guard          guardFlags
}

func (x *actingFlags) install(cmd *cobra.Command) {
	installOwner(cmd, &x.owner)
	x.guard.install(cmd)
	f := cmd.Flags()
	f.BoolVar(&x.pruneStacks, "prune-stacks", false, "Remove stacks whose file is gone")
	f.IntVar(&x.history, "history", 10, "Releases to remember of a stack")
	f.StringVar(&x.registryConfig, "registry-config", "", "Docker config file, or its directory, with the credentials of registries (default: DOCKER_CONFIG, else ~/.docker)")
	f.StringSliceVar(&x.insecure, "insecure-registry", nil, "Registry that is asked without TLS for what services follow, as images name it; repeatable")
}

// askRegistries asks what the services of stacks follow.
func (x *actingFlags) askRegistries(ctx context.Context, stacks map[string]*spec.Stack) map[string]map[string]reconcile.Found {
	return controller.AskRegistries(ctx, stacks, x.credentials(), x.insecure)
}

func (x *actingFlags) credentials() reconcile.Credentials {
	return controller.NewRegistryCredentials(x.registryConfig)
}

// reconciler makes one for swarm, which lets stacks have what guard allows, with the IDs
// of removals that are confirmed.
func (x *actingFlags) reconciler(swarm reconcile.Swarm, guard reconcile.Guard, confirmed ...string) *reconcile.Reconciler {
	return reconcile.New(reconcile.Options{
		Swarm: swarm, Credentials: x.credentials(), Owner: x.owner, History: x.history, PruneStacks: x.pruneStacks, Confirmed: confirmed,
		Policy: func() *spec.ClusterPolicy { return guard.Policy }, AllowHostRoot: guard.AllowHostRoot,
	})
}

// guardFlags say what stacks may ask for.
type guardFlags struct {
	policy        string
	allowHostRoot bool
}

func (g *guardFlags) install(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&g.policy, "policy", "", "File that says what stacks may ask for")
	f.BoolVar(&g.allowHostRoot, "allow-host-root", false, "Let every stack mount the engine's socket and the node's root; with --policy that file says who may")
	_ = cmd.MarkFlagFilename("policy", "yml", "yaml")
}

// check refuses flags that say two things.
func (g *guardFlags) check() error {
	if g.policy != "" && g.allowHostRoot {
		return usagef("--allow-host-root and --policy exclude each other (name the paths in the policy, in allow.binds of a rule for the stacks that need them)")
	}
	return nil
}

// load reads the policy.
func (g *guardFlags) load() (reconcile.Guard, error) {
	guard := reconcile.Guard{AllowHostRoot: g.allowHostRoot}
	if err := g.check(); err != nil || g.policy == "" {
		return guard, err
	}
	var err error
	guard.Policy, err = spec.LoadClusterPolicy(g.policy)
	return guard, err
}
