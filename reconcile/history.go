package reconcile

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"
)

// ErrRefused is an answer that is no: what was asked for does not go, and the error
// says why and what does.
var ErrRefused = errors.New("refused")

// refuse is an error that is ErrRefused and says only what format does.
func refuse(format string, args ...any) error { return &refused{fmt.Sprintf(format, args...)} }

type refused struct{ why string }

func (r *refused) Error() string        { return r.why }
func (r *refused) Is(target error) bool { return target == ErrRefused }

// A HistoryEntry is a release as a stack's history tells it. Its JSON is stable:
// fields are added, never renamed.
type HistoryEntry struct {
	Number   int    `json:"number"`
	Digest   string `json:"digest"`
	Revision string `json:"revision"` // the commit, or a hash over the files
	Subject  string `json:"subject,omitempty"`
	// Followed says what the release was followed to: "followed nginx 1.27.2 → 1.27.3".
	Followed []string  `json:"followed,omitempty"`
	Phase    Phase     `json:"phase"`
	Reason   string    `json:"reason,omitempty"`
	Message  string    `json:"message,omitempty"`
	Started  time.Time `json:"started"`
	Ended    time.Time `json:"ended,omitzero"`
	// Seconds is how long it took until it was healthy or failed; so far, where it is
	// still under way.
	Seconds float64 `json:"seconds"`
	// By is "file", or "hand" where somebody asked for release Of again.
	By string `json:"by"`
	Of *int   `json:"of,omitempty"`
	// Running says that the stack is as this release was, or on its way there.
	Running bool `json:"running"`
	// Pinned says that somebody asked for the stack to stay so.
	Pinned bool `json:"pinned"`
	// Untried says that nothing of it was ever written: it had failed before.
	Untried bool `json:"untried,omitempty"`
	// Damaged says that its record cannot be read: no way leads back to it.
	Damaged bool `json:"damaged,omitempty"`
}

// A History is what is remembered of a stack.
type History struct {
	Stack    string         `json:"stack"`
	State    State          `json:"state"`
	Releases []HistoryEntry `json:"releases"` // newest first
}

// History tells a stack's releases and what people ask of it. It is ErrRefused for a
// stack that has neither.
func (r *Reconciler) History(ctx context.Context, stack string) (*History, error) {
	releases, state, err := r.memory.read(ctx, stack)
	if err != nil {
		return nil, err
	}
	if len(releases) == 0 {
		return nil, r.noReleases(ctx, stack)
	}
	h := &History{Stack: stack, State: state}
	for _, rel := range slices.Backward(releases) {
		h.Releases = append(h.Releases, entryOf(rel, releases, state, r.o.Now()))
	}
	return h, nil
}

func entryOf(rel *Release, releases []*Release, state State, now time.Time) HistoryEntry {
	e := HistoryEntry{
		Number: rel.Number, Digest: rel.Digest, Revision: rel.Revision, Subject: rel.Subject,
		Phase: rel.Phase, Reason: rel.Reason, Message: rel.Message,
		Followed: rel.index.follow.words(),
		Started:  rel.Started, Ended: rel.Ended, By: cmp.Or(rel.By, ByFile), Damaged: rel.damaged, Untried: rel.index.untried,
	}
	runs := inForce(releases)
	e.Running = rel == runs
	if state.IsPinned() { // to what runs, once it does
		e.Pinned = e.Running && runs.repeats(state.Pin) || rel.Number == state.Pin && !runs.repeats(state.Pin)
	}
	if rel.By == ByHand {
		e.Of = new(rel.Of)
	}
	end := rel.Ended
	if end.IsZero() {
		end = now
	}
	e.Seconds = end.Sub(rel.Started).Round(time.Millisecond).Seconds()
	return e
}

// repeats says that a release is n, or n again.
func (r *Release) repeats(n int) bool {
	return r != nil && (r.Number == n || r.By == ByHand && r.Of == n)
}

// inForce is the release that the stack is as, or on its way to: the newest, or the
// newest healthy one where that failed and was left as a whole; one that was never tried
// changed nothing. It is nil where that is none.
func inForce(releases []*Release) *Release {
	if len(releases) == 0 {
		return nil
	}
	last := releases[len(releases)-1]
	if last.index.untried && !last.index.back && len(last.index.corrected) == 0 { // it left all as it was
		return inForce(releases[:len(releases)-1])
	}
	if last.Phase == PhaseFailed && len(last.index.reverts) == 0 && (last.index.back || len(last.index.corrected) > 0) {
		return newest(releases, PhaseHealthy)
	}
	return last
}

