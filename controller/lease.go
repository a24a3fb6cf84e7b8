package controller

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/swarm"

	"github.com/skep-io/skep/reconcile"
)

// Of several controllers of one owner one acts: the holder of a lease. The lease is a
// config object, since its labels are what a Swarm lets be changed by compare-and-set.
// Nobody's clock is asked but one's own, and of that only how much time has passed:
//
//	holder   writes every leaseRenew, which moves the object's Version; it may act for
//	         leaseHold from when it began its last write that went through
//	others   look every leasePoll, and take the lease when they have not seen its
//	         Version move for leaseExpire, or at once when it was handed over
//
// Whoever takes it has seen the Version stand still from a moment on that is not before
// the holder's last write, and takes it by that Version: so the holder has not acted for
// leaseExpire−leaseHold already. Where somebody removed the object there is no Version to
// go by: who makes it anew without acting already, or finds that it did, waits for
// leaseHold before it acts. A
// write that was on its way to the engine when the lease ended may come in later;
// reconcile's own Version guards are for that.
const (
	leaseRenew    = 5 * time.Second
	leaseHold     = 10 * time.Second
	leaseExpire   = 15 * time.Second
	leasePoll     = 2 * time.Second
	leaseRetry    = time.Second            // after a renewal that did not go through
	leaseAgain    = 100 * time.Millisecond // after somebody else wrote first
	leaseMissing  = 7 * time.Second        // the holder has had time to make a removed one anew
	leaseCall     = 5 * time.Second        // a request to the engine has failed then
	leaseHandOver = 2 * time.Second        // a stop waits so long to hand over
)

const (
	labelHolder       = "skep.holder"
	labelHolderHost   = "skep.holder-host"
	labelHolderSince  = "skep.since"
	labelHolderRenews = "skep.renewed"
	leaseData         = "What it says is in its labels.\n" // an engine wants some
)

// ErrNotLeading is why a controller that does not hold its owner's lease writes nothing.
var ErrNotLeading = errors.New("this controller does not act now: another one may have the lease")

// A LeaseStore is the part of an engine that a lease is kept in. *client.Client of
// github.com/docker/docker is one.
type LeaseStore interface {
	ConfigList(ctx context.Context, options swarm.ConfigListOptions) ([]swarm.Config, error)
	ConfigCreate(ctx context.Context, config swarm.ConfigSpec) (swarm.ConfigCreateResponse, error)
	ConfigUpdate(ctx context.Context, id string, version swarm.Version, config swarm.ConfigSpec) error
}

// A Holder is who a lease says acts.
type Holder struct {
	ID    string // "" is nobody
	Host  string
	Since time.Time // by the holder's clock
	// Renewed is when it was written last, by the engine's clock.
	Renewed time.Time
}

// String names the holder. It can be shown: labels are whatever somebody wrote.
func (h Holder) String() string {
	name := h.ID
	if h.Host != "" && !strings.HasPrefix(h.ID, h.Host+".") {
		name += " on " + h.Host
	}
	if r := []rune(name); len(r) > maxHolder {
		name = string(r[:maxHolder-1]) + "…"
	}
	return reconcile.Printable(name)
}

// maxHolder is how many characters of a holder's name are shown.
const maxHolder = 150

// A HeldError says that the lease is another one's, who is alive.
type HeldError struct {
	Owner  string
	Holder Holder
}

func (e *HeldError) Error() string {
	return fmt.Sprintf("controller %s acts for owner %q: it has the lease and keeps it (what the files say is its to do; stop it to act in its place, or give this one an --owner of its own)", e.Holder, e.Owner)
}

func (e *HeldError) Is(target error) bool { return target == ErrNotLeading }

// A Standing is how a controller stands to its lease.
type Standing struct {
	// Term counts how often this one began to act; 0: it does not act now.
	Term uint64
	// Holder is who acts, or did when the lease was seen last; the zero value where
	// nobody does or that is not known yet.
	Holder Holder
}

// Acts says that this controller acts.
func (s Standing) Acts() bool { return s.Term > 0 }

// A Lease is one controller's part in who acts for an owner. Take or run keep it;
// everything else may be asked from any goroutine.
type Lease struct {
	store    LeaseStore
	owner    string
	name     string
	id, host string
	hints    chan struct{}
	// unsure says that an object that we tried to make may have come into being later
	// than we looked for it, when others still acted. Only who keeps the lease asks.
	unsure bool

	mu      sync.Mutex
	terms   uint64
	from    time.Time // it may act from then on
	until   time.Time // until then; zero: it may not
	renewed uint64    // what tells our writes of the lease apart
	writing int       // fenced writes under way
	closed  bool
	seen    sighting
	acted   bool // objects tell that this owner's controllers have acted before
	told    Standing
	ever    bool // told anything
}

