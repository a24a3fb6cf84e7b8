package spec

import (
	"bytes"
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
	"regexp"
	"slices"
	"sort"
	"strings"
	"syscall"

	"github.com/compose-spec/compose-go/v2/dotenv"
	"github.com/compose-spec/compose-go/v2/interpolation"
	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/template"
	loadertree "github.com/compose-spec/compose-go/v2/tree"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/docker/cli/pkg/kvfile"
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
	l := &loading{stackFile: f, o: o, shown: shown, read: map[string][]byte{}, absent: map[string]bool{}}
	l.report.file = display(shown, f.file)
	defer func() {
		if p := recover(); p != nil {
			l.report.fail("unreadable", nil, "the file cannot be understood: %v (simplify it, and please report this)", firstLine(fmt.Sprint(p)))
			stack, findings = nil, l.report.sorted()
		}
	}()
	stack = l.load(ctx)
	findings = l.report.sorted()
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
}

// load goes from the file to the Stack; nil after an error.
func (l *loading) load(ctx context.Context) *Stack {
	folder, err := l.root.OpenRoot(l.dir)
	if err != nil {
		l.report.fail("unreadable", nil, "the stack's folder cannot be opened: %v (check its permissions)", underlying(err))
		return nil
	}
	defer folder.Close()
	l.folder = folder

	doc := l.document()
	if doc == nil || !l.environment() {
		return nil
	}
	in := &interpolator{env: l.env, report: &l.report, used: map[string]*string{}}
	tree, _ := in.tree(doc.tree, nil).(map[string]any)
	if l.report.failed() || ctx.Err() != nil {
		return l.cancelled(ctx)
	}
	name := l.stackName(tree)
	policy, rollouts := readPolicy(&l.report, tree)
	tidy(&l.report, tree)
	checkTree(&l.report, tree)
	bases := l.importBases(in, tree)
	if l.report.failed() || ctx.Err() != nil {
		return l.cancelled(ctx)
	}
	project, raw := l.project(ctx, name, tree, bases)
	if project == nil {
		return nil
	}
	c := &converter{
		report: &l.report, stack: name, base: l.absolute(), env: l.env, lookup: in.peek,
		project: project, services: raw, policy: policy, rollouts: rollouts, literal: doc.tree, files: l.contents,
	}
	stack := c.convert()
	lint(c, stack)
	stack.Source = l.source(in.used)
	return stack
}

func (l *loading) cancelled(ctx context.Context) *Stack {
	if err := ctx.Err(); err != nil {
		l.report.fail("cancelled", nil, "reading was stopped: %v (try again)", err)
	}
	return nil
}

// document reads and parses the compose file.
func (l *loading) document() *document {
	file := strings.TrimPrefix(l.file, l.dir+"/")
	text, problem := l.yaml(file)
	if problem == nil {
		var doc *document
		if doc, problem = parseDocument(l.report.file, text); problem == nil {
			l.report.doc = doc
			return doc
		}
	}
	l.report.findings = append(l.report.findings, *problem)
	return nil
}

// yaml reads a file that goes to the YAML parser.
func (l *loading) yaml(file string) ([]byte, *Finding) {
	limit := l.o.MaxFileSize
	if limit <= 0 {
		limit = maxTextSize
	}
	text, problem := l.content(file, limit)
	shown := display(l.shown, path.Join(l.dir, file))
	if problem != "" {
		return nil, &Finding{File: shown, Severity: Error, Code: "unreadable", Message: problem}
	}
	if found := checkText(text, limit); found != nil {
		found.File = shown
		return nil, found
	}
	return text, nil
}

