package spec

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/storer"
)

// A RefTree is a directory as another commit of the repository around it has it,
// written to a private place. The repository and its work tree stay as they are: only
// objects are read, and no hook, no filter and no git program runs. What is not
// committed is not in it. Close removes it.
type RefTree struct {
	Commit Commit
	ref    string // as it was asked for
	dir    string // the directory, as it was named
	named  string // likewise, absolute
	place  string // the private directory, which has all of it
	copied string // in place: the directory as the commit has it
}

// refLimits bound what is written of a commit.
type refLimits struct {
	files int
	bytes int64
	depth int // of folders
}

// usualRefLimits are what a directory of stacks never comes near.
var usualRefLimits = refLimits{files: 20_000, bytes: 64 << 20, depth: 100}

// maxRefLink is the length of a symlink's target, as the kernel has it.
const maxRefLink = 4096

// OpenRef reads dir, which need not exist in the work tree, as a ref of the repository
// around it says: a branch, a tag, a remote branch (origin/main), a commit's hash or
// its beginning, HEAD, each with ~N and ^N behind it. Nothing is fetched.
func OpenRef(ctx context.Context, dir, ref string) (*RefTree, error) {
	return openRef(ctx, dir, ref, usualRefLimits)
}

func openRef(ctx context.Context, dir, ref string, limits refLimits) (t *RefTree, err error) {
	defer func() {
		if p := recover(); p != nil { // go-git, of a damaged repository
			err = fmt.Errorf("read the git repository of %s: %v", dir, p)
		}
		if err != nil && t != nil {
			_ = t.Close()
			t = nil
		}
	}()
	named, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("find specs directory %s: %w", dir, err)
	}
	real := resolveExisting(named)
	top, gitDir := findGit(real)
	if top == "" {
		return nil, fmt.Errorf("%s is in no git repository: there is no %q to read", dir, ref)
	}
	repo, err := openGit(top)
	if err != nil {
		return nil, fmt.Errorf("read the git repository %s: %w", top, err)
	}
	commit, err := resolveCommit(repo, ref)
	if err != nil {
		return nil, fmt.Errorf("find %q in the git repository %s: %w", ref, top, err)
	}
	below, err := filepath.Rel(top, real)
	if err != nil {
		return nil, fmt.Errorf("find specs directory %s: %w", dir, err)
	}
	t = &RefTree{Commit: describe(commit), ref: ref, dir: dir, named: named}
	tree, err := t.find(commit, filepath.ToSlash(below))
	if err != nil {
		return nil, err
	}
	if err := t.prepare(gitDir, below); err != nil {
		return t, fmt.Errorf("make room for %s (TMPDIR names a directory that can be written): %w", t, err)
	}
	root, err := os.OpenRoot(t.copied)
	if err != nil {
		return t, fmt.Errorf("write %s: %w", t, err)
	}
	defer root.Close()
	w := refWriter{repo: repo, root: root, limits: limits}
	if err := w.tree(ctx, tree, ".", 0); err != nil {
		return t, fmt.Errorf("read %s: %w", t, err)
	}
	return t, nil
}

// String names what was read, for errors: "stacks at main (1a2b3c4)".
func (t *RefTree) String() string {
	return fmt.Sprintf("%s at %s (%s)", t.dir, printable(t.ref), t.Commit.Short)
}

// Scan reads the stacks as Scan does where the commit is checked out: its revision is
// the commit, and paths are those of the directory that was named.
func (t *RefTree) Scan(ctx context.Context, o Options) *Snapshot {
	o.as = t.named
	s := NewScanner(t.copied, o)
	s.shown = t.String()
	snap := s.Scan(ctx)
	snap.Dir = s.shown
	return snap
}

// Close removes what was written.
func (t *RefTree) Close() error {
	if err := os.RemoveAll(t.place); err != nil {
		return fmt.Errorf("remove the copy of %s: %w", t, err)
	}
	return nil
}

// find is the directory's tree in a commit. A symlink on the way to it is not followed.
func (t *RefTree) find(commit *object.Commit, below string) (*object.Tree, error) {
	tree, err := commit.Tree()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", t, unlessWhole(err))
	}
	if below == "." {
		return tree, nil
	}
	for name := range strings.SplitSeq(below, "/") {
		at, err := tree.FindEntry(name)
		switch {
		case errors.Is(err, object.ErrEntryNotFound):
			return nil, &SourceError{SourceMissing, fmt.Errorf("there is no %s", t)}
		case err != nil:
			return nil, fmt.Errorf("read %s: %w", t, unlessWhole(err))
		case at.Mode != filemode.Dir:
			return nil, &SourceError{SourceNoDirectory, fmt.Errorf("%s is not a directory (%s is a %s there)", t, name, kindOfMode(at.Mode))}
		}
		if tree, err = tree.Tree(name); err != nil {
			return nil, fmt.Errorf("read %s: %w", t, unlessWhole(err))
		}
	}
	return tree, nil
}

func kindOfMode(m filemode.FileMode) string {
	switch m {
	case filemode.Symlink:
		return "symlink"
	case filemode.Submodule:
		return "submodule"
	}
	return "file"
}