// A sighting is what was last seen to be new about a lease, and when, by our own clock.
type sighting struct {
	any   bool // there was a look
	lease leaseRecord
	at    time.Time
	found bool // the object was there at any look
	alive bool // somebody moved it between two looks
}

// A leaseRecord is a lease as the Swarm has it.
type leaseRecord struct {
	found   bool
	id      string
	version swarm.Version
	labels  map[string]string
	holder  Holder
	renewed uint64
	// damaged says that the labels are not what any controller writes.
	damaged bool
}

// NewLease makes a part in the lease of an owner. The name is for people to know the
// controller by, "" the host's; two of one name are told apart all the same.
func NewLease(store LeaseStore, owner, name string) *Lease {
	host, _ := os.Hostname()
	if name == "" {
		name = host
	}
	salt := make([]byte, 4)
	_, _ = rand.Read(salt) // never fails
	return &Lease{
		store: store, owner: owner, name: reconcile.OwnName(reconcile.KindLease, owner),
		id: name + "." + hex.EncodeToString(salt), host: host,
		hints: make(chan struct{}, 1),
	}
}

// ID is what the lease says while this one holds it.
func (l *Lease) ID() string { return l.id }

// term is the term in which this controller acts now, or ErrNotLeading.
func (l *Lease) term() (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.termNow()
}

func (l *Lease) termNow() (uint64, error) {
	if now := time.Now(); l.closed || now.Before(l.from) || !now.Before(l.until) {
		return 0, ErrNotLeading
	}
	return l.terms, nil
}

// standing is how this controller stands to its lease now.
func (l *Lease) standing() Standing {
	l.mu.Lock()
	defer l.mu.Unlock()
	term, _ := l.termNow()
	s := Standing{Term: term, Holder: l.seen.lease.holder}
	switch {
	case s.Acts():
		s.Holder = Holder{ID: l.id, Host: l.host}
	case s.Holder.ID == l.id:
		s.Holder = Holder{}
	}
	return s
}

// write lets a write begin, or refuses it: in is the term that what is to be written was
// found out in, 0 any. A write that began has to be told done.
func (l *Lease) write(in uint64) (done func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	term, err := l.termNow()
	if err != nil {
		return nil, err
	}
	if in != 0 && in != term {
		return nil, fmt.Errorf("%w: what was looked at is from before it lost it", ErrNotLeading)
	}
	l.writing++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.writing--
	}, nil
}

// hint says that the lease may have changed.
func (l *Lease) hint() { poke(l.hints) }

// run keeps the lease or waits for it until ctx ends, and then hands it over. beat is
// called again and again to show that it lives, and stands with what becomes of the
// lease when that is new.
func (l *Lease) run(ctx context.Context, beat func(), stands func(Standing)) {
	for {
		beat()
		wait, _ := l.step(ctx) // an error is told by what it leads to, and by the engine's own loop
		l.tell(stands)
		if !l.rest(ctx, wait) {
			break
		}
	}
	l.handOver(ctx)
}

// rest waits; false says that ctx ended. Hints matter to those alone who do not act:
// every renewal makes one.
func (l *Lease) rest(ctx context.Context, d time.Duration) bool {
	hints := l.hints
	if _, err := l.term(); err == nil {
		hints = nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
	case <-hints:
	}
	return ctx.Err() == nil
}

// Take takes the lease for a verb that acts for a while, and keeps it until release is
// called, which hands it over. A holder that may be gone is watched for up to
// leaseExpire; where it turns out to be alive, or another one is faster, the error is a
// HeldError.
//
// waits, if not nil, is told who may be gone.
func (l *Lease) Take(ctx context.Context, waits func(Holder)) (release func(), err error) {
	for tries := 0; ; {
		wait, err := l.step(ctx)
		l.tell(func(s Standing) {
			if waits != nil && s.Holder.ID != "" && !s.Acts() {
				waits(s.Holder)
			}
		})
		switch held := l.aliveHolder(); {
		case ctx.Err() != nil:
			l.handOver(ctx)
			return nil, context.Cause(ctx)
		case l.standing().Acts():
			return l.keep(ctx), nil
		case held != nil:
			return nil, held
		case err != nil:
			if tries++; tries == 3 {
				return nil, fmt.Errorf("take the lease of owner %q: %w", l.owner, err)
			}
		}
		l.rest(ctx, min(wait, leasePoll/4))
	}
}

// keep keeps a lease that was just taken in the background.
func (l *Lease) keep(ctx context.Context) (release func()) {
	// It ends when it is released, not when ctx does: what is under way then still writes.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.run(ctx, func() {}, func(Standing) {})
	}()
	return func() {
		cancel()
		<-done
	}
}

// aliveHolder is an error naming who holds the lease where that one was seen to write.
func (l *Lease) aliveHolder() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if h := l.seen.lease.holder; l.seen.alive && h.ID != "" && h.ID != l.id {
		return &HeldError{Owner: l.owner, Holder: h}
	}
	return nil
}

