package gitsync

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

// maxNesting is how deep folders may lie in each other.
const maxNesting = 64

// maxTarget is how long a symlink's target may be, as with the kernel.
const maxTarget = 4096

// A checkout writes a tree to a directory. It believes nothing of the tree: names are
// checked, all is bounded, and what is written never leaves the directory, nor does what
// its symlinks point to.
type checkout struct {
	ctx    context.Context
	from   *filesystem.Storage
	root   *os.Root
	limits Limits
	write  func(f *os.File, r io.Reader) (int64, error) // what a test makes fail

	entries int
	bytes   int64
	dirs    []string
	pending []pendingLink
}

type pendingLink struct{ name, target string }

// run writes what tree has at dir, a slash path without a slash at its ends, "" for all.
func (c *checkout) run(tree plumbing.Hash, dir string) error {
	tree, err := c.descend(tree, dir)
	if err != nil {
		return err
	}
	if err := c.walk(tree, dir, 0); err != nil {
		return err
	}
	if err := c.makeLinks(); err != nil {
		return err
	}
	for _, name := range append(c.dirs, ".") {
		if err := c.sync(name); err != nil {
			return err
		}
	}
	return nil
}

// descend finds the tree of dir, and makes the folders on the way.
func (c *checkout) descend(tree plumbing.Hash, dir string) (plumbing.Hash, error) {
	if dir == "" {
		return tree, nil
	}
	at := ""
	for part := range strings.SplitSeq(dir, "/") {
		at = path.Join(at, part)
		entries, err := readTree(c.from, tree)
		if err != nil {
			return tree, err
		}
		found := false
		for _, e := range entries {
			if e.name == part && e.kind == kindDir {
				tree, found = e.hash, true
			}
		}
		if !found {
			return tree, refused(GitPathGone, "the commit has no folder %s", clean(at))
		}
		if err := c.mkdir(at); err != nil {
			return tree, err
		}
	}
	return tree, nil
}

func (c *checkout) walk(tree plumbing.Hash, dir string, depth int) error {
	if depth > maxNesting {
		return tooLarge("its folders lie deeper in each other than %d", maxNesting)
	}
	entries, err := readTree(c.from, tree)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		if bad := badName(e.name); bad != "" {
			return refused(GitRefused, "%q in folder %q of the commit %s", clean(e.name), clean(dir), bad)
		}
		if c.entries++; c.entries > c.limits.Files {
			return tooLarge("it has more than %d files and folders", c.limits.Files)
		}
		if err := c.put(e, path.Join(dir, e.name), depth); err != nil {
			return err
		}
	}
	return nil
}

func (c *checkout) put(e treeEntry, name string, depth int) error {
	switch e.kind {
	case kindDir:
		if err := c.mkdir(name); err != nil {
			return err
		}
		return c.walk(e.hash, name, depth+1)
	case kindSubmodule:
		return c.mkdir(name) // empty: submodules are not fetched
	case kindLink:
		return c.readLink(e.hash, name)
	case kindExecutable:
		return c.file(e.hash, name, 0o755)
	}
	return c.file(e.hash, name, 0o644)
}

func (c *checkout) mkdir(name string) error {
	if err := c.root.Mkdir(name, 0o755); err != nil {
		return c.failed(name, err)
	}
	c.dirs = append(c.dirs, name)
	return nil
}

// failed tells of what the file system does not take. Two entries of one name are the
// commit's fault.
func (c *checkout) failed(name string, err error) error {
	if errors.Is(err, fs.ErrExist) {
		return refused(GitRefused, "the commit has %q twice, or names that the cache's file system takes for one", clean(name))
	}
	return fmt.Errorf("write %q: %w", clean(name), err)
}

func (c *checkout) file(hash plumbing.Hash, name string, mode fs.FileMode) error {
	r, err := c.blob(hash, name, c.limits.File)
	if err != nil {
		return err
	}
	defer r.Close()
	f, err := c.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return c.failed(name, err)
	}
	defer f.Close()
	if err := f.Chmod(mode); err != nil { // whatever the umask says
		return c.failed(name, err)
	}
	if _, err := c.write(f, r); err != nil {
		return c.failed(name, err)
	}
	if err := f.Sync(); err != nil {
		return c.failed(name, err)
	}
	return f.Close()
}

// blob reads a file's content, and counts it.
func (c *checkout) blob(hash plumbing.Hash, name string, limit int64) (io.ReadCloser, error) {
	o, err := c.from.EncodedObject(plumbing.BlobObject, hash)
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", clean(name), err)
	}
	if o.Size() > limit {
		return nil, tooLarge("%q has %s, and %s is the limit", clean(name), size(o.Size()), size(limit))
	}
	if c.bytes += o.Size(); c.bytes > c.limits.Tree {
		return nil, tooLarge("its files have more than %s together", size(c.limits.Tree))
	}
	r, err := o.Reader()
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", clean(name), err)
	}
	return r, nil
}

// readLink notes a symlink. It is made after all files, so that none is written through.
func (c *checkout) readLink(hash plumbing.Hash, name string) error {
	r, err := c.blob(hash, name, maxTarget)
	if err != nil {
		return err
	}
	defer r.Close()
	target, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("read %q: %w", clean(name), err)
	}
	if t := string(target); t == "" || strings.ContainsAny(t, "\x00") || path.IsAbs(t) || leaves(path.Join(path.Dir(name), t)) {
		return refused(GitRefused, "the symlink %q leads out of the repository (make it relative, to something in it)", clean(name))
	}
	c.pending = append(c.pending, pendingLink{name, string(target)})
	return nil
}

// leaves says that a clean slash path leads above where it begins.
func leaves(p string) bool { return p == ".." || strings.HasPrefix(p, "../") }

// makeLinks makes the symlinks, and sees where they lead as a file system does, by way of
// each other.
func (c *checkout) makeLinks() error {
	for _, l := range c.pending {
		if err := c.root.Symlink(l.target, l.name); err != nil {
			return c.failed(l.name, err)
		}
	}
	for _, l := range c.pending {
		if _, err := c.root.Stat(l.name); err != nil && escapes(err) {
			return refused(GitRefused, "the symlink %q leads out of the repository by way of others", clean(l.name))
		}
	}
	return nil
}

// escapes tells os.Root's refusal from a link to nothing, or in circles.
func escapes(err error) bool {
	return strings.Contains(err.Error(), "escapes from parent")
}

func (c *checkout) sync(name string) error {
	d, err := c.root.Open(name)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
