package reconcile

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/swarm"
	"pgregory.net/rapid"
)

// testNode makes a node; set changes it.
func testNode(id string, set ...func(*swarm.Node)) *swarm.Node {
	n := &swarm.Node{ID: id}
	n.Status = swarm.NodeStatus{State: swarm.NodeStateReady, Addr: "10.0.0.1"}
	n.Spec.Role, n.Spec.Availability = swarm.NodeRoleWorker, swarm.NodeAvailabilityActive
	n.Description.Hostname = "host-" + id
	n.Description.Platform = swarm.Platform{OS: "linux", Architecture: "x86_64"}
	for _, f := range set {
		f(n)
	}
	return n
}

func nodesOf(nodes ...*swarm.Node) map[string]*swarm.Node {
	byID := map[string]*swarm.Node{}
	for _, n := range nodes {
		byID[n.ID] = n
	}
	return byID
}

func labelled1(key, value string) func(*swarm.Node) {
	return func(n *swarm.Node) { n.Spec.Labels = map[string]string{key: value} }
}

// The cases are swarmkit's rules (manager/constraint), one by one.
func TestConstraints(t *testing.T) {
	n := testNode("abc1", labelled1("Disk.Kind", "SSD"), func(n *swarm.Node) {
		n.Spec.Role = swarm.NodeRoleManager
		n.Status.Addr = "192.168.7.20"
		n.Description.Engine.Labels = map[string]string{"os": "debian"}
	})
	bare := &swarm.Node{ID: "bare"}
	for text, want := range map[string][2]bool{ // fits n, fits bare
		"node.id == abc1":                {true, false},
		"node.id==ABC1":                  {true, false},
		"NODE.ID==abc1":                  {true, false},
		"node.id != abc1":                {false, true},
		"node.id == abc":                 {false, false},
		"node.hostname == host-abc1":     {true, false},
		"node.hostname != host-abc1":     {false, true},
		"node.role == manager":           {true, false},
		"node.role==Manager":             {true, false},
		"node.role != manager":           {false, true},
		"node.role == worker":            {false, false},
		"node.platform.os == linux":      {true, false},
		"node.platform.arch == x86_64":   {true, false},
		"node.platform.arch == amd64":    {false, false},
		"node.platform.arch != aarch64":  {true, true},
		"node.labels.Disk.Kind == ssd":   {true, false},
		"Node.Labels.Disk.Kind == ssd":   {true, false},
		"node.labels.disk.kind == ssd":   {false, false},
		"node.labels.Disk.Kind != hdd":   {true, true},
		"node.labels.other != x":         {true, true},
		"engine.labels.os == debian":     {true, false},
		"engine.labels.os != debian":     {false, true},
		"node.ip == 192.168.7.20":        {true, false},
		"node.ip == ::ffff:192.168.7.20": {true, false},
		"node.ip != 192.168.7.20":        {false, true},
		"node.ip == 192.168.7.0/24":      {true, false},
		"node.ip == 192.168.7.99/24":     {true, false},
		"node.ip != 192.168.7.0/24":      {false, true},
		"node.ip == 10.0.0.0/8":          {false, false},
		"node.ip == not-an-address":      {false, false},
		"node.ip != not-an-address":      {false, false},
		"node.labels. == x":              {false, false},
		"node.kind == x":                 {false, false},
		"node.kind != x":                 {false, false},
		"node.labels.Disk.Kind != ssd x": {true, true},
	} {
		c, ok := parseConstraint(text)
		if !ok {
			t.Errorf("%q is not read", text)
			continue
		}
		if got := [2]bool{c.matches(n), c.matches(bare)}; got != want {
			t.Errorf("%q fits %v, want %v", text, got, want)
		}
	}
	for _, text := range []string{"", "node.role", "node.role = manager", "== x", "node.role ==", "a!=b==c", "node role == x",
		"x == y", "1node.id == x", "node.labels.é == x", "node.labels.a,b == x", "node.id == a,b", "node.labels.a == b==c", "node.labels.a == <b>", "node.hostname == é", "node.ip == fe80::1%eth0"} {
		if c, ok := parseConstraint(text); ok {
			t.Errorf("%q is read as %+v", text, c)
		}
	}
}

func TestPlatforms(t *testing.T) {
	amd, arm := testNode("a"), testNode("b", func(n *swarm.Node) { n.Description.Platform.Architecture = "aarch64" })
	for name, tt := range map[string]struct {
		platforms []swarm.Platform
		amd, arm  bool
	}{
		"not known":    {nil, true, true},
		"amd64":        {[]swarm.Platform{{OS: "linux", Architecture: "amd64"}}, true, false},
		"as nodes say": {[]swarm.Platform{{OS: "linux", Architecture: "x86_64"}}, true, false},
		"arm64":        {[]swarm.Platform{{OS: "linux", Architecture: "arm64"}}, false, true},
		"both":         {[]swarm.Platform{{OS: "linux", Architecture: "amd64"}, {OS: "linux", Architecture: "arm64"}}, true, true},
		"any":          {[]swarm.Platform{{OS: "linux"}}, true, true},
		"windows":      {[]swarm.Platform{{OS: "windows", Architecture: "amd64"}}, false, false},
	} {
		if a, b := runsOn(tt.platforms, amd), runsOn(tt.platforms, arm); a != tt.amd || b != tt.arm {
			t.Errorf("%s: %t %t", name, a, b)
		}
	}
}

// A constraint and its opposite part the nodes between them; with each more
// constraint there are fewer nodes; and who takes tasks is one of those who fit.
func TestSiteProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.SampledFrom([]string{"a", "b", "A"})
		nodes := map[string]*swarm.Node{}
		for i := range rapid.IntRange(0, 5).Draw(t, "nodes") {
			id := string(rune('p' + i))
			nodes[id] = testNode(id, labelled1("l", word.Draw(t, "label")), func(n *swarm.Node) {
				n.Spec.Availability = rapid.SampledFrom([]swarm.NodeAvailability{"active", "drain", "pause"}).Draw(t, "availability")
				n.Description.Hostname = word.Draw(t, "hostname")
			})
		}
		key := rapid.SampledFrom([]string{"node.labels.l", "node.hostname", "node.id"}).Draw(t, "key")
		value := word.Draw(t, "value")
		fit := func(constraints ...string) []string {
			s := &swarm.ServiceSpec{}
			mutPlacement(s).Constraints = constraints
			x := siteOf(s, nodes)
			var ids []string
			for _, n := range x.fit {
				ids = append(ids, n.ID)
			}
			for id := range x.able {
				if !slices.Contains(ids, id) || !takesTasks(nodes[id]) {
					t.Fatalf("%s takes tasks, of %v", id, ids)
				}
			}
			return ids
		}
		is, not := fit(key+" == "+value), fit(key+" != "+value)
		both := slices.Sorted(slices.Values(slices.Concat(is, not)))
		if !slices.Equal(both, slices.Sorted(maps.Keys(nodes))) {
			t.Fatalf("%s and %s of %v", strings.Join(is, ""), strings.Join(not, ""), nodes)
		}
		for _, id := range fit(key+" == "+value, "node.hostname != "+word.Draw(t, "other")) {
			if !slices.Contains(is, id) {
				t.Fatalf("%s fits two constraints, and not the first", id)
			}
		}
	})
}
