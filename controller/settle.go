package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
)

const (
	settleWorkers = 4
	settleAgain   = time.Second // after a pass that does not say when to come again; twice as long after each that failed
	settleTries   = 4           // passes in a row that may fail before the stack has failed
)

// Settle makes passes over the stacks of these names (all of the snapshot's where
// there are none), without a daemon: each after those that x-skep.depends_on names.
// With wait it goes on until every stack is final: converged, held, failed, or
// waiting for a stack that will not become Ready. Without wait a stack is done with as
// soon as nothing is left to write of it: its waves wait for each other, what fails is
// taken back, and only the last wave and the bake are left alone, unless another stack
// waits for this one.
//
// It returns the newest result of every stack; progress, if not nil, gets the
// result of every pass, one at a time. When ctx ends it returns what there is: a
// stack that no pass was made over has failed with ctx's cause.
//
// A stack outside names that another depends on is not touched; where r can tell
// its status, as *reconcile.Reconciler can, that counts. A name whose file is gone
// for certain and that lives in the Swarm gets passes as an orphan, unless too many of
// them would go.
func Settle(ctx context.Context, r Reconciler, snapshot *spec.Snapshot, names []string, wait bool, progress func(reconcile.Result), o SettleOptions) map[string]reconcile.Result {
	took := func(_ reconcile.Input, result reconcile.Result, _ time.Duration) {
		if progress != nil {
			progress(result)
		}
	}
	s := newSettling(r, snapshot, wait, took)
	s.follows = o.Found
	s.guard = func(going []string) func(string) string {
		known, sure := r.Stacks(), []string(nil)
		most := mostOf(len(known), going, o.Waited) // the passes to come bring others to live
		if b := Waits(known, going, o.Waited); b != nil && slices.Contains(o.Confirmed, b.ID) {
			sure = b.Names
		}
		return func(name string) string { return pruneBlocked(name, known, going, sure, nil, most) }
	}
	if !o.AllowOlder {
		s.asksCommits(snapshot)
	}
	return s.run(ctx, snapshot, names)
}

// SettleOptions say what Settle may do that it does not do unasked.
type SettleOptions struct {
	// Confirmed are the IDs of removals of many stacks that are to be carried out.
	Confirmed []string
	// Found is what registries said of what services follow, by stack and by the services'
	// names; a stack that is not in it keeps what is in force.
	Found map[string]map[string]reconcile.Found
	// Waited is the removal that waited before, nil where none did (see Waits).
	Waited *reconcile.Blockade
	// AllowOlder lets a stack go back to a commit that does not descend from the one that
	// it was rolled out of last. Else that is held (reconcile.SourceStale): a job may have
	// an old checkout. Without git nothing is asked: whoever puts back a file means it.
	AllowOlder bool
}

// asksCommits has passes find out, until they have, whether the commit of a stack is older
// than what was rolled out of it last.
func (s *settling) asksCommits(snapshot *spec.Snapshot) {
	directories, current := snapshot.Directories(), map[string]bool{}
	var ancestries []*spec.Ancestry
	for _, o := range directories {
		ancestries = append(ancestries, spec.NewAncestry(o.Dir))
	}
	s.found = func(stack string, result reconcile.Result) { current[stack] = current[stack] || result.Current }
	s.question = func(stack string) *reconcile.SourceCheck {
		s.mu.Lock()
		known := current[stack]
		s.mu.Unlock()
		check := &reconcile.SourceCheck{}
		askCommits(check, snapshot.Stacks[stack], directories, func(i int, commit, other string) (spec.Descent, error) {
			return ancestries[i].Descent(commit, other)
		})
		if check.Commit == nil || known {
			return nil
		}
		return check
	}
}

