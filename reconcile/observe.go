package reconcile

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"
	"golang.org/x/sync/errgroup"

	"github.com/skep-io/skep/spec"
)

// An observer keeps the newest listing of the whole Swarm, shared by all stacks.
// A listing is a handful of requests however many stacks there are; who needs it
// fresher than it is asks for an age or for "after my own write".
type observer struct {
	swarm Swarm
	now   func() time.Time // the time of day
	clock func() time.Time // for ages: nobody sets it

	listing sync.Mutex // held while listing, so that those who wait share one

	mu      sync.Mutex
	live    *Live
	at      time.Time         // clock's reading when live's listing began
	took    time.Duration     // how long live's listing took
	begun   uint64            // how many own writes there had been then
	wrotes  uint64            // counts own writes
	written map[string]uint64 // stack → the number of its last own write
	wanted  map[string]bool   // names of external configs, which no label selects
	listed  map[string]bool   // wanted, as it was for live
}

func newObserver(s Swarm, now, clock func() time.Time) *observer {
	return &observer{swarm: s, now: now, clock: clock, written: map[string]uint64{}, wanted: map[string]bool{}}
}

// ageOfTook bounds the time that goes into listing a large Swarm again and again: a
// listing is young enough for so many times as long as it took. Were it too old when
// it has just arrived, every stack that is under way would list for itself.
const ageOfTook = 4

// get returns a listing not older than maxAge (0: any age), or than a few times what
// a listing takes, that began after the stack's last own write and knows the external
// configs that are wanted.
func (o *observer) get(ctx context.Context, stack string, maxAge time.Duration) (*Live, error) {
	if l := o.fresh(stack, maxAge); l != nil {
		return l, nil
	}
	o.listing.Lock()
	defer o.listing.Unlock()
	if l := o.fresh(stack, maxAge); l != nil { // somebody else listed while we waited
		return l, nil
	}
	_, l, err := o.list(ctx)
	return l, err
}

func (o *observer) fresh(stack string, maxAge time.Duration) *Live {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.live == nil, o.begun < o.written[stack], len(o.listed) < len(o.wanted):
		return nil
	case maxAge > 0 && o.clock().Sub(o.at) > max(maxAge, ageOfTook*o.took):
		return nil
	}
	return o.live
}

// listGap is how soon after one listing another one is made for a stack that only
// wants to see how its own writes are doing; more for a large Swarm.
const listGap = 250 * time.Millisecond

// tooSoon says how long a stack that has written had better wait for a listing, so
// that many of them share one: 0 where one is there or due.
func (o *observer) tooSoon(stack string) time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.live == nil || o.begun >= o.written[stack] {
		return 0
	}
	return max(0, max(listGap, ageOfTook*o.took)-o.clock().Sub(o.at))
}

// refresh lists anew and returns the stacks whose objects are not as they were, and
// whether something that matters to every stack is not.
func (o *observer) refresh(ctx context.Context) (changed []string, everything bool, err error) {
	o.listing.Lock()
	defer o.listing.Unlock()
	before, after, err := o.list(ctx)
	if err != nil {
		return nil, false, err
	}
	return changedStacks(before, after), before == nil || before.rest != after.rest, nil
}

// newest returns the newest listing, however old, or nil before the first.
func (o *observer) newest() *Live {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.live
}

// wrote notes an own write to a stack: listings that began before it are stale
// for that stack.
func (o *observer) wrote(stack string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.wrotes++
	o.written[stack] = o.wrotes
}

// want makes listings look for external configs by name.
func (o *observer) want(stack *spec.Stack) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, c := range stack.Configs {
		if c.External {
			o.wanted[c.Name] = true
		}
	}
}

// wantConfigs is want for a recorded stack.
func (o *observer) wantConfigs(configs []DesiredObject) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range configs {
		if configs[i].External {
			o.wanted[configs[i].Name] = true
		}
	}
}

