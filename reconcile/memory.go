package reconcile

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/swarm"
)

// memory holds the releases of stacks, and what people ask of them: all are read at
// once at first, and a stack's again after a write or when somebody else's write is
// noticed.
type memory struct {
	swarm Swarm
	owner string
	keep  int
	now   func() time.Time

	mu      sync.Mutex
	whole   bool                  // all were read: a stack that is not in stacks has none
	stacks  map[string][]*Release // oldest first
	states  map[string]State      // what is asked of stacks, read together with stacks
	told    map[string]State      // states as they were when all were read before: what is different is noticed
	stale   map[string]bool       // to be read again
	forgets int                   // how often something was forgotten: an answer asked for before that may be older
	reads   map[string]int        // how often a stack's were read or written: tells two readings apart
	taken   map[string]int        // the newest number of a stack whose record's name something has that is none
	own     map[string]time.Time  // records that were just written, until the event of it comes in
	key     []byte
}

func newMemory(s Swarm, owner string, keep int, now func() time.Time) *memory {
	return &memory{swarm: s, owner: owner, keep: keep, now: now, own: map[string]time.Time{}, stacks: map[string][]*Release{}, states: map[string]State{}, stale: map[string]bool{}, reads: map[string]int{}, taken: map[string]int{}}
}

// readAll reads what is remembered of every stack, unless it was read already, and
// returns the stacks whose records or state somebody else has written since they were
// read last. The engine sends the records' data with them, of which only an index is
// kept.
func (m *memory) readAll(ctx context.Context) (changed []string, err error) {
	m.mu.Lock()
	whole, forgets := m.whole, m.forgets
	changed = sortedKeys(m.stale)
	m.mu.Unlock()
	if whole {
		return changed, nil
	}
	configs, err := m.list(ctx)
	if err != nil {
		return nil, fmt.Errorf("list releases: %w", err)
	}
	groups := groupRecords(configs)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.forgets != forgets {
		return changed, nil // the next Refresh reads again; until then stacks are read one by one
	}
	states := map[string]State{}
	for stack, g := range groups {
		m.stacks[stack] = parseReleases(g.releases)
		states[stack] = g.state
		m.reads[stack]++
	}
	changed = append(changed, different(m.told, states)...)
	m.states, m.told = states, maps.Clone(states)
	m.whole = true
	clear(m.stale)
	return changed, nil
}

// different names the stacks of which something else is asked than before.
func different(before, after map[string]State) []string {
	var names []string
	for _, stack := range sortedKeys(mergedKeys(before, after)) {
		if !before[stack].equal(after[stack]) {
			names = append(names, stack)
		}
	}
	return names
}

func mergedKeys(a, b map[string]State) map[string]bool {
	keys := map[string]bool{}
	for _, m := range []map[string]State{a, b} {
		for k := range m {
			keys[k] = true
		}
	}
	return keys
}

// list asks for everything that is remembered, or for what is remembered of the stacks
// that a filter lets through.
func (m *memory) list(ctx context.Context, more ...filters.KeyValuePair) ([]swarm.Config, error) {
	return m.swarm.ConfigList(ctx, swarm.ConfigListOptions{Filters: filters.NewArgs(append(more, filters.Arg("label", labelKind))...)})
}

// remembered is what the Swarm keeps of one stack.
type remembered struct {
	releases []swarm.Config
	state    State
}

func groupRecords(configs []swarm.Config) map[string]remembered {
	groups := map[string]remembered{}
	for i := range configs {
		c := &configs[i]
		stack := c.Spec.Labels[labelStack]
		g := groups[stack]
		switch {
		case isRecord(c):
			g.releases = append(g.releases, *c)
		case isState(c):
			g.state = parseState(c.Spec.Labels, c.UpdatedAt)
		default:
			continue
		}
		groups[stack] = g
	}
	return groups
}

func parseReleases(configs []swarm.Config) []*Release {
	var list []*Release
	for i := range configs {
		if r := parseRelease(&configs[i]); r != nil {
			list = append(list, r)
		}
	}
	return inOrder(list)
}

// inOrder sorts releases, oldest first. Only the newest keeps its findings, which
// nobody asks for of another one.
func inOrder(list []*Release) []*Release {
	slices.SortFunc(list, func(a, b *Release) int { return cmp.Compare(a.Number, b.Number) })
	for i := range len(list) - 1 {
		if x := &list[i].index; x.findings != nil || x.severities != nil {
			old := *list[i] // others may be reading it
			old.index.findings, old.index.severities = nil, nil
			list[i] = &old
		}
	}
	return list
}

// releases returns a stack's releases, oldest first.
func (m *memory) releases(ctx context.Context, stack string) ([]*Release, error) {
	list, _, err := m.read(ctx, stack)
	return list, err
}

