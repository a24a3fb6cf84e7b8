package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
)

// world is all that a daemon under test meets: a reconciler, an event stream and a
// specs directory, each of which the test can change and count.
type world struct {
	mu sync.Mutex

	refreshes  int
	refreshErr error
	changed    []string // what the next Refresh returns
	live       []string
	passes     []reconcile.Input
	at         []time.Time // of the passes
	reconcile  func(context.Context, reconcile.Input) reconcile.Result

	opens   int
	openErr error
	events  chan events.Message
	broken  chan error

	snapshot *spec.Snapshot
	scans    int
	signal   chan struct{}

	logs *observer.ObservedLogs
	*controller
}

func (w *world) Noticed(string) {}

func (w *world) Refresh(context.Context) ([]string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refreshes++
	changed := w.changed
	w.changed = nil
	return changed, w.refreshErr
}

func (w *world) Stacks() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.live)
}

func (w *world) Reconcile(ctx context.Context, in reconcile.Input) reconcile.Result {
	w.mu.Lock()
	w.passes = append(w.passes, in)
	w.at = append(w.at, time.Now())
	f := w.reconcile
	w.mu.Unlock()
	r := f(ctx, in)
	r.Current = in.Source != nil && r.Err == nil && r.Reason != reconcile.SourceStale
	return r
}

func (w *world) Events(ctx context.Context, _ events.ListOptions) (<-chan events.Message, <-chan error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.opens++
	errs := make(chan error, 1)
	if w.openErr != nil {
		errs <- w.openErr
		return nil, errs
	}
	broken := w.broken
	go func() {
		select {
		case err := <-broken:
			errs <- err
		case <-ctx.Done():
			errs <- ctx.Err()
		}
	}()
	return w.events, errs
}

func (w *world) scan(context.Context, Source) *spec.Snapshot {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.scans++
	return w.snapshot
}

// with changes the world safely.
func (w *world) with(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

// files puts these stacks into the directory, and says so.
func (w *world) files(stacks ...*spec.Stack) {
	w.put(snapshot(stacks...))
}

func (w *world) put(s *spec.Snapshot) {
	w.with(func() { w.snapshot = s })
	w.signal <- struct{}{}
	synctest.Wait()
}

// event sends one and lets the daemon settle.
func (w *world) event() { w.events <- events.Message{Type: events.ServiceEventType} }

// renewal sends the event of a lease that is renewed.
func (w *world) renewal() {
	w.events <- events.Message{Type: events.ConfigEventType, Actor: events.Actor{Attributes: map[string]string{"name": "skep-lease-skep"}}}
}

// sleep lets d pass, and everything settle that is due by then.
func (w *world) sleep(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// taken returns the names of the passes since the last call, sorted, and the
// number of listings.
func (w *world) taken() (passes []string, refreshes int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, in := range w.passes {
		passes = append(passes, in.Name)
	}
	slices.Sort(passes)
	refreshes = w.refreshes
	w.passes, w.at, w.refreshes = nil, nil, 0
	return passes, refreshes
}

func (w *world) last(name string) reconcile.Input {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, in := range slices.Backward(w.passes) {
		if in.Name == name {
			return in
		}
	}
	return reconcile.Input{}
}

// told counts the log's entries of at least that level with the message.
func (w *world) told(level zapcore.Level, message string) int {
	return w.logs.Filter(func(e observer.LoggedEntry) bool { return e.Level >= level && e.Message == message }).Len()
}

func (w *world) loud() []string {
	var out []string
	for _, e := range w.logs.FilterLevelExact(zapcore.InfoLevel).All() {
		out = append(out, e.Message)
	}
	for _, level := range []zapcore.Level{zapcore.WarnLevel, zapcore.ErrorLevel} {
		for _, e := range w.logs.FilterLevelExact(level).All() {
			out = append(out, e.Message+fmt.Sprint(e.ContextMap()))
		}
	}
	return out
}

// newWorld makes one of these sources, of one directory where there are none.
func newWorld(sources ...Source) *world {
	core, logs := observer.New(zapcore.DebugLevel)
	w := &world{
		events:   make(chan events.Message),
		broken:   make(chan error),
		signal:   make(chan struct{}),
		snapshot: snapshot(),
		logs:     logs,
	}
	w.reconcile = func(context.Context, reconcile.Input) reconcile.Result { return good() }
	cfg := Config{Specs: "specs", Logger: zap.New(core), Registry: prometheus.NewRegistry(), Version: "test"}
	if len(sources) > 0 {
		cfg.Specs, cfg.Sources = "", sources
	}
	if err := cfg.check(); err != nil {
		panic(err)
	}
	w.controller = newController(cfg, edges{
		reconciler: w, events: w, scan: w.scan,
		watch: func(context.Context, Source) <-chan struct{} { return w.signal },
	})
	return w
}

// inDaemon runs a test beside a daemon, on a clock that stands still while anything
// has still to be done.
func inDaemon(t *testing.T, prepare func(*world), test func(t *testing.T, w *world)) {
	t.Helper()
	inDaemonOf(t, nil, prepare, test)
}

// inDaemonOf is inDaemon for the sources that it is given inside the bubble.
func inDaemonOf(t *testing.T, sources func() []Source, prepare func(*world), test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var all []Source
		if sources != nil {
			all = sources()
		}
		w := newWorld(all...)
		if prepare != nil {
			prepare(w)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- w.daemon(ctx) }()
		synctest.Wait()
		w.sleep(time.Millisecond)
		test(t, w)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("stop: %v", err)
		}
	})
}

