package spec

import (
	"bytes"
	"cmp"
	"fmt"
	"path"
	"slices"
	"sort"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// A document is one YAML text: its values as a tree of maps, lists and scalars,
// and where in the text each of them stands.
type document struct {
	file string // as findings name it
	root *yaml.Node
	tree map[string]any
	size extent
	tags []tagged // !reset and !override
	// keys holds, for mappings that have many, where in their content each key is.
	keys map[*yaml.Node]map[string]int
}

// parseDocument is parseBounded for a text of the usual size.
func parseDocument(file string, text []byte) (*document, *Finding) {
	return parseBounded(file, text, 0)
}

// parseBounded reads one YAML document with a mapping at its top, of at most max
// bytes (0: 1 MiB) and within the bounds of measureText.
func parseBounded(file string, text []byte, max int64) (*document, *Finding) {
	refuse := func(line int, code, message string) (*document, *Finding) {
		return nil, &Finding{File: file, Line: line, Severity: Error, Code: code, Message: message}
	}
	size, found := measureText(text, max)
	if found != nil {
		found.File = file
		return nil, found
	}
	switch {
	case len(size.documents) == 0:
		return refuse(1, "empty-file", "the file holds no services (write a services section)")
	case len(size.documents) > 1:
		return refuse(size.documents[1].Line, "several-documents", "the file holds more than one YAML document, and only one can be a stack (split it into files)")
	}
	node := size.documents[0]
	if len(node.Content) == 0 || node.Content[0].Kind != yaml.MappingNode {
		return refuse(1, "not-a-mapping", "the file is not a mapping of names to values (a compose file begins with keys such as services)")
	}
	d := &document{file: file, size: size.extent, root: node.Content[0], tree: map[string]any{}}
	if bytes.IndexByte(text, '!') >= 0 {
		if found := d.readTags(); found != nil {
			return nil, found
		}
	}
	var raw any
	if err := node.Decode(&raw); err != nil {
		found := yamlFinding(file, err)
		if odd := oddNode(d.root, map[*yaml.Node]bool{}); odd != nil && found.Line == 0 {
			found.Line, found.Column = odd.Line, odd.Column
		}
		return nil, found
	}
	tree, where, err := stringKeys(raw, nil)
	if err != nil {
		line, column := d.at(where...)
		if line == 0 {
			line, column = d.root.Line, d.root.Column
		}
		return nil, &Finding{File: file, Line: line, Column: column, Severity: Error, Code: "key-not-text",
			Message: err.Error() + " (put it in quotes)"}
	}
	d.tree, _ = tree.(map[string]any)
	return d, nil
}

// oddNode is the first node that a parser's error without a line may be about: a key
// that is no scalar, a merge of what is no mapping, or a value with a tag.
func oddNode(node *yaml.Node, seen map[*yaml.Node]bool) *yaml.Node {
	if seen[node] {
		return nil
	}
	seen[node] = true
	if node.Style&yaml.TaggedStyle != 0 && node.Kind == yaml.ScalarNode {
		return node
	}
	for i, c := range node.Content {
		if node.Kind == yaml.MappingNode && i%2 == 0 {
			value := node.Content[i+1]
			if c.Kind != yaml.ScalarNode || c.Tag == "!!merge" && !mergeable(value) {
				return c
			}
		}
		if odd := oddNode(c, seen); odd != nil {
			return odd
		}
	}
	return nil
}

// mergeable says that a value can stand behind <<.
func mergeable(value *yaml.Node) bool {
	for value.Kind == yaml.AliasNode {
		value = value.Alias
	}
	if value.Kind == yaml.SequenceNode {
		return !slices.ContainsFunc(value.Content, func(n *yaml.Node) bool { return !mergeable(n) })
	}
	return value.Kind == yaml.MappingNode
}

// yamlFinding turns a parser's error, which begins with its line, into a finding.
func yamlFinding(file string, err error) *Finding {
	message := strings.TrimPrefix(err.Error(), "yaml: ")
	message = strings.TrimSpace(strings.TrimPrefix(message, "unmarshal errors:"))
	line := 0
	if rest, ok := strings.CutPrefix(message, "line "); ok {
		number, text, _ := strings.Cut(rest, ": ")
		if n, err := strconv.Atoi(number); err == nil {
			line, message = n, text
		}
	}
	message, _, _ = strings.Cut(message, "\n")
	return &Finding{File: file, Line: line, Severity: Error, Code: "yaml-syntax", Message: withoutValues(message) + " (correct the YAML)"}
}

// stringKeys makes every mapping one with text keys; a key that is not text is an
// error, told with the path to its mapping.
func stringKeys(value any, at []string) (any, []string, error) {
	switch v := value.(type) {
	case map[string]any:
		for _, key := range sortedKeys(v) {
			converted, where, err := stringKeys(v[key], append(at, key))
			if err != nil {
				return nil, where, err
			}
			v[key] = converted
		}
		return v, nil, nil
	case map[any]any: // a key is not text, or has a tag of its own
		texts := make(map[string]any, len(v))
		var wrong []string
		for key, element := range v {
			if name, ok := key.(string); ok {
				texts[name] = element
			} else {
				wrong = append(wrong, fmt.Sprint(key))
			}
		}
		if len(wrong) == 0 {
			return stringKeys(texts, at)
		}
		sort.Strings(wrong)
		return nil, slices.Clone(at), fmt.Errorf("the key %s in %s is not text", wrong[0], cmp.Or(strings.Join(at, "."), "the file"))
	case []any:
		if v == nil {
			return []any{}, nil, nil
		}
		for i, element := range v {
			converted, where, err := stringKeys(element, append(at, strconv.Itoa(i)))
			if err != nil {
				return nil, where, err
			}
			v[i] = converted
		}
		return v, nil, nil
	}
	return value, nil, nil
}

// at tells where the value at a path stands: the position of its key, or of its
// element in a list; where the path leads further than the text does, of the last
// one that is there.
func (d *document) at(keys ...string) (line, column int) {
	line, column, _ = d.find(keys)
	return line, column
}

// find is at, and how many of the keys are there.
func (d *document) find(keys []string) (line, column, depth int) {
	if d == nil || d.root == nil {
		return 0, 0, 0
	}
	node := d.root
	for i, key := range keys {
		position, value := d.child(node, key, 0)
		if value == nil {
			return line, column, i
		}
		line, column, node = position.Line, position.Column, value
	}
	return line, column, len(keys)
}

// list is the list at a path, nil where there is none.
func (d *document) list(keys []string) *yaml.Node {
	node := d.root
	for _, key := range keys {
		if _, node = d.child(node, key, 0); node == nil {
			return nil
		}
	}
	for node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	if node.Kind != yaml.SequenceNode {
		return nil
	}
	return node
}

// child finds a key's value in a mapping, through aliases and merge keys, or an
// element in a list by its index; deep guards against merges that go in circles.
func (d *document) child(node *yaml.Node, key string, deep int) (position, value *yaml.Node) {
	for node.Kind == yaml.AliasNode && node.Alias != nil {
		node = node.Alias
	}
	if deep > 20 {
		return nil, nil
	}
	switch node.Kind {
	case yaml.SequenceNode:
		if i, err := strconv.Atoi(key); err == nil && i >= 0 && i < len(node.Content) {
			return node.Content[i], node.Content[i]
		}
	case yaml.MappingNode:
		if i := d.index(node, key); i >= 0 {
			return node.Content[i], node.Content[i+1]
		}
		for i := 0; i+1 < len(node.Content); i += 2 {
			if node.Content[i].Tag != "!!merge" {
				continue
			}
			merged := []*yaml.Node{node.Content[i+1]}
			if merged[0].Kind == yaml.SequenceNode {
				merged = merged[0].Content
			}
			for _, m := range merged {
				if position, value := d.child(m, key, deep+1); value != nil {
					return position, value
				}
			}
		}
	}
	return nil, nil
}

// manyKeys is from how many keys a mapping has an index of them: findings about each
// would otherwise take time that grows with their square.
const manyKeys = 32

// index is where in a mapping's content a key is, -1 where it is not.
func (d *document) index(node *yaml.Node, key string) int {
	if len(node.Content) < 2*manyKeys {
		for i := 0; i+1 < len(node.Content); i += 2 {
			if node.Content[i].Value == key {
				return i
			}
		}
		return -1
	}
	keys, ok := d.keys[node]
	if !ok {
		keys = make(map[string]int, len(node.Content)/2)
		for i := len(node.Content)/2*2 - 2; i >= 0; i -= 2 { // the first of equal ones counts
			keys[node.Content[i].Value] = i
		}
		if d.keys == nil {
			d.keys = map[*yaml.Node]map[string]int{}
		}
		d.keys[node] = keys
	}
	if i, ok := keys[key]; ok {
		return i
	}
	return -1
}

// A report collects findings about a stack: about one document, or about a tree to
// which other documents have given objects.
type report struct {
	doc     *document
	file    string
	origins origins
	// length tells how long the list at a path of the tree is in the end; nil as long
	// as that is not known.
	length   func(at []string) int
	ports    int // that the services of all documents publish
	findings []Finding
	guesses  int // how many words were compared with misspelt ones
	concealment
}

// origins tell which documents an object of a tree is made of, by its section and
// key; one that is missing is of the report's document alone. Where several give
// the same value the first one's counts.
type origins map[[2]string][]origin

// An origin is an object in a document, by its key there; no key: the whole section.
type origin struct {
	doc *document
	key string
}

// about has all findings that do adds be about another document.
func (r *report) about(doc *document, do func()) {
	outer, file, from := r.doc, r.file, r.origins
	r.doc, r.file, r.origins = doc, doc.file, nil
	do()
	r.doc, r.file, r.origins = outer, file, from
}

// of tells the documents that the value at a path may stand in, with the path there.
func (r *report) of(at []string) (docs []*document, paths [][]string) {
	key := [2]string{}
	copy(key[:], at)
	for _, o := range r.origins[key] {
		path := slices.Clone(at)
		if len(path) > 1 && o.key != "" {
			path[1] = o.key
		}
		docs, paths = append(docs, o.doc), append(paths, path)
	}
	if len(docs) == 0 {
		return []*document{r.doc}, [][]string{at}
	}
	return docs, paths
}

// writes says whether one of the documents that an object is made of has a key in it.
func (r *report) writes(at []string, key string) bool {
	docs, paths := r.of(at)
	for i, doc := range docs {
		if mapping(doc.tree, paths[i]...)[key] != nil {
			return true
		}
	}
	return false
}

// where tells the place of the value at a path: in the document that has the most
// of the path.
func (r *report) where(at []string) (file string, line, column int) {
	docs, paths := r.of(at)
	for n := 2; len(docs) > 1 && n < len(paths[0]); n++ {
		docs, paths = r.element(docs, paths, at, n)
	}
	file = r.file
	best := -1
	for i, doc := range docs {
		l, c, depth := doc.find(paths[i])
		if depth > best {
			best, line, column = depth, l, c
			if doc != nil {
				file = doc.file
			}
		}
	}
	return file, line, column
}

// element finds the document that an element comes from, of a list which several
// documents gave elements to, one behind the other, the last document first. Where
// some of the elements were dropped on the way, nobody can tell: the list is meant
// as a whole then.
func (r *report) element(docs []*document, paths [][]string, at []string, n int) ([]*document, [][]string) {
	lengths, total, lists := make([]int, len(docs)), 0, 0
	for i, doc := range docs {
		if list := doc.list(paths[i][:min(n, len(paths[i]))]); list != nil {
			lengths[i] = len(list.Content)
			total += lengths[i]
			lists++
		}
	}
	if lists < 2 {
		return docs, paths
	}
	if index, err := strconv.Atoi(at[n]); err == nil && r.length != nil && r.length(at[:n]) == total {
		for i, doc := range slices.Backward(docs) {
			if index < lengths[i] {
				path := slices.Clone(paths[i])
				path[n] = strconv.Itoa(index)
				return []*document{doc}, [][]string{path}
			}
			index -= lengths[i]
		}
	}
	whole := make([][]string, len(paths))
	for i, path := range paths {
		whole[i] = path[:min(n, len(path))]
	}
	return docs, whole
}

// add records a finding about the value at a path of keys, "services" and the
// service's key first where it is about a service. The message is a sentence with
// the remedy in brackets at its end.
func (r *report) add(severity Severity, code string, at []string, format string, args ...any) {
	f := Finding{Severity: severity, Code: code, Message: r.conceal(at, fmt.Sprintf(format, args...))}
	f.File, f.Line, f.Column = r.where(at)
	if len(at) > 1 && at[0] == "services" {
		f.Service = hideBases(at[1])
	}
	r.findings = append(r.findings, f)
}

func (r *report) fail(code string, at []string, format string, args ...any) {
	r.add(Error, code, at, format, args...)
}

func (r *report) warn(code string, at []string, format string, args ...any) {
	r.add(Warning, code, at, format, args...)
}

func (r *report) info(code string, at []string, format string, args ...any) {
	r.add(Info, code, at, format, args...)
}

// unset records that a variable is not set, what comes of it, and what else there is
// to do about it. What is no variable's name is not told: KEY: VALUE in a list of KEY=VALUE.
func (r *report) unset(name string, at []string, comes, remedy string) {
	if strings.ContainsAny(name, ": \t\"'") {
		r.warn("variable-unset", at, "what is no name of a variable %s (write KEY=VALUE)", comes)
		return
	}
	r.warn("variable-unset", at, "the variable %s is not set and %s (set it in the stack's .env, allow it from the environment with --env %s%s)",
		name, comes, name, remedy)
	r.findings[len(r.findings)-1].variable = name
}

// oncePerVariable tells of each variable that is not set once a file, in the first
// place, and of how many others there are.
func oncePerVariable(findings []Finding) []Finding {
	type id struct{ file, variable string }
	first, more := map[id]int{}, map[id]int{}
	out := findings[:0]
	for _, f := range findings {
		if f.variable == "" {
			out = append(out, f)
			continue
		}
		id := id{f.File, f.variable}
		f.variable = ""
		if _, told := first[id]; told {
			more[id]++
			continue
		}
		first[id] = len(out)
		out = append(out, f)
	}
	for id, n := range more {
		message, places := out[first[id]].Message, "places"
		if n == 1 {
			places = "place"
		}
		remedy := strings.LastIndex(message, " (")
		out[first[id]].Message = fmt.Sprintf("%s and %d more %s%s", message[:remedy], n, places, message[remedy:])
	}
	return out
}

// errors counts the findings that are errors.
func (r *report) errors() int {
	n := 0
	for _, f := range r.findings {
		if f.Severity == Error {
			n++
		}
	}
	return n
}

// failed says that the stack cannot be applied.
func (r *report) failed() bool { return hasError(r.findings) }

func hasError(findings []Finding) bool {
	return slices.ContainsFunc(findings, func(f Finding) bool { return f.Severity == Error })
}

// sorted gives the findings in the order of the text, each once.
func (r *report) sorted() []Finding {
	out := slices.Clone(r.findings)
	slices.SortStableFunc(out, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column),
			cmp.Compare(a.Code, b.Code), cmp.Compare(a.Message, b.Message))
	})
	return slices.Compact(out)
}

