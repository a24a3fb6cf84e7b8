package reconcile

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"github.com/skep-io/skep/spec"
)

// glance is one that has to cost nothing.
func (w *world) glance() Glance {
	w.t.Helper()
	before := w.engine.calls
	g, ok := w.r.Glance(w.stack.Name)
	if !ok {
		w.t.Fatal("nothing is known")
	}
	if n := w.engine.calls - before; n > 0 {
		w.t.Errorf("a glance cost %d requests", n)
	}
	return g
}

func TestGlanceTellsWhatPassesSaw(t *testing.T) {
	w := newWorld(t, one("app:1"))
	if _, ok := w.r.Glance("shop"); ok {
		t.Error("something is known before the Swarm was listed")
	}
	w.pass()
	w.pass()
	g := w.glance()
	if r := g.Releases; len(r) != 1 || r[0].Phase != PhaseProgressing || !slices.Equal(r[0].Changed, []string{"shop_web"}) || !r[0].Until.Equal(r[0].Started.Add(10*time.Minute)) {
		t.Errorf("releases %+v", r)
	}
	w.until("Baking")
	if r := w.glance().Releases[0]; r.Converged.IsZero() || !r.Until.Equal(r.Converged.Add(time.Minute)) {
		t.Errorf("in the bake: %+v", r)
	}
	if tasks := w.glance().Tasks["shop_web"].Tasks; len(tasks) != 2 || tasks[0].Slot == 0 || tasks[0].Image != "app:1" || !tasks[0].Current {
		t.Errorf("tasks %+v", tasks)
	}
	w.settle()
	g = w.glance()
	if word, c := Leading(g.Result.Conditions); word != string(Ready) {
		t.Errorf("it is %s: %s", word, c.Message)
	}
	if up := g.Tasks["shop_web"].Tasks; len(up) != 2 || !up[0].Up || up[0].Failed() {
		t.Errorf("tasks %+v", up)
	}
}

func TestGlanceTellsOfARollback(t *testing.T) {
	w := newWorld(t, one("app:1"))
	w.settle()
	w.stack = one("app:bad")
	for range 5 {
		w.pass()
		w.engine.turn()
	}
	w.sicken("shop_web")
	w.settle()
	r := w.glance().Releases
	if len(r) != 2 || r[0].Phase != PhaseFailed || r[0].BackTo != 1 || r[0].BackAt.Before(r[0].Ended) || !r[0].Back || r[1].BackTo != -1 || !r[1].Running {
		t.Errorf("releases %+v", r)
	}
}

// Going back takes a step a wave; it began with the first of them.
func TestGlanceTellsWhenGoingBackBegan(t *testing.T) {
	after := func(web, db string) *spec.Stack {
		return watched(makeStack("shop", service("shop", "web", web, "db"), service("shop", "db", db)))
	}
	w := newWorld(t, after("app:1", "db:1"))
	w.settle()
	w.stack = after("app:bad", "db:2")
	var began time.Time
	steps := map[time.Time]bool{}
	for range 200 {
		w.pass()
		w.engine.turn()
		r := w.glance().Releases[0]
		releases, err := w.r.memory.releases(t.Context(), "shop")
		must(t, err)
		if steps[releases[len(releases)-1].index.correctedAt] = true; began.IsZero() {
			began = r.BackAt
		}
		if !r.BackAt.Equal(began) {
			t.Fatalf("going back began at %s, and then at %s", began, r.BackAt)
		}
		if r.Back {
			break
		}
	}
	if began.IsZero() || len(steps) < 3 {
		t.Fatalf("it went back at once: from %s, steps %v", began, steps)
	}
}