// settling is Settle at work.
type settling struct {
	reconciler Reconciler
	desired    desired
	book       *book
	wait       bool
	took       func(reconcile.Input, reconcile.Result, time.Duration)
	// guard says, for the stacks whose files are gone, why one must not be removed yet;
	// blocked is its answer.
	guard   func(going []string) func(string) string
	blocked func(name string) string
	// question is what a pass has to find out about a stack's source, found what it did.
	question func(stack string) *reconcile.SourceCheck
	found    func(stack string, result reconcile.Result)
	// follows is what registries said, by stack.
	follows map[string]map[string]reconcile.Found

	mu      sync.Mutex
	results map[string]reconcile.Result
	pending map[string]time.Time // not final yet: when the next pass is due
	outside map[string]bool      // whether a stack that is not to be settled was Ready
	failed  map[string]int       // passes in a row that could not be finished
}

func newSettling(r Reconciler, snapshot *spec.Snapshot, wait bool, took func(reconcile.Input, reconcile.Result, time.Duration)) *settling {
	return &settling{
		reconciler: r,
		desired:    desired{stacks: snapshot.Stacks, problems: snapshot.Problems, loaded: true},
		book:       newBook(),
		wait:       wait,
		took:       took,
		question:   func(string) *reconcile.SourceCheck { return nil },
		found:      func(string, reconcile.Result) {},
		results:    map[string]reconcile.Result{},
		pending:    map[string]time.Time{},
		outside:    map[string]bool{},
		failed:     map[string]int{},
	}
}

func (s *settling) run(ctx context.Context, snapshot *spec.Snapshot, names []string) map[string]reconcile.Result {
	if len(names) == 0 {
		names = slices.Sorted(maps.Keys(s.desired.all(s.desired)))
	}
	if err := s.refresh(ctx); err != nil {
		for _, name := range names {
			s.end(name, failed(name, "EngineAway", err))
		}
		return s.results
	}
	s.blocked = s.guard(slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !snapshot.Gone(name) }))
	for _, name := range names {
		s.begin(name, snapshot)
	}
	for len(s.pending) > 0 {
		s.round(ctx)
		if !s.pause(ctx) {
			break
		}
	}
	for name := range s.pending {
		if _, ok := s.results[name]; !ok {
			s.results[name] = failed(name, "Stopped", context.Cause(ctx))
		}
	}
	return s.results
}

// begin lines a stack up for its passes, or says why it gets none.
func (s *settling) begin(name string, snapshot *spec.Snapshot) {
	switch {
	case s.desired.stacks[name] != nil:
		s.pending[name] = time.Time{}
	case s.desired.problems[name] != nil:
		s.end(name, failed(name, sourceInvalid, errors.New(s.desired.problem(name))))
	case snapshot.Gone(name) && slices.Contains(s.reconciler.Stacks(), name):
		s.pending[name] = time.Time{}
	default:
		s.end(name, failed(name, "UnknownStack", fmt.Errorf("no file in %s describes a stack %s", snapshot.Dir, name)))
	}
}

// end gives a stack a result that no pass made.
func (s *settling) end(name string, result reconcile.Result) {
	s.results[name] = result
	s.took(reconcile.Input{Name: name, Stack: s.desired.stacks[name]}, result, 0)
}

// round makes a pass over every stack that is due.
func (s *settling) round(ctx context.Context) {
	passes, cancel := outlive(ctx, drainLimit)
	defer cancel()
	var workers errgroup.Group
	workers.SetLimit(settleWorkers)
	for _, name := range s.due() {
		in := s.input(ctx, name)
		workers.Go(func() error {
			result, took := pass(passes, s.reconciler, in)
			s.take(in, result, took)
			return nil
		})
	}
	_ = workers.Wait()
}

// due holds the stacks whose time has come and whose dependencies have had a pass.
// Where that holds of none since they wait for each other, all of them are due.
func (s *settling) due() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	var ready, held []string
	for _, name := range slices.Sorted(maps.Keys(s.pending)) {
		switch {
		case s.pending[name].After(now):
		case s.first(name):
			held = append(held, name)
		default:
			ready = append(ready, name)
		}
	}
	if len(ready) == 0 {
		return held
	}
	return ready
}

