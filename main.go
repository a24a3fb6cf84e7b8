// Command skep keeps a Docker Swarm as a directory of compose files says.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/skep-io/skep/controller/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal asks for a clean stop; a second one, then, is the system's.
	context.AfterFunc(ctx, stop)
	os.Exit(cli.Main(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
