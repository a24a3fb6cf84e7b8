package reconcile

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/skep-io/skep/spec"
)

// A followModel is a stack of two services that follow tags of registries in which
// anything happens: web follows versions, api one tag.
type followModel struct {
	t      *rapid.T
	e      *fakeEngine
	r      *Reconciler
	stack  *spec.Stack
	env    map[string]int   // what the file says of each service
	asks   bool             // the registries were asked since skep began
	have   map[string]Found // what they say
	digits int
	// tried are the images that releases brought and that then failed: service → image →
	// what the file said of the service then, and the release.
	tried map[string]map[string]trial
	begun map[int]map[string]int // release → what its file said of each service
}

type trial struct{ env, release int }

func newFollowModel(t *rapid.T) *followModel {
	m := &followModel{t: t, e: newFakeEngine(), env: map[string]int{}, have: map[string]Found{}, begun: map[int]map[string]int{}, tried: map[string]map[string]trial{"shop_web": {}, "shop_api": {}}}
	m.file()
	m.restart()
	return m
}

func (m *followModel) restart() {
	m.r = New(Options{Swarm: m.e, Now: m.e.now, History: 50})
	m.asks = false
}

func (m *followModel) file() {
	s := followingStack(map[string]spec.Follow{"web": {Semver: "*"}, "api": byTag}, "nginx:1.27")
	for i := range s.Services {
		s.Services[i].Spec.TaskTemplate.ContainerSpec.Env = []string{fmt.Sprint("N=", m.env[s.Services[i].Key])}
	}
	s.Source.Fingerprint = fmt.Sprint("sha256:", m.env["web"], "-", m.env["api"], "-", m.env["comment"])
	if m.env["scope"]%2 == 1 {
		s.Policy.Rollout.Scope = spec.ScopeService
		for i := range s.Services {
			s.Services[i].Rollout = s.Policy.Rollout
		}
	}
	m.stack = s
}

// push has a registry have something new.
func (m *followModel) push(t *rapid.T, key string) {
	m.digits++
	digits := fmt.Sprintf("%d1", m.digits)
	if rapid.IntRange(0, 2).Draw(t, "bad") == 0 {
		digits = "bad" + digits
	}
	tag := "1.27"
	if key == "web" {
		tag = fmt.Sprintf("1.%d.%d", rapid.IntRange(0, 3).Draw(t, "minor"), rapid.IntRange(0, 3).Draw(t, "patch"))
	}
	m.have["shop_"+key] = Found{Image: at(tag, digits), Asked: m.e.now()}
}

func (m *followModel) found() map[string]Found {
	out := map[string]Found{}
	if m.asks {
		for name, f := range m.have {
			out[name] = f
		}
	}
	return out
}

func (m *followModel) releases() ([]*Release, State) {
	list, state, err := newMemory(m.e, "skep", 50, m.e.now).read(context.Background(), "shop")
	if err != nil {
		panic(err)
	}
	return list, state
}

func (m *followModel) pass() Result {
	before, _ := m.releases()
	res := m.r.Reconcile(context.Background(), Input{Name: "shop", Stack: m.stack, Found: m.found()})
	if res.Err != nil {
		m.t.Fatalf("pass: %v", res.Err)
	}
	after, state := m.releases()
	known := -1
	if r := last(before); r != nil {
		known = r.Number
	}
	for _, r := range after {
		if r.Number > known && r.By != ByHand && r.Phase == PhaseProgressing {
			m.holdBegin(before, r, state)
		}
		if r.Phase == PhaseFailed && r.By != ByHand && !r.index.untried {
			m.holdFail(r)
		}
	}
	m.e.advance(time.Second)
	return res
}

// holdBegin holds a release that begins to what it may bring.
func (m *followModel) holdBegin(before []*Release, r *Release, state State) {
	m.begun[r.Number] = maps.Clone(m.env)
	for i := range m.stack.Services {
		s := &m.stack.Services[i]
		x := r.index.follow.Services[s.Name]
		if x.Image == "" {
			continue
		}
		stood := standsFor(before, s, partsOf(writtenImage(s))).Image
		if t, failed := m.tried[s.Name][x.Image]; failed && x.Image != stood && t.release > state.Pardoned && t.env == m.env[s.Key] {
			m.t.Fatalf("release %d brings %s, which failed as release %d", r.Number, x.Image, t.release)
		}
		if stood != "" && spec.Newer(partsOf(stood).tag, partsOf(x.Image).tag) {
			m.t.Fatalf("release %d goes from %s back to %s", r.Number, stood, x.Image)
		}
	}
}

// holdFail notes what failed with a release, and went back.
func (m *followModel) holdFail(r *Release) {
	for name, x := range r.index.follow.Services {
		if _, known := m.tried[name][x.Image]; x.New && (!known || m.tried[name][x.Image].release < r.Number) && (len(r.index.reverts) == 0 || r.index.reverts[name]) {
			m.tried[name][x.Image] = trial{m.begun[r.Number][strings.TrimPrefix(name, "shop_")], r.Number}
		}
	}
}

