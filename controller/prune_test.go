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

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/swarm"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap/zapcore"
	"pgregory.net/rapid"

	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
)

// A fakeNotes is where notes are kept: configs by compare-and-set.
type fakeNotes struct {
	reconcile.Swarm // what is not a config is asked of nobody

	mu      sync.Mutex
	configs map[string]swarm.Config // by name
	version uint64
	writes  int
	reads   int
	err     error
}

func newFakeNotes() *fakeNotes { return &fakeNotes{configs: map[string]swarm.Config{}} }

func (f *fakeNotes) ConfigList(_ context.Context, o swarm.ConfigListOptions) ([]swarm.Config, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reads++
	var out []swarm.Config
	for _, c := range f.configs {
		if o.Filters.MatchKVList("label", c.Spec.Labels) {
			out = append(out, c)
		}
	}
	return out, f.err
}

func (f *fakeNotes) put(id string, s swarm.ConfigSpec) error {
	if f.err != nil {
		return f.err
	}
	f.writes++
	f.version++
	c := swarm.Config{ID: id, Spec: s}
	c.Version.Index = f.version
	f.configs[s.Name] = c
	return nil
}

func (f *fakeNotes) ConfigCreate(_ context.Context, s swarm.ConfigSpec) (swarm.ConfigCreateResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, taken := f.configs[s.Name]; taken {
		return swarm.ConfigCreateResponse{}, cerrdefs.ErrConflict
	}
	return swarm.ConfigCreateResponse{ID: s.Name}, f.put(s.Name, s)
}

func (f *fakeNotes) ConfigUpdate(_ context.Context, id string, v swarm.Version, s swarm.ConfigSpec) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.configs[s.Name].Version != v {
		return errors.New("update out of sequence")
	}
	return f.put(id, s)
}

func (f *fakeNotes) ConfigRemove(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.writes++
	delete(f.configs, id)
	return f.err
}

// takeWrites returns how many there were since the last call.
func (f *fakeNotes) takeWrites() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := f.writes
	f.writes = 0
	return n
}

func (f *fakeNotes) names() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []string
	for name := range f.configs {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// published is what `skep status` would read.
func (f *fakeNotes) published(t *testing.T) *Published {
	t.Helper()
	p, err := ReadPublished(t.Context(), f, "skep")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// pruning makes a world that prunes stacks, as an engine does: a pass over one that is
// gone, and may go, takes it out of what lives.
func pruning(w *world, f *fakeNotes, live ...string) {
	w.PruneStacks = true
	w.keepIn(f)
	w.live = live
	w.snapshot = snapshot(stacks(live...)...)
	w.reconcile = func(_ context.Context, in reconcile.Input) reconcile.Result {
		switch {
		case in.Stack != nil || !slices.Contains(w.lives(), in.Name):
			return good()
		case in.PruneBlocked != "":
			r := result(reconcile.Held, false, reconcile.Stalled)
			r.Reason, r.Message, r.Conditions[0].Message = reconcile.PruneBlocked, in.PruneBlocked, in.PruneBlocked
			return r
		}
		w.with(func() {
			w.live = slices.DeleteFunc(slices.Clone(w.live), func(name string) bool { return name == in.Name })
		})
		return result(reconcile.Applied, false)
	}
}

// keepIn gives the daemon a place for its notes.
func (w *world) keepIn(f *fakeNotes) {
	w.notes = f
	w.kept = newKept(w.Config, f, w.leads)
}

func stacks(names ...string) []*spec.Stack {
	var out []*spec.Stack
	for _, name := range names {
		out = append(out, stack(name, "1"))
	}
	return out
}

func numbered(n int) []string {
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf("s%03d", i))
	}
	return names
}

func (w *world) lives() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.live)
}

func (w *world) noticesPrune() {
	w.noticed("skep-prune-skep")
	w.sleep(time.Second)
}

