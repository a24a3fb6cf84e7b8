package spec

import (
	"errors"
	"io/fs"
	"maps"
	"path"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/override"
)

// A stack's file may include others of its folder. They are put into its tree here,
// before the library sees any of it: the library reads what include names by itself,
// wherever that is. Nothing is opened but through the folder's root, and no object is
// taken in whose definition is another elsewhere.

// What a stack's compose files may be together: the file itself, those that it
// includes, and those that its services extend from. Values are bounded like those
// of a single file.
const (
	maxTexts    = 100 // a file that is included twice counts twice
	maxAllTexts = 4   // times the size of a single one
)

// An inclusion is one compose file, or several that override each other, whose
// include section is followed.
type inclusion struct {
	*loading
	in   *interpolator
	doc  *document
	tree map[string]any // the stack's, which takes everything in
	// dir is the project directory, relative to the stack's folder, that the file's
	// relative paths are relative to.
	dir string
	// chain holds the files that include each other, from the stack's own on.
	chain []string
}

// includeAll brings into the tree what the stack's file includes, and what that
// includes in turn. It gives back the literal tree: all of these files before
// variables were put in.
func (l *loading) includeAll(in *interpolator, doc *document, tree map[string]any) map[string]any {
	l.literal = map[string]any{"jobs": doc.tree["jobs"], "models": doc.tree["models"]}
	adoptLiteral(l.literal, doc.tree)
	l.interpolators = map[string]*interpolator{}
	l.report.origins = origins{}
	own := &inclusion{loading: l, in: in, doc: doc, tree: tree, dir: ".", chain: []string{l.own(l.file)}}
	own.follow(tree["include"])
	return l.literal
}

// own is a path of the specs directory as one of the stack's folder.
func (l *loading) own(file string) string { return strings.TrimPrefix(file, l.dir+"/") }

// An include is one entry of an include section.
type include struct {
	paths     []string
	directory string
	envFiles  []string
}

// follow includes the entries of an include section of the inclusion's document.
func (i *inclusion) follow(section any) {
	if section == nil {
		return
	}
	entries, ok := section.([]any)
	if !ok {
		i.refuse([]string{"include"}, "include", "include is not a list (write a list of files)")
		return
	}
	for n, entry := range entries {
		at := []string{"include", strconv.Itoa(n)}
		if parsed, ok := i.read(entry, at); ok {
			i.include(parsed, at)
		}
		if i.full != nil {
			return
		}
	}
}

// refuse records an error about this document, as it stands.
func (i *inclusion) refuse(at []string, code, format string, args ...any) {
	i.report.about(i.doc, func() { i.report.fail(code, at, format, args...) })
}

// read reads an entry in its short or its long form.
func (i *inclusion) read(entry any, at []string) (include, bool) {
	var out include
	block, long := entry.(map[string]any)
	if !long {
		block = map[string]any{"path": entry}
	}
	ok := true
	fail := func(key, format string, args ...any) {
		i.refuse(under(at, key), "include", format, args...)
		ok = false
	}
	for _, key := range sortedKeys(block) {
		value := block[key]
		switch key {
		case "path":
			out.paths = texts(value)
		case "env_file":
			if out.envFiles = texts(value); out.envFiles == nil && value != nil {
				fail(key, "include.env_file is neither a file nor a list of files (write one of them)")
			}
		case "project_directory":
			if out.directory, _ = value.(string); out.directory == "" && value != nil {
				fail(key, "include.project_directory is not a folder's path (write one, or leave it out)")
			}
		default:
			if !strings.HasPrefix(key, "x-") {
				fail(key, "include.%s is not known%s", key, i.report.orNearest(key, []string{"path", "env_file", "project_directory"}))
			}
		}
	}
	if len(out.paths) == 0 {
		fail("path", "include names no file (write its path, or path: and below it a list of files)")
	}
	return out, ok
}

// texts is a text, or a list of texts, as a list; nil for anything else.
func texts(value any) []string {
	switch v := value.(type) {
	case string:
		return []string{v}
	case []any:
		out := make([]string, 0, len(v))
		for _, element := range v {
			text, ok := element.(string)
			if !ok {
				return nil
			}
			out = append(out, text)
		}
		return out
	}
	return nil
}