// fold takes in what one directory says.
func (d desired) fold(scan *spec.Snapshot, live []string, now time.Time) (desired, []string) {
	s := standing{name: DefaultSource}
	if len(d.sources) > 0 {
		s = d.sources[0]
	}
	if scan.Complete {
		s.scanned = now
		return d.take(view{scan, []standing{s.now(nil, now)}, now}, live, now)
	}
	f := feed{stands: s}
	if d.loaded {
		f.last = &spec.Snapshot{Stacks: d.stacks, Problems: d.problems, Findings: d.findings, Revision: d.revision}
	}
	f.takeScan(scan, now, now)
	return d.take(view{f.inForce(), []standing{f.stands}, now}, live, now)
}

func snapshot(stacks ...*spec.Stack) *spec.Snapshot {
	s := &spec.Snapshot{Revision: "r1", Stacks: map[string]*spec.Stack{}, Problems: map[string][]spec.Finding{}, Complete: true}
	for _, x := range stacks {
		s.Stacks[x.Name] = x
	}
	return s
}

// stack is one whose fingerprint is its name and version.
func stack(name, version string, dependsOn ...string) *spec.Stack {
	return &spec.Stack{
		Name:   name,
		Source: spec.Source{File: name + ".yml", Fingerprint: name + "@" + version, Revision: "r-" + version},
		Policy: spec.Policy{DependsOn: dependsOn},
	}
}

func broken(s *spec.Snapshot, name, message string) *spec.Snapshot {
	delete(s.Stacks, name)
	s.Problems[name] = []spec.Finding{{File: name + ".yml", Severity: spec.Error, Code: "yaml", Message: message}}
	return s
}

func result(o reconcile.Outcome, ready bool, conditions ...reconcile.ConditionType) reconcile.Result {
	r := reconcile.Result{Outcome: o, Conditions: []reconcile.Condition{{Type: reconcile.Ready, True: ready, Message: "1 of 3 tasks run"}}}
	for _, c := range conditions {
		r.Conditions = append(r.Conditions, reconcile.Condition{Type: c, True: true})
	}
	return r
}

func good() reconcile.Result { return result(reconcile.Unchanged, true) }

