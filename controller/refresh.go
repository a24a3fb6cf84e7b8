package controller

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/client"
)

// How the engine is listed: hints are gathered until there is a pause, and an
// engine that cannot be listed is tried again with backoff.
const (
	hintPause    = 100 * time.Millisecond // so long without a hint ends the gathering
	hintMost     = time.Second            // so long it lasts at most
	listLimit    = 75 * time.Second       // then a listing has failed: two requests, one after the other, that take their time
	engineFirst  = time.Second
	engineMost   = 15 * time.Second
	streamBefore = time.Second // so long the first listing waits for the event stream
)

// A refresher keeps the reconciler's view of the Swarm fresh: it is the only one
// that calls Refresh, on events, at every resync and when a pass came to doubt the
// engine. While the engine cannot be listed no stack is worked on and no stream is
// opened, so that one loop asks for it, with one backoff, and not every stack; nor
// while a listing is to tell whether a pass doubted it rightly.
type refresher struct {
	reconciler Reconciler
	// check says whether the engine will do. It is asked before the first listing and
	// before one that may end an outage.
	check func(context.Context) error
	// explain makes a sentence for people of an engine's error.
	explain func(error) error
	resync  time.Duration
	queue   *queue
	report  *report
	health  *health
	// all holds the stacks that want a pass when everything does, and listedAgain is
	// called when the engine was listed for the first time, or after an outage.
	all         func() []string
	listedAgain func()
	// news is called when the engine went away or came back, or a listing showed changes.
	news func()
	// term is the term in which the controller acts, 0 while it does not. A listing that
	// began in a new one is as the first.
	term func() uint64

	opened chan struct{} // the event stream was opened: whatever happened before is unseen
	hints  chan struct{} // an event came, or a pass failed in a way that may be the engine's

	mu      sync.Mutex
	ever    bool  // it was listed at least once
	err     error // why it cannot be listed; nil while it can
	since   time.Time
	doubted bool            // a pass failed as if it could not be
	held    map[string]bool // stacks whose passes wait for what becomes of that
	gate    gate
	in      uint64 // the term in which the newest listing began
}

// upIn says that the engine can be listed, and was since a term began.
func (r *refresher) upIn(term uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ever && r.err == nil && r.in == term
}

// up says whether the engine could be listed the last time; if not, why not.
func (r *refresher) up() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil && !r.ever {
		return errors.New("the engine was not listed yet")
	}
	return r.err
}

// away says why the engine cannot be listed, and since when; "" while it can.
func (r *refresher) away() (why string, since time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.err != nil:
		return r.err.Error(), r.since
	case !r.ever:
		return "the engine was not listed yet", time.Time{}
	}
	return "", time.Time{}
}

// listed says whether there ever was a listing.
func (r *refresher) listed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ever
}

// doubt asks for a listing if err may be the engine's failing rather than the
// stack's. Until it was made, no other pass is.
func (r *refresher) doubt(err error) {
	if !fromEngine(err) {
		return
	}
	r.mu.Lock()
	r.doubted = r.err == nil
	r.mu.Unlock()
	poke(r.hints)
}

// hold says that no pass is to be made over a stack now. It gets one as soon as the
// engine is known to work.
func (r *refresher) hold(stack string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ever && r.err == nil && !r.doubted {
		return false
	}
	if r.held == nil {
		r.held = map[string]bool{}
	}
	r.held[stack] = true
	return true
}

// release ends all doubt, and returns the stacks that were held.
func (r *refresher) release() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	held := slices.Sorted(maps.Keys(r.held))
	r.doubted, r.held = false, nil
	return held
}

// fromEngine says that an error tells of an engine that does not work, or not now.
func fromEngine(err error) bool {
	if err == nil {
		return false
	}
	var network net.Error
	return client.IsErrConnectionFailed(err) || errors.As(err, &network) || cerrdefs.IsUnavailable(err) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, context.DeadlineExceeded) ||
		slices.ContainsFunc(engineWords, func(words string) bool { return strings.Contains(err.Error(), words) })
}

// engineWords are what engines say of themselves with a code that says nothing.
var engineWords = []string{
	"does not have a leader", "lost leader status", "not a swarm manager",
	"code = DeadlineExceeded", "code = Unavailable", "needs to be unlocked",
}

// A cause is why the engine is listed.
type cause int

const (
	stopped  cause = iota // it is not: the context ended
	hinted                // something may have changed
	resynced              // time passed
)

