//go:build linux

package swarmlab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"
	"go.uber.org/goleak"
)

// ownerEnv makes this test binary an owner of a lab, to be killed by a test.
const ownerEnv = "SWARMLAB_TEST_OWNER"

func TestMain(m *testing.M) {
	if os.Getenv(ownerEnv) != "" {
		l, err := Up(context.Background(), Options{})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(l.Dir)
		select {}
	}
	goleak.VerifyTestMain(m)
}

// eventually waits until f is content; what it says last is the failure.
func eventually(t *testing.T, what string, f func() error) {
	t.Helper()
	// A Swarm whose leader died may leave a task assigned for minutes on a busy machine.
	if err := wait(t.Context(), 5*time.Minute, what, f); err != nil {
		t.Fatal(err)
	}
}

// gone fails the test for what is left of a lab on this machine.
func gone(t *testing.T, s *state) {
	t.Helper()
	for _, p := range s.holders() {
		if p.alive() {
			t.Errorf("holder %d still runs", p.PID)
		}
	}
	if _, err := os.Stat(s.Dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("directory %s is still there (%v)", s.Dir, err)
	}
	if _, err := net.InterfaceByName(uplink(s.ID)); err == nil {
		t.Errorf("interface %s is still there", uplink(s.ID))
	}
	left, err := mounts(func(point, _ string) bool { return strings.Contains(point, s.Dir) })
	if err != nil || len(left) > 0 {
		t.Errorf("mounts are left: %v (%v)", left, err)
	}
	roots, err := mounts(func(_, fstype string) bool { return fstype == "cgroup" || fstype == "cgroup2" })
	if err != nil || len(roots) == 0 {
		t.Fatalf("find cgroups: %v, %d hierarchies", err, len(roots))
	}
	for _, root := range roots {
		if _, err := os.Stat(filepath.Join(root, cgroupName(s.ID))); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("cgroup %s is left in %s (%v)", cgroupName(s.ID), root, err)
		}
	}
	if found := processesOf(t, s.Dir); len(found) > 0 {
		t.Errorf("processes are left: %q", found)
	}
}

// processesOf lists processes whose command names dir: engines, containerds,
// shims and programs of the lab in it.
func processesOf(t *testing.T, dir string) []string {
	t.Helper()
	all, err := pids()
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, pid := range all {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err == nil && strings.Contains(string(b), dir) {
			found = append(found, strings.ReplaceAll(string(b), "\x00", " "))
		}
	}
	return found
}