// Stacks vanish in ten sizes: little goes by itself, more waits, and goes when, and only
// when, just that is confirmed.
func TestVanishingStacks(t *testing.T) {
	for _, c := range []struct{ of, gone int }{
		{1, 1}, {2, 1}, {2, 2}, {3, 1}, {3, 2}, {6, 2}, {6, 3}, {30, 10}, {30, 11}, {100, 99},
	} {
		t.Run(fmt.Sprintf("%d of %d", c.gone, c.of), func(t *testing.T) {
			f, names := newFakeNotes(), numbered(c.of)
			waits := c.gone == c.of || c.gone > 1 && 3*c.gone > c.of
			inDaemon(t, func(w *world) {
				pruning(w, f, names...)
				if c.gone == c.of { // a directory is not empty: another stack is in it
					w.snapshot.Stacks["other"] = stack("other", "1")
				}
			}, func(t *testing.T, w *world) {
				left := snapshot(stacks(names[c.gone:]...)...)
				if c.gone == c.of {
					left.Stacks["other"] = stack("other", "1")
				}
				w.put(left)
				w.sleep(VanishAfter - time.Second)
				if got := w.lives(); len(got) != c.of || f.published(t) != nil {
					t.Fatalf("%d are left before the second scan", len(got))
				}
				w.sleep(10 * time.Minute)
				if !waits {
					p := f.published(t)
					if got := w.lives(); len(got) != c.of-c.gone || p == nil || !p.Empty() || len(p.Lost) != c.gone {
						t.Fatalf("%d are left, published is %+v", len(got), p)
					}
					f.takeWrites()
					w.sleep(2 * reconcile.LossWindow)
					if n := f.takeWrites(); n == 0 || n > c.gone || len(f.published(t).Lost) > 0 {
						t.Errorf("%d writes in two hours, published is %+v", n, f.published(t))
					}
					return
				}
				if got := w.lives(); len(got) != c.of {
					t.Fatalf("%d are left, and nobody confirmed that", len(got))
				}
				p := f.published(t)
				if p == nil || p.Prune == nil || len(p.Prune.Names) != c.gone || p.Prune.Of != c.of || p.Prune.Since.IsZero() {
					t.Fatalf("published: %+v", p)
				}
				if n := w.told(zapcore.WarnLevel, "removal waits for a person"); n != 1 {
					t.Errorf("told %d times", n)
				}
				if got := testutil.ToFloat64(&pruneCollector{func() map[string]int { return map[string]int{"": w.pruneWaits()[""]} }}); got != float64(c.gone) {
					t.Errorf("the metric is %v", got)
				}
				if _, err := ConfirmPrune(t.Context(), f, "skep", "01234567"); !errors.Is(err, ErrUnknownPlan) {
					t.Errorf("another ID: %v", err)
				}
				w.sleep(10 * time.Minute)
				f.takeWrites()
				w.sleep(10 * time.Minute)
				if n := f.takeWrites(); n > 0 || len(w.lives()) != c.of {
					t.Fatalf("%d writes, %d left, while it waits", n, len(w.lives()))
				}
				if _, err := ConfirmPrune(t.Context(), f, "skep", p.Prune.ID); err != nil {
					t.Fatal(err)
				}
				w.noticesPrune()
				w.sleep(2 * w.Resync)
				if got := w.lives(); len(got) != c.of-c.gone {
					t.Fatalf("confirmed, and %d are left", len(got))
				}
				if got := f.names(); !slices.Equal(got, []string{"skep-report-skep"}) || !f.published(t).Empty() {
					t.Errorf("notes %v, published %+v", got, f.published(t))
				}
			})
		})
	}
}

// A directory that empties slowly, one file after the other, is one removal.
func TestSlowlyVanishingStacks(t *testing.T) {
	f, names := newFakeNotes(), numbered(10)
	inDaemon(t, func(w *world) { pruning(w, f, names...) }, func(t *testing.T, w *world) {
		for i := range 9 {
			w.files(stacks(names[i+1:]...)...)
			w.sleep(2 * time.Second)
		}
		w.sleep(5 * time.Minute)
		if got := w.lives(); len(got) != 10 {
			t.Errorf("%d are left", len(got))
		}
		// It was a copy: all come back.
		w.files(stacks(names...)...)
		w.sleep(time.Minute)
		if p := f.published(t); p == nil || !p.Empty() || w.kept.waiting() != nil {
			t.Errorf("it still waits: %+v", p)
		}
	})
}

