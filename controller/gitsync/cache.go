package gitsync

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/go-git/go-git/v5/plumbing"
)

// An identity is what a cache is of. A cache of something else is begun anew.
type identity struct {
	URL  string `json:"url"`
	Ref  string `json:"ref"`
	Path string `json:"path"`
}

// A cacheDir is the directory that a Source keeps everything in. But for head it belongs
// to one goroutine.
type cacheDir struct {
	dir  string
	lock *os.File

	before  string // the tree that was in force before the one that is, and is kept
	suspect bool   // the newest store is damaged
	packs   int    // maxPacks
	write   func(f *os.File, r io.Reader) (int64, error)
}

// openCache locks the cache, removes what a process left behind that ended midway, and
// all if it is of something else.
func openCache(dir string, of identity) (*cacheDir, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	for _, sub := range []string{"", "repo", "trees"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, err
		}
	}
	c := &cacheDir{dir: dir, packs: maxPacks, write: func(f *os.File, r io.Reader) (int64, error) { return io.Copy(f, r) }}
	if c.lock, err = lockFile(filepath.Join(dir, "lock")); err != nil {
		return nil, err
	}
	if err := c.begin(of); err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// lockFile locks a file for this process.
func lockFile(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s belongs to another process that runs (give each one a cache of its own)", filepath.Dir(name))
		}
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	return f, nil
}

func (c *cacheDir) close() error { return c.lock.Close() }

