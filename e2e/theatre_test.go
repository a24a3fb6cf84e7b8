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
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"

	"github.com/skep-io/skep/controller/cli"
	"github.com/skep-io/skep/e2e/lab/swarmlab"
)

const (
	actor     = "rollouts" // the owner of all stacks of a theatre
	stage     = "stage"    // the network that they are all on
	probeRate = 5
	atOnce    = 12 // scenes: more would wait for the machine, and not for Swarm
)

// A theatre is a Swarm of its own where many scenes are played side by side: stacks
// of one directory, looked after by one daemon. It is looked at by one pair of eyes
// for all of them.
type theatre struct {
	t     *testing.T
	lab   *swarmlab.Lab
	specs string
	door  *door
	log   *logbook
	post  *postbox // where skep's messages go
	eyes  []string // a container on each node, on the stacks' network, that probes ask from
	skep  *process
	addr  string      // of its metrics
	tower *watchtower // nil: nobody scrapes them

	mu   sync.Mutex
	view *view
	next chan struct{} // closed when there is a newer view
}

func open(t *testing.T) *theatre {
	t.Helper()
	th := &theatre{t: t, lab: swarmlab.ForTest(t, swarmlab.Options{Managers: 3}), specs: t.TempDir(), log: &logbook{}, post: newPostbox(t), next: make(chan struct{})}
	if err := th.furnish(t.Context()); err != nil {
		t.Fatal(err)
	}
	th.door = newDoor(t, th.lab, 1)
	th.watch()
	return th
}

// furnish loads images and makes what all stacks share.
func (th *theatre) furnish(ctx context.Context) error {
	var all []swarmlab.Image
	for ref, version := range map[string]string{"app:1.0": "v1.0", "app:2.0": "v2.0", "app:3.0": "v3.0", "app:bad": "bad", "app:fragile": "fragile",
		"masungil/my-fastapi-app:1.0": "v1.0"} {
		img, err := th.lab.Web(ctx, ref, "APP_VERSION="+version)
		if err != nil {
			return err
		}
		all = append(all, img)
	}
	sick, err := th.lab.Web(ctx, "masungil/my-fastapi-app:2.0", "APP_SICK=1")
	if err != nil {
		return err
	}
	proxy, err := th.lab.Proxy(ctx, "nginx:latest")
	if err != nil {
		return err
	}
	if err := th.lab.LoadImage(ctx, append(all, sick, proxy)...); err != nil {
		return err
	}
	if _, err := th.lab.Client(0).NetworkCreate(ctx, stage, network.CreateOptions{Driver: "overlay", Attachable: true,
		IPAM: &network.IPAM{Config: []network.IPAMConfig{{Subnet: "10.77.0.0/20"}}}}); err != nil {
		return fmt.Errorf("make the stacks' network: %w", err)
	}
	for i, n := range th.lab.Nodes {
		c, err := th.lab.Client(i).ContainerCreate(ctx, &container.Config{Image: "app:1.0"}, nil,
			&network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{stage: {}}}, nil, "eye")
		if err == nil {
			err = th.lab.Client(i).ContainerStart(ctx, c.ID, container.StartOptions{})
		}
		if err != nil {
			return fmt.Errorf("start what probes ask from on %s: %w", n.Name, err)
		}
		th.eyes = append(th.eyes, c.ID)
	}
	return nil
}

// A process is a daemon that can be killed as the kernel would. Skep is this test's own
// binary under another hat, so that the race detector watches it too.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{}
}

// asSkep has TestMain be skep itself, with the test's arguments as its own.
const asSkep = "SKEP_E2E_BE_SKEP"

