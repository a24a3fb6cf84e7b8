package reconcile

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"github.com/skep-io/skep/spec"
)

// Options of a Reconciler.
type Options struct {
	Swarm       Swarm
	Credentials Credentials // nil: none
	Owner       string      // default "skep"
	History     int         // releases kept a stack, default 10
	PruneStacks bool        // remove a stack whose file is gone
	Confirmed   []string    // IDs of removals that are confirmed (see Blockade)
	// Policy gives the operator's policy that is in force, nil where there is none. It
	// may be another one each time; nil: there never is any.
	Policy func() *spec.ClusterPolicy
	// AllowHostRoot allows stacks what opens a whole node, where there is no policy.
	AllowHostRoot bool
	Now           func() time.Time
	// Uptime is the time that passed since any moment, which nobody sets; by default it
	// is taken from Now, which for time.Now is as good.
	Uptime func() time.Duration
}

// A Reconciler makes passes over stacks of one Swarm. It may be used from many
// goroutines, but only from one at a time for the same stack.
type Reconciler struct {
	o        Options
	time     *timekeeper
	observer *observer
	memory   *memory
	images   *imageResolver
	seen     *sightings

	mu     sync.Mutex
	stacks map[string]*stackState
}

// stackState is what the process keeps of a stack between passes: nothing that
// could not be found out again.
type stackState struct {
	settled    *settled
	conflicts  int       // in a row
	busy       bool      // something was under way when it was last looked at
	file       string    // the stack's fingerprint when it was last looked at
	pinned     time.Time // since when it was pinned then
	waited     bool      // it has the same file since before it was pinned
	carriedOn  bool      // the last pass might have written what was to be
	digest     string
	digestOf   *spec.Stack // that digest is of, with that key
	digestKey  []byte
	last       Result
	lastStack  *spec.Stack
	conditions []Condition
	told       string             // the hold that was told last
	failure    int                // the release of which it was told why it failed
	backFrom   int                // the release that was gone back from
	sick       string             // the services that were told to be Degraded, though nothing is to be done
	lastWrites map[string]string  // service → the fields last written, until they were seen to stick
	refused    map[string]refusal // removals (by ID) that the engine refused: in use
	findings   []spec.Finding     // of the images of a release
	findingsOf string             // its digest
	broken     brokenBake         // the bake of the newest release
	images     imageFault         // that kept a release from beginning
	follows    followCache        // what was made of what is followed
}

// settled is a pass that found nothing to do, and what it looked at: as long as
// that is the same, so is the result.
type settled struct {
	stack   *spec.Stack
	stamp   uint64
	reading int
	blocked string
	policy  *spec.ClusterPolicy
	found   map[string]Found
	result  Result
}

