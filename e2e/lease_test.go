package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/swarm"

	"github.com/skep-io/skep/controller"
	"github.com/skep-io/skep/spec"
)

// What the lease promises, and half as much again: these machines are busy at times, and
// how long it took is told. More than that is not the machine.
const (
	succeeded  = 20 * time.Second * 3 / 2 // a killed or paused controller, by another one
	handedOver = 5 * time.Second * 3 / 2  // a stop, which ends passes that are under way first
)

// A contest is several controllers of one owner, each a process beside an engine of its
// own, over one directory with one stack.
type contest struct {
	t     *testing.T
	owner string // and the stack
	specs string
	image string
	turn  int // of the file, which never goes back: a controller that starts then would hold it (SourceStale)
	all   []*rival
	seen  *sightings
	mu    sync.Mutex
	fault string // two that said at once that they act
}

// A rival is one of them.
type rival struct {
	*process
	node int
	addr string
	log  *logbook
}

// newContest starts n controllers, and waits until one acts and has rolled the stack out.
func newContest(t *testing.T, owner string, n int) *contest {
	t.Helper()
	began := time.Now()
	c := &contest{t: t, owner: owner, specs: t.TempDir(), image: "app:1.0"}
	cleanUp(t, owner)
	c.write()
	c.seen = watchStack(t, owner)
	for i := range n {
		c.all = append(c.all, c.join(i))
	}
	t.Cleanup(func() {
		for _, r := range c.all {
			_ = r.cmd.Process.Signal(syscall.SIGCONT)
			r.signal(syscall.SIGTERM)
			if bad := misfortune(r.log.String()); bad != "" {
				t.Errorf("the log of the controller at node%d has %q", r.node+1, bad)
			}
			if t.Failed() {
				t.Logf("the log of the controller at node%d:\n%s", r.node+1, r.log)
			}
		}
	})
	c.settled(began, "create", 2*time.Minute)
	return c
}

func misfortune(log string) string {
	for _, bad := range []string{"DATA RACE", "panic:", "pass failed"} {
		if strings.Contains(log, bad) {
			return bad
		}
	}
	return ""
}

// join starts a controller beside a node's engine.
func (c *contest) join(node int) *rival {
	c.t.Helper()
	r := &rival{node: node, addr: freeAddress(c.t), log: &logbook{}}
	r.process = startSkep(c.t, lab, r.log, "run", "--host", lab.DockerHost(node%len(lab.Nodes)), "--specs", c.specs, "--owner", c.owner,
		"--id", fmt.Sprintf("rival%d", node), "--listen", r.addr, "--log-format", "json", "--resync", "10s")
	return r
}

// write puts the stack's file there, in one step.
func (c *contest) write() {
	c.t.Helper()
	text := fmt.Sprintf("x-skep: {images: as-written, rollout: {bake: 0s, guard: 0s, deadline: 2m}}\n"+
		"services: {web: {image: %s, environment: {TURN: \"%d\"}, stop_grace_period: 1s, deploy: {replicas: 2, update_config: {parallelism: 2}}}}\n", c.image, c.turn)
	tmp := filepath.Join(c.specs, ".tmp")
	if err := os.WriteFile(tmp, []byte(text), 0o644); err != nil {
		c.t.Fatal(err)
	}
	if err := os.Rename(tmp, filepath.Join(c.specs, c.owner+".yml")); err != nil {
		c.t.Fatal(err)
	}
}

// next writes another version.
func (c *contest) next() {
	c.t.Helper()
	c.image = map[string]string{"app:1.0": "app:2.0", "app:2.0": "app:1.0"}[c.image]
	c.turn++
	c.write()
}

// says asks a controller what it does: "acts", "stands by …", or what keeps it from
// being ready; "" where it does not answer.
func (r *rival) says() string {
	client := http.Client{Timeout: 500 * time.Millisecond, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + r.addr + "/readyz")
	if err != nil {
		return ""
	}
	defer func() { _ = resp.Body.Close() }()
	text, _ := io.ReadAll(resp.Body)
	return strings.TrimSpace(string(text))
}

// acting is the one that says it acts, other than not; nil for none. That two say so is
// noted: between two answers the lease cannot change hands, unless it was handed over.
func (c *contest) acting(not *rival) *rival {
	var found []*rival
	for _, r := range c.all {
		if r != not && r.says() == "acts" {
			found = append(found, r)
		}
	}
	if len(found) == 0 {
		return nil
	}
	if len(found) > 1 && found[0].says() == "acts" {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.fault = "two controllers said at once that they act"
	}
	return found[0]
}

