package spec

import (
	"fmt"
	"sort"

	"github.com/docker/docker/api/types/swarm"
)

// lintPorts tells of services that want the same port.
func (c *converter) lintPorts(services []Service) {
	type port struct {
		number   uint32
		protocol swarm.PortConfigProtocol
	}
	type holder struct {
		key  string
		mode swarm.PortConfigPublishMode
	}
	holders := map[port][]holder{}
	for _, s := range services {
		for _, p := range s.Spec.EndpointSpec.Ports {
			if p.PublishedPort != 0 {
				at := port{p.PublishedPort, protocol(p)}
				holders[at] = append(holders[at], holder{s.Key, p.PublishMode})
			}
		}
	}
	for at, all := range holders {
		sort.Slice(all, func(i, j int) bool { return all[i].key < all[j].key })
		for i := 1; i < len(all); i++ {
			a, b := all[i-1], all[i]
			if a.key == b.key {
				continue
			}
			what := fmt.Sprintf("the services %s and %s both publish port %d/%s", a.key, b.key, at.number, at.protocol)
			where := []string{"services", b.key, "ports"}
			if a.mode == swarm.PortConfigPublishModeHost && b.mode == swarm.PortConfigPublishModeHost {
				c.report.warn("host-port-conflict", where, "%s of the host, and never run on one node together (give one another port, or constrain their placement)", what)
			} else {
				c.report.fail("port-conflict", where, "%s, and an engine refuses the second (give one another port)", what)
			}
		}
	}
}