// web makes an overlay network and a service of the web application on it.
func web(t *testing.T, l *Lab, name string, replicas uint64) {
	t.Helper()
	ctx := t.Context()
	img, err := l.Web(ctx, "web:1", "APP_VERSION=v1")
	if err != nil {
		t.Fatal(err)
	}
	if err := l.LoadImage(ctx, img); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Client(0).NetworkCreate(ctx, name, network.CreateOptions{Driver: "overlay"}); err != nil {
		t.Fatal(err)
	}
	_, err = l.Client(0).ServiceCreate(ctx, swarm.ServiceSpec{
		Annotations: swarm.Annotations{Name: name},
		TaskTemplate: swarm.TaskSpec{
			ContainerSpec: &swarm.ContainerSpec{Image: "web:1", Healthcheck: &container.HealthConfig{
				Test: []string{"CMD", "curl", "-f", "http://localhost:8000/healthz"}, Interval: 500 * time.Millisecond, Timeout: 5 * time.Second, Retries: 3,
			}},
			Placement: &swarm.Placement{MaxReplicas: 1},
			Networks:  []swarm.NetworkAttachmentConfig{{Target: name}},
		},
		Mode:         swarm.ServiceMode{Replicated: &swarm.ReplicatedService{Replicas: &replicas}},
		EndpointSpec: &swarm.EndpointSpec{Ports: []swarm.PortConfig{{TargetPort: 8000, PublishedPort: 8000, PublishMode: swarm.PortConfigPublishModeHost}}},
	}, swarm.ServiceCreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

// running waits until a service runs want tasks on nodes that are ready.
func running(t *testing.T, l *Lab, asked int, name string, want uint64) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d tasks of %s", want, name), func() error { return runs(t.Context(), l, asked, name, want) })
}

// runs is nil when node asked's engine knows of want running tasks of a service.
func runs(ctx context.Context, l *Lab, asked int, name string, want uint64) error {
	all, err := l.Client(asked).ServiceList(ctx, swarm.ServiceListOptions{Status: true, Filters: filters.NewArgs(filters.Arg("name", name))})
	if err != nil {
		return err
	}
	if len(all) != 1 || all[0].ServiceStatus == nil || all[0].ServiceStatus.RunningTasks != want {
		return errors.New("it has these:\n" + tasksOf(ctx, l, asked, name))
	}
	return nil
}

// recovered waits until a service runs want tasks although node i's engine was ended
// under it. Now and then, on a busy machine, Swarm leaves a task
// assigned to such a node for minutes; like an operator, it then starts that engine
// once more, and fails only if that does not help.
func recovered(t *testing.T, l *Lab, i int, name string, want uint64) {
	t.Helper()
	asked := (i + 1) % len(l.Nodes)
	err := wait(t.Context(), 2*time.Minute, name, func() error { return runs(t.Context(), l, asked, name, want) })
	if err == nil {
		return
	}
	t.Logf("%s's engine is started once more: %v\nthe end of its log:\n%s", l.Nodes[i].Name, err, tail(l.Log(i), 40))
	if err := l.StopEngine(t.Context(), i); err != nil {
		t.Fatal(err)
	}
	if err := l.StartEngine(t.Context(), i); err != nil {
		t.Fatal(err)
	}
	running(t, l, asked, name, want)
}

// tasksOf tells every task of a service, a line each.
func tasksOf(ctx context.Context, l *Lab, asked int, name string) string {
	tasks, err := l.Client(asked).TaskList(ctx, swarm.TaskListOptions{Filters: filters.NewArgs(filters.Arg("service", name))})
	if err != nil {
		return err.Error()
	}
	var b strings.Builder
	for _, k := range tasks {
		fmt.Fprintf(&b, "%s on %s: %s (wanted %s) since %s, %s %s\n", k.ID, k.NodeID, k.Status.State, k.DesiredState,
			k.Status.Timestamp.Format(time.TimeOnly), k.Status.Message, k.Status.Err)
	}
	return b.String()
}

// containerOf returns the running container of a service on node i.
func containerOf(t *testing.T, l *Lab, i int, service string) string {
	t.Helper()
	all, err := l.Client(i).ContainerList(t.Context(), container.ListOptions{Filters: filters.NewArgs(filters.Arg("label", "com.docker.swarm.service.name="+service))})
	if err != nil || len(all) != 1 {
		t.Fatalf("containers of %s on node %d: %v, %v", service, i, all, err)
	}
	return all[0].ID
}

// nodeState waits until node i's engine, asked, calls a node by what.
func nodeState(t *testing.T, l *Lab, asked int, name string, want swarm.NodeState) {
	t.Helper()
	eventually(t, name+" to be "+string(want), func() error {
		all, err := l.Client(asked).NodeList(t.Context(), swarm.NodeListOptions{})
		if err != nil {
			return err
		}
		for _, n := range all {
			if n.Description.Hostname == name && n.Status.State == want {
				return nil
			}
		}
		return errors.New("it is not")
	})
}

func TestThreeManagers(t *testing.T) {
	l := ForTest(t, Options{Managers: 3})
	ctx := t.Context()
	s := l.state
	web(t, l, "shop", 3)
	running(t, l, 0, "shop", 3)

	t.Run("tasks find each other across nodes by name", func(t *testing.T) {
		for i := range l.Nodes {
			p, err := l.Probe(ctx, i, containerOf(t, l, i, "shop"), "http://tasks.shop:8000/")
			if err != nil {
				t.Fatal(err)
			}
			// As many as it takes to meet each of three, but for one chance in 10^8.
			<-time.After(2 * time.Second)
			r, err := p.Stop()
			if err != nil {
				t.Fatal(err)
			}
			if r.Failed > 0 || r.Requests < 20*2 || len(r.Hosts) != 3 || r.Versions["v1"] != r.Requests || r.LongestGap <= 0 {
				t.Errorf("from %s: %+v", l.Nodes[i].Name, r)
			}
		}
	})

	t.Run("host-mode ports answer this machine and the hosts", func(t *testing.T) {
		url := fmt.Sprintf("http://%s:8000/", l.Nodes[2].Address)
		c := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
		resp, err := c.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s answered %s", url, resp.Status)
		}
		if said, err := output(l.Command(ctx, 0, filepath.Join(l.Dir, "apps"), "curl", url)); err != nil || !strings.Contains(said, "Hello from version: v1") {
			t.Errorf("from node1: %q, %v", said, err)
		}
	})

	t.Run("nothing goes out", func(t *testing.T) {
		said, err := output(l.Command(ctx, 1, "ip", "route", "get", "192.0.2.1"))
		if err == nil {
			t.Errorf("node2 has a way out: %s", said)
		}
		_, err = l.Docker(ctx, 1, "pull", "nobody.example/nothing:1")
		if err == nil {
			t.Error("node2 pulled an image from outside")
		}
	})

	t.Run("a registry serves all nodes", func(t *testing.T) {
		r, err := l.Registry(nil)
		if err != nil {
			t.Fatal(err)
		}
		img, err := l.Web(ctx, "")
		if err != nil {
			t.Fatal(err)
		}
		ref, err := r.Push(ctx, img, "team/web:7")
		if err != nil {
			t.Fatal(err)
		}
		for i, n := range l.Nodes {
			if _, err := l.Client(i).ImageInspect(ctx, ref); err == nil {
				t.Errorf("%s has %s before it pulled", n.Name, ref)
			}
			if _, err := l.Docker(ctx, i, "pull", ref); err != nil {
				t.Error(err)
			}
		}
		if d, err := l.Client(1).DistributionInspect(ctx, ref, ""); err != nil || d.Descriptor.Digest == "" {
			t.Errorf("digest of %s: %+v, %v", ref, d, err)
		}
	})

	t.Run("a partition cuts off, and heals", func(t *testing.T) {
		if err := l.Partition(ctx, 2); err != nil {
			t.Fatal(err)
		}
		nodeState(t, l, 0, "node3", swarm.NodeStateDown)
		if _, err := l.Client(2).Ping(ctx); err != nil {
			t.Errorf("the engine of the cut off host: %v", err)
		}
		if err := l.Heal(ctx, 2); err != nil {
			t.Fatal(err)
		}
		if err := l.Ready(ctx); err != nil {
			t.Fatal(err)
		}
	})

	t.Run("an engine stops, is killed, crashes, and starts again", func(t *testing.T) {
		for name, end := range map[string]func(context.Context, int) error{"stop": l.StopEngine, "kill": l.KillEngine, "crash": l.Crash} {
			before, err := l.EnginePID(0)
			if err != nil {
				t.Fatal(err)
			}
			if err := end(ctx, 0); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if pid, err := l.EnginePID(0); err == nil {
				t.Errorf("%s: engine %d still runs", name, pid)
			}
			if _, err := l.Client(0).Ping(ctx); err == nil {
				t.Errorf("%s: the engine answers", name)
			}
			if err := l.StartEngine(ctx, 0); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if after, err := l.EnginePID(0); err != nil || after == before {
				t.Errorf("%s: engine %d after %d, %v", name, after, before, err)
			}
			if err := l.Ready(ctx); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			recovered(t, l, 0, "shop", 3)
		}
	})

	t.Run("a directory is hidden from one host", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := l.Hide(ctx, 1, dir); err != nil {
			t.Fatal(err)
		}
		for i, want := range []string{"file\n", "", "file\n"} {
			if said, err := output(l.Shell(ctx, i, "ls", dir)); err != nil || said != want {
				t.Errorf("%s sees %q, %v", l.Nodes[i].Name, said, err)
			}
		}
		if _, err := os.Stat(filepath.Join(dir, "file")); err != nil {
			t.Errorf("this machine: %v", err)
		}
	})

	t.Run("the engine's socket is where containers look for it", func(t *testing.T) {
		said, err := output(l.Shell(ctx, 1, "docker", "-H", "unix:///var/run/docker.sock", "info", "--format", "{{.Name}}"))
		if err != nil || said != "node2\n" {
			t.Errorf("%q, %v", said, err)
		}
	})

	t.Run("no zombies gather", func(t *testing.T) {
		for i, n := range l.Nodes {
			said, err := output(l.Shell(ctx, i, "sh", "-c", "grep -l '^State:.Z' /proc/[0-9]*/status || true"))
			if err != nil || len(strings.Fields(said)) > 3 {
				t.Errorf("on %s: %q, %v", n.Name, said, err)
			}
		}
	})

	t.Run("it is open to another process", func(t *testing.T) {
		other, err := Open(l.Dir)
		if err != nil {
			t.Fatal(err)
		}
		defer other.Nodes[1].closeClient()
		a, aErr := l.EnginePID(1)
		b, bErr := other.EnginePID(1)
		if err := errors.Join(aErr, bErr); err != nil || a != b {
			t.Errorf("engine %d, then %d: %v", a, b, err)
		}
		if _, err := other.Client(1).Ping(ctx); err != nil {
			t.Error(err)
		}
	})

	// A command and a probe that nobody sees to any more.
	stray := l.Command(context.Background(), 1, "sleep", "3600")
	if err := stray.Start(); err != nil {
		t.Fatal(err)
	}
	strayed := make(chan error, 1)
	go func() { strayed <- stray.Wait() }()
	if _, err := l.Probe(ctx, 1, containerOf(t, l, 1, "shop"), "http://tasks.shop:8000/"); err != nil {
		t.Fatal(err)
	}
	if err := l.Down(); err != nil {
		t.Fatal(err)
	}
	if err := <-strayed; err == nil {
		t.Error("a command in a host's network outlived the lab")
	}
	gone(t, s)
	if err := l.Down(); err != nil {
		t.Errorf("down for the second time: %v", err)
	}
}

