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
	labelAll    = reconcile.LabelPrefix + "prune-confirmed"
	labelStacks = reconcile.LabelPrefix + "prune-stacks"
	labelBy     = reconcile.LabelPrefix + "confirmed-by"
	labelAt     = reconcile.LabelPrefix + "confirmed-at"
)

// An intent is a removal that a person has confirmed.
type intent struct {
	id     string
	all    []string // what the ID stands for; none: nobody has taken it in yet
	stacks []string // those of them that are still to go
}

// parseIntent reads what a config says. Names that the ID does not stand for were
// confirmed by nobody.
func parseIntent(c *swarm.Config) intent {
	l := c.Spec.Labels
	in := intent{id: l[labelPlan]}
	all := strings.Split(l[labelAll], ",")
	if l[labelAll] == "" || reconcile.StacksID(all) != in.id {
		return in
	}
	in.all, in.stacks = all, intersect(strings.Split(l[labelStacks], ","), all)
	return in
}

// next is what becomes of an intent: blocked is what waits, going what the files do not
// have any more, known what lives. ok is false when it is carried out, or out of date.
func (in intent) next(blocked *reconcile.Blockade, known, going []string) (next intent, ok bool) {
	if len(in.all) == 0 {
		if blocked == nil || blocked.ID != in.id || in.id == "" {
			return in, false
		}
		return intent{in.id, blocked.Names, blocked.Names}, true
	}
	left := intersect(intersect(in.stacks, known), going)
	return intent{in.id, in.all, left}, len(left) > 0
}

// blockade is what of known and going waits to be confirmed.
func (c *controller) blockade(known, going []string) *reconcile.Blockade {
	_, b := reconcile.GuardStacks(known, going, c.kept.sure(), c.kept.lately(), c.most(going))
	return b
}

// most is how many stacks count as those that there were: no more than when the first of
// those that are going was missed, and no more than when they were told to wait.
func (c *controller) most(going []string) int {
	return mostOf(c.desired.Load().counted, going, c.kept.waited())
}

func mostOf(most int, going []string, before *reconcile.Blockade) int {
	if before != nil && len(intersect(before.Names, going)) > 0 && (most == 0 || before.Of < most) {
		return before.Of
	}
	return most
}

// pruneBlocked says, in a sentence, why a stack whose file is gone must not be removed
// yet; "" where it may.
func (c *controller) pruneBlocked(name string) string {
	if !c.PruneStacks {
		return ""
	}
	if !c.kept.isWeighed() {
		return "whether its removal was told to wait before is not read yet"
	}
	d := c.desired.Load()
	if d.err != nil && len(c.Sources) > 1 {
		return "its file may be in a source that is not ready: " + d.err.Error()
	}
	going := d.going()
	return pruneBlocked(name, c.live(), going, c.kept.sure(), c.kept.lately(), c.most(going))
}

func pruneBlocked(name string, known, going, confirmed, lost []string, most int) string {
	allowed, b := reconcile.GuardStacks(known, going, confirmed, lost, most)
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
	if !c.PruneStacks || !d.listed || d.err != nil {
		return nil
	}
	known, going := c.live(), d.going()
	if err := c.recall(ctx, d, known); err != nil {
		return err
	}
	if b := c.blockade(known, going); b != nil || len(c.kept.sure()) > 0 || c.kept.look {
		if err := c.takeIntent(ctx, b, known, going); err != nil {
			return err
		}
	}
	b := c.blockade(known, going)
	mayGo := b == nil && len(d.gone) > 0
	if b != nil && !slices.ContainsFunc(b.Names, func(name string) bool { return d.gone[name] }) {
		b = nil // as long as none is gone for sure they may be on their way back
	}
	c.tellWaiting(b)
	if mayGo {
		c.kept.forgetBefore()
	}
	if c.kept.nowWeighed() {
		c.queue.changed(slices.Collect(maps.Keys(d.gone))...)
	}
	return nil
}

// recall reads what waited by what was published last, be it by another controller. It is
// of no account any more when all of that has a file again or does not live.
func (c *controller) recall(ctx context.Context, d *desired, known []string) error {
	if err := c.kept.readReport(ctx); err != nil {
		return err
	}
	b := c.kept.waited()
	if b == nil || slices.ContainsFunc(intersect(b.Names, known), func(name string) bool {
		return d.stacks[name] == nil || !d.missing[name].IsZero()
	}) {
		return nil
	}
	c.kept.forgetBefore()
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
	if len(was.all) == 0 {
		_, blocked = reconcile.GuardStacks(known, going, nil, k.lately(), c.most(going))
	}
	next, ok := was.next(blocked, known, going)
	if !ok {
		k.confirm(nil)
		c.report.pruneEnds(was.id)
		return k.intent.remove(ctx, stands)
	}
	if !slices.Equal(next.stacks, was.stacks) {
		labels := maps.Clone(stands.Spec.Labels)
		labels[labelAll], labels[labelStacks] = strings.Join(next.all, ","), strings.Join(next.stacks, ",")
		if err := k.intent.write(ctx, stands, labels); err != nil {
			return err
		}
		if len(was.all) == 0 {
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
	switch k.waits = b; {
	case b != nil:
		k.before = nil
	case was != nil && len(k.confirmed) == 0:
		k.before = was // it may wait again
	}
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

// Waits is what Settle holds of a removal of stacks: known are those that live, going
// those of them without a file, before is what waited then. Nil: nothing.
func Waits(known, going []string, before *reconcile.Blockade) *reconcile.Blockade {
	_, b := reconcile.GuardStacks(known, going, nil, nil, mostOf(len(known), going, before))
	return b
}

// Waited is what waits by what was published for an owner, nil where nothing does.
func Waited(ctx context.Context, engine reconcile.Swarm, owner string) (*reconcile.Blockade, error) {
	p, err := ReadPublished(ctx, engine, owner)
	if err != nil || p == nil || p.Prune == nil {
		return nil, err
	}
	return &p.Prune.Blockade, nil
}

// PublishWaits publishes what waits, nil for nothing, where no daemon does: whoever comes
// after an apply has to know how many stacks there were before it brought others.
func PublishWaits(ctx context.Context, engine reconcile.Swarm, owner string, b *reconcile.Blockade, now time.Time) error {
	n := note{engine, reconcile.KindReport, owner}
	stands, err := n.read(ctx)
	if err != nil || stands == nil && b == nil {
		return err
	}
	p := Published{Source: PublishedSource{Ready: true}}
	if stands != nil {
		if old := parsePublished(stands.Spec.Labels[labelReport]); old != nil {
			p = *old
		}
	}
	if b == nil && p.Prune == nil || b != nil && p.Prune != nil && p.Prune.ID == b.ID {
		return nil
	}
	p.At, p.Prune = now.UTC(), nil
	if b != nil {
		p.Prune = publishedPrune(b)
		p.Prune.Since = now.UTC()
	}
	return n.write(ctx, stands, map[string]string{labelReport: p.fitted().text()})
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
	n := note{engine, reconcile.KindPrune, owner}
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
