package spec

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// found are the findings of a stack, in Stacks or in Problems.
func (snap *Snapshot) found(name string) []Finding {
	if s := snap.Stacks[name]; s != nil {
		return s.Findings
	}
	return snap.Problems[name]
}

func TestPortsOfTwoStacks(t *testing.T) {
	t.Parallel()
	const web = "services:\n  web:\n    image: a:1\n    ports:"
	for name, c := range map[string]struct {
		a, b  string
		codes map[string]Severity // that both are told
	}{
		"mesh":            {web + " ['80:80']", web + " ['80:8080']", map[string]Severity{"port-conflict": Warning}},
		"mesh and host":   {web + " ['80:80']", web + " [{target: 1, published: 80, mode: host}]", map[string]Severity{"port-conflict": Warning}},
		"host":            {web + " [{target: 1, published: 80, mode: host}]", web + " [{target: 1, published: 80, mode: host}]", map[string]Severity{"host-port-conflict": Warning}},
		"other protocol":  {web + " ['80:80']", web + " ['80:80/udp']", nil},
		"other port":      {web + " ['80:80']", web + " ['81:80']", nil},
		"any port":        {web + " ['80']", web + " ['80']", nil},
		"host, other way": {web + " [{target: 80, mode: host}]", web + " [{target: 80, mode: host}]", nil},
		"host, apart": {
			web + " [{target: 1, published: 80, mode: host}]\n    deploy: {placement: {constraints: [node.labels.edge == a]}}",
			web + " [{target: 1, published: 80, mode: host}]\n    deploy: {placement: {constraints: [node.labels.edge==b]}}", nil,
		},
		"host, apart by not": {
			web + " [{target: 1, published: 80, mode: host}]\n    deploy: {placement: {constraints: [node.role == manager]}}",
			web + " [{target: 1, published: 80, mode: host}]\n    deploy: {placement: {constraints: [node.role != manager]}}", nil,
		},
		"host, together all the same": {
			web + " [{target: 1, published: 80, mode: host}]\n    deploy: {placement: {constraints: [node.role != manager]}}",
			web + " [{target: 1, published: 80, mode: host}]\n    deploy: {placement: {constraints: [node.role != worker]}}",
			map[string]Severity{"host-port-conflict": Warning},
		},
	} {
		d := newSpecs(t, map[string]string{"a.yml": c.a, "b.yml": c.b})
		snap := Scan(t.Context(), d.dir, Options{})
		for _, stack := range []string{"a", "b"} {
			other := map[string]string{"a": "b", "b": "a"}[stack]
			for _, code := range []string{"port-conflict", "host-port-conflict"} {
				if got := severityIn(snap.found(stack), code); got != c.codes[code] {
					t.Errorf("%s: %s of %s is %q, want %q", name, code, stack, got, c.codes[code])
				}
			}
			for _, f := range snap.found(stack) {
				if strings.HasSuffix(f.Code, "port-conflict") && (f.File != stack+".yml" || f.Line != 4 || f.Service != "web" || !strings.Contains(f.Message, "of the stack "+other)) {
					t.Errorf("%s: %v", name, f)
				}
			}
		}
	}
}

// A stack's own words are heard: a comment, and x-skep.findings, by which the clash
// becomes an error of the stack that says so and of no other.
func TestPortsOfTwoStacksAsTheyWantIt(t *testing.T) {
	t.Parallel()
	d := newSpecs(t, map[string]string{
		"a.yml": "services:\n  web:\n    image: a:1\n    ports: ['80:80'] # skep:ignore port-conflict\n",
		"b.yml": "services:\n  web:\n    image: a:1\n    ports: ['80:80']\nx-skep: {findings: {port-conflict: error}}\n",
	})
	s := NewScanner(d.dir, Options{})
	for range 2 { // the second time from memory
		snap := s.Scan(t.Context())
		if snap.Stacks["a"] == nil || severityIn(snap.found("a"), "port-conflict") != "" {
			t.Errorf("a: %v", snap.found("a"))
		}
		if snap.Stacks["b"] != nil || severityIn(snap.found("b"), "port-conflict") != Error {
			t.Errorf("b: %v", snap.found("b"))
		}
	}
	d.check(os.Remove(d.path("a.yml")))
	if snap := s.Scan(t.Context()); snap.Stacks["b"] == nil || severityIn(snap.found("b"), "port-conflict") != "" {
		t.Errorf("b alone: %v", snap.found("b"))
	}
}

// Ranges and many services are told in few words.
func TestManyPortsAreToldInFewWords(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	text.WriteString("services:\n")
	for i := range 2000 {
		fmt.Fprintf(&text, "  s%d: {image: 'a:1', ports: [{target: 1, published: 80, mode: host}], deploy: {placement: {constraints: [node.hostname == n%d]}}}\n", i, i)
	}
	text.WriteString("  a: {image: 'a:1', ports: ['9000-9999:9000-9999']}\n  b: {image: 'a:1', ports: ['9000-9999:9000-9999']}\n")
	_, findings := loadText(t, text.String())
	var told []string
	for _, f := range findings {
		if strings.HasSuffix(f.Code, "port-conflict") {
			told = append(told, f.Message)
		}
	}
	if len(told) != 1 || !strings.Contains(told[0], "ports 9000/tcp, 9001/tcp, 9002/tcp and 997 more") {
		t.Errorf("%q", told)
	}
}
