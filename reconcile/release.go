package reconcile

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/swarm"
)

// A release is remembered in the Swarm itself, as a config object: immutable data
// (the rendered desired stack, compressed) and labels that change by
// compare-and-set. It carries no namespace label, so that `docker stack rm`
// leaves the memory.
const (
	labelKind     = "skep.kind"
	labelStack    = "skep.stack"
	labelRelease  = "skep.release"
	labelDigest   = "skep.digest"
	labelSource   = "skep.source"
	labelRevision = "skep.revision"
	labelSubject  = "skep.subject"
	labelPhase    = "skep.phase"
	labelReason   = "skep.reason"
	labelMessage  = "skep.message"
	labelStarted  = "skep.started"
	labelEnded    = "skep.ended"
	labelCorrect  = "skep.corrected"

	kindRelease = "release"
	kindKey     = "key"

	recordPrefix = "skep-release-"
	keyName      = "skep-key"

	maxRecord   = 500_000 // bytes of data
	maxUnpacked = 64 << 20
	maxMessage  = 1000 // characters of a reason's sentence
)

// A record is a release's data.
type record struct {
	Format  int        `json:"format"`
	Desired *Desired   `json:"desired"`
	Pins    []namedPin `json:"pins,omitempty"`
	// Changed names the services that the release set out to write, each with the
	// mark of the update status it had before: a later one is the release's own.
	Changed map[string]string `json:"changed,omitempty"`
}

type namedPin struct {
	Service string `json:"service"`
	Pin
}

// An index is what passes need of a record, without its specs.
type index struct {
	objects  map[Ref]bool
	pins     map[string]Pin
	believed map[string]string // adopted secrets: plain name → hash
	changed  map[string]string
	// corrected maps services to the mark they had when their drift was corrected.
	corrected map[string]string
}

func indexOf(r *record) index {
	x := index{objects: map[Ref]bool{}, pins: map[string]Pin{}, believed: map[string]string{}, changed: r.Changed}
	for _, p := range r.Pins {
		x.pins[p.Service] = p.Pin
	}
	d := r.Desired
	for i := range d.Services {
		x.objects[Ref{KindService, d.Services[i].Name}] = true
	}
	for i := range d.Networks {
		if !d.Networks[i].External {
			x.objects[Ref{KindNetwork, d.Networks[i].Name}] = true
		}
	}
	for _, o := range d.Configs {
		if !o.External {
			x.objects[Ref{KindConfig, o.Name}] = true
		}
	}
	for _, o := range d.Secrets {
		if o.External {
			continue
		}
		x.objects[Ref{KindSecret, o.Name}] = true
		if o.Name == o.Plain {
			x.believed[o.Plain] = o.Hash
		}
	}
	return x
}

// memory holds the releases of stacks: all are read at once at first, and a
// stack's again after a write or when somebody else's write is noticed.
type memory struct {
	swarm Swarm
	owner string
	keep  int

	mu     sync.Mutex
	whole  bool                  // all were read: a stack that is not in stacks has none
	stacks map[string][]*Release // oldest first
	stale  map[string]bool       // to be read again
	reads  map[string]int        // how often a stack's were read: tells two readings apart
	key    []byte
}

func newMemory(s Swarm, owner string, keep int) *memory {
	return &memory{swarm: s, owner: owner, keep: keep, stacks: map[string][]*Release{}, stale: map[string]bool{}, reads: map[string]int{}}
}