// content reads a file of the stack's folder, at most one byte more than limit;
// where it cannot, problem says why and what to do.
func (l *loading) content(file string, limit int64) (data []byte, problem string) {
	switch clean := path.Clean(file); {
	case file == "":
		return nil, "no file is named (write its path, relative to the stack's folder)"
	case strings.HasPrefix(file, "~"):
		return nil, fmt.Sprintf("%s begins with ~, which is another folder on every machine (put the file into the stack's folder and name it relative to that)", file)
	case path.IsAbs(file), windowsPath(file):
		return nil, fmt.Sprintf("%s is an absolute path, and a stack reads files of its own folder only (put the file there and name it relative to it)", file)
	case clean == "..", strings.HasPrefix(clean, "../"):
		return nil, fmt.Sprintf("%s leads out of the stack's folder, and a stack reads files of its own folder only (put the file there)", file)
	default:
		file = clean
	}
	if data, ok := l.read[file]; ok && int64(len(data)) <= limit {
		return data, ""
	}
	data, err := readRegular(l.folder, file, limit)
	if errors.Is(err, fs.ErrNotExist) {
		l.absent[file] = true
	}
	if err != nil {
		if strings.Contains(err.Error(), "escapes from parent") {
			return nil, fmt.Sprintf("%s is a symbolic link out of the stack's folder, and a stack reads files of its own folder only (put the file there)", file)
		}
		return nil, fmt.Sprintf("%s cannot be read: %v (check that it exists in the stack's folder, and its permissions)", file, underlying(err))
	}
	l.read[file] = data
	return data, ""
}

// readRegular reads at most one byte more than limit of a regular file, without
// waiting for the other end of a pipe.
func readRegular(root *os.Root, file string, limit int64) ([]byte, error) {
	f, err := root.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file")
	}
	return io.ReadAll(io.LimitReader(f, limit+1))
}

// contents is content for the converter.
func (l *loading) contents(file string, limit int64) ([]byte, string) {
	return l.content(file, limit)
}

