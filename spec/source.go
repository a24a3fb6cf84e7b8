package spec

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Scan reads the specs directory dir once. Whoever reads it again and again uses a
// Scanner.
func Scan(ctx context.Context, dir string, o Options) *Snapshot {
	return NewScanner(dir, o).Scan(ctx)
}

// Gone says that the file of the stack of that name is gone for certain: the
// directory was read in full, no file in it is that stack's, and none is broken. A
// broken file can be any stack's: its name may be just what is wrong with it. A folder
// that has YAML files, and no compose file, may be the stack's that it was. In a git
// work tree a file is gone when the commit has it no more: what is only missing from
// the work tree may come back with the rest of a checkout.
func (s *Snapshot) Gone(stack string) bool {
	return s.Complete && s.Stacks[stack] == nil && !s.kept[stack] && len(s.Problems) == 0 && len(s.Nameless) == 0
}

// A Scanner reads one specs directory again and again, and remembers between
// scans what has not changed: a stack whose files are as they were is not loaded
// again, and a file that broke keeps the name that its stack had. It may be used
// from many goroutines; scans come one after the other.
type Scanner struct {
	dir   string
	shown string // the directory, as people are told of it
	o     Options
	load  func(context.Context, stackFile, Options) (*Stack, []Finding)
	now   func() time.Time
	pause time.Duration // before something that moved is read again

	mu   sync.Mutex
	git  gitSource
	memo map[string]memo // by site key
}

// NewScanner makes a Scanner of dir, which need not exist yet.
func NewScanner(dir string, o Options) *Scanner {
	return &Scanner{dir: dir, shown: dir, o: o, load: load, now: time.Now, pause: 20 * time.Millisecond}
}

// What moves while it is read is read again this often, and for as long as git
// works on the directory a scan waits so many pauses.
const (
	maxRereads  = 5
	maxGitWaits = 50
)

// Scan reads the directory as it is now. The directory may be a symlink that is
// swapped while it is read, and files may be in the middle of being written: what
// moved is read again, and where it does not come to rest the Snapshot (or, for
// one stack's files, the stack) says so instead of telling half a truth. An
// incomplete Snapshot holds what could be read, maybe nothing.
func (s *Scanner) Scan(ctx context.Context) *Snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	for try := 1; ; try++ {
		snap, err := s.scanOnce(ctx)
		if err == nil {
			return snap
		}
		if !errors.Is(err, errMoved) || try == maxRereads || ctx.Err() != nil {
			snap.Complete, snap.Err = false, err
			return snap
		}
		s.rest(ctx)
	}
}

// errMoved is why a scan is worth another try.
var errMoved = errors.New("it changed while it was read (it is read again when it comes to rest)")

// scanOnce reads the directory. The Snapshot is never nil; it is complete where
// the error is.
func (s *Scanner) scanOnce(ctx context.Context) (*Snapshot, error) {
	snap := &Snapshot{Dir: s.dir, Stacks: map[string]*Stack{}, Problems: map[string][]Finding{}}
	before, err := locate(s.dir)
	if err != nil {
		return snap, err
	}
	busy := !s.awaitGit(ctx, before.path)
	// By its own name: what a stack makes of its folder's path (a relative bind
	// mount) stays the same when a symlink is swapped.
	root, err := os.OpenRoot(before.name)
	if err != nil {
		return snap, &SourceError{SourceUnreadable, fmt.Errorf("open specs directory %s: %w", s.shown, err)}
	}
	defer root.Close()
	folders := s.folders()
	sites, err := discover(root, folders)
	if err != nil {
		return snap, &SourceError{SourceUnreadable, fmt.Errorf("read specs directory %s: %w", s.shown, err)}
	}
	if len(sites) == 0 {
		return snap, &SourceError{SourceEmpty, fmt.Errorf("no stack file in %s (expected NAME.yml or NAME/compose.yaml)", s.shown)}
	}
	readings, err := s.readAll(ctx, sites)
	if err != nil {
		return snap, fmt.Errorf("read specs directory %s: %w", s.shown, err)
	}
	settle(snap, readings)
	if !s.o.Part {
		snap.holdAgainst()
	}
	bare, err := s.bareFolders(root, readings)
	if err != nil {
		return snap, &SourceError{SourceUnreadable, fmt.Errorf("read specs directory %s: %w", s.shown, err)}
	}
	s.remember(readings, bare)
	s.name(snap, before.path, readings)
	absent, submodules := s.git.absent(before.path, sites)
	snap.takeBare(slices.DeleteFunc(bare, func(b bareFolder) bool {
		return len(b.files) == 0 && submodules != nil && !submodules[b.name] // git keeps no empty folder
	}))
	snap.takeAbsent(absent)
	if busy {
		return snap, &SourceError{SourceMoving, fmt.Errorf("git is at work in specs directory %s (when it is not, remove its index.lock)", s.shown)}
	}
	if !s.unmoved(before, root, sites, folders) {
		return snap, &SourceError{SourceMoving, fmt.Errorf("read specs directory %s: %w", s.shown, errMoved)}
	}
	snap.Complete = true
	return snap, nil
}

