package reconcile

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"
	"pgregory.net/rapid"
)

var healthNow = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// drawCase draws a service in any state, even in such as no Swarm would come to.
func drawCase(t *rapid.T) *healthCase {
	c := &healthCase{Now: healthNow}
	for _, id := range []string{"n1", "n2", "n3"}[:rapid.IntRange(0, 3).Draw(t, "nodes")] {
		n := testNode(id)
		n.Status.State = rapid.SampledFrom([]swarm.NodeState{swarm.NodeStateReady, swarm.NodeStateReady, swarm.NodeStateDown}).Draw(t, "state")
		n.Spec.Availability = rapid.SampledFrom([]swarm.NodeAvailability{swarm.NodeAvailabilityActive, swarm.NodeAvailabilityActive, swarm.NodeAvailabilityDrain}).Draw(t, "availability")
		c.Nodes = append(c.Nodes, n)
	}
	s := &c.Service
	s.CreatedAt = healthNow.Add(-time.Hour)
	n := rapid.Uint64Range(0, 4).Draw(t, "replicas")
	s.Spec.Mode = rapid.SampledFrom([]swarm.ServiceMode{
		{Replicated: &swarm.ReplicatedService{Replicas: &n}}, {Replicated: &swarm.ReplicatedService{Replicas: &n}}, {Global: &swarm.GlobalService{}},
		{ReplicatedJob: &swarm.ReplicatedJob{TotalCompletions: &n}}, {GlobalJob: &swarm.GlobalJob{}},
	}).Draw(t, "mode")
	attempts := rapid.SampledFrom([]uint64{0, 2}).Draw(t, "max_attempts")
	s.Spec.TaskTemplate.RestartPolicy = &swarm.RestartPolicy{MaxAttempts: &attempts, Condition: rapid.SampledFrom([]swarm.RestartPolicyCondition{
		"", swarm.RestartPolicyConditionAny, swarm.RestartPolicyConditionOnFailure, swarm.RestartPolicyConditionNone}).Draw(t, "condition")}
	s.Spec.TaskTemplate.Placement = &swarm.Placement{MaxReplicas: rapid.Uint64Range(0, 1).Draw(t, "max_replicas_per_node"),
		Constraints: rapid.SampledFrom([][]string{nil, nil, {"node.labels.disk==ssd"}}).Draw(t, "constraints")}
	s.Spec.UpdateConfig = &swarm.UpdateConfig{MaxFailureRatio: rapid.SampledFrom([]float32{0, 0.3, 1}).Draw(t, "ratio"),
		Order: rapid.SampledFrom([]string{swarm.UpdateOrderStopFirst, swarm.UpdateOrderStartFirst}).Draw(t, "order")}
	if st := rapid.SampledFrom([]swarm.UpdateState{"", "", swarm.UpdateStateUpdating, swarm.UpdateStateCompleted, swarm.UpdateStatePaused,
		swarm.UpdateStateRollbackStarted, swarm.UpdateStateRollbackCompleted, swarm.UpdateStateRollbackPaused}).Draw(t, "update"); st != "" {
		at := healthNow.Add(-time.Minute)
		s.UpdateStatus = &swarm.UpdateStatus{State: st, StartedAt: &at}
	}
	if rapid.Bool().Draw(t, "has since") {
		c.Since = healthNow.Add(-rapid.SampledFrom([]time.Duration{0, time.Minute, 10 * time.Minute}).Draw(t, "since"))
	}
	c.Current = rapid.SliceOfN(rapid.Custom(c.drawTask), 0, 8).Draw(t, "current")
	c.Old = rapid.SliceOfN(rapid.Custom(c.drawTask), 0, 3).Draw(t, "old")
	return c
}

