package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/user"
	"slices"
	"strings"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"github.com/skep-io/skep/reconcile"
)

// Stacks whose files are gone are removed where that is asked for (--prune-stacks), and
// where it is few of them. More wait for a person: the controller publishes what would
// go with its ID, `skep prune --confirm ID` writes that ID into a config object, and the
// controller carries it out. What was confirmed is written beside the ID before the
// first removal, so that a controller that is killed half-way goes on with just that.

// Labels of what people confirm.
const (
	labelPlan   = reconcile.LabelPrefix + "prune-plan"
	labelStacks = reconcile.LabelPrefix + "prune-stacks"
	labelBy     = reconcile.LabelPrefix + "confirmed-by"
	labelAt     = reconcile.LabelPrefix + "confirmed-at"
)

// An intent is a removal that a person has confirmed.
type intent struct {
	id     string
	stacks []string // that are still to go; none: nobody has taken it in yet
}

func parseIntent(c *swarm.Config) intent {
	in := intent{id: c.Spec.Labels[labelPlan]}
	if names := c.Spec.Labels[labelStacks]; names != "" {
		in.stacks = strings.Split(names, ",")
	}
	return in
}

// next is what becomes of an intent: blocked is what waits, going what the files do not
// have any more, known what lives. ok is false when it is carried out, or out of date.
func (in intent) next(blocked *reconcile.Blockade, known, going []string) (next intent, ok bool) {
	if len(in.stacks) == 0 {
		if blocked == nil || blocked.ID != in.id || in.id == "" {
			return in, false
		}
		return intent{in.id, blocked.Names}, true
	}
	left := intersect(intersect(in.stacks, known), going)
	return intent{in.id, left}, len(left) > 0
}

// blockade is what of known and going waits to be confirmed.
func (c *controller) blockade(known, going []string) *reconcile.Blockade {
	_, b := reconcile.GuardStacks(known, going, c.kept.sure())
	return b
}

// pruneBlocked says, in a sentence, why a stack whose file is gone must not be removed
// yet; "" where it may.
func (c *controller) pruneBlocked(name string) string {
	if !c.PruneStacks {
		return ""
	}
	return pruneBlocked(name, c.live(), c.desired.Load().going(), c.kept.sure())
}

func pruneBlocked(name string, known, going, confirmed []string) string {
	allowed, b := reconcile.GuardStacks(known, going, confirmed)
	switch {
	case slices.Contains(allowed, name):
		return ""
	case b != nil && slices.Contains(b.Names, name):
		return b.Why()
	}
	return "the newest listing of the Swarm does not have it: how much would go cannot be told"
}

// weighPrune finds out what waits to be confirmed, and takes in what was.
func (c *controller) weighPrune(ctx context.Context) error {
	d := c.desired.Load()
	if !c.PruneStacks || !d.loaded || d.err != nil || !c.engine.listed() {
		return nil
	}
	known, going := c.live(), d.going()
	if b := c.blockade(known, going); b != nil || len(c.kept.sure()) > 0 || c.kept.look {
		if err := c.takeIntent(ctx, b, known, going); err != nil {
			return err
		}
	}
	b := c.blockade(known, going)
	if b != nil && !slices.ContainsFunc(b.Names, func(name string) bool { return d.gone[name] }) {
		b = nil // as long as none is gone for sure they may be on their way back
	}
	c.tellWaiting(b)
	return nil
}

// takeIntent reads what was confirmed and carries it on: into the passes over the stacks
// that may go, and out of the Swarm when it has come to its end.
func (c *controller) takeIntent(ctx context.Context, blocked *reconcile.Blockade, known, going []string) error {
	k := c.kept
	if k.intent == nil {
		return nil
	}
	stands, err := k.intent.read(ctx)
	if err != nil {
		return err
	}
	k.look = false
	if stands == nil {
		k.confirm(nil)
		return nil
	}
	was := parseIntent(stands)
	// What was confirmed before does not make it another plan.
	if len(was.stacks) == 0 {
		_, blocked = reconcile.GuardStacks(known, going, nil)
	}
	next, ok := was.next(blocked, known, going)
	if !ok {
		k.confirm(nil)
		c.report.pruneEnds(was.id)
		return k.intent.remove(ctx, stands)
	}
	if !slices.Equal(next.stacks, was.stacks) {
		labels := maps.Clone(stands.Spec.Labels)
		labels[labelStacks] = strings.Join(next.stacks, ",")
		if err := k.intent.write(ctx, stands, labels); err != nil {
			return err
		}
		if len(was.stacks) == 0 {
			c.report.pruneConfirmed(next.id, next.stacks)
		}
	}
	if !slices.Equal(k.sure(), next.stacks) {
		k.confirm(next.stacks)
		c.queue.changed(next.stacks...)
	}
	return nil
}

func (k *kept) confirm(stacks []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.confirmed = stacks
}

// tellWaiting notes what waits, tells it once, and has the stacks looked at that this is
// new for.
func (c *controller) tellWaiting(b *reconcile.Blockade) {
	k := c.kept
	k.mu.Lock()
	was := k.waits
	if b != nil {
		told := *b
		if told.Since = k.now(); was != nil && was.ID == b.ID {
			told.Since = was.Since
		}
		b = &told
	}
	k.waits = b
	k.mu.Unlock()
	if (b == nil) != (was == nil) || b != nil && b.ID != was.ID {
		c.page.changed()
	}
	if b == nil && was != nil {
		c.queue.changed(was.Names...)
	}
	if b != nil && (was == nil || was.ID != b.ID) {
		c.report.pruneWaits(b)
		c.queue.changed(b.Names...)
	}
}

// ErrUnknownPlan is why a removal could not be confirmed: it is not what waits.
var ErrUnknownPlan = errors.New("that is not what waits")

// ConfirmPrune confirms a removal of whole stacks, which the acting controller of an
// owner then carries out. It is ErrUnknownPlan where that controller does not tell of it.
func ConfirmPrune(ctx context.Context, engine reconcile.Swarm, owner, id string) (*PublishedPrune, error) {
	p, err := ReadPublished(ctx, engine, owner)
	if err != nil {
		return nil, err
	}
	if p == nil || p.Prune == nil || p.Prune.ID != id {
		return nil, fmt.Errorf("%w: %s", ErrUnknownPlan, id)
	}
	n := note{engine, kindPrune, owner}
	stands, err := n.read(ctx)
	if err != nil {
		return nil, err
	}
	if stands != nil && parseIntent(stands).id == id {
		return p.Prune, nil // it was confirmed already
	}
	labels := map[string]string{labelPlan: id, labelBy: whoAsks(), labelAt: time.Now().UTC().Format(time.RFC3339)}
	return p.Prune, n.write(ctx, stands, labels)
}

// whoAsks is the user at the host, as far as they are known.
func whoAsks() string {
	name := "somebody"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if host, err := os.Hostname(); err == nil {
		name += "@" + host
	}
	return name
}
