package reconcile

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"

	"github.com/skep-io/skep/spec"
)

func examplePlan() *Plan {
	n := uint64(3)
	s := &swarm.ServiceSpec{Mode: swarm.ServiceMode{Replicated: &swarm.ReplicatedService{Replicas: &n}}, UpdateConfig: &swarm.UpdateConfig{Parallelism: 2, Order: "start-first"}}
	return &Plan{
		Stack: "shop",
		Changes: []Change{
			{Op: OpCreate, Kind: KindNetwork, Name: "shop_default", Key: "default"},
			{Op: OpUpdate, Kind: KindService, Name: "shop_web", Key: "web", Restarts: true, Wave: 1, Spec: s,
				Fields: []Field{{Path: "image", Old: "nginx:1", New: "nginx:2", Restarts: true}}},
			{Op: OpRemove, Kind: KindService, Name: "shop_old", ID: "x"},
		},
		Findings: []spec.Finding{{File: "shop.yml", Line: 3, Severity: spec.Warning, Code: "x", Message: "m", Service: "web"}},
	}
}

// The JSON form is what programs rely on.
func TestViewIsStable(t *testing.T) {
	got, err := json.Marshal(examplePlan().View())
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"stack":"shop","changes":[` +
		`{"op":"create","kind":"network","name":"shop_default","key":"default","restarts":false,"wave":0},` +
		`{"op":"update","kind":"service","name":"shop_web","key":"web","fields":[{"path":"image","old":"nginx:1","new":"nginx:2","restarts":true}],"restarts":true,"wave":1,` +
		`"rollout":{"mode":"replicated","tasks":3,"parallelism":2,"order":"start-first"}},` +
		`{"op":"remove","kind":"service","name":"shop_old","restarts":false,"wave":0}],` +
		`"findings":[{"file":"shop.yml","line":3,"severity":"warning","code":"x","message":"m","service":"web"}],` +
		`"summary":{"create":1,"update":1,"replace":0,"remove":1,"restarts":1,"blocked":0,"held":0,"failed":0,"pending":0}}`
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	empty, err := json.Marshal((&Plan{Stack: "a"}).View())
	if err != nil || !strings.Contains(string(empty), `"changes":[],"findings":[]`) {
		t.Errorf("%s, %v", empty, err)
	}
}

func TestRenderPlanInColour(t *testing.T) {
	var plain, colour strings.Builder
	if RenderPlan(&plain, false, examplePlan()) != nil || RenderPlan(&colour, true, examplePlan()) != nil {
		t.Fatal("not written")
	}
	if strings.Contains(plain.String(), "\x1b") || !strings.Contains(colour.String(), "\x1b[33m~ service shop_web\x1b[0m") ||
		!strings.Contains(colour.String(), "\x1b[0m → \x1b[32m") {
		t.Errorf("plain\n%s\ncoloured\n%s", plain.String(), colour.String())
	}
	if !strings.HasSuffix(plain.String(), "plan: 1 to create, 1 to update, 1 to remove; 1 service restarts\n") {
		t.Errorf("%s", plain.String())
	}
}

// A value cannot write to the terminal, nor push all else away.
func TestRenderPlanOfHostileValues(t *testing.T) {
	p := examplePlan()
	long := strings.Repeat("x", 500)
	p.Changes[1].Fields = []Field{
		{Path: "environment.A\x1b[2J", Old: "a\nb\r\x1b]0;x\a", New: "\u202eb"},
		{Path: "environment.B", Old: long + "1" + long, New: long + "2" + long},
	}
	var b strings.Builder
	if err := RenderPlan(&b, false, p); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(b.String()) {
		if strings.ContainsAny(line, "\x1b\r\a\u202e") || len([]rune(line)) > 350 {
			t.Errorf("%q", line)
		}
	}
	if !strings.Contains(b.String(), "…"+strings.Repeat("x", lead)+"1") || !strings.Contains(b.String(), "…"+strings.Repeat("x", lead)+"2") {
		t.Errorf("the difference is out of sight:\n%s", b.String())
	}
	b.Reset()
	if err := (Rendering{Whole: true}).Plan(&b, p); err != nil || !strings.Contains(b.String(), long+"1"+long+" → "+long+"2"+long) || strings.Contains(b.String(), "\x1b") {
		t.Errorf("%v, not whole:\n%s", err, b.String())
	}
}

func TestSummary(t *testing.T) {
	blocked := &Plan{Findings: []spec.Finding{{Severity: spec.Error}}}
	for want, plans := range map[string][]*Plan{
		"plan: no changes": {{}, {}},
		"plan: no changes; 1 stack is held up by errors":                          {blocked},
		"plan: no changes; 1 stack failed and is not tried again":                 {{}, {Findings: []spec.Finding{{Code: "release-failed"}}}},
		"plan: no changes; 1 stack is to be taken back or tried again":            {{}, {Findings: []spec.Finding{{Code: "release-pending"}}}},
		"plan: 2 to create, 2 to update, 2 to remove; 2 services restart":         {examplePlan(), examplePlan()},
		"plan: 1 to replace; no services restart; 2 stacks are held up by errors": {{Changes: []Change{{Op: OpReplace}}}, blocked, blocked},
	} {
		if got := Summarize(plans...).String(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

// What errors hold up is told all the same: who mends them wants to know what comes.
func TestHeldPlansTellTheirChanges(t *testing.T) {
	for name, tt := range map[string]struct {
		world func(w *world)
		code  string
	}{
		"by what lives": {func(w *world) {
			w.engine.networks["x"] = network.Summary{ID: "x", Name: "shop_default", Scope: "swarm", Driver: "overlay", Labels: map[string]string{spec.LabelNamespace: "blog"}}
		}, "name-taken"},
		"by a severity that was raised": {func(w *world) {
			w.stack.Services[0] = with(w.stack.Services[0], on("node.labels.disk == tape"))
			w.stack.Policy.Findings = map[string]spec.Severity{"no-node-fits": spec.Error}
		}, "no-node-fits"},
		"by its image": {func(w *world) {
			w.stack.Policy.Images = spec.ImagesPin
			w.stack.Policy.Findings = map[string]spec.Severity{"image-not-pinned": spec.Error}
		}, "image-not-pinned"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, makeStack("shop", service("shop", "web", "app:1")))
			tt.world(w)
			plan, err := w.r.Plan(t.Context(), w.stack)
			if err != nil {
				t.Fatal(err)
			}
			if !plan.Empty() || finding(plan.Findings, tt.code) == nil || !slices.ContainsFunc(plan.Held, func(c Change) bool { return c.Name == "shop_web" && c.Op == OpCreate }) {
				t.Fatalf("%+v", plan)
			}
			var b bytes.Buffer
			if err := RenderPlan(&b, false, plan); err != nil {
				t.Fatal(err)
			}
			for _, want := range []string{"held, until the errors below are mended", "+ service shop_web", "plan: nothing to write; 1 stack is held up by errors ("} {
				if !strings.Contains(b.String(), want) {
					t.Errorf("no %q in\n%s", want, b.String())
				}
			}
			if v := plan.View(); len(v.Changes) > 0 || len(v.Held) != len(plan.Held) || v.Summary.Held != len(plan.Held) || v.Summary.Create > 0 {
				t.Errorf("%+v", v)
			}
			if res := w.pass(); res.Outcome != Held || len(w.engine.takeWrites()) > 0 {
				t.Errorf("%s: %s", res.Outcome, res.Message)
			}
		})
	}
}
