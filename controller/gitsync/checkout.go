package gitsync

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

// maxNesting is how deep folders may lie in each other.
const maxNesting = 64

// maxTarget is how long a symlink's target may be, as with the kernel.
const maxTarget = 4096

// A checkout writes a tree to a directory. It believes nothing of the tree: all of it is
// looked through before the first byte is written, names are checked, all is bounded, and
// what is written never leaves the directory, nor does what its symlinks point to.
type checkout struct {
	ctx    context.Context
	from   *filesystem.Storage
	root   *os.Root
	limits Limits
	write  func(f *os.File, r io.Reader) (int64, error) // what a test makes fail

	plan  []planned // folders before what is in them
	bytes int64
}

// A planned is something to write: a folder, a file, or a symlink to target.
type planned struct {
	name   string // from the directory, with slashes
	kind   kind
	hash   plumbing.Hash
	target string
}

// run writes what tree has at dir, a slash path without a slash at its ends, "" for all.
func (c *checkout) run(tree plumbing.Hash, dir string) error {
	tree, err := c.descend(tree, dir)
	if err != nil {
		return err
	}
	if err := c.walk(tree, dir, 0); err != nil {
		return err
	}
	if err := c.put(); err != nil {
		return err
	}
	return c.sync()
}

// descend finds the tree of dir, and plans the folders on the way.
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
		found := slices.IndexFunc(entries, func(e treeEntry) bool { return e.name == part && e.kind == kindDir })
		if found < 0 {
			return tree, refused(GitPathGone, "the commit has no folder %s", clean(at))
		}
		tree = entries[found].hash
		c.plan = append(c.plan, planned{name: at, kind: kindDir})
	}
	return tree, nil
}

// walk looks through a tree, and plans what is in it.
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
		if len(c.plan) >= c.limits.Files {
			return tooLarge("it has more than %d files and folders", c.limits.Files)
		}
		if err := c.consider(e, path.Join(dir, e.name), depth); err != nil {
			return err
		}
	}
	return nil
}

func (c *checkout) consider(e treeEntry, name string, depth int) error {
	p := planned{name: name, kind: e.kind, hash: e.hash}
	var err error
	switch e.kind {
	case kindSubmodule:
		p.kind = kindDir // empty: submodules are not fetched
	case kindFile, kindExecutable:
		err = c.count(p, c.limits.File)
	case kindLink:
		p.target, err = c.readLink(p)
	}
	if err != nil {
		return err
	}
	c.plan = append(c.plan, p)
	if e.kind == kindDir {
		return c.walk(e.hash, name, depth+1)
	}
	return nil
}

// count counts a file's bytes.
func (c *checkout) count(p planned, limit int64) error {
	n, err := c.from.EncodedObjectSize(p.hash)
	if err != nil {
		return fmt.Errorf("read %q: %w", clean(p.name), err)
	}
	if n > limit {
		return tooLarge("%q has %s, and %s is the limit", clean(p.name), size(n), size(limit))
	}
	if c.bytes += n; c.bytes > c.limits.Tree {
		return tooLarge("its files have more than %s together", size(c.limits.Tree))
	}
	return nil
}

// readLink reads where a symlink leads to, by its own words.
func (c *checkout) readLink(p planned) (string, error) {
	if err := c.count(p, maxTarget); err != nil {
		return "", err
	}
	r, err := c.blob(p)
	if err != nil {
		return "", err
	}
	defer r.Close()
	text, err := io.ReadAll(io.LimitReader(r, maxTarget))
	if err != nil {
		return "", fmt.Errorf("read %q: %w", clean(p.name), err)
	}
	if t := string(text); t == "" || strings.Contains(t, "\x00") || path.IsAbs(t) || leaves(path.Join(path.Dir(p.name), t)) {
		return "", refused(GitRefused, "the symlink %q leads out of the repository (make it relative, to something in it)", clean(p.name))
	}
	return string(text), nil
}

// leaves says that a clean slash path leads above where it begins.
func leaves(p string) bool { return p == ".." || strings.HasPrefix(p, "../") }

// blob reads a file's content.
func (c *checkout) blob(p planned) (io.ReadCloser, error) {
	o, err := ofKind(c.from, plumbing.BlobObject, p.hash)
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", clean(p.name), err)
	}
	r, err := o.Reader()
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", clean(p.name), err)
	}
	return r, nil
}

// put writes what is planned: symlinks after all else, so that none is written through,
// and then sees where they lead as a file system does, by way of each other.
func (c *checkout) put() error {
	var links []planned
	for _, p := range c.plan {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		var err error
		switch p.kind {
		case kindDir:
			err = c.root.Mkdir(p.name, 0o755)
		case kindLink:
			links = append(links, p)
		case kindExecutable:
			err = c.file(p, 0o755)
		default:
			err = c.file(p, 0o644)
		}
		if err != nil {
			return failed(p, err)
		}
	}
	for _, l := range links {
		if err := c.root.Symlink(l.target, l.name); err != nil {
			return failed(l, err)
		}
	}
	for _, l := range links {
		if _, err := c.root.Stat(l.name); err != nil && escapes(err) {
			return refused(GitRefused, "the symlink %q leads out of the repository by way of others", clean(l.name))
		}
	}
	return nil
}

// failed tells of what the file system does not take. Two entries of one name are the
// commit's fault.
func failed(p planned, err error) error {
	if errors.Is(err, fs.ErrExist) {
		return refused(GitRefused, "the commit has %q twice, or names that the cache's file system takes for one", clean(p.name))
	}
	return fmt.Errorf("write %q: %w", clean(p.name), err)
}

// escapes tells os.Root's refusal from a link to nothing, or in circles.
func escapes(err error) bool {
	return strings.Contains(err.Error(), "escapes from parent")
}

func (c *checkout) file(p planned, mode fs.FileMode) error {
	r, err := c.blob(p)
	if err != nil {
		return err
	}
	defer r.Close()
	f, err := c.root.OpenFile(p.name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Chmod(mode); err != nil { // whatever the umask says
		return err
	}
	if _, err := c.write(f, r); err != nil {
		return err
	}
	return f.Close()
}

// fewFiles is up to how many files are put on the disk one by one: of more, the whole file
// system is, which takes one wait instead of thousands.
const fewFiles = 200

// sync puts all that was written on the disk.
func (c *checkout) sync() error {
	if len(c.plan) > fewFiles {
		d, err := c.root.Open(".")
		if err != nil {
			return err
		}
		defer d.Close()
		if all, err := syncFileSystem(d); all {
			return err
		}
	}
	for _, p := range slices.Backward(append([]planned{{name: ".", kind: kindDir}}, c.plan...)) {
		if p.kind == kindLink {
			continue // its folder has it
		}
		if err := c.syncOne(p.name); err != nil {
			return err
		}
	}
	return nil
}

func (c *checkout) syncOne(name string) error {
	f, err := c.root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
