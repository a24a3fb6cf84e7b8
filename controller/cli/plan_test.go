package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
)

// planned plays a Swarm that lacks what plans say.
type planned struct {
	plans  map[string]*reconcile.Plan
	stacks []string
	err    error
}

func (p *planned) Refresh(context.Context) ([]string, error) { return nil, nil }
func (p *planned) Stacks() []string                          { return p.stacks }
func (p *planned) PlanFollowing(_ context.Context, s *spec.Stack, _ map[string]reconcile.Found) (*reconcile.Plan, error) {
	return p.plans[s.Name], p.err
}

var update = &reconcile.Plan{
	Stack: "shop",
	Changes: []reconcile.Change{
		{Op: reconcile.OpCreate, Kind: reconcile.KindConfig, Name: "shop_proxy-0011", Key: "proxy"},
		{Op: reconcile.OpRemove, Kind: reconcile.KindService, Name: "shop_old", Early: true},
		{Op: reconcile.OpUpdate, Kind: reconcile.KindService, Name: "shop_web", Key: "web", Restarts: true, Fields: []reconcile.Field{
			{Path: "image", Old: "web:1.0", New: "web:2.0", Restarts: true},
			{Path: "environment.NEW", New: "1", Restarts: true},
		}},
		{Op: reconcile.OpReplace, Kind: reconcile.KindService, Name: "shop_job", Restarts: true, Wave: 1},
	},
	Findings: []spec.Finding{{Severity: spec.Warning, Code: "unpinned", Message: "no registry answers (the tag is used as it is)"}},
}

func TestPrintPlan(t *testing.T) {
	p := planning{plans: []*reconcile.Plan{{Stack: "blog"}, update}, orphans: []string{"old"}}
	for _, tt := range []struct {
		colour, prune bool
		want          []string
	}{
		{false, true, []string{"shop_web", "image", "web:1.0", "web:2.0", "no registry answers", "1 stack has no file here and would be removed, volumes stay: old"}},
		{true, false, []string{"\x1b[", "1 stack has no file here and stays as it is: old (--prune-stacks removes what has none; where another directory has it, give each directory its own --owner)"}},
	} {
		var b bytes.Buffer
		if err := p.print(&b, tt.colour, tt.prune); err != nil {
			t.Fatal(err)
		}
		for _, want := range tt.want {
			if !strings.Contains(b.String(), want) {
				t.Errorf("colour %t, prune %t: no %q in\n%s", tt.colour, tt.prune, want, b.String())
			}
		}
		if !tt.colour && strings.Contains(b.String(), "\x1b") {
			t.Errorf("colour where there shall be none:\n%s", b.String())
		}
	}
}

// However many stacks another directory has, they are one line.
func TestOrphansAreOneLine(t *testing.T) {
	for _, tt := range []struct {
		orphans []string
		want    string
	}{
		{nil, ""},
		{[]string{"a", "b"}, "2 stacks have no file here and would be removed, volumes stay: a, b\n"},
		{strings.Split("abcdefghij", ""), "10 stacks have no file here and would be removed, volumes stay: a, b, c, d, e, f, g, h, i, j\n"},
	} {
		var b bytes.Buffer
		(&planning{orphans: tt.orphans}).tellOrphans(&b, true)
		if b.String() != tt.want {
			t.Errorf("%q, want %q", b.String(), tt.want)
		}
	}
	var b bytes.Buffer
	(&planning{orphans: strings.Split("abcdefghij", "")}).tellOrphans(&b, false)
	if want := "10 stacks have no file here and stay as they are: a, b, c, d, e and 5 more (--prune-stacks"; !strings.HasPrefix(b.String(), want) {
		t.Errorf("%q, want %q", b.String(), want)
	}
	b.Reset()
	(&planning{orphans: strings.Split("abcdefghij", ""), whole: true}).tellOrphans(&b, false)
	if want := "stay as they are: a, b, c, d, e, f, g, h, i, j (--prune-stacks"; !strings.Contains(b.String(), want) {
		t.Errorf("%q, want %q", b.String(), want)
	}
}