// New makes a Reconciler.
func New(o Options) *Reconciler {
	if o.Owner == "" {
		o.Owner = "skep"
	}
	if o.History <= 0 {
		o.History = 10
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	k := newTimekeeper(o.Now, o.Uptime)
	return &Reconciler{
		o:        o,
		time:     k,
		observer: newObserver(o.Swarm, o.Now, k.steady),
		memory:   newMemory(o.Swarm, o.Owner, o.History, k.steady),
		images:   &imageResolver{swarm: o.Swarm, creds: o.Credentials, now: k.steady},
		seen:     newSightings(),
		stacks:   map[string]*stackState{},
	}
}

// Refresh lists the Swarm anew and returns the names of the stacks whose objects
// are not as they were, or of which somebody else wrote what is remembered or asked;
// after the first listing that is all of them.
func (r *Reconciler) Refresh(ctx context.Context) (changed []string, err error) {
	written, err := r.memory.readAll(ctx)
	if err != nil {
		return nil, err
	}
	changed, everything, err := r.observer.refresh(ctx)
	if err != nil {
		return nil, err
	}
	r.seen.only(r.observer.newest())
	names := map[string]bool{}
	for _, name := range slices.Concat(changed, written) {
		names[name] = true
	}
	if !everything {
		return sortedKeys(names), nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for name := range r.stacks { // one may wait for what it has nothing of yet
		names[name] = true
	}
	return sortedKeys(names), nil
}

// Noticed tells of a config that the engine says was created, changed or removed:
// where it is a release record or a state, the next pass reads its stack's again.
// With "" all are read again, as after a gap in the events.
func (r *Reconciler) Noticed(config string) {
	if config == "" {
		r.memory.forget("")
		return
	}
	r.memory.noticed(config)
}

// Stacks returns the names of the stacks that have live objects or releases of this
// owner, sorted; by the newest Refresh.
func (r *Reconciler) Stacks() []string {
	names := map[string]bool{}
	if l := r.observer.newest(); l != nil {
		for name, x := range l.stacks {
			if slices.ContainsFunc(x.refs, func(ref Ref) bool { return l.labels(ref)[LabelOwner] == r.o.Owner }) {
				names[name] = true
			}
		}
	}
	r.memory.known(func(stack string) { names[stack] = true })
	return sortedKeys(names)
}

// A pass is one look at one stack.
type pass struct {
	stack    *spec.Stack
	live     *Live
	releases []*Release
	state    State // what people ask of the stack
	key      []byte
	found    map[string]Found
	follow   following
	digest   string   // the file's or, of a stack that is pinned, that release's
	source   string   // the file's fingerprint, keyed where secrets went into it
	pinned   *Release // what the stack is pinned to
	pinEnds  bool     // the file has changed since it was pinned
	pinMoves bool     // the file is not that of the newest release, and was not when it was pinned
	failed   *Release // that quarantines the digest
	waiting  string   // why the file waits, where the newest release goes on in its place
	whole    bool     // the newest release is of another digest, under way, and lives as it says
	desired  *Desired // what plan leads to
	back     bool     // which is a release as recorded
	plan     *Plan
	health   map[string]ServiceHealth
	missing  []spec.Finding // what tasks found missing on their nodes
	images   []spec.Finding // of the images of a new release
	// fileWaited says that the file was there, unreleased, before the stack was pinned.
	fileWaited bool
	guard      Guard          // what the stack may ask for
	resolved   bool           // images are as they will be written
	added      func(Ref) bool // what came with the failed release that is taken back
	stale      string         // its source is older than what staleTo was made of
	staleTo    *Release
	closely    bool          // look at the tasks of every service
	retry      time.Duration // when a removal that was refused may be tried again; 0: there is none
}

// Reconcile makes one pass over one stack: observe, decide, at most one act,
// record. It never blocks on a rollout; Result.Requeue says when to come again.
func (r *Reconciler) Reconcile(ctx context.Context, in Input) Result {
	st := r.state(in.Name)
	if in.Stack == nil {
		res := r.finish(st, r.orphan(ctx, in))
		if res.Reason == reasonGone || res.Reason == reasonPruned {
			r.mu.Lock()
			delete(r.stacks, in.Name)
			r.mu.Unlock()
		}
		return res
	}
	if gap := r.observer.tooSoon(in.Name); gap > 0 && st.busy && st.lastStack == in.Stack && in.Source == nil {
		res := quiet(st.last)
		res.Outcome, res.Requeue = Waiting, gap
		return res
	}
	p, same, err := r.look(ctx, in, st)
	if err != nil {
		return r.finish(st, failure(in.Name, err))
	}
	if same != nil {
		return *same
	}
	if err := p.checkSource(in.Source, r.o.Owner); err != nil {
		return r.finish(st, failure(in.Name, err))
	}
	forgetWhatStuck(st, p.plan)
	s := r.situation(p, in.Blocked)
	s.Away, s.Broken = !st.carriedOn, r.broken(st, p)
	d := Decide(s)
	st.carriedOn = d.Act != ActHold
	res := r.act(ctx, p, st, d)
	r.describe(&res, p, st, d)
	res = r.noteBlockade(ctx, p, res)
	res = r.finish(st, res)
	res.Current = in.Source != nil && p.stale == ""
	st.last, st.lastStack = res, in.Stack
	if res.Err == nil && res.Requeue == 0 && p.stale == "" && !blocks(p.plan.Findings) { // what is in the way may be another stack's, and go
		st.settled = &settled{in.Stack, p.live.stampOf(in.Name), r.memory.reading(in.Name), in.Blocked, p.guard.Policy, in.Found, quiet(res)}
	}
	return res
}

// A brokenBake says when, by the clock that nobody sets, a release that bakes was last seen not
// to be whole.
type brokenBake struct {
	release int
	at      time.Time
}

// broken is Situation.Broken.
func (r *Reconciler) broken(st *stackState, p *pass) time.Time {
	rel := last(p.releases)
	if rel == nil || rel.Phase != PhaseProgressing || rel.Converged.IsZero() {
		return time.Time{}
	}
	now := r.time.steady()
	if !converged(p.health, rel.index.changed) {
		st.broken = brokenBake{rel.Number, now}
	}
	if st.broken.release != rel.Number || st.broken.at.IsZero() {
		return time.Time{}
	}
	return r.o.Now().Add(st.broken.at.Sub(now))
}

// quiet is a result as it is told when it is told again: nothing happened.
func quiet(res Result) Result {
	res.Transitions, res.Written = nil, nil
	return res
}

func (r *Reconciler) state(stack string) *stackState {
	r.mu.Lock()
	defer r.mu.Unlock()
	st := r.stacks[stack]
	if st == nil {
		st = &stackState{lastWrites: map[string]string{}, refused: map[string]refusal{}}
		r.stacks[stack] = st
	}
	return st
}

// look gathers what a pass needs. Where nothing is different from the last pass,
// which found nothing to do, it returns that pass's result instead.
func (r *Reconciler) look(ctx context.Context, in Input, st *stackState) (*pass, *Result, error) {
	r.observer.want(in.Stack)
	var maxAge time.Duration
	if st.busy {
		maxAge = again * 9 / 10
	}
	live, err := r.observer.get(ctx, in.Name, maxAge)
	if err != nil {
		return nil, nil, err
	}
	releases, state, err := r.memory.read(ctx, in.Name)
	if err != nil {
		return nil, nil, err
	}
	if s := st.settled; s != nil && s.stack == in.Stack && s.stamp == live.stampOf(in.Name) &&
		s.reading == r.memory.reading(in.Name) && s.blocked == in.Blocked && s.policy == r.guard().Policy && sameFound(s.found, in.Found) && in.Source == nil {
		return nil, &s.result, nil
	}
	st.settled = nil
	p := &pass{stack: in.Stack, found: in.Found, live: live, releases: r.time.rebase(releases), state: state, fileWaited: st.fileWaited(in.Stack.Source.Fingerprint, state), guard: r.guard()}
	if err := r.bind(ctx, p, true); err != nil {
		return nil, nil, err
	}
	if err := r.goOn(ctx, p, orElse(in.Blocked, st.images.why(p.digest, r.time.steady()))); err != nil {
		return nil, nil, err
	}
	p.releases = answering(p.releases, p.desired.Services)
	if p.whole, err = r.livesUnseen(ctx, p); err != nil {
		return nil, nil, err
	}
	p.plan, p.retry = withoutRefused(p.plan, st.refused, r.time.steady())
	p.plan.Findings = ofFile(p.plan.Findings, p.stack)
	if p.health, err = r.judge(ctx, p); err == nil {
		p.plan = p.standing(p.plan, func(ls *swarm.Service, h ServiceHealth) bool {
			return stoppedByOthers(h) || p.stillToStart(ls, h)
		})
	}
	return p, nil, err
}

// fileWaited says that a stack has had the same file since before it was pinned, as far
// as this process saw.
func (st *stackState) fileWaited(file string, now State) bool {
	st.waited = st.file == file && (st.waited || !st.pinned.Equal(now.Pinned))
	st.file, st.pinned = file, now.Pinned
	return st.waited
}

// digest is Digest, worked out once for a stack as it was loaded.
func (r *Reconciler) digest(stack *spec.Stack, key []byte) string {
	st := r.state(stack.Name)
	if st.digestOf != stack || !bytes.Equal(st.digestKey, key) {
		st.digest, st.digestOf, st.digestKey = Digest(stack, key), stack, key
	}
	return st.digest
}

// keyedHash hides a fingerprint, into which secrets' files went, from those who would
// guess them: it is written into a record. Without a key no secret went in.
func keyedHash(key []byte, fingerprint string) string {
	if key == nil {
		return fingerprint
	}
	h := hmac.New(sha256.New, key)
	h.Write([]byte(fingerprint))
	return "hmac:" + hex.EncodeToString(h.Sum(nil))
}

// pin asks for the digests that a new release begins with, and plans with them. What
// there is to say of the images goes into p.images.
func (r *Reconciler) pin(ctx context.Context, p *pass) map[string]Pin {
	pins, findings := r.images.pins(ctx, p.stack, currentPins(p), touched(p), p.live)
	p.desired = Bind(p.stack, Binding{Key: p.key, Live: p.live, Believed: believed(p.releases), Pins: pins})
	p.resolved = true
	p.plan = r.diff(p)
	p.images = p.grade(findings)
	if blocks(p.images) {
		p.plan.hold()
	}
	return pins
}

// touched names the services that the plan writes anyway: none where the file is
// as it was in an earlier release, whose digests then are meant.
func touched(p *pass) map[string]bool {
	names := map[string]bool{}
	if slices.ContainsFunc(p.releases, func(rel *Release) bool { return rel.Digest == p.digest }) {
		return names
	}
	for _, c := range p.plan.Changes {
		if c.Kind == KindService {
			names[c.Name] = true
		}
	}
	return names
}

// currentPins are those of the newest release that is of the file's digest, else
// of the newest one; before the first, those of what lives.
func currentPins(p *pass) map[string]Pin {
	for _, rel := range slices.Backward(p.releases) {
		if rel.Digest == p.digest {
			return rel.index.pins
		}
	}
	if len(p.releases) > 0 {
		return p.releases[len(p.releases)-1].index.pins
	}
	pins := map[string]Pin{}
	for i := range p.stack.Services {
		s := &p.stack.Services[i]
		if l := p.live.Services[s.Name]; keepsLive(l, writtenImage(s)) {
			pins[s.Name] = livePin(l, writtenImage(s))
		}
	}
	return pins
}

// believed gathers the adopted secrets of all releases, newer ones over older.
func believed(releases []*Release) map[string]string {
	b := map[string]string{}
	for _, rel := range releases {
		for name, hash := range rel.index.believed {
			b[name] = hash
		}
	}
	return b
}

func (r *Reconciler) diff(p *pass) *Plan {
	plan := Diff(p.desired, p.live, DiffOptions{
		Owner:    r.o.Owner,
		Ignore:   p.stack.Policy.Ignore,
		Prune:    p.stack.Policy.Prune,
		Owned:    r.owned(p.live, p.releases),
		Retained: retained(p.releases),
		Added:    p.added,
	})
	plan.Findings = append(p.grade(append(plan.Findings, r.claims(p)...)), p.refusals(plan)...)
	if blocks(plan.Findings) {
		plan.hold()
	}
	return plan
}

// guard is what stacks may ask for just now.
func (r *Reconciler) guard() Guard {
	g := Guard{AllowHostRoot: r.o.AllowHostRoot}
	if r.o.Policy != nil {
		g.Policy = r.o.Policy()
	}
	return g
}

// refusals are what the plan's way leads to and may not. No file can set them lower, so
// they are not graded. Of a release that has not begun the registry was not asked yet
// for what its images are.
func (p *pass) refusals(plan *Plan) []spec.Finding {
	pinned := p.resolved || !p.beginning() || p.stack.Policy.Images == spec.ImagesAsWritten
	guard := p.guard
	if p.failed == nil && p.pinned == nil { // else the way leads to what a record has
		guard.At = p.stack
	}
	return ofFile(guard.Check(p.desired, p.stack.Source.Site(), p.live, plan, pinned), p.stack)
}

// claims tells of what is not for this controller to decide: a stack that another
// one looks after is an error of both, and a secret that was made by hand cannot be
// compared with its file.
func (r *Reconciler) claims(p *pass) []spec.Finding {
	var found []spec.Finding
	if owner, by := r.otherOwner(p); owner != "" {
		found = append(found, spec.Finding{Severity: spec.Error, Code: "other-owner", Message: fmt.Sprintf(
			"stack %s belongs to the controller %q, by its %s, and this one is %q (one of them has to let go of it: --owner says who is who)", p.stack.Name, owner, by, r.o.Owner)})
	}
	found = append(found, damagedRecords(p.releases)...)
	known := believed(p.releases)
	for _, o := range p.desired.Secrets {
		if _, ok := known[o.Plain]; !ok && !o.External && o.Name == o.Plain {
			found = append(found, spec.Finding{Severity: spec.Warning, Code: "secret-believed", Message: fmt.Sprintf(
				"secret %s was made by somebody else, and an engine never tells what is in one: it is believed to be what the file says (to be sure, change the file once)", o.Name)})
		}
	}
	return found
}

// codeOtherOwner is the finding of a stack that another controller looks after.
const codeOtherOwner = "other-owner"

// otherOwner names another controller that looks after a pass's stack, and by what that
// is known: an object that lives, or what is remembered where nothing does.
func (r *Reconciler) otherOwner(p *pass) (owner, by string) {
	for _, ref := range p.live.Stack(p.stack.Name) {
		if owner := p.live.labels(ref)[LabelOwner]; owner != "" && owner != r.o.Owner {
			return owner, fmt.Sprintf("%s %s", ref.Kind, ref.Name)
		}
	}
	for _, rel := range slices.Backward(p.releases) {
		if rel.owner != "" && rel.owner != r.o.Owner {
			return rel.owner, fmt.Sprintf("release %d, which is remembered as config %s", rel.Number, recordName(p.stack.Name, rel.Number))
		}
	}
	return "", ""
}

// owned says which objects are skep's own to remove: those that carry this
// owner's label, and those that a release of this owner named (not release 0, which is
// what was found).
func (r *Reconciler) owned(live *Live, releases []*Release) func(Ref) bool {
	return func(ref Ref) bool {
		if owner := live.labels(ref)[LabelOwner]; owner != "" {
			return owner == r.o.Owner
		}
		return slices.ContainsFunc(releases, func(rel *Release) bool {
			return (rel.owner == "" || rel.owner == r.o.Owner) && (rel.Number > 0 && rel.index.objects[ref] || rel.index.left[ref])
		})
	}
}

func retained(releases []*Release) func(Ref) bool {
	return func(ref Ref) bool {
		return slices.ContainsFunc(releases, func(rel *Release) bool { return rel.index.objects[ref] })
	}
}

func (r *Reconciler) situation(p *pass, blocked string) Situation {
	s := Situation{
		Now: r.o.Now(), Policy: p.stack.Policy, Rollouts: p.rollouts(), Blocked: blocked, Stale: p.stale, StaleTo: p.staleTo,
		State: p.state, Pinned: p.pinned, PinEnds: p.pinEnds, PinMoves: p.pinMoves, Digest: p.digest, Source: p.identity(), Whole: p.whole,
		Followed: p.followedWords(), Unheard: p.unheard(),
		Releases: p.releases, Plan: p.plan, Shrinks: r.blockade(p), Back: p.back, Health: p.health, Lost: map[string]time.Time{},
	}
	if p.back { // which runs no job, and waits for none
		s.Health = maps.Clone(p.health)
		maps.DeleteFunc(s.Health, func(name string, _ ServiceHealth) bool { return isJob(&p.live.Services[name].Spec) })
	}
	for _, ref := range p.live.Stack(p.stack.Name) {
		s.Exists = s.Exists || ref.Kind == KindService
	}
	for id, n := range p.live.Nodes {
		if nodeDown(id, p.live.Nodes) {
			s.Lost[hostname(id, p.live.Nodes)] = n.UpdatedAt
		}
	}
	return s
}

// rollouts are the services' policies, by service name.
func (p *pass) rollouts() map[string]spec.Rollout {
	m := make(map[string]spec.Rollout, len(p.stack.Services))
	for i := range p.stack.Services {
		if own := p.stack.Services[i].Rollout; own != (spec.Rollout{}) {
			m[p.stack.Services[i].Name] = own
		}
	}
	return m
}

// Released says whether the newest release of a stack is of what its file says now.
func (r *Reconciler) Released(ctx context.Context, stack *spec.Stack) (bool, error) {
	releases, err := r.memory.releases(ctx, stack.Name)
	if err != nil || len(releases) == 0 {
		return false, err
	}
	key, err := r.memory.secretKey(ctx, false)
	if err != nil {
		return false, err
	}
	return releases[len(releases)-1].fileDigest() == Digest(stack, key), nil
}

// Plan tells what a pass would write, without writing. What services follow is as it is in
// force.
func (r *Reconciler) Plan(ctx context.Context, stack *spec.Stack) (*Plan, error) {
	return r.PlanFollowing(ctx, stack, nil)
}

// PlanFollowing is Plan with what registries said of what services follow, by their names.
func (r *Reconciler) PlanFollowing(ctx context.Context, stack *spec.Stack, found map[string]Found) (*Plan, error) {
	r.observer.want(stack)
	live, err := r.observer.get(ctx, stack.Name, 0)
	if err != nil {
		return nil, err
	}
	releases, state, err := r.memory.read(ctx, stack.Name)
	if err != nil {
		return nil, err
	}
	p := &pass{stack: stack, found: found, live: live, releases: releases, state: state, guard: r.guard()}
	if err := r.bind(ctx, p, false); err != nil {
		return nil, err
	}
	if n := len(releases); p.failed == nil && p.pinned == nil && !p.plan.Empty() && (n == 0 || releases[n-1].Digest != p.digest) {
		r.pin(ctx, p)
		p.plan.Findings = append(p.plan.Findings, p.images...)
	}
	if p.health, err = r.judge(ctx, p); err != nil {
		return nil, err
	}
	p.plan.Findings = append(p.plan.Findings, p.gradeTold(p.missing)...)
	p.plan.Findings = append(p.plan.Findings, p.asked()...)
	p.plan.Findings = append(p.plan.Findings, p.followFindings()...)
	p.plan.Followed = p.follow.status
	r.tellBlockade(p)
	if p.failed != nil {
		p.plan.Findings = append(p.plan.Findings, spec.Finding{File: stack.Source.File, Severity: spec.Warning, Code: "release-failed",
			Message: fmt.Sprintf("this was release %d and failed: %s (it is not tried again: change the file, or: skep resume %s)", p.failed.Number, p.failed.Message, stack.Name)})
	}
	if text := r.pending(p); text != "" {
		p.plan.Findings = append(p.plan.Findings, spec.Finding{File: stack.Source.File, Severity: spec.Warning, Code: "release-pending", Message: text})
	}
	return p.plan, nil
}

// pending tells what the next pass does that no plan has: it takes a release back that
// is at fault, or tries one again that somebody resumed. It is "" where that is nothing.
func (r *Reconciler) pending(p *pass) string {
	rel := last(p.releases)
	if rel == nil || rel.Digest != p.digest || p.state.IsSuspended() || p.stack.Policy.Suspend || blocks(p.plan.Findings) {
		return ""
	}
	if p.state.Retries(rel.Number, rel.Phase) {
		return fmt.Sprintf("this was release %d and failed, and is to be tried again%s: a running daemon does so, or: skep apply", rel.Number, sincePardon(p.state))
	}
	if rel.Phase != PhaseProgressing {
		return ""
	}
	f := objection(r.situation(p, ""), rel)
	if f == nil {
		return ""
	}
	then := "it is held, and not tried again"
	failed := *rel
	failed.Failed = f.services
	if back := goesBackTo(p.releases, rel); back != nil && !holds(p.stack.Policy.Rollout, p.rollouts(), &failed) {
		then = fmt.Sprintf("the stack goes back to release %d (%s)", back.Number, back.Revision)
	}
	return fmt.Sprintf("release %d is under way and is at fault: %s; with the next pass, of a daemon or of skep apply, it has failed: %s", rel.Number, f.message, then)
}

func failure(stack string, err error) Result {
	res := Result{Stack: stack, Outcome: Failed, Reason: "EngineError", Message: err.Error(), Err: err}
	if isConflict(err) {
		res.Outcome, res.Reason, res.Err = Waiting, "Conflict", nil
		res.Requeue = again / 4
	}
	return res
}

// patience is how many conflicts in a row are taken for somebody else's writes;
// more of them are something that stands in the way.
const patience = 5

// finish fills in since when conditions are as they are, and what the next pass
// has to know.
func (r *Reconciler) finish(st *stackState, res Result) Result {
	now := r.o.Now()
	if res.Reason != "Conflict" {
		st.conflicts = 0
	} else if st.conflicts++; st.conflicts > patience {
		res.Outcome, res.Err = Failed, errors.New(res.Message)
	}
	res.Conditions = conditions(&res)
	for i := range res.Conditions {
		c := &res.Conditions[i]
		c.Since = now
		for _, old := range st.conditions {
			if old.Type == c.Type && old.True == c.True { // reasons come and go, as tasks do
				c.Since = old.Since
			}
		}
	}
	st.conditions = res.Conditions
	st.busy = res.Requeue > 0
	brief(st, &res)
	res.Transitions = append(res.Transitions, tellHold(st, &res)...)
	res.Transitions = append(res.Transitions, tellSick(st, &res)...)
	return res
}

// brief leaves out of what is told why a release failed where that was told already.
func brief(st *stackState, res *Result) {
	if res.Release == nil || st.failure != res.Release.Number {
		res.Brief = ""
	}
	for i := range res.Transitions {
		switch t := &res.Transitions[i]; {
		case t.Action == "rollout-failed" && res.Release != nil:
			st.failure = res.Release.Number
		case t.brief != "" && res.Brief != "":
			t.Message = t.brief
		}
	}
}

// tellSick tells once of services that are Degraded and are left alone, and once that
// they are well again.
func tellSick(st *stackState, res *Result) []Transition {
	if res.Outcome != Unchanged {
		return nil
	}
	var names []string
	for i := range res.Services {
		if res.Services[i].Health == HealthDegraded {
			names = append(names, res.Services[i].Name)
		}
	}
	sick := few(names)
	if sick == st.sick {
		return nil
	}
	was := st.sick
	if st.sick = sick; sick == "" {
		return []Transition{{Action: "recovered", Reason: "Recovered", Message: was + ": no longer degraded"}}
	}
	worst := worstOf(res.Services)
	return []Transition{{Action: "degraded", Service: worst.Name, Reason: res.Reason, Message: orElse(res.Message, worst.Reason), Bad: true}}
}

// tellHold tells once that, and why, nothing is written.
func tellHold(st *stackState, res *Result) []Transition {
	told := ""
	switch {
	case res.Outcome != Held:
	case res.Release != nil && (res.Reason == "RollbackFailed" || res.Reason == "CorrectionFailed"):
		told = fmt.Sprintf("%s %d", res.Reason, res.Release.Number) // its tasks go on dying, here and there
	default:
		told = res.Reason + ": " + res.Message
	}
	if told == st.told {
		return nil
	}
	st.told = told
	if told == "" || slices.ContainsFunc(res.Transitions, func(t Transition) bool { return t.Action == "rolled-back" }) { // that said it
		return nil
	}
	return []Transition{{Action: "held", Reason: res.Reason, Message: orElse(res.Brief, res.Message), Bad: res.Reason != "Suspended"}}
}

// errorsOnly drops conflicts from joined errors: nil means that conflicts were
// all there was.
func errorsOnly(err error) error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		if isConflict(err) {
			return nil
		}
		return err
	}
	var rest []error
	for _, e := range joined.Unwrap() {
		if !isConflict(e) {
			rest = append(rest, e)
		}
	}
	return errors.Join(rest...)
}
