package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
)

func TestProgressTellsNewsOnly(t *testing.T) {
	first := reconcile.Result{Stack: "shop", Outcome: reconcile.Applied, Message: "first release", Plan: update, Written: update.Changes[:2],
		Transitions: []reconcile.Transition{{Action: "rollout-started", Message: "release 1"}}}
	waiting := reconcile.Result{Stack: "shop", Outcome: reconcile.Waiting, Message: "1 of 3 tasks of web run"}
	done := reconcile.Result{Stack: "shop", Outcome: reconcile.Unchanged}

	var b bytes.Buffer
	p := newProgress(&board{out: &b})
	next := first // what was planned all along is told when it is written, and not before
	next.Transitions, next.Written = nil, update.Changes[2:]
	again := next
	again.Written = nil
	for _, r := range []reconcile.Result{first, next, again, waiting, waiting, done} {
		p.pass(r)
	}
	want := strings.TrimPrefix(`
shop: rollout started: release 1
shop: create config shop_proxy-0011
shop: remove service shop_old
shop: update service shop_web (image, environment.NEW; restarts)
shop: replace service shop_job (restarts)
shop: written: first release
shop: waiting: 1 of 3 tasks of web run
shop: as the file says
`, "\n")
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}

	b.Reset()
	newProgress(&board{out: &b, quiet: true}).pass(first)
	if b.Len() != 0 {
		t.Errorf("quiet: %q", b.String())
	}
}

// What the Swarm lacks for a file, or will not do, is told by the one verb that some
// run at all; what the file alone gives warning of is for validate.
func TestProgressWarns(t *testing.T) {
	warning := spec.Finding{File: "shop.yml", Severity: spec.Warning, Code: "network-changed", Message: "network shop_default differs from the file in attachable"}
	r := reconcile.Result{Stack: "shop", Outcome: reconcile.Unchanged, Findings: []spec.Finding{
		{File: "shop.yml", Severity: spec.Info, Code: "foreign"},
		{File: "shop.yml", Line: 3, Severity: spec.Warning, Code: "image-latest"},
		{File: "shop.yml", Severity: spec.Error, Code: "name-taken"}, // the stack is held, and says it
		warning,
	}}
	var b bytes.Buffer
	p := newProgress(&board{out: &b})
	p.pass(r)
	p.pass(r)
	if want := "shop: " + warning.String() + "\nshop: as the file says\n"; b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
	b.Reset()
	r.Conditions = []reconcile.Condition{{Type: reconcile.Ready, True: true, Message: "left undone: this"}}
	if p.pass(r); b.String() != "shop: nothing left to write: left undone: this\n" {
		t.Errorf("left undone: %q", b.String())
	}
}

func TestApplyVerdict(t *testing.T) {
	with := func(o reconcile.Outcome, reason string, err error, holds ...reconcile.ConditionType) reconcile.Result {
		r := result("shop", "", holds...)
		r.Outcome, r.Reason, r.Err = o, reason, err
		return r
	}
	lost := errors.New("lost")
	unwritten := with(reconcile.Waiting, "DependencyNotReady", nil, reconcile.Progressing)
	unwritten.Plan = &reconcile.Plan{Changes: []reconcile.Change{{Op: reconcile.OpCreate}}}
	for _, tt := range []struct {
		name          string
		r             reconcile.Result
		now, thatWait string // the verdict without and with --wait; "?" is an error
	}{
		{"as the file says", with(reconcile.Unchanged, "InSync", nil, reconcile.Ready), "good", "good"},
		{"just written", with(reconcile.Applied, "FirstRelease", nil, reconcile.Progressing), "good", "no"},
		{"still waiting", with(reconcile.Waiting, "RollingOut", nil, reconcile.Progressing), "good", "no"},
		{"nothing written", unwritten, "no", "no"},
		{"waiting and sick", with(reconcile.Waiting, "RollingOut", nil, reconcile.Progressing, reconcile.Degraded), "no", "no"},
		{"in sync and sick", with(reconcile.Unchanged, "InSync", nil, reconcile.Degraded), "no", "no"},
		{"went back", with(reconcile.RolledBack, "RolledBack", nil, reconcile.Progressing, reconcile.Degraded), "no", "no"},
		{"held", with(reconcile.Held, "Held", nil, reconcile.Stalled), "no", "no"},
		{"suspended", with(reconcile.Held, "Suspended", nil), "no", "no"},
		{"invalid", with(reconcile.Failed, "SourceInvalid", lost, reconcile.Stalled), "no", "no"},
		{"timed out", with(reconcile.Failed, "Stopped", fmt.Errorf("stop: %w", errTimedOut), reconcile.Stalled), "no", "no"},
		{"engine lost", with(reconcile.Failed, "EngineError", lost, reconcile.Stalled), "?", "?"},
		{"failed without an error", with(reconcile.Failed, "EngineError", nil, reconcile.Stalled), "?", "?"},
	} {
		for wait, want := range map[bool]string{false: tt.now, true: tt.thatWait} {
			t.Run(fmt.Sprintf("%s/wait=%t", tt.name, wait), func(t *testing.T) {
				good := with(reconcile.Unchanged, "InSync", nil, reconcile.Ready)
				err := applyVerdict(map[string]reconcile.Result{"good": good, "shop": tt.r}, wait, func(err error) error { return err })
				if want == "?" {
					if _, isNo := err.(verdict); err == nil || isNo || !strings.HasPrefix(err.Error(), "stack shop: ") {
						t.Errorf("verdict %v, want an error that names the stack", err)
					}
					return
				}
				checkVerdict(t, err, want)
			})
		}
	}
}

