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

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/swarm"
	"pgregory.net/rapid"

	"github.com/skep-io/skep/reconcile"
)

// leaseSwarm plays the configs of a Swarm: names that clash, and versions that guard.
type leaseSwarm struct {
	mu      sync.Mutex
	next    uint64
	configs map[string]swarm.Config // by name
	before  map[string]swarm.Config // as they were before the last write, for stale reads
	writes  int
}

func newLeaseSwarm() *leaseSwarm { return &leaseSwarm{configs: map[string]swarm.Config{}} }

func (s *leaseSwarm) list(o swarm.ConfigListOptions, stale bool) []swarm.Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	configs := s.configs
	if stale && s.before != nil {
		configs = s.before
	}
	var list []swarm.Config
	for name, c := range configs {
		named := !o.Filters.Contains("name") || slices.ContainsFunc(o.Filters.Get("name"), func(n string) bool { return strings.HasPrefix(name, n) })
		for _, want := range o.Filters.Get("label") {
			key, value, _ := strings.Cut(want, "=")
			named = named && c.Spec.Labels[key] == value
		}
		if named {
			list = append(list, c)
		}
	}
	return list
}

func (s *leaseSwarm) create(c swarm.ConfigSpec) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, taken := s.configs[c.Name]; taken {
		return "", fmt.Errorf("name conflicts with an existing object: %w", cerrdefs.ErrConflict)
	}
	s.keep()
	id := fmt.Sprint("id", s.next)
	s.configs[c.Name] = swarm.Config{ID: id, Meta: swarm.Meta{Version: swarm.Version{Index: s.next}, UpdatedAt: time.Now()}, Spec: c}
	return id, nil
}

func (s *leaseSwarm) update(id string, v swarm.Version, c swarm.ConfigSpec) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, ok := s.configs[c.Name]
	switch {
	case !ok || old.ID != id:
		return cerrdefs.ErrNotFound
	case old.Version != v:
		return errors.New("rpc error: code = Unknown desc = update out of sequence")
	}
	s.keep()
	old.Spec.Labels, old.Version.Index, old.UpdatedAt = c.Labels, s.next, time.Now()
	s.configs[c.Name] = old
	return nil
}

// keep counts a write and keeps what was there before it.
func (s *leaseSwarm) keep() {
	s.next++
	s.writes++
	s.before = maps.Clone(s.configs)
}

// remove is somebody's `docker config rm`.
func (s *leaseSwarm) remove(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keep()
	delete(s.configs, name)
}

// spoil writes labels by hand.
func (s *leaseSwarm) spoil(name string, change func(map[string]string)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.configs[name]
	if !ok {
		return
	}
	s.keep()
	c.Spec.Labels, c.Version.Index = maps.Clone(c.Spec.Labels), s.next
	change(c.Spec.Labels)
	s.configs[name] = c
}

func (s *leaseSwarm) labels(name string) map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.configs[name].Spec.Labels
}

// A way is how one controller reaches the Swarm, and what goes wrong on it.
type way struct {
	*leaseSwarm
	mu   sync.Mutex
	mode string
	held chan struct{} // not nil: the process stands still, until it is closed
}

func (w *way) set(mode string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mode = mode
}

// stop is SIGSTOP, as far as the lease's own goroutine goes.
func (w *way) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.held == nil {
		w.held = make(chan struct{})
	}
}

func (w *way) cont() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.held != nil {
		close(w.held)
		w.held = nil
	}
}

func (w *way) now() string {
	w.mu.Lock()
	held, mode := w.held, w.mode
	w.mu.Unlock()
	if held != nil {
		<-held
	}
	return mode
}

var errAway = errors.New("connection refused")

func (w *way) ConfigList(ctx context.Context, o swarm.ConfigListOptions) ([]swarm.Config, error) {
	switch w.now() {
	case "away":
		return nil, errAway
	case "slow":
		if err := sleepIn(ctx, 3*time.Second); err != nil {
			return nil, err
		}
	case "silent":
		return nil, sleepIn(ctx, time.Hour)
	case "stale":
		return w.list(o, true), nil
	}
	list := w.list(o, false)
	w.now() // it may be stopped with the answer in its hands
	return list, nil
}