// TestLookTellsAStandby of what it does not know for lack of passes: in one request for
// all stacks.
func TestLookTellsAStandby(t *testing.T) {
	w := newWorld(t, two("app:1", "db:1"))
	w.settle()
	s := w.engine.service(t, "shop_web")
	dead := w.engine.task(s, 1, swarm.TaskStateFailed)
	dead.ID, dead.DesiredState, dead.Status.Err = "dead", swarm.TaskStateShutdown, "exec: --password=hunter2planted \x1b[31mno"
	w.engine.tasks[s.ID] = append(w.engine.tasks[s.ID], dead)

	w.restart() // another controller, which makes no passes
	ctx := context.Background()
	if _, err := w.r.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	if g := w.glance(); len(g.Tasks) > 0 || g.Result.Services[1].Running != 2 {
		t.Errorf("by the listing alone: %+v", g)
	}
	calls := w.engine.calls
	if err := w.r.Look(ctx); err != nil {
		t.Fatal(err)
	}
	if n := w.engine.calls - calls; n != 1 {
		t.Errorf("a look cost %d requests", n)
	}
	g := w.glance()
	tasks := g.Tasks["shop_web"].Tasks
	at := slices.IndexFunc(tasks, func(v TaskView) bool { return v.ID == "dead" })
	if len(tasks) != 3 || at < 0 || len(g.Tasks) != 2 {
		t.Fatalf("tasks %+v", g.Tasks)
	}
	if v := tasks[at]; !v.Failed() || v.Wanted || v.Up || strings.Contains(v.Error, "hunter2") || strings.Contains(v.Error, "\x1b") || v.Error == "" {
		t.Errorf("the dead one: %+v", v)
	}
	if !tasks[(at+1)%3].Current {
		t.Error("a task of the newest spec counts as old")
	}
	if word, _ := Leading(g.Result.Conditions); word != string(Ready) {
		t.Errorf("it is %s", word)
	}
}

// TestGlanceOutlivesForgetting: what somebody wrote is read by the next pass or Look;
// until then what was known has to do.
func TestGlanceOutlivesForgetting(t *testing.T) {
	w := newWorld(t, one("app:1"))
	w.settle()
	if _, err := w.r.Refresh(context.Background()); err != nil {
		t.Fatal(err)
	}
	w.glance()
	w.r.Noticed(stateName("shop"))
	if g := w.glance(); len(g.Releases) != 1 {
		t.Errorf("the history is gone: %+v", g)
	}
	if _, err := w.r.Suspend(context.Background(), "shop", "lunch"); err != nil {
		t.Fatal(err)
	}
	w.r.Noticed(stateName("shop")) // as if another one had
	w.engine.advance(2 * ownEvent)
	w.r.Noticed(stateName("shop"))
	if err := w.r.Look(context.Background()); err != nil {
		t.Fatal(err)
	}
	if g := w.glance(); !g.Result.State.IsSuspended() || g.Result.Reason != "Suspended" {
		t.Errorf("it does not tell of the suspension: %s, %+v", g.Result.Reason, g.Result.State)
	}
}

func TestNothingIsKeptOfWhatIsGone(t *testing.T) {
	w := newWorld(t, two("app:1", "db:1"))
	w.settle()
	if err := w.r.Look(context.Background()); err != nil {
		t.Fatal(err)
	}
	w.glance()
	if n := len(w.r.seen.services); n != 2 {
		t.Fatalf("%d services", n)
	}
	for _, name := range []string{"shop_web", "shop_db"} {
		if err := w.engine.ServiceRemove(context.Background(), w.engine.service(t, name).ID); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.r.Refresh(context.Background()); err != nil {
		t.Fatal(err)
	}
	if n := len(w.r.seen.services); n != 0 {
		t.Errorf("the tasks of %d services that are gone are kept", n)
	}
}

// TestGlanceBesidePasses has somebody look all the while that passes are made.
func TestGlanceBesidePasses(t *testing.T) {
	w := newWorld(t, two("app:1", "db:1"))
	w.pass()
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			w.r.Glance("shop")
			if err := w.r.Look(context.Background()); err != nil {
				t.Error(err)
			}
		}
	}()
	w.settle()
	w.stack = two("app:bad", "db:2")
	for range 10 {
		w.pass()
		w.engine.turn()
	}
	w.sicken("shop_web")
	w.settle()
	close(stop)
	<-done
	if g := w.glance(); g.Releases[0].Phase != PhaseFailed {
		t.Errorf("releases %+v", g.Releases)
	}
}

// BenchmarkGlance is one stack's, of the thousands that one page may show.
func BenchmarkGlance(b *testing.B) {
	w := &world{engine: newFakeEngine(), stack: two("app:1", "db:1")}
	w.restart()
	for range 200 {
		if w.r.Reconcile(context.Background(), Input{Name: "shop", Stack: w.stack}).Outcome == Unchanged {
			break
		}
		w.engine.advance(time.Second)
		w.engine.turn()
	}
	for b.Loop() {
		if _, ok := w.r.Glance("shop"); !ok {
			b.Fatal("nothing is known")
		}
	}
}
