package reconcile

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/docker/docker/api/types/swarm"
)

// degradedAfter is how many tasks of the current spec have to fail, within
// failureWindow and while the service is not whole, before it counts as Degraded:
// one task that dies once and heals fails nothing.
const (
	degradedAfter = 3
	failureWindow = 5 * time.Minute
)

// Tasks are a service's tasks as a judge needs them.
type Tasks struct {
	// Known says that they were asked for; where not, the service's own counts have
	// to do, which are blind to specs.
	Known   bool
	Current []swarm.Task // of the service's current spec
	Old     []swarm.Task // of earlier specs
}

// A ServiceHealth is the verdict over one service.
type ServiceHealth struct {
	Status HealthStatus
	// Converged says that all wanted tasks run the current spec, none of an earlier
	// one is left, and Swarm's updater has finished.
	Converged bool
	// Verdict is Swarm's own, where its updater has given up on the newest update:
	// "paused", "rollback_started", "rollback_completed" or "rollback_paused". Mark
	// tells which update that was.
	Verdict string
	Mark    string
	// Running counts the tasks of the current spec that run, Serving those of any.
	Running uint64
	Serving uint64
	Desired uint64
	// Wave is the service's, where a stack asks for it.
	Wave int
	// Reason is one sentence, empty for a healthy service.
	Reason string
}

// Judge gives the verdict over a service (nil where it does not exist) from its
// tasks, the nodes by ID, and the time.
func Judge(name string, s *swarm.Service, tasks Tasks, nodes map[string]*swarm.Node, now time.Time) ServiceHealth {
	if s == nil {
		return ServiceHealth{Status: Missing, Reason: name + ": the service does not exist"}
	}
	h := ServiceHealth{Status: Healthy, Mark: mark(s), Verdict: verdict(s)}
	h.Running, h.Desired = counts(s, tasks, nodes)
	old := 0
	for i := range tasks.Old {
		if wanted(&tasks.Old[i]) && runs(&tasks.Old[i], nodes) {
			old++
		}
	}
	h.Serving = h.Running + uint64(old)
	h.Converged = h.Running >= h.Desired && old == 0 && updaterDone(s) && !newborn(s, tasks, now)
	if h.Converged {
		if h.Verdict != "" {
			h.Reason = verdictReason(name, s, tasks, nodes)
		}
		return h
	}
	h.Status, h.Reason = HealthProgressing, unconverged(name, s, &h, old, tasks, nodes)
	if h.Verdict != "" || h.Running < h.Desired && recentFailures(tasks.Current, now) >= degradedAfter {
		h.Status = HealthDegraded
	}
	return h
}

// newborn says that a global service is too young for the engine to have made its
// tasks: until then it wants none.
func newborn(s *swarm.Service, tasks Tasks, now time.Time) bool {
	if !isGlobal(&s.Spec) && s.Spec.Mode.GlobalJob == nil || len(tasks.Current)+len(tasks.Old) > 0 {
		return false
	}
	age := now.Sub(s.CreatedAt)
	return age >= 0 && age < 5*time.Second
}

// verdict is Swarm's own, once it has given up on an update.
func verdict(s *swarm.Service) string {
	if s.UpdateStatus == nil {
		return ""
	}
	switch st := s.UpdateStatus.State; st {
	case swarm.UpdateStatePaused, swarm.UpdateStateRollbackStarted, swarm.UpdateStateRollbackCompleted, swarm.UpdateStateRollbackPaused:
		return string(st)
	}
	return ""
}

func updaterDone(s *swarm.Service) bool {
	if s.UpdateStatus == nil {
		return true
	}
	switch s.UpdateStatus.State {
	case swarm.UpdateStateUpdating, swarm.UpdateStateRollbackStarted:
		return false
	}
	return true
}

// counts returns how many tasks do what they shall, and how many there shall be.
// For a job that is completed tasks.
func counts(s *swarm.Service, tasks Tasks, nodes map[string]*swarm.Node) (running, desired uint64) {
	st := s.ServiceStatus
	if st == nil {
		st = &swarm.ServiceStatus{}
	}
	desired = st.DesiredTasks
	switch m := s.Spec.Mode; {
	case m.Replicated != nil && m.Replicated.Replicas != nil:
		desired = *m.Replicated.Replicas
	case m.Replicated != nil:
		desired = 1
	case m.ReplicatedJob != nil:
		desired = 1
		if m.ReplicatedJob.TotalCompletions != nil {
			desired = *m.ReplicatedJob.TotalCompletions
		}
	}
	if isGlobal(&s.Spec) && tasks.Known {
		desired = max(desired, nodesWanted(tasks))
	}
	switch {
	case isJob(&s.Spec):
		return st.CompletedTasks, desired
	case !tasks.Known:
		return st.RunningTasks, desired
	}
	for i := range tasks.Current {
		if wanted(&tasks.Current[i]) && runs(&tasks.Current[i], nodes) {
			running++
		}
	}
	return running, desired
}