// first says that a pass over another stack has to be made first: those with a file
// tell whether the directory is one that lacks others'.
func (s *settling) first(name string) bool {
	stack := s.desired.stacks[name]
	if stack == nil {
		for other := range s.pending {
			if _, had := s.results[other]; !had && s.desired.stacks[other] != nil {
				return true
			}
		}
	}
	return stack != nil && slices.ContainsFunc(stack.Policy.DependsOn, func(dep string) bool {
		_, pending := s.pending[dep]
		_, had := s.results[dep]
		return pending && !had
	})
}

func (s *settling) input(ctx context.Context, name string) reconcile.Input {
	stack := s.desired.stacks[name]
	if stack == nil {
		return reconcile.Input{Name: name, PruneBlocked: s.blocked(name), Source: s.question(name)}
	}
	return reconcile.Input{Name: name, Stack: stack, Found: s.follows[name], Source: s.question(name), Blocked: s.desired.blocked(stack, func(dep *spec.Stack) (bool, string) {
		return s.ready(ctx, dep)
	})}
}

// ready is a readiness: by our own passes, and for other stacks by their status.
func (s *settling) ready(ctx context.Context, dep *spec.Stack) (bool, string) {
	s.mu.Lock()
	ours := s.ours(dep.Name)
	s.mu.Unlock()
	if ours {
		return s.book.ready(dep)
	}
	ok, why := s.told(ctx, dep)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.outside[dep.Name] = ok
	return ok, why
}

// ours says that a stack is among those to settle.
func (s *settling) ours(name string) bool {
	_, pending := s.pending[name]
	_, had := s.results[name]
	return pending || had
}

// told is the readiness of a stack that is not ours.
func (s *settling) told(ctx context.Context, dep *spec.Stack) (bool, string) {
	teller, ok := s.reconciler.(interface {
		Status(ctx context.Context, stack string) (reconcile.Result, error)
		Released(ctx context.Context, stack *spec.Stack) (bool, error)
	})
	if !ok {
		return false, "it is not among the stacks to apply"
	}
	status, err := teller.Status(ctx, dep.Name)
	if err != nil {
		return false, err.Error()
	}
	released, err := teller.Released(ctx, dep)
	switch {
	case err != nil:
		return false, err.Error()
	case !released:
		return false, "its file was not applied yet, and it is not among the stacks to apply"
	case !isReady(status):
		return false, notReady(status)
	}
	return true, ""
}

// take notes a pass's result, and whether the stack is final by it.
func (s *settling) take(in reconcile.Input, result reconcile.Result, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.book.record(in, result)
	s.found(in.Name, result)
	s.results[in.Name] = result
	if s.failed[in.Name]++; result.Outcome != reconcile.Failed {
		s.failed[in.Name] = 0
	}
	s.took(in, result, took)
	if s.final(in, result) || !s.wait && written(result) && !s.awaited(in.Name) {
		delete(s.pending, in.Name)
		return
	}
	again := result.Requeue
	if again <= 0 {
		again = settleAgain << s.failed[in.Name]
	}
	s.pending[in.Name] = time.Now().Add(again)
}

// written says that nothing is left to write: what was written is on its way. A pass
// that wrote may leave more to the next, and so does one that found something out, such
// as that a release has failed.
func written(result reconcile.Result) bool {
	switch result.Outcome {
	case reconcile.Applied, reconcile.RolledBack:
		return false
	case reconcile.Waiting:
		if len(result.Transitions) > 0 || result.Reason == "Conflict" {
			return false
		}
	}
	return result.Plan.Empty()
}

// awaited says that another stack, which is not final yet, waits for this one.
func (s *settling) awaited(name string) bool {
	for other := range s.pending {
		if stack := s.desired.stacks[other]; other != name && stack != nil && slices.Contains(stack.Policy.DependsOn, name) {
			return true
		}
	}
	return false
}

