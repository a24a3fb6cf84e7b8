// Package main is the one static program that all images of the end-to-end tests
// are made of. It plays, by the name it is started under:
//
//	web    the seed's web application (web.go)
//	proxy  the nginx in front of it (proxy.go)
//	curl   `curl -f URL`, for healthchecks (curl.go)
//	probe  what asks a URL many times a second and counts (probe.go)
//	job    a migration, which ends (job.go)
//
// It is told what to do, and how to fail, by its environment and arguments. It
// never speaks to an engine.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

func main() {
	args := os.Args
	if filepath.Base(args[0]) == "apps" && len(args) > 1 { // apps probe … is probe …
		args = args[1:]
	}
	programs := map[string]func(ctx context.Context, args []string) error{
		"web": web, "proxy": proxy, "curl": curl, "probe": probe, "job": job,
	}
	name := filepath.Base(args[0])
	run, ok := programs[name]
	if !ok {
		fmt.Fprintf(os.Stderr, "%s: start me as web, proxy, curl, probe or job\n", name)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}
