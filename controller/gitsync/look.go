package gitsync

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"

	"github.com/skep-io/skep/spec"
)

const (
	askLimit   = time.Minute      // a list of refs
	fetchLimit = 15 * time.Minute // a pack, and its checkout
	stallLimit = time.Minute      // without a byte of it
	maxPacks   = 64               // of one store, before a new one is begun
)

// depths are how much history is fetched: the first as a rule, so that a commit can be
// compared with those that other controllers have acted on; the others while it is not
// seen that the new commit descends from the last one.
var depths = []int{50, 500, 5000}

// look asks the remote, and takes in what is new. heard says that it answered.
func (s *Source) look(ctx context.Context) (heard bool, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, fetchLimit, fmt.Errorf("it took longer than %s", fetchLimit))
	defer cancel()
	defer func() {
		if p := recover(); p != nil { // of the git library, about a damaged cache or a strange remote
			s.cache.distrust()
			err = refused(GitCacheBroken, "git data could not be read: %v", p)
		}
	}()
	r, err := s.dial(&s.cfg, s.at)
	if err != nil {
		return false, blamed(GitUnreachable, err)
	}
	defer r.end()
	defer func() { err = hide(err, r.secrets()) }()
	adv, err := s.ask(ctx, r)
	if err != nil {
		return false, err
	}
	tip, ok := find(adv, s.cfg.Ref)
	if !ok {
		s.state.tip = ""
		return true, refused(GitRefGone, "%s has no branch or tag %s (was it removed?)", s.at, s.cfg.Ref)
	}
	if s.state.tip == tip.String() && s.cache.whole() {
		return true, nil
	}
	if s.state.refused == tip.String() {
		return true, s.state.why
	}
	err = s.takeIn(ctx, r, adv, tip)
	s.state.tip, s.state.refused, s.state.why = "", "", nil
	switch reasonOf(err) {
	case "":
		s.state.tip = tip.String()
	case GitTooLarge, GitRefused, GitPathGone, GitRewound: // as long as the ref is that
		s.state.refused, s.state.why = tip.String(), err
	case GitUnreachable, GitCacheFull, GitCacheBroken:
		return false, err // with patience
	}
	return true, err
}

// hide takes secrets out of an error's words: a server may say what it was told.
func hide(err error, secrets []string) error {
	if err == nil {
		return nil
	}
	words := err.Error()
	for _, secret := range secrets {
		if secret == "" { // a user's without a password
			continue
		}
		words = strings.ReplaceAll(words, secret, "…")
	}
	if words == err.Error() {
		return err
	}
	return sourceError(reasonOf(err), errors.New(words))
}

// ask lists the remote's refs.
func (s *Source) ask(ctx context.Context, r remote) (*packp.AdvRefs, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, askLimit, fmt.Errorf("it did not answer within %s", askLimit))
	defer cancel()
	adv, err := r.refs(ctx)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("ask %s: %w", s.at, context.Cause(ctx))
	}
	return adv, blamed(GitUnreachable, err)
}

// takeIn fetches what a ref is at, and puts it in force if it may be. A cache that turns
// out to be damaged is made anew, once.
func (s *Source) takeIn(ctx context.Context, r remote, adv *packp.AdvRefs, tip plumbing.Hash) error {
	for try := 1; ; try++ {
		err := s.takeInOnce(ctx, r, adv, tip)
		if err == nil || try == 2 || reasonOf(err) != GitCacheBroken || !damaged(err) || ctx.Err() != nil {
			return err
		}
		s.cache.distrust()
	}
}

// damaged says that something is missing in a store, or is not what it should be.
func damaged(err error) bool {
	return errors.Is(err, plumbing.ErrObjectNotFound) || errors.Is(err, io.ErrUnexpectedEOF)
}

func (s *Source) takeInOnce(ctx context.Context, r remote, adv *packp.AdvRefs, tip plumbing.Hash) (err error) {
	st, fresh, err := s.cache.store()
	if err != nil {
		return blamed(GitCacheBroken, err)
	}
	if fresh {
		defer func() { s.cache.keepFresh(st, err) }()
	}
	f := &fetching{s: s, remote: r, adv: adv, st: st, tip: tip}
	commit, err := f.bring(ctx)
	if err != nil {
		return err
	}
	if err := s.verify(st, commit); err != nil {
		return err
	}
	if err := s.cache.swap(ctx, st, commit, s.cfg.Path, s.cfg.Limits); err != nil {
		return blamed(GitCacheBroken, err)
	}
	return nil
}

