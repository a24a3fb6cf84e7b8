package controller

import (
	"fmt"
	"hash/fnv"

	"github.com/skep-io/skep/controller/forge"
	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
)

// A commit may make no release at all: a file of it does not load, the policy forbids what
// it asks for, an image is not there. Whoever pushed it looks at the commit first, so that
// is a failure there. It is told at the commit that brought it, once: later ones that do
// not touch the stack are not to blame. What mends it begins a release, which is told of as
// ever.

// refusedRelease is the number of the release that a refused commit did not make.
const refusedRelease = -1

// A refusal is why a commit makes no release of a stack.
type refusal struct {
	commit string // empty: nobody knows, or its files differ from it
	text   string
}

// A refusedLine is the refusal that was told of a stack and is not over.
type refusedLine struct {
	Commit string `json:"c"`
	Why    uint64 `json:"w"` // a hash of the words
}

func (r refusal) line() refusedLine {
	h := fnv.New64a()
	_, _ = h.Write([]byte(r.text)) // never fails
	return refusedLine{r.commit, h.Sum64()}
}

// commitOf is the commit that files are of; empty where they differ from it.
func commitOf(c *spec.Commit) string {
	if c == nil || c.Dirty {
		return ""
	}
	return c.Hash
}

// refusedBy is why a pass made no release of what the newest commit says; nil where it
// did, or waits for something that is no fault of the commit's. One that a release was
// made of has that one's status.
func refusedBy(in reconcile.Input, r reconcile.Result) *refusal {
	if in.Stack == nil || r.Outcome != reconcile.Held {
		return nil
	}
	commit := commitOf(in.Stack.Source.Commit)
	if r.Release != nil && r.Release.Commit == commit {
		return nil
	}
	for _, f := range r.Findings {
		if f.Severity == spec.Error && reconcile.ReasonOf(f.Code) == r.Reason {
			return &refusal{commit, words("no release: " + sentence(r))}
		}
	}
	return nil
}

// unloaded is why a stack's file, as the newest scan found it, makes no release.
func (d *desired) unloaded(name string) *refusal {
	r := &refusal{text: words(fmt.Sprintf("no release: %s", d.problem(name)))}
	for _, s := range d.sources {
		stack := d.stacks[name]
		if s.err == nil && (len(d.sources) == 1 || stack != nil && stack.Source.Name == s.name) {
			r.commit = commitOf(s.commit)
		}
	}
	return r
}

// seeRefusal takes in why a stack's newest commit makes no release; nil: it does, or may.
func (c *notices) seeRefusal(stack string, r *refusal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.statuses == nil || !c.leads() {
		return
	}
	if !c.read { // the next look finds the same
		poke(c.hint)
		return
	}
	was, told := c.ledger.Refused[stack]
	switch {
	case r == nil:
		c.statuses.acquit(stack)
		if told {
			delete(c.ledger.Refused, stack)
			c.changed()
		}
	case r.commit == "" || told && was.Why == r.line().Why || c.statuses.accuses(stack, *r):
	default:
		c.statuses.put(dueStatus{commitSight{release: refusedRelease, commit: r.commit, state: forge.Failure, text: r.text}, stack, c.now()})
	}
}

// accuses says whether a refusal waits to be told.
func (s *statuses) accuses(stack string, r refusal) bool {
	for _, d := range s.due {
		if d.stack == stack && d.release == refusedRelease && d.text == r.text {
			return true
		}
	}
	return false
}

// acquit drops a refusal that is over before anybody was told.
func (s *statuses) acquit(stack string) {
	for i, d := range s.due {
		if d.stack == stack && d.release == refusedRelease && (i > 0 || !s.busy) {
			s.due = append(s.due[:i:i], s.due[i+1:]...)
			return
		}
	}
}
