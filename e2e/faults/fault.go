package faults

import (
	"fmt"
	"net/http"
	"regexp"
	"time"
)

// A Fault is what happens to a request that a Rule picks. The zero Fault lets it through.
type Fault struct {
	kind          kind
	delay         time.Duration
	status        int
	message       string
	before, after func(Request)
}

type kind int

const (
	through kind = iota
	delayed
	dropped
	cut
	answered
	silent
)

// Delay passes the request on after d. An engine without a quorum takes 20 s to say so.
func Delay(d time.Duration) Fault { return Fault{kind: delayed, delay: d} }

// DropBefore closes the connection without passing the request on: the engine never
// hears of it, and the caller cannot know.
func DropBefore() Fault { return Fault{kind: dropped} }

// CutAfter passes the request on, waits for the engine's answer, and closes the
// connection instead of answering: it was done, and the caller cannot know.
func CutAfter() Fault { return Fault{kind: cut} }

// Status answers with a code, and a message as the engine words it, without passing the
// request on.
func Status(code int, message string) Fault {
	return Fault{kind: answered, status: code, message: message}
}

// NoLeader is what an engine answers whose Swarm has lost its quorum.
func NoLeader() Fault {
	return Status(http.StatusInternalServerError, "rpc error: code = Unknown desc = The swarm does not have a leader. It's possible that too few managers are online. Make sure more than half of the managers are online.")
}

// NoManager is what the engine of a worker answers.
func NoManager() Fault {
	return Status(http.StatusServiceUnavailable, `This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.`)
}

// Conflict is what an engine answers to a write of what somebody else has just written.
func Conflict() Fault {
	return Status(http.StatusConflict, "rpc error: code = AlreadyExists desc = update out of sequence")
}

// HalfOpen takes the request and never answers, until the caller or the proxy goes.
func HalfOpen() Fault { return Fault{kind: silent} }

// Before calls f and passes the request on when f returns: to kill what sent it, say.
func Before(f func(Request)) Fault { return Fault{before: f} }

// After calls f when the engine has answered, before the caller hears of it.
func After(f func(Request)) Fault { return Fault{after: f} }

func (f Fault) String() string {
	switch f.kind {
	case delayed:
		return fmt.Sprintf("delayed by %s", f.delay)
	case dropped:
		return "dropped before it was sent"
	case cut:
		return "cut off after it was done"
	case answered:
		return fmt.Sprintf("answered with %d", f.status)
	case silent:
		return "never answered"
	}
	if f.before != nil || f.after != nil {
		return "watched"
	}
	return ""
}

// A Rule picks requests and says what happens to them. What is left out of it picks any.
type Rule struct {
	// Operation is the request's name in skep's metrics: "ServiceUpdate", "ConfigCreate",
	// "Events".
	Operation string
	Method    string         // GET, POST, DELETE, HEAD
	Path      *regexp.Regexp // of the path without its API version: /services/create
	Object    *regexp.Regexp // of the name of what is written, or its ID where the request has no name
	Writes    bool           // only what is more than a question
	// Nth is the first of the requests picked that the fault strikes, from 1. Default 1.
	Nth int
	// Times is how many it strikes from there on. Default 1; Always: all.
	Times int
	Fault Fault
}

// Always is Times of a rule that does not end.
const Always = -1

// picks says whether the rule is about a request.
func (r *Rule) picks(q Request) bool {
	switch {
	case r.Operation != "" && r.Operation != q.Operation,
		r.Method != "" && r.Method != q.Method,
		r.Path != nil && !r.Path.MatchString(q.Path),
		r.Object != nil && !r.Object.MatchString(q.Object),
		r.Writes && !q.Write():
		return false
	}
	return true
}

// strikes says whether the fault strikes the nth request that the rule picks, from 1.
func (r *Rule) strikes(n int) bool {
	first, times := max(r.Nth, 1), r.Times
	if times == 0 {
		times = 1
	}
	return n >= first && (times < 0 || n < first+times)
}
