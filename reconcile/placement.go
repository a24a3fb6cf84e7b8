package reconcile

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/swarm"
)

// Where tasks of a service may run, worked out as swarmkit's scheduler would, from data
// alone. It foresees; it places nothing.

// A constraint is one of deploy.placement.constraints. The rules are those of
// swarmkit's manager/constraint.
type constraint struct {
	key, value string
	not        bool // != rather than ==
}

// parseConstraint reads "key == value" or "key != value"; false where it is neither,
// which an engine refuses.
func parseConstraint(text string) (constraint, bool) {
	key, value, ok := strings.Cut(text, "==")
	not := false
	if !ok {
		key, value, ok = strings.Cut(text, "!=")
		not = true
	}
	c := constraint{strings.TrimSpace(key), strings.TrimSpace(value), not}
	return c, ok && isConstraintKey(c.key) && c.value != "" && !strings.ContainsFunc(c.value, notInConstraint)
}

// isConstraintKey says that an engine takes a key, be it one that means nothing.
func isConstraintKey(key string) bool {
	notInKey := func(c rune) bool { return !isAlphanumeric(c) && !strings.ContainsRune("_-.", c) }
	return len(key) > 1 && !strings.ContainsFunc(key, notInKey) && !strings.ContainsRune("0123456789-.", rune(key[0]))
}

// notInConstraint says that an engine takes no value with a character in it.
func notInConstraint(c rune) bool {
	return !isAlphanumeric(c) && !strings.ContainsRune(":-_ \t\n\f\r.*()?+[]\\^$|/", c)
}

func isAlphanumeric(c rune) bool {
	return 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9'
}

// matches says whether a node fulfils the constraint. What a node does not have is
// an empty text; a key that means nothing fits no node.
func (c constraint) matches(n *swarm.Node) bool {
	d := &n.Description
	switch strings.ToLower(c.key) {
	case "node.id":
		return c.is(n.ID)
	case "node.hostname":
		return c.is(d.Hostname)
	case "node.ip":
		return c.isAddress(n.Status.Addr)
	case "node.role":
		return c.is(string(n.Spec.Role))
	case "node.platform.os":
		return c.is(d.Platform.OS)
	case "node.platform.arch":
		return c.is(d.Platform.Architecture)
	}
	if label, ok := cutPrefixFold(c.key, "node.labels."); ok {
		return c.is(n.Spec.Labels[label])
	}
	if label, ok := cutPrefixFold(c.key, "engine.labels."); ok {
		return c.is(d.Engine.Labels[label])
	}
	return false
}

// is compares without regard to case.
func (c constraint) is(what string) bool { return strings.EqualFold(c.value, what) != c.not }

// isAddress compares with an address, or with a network in CIDR notation; with
// anything else no node fits.
func (c constraint) isAddress(text string) bool {
	addr, _ := netip.ParseAddr(text)
	if want, err := netip.ParseAddr(c.value); err == nil {
		return (addr.Unmap() == want.Unmap()) != c.not
	}
	if network, err := netip.ParsePrefix(c.value); err == nil {
		return network.Masked().Contains(addr.Unmap()) != c.not
	}
	return false
}

// cutPrefixFold is strings.CutPrefix without regard to case; what is left must not
// be empty. Case counts in the label itself.
func cutPrefixFold(s, prefix string) (string, bool) {
	if len(s) <= len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return "", false
	}
	return s[len(prefix):], true
}

// parseConstraints reads all constraints of a service. With one that an engine
// refuses there are none, and the engine says why.
func parseConstraints(s *swarm.ServiceSpec) []constraint {
	var out []constraint
	for _, text := range placementOf(s).Constraints {
		c, ok := parseConstraint(text)
		if !ok {
			return nil
		}
		out = append(out, c)
	}
	return out
}

// runsOn says whether an image that is built for these platforms runs on a node; one
// of which they are not known does.
func runsOn(platforms []swarm.Platform, n *swarm.Node) bool {
	node := n.Description.Platform
	return len(platforms) == 0 || slices.ContainsFunc(platforms, func(p swarm.Platform) bool {
		return (p.Architecture == "" || architecture(p.Architecture) == architecture(node.Architecture)) && (p.OS == "" || p.OS == node.OS)
	})
}

// architecture calls one by the name that images use.
func architecture(name string) string {
	switch name {
	case "x86_64":
		return "amd64"
	case "aarch64":
		return "arm64"
	}
	return name
}

// takesTasks says that the scheduler may put tasks on a node.
func takesTasks(n *swarm.Node) bool {
	return n.Status.State == swarm.NodeStateReady && orElse(n.Spec.Availability, swarm.NodeAvailabilityActive) == swarm.NodeAvailabilityActive
}

// A site is where tasks of a service may run: nodes, sorted by ID, of which some may
// take none just now.
type site struct {
	fit     []*swarm.Node
	able    map[string]bool // by ID: those of fit that take tasks
	of      int             // nodes in the Swarm
	refused []string        // the constraints, as written, that no node fulfils, each for itself
	foreign bool            // the constraints have nodes, the image's platforms have not
}

// siteOf looks for the nodes that a service's placement leaves.
func siteOf(s *swarm.ServiceSpec, nodes map[string]*swarm.Node) site {
	constraints, platforms := parseConstraints(s), placementOf(s).Platforms
	x := site{able: map[string]bool{}, of: len(nodes)}
	alone := make([]int, len(constraints))
	placed := 0
	for _, id := range sortedKeys(nodes) {
		n, all := nodes[id], true
		for i, c := range constraints {
			if c.matches(n) {
				alone[i]++
			} else {
				all = false
			}
		}
		if !all {
			continue
		}
		placed++
		if !runsOn(platforms, n) {
			continue
		}
		x.fit = append(x.fit, n)
		if takesTasks(n) {
			x.able[id] = true
		}
	}
	x.foreign = placed > 0 && len(x.fit) == 0
	for i, n := range alone {
		if n == 0 {
			x.refused = append(x.refused, placementOf(s).Constraints[i])
		}
	}
	return x
}
