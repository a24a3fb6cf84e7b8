package e2e

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/swarm"

	"github.com/skep-io/skep/controller/cli"
	"github.com/skep-io/skep/e2e/faults"
	"github.com/skep-io/skep/e2e/lab/swarmlab"
	"github.com/skep-io/skep/spec"
)

var (
	soakFor = flag.Duration("soak", 2*time.Minute, "how long TestSoak goes on with its faults")
	seedOf  = flag.Uint64("seed", 0, "what the faults and edits of TestSoak are drawn from; 0: another one every time")
)

const (
	soakStacks = 200
	soakTasks  = 10 // of them have a task; the others run nothing
	soakGone   = 20 // at most so many files are gone at once: far from a third
)

// A plot is a stack of a soak, as its file says.
type plot struct {
	name     string
	replicas int
	age      int
	side     bool // a second service
	there    bool
	broken   bool
	writes   int // of its first service: so many are allowed
}

func (p *plot) text() string {
	if p.broken {
		return "services: {web: {imagee: app:1.0}}\n"
	}
	side := ""
	if p.side {
		side = "  side: {image: app:1.0, deploy: {replicas: 0}}\n"
	}
	return fmt.Sprintf(`x-skep: {images: as-written, rollout: {bake: 1s, guard: 0s, on_failure: hold}}
services:
  web:
    image: app:1.0
    environment: {GENERATION: "%d"}
    configs: [conf]
    stop_grace_period: 1s
    deploy: {replicas: %d}
%sconfigs: {conf: {content: "conf %d"}}
`, p.age, p.replicas, side, p.age)
}

// A soak is a Swarm with many stacks and two controllers, to which anything may happen at
// any time. What happens in which order is drawn from one seed; what it meets is chance.
type soak struct {
	t     *testing.T
	lab   *swarmlab.Lab
	pair  [2]*rig
	specs string
	plots []*plot

	files sync.Mutex // held while the directory is not there
	mu    sync.Mutex
	did   map[string]int
}

