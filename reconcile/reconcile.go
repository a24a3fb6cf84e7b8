package reconcile

import (
	"context"
	"time"

	"github.com/skep-io/skep/spec"
)

// Options of a Reconciler.
type Options struct {
	Swarm       Swarm
	Credentials Credentials // nil: none
	Owner       string      // default "skep"
	History     int         // releases kept a stack, default 10
	PruneStacks bool        // remove a stack whose file is gone
	Now         func() time.Time
}

// A Reconciler makes passes over stacks of one Swarm. It may be used from many
// goroutines, but only from one at a time for the same stack.
type Reconciler struct {
	o Options
}

// New makes a Reconciler.
func New(o Options) *Reconciler { return &Reconciler{o: o} }

// Refresh lists the Swarm anew and returns the names of the stacks whose objects
// are not as they were, and whether it is the first listing.
func (r *Reconciler) Refresh(ctx context.Context) (changed []string, err error) { panic("wip") }

// Stacks returns the names of stacks that live objects or release records of this
// owner belong to, sorted; of the newest listing.
func (r *Reconciler) Stacks() []string { panic("wip") }

// Reconcile makes one pass over one stack: observe, decide, at most one act,
// record. It never blocks on a rollout; Result.Requeue says when to come again.
func (r *Reconciler) Reconcile(ctx context.Context, in Input) Result { panic("wip") }

// Plan tells what a pass would write, without writing.
func (r *Reconciler) Plan(ctx context.Context, stack *spec.Stack) (*Plan, error) { panic("wip") }

// Status tells of a stack what the Swarm knows, without its files.
func (r *Reconciler) Status(ctx context.Context, stack string) (Result, error) { panic("wip") }
