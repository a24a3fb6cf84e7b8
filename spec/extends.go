package spec

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// Services may extend others, of the stack's file and of others of its folder. What
// stands in another file is brought into the tree here, through the folder's root, and
// the library, which then finds all of it in one file, merges; it opens none.

// importBases makes the services that this file's services extend from other
// files part of the tree, under keys that cannot be a service's, and rewrites
// `extends` to them. It returns those keys.
func (l *loading) importBases(in *interpolator, tree map[string]any) []string {
	services := mapping(tree, "services")
	im := &importer{loading: l, services: services, documents: map[source]*extended{}, done: map[string]bool{}}
	for _, key := range sortedKeys(services) {
		from := source{in: in}
		if of, ok := l.interpolators[key]; ok {
			from.in = of
		}
		im.rewrite(key, from, []string{"services", key, "extends"})
	}
	if l.report.failed() {
		return nil
	}
	for _, key := range sortedKeys(services) {
		if !im.checkCycle(key) {
			break
		}
	}
	if l.report.failed() {
		return nil
	}
	for _, key := range sortedKeys(services) {
		im.takeBack(key)
	}
	if im.checkSize(); !l.report.failed() {
		im.trace()
	}
	return im.keys
}

// An importer brings services of other files into a tree.
type importer struct {
	*loading
	services  map[string]any
	documents map[source]*extended
	done      map[string]bool
	keys      []string
	number    int // of the last key that was made
}

// A source is a file ("" for the stack's own and those it includes) with the
// variables that it is read with.
type source struct {
	file string
	in   *interpolator
}

// extended is a file that services extend from.
type extended struct {
	number   int
	doc      *document
	services map[string]any
}

// maxImports bounds how many services may come from other files.
const maxImports = 200

// rewrite makes the extends of a service, which stands in a file, name a service of
// the tree.
func (im *importer) rewrite(key string, in source, at []string) {
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
	if from == "" {
		from = in.file
	} else {
		from = relativeTo(path.Dir(in.file), from)
	}
	if from == "" {
		if _, ok := im.services[base]; !ok {
			im.report.fail("extends", at, "extends names the service %s, which the file does not have (write one of its services)", base)
		}
		return
	}
	if key := im.bring(source{from, in.in}, base, at); key != "" {
		service["extends"] = map[string]any{"service": key}
	}
}

// bring imports one service of a file and returns its key in the tree, "" after an
// error.
func (im *importer) bring(from source, name string, at []string) string {
	file, ok := im.open(from, at)
	if !ok {
		return ""
	}
	key := imported(file.number, name)
	if im.done[key] {
		return key
	}
	im.done[key] = true
	service, ok := file.services[name].(map[string]any)
	if !ok {
		im.report.fail("extends", at, "extends names the service %s, which %s does not have (write one of its services)", name, from.file)
		return ""
	}
	copied, _ := clone(service).(map[string]any)
	rebase(copied, path.Dir(from.file))
	if !im.put(key, copied, []origin{{file.doc, name}}, at) {
		return ""
	}
	im.rewrite(key, from, []string{"services", key, "extends"})
	return key
}

// put makes a service part of the tree until extends is resolved; false after an
// error.
func (im *importer) put(key string, service map[string]any, from []origin, at []string) bool {
	if len(im.keys) >= maxImports {
		im.report.fail("extends", at, "more than %d services are extended from other files or reset (extend fewer)", maxImports)
		return false
	}
	im.services[key] = service
	im.keys = append(im.keys, key)
	im.report.origins[[2]string{"services", key}] = from
	return true
}

// imported is a key for a service that is in the tree to be extended alone: none
// that an author could write.
func imported(number int, name string) string { return fmt.Sprintf("extended.%x.%s", number, name) }

// base is the key of the service that one extends, once rewritten.
func (im *importer) base(key string) (string, bool) {
	service, _ := im.services[key].(map[string]any)
	switch v := service["extends"].(type) {
	case string:
		return v, true
	case map[string]any:
		base, ok := v["service"].(string)
		return base, ok
	}
	return "", false
}

// takeBack has a service extend a copy of its base without what its !reset and
// !override tags say.
func (im *importer) takeBack(key string) {
	var paths [][]string
	docs, at := im.report.of([]string{"services", key})
	for i, doc := range docs {
		for _, t := range doc.tags {
			if len(t.at) > 2 && t.at[0] == "services" && t.at[1] == at[i][1] {
				paths = append(paths, t.at[2:])
			}
		}
	}
	if len(paths) == 0 {
		return
	}
	where := []string{"services", key, "extends"}
	for base, ok := im.base(key); ok; base, ok = im.base(key) {
		service, _ := im.services[base].(map[string]any)
		copied, _ := clone(service).(map[string]any)
		for _, path := range paths {
			last := len(path) - 1
			delete(mapping(copied, path[:last]...), path[last])
		}
		im.number++
		next := imported(im.number, hideBases(base))
		from, ok := im.report.origins[[2]string{"services", base}]
		if !ok {
			from = []origin{{im.report.doc, base}}
		}
		if !im.put(next, copied, from, where) {
			return
		}
		mapping(im.services, key)["extends"] = map[string]any{"service": next}
		key = next
	}
}

