package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"pgregory.net/rapid"

	"github.com/skep-io/skep/controller/forge"
	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
)

// A board is a forge that the test can break.
type board struct {
	mu    sync.Mutex
	posts []forge.Status
	at    []time.Time // of all attempts
	fails error
	only  string // the stack that it fails for; empty: all
	hangs bool
}

func (b *board) Post(ctx context.Context, repo forge.Repository, s forge.Status) error {
	b.mu.Lock()
	b.at = append(b.at, time.Now())
	fails, hangs := b.fails, b.hangs
	if b.only != "" && !strings.HasSuffix(s.Context, "/"+b.only) {
		fails = nil
	}
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
	b.posts = append(b.posts, s)
	return nil
}

func (b *board) set(fails error, hangs bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fails, b.hangs = fails, hangs
}

// take returns what came since the last call, as "STACK STATE COMMIT", in order.
func (b *board) take() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []string
	for _, s := range b.posts {
		out = append(out, strings.TrimPrefix(s.Context, "skep/skep/")+" "+string(s.State)+" "+s.Commit[:1])
	}
	b.posts = nil
	return out
}

func (b *board) attempts() []time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	at := b.at
	b.at = nil
	return at
}

func hash(letter string) string { return strings.Repeat(letter, 40) }

// by has a result's release be of a commit.
func (r passed) by(letter string) passed {
	rel := *r.Release
	rel.Commit, rel.Started, rel.Ended = hash(letter), time.Now().Add(-43*time.Second), time.Time{}
	if rel.Phase != progressing {
		rel.Ended = time.Now()
	}
	r.Release = &rel
	return r
}

// shows has the daemon post to b, and keep in f what was told.
func (w *world) shows(f *fakeNotes, b *board) {
	w.keepIn(f)
	c := w.Config
	c.CommitStatus, c.PageURL = b, "https://skep.example/"
	w.notices = newNotices(c, f, w.leads, w.metrics)
	w.notices.statuses.where = func(string) (forge.Repository, bool) {
		return forge.Repository{Host: "git.example", Path: "acme/shop"}, true
	}
}