// under is a path one or more keys below another.
func under(at []string, keys ...string) []string {
	return append(slices.Clone(at), keys...)
}

// sortedKeys gives a map's keys in order.
func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	return keys
}

// mapping is the mapping under a key, nil where there is none.
func mapping(m map[string]any, keys ...string) map[string]any {
	for _, key := range keys {
		m, _ = m[key].(map[string]any)
	}
	return m
}

// clone copies a tree, so that a library may write into it.
func clone(value any) any {
	switch v := value.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, element := range v {
			out[key] = clone(element)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, element := range v {
			out[i] = clone(element)
		}
		return out
	}
	return value
}

// nearest is the candidate that a misspelt word most likely meant, "" where none
// is near.
func nearest(word string, candidates []string) string {
	best, distance := "", 1+len(word)/3
	for _, candidate := range candidates {
		if max(len(word)-len(candidate), len(candidate)-len(word)) > distance {
			continue
		}
		if d := editDistance(word, candidate); d <= distance && (best == "" || d < distance) {
			best, distance = candidate, d
		}
	}
	return best
}

func editDistance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return max(len(a), len(b))
	}
	var previous, current [64 + 1]int
	for j := range len(b) + 1 {
		previous[j] = j
	}
	for i := range len(a) {
		current[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			current[j+1] = min(current[j]+1, previous[j+1]+1, previous[j]+cost)
		}
		previous = current
	}
	return previous[len(b)]
}

// display is a path below the specs directory as findings name it.
func display(dir, name string) string { return path.Join(dir, name) }
