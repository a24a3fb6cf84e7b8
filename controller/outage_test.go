package controller

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/docker/docker/api/types/events"
	"go.uber.org/zap/zapcore"

	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
)

// An outage is an engine that answers as the test says, and counts what it is asked: a
// check, a listing, a stream, a pass.
type outage struct {
	*world
	checkErr error
	checks   int
}

func (o *outage) check(context.Context) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.checks++
	return o.checkErr
}

// asked is how often the engine was asked for anything since the last call.
func (o *outage) asked() int {
	passes, refreshes := o.taken()
	o.mu.Lock()
	defer o.mu.Unlock()
	n := len(passes) + refreshes + o.checks + o.opens
	o.checks, o.opens = 0, 0
	return n
}

func inOutage(t *testing.T, prepare func(*outage), test func(t *testing.T, o *outage)) {
	t.Helper()
	var o *outage
	inDaemon(t, func(w *world) {
		o = &outage{world: w}
		w.engine.check = o.check
		w.engine.explain = func(err error) error { return ExplainEngine("unix:///s", err) }
		prepare(o)
	}, func(t *testing.T, _ *world) { test(t, o) })
}

func manyStacks(n int) *spec.Snapshot {
	var all []*spec.Stack
	for i := range n {
		all = append(all, stack(fmt.Sprintf("s%03d", i), "1"))
	}
	return snapshot(all...)
}

// However an engine is away, it is asked a handful of times a minute, for hours, and not
// once for each stack; readiness tells why; and when it is back all get one pass.
func TestEngineAwayIsAskedByOneLoop(t *testing.T) {
	const hours = 12
	for name, tt := range map[string]struct {
		check, list, open error
		ready             string
		perMinute         int
	}{
		"refused":           {check: errors.New("Cannot connect to the Docker daemon at unix:///s. Is the docker daemon running?"), ready: "engine: Cannot connect", perMinute: 6},
		"too old":           {check: tooOld("unix:///s", "1.40"), ready: "engine: engine at unix:///s: API version 1.40 is too old, skep needs 1.41", perMinute: 6},
		"a worker":          {check: ExplainEngine("unix:///s", errors.New("This node is not a swarm manager.")), ready: "is not a Swarm manager (run skep on a manager", perMinute: 6},
		"no quorum":         {list: errors.New("rpc error: code = Unknown desc = The swarm does not have a leader."), ready: "the Swarm at unix:///s has no leader: too few of its managers answer", perMinute: 12},
		"slow, and no word": {list: fmt.Errorf("no answer within 30s: %w", context.DeadlineExceeded), ready: "did not answer in time", perMinute: 12},
		"no stream either":  {list: io.ErrUnexpectedEOF, open: io.ErrUnexpectedEOF, ready: "unexpected EOF", perMinute: 18},
	} {
		t.Run(name, func(t *testing.T) {
			inOutage(t, func(o *outage) { o.snapshot = manyStacks(50) }, func(t *testing.T, o *outage) {
				for range 3 {
					o.sleep(2 * streamSome)
					o.asked()
					o.with(func() { o.checkErr, o.refreshErr, o.openErr = tt.check, tt.list, tt.open })
					if tt.list == nil { // it only shows when it is away altogether
						o.with(func() { o.refreshErr, o.openErr = tt.check, tt.check })
						o.broken <- io.EOF
					}
					if tt.list == nil {
						o.sleep(2 * time.Second) // a stream that ends has the engine listed
						if err := o.ready(); err == nil {
							t.Error("ready 2 s after the engine went")
						}
					}
					o.sleep(o.Resync) // by then a resync has seen it
					if passes, _ := o.taken(); len(passes) > 0 {
						t.Errorf("passes over %v while the engine is away", passes)
					}
					o.asked()
					for range hours {
						o.sleep(time.Hour)
						if n := o.asked(); n > 60*tt.perMinute || n < 60 {
							t.Errorf("asked %d times in an hour", n)
						}
					}
					if err := o.ready(); err == nil || !strings.Contains(err.Error(), tt.ready) {
						t.Errorf("ready: %v, want %q", err, tt.ready)
					}
					if err := o.health.check(); err != nil {
						t.Errorf("health: %v", err)
					}
					o.with(func() { o.checkErr, o.refreshErr, o.openErr = nil, nil, nil })
					o.sleep(2 * engineMost)
					if err := o.ready(); err != nil {
						t.Errorf("ready after it is back: %v", err)
					}
					passes, _ := o.taken()
					if got := len(slices.Compact(slices.Clone(passes))); got != 50 || len(passes) > 150 { // the listing, the scan and a resync each ask for them
						t.Errorf("%d passes over %d stacks when it was back", len(passes), got)
					}
				}
				// Once by the listing that failed, and once more where the check knows better.
				if n := o.told(zapcore.ErrorLevel, "engine is away, nothing is reconciled"); n < 3 || n > 6 {
					t.Errorf("3 outages were told %d times", n)
				}
			})
		})
	}
}

