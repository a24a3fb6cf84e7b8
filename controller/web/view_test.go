package web

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/skep-io/skep/reconcile"
)

func TestTasksAreCounted(t *testing.T) {
	up := func(slot int, current bool) reconcile.TaskView {
		v := task(fmt.Sprint("u", slot, current), slot, "node1", "running", "a:1", time.Hour, time.Hour)
		v.Current = current
		return v
	}
	failed := func(slot int, wanted bool) reconcile.TaskView {
		v := task(fmt.Sprint("f", slot), slot, "node1", "failed", "a:2", time.Minute, time.Minute)
		v.Wanted, v.Error = wanted, "exit 1"
		return v
	}
	starting := func(slot int) reconcile.TaskView {
		return task(fmt.Sprint("s", slot), slot, "node2", "starting", "a:2", time.Second, time.Second)
	}
	for _, tt := range []struct {
		name             string
		running, updated uint64
		desired          uint64
		tasks            []reconcile.TaskView
		want             TaskCount
		words            string
	}{
		{"all run", 2, 2, 2, []reconcile.TaskView{up(1, true), up(2, true)}, TaskCount{Running: 2}, "2 tasks run"},
		{"one", 1, 1, 1, nil, TaskCount{Running: 1}, "1 task runs"},
		{"none is wanted", 0, 0, 0, nil, TaskCount{}, "no tasks"},
		{"nobody asked for them", 2, 1, 3, nil, TaskCount{Running: 1, Old: 1, Missing: 1}, "1 of 3 tasks run, 1 of an earlier version, 1 missing"},
		{"in a rollout", 2, 1, 2, []reconcile.TaskView{up(1, true), up(2, false), starting(2)}, TaskCount{Running: 1, Old: 1, Starting: 1}, "1 of 3 tasks run, 1 of an earlier version, 1 starting"},
		{"failed and not started again", 1, 1, 2, []reconcile.TaskView{up(1, true), failed(2, false)}, TaskCount{Running: 1, Failed: 1}, "1 of 2 tasks run, 1 failed"},
		{"failed and started again", 1, 1, 2, []reconcile.TaskView{up(1, true), failed(2, false), starting(2)}, TaskCount{Running: 1, Starting: 1}, "1 of 2 tasks run, 1 starting"},
		{"failed long ago", 1, 1, 1, []reconcile.TaskView{failed(1, false), up(1, true)}, TaskCount{Running: 1}, "1 task runs"},
		{"tasks that are out of date", 3, 3, 3, []reconcile.TaskView{up(1, true), starting(2)}, TaskCount{Running: 3}, "3 tasks run"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			st := reconcile.ServiceStatus{Name: "a_b", Running: tt.running, Updated: tt.updated, Desired: tt.desired}
			got, views := countTasks(&st, tt.tasks)
			if got != tt.want || got.String() != tt.words {
				t.Errorf("got %+v, %q", got, got)
			}
			for _, v := range views {
				if v.State == "starting" && slices.ContainsFunc(tt.tasks, func(x reconcile.TaskView) bool { return x.Slot == v.Slot && x.Failed() }) && v.Error != "exit 1" {
					t.Errorf("%+v does not tell what the last one died of", v)
				}
			}
		})
	}
}

func TestSquaresNeverHideWhatIsBad(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		some := rapid.IntRange(0, 200)
		n := TaskCount{Running: some.Draw(t, "running"), Old: some.Draw(t, "old"), Starting: some.Draw(t, "starting"), Failed: some.Draw(t, "failed"), Missing: some.Draw(t, "missing")}
		d := squares(n)
		if len(d.Kinds) > maxSquares || len(d.Kinds)+d.More != n.total() {
			t.Fatalf("%d squares and %d more of %d tasks", len(d.Kinds), d.More, n.total())
		}
		shown := 0
		for _, k := range d.Kinds {
			if k == "failed" {
				shown++
			}
		}
		if shown != min(n.Failed, maxSquares) {
			t.Fatalf("%d of %d that failed are shown", shown, n.Failed)
		}
	})
}