func (o *observer) list(ctx context.Context) (before, after *Live, err error) {
	o.mu.Lock()
	begun, before, wanted := o.wrotes, o.live, maps.Clone(o.wanted)
	o.mu.Unlock()

	at := o.clock()
	after, err = list(ctx, o.swarm, slices.Sorted(maps.Keys(wanted)), o.now())
	if err != nil {
		return nil, nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.live, o.at, o.took, o.begun, o.listed = after, at, o.clock().Sub(at), begun, wanted
	return before, after, nil
}

// list asks the engine for everything at once. ConfigList always returns data,
// so release records (which carry no namespace) are not asked for, and of the
// data that comes only a hash is kept.
func list(ctx context.Context, s Swarm, externalConfigs []string, now time.Time) (*Live, error) {
	var (
		services         []swarm.Service
		networks         []network.Summary
		configs, outside []swarm.Config
		secrets          []swarm.Secret
		nodes            []swarm.Node
	)
	var bad panics
	g, gctx := errgroup.WithContext(ctx)
	ask := func(what string, f func() error) {
		g.Go(func() error {
			defer bad.catch()
			if err := f(); err != nil {
				return fmt.Errorf("list %s: %w", what, err)
			}
			return nil
		})
	}
	ask("services", func() (err error) {
		services, err = s.ServiceList(gctx, swarm.ServiceListOptions{Status: true})
		return err
	})
	ask("networks", func() (err error) {
		networks, err = s.NetworkList(gctx, network.ListOptions{Filters: filters.NewArgs(filters.Arg("scope", "swarm"))})
		return err
	})
	ask("configs", func() (err error) {
		configs, err = s.ConfigList(gctx, swarm.ConfigListOptions{Filters: filters.NewArgs(filters.Arg("label", spec.LabelNamespace))})
		return err
	})
	ask("secrets", func() (err error) {
		secrets, err = s.SecretList(gctx, swarm.SecretListOptions{})
		return err
	})
	ask("nodes", func() (err error) {
		nodes, err = s.NodeList(gctx, swarm.NodeListOptions{})
		return err
	})
	if len(externalConfigs) > 0 {
		f := filters.NewArgs()
		for _, name := range externalConfigs {
			f.Add("name", name)
		}
		ask("external configs", func() (err error) {
			outside, err = s.ConfigList(gctx, swarm.ConfigListOptions{Filters: f})
			return err
		})
	}
	err := g.Wait()
	bad.raise()
	if err != nil {
		return nil, err
	}
	return NewLive(now, s.ClientVersion(), services, networks, append(configs, outside...), secrets, nodes), nil
}

// NewLive makes a Live of what an engine listed.
func NewLive(at time.Time, apiVersion string, services []swarm.Service, networks []network.Summary, configs []swarm.Config, secrets []swarm.Secret, nodes []swarm.Node) *Live {
	l := &Live{
		At:           at,
		APIVersion:   apiVersion,
		Services:     make(map[string]*swarm.Service, len(services)),
		Networks:     make(map[string]*LiveNetwork, len(networks)),
		Configs:      make(map[string]*LiveObject, len(configs)),
		Secrets:      make(map[string]*LiveObject, len(secrets)),
		Nodes:        make(map[string]*swarm.Node, len(nodes)),
		networkNames: make(map[string]string, len(networks)),
	}
	for i := range services {
		l.Services[services[i].Spec.Name] = &services[i]
	}
	for i := range networks {
		n := liveNetwork(&networks[i])
		l.Networks[n.Name] = n
		l.networkNames[n.ID] = n.Name
	}
	for i := range configs {
		c := liveConfig(&configs[i])
		l.Configs[c.Name] = c
	}
	for i := range secrets {
		s := liveSecret(&secrets[i])
		l.Secrets[s.Name] = s
	}
	for i := range nodes {
		l.Nodes[nodes[i].ID] = &nodes[i]
	}
	l.index()
	return l
}

func liveNetwork(n *network.Summary) *LiveNetwork {
	ln := &LiveNetwork{ID: n.ID, Name: n.Name, Scope: n.Scope, Labels: n.Labels}
	ln.CreateOptions = network.CreateOptions{
		Driver:     n.Driver,
		Scope:      n.Scope,
		EnableIPv6: &n.EnableIPv6,
		IPAM:       &n.IPAM,
		Internal:   n.Internal,
		Attachable: n.Attachable,
		Ingress:    n.Ingress,
		Options:    n.Options,
		Labels:     n.Labels,
	}
	return ln
}

func liveConfig(c *swarm.Config) *LiveObject {
	sum := sha256.Sum256(c.Spec.Data)
	o := &LiveObject{ID: c.ID, Name: c.Spec.Name, Version: c.Version, Labels: c.Spec.Labels, DataHash: hex.EncodeToString(sum[:])}
	if c.Spec.Templating != nil {
		o.Driver = c.Spec.Templating.Name
	}
	return o
}

func liveSecret(s *swarm.Secret) *LiveObject {
	o := &LiveObject{ID: s.ID, Name: s.Spec.Name, Version: s.Version, Labels: s.Spec.Labels}
	switch {
	case s.Spec.Driver != nil:
		o.Driver = s.Spec.Driver.Name
	case s.Spec.Templating != nil:
		o.Driver = s.Spec.Templating.Name
	}
	return o
}

// stackIndex is what of a Live belongs to one stack, by Docker's namespace label.
type stackIndex struct {
	refs  []Ref // sorted
	stamp uint64
}

// index groups the objects by stack, once a listing, so that no pass has to look
// at other stacks' objects.
func (l *Live) index() {
	l.stacks = map[string]*stackIndex{}
	for name, s := range l.Services {
		st := swarmStamp(s)
		l.add(s.Spec.Labels, Ref{KindService, name}, st)
		for _, p := range s.Endpoint.Spec.Ports { // what other stacks cannot have
			l.rest += stamp("port", p.PublishedPort, p.Protocol, name)
		}
	}
	for name, n := range l.Networks {
		l.add(n.Labels, Ref{KindNetwork, name}, stamp(n.ID))
		l.rest += stamp(KindNetwork, name, n.ID) // another stack's may be external to this one
	}
	for name, c := range l.Configs {
		l.add(c.Labels, Ref{KindConfig, name}, stamp(c.ID, c.Version.Index))
	}
	for name, s := range l.Secrets {
		l.add(s.Labels, Ref{KindSecret, name}, stamp(s.ID, s.Version.Index))
	}
	for id, n := range l.Nodes {
		l.rest += stamp("node", id, n.Status.State, n.Spec.Availability, n.Spec.Role, n.Spec.Labels, n.Status.Addr,
			n.Description.Hostname, n.Description.Platform, n.Description.Engine.Labels) // what placement asks for
	}
	for _, x := range l.stacks {
		slices.SortFunc(x.refs, func(a, b Ref) int {
			return strings.Compare(string(a.Kind)+"/"+a.Name, string(b.Kind)+"/"+b.Name)
		})
	}
}

func (l *Live) add(labels map[string]string, r Ref, st uint64) {
	ns := labels[spec.LabelNamespace]
	if ns == "" {
		l.rest += stamp(r.Kind, r.Name, st)
		return
	}
	x := l.stacks[ns]
	if x == nil {
		x = &stackIndex{}
		l.stacks[ns] = x
	}
	x.refs = append(x.refs, r)
	x.stamp += stamp(r.Kind, r.Name, st) // a sum: order does not matter
}

// Stack returns what carries a stack's namespace label, sorted by kind and name.
func (l *Live) Stack(name string) []Ref {
	if x := l.stacks[name]; x != nil {
		return x.refs
	}
	return nil
}

// Used says whether some service, of whatever stack, uses the config, secret or
// network with that ID now (or names it in the spec it can be rolled back to).
func (l *Live) Used(id string) bool { return len(l.lookUp().users[id]) > 0 }

// stampOf tells two states of a stack's surroundings apart: its own objects, and
// all that belongs to no stack (external objects, nodes) or can stand in another
// one's way (networks, published ports).
func (l *Live) stampOf(stack string) uint64 {
	st := l.rest
	if x := l.stacks[stack]; x != nil {
		st += x.stamp
	}
	return st
}

func swarmStamp(s *swarm.Service) uint64 {
	var running, desired, completed uint64
	if st := s.ServiceStatus; st != nil {
		running, desired, completed = st.RunningTasks, st.DesiredTasks, st.CompletedTasks
	}
	return stamp(s.ID, s.Version.Index, running, desired, completed)
}

func stamp(parts ...any) uint64 {
	h := fnv.New64a()
	for _, p := range parts {
		_, _ = fmt.Fprintf(h, "%v\x00", p)
	}
	return h.Sum64()
}

// changedStacks names the stacks that differ between two listings, sorted; all
// of them where what belongs to no stack differs, or there was no listing before.
func changedStacks(before, after *Live) []string {
	names := map[string]bool{}
	for name := range after.stacks {
		names[name] = true
	}
	if before != nil {
		for name := range before.stacks {
			names[name] = true
		}
		maps.DeleteFunc(names, func(name string, _ bool) bool {
			return before.stampOf(name) == after.stampOf(name)
		})
	}
	return slices.Sorted(maps.Keys(names))
}