// An engine that is away when skep starts, and then is one that will not do, is checked
// before anything else is asked.
func TestNothingIsAskedOfAnEngineThatWillNotDo(t *testing.T) {
	inOutage(t, func(o *outage) {
		o.snapshot = manyStacks(3)
		o.checkErr = tooOld("unix:///s", "1.40")
	}, func(t *testing.T, o *outage) {
		o.sleep(time.Hour)
		passes, refreshes := o.taken()
		o.mu.Lock()
		defer o.mu.Unlock()
		if len(passes)+refreshes+o.opens != 0 || o.checks < 100 {
			t.Errorf("%d passes, %d listings, %d streams, %d checks", len(passes), refreshes, o.opens, o.checks)
		}
	})
}

func TestCheckThatPanicsIsAnEngineThatIsAway(t *testing.T) {
	inDaemon(t, func(w *world) {
		w.engine.check = func(context.Context) error { panic("nil map") }
	}, func(t *testing.T, w *world) {
		if err := w.ready(); err == nil || !strings.Contains(err.Error(), "panic: nil map") {
			t.Errorf("ready: %v", err)
		}
	})
}

// The first passes that meet an engine which went away hold up the others, which get
// their turn when it is known to work.
func TestDoubtHoldsTheOtherStacks(t *testing.T) {
	const stacks = 200
	var mu sync.Mutex
	var down error
	inOutage(t, func(o *outage) {
		o.snapshot = manyStacks(stacks)
		o.reconcile = func(_ context.Context, in reconcile.Input) reconcile.Result {
			mu.Lock()
			defer mu.Unlock()
			if down != nil {
				return failed(in.Name, "EngineError", down)
			}
			return good()
		}
	}, func(t *testing.T, o *outage) {
		o.sleep(5 * time.Second)
		o.taken()
		for _, err := range []error{io.EOF, errors.New("rpc error: code = Unavailable desc = transport is closing"), context.DeadlineExceeded} {
			mu.Lock()
			down = err
			mu.Unlock()
			changed := manyStacks(stacks)
			for _, s := range changed.Stacks {
				s.Source.Fingerprint += err.Error()
			}
			o.put(changed) // all want a pass now
			passes, _ := o.taken()
			if len(passes) == 0 || len(passes) > o.Workers {
				t.Errorf("%v: %d passes before the engine was asked", err, len(passes))
			}
			mu.Lock()
			down = nil
			mu.Unlock()
			o.sleep(hintMost + 2*time.Second) // it can be listed, so the doubt was wrong
			passes, _ = o.taken()
			if got := len(slices.Compact(passes)); got != stacks {
				t.Errorf("%v: %d of %d stacks got a pass", err, got, stacks)
			}
		}
	})
}

// 100 times the stream is cut, falls silent, or is refused when it is opened again: the
// next event is heard every time, and nothing is left behind.
func TestEventStreamFaults(t *testing.T) {
	const times = 100
	began := time.Now()
	inDaemon(t, func(w *world) { w.snapshot = snapshot(stack("a", "1"), stack("b", "1")) }, func(t *testing.T, w *world) {
		w.sleep(5 * time.Second)
		goroutines, most := runtime.NumGoroutine(), 0
		for i := range times {
			var limit time.Duration
			switch i % 3 {
			case 0:
				w.broken <- io.ErrUnexpectedEOF
				limit = 2 * engineFirst
			case 1: // silent: nothing comes, nobody says why
				w.mu.Lock()
				opens := w.opens
				w.mu.Unlock()
				w.sleep(streamSilence + streamSilence/4)
				w.mu.Lock()
				if w.opens == opens {
					t.Error("a silent stream is not opened anew")
				}
				w.mu.Unlock()
			case 2: // refused, or half-open, when it is opened again
				w.with(func() { w.openErr = fmt.Errorf("no answer within 30s: %w", context.DeadlineExceeded) })
				w.broken <- io.EOF
				w.sleep(10 * time.Second)
				w.with(func() { w.openErr = nil })
				limit = 2 * engineMost
			}
			w.sleep(limit)
			w.taken()
			w.with(func() { w.changed = []string{"b"} })
			w.event() // blocks for ever where nobody listens
			w.sleep(hintMost)
			if passes, _ := w.taken(); !slices.Contains(passes, "b") {
				t.Fatalf("fault %d: an event after it caused passes over %v", i, passes)
			}
			if err := w.ready(); err != nil {
				t.Fatalf("fault %d: %v", i, err)
			}
			w.sleep(2 * time.Minute) // a fault that comes alone is none of a series
			most = max(most, runtime.NumGoroutine())
		}
		if most > goroutines+4 {
			t.Errorf("%d goroutines grew to %d", goroutines, most)
		}
	})
	t.Logf("%d faults in %s", times, time.Since(began).Round(time.Millisecond))
}