// trace tells the report of which services another one is made by extending them.
func (im *importer) trace() {
	traced := origins{}
	for key := range im.services {
		var all []origin
		for at, ok := key, true; ok; at, ok = im.base(at) {
			if from, known := im.report.origins[[2]string{"services", at}]; known {
				all = append(all, from...)
			} else {
				all = append(all, origin{im.report.doc, at})
			}
		}
		if _, extends := im.base(key); extends {
			traced[[2]string{"services", key}] = all
		}
	}
	maps.Copy(im.report.origins, traced)
}

// checkSize bounds the stack with extends expanded: a short file can make services
// of each other that fill the machine.
func (im *importer) checkSize() {
	type sizes struct {
		extent
		ports int
	}
	known := map[string]sizes{}
	var size func(key string) sizes
	size = func(key string) sizes {
		if s, ok := known[key]; ok {
			return s
		}
		s := sizes{extentOf(im.services[key]), portCounts(mapping(im.services, key))}
		if base, ok := im.base(key); ok {
			inherited := size(base)
			s.add(inherited.extent)
			s.ports += inherited.ports
		}
		known[key] = s
		return s
	}
	var all sizes
	for key := range im.services {
		one := size(key)
		all.add(one.extent)
		all.ports += one.ports
	}
	all.depth = 0 // bounded in every file
	if found := all.excess("with extends, the stack has"); found != nil {
		im.report.fail(found.Code, []string{"services"}, "%s", found.Message)
	}
	if all.ports > maxAllPorts {
		im.report.fail("invalid-port", []string{"services"}, "with extends, the stack publishes more than %d ports (publish fewer)", maxAllPorts)
	}
}

// extentOf is the extent of a tree.
func extentOf(value any) extent {
	e := extent{nodes: 1}
	switch v := value.(type) {
	case string:
		e.bytes = int64(len(v))
	case map[string]any:
		for key, element := range v {
			e.add(extent{nodes: 1, bytes: int64(len(key))})
			e.add(extentOf(element))
		}
	case []any:
		for _, element := range v {
			e.add(extentOf(element))
		}
	}
	return e
}

// open reads the services of a file that is extended from.
func (im *importer) open(from source, at []string) (*extended, bool) {
	if file, ok := im.documents[from]; ok {
		return file, file != nil
	}
	im.documents[from] = nil
	doc, problem := im.parse(from.file)
	switch {
	case problem == nil:
	case problem.Line == 0 && problem.Code == "unreadable":
		im.report.fail("extends", at, "%s", problem.Message)
		return nil, false
	default:
		im.report.findings = append(im.report.findings, *problem)
		return nil, false
	}
	im.number++
	file := &extended{doc: doc, number: im.number, services: map[string]any{}}
	im.report.about(doc, func() {
		tree, _ := from.in.tree(doc.tree, nil).(map[string]any)
		tidy(&im.report, tree)
		checkTree(&im.report, tree)
		from.in.settle(tree, path.Dir(from.file))
		if services := mapping(tree, "services"); services != nil {
			file.services = services
		}
	})
	im.documents[from] = file
	return file, true
}

// rebase makes the relative paths of a service from a file in dir relative to the
// stack's folder.
func rebase(service map[string]any, dir string) {
	if dir == "." {
		return
	}
	move := func(file string) string { return relativeTo(dir, file) }
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
				source, rest, colon := strings.Cut(v, ":")
				if volumes[i] = "./" + move(source); colon {
					volumes[i] = "./" + move(source) + ":" + rest
				}
			}
		case map[string]any:
			if source, ok := v["source"].(string); ok && v["type"] == "bind" {
				v["source"] = move(source)
			}
		}
	}
}

// maxExtends bounds how many services extend each other in a row.
const maxExtends = 100

// checkCycle refuses services that extend themselves, and those that do it by too
// long a way for anybody to follow: then, false.
func (im *importer) checkCycle(key string) bool {
	var chain []string
	for at, ok := key, true; ok; at, ok = im.base(at) {
		if i := slices.Index(chain, at); i >= 0 {
			if chain[0] == slices.Min(chain[i:]) {
				im.report.fail("extends-cycle", []string{"services", key, "extends"}, "services extend each other in a circle: %s (take one of these extends out)", hideBases(strings.Join(append(chain[i:], at), " → ")))
			}
			return true
		}
		if chain = append(chain, at); len(chain) > maxExtends {
			im.report.fail("extends", []string{"services", key, "extends"}, "the service %s extends others more than %d deep (extend fewer)", hideBases(key), maxExtends)
			return false
		}
	}
	return true
}