// step looks at the lease once and does what there is to do about it: at most one
// write. It says when to look again.
func (l *Lease) step(ctx context.Context) (wait time.Duration, err error) {
	began := time.Now()
	lease, err := l.read(ctx)
	if err != nil {
		return l.afterError(), err
	}
	x := l.look(lease)
	if !lease.found && x.fresh {
		if x.fresh, err = l.neverActed(ctx); err != nil {
			return l.afterError(), err
		}
	}
	if !x.mayWrite() {
		return max(min(leasePoll, leaseExpire-x.still), leaseAgain), nil
	}
	written := time.Now()
	tried := l.mine(lease)
	switch err = l.put(ctx, lease, tried); {
	case reconcile.IsConflict(err): // a race, and another one won it
		return leaseAgain, nil
	case err != nil && !l.went(ctx, tried):
		l.unsure = l.unsure || !lease.found
		return l.afterError(), fmt.Errorf("write the lease %s: %w", l.name, err)
	}
	pause := time.Duration(0)
	if !x.acts && (!lease.found && !x.fresh || lease.holder.ID == l.id && l.unsure) {
		pause = leaseHold
	}
	l.took(written, pause)
	return max(leaseRenew-time.Since(began), leaseAgain), nil
}

// afterError is when to try again: one who acts has little time to lose.
func (l *Lease) afterError() time.Duration {
	if l.standing().Acts() {
		return leaseRetry
	}
	return leasePoll
}

// A leaseView is all that it takes to decide about a lease.
type leaseView struct {
	lease leaseRecord
	me    string
	acts  bool          // we may act now: nobody can have taken it
	still time.Duration // we have not seen it move, or be there, for so long
	fresh bool          // it is not there, and nobody of this owner ever acted
}

// mayWrite decides whether to make the lease ours, or keep it so.
//
//	it says                     we act   what we do
//	we hold it                  –        write: to renew, or to go on after a pause
//	it is not there             yes      make it anew
//	it is not there             no       make it when nobody ever acted, or after leaseMissing
//	it is handed over           –        take it
//	another one holds it        –        take it after leaseExpire
//	nothing that makes sense    yes      write it anew
//	nothing that makes sense    no       take it after leaseExpire
//
// Whoever took a lease from us has written so, by which we see that we do not act.
func (x leaseView) mayWrite() bool {
	switch {
	case x.lease.damaged:
		return x.acts || x.still >= leaseExpire
	case !x.lease.found:
		return x.acts || x.fresh || x.still >= leaseMissing
	case x.lease.holder.ID == x.me, x.lease.holder.ID == "":
		return true
	}
	return x.still >= leaseExpire
}

// look takes in what was read.
func (l *Lease) look(lease leaseRecord) leaseView {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	s := &l.seen
	if was := s.lease; !s.any || was.found != lease.found || was.id != lease.id || was.version != lease.version {
		s.alive = s.any && lease.found
		s.any, s.lease, s.at = true, lease, now
	}
	s.found = s.found || lease.found
	if other := lease.holder.ID; lease.found && !lease.damaged && other != l.id {
		l.until = time.Time{} // it was taken, or handed over: we do not act, whatever time is left
	}
	_, err := l.termNow()
	return leaseView{lease: lease, me: l.id, acts: err == nil, still: now.Sub(s.at), fresh: !s.found && !l.acted}
}

// took notes that the lease is ours by a write that began then. We act after the pause.
func (l *Lease) took(began time.Time, pause time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen.lease.holder = Holder{ID: l.id}
	now, until := time.Now(), began.Add(leaseHold)
	if l.closed || !now.Before(until) {
		return // the write took too long: the next one may be faster
	}
	if !now.Before(l.until) {
		l.terms++
		l.from = now.Add(pause)
	}
	l.until = until
}

// tell tells how the lease stands when that is new.
func (l *Lease) tell(stands func(Standing)) {
	s := l.standing()
	l.mu.Lock()
	same := l.ever && s.Term == l.told.Term && s.Holder.ID == l.told.Holder.ID
	known := l.seen.any
	if known && !same {
		l.ever, l.told = true, s
	}
	l.mu.Unlock()
	if known && !same {
		stands(s)
	}
}

// read asks for the lease.
func (l *Lease) read(ctx context.Context) (leaseRecord, error) {
	ctx, cancel := context.WithTimeout(ctx, leaseCall)
	defer cancel()
	return readLease(ctx, l.store, l.name)
}

