package controller

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/skep-io/skep/spec"
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
	policy, err := openPolicy(file, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	inForce := func(name string) {
		t.Helper()
		if got := policy.policy().Rules[0].Name; got != name {
			t.Errorf("%s is in force, want %s", got, name)
		}
	}
	f := newFakeNotes()
	ready := func(w *world) string {
		got, err := w.Registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range got {
			if m.GetName() == "skep_policy_ready" {
				return fmt.Sprint(m.GetMetric()[0].GetGauge().GetValue())
			}
		}
		return "not there"
	}
	inDaemon(t, func(w *world) {
		w.keepIn(f)
		if got := ready(w); got != "not there" {
			t.Errorf("without a policy skep_policy_ready is %s", got)
		}
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
		w.sleep(2 * policyEvery)
		if n := passes(); n != 2 || w.told(zapcore.InfoLevel, "policy is in force") != 1 {
			t.Errorf("%d passes for two stacks, told %v", n, w.loud())
		}
		inForce("second")
		if got := ready(w); got != "1" {
			t.Errorf("skep_policy_ready is %s", got)
		}
		writePolicy(t, file, "rules: [{name: third, alow: {}}]")
		w.sleep(20 * policyEvery)
		inForce("second")
		p := f.published(t)
		if got := ready(w); got != "0" || p == nil || p.Policy == nil || !strings.Contains(p.Policy.Message, "alow") || p.Policy.Since.IsZero() {
			t.Fatalf("skep_policy_ready is %s, published is %+v", got, p)
		}
		if n := f.takeWrites(); n != 1 {
			t.Errorf("%d writes for one problem", n)
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
		w.sleep(2 * policyEvery)
		inForce("fourth")
		if n := passes(); n != 2 {
			t.Errorf("%d passes for two stacks", n)
		}
		w.sleep(2 * rewordEvery)
		if got, p := ready(w), f.published(t); got != "1" || !p.Empty() {
			t.Errorf("mended, and skep_policy_ready is %s, published %+v", got, p)
		}
	})
}

// A rule that is for no stack is told once, and again when it comes back.
func TestRuleForNoStackIsTold(t *testing.T) {
	file := filepath.Join(t.TempDir(), "policy.yml")
	const misspelt = "rules: [{name: never, stacks: [sohp], deny: {binds: [/etc]}}]"
	writePolicy(t, file, misspelt)
	policy, err := openPolicy(file, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	inDaemon(t, func(w *world) {
		w.controller.policy = policy
		w.snapshot = snapshot(stack("shop", "1"))
	}, func(t *testing.T, w *world) {
		w.sleep(10 * time.Minute)
		told := func(want int) {
			t.Helper()
			if n := w.told(zapcore.WarnLevel, "finding"); n != want {
				t.Errorf("told %d times, want %d: %v", n, want, w.loud())
			}
		}
		told(1)
		writePolicy(t, file, "rules: [{name: never, stacks: [shop], deny: {binds: [/etc]}}]")
		w.sleep(3 * policyEvery)
		told(1)
		writePolicy(t, file, misspelt)
		w.sleep(3 * policyEvery)
		told(2)
	})
}

// A policy that is being written is none: its last rules may be those that deny.
func TestPolicyThatIsBeingWritten(t *testing.T) {
	const whole = "rules:\n- {name: first, allow: {images: ['**'], binds: ['/**']}}\n- {name: last, deny: {binds: [/etc]}}\n"
	file := filepath.Join(t.TempDir(), "policy.yml")
	writePolicy(t, file, whole)
	p, err := openPolicy(file, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	look := func(text string, want bool) {
		t.Helper()
		writePolicy(t, file, text)
		if changed, err := p.look(); changed != want || err != nil {
			t.Errorf("changed %v, want %v: %v", changed, want, err)
		}
	}
	part, _, _ := strings.Cut(whole, "- {name: last")
	look("", false) // it was cut off
	look(part, false)
	look("# as before\n"+whole, false)
	if n := len(p.policy().Rules); n != 2 {
		t.Errorf("%d rules are in force", n)
	}
	look("# as before\n"+whole, true)
	look(whole, false)
	look(whole, true)
	writePolicy(t, file, "rules: [")
	for i, want := range []bool{false, true, true} { // told once it is there twice, and on
		if _, err := p.look(); (err != nil) != want {
			t.Errorf("look %d at a broken one: %v", i, err)
		}
	}
	writePolicy(t, file, part)
	if _, err := p.look(); err == nil {
		t.Error("it is mended as soon as something else is there")
	}
	look(part, true)
}

// At the start there is no last good one.
func TestPolicyThatIsBrokenAtTheStart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "policy.yml")
	if _, err := openPolicy(file, time.Now()); err == nil || !strings.Contains(err.Error(), "read policy: ") {
		t.Errorf("a file that is not there: %v", err)
	}
	writePolicy(t, file, "rules: []")
	if _, err := openPolicy(file, time.Now()); err == nil || !strings.Contains(err.Error(), "policy.yml:1: the policy has no rules") {
		t.Errorf("one without rules: %v", err)
	}
	if p, err := openPolicy("", time.Now()); p != nil || err != nil || p.policy() != nil {
		t.Errorf("none: %v, %v", p, err)
	}
}

// A daemon that starts with a broken policy waits for a better one, and does nothing.
func TestDaemonWaitsForItsFirstPolicy(t *testing.T) {
	file := filepath.Join(t.TempDir(), "policy.yml")
	writePolicy(t, file, "rules: [{name: first, alow: {}}]")
	f := newFakeNotes()
	inDaemon(t, func(w *world) {
		w.keepIn(f)
		policy, err := openPolicy(file, w.Now())
		if err == nil || policy == nil {
			t.Fatalf("opened %v: %v", policy, err)
		}
		if _, refused := policy.policy().For("shop", "shop.yml").Refuses(spec.Request{Aspect: spec.AspectImages, Value: "docker.io/library/web"}); !refused {
			t.Error("what is not known yet allows something")
		}
		w.controller.policy = policy
		w.snapshot = snapshot(stack("shop", "1"))
	}, func(t *testing.T, w *world) {
		waits := func(what string) {
			t.Helper()
			if passes, _ := w.taken(); len(passes) > 0 {
				t.Errorf("%s: passes over %v", what, passes)
			}
			if err := w.ready(); err == nil || !strings.HasPrefix(err.Error(), "policy: ") || strings.Contains(err.Error(), "specs:") {
				t.Errorf("%s: ready says %v", what, err)
			}
		}
		w.sleep(time.Hour)
		waits("broken")
		if n := w.told(zapcore.ErrorLevel, "policy cannot be read, nothing is done before it can"); n != 1 {
			t.Errorf("told %d times: %v", n, w.loud())
		}
		if p := f.published(t); p == nil || p.Policy == nil || !p.Policy.Missing || !strings.Contains(p.Policy.Message, "alow") || !p.Source.Ready {
			t.Fatalf("published %+v: %+v", p, p.Policy)
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		w.sleep(3 * policyEvery)
		waits("gone")
		for i := range 5 { // while it is being written nothing of it counts
			writePolicy(t, file, "rules: [{name: first, limit: {replicas: "+fmt.Sprint(i+1)+"}}]")
			w.sleep(policyEvery)
			waits("being written")
		}
		w.sleep(2 * policyEvery)
		if passes, _ := w.taken(); len(passes) != 1 || w.ready() != nil {
			t.Errorf("mended: passes over %v, ready says %v", passes, w.ready())
		}
		w.sleep(2 * rewordEvery)
		if p := f.published(t); !p.Empty() {
			t.Errorf("mended, and published is %+v", p)
		}
	})
}

// A policy is no use in the hands of those whom it is for.
func TestPolicyInOtherHands(t *testing.T) {
	specs, dir := t.TempDir(), t.TempDir()
	kept, open, within := filepath.Join(dir, "kept.yml"), filepath.Join(dir, "open.yml"), filepath.Join(specs, "infra", "policy.yml")
	if err := os.Mkdir(filepath.Dir(within), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{kept, open, within} {
		writePolicy(t, file, "rules: [{name: a}]")
	}
	if err := os.Chmod(open, 0o666); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "specs")
	if err := os.Symlink(specs, link); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{kept: "", open: "everybody", within: "in the specs directory", filepath.Join(dir, "gone.yml"): ""} {
		for _, specs := range []string{specs, link} {
			if how := PolicyInOtherHands(file, specs); (how == "") != (want == "") || !strings.Contains(how, want) {
				t.Errorf("%s: %q, want %q", file, how, want)
			}
		}
	}
}
