package spec

import (
	"cmp"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/swarm"
)

// rollout tells of updates that watch less than they seem to.
func (l *linter) rollout() {
	l.healthcheck()
	l.delay("update_config", l.service.Spec.UpdateConfig)
	l.delay("rollback_config", l.service.Spec.RollbackConfig)
	l.monitor()
}

// healthcheck tells of a rollout that nothing watches.
func (l *linter) healthcheck() {
	update := l.service.Spec.UpdateConfig
	if update == nil || update.Order != swarm.UpdateOrderStartFirst || l.checked() != nil {
		return
	}
	if check := l.service.Spec.TaskTemplate.ContainerSpec.Healthcheck; check != nil && len(check.Test) > 0 {
		l.report.info("no-healthcheck", l.at, "the healthcheck of %s is turned off, its image's too: a new task counts as well as soon as its process starts, and the old one is stopped (write a healthcheck)", l.service.Key)
		return
	}
	l.report.info("no-healthcheck", l.at, "%s has no healthcheck here: unless its image has one, a new task counts as well as soon as its process starts, and the old one is stopped (write a healthcheck)", l.service.Key)
}

// checked is the healthcheck that the file writes, nil where there is none or it is
// turned off.
func (l *linter) checked() *container.HealthConfig {
	check := l.service.Spec.TaskTemplate.ContainerSpec.Healthcheck
	if check == nil || len(check.Test) == 0 || check.Test[0] == "NONE" {
		return nil
	}
	return check
}

// delay tells of an update that waits longer between tasks than it watches them.
//
// Swarm counts a task as failed only where it ends before it runs, or within monitor
// after that (swarmkit, manager/orchestrator/update: failureTriggersAction compares
// with the time it began to run). A worker of the update waits for delay once its
// task runs, and then takes the next. So a task that ends after monitor and before
// delay is over counts for nothing, and the update goes on, though that is what its
// author had it wait for. Without a next task, or where failures are not watched at
// all, there is nothing to say.
func (l *linter) delay(name string, u *swarm.UpdateConfig) {
	if u == nil || u.FailureAction == swarm.UpdateFailureActionContinue || u.Monitor >= u.Delay || !l.batches(u.Parallelism) {
		return
	}
	l.report.warn("monitor-before-delay", under(l.at, "deploy", name, "delay"), "%s.delay is %s and monitor %s: a task that fails in between counts for nothing, and Swarm goes on to the next one (write monitor: %s or more)", name, u.Delay, u.Monitor, u.Delay)
}

// batches says whether an update of so many tasks at a time takes more than one go.
func (l *linter) batches(parallelism uint64) bool {
	mode := l.service.Spec.Mode
	switch {
	case parallelism == 0:
		return false
	case mode.Replicated != nil && mode.Replicated.Replicas != nil:
		return *mode.Replicated.Replicas > parallelism
	}
	return mode.Global != nil
}

// The engine's defaults of a healthcheck (moby, daemon/health.go).
const (
	defaultInterval = 30 * time.Second
	defaultRetries  = 3
)

// monitor tells of a failure_action that no healthcheck can set off once a task runs.
//
// A task with a healthcheck runs once that was good for the first time; what fails
// before always counts. From then on the engine needs retries failures in a row, an
// interval apart, to call the task unhealthy and end it (newer ones cut one interval
// short at the end of a start_period), and Swarm counts it only within monitor (see
// delay). It is told where the file relies on Swarm's own judgement: it writes what is
// to happen on a failure, or for how long to watch.
func (l *linter) monitor() {
	u, check := l.service.Spec.UpdateConfig, l.checked()
	written := mapping(l.raw, "deploy", "update_config")
	if u == nil || check == nil || u.FailureAction == swarm.UpdateFailureActionContinue || written["failure_action"] == nil && written["monitor"] == nil {
		return
	}
	failures := cmp.Or(check.Retries, defaultRetries)
	if check.StartPeriod > 0 {
		failures--
	}
	noticed := cmp.Or(check.Interval, defaultInterval) * time.Duration(failures)
	if u.Monitor >= noticed {
		return
	}
	l.report.info("monitor-short", under(l.at, "deploy", "update_config", "monitor"), "a task that falls sick once it runs is told by its healthcheck after %s at the soonest (by its interval and retries), and Swarm watches it for %s: its failure_action does not see that, only skep does (write a monitor of more than %s)", noticed, u.Monitor, noticed)
}

// nodes tells how many nodes the replicas need.
func (l *linter) nodes() {
	mode, most := l.service.Spec.Mode.Replicated, l.service.Spec.TaskTemplate.Placement.MaxReplicas
	if mode == nil || mode.Replicas == nil || most == 0 || *mode.Replicas <= most {
		return
	}
	l.report.info("replicas-exceed-nodes", under(l.at, "deploy", "replicas"), "%s has %d replicas, at most %d on a node: that takes %d nodes that its constraints allow, and what finds no place waits (see that there are so many, or write fewer replicas)", l.service.Key, *mode.Replicas, most, 1+(*mode.Replicas-1)/most)
}