// include brings in one entry: its first file, with those behind it over that.
func (i *inclusion) include(entry include, at []string) {
	files := make([]string, len(entry.paths))
	for n, file := range entry.paths {
		files[n] = relativeTo(i.dir, file)
		if round := slices.Index(i.chain, files[n]); round >= 0 {
			i.refuse(at, "include-cycle", "files include each other in a circle: %s (take one of these includes out)",
				strings.Join(append(slices.Clone(i.chain[round:]), files[n]), " → "))
			return
		}
	}
	var docs []*document
	for _, file := range files {
		doc, problem := i.parse(file)
		switch {
		case problem == nil:
			i.report.takenFrom(doc)
			docs = append(docs, doc)
		case problem.Line == 0 && problem.Code == "unreadable":
			i.refuse(at, "include", "%s", problem.Message)
		default:
			i.report.findings = append(i.report.findings, *problem)
		}
	}
	if len(docs) != len(files) {
		return
	}
	dir, ok := i.directory(entry, files[0], at)
	if !ok {
		return
	}
	own, ok := i.variables(entry, dir, at)
	if !ok {
		return
	}
	in := i.in.with(own)
	merged := i.merge(in, docs)
	if merged == nil {
		return
	}
	in.settle(merged, dir)
	rebaseTree(merged, dir)
	for n, doc := range docs {
		inner := &inclusion{loading: i.loading, in: in, doc: doc, tree: i.tree, dir: dir, chain: append(slices.Clone(i.chain), files...)}
		inner.follow(merged[includeOf(n)])
		delete(merged, includeOf(n))
	}
	i.adopt(in, merged, docs)
}

// directory is the project directory of what an entry includes.
func (i *inclusion) directory(entry include, file string, at []string) (string, bool) {
	if entry.directory == "" {
		return path.Dir(file), true
	}
	at = under(at, "project_directory")
	dir := relativeTo(i.dir, entry.directory)
	told := i.report.told(dir)
	if problem := outside(dir, told); problem != "" {
		i.refuse(at, "include", "%s", problem)
		return "", false
	}
	info, err := i.folder.Stat(dir)
	switch {
	case err == nil && info.IsDir():
		return dir, true
	case err == nil:
		i.refuse(at, "include", "%s is not a folder (name one of the stack's folder)", told)
	case strings.Contains(err.Error(), "escapes from parent"):
		i.refuse(at, "include", "%s is a symbolic link out of the stack's folder, and a stack reads files of its own folder only (put the folder there)", told)
	default:
		i.refuse(at, "include", "the folder %s cannot be read: %v (check that it exists in the stack's folder)", told, underlying(err))
	}
	return "", false
}

// variables are those that an entry's files have beside the ones of the file that
// includes them: of its env_file, else of .env in their project directory. The
// outer ones win. /dev/null says that there are none.
func (i *inclusion) variables(entry include, dir string, at []string) (map[string]string, bool) {
	var files []string
	for _, file := range entry.envFiles {
		if file != "/dev/null" {
			files = append(files, relativeTo(i.dir, file))
		}
	}
	if len(entry.envFiles) == 0 {
		file := path.Join(dir, ".env")
		if i.isDotenv(file) {
			return nil, true // read already
		}
		if _, err := i.folder.Lstat(file); errors.Is(err, fs.ErrNotExist) {
			i.absent[file] = true
			return nil, true
		}
		files = []string{file}
	}
	own := map[string]string{}
	for _, file := range files {
		vars, problem := i.dotenvVars(file, func(name string) (string, bool) {
			if value, ok := i.in.value(name); ok {
				return value, true
			}
			value, ok := own[name]
			return value, ok
		})
		if problem.text != "" {
			if problem.text = "env_file: " + problem.text; !i.report.sealedProblem(problem, under(at, "env_file")) {
				i.refuse(under(at, "env_file"), "include", "%s", problem.text)
			}
			return nil, false
		}
		maps.Copy(own, vars)
	}
	return own, true
}

// isDotenv says that a file of the stack's folder is the one with its variables.
func (l *loading) isDotenv(file string) bool { return l.dotenv != "" && file == l.own(l.dotenv) }

// includeOf is where merge keeps the include section of the nth document.
func includeOf(n int) string { return "include " + strconv.Itoa(n) }

// merge puts the documents of one entry over each other, their variables filled in;
// nil after an error.
func (i *inclusion) merge(in *interpolator, docs []*document) map[string]any {
	merged := map[string]any{}
	sections := map[string]any{}
	for n, doc := range docs {
		var tree map[string]any
		errors := i.report.errors()
		i.report.about(doc, func() {
			tree, _ = in.tree(doc.tree, nil).(map[string]any)
			i.checkTop(tree)
		})
		if i.report.errors() > errors {
			return nil
		}
		sections[includeOf(n)] = tree["include"]
		delete(tree, "include")
		if n == 0 {
			merged = tree
			continue
		}
		doc.takeBack(merged)
		over, err := override.Merge(merged, tree)
		if err == nil {
			over, err = override.EnforceUnicity(over)
		}
		if err != nil {
			i.report.about(doc, func() {
				i.report.fail("include", nil, "the file cannot be put over %s: %s (write what it overrides in the same form)", docs[0].file, firstLine(err.Error()))
			})
			return nil
		}
		merged = over
	}
	maps.Copy(merged, sections)
	return merged
}

