package reconcile

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/swarm"

	"github.com/skep-io/skep/spec"
)

// What bind mounts lack on their nodes, as far as tasks have told. It is pure: no node
// is asked, and nothing is held back for it.

// noSource is what an engine says (moby's volume/mounts) of a bind mount whose path
// its node has not, with the path behind it. No API tells a node's files, so this is
// the only way to know.
const noSource = "bind source path does not exist: "

// missingBinds tells which bind mounts of a service some nodes have nothing for, by
// what became of its tasks there; nil where none is known. Only what the service
// still asks for is told, and only of nodes that are still there.
func missingBinds(key string, s *swarm.ServiceSpec, tasks []swarm.Task, nodes map[string]*swarm.Node) *spec.Finding {
	asked := map[string]bool{}
	for _, m := range containerOf(s).Mounts {
		if m.Type == mount.TypeBind {
			asked[path.Clean(m.Source)] = true
		}
	}
	if len(asked) == 0 {
		return nil
	}
	missing := map[string][]string{} // path → hostnames
	for id, t := range newestPrepared(tasks) {
		if source := missingSource(t); nodes[id] != nil && asked[source] {
			missing[source] = append(missing[source], hostname(id, nodes))
		}
	}
	var parts []string
	for _, source := range sortedKeys(missing) {
		parts = append(parts, source+" on "+fewOf(missing[source]))
	}
	if len(parts) == 0 {
		return nil
	}
	return &spec.Finding{Severity: spec.Warning, Code: "bind-missing-on-nodes", Service: key, Message: fmt.Sprintf(
		"a bind mount's path does not exist, and tasks are rejected: %s (make it on each node, constrain the placement, or use a config for a file and a volume for data)", strings.Join(parts, "; "))}
}

// newestPrepared returns, for each node, the newest task that got so far that its
// mounts were tried.
func newestPrepared(tasks []swarm.Task) map[string]*swarm.Task {
	newest := map[string]*swarm.Task{}
	for i := range tasks {
		t := &tasks[i]
		if t.NodeID == "" || !slices.Contains(prepared, t.Status.State) {
			continue
		}
		if old := newest[t.NodeID]; old == nil || t.CreatedAt.After(old.CreatedAt) {
			newest[t.NodeID] = t
		}
	}
	return newest
}

// prepared are the states of tasks whose container was made, or could not be made.
var prepared = []swarm.TaskState{
	swarm.TaskStateReady, swarm.TaskStateStarting, swarm.TaskStateRunning, swarm.TaskStateComplete, swarm.TaskStateFailed, swarm.TaskStateRejected,
}

// missingSource is the path that a rejected task found nothing at.
func missingSource(t *swarm.Task) string {
	_, source, ok := strings.Cut(t.Status.Err, noSource)
	if t.Status.State != swarm.TaskStateRejected || !ok {
		return ""
	}
	return path.Clean(strings.Trim(source, "\" "))
}
