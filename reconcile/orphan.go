package reconcile

import (
	"context"
	"fmt"
	"slices"

	"github.com/skep-io/skep/spec"
)

// Why nothing is left to do about a stack whose file is gone.
const (
	reasonGone   = "Gone"        // nothing of it lives, or is remembered
	reasonPruned = "StackPruned" // what was remembered of it went last
)

// Orphaned is the reason of a stack that lives, and whose file is gone: it stays.
const Orphaned = "Orphaned"

// orphan looks after a stack whose file is gone: it stays and is told, unless
// stacks are to be pruned. Then what is skep's own goes, services first; what a
// stack merely also holds stays. Volumes are never touched.
func (r *Reconciler) orphan(ctx context.Context, in Input) Result {
	stack := in.Name
	res := Result{Stack: stack, Outcome: Held, Reason: Orphaned}
	live, err := r.observer.get(ctx, stack, 0)
	if err != nil {
		return failure(stack, err)
	}
	releases, state, err := r.memory.read(ctx, stack)
	if err != nil {
		return failure(stack, err)
	}
	mine, foreign := r.split(live, stack, releases)
	older, than, err := r.staleOrphan(ctx, in.Source, releases, state)
	if err != nil {
		return failure(stack, err)
	}
	res.Current = in.Source != nil && older == ""
	res.Gone = last(releases)
	switch {
	case state.IsSuspended() && len(mine) > 0:
		res.Reason, res.Message = "Suspended", suspendedBy(state)
		return res
	case len(mine) == 0 && !slices.ContainsFunc(releases, func(rel *Release) bool { return rel.owner == r.o.Owner }):
		res.Outcome, res.Reason = Unchanged, reasonGone
		return res
	case older != "":
		res.Reason, res.Message = SourceStale, "its file is gone, and "+older
		return afterWrites(res, r.markStale(ctx, stack, state, than))
	case in.Source != nil && state.Stale > 0:
		p := &pass{stack: &spec.Stack{Name: stack}}
		res.Outcome, res.Reason, res.Message, res.Requeue = Waiting, "SourceCurrent", "its file is gone, and the directory is not older than what was rolled out", again/4
		return afterWrites(res, r.unmarkStale(ctx, p, &res))
	case !r.o.PruneStacks:
		res.Message = fmt.Sprintf("its file is gone; %d objects stay (put the file back, run with --prune-stacks, or: docker stack rm %s)", len(mine), stack)
		return res
	case in.PruneBlocked != "":
		res.Reason, res.Message = PruneBlocked, in.PruneBlocked
		return res
	case len(mine) == 0:
		return r.forgetStack(ctx, stack, releases, foreign)
	}
	changes := firstToGo(stack, live, mine)
	res.Outcome, res.Reason, res.Requeue = Applied, "PruningStack", again
	if changes[0].Kind != KindService {
		res.Requeue = 2 * again // tasks that are being stopped hold networks for a while
	}
	res.Message = fmt.Sprintf("its file is gone: removing %d objects", len(mine))
	res.Plan = &Plan{Stack: stack, Changes: changes}
	defer r.observer.wrote(stack)
	a := &applier{swarm: r.o.Swarm, owner: r.o.Owner, live: live}
	err = a.apply(ctx, changes)
	if err == nil {
		res.Written = changes
	}
	return afterWrites(res, err)
}

// staleOrphan is stale for a stack whose file is gone, of which nothing tells whether
// secrets went into its fingerprints.
func (r *Reconciler) staleOrphan(ctx context.Context, check *SourceCheck, releases []*Release, state State) (string, *Release, error) {
	if check == nil || len(check.Seen) == 0 {
		return stale("", check, releases, state)
	}
	key, err := r.memory.secretKey(ctx, false)
	if err != nil {
		return "", nil, err
	}
	both := check.keyed(key)
	both.Seen = append(both.Seen, check.Seen...)
	return stale("", both, releases, state)
}

// split tells skep's own live objects of a stack from others.
func (r *Reconciler) split(live *Live, stack string, releases []*Release) (mine, foreign []Ref) {
	own := r.owned(live, releases)
	for _, ref := range live.Stack(stack) {
		if own(ref) {
			mine = append(mine, ref)
		} else {
			foreign = append(foreign, ref)
		}
	}
	return mine, foreign
}

// firstToGo removes the services, or, where none is left, all else.
func firstToGo(stack string, live *Live, mine []Ref) []Change {
	var services, others []Change
	for _, ref := range mine {
		c := Change{Op: OpRemove, Kind: ref.Kind, Name: ref.Name, Key: keyOf(stack, ref.Name), ID: live.id(ref)}
		if ref.Kind == KindService {
			services = append(services, c)
		} else {
			others = append(others, c)
		}
	}
	if len(services) > 0 {
		return services
	}
	return others
}

// forgetStack removes a pruned stack's releases: its history ends with it.
func (r *Reconciler) forgetStack(ctx context.Context, stack string, releases []*Release, foreign []Ref) Result {
	res := Result{Stack: stack, Outcome: Applied, Reason: reasonPruned, Gone: last(releases), Message: "the stack is removed, as its file is"}
	if len(foreign) > 0 {
		res.Message += fmt.Sprintf("; %d objects that are not skep's stay", len(foreign))
	}
	if err := r.memory.removeAll(ctx, stack, releases); err != nil {
		return failure(stack, err)
	}
	res.Transitions = []Transition{{Action: "stack-removed", Reason: res.Reason, Message: res.Message}}
	return res
}
