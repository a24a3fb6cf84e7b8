// Package gitsync keeps a directory being what a branch or a tag of a git repository
// says: it asks the remote, fetches into a cache, writes each commit out into a tree of
// its own and swaps a symlink in one step. So whoever reads the directory sees a whole
// commit, always, and reads it as any work tree:
//
//	CACHE/lock                  held by the process that the cache belongs to
//	CACHE/source.json           what the cache is of
//	CACHE/repo/<n>/.git         packs; a new one is begun when there are many
//	CACHE/trees/<commit>/       what the commit has below Path, with a .git file
//	CACHE/current               a symlink to one of the trees
//
// It never runs a program, a hook or a filter, fetches neither submodules nor what LFS
// keeps elsewhere, writes nothing to the remote, and sends credentials to the host that
// they are for and no other. What fails leaves the last good commit where it is.
package gitsync

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"time"
	"unicode"
)

// Limits bound what is believed of a remote.
type Limits struct {
	Pack  int64 // bytes of what one fetch brings
	Tree  int64 // bytes of the files of a commit, below Path
	File  int64 // bytes of one of them
	Files int   // files, folders and links of a commit, below Path
}

// DefaultLimits are what a Config without has.
var DefaultLimits = Limits{Pack: 512 << 20, Tree: 512 << 20, File: 64 << 20, Files: 20_000}

// DefaultInterval is how often the remote is asked, where nothing else is said.
const DefaultInterval = time.Minute

// A Config says what is fetched, and with what.
type Config struct {
	URL   string // https://…, ssh://…, user@host:path or file:///…; never with a password
	Ref   string // a branch or a tag, HEAD, or a full name that begins with refs/; default main
	Path  string // the folder of the commit that is wanted, with slashes; "": all of it
	Cache string // a directory that is this source's alone

	Interval time.Duration // between two looks at the remote; 0: DefaultInterval
	Limits   Limits        // each 0: that of DefaultLimits

	// Files, read anew for each look.
	Username          string // https: goes with the token; "": that of the URL, else git
	TokenFile         string // https: a token, one line
	PasswordFile      string // https: user:password, one line
	SSHKeyFile        string // ssh: a private key
	SSHPassphraseFile string // ssh: what opens it, where it needs that
	KnownHostsFile    string // ssh: the keys of hosts; nobody else is believed
	CAFile            string // https: who signs the server's certificate, if not a public CA
	VerifyFile        string // who has to have signed a commit; "": nobody

	AllowHTTP   bool // of hosts other than this one
	AllowRewind bool // take commits that do not descend from the last one

	Now func() time.Time // the clock; nil: the system's
}

// A Source is a directory that is kept. It may be used from many goroutines.
type Source struct {
	cfg   Config
	at    address
	cache *cacheDir
	dial  func(*Config, address) (connection, error) // what tests replace
	asked chan struct{}                              // somebody wants a look

	mu    sync.Mutex
	err   error     // why the directory may be old
	heard time.Time // when the remote last said what it has
	looks map[string]uint64
	began time.Time // when the look that is under way began; zero: none is
	state progress
}

// progress is what is known of the remote, between looks. It belongs to Run's goroutine.
type progress struct {
	tip     string // what the ref was when it was taken in; "": look at it all
	refused string // what it was when it was refused for good
	why     error
	fails   int // looks in a row that failed
}

// A connection is a remote that is let go of after a look.
type connection interface {
	remote
	secrets() []string // what it tells the server and nobody else may see
	end()
}

// New makes a Source whose cache is locked for this process until Close. What the cache
// has from before is in force at once; nobody is asked before Run.
func New(cfg Config) (*Source, error) {
	at, err := cfg.complete()
	if err != nil {
		return nil, err
	}
	s := &Source{cfg: cfg, at: at, dial: dial, asked: make(chan struct{}, 1), looks: map[string]uint64{}}
	for _, result := range LookResults() {
		s.looks[result] = 0
	}
	if s.cache, err = openCache(cfg.Cache, identity{at.String(), cfg.Ref, cfg.Path}); err != nil {
		return nil, fmt.Errorf("open the cache of %s: %w", at, err)
	}
	if err := s.doubtCached(); err != nil {
		s.cache.close()
		return nil, fmt.Errorf("open the cache of %s: %w", at, err)
	}
	s.err = s.old(refused(GitNotRead, "%s was not asked yet", at), false)
	return s, nil
}

