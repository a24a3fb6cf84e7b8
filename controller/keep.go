package controller

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/skep-io/skep/reconcile"
)

const (
	// keepPause is how long what comes in is gathered before it is looked at.
	keepPause = 250 * time.Millisecond
	// intentEvery is how often a confirmation is looked for whose event got lost.
	intentEvery = 30 * time.Second
)

// kept is what a controller keeps in the Swarm for its owner's stacks as a whole: the
// report that it publishes, and what people confirmed.
type kept struct {
	now   func() time.Time
	leads func() bool // nothing is written, or confirmed, while it is false

	told atomic.Pointer[Published] // what was found last, for those who look

	report, intent *note // nil: there is no Swarm to keep anything in

	hint  chan struct{} // something may be different
	asked chan struct{} // somebody may have confirmed something

	mu        sync.Mutex
	confirmed []string            // stacks whose removal a person has confirmed
	waits     *reconcile.Blockade // what waits for that, and was told
	before    *reconcile.Blockade // what waited before, and of which it is not known yet whether it does
	weighed   bool                // what waits was found out since this controller began to act
	lost      reconcile.Losses    // what was removed without that

	// What follows belongs to keep's goroutine.
	read  bool       // the report was read: last is what stands there, nil for nothing
	last  *Published //
	wrote time.Time
	look  bool // for what was confirmed
}

func newKept(c Config, n notes, leads func() bool) *kept {
	k := &kept{now: c.Now, leads: leads, lost: reconcile.Losses{}, hint: make(chan struct{}, 1), asked: make(chan struct{}, 1), look: true}
	if n != nil {
		k.report, k.intent = &note{n, reconcile.KindReport, c.Owner}, &note{n, reconcile.KindPrune, c.Owner}
	}
	return k
}

// sure are the stacks whose removal is confirmed.
func (k *kept) sure() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.confirmed
}

func (k *kept) waiting() *reconcile.Blockade {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.waits
}

// waited is what waits or, as long as that is not known, did before.
func (k *kept) waited() *reconcile.Blockade {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.waits != nil {
		return k.waits
	}
	return k.before
}

// forgetBefore notes that what waited before is found out about.
func (k *kept) forgetBefore() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.before = nil
}

func (k *kept) isWeighed() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.weighed
}

// nowWeighed notes that what waits was found out, and says whether it was not before.
func (k *kept) nowWeighed() (first bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	first, k.weighed = !k.weighed, true
	return first
}

// removes notes that objects of a stack were removed since its file is gone. What a
// person has confirmed weighs with nothing else.
func (k *kept) removes(stack string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !slices.Contains(k.confirmed, stack) {
		k.lost.Add(stack, k.now())
	}
}

// lately are the stacks that were removed unasked a short while ago.
func (k *kept) lately() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.lost.Recent(k.now())
}

// noticed tells of a config that somebody wrote.
func (c *controller) noticed(config string) {
	if config == "" || reconcile.OwnKind(config) == reconcile.KindPrune {
		poke(c.kept.asked)
	}
	c.reconciler.Noticed(config)
}

// keep publishes what is found, and takes in what people confirm, until ctx ends.
func (c *controller) keep(ctx context.Context) {
	every := time.NewTicker(intentEvery)
	defer every.Stop()
	var due <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.kept.hint:
		case <-c.kept.asked:
			c.kept.look = true
		case <-every.C:
			c.kept.look = true
		case <-due:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(keepPause):
		}
		due = nil
		if wait := c.keepOnce(ctx); wait > 0 {
			due = time.After(wait)
		}
	}
}

// keepOnce does what is due, and says when something else will be; 0: when something
// happens.
func (c *controller) keepOnce(ctx context.Context) time.Duration {
	if !c.kept.leads() {
		c.kept.forget()
		return 0
	}
	if c.engine.up() != nil {
		return 0 // its return is a hint
	}
	var wait time.Duration
	err := protect(func() (err error) {
		if err = c.weighPrune(ctx); err == nil {
			wait, err = c.publish(ctx)
		}
		return err
	})
	if ctx.Err() == nil {
		c.report.notKept(err)
	}
	if err != nil {
		c.kept.read, c.kept.look = false, true
		return publishRetry
	}
	return wait
}

