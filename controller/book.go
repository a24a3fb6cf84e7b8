package controller

import (
	"slices"
	"strings"
	"sync"

	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
)

// A book keeps what the newest pass over each stack found, in this process.
type book struct {
	mu      sync.Mutex
	entries map[string]entry
}

type entry struct {
	result reconcile.Result
	of     string // the fingerprint of the stack that the result is about
	news   bool   // the result tells something else than the one before
}

func newBook() *book { return &book{entries: map[string]entry{}} }

// record takes in a pass's result. It says whether the stack became Ready by it,
// or is Ready at another version than before: others may have waited for that.
func (b *book) record(in reconcile.Input, result reconcile.Result) (becameReady bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	before := b.entries[in.Name]
	if result.Outcome == reconcile.Failed && len(result.Conditions) == 0 {
		result.Conditions = unready(before.result.Conditions, "PassFailed", sentence(result))
	}
	now := entry{result, fingerprint(in.Stack), news(before.result, result)}
	b.entries[in.Name] = now
	return isReady(now.result) && (!isReady(before.result) || now.of != before.of)
}

// unready are the conditions given, with Ready being false for this reason.
func unready(before []reconcile.Condition, reason, message string) []reconcile.Condition {
	ready := reconcile.Condition{Type: reconcile.Ready, Reason: reason, Message: message}
	conditions := slices.Clone(before)
	for i, c := range conditions {
		if c.Type == reconcile.Ready {
			conditions[i] = ready
			return conditions
		}
	}
	return append(conditions, ready)
}

// ready is a readiness by the newest passes.
func (b *book) ready(stack *spec.Stack) (bool, string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e, ok := b.entries[stack.Name]
	if !ok || e.of != fingerprint(stack) {
		return false, ""
	}
	if isReady(e.result) {
		return true, ""
	}
	return false, strings.TrimSuffix(notReady(e.result), ".")
}

// differs says whether the newest result of a stack tells something else than the one
// before.
func (b *book) differs(stack string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.entries[stack].news
}

func (b *book) forget(stack string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.entries, stack)
}

// clear forgets all.
func (b *book) clear() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.entries)
}

// results is a copy of the newest result of each stack.
func (b *book) results() map[string]reconcile.Result {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make(map[string]reconcile.Result, len(b.entries))
	for name, e := range b.entries {
		out[name] = e.result
	}
	return out
}

// holds says whether a condition is true in a result.
func holds(r reconcile.Result, t reconcile.ConditionType) bool {
	return slices.ContainsFunc(r.Conditions, func(c reconcile.Condition) bool { return c.Type == t && c.True })
}

func isReady(r reconcile.Result) bool { return holds(r, reconcile.Ready) }

// notReady says why a stack is not Ready.
func notReady(r reconcile.Result) string {
	for _, c := range r.Conditions {
		if c.Type == reconcile.Ready && c.Message != "" {
			return c.Message
		}
	}
	return sentence(r)
}

// sentence is a result in words.
func sentence(r reconcile.Result) string {
	if r.Message == "" && r.Err != nil {
		return r.Err.Error()
	}
	return r.Message
}