func equal(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func TestStartListsOnceForAllStacks(t *testing.T) {
	inDaemon(t, func(w *world) { w.snapshot = snapshot(stack("a", "1"), stack("b", "1")) }, func(t *testing.T, w *world) {
		passes, refreshes := w.taken()
		// The first scan and the first listing end in any order, and each asks.
		equal(t, "stacks", slices.Compact(slices.Clone(passes)), []string{"a", "b"})
		if len(passes) > 4 || refreshes != 1 {
			t.Errorf("%d passes over 2 stacks and %d listings at the start", len(passes), refreshes)
		}
	})
}

func TestSteadyStateListsOnceAResyncAndSaysNothing(t *testing.T) {
	inDaemon(t, func(w *world) { w.snapshot = snapshot(stack("a", "1"), stack("b", "1")) }, func(t *testing.T, w *world) {
		w.taken()
		w.logs.TakeAll()
		for end := time.Now().Add(10 * w.Resync); time.Now().Before(end); {
			w.renewal() // by which a stream shows that it lives
			w.sleep(5 * time.Second)
		}
		passes, refreshes := w.taken()
		if refreshes != 10 {
			t.Errorf("%d listings in 10 resyncs", refreshes)
		}
		if len(passes) != 20 {
			t.Errorf("%d passes over 2 stacks in 10 resyncs", len(passes))
		}
		equal(t, "log", w.loud(), nil)
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.opens != 1 {
			t.Errorf("the event stream was opened %d times", w.opens)
		}
	})
}

func TestTouchedFilesCauseNothing(t *testing.T) {
	inDaemon(t, func(w *world) { w.snapshot = snapshot(stack("a", "1")) }, func(t *testing.T, w *world) {
		w.taken()
		for range 20 {
			w.files(stack("a", "1"))
		}
		passes, refreshes := w.taken()
		if len(passes)+refreshes != 0 {
			t.Errorf("touching caused passes %v and %d listings", passes, refreshes)
		}
	})
}

func TestOnlyChangedFilesGetPasses(t *testing.T) {
	inDaemon(t, func(w *world) { w.snapshot = snapshot(stack("a", "1"), stack("b", "1")) }, func(t *testing.T, w *world) {
		w.taken()
		w.files(stack("a", "1"), stack("b", "2"), stack("c", "1"))
		if got := fingerprint(w.last("b").Stack); got != "b@2" {
			t.Errorf("pass over b is about %q", got)
		}
		passes, _ := w.taken()
		equal(t, "passes", passes, []string{"b", "c"})
	})
}

func TestBrokenFileHarmsOnlyItsOwnStack(t *testing.T) {
	inDaemon(t, func(w *world) { w.snapshot = snapshot(stack("a", "1"), stack("b", "1")) }, func(t *testing.T, w *world) {
		w.taken()
		w.put(broken(snapshot(stack("b", "2")), "a", "line 3: not a map"))
		if got := fingerprint(w.last("b").Stack); got != "b@2" {
			t.Errorf("b was not worked on: %q", got)
		}
		if got := fingerprint(w.last("a").Stack); got != "" && got != "a@1" {
			t.Errorf("a is not as it was: %q", got)
		}
		if truth(w.conditions()["a"])[reconcile.Ready] || !truth(w.conditions()["b"])[reconcile.Ready] {
			t.Errorf("conditions: %v", w.conditions())
		}
		w.sleep(5 * w.Resync)
		if n := w.told(zapcore.ErrorLevel, "stack's file does not load, the stack stays as it is"); n != 1 {
			t.Errorf("the error was told %d times", n)
		}
		w.put(broken(snapshot(stack("b", "2")), "a", "line 4: not a map"))
		if n := w.told(zapcore.ErrorLevel, "stack's file does not load, the stack stays as it is"); n != 2 {
			t.Errorf("two errors were told %d times", n)
		}
		w.taken()
		w.files(stack("a", "1"), stack("b", "2"))
		passes, _ := w.taken()
		equal(t, "passes after the repair", passes, []string{"a"})
		if !truth(w.conditions()["a"])[reconcile.Ready] {
			t.Errorf("a is not ready after the repair: %v", w.conditions())
		}
	})
}

func TestNeverLoadedStackIsNotTouched(t *testing.T) {
	inDaemon(t, func(w *world) {
		w.live = []string{"a", "b"}
		w.snapshot = broken(snapshot(stack("b", "1")), "a", "bad")
	}, func(t *testing.T, w *world) {
		w.sleep(5 * w.Resync)
		if in := w.last("a"); in.Name != "" {
			t.Errorf("a got a pass: %+v", in)
		}
	})
}

func TestUnreadableDirectoryKeepsWhatIsInForce(t *testing.T) {
	inDaemon(t, func(w *world) { w.snapshot = snapshot(stack("a", "1")) }, func(t *testing.T, w *world) {
		w.taken()
		w.put(&spec.Snapshot{Err: errors.New("permission denied")})
		w.sleep(3 * w.Resync)
		if got := fingerprint(w.last("a").Stack); got != "a@1" {
			t.Errorf("a is worked on as %q", got)
		}
		if err := w.ready(); err == nil || err.Error() != "specs: permission denied" {
			t.Errorf("ready: %v", err)
		}
		if n := w.told(zapcore.ErrorLevel, "specs cannot be read, what was read last stays in force"); n != 1 {
			t.Errorf("told %d times", n)
		}
		w.files(stack("a", "1"))
		if err := w.ready(); err != nil {
			t.Errorf("ready after the repair: %v", err)
		}
	})
}

func TestVanishedStackNeedsTwoScans(t *testing.T) {
	inDaemon(t, func(w *world) {
		w.Resync, w.engine.resync = time.Hour, time.Hour
		w.live = []string{"a", "b"}
		w.snapshot = snapshot(stack("a", "1"), stack("b", "1"))
	}, func(t *testing.T, w *world) {
		w.taken()
		w.files(stack("b", "1"))
		if passes, _ := w.taken(); len(passes) != 0 {
			t.Errorf("one scan caused passes %v", passes)
		}
		w.files(stack("a", "1"), stack("b", "1")) // it was only being replaced
		w.sleep(VanishAfter + VanishAfter/2)
		if passes, _ := w.taken(); len(passes) != 0 {
			t.Errorf("a file that came back caused passes %v", passes)
		}
		w.files(stack("b", "1"))
		w.sleep(VanishAfter - time.Millisecond)
		if passes, _ := w.taken(); len(passes) != 0 {
			t.Errorf("passes %v before the second scan", passes)
		}
		w.sleep(10 * time.Millisecond)
		if in := w.last("a"); in.Name != "a" || in.Stack != nil {
			t.Errorf("the pass over what is gone: %+v", in)
		}
		w.with(func() { w.live = []string{"b"} })
		w.sleep(2 * w.Resync)
		if _, ok := w.conditions()["a"]; ok {
			t.Error("a stack that is gone and lives no more is remembered")
		}
	})
}

func TestOrphanFromBeforeTheStartIsFound(t *testing.T) {
	inDaemon(t, func(w *world) {
		w.live = []string{"a", "old"}
		w.snapshot = snapshot(stack("a", "1"))
	}, func(t *testing.T, w *world) {
		if in := w.last("old"); in.Name != "" {
			t.Errorf("a pass before the second scan: %+v", in)
		}
		w.sleep(VanishAfter + time.Second)
		if in := w.last("old"); in.Name != "old" || in.Stack != nil {
			t.Errorf("no pass over the orphan: %+v", in)
		}
	})
}

func TestNamelessFileKeepsEveryStack(t *testing.T) {
	inDaemon(t, func(w *world) {
		w.live = []string{"a", "b"}
		w.snapshot = snapshot(stack("a", "1"), stack("b", "1"))
	}, func(t *testing.T, w *world) {
		s := snapshot(stack("b", "1"))
		s.Nameless = []string{"x.yml"}
		w.put(s)
		w.sleep(3 * w.Resync)
		if got := fingerprint(w.last("a").Stack); got != "a@1" {
			t.Errorf("a is worked on as %q", got)
		}
	})
}

func TestEventStormIsOneListing(t *testing.T) {
	inDaemon(t, func(w *world) { w.snapshot = snapshot(stack("a", "1"), stack("b", "1")) }, func(t *testing.T, w *world) {
		w.taken()
		w.with(func() { w.changed = []string{"b"} })
		for range 500 {
			w.event()
		}
		w.sleep(hintPause)
		passes, refreshes := w.taken()
		equal(t, "passes", passes, []string{"b"})
		if refreshes != 1 {
			t.Errorf("500 events caused %d listings", refreshes)
		}
		// A storm that does not pause is not waited out.
		stop := time.Now().Add(5 * time.Second)
		for time.Now().Before(stop) {
			w.event()
			time.Sleep(20 * time.Millisecond)
		}
		w.sleep(hintMost)
		if _, refreshes = w.taken(); refreshes < 5 || refreshes > 7 {
			t.Errorf("5 s of events caused %d listings", refreshes)
		}
		w.sleep(w.Resync - 10*time.Second)
		if passes, refreshes = w.taken(); len(passes)+refreshes != 0 {
			t.Errorf("it does not settle: passes %v, %d listings", passes, refreshes)
		}
	})
}

func TestEngineGoneAndBack(t *testing.T) {
	inDaemon(t, func(w *world) { w.snapshot = snapshot(stack("a", "1"), stack("b", "1")) }, func(t *testing.T, w *world) {
		w.taken()
		w.with(func() {
			w.refreshErr = errors.New("connection refused")
			w.openErr = errors.New("connection refused")
		})
		w.broken <- errors.New("unexpected EOF")
		w.event2(t)
		w.sleep(10 * time.Minute)
		passes, refreshes := w.taken()
		equal(t, "passes while the engine is away", passes, nil)
		if refreshes < 30 || refreshes > 55 {
			t.Errorf("%d listings were tried in 10 minutes", refreshes)
		}
		if err := w.ready(); err == nil || err.Error() != "engine: list the Swarm: connection refused" {
			t.Errorf("ready: %v", err)
		}
		if n := w.told(zapcore.ErrorLevel, "engine is away, nothing is reconciled"); n != 1 {
			t.Errorf("the outage was told %d times", n)
		}
		w.files(stack("a", "2"), stack("b", "1"))
		if passes, _ := w.taken(); len(passes) != 0 {
			t.Errorf("passes %v while the engine is away", passes)
		}
		w.with(func() { w.refreshErr, w.openErr = nil, nil })
		w.sleep(engineMost + engineMost/2)
		if got := fingerprint(w.last("a").Stack); got != "a@2" {
			t.Errorf("a is worked on as %q", got)
		}
		passes, _ = w.taken()
		if !slices.Contains(passes, "a") || !slices.Contains(passes, "b") {
			t.Errorf("passes after the outage: %v", passes)
		}
		if n := w.told(zapcore.InfoLevel, "engine is back"); n != 1 {
			t.Errorf("the return was told %d times", n)
		}
		if err := w.ready(); err != nil {
			t.Errorf("ready: %v", err)
		}
	})
}

// event2 makes the daemon look at an engine whose stream just broke.
func (w *world) event2(t *testing.T) {
	t.Helper()
	poke(w.engine.hints)
	w.sleep(hintPause)
	if w.engine.up() == nil {
		t.Fatal("the outage was not seen")
	}
}

func TestBrokenStreamIsOpenedAgainAndListed(t *testing.T) {
	inDaemon(t, func(w *world) { w.snapshot = snapshot(stack("a", "1")) }, func(t *testing.T, w *world) {
		w.taken()
		w.with(func() { w.changed = []string{"a"} })
		w.broken <- errors.New("unexpected EOF")
		w.sleep(2 * engineFirst)
		passes, refreshes := w.taken()
		equal(t, "passes", passes, []string{"a"})
		if refreshes != 1 {
			t.Errorf("%d listings", refreshes)
		}
	})
}

func TestSilentStreamIsBackedByResync(t *testing.T) {
	inDaemon(t, func(w *world) { w.snapshot = snapshot(stack("a", "1")) }, func(t *testing.T, w *world) {
		w.with(func() { w.openErr = errors.New("403 forbidden") })
		w.broken <- errors.New("unexpected EOF")
		w.sleep(time.Second)
		w.taken()
		w.sleep(w.Resync)
		if passes, _ := w.taken(); len(passes) != 1 {
			t.Errorf("passes in a resync without a stream: %v", passes)
		}
		if err := w.ready(); err != nil {
			t.Errorf("ready: %v", err)
		}
	})
}

func TestPanicIsContained(t *testing.T) {
	inDaemon(t, func(w *world) {
		w.snapshot = snapshot(stack("a", "1"), stack("b", "1"))
		w.reconcile = func(_ context.Context, in reconcile.Input) reconcile.Result {
			if in.Name == "a" {
				panic("index out of range")
			}
			return good()
		}
	}, func(t *testing.T, w *world) {
		entries := w.logs.FilterLevelExact(zapcore.ErrorLevel).All()
		if len(entries) != 1 {
			t.Fatalf("a panic was told %d times", len(entries))
		}
		if fields := entries[0].ContextMap(); fields["stack"] != "a" || !strings.Contains(fmt.Sprintf("%s", fields["stacktrace"]), "TestPanicIsContained") {
			t.Errorf("log of the panic: %s", fields)
		}
		w.taken()
		w.files(stack("a", "1"), stack("b", "2"))
		if passes, _ := w.taken(); !slices.Equal(passes, []string{"b"}) {
			t.Errorf("passes %v", passes)
		}
		w.sleep(time.Hour)
		passes, _ := w.taken()
		n := len(slices.DeleteFunc(passes, func(p string) bool { return p != "a" }))
		if n < 60 || n > 90 {
			t.Errorf("%d passes over a in an hour of backoff", n)
		}
		if n := w.told(zapcore.ErrorLevel, "pass failed, it is repeated with growing pauses"); n != 1 {
			t.Errorf("told %d times", n)
		}
	})
}

func TestOwnEventsDoNotEndABackoff(t *testing.T) {
	inDaemon(t, func(w *world) {
		w.snapshot = snapshot(stack("a", "1"))
		w.reconcile = func(context.Context, reconcile.Input) reconcile.Result {
			return failed("a", "Refused", errors.New("refused"))
		}
	}, func(t *testing.T, w *world) {
		w.sleep(10 * time.Minute)
		w.taken()
		for range 100 {
			w.with(func() { w.changed = []string{"a"} })
			w.event()
			w.sleep(200 * time.Millisecond)
		}
		if passes, _ := w.taken(); len(passes) > 2 {
			t.Errorf("%d passes in 20 s of events, at the end of the backoff", len(passes))
		}
		w.files(stack("a", "2"))
		if passes, _ := w.taken(); len(passes) != 1 {
			t.Errorf("a changed file does not end the backoff: %v", passes)
		}
	})
}

func TestNeverTwoPassesOverOneStack(t *testing.T) {
	var running sync.Map
	inDaemon(t, func(w *world) {
		w.snapshot = snapshot(stack("a", "0"), stack("b", "0"))
		w.reconcile = func(_ context.Context, in reconcile.Input) reconcile.Result {
			if _, twice := running.LoadOrStore(in.Name, true); twice {
				t.Errorf("two passes over %s at a time", in.Name)
			}
			time.Sleep(3 * time.Second)
			running.Delete(in.Name)
			return good()
		}
	}, func(t *testing.T, w *world) {
		for i := range 20 {
			w.files(stack("a", fmt.Sprint(i)), stack("b", fmt.Sprint(i)))
			w.sleep(500 * time.Millisecond)
		}
		w.sleep(10 * time.Second)
		if got := fingerprint(w.last("a").Stack); got != "a@19" {
			t.Errorf("the last pass is about %q", got)
		}
	})
}

func TestRequeueIsKept(t *testing.T) {
	inDaemon(t, func(w *world) {
		w.snapshot = snapshot(stack("a", "1"))
		w.reconcile = func(context.Context, reconcile.Input) reconcile.Result {
			r := result(reconcile.Waiting, false, reconcile.Progressing)
			r.Requeue = 2 * time.Second
			return r
		}
	}, func(t *testing.T, w *world) {
		w.taken()
		w.sleep(20 * time.Second)
		passes, refreshes := w.taken()
		if len(passes) != 10 || refreshes != 0 {
			t.Errorf("%d passes and %d listings in 20 s", len(passes), refreshes)
		}
	})
}

func TestDependentsWaitAndAreWoken(t *testing.T) {
	var ready sync.Map
	inDaemon(t, func(w *world) {
		w.snapshot = snapshot(stack("app", "1", "infra"), stack("infra", "1"))
		w.reconcile = func(_ context.Context, in reconcile.Input) reconcile.Result {
			if in.Blocked != "" {
				return result(reconcile.Waiting, false)
			}
			if _, ok := ready.Load(fingerprint(in.Stack)); !ok {
				return result(reconcile.Applied, false, reconcile.Progressing)
			}
			return good()
		}
	}, func(t *testing.T, w *world) {
		ready.Store("app@1", true)
		w.files(stack("app", "1", "infra"), stack("infra", "1"))
		if got, want := w.last("app").Blocked, "stack infra has to be Ready first"; !strings.HasPrefix(got, want) {
			t.Errorf("app is blocked by %q, want %q", got, want)
		}
		ready.Store("infra@1", true)
		w.with(func() { w.changed = []string{"infra"} })
		w.event()
		w.sleep(hintPause)
		if in := w.last("app"); in.Blocked != "" {
			t.Errorf("app is still blocked: %s", in.Blocked)
		}
		if !truth(w.conditions()["app"])[reconcile.Ready] {
			t.Error("app was not woken")
		}
		// A newer infra has to be Ready at its own version.
		w.files(stack("app", "2", "infra"), stack("infra", "2"))
		if in := w.last("app"); in.Blocked == "" {
			t.Error("app did not wait for the newer infra")
		}
		ready.Store("infra@2", true)
		ready.Store("app@2", true)
		w.with(func() { w.changed = []string{"infra"} })
		w.event()
		w.sleep(hintPause)
		if !truth(w.conditions()["app"])[reconcile.Ready] {
			t.Error("app was not woken by the newer infra")
		}
		if n := w.told(zapcore.InfoLevel, "stack waits for another"); n != 2 {
			t.Errorf("waiting was told %d times, want once each time", n)
		}
	})
}

func TestTransitionsAndFindingsAreToldOnce(t *testing.T) {
	finding := spec.Finding{File: "a.yml", Severity: spec.Warning, Code: "bind-relative", Message: "the bind exists on one node only"}
	var once sync.Once
	inDaemon(t, func(w *world) {
		w.snapshot = snapshot(stack("a", "1"))
		w.reconcile = func(context.Context, reconcile.Input) reconcile.Result {
			r := good()
			r.Findings = []spec.Finding{finding}
			r.Release = &reconcile.Release{Number: 7}
			once.Do(func() {
				r.Transitions = []reconcile.Transition{
					{Action: "rollout-failed", Reason: "TasksFailed", Bad: true, Service: "web", Duration: time.Minute},
					{Action: "rollout-started"},
				}
			})
			return r
		}
	}, func(t *testing.T, w *world) {
		w.sleep(5 * w.Resync)
		if n := w.told(zapcore.WarnLevel, "finding"); n != 1 {
			t.Errorf("a finding was told %d times", n)
		}
		w.files(stack("a", "2"))
		if n := w.told(zapcore.WarnLevel, "finding"); n != 2 {
			t.Errorf("a finding of two versions was told %d times", n)
		}
		entries := w.logs.FilterMessage("stack changed").All()
		if len(entries) != 2 || entries[0].Level != zapcore.ErrorLevel || entries[1].Level != zapcore.InfoLevel {
			t.Fatalf("transitions: %v", entries)
		}
		want := map[string]any{"stack": "a", "revision": "r-1", "release": int64(7), "action": "rollout-failed",
			"reason": "TasksFailed", "detail": "", "service": "web", "duration": time.Minute}
		if got := entries[0].ContextMap(); !maps.Equal(got, want) {
			t.Errorf("fields: %v, want %v", got, want)
		}
	})
}

func TestScanThatPanicsIsAnUnreadableDirectory(t *testing.T) {
	inDaemon(t, func(w *world) {
		w.controller.scan = func(context.Context, Source) *spec.Snapshot { panic("nil map") }
	}, func(t *testing.T, w *world) {
		if err := w.ready(); err == nil {
			t.Error("ready")
		}
		w.sleep(10 * w.Resync)
		if err := w.health.check(); err != nil {
			t.Errorf("health: %v", err)
		}
	})
}

func TestHealthSeesALoopThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHealth(time.Now, "source", "engine")
		if err := h.check(); err != nil {
			t.Errorf("health at once: %v", err)
		}
		time.Sleep(pulseLimit + time.Second)
		h.beat("engine")
		if err := h.check(); err == nil || !strings.Contains(err.Error(), "the source loop") {
			t.Errorf("a loop that hangs is not seen: %v", err)
		}
		h.beat("source")
		if err := h.check(); err != nil {
			t.Errorf("health after it went on: %v", err)
		}
	})
}