// forget drops what another controller may change from now on.
func (k *kept) forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.read, k.last, k.look, k.confirmed, k.waits = false, nil, true, nil, nil
	k.before, k.weighed = nil, false
}

// readReport reads what was published before, by whomever, unless it is known: it is what
// the next report follows, and tells what was removed a short while ago.
func (k *kept) readReport(ctx context.Context) error {
	if k.read || k.report == nil {
		return nil
	}
	stands, err := k.report.read(ctx)
	if err != nil {
		return err
	}
	if k.last = nil; stands != nil {
		if k.last = parsePublished(stands.Spec.Labels[labelReport]); k.last == nil {
			k.last = &Published{} // what nobody can read is written over
		}
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.last.Prune != nil {
			k.before = &k.last.Prune.Blockade
		}
		for stack, at := range k.last.Lost {
			if now := k.now(); at.After(now) { // by another clock
				at = now
			}
			if at.After(k.lost[stack]) {
				k.lost.Add(stack, at)
			}
		}
	}
	k.read = true
	return nil
}

// losses is a copy of what was removed unasked a short while ago.
func (k *kept) losses() map[string]time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.lost.Recent(k.now())) == 0 {
		return nil
	}
	return maps.Clone(k.lost)
}

// publish writes what is found where that is something else, and it is time.
func (c *controller) publish(ctx context.Context) (wait time.Duration, err error) {
	k := c.kept
	d := c.desired.Load()
	if k.report == nil || d.err == nil && !d.loaded {
		return 0, nil
	}
	if err := k.readReport(ctx); err != nil {
		return 0, err
	}
	found := c.found(k.now()).after(k.last)
	k.told.Store(&found) // pages read it from now on
	p := found.fitted()
	differs, wordsOnly := p.news(k.last)
	if !differs {
		return 0, nil
	}
	pause := publishEvery
	if wordsOnly {
		pause = rewordEvery
	}
	if left := pause - k.now().Sub(k.wrote); !k.wrote.IsZero() && left > 0 {
		return left, nil
	}
	stands, err := k.report.read(ctx)
	if err != nil {
		return 0, err
	}
	p.At = k.now().UTC()
	if err := k.report.write(ctx, stands, map[string]string{labelReport: p.text()}); err != nil {
		return 0, err
	}
	k.last, k.wrote = &p, k.now()
	return 0, nil
}

// pruneWaits counts what waits to be removed, by stack; whole stacks under "".
func (c *controller) pruneWaits() map[string]int {
	out := map[string]int{}
	if !c.leads() {
		return out
	}
	if b := c.kept.waiting(); b != nil {
		out[""] = len(b.Names)
	}
	for name, r := range c.book.results() {
		if b := r.State.Blockade(name); r.Reason == reconcile.PruneBlocked && b != nil {
			out[name] = len(b.Names)
		}
	}
	return out
}

// A pruneCollector tells what waits to be removed.
type pruneCollector struct{ waits func() map[string]int }

var descPrune = prometheus.NewDesc("skep_prune_blocked",
	"How many services of a stack or, with no stack, how many stacks are not removed before somebody confirms it (skep prune).", []string{"stack"}, nil)

func (p *pruneCollector) Describe(out chan<- *prometheus.Desc) { out <- descPrune }

func (p *pruneCollector) Collect(out chan<- prometheus.Metric) {
	all := p.waits()
	if _, ok := all[""]; !ok {
		all[""] = 0
	}
	for stack, n := range all {
		out <- prometheus.MustNewConstMetric(descPrune, prometheus.GaugeValue, float64(n), stack)
	}
}

// intersect are the names of a that are in b too.
func intersect(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(name string) bool { return !slices.Contains(b, name) })
}
