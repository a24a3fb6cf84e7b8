package gitsync

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-git/go-billy/v5/osfs"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/cache"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/format/idxfile"
	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/storage/filesystem"
)

const (
	// objectCache is how much of objects the git library may keep, and largeObject from
	// what size on it reads one piece by piece.
	objectCache = 8 * cache.MiByte
	largeObject = 1 << 20
	// maxMeta bounds a commit, a tag and a tree, which are read as a whole.
	maxMeta = 16 << 20
	// maxTags is how many tags may be about each other.
	maxTags = 5
	// tempPrefix begins the names of what a start removes.
	tempPrefix = "tmp_"
)

// A store is a git repository of the cache: packs, and where their history ends. It has
// the shape of a clone without a work tree, for package spec and git to read.
type store struct {
	dir     string // has a .git
	storage *filesystem.Storage
}

func (s *store) gitDir() string { return filepath.Join(s.dir, ".git") }
func (s *store) packs() string  { return filepath.Join(s.gitDir(), "objects", "pack") }

// skeleton is what git wants to see in a repository.
var skeleton = map[string]string{
	"HEAD":   "ref: refs/heads/none\n",
	"config": "[core]\n\trepositoryformatversion = 0\n\tbare = false\n",
}

// openStore opens the store in dir, or makes one.
func openStore(dir string) (*store, error) {
	s := &store{dir: dir}
	for _, sub := range []string{"objects/pack", "objects/info", "refs/heads", "refs/tags", "worktrees"} {
		if err := os.MkdirAll(filepath.Join(s.gitDir(), sub), 0o755); err != nil {
			return nil, err
		}
	}
	for name, text := range skeleton {
		file := filepath.Join(s.gitDir(), name)
		if _, err := os.Stat(file); err == nil {
			continue
		}
		if err := writeSynced(file, []byte(text)); err != nil {
			return nil, err
		}
	}
	s.reopen()
	return s, nil
}

// reopen forgets what is known of the store's packs.
func (s *store) reopen() { s.storage = openStorage(s.gitDir()) }

// openStorage opens a git directory such that large objects are not held in memory.
func openStorage(gitDir string) *filesystem.Storage {
	return filesystem.NewStorageWithOptions(osfs.New(gitDir), cache.NewObjectLRU(objectCache),
		filesystem.Options{LargeObjectThreshold: largeObject})
}

// has says that the store has an object.
func (s *store) has(hash plumbing.Hash) bool { return s.storage.HasEncodedObject(hash) == nil }

// packCount is how many packs there are: each fetch brings one.
func (s *store) packCount() int {
	names, _ := filepath.Glob(filepath.Join(s.packs(), "pack-*.pack"))
	return len(names)
}

// errDisk is that it was the cache that failed, and not who delivers.
var errDisk = errors.New("write to the cache")

func diskError(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", errDisk, err)
}

// A diskWriter marks its errors as the disk's.
type diskWriter struct{ w io.Writer }

func (d diskWriter) Write(p []byte) (int, error) {
	n, err := d.w.Write(p)
	return n, diskError(err)
}

