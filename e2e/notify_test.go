package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/skep-io/skep/controller"
	"github.com/skep-io/skep/spec"
)

// A postbox is a webhook's receiver on this machine, which keeps all that it gets.
type postbox struct {
	*httptest.Server
	mu  sync.Mutex
	got []posted
}

type posted struct {
	at time.Time
	controller.Message
}

func newPostbox(t *testing.T) *postbox {
	t.Helper()
	p := &postbox{}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m := posted{at: time.Now()}
		if err := json.NewDecoder(r.Body).Decode(&m.Message); err != nil {
			t.Errorf("a message cannot be read: %v", err)
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.got = append(p.got, m)
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *postbox) all() []posted {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]posted(nil), p.got...)
}

// silent says that no end of a release was told of since there were so many messages.
// What is sick may turn well in the meantime, and be told of.
func (p *postbox) silent(t *testing.T, since int) {
	t.Helper()
	for _, m := range p.all()[since:] {
		if m.Event == spec.EventRolledOut || m.Event == spec.EventRolledBack {
			t.Errorf("told at %s, when nothing was to happen: %s: %s", m.at.Format(time.TimeOnly), m.Title, m.Text)
		}
		t.Logf("told in quarantine: %s: %s", m.Title, m.Text)
	}
}

// judge says that each end of a release that the Swarm's records tell of was sent once,
// whatever was killed meanwhile, and nothing twice. Who failed before is left out.
func (p *postbox) judge(t *testing.T, v *view, scenes []*scene) {
	t.Helper()
	sent, ids, kinds := map[string]int{}, map[string]int{}, map[string]int{}
	for _, m := range p.all() {
		ids[m.ID]++
		kinds[string(m.Event)]++
		if m.Release != nil {
			sent[ending(m.Stack, string(m.Event), *m.Release)]++
		}
	}
	for id, n := range ids {
		if n > 1 {
			t.Errorf("message %s came %d times", id, n)
		}
	}
	ends := 0
	for _, s := range scenes {
		for _, m := range v.records[s.stack] {
			event := ""
			switch {
			case s.ended || m.ended.Equal(m.started): // what was adopted, or refused untried, ended as it began
			case m.phase == "Healthy":
				event = "rolled-out"
			case m.phase == "Failed" && m.back:
				event = "rolled-back"
			}
			if event == "" {
				continue
			}
			ends++
			if n := sent[ending(s.stack, event, m.number)]; n != 1 {
				t.Errorf("%s: that release %d is %s (%s) was told %d times", s.stack, m.number, m.phase, m.reason, n)
			}
		}
	}
	t.Logf("%d messages of %d ends of releases, by event: %v", len(p.all()), ends, kinds)
	if t.Failed() {
		for _, m := range p.all() {
			t.Logf("%s  %s  %s  %s", m.at.Format("15:04:05.0"), m.Event, m.Title, m.Text)
		}
	}
}

func ending(stack, event string, release int) string {
	return fmt.Sprint(stack, " ", event, " ", release)
}
