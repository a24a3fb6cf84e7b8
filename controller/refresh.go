package controller

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/docker/docker/client"
)

// How the engine is listed: hints are gathered until there is a pause, and an
// engine that cannot be listed is tried again with backoff.
const (
	hintPause    = 100 * time.Millisecond // so long without a hint ends the gathering
	hintMost     = time.Second            // so long it lasts at most
	listLimit    = 30 * time.Second       // then a listing has failed; engines give up on their leader after 20 s
	engineFirst  = time.Second
	engineMost   = 30 * time.Second
	streamBefore = time.Second // so long the first listing waits for the event stream
)

// A refresher keeps the reconciler's view of the Swarm fresh: it is the only one
// that calls Refresh, on events, at every resync and when a pass came to doubt the
// engine. While the engine cannot be listed no stack is worked on, so that one
// loop asks for it and not every stack.
type refresher struct {
	reconciler Reconciler
	resync     time.Duration
	queue      *queue
	report     *report
	health     *health
	// all holds the stacks that want a pass when everything does, and listedAgain is
	// called when the engine was listed for the first time, or after an outage.
	all         func() []string
	listedAgain func()
	// term is the term in which the controller acts, 0 while it does not. A listing that
	// began in a new one is as the first.
	term func() uint64

	opened chan struct{} // the event stream was opened: whatever happened before is unseen
	hints  chan struct{} // an event came, or a pass failed in a way that may be the engine's

	mu    sync.Mutex
	ever  bool  // it was listed at least once
	err   error // why it cannot be listed; nil while it can
	since time.Time
	in    uint64 // the term in which the newest listing began
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

// listed says whether there ever was a listing.
func (r *refresher) listed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ever
}

// doubt asks for a listing if err may be the engine's failing rather than the
// stack's.
func (r *refresher) doubt(err error) {
	if fromEngine(err) {
		poke(r.hints)
	}
}

// fromEngine says that an error tells of an engine that does not work.
func fromEngine(err error) bool {
	if err == nil {
		return false
	}
	var network net.Error
	return client.IsErrConnectionFailed(err) || errors.As(err, &network) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, context.DeadlineExceeded) ||
		strings.Contains(err.Error(), "does not have a leader") || strings.Contains(err.Error(), "lost leader status")
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

	why := r.waitUp(ctx, streamBefore, pulse.C)
	for why != stopped {
		term := r.term()
		changed, err := r.list(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			r.down(err)
			why = r.waitUp(ctx, delay.wait(), pulse.C)
			continue
		}
		delay.reset()
		switch {
		case r.nowUp(term):
			r.listedAgain()
			r.queue.changed(r.all()...)
		case why == resynced:
			r.queue.look(r.all()...)
		default:
			r.queue.look(changed...)
		}
		why = r.waitHint(ctx, resync.C, pulse.C)
	}
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

// poke makes a channel of capacity one readable.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
