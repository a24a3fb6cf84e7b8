package spec

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// What a compose file may be at most. The largest real files are a few hundred
// kilobytes, a dozen levels deep and some ten thousand nodes.
const (
	maxTextSize  = 1 << 20
	maxTextDepth = 100
	maxTextNodes = 100_000
	// maxTextWeight is over the sum of every value's distance from the top: a
	// loader's time follows that, about 2 µs each.
	maxTextWeight = 1_000_000
	// maxTextBytes is over all keys and values with aliases expanded: a long value
	// that is named often is copied into every object that has it.
	maxTextBytes = 8 << 20
	// maxTextPairs is over the squares of every mapping's number of keys: to find equal
	// ones the parser compares each with each. One mapping may have 15,000 of them.
	maxTextPairs = 15_000 * 15_000
	// maxTextMarks is over the lines, commas and comments of a text, which is what
	// the parser's memory follows, about 300 bytes each.
	maxTextMarks = 200_000
)

// checkText says why text is not fit to be read as a compose file; nil where it
// is. The finding has no File yet.
//
// A compose loader takes time that grows faster than the text with its nesting,
// and cannot be stopped once it began: so what it gets is bounded here. The
// parser that measures is safe at any text: it works in linear time and refuses
// more than 10,000 levels by itself (TestCheckTextHostile holds it to that).
// Several documents in one text are measured together.
func checkText(text []byte, max int64) *Finding {
	_, found := measureText(text, max)
	return found
}

// A measured text is one that is fit to be read.
type measured struct {
	extent
	// documents are those of the text; more than one are measured together.
	documents []*yaml.Node
}

// measureText is checkText for who wants the parsed text too.
func measureText(text []byte, max int64) (measured, *Finding) {
	if found := checkBytes(text, max); found != nil {
		return measured{}, found
	}
	return measureYAML(text)
}

// checkBytes is what can be told of a text without a parser.
func checkBytes(text []byte, max int64) *Finding {
	if max <= 0 {
		max = maxTextSize
	}
	if int64(len(text)) > max {
		return refuse(0, "file-too-large", "the file has more than the %d bytes that are read (move long contents into config files)", max)
	}
	if i := bytes.IndexByte(text, 0); i >= 0 {
		return refuse(lineOf(text, i), "not-text", "the file holds a NUL byte (write it as UTF-8 text)")
	}
	if i := invalidUTF8(text); i >= 0 {
		return refuse(lineOf(text, i), "not-text", "the file is not valid UTF-8 (save it as UTF-8)")
	}
	if marks := bytes.Count(text, []byte("\n")) + bytes.Count(text, []byte(",")) + bytes.Count(text, []byte("#")); marks > maxTextMarks {
		return refuse(0, "yaml-too-large", "the file has more than %d lines, commas and comments together (move long contents into config files)", maxTextMarks)
	}
	return nil
}

// measureYAML bounds the depth and the number of nodes of all documents in text.
func measureYAML(text []byte) (out measured, found *Finding) {
	defer func() {
		if p := recover(); p != nil {
			found = refuse(0, "yaml-syntax", "the YAML parser gave up: %s (check the file's syntax)", panicked(p))
		}
	}()
	m := measure{anchors: map[*yaml.Node]extent{}}
	for d := yaml.NewDecoder(bytes.NewReader(text)); ; {
		doc := &yaml.Node{}
		err := d.Decode(doc)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return out, syntaxFinding(err)
		}
		e := m.extent(doc)
		if e.endless > 0 {
			return out, refuse(e.endless, "yaml-endless", "an alias stands inside of what it names (write the value out)")
		}
		out.add(e)
		out.documents = append(out.documents, doc)
		if found := out.excess("the file has"); found != nil {
			return out, found
		}
	}
}

// excess says what of an extent is more than may be; nil where nothing is. The
// words are for what has it.
func (e extent) excess(what string) *Finding {
	switch {
	case e.depth > maxTextDepth:
		return refuse(e.deepest, "yaml-too-deep", "values are nested more than %d levels deep (flatten them)", maxTextDepth)
	case e.nodes > maxTextNodes:
		return refuse(0, "yaml-too-large", "%s more than %d values once its aliases are expanded (split it into several stacks)", what, maxTextNodes)
	case e.weight > maxTextWeight:
		return refuse(0, "yaml-too-large", "%s too many deeply nested values (flatten them, or split the file into several stacks)", what)
	case e.pairs > maxTextPairs:
		return refuse(0, "yaml-too-large", "%s too many keys in one mapping, or in a few (split it into several stacks)", what)
	case e.bytes > maxTextBytes:
		return refuse(0, "yaml-too-large", "%s more than %d MiB of text once its aliases are expanded (name long values less often)", what, maxTextBytes>>20)
	}
	return nil
}