// A mount that hangs makes the source not ready and nothing else: what is in force
// stays, the process is well, one goroutine waits, and all goes on when it answers.
func TestHungMount(t *testing.T) {
	for _, from := range []string{"the start", "later"} {
		t.Run(from, func(t *testing.T) {
			var scanning, most atomic.Int32
			var hang chan struct{}
			hanging := func(w *world) {
				hang = make(chan struct{})
				w.controller.scan = func(ctx context.Context, s Source) *spec.Snapshot {
					most.Store(max(most.Load(), scanning.Add(1)))
					defer scanning.Add(-1)
					<-hang
					return w.scan(ctx, s)
				}
			}
			inDaemon(t, func(w *world) {
				w.live = []string{"a", "b"}
				w.snapshot = snapshot(stack("a", "1"), stack("b", "1"))
				if from == "the start" {
					hanging(w)
				}
			}, func(t *testing.T, w *world) {
				if from == "later" {
					hanging(w)
					w.signal <- struct{}{}
				}
				w.sleep(w.ScanLimit + 2*scanGrace)
				w.taken()
				for range 30 {
					w.sleep(w.Resync)
					if err := w.health.check(); err != nil {
						t.Fatalf("health: %v", err)
					}
				}
				if err := w.ready(); err == nil || spec.SourceReason(w.sourceReady()) != sourceHung {
					t.Errorf("ready: %v", err)
				}
				passes, _ := w.taken()
				if want := map[string]int{"the start": 0, "later": 60}[from]; len(passes) != want {
					t.Errorf("%d passes while it hangs, want %d", len(passes), want)
				}
				if most.Load() != 1 {
					t.Errorf("%d scans at a time", most.Load())
				}
				if n := w.told(zapcore.ErrorLevel, "specs cannot be read, what was read last stays in force"); n > 2 {
					t.Errorf("told %d times", n)
				}
				close(hang)
				w.sleep(time.Second)
				if err := w.ready(); err != nil {
					t.Errorf("ready when it answers again: %v", err)
				}
				w.files(stack("a", "2"), stack("b", "1"))
				if got := fingerprint(w.last("a").Stack); got != "a@2" {
					t.Errorf("a is worked on as %q", got)
				}
			})
		})
	}
}

