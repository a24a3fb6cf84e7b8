package controller

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/skep-io/skep/controller/web"
	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
)

// staged are sights that the test sets, and that count what they were asked for.
type staged struct {
	mu       sync.Mutex
	glances  map[string]reconcile.Glance
	looks    int
	compares int
	takes    time.Duration // a look
}

func (s *staged) Glance(stack string) (reconcile.Glance, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, ok := s.glances[stack]
	return g, ok
}

func (s *staged) Look(context.Context) error {
	s.mu.Lock()
	s.looks++
	s.mu.Unlock()
	time.Sleep(s.takes) // without the lock, for which nobody could wait on a clock that stands still
	return nil
}

func (s *staged) Compare(_ context.Context, stack string, n int) (*reconcile.Comparison, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.compares++
	return &reconcile.Comparison{Plan: &reconcile.Plan{Stack: stack, Changes: []reconcile.Change{{Op: reconcile.OpCreate, Kind: reconcile.KindService, Name: stack + "_web"}}}}, nil
}

func (s *staged) counts() (looks, compares int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.looks, s.compares
}

// glimpsed is a glance at a stack that is well, with two releases.
func glimpsed(name string) reconcile.Glance {
	r := result(reconcile.Unchanged, true)
	r.Stack = name
	r.Release = &reconcile.Release{Number: 2, Revision: "r2", Phase: reconcile.PhaseHealthy}
	g := reconcile.Glance{At: time.Now(), Result: r}
	for _, n := range []int{2, 1} {
		g.Releases = append(g.Releases, reconcile.ReleaseGlance{HistoryEntry: reconcile.HistoryEntry{Number: n, Phase: reconcile.PhaseHealthy}, BackTo: -1})
	}
	return g
}

// board is what the page shows.
func (w *world) board(t *testing.T) *web.Board {
	t.Helper()
	return web.NewBoard(w.page.Snapshot(t.Context()))
}

func lineOf(b *web.Board, name string) web.StackLine {
	for _, s := range b.Stacks {
		if s.Name == name {
			return s
		}
	}
	return web.StackLine{Name: "not there"}
}

func notice(b *web.Board, kind string) web.Notice {
	for _, n := range b.Notices {
		if n.Kind == kind {
			return n
		}
	}
	return web.Notice{}
}

func TestPageShowsWhatPassesFound(t *testing.T) {
	inDaemon(t, func(w *world) {
		w.snapshot = broken(snapshot(stack("a", "1"), stack("b", "1"), stack("bad", "1")), "bad", "planted trouble")
		w.snapshot.Commit = &spec.Commit{Hash: "0123", Subject: "Say more"}
		w.reconcile = func(_ context.Context, in reconcile.Input) reconcile.Result {
			if in.Name == "b" {
				r := result(reconcile.Waiting, false, reconcile.Progressing)
				r.Conditions[1].Message = "b: 1 of 2 tasks starting"
				return r
			}
			return good()
		}
	}, func(t *testing.T, w *world) {
		w.sleep(2 * time.Second)
		b := w.board(t)
		if !b.Controller.Acts || b.Controller.Subject != "Say more" || b.Controller.Revision != "r1" || len(b.Notices) > 0 {
			t.Errorf("controller %+v, notices %+v", b.Controller, b.Notices)
		}
		if s := lineOf(b, "a"); s.Condition != "Ready" || !s.Ready {
			t.Errorf("a: %+v", s)
		}
		if s := lineOf(b, "b"); s.Condition != "Progressing" || s.Message != "b: 1 of 2 tasks starting" {
			t.Errorf("b: %+v", s)
		}
		if s := lineOf(b, "bad"); s.Condition != "Stalled" || s.Reason != sourceInvalid || !strings.Contains(s.Message, "planted trouble") {
			t.Errorf("bad: %+v", s)
		}
		if b.Stacks[0].Name != "bad" || b.Counts.Total != 3 {
			t.Errorf("%+v", b.Stacks)
		}
		bad := snapshot()
		bad.Complete, bad.Err = false, errors.New("open specs: input/output error")
		w.put(bad)
		w.sleep(2 * time.Second)
		if n := notice(w.board(t), "source-unreadable"); !strings.Contains(n.Message, "input/output error") || n.Since.IsZero() {
			t.Errorf("source: %+v", n)
		}
		w.with(func() { w.refreshErr = errors.New("connection refused") })
		w.event()
		w.sleep(5 * time.Second)
		b = w.board(t)
		if n := notice(b, "engine-away"); !strings.Contains(n.Message, "connection refused") || n.Since.IsZero() {
			t.Errorf("engine: %+v", n)
		}
		if lineOf(b, "b").Condition != "Progressing" {
			t.Error("with the engine away what was known is gone")
		}
	})
}

