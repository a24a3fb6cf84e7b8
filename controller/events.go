package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
)

const (
	// openLimit is how long the engine has to answer a request for events: its
	// answer's head comes at once, the events later.
	openLimit = requestLimit
	// streamSilence is how long a stream may tell nothing before it is opened anew. One
	// that is dead, and does not know it, looks like a quiet Swarm. (A Swarm in which a
	// lease is renewed is never as quiet as that.) A resync sees what became of services
	// meanwhile; what somebody asked of a stack is seen by events alone.
	streamSilence = 2 * time.Minute
	// streamGood is how long a stream has to last to count as more than a failed try:
	// there are engines, and proxies in front of them, that take one and drop it.
	streamGood = time.Minute
	// streamSome is how long it has to have lasted for its end to be news of the engine.
	streamSome = 5 * time.Second
)

// errSilent ends a stream that told nothing for too long.
var errSilent = errors.New("it told nothing for too long")

// Events is the engine's stream of events. *client.Client of
// github.com/docker/docker has it.
type Events interface {
	Events(ctx context.Context, options events.ListOptions) (<-chan events.Message, <-chan error)
}

// A stream follows the engine's events. An event is a hint to look, never the
// truth: streams lose events, and can fall silent while they stay open, which
// resync makes up for, and a watch over the silence. No event tells of tasks.
type stream struct {
	source Events
	gate   *gate           // passed before it opens
	opened chan<- struct{} // poked when the stream opens
	hints  chan struct{}   // poked by every event
	report *report
	// noticed is told the name of a config that an event is about, and "" when the
	// stream opens: what came before was missed.
	noticed func(config string)
	// hears is told the same first, and says whether that was all there is to do.
	hears func(config string) bool
	// reopened is told when the stream opens that was open before.
	reopened func()
	opens    int // so often it was open
}

// run keeps a stream open until ctx ends.
func (s *stream) run(ctx context.Context) {
	delay := backoff{first: engineFirst, most: engineMost}
	for s.gate.pass(ctx) {
		began := time.Now()
		err := s.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		lasted := time.Since(began)
		if lasted >= streamGood {
			delay.reset()
		}
		if errors.Is(err, errSilent) {
			continue
		}
		s.report.streamLost(err)
		if lasted >= streamSome { // the engine may have gone with it: a listing tells
			poke(s.hints)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(delay.wait()):
		}
	}
}

// follow opens a stream and follows it to its end.
func (s *stream) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	late := time.AfterFunc(openLimit, func() { cancel(fmt.Errorf("no answer within %s", openLimit)) })
	messages, errs := s.source.Events(ctx, events.ListOptions{Filters: swarmEvents()})
	if !late.Stop() {
		return fmt.Errorf("open the event stream: %w", context.Cause(ctx))
	}
	select {
	case err := <-errs:
		return fmt.Errorf("open the event stream: %w", ended(err))
	default:
	}
	if s.opens++; s.opens > 1 {
		s.reopened()
	}
	s.report.streamOpen()
	s.noticed("")
	select {
	case s.opened <- struct{}{}:
	default:
	}
	silence := time.NewTimer(spread(streamSilence))
	defer silence.Stop()
	for {
		select {
		case m := <-messages:
			silence.Reset(spread(streamSilence))
			s.heard(m)
		case <-silence.C:
			return errSilent
		case err := <-errs:
			return fmt.Errorf("follow the event stream: %w", ended(err))
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// heard takes in an event.
func (s *stream) heard(m events.Message) {
	if m.Type == events.ConfigEventType {
		name := m.Actor.Attributes["name"]
		if s.hears(name) {
			return
		}
		s.noticed(name)
		if isNote(name) { // no stack's: there is nothing to look at
			return
		}
	}
	poke(s.hints)
}

// ended gives an end without an error a name.
func ended(err error) error {
	if err == nil {
		return errors.New("the engine closed it")
	}
	return err
}

// swarmEvents are those that can tell of a stack's objects or their nodes.
func swarmEvents() filters.Args {
	return filters.NewArgs(
		filters.Arg("scope", "swarm"),
		filters.Arg("type", string(events.ServiceEventType)),
		filters.Arg("type", string(events.NodeEventType)),
		filters.Arg("type", string(events.NetworkEventType)),
		filters.Arg("type", string(events.ConfigEventType)),
		filters.Arg("type", string(events.SecretEventType)),
	)
}