// A watch that cannot begin does not keep the directory from being read.
func TestHungWatch(t *testing.T) {
	hang := make(chan struct{})
	inDaemon(t, func(w *world) {
		hang = make(chan struct{})
		w.snapshot = snapshot(stack("a", "1"))
		w.watch = func(context.Context, Source) <-chan struct{} { <-hang; return w.signal }
	}, func(t *testing.T, w *world) {
		w.sleep(2 * watchWait)
		if err := w.ready(); err != nil {
			t.Errorf("ready: %v", err)
		}
		close(hang)
		w.sleep(time.Second)
		w.files(stack("a", "2"))
		if got := fingerprint(w.last("a").Stack); got != "a@2" {
			t.Errorf("a is worked on as %q", got)
		}
	})
}

func TestStopLetsAPassFinish(t *testing.T) {
	for name, c := range map[string]struct {
		pass func(context.Context) error // what a pass does until it ends
		took time.Duration
		cut  bool
		fail bool
	}{
		"a short one ends by itself": {
			pass: func(ctx context.Context) error { return sleep(ctx, 3*time.Second) },
			took: 2 * time.Second,
		},
		"a long one is cut off": {
			pass: func(ctx context.Context) error { return sleep(ctx, time.Minute) },
			took: drainLimit, cut: true,
		},
		"one that does not listen is left behind": {
			pass: func(context.Context) error { time.Sleep(time.Minute); return nil },
			took: stopLimit, fail: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				w.snapshot = snapshot(stack("a", "1"), stack("b", "1"), stack("c", "1"), stack("d", "1"), stack("e", "1"))
				var mu sync.Mutex
				cuts := 0
				w.reconcile = func(ctx context.Context, _ reconcile.Input) reconcile.Result {
					if c.pass(ctx) != nil {
						mu.Lock()
						defer mu.Unlock()
						cuts++
					}
					return good()
				}
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- w.daemon(ctx) }()
				time.Sleep(time.Second)
				synctest.Wait()
				start := time.Now()
				cancel()
				err := <-done
				if took := time.Since(start); took != c.took {
					t.Errorf("stopped after %s, want %s", took, c.took)
				}
				if (err != nil) != c.fail {
					t.Errorf("error %v", err)
				}
				mu.Lock()
				defer mu.Unlock()
				if (cuts == w.Workers) != c.cut {
					t.Errorf("%d passes were cut off", cuts)
				}
				if passes, _ := w.taken(); len(passes) != w.Workers {
					t.Errorf("a stop began new passes: %v", passes)
				}
				time.Sleep(time.Minute) // for what was left behind
			})
		})
	}
}