// nodesWanted counts the nodes that a global service wants a task on. The engine's
// own count leaves those out whose task has failed and waits to be started again.
func nodesWanted(tasks Tasks) uint64 {
	nodes := map[string]bool{}
	for _, list := range [][]swarm.Task{tasks.Current, tasks.Old} {
		for i := range list {
			if wanted(&list[i]) {
				nodes[list[i].NodeID] = true
			}
		}
	}
	return uint64(len(nodes))
}

func isGlobal(s *swarm.ServiceSpec) bool { return s.Mode.Global != nil }

func isJob(s *swarm.ServiceSpec) bool { return s.Mode.ReplicatedJob != nil || s.Mode.GlobalJob != nil }

// wanted says that the orchestrator still wants the task: history is no sickness.
func wanted(t *swarm.Task) bool {
	return t.DesiredState == swarm.TaskStateRunning || t.DesiredState == swarm.TaskStateReady
}

// runs says that a task is up. On a node that is down it is not, whatever it was
// the last time that node said something.
func runs(t *swarm.Task, nodes map[string]*swarm.Node) bool {
	return t.Status.State == swarm.TaskStateRunning && !nodeDown(t.NodeID, nodes)
}

func nodeDown(id string, nodes map[string]*swarm.Node) bool {
	n := nodes[id]
	return n != nil && n.Status.State == swarm.NodeStateDown
}

// dead says that a task has come to an end. Of a service, other than of a job, one
// that completes is no better than one that fails: a container that is stopped for
// being unhealthy, and then exits with 0, completes.
func dead(t *swarm.Task) bool {
	switch t.Status.State {
	case swarm.TaskStateFailed, swarm.TaskStateRejected, swarm.TaskStateOrphaned:
		return true
	case swarm.TaskStateComplete:
		return t.JobIteration == nil
	}
	return false
}

func recentFailures(tasks []swarm.Task, now time.Time) int {
	n := 0
	for i := range tasks {
		if dead(&tasks[i]) && now.Sub(tasks[i].Status.Timestamp) < failureWindow {
			n++
		}
	}
	return n
}

func verdictReason(name string, s *swarm.Service, tasks Tasks, nodes map[string]*swarm.Node) string {
	what := map[string]string{
		string(swarm.UpdateStatePaused):            "Swarm paused the update",
		string(swarm.UpdateStateRollbackStarted):   "Swarm takes the update back",
		string(swarm.UpdateStateRollbackCompleted): "Swarm took the update back",
		string(swarm.UpdateStateRollbackPaused):    "Swarm's rollback failed and is paused, versions are mixed",
	}[verdict(s)]
	if m := s.UpdateStatus.Message; m != "" {
		what += ": " + m
	}
	if c := complaint(append(slices.Clone(tasks.Current), tasks.Old...), nodes); c != "" {
		what += "; " + c
	}
	return name + ": " + what
}

// unconverged says in a sentence what a service still waits for.
func unconverged(name string, s *swarm.Service, h *ServiceHealth, old int, tasks Tasks, nodes map[string]*swarm.Node) string {
	if h.Verdict != "" {
		return verdictReason(name, s, tasks, nodes)
	}
	if isJob(&s.Spec) {
		return sentence(name, fmt.Sprintf("%d of %d tasks completed", h.Running, h.Desired), complaint(tasks.Current, nodes))
	}
	if h.Running < h.Desired {
		missing := h.Desired - h.Running
		if c := complaint(tasks.Current, nodes); c != "" {
			return fmt.Sprintf("%s: %d of %d tasks %s", name, missing, h.Desired, c)
		}
		return fmt.Sprintf("%s: %d of %d tasks run", name, h.Running, h.Desired)
	}
	if old > 0 {
		return fmt.Sprintf("%s: all %d new tasks run, %d old ones are being stopped", name, h.Desired, old)
	}
	return fmt.Sprintf("%s: all %d tasks run, Swarm still watches the update", name, h.Desired)
}

func sentence(name, what, complaint string) string {
	if complaint != "" {
		what += ": " + complaint
	}
	return name + ": " + what
}

