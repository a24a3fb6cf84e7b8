package controller

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/registry"
	"github.com/docker/docker/api/types/swarm"

	"github.com/skep-io/skep/reconcile"
)

// countingSwarm counts what reaches it.
type countingSwarm struct{ calls int }

// checkFence calls every method of a fenced Swarm: those that look go through, the
// others just when they may. A method that is new has to be one or the other.
func checkFence(t *testing.T, fenced reconcile.Swarm, behind *countingSwarm, open bool) {
	t.Helper()
	v, api := reflect.ValueOf(fenced), reflect.TypeFor[reconcile.Swarm]()
	for i := range api.NumMethod() {
		name := api.Method(i).Name
		looks := strings.HasSuffix(name, "List") || strings.Contains(name, "Inspect") || name == "ClientVersion"
		writes := strings.HasSuffix(name, "Create") || strings.HasSuffix(name, "Update") || strings.HasSuffix(name, "Remove")
		if looks == writes {
			t.Errorf("%s: does it write?", name)
		}
		m := v.MethodByName(name)
		args := make([]reflect.Value, m.Type().NumIn())
		for j := range args {
			args[j] = reflect.Zero(m.Type().In(j))
			if m.Type().In(j) == reflect.TypeFor[context.Context]() {
				args[j] = reflect.ValueOf(t.Context())
			}
		}
		before := behind.calls
		out := m.Call(args)
		err, _ := out[len(out)-1].Interface().(error)
		switch {
		case looks || open:
			if err != nil || behind.calls != before+1 {
				t.Errorf("%s does not go through: %v", name, err)
			}
		case !errors.Is(err, ErrNotLeading) || behind.calls != before:
			t.Errorf("%s goes through: %v", name, err)
		}
	}
}

func (c *countingSwarm) ClientVersion() string { c.calls++; return "1.41" }

func (c *countingSwarm) ServiceList(context.Context, swarm.ServiceListOptions) ([]swarm.Service, error) {
	c.calls++
	return nil, nil
}

func (c *countingSwarm) ServiceCreate(context.Context, swarm.ServiceSpec, swarm.ServiceCreateOptions) (r swarm.ServiceCreateResponse, err error) {
	c.calls++
	return r, nil
}

func (c *countingSwarm) ServiceUpdate(context.Context, string, swarm.Version, swarm.ServiceSpec, swarm.ServiceUpdateOptions) (r swarm.ServiceUpdateResponse, err error) {
	c.calls++
	return r, nil
}

func (c *countingSwarm) ServiceRemove(context.Context, string) error { c.calls++; return nil }

func (c *countingSwarm) TaskList(context.Context, swarm.TaskListOptions) ([]swarm.Task, error) {
	c.calls++
	return nil, nil
}

func (c *countingSwarm) NodeList(context.Context, swarm.NodeListOptions) ([]swarm.Node, error) {
	c.calls++
	return nil, nil
}

func (c *countingSwarm) NetworkList(context.Context, network.ListOptions) ([]network.Summary, error) {
	c.calls++
	return nil, nil
}

func (c *countingSwarm) NetworkCreate(context.Context, string, network.CreateOptions) (r network.CreateResponse, err error) {
	c.calls++
	return r, nil
}

func (c *countingSwarm) NetworkRemove(context.Context, string) error { c.calls++; return nil }

func (c *countingSwarm) ConfigList(context.Context, swarm.ConfigListOptions) ([]swarm.Config, error) {
	c.calls++
	return nil, nil
}

func (c *countingSwarm) ConfigInspectWithRaw(context.Context, string) (r swarm.Config, raw []byte, err error) {
	c.calls++
	return r, nil, nil
}

func (c *countingSwarm) ConfigCreate(context.Context, swarm.ConfigSpec) (r swarm.ConfigCreateResponse, err error) {
	c.calls++
	return r, nil
}

func (c *countingSwarm) ConfigUpdate(context.Context, string, swarm.Version, swarm.ConfigSpec) error {
	c.calls++
	return nil
}

func (c *countingSwarm) ConfigRemove(context.Context, string) error { c.calls++; return nil }

func (c *countingSwarm) SecretList(context.Context, swarm.SecretListOptions) ([]swarm.Secret, error) {
	c.calls++
	return nil, nil
}

func (c *countingSwarm) SecretCreate(context.Context, swarm.SecretSpec) (r swarm.SecretCreateResponse, err error) {
	c.calls++
	return r, nil
}

func (c *countingSwarm) SecretUpdate(context.Context, string, swarm.Version, swarm.SecretSpec) error {
	c.calls++
	return nil
}

func (c *countingSwarm) SecretRemove(context.Context, string) error { c.calls++; return nil }

func (c *countingSwarm) DistributionInspect(context.Context, string, string) (r registry.DistributionInspect, err error) {
	c.calls++
	return r, nil
}