// run lists the engine whenever it is due, until ctx ends. After a resync's listing
// and after one that ends an outage every stack gets a pass, else those that the
// listing shows changed.
func (r *refresher) run(ctx context.Context) {
	pulse := time.NewTicker(pulseEvery)
	defer pulse.Stop()
	resync := time.NewTicker(r.resync)
	defer resync.Stop()
	delay := backoff{first: engineFirst, most: engineMost}

	why := hinted
	for why != stopped {
		if r.up() != nil {
			if err := r.reach(ctx); err != nil {
				why = r.lost(ctx, err, &delay, pulse.C)
				continue
			}
			// What happens between the listing and the first event must not be missed.
			if r.waitUp(ctx, streamBefore, pulse.C) == stopped {
				return
			}
		}
		term := r.term()
		changed, err := r.list(ctx)
		if err != nil {
			why = r.lost(ctx, err, &delay, pulse.C)
			continue
		}
		delay.reset()
		back, held := r.nowUp(term), r.release()
		if back || len(changed) > 0 {
			r.news()
		}
		switch {
		case back:
			r.listedAgain()
			r.queue.changed(r.all()...)
		case why == resynced:
			r.queue.look(r.all()...)
		default:
			r.queue.look(changed...)
		}
		if !back { // when all got one
			r.queue.resume(held...)
		}
		why = r.waitHint(ctx, resync.C, pulse.C)
	}
}

// reach asks whether the engine will do, and lets the event stream open where it will.
func (r *refresher) reach(ctx context.Context) error {
	err := protect(func() error { return r.check(ctx) })
	if err == nil {
		r.gate.open()
	}
	return err
}

// lost notes that the engine cannot be listed, and waits until it is to be tried again.
func (r *refresher) lost(ctx context.Context, err error, delay *backoff, pulse <-chan time.Time) cause {
	if ctx.Err() != nil {
		return stopped
	}
	r.gate.close()
	r.release() // all stacks get a pass when it is back
	r.down(r.explain(err))
	return r.waitUp(ctx, delay.wait(), pulse)
}

// list calls Refresh within its time limit, a panic in it being an error.
func (r *refresher) list(ctx context.Context) (changed []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, listLimit)
	defer cancel()
	err = protect(func() error {
		changed, err = r.reconciler.Refresh(ctx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list the Swarm: %w", err)
	}
	return changed, nil
}

// down notes that the engine cannot be listed.
func (r *refresher) down(err error) {
	r.mu.Lock()
	first := r.err == nil
	r.err = err
	if first {
		r.since = time.Now()
	}
	r.mu.Unlock()
	r.news()
	r.report.engineDown(err)
}

// nowUp notes that the engine was listed, and says whether it could not be before, or
// not yet in this term.
func (r *refresher) nowUp(term uint64) bool {
	r.mu.Lock()
	first, lost := !r.ever || term > 0 && term != r.in, r.err != nil
	outage := time.Since(r.since)
	r.ever, r.err, r.in = true, nil, term
	r.mu.Unlock()
	if lost {
		r.report.engineUp(outage)
	}
	return first || lost
}

// waitUp waits for d, or for the event stream to open: an engine that takes a
// stream is worth another try at once.
func (r *refresher) waitUp(ctx context.Context, d time.Duration, pulse <-chan time.Time) cause {
	timer := time.NewTimer(d)
	defer timer.Stop()
	for {
		r.health.beat("engine")
		select {
		case <-ctx.Done():
			return stopped
		case <-timer.C:
			return hinted
		case <-r.opened:
			return hinted
		case <-pulse:
		}
	}
}

// waitHint waits until a listing is due.
func (r *refresher) waitHint(ctx context.Context, resync, pulse <-chan time.Time) cause {
	for {
		r.health.beat("engine")
		select {
		case <-ctx.Done():
			return stopped
		case <-resync:
			return resynced
		case <-r.opened:
			return hinted
		case <-r.hints:
			return r.gather(ctx)
		case <-pulse:
		}
	}
}

// gather takes in hints until they pause, or for long enough.
func (r *refresher) gather(ctx context.Context) cause {
	most := time.NewTimer(hintMost)
	defer most.Stop()
	pause := time.NewTimer(hintPause)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return stopped
		case <-most.C:
			return hinted
		case <-pause.C:
			return hinted
		case <-r.opened: // the listing to come is after it
		case <-r.hints:
			pause.Reset(hintPause)
		}
	}
}

// A gate is passed by those who need an engine, while there is one. The zero value is
// closed.
type gate struct {
	mu     sync.Mutex
	opened bool
	change chan struct{} // closed when it opens; nil: nobody waits
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.opened = true
	if g.change != nil {
		close(g.change)
		g.change = nil
	}
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.opened = false
}

// pass waits until the gate is open. It is false where ctx ended first.
func (g *gate) pass(ctx context.Context) bool {
	for ctx.Err() == nil {
		g.mu.Lock()
		if g.opened {
			g.mu.Unlock()
			return true
		}
		if g.change == nil {
			g.change = make(chan struct{})
		}
		change := g.change
		g.mu.Unlock()
		select {
		case <-change:
		case <-ctx.Done():
		}
	}
	return false
}

// poke makes a channel of capacity one readable.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