func TestApplyTable(t *testing.T) {
	r := result("", "all is well", reconcile.Ready)
	r.Outcome = reconcile.Unchanged
	rows := applied(map[string]reconcile.Result{"shop": r, "blog": {Outcome: reconcile.Failed, Message: "no file"}}, nil)
	var b bytes.Buffer
	if err := printApplied(&b, rows); err != nil {
		t.Fatal(err)
	}
	want := strings.TrimPrefix(`
NAME      OUTCOME     STATUS    RELEASE   REVISION   REASON
blog      error       Unknown   -         -          -
shop      unchanged   Ready     4         abc1234    ReasonReady

blog: no file
shop: all is well
`, "\n")
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

// What passes did is told even where the last one had nothing left to do.
func TestApplyTellsWhatWasDone(t *testing.T) {
	p := newProgress(&board{out: io.Discard, quiet: true})
	for _, o := range []reconcile.Outcome{reconcile.Applied, reconcile.Waiting, reconcile.Unchanged} {
		p.pass(reconcile.Result{Stack: "shop", Outcome: o})
	}
	p.pass(reconcile.Result{Stack: "blog", Outcome: reconcile.Unchanged})
	rows := applied(map[string]reconcile.Result{"shop": {Outcome: reconcile.Unchanged}, "blog": {Outcome: reconcile.Unchanged}}, p.wrote)
	if rows[0].Outcome != reconcile.Unchanged || rows[1].Outcome != reconcile.Applied {
		t.Errorf("%+v", rows)
	}
}

// A stack is removed only when two readings miss its file.
func TestConfirm(t *testing.T) {
	with := func(names ...string) *spec.Snapshot {
		s := &spec.Snapshot{Complete: true, Stacks: map[string]*spec.Stack{}}
		for _, name := range names {
			s.Stacks[name] = &spec.Stack{Name: name}
		}
		return s
	}
	for name, c := range map[string]struct {
		first, second *spec.Snapshot
		want          []string // what everything names then; nil is an error
		reads         int
	}{
		"all there":           {with("a", "b"), with("a"), []string{"a", "b"}, 0},
		"gone":                {with("a"), with("a"), []string{"a", "b"}, 1},
		"back again":          {with("a"), with("a", "b"), []string{"a", "b"}, 1},
		"another one went":    {with("a"), with("b"), nil, 1},
		"one came, one there": {with("a"), with("a", "c"), []string{"a", "b", "c"}, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			live, reads := []string{"a", "b"}, 0
			got, err := confirm(t.Context(), live, c.first, func() (*spec.Snapshot, error) { reads++; return c.second, nil })
			if reads != c.reads || (err != nil) != (c.want == nil) {
				t.Fatalf("%s: %d readings, error %v", name, reads, err)
			}
			if err == nil && !slices.Equal(everything(live, got), c.want) {
				t.Errorf("%s: %v", name, everything(live, got))
			}
		})
	}
}
