package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/skep-io/skep/controller"
	"github.com/skep-io/skep/e2e/lab/swarmlab"
	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
)

// A daemon is skep at work on a directory of its own, with an owner of its own,
// so that scenarios side by side are none of each other's business.
type daemon struct {
	t     *testing.T
	owner string
	specs string
	prune bool
	addr  string
	log   *logbook
	stop  func()
}

// start runs the daemon until the test ends or stop is called.
func start(t *testing.T, d *daemon) *daemon {
	t.Helper()
	d.t = t
	if d.specs == "" {
		d.specs = t.TempDir()
	}
	if d.owner == "" {
		d.owner = strings.ToLower(strings.ReplaceAll(t.Name(), "/", "-"))
	}
	if d.log == nil {
		d.log = &logbook{}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	listening := make(chan net.Addr, 1)
	go func() {
		done <- controller.Run(ctx, controller.Config{
			Specs: d.specs, Owner: d.owner, Client: skepClient(lab, 0, "run"), PruneStacks: d.prune, Resync: 20 * time.Second,
			Listen: "127.0.0.1:0", Listening: func(a net.Addr) { listening <- a },
			Registry: prometheus.NewRegistry(), Logger: d.log.logger(),
		})
	}()
	var once sync.Once
	d.stop = func() {
		once.Do(func() {
			d.lookAtMetrics()
			cancel()
			if err := <-done; err != nil {
				t.Errorf("the daemon ended with %v", err)
			}
		})
	}
	t.Cleanup(func() {
		d.stop()
		if t.Failed() {
			t.Logf("the daemon's log:\n%s", d.log)
		}
	})
	select {
	case a := <-listening:
		d.addr = a.String()
	case err := <-done:
		done <- nil // for stop
		t.Fatalf("the daemon did not start: %v", err)
	}
	return d
}

// write puts a file below the specs directory in one step, as editors do.
func (d *daemon) write(name, text string) {
	d.t.Helper()
	file := filepath.Join(d.specs, name)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		d.t.Fatal(err)
	}
	tmp := filepath.Join(filepath.Dir(file), "."+filepath.Base(file)+".tmp")
	if err := os.WriteFile(tmp, []byte(text), 0o644); err != nil {
		d.t.Fatal(err)
	}
	if err := os.Rename(tmp, file); err != nil {
		d.t.Fatal(err)
	}
}

func (d *daemon) remove(name string) {
	d.t.Helper()
	if err := os.RemoveAll(filepath.Join(d.specs, name)); err != nil {
		d.t.Fatal(err)
	}
}

// get asks the daemon's own address.
func (d *daemon) get(path string) (int, string) {
	d.t.Helper()
	resp, err := http.Get("http://" + d.addr + path)
	if err != nil {
		d.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	leaked.Look("the daemon's "+path, text)
	return resp.StatusCode, string(text)
}

// lookAtMetrics looks for what was planted in what a daemon has counted; one that has
// ended has nothing to say.
func (d *daemon) lookAtMetrics() {
	resp, err := http.Get("http://" + d.addr + "/metrics")
	if err != nil {
		return
	}
	defer func() { _ = resp.Body.Close() }()
	text, _ := io.ReadAll(resp.Body)
	leaked.Look("the daemon's metrics", text)
}

// A logbook keeps what a daemon logs, as JSON lines.
type logbook struct {
	mu   sync.Mutex
	text strings.Builder
	eye  io.Writer // looks for what was planted
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.eye == nil {
		l.eye = leaked.Writer("a daemon's log", &l.text)
	}
	return l.eye.Write(p)
}

func (l *logbook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *logbook) logger() *zap.Logger {
	enc := zap.NewProductionEncoderConfig()
	enc.EncodeTime = zapcore.ISO8601TimeEncoder
	return zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(enc), zapcore.AddSync(l), zap.InfoLevel))
}

// lines returns the log's lines with an action.
func (l *logbook) lines(action string) []map[string]any {
	var found []map[string]any
	for line := range strings.Lines(l.String()) {
		var m map[string]any
		if json.Unmarshal([]byte(line), &m) == nil && m["action"] == action {
			found = append(found, m)
		}
	}
	return found
}

// status is what skep status knows of a stack: from the Swarm alone.
func status(t *testing.T, owner, stack string) reconcile.Result {
	t.Helper()
	res, err := reconcileStatus(t.Context(), lab, owner, stack)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := json.Marshal(res); err != nil {
		t.Error(err)
	} else {
		leaked.Look("the status of "+stack, text)
	}
	return res
}

func reconcileStatus(ctx context.Context, l *swarmlab.Lab, owner, stack string) (reconcile.Result, error) {
	return reconcile.New(reconcile.Options{Swarm: skepClient(l, 1, "status"), Owner: owner}).Status(ctx, stack)
}

func ready(res reconcile.Result) bool {
	for _, c := range res.Conditions {
		if c.Type == reconcile.Ready {
			return c.True
		}
	}
	return false
}

// await waits until f returns nil, and fails the test with f's last word when that
// takes longer than the limit.
func await(t *testing.T, limit time.Duration, what string, f func() error) {
	t.Helper()
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		select {
		case <-deadline.C:
			t.Fatalf("%s: not within %s: %v", what, limit, err)
		case <-tick.C:
		}
	}
}

// always says that f keeps returning nil for as long as d.
func always(t *testing.T, d time.Duration, what string, f func() error) {
	t.Helper()
	end := time.NewTimer(d)
	defer end.Stop()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		if err := f(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		select {
		case <-end.C:
			return
		case <-tick.C:
		}
	}
}

