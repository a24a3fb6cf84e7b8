package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/skep-io/skep/reconcile"
)

const (
	// passLimit bounds a pass. Passes never wait for a rollout: one that takes so
	// long hangs.
	passLimit = 5 * time.Minute
	// drainLimit is how long passes that are under way may go on after a stop: a
	// write that is cut off may have happened or not.
	drainLimit = 3 * time.Second
)

// work makes passes with c.Workers workers until ctx ends, then lets those under
// way finish within drainLimit.
func (c *controller) work(ctx context.Context) {
	passes, cancel := outlive(ctx, drainLimit)
	defer cancel()
	var workers sync.WaitGroup
	for range c.Workers {
		workers.Go(func() { c.worker(ctx, passes) })
	}
	<-ctx.Done()
	c.queue.work.ShutDown()
	workers.Wait()
}

// outlive is a context that ends d after ctx.
func outlive(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		late := time.NewTimer(d)
		defer late.Stop()
		select {
		case <-late.C:
			cancel(fmt.Errorf("stopped %s after it was asked to", d))
		case <-longer.Done():
		}
	})
	return longer, func() {
		stop()
		cancel(nil)
	}
}

// worker takes stacks from the queue until that shuts down. What is still in the
// queue then is left undone.
func (c *controller) worker(ctx, passes context.Context) {
	for {
		stack, shutdown := c.queue.work.Get()
		if shutdown {
			return
		}
		if ctx.Err() == nil {
			c.process(passes, stack)
		}
		c.queue.work.Done(stack)
	}
}

// process makes a pass over a stack and says when the next one is due.
func (c *controller) process(ctx context.Context, stack string) {
	in, ok := c.input(stack)
	if !ok { // not a stack any more
		c.queue.settled(stack, 0)
		return
	}
	if c.engine.hold(stack) {
		return
	}
	term, may := c.mayPass()
	if !may { // another controller acts: when that ends, all stacks get a pass
		c.queue.settled(stack, 0)
		return
	}
	d := c.desired.Load()
	c.beginnings.begin(term, d)
	if in.Source, ok = c.question(stack, d); !ok {
		c.queue.settled(stack, orphanWait)
		return
	}
	result, took := c.pass(inTerm(ctx, term), in)
	if errors.Is(result.Err, ErrNotLeading) { // no fault of the stack's
		c.queue.settled(stack, 0)
		return
	}
	if c.beginnings.found(stack, in.Stack != nil, result) {
		c.queue.look(slices.Collect(maps.Keys(d.gone))...)
	}
	c.take(in, result, took)
	if result.Outcome == reconcile.Failed {
		c.engine.doubt(result.Err)
		c.queue.failed(stack)
		return
	}
	c.queue.settled(stack, result.Requeue)
}

// take notes a result everywhere it is wanted, and wakes the stacks that waited
// for it.
func (c *controller) take(in reconcile.Input, result reconcile.Result, took time.Duration) {
	becameReady := c.book.record(in, result)
	c.noteSuspended(in.Name, result)
	if in.Stack == nil && result.Outcome == reconcile.Applied {
		c.kept.removes(in.Name)
	}
	c.metrics.observe(in.Name, result, took, c.Now())
	c.report.pass(in, result, took)
	c.told(in, result)
	poke(c.kept.hint)
	if c.book.differs(in.Name) {
		c.page.changed()
	}
	d := c.desired.Load()
	if becameReady {
		c.queue.look(d.dependents([]string{in.Name})...)
	}
	if !d.knows(in.Name) {
		c.forget(in.Name) // it was given up while the pass was under way
	}
}

// input is what a pass over the stack is about; false where nothing says that it
// should have one.
func (c *controller) input(name string) (reconcile.Input, bool) {
	d := c.desired.Load()
	stack := d.stacks[name]
	if stack == nil {
		return reconcile.Input{Name: name, PruneBlocked: c.pruneBlocked(name)}, d.gone[name]
	}
	return reconcile.Input{Name: name, Stack: stack, Found: c.foundFor(stack), Blocked: d.blocked(stack, c.book.ready)}, true
}

// pass makes one pass, and a failed result of a panic in it.
func (c *controller) pass(ctx context.Context, in reconcile.Input) (reconcile.Result, time.Duration) {
	return pass(ctx, c.reconciler, in)
}

func pass(ctx context.Context, r Reconciler, in reconcile.Input) (reconcile.Result, time.Duration) {
	ctx, cancel := context.WithTimeoutCause(ctx, passLimit, fmt.Errorf("the pass took longer than %s", passLimit))
	defer cancel()
	start := time.Now()
	var result reconcile.Result
	err := protect(func() error {
		result = r.Reconcile(ctx, in)
		return nil
	})
	if err != nil {
		result = failed(in.Name, "Panic", err)
	}
	return result, time.Since(start)
}

func failed(stack, reason string, err error) reconcile.Result {
	return reconcile.Result{Stack: stack, Outcome: reconcile.Failed, Reason: reason, Message: err.Error(), Err: err}
}

// A panicError is a panic that was caught, with the stack trace of where it was.
type panicError struct {
	value any
	trace []byte
}

func (e *panicError) Error() string {
	return fmt.Sprintf("panic: %s (a bug in skep: please report it)", e.what())
}

// what is what was panicked with, as far as it can be told: of what is neither an error
// nor text, and may be a whole service with all its values, the type.
func (e *panicError) what() string {
	switch v := e.value.(type) {
	case error:
		return reconcile.Masked(v.Error())
	case string:
		return reconcile.Masked(v)
	}
	return fmt.Sprintf("a %T", e.value)
}

// protect makes an error of a panic in f.
func protect(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			trace := debug.Stack()
			if p, ok := v.(*reconcile.CaughtPanic); ok { // of a goroutine of its own
				v, trace = p.Value, p.Trace
			}
			err = &panicError{v, trace}
		}
	}()
	return f()
}
