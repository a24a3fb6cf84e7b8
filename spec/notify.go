package spec

import (
	"regexp"
	"slices"
	"strings"
)

// An Event is something that messages are sent about. Its name does not change once it
// was released: files and receivers name it.
type Event string

// What messages are sent about.
const (
	EventRolledOut        Event = "rolled-out"        // a release became healthy
	EventRolledBack       Event = "rolled-back"       // a release failed, and an earlier one runs
	EventDegraded         Event = "degraded"          // services are sick by themselves
	EventHeld             Event = "held"              // there is something to write, and it is not to be
	EventSourceUnreadable Event = "source-unreadable" // a stack's file, or the directory
	EventPruneBlocked     Event = "prune-blocked"     // a removal waits for a person
	EventPolicyUnreadable Event = "policy-unreadable" // the file of --policy
	EventRecovered        Event = "recovered"         // what was told of is no more
)

// Events are all of them, in the order in which documents have them.
func Events() []Event {
	return []Event{EventRolledOut, EventRolledBack, EventDegraded, EventHeld, EventSourceUnreadable, EventPruneBlocked, EventPolicyUnreadable, EventRecovered}
}

// A Receiver is who is to get a stack's messages: a notifier's name, and the events that
// it is told of; none are all of them.
type Receiver struct {
	To string
	On []Event
}

// Wants says that an event is among those.
func (r Receiver) Wants(e Event) bool { return len(r.On) == 0 || slices.Contains(r.On, e) }

// maxReceivers is how many entries a stack may have.
const maxReceivers = 20

var notifierName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)

// IsNotifierName says whether a notifier can have that name.
func IsNotifierName(name string) bool { return notifierName.MatchString(name) }

// readNotify reads x-skep.notify: names of notifiers, or names with events. A list that
// is empty is kept as one: then nobody is told.
func readNotify(f *fields, to *[]Receiver) {
	list := f.list("notify")
	if list == nil {
		return
	}
	out := []Receiver{}
	for i, value := range list {
		var r Receiver
		switch v := value.(type) {
		case string:
			r.To = v
		case map[string]any:
			inner := fields{report: f.report, block: v, at: under(f.at, "notify")}
			inner.known("to", "on")
			r.To, _ = v["to"].(string)
			for _, event := range inner.list("on") {
				if e, ok := readEvent(&inner, event); ok && !slices.Contains(r.On, e) {
					r.On = append(r.On, e)
				}
			}
		}
		switch {
		case !IsNotifierName(r.To):
			f.fail("notify", "holds no notifier's name at position %d (write NAME, or {to: NAME, on: [rolled-back]}, with a name of small letters, digits and - as --notify NAME=URL gives it)", i+1)
		default:
			out = withReceiver(out, r)
		}
	}
	if len(list) > maxReceivers {
		f.fail("notify", "has %d entries, more than the %d that there may be (take some out)", len(list), maxReceivers)
	}
	*to = out
}

// withReceiver adds one, to what its name gets already where it is named twice.
func withReceiver(all []Receiver, r Receiver) []Receiver {
	i := slices.IndexFunc(all, func(other Receiver) bool { return other.To == r.To })
	switch {
	case i < 0:
		return append(all, r)
	case len(all[i].On) == 0 || len(r.On) == 0:
		all[i].On = nil
	default:
		all[i].On = append(all[i].On, r.On...)
	}
	return all
}

func readEvent(f *fields, value any) (Event, bool) {
	if slices.Contains(Events(), Event(text(value))) {
		return Event(text(value)), true
	}
	f.fail("on", "holds %q, which is no event%s", text(value), orOneOf(f.report.nearest(text(value), eventNames())))
	return "", false
}

func orOneOf(near string) string {
	if near != "" {
		return " (did you mean " + near + "?)"
	}
	return " (the events are " + strings.Join(eventNames(), ", ") + ")"
}

func eventNames() []string {
	var names []string
	for _, e := range Events() {
		names = append(names, string(e))
	}
	return names
}
