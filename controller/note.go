package controller

import (
	"context"
	"fmt"
	"maps"
	"strings"
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

// Kinds of notes: what the acting controller tells, what people confirm to it, and what
// messages were sent about.
const (
	kindReport = "report"
	kindPrune  = "prune"
	kindTold   = "told"

	labelKind = reconcile.LabelPrefix + "kind"
	noteData  = "What it says is in its labels.\n" // an engine wants some
	noteLimit = 20 * time.Second                   // for one request
)

// isNote says that a config is of a controller and not of a stack.
func isNote(name string) bool {
	for _, kind := range []string{kindReport, kindPrune, kindTold, "lease"} {
		if strings.HasPrefix(name, "skep-"+kind+"-") {
			return true
		}
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
	list, err := n.ConfigList(ctx, swarm.ConfigListOptions{Filters: filters.NewArgs(
		filters.Arg("label", labelKind+"="+n.kind), filters.Arg("label", reconcile.LabelOwner+"="+n.owner))})
	if err != nil {
		return nil, fmt.Errorf("read the %s of owner %s: %w", n.kind, n.owner, err)
	}
	for i := range list {
		if list[i].Spec.Name == reconcile.KeptName(n.kind, n.owner) {
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
	l[labelKind], l[reconcile.LabelOwner] = n.kind, n.owner
	about := swarm.Annotations{Name: reconcile.KeptName(n.kind, n.owner), Labels: l}
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