// awaitActing waits for one that acts, other than not.
func (c *contest) awaitActing(limit time.Duration, not *rival) *rival {
	c.t.Helper()
	var found *rival
	await(c.t, limit, "a controller acts", func() error {
		if found = c.acting(not); found == nil {
			return errors.New("none does")
		}
		return nil
	})
	return found
}

// settled waits until the stack runs what its file says, and says that what was created
// and written since then is what that takes: no task more, no write more. (The engine
// itself updates what it has created, once.)
func (c *contest) settled(since time.Time, write string, limit time.Duration) {
	c.t.Helper()
	name := c.owner + "_web"
	awaitRunning(c.t, limit, name, c.image, 2)
	await(c.t, limit, "its release is healthy", func() error {
		res := status(c.t, c.owner, c.owner)
		if res.Release == nil || res.Release.Phase != "Healthy" || !ready(res) {
			return fmt.Errorf("%+v: %s", res.Release, res.Message)
		}
		return nil
	})
	tasks, err := lab.Client(0).TaskList(c.t.Context(), swarm.TaskListOptions{Filters: filters.NewArgs(filters.Arg("service", name))})
	if err != nil {
		c.t.Fatal(err)
	}
	made := 0
	for _, task := range tasks {
		if task.CreatedAt.After(since) {
			made++
		}
	}
	if made != 2 {
		c.t.Errorf("%d tasks were made for one change of 2 replicas", made)
	}
	wrote := slices.DeleteFunc(c.seen.since(since, "service"), func(s sighting) bool { return !strings.HasPrefix(s.what, write) })
	if len(wrote) != 1 {
		c.t.Errorf("the service was written %d times for one change: %v", len(wrote), wrote)
	}
	if c.mu.Lock(); c.fault != "" {
		c.t.Error(c.fault)
	}
	c.mu.Unlock()
}

// round has something happen to the controller that acts while it rolls out a change,
// and returns how long it took until another one acted.
func (c *contest) round(how string, after time.Duration) time.Duration {
	c.t.Helper()
	active := c.awaitActing(time.Minute, nil)
	began := time.Now()
	c.next()
	time.Sleep(after) // into the rollout: at another moment in every round
	deed := time.Now()
	limit := succeeded
	switch how {
	case "kill":
		active.signal(syscall.SIGKILL)
	case "pause":
		_ = active.cmd.Process.Signal(syscall.SIGSTOP)
	case "stop":
		limit = handedOver
		active.signal(syscall.SIGTERM)
		if code := active.cmd.ProcessState.ExitCode(); code != 0 {
			c.t.Errorf("a stop ended with %d", code)
		}
	}
	c.awaitActing(limit, active)
	took := time.Since(deed)
	c.settled(began, "update", time.Minute)
	if how != "pause" {
		i := slices.Index(c.all, active)
		c.all[i] = c.join(active.node)
		return took
	}
	quiet := time.Now()
	_ = active.cmd.Process.Signal(syscall.SIGCONT)
	await(c.t, 10*time.Second, "the paused one stands by", func() error {
		if says := active.says(); !strings.HasPrefix(says, "stands by behind") {
			return fmt.Errorf("it says %q", says)
		}
		return nil
	})
	if wrote := c.seen.since(quiet, ""); len(wrote) > 0 {
		c.t.Errorf("written after the paused one went on: %v", wrote)
	}
	return took
}

// compete plays n rounds of a scenario with so many controllers.
func compete(t *testing.T, how string, controllers, n int) {
	c := newContest(t, fmt.Sprintf("lease-%s-%d", how, controllers), controllers)
	var times []string
	for i := range n {
		took := c.round(how, time.Duration(i%4)*300*time.Millisecond)
		times = append(times, took.Round(100*time.Millisecond).String())
	}
	t.Logf("%d controllers, %s: another one acts after %s", controllers, how, strings.Join(times, ", "))
	quiet := time.Now()
	if *chaos {
		time.Sleep(rigQuiet)
	} else {
		time.Sleep(6 * time.Second) // longer than a renewal
	}
	if wrote := c.seen.since(quiet, ""); len(wrote) > 0 {
		t.Errorf("written though all was as it should be: %v", wrote)
	}
}

// TestLease has the controller that acts killed, paused for longer than the lease, and
// stopped, with one and with two that stand by.
func TestLease(t *testing.T) {
	t.Parallel()
	// They wait more than they work: a lane of its own for each.
	each([]string{"kill", "pause", "stop"}, func(how string) {
		for _, controllers := range []int{2, 3} {
			t.Run(fmt.Sprintf("%s of %d", how, controllers), func(t *testing.T) { compete(t, how, controllers, 3) })
		}
	})
}

