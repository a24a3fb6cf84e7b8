package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/swarm"

	"github.com/skep-io/skep/e2e/faults"
)

// apiFaults are the six ways for a call to go wrong; slow is as slow as an engine gets.
func apiFaults() []faults.Fault {
	return []faults.Fault{
		faults.Status(http.StatusInternalServerError, "rpc error: code = Unknown desc = it is broken"), faults.NoManager(), faults.Conflict(),
		faults.Delay(20 * time.Second), faults.DropBefore(), faults.CutAfter(),
	}
}

// A strike is a fault at a point.
type strike struct {
	point
	fault faults.Fault
}

// strikes does to each of these victims, which are of one rig, what its strike's point
// is about, has the fault strike there, and waits until all have come through.
func strikes(all []*victim, at []strike) {
	r := all[0].rig
	turns := map[string]int{}
	for i, v := range all {
		rule := faults.Rule{Operation: at[i].operation, Object: v.objects(), Fault: at[i].fault}
		if at[i].byID() { // no name tells whose it is: they take turns
			turns[rule.Operation]++
			rule.Object, rule.Nth = nil, turns[rule.Operation]
		}
		r.proxy.Add(rule)
	}
	each(indices(all), func(i int) {
		all[i].does(at[i].point)
		all[i].survives(2 * time.Minute)
	})
	if got := r.proxy.Struck(); got != len(all) {
		r.t.Errorf("%v: %d faults struck, want %d", at, got, len(all))
	}
	r.proxy.Clear()
}

// kill is a fault that kills the daemon before, or after, a call.
func (r *rig) kill(after bool) faults.Fault {
	dies := func(faults.Request) { r.dies() }
	if after {
		return faults.After(dies)
	}
	return faults.Before(dies)
}

// streamFailures are what an event stream can suffer.
var streamFailures = []struct {
	name string
	do   func(*faults.Proxy)
}{{"cut", (*faults.Proxy).CutStreams}, {"silent", (*faults.Proxy).SilenceStreams}, {"half-open", (*faults.Proxy).HalfOpenStreams}}

// streamFails does the nth of them, and changes a service by hand: that is seen all the
// same, by the next stream or by a resync.
func (v *victim) streamFails(n int) {
	f := streamFailures[n%len(streamFailures)]
	open := until(v.t, time.Minute, "a stream is open", func() error {
		if v.proxy.Streams() == 0 {
			return errors.New("none is")
		}
		return nil
	})
	if !open || !v.idle(2*time.Second) { // what is asked for in any case would see it too
		return
	}
	f.do(v.proxy)
	const byHand = 7 * time.Second
	s, err := v.service()
	if err == nil {
		s.Spec.UpdateConfig.Delay = byHand // which restarts nothing
		_, err = v.lab.Client(v.eye).ServiceUpdate(v.t.Context(), s.ID, s.Version, s.Spec, swarm.ServiceUpdateOptions{})
	}
	if err != nil {
		v.t.Errorf("change %s by hand: %v", v.name, err)
		return
	}
	began := time.Now()
	until(v.t, 40*time.Second, v.name+" is put right", func() error {
		if s, err := v.service(); err != nil || s.Spec.UpdateConfig.Delay == byHand {
			return errors.Join(errors.New("it is not"), err)
		}
		return nil
	})
	v.t.Logf("event stream %s: the drift was put right after %s", f.name, since(began))
	v.survives(time.Minute)
}

func (v *victim) service() (*swarm.Service, error) {
	list, err := v.lab.Client(v.eye).ServiceList(v.t.Context(), swarm.ServiceListOptions{Filters: filters.NewArgs(filters.Arg("name", v.name+"_web"))})
	if err != nil || len(list) != 1 {
		return nil, fmt.Errorf("find service %s_web among %d: %w", v.name, len(list), err)
	}
	return &list[0], nil
}

// TestFaults does to daemons on real Swarms what can be done to them, a few of each kind
// side by side, and looks at what became of all at the end. All of it waits more than it
// works.
func TestFaults(t *testing.T) {
	t.Parallel()
	each([]func(){
		func() { t.Run("calls", callsAndKills) },
		func() { t.Run("managers", managersLost) },
	}, func(f func()) { f() })
}

// callsAndKills is all that happens between a daemon and its engine.
func callsAndKills(t *testing.T) {
	l := breakable(t)
	began := time.Now()
	step := func(what string) { t.Logf("%s after %s", what, time.Since(began).Round(100*time.Millisecond)) }
	called := newRig(t, l, "called", 1, "")
	api := called.victims("api0", "api1", "api2", "api3", "api4", "api5")
	rigs, all := []*rig{called}, api
	var kills []*victim
	for i := range 3 {
		r := newRig(t, l, fmt.Sprintf("killed%d", i), i, "")
		kills, rigs = append(kills, r.victims(fmt.Sprintf("kill%d", i))...), append(rigs, r)
	}
	all = append(all, kills...)
	together(all, 2*time.Minute, (*victim).change)
	each(rigs, (*rig).measure)
	step("all stacks are there")

	// At changes only: the other points are make chaos's, and package reconcile's with
	// an engine that it plays itself.
	each([]func(){
		func() {
			var at []strike
			for i, f := range apiFaults() {
				at = append(at, strike{points[i%4], f})
			}
			strikes(api, at)
			step("each API fault struck")
		},
		func() {
			each(indices(kills), func(i int) {
				v := kills[i]
				strikes([]*victim{v}, []strike{{points[i+1], v.kill(i%2 == 1)}})
				v.streamFails(i)
			})
			step("skep was killed, and its event stream failed, three times")
		},
	}, func(f func()) { f() })

	rest(t, rigs...)
	wellStill(all...)
	step("all is quiet")
}
