package spec

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"syscall"

	"github.com/docker/cli/pkg/kvfile"

	"github.com/skep-io/skep/spec/sops"
)

// A stackFile is one stack to load.
type stackFile struct {
	root *os.Root // the specs directory
	// dir is the folder in root that confines every file the stack may name: its
	// own, or "." for a stack of a single file.
	dir    string
	file   string // the compose file, in root
	name   string // the stack's name by its path; a top-level `name:` wins
	dotenv string // the file with its variables, in root; it need not exist
}

// Options say how stacks are loaded.
type Options struct {
	// Env holds the variables that were allowed from outside; they win over those
	// of a stack's .env. The process's own environment is never read.
	Env map[string]string
	// Profiles are those that are active: services that carry profiles are part of
	// the stack only with one of them.
	Profiles []string
	// MaxFileSize bounds compose files and what they include, in bytes; 0: 1 MiB.
	MaxFileSize int64
	// as is the absolute path of the specs directory that the one which is read is a
	// copy of; empty where it is none.
	as string
	// Part says that the directory is one of several that are joined: what their stacks
	// do to each other is for Join to tell.
	Part bool
	// Keys open the encrypted files that stacks name; nil: none is opened.
	Keys *sops.Keys
	// Lenient opens none either, and takes that for a warning: the values are not known
	// then, and what was loaded is good for looking at files alone.
	Lenient bool
}

// LoadFile loads the stack of a compose file, or of the folder of one, apart from
// any specs directory. The stack's name is its top-level name, else the folder's
// (for a folder, or a file by one of the names that a folder's compose file has),
// else the file's without its extension. The Stack is nil where a finding is an
// error.
func LoadFile(ctx context.Context, file string, o Options) (*Stack, []Finding) {
	refuse := func(err error) (*Stack, []Finding) {
		return nil, []Finding{{File: file, Severity: Error, Code: "unreadable",
			Message: fmt.Sprintf("cannot be read: %v (check its path and permissions)", underlying(err))}}
	}
	absolute, err := filepath.Abs(file)
	if err != nil {
		return refuse(err)
	}
	info, err := os.Stat(absolute)
	if err != nil {
		return refuse(err)
	}
	if info.IsDir() {
		var found []string
		for _, name := range composeNames {
			if _, err := os.Stat(filepath.Join(absolute, name)); err == nil {
				found = append(found, name)
			}
		}
		if len(found) != 1 {
			return nil, []Finding{{File: file, Severity: Error, Code: "not-a-stack",
				Message: fmt.Sprintf("the folder holds %d compose files, and a stack's folder holds one (by one of the names %s)", len(found), strings.Join(composeNames, ", "))}}
		}
		absolute, file = filepath.Join(absolute, found[0]), filepath.Join(file, found[0])
	}
	root, err := os.OpenRoot(filepath.Dir(absolute))
	if err != nil {
		return refuse(err)
	}
	defer root.Close()
	base := filepath.Base(absolute)
	name := strings.TrimSuffix(base, filepath.Ext(base))
	if slices.Contains(composeNames, base) {
		name = filepath.Base(filepath.Dir(absolute))
	}
	shown := filepath.ToSlash(filepath.Dir(file))
	return loadAs(ctx, stackFile{root: root, dir: ".", file: base, name: name, dotenv: ".env"}, shown, o)
}

// load reads one stack: its compose file, and all that it names. The Stack is nil
// where a finding is an error.
func load(ctx context.Context, f stackFile, o Options) (*Stack, []Finding) {
	return loadAs(ctx, f, "", o)
}

// loadAs is load with a folder's name to put before the files' in findings.
func loadAs(ctx context.Context, f stackFile, shown string, o Options) (stack *Stack, findings []Finding) {
	l := &loading{stackFile: f, o: o, shown: shown, read: map[string][]byte{}, absent: map[string]bool{}, ignores: map[string]ignores{}}
	l.report.file = display(shown, f.file)
	defer func() {
		if p := recover(); p != nil {
			l.report.fail("unreadable", nil, "the file cannot be understood: %s (simplify it, and please report this)", panicked(p))
			stack, findings = nil, l.report.sorted()
		}
	}()
	stack = l.load(ctx)
	findings = l.weighed()
	if hasError(findings) {
		return nil, findings
	}
	stack.Findings = findings
	return stack, findings
}

