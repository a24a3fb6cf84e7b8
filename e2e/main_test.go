// Package e2e runs skep against a real Swarm of three managers: scenarios that
// people would recognise, each as stacks of its own on one shared lab, so that
// they run side by side. It never mocks an engine; package reconcile's tests do
// that for the faults a real one cannot be made to show.
package e2e

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"github.com/skep-io/skep/e2e/lab/swarmlab"
)

// lab is the shared Swarm. What breaks engines brings up one of its own.
var lab *swarmlab.Lab

// scenariosAtOnce is how many scenarios run side by side, unless -parallel says
// otherwise: they wait for the Swarm most of the time, so that go test's own number,
// that of the processors, is too few.
const scenariosAtOnce = 4

func TestMain(m *testing.M) {
	beSkep()
	if err := flag.Set("test.parallel", fmt.Sprint(scenariosAtOnce)); err != nil {
		panic(err)
	}
	flag.Parse()
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if testing.Short() {
		fmt.Println("e2e: -short leaves the scenarios on a real Swarm out")
		return 0
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	l, err := swarmlab.Up(ctx, swarmlab.Options{Managers: 3})
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	lab = l
	// A test binary that is interrupted would leave the lab to the next one.
	ended := make(chan struct{})
	go func() {
		select {
		case <-ctx.Done():
			_ = l.Down()
			os.Exit(130)
		case <-ended:
		}
	}()
	code := 1
	if err := loadImages(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
	} else {
		code = m.Run()
	}
	gate.close()
	if err := overstepped(gate, &leaked); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	close(ended)
	if err := l.Down(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e: the lab left something behind:", err)
		return 1
	}
	return code
}

// loadImages gives every node what the scenarios run. Their own names say how
// they behave.
func loadImages(ctx context.Context) error {
	images := []struct {
		ref string
		env []string
	}{
		{"app:1.0", []string{"APP_VERSION=v1.0"}},
		{"app:2.0", []string{"APP_VERSION=v2.0"}},
		{"app:crash", []string{"APP_VERSION=crash", "APP_CRASH=1"}},
		{"app:sick", []string{"APP_VERSION=sick", "APP_SICK=1"}},
	}
	var all []swarmlab.Image
	for _, i := range images {
		img, err := lab.Web(ctx, i.ref, i.env...)
		if err != nil {
			return err
		}
		all = append(all, img)
	}
	proxy, err := lab.Proxy(ctx, "nginx:latest")
	if err != nil {
		return err
	}
	alpine := proxy
	alpine.Ref = "nginx:alpine"
	return lab.LoadImage(ctx, append(all, proxy, alpine)...)
}