// final says that another pass would find nothing else.
func (s *settling) final(in reconcile.Input, result reconcile.Result) bool {
	switch result.Outcome {
	case reconcile.Failed: // an engine has its moments: a network that is just going, a leader that changes
		return s.failed[in.Name] >= settleTries || errors.Is(result.Err, ErrNotLeading)
	case reconcile.Unchanged, reconcile.Held:
		return !holds(result, reconcile.Progressing)
	case reconcile.Waiting:
		return in.Blocked != "" && s.vain(in.Stack)
	}
	return false
}

// vain says that the stack waits for one that will not become Ready: itself, or one
// that gets no pass any more and is not.
func (s *settling) vain(stack *spec.Stack) bool {
	return s.desired.circle(stack.Name) != nil || slices.ContainsFunc(stack.Policy.DependsOn, func(name string) bool {
		if _, pending := s.pending[name]; pending {
			return false
		}
		dep := s.desired.stacks[name]
		if dep == nil || !s.ours(name) {
			return !s.outside[name]
		}
		ready, _ := s.book.ready(dep)
		return !ready
	})
}

// pause waits until the next pass is due and lists the Swarm for it. It is false
// where there is none, or ctx ended.
func (s *settling) pause(ctx context.Context) bool {
	if len(s.pending) == 0 {
		return false
	}
	next := slices.MinFunc(slices.Collect(maps.Values(s.pending)), time.Time.Compare)
	wait := time.Until(next)
	if wait <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
	}
	// A listing that fails is told by the passes that need it.
	_ = s.refresh(ctx)
	return ctx.Err() == nil
}

func (s *settling) refresh(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, listLimit)
	defer cancel()
	return protect(func() error {
		if _, err := s.reconciler.Refresh(ctx); err != nil {
			return fmt.Errorf("list the Swarm: %w", err)
		}
		return nil
	})
}

// once settles every stack and returns; its error names those that failed. It holds the
// lease for as long as it takes.
func (c *controller) once(ctx context.Context) error {
	release, err := c.leader.Take(ctx, func(h Holder) {
		c.Logger.Info("waits until it is known whether the lease's holder is alive", zap.String("detail", h.String()))
	})
	if err != nil {
		return err
	}
	defer release()
	stop, err := c.bringUpToDate(ctx)
	if err != nil {
		return err
	}
	defer stop()
	term := c.termNow()
	ctx = inTerm(ctx, term)
	snapshot, orphans, err := c.readOnce(ctx)
	if err != nil {
		return err
	}
	gone := map[string]bool{}
	for _, name := range orphans {
		gone[name] = true
	}
	d := &desired{stacks: snapshot.Stacks, problems: snapshot.Problems, directories: snapshot.Directories(), gone: gone, loaded: true,
		listed: true, counted: len(c.reconciler.Stacks())}
	c.desired.Store(d)
	c.beginnings.begin(term, d)
	c.engine.nowUp(term)
	if err := errors.Join(c.kept.readReport(ctx), c.weighPrune(ctx)); err != nil {
		return err
	}
	s := newSettling(c.reconciler, snapshot, true, c.take)
	if c.followed.tags != nil {
		s.follows = askOnce(ctx, c.followed.tags, snapshot.Stacks)
	}
	s.guard = func([]string) func(string) string { return c.pruneBlocked }
	s.found = func(stack string, result reconcile.Result) { c.beginnings.found(stack, d.stacks[stack] != nil, result) }
	s.question = func(stack string) *reconcile.SourceCheck {
		check, ok := c.question(stack, d)
		if !ok {
			check = c.sourceCheck(stack, d, "a pass over another stack failed, and whether the directory is older than what was rolled out is not known")
		}
		return check
	}
	names := append(slices.Collect(maps.Keys(s.desired.all(s.desired))), orphans...)
	results := s.run(ctx, snapshot, names)
	_, err = c.engine.list(ctx) // what was removed does not wait any more
	errs := []error{err, c.weighPrune(ctx)}
	if _, err := c.publish(ctx); err != nil {
		errs = append(errs, err)
	}
	for _, name := range slices.Sorted(maps.Keys(results)) {
		switch result := results[name]; {
		case result.Outcome == reconcile.Failed && result.Reason != sourceInvalid:
			errs = append(errs, fmt.Errorf("stack %s: %w", name, result.Err))
		case !isReady(result) && (!gone[name] || result.Reason == reconcile.PruneBlocked):
			errs = append(errs, fmt.Errorf("stack %s: %w: %s", name, ErrNotReady, notReady(result)))
		}
	}
	return errors.Join(errs...)
}

