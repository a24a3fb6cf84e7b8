package controller

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap/zapcore"

	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
)

// A stagedLease stands as the test says.
type stagedLease struct {
	mu      sync.Mutex
	now     Standing
	changes chan Standing
	hints   int
	left    bool // run has ended
}

func (l *stagedLease) run(ctx context.Context, _ func(), stands func(Standing)) {
	for {
		select {
		case <-ctx.Done():
			l.mu.Lock()
			defer l.mu.Unlock()
			l.left = true
			return
		case s := <-l.changes:
			stands(s)
		}
	}
}

func (l *stagedLease) Take(context.Context, func(Holder)) (func(), error) {
	return nil, &HeldError{Owner: "skep", Holder: l.standing().Holder}
}

func (l *stagedLease) standing() Standing {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.now
}

func (l *stagedLease) term() (uint64, error) {
	if s := l.standing(); s.Acts() {
		return s.Term, nil
	}
	return 0, ErrNotLeading
}

func (l *stagedLease) hint() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hints++
}

// stands changes how it stands, and has the daemon told.
func (l *stagedLease) stands(s Standing) {
	l.mu.Lock()
	l.now = s
	l.mu.Unlock()
	l.changes <- s
	synctest.Wait()
}

var hers = Standing{Holder: Holder{ID: "b.1234", Host: "b"}}

// besideAnother runs a test beside a daemon that stands by.
func besideAnother(t *testing.T, prepare func(*world), test func(t *testing.T, w *world, l *stagedLease)) {
	t.Helper()
	l := &stagedLease{now: hers}
	inDaemon(t, func(w *world) {
		l.changes = make(chan Standing)
		w.leader = l
		prepare(w)
	}, func(t *testing.T, w *world) { test(t, w, l) })
	if !l.left {
		t.Error("the lease was not given up at the end")
	}
}

func TestStandbyLooksAndWritesNothing(t *testing.T) {
	besideAnother(t, func(w *world) { w.snapshot = snapshot(stack("a", "1")) }, func(t *testing.T, w *world, l *stagedLease) {
		l.stands(hers)
		w.sleep(5 * w.Resync)
		w.files(stack("a", "2"), stack("b", "1"))
		w.event()
		w.sleep(time.Second)
		passes, refreshes := w.taken()
		if len(passes) > 0 || refreshes < 6 {
			t.Errorf("passes %v, %d listings", passes, refreshes)
		}
		if err := w.ready(); err != nil {
			t.Errorf("not ready: %v", err)
		}
		if err := w.health.check(); err != nil {
			t.Errorf("not healthy: %v", err)
		}
		if got := w.role(); got != "stands by behind b.1234" {
			t.Errorf("it says that it %s", got)
		}
		if n := w.told(zapcore.InfoLevel, "stands by"); n != 1 {
			t.Errorf("it was told %d times", n)
		}
		if len(w.conditions()) > 0 {
			t.Errorf("it tells of passes that it never made: %v", w.conditions())
		}
		if d := w.desired.Load(); d.stacks["b"] == nil {
			t.Error("files are not read")
		}
		if err := testutil.GatherAndCompare(w.Registry, strings.NewReader(`
# HELP skep_leader Whether this controller acts (1) or stands by (0).
# TYPE skep_leader gauge
skep_leader 0
`), "skep_leader"); err != nil {
			t.Error(err)
		}
	})
}

func TestSuccessorListsAndMakesPassesOverAll(t *testing.T) {
	besideAnother(t, func(w *world) { w.snapshot = snapshot(stack("a", "1"), stack("b", "1")) }, func(t *testing.T, w *world, l *stagedLease) {
		for term := range uint64(3) {
			w.taken()
			l.stands(Standing{Term: term + 1, Holder: Holder{ID: "me"}})
			w.sleep(100 * time.Millisecond)
			passes, refreshes := w.taken()
			if !slices.Equal(slices.Compact(passes), []string{"a", "b"}) || refreshes != 1 {
				t.Errorf("term %d: passes %v, %d listings", term+1, passes, refreshes)
			}
			if w.role() != "acts" || !truth(w.conditions()["a"])[reconcile.Ready] {
				t.Errorf("it %s, and says %v", w.role(), w.conditions())
			}
			l.stands(hers)
			w.event()
			w.sleep(2 * w.Resync)
			if passes, _ := w.taken(); len(passes) > 0 {
				t.Errorf("passes %v without the lease", passes)
			}
		}
		if n := w.told(zapcore.InfoLevel, "leads, this controller acts"); n != 3 {
			t.Errorf("that it leads was told %d times", n)
		}
		if n := w.told(zapcore.WarnLevel, "lost the lease, writes nothing until it has it again"); n != 3 {
			t.Errorf("that it does not any more %d times", n)
		}
	})
}

