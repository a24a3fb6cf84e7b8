package controller

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/swarm"

	"github.com/skep-io/skep/reconcile"
)

// notes is what a note asks of an engine: a reconcile.Swarm has it.
type notes interface {
	ConfigList(ctx context.Context, options swarm.ConfigListOptions) ([]swarm.Config, error)
	ConfigCreate(ctx context.Context, config swarm.ConfigSpec) (swarm.ConfigCreateResponse, error)
	ConfigUpdate(ctx context.Context, id string, version swarm.Version, config swarm.ConfigSpec) error
	ConfigRemove(ctx context.Context, id string) error
}

const (
	noteData  = "What it says is in its labels.\n" // an engine wants some
	noteLimit = 20 * time.Second                   // for one request
)

// isNote says that a config is of a controller and not of a stack: what it tells, who
// acts, or what people confirm to it.
func isNote(name string) bool {
	switch reconcile.OwnKind(name) {
	case reconcile.KindLease, reconcile.KindReport, reconcile.KindPrune, reconcile.KindTold, reconcile.KindLook:
		return true
	}
	return false
}

// A note is a config object that says something in its labels, for an owner's stacks as
// a whole. It is written by compare-and-set.
type note struct {
	notes
	kind, owner string
}

// read returns the note's labels and what its next write needs; nil where there is none.
func (n *note) read(ctx context.Context) (*swarm.Config, error) {
	ctx, cancel := context.WithTimeout(ctx, noteLimit)
	defer cancel()
	// By its name, which a next one would clash with, whatever became of its labels.
	name := reconcile.OwnName(n.kind, n.owner)
	list, err := n.ConfigList(ctx, swarm.ConfigListOptions{Filters: filters.NewArgs(filters.Arg("name", name))})
	if err != nil {
		return nil, fmt.Errorf("read the %s of owner %s: %w", n.kind, n.owner, err)
	}
	for i := range list { // the filter matches prefixes
		if list[i].Spec.Name == name {
			return &list[i], nil
		}
	}
	return nil, nil
}

// write writes labels over what was read; old is nil where that was nothing. It fails
// where somebody else wrote meanwhile.
func (n *note) write(ctx context.Context, old *swarm.Config, labels map[string]string) error {
	ctx, cancel := context.WithTimeout(ctx, noteLimit)
	defer cancel()
	l := maps.Clone(labels)
	l[reconcile.LabelKind], l[reconcile.LabelOwner] = n.kind, n.owner
	about := swarm.Annotations{Name: reconcile.OwnName(n.kind, n.owner), Labels: l}
	var err error
	if old == nil {
		_, err = n.ConfigCreate(ctx, swarm.ConfigSpec{Annotations: about, Data: []byte(noteData)})
	} else {
		err = n.ConfigUpdate(ctx, old.ID, old.Version, swarm.ConfigSpec{Annotations: about})
	}
	if err != nil {
		return fmt.Errorf("write the %s of owner %s: %w", n.kind, n.owner, err)
	}
	return nil
}

// remove removes what was read.
func (n *note) remove(ctx context.Context, old *swarm.Config) error {
	ctx, cancel := context.WithTimeout(ctx, noteLimit)
	defer cancel()
	if err := n.ConfigRemove(ctx, old.ID); err != nil {
		return fmt.Errorf("remove the %s of owner %s: %w", n.kind, n.owner, err)
	}
	return nil
}
