package controller

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/skep-io/skep/controller/forge"
	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
)

// What messages are sent about is found by comparing: what a pass sees of a stack now
// with what was said of it last. So a message that was due when a controller was killed
// is sent by the next one, and one that was sent is not sent again, whoever acts. What
// was said last is the ledger; it is kept in the Swarm and written when it changes.

// A line is what was said last about a stack, or, under the name "", about all of them.
type line struct {
	// Said counts the messages about it: a message's ID comes of it.
	Said int `json:"n,omitempty"`
	// Release is the newest release whose end was said or was not news; -1: none was
	// there, unsaid: that is not known.
	Release int `json:"r"`
	// Back says that this release failed and an earlier one runs.
	Back bool `json:"b,omitempty"`
	// Open are the troubles that were told of and are not over, by event; which one it
	// is, so that another one of the kind is told of.
	Open map[spec.Event]string `json:"o,omitempty"`
}

const unsaid = -2

// same says that two lines say the same, however often it was said.
func (l line) same(m line) bool {
	return l.Release == m.Release && l.Back == m.Back && maps.Equal(l.Open, m.Open)
}

// A sight is what was seen of a stack at one moment, as far as it could be told then.
type sight struct {
	// decided says that the newest release has come to an end; release and back are as
	// a line's. Where a sight is of no pass release is unsaid.
	decided bool
	release int
	back    bool
	ongoing bool // the release has not come to an end
	// fresh says that the release became healthy just now: that is news also where
	// nothing was ever said of the stack.
	fresh bool
	// troubles are those that are known to be there, or, where Key is empty, not to be.
	troubles map[spec.Event]trouble
	about    about
}

// A trouble is what is the matter.
type trouble struct {
	Key     string // tells it from others of its kind
	Reason  string
	Message string
	Service string
}

// about is what messages about a sight say beside what happened.
type about struct {
	Release           int // -1: none
	Revision, Commit  string
	Subject, ByHandOf string
	Message, Reason   string        // of how the release ended
	Took              time.Duration // where it ended just now
}

// A happening is one message's reason to be.
type happening struct {
	event spec.Event
	trouble
	ended []spec.Event // of EventRecovered: what is over
}

// compare says what a sight has that was not said, and what is then. The second result
// is what was said once that is.
//
//	the newest release      healthy, newer than the last one told   rolled-out
//	                        failed, and an earlier one runs         rolled-back
//	a trouble               new, or another one of its kind         its own event
//	                        over, and nothing rolled out            recovered
//
// Of a stack of which nothing was ever said only what is bad, and what a pass has just
// done, is news: who turns messages on does not want a message a stack.
func (l *line) compare(s sight) ([]happening, line) {
	next := line{Release: unsaid}
	if l != nil {
		next = *l
		next.Open = maps.Clone(l.Open)
	}
	var out []happening
	rolled := false
	switch {
	case !s.decided:
		if next.Release == unsaid { // what is under way will be news
			if next.Release = s.release; s.ongoing {
				next.Release--
			}
		}
	case s.release == next.Release && s.back == next.Back:
	case s.back:
		out = append(out, happening{event: spec.EventRolledBack, trouble: trouble{Reason: s.about.Reason, Message: s.about.Message}})
		next.Release, next.Back, rolled = s.release, true, true
	default:
		if s.release > next.Release && (next.Release != unsaid || s.fresh) {
			out = append(out, happening{event: spec.EventRolledOut, trouble: trouble{Reason: s.about.Reason, Message: s.about.Message}})
			rolled = true
		} else if next.Back && s.release == next.Release {
			out = append(out, happening{event: spec.EventRecovered, ended: []spec.Event{spec.EventRolledBack}})
		}
		next.Release, next.Back = s.release, false
	}
	begun, ended := next.turn(s.troubles)
	if len(ended) > 0 && !rolled {
		out = append(out, happening{event: spec.EventRecovered, ended: ended})
	}
	out = append(out, begun...)
	next.Said += len(out)
	return out, next
}

// turn takes in troubles that are there, and those that are not.
func (l *line) turn(seen map[spec.Event]trouble) (begun []happening, ended []spec.Event) {
	for _, event := range spec.Events() {
		t, known := seen[event]
		was, open := l.Open[event]
		switch {
		case !known || t.Key == was:
		case t.Key == "":
			if open {
				ended = append(ended, event)
				delete(l.Open, event)
			}
		default:
			begun = append(begun, happening{event: event, trouble: t})
			if l.Open == nil {
				l.Open = map[spec.Event]string{}
			}
			l.Open[event] = t.Key
		}
	}
	return begun, ended
}

// seeStack is what a pass saw of its stack.
func seeStack(in reconcile.Input, r reconcile.Result) sight {
	s := sight{release: releaseOf(r), troubles: map[spec.Event]trouble{}, about: aboutOf(in, r)}
	s.ongoing = r.Release != nil && r.Release.Phase == reconcile.PhaseProgressing
	if r.Outcome != reconcile.Unchanged && r.Outcome != reconcile.Held {
		s.ended(r)
		return s
	}
	s.troubles[spec.EventHeld], s.troubles[spec.EventPruneBlocked] = trouble{}, trouble{}
	if r.Outcome == reconcile.Held {
		s.hold(in, r)
	}
	if rel := r.Release; rel != nil && rel.Phase == reconcile.PhaseHealthy {
		s.decided = true
	}
	if r.Reason != "RollbackFailed" && r.Reason != "ReleaseFailed" { // which say it
		s.troubles[spec.EventDegraded] = sick(r)
	}
	s.ended(r)
	return s
}