// readAll reads every stack's releases, unless they were read already. The engine
// sends the records' data with them, of which only an index is kept.
func (m *memory) readAll(ctx context.Context) error {
	m.mu.Lock()
	whole := m.whole
	m.mu.Unlock()
	if whole {
		return nil
	}
	configs, err := m.swarm.ConfigList(ctx, swarm.ConfigListOptions{Filters: filters.NewArgs(filters.Arg("label", labelKind+"="+kindRelease))})
	if err != nil {
		return fmt.Errorf("list releases: %w", err)
	}
	byStack := map[string][]*Release{}
	for stack, list := range groupRecords(configs) {
		byStack[stack] = parseReleases(list)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for stack, list := range byStack {
		m.stacks[stack] = list
		m.reads[stack]++
	}
	m.whole = true
	clear(m.stale)
	return nil
}

func groupRecords(configs []swarm.Config) map[string][]swarm.Config {
	groups := map[string][]swarm.Config{}
	for _, c := range configs {
		stack := c.Spec.Labels[labelStack]
		groups[stack] = append(groups[stack], c)
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
	slices.SortFunc(list, func(a, b *Release) int { return cmp.Compare(a.Number, b.Number) })
	return list
}

// releases returns a stack's releases, oldest first.
func (m *memory) releases(ctx context.Context, stack string) ([]*Release, error) {
	m.mu.Lock()
	known, ok := m.stacks[stack]
	ok = ok || m.whole && !m.stale[stack]
	m.mu.Unlock()
	if ok {
		return known, nil
	}
	configs, err := m.swarm.ConfigList(ctx, swarm.ConfigListOptions{Filters: filters.NewArgs(
		filters.Arg("label", labelKind+"="+kindRelease),
		filters.Arg("label", labelStack+"="+stack),
	)})
	if err != nil {
		return nil, fmt.Errorf("list the releases of stack %s: %w", stack, err)
	}
	list := parseReleases(configs)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stacks[stack] = list
	delete(m.stale, stack)
	m.reads[stack]++
	return list, nil
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
	if stack == "" {
		clear(m.stacks)
		m.whole = false
		return
	}
	delete(m.stacks, stack)
	m.stale[stack] = true
}

// parseRelease reads a record. Damage must not keep its stack from being
// reconciled: without a number it is passed over, and where only the data is
// damaged the labels still count (what failed stays failed).
func parseRelease(c *swarm.Config) *Release {
	l := c.Spec.Labels
	n, err := strconv.Atoi(l[labelRelease])
	if err != nil || n < 0 {
		return nil
	}
	data, err := unpack(c.Spec.Data)
	if err != nil {
		data = &record{Desired: &Desired{}}
	}
	r := &Release{
		Number: n, Digest: l[labelDigest], Source: l[labelSource], Revision: l[labelRevision], Subject: l[labelSubject],
		Phase: Phase(l[labelPhase]), Reason: l[labelReason], Message: l[labelMessage],
		id: c.ID, version: c.Version, owner: l[LabelOwner], index: indexOf(data),
	}
	r.Started, _ = time.Parse(time.RFC3339Nano, l[labelStarted])
	r.Ended, _ = time.Parse(time.RFC3339Nano, l[labelEnded])
	r.index.corrected = parseMarks(l[labelCorrect])
	return r
}

func (r *Release) labels(owner, stack string) map[string]string {
	l := map[string]string{
		labelKind: kindRelease, LabelOwner: owner, labelStack: stack, labelRelease: strconv.Itoa(r.Number),
		labelDigest: r.Digest, labelSource: r.Source, labelRevision: r.Revision, labelPhase: string(r.Phase),
		labelStarted: r.Started.UTC().Format(time.RFC3339Nano),
	}
	set := func(key, value string) {
		if value != "" {
			l[key] = value
		}
	}
	set(labelSubject, clip(r.Subject, maxMessage))
	set(labelReason, r.Reason)
	set(labelMessage, clip(r.Message, maxMessage))
	set(labelCorrect, formatMarks(r.index.corrected))
	if !r.Ended.IsZero() {
		l[labelEnded] = r.Ended.UTC().Format(time.RFC3339Nano)
	}
	return l
}

// since is when the release came into its phase.
func (r *Release) since() time.Time {
	if r.Ended.IsZero() {
		return r.Started
	}
	return r.Ended
}

func clip(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

// create writes a new release. A clash of names means that somebody else made
// that release first: an error, after which the memory is read again.
func (m *memory) create(ctx context.Context, stack string, r *Release, data *record) error {
	packed, err := pack(data)
	if err != nil {
		return fmt.Errorf("record release %d of stack %s: %w", r.Number, stack, err)
	}
	defer m.forget(stack)
	_, err = m.swarm.ConfigCreate(ctx, swarm.ConfigSpec{
		Annotations: swarm.Annotations{Name: recordName(stack, r.Number), Labels: r.labels(m.owner, stack)},
		Data:        packed,
	})
	if err != nil {
		return fmt.Errorf("record release %d of stack %s: %w", r.Number, stack, err)
	}
	return nil
}

// update writes a release's labels, by compare-and-set.
func (m *memory) update(ctx context.Context, stack string, r *Release) error {
	defer m.forget(stack)
	spec := swarm.ConfigSpec{Annotations: swarm.Annotations{Name: recordName(stack, r.Number), Labels: r.labels(m.owner, stack)}}
	if err := m.swarm.ConfigUpdate(ctx, r.id, r.version, spec); err != nil {
		return fmt.Errorf("record release %d of stack %s as %s: %w", r.Number, stack, r.Phase, err)
	}
	return nil
}

// trim removes the oldest releases beyond the number that is kept, but never the
// newest healthy one.
func (m *memory) trim(ctx context.Context, stack string, releases []*Release) error {
	healthy := newest(releases, PhaseHealthy)
	for len(releases) > m.keep {
		old := releases[0]
		releases = releases[1:]
		if old == healthy {
			continue
		}
		m.forget(stack)
		if err := m.swarm.ConfigRemove(ctx, old.id); err != nil && !isNotFound(err) {
			return fmt.Errorf("remove the record of release %d of stack %s: %w", old.Number, stack, err)
		}
	}
	return nil
}

// removeAll forgets a stack for good.
func (m *memory) removeAll(ctx context.Context, stack string, releases []*Release) error {
	defer m.forget(stack)
	for _, r := range releases {
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
	data, err := unpack(c.Spec.Data)
	if err != nil {
		return nil, fmt.Errorf("read the record of release %d: %w", r.Number, err)
	}
	return data.Desired, nil
}

func recordName(stack string, n int) string {
	tail := "-" + strconv.Itoa(n)
	room := maxObjectName - len(recordPrefix) - len(tail)
	if len(stack) > room {
		sum := sha256.Sum256([]byte(stack))
		digits := hex.EncodeToString(sum[:])[:hashDigits]
		stack = shorten(stack, room-hashDigits-1) + "." + digits
	}
	return recordPrefix + stack + tail
}

// stackOfRecord is recordName's way back: "" where the name is shortened or no
// record's.
func stackOfRecord(name string) string {
	rest, ok := strings.CutPrefix(name, recordPrefix)
	if !ok {
		return ""
	}
	i := strings.LastIndexByte(rest, '-')
	if i < 0 || len(name) == maxObjectName {
		return ""
	}
	return rest[:i]
}

func pack(r *record) ([]byte, error) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	err := json.NewEncoder(z).Encode(r)
	if cerr := z.Close(); err == nil {
		err = cerr
	}
	switch {
	case err != nil:
		return nil, err
	case b.Len() > maxRecord:
		return nil, fmt.Errorf("the stack is too large: its record has %d bytes, %d are allowed (split it into several stacks)", b.Len(), maxRecord)
	}
	return b.Bytes(), nil
}

// unpack reads what pack wrote, or a hostile text in its place: bounded.
func unpack(data []byte) (*record, error) {
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(z, maxUnpacked+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxUnpacked {
		return nil, fmt.Errorf("the record unpacks to more than %d bytes", maxUnpacked)
	}
	var r record
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, err
	}
	if r.Format != 1 || r.Desired == nil {
		return nil, fmt.Errorf("unknown record format %d (written by a newer skep?)", r.Format)
	}
	return &r, nil
}

// secretKey returns the Swarm's key for hashes over secrets. With make it is
// created where there is none yet, else nil comes back.
func (m *memory) secretKey(ctx context.Context, mayCreate bool) ([]byte, error) {
	m.mu.Lock()
	key := m.key
	m.mu.Unlock()
	if key != nil {
		return key, nil
	}
	key, err := m.readKey(ctx)
	if err == nil && key == nil && mayCreate {
		key, err = m.makeKey(ctx)
	}
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	m.key = key
	m.mu.Unlock()
	return key, nil
}

func (m *memory) readKey(ctx context.Context) ([]byte, error) {
	configs, err := m.swarm.ConfigList(ctx, swarm.ConfigListOptions{Filters: filters.NewArgs(filters.Arg("name", keyName))})
	if err != nil {
		return nil, fmt.Errorf("read config %s: %w", keyName, err)
	}
	for i := range configs {
		if configs[i].Spec.Name == keyName && len(configs[i].Spec.Data) >= 32 { // the filter matches prefixes
			return configs[i].Spec.Data, nil
		}
	}
	return nil, nil
}

// makeKey creates the key; of two controllers that do so at once one is refused,
// and both read what the other one made.
func (m *memory) makeKey(ctx context.Context) ([]byte, error) {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	_, err := m.swarm.ConfigCreate(ctx, swarm.ConfigSpec{
		Annotations: swarm.Annotations{Name: keyName, Labels: map[string]string{labelKind: kindKey}},
		Data:        key,
	})
	if err != nil && !isConflict(err) {
		return nil, fmt.Errorf("create config %s: %w", keyName, err)
	}
	key, err = m.readKey(ctx)
	if err == nil && key == nil {
		err = fmt.Errorf("read config %s: it has no key in it (remove it, and skep makes a new one)", keyName)
	}
	return key, err
}

// newest returns the newest release in a phase, or nil.
func newest(releases []*Release, phase Phase) *Release {
	for _, r := range slices.Backward(releases) {
		if r.Phase == phase {
			return r
		}
	}
	return nil
}

// A mark tells two update statuses of a service apart without trusting clocks:
// it is the engine's own time of when the update began.
func mark(s *swarm.Service) string {
	if s == nil || s.UpdateStatus == nil || s.UpdateStatus.StartedAt == nil {
		return "-"
	}
	return strconv.FormatInt(s.UpdateStatus.StartedAt.UnixNano(), 36)
}

func formatMarks(marks map[string]string) string {
	var parts []string
	for name, m := range marks {
		parts = append(parts, name+"@"+m)
	}
	slices.Sort(parts)
	return strings.Join(parts, ",")
}

func parseMarks(text string) map[string]string {
	marks := map[string]string{}
	for part := range strings.SplitSeq(text, ",") {
		if name, m, ok := strings.Cut(part, "@"); ok {
			marks[name] = m
		}
	}
	return marks
}
