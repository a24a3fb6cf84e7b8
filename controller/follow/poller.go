package follow

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/distribution/reference"

	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
)

const (
	// askTime bounds all requests about one repository.
	askTime = 2 * time.Minute
	// A host that fails is left alone for so long, twice as long each time.
	firstBackoff = 30 * time.Second
	lastBackoff  = time.Hour
	// mostAtOnce is how many hosts are asked side by side.
	mostAtOnce = 8
	// idleFor is how often a poller looks whether it is to ask again that is not to now.
	idleFor = 5 * time.Second
	// soonest is how long after a repository was asked about it is again, whatever else
	// is to be found out of it.
	soonest = 30 * time.Second
)

// A Result is what became of asking about one repository: the `result` of metrics.
type Result string

const (
	Changed   Result = "changed"   // a tag that is followed is another one now
	Unchanged Result = "unchanged" // all as before
	Missing   Result = "missing"   // no such image or tag, or no version that fits
	Denied    Result = "denied"    // the registry lets nobody in with these credentials
	Limited   Result = "limited"   // it is asked too often
	Failed    Result = "error"     // it gave no answer, or none that makes sense
)

// Results are all there are.
func Results() []Result { return []Result{Changed, Unchanged, Missing, Denied, Limited, Failed} }

// Config says how registries are asked.
type Config struct {
	Credentials reconcile.Credentials // nil: none
	// Plain names registries, as images do (registry.example.com:5000), that are asked
	// without TLS.
	Plain []string
	// Transport carries the requests; nil: http.DefaultTransport's kind, with this
	// environment's proxies.
	Transport http.RoundTripper
	// Asks says whether to ask at all now; nil: always. A controller that stands by asks
	// nothing, and forgets what it was told when it did.
	Asks func() bool
	// Told is told the result of each asking, with the registry's host; nil: nobody is.
	Told func(host string, r Result)
	// Jitter is a random part of a duration; nil: one.
	Jitter func(time.Duration) time.Duration
}

// A Poller keeps asking registries for what services follow. Its methods may be called
// from many goroutines.
type Poller struct {
	c    Config
	http *http.Client
	poke chan struct{}

	mu      sync.Mutex
	wants   map[string]map[string]reconcile.Following // stack → service → what it follows
	groups  map[groupKey]*group
	hosts   map[string]*host
	running int
}

// A groupKey is what is asked about at once.
type groupKey struct {
	repository string
	every      time.Duration
}

type group struct {
	named   reference.Named
	host    string
	rules   []spec.Follow // distinct, sorted
	asked   time.Time     // when it was asked about last
	due     time.Time
	answers map[spec.Follow]reconcile.Found
}

// A host is a registry as far as it may be asked.
type host struct {
	busy     bool
	failures int
	until    time.Time // it is left alone
}

// New makes a Poller that asks for nothing yet.
func New(c Config) *Poller {
	if c.Asks == nil {
		c.Asks = func() bool { return true }
	}
	if c.Told == nil {
		c.Told = func(string, Result) {}
	}
	if c.Jitter == nil {
		c.Jitter = func(d time.Duration) time.Duration { return rand.N(max(d, 1)) }
	}
	if c.Transport == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.MaxIdleConnsPerHost, t.IdleConnTimeout = 1, 30*time.Second
		c.Transport = t
	}
	return &Poller{c: c, http: newHTTP(c.Transport), poke: make(chan struct{}, 1),
		wants: map[string]map[string]reconcile.Following{}, groups: map[groupKey]*group{}, hosts: map[string]*host{}}
}

