// Package controller is the daemon: it keeps a Swarm being what a directory of
// compose files says. Files, engine events and time put names of stacks into a
// queue; workers take them out and make one pass each:
//
//	files ──► source ──► what is desired ─────────────┐
//	             │ names                              ▼
//	             └──────────► queue ──► worker ──► one pass ──► book, log, metrics
//	             ┌──────────►   ▲                     │
//	             │ names        └─ again in a while ──┘
//	engine ──► refresher ──► what is live (kept by the reconciler)
//
// It decides when a pass is made, never what a pass does: that is package
// reconcile's. It never writes to a stack itself, never blocks a pass on a rollout,
// and keeps nothing that a restart may not lose; what it alone knows of its owner's
// stacks, and what people confirm, it keeps in the Swarm (see kept). Logging and
// metrics live here alone.
package controller

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
	"github.com/skep-io/skep/spec/sops"
)

const (
	// stopLimit is how long a stop may take as a whole: five seconds, with what the
	// process needs besides.
	stopLimit = 4500 * time.Millisecond
	// partLimit is how long a stop waits for one part before it goes on to the next
	// one; the part may end later. Passes under way have a longer one of their own.
	partLimit = 500 * time.Millisecond
)

// A Reconciler makes passes. *reconcile.Reconciler is one.
type Reconciler interface {
	// Refresh lists the Swarm and names the stacks whose objects changed.
	Refresh(ctx context.Context) (changed []string, err error)
	// Stacks names the stacks of this owner in the newest listing.
	Stacks() []string
	// Noticed is told of a config that somebody wrote, by its name; "" is for any.
	Noticed(config string)
	// Reconcile makes one pass over one stack, and never two at a time over one.
	Reconcile(ctx context.Context, in reconcile.Input) reconcile.Result
}

// An Engine is what the daemon asks of an engine. *client.Client of
// github.com/docker/docker is one.
type Engine interface {
	reconcile.Swarm
	Events
}

// Config says what a daemon works on and how.
type Config struct {
	// Specs is the specs directory: short for a Source of the name "specs".
	Specs    string
	Sources  []Source          // directories beside it
	Env      map[string]string // variables that compose files may use
	Profiles []string          // compose profiles that are on
	// MaxFileSize bounds a compose file, in bytes; 0: package spec's default.
	MaxFileSize int64
	Keys        *sops.Keys // what encrypted files are opened with; nil: none is opened

	Client Engine
	// Check says whether the engine will do, as CheckEngine does; nil: it will. It is
	// asked before anything else is, and again after every outage.
	Check func(context.Context) error
	// Explain makes a sentence that says what to do of an engine's error, as
	// ExplainEngine does; nil: errors are told as they are.
	Explain     func(error) error
	Credentials reconcile.Credentials // nil: none
	// InsecureRegistries are registries, as images name them, that are asked without TLS
	// for what services follow.
	InsecureRegistries []string
	Owner              string // default "skep"
	ID                 string // what the lease calls this controller; default the host's name
	PruneStacks        bool   // remove a stack whose file is gone
	PolicyFile         string // what stacks may ask for; empty: no policy
	// AllowHostRoot allows stacks what opens a whole node, where there is no policy.
	AllowHostRoot bool
	History       int // releases kept a stack; 0: package reconcile's default

	Resync  time.Duration // between readings of everything, default 1m
	Workers int           // stacks worked on at a time, default 4
	Once    bool          // return when every stack is settled, instead of never
	// VanishAfter is how far apart two scans have to be that both miss a stack before
	// its file counts as gone, ScanLimit how long one may take; 0: the defaults.
	VanishAfter time.Duration
	ScanLimit   time.Duration

	Listen    string         // address of the page, metrics and health; empty: none
	Listening func(net.Addr) // told the address that is listened on, if not nil
	// TokenFile names the file of the token that all needs but metrics and health;
	// empty: none. TLSCert and TLSKey are PEM files; empty: no TLS. All are read anew
	// when they change.
	TokenFile, TLSCert, TLSKey string
	// Notify is who is told what became different, and NotifyOn of what, where a stack
	// does not say; none is of everything. With Once nobody is.
	Notify   []Target
	NotifyOn []spec.Event
	// CommitStatus writes at commits what became of them; nil: nobody does. PageURL is
	// where skep's page is, which statuses lead to; empty: they lead nowhere. With Once no
	// status is written.
	CommitStatus CommitPoster
	PageURL      string
	// WebhookSecretFile names the file of the secrets by which forges say, at /hooks/git,
	// that there is something new; empty: there is no such path. It is read anew when it
	// changes. Every source is then looked at soon, and read again.
	WebhookSecretFile string

	Registry *prometheus.Registry
	Logger   *zap.Logger
	Version  string
	Now      func() time.Time
}

