package controller

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/skep-io/skep/spec"
)

// Watch tells when something changed in the specs directory dir, which may be a
// symlink that gets swapped, may be replaced as a whole, and may be missing until
// later. What is done to it after Watch returned is told: scan it after that.
//
// Each signal stands for all changes since the last one was taken. It is sent once
// the changes have paused for 100 ms, and after 500 ms in any case. A signal is a
// hint to look: there may be one without a change, and a file system that tells
// nothing of its changes (some network mounts) gives none, so look now and then
// without one too. Once ctx is done everything is let go and the channel closed.
func Watch(ctx context.Context, dir string, opts ...WatchOption) <-chan struct{} {
	w := &watcher{
		dir:     dir,
		quiet:   100 * time.Millisecond,
		most:    500 * time.Millisecond,
		poll:    time.Second,
		blind:   5 * time.Second,
		notify:  fsnotify.NewWatcher,
		watched: map[string]fileID{},
		out:     make(chan struct{}, 1),
	}
	for _, o := range opts {
		o(w)
	}
	if abs, err := filepath.Abs(dir); err == nil {
		w.dir = abs // survives a change of the working directory
	}
	w.aim()
	go w.run(ctx)
	return w.out
}

// A WatchOption changes how Watch watches.
type WatchOption func(*watcher)

// Debounce sets for how long changes have to pause before they are told, and after
// how long they are told though they do not.
func Debounce(quiet, most time.Duration) WatchOption {
	return func(w *watcher) { w.quiet, w.most = quiet, most }
}

// Poll sets how often to look whether the directory is still the same one: this
// finds what no watch tells, the replacement of a directory further up.
func Poll(every time.Duration) WatchOption {
	return func(w *watcher) { w.poll = every }
}

// gitNames are the names in a git directory that tell of a commit, and of the end
// of what git did to the work tree: a scan waits for that.
var gitNames = map[string]bool{"HEAD": true, "index": true, "index.lock": true}

// maxWatches bounds the directories that are watched.
const maxWatches = 8192

// A watcher is what Watch runs. But for out it belongs to one goroutine.
type watcher struct {
	dir         string
	quiet, most time.Duration
	poll        time.Duration
	blind       time.Duration // between signals while something cannot be watched
	notify      func() (*fsnotify.Watcher, error)
	out         chan struct{}

	fs      *fsnotify.Watcher // nil while none can be had
	watched map[string]fileID
	// entries are the names that matter in directories which only lead to dir.
	entries map[string]map[string]bool
	// path is how dir resolved when the watches were set.
	path []fileID
	// partial says that something could not be watched.
	partial bool
}

// A fileID tells a file from another one in its place.
type fileID struct {
	path     string
	dev, ino uint64
}

// identify makes the fileID of what is at path.
func identify(path string, info fs.FileInfo) fileID {
	id := fileID{path: path}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		id.dev, id.ino = uint64(st.Dev), st.Ino // Dev is narrower on other systems
	}
	return id
}

func (w *watcher) run(ctx context.Context) {
	defer close(w.out)
	defer w.close()
	poll := time.NewTicker(w.poll)
	defer poll.Stop()
	due := time.NewTimer(time.Hour)
	defer due.Stop()
	var d debounce
	var told time.Time
	touch := func() {
		due.Reset(d.touch(time.Now(), w.quiet, w.most))
	}
	for {
		events, failures := w.channels()
		select {
		case <-ctx.Done():
			return
		case e, open := <-events:
			if !open {
				w.fs = nil
				touch()
			} else if w.matters(e) {
				w.follow(e)
				touch()
			}
		case _, open := <-failures: // an overflow, most likely: who knows what was missed
			if !open {
				w.fs = nil
			}
			touch()
		case <-due.C:
			d = debounce{}
			w.aim()
			w.signal()
			told = time.Now()
		case now := <-poll.C:
			if !d.first.IsZero() {
				break // it is due already
			}
			_, path := resolve(w.dir)
			if !slices.Equal(path, w.path) || w.partial && now.Sub(told) >= w.blind {
				touch()
			}
		}
	}
}

// channels are those of the watcher, never ready where there is none.
func (w *watcher) channels() (<-chan fsnotify.Event, <-chan error) {
	if w.fs == nil {
		return nil, nil
	}
	return w.fs.Events, w.fs.Errors
}

// signal tells, unless what was told before has not been heard yet.
func (w *watcher) signal() {
	select {
	case w.out <- struct{}{}:
	default:
	}
}

func (w *watcher) close() {
	if w.fs != nil {
		w.fs.Close()
	}
}

// A debounce waits for changes to pause. The zero value has seen none.
type debounce struct {
	first time.Time
}

// touch notes a change and returns how long to wait for the next one.
func (d *debounce) touch(now time.Time, quiet, most time.Duration) time.Duration {
	if d.first.IsZero() {
		d.first = now
	}
	return max(0, min(quiet, most-now.Sub(d.first)))
}

// matters says whether an event may be about the specs.
func (w *watcher) matters(e fsnotify.Event) bool {
	parent, name := filepath.Split(e.Name)
	names, leads := w.entries[filepath.Clean(parent)]
	return !leads || names[name] || w.entries[e.Name] != nil
}