// prepare makes the private directory: a work tree that is linked to the repository as
// those of `git worktree` are, but for that the repository knows nothing of it.
func (t *RefTree) prepare(gitDir, below string) error {
	place, err := os.MkdirTemp("", "skep-ref-")
	if err != nil {
		return err
	}
	t.place = place
	top, own := filepath.Join(place, "tree"), filepath.Join(place, "git")
	t.copied = filepath.Join(top, below)
	for _, dir := range []string{t.copied, own} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	for name, text := range map[string]string{
		filepath.Join(top, git.GitDirName): "gitdir: " + own,
		filepath.Join(own, "HEAD"):         t.Commit.Hash,
		filepath.Join(own, "commondir"):    commonGitDir(gitDir),
	} {
		if err := os.WriteFile(name, []byte(text+"\n"), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// commonGitDir is where a git directory has its objects: in itself or, that of a linked
// work tree, in the one that it names.
func commonGitDir(gitDir string) string {
	text, err := os.ReadFile(filepath.Join(gitDir, "commondir"))
	common := strings.TrimSpace(string(text))
	switch {
	case err != nil || common == "":
		return gitDir
	case filepath.IsAbs(common):
		return common
	}
	return filepath.Join(gitDir, common)
}

// resolveExisting is a path without symlinks, as far as it exists.
func resolveExisting(file string) string {
	if resolved, err := filepath.EvalSymlinks(file); err == nil || file == filepath.Dir(file) {
		return cmp.Or(resolved, file)
	}
	return filepath.Join(resolveExisting(filepath.Dir(file)), filepath.Base(file))
}

// A refWriter writes a tree's files below root. What they are named and where symlinks
// lead is the work of whoever wrote the commit: root keeps every write inside, and who
// reads the files opens them through a root again, so that a symlink that leads out
// leads nowhere.
type refWriter struct {
	repo   *git.Repository
	root   *os.Root
	limits refLimits
	files  int
	bytes  int64
}

func (w *refWriter) tree(ctx context.Context, t *object.Tree, dir string, depth int) error {
	if depth > w.limits.depth {
		return fmt.Errorf("folders lie deeper than %d", w.limits.depth)
	}
	for _, e := range t.Entries {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if !safeName(e.Name) {
			return fmt.Errorf("a file cannot be named %q in a commit", e.Name)
		}
		if w.files++; w.files > w.limits.files {
			return fmt.Errorf("there are more than %d files (let --specs name the directory of the stacks alone)", w.limits.files)
		}
		if err := w.entry(ctx, t, e, path.Join(dir, e.Name), depth); err != nil {
			return err
		}
	}
	return nil
}

// safeName says that a tree may have an entry of this name: git itself makes no other.
func safeName(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.EqualFold(name, git.GitDirName) && !strings.ContainsAny(name, "/\\\x00")
}

func (w *refWriter) entry(ctx context.Context, t *object.Tree, e object.TreeEntry, at string, depth int) error {
	switch e.Mode {
	case filemode.Dir:
		if err := w.root.Mkdir(at, 0o700); err != nil {
			return err
		}
		sub, err := w.repo.TreeObject(e.Hash)
		if err != nil {
			return fmt.Errorf("%s: %w", printable(at), unlessWhole(err))
		}
		return w.tree(ctx, sub, at, depth+1)
	case filemode.Submodule: // as an empty folder, as in a clone that has none
		return w.root.Mkdir(at, 0o700)
	case filemode.Symlink:
		target, err := w.blob(e.Hash, at, maxRefLink)
		if err != nil {
			return err
		}
		return w.root.Symlink(string(target), at)
	case filemode.Regular, filemode.Executable, filemode.Deprecated:
		content, err := w.blob(e.Hash, at, w.limits.bytes)
		if err != nil {
			return err
		}
		return w.write(at, content)
	}
	return fmt.Errorf("%s is neither a file nor a folder", printable(at))
}

// write writes a new file: a tree that has a name twice is none.
func (w *refWriter) write(at string, content []byte) error {
	f, err := w.root.OpenFile(at, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return errors.Join(err, f.Close())
}

// blob reads a file's content, when it is known that there is room for it.
func (w *refWriter) blob(hash plumbing.Hash, at string, most int64) ([]byte, error) {
	size, err := w.repo.Storer.EncodedObjectSize(hash)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", printable(at), unlessWhole(err))
	}
	if w.bytes += size; size > most || w.bytes > w.limits.bytes {
		return nil, fmt.Errorf("%s: it is too large, or there are more than %d MiB in files (let --specs name the directory of the stacks alone)", printable(at), w.limits.bytes>>20)
	}
	b, err := w.repo.BlobObject(hash)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", printable(at), unlessWhole(err))
	}
	r, err := b.Reader()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", printable(at), err)
	}
	defer r.Close()
	return io.ReadAll(io.LimitReader(r, size))
}

// unlessWhole says what to do where the clone lacks an object.
func unlessWhole(err error) error {
	if errors.Is(err, plumbing.ErrObjectNotFound) || errors.Is(err, object.ErrDirectoryNotFound) || errors.Is(err, object.ErrFileNotFound) {
		return errors.New("this clone does not have it (git fetch without --depth and --filter brings it)")
	}
	return err
}

// revision is a name with ways to ancestors behind it.
var revision = regexp.MustCompile(`^(.+?)((?:[~^][0-9]{0,5})*)$`)

// resolveCommit finds the commit that a revision means, by git's rules (gitrevisions(7))
// for names, hashes, ~ and ^.
func resolveCommit(repo *git.Repository, ref string) (*object.Commit, error) {
	parts := revision.FindStringSubmatch(ref)
	if parts == nil {
		return nil, errors.New("that is no name of a branch, a tag or a commit")
	}
	hash, err := resolveName(repo, parts[1])
	if err != nil {
		return nil, err
	}
	commit, err := peel(repo, hash)
	if err != nil {
		return nil, err
	}
	for _, step := range regexp.MustCompile(`[~^][0-9]*`).FindAllString(parts[2], -1) {
		if commit, err = ancestor(commit, step); err != nil {
			return nil, err
		}
	}
	return commit, nil
}

// ancestor goes one step: ~N to the Nth first parent, ^N to the Nth parent.
func ancestor(c *object.Commit, step string) (*object.Commit, error) {
	n := 1
	if len(step) > 1 {
		n, _ = strconv.Atoi(step[1:]) // digits, and few
	}
	times, parent := n, 0
	if step[0] == '^' {
		times, parent = min(n, 1), n-1
	}
	for range times {
		next, err := c.Parent(parent)
		switch {
		case errors.Is(err, object.ErrParentNotFound):
			return nil, fmt.Errorf("commit %.7s has no such parent", c.Hash)
		case err != nil:
			return nil, fmt.Errorf("a parent of commit %.7s: %w", c.Hash, unlessWhole(err))
		}
		c = next
	}
	return c, nil
}

// errNoRef tells what to do about a name that there is not.
var errNoRef = errors.New("there is no such branch, tag or commit (git fetch may bring it; a remote's branch is origin/NAME)")

// resolveName is what a name means: a whole hash, else a ref, else how a hash begins.
func resolveName(repo *git.Repository, name string) (plumbing.Hash, error) {
	if plumbing.IsHash(name) {
		return plumbing.NewHash(name), nil
	}
	for _, pattern := range []string{"%s", "refs/%s", "refs/tags/%s", "refs/heads/%s", "refs/remotes/%s", "refs/remotes/%s/HEAD"} {
		full := plumbing.ReferenceName(fmt.Sprintf(pattern, name))
		if pattern == "%s" && !strings.HasPrefix(name, "refs/") && !ofItself(name) || !ofItself(string(full)) && full.Validate() != nil {
			continue
		}
		ref, err := storer.ResolveReference(repo.Storer, full)
		switch {
		case err == nil:
			return ref.Hash(), nil
		case !errors.Is(err, plumbing.ErrReferenceNotFound):
			return plumbing.ZeroHash, err
		}
	}
	return beginning(repo, name)
}

// ofItself says that a name is one of those that lie beside the refs: other files lie
// there as well.
func ofItself(name string) bool {
	switch name {
	case "HEAD", "FETCH_HEAD", "ORIG_HEAD", "MERGE_HEAD":
		return true
	}
	return false
}

// beginning finds the one commit, or tag of one, whose hash begins like this.
func beginning(repo *git.Repository, digits string) (plumbing.Hash, error) {
	digits = strings.ToLower(digits)
	objects, ok := repo.Storer.(interface {
		HashesWithPrefix(prefix []byte) ([]plumbing.Hash, error)
	})
	prefix, err := hex.DecodeString(digits[:len(digits)&^1])
	if !ok || err != nil || len(digits) < 4 || strings.Trim(digits, "0123456789abcdef") != "" {
		return plumbing.ZeroHash, errNoRef
	}
	hashes, err := objects.HashesWithPrefix(prefix)
	if err != nil {
		return plumbing.ZeroHash, err
	}
	found := map[plumbing.Hash]bool{}
	for _, h := range hashes {
		if !strings.HasPrefix(h.String(), digits) {
			continue
		}
		if c, err := peel(repo, h); err == nil {
			found[c.Hash] = true
		}
	}
	if len(found) > 1 {
		return plumbing.ZeroHash, fmt.Errorf("%d commits begin like this (write more of the hash)", len(found))
	}
	for h := range found {
		return h, nil
	}
	return plumbing.ZeroHash, errNoRef
}

// peel is the commit of a hash: itself, or what a tag is of.
func peel(repo *git.Repository, hash plumbing.Hash) (*object.Commit, error) {
	if tag, err := repo.TagObject(hash); err == nil {
		commit, err := tag.Commit()
		if err != nil {
			return nil, fmt.Errorf("the tag is of no commit: %w", unlessWhole(err))
		}
		return commit, nil
	}
	commit, err := repo.CommitObject(hash)
	if errors.Is(err, plumbing.ErrObjectNotFound) {
		return nil, errNoRef
	}
	return commit, err
}