func TestSideBySide(t *testing.T) {
	a := ForTest(t, Options{})
	b := ForTest(t, Options{})
	if a.Subnet.Overlaps(b.Subnet) || a.ID == b.ID {
		t.Fatalf("%s in %s and %s in %s", a.ID, a.Subnet, b.ID, b.Subnet)
	}
	if err := a.Down(); err != nil {
		t.Fatal(err)
	}
	gone(t, a.state)
	if err := b.Ready(t.Context()); err != nil {
		t.Errorf("the other lab after one went down: %v", err)
	}
}

func TestOwnerKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("a lab is not brought up under -short")
	}
	owner := exec.Command(os.Args[0])
	owner.Env = append(os.Environ(), ownerEnv+"=1")
	owner.Stderr = os.Stderr
	stdout, err := owner.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	dir, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("the owner brought up no lab: %v, %v", err, owner.Wait())
	}
	s, err := readState(strings.TrimSpace(dir))
	if err != nil {
		t.Fatal(err)
	}
	if err := Reap(t.Context()); err != nil || !s.alive() {
		t.Fatalf("a lab whose owner lives was removed: %v", err)
	}
	if err := owner.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = owner.Wait() // killed
	eventually(t, "the hosts to end with their owner", func() error {
		if s.alive() {
			return errors.New("some still run")
		}
		return nil
	})
	if err := Reap(t.Context()); err != nil {
		t.Fatal(err)
	}
	gone(t, s)
}

