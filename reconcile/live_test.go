package reconcile

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"
)

// A recording is what a real engine made of a stack; testdata/record makes them.
type recording struct {
	Engine   string
	API      string
	Desired  *Desired
	Services []swarm.Service
	Networks []network.Summary
	Configs  []swarm.Config
	Secrets  []swarm.Secret
}

func (r *recording) live() *Live {
	return NewLive(time.Time{}, r.API, r.Services, r.Networks, r.Configs, r.Secrets, nil)
}

func recordings(t testing.TB) map[string]*recording {
	t.Helper()
	files, err := filepath.Glob("testdata/live/*.json")
	if err != nil || len(files) < 25 {
		t.Fatalf("%d recordings, %v", len(files), err)
	}
	out := map[string]*recording{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		r := new(recording)
		if err := json.Unmarshal(b, r); err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		if len(r.Services) != 1 {
			t.Fatalf("%s: %d services", f, len(r.Services))
		}
		out[filepath.Base(f)] = r
	}
	return out
}

// What an engine gave back for what was sent is no difference to it, whatever
// the order in which the stack says it.
func TestDiffSeesThroughARealEngine(t *testing.T) {
	lost := map[string][]string{
		"health-start-interval-1.41.json": {"field-unsupported"},
		"mount-subpath-1.41.json":         {"field-unsupported"},
		"mount-tmpfs-options-1.41.json":   {"field-unsupported"},
		"mount-tmpfs-options-1.45.json":   {"field-unsupported"},
		"mount-tmpfs-exec-1.41.json":      {"field-unsupported"},
		"mount-tmpfs-exec-1.45.json":      {"field-unsupported"},
		"oom-score-1.41.json":             {"field-unsupported"},
		"oom-score-1.45.json":             {"field-unsupported"},
	}
	for name, r := range recordings(t) {
		t.Run(name, func(t *testing.T) {
			for _, d := range []*Desired{r.Desired, disordered(r.Desired)} {
				p := Diff(d, r.live(), DiffOptions{Owner: "skep", Prune: true})
				if !p.Empty() {
					t.Errorf("not empty: %+v", p.Changes)
				}
				if got := codes(p); !slices.Equal(got, lost[name]) {
					t.Errorf("findings %v, want %v: %v", got, lost[name], p.Findings)
				}
			}
		})
	}
}

// And what it forgot without a gate that tells of it would be a difference.
func TestOldEnginesAreKnownByTheirAPI(t *testing.T) {
	for name, want := range map[string]string{
		"health-start-interval-1.41.json": "healthcheck.start_interval",
		"mount-subpath-1.41.json":         "volumes./data",
		"mount-tmpfs-options-1.45.json":   "volumes./run",
		"oom-score-1.45.json":             "oom_score_adj",
	} {
		r := recordings(t)[name]
		r.API = "1.51"
		p := Diff(r.Desired, r.live(), DiffOptions{})
		if len(p.Changes) != 1 || p.Changes[0].Fields[0].Path != want {
			t.Errorf("%s at API 1.51: %+v, want a difference in %s", name, p.Changes, want)
		}
	}
}

func codes(p *Plan) []string {
	var out []string
	for _, f := range p.Findings {
		out = append(out, f.Code)
	}
	return out
}

// disordered is a stack that says the same in another order, where order has no
// meaning.
func disordered(d *Desired) *Desired {
	out := *d
	out.Services = slices.Clone(d.Services)
	for i := range out.Services {
		s := cloneSpec(&out.Services[i].Spec)
		c := s.TaskTemplate.ContainerSpec
		slices.Reverse(c.Env)
		slices.Reverse(c.Mounts)
		slices.Reverse(c.Configs)
		slices.Reverse(c.Secrets)
		slices.Reverse(c.CapabilityAdd)
		slices.Reverse(c.CapabilityDrop)
		slices.Reverse(c.Ulimits)
		slices.Reverse(s.TaskTemplate.Networks)
		for _, n := range s.TaskTemplate.Networks {
			slices.Reverse(n.Aliases)
		}
		if p := s.TaskTemplate.Placement; p != nil {
			slices.Reverse(p.Constraints)
		}
		if e := s.EndpointSpec; e != nil {
			slices.Reverse(e.Ports)
		}
		out.Services[i].Spec = *s
	}
	return &out
}