// verify sees whether a commit is signed by who may, where anybody has to.
func (s *Source) verify(st *store, commit plumbing.Hash) error {
	if s.cfg.VerifyFile == "" {
		return nil
	}
	who, err := readSigners(s.cfg.VerifyFile)
	if err != nil {
		return sourceError(GitUnverified, err)
	}
	return blamed(GitCacheBroken, verifyCommit(st.storage, commit, who))
}

// doubtCached forgets what the cache has of a commit that nobody who may has signed: it
// may have been fetched before that was asked for.
func (s *Source) doubtCached() error {
	if s.cfg.VerifyFile == "" {
		return nil
	}
	commit, _ := s.cache.head()
	if commit == "" {
		return nil
	}
	st, err := s.cache.storeInForce()
	if err == nil {
		err = s.verify(st, plumbing.NewHash(commit))
	}
	if err != nil {
		return s.cache.forget()
	}
	return nil
}

// A fetching brings a commit, with as much history as it takes to compare it.
type fetching struct {
	s      *Source
	remote remote
	adv    *packp.AdvRefs
	st     *store
	tip    plumbing.Hash
}

// bring fetches the tip, and returns its commit, which descends from the last one.
func (f *fetching) bring(ctx context.Context) (plumbing.Hash, error) {
	last, _ := f.s.cache.head()
	for i, depth := range depths {
		if i > 0 || !f.st.has(f.tip) {
			if err := f.fetch(ctx, depth); err != nil {
				return plumbing.ZeroHash, err
			}
		}
		commit, err := f.st.peel(f.tip)
		if err != nil {
			return commit, blamed(GitCacheBroken, err)
		}
		if last == "" || f.s.cfg.AllowRewind {
			return commit, nil
		}
		switch d, err := spec.NewAncestry(f.st.dir).Descent(commit.String(), last); {
		case err != nil:
			return commit, blamed(GitCacheBroken, err)
		case d == spec.DescentSame || d == spec.DescentNewer:
			return commit, nil
		case d == spec.DescentOlder:
			return commit, f.rewound("moved back to commit %.7s, which %.7s descends from", commit, last)
		case d == spec.DescentAside:
			return commit, f.rewound("moved to commit %.7s, which does not descend from %.7s: its history was rewritten", commit, last)
		}
	}
	return plumbing.ZeroHash, f.rewound("moved to a commit whose last %d ancestors do not have %.7s among them", depths[len(depths)-1], last)
}

func (f *fetching) rewound(format string, args ...any) error {
	return refused(GitRewound, "%s of %s %s (if that is meant: --git-allow-rewind)", f.s.cfg.Ref, f.s.at, fmt.Sprintf(format, args...))
}

// fetch brings the tip with history of some depth. Where that is too much, the commit
// alone may do, or, where there is one already, what lies between.
func (f *fetching) fetch(ctx context.Context, depth int) error {
	err := f.fetchTo(ctx, depth)
	if reasonOf(err) != GitTooLarge || depth != depths[0] || !f.adv.Capabilities.Supports(capability.Shallow) {
		return err
	}
	less := 1
	if last, _ := f.s.cache.head(); last != "" && f.st.has(plumbing.NewHash(last)) {
		less = 0
	}
	return f.fetchTo(ctx, less)
}

func (f *fetching) fetchTo(ctx context.Context, depth int) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	q := request{advertised: f.adv, want: f.tip, depth: depth, has: f.st.has}
	var err error
	if q.shallows, err = f.st.shallows(); err != nil {
		return blamed(GitCacheBroken, err)
	}
	if last, _ := f.s.cache.head(); last != "" && f.st.has(plumbing.NewHash(last)) {
		q.haves = append(q.haves, plumbing.NewHash(last))
	}
	if f.st.has(f.tip) {
		q.haves = append(q.haves, f.tip)
	}
	stalled := fmt.Errorf("nothing came for %s", stallLimit)
	watch := time.AfterFunc(headerLimit, func() { cancel(stalled) })
	defer watch.Stop()
	d, err := f.remote.fetch(ctx, q)
	if err == nil {
		defer d.close()
		d.pack = watched{d.pack, func() { watch.Reset(stallLimit) }, watch}
		err = f.st.take(ctx, d, f.s.cfg.Limits.Pack)
	}
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	if errors.Is(err, errDisk) {
		return blamed(GitCacheBroken, fmt.Errorf("fetch %s: %w", f.s.at, err))
	}
	return blamed(GitUnreachable, fmt.Errorf("fetch %s: %w", f.s.at, err))
}

// A watched reader tells of bytes that come, and ends watching when none are to come.
type watched struct {
	r     io.Reader
	alive func()
	watch *time.Timer
}

func (w watched) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if err != nil {
		w.watch.Stop()
	} else if n > 0 {
		w.alive()
	}
	return n, err
}