func TestWhatIsToldOfCommits(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	sight := func(release int, commit string, state forge.State) commitSight {
		return commitSight{release: release, commit: commit, state: state, ended: now}
	}
	long := sight(1, "a", forge.Success)
	long.ended = now.Add(-2 * time.Hour)
	for name, tt := range map[string]struct {
		sights []commitSight
		ended  map[int]forge.State // of earlier releases, as far as they are remembered
		want   string
	}{
		"a rollout":                      {[]commitSight{sight(1, "a", forge.Pending), sight(1, "a", forge.Pending), sight(1, "a", forge.Success), sight(1, "a", forge.Success)}, nil, "pending a, success a"},
		"a bad one":                      {[]commitSight{sight(1, "a", forge.Success), sight(2, "b", forge.Pending), sight(2, "b", forge.Failure), sight(2, "b", forge.Failure)}, nil, "success a, pending b, failure b"},
		"one that breaks later":          {[]commitSight{sight(1, "a", forge.Success), sight(1, "a", forge.Failure)}, nil, "success a, failure a"},
		"one that failed before":         {[]commitSight{sight(1, "a", forge.Failure), sight(2, "b", forge.Failure)}, nil, "failure a, failure b"},
		"the same commit again":          {[]commitSight{sight(1, "a", forge.Failure), sight(2, "a", forge.Pending), sight(2, "a", forge.Success)}, nil, "failure a, pending a, success a"},
		"overtaken":                      {[]commitSight{sight(1, "a", forge.Pending), sight(2, "b", forge.Pending), sight(2, "b", forge.Success)}, map[int]forge.State{1: forge.Canceled}, "pending a, canceled a, pending b, success b"},
		"overtaken, long ago":            {[]commitSight{sight(1, "a", forge.Pending), sight(9, "b", forge.Success)}, nil, "pending a, canceled a, success b"},
		"healthy while nobody acted":     {[]commitSight{sight(1, "a", forge.Pending), sight(2, "b", forge.Pending)}, map[int]forge.State{1: forge.Success}, "pending a, success a, pending b"},
		"failed while nobody acted":      {[]commitSight{sight(1, "a", forge.Pending), sight(2, "b", forge.Pending)}, map[int]forge.State{1: forge.Failure}, "pending a, failure a, pending b"},
		"by hand":                        {[]commitSight{sight(2, "b", forge.Success), sight(3, "", forge.Pending), sight(3, "", forge.Success), sight(4, "c", forge.Pending)}, nil, "success b, pending c"},
		"by hand, in the middle":         {[]commitSight{sight(2, "b", forge.Pending), sight(3, "", forge.Pending), sight(3, "", forge.Success)}, nil, "pending b, canceled b"},
		"broken while nobody acted":      {[]commitSight{sight(1, "a", forge.Success), sight(2, "b", forge.Pending)}, map[int]forge.State{1: forge.Failure}, "success a, failure a, pending b"},
		"what was so before":             {[]commitSight{long, sight(2, "b", forge.Pending)}, nil, "pending b"},
		"without git":                    {[]commitSight{sight(1, "", forge.Pending), sight(1, "", forge.Success)}, nil, ""},
		"numbers that began anew":        {[]commitSight{sight(1, "a", forge.Success), sight(1, "b", forge.Success)}, nil, "success a, success b"},
		"a number that was forgotten":    {[]commitSight{sight(7, "a", forge.Success), sight(1, "b", forge.Pending)}, nil, "success a, pending b"},
		"still pending, says the record": {[]commitSight{sight(1, "a", forge.Pending), sight(2, "b", forge.Pending)}, map[int]forge.State{1: forge.Pending}, "pending a, canceled a, pending b"},
	} {
		t.Run(name, func(t *testing.T) {
			var told *commitLine
			var got []string
			for _, s := range tt.sights {
				for _, n := range told.compare(s, now, func(n int) (commitSight, bool) {
					state, ok := tt.ended[n]
					return commitSight{release: n, state: state}, ok
				}) {
					got = append(got, string(n.state)+" "+n.commit)
					told = new(n.line())
				}
			}
			if text := strings.Join(got, ", "); text != tt.want {
				t.Errorf("%s, want %s", text, tt.want)
			}
		})
	}
}

func TestWordsOfStatuses(t *testing.T) {
	now := time.Now()
	r := func(phase reconcile.Phase, change func(*reconcile.Release)) reconcile.Result {
		rel := reconcile.Release{Number: 5, Phase: phase, Commit: hash("a"), Revision: "aaaaaaa", Message: "web: exit code 1", Started: now.Add(-90 * time.Second), Ended: now}
		change(&rel)
		return reconcile.Result{Release: &rel}
	}
	same := func(*reconcile.Release) {}
	for _, tt := range []struct {
		r      reconcile.Result
		state  forge.State
		text   string
		commit string
	}{
		{r(progressing, same), forge.Pending, "release 5 is rolled out", hash("a")},
		{r(healthy, same), forge.Success, "release 5 is healthy, after 1m30s", hash("a")},
		{r(healthy, func(r *reconcile.Release) { r.Ended = r.Started }), forge.Success, "release 5 is healthy", hash("a")},
		{r(failedPhase, same), forge.Failure, "release 5 failed: web: exit code 1", hash("a")},
		{r(reconcile.PhaseSuperseded, same), forge.Canceled, "release 5: a newer one came before it was healthy", hash("a")},
		{r(healthy, func(r *reconcile.Release) { r.By = reconcile.ByHand }), forge.Success, "release 5 is healthy, after 1m30s", ""},
		{r(healthy, func(r *reconcile.Release) { r.Revision = "aaaaaaa-dirty" }), forge.Success, "release 5 is healthy, after 1m30s", ""},
	} {
		s, ok := seeCommit(tt.r)
		if !ok || s.state != tt.state || s.text != tt.text || s.commit != tt.commit || s.release != 5 {
			t.Errorf("%+v, want %+v", s, tt)
		}
	}
	if _, ok := seeCommit(good()); ok {
		t.Error("something is seen where there is no release")
	}
}