func beSkep() {
	if os.Getenv(asSkep) != "" {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		context.AfterFunc(ctx, stop)
		os.Exit(cli.Main(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
}

func (th *theatre) start() {
	th.t.Helper()
	th.addr = freeAddress(th.t)
	th.skep = startSkep(th.t, th.lab, th.log, "run", "--host", "unix://"+th.door.socket, "--specs", th.specs, "--owner", actor,
		"--listen", th.addr, "--log-format", "json", "--resync", "10s", "--notify", th.post.URL)
	if th.tower != nil {
		th.tower.scrape(th.addr)
	}
}

// freeAddress is one that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = free.Close()
	return free.Addr().String()
}

// startSkep runs skep until the test ends at the latest.
func startSkep(t *testing.T, lab *swarmlab.Lab, out io.Writer, args ...string) *process {
	t.Helper()
	p, err := launch(lab, out, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.signal(syscall.SIGKILL) })
	return p
}

// launch runs skep until this process ends at the latest.
func launch(lab *swarmlab.Lab, out io.Writer, args ...string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find skep: %w", err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(lab.Env(0), asSkep+"=1", "DOCKER_HOST=")
	cmd.Stdout, cmd.Stderr = out, out
	return begin(cmd, syscall.SIGKILL)
}

// begin starts a program, which gets a signal when this process ends.
func begin(cmd *exec.Cmd, atTheEnd syscall.Signal) (*process, error) {
	p := &process{cmd: cmd, ended: make(chan struct{})}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = atTheEnd
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
		return nil, fmt.Errorf("start %s: %w", filepath.Base(cmd.Path), err)
	}
	return p, nil
}

func (p *process) signal(sig syscall.Signal) {
	_ = p.cmd.Process.Signal(sig) // it may have ended
	<-p.ended
}

// passes tells how many passes skep made, how long they took on average, and how many
// requests that were.
func (th *theatre) passes() string {
	resp, err := http.Get("http://" + th.addr + "/metrics")
	if err != nil {
		return err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	sums := map[string]float64{}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		name, _, _ = strings.Cut(name, "{")
		if v, err := strconv.ParseFloat(value, 64); err == nil {
			sums[name] += v
		}
	}
	mean := func(name string) time.Duration {
		return time.Duration(sums[name+"_sum"] / max(sums[name+"_count"], 1) * float64(time.Second)).Round(time.Millisecond)
	}
	return fmt.Sprintf("%.0f passes, %s each; %.0f requests, %s each; %.0fs of CPU", sums["skep_reconcile_duration_seconds_count"], mean("skep_reconcile_duration_seconds"),
		sums["skep_docker_requests_total"], mean("skep_docker_request_duration_seconds"), sums["process_cpu_seconds_total"])
}

// close ends the daemon in good order, and says how that went.
func (th *theatre) close() {
	th.t.Helper()
	th.skep.signal(syscall.SIGTERM)
	if code := th.skep.cmd.ProcessState.ExitCode(); code != 0 {
		th.t.Errorf("skep ended with %d", code)
	}
	for _, bad := range []string{"DATA RACE", "panic:", `"level":"panic"`} {
		if strings.Contains(th.log.String(), bad) {
			th.t.Errorf("skep's log has %q", bad)
		}
	}
}

// write puts a file below the specs directory in one step.
func (th *theatre) write(name, text string) error {
	tmp := filepath.Join(th.specs, "."+name+".tmp")
	if err := os.WriteFile(tmp, []byte(text), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(th.specs, name))
}

// A view is what the Swarm had at one moment.
type view struct {
	at       time.Time
	services map[string]swarm.Service // by name
	tasks    map[string][]swarm.Task  // by service, those that are wanted
	records  map[string][]memo        // by stack, oldest first
}

// A memo is a release as its record's labels tell it.
type memo struct {
	number                 int
	phase, reason, message string
	started, ended         time.Time
	back                   bool // all that was to go back has
	correcting             bool // something was written to put drift right, and is under way
}

func (v *view) release(stack string, n int) memo {
	for _, m := range v.records[stack] {
		if m.number == n {
			return m
		}
	}
	return memo{}
}

func (v *view) newest(stack string) memo {
	if all := v.records[stack]; len(all) > 0 {
		return all[len(all)-1]
	}
	return memo{number: -1, phase: "not there"}
}

// versions are those of a stack's services, which every write moves.
func (v *view) versions(stack string) map[string]uint64 {
	all := map[string]uint64{}
	for name, s := range v.services {
		if strings.HasPrefix(name, stack+"_") {
			all[name] = s.Version.Index
		}
	}
	return all
}

// runs is nil where a service is n tasks that run, all of that image, and no other
// is wanted.
func (v *view) runs(service, image string, n int) error {
	var other []string
	good := 0
	for _, t := range v.tasks[service] {
		if t.Status.State == swarm.TaskStateRunning && t.Spec.ContainerSpec.Image == image {
			good++
		} else {
			other = append(other, fmt.Sprintf("%s %s %s", t.Spec.ContainerSpec.Image, t.Status.State, t.Status.Err))
		}
	}
	if good != n || len(other) > 0 {
		return fmt.Errorf("%s: %d of %d run %s; besides %v", service, good, n, image, other)
	}
	return nil
}