// unmoved says that the directory is still the one that was read, with the same
// stacks in it and nobody rearranging them.
func (s *Scanner) unmoved(before location, root *os.Root, sites []site, folders map[string]bool) bool {
	opened, err := root.Stat(".")
	if err != nil || !os.SameFile(opened, before.info) {
		return false
	}
	after, err := locate(s.dir)
	if err != nil || after.path != before.path || !os.SameFile(after.info, before.info) {
		return false
	}
	again, err := discover(root, folders)
	return err == nil && slices.EqualFunc(sites, again, site.same) && !gitAtWork(before.path, s.now())
}

// awaitGit waits, for a while, until git has finished what it does to dir, and
// says whether it has.
func (s *Scanner) awaitGit(ctx context.Context, dir string) bool {
	for range maxGitWaits {
		if !gitAtWork(dir, s.now()) {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		s.rest(ctx)
	}
	return false
}

// rest waits for one pause.
func (s *Scanner) rest(ctx context.Context) {
	t := time.NewTimer(s.pause)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// A location is where the specs directory really is.
type location struct {
	name string // absolute
	path string // absolute, without symlinks
	info fs.FileInfo
}

// locate resolves dir, or says in words why that is not a directory.
func locate(dir string) (location, error) {
	bad := func(reason, format string, args ...any) (location, error) {
		return location{}, &SourceError{reason, fmt.Errorf(format, args...)}
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return bad(SourceUnreadable, "find specs directory %s: %w", dir, err)
	}
	resolved, err := filepath.EvalSymlinks(abs)
	if errors.Is(err, fs.ErrNotExist) {
		if _, lerr := os.Lstat(abs); lerr == nil {
			return bad(SourceDangling, "specs directory %s is a symlink to nothing: %w", dir, err)
		}
		return bad(SourceMissing, "specs directory %s does not exist: %w", dir, err)
	}
	if err != nil {
		return bad(SourceUnreadable, "find specs directory %s: %w", dir, err)
	}
	info, err := os.Stat(resolved)
	if err != nil {
		return bad(SourceUnreadable, "find specs directory %s: %w", dir, err)
	}
	if !info.IsDir() {
		return bad(SourceNoDirectory, "specs directory %s is not a directory (name the directory that holds the stack files)", dir)
	}
	return location{abs, resolved, info}, nil
}

// composeNames are the names of a stack's file in a folder of its own.
var composeNames = []string{
	"compose.yaml", "compose.yml",
	"docker-compose.yaml", "docker-compose.yml",
	"docker-stack.yaml", "docker-stack.yml",
	"stack.yaml", "stack.yml",
}

// A site is a place in the specs directory where a stack is described.
type site struct {
	stackFile
	// key tells sites apart: the folder with a slash behind it, or the file.
	key string
	// files are the compose files: one, or more where that is the problem.
	files []string
	// problem says why the site is not loaded, nil where it is.
	problem *Finding
}

// same says that both are the same place in the same state.
func (a site) same(b site) bool {
	return a.key == b.key && slices.Equal(a.files, b.files) && (a.problem == nil) == (b.problem == nil)
}

// discover finds the stacks' places, sorted by name. Names that begin with a dot
// or an underscore, folders without a compose file and other files are not among
// them. What was a stack's folder at the last scan, and cannot be looked into now,
// still is one.
func discover(root *os.Root, folders map[string]bool) ([]site, error) {
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return nil, err
	}
	var sites []site
	for _, e := range entries {
		if passedOver(e.Name()) {
			continue
		}
		if s, ok := siteAt(root, e, folders[e.Name()]); ok {
			sites = append(sites, s)
		}
	}
	return sites, nil
}

// folders are the names that the last scan knew as folders of stacks.
func (s *Scanner) folders() map[string]bool {
	out := map[string]bool{}
	for key := range s.memo {
		if name, ok := strings.CutSuffix(key, "/"); ok {
			out[name] = true
		}
	}
	return out
}

// siteAt says what stack, if any, an entry of the specs directory is.
func siteAt(root *os.Root, e fs.DirEntry, wasFolder bool) (site, bool) {
	name := e.Name()
	ext := path.Ext(name)
	isYAML := ext == ".yml" || ext == ".yaml"
	info, err := root.Stat(name)
	if err == nil && info.IsDir() {
		return folderSite(root, name)
	}
	s := site{
		key:       name,
		files:     []string{name},
		stackFile: stackFile{root: root, dir: ".", file: name, name: strings.TrimSuffix(name, ext), dotenv: ".env"},
	}
	switch {
	case err != nil && e.Type()&fs.ModeSymlink == 0 && errors.Is(err, fs.ErrNotExist):
		return site{}, false // removed since it was listed
	case err != nil && wasFolder:
		s.key, s.problem = name+"/", unreadable(name, err)
	case err != nil && (isYAML || ext == "" || e.IsDir()):
		s.problem = unreadable(name, err) // without extension: a folder, for all one knows
	case !isYAML && wasFolder:
		s.key = name + "/"
		s.problem = &Finding{File: name, Severity: Error, Code: "not-a-file",
			Message: "this was a folder, maybe a stack's, and is a file now (bring the folder back, or remove the file)"}
	case !isYAML:
		return site{}, false
	case !info.Mode().IsRegular():
		s.problem = &Finding{File: name, Severity: Error, Code: "not-a-file",
			Message: "this is neither a file nor a folder (remove it)"}
	}
	return s, true
}

// folderSite says what stack, if any, a folder holds.
func folderSite(root *os.Root, name string) (site, bool) {
	s := site{
		key:       name + "/",
		stackFile: stackFile{root: root, dir: name, name: name, dotenv: path.Join(name, ".env")},
	}
	entries, err := fs.ReadDir(root.FS(), name)
	if err != nil {
		s.problem = unreadable(name, err)
		return s, true
	}
	for _, e := range entries {
		if slices.Contains(composeNames, e.Name()) {
			s.files = append(s.files, path.Join(name, e.Name()))
		}
	}
	if len(s.files) == 0 {
		return site{}, false
	}
	s.file = s.files[0]
	if len(s.files) > 1 {
		s.problem = &Finding{File: s.file, Severity: Error, Code: "two-compose-files",
			Message: fmt.Sprintf("the folder %s holds %s, and a stack is one file (keep one of them)", name, listed(s.files))}
		return s, true
	}
	if info, err := root.Stat(s.file); err != nil {
		s.problem = unreadable(s.file, err)
	} else if !info.Mode().IsRegular() {
		s.problem = &Finding{File: s.file, Severity: Error, Code: "not-a-file",
			Message: "this is not a file (make it one, or remove it)"}
	}
	return s, true
}

// unreadable is the finding of something that is there and cannot be read.
func unreadable(file string, err error) *Finding {
	f := &Finding{File: file, Severity: Error, Code: "unreadable", Message: fmt.Sprintf("cannot be read: %v (check that it exists and its permissions)", cause(err))}
	if strings.Contains(err.Error(), "escapes from parent") {
		f.Code = "outside"
		f.Message = "the symlink leads out of the specs directory (keep what it points to inside, and make the link relative)"
	}
	return f
}

// cause is err without the path, which the finding has already.
func cause(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// listed joins words as a sentence does: "a, b and c".
func listed(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " and " + words[last]
}

// readAll reads every site, several at a time. The error is ctx's alone.
func (s *Scanner) readAll(ctx context.Context, sites []site) ([]reading, error) {
	readings := make([]reading, len(sites))
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, at := range sites {
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			readings[i] = s.readSafely(ctx, at)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return readings, ctx.Err()
}

// remember keeps what the next scan can use. Places that are gone are forgotten.
func (s *Scanner) remember(readings []reading, bare []bareFolder) {
	was := s.memo
	s.memo = make(map[string]memo, len(readings))
	for _, b := range bare {
		s.memo[b.name+"/"] = memo{name: was[b.name+"/"].name}
	}
	for _, r := range readings {
		s.memo[r.site.key] = r.memo
	}
}

// settle gives every stack its name in the Snapshot: the one file that claims it
// is its stack or its problem, and several that claim it are a problem of all.
func settle(snap *Snapshot, readings []reading) {
	claims := map[string][]reading{}
	for _, r := range readings {
		for _, name := range r.names {
			claims[name] = append(claims[name], r)
		}
		if r.unsure {
			snap.Nameless = append(snap.Nameless, r.site.at())
		}
	}
	for name, rs := range claims {
		if len(rs) == 1 && rs[0].stack != nil {
			snap.Stacks[name] = rs[0].stack
			continue
		}
		for _, r := range rs {
			if r.stack == nil {
				snap.Problems[name] = append(snap.Problems[name], r.findings...)
			}
		}
		if len(rs) > 1 {
			snap.Problems[name] = append(snap.Problems[name], duplicates(name, rs)...)
		}
	}
}

// duplicates tells each of the files that claim the same name of the others.
func duplicates(name string, rs []reading) []Finding {
	var files []string
	for _, r := range rs {
		files = append(files, r.site.at())
	}
	var out []Finding
	for _, file := range files {
		out = append(out, Finding{File: file, Severity: Error, Code: "duplicate-stack",
			Message: fmt.Sprintf("%s describe the stack %q (keep one, or give one of them another name:)", listed(files), name)})
	}
	return out
}

// at is the site's place as people are told it.
func (s site) at() string {
	if s.file != "" {
		return s.file
	}
	return s.key
}
