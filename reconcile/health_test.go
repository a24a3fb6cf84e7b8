package reconcile

import (
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/swarm"

	"github.com/skep-io/skep/spec"
)

func TestJudge(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	nodes := map[string]*swarm.Node{
		"n1": {ID: "n1", Description: swarm.NodeDescription{Hostname: "node1"}, Status: swarm.NodeStatus{State: swarm.NodeStateReady}},
		"n2": {ID: "n2", Description: swarm.NodeDescription{Hostname: "node2"}, Status: swarm.NodeStatus{State: swarm.NodeStateDown}},
	}
	task := func(slot int, node string, state swarm.TaskState, err string) swarm.Task {
		t := swarm.Task{Slot: slot, NodeID: node, DesiredState: swarm.TaskStateRunning,
			Status: swarm.TaskStatus{State: state, Err: err, Timestamp: now.Add(-time.Second)}}
		t.CreatedAt = now.Add(-time.Second)
		if dead(&t) {
			t.DesiredState = swarm.TaskStateShutdown
		}
		return t
	}
	run := func(slot int) swarm.Task { return task(slot, "n1", swarm.TaskStateRunning, "") }
	missing := "No such image: my-app:1.0"
	for _, c := range []struct {
		name      string
		replicas  uint64
		update    swarm.UpdateState
		current   []swarm.Task
		old       []swarm.Task
		status    HealthStatus
		converged bool
		reason    string
	}{
		{name: "converged", replicas: 2, current: []swarm.Task{run(1), run(2)}, status: Healthy, converged: true},
		{name: "scaled to nothing", replicas: 0, status: Healthy, converged: true},
		{name: "healthcheck pending", replicas: 1, current: []swarm.Task{task(1, "n1", swarm.TaskStateStarting, "")},
			status: HealthProgressing, reason: "web: 1 of 1 tasks starting on node1: its container starts, or the healthcheck of its image, where that has one, is pending"},
		{name: "image missing", replicas: 2,
			current: []swarm.Task{task(1, "n1", swarm.TaskStateRejected, missing), task(1, "n1", swarm.TaskStateRejected, missing), task(1, "n1", swarm.TaskStateRejected, missing), task(2, "n1", swarm.TaskStateRejected, missing)},
			status:  HealthDegraded, reason: "web: 2 of 2 tasks rejected on node1: No such image: my-app:1.0 (push it to a registry that every node reaches; a private one needs --registry-config)"},
		{name: "one death that heals", replicas: 2, current: []swarm.Task{run(1), task(2, "n1", swarm.TaskStateFailed, "task: non-zero exit (1)"), task(2, "n1", swarm.TaskStateStarting, "")},
			status: HealthProgressing, reason: "web: 1 of 2 tasks failed on node1: task: non-zero exit (1) (see skep logs)"},
		{name: "unhealthy, and exits with 0", replicas: 1, current: []swarm.Task{task(1, "n1", swarm.TaskStateComplete, ""), task(1, "n1", swarm.TaskStateAssigned, "")},
			status: HealthProgressing, reason: "web: 1 of 1 tasks complete on node1: it ended with exit code 0, by itself or, where its image has a healthcheck, since that failed (see skep logs)"},
		{name: "constraint", replicas: 1, current: []swarm.Task{task(1, "", swarm.TaskStatePending, "no suitable node (scheduling constraints not satisfied on 3 nodes)")},
			status: HealthProgressing, reason: "web: 1 of 1 tasks pending: no suitable node (scheduling constraints not satisfied on 3 nodes) (no node fits deploy.placement.constraints: compare with docker node inspect)"},
		{name: "on a node that is down", replicas: 1, current: []swarm.Task{task(1, "n2", swarm.TaskStateRunning, "")},
			status: HealthProgressing, reason: "web: 1 of 1 tasks lost on node2: the node is down"},
		{name: "old tasks are left", replicas: 1, update: swarm.UpdateStateUpdating, current: []swarm.Task{run(1)}, old: []swarm.Task{run(1)},
			status: HealthProgressing, reason: "web: all 1 new tasks run, 1 old ones are being stopped"},
		{name: "still watched", replicas: 1, update: swarm.UpdateStateUpdating, current: []swarm.Task{run(1)},
			status: HealthProgressing, reason: "web: all 1 tasks run, Swarm still watches the update"},
		{name: "paused", replicas: 2, update: swarm.UpdateStatePaused, current: []swarm.Task{run(1)}, old: []swarm.Task{run(2)},
			status: HealthDegraded, reason: "web: Swarm paused the update: because"},
		{name: "rolled back by Swarm", replicas: 1, update: swarm.UpdateStateRollbackCompleted, current: []swarm.Task{run(1)},
			status: Healthy, converged: true, reason: "web: Swarm took the update back: because"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &swarm.Service{}
			s.Spec.Mode.Replicated = &swarm.ReplicatedService{Replicas: &c.replicas}
			if c.update != "" {
				s.UpdateStatus = &swarm.UpdateStatus{State: c.update, Message: "because"}
			}
			h := Judge("web", s, Tasks{Known: true, Current: c.current, Old: c.old}, nodes, now)
			if h.Status != c.status || h.Converged != c.converged || h.Reason != c.reason {
				t.Errorf("%s, converged %v: %q\nwant %s, %v: %q", h.Status, h.Converged, h.Reason, c.status, c.converged, c.reason)
			}
		})
	}
}