// checkTop looks at the top of an included file, and takes out what has no say
// there: the stack's name and its policy are those of the stack's own file.
func (i *inclusion) checkTop(tree map[string]any) {
	if tree["x-skep"] != nil {
		i.report.warn("include-ignored", []string{"x-skep"}, "x-skep is ignored here: this file is included, and the stack's own file says how the stack is rolled out (write it there; a service's own x-skep counts)")
	}
	for key := range tree {
		if strings.HasPrefix(key, "x-") || key == "version" || key == "name" {
			delete(tree, key)
		}
	}
	for _, section := range sections {
		if _, ok := tree[section].(map[string]any); !ok && tree[section] != nil {
			i.report.fail("invalid-compose", []string{section}, "%s is not a mapping of names (write a name and below it what it is)", section)
		}
	}
}

// sections are the parts of a compose file that hold objects by name.
var sections = []string{"services", "networks", "volumes", "configs", "secrets"}

// adopt makes the objects of included documents part of the stack's tree. One that
// is there already has to be the same.
func (i *inclusion) adopt(in *interpolator, merged map[string]any, docs []*document) {
	for _, doc := range slices.Backward(docs) {
		adoptLiteral(i.literal, doc.tree)
	}
	slices.Reverse(docs) // the last one's word counts
	for _, section := range sortedKeys(merged) {
		whole := [2]string{section}
		if !slices.Contains(sections, section) {
			if _, ok := i.tree[section]; !ok { // nobody knows it: the schema will say so
				i.tree[section] = merged[section]
				i.report.origins[whole] = originsIn(docs, "")
			}
			continue
		}
		if i.tree[section] == nil {
			i.tree[section] = map[string]any{}
			i.report.origins[whole] = originsIn(docs, "")
		}
		objects, ok := i.tree[section].(map[string]any)
		if !ok {
			continue // a finding of the stack's own file
		}
		from := mapping(merged, section)
		for _, key := range sortedKeys(from) {
			at := []string{section, key}
			if there, ok := objects[key]; ok {
				i.meet(at, there, from[key], docs)
				continue
			}
			objects[key] = from[key]
			i.report.origins[[2]string{section, key}] = originsIn(docs, key)
			if section == "services" {
				i.interpolators[key] = in
			}
		}
	}
}

// meet refuses an object that the tree holds already with another content.
func (i *inclusion) meet(at []string, there, here any, docs []*document) {
	if reflect.DeepEqual(there, here) || isEmpty(there) && isEmpty(here) {
		return
	}
	file, line, _ := i.report.where(at)
	key := [2]string{at[0], at[1]}
	before, known := i.report.origins[key]
	i.report.origins[key] = originsIn(docs, at[1])
	i.report.fail("include-conflict", at, "%s is in %s:%d too, and is another there (rename one; to change what is included, write path: [FILE, OVERRIDES])", strings.Join(at, "."), file, line)
	if i.report.origins[key] = before; !known {
		delete(i.report.origins, key)
	}
}

// isEmpty says that an object is declared and nothing said about it: `data:` is as
// good as `data: {}`.
func isEmpty(object any) bool {
	m, ok := object.(map[string]any)
	return object == nil || ok && len(m) == 0
}

// originsIn is an object of a key in each of the documents that have it.
func originsIn(docs []*document, key string) []origin {
	out := make([]origin, len(docs))
	for n, doc := range docs {
		out[n] = origin{doc, key}
	}
	return out
}

// adoptLiteral adds a document's objects to a tree that has not got them.
func adoptLiteral(literal, tree map[string]any) {
	for key, value := range tree {
		if _, ok := literal[key]; !ok && !slices.Contains(sections, key) {
			literal[key] = value
		}
	}
	for _, section := range sections {
		objects, ok := literal[section].(map[string]any)
		if !ok {
			objects = map[string]any{}
		}
		for key, object := range mapping(tree, section) {
			if _, ok := objects[key]; !ok {
				objects[key] = object
			}
		}
		if tree[section] != nil {
			literal[section] = objects
		}
	}
}

// relativeTo makes a path that is relative to dir one that is relative to the
// stack's folder. What is not relative stays as it is, for its reader to refuse.
func relativeTo(dir, file string) string {
	if file == "" || notRelative(file) {
		return file
	}
	return path.Join(dir, file)
}

// notRelative says that a path is not relative to where it is written.
func notRelative(file string) bool {
	return path.IsAbs(file) || strings.HasPrefix(file, "~") || windowsPath(file) || strings.Contains(file, "://")
}

// rebaseTree makes the relative paths of an included tree, which are relative to
// dir, relative to the stack's folder.
func rebaseTree(tree map[string]any, dir string) {
	if dir == "." {
		return
	}
	for key := range mapping(tree, "services") {
		service := mapping(tree, "services", key)
		rebase(service, dir)
		extends := mapping(service, "extends")
		if file, ok := extends["file"].(string); ok {
			extends["file"] = relativeTo(dir, file)
		}
	}
	for _, section := range []string{"configs", "secrets"} {
		for key := range mapping(tree, section) {
			object := mapping(tree, section, key)
			if file, ok := object["file"].(string); ok {
				object["file"] = relativeTo(dir, file)
			}
		}
	}
}
