//go:build linux

// Package main is the lab by hand: `go run ./e2e/lab up` leaves a Swarm running
// on this machine until `go run ./e2e/lab down`. What a lab is, package swarmlab
// tells; see e2e/README.md for how to look into one.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/client"
	"golang.org/x/term"

	"github.com/skep-io/skep/e2e/lab/swarmlab"
)

const usage = `usage: go run ./e2e/lab VERB

  up   [-managers N] [-images] [-suite NAME]
                                 bring up a Swarm of N managers (1) and leave it running;
                                 -images loads those that deploy/examples and the seed name;
                                 -suite: with the engine of that Debian suite, fetched once
  with [-managers N] [-images] [-unless-swarm] -- COMMAND…
                                 run a command with a Swarm of its own, taken down behind it,
                                 and SKEP_LAB set to its id;
                                 -unless-swarm: with the one that DOCKER_HOST reaches, if any
  env  [-node N] [ID]            print what to eval to have docker speak to node N (1)
  exec [-node N] [-lab ID] -- COMMAND…
                                 run a command inside host N (1)
  list                           what labs there are
  down [ID…]                     remove these labs, or all, running or left behind
  reap                           remove those only that a dead process left behind

Labs are in SKEP_LAB_BASE, or /tmp.
`

func main() {
	if len(os.Args) < 2 {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	verbs := map[string]func(context.Context, []string) error{
		"up": up, "with": with, "env": env, "exec": execute, "list": list, "down": down, "reap": reap,
	}
	verb, ok := verbs[os.Args[1]]
	if !ok {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	err := verb(ctx, os.Args[2:])
	stop()
	if code, ok := err.(exitCode); ok {
		os.Exit(int(code))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		os.Exit(1)
	}
}

// exitCode is how a command ended that was run for somebody; it has said why.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

// run runs cmd on this process's terminal. Without one it is in a process group of
// its own: what is sent to the group of this process it is told once, by this
// process, as programs take a second signal for impatience.
func run(cmd *exec.Cmd) error {
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	// It ends when this process dies; the kernel means the thread that started it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: !hasTerminal(), Pdeathsig: syscall.SIGTERM}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 30 * time.Second
	err := cmd.Run()
	if cmd.ProcessState != nil && cmd.ProcessState.Success() {
		return nil // also where it was told to stop: it did
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() > 0 {
		return exitCode(exit.ExitCode())
	}
	return err
}

func hasTerminal() bool { return term.IsTerminal(int(os.Stdin.Fd())) }

func up(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("up", flag.ExitOnError)
	managers := flags.Int("managers", 1, "how many hosts")
	images := flags.Bool("images", false, "load the images that deploy/examples and the seed name")
	suite := flags.String("suite", "", "the Debian suite whose engine to run (default: this machine's engine)")
	_ = flags.Parse(args) // exits by itself
	l, err := start(ctx, swarmlab.Options{Managers: *managers, Keep: true, Suite: *suite}, *images)
	if err != nil {
		return err
	}
	for _, n := range l.Nodes {
		fmt.Printf("%s\t%s\tunix://%s\n", n.Name, n.Address, n.Socket)
	}
	return nil
}

func start(ctx context.Context, o swarmlab.Options, images bool) (*swarmlab.Lab, error) {
	began := time.Now()
	l, err := swarmlab.Up(ctx, o)
	if err != nil {
		return nil, err
	}
	if images {
		if err := load(ctx, l); err != nil {
			return nil, errors.Join(err, l.Down())
		}
	}
	fmt.Fprintf(os.Stderr, "lab %s is up after %s, in %s\n", l.ID, time.Since(began).Round(time.Millisecond), l.Dir)
	return l, nil
}

func load(ctx context.Context, l *swarmlab.Lab) error {
	examples, err := l.ExampleImages(ctx)
	if err != nil {
		return err
	}
	seed, err := l.SeedImages(ctx)
	if err != nil {
		return err
	}
	return l.LoadImage(ctx, append(examples, seed...)...)
}

func with(ctx context.Context, args []string) (err error) {
	flags := flag.NewFlagSet("with", flag.ExitOnError)
	managers := flags.Int("managers", 1, "how many hosts")
	images := flags.Bool("images", false, "load the images that deploy/examples and the seed name")
	unless := flags.Bool("unless-swarm", false, "use the Swarm that DOCKER_HOST reaches, if any")
	_ = flags.Parse(args)
	if flags.NArg() == 0 {
		return errors.New("with: name a command after --")
	}
	environ := os.Environ()
	if !*unless || !reachesSwarm(ctx) {
		l, err := start(ctx, swarmlab.Options{Managers: *managers}, *images)
		if err != nil {
			return err
		}
		defer func() {
			if e := l.Down(); e != nil {
				err = errors.Join(err, e)
			}
		}()
		environ = append(l.Env(0), "SKEP_LAB="+l.ID)
	}
	if hasTerminal() { // which tells the command of an interrupt by itself
		var stop func()
		ctx, stop = signal.NotifyContext(context.WithoutCancel(ctx), syscall.SIGTERM, syscall.SIGHUP)
		defer stop()
	}
	cmd := exec.CommandContext(ctx, flags.Arg(0), flags.Args()[1:]...)
	cmd.Env = environ
	return run(cmd)
}

// reachesSwarm says whether the environment leads to an engine that is a manager.
func reachesSwarm(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	c, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		return false
	}
	defer c.Close()
	info, err := c.Info(ctx)
	return err == nil && info.Swarm.LocalNodeState == swarm.LocalNodeStateActive && info.Swarm.ControlAvailable
}

func env(_ context.Context, args []string) error {
	flags := flag.NewFlagSet("env", flag.ExitOnError)
	node := flags.Int("node", 1, "which host's engine")
	_ = flags.Parse(args)
	l, err := open(flags.Arg(0), *node)
	if err != nil {
		return err
	}
	fmt.Printf("export DOCKER_HOST=%s\n", l.DockerHost(*node-1))
	return nil
}

func execute(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("exec", flag.ExitOnError)
	node := flags.Int("node", 1, "which host")
	id := flags.String("lab", "", "which lab, where several run")
	_ = flags.Parse(args)
	if flags.NArg() == 0 {
		return errors.New("exec: name a command after --")
	}
	l, err := open(*id, *node)
	if err != nil {
		return err
	}
	return run(l.Shell(ctx, *node-1, flags.Arg(0), flags.Args()[1:]...))
}

// open returns the running lab with that id, or the newest one.
func open(id string, node int) (*swarmlab.Lab, error) {
	labs, err := swarmlab.List()
	if err != nil {
		return nil, err
	}
	for i := len(labs) - 1; i >= 0; i-- {
		if !labs[i].Running || id != "" && labs[i].ID != id {
			continue
		}
		if node < 1 || node > labs[i].Nodes {
			return nil, fmt.Errorf("lab %s has hosts 1 to %d, not %d", labs[i].ID, labs[i].Nodes, node)
		}
		return swarmlab.Open(labs[i].Dir)
	}
	return nil, errors.New("no such lab runs: `go run ./e2e/lab up` brings one up")
}

func list(context.Context, []string) error {
	labs, err := swarmlab.List()
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "ID\tHOSTS\tSTATE\tSUBNET\tCREATED\tDIR")
	for _, l := range labs {
		state := "left behind"
		if l.Running {
			state = "running"
		}
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\n", l.ID, l.Nodes, state, l.Subnet, l.Created.Local().Format(time.DateTime), l.Dir)
	}
	return w.Flush()
}

func down(ctx context.Context, args []string) error { return swarmlab.DownAll(ctx, args...) }

func reap(ctx context.Context, _ []string) error { return swarmlab.Reap(ctx) }