func TestPageOfAStandby(t *testing.T) {
	sights := &staged{glances: map[string]reconcile.Glance{"a": glimpsed("a")}}
	besideAnother(t, func(w *world) {
		w.sights = sights
		w.snapshot = broken(snapshot(stack("a", "1"), stack("new", "1")), "bad", "planted trouble")
		w.live = []string{"a"}
	}, func(t *testing.T, w *world, l *stagedLease) {
		l.stands(hers)
		w.sleep(2 * time.Second)
		b := w.board(t)
		if n := notice(b, "standing-by"); !strings.HasPrefix(n.Message, "b.1234 acts; ") || b.Controller.Acts || b.Controller.Holder != "b.1234" {
			t.Errorf("%+v, %+v", n, b.Controller)
		}
		if s := lineOf(b, "a"); s.Condition != "Ready" || s.Release == nil || *s.Release != 2 {
			t.Errorf("a: %+v", s)
		}
		if s := lineOf(b, "new"); s.Condition != "Unknown" {
			t.Errorf("new: %+v", s)
		}
		if s := lineOf(b, "bad"); s.Condition != "Stalled" || !strings.Contains(s.Message, "planted trouble") {
			t.Errorf("bad: %+v", s)
		}
		page := web.NewStackPage(w.page.Snapshot(t.Context()), "a", w.page.Changes(t.Context(), "a"))
		if page.Difference != nil || len(page.History) != 2 || !page.History[0].Known || len(page.History[0].Changes) != 1 {
			t.Errorf("page %+v", page)
		}
	})
}

// TestManyViewersCostOneLook has fifty people look for a minute while something happens
// all the time, and then nobody.
func TestManyViewersCostOneLook(t *testing.T) {
	sights := &staged{glances: map[string]reconcile.Glance{"a": glimpsed("a")}, takes: 100 * time.Millisecond}
	inDaemon(t, func(w *world) {
		w.sights = sights
		w.snapshot = snapshot(stack("a", "1"))
	}, func(t *testing.T, w *world) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go w.page.run(ctx)
		w.sleep(time.Minute)
		if looks, _ := sights.counts(); looks > 0 {
			t.Fatalf("nobody looks, and there were %d looks", looks)
		}
		w.taken()
		for range 60 {
			w.page.changed()
			for range 50 {
				w.page.Snapshot(ctx)
				w.page.Changes(ctx, "a")
			}
			w.sleep(time.Second)
		}
		looks, compares := sights.counts()
		if looks < 5 || looks > 13 || compares != 2 {
			t.Errorf("%d looks and %d comparisons in a minute", looks, compares)
		}
		if _, refreshes := w.taken(); refreshes > 3 {
			t.Errorf("%d listings", refreshes)
		}
		w.sleep(watchedFor)
		before, _ := sights.counts()
		w.page.changed()
		w.sleep(10 * time.Minute)
		if after, _ := sights.counts(); after != before {
			t.Errorf("%d looks for nobody", after-before)
		}
	})
}

func TestNoLookAtAnEngineThatIsAway(t *testing.T) {
	sights := &staged{}
	inDaemon(t, func(w *world) {
		w.sights = sights
		w.refreshErr = errors.New("connection refused")
	}, func(t *testing.T, w *world) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go w.page.run(ctx)
		for range 20 {
			start := time.Now()
			w.page.Snapshot(ctx)
			if waited := time.Since(start); waited > 0 {
				t.Fatalf("who looks waits %s for an engine that is away", waited)
			}
			w.sleep(time.Second)
		}
		if looks, _ := sights.counts(); looks > 0 {
			t.Errorf("%d looks", looks)
		}
	})
}

// TestPassesThatFindTheSameAreNoNews: a quiet fleet does not have every page fetched anew
// at every resync.
func TestPassesThatFindTheSameAreNoNews(t *testing.T) {
	inDaemon(t, func(w *world) { w.snapshot = snapshot(stack("a", "1")) }, func(t *testing.T, w *world) {
		w.sleep(time.Second)
		before := w.page.number.Load()
		w.taken()
		w.sleep(10 * w.Resync)
		passes, _ := w.taken()
		if changes := w.page.number.Load() - before; len(passes) < 9 || changes > 11 { // those of scans
			t.Errorf("%d passes, %d changes", len(passes), changes)
		}
	})
}

