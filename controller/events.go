package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
)

// openLimit is how long the engine has to answer a request for events: its
// answer's head comes at once, the events later.
const openLimit = 10 * time.Second

// Events is the engine's stream of events. *client.Client of
// github.com/docker/docker has it.
type Events interface {
	Events(ctx context.Context, options events.ListOptions) (<-chan events.Message, <-chan error)
}

// A stream follows the engine's events. An event is a hint to look, never the
// truth: streams lose events, and can fall silent while they stay open, which
// resync makes up for. No event tells of tasks.
type stream struct {
	source Events
	opened chan<- struct{} // poked when the stream opens
	hints  chan struct{}   // poked by every event
	report *report
	// noticed is told the name of a config that an event is about, and "" when the
	// stream opens: what came before was missed.
	noticed func(config string)
	// hears is told the same first, and says whether that was all there is to do.
	hears func(config string) bool
}

// run keeps a stream open until ctx ends.
func (s *stream) run(ctx context.Context) {
	delay := backoff{first: engineFirst, most: engineMost}
	for {
		opened, err := s.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		s.report.streamLost(err)
		if opened {
			delay.reset()
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(delay.wait()):
		}
	}
}

// follow opens a stream and follows it to its end. It says whether it opened.
func (s *stream) follow(ctx context.Context) (opened bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	late := time.AfterFunc(openLimit, func() { cancel(fmt.Errorf("no answer within %s", openLimit)) })
	messages, errs := s.source.Events(ctx, events.ListOptions{Filters: swarmEvents()})
	if !late.Stop() {
		return false, fmt.Errorf("open the event stream: %w", context.Cause(ctx))
	}
	select {
	case err := <-errs:
		return false, fmt.Errorf("open the event stream: %w", ended(err))
	default:
	}
	s.report.streamOpen()
	s.noticed("")
	select {
	case s.opened <- struct{}{}:
	default:
	}
	for {
		select {
		case m := <-messages:
			if m.Type == events.ConfigEventType {
				name := m.Actor.Attributes["name"]
				if s.hears(name) {
					continue
				}
				s.noticed(name)
			}
			poke(s.hints)
		case err := <-errs:
			return true, fmt.Errorf("follow the event stream: %w", ended(err))
		case <-ctx.Done():
			return true, ctx.Err()
		}
	}
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