// No pass is made in a term before the Swarm was listed in it.
func TestNoPassBeforeTheTermsListing(t *testing.T) {
	besideAnother(t, func(w *world) { w.snapshot = snapshot(stack("a", "1")) }, func(t *testing.T, w *world, l *stagedLease) {
		w.taken()
		l.mu.Lock()
		l.now = Standing{Term: 1} // and nobody was told yet
		l.mu.Unlock()
		w.queue.look("a")
		synctest.Wait()
		if passes, _ := w.taken(); len(passes) > 0 {
			t.Errorf("passes %v", passes)
		}
	})
}

// A pass that ends since the lease was lost is no failure of its stack.
func TestPassThatLosesTheLeaseIsNotTold(t *testing.T) {
	besideAnother(t, func(w *world) {
		w.snapshot = snapshot(stack("a", "1"))
		w.reconcile = func(ctx context.Context, in reconcile.Input) reconcile.Result {
			if term, _ := ctx.Value(termKey{}).(uint64); term != 7 {
				t.Errorf("a pass in term %d", term)
			}
			return failed(in.Name, "WriteFailed", ErrNotLeading)
		}
	}, func(t *testing.T, w *world, l *stagedLease) {
		l.stands(Standing{Term: 7})
		w.sleep(10 * time.Second)
		if passes, _ := w.taken(); len(passes) == 0 || len(passes) > 3 {
			t.Errorf("%d passes: it is tried again and again", len(passes))
		}
		if n := w.told(zapcore.ErrorLevel, "pass failed, it is repeated with growing pauses"); n > 0 || len(w.book.results()) > 0 {
			t.Errorf("told %d times; booked %v", n, w.book.results())
		}
	})
}

// Renewals make events, and no listings.
func TestLeaseEventsAreForTheLeaseAlone(t *testing.T) {
	besideAnother(t, func(*world) {}, func(t *testing.T, w *world, l *stagedLease) {
		w.sleep(2 * time.Second)
		w.taken()
		for _, owner := range []string{"skep", "another"} {
			w.events <- events.Message{Type: events.ConfigEventType, Actor: events.Actor{Attributes: map[string]string{"name": "skep-lease-" + owner}}}
		}
		w.sleep(2 * time.Second)
		if _, refreshes := w.taken(); refreshes > 0 || l.hints != 2 {
			t.Errorf("%d listings, %d hints", refreshes, l.hints)
		}
	})
}

// What an acting controller began with is asked about until it is known to be no older
// than what was rolled out; what changes later is not.
func TestSourcesAreCheckedWhenATermBegins(t *testing.T) {
	old := "its files are as they were"
	besideAnother(t, func(w *world) {
		w.live = []string{"a", "b", "lost"}
		w.snapshot = snapshot(stack("a", "1"), stack("b", "1"))
		w.reconcile = func(_ context.Context, in reconcile.Input) reconcile.Result {
			r := good()
			switch {
			case in.Source != nil && (in.Stack == nil || in.Stack.Source.Fingerprint == "b@1"):
				r = result(reconcile.Held, false)
				r.Reason, r.Message = reconcile.SourceStale, old
			case in.Source != nil:
				r.Current = true
			}
			return r
		}
	}, func(t *testing.T, w *world, l *stagedLease) {
		w.sleep(3 * VanishAfter)
		l.stands(Standing{Term: 1})
		w.sleep(2 * time.Second)
		asked := func(name string) bool {
			w.queue.look(name)
			w.sleep(2 * time.Second)
			return w.last(name).Source != nil
		}
		if asked("a") {
			t.Error("a was found to be current, and is asked about again")
		}
		if !asked("b") {
			t.Error("b is stale, and not asked about any more")
		}
		if in := w.last("lost"); in.Source == nil || !strings.Contains(in.Source.Doubt, "stack b") {
			t.Errorf("a stack without a file in a stale directory: %+v", in.Source)
		}
		w.files(stack("a", "0"), stack("b", "2"), stack("new", "1"))
		w.sleep(2 * time.Second)
		for _, name := range []string{"a", "b", "new"} {
			if asked(name) {
				t.Errorf("%s has changed while this controller acts, and is asked about", name)
			}
		}
		if in := w.last("lost"); in.Source == nil || in.Source.Doubt != "" {
			t.Errorf("when the directory has caught up: %+v", in.Source)
		}
		l.stands(hers)
		l.stands(Standing{Term: 2})
		w.sleep(2 * time.Second)
		w.mu.Lock()
		defer w.mu.Unlock()
		if !slices.ContainsFunc(w.passes, func(in reconcile.Input) bool { return in.Name == "new" && in.Source != nil }) {
			t.Error("a new term asks about nothing")
		}
	})
}

