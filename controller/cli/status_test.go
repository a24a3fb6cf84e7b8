package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"text/template"
	"time"

	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// result is a stack with these conditions true.
func result(stack string, message string, holds ...reconcile.ConditionType) reconcile.Result {
	r := reconcile.Result{
		Stack: stack,
		Services: []reconcile.ServiceStatus{
			{Name: stack + "_web", Key: "web", Mode: "replicated", Running: 2, Desired: 3, Health: reconcile.Healthy, Image: "web:1"},
			{Name: stack + "_db", Key: "db", Running: 1, Desired: 1, Health: reconcile.Healthy},
		},
		Release: &reconcile.Release{Number: 4, Revision: "abc1234", Subject: "web: 1", Phase: reconcile.PhaseHealthy, Started: noon.Add(-time.Hour)},
	}
	for _, t := range []reconcile.ConditionType{reconcile.Ready, reconcile.Progressing, reconcile.Degraded, reconcile.Stalled} {
		c := reconcile.Condition{Type: t, Reason: "Reason" + string(t), Message: message, Since: noon.Add(-2 * time.Minute)}
		for _, h := range holds {
			c.True = c.True || h == t
		}
		r.Conditions = append(r.Conditions, c)
	}
	return r
}

func TestSummarize(t *testing.T) {
	for _, tt := range []struct {
		holds  []reconcile.ConditionType
		status string
		ready  bool
	}{
		{[]reconcile.ConditionType{reconcile.Ready}, "Ready", true},
		{[]reconcile.ConditionType{reconcile.Ready, reconcile.Progressing}, "Progressing", true},
		{[]reconcile.ConditionType{reconcile.Progressing}, "Progressing", false},
		{[]reconcile.ConditionType{reconcile.Ready, reconcile.Degraded}, "Degraded", false},
		{[]reconcile.ConditionType{reconcile.Degraded, reconcile.Progressing}, "Degraded", false},
		{[]reconcile.ConditionType{reconcile.Ready, reconcile.Stalled}, "Stalled", false},
		{nil, "NotReady", false},
	} {
		s := summarize(result("shop", "because", tt.holds...))
		if s.Status != tt.status || s.Ready != tt.ready {
			t.Errorf("%v: %s, ready %t; want %s, %t", tt.holds, s.Status, s.Ready, tt.status, tt.ready)
		}
		if s.Running != 3 || s.Desired != 4 || s.Message != "because" {
			t.Errorf("%v: %d/%d %q", tt.holds, s.Running, s.Desired, s.Message)
		}
	}
	if s := summarize(reconcile.Result{Stack: "x", Message: "said by the pass"}); s.Status != "Unknown" || s.Message != "said by the pass" {
		t.Errorf("without conditions: %+v", s)
	}
}