// check fills in defaults and says what is missing.
func (c *Config) check() error {
	if err := c.checkSources(); err != nil {
		return err
	}
	if c.Resync < 0 || c.Workers < 0 || c.History < 0 {
		return errors.New("resync, workers and history must not be negative")
	}
	if c.WebhookSecretFile != "" && c.Listen == "" {
		return errNoListener
	}
	if c.Owner == "" {
		c.Owner = "skep"
	}
	if err := reconcile.CheckOwner(c.Owner); err != nil {
		return err
	}
	if c.Resync == 0 {
		c.Resync = time.Minute
	}
	if c.Workers == 0 {
		c.Workers = 4
	}
	if c.VanishAfter == 0 {
		c.VanishAfter = VanishAfter
	}
	if c.ScanLimit == 0 {
		c.ScanLimit = scanLimit
	}
	if c.Owner == "" {
		c.Owner = "skep"
	}
	if c.Registry == nil {
		c.Registry = prometheus.NewRegistry()
	}
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Check == nil {
		c.Check = func(context.Context) error { return nil }
	}
	if c.Explain == nil {
		c.Explain = func(err error) error { return err }
	}
	return nil
}

// Run works until ctx ends, or, with c.Once, until every stack is settled. An
// engine that is away and files that cannot be read do not end it: it waits for
// them, and says so. Its error is nil after a clean stop.
func Run(ctx context.Context, c Config) error {
	if c.Client == nil {
		return errors.New("no engine to work on")
	}
	if err := c.check(); err != nil {
		return err
	}
	policy, err := openPolicy(c.PolicyFile, c.Now())
	if err != nil && c.Once {
		return err // else it waits for a better one, as it does for files
	}
	if policy != nil {
		if how := PolicyInOtherHands(c.PolicyFile, c.dirs()...); how != "" {
			c.Logger.Warn("who writes stacks may be able to write the policy", zap.String("detail", c.PolicyFile+": "+how))
		}
	}
	scanners := map[string]*spec.Scanner{}
	for _, s := range c.Sources {
		scanners[s.Name] = spec.NewScanner(s.Dir, spec.Options{Env: c.Env, Profiles: c.Profiles, MaxFileSize: c.MaxFileSize, Keys: c.Keys, Part: len(c.Sources) > 1 || s.Name != DefaultSource})
	}
	lease := NewLease(c.Client, c.Owner, c.ID)
	fenced := Fence(c.Client, lease)
	reconciler := reconcile.New(reconcile.Options{
		Swarm: fenced, Credentials: c.Credentials, Owner: c.Owner,
		History: c.History, PruneStacks: c.PruneStacks, Now: c.Now,
		Policy: policy.policy, AllowHostRoot: c.AllowHostRoot,
	})
	return run(ctx, c, edges{
		reconciler: reconciler, sights: reconciler,
		policy: policy,
		events: c.Client,
		notes:  fenced,
		beside: c.Client,
		scan:   func(ctx context.Context, s Source) *spec.Snapshot { return scanners[s.Name].Scan(ctx) },
		watch:  func(ctx context.Context, s Source) <-chan struct{} { return Watch(ctx, s.Dir) },
		leader: lease,
		tags:   func(leads func() bool, m *metrics) tags { return newTags(c, leads, m) },
	})
}