// sleep is time.Sleep that heeds ctx.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// A scan that cannot be completed leaves a missing stack's time running: that must
// not become a loop.
func TestIncompleteScanAfterAMissIsNotRepeatedAtOnce(t *testing.T) {
	inDaemon(t, func(w *world) { w.snapshot = snapshot(stack("a", "1"), stack("b", "1")) }, func(t *testing.T, w *world) {
		w.files(stack("b", "1"))
		w.put(&spec.Snapshot{Err: errors.New("no stack file")})
		w.with(func() { w.scans = 0 })
		w.sleep(10 * VanishAfter)
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.scans > 20 {
			t.Errorf("%d scans in %s", w.scans, 10*VanishAfter)
		}
	})
}

// What skep panicked with may hold values of a service.
func TestPanicsTellNoValues(t *testing.T) {
	const value = "hunter2"
	type spec struct{ Env []string }
	for _, v := range []any{
		"parse DB_PASSWORD=" + value, errors.New("dial postgres://app:" + value + "@db"),
		spec{[]string{value}}, &spec{[]string{value}}, []byte(value), &reconcile.CaughtPanic{Value: spec{[]string{value}}},
	} {
		err := protect(func() error { panic(v) })
		if err == nil || !strings.Contains(err.Error(), "panic: ") || strings.Contains(err.Error(), value) || strings.Contains(fmt.Sprintf("%+v", err), value) {
			t.Errorf("%T: %v", v, err)
		}
	}
}
