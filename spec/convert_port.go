package spec

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/go-connections/nat"
)

// What a service and what all of a stack's may publish, ranges expanded: a short line
// can stand for thousands of ports.
const (
	maxPorts    = 10_000
	maxAllPorts = 50_000
)

// portCount is how many ports an entry of ports stands for, told without reading it in
// full.
func portCount(value any) int {
	var ranges []string
	switch v := value.(type) {
	case string:
		v, _, _ = strings.Cut(v, "/")
		parts := strings.Split(v, ":")
		ranges = parts[max(0, len(parts)-2):]
	case map[string]any:
		ranges = []string{text(v["published"])}
	}
	count := 1
	for _, written := range ranges {
		if first, last, err := portRange(written); err == nil {
			count = max(count, int(last-first)+1)
		}
	}
	return count
}

// portCounts is portCount for all entries of a service's ports.
func portCounts(service map[string]any) int {
	list, _ := service["ports"].([]any)
	count := 0
	for _, element := range list {
		count += portCount(element)
	}
	return count
}

// endpoint converts a service's ports and endpoint mode.
func (c *converter) endpoint(mode string, value any, at []string) *swarm.EndpointSpec {
	ports := c.ports(value, under(at, "ports"))
	out := &swarm.EndpointSpec{Mode: swarm.ResolutionMode(strings.ToLower(mode)), Ports: ports}
	where := under(at, "deploy", "endpoint_mode")
	switch out.Mode {
	case "", swarm.ResolutionModeVIP:
	case swarm.ResolutionModeDNSRR:
		for _, p := range ports {
			if p.PublishMode == swarm.PortConfigPublishModeIngress {
				c.report.fail("dnsrr-ingress", where, "endpoint_mode dnsrr goes without the routing mesh, and port %d is published through it (publish it with mode: host, or take endpoint_mode out)", p.TargetPort)
				break
			}
		}
	default:
		c.report.fail("invalid-value", where, "%q is no endpoint mode (write vip or dnsrr)", mode)
	}
	return out
}

// ports converts both forms, ranges expanded, sorted.
func (c *converter) ports(value any, at []string) []swarm.PortConfig {
	list, _ := value.([]any)
	var out []swarm.PortConfig
	for i, element := range list {
		where := under(at, strconv.Itoa(i))
		ports, err := parsePort(element)
		if err != nil {
			c.report.fail("invalid-port", where, "%v (write PUBLISHED:TARGET, or the long form)", err)
			continue
		}
		out = append(out, ports...)
	}
	slices.SortStableFunc(out, func(a, b swarm.PortConfig) int {
		return cmp.Or(cmp.Compare(a.PublishedPort, b.PublishedPort), cmp.Compare(a.TargetPort, b.TargetPort),
			cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.PublishMode, b.PublishMode))
	})
	seen := map[string]bool{}
	for _, p := range out {
		number := fmt.Sprintf("%d/%s", p.PublishedPort, protocol(p))
		if p.PublishedPort != 0 && seen[number] {
			c.report.fail("port-conflict", at, "port %s is published twice by the service (remove one)", number)
		}
		seen[number] = true
	}
	return out
}

// protocol is a port's, tcp where none is written.
func protocol(p swarm.PortConfig) swarm.PortConfigProtocol {
	return cmp.Or(p.Protocol, swarm.PortConfigProtocolTCP)
}

// parsePort reads one entry of ports.
func parsePort(value any) ([]swarm.PortConfig, error) {
	switch v := value.(type) {
	case map[string]any:
		return longPort(v)
	case string:
		return shortPort(v)
	case int:
		return shortPort(strconv.Itoa(v))
	}
	return nil, fmt.Errorf("a port is neither a number nor text nor a mapping, but %v", value)
}

// shortPort reads [ip:]published:target[/protocol].
func shortPort(value string) ([]swarm.PortConfig, error) {
	specs, bindings, err := nat.ParsePortSpecs([]string{value})
	if err != nil {
		return nil, fmt.Errorf("%q is no port: %w", value, err)
	}
	var out []swarm.PortConfig
	for port := range specs {
		for _, binding := range bindings[port] {
			first, last, err := portRange(binding.HostPort)
			if err != nil {
				return nil, fmt.Errorf("%q is no port: %w", value, err)
			}
			for published := first; published <= last; published++ {
				out = append(out, swarm.PortConfig{
					Protocol:      swarm.PortConfigProtocol(strings.ToLower(port.Proto())),
					TargetPort:    uint32(port.Int()),
					PublishedPort: published,
					PublishMode:   swarm.PortConfigPublishModeIngress,
				})
			}
		}
	}
	return out, nil
}

// longPort reads the mapping form. A published range becomes a port each, all of them
// to the one target.
func longPort(m map[string]any) ([]swarm.PortConfig, error) {
	target, err := strconv.ParseUint(text(m["target"]), 10, 16)
	if err != nil || target == 0 {
		return nil, fmt.Errorf("a port's target is %q, which is no port", text(m["target"]))
	}
	first, last, err := portRange(text(m["published"]))
	if err != nil {
		return nil, err
	}
	port := swarm.PortConfig{
		Name:        text(m["name"]),
		Protocol:    swarm.PortConfigProtocol(strings.ToLower(text(m["protocol"]))),
		TargetPort:  uint32(target),
		PublishMode: swarm.PortConfigPublishMode(text(m["mode"])),
	}
	switch port.Protocol {
	case "", swarm.PortConfigProtocolTCP, swarm.PortConfigProtocolUDP, swarm.PortConfigProtocolSCTP:
	default:
		return nil, fmt.Errorf("a port's protocol is %q, and there are tcp, udp and sctp", port.Protocol)
	}
	switch port.PublishMode {
	case "", swarm.PortConfigPublishModeIngress, swarm.PortConfigPublishModeHost:
	default:
		return nil, fmt.Errorf("a port's mode is %q, and there are ingress and host", port.PublishMode)
	}
	var out []swarm.PortConfig
	for published := first; published <= last; published++ {
		port.PublishedPort = published
		out = append(out, port)
	}
	return out, nil
}

// portRange reads a published port or a range of them; nothing is 0.
func portRange(value string) (first, last uint32, err error) {
	if value == "" {
		return 0, 0, nil
	}
	low, high, isRange := strings.Cut(value, "-")
	if !isRange {
		high = low
	}
	a, errA := strconv.ParseUint(low, 10, 16)
	b, errB := strconv.ParseUint(high, 10, 16)
	if errors.Join(errA, errB) != nil || b < a {
		return 0, 0, fmt.Errorf("the published port is %q, which is neither a port nor a range of them", value)
	}
	return uint32(a), uint32(b), nil
}