// ErrNotReady is why Run with Once ends in an error though nothing went wrong with
// the run itself: a stack is not as its file says.
var ErrNotReady = errors.New("it is not ready")

// readOnce reads the directory, and once more where a stack seems to have gone
// from it and is to be removed then, so that its file is known to be gone.
func (c *controller) readOnce(ctx context.Context) (snapshot *spec.Snapshot, orphans []string, err error) {
	if _, err := c.engine.list(ctx); err != nil {
		return nil, nil, err
	}
	missing := c.reconciler.Stacks()
	for again := c.PruneStacks; ; again = false {
		if snapshot = c.readAll(ctx); !snapshot.Complete {
			return nil, nil, fmt.Errorf("read %s: %w", c.places(), snapshot.Err)
		}
		missing = slices.DeleteFunc(slices.Clone(missing), func(name string) bool { return !snapshot.Gone(name) })
		if len(missing) == 0 || !again {
			return snapshot, missing, nil
		}
		c.report.looksAgain(missing, c.VanishAfter)
		select {
		case <-ctx.Done():
			return nil, nil, context.Cause(ctx)
		case <-time.After(c.VanishAfter):
		}
	}
}

// readAll reads all sources, side by side.
func (c *controller) readAll(ctx context.Context) *spec.Snapshot {
	parts := make([]spec.Part, len(c.feeds.all))
	var all sync.WaitGroup
	for i, f := range c.feeds.all {
		all.Go(func() {
			scan := f.scans.make(ctx)
			if err := f.ask(); err != nil && scan.Complete {
				old := *scan
				old.Complete, old.Err = false, err
				scan = &old
			}
			parts[i] = spec.Part{Name: c.feeds.called(f), Snapshot: scan}
		})
	}
	all.Wait()
	return spec.Join(parts...)
}

// upToDateLimit is how long a run that ends waits for what keeps its sources.
const upToDateLimit = 2 * time.Minute

// bringUpToDate begins what keeps sources, and waits until none of those may be old: until
// State has nothing to say or, without one, Keep has changed the directory. Stop ends what
// was begun.
func (c *controller) bringUpToDate(ctx context.Context) (stop func(), err error) {
	keeping, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	stop = func() {
		cancel()
		all.Wait()
	}
	var waits []*feed
	for _, f := range c.feeds.all {
		if f.Keep == nil {
			continue
		}
		waits = append(waits, f)
		all.Go(func() { c.keepSource(keeping, f) })
	}
	late := time.NewTimer(upToDateLimit)
	defer late.Stop()
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	for {
		var why []error
		for _, f := range waits {
			if err := f.ask(); err != nil {
				why = append(why, fmt.Errorf("%s: %w", c.called(f.stands), err))
			} else if f.State == nil && len(f.rescan) == 0 { // by which Keep says that it did
				why = append(why, fmt.Errorf("%s: nothing has come yet", c.called(f.stands)))
			}
		}
		if why == nil {
			return stop, nil
		}
		select {
		case <-ctx.Done():
			stop()
			return nil, context.Cause(ctx)
		case <-late.C:
			stop()
			return nil, errors.Join(why...)
		case <-look.C:
		}
	}
}