// read returns what is remembered of a stack.
func (m *memory) read(ctx context.Context, stack string) ([]*Release, State, error) {
	m.mu.Lock()
	known, ok := m.stacks[stack]
	ok = ok || m.whole && !m.stale[stack]
	state, forgets := m.states[stack], m.forgets
	m.mu.Unlock()
	if ok {
		return known, state, nil
	}
	configs, err := m.list(ctx, filters.Arg("label", labelStack+"="+stack))
	if err != nil {
		return nil, State{}, fmt.Errorf("list the releases of stack %s: %w", stack, err)
	}
	found := groupRecords(configs)[stack]
	list := parseReleases(found.releases)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.forgets == forgets {
		m.stacks[stack], m.states[stack] = list, found.state
		delete(m.stale, stack)
	}
	m.reads[stack]++
	return list, found.state, nil
}

// latest is what is known of a stack without asking for it; false where that is
// nothing.
func (m *memory) latest(stack string) ([]*Release, State, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	known, ok := m.stacks[stack]
	return known, m.states[stack], ok || m.whole && !m.stale[stack]
}

// known calls f for each stack of which this owner made a release.
func (m *memory) known(f func(stack string)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for stack, list := range m.stacks {
		if slices.ContainsFunc(list, func(r *Release) bool { return r.owner == m.owner }) {
			f(stack)
		}
	}
}

// reading counts how often a stack's releases were read.
func (m *memory) reading(stack string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.reads[stack]
}

// forget makes the next pass read a stack's releases again; "" is for all.
func (m *memory) forget(stack string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forgets++
	if stack == "" {
		clear(m.stacks)
		clear(m.states)
		clear(m.own)
		m.whole = false
		return
	}
	delete(m.stacks, stack)
	delete(m.states, stack)
	m.stale[stack] = true
}

// ownEvent is how long after an own write the engine's event of it may come in.
const ownEvent = 5 * time.Second

// noticed is forget for a config that somebody wrote, by its name, if it is a record
// or a state; but for the event of an own write, of which everything is known.
func (m *memory) noticed(record string) {
	stack := ""
	switch OwnKind(record) {
	case KindRelease:
		stack = stackOfRecord(record)
	case KindState:
		stack = stackOfState(record)
	default:
		return
	}
	m.mu.Lock()
	at, own := m.own[record]
	delete(m.own, record)
	m.mu.Unlock()
	if own && m.now().Sub(at) < ownEvent {
		return
	}
	m.forget(stack) // "" (a shortened name) is for all
}

// create writes a new release. A clash of names means that somebody else made
// that release first: an error, after which the memory is read again.
func (m *memory) create(ctx context.Context, stack string, r *Release, data *record) error {
	packed, err := pack(data)
	if err != nil {
		return fmt.Errorf("record release %d of stack %s: %w", r.Number, stack, err)
	}
	name, labels := recordName(stack, r.Number), r.labels(m.owner, stack)
	written := m.write(name)
	resp, err := m.swarm.ConfigCreate(ctx, swarm.ConfigSpec{Annotations: swarm.Annotations{Name: name, Labels: labels}, Data: packed})
	if err != nil {
		m.forget(stack)
		if isConflict(err) {
			m.skipDamaged(ctx, stack, r.Number)
		}
		return fmt.Errorf("record release %d of stack %s: %w", r.Number, stack, err)
	}
	known := *r
	known.id, known.owner, known.stored, known.version = resp.ID, m.owner, labels, swarm.Version{}
	back := r.index.back
	known.index = indexOf(data)
	known.index.back = back
	m.put(stack, &known, written)
	return nil
}

// skipDamaged notes a number whose record's name is taken by what is no record of the
// stack, such as one that somebody took the labels from: nobody would ever see it among
// the releases, and the next one wanted its name again and again. Where that cannot be
// told now, the next clash asks again.
func (m *memory) skipDamaged(ctx context.Context, stack string, number int) {
	name := recordName(stack, number)
	configs, err := m.swarm.ConfigList(ctx, swarm.ConfigListOptions{Filters: filters.NewArgs(filters.Arg("name", name))})
	if err != nil {
		return
	}
	for i := range configs { // the filter matches prefixes
		c := &configs[i]
		if c.Spec.Name != name || c.Spec.Labels[labelKind] == KindRelease && c.Spec.Labels[labelStack] == stack && parseRelease(c) != nil {
			continue
		}
		m.mu.Lock()
		m.taken[stack] = max(m.taken[stack], number)
		m.mu.Unlock()
	}
}

// free is a number that is not taken, as far as is known: the given one or a later one.
func (m *memory) free(stack string, number int) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return max(number, m.taken[stack]+1)
}