// complete fills in what was left out, and checks what was given.
func (c *Config) complete() (address, error) {
	at, err := parseAddress(c.URL, c.AllowHTTP)
	if err != nil {
		return at, err
	}
	if c.Username != "" {
		at.user = c.Username
	}
	if c.Ref == "" {
		c.Ref = "main"
	}
	if c.Interval == 0 {
		c.Interval = DefaultInterval
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	c.Limits = c.Limits.or(DefaultLimits)
	if c.Path, err = cleanPath(c.Path); err != nil {
		return at, err
	}
	return at, c.check(at)
}

func (l Limits) or(d Limits) Limits {
	if l.Pack == 0 {
		l.Pack = d.Pack
	}
	if l.Tree == 0 {
		l.Tree = d.Tree
	}
	if l.File == 0 {
		l.File = d.File
	}
	if l.Files == 0 {
		l.Files = d.Files
	}
	return l
}

func (c *Config) check(at address) error {
	badRef := func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }
	hasLogin, hasKey := c.TokenFile != "" || c.PasswordFile != "", c.SSHKeyFile != ""
	web := at.scheme == "https" || at.scheme == "http"
	switch {
	case c.Cache == "":
		return errors.New("a git source needs a directory for its cache")
	case strings.HasPrefix(c.Ref, "-") || strings.ContainsFunc(c.Ref, badRef):
		return fmt.Errorf("%q is not the name of a branch or a tag", clean(c.Ref))
	case c.Interval < 0 || c.Limits.Pack < 0 || c.Limits.Tree < 0 || c.Limits.File < 0 || c.Limits.Files < 0:
		return errors.New("an interval or a limit of a git source is less than nothing")
	case c.TokenFile != "" && c.PasswordFile != "":
		return errors.New("a git source has a token or a password, not both")
	case at.scheme == "ssh" && !hasKey:
		return fmt.Errorf("%s needs an ssh key (give its file)", at)
	case at.scheme == "ssh" && c.KnownHostsFile == "":
		return fmt.Errorf("%s needs a file with the host's key (make it with ssh-keyscan, and compare it with what the host's owner says)", at)
	case at.scheme != "ssh" && (hasKey || c.KnownHostsFile != "" || c.SSHPassphraseFile != ""):
		return fmt.Errorf("an ssh key and known hosts are of no use for %s", at)
	case !web && (hasLogin || c.CAFile != ""):
		return fmt.Errorf("a token, a password or a CA is of no use for %s", at)
	}
	return nil
}

// cleanPath is a folder below the tree, with slashes, "" for the tree itself.
func cleanPath(p string) (string, error) {
	p = strings.Trim(filepath.ToSlash(p), "/")
	if p == "" || p == "." {
		return "", nil
	}
	for part := range strings.SplitSeq(p, "/") {
		if bad := badName(part); bad != "" {
			return "", fmt.Errorf("%q is no folder of a repository: a part of it %s", clean(p), bad)
		}
	}
	return p, nil
}

// dial gets ready to ask, with credentials as they are now.
func dial(c *Config, at address) (connection, error) {
	switch at.scheme {
	case "ssh":
		return newSSHRemote(c, at)
	case "file":
		return newLocalRemote(at)
	}
	return newHTTPRemote(c, at)
}

// Dir is the directory that is kept: a path by way of a symlink that is swapped. It is
// not there before the first commit was fetched.
func (s *Source) Dir() string {
	return filepath.Join(s.cache.current(), filepath.FromSlash(s.cfg.Path))
}

// Look asks Run to look at the remote soon: at once, or a moment after the last look.
// Many calls are one. It never blocks.
func (s *Source) Look() {
	select {
	case s.asked <- struct{}{}:
	default:
	}
}

// State is nil while Dir is what the remote has, as far as the last look could tell.
// Else it is a *spec.SourceError whose sentence says which commit is in force instead,
// since when, and when the remote was last heard of. The sentence stays the same as long
// as things do: ages are told as times.
func (s *Source) State() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil && !s.began.IsZero() && s.cfg.Now().Sub(s.began) >= fetchLimit+overdueAfter {
		// Which commit is in force is not asked: the cache may be what hangs.
		return refused(GitUnreachable, "%s is looked at since %s without an end (is it, or the cache, on a mount that hangs? What was fetched last stays in force)",
			s.at, s.began.UTC().Format(time.RFC3339))
	}
	return s.err
}

// overdueAfter is how much longer than it may a look takes before it counts as one that
// hangs: no context ends a system call.
const overdueAfter = time.Minute

