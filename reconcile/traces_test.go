package reconcile

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"
)

// A trace is what a real Swarm did, without skep, with a bad version that was written
// over a good one. `make traces` records them anew.
type trace struct {
	About   string           `json:"about"`
	From    string           `json:"from"`
	Before  swarm.Service    `json:"before"`
	Nodes   []*swarm.Node    `json:"nodes"`
	Moments []recordedMoment `json:"moments"`
}

type recordedMoment struct {
	Now     time.Time     `json:"now"`
	Service swarm.Service `json:"service"`
	Current []swarm.Task  `json:"current"`
	Old     []swarm.Task  `json:"old"`
}

// traceFates says what the model makes of each recorded scenario, before Swarm's
// failure action has its say.
var traceFates = map[string]string{
	"sick": fateBad, "crash": fateBad, "image": fateBad, "memory": fateBad,
	"sick-20s": fateLate, "crash-5s": fateLate,
	"constraint": fateUnfit, "port": fateUnfit,
}

func traces(t *testing.T) map[string]*trace {
	files, err := filepath.Glob("testdata/traces/*.json")
	if err != nil || len(files) < len(traceFates) {
		t.Fatalf("%d traces, %v (make traces records them)", len(files), err)
	}
	all := map[string]*trace{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		tr := &trace{}
		if err := json.Unmarshal(data, tr); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		all[strings.TrimPrefix(strings.TrimSuffix(filepath.Base(file), ".json"), "bad-")] = tr
	}
	return all
}

func (m *recordedMoment) judge(tr *trace) ServiceHealth {
	return Judge("web", &m.Service, Tasks{Known: true, Current: m.Current, Old: m.Old, Since: tr.Moments[0].Now.Add(-time.Second)}, nodesOf(tr.Nodes...), m.Now)
}

// fateOfTrace is the model's word for a scenario, and Swarm's failure action in it.
func fateOfTrace(name string) (fate, action string) {
	for _, action := range []string{"rollback", "pause", "continue"} {
		if kind, ok := strings.CutSuffix(name, "-"+action); ok {
			return traceFates[kind], action
		}
	}
	return traceFates[name], "pause"
}

// An outcome is where a bad version leaves a service, as far as decisions depend on it.
type outcome struct {
	State     swarm.UpdateState // Swarm's own word
	Back      bool              // the service is of the old version again
	Converged bool
	Serving   bool // tasks of whatever version run
	Status    HealthStatus
}

func outcomeOf(s *swarm.Service, good string, h ServiceHealth) outcome {
	o := outcome{Back: s.Spec.TaskTemplate.ContainerSpec.Image == good, Converged: h.Converged, Serving: h.Serving > 0, Status: h.Status}
	if s.UpdateStatus != nil {
		o.State = s.UpdateStatus.State
	}
	return o
}

// The model's Swarm leaves a service where a real one left it.
func TestModelEndsWhereRecordedSwarmsDid(t *testing.T) {
	for name, tr := range traces(t) {
		t.Run(name, func(t *testing.T) {
			fate, action := fateOfTrace(name)
			if fate == "" {
				t.Fatalf("no fate is known of %s", name)
			}
			end := &tr.Moments[len(tr.Moments)-1]
			good := tr.Before.Spec.TaskTemplate.ContainerSpec.Image
			want := outcomeOf(&end.Service, good, end.judge(tr))
			if got := play(fate, action, replicasOf(&tr.Before.Spec)); got != want {
				t.Errorf("the model ends with %+v\nSwarm ended with    %+v: %s", got, want, end.judge(tr).Reason)
			}
		})
	}
}

// play writes a version of a fate over a good one in the model, and lets 90 s go by.
func play(fate, action string, replicas uint64) outcome {
	m := &model{checkedEngine: &checkedEngine{fakeEngine: newFakeEngine()}, ripe: map[string]time.Time{}, given: map[string]time.Time{}}
	s := service("shop", "web", "app:1-"+fateGood).Spec
	s.Name, s.Mode.Replicated.Replicas = "shop_web", &replicas
	s.UpdateConfig = &swarm.UpdateConfig{Parallelism: 1, Order: swarm.UpdateOrderStartFirst, FailureAction: action}
	live := &swarm.Service{ID: "s", Meta: m.meta(swarm.Meta{CreatedAt: m.clock}), Spec: *cloneSpec(&s)}
	m.services["s"] = live
	m.fakeEngine.run(live)
	m.clock = m.clock.Add(time.Hour)
	began, before := m.clock, live.Spec
	live.PreviousSpec, live.Spec = &before, *cloneSpec(&before)
	live.Spec.TaskTemplate.ContainerSpec.Image = "app:2-" + fate
	if fate == fateUnfit {
		live.Spec.TaskTemplate.Placement.Constraints = []string{unfitFor}
	}
	m.dirty["s"] = true
	for range 18 {
		m.turn()
		m.advance(5 * time.Second)
		m.keepsCrashing()
	}
	var ts Tasks
	ts.Known, ts.Since = true, began
	for _, task := range m.tasks["s"] {
		if task.Spec.ContainerSpec.Image == live.Spec.TaskTemplate.ContainerSpec.Image {
			ts.Current = append(ts.Current, task)
		} else {
			ts.Old = append(ts.Old, task)
		}
	}
	return outcomeOf(live, before.TaskTemplate.ContainerSpec.Image, Judge("web", live, ts, nodesOf(&m.nodes[0]), m.clock))
}

