package controller

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/skep-io/skep/controller/follow"
	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
)

// Services that follow tags: whoever acts asks registries, beside everything else. What
// they say is an input of passes, and a change of it a reason for one.

// tags is what asks registries. *follow.Poller is one.
type tags interface {
	Want(all map[string]map[string]reconcile.Following)
	Found(stack string) map[string]reconcile.Found
	Run(ctx context.Context, changed func(stacks []string))
	Once(ctx context.Context)
	Look()
}

// onceAsking bounds how long all registries are asked by what makes passes and ends.
const onceAsking = time.Minute

// followed is what the controller knows of what is followed.
type followed struct {
	tags tags
	// wanting is held while it is put together what is wanted, so that the newest is what
	// stays.
	wanting sync.Mutex

	mu        sync.Mutex
	suspended map[string]bool // by hand, as passes found
}

// newTags makes what asks registries as a configuration wants it.
func newTags(c Config, leads func() bool, m *metrics) tags {
	return follow.New(follow.Config{
		Credentials: c.Credentials, Plain: c.InsecureRegistries, Asks: leads,
		Told: func(_ string, r follow.Result) { m.followed.WithLabelValues(string(r)).Inc() },
	})
}

func newFollowedCounter(reg prometheus.Registerer) *prometheus.CounterVec {
	v := register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "skep_follow_checks_total", Help: "Times that a registry was asked about a repository that services follow, by what came of it."}, []string{"result"}))
	for _, r := range follow.Results() {
		v.WithLabelValues(string(r))
	}
	return v
}

// want says what the stacks that are desired follow: those that are suspended nothing.
func (c *controller) want() {
	f := &c.followed
	if f.tags == nil {
		return
	}
	f.wanting.Lock()
	defer f.wanting.Unlock()
	f.mu.Lock()
	suspended := maps.Clone(f.suspended)
	f.mu.Unlock()
	f.tags.Want(wanted(c.desired.Load().stacks, func(name string) bool { return suspended[name] }))
}

// wanted is what stacks follow that are not suspended.
func wanted(stacks map[string]*spec.Stack, suspended func(name string) bool) map[string]map[string]reconcile.Following {
	all := map[string]map[string]reconcile.Following{}
	for name, stack := range stacks {
		if follows := reconcile.FollowsOf(stack); follows != nil && !stack.Policy.Suspend && !suspended(name) {
			all[name] = follows
		}
	}
	return all
}

// noteSuspended takes in whether a pass found its stack suspended by hand.
func (c *controller) noteSuspended(name string, result reconcile.Result) {
	f := &c.followed
	if f.tags == nil || result.Err != nil || result.Reason == "Conflict" {
		return
	}
	f.mu.Lock()
	now := result.State.IsSuspended()
	changed := f.suspended[name] != now
	if f.suspended == nil {
		f.suspended = map[string]bool{}
	}
	if f.suspended[name] = now; !now {
		delete(f.suspended, name)
	}
	f.mu.Unlock()
	if changed {
		c.want()
	}
}

// foundFor is what registries said of what a stack follows; nil where nobody asks.
func (c *controller) foundFor(stack *spec.Stack) map[string]reconcile.Found {
	if c.followed.tags == nil || reconcile.FollowsOf(stack) == nil {
		return nil
	}
	return c.followed.tags.Found(stack.Name)
}

// followTags is the part of the daemon that asks.
func (c *controller) followTags(ctx context.Context) {
	c.followed.tags.Run(ctx, func(stacks []string) {
		c.queue.changed(stacks...)
		poke(c.kept.hint)
	})
}

// AskRegistries asks registries once what the services of stacks follow, for those who make
// plans or passes without a daemon: by stack, and by the services' names. It takes no
// longer than a minute: what was not answered by then keeps what is in force.
func AskRegistries(ctx context.Context, stacks map[string]*spec.Stack, credentials reconcile.Credentials, insecure []string) map[string]map[string]reconcile.Found {
	return askOnce(ctx, follow.New(follow.Config{Credentials: credentials, Plain: insecure}), stacks)
}

func askOnce(ctx context.Context, t tags, stacks map[string]*spec.Stack) map[string]map[string]reconcile.Found {
	all := wanted(stacks, func(string) bool { return false })
	if len(all) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, onceAsking)
	defer cancel()
	t.Want(all)
	t.Once(ctx)
	out := map[string]map[string]reconcile.Found{}
	for name, services := range all {
		out[name] = t.Found(name)
		for service := range services {
			if _, answered := out[name][service]; !answered {
				out[name][service] = reconcile.Found{Problem: fmt.Sprintf("the registry was not asked within %s", onceAsking)}
			}
		}
	}
	return out
}

// follows is what services follow, as the newest passes found and registries said since.
func (c *controller) follows(d *desired, results map[string]reconcile.Result) []PublishedFollow {
	var out []PublishedFollow
	for _, name := range slices.Sorted(maps.Keys(results)) {
		if d.stacks[name] == nil {
			continue
		}
		found := c.foundFor(d.stacks[name])
		for _, f := range results[name].Followed {
			if now, ok := found[f.Name]; ok && now.Image == f.Found.Image && now.Problem == f.Problem {
				f.Asked = now.Asked
			}
			if f.Held, f.Problem = words(f.Held), words(f.Problem); len(out) < maxPublishedFollows {
				out = append(out, PublishedFollow{name, f})
			}
		}
	}
	return out
}

// askedAfter is now, as it follows before: that a registry answered once more is no news
// for a while.
func askedAfter(now, before []PublishedFollow) []PublishedFollow {
	now = slices.Clone(now)
	for i := range now {
		f := &now[i]
		for _, old := range before {
			if old.Stack == f.Stack && old.Name == f.Name && f.Asked.Sub(old.Asked) < reaskEvery && !old.Asked.IsZero() && !f.Asked.IsZero() {
				f.Asked = old.Asked
			}
		}
	}
	return now
}
