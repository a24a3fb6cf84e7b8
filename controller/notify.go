package controller

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
)

// Messages tell people what became different. A pass is never held up by them: what it
// saw is compared with what was said (see ledger), and what is news goes into a queue a
// notifier. They are sent by the controller that acts alone, and are the only traffic
// that skep makes beside the engine's, where somebody asked for them.
//
//	pass ──► sight ──┐                    ┌──► queue ──► notifier ──► its receiver
//	                 ├──► compare ──► news┤
//	ledger ──────────┘       │            └──► queue ──► notifier ──► its receiver
//	   ▲                     ▼                             │
//	   └──── kept in the Swarm, what was said ◄────────────┘ and what of it is not sent yet

const (
	// noticeEvery is how often what belongs to no pass is looked at.
	noticeEvery = 5 * time.Second
	// noticePause is how long changes of the ledger are gathered before it is written.
	noticePause = 500 * time.Millisecond
	// unreadableFor is how long the directory is unreadable before that is news: a copy
	// that is swapped is so for a moment.
	unreadableFor = 15 * time.Second
	// sightsMost is how many sights of a stack wait until the ledger was read.
	sightsMost = 8

	labelTold = reconcile.LabelPrefix + "told"
)

// notices is the daemon's part that tells people.
type notices struct {
	log   *zap.Logger
	owner string
	now   func() time.Time
	leads func() bool
	count func(n *notifier, result string)
	note  *note        // where the ledger is kept; nil: nowhere
	on    []spec.Event // what stacks that say nothing are told of; none: all
	all   []*notifier
	hint  chan struct{} // the ledger is to be read, or written

	statuses *statuses // nil: no forge is told

	mu     sync.Mutex
	read   bool
	ledger ledger // Behind is what was read, and is worked off; what waits is in queues
	dirty  bool
	early  map[string][]early // seen before the ledger was read
	wrong  map[[2]string]bool // by stack: notifiers that there are not, and that was told
}

// early is a sight that waits, with who is to be told.
type early struct {
	sight
	to []spec.Receiver
}

func newNotices(c Config, n notes, leads func() bool, m *metrics) *notices {
	if len(c.Notify) == 0 && c.CommitStatus == nil {
		return nil
	}
	x := &notices{
		log: c.Logger, owner: c.Owner, now: c.Now, leads: leads, on: c.NotifyOn, hint: make(chan struct{}, 1),
		count:    func(n *notifier, result string) { m.notified(n.id, result) },
		statuses: newStatuses(c, m),
	}
	if n != nil {
		x.note = &note{n, reconcile.KindTold, c.Owner}
	}
	for _, target := range c.Notify {
		x.all = append(x.all, &notifier{name: target.name, id: target.id, to: target.sender, wake: make(chan struct{}, 1)})
		m.notifies(target.id)
	}
	x.wrong = map[[2]string]bool{}
	x.forget()
	return x
}

// forget drops what another controller may change from now on, and what it will send.
func (c *notices) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read, c.dirty, c.ledger = false, false, ledger{Lines: map[string]line{}}
	c.early = map[string][]early{}
	for _, n := range c.all {
		n.queue = nil
	}
	c.statuses.forget()
}

// stands is told that this controller began to act, or ceased to.
func (c *notices) stands() {
	if c != nil {
		c.forget()
		poke(c.hint)
	}
}

// see takes in what was seen of a stack; to is who x-skep says is to be told.
func (c *notices) see(stack string, s sight, to []spec.Receiver) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.leads() || len(c.all) == 0 {
		return
	}
	c.check(stack, to)
	if !c.read {
		c.early[stack] = append(c.early[stack], early{s, to})
		if n := len(c.early[stack]); n > sightsMost {
			c.early[stack] = c.early[stack][n-sightsMost:]
		}
		poke(c.hint)
		return
	}
	c.take(stack, s, to)
}