// Want says what all the services of all stacks follow from now on: by stack, and by the
// services' names.
func (p *Poller) Want(all map[string]map[string]reconcile.Following) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wants = maps.Clone(all)
	rules := map[groupKey]map[spec.Follow]bool{}
	named := map[groupKey]reference.Named{}
	for _, services := range all {
		for _, f := range services {
			key, ref, ok := keyOf(f)
			if !ok {
				continue
			}
			if rules[key] == nil {
				rules[key], named[key] = map[spec.Follow]bool{}, ref
			}
			rules[key][f.Follow] = true
		}
	}
	for key, set := range rules {
		list := slices.SortedFunc(maps.Keys(set), func(a, b spec.Follow) int { return cmp.Compare(a.String(), b.String()) })
		g := p.groups[key]
		if g == nil {
			g = &group{named: named[key], host: reference.Domain(named[key]), answers: map[spec.Follow]reconcile.Found{}}
			p.groups[key] = g
		}
		if slices.ContainsFunc(list, func(f spec.Follow) bool { return !slices.Contains(g.rules, f) }) {
			g.due = g.soon() // something new is to be found out
		}
		g.rules = list
	}
	maps.DeleteFunc(p.groups, func(key groupKey, _ *group) bool { return rules[key] == nil })
	for _, g := range p.groups {
		maps.DeleteFunc(g.answers, func(f spec.Follow, _ reconcile.Found) bool { return !slices.Contains(g.rules, f) })
	}
	p.look()
}

// keyOf is where a service's question belongs.
func keyOf(f reconcile.Following) (groupKey, reference.Named, bool) {
	ref, err := reference.ParseNormalizedNamed(f.Image)
	if err != nil || !f.On() {
		return groupKey{}, nil, false
	}
	ref = reference.TrimNamed(ref)
	return groupKey{ref.Name(), f.Every}, ref, true
}

// Found is what registries said of what the services of a stack follow, by their names. A
// service of which they said nothing yet is not in it; it is never nil.
func (p *Poller) Found(stack string) map[string]reconcile.Found {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.found(stack)
}

func (p *Poller) found(stack string) map[string]reconcile.Found {
	out := map[string]reconcile.Found{}
	for service, f := range p.wants[stack] {
		key, _, ok := keyOf(f)
		if g := p.groups[key]; ok && g != nil {
			if a, answered := g.answers[f.Follow]; answered {
				out[service] = a
			}
		}
	}
	return out
}

// Look has the poller see at once whether it is to ask.
func (p *Poller) Look() { p.look() }

func (p *Poller) look() {
	select {
	case p.poke <- struct{}{}:
	default:
	}
}