// What was read while another controller acted tells a change that it did not come to
// from a directory that lags.
func TestWhatWasReadIsRemembered(t *testing.T) {
	besideAnother(t, func(w *world) { w.snapshot = snapshot(stack("a", "1")) }, func(t *testing.T, w *world, l *stagedLease) {
		for _, version := range []string{"2", "2", "1"} {
			w.files(stack("a", version))
		}
		l.stands(Standing{Term: 1})
		w.sleep(time.Second)
		if in := w.last("a"); in.Source == nil || !slices.Equal(in.Source.Seen, []string{"a@1", "a@2", "a@1"}) {
			t.Errorf("%+v", in.Source)
		}
		for i := range 3 * seenMost {
			w.files(stack("a", fmt.Sprint(i)))
		}
		if seen := w.beginnings.saw("a"); len(seen) != seenMost || seen[seenMost-1] != fmt.Sprint("a@", 3*seenMost-1) {
			t.Errorf("%v", seen)
		}
	})
}

// One that lost the lease and knows nobody who has it is cut off, most likely: it takes
// the better part of a minute until a listing says so.
func TestNotReadyWhileNobodyActs(t *testing.T) {
	besideAnother(t, func(w *world) { w.snapshot = snapshot(stack("a", "1")) }, func(t *testing.T, w *world, l *stagedLease) {
		for _, c := range []struct {
			is   Standing
			want string
		}{
			{hers, ""}, {Standing{}, "lease: no controller is known to act"}, {Standing{Term: 1}, ""}, {Standing{}, "lease: no controller is known to act"}, {hers, ""},
		} {
			l.stands(c.is)
			if err := w.ready(); (err == nil) != (c.want == "") || err != nil && !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("%+v: %v, want %q", c.is, err, c.want)
			}
		}
	})
}

// An orphan waits until it is known whether the directory is older than other stacks.
func TestOrphanWaitsForTheOthers(t *testing.T) {
	b := &beginnings{}
	b.begin(1, &desired{stacks: map[string]*spec.Stack{"a": stack("a", "1"), "b": stack("b", "1")}, gone: map[string]bool{"lost": true}})
	if _, _, wait := b.asks("lost", false); !wait {
		t.Error("it does not wait")
	}
	b.found("a", true, reconcile.Result{Current: true})
	b.found("b", true, reconcile.Result{Reason: reconcile.SourceStale})
	b.stale["b"] = "old"
	if ask, doubt, wait := b.asks("lost", false); !ask || wait || !strings.Contains(doubt, "stack b") {
		t.Errorf("%t %q %t", ask, doubt, wait)
	}
	b.found("b", true, reconcile.Result{Current: true})
	if ask, doubt, wait := b.asks("lost", false); !ask || wait || doubt != "" {
		t.Errorf("%t %q %t", ask, doubt, wait)
	}
	if ask, _, _ := b.asks("a", false); ask { // its file was there when the term began
		t.Error("a stack whose file went meanwhile is doubted")
	}
}

// A stack that is no more keeps no orphan waiting for what becomes of it, and no memory.
func TestForgottenStackKeepsNobodyWaiting(t *testing.T) {
	b := &beginnings{}
	d := &desired{stacks: map[string]*spec.Stack{"a": stack("a", "1")}, gone: map[string]bool{"lost": true}}
	b.begin(1, d)
	b.read(d)
	if _, _, wait := b.asks("lost", false); !wait {
		t.Fatal("it does not wait for a")
	}
	b.forget("a")
	if ask, doubt, wait := b.asks("lost", false); !ask || wait || doubt != "" || b.saw("a") != nil {
		t.Errorf("%t %q %t, seen %v", ask, doubt, wait, b.saw("a"))
	}
}