// A directory that loses a stack every minute, each of which would be few enough, comes to
// a stop at a third; what a person confirms then does not count any more.
func TestErodingDirectory(t *testing.T) {
	f, names := newFakeNotes(), numbered(12)
	inDaemon(t, func(w *world) { pruning(w, f, names...) }, func(t *testing.T, w *world) {
		for i := range 6 {
			w.files(stacks(names[i+1:]...)...)
			w.sleep(VanishAfter + 30*time.Second)
		}
		p := f.published(t)
		if got := w.lives(); !slices.Equal(got, names[4:]) || p == nil || p.Prune == nil || !slices.Equal(p.Prune.Names, names[4:6]) || p.Prune.Lost != 4 {
			t.Fatalf("%d are left, published is %+v", len(w.lives()), p)
		}
		if _, err := ConfirmPrune(t.Context(), f, "skep", p.Prune.ID); err != nil {
			t.Fatal(err)
		}
		w.noticesPrune()
		w.sleep(time.Minute)
		if got := w.lives(); !slices.Equal(got, names[6:]) {
			t.Fatalf("confirmed, and left are %v", got)
		}
		w.sleep(reconcile.LossWindow)
		w.files(stacks(names[7:]...)...)
		w.sleep(VanishAfter + time.Minute)
		if got := w.lives(); !slices.Equal(got, names[7:]) {
			t.Errorf("an hour later a single one stays: %v", got)
		}
	})
}

// A controller that succeeds another one, or is started again for each look, weighs what
// was removed before it, too.
func TestErosionOutlivesAController(t *testing.T) {
	for kind, once := range map[string]bool{"daemon": false, "once": true} {
		synctest.Test(t, func(t *testing.T) {
			f, names := newFakeNotes(), numbered(12)
			left := names
			for i := range 7 {
				w := newWorld()
				pruning(w, f, left...)
				w.snapshot = snapshot(stacks(names[i:]...)...)
				if once {
					_ = w.once(t.Context()) // an error, once something waits
				} else {
					ctx, cancel := context.WithCancel(t.Context())
					done := make(chan error, 1)
					go func() { done <- w.daemon(ctx) }()
					w.sleep(2*VanishAfter + 10*time.Second)
					cancel()
					if err := <-done; err != nil {
						t.Error(err)
					}
				}
				w.queue.work.ShutDown()
				left = w.lives()
			}
			if !slices.Equal(left, names[4:]) {
				t.Errorf("%s: left are %v", kind, left)
			}
		})
	}
}

// What was confirmed is of that set of stacks: one that goes besides waits, one that is
// back stays, and a controller that begins half-way goes on.
func TestConfirmedRemovalGoesOnElsewhere(t *testing.T) {
	f, names := newFakeNotes(), numbered(6)
	var id string
	inDaemon(t, func(w *world) { pruning(w, f, names...) }, func(t *testing.T, w *world) {
		w.files(stacks(names[4:]...)...)
		w.sleep(VanishAfter + time.Second)
		id = f.published(t).Prune.ID
		w.with(func() { // it dies before the first removal
			w.reconcile = func(context.Context, reconcile.Input) reconcile.Result {
				return failed("", "Refused", errors.New("refused"))
			}
		})
		if _, err := ConfirmPrune(t.Context(), f, "skep", id); err != nil {
			t.Fatal(err)
		}
		w.noticesPrune()
	})
	if in := parseIntent(new(f.configs["skep-prune-skep"])); !slices.Equal(in.stacks, names[:4]) {
		t.Fatalf("taken in: %+v", in)
	}
	inDaemon(t, func(w *world) {
		pruning(w, f, names...)
		w.snapshot = snapshot(stacks(names[0], names[4])...) // s000 is back, s005 has gone too
	}, func(t *testing.T, w *world) {
		w.sleep(VanishAfter + 10*time.Second)
		w.sleep(2 * w.Resync)
		if got := w.lives(); !slices.Equal(got, []string{"s000", "s004"}) && !slices.Equal(got, []string{"s000", "s004", "s005"}) {
			t.Errorf("left: %v", got)
		}
		if slices.Contains(f.names(), "skep-prune-skep") {
			t.Error("the confirmation outlives what it was for")
		}
	})
}