// loading is the work on one stack.
type loading struct {
	stackFile
	o      Options
	shown  string
	folder *os.Root // what confines the stack
	report report
	env    map[string]string
	// read holds the content of every file that was read, by its path in folder;
	// absent those that were not there, and are worth a reload when they come.
	read   map[string][]byte
	absent map[string]bool
	policy Policy
	// texts, allText and size are of all compose files together.
	texts   int
	allText int64
	size    extent
	full    *Finding // why no more of them are read
	grown   int      // by variables
	// allLines and allData are of the files that services, configs and secrets name.
	allLines, allData int64
	// variables are the files that variables were read from; dotenvNamed says that
	// the stack's own one is named in it too, as an env_file or the like.
	variables   []string
	dotenvNamed bool
	// literal is the tree of all included files before variables were put in, and
	// interpolators are those of the files that included services stand in.
	literal       map[string]any
	interpolators map[string]*interpolator
	// ctx ends the work; it is kept for what reads files on the way.
	ctx context.Context
	// decrypts says whether encrypted files are opened, opened what came of those that
	// were, sealed how long these are together, and budget what opening may take.
	decrypts bool
	opened   map[string]openedFile
	sealed   int
	budget   sops.Budget
	// ignores holds the comments of YAML files that ignore findings, by the name that
	// findings give the file.
	ignores map[string]ignores
}

// weighed are the findings as the stack's author wants them told: without those
// that a comment ignores, and by x-skep.findings.
func (l *loading) weighed() []Finding {
	l.report.findings = append(l.report.findings, l.inVain(l.report.sorted())...)
	found := slices.DeleteFunc(l.report.sorted(), func(f Finding) bool { return l.ignores[f.File].silent(f) })
	for i := range found {
		found[i].Message = onOneLine(found[i].Message)
		found[i].Service = onOneLine(found[i].Service)
	}
	return l.policy.Weigh(oncePerVariable(found))
}

// load goes from the file to the Stack; nil after an error.
func (l *loading) load(ctx context.Context) *Stack {
	folder, err := l.root.OpenRoot(l.dir)
	if err != nil {
		l.report.fail("unreadable", nil, "the stack's folder cannot be opened: %v (check its permissions)", underlying(err))
		return nil
	}
	defer folder.Close()
	l.folder, l.ctx = folder, ctx

	doc := l.document()
	if doc == nil || !l.environment() {
		return nil
	}
	in := &interpolator{env: l.env, report: &l.report, used: map[string]*string{}, growth: l.grow}
	tree, _ := in.tree(doc.tree, nil).(map[string]any)
	if l.report.failed() || ctx.Err() != nil {
		return l.cancelled(ctx)
	}
	name := l.stackName(tree)
	literal := l.includeAll(in, doc, tree)
	if l.report.failed() || ctx.Err() != nil {
		return l.cancelled(ctx)
	}
	policy, services, wrong := l.readPolicy(tree, name)
	defer func() { l.report.findings = append(l.report.findings, wrong...) }()
	tidy(&l.report, tree)
	readable := checkTree(&l.report, tree)
	bases := l.importBases(in, tree)
	if l.stopped() || ctx.Err() != nil {
		if readable {
			l.refuseBeside(tree)
		}
		return l.cancelled(ctx)
	}
	if len(tree) == 0 { // the library would not know what to say
		l.report.fail("no-services", nil, "the stack has no services (write at least one, or remove the file)")
		return nil
	}
	project, raw := l.project(ctx, name, tree, bases)
	if project == nil {
		return nil
	}
	l.report.length = func(at []string) int { return listLength(raw, at) }
	c := &converter{
		report: &l.report, stack: name, base: l.absolute(), env: l.env, lookup: in.peek,
		project: project, services: raw, policy: policy, policies: services, literal: literal, files: l.contents,
		mountedAt: map[string]map[string][]string{},
	}
	stack := c.convert()
	lint(c, stack)
	l.places(stack, c.mountedAt)
	stack.Source = l.source(in.used)
	return stack
}

