package reconcile

import (
	"time"

	"github.com/docker/docker/api/types/swarm"
)

// A verdict's numbers. A slot is one of a service's places: a replica, or the node
// of a global service.
const (
	// failsForGood is how many times in a row a slot has to die before it counts as
	// failing for good: what dies once or twice and heals fails nothing.
	failsForGood = 3
	// failureGap is how far apart two deaths may be, or the last one and now, to be
	// in a row. A service that needs longer to be started and found sick has longer.
	failureGap = 5 * time.Minute
)

// Tasks are a service's tasks as a judge needs them.
type Tasks struct {
	// Known says that they were asked for; where not, the service's own counts have
	// to do, which are blind to specs, to deaths and to nodes that are down.
	Known   bool
	Current []swarm.Task // of the service's current spec
	Old     []swarm.Task // of earlier specs
	// Since is when what is judged began to write the service: who died before it is
	// history, be it of the same spec. The zero time makes all count.
	Since time.Time
}

// A Cause says whose doing it is that a service is not well.
type Cause string

const (
	CauseNone  Cause = ""      // it is well, or on its way
	CauseOwn   Cause = "own"   // the service's: a crash, a check, an image, a mount, memory, a constraint
	CauseWorld Cause = "world" // a node that is lost, drained or changed
)

// Codes of a verdict: one word for what is the matter, for machines.
const (
	CodeConverged = "Converged" // nothing is
	CodeMissing   = "Missing"   // the service does not exist

	// On its way.
	CodeStarting   = "Starting"   // containers start, or their healthcheck is pending
	CodePulling    = "Pulling"    // the node prepares: images, networks, volumes
	CodePending    = "Pending"    // the scheduler has not said anything yet, or nothing that is known
	CodeScaling    = "Scaling"    // tasks are missing, and nothing is known of them
	CodeUpdating   = "Updating"   // all run; old ones are left, or Swarm's updater watches
	CodeRestarting = "Restarting" // a task died, and gets another chance
	CodeRunning    = "Running"    // a job's tasks run

	// What the scheduler waits for.
	CodeNoNodeFits     = "NoNodeFits"
	CodePortTaken      = "PortTaken"
	CodeResourcesShort = "ResourcesShort"
	CodeMaxReplicas    = "MaxReplicas"
	CodePluginMissing  = "PluginMissing"

	// What tasks died of.
	CodeImageMissing  = "ImageMissing"
	CodeMountRejected = "MountRejected"
	CodeRejected      = "Rejected"    // a node refused, for another reason
	CodeCannotStart   = "CannotStart" // the container was made and could not be started
	CodeOutOfMemory   = "OutOfMemory"
	CodeUnhealthy     = "Unhealthy"
	CodeExited        = "Exited"    // it ended with exit code 0
	CodeFailed        = "Failed"    // it died, and is not started again
	CodeCrashLoop     = "CrashLoop" // it dies soon after its start, again and again
	CodeFlapping      = "Flapping"  // it dies after Swarm's monitor, again and again
	CodeCrashed       = "Crashed"   // it died once or twice, and Swarm gave up on its update
	CodeJobFailed     = "JobFailed"
	CodeNodeLost      = "NodeLost"

	// What Swarm's updater says.
	CodeUpdatePaused    = "UpdatePaused"
	CodeSwarmRolledBack = "SwarmRolledBack" // or is at it
	CodeRollbackPaused  = "RollbackPaused"
)

