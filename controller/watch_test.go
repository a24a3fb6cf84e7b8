package controller

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/goleak"
)

// A tree is a specs directory and what lies around it.
type tree struct {
	*testing.T
	base string
}

func newTree(t *testing.T) tree {
	t.Helper()
	base, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return tree{t, base}
}

func (tr tree) path(name string) string { return filepath.Join(tr.base, name) }

func (tr tree) check(err error) {
	tr.Helper()
	if err != nil {
		tr.Fatal(err)
	}
}

func (tr tree) write(name, text string) {
	tr.Helper()
	tr.check(os.MkdirAll(filepath.Dir(tr.path(name)), 0o755))
	tr.check(os.WriteFile(tr.path(name), []byte(text), 0o644))
}

func (tr tree) mkdir(name string)      { tr.check(os.MkdirAll(tr.path(name), 0o755)) }
func (tr tree) rename(from, to string) { tr.check(os.Rename(tr.path(from), tr.path(to))) }
func (tr tree) link(target, at string) { tr.check(os.Symlink(target, tr.path(at))) }
func (tr tree) remove(name string)     { tr.check(os.RemoveAll(tr.path(name))) }
func (tr tree) swap(target, at string) { tr.link(target, at+".tmp"); tr.rename(at+".tmp", at) }
func (tr tree) touch(name string)      { now := time.Now(); tr.check(os.Chtimes(tr.path(name), now, now)) }
func (tr tree) watch(dir string, opts ...WatchOption) (<-chan struct{}, func()) {
	ctx, cancel := context.WithCancel(context.Background())
	c := Watch(ctx, tr.path(dir), opts...)
	return c, func() {
		cancel()
		for range c { // until it is closed
		}
	}
}

// told waits for a signal and returns how long that took.
func (tr tree) told(c <-chan struct{}, what string) time.Duration {
	tr.Helper()
	start := time.Now()
	select {
	case _, ok := <-c:
		if !ok {
			tr.Fatalf("%s: the channel is closed", what)
		}
	case <-time.After(10 * time.Second):
		tr.Fatalf("%s: not told", what)
	}
	return time.Since(start)
}

// silent checks that there is no signal for longer than a debounce takes.
func (tr tree) silent(c <-chan struct{}, what string) {
	tr.Helper()
	select {
	case <-c:
		tr.Fatalf("%s: told of a change", what)
	case <-time.After(700 * time.Millisecond):
	}
}