func TestOldFailuresAreHistory(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	one := uint64(1)
	s := &swarm.Service{}
	s.Spec.Mode.Replicated = &swarm.ReplicatedService{Replicas: &one}
	var tasks []swarm.Task
	for range 4 {
		tasks = append(tasks, swarm.Task{Slot: 1, Status: swarm.TaskStatus{State: swarm.TaskStateFailed, Timestamp: now.Add(-time.Hour)}})
	}
	if h := Judge("web", s, Tasks{Known: true, Current: tasks}, nil, now); h.Status != HealthProgressing {
		t.Errorf("%s: %s", h.Status, h.Reason)
	}
}

func TestJudgeMissing(t *testing.T) {
	if h := Judge("web", nil, Tasks{}, nil, time.Time{}); h.Status != Missing || !strings.Contains(h.Reason, "does not exist") {
		t.Errorf("%+v", h)
	}
}

// The engine counts no task of a global service whose tasks all wait to be started
// again; that does not make it whole.
func TestGlobalWhoseTasksAllFailed(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	s := &swarm.Service{ServiceStatus: &swarm.ServiceStatus{}}
	s.CreatedAt = now.Add(-time.Hour)
	s.Spec.Mode.Global = &swarm.GlobalService{}
	var tasks []swarm.Task
	for _, node := range []string{"n1", "n2"} {
		tasks = append(tasks,
			swarm.Task{NodeID: node, DesiredState: swarm.TaskStateShutdown, Status: swarm.TaskStatus{State: swarm.TaskStateRejected, Err: "No such image: x", Timestamp: now}},
			swarm.Task{NodeID: node, DesiredState: swarm.TaskStateReady, Meta: swarm.Meta{CreatedAt: now}, Status: swarm.TaskStatus{State: swarm.TaskStateReady}})
	}
	if !needsTasks(s, &pass{}, now) {
		t.Error("its tasks are not looked at")
	}
	h := Judge("agent", s, Tasks{Known: true, Current: tasks}, nil, now)
	if h.Converged || h.Desired != 2 || !strings.Contains(h.Reason, "2 of 2 tasks rejected on n1, n2: No such image: x") {
		t.Errorf("%+v", h)
	}
}

// The engine counts tasks on a node that is down as running: its counts do not do.
func TestTasksAreAskedFor(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	two := uint64(2)
	changed := func(phase Phase, ended time.Duration) []*Release {
		return []*Release{{Phase: phase, Ended: now.Add(-ended), index: index{changed: map[string]string{"web": "-"}}}}
	}
	for _, c := range []struct {
		name     string
		running  uint64
		lost     bool
		releases []*Release
		want     bool
	}{
		{name: "whole", running: 2},
		{name: "too few", running: 1, want: true},
		{name: "more than can be", running: 3, want: true},
		{name: "a node is down", running: 2, lost: true, want: true},
		{name: "in a rollout, where it may flap", running: 2, releases: changed(PhaseProgressing, 0), want: true},
		{name: "within guard", running: 2, releases: changed(PhaseHealthy, time.Minute), want: true},
		{name: "after guard", running: 2, releases: changed(PhaseHealthy, time.Hour)},
		{name: "long after it failed", running: 2, releases: changed(PhaseFailed, time.Minute)},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &swarm.Service{ServiceStatus: &swarm.ServiceStatus{RunningTasks: c.running, DesiredTasks: 2}}
			s.Spec.Name, s.Spec.Mode.Replicated = "web", &swarm.ReplicatedService{Replicas: &two}
			n := testNode("n1", func(n *swarm.Node) {
				if c.lost {
					n.Status.State = swarm.NodeStateDown
				}
			})
			stack := &spec.Stack{Policy: spec.Policy{Rollout: spec.Rollout{Guard: 10 * time.Minute}}}
			if got := needsTasks(s, &pass{stack: stack, live: &Live{Nodes: nodesOf(n)}, releases: c.releases}, now); got != c.want {
				t.Errorf("asked for: %v", got)
			}
		})
	}
}

