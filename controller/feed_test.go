package controller

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
)

// twoSources are a world's sources "infra" and "shops", each of which the test can change,
// have hang and count.
type twoSources struct {
	*world
	mu     sync.Mutex
	holds  map[string]*spec.Snapshot
	hangs  map[string]chan struct{}
	reads  map[string]int
	signal map[string]chan struct{}
	states map[string]error
	keep   func(ctx context.Context, changed func()) // of infra
	begin  func(*twoSources)                         // before the daemon starts
}

// inTwo runs a test beside a daemon of two sources.
func inTwo(t *testing.T, prepare func(*twoSources), test func(t *testing.T, w *twoSources)) {
	t.Helper()
	x := &twoSources{
		holds: map[string]*spec.Snapshot{"infra": snapshot(stack("db", "1")), "shops": snapshot(stack("shop", "1"))},
		hangs: map[string]chan struct{}{}, reads: map[string]int{}, states: map[string]error{},
	}
	sources := func() []Source {
		x.signal = map[string]chan struct{}{"infra": make(chan struct{}), "shops": make(chan struct{})}
		state := func(name string) func() error {
			return func() error {
				x.mu.Lock()
				defer x.mu.Unlock()
				return x.states[name]
			}
		}
		all := []Source{{Name: "infra", Dir: "/infra", State: state("infra")}, {Name: "shops", Dir: "/shops", State: state("shops")}}
		if x.keep != nil {
			all[0].Keep = func(ctx context.Context, changed func()) { x.keep(ctx, changed) }
		}
		return all
	}
	if prepare != nil {
		prepare(x)
	}
	inDaemonOf(t, sources, func(w *world) {
		x.world = w
		w.live = []string{"db", "shop"}
		w.controller.scan = x.scan
		if x.begin != nil {
			x.begin(x)
		}
		w.controller.watch = func(_ context.Context, s Source) <-chan struct{} { return x.signal[s.Name] }
	}, func(t *testing.T, _ *world) { test(t, x) })
}

func (x *twoSources) scan(_ context.Context, s Source) *spec.Snapshot {
	x.mu.Lock()
	x.reads[s.Name]++
	hang := x.hangs[s.Name]
	x.mu.Unlock()
	if hang != nil {
		<-hang
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	snap := *x.holds[s.Name]
	snap.Dir = s.Dir
	return &snap
}

func (x *twoSources) hold(source string, s *spec.Snapshot) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.holds[source] = s
}

// hang has a source hang until the channel is closed; nil: it does not.
func (x *twoSources) hang(source string, until chan struct{}) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.hangs[source] = until
}

// say changes what a source holds, and says so.
func (x *twoSources) say(source string, s *spec.Snapshot) {
	x.hold(source, s)
	x.signal[source] <- struct{}{}
	x.sleep(time.Millisecond)
}

func (x *twoSources) state(source string, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.states[source] = err
}

// readsSince are how often each source was read since the last call.
func (x *twoSources) readsSince() (infra, shops int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	infra, shops = x.reads["infra"], x.reads["shops"]
	clear(x.reads)
	return infra, shops
}

func away(reason string) *spec.Snapshot {
	return &spec.Snapshot{Err: &spec.SourceError{Reason: reason, Err: errors.New("it is not there")}}
}

func TestSourcesAreReadApart(t *testing.T) {
	inTwo(t, nil, func(t *testing.T, w *twoSources) {
		passes, _ := w.taken()
		equal(t, "stacks", slices.Compact(passes), []string{"db", "shop"})
		if in := w.desired.Load().stacks["db"].Source.Name; in != "infra" {
			t.Errorf("db is of source %q", in)
		}
		w.readsSince()
		w.say("shops", snapshot(stack("shop", "2")))
		if infra, shops := w.readsSince(); infra != 0 || shops != 1 {
			t.Errorf("a change in shops had infra read %d times, and shops %d times", infra, shops)
		}
		passes, _ = w.taken()
		equal(t, "passes", passes, []string{"shop"})
		w.logs.TakeAll()
		w.say("infra", snapshot(stack("db", "1")))
		passes, _ = w.taken()
		equal(t, "passes without a change", passes, nil)
		equal(t, "log", w.loud(), nil)

		// A file that is moved is of the other source, as it was.
		w.say("infra", snapshot(stack("db", "1"), stack("shop", "2")))
		w.say("shops", snapshot(stack("blog", "1")))
		if d := w.desired.Load(); d.stacks["shop"].Source.Name != "infra" || len(d.missing)+len(d.problems) > 0 {
			t.Errorf("a stack that was moved: %+v, missing %v, problems %v", d.stacks["shop"].Source, d.missing, d.problems)
		}
	})
}

