package reconcile

import (
	"slices"
	"sync"
	"time"
)

// stepTolerance is how far the time of day may move away from the time that passed
// before somebody has set it: a clock that is merely put right in small doses (NTP
// slews by 0.5 ms a second at most) stays far below that between two passes.
const stepTolerance = 10 * time.Second

// seenMost bounds what a timekeeper remembers having seen.
const seenMost = 10_000

// A timekeeper knows how long ago something was that is written down as a time of day, even
// where the time of day was set since. A deadline that is over because a machine's clock
// was put forward by an hour would take a good release back.
//
// It knows of what happens within one process only: a new one believes what is written,
// unless that is in the future.
type timekeeper struct {
	wall   func() time.Time     // the time of day
	uptime func() time.Duration // the time that passed, which nobody sets

	mu     sync.Mutex
	offset time.Time       // the time of day when uptime was 0, by the newest look
	steps  []timeStep      // oldest first
	seen   map[int64]sight // by a time that is written down
}

// A sight is when, by uptime, a time was seen first, and by how much it was in the
// future then: somebody wrote it down whose clock was ahead, or ours was put back. It
// counts as of then, so that what it limits lasts no longer than it should.
type sight struct {
	at    time.Duration
	ahead time.Duration
}

// A timeStep is that the time of day was set.
type timeStep struct {
	at time.Duration // uptime
	by time.Duration
}

// newTimekeeper makes one. Without an uptime, that is what wall says of itself: of
// time.Now it is as good, as Go's times carry it along.
func newTimekeeper(wall func() time.Time, uptime func() time.Duration) *timekeeper {
	start := wall()
	if uptime == nil {
		uptime = func() time.Duration { return wall().Sub(start) }
	}
	return &timekeeper{wall: wall, uptime: uptime, offset: start.Round(0).Add(-uptime()), seen: map[int64]sight{}}
}

// steady is a time for ages: it is not the time of day, and never jumps.
func (k *timekeeper) steady() time.Time { return time.Unix(0, 0).UTC().Add(k.uptime()) }

// now is the time of day, to be written down.
func (k *timekeeper) now() time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	uptime, t := k.look(), k.wall()
	k.today(t, uptime) // sees it
	return t
}

// look notices a step.
func (k *timekeeper) look() (uptime time.Duration) {
	uptime = k.uptime()
	offset := k.wall().Round(0).Add(-uptime)
	if by := offset.Sub(k.offset); by.Abs() > stepTolerance {
		k.steps = append(k.steps, timeStep{uptime, by})
	}
	k.offset = offset
	return uptime
}

// today is t as the time of day that it would be written down as today: moved by the
// steps since it was first seen.
func (k *timekeeper) today(t time.Time, uptime time.Duration) time.Time {
	if t.IsZero() {
		return t
	}
	key := t.UnixNano()
	first, ok := k.seen[key]
	if !ok {
		if len(k.seen) >= seenMost { // years of releases: those of now are seen again at once
			clear(k.seen)
		}
		first.at = uptime
		if ahead := t.Sub(k.offset.Add(uptime)); ahead > stepTolerance {
			first.ahead = ahead
		}
		k.seen[key] = first
	}
	t = t.Add(-first.ahead)
	for _, s := range slices.Backward(k.steps) {
		if s.at <= first.at {
			break
		}
		t = t.Add(s.by)
	}
	return t
}

// rebase returns releases with their times as of today's time of day. What is moved is
// a copy.
func (k *timekeeper) rebase(releases []*Release) []*Release {
	k.mu.Lock()
	defer k.mu.Unlock()
	uptime := k.look()
	out := releases
	for i, r := range releases {
		started, ended := k.today(r.Started, uptime), k.today(r.Ended, uptime)
		converged, corrected := k.today(r.Converged, uptime), k.today(r.index.correctedAt, uptime)
		resumed, back := k.today(r.Resumed, uptime), k.today(r.index.backFrom, uptime)
		if started.Equal(r.Started) && ended.Equal(r.Ended) && converged.Equal(r.Converged) && resumed.Equal(r.Resumed) && corrected.Equal(r.index.correctedAt) && back.Equal(r.index.backFrom) {
			continue
		}
		if &out[0] == &releases[0] {
			out = slices.Clone(releases)
		}
		moved := *r
		moved.Started, moved.Ended, moved.Converged, moved.Resumed, moved.index.correctedAt, moved.index.backFrom = started, ended, converged, resumed, corrected, back
		out[i] = &moved
	}
	return out
}
