package spec

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A Part is what one of several sources says, for Join.
type Part struct {
	Name string // of the source
	*Snapshot
}

// An Directory is a source that a Snapshot was read from.
type Directory struct {
	Name     string // empty where it is the only one
	Dir      string
	Revision string
	Commit   *Commit // nil without git
}

// Directories are the sources that the snapshot was read from, in their order.
func (s *Snapshot) Directories() []Directory {
	if s.directories != nil {
		return s.directories
	}
	return []Directory{{Dir: s.Dir, Revision: s.Revision, Commit: s.Commit}}
}

// Join makes one Snapshot of what several sources say, which it leaves as they are; one
// alone that has no name is that source's. The names of sources are told with whatever is
// of them:
//
//	a stack in    is
//	one source    as that source has it
//	two or more   a problem that names them and the files, whatever they say of it
//
// It is complete where all are, and Err names those that are not. Of one that is not
// complete what it holds counts all the same, so that a source's last complete Snapshot,
// marked as incomplete, stays in force beside the others; that a stack is gone is certain
// of none meanwhile, as its file may have moved. What stacks of the sources do to each
// other is found as it is among those of one directory, if the sources were scanned as
// Options.Part.
func Join(parts ...Part) *Snapshot {
	switch {
	case len(parts) == 0:
		return &Snapshot{Err: errors.New("there is no source to read")} // of which nothing is gone
	case len(parts) == 1 && parts[0].Name == "":
		return parts[0].Snapshot
	}
	all := &Snapshot{Stacks: map[string]*Stack{}, Problems: map[string][]Finding{}, Complete: true, directories: []Directory{}, kept: map[string]bool{}}
	var dirs, revisions []string
	for _, p := range parts {
		all.directories = append(all.directories, Directory{p.Name, p.Dir, p.Revision, p.Commit})
		dirs = append(dirs, p.Dir)
		if p.Revision != "" {
			revisions = append(revisions, p.Name+"="+p.Revision)
		}
		for _, file := range p.Nameless {
			all.Nameless = append(all.Nameless, Source{Name: p.Name, File: file}.at())
		}
		all.Findings = append(all.Findings, of(p.Name, p.Findings)...)
		maps.Copy(all.kept, p.kept)
		all.Complete = all.Complete && p.Complete
	}
	all.Dir, all.Revision, all.Err = listed(dirs), strings.Join(revisions, " "), joinErrors(parts)
	for name, claims := range claimed(parts) {
		all.take(name, claims)
	}
	all.holdAgainst()
	return all
}

// claimed holds, by the names of stacks, the parts that have one of that name or a problem
// of it.
func claimed(parts []Part) map[string][]Part {
	claims := map[string][]Part{}
	for _, p := range parts {
		for name := range p.Stacks {
			claims[name] = append(claims[name], p)
		}
		for name := range p.Problems {
			claims[name] = append(claims[name], p)
		}
	}
	return claims
}

// take takes in a stack as the parts have it that claim its name.
func (s *Snapshot) take(name string, claims []Part) {
	var files []Source
	for _, p := range claims {
		s.Problems[name] = append(s.Problems[name], of(p.Name, p.Problems[name])...)
		files = append(files, filesOf(p, name)...)
	}
	switch p := claims[0]; {
	case len(claims) > 1:
		s.Problems[name] = append(s.Problems[name], inSeveral(name, files)...)
	case p.Stacks[name] != nil:
		delete(s.Problems, name)
		stack := *p.Stacks[name]
		stack.Source.Name, stack.Findings = p.Name, of(p.Name, stack.Findings)
		s.Stacks[name] = &stack
	}
}

// filesOf are the files of a part that describe a stack of that name, as far as that is
// known.
func filesOf(p Part, name string) (files []Source) {
	if stack := p.Stacks[name]; stack != nil {
		return []Source{{Name: p.Name, File: stack.Source.File}}
	}
	for _, f := range p.Problems[name] {
		if at := (Source{Name: p.Name, File: f.File}); !slices.ContainsFunc(files, func(s Source) bool { return s.File == at.File }) {
			files = append(files, at)
		}
	}
	return files
}

// inSeveral tells each of the files that claim the same name, in several sources, of the
// others.
func inSeveral(name string, files []Source) (found []Finding) {
	var places []string
	for _, at := range files {
		places = append(places, at.at())
	}
	for _, at := range files {
		found = append(found, Finding{Source: at.Name, File: at.File, Severity: Error, Code: "duplicate-stack", Message: fmt.Sprintf(
			"%s describe the stack %q, in several sources, and which one counts is not known: it stays as it is (keep one, or give one of them another name:)", listed(places), name)})
	}
	return found
}

// of are findings with the name of the source that they are of.
func of(source string, findings []Finding) []Finding {
	out := slices.Clone(findings)
	for i := range out {
		out[i].Source = source
	}
	return out
}

// joinErrors says which parts are not complete, and why; nil: all are.
func joinErrors(parts []Part) error {
	var all partErrors
	for _, p := range parts {
		if p.Complete {
			continue
		}
		err := p.Err
		if err == nil {
			err = fmt.Errorf("%s could not be read completely", p.Dir)
		}
		all = append(all, fmt.Errorf("source %s: %w", p.Name, err))
	}
	if all == nil {
		return nil
	}
	return &SourceError{SourceReason(all[0]), all}
}

// partErrors tell in one sentence why several parts are not complete.
type partErrors []error

func (e partErrors) Error() string {
	var all []string
	for _, err := range e {
		all = append(all, err.Error())
	}
	return strings.Join(all, "; ")
}

func (e partErrors) Unwrap() []error { return e }

// siteSeparator stands between a source and a file in it: no path has it.
const siteSeparator = "\x00"

// Site is the compose file as rules of a policy see it: nothing that a file or folder can
// be called makes it one of another source.
func (s Source) Site() string {
	if s.Name == "" {
		return s.File
	}
	return s.Name + siteSeparator + s.File
}

// at is the compose file as people are told it, with its source where there are several.
func (s Source) at() string {
	if s.Name == "" {
		return s.File
	}
	return s.Name + ":" + s.File
}
