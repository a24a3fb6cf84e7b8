package spec

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/swarm"
)

// defaultMonitor is the engine's: how long a new task is watched (swarmkit,
// api/defaults).
const defaultMonitor = 5 * time.Second

// updateConfigs fills in how the service is updated and rolled back. What the file
// leaves open is said explicitly, so that a service says the same whoever wrote it:
// start-first where that is safe, pause on failure, and else the engine's defaults.
// A job has neither: the engine refuses them.
func (c *converter) updateConfigs(s *Service, deploy *types.DeployConfig, at []string) {
	if isJob(s.Spec.Mode) {
		for key, given := range map[string]bool{"update_config": deploy.UpdateConfig != nil, "rollback_config": deploy.RollbackConfig != nil} {
			if given {
				c.report.warn("job-update", under(at, key), "%s is left out: a job is not updated but run anew (remove it)", key)
			}
		}
		return
	}
	s.Spec.UpdateConfig = c.updateConfig(deploy.UpdateConfig, under(at, "update_config"), "update_config")
	if deploy.RollbackConfig != nil {
		s.Spec.RollbackConfig = c.updateConfig(deploy.RollbackConfig, under(at, "rollback_config"), "rollback_config")
		if s.Spec.RollbackConfig.Order == "" {
			s.Spec.RollbackConfig.Order = swarm.UpdateOrderStopFirst
		}
	}
	switch {
	case s.Spec.UpdateConfig.Order == "" && s.StartFirstUnsafe == "":
		s.Spec.UpdateConfig.Order = swarm.UpdateOrderStartFirst
	case s.Spec.UpdateConfig.Order == "":
		s.Spec.UpdateConfig.Order = swarm.UpdateOrderStopFirst
		c.report.info("start-first-unsafe", at[:2], "%s is updated stop-first, so that it is away for a moment at each update: %s (write deploy.update_config.order yourself to say otherwise)", s.Key, s.StartFirstUnsafe)
	case s.Spec.UpdateConfig.Order == swarm.UpdateOrderStartFirst && s.StartFirstUnsafe != "":
		c.report.warn("start-first-unsafe", under(at, "update_config", "order"), "%s is updated start-first as the file says, though that is not safe: %s (write order: stop-first)", s.Key, s.StartFirstUnsafe)
	}
}

// updateConfig converts update_config or rollback_config.
func (c *converter) updateConfig(u *types.UpdateConfig, at []string, name string) *swarm.UpdateConfig {
	out := &swarm.UpdateConfig{Parallelism: 1, FailureAction: swarm.UpdateFailureActionPause, Monitor: defaultMonitor}
	if u == nil {
		return out
	}
	if u.Parallelism != nil {
		out.Parallelism = *u.Parallelism
	}
	if u.FailureAction != "" {
		out.FailureAction = u.FailureAction
	}
	if u.Monitor != 0 {
		out.Monitor = time.Duration(u.Monitor)
	}
	out.Delay, out.MaxFailureRatio, out.Order = time.Duration(u.Delay), u.MaxFailureRatio, u.Order
	c.checkUpdateConfig(out, at, name)
	return out
}

// checkUpdateConfig refuses what an engine refuses, and what it takes but carries
// out as nobody means it.
func (c *converter) checkUpdateConfig(u *swarm.UpdateConfig, at []string, name string) {
	actions := []string{swarm.UpdateFailureActionPause, swarm.UpdateFailureActionContinue}
	if name == "update_config" {
		actions = append(actions, swarm.UpdateFailureActionRollback)
	}
	where := under(at, "failure_action")
	switch {
	case name == "rollback_config" && u.FailureAction == swarm.UpdateFailureActionRollback:
		c.report.fail("rollback-loops", where, "rollback_config.failure_action is rollback: a rollback that fails would roll back again, and end with two images and the word completed (write pause)")
	case !slices.Contains(actions, u.FailureAction):
		c.report.fail("invalid-value", where, "%q is no failure_action of %s (write %s)", u.FailureAction, name, strings.Join(actions, " or "))
	case u.FailureAction == swarm.UpdateFailureActionContinue:
		c.report.warn("failure-continue", where, "%s.failure_action is continue: the engine then watches no task, and a broken version goes on to all of them (write pause or rollback)", name)
	}
	if u.Order != "" && u.Order != swarm.UpdateOrderStartFirst && u.Order != swarm.UpdateOrderStopFirst {
		c.report.fail("invalid-value", under(at, "order"), "%q is no order (write start-first or stop-first)", u.Order)
	}
	if u.MaxFailureRatio < 0 || u.MaxFailureRatio > 1 {
		c.report.fail("invalid-value", under(at, "max_failure_ratio"), "max_failure_ratio is %v (write a number from 0 to 1)", u.MaxFailureRatio)
	}
	if u.Delay < 0 || u.Monitor < 0 {
		c.report.fail("invalid-value", at, "%s has a negative duration (write 0s or more)", name)
	}
	if u.Parallelism == 0 {
		severity := Warning
		if name == "rollback_config" { // back to what ran, as fast as can be: many want that
			severity = Info
		}
		c.report.add(severity, "parallelism-zero", under(at, "parallelism"), "%s.parallelism is 0, which means all tasks at once (write 1 or more)", name)
	}
}

func isJob(mode swarm.ServiceMode) bool {
	return mode.ReplicatedJob != nil || mode.GlobalJob != nil
}

// startFirstUnsafe says why two instances of the service must not run side by side
// on a node, "" where they may.
func startFirstUnsafe(s swarm.ServiceSpec) string {
	if isJob(s.Mode) {
		return ""
	}
	for _, p := range s.EndpointSpec.Ports {
		if p.PublishMode == swarm.PortConfigPublishModeHost {
			return fmt.Sprintf("it publishes port %d of the host itself, which the old task holds until it stops", cmp.Or(p.PublishedPort, p.TargetPort))
		}
	}
	if n := s.TaskTemplate.Placement.MaxReplicas; n > 0 {
		return fmt.Sprintf("with at most %d of it on a node, a new task may find no place before an old one stops", n)
	}
	for _, m := range s.TaskTemplate.ContainerSpec.Mounts {
		if m.ReadOnly || m.Type == mount.TypeBind && ofSystem(m.Source) {
			continue
		}
		switch {
		case m.Type == mount.TypeBind, m.Type == mount.TypeCluster,
			(m.Type == mount.TypeVolume || m.Type == "") && m.Source != "":
			return fmt.Sprintf("it writes to %s, and two instances would at the same time", m.Target)
		}
	}
	return ""
}