// sightings are the writes of a stack's objects that the engine told of.
type sightings struct {
	mu  sync.Mutex
	all []sighting
}

type sighting struct {
	at         time.Time
	kind, what string
}

func (s sighting) String() string { return s.what }

// watchStack follows the engine's events of a stack until the test ends. An update that
// tells of Swarm's own progress is no write.
func watchStack(t *testing.T, stack string) *sightings {
	t.Helper()
	s := &sightings{}
	ctx, cancel := context.WithCancel(context.Background())
	messages, errs := lab.Client(0).Events(ctx, events.ListOptions{Filters: filters.NewArgs(filters.Arg("scope", "swarm"))})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case m := <-messages:
				name, progress := m.Actor.Attributes["name"], m.Actor.Attributes["updatestate.new"]
				if progress == "" && (strings.HasPrefix(name, stack+"_") || strings.HasPrefix(name, "skep-release-"+stack+"-") || name == "skep-state-"+stack) {
					s.mu.Lock()
					s.all = append(s.all, sighting{time.Now(), string(m.Type), fmt.Sprintf("%s %s %s", m.Action, m.Type, name)})
					s.mu.Unlock()
				}
			case <-errs:
				return
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return s
}

// since are the writes of a kind since then; "" is any.
func (s *sightings) since(at time.Time, kind string) []sighting {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.all), func(x sighting) bool { return x.at.Before(at) || kind != "" && x.kind != kind })
}

// TestTwoOwners has two controllers of different owners side by side: each has a lease,
// and neither touches what is the other's, though both may prune.
func TestTwoOwners(t *testing.T) {
	t.Parallel()
	file := func(image string) string {
		return fmt.Sprintf("x-skep: {images: as-written, rollout: {bake: 0s, guard: 0s}}\nservices: {web: {image: %s, stop_grace_period: 1s}}\n", image)
	}
	a, b := &daemon{owner: "owner-a", prune: true}, &daemon{owner: "owner-b", prune: true}
	for d, stack := range map[*daemon]string{a: "owned-a", b: "owned-b"} {
		cleanUp(t, stack)
		d.t, d.specs = t, t.TempDir()
		d.write(stack+".yml", file("app:1.0"))
		start(t, d)
	}
	awaitReady(t, a, "owned-a", 1)
	awaitReady(t, b, "owned-b", 1)
	cleanUp(t, "other-b")
	b.write("other-b.yml", file("app:1.0")) // of two stacks one may go unasked, and not of one
	awaitReady(t, b, "other-b", 1)
	for _, d := range []*daemon{a, b} {
		h, err := controller.ReadHolder(t.Context(), lab.Client(2), d.owner)
		if _, says := d.get("/readyz"); err != nil || h.ID == "" || says != "acts\n" {
			t.Errorf("%s: %+v %v, says %q", d.owner, h, err, says)
		}
		if _, metrics := d.get("/metrics"); !strings.Contains(metrics, "skep_leader 1") {
			t.Errorf("%s: no skep_leader", d.owner)
		}
	}
	// b claims a's stack, with another image.
	before := versions(t, "owned-a")
	b.write("owned-a.yml", file("app:2.0"))
	await(t, 30*time.Second, "b says whose it is", func() error {
		for _, line := range b.log.lines("held") {
			if detail := fmt.Sprint(line["detail"]); line["stack"] == "owned-a" && line["reason"] == "OtherOwner" &&
				strings.Contains(detail, `"owner-a"`) && strings.Contains(detail, `"owner-b"`) {
				return nil
			}
		}
		return errors.New("it does not")
	})
	b.remove("owned-a.yml") // and lets go of it again: nobody's file is gone but its own
	b.remove("owned-b.yml")
	await(t, 2*time.Minute, "b's stack is removed, whose file is gone", func() error {
		if s := service(t, "owned-b_web"); s != nil {
			return errors.New("it is there")
		}
		return nil
	})
	if now := versions(t, "owned-a"); fmt.Sprint(now) != fmt.Sprint(before) {
		t.Errorf("a's stack was written: %v, now %v", before, now)
	}
	if s := service(t, "owned-a_web"); s == nil || s.Spec.Labels[spec.LabelNamespace] != "owned-a" || s.Spec.Labels["skep.owner"] != "owner-a" {
		t.Errorf("a's service is %+v", s)
	}
	for _, d := range []*daemon{a, b} {
		for _, word := range []string{"its file is gone; ", "Orphaned"} {
			if strings.Contains(d.log.String(), word) {
				t.Errorf("%s tells of an orphan", d.owner)
			}
		}
	}
}