func TestStatusTable(t *testing.T) {
	unreleased := result("blog", "", reconcile.Progressing)
	unreleased.Release = nil
	rows := statusRows([]stackStatus{summarize(result("shop", "3 of 3 tasks run", reconcile.Ready)), summarize(unreleased)}, noon)
	var b bytes.Buffer
	if err := printTable(&b, statusHeaders, rows); err != nil {
		t.Fatal(err)
	}
	want := strings.TrimPrefix(`
NAME      SERVICES   READY     STATUS        RELEASE   REVISION   AGE                 REASON
shop      2          3/4       Ready         4         abc1234    About an hour ago   ReasonReady
blog      2          3/4       Progressing   -         -          -                   -
`, "\n")
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func TestStatusOfOneStack(t *testing.T) {
	a := newApp(nil)
	var b bytes.Buffer
	a.out = &b
	if err := a.printStack([]stackStatus{summarize(result("shop", "all is well", reconcile.Ready))}, noon, false, false); err != nil {
		t.Fatal(err)
	}
	want := strings.TrimPrefix(`
Stack:     shop
Status:    Ready
Reason:    all is well
Release:   4, healthy, About an hour ago
Revision:  abc1234 web: 1

wave 1   db    ■    1/1   1 running   Healthy   -            -
         web   ■■   2/3   2 running   Healthy   replicated   web:1

CONDITION     TRUE      SINCE           REASON        MESSAGE
Ready         true      2 minutes ago   ReasonReady   -
Progressing   false     2 minutes ago   -             -
Degraded      false     2 minutes ago   -             -
Stalled       false     2 minutes ago   -             -
`, "\n")
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func TestStatusAsJSONAndTemplate(t *testing.T) {
	stacks := []stackStatus{summarize(result("a", "x<y", reconcile.Ready)), summarize(result("b", "", reconcile.Degraded))}
	var b bytes.Buffer
	if err := printEach(&b, nil, stacks); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	if len(lines) != 2 {
		t.Fatalf("%d lines, want one a stack", len(lines))
	}
	for i, line := range lines {
		var s stackStatus
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			t.Fatal(err)
		}
		if s.Name != stacks[i].Name || s.Ready != stacks[i].Ready || len(s.Conditions) != 4 || len(s.Services) != 2 {
			t.Errorf("line %d: %+v", i, s)
		}
	}
	b.Reset()
	f := formatFlag{value: `{{.Name}}={{.Status}} {{json .Message}}`, words: []string{"table", "json"}}
	tmpl, err := f.parse()
	if err != nil {
		t.Fatal(err)
	}
	if err := printEach(&b, tmpl, stacks); err != nil {
		t.Fatal(err)
	}
	if want := "a=Ready \"x<y\"\nb=Degraded \"\"\n"; b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
	if err := printEach(&b, template.Must(template.New("").Parse("{{.Nothing}}")), stacks); err == nil {
		t.Error("a field that there is not gave no error")
	}
}

func TestFormatErrors(t *testing.T) {
	for _, value := range []string{"yaml", "tabel", "{{.Name", "{{nofunc}}"} {
		f := formatFlag{value: value, words: []string{"table", "json"}}
		if _, err := f.parse(); err == nil {
			t.Errorf("--format %s gave no error", value)
		}
	}
}

// observed plays a Swarm whose stacks are as the n-th look finds them.
type observed struct {
	looks []map[string]reconcile.Result
	n     int
	err   error
}

func (o *observed) Refresh(context.Context) ([]string, error) {
	if o.n < len(o.looks)-1 {
		o.n++
	}
	return nil, o.err
}

func (o *observed) Forget(string) {}

func (o *observed) now() map[string]reconcile.Result { return o.looks[o.n] }

func (o *observed) Stacks() []string {
	var names []string
	for name := range o.now() {
		names = append(names, name)
	}
	return names
}

func (o *observed) Status(_ context.Context, stack string) (reconcile.Result, error) {
	return o.now()[stack], nil
}

func TestWatchUntil(t *testing.T) {
	progressing := map[string]reconcile.Result{"shop": result("shop", "", reconcile.Progressing)}
	good := map[string]reconcile.Result{"shop": result("shop", "", reconcile.Ready)}
	stuck := map[string]reconcile.Result{"shop": result("shop", "", reconcile.Stalled)}
	sick := map[string]reconcile.Result{"shop": result("shop", "", reconcile.Degraded)}
	nothing := map[string]reconcile.Result{}

	for _, tt := range []struct {
		name    string
		looks   []map[string]reconcile.Result
		stack   string
		seconds float64
		verdict string // "good", "no", or the reason
	}{
		{name: "ready at once", looks: []map[string]reconcile.Result{nil, good}, verdict: "good"},
		{name: "ready in a while", looks: []map[string]reconcile.Result{nil, nothing, progressing, sick, good}, seconds: 3, verdict: "good"},
		{name: "stalled ends it", looks: []map[string]reconcile.Result{nil, progressing, stuck}, seconds: 1, verdict: "no"},
		{name: "never", looks: []map[string]reconcile.Result{nil, progressing}, seconds: 10, verdict: "timed out before the stacks were Ready"},
		{name: "the stack comes later", stack: "shop", looks: []map[string]reconcile.Result{nil, nothing, good}, seconds: 1, verdict: "good"},
		{name: "the stack does not come", stack: "shop", looks: []map[string]reconcile.Result{nil, nothing}, seconds: 10, verdict: `no stack "shop"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				w := &watch{observer: &observed{looks: tt.looks}, stack: tt.stack, explain: func(err error) error { return err }}
				if err := w.until(t.Context(), 10*time.Second); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(start).Seconds(); took != tt.seconds {
					t.Errorf("took %g s, want %g", took, tt.seconds)
				}
				checkVerdict(t, w.verdict(), tt.verdict)
			})
		})
	}
}

func TestWatchErrors(t *testing.T) {
	lost := errors.New("lost")
	w := &watch{
		observer: &observed{looks: []map[string]reconcile.Result{nil}, err: lost},
		explain:  func(err error) error { return errors.Join(errors.New("explained"), err) },
	}
	if err := w.look(t.Context()); !errors.Is(err, lost) || !strings.Contains(err.Error(), "explained") {
		t.Errorf("error %v, want the explained one", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w = &watch{observer: &observed{looks: []map[string]reconcile.Result{nil, {}}}, explain: func(err error) error { return err }}
	if err := w.until(ctx, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that it was cancelled", err)
	}
}

func checkVerdict(t *testing.T, got error, want string) {
	t.Helper()
	v, isNo := got.(verdict)
	switch {
	case want == "good":
		if got != nil {
			t.Errorf("verdict %v, want good", got)
		}
	case !isNo:
		t.Errorf("verdict %#v, want a no", got)
	case want != "no" && !strings.HasPrefix(v.reason, want):
		t.Errorf("verdict %q, want %q", v.reason, want)
	}
}

// Findings stand below a stack's services, and in its JSON.
func TestStatusShowsFindings(t *testing.T) {
	r := result("shop", "", reconcile.Ready)
	r.Findings = []spec.Finding{
		{File: "shop.yml", Line: 3, Severity: spec.Warning, Code: "image-untagged", Message: "no tag", Service: "web"},
		{File: "shop.yml", Severity: spec.Warning, Code: "no-node-fits", Message: "no node", Service: "db"},
	}
	var b bytes.Buffer
	a := &app{out: &b}
	if err := a.printStack([]stackStatus{summarize(r)}, noon, false, false); err != nil {
		t.Fatal(err)
	}
	_, got, _ := strings.Cut(b.String(), "\nFINDING")
	want := strings.TrimPrefix(`
          SEVERITY   WHERE        MESSAGE
image-untagged   warning    shop.yml:3   no tag
no-node-fits     warning    db           no node
`, "\n")
	if got = strings.TrimLeft(got, " "); got != strings.TrimLeft(want, " ") {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	text, err := json.Marshal(summarize(r))
	if err != nil || !strings.Contains(string(text), `"findings":[{"file":"shop.yml","line":3,"severity":"warning","code":"image-untagged","message":"no tag","service":"web"}`) {
		t.Errorf("%s, %v", text, err)
	}
}
