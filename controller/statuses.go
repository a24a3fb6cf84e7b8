package controller

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/skep-io/skep/controller/forge"
	"github.com/skep-io/skep/reconcile"
)

// What became of a commit is told where the commit is. Unlike messages, which tell what
// happened, a status tells how things stand: so it is found by comparing the newest
// release with what its forge was told last, and what was overtaken before it was posted
// never is. What was told is in the same ledger as messages are, under the same rules.
//
//	the newest release     begun                   pending
//	                       healthy, bake over      success
//	                       failed, or later so     failure, and so it stays: that an
//	                                               earlier release runs again is not
//	                                               this commit's, nor news of the other
//	a newer one came before that was told          how it ended, or canceled
//	the newest commit makes no release             failure (see refusal)
//
// Of releases by hand, without a commit, or of files that differ from theirs nobody is told.

const (
	// statusPace is between two statuses: forges ask for a second between writes.
	statusPace = time.Second
	// The pause after an attempt that failed grows from the first to the last.
	statusPause, statusPauseMost = time.Second, 5 * time.Minute
	// statusFor is how long a status is tried again before it is given up.
	statusFor = 24 * time.Hour
	// statusSince is how long ago a release may have ended that is told of though nothing
	// was ever told of its stack: who turns statuses on does not want one a stack.
	statusSince = time.Hour
	// statusesMost is how many wait; of more the oldest go.
	statusesMost = 1000
)

var statusResults = []string{sent, attempted, givenUp, dropped}

// A CommitPoster writes statuses at commits. *forge.Client is one.
type CommitPoster interface {
	Post(ctx context.Context, repo forge.Repository, s forge.Status) error
}

// A commitLine is what was told last of a stack's commits.
type commitLine struct {
	Release int         `json:"r"`
	State   forge.State `json:"s"`
	Commit  string      `json:"c"` // what more is to be told of it, though a newer release came
}

// A commitSight is how a release and its commit stand.
type commitSight struct {
	release int
	commit  string // empty: it is of none that is to be told
	state   forge.State
	text    string
	ended   time.Time
}

func (s commitSight) line() commitLine {
	return commitLine{s.release, s.state, s.commit}
}

// seeCommit is what a pass saw of its newest release's commit.
func seeCommit(r reconcile.Result) (commitSight, bool) {
	rel := r.Release
	if rel == nil {
		return commitSight{}, false
	}
	s := commitSight{release: rel.Number, commit: rel.Commit, ended: rel.Ended}
	if rel.By == reconcile.ByHand || strings.HasSuffix(rel.Revision, "-dirty") { // which is nobody's commit
		s.commit = ""
	}
	s.state, s.text = standsAs(rel.Number, rel.Phase, rel.Message, rel.Ended.Sub(rel.Started))
	return s, true
}

// standsAs puts a release's phase into a forge's terms and words.
func standsAs(release int, phase reconcile.Phase, message string, took time.Duration) (forge.State, string) {
	switch phase {
	case reconcile.PhaseHealthy:
		text := fmt.Sprintf("release %d is healthy", release)
		if took >= time.Second {
			text += ", after " + took.Round(time.Second).String()
		}
		return forge.Success, text
	case reconcile.PhaseFailed:
		return forge.Failure, words(fmt.Sprintf("release %d failed: %s", release, message))
	case reconcile.PhaseSuperseded:
		return forge.Canceled, fmt.Sprintf("release %d: a newer one came before it was healthy", release)
	}
	return forge.Pending, fmt.Sprintf("release %d is rolled out", release)
}

// compare says which statuses are due, after what was told last; nil: nothing was. ended
// tells how an earlier release stands now, where that is known.
func (l *commitLine) compare(s commitSight, now time.Time, ended func(release int) (commitSight, bool)) []commitSight {
	if l == nil {
		if s.commit == "" || s.state != forge.Pending && now.Sub(s.ended) > statusSince {
			return nil
		}
		return []commitSight{s}
	}
	if l.Release == s.release { // of another commit where all was forgotten, and numbers began anew
		if s.commit == "" || l.State == s.state && l.Commit == s.commit {
			return nil
		}
		return []commitSight{s}
	}
	var out []commitSight
	was, ok := ended(l.Release)
	if l.State == forge.Pending && (!ok || was.state == forge.Pending) {
		was.state, was.text = standsAs(l.Release, reconcile.PhaseSuperseded, "", 0)
	} else if !ok {
		was.state = l.State
	}
	if was.state != l.State {
		was.release, was.commit = l.Release, l.Commit
		out = append(out, was)
	}
	if s.commit != "" {
		out = append(out, s)
	}
	return out
}

// A dueStatus is a status that is to be posted.
type dueStatus struct {
	commitSight
	stack string
	since time.Time
}

// A rest is how long no status of a stack is tried, after some failed.
type rest struct {
	until time.Time
	pause time.Duration // before jitter
}