func TestPlanAsJSON(t *testing.T) {
	p := planning{plans: []*reconcile.Plan{update}, orphans: []string{"old"}}
	var b bytes.Buffer
	if err := printEach(&b, nil, p.documents(false)); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	if len(lines) != 2 {
		t.Fatalf("%d lines, want one a stack", len(lines))
	}
	var shop, old planDocument
	if err := errors.Join(json.Unmarshal([]byte(lines[0]), &shop), json.Unmarshal([]byte(lines[1]), &old)); err != nil {
		t.Fatal(err)
	}
	if len(shop.Changes) != 4 || shop.Changes[2].Fields[0].New != "web:2.0" || !shop.Changes[2].Restarts || len(shop.Findings) != 1 {
		t.Errorf("shop: %+v", shop)
	}
	if !old.Orphan || old.Changes == nil {
		t.Errorf("old: %+v", old)
	}
}

func TestPlanVerdict(t *testing.T) {
	same := &reconcile.Plan{Stack: "same", Findings: []spec.Finding{{Severity: spec.Warning}}}
	blocked := &reconcile.Plan{Stack: "blocked", Findings: []spec.Finding{{Severity: spec.Error}}}
	for _, tt := range []struct {
		name           string
		p              planning
		invalid, prune bool
		want           string
	}{
		{name: "nothing differs", p: planning{plans: []*reconcile.Plan{same}}, want: "good"},
		{name: "something differs", p: planning{plans: []*reconcile.Plan{same, update}}, want: "no"},
		{name: "nothing may be written", p: planning{plans: []*reconcile.Plan{blocked}}, want: "no"},
		{name: "a file is invalid", p: planning{plans: []*reconcile.Plan{same}}, invalid: true, want: "no"},
		{name: "an orphan that stays", p: planning{orphans: []string{"old"}}, want: "good"},
		{name: "an orphan that goes", p: planning{orphans: []string{"old"}}, prune: true, want: "no"},
	} {
		t.Run(tt.name, func(t *testing.T) { checkVerdict(t, tt.p.verdict(tt.invalid, tt.prune), tt.want) })
	}
}