// While a name is in two sources the stack stays as it is, whatever they say of it, and
// both files are told.
func TestNameInTwoSources(t *testing.T) {
	inTwo(t, nil, func(t *testing.T, w *twoSources) {
		w.taken()
		w.say("infra", snapshot(stack("db", "1"), stack("shop", "other")))
		w.say("shops", snapshot(stack("shop", "2")))
		w.sleep(10 * VanishAfter)
		d := w.desired.Load()
		if fingerprint(d.stacks["shop"]) != "shop@1" || d.stacks["shop"].Source.Name != "shops" || len(d.gone)+len(d.missing) > 0 {
			t.Errorf("in force: %+v, gone %v, missing %v", d.stacks["shop"], d.gone, d.missing)
		}
		for _, file := range []string{"infra:shop.yml", "shops:shop.yml"} {
			if !strings.Contains(d.problem("shop"), file) {
				t.Errorf("%q does not name %s", d.problem("shop"), file)
			}
		}
		w.taken()
		w.say("infra", snapshot(stack("db", "1")))
		if in := w.last("shop"); fingerprint(in.Stack) != "shop@2" {
			t.Errorf("the last pass was over %q", fingerprint(in.Stack))
		}
	})
}

// A source that cannot be read keeps what it said last, and the changes of the others go
// on. What may have moved there does not go.
func TestUnreadableSourceStopsNoOther(t *testing.T) {
	inTwo(t, func(x *twoSources) {
		x.holds["shops"] = snapshot(stack("shop", "1"), stack("blog", "1"))
	}, func(t *testing.T, w *twoSources) {
		w.with(func() { w.live = []string{"blog", "db", "shop"} })
		w.taken()
		w.logs.TakeAll()
		w.say("infra", away(spec.SourceMissing))
		w.say("shops", snapshot(stack("shop", "2")))
		if fingerprint(w.last("shop").Stack) != "shop@2" {
			t.Error("the change in shops did not come into force")
		}
		w.sleep(10 * VanishAfter)
		d := w.desired.Load()
		if d.stacks["db"] == nil || d.stacks["blog"] == nil || len(d.gone) > 0 {
			t.Errorf("stacks %v, gone %v", d.names(), d.gone)
		}
		if err := w.ready(); err == nil || !strings.HasPrefix(err.Error(), "source infra: ") || strings.Contains(err.Error(), "shops") {
			t.Errorf("ready: %v", err)
		}
		if n := w.told(zapcore.ErrorLevel, "specs cannot be read, what was read last stays in force"); n != 1 {
			t.Errorf("told %d times", n)
		}
		p := w.found(w.Now())
		if p.Source.Ready || len(p.Sources) != 1 || p.Sources[0].Name != "infra" || p.Sources[0].Reason != spec.SourceMissing || p.Sources[0].Since.IsZero() {
			t.Errorf("published: %+v, %+v", p.Source, p.Sources)
		}
		if tr, ok := w.unreadable(d.sources); !ok || tr.Key != "infra" || !strings.Contains(tr.Message, "source infra: it is not there") {
			t.Errorf("news: %+v, %t", tr, ok)
		}
		samples := map[string]float64{}
		for _, s := range gathered(t, w.Registry)["skep_source_ready"].samples {
			samples[s.labels["source"]] = s.value
		}
		if samples["infra"] != 0 || samples["shops"] != 1 {
			t.Errorf("skep_source_ready: %v", samples)
		}

		w.say("infra", snapshot(stack("db", "1")))
		if d := w.desired.Load(); d.err != nil || d.missing["blog"].IsZero() {
			t.Errorf("after it is back: %v, missing %v", d.err, d.missing)
		}
		w.sleep(VanishAfter + 2*time.Second)
		if d := w.desired.Load(); !d.gone["blog"] || len(d.gone) != 1 {
			t.Errorf("gone: %v", d.gone)
		}
		if err := w.ready(); err != nil {
			t.Errorf("ready: %v", err)
		}
	})
}

