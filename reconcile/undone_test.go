package reconcile

import (
	"strings"
	"testing"

	"github.com/skep-io/skep/spec"
)

// What a file asks for and nobody can write is not said to be as the file says: of
// the release that is made of it, and of the stack, which is Ready, as nothing can be
// done but by hand.
func TestNetworkThatCannotBeChanged(t *testing.T) {
	attachable := func(fingerprint string) *spec.Stack {
		s := makeStack("shop", service("shop", "web", "app:1"))
		s.Networks[0].Create.Attachable = true
		s.Source.Fingerprint += fingerprint
		return s
	}
	const told = "network shop_default differs from the file in attachable"
	w := newWorld(t, makeStack("shop", service("shop", "web", "app:1")))
	w.settle()

	w.stack = attachable("attachable")
	res := w.pass()
	if len(res.Transitions) != 1 || res.Transitions[0].Action != "adopted" || !strings.Contains(res.Transitions[0].Message, told) || strings.Contains(res.Transitions[0].Message, "the same in other words") {
		t.Errorf("transitions %+v", res.Transitions)
	}
	if f := finding(res.Findings, "network-changed"); f == nil || f.Severity != spec.Warning {
		t.Errorf("findings %v", res.Findings)
	}
	res = w.settle()
	if r := res.Release; r.Number != 2 || r.Phase != PhaseHealthy || r.Reason != "LeftUndone" || !strings.Contains(r.Message, told) {
		t.Errorf("release %+v", r)
	}
	if c := res.Conditions[0]; !c.True || !strings.Contains(c.Message, told) {
		t.Errorf("%+v", c)
	}
	status, err := w.r.Status(t.Context(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	if c := status.Conditions[0]; !c.True || !strings.Contains(c.Message, told) {
		t.Errorf("status: %+v", c)
	}

	w.stack = makeStack("shop", service("shop", "web", "app:1"))
	if res := w.settle(); res.Release.Message != "the file says the same in other words" || res.Conditions[0].Message != "" {
		t.Errorf("release %+v, %+v", res.Release, res.Conditions[0])
	}
	w.stack = attachable("not told")
	w.stack.Policy.Findings = map[string]spec.Severity{"network-changed": spec.Off}
	if res := w.settle(); res.Conditions[0].Message != "" {
		t.Errorf("off: %+v", res.Conditions[0])
	}
}

// So it is with what was there before skep.
func TestAdoptedNetworkThatDiffers(t *testing.T) {
	w := newWorld(t, makeStack("shop", service("shop", "web", "app:1")))
	w.settle()
	for id, c := range w.engine.configs {
		if strings.HasPrefix(c.Spec.Name, ownPrefix(KindRelease)) {
			delete(w.engine.configs, id)
		}
	}
	w.restart()
	w.stack.Networks[0].Create.Internal = true
	if res := w.settle(); res.Release.Reason != "LeftUndone" || !strings.Contains(res.Release.Message, "network shop_default differs from the file in internal") {
		t.Errorf("%+v", res.Release)
	}
}