// A confirmation that nothing waits for any more is removed, and removes nothing.
func TestConfirmationOutOfDate(t *testing.T) {
	f, names := newFakeNotes(), numbered(6)
	inDaemon(t, func(w *world) { pruning(w, f, names...) }, func(t *testing.T, w *world) {
		w.files(stacks(names[4:]...)...)
		w.sleep(VanishAfter + time.Second)
		if _, err := ConfirmPrune(t.Context(), f, "skep", f.published(t).Prune.ID); err != nil {
			t.Fatal(err)
		}
		w.files(stacks(names[5:]...)...) // before anybody looked: more is gone
		w.noticesPrune()
		w.sleep(5 * time.Minute)
		if got := w.lives(); len(got) != 6 || slices.Contains(f.names(), "skep-prune-skep") {
			t.Errorf("%d are left, notes %v", len(got), f.names())
		}
	})
}

// Notes whose labels somebody took away are written over; else nothing could be told again.
func TestNotesWithoutLabels(t *testing.T) {
	f, names := newFakeNotes(), numbered(6)
	for _, name := range []string{"skep-report-skep", "skep-prune-skep"} {
		if err := f.put(name, swarm.ConfigSpec{Annotations: swarm.Annotations{Name: name}}); err != nil {
			t.Fatal(err)
		}
	}
	inDaemon(t, func(w *world) { pruning(w, f, names...) }, func(t *testing.T, w *world) {
		w.files(stacks(names[4:]...)...)
		w.sleep(VanishAfter + time.Minute)
		p := f.published(t)
		if p == nil || p.Prune == nil {
			t.Fatalf("published: %+v", p)
		}
		if _, err := ConfirmPrune(t.Context(), f, "skep", p.Prune.ID); err != nil {
			t.Fatal(err)
		}
		w.noticesPrune()
		w.sleep(2 * w.Resync)
		if got := w.lives(); len(got) != 2 {
			t.Errorf("confirmed: left %v", got)
		}
	})
}

// A controller that does not lead confirms nothing and writes nothing.
func TestStandbyKeepsNothing(t *testing.T) {
	f, names := newFakeNotes(), numbered(3)
	inDaemon(t, func(w *world) {
		pruning(w, f, names...)
		w.kept.leads = func() bool { return false }
	}, func(t *testing.T, w *world) {
		w.files(stacks(names[2:]...)...)
		w.sleep(5 * time.Minute)
		if f.takeWrites() > 0 || f.reads > 0 || w.kept.waiting() != nil {
			t.Errorf("%d reads, notes %v", f.reads, f.names())
		}
	})
}

func TestIntentProperties(t *testing.T) {
	names := numbered(5)
	rapid.Check(t, func(t *rapid.T) {
		subset := func(label string) []string {
			return slices.DeleteFunc(slices.Clone(names), func(string) bool { return rapid.Bool().Draw(t, label) })
		}
		known, going := subset("known"), subset("going")
		_, blocked := reconcile.GuardStacks(known, going, nil, nil, 0)
		in := intent{id: rapid.SampledFrom([]string{"", "01234567"}).Draw(t, "id"), stacks: subset("stacks")}
		in.all = in.stacks
		if blocked != nil && rapid.Bool().Draw(t, "right") {
			in.id = blocked.ID
		}
		next, ok := in.next(blocked, known, going)
		if ok != (len(next.stacks) > 0) && len(in.stacks) > 0 {
			t.Fatalf("%+v, %t", next, ok)
		}
		for _, name := range next.stacks {
			if ok && (!slices.Contains(known, name) || !slices.Contains(going, name)) {
				t.Fatalf("%s is to go, and has its file or does not live", name)
			}
			if ok && len(in.stacks) > 0 && !slices.Contains(in.stacks, name) {
				t.Fatalf("%s is to go, and nobody confirmed it", name)
			}
		}
		if ok && len(in.stacks) == 0 && (blocked == nil || in.id != blocked.ID) {
			t.Fatal("another plan was confirmed")
		}
	})
}

