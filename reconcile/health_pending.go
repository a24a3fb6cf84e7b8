package reconcile

import (
	"fmt"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/go-units"
)

// noSuitableNode is how the scheduler begins to say why a task is pending
// (swarmkit's manager/scheduler); in parentheses it lists, with the number of nodes,
// the filters that refused, that with the most nodes first.
const noSuitableNode = "no suitable node"

// schedulerFilters are the scheduler's words for what a node lacks. Where several are told,
// the first of this list decides: a node that only a constraint excludes was never
// meant to take the task.
var schedulerFilters = []struct{ words, code, remedy string }{
	{"host-mode port already in use", CodePortTaken, "another task on every fitting node has that port: free it, or use order: stop-first"},
	{"max replicas per node limit exceed", CodeMaxReplicas, "raise deploy.placement.max_replicas_per_node, add a node, or use order: stop-first"},
	{"insufficient resources", CodeResourcesShort, "no node has that much free: lower deploy.resources.reservations or add a node"},
	{"missing plugin", CodePluginMissing, "install the plugin of its volume, network or log driver on the nodes that fit"},
	{"cannot fulfill requested CSI volume mounts", CodePluginMissing, "no node can reach the cluster volume: see docker volume inspect"},
	{"unsupported platform", CodeNoNodeFits, "no node that fits has a platform that the image is built for"},
	{"scheduling constraints not satisfied", CodeNoNodeFits, "no node fits deploy.placement.constraints: compare with docker node inspect"},
	{"not available for new tasks", CodeNoNodeFits, "the nodes that fit are down, drained or paused: see docker node ls"},
}

// pending tells why the scheduler has no node for a task, and whether one can come
// to be there without anybody's doing.
func (x *exam) pending(t *swarm.Task) symptom {
	y := symptom{code: CodePending, state: string(t.Status.State), since: t.Status.Timestamp}
	if y.text = taskError(t); !strings.HasPrefix(y.text, noSuitableNode) {
		return y
	}
	y.cause, y.gravity = CauseOwn, gravityPending
	for _, f := range schedulerFilters {
		if strings.Contains(y.text, f.words) {
			y.code, y.remedy = f.code, f.remedy
			break
		}
	}
	if len(x.nodes) == 0 {
		return y
	}
	at := siteOf(&x.s.Spec, x.nodes)
	if len(at.able) < len(at.fit) {
		y.cause = CauseWorld // with all its nodes at work it might have one
	}
	switch y.code {
	case CodeNoNodeFits:
		x.unfit(&y, &at)
	case CodePortTaken:
		x.full(&y, &at, 1)
	case CodeMaxReplicas:
		x.full(&y, &at, placementOf(&x.s.Spec).MaxReplicas)
	case CodeResourcesShort:
		if needs := x.tooBig(&at); needs != "" {
			y.final, y.remedy = true, "no node that fits has "+needs+" in all: lower deploy.resources.reservations, or add a larger node"
		}
	}
	return y
}

// unfit tells which constraints, or which nodes, leave a service without a node. That
// none of the Swarm's nodes can ever fit is certain where none does, whatever its
// state.
func (x *exam) unfit(y *symptom, at *site) {
	switch {
	case len(at.able) > 0: // the scheduler knows nodes as they were, or are
	case len(at.fit) > 0:
		y.remedy = "every node that fits takes no tasks: " + stateOfNodes(at.fit) + ": bring one back"
	case at.foreign:
		y.final, y.remedy = true, "no node that fits has a platform that the image is built for: "+platformNames(placementOf(&x.s.Spec).Platforms)
	case len(at.refused) > 0:
		y.final, y.remedy = true, "no node fulfils deploy.placement.constraints "+strings.Join(at.refused, ", ")+": correct it, or docker node update --label-add KEY=VALUE NODE"
	default:
		y.final, y.remedy = true, "no node fulfils all of deploy.placement.constraints "+strings.Join(placementOf(&x.s.Spec).Constraints, ", ")+" at once"
	}
}

// full finds out whether each node that fits holds as many tasks of this very service
// as it may, none of which makes room: with order: start-first the old ones only do
// when the new one runs.
func (x *exam) full(y *symptom, at *site, most uint64) {
	if most == 0 || len(at.fit) == 0 || len(at.able) < len(at.fit) || modeOf(&x.s.Spec) != modeReplicated {
		return
	}
	held := map[string]uint64{}
	hold := func(t *swarm.Task) {
		if t.NodeID != "" && wanted(t) && !dead(t) && t.Status.State != swarm.TaskStatePending {
			held[t.NodeID]++
		}
	}
	for i := range x.tasks.Current {
		hold(&x.tasks.Current[i])
	}
	startFirst := !updaterDone(x.s) && howUpdated(x.s).Order == swarm.UpdateOrderStartFirst
	for i := range x.tasks.Old {
		if t := &x.tasks.Old[i]; startFirst && !x.replaced(t) {
			hold(t)
		}
	}
	if slices.ContainsFunc(at.fit, func(n *swarm.Node) bool { return held[n.ID] < most }) {
		return
	}
	y.final = true
	if y.remedy = "each node that fits holds as many tasks of this service as it may: ask for fewer replicas, or add a node"; startFirst {
		y.remedy = "each node that fits holds an old task, which with order: start-first stops only when the new one runs: use order: stop-first"
	}
}

// replaced says that a new task runs already in an old one's slot, which is stopped
// then.
func (x *exam) replaced(t *swarm.Task) bool {
	return slices.ContainsFunc(x.slots, func(sl slot) bool { return sl.up != nil && sl.up.Slot == t.Slot })
}

// tooBig says what a task reserves that no node that fits has, even if it were empty;
// "" where one has, or where that is not known.
func (x *exam) tooBig(at *site) string {
	r := x.s.Spec.TaskTemplate.Resources
	if r == nil || r.Reservations == nil || len(at.fit) == 0 {
		return ""
	}
	var cpus, memory int64
	for _, n := range at.fit {
		has := n.Description.Resources
		if has.NanoCPUs == 0 || has.MemoryBytes == 0 {
			return ""
		}
		if has.NanoCPUs >= r.Reservations.NanoCPUs && has.MemoryBytes >= r.Reservations.MemoryBytes {
			return ""
		}
		cpus, memory = max(cpus, has.NanoCPUs), max(memory, has.MemoryBytes)
	}
	switch {
	case r.Reservations.MemoryBytes > memory:
		return units.BytesSize(float64(r.Reservations.MemoryBytes)) + " of memory"
	case r.Reservations.NanoCPUs > cpus:
		return fmt.Sprintf("%g CPUs", float64(r.Reservations.NanoCPUs)/1e9)
	}
	return fmt.Sprintf("%g CPUs and %s of memory", float64(r.Reservations.NanoCPUs)/1e9, units.BytesSize(float64(r.Reservations.MemoryBytes)))
}