// check tells once of a notifier that a stack names and that there is not.
func (c *notices) check(stack string, to []spec.Receiver) {
	for _, r := range to {
		known := slices.ContainsFunc(c.all, func(n *notifier) bool { return n.name == r.To })
		if at := [2]string{stack, r.To}; !known && !c.wrong[at] {
			c.wrong[at] = true
			c.log.Warn("stack names a notifier that there is not", zap.String("stack", stack), zap.String("notifier", r.To),
				zap.String("detail", "x-skep.notify names it: give it to skep run as --notify "+r.To+"=URL, or correct the name"))
		}
	}
}

// take compares a sight with what was said, to everybody and to those who are behind.
func (c *notices) take(stack string, s sight, to []spec.Receiver) {
	var base *line
	if was, ok := c.ledger.Lines[stack]; ok {
		base = &was
	}
	news, next := base.compare(s)
	for _, n := range c.all {
		behind, ok := c.ledger.Behind[n.id][stack]
		if !ok {
			c.post(n, stack, s, before(base, s, next), news, to)
			continue
		}
		mine, then := behind.compare(s)
		c.post(n, stack, s, behind, mine, to)
		if then.same(next) {
			delete(c.ledger.Behind[n.id], stack)
			c.changed()
		} else if !then.same(behind) {
			c.ledger.Behind[n.id][stack] = then
			c.changed()
		}
	}
	if base == nil && next.same(line{Release: unsaid}) || base != nil && next.same(*base) && next.Said == base.Said {
		return
	}
	c.ledger.Lines[stack] = next
	c.changed()
}

// before is what was said of a stack when a sight came: of one of which nothing was, what
// has the same sight be the same news again.
func before(base *line, s sight, next line) line {
	switch {
	case base != nil:
		return *base
	case s.fresh:
		return line{Release: s.release - 1}
	}
	return line{Release: next.Release}
}

// post puts news into a notifier's queue, if it is to be told of them.
func (c *notices) post(n *notifier, stack string, s sight, from line, news []happening, to []spec.Receiver) {
	for i, h := range news {
		if !c.routed(n, h.event, stack, to) {
			continue
		}
		l := letter{Message: newMessage(c.owner, stack, h, s.about, from.Said+i, c.now()), before: from, since: c.now()}
		if n.put(l) {
			c.count(n, dropped)
			c.log.Warn("message was dropped, others wait for its receiver", zap.String("notifier", n.id))
		}
	}
}

// defaultNotifier is the name of those that a stack is told to which names none.
const defaultNotifier = "default"

// routed says whether a notifier is to be told of an event.
func (c *notices) routed(n *notifier, e spec.Event, stack string, to []spec.Receiver) bool {
	if stack == "" || to == nil {
		to = []spec.Receiver{{To: defaultNotifier, On: c.on}}
	}
	return slices.ContainsFunc(to, func(r spec.Receiver) bool { return r.To == n.name && r.Wants(e) })
}

// leave has whoever acts next send a letter that was not sent.
func (c *notices) leave(n *notifier, l letter) {
	if c.ledger.Behind == nil {
		c.ledger.Behind = map[string]map[string]line{}
	}
	if c.ledger.Behind[n.id] == nil {
		c.ledger.Behind[n.id] = map[string]line{}
	}
	if _, ok := c.ledger.Behind[n.id][l.Stack]; !ok {
		c.ledger.Behind[n.id][l.Stack] = l.before
	}
}

func (c *notices) changed() {
	c.dirty = true
	poke(c.hint)
}

// standing is the ledger as it is to be kept: those for whom letters wait are behind.
func (c *notices) standing() ledger {
	out := ledger{Lines: c.ledger.Lines, Commits: c.ledger.Commits, Refused: c.ledger.Refused}
	for _, n := range c.all {
		behind := map[string]line{}
		for _, l := range n.queue {
			if _, ok := behind[l.Stack]; !ok {
				behind[l.Stack] = l.before
			}
		}
		maps.Copy(behind, c.ledger.Behind[n.id]) // they are behind by more
		if len(behind) > 0 {
			if out.Behind == nil {
				out.Behind = map[string]map[string]line{}
			}
			out.Behind[n.id] = behind
		}
	}
	return out
}

