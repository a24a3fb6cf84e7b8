package reconcile

import (
	"slices"
	"sync"

	"github.com/docker/docker/api/types/swarm"
)

// A lookup answers what Diff asks about the whole Swarm without going through all
// of it for every stack. It is made once for a Live, when first asked for.
type lookup struct {
	once     sync.Once
	networks map[string]string   // ID → name
	configs  map[string]string   // ID → name
	secrets  map[string]string   // ID → name
	users    map[string][]string // ID of a network, config or secret → services, sorted
	ports    map[port][]string   // published port → services that hold it, sorted
	takers   []*swarm.Node       // that take tasks, sorted by ID
}

// A port is what two services can contend for.
type port struct {
	number   uint32
	protocol swarm.PortConfigProtocol
}

func (l *Live) lookUp() *lookup {
	l.lookup.once.Do(func() { l.lookup.build(l) })
	return &l.lookup
}

func (x *lookup) build(l *Live) {
	x.users = map[string][]string{}
	x.ports = map[port][]string{}
	x.networks = make(map[string]string, len(l.Networks))
	for name, n := range l.Networks {
		x.networks[n.ID] = name
	}
	for id, name := range l.networkNames {
		x.networks[id] = name
	}
	x.configs = namesByID(l.Configs)
	x.secrets = namesByID(l.Secrets)
	for name, s := range l.Services {
		x.uses(name, &s.Spec)
		if s.PreviousSpec != nil { // what a rollback by the engine would need
			x.uses(name, s.PreviousSpec)
		}
		x.holds(name, s)
	}
	for _, id := range sortedKeys(l.Nodes) {
		if n := l.Nodes[id]; takesTasks(n) {
			x.takers = append(x.takers, n)
		}
	}
	for _, names := range x.users {
		slices.Sort(names)
	}
	for _, names := range x.ports {
		slices.Sort(names)
	}
}

func namesByID(objects map[string]*LiveObject) map[string]string {
	names := make(map[string]string, len(objects))
	for name, o := range objects {
		names[o.ID] = name
	}
	return names
}

func (x *lookup) uses(service string, s *swarm.ServiceSpec) {
	use := func(id string) {
		if id != "" {
			x.users[id] = withLast(x.users[id], service)
		}
	}
	for _, n := range networksOf(s) {
		use(n.Target)
	}
	for _, r := range containerOf(s).Configs {
		use(r.ConfigID)
	}
	for _, r := range containerOf(s).Secrets {
		use(r.SecretID)
	}
}

// withLast adds a service to a list, once: services come one after another, each with
// all that it has.
func withLast(list []string, service string) []string {
	if n := len(list); n > 0 && list[n-1] == service {
		return list
	}
	return append(list, service)
}

// holds notes the ports that a service asks for, and those the engine chose.
func (x *lookup) holds(service string, s *swarm.Service) {
	for _, ports := range [][]swarm.PortConfig{endpointOf(&s.Spec).Ports, s.Endpoint.Ports} {
		for i := range ports {
			p := portOf(&ports[i])
			key := port{p.PublishedPort, p.Protocol}
			if p.PublishedPort != 0 {
				x.ports[key] = withLast(x.ports[key], service)
			}
		}
	}
}

// objectName is the name of the config or secret that a reference means. An ID
// that no known object has is trusted to be what its name says (a listing need
// not hold every object), unless another object has that name today.
func objectName(byID map[string]string, byName map[string]*LiveObject, id, name string) string {
	if id == "" {
		return name
	}
	if known, ok := byID[id]; ok {
		return known
	}
	if _, taken := byName[name]; taken {
		return name + " (removed)"
	}
	return name
}
