package reconcile

import (
	"context"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"
)

// slowEngine takes its time to list services.
type slowEngine struct {
	*fakeEngine
	takes time.Duration
	lists int
}

func (e *slowEngine) ServiceList(ctx context.Context, o swarm.ServiceListOptions) ([]swarm.Service, error) {
	e.lists++
	e.advance(e.takes)
	return e.fakeEngine.ServiceList(ctx, o)
}

// Many stacks under way share a listing, also where it is older than they want by
// the time it has arrived; and it does not serve for ever.
func TestListingOfALargeSwarmIsShared(t *testing.T) {
	const maxAge = 900 * time.Millisecond
	for _, c := range []struct {
		name        string
		takes, wait time.Duration
		lists       int
	}{
		{"a fast one is young", 50 * time.Millisecond, 500 * time.Millisecond, 1},
		{"a fast one ages", 50 * time.Millisecond, maxAge, 2},
		{"a slow one is young when it arrives", 2 * time.Second, 0, 1},
		{"a slow one is young for a few times as long", 2 * time.Second, 5 * time.Second, 1},
		{"a slow one ages", 2 * time.Second, 7 * time.Second, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := &slowEngine{fakeEngine: newFakeEngine(), takes: c.takes}
			o := newObserver(e, e.now, e.now)
			get := func(stack string) {
				t.Helper()
				if _, err := o.get(t.Context(), stack, maxAge); err != nil {
					t.Fatal(err)
				}
			}
			get("first")
			e.advance(c.wait)
			get("second")
			get("third")
			if e.lists != c.lists {
				t.Errorf("the Swarm was listed %d times, want %d", e.lists, c.lists)
			}
		})
	}
}

// However long a listing takes, one from before an own write does not do.
func TestListingFromBeforeAnOwnWriteIsNotUsed(t *testing.T) {
	e := &slowEngine{fakeEngine: newFakeEngine(), takes: time.Minute}
	o := newObserver(e, e.now, e.now)
	for want := 1; want <= 3; want++ {
		if _, err := o.get(t.Context(), "shop", time.Second); err != nil {
			t.Fatal(err)
		}
		if e.lists != want {
			t.Fatalf("the Swarm was listed %d times, want %d", e.lists, want)
		}
		o.wrote("shop")
	}
}

// A stack that has just written waits for a listing that others want as well,
// rather than have the whole Swarm listed for itself; a new file does not wait.
func TestStacksThatWroteShareAListing(t *testing.T) {
	w := newWorld(t, makeStack("shop", service("shop", "web", "app:1")))
	in := func() Input { return Input{Name: "shop", Stack: w.stack} }
	w.r.Reconcile(t.Context(), in()) // begins the release
	calls := w.engine.calls
	res := w.r.Reconcile(t.Context(), in())
	if res.Outcome != Waiting || res.Requeue <= 0 || res.Requeue > time.Second || w.engine.calls != calls {
		t.Errorf("%s, again in %s, %d requests", res.Outcome, res.Requeue, w.engine.calls-calls)
	}
	w.engine.advance(res.Requeue)
	if w.r.Reconcile(t.Context(), in()); w.engine.calls == calls {
		t.Error("it does not look when the time has come")
	}
	w.stack = makeStack("shop", service("shop", "web", "app:2"))
	if w.r.Reconcile(t.Context(), in()); w.phases() != "1:Superseded 2:Progressing" {
		t.Errorf("a new file waits: %s", w.phases())
	}
}
