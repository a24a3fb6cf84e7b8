package reconcile

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"
	"pgregory.net/rapid"

	"github.com/skep-io/skep/spec"
)

// Whatever happens in whatever order (good and bad revisions, hands that meddle,
// restarts, time), once the world stops changing passes come to an end; what
// failed is never written again; and what is settled is not written to.
func TestPassesHoldInAnyOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t, makeStack("shop", service("shop", "web", "app:0"), service("shop", "db", "db:0", "web")))
		failed := failures{}
		w.settle()
		for range rapid.IntRange(1, 6).Draw(rt, "steps") {
			switch rapid.SampledFrom([]string{"good", "bad", "scale", "remove", "restart", "midway"}).Draw(rt, "step") {
			case "good":
				w.stack = revision(rt, "")
			case "bad":
				w.stack = revision(rt, "-bad")
			case "scale":
				meddle(w, func(s *swarm.Service) { n := uint64(7); s.Spec.Mode.Replicated.Replicas = &n })
			case "remove":
				w.engine.mu.Lock()
				for id := range w.engine.services {
					delete(w.engine.services, id)
					break
				}
				w.engine.mu.Unlock()
			case "restart":
				w.restart()
			case "midway":
				w.pass()
				continue
			}
			if _, err := w.r.Refresh(context.Background()); err != nil {
				rt.Fatal(err)
			}
			w.engine.takeWrites()
			w.settle()
			failed.check(rt, w)
		}
		w.engine.takeWrites()
		w.restart()
		w.settle()
		w.engine.advance(time.Hour)
		w.settle()
		if got := w.engine.takeWrites(); len(got) > 0 {
			rt.Fatalf("writes though nothing changed: %v", got)
		}
	})
}

func revision(rt *rapid.T, suffix string) *spec.Stack {
	n := rapid.IntRange(1, 3).Draw(rt, "revision")
	return makeStack("shop", service("shop", "web", fmt.Sprintf("app:%d%s", n, suffix)), service("shop", "db", "db:0", "web"))
}

func meddle(w *world, f func(*swarm.Service)) {
	w.engine.mu.Lock()
	defer w.engine.mu.Unlock()
	for _, s := range w.engine.services {
		f(s)
		s.Meta = w.engine.meta(s.Meta)
		return
	}
}

// failures are the bad images that failed in a release so far, each with how often
// it was written into a service by then.
type failures map[string]int

// check says that what had failed was not written again, notes what has failed
// since, and sees that no bad version is left running where there is a good one.
func (f failures) check(rt *rapid.T, w *world) {
	for image, n := range f {
		if w.engine.written[image] > n {
			rt.Fatalf("%s failed, and was written again", image)
		}
	}
	w.r.Noticed("")
	releases, err := w.r.memory.releases(context.Background(), "shop")
	if err != nil {
		rt.Fatal(err)
	}
	if n := len(releases); n > 0 && releases[n-1].Phase == PhaseFailed {
		image := writtenImage(&w.stack.Services[0])
		f[image] = w.engine.written[image]
	}
	if strings.Contains(w.images(), "bad") && newest(releases, PhaseHealthy) != nil {
		rt.Fatalf("a bad version is left running: %s", w.images())
	}
}
