package controller

import (
	"context"
	"maps"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/skep-io/skep/spec"
)

// VanishAfter is how far apart two complete scans have to be that both miss a stack
// before its file counts as gone: editors, git and whoever copies a directory replace
// files in steps.
const VanishAfter = 30 * time.Second

// desired is what the files say, as far as they could be read. It is never
// changed after it was made; take makes the next one.
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

	findings    []spec.Finding // about the directories themselves, not about a stack
	revision    string
	directories []spec.Directory
	sources     []standing // how each source stands
	err         error      // why what is in force may be old, of any source
	since       time.Time  // when that began
	joined      bool       // the sources were put in force at least once, be it without some
	loaded      bool       // there was a complete scan, of any source

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

// take takes in what the sources say at a moment, given the stacks that live in the
// Swarm. It returns what is desired now and, sorted, the stacks that it is new for.
//
//	all sources      the stack in it     what is in force
//	none was read    whatever            what was
//	complete         loaded              the scan's version
//	                 has a problem       what was; nothing, if it never loaded
//	                 missed              what was, for VanishAfter; then gone
//	some may be old  loaded              the version of the scans, or of the last complete one
//	                 has a problem       what was; nothing, if it never loaded
//	                 missed              what was: it goes no further, and not back
func (d desired) take(v view, live []string, now time.Time) (desired, []string) {
	if !slices.ContainsFunc(v.sources, func(s standing) bool { return !s.scanned.IsZero() }) {
		d.unready(v, now)
		return d, nil
	}
	next := desired{
		stacks:      maps.Clone(v.Stacks),
		problems:    v.Problems,
		missing:     map[string]time.Time{},
		gone:        map[string]bool{},
		findings:    v.Findings,
		revision:    v.Revision,
		directories: v.Directories(),
		err:         d.err,
		since:       d.since,
		loaded:      true,
		patience:    d.patience,
	}
	next.unready(v, now)
	if next.stacks == nil {
		next.stacks = map[string]*spec.Stack{}
	}
	for name, stack := range next.stacks {
		if old := d.stacks[name]; sameStack(old, stack) {
			next.stacks[name] = old // by which a pass knows that it has seen it
		}
	}
	for name := range d.known(live) {
		switch {
		case next.stacks[name] != nil:
		case !v.Complete:
			next.hold(name, d)
		default:
			next.keep(name, d, v.Gone(name), slices.Contains(live, name), v.seen, now)
		}
	}
	next.counted = next.count(d, v.Snapshot, live)
	return next, next.differs(d)
}

// unready takes in how the sources stand.
func (d *desired) unready(v view, now time.Time) {
	d.sources = v.sources
	switch {
	case v.Complete:
		d.err, d.since = nil, time.Time{}
		return
	case d.err == nil:
		d.since = now
	}
	d.err = v.Err
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
		a.Source.Revision == b.Source.Revision && a.Source.Name == b.Source.Name && (a.Source.Commit == nil) == (b.Source.Commit == nil) &&
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

// hold leaves a stack as it was that the scans behind d did not load, where some source
// may have its file.
func (d *desired) hold(name string, before desired) {
	if before.gone[name] {
		d.gone[name] = true
	}
	if since, missed := before.missing[name]; missed {
		d.missing[name] = since
	}
	if old := before.stacks[name]; old != nil {
		d.stacks[name] = old
	}
}

// keep decides about a stack that the scans behind d did not load, all of which were begun
// at seen or later.
func (d *desired) keep(name string, before desired, surelyGone, lives bool, seen, now time.Time) {
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
	case missed && seen.Sub(since) >= before.vanishAfter():
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
// missing can be told to be gone; 0 where none is. While scans cannot be completed, or
// one of several sources takes long, its time is over and it is still not gone: then
// there is no hurry.
func (d desired) again(now time.Time) time.Duration {
	var wait time.Duration
	for _, since := range d.missing {
		left := since.Add(d.vanishAfter()).Sub(now)
		if d.err != nil || left <= 0 {
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

// readFiles reads every source until ctx ends.
func (c *controller) readFiles(ctx context.Context) {
	var all sync.WaitGroup
	for _, f := range c.feeds.all {
		all.Go(func() { c.readSource(ctx, f) })
	}
	all.Wait()
}

// readSource scans at the start, when the watch says so, at every resync, when Keep
// changed the directory, and when a stack that is missing may be gone, until ctx ends.
func (c *controller) readSource(ctx context.Context, f *feed) {
	signals, watching := c.beginWatch(ctx, f)
	resync := time.NewTicker(c.Resync)
	defer resync.Stop()
	pulse := time.NewTicker(pulseEvery)
	defer pulse.Stop()
	c.scanOnce(ctx, f)
	settleHeap()
	for ; ; c.scanOnce(ctx, f) {
	wait:
		for {
			c.health.beat(f.loop)
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
			case <-f.scans.returned():
				f.scans.taken()
				break wait
			case <-resync.C:
				break wait
			case <-f.rescan:
				break wait
			case <-pulse.C:
				c.lookAtState(f)
			}
		}
	}
}

// beginWatch begins to watch. Where that takes long it goes on without, and the watch
// comes by the second channel.
func (c *controller) beginWatch(ctx context.Context, f *feed) (signals <-chan struct{}, later <-chan (<-chan struct{})) {
	begun := make(chan (<-chan struct{}), 1)
	go func() { begun <- c.watch(ctx, f.Source) }()
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

// scanOnce reads a source and puts what it says in force.
func (c *controller) scanOnce(ctx context.Context, f *feed) {
	began := c.Now()
	scan := f.scans.make(ctx)
	if ctx.Err() != nil {
		return
	}
	c.takeScan(f, scan, began)
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
	c.feeds.readAgain()
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
