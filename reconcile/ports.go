package reconcile

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/swarm"

	"github.com/skep-io/skep/spec"
)

// settlePorts orders the services of the plan, by wave and name, and brings what
// frees a port before what takes it: the engine refuses a published port that
// another service still holds.
func (p *planner) settlePorts() {
	slices.SortStableFunc(p.services, func(a, b Change) int {
		return cmp.Or(cmp.Compare(a.Wave, b.Wave), strings.Compare(a.Name, b.Name))
	})
	h := handover{
		planner: p,
		updates: make(map[string]*Change, len(p.services)),
		removed: make(map[string]*Change, len(p.after)),
		first:   map[string][]string{},
		freeing: map[string]bool{},
	}
	for i := range p.services {
		h.updates[p.services[i].Name] = &p.services[i]
	}
	for i := range p.after {
		if p.after[i].Kind == KindService {
			h.removed[p.after[i].Name] = &p.after[i]
		}
	}
	for i := range p.services {
		h.claim(&p.services[i])
	}
	h.carryOut()
}

// A handover finds out which changes have to wait for which.
type handover struct {
	*planner
	updates map[string]*Change  // by service: created, updated, replaced
	removed map[string]*Change  // by service
	first   map[string][]string // service → those that have to free a port for it
	freeing map[string]bool     // services whose change frees a port for another
	claimed map[port]string     // who asked for it first, among those that are new to it
}

// claim looks at who holds the ports that a change takes.
func (h *handover) claim(c *Change) {
	for i := range endpointOf(c.Spec).Ports {
		want := portOf(&endpointOf(c.Spec).Ports[i])
		if want.PublishedPort == 0 {
			continue
		}
		key := port{want.PublishedPort, want.Protocol}
		for _, holder := range h.lookup.ports[key] {
			if holder != c.Name {
				h.contend(c, want, key, holder)
			}
		}
		h.claimOnce(c, want, key)
	}
}

// claimOnce tells of two services of the plan that ask for one port.
func (h *handover) claimOnce(c *Change, want swarm.PortConfig, key port) {
	if want.PublishMode == swarm.PortConfigPublishModeHost {
		return
	}
	if h.claimed == nil {
		h.claimed = map[port]string{}
	}
	other, taken := h.claimed[key]
	if taken && other != c.Name && !slices.Contains(h.lookup.ports[key], other) && !slices.Contains(h.lookup.ports[key], c.Name) {
		h.find(spec.Error, "ingress-port-taken", c.Key, "port %s is published by %s and by %s (publish it once)", key, other, c.Name)
	}
	h.claimed[key] = c.Name
}

func (h *handover) contend(c *Change, want swarm.PortConfig, key port, holder string) {
	held := h.live.Services[holder]
	if r, ok := h.removed[holder]; ok {
		if !h.freeing[holder] {
			h.find(spec.Warning, "port-handover", c.Key,
				"service %s leaves the stack and holds port %s, which %s takes: it is removed first, and nothing answers there until %s runs", holder, key, c.Name, c.Name)
		}
		r.Early, h.freeing[holder] = true, true
		return
	}
	if bothOnHosts(want, held, key) {
		return // the scheduler keeps them on different nodes
	}
	u, ok := h.updates[holder]
	if !ok || publishes(u.Spec, key) {
		h.find(spec.Error, "ingress-port-taken", c.Key,
			"port %s, which %s publishes, is held by service %s%s (publish another port, or free that one)", key, c.Name, holder, inStack(held))
		return
	}
	h.first[c.Name] = append(h.first[c.Name], holder)
	h.freeing[holder] = true
	severity := spec.Info
	if u.Wave > c.Wave {
		severity = spec.Warning
	}
	h.find(severity, "port-handover", c.Key,
		"port %s moves from %s to %s: %s is updated first, and nothing answers there until %s runs", key, holder, c.Name, holder, c.Name)
}

func bothOnHosts(want swarm.PortConfig, held *swarm.Service, key port) bool {
	return want.PublishMode == swarm.PortConfigPublishModeHost && !slices.ContainsFunc(
		slices.Concat(endpointOf(&held.Spec).Ports, held.Endpoint.Ports), func(q swarm.PortConfig) bool {
			q = portOf(&q)
			return key == port{q.PublishedPort, q.Protocol} && q.PublishMode == swarm.PortConfigPublishModeIngress
		})
}

func publishes(s *swarm.ServiceSpec, key port) bool {
	return slices.ContainsFunc(endpointOf(s).Ports, func(q swarm.PortConfig) bool {
		q = portOf(&q)
		return key == port{q.PublishedPort, q.Protocol}
	})
}

func inStack(s *swarm.Service) string {
	if stack := s.Spec.Labels[spec.LabelNamespace]; stack != "" {
		return " of stack " + stack
	}
	return ""
}

func (p port) String() string { return fmt.Sprintf("%d/%s", p.number, p.protocol) }

// carryOut moves what frees a port to the front, each behind what frees one for it.
func (h *handover) carryOut() {
	p := h.planner
	for _, c := range p.after {
		if c.Early {
			p.early = append(p.early, c)
		}
	}
	p.after = slices.DeleteFunc(p.after, func(c Change) bool { return c.Early })
	removals := len(p.early)

	state := map[string]int{} // 1: being placed, 2: placed
	var place func(c *Change) bool
	place = func(c *Change) bool {
		switch state[c.Name] {
		case 1:
			h.find(spec.Error, "port-cycle", c.Key,
				"services exchange published ports in a circle through %s, which the engine refuses (move one of them to a free port first)", c.Name)
			return false
		case 2:
			return true
		}
		state[c.Name] = 1
		for _, name := range h.first[c.Name] {
			if !place(h.updates[name]) {
				return false
			}
		}
		state[c.Name] = 2
		if h.freeing[c.Name] {
			early := *c
			early.Early = true
			p.early = append(p.early, early)
		}
		return true
	}
	for i := range p.services {
		if !place(&p.services[i]) {
			p.early = p.early[:removals] // the others are among the services still, and held
			return
		}
	}
	p.services = slices.DeleteFunc(p.services, func(c Change) bool { return h.freeing[c.Name] })
}