func TestWorstFirst(t *testing.T) {
	b := NewBoard(fleet())
	want := []string{"mail", "search", "wiki", "queue", "new", "stats", "shop", "blog", "infra", "team-a", "team-b", "team-c", "team-d"}
	var got []string
	for _, s := range b.Stacks {
		got = append(got, s.Name)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	c := b.Counts
	if c.Total != len(want) || c.Stalled+c.Degraded+c.Unknown+c.NotReady+c.Progressing+c.Ready != c.Total {
		t.Errorf("counts %+v do not add up", c)
	}
}

func TestNotices(t *testing.T) {
	kinds := func(s *Snapshot) (out []string) {
		for _, n := range NewBoard(s).Notices {
			out = append(out, n.Kind)
		}
		return out
	}
	s := stale()
	if got, want := kinds(s), []string{"engine-away", "source-unreadable", "prune-blocked", "policy-broken"}; !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	if got := NewBoard(s).Notices[2].Command; got != "skep prune --confirm 3fa91c02" {
		t.Errorf("command %q", got)
	}
	s = base()
	if got := kinds(s); got != nil {
		t.Errorf("all is well, and still %v", got)
	}
	s.Engine, s.Listed = "the engine was not listed yet", time.Time{}
	s.Acts = false
	if got, want := kinds(s), []string{"not-listed", "standing-by"}; !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
	page := NewStackPage(fleet(), "mail", nil)
	if len(page.Notices) != 1 || page.Notices[0].Command != "skep prune --confirm 9c01d2aa" {
		t.Errorf("of the stack's own: %+v", page.Notices)
	}
}

func TestTimelineOfARollback(t *testing.T) {
	x := wentBack("search")
	line := NewTimeline(&x.Glance, noon)
	var marks []string
	for _, m := range line.Marks {
		marks = append(marks, m.Kind)
	}
	if want := []string{"began", "failed", "back"}; !slices.Equal(marks, want) || line.Live {
		t.Errorf("marks %v, live %t", marks, line.Live)
	}
	if line.Before != "index:2.0" || line.New != "index:2.1" || line.Back != "index:2.0" || len(line.Rows) != 3 {
		t.Errorf("%q, %q, %q, %d rows", line.Before, line.New, line.Back, len(line.Rows))
	}
	var bars []string
	for _, b := range line.Rows[0].Bars {
		bars = append(bars, b.Version+" "+b.End)
	}
	if want := []string{"before stopped", "new failed", "new failed", "back running"}; !slices.Equal(bars, want) {
		t.Errorf("bars %v", bars)
	}
	if b := line.Rows[0].Bars[3]; b.Up <= b.X || b.Up >= b.X+b.Width {
		t.Errorf("the last one starts at %.1f%%, runs from %.1f%%, to %.1f%%", b.X, b.Up, b.X+b.Width)
	}
}

func TestNothingToDraw(t *testing.T) {
	x := well("blog", 2)
	if NewTimeline(&x.Glance, noon) != nil {
		t.Error("of a release that wrote nothing there is a picture")
	}
	x = rollingOut("shop")
	x.Glance.Tasks = nil
	if NewTimeline(&x.Glance, noon) != nil {
		t.Error("of tasks that nobody knows there is a picture")
	}
}

// TestTimelineFits draws whatever there may be: everything is within the picture, in its
// order, and told in words.
func TestTimelineFits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		second := rapid.Map(rapid.IntRange(-100, 20000), func(n int) time.Duration { return time.Duration(n) * time.Second })
		x := rollingOut("shop")
		rel := &x.Glance.Releases[0]
		rel.Started = before(second.Draw(t, "started"))
		rel.Phase = rapid.SampledFrom([]reconcile.Phase{reconcile.PhaseProgressing, reconcile.PhaseHealthy, reconcile.PhaseFailed, reconcile.PhaseSuperseded}).Draw(t, "phase")
		if rapid.Bool().Draw(t, "converged") {
			rel.Converged = before(second.Draw(t, "convergedAt"))
		}
		if rel.Phase != reconcile.PhaseProgressing {
			rel.Ended = before(second.Draw(t, "ended"))
		}
		if rel.Phase == reconcile.PhaseFailed && rapid.Bool().Draw(t, "back") {
			rel.BackTo, rel.BackAt, rel.Back = 6, before(second.Draw(t, "backAt")), rapid.Bool().Draw(t, "done")
		}
		g := x.Glance.Tasks["shop_web"]
		for i := range rapid.IntRange(0, 60).Draw(t, "tasks") {
			v := task(fmt.Sprint("r", i), rapid.IntRange(0, 50).Draw(t, "slot"), "node1", rapid.SampledFrom([]string{"running", "failed", "shutdown", "pending"}).Draw(t, "state"), "shop:x",
				second.Draw(t, "created"), second.Draw(t, "since"))
			g.Tasks = append(g.Tasks, v)
		}
		x.Glance.Tasks["shop_web"] = g
		line := NewTimeline(&x.Glance, noon)
		if line == nil {
			return
		}
		if len(line.Rows) > maxRows || len(line.Events) > maxEvents || !line.From.Before(line.To) || len(line.Ticks) > 8 {
			t.Fatalf("%d rows, %d events, %d ticks, %s to %s", len(line.Rows), len(line.Events), len(line.Ticks), line.From, line.To)
		}
		within := func(what string, x float64) {
			if x < 0 || x > 100.5 {
				t.Fatalf("%s is at %.2f%%", what, x)
			}
		}
		for _, r := range line.Rows {
			for _, b := range r.Bars {
				within("a bar", b.X)
				within("its end", b.X+b.Width)
				if b.Up < b.X || b.Up > b.X+b.Width+0.01 || b.Width <= 0 {
					t.Fatalf("a bar from %.2f%%, up from %.2f%%, of %.2f%%", b.X, b.Up, b.Width)
				}
			}
		}
		for _, m := range line.Marks {
			within("a mark", m.X)
		}
		if !slices.IsSortedFunc(line.Events, func(a, b Event) int { return a.At.Compare(b.At) }) {
			t.Fatal("events are in no order")
		}
	})
}

// thousand is a fleet of that many stacks, some of which are not well.
func thousand() *Snapshot {
	s := base()
	for i := range 1000 {
		name := fmt.Sprintf("stack-%04d", i)
		switch i % 50 {
		case 0:
			s.Stacks = append(s.Stacks, rollingOut(name))
		case 1:
			s.Stacks = append(s.Stacks, wentBack(name))
		default:
			s.Stacks = append(s.Stacks, well(name, 3))
		}
	}
	return s
}

// BenchmarkBoard makes the page of 1,000 stacks of a snapshot.
func BenchmarkBoard(b *testing.B) {
	s := thousand()
	var page bytes.Buffer
	for b.Loop() {
		page.Reset()
		if err := WriteBoard(&page, NewBoard(s)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(page.Len()), "bytes")
}

// BenchmarkStack makes the page of one of 1,000 stacks, in a rollout.
func BenchmarkStack(b *testing.B) {
	s := thousand()
	var page bytes.Buffer
	for b.Loop() {
		page.Reset()
		if err := WriteStack(&page, NewStackPage(s, "stack-0500", nil)); err != nil {
			b.Fatal(err)
		}
	}
}