// One that hangs holds the others up for a moment at the start, and never later.
func TestSourceThatHangs(t *testing.T) {
	for _, from := range []string{"the start", "later"} {
		t.Run(from, func(t *testing.T) {
			var hang chan struct{}
			hangs := func(w *twoSources) {
				hang = make(chan struct{})
				w.hang("infra", hang)
			}
			inTwo(t, func(x *twoSources) {
				if from == "the start" {
					x.begin = hangs
				}
			}, func(t *testing.T, w *twoSources) {
				if from == "later" {
					hangs(w)
					w.signal["infra"] <- struct{}{}
				} else {
					if passes, _ := w.taken(); len(passes) > 0 {
						t.Errorf("passes over %v before it is known what infra has", passes)
					}
					w.sleep(joinWait + time.Second)
					if err := w.ready(); err == nil || !strings.Contains(err.Error(), "source infra: the directory was not read yet") {
						t.Errorf("ready: %v", err)
					}
					passes, _ := w.taken()
					equal(t, "passes while infra is waited for no more", slices.Compact(passes), []string{"shop"})
				}
				for n := range 5 {
					w.say("shops", snapshot(stack("shop", fmt.Sprint("v", n))))
					if got := fingerprint(w.last("shop").Stack); got != fmt.Sprint("shop@v", n) {
						t.Errorf("pass over %q while infra hangs", got)
					}
					w.sleep(w.ScanLimit)
					if err := w.health.check(); err != nil {
						t.Errorf("health: %v", err)
					}
				}
				if err := w.sourceReady(); spec.SourceReason(err) != sourceHung || !strings.Contains(err.Error(), "source infra: ") {
					t.Errorf("ready: %v", err)
				}
				w.hang("infra", nil)
				close(hang)
				w.sleep(time.Second)
				if err := w.sourceReady(); err != nil {
					t.Errorf("after it answered: %v", err)
				}
				if w.desired.Load().stacks["db"] == nil {
					t.Error("db is not in force")
				}
			})
		})
	}
}

// A stack is gone when every source was read without it VanishAfter after it was missed.
func TestEverySourceHasToMissAStack(t *testing.T) {
	inTwo(t, nil, func(t *testing.T, w *twoSources) {
		w.say("shops", snapshot(stack("front", "1")))
		hang := make(chan struct{})
		w.hang("infra", hang)
		w.sleep(VanishAfter + 5*time.Second) // shops is read again, infra is being read
		d := w.desired.Load()
		if len(d.gone) > 0 || d.stacks["shop"] == nil {
			t.Fatalf("gone before infra was read: %v", d.gone)
		}
		if again := d.again(w.Now()); again != VanishAfter {
			t.Errorf("the next scan is due in %s", again)
		}
		infra, shops := w.readsSince()
		if infra+shops > 10 {
			t.Errorf("%d and %d scans meanwhile", infra, shops)
		}
		w.hang("infra", nil)
		w.hold("infra", snapshot(stack("db", "1"), stack("shop", "moved")))
		close(hang)
		w.sleep(time.Second)
		if d := w.desired.Load(); fingerprint(d.stacks["shop"]) != "shop@moved" || d.stacks["shop"].Source.Name != "infra" || len(d.gone) > 0 {
			t.Errorf("a stack that moved: %+v, gone %v", d.stacks["shop"], d.gone)
		}
	})
}

// A source that is there, and may be old: its files are in force, also new ones, and it is
// told once, whatever age its words have.
func TestSourceThatMayBeOld(t *testing.T) {
	inTwo(t, nil, func(t *testing.T, w *twoSources) {
		w.taken()
		w.logs.TakeAll()
		old := func(age int) error {
			return &spec.SourceError{Reason: "GitUnreachable", Err: fmt.Errorf("the last good commit is %d minutes old", age)}
		}
		w.state("infra", old(1))
		w.sleep(pulseEvery + time.Second) // no scan is needed to know
		if err := w.ready(); err == nil || !strings.Contains(err.Error(), "source infra: the last good commit is 1 minutes old") {
			t.Errorf("ready: %v", err)
		}
		w.say("infra", snapshot(stack("db", "2")))
		if fingerprint(w.last("db").Stack) != "db@2" {
			t.Error("what is in the directory did not come into force")
		}
		for age := range 5 {
			w.state("infra", old(age))
			w.sleep(rewordState / 10)
		}
		if n := w.told(zapcore.ErrorLevel, "source is not up to date, what was read last stays in force"); n != 1 {
			t.Errorf("told %d times", n)
		}
		if p := w.found(w.Now()); len(p.Sources) != 1 || p.Sources[0].Reason != "GitUnreachable" || !strings.Contains(p.Sources[0].Message, "1 minutes") {
			t.Errorf("published: %+v", p.Sources)
		}
		w.sleep(rewordState + pulseEvery)
		if p := w.found(w.Now()); !strings.Contains(p.Sources[0].Message, "4 minutes") {
			t.Errorf("published later: %+v", p.Sources)
		}
		since := w.found(w.Now()).Sources[0].Since
		w.state("infra", &spec.SourceError{Reason: "GitRewound", Err: errors.New("it moved back")})
		w.sleep(pulseEvery + time.Second)
		if p := w.found(w.Now()); p.Sources[0].Reason != "GitRewound" || !p.Sources[0].Since.Equal(since) {
			t.Errorf("published: %+v, since %s", p.Sources, since)
		}
		w.state("infra", nil)
		w.sleep(pulseEvery + time.Second)
		if err := w.ready(); err != nil {
			t.Errorf("ready: %v", err)
		}
	})
}