// An engine, or what is in front of it, that takes every stream and drops it at once
// must not be asked in a loop: each stream that opens costs a listing.
func TestStreamThatIsDroppedAtOnceIsNoLoop(t *testing.T) {
	inDaemon(t, func(w *world) { w.snapshot = snapshot(stack("a", "1")) }, func(t *testing.T, w *world) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go func() {
			for {
				select {
				case w.broken <- io.EOF:
				case <-ctx.Done():
					return
				}
			}
		}()
		w.sleep(5 * time.Minute)
		w.taken()
		w.with(func() { w.opens = 0 })
		w.sleep(time.Hour)
		_, refreshes := w.taken()
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.opens > 330 || refreshes > 400 {
			t.Errorf("%d streams and %d listings in an hour", w.opens, refreshes)
		}
	})
}

// What controllers write of themselves is no reason to list the Swarm.
func TestOwnNotesListNothing(t *testing.T) {
	var heard []string
	inDaemon(t, func(w *world) {
		w.snapshot = snapshot(stack("a", "1"))
		hears := w.stream.hears
		w.stream.hears = func(name string) bool { heard = append(heard, name); return hears(name) }
	}, func(t *testing.T, w *world) {
		w.taken()
		for range 10 {
			w.renewal()
			w.sleep(2 * time.Second)
		}
		if passes, refreshes := w.taken(); len(passes)+refreshes > 0 {
			t.Errorf("passes %v, %d listings", passes, refreshes)
		}
		if n := len(heard); n != 10 || heard[n-1] != "skep-lease-skep" {
			t.Errorf("heard of %v", heard)
		}
		config := func(name string) {
			w.events <- events.Message{Type: events.ConfigEventType, Actor: events.Actor{Attributes: map[string]string{"name": name}}}
		}
		for _, kind := range []string{reconcile.KindLease, reconcile.KindReport, reconcile.KindPrune} {
			for _, owner := range []string{"skep", "another"} { // what this one writes, and what others do
				config(reconcile.OwnName(kind, owner))
				w.sleep(2 * time.Second)
			}
		}
		if passes, refreshes := w.taken(); len(passes)+refreshes > 0 {
			t.Errorf("passes %v, %d listings", passes, refreshes)
		}
		config("shop_conf")
		w.sleep(hintMost)
		if _, refreshes := w.taken(); refreshes != 1 {
			t.Errorf("%d listings after another config's event", refreshes)
		}
	})
}

// What hangs, a scan of a mount that is gone or a listing that does not heed its
// context, takes nothing from the time that passes have to finish.
func TestStopIsNotHeldUpByWhatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.snapshot = snapshot(stack("a", "1"))
		cut, finished := false, false
		w.reconcile = func(ctx context.Context, _ reconcile.Input) reconcile.Result {
			cut = sleep(ctx, 4*time.Second) != nil
			finished = true
			return good()
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- w.daemon(ctx) }()
		time.Sleep(500 * time.Millisecond)
		synctest.Wait()
		hang := make(chan struct{})
		w.controller.scan = func(context.Context, Source) *spec.Snapshot { <-hang; return snapshot() }
		w.signal <- struct{}{}
		w.sleep(time.Second) // 2.5 s of the pass are left
		start := time.Now()
		cancel()
		err := <-done
		if err != nil { // what reads files lets a scan that hangs be
			t.Errorf("stop: %v", err)
		}
		if took := time.Since(start); took > stopLimit {
			t.Errorf("stopped after %s", took)
		}
		if cut || !finished {
			t.Errorf("the pass was cut off: %v; it finished: %v", cut, finished)
		}
		close(hang)
		synctest.Wait()
	})
}

// Run with Once ends by itself, and says that it could not tell, though the engine goes
// away in the middle of it, or takes every request and never answers.
func TestOnceEndsThoughTheEngineGoes(t *testing.T) {
	for name, tt := range map[string]struct {
		hangs time.Duration // what each request takes before it fails
		most  time.Duration
	}{
		"refused":   {0, time.Minute},
		"half-open": {requestLimit, 5 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				w.snapshot = manyStacks(3)
				began := time.Now()
				w.reconcile = func(ctx context.Context, in reconcile.Input) reconcile.Result {
					if time.Since(began) < 5*time.Second {
						r := result(reconcile.Applied, false, reconcile.Progressing)
						r.Requeue = 2 * time.Second
						return r
					}
					w.with(func() { w.refreshErr = io.EOF })
					_ = sleep(ctx, tt.hangs)
					return failed(in.Name, "EngineError", io.EOF)
				}
				defer w.queue.work.ShutDown()
				err := w.once(t.Context())
				if !errors.Is(err, io.EOF) || errors.Is(err, ErrNotReady) {
					t.Errorf("error %v", err)
				}
				if took := time.Since(began); took > tt.most {
					t.Errorf("it ended after %s", took)
				}
			})
		})
	}
}