// edges are where the daemon meets the world.
type edges struct {
	reconciler Reconciler
	events     Events
	notes      notes // where what the controller alone knows is kept; nil: nowhere
	beside     notes // the same for one that stands by; nil: nowhere
	scan       func(context.Context, Source) *spec.Snapshot
	watch      func(context.Context, Source) <-chan struct{} // a value when files may have changed
	policy     *policyFile                                   // nil: there is none
	leader     leader                                        // nil: nobody else acts
	sights     sights                                        // nil: only what passes find is shown
	tags       func(leads func() bool, m *metrics) tags      // makes what asks registries; nil: nobody does
}

// A controller is the daemon at work.
type controller struct {
	Config
	edges
	desired atomic.Pointer[desired]
	feeds   *feeds
	kept    *kept
	book    *book
	queue   *queue
	engine  *refresher
	stream  *stream
	metrics *metrics
	report  *report
	health  *health
	notices *notices // nil: nobody is told
	relay   *relay   // nil: there is nobody to pass looks on to
	page    *page

	atListing  atomic.Pointer[[]string] // see lived
	acted      atomic.Bool              // as the log was told
	beginnings beginnings
	descents   []*descents // of the sources, in their order
	followed   followed
}

func newController(cfg Config, e edges) *controller {
	c := &controller{
		Config:  cfg,
		edges:   e,
		book:    newBook(),
		queue:   newQueue(newQueueMetrics(cfg.Registry)),
		metrics: newMetrics(cfg.Registry),
		report:  newReport(cfg.Logger),
	}
	if c.leader == nil {
		c.leader = alone{}
	}
	c.feeds = newFeeds(c)
	c.health = newHealth(cfg.Now, append(c.feeds.loops(), "engine")...)
	begin := desired{patience: cfg.VanishAfter}
	for _, f := range c.feeds.all {
		begin.sources = append(begin.sources, f.stands)
		c.descents = append(c.descents, newDescents(f.Dir))
	}
	c.desired.Store(&begin)
	c.kept = newKept(cfg, e.notes, c.leads)
	c.notices = newNotices(cfg, e.notes, c.leads, c.metrics)
	c.notices.knows(c.endedAs, c.repositoryOf)
	c.relay = newRelay(e.beside, cfg.Owner)
	if e.tags != nil {
		c.followed.tags = e.tags(c.leads, c.metrics)
	}
	c.page = newPage(c)
	c.engine = &refresher{
		reconciler:  e.reconciler,
		check:       cfg.Check,
		explain:     cfg.Explain,
		resync:      cfg.Resync,
		queue:       c.queue,
		report:      c.report,
		health:      c.health,
		all:         func() []string { return c.desired.Load().names() },
		listedAgain: c.listedAgain,
		news:        func() { c.page.changed() },
		term:        c.termNow,
		opened:      make(chan struct{}, 1),
		hints:       make(chan struct{}, 1),
	}
	c.stream = &stream{source: e.events, gate: &c.engine.gate, opened: c.engine.opened, hints: c.engine.hints, report: c.report, noticed: c.noticed, hears: c.hears, reopened: c.metrics.reconnects.Inc}
	registerProcess(cfg.Registry, cfg.Version)
	register(cfg.Registry, prometheus.Collector(&stateCollector{fleet: c.fleet, findings: c.directoryFindings, sources: c.sources,
		policy: func() *policyFile { return c.policy }, engine: c.engine.up, leads: c.leads}))
	register(cfg.Registry, prometheus.Collector(&pruneCollector{c.pruneWaits}))
	register(cfg.Registry, prometheus.Collector(&gitCollector{func() []Source { return c.Sources }}))
	return c
}

func run(ctx context.Context, cfg Config, e edges) error {
	c := newController(cfg, e)
	if cfg.Once {
		defer c.queue.work.ShutDown()
		return c.once(ctx)
	}
	return c.daemon(ctx)
}