// do carries out a write as the way is.
func (w *way) do(ctx context.Context, write func() error) error {
	defer w.now()
	switch w.now() {
	case "away":
		return errAway
	case "slow":
		if err := sleepIn(ctx, 3*time.Second); err != nil {
			return err
		}
	case "silent":
		return sleepIn(ctx, time.Hour)
	case "lost": // it happens, and nobody hears of it
		_ = write()
		return errAway
	case "late": // it happens when nobody thinks of it any more
		time.AfterFunc(12*time.Second, func() { _ = write() })
		return errAway
	}
	return write()
}

func (w *way) ConfigCreate(ctx context.Context, c swarm.ConfigSpec) (resp swarm.ConfigCreateResponse, err error) {
	err = w.do(ctx, func() (err error) { resp.ID, err = w.create(c); return err })
	return resp, err
}

func (w *way) ConfigUpdate(ctx context.Context, id string, v swarm.Version, c swarm.ConfigSpec) error {
	return w.do(ctx, func() error { return w.update(id, v, c) })
}

func sleepIn(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// A contender is a controller that wants to act.
type contender struct {
	*Lease
	way    *way
	cancel context.CancelFunc
	done   chan struct{}

	mu    sync.Mutex
	heard []Standing
}

func contend(s *leaseSwarm, name string) *contender {
	c := &contender{way: &way{leaseSwarm: s}, done: make(chan struct{})}
	c.Lease = NewLease(c.way, "skep", name)
	ctx, cancel := context.WithCancel(context.Background())
	c.cancel = cancel
	go func() {
		defer close(c.done)
		c.run(ctx, func() {}, func(s Standing) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.heard = append(c.heard, s)
		})
	}()
	return c
}

// end stops it in good order, kill without a word.
func (c *contender) end() {
	c.way.cont()
	c.cancel()
	<-c.done
}

func (c *contender) kill() {
	c.way.set("away")
	c.end()
}

func (c *contender) acts() bool { _, err := c.term(); return err == nil }

func (c *contender) told() []Standing {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.heard)
}

const leaseName = "skep-lease-skep"

// soon lets time pass until one of them acts, and says how long that took.
func soon(t *testing.T, limit time.Duration, cs ...*contender) (*contender, time.Duration) {
	t.Helper()
	began := time.Now()
	for time.Since(began) <= limit {
		for _, c := range cs {
			if c.acts() {
				return c, time.Since(began)
			}
		}
		time.Sleep(50 * time.Millisecond)
		synctest.Wait()
	}
	t.Fatalf("nobody acts after %s", limit)
	return nil, 0
}

func inBubble(t *testing.T, f func(t *testing.T, s *leaseSwarm)) {
	synctest.Test(t, func(t *testing.T) { f(t, newLeaseSwarm()) })
}

func TestFirstControllerActsAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, s *leaseSwarm) {
		a := contend(s, "a")
		defer a.end()
		if _, took := soon(t, time.Second, a); took > 100*time.Millisecond {
			t.Errorf("it took %s", took)
		}
		l := s.labels(leaseName)
		if l["skep.kind"] != "lease" || l["skep.owner"] != "skep" || l["skep.holder"] != a.ID() || !strings.HasPrefix(a.ID(), "a.") || l["skep.since"] == "" || l["com.docker.stack.namespace"] != "" {
			t.Errorf("labels %v", l)
		}
	})
}

func TestRenewalsAreFew(t *testing.T) {
	inBubble(t, func(t *testing.T, s *leaseSwarm) {
		a, b := contend(s, "a"), contend(s, "b")
		defer b.end()
		defer a.end()
		soon(t, time.Second, a, b)
		s.mu.Lock()
		before := s.writes
		s.mu.Unlock()
		time.Sleep(10 * time.Minute)
		s.mu.Lock()
		defer s.mu.Unlock()
		if n := s.writes - before; n < 100 || n > 121 {
			t.Errorf("%d writes in 10 minutes", n)
		}
	})
}

func TestCleanStopHandsOverAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, s *leaseSwarm) {
		a := contend(s, "a")
		soon(t, time.Second, a)
		b := contend(s, "b")
		defer b.end()
		time.Sleep(time.Minute)
		a.end()
		if _, took := soon(t, time.Minute, b); took > leasePoll {
			t.Errorf("it took %s", took)
		}
		b.hint()
	})
}

func TestHintMakesItFaster(t *testing.T) {
	inBubble(t, func(t *testing.T, s *leaseSwarm) {
		a := contend(s, "a")
		soon(t, time.Second, a)
		b := contend(s, "b")
		defer b.end()
		time.Sleep(leasePoll / 2)
		a.end()
		b.hint() // as the event of that write does
		if _, took := soon(t, time.Minute, b); took > 50*time.Millisecond {
			t.Errorf("it took %s", took)
		}
	})
}

func TestKilledOneIsSucceeded(t *testing.T) {
	inBubble(t, func(t *testing.T, s *leaseSwarm) {
		for i := range 10 { // at any moment between two renewals
			a := contend(s, "a")
			soon(t, time.Minute, a)
			b := contend(s, "b")
			time.Sleep(20*time.Second + time.Duration(i)*leaseRenew/10)
			a.kill()
			if a.acts() {
				t.Error("the dead act")
			}
			if _, took := soon(t, time.Minute, b); took > 18*time.Second {
				t.Errorf("it took %s", took)
			}
			b.end()
		}
	})
}

// One that stands still for longer than the lease, with an answer in its hands or not,
// is succeeded, and does not act when it goes on: not even for a moment.
func TestPausedOneDoesNotActAfterwards(t *testing.T) {
	inBubble(t, func(t *testing.T, s *leaseSwarm) {
		a := contend(s, "a")
		soon(t, time.Second, a)
		b := contend(s, "b")
		defer b.end()
		defer a.end()
		time.Sleep(12 * time.Second)
		term, _ := a.term()
		a.way.stop()
		time.Sleep(leaseHold)
		if a.acts() {
			t.Error("it may act 10 s after its last renewal")
		}
		soon(t, time.Minute, b)
		time.Sleep(time.Minute)
		if _, err := a.write(term); !errors.Is(err, ErrNotLeading) {
			t.Errorf("it may write: %v", err)
		}
		a.way.cont()
		for range 100 {
			if a.acts() || !b.acts() {
				t.Fatalf("a acts %t, b %t", a.acts(), b.acts())
			}
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
		}
		if told := a.told(); len(told) != 2 || !told[0].Acts() || told[1].Acts() || told[1].Holder.ID != b.ID() {
			t.Errorf("a was told %+v", told)
		}
	})
}

// One that was paused and finds the lease still its own goes on, in a new term: what it
// looked at before is no reason to write.
func TestPausedAloneGoesOnInANewTerm(t *testing.T) {
	inBubble(t, func(t *testing.T, s *leaseSwarm) {
		a := contend(s, "a")
		defer a.end()
		soon(t, time.Second, a)
		old, _ := a.term()
		a.way.stop()
		time.Sleep(time.Minute)
		a.way.cont()
		soon(t, time.Minute, a)
		if now, _ := a.term(); now == old {
			t.Errorf("still term %d", now)
		}
		if _, err := a.write(old); !errors.Is(err, ErrNotLeading) {
			t.Errorf("it may write what it found out in its old term: %v", err)
		}
		done, err := a.write(0)
		if err != nil {
			t.Fatal(err)
		}
		done()
	})
}

func TestHolderStopsByItselfWithoutAnEngine(t *testing.T) {
	for _, mode := range []string{"away", "silent"} {
		t.Run(mode, func(t *testing.T) {
			inBubble(t, func(t *testing.T, s *leaseSwarm) {
				a := contend(s, "a")
				defer a.end()
				soon(t, time.Second, a)
				time.Sleep(7 * time.Second)
				a.way.set(mode)
				time.Sleep(leaseHold)
				if a.acts() {
					t.Error("it acts")
				}
				a.way.set("")
				if _, took := soon(t, time.Minute, a); took > leaseCall+leasePoll+time.Second {
					t.Errorf("it took %s to act again", took)
				}
			})
		})
	}
}

