package reconcile

import (
	"cmp"
	"slices"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/swarm"
)

// An exam is a service's tasks sorted into what a verdict needs.
type exam struct {
	s        *swarm.Service
	tasks    Tasks
	nodes    map[string]*swarm.Node
	now      time.Time
	slots    []slot // of the current spec
	running  uint64 // tasks of the current spec that do what they shall
	desired  uint64
	old      uint64 // tasks of earlier specs that run and are wanted
	symptoms []symptom

	// Slots that fail for good; of them those that are down; and of those the ones
	// that nobody starts again.
	failing, failingDown, stuck uint64
	never                       bool // a task waits for a node, and none can ever fit
}

// A slot is the tasks of the current spec in one of a service's places.
type slot struct {
	tasks  []*swarm.Task // newest first
	up     *swarm.Task   // the one that runs, or that has completed a job
	next   *swarm.Task   // the newest that is wanted and does not run
	deaths []*swarm.Task // in a row, newest first
	stuck  bool          // what has failed is not started again
}

func examine(s *swarm.Service, tasks Tasks, nodes map[string]*swarm.Node, now time.Time) exam {
	x := exam{s: s, tasks: tasks, nodes: nodes, now: now}
	for _, list := range slotsOf(s, tasks.Current, nodes) {
		if sl := x.slot(list); sl.up != nil || sl.next != nil || sl.stuck || len(sl.deaths) > 0 {
			x.slots = append(x.slots, sl)
		}
	}
	for i := range tasks.Old {
		if t := &tasks.Old[i]; wanted(t) && runs(t, nodes) {
			x.old++
		}
	}
	x.count()
	for i := range x.slots {
		if sl := &x.slots[i]; x.fails(sl) || sl.up == nil && x.running < x.desired {
			y := x.symptom(sl)
			x.never = x.never || y.final && !sl.stuck
			x.symptoms = append(x.symptoms, y)
		}
	}
	return x
}

// count counts tasks and slots. No more slots fail, or are missing, than are wanted:
// what is over was scaled away.
func (x *exam) count() {
	x.running, x.desired = counts(x.s, x.tasks, x.nodes)
	if x.tasks.Known && onEachNode(&x.s.Spec) {
		x.desired = max(x.desired, x.nodesWanted())
	}
	for i := range x.slots {
		switch sl := &x.slots[i]; {
		case !x.fails(sl):
			continue
		case sl.stuck:
			x.stuck++
			fallthrough
		case sl.up == nil:
			x.failingDown++
			fallthrough
		default:
			x.failing++
		}
	}
	missing := x.desired - min(x.desired, x.running)
	x.stuck, x.failingDown, x.failing = min(x.stuck, missing), min(x.failingDown, missing), min(x.failing, x.desired)
}

// nodesWanted counts the nodes that a global service wants a task on. The engine's
// own count leaves out those whose task has failed, whether it is started again or
// not.
func (x *exam) nodesWanted() uint64 {
	nodes := map[string]bool{}
	for i := range x.tasks.Old {
		if t := &x.tasks.Old[i]; wanted(t) {
			nodes[t.NodeID] = true
		}
	}
	for i := range x.slots {
		if sl := &x.slots[i]; sl.up != nil || sl.next != nil || sl.stuck {
			nodes[sl.tasks[0].NodeID] = true
		}
	}
	return uint64(len(nodes))
}

// tooMany says that so many slots are more than the service's max_failure_ratio
// allows to fail; Swarm's own rule. Where nothing runs, and of a job, any is too many.
func (x *exam) tooMany(slots uint64) bool {
	return slots > 0 && (x.running == 0 || isJob(&x.s.Spec) || float32(slots)/float32(x.desired) > howUpdated(x.s).MaxFailureRatio)
}

// slotsOf sorts tasks by their places, each newest first. Those of a job's earlier
// runs, and those that are being removed, have none.
func slotsOf(s *swarm.Service, tasks []swarm.Task, nodes map[string]*swarm.Node) [][]*swarm.Task {
	type place struct {
		slot int
		node string
	}
	global := onEachNode(&s.Spec)
	places := map[place][]*swarm.Task{}
	for i := range tasks {
		t := &tasks[i]
		if t.DesiredState == swarm.TaskStateRemove || !ofThisRun(s, t) {
			continue
		}
		at := place{slot: t.Slot}
		if global {
			at = place{node: t.NodeID}
		}
		places[at] = append(places[at], t)
	}
	lists := make([][]*swarm.Task, 0, len(places))
	for _, list := range places {
		slices.SortFunc(list, func(a, b *swarm.Task) int { return newerFirst(a, b, nodes) })
		lists = append(lists, list)
	}
	return lists
}

