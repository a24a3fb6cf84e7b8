package controller

import (
	"testing"
	"time"

	"github.com/skep-io/skep/spec"
)

func TestBlocked(t *testing.T) {
	d, _ := desired{}.fold(broken(snapshot(
		stack("free", "1"),
		stack("ready", "1"), stack("on-ready", "1", "ready"),
		stack("slow", "1"), stack("on-slow", "1", "ready", "slow"),
		stack("new", "1"), stack("on-new", "1", "new"),
		stack("on-typo", "1", "redy"),
		stack("on-broken", "1", "shattered"),
		stack("self", "1", "self"),
		stack("x", "1", "y"), stack("y", "1", "z", "ready"), stack("z", "1", "x"),
		stack("on-x", "1", "x"),
	), "shattered", "not a map"), nil, time.Unix(0, 0))
	ready := func(s *spec.Stack) (bool, string) {
		switch s.Name {
		case "ready":
			return true, ""
		case "slow":
			return false, "1 of 3 tasks run"
		}
		return false, ""
	}
	for name, want := range map[string]string{
		"free":      "",
		"on-ready":  "",
		"on-slow":   "stack slow has to be Ready first: 1 of 3 tasks run",
		"on-new":    "stack new has to be Ready first",
		"on-typo":   "stack redy has to be Ready first, and there is no such stack: correct x-skep.depends_on, or add its file",
		"on-broken": "stack shattered has to be Ready first, and its file has an error: shattered.yml: error: yaml: not a map",
		"self":      "the stacks self → self wait for each other: break the circle in x-skep.depends_on",
		"x":         "the stacks x → y → z → x wait for each other: break the circle in x-skep.depends_on",
		"on-x":      "stack x has to be Ready first",
	} {
		if got := d.blocked(d.stacks[name], ready); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	equal(t, "dependents", d.dependents([]string{"ready", "new"}), []string{"on-new", "on-ready", "on-slow", "y"})
}