// A directory that lags may catch up in steps: the file that comes into it with the first
// of them may be older than what was rolled out of it too.
func TestFileThatComesLaterIsChecked(t *testing.T) {
	b := &beginnings{}
	b.begin(1, &desired{stacks: map[string]*spec.Stack{"a": stack("a", "1")}, gone: map[string]bool{"late": true}})
	b.found("a", true, reconcile.Result{Current: true})
	b.found("late", false, reconcile.Result{Reason: reconcile.SourceStale})
	if ask, _, _ := b.asks("late", true); !ask {
		t.Error("its file came after the term began, and is not asked about")
	}
	b.found("late", true, reconcile.Result{Reason: reconcile.SourceStale})
	if ask, _, _ := b.asks("late", true); !ask {
		t.Error("it was found to be stale, and is not asked about again")
	}
	b.found("late", true, reconcile.Result{Current: true})
	if ask, _, _ := b.asks("late", true); ask {
		t.Error("it was found to be current, and is asked about again")
	}
}

func TestOnceNeedsTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.leader = &stagedLease{now: hers}
		w.snapshot = snapshot(stack("a", "1"))
		err := w.once(t.Context())
		w.queue.work.ShutDown()
		if err == nil || !strings.Contains(err.Error(), "b.1234") || len(w.passes)+w.scans+w.refreshes > 0 {
			t.Errorf("%v, after %d passes", err, len(w.passes))
		}
	})
}

// atTheSecond is a work tree of three commits, the second of which is checked out.
func atTheSecond(t *testing.T) (dir string, hashes []string) {
	t.Helper()
	dir = t.TempDir()
	repo, err := git.PlainInit(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	tree, err := repo.Worktree()
	if err != nil {
		t.Fatal(err)
	}
	commit := func(image string) string {
		t.Helper()
		write(t, filepath.Join(dir, "shop.yml"), "services: {web: {image: \""+image+"\"}}\n")
		if _, err := tree.Add("shop.yml"); err != nil {
			t.Fatal(err)
		}
		hash, err := tree.Commit(image, &git.CommitOptions{Author: &object.Signature{Name: "controller test", When: time.Now()}})
		if err != nil {
			t.Fatal(err)
		}
		return hash.String()
	}
	hashes = []string{commit("app:1"), commit("app:2"), commit("app:3")}
	if err := tree.Checkout(&git.CheckoutOptions{Hash: plumbing.NewHash(hashes[1])}); err != nil {
		t.Fatal(err)
	}
	return dir, hashes
}

// A check asks the repository that the directory really lies in.
func TestSourceCheckAsksTheRepository(t *testing.T) {
	dir, hashes := atTheSecond(t)
	cfg := Config{Specs: dir}
	if err := cfg.check(); err != nil {
		t.Fatal(err)
	}
	c := newController(cfg, edges{reconciler: quietEngine{}})
	defer c.queue.work.ShutDown()
	d, _ := desired{}.fold(spec.Scan(t.Context(), dir, spec.Options{}), nil, time.Now())
	for _, name := range []string{"shop", "gone"} { // of one without a file the directory's commit counts
		check := c.sourceCheck(name, &d, "")
		if check.Commit == nil || check.Commit.Hash != hashes[1] {
			t.Fatalf("%s: commit %+v", name, check.Commit)
		}
		for i, want := range []spec.Descent{spec.DescentNewer, spec.DescentSame, spec.DescentOlder} {
			if got, err := check.Descent(hashes[i]); err != nil || got != want {
				t.Errorf("%s: to commit %d: %q %v, want %q", name, i+1, got, err, want)
			}
		}
	}
}

// Where rewinds are followed, what the remote has is newer than all that was rolled out;
// a copy of it that may be old is not.
func TestBranchThatIsMovedBackOnPurpose(t *testing.T) {
	dir, hashes := atTheSecond(t)
	var old error
	cfg := Config{Sources: []Source{{Name: "stacks", Dir: dir, Rewinds: true, State: func() error { return old }}}}
	if err := cfg.check(); err != nil {
		t.Fatal(err)
	}
	c := newController(cfg, edges{reconciler: quietEngine{}})
	defer c.queue.work.ShutDown()
	for _, want := range []spec.Descent{spec.DescentNewer, spec.DescentOlder} {
		if got, err := c.descends(0, hashes[1], hashes[2]); err != nil || got != want {
			t.Errorf("%q %v, want %q", got, err, want)
		}
		old = &spec.SourceError{Reason: "GitUnreachable"}
	}
}