// complaint tells, of the tasks that do not run, what most of the newest of each
// slot say: state, nodes, error, exit code and, where known, the remedy.
func complaint(tasks []swarm.Task, nodes map[string]*swarm.Node) string {
	type group struct {
		state, err string
		nodes      []string
		n          int
	}
	groups := map[string]*group{}
	for _, t := range newestBad(tasks, nodes) {
		text := taskError(t)
		state := string(t.Status.State)
		if nodeDown(t.NodeID, nodes) {
			state, text = "lost", "the node is down"
		}
		g := groups[state+"\x00"+text]
		if g == nil {
			g = &group{state: state, err: text}
			groups[state+"\x00"+text] = g
		}
		g.n++
		if host := hostname(t.NodeID, nodes); host != "" && !slices.Contains(g.nodes, host) {
			g.nodes = append(g.nodes, host)
		}
	}
	if len(groups) == 0 {
		return ""
	}
	var all []*group
	for _, g := range groups {
		all = append(all, g)
	}
	worst := slices.MaxFunc(all, func(a, b *group) int {
		return cmp.Or(cmp.Compare(gravity(a.state), gravity(b.state)), cmp.Compare(a.n, b.n), cmp.Compare(b.err, a.err))
	})
	text := worst.state
	if len(worst.nodes) > 0 {
		slices.Sort(worst.nodes)
		text += " on " + strings.Join(worst.nodes, ", ")
	}
	if worst.err != "" {
		text += ": " + worst.err
	}
	if r := remedy(worst.err); r != "" {
		text += " (" + r + ")"
	}
	return text
}

// newestBad returns, of each slot whose newest task does not run, the newest task
// that has something to say: one that failed before it, or itself.
func newestBad(tasks []swarm.Task, nodes map[string]*swarm.Node) []*swarm.Task {
	slots := map[string][]*swarm.Task{}
	for i := range tasks {
		t := &tasks[i]
		slot := fmt.Sprintf("%d/%s", t.Slot, ifZero(t.Slot, t.NodeID))
		slots[slot] = append(slots[slot], t)
	}
	var bad []*swarm.Task
	for _, list := range slots {
		slices.SortFunc(list, func(a, b *swarm.Task) int { return b.CreatedAt.Compare(a.CreatedAt) })
		if runs(list[0], nodes) {
			continue
		}
		if t := telling(list); t != nil {
			bad = append(bad, t)
		}
	}
	return bad
}

func ifZero(slot int, node string) string {
	if slot == 0 {
		return node // a global service's tasks have no slots, but nodes
	}
	return ""
}

func telling(list []*swarm.Task) *swarm.Task {
	for _, t := range list {
		if dead(t) || t.Status.Err != "" {
			return t
		}
	}
	if wanted(list[0]) { // it does not run, or only says so from a node that is down
		return list[0]
	}
	return nil
}

func gravity(state string) int {
	switch state {
	case "lost":
		return 5
	case string(swarm.TaskStateRejected):
		return 4
	case string(swarm.TaskStateFailed), string(swarm.TaskStateOrphaned), string(swarm.TaskStateComplete):
		return 3
	case string(swarm.TaskStatePending), string(swarm.TaskStateNew):
		return 2
	}
	return 1
}

func taskError(t *swarm.Task) string {
	text := strings.TrimSpace(strings.Trim(t.Status.Err, "\""))
	if c := t.Status.ContainerStatus; c != nil && c.ExitCode != 0 && !strings.Contains(text, fmt.Sprint(c.ExitCode)) {
		text = strings.TrimSpace(fmt.Sprintf("%s (exit code %d)", text, c.ExitCode))
	}
	switch {
	case text != "":
		return text
	case t.Status.State == swarm.TaskStateStarting:
		return "waiting for the healthcheck to pass"
	case t.Status.State == swarm.TaskStateComplete:
		return "it ended with exit code 0, by itself or since its healthcheck failed"
	}
	return ""
}

func hostname(id string, nodes map[string]*swarm.Node) string {
	if n := nodes[id]; n != nil && n.Description.Hostname != "" {
		return n.Description.Hostname
	}
	return id
}

// remedies map the engine's words (swarmkit, moby) to what helps.
var remedies = []struct{ words, remedy string }{
	{"No such image", "push it to a registry that every node reaches; a private one needs --registry-config"},
	{"pull access denied", "push it to a registry that every node reaches, or log in: --registry-config"},
	{"manifest unknown", "the tag is not in the registry: push it"},
	{"bind source path does not exist", "the path is not on that node: use a config for a file, a volume for data"},
	{"invalid mount config", "what is mounted is not on that node: use a config for a file, a volume for data"},
	{"host-mode port already in use", "another task on every fitting node has that port: free it, or use order: stop-first"},
	{"scheduling constraints not satisfied", "no node fits deploy.placement.constraints: compare with docker node inspect"},
	{"insufficient resources", "no node has that much free: lower deploy.resources.reservations or add a node"},
	{"max replicas per node limit exceed", "raise deploy.placement.max_replicas_per_node, add a node, or use order: stop-first"},
	{"unhealthy container", "its healthcheck fails: see docker service logs"},
	{"non-zero exit", "see docker service logs"},
	{"its healthcheck failed", "see docker service logs"},
	{"OOM", "raise deploy.resources.limits.memory"},
}

func remedy(err string) string {
	for _, r := range remedies {
		if strings.Contains(err, r.words) {
			return r.remedy
		}
	}
	return ""
}
