package reconcile

import (
	"encoding/json"
	"strings"
	"testing"

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
		`"summary":{"create":1,"update":1,"replace":0,"remove":1,"restarts":1,"blocked":0}}`
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
	if strings.Contains(plain.String(), "\x1b") || !strings.Contains(colour.String(), "\x1b[33m~ service shop_web\x1b[0m") {
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
}

func TestSummary(t *testing.T) {
	blocked := &Plan{Findings: []spec.Finding{{Severity: spec.Error}}}
	for want, plans := range map[string][]*Plan{
		"plan: no changes": {{}, {}},
		"plan: no changes; 1 stack is held up by errors":                          {blocked},
		"plan: 2 to create, 2 to update, 2 to remove; 2 services restart":         {examplePlan(), examplePlan()},
		"plan: 1 to replace; no services restart; 2 stacks are held up by errors": {{Changes: []Change{{Op: OpReplace}}}, blocked, blocked},
	} {
		if got := Summarize(plans...).String(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