func (m *followModel) rests() Result {
	var res Result
	for range 1500 {
		res = m.pass()
		if (res.Outcome == Unchanged || res.Outcome == Held || res.Reason == "FollowUnheard") && len(res.Transitions) == 0 {
			return res
		}
		m.e.turn()
		m.e.advance(time.Second)
	}
	m.t.Fatalf("it does not come to rest: %s %s: %s", res.Outcome, res.Reason, res.Message)
	return res
}

func (m *followModel) asked(_ Intent, err error) {
	if err != nil && !errors.Is(err, ErrRefused) {
		m.t.Fatal(err)
	}
}

func (m *followModel) actions() map[string]func(*rapid.T) {
	ctx := context.Background()
	key := rapid.SampledFrom([]string{"web", "api"})
	var past []Found
	push := func(t *rapid.T) {
		k := key.Draw(t, "service")
		past = append(past, m.have["shop_"+k])
		m.push(t, k)
	}
	whole := func(t *rapid.T) {
		push(t)
		m.asks = true
		m.rests()
	}
	return map[string]func(*rapid.T){
		"push": push, "push more": push, "pushed": whole, "pushed more": whole, "pushed again": whole,
		"gone back": func(t *rapid.T) {
			if f := past[max(0, len(past)-1-rapid.IntRange(0, 5).Draw(t, "ago")):]; len(f) > 0 && f[0].Image != "" {
				name := "shop_web"
				if strings.HasPrefix(f[0].Image, "nginx:1.27@") {
					name = "shop_api"
				}
				m.have[name] = f[0]
			}
		},
		"away": func(t *rapid.T) {
			name := "shop_" + key.Draw(t, "service")
			f := m.have[name]
			f.Problem = "no route to host"
			m.have[name] = f
		},
		"asked":   func(*rapid.T) { m.asks = true },
		"asked 2": func(*rapid.T) { m.asks = true },
		"pass": func(t *rapid.T) {
			for range rapid.IntRange(1, 12).Draw(t, "passes") {
				m.pass()
				if rapid.Bool().Draw(t, "turn") {
					m.e.turn()
				}
			}
		},
		"rests":   func(*rapid.T) { m.rests() },
		"restart": func(*rapid.T) { m.restart() },
		"file": func(t *rapid.T) {
			m.env[rapid.SampledFrom([]string{"web", "api", "comment", "scope"}).Draw(t, "what")]++
			m.file()
		},
		"rollback": func(t *rapid.T) {
			m.asked(m.r.RequestRollback(ctx, "shop", rapid.SampledFrom([]int{Any, Any, 1, 2, 3}).Draw(t, "to")))
		},
		"suspend": func(*rapid.T) { m.asked(m.r.Suspend(ctx, "shop", "")) },
		"resume":  func(*rapid.T) { m.asked(m.r.Resume(ctx, "shop")) },
	}
}

// ends holds the run to come to an end: a stack at rest writes nothing, whoever comes to
// it then and whatever it was told by registries or not; and what is good, newer, and in
// nobody's way is what runs.
func (m *followModel) ends() {
	m.asks = true
	for _, name := range []string{"shop_web", "shop_api"} {
		if m.have[name].Image == "" {
			m.push(m.t, strings.TrimPrefix(name, "shop_"))
		}
	}
	m.rests()
	m.e.takeWrites()
	for range 3 {
		m.restart()
		m.rests() // nobody was asked
		m.asks = true
		m.rests()
		m.e.advance(time.Hour)
	}
	if writes := m.e.takeWrites(); slices.ContainsFunc(writes, func(w string) bool { return strings.Contains(w, " service ") }) {
		m.t.Fatalf("at rest it writes %v", writes)
	}
	if _, state := m.releases(); state.IsSuspended() || state.IsPinned() {
		return
	}
	// A version beyond all others, and a digest that nobody has seen, are followed to.
	m.have["shop_web"] = Found{Image: at("9.9.9", "99"), Asked: m.e.now()}
	m.have["shop_api"] = Found{Image: at("1.27", "98"), Asked: m.e.now()}
	res := m.rests()
	for _, s := range m.e.services {
		want := m.have[s.Spec.Name].Image
		if got := s.Spec.TaskTemplate.ContainerSpec.Image; got != want {
			m.t.Fatalf("%s runs %s, and the registry has %s: %s %s: %s", s.Spec.Name, got, want, res.Outcome, res.Reason, res.Message)
		}
	}
}

// Whatever registries, people and processes do: a digest that failed is not brought again,
// no version is followed by an older one, and all comes to rest.
func TestModelOfRegistriesThatTurnAndTwist(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newFollowModel(t)
		t.Repeat(m.actions())
		m.ends()
	})
}