func newSoak(t *testing.T) *soak {
	t.Helper()
	s := &soak{t: t, lab: breakable(t), specs: t.TempDir() + "/specs", did: map[string]int{}}
	if err := os.Mkdir(s.specs, 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range soakStacks {
		p := &plot{name: fmt.Sprintf("soak%03d", i), age: 1, there: true, writes: 1}
		if i < soakTasks {
			p.replicas = 1
		}
		s.plots = append(s.plots, p)
		s.put(p)
	}
	for i := range s.pair {
		s.pair[i] = newRig(t, s.lab, "soak", i, s.specs, "--prune-stacks")
	}
	began := time.Now()
	s.settles(2 * time.Minute)
	t.Logf("%d stacks are there after %s", soakStacks, since(began))
	each(s.pair[:], (*rig).measure)
	return s
}

func (s *soak) put(p *plot) {
	if err := replaceFile(filepath.Join(s.specs, p.name+".yml"), p.text()); err != nil {
		s.t.Errorf("write %s: %v", p.name, err)
	}
}

func (s *soak) note(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.did[what]++
}

// edits does something to a stack's file.
func (s *soak) edits(r *rand.Rand) {
	s.files.Lock()
	defer s.files.Unlock()
	p := s.plots[r.IntN(len(s.plots))]
	what := []string{"changed", "changed", "changed", "a service more or less", "broken", "gone"}[r.IntN(6)]
	gone := 0
	for _, other := range s.plots {
		if !other.there {
			gone++
		}
	}
	switch {
	case !p.there:
		what = "back"
		p.there = true
		p.age++
		p.writes += 2 // one where it had not been removed, and one where the new file is another
	case p.broken:
		what = "mended"
		p.broken = false
		p.age++
		p.writes++
	case what == "changed", what == "gone" && gone == soakGone:
		p.age++
		p.writes++
	case what == "broken":
		p.broken = true
	case what == "gone":
		p.there = false
		if err := os.Remove(filepath.Join(s.specs, p.name+".yml")); err != nil {
			s.t.Errorf("remove the file of %s: %v", p.name, err)
		}
	default:
		p.side = !p.side
	}
	if p.there {
		s.put(p)
	}
	s.note("file: " + what)
}

// small are faults that something else may happen beside. Each returns when it is over, or
// waits for a call to strike.
func (s *soak) small() []mishap {
	rig := func(r *rand.Rand) *rig { return s.pair[r.IntN(len(s.pair))] }
	seconds := func(r *rand.Rand, most int) time.Duration {
		return time.Duration(1+r.IntN(most*10)) * 100 * time.Millisecond
	}
	all := []mishap{
		{"a write fails", func(r *rand.Rand) {
			f := apiFaults()
			rig(r).proxy.Add(faults.Rule{Writes: true, Nth: 1 + r.IntN(5), Times: 1 + r.IntN(3), Fault: f[r.IntN(len(f))]})
		}},
		{"a question fails", func(r *rand.Rand) {
			f := apiFaults()
			rig(r).proxy.Add(faults.Rule{Method: http.MethodGet, Nth: 1 + r.IntN(5), Times: 1 + r.IntN(3), Fault: f[r.IntN(len(f))]})
		}},
		{"killed at a write", func(r *rand.Rand) {
			one := rig(r)
			one.proxy.Add(faults.Rule{Writes: true, Nth: 1 + r.IntN(5), Fault: one.kill(r.IntN(2) == 0)})
		}},
		{"killed", func(r *rand.Rand) { rig(r).dies() }},
		{"stopped", func(r *rand.Rand) { rig(r).ends(syscall.SIGTERM) }},
		{"paused", func(r *rand.Rand) {
			p := rig(r).process()
			_ = p.cmd.Process.Signal(syscall.SIGSTOP) // it may have ended
			wait(s.t.Context(), seconds(r, 20))
			_ = p.cmd.Process.Signal(syscall.SIGCONT)
		}},
		{"engine refuses", func(r *rand.Rand) {
			one := rig(r)
			one.proxy.Refuse()
			wait(s.t.Context(), seconds(r, 15))
			if err := one.proxy.Accept(); err != nil {
				s.t.Error(err)
			}
		}},
		{"another engine", func(r *rand.Rand) { rig(r).beside(r.IntN(len(s.lab.Nodes))) }},
		{"source away", func(r *rand.Rand) {
			s.files.Lock()
			defer s.files.Unlock()
			err := os.Rename(s.specs, s.specs+".away")
			wait(s.t.Context(), seconds(r, 8))
			if err = errors.Join(err, os.Rename(s.specs+".away", s.specs)); err != nil {
				s.t.Error(err)
			}
		}},
	}
	for _, f := range streamFailures {
		all = append(all, mishap{"stream " + f.name, func(r *rand.Rand) { f.do(rig(r).proxy) }})
	}
	return all
}

// A mishap is a kind of thing that happens.
type mishap struct {
	name string
	do   func(*rand.Rand)
}

// big are those that cost the Swarm a manager; each returns when it has it again.
func (s *soak) big() []mishap {
	ctx := s.t.Context()
	again := func(what string, errs ...error) {
		if err := errors.Join(append(errs, s.lab.Ready(ctx))...); err != nil {
			s.t.Errorf("%s: %v", what, err)
		}
	}
	return []mishap{
		{"leader killed", func(r *rand.Rand) {
			leader, err := leaderOf(ctx, s.lab, r.IntN(len(s.lab.Nodes)))
			again("kill the leader", err, s.lab.KillEngine(ctx, leader), s.lab.StartEngine(ctx, leader))
		}},
		{"partition", func(r *rand.Rand) {
			cut := r.IntN(len(s.lab.Nodes))
			err := s.lab.Partition(ctx, cut)
			wait(ctx, time.Duration(5+r.IntN(20))*time.Second)
			again("cut a manager off", err, s.lab.Heal(ctx, cut))
		}},
	}
}

// wait is over when ctx is, too.
func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// goesOn has things happen for so long, each kind in its own rhythm.
func (s *soak) goesOn(d time.Duration, seed uint64) {
	ctx := s.t.Context()
	end := time.Now().Add(d)
	one := func(of []mishap) func(*rand.Rand) {
		return func(r *rand.Rand) {
			m := of[r.IntN(len(of))]
			s.note(m.name)
			m.do(r)
		}
	}
	rhythm := func(stream uint64, least, most time.Duration, do func(*rand.Rand)) func() {
		return func() {
			r := rand.New(rand.NewPCG(seed, stream))
			for {
				wait(ctx, least+time.Duration(r.Int64N(int64(most-least))))
				if time.Now().After(end) || ctx.Err() != nil {
					return
				}
				do(r)
			}
		}
	}
	each([]func(){
		rhythm(1, 100*time.Millisecond, time.Second, s.edits),
		rhythm(2, 2*time.Second, 8*time.Second, one(s.small())),
		rhythm(3, 15*time.Second, 60*time.Second, one(s.big())),
	}, func(f func()) { f() })
}

// calm takes all faults back, and gives each stack a file that is good.
func (s *soak) calm() {
	for _, r := range s.pair {
		r.proxy.Clear()
	}
	for _, p := range s.plots {
		if p.there && p.broken {
			p.broken = false
			p.age++
			p.writes++
			s.put(p)
		}
	}
}

// settles waits until the Swarm has what the files say, and nothing else.
func (s *soak) settles(limit time.Duration) {
	until(s.t, limit, "all is as the files say", func() error {
		ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
		defer cancel()
		return errors.Join(s.standing(), s.servicesAmiss(ctx), s.recordsAmiss(ctx))
	})
}

// standing says that one controller acts and the other stands by.
func (s *soak) standing() error {
	_, a := s.pair[0].get("/readyz")
	_, b := s.pair[1].get("/readyz")
	if a != "acts" {
		a, b = b, a
	}
	if a != "acts" || !strings.HasPrefix(b, "stands by behind") {
		return fmt.Errorf("the controllers say %q and %q", a, b)
	}
	return nil
}

// servicesAmiss compares services with the files, and tasks where there are some.
func (s *soak) servicesAmiss(ctx context.Context) error {
	want := map[string]int{}
	for _, p := range s.plots {
		if p.there {
			want[p.name+"_web"] = p.age
		}
		if p.there && p.side {
			want[p.name+"_side"] = -1
		}
	}
	list, err := s.lab.Client(0).ServiceList(ctx, swarm.ServiceListOptions{Status: true})
	if err != nil {
		return err
	}
	got := map[string]int{}
	for _, v := range list {
		got[v.Spec.Name] = generation(swarm.Task{Spec: v.Spec.TaskTemplate})
		if st := v.ServiceStatus; st == nil || st.RunningTasks != st.DesiredTasks {
			return fmt.Errorf("%s: its tasks are %+v", v.Spec.Name, st)
		}
	}
	return differ("services", got, want)
}

// recordsAmiss says that each stack's newest release is healthy, that no stack without a
// file is remembered, and that no config is left that no release names: each has one.
func (s *soak) recordsAmiss(ctx context.Context) error {
	list, err := s.lab.Client(0).ConfigList(ctx, swarm.ConfigListOptions{})
	if err != nil {
		return err
	}
	configs, releases, newest := map[string]int{}, map[string]int{}, map[string]int{}
	healthy := map[string]bool{}
	for _, c := range list {
		l := c.Spec.Labels
		if stack := l[spec.LabelNamespace]; stack != "" {
			configs[stack]++
			continue
		}
		var n int
		if stack := l["skep.stack"]; l["skep.kind"] == "release" {
			releases[stack]++
			if _, err := fmt.Sscan(l["skep.release"], &n); err == nil && n >= newest[stack] {
				newest[stack], healthy[stack] = n, l["skep.phase"] == "Healthy"
			}
		}
	}
	for _, p := range s.plots {
		switch {
		case p.there && !healthy[p.name]:
			return fmt.Errorf("release %d of %s is not healthy", newest[p.name], p.name)
		case !p.there && configs[p.name]+releases[p.name] > 0:
			return fmt.Errorf("of %s, whose file is gone, %d configs and %d releases are left", p.name, configs[p.name], releases[p.name])
		case p.there && (configs[p.name] == 0 || configs[p.name] > releases[p.name]):
			return fmt.Errorf("%s has %d configs and %d releases", p.name, configs[p.name], releases[p.name])
		}
	}
	return nil
}

// differ tells the first differences between two maps.
func differ(what string, got, want map[string]int) error {
	var words []string
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if n, ok := got[name]; !ok || n != want[name] {
			words = append(words, fmt.Sprintf("%s is %d (%v), want %d", name, n, ok, want[name]))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		if _, ok := want[name]; !ok {
			words = append(words, name+" should not be there")
		}
	}
	if len(words) == 0 {
		return nil
	}
	return fmt.Errorf("%d %s differ: %s", len(words), what, strings.Join(words[:min(5, len(words))], "; "))
}

// nothingTwice says that no service was written more often than its file changed. What
// nobody was told the end of is not counted: a process that is killed takes its request
// along, whether the engine has done it or not.
func (s *soak) nothingTwice() {
	wrote := map[string]int{}
	for _, r := range s.pair {
		for _, w := range r.proxy.Writes() {
			if w.Status > 0 && (w.Operation == "ServiceCreate" || w.Operation == "ServiceUpdate") {
				wrote[w.Object]++
			}
		}
	}
	total := 0
	for _, p := range s.plots {
		n := wrote[p.name+"_web"]
		total += n
		if n > p.writes {
			s.t.Errorf("%s_web was written %d times for %d changes", p.name, n, p.writes)
		}
	}
	s.t.Logf("%d writes of the stacks' first services", total)
}

// planned says that skep's own plan is empty.
func (s *soak) planned() {
	var stdout, stderr bytes.Buffer
	code := cli.Main(s.t.Context(), []string{"plan", "--host", skepHost(s.lab, 0, "plan"), "--specs", s.specs, "--owner", "soak"}, strings.NewReader(""), &stdout, &stderr)
	if code != 0 {
		s.t.Errorf("skep plan ends with %d: %s%s", code, &stdout, &stderr)
	}
}

// onlyTasks says that each stack that has a task has one of its newest version.
func (s *soak) onlyTasks() {
	for _, p := range s.plots[:soakTasks] {
		if !p.there {
			continue
		}
		list, err := s.lab.Client(0).TaskList(s.t.Context(), swarm.TaskListOptions{Filters: filters.NewArgs(filters.Arg("service", p.name+"_web"), filters.Arg("desired-state", "running"))})
		if err != nil || len(list) != 1 || generation(list[0]) != p.age {
			s.t.Errorf("%s: %d tasks, want one of version %d; %v", p.name, len(list), p.age, err)
		}
	}
}

// TestSoak has two controllers look after 200 stacks whose files change all the time,
// while all that the other tests do happens at random; -seed has it drawn again.
func TestSoak(t *testing.T) {
	t.Parallel()
	soaks(t, *soakFor, *seedOf)
}

func soaks(t *testing.T, d time.Duration, seed uint64) {
	if seed == 0 {
		seed = rand.Uint64N(1e9) + 1
	}
	t.Logf("seed %d, %s", seed, d)
	s := newSoak(t)
	s.goesOn(d, seed)
	s.calm()
	calm := time.Now()
	s.settles(5 * time.Minute)
	var words []string
	for _, what := range slices.Sorted(maps.Keys(s.did)) {
		words = append(words, fmt.Sprintf("%s %d", what, s.did[what]))
	}
	t.Logf("all is as the files say %s after the last fault; what happened: %s", since(calm), strings.Join(words, ", "))
	s.nothingTwice()
	s.onlyTasks()
	s.planned()
	rest(t, s.pair[:]...)
	if err := errors.Join(s.servicesAmiss(t.Context()), s.recordsAmiss(t.Context())); err != nil {
		t.Error(err)
	}
	if t.Failed() {
		t.Logf("to see that again: make chaos RUN=soak SEED=%d", seed)
	}
}