// aim sets the watches as the directory is now: on it and all below, and on the
// directories that hold the names which lead to it.
func (w *watcher) aim() {
	w.partial = false
	if w.fs == nil {
		w.watched = map[string]fileID{}
		fs, err := w.notify()
		if err != nil {
			w.partial = true
		} else {
			w.fs = fs
		}
	}
	// What appears after a directory was listed and before it was watched is found
	// by listing once more.
	for range 3 {
		if added := w.change(w.wanted()); !added {
			return
		}
	}
}

// wanted finds the directories to watch, and which names matter in those that only
// lead to others.
func (w *watcher) wanted() map[string]fileID {
	leads, path := resolve(w.dir)
	w.path = path
	wanted := map[string]fileID{}
	if end := path[len(path)-1]; end.ino != 0 {
		w.below(end.path, wanted)
		if gitDir := spec.GitDir(end.path); gitDir != "" {
			leads[gitDir] = gitNames
		}
	}
	w.entries = map[string]map[string]bool{}
	for dir, names := range leads {
		if _, within := wanted[dir]; within {
			continue // everything in it matters
		}
		w.entries[dir] = names
		if info, err := os.Stat(dir); err == nil {
			wanted[dir] = identify(dir, info)
		}
	}
	return wanted
}

// change makes the watches be those wanted, and says whether there are new ones. A
// directory that another one stands in the place of is watched anew.
func (w *watcher) change(wanted map[string]fileID) (added bool) {
	for dir := range w.watched {
		if wanted[dir] != w.watched[dir] {
			w.unwatch(dir)
		}
	}
	// The shortest first: where not all can be watched, those matter most.
	for _, dir := range slices.SortedFunc(maps.Keys(wanted), shorter) {
		added = w.watch(dir, wanted[dir]) || added
	}
	return added
}

func shorter(a, b string) int {
	if d := strings.Count(a, "/") - strings.Count(b, "/"); d != 0 {
		return d
	}
	return strings.Compare(a, b)
}

// watch adds one directory, unless it is watched already or cannot be.
func (w *watcher) watch(dir string, id fileID) (added bool) {
	if _, ok := w.watched[dir]; ok || w.fs == nil {
		return false
	}
	if len(w.watched) >= maxWatches {
		w.partial = true
		return false
	}
	if err := w.fs.Add(dir); err != nil {
		w.partial = w.partial || !errors.Is(err, fs.ErrNotExist)
		return false
	}
	w.watched[dir] = id
	return true
}

// unwatch lets go of a directory.
func (w *watcher) unwatch(dir string) {
	if w.fs != nil {
		_ = w.fs.Remove(dir) // which fails where the watch went with the directory
	}
	delete(w.watched, dir)
}

// follow keeps up with directories that come and go, so that what is written into
// a new one counts for the pause. One that went takes its watches along, even if
// another one comes in its place that looks the same.
func (w *watcher) follow(e fsnotify.Event) {
	if e.Has(fsnotify.Remove) || e.Has(fsnotify.Rename) {
		for dir := range w.watched {
			if dir == e.Name || strings.HasPrefix(dir, e.Name+"/") {
				w.unwatch(dir)
			}
		}
	}
	if !e.Has(fsnotify.Create) {
		return
	}
	if w.entries[filepath.Dir(e.Name)] != nil {
		w.aim() // dir is another one now
		return
	}
	created := map[string]fileID{}
	w.below(e.Name, created)
	for _, dir := range slices.SortedFunc(maps.Keys(created), shorter) {
		w.watch(dir, created[dir])
	}
}

// below finds dir and the directories in it, but for git's own.
func (w *watcher) below(dir string, found map[string]fileID) {
	_ = filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() {
			return nil // gone or closed meanwhile: nothing to watch
		}
		if e.Name() == ".git" && path != dir {
			return fs.SkipDir
		}
		if len(found) > maxWatches {
			w.partial = true
			return fs.SkipAll
		}
		if info, err := e.Info(); err == nil {
			found[path] = identify(path, info)
		}
		return nil
	})
}

// maxLinks is how many symlinks are followed, as the kernel does.
const maxLinks = 40

// resolve walks the absolute path dir as the kernel does. It returns the
// directories that hold a name whose change makes dir another one (a symlink on
// the way, dir itself, the first name that is missing), with those names; and all
// that was come by, in order: equal for two walks that end in the same place. The
// last one is where dir leads to, with inode 0 where that is nowhere.
func resolve(dir string) (leads map[string]map[string]bool, path []fileID) {
	leads = map[string]map[string]bool{}
	lead := func(dir, name string) {
		if leads[dir] == nil {
			leads[dir] = map[string]bool{}
		}
		leads[dir][name] = true
	}
	at, rest, links := "/", split(dir), 0
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		next := filepath.Join(at, name)
		info, err := os.Lstat(next)
		if err != nil {
			lead(at, name)
			return leads, append(path, fileID{path: next})
		}
		path = append(path, identify(next, info))
		if info.Mode()&fs.ModeSymlink == 0 {
			if len(rest) == 0 {
				lead(at, name)
			}
			at = next
			continue
		}
		lead(at, name)
		target, err := os.Readlink(next)
		if links++; err != nil || links > maxLinks {
			return leads, append(path, fileID{path: next})
		}
		if filepath.IsAbs(target) {
			at = "/"
		}
		rest = append(split(target), rest...)
	}
	info, err := os.Stat(at)
	if err != nil {
		return leads, append(path, fileID{path: at})
	}
	return leads, append(path, identify(at, info))
}

// split takes a path apart.
func split(path string) []string {
	return slices.DeleteFunc(strings.Split(path, "/"), func(name string) bool { return name == "" || name == "." })
}
