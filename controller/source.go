package controller

import (
	"context"
	"errors"
	"maps"
	"os"
	"runtime/debug"
	"slices"
	"time"

	"github.com/skep-io/skep/spec"
)

// VanishAfter is how far apart two complete scans have to be that both miss a stack
// before its file counts as gone: editors, git and whoever copies a directory replace
// files in steps.
const VanishAfter = 30 * time.Second

// desired is what the files say, as far as they could be read. It is never
// changed after it was made; fold makes the next one.
type desired struct {
	// stacks are in force: the newest version of each that could be loaded, while
	// its file is there or not yet known to be gone.
	stacks map[string]*spec.Stack
	// problems are the newest scan's.
	problems map[string][]spec.Finding
	// missing says since when complete scans have missed a stack; gone holds those
	// that were missed for long enough.
	missing map[string]time.Time
	gone    map[string]bool
	// counted is how many stacks lived when the first of those without a file was missed;
	// 0: none is. What the directory brings along meanwhile does not make less of what it
	// lacks.
	counted int
	listed  bool // the newest complete scan was held against what lives

	findings []spec.Finding // about the directory itself, not about a stack
	revision string
	commit   *spec.Commit
	err      error     // why the newest scan was not complete
	since    time.Time // when that began
	scanned  time.Time // when the newest complete scan was taken in
	loaded   bool      // there was a complete scan

	patience time.Duration // VanishAfter, where it is 0
}

func (d desired) vanishAfter() time.Duration {
	if d.patience > 0 {
		return d.patience
	}
	return VanishAfter
}

// going names the stacks that the newest complete scan missed, be it for the first
// time: what goes together is weighed together, also where a directory empties slowly.
func (d desired) going() []string {
	names := slices.Collect(maps.Keys(d.gone))
	names = slices.AppendSeq(names, maps.Keys(d.missing))
	slices.Sort(names)
	return names
}

// fold takes in a scan at a moment, given the stacks that live in the Swarm. It
// returns what is desired now and, sorted, the stacks that it is new for.
//
//	the scan          the stack in it     what is in force
//	not complete      whatever            what was
//	complete          loaded              the scan's version
//	complete          has a problem       what was; nothing, if it never loaded
//	complete          missed              what was, for VanishAfter; then gone
func (d desired) fold(scan *spec.Snapshot, live []string, now time.Time) (desired, []string) {
	if !scan.Complete {
		if d.err == nil {
			d.since = now
		}
		d.err = scan.Err
		if d.err == nil {
			d.err = errors.New("the specs directory could not be read completely")
		}
		return d, nil
	}
	next := desired{
		stacks:   maps.Clone(scan.Stacks),
		problems: scan.Problems,
		missing:  map[string]time.Time{},
		gone:     map[string]bool{},
		findings: scan.Findings,
		revision: scan.Revision,
		commit:   scan.Commit,
		loaded:   true,
		scanned:  now,
		patience: d.patience,
	}
	if next.stacks == nil {
		next.stacks = map[string]*spec.Stack{}
	}
	for name, stack := range next.stacks {
		if old := d.stacks[name]; sameStack(old, stack) {
			next.stacks[name] = old // by which a pass knows that it has seen it
		}
	}
	for name := range d.known(live) {
		if next.stacks[name] == nil {
			next.keep(name, d, scan.Gone(name), slices.Contains(live, name), now)
		}
	}
	next.counted = next.count(d, scan, live)
	return next, next.differs(d)
}

// count is d's counted. It stays while any stack has no file that loads: one that is
// broken keeps others from counting as gone, and says nothing of how many there were.
func (d desired) count(before desired, scan *spec.Snapshot, live []string) int {
	lacks := func(name string) bool { return scan.Stacks[name] == nil }
	switch {
	case before.counted > 0 && slices.ContainsFunc(live, lacks):
		return before.counted
	case len(d.going()) > 0:
		return len(live)
	}
	return 0
}

