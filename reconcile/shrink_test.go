package reconcile

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/skep-io/skep/spec"
)

// named makes n names.
func named(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("s%03d", i)
	}
	return names
}

func TestGuardStacks(t *testing.T) {
	for _, tt := range []struct {
		known, going, confirmed int // the first so many
		allowed, blocked        int
	}{
		{0, 0, 0, 0, 0},
		{0, 3, 0, 0, 0},  // of stacks that are not there
		{1, 1, 0, 0, 1},  // all of them
		{2, 1, 0, 1, 0},  // one
		{2, 2, 0, 0, 2},  // all
		{3, 1, 0, 1, 0},  // a third
		{4, 2, 0, 0, 2},  // half
		{5, 2, 0, 0, 2},  // more than a third
		{6, 2, 0, 2, 0},  // a third
		{6, 3, 0, 0, 3},  // half
		{10, 3, 0, 3, 0}, // less than a third
		{10, 4, 0, 0, 4}, // more
		{200, 66, 0, 66, 0},
		{200, 67, 0, 0, 67},
		{200, 200, 0, 0, 200},
		{1, 1, 1, 1, 0}, // confirmed
		{10, 4, 4, 4, 0},
		{10, 10, 10, 10, 0},
		{10, 6, 4, 6, 0},  // 2 of the other 6
		{10, 7, 4, 4, 3},  // 3 of the other 6
		{10, 10, 9, 9, 1}, // the last one was not meant
		{10, 3, 10, 3, 0}, // what is confirmed and still has its file stays
	} {
		allowed, blocked := GuardStacks(named(tt.known), named(tt.going), named(tt.confirmed), nil, 0)
		n := 0
		if blocked != nil {
			n = len(blocked.Names)
		}
		if len(allowed) != tt.allowed || n != tt.blocked {
			t.Errorf("%+v: %d allowed, %d blocked", tt, len(allowed), n)
		}
	}
}

// The table of docs/sources.md says what the guard does.
func TestSourcesTellsTheGuard(t *testing.T) {
	page, err := os.ReadFile("../docs/sources.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile(`(?m)^\| (\d+) stacks? \| (.*) \|$`).FindAllStringSubmatch(string(page), -1)
	for _, row := range rows {
		known, _ := strconv.Atoi(row[1])
		for i, told := range strings.Split(row[2], "|") {
			gone, want := []int{1, 2, 3, 4, known}[i], ""
			if gone <= known {
				allowed, blocked := GuardStacks(named(known), named(gone), nil, nil, 0)
				if want = "goes"; blocked != nil {
					want = "waits"
				}
				if len(allowed) > 0 && blocked != nil {
					t.Errorf("of %d stacks of which %d are gone, %d go and %d wait", known, gone, len(allowed), len(blocked.Names))
				}
			}
			if strings.TrimSpace(told) != want {
				t.Errorf("docs/sources.md says %q of %d stacks of which %d are gone, want %q", told, known, gone, want)
			}
		}
	}
	if len(rows) != 3 {
		t.Errorf("%d rows", len(rows))
	}
}

// What went a short while ago weighs with what goes now.
func TestGuardStacksRemembersLosses(t *testing.T) {
	for _, tt := range []struct {
		known, going, lost int // lost ones are beside those that are known
		blocked            bool
	}{
		{9, 1, 0, false}, {8, 1, 1, false}, {7, 1, 2, false}, {6, 1, 3, true}, // the fourth of ten
		{6, 0, 3, false}, {2, 1, 1, true}, {3, 1, 1, true}, {5, 1, 1, false}, {4, 2, 0, true}, {134, 1, 66, true}, {135, 1, 65, false},
	} {
		var lost []string
		for i := range tt.lost {
			lost = append(lost, fmt.Sprintf("lost%d", i))
		}
		_, b := GuardStacks(named(tt.known), named(tt.going), nil, lost, 0)
		if (b != nil) != tt.blocked || b != nil && (b.Lost != tt.lost || len(b.Names) != tt.going || tt.lost > 0 && !strings.Contains(b.Why(), "within the last hour")) {
			t.Errorf("%+v: %+v", tt, b)
		}
		if _, b := GuardStacks(named(tt.known), named(tt.going), nil, named(tt.known), 0); (b != nil) != (tt.going == tt.known || tt.going > 1 && 3*tt.going > tt.known) {
			t.Errorf("%+v, and what was lost is back: %+v", tt, b)
		}
	}
}

// However slowly stacks vanish, one after the other, in no hour more go unasked than a
// third of those that there were at its beginning, or one.
func TestErosionIsLimited(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.IntRange(2, 40).Draw(t, "size")
		known, now := named(size), time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		losses, going := Losses{}, []string{}
		var went []time.Time
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(1, 2000).Draw(t, "seconds")) * time.Second)
			if i := rapid.IntRange(0, len(known)-1).Draw(t, "stack"); !slices.Contains(going, known[i]) {
				going = append(going, known[i])
			}
			allowed, b := GuardStacks(known, going, nil, losses.Recent(now), 0)
			if b != nil && len(allowed) > 0 {
				t.Fatalf("%v go, and %v wait", allowed, b.Names)
			}
			for _, name := range allowed {
				losses.Add(name, now)
				went = append(went, now)
			}
			known = slices.DeleteFunc(known, func(name string) bool { return slices.Contains(allowed, name) })
			hour := 0
			for _, at := range went {
				if now.Sub(at) < LossWindow {
					hour++
				}
			}
			if before := len(known) + hour; hour > max(1, before/3) || len(known) == 0 {
				t.Fatalf("%d of %d went within an hour", hour, before)
			}
		}
	})
}