// environment gathers the variables; false after an error.
func (l *loading) environment() bool {
	l.env = map[string]string{}
	if file := strings.TrimPrefix(l.dotenv, l.dir+"/"); l.dotenv != "" {
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
	shown := display(l.shown, path.Join(l.dir, file))
	refuse := func(message string) bool {
		l.report.findings = append(l.report.findings, Finding{File: shown, Severity: Error, Code: "env-file", Message: message})
		return false
	}
	data, problem := l.content(file, maxTextSize)
	if problem != "" {
		return refuse(problem)
	}
	if len(data) > maxTextSize {
		return refuse("the file is larger than 1 MiB (keep variables in it, nothing else)")
	}
	vars, err := dotenv.UnmarshalBytesWithLookup(data, func(name string) (string, bool) {
		value, ok := l.o.Env[name]
		return value, ok
	})
	if err != nil {
		return refuse("the file is not a list of variables (write a KEY=VALUE a line)") // the error shows values
	}
	maps.Copy(l.env, vars)
	return true
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
	dir, err := filepath.Abs(filepath.Join(l.root.Name(), l.dir))
	if err != nil {
		return "/"
	}
	return dir
}

// tidy takes out of the tree what the library behind would stumble on, complain
// about or make too much of: version, name, extensions, and the old way to name
// an external object.
func tidy(r *report, tree map[string]any) {
	if _, ok := tree["include"]; ok {
		r.fail("include", []string{"include"}, "include is not supported (put the services into this file, or make the other file a stack and name it in x-skep.depends_on)")
	}
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

// importBases makes the services that this file's services extend from other
// files part of the tree, under keys that cannot be a service's, and rewrites
// `extends` to them. It returns those keys.
func (l *loading) importBases(in *interpolator, tree map[string]any) []string {
	services := mapping(tree, "services")
	im := &importer{loading: l, in: in, services: services, documents: map[string]map[string]any{}, done: map[string]bool{}}
	for _, key := range sortedKeys(services) {
		im.rewrite(key, "", []string{"services", key, "extends"})
	}
	if l.report.failed() {
		return nil
	}
	for _, key := range sortedKeys(services) {
		im.checkCycle(key)
	}
	return im.keys
}

// An importer brings services of other files into a tree.
type importer struct {
	*loading
	in        *interpolator
	services  map[string]any
	documents map[string]map[string]any // services by file
	done      map[string]bool
	keys      []string
}

// maxImports bounds how many services may come from other files.
const maxImports = 200

// rewrite makes the extends of a service, which stands in file ("" for the stack's
// own), name a service of the tree.
func (im *importer) rewrite(key, file string, at []string) {
	service, _ := im.services[key].(map[string]any)
	extends, ok := service["extends"]
	if !ok {
		return
	}
	var from, base string
	switch v := extends.(type) {
	case string:
		base = v
	case map[string]any:
		base, _ = v["service"].(string)
		from, _ = v["file"].(string)
	}
	if base == "" {
		im.report.fail("extends", at, "extends names no service (write extends: {service: NAME})")
		return
	}
	switch {
	case from == "":
		from = file
	case !path.IsAbs(from) && !strings.HasPrefix(from, "~"):
		from = path.Join(path.Dir(file), from)
	}
	if from == "" {
		if _, ok := im.services[base]; !ok {
			im.report.fail("extends", at, "extends names the service %s, which the file does not have (write one of its services)", base)
		}
		return
	}
	if imported := im.bring(from, base, at); imported != "" {
		service["extends"] = map[string]any{"service": imported}
	}
}

// bring imports one service of a file and returns its key in the tree, "" after an
// error.
func (im *importer) bring(file, name string, at []string) string {
	key := "extended." + hex.EncodeToString([]byte(file)) + "." + name
	if im.done[key] {
		return key
	}
	im.done[key] = true
	if len(im.keys) >= maxImports {
		im.report.fail("extends", at, "more than %d services are extended from other files (extend fewer)", maxImports)
		return ""
	}
	services, ok := im.open(file, at)
	if !ok {
		return ""
	}
	service, ok := services[name].(map[string]any)
	if !ok {
		im.report.fail("extends", at, "extends names the service %s, which %s does not have (write one of its services)", name, file)
		return ""
	}
	copied, _ := clone(service).(map[string]any)
	rebase(copied, path.Dir(file))
	im.services[key] = copied
	im.keys = append(im.keys, key)
	im.rewrite(key, file, at)
	return key
}

// open reads the services of a file that is extended from.
func (im *importer) open(file string, at []string) (map[string]any, bool) {
	if services, ok := im.documents[file]; ok {
		return services, services != nil
	}
	im.documents[file] = nil
	text, problem := im.yaml(file)
	var doc *document
	if problem == nil {
		doc, problem = parseDocument(display(im.shown, path.Join(im.dir, file)), text)
	}
	if problem != nil {
		if problem.Line == 0 {
			im.report.fail("extends", at, "%s", problem.Message)
		} else {
			im.report.findings = append(im.report.findings, *problem)
		}
		return nil, false
	}
	outer := im.report.doc
	im.report.doc, im.report.file = doc, doc.file
	tree, _ := im.in.tree(doc.tree, nil).(map[string]any)
	tidy(&im.report, tree)
	checkTree(&im.report, tree)
	im.report.doc, im.report.file = outer, outer.file
	services := mapping(tree, "services")
	if services == nil {
		services = map[string]any{}
	}
	im.documents[file] = services
	return services, true
}

// rebase makes the relative paths of a service from a file in dir relative to the
// stack's folder.
func rebase(service map[string]any, dir string) {
	if dir == "." {
		return
	}
	move := func(file string) string {
		if file == "" || path.IsAbs(file) || strings.HasPrefix(file, "~") || windowsPath(file) {
			return file
		}
		return path.Join(dir, file)
	}
	for _, key := range []string{"env_file", "label_file"} {
		switch v := service[key].(type) {
		case string:
			service[key] = move(v)
		case []any:
			for i, element := range v {
				switch e := element.(type) {
				case string:
					v[i] = move(e)
				case map[string]any:
					if file, ok := e["path"].(string); ok {
						e["path"] = move(file)
					}
				}
			}
		}
	}
	volumes, _ := service["volumes"].([]any)
	for i, volume := range volumes {
		switch v := volume.(type) {
		case string:
			if strings.HasPrefix(v, ".") {
				source, rest, _ := strings.Cut(v, ":")
				volumes[i] = "./" + move(source) + ":" + rest
			}
		case map[string]any:
			if source, ok := v["source"].(string); ok && v["type"] == "bind" {
				v["source"] = move(source)
			}
		}
	}
}

// checkCycle refuses services that extend themselves.
func (im *importer) checkCycle(key string) {
	var chain []string
	for at := key; ; {
		if i := slices.Index(chain, at); i >= 0 {
			if chain[0] == slices.Min(chain[i:]) {
				im.report.fail("extends-cycle", []string{"services", key, "extends"}, "services extend each other in a circle: %s (take one of these extends out)", strings.Join(append(chain[i:], at), " → "))
			}
			return
		}
		chain = append(chain, at)
		service, _ := im.services[at].(map[string]any)
		switch v := service["extends"].(type) {
		case string:
			at = v
		case map[string]any:
			at, _ = v["service"].(string)
		default:
			return
		}
	}
}

// project has the library validate the tree, resolve extends and type the values.
// What it would lose on the way comes back beside the project: each service's
// values as they were written, variables and extends resolved.
func (l *loading) project(ctx context.Context, name string, tree map[string]any, bases []string) (*types.Project, map[string]map[string]any) {
	details := types.ConfigDetails{
		WorkingDir:  "/",
		Environment: maps.Clone(l.env),
		ConfigFiles: []types.ConfigFile{{Filename: l.report.file, Content: []byte{}, Config: clone(tree).(map[string]any)}},
	}
	options := func(o *loader.Options) {
		o.SetProjectName(name, false)
		o.Profiles = l.o.Profiles
		o.Interpolate.Substitute = asIs
		o.Interpolate.TypeCastMapping = castsFor(tree, o.Interpolate.TypeCastMapping)
		o.SkipNormalization = true    // it adds networks, dependencies and names
		o.SkipConsistencyCheck = true // it refuses what an engine takes; convert checks
		o.SkipDefaultValues = true    // it sets targets and port modes
		o.SkipInclude = true
		o.SkipResolveEnvironment = true // it reads files wherever they are
		o.SkipResolveLabels = true
		o.ResolvePaths = false
	}
	model, err := loader.LoadModelWithContext(ctx, details, options)
	if err != nil {
		l.refused(tree, err)
		return nil, nil
	}
	for _, key := range bases {
		delete(mapping(model, "services"), key)
	}
	raw := map[string]map[string]any{}
	for key := range mapping(model, "services") {
		written := mapping(tree, "services", key)
		if _, extended := written["extends"]; extended {
			written = mapping(model, "services", key)
			dropAdded(written)
		}
		raw[key], _ = clone(written).(map[string]any)
		patch(mapping(model, "services", key), raw[key])
	}
	project, err := loader.ModelToProject(model, loader.ToOptions(&details, []func(*loader.Options){options}), details)
	if err != nil {
		l.refused(tree, err)
		return nil, nil
	}
	return project, raw
}

// castsFor leaves those of the library's casts that may be about a text in the tree,
// by the last key of its path. The library tries every cast on every text, which
// otherwise takes longer than all the rest of loading.
func castsFor(tree map[string]any, casts map[loadertree.Path]interpolation.Cast) map[loadertree.Path]interpolation.Cast {
	keys := map[string]bool{loadertree.PathMatchAll: true, loadertree.PathMatchList: true}
	textKeys(tree, keys)
	kept := map[loadertree.Path]interpolation.Cast{}
	for pattern, cast := range casts {
		if keys[pattern.Last()] {
			kept[pattern] = cast
		}
	}
	return kept
}

// textKeys collects the keys that hold text.
func textKeys(m map[string]any, keys map[string]bool) {
	for key, value := range m {
		textKeysBelow(key, value, keys)
	}
}

func textKeysBelow(key string, value any, keys map[string]bool) {
	switch v := value.(type) {
	case string:
		keys[key] = true
	case map[string]any:
		textKeys(v, keys)
	case []any:
		for _, element := range v {
			textKeysBelow(loadertree.PathMatchList, element, keys)
		}
	}
}

// asIs is the library's interpolation of a tree that has been interpolated.
func asIs(text string, _ template.Mapping) (string, error) { return text, nil }

// patch takes out of a service what the library would read differently than
// `docker stack deploy`, for the converter to read from the raw values, and gives
// back what it dropped.
func patch(service, raw map[string]any) {
	for _, key := range []string{"command", "entrypoint", "environment", "extra_hosts", "ports", "volumes"} {
		delete(service, key)
	}
	for _, key := range []string{"limits", "reservations"} {
		delete(mapping(service, "deploy", "resources", key), "cpus")
	}
	for _, key := range []string{"dns", "dns_search"} {
		if list, ok := raw[key].([]any); ok && service[key] != nil {
			service[key] = clone(list)
		}
	}
	for _, key := range []string{"configs", "secrets"} {
		if list, ok := raw[key].([]any); ok {
			service[key] = references(list)
		}
	}
}

// dropAdded takes out of an extended service's volumes what the library adds to
// their short form for another program.
func dropAdded(service map[string]any) {
	volumes, _ := service["volumes"].([]any)
	for _, volume := range volumes {
		v, _ := volume.(map[string]any)
		if bind := mapping(v, "bind"); len(bind) == 1 && text(bind["create_host_path"]) == "true" {
			delete(v, "bind")
		}
		if _, ok := v["volume"]; ok && len(mapping(v, "volume")) == 0 {
			delete(v, "volume")
		}
	}
}

// references gives the short form of a config or secret its long one.
func references(list []any) []any {
	out := make([]any, len(list))
	for i, element := range list {
		if source, ok := element.(string); ok {
			element = map[string]any{"source": source}
		}
		out[i] = clone(element)
	}
	return out
}

// refused turns the library's error into findings at the values it is about.
func (l *loading) refused(tree map[string]any, err error) {
	found := faults(tree)
	for _, f := range found {
		l.report.fail("invalid-compose", f.at, "%s", hideBases(f.sentence()))
	}
	if len(found) > 0 {
		return
	}
	message := strings.TrimPrefix(err.Error(), "validating "+l.report.file+": ")
	casts := castPattern.FindAllStringSubmatch(message, -1)
	for _, m := range casts {
		l.report.fail("invalid-compose", pathIn(m[1]), "%s is %q, which is no value of its kind (write a number, or true or false)", hideBases(m[1]), m[2])
	}
	if len(casts) == 0 {
		l.report.fail("invalid-compose", pathIn(message), "%s (see the compose file reference for what may stand there)", hideBases(firstLine(message)))
	}
}

var (
	pathPattern = regexp.MustCompile(`\b(services|networks|volumes|configs|secrets)[.\[][^\s:,']+`)
	// castPattern is the library's error about a value that is not of its field's type.
	castPattern = regexp.MustCompile(`(?m)^error while interpolating (\S+): failed to cast to expected type: (?:invalid boolean: |strconv\.\w+: parsing ")([^"\n]*)`)
	basePattern = regexp.MustCompile(`extended\.[0-9a-f]+\.`)
)

// hideBases names an imported service as its author does.
func hideBases(text string) string { return basePattern.ReplaceAllString(text, "") }

// pathIn is the path that an error of the library is about, nil where it names
// none.
func pathIn(text string) []string {
	found := pathPattern.FindString(text)
	if found == "" {
		return nil
	}
	return strings.FieldsFunc(found, func(r rune) bool { return r == '.' || r == '[' || r == ']' })
}

// source tells what the stack was made of.
func (l *loading) source(used map[string]*string) Source {
	s := Source{File: path.Clean(l.file)}
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
		if file == strings.TrimPrefix(l.dotenv, l.dir+"/") {
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
		if value := used[name]; value != nil {
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