// take takes in what a remote delivers, no more than so many bytes.
func (s *store) take(ctx context.Context, d *delivery, limit int64) error {
	f, err := os.CreateTemp(s.packs(), tempPrefix)
	if err != nil {
		return diskError(err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	n, err := io.Copy(diskWriter{stoppable{ctx, f}}, io.LimitReader(d.pack, limit+1))
	if err != nil {
		return fmt.Errorf("receive a pack: %w", err)
	}
	if n > limit {
		return tooLarge("what it sends is larger than %s", size(limit))
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return diskError(err)
	}
	index, err := indexPack(ctx, f, s.packs())
	if err != nil {
		return fmt.Errorf("read the pack that was received: %w", err)
	}
	// Said first: a commit without parents that is said to have some is mended by the
	// next fetch, and one that lacks them unsaid is not.
	if err := s.setShallow(d.Shallows, nil); err != nil {
		return diskError(err)
	}
	if index != nil {
		if err := s.place(f, index); err != nil {
			return diskError(err)
		}
	}
	s.reopen()
	return diskError(s.setShallow(nil, d.Unshallows))
}

// place puts a pack and its index where git looks for them.
func (s *store) place(f *os.File, index *idxfile.MemoryIndex) error {
	base := filepath.Join(s.packs(), "pack-"+plumbing.Hash(index.PackfileChecksum).String())
	if err := f.Sync(); err != nil {
		return err
	}
	i, err := os.CreateTemp(s.packs(), tempPrefix)
	if err != nil {
		return err
	}
	defer os.Remove(i.Name())
	defer i.Close()
	if _, err := idxfile.NewEncoder(i).Encode(index); err != nil {
		return err
	}
	if err := i.Sync(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), base+".pack"); err != nil {
		return err
	}
	if err := os.Rename(i.Name(), base+".idx"); err != nil {
		return err
	}
	return syncDir(s.packs())
}

func (s *store) shallowFile() string { return filepath.Join(s.gitDir(), "shallow") }

// shallows are the commits that the store has without their parents.
func (s *store) shallows() ([]plumbing.Hash, error) {
	text, err := os.ReadFile(s.shallowFile())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var out []plumbing.Hash
	for _, line := range strings.Fields(string(text)) {
		if plumbing.IsHash(line) {
			out = append(out, plumbing.NewHash(line))
		}
	}
	return out, nil
}

// setShallow adds commits that have no parents here, and takes away those that have.
func (s *store) setShallow(add, remove []plumbing.Hash) error {
	if len(add)+len(remove) == 0 {
		return nil
	}
	list, err := s.shallows()
	if err != nil {
		return err
	}
	list = append(list, add...)
	plumbing.HashesSort(list)
	list = slices.DeleteFunc(slices.Compact(list), func(h plumbing.Hash) bool { return slices.Contains(remove, h) })
	var text strings.Builder
	for _, h := range list {
		fmt.Fprintln(&text, h)
	}
	temp := filepath.Join(s.gitDir(), tempPrefix+"shallow")
	if err := writeSynced(temp, []byte(text.String())); err != nil {
		return err
	}
	return os.Rename(temp, s.shallowFile())
}

// ofKind finds an object. One of another kind is the fault of who named it, and one that
// is missing the store's.
func ofKind(st *filesystem.Storage, kind plumbing.ObjectType, hash plumbing.Hash) (plumbing.EncodedObject, error) {
	o, err := st.EncodedObject(plumbing.AnyObject, hash)
	if err != nil {
		return nil, err
	}
	if o.Type() != kind {
		return nil, refused(GitRefused, "%s is a %s where a %s should be", hash, o.Type(), kind)
	}
	return o, nil
}

// bounded sees that a commit, tree or tag is one that can be read as a whole.
func bounded(st *filesystem.Storage, what string, hash plumbing.Hash) error {
	n, err := st.EncodedObjectSize(hash)
	if err == nil && n > maxMeta {
		err = tooLarge("%s %s has %s, and %s is the limit", what, hash, size(n), size(maxMeta))
	}
	return err
}

// readMeta reads a commit, tree or tag.
func readMeta(st *filesystem.Storage, kind plumbing.ObjectType, hash plumbing.Hash) ([]byte, error) {
	if err := bounded(st, kind.String(), hash); err != nil {
		return nil, err
	}
	o, err := ofKind(st, kind, hash)
	if err != nil {
		return nil, err
	}
	r, err := o.Reader()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	text := bytes.NewBuffer(make([]byte, 0, o.Size()))
	_, err = io.Copy(text, r)
	return text.Bytes(), err
}

// readCommit is what a commit says of its tree and its parents.
func readCommit(st *filesystem.Storage, hash plumbing.Hash) (tree plumbing.Hash, parents []plumbing.Hash, err error) {
	if err := bounded(st, "commit", hash); err != nil {
		return tree, nil, fmt.Errorf("read commit %s: %w", hash, err)
	}
	c, err := object.GetCommit(st, hash)
	if err != nil {
		return tree, nil, fmt.Errorf("read commit %s: %w", hash, err)
	}
	return c.TreeHash, c.ParentHashes, nil
}

// readTag is what a tag is about; other objects are none.
func readTag(st *filesystem.Storage, hash plumbing.Hash) (target plumbing.Hash, isTag bool, err error) {
	if err := bounded(st, "what the ref is about,", hash); err != nil {
		return target, false, fmt.Errorf("read %s: %w", hash, err)
	}
	o, err := st.EncodedObject(plumbing.AnyObject, hash)
	if err != nil {
		return target, false, fmt.Errorf("read %s: %w", hash, err)
	}
	if o.Type() != plumbing.TagObject {
		return target, false, nil
	}
	tag, err := object.DecodeTag(st, o)
	if err != nil {
		return target, false, fmt.Errorf("read tag %s: %w", hash, err)
	}
	return tag.Target, true, nil
}

// peel follows tags to the commit that a ref is about, and tells see of each.
func peel(st *filesystem.Storage, hash plumbing.Hash, see func(tag plumbing.Hash) error) (plumbing.Hash, error) {
	for range maxTags {
		target, isTag, err := readTag(st, hash)
		if err != nil {
			return hash, err
		}
		if !isTag {
			if _, err := st.EncodedObject(plumbing.CommitObject, hash); err != nil {
				return hash, refused(GitRefused, "the ref is not about a commit")
			}
			return hash, nil
		}
		if err := see(hash); err != nil {
			return hash, err
		}
		hash = target
	}
	return hash, refused(GitRefused, "the ref is a tag of a tag of a tag")
}

// peel is the commit that a ref of the store is about.
func (s *store) peel(hash plumbing.Hash) (plumbing.Hash, error) {
	return peel(s.storage, hash, func(plumbing.Hash) error { return nil })
}

// A kind is what an entry of a tree is.
type kind int

const (
	kindFile kind = iota
	kindExecutable
	kindLink
	kindDir
	kindSubmodule
)

// A treeEntry is a name in a tree.
type treeEntry struct {
	name string
	kind kind
	hash plumbing.Hash
}

// readTree takes a tree apart, as it is: whether its names will do is for others to say.
func readTree(st *filesystem.Storage, hash plumbing.Hash) ([]treeEntry, error) {
	text, err := readMeta(st, plumbing.TreeObject, hash)
	if err != nil {
		return nil, fmt.Errorf("read tree %s: %w", hash, err)
	}
	var out []treeEntry
	for len(text) > 0 {
		mode, rest, ok := bytes.Cut(text, []byte(" "))
		name, rest, ok2 := bytes.Cut(rest, []byte{0})
		if !ok || !ok2 || len(rest) < len(plumbing.ZeroHash) {
			return nil, refused(GitRefused, "tree %s is no tree", hash)
		}
		e := treeEntry{name: string(name)}
		copy(e.hash[:], rest)
		if e.kind, ok = kindOf(string(mode)); !ok {
			return nil, refused(GitRefused, "tree %s has something that is no file, folder, link or submodule (mode %q)", hash, clean(string(mode)))
		}
		out = append(out, e)
		text = rest[len(plumbing.ZeroHash):]
	}
	return out, nil
}

func kindOf(mode string) (kind, bool) {
	m, err := filemode.New(mode)
	if err != nil {
		return 0, false
	}
	switch m {
	case filemode.Regular, filemode.Deprecated:
		return kindFile, true
	case filemode.Executable:
		return kindExecutable, true
	case filemode.Symlink:
		return kindLink, true
	case filemode.Dir:
		return kindDir, true
	case filemode.Submodule:
		return kindSubmodule, true
	}
	return 0, false
}

// writeSynced writes a file such that it is on the disk.
func writeSynced(file string, text []byte) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(text); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}

// syncDir puts a directory's names on the disk.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// size is a number of bytes as people write it.
func size(n int64) string {
	switch {
	case n >= 1<<20 && n%(1<<20) == 0, n >= 10<<20:
		return fmt.Sprintf("%d MiB", n>>20)
	case n >= 1<<10:
		return fmt.Sprintf("%d KiB", n>>10)
	}
	return fmt.Sprintf("%d bytes", n)
}