// Run asks until ctx ends. It calls changed with the stacks of which something else was
// found than before.
func (p *Poller) Run(ctx context.Context, changed func(stacks []string)) {
	defer p.http.CloseIdleConnections()
	var asking sync.WaitGroup
	defer asking.Wait()
	for {
		wait := idleFor
		if p.c.Asks() {
			wait = p.start(ctx, &asking, changed)
		} else {
			p.forget()
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-p.poke:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// forget drops what was found: by the time it is to ask again, that may be old.
func (p *Poller) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, g := range p.groups {
		g.due = g.soon()
		clear(g.answers)
	}
}

// soon is when a repository may be asked about out of turn.
func (g *group) soon() time.Time {
	if g.asked.IsZero() {
		return time.Time{}
	}
	return g.asked.Add(soonest)
}

// start begins to ask what is due, and says when something else will be.
func (p *Poller) start(ctx context.Context, asking *sync.WaitGroup, changed func([]string)) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	now, wait := time.Now(), time.Hour
	for _, key := range p.order() {
		g := p.groups[key]
		h := p.hostOf(g.host)
		due := later(g.due, h.until)
		if h.busy || p.running >= mostAtOnce {
			continue // whose end pokes
		}
		if left := due.Sub(now); left > 0 {
			wait = min(wait, left)
			if stacks := p.excuse(g, h); len(stacks) > 0 {
				asking.Go(func() { changed(stacks) })
			}
			continue
		}
		h.busy = true
		p.running++
		asking.Go(func() {
			stacks := p.ask(ctx, key, g)
			if len(stacks) > 0 && ctx.Err() == nil {
				changed(stacks)
			}
			p.look()
		})
	}
	return wait
}

// excuse answers what nobody was asked yet where its host is left alone: whoever waits for
// an answer is not to wait for as long. It names the stacks that it does this for.
func (p *Poller) excuse(g *group, h *host) []string {
	if h.failures == 0 {
		return nil
	}
	var open []spec.Follow
	for _, rule := range g.rules {
		if _, answered := g.answers[rule]; !answered {
			g.answers[rule] = reconcile.Found{Problem: fmt.Sprintf("the registry %s is left alone for now, since it failed or limits how often it is asked", g.host)}
			open = append(open, rule)
		}
	}
	var stacks []string
	for stack, services := range p.wants {
		for _, f := range services {
			if key, _, ok := keyOf(f); ok && p.groups[key] == g && slices.Contains(open, f.Follow) && !slices.Contains(stacks, stack) {
				stacks = append(stacks, stack)
			}
		}
	}
	return stacks
}

// order is that in which groups come to be asked: who waits longest first.
func (p *Poller) order() []groupKey {
	return slices.SortedFunc(maps.Keys(p.groups), func(a, b groupKey) int {
		return cmp.Or(p.groups[a].due.Compare(p.groups[b].due), cmp.Compare(a.repository, b.repository), cmp.Compare(a.every, b.every))
	})
}

func (p *Poller) hostOf(name string) *host {
	if p.hosts[name] == nil {
		p.hosts[name] = &host{}
	}
	return p.hosts[name]
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// Once asks about everything that is wanted, once, and returns when that is done.
func (p *Poller) Once(ctx context.Context) {
	p.mu.Lock()
	byHost := map[string][]groupKey{}
	for _, key := range p.order() {
		byHost[p.groups[key].host] = append(byHost[p.groups[key].host], key)
	}
	p.mu.Unlock()
	slots := make(chan struct{}, mostAtOnce)
	var asking sync.WaitGroup
	for _, keys := range byHost {
		asking.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			for _, key := range keys {
				p.mu.Lock()
				g := p.groups[key]
				h := p.hostOf(g.host)
				h.busy = true
				p.running++
				p.mu.Unlock()
				p.ask(ctx, key, g)
			}
		})
	}
	asking.Wait()
	p.http.CloseIdleConnections()
}

// ask asks about one repository, and names the stacks of which something else was found.
func (p *Poller) ask(ctx context.Context, key groupKey, g *group) []string {
	p.mu.Lock()
	rules, named := slices.Clone(g.rules), g.named
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	answers, err := p.answers(ctx, named, rules)

	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.hostOf(g.host)
	h.busy = false
	p.running--
	now := time.Now()
	g.asked, g.due = now, now.Add(key.every+p.c.Jitter(key.every/10))
	if ctx.Err() != nil && errors.Is(context.Cause(ctx), context.Canceled) {
		return nil // it was stopped
	}
	p.hold(h, err, now)
	before := map[string]map[string]reconcile.Found{}
	for stack := range p.wants {
		before[stack] = p.found(stack)
	}
	result := p.fill(g, rules, answers, err, now)
	p.c.Told(g.host, result)
	var stacks []string
	for stack, was := range before {
		if !maps.EqualFunc(was, p.found(stack), func(a, b reconcile.Found) bool { return a.Image == b.Image && a.Problem == b.Problem }) {
			stacks = append(stacks, stack)
		}
	}
	slices.Sort(stacks)
	return stacks
}

// hold leaves a host alone that asks for it, or that fails.
func (p *Poller) hold(h *host, err error, now time.Time) {
	refused, away := (*Refusal)(nil), (*awayError)(nil)
	switch {
	case errors.As(err, &refused) && refused.waits(), errors.As(err, &away):
		backoff := lastBackoff
		if h.failures < 7 {
			backoff = min(lastBackoff, firstBackoff<<h.failures)
		}
		h.failures++
		if refused != nil {
			backoff = max(backoff, refused.After)
		}
		h.until = now.Add(backoff + p.c.Jitter(backoff/10))
	default:
		h.failures, h.until = 0, time.Time{}
	}
}

