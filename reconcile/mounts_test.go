package reconcile

import (
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/swarm"
)

func TestMissingBinds(t *testing.T) {
	const invalid = `invalid mount config for type "bind": bind source path does not exist: `
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	task := func(node string, age int, state swarm.TaskState, err string) swarm.Task {
		return swarm.Task{NodeID: node, Meta: swarm.Meta{CreatedAt: at.Add(-time.Duration(age) * time.Second)}, Status: swarm.TaskStatus{State: state, Err: err}}
	}
	rejected := func(node string, age int, path string) swarm.Task {
		return task(node, age, swarm.TaskStateRejected, invalid+path)
	}
	binds := func(sources ...string) *swarm.ServiceSpec {
		s := &swarm.ServiceSpec{}
		mutContainer(s).Mounts = []mount.Mount{{Type: mount.TypeVolume, Source: "/vol", Target: "/v"}}
		for _, source := range sources {
			s.TaskTemplate.ContainerSpec.Mounts = append(s.TaskTemplate.ContainerSpec.Mounts, mount.Mount{Type: mount.TypeBind, Source: source, Target: "/x"})
		}
		return s
	}
	for name, tt := range map[string]struct {
		s     *swarm.ServiceSpec
		tasks []swarm.Task
		want  string // part of the message; empty: nothing is told
	}{
		"nothing yet":                   {binds("/srv"), nil, ""},
		"one node":                      {binds("/srv"), []swarm.Task{rejected("n1", 1, "/srv")}, "/srv on host-n1 ("},
		"quoted by the engine":          {binds("/srv"), []swarm.Task{task("n1", 1, swarm.TaskStateRejected, `"`+invalid+`/srv"`)}, "/srv on host-n1 ("},
		"gathered":                      {binds("/srv"), []swarm.Task{rejected("n2", 1, "/srv"), rejected("n1", 2, "/srv"), rejected("n2", 3, "/srv")}, "/srv on host-n1, host-n2 ("},
		"a path each":                   {binds("/srv", "/etc/x/"), []swarm.Task{rejected("n2", 1, "/srv"), rejected("n1", 2, "/etc/x")}, "/etc/x on host-n1; /srv on host-n2 ("},
		"rejected for another reason":   {binds("/srv"), []swarm.Task{task("n1", 1, swarm.TaskStateRejected, "No such image: app:1")}, ""},
		"the node has it by now":        {binds("/srv"), []swarm.Task{rejected("n1", 2, "/srv"), task("n1", 1, swarm.TaskStateRunning, "")}, ""},
		"the node has it no more":       {binds("/srv"), []swarm.Task{rejected("n1", 1, "/srv"), task("n1", 2, swarm.TaskStateFailed, "exit 1")}, "/srv on host-n1"},
		"the next try has not begun":    {binds("/srv"), []swarm.Task{rejected("n1", 2, "/srv"), task("n1", 1, swarm.TaskStatePreparing, "")}, "/srv on host-n1"},
		"the node is gone":              {binds("/srv"), []swarm.Task{rejected("n9", 1, "/srv")}, ""},
		"no longer asked for":           {binds("/data"), []swarm.Task{rejected("n1", 1, "/srv")}, ""},
		"a volume that is called alike": {binds(), []swarm.Task{rejected("n1", 1, "/vol")}, ""},
		"a path with a space":           {binds("/my data"), []swarm.Task{rejected("n1", 1, "/my data")}, "/my data on host-n1"},
	} {
		t.Run(name, func(t *testing.T) {
			f := missingBinds("app", tt.s, tt.tasks, nodesOf(testNode("n1"), testNode("n2")))
			switch {
			case tt.want == "" && f != nil:
				t.Errorf("told %v", f)
			case tt.want != "" && (f == nil || f.Code != "bind-missing-on-nodes" || f.Service != "app" || !strings.Contains(f.Message, tt.want)):
				t.Errorf("told %v, want %q", f, tt.want)
			}
		})
	}
}