// Whatever happens, in the end each commit shows how its newest release ended, or that it
// was overtaken; none waits but that of a release that is under way.
func TestCommitsShowWhatBecameOfThem(t *testing.T) {
	m := newMetrics(prometheus.NewRegistry())
	rapid.Check(t, func(t *rapid.T) {
		history := map[int]forge.State{} // of releases
		of := map[int]string{}
		shown := map[string]forge.State{}
		at := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
		start := func(l ledger) *notices {
			c := Config{CommitStatus: &board{}, Owner: "skep", Logger: zap.NewNop(), Now: func() time.Time { return at }}
			x := newNotices(c, nil, func() bool { return true }, m)
			x.read, x.ledger = true, l
			x.knows(func(_ string, n int) (commitSight, bool) {
				state, ok := history[n]
				return commitSight{release: n, state: state}, ok
			}, nil)
			return x
		}
		x := start(ledger{Lines: map[string]line{}})
		newest := 0
		see := func() {
			if newest > 0 {
				x.seeCommit("shop", commitSight{release: newest, commit: of[newest], state: history[newest], ended: at})
			}
		}
		deliver := func(fails bool) bool {
			at = at.Add(2 * statusPauseMost) // whoever rested has rested
			d, _, ok := x.nextStatus()
			if !ok {
				return false
			}
			if !fails {
				shown[d.commit] = d.state
			}
			x.statusDone(d, nil, !fails)
			return true
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 7).Draw(t, "what") {
			case 0, 1: // a newer one begins
				if history[newest] == forge.Pending {
					history[newest] = forge.Canceled
				}
				newest++
				history[newest], of[newest] = forge.Pending, fmt.Sprintf("%040d", newest)
				if rapid.IntRange(0, 5).Draw(t, "by hand") == 0 {
					of[newest] = ""
				}
				see()
			case 2, 3:
				if newest > 0 {
					history[newest] = rapid.SampledFrom([]forge.State{forge.Success, forge.Failure}).Draw(t, "end")
					see()
				}
			case 4, 5:
				deliver(false)
			case 6:
				deliver(true)
			case 7: // killed, or stopped; what was told is kept
				x = start(parseLedger(x.standing().text()))
				see()
			}
			delete(history, newest-9)
		}
		see()
		for deliver(false) {
		}
		for n, commit := range of {
			state, told := shown[commit]
			want, known := history[n]
			switch {
			case commit == "" && told:
				t.Fatalf("a release by hand was told of: %s", state)
			case commit == "" || !told && n < newest: // overtaken before anybody was told
			case n == newest && state != want:
				t.Fatalf("release %d is %s, and its commit shows %q", n, want, state)
			case n < newest && state == forge.Pending:
				t.Fatalf("release %d waits for ever", n)
			case n < newest && known && state != want:
				t.Fatalf("release %d was %s, and its commit shows %s", n, want, state)
			}
		}
	})
}

func TestStatusesArePostedOnceAcrossRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, b := newFakeNotes(), &board{}
		daemon := func(finds map[string]passed) (*world, func()) {
			w := newWorld()
			w.shows(f, b)
			w.snapshot = snapshot(stack("a", "1"), stack("b", "1"))
			w.finds(finds)
			return w, alive(t, w)
		}
		old := inSync.of(3, healthy).by("3")
		old.Release.Ended = time.Now().Add(-30 * time.Hour)
		w, stop := daemon(map[string]passed{"a": old, "b": writes.of(1, progressing).by("1")})
		equal(t, "statuses", b.take(), []string{"b pending 1"})
		w.finds(map[string]passed{"a": writes.of(4, progressing).by("4"), "b": inSync.of(1, healthy).by("1").did("rollout-healthy")})
		w.lookAgain()
		w.sleep(5 * time.Second)
		got := b.take()
		slices.Sort(got)
		equal(t, "statuses", got, []string{"a pending 4", "b success 1"})
		f.takeWrites()
		w.sleep(20 * time.Minute)
		if n := f.takeWrites(); n > 0 || len(b.attempts()) != 3 {
			t.Errorf("%d writes in a steady state", n)
		}
		restore := f.cutOff()
		stop()
		restore()

		// It failed while nobody acted, and the one before runs again.
		w, stop = daemon(map[string]passed{"a": back.of(4, failedPhase).by("4"), "b": inSync.of(1, healthy).by("1")})
		w.lookAgain()
		w.sleep(5 * time.Second)
		equal(t, "statuses", b.take(), []string{"a failure 4"})
		if n := testutil.ToFloat64(w.metrics.commitStatuses.WithLabelValues(sent)); n != 1 {
			t.Errorf("%v were counted", n)
		}
		stop()
		_, stop = daemon(map[string]passed{"a": back.of(4, failedPhase).by("4"), "b": inSync.of(1, healthy).by("1")})
		stop()
		equal(t, "statuses after that", b.take(), nil)
		if l := f.ledger(); !maps.Equal(l.Commits, map[string]commitLine{"a": {4, forge.Failure, hash("4")}, "b": {1, forge.Success, hash("1")}}) || len(l.Lines) > 0 {
			t.Errorf("what was told: %+v", l)
		}
	})
}

func TestStatusSaysWhereItIsFrom(t *testing.T) {
	f, b := newFakeNotes(), &board{}
	inDaemon(t, func(w *world) {
		w.shows(f, b)
		w.snapshot = snapshot(stack("a", "1"))
		w.finds(map[string]passed{"a": waits.of(7, progressing).by("4")})
	}, func(t *testing.T, w *world) {
		w.sleep(2 * time.Second)
		want := forge.Status{Commit: hash("4"), State: forge.Pending, Context: "skep/skep/a", Description: "release 7 is rolled out", URL: "https://skep.example/stacks/a"}
		if len(b.posts) != 1 || b.posts[0] != want {
			t.Errorf("%+v", b.posts)
		}
	})
}

// A forge that hangs, fails or asks to be left alone holds up no pass, and is told the
// newest in the end; of what was overtaken meanwhile it hears nothing.
func TestBrokenForgeHarmsNobody(t *testing.T) {
	f, b := newFakeNotes(), &board{hangs: true}
	inDaemon(t, func(w *world) {
		w.shows(f, b)
		w.snapshot = snapshot(stack("a", "1"), stack("b", "1"))
		w.finds(map[string]passed{"a": waits.of(1, progressing).by("1"), "b": passed(good())})
	}, func(t *testing.T, w *world) {
		for i := range 500 {
			w.finds(map[string]passed{"a": waits.of(2+i, progressing).by(string("23456789"[i%8]))})
			w.taken()
			w.lookAgain()
			if passes, _ := w.taken(); len(passes) < 2 {
				t.Fatalf("passes %v while the forge hangs", passes)
			}
		}
		if n := len(w.notices.statuses.due); n > 3 {
			t.Errorf("%d statuses wait", n)
		}
		w.finds(map[string]passed{"a": inSync.of(501, healthy).by("a")})
		w.lookAgain()
		b.set(errors.New("no route"), false)
		w.sleep(time.Hour)
		if n := len(b.attempts()); n < 12 || n > 1200 {
			t.Errorf("tried %d times", n)
		}
		if n := w.told(zapcore.WarnLevel, "a commit's status cannot be posted"); n != 1 {
			t.Errorf("told %d times", n)
		}
		b.set(nil, false)
		w.sleep(10 * time.Minute)
		equal(t, "statuses", b.take(), []string{"a pending 2", "a canceled 2", "a success a"}) // the first may have come while it hung
		if n := w.told(zapcore.InfoLevel, "statuses of commits can be posted again"); n != 1 {
			t.Errorf("told %d times that it works again", n)
		}

		b.attempts()
		b.set(fmt.Errorf("too many: %w", &forge.LaterError{After: 20 * time.Minute}), false)
		w.finds(map[string]passed{"a": waits.of(502, progressing).by("b")})
		w.lookAgain()
		w.sleep(time.Hour)
		at := b.attempts()
		for i := range at[1:] {
			if d := at[i+1].Sub(at[i]); d < 20*time.Minute {
				t.Errorf("it was asked again after %s", d)
			}
		}
		if len(at) < 3 {
			t.Errorf("it was asked %d times", len(at))
		}

		b.set(fmt.Errorf("%w: gone", forge.ErrRefused), false)
		w.sleep(time.Hour)
		b.attempts()
		w.finds(map[string]passed{"a": inSync.of(502, healthy).by("b")})
		w.lookAgain()
		w.sleep(time.Hour)
		if n := len(b.attempts()); n != 1 {
			t.Errorf("what was refused was tried %d times", n)
		}
		if n := testutil.ToFloat64(w.metrics.commitStatuses.WithLabelValues(givenUp)); n != 2 {
			t.Errorf("%v were given up", n)
		}
	})
}