// readPolicy reads the x-skep blocks. What is wrong with them comes back apart: it
// keeps nobody from looking at the rest of the file.
func (l *loading) readPolicy(tree map[string]any, name string) (Policy, map[string]servicePolicy, []Finding) {
	before := l.report.findings
	l.report.findings = nil
	policy, services := readPolicy(&l.report, tree)
	if i := slices.Index(policy.DependsOn, name); i >= 0 {
		l.report.fail("x-skep", []string{"x-skep", "depends_on", strconv.Itoa(i)}, "x-skep.depends_on names the stack itself, which would wait for ever (take it out)")
	}
	wrong := l.report.findings
	l.report.findings, l.policy = before, policy
	return policy, services, wrong
}

// bearable are the codes of errors with which the rest of a file can be looked at.
var bearable = set("option-forbidden", "label-reserved", "external-name")

// stopped says that there are errors with which the library could not go on.
func (l *loading) stopped() bool {
	return slices.ContainsFunc(l.report.findings, func(f Finding) bool { return f.Severity == Error && !bearable[f.Code] })
}

// refuseBeside tells what the schema does not allow beside errors that end the work on
// the file, of values that none of them is about.
func (l *loading) refuseBeside(tree map[string]any) {
	type spot struct {
		file         string
		line, column int
	}
	told := map[spot]bool{}
	for _, f := range l.report.findings {
		told[spot{f.File, f.Line, f.Column}] = told[spot{f.File, f.Line, f.Column}] || f.Severity == Error
	}
	known := len(l.report.findings)
	for _, f := range faults(tree) {
		if _, ok := tree[f.at[0]].(map[string]any); ok || !slices.Contains(sections, f.at[0]) {
			l.report.fail("invalid-compose", f.at, "%s", hideBases(f.sentence(&l.report)))
		}
	}
	found := slices.DeleteFunc(l.report.findings[known:], func(f Finding) bool { return told[spot{f.File, f.Line, f.Column}] })
	l.report.findings = l.report.findings[:known+len(found)]
}

func (l *loading) cancelled(ctx context.Context) *Stack {
	if err := ctx.Err(); err != nil {
		l.report.fail("cancelled", nil, "reading was stopped: %v (try again)", err)
	}
	return nil
}

// document reads and parses the compose file.
func (l *loading) document() *document {
	doc, problem := l.parse(l.own(l.file))
	if problem != nil {
		l.report.findings = append(l.report.findings, *problem)
		return nil
	}
	l.report.doc = doc
	l.report.takenFrom(doc)
	l.decrypts = readsSealed(doc)
	return doc
}

// parse reads a compose file of the stack's folder. All that are read for a stack
// are bounded together too; once they are too much nothing more is read.
func (l *loading) parse(file string) (*document, *Finding) {
	limit := l.o.MaxFileSize
	if limit <= 0 {
		limit = maxTextSize
	}
	l.texts++
	if l.full == nil && l.texts > maxTexts {
		l.full = refuse(0, "include-too-large", "the stack is made of more than %d compose files (include and extend fewer)", maxTexts)
	}
	if l.full != nil {
		l.full.File = l.report.file
		return nil, l.full
	}
	shown := display(l.shown, path.Join(l.dir, file))
	text, problem := l.content(file, limit)
	if problem != "" {
		return nil, &Finding{File: shown, Severity: Error, Code: "unreadable", Message: problem}
	}
	if l.allText += int64(len(text)); l.allText > maxAllTexts*limit {
		l.full = refuse(0, "include-too-large", "the stack's compose files have more than %d bytes together (split it into several stacks)", maxAllTexts*limit)
	}
	doc, found := parseBounded(shown, text, limit)
	if found != nil {
		return nil, found
	}
	l.size.add(doc.size)
	if l.full == nil {
		l.full = l.size.excess("the stack's compose files have together")
	}
	if l.full != nil {
		l.full.File = l.report.file
		return nil, l.full
	}
	comments, problems := l.report.readIgnores(shown, text)
	l.ignores[shown] = comments
	l.report.findings = append(l.report.findings, problems...)
	return doc, nil
}

