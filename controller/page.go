package controller

import (
	"context"
	"maps"
	"math"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/skep-io/skep/controller/web"
	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
)

// What the page asks the engine for is bounded however many look at it: it is made of
// what passes and listings found anyway. Only while somebody looks is the Swarm asked,
// once for all of them, for the tasks that no pass asked for.
const (
	snapshotAge = time.Second      // so long one serves all who ask
	watchedFor  = 30 * time.Second // since a page was asked for
	lookPause   = 5 * time.Second  // between two looks, at least
	lookShare   = 20               // and so many times as long as one took
	lookEvery   = time.Minute      // where nothing is known to be different
	lookLimit   = 15 * time.Second // for one look
	firstLook   = time.Second      // so long the first page waits for the first look
	compareTime = 2 * time.Second  // so long a page waits for what releases changed
	compareMost = 2000             // releases of which that is kept
)

// sights are what a reconciler knows beside the results of passes. *reconcile.Reconciler
// has them.
type sights interface {
	Glance(stack string) (reconcile.Glance, bool)
	Look(ctx context.Context) error
	Compare(ctx context.Context, stack string, release int) (*reconcile.Comparison, error)
}

// A page is what a controller shows: it gathers Snapshots for package web.
type page struct {
	c    *controller
	site *web.Site

	wanted chan struct{} // somebody looks
	first  chan struct{} // closed when the Swarm was looked at for the first time

	number atomic.Uint64 // of what changed

	mu       sync.Mutex
	snapshot *web.Snapshot
	of       uint64    // number, when it was made
	made     time.Time // by the clock that nobody sets
	asked    time.Time // somebody did, the same
	report   *Published

	comparing sync.Mutex // one release at a time, so that nobody keeps the engine busy
	compared  map[comparisonKey]web.Change
}

// A comparisonKey names a release for good: its record's data never changes, and numbers
// begin anew only when a stack was forgotten.
type comparisonKey struct {
	stack   string
	number  int
	started time.Time
}

func newPage(c *controller) *page {
	p := &page{c: c, wanted: make(chan struct{}, 1), first: make(chan struct{}), compared: map[comparisonKey]web.Change{}}
	p.site = web.NewSite(p)
	return p
}

// changed says that there is something else to show. It never blocks.
func (p *page) changed() {
	p.number.Add(1)
	p.site.Changed()
}

// run looks at the Swarm while somebody looks at the page, until ctx ends.
func (p *page) run(ctx context.Context) {
	if p.c.sights == nil {
		<-ctx.Done()
		return
	}
	var seen uint64
	var looked time.Time
	open := sync.OnceFunc(func() { close(p.first) })
	pause := lookPause
	every := time.NewTicker(lookPause)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.wanted:
		case <-every.C:
		}
		number, watched := p.watched()
		since := time.Since(looked)
		if !watched || p.c.engine.up() != nil || since < pause || number == seen && since < lookEvery {
			continue
		}
		start := time.Now()
		seen = number
		p.look(ctx)
		open()
		looked = time.Now()
		pause = max(lookPause, lookShare*looked.Sub(start))
		p.site.Changed()
	}
}

// watched says whether somebody looks, and at which number of changes.
func (p *page) watched() (number uint64, watched bool) {
	viewed := p.site.Watched()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.number.Load(), viewed || !p.asked.IsZero() && time.Since(p.asked) < watchedFor
}

// look asks for tasks and, where another controller acts, for what that publishes. An
// engine that does not answer has its say elsewhere.
func (p *page) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lookLimit)
	defer cancel()
	_ = protect(func() error { return p.c.sights.Look(ctx) })
	if p.c.leads() || p.c.kept.report == nil {
		return
	}
	stands, err := p.c.kept.report.read(ctx)
	if err != nil {
		return
	}
	var report *Published
	if stands != nil {
		report = parsePublished(stands.Spec.Labels[labelReport])
	}
	p.mu.Lock()
	p.report = report
	p.mu.Unlock()
}

