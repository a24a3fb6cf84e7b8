package cli

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"github.com/skep-io/skep/reconcile"
)

// drawn plays an engine with these services' tasks.
type drawn struct {
	services []swarm.Service
	tasks    []swarm.Task
}

func (d *drawn) ServiceList(context.Context, swarm.ServiceListOptions) ([]swarm.Service, error) {
	return d.services, nil
}

func (d *drawn) TaskList(context.Context, swarm.TaskListOptions) ([]swarm.Task, error) {
	return d.tasks, nil
}

func task(service string, slot int, node string, desired, is swarm.TaskState, age int) swarm.Task {
	return swarm.Task{ServiceID: service, Slot: slot, NodeID: node, DesiredState: desired, Status: swarm.TaskStatus{State: is},
		Meta: swarm.Meta{CreatedAt: noon.Add(-time.Duration(age) * time.Minute)}}
}

// A slot counts once, but for two tasks of it that shall both run: one that failed and
// was replaced does not count, one that nobody replaces does.
func TestCountTasks(t *testing.T) {
	const run, stop = swarm.TaskStateRunning, swarm.TaskStateShutdown
	engine := &drawn{
		services: []swarm.Service{{ID: "s1", Spec: swarm.ServiceSpec{Annotations: swarm.Annotations{Name: "shop_web"}}},
			{ID: "s2", Spec: swarm.ServiceSpec{Annotations: swarm.Annotations{Name: "shop_agent"}}}},
		tasks: []swarm.Task{
			task("s1", 1, "n1", run, run, 5),
			task("s1", 1, "n1", stop, swarm.TaskStateFailed, 9), // replaced
			task("s1", 2, "n1", run, swarm.TaskStateStarting, 1),
			task("s1", 2, "n1", run, run, 7), // until the new one runs
			task("s1", 3, "", run, swarm.TaskStatePending, 1),
			task("s1", 4, "n2", stop, swarm.TaskStateFailed, 2), // Swarm gave up
			task("s1", 4, "n2", stop, swarm.TaskStateFailed, 3),
			task("s1", 5, "n2", stop, stop, 3), // scaled down
			task("s2", 0, "n1", run, run, 1),
			task("s2", 0, "n2", stop, swarm.TaskStateRejected, 1),
			task("s2", 0, "n3", stop, swarm.TaskStateComplete, 1),
		},
	}
	got, err := countTasks(t.Context(), engine, "shop")
	if err != nil {
		t.Fatal(err)
	}
	if want := (taskCounts{Running: 2, Starting: 1, Pending: 1, Failed: 1}); got["shop_web"] != want {
		t.Errorf("web %+v, want %+v", got["shop_web"], want)
	}
	if want := (taskCounts{Running: 1, Failed: 1, Done: 1}); got["shop_agent"] != want {
		t.Errorf("agent %+v, want %+v", got["shop_agent"], want)
	}
	if text, width := got["shop_web"].draw(false); text != "■■◧□✗" || width != 5 {
		t.Errorf("drawn %q, %d wide", text, width)
	}
	if text, width := (taskCounts{Running: 100}).draw(false); text != strings.Repeat("■", drawnTasks)+"…" || width != drawnTasks+1 {
		t.Errorf("drawn %q, %d wide", text, width)
	}
	if text, _ := (taskCounts{Running: 1, Failed: 2}).draw(true); text != "\x1b[32m■\x1b[0m\x1b[31m✗✗\x1b[0m" {
		t.Errorf("drawn %q", text)
	}
}

func TestPicture(t *testing.T) {
	services := []reconcile.ServiceStatus{
		{Name: "shop_web", Key: "web", Mode: "replicated", Wave: 1, Running: 2, Desired: 3, Health: reconcile.HealthProgressing, Code: "Starting",
			Since: noon.Add(-time.Minute), Until: noon.Add(30 * time.Second), Image: "web:2@sha256:0123", Reason: "web: 1 of 3 tasks starting\x1b[2J"},
		{Name: "shop_db", Key: "db", Mode: "replicated", Running: 1, Desired: 1, Health: reconcile.Healthy, Image: "db:1", Since: noon},
		{Name: "shop_cache", Key: "cache", Mode: "global", Wave: 1, Running: 1, Desired: 1, Health: reconcile.Healthy, Image: "cache:1"},
	}
	var b bytes.Buffer
	(&app{out: &b}).drawServices(services, map[string]taskCounts{"shop_web": {Running: 2, Starting: 1}}, noon, false, "")
	want := strings.TrimPrefix(`
wave 1   db      ■     1/1   1 running               Healthy                                          replicated   db:1
wave 2   cache   ■     1/1   1 running               Healthy                                          global       cache:1
         web     ■■◧   2/3   2 running, 1 starting   Progressing, Starting [1m0s, at most 30s more]   replicated   web:2

web: 1 of 3 tasks starting [2J
`, "\n")
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
	b.Reset()
	(&app{out: &b}).drawServices(services, nil, noon, true, "release 2 waits: web: 1 of 3 tasks starting\x1b[2J")
	if !strings.Contains(b.String(), "web:2@sha256:0123") || strings.Contains(b.String(), "1 of 3") {
		t.Errorf("shortened, or said again:\n%s", b.String())
	}
}