// longer is the rest after one more failure.
func (r rest) longer(now time.Time) rest {
	pause := statusPause
	if r.pause > 0 {
		pause = min(2*r.pause, statusPauseMost)
	}
	return rest{now.Add(jitter(pause)), pause}
}

// statuses are the notices' part that tells forges. It belongs to the notices' lock.
type statuses struct {
	poster CommitPoster
	where  func(stack string) (forge.Repository, bool)
	page   string
	ended  func(stack string, release int) (commitSight, bool)
	count  func(result string)

	early map[string]commitSight // seen before the ledger was read
	due   []dueStatus
	rests map[string]rest
	busy  bool // the first of them is being posted
	wake  chan struct{}
	bad   string // the stack of which it was told that an attempt failed; the poster's own
}

func newStatuses(c Config, m *metrics) *statuses {
	if c.CommitStatus == nil {
		return nil
	}
	m.tellsCommits()
	return &statuses{
		poster: c.CommitStatus, page: c.PageURL,
		where: func(string) (forge.Repository, bool) { return forge.Repository{}, false },
		ended: func(string, int) (commitSight, bool) { return commitSight{}, false },
		count: m.commitTold, early: map[string]commitSight{}, rests: map[string]rest{}, wake: make(chan struct{}, 1),
	}
}

// knows has an earlier release be asked for by how it ended, and a stack by where its
// commits are from.
func (c *notices) knows(ended func(stack string, release int) (commitSight, bool), where func(stack string) (forge.Repository, bool)) {
	if c != nil && c.statuses != nil {
		c.statuses.ended, c.statuses.where = ended, where
	}
}

// repositoryOf says where a stack's commits are from: where its source is fetched from.
func (c *controller) repositoryOf(stack string) (forge.Repository, bool) {
	from := &c.Sources[0]
	if s := c.desired.Load().stacks[stack]; s != nil && len(c.Sources) > 1 {
		i := slices.IndexFunc(c.Sources, func(x Source) bool { return x.Name == s.Source.Name })
		if i < 0 {
			return forge.Repository{}, false
		}
		from = &c.Sources[i]
	} else if len(c.Sources) > 1 {
		return forge.Repository{}, false
	}
	if from.Remote != "" {
		return forge.ParseRemote(from.Remote)
	}
	repo, ok, err := forge.RepositoryOf(from.Dir)
	if err != nil {
		c.Logger.Debug("the remote of the directory is not known", zap.Error(err))
	}
	return repo, ok
}

// seeCommit takes in how a stack's newest release stands.
func (c *notices) seeCommit(stack string, s commitSight) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.statuses == nil || !c.leads() {
		return
	}
	if !c.read {
		c.statuses.early[stack] = s
		poke(c.hint)
		return
	}
	c.takeCommit(stack, s)
}

func (c *notices) takeCommit(stack string, s commitSight) {
	news := c.saidOf(stack).compare(s, c.now(), func(release int) (commitSight, bool) { return c.statuses.ended(stack, release) })
	for _, n := range news {
		c.statuses.put(dueStatus{n, stack, c.now()})
	}
}

// saidOf is what was told last of a stack's commits, or is about to be.
func (c *notices) saidOf(stack string) *commitLine {
	for _, d := range slices.Backward(c.statuses.due) {
		if d.stack == stack && d.release != refusedRelease {
			return new(d.line())
		}
	}
	if l, ok := c.ledger.Commits[stack]; ok {
		return &l
	}
	return nil
}

// put adds a status, in the place of one of the same release that waits: that is out of
// date. Of a release that began and was overtaken before anybody was told, nobody is.
func (s *statuses) put(d dueStatus) {
	first := 0
	if s.busy {
		first = 1
	}
	for i := first; i < len(s.due); i++ {
		if s.due[i].stack != d.stack || s.due[i].release != d.release {
			continue
		}
		if d.state == forge.Canceled {
			s.due = slices.Delete(s.due, i, i+1)
		} else {
			s.due[i] = d
		}
		return
	}
	if len(s.due) >= statusesMost {
		s.due = slices.Delete(s.due, first, first+1)
		s.count(dropped)
	}
	s.due = append(s.due, d)
	poke(s.wake)
}

// forget drops what another controller will post.
func (s *statuses) forget() {
	if s != nil {
		s.due, s.busy, s.early, s.rests = nil, false, map[string]commitSight{}, map[string]rest{}
	}
}