// An extent is the size of a value with its aliases expanded.
type extent struct {
	nodes   int64 // saturates just above maxTextNodes
	weight  int64 // the sum of the values' levels; saturates just above maxTextWeight
	bytes   int64 // the length of its keys and values; saturates just above maxTextBytes
	pairs   int64 // of keys in one mapping; saturates just above maxTextPairs
	depth   int   // mappings and sequences around its innermost value
	deepest int   // the line of the innermost mapping or sequence
	endless int   // the line of an alias that names what is around it, 0 for none
}

// measure finds extents; anchors keeps those of values that aliases name, so that
// every value is visited once however often it is named.
type measure struct {
	anchors map[*yaml.Node]extent
}

// inProgress marks an anchored value whose extent is being found.
var inProgress = extent{endless: -1}

func (m *measure) extent(n *yaml.Node) extent {
	if n.Kind == yaml.AliasNode {
		return m.alias(n)
	}
	if n.Anchor != "" {
		m.anchors[n] = inProgress
	}
	e := extent{nodes: 1, bytes: int64(len(n.Value))}
	for _, c := range n.Content {
		e.add(m.extent(c))
	}
	if n.Kind == yaml.MappingNode || n.Kind == yaml.SequenceNode {
		e.depth++
		e.weight = min(e.weight+e.nodes, maxTextWeight+1)
		if e.depth == 1 {
			e.deepest = n.Line
		}
	}
	if n.Kind == yaml.MappingNode {
		keys := int64(len(n.Content) / 2)
		e.pairs = min(e.pairs+keys*keys, maxTextPairs+1)
	}
	if n.Anchor != "" {
		m.anchors[n] = e
	}
	return e
}

// alias is the extent of the value that n names.
func (m *measure) alias(n *yaml.Node) extent {
	e, ok := m.anchors[n.Alias]
	if !ok || e == inProgress {
		return extent{nodes: 1, endless: max(n.Line, 1)}
	}
	return e
}

// add takes a child into its parent.
func (e *extent) add(child extent) {
	e.nodes = min(e.nodes+child.nodes, maxTextNodes+1)
	e.weight = min(e.weight+child.weight, maxTextWeight+1)
	e.bytes = min(e.bytes+child.bytes, maxTextBytes+1)
	e.pairs = min(e.pairs+child.pairs, maxTextPairs+1)
	if child.depth > e.depth {
		e.depth, e.deepest = child.depth, child.deepest
	}
	if e.endless == 0 {
		e.endless = child.endless
	}
}

var (
	yamlLine = regexp.MustCompile(`^line (\d+): `)
	// fromZero are the errors that the parser counts lines from 0 in: those of its
	// grammar, unlike those of its scanner.
	fromZero = regexp.MustCompile(`^(did not find expected (key|'|node|<)|found (duplicate %|undefined tag|incompatible))`)
)

// syntaxFinding tells a parser's error with its line apart.
func syntaxFinding(err error) *Finding {
	text, line := strings.TrimPrefix(err.Error(), "yaml: "), 0
	if m := yamlLine.FindStringSubmatch(text); m != nil {
		line, _ = strconv.Atoi(m[1])
		text = text[len(m[0]):]
	}
	if fromZero.MatchString(text) {
		line++
	}
	if strings.Contains(text, "exceeded max depth") {
		return refuse(line, "yaml-too-deep", "values are nested more than %d levels deep (flatten them)", maxTextDepth)
	}
	return refuse(line, "yaml-syntax", "this is not YAML: %s (check quotes and indentation there and in the line above)", withoutValues(text))
}

// withoutValues takes out of a parser's error what it quotes of the text. That may
// be a secret: a password without quotes that begins with * is an alias to YAML.
func withoutValues(text string) string {
	switch {
	case strings.HasPrefix(text, "unknown anchor "):
		return "an alias, which is a value that begins with *, names no anchor: put the value in quotes if it is text"
	case strings.HasPrefix(text, "cannot decode "):
		return "a value is not what its tag says"
	case strings.HasPrefix(text, "invalid map key: "):
		return "a mapping or list is the key of a mapping: put {{ … }} in quotes if it is text"
	}
	return text
}

// refuse makes the finding of a text that is not read.
func refuse(line int, code, format string, args ...any) *Finding {
	return &Finding{Line: line, Severity: Error, Code: code, Message: fmt.Sprintf(format, args...)}
}

// invalidUTF8 is the offset of the first byte that is not UTF-8, -1 for none.
func invalidUTF8(text []byte) int {
	for i := 0; i < len(text); {
		if text[i] < utf8.RuneSelf {
			i++
			continue
		}
		r, n := utf8.DecodeRune(text[i:])
		if r == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return -1
}

// lineOf is the line that the byte at offset stands in, from 1.
func lineOf(text []byte, offset int) int {
	return 1 + bytes.Count(text[:offset], []byte("\n"))
}
