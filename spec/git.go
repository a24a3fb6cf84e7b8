package spec

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// gitSource finds the commit of the work tree that a directory lies in. It reads
// the repository's files alone: no hook, no filter and no git program runs. What
// belongs to one HEAD is read once. The zero value is ready.
type gitSource struct {
	top     string // of the work tree
	head    plumbing.Hash
	commit  Commit              // without Dirty
	entries map[string]gitEntry // of HEAD's tree, by slash path from top

	repo *git.Repository // only while at runs
	tree *object.Tree    // likewise, and only when an entry was not known yet
}

// A gitEntry is what HEAD's tree has at a path; the zero value: nothing.
type gitEntry struct {
	hash plumbing.Hash
	link bool
}

// A gitFile is a file that was read: where, and the hash that git gives its content.
type gitFile struct {
	path string // relative to the directory, slashes
	blob plumbing.Hash
}

// at returns the commit that dir, an absolute path without symlinks, is at; nil
// where there is none: no repository around it, a repository without commits, or
// one that has none of files in its commit (dir merely happens to lie in it). The
// error says that there is a repository which cannot be read.
//
// The commit is dirty when any of files is not in HEAD as it was read. Line-ending
// conversion and other filters are not applied: where they change what is checked
// out, files are dirty.
func (g *gitSource) at(dir string, files []gitFile) (c *Commit, err error) {
	defer func() {
		if p := recover(); p != nil {
			*g = gitSource{}
			c, err = nil, fmt.Errorf("read the git repository of %s: %v", dir, p)
		}
	}()
	top, _ := findGit(dir)
	if top == "" || len(files) == 0 {
		return nil, nil
	}
	defer func() { g.repo, g.tree = nil, nil }()
	if err := g.turnTo(top); err != nil {
		if errors.Is(err, plumbing.ErrReferenceNotFound) {
			return nil, nil
		}
		*g = gitSource{}
		return nil, fmt.Errorf("read the git repository %s: %w", top, err)
	}
	commit, known := g.commit, 0
	for _, f := range files {
		in, same, err := g.compare(filepath.Join(dir, filepath.FromSlash(f.path)), f.blob)
		if err != nil {
			*g = gitSource{}
			return nil, fmt.Errorf("read commit %s of %s: %w", commit.Short, top, err)
		}
		if in {
			known++
		}
		commit.Dirty = commit.Dirty || !same
	}
	if known == 0 {
		return nil, nil
	}
	return &commit, nil
}

// turnTo makes g be about the HEAD of the work tree at top.
func (g *gitSource) turnTo(top string) error {
	repo, err := openGit(top)
	if err != nil {
		return err
	}
	head, err := repo.Head()
	if err != nil {
		return err
	}
	if g.top == top && g.head == head.Hash() {
		g.repo = repo
		return nil
	}
	c, err := repo.CommitObject(head.Hash())
	if err != nil {
		return err
	}
	*g = gitSource{top: top, head: head.Hash(), commit: describe(c), entries: map[string]gitEntry{}, repo: repo}
	return nil
}

// openGit opens the work tree at top, a linked one too (git worktree, as git-sync
// makes them).
func openGit(top string) (*git.Repository, error) {
	return git.PlainOpenWithOptions(top, &git.PlainOpenOptions{EnableDotGitCommonDir: true})
}

// describe takes from a commit what people are shown.
func describe(c *object.Commit) Commit {
	subject, _, _ := strings.Cut(strings.TrimSpace(c.Message), "\n")
	hash := c.Hash.String()
	return Commit{
		Hash:    hash,
		Short:   hash[:7],
		Subject: printable(subject),
		Author:  printable(c.Author.Name),
		Time:    c.Committer.When,
	}
}

// printable drops what could steer a terminal, and bounds the length.
func printable(s string) string {
	s = strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return -1
	}, s))
	if r := []rune(s); len(r) > 200 {
		s = string(r[:199]) + "…"
	}
	return s
}

// maxLinks is how many symlinks are followed from one file, as the kernel does.
const maxLinks = 40

