package cli

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/skep-io/skep/reconcile"
)

// rollingOut is a stack in the middle of a rollout: seconds into it, with so many of
// web's three tasks done.
func rollingOut(running uint64) reconcile.Result {
	r := result("shop", "web: 2 of 3 tasks start (must be healthy within 9m48s)", reconcile.Progressing)
	r.Outcome, r.Reason, r.Requeue = reconcile.Waiting, "RollingOut", time.Second
	r.Message = r.Conditions[0].Message
	r.Release.Number, r.Release.Phase = 5, reconcile.PhaseProgressing
	r.Progress = &reconcile.Progress{Step: reconcile.StepConverge, Since: noon.Add(-12 * time.Second), Until: noon.Add(588 * time.Second)}
	web := &r.Services[0]
	web.Updated, web.Desired, web.Health, web.Code = running, 3, reconcile.HealthProgressing, "Starting"
	web.Reason, web.Since, web.Until = "web: the healthcheck of 2 of 3 tasks is pending", noon.Add(-8*time.Second), noon.Add(22*time.Second)
	r.Services[1].Updated = 1
	return r
}

func TestBoardOnATerminal(t *testing.T) {
	var b bytes.Buffer
	board := &board{out: &b, size: func() (int, int) { return 100, 24 }, said: map[string]string{}}
	board.show([]stackStatus{summarize(rollingOut(1))}, noon)
	board.tell("shop: something that stays")
	board.show([]stackStatus{summarize(rollingOut(2))}, noon.Add(time.Second))
	board.end()
	want := strings.Join([]string{
		"shop: release 5 is converging (1 of 2 services) [12s, at most 9m48s more]",
		"  web  1/3 new, 1 old  the healthcheck of 2 of 3 tasks is pending [8s, at most 22s more]",
		"\x1b[2A\r\x1b[Jshop: something that stays",
		"shop: release 5 is converging (1 of 2 services) [13s, at most 9m47s more]",
		"  web  2/3  the healthcheck of 2 of 3 tasks is pending [9s, at most 21s more]",
		"\x1b[2A\r\x1b[J",
	}, "\n")
	if b.String() != want {
		t.Errorf("got\n%q\nwant\n%q", b.String(), want)
	}
}

// What does not fit would be broken by the terminal, and could not be drawn over.
func TestBoardFitsTheTerminal(t *testing.T) {
	var b bytes.Buffer
	board := &board{out: &b, size: func() (int, int) { return 40, 6 }, said: map[string]string{}}
	var stacks []stackStatus
	for range 10 {
		stacks = append(stacks, summarize(rollingOut(1)))
	}
	board.show(stacks, noon)
	lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	if len(lines) != 4 || lines[3] != "… and 17 lines more" {
		t.Errorf("%d lines: %q", len(lines), lines)
	}
	for _, line := range lines {
		if utf8.RuneCountInString(line) > 39 {
			t.Errorf("%q is too long", line)
		}
	}
}

// Elsewhere there is a line for what became different, and none since time passed.
func TestBoardElsewhere(t *testing.T) {
	var b bytes.Buffer
	board := &board{out: &b, said: map[string]string{}}
	for i := range 5 {
		r := rollingOut(1)
		r.Conditions[0].Message = "the same, with another time in it " + time.Duration(i).String()
		board.show([]stackStatus{summarize(r)}, noon.Add(time.Duration(i)*time.Second))
	}
	board.show([]stackStatus{summarize(rollingOut(2))}, noon)
	board.show([]stackStatus{summarize(result("shop", "", reconcile.Ready))}, noon)
	board.end()
	want := strings.TrimPrefix(`
shop: release 5 is converging
shop: web 1/3 new, 1 old Starting: the healthcheck of 2 of 3 tasks is pending
shop: db 1/1 healthy
shop: web 2/3 Starting: the healthcheck of 2 of 3 tasks is pending
shop: ready
shop: web 0/3 healthy
shop: db 0/1 healthy
`, "\n")
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
	if strings.Contains(b.String(), "\x1b") {
		t.Error("it has escape sequences")
	}
}

func TestBoardQuiet(t *testing.T) {
	var b bytes.Buffer
	board := &board{out: &b, quiet: true, size: func() (int, int) { return 80, 24 }, said: map[string]string{}}
	board.show([]stackStatus{summarize(rollingOut(1))}, noon)
	board.tell("a line")
	board.end()
	if b.Len() > 0 {
		t.Errorf("%q", b.String())
	}
}

