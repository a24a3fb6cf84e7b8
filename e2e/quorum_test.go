package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"github.com/skep-io/skep/e2e/faults"
	"github.com/skep-io/skep/e2e/lab/swarmlab"
)

// comeBack is how long Swarm and skep may take to be well again after a manager was lost:
// most of it is Swarm's own.
const comeBack = 3 * time.Minute

// A quorum is a Swarm whose managers are lost, and daemons on either side of the loss:
// near is beside the manager that is cut off, far beside another one, and the two of the
// pair, of one owner over one directory, beside one each.
type quorum struct {
	t         *testing.T
	lab       *swarmlab.Lab
	near, far *rig
	pair      [2]*rig
	// The stacks: of near, of far, of the pair.
	cutOff, apart, shared *victim
}

func newQuorum(t *testing.T) *quorum {
	t.Helper()
	l := breakable(t)
	q := &quorum{t: t, lab: l, near: newRig(t, l, "near", 0, ""), far: newRig(t, l, "far", 1, "")}
	q.pair[0] = newRig(t, l, "pair", 0, "")
	q.pair[1] = newRig(t, l, "pair", 1, q.pair[0].specs)
	q.cutOff, q.apart, q.shared = q.near.victims("cutoff")[0], q.far.victims("apart")[0], q.pair[1].victims("shared")[0]
	together(q.victims(), 2*time.Minute, (*victim).change)
	each(q.rigs(), (*rig).measure)
	return q
}

func (q *quorum) rigs() []*rig       { return []*rig{q.near, q.far, q.pair[0], q.pair[1]} }
func (q *quorum) victims() []*victim { return []*victim{q.cutOff, q.apart, q.shared} }

// looks has all look at the Swarm by the eyes of one node.
func (q *quorum) looks(eye int) {
	for _, r := range q.rigs() {
		r.eye = eye
	}
	for _, v := range q.victims() {
		v.moved = true
	}
}

// leaseLasts is how long a controller may go on to act after its last renewal that went
// through, as docs/high-availability.md has it.
const leaseLasts = 10 * time.Second

// leaderDies kills the engine of the manager that leads while stacks change, and starts
// it again.
func (q *quorum) leaderDies() {
	ctx := q.t.Context()
	leader, err := leaderOf(ctx, q.lab, q.far.eye)
	if err != nil {
		q.t.Error(err)
		return
	}
	q.looks((leader + 1) % len(q.lab.Nodes))
	each(q.victims(), (*victim).change)
	began := time.Now()
	if err := errors.Join(q.lab.KillEngine(ctx, leader), q.lab.StartEngine(ctx, leader)); err != nil {
		q.t.Error(err)
		return
	}
	each(q.victims(), func(v *victim) { v.survives(comeBack) })
	q.t.Logf("the leader's engine was killed: all is well after %s", since(began))
}

func since(t time.Time) time.Duration { return time.Since(t).Round(100 * time.Millisecond) }

// splits cuts a manager off, heals that, and looks at what the daemons on either side
// make of it: the leader, or another one, with the one of the pair that acts or the one
// that stands by.
func (q *quorum) splits(leads, acts bool) {
	ctx := q.t.Context()
	leader, err := leaderOf(ctx, q.lab, q.far.eye)
	if err != nil {
		q.t.Error(err)
		return
	}
	cut := leader
	if !leads {
		cut = (leader + 1) % len(q.lab.Nodes)
	}
	other := (cut + 1) % len(q.lab.Nodes)
	in, out := q.acting()
	if in == nil {
		return
	}
	if !acts {
		in, out = out, in
	}
	q.looks(other)
	for r, node := range map[*rig]int{q.near: cut, in: cut, q.far: other, out: other} {
		r.beside(node)
	}
	each(q.rigs(), func(r *rig) { r.settles(); r.proxy.Forget() })

	q.cutOff.change()
	until(q.t, 10*time.Second, "a change is under way", func() error {
		if !slices.ContainsFunc(q.near.proxy.Writes(), func(w faults.Request) bool { return !own(w) }) {
			return errors.New("nothing is written yet")
		}
		return nil
	})
	if err := q.lab.Partition(ctx, cut); err != nil {
		q.t.Error(err)
		return
	}
	began := time.Now()
	q.t.Logf("%s is cut off, which leads: %v; it has the controller that acts: %v", q.lab.Nodes[cut].Name, leads, acts)
	q.apart.change()
	q.shared.change()
	seen, unseen := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() { q.watches(seen, other, began) })
	defer watching.Wait()
	defer unseen()
	each([]func(){
		func() { each([]*rig{q.near, in}, (*rig).isCutOff) },
		func() { q.apart.isWritten(); q.t.Logf("with the quorum: written after %s", since(began)) },
		func() {
			q.shared.isWritten()
			if _, says := out.get("/readyz"); says != "acts" {
				q.t.Errorf("of two controllers, the one with the quorum says %q", says)
			}
			q.t.Logf("with the quorum, of two controllers: written after %s", since(began))
		},
	}, func(f func()) { f() })
	for _, r := range []*rig{q.near, in} {
		for _, w := range r.proxy.Writes() {
			// 0: it had no answer. While its lease lasts it may try; that goes nowhere
			// without a quorum.
			tried := w.Status == 0 && (own(w) || w.At.Sub(began) < leaseLasts)
			if w.At.After(began) && !tried {
				q.t.Errorf("%s, cut off: after %s it wrote %+v", r.owner, w.At.Sub(began), w)
			}
		}
	}

	if err := q.lab.Heal(ctx, cut); err != nil {
		q.t.Error(err)
		return
	}
	healed := time.Now()
	if err := q.lab.Ready(ctx); err != nil {
		q.t.Error(err)
	}
	each(q.victims(), func(v *victim) { v.survives(comeBack) })
	each(q.rigs(), func(r *rig) { r.settles() })
	if _, says := in.get("/readyz"); !strings.HasPrefix(says, "stands by behind") {
		q.t.Errorf("of two controllers, the one that was cut off says %q", says)
	}
	q.t.Logf("healed: well after %s", since(healed))
}

