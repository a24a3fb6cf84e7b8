// Command record asks a real engine what it makes of service specs, and keeps
// the answers as test data: for each case what was sent, as a reconcile.Desired,
// and what the lists gave back. Nothing of what is kept is copied from what was
// sent.
//
//	DOCKER_HOST=unix:///DIR/docker.sock go run ./reconcile/testdata/record reconcile/testdata/live
//
// The engine has to be a manager of a Swarm of its own (`go run ./e2e/lab up`
// makes one); what the command creates in it, it removes again. No task ever
// runs: services have no replicas, or a constraint that no node meets.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/client"

	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
)

// A recording is what a file holds.
type recording struct {
	Engine   string             `json:"engine"`
	API      string             `json:"api"`
	Desired  *reconcile.Desired `json:"desired"`
	Services []swarm.Service    `json:"services"`
	Networks []network.Summary  `json:"networks"`
	Configs  []swarm.Config     `json:"configs"`
	Secrets  []swarm.Secret     `json:"secrets"`
}

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: record DIR")
	}
	c, err := client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation())
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background()
	for _, d := range cases() {
		r, err := record(ctx, c, d)
		if err == nil {
			err = store(os.Args[1], r)
		}
		if err != nil {
			log.Fatalf("%s: %v", d.Stack, err)
		}
	}
}

func store(dir string, r *recording) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	name := fmt.Sprintf("%s-%s.json", r.Desired.Stack, r.API)
	return os.WriteFile(filepath.Join(dir, name), append(b, '\n'), 0o644)
}

func record(ctx context.Context, c *client.Client, d *reconcile.Desired) (*recording, error) {
	m := &maker{ctx: ctx, c: c, ids: map[string]string{}}
	defer m.undo()
	if err := m.make(d); err != nil {
		return nil, err
	}
	version, err := c.ServerVersion(ctx)
	if err != nil {
		return nil, err
	}
	r := &recording{Engine: version.Version, API: c.ClientVersion(), Desired: d}
	stack := filters.NewArgs(filters.Arg("label", spec.LabelNamespace+"="+d.Stack))
	if r.Services, err = c.ServiceList(ctx, swarm.ServiceListOptions{Filters: stack, Status: true}); err != nil {
		return nil, err
	}
	all := filters.NewArgs(filters.Arg("scope", "swarm"))
	if r.Networks, err = c.NetworkList(ctx, network.ListOptions{Filters: all}); err != nil {
		return nil, err
	}
	if r.Configs, err = c.ConfigList(ctx, swarm.ConfigListOptions{Filters: stack}); err != nil {
		return nil, err
	}
	r.Secrets, err = c.SecretList(ctx, swarm.SecretListOptions{Filters: stack})
	return r, err
}

// A maker creates a stack's objects with the bare client.
type maker struct {
	ctx  context.Context
	c    *client.Client
	ids  map[string]string // "config/name" → ID
	back []func() error
}

func (m *maker) undo() {
	for _, f := range slices.Backward(m.back) {
		if err := f(); err != nil {
			log.Print(err)
		}
	}
}

func (m *maker) made(key, id string, remove func(ctx context.Context, id string) error) {
	m.ids[key] = id
	m.back = append(m.back, func() error { return remove(m.ctx, id) })
}

func (m *maker) make(d *reconcile.Desired) error {
	for _, n := range d.Networks {
		if n.External {
			continue
		}
		r, err := m.c.NetworkCreate(m.ctx, n.Name, n.Create)
		if err != nil {
			return fmt.Errorf("create network %s: %w", n.Name, err)
		}
		m.made("network/"+n.Name, r.ID, m.c.NetworkRemove)
	}
	for _, o := range d.Configs {
		r, err := m.c.ConfigCreate(m.ctx, swarm.ConfigSpec{
			Annotations: swarm.Annotations{Name: o.Name, Labels: o.Labels}, Data: []byte(o.Name), Templating: o.Templating,
		})
		if err != nil {
			return fmt.Errorf("create config %s: %w", o.Name, err)
		}
		m.made("config/"+o.Name, r.ID, m.c.ConfigRemove)
	}
	for _, o := range d.Secrets {
		r, err := m.c.SecretCreate(m.ctx, swarm.SecretSpec{
			Annotations: swarm.Annotations{Name: o.Name, Labels: o.Labels}, Data: []byte(o.Name), Templating: o.Templating,
		})
		if err != nil {
			return fmt.Errorf("create secret %s: %w", o.Name, err)
		}
		m.made("secret/"+o.Name, r.ID, m.c.SecretRemove)
	}
	for _, s := range d.Services {
		sent, err := m.resolved(&s.Spec)
		if err != nil {
			return err
		}
		r, err := m.c.ServiceCreate(m.ctx, *sent, swarm.ServiceCreateOptions{})
		if err != nil {
			return fmt.Errorf("create service %s: %w", s.Name, err)
		}
		m.made("service/"+s.Name, r.ID, m.c.ServiceRemove)
	}
	return nil
}

// resolved is a copy of a spec with the IDs of what it refers to.
func (m *maker) resolved(s *swarm.ServiceSpec) (*swarm.ServiceSpec, error) {
	b, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	out := new(swarm.ServiceSpec)
	if err := json.Unmarshal(b, out); err != nil {
		return nil, err
	}
	c := out.TaskTemplate.ContainerSpec
	for _, r := range c.Configs {
		r.ConfigID = m.ids["config/"+r.ConfigName]
	}
	for _, r := range c.Secrets {
		r.SecretID = m.ids["secret/"+r.SecretName]
	}
	if p := c.Privileges; p != nil && p.CredentialSpec != nil && p.CredentialSpec.Config != "" {
		p.CredentialSpec.Config = m.ids["config/"+p.CredentialSpec.Config]
	}
	return out, nil
}

func labels(stack string, more ...string) map[string]string {
	l := map[string]string{spec.LabelNamespace: stack}
	for _, kv := range more {
		k, v, _ := strings.Cut(kv, "=")
		l[k] = v
	}
	return l
}