// ended takes in how the newest release ended in this pass: by the next one another may
// have begun.
func (s *sight) ended(r reconcile.Result) {
	for _, t := range r.Transitions {
		switch t.Action {
		case "rollout-healthy":
			s.decided, s.back, s.fresh = true, false, true
			s.about.Reason, s.about.Took = t.Reason, t.Duration
		case "rolled-back":
			s.decided, s.back = true, true
			s.about.Reason = t.Reason
		}
	}
}

// hold takes in why nothing is written.
func (s *sight) hold(in reconcile.Input, r reconcile.Result) {
	switch {
	case r.Reason == "RolledBack" || r.Reason == "RollbackIncomplete":
		s.decided, s.back = true, true
	case r.Reason == reconcile.PruneBlocked:
		if b := r.State.Blockade(in.Name); b != nil && in.Stack != nil { // whole stacks are told of together
			s.troubles[spec.EventPruneBlocked] = trouble{Key: b.ID, Reason: r.Reason, Message: b.Why()}
		}
	default:
		s.troubles[spec.EventHeld] = trouble{Key: fmt.Sprintf("%s %d", r.Reason, s.release), Reason: r.Reason, Message: sentence(r)}
	}
}

// sick is that services are degraded by themselves.
func sick(r reconcile.Result) trouble {
	var worst *reconcile.ServiceStatus
	n := 0
	for i := range r.Services {
		if r.Services[i].Health == reconcile.HealthDegraded {
			n++
			worst = cmp.Or(worst, &r.Services[i])
		}
	}
	if worst == nil {
		return trouble{}
	}
	message := worst.Name + ": " + worst.Reason
	if n > 1 {
		message = fmt.Sprintf("%s (and %d more)", message, n-1)
	}
	return trouble{Key: "services", Reason: worst.Code, Message: message, Service: worst.Name}
}

func aboutOf(in reconcile.Input, r reconcile.Result) about {
	a := about{Release: -1, Reason: r.Reason, Message: sentence(r)}
	if rel := r.Release; rel != nil {
		a.Release, a.Revision, a.Commit, a.Subject = rel.Number, rel.Revision, rel.Commit, rel.Subject
		if rel.By == reconcile.ByHand {
			a.ByHandOf = fmt.Sprint(rel.Of)
		}
		if rel.Phase == reconcile.PhaseHealthy {
			a.Reason = rel.Reason
		}
	} else if in.Stack != nil {
		a.Revision = in.Stack.Source.Revision
	}
	return a
}

// ledger is what is kept: what was said of each stack, and where a notifier is behind
// that, what it was told last.
type ledger struct {
	Lines  map[string]line            `json:"lines"`
	Behind map[string]map[string]line `json:"behind,omitempty"` // by notifier and stack
	// Commits is what forges were told of each stack (see statuses).
	Commits map[string]commitLine `json:"commits,omitempty"`
	// Refused are commits that made no release, and that was told (see refusal).
	Refused map[string]refusedLine `json:"refused,omitempty"`
}

// maxLedger is how many bytes are kept: thousands of stacks. What is left out counts as
// never said.
const maxLedger = 256 << 10

func parseLedger(text string) ledger {
	var l ledger
	if len(text) > 2*maxLedger || json.Unmarshal([]byte(text), &l) != nil {
		l = ledger{} // what nobody can read is written over
	}
	if l.Lines == nil {
		l.Lines = map[string]line{}
	}
	return l
}

// text is the ledger within maxLedger: where it is more, lines without a trouble go
// first, and of commits those that nothing more is to be told of, a tenth at a time.
func (l ledger) text() string {
	for {
		b, err := json.Marshal(l)
		if err != nil {
			panic("encode what was told: " + err.Error()) // plain data
		}
		if len(b) <= maxLedger || len(l.Lines)+len(l.Commits)+len(l.Refused) == 0 {
			return string(b)
		}
		l.Behind = nil
		l.Lines = fewer(l.Lines, func(x line) int { return len(x.Open) })
		l.Refused = fewer(l.Refused, func(refusedLine) int { return 0 })
		l.Commits = fewer(l.Commits, func(x commitLine) int { return boolInt(x.State == forge.Pending) })
	}
}

// fewer is most of m, without a tenth of the least worth.
func fewer[V any](m map[string]V, worth func(V) int) map[string]V {
	if len(m) == 0 {
		return m
	}
	names := slices.Sorted(maps.Keys(m))
	slices.SortStableFunc(names, func(a, b string) int { return worth(m[a]) - worth(m[b]) })
	out := maps.Clone(m)
	for _, name := range names[:len(names)/10+1] {
		delete(out, name)
	}
	return out
}