// content reads a file of the stack's folder, at most one byte more than limit;
// where it cannot, problem says why and what to do.
func (l *loading) content(file string, limit int64) (data []byte, problem string) {
	told := l.report.told(file)
	if problem := outside(file, told); problem != "" {
		return nil, problem
	}
	file, told = path.Clean(file), path.Clean(told)
	if data, ok := l.read[file]; ok && int64(len(data)) <= limit {
		return data, ""
	}
	data, err := readRegular(l.folder, file, limit)
	if errors.Is(err, fs.ErrNotExist) {
		l.absent[file] = true
	}
	if err != nil {
		if strings.Contains(err.Error(), "escapes from parent") {
			return nil, fmt.Sprintf("%s is a symbolic link out of the stack's folder, and a stack reads files of its own folder only (put the file there)", told)
		}
		return nil, fmt.Sprintf("%s cannot be read: %v (check that it exists in the stack's folder, and its permissions)", told, underlying(err))
	}
	l.read[file] = data
	return data, ""
}

// outside says why a path cannot be one of the stack's folder, "" where it can, as
// far as it tells by itself. The path is told by another name.
func outside(file, told string) string {
	clean := path.Clean(file)
	switch {
	case len(file) > maxPath:
		return fmt.Sprintf("the path has more than the %d characters that a path may have (shorten it)", maxPath)
	case file == "":
		return "no file is named (write its path, relative to the stack's folder)"
	case strings.HasPrefix(file, "~"):
		return fmt.Sprintf("%s begins with ~, which is another folder on every machine (put the file into the stack's folder and name it relative to that)", told)
	case strings.Contains(file, "://"):
		return fmt.Sprintf("%s is somewhere else, and a stack reads files of its own folder only (put the file there and name it relative to it)", told)
	case path.IsAbs(file), windowsPath(file):
		return fmt.Sprintf("%s is an absolute path, and a stack reads files of its own folder only (put the file there and name it relative to it)", told)
	case clean == "..", strings.HasPrefix(clean, "../"):
		return fmt.Sprintf("%s leads out of the stack's folder, and a stack reads files of its own folder only (put the file there)", told)
	}
	return ""
}

// readRegular reads at most one byte more than limit of a regular file, without
// waiting for the other end of a pipe.
func readRegular(root *os.Root, file string, limit int64) ([]byte, error) {
	f, err := root.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file")
	}
	var data bytes.Buffer
	data.Grow(int(min(info.Size(), limit+1)) + bytes.MinRead)
	if _, err := data.ReadFrom(io.LimitReader(f, limit+1)); err != nil {
		return nil, err
	}
	return data.Bytes(), nil
}

// What a stack's files may have together, each counted as often as it is named: a
// file that thousands of services name is copied into each of them.
const (
	maxAllLines = 16 << 20 // of env_file and label_file
	maxAllData  = 64 << 20 // of configs and secrets
)

// contents is content for the converter, bounded over the whole stack, and decrypted.
// An encrypted file may be longer than what is in it.
func (l *loading) contents(file string, limit int64) (fileText, fileProblem) {
	sum, most := &l.allData, int64(maxAllData)
	if limit == maxTextSize { // no config or secret may be that long
		sum, most = &l.allLines, maxAllLines
	}
	tooMuch := fileProblem{text: fmt.Sprintf("with %s, the stack's files of its kind have more than %d MiB together (name long files less often, or split the stack)", file, most>>20)}
	if *sum > most {
		return fileText{}, tooMuch // and nothing more is read
	}
	data, problem := l.content(file, limit+limit/2+256<<10)
	if problem != "" {
		return fileText{}, fileProblem{text: problem}
	}
	l.dotenvNamed = l.dotenvNamed || l.isDotenv(path.Clean(file))
	if *sum += int64(len(data)); *sum > most {
		return fileText{}, tooMuch
	}
	return l.open(path.Clean(file), data)
}

