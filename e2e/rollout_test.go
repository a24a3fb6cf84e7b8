package e2e

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
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

func script() []part {
	var parts []part
	for _, k := range append(kinds(), withActions()...) {
		parts = append(parts, part{"bad-" + k.name, k.fails, k.mends})
	}
	parts = append(parts, []part{
		{"seed", seedFails, nil},
		{"scope-stack", scopeFails("stack", "app:1.0"), scopeMends("stack")},
		{"scope-service", scopeFails("service", "app:2.0"), scopeMends("service")},
		{"first-bad", firstFails, firstMends},
		{"back-fails", backFails, backMends},
		{"newer", newerFails, newerMends},
		{"hand-update", handMeddles, nil},
		{"hand-rollback", handRollsBack, nil},
		{"guard", guardFails, guardMends},
		{"waves", wavesWait, nil},
		{"migration", migrates, nil},
		{"migration-bad", migrationFails, migrationMends},
		{"pin", pins, unpins},
		{"suspend", suspends, resumes},
		{"pardon", pardonFails, pardonMends},
	}...)
	// What takes long begins first.
	slices.SortStableFunc(parts, func(a, b part) int { return slices.Index(long, b.stack) - slices.Index(long, a.stack) })
	return parts
}

// long are the scenes that take more than a minute, the longest last.
var long = []string{"bad-sick-continue", "waves", "seed", "bad-crash-5s", "newer", "hand-rollback", "guard", "bad-sick-20s"}

// TestRollouts plays what can go wrong with a new version, all at once: each scene
// is a stack of its own, and the wait that shows that nothing is tried again, with
// the daemon killed in the middle of it, is one for all of them. At the end the
// leader's engine is killed, once for those that are in the middle of something.
func TestRollouts(t *testing.T) {
	th := open(t)
	th.tower = newWatchtower(t)
	var scenes []*scene
	before, after := map[string]func(*scene){}, map[string]func(*scene){}
	for _, p := range script() {
		s := &scene{theatre: th, stack: p.stack}
		s.told.stack = p.stack
		scenes = append(scenes, s)
		before[p.stack], after[p.stack] = p.before, p.after
	}
	began := time.Now()
	step := func(what string) { t.Logf("%s after %s", what, time.Since(began).Round(time.Second)) }
	th.start()
	visitor := th.visitWhile(func() { play(scenes, func(s *scene) { before[s.stack](s) }) })
	step("all that was bad is back")
	visitor.leaves()
	step("the page was looked at")
	t.Logf("skep made %s", th.passes())
	th.tower.afterTheBad(th.wentBack())
	th.tower.discovers(th, "bad-sick_web")
	th.quarantine(scenes)
	step("nothing was tried again")
	th.tower.afterTheQuarantine()
	step("the right alerts fire")
	play(scenes, func(s *scene) {
		if f := after[s.stack]; f != nil {
			f(s)
		}
	})
	step("what is good has come")
	scenes = append(scenes, th.killLeader()...)
	step("all is well without the leader")
	th.tower.panels()
	th.tower.told()
	th.close()
	v, _ := th.now()
	th.post.judge(t, v, scenes)
	th.table(scenes)
	if t.Failed() {
		t.Logf("skep's log:\n%s", th.log)
	}
}

const quarantine = 60 * time.Second

// quarantine says that nothing is written for a minute, though the files are touched,
// everything is looked at anew, the specs are away for a while, and skep is killed and
// started again.
func (th *theatre) quarantine(scenes []*scene) {
	began := time.Now()
	v, _ := th.now()
	told := len(th.post.all())
	before := map[string]map[string]uint64{}
	for _, s := range scenes {
		before[s.stack] = v.versions(s.stack)
	}
	quarter := time.NewTimer(quarantine / 4)
	defer quarter.Stop()
	third := time.NewTimer(quarantine / 3)
	defer third.Stop()
	bring := func() {}
	defer func() { bring() }()
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
		case <-quarter.C:
			for _, s := range scenes {
				s.touch()
			}
		case <-third.C:
			back, err := th.hide()
			if err != nil {
				th.t.Errorf("take the specs away: %v", err)
				continue
			}
			bring = sync.OnceFunc(back)
			time.AfterFunc(quarantine/3, bring)
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
			th.post.silent(th.t, told)
			return
		}
	}
}

// touch changes the file's text, and not what it says.
func (s *scene) touch() {
	file := filepath.Join(s.specs, s.stack+".yml")
	text, err := os.ReadFile(file)
	if err == nil {
		err = s.write(s.stack+".yml", string(text)+"# touched\n")
	}
	if err != nil {
		s.t.Errorf("touch %s: %v", file, err)
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