// What apply tells while it waits has times in it; it is told when something else is new.
func TestProgressIsNotToldEverySecond(t *testing.T) {
	var b bytes.Buffer
	p := newProgress(&board{out: &b})
	for i := range 5 {
		r := rollingOut(1)
		r.Message = strings.Replace(r.Message, "9m48s", (588*time.Second - time.Duration(i)*time.Second).String(), 1)
		p.pass(r)
	}
	p.pass(rollingOut(2))
	if got := strings.Count(b.String(), "\n"); got != 2 {
		t.Errorf("%d lines, want 2:\n%s", got, b.String())
	}

	b.Reset()
	p = newProgress(&board{out: &b, size: func() (int, int) { return 100, 24 }})
	p.now = func() time.Time { return noon }
	p.pass(rollingOut(1))
	done := result("shop", "", reconcile.Ready)
	done.Outcome = reconcile.Unchanged
	p.pass(done)
	if got := b.String(); !strings.HasPrefix(got, "shop: release 5 is converging") || !strings.HasSuffix(got, "\x1b[Jshop: as the file says\n") {
		t.Errorf("%q", got)
	}
}

// back is a stack that is pinned to release 3, whose newest release is this one.
func back(phase reconcile.Phase, number, of int, holds ...reconcile.ConditionType) map[string]reconcile.Result {
	r := result("shop", "because", holds...)
	r.Services[0].Running = 3
	r.State = reconcile.State{Pinned: noon, Pin: 3}
	r.Release = &reconcile.Release{Number: number, Phase: phase, By: reconcile.ByFile}
	if of > 0 {
		r.Release.By, r.Release.Of = reconcile.ByHand, of
	}
	return map[string]reconcile.Result{"shop": r}
}

func TestRollbackIsWaitedFor(t *testing.T) {
	before := back(reconcile.PhaseHealthy, 4, 0, reconcile.Ready)
	under := back(reconcile.PhaseProgressing, 5, 3, reconcile.Progressing)
	there := back(reconcile.PhaseHealthy, 5, 3, reconcile.Ready)
	sick := back(reconcile.PhaseHealthy, 5, 3, reconcile.Degraded)
	sick["shop"].Services[0].Health = reconcile.HealthDegraded
	failed := back(reconcile.PhaseFailed, 5, 3, reconcile.Stalled)
	ended := back(reconcile.PhaseProgressing, 6, 0, reconcile.Progressing)
	unpinned := ended["shop"]
	unpinned.State = reconcile.State{}
	ended["shop"] = unpinned
	held := back(reconcile.PhaseHealthy, 4, 0)
	suspended := held["shop"]
	suspended.State.Suspended = noon
	held["shop"] = suspended

	for _, tt := range []struct {
		name    string
		looks   []map[string]reconcile.Result
		seconds float64
		verdict string
	}{
		{"there", []map[string]reconcile.Result{nil, before, under, there}, 2, "good"},
		{"nobody acts", []map[string]reconcile.Result{nil, before}, 10, "nobody took stack shop back to release 3 within 10s"},
		{"it fails there", []map[string]reconcile.Result{nil, before, under, failed}, 2, "stack shop went back to release 3 and is not healthy there: because"},
		{"it does not get well", []map[string]reconcile.Result{nil, under, sick}, 10, "stack shop was not healthy at release 3 within 10s"},
		{"the files change", []map[string]reconcile.Result{nil, before, ended}, 1, "stack shop is not pinned to release 3 any more"},
		{"it is suspended", []map[string]reconcile.Result{nil, before, held}, 1, "stack shop was suspended meanwhile"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				w := pinWatch{observer: &observed{looks: tt.looks}, stack: "shop", pin: 3, explain: func(err error) error { return err }, board: &board{quiet: true}}
				err := w.until(t.Context(), 10*time.Second)
				if took := time.Since(start).Seconds(); took != tt.seconds {
					t.Errorf("took %g s, want %g", took, tt.seconds)
				}
				checkVerdict(t, err, tt.verdict)
			})
		})
	}
	var b bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		w := pinWatch{observer: &observed{looks: []map[string]reconcile.Result{nil, before, under, there}}, stack: "shop", pin: 3, explain: func(err error) error { return err }, board: &board{out: &b, said: map[string]string{}}}
		checkVerdict(t, w.until(t.Context(), 10*time.Second), "good")
	})
	// How the stack is before anybody began says nothing of what is waited for.
	if lines := strings.Split(b.String(), "\n"); lines[0] != "shop: waiting for a controller to begin" || !strings.HasPrefix(lines[1], "shop: progressing") {
		t.Errorf("%q", lines)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := pinWatch{observer: &observed{looks: []map[string]reconcile.Result{nil, before}}, stack: "shop", pin: 3, explain: func(err error) error { return err }, board: &board{quiet: true}}
	if err := w.until(ctx, time.Hour); err == nil || !strings.Contains(err.Error(), "what was asked for holds") {
		t.Errorf("stopped: %v", err)
	}
}