// fill puts what was answered into the group: what cannot be told any more stays as it was
// found last.
func (p *Poller) fill(g *group, rules []spec.Follow, answers map[spec.Follow]reconcile.Found, err error, now time.Time) Result {
	result := Unchanged
	for _, rule := range rules {
		was, a := g.answers[rule], answers[rule]
		if err != nil {
			a = reconcile.Found{Problem: problemOf(err)}
		}
		refused := (*Refusal)(nil)
		if errors.As(err, &refused) && !refused.waits() || err == nil {
			a.Asked = now
		} else {
			a.Asked = was.Asked
		}
		switch {
		case a.Image == "":
			a.Image = was.Image
			result = Missing
		case a.Image != was.Image && result != Missing:
			result = Changed
		}
		if slices.Contains(g.rules, rule) { // it may be wanted no more by now
			g.answers[rule] = a
		}
	}
	if err != nil {
		return resultOf(err)
	}
	return result
}

// problemOf is an error as people are told it.
func problemOf(err error) string { return "the registry " + err.Error() }

func resultOf(err error) Result {
	refused := (*Refusal)(nil)
	if !errors.As(err, &refused) {
		return Failed
	}
	switch refused.Status {
	case http.StatusNotFound:
		return Missing
	case http.StatusUnauthorized, http.StatusForbidden:
		return Denied
	case http.StatusTooManyRequests:
		return Limited
	}
	return Failed
}

// answers asks a registry about one repository: once for its tags where any rule is about
// versions, and once for the digest of each tag that comes of that.
func (p *Poller) answers(ctx context.Context, named reference.Named, rules []spec.Follow) (map[spec.Follow]reconcile.Found, error) {
	s := &session{http: p.http, repository: reference.Path(named), auth: func() (login, error) { return p.login(named) }}
	s.base, s.host = baseOf(named, func(host string) bool { return slices.Contains(p.c.Plain, host) })
	var tags []string
	if slices.ContainsFunc(rules, func(f spec.Follow) bool { return f.Semver != "" }) {
		var err error
		if tags, err = s.tags(ctx); err != nil {
			return nil, err
		}
	}
	out := map[spec.Follow]reconcile.Found{}
	images := map[string]reconcile.Found{} // by tag
	for _, rule := range rules {
		tag := rule.Tag
		if rule.Semver != "" {
			tag = rule.Newest(tags)
		}
		if tag == "" {
			out[rule] = reconcile.Found{Problem: fmt.Sprintf("the registry %s has no version that fits %s among %d tags", s.host, rule.Semver, len(tags))}
			continue
		}
		if _, known := images[tag]; !known {
			found, err := s.image(ctx, named, tag)
			if err != nil {
				return nil, err
			}
			images[tag] = found
		}
		out[rule] = images[tag]
	}
	return out, nil
}

// image is a tag with its digest, or that there is none.
func (s *session) image(ctx context.Context, named reference.Named, tag string) (reconcile.Found, error) {
	digest, err := s.digest(ctx, tag)
	if refused := (*Refusal)(nil); errors.As(err, &refused) && refused.Status == http.StatusNotFound {
		return reconcile.Found{Problem: fmt.Sprintf("the registry %s has no tag %s", s.host, tag)}, nil
	}
	if err != nil {
		return reconcile.Found{}, err
	}
	return reconcile.Found{Image: reference.FamiliarName(named) + ":" + tag + "@" + digest}, nil
}

// login is that of Config.Credentials for an image.
func (p *Poller) login(named reference.Named) (login, error) {
	if p.c.Credentials == nil {
		return login{}, nil
	}
	encoded, err := p.c.Credentials.EncodedAuth(named.Name())
	if err == nil {
		var who login
		if who, err = decodeLogin(encoded); err == nil {
			return who, nil
		}
	}
	return login{}, fmt.Errorf("%s cannot be asked: %w", reference.Domain(named), err)
}
