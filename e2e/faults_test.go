package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/swarm"

	"github.com/skep-io/skep/e2e/faults"
	"github.com/skep-io/skep/e2e/lab/swarmlab"
	"github.com/skep-io/skep/spec"
)

const (
	rigOwner    = "faults"
	rigReplicas = 2
	rigQuiet    = 30 * time.Second
)

// A rig is a Swarm of its own, and a daemon that reaches it through a proxy which does
// to it what an ordeal asks for. Stacks of one rig go through theirs side by side.
type rig struct {
	t     *testing.T
	lab   *swarmlab.Lab
	proxy *faults.Proxy
	specs string
	log   *logbook

	killing sync.Mutex // one at a time kills the daemon and starts another one
	mu      sync.Mutex
	skep    *process
	addr    string
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, lab: swarmlab.ForTest(t, swarmlab.Options{Managers: 3}), specs: t.TempDir(), log: &logbook{}}
	img, err := r.lab.Web(t.Context(), "app:1.0", "APP_VERSION=v1.0")
	if err == nil {
		err = r.lab.LoadImage(t.Context(), img)
	}
	if err != nil {
		t.Fatal(err)
	}
	if r.proxy, err = faults.Listen(faults.Options{Engine: r.lab.DockerHost(1)}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.proxy.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("skep's log:\n%s", r.log)
		}
	})
	r.start()
	t.Cleanup(func() { r.signal(syscall.SIGKILL) })
	return r
}

// start starts the daemon: this binary under another hat, as theatre.start has it.
func (r *rig) start() {
	self, err := os.Executable()
	if err != nil {
		r.t.Error(err)
		return
	}
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Error(err)
		return
	}
	addr := free.Addr().String()
	_ = free.Close()
	p := &process{ended: make(chan struct{})}
	p.cmd = exec.Command(self, "run", "--host", r.proxy.Host(), "--specs", r.specs, "--owner", rigOwner,
		"--listen", addr, "--log-format", "json", "--resync", "10s")
	p.cmd.Env = append(r.lab.Env(0), asSkep+"=1", "DOCKER_HOST=")
	p.cmd.Stdout, p.cmd.Stderr = r.log, r.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		defer close(p.ended)
		runtime.LockOSThread() // the parent whose death is meant is a thread
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		r.t.Errorf("start skep: %v", err)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.skep, r.addr = p, addr
}

// signal sends one to the daemon and waits for its end.
func (r *rig) signal(sig syscall.Signal) {
	r.mu.Lock()
	p := r.skep
	r.mu.Unlock()
	p.signal(sig)
}

// metric is the sum of a metric of the daemon's, by its name.
func (r *rig) metric(name string) float64 {
	r.mu.Lock()
	addr := r.addr
	r.mu.Unlock()
	resp, err := http.Get("http://" + addr + "/metrics")
	if err != nil {
		return -1
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return -1
	}
	sum := 0.0
	for line := range strings.Lines(string(text)) {
		series, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		series, _, _ = strings.Cut(series, "{")
		if v, err := strconv.ParseFloat(value, 64); err == nil && series == name {
			sum += v
		}
	}
	return sum
}

// A victim is a stack of a rig: one service, one config, and a secret.
type victim struct {
	*rig
	name string
	age  int // changes so far
}

// change gives the stack's file its next version: a new config and a new secret, and new
// tasks that have both.
func (v *victim) change() {
	v.age++
	text := fmt.Sprintf(`x-skep: {images: as-written, rollout: {bake: 1s, guard: 0s}}
services:
  web:
    image: app:1.0
    environment: {GENERATION: "%d"}
    configs: [conf]
    secrets: [key]
    stop_grace_period: 1s
    deploy: {replicas: %d, update_config: {parallelism: 0, monitor: 1s}}
configs:
  conf: {file: ./%s/conf}
secrets:
  key: {file: ./%s/key}
`, v.age, rigReplicas, v.name, v.name)
	dir := filepath.Join(v.specs, v.name)
	err := os.MkdirAll(dir, 0o755)
	for file, content := range map[string]string{"conf": "conf", "key": "key"} {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, file), fmt.Appendf(nil, "%s %d\n", content, v.age), 0o644))
	}
	tmp := filepath.Join(v.specs, "."+v.name+".tmp")
	err = errors.Join(err, os.WriteFile(tmp, []byte(text), 0o644))
	if err = errors.Join(err, os.Rename(tmp, filepath.Join(v.specs, v.name+".yml"))); err != nil {
		v.t.Errorf("change %s: %v", v.name, err)
	}
}