// Keep has its own source read when it changed it. When it panics, or ends, that source
// may be old until it is begun again; nothing else comes of it.
func TestKeepOfASource(t *testing.T) {
	var changed chan struct{}
	var begun int
	inTwo(t, func(x *twoSources) {
		x.keep = func(ctx context.Context, tell func()) {
			if begun++; begun == 1 {
				changed = make(chan struct{})
			}
			for {
				select {
				case <-ctx.Done():
					return
				case _, ok := <-changed:
					if !ok {
						changed = make(chan struct{})
						panic("nil map")
					}
					tell()
				}
			}
		}
	}, func(t *testing.T, w *twoSources) {
		w.taken()
		w.readsSince()
		changed <- struct{}{}
		w.sleep(time.Millisecond)
		if infra, shops := w.readsSince(); infra != 1 || shops != 0 {
			t.Errorf("Keep of infra changed it, and infra was read %d times, shops %d times", infra, shops)
		}
		close(changed)
		w.sleep(time.Millisecond)
		if err := w.ready(); err == nil || !strings.Contains(err.Error(), "source infra: nothing keeps /infra up to date: panic: nil map") {
			t.Errorf("ready: %v", err)
		}
		w.sleep(2*keepFirst + pulseEvery)
		if err := w.ready(); err != nil || begun != 2 {
			t.Errorf("after it was begun again, %d times: %v", begun, err)
		}
	})
}

// While a source is not ready nothing is removed, also what was gone before.
func TestNothingIsRemovedWhileASourceIsNotReady(t *testing.T) {
	inTwo(t, nil, func(t *testing.T, w *twoSources) {
		w.controller.PruneStacks = true
		w.kept.nowWeighed()
		w.say("shops", snapshot(stack("front", "1")))
		w.sleep(VanishAfter + 2*time.Second)
		if !w.desired.Load().gone["shop"] {
			t.Fatal("shop is not gone")
		}
		w.say("infra", away(spec.SourceMissing))
		if in := w.last("shop"); in.Stack != nil || !strings.Contains(in.PruneBlocked, "source infra: it is not there") {
			t.Errorf("pass over what was gone: %+v", in)
		}
		w.taken()
		w.say("infra", snapshot(stack("db", "1")))
		if in := w.last("shop"); in.Name != "shop" || strings.Contains(in.PruneBlocked, "infra") {
			t.Errorf("pass after it is back: %+v", in)
		}
	})
}

// Why a source is not ready is what a person has to see to first.
func TestWhyASourceIsNotReady(t *testing.T) {
	missing, old, good := away(spec.SourceMissing), &spec.SourceError{Reason: "GitUnreachable", Err: errors.New("no answer")}, snapshot()
	for what, tt := range map[string]struct {
		scans []*spec.Snapshot
		state error
		want  string
		kept  bool
	}{
		"good":                                {[]*spec.Snapshot{good}, nil, "", false},
		"gone":                                {[]*spec.Snapshot{good, missing}, nil, spec.SourceMissing, false},
		"back":                                {[]*spec.Snapshot{missing, good}, nil, "", false},
		"old":                                 {[]*spec.Snapshot{good}, old, "GitUnreachable", true},
		"old, and gone":                       {[]*spec.Snapshot{good, missing}, old, spec.SourceMissing, false},
		"not there, since it was not fetched": {[]*spec.Snapshot{missing}, old, "GitUnreachable", true},
		"without a reason":                    {[]*spec.Snapshot{{}}, nil, spec.SourceUnreadable, false},
	} {
		f := feed{stands: standing{name: "a"}}
		at := time.Unix(1000, 0)
		for i, scan := range tt.scans {
			f.takeScan(scan, at, at.Add(time.Duration(i)*time.Second))
		}
		f.takeState(tt.state, at)
		if got := spec.SourceReason(f.stands.problem()); got != tt.want || f.stands.kept != tt.kept || (tt.want == "") != f.stands.since.IsZero() {
			t.Errorf("%s: %q since %s, kept %t", what, got, f.stands.since, f.stands.kept)
		}
		if in := f.inForce(); in.Complete != (tt.want == "") || (f.last != nil) != (in.Stacks != nil) {
			t.Errorf("%s: in force %+v", what, in)
		}
	}
}