func TestPageStandsBehindTheToken(t *testing.T) {
	tok, _ := withToken(t, goodToken)
	d := &door{token: tok}
	w := newWorld()
	defer w.queue.work.ShutDown()
	guarded := d.guard(handler(prometheus.NewRegistry(), fine, fine, acting), w.page.site)
	for _, path := range []string{"/", "/stacks/a", "/style.css", "/live.js", "/icon.svg", "/events", "/api/v1/", "/api/v1/stacks", "/api/v1/openapi.json"} {
		answer := httptest.NewRecorder()
		guarded.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, path, nil))
		if answer.Code != http.StatusUnauthorized {
			t.Errorf("%s without the token: %d", path, answer.Code)
		}
		if path == "/events" {
			continue
		}
		r := httptest.NewRequest(http.MethodGet, path, nil)
		r.SetBasicAuth("anyone", goodToken)
		answer = httptest.NewRecorder()
		guarded.ServeHTTP(answer, r)
		if path != "/stacks/a" && answer.Code != http.StatusOK {
			t.Errorf("%s with the token: %d", path, answer.Code)
		}
		h := answer.Header()
		if csp := h.Values("Content-Security-Policy"); len(csp) != 1 || !strings.HasPrefix(csp[0], "default-src 'none'; style-src 'self'; script-src 'self'") ||
			h.Get("Cache-Control") != "no-store" || h.Get("X-Frame-Options") != "DENY" || h.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %v", path, h)
		}
	}
	answer := httptest.NewRecorder()
	post := httptest.NewRequest(http.MethodPost, "/api/v1/stacks", nil)
	post.SetBasicAuth("anyone", goodToken)
	guarded.ServeHTTP(answer, post)
	if answer.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", answer.Code)
	}
}

// TestAViewerOutlivesTheLimitsOfRequests, and a stop does not wait for one.
func TestAViewerOutlivesTheLimitsOfRequests(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	w := newWorld()
	defer w.queue.work.ShutDown()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	context.AfterFunc(ctx, w.page.site.Close)
	done := make(chan error, 1)
	go func() {
		done <- serve(ctx, l, nil, (&door{}).guard(handler(prometheus.NewRegistry(), fine, fine, acting), w.page.site), zap.NewNop())
	}()
	answer, err := http.Get("http://" + l.Addr().String() + "/events")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	lines := bufio.NewScanner(answer.Body)
	told := func() string {
		for lines.Scan() {
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				return data
			}
		}
		return "the end"
	}
	if got := told(); got != "0" {
		t.Errorf("at first %s", got)
	}
	late := time.After(requestTime + time.Second) // the time that a request may take to come in
	if !testing.Short() {
		<-late
	}
	w.page.changed()
	if got := told(); got != "1" {
		t.Errorf("then %s", got)
	}
	start := time.Now()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took > shutdownLimit {
		t.Errorf("the stop took %s", took)
	}
	if got := told(); got != "the end" {
		t.Errorf("after the end %s", got)
	}
	http.DefaultClient.CloseIdleConnections()
}

// BenchmarkPage answers for a page of 1,000 stacks, as somebody asks who is the first
// to since something happened.
func BenchmarkPage(b *testing.B) {
	sights := &staged{glances: map[string]reconcile.Glance{}}
	w := newWorld()
	defer w.queue.work.ShutDown()
	w.sights = sights
	d := &desired{stacks: map[string]*spec.Stack{}, loaded: true}
	for i := range 1000 {
		name := "stack-" + string(rune('a'+i/100)) + string(rune('a'+i/10%10)) + string(rune('a'+i%10))
		d.stacks[name] = stack(name, "1")
		sights.glances[name] = glimpsed(name)
	}
	w.desired.Store(d)
	for b.Loop() {
		w.page.changed()
		w.page.mu.Lock()
		w.page.snapshot = nil
		w.page.mu.Unlock()
		answer := httptest.NewRecorder()
		w.page.site.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/", nil))
		if answer.Code != http.StatusOK {
			b.Fatal(answer.Code)
		}
	}
}