// converged is nil when the newest version runs, healthy, and nothing else of the stack.
func (v *victim) converged(ctx context.Context) error {
	res, err := v.status(ctx)
	if err != nil {
		return err
	}
	tasks, err := v.tasks(ctx)
	if err != nil {
		return err
	}
	up := map[int]bool{} // slots: where its leader changes in the middle of an update, Swarm may run two tasks in one
	for _, t := range tasks {
		if t.DesiredState == swarm.TaskStateRunning && t.Status.State == swarm.TaskStateRunning {
			up[t.Slot] = true
			if generation(t) != v.age {
				return fmt.Errorf("a task of version %d runs, want %d", generation(t), v.age)
			}
		}
	}
	if len(up) != rigReplicas || res != "" {
		return fmt.Errorf("%d slots run; %s", len(up), res)
	}
	return nil
}

// status tells why the stack is not ready; "" where it is.
func (v *victim) status(ctx context.Context) (string, error) {
	res, err := reconcileStatus(ctx, v.lab, rigOwner, v.name)
	switch {
	case err != nil:
		return "", err
	case res.Release == nil:
		return "no release yet", nil
	case string(res.Release.Phase) != "Healthy" || !ready(res):
		return fmt.Sprintf("release %d is %s: %s", res.Release.Number, res.Release.Phase, res.Message), nil
	}
	return "", nil
}

func (v *victim) tasks(ctx context.Context) ([]swarm.Task, error) {
	list, err := v.lab.Client(0).TaskList(ctx, swarm.TaskListOptions{Filters: filters.NewArgs(filters.Arg("service", v.name+"_web"))})
	if err != nil {
		return nil, fmt.Errorf("list the tasks of %s: %w", v.name, err)
	}
	return list, nil
}

func generation(t swarm.Task) int {
	for _, kv := range t.Spec.ContainerSpec.Env {
		if n, ok := strings.CutPrefix(kv, "GENERATION="); ok {
			age, _ := strconv.Atoi(n)
			return age
		}
	}
	return -1
}

// survives waits until the stack has converged, and says what must hold then: no task
// was replaced twice, and the Swarm has just the objects that the file and the releases
// kept name.
func (v *victim) survives(limit time.Duration) {
	ctx, cancel := context.WithTimeout(v.t.Context(), limit)
	defer cancel()
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for err := v.converged(ctx); err != nil; err = v.converged(ctx) {
		select {
		case <-ctx.Done():
			v.t.Errorf("%s has not converged within %s: %v", v.name, limit, err)
			return
		case <-tick.C:
		}
	}
	tasks, err := v.tasks(v.t.Context())
	if err != nil {
		v.t.Error(err)
		return
	}
	made := 0
	for _, t := range tasks {
		if generation(t) == v.age {
			made++
		}
	}
	if made != rigReplicas {
		v.t.Errorf("%s: %d tasks of version %d were made, %d are due", v.name, made, v.age, rigReplicas)
	}
	v.exact()
}

// exact says that of each kind there is what there should be: a config and a secret for
// each version, as every release is kept.
func (v *victim) exact() {
	ctx := v.t.Context()
	of := filters.NewArgs(filters.Arg("label", spec.LabelNamespace+"="+v.name))
	got := map[string]int{}
	services, err := v.lab.Client(0).ServiceList(ctx, swarm.ServiceListOptions{Filters: of})
	configs, err2 := v.lab.Client(0).ConfigList(ctx, swarm.ConfigListOptions{})
	secrets, err3 := v.lab.Client(0).SecretList(ctx, swarm.SecretListOptions{Filters: of})
	if err := errors.Join(err, err2, err3); err != nil {
		v.t.Error(err)
		return
	}
	got["services"], got["secrets"] = len(services), len(secrets)
	for _, c := range configs {
		switch {
		case c.Spec.Labels[spec.LabelNamespace] == v.name:
			got["configs"]++
		case strings.HasPrefix(c.Spec.Name, "skep-release-"+v.name+"-"):
			got["releases"]++
		}
	}
	if want := map[string]int{"services": 1, "configs": v.age, "secrets": v.age, "releases": v.age}; !maps.Equal(got, want) {
		v.t.Errorf("%s: there are %v, want %v", v.name, got, want)
	}
}

func (r *rig) victims(names ...string) []*victim {
	var all []*victim
	for _, n := range names {
		all = append(all, &victim{rig: r, name: n})
	}
	return all
}