// update writes a release's labels, by compare-and-set.
func (m *memory) update(ctx context.Context, stack string, r *Release) error {
	name, labels := recordName(stack, r.Number), r.labels(m.owner, stack)
	version, err := m.version(ctx, r)
	written := m.write(name)
	if err == nil {
		err = m.swarm.ConfigUpdate(ctx, r.id, version, swarm.ConfigSpec{Annotations: swarm.Annotations{Name: name, Labels: labels}})
	}
	if err != nil {
		m.forget(stack)
		return fmt.Errorf("record release %d of stack %s as %s: %w", r.Number, stack, r.Phase, err)
	}
	known := *r
	known.stored, known.version = labels, swarm.Version{}
	m.put(stack, &known, written)
	return nil
}

// version is the guard of a record's next write. The engine does not tell it after
// a write of our own, so it is asked for, and the record must still be as we left it.
func (m *memory) version(ctx context.Context, r *Release) (swarm.Version, error) {
	if r.version.Index != 0 {
		return r.version, nil
	}
	c, _, err := m.swarm.ConfigInspectWithRaw(ctx, r.id)
	if err != nil {
		return swarm.Version{}, err
	}
	if !maps.Equal(c.Spec.Labels, r.stored) {
		return swarm.Version{}, fmt.Errorf("somebody else wrote it: %w", cerrdefs.ErrConflict)
	}
	return c.Version, nil
}

// write notes that a record is about to be written, and returns how often something
// was forgotten by then.
func (m *memory) write(record string) (forgets int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.own[record] = m.now()
	return m.forgets
}

// put takes over what an own write made of a release, unless something was
// forgotten meanwhile: then the stack's are read again.
func (m *memory) put(stack string, r *Release, forgets int) {
	m.mu.Lock()
	list, ok := m.stacks[stack]
	ok = (ok || m.whole && !m.stale[stack]) && m.forgets == forgets
	if ok {
		list = slices.DeleteFunc(slices.Clone(list), func(old *Release) bool { return old.Number == r.Number })
		m.stacks[stack] = inOrder(append(list, r))
		m.reads[stack]++
	}
	m.mu.Unlock()
	if !ok {
		m.forget(stack)
	}
}

// trim removes the oldest releases beyond the number that is kept, but never the newest
// nor one that there may be a way back to: the newest healthy one, that before it as
// long as the newest is not sure, and the one that the stack is pinned to. They count,
// so that more than that number stay only where these alone are more. It says how many
// it removed.
func (m *memory) trim(ctx context.Context, stack string, releases []*Release) (trimmed int, err error) {
	left := len(releases)
	if left <= m.keep {
		return 0, nil
	}
	asked, err := m.readState(ctx, stack) // somebody may have pinned it a moment ago
	if err != nil {
		return 0, fmt.Errorf("read the state of stack %s: %w", stack, err)
	}
	ways := waysBack(releases, asked)
	for _, old := range releases {
		if left <= m.keep {
			break
		}
		if slices.Contains(ways, old) || old == last(releases) {
			continue
		}
		m.forget(stack)
		if err := m.swarm.ConfigRemove(ctx, old.id); err != nil && !isNotFound(err) {
			return trimmed, fmt.Errorf("remove the record of release %d of stack %s: %w", old.Number, stack, err)
		}
		left--
		trimmed++
	}
	return trimmed, nil
}

// waysBack are the releases that a stack may have to go back to.
func waysBack(releases []*Release, asked *swarm.Config) []*Release {
	var ways []*Release
	if healthy := newest(releases, PhaseHealthy); healthy != nil {
		ways = append(ways, healthy, newest(before(releases, healthy), PhaseHealthy))
	}
	if asked != nil {
		if state := parseState(asked.Spec.Labels, asked.UpdatedAt); state.IsPinned() {
			ways = append(ways, pinnedTo(state.Pin, releases))
		}
	}
	return ways
}

// removeAll forgets a stack for good; what another owner remembers of it stays. What was
// asked of it goes first: without a release nobody would look for that again; and as
// long as there is one, what was cut off here is done again.
func (m *memory) removeAll(ctx context.Context, stack string, releases []*Release) error {
	defer m.forget(stack)
	if err := m.removeState(ctx, stack); err != nil {
		return err
	}
	for _, r := range releases {
		if r.owner != m.owner {
			continue
		}
		if err := m.swarm.ConfigRemove(ctx, r.id); err != nil && !isNotFound(err) {
			return fmt.Errorf("remove the record of release %d of stack %s: %w", r.Number, stack, err)
		}
	}
	return nil
}

// load fetches a release's stored desired stack.
func (m *memory) load(ctx context.Context, r *Release) (*Desired, error) {
	c, _, err := m.swarm.ConfigInspectWithRaw(ctx, r.id)
	if err != nil {
		return nil, fmt.Errorf("read the record of release %d: %w", r.Number, err)
	}
	data, err := unpack(c.Spec.Data, c.Spec.Labels[labelStack])
	if err != nil {
		return nil, fmt.Errorf("read the record of release %d: %w", r.Number, err)
	}
	return data.Desired, nil
}
