//go:build linux

// Command bench measures how fast skep is on a real engine, and says which of its
// targets hold. Machines differ, and other work on them comes and goes, so what is
// judged are ratios between things measured in turns within one run: the engine by
// itself is the floor, a loop of `docker stack deploy`, a stack at a time, is what
// people use otherwise.
//
// It works on a Swarm of its own (package swarmlab), on services without tasks, so
// that nothing but control planes is measured. It never judges by its exit code: a
// missed target is a line in the table, and an exit code other than 0 says that
// there was nothing to measure.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/skep-io/skep/e2e/lab/swarmlab"
)

// config says what is measured.
type config struct {
	stacks   int           // of that many services each
	services int           // a stack
	larger   int           // stacks of a second size, to see how figures grow; 0: none
	managers int           // of the lab
	rounds   int           // turns of first deployments
	loop     int           // stacks that the docker loop deploys; the rest is extrapolated
	passes   int           // turns of steady passes a round
	changes  int           // files that are changed, one after another
	idle     time.Duration // how long the daemon is watched while nothing happens
	steady   time.Duration // how long requests are counted; 0: not at all
	quiet    int           // stacks while requests are counted
	skep     string        // the binary
	profiles string        // directory for CPU and heap profiles; empty: none
}

func main() {
	os.Exit(run())
}

func run() int {
	c := flags()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := measure(ctx, c); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	return 0
}

func flags() config {
	var c config
	var full bool
	flag.BoolVar(&full, "full", false, "the sizes that the targets are about: 100 and 1,000 stacks, 10 quiet minutes (takes most of an hour)")
	flag.IntVar(&c.stacks, "stacks", 30, "stacks")
	flag.IntVar(&c.services, "services", 10, "services a stack")
	flag.IntVar(&c.larger, "larger", 0, "stacks of a second, larger size, to see how figures grow (0: none)")
	flag.IntVar(&c.managers, "managers", 1, "managers of the Swarm")
	flag.IntVar(&c.rounds, "rounds", 2, "turns of first deployments")
	flag.IntVar(&c.loop, "loop", 30, "stacks that the loop of docker stack deploy goes over; its time is extrapolated to all")
	flag.IntVar(&c.passes, "passes", 10, "turns of steady passes in a round")
	flag.IntVar(&c.changes, "changes", 20, "files to change, one after another")
	flag.DurationVar(&c.idle, "idle", time.Minute, "how long the idle daemon's CPU is watched")
	flag.DurationVar(&c.steady, "steady", 2*time.Minute, "how long requests are counted while nothing changes (0: not at all)")
	flag.IntVar(&c.quiet, "quiet", 50, "stacks while requests are counted")
	flag.StringVar(&c.skep, "skep", "", "the binary to measure (default: built from this module)")
	flag.StringVar(&c.profiles, "profiles", "", "write CPU and heap profiles into this directory")
	flag.Parse()
	if full {
		given := map[string]bool{}
		flag.Visit(func(f *flag.Flag) { given[f.Name] = true })
		for name, value := range map[string]string{"stacks": "100", "larger": "1000", "rounds": "3", "loop": "100", "steady": "10m"} {
			if !given[name] {
				_ = flag.Set(name, value) // constants, of the right kind
			}
		}
	}
	return c
}

// measure does all of it on a lab of its own.
func measure(ctx context.Context, c config) (err error) {
	dir, err := os.MkdirTemp("", "skep-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if c.profiles != "" {
		if err := os.MkdirAll(c.profiles, 0o755); err != nil {
			return err
		}
	}
	if c.skep == "" {
		c.skep = filepath.Join(dir, "skep")
		if err := build(ctx, c.skep); err != nil {
			return err
		}
	}
	lab, err := swarmlab.Up(ctx, swarmlab.Options{Managers: c.managers})
	if err != nil {
		return err
	}
	defer func() {
		if downErr := lab.Down(); err == nil {
			err = downErr
		}
	}()
	b := &bench{config: c, lab: lab, engine: engine{lab.Client(0)}, dir: dir, log: os.Stderr}
	return b.all(ctx, os.Stdout)
}

// build makes the binary as `make build` does.
func build(ctx context.Context, file string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", file, "github.com/skep-io/skep")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build skep: %w\n%s", err, out)
	}
	return nil
}