// environment gathers the variables; false after an error.
func (l *loading) environment() bool {
	l.env = map[string]string{}
	if file := l.own(l.dotenv); l.dotenv != "" {
		// A link that leads nowhere is a file that cannot be read, not one that is absent.
		if _, err := l.folder.Lstat(file); !errors.Is(err, fs.ErrNotExist) {
			if !l.readDotenv(file) {
				return false
			}
		}
	}
	maps.Copy(l.env, l.o.Env)
	return true
}

func (l *loading) readDotenv(file string) bool {
	vars, problem := l.dotenvVars(file, func(name string) (string, bool) {
		value, ok := l.o.Env[name]
		return value, ok
	})
	if problem.text != "" {
		found := Finding{File: display(l.shown, path.Join(l.dir, file)), Severity: Error, Code: "env-file", Message: problem.text}
		switch problem.kind {
		case locked:
			found.Code = "secret-not-decrypted"
		case damaged:
			found.Code = "secret-damaged"
		}
		l.report.findings = append(l.report.findings, found)
		return false
	}
	maps.Copy(l.env, vars)
	return true
}

// dotenvVars reads a file of variables, which may use those that lookup knows.
func (l *loading) dotenvVars(file string, lookup func(string) (string, bool)) (vars map[string]string, problem fileProblem) {
	data, why := l.content(file, 2*maxTextSize)
	if why != "" {
		return nil, fileProblem{text: why}
	}
	shown := display(l.shown, path.Join(l.dir, file))
	l.variables = append(l.variables, shown)
	text, problem := l.open(path.Clean(file), data)
	if problem.text != "" {
		return nil, problem
	}
	if text.unopened != "" {
		l.report.findings = append(l.report.findings, Finding{File: shown, Severity: Warning, Code: "secret-not-decrypted", Message: text.unopened})
		vars = map[string]string{}
		for _, name := range text.names {
			vars[name] = standIn
		}
		return vars, fileProblem{}
	}
	if len(text.data) > maxTextSize {
		return nil, fileProblem{text: "the file is larger than 1 MiB (keep variables in it, nothing else)"}
	}
	vars, err := parseDotenv(string(text.data), lookup, l.grow)
	if err != nil {
		return nil, fileProblem{text: err.Error()}
	}
	if text.sealed {
		l.dotenvNamed = true // its bytes are what the fingerprint is over
		l.sealVariables(vars)
	}
	return vars, fileProblem{}
}

// grow counts what variables add to all files of the stack, and says whether that
// may be.
func (l *loading) grow(n int) bool {
	l.grown += n
	return l.grown <= maxInterpolated
}

// stackName is the top-level name, else that of the path.
func (l *loading) stackName(tree map[string]any) string {
	name := l.name
	if value, ok := tree["name"]; ok {
		text, isText := value.(string)
		if !isText || text == "" {
			l.report.fail("invalid-name", []string{"name"}, "the stack's name is not text (write letters, digits, - and _)")
			return name
		}
		name = text
	}
	if !objectName.MatchString(name) {
		l.report.fail("invalid-name", []string{"name"}, "%q cannot be a stack's name, which begins with a letter or digit and goes on with those, - and _ (rename the file or folder, or write a top-level name)", name)
	}
	return name
}

// absolute is the folder's path on this machine: what a relative bind mount is
// relative to.
func (l *loading) absolute() string {
	dir, err := filepath.Abs(filepath.Join(cmp.Or(l.o.as, l.root.Name()), l.dir))
	if err != nil {
		return "/"
	}
	return dir
}

// listLength is the length of the list at a path of services, -1 where there is
// none.
func listLength(services map[string]map[string]any, at []string) int {
	if len(at) < 3 || at[0] != "services" {
		return -1
	}
	list, ok := mapping(services[at[1]], at[2:len(at)-1]...)[at[len(at)-1]].([]any)
	if !ok {
		return -1
	}
	return len(list)
}

