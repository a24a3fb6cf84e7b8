package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap/zapcore"

	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
)

// A mailbox is a receiver that the test can break.
type mailbox struct {
	mu    sync.Mutex
	got   []Message
	tries int
	fails error
	hangs bool
}

func (b *mailbox) send(ctx context.Context, m Message) error {
	b.mu.Lock()
	b.tries++
	fails, hangs := b.fails, b.hangs
	b.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	if fails != nil {
		return fails
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.got = append(b.got, m)
	return nil
}

func (b *mailbox) set(fails error, hangs bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fails, b.hangs = fails, hangs
}

// take returns what came since the last call, as "STACK EVENT", sorted.
func (b *mailbox) take() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []string
	for _, m := range b.got {
		out = append(out, strings.TrimSpace(m.Stack+" "+string(m.Event)))
	}
	b.got = nil
	slices.Sort(out)
	return out
}

func (b *mailbox) tried() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.tries
	b.tries = 0
	return n
}

// mail has the daemon send to boxes, by name, and keep in f what was told.
func (w *world) mail(f *fakeNotes, boxes map[string]*mailbox) {
	w.keepIn(f)
	c := w.Config
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for name := range boxes {
			if !yield(name) {
				return
			}
		}
	}) {
		c.Notify = append(c.Notify, Target{name: name, id: name, sender: boxes[name]})
	}
	w.notices = newNotices(c, f, w.leads, w.metrics)
}

// finds has every pass find this, by stack.
func (w *world) finds(by map[string]passed) {
	w.with(func() {
		w.reconcile = func(_ context.Context, in reconcile.Input) reconcile.Result {
			r, ok := by[in.Name]
			if !ok {
				return good()
			}
			return reconcile.Result(r)
		}
	})
}

// lookAgain has every stack get a pass.
func (w *world) lookAgain() {
	w.queue.changed(w.desired.Load().names()...)
	w.sleep(2 * time.Second)
}

// alive runs a daemon until the returned function ends it. A killed one leaves nothing
// written behind.
func alive(t *testing.T, w *world) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.daemon(ctx) }()
	synctest.Wait()
	w.sleep(2 * time.Second)
	return func() {
		t.Helper()
		began := time.Now()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("stop: %v", err)
		}
		if took := time.Since(began); took > stopLimit {
			t.Errorf("the stop took %s", took)
		}
	}
}

// kill ends a daemon as the kernel would: what it writes or sends from now on is lost.
func (f *fakeNotes) cutOff() (back func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = errors.New("killed")
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.err = nil
	}
}

func TestTransitionsAreSentOnceAcrossRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, box := newFakeNotes(), &mailbox{}
		all := func() *world {
			w := newWorld()
			w.mail(f, map[string]*mailbox{"default": box})
			w.snapshot = snapshot(stack("a", "1"), stack("b", "1"))
			return w
		}
		w := all()
		w.finds(map[string]passed{"a": inSync.of(3, healthy), "b": writes.of(1, progressing)})
		stop := alive(t, w)
		if got := box.take(); len(got) > 0 {
			t.Fatalf("told of what was so before: %v", got)
		}
		w.finds(map[string]passed{"a": back.of(4, failedPhase), "b": inSync.of(1, healthy).did("rollout-healthy")})
		w.lookAgain()
		equal(t, "messages", box.take(), []string{"a rolled-back", "b rolled-out"})
		f.takeWrites()
		w.sleep(20 * time.Minute)
		if n := f.takeWrites(); n > 0 || len(box.take()) > 0 {
			t.Errorf("%d writes in a steady state", n)
		}
		back1 := f.cutOff()
		stop()
		back1()
		box.take()

		w = all() // after the kill: all is as it was, and then something else is
		w.finds(map[string]passed{"a": back.of(4, failedPhase), "b": inSync.of(1, healthy)})
		stop = alive(t, w)
		w.lookAgain()
		if got := box.take(); len(got) > 0 {
			t.Errorf("told again after a restart: %v", got)
		}
		stop()

		w = all() // while nobody acted b got sick, and a was mended
		w.finds(map[string]passed{"a": inSync.of(5, healthy), "b": inSync.of(1, healthy).sick("web")})
		stop = alive(t, w)
		equal(t, "messages", box.take(), []string{"a rolled-out", "b degraded"})
		stop()
	})
}