func (c *healthCase) drawTask(t *rapid.T) swarm.Task {
	k := swarm.Task{NodeID: rapid.SampledFrom([]string{"", "n1", "n2", "n3"}).Draw(t, "node")}
	if !onEachNode(&c.Service.Spec) {
		k.Slot = rapid.IntRange(1, 4).Draw(t, "slot")
	}
	k.DesiredState = rapid.SampledFrom([]swarm.TaskState{swarm.TaskStateReady, swarm.TaskStateRunning, swarm.TaskStateRunning, swarm.TaskStateShutdown, swarm.TaskStateShutdown, swarm.TaskStateRemove}).Draw(t, "desired")
	if isJob(&c.Service.Spec) {
		if k.JobIteration = new(swarm.Version); k.DesiredState == swarm.TaskStateRunning {
			k.DesiredState = swarm.TaskStateComplete
		}
	}
	k.CreatedAt = healthNow.Add(-time.Duration(rapid.IntRange(0, 400).Draw(t, "age")) * time.Second)
	age := int(healthNow.Sub(k.CreatedAt) / time.Second)
	k.Status = swarm.TaskStatus{
		State: rapid.SampledFrom([]swarm.TaskState{swarm.TaskStatePending, swarm.TaskStatePreparing, swarm.TaskStateStarting, swarm.TaskStateRunning, swarm.TaskStateRunning,
			swarm.TaskStateFailed, swarm.TaskStateFailed, swarm.TaskStateRejected, swarm.TaskStateComplete, swarm.TaskStateOrphaned, swarm.TaskStateShutdown}).Draw(t, "state"),
		Message:   rapid.SampledFrom([]string{"", "started"}).Draw(t, "message"),
		Timestamp: k.CreatedAt.Add(time.Duration(rapid.IntRange(0, age).Draw(t, "lived")) * time.Second),
	}
	switch k.Status.State {
	case swarm.TaskStatePending:
		k.NodeID = ""
		if onEachNode(&c.Service.Spec) {
			k.NodeID = "n1"
		}
		k.Status.Err = rapid.SampledFrom([]string{"", "no suitable node (scheduling constraints not satisfied on 3 nodes)",
			"no suitable node (host-mode port already in use on 3 nodes)", "no suitable node (max replicas per node limit exceed)"}).Draw(t, "why")
	case swarm.TaskStateFailed, swarm.TaskStateRejected:
		k.Status.Err = rapid.SampledFrom([]string{"task: non-zero exit (1)", "No such image: x", "assigned node no longer meets constraints"}).Draw(t, "error")
	}
	return k
}

func TestVerdictsHang(t *testing.T) { // together, whatever is judged
	rapid.Check(t, func(t *rapid.T) {
		h := drawCase(t).judge()
		switch {
		case (h.Status == Healthy) != h.Converged:
			t.Error("healthy and converged are not the same")
		case h.Converged && h.Serving != h.Running:
			t.Error("converged with old tasks")
		case h.Final && h.Status != HealthDegraded:
			t.Error("final, and not degraded")
		case h.Status == HealthDegraded && h.Cause == CauseNone:
			t.Error("degraded by nobody's doing")
		case h.Code == "":
			t.Error("no code")
		case !h.Converged && h.Reason == "":
			t.Error("no reason")
		case h.Since.After(healthNow):
			t.Error("since tomorrow")
		}
		if t.Failed() {
			t.Logf("%+v", h)
		}
	})
}

func TestOrderOfTasksMeansNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawCase(t)
		before := c.judge()
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		for _, list := range [][]swarm.Task{c.Current, c.Old} {
			r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		}
		if after := c.judge(); after != before {
			t.Errorf("before %+v\nafter  %+v", before, after)
		}
	})
}

// Names of the service, of nodes and of tasks have no say in a verdict.
func TestNamesMeanNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawCase(t)
		before := c.judge()
		others := map[string]string{"": "", "n1": "zeta", "n2": "alpha", "n3": "mid"}
		for _, list := range [][]swarm.Task{c.Current, c.Old} {
			for i := range list {
				list[i].ID, list[i].NodeID = rapid.StringN(1, 5, 5).Draw(t, "id"), others[list[i].NodeID]
			}
		}
		for _, n := range c.Nodes {
			n.ID, n.Description.Hostname = others[n.ID], "other-"+n.ID
		}
		after := Judge("api", &c.Service, c.tasks(), nodesOf(c.Nodes...), c.Now)
		if strings.HasPrefix(before.Reason, "web: ") != strings.HasPrefix(after.Reason, "api: ") {
			t.Errorf("reasons %q, %q", before.Reason, after.Reason)
		}
		before.Reason, after.Reason = "", ""
		if after != before {
			t.Errorf("before %+v\nafter  %+v", before, after)
		}
	})
}

