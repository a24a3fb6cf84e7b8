package controller

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
)

// A Message is what a receiver is told, and the body of a webhook. Its names do not
// change once they were released; new ones may come. docs/notifications.md explains them.
type Message struct {
	Version int `json:"version"` // 1
	// ID is the same whenever the same is told again: a receiver drops what it has had.
	ID       string     `json:"id"`
	Event    spec.Event `json:"event"`
	Severity string     `json:"severity"` // error, warning or info
	Owner    string     `json:"owner"`
	// Stack is empty where it is about the whole directory, or all stacks.
	Stack    string       `json:"stack,omitempty"`
	Service  string       `json:"service,omitempty"`
	Release  *int         `json:"release,omitempty"`
	Revision string       `json:"revision,omitempty"`
	Commit   string       `json:"commit,omitempty"` // in full, in a git work tree
	Reason   string       `json:"reason,omitempty"` // one CamelCase word
	Ended    []spec.Event `json:"ended,omitempty"`  // of recovered: what is over
	Title    string       `json:"title"`
	Text     string       `json:"text"` // a sentence or two
	At       time.Time    `json:"at"`   // when it was seen
}

// newMessage puts a happening into words. said is how many messages about the stack
// came before it.
func newMessage(owner, stack string, h happening, a about, said int, now time.Time) Message {
	m := Message{
		Version: 1, Event: h.event, Severity: severity(h), Owner: owner, Stack: stack, Service: h.Service,
		Revision: words(a.Revision), Commit: a.Commit, Reason: h.Reason, Ended: h.ended, At: now.UTC(),
	}
	if stack != "" && a.Release >= 0 {
		m.Release = &a.Release
	}
	m.Title = title(stack, h)
	m.Text = calm(words(sentenceOf(h, a)))
	m.ID = messageID(owner, stack, said, h, a.Release)
	return m
}

// messageID is the same for controllers that know the same to have been said.
func messageID(owner, stack string, said int, h happening, release int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%d\x00%s\x00%s\x00%v\x00%d", owner, stack, said, h.event, h.Key, h.ended, release))
	return hex.EncodeToString(sum[:16])
}

func severity(h happening) string {
	switch h.event {
	case spec.EventRolledOut, spec.EventRecovered:
		return "info"
	case spec.EventPruneBlocked, spec.EventPolicyUnreadable:
		return "warning"
	case spec.EventHeld:
		switch h.Reason {
		case "Suspended":
			return "info"
		case "ReleaseFailed", "RollbackFailed":
			return "error"
		}
		return "warning"
	}
	return "error"
}

var titles = map[spec.Event]string{
	spec.EventRolledOut: "rolled out", spec.EventRolledBack: "rolled back", spec.EventDegraded: "degraded", spec.EventHeld: "held",
	spec.EventSourceUnreadable: "source unreadable", spec.EventPruneBlocked: "removal waits", spec.EventPolicyUnreadable: "policy unreadable",
	spec.EventRecovered: "recovered",
}

func title(stack string, h happening) string {
	if stack == "" {
		return "skep: " + titles[h.event]
	}
	return stack + ": " + titles[h.event]
}

func sentenceOf(h happening, a about) string {
	switch h.event {
	case spec.EventRecovered:
		var over []string
		for _, e := range h.ended {
			over = append(over, titles[e])
		}
		return "no longer: " + strings.Join(over, ", ")
	case spec.EventRolledOut:
		return rolledOut(a)
	}
	return h.Message
}

// rolledOut says which release is healthy, and how long that took where it is known.
func rolledOut(a about) string {
	text := fmt.Sprintf("release %d", a.Release)
	if of := strings.TrimSpace(a.Revision + " " + a.Subject); of != "" {
		text += " (" + of + ")"
	}
	text += " is healthy"
	if a.Took >= time.Second {
		text += ", after " + a.Took.Round(time.Second).String()
	}
	if a.ByHandOf != "" {
		text += "; it is release " + a.ByHandOf + " again, by hand"
	}
	return text
}

// calm takes from a text what calls people in a chat: what a container's error says
// must not page a whole company. A character of no width parts it.
func calm(s string) string {
	return calls.Replace(s)
}

var calls = strings.NewReplacer("@everyone", "@\u200beveryone", "@here", "@\u200bhere", "@channel", "@\u200bchannel", "@all", "@\u200ball", "<!", "<\u200b!", "<@", "<\u200b@")

// plain is the message for people, without markup.
func (m Message) plain() string {
	text := reconcile.Printable(m.Title) + "\n" + m.Text
	if m.Owner != "skep" {
		text += "\n(owner " + m.Owner + ")"
	}
	return text
}