func TestKeptLabIsTakenDownFromOutside(t *testing.T) {
	t.Setenv("SKEP_LAB_BASE", shortTempDir(t))
	l := ForTest(t, Options{Keep: true})
	// As if the process that made it had ended well.
	for _, w := range l.stdin {
		_ = w.Close()
	}
	if err := l.lock.Close(); err != nil {
		t.Fatal(err)
	}
	l.lock = nil
	if err := Reap(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Client(0).Ping(t.Context()); err != nil {
		t.Fatalf("a kept lab ended with its owner: %v", err)
	}
	labs, err := List()
	if err != nil || len(labs) != 1 || labs[0].ID != l.ID || !labs[0].Running || !labs[0].Keep {
		t.Errorf("listed as %+v, %v", labs, err)
	}
	if err := DownAll(t.Context(), "nolab"); err == nil {
		t.Error("a lab that is not there was taken down")
	}
	if err := DownAll(t.Context(), l.ID); err != nil {
		t.Fatal(err)
	}
	gone(t, l.state)
	if _, err := Open(l.Dir); err == nil {
		t.Error("a lab that is down was opened")
	}
}

// shortTempDir is t.TempDir for what holds unix sockets.
func shortTempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "sl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func TestUpRefuses(t *testing.T) {
	if testing.Short() {
		t.Skip("a lab is not brought up under -short")
	}
	base := shortTempDir(t)
	t.Setenv("SKEP_LAB_BASE", base)
	long := filepath.Join(base, strings.Repeat("x", 90))
	for name, o := range map[string]Options{
		"too many managers":  {Managers: 10},
		"a long socket path": {Dir: long},
	} {
		l, err := Up(t.Context(), o)
		if err == nil {
			t.Errorf("%s: up, and down with %v", name, l.Down())
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if l, err := Up(ctx, Options{}); err == nil {
		t.Errorf("cancelled: up, and down with %v", l.Down())
	}
	left, err := filepath.Glob(filepath.Join(base, "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestLookup(t *testing.T) {
	self, err := lookup(os.Getpid())
	if err != nil || !self.alive() {
		t.Fatalf("this process: %+v, %v", self, err)
	}
	if (process{PID: self.PID, Start: self.Start + 1}).alive() {
		t.Error("a process with the same number and another start time is taken for the same")
	}
	if (process{}).alive() {
		t.Error("no process is alive")
	}
}
