package controller

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
)

// A leader tells whether this controller acts. *Lease is one.
type leader interface {
	// run keeps or awaits the lease until ctx ends, and hands it over then.
	run(ctx context.Context, beat func(), stands func(Standing))
	// Take takes the lease for as long as something acts that ends.
	Take(ctx context.Context, waits func(Holder)) (release func(), err error)
	term() (uint64, error)
	standing() Standing
	// hint says that the lease may have changed.
	hint()
}

// alone is a controller that has nobody beside it.
type alone struct{}

func (alone) run(ctx context.Context, _ func(), _ func(Standing)) { <-ctx.Done() }
func (alone) Take(context.Context, func(Holder)) (func(), error)  { return func() {}, nil }
func (alone) term() (uint64, error)                               { return 1, nil }
func (alone) standing() Standing                                  { return Standing{Term: 1} }
func (alone) hint()                                               {}

// keepLease is the part of the daemon that does so.
func (c *controller) keepLease(ctx context.Context) {
	c.leader.run(ctx, func() { c.health.beat("lease") }, c.stands)
}

// termNow is the term in which this controller acts, 0 while it does not.
func (c *controller) termNow() uint64 {
	term, err := c.leader.term()
	if err != nil {
		return 0
	}
	return term
}

// leads says that this controller acts.
func (c *controller) leads() bool { return c.termNow() > 0 }

// mayPass is the term in which a pass may be made now: the controller acts, and has
// listed the Swarm since it began to.
func (c *controller) mayPass() (uint64, bool) {
	term := c.termNow()
	return term, term > 0 && c.engine.upIn(term)
}

// stands is told how this controller stands to its lease, and tells the log.
func (c *controller) stands(s Standing) {
	defer poke(c.kept.hint)
	c.notices.stands()
	if c.followed.tags != nil {
		defer c.followed.tags.Look()
	}
	defer c.page.changed()
	switch was := c.acted.Swap(s.Acts()); {
	case s.Acts():
		c.Logger.Info("leads, this controller acts")
		c.book.clear()
		c.reconciler.Noticed("") // others may have written whatever is remembered
		poke(c.engine.opened)    // a listing, after which every stack gets a pass
	case was:
		c.Logger.Warn("lost the lease, writes nothing until it has it again", zap.String("detail", behind(s.Holder)))
	default:
		c.Logger.Info("stands by", zap.String("detail", behind(s.Holder)))
	}
}

// behind says who acts in our place.
func behind(h Holder) string {
	if h.ID == "" {
		return "nobody is known to act"
	}
	return "behind " + h.String()
}

// role is what /readyz says while all is well.
func (c *controller) role() string {
	s := c.leader.standing()
	if s.Acts() {
		return "acts"
	}
	return strings.TrimSpace("stands by " + behind(s.Holder))
}

// hears is told of a config that an event names, and says whether that was all there is
// to do: leases are renewed every few seconds, by each owner's controllers, and nothing
// of a stack is in them, nor in the looks that they pass on to each other.
func (c *controller) hears(config string) (all bool) {
	switch reconcile.OwnKind(config) {
	case reconcile.KindLease:
		c.leader.hint()
	case reconcile.KindLook:
		c.relayed(config)
	default:
		return false
	}
	return true
}

// beginnings know which stacks a controller that began to act has not found yet to be
// no older in its directory than what was rolled out of them last. A directory can lag
// behind another controller's: a stack must not go back in time for it.
type beginnings struct {
	mu      sync.Mutex
	seen    map[string][]string // the fingerprints that stacks' files had, the newest last
	term    uint64
	had     map[string]bool   // had a file when the term began, or were found to be current since
	pending map[string]bool   // of them, those not found to be current yet
	stale   map[string]string // of them, those found to be older: what of
}

// begin takes in what is desired when the first pass of a term is due.
func (b *beginnings) begin(term uint64, d *desired) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.term == term {
		return
	}
	b.term, b.had, b.pending, b.stale = term, map[string]bool{}, map[string]bool{}, map[string]string{}
	for name := range d.all(*d) {
		if !d.gone[name] {
			b.had[name], b.pending[name] = true, true
		}
	}
}

// seenMost is how many fingerprints of a stack are kept.
const seenMost = 20

// read takes in what was read of the directory: also while another controller acts, so
// that a change of files that it did not come to is known for one.
func (b *beginnings) read(d *desired) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.seen == nil {
		b.seen = map[string][]string{}
	}
	for name, s := range d.stacks {
		list, now := b.seen[name], fingerprint(s)
		if n := len(list); n > 0 && list[n-1] == now {
			continue
		}
		b.seen[name] = append(slices.Clone(list[max(0, len(list)-seenMost+1):]), now)
	}
}

// forget drops what is kept of a stack that is no more.
func (b *beginnings) forget(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.seen, name)
	delete(b.pending, name)
	delete(b.stale, name)
}

// saw are the fingerprints that were read of a stack.
func (b *beginnings) saw(name string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.seen[name]
}

// asks says whether a pass over a stack has to find out whether its source is older.
// doubt says, for one whose file is gone, why the whole directory seems to be; wait
// that this is not known yet.
func (b *beginnings) asks(name string, lives bool) (ask bool, doubt string, wait bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if lives { // one whose file comes later than the term began may be as old as the others
		return b.pending[name] || !b.had[name], "", false
	}
	if b.had[name] { // its file went while this controller acted
		return false, "", false
	}
	for other := range b.pending {
		if b.stale[other] == "" {
			return true, "", true
		}
		doubt = fmt.Sprintf("the directory is older than what was rolled out last of stack %s, and the file may be missing for that", other)
	}
	return true, doubt, false
}

// found takes in what a pass found of a stack's source; lives says that it has a file. It says whether that was the
// last one that there was a doubt about.
func (b *beginnings) found(name string, lives bool, r reconcile.Result) (clear bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case r.Current:
		clear = b.pending[name] && len(b.pending) == 1
		delete(b.pending, name)
		delete(b.stale, name)
		b.had[name] = b.had[name] || lives
	case r.Reason == reconcile.SourceStale && b.pending[name]:
		b.stale[name] = r.Message
	}
	return clear
}

// orphanWait is how soon a stack whose file is gone is looked at again while it is not
// known whether the directory is older than what was rolled out.
const orphanWait = time.Second

// question asks a pass whether the stack's source is older than what was rolled out
// of it last, where that is to be asked; false: it cannot be told yet.
func (c *controller) question(name string, d *desired) (*reconcile.SourceCheck, bool) {
	ask, doubt, wait := c.beginnings.asks(name, d.stacks[name] != nil)
	if !ask || wait {
		return nil, !wait
	}
	return c.sourceCheck(name, d, doubt), true
}

func (c *controller) sourceCheck(name string, d *desired, doubt string) *reconcile.SourceCheck {
	check := &reconcile.SourceCheck{Seen: c.beginnings.saw(name), Doubt: doubt}
	askCommits(check, d.stacks[name], d.directories, func(i int, commit, other string) (spec.Descent, error) {
		return c.descends(i, commit, other)
	})
	return check
}

// descends says how a source's commit stands to another. Where rewinds are followed, what
// its remote has now is newer than all that was, whatever it descends from.
func (c *controller) descends(i int, commit, other string) (spec.Descent, error) {
	d, err := c.descents[i].tell(commit, other)
	if err == nil && d != spec.DescentSame && c.Sources[i].Rewinds && c.feeds.all[i].ask() == nil {
		d = spec.DescentNewer
	}
	return d, err
}