// tellCommits posts statuses until ctx ends, and then what waits, each once and without
// a pause, until flush ends or one fails: whoever acts next finds out what is left.
func (c *notices) tellCommits(ctx, flush context.Context) {
	for {
		d, rest, ok := c.nextStatus()
		if !ok {
			var rested <-chan time.Time
			if rest > 0 {
				rested = time.After(rest)
			}
			select {
			case <-ctx.Done():
				return
			case <-c.statuses.wake:
			case <-rested:
			}
			continue
		}
		err := c.postStatus(flush, d)
		over := err == nil || errors.Is(err, forge.ErrRefused) || c.now().Sub(d.since) > statusFor
		c.statusDone(d, err, over)
		if !over && ctx.Err() != nil {
			return
		}
		wait := statusPace
		var later *forge.LaterError
		if errors.As(err, &later) { // it is the token's, whatever it is used for
			wait = max(wait, later.After)
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// nextStatus is the one to post now, if this controller acts; else how long all that
// wait have to rest, 0 where none does.
func (c *notices) nextStatus() (dueStatus, time.Duration, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.leads() {
		return dueStatus{}, 0, false
	}
	var rest time.Duration
	for i, d := range c.statuses.due {
		left := c.statuses.rests[d.stack].until.Sub(c.now())
		if left > 0 {
			if rest == 0 || left < rest {
				rest = left
			}
			continue
		}
		// It is the first of its stack: those before it rest, and are of others.
		c.statuses.due = slices.Insert(slices.Delete(c.statuses.due, i, i+1), 0, d)
		c.statuses.busy = true
		return d, 0, true
	}
	return dueStatus{}, rest, false
}

func (c *notices) postStatus(ctx context.Context, d dueStatus) error {
	ctx, cancel := context.WithTimeout(ctx, sendLimit)
	defer cancel()
	repo, ok := c.statuses.where(d.stack)
	if !ok {
		return fmt.Errorf("%w: it is not known which repository the stack comes from", forge.ErrRefused)
	}
	status := forge.Status{Commit: d.commit, State: d.state, Context: "skep/" + c.owner + "/" + d.stack, Description: d.text}
	if c.statuses.page != "" {
		status.URL = strings.TrimRight(c.statuses.page, "/") + "/stacks/" + url.PathEscape(d.stack)
	}
	var err error
	if panicked := protect(func() error { err = c.statuses.poster.Post(ctx, repo, status); return nil }); panicked != nil {
		err = panicked
	}
	if err != nil {
		c.statuses.count(attempted)
		level := zapcore.DebugLevel
		if c.statuses.bad == "" {
			c.statuses.bad, level = d.stack, zapcore.WarnLevel
		}
		c.log.Log(level, "a commit's status cannot be posted", zap.String("stack", d.stack), zap.Error(err))
		return err
	}
	if c.statuses.count(sent); c.statuses.bad == d.stack {
		c.statuses.bad = ""
		c.log.Info("statuses of commits can be posted again")
	}
	return nil
}

// statusDone takes a status out that was posted, or given up, which is over: both count
// as told. Else its stack rests, and no other: that may be of a repository that is well.
func (c *notices) statusDone(d dueStatus, err error, over bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	due := c.statuses.due
	c.statuses.busy = false
	if len(due) == 0 || due[0] != d { // another controller acted meanwhile
		return
	}
	if !over {
		c.statuses.rests[d.stack] = c.statuses.rests[d.stack].longer(c.now())
		return
	}
	delete(c.statuses.rests, d.stack)
	c.statuses.due = slices.Delete(due, 0, 1)
	if err != nil {
		c.statuses.count(givenUp)
		if c.statuses.bad == d.stack {
			c.statuses.bad = ""
		}
		c.log.Debug("a commit's status was given up", zap.String("stack", d.stack), zap.String("commit", d.commit), zap.Error(err))
	}
	c.changed()
	if d.release == refusedRelease {
		if c.ledger.Refused == nil {
			c.ledger.Refused = map[string]refusedLine{}
		}
		c.ledger.Refused[d.stack] = refusal{d.commit, d.text}.line()
		return
	}
	if c.ledger.Commits == nil {
		c.ledger.Commits = map[string]commitLine{}
	}
	c.ledger.Commits[d.stack] = d.line()
}

// jitter is d, longer or shorter by up to a half.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d) }

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// endedAs says how a release of a stack stands that is not its newest.
func (c *controller) endedAs(stack string, release int) (commitSight, bool) {
	if c.sights == nil {
		return commitSight{}, false
	}
	g, ok := c.sights.Glance(stack)
	if !ok {
		return commitSight{}, false
	}
	for _, r := range g.Releases {
		if r.Number == release {
			state, text := standsAs(release, r.Phase, r.Message, r.Ended.Sub(r.Started))
			return commitSight{release: release, state: state, text: text, ended: r.Ended}, true
		}
	}
	return commitSight{}, false
}

// ReadCommitToken reads the file of the token that statuses are posted with. It is read
// for each: who replaces it need not restart anything.
func ReadCommitToken(file string) (string, error) {
	text, err := readNotifyFile(file)
	if err != nil {
		return "", err
	}
	token, err := forge.ParseToken(text)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", file, err)
	}
	return token, nil
}
