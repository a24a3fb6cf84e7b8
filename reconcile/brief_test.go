package reconcile

import (
	"strings"
	"testing"

	"github.com/docker/docker/api/types/swarm"
)

// What a pass planned and did not come to is no write: a migration that fails keeps its
// application from being written.
func TestWrittenIsWhatWasWritten(t *testing.T) {
	w := newWorld(t, watched(makeStack("shop", service("shop", "db", "db:1"), service("shop", "web", "app:1", "db"))))
	var written []string
	for range 200 {
		res := w.pass()
		if res.Outcome != Applied && len(res.Written) > 0 {
			t.Errorf("%s, and yet %d changes are written", res.Outcome, len(res.Written))
		}
		for _, c := range res.Written {
			written = append(written, c.Name)
		}
		if res.Outcome == Unchanged {
			break
		}
		if len(written) == 2 && res.Reason == "FirstRelease" && len(res.Plan.Changes) != 3 {
			t.Errorf("planned: %s", planNames(res.Plan))
		}
		w.engine.turn()
	}
	if got := strings.Join(written, " "); got != "shop_default shop_db shop_web" {
		t.Errorf("written: %s", got)
	}
}

// Why a release failed is told once, when it did; a process that did not tell it tells
// the whole.
func TestWhyAReleaseFailedIsToldOnce(t *testing.T) {
	w := newWorld(t, one("app:1"))
	w.settle()
	w.stack = one("app:2-bad")
	told := map[string]string{}
	collect := func() {
		for range 200 {
			res := w.pass()
			for _, tr := range res.Transitions {
				told[tr.Action] = tr.Message
			}
			if res.Outcome == Held && len(res.Transitions) == 0 {
				return
			}
			w.engine.turn()
		}
		t.Fatal("it does not come to an end")
	}
	collect()
	const why = "Swarm paused the update"
	if !strings.Contains(told["rollout-failed"], why) {
		t.Errorf("%q", told["rollout-failed"])
	}
	if told["held"] != "" {
		t.Errorf("what was told by %q is told by %q too", "rolled-back", "held")
	}
	for action, want := range map[string]string{
		"going-back":  "to release 1 (rev-webapp:1), since release 2 failed",
		"rolled-back": "release 2 failed; release 1 ",
	} {
		if got := told[action]; !strings.HasPrefix(got, want) || strings.Contains(got, why) {
			t.Errorf("%s: %q", action, got)
		}
	}
	clear(told)
	w.restart()
	if collect(); !strings.Contains(told["held"], why) {
		t.Errorf("after a restart: %q", told["held"])
	}
}

// Who had nothing to take back did not go back.
func TestRollbackOfWhatWasNotWrittenSaysSo(t *testing.T) {
	w := newWorld(t, migrating("app:1", "migrate:1"))
	w.pass()
	w.runJob("shop_migrate", swarm.TaskStateComplete)
	w.settle()
	w.stack = migrating("app:2", "migrate:2")
	w.pass()
	w.runJob("shop_migrate", swarm.TaskStateFailed)
	var finished string
	for range 20 {
		for _, tr := range w.pass().Transitions {
			if tr.Action == "going-back" {
				t.Errorf("it went back: %s", tr.Message)
			}
			if tr.Action == "rolled-back" {
				finished = tr.Message
			}
		}
	}
	if !strings.HasPrefix(finished, "nothing was to be written for it: release 2 failed; release 1 ") {
		t.Errorf("%q", finished)
	}
}
