package reconcile

import (
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"github.com/skep-io/skep/spec"
)

func down(n *swarm.Node)    { n.Status.State = swarm.NodeStateDown }
func drained(n *swarm.Node) { n.Spec.Availability = swarm.NodeAvailabilityDrain }

// placed makes a service of a stack with so many replicas; 0 is for a global one.
func placed(stack string, replicas uint64, set ...func(*swarm.ServiceSpec)) *swarm.ServiceSpec {
	s := &swarm.ServiceSpec{Annotations: swarm.Annotations{Name: stack + "_app", Labels: map[string]string{spec.LabelNamespace: stack}}}
	s.Mode.Replicated = &swarm.ReplicatedService{Replicas: &replicas}
	if replicas == 0 {
		s.Mode = swarm.ServiceMode{Global: &swarm.GlobalService{}}
	}
	mutPlacement(s)
	for _, f := range set {
		f(s)
	}
	return s
}

func on(constraints ...string) func(*swarm.ServiceSpec) {
	return func(s *swarm.ServiceSpec) { s.TaskTemplate.Placement.Constraints = constraints }
}

func perNode(n uint64) func(*swarm.ServiceSpec) {
	return func(s *swarm.ServiceSpec) { s.TaskTemplate.Placement.MaxReplicas = n }
}

func hostPort(number uint32) func(*swarm.ServiceSpec) {
	return func(s *swarm.ServiceSpec) {
		s.EndpointSpec = &swarm.EndpointSpec{Ports: []swarm.PortConfig{{PublishedPort: number, TargetPort: 80, PublishMode: swarm.PortConfigPublishModeHost}}}
	}
}

func TestNodeFindings(t *testing.T) {
	three := []*swarm.Node{testNode("n1", labelled1("disk", "ssd")), testNode("n2"), testNode("n3", drained)}
	zero := uint64(0)
	for name, tt := range map[string]struct {
		nodes []*swarm.Node
		s     *swarm.ServiceSpec
		other *swarm.ServiceSpec // of another stack, live
		code  string             // empty: nothing is told
		says  string
	}{
		"no listing of nodes":              {nil, placed("shop", 3, on("node.role == nobody")), nil, "", ""},
		"nothing asked":                    {three, placed("shop", 30), nil, "", ""},
		"a constraint that fits":           {three, placed("shop", 2, on("node.labels.disk == ssd")), nil, "", ""},
		"a constraint that nobody has":     {three, placed("shop", 2, on("node.role == worker", "node.labels.disk == tape")), nil, "no-node-fits", "deploy.placement.constraints node.labels.disk == tape: "},
		"constraints that none has all of": {three, placed("shop", 2, on("node.labels.disk == ssd", "node.hostname == host-n2")), nil, "no-node-fits", "at once"},
		"a global service without a node":  {three, placed("shop", 0, on("node.role == manager")), nil, "no-node-fits", "node.role == manager"},
		"scaled to nothing": {three, placed("shop", 1, on("node.role == manager"), func(s *swarm.ServiceSpec) {
			s.Mode.Replicated.Replicas = &zero
		}), nil, "", ""},
		"a constraint that no engine takes":    {three, placed("shop", 2, on("node.role = manager")), nil, "", ""},
		"only a drained node":                  {three, placed("shop", 1, on("node.id == n3")), nil, "no-node-fits", "host-n3 (drain)"},
		"all nodes are away, nothing is asked": {[]*swarm.Node{testNode("n1", down), testNode("n2", drained)}, placed("shop", 1), nil, "no-node-fits", "host-n1 (down), host-n2 (drain)"},
		"a platform that nobody has": {three, placed("shop", 1, func(s *swarm.ServiceSpec) {
			s.TaskTemplate.Placement.Platforms = []swarm.Platform{{OS: "linux", Architecture: "s390x"}}
		}), nil, "no-node-fits", "linux/s390x"},

		"room for all":                   {three, placed("shop", 4, perNode(2)), nil, "", ""},
		"one too many":                   {three, placed("shop", 5, perNode(2)), nil, "replicas-exceed-nodes", "5 replicas have room for 4"},
		"too many where it may be":       {three, placed("shop", 2, perNode(1), on("node.labels.disk == ssd")), nil, "replicas-exceed-nodes", "1 of the Swarm's 3 fit and take tasks"},
		"global, at most one a node":     {three, placed("shop", 0, perNode(1)), nil, "", ""},
		"a host's port is there once":    {three, placed("shop", 3, hostPort(80)), nil, "replicas-exceed-nodes", "the port it publishes on its host"},
		"a host's port for as many":      {three, placed("shop", 2, hostPort(80)), nil, "", ""},
		"a host's port the engine picks": {three, placed("shop", 9, hostPort(0)), nil, "", ""},

		"a host's port beside another": {three, placed("shop", 1, hostPort(80)), placed("blog", 1, hostPort(80)), "", ""},
		"a host's port too often":      {three, placed("shop", 2, hostPort(80)), placed("blog", 1, hostPort(80)), "host-port-taken", "service blog_app of stack blog: the tasks of both need 3 nodes, and there are 2"},
		"a host's port everywhere":     {three, placed("shop", 1, hostPort(80)), placed("blog", 0, hostPort(80)), "host-port-taken", "80/tcp"},
		"other nodes' ports":           {three, placed("shop", 1, hostPort(80), on("node.id == n1")), placed("blog", 1, hostPort(80), on("node.id == n2")), "", ""},
		"one node's port":              {three, placed("shop", 1, hostPort(80), on("node.id == n1")), placed("blog", 1, hostPort(80), on("node.id == n1")), "host-port-taken", "there are 1"},
		"another port":                 {three, placed("shop", 2, hostPort(80)), placed("blog", 2, hostPort(81)), "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			services := []swarm.Service{{ID: "me", Spec: *tt.s}}
			if tt.other != nil {
				services = append(services, swarm.Service{ID: "other", Spec: *tt.other})
			}
			var nodes []swarm.Node
			for _, n := range tt.nodes {
				nodes = append(nodes, *n)
			}
			live := NewLive(time.Time{}, "", services, nil, nil, nil, nodes)
			found := nodeFindings("app", tt.s.Name, tt.s, live)
			if tt.code == "" {
				if len(found) > 0 {
					t.Errorf("told %v", found)
				}
				return
			}
			if len(found) != 1 || found[0].Code != tt.code || found[0].Service != "app" || found[0].Severity != spec.Warning || !strings.Contains(found[0].Message, tt.says) {
				t.Errorf("told %v, want %s: %s", found, tt.code, tt.says)
			}
		})
	}
}