// notify sends messages until ctx ends, and for at most flushLimit those that wait then.
func (c *controller) notify(ctx context.Context) {
	flush, stopFlush := outlive(ctx, flushLimit*3/4)
	defer stopFlush()
	kept, stopKept := outlive(ctx, flushLimit)
	defer stopKept()
	var senders sync.WaitGroup
	for _, n := range c.notices.all {
		senders.Go(func() { c.notices.deliver(ctx, flush, n) })
	}
	if c.notices.statuses != nil {
		senders.Go(func() { c.notices.tellCommits(ctx, flush) })
	}
	c.notice(ctx)
	senders.Wait()
	c.notices.keep(kept)
}

// notice looks at what belongs to no pass, and keeps the ledger, until ctx ends.
func (c *controller) notice(ctx context.Context) {
	every := time.NewTicker(noticeEvery)
	defer every.Stop()
	for {
		c.lookAround(ctx)
		select {
		case <-ctx.Done():
			return
		case <-every.C:
			continue
		case <-c.notices.hint:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(noticePause):
		}
	}
}

func (c *controller) lookAround(ctx context.Context) {
	x := c.notices
	if !x.leads() {
		x.forget()
		return
	}
	if c.engine.up() != nil || !x.open(ctx) {
		return // in a while
	}
	c.seeAll()
	x.keep(ctx)
}