// noReleases says why a stack has no history.
func (r *Reconciler) noReleases(ctx context.Context, stack string) error {
	live, err := r.observer.get(ctx, stack, 0)
	switch {
	case err != nil:
		return err
	case len(live.Stack(stack)) > 0:
		return refuse("stack %s lives, but skep has not released it (put its file among the stacks, and skep takes it over)", stack)
	}
	return refuse("no stack %q that skep knows (`skep status` lists those there are)", stack)
}

// A Comparison is what a release changed.
type Comparison struct {
	Release HistoryEntry
	Against *int // the number of the release before it that is remembered; nil: none
	Plan    *Plan
}

// Compare tells what release n of a stack changed: its differences to the release
// before it, as a plan tells them, what looks secret masked. Where none before it is
// remembered all of it is new. It is ErrRefused where there is no such release.
func (r *Reconciler) Compare(ctx context.Context, stack string, n int) (*Comparison, error) {
	releases, state, err := r.memory.read(ctx, stack)
	if err != nil {
		return nil, err
	}
	if len(releases) == 0 {
		return nil, r.noReleases(ctx, stack)
	}
	rel, err := numbered(stack, releases, n)
	if err != nil {
		return nil, err
	}
	if rel.damaged {
		return nil, refuse("the record of release %d of stack %s is damaged: what was in it is lost", n, stack)
	}
	after, err := r.memory.load(ctx, rel)
	if err != nil {
		return nil, err
	}
	c := &Comparison{Release: entryOf(rel, releases, state, r.o.Now())}
	before := &Desired{Stack: stack}
	if prev := previous(releases, n); prev != nil {
		if before, err = r.memory.load(ctx, prev); err != nil {
			return nil, err
		}
		c.Against = new(prev.Number)
	}
	c.Plan = changesBetween(before, after)
	return c, nil
}

// Waves tells in which wave of the release that is in force each service of a stack was
// written, by the services' names; nothing where no release tells. Swarm itself does not
// know, so Status does not either.
func (r *Reconciler) Waves(ctx context.Context, stack string) (map[string]int, error) {
	releases, _, err := r.memory.read(ctx, stack)
	if err != nil {
		return nil, err
	}
	rel := inForce(releases)
	if rel == nil || rel.damaged {
		return nil, nil
	}
	d, err := r.memory.load(ctx, rel)
	if err != nil {
		return nil, err
	}
	waves := map[string]int{}
	for i := range d.Services {
		waves[d.Services[i].Name] = d.Services[i].Wave
	}
	return waves, nil
}

// numbered is a stack's release n, or ErrRefused with those there are.
func numbered(stack string, releases []*Release, n int) (*Release, error) {
	for _, rel := range releases {
		if rel.Number == n {
			return rel, nil
		}
	}
	return nil, refuse("stack %s has no release %d: releases %d to %d are remembered (`skep history %s` shows them; run --history N keeps more)",
		stack, n, releases[0].Number, releases[len(releases)-1].Number, stack)
}

// previous is the newest release before n whose record can be read, or nil.
func previous(releases []*Release, n int) *Release {
	for _, rel := range slices.Backward(releases) {
		if rel.Number < n && !rel.damaged {
			return rel
		}
	}
	return nil
}

// changesBetween tells the differences of two recorded stacks as a plan from one to
// the other would: with the eyes of Diff for services, and by name for what has its
// content's hash in it. It asks no engine, so nothing stands in the plan's way.
func changesBetween(before, after *Desired) *Plan {
	live := asLive(before)
	p := &planner{desired: after, live: live, lookup: live.lookUp(), lacks: lacksOf("")}
	plan := &Plan{Stack: after.Stack}
	plan.Changes = append(plan.Changes, networksBetween(before.Networks, after.Networks)...)
	plan.Changes = append(plan.Changes, objectsBetween(KindConfig, before.Configs, after.Configs)...)
	plan.Changes = append(plan.Changes, objectsBetween(KindSecret, before.Secrets, after.Secrets)...)
	for i := range after.Services {
		ds := &after.Services[i]
		if c := p.changeOf(ds, live.Services[ds.Name]); c != nil {
			plan.Changes = append(plan.Changes, *c)
		}
	}
	slices.SortStableFunc(plan.Changes, func(a, b Change) int { return a.Wave - b.Wave })
	plan.Changes = append(plan.Changes, removedBetween(before, after)...)
	return plan
}

// asLive is a Swarm in which a recorded stack's services live, and its networks.
func asLive(d *Desired) *Live {
	l := &Live{Services: map[string]*swarm.Service{}, Networks: map[string]*LiveNetwork{}}
	for i := range d.Services {
		l.Services[d.Services[i].Name] = &swarm.Service{ID: d.Services[i].Name, Spec: *cloneSpec(&d.Services[i].Spec)}
	}
	for i := range d.Networks {
		n := &d.Networks[i]
		l.Networks[n.Name] = &LiveNetwork{ID: n.Name, Name: n.Name, Scope: scopeSwarm, Labels: n.Create.Labels, CreateOptions: n.Create}
	}
	return l
}