func TestWatchTells(t *testing.T) {
	defer goleak.VerifyNone(t)
	cases := map[string]struct {
		dir    string // what is watched, "specs" where empty
		before func(tree)
		change func(tree)
		// then is a second change, which the watches have to have followed the first for.
		then func(tree)
	}{
		"file written":        {change: func(tr tree) { tr.write("specs/shop.yml", "b") }},
		"file added":          {change: func(tr tree) { tr.write("specs/new.yml", "b") }},
		"file removed":        {change: func(tr tree) { tr.remove("specs/shop.yml") }},
		"file touched":        {change: func(tr tree) { tr.touch("specs/shop.yml") }},
		"file replaced":       {change: func(tr tree) { tr.write("x", "b"); tr.rename("x", "specs/shop.yml") }},
		"file in a folder":    {change: func(tr tree) { tr.write("specs/blog/nginx.conf", "b") }},
		"file further down":   {change: func(tr tree) { tr.write("specs/blog/conf/d/x.conf", "b") }},
		"file made read-only": {change: func(tr tree) { tr.check(os.Chmod(tr.path("specs/shop.yml"), 0o400)) }},
		"folder added": {
			change: func(tr tree) { tr.mkdir("specs/new/conf") },
			then:   func(tr tree) { tr.write("specs/new/conf/a", "a") }},
		"folder moved in": {
			before: func(tr tree) { tr.write("elsewhere/conf/a", "a") },
			change: func(tr tree) { tr.rename("elsewhere", "specs/new") },
			then:   func(tr tree) { tr.write("specs/new/conf/a", "b") }},
		"folder made anew": {
			change: func(tr tree) { tr.remove("specs/blog"); tr.write("specs/blog/conf/d/x.conf", "b") },
			then:   func(tr tree) { tr.write("specs/blog/conf/d/x.conf", "c") }},
		"folder moved away and back": {
			change: func(tr tree) { tr.rename("specs/blog", "blog"); tr.rename("blog", "specs/blog") },
			then:   func(tr tree) { tr.write("specs/blog/conf/d/x.conf", "c") }},
		"directory made anew": {
			change: func(tr tree) { tr.remove("specs"); tr.write("specs/shop.yml", "b") },
			then:   func(tr tree) { tr.write("specs/shop.yml", "c") }},
		"directory exchanged": {
			before: func(tr tree) { tr.write("next/blog/a", "b") },
			change: func(tr tree) { tr.rename("specs", "old"); tr.rename("next", "specs") },
			then:   func(tr tree) { tr.write("specs/blog/a", "c") }},
		"directory gone": {
			change: func(tr tree) { tr.remove("specs") },
			then:   func(tr tree) { tr.write("specs/shop.yml", "c") }},
		"directory further up exchanged": {
			dir:    "up/a/specs",
			before: func(tr tree) { tr.write("up/a/specs/x.yml", "a"); tr.write("next/a/specs/x.yml", "b") },
			change: func(tr tree) { tr.rename("up", "old"); tr.rename("next", "up") },
			then:   func(tr tree) { tr.write("up/a/specs/x.yml", "c") }},
		"directory comes": {
			dir:    "later",
			change: func(tr tree) { tr.write("later/x.yml", "a") },
			then:   func(tr tree) { tr.write("later/x.yml", "b") }},
		"directory comes deep down": {
			dir:    "much/later/specs",
			change: func(tr tree) { tr.write("much/later/specs/x.yml", "a") },
			then:   func(tr tree) { tr.write("much/later/specs/x.yml", "b") }},
		"symlink swapped": {
			dir: "git/current",
			before: func(tr tree) {
				tr.write("git/.worktrees/1/x.yml", "a")
				tr.write("git/.worktrees/2/x.yml", "b")
				tr.link(".worktrees/1", "git/current")
			},
			change: func(tr tree) { tr.swap(".worktrees/2", "git/current") },
			then:   func(tr tree) { tr.write("git/.worktrees/2/x.yml", "c") }},
		"symlink on the way swapped": {
			dir: "git/current/deploy/specs",
			before: func(tr tree) {
				tr.write("git/.worktrees/1/deploy/specs/x.yml", "a")
				tr.write("git/.worktrees/2/deploy/specs/x.yml", "b")
				tr.link(".worktrees/1", "git/current")
			},
			change: func(tr tree) { tr.swap(".worktrees/2", "git/current") },
			then:   func(tr tree) { tr.write("git/.worktrees/2/deploy/specs/x.yml", "c") }},
		"second symlink swapped": {
			dir: "specs-link",
			before: func(tr tree) {
				tr.write("a/x.yml", "a")
				tr.write("b/x.yml", "b")
				tr.link("a", "inner")
				tr.link(tr.path("inner"), "specs-link")
			},
			change: func(tr tree) { tr.swap("b", "inner") },
			then:   func(tr tree) { tr.write("b/x.yml", "c") }},
		"dangling symlink mended": {
			dir:    "current",
			before: func(tr tree) { tr.link("wt/1", "current") },
			change: func(tr tree) { tr.write("wt/1/x.yml", "a") },
			then:   func(tr tree) { tr.write("wt/1/x.yml", "b") }},
		"linked files swapped as in a mounted config": {
			dir: "mount",
			before: func(tr tree) {
				tr.write("mount/..1/x.yml", "a")
				tr.write("mount/..2/x.yml", "b")
				tr.link("..1", "mount/..data")
				tr.link("..data/x.yml", "mount/x.yml")
			},
			change: func(tr tree) { tr.swap("..2", "mount/..data") },
			then:   func(tr tree) { tr.write("mount/..2/x.yml", "c") }},
		"commit": {
			before: func(tr tree) { tr.write(".git/HEAD", "ref: refs/heads/main") },
			change: func(tr tree) { tr.write(".git/index.lock", ""); tr.rename(".git/index.lock", ".git/index") },
			then:   func(tr tree) { tr.write(".git/HEAD", "ref: refs/heads/next") }},
	}
	t.Run("cases", func(t *testing.T) { // returns when all are done
		for name, c := range cases {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				tr := newTree(t)
				tr.write("specs/shop.yml", "a")
				tr.write("specs/blog/conf/d/x.conf", "a")
				if c.before != nil {
					c.before(tr)
				}
				dir := c.dir
				if dir == "" {
					dir = "specs"
				}
				signals, stop := tr.watch(dir, Poll(50*time.Millisecond), Debounce(30*time.Millisecond, 150*time.Millisecond))
				defer stop()
				select {
				case <-signals:
					t.Fatal("told of a change before there was one")
				case <-time.After(200 * time.Millisecond):
				}
				c.change(tr)
				tr.told(signals, "the change")
				if c.then == nil {
					return
				}
				tr.rest(signals)
				c.then(tr)
				tr.told(signals, "the second change")
			})
		}
	})
}

// rest takes signals until there are none for a while.
func (tr tree) rest(c <-chan struct{}) {
	for {
		select {
		case <-c:
		case <-time.After(400 * time.Millisecond):
			return
		}
	}
}