// sameStack says that two readings gave the same stack, of the same revision.
func sameStack(a, b *spec.Stack) bool {
	return a != nil && a.Source.Fingerprint == b.Source.Fingerprint && a.Source.Fingerprint != "" &&
		a.Source.Revision == b.Source.Revision && (a.Source.Commit == nil) == (b.Source.Commit == nil) &&
		(a.Source.Commit == nil || *a.Source.Commit == *b.Source.Commit)
}

// known holds every stack that was ever heard of and may have to be dealt with.
func (d desired) known(live []string) map[string]bool {
	known := map[string]bool{}
	for name := range d.stacks {
		known[name] = true
	}
	for name := range d.gone {
		known[name] = true
	}
	for _, name := range live {
		known[name] = true
	}
	return known
}

// keep decides about a stack that the scan behind d did not load.
func (d *desired) keep(name string, before desired, surelyGone, lives bool, now time.Time) {
	old := before.stacks[name]
	since, missed := before.missing[name]
	switch {
	case !surelyGone && old != nil:
		d.stacks[name] = old
	case !surelyGone:
		// It is not ours to touch before it has loaded.
	case before.gone[name]:
		// Once nothing of it lives any more there is nothing left to do.
		if lives {
			d.gone[name] = true
		}
	case missed && now.Sub(since) >= before.vanishAfter():
		d.gone[name] = true
	default:
		if !missed {
			since = now
		}
		d.missing[name] = since
		if old != nil {
			d.stacks[name] = old
		}
	}
}

// differs holds the stacks for which d says something else than before did.
func (d desired) differs(before desired) []string {
	changed := map[string]bool{}
	for name := range d.all(before) {
		if fingerprint(d.stacks[name]) != fingerprint(before.stacks[name]) ||
			d.gone[name] != before.gone[name] ||
			(d.problems[name] == nil) != (before.problems[name] == nil) {
			changed[name] = true
		}
	}
	return slices.Sorted(maps.Keys(changed))
}

func (d desired) all(before desired) map[string]bool {
	all := map[string]bool{}
	for _, x := range []desired{d, before} {
		maps.Copy(all, x.gone)
		for name := range x.stacks {
			all[name] = true
		}
		for name := range x.problems {
			all[name] = true
		}
	}
	return all
}

// knows says that d has anything to say about the stack.
func (d desired) knows(name string) bool {
	return d.stacks[name] != nil || d.gone[name] || d.problems[name] != nil
}

// names holds the stacks that want passes, sorted.
func (d desired) names() []string {
	names := slices.Collect(maps.Keys(d.stacks))
	names = slices.AppendSeq(names, maps.Keys(d.gone))
	slices.Sort(names)
	return names
}

// again says how long after now the next scan has to be so that a stack that is
// missing can be told to be gone; 0 where none is. While scans cannot be completed
// its time is over and it is still not gone: then there is no hurry.
func (d desired) again(now time.Time) time.Duration {
	var wait time.Duration
	for _, since := range d.missing {
		left := max(since.Add(d.vanishAfter()).Sub(now), time.Millisecond)
		if d.err != nil {
			left = d.vanishAfter()
		}
		if wait == 0 || left < wait {
			wait = left
		}
	}
	return wait
}

func fingerprint(s *spec.Stack) string {
	if s == nil {
		return ""
	}
	return s.Source.Fingerprint
}

// problem is the first error of a stack that did not load, as a sentence.
func (d desired) problem(name string) string {
	findings, ok := d.problems[name]
	if !ok {
		return ""
	}
	return firstError(findings)
}

func firstError(findings []spec.Finding) string {
	for _, f := range findings {
		if f.Severity == spec.Error {
			return f.String()
		}
	}
	if len(findings) > 0 {
		return findings[0].String()
	}
	return "its file could not be loaded"
}