func TestGuardServices(t *testing.T) {
	for _, tt := range []struct {
		live, going int
		blocked     bool
	}{
		{1, 1, false}, {2, 2, false}, {3, 2, false}, // up to two always may go
		{3, 3, true}, {4, 3, true}, {5, 3, true}, {6, 3, false}, {6, 4, true}, {10, 5, false}, {10, 6, true}, {100, 50, false}, {100, 51, true}, {0, 0, false},
	} {
		if b := GuardServices("shop", named(tt.live), named(tt.going)); (b != nil) != tt.blocked {
			t.Errorf("%+v: %+v", tt, b)
		}
	}
}

// However stacks vanish: nothing that is known, going and not allowed goes unasked;
// nothing is allowed that still has its file; what is blocked has an ID of its own; and
// once that is confirmed, all of it goes, also when it goes one by one.
func TestGuardStacksProperties(t *testing.T) {
	for _, size := range []int{1, 2, 3, 4, 5, 7, 10, 33, 100, 200} {
		rapid.Check(t, func(t *rapid.T) {
			subset := func(label string) []string {
				share := rapid.IntRange(0, 10).Draw(t, label+" share")
				return slices.DeleteFunc(named(size+2), func(string) bool { return rapid.IntRange(1, 10).Draw(t, label) > share })
			}
			known, going, confirmed := named(size), subset("going"), subset("confirmed")
			allowed, blocked := GuardStacks(known, going, confirmed, nil, 0)
			again, same := GuardStacks(rapid.Permutation(known).Draw(t, "order"), rapid.Permutation(going).Draw(t, "order"), confirmed, nil, 0)
			if !slices.Equal(allowed, again) || (blocked == nil) != (same == nil) || blocked != nil && blocked.ID != same.ID {
				t.Fatal("the order matters")
			}
			unasked := 0
			for _, name := range allowed {
				if !slices.Contains(known, name) || !slices.Contains(going, name) {
					t.Fatalf("%s is allowed, and has its file or does not live", name)
				}
				if blocked != nil && slices.Contains(blocked.Names, name) {
					t.Fatalf("%s is both", name)
				}
				if !slices.Contains(confirmed, name) {
					unasked++
				}
			}
			if unasked > 1 && 3*unasked > size || unasked == size {
				t.Fatalf("%d of %d go unasked", unasked, size)
			}
			for _, name := range known {
				if slices.Contains(going, name) && !slices.Contains(allowed, name) && (blocked == nil || !slices.Contains(blocked.Names, name)) {
					t.Fatalf("%s is neither allowed nor blocked", name)
				}
			}
			if blocked == nil {
				// What is allowed stays so while it goes, one after the other.
				for i := range allowed {
					left := slices.DeleteFunc(slices.Clone(known), func(name string) bool { return slices.Contains(allowed[:i], name) })
					if rest, b := GuardStacks(left, going, confirmed, nil, 0); b != nil || len(rest) != len(allowed)-i {
						t.Fatalf("after %d of %d: %d allowed, %v blocked", i, len(allowed), len(rest), b)
					}
				}
				return
			}
			for i := range blocked.Names {
				left := slices.DeleteFunc(slices.Clone(known), func(name string) bool { return slices.Contains(blocked.Names[:i], name) })
				if rest, b := GuardStacks(left, going, slices.Concat(confirmed, blocked.Names), nil, 0); b != nil || len(rest) < len(blocked.Names)-i {
					t.Fatalf("confirmed, and after %d of %d: %d allowed, %v blocked", i, len(blocked.Names), len(rest), b)
				}
			}
			if planID("stacks", blocked.Names[1:]) == blocked.ID || planID("services", blocked.Names) == blocked.ID || len(blocked.ID) != 8 {
				t.Fatalf("%s is the ID of something else too", blocked.ID)
			}
		})
	}
}