// What comes of a look at the remote, in one word each.
const (
	LookUnchanged = "unchanged" // it has nothing new
	LookChanged   = "changed"   // what it has is in force now
	LookRefused   = "refused"   // what it has is not taken
	LookFailed    = "error"     // it gave no answer that could be used, or the cache failed
)

// LookResults are all of them.
func LookResults() []string {
	return []string{LookUnchanged, LookChanged, LookRefused, LookFailed}
}

// A Status is what there is to tell of a Source beside State.
type Status struct {
	Commit string            // in force, 40 hex digits; "": none
	Since  time.Time         // when it was written out; zero: unknown
	Heard  time.Time         // when the remote last said what it has; zero: not since the start
	Looks  map[string]uint64 // how many there were since the start, by LookResults
}

// Status tells how the Source stands.
func (s *Source) Status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	commit, since := s.cache.head()
	return Status{commit, since, s.heard, maps.Clone(s.looks)}
}

// old adds to err what is in force, and when the remote was last heard of, if that was
// not just now. It is called with mu, or before anybody else knows s.
func (s *Source) old(err error, heardNow bool) error {
	commit, since := s.cache.head()
	if commit == "" {
		return sourceError(reasonOf(err), fmt.Errorf("%w (no commit is there yet)", err))
	}
	heard := ""
	if !heardNow && !s.heard.IsZero() {
		heard = fmt.Sprintf(", and the remote was last heard of at %s", s.heard.UTC().Format(time.RFC3339))
	}
	return sourceError(reasonOf(err), fmt.Errorf("%w (commit %.7s stays in force, which was written out at %s%s)",
		err, commit, since.UTC().Format(time.RFC3339), heard))
}

// Close lets go of the cache, which another process may have then. Run has to have
// ended.
func (s *Source) Close() error { return s.cache.close() }

const (
	// lookGap is how far apart two looks are at least, whoever asks.
	lookGap = time.Second
	// maxBackoff is how many intervals apart looks are that fail again and again.
	maxBackoff = 5
)

// Run looks at the remote at once, and then every so often, until ctx ends. changed is
// called after each swap, and when what State says becomes another thing.
func (s *Source) Run(ctx context.Context, changed func()) {
	next := time.NewTimer(0)
	defer next.Stop()
	var last time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.asked:
			if wait := lookGap - time.Since(last); wait > 0 && !last.IsZero() {
				if !sleep(ctx, wait) {
					return
				}
			}
		case <-next.C:
		}
		last = time.Now()
		s.lookOnce(ctx, changed)
		next.Reset(delay(s.cfg.Interval, s.state.fails, rand.Float64()))
	}
}

// sleep waits, and says whether ctx still goes on.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// delay is how long to wait after so many looks that failed in a row: the interval,
// doubled with each further one up to maxBackoff of it, and a tenth more or less, by
// chance (0 to 1), so that many controllers do not ask at once.
func delay(interval time.Duration, fails int, chance float64) time.Duration {
	factor := 1
	for i := 1; i < fails && factor < maxBackoff; i++ {
		factor *= 2
	}
	d := float64(interval) * float64(min(factor, maxBackoff))
	return time.Duration(d * (0.9 + 0.2*chance))
}

// lookOnce looks, and keeps what came of it.
func (s *Source) lookOnce(ctx context.Context, changed func()) {
	before, _ := s.cache.head()
	s.underWay(s.cfg.Now())
	heard, err := s.look(ctx)
	s.underWay(time.Time{})
	if ctx.Err() != nil && err != nil {
		return // nobody knows what it would have come to
	}
	s.state.fails++
	if heard {
		s.state.fails = 0
	}
	after, _ := s.cache.head()
	s.mu.Lock()
	if heard {
		s.heard = s.cfg.Now()
	}
	s.looks[lookResult(heard, before != after, err)]++
	was := s.err
	switch {
	case err == nil:
		s.err = nil
	case reasonOf(err) == GitUnreachable && reasonOf(was) == GitUnreachable && before == after:
		// It goes on, maybe in other words: ports, and who was asked, change.
	default:
		s.err = s.old(err, heard)
	}
	now := s.err
	s.mu.Unlock()
	if before != after || told(was) != told(now) {
		changed()
	}
}

// underWay takes in when a look began, zero when it ended.
func (s *Source) underWay(began time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.began = began
}

func lookResult(heard, changed bool, err error) string {
	switch {
	case err != nil && heard:
		return LookRefused
	case err != nil:
		return LookFailed
	case changed:
		return LookChanged
	}
	return LookUnchanged
}

func told(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