// newerFirst orders tasks by age, and those of one moment by what they are: by their
// nodes' names only where nothing else tells them apart.
func newerFirst(a, b *swarm.Task, nodes map[string]*swarm.Node) int {
	down := func(t *swarm.Task) int {
		if nodeDown(t.NodeID, nodes) {
			return 1
		}
		return 0
	}
	return cmp.Or(b.CreatedAt.Compare(a.CreatedAt), b.Status.Timestamp.Compare(a.Status.Timestamp),
		cmp.Compare(b.Status.State, a.Status.State), cmp.Compare(b.DesiredState, a.DesiredState), cmp.Compare(b.Status.Err, a.Status.Err),
		cmp.Compare(b.Status.Message, a.Status.Message), cmp.Compare(exitCode(b), exitCode(a)),
		cmp.Compare(down(a), down(b)), cmp.Compare(a.NodeID, b.NodeID))
}

// ofThisRun says of a job's task that it belongs to the job's newest run.
func ofThisRun(s *swarm.Service, t *swarm.Task) bool {
	return s.JobStatus == nil || t.JobIteration == nil || t.JobIteration.Index == s.JobStatus.JobIteration.Index
}

func (x *exam) slot(list []*swarm.Task) slot {
	sl := slot{tasks: list, deaths: x.inARow(list)}
	for _, t := range list {
		switch {
		case completed(t), wanted(t) && runs(t, x.nodes) && t.JobIteration == nil:
			if sl.up == nil {
				sl.up = t
			}
		case wanted(t) && sl.next == nil:
			sl.next = t
		}
	}
	if sl.stuck = sl.up == nil && sl.next == nil && x.givenUp(list[0]); sl.stuck && len(sl.deaths) == 0 {
		sl.deaths = list[:1] // however long ago that was
	}
	return sl
}

// inARow returns the newest deaths of a slot of which none is further than a gap
// from the next, or from now.
func (x *exam) inARow(list []*swarm.Task) []*swarm.Task {
	var died []*swarm.Task
	for _, t := range list {
		if x.died(t) {
			died = append(died, t)
		}
	}
	slices.SortStableFunc(died, func(a, b *swarm.Task) int { return since(b).Compare(since(a)) })
	last, gap := x.now, x.gap()
	for i, t := range died {
		if last.Sub(since(t)) > gap {
			return died[:i]
		}
		last = since(t)
	}
	return died
}

// gap is how far apart deaths in a row may be: a service that is given long to
// start, or to be found sick, or that is started again late, dies seldom.
func (x *exam) gap() time.Duration {
	stop := value(containerOf(&x.s.Spec).StopGracePeriod, defaultStopGrace)
	return max(failureGap, checkTime(containerOf(&x.s.Spec).Healthcheck)+restartDelay(x.s)+stop+time.Minute)
}

// checkTime is how long a healthcheck may take from a container's start until it is
// decided. 0: it has none, or only its image knows.
func checkTime(c *container.HealthConfig) time.Duration {
	if c == nil || len(c.Test) == 0 || c.Test[0] == "NONE" {
		return 0
	}
	retries := orElse(c.Retries, 3)
	return c.StartPeriod + time.Duration(retries)*(orElse(c.Interval, 30*time.Second)+orElse(c.Timeout, 30*time.Second))
}

func restartDelay(s *swarm.Service) time.Duration {
	return value(restartOf(&s.Spec).Delay, defaultRestartDelay)
}

// died says that a task came to an end by its own doing, since what is judged began.
func (x *exam) died(t *swarm.Task) bool {
	return dead(t) && !lostItsPlace(t) && !nodeDown(t.NodeID, x.nodes) && !since(t).Before(x.tasks.Since)
}

// since is when a task came to be in its state: by the clock of its node and, where that
// is behind, at the earliest when the Swarm made it.
func since(t *swarm.Task) time.Time {
	if t.CreatedAt.After(t.Status.Timestamp) {
		return t.CreatedAt
	}
	return t.Status.Timestamp
}

