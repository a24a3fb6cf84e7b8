package controller

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/skep-io/skep/spec"
)

// Several directories can be read as one. Each is scanned, watched and kept on its own,
// so that one that hangs holds none of the others up, and what they say is joined:
//
//	Keep ──► directory ──► watch ──► scan ──► the last complete snapshot ──┐
//	                                                                       ├─► join ──► desired
//	Keep ──► directory ──► watch ──► scan ──► the last complete snapshot ──┘
//
// Of a source that cannot be read, or may be old, what was read last stays in force. Until
// it can be again no stack counts as gone, as its file may have moved there; the changes
// of the others go on.

// A Source is a directory that says what is to run.
type Source struct {
	// Name is what the log, status and metrics call it. It is unique.
	Name string
	// Dir is scanned. It may be a symlink that is swapped.
	Dir string
	// Remote is the address of the git repository that Dir is made of; empty: that of the
	// remote "origin", where Dir lies in a work tree.
	Remote string
	// Keep keeps Dir up to date until ctx ends, and calls changed after it changed it;
	// nil: somebody else does. When it ends by itself, or panics, it is begun again after
	// a while.
	Keep func(ctx context.Context, changed func())
	// State says why what is in Dir may be old, with a *spec.SourceError; nil: it never
	// is, or it is not just now. What can be read of it stays in force.
	State func() error
	// Rewinds says that Keep follows its remote back in time, too: where State is nil, what
	// is in Dir is what is meant, although something newer was rolled out.
	Rewinds bool
	// Look asks Keep to look soon whether there is something new; nil: there is nobody to
	// ask. It never blocks.
	Look func()
	// Asked tells what came of Keep's looks at a remote, for metrics; nil: there is none.
	Asked func() Asked
}

// DefaultSource is the name of Config.Specs.
const DefaultSource = "specs"