// watch looks at the Swarm about once a second until the test ends.
func (th *theatre) watch() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			if v, err := th.look(ctx); err == nil {
				th.mu.Lock()
				th.view = v
				close(th.next)
				th.next = make(chan struct{})
				th.mu.Unlock()
			}
			select {
			case <-ctx.Done():
			case <-time.After(750 * time.Millisecond):
			}
		}
	}()
	th.t.Cleanup(func() { cancel(); <-done })
}

func (th *theatre) look(ctx context.Context) (*view, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	c := th.lab.Client(th.door.node())
	v := &view{at: time.Now(), services: map[string]swarm.Service{}, tasks: map[string][]swarm.Task{}, records: map[string][]memo{}}
	services, err := c.ServiceList(ctx, swarm.ServiceListOptions{})
	if err != nil {
		return nil, err
	}
	names := map[string]string{}
	for _, s := range services {
		v.services[s.Spec.Name], names[s.ID] = s, s.Spec.Name
	}
	tasks, err := c.TaskList(ctx, swarm.TaskListOptions{Filters: filters.NewArgs(filters.Arg("desired-state", "running"))})
	if err != nil {
		return nil, err
	}
	for _, t := range tasks {
		v.tasks[names[t.ServiceID]] = append(v.tasks[names[t.ServiceID]], t)
	}
	configs, err := c.ConfigList(ctx, swarm.ConfigListOptions{Filters: filters.NewArgs(filters.Arg("label", "skep.kind=release"))})
	if err != nil {
		return nil, err
	}
	for _, c := range configs {
		l := c.Spec.Labels
		m := memo{phase: l["skep.phase"], reason: l["skep.reason"], message: l["skep.message"], back: l["skep.rolled-back"] != "", correcting: l["skep.corrected"] != ""}
		m.number, _ = strconv.Atoi(l["skep.release"])
		m.started, _ = time.Parse(time.RFC3339Nano, l["skep.started"])
		m.ended, _ = time.Parse(time.RFC3339Nano, l["skep.ended"])
		v.records[l["skep.stack"]] = append(v.records[l["skep.stack"]], m)
	}
	for _, all := range v.records {
		slices.SortFunc(all, func(a, b memo) int { return a.number - b.number })
	}
	return v, nil
}

// now is the newest view; changed is closed when there is a newer one.
func (th *theatre) now() (v *view, changed <-chan struct{}) {
	th.mu.Lock()
	defer th.mu.Unlock()
	return th.view, th.next
}

// leader is the node that leads, and what it is called.
func (th *theatre) leader(ctx context.Context, ask int) (int, error) {
	nodes, err := th.lab.Client(ask).NodeList(ctx, swarm.NodeListOptions{})
	if err != nil {
		return -1, err
	}
	for _, n := range nodes {
		if n.ManagerStatus != nil && n.ManagerStatus.Leader {
			return slices.IndexFunc(th.lab.Nodes, func(own *swarmlab.Node) bool { return own.Name == n.Description.Hostname }), nil
		}
	}
	return -1, errors.New("nobody leads")
}

// A scene is one stack's part in a play. Its methods end it where something is not
// as it has to be.
type scene struct {
	*theatre
	stack string
	told  row
	asks  *swarmlab.Probe
	ended bool
}

// A row is what the table tells of a scene.
type row struct {
	stack               string
	seen, decided, back time.Time
	reason              string
	probe               *swarmlab.ProbeResult
	note                string
}

func (s *scene) fail(format string, args ...any) {
	s.t.Helper()
	s.ended = true
	s.t.Errorf("%s: %s", s.stack, fmt.Sprintf(format, args...))
	if v, _ := s.now(); v != nil && v.newest(s.stack).number > 0 {
		var out bytes.Buffer
		cli.Main(s.t.Context(), []string{"history", s.stack, fmt.Sprint(v.newest(s.stack).number), "--host", s.lab.DockerHost(s.door.node()), "--owner", actor}, strings.NewReader(""), &out, &out)
		s.t.Logf("%s: its newest release:\n%s", s.stack, &out)
	}
	tasks, _ := s.lab.Docker(s.t.Context(), s.door.node(), "stack", "ps", "--no-trunc", s.stack, "--format",
		"{{.Name}} {{.ID}} {{.Image}} {{.Node}} {{.DesiredState}} {{.CurrentState}} {{.Error}}")
	s.t.Logf("%s: its tasks:\n%s", s.stack, tasks)
	runtime.Goexit()
}

