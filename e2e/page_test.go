package e2e

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"path/filepath"
	"time"

	"github.com/chromedp/chromedp"

	pages "github.com/skep-io/skep/controller/web"
	"github.com/skep-io/skep/e2e/browser"
)

var shots = flag.String("shots", "", "a directory to put screenshots of the page into")

// A visitor looks at the page of a theatre's daemon, in a browser, while scenes play.
type visitor struct {
	th  *theatre
	tab *browser.Tab
}

// visitWhile has scenes play, and looks at the page of one whose tasks are being
// replaced.
func (th *theatre) visitWhile(play func()) *visitor {
	v := &visitor{th, browser.Open(th.t)}
	played := make(chan struct{})
	go func() {
		defer close(played)
		play()
	}()
	every := time.NewTicker(200 * time.Millisecond)
	defer every.Stop()
	for seen := false; ; {
		select {
		case <-played:
			if !seen {
				th.t.Error("the page never showed a rollout under way")
			}
			return v
		case <-every.C:
			seen = seen || v.rollout()
		}
	}
}

// ask is what the API tells, into a value; false where it does not answer.
func (v *visitor) ask(path string, into any) bool {
	answer, err := http.Get("http://" + v.th.addr + path)
	if err != nil {
		return false
	}
	defer func() { _ = answer.Body.Close() }()
	return answer.StatusCode == http.StatusOK && json.NewDecoder(answer.Body).Decode(into) == nil
}

// rollout looks at a stack in which tasks of two versions run. It is false where there
// is none now.
func (v *visitor) rollout() bool {
	var board pages.Board
	if !v.ask("/api/v1/stacks", &board) {
		return false
	}
	for _, s := range board.Stacks {
		var p pages.StackPage
		if s.Condition != "Progressing" || s.Tasks.Old == 0 || !v.ask("/api/v1/stacks/"+s.Name, &p) || p.Timeline == nil {
			continue
		}
		if versions := versionsOf(p.Timeline); versions["before"] && versions["new"] {
			v.show("/stacks/"+s.Name, "rollout")
			return true
		}
	}
	return false
}

func versionsOf(t *pages.Timeline) map[string]bool {
	versions := map[string]bool{}
	for _, r := range t.Rows {
		for _, b := range r.Bars {
			versions[b.Version] = true
		}
	}
	return versions
}

// show looks at a page as different people have it.
func (v *visitor) show(path, name string) {
	for _, width := range []int64{360, 1280} {
		for _, scheme := range []string{"light", "dark"} {
			v.tab.Do(browser.Sized(width, scheme), chromedp.Navigate("http://"+v.th.addr+path), chromedp.WaitVisible("main"))
			v.tab.Until(`document.getElementById("live").textContent === "Live"`)
			if *shots != "" {
				v.tab.Shoot(filepath.Join(*shots, fmt.Sprintf("lab-%s-%s-%d.png", name, scheme, width)))
			}
			v.tab.Check(path)
		}
	}
}

// leaves looks at stacks that went back.
func (v *visitor) leaves() {
	t := v.th.t
	var board pages.Board
	if !v.ask("/api/v1/stacks", &board) || !board.Controller.Acts || len(board.Notices) > 0 || board.Counts.Stalled < 5 {
		t.Errorf("all stacks: %+v, %+v, %+v", board.Controller, board.Notices, board.Counts)
	}
	v.show("/", "board")
	// Of these the bad version dies again and again, and then everything goes back.
	for _, stack := range []string{"bad-sick-20s", "scope-stack"} {
		var p pages.StackPage
		if !v.ask("/api/v1/stacks/"+stack, &p) || p.Timeline == nil {
			t.Errorf("%s: no picture: %+v", stack, p)
			continue
		}
		var marks []string
		for _, m := range p.Timeline.Marks {
			if m.Kind != "baking" { // which what is sick after a while comes to, or not
				marks = append(marks, m.Kind)
			}
		}
		versions := versionsOf(p.Timeline)
		if p.Condition != "Stalled" || p.Timeline.Live || !versions["new"] || fmt.Sprint(marks) != "[began failed back]" {
			t.Errorf("%s: %s, marks %v, versions %v", stack, p.Condition, marks, versions)
		}
		if h := p.History; len(h) < 2 || h[0].Phase != "Failed" || h[0].BackTo == nil || !h[0].Known || len(h[0].Changes) == 0 || h[0].Message == "" {
			t.Errorf("%s: history %+v", stack, h)
		}
		for _, s := range p.Services {
			for _, task := range s.Tasks {
				if task.Node == "" && task.State == "running" {
					t.Errorf("%s: %+v runs nowhere", stack, task)
				}
			}
		}
		v.show("/stacks/"+stack, stack)
	}
}
