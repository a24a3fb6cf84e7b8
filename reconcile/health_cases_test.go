package reconcile

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"
)

// A healthCase is a service as an engine showed it, and the verdict that is wanted.
// What has no say in a verdict is left out of it; IDs of nodes are shortened.
type healthCase struct {
	About   string        `json:"about"`
	From    string        `json:"from"` // the engine it was recorded on, and what was changed by hand
	Now     time.Time     `json:"now"`
	Since   time.Time     `json:"since,omitzero"`
	Unasked bool          `json:"unasked,omitempty"` // tasks were not asked for
	Service swarm.Service `json:"service"`
	Current []swarm.Task  `json:"current"`
	Old     []swarm.Task  `json:"old"`
	Nodes   []*swarm.Node `json:"nodes"`
	Want    healthWant    `json:"want"`
}

type healthWant struct {
	Status    HealthStatus `json:"status"`
	Converged bool         `json:"converged"`
	Running   uint64       `json:"running"`
	Desired   uint64       `json:"desired"`
	Cause     Cause        `json:"cause"`
	Code      string       `json:"code"`
	Died      string       `json:"died,omitempty"`
	Final     bool         `json:"final"`
	Since     time.Time    `json:"since"`
	Until     time.Time    `json:"until,omitzero"`
	Reason    string       `json:"reason"`
}

func (c *healthCase) tasks() Tasks {
	return Tasks{Known: !c.Unasked, Current: c.Current, Old: c.Old, Since: c.Since}
}

func (c *healthCase) judge() ServiceHealth {
	return Judge("web", &c.Service, c.tasks(), nodesOf(c.Nodes...), c.Now)
}

func wantOf(h ServiceHealth) healthWant {
	return healthWant{h.Status, h.Converged, h.Running, h.Desired, h.Cause, h.Code, h.Died, h.Final, h.Since, h.Until, h.Reason}
}

// healthCases reads testdata/health, by name.
func healthCases(t testing.TB) map[string]*healthCase {
	files, err := filepath.Glob("testdata/health/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	cases := map[string]*healthCase{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		c := &healthCase{}
		d := json.NewDecoder(bytes.NewReader(data))
		d.DisallowUnknownFields()
		if err := d.Decode(c); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		cases[strings.TrimSuffix(filepath.Base(file), ".json")] = c
	}
	return cases
}

func TestHealthCases(t *testing.T) {
	for name, c := range healthCases(t) {
		t.Run(name, func(t *testing.T) {
			got, want := wantOf(c.judge()), c.Want
			if !got.Since.Equal(want.Since) || !got.Until.Equal(want.Until) {
				t.Errorf("since %s, until %s; want %s, %s", got.Since, got.Until, want.Since, want.Until)
			}
			got.Since, got.Until, want.Since, want.Until = time.Time{}, time.Time{}, time.Time{}, time.Time{}
			if got != want {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}