// daemon starts every part, waits until ctx ends or a part breaks, and stops them
// in the opposite order.
func (c *controller) daemon(ctx context.Context) error {
	site, err := c.openSite()
	if err != nil {
		c.queue.work.ShutDown()
		return err
	}
	c.Logger.Info("started", zap.String("version", c.Version), zap.String("specs", c.places()), zap.Duration("resync", c.Resync))
	p := newParts(ctx)
	if site != nil {
		p.start("http", func(ctx context.Context) error {
			context.AfterFunc(ctx, c.page.site.Close)
			return site.serve(ctx, handler(c.Registry, c.health.check, c.ready, c.role), c.page.site, c.Logger)
		})
		p.start("page", endless(c.page.run))
		if c.Listening != nil {
			c.Listening(site.listener.Addr())
		}
	}
	p.start("lease", endless(c.keepLease)) // before those who write, so that it is handed over after them
	if c.notices != nil {                  // before those who tell it, so that what they say last is sent
		p.start("notify", endless(c.notify)).limit = flushLimit + 100*time.Millisecond
	}
	p.start("workers", endless(c.work)).limit = drainLimit + partLimit
	p.start("engine", endless(c.engine.run))
	p.start("events", endless(c.stream.run))
	for _, f := range c.feeds.all {
		if f.Keep != nil {
			p.start("source "+f.Name, endless(func(ctx context.Context) { c.keepSource(ctx, f) }))
		}
	}
	if c.followed.tags != nil {
		p.start("follow", endless(c.followTags))
	}
	p.start("source", endless(c.readFiles))
	if c.policy != nil {
		p.start("policy", endless(c.watchPolicy))
	}
	if c.relay != nil && c.WebhookSecretFile != "" {
		p.start("relay", endless(c.passOn))
	}
	p.start("report", endless(c.keep))
	broken := p.wait(ctx)
	err = errors.Join(broken, p.stop(stopLimit))
	c.Logger.Info("stopped", zap.Error(err))
	return err
}

// endless is a part that only ends when its context does.
func endless(f func(context.Context)) func(context.Context) error {
	return func(ctx context.Context) error {
		f(ctx)
		return nil
	}
}

// parts run side by side, each with a context of its own, so that they can be
// stopped one after the other.
type parts struct {
	base    context.Context
	started []*part
	broken  chan error
}

type part struct {
	name   string
	cancel context.CancelFunc
	limit  time.Duration // a stop waits for so long before it goes on to the next part
	done   chan struct{}
	err    error // valid when done is closed
}

// newParts keeps ctx's values, not its end.
func newParts(ctx context.Context) *parts {
	return &parts{base: context.WithoutCancel(ctx), broken: make(chan error, 1)}
}

func (p *parts) start(name string, f func(context.Context) error) *part {
	ctx, cancel := context.WithCancel(p.base)
	x := &part{name: name, cancel: cancel, limit: partLimit, done: make(chan struct{})}
	p.started = append(p.started, x)
	go func() {
		defer close(x.done)
		err := f(ctx)
		if ctx.Err() != nil {
			x.err = err
			return
		}
		if err == nil {
			err = fmt.Errorf("the %s ended by itself", name)
		}
		select {
		case p.broken <- err:
		default:
		}
	}()
	return x
}

// wait returns nil when ctx ends, or the error of the first part that broke.
func (p *parts) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case err := <-p.broken:
		return err
	}
}

// stop ends the parts, the last started first, all of them within the limit. One that
// hangs, as a scan of a mount that is gone does, holds nobody up for long.
func (p *parts) stop(limit time.Duration) error {
	late := time.NewTimer(limit)
	defer late.Stop()
	for _, x := range slices.Backward(p.started) {
		x.cancel()
		patience := time.NewTimer(x.limit)
		select {
		case <-x.done:
		case <-patience.C:
		case <-late.C:
			late.Reset(0)
		}
		patience.Stop()
	}
	var errs []error
	for _, x := range slices.Backward(p.started) {
		select {
		case <-x.done:
		case <-late.C:
			late.Reset(0)
		}
		select {
		case <-x.done:
			if x.err != nil {
				errs = append(errs, fmt.Errorf("stop %s: %w", x.name, x.err))
			}
		default:
			errs = append(errs, fmt.Errorf("stop %s: it still ran after %s", x.name, limit))
		}
	}
	return errors.Join(errs...)
}