// A run with --once weighs, waits, and takes in what was confirmed between two runs.
func TestOnceWaitsForAPerson(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, names := newFakeNotes(), numbered(4)
		run := func() ([]string, error) {
			w := newWorld()
			defer w.queue.work.ShutDown()
			pruning(w, f, names...)
			w.snapshot = snapshot(stacks(names[3])...)
			err := w.once(t.Context())
			return w.lives(), err
		}
		for range 2 {
			left, err := run()
			if !errors.Is(err, ErrNotReady) || len(left) != 4 || !strings.Contains(err.Error(), "skep prune --confirm") {
				t.Fatalf("%v; left: %v", err, left)
			}
		}
		if _, err := ConfirmPrune(t.Context(), f, "skep", f.published(t).Prune.ID); err != nil {
			t.Fatal(err)
		}
		left, err := run()
		if err != nil || !slices.Equal(left, names[3:]) {
			t.Errorf("confirmed: %v; left: %v", err, left)
		}
		if got := f.names(); !slices.Equal(got, []string{"skep-report-skep"}) || !f.published(t).Empty() {
			t.Errorf("notes %v, %+v", got, f.published(t))
		}
	})
}

// What Settle would remove too much of it holds, but for the ID that it is given.
func TestSettleHoldsARemoval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, f, names := newWorld(), newFakeNotes(), numbered(4)
		defer w.queue.work.ShutDown()
		pruning(w, f, names...)
		left := snapshot(stacks(names[3])...)
		results := Settle(t.Context(), w, left, names, true, nil, SettleOptions{})
		if r := results["s000"]; r.Reason != reconcile.PruneBlocked || len(w.lives()) != 4 {
			t.Fatalf("%+v, left %v", r, w.lives())
		}
		_, b := reconcile.GuardStacks(names, names[:3], nil, nil, 0)
		Settle(t.Context(), w, left, names, true, nil, SettleOptions{Confirmed: []string{b.ID}})
		if got := w.lives(); !slices.Equal(got, names[3:]) {
			t.Errorf("left %v", got)
		}
	})
}

// deploying makes passes over stacks with a file bring them to life, as an engine does.
func (w *world) deploying() {
	prune := w.reconcile
	w.reconcile = func(ctx context.Context, in reconcile.Input) reconcile.Result {
		w.with(func() {
			if in.Stack != nil && !slices.Contains(w.live, in.Name) {
				w.live = append(w.live, in.Name)
			}
		})
		return prune(ctx, in)
	}
}

// What waited and may go by itself now, since the others have their files again, waits for
// nobody, though something else keeps it.
func TestWhatMayGoNowDoesNotWait(t *testing.T) {
	f, names := newFakeNotes(), numbered(5)
	inDaemon(t, func(w *world) {
		pruning(w, f, names...)
		prune := w.reconcile
		w.reconcile = func(ctx context.Context, in reconcile.Input) reconcile.Result {
			if in.Name == "s001" && in.Stack == nil && in.PruneBlocked == "" {
				return result(reconcile.Held, false) // it is suspended
			}
			return prune(ctx, in)
		}
	}, func(t *testing.T, w *world) {
		w.files(stacks(names[2:]...)...)
		w.sleep(time.Minute)
		if p := f.published(t); p == nil || p.Prune == nil {
			t.Fatalf("published: %+v", p)
		}
		w.files(stacks("s000", "s002", "s003", "s004")...)
		w.sleep(5 * time.Minute)
		if p := f.published(t); p.Prune != nil || w.kept.waited() != nil {
			t.Errorf("it still waits: %+v", p.Prune)
		}
	})
}

