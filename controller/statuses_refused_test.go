package controller

import (
	"testing"
	"time"

	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
)

// atCommit has a snapshot, and the stacks in it, be of a commit.
func atCommit(s *spec.Snapshot, letter string) *spec.Snapshot {
	s.Commit = &spec.Commit{Hash: hash(letter), Short: hash(letter)[:7]}
	for _, x := range s.Stacks {
		x.Source.Commit = s.Commit
	}
	return s
}

// denied is a pass that the policy lets write nothing.
func denied(release int, letter string) passed {
	r := pass1(reconcile.Held, "PolicyDenied").of(release, healthy).by(letter)
	r.Findings = []spec.Finding{{Severity: spec.Warning, Code: "release-failed"}, {Severity: spec.Error, Code: "policy-denied", Message: "no"}}
	return r
}

func TestWhatRefusesACommit(t *testing.T) {
	t.Parallel()
	of := func(letter string, dirty bool) reconcile.Input {
		s := atCommit(snapshot(stack("a", "1")), letter)
		s.Commit.Dirty = dirty
		return reconcile.Input{Name: "a", Stack: s.Stacks["a"]}
	}
	for name, tt := range map[string]struct {
		in     reconcile.Input
		r      passed
		why    bool
		commit string
	}{
		"the policy":                   {of("2", false), denied(1, "1"), true, hash("2")},
		"files that nobody committed":  {of("2", true), denied(1, "1"), true, ""},
		"of a release that was made":   {of("1", false), denied(1, "1"), false, ""},
		"suspended":                    {of("2", false), stays.of(1, healthy).by("1"), false, ""},
		"removals that wait":           {of("2", false), blockade.of(1, healthy).by("1"), false, ""},
		"an engine that is away":       {of("2", false), errors1.of(1, healthy).by("1"), false, ""},
		"rolled back":                  {of("1", false), back.of(1, failedPhase).by("1"), false, ""},
		"nothing":                      {of("2", false), inSync.of(1, healthy).by("1"), false, ""},
		"a stack whose file went away": {reconcile.Input{Name: "a"}, denied(1, "1"), false, ""},
	} {
		got := refusedBy(tt.in, reconcile.Result(tt.r))
		if (got != nil) != tt.why || got != nil && (got.commit != tt.commit || got.text != "no release: because of PolicyDenied") {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// Whoever pushes what does not load, or what the policy forbids, sees that at the commit:
// once, at the one that brought it, and not again after a restart.
func TestCommitWithoutAReleaseIsAFailure(t *testing.T) {
	f, b := newFakeNotes(), &board{}
	var kept *spec.Snapshot
	inDaemon(t, func(w *world) {
		w.shows(f, b)
		w.snapshot = atCommit(snapshot(stack("a", "1"), stack("b", "1")), "1")
		w.finds(map[string]passed{"a": inSync.of(1, healthy).by("1"), "b": inSync.of(1, healthy).by("1")})
	}, func(t *testing.T, w *world) {
		w.sleep(time.Minute)
		b.take()
		bad := func(letter, version string) *spec.Snapshot {
			return atCommit(broken(snapshot(stack("a", "1"), stack("b", version)), "a", "line 3: not YAML"), letter)
		}
		w.put(bad("2", "1"))
		w.sleep(time.Minute)
		equal(t, "a broken file", b.take(), []string{"a failure 2"})
		w.put(bad("3", "2")) // which is of the other stack
		w.finds(map[string]passed{"a": inSync.of(1, healthy).by("1"), "b": writes.of(2, progressing).by("3")})
		w.sleep(10 * time.Minute)
		equal(t, "a commit beside it", b.take(), []string{"b pending 3"})
		w.put(atCommit(broken(snapshot(stack("b", "2")), "a", "line 7: not YAML either"), "4"))
		w.finds(map[string]passed{"a": inSync.of(1, healthy).by("1"), "b": inSync.of(2, healthy).by("3")})
		w.lookAgain()
		w.sleep(time.Minute)
		equal(t, "broken otherwise", b.take(), []string{"b success 3", "a failure 4"})

		w.finds(map[string]passed{"a": denied(1, "1"), "b": inSync.of(2, healthy).by("3")})
		w.put(atCommit(snapshot(stack("a", "5"), stack("b", "2")), "5"))
		w.sleep(10 * time.Minute)
		equal(t, "one that the policy forbids", b.take(), []string{"a failure 5"})
		kept = atCommit(snapshot(stack("a", "5"), stack("b", "2")), "5")
		f.takeWrites()
		w.sleep(time.Hour)
		if n := f.takeWrites(); n > 0 {
			t.Errorf("%d writes in a steady state", n)
		}
	})
	again := &board{}
	inDaemon(t, func(w *world) {
		w.shows(f, again)
		w.snapshot = kept
		w.finds(map[string]passed{"a": denied(1, "1"), "b": inSync.of(2, healthy).by("3")})
	}, func(t *testing.T, w *world) {
		w.sleep(time.Minute)
		equal(t, "after a restart", again.take(), nil)
		w.finds(map[string]passed{"a": writes.of(2, progressing).by("5"), "b": inSync.of(2, healthy).by("3")})
		w.lookAgain()
		w.sleep(time.Minute)
		equal(t, "when it may", again.take(), []string{"a pending 5"})
		w.finds(map[string]passed{"a": inSync.of(2, healthy).by("5"), "b": inSync.of(2, healthy).by("3")})
		w.lookAgain()
		w.sleep(time.Minute)
		equal(t, "and is healthy", again.take(), []string{"a success 5"})
		if l := f.ledger(); len(l.Refused) > 0 {
			t.Errorf("it is still refused: %+v", l.Refused)
		}
	})
}
