package reconcile

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"
)

// Where the engine takes the old service and refuses the new one, the stack goes back
// in the end: the service that was is made again.
func TestModeChangeThatIsRefusedGoesBack(t *testing.T) {
	w := newWorld(t, makeStack("shop", service("shop", "web", "app:1")))
	w.settle()
	w.stack = makeStack("shop", global(service("shop", "web", "app:2")))
	w.stack.Policy.Rollout.Deadline = time.Minute
	refusing := true
	w.engine.fault = func(op string, after bool) error {
		if op == "create service" && !after && refusing {
			return errors.New("the engine does not like it")
		}
		return nil
	}
	var last Result
	for range 200 {
		last = w.pass()
		if strings.Contains(w.phases(), "2:Failed") {
			refusing = false
		}
		w.engine.turn()
	}
	if w.phases() != "1:Healthy 2:Failed" || w.images() != "shop_web=app:1" || modeOf(&w.engine.service(t, "shop_web").Spec) != modeReplicated {
		t.Errorf("%s: %s %s: %s, %s", w.phases(), last.Outcome, last.Reason, last.Message, w.images())
	}
}

// One that fails goes back to the old mode, once, and stays there.
func TestModeChangeThatFailsGoesBack(t *testing.T) {
	w := newWorld(t, makeStack("shop", service("shop", "web", "app:1")))
	w.settle()
	w.stack = makeStack("shop", global(service("shop", "web", "bad:2")))
	w.stack.Policy.Rollout.Deadline = 30 * time.Second
	for range 200 { // beyond every deadline
		w.pass()
		w.engine.turn()
	}
	w.engine.takeWrites()
	res := w.settle()
	if w.phases() != "1:Healthy 2:Failed" || w.images() != "shop_web=app:1" || modeOf(&w.engine.service(t, "shop_web").Spec) != modeReplicated {
		t.Errorf("%s: %s %s: %s, %s", w.phases(), res.Outcome, res.Reason, res.Message, w.images())
	}
	if writes := w.engine.takeWrites(); len(writes) > 0 {
		t.Errorf("wrote %q", writes)
	}
}

// A stop between the two halves of a replacement does not leave the service away:
// whoever starts skep again may come much later.
func TestModeChangeIsDoneWholly(t *testing.T) {
	w := newWorld(t, makeStack("shop", service("shop", "web", "app:1")))
	w.settle()
	ctx, stop := context.WithCancel(context.Background())
	w.r = New(Options{Swarm: stopping{w.engine, stop}, Now: w.engine.now})
	w.stack = makeStack("shop", global(service("shop", "web", "app:2")))
	for range 3 {
		w.r.Reconcile(ctx, Input{Name: "shop", Stack: w.stack})
	}
	if ctx.Err() == nil || w.images() != "shop_web=app:2" {
		t.Errorf("stopped: %v, %q", ctx.Err(), w.images())
	}
}

// stopping is an engine that takes nothing from who was stopped, which happens as soon
// as a service is removed.
type stopping struct {
	*fakeEngine
	stop context.CancelFunc
}

func (e stopping) ServiceRemove(ctx context.Context, id string) error {
	defer e.stop()
	return e.fakeEngine.ServiceRemove(ctx, id)
}

func (e stopping) ServiceCreate(ctx context.Context, s swarm.ServiceSpec, o swarm.ServiceCreateOptions) (swarm.ServiceCreateResponse, error) {
	if err := ctx.Err(); err != nil {
		return swarm.ServiceCreateResponse{}, err
	}
	return e.fakeEngine.ServiceCreate(ctx, s, o)
}