// failed counts the tasks of the current spec that died.
func (x *exam) failed() (n uint64) {
	for i := range x.tasks.Current {
		if t := &x.tasks.Current[i]; ofThisRun(x.s, t) && x.died(t) {
			n++
		}
	}
	return n
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

func completed(t *swarm.Task) bool {
	return t.Status.State == swarm.TaskStateComplete && t.JobIteration != nil
}

// lostItsPlace says that a task ended since its node went, or does not fit any more
// (swarmkit's constraintenforcer): the world's doing.
func lostItsPlace(t *swarm.Task) bool {
	return t.Status.State == swarm.TaskStateOrphaned || t.Status.Err == "assigned node no longer meets constraints"
}

// wanted says that the orchestrator still wants the task: history is no sickness. A
// job's tasks are wanted completed.
func wanted(t *swarm.Task) bool {
	switch t.DesiredState {
	case swarm.TaskStateRunning, swarm.TaskStateReady:
		return true
	case swarm.TaskStateComplete:
		return t.JobIteration != nil && !completed(t)
	}
	return false
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

// givenUp says that a slot's newest task has died and is not started again: its
// restart policy says so. swarmkit's rules (manager/orchestrator/restart).
func (x *exam) givenUp(t *swarm.Task) bool {
	if !x.died(t) || wanted(t) {
		return false
	}
	if onEachNode(&x.s.Spec) && !siteOf(&x.s.Spec, x.nodes).able[t.NodeID] {
		return false // nor is it wanted there any more
	}
	policy := restartOf(&x.s.Spec)
	switch policy.Condition {
	case swarm.RestartPolicyConditionNone:
		return true
	case swarm.RestartPolicyConditionOnFailure:
		if t.Status.State == swarm.TaskStateComplete {
			return true
		}
	}
	return value(policy.MaxAttempts, 0) > 0
}

// fails says that a slot fails for good: it has died often enough in a row, and what
// runs now, if anything, has not outlived what died; or nobody starts it again.
func (x *exam) fails(sl *slot) bool {
	return sl.stuck || len(sl.deaths) >= failsForGood && !x.settled(sl)
}

// settled says that what runs in a slot has lived for longer than Swarm's monitor,
// and for twice as long as the longest of those that died there.
func (x *exam) settled(sl *slot) bool {
	if sl.up == nil {
		return false
	}
	longest := time.Duration(0)
	for _, t := range sl.deaths[:len(sl.deaths)-1] {
		longest = max(longest, x.lifetime(t))
	}
	return completed(sl.up) || x.now.Sub(since(sl.up)) >= max(x.monitor(), 2*longest)
}

// lifetime is about how long a task ran that was started in the place of another; 0
// where it never did. A task tells when it was made and when it died: in between it
// waited for the restart policy's delay, too.
func (x *exam) lifetime(t *swarm.Task) time.Duration {
	if t.Status.Message != "started" { // what swarmkit's agent says on entering RUNNING; a failure keeps it
		return 0
	}
	return max(0, t.Status.Timestamp.Sub(t.CreatedAt)-restartDelay(x.s))
}

func (x *exam) monitor() time.Duration { return orElse(howUpdated(x.s).Monitor, defaultMonitor) }

// counts returns how many tasks do what they shall, and how many there shall be.
// For a job that is completed tasks.
func counts(s *swarm.Service, tasks Tasks, nodes map[string]*swarm.Node) (running, desired uint64) {
	st := s.ServiceStatus
	if st == nil {
		st = &swarm.ServiceStatus{}
	}
	if desired = scaleOf(&s.Spec).total; isGlobal(&s.Spec) || s.Spec.Mode.GlobalJob != nil && !tasks.Known {
		desired = st.DesiredTasks
	}
	switch {
	case !tasks.Known && isJob(&s.Spec):
		return st.CompletedTasks, desired
	case !tasks.Known:
		return st.RunningTasks, desired
	}
	for i := range tasks.Current {
		t := &tasks.Current[i]
		if isJob(&s.Spec) && completed(t) && ofThisRun(s, t) || !isJob(&s.Spec) && wanted(t) && runs(t, nodes) {
			running++
		}
	}
	return running, desired
}