// One receiver has it, the other does not when the controller is killed or stopped: the
// next one tells the other one, and under the same ID.
func TestTakeoverInTheMiddleOfSending(t *testing.T) {
	for _, kill := range []bool{true, false} {
		t.Run(fmt.Sprintf("kill %v", kill), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, quick, slow := newFakeNotes(), &mailbox{}, &mailbox{hangs: true}
				both := func() *world {
					w := newWorld()
					w.mail(f, map[string]*mailbox{"default": quick, "slow": slow})
					s := stack("a", "1")
					s.Policy.Notify = []spec.Receiver{{To: "default"}, {To: "slow"}}
					w.snapshot = snapshot(s)
					return w
				}
				w := both()
				w.finds(map[string]passed{"a": inSync.of(1, healthy)})
				stop := alive(t, w)
				w.finds(map[string]passed{"a": back.of(2, failedPhase)})
				w.lookAgain()
				id := quick.got[0].ID
				equal(t, "quick", quick.take(), []string{"a rolled-back"})
				if kill {
					w.sleep(time.Minute)
					restore := f.cutOff()
					stop()
					restore()
				} else {
					stop()
				}
				equal(t, "slow", slow.take(), nil)
				slow.set(nil, false)

				w = both()
				w.finds(map[string]passed{"a": back.of(2, failedPhase)})
				stop = alive(t, w)
				if len(slow.got) != 1 || slow.got[0].ID != id {
					t.Errorf("the other one got %+v, and the first %s", slow.got, id)
				}
				equal(t, "slow", slow.take(), []string{"a rolled-back"})
				equal(t, "quick", quick.take(), nil)
				w.sleep(time.Minute)
				if l := f.ledger(); len(l.Behind) > 0 {
					t.Errorf("it is said to be behind still: %+v", l)
				}
				stop()
			})
		})
	}
}

// ledger is what is kept.
func (f *fakeNotes) ledger() ledger {
	f.mu.Lock()
	defer f.mu.Unlock()
	return parseLedger(f.configs["skep-told-skep"].Spec.Labels[labelTold])
}

// A receiver that hangs or fails holds up neither passes nor other receivers; its queue is
// bounded, and what cannot be sent is given up.
func TestBrokenReceiverHarmsNobody(t *testing.T) {
	f, broken, whole := newFakeNotes(), &mailbox{}, &mailbox{}
	inDaemon(t, func(w *world) {
		w.mail(f, map[string]*mailbox{"broken": broken, "default": whole})
		s := stack("a", "1")
		s.Policy.Notify = []spec.Receiver{{To: "default"}, {To: "broken"}}
		w.snapshot = snapshot(s)
		w.finds(map[string]passed{"a": inSync.of(1, healthy)})
	}, func(t *testing.T, w *world) {
		count := func(notifier, result string) float64 {
			return testutil.ToFloat64(w.metrics.notifications.WithLabelValues(notifier, result))
		}
		w.sleep(2 * time.Second)
		broken.set(errors.New("no route"), false)
		w.finds(map[string]passed{"a": back.of(2, failedPhase)})
		w.lookAgain()
		equal(t, "whole", whole.take(), []string{"a rolled-back"})
		w.sleep(sendFor + 2*time.Minute)
		if n := broken.tried(); n < 12 || n > 40 {
			t.Errorf("tried %d times", n)
		}
		if count("broken", givenUp) != 1 || count("default", sent) != 1 || count("broken", sent) != 0 || count("broken", attempted) < 12 {
			t.Errorf("given up %v, sent %v", count("broken", givenUp), count("default", sent))
		}
		if n := w.told(zapcore.WarnLevel, "messages cannot be sent"); n != 1 {
			t.Errorf("told %d times", n)
		}

		broken.set(nil, true)
		for i := range queueMost + 20 {
			w.finds(map[string]passed{"a": inSync.of(3+i, healthy)})
			w.lookAgain()
		}
		if got := whole.take(); len(got) != queueMost+20 {
			t.Errorf("the other one got %d", len(got))
		}
		if n := count("broken", dropped); n < 10 {
			t.Errorf("%v were dropped", n)
		}
		broken.set(nil, false)
		w.sleep(2 * time.Minute)
		got := broken.got
		if len(got) < queueMost-10 || len(got) > queueMost || *got[len(got)-1].Release != queueMost+22 {
			t.Errorf("it got %d in the end", len(got))
		}
		if n := w.told(zapcore.InfoLevel, "messages can be sent again"); n != 1 {
			t.Errorf("told %d times that it works again", n)
		}
		broken.set(fmt.Errorf("%w: gone", errRefused), false)
		broken.tried()
		w.finds(map[string]passed{"a": back.of(999, failedPhase)})
		w.lookAgain()
		w.sleep(10 * time.Minute)
		if n := broken.tried(); n != 1 {
			t.Errorf("what was refused was tried %d times", n)
		}
	})
}

func TestStandbySendsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, box := newFakeNotes(), &mailbox{}
		w := newWorld()
		lease := &stagedLease{changes: make(chan Standing)}
		w.leader = lease
		w.mail(f, map[string]*mailbox{"default": box})
		w.snapshot = broken(snapshot(stack("a", "1"), stack("b", "1")), "b", "line 3: not a map")
		w.finds(map[string]passed{"a": back.of(2, failedPhase)})
		stop := alive(t, w)
		w.sleep(time.Minute)
		if got := box.take(); len(got) > 0 || f.takeWrites() > 0 {
			t.Errorf("a standby told of %v", got)
		}
		lease.stands(Standing{Term: 1})
		w.sleep(10 * time.Second)
		equal(t, "messages", box.take(), []string{"a rolled-back", "b source-unreadable"})
		box.set(nil, true)
		w.finds(map[string]passed{"a": inSync.of(3, healthy)})
		w.lookAgain()
		lease.stands(Standing{})
		w.sleep(time.Minute)
		box.tried()
		box.set(nil, false)
		w.sleep(time.Minute)
		if n := box.tried(); n > 0 {
			t.Errorf("who lost the lease sends %d", n)
		}
		stop()
	})
}

func TestStopSendsWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, box := newFakeNotes(), &mailbox{}
		w := newWorld()
		w.mail(f, map[string]*mailbox{"default": box})
		w.snapshot = snapshot(stack("a", "1"), stack("b", "1"), stack("c", "1"))
		w.finds(map[string]passed{"a": inSync.of(1, healthy), "b": inSync.of(1, healthy), "c": inSync.of(1, healthy)})
		stop := alive(t, w)
		box.set(errors.New("not now"), false)
		w.finds(map[string]passed{"a": back.of(2, failedPhase), "b": back.of(2, failedPhase), "c": back.of(2, failedPhase)})
		w.lookAgain()
		box.set(nil, false)
		stop()
		equal(t, "messages", box.take(), []string{"a rolled-back", "b rolled-back", "c rolled-back"})
		if l := f.ledger(); len(l.Behind) > 0 || !l.Lines["a"].Back {
			t.Errorf("kept: %+v", l)
		}
	})
}