func TestWatchHearsNoneOfItsNeighbours(t *testing.T) {
	defer goleak.VerifyNone(t)
	tr := newTree(t)
	tr.write("specs/shop.yml", "a")
	tr.write("specs/.git/HEAD", "ref: refs/heads/main")
	tr.write("specs/.git/objects/aa", "")
	signals, stop := tr.watch("specs")
	defer stop()
	tr.write("log.txt", "a")
	tr.write("specs.bak/shop.yml", "a")
	tr.write("specs/.git/objects/bb", "a")
	tr.write("specs/.git/FETCH_HEAD", "a")
	if _, err := os.ReadFile(tr.path("specs/shop.yml")); err != nil {
		t.Fatal(err)
	}
	tr.silent(signals, "neighbours")
}

func TestWatchIsFast(t *testing.T) {
	defer goleak.VerifyNone(t)
	tr := newTree(t)
	tr.write("specs/shop.yml", "a")
	signals, stop := tr.watch("specs")
	defer stop()
	var worst time.Duration
	for i := range 10 {
		tr.write("specs/shop.yml", fmt.Sprint(i))
		worst = max(worst, tr.told(signals, "a write"))
	}
	t.Logf("from write to signal: at most %v", worst)
	if worst > 900*time.Millisecond {
		t.Errorf("from write to signal: %v, want well below a second", worst)
	}
}

// Writes that never pause are told all the same, and a burst is told once.
func TestWatchDebounces(t *testing.T) {
	defer goleak.VerifyNone(t)
	tr := newTree(t)
	tr.write("specs/shop.yml", "a")
	signals, stop := tr.watch("specs", Debounce(200*time.Millisecond, 500*time.Millisecond))
	defer stop()

	for i := range 50 {
		tr.write("specs/shop.yml", fmt.Sprint(i))
	}
	tr.told(signals, "a burst")
	tr.silent(signals, "after a burst")

	tick, start := time.NewTicker(20*time.Millisecond), time.Now()
	defer tick.Stop()
	for told := false; !told; {
		select {
		case <-tick.C:
			tr.write("specs/shop.yml", time.Now().String())
		case <-signals:
			told = true
		}
		if time.Since(start) > 10*time.Second {
			t.Fatal("writes that never pause are not told")
		}
	}
}

func TestDebounce(t *testing.T) {
	start := time.Unix(1000, 0)
	const quiet, most = 100 * time.Millisecond, 500 * time.Millisecond
	var d debounce
	for _, c := range []struct{ at, wait time.Duration }{
		{0, 100 * time.Millisecond},
		{90 * time.Millisecond, 100 * time.Millisecond},
		{399 * time.Millisecond, 100 * time.Millisecond},
		{450 * time.Millisecond, 50 * time.Millisecond},
		{500 * time.Millisecond, 0},
		{800 * time.Millisecond, 0},
	} {
		if got := d.touch(start.Add(c.at), quiet, most); got != c.wait {
			t.Errorf("a change after %v: wait %v, want %v", c.at, got, c.wait)
		}
	}
}

// Without a single watch there are signals all the same: blind ones, now and then,
// until watches can be had.
func TestWatchWithoutWatches(t *testing.T) {
	defer goleak.VerifyNone(t)
	tr := newTree(t)
	tr.write("specs/shop.yml", "a")
	failures := make(chan struct{}, 100)
	for range 2 {
		failures <- struct{}{}
	}
	had := make(chan struct{}, 100)
	signals, stop := tr.watch("specs", Poll(50*time.Millisecond), func(w *watcher) {
		w.blind = 100 * time.Millisecond
		w.notify = func() (*fsnotify.Watcher, error) {
			select {
			case <-failures:
				return nil, errors.New("too many open files")
			default:
				had <- struct{}{}
				return fsnotify.NewWatcher()
			}
		}
	})
	defer stop()
	tr.told(signals, "nothing, blindly")
	<-had
	tr.rest(signals)
	tr.silent(signals, "once watches can be had")
	tr.write("specs/shop.yml", "b")
	tr.told(signals, "a write")
}

// An overflow of the kernel's queue means that changes were missed.
func TestWatchTellsOfAnOverflow(t *testing.T) {
	defer goleak.VerifyNone(t)
	tr := newTree(t)
	tr.write("specs/shop.yml", "a")
	var inner *fsnotify.Watcher
	signals, stop := tr.watch("specs", func(w *watcher) {
		w.notify = func() (*fsnotify.Watcher, error) {
			var err error
			inner, err = fsnotify.NewWatcher()
			return inner, err
		}
	})
	defer stop()
	inner.Errors <- fsnotify.ErrEventOverflow
	tr.told(signals, "an overflow")
}

func TestWatchEndsWithItsContext(t *testing.T) {
	defer goleak.VerifyNone(t)
	tr := newTree(t)
	tr.write("specs/shop.yml", "a")
	for _, dir := range []string{"specs", "missing", "specs/shop.yml"} {
		_, stop := tr.watch(dir)
		stop()
	}
}
