package spec

import (
	"encoding/hex"
	"path"
	"slices"
	"strings"
)

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
