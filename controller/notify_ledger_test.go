package controller

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
)

// at is a pass's result about a release.
func at(r reconcile.Result, number int, phase reconcile.Phase) reconcile.Result {
	r.Release = &reconcile.Release{Number: number, Phase: phase, Revision: "4be1c07", Subject: "Mend the cart"}
	return r
}

func (r passed) of(number int, phase reconcile.Phase) passed {
	return passed(at(reconcile.Result(r), number, phase))
}

// passed is a result that a case makes in one expression.
type passed reconcile.Result

func pass1(o reconcile.Outcome, reason string) passed {
	r := result(o, o == reconcile.Unchanged)
	r.Reason, r.Message = reason, "because of "+reason
	return passed(r)
}

func (r passed) did(action string) passed {
	r.Transitions = []reconcile.Transition{{Action: action, Reason: r.Reason, Message: "release is healthy", Duration: 43 * time.Second}}
	return r
}

func (r passed) sick(services ...string) passed {
	for _, name := range services {
		r.Services = append(r.Services, reconcile.ServiceStatus{Name: name, Health: reconcile.HealthDegraded, Code: "Crashing", Reason: "it ends with 1"})
	}
	return r
}

func (r passed) blocked(id string) passed {
	r.State.PrunePlan, r.State.PruneServices = id, "web,api"
	return r
}

var (
	inSync   = pass1(reconcile.Unchanged, "InSync")
	writes   = pass1(reconcile.Applied, "Applying")
	waits    = pass1(reconcile.Waiting, "Progressing")
	back     = pass1(reconcile.Held, "RolledBack")
	stays    = pass1(reconcile.Held, "Suspended")
	stuck    = pass1(reconcile.Held, "ReleaseFailed")
	errors1  = pass1(reconcile.Failed, "EngineError")
	blockade = pass1(reconcile.Held, reconcile.PruneBlocked)
)

const (
	healthy     = reconcile.PhaseHealthy
	progressing = reconcile.PhaseProgressing
	failedPhase = reconcile.PhaseFailed
)

