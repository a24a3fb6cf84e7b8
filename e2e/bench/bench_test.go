//go:build linux

package main

import (
	"bufio"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/skep-io/skep/spec"
)

func TestMetricsAreRead(t *testing.T) {
	const text = `# HELP skep_docker_requests_total Requests to the engine.
# TYPE skep_docker_requests_total counter
skep_docker_requests_total{code="200",operation="ServiceList"} 7
skep_docker_requests_total{code="201",operation="ConfigCreate"} 2
skep_docker_requests_total{code="500",operation="ServiceUpdate"} 1
skep_stack_condition{condition="Ready",stack="a b"} 1
skep_stack_condition{condition="Ready",stack="c"} 0
process_cpu_seconds_total 1.5e-01
`
	c, err := readMetrics(bufio.NewScanner(strings.NewReader(text)))
	if err != nil {
		t.Fatal(err)
	}
	if all, writes := c.requests(); all != 10 || writes != 3 {
		t.Errorf("%v requests, %v of them writes; want 10 and 3", all, writes)
	}
	if ready := c.sum("skep_stack_condition{", `condition="Ready"`); ready != 1 {
		t.Errorf("%v stacks are Ready, want 1", ready)
	}
	if c["process_cpu_seconds_total"] != 0.15 {
		t.Errorf("a series without labels is %v", c["process_cpu_seconds_total"])
	}
	op, ok := label(`skep_docker_requests_total{code="200",operation="ServiceList"}`, "skep_docker_requests_total", "operation")
	if op != "ServiceList" || !ok {
		t.Errorf("the operation is %q, %v", op, ok)
	}
}

func TestWhatTheKernelTells(t *testing.T) {
	cpu, err := statCPU("1234 (a (strange) name) S 1 1234 1234 0 -1 4194560 5 0 0 0 250 50 0 0 20 0 8 0 100 1 1")
	if err != nil || cpu != 3*time.Second {
		t.Errorf("CPU time %s, %v; want 3s", cpu, err)
	}
	if _, err := statCPU("1234 (short) S 1"); err == nil {
		t.Error("a line without the fields was read")
	}
	if n := statusBytes("Name:\tskep\nVmHWM:\t   2048 kB\nVmRSS:\t   1024 kB\n", "VmRSS"); n != 1<<20 {
		t.Errorf("%d bytes resident, want %d", n, 1<<20)
	}
}

func TestFiguresAsPeopleReadThem(t *testing.T) {
	for r, want := range map[float64]string{0: "–", 0.025: "1/40", 1.5: "1.5×", 89.04: "89×"} {
		if got := times(r); got != want {
			t.Errorf("times(%v) = %q, want %q", r, got, want)
		}
	}
	if m := median([]time.Duration{9, 1, 5}); m != 5 {
		t.Errorf("the median of three is %d, want the middle one", m)
	}
	if m := median([]time.Duration{8, 2}); m != 5 {
		t.Errorf("the median of two is %d, want 5", m)
	}
	if median(nil) != 0 || highest(nil) != 0 {
		t.Error("nothing measured is not 0")
	}
	if l := atMost("pass", 100*time.Millisecond, "list", 50*time.Millisecond, 3); l.holds != "yes" || l.ratio != "2×" {
		t.Errorf("twice the floor, three times allowed: %+v", l)
	}
	if l := atMost("pass", 200*time.Millisecond, "list", 50*time.Millisecond, 3); l.holds != "NO" {
		t.Errorf("four times the floor, three times allowed: %+v", l)
	}
}

func TestMovedCountsWhatIsNotAsItWas(t *testing.T) {
	before := map[string]uint64{"same": 1, "moved": 2, "removed": 3}
	after := map[string]uint64{"same": 1, "moved": 4, "created": 5}
	if n := moved(before, after); n != 3 {
		t.Errorf("%d objects moved, want 3", n)
	}
	if n := moved(before, maps.Clone(before)); n != 0 {
		t.Errorf("%d of the same objects moved", n)
	}
}

// What is measured has to be what it says: loadable stacks whose services would be
// made under the names that docker gives, and of which one differs after a change.
func TestStacksLoad(t *testing.T) {
	src, err := newSource(t.TempDir(), 3, 2)
	if err != nil {
		t.Fatal(err)
	}
	desired, err := src.desired(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(desired) != 3 || src.size() != 6 {
		t.Fatalf("%d stacks, %d services", len(desired), src.size())
	}
	d := desired[1]
	if len(d.Services) != 2 || d.Services[0].Name != "bench0001_s00" || len(d.Networks) != 1 || d.Configs[0].Name != "bench0001_app" {
		t.Errorf("a stack is made as %+v", d)
	}
	if r := d.Services[1].Spec.TaskTemplate.ContainerSpec.Configs; len(r) != 1 || r[0].ConfigName != "bench0001_app" {
		t.Errorf("a service's configs are %+v", r)
	}

	scanner := spec.NewScanner(src.dir, spec.Options{})
	before, err := src.scan(t.Context(), scanner)
	if err != nil {
		t.Fatal(err)
	}
	if err := src.write("bench0002", 1); err != nil {
		t.Fatal(err)
	}
	after, err := src.scan(t.Context(), scanner)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range src.names {
		changed := before.Stacks[name].Source.Fingerprint != after.Stacks[name].Source.Fingerprint
		if changed != (name == "bench0002") {
			t.Errorf("stack %s changed: %v", name, changed)
		}
	}
}

func TestGrowthIsLinearOrTheEngines(t *testing.T) {
	for _, c := range []struct {
		large time.Duration
		floor float64
		want  string
	}{
		{10, 0, "yes"},
		{12, 0, "yes"}, // turns differ
		{13, 0, "NO"},
		{25, 30, "yes"},
		{40, 30, "NO"},
	} {
		if l := growth("", 1*time.Second, c.large*time.Second, 10, c.floor); l.holds != c.want {
			t.Errorf("%d times as long for 10 times as many, the engine %v times: holds %s, want %s", c.large, c.floor, l.holds, c.want)
		}
	}
}