func readLease(ctx context.Context, store LeaseStore, name string) (leaseRecord, error) {
	configs, err := store.ConfigList(ctx, swarm.ConfigListOptions{Filters: filters.NewArgs(filters.Arg("name", name))})
	if err != nil {
		return leaseRecord{}, fmt.Errorf("read the lease %s: %w", name, err)
	}
	for i := range configs { // the filter matches prefixes
		if configs[i].Spec.Name == name {
			return parseLease(&configs[i]), nil
		}
	}
	return leaseRecord{}, nil
}

// parseLease reads what a config says. Where that is nothing a controller writes, who
// holds it is not known.
func parseLease(c *swarm.Config) leaseRecord {
	l := c.Spec.Labels
	r := leaseRecord{found: true, id: c.ID, version: c.Version, labels: l}
	holder, said := l[labelHolder]
	renewed, err := strconv.ParseUint(l[labelHolderRenews], 10, 64)
	if !said || err != nil || l[reconcile.LabelKind] != reconcile.KindLease {
		r.damaged = true
		return r
	}
	r.renewed = renewed
	r.holder = Holder{ID: holder, Host: l[labelHolderHost], Renewed: c.UpdatedAt}
	r.holder.Since, _ = time.Parse(time.RFC3339Nano, l[labelHolderSince]) // for people only
	return r
}

// ReadHolder tells who holds the lease of an owner, as it is written: the zero Holder
// where nobody does. A holder that is gone is told until another one takes over.
func ReadHolder(ctx context.Context, store LeaseStore, owner string) (Holder, error) {
	lease, err := readLease(ctx, store, reconcile.OwnName(reconcile.KindLease, owner))
	return lease.holder, err
}

// neverActed says that no release of this owner is remembered: so nobody can be acting
// whose lease was removed, and there is nobody to wait for.
func (l *Lease) neverActed(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, leaseCall)
	defer cancel()
	releases, err := l.store.ConfigList(ctx, swarm.ConfigListOptions{Filters: filters.NewArgs(
		filters.Arg("label", reconcile.LabelKind+"="+reconcile.KindRelease),
		filters.Arg("label", reconcile.LabelOwner+"="+l.owner),
	)})
	if err != nil {
		return false, fmt.Errorf("look for releases of owner %q: %w", l.owner, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acted = len(releases) > 0
	return !l.acted, nil
}

// mine are the labels that make a lease ours, over those it has: what a newer skep may
// have put there stays. No two calls give the same, so that what is found later tells
// which write it came of.
func (l *Lease) mine(lease leaseRecord) map[string]string {
	l.mu.Lock()
	l.renewed = max(l.renewed, lease.renewed) + 1
	renewed := l.renewed
	l.mu.Unlock()
	labels := maps.Clone(lease.labels)
	if labels == nil {
		labels = map[string]string{}
	}
	if lease.holder.ID != l.id || labels[labelHolderSince] == "" {
		labels[labelHolderSince] = time.Now().UTC().Format(time.RFC3339Nano)
	}
	labels[reconcile.LabelKind], labels[reconcile.LabelOwner] = reconcile.KindLease, l.owner
	labels[labelHolder], labels[labelHolderHost] = l.id, l.host
	labels[labelHolderRenews] = strconv.FormatUint(renewed, 10)
	return labels
}

// put writes the lease over what was read of it: another one's write in between is a
// conflict.
func (l *Lease) put(ctx context.Context, was leaseRecord, labels map[string]string) error {
	ctx, cancel := context.WithTimeout(ctx, leaseCall)
	defer cancel()
	note := swarm.Annotations{Name: l.name, Labels: labels}
	if !was.found {
		_, err := l.store.ConfigCreate(ctx, swarm.ConfigSpec{Annotations: note, Data: []byte(leaseData)})
		return err
	}
	return l.store.ConfigUpdate(ctx, was.id, was.version, swarm.ConfigSpec{Annotations: note})
}

// went says that a write whose answer was an error has happened all the same.
func (l *Lease) went(ctx context.Context, tried map[string]string) bool {
	lease, err := l.read(ctx)
	return err == nil && lease.found && maps.Equal(lease.labels, tried)
}

// handOver ends our part: others may take the lease at once. With writes of ours still
// under way it is left to expire, and where we have it and do not act yet, since another
// one may.
func (l *Lease) handOver(ctx context.Context) {
	l.mu.Lock()
	_, err := l.termNow()
	hold := err != nil || l.writing > 0
	l.until, l.closed = time.Time{}, true
	l.mu.Unlock()
	if hold {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaseHandOver)
	defer cancel()
	for ctx.Err() == nil {
		lease, err := l.read(ctx)
		if err == nil && (!lease.found || lease.damaged || lease.holder.ID != l.id) {
			return // not ours to hand over
		}
		if err == nil {
			labels := l.mine(lease)
			labels[labelHolder], labels[labelHolderHost] = "", ""
			if l.put(ctx, lease, labels) == nil {
				return
			}
		}
		l.rest(ctx, leaseAgain)
	}
}
