package e2e

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/client"
)

var traces = flag.String("traces", "", "with -compare: a directory to record in what Swarm does to each bad version (make traces)")

// A trace is what an engine showed of a service from the moment a bad version was
// written, as package reconcile's tests read it. What no verdict asks for is left out.
type trace struct {
	About   string        `json:"about"`
	From    string        `json:"from"`
	Before  swarm.Service `json:"before"` // when the good version ran
	Nodes   []swarm.Node  `json:"nodes"`
	Moments []moment      `json:"moments"`
}

type moment struct {
	Now     time.Time     `json:"now"`
	Service swarm.Service `json:"service"`
	Current []swarm.Task  `json:"current"`
	Old     []swarm.Task  `json:"old"`
}

// record watches a service until the function it returns is called, which writes down
// what was seen.
func record(t *testing.T, c *client.Client, service, file string) (end func()) {
	t.Helper()
	tr, err := begun(t.Context(), c, service)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- tr.watch(ctx, c, service) }()
	return func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("record %s: %v", service, err)
			return
		}
		tr.Moments = thin(tr.Moments)
		data, err := json.Marshal(tr)
		if err == nil {
			err = os.WriteFile(file, append(data, '\n'), 0o644)
		}
		if err != nil {
			t.Errorf("record %s: %v", service, err)
		}
	}
}

func begun(ctx context.Context, c *client.Client, service string) (*trace, error) {
	version, err := c.ServerVersion(ctx)
	if err != nil {
		return nil, fmt.Errorf("ask for the engine's version: %w", err)
	}
	before, _, err := c.ServiceInspectWithRaw(ctx, service, swarm.ServiceInspectOptions{})
	if err != nil {
		return nil, fmt.Errorf("look at %s: %w", service, err)
	}
	nodes, err := c.NodeList(ctx, swarm.NodeListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	tr := &trace{About: service, From: "engine " + version.Version, Before: slimService(before)}
	for _, n := range nodes {
		tr.Nodes = append(tr.Nodes, swarm.Node{ID: n.ID, Spec: n.Spec, Status: n.Status,
			Description: swarm.NodeDescription{Hostname: n.Description.Hostname, Platform: n.Description.Platform, Resources: n.Description.Resources}})
	}
	return tr, nil
}

// watch keeps each moment that says something else than the one before.
func (tr *trace) watch(ctx context.Context, c *client.Client, service string) error {
	tick := time.NewTicker(300 * time.Millisecond)
	defer tick.Stop()
	for {
		m, err := lookAt(ctx, c, service)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		case len(tr.Moments) == 0 || !reflect.DeepEqual(shapeOf(m), shapeOf(&tr.Moments[len(tr.Moments)-1])):
			tr.Moments = append(tr.Moments, *m)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func lookAt(ctx context.Context, c *client.Client, service string) (*moment, error) {
	list := func(more ...filters.KeyValuePair) ([]swarm.Task, error) {
		return c.TaskList(ctx, swarm.TaskListOptions{Filters: filters.NewArgs(append(more, filters.Arg("service", service))...)})
	}
	s, _, err := c.ServiceInspectWithRaw(ctx, service, swarm.ServiceInspectOptions{})
	if err != nil {
		return nil, err
	}
	all, err := list()
	if err != nil {
		return nil, err
	}
	current, err := list(filters.Arg("_up-to-date", "true"))
	if err != nil {
		return nil, err
	}
	m := &moment{Now: time.Now().UTC(), Service: slimService(s)}
	for _, t := range all {
		slim := swarm.Task{ID: t.ID, Meta: swarm.Meta{CreatedAt: t.CreatedAt}, Slot: t.Slot, NodeID: t.NodeID, DesiredState: t.DesiredState, Status: t.Status}
		slim.Status.PortStatus = swarm.PortStatus{}
		if st := slim.Status.ContainerStatus; st != nil {
			slim.Status.ContainerStatus = &swarm.ContainerStatus{ExitCode: st.ExitCode}
		}
		if slices.ContainsFunc(current, func(x swarm.Task) bool { return x.ID == t.ID }) {
			m.Current = append(m.Current, slim)
		} else {
			m.Old = append(m.Old, slim)
		}
	}
	return m, nil
}

// thin keeps what a trace of a crash loop, which says the same again and again, has to
// say: where Swarm's word changes, the end, and some of the rest.
func thin(all []moment) []moment {
	every := max(1, len(all)/10)
	var kept []moment
	for i := range all {
		changes := i == 0 || i == len(all)-1 || wordOf(&all[i]) != wordOf(&all[i-1]) || wordOf(&all[i]) != wordOf(&all[i+1])
		if changes || i%every == 0 {
			kept = append(kept, all[i])
		}
	}
	return kept
}

// wordOf is Swarm's own word for how an update goes.
func wordOf(m *moment) string {
	if m.Service.UpdateStatus == nil {
		return ""
	}
	return string(m.Service.UpdateStatus.State)
}

// shapeOf is what makes a moment worth keeping.
func shapeOf(m *moment) []string {
	shape := []string{wordOf(m)}
	for kind, tasks := range map[string][]swarm.Task{"current": m.Current, "old": m.Old} {
		for _, t := range tasks {
			switch t.Status.State { // the others are passed in no time
			case swarm.TaskStatePending, swarm.TaskStateStarting, swarm.TaskStateRunning, swarm.TaskStateFailed, swarm.TaskStateRejected, swarm.TaskStateShutdown:
				shape = append(shape, fmt.Sprint(kind, t.Slot, t.ID, t.Status.State))
			}
		}
	}
	slices.Sort(shape)
	return shape
}

func slimService(s swarm.Service) swarm.Service {
	out := swarm.Service{Meta: s.Meta, Spec: slimSpec(&s.Spec), UpdateStatus: s.UpdateStatus}
	if s.PreviousSpec != nil {
		previous := slimSpec(s.PreviousSpec)
		out.PreviousSpec = &previous
	}
	return out
}

func slimSpec(s *swarm.ServiceSpec) swarm.ServiceSpec {
	from := s.TaskTemplate
	return swarm.ServiceSpec{Mode: s.Mode, UpdateConfig: s.UpdateConfig, TaskTemplate: swarm.TaskSpec{
		ContainerSpec: &swarm.ContainerSpec{Image: from.ContainerSpec.Image, Healthcheck: from.ContainerSpec.Healthcheck},
		Resources:     from.Resources, RestartPolicy: from.RestartPolicy, Placement: from.Placement,
	}}
}

// traceFile is where a scene's trace goes.
func traceFile(stack string) string { return filepath.Join(*traces, stack+".json") }
