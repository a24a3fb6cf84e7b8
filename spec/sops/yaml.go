package sops

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"gopkg.in/yaml.v3"
)

// YAML is read and written as sops does it, comments and their places included: what
// is written is, byte for byte, what `sops decrypt` prints; but for values of several
// lines that begin with blanks, which are quoted.

var (
	errTooMuch = errors.New("has more values, or deeper ones, than are read of such a file")
	errNotYAML = errors.New("is not YAML, or not as sops writes it")
)

// A yamlReader turns nodes into trees, with aliases expanded. What it counts are nodes,
// and bytes of keys, values and comments: without aliases these are no more than the
// file has, and sops writes none.
type yamlReader struct{ nodes, bytes int }

// readYAML reads all documents of a text.
func readYAML(data []byte) (tree []branch, err error) {
	defer func() {
		if recover() != nil { // the parser's, of a text that nobody wrote by mistake
			tree, err = nil, errNotYAML
		}
	}()
	if tooManyMarks(data) {
		return nil, errTooMuch
	}
	r := &yamlReader{}
	for d := yaml.NewDecoder(bytes.NewReader(data)); ; {
		var document yaml.Node
		switch err := d.Decode(&document); {
		case errors.Is(err, io.EOF):
			return tree, nil
		case err != nil:
			return nil, errNotYAML
		}
		b, err := r.document(&document)
		if err != nil {
			return nil, err
		}
		if r.isTooMuch() {
			return nil, errTooMuch
		}
		tree = append(tree, b)
	}
}

// isTooMuch says that what was counted is beyond bounds.
func (r *yamlReader) isTooMuch() bool { return r.nodes > maxNodes || r.bytes > maxSize }

// tooManyMarks says that a parser would take more memory than its text is worth.
func tooManyMarks(data []byte) bool {
	n := 0
	for _, c := range data {
		switch c {
		case '\n', ',', '#':
			n++
		}
	}
	return n > maxMarks
}

// count counts a value.
func (r *yamlReader) count(depth int) error {
	if r.nodes++; r.isTooMuch() || depth > maxDepth {
		return errTooMuch
	}
	return nil
}

// lines are those of a comment, each without its #.
func (r *yamlReader) lines(text string, inline bool) []comment {
	var out []comment
	for line := range strings.SplitSeq(text, "\n") {
		if line != "" {
			r.nodes++
			r.bytes += len(line)
			out = append(out, comment{line[1:], inline})
		}
	}
	return out
}

// above adds comments to a mapping.
func (r *yamlReader) above(b branch, text string, inline bool) branch {
	for _, c := range r.lines(text, inline) {
		b = append(b, item{key: c})
	}
	return b
}

// between adds comments to a list.
func (r *yamlReader) between(l list, text string, inline bool) list {
	for _, c := range r.lines(text, inline) {
		l = append(l, c)
	}
	return l
}

// document reads what is at the top of one.
func (r *yamlReader) document(n *yaml.Node) (branch, error) {
	b := r.above(r.above(branch{}, n.HeadComment, false), n.LineComment, false)
	for _, top := range n.Content {
		var err error
		if b, err = r.top(top, b, 1); err != nil {
			return nil, err
		}
	}
	return r.above(b, n.FootComment, false), nil
}

// top is a mapping, or nothing: an empty document that is marked as one.
func (r *yamlReader) top(n *yaml.Node, b branch, depth int) (branch, error) {
	switch {
	case n.Kind == yaml.AliasNode && n.Alias != nil && depth < maxDepth:
		return r.top(n.Alias, b, depth+1)
	case n.Kind == yaml.MappingNode:
		return r.mapping(n, b, false, depth)
	case n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null":
		return r.above(r.above(b, n.HeadComment, false), n.LineComment, false), nil
	}
	return nil, errNotYAML
}

// mapping adds a mapping's items to b. told says that the comments around it were taken.
func (r *yamlReader) mapping(n *yaml.Node, b branch, told bool, depth int) (branch, error) {
	if err := r.count(depth); err != nil {
		return nil, err
	}
	if !told {
		b = r.above(r.above(b, n.HeadComment, false), n.LineComment, false)
	}
	seen := make(map[string]bool, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		b = r.above(r.above(b, key.HeadComment, false), key.LineComment, false)
		own := value.Kind == yaml.ScalarNode || value.Kind == yaml.AliasNode
		if own {
			b = r.above(r.above(b, value.HeadComment, false), value.LineComment, true)
		}
		var name any
		if err := key.Decode(&name); err != nil {
			return nil, errNotYAML
		}
		text, ok := name.(string)
		if !ok || seen[text] {
			return nil, fmt.Errorf("has a key that is not text, or one twice in a mapping, which sops does not write")
		}
		seen[text] = true
		r.bytes += len(text)
		v, err := r.value(value, own, depth+1)
		if err != nil {
			return nil, err
		}
		b = append(b, item{text, v})
		if own {
			b = r.above(b, value.FootComment, false)
		}
		b = r.above(b, key.FootComment, false)
	}
	if !told {
		b = r.above(b, n.FootComment, false)
	}
	return b, nil
}

