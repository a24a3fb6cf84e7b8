package controller

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/skep-io/skep/reconcile"
)

// Of several controllers a hook reaches one, and mostly not the one that acts. That one
// is told by the only way there is between them: the Swarm. A config object of the owner
// is written, its event is the message, and what is in it is of no account. It is all
// that a controller writes that stands by, and only somebody with a secret has it do so.

const (
	labelLook = reconcile.LabelPrefix + "look"
	// relayEvery is how often, at most, a look is passed on: many hooks are one look.
	relayEvery = time.Second
)

// A relay passes looks on to who acts.
type relay struct {
	note   *note
	wanted chan struct{}
}

func newRelay(n notes, owner string) *relay {
	if n == nil {
		return nil
	}
	return &relay{&note{n, reconcile.KindLook, owner}, make(chan struct{}, 1)}
}

// look is told by a forge that there may be something new. Looks that come while one is
// due are that one.
func (c *controller) look() {
	c.lookHere()
	if c.relay != nil && !c.leads() {
		poke(c.relay.wanted)
	}
}

// lookHere has the sources of this controller looked at.
func (c *controller) lookHere() {
	for _, s := range c.Sources {
		if s.Look != nil {
			s.Look()
		}
	}
	c.feeds.readSoon()
}

// relayed is told of a config of KindLook that somebody wrote.
func (c *controller) relayed(config string) {
	if config == reconcile.OwnName(reconcile.KindLook, c.Owner) && c.leads() {
		c.lookHere()
	}
}

// passOn writes what is to be passed on, until ctx ends.
func (c *controller) passOn(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.relay.wanted:
		}
		if err := c.relay.write(ctx, c.Now()); err != nil && ctx.Err() == nil {
			// Who acts asks by itself, a while later; and where another one wrote
			// meanwhile, that was the message.
			c.Logger.Debug("a hook cannot be passed on to the controller that acts", zap.Error(err))
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(relayEvery):
		}
	}
}

func (r *relay) write(ctx context.Context, now time.Time) error {
	stands, err := r.note.read(ctx)
	if err != nil {
		return err
	}
	return r.note.write(ctx, stands, map[string]string{labelLook: now.UTC().Format(time.RFC3339Nano)})
}
