package spec

import (
	"errors"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/filemode"
	"github.com/go-git/go-git/v5/plumbing/object"
)

// An absentee is a stack's file that the commit has and the work tree has not: what a
// checkout leaves that was cut off half-way, or somebody who removed the file and did
// not commit that. Either way nobody has decided that the stack is to go.
type absentee struct {
	file string // relative to the specs directory
	name string // of its stack
}

// absent finds the stack files below dir, an absolute path without symlinks, that HEAD
// has and that are not among sites. Without a git repository, or with one that cannot
// be read, there are none: at tells of that. submodules are the folders that HEAD has as
// such, nil where there is no HEAD to ask.
func (g *gitSource) absent(dir string, sites []site) (found []absentee, submodules map[string]bool) {
	defer func() {
		g.repo, g.tree = nil, nil
		if recover() != nil { // of a damaged repository, as in at
			*g, found, submodules = gitSource{}, nil, nil
		}
	}()
	tree, err := g.treeAt(dir)
	if err != nil || tree == nil {
		return nil, nil
	}
	submodules = map[string]bool{}
	there := map[string]bool{}
	for _, at := range sites {
		there[at.key] = true
	}
	for _, e := range tree.Entries {
		if passedOver(e.Name) {
			continue
		}
		ext := path.Ext(e.Name)
		switch {
		case e.Mode == filemode.Submodule:
			submodules[e.Name] = true
		case e.Mode == filemode.Dir && !there[e.Name+"/"]:
			if file := composeFileIn(tree, e.Name); file != "" {
				found = append(found, absentee{file, nameInTree(tree, file, e.Name)})
			}
		case e.Mode != filemode.Dir && (ext == ".yml" || ext == ".yaml") && !there[e.Name] && !there[e.Name+"/"]:
			found = append(found, absentee{e.Name, nameInTree(tree, e.Name, strings.TrimSuffix(e.Name, ext))})
		}
	}
	return found, submodules
}

// treeAt is what HEAD has of dir, nil where that is nothing.
func (g *gitSource) treeAt(dir string) (*object.Tree, error) {
	top, _ := findGit(dir)
	if top == "" {
		return nil, nil
	}
	if err := g.turnTo(top); err != nil {
		if errors.Is(err, plumbing.ErrReferenceNotFound) {
			return nil, nil
		}
		return nil, err
	}
	commit, err := g.repo.CommitObject(g.head)
	if err != nil {
		return nil, err
	}
	tree, err := commit.Tree()
	if err != nil {
		return nil, err
	}
	rel, err := filepath.Rel(top, dir)
	if err != nil || rel == "." {
		return tree, err
	}
	if tree, err = tree.Tree(filepath.ToSlash(rel)); errors.Is(err, object.ErrDirectoryNotFound) {
		return nil, nil
	}
	return tree, err
}

// composeFileIn is the compose file of a folder of a commit, "" where it has none.
func composeFileIn(tree *object.Tree, folder string) string {
	sub, err := tree.Tree(folder)
	if err != nil {
		return ""
	}
	for _, e := range sub.Entries {
		if slices.Contains(composeNames, e.Name) {
			return path.Join(folder, e.Name)
		}
	}
	return ""
}

// nameInTree is the name of the stack that a file of a commit describes.
func nameInTree(tree *object.Tree, file, fallback string) string {
	f, err := tree.File(file)
	if err != nil {
		return fallback
	}
	r, err := f.Reader()
	if err != nil {
		return fallback
	}
	defer r.Close()
	text, err := io.ReadAll(io.LimitReader(r, maxTextSize+1))
	if err != nil {
		return fallback
	}
	name, _ := nameIn(text, fallback)
	return name
}

// takeAbsent tells of files that are absent, and keeps their stacks from counting as
// gone.
func (snap *Snapshot) takeAbsent(files []absentee) {
	for _, a := range files {
		snap.kept[a.name] = true
		if snap.Stacks[a.name] != nil || snap.Problems[a.name] != nil {
			continue // it was moved, and that is not committed yet
		}
		snap.Findings = append(snap.Findings, Finding{File: a.file, Severity: Warning, Code: "file-absent", Message: fmt.Sprintf(
			"the commit has this file, and the directory has not, so stack %s stays as it is (commit its removal, or bring it back: git checkout -- %s)", a.name, a.file)})
	}
}