// sequence reads a list.
func (r *yamlReader) sequence(n *yaml.Node, told bool, depth int) (list, error) {
	if err := r.count(depth); err != nil {
		return nil, err
	}
	var l list
	if !told {
		l = r.between(r.between(l, n.HeadComment, false), n.LineComment, false)
	}
	for _, element := range n.Content {
		l = r.between(r.between(l, element.HeadComment, false), element.LineComment, true)
		v, err := r.value(element, true, depth+1)
		if err != nil {
			return nil, err
		}
		l = r.between(append(l, v), element.FootComment, false)
	}
	if !told {
		l = r.between(l, n.FootComment, false)
	}
	return l, nil
}

// value reads any value below the top.
func (r *yamlReader) value(n *yaml.Node, told bool, depth int) (any, error) {
	if err := r.count(depth); err != nil {
		return nil, err
	}
	switch n.Kind {
	case yaml.MappingNode:
		return r.mapping(n, branch{}, told, depth)
	case yaml.SequenceNode:
		return r.sequence(n, told, depth)
	case yaml.AliasNode:
		return r.value(n.Alias, false, depth+1)
	case yaml.ScalarNode:
		r.bytes += len(n.Value)
		var v any
		if err := n.Decode(&v); err != nil || v != nil && !leaf(v) {
			return nil, errNotYAML
		}
		return v, nil
	}
	return nil, errNotYAML
}

// writeYAML writes documents.
func writeYAML(tree []branch) (text []byte, err error) {
	defer func() {
		if recover() != nil { // what the encoder cannot write
			text, err = nil, damaged("its values cannot be written as YAML")
		}
	}()
	var out bytes.Buffer
	e := yaml.NewEncoder(&out)
	e.SetIndent(4)
	for _, b := range tree {
		top := &yaml.Node{Kind: yaml.MappingNode}
		putMapping(top, b)
		if err := e.Encode(&yaml.Node{Kind: yaml.DocumentNode, Content: []*yaml.Node{top}}); err != nil {
			return nil, damaged("its values cannot be written as YAML")
		}
	}
	if err := e.Close(); err != nil {
		return nil, damaged("its values cannot be written as YAML")
	}
	return out.Bytes(), nil
}

// pending are comments that wait for the value they belong to.
type pending struct{ head, inline []string }

func (p *pending) add(c comment) {
	if c.inline {
		p.inline = append(p.inline, c.text)
	} else {
		p.head = append(p.head, c.text)
	}
}

// joined is lines as one comment, put before more of them.
func joined(lines []string, more string) string {
	text := "#" + strings.Join(lines, "\n#")
	if more != "" {
		text += "\n" + more
	}
	return text
}

// giveHead puts the comments above a node.
func (p *pending) giveHead(n *yaml.Node) {
	if len(p.head) > 0 {
		n.HeadComment = joined(p.head, n.HeadComment)
		p.head = nil
	}
}

// giveLine puts the comments behind a node.
func (p *pending) giveLine(n *yaml.Node) {
	if len(p.inline) == 0 {
		return
	}
	if text := joined(p.inline, ""); n.LineComment != "" {
		n.LineComment += "\n" + text
	} else {
		n.LineComment = text
	}
	p.inline = nil
}

// rest puts what nothing came behind below the last node, or above one that is empty.
func (p *pending) rest(n, last *yaml.Node) {
	lines := append(p.head, p.inline...)
	switch {
	case len(lines) == 0:
	case last == nil:
		n.HeadComment = joined(lines, n.HeadComment)
	case last.FootComment != "":
		last.FootComment += "\n" + joined(lines, "")
	default:
		last.FootComment = joined(lines, "")
	}
}

// putMapping fills a mapping.
func putMapping(n *yaml.Node, b branch) {
	var p pending
	var last *yaml.Node
	for _, i := range b {
		if c, ok := i.key.(comment); ok {
			p.add(c)
			continue
		}
		if last == nil {
			p.giveHead(n)
		}
		key := &yaml.Node{}
		_ = key.Encode(i.key) // text
		p.giveHead(key)
		value := node(i.value)
		p.giveLine(value)
		n.Content = append(n.Content, key, value)
		last = key
	}
	p.rest(n, last)
}

// putSequence fills a list.
func putSequence(n *yaml.Node, l list) {
	var p pending
	var last *yaml.Node
	for _, element := range l {
		if c, ok := element.(comment); ok {
			p.add(c)
			continue
		}
		if last == nil {
			p.giveHead(n)
		}
		value := node(element)
		p.giveHead(value)
		p.giveLine(value)
		n.Content = append(n.Content, value)
		last = value
	}
	p.rest(n, last)
}

// node is a value as one.
func node(v any) *yaml.Node {
	n := &yaml.Node{}
	switch v := v.(type) {
	case branch:
		n.Kind = yaml.MappingNode
		putMapping(n, v)
	case list:
		n.Kind = yaml.SequenceNode
		putSequence(n, v)
	default:
		_ = n.Encode(v) // a leaf or nil
		if text, ok := v.(string); ok && strings.Contains(text, "\n") && strings.ContainsAny(text[:1], "\n\t ") {
			// As a block this encoder loses a new line, or writes what is no YAML.
			n.Kind, n.Tag, n.Value, n.Style = yaml.ScalarNode, "!!str", text, yaml.DoubleQuotedStyle
		}
	}
	return n
}