// The wrong directory brings stacks of its own, which come to live while the others' files
// are missed: the more it brings, the less the others weighed.
func TestAnotherDirectoryRemovesNothing(t *testing.T) {
	old, wrong := stacks(numbered(5)...), []*spec.Stack(nil)
	for i := range 12 {
		wrong = append(wrong, stack(fmt.Sprintf("w%03d", i), "1"))
	}
	stays := func(t *testing.T, w *world, f *fakeNotes) {
		t.Helper()
		if got := len(w.lives()); got != len(old)+len(wrong) {
			t.Fatalf("%d are left", got)
		}
		if p := f.published(t); p == nil || p.Prune == nil || len(p.Prune.Names) != len(old) || p.Prune.Of != len(old) {
			t.Fatalf("published: %+v", p)
		}
	}
	t.Run("in its place", func(t *testing.T) {
		f := newFakeNotes()
		inDaemon(t, func(w *world) { pruning(w, f, numbered(5)...); w.deploying() }, func(t *testing.T, w *world) {
			w.files(wrong...)
			w.sleep(10 * time.Minute)
			stays(t, w, f)
			w.files(old...)
			w.sleep(time.Minute)
			if w.kept.waiting() == nil { // now it is the others' turn: all that is theirs
				t.Error("nothing waits")
			}
		})
	})
	t.Run("from the start, and after another one", func(t *testing.T) {
		f := newFakeNotes()
		var live []string
		for range 2 {
			inDaemon(t, func(w *world) {
				pruning(w, f, numbered(5)...)
				w.deploying()
				if w.snapshot = snapshot(wrong...); live != nil {
					w.live = live
				}
			}, func(t *testing.T, w *world) {
				w.sleep(10 * time.Minute)
				stays(t, w, f)
				live = w.lives()
			})
		}
		inDaemon(t, func(w *world) { pruning(w, f, live...); w.deploying(); w.snapshot = snapshot(wrong...) }, func(t *testing.T, w *world) {
			w.sleep(time.Minute)
			if _, err := ConfirmPrune(t.Context(), f, "skep", f.published(t).Prune.ID); err != nil {
				t.Fatal(err)
			}
			w.noticesPrune()
			w.sleep(2 * w.Resync)
			if got := w.lives(); len(got) != len(wrong) || !f.published(t).Empty() {
				t.Errorf("confirmed: left %v, published %+v", got, f.published(t))
			}
		})
	})
	t.Run("applied twice", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w, f := newWorld(), newFakeNotes()
			defer w.queue.work.ShutDown()
			pruning(w, f, numbered(5)...)
			w.deploying()
			names := numbered(5)
			for _, s := range wrong {
				names = append(names, s.Name)
			}
			apply := func(confirmed ...string) {
				before, err := Waited(t.Context(), f, "skep")
				if err != nil {
					t.Fatal(err)
				}
				if err := PublishWaits(t.Context(), f, "skep", Waits(w.Stacks(), numbered(5), before), time.Now()); err != nil {
					t.Fatal(err)
				}
				Settle(t.Context(), w, snapshot(wrong...), names, true, nil, SettleOptions{Waited: before, Confirmed: confirmed})
			}
			for range 3 {
				apply()
				stays(t, w, f)
			}
			apply(f.published(t).Prune.ID)
			if got := w.lives(); len(got) != len(wrong) {
				t.Errorf("confirmed: left %v", got)
			}
			if err := PublishWaits(t.Context(), f, "skep", nil, time.Now()); err != nil || !f.published(t).Empty() {
				t.Errorf("%v, published %+v", err, f.published(t))
			}
		})
	})
	t.Run("once", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w, f := newWorld(), newFakeNotes()
			defer w.queue.work.ShutDown()
			pruning(w, f, numbered(5)...)
			w.deploying()
			w.snapshot = snapshot(wrong...)
			if err := w.once(t.Context()); !errors.Is(err, ErrNotReady) {
				t.Error(err)
			}
			stays(t, w, f)
			live := w.lives()
			w = newWorld() // from cron, a minute later
			defer w.queue.work.ShutDown()
			pruning(w, f, live...)
			w.deploying()
			w.snapshot = snapshot(wrong...)
			if err := w.once(t.Context()); !errors.Is(err, ErrNotReady) {
				t.Error(err)
			}
			stays(t, w, f)
		})
	})
}