// open reads the ledger, where that was not done since this controller acts, and takes
// in what was seen before.
func (c *notices) open(ctx context.Context) bool {
	c.mu.Lock()
	read := c.read
	c.mu.Unlock()
	if read {
		return true
	}
	l := ledger{Lines: map[string]line{}}
	if c.note != nil {
		stands, err := c.note.read(ctx)
		if err != nil {
			c.log.Debug("what was told cannot be read", zap.Error(err))
			return false
		}
		if stands != nil {
			l = parseLedger(stands.Spec.Labels[labelTold])
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(l.Behind, func(id string, _ map[string]line) bool {
		return !slices.ContainsFunc(c.all, func(n *notifier) bool { return n.id == id })
	})
	c.read, c.ledger = true, l
	for _, stack := range slices.Sorted(maps.Keys(c.early)) {
		for _, e := range c.early[stack] {
			c.take(stack, e.sight, e.to)
		}
	}
	c.early = map[string][]early{}
	if c.statuses != nil {
		for _, stack := range slices.Sorted(maps.Keys(c.statuses.early)) {
			c.takeCommit(stack, c.statuses.early[stack])
		}
		c.statuses.early = map[string]commitSight{}
	}
	return true
}

// keep writes the ledger where it changed.
func (c *notices) keep(ctx context.Context) {
	c.mu.Lock()
	due, text := c.dirty && c.read && c.note != nil && c.leads(), ""
	if due {
		text, c.dirty = c.standing().text(), false
	}
	c.mu.Unlock()
	if !due {
		return
	}
	stands, err := c.note.read(ctx)
	if err == nil && (stands == nil || stands.Spec.Labels[labelTold] != text) {
		err = c.note.write(ctx, stands, map[string]string{labelTold: text})
	}
	if err != nil {
		c.log.Debug("what was told cannot be kept", zap.Error(err))
		c.mu.Lock()
		c.dirty = true // the next look tries again
		c.mu.Unlock()
	}
}

// told takes in what a pass found.
func (c *controller) told(in reconcile.Input, r reconcile.Result) {
	if c.notices == nil {
		return
	}
	c.notices.see(in.Name, seeStack(in, r), receivers(in.Stack))
	if s, ok := seeCommit(r); ok {
		c.notices.seeCommit(in.Name, s)
	}
	if c.desired.Load().problems[in.Name] == nil { // else the pass is over what was there before
		c.notices.seeRefusal(in.Name, refusedBy(in, r))
	}
}

func receivers(s *spec.Stack) []spec.Receiver {
	if s == nil {
		return nil
	}
	return s.Policy.Notify
}

// seeAll takes in what belongs to no pass: files that do not load, and what is about
// all stacks.
func (c *controller) seeAll() {
	d := c.desired.Load()
	if d.loaded {
		for _, name := range c.notices.readable(d) {
			t := trouble{}
			if d.problems[name] != nil {
				c.notices.seeRefusal(name, d.unloaded(name))
				t = trouble{Key: "file", Reason: sourceInvalid, Message: d.problem(name)}
			}
			c.notices.see(name, apart(map[spec.Event]trouble{spec.EventSourceUnreadable: t}), receivers(d.stacks[name]))
		}
		if c.engine.listed() {
			c.notices.only(d, d.known(c.live()))
		}
	}
	c.notices.see("", c.seeDirectory(d), nil)
}

// apart is a sight that is of no pass.
func apart(troubles map[spec.Event]trouble) sight {
	return sight{release: unsaid, troubles: troubles, about: about{Release: -1}}
}

// readable names the stacks whose files do not load, or did not.
func (c *notices) readable(d *desired) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	names := slices.Collect(maps.Keys(d.problems))
	for name, l := range c.ledger.Lines {
		if l.Open[spec.EventSourceUnreadable] != "" && name != "" && d.problems[name] == nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// seeDirectory is what is about all stacks.
func (c *controller) seeDirectory(d *desired) sight {
	s := apart(map[spec.Event]trouble{spec.EventPruneBlocked: {}, spec.EventPolicyUnreadable: {}})
	switch {
	case d.err == nil && d.loaded:
		s.troubles[spec.EventSourceUnreadable] = trouble{}
	case d.err != nil && sourceReason(d) == policyUnreadable: // that is told below
	case d.err != nil:
		if t, ok := c.unreadable(d.sources); ok {
			s.troubles[spec.EventSourceUnreadable] = t
		}
	}
	if b := c.kept.waiting(); b != nil {
		s.troubles[spec.EventPruneBlocked] = trouble{Key: b.ID, Reason: reconcile.PruneBlocked, Message: b.Why()}
	}
	if why := c.report.policyBroken(); why != "" {
		meanwhile := "the last good one stays in force: "
		if c.policy.missing() != nil {
			meanwhile = "nothing is done before it can be read: "
		}
		s.troubles[spec.EventPolicyUnreadable] = trouble{Key: "file", Reason: policyUnreadable, Message: meanwhile + why}
	}
	return s
}

// unreadable is the trouble of sources that have not been ready for a while; false where
// none has for so long. With several it names them: another one is news.
func (c *controller) unreadable(sources []standing) (t trouble, ok bool) {
	var keys, words []string
	for _, s := range sources {
		if s.err == nil || c.Now().Sub(s.since) < unreadableFor {
			continue
		}
		if len(keys) == 0 {
			t.Reason = spec.SourceReason(s.err)
		}
		keys = append(keys, s.name)
		words = append(words, c.called(s)+": "+s.err.Error())
	}
	if len(keys) == 0 {
		return trouble{}, false
	}
	if t.Key, t.Message = strings.Join(keys, ","), strings.Join(words, "; "); len(c.Sources) == 1 {
		t.Key, t.Message = "directory", sources[0].err.Error()
	}
	return t, true
}

// only drops the lines of stacks that there is nothing of any more.
func (c *notices) only(d *desired, known map[string]bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	over := func(name string) bool {
		return name != "" && !known[name] && !d.knows(name) && d.missing[name].IsZero()
	}
	for name := range c.ledger.Lines {
		if over(name) {
			delete(c.ledger.Lines, name)
			for _, behind := range c.ledger.Behind {
				delete(behind, name)
			}
			c.changed()
		}
	}
	for name := range c.ledger.Commits {
		if over(name) {
			delete(c.ledger.Commits, name)
			c.changed()
		}
	}
	for name := range c.ledger.Refused {
		if over(name) {
			delete(c.ledger.Refused, name)
			c.changed()
		}
	}
}