// compare says whether HEAD's tree has a file at path, and whether with this very
// content. A symlink is followed through the tree: it has to point there as it
// does in the work tree.
func (g *gitSource) compare(path string, blob plumbing.Hash) (in, same bool, err error) {
	for range maxLinks {
		rel, err := filepath.Rel(g.top, path)
		if err != nil || !filepath.IsLocal(rel) {
			return in, false, nil
		}
		at, e, err := g.lookup(filepath.ToSlash(rel))
		if err != nil || e == (gitEntry{}) {
			return in, false, err
		}
		in = true
		if !e.link {
			return in, e.hash == blob, nil
		}
		link := filepath.Join(g.top, filepath.FromSlash(at))
		target, err := os.Readlink(link)
		if err != nil || plumbing.ComputeHash(plumbing.BlobObject, []byte(target)) != e.hash {
			return in, false, nil
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(link), target)
		}
		path = filepath.Join(target, strings.TrimPrefix(filepath.ToSlash(rel), at))
	}
	return in, false, nil
}

// lookup finds what HEAD's tree has at path, or the symlink that comes first on
// the way to it, and says where.
func (g *gitSource) lookup(path string) (at string, e gitEntry, err error) {
	parts := strings.Split(path, "/")
	for i := range parts {
		at = strings.Join(parts[:i+1], "/")
		e, err := g.entry(at)
		if err != nil || e == (gitEntry{}) || e.link || i == len(parts)-1 {
			return at, e, err
		}
	}
	return at, gitEntry{}, nil
}

// entry finds what HEAD's tree has at path.
func (g *gitSource) entry(path string) (gitEntry, error) {
	if e, ok := g.entries[path]; ok {
		return e, nil
	}
	if g.tree == nil {
		c, err := g.repo.CommitObject(g.head)
		if err != nil {
			return gitEntry{}, err
		}
		if g.tree, err = c.Tree(); err != nil {
			return gitEntry{}, err
		}
	}
	var e gitEntry
	switch t, err := g.tree.FindEntry(path); {
	case err == nil && t.Mode != filemode.Submodule:
		e = gitEntry{hash: t.Hash, link: t.Mode == filemode.Symlink}
	case err == nil, errors.Is(err, object.ErrEntryNotFound), errors.Is(err, object.ErrDirectoryNotFound):
	default:
		return gitEntry{}, err
	}
	g.entries[path] = e
	return e, nil
}

// GitDir returns the git directory of the work tree that dir, an absolute path
// without symlinks, lies in; empty where there is none. Its HEAD and index change
// with every commit and checkout, without any file of dir having to.
func GitDir(dir string) string {
	_, gitDir := findGit(dir)
	return gitDir
}

// findGit finds the work tree that dir, an absolute path, lies in, and its git
// directory; both are empty where there is none.
func findGit(dir string) (top, gitDir string) {
	for top = dir; ; top = filepath.Dir(top) {
		dotGit := filepath.Join(top, git.GitDirName)
		switch fi, err := os.Stat(dotGit); {
		case err == nil && fi.IsDir():
			return top, dotGit
		case err == nil && fi.Mode().IsRegular():
			return top, linkedGitDir(dotGit)
		}
		if top == filepath.Dir(top) {
			return "", ""
		}
	}
}

// linkedGitDir reads where a .git file says the git directory is.
func linkedGitDir(dotGit string) string {
	text, err := os.ReadFile(dotGit)
	if err != nil {
		return ""
	}
	path, ok := strings.CutPrefix(strings.TrimSpace(string(text)), "gitdir: ")
	if ok && !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(dotGit), path)
	}
	return path
}

// staleLock is the age at which git's lock is taken for one that was left behind.
const staleLock = 5 * time.Minute

// gitAtWork says that git is changing the work tree that dir lies in at this
// moment: it holds index.lock from before its first to after its last change, and
// between those files may be missing that no commit ever lacked.
func gitAtWork(dir string, now time.Time) bool {
	gitDir := GitDir(dir)
	if gitDir == "" {
		return false
	}
	fi, err := os.Stat(filepath.Join(gitDir, "index.lock"))
	return err == nil && now.Sub(fi.ModTime()) < staleLock
}