// nextStates are the ways that an update's state may take: what Decide counts on.
var nextStates = map[swarm.UpdateState][]swarm.UpdateState{
	"":                                 {swarm.UpdateStateUpdating},
	swarm.UpdateStateUpdating:          {swarm.UpdateStateCompleted, swarm.UpdateStatePaused, swarm.UpdateStateRollbackStarted},
	swarm.UpdateStateRollbackStarted:   {swarm.UpdateStateRollbackCompleted, swarm.UpdateStateRollbackPaused},
	swarm.UpdateStateCompleted:         nil,
	swarm.UpdateStatePaused:            nil,
	swarm.UpdateStateRollbackCompleted: nil,
}

// What Judge and Decide take for granted held at every recorded moment: versions grow, an
// update's state goes only forward, a task that has ended does not come back, and of a slot
// no two tasks of one version are wanted at a time.
func TestRecordedSwarmsKeepTheRules(t *testing.T) {
	for name, tr := range traces(t) {
		t.Run(name, func(t *testing.T) {
			var version uint64
			state := swarm.UpdateState("")
			ended := map[string]swarm.TaskState{}
			for i := range tr.Moments {
				m := &tr.Moments[i]
				if v := m.Service.Version.Index; v < version {
					t.Errorf("moment %d: version %d after %d", i, v, version)
				} else {
					version = v
				}
				if u := m.Service.UpdateStatus; u != nil && u.State != state {
					if !slices.Contains(nextStates[state], u.State) && !skips(state, u.State) {
						t.Errorf("moment %d: the update is %s after %q", i, u.State, state)
					}
					state = u.State
				}
				for _, task := range slices.Concat(m.Current, m.Old) {
					before, was := ended[task.ID]
					if was && task.Status.State != before {
						t.Errorf("moment %d: task %s is %s after %s", i, task.ID, task.Status.State, before)
					}
					if isOver(task.Status.State) {
						ended[task.ID] = task.Status.State
					}
				}
			}
		})
	}
}

// skips says that a state was passed between two looks.
func skips(from, to swarm.UpdateState) bool {
	for _, next := range nextStates[from] {
		if slices.Contains(nextStates[next], to) || skips(next, to) {
			return true
		}
	}
	return false
}

func isOver(s swarm.TaskState) bool {
	return slices.Contains([]swarm.TaskState{swarm.TaskStateFailed, swarm.TaskStateRejected, swarm.TaskStateShutdown, swarm.TaskStateComplete, swarm.TaskStateOrphaned}, s)
}

// A verdict over a recorded rollout comes to its end and stays there: what is Degraded by
// a cause of its own is not Healthy in the next moment, and what is bad is not Healthy for
// longer than the version hides it.
func TestVerdictsOverRecordedSwarms(t *testing.T) {
	for name, tr := range traces(t) {
		t.Run(name, func(t *testing.T) {
			fate, _ := fateOfTrace(name)
			good := tr.Before.Spec.TaskTemplate.ContainerSpec.Image
			seen := map[HealthStatus]bool{}
			for i := range tr.Moments {
				m := &tr.Moments[i]
				h := m.judge(tr)
				isNew := m.Service.Spec.TaskTemplate.ContainerSpec.Image != good
				if seen[h.Status] = true; h.Converged && isNew && fate != fateLate {
					t.Errorf("moment %d (%s): a bad version has converged: %+v", i, m.Now.Sub(tr.Moments[0].Now), h)
				}
			}
			if !seen[HealthDegraded] {
				t.Errorf("it was never Degraded, but %v", slices.Sorted(maps.Keys(seen)))
			}
		})
	}
}