// A ServiceHealth is the verdict over one service.
type ServiceHealth struct {
	// Status is Healthy exactly where Converged is true.
	Status HealthStatus
	// Converged says that all wanted tasks run the current spec, none of an earlier
	// one is left, Swarm's updater has finished, and no slot is failing for good
	// beyond the service's max_failure_ratio.
	Converged bool
	// Cause and Code tell what is the matter. A service that is not Degraded may have
	// a cause too: one task died of it, or waits for it.
	Cause Cause
	Code  string
	// Final says that waiting cannot end by itself, with the nodes there are: no node
	// can ever fit, or nobody starts again what has failed. It is Degraded then.
	Final bool
	// Since is when it came to be so, by the tasks' own times, which are clocks of the
	// Swarm's nodes; zero where they do not tell.
	Since time.Time
	// Until is when a pending healthcheck will have been decided; zero where that is
	// not what is waited for, or cannot be known.
	Until time.Time
	// Verdict is Swarm's own, where its updater has given up on the newest update:
	// "paused", "rollback_started", "rollback_completed" or "rollback_paused". Mark
	// tells which update that was.
	Verdict string
	Mark    string
	// Died is the code of what its tasks died of on which Swarm gave up; "" where that
	// is not known.
	Died string
	// Running counts the tasks of the current spec that run, Serving those of any.
	Running uint64
	Serving uint64
	Desired uint64
	// Failed counts the tasks of the current spec that came to an end by their own doing
	// since Tasks.Since, as far as the engine still has them (five a slot); 0 where tasks
	// were not asked for.
	Failed uint64
	// Wave is the service's, where a stack asks for it.
	Wave int
	// Reason is one sentence, empty where there is nothing to tell.
	Reason string
}

// Judge gives the verdict over a service (nil where it does not exist) from its
// tasks, the nodes by ID, and the time. The order of tasks and nodes means nothing
// to it, nor do names.
//
//	the service is not there                                        Missing
//	Swarm gave up on its update, and it is not whole                Degraded
//	slots failing for good, more than max_failure_ratio allows      Degraded
//	no node can ever fit; nobody starts again what has failed       Degraded, final
//	as many as wanted run the current spec, the updater is done     Healthy
//	else                                                            Progressing
func Judge(name string, s *swarm.Service, tasks Tasks, nodes map[string]*swarm.Node, now time.Time) ServiceHealth {
	if s == nil {
		return ServiceHealth{Status: Missing, Code: CodeMissing, Reason: name + ": the service does not exist"}
	}
	x := examine(s, tasks, nodes, now)
	h := ServiceHealth{Status: HealthProgressing, Mark: mark(s), Verdict: verdict(s),
		Running: x.running, Desired: x.desired, Serving: x.running + x.old, Failed: x.failed()}
	switch {
	case x.tooMany(x.failing):
		h.Status, h.Final = HealthDegraded, x.tooMany(x.stuck) || x.never
	case x.running+x.failingDown >= x.desired && x.old == 0 && updaterDone(s) && !newborn(s, tasks, now):
		h.Status, h.Converged = Healthy, true
	case h.Verdict != "", x.never:
		h.Status, h.Final = HealthDegraded, x.never
	}
	h.tell(name, &x)
	if h.Since.After(now) { // by a node whose clock is ahead
		h.Since = now
	}
	return h
}

// newborn says that a global service is too young for the engine to have made its
// tasks: until then it wants none.
func newborn(s *swarm.Service, tasks Tasks, now time.Time) bool {
	if !onEachNode(&s.Spec) || len(tasks.Current)+len(tasks.Old) > 0 {
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

// howUpdated is the configuration that Swarm's updater goes by.
func howUpdated(s *swarm.Service) swarm.UpdateConfig {
	how := s.Spec.UpdateConfig
	if s.UpdateStatus != nil && s.UpdateStatus.State == swarm.UpdateStateRollbackStarted {
		how = s.Spec.RollbackConfig
	}
	if how == nil {
		return swarm.UpdateConfig{}
	}
	return *how
}

func isGlobal(s *swarm.ServiceSpec) bool { return s.Mode.Global != nil }

// onEachNode says that a service's places are nodes.
func onEachNode(s *swarm.ServiceSpec) bool { return s.Mode.Global != nil || s.Mode.GlobalJob != nil }

func isJob(s *swarm.ServiceSpec) bool { return s.Mode.ReplicatedJob != nil || s.Mode.GlobalJob != nil }