// readFiles scans at the start, when the watch says so, at every resync, and when
// a stack that is missing may be gone, until ctx ends.
func (c *controller) readFiles(ctx context.Context) {
	signals, watching := c.beginWatch(ctx)
	resync := time.NewTicker(c.Resync)
	defer resync.Stop()
	pulse := time.NewTicker(pulseEvery)
	defer pulse.Stop()
	again := c.scanOnce(ctx)
	settleHeap()
	for ; ; again = c.scanOnce(ctx) {
	wait:
		for {
			c.health.beat("source")
			select {
			case <-ctx.Done():
				return
			case _, ok := <-signals:
				if !ok {
					signals = nil // the watch ended: resync remains
					continue
				}
				break wait
			case signals = <-watching:
				watching = nil
				break wait
			case <-c.scans.returned():
				c.scans.taken()
				break wait
			case <-resync.C:
				break wait
			case <-c.rescan:
				break wait
			case <-again:
				break wait
			case <-pulse.C:
			}
		}
	}
}

// beginWatch begins to watch. Where that takes long it goes on without, and the watch
// comes by the second channel.
func (c *controller) beginWatch(ctx context.Context) (signals <-chan struct{}, later <-chan (<-chan struct{})) {
	begun := make(chan (<-chan struct{}), 1)
	go func() { begun <- c.watch(ctx) }()
	late := time.NewTimer(watchWait)
	defer late.Stop()
	select {
	case signals = <-begun:
		return signals, nil
	case <-late.C:
	case <-ctx.Done():
	}
	return nil, begun
}

// scanOnce reads the directory, puts what it says in force and asks for passes
// over what changed. The channel says when to scan again, whatever happens.
func (c *controller) scanOnce(ctx context.Context) <-chan time.Time {
	scan := c.scans.make(ctx)
	if ctx.Err() != nil {
		return nil
	}
	before := *c.desired.Load()
	listed := c.engine.listed()
	next, changed := before.fold(scan, c.lived(scan.Complete), c.Now())
	next.listed = before.listed || scan.Complete && listed
	c.desired.Store(&next)
	c.want()
	c.beginnings.read(&next)
	c.report.source(before, next, changed)
	c.tellUnusedRules()
	c.forgetLost(before, next)
	c.queue.changed(changed...)
	c.queue.look(next.dependents(changed)...)
	poke(c.kept.hint)
	c.page.changed()
	if wait := next.again(c.Now()); wait > 0 {
		return time.After(wait)
	}
	return nil
}

// heapGrowth is the percentage by which the heap may grow between collections once
// every stack is loaded (GOGC, if set, stands). From then on little is allocated and
// memory is what the daemon's neighbours on a manager notice.
const heapGrowth = 50

// settleHeap gives back what loading every stack took.
func settleHeap() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(heapGrowth)
	}
	debug.FreeOSMemory()
}

// live holds the stacks of this owner in the Swarm; none before the first listing.
func (c *controller) live() []string {
	if c.engine.listed() {
		return c.reconciler.Stacks()
	}
	return nil
}

// lived holds the stacks that lived before any pass that the newest first listing (of a
// term, or after an outage) led to; from the next complete scan on those that live.
func (c *controller) lived(complete bool) []string {
	if at := c.atListing.Load(); at != nil {
		if complete {
			c.atListing.CompareAndSwap(at, nil)
		}
		return *at
	}
	return c.live()
}

// listedAgain is told of such a listing.
func (c *controller) listedAgain() {
	live := c.reconciler.Stacks()
	c.atListing.Store(&live)
	poke(c.rescan)
}

// forgetLost drops all memory of stacks that are neither desired nor gone any
// more, so that their series vanish.
func (c *controller) forgetLost(before, next desired) {
	for name := range before.all(before) {
		if !next.knows(name) {
			c.forget(name)
		}
	}
}

func (c *controller) forget(name string) {
	c.book.forget(name)
	c.metrics.forget(name)
	c.report.forget(name)
	c.beginnings.forget(name)
}
