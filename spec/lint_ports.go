package spec

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/swarm"
)

// A publisher is a service that publishes ports.
type publisher struct {
	stack       *Stack
	service     *Service
	constraints []constraint
}

// publishers are the services of a stack that publish ports.
func publishers(stack *Stack) []publisher {
	var out []publisher
	for i := range stack.Services {
		if s := &stack.Services[i]; len(s.Spec.EndpointSpec.Ports) > 0 {
			out = append(out, publisher{stack, s, constraints(s)})
		}
	}
	return out
}

// A claim is one port that a service publishes.
type claim struct {
	publisher
	port swarm.PortConfig
}

func (c claim) onHost() bool { return c.port.PublishMode == swarm.PortConfigPublishModeHost }

func (c claim) number() string {
	return fmt.Sprintf("%d/%s", c.port.PublishedPort, protocol(c.port))
}

// A clash is what two services cannot both have.
type clash struct {
	first, second publisher
	host          bool // on one node; else in the whole Swarm
	ports         []string
}

// clashes finds the pairs of services that publish the same port. Each service is
// paired with the first before it that it clashes with, by port; within says
// whether two services are to be looked at together.
func clashes(all []publisher, within func(a, b publisher) bool) []*clash {
	type pair struct {
		first, second *Service
		host          bool
	}
	var found []*clash
	pairs := map[pair]*clash{}
	for _, claims := range claimsOf(all) {
		for i, second := range claims {
			first, ok := rival(claims[:i], second, within)
			if !ok {
				continue
			}
			key := pair{first.service, second.service, first.onHost() && second.onHost()}
			if pairs[key] == nil {
				pairs[key] = &clash{first: first.publisher, second: second.publisher, host: key.host}
				found = append(found, pairs[key])
			}
			pairs[key].ports = append(pairs[key].ports, second.number())
		}
	}
	return found
}

// claimsOf gathers claims by port, in the order of ports, each in that of services.
func claimsOf(all []publisher) [][]claim {
	type port struct {
		number   uint32
		protocol swarm.PortConfigProtocol
	}
	claims := map[port][]claim{}
	for _, p := range all {
		for _, c := range p.service.Spec.EndpointSpec.Ports {
			if c.PublishedPort != 0 {
				at := port{c.PublishedPort, protocol(c)}
				claims[at] = append(claims[at], claim{p, c})
			}
		}
	}
	sorted := slices.SortedFunc(maps.Keys(claims), func(a, b port) int {
		return cmp.Or(cmp.Compare(a.number, b.number), cmp.Compare(a.protocol, b.protocol))
	})
	out := make([][]claim, 0, len(sorted))
	for _, at := range sorted {
		out = append(out, claims[at])
	}
	return out
}

// maxRivals bounds how many claims of a port each is compared with.
const maxRivals = 1000

// rival is the first claim before that second cannot have its port beside. Two
// ports of hosts get on where the services never meet on a node.
func rival(before []claim, second claim, within func(a, b publisher) bool) (claim, bool) {
	for _, first := range before[:min(len(before), maxRivals)] {
		switch {
		case first.service == second.service, !within(first.publisher, second.publisher):
		case first.onHost() && second.onHost() && apart(first.constraints, second.constraints):
		default:
			return first, true
		}
	}
	return claim{}, false
}

// apart says that placement constraints of two services leave no node to both.
func apart(a, b []constraint) bool {
	for _, x := range a {
		for _, y := range b {
			same := strings.EqualFold(x.value, y.value)
			if x.key == y.key && (x.not != y.not && same || !x.not && !y.not && !same) {
				return true
			}
		}
	}
	return false
}

// A constraint is one on a property of which a node has one value at most.
type constraint struct {
	key, value string
	not        bool
}

func constraints(s *Service) []constraint {
	var out []constraint
	for _, text := range s.Spec.TaskTemplate.Placement.Constraints {
		key, value, ok := strings.Cut(text, "==")
		not := !ok
		if not {
			key, value, ok = strings.Cut(text, "!=")
		}
		if key = strings.TrimSpace(key); ok && key != "node.ip" { // which may be a subnet
			out = append(out, constraint{key, strings.TrimSpace(value), not})
		}
	}
	return out
}

// portList names ports, not all of a long list.
func portList(ports []string) string {
	const most = 3
	switch n := len(ports); {
	case n == 1:
		return "port " + ports[0]
	case n > most:
		return fmt.Sprintf("ports %s and %d more", strings.Join(ports[:most], ", "), n-most)
	}
	return "ports " + listed(ports)
}

// lintPorts tells of services of the stack that want the same port.
func (c *converter) lintPorts(stack *Stack) {
	for _, clash := range clashes(publishers(stack), func(_, _ publisher) bool { return true }) {
		a, b := clash.first.service.Key, clash.second.service.Key
		at := []string{"services", b, "ports"}
		if what := portList(clash.ports); clash.host {
			c.report.warn("host-port-conflict", at, "the services %s and %s both publish %s of the host, and never run on one node together (give one another port, or constrain their placement)", a, b, what)
		} else {
			c.report.fail("port-conflict", at, "the services %s and %s both publish %s, and an engine refuses the second (give one another port)", a, b, what)
		}
	}
}

// portsAcross tells of ports that services of different stacks publish. An engine
// gives a port to the stack that comes first, which is to stay as it is whatever
// another file says: so it is a warning.
func (snap *Snapshot) portsAcross(found foundAcross) {
	var all []publisher
	for _, name := range sortedKeys(snap.Stacks) {
		all = append(all, publishers(snap.Stacks[name])...)
	}
	for _, clash := range clashes(all, func(a, b publisher) bool { return a.stack != b.stack }) {
		at, f := clash.across(clash.first, clash.second)
		found.add(clash.first.stack, at, f)
		at, f = clash.across(clash.second, clash.first)
		found.add(clash.second.stack, at, f)
	}
}

// across is the clash as the file of one of its stacks is told it.
func (c *clash) across(to, other publisher) (at place, f Finding) {
	f = Finding{Severity: Warning, Service: to.service.Key}
	what, who := portList(c.ports), fmt.Sprintf("%s of the stack %s (%s)", other.service.Key, other.stack.Name, other.stack.Source.at())
	if c.host {
		f.Code = "host-port-conflict"
		f.Message = fmt.Sprintf("%s publishes %s of the host, as does %s, and they never run on one node together (give one another port, or constrain their placement)", to.service.Key, what, who)
	} else {
		f.Code = "port-conflict"
		f.Message = fmt.Sprintf("%s publishes %s, as does %s, and an engine refuses the one that comes second (give one another port)", to.service.Key, what, who)
	}
	return to.service.ports, f
}