// A repository that is not well holds up no other, and what is told of its stack stays in
// order.
func TestBrokenRepositoryHoldsUpNoOther(t *testing.T) {
	f, b := newFakeNotes(), &board{fails: errors.New("answered 500"), only: "a"}
	inDaemon(t, func(w *world) {
		w.shows(f, b)
		w.snapshot = snapshot(stack("a", "1"), stack("b", "1"))
		w.finds(map[string]passed{"a": waits.of(1, progressing).by("1"), "b": inSync.of(1, healthy).by("1")})
	}, func(t *testing.T, w *world) {
		w.sleep(10 * time.Second)
		equal(t, "statuses", b.take(), []string{"b success 1"})
		for i := range 5 {
			w.finds(map[string]passed{"a": waits.of(1, progressing).by("1"), "b": inSync.of(2+i, healthy).by("2")})
			w.lookAgain()
			w.sleep(10 * time.Minute)
			equal(t, "statuses", b.take(), []string{"b success 2"})
		}
		w.finds(map[string]passed{"a": back.of(1, failedPhase).by("1"), "b": inSync.of(6, healthy).by("2")})
		w.lookAgain()
		b.set(nil, false)
		w.sleep(10 * time.Minute)
		equal(t, "statuses", b.take(), []string{"a failure 1"})
		if w.told(zapcore.WarnLevel, "a commit's status cannot be posted") != 1 || w.told(zapcore.InfoLevel, "statuses of commits can be posted again") != 1 {
			t.Errorf("it says: %v", w.loud())
		}
	})
}

func TestStandbyPostsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, b := newFakeNotes(), &board{}
		w := newWorld()
		lease := &stagedLease{changes: make(chan Standing)}
		w.leader = lease
		w.shows(f, b)
		w.snapshot = snapshot(stack("a", "1"))
		w.finds(map[string]passed{"a": waits.of(1, progressing).by("1")})
		stop := alive(t, w)
		w.sleep(time.Minute)
		if n := len(b.attempts()); n > 0 || f.takeWrites() > 0 {
			t.Errorf("a standby posted %d", n)
		}
		lease.stands(Standing{Term: 1})
		w.sleep(10 * time.Second)
		equal(t, "statuses", b.take(), []string{"a pending 1"})
		b.set(nil, true)
		w.finds(map[string]passed{"a": inSync.of(1, healthy).by("1")})
		w.lookAgain()
		lease.stands(Standing{})
		w.sleep(time.Minute)
		b.attempts()
		b.set(nil, false)
		w.sleep(10 * time.Minute)
		if n := len(b.attempts()); n > 0 {
			t.Errorf("who lost the lease posts %d", n)
		}
		lease.stands(Standing{Term: 2})
		w.sleep(10 * time.Second)
		equal(t, "statuses", b.take(), []string{"a success 1"})
		stop()
	})
}