func (c *cacheDir) begin(of identity) error {
	file := c.path("source.json")
	text, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var was identity
	if json.Unmarshal(text, &was) == nil && was == of {
		_ = c.tidy() // what cannot be removed now is when the next commit comes
		return nil
	}
	if err := c.empty(); err != nil {
		return err
	}
	if text, err = json.Marshal(of); err != nil {
		return err
	}
	if err := writeSynced(file+".new", text); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

func (c *cacheDir) path(elem ...string) string {
	return filepath.Join(append([]string{c.dir}, elem...)...)
}

// empty removes all that was fetched.
func (c *cacheDir) empty() error {
	if err := c.forget(); err != nil {
		return err
	}
	for _, sub := range []string{"trees", "repo"} {
		if err := emptyDir(c.path(sub)); err != nil {
			return err
		}
	}
	return nil
}

// forget has nothing in force any more.
func (c *cacheDir) forget() error {
	if err := os.Remove(c.current()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func emptyDir(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

func (c *cacheDir) current() string { return c.path("current") }

// head is the commit in force, and since when it is; "" where there is none.
func (c *cacheDir) head() (commit string, since time.Time) {
	commit, _, _ = strings.Cut(c.inForce(), ".")
	info, err := os.Lstat(c.current())
	if err != nil || !plumbing.IsHash(commit) {
		return "", time.Time{}
	}
	return commit, info.ModTime()
}

// whole says that what is in force is there.
func (c *cacheDir) whole() bool {
	_, err := os.Stat(filepath.Join(c.current(), ".git"))
	return err == nil
}

// distrust has the next store be a new one.
func (c *cacheDir) distrust() { c.suspect = true }

// store is the newest store, or a new one where that is damaged or has many packs.
func (c *cacheDir) store() (st *store, fresh bool, err error) {
	newest := 0
	for _, n := range c.stores() {
		newest = max(newest, n)
	}
	if newest > 0 && !c.suspect {
		st, err := openStore(c.path("repo", strconv.Itoa(newest)))
		if err != nil || st.packCount() < c.packs {
			return st, false, err
		}
	}
	st, err = openStore(c.path("repo", strconv.Itoa(newest+1)))
	return st, true, err
}

// storeInForce is the store that the tree in force was made of.
func (c *cacheDir) storeInForce() (*store, error) {
	_, number, _ := strings.Cut(c.inForce(), ".")
	if _, err := strconv.Atoi(number); err != nil {
		return nil, fmt.Errorf("what is in force is called %q, which names no store", clean(c.inForce()))
	}
	return openStore(c.path("repo", number))
}

// stores are the numbers of all stores.
func (c *cacheDir) stores() []int {
	entries, _ := os.ReadDir(c.path("repo"))
	var out []int
	for _, e := range entries {
		if n, err := strconv.Atoi(e.Name()); err == nil && n > 0 {
			out = append(out, n)
		}
	}
	return out
}

// keepFresh keeps a new store, unless err says that it did not get what it was made for,
// or makes room where there is none.
func (c *cacheDir) keepFresh(st *store, err error) {
	switch reasonOf(err) {
	case GitUnreachable, GitDenied, GitTooLarge, GitCacheFull, GitCacheBroken:
		_ = os.RemoveAll(st.dir) // else the next tidy does
	default: // what is refused may not be tomorrow, and is not fetched again for that
		c.suspect = false
	}
}

// swap writes a commit out, and puts it in force. Where that fails what was in force
// still is, and nothing is left behind.
func (c *cacheDir) swap(ctx context.Context, st *store, commit plumbing.Hash, dir string, limits Limits) error {
	name, was := treeName(commit, st), c.inForce()
	if was == name && c.whole() {
		return nil
	}
	tree := c.path("trees", name)
	if _, err := os.Stat(filepath.Join(tree, ".git")); err != nil {
		if err := c.make(ctx, st, commit, tree, dir, limits); err != nil {
			return err
		}
	}
	if err := c.point(name); err != nil {
		return err
	}
	if was != name {
		c.before = was
	}
	c.suspect = false
	_ = c.tidy() // what cannot be removed now is when the next commit comes
	return nil
}

// make makes a tree: beside its place, and then in one step.
func (c *cacheDir) make(ctx context.Context, st *store, commit plumbing.Hash, tree, dir string, limits Limits) error {
	temp := c.path("trees", tempPrefix+filepath.Base(tree))
	defer os.RemoveAll(temp)
	for _, old := range []string{temp, tree} {
		if err := os.RemoveAll(old); err != nil {
			return err
		}
	}
	if err := c.writeTree(ctx, st, commit, temp, dir, limits); err != nil {
		return err
	}
	if err := os.Rename(temp, tree); err != nil {
		return err
	}
	return syncDir(c.path("trees"))
}

// treeName is the name of a commit's tree: its own for each store, so that none has to
// make room for another one of the same commit.
func treeName(commit plumbing.Hash, st *store) string {
	return commit.String() + "." + filepath.Base(st.dir)
}

// inForce is the name of the tree in force, "" where there is none.
func (c *cacheDir) inForce() string {
	target, err := os.Readlink(c.current())
	if err != nil {
		return ""
	}
	return filepath.Base(target)
}

// writeTree writes a commit out to a directory that is not there yet, as a linked work
// tree: that tells package spec, and git, which commit it is.
func (c *cacheDir) writeTree(ctx context.Context, st *store, commit plumbing.Hash, to, dir string, limits Limits) error {
	tree, _, err := readCommit(st.storage, commit)
	if err != nil {
		return err
	}
	if err := os.Mkdir(to, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(to)
	if err != nil {
		return err
	}
	defer root.Close()
	out := &checkout{ctx: ctx, from: st.storage, root: root, limits: limits, write: c.write}
	if err := out.run(tree, dir); err != nil {
		return fmt.Errorf("write commit %.7s out: %w", commit, err)
	}
	store, name := filepath.Base(st.dir), commit.String()
	links := filepath.Join(st.gitDir(), "worktrees", name)
	if err := os.MkdirAll(links, 0o755); err != nil {
		return err
	}
	for file, text := range map[string]string{
		filepath.Join(links, "HEAD"):      name + "\n",
		filepath.Join(links, "commondir"): "../..\n",
		filepath.Join(links, "gitdir"):    c.path("trees", treeName(commit, st), ".git") + "\n",
		filepath.Join(to, ".git"):         "gitdir: ../../repo/" + store + "/.git/worktrees/" + name + "\n",
	} {
		if err := writeSynced(file, []byte(text)); err != nil {
			return err
		}
	}
	return syncDir(to)
}

// point puts a tree in force, in one step.
func (c *cacheDir) point(tree string) error {
	temp := c.path(tempPrefix + "current")
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(filepath.Join("trees", tree), temp); err != nil {
		return err
	}
	if err := os.Rename(temp, c.current()); err != nil {
		return err
	}
	return syncDir(c.dir)
}

// tidy removes all trees but the one in force and the one before, stores that neither
// belongs to, but for the newest, and what was left midway.
func (c *cacheDir) tidy() error {
	keep := map[string]bool{c.inForce(): true, c.before: true}
	commits, used := map[string]bool{}, map[string]bool{} // that the kept are of
	for name := range keep {
		commit, store, _ := strings.Cut(name, ".")
		commits[commit], used[store] = true, true
	}
	trees, err := os.ReadDir(c.path("trees"))
	if err != nil {
		return err
	}
	var failed []error
	remove := func(elem ...string) { failed = append(failed, os.RemoveAll(c.path(elem...))) }
	for _, e := range trees {
		if !keep[e.Name()] {
			remove("trees", e.Name())
		}
	}
	newest := 0
	for _, n := range c.stores() {
		newest = max(newest, n)
	}
	for _, n := range c.stores() {
		name := strconv.Itoa(n)
		if !used[name] && n != newest {
			remove("repo", name)
			continue
		}
		packs, _ := filepath.Glob(c.path("repo", name, ".git", "objects", "pack", tempPrefix+"*"))
		for _, p := range packs {
			failed = append(failed, os.Remove(p))
		}
		links, _ := os.ReadDir(c.path("repo", name, ".git", "worktrees"))
		for _, l := range links {
			if !commits[l.Name()] {
				remove("repo", name, ".git", "worktrees", l.Name())
			}
		}
	}
	return errors.Join(failed...)
}
