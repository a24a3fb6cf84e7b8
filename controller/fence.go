package controller

import (
	"context"

	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"

	"github.com/skep-io/skep/reconcile"
)

// Fence lets through what is asked of s, and what is written only while lease says that
// its controller acts; else the error is ErrNotLeading. In a context that inTerm made,
// only while it acts in that very term: what was looked at before it lost the lease is
// no reason to write once it has it again.
func Fence(s reconcile.Swarm, lease *Lease) reconcile.Swarm { return &fenced{s, lease} }

type fenced struct {
	reconcile.Swarm
	lease *Lease
}

type termKey struct{}

// inTerm is ctx for what is done because of what was seen in a term.
func inTerm(ctx context.Context, term uint64) context.Context {
	return context.WithValue(ctx, termKey{}, term)
}

// guard runs a write, if there may be one.
func guard[T any](ctx context.Context, lease *Lease, write func() (T, error)) (T, error) {
	term, _ := ctx.Value(termKey{}).(uint64)
	done, err := lease.write(term)
	if err != nil {
		var none T
		return none, err
	}
	defer done()
	return write()
}

// guarded is guard for a write that answers nothing.
func guarded(ctx context.Context, lease *Lease, write func() error) error {
	_, err := guard(ctx, lease, func() (struct{}, error) { return struct{}{}, write() })
	return err
}

func (f *fenced) ServiceCreate(ctx context.Context, service swarm.ServiceSpec, options swarm.ServiceCreateOptions) (swarm.ServiceCreateResponse, error) {
	return guard(ctx, f.lease, func() (swarm.ServiceCreateResponse, error) { return f.Swarm.ServiceCreate(ctx, service, options) })
}

func (f *fenced) ServiceUpdate(ctx context.Context, id string, version swarm.Version, service swarm.ServiceSpec, options swarm.ServiceUpdateOptions) (swarm.ServiceUpdateResponse, error) {
	return guard(ctx, f.lease, func() (swarm.ServiceUpdateResponse, error) {
		return f.Swarm.ServiceUpdate(ctx, id, version, service, options)
	})
}

func (f *fenced) ServiceRemove(ctx context.Context, id string) error {
	return guarded(ctx, f.lease, func() error { return f.Swarm.ServiceRemove(ctx, id) })
}

func (f *fenced) NetworkCreate(ctx context.Context, name string, options network.CreateOptions) (network.CreateResponse, error) {
	return guard(ctx, f.lease, func() (network.CreateResponse, error) { return f.Swarm.NetworkCreate(ctx, name, options) })
}

func (f *fenced) NetworkRemove(ctx context.Context, id string) error {
	return guarded(ctx, f.lease, func() error { return f.Swarm.NetworkRemove(ctx, id) })
}

func (f *fenced) ConfigCreate(ctx context.Context, config swarm.ConfigSpec) (swarm.ConfigCreateResponse, error) {
	return guard(ctx, f.lease, func() (swarm.ConfigCreateResponse, error) { return f.Swarm.ConfigCreate(ctx, config) })
}

func (f *fenced) ConfigUpdate(ctx context.Context, id string, version swarm.Version, config swarm.ConfigSpec) error {
	return guarded(ctx, f.lease, func() error { return f.Swarm.ConfigUpdate(ctx, id, version, config) })
}

func (f *fenced) ConfigRemove(ctx context.Context, id string) error {
	return guarded(ctx, f.lease, func() error { return f.Swarm.ConfigRemove(ctx, id) })
}

func (f *fenced) SecretCreate(ctx context.Context, secret swarm.SecretSpec) (swarm.SecretCreateResponse, error) {
	return guard(ctx, f.lease, func() (swarm.SecretCreateResponse, error) { return f.Swarm.SecretCreate(ctx, secret) })
}

func (f *fenced) SecretUpdate(ctx context.Context, id string, version swarm.Version, secret swarm.SecretSpec) error {
	return guarded(ctx, f.lease, func() error { return f.Swarm.SecretUpdate(ctx, id, version, secret) })
}

func (f *fenced) SecretRemove(ctx context.Context, id string) error {
	return guarded(ctx, f.lease, func() error { return f.Swarm.SecretRemove(ctx, id) })
}