// many is a stack of n services.
func many(n int, image string) *spec.Stack {
	var services []spec.Service
	for i := range n {
		services = append(services, service("shop", fmt.Sprintf("s%d", i), image))
	}
	return makeStack("shop", services...)
}

// A file that has lost most of its services changes nothing, not even what is left in
// it, until a person has confirmed just that.
func TestShrunkFileWaits(t *testing.T) {
	w := newWorld(t, many(6, "app:1"))
	w.settle()
	before := w.images()
	w.engine.takeWrites()
	w.stack = many(2, "app:2")
	res := w.pass()
	if res.Outcome != Held || res.Reason != PruneBlocked || w.images() != before || w.phases() != "1:Healthy" {
		t.Fatalf("%s %s: %s; %s", res.Outcome, res.Reason, res.Message, w.images())
	}
	list := w.r.Blockades()
	if len(list) != 1 || list[0].Stack != "shop" || len(list[0].Names) != 4 || list[0].Of != 6 || list[0].Since.IsZero() {
		t.Fatalf("waiting: %+v", list)
	}
	id := list[0].ID
	if got := w.engine.takeWrites(); len(got) != 1 || !strings.Contains(got[0], "skep-state-shop") {
		t.Errorf("writes %v, want its state alone", got)
	}
	for range 20 {
		res = w.pass()
	}
	if got := w.engine.takeWrites(); len(got) > 0 || res.Reason != PruneBlocked {
		t.Errorf("it is written again: %v; %s", got, res.Reason)
	}
	w.restart() // another controller
	if res = w.pass(); res.Reason != PruneBlocked || len(w.engine.takeWrites()) > 0 || !w.r.Blockades()[0].Since.Equal(list[0].Since) {
		t.Errorf("after a restart: %s, %+v", res.Reason, w.r.Blockades())
	}
	status, err := w.r.Status(t.Context(), "shop")
	must(t, err)
	if status.Outcome != Held || status.Reason != PruneBlocked || !strings.Contains(status.Message, "skep prune --confirm "+id) {
		t.Errorf("status: %s %s: %s", status.Outcome, status.Reason, status.Message)
	}
	plan, err := w.r.Plan(t.Context(), w.stack)
	must(t, err)
	if f := finding(plan.Findings, "prune-blocked"); f == nil || !plan.Empty() || len(plan.Held) == 0 {
		t.Errorf("the plan does not tell: %+v", plan.Findings)
	}

	if _, err := w.r.ConfirmPrune(t.Context(), "shop", "00000000"); !errors.Is(err, ErrRefused) {
		t.Errorf("an unknown ID: %v", err)
	}
	in, err := w.r.ConfirmPrune(t.Context(), "shop", id)
	must(t, err)
	if !in.Changed || len(w.r.Blockades()) != 0 {
		t.Errorf("%+v, still waiting %v", in, w.r.Blockades())
	}
	if in, err = w.r.ConfirmPrune(t.Context(), "shop", id); err != nil || in.Changed {
		t.Errorf("twice: %+v, %v", in, err)
	}
	if res = w.settle(); res.Outcome != Unchanged || w.images() != "shop_s0=app:2 shop_s1=app:2" {
		t.Fatalf("%s %s: %s; %s", res.Outcome, res.Reason, res.Message, w.images())
	}
	if s, err := w.r.memory.state(t.Context(), "shop"); err != nil || !s.equal(State{}) {
		t.Errorf("the confirmation outlives what it was for: %+v, %v", s, err)
	}
}

