package cli

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/skep-io/skep/controller"
	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
)

// What the acting controller tells is laid over what the Swarm does, unless a release
// has begun since.
func TestStatusShowsWhatIsPublished(t *testing.T) {
	p := &controller.Published{
		Source: controller.PublishedSource{Reason: "SourceMissing", Message: "specs directory stacks does not exist", Since: noon.Add(-time.Hour)},
		Stacks: []controller.PublishedStack{
			{Stack: "blog", Reason: "IngressPortTaken", Message: "stack x publishes port 80", Since: noon.Add(-time.Hour), Release: -1},
			{Stack: "late", Reason: "DependencyNotReady", Message: "stack blog has to be Ready first", Release: -1},
			{Stack: "old", Reason: "NotSticking", Message: "it was so at release 3", Release: 3},
			{Stack: "shop", Reason: "SourceInvalid", Message: "shop.yml:3: bad", Since: noon, Release: 4, Findings: []spec.Finding{
				{File: "shop.yml", Line: 3, Severity: spec.Error, Code: "a", Message: "bad"}, {File: "shop.yml", Line: 9, Severity: spec.Error, Code: "b", Message: "worse"}}},
		},
		Prune:   &controller.PublishedPrune{Blockade: reconcile.Blockade{ID: "01234567", Names: []string{"tail"}, Of: 1, Since: noon.Add(-time.Minute)}, Message: "1 of 1 would go"},
		Omitted: 2,
	}
	live := map[string]reconcile.Result{}
	for _, name := range []string{"shop", "old", "tail"} {
		live[name] = result(name, "", reconcile.Ready)
	}
	w := &watch{observer: fakeSwarm(live), published: func(context.Context) (*controller.Published, error) { return p, nil }, explain: func(err error) error { return err }}
	if err := w.look(t.Context()); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	a := &app{out: &b}
	if err := a.printStacks(w.stacks, noon); err != nil {
		t.Fatal(err)
	}
	w.tellPublished(&b, noon)
	want := strings.TrimPrefix(`
NAME      SERVICES   READY     STATUS        RELEASE   REVISION   AGE                 REASON
blog      0          0/0       Stalled       -         -          -                   IngressPortTaken
late      0          0/0       Progressing   -         -          -                   DependencyNotReady
old       2          3/4       Ready         4         abc1234    About an hour ago   -
shop      2          3/4       Stalled       4         abc1234    About an hour ago   SourceInvalid
tail      2          3/4       Stalled       4         abc1234    About an hour ago   PruneBlocked

blog: stack x publishes port 80
late: stack blog has to be Ready first
shop: shop.yml:3: bad
tail: its file is gone, and its removal, with others, waits for a person (see: skep prune)
SourceMissing, About an hour ago: the specs cannot be believed, and what was read before stays in force: specs directory stacks does not exist
PruneBlocked, About a minute ago: 1 of 1 would go
shop.yml:9: error: b: worse
something is the matter with 2 stacks more, which the report has no room for (see the controller's log)
`, "\n")
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
	if !errors.Is(w.verdict(), no) || w.stacks[0].Source == nil {
		t.Errorf("%v, %+v", w.verdict(), w.stacks[0])
	}
	b.Reset()
	if err := a.printStack(w.stacks[3:4], noon, false, false); err != nil {
		t.Fatal(err)
	}
	if got := b.String(); strings.Count(got, "shop.yml:3: bad") != 1 || !strings.Contains(got, "Stalled       true") || !strings.Contains(got, "shop.yml:9   worse") {
		t.Errorf("got\n%s", got)
	}

	// One that is well says nothing; a source that is not makes a no of it.
	p = &controller.Published{Source: controller.PublishedSource{Reason: "SourceEmpty"}}
	w.observer = fakeSwarm{"shop": result("shop", "", reconcile.Ready)}
	if err := w.look(t.Context()); err != nil || !errors.Is(w.verdict(), no) {
		t.Errorf("%v, %v", err, w.verdict())
	}
	p.Source.Ready, p.Policy = true, &controller.PublishedPolicy{Message: "policy policy.yml:3: bad\x1b[2J", Since: noon.Add(-time.Minute)}
	b.Reset()
	if err := w.look(t.Context()); err != nil || !errors.Is(w.verdict(), no) {
		t.Errorf("%v, %v", err, w.verdict())
	}
	if w.tellPublished(&b, noon); !strings.HasPrefix(b.String(), "PolicyInvalid, About a minute ago: the policy file cannot be read, and its last good version stays in force: policy policy.yml:3: bad") || strings.Contains(b.String(), "\x1b") {
		t.Errorf("told %q", b.String())
	}
	p.Policy = nil
	if err := w.look(t.Context()); err != nil || w.verdict() != nil {
		t.Errorf("%v, %v", err, w.verdict())
	}
}