// sourceName is what a source can be called: it stands in findings, before the file.
var sourceName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$`)

// maxSources bounds how many there are: each has its watches and its goroutines.
const maxSources = 100

// CheckSourceName says what is wrong with the name of a source, nil for nothing.
func CheckSourceName(name string) error {
	if !sourceName.MatchString(name) {
		return fmt.Errorf("%q cannot be the name of a source (give it up to 63 letters, digits, and _ . - after the first)", name)
	}
	return nil
}

// checkSources takes Specs for a source like the others, and says what is wrong with them.
func (c *Config) checkSources() error {
	if c.Specs != "" {
		c.Sources = append([]Source{{Name: DefaultSource, Dir: c.Specs}}, c.Sources...)
		c.Specs = ""
	}
	switch n := len(c.Sources); {
	case n == 0:
		return errors.New("no specs directory (give --specs DIR)")
	case n > maxSources:
		return fmt.Errorf("%d sources, and %d are the most", n, maxSources)
	}
	seen := map[string]bool{}
	for _, s := range c.Sources {
		if err := CheckSourceName(s.Name); err != nil {
			return err
		}
		if s.Dir == "" {
			return fmt.Errorf("source %s has no directory", s.Name)
		}
		if seen[s.Name] {
			return fmt.Errorf("two sources have the name %s (give one another name: NAME=DIR)", s.Name)
		}
		seen[s.Name] = true
	}
	return nil
}

// places are the directories, for people.
func (c *Config) places() string {
	if len(c.Sources) == 1 {
		return c.Sources[0].Dir
	}
	var all []string
	for _, s := range c.Sources {
		all = append(all, s.Name+"="+s.Dir)
	}
	return strings.Join(all, ", ")
}

// dirs are the directories.
func (c *Config) dirs() (dirs []string) {
	for _, s := range c.Sources {
		dirs = append(dirs, s.Dir)
	}
	return dirs
}

// A standing is how a source stands.
type standing struct {
	name    string
	err     error     // why what is in force of it may be old; nil: it is not
	since   time.Time // when that began
	scanned time.Time // when it was read completely last; zero: never
	kept    bool      // err is not of reading it: its directory is complete, and may be old

	revision string
	commit   *spec.Commit
}

// now is s with another error, at a moment.
func (s standing) now(err error, at time.Time) standing {
	if err == nil {
		s.since = time.Time{}
	} else if s.err == nil || s.since.IsZero() {
		s.since = at
	}
	s.err = err
	return s
}

// problem is why what is in force of the source may be old, also when nothing was read.
func (s standing) problem() error {
	if s.err == nil && s.scanned.IsZero() {
		return &spec.SourceError{Reason: sourceNotRead, Err: errors.New("the directory was not read yet")}
	}
	return s.err
}

// A feed is a source at work.
type feed struct {
	Source
	loop   string // what health calls the goroutine that reads it
	scans  *scans
	rescan chan struct{}
	// broken is why Keep does not run, nil while it does.
	broken atomic.Pointer[error]

	// What follows is guarded by feeds.mu.
	asked    bool           // a scan came to an end
	last     *spec.Snapshot // the newest that was complete; nil: none was
	began    time.Time      // when that was begun
	unread   error          // why the newest scan was not complete
	outdated error          // what State said, in the words that it had then
	worded   time.Time      // when it had them
	stands   standing
}

// rewordState is for how long the words of a State stay as they were, while its reason
// does: they tell an age, and each change of them is news to whoever is told.
const rewordState = 5 * time.Second

// takeScan takes in a scan that was begun then.
func (f *feed) takeScan(scan *spec.Snapshot, began time.Time, now time.Time) {
	f.asked = true
	if !scan.Complete {
		if f.unread = scan.Err; f.unread == nil {
			f.unread = errors.New("the specs directory could not be read completely")
		}
		f.settle(now)
		return
	}
	f.unread, f.last, f.began = nil, scan, began
	f.stands.scanned, f.stands.revision, f.stands.commit = now, scan.Revision, scan.Commit
	f.settle(now)
}

// takeState takes in what State says, and whether that is news.
func (f *feed) takeState(err error, now time.Time) (news bool) {
	was := f.outdated
	if was != nil && err != nil && spec.SourceReason(was) == spec.SourceReason(err) && now.Sub(f.worded) < rewordState {
		return false
	}
	f.outdated, f.worded = err, now
	f.settle(now)
	return (was == nil) != (err == nil) || err != nil && was.Error() != err.Error()
}

// settle finds out how the source stands: that it cannot be read weighs more than that it
// is not kept up to date, unless that is why there was nothing to read yet.
func (f *feed) settle(now time.Time) {
	err := f.unread
	if f.stands.kept = f.outdated != nil && (err == nil || f.last == nil); f.stands.kept {
		err = f.outdated
	}
	f.stands = f.stands.now(err, now)
}

// inForce is what counts of the source: the last that was read completely, with why it
// may be old.
func (f *feed) inForce() *spec.Snapshot {
	if f.last == nil {
		return &spec.Snapshot{Dir: f.Dir, Err: f.stands.problem()}
	}
	if f.stands.err == nil {
		return f.last
	}
	old := *f.last
	old.Complete, old.Err = false, f.stands.err
	return &old
}

// ask asks the source for its State.
func (f *feed) ask() (err error) {
	if broken := f.broken.Load(); broken != nil {
		return *broken
	}
	if f.State == nil {
		return nil
	}
	if failed := protect(func() error { err = f.State(); return nil }); failed != nil {
		return &spec.SourceError{Reason: sourcePanic, Err: failed}
	}
	return err
}

// joinWait is how long the first sources that were read wait for the others, before what
// they say comes into force without those: a name may be in two of them.
const joinWait = pulseEvery

// feeds are all sources of a controller.
type feeds struct {
	all   []*feed
	start time.Time

	mu    sync.Mutex
	later *time.Timer // the next scans that a missing stack wants

	asking sync.Mutex
	asked  time.Time   // when readSoon had all read last
	soon   *time.Timer // when it will next; nil: it need not
}

func newFeeds(c *controller) *feeds {
	x := &feeds{start: c.Now()}
	for _, s := range c.Sources {
		f := &feed{Source: s, loop: "source", rescan: make(chan struct{}, 1), stands: standing{name: s.Name}}
		if len(c.Sources) > 1 {
			f.loop += " " + s.Name
		}
		f.scans = &scans{dir: s.Dir, limit: c.ScanLimit, scan: func(ctx context.Context) *spec.Snapshot { return c.scanUnderPolicy(ctx, f) }}
		x.all = append(x.all, f)
	}
	return x
}

// loops are what health calls those who read.
func (x *feeds) loops() (names []string) {
	for _, f := range x.all {
		names = append(names, f.loop)
	}
	return names
}

// readAgain has every source read soon.
func (x *feeds) readAgain() {
	for _, f := range x.all {
		poke(f.rescan)
	}
}

// readEvery is how far apart the readings are at least that somebody has asked for from
// outside, maybe by one request that is sent again and again.
const readEvery = time.Second

// readSoon has every source read: at once, or readEvery after it last had.
func (x *feeds) readSoon() {
	x.asking.Lock()
	defer x.asking.Unlock()
	if x.soon != nil {
		return
	}
	if wait := readEvery - time.Since(x.asked); wait > 0 {
		x.soon = time.AfterFunc(wait, func() {
			x.asking.Lock()
			x.soon, x.asked = nil, time.Now()
			x.asking.Unlock()
			x.readAgain()
		})
		return
	}
	x.asked = time.Now()
	x.readAgain()
}

// complete says that every source was read at least once, or given up waiting for. The
// caller has the lock.
func (x *feeds) complete(now time.Time) bool {
	return now.Sub(x.start) >= joinWait || !slices.ContainsFunc(x.all, func(f *feed) bool { return !f.asked })
}

// A view is what all sources say together.
type view struct {
	*spec.Snapshot
	sources []standing
	// seen is when it was begun to read the one that was read longest ago: what was
	// missed before that was not there in any of them then.
	seen time.Time
}

// called is what stacks and findings call a source: nothing where it is the only one, and
// nobody gave it a name.
func (x *feeds) called(f *feed) string {
	if len(x.all) == 1 && f.Name == DefaultSource {
		return ""
	}
	return f.Name
}

// view joins what is in force. The caller has the lock.
func (x *feeds) view() view {
	var v view
	var parts []spec.Part
	for i, f := range x.all {
		parts = append(parts, spec.Part{Name: x.called(f), Snapshot: f.inForce()})
		v.sources = append(v.sources, f.stands)
		if i == 0 || f.began.Before(v.seen) {
			v.seen = f.began
		}
	}
	v.Snapshot = spec.Join(parts...)
	return v
}

// takeScan takes in a scan of one source, and puts what all of them say in force.
func (c *controller) takeScan(f *feed, scan *spec.Snapshot, began time.Time) {
	state := f.ask()
	c.feeds.mu.Lock()
	defer c.feeds.mu.Unlock()
	f.takeScan(scan, began, c.Now())
	f.takeState(state, c.Now())
	if c.feeds.complete(c.Now()) {
		c.putInForce()
	}
}

// lookAtState asks a source whether it may be old, between scans.
func (c *controller) lookAtState(f *feed) {
	state := f.ask()
	c.feeds.mu.Lock()
	defer c.feeds.mu.Unlock()
	late := f.asked && !c.desired.Load().joined && c.feeds.complete(c.Now())
	if f.takeState(state, c.Now()) && f.asked && c.feeds.complete(c.Now()) || late {
		c.putInForce()
	}
}

// putInForce puts what the sources say in force, and asks for passes over what changed.
// The caller has the lock.
func (c *controller) putInForce() {
	x := c.feeds
	v := x.view()
	before := *c.desired.Load()
	listed := c.engine.listed()
	next, changed := before.take(v, c.lived(v.Complete), c.Now())
	next.joined = true
	next.listed = before.listed || v.Complete && listed
	c.desired.Store(&next)
	c.want()
	c.beginnings.read(&next)
	c.report.source(before, next, changed)
	c.tellUnusedRules()
	c.forgetLost(before, next)
	c.queue.changed(changed...)
	c.queue.look(next.dependents(changed)...)
	if (before.err == nil) != (next.err == nil) { // nothing is removed while a source is not ready
		c.queue.look(next.going()...)
	}
	poke(c.kept.hint)
	c.page.changed()
	if x.later != nil {
		x.later.Stop()
	}
	if wait := next.again(c.Now()); wait > 0 {
		x.later = time.AfterFunc(wait, x.readAgain)
	}
}

// How soon Keep is begun again after it ended.
const (
	keepFirst = time.Second
	keepMost  = time.Minute
)

// keepSource runs a source's Keep until ctx ends. A panic in it, or its end, makes the
// source one that may be old, and nothing else.
func (c *controller) keepSource(ctx context.Context, f *feed) {
	delay := backoff{first: keepFirst, most: keepMost}
	for {
		began := c.Now()
		err := protect(func() error {
			f.Keep(ctx, func() { poke(f.rescan) })
			return errors.New("it ended by itself")
		})
		if ctx.Err() != nil {
			return
		}
		if c.Now().Sub(began) > keepMost {
			delay.reset()
		}
		wait := delay.wait()
		var broken error = &spec.SourceError{Reason: sourcePanic, Err: fmt.Errorf("nothing keeps %s up to date: %w", f.Dir, err)}
		f.broken.Store(&broken)
		c.Logger.Error("source is not kept up to date, that is begun again", zap.String("source", f.Name), zap.Duration("duration", wait), zap.Error(err))
		c.lookAtState(f)
		late := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			late.Stop()
			return
		case <-late.C:
		}
		f.broken.Store(nil)
	}
}
