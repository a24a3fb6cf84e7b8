package reconcile

import (
	"fmt"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/swarm"

	"github.com/skep-io/skep/spec"
)

// What the Swarm's nodes mean for a service: nothing here is for ever, since nodes
// come, go and get labels, so all of it is told and none of it stands in the way.

// nodeFindings tell of tasks of a service that would stay pending for want of nodes.
// s is the service as it will be; without a node in the listing there is nothing to
// tell.
func nodeFindings(key, name string, s *swarm.ServiceSpec, live *Live) []spec.Finding {
	if len(live.Nodes) == 0 || scaleOf(s).total == 0 && modeOf(s) != modeGlobal && modeOf(s) != modeGlobalJob {
		return nil
	}
	ports := hostPorts(s)
	if placementOf(s).MaxReplicas == 0 && len(ports) == 0 && live.anyFits(s) { // as with nearly all
		return nil
	}
	x := siteOf(s, live.Nodes)
	tell := func(code, format string, args ...any) []spec.Finding {
		return []spec.Finding{{Severity: spec.Warning, Code: code, Service: key, Message: fmt.Sprintf(format, args...)}}
	}
	if why := x.nobody(s); why != "" {
		return tell("no-node-fits", "%s", why)
	}
	if text := x.tooFew(s, len(ports) > 0); text != "" {
		return tell("replicas-exceed-nodes", "%s", text)
	}
	for _, at := range ports {
		if text := x.contended(name, s, at, live); text != "" {
			return tell("host-port-taken", "%s", text)
		}
	}
	return nil
}

// anyFits says that some node takes tasks of a service.
func (l *Live) anyFits(s *swarm.ServiceSpec) bool {
	constraints, platforms := parseConstraints(s), placementOf(s).Platforms
	return slices.ContainsFunc(l.lookUp().takers, func(n *swarm.Node) bool {
		return runsOn(platforms, n) && !slices.ContainsFunc(constraints, func(c constraint) bool { return !c.matches(n) })
	})
}

// takers counts the nodes that take tasks.
func (l *Live) takers() int { return len(l.lookUp().takers) }

// nobody says why no node can have a task; empty where one can.
func (x *site) nobody(s *swarm.ServiceSpec) string {
	p := placementOf(s)
	switch {
	case len(x.able) > 0:
		return ""
	case len(x.fit) > 0:
		return fmt.Sprintf("every node that fits takes no tasks: %s; tasks stay pending (bring one back, or change deploy.placement.constraints)", stateOfNodes(x.fit))
	case x.foreign:
		return fmt.Sprintf("no node that fits has a platform that the image is built for (%s): tasks stay pending (build it for theirs, or constrain the service to other nodes)", platformNames(p.Platforms))
	case len(x.refused) > 0:
		return fmt.Sprintf("no node fulfils deploy.placement.constraints %s: tasks stay pending (correct it, or label a node: docker node update --label-add KEY=VALUE NODE)", strings.Join(x.refused, ", "))
	}
	return fmt.Sprintf("no node fulfils all of deploy.placement.constraints %s at once: tasks stay pending (take one out, or label a node)", strings.Join(p.Constraints, ", "))
}

// stateOfNodes names nodes with why they take no tasks.
func stateOfNodes(nodes []*swarm.Node) string {
	var names []string
	for _, n := range nodes {
		why := string(n.Status.State)
		if n.Status.State == swarm.NodeStateReady {
			why = string(n.Spec.Availability)
		}
		names = append(names, fmt.Sprintf("%s (%s)", orElse(n.Description.Hostname, n.ID), why))
	}
	return fewOf(names)
}

// maxNamed is how many nodes, paths or the like one sentence names.
const maxNamed = 5

// fewOf lists names, sorted, and says how many it leaves out.
func fewOf(names []string) string {
	slices.Sort(names)
	if more := len(names) - maxNamed; more > 1 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:maxNamed], ", "), more)
	}
	return strings.Join(names, ", ")
}

func platformNames(platforms []swarm.Platform) string {
	var names []string
	for _, p := range platforms {
		names = append(names, orElse(p.OS, "any")+"/"+orElse(p.Architecture, "any"))
	}
	slices.Sort(names)
	return fewOf(slices.Compact(names))
}

// tooFew says that replicas find no place, at most so many being allowed a node; a
// host's port is there once a node. A job's tasks wait for each other and are none.
func (x *site) tooFew(s *swarm.ServiceSpec, holdsHostPort bool) string {
	if modeOf(s) != modeReplicated {
		return ""
	}
	most, why := placementOf(s).MaxReplicas, "deploy.placement.max_replicas_per_node"
	if holdsHostPort && most != 1 {
		most, why = 1, "the port it publishes on its host"
	}
	places := most * uint64(len(x.able))
	replicas := scaleOf(s).total
	if most == 0 || replicas <= places {
		return ""
	}
	return fmt.Sprintf("%d replicas have room for %d: %s allows %d a node, and %s: the rest stays pending (ask for fewer, or add nodes)",
		replicas, places, why, most, x.count())
}

// count says how many nodes there are for the tasks.
func (x *site) count() string {
	if len(x.able) == x.of {
		return fmt.Sprintf("the Swarm has %d", x.of)
	}
	return fmt.Sprintf("%d of the Swarm's %d fit and take tasks", len(x.able), x.of)
}

// hostPorts are the fixed ports that each task takes of its node.
func hostPorts(s *swarm.ServiceSpec) []port {
	var out []port
	for i := range endpointOf(s).Ports {
		if p := portOf(&endpointOf(s).Ports[i]); p.PublishMode == swarm.PortConfigPublishModeHost && p.PublishedPort != 0 {
			out = append(out, port{p.PublishedPort, p.Protocol})
		}
	}
	return out
}

// contended says that another service has the same port of its hosts, and that there
// are not nodes enough for the tasks of both. Services of the file itself are told of
// without an engine.
func (x *site) contended(name string, s *swarm.ServiceSpec, at port, live *Live) string {
	for _, holder := range live.lookUp().ports[at] {
		held := live.Services[holder]
		if holder == name || held.Spec.Labels[spec.LabelNamespace] == s.Labels[spec.LabelNamespace] || !slices.Contains(hostPorts(&held.Spec), at) {
			continue
		}
		other := siteOf(&held.Spec, live.Nodes)
		both := len(x.able)
		for id := range other.able {
			if !x.able[id] {
				both++
			}
		}
		if need := x.tasks(s) + other.tasks(&held.Spec); need > uint64(both) {
			return fmt.Sprintf("port %s of the host is also published by service %s%s: the tasks of both need %d nodes, and there are %d: the rest stays pending (publish another port, or constrain the placement of both)",
				at, holder, inStack(held), need, both)
		}
	}
	return ""
}

// tasks is how many nodes a service needs that has one task a node.
func (x *site) tasks(s *swarm.ServiceSpec) uint64 {
	switch modeOf(s) {
	case modeGlobal, modeGlobalJob:
		return uint64(len(x.able))
	}
	return scaleOf(s).concurrent
}
