package e2e

import (
	"bytes"
	"fmt"
	"maps"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"
)

// A part is one scene's share of the play: what it does before the quarantine, and
// what after.
type part struct {
	stack         string
	before, after func(*scene)
}

// TestRollouts plays what can go wrong with a new version, all at once: each scene
// is a stack of its own, and the wait that shows that nothing is tried again, with
// the daemon killed in the middle of it, is one for all of them.
func TestRollouts(t *testing.T) {
	th := open(t)
	var parts []part
	for _, k := range append(kinds(), withActions()...) {
		parts = append(parts, part{"bad-" + k.name, k.fails, k.mends})
	}
	scenes := map[string]*scene{}
	var all []*scene
	for _, p := range parts {
		s := &scene{theatre: th, stack: p.stack}
		s.told.stack = p.stack
		scenes[p.stack], all = s, append(all, s)
	}
	by := func(get func(part) func(*scene)) func(*scene) {
		return func(s *scene) {
			for _, p := range parts {
				if f := get(p); p.stack == s.stack && f != nil {
					f(s)
				}
			}
		}
	}

	began := time.Now()
	th.start()
	play(all, by(func(p part) func(*scene) { return p.before }))
	t.Logf("all that was bad is back after %s", time.Since(began).Round(time.Second))
	th.quarantine(all)
	t.Logf("nothing moved until %s", time.Since(began).Round(time.Second))
	play(all, by(func(p part) func(*scene) { return p.after }))
	t.Logf("what is good has come after %s", time.Since(began).Round(time.Second))
	th.close()
	th.table(all)
	if t.Failed() {
		t.Logf("skep's log:\n%s", th.log)
	}
}

const quarantine = 60 * time.Second

// quarantine says that nothing is written for a minute, though the files are touched,
// everything is looked at anew, and skep is killed and started again.
func (th *theatre) quarantine(scenes []*scene) {
	began := time.Now()
	v, _ := th.now()
	before := map[string]map[string]uint64{}
	for _, s := range scenes {
		before[s.stack] = v.versions(s.stack)
	}
	half := time.NewTimer(quarantine / 2)
	defer half.Stop()
	end := time.NewTimer(quarantine)
	defer end.Stop()
	for {
		v, changed := th.now()
		for _, s := range scenes {
			if now := v.versions(s.stack); !s.ended && !maps.Equal(now, before[s.stack]) {
				s.ended = true
				th.t.Errorf("%s: versions moved in quarantine, after %s: from %v to %v; written: %v", s.stack, time.Since(began).Round(time.Second), before[s.stack], now, th.door.of(s.stack, "", began))
			}
		}
		select {
		case <-changed:
		case <-half.C:
			th.skep.signal(syscall.SIGKILL)
			th.start()
		case <-end.C:
			for _, s := range scenes {
				if w := th.door.of(s.stack, "", began); !s.ended && len(w) > 0 {
					s.ended = true
					th.t.Errorf("%s: written in quarantine: %v", s.stack, w)
				}
			}
			return
		}
	}
}

// table tells what a note can quote.
func (th *theatre) table(scenes []*scene) {
	var out bytes.Buffer
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "scenario\treason\tdecided\tall old\trequests\tfailed\twrites of services\tof records\t")
	since := func(from, to time.Time) string {
		if from.IsZero() || to.IsZero() {
			return "-"
		}
		return fmt.Sprintf("%.1fs", to.Sub(from).Seconds())
	}
	for _, s := range scenes {
		r := s.told
		asked, failed := "-", "-"
		if r.probe != nil {
			asked, failed = fmt.Sprint(r.probe.Requests), fmt.Sprint(r.probe.Failed)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\t%s\n", s.stack, r.reason, since(r.seen, r.decided), since(r.seen, r.back), asked, failed,
			len(th.door.of(s.stack, "services", time.Time{})), len(th.door.of(s.stack, "configs", time.Time{})), r.note)
	}
	_ = w.Flush()
	th.t.Logf("what it took:\n%s", &out)
}
