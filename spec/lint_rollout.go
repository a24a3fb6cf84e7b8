package spec

import (
	"github.com/docker/docker/api/types/swarm"
)

// health tells of a rollout that nothing watches.
func (l *linter) health() {
	update, check := l.service.Spec.UpdateConfig, l.service.Spec.TaskTemplate.ContainerSpec.Healthcheck
	if update == nil || update.Order != swarm.UpdateOrderStartFirst {
		return
	}
	if check == nil || (len(check.Test) > 0 && check.Test[0] == "NONE") {
		l.report.info("no-healthcheck", l.at, "%s has no healthcheck here: unless its image has one, a new task gets requests as soon as its process starts, and the old one stops (write a healthcheck)", l.service.Key)
	}
}