// isWritten waits until the Swarm was told of the file's newest version. That its tasks
// run is not to be had before it is whole again: where the leader was cut off, the other
// nodes may go on waiting for it, and take no tasks.
func (v *victim) isWritten() {
	until(v.t, 90*time.Second, v.name+" is written", func() error {
		s, err := v.service()
		if err != nil {
			return err
		}
		if age := generation(swarm.Task{Spec: s.Spec.TaskTemplate}); age != v.age {
			return fmt.Errorf("it is at version %d, want %d", age, v.age)
		}
		return nil
	})
}

// watches tells what becomes of the Swarm's nodes, as one of them sees it.
func (q *quorum) watches(ctx context.Context, eye int, began time.Time) {
	last := ""
	for ; ctx.Err() == nil; wait(ctx, time.Second) {
		nodes, err := q.lab.Client(eye).NodeList(ctx, swarm.NodeListOptions{})
		now := fmt.Sprint(err)
		if err == nil {
			var words []string
			for _, n := range nodes {
				word := n.Description.Hostname + " " + string(n.Status.State)
				if m := n.ManagerStatus; m != nil && m.Leader {
					word += ", leads"
				} else if m != nil {
					word += ", " + string(m.Reachability)
				}
				words = append(words, word)
			}
			slices.Sort(words)
			now = strings.Join(words, "; ")
		}
		if now != last && ctx.Err() == nil {
			q.t.Logf("%s sees after %s: %s", q.lab.Nodes[eye].Name, since(began), now)
			last = now
		}
	}
}

// acting are the one of the pair that acts, and the other.
func (q *quorum) acting() (acts, standsBy *rig) {
	until(q.t, time.Minute, "one of two controllers acts", func() error {
		var says []string
		for _, r := range q.pair {
			_, text := r.get("/readyz")
			says = append(says, text)
		}
		i := slices.Index(says, "acts")
		if i < 0 || !strings.HasPrefix(says[1-i], "stands by behind") {
			return fmt.Errorf("they say %q", says)
		}
		acts, standsBy = q.pair[i], q.pair[1-i]
		return nil
	})
	return acts, standsBy
}

// settles waits until the daemon is ready.
func (r *rig) settles() {
	until(r.t, time.Minute, r.owner+" is ready", func() error {
		if code, says := r.get("/readyz"); code != http.StatusOK {
			return errors.New(says)
		}
		return nil
	})
}

// isCutOff waits until the daemon says that it has no quorum, or no engine that knows of
// one; that is no reason to restart it.
func (r *rig) isCutOff() {
	began := time.Now()
	var says, last string
	until(r.t, time.Minute, r.owner+" tells that it is cut off", func() error {
		code := 0
		if code, says = r.get("/readyz"); says != last {
			r.t.Logf("%s, cut off, says after %s: %s", r.owner, since(began), says)
			last = says
		}
		if code != http.StatusServiceUnavailable {
			return fmt.Errorf("it says %q", says)
		}
		if r.metric("skep_leader") != 0 {
			return errors.New("it says that it leads")
		}
		return nil
	})
	if code, text := r.get("/healthz"); code != http.StatusOK {
		r.t.Errorf("%s, cut off, is not healthy: %s", r.owner, text)
	}
}

// managersLost has the Swarm of several daemons lose its leader, and then a manager, with
// daemons on either side.
func managersLost(t *testing.T) {
	q := newQuorum(t)
	q.leaderDies()
	q.splits(true, true)
	rest(t, q.rigs()...)
	wellStill(q.victims()...)
}