// together changes stacks at once and waits until all have come through.
func together(all []*victim, limit time.Duration) {
	for _, v := range all {
		v.change()
	}
	var wg sync.WaitGroup
	for _, v := range all {
		wg.Go(func() { v.survives(limit) })
	}
	wg.Wait()
}

// points are the kinds of writes that a change of a victim takes.
var points = []string{"ConfigCreate", "SecretCreate", "ServiceUpdate", "ConfigUpdate"}

// apiFaults are the six ways for a call to go wrong; slow is as slow as an engine gets.
func apiFaults() []faults.Fault {
	return []faults.Fault{
		faults.Status(http.StatusInternalServerError, "rpc error: code = Unknown desc = it is broken"), faults.NoManager(), faults.Conflict(),
		faults.Delay(20 * time.Second), faults.DropBefore(), faults.CutAfter(),
	}
}

// callFails strikes the nth of all pairs of an API fault and a kind of write, at the
// next change of a victim.
func (v *victim) callFails(n int) {
	all := apiFaults()
	v.proxy.Add(faults.Rule{Operation: points[n/len(all)%len(points)], Object: v.objects(), Fault: all[n%len(all)]})
}

// objects matches the names of what is written of a victim. What is written by ID is
// found by what the ID means today.
func (v *victim) objects() *regexp.Regexp {
	return regexp.MustCompile("^(" + regexp.QuoteMeta(v.name) + "_|skep-release-" + regexp.QuoteMeta(v.name) + "-)")
}

// killed kills the daemon before, or after, the nth kind of write of the victim's next
// change, and starts another one.
func (v *victim) killed(n int) {
	strike := func(faults.Request) {
		v.killing.Lock()
		defer v.killing.Unlock()
		v.signal(syscall.SIGKILL)
		v.start()
	}
	fault := faults.Before(strike)
	if n%2 == 1 {
		fault = faults.After(strike)
	}
	v.proxy.Add(faults.Rule{Operation: points[n/2%len(points)], Object: v.objects(), Fault: fault})
}

// streamFails does to the event stream what it can suffer, and changes a service by
// hand: that is seen all the same, by the next stream or by a resync.
func (r *rig) streamFails(n int, v *victim) {
	await(r.t, time.Minute, "a stream is open", func() error {
		if r.proxy.Streams() == 0 {
			return errors.New("none is")
		}
		return nil
	})
	r.idle(2 * time.Second) // what is asked for in any case would see it too
	[]func(*faults.Proxy){(*faults.Proxy).CutStreams, (*faults.Proxy).SilenceStreams, (*faults.Proxy).HalfOpenStreams}[n%3](r.proxy)
	s := r.service(v.name + "_web")
	if s == nil {
		return
	}
	more := uint64(rigReplicas + 1)
	s.Spec.Mode.Replicated.Replicas = &more
	if _, err := r.lab.Client(0).ServiceUpdate(r.t.Context(), s.ID, s.Version, s.Spec, swarm.ServiceUpdateOptions{}); err != nil {
		r.t.Errorf("scale %s by hand: %v", v.name, err)
		return
	}
	began := time.Now()
	await(r.t, 40*time.Second, v.name+" is put right", func() error {
		if s := r.service(v.name + "_web"); s == nil || *s.Spec.Mode.Replicated.Replicas != rigReplicas {
			return errors.New("it is not")
		}
		return nil
	})
	r.t.Logf("stream fault %d: the drift was put right after %s", n, time.Since(began).Round(100*time.Millisecond))
}

// idle waits until nothing was asked of the engine for so long.
func (r *rig) idle(d time.Duration) {
	n, since := -1, time.Now()
	await(r.t, 30*time.Second, "the daemon has nothing to ask", func() error {
		if now := len(r.proxy.Recorded()); now != n {
			n, since = now, time.Now()
		}
		if time.Since(since) < d {
			return errors.New("it has")
		}
		return nil
	})
}

func (r *rig) service(name string) *swarm.Service {
	list, err := r.lab.Client(0).ServiceList(r.t.Context(), swarm.ServiceListOptions{Filters: filters.NewArgs(filters.Arg("name", name))})
	if err != nil || len(list) != 1 {
		r.t.Errorf("find service %s: %v", name, err)
		return nil
	}
	return &list[0]
}

