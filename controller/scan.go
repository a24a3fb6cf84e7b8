package controller

import (
	"context"
	"fmt"
	"time"

	"github.com/skep-io/skep/spec"
)

// Why a source is not ready, beside what package spec says of a directory.
const (
	sourceHung    = "SourceHung"    // it does not answer, as a network mount whose server is away
	sourcePanic   = "SourcePanic"   // reading it made skep panic
	sourceNotRead = "SourceNotRead" // nobody has looked yet
	// policyUnreadable is that of a directory which is not read for lack of a policy.
	policyUnreadable = "PolicyUnreadable"
)

const (
	// scanLimit is how long a scan may take: far longer than any directory needs that
	// answers, and short enough for health, which pulseLimit watches.
	scanLimit = time.Minute
	// scanGrace is how much longer a scan gets to notice that its time is over.
	scanGrace = 5 * time.Second
	// watchWait is how long the first scan waits for the watch, which a mount that hangs
	// never lets begin.
	watchWait = 5 * time.Second
)

// A scans makes scans side by side with whoever asks for them: a system call on a mount
// that hangs does not return, and no context ends it. While one is stuck no other is
// begun. It belongs to one goroutine.
type scans struct {
	dir   string
	scan  func(context.Context) *spec.Snapshot
	limit time.Duration
	stuck chan *spec.Snapshot // of the scan that did not return in time; nil: none
}

// make makes a scan. Its snapshot is incomplete where it took too long or panicked.
func (s *scans) make(ctx context.Context) *spec.Snapshot {
	if s.stuck != nil {
		select {
		case <-s.stuck: // what it saw is from another time
			s.stuck = nil
		default:
			return s.incomplete(sourceHung, fmt.Errorf("specs directory %s still does not answer (is it on a mount that hangs?)", s.dir))
		}
	}
	scanning, cancel := context.WithTimeoutCause(ctx, s.limit, fmt.Errorf("it took longer than %s", s.limit))
	done := make(chan *spec.Snapshot, 1)
	go func() {
		defer cancel()
		done <- s.safely(scanning)
	}()
	late := time.NewTimer(s.limit + scanGrace)
	defer late.Stop()
	select {
	case snap := <-done:
		return snap
	case <-ctx.Done():
		return s.incomplete(sourceNotRead, context.Cause(ctx))
	case <-late.C:
		s.stuck = done
		return s.incomplete(sourceHung, fmt.Errorf("specs directory %s did not answer within %s (is it on a mount that hangs?)", s.dir, s.limit))
	}
}

// safely makes an incomplete snapshot of a scan that panicked.
func (s *scans) safely(ctx context.Context) *spec.Snapshot {
	var snap *spec.Snapshot
	err := protect(func() error {
		snap = s.scan(ctx)
		return nil
	})
	if err != nil {
		return s.incomplete(sourcePanic, err)
	}
	return snap
}

func (s *scans) incomplete(reason string, err error) *spec.Snapshot {
	return &spec.Snapshot{Dir: s.dir, Err: &spec.SourceError{Reason: reason, Err: err}}
}

// scanUnderPolicy scans, unless there is to be a policy and none could be read since the
// start: without files no stack gets a pass.
func (c *controller) scanUnderPolicy(ctx context.Context, f *feed) *spec.Snapshot {
	if err := c.policy.missing(); err != nil {
		return &spec.Snapshot{Dir: f.Dir, Err: &spec.SourceError{Reason: policyUnreadable, Err: fmt.Errorf("nothing is read before the policy can be: %w", err)}}
	}
	return c.scan(ctx, f.Source)
}

// returned is readable when a scan that was stuck has come back; nil while none is.
func (s *scans) returned() <-chan *spec.Snapshot { return s.stuck }

// taken is to be called with what was read from returned.
func (s *scans) taken() { s.stuck = nil }
