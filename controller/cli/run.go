package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/docker/docker/client"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/skep-io/skep/controller"
)

// earlyLimit is how long a daemon that starts waits for its engine before it says that
// it is there: one that is slow, or hangs, must not have it taken for dead.
const earlyLimit = 3 * time.Second

// firstCheck finds an engine that will never do, and with once one that will not now.
func firstCheck(ctx context.Context, swarm *client.Client, once bool) error {
	if once {
		return controller.CheckEngine(ctx, swarm)
	}
	ctx, cancel := context.WithTimeout(ctx, earlyLimit)
	defer cancel()
	if err := controller.CheckEngine(ctx, swarm); errors.Is(err, controller.ErrTooOld) {
		return err
	}
	return nil
}

func (a *app) run() *cobra.Command {
	var (
		engine    engineFlags
		specs     specFlags
		acting    actingFlags
		from      sourceFlags
		notify    notifyFlags
		git       forgeFlags
		config    controller.Config
		logLevel  string
		logFormat string
	)
	cmd := &cobra.Command{
		Use:     "run (--specs DIR | --git URL)",
		Short:   "Keep the Swarm as the directory says, until it is stopped",
		GroupID: groupEngine,
		Long: `Keep the Swarm as the stacks in a directory say, until it is stopped: deploy what
is new, roll out what changed, correct what drifts, tell what cannot be done.

An engine that is away, or files that cannot be read, do not end it: it waits for
them, for the file of --policy too. Those of --http-token-file, --http-tls-cert,
--http-tls-key, --git-webhook-secret-file and --commit-status-token-file have to be
there when it starts, else it ends with exit code 2. With --once it ends when every
stack is settled, or with 2 where --policy cannot be read.

Several directories are read as one: --specs with a name for each, or --sources with a
file that names them. One that cannot be read stops no other.

With --git a repository is fetched, and the stacks of its branch are kept; what fails
leaves the last commit in force.

Several may run on one Swarm. Of those of one --owner one acts, which holds a lease,
and the others stand by; each owner's stacks are its own. With --once, exit code 2
says that another one acts.`,
		Example: `  skep run --specs stacks/
  skep run --specs stacks/ --listen :9470 --env REGISTRY --resync 30s
  skep run --specs infra=/srv/infra --specs shops=/srv/shops
  skep run --git https://git.example/platform/stacks.git --git-path stacks --git-token-file token
  SKEP_SPECS=stacks SKEP_LOG_FORMAT=json skep run`,
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if from.none() {
				return errNoSpecs
			}
			if config.Resync <= 0 {
				return usagef("--resync %s: must be more than nothing", config.Resync)
			}
			if err := acting.guard.check(); err != nil {
				return err
			}
			if err := notify.apply(&config); err != nil {
				return err
			}
			if err := git.apply(&config); err != nil {
				return err
			}
			o, err := specs.options(a.lookup)
			if err != nil {
				return err
			}
			if a.openGit == nil {
				a.openGit = from.git.open
			}
			defer from.git.close()
			if config.Sources, err = a.sources(&from); err != nil {
				return err
			}
			if config.Logger, err = controller.NewLogger(a.err, logLevel, logFormat); err != nil {
				return usageError{err}
			}
			defer func() { _ = config.Logger.Sync() }()
			config.Registry = prometheus.NewRegistry()
			swarm, err := engine.client(func(rt http.RoundTripper) http.RoundTripper {
				return controller.Instrument(rt, config.Registry)
			})
			if err != nil {
				return err
			}
			defer swarm.Close()
			if err := firstCheck(cmd.Context(), swarm, config.Once); err != nil {
				return err
			}
			config.Env, config.Profiles, config.MaxFileSize = o.Env, o.Profiles, o.MaxFileSize
			config.Keys = o.Keys
			config.Client, config.Credentials = swarm, acting.credentials()
			config.Check = func(ctx context.Context) error { return controller.CheckEngine(ctx, swarm) }
			config.Explain = func(err error) error { return controller.ExplainEngine(swarm.DaemonHost(), err) }
			config.Owner, config.PruneStacks, config.History = acting.owner, acting.pruneStacks, acting.history
			config.InsecureRegistries = acting.insecure
			config.PolicyFile, config.AllowHostRoot = acting.guard.policy, acting.guard.allowHostRoot
			config.Version = buildVersion().Version
			err = controller.Run(cmd.Context(), config)
			if errors.Is(err, controller.ErrNotReady) {
				fmt.Fprintln(a.err, "skep:", err)
				return no
			}
			return err
		},
	}
	engine.install(cmd)
	specs.install(cmd)
	acting.install(cmd)
	notify.install(cmd)
	git.install(cmd)
	from.install(cmd)
	from.git.install(cmd)
	f := cmd.Flags()
	f.StringVar(&config.Listen, "listen", defaultListen, "Address of the page, /metrics, /healthz and /readyz")
	f.StringVar(&config.TokenFile, "http-token-file", "", "File with the token that all needs but /metrics, /healthz and /readyz")
	f.StringVar(&config.TLSCert, "http-tls-cert", "", "Certificate to serve over TLS with, in PEM")
	f.StringVar(&config.TLSKey, "http-tls-key", "", "Key of the certificate, in PEM")
	f.DurationVar(&config.Resync, "resync", time.Minute, "How often everything is looked at, whatever events say")
	f.BoolVar(&config.Once, "once", false, "End when every stack is settled")
	f.StringVar(&config.ID, "id", "", "Name that the lease gives this controller (default: the host's); what tells two of one name apart is added")
	f.StringVar(&logLevel, "log-level", "info", "What to log: debug, info, warn, error")
	f.StringVar(&logFormat, "log-format", "auto", "How to log: auto, console, json")
	return cmd
}
