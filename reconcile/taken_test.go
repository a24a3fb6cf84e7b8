package reconcile

import (
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"

	"github.com/skep-io/skep/spec"
)

// What carries another stack's label is that stack's, whatever this one's file calls
// it: nothing is written, until it is gone or the file says that it is external.
func TestNameTakenByAnotherStack(t *testing.T) {
	of := func(stack string) map[string]string { return map[string]string{spec.LabelNamespace: stack} }
	taken := bindConfig("shop", &configured("app:1", "one").Configs[0], Binding{}).Name
	for kind, tt := range map[Kind]struct {
		take, free func(e *fakeEngine)
		external   func(s *spec.Stack)
	}{
		KindService: {
			func(e *fakeEngine) {
				s := service("blog", "web", "app:1")
				s.Spec.Name = "shop_web"
				e.services["x"] = &swarm.Service{ID: "x", Spec: s.Spec}
			}, func(e *fakeEngine) { delete(e.services, "x") }, nil,
		},
		KindNetwork: {
			func(e *fakeEngine) {
				e.networks["x"] = network.Summary{ID: "x", Name: "shop_default", Scope: "swarm", Driver: "overlay", Labels: of("blog")}
			}, func(e *fakeEngine) { delete(e.networks, "x") },
			func(s *spec.Stack) { s.Networks[0].External = true },
		},
		KindConfig: {
			func(e *fakeEngine) {
				e.configs["x"] = swarm.Config{ID: "x", Spec: swarm.ConfigSpec{Annotations: swarm.Annotations{Name: taken, Labels: of("blog")}}}
			}, func(e *fakeEngine) { delete(e.configs, "x") },
			func(s *spec.Stack) { s.Configs[0] = spec.Config{Key: "conf", Name: taken, External: true} },
		},
	} {
		t.Run(string(kind), func(t *testing.T) {
			w := newWorld(t, configured("app:1", "one"))
			tt.take(w.engine)
			plan, err := w.r.Plan(t.Context(), w.stack)
			if err != nil {
				t.Fatal(err)
			}
			if f := finding(plan.Findings, "name-taken"); f == nil || f.Severity != spec.Error || !strings.Contains(f.Message, "belongs to stack blog") || !plan.Empty() {
				t.Errorf("plan: %+v", plan)
			}
			res := w.settle()
			if res.Outcome != Held || res.Reason != "NameTaken" || finding(res.Findings, "name-taken") == nil {
				t.Errorf("pass: %s %s: %s", res.Outcome, res.Reason, res.Message)
			}
			if writes := w.engine.takeWrites(); len(writes) > 0 {
				t.Errorf("wrote %v", writes)
			}
			if tt.external != nil {
				other := newWorld(t, configured("app:1", "one"))
				tt.take(other.engine)
				tt.external(other.stack)
				if plan, err := other.r.Plan(t.Context(), other.stack); err != nil || plan.Empty() || finding(plan.Findings, "name-taken") != nil {
					t.Errorf("external: %+v, %v", plan, err)
				}
			}

			tt.free(w.engine)
			if _, err := w.r.Refresh(t.Context()); err != nil {
				t.Fatal(err)
			}
			if res := w.settle(); res.Outcome != Unchanged {
				t.Errorf("when it is free: %s %s: %s", res.Outcome, res.Reason, res.Message)
			}
		})
	}
}

// A secret's name has a hash in it that is keyed: so this asks Diff itself.
func TestSecretTakenByAnotherStack(t *testing.T) {
	d := &Desired{Stack: "shop", Secrets: []DesiredObject{{Key: "key", Name: "key-1", Plain: "key"}}}
	live := NewLive(time.Time{}, "1.41", nil, nil, nil, []swarm.Secret{{ID: "x", Spec: swarm.SecretSpec{
		Annotations: swarm.Annotations{Name: "key-1", Labels: map[string]string{spec.LabelNamespace: "blog"}}}}}, nil)
	if p := Diff(d, live, DiffOptions{}); !p.Empty() || finding(p.Findings, "name-taken") == nil {
		t.Errorf("%+v", p)
	}
}