// A write that happened though its answer was lost is a renewal.
func TestLostAnswersAreFound(t *testing.T) {
	inBubble(t, func(t *testing.T, s *leaseSwarm) {
		a := contend(s, "a")
		defer a.end()
		soon(t, time.Second, a)
		term, _ := a.term()
		a.way.set("lost")
		for range 600 {
			time.Sleep(100 * time.Millisecond)
			if now, _ := a.term(); now != term {
				t.Fatalf("term %d became %d", term, now)
			}
		}
	})
}

// actedBefore leaves a trace of a controller that has acted.
func actedBefore(t *testing.T, s *leaseSwarm) {
	t.Helper()
	if _, err := s.create(swarm.ConfigSpec{Annotations: swarm.Annotations{Name: "skep-release-shop-1", Labels: map[string]string{"skep.kind": "release", "skep.owner": "skep"}}}); err != nil {
		t.Fatal(err)
	}
}

func TestRemovedLeaseIsMadeAnewByItsHolder(t *testing.T) {
	inBubble(t, func(t *testing.T, s *leaseSwarm) {
		a := contend(s, "a")
		defer a.end()
		soon(t, time.Second, a)
		actedBefore(t, s)
		b := contend(s, "b")
		defer b.end()
		time.Sleep(3 * time.Second)
		s.remove(leaseName)
		c := contend(s, "c") // has never seen it
		defer c.end()
		for range 600 {
			time.Sleep(100 * time.Millisecond)
			if !a.acts() || b.acts() || c.acts() {
				t.Fatalf("a acts %t, b %t, c %t", a.acts(), b.acts(), c.acts())
			}
		}
		if s.labels(leaseName)[labelHolder] != a.ID() {
			t.Error("it was not made anew")
		}
	})
}

func TestRemovedLeaseOfADeadHolder(t *testing.T) {
	inBubble(t, func(t *testing.T, s *leaseSwarm) {
		a := contend(s, "a")
		soon(t, time.Second, a)
		actedBefore(t, s)
		a.kill()
		s.remove(leaseName)
		b := contend(s, "b")
		defer b.end()
		if _, took := soon(t, time.Minute, b); took < leaseHold || took > 20*time.Second {
			t.Errorf("it took %s", took)
		}
	})
}

func TestDamagedLease(t *testing.T) {
	for name, spoil := range map[string]func(map[string]string){
		"no label at all": func(l map[string]string) { clear(l) },
		"no holder":       func(l map[string]string) { delete(l, labelHolder) },
		"no number":       func(l map[string]string) { l[labelHolderRenews] = "many" },
		"another kind":    func(l map[string]string) { l["skep.kind"] = "state" },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, s *leaseSwarm) {
				a := contend(s, "a")
				soon(t, time.Second, a)
				b := contend(s, "b")
				defer b.end()
				time.Sleep(3 * time.Second)
				s.spoil(leaseName, spoil)
				for range 300 {
					time.Sleep(100 * time.Millisecond)
					if !a.acts() || b.acts() {
						t.Fatalf("a acts %t, b %t", a.acts(), b.acts())
					}
				}
				if l := s.labels(leaseName); l[labelHolder] != a.ID() || l["skep.kind"] != "lease" {
					t.Errorf("it was not mended: %v", l)
				}
				a.kill()
				s.spoil(leaseName, spoil)
				if _, took := soon(t, time.Minute, b); took < leaseHold || took > 20*time.Second {
					t.Errorf("it took %s", took)
				}
			})
		})
	}
}

