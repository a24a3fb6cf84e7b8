package spec

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/go-git/go-git/v5"
)

// A bareFolder has YAML files and none by a name of a compose file: its author may mean
// it for a stack. Or it has nothing in it at all, as the place of a mount that is not
// there, or of a submodule that is not checked out. Either way its stack is not gone.
type bareFolder struct {
	name  string
	files []string // of YAML, in it; none: it is empty
	names []string // of the stacks that it may be
}

// maxBareFiles bounds how many files of a bare folder are asked for a stack's name.
const maxBareFiles = 20

// bareFolders finds the folders that hold YAML files or nothing, no stack, and nothing
// that a stack was read from. What stack a folder was is remembered for the next scan.
func (s *Scanner) bareFolders(root *os.Root, readings []reading) ([]bareFolder, error) {
	known := map[string]bool{}
	for _, r := range readings {
		known[strings.TrimSuffix(r.site.key, "/")] = true
		for file := range r.memo.files {
			top, _, _ := strings.Cut(path.Clean(file), "/")
			known[top] = true
		}
	}
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return nil, err
	}
	var out []bareFolder
	for _, e := range entries {
		if known[e.Name()] || passedOver(e.Name()) {
			continue
		}
		files, empty := yamlFiles(root, e.Name())
		if b := (bareFolder{name: e.Name(), files: files}); len(b.files) > 0 || empty {
			b.names = []string{b.name}
			if was := s.memo[b.name+"/"].name; was != "" {
				b.names = append(b.names, was)
			}
			for _, file := range b.files[:min(len(b.files), maxBareFiles)] {
				name, _ := declaredName(root, path.Join(b.name, file), b.name)
				b.names = append(b.names, name)
			}
			out = append(out, b)
		}
	}
	return out, nil
}

// passedOver says that a name is of no stack's file or folder.
func passedOver(name string) bool {
	return strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_")
}

// yamlFiles are the files of YAML in a folder, none where it is no folder; empty says
// that it has nothing in it, but for what tells git that it is a submodule.
func yamlFiles(root *os.Root, folder string) (out []string, empty bool) {
	if info, err := root.Stat(folder); err != nil || !info.IsDir() {
		return nil, false
	}
	entries, err := fs.ReadDir(root.FS(), folder)
	if err != nil {
		return nil, false
	}
	empty = true
	for _, e := range entries {
		empty = empty && e.Name() == git.GitDirName
		if ext := path.Ext(e.Name()); (ext == ".yml" || ext == ".yaml") && !e.IsDir() && !passedOver(e.Name()) {
			out = append(out, e.Name())
		}
	}
	return out, empty
}

// takeBare tells of bare folders, and keeps the stacks that they may be from counting
// as gone.
func (snap *Snapshot) takeBare(folders []bareFolder) {
	snap.kept = map[string]bool{}
	for _, b := range folders {
		for _, name := range b.names {
			snap.kept[name] = true
		}
		if len(b.files) == 0 {
			snap.Findings = append(snap.Findings, Finding{File: b.name, Severity: Warning, Code: "no-compose-file", Message: "the folder is empty, " +
				"so stack " + b.names[len(b.names)-1] + ", if there is one, stays as it is (mount or check out what belongs there, or remove the folder)"})
			continue
		}
		files := b.files
		if len(files) > 3 {
			files = slices.Concat(files[:2], []string{fmt.Sprintf("%d more", len(files)-2)})
		}
		snap.Findings = append(snap.Findings, Finding{File: b.name, Severity: Warning, Code: "no-compose-file", Message: fmt.Sprintf(
			"the folder holds %s and no compose file by one of the names %s, so it is no stack (rename its compose file, or begin the folder's name with _)",
			listed(files), strings.Join(composeNames, ", "))})
	}
}
