package controller

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"
)

func writePolicy(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A policy that changes is in force at once, for all stacks; a broken one is told once,
// and the last good one stays.
func TestPolicyIsReadAgain(t *testing.T) {
	file := filepath.Join(t.TempDir(), "policy.yml")
	writePolicy(t, file, "rules: [{name: first}]")
	policy, err := openPolicy(file)
	if err != nil {
		t.Fatal(err)
	}
	inForce := func(name string) {
		t.Helper()
		if got := policy.policy().Rules[0].Name; got != name {
			t.Errorf("%s is in force, want %s", got, name)
		}
	}
	inDaemon(t, func(w *world) {
		w.controller.policy = policy
		w.snapshot = snapshot(stack("shop", "1"), stack("blog", "1"))
	}, func(t *testing.T, w *world) {
		w.sleep(time.Second)
		passes := func() int {
			n := 0
			w.with(func() { n = len(w.passes); w.passes = nil })
			return n
		}
		passes()
		w.sleep(3 * policyEvery)
		if n := passes(); n > 0 || w.told(zapcore.InfoLevel, "policy is in force") > 0 {
			t.Errorf("%d passes, though the policy is the same", n)
		}
		writePolicy(t, file, "rules: [{name: second}]")
		w.sleep(policyEvery)
		if n := passes(); n != 2 || w.told(zapcore.InfoLevel, "policy is in force") != 1 {
			t.Errorf("%d passes for two stacks, told %v", n, w.loud())
		}
		inForce("second")
		writePolicy(t, file, "rules: [{name: third, alow: {}}]")
		w.sleep(3 * policyEvery)
		inForce("second")
		if policy.readable() == nil {
			t.Error("it counts as readable")
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		w.sleep(3 * policyEvery)
		inForce("second")
		if n := w.told(zapcore.ErrorLevel, "policy cannot be read, the last good one stays in force"); n != 2 || passes() > 0 {
			t.Errorf("told %d times: %v", n, w.loud())
		}
		writePolicy(t, file, "rules: [{name: fourth}]")
		w.sleep(policyEvery)
		inForce("fourth")
		if err := policy.readable(); err != nil {
			t.Errorf("it still counts as unreadable: %v", err)
		}
		if n := passes(); n != 2 {
			t.Errorf("%d passes for two stacks", n)
		}
	})
}

// At the start there is no last good one.
func TestPolicyThatIsBrokenAtTheStart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "policy.yml")
	if _, err := openPolicy(file); err == nil || !strings.Contains(err.Error(), "read policy: ") {
		t.Errorf("a file that is not there: %v", err)
	}
	writePolicy(t, file, "rules: []")
	if _, err := openPolicy(file); err == nil || !strings.Contains(err.Error(), "policy.yml:1: the policy has no rules") {
		t.Errorf("one without rules: %v", err)
	}
	if p, err := openPolicy(""); p != nil || err != nil || p.policy() != nil {
		t.Errorf("none: %v, %v", p, err)
	}
}