func TestBeganAt(t *testing.T) {
	began := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	update := began.Add(3 * time.Minute)
	corrected := began.Add(time.Hour)
	first := &Release{Started: began, index: index{changed: map[string]string{"web": "-"}}}
	other := &Release{Started: began.Add(time.Minute), index: index{changed: map[string]string{"db": "-"}}}
	again := &Release{Started: began, index: index{changed: map[string]string{"web": "-"}, corrected: map[string]string{"web": "x"}, correctedAt: corrected}}
	for name, c := range map[string]struct {
		releases []*Release
		status   *swarm.UpdateStatus
		want     time.Time
	}{
		"nobody wrote it":                 {releases: []*Release{other}},
		"the newest that wrote it":        {releases: []*Release{first, other}, want: began},
		"by the updater's own clock":      {releases: []*Release{first, other}, status: &swarm.UpdateStatus{State: swarm.UpdateStateUpdating, StartedAt: &update}, want: update},
		"which tells when it went back":   {releases: []*Release{first}, status: &swarm.UpdateStatus{State: swarm.UpdateStateRollbackStarted, StartedAt: &update}, want: began},
		"a correction, which began later": {releases: []*Release{again, other}, want: corrected},
	} {
		s := &swarm.Service{UpdateStatus: c.status}
		s.Spec.Name = "web"
		if got := beganAt(s, c.releases); !got.Equal(c.want) {
			t.Errorf("%s: %s", name, got)
		}
	}
	before := &swarm.Service{UpdateStatus: &swarm.UpdateStatus{State: swarm.UpdateStateCompleted, StartedAt: &update}}
	before.Spec.Name = "web"
	first.index.changed["web"] = mark(before) // the release has written, and no updater has begun
	if got := beganAt(before, []*Release{first}); !got.Equal(began) {
		t.Errorf("an update of before: %s", got)
	}
}

// A healthcheck that is turned off, in the file too, is none that anybody waits for, or
// that failed.
func TestNoHealthcheckIsToldWhereThereIsNone(t *testing.T) {
	now := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name   string
		test   []string
		state  swarm.TaskState
		code   string
		reason string
	}{
		{"starts", []string{"NONE"}, swarm.TaskStateStarting, CodeStarting, "web: 1 of 1 tasks starting on node1: its container starts"},
		{"starts, the image may have one", nil, swarm.TaskStateStarting, CodeStarting, "web: 1 of 1 tasks starting on node1: its container starts, or the healthcheck of its image, where that has one, is pending"},
		{"ended", []string{"NONE"}, swarm.TaskStateComplete, CodeExited, "web: 1 of 1 tasks complete on node1: it ended by itself, with exit code 0 (see skep logs)"},
		{"ended, the file has one", []string{"CMD", "true"}, swarm.TaskStateComplete, CodeUnhealthy, "web: 1 of 1 tasks complete on node1: its healthcheck failed, or it ended by itself, with exit code 0 (the output of its healthcheck, there: docker inspect -f '{{json .State.Health}}' $(docker ps -aqf name=shop_web); and see skep logs)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &swarm.Service{}
			s.Spec.Name = "shop_web"
			s.Spec.Mode.Replicated = &swarm.ReplicatedService{Replicas: new(uint64(1))}
			s.Spec.TaskTemplate.ContainerSpec = &swarm.ContainerSpec{Healthcheck: &container.HealthConfig{Test: c.test}}
			task := swarm.Task{ID: "t", Slot: 1, NodeID: "n1", DesiredState: swarm.TaskStateRunning, Status: swarm.TaskStatus{State: c.state, Timestamp: now}}
			task.CreatedAt = now
			h := Judge("web", s, Tasks{Known: true, Current: []swarm.Task{task}}, nodesOf(&swarm.Node{ID: "n1", Description: swarm.NodeDescription{Hostname: "node1"}}), now)
			if h.Code != c.code || h.Reason != c.reason {
				t.Errorf("%s: %q\nwant %s: %q", h.Code, h.Reason, c.code, c.reason)
			}
		})
	}
}
