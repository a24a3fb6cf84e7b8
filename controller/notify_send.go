package controller

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

const (
	// sendLimit is how long one attempt may take.
	sendLimit = 10 * time.Second
	// sendFor is how long a message is tried again before it is given up: what comes
	// after it is news by then.
	sendFor = 15 * time.Minute
	// The pause after an attempt that failed grows from the first to the last.
	sendPause, sendPauseMost = time.Second, time.Minute
	// queueMost is how many messages wait for a notifier; of more the oldest go.
	queueMost = 100
	// flushLimit is how long a stop lets messages that wait be sent.
	flushLimit = 2 * time.Second
)

// A sender brings a message to where a URL says. Its errors never hold the URL.
type sender interface {
	send(ctx context.Context, m Message) error
}

// errRefused says that a receiver will not take the message, however often it is sent.
var errRefused = errors.New("refused")

// What comes of a message, or an attempt: the values of the metric's label.
const (
	sent      = "sent"
	attempted = "error"   // an attempt failed; it is tried again, or given up
	givenUp   = "failed"  // the message was given up
	dropped   = "dropped" // it waited behind too many others
)

var sendResults = []string{sent, attempted, givenUp, dropped}

// A letter is a message on its way to one notifier.
type letter struct {
	Message
	before line // what the notifier was told of the stack before it
	since  time.Time
}

// A notifier sends messages to one receiver, one after the other. Its queue belongs to
// the notices' lock.
type notifier struct {
	name  string // by which stacks route
	id    string // of it alone: the metric's label, and the ledger's
	to    sender
	queue []letter // the first is being sent
	wake  chan struct{}
	bad   bool // the last attempt failed, and that was told
}

// put adds a letter, for which the oldest that is not being sent goes where there is no
// room. It says whether one did.
func (n *notifier) put(l letter) (full bool) {
	if full = len(n.queue) >= queueMost; full {
		n.queue = append(n.queue[:1:1], n.queue[2:]...)
	}
	n.queue = append(n.queue, l)
	poke(n.wake)
	return full
}

// deliver sends what comes into n's queue until ctx ends, and then what is in it, each
// once, until flush ends.
func (c *notices) deliver(ctx, flush context.Context, n *notifier) {
	pause := sendPause
	for {
		l, ok := c.next(n)
		if !ok {
			select {
			case <-ctx.Done():
				return
			case <-n.wake:
			}
			continue
		}
		err := c.attempt(flush, n, l)
		stopping := ctx.Err() != nil
		over := c.now().Sub(l.since) > sendFor || errors.Is(err, errRefused)
		if err == nil || over || stopping {
			c.done(n, l, err, stopping && !over)
			pause = sendPause
			continue
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause/2 + rand.N(pause)):
		}
		pause = min(2*pause, sendPauseMost)
	}
}

// next is the letter to send now, if this controller acts.
func (c *notices) next(n *notifier) (letter, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(n.queue) == 0 || !c.leads() {
		return letter{}, false
	}
	return n.queue[0], true
}

func (c *notices) attempt(ctx context.Context, n *notifier, l letter) error {
	ctx, cancel := context.WithTimeout(ctx, sendLimit)
	defer cancel()
	var err error
	if panicked := protect(func() error { err = n.to.send(ctx, l.Message); return nil }); panicked != nil {
		err = errors.New("the service's library failed in a way that it should not")
	}
	if err != nil {
		c.count(n, attempted)
		level := zapcore.DebugLevel
		if !n.bad {
			n.bad, level = true, zapcore.WarnLevel
		}
		c.log.Log(level, "messages cannot be sent", zap.String("notifier", n.id), zap.Error(err))
		return err
	}
	if c.count(n, sent); n.bad {
		n.bad = false
		c.log.Info("messages can be sent again", zap.String("notifier", n.id))
	}
	return nil
}

// done takes a letter out of the queue. One that a stop cut short stays untold, for
// whoever acts next.
func (c *notices) done(n *notifier, l letter, err error, cut bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(n.queue) == 0 || n.queue[0].ID != l.ID { // another controller acts by now
		return
	}
	n.queue = n.queue[1:]
	switch {
	case err != nil && cut:
		c.leave(n, l)
	case err != nil:
		c.count(n, givenUp)
		c.log.Warn("message was given up", zap.String("notifier", n.id), zap.String("stack", l.Stack), zap.String("detail", l.Title), zap.Error(err))
	}
	c.changed()
}