// What is confirmed is one removal: a file that loses something else waits anew.
func TestConfirmationIsOfOnePlan(t *testing.T) {
	w := newWorld(t, many(6, "app:1"))
	w.settle()
	w.stack = many(2, "app:1")
	w.pass()
	_, err := w.r.ConfirmPrune(t.Context(), "shop", w.r.Blockades()[0].ID)
	must(t, err)
	w.stack = many(1, "app:1")
	if res := w.pass(); res.Reason != PruneBlocked || len(w.r.Blockades()) != 1 || len(w.engine.services) != 6 {
		t.Errorf("%s: %s; %v; %d services", res.Reason, res.Message, w.r.Blockades(), len(w.engine.services))
	}
}

// A file that comes back ends it, and so what was confirmed.
func TestShrunkFileComesBack(t *testing.T) {
	for _, confirm := range []bool{false, true} {
		w := newWorld(t, many(6, "app:1"))
		w.settle()
		w.stack = many(2, "app:1")
		w.pass()
		if confirm {
			_, err := w.r.ConfirmPrune(t.Context(), "shop", w.r.Blockades()[0].ID)
			must(t, err)
		}
		w.stack = many(6, "app:1")
		if res := w.settle(); res.Outcome != Unchanged || len(w.r.Blockades()) != 0 || len(w.engine.services) != 6 {
			t.Errorf("%s %s; %v", res.Outcome, res.Reason, w.r.Blockades())
		}
		w.stack = many(2, "app:1")
		if res := w.pass(); res.Reason != PruneBlocked {
			t.Errorf("vanished once more, confirmed before %t: %s", confirm, res.Reason)
		}
	}
}

func TestConfirmedByFlag(t *testing.T) {
	w := newWorld(t, many(6, "app:1"))
	w.settle()
	w.stack = many(2, "app:1")
	w.pass()
	w.r = New(Options{Swarm: w.engine, Now: w.engine.now, Confirmed: []string{w.r.Blockades()[0].ID}})
	if res := w.settle(); res.Outcome != Unchanged || len(w.engine.services) != 2 {
		t.Errorf("%s %s: %s; %d services", res.Outcome, res.Reason, res.Message, len(w.engine.services))
	}
}

// A release that adds many services and fails takes them away again: a rollback asks
// nobody.
func TestRollbackRemovesUnasked(t *testing.T) {
	w := newWorld(t, watched(many(1, "app:1")))
	w.settle()
	w.stack = watched(many(6, "app:2"))
	w.until("Baking")
	w.sicken("shop_s0")
	if res := w.settle(); res.Reason != "RolledBack" || w.images() != "shop_s0=app:1" || len(w.r.Blockades()) > 0 {
		t.Errorf("%s: %s; %s", res.Reason, res.Message, w.images())
	}
	if res := w.settle(); res.Reason != "RolledBack" {
		t.Errorf("then %s: %s", res.Reason, res.Message)
	}
}

// What an older release bakes is judged to its end while a newer file waits.
func TestBakeGoesOnWhileAFileWaits(t *testing.T) {
	w := newWorld(t, watched(many(6, "app:1")))
	w.until("Baking")
	w.stack = watched(many(2, "app:2"))
	if res := w.settle(); res.Reason != PruneBlocked || w.phases() != "1:Healthy" {
		t.Errorf("%s: %s; %s", res.Reason, res.Message, w.phases())
	}
}

// An orphan that waits for a person stays whole, its memory too.
func TestBlockedOrphanStays(t *testing.T) {
	w := newWorld(t, many(2, "app:1"))
	w.settle()
	w.r = New(Options{Swarm: w.engine, Now: w.engine.now, PruneStacks: true})
	w.engine.takeWrites()
	for range 3 {
		res := w.r.Reconcile(t.Context(), Input{Name: "shop", PruneBlocked: "too many would go"})
		if res.Outcome != Held || res.Reason != PruneBlocked || res.Message != "too many would go" || len(w.engine.takeWrites()) > 0 {
			t.Fatalf("%s %s: %s", res.Outcome, res.Reason, res.Message)
		}
	}
}