// What is left of earlier specs and is to be stopped has no say in whether a service
// has converged, whatever it claims to do.
func TestHistoryMeansNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawCase(t)
		before := c.judge()
		for _, k := range rapid.SliceOfN(rapid.Custom(c.drawTask), 1, 5).Draw(t, "history") {
			k.DesiredState = swarm.TaskStateShutdown
			c.Old = append(c.Old, k)
		}
		if after := c.judge(); after.Status != before.Status || after.Converged != before.Converged || after.Final != before.Final || after.Running != before.Running || after.Desired != before.Desired {
			t.Errorf("before %+v\nafter  %+v", before, after)
		}
	})
}

// One more task that runs makes nothing worse. The exception is a service that thereby
// comes to hold itself the last place that one of its tasks waits for.
func TestRunningNeverMakesWorse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawCase(t)
		before := c.judge()
		k := c.drawTask(t)
		var ready []string
		for _, n := range c.Nodes {
			if takesTasks(n) {
				ready = append(ready, n.ID)
			}
		}
		if len(ready) == 0 {
			t.Skip("nowhere to run")
		}
		k.NodeID = rapid.SampledFrom(ready).Draw(t, "on")
		k.DesiredState, k.CreatedAt = swarm.TaskStateRunning, healthNow
		k.Status = swarm.TaskStatus{State: swarm.TaskStateRunning, Timestamp: healthNow}
		if isJob(&c.Service.Spec) {
			k.DesiredState, k.Status.State = swarm.TaskStateComplete, swarm.TaskStateComplete
		}
		if slices.ContainsFunc(slotsOf(&c.Service, c.Current, nil), func(list []*swarm.Task) bool {
			return (list[0].Slot == k.Slot && (k.Slot > 0 || list[0].NodeID == k.NodeID)) && slices.ContainsFunc(list, func(o *swarm.Task) bool { return completed(o) || wanted(o) && runs(o, nodesOf(c.Nodes...)) })
		}) {
			t.Skip("the slot is up")
		}
		c.Current = append(c.Current, k)
		after := c.judge()
		x := examine(&c.Service, c.tasks(), nodesOf(c.Nodes...), c.Now)
		if slices.ContainsFunc(x.symptoms, func(y symptom) bool { return y.final && (y.code == CodePortTaken || y.code == CodeMaxReplicas) }) {
			return
		}
		if rank(after.Status) > rank(before.Status) || before.Converged && !after.Converged || after.Final && !before.Final {
			t.Errorf("before %+v\nafter  %+v", before, after)
		}
	})
}

// A task on a node that is down is gone, whatever it claims.
func TestTasksOnLostNodesAreGone(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawCase(t)
		if isJob(&c.Service.Spec) {
			t.Skip("a job's completed tasks stay completed")
		}
		up := map[string]bool{}
		for _, n := range c.Nodes {
			up[n.ID] = n.Status.State != swarm.NodeStateDown
		}
		want := uint64(0)
		for i := range c.Current {
			k := &c.Current[i]
			if alive, known := up[k.NodeID]; (alive || !known) && wanted(k) && k.Status.State == swarm.TaskStateRunning {
				want++
			}
		}
		if h := c.judge(); h.Running != want {
			t.Errorf("%d run, want %d", h.Running, want)
		}
	})
}

// Who died before the release began does not make its service Degraded.
func TestEarlierDeathsMeanNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawCase(t)
		c.Since = healthNow.Add(time.Second)
		h := c.judge()
		if h.Status == HealthDegraded && h.Verdict == "" && h.Code != CodeNoNodeFits && h.Code != CodePortTaken && h.Code != CodeMaxReplicas {
			t.Errorf("%+v", h)
		}
	})
}