func TestConfigOfSources(t *testing.T) {
	for what, tt := range map[string]struct {
		Config
		want string
	}{
		"none":         {Config{}, "no specs directory"},
		"the short":    {Config{Specs: "a"}, ""},
		"both":         {Config{Specs: "a", Sources: []Source{{Name: "b", Dir: "b"}}}, ""},
		"a name twice": {Config{Specs: "a", Sources: []Source{{Name: "specs", Dir: "b"}}}, "two sources have the name specs"},
		"no name":      {Config{Sources: []Source{{Dir: "b"}}}, `"" cannot be the name of a source`},
		"a bad name":   {Config{Sources: []Source{{Name: "a:b", Dir: "b"}}}, `"a:b" cannot be`},
		"no directory": {Config{Sources: []Source{{Name: "a"}}}, "source a has no directory"},
		"too many":     {Config{Sources: make([]Source, maxSources+1)}, "101 sources"},
	} {
		err := tt.check()
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", what, err, tt.want)
		}
	}
}

func TestAskCommits(t *testing.T) {
	at := time.Unix(1000, 0)
	commit := func(hash string, minute int) *spec.Commit {
		return &spec.Commit{Hash: hash, Short: hash, Time: at.Add(time.Duration(minute) * time.Minute)}
	}
	sources := []spec.Directory{{Name: "a", Commit: commit("a1", 5)}, {Name: "b"}, {Name: "c", Commit: commit("c1", 1)}}
	stackOf := func(source string, c *spec.Commit) *spec.Stack {
		return &spec.Stack{Source: spec.Source{Name: source, Commit: c}}
	}
	knows := map[string]string{"a1": "old", "c1": "older", "c0": "older"}
	for what, tt := range map[string]struct {
		stack *spec.Stack
		other string
		want  string // the commit that counts, "" for none
		is    spec.Descent
	}{
		"its own source":                  {stackOf("c", commit("c1", 1)), "older", "c1", spec.DescentNewer},
		"an earlier commit of its source": {stackOf("c", commit("c0", 0)), "older", "c0", spec.DescentNewer},
		"another source's is not asked":   {stackOf("c", commit("c1", 1)), "old", "c1", spec.DescentUnknown},
		"a source without git":            {stackOf("b", nil), "old", "", ""},
		"no file, the first knows":        {nil, "old", "a1", spec.DescentNewer},
		"no file, the last knows":         {nil, "older", "c1", spec.DescentNewer},
		"no file, none knows: the oldest": {nil, "strange", "c1", spec.DescentUnknown},
	} {
		check := &reconcile.SourceCheck{}
		askCommits(check, tt.stack, sources, func(i int, commit, other string) (spec.Descent, error) {
			if !strings.HasPrefix(commit, sources[i].Name) {
				t.Errorf("%s: %s was asked of source %s", what, commit, sources[i].Name)
			}
			if knows[commit] == other {
				return spec.DescentNewer, nil
			}
			return spec.DescentUnknown, nil
		})
		if tt.want == "" {
			if check.Commit != nil {
				t.Errorf("%s: commit %s", what, check.Commit.Hash)
			}
			continue
		}
		got, err := check.Descent(tt.other)
		if err != nil || got != tt.is || check.Commit.Hash != tt.want {
			t.Errorf("%s: %q of commit %s, %v", what, got, check.Commit.Hash, err)
		}
	}
}