func TestTakeTellsALiveHolderFromADeadOne(t *testing.T) {
	inBubble(t, func(t *testing.T, s *leaseSwarm) {
		a := contend(s, "a")
		soon(t, time.Second, a)
		began := time.Now()
		verb := NewLease(s.way(), "skep", "job")
		var waited []Holder
		_, err := verb.Take(t.Context(), func(h Holder) { waited = append(waited, h) })
		held, ok := errors.AsType[*HeldError](err)
		if !ok || held.Holder.ID != a.ID() || !strings.Contains(err.Error(), a.ID()) || time.Since(began) > leaseRenew+time.Second {
			t.Fatalf("after %s: %v", time.Since(began), err)
		}
		if len(waited) != 1 || waited[0].ID != a.ID() {
			t.Errorf("waited for %v", waited)
		}
		if s.labels(leaseName)[labelHolder] != a.ID() {
			t.Error("it took the lease away")
		}

		a.kill()
		began = time.Now()
		verb = NewLease(s.way(), "skep", "job")
		release, err := verb.Take(t.Context(), nil)
		if err != nil || time.Since(began) < leaseHold || time.Since(began) > leaseExpire+time.Second {
			t.Fatalf("after %s: %v", time.Since(began), err)
		}
		time.Sleep(time.Minute)
		if _, err := verb.term(); err != nil {
			t.Errorf("it was not kept: %v", err)
		}
		release()
		if _, err := verb.term(); err == nil || s.labels(leaseName)[labelHolder] != "" {
			t.Errorf("it was not handed over: %v", s.labels(leaseName))
		}
		b := contend(s, "b")
		defer b.end()
		if _, took := soon(t, time.Minute, b); took > 100*time.Millisecond {
			t.Errorf("it took %s", took)
		}
	})
}

func (s *leaseSwarm) way() *way { return &way{leaseSwarm: s} }

func TestTakeEnds(t *testing.T) {
	inBubble(t, func(t *testing.T, s *leaseSwarm) {
		gone := s.way()
		gone.set("away")
		if _, err := NewLease(gone, "skep", "job").Take(t.Context(), nil); !errors.Is(err, errAway) {
			t.Errorf("without an engine: %v", err)
		}
		a := contend(s, "a")
		soon(t, time.Second, a)
		a.kill()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if _, err := NewLease(s.way(), "skep", "job").Take(ctx, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("interrupted: %v", err)
		}
	})
}

// A stop with a write still under way leaves the lease to expire: nobody acts beside it.
func TestHandOverWaitsForWrites(t *testing.T) {
	inBubble(t, func(t *testing.T, s *leaseSwarm) {
		a := contend(s, "a")
		soon(t, time.Second, a)
		if _, err := a.write(0); err != nil {
			t.Fatal(err)
		}
		a.end()
		if s.labels(leaseName)[labelHolder] != a.ID() {
			t.Error("it was handed over")
		}
	})
}