// What a controller that is gone has left is marked with its age, and that alone is.
func TestStatusMarksAReportThatIsLeft(t *testing.T) {
	p := &controller.Published{
		At: noon.Add(-3 * time.Hour), Source: controller.PublishedSource{Ready: true},
		Stacks: []controller.PublishedStack{{Stack: "blog", Reason: "SourceInvalid", Message: "blog.yml:3: bad", Since: noon.Add(-4 * time.Hour), Release: -1}},
	}
	for _, tt := range []struct {
		holder controller.Holder
		left   bool
	}{
		{controller.Holder{}, true},
		{controller.Holder{ID: "a.1", Renewed: noon.Add(-time.Hour)}, true},
		{controller.Holder{ID: "a.1", Renewed: noon.Add(-5 * time.Second)}, false},
	} {
		w := &watch{observer: fakeSwarm{"shop": result("shop", "", reconcile.Ready)}, published: func(context.Context) (*controller.Published, error) { return p, nil }, explain: func(err error) error { return err }}
		if err := w.look(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.tellAway(tt.holder, noon)
		var b bytes.Buffer
		a := &app{out: &b}
		if err := errors.Join(a.printStacks(w.stacks, noon), a.printStack(w.stacks[:1], noon, false, false)); err != nil {
			t.Fatal(err)
		}
		w.tellPublished(&b, noon)
		for _, words := range []string{
			"Stalled, as reported", "no controller acts: what it told last was written 3 hours ago, and may be otherwise by now\n",
			"Reported:  3 hours ago, by a controller that does not act any more\n",
		} {
			if strings.Contains(b.String(), words) != tt.left {
				t.Errorf("%+v: %q in\n%s", tt.holder, words, b.String())
			}
		}
		if strings.Contains(b.String(), "Ready, as reported") || w.stacks[0].Reported != p.At || !w.stacks[1].Reported.IsZero() {
			t.Errorf("%+v", w.stacks)
		}
	}
}

// That a stack's file is gone is told beside how the stack is.
func TestStatusShowsOrphans(t *testing.T) {
	p := &controller.Published{Source: controller.PublishedSource{Ready: true}}
	live := fakeSwarm{}
	for _, name := range []string{"sick", "well"} {
		p.Stacks = append(p.Stacks, controller.PublishedStack{Stack: name, Reason: reconcile.Orphaned, Message: "its file is gone; 3 objects stay", Release: 4})
		live[name] = result(name, "", reconcile.Ready)
	}
	live["sick"] = result("sick", "web is ill", reconcile.Degraded)
	w := &watch{observer: live, published: func(context.Context) (*controller.Published, error) { return p, nil }, explain: func(err error) error { return err }}
	if err := w.look(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, want := range []stackStatus{{Status: "Degraded", Message: "web is ill; its file is gone; 3 objects stay"}, {Status: "Ready", Ready: true, Reason: "Orphaned", Message: "its file is gone; 3 objects stay"}} {
		if got := w.stacks[i]; got.Status != want.Status || got.Ready != want.Ready || got.Message != want.Message || want.Reason != "" && got.Reason != want.Reason {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
	delete(live, "sick")
	p.Stacks = p.Stacks[1:]
	if err := w.look(t.Context()); err != nil || w.verdict() != nil {
		t.Errorf("an orphan that is well: %v, %v", err, w.verdict())
	}
}

// Findings that are infos are shown where somebody asks for them.
func TestStatusShowsInfosIfAsked(t *testing.T) {
	r := result("shop", "", reconcile.Ready)
	r.Findings = []spec.Finding{{Severity: spec.Info, Code: "foreign", Message: "somebody's"}}
	for _, asked := range []bool{false, true} {
		var b bytes.Buffer
		if err := (&app{out: &b}).printStack([]stackStatus{summarize(r)}, noon, asked, false); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(b.String(), "foreign") != asked {
			t.Errorf("asked %t:\n%s", asked, b.String())
		}
	}
}

// fakeSwarm has these stacks.
type fakeSwarm map[string]reconcile.Result

func (f fakeSwarm) Refresh(context.Context) ([]string, error) { return nil, nil }
func (f fakeSwarm) Forget(string)                             {}
func (f fakeSwarm) Stacks() (names []string) {
	for name := range f {
		names = append(names, name)
	}
	return names
}
func (f fakeSwarm) Status(_ context.Context, stack string) (reconcile.Result, error) {
	r, ok := f[stack]
	if !ok {
		r.Stack = stack
	}
	return r, nil
}

// Where there are several sources, each that is not believed has a line of its own.
func TestStatusNamesSources(t *testing.T) {
	w := &watch{report: &controller.Published{
		Source: controller.PublishedSource{Reason: "SourceMissing", Message: "source infra: away; source shops: old", Since: noon.Add(-time.Hour)},
		Sources: []controller.PublishedSource{
			{Name: "infra", Reason: "SourceMissing", Message: "away", Since: noon.Add(-time.Hour)},
			{Name: "shops", Reason: "GitUnreachable", Message: "old", Since: noon.Add(-time.Minute)},
		},
	}}
	var b bytes.Buffer
	w.tellPublished(&b, noon)
	want := `SourceMissing, About an hour ago: source infra cannot be believed, and what was read of it before stays in force: away
GitUnreachable, About a minute ago: source shops cannot be believed, and what was read of it before stays in force: old
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}