func TestWhatIsNews(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		passes []passed
		want   []string // the events, in order
	}{
		"what was there before messages were": {[]passed{inSync.of(12, healthy), inSync.of(12, healthy)}, nil},
		"drift then":                          {[]passed{writes.of(12, healthy), waits.of(12, healthy), inSync.of(12, healthy)}, nil},
		"what was bad by then":                {[]passed{back.of(13, failedPhase), back.of(13, failedPhase)}, []string{"rolled-back"}},
		"a new stack":                         {[]passed{writes.of(1, progressing), waits.of(1, progressing), inSync.of(1, healthy)}, []string{"rolled-out"}},
		"in one pass":                         {[]passed{inSync.of(1, healthy).did("rollout-healthy"), inSync.of(1, healthy)}, []string{"rolled-out"}},
		"adopted":                             {[]passed{inSync.of(1, healthy).did("adopted"), inSync.of(1, healthy)}, nil},
		"a release": {[]passed{inSync.of(1, healthy), writes.of(2, progressing), waits.of(2, progressing), inSync.of(2, healthy).did("rollout-healthy"), inSync.of(2, healthy)},
			[]string{"rolled-out"}},
		"healthy while it waits":    {[]passed{inSync.of(1, healthy), waits.of(2, healthy).did("rollout-healthy"), inSync.of(2, healthy)}, []string{"rolled-out"}},
		"superseded":                {[]passed{inSync.of(1, healthy), writes.of(2, progressing), writes.of(3, progressing), inSync.of(3, healthy)}, []string{"rolled-out"}},
		"a bad one":                 {[]passed{inSync.of(1, healthy), writes.of(2, progressing), waits.of(2, failedPhase), back.of(2, failedPhase), back.of(2, failedPhase)}, []string{"rolled-back"}},
		"a bad one, mended":         {[]passed{inSync.of(1, healthy), back.of(2, failedPhase), writes.of(3, progressing), inSync.of(3, healthy)}, []string{"rolled-back", "rolled-out"}},
		"a bad one, mended at once": {[]passed{inSync.of(1, healthy), waits.of(2, failedPhase).did("rolled-back"), writes.of(3, progressing), inSync.of(3, healthy)}, []string{"rolled-back", "rolled-out"}},
		"bad twice":                 {[]passed{inSync.of(1, healthy), back.of(2, failedPhase), writes.of(3, progressing), back.of(3, failedPhase)}, []string{"rolled-back", "rolled-back"}},
		"held and mended":           {[]passed{inSync.of(1, healthy), stuck.of(2, failedPhase), writes.of(3, progressing), inSync.of(3, healthy)}, []string{"held", "rolled-out"}},
		"held twice":                {[]passed{inSync.of(1, healthy), stuck.of(2, failedPhase), writes.of(3, progressing), stuck.of(3, failedPhase)}, []string{"held", "held"}},
		"suspended":                 {[]passed{inSync.of(1, healthy), stays.of(1, healthy), stays.of(1, healthy), inSync.of(1, healthy)}, []string{"held", "recovered"}},
		"an error that comes":       {[]passed{inSync.of(1, healthy), errors1.of(1, healthy), inSync.of(1, healthy)}, nil},
		"sick":                      {[]passed{inSync.of(1, healthy), inSync.of(1, healthy).sick("web"), inSync.of(1, healthy).sick("web", "api"), inSync.of(1, healthy)}, []string{"degraded", "recovered"}},
		"sick through an error":     {[]passed{inSync.of(1, healthy).sick("web"), errors1.of(1, healthy), inSync.of(1, healthy).sick("web")}, []string{"degraded"}},
		"sick, then rolled out":     {[]passed{inSync.of(1, healthy).sick("web"), writes.of(2, progressing), inSync.of(2, healthy)}, []string{"degraded", "rolled-out"}},
		"sick after a rollback":     {[]passed{back.of(2, failedPhase), back.of(2, failedPhase).sick("web"), back.of(2, failedPhase)}, []string{"rolled-back", "degraded", "recovered"}},
		"a removal waits":           {[]passed{inSync.of(1, healthy), blockade.of(1, healthy).blocked("01234567"), blockade.of(1, healthy).blocked("01234567"), inSync.of(1, healthy)}, []string{"prune-blocked", "recovered"}},
		"another removal":           {[]passed{blockade.of(1, healthy).blocked("01234567"), blockade.of(1, healthy).blocked("89abcdef")}, []string{"prune-blocked", "prune-blocked"}},
		"resumed as it was":         {[]passed{inSync.of(1, healthy), back.of(2, failedPhase), inSync.of(2, healthy)}, []string{"rolled-back", "recovered"}},
		"a history that was lost":   {[]passed{inSync.of(12, healthy), inSync.of(1, healthy), writes.of(2, progressing), inSync.of(2, healthy)}, []string{"rolled-out"}},
		"never anything to go on":   {[]passed{waits, waits, pass1(reconcile.Held, "IngressPortTaken")}, []string{"held"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var l *line
			var got []string
			for _, p := range c.passes {
				news, next := l.compare(seeStack(reconcile.Input{Name: "shop", Stack: stack("shop", "1")}, reconcile.Result(p)))
				for _, h := range news {
					got = append(got, string(h.event))
				}
				if next.Said != len(got) {
					t.Errorf("%d were said, and the line says %d", len(got), next.Said)
				}
				l = &next
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

// Whatever passes see: the same again is no news, and who takes over with what was said
// says the rest, no more and no less, with the same IDs as the one before would have.
func TestNewsIsToldOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var said *line
		var story []sight
		number := 1
		for range rapid.IntRange(1, 12).Draw(t, "passes") {
			number += rapid.IntRange(0, 1).Draw(t, "newer")
			p := rapid.SampledFrom([]passed{inSync, writes, waits, back, stays, stuck, errors1, blockade.blocked("01234567"), inSync.sick("web")}).Draw(t, "pass").
				of(number, rapid.SampledFrom([]reconcile.Phase{healthy, progressing, failedPhase}).Draw(t, "phase"))
			story = append(story, seeStack(reconcile.Input{Name: "shop", Stack: stack("shop", "1")}, reconcile.Result(p)))
		}
		for _, s := range story {
			news, next := said.compare(s)
			if again, then := next.compare(s); len(again) > 0 || !then.same(next) || then.Said != next.Said {
				t.Fatalf("%+v is news again: %+v", s, again)
			}
			kept := parseLedger(ledger{Lines: map[string]line{"shop": next}}.text()).Lines["shop"]
			if !kept.same(next) || kept.Said != next.Said {
				t.Fatalf("%+v is read as %+v", next, kept)
			}
			if other, _ := said.compare(s); said != nil && ids(said, other) != ids(said, news) {
				t.Fatalf("two controllers tell of %+v under different IDs", s)
			}
			said = &next
		}
	})
}

func ids(from *line, news []happening) string {
	var all []string
	for i, h := range news {
		all = append(all, newMessage("skep", "shop", h, about{}, from.Said+i, time.Now()).ID)
	}
	return strings.Join(all, " ")
}

func TestLedgerIsBounded(t *testing.T) {
	t.Parallel()
	l := ledger{Lines: map[string]line{}}
	for i := range 20_000 {
		l.Lines[fmt.Sprintf("stack-%05d", i)] = line{Release: i, Said: i}
	}
	l.Lines["sick"] = line{Release: 1, Open: map[spec.Event]string{spec.EventDegraded: "services"}}
	text := l.text()
	if read := parseLedger(text); len(text) > maxLedger || len(read.Lines) < 4000 || read.Lines["sick"].Open == nil {
		t.Errorf("%d bytes, %d lines", len(text), len(read.Lines))
	}
	if len(l.Lines) != 20_001 {
		t.Errorf("it was taken from what is known, too: %d", len(l.Lines))
	}
	if one := (ledger{Lines: map[string]line{"shop": {Release: 12}}}).text(); one != `{"lines":{"shop":{"r":12}}}` {
		t.Errorf("one stack takes %s", one)
	}
	for _, spoilt := range []string{"", "null", "[]", "{", `{"lines":{"a":5}}`, strings.Repeat("x", 3*maxLedger)} {
		if l := parseLedger(spoilt); l.Lines == nil || len(l.Lines) > 0 {
			t.Errorf("%.20q is read as %+v", spoilt, l)
		}
	}
}