func TestOwnersHaveLeasesOfTheirOwn(t *testing.T) {
	inBubble(t, func(t *testing.T, s *leaseSwarm) {
		for _, owner := range []string{"a", "ab", "abc"} { // the engine's filter matches prefixes
			l := NewLease(s.way(), owner, "x")
			release, err := l.Take(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer release()
			h, err := ReadHolder(t.Context(), s.way(), owner)
			if err != nil || h.ID != l.ID() {
				t.Errorf("owner %s: %+v %v", owner, h, err)
			}
		}
	})
}

func TestMayWrite(t *testing.T) {
	rec := func(holder string) leaseRecord { return leaseRecord{found: true, holder: Holder{ID: holder}} }
	for _, tt := range []struct {
		name string
		view leaseView
		want bool
	}{
		{"ours", leaseView{lease: rec("me"), acts: true}, true},
		{"ours, after a pause", leaseView{lease: rec("me")}, true},
		{"handed over", leaseView{lease: rec("")}, true},
		{"another's", leaseView{lease: rec("b"), still: leaseExpire - 1}, false},
		{"another's, still", leaseView{lease: rec("b"), still: leaseExpire}, true},
		{"away, ours", leaseView{acts: true}, true},
		{"away, and nobody ever acted", leaseView{fresh: true}, true},
		{"away", leaseView{still: leaseMissing - 1}, false},
		{"away for long", leaseView{still: leaseMissing}, true},
		{"damaged, ours", leaseView{lease: leaseRecord{found: true, damaged: true}, acts: true}, true},
		{"damaged", leaseView{lease: leaseRecord{found: true, damaged: true}, still: leaseExpire - 1}, false},
		{"damaged for long", leaseView{lease: leaseRecord{found: true, damaged: true}, still: leaseExpire}, true},
	} {
		tt.view.me = "me"
		if got := tt.view.mayWrite(); got != tt.want {
			t.Errorf("%s: %t", tt.name, got)
		}
	}
}

// Whatever becomes of them and of what they ask, at no moment may two of them write;
// and when all is well again, one acts.
func TestNeverTwoHolders(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		type deed struct {
			who   int
			what  string
			after time.Duration
		}
		deeds := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) deed {
			return deed{
				who:   rapid.IntRange(0, 2).Draw(t, "who"),
				what:  rapid.SampledFrom([]string{"stop", "cont", "away", "slow", "silent", "lost", "late", "stale", "", "", "end", "kill", "remove", "spoil", "hint"}).Draw(t, "what"),
				after: time.Duration(rapid.IntRange(0, 20_000).Draw(t, "ms")) * time.Millisecond,
			}
		}), 1, 40).Draw(rt, "deeds")
		var failure string
		synctest.Test(t, func(t *testing.T) {
			s := newLeaseSwarm()
			actedBefore(t, s)
			cs := []*contender{contend(s, "a"), contend(s, "b"), contend(s, "c")}
			watch := func(d time.Duration) {
				for end := time.Now().Add(d); time.Now().Before(end) && failure == ""; {
					var acting []string
					for _, c := range cs {
						if c.acts() {
							acting = append(acting, c.ID())
						}
					}
					if len(acting) > 1 {
						failure = fmt.Sprintf("%v act at once", acting)
					}
					time.Sleep(50 * time.Millisecond)
				}
			}
			for _, d := range deeds {
				c := cs[d.who]
				switch d.what {
				case "stop":
					c.way.stop()
				case "cont":
					c.way.cont()
				case "end":
					c.end()
					cs[d.who] = contend(s, "again")
				case "kill":
					c.kill()
					cs[d.who] = contend(s, "again")
				case "remove":
					s.remove(leaseName)
				case "spoil":
					s.spoil(leaseName, func(l map[string]string) { delete(l, labelHolder) })
				case "hint":
					c.hint()
				default:
					c.way.set(d.what)
				}
				watch(d.after)
			}
			for _, c := range cs {
				c.way.set("")
				c.way.cont()
			}
			watch(time.Minute)
			if failure == "" && !slices.ContainsFunc(cs, (*contender).acts) {
				failure = "nobody acts when all is well again"
			}
			for _, c := range cs {
				c.end()
			}
			time.Sleep(time.Minute) // what is late comes in
		})
		if failure != "" {
			rt.Fatal(failure)
		}
	})
}

// Nothing that writes gets past a fence, and nothing that only looks is held up by it.
func TestFence(t *testing.T) {
	inBubble(t, func(t *testing.T, s *leaseSwarm) {
		lease := NewLease(s.way(), "skep", "a")
		engine := &countingSwarm{}
		checkFence(t, Fence(engine, lease), engine, false)
		release, err := lease.Take(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		checkFence(t, Fence(engine, lease), engine, true)
		term, _ := lease.term()
		if _, err := Fence(engine, lease).ServiceCreate(inTerm(t.Context(), term+1), swarm.ServiceSpec{}, swarm.ServiceCreateOptions{}); !errors.Is(err, ErrNotLeading) {
			t.Errorf("another term's write: %v", err)
		}
		release()
		checkFence(t, Fence(engine, lease), engine, false)
	})
}

var _ reconcile.Swarm = (*countingSwarm)(nil)

func TestHolderCanBeShown(t *testing.T) {
	for _, tt := range []struct {
		holder Holder
		want   string
	}{
		{Holder{}, ""},
		{Holder{ID: "a.1"}, "a.1"},
		{Holder{ID: "a.1", Host: "a"}, "a.1"},
		{Holder{ID: "a.1", Host: "b"}, "a.1 on b"},
		{Holder{ID: "a\x1b[2J", Host: "b\nc"}, `a\x1b[2J on b\nc`},
		{Holder{ID: strings.Repeat("x", 1000)}, strings.Repeat("x", maxHolder-1) + "…"},
	} {
		if got := tt.holder.String(); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}