func (s *scene) try(err error) {
	s.t.Helper()
	if err != nil {
		s.fail("%v", err)
	}
}

// say writes the stack's file.
func (s *scene) say(file string) {
	s.t.Helper()
	s.try(s.write(s.stack+".yml", file))
}

// await waits until f returns nil for what there is to see.
func (s *scene) await(limit time.Duration, what string, f func(*view) error) *view {
	s.t.Helper()
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	for {
		v, changed := s.now()
		err := errors.New("nothing was seen of the Swarm")
		if v != nil {
			if err = f(v); err == nil {
				return v
			}
		}
		select {
		case <-deadline.C:
			s.fail("%s: not within %s: %v (newest release: %+v)", what, limit, err, v.newest(s.stack))
		case <-changed:
		}
	}
}

// phase waits until a release is in a phase.
func (s *scene) phase(limit time.Duration, release int, phase string) memo {
	s.t.Helper()
	v := s.await(limit, fmt.Sprintf("release %d is %s", release, phase), func(v *view) error {
		m := v.release(s.stack, release)
		if m.phase != phase {
			return fmt.Errorf("it is %q: %s", m.phase, m.message)
		}
		return nil
	})
	return v.release(s.stack, release)
}

// running waits until all services are of their images, and nothing else runs.
func (s *scene) running(limit time.Duration, want map[string]string, n int) *view {
	s.t.Helper()
	return s.await(limit, fmt.Sprintf("%v run", want), func(v *view) error {
		for _, name := range slices.Sorted(maps.Keys(want)) {
			if err := v.runs(s.stack+"_"+name, want[name], n); err != nil {
				return err
			}
		}
		return nil
	})
}

// probe asks a service's tasks from now on, as a virtual IP would have it done: a
// connection that one of them refuses goes to the next.
func (s *scene) probe(service string) {
	s.t.Helper()
	eye := s.door.node()
	s.probeFrom(eye, s.eyes[eye], fmt.Sprintf("http://tasks.%s_%s:8000/", s.stack, service))
}

func (s *scene) probeFrom(node int, container, url string) {
	s.t.Helper()
	p, err := s.lab.ProbeAt(s.t.Context(), probeRate, 20*time.Second, node, container, url)
	s.try(err)
	s.asks = p
}

// answers ends the probe, and says whether all was answered.
func (s *scene) answers(all bool) {
	s.t.Helper()
	res, err := s.asks.Stop()
	s.try(err)
	s.told.probe = &res
	if res.Requests < probeRate*5 {
		s.fail("the probe asked %d times only", res.Requests)
	}
	if all && res.Failed > 0 {
		s.fail("%d of %d requests failed: %v", res.Failed, res.Requests, res.Errors)
	}
}

// bad is the story of a release that fails: it is seen, decided, and all that it
// changed is as it was.
func (s *scene) bad(limit time.Duration, release int, old map[string]string, n int) memo {
	s.t.Helper()
	m := s.phase(limit, release, "Failed")
	v := s.running(limit, old, n)
	s.told.seen, s.told.decided, s.told.back, s.told.reason = m.started, m.ended, v.at, m.reason
	s.t.Logf("%s: %s: %s", s.stack, m.reason, m.message)
	s.await(limit, "the rollback has settled", func(v *view) error {
		if !v.release(s.stack, release).back {
			return errors.New("it has not")
		}
		return nil
	})
	return m
}

// play has the scenes do their part side by side, those that did not fail before.
func play(scenes []*scene, part func(*scene)) {
	var all sync.WaitGroup
	room := make(chan struct{}, atOnce)
	for _, s := range scenes {
		if s.ended {
			continue
		}
		room <- struct{}{}
		all.Go(func() {
			defer func() { <-room }()
			part(s)
		})
	}
	all.Wait()
}
