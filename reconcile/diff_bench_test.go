package reconcile

import (
	"fmt"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"github.com/skep-io/skep/spec"
)

// benchSwarm is 1,000 services of every recorded kind in 100 stacks, on 10 nodes.
func benchSwarm(b *testing.B) ([]*Desired, *Live) {
	var recorded []*recording
	all := recordings(b)
	for _, name := range sortedKeys(all) {
		r := all[name]
		if len(r.Configs)+len(r.Secrets) == 0 && len(r.Networks) < 3 && r.Desired.Networks == nil {
			recorded = append(recorded, r)
		}
	}
	var desired []*Desired
	var live []swarm.Service
	for i := range 100 {
		d := &Desired{Stack: fmt.Sprintf("stack%d", i)}
		for j := range 10 {
			r := recorded[(10*i+j)%len(recorded)]
			name := fmt.Sprintf("stack%d_s%d", i, j)
			ds, ls := cloneSpec(&r.Desired.Services[0].Spec), cloneSpec(&r.Services[0].Spec)
			for _, s := range []*swarm.ServiceSpec{ds, ls} {
				s.Name, s.Labels[spec.LabelNamespace], s.EndpointSpec = name, d.Stack, nil
			}
			d.Services = append(d.Services, DesiredService{Key: fmt.Sprint("s", j), Name: name, Spec: *ds})
			live = append(live, swarm.Service{ID: name, Spec: *ls})
		}
		desired = append(desired, d)
	}
	var nodes []swarm.Node
	for i := range 10 {
		nodes = append(nodes, *testNode(fmt.Sprint("n", i)))
	}
	return desired, NewLive(time.Time{}, "1.41", live, nil, nil, nil, nodes)
}

// One iteration is a pass over 1,000 services that are as desired.
func BenchmarkDiff(b *testing.B) {
	desired, live := benchSwarm(b)
	b.ReportAllocs()
	for b.Loop() {
		for _, d := range desired {
			if p := Diff(d, live, DiffOptions{Owner: "skep", Prune: true}); !p.Empty() {
				b.Fatalf("%+v", p.Changes[0].Fields)
			}
		}
	}
}

// One iteration plans one new image for each of 1,000 services.
func BenchmarkDiffChanged(b *testing.B) {
	desired, live := benchSwarm(b)
	for _, d := range desired {
		for i := range d.Services {
			mutContainer(&d.Services[i].Spec).Image = "new:1"
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		for _, d := range desired {
			if p := Diff(d, live, DiffOptions{Owner: "skep"}); len(p.Changes) < 8 {
				b.Fatalf("%d changes", len(p.Changes))
			}
		}
	}
}