// Two stacks of the directory that publish one port are told of where neither lives
// yet, as no engine refuses anything then.
func TestPlanTellsOfPortsOfTheDirectory(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"a", "b"} {
		file := "services:\n  web:\n    image: app:1\n    ports: [\"8080:80\"]\n"
		if err := os.WriteFile(filepath.Join(dir, name+".yml"), []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	snapshot := spec.Scan(t.Context(), dir, spec.Options{})
	stacks, err := choose(snapshot, nil)
	if err != nil || len(stacks) != 2 {
		t.Fatalf("%v, %v", stacks, err)
	}
	change := func(op reconcile.Op, fields ...string) []reconcile.Change {
		c := reconcile.Change{Op: op, Kind: reconcile.KindService, Name: "x", Key: "web"}
		for _, f := range fields {
			c.Fields = append(c.Fields, reconcile.Field{Path: f})
		}
		return []reconcile.Change{c}
	}
	create := change(reconcile.OpCreate)
	taken := []spec.Finding{{Severity: spec.Error, Code: "ingress-port-taken"}}
	for name, tt := range map[string]struct {
		a, b         reconcile.Plan
		inA, inB     int
		strictIsGood bool
	}{
		"neither lives":      {a: reconcile.Plan{Changes: create}, b: reconcile.Plan{Changes: create}, inA: 1, inB: 1},
		"one is to publish":  {a: reconcile.Plan{Changes: change(reconcile.OpUpdate, "image", "ports.8080/tcp")}, b: reconcile.Plan{Changes: create}, inA: 1, inB: 1},
		"one lives":          {a: reconcile.Plan{Changes: change(reconcile.OpUpdate, "image")}, b: reconcile.Plan{Held: create, Findings: taken}, strictIsGood: true},
		"nothing is written": {strictIsGood: true},
	} {
		t.Run(name, func(t *testing.T) {
			p := planning{planner: &planned{plans: map[string]*reconcile.Plan{"a": &tt.a, "b": &tt.b}}, explain: func(err error) error { return err }}
			if err := p.make(t.Context(), stacks); err != nil {
				t.Fatal(err)
			}
			for i, want := range []int{tt.inA, tt.inB} {
				got := 0
				for _, f := range p.plans[i].Findings {
					if f.Code == "port-conflict" && strings.Contains(f.Message, "8080") && f.Line > 0 {
						got++
					}
				}
				if got != want {
					t.Errorf("%s: %d port-conflict in %v, want %d", stacks[i].Name, got, p.plans[i].Findings, want)
				}
			}
			if p.warns() == tt.strictIsGood {
				t.Errorf("warns is %v", p.warns())
			}
		})
	}
}

func TestPlanWarns(t *testing.T) {
	with := func(s spec.Severity) *reconcile.Plan {
		return &reconcile.Plan{Stack: "shop", Findings: []spec.Finding{{Severity: spec.Info}, {Severity: s}}}
	}
	for severity, want := range map[spec.Severity]bool{spec.Info: false, spec.Warning: true} {
		p := planning{plans: []*reconcile.Plan{{Stack: "blog"}, with(severity)}}
		if p.warns() != want {
			t.Errorf("with %s: warns is %v", severity, !want)
		}
		if p.verdict(false, false) != nil {
			t.Errorf("with %s, and not --strict: not good", severity)
		}
	}
}

func TestPlanningAsksForEveryStack(t *testing.T) {
	swarm := &planned{plans: map[string]*reconcile.Plan{"shop": update, "blog": {Stack: "blog"}}, stacks: []string{"blog", "broken", "old", "shop"}}
	snapshot := &spec.Snapshot{
		Complete: true, Dir: "specs",
		Stacks:   map[string]*spec.Stack{"shop": {Name: "shop"}, "blog": {Name: "blog"}},
		Problems: map[string][]spec.Finding{"broken": {{Severity: spec.Error}}},
	}
	stacks, err := choose(snapshot, nil)
	if err != nil {
		t.Fatal(err)
	}
	p := planning{planner: swarm, explain: func(err error) error { return err }}
	if err := p.make(t.Context(), stacks); err != nil {
		t.Fatal(err)
	}
	if p.findOrphans(snapshot, nil, nil); len(p.orphans) > 0 {
		t.Errorf("orphans %v, want none: the broken file may be theirs", p.orphans)
	}
	snapshot.Problems, swarm.stacks = nil, []string{"blog", "old", "shop"}
	if p.findOrphans(snapshot, []string{"shop"}, nil); len(p.orphans) > 0 {
		t.Errorf("orphans %v, and others were asked for", p.orphans)
	}
	p.findOrphans(snapshot, nil, nil)
	if len(p.plans) != 2 || p.plans[0].Stack != "blog" || p.plans[1] != update {
		t.Errorf("plans %v, want blog's and shop's", p.plans)
	}
	if len(p.orphans) != 1 || p.orphans[0] != "old" {
		t.Errorf("orphans %v, want old", p.orphans)
	}
	waited := &reconcile.Blockade{Names: []string{"old", "older"}, Of: 2}
	for _, before := range []*reconcile.Blockade{nil, waited} {
		p.orphans = nil
		swarm.stacks = []string{"a", "b", "c", "old", "older", "shop"}
		snapshot.Stacks["a"], snapshot.Stacks["b"], snapshot.Stacks["c"] = &spec.Stack{}, &spec.Stack{}, &spec.Stack{}
		if p.findOrphans(snapshot, nil, before); (p.blocked != nil) != (before != nil) {
			t.Errorf("two waited before: %t; blocked: %+v", before != nil, p.blocked)
		}
	}
	p.orphans, p.blocked = []string{"old"}, nil
	var b bytes.Buffer
	p.printNames(&b, true)
	if b.String() != "shop\nold\n" {
		t.Errorf("names %q", b.String())
	}

	swarm.err = errors.New("lost")
	if err := p.make(t.Context(), stacks); err == nil || err.Error() != "plan stack blog: lost" {
		t.Errorf("error %v", err)
	}
}

func TestChoose(t *testing.T) {
	snapshot := &spec.Snapshot{
		Dir:      "specs",
		Stacks:   map[string]*spec.Stack{"a": {Name: "a"}, "b": {Name: "b"}},
		Problems: map[string][]spec.Finding{"c": nil, "broken": {{Severity: spec.Error}}},
	}
	stacks, err := choose(snapshot, []string{"b", "a", "b"})
	if err != nil || len(stacks) != 2 || stacks[0].Name != "a" {
		t.Errorf("%v, %v; want a and b, once", stacks, err)
	}
	if stacks, err := choose(snapshot, []string{"broken"}); err != nil || len(stacks) != 0 {
		t.Errorf("broken: %v, %v; want none, and its findings told elsewhere", stacks, err)
	}
	if _, err := choose(snapshot, []string{"nosuch"}); err == nil || !strings.Contains(err.Error(), `no stack "nosuch" in specs (there are: a, b, broken, c)`) {
		t.Errorf("nosuch: %v", err)
	}
}