func networksBetween(before, after []DesiredNetwork) []Change {
	var changes []Change
	for i := range after {
		n := &after[i]
		at := slices.IndexFunc(before, func(o DesiredNetwork) bool { return o.Name == n.Name })
		switch {
		case n.External:
		case at < 0:
			changes = append(changes, Change{Op: OpCreate, Kind: KindNetwork, Name: n.Name, Key: n.Key})
		default:
			if fields := networkFields(&before[at].Create, &n.Create); len(fields) > 0 {
				changes = append(changes, Change{Op: OpUpdate, Kind: KindNetwork, Name: n.Name, Key: n.Key, Fields: fields})
			}
		}
	}
	return changes
}

// networkFields tells how a network was asked for differently. (An engine cannot
// change one, so that it may live on as it was.)
func networkFields(before, after *network.CreateOptions) []Field {
	var fields []Field
	for _, path := range networkDifferences(after, before) {
		fields = append(fields, tellApart(Field{Path: path, Old: showNetwork(path, before), New: showNetwork(path, after)}))
	}
	return fields
}

func showNetwork(path string, n *network.CreateOptions) string {
	switch path {
	case "driver":
		return n.Driver
	case "internal":
		return fmt.Sprint(n.Internal)
	case "attachable":
		return fmt.Sprint(n.Attachable)
	case "enable_ipv6":
		return fmt.Sprint(value(n.EnableIPv6, false))
	case "ipam":
		return maskText(asJSON(n.IPAM)) // its driver has options too
	}
	return maskText(asJSON(n.Options))
}

func asJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil || string(b) == "null" {
		return ""
	}
	return string(b)
}

func objectsBetween(kind Kind, before, after []DesiredObject) []Change {
	var changes []Change
	for i := range after {
		o := &after[i]
		at := slices.IndexFunc(before, func(b DesiredObject) bool { return b.Name == o.Name })
		switch {
		case o.External:
		case at < 0:
			changes = append(changes, Change{Op: OpCreate, Kind: kind, Name: o.Name, Key: o.Key})
		case !sameLabels(o.Labels, before[at].Labels):
			changes = append(changes, Change{Op: OpUpdate, Kind: kind, Name: o.Name, Key: o.Key, Fields: labelFields(o.Labels, before[at].Labels)})
		}
	}
	return changes
}

func removedBetween(before, after *Desired) []Change {
	var changes []Change
	stays := (&planner{desired: after}).wanted()
	gone := func(kind Kind, name, key string, external bool) {
		if !external && !stays[Ref{kind, name}] {
			changes = append(changes, Change{Op: OpRemove, Kind: kind, Name: name, Key: key})
		}
	}
	for i := range before.Services {
		gone(KindService, before.Services[i].Name, before.Services[i].Key, false)
	}
	for _, o := range before.Configs {
		gone(KindConfig, o.Name, o.Key, o.External)
	}
	for _, o := range before.Secrets {
		gone(KindSecret, o.Name, o.Key, o.External)
	}
	for i := range before.Networks {
		gone(KindNetwork, before.Networks[i].Name, before.Networks[i].Key, before.Networks[i].External)
	}
	return changes
}

// meant says of a release that did not come to its end that its changes are what it was
// to write, and need not have been written.
func meant(e *HistoryEntry) string {
	switch {
	case e.Untried:
		return " (what its file asks for; none of it was written)"
	case e.Phase == PhaseFailed, e.Phase == PhaseSuperseded:
		return " (what it set out to write; it may not have come to all of it)"
	}
	return ""
}

// RenderComparison writes a comparison for people, as RenderPlan does a plan.
func RenderComparison(w io.Writer, color bool, c *Comparison) error {
	return Rendering{Color: color}.Comparison(w, c)
}

// Comparison is RenderComparison.
func (o Rendering) Comparison(w io.Writer, c *Comparison) error {
	r := &renderer{Rendering: o}
	switch against := "nothing (no release before it is remembered)"; {
	case c.Plan.Empty() && c.Against != nil:
		r.line("release %d of stack %s is the same as release %d", c.Release.Number, c.Plan.Stack, *c.Against)
	default:
		if c.Against != nil {
			against = fmt.Sprintf("release %d", *c.Against)
		}
		r.line("%s", r.paint(bold, fmt.Sprintf("release %d of stack %s against %s", c.Release.Number, c.Plan.Stack, against))+meant(&c.Release))
	}
	for i := range c.Plan.Changes {
		r.change(&c.Plan.Changes[i])
	}
	_, err := io.WriteString(w, r.b.String())
	return err
}
