package spec

import (
	"fmt"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// The two tags of compose files. Everything else that an author tags is refused: there
// is nobody here to whom it would mean something.

// tagged is a value with one of the tags by which a compose file takes back what
// the files before it said: !reset removes it, !override replaces it where it
// would be merged.
type tagged struct {
	at    []string
	reset bool
}

// readTags finds the tags of the compose specification in a document, and takes
// what is tagged !reset out of it. Other tags of an author's own are refused: YAML
// leaves their meaning to programs, and this one knows none.
func (d *document) readTags() *Finding {
	t := tagReader{document: d, seen: map[*yaml.Node]bool{}}
	t.walk(d.root, nil)
	return t.found
}

type tagReader struct {
	*document
	seen  map[*yaml.Node]bool
	found *Finding
}

func (t *tagReader) walk(node *yaml.Node, at []string) {
	if t.seen[node] || t.found != nil {
		return
	}
	t.seen[node] = true
	if tag := node.Tag; strings.HasPrefix(tag, "!") && !strings.HasPrefix(tag, "!!") && tag != "!" && tag != "!override" {
		t.refuse(node, "the tag %s means nothing in a compose file (take it out)", tag)
		return
	}
	var kept []*yaml.Node
	switch node.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(node.Content); i += 2 {
			key, value := node.Content[i], node.Content[i+1]
			t.walk(key, at)
			if !t.take(value, under(at, key.Value), key.Tag == "!!merge") {
				kept = append(kept, key, value)
			}
		}
	case yaml.SequenceNode:
		for i, element := range node.Content {
			if !t.take(element, under(at, strconv.Itoa(i)), true) {
				kept = append(kept, element)
			}
		}
	default:
		return
	}
	node.Content = kept
}

// take reads the tag of a value, and says whether it goes. One in a list, or that
// is merged from elsewhere, has no place of its own to be reset.
func (t *tagReader) take(value *yaml.Node, at []string, nowhere bool) (gone bool) {
	named := value
	if value.Kind == yaml.AliasNode {
		named = value.Alias
	}
	if named.Tag != "!reset" && named.Tag != "!override" {
		t.walk(value, at)
		return false
	}
	if nowhere || value.Kind == yaml.AliasNode || value.Anchor != "" {
		t.refuse(value, "the tag %s can stand at the value of a key alone, which no alias names (write it at the key)", named.Tag)
		return false
	}
	t.tags = append(t.tags, tagged{at: at, reset: named.Tag == "!reset"})
	if named.Tag == "!reset" {
		return true
	}
	value.Tag = "" // what it is without the tag, its kind and text say
	t.walk(value, at)
	return false
}

func (t *tagReader) refuse(node *yaml.Node, format string, args ...any) {
	t.found = &Finding{File: t.file, Line: node.Line, Column: node.Column, Severity: Error, Code: "yaml-tag", Message: fmt.Sprintf(format, args...)}
}

// takeBack removes from a tree what this document's tags say: everything that it
// resets, and what it replaces instead of merging.
func (d *document) takeBack(tree map[string]any) {
	for _, t := range d.tags {
		last := len(t.at) - 1
		delete(mapping(tree, t.at[:last]...), t.at[last])
	}
}
