package reconcile

import (
	"maps"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/network"

	"github.com/skep-io/skep/spec"
)

// scopeSwarm is the scope of networks that services can use.
const scopeSwarm = "swarm"

// onEveryNode are networks that exist on each node without being the Swarm's.
var onEveryNode = []string{network.NetworkDefault, network.NetworkHost, network.NetworkNone, network.NetworkBridge}

func (p *planner) networks() {
	for i := range p.desired.Networks {
		dn := &p.desired.Networks[i]
		ln, ok := p.live.Networks[dn.Name]
		switch inSwarm := ok && ln.Scope == scopeSwarm; {
		case dn.External:
			p.externalNetwork(dn, ln)
		case !inSwarm:
			p.before = append(p.before, p.createNetwork(dn))
		case p.ours(KindNetwork, dn.Name, dn.Key, ln.Labels):
			p.compareNetwork(dn, ln)
		}
	}
}

func (p *planner) externalNetwork(dn *DesiredNetwork, ln *LiveNetwork) {
	switch {
	case slices.Contains(onEveryNode, dn.Name), ln != nil && ln.Scope == scopeSwarm:
	case ln == nil:
		p.find(spec.Error, "external-missing", "",
			"external network %s does not exist in the Swarm (create it: docker network create --driver overlay %s)", dn.Name, dn.Name)
	default:
		p.find(spec.Error, "external-missing", "",
			"external network %s exists, but on single nodes only: its scope is %q (create one of scope swarm: docker network create --driver overlay NAME)", dn.Name, ln.Scope)
	}
}

func (p *planner) createNetwork(dn *DesiredNetwork) Change {
	n := *dn
	n.Create.Labels = p.ownLabels(dn.Create.Labels, nil)
	return Change{Op: OpCreate, Kind: KindNetwork, Name: dn.Name, Key: dn.Key, Network: &n}
}

// compareNetwork only tells: a network cannot be updated, and one made anew
// would restart the tasks of all services on it.
func (p *planner) compareNetwork(dn *DesiredNetwork, ln *LiveNetwork) {
	differ := networkDifferences(&dn.Create, &ln.CreateOptions)
	switch {
	case len(differ) > 0:
		p.find(spec.Warning, "network-changed", "",
			"network %s differs from the file in %s, and a network cannot be changed (give it another name in the file, or take its services away, remove it and let it be created again)", dn.Name, strings.Join(differ, ", "))
	case !sameLabels(dn.Create.Labels, ln.Labels):
		p.find(spec.Info, "network-changed", "",
			"network %s differs from the file in labels, and a network cannot be changed (nothing depends on them)", dn.Name)
	}
}

// vxlanIDs is the option that the overlay driver itself adds.
const vxlanIDs = "com.docker.network.driver.overlay.vxlanid_list"

func networkDifferences(d, l *network.CreateOptions) []string {
	var out []string
	tell := func(differs bool, what string) {
		if differs {
			out = append(out, what)
		}
	}
	allocated := l.Driver != "" // until then an engine tells neither driver nor options nor IPAM
	tell(allocated && orElse(d.Driver, "overlay") != l.Driver, "driver")
	if allocated {
		options := maps.Clone(l.Options)
		if _, said := d.Options[vxlanIDs]; !said {
			delete(options, vxlanIDs)
		}
		tell(!maps.Equal(d.Options, options), "driver_opts")
	}
	tell(d.Internal != l.Internal, "internal")
	tell(d.Attachable != l.Attachable, "attachable")
	tell(value(d.EnableIPv6, false) != value(l.EnableIPv6, false), "enable_ipv6")
	tell(allocated && d.IPAM != nil && !satisfiesIPAM(d.IPAM, l.IPAM), "ipam")
	return out
}

// satisfiesIPAM says whether live has what desired asks for; an engine chooses
// the rest.
func satisfiesIPAM(d, l *network.IPAM) bool {
	if l == nil {
		return false
	}
	if orElse(d.Driver, "default") != orElse(l.Driver, "default") {
		return false
	}
	for option, want := range d.Options { // an engine adds com.docker.network.ipam.serial
		if have, ok := l.Options[option]; !ok || have != want {
			return false
		}
	}
	for _, want := range d.Config {
		if !slices.ContainsFunc(l.Config, func(have network.IPAMConfig) bool {
			return chosen(want.Subnet, have.Subnet) && chosen(want.IPRange, have.IPRange) && chosen(want.Gateway, have.Gateway)
		}) {
			return false
		}
	}
	return true
}

func chosen(want, have string) bool { return want == "" || want == have }

func (p *planner) objects(kind Kind, desired []DesiredObject, live map[string]*LiveObject) {
	for i := range desired {
		do := &desired[i]
		lo, ok := live[do.Name]
		switch {
		case do.External && !ok:
			p.find(spec.Error, "external-missing", "",
				"external %s %s does not exist in the Swarm (create it: docker %s create %s FILE)", kind, do.Name, kind, do.Name)
		case do.External:
		case !ok && !do.payloadKnown(kind):
			p.find(spec.Error, "content-lost", "",
				"%s %s is gone from the Swarm, and a record keeps no contents (put the file back that had them)", kind, do.Name)
		case !ok:
			o := *do
			o.Labels = p.ownLabels(do.Labels, nil)
			p.before = append(p.before, Change{Op: OpCreate, Kind: kind, Name: do.Name, Key: do.Key, Object: &o})
		case p.ours(kind, do.Name, do.Key, lo.Labels) && !sameLabels(do.Labels, lo.Labels):
			p.before = append(p.before, p.relabel(kind, do, lo))
		}
	}
}

// relabel is the only update that a config or secret can have.
func (p *planner) relabel(kind Kind, do *DesiredObject, lo *LiveObject) Change {
	o := *do
	o.Labels = p.ownLabels(do.Labels, lo.Labels)
	return Change{
		Op: OpUpdate, Kind: kind, Name: do.Name, Key: do.Key, ID: lo.ID, Version: lo.Version, Object: &o,
		Fields: labelFields(do.Labels, lo.Labels),
	}
}

// labelFields tells how an object's labels differ, but for skep's own.
func labelFields(desired, live map[string]string) []Field {
	return fieldsOf("labels", false, desired, live,
		func(k string) bool { return !reservedLabel(k) },
		func(a, b string) bool { return a == b }, showNamed)
}

// ownLabels are desired's, with those of skep that live has, and the owner.
func (p *planner) ownLabels(desired, live map[string]string) map[string]string {
	out := map[string]string{}
	for k, v := range live {
		if reservedLabel(k) {
			out[k] = v
		}
	}
	maps.Copy(out, desired)
	if p.o.Owner != "" {
		out[LabelOwner] = p.o.Owner
	}
	return out
}