func TestRoutes(t *testing.T) {
	f, team, all := newFakeNotes(), &mailbox{}, &mailbox{}
	inDaemon(t, func(w *world) {
		w.mail(f, map[string]*mailbox{"default": all, "team": team})
		w.notices.on = []spec.Event{spec.EventRolledBack, spec.EventSourceUnreadable}
		routed := func(name string, to ...spec.Receiver) *spec.Stack {
			s := stack(name, "1")
			s.Policy.Notify = to
			return s
		}
		w.snapshot = snapshot(routed("plain"), routed("team", spec.Receiver{To: "team"}), routed("both", spec.Receiver{To: "team", On: []spec.Event{spec.EventHeld}}, spec.Receiver{To: "default"}),
			routed("nobody", []spec.Receiver{}...), routed("typo", spec.Receiver{To: "taem"}))
		w.snapshot.Stacks["nobody"].Policy.Notify = []spec.Receiver{}
		w.reconcile = func(_ context.Context, in reconcile.Input) reconcile.Result {
			return reconcile.Result(stays.of(1, healthy).sick("web"))
		}
	}, func(t *testing.T, w *world) {
		w.sleep(5 * time.Second)
		equal(t, "default", all.take(), []string{"both degraded", "both held"})
		equal(t, "team", team.take(), []string{"both held", "team degraded", "team held"})
		w.with(func() {
			w.reconcile = func(context.Context, reconcile.Input) reconcile.Result {
				return reconcile.Result(back.of(2, failedPhase))
			}
		})
		w.lookAgain()
		equal(t, "default", all.take(), []string{"both rolled-back", "plain rolled-back"})
		if n := w.told(zapcore.WarnLevel, "stack names a notifier that there is not"); n != 1 {
			t.Errorf("the typo was told %d times", n)
		}
	})
}

// What belongs to no pass: the directory, files that do not load, and removals.
func TestDirectoryIsToldOf(t *testing.T) {
	f, box := newFakeNotes(), &mailbox{}
	inDaemon(t, func(w *world) {
		w.mail(f, map[string]*mailbox{"default": box})
		w.snapshot = snapshot(stack("a", "1"), stack("b", "1"))
		w.finds(map[string]passed{"a": inSync.of(1, healthy), "b": inSync.of(7, healthy)})
	}, func(t *testing.T, w *world) {
		w.sleep(10 * time.Second)
		w.put(&spec.Snapshot{Err: &spec.SourceError{Reason: spec.SourceMissing, Err: errors.New("it does not exist")}})
		w.sleep(unreadableFor / 2)
		w.files(stack("a", "1"), stack("b", "1"))
		w.sleep(time.Minute)
		equal(t, "a moment", box.take(), nil)
		w.put(&spec.Snapshot{Err: &spec.SourceError{Reason: spec.SourceMissing, Err: errors.New("it does not exist")}})
		w.sleep(unreadableFor + noticeEvery)
		if m := box.got; len(m) != 1 || m[0].Reason != spec.SourceMissing || m[0].Title != "skep: source unreadable" || m[0].Release != nil || !strings.Contains(m[0].Text, "does not exist") {
			t.Errorf("%+v", m)
		}
		equal(t, "for longer", box.take(), []string{"source-unreadable"})
		w.put(broken(snapshot(stack("a", "1"), stack("b", "1")), "b", "line 3: not a map"))
		w.sleep(noticeEvery + time.Second)
		equal(t, "read again, and one is broken", box.take(), []string{"b source-unreadable", "recovered"})
		w.files(stack("a", "1"), stack("b", "1"))
		w.sleep(noticeEvery + time.Second)
		equal(t, "and mended", box.take(), []string{"b recovered"})
		w.kept.mu.Lock()
		w.kept.waits = &reconcile.Blockade{ID: "01234567", Names: []string{"a", "b"}, Of: 2}
		w.kept.mu.Unlock()
		w.sleep(noticeEvery + time.Second)
		got := box.got
		if len(got) != 1 || got[0].Event != spec.EventPruneBlocked || !strings.Contains(got[0].Text, "skep prune --confirm 01234567") {
			t.Errorf("a removal that waits: %+v", got)
		}
	})
}

func TestNobodyIsToldByDefault(t *testing.T) {
	f := newFakeNotes()
	inDaemon(t, func(w *world) {
		w.mail(f, nil)
		w.finds(map[string]passed{"a": back.of(2, failedPhase)})
		w.snapshot = snapshot(stack("a", "1"))
	}, func(t *testing.T, w *world) {
		w.sleep(time.Minute)
		if w.notices != nil || len(f.names()) > 0 {
			t.Errorf("kept: %v", f.names())
		}
	})
}