// awaitReady waits until a stack's newest release is healthy and all its services
// are.
func awaitReady(t *testing.T, d *daemon, stack string, release int) {
	t.Helper()
	await(t, 3*time.Minute, stack+" is ready", func() error {
		res := status(t, d.owner, stack)
		switch {
		case res.Release == nil:
			return fmt.Errorf("no release yet")
		case res.Release.Number < release || !ready(res):
			return fmt.Errorf("release %d is %s: %s; tasks:%s", res.Release.Number, res.Release.Phase, res.Message, tasksOf(t, stack))
		}
		return nil
	})
}

// tasksOf tells every task of a stack, a line each.
func tasksOf(t *testing.T, stack string) string {
	t.Helper()
	all, err := lab.Client(0).TaskList(t.Context(), swarm.TaskListOptions{Filters: filters.NewArgs(filters.Arg("label", "com.docker.stack.namespace="+stack))})
	if err != nil {
		return err.Error()
	}
	var b strings.Builder
	for _, k := range all {
		fmt.Fprintf(&b, "\n%s of %s, slot %d on %s: %s (wanted %s) since %s, %s %s", k.ID, k.ServiceID, k.Slot, k.NodeID,
			k.Status.State, k.DesiredState, k.Status.Timestamp.Format(time.TimeOnly), k.Status.Message, k.Status.Err)
	}
	return b.String()
}

// service returns a live service, or nil.
func service(t *testing.T, name string) *swarm.Service {
	t.Helper()
	list, err := lab.Client(0).ServiceList(t.Context(), swarm.ServiceListOptions{Status: true, Filters: filters.NewArgs(filters.Arg("name", name))})
	if err != nil {
		t.Fatal(err)
	}
	for i := range list {
		if list[i].Spec.Name == name {
			return &list[i]
		}
	}
	return nil
}

// running returns the running tasks of a service whose image is image ("" is any).
func running(t *testing.T, name, image string) []swarm.Task {
	t.Helper()
	if service(t, name) == nil { // the engine refuses to list the tasks of no service
		return nil
	}
	list, err := lab.Client(0).TaskList(t.Context(), swarm.TaskListOptions{Filters: filters.NewArgs(filters.Arg("service", name), filters.Arg("desired-state", "running"))})
	if err != nil {
		t.Fatal(err)
	}
	var tasks []swarm.Task
	for _, task := range list {
		if task.Status.State == swarm.TaskStateRunning && (image == "" || strings.HasPrefix(task.Spec.ContainerSpec.Image, image)) {
			tasks = append(tasks, task)
		}
	}
	return tasks
}

// awaitRunning waits until just n tasks run, all of that image.
func awaitRunning(t *testing.T, limit time.Duration, name, image string, n int) {
	t.Helper()
	await(t, limit, fmt.Sprintf("%s runs %d of %s", name, n, image), func() error {
		if all, good := len(running(t, name, "")), len(running(t, name, image)); all != n || good != n {
			return fmt.Errorf("%d tasks run, %d of them that image", all, good)
		}
		return nil
	})
}

// versions tells the Version.Index of every object of a stack, and of its records.
func versions(t *testing.T, stack string) map[string]uint64 {
	t.Helper()
	v := map[string]uint64{}
	label := filters.NewArgs(filters.Arg("label", spec.LabelNamespace+"="+stack))
	services, err := lab.Client(0).ServiceList(t.Context(), swarm.ServiceListOptions{Filters: label})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range services {
		v["service "+s.Spec.Name] = s.Version.Index
	}
	configs, err := lab.Client(0).ConfigList(t.Context(), swarm.ConfigListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range configs {
		if c.Spec.Labels[spec.LabelNamespace] == stack || c.Spec.Labels["skep.stack"] == stack {
			v["config "+c.Spec.Name] = c.Version.Index
		}
	}
	secrets, err := lab.Client(0).SecretList(t.Context(), swarm.SecretListOptions{Filters: label})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range secrets {
		v["secret "+s.Spec.Name] = s.Version.Index
	}
	return v
}

// docker runs Docker's own command line against the first manager.
func docker(t *testing.T, args ...string) string {
	t.Helper()
	out, err := lab.Docker(t.Context(), 0, args...)
	if err != nil {
		t.Fatalf("docker %s: %v", strings.Join(args, " "), err)
	}
	return out
}

// awaitNoNetworks waits until a removed stack's networks have gone too, which takes
// the engine until the last task has stopped: the next run would find them.
func awaitNoNetworks(ctx context.Context, t *testing.T, stack string) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		list, err := lab.Client(0).NetworkList(ctx, network.ListOptions{Filters: filters.NewArgs(filters.Arg("label", spec.LabelNamespace+"="+stack))})
		if err == nil && len(list) == 0 {
			return
		}
		select {
		case <-ctx.Done():
			t.Logf("clean up: networks of %s: %d, %v", stack, len(list), err)
			return
		case <-tick.C:
		}
	}
}

// cleanUp removes a stack when the test ends, with its records.
func cleanUp(t *testing.T, stack string) {
	t.Cleanup(func() {
		ctx := context.Background()
		if _, err := lab.Docker(ctx, 0, "stack", "rm", stack); err != nil {
			t.Logf("clean up: %v", err)
		}
		awaitNoNetworks(ctx, t, stack)
		configs, err := lab.Client(0).ConfigList(ctx, swarm.ConfigListOptions{Filters: filters.NewArgs(filters.Arg("label", "skep.stack="+stack))})
		if err != nil {
			t.Logf("clean up: %v", err)
		}
		for _, c := range configs {
			if err := lab.Client(0).ConfigRemove(ctx, c.ID); err != nil {
				t.Logf("clean up: %v", err)
			}
		}
	})
}
