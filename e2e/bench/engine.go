//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"time"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/client"
	"golang.org/x/sync/errgroup"

	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
)

// inFlight is how many requests the engine by itself gets at once.
const inFlight = 8

// An engine is the floor: what the engine takes when nobody thinks.
type engine struct {
	*client.Client
}

// listTime is how long one list of all services with their status takes.
func (e engine) listTime(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	_, err := e.ServiceList(ctx, swarm.ServiceListOptions{Status: true})
	return time.Since(began), err
}

// create makes all objects of stacks, inFlight at once, and returns how long it took
// until the last service was there.
func (e engine) create(ctx context.Context, stacks []*reconcile.Desired) (time.Duration, error) {
	began := time.Now()
	configs := make([]map[string]string, len(stacks)) // name → ID
	err := side(ctx, len(stacks), func(ctx context.Context, i int) (err error) {
		configs[i], err = e.createObjects(ctx, stacks[i])
		return err
	})
	if err != nil {
		return 0, err
	}
	var specs []swarm.ServiceSpec
	for i, d := range stacks {
		for _, s := range d.Services {
			for _, r := range s.Spec.TaskTemplate.ContainerSpec.Configs {
				r.ConfigID = configs[i][r.ConfigName]
			}
			specs = append(specs, s.Spec)
		}
	}
	err = side(ctx, len(specs), func(ctx context.Context, i int) error {
		_, err := e.ServiceCreate(ctx, specs[i], swarm.ServiceCreateOptions{})
		return err
	})
	if err != nil {
		return 0, err
	}
	return e.lastCreated(ctx, began, len(specs))
}

// createObjects makes what a stack's services need, and returns its configs' IDs.
func (e engine) createObjects(ctx context.Context, d *reconcile.Desired) (map[string]string, error) {
	for _, n := range d.Networks {
		if _, err := e.NetworkCreate(ctx, n.Name, n.Create); err != nil {
			return nil, err
		}
	}
	ids := map[string]string{}
	for _, c := range d.Configs {
		r, err := e.ConfigCreate(ctx, swarm.ConfigSpec{Annotations: swarm.Annotations{Name: c.Name, Labels: c.Labels}, Data: c.ConfigData})
		if err != nil {
			return nil, err
		}
		ids[c.Name] = r.ID
	}
	return ids, nil
}

// lastCreated is the time from a moment until the engine had the last of so many
// services, by the engine's own word: it is on this machine, and has this clock.
func (e engine) lastCreated(ctx context.Context, began time.Time, want int) (time.Duration, error) {
	list, err := e.ServiceList(ctx, swarm.ServiceListOptions{})
	if err != nil {
		return 0, err
	}
	if len(list) != want {
		return 0, fmt.Errorf("%d of %d services were created", len(list), want)
	}
	var last time.Time
	for i := range list {
		if at := list[i].CreatedAt; at.After(last) {
			last = at
		}
	}
	return last.Sub(began), nil
}

// awaitCreated waits until there are so many services, and is lastCreated then.
func (e engine) awaitCreated(ctx context.Context, began time.Time, want int) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	for {
		took, err := e.lastCreated(ctx, began, want)
		if err == nil {
			return took, nil
		}
		if sleep(ctx, time.Second) != nil {
			return 0, err
		}
	}
}

// versions tells the Version.Index of every service, config and secret.
func (e engine) versions(ctx context.Context) (map[string]uint64, error) {
	v := map[string]uint64{}
	services, err1 := e.ServiceList(ctx, swarm.ServiceListOptions{})
	for _, s := range services {
		v["service "+s.ID] = s.Version.Index
	}
	configs, err2 := e.ConfigList(ctx, swarm.ConfigListOptions{})
	for _, c := range configs {
		v["config "+c.ID] = c.Version.Index
	}
	secrets, err3 := e.SecretList(ctx, swarm.SecretListOptions{})
	for _, s := range secrets {
		v["secret "+s.ID] = s.Version.Index
	}
	return v, errors.Join(err1, err2, err3)
}

// clear removes everything of all stacks, records too.
func (e engine) clear(ctx context.Context) error {
	services, err := e.ServiceList(ctx, swarm.ServiceListOptions{})
	if err != nil {
		return err
	}
	err = side(ctx, len(services), func(ctx context.Context, i int) error { return e.ServiceRemove(ctx, services[i].ID) })
	if err != nil {
		return err
	}
	configs, err := e.ConfigList(ctx, swarm.ConfigListOptions{})
	if err != nil {
		return err
	}
	err = side(ctx, len(configs), func(ctx context.Context, i int) error { return e.ConfigRemove(ctx, configs[i].ID) })
	if err != nil {
		return err
	}
	networks, err := e.NetworkList(ctx, network.ListOptions{Filters: filters.NewArgs(filters.Arg("label", spec.LabelNamespace))})
	if err != nil {
		return err
	}
	return side(ctx, len(networks), func(ctx context.Context, i int) error { return e.NetworkRemove(ctx, networks[i].ID) })
}

// side calls f for 0 to n-1, inFlight at once.
func side(ctx context.Context, n int, f func(ctx context.Context, i int) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(inFlight)
	for i := range n {
		g.Go(func() error { return f(ctx, i) })
	}
	return g.Wait()
}

// loop runs `docker stack deploy` for the first n stacks, one after another, as
// people do, and returns how long that took, extrapolated to all stacks. It asks no
// registry; docker would, for every service.
func (b *bench) loop(ctx context.Context, s *source, n int) (time.Duration, error) {
	n = min(n, len(s.names))
	began := time.Now()
	for _, stack := range s.names[:n] {
		cmd := exec.CommandContext(ctx, "docker", "stack", "deploy", "--resolve-image", "never", "--compose-file", s.file(stack), stack)
		cmd.Env = b.lab.Env(0)
		if out, err := cmd.CombinedOutput(); err != nil {
			return 0, fmt.Errorf("docker stack deploy %s: %w\n%s", stack, err, out)
		}
	}
	return time.Since(began) * time.Duration(len(s.names)) / time.Duration(n), nil
}

// moved counts what is not as it was.
func moved(before, after map[string]uint64) int {
	n := 0
	all := maps.Clone(before)
	maps.Copy(all, after)
	for id := range all {
		if before[id] != after[id] {
			n++
		}
	}
	return n
}