// Snapshot is what the controller knows now, or a second ago.
func (p *page) Snapshot(ctx context.Context) *web.Snapshot {
	p.mu.Lock()
	p.asked = time.Now()
	p.mu.Unlock()
	poke(p.wanted)
	if p.c.sights != nil && p.c.engine.up() == nil {
		late := time.NewTimer(firstLook)
		defer late.Stop()
		select {
		case <-p.first:
		case <-late.C:
		case <-ctx.Done():
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	number, age := p.number.Load(), time.Since(p.made)
	if p.snapshot == nil || p.of != number && age >= snapshotAge/4 || age >= snapshotAge {
		p.of = number
		p.snapshot = p.gather()
		p.made = time.Now()
	}
	return p.snapshot
}

// gather makes a Snapshot. The caller has the lock.
func (p *page) gather() *web.Snapshot {
	c := p.c
	d := c.desired.Load()
	now := c.Now()
	standing := c.leader.standing()
	s := &web.Snapshot{Now: now, Version: c.Version, Owner: c.Owner, Specs: c.places(), Acts: standing.Acts(),
		Findings: d.findings, Revision: d.revision}
	if trouble := c.policy.problem(); trouble != nil {
		s.Policy, s.PolicySince, s.NoPolicy = trouble.err.Error(), trouble.since, c.policy.missing() != nil
	}
	if !s.Acts {
		s.Holder = standing.Holder.String()
	}
	if len(c.Sources) == 1 {
		if commit := d.sources[0].commit; commit != nil {
			s.Subject = commit.Subject
		}
	} else {
		s.Sources = c.shown(d)
	}
	s.Engine, s.EngineSince = c.engine.away()
	if err := c.sourceReady(); err != nil && !s.NoPolicy {
		s.Source, s.SourceReason, s.SourceSince = err.Error(), sourceReason(d), d.since
	}
	report := p.told(d, now)
	if report.Prune != nil {
		s.Prune = &report.Prune.Blockade
	}
	results := c.book.results()
	for _, name := range p.names(d, report) {
		x := web.Stack{Name: name, HasFile: d.stacks[name] != nil || d.problems[name] != nil}
		if stack := d.stacks[name]; stack != nil {
			x.Source = stack.Source.Name
		}
		if c.sights != nil {
			if g, ok := c.sights.Glance(name); ok {
				x.Glance, x.Result = g, g.Result
				if g.At.After(s.Listed) {
					s.Listed = g.At
				}
			}
		}
		if r, ok := results[name]; ok && s.Acts {
			x.Passed, x.Result = true, r
		}
		x.Result, _ = report.Over(x.Result, name)
		s.Stacks = append(s.Stacks, x)
	}
	if s.Listed.IsZero() && c.engine.listed() {
		s.Listed = now
	}
	return s
}

// shown are the sources, where there are several.
func (c *controller) shown(d *desired) (all []web.Directory) {
	for i, s := range d.sources {
		x := web.Directory{Name: s.name, Dir: c.Sources[i].Dir, Revision: s.revision, Scanned: s.scanned}
		if s.commit != nil {
			x.Subject = s.commit.Subject
		}
		if err := s.problem(); err != nil {
			x.Reason, x.Message, x.Since = spec.SourceReason(err), err.Error(), s.since
		}
		all = append(all, x)
	}
	return all
}

// told is what is to be told beside results: of one that acts, what it knows now and
// results do not tell; of another one, what the one that acts published, and which of
// its own files do not load.
func (p *page) told(d *desired, now time.Time) *Published {
	found := p.c.found(now).after(p.c.kept.told.Load())
	found.Stacks = slices.DeleteFunc(found.Stacks, func(s PublishedStack) bool { return d.problems[s.Stack] == nil })
	if p.c.leads() {
		return &found
	}
	told := Published{}
	if p.report != nil {
		told = *p.report
	}
	told.Stacks = slices.Clone(told.Stacks)
	for _, s := range found.Stacks {
		s.Release = math.MaxInt // whatever was released of it, its file is broken
		told.Stacks = append(told.Stacks, s)
	}
	return &told
}

// names are the stacks to show, sorted: of the files, of the Swarm, and those that the
// controller that acts tells of.
func (p *page) names(d *desired, report *Published) []string {
	names := d.all(*d)
	for _, name := range p.c.live() {
		names[name] = true
	}
	for _, s := range report.Stacks {
		names[s.Stack] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// Changes tells what releases of a stack changed. What is not known is asked for, one
// after the other and once for all who look; what takes too long is left out.
func (p *page) Changes(ctx context.Context, stack string) map[int]web.Change {
	if p.c.sights == nil {
		return nil
	}
	g, ok := p.c.sights.Glance(stack)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, compareTime)
	defer cancel()
	changes := map[int]web.Change{}
	for i := range g.Releases {
		r := &g.Releases[i]
		if r.Damaged {
			continue
		}
		if c, ok := p.compare(ctx, comparisonKey{stack, r.Number, r.Started}); ok {
			changes[r.Number] = c
		}
	}
	return changes
}

func (p *page) compare(ctx context.Context, key comparisonKey) (web.Change, bool) {
	p.comparing.Lock()
	defer p.comparing.Unlock()
	if c, ok := p.compared[key]; ok {
		return c, true
	}
	if ctx.Err() != nil || p.c.engine.up() != nil {
		return web.Change{}, false
	}
	var comparison *reconcile.Comparison
	err := protect(func() (err error) {
		comparison, err = p.c.sights.Compare(ctx, key.stack, key.number)
		return err
	})
	if err != nil {
		return web.Change{}, false
	}
	if len(p.compared) >= compareMost {
		clear(p.compared)
	}
	c := web.Change{Against: comparison.Against, Plan: comparison.Plan.View()}
	p.compared[key] = c
	return c, true
}

// news says whether a pass found anything else than the one before it, as far as that is
// shown.
func news(before, after reconcile.Result) bool {
	number := func(r reconcile.Result) (int, reconcile.Phase) {
		if r.Release == nil {
			return -1, ""
		}
		return r.Release.Number, r.Release.Phase
	}
	n, phase := number(before)
	m, now := number(after)
	return before.Outcome != after.Outcome || before.Reason != after.Reason || before.Message != after.Message || n != m || phase != now ||
		len(after.Transitions) > 0 || !reflect.DeepEqual(before.Services, after.Services) || !reflect.DeepEqual(before.Conditions, after.Conditions)
}