// Nothing is kept of a stack that is no more: names come and go for years.
func TestNothingIsKeptOfAStackThatIsGone(t *testing.T) {
	w := newWorld(t, one("app:1"))
	w.r = New(Options{Swarm: w.engine, Now: w.engine.now, PruneStacks: true})
	w.settle()
	for range 10 {
		if res := w.r.Reconcile(t.Context(), Input{Name: "shop"}); res.Reason == "Gone" {
			break
		}
		w.engine.advance(5 * time.Second)
	}
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	if n := len(w.r.stacks); n > 0 || len(w.engine.services) > 0 {
		t.Errorf("%d stacks are kept, %d services live", n, len(w.engine.services))
	}
}

// A stack that is not well has no reason that says that nothing is to be done.
func TestConditionsDoNotContradict(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		res := &Result{
			Outcome: rapid.SampledFrom([]Outcome{Unchanged, Applied, Waiting, Held, RolledBack, Failed}).Draw(t, "outcome"),
			Reason:  rapid.SampledFrom([]string{"InSync", "Pinned", "PortTaken", PruneBlocked, "RollingOut"}).Draw(t, "reason"),
			Message: rapid.SampledFrom([]string{"", "something is so"}).Draw(t, "message"),
		}
		for range rapid.IntRange(0, 3).Draw(t, "services") {
			res.Services = append(res.Services, ServiceStatus{Health: rapid.SampledFrom(ranks).Draw(t, "health"), Code: rapid.SampledFrom([]string{"", CodeCrashLoop}).Draw(t, "code")})
		}
		if rapid.Bool().Draw(t, "released") {
			res.Release = &Release{Phase: rapid.SampledFrom([]Phase{PhaseHealthy, PhaseFailed}).Draw(t, "phase"), Reason: rapid.SampledFrom([]string{"", "CrashLoop"}).Draw(t, "why")}
		}
		by := map[ConditionType]Condition{}
		for _, c := range conditions(res) {
			by[c.Type] = c
			if c.True && c.Type == Degraded && wellWords[c.Reason] {
				t.Fatalf("degraded since it is %q", c.Reason)
			}
			if strings.Contains(c.Reason, " ") {
				t.Fatalf("%q is no word", c.Reason)
			}
		}
		if res.Outcome == Held && by[Progressing].True {
			t.Fatal("what is held is under way")
		}
		if by[Ready].True && by[Stalled].True {
			t.Fatal("ready and stalled")
		}
	})
}

// A panic in a goroutine of a pass is one of the pass, where it can be caught.
func TestPanicOfAWriteIsThePassesOwn(t *testing.T) {
	w := newWorld(t, many(3, "app:1"))
	w.engine.fault = func(what string, done bool) error {
		if !done && what == "create service" {
			panic("the write went wrong")
		}
		return nil
	}
	caught := func() (p any) {
		defer func() { p = recover() }()
		for range 3 {
			w.pass()
		}
		return nil
	}()
	if p, ok := caught.(*CaughtPanic); !ok || p.String() != "the write went wrong" || !strings.Contains(string(p.Trace), "fakeEngine") {
		t.Errorf("caught %v", caught)
	}
	w.engine.fault = nil
	if res := w.settle(); res.Outcome != Unchanged {
		t.Errorf("afterwards %s %s", res.Outcome, res.Reason)
	}
}

func TestBlockadeInAState(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	b := newBlockade("shop", []string{"shop_b", "shop_a", "shop_c"}, 4)
	s := State{Pardoned: 3}.withBlockade(b, true, at)
	got := s.Blockade("shop")
	if got == nil || got.ID != b.ID || !slices.Equal(got.Names, []string{"shop_a", "shop_b", "shop_c"}) || got.Of != 4 || !got.Since.Equal(at) {
		t.Errorf("%+v", got)
	}
	if again := s.withBlockade(b, true, at.Add(time.Hour)); !again.equal(s) {
		t.Errorf("it is noted anew: %+v", again)
	}
	if ended := s.withBlockade(nil, false, at); !ended.equal(State{Pardoned: 3}) {
		t.Errorf("it does not end: %+v", ended)
	}
}