// A run that ends waits until what keeps a source has brought it up to date, and ends that
// with itself. What never comes ends it with an error.
func TestOnceWaitsForKeep(t *testing.T) {
	for what, tt := range map[string]struct {
		after time.Duration // Keep is done; 0: never
		state bool          // it has one
		want  string
	}{
		"with a state":        {5 * time.Second, true, ""},
		"without one":         {5 * time.Second, false, ""},
		"which is never good": {0, true, "specs: not fetched yet"},
		"that does not fetch": {0, false, "specs: nothing has come yet"},
	} {
		t.Run(what, func(t *testing.T) {
			var ended bool
			synctest.Test(t, func(t *testing.T) {
				fetched := make(chan struct{})
				source := Source{Name: "specs", Dir: "/git", Keep: func(ctx context.Context, changed func()) {
					defer func() { ended = true }()
					if tt.after > 0 {
						time.Sleep(tt.after)
						close(fetched)
						changed()
					}
					<-ctx.Done()
				}}
				if tt.state {
					source.State = func() error {
						select {
						case <-fetched:
							return nil
						default:
							return errors.New("not fetched yet")
						}
					}
				}
				w := newWorld(source)
				defer w.queue.work.ShutDown()
				w.snapshot = snapshot(stack("a", "1"))
				begun := time.Now()
				err := w.once(t.Context())
				passes, _ := w.taken()
				if tt.want == "" {
					if err != nil || time.Since(begun) < tt.after {
						t.Errorf("after %s: %v", time.Since(begun), err)
					}
					equal(t, "passes", slices.Compact(passes), []string{"a"})
				} else if err == nil || err.Error() != tt.want || len(passes) > 0 {
					t.Errorf("error %v, passes %v", err, passes)
				}
			})
			if !ended {
				t.Error("Keep goes on")
			}
		})
	}
}

// With real directories, watches and scanners: a source that is swapped by what keeps it,
// and one that goes away and comes back.
func TestDaemonOnTwoRealDirectories(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	top := t.TempDir()
	put := func(file, image string) {
		t.Helper()
		file = filepath.Join(top, file)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte("services: {web: {image: '"+image+"'}}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	current := filepath.Join(top, "git", "current")
	swap := func(tree string) {
		t.Helper()
		if err := errors.Join(os.Symlink(filepath.Join("trees", tree), current+".new"), os.Rename(current+".new", current)); err != nil {
			t.Fatal(err)
		}
	}
	put("infra/db.yml", "db:1")
	put("git/trees/1/stacks/shop.yml", "shop:1")
	put("git/trees/2/stacks/shop.yml", "shop:2")
	fetched := make(chan string)
	cfg := Config{Logger: zap.NewNop(), Registry: prometheus.NewRegistry(), Resync: time.Hour, Sources: []Source{
		{Name: "infra", Dir: filepath.Join(top, "infra")},
		{Name: "shops", Dir: filepath.Join(current, "stacks"), Keep: func(ctx context.Context, changed func()) {
			for {
				select {
				case <-ctx.Done():
					return
				case tree := <-fetched:
					swap(tree)
					changed()
				}
			}
		}},
	}}
	if err := cfg.check(); err != nil {
		t.Fatal(err)
	}
	scanners := map[string]*spec.Scanner{}
	for _, s := range cfg.Sources {
		scanners[s.Name] = spec.NewScanner(s.Dir, spec.Options{Part: true})
	}
	e := &quietEngine{images: make(chan string, 100)}
	c := newController(cfg, edges{reconciler: e, events: e,
		scan:  func(ctx context.Context, s Source) *spec.Snapshot { return scanners[s.Name].Scan(ctx) },
		watch: func(ctx context.Context, s Source) <-chan struct{} { return Watch(ctx, s.Dir) }})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.daemon(ctx) }()

	e.await(t, "db:1") // shops was never fetched
	if err := c.ready(); err == nil || !strings.HasPrefix(err.Error(), "source shops: ") || spec.SourceReason(c.sourceReady()) != spec.SourceMissing {
		t.Errorf("ready: %v", err)
	}
	fetched <- "1"
	e.await(t, "shop:1")
	eventually(t, func() bool { return c.ready() == nil })
	if err := os.Rename(filepath.Join(top, "infra"), filepath.Join(top, "away")); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return c.ready() != nil })
	fetched <- "2"
	e.await(t, "shop:2")
	if d := c.desired.Load(); d.stacks["db"] == nil || d.stacks["shop"].Source.Name != "shops" || !strings.HasPrefix(d.err.Error(), "source infra: ") {
		t.Errorf("in force: %v, error %v", d.names(), d.err)
	}
	put("infra/db.yml", "db:2")
	e.await(t, "db:2")
	eventually(t, func() bool { return c.ready() == nil })
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