// tidy takes out of the tree what the library behind would stumble on, complain
// about or make too much of: version, name, extensions, and the old way to name
// an external object.
func tidy(r *report, tree map[string]any) {
	for _, key := range []string{"version", "name", "include"} {
		delete(tree, key)
	}
	dropExtensions(tree)
	for _, section := range []string{"networks", "volumes", "configs", "secrets"} {
		for _, key := range sortedKeys(mapping(tree, section)) {
			object := mapping(tree, section, key)
			dropExtensions(object)
			nameExternal(r, object, []string{section, key})
		}
	}
	for key := range mapping(tree, "services") {
		service := mapping(tree, "services", key)
		dropExtensions(service)
		dropExtensions(mapping(service, "deploy"))
		if volumes, ok := service["volumes"].([]any); ok {
			for _, volume := range volumes {
				if v, ok := volume.(map[string]any); ok && len(mapping(v, "cluster")) == 0 {
					delete(v, "cluster") // it has no options yet, and the library does not know it
				}
			}
		}
	}
}

func dropExtensions(m map[string]any) {
	for key := range m {
		if strings.HasPrefix(key, "x-") {
			delete(m, key)
		}
	}
}

// nameExternal turns `external: {name: x}` into `external: true, name: x`.
func nameExternal(r *report, object map[string]any, at []string) {
	external, ok := object["external"].(map[string]any)
	if !ok {
		return
	}
	object["external"] = true
	inner, named := external["name"]
	if !named {
		return
	}
	if outer, ok := object["name"]; ok && outer != inner {
		r.fail("external-name", under(at, "external"), "%s has a name and an external.name that differ (keep name)", strings.Join(at, "."))
		return
	}
	object["name"] = inner
}

// source tells what the stack was made of.
func (l *loading) source(used map[string]*string) Source {
	s := Source{File: path.Clean(l.file), variables: l.variables}
	if l.shown != "" {
		s.File = display(l.shown, l.file)
	}
	sum := sha256.New()
	field := func(h hash.Hash, data []byte) {
		fmt.Fprintf(h, "%d:", len(data))
		h.Write(data)
	}
	for _, file := range sortedKeys(l.read) {
		s.Files = append(s.Files, display(l.shown, path.Join(l.dir, file)))
		if l.isDotenv(file) && !l.dotenvNamed {
			continue // what the stack used of it follows
		}
		field(sum, []byte(file))
		field(sum, l.read[file])
	}
	for file := range l.absent {
		s.Files = append(s.Files, display(l.shown, path.Join(l.dir, file)))
	}
	sort.Strings(s.Files)
	field(sum, []byte(l.dir)) // relative bind mounts are below it
	for _, profile := range slices.Sorted(slices.Values(l.o.Profiles)) {
		field(sum, []byte(profile))
	}
	for _, name := range sortedKeys(used) {
		field(sum, []byte(name))
		if value := used[name]; value != nil && l.report.isSealed(name, *value) {
			sum.Write([]byte("sealed")) // the file that it came from counts, encrypted
		} else if value != nil {
			field(sum, []byte(*value))
		} else {
			sum.Write([]byte("unset"))
		}
	}
	s.Fingerprint = "sha256:" + hex.EncodeToString(sum.Sum(nil))
	return s
}

// parseEnvLines reads lines of KEY=VALUE as `docker stack deploy` does: a value is
// the rest of its line, quotes, # and $ included. A KEY alone takes its value from
// lookup, and is left out where that has none.
func parseEnvLines(data []byte, lookup func(string) (string, bool)) (map[string]string, error) {
	lines, err := kvfile.ParseFromReader(bytes.NewReader(data), lookup)
	if err != nil {
		return nil, fmt.Errorf("%w (write a KEY=VALUE a line)", err)
	}
	vars := make(map[string]string, len(lines))
	for _, line := range lines {
		key, value, _ := strings.Cut(line, "=")
		vars[key] = value
	}
	return vars, nil
}

// underlying is an error without the path that the message around it names.
func underlying(err error) error {
	var pathError *fs.PathError
	if errors.As(err, &pathError) {
		return pathError.Err
	}
	return err
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

// windowsPath says whether a path is an absolute one of Windows.
func windowsPath(file string) bool {
	return strings.HasPrefix(file, `\\`) || len(file) > 2 && file[1] == ':' && (file[2] == '\\' || file[2] == '/')
}