// leaderDies kills the engine of the manager that leads while stacks change, and starts
// it again when all are well without it.
func (r *rig) leaderDies(all []*victim) {
	ctx := r.t.Context()
	nodes, err := r.lab.Client(0).NodeList(ctx, swarm.NodeListOptions{})
	if err != nil {
		r.t.Error(err)
		return
	}
	leader := slices.IndexFunc(r.lab.Nodes, func(own *swarmlab.Node) bool {
		return slices.ContainsFunc(nodes, func(n swarm.Node) bool {
			return n.Description.Hostname == own.Name && n.ManagerStatus != nil && n.ManagerStatus.Leader
		})
	})
	if leader < 0 {
		r.t.Error("nobody leads")
		return
	}
	for _, v := range all {
		v.change()
	}
	if err := r.lab.KillEngine(ctx, leader); err != nil {
		r.t.Error(err)
		return
	}
	began := time.Now()
	// What the daemon is connected to, or what the test looks at, may have been it.
	if err := r.lab.StartEngine(ctx, leader); err != nil {
		r.t.Error(err)
		return
	}
	var wg sync.WaitGroup
	for _, v := range all {
		wg.Go(func() { v.comesThrough(2 * time.Minute) })
	}
	wg.Wait()
	r.t.Logf("the leader's engine was killed: all is well after %s", time.Since(began).Round(100*time.Millisecond))
}

// comesThrough is survives where an engine died: its tasks are made anew, by the Swarm.
func (v *victim) comesThrough(limit time.Duration) {
	ctx, cancel := context.WithTimeout(v.t.Context(), limit)
	defer cancel()
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for err := v.converged(ctx); err != nil; err = v.converged(ctx) {
		select {
		case <-ctx.Done():
			v.t.Errorf("%s has not converged within %s: %v", v.name, limit, err)
			return
		case <-tick.C:
		}
	}
	v.exact()
}

// quiet says that nothing is written for a while, but what the daemon writes of itself.
func (r *rig) quiet(d time.Duration) {
	r.proxy.Clear()
	r.proxy.Forget()
	timer := time.NewTimer(d)
	defer timer.Stop()
	<-timer.C
	for _, q := range r.proxy.Writes() {
		if !strings.HasPrefix(q.Object, "skep-lease-") && !strings.HasPrefix(q.Object, "skep-report-") {
			r.t.Errorf("written in a steady state: %+v", q)
		}
	}
}

// TestFaults does to a daemon on a real Swarm what can be done to it, a few of each
// kind side by side, and looks at what became of it at the end.
func TestFaults(t *testing.T) {
	r := newRig(t)
	began := time.Now()
	step := func(what string) { t.Logf("%s after %s", what, time.Since(began).Round(100*time.Millisecond)) }
	all := r.victims("api0", "api1", "api2", "api3", "api4", "api5", "kill0", "kill1", "kill2")
	api, kills := all[:6], all[6:]
	together(all, 2*time.Minute)
	step("all stacks are there")

	for i, v := range kills {
		v.killed(2*i + i%2) // before, after, before: each at another kind of write
	}
	together(kills, 2*time.Minute)
	if got := r.proxy.Struck(); got != len(kills) {
		t.Errorf("%d kills struck, want %d", got, len(kills))
	}
	r.proxy.Clear()
	step("skep was killed three times")
	goroutines, memory := r.metric("go_goroutines"), r.metric("process_resident_memory_bytes")

	for i, v := range api {
		v.callFails(i + len(apiFaults())*(i%3)) // each fault, at three kinds of write
	}
	together(api, 2*time.Minute)
	if got := r.proxy.Struck(); got != len(api) {
		t.Errorf("%d faults struck, want %d", got, len(api))
	}
	r.proxy.Clear()
	step("each API fault struck")

	for n, v := range kills {
		r.streamFails(n, v)
	}
	step("the event stream failed three times")

	r.leaderDies(all[:3])
	step("the leader's engine was killed")

	r.quiet(rigQuiet)
	for _, v := range all {
		if err := v.converged(t.Context()); err != nil {
			t.Errorf("%s: %v", v.name, err)
		}
	}
	if now := r.metric("go_goroutines"); now > goroutines+20 {
		t.Errorf("%.0f goroutines grew to %.0f", goroutines, now)
	}
	if now := r.metric("process_resident_memory_bytes"); now > 1.5*memory+64<<20 {
		t.Errorf("%.0f MB grew to %.0f", memory/1e6, now/1e6)
	}
	stop := time.Now()
	r.signal(syscall.SIGTERM)
	if took := time.Since(stop); took > 5*time.Second || r.skep.cmd.ProcessState.ExitCode() != 0 {
		t.Errorf("it stopped after %s with %d", took, r.skep.cmd.ProcessState.ExitCode())
	}
	if bytes.Contains([]byte(r.log.String()), []byte("DATA RACE")) {
		t.Error("skep has a data race")
	}
	step("all is quiet")
}