// What waits when the daemon is stopped is posted without a pause; one that cannot be is
// left to whoever acts next.
func TestStopPostsWhatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, b := newFakeNotes(), &board{}
		finds := map[string]passed{}
		var names []string
		for i := range 6 {
			name := fmt.Sprintf("s%d", i)
			names = append(names, name)
			finds[name] = waits.of(1, progressing).by("1")
		}
		daemon := func() func() {
			w := newWorld()
			w.shows(f, b)
			w.snapshot = snapshot(stacks(names...)...)
			w.finds(finds)
			return alive(t, w)
		}
		daemon()()
		if got := b.take(); len(got) != 6 {
			t.Errorf("posted %v", got)
		}
		for name := range finds {
			finds[name] = inSync.of(1, healthy).by("1")
		}
		b.set(nil, true)
		daemon()()
		b.set(nil, false)
		equal(t, "statuses while it hangs", b.take(), nil)
		daemon()()
		if got := b.take(); len(got) != 6 || !strings.HasSuffix(got[0], " success 1") {
			t.Errorf("posted %v after that", got)
		}
	})
}

func TestLedgerOfCommitsIsBounded(t *testing.T) {
	l := ledger{Lines: map[string]line{}, Commits: map[string]commitLine{}}
	for i := range 6000 {
		c := commitLine{Release: i, State: forge.Success}
		if c.Commit = hash("a"); i%10 == 0 {
			c.State = forge.Pending
		}
		l.Commits[fmt.Sprintf("a-stack-with-a-name-%d", i)] = c
	}
	text := l.text()
	got := parseLedger(text)
	pending := 0
	for _, c := range got.Commits {
		if c.State == forge.Pending {
			pending++
		}
	}
	if len(text) > maxLedger || len(got.Commits) < 2000 || pending != 600 {
		t.Errorf("%d bytes, %d lines, %d of them pending", len(text), len(got.Commits), pending)
	}
	if len(l.Commits) != 6000 {
		t.Error("what was kept out is forgotten")
	}
}

func TestCommitTokenIsRead(t *testing.T) {
	file := t.TempDir() + "/token"
	if _, err := ReadCommitToken(file); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("without a file: %v", err)
	}
	write(t, file, "ghp_planted two\n")
	if _, err := ReadCommitToken(file); err == nil || strings.Contains(err.Error(), "planted") || !strings.Contains(err.Error(), file) {
		t.Errorf("with two words: %v", err)
	}
	write(t, file, "ghp_0123\n")
	if got, err := ReadCommitToken(file); got != "ghp_0123" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// A stack's commits are where its source is fetched from.
func TestRepositoryOfAStack(t *testing.T) {
	sources := []Source{
		{Name: "infra", Dir: "/srv/infra", Remote: "https://git.example/acme/infra.git"},
		{Name: "shops", Dir: "/srv/shops", Remote: "ssh://git@git.example/acme/shops.git"},
	}
	of := func(name string) *spec.Stack { return &spec.Stack{Source: spec.Source{Name: name}} }
	for _, tt := range []struct {
		name    string
		sources []Source
		stack   *spec.Stack
		want    string
	}{
		{"of the first", sources, of("infra"), "acme/infra"},
		{"of the second", sources, of("shops"), "acme/shops"},
		{"of none of several", sources, of("gone"), ""},
		{"not read, and one of several", sources, nil, ""},
		{"not read, and the only source's", sources[:1], nil, "acme/infra"},
		{"of no repository", []Source{{Name: "here", Dir: t.TempDir()}}, of(""), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := &controller{Config: Config{Sources: tt.sources, Logger: zap.NewNop()}}
			d := &desired{stacks: map[string]*spec.Stack{}}
			if tt.stack != nil {
				d.stacks["shop"] = tt.stack
			}
			c.desired.Store(d)
			if got, ok := c.repositoryOf("shop"); got.Path != tt.want || ok != (tt.want != "") {
				t.Errorf("%+v %t, want %q", got, ok, tt.want)
			}
		})
	}
}
