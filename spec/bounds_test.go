package spec

import (
	"bytes"
	"errors"
	"io"

	"fmt"
	"gopkg.in/yaml.v3"
	"strings"
	"testing"
	"time"
)

// nested is a text n flow sequences deep.
func nested(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }

// bomb is the classic: each of n lists holds the one before nine times.
func bomb(n int) string {
	var b strings.Builder
	b.WriteString("l0: &l0 [x,x,x,x,x,x,x,x,x]\n")
	for i := 1; i < n; i++ {
		fmt.Fprintf(&b, "l%d: &l%d [%s*l%d]\n", i, i, strings.Repeat(fmt.Sprintf("*l%d,", i-1), 8), i-1)
	}
	return b.String()
}

// staircase is a text of n mappings, each indented below the one before.
func staircase(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()
}

func TestCheckText(t *testing.T) {
	cases := map[string]struct {
		text string
		max  int64
		code string // empty: fine
		line int
	}{
		"empty":                    {text: ""},
		"stack":                    {text: "services:\n  web:\n    image: nginx\n"},
		"byte order mark":          {text: "\ufeffservices: {}\n"},
		"several documents":        {text: "a: 1\n---\nb: 2\n"},
		"as large as may be":       {text: "a: bcdefg\n", max: 10},
		"too large":                {text: "a: bcdefgh\n", max: 10, code: "file-too-large"},
		"too large by default":     {text: "a: " + strings.Repeat("x", 1<<20), code: "file-too-large"},
		"larger where allowed":     {text: "a: " + strings.Repeat("x", 1<<20), max: 2 << 20},
		"NUL":                      {text: "a: 1\nb: \x00\n", code: "not-text", line: 2},
		"latin-1":                  {text: "a: 1\n\nb: caf\xe9\n", code: "not-text", line: 3},
		"UTF-8 cut short":          {text: "a: caf\xc3", code: "not-text", line: 1},
		"replacement character":    {text: "a: \ufffd\n"},
		"UTF-16":                   {text: "\xff\xfea\x00", code: "not-text", line: 1},
		"unbalanced":               {text: "a: 1\nb: [1, 2\nc: 3\n", code: "yaml-syntax", line: 2},
		"tab":                      {text: "a:\n\tb: 1\n", code: "yaml-syntax", line: 2},
		"unknown anchor":           {text: "a: *b\n", code: "yaml-syntax"},
		"flow, as deep as may be":  {text: "a: " + nested(99)},
		"flow, too deep":           {text: "x: 1\na: " + nested(100), code: "yaml-too-deep", line: 2},
		"flow, far too deep":       {text: "x-a: " + nested(9000), code: "yaml-too-deep", line: 1},
		"flow, never closed":       {text: strings.Repeat("[", 9000), code: "yaml-syntax"},
		"flow mappings, too deep":  {text: strings.Repeat("{a: ", 101) + strings.Repeat("}", 101), code: "yaml-too-deep", line: 1},
		"block, as deep as may be": {text: staircase(100)},
		"block, too deep":          {text: staircase(101), code: "yaml-too-deep", line: 101},
		"dashes, too deep":         {text: strings.Repeat("- ", 101) + "a", code: "yaml-too-deep", line: 1},
		"too deep in document 2":   {text: "a: 1\n---\nb: " + nested(200), code: "yaml-too-deep", line: 3},
		"too deep through aliases": {
			text: "a: &a " + nested(60) + "\nb: &b " + strings.Repeat("[", 60) + "*a" + strings.Repeat("]", 60) + "\n", code: "yaml-too-deep", line: 1},
		"alias bomb":         {text: bomb(9), code: "yaml-too-large"},
		"small alias bomb":   {text: bomb(4)},
		"alias in itself":    {text: "a: 1\nb: &b\n  c: *b\n", code: "yaml-endless", line: 3},
		"merged alias":       {text: "x-a: &a {b: 1}\nc:\n  <<: *a\nd:\n  <<: [*a, *a]\n"},
		"many values":        {text: strings.Repeat("- 1\n", 99_000)},
		"too many values":    {text: strings.Repeat("- 1\n", 100_001), code: "yaml-too-large"},
		"too many in all":    {text: strings.Repeat(strings.Repeat("- 1\n", 60_000)+"---\n", 2), code: "yaml-too-large"},
		"many deep values":   {text: strings.Repeat("- "+nested(99)+"\n", 500), code: "yaml-too-large"},
		"brackets in a text": {text: "configs:\n  a:\n    content: |\n      " + nested(5000) + "\n      {{{{ '\" # [\n"},
		"brackets in quotes": {text: "a: \"" + nested(5000) + "\"\nb: '" + nested(5000) + "'\nc: d" + nested(5000) + "\n"},
		"brackets behind #":  {text: "a: 1 # " + nested(5000) + "\n"},
		"JSON in a text":     {text: "a: >-\n  " + strings.Repeat(`{"a": [`, 300) + "\nb: 1\n"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			f := checkText([]byte(c.text), c.max)
			if f == nil {
				if c.code != "" {
					t.Fatalf("fine, want %s", c.code)
				}
				return
			}
			if f.Code != c.code || c.line != 0 && f.Line != c.line {
				t.Errorf("%v, want %q in line %d", f, c.code, c.line)
			}
			if f.Severity != Error || !strings.HasSuffix(f.Message, ")") {
				t.Errorf("%v does not say what to do", f)
			}
		})
	}
}

// Any text is answered in time that grows with its length alone. The bound is far
// above what is measured (0.2 s for the worst, under -race a few times that) and
// far below what a parser without bounds takes (minutes).
func TestCheckTextHostile(t *testing.T) {
	const size = 1 << 20
	fill := func(unit string) string { return strings.Repeat(unit, size/len(unit)) }
	numbered := func(format string) string {
		var b strings.Builder
		for i := 0; b.Len() < size-64; i++ {
			fmt.Fprintf(&b, format, i, i)
		}
		return b.String()
	}
	cases := map[string]string{
		"[":               fill("["),
		"[]":              nested(size / 2),
		"[?":              fill("[?"),
		"{a:":             fill("{a: "),
		"[[[[ shallow":    "x-a: " + nested(9000),
		"dashes":          fill("- "),
		"question marks":  fill("? "),
		"colons":          fill(": "),
		"columns":         fill("- " + nested(99) + "\n"),
		"staircase":       staircase(1400),
		"anchors":         numbered("- &a%d x%d\n"),
		"aliases":         "a: &a x\nb:\n" + fill("- *a\n")[:size-20],
		"keys":            numbered("a%d: x%d\n"),
		"equal keys":      fill("a: x\n"),
		"flow keys":       "{" + fill("a: ,")[:size-4] + "}",
		"one word":        fill("a"),
		"lines":           fill("a\n"),
		"quoted lines":    `"` + fill("a\n")[:size-2] + `"`,
		"escapes":         `"` + fill(`\x41`)[:size-4] + `"`,
		"comments":        fill("#\n"),
		"items, comments": fill("# x\n- a # b\n"),
		"documents":       fill("---\n"),
		"directives":      fill("%TAG !a! b\n"),
		"empty lines":     fill("\n"),
		"spaces":          fill(" "),
		"tabs":            "a:" + fill("\t")[:size-2],
		"tag":             "!<" + fill("%41")[:size-9] + "> a",
		"literal":         "a: |\n" + fill(" x\n\n")[:size-8],
		"bomb":            bomb(2000),
		"self":            "&a [" + fill("*a,")[:size-6] + "]",
	}
	plain := harmlessTime(t)
	for name, text := range cases {
		t.Run(name, func(t *testing.T) {
			start := cpuTime(t)
			f := checkText([]byte(text), 0)
			took := cpuTime(t) - start
			t.Logf("%d bytes in %v, a harmless text in %v: %v", len(text), took, plain, f)
			if took > 40*plain {
				t.Errorf("%d bytes took %v, a harmless text of that size %v", len(text), took, plain)
			}
		})
	}
}

// harmlessTime is how long a harmless text of the greatest size takes, here and now:
// what hostile ones are held against, on a machine of whatever speed.
func harmlessTime(t *testing.T) time.Duration {
	t.Helper()
	text := []byte(strings.Repeat("- some: text that goes on a bit\n", 30_000)) // 960 kB, 90,001 nodes
	best := time.Hour
	for range 2 {
		start := cpuTime(t)
		if f := checkText(text, 0); f != nil {
			t.Fatalf("the harmless text: %v", f)
		}
		best = min(best, cpuTime(t)-start)
	}
	return best
}

// A short hostile text is answered at once.
func TestCheckTextHostileAndShort(t *testing.T) {
	plain := harmlessTime(t)
	for _, text := range []string{"x-a: " + nested(9000), strings.Repeat("[", 9000), bomb(9), "x-a: " + strings.Repeat("{a: ", 9000)} {
		best := time.Hour // of a few, for a busy machine
		for range 5 {
			start := cpuTime(t)
			if checkText([]byte(text), 0) == nil {
				t.Fatalf("%.20s… is fine", text)
			}
			best = min(best, cpuTime(t)-start)
		}
		if best > plain {
			t.Errorf("%.20s… took %v, a harmless text of 1 MiB %v", text, best, plain)
		}
	}
}

// expanded counts a text's nodes and levels by walking through every alias.
func expanded(t *testing.T, text []byte) (nodes, depth int) {
	var walk func(n *yaml.Node, level int)
	walk = func(n *yaml.Node, level int) {
		if n.Kind == yaml.AliasNode {
			n = n.Alias
		}
		if nodes++; nodes > maxTextNodes || level > maxTextDepth+1 {
			return
		}
		if n.Kind == yaml.MappingNode || n.Kind == yaml.SequenceNode {
			level++
		}
		depth = max(depth, level)
		for _, c := range n.Content {
			walk(c, level)
		}
	}
	for d := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var doc yaml.Node
		if err := d.Decode(&doc); errors.Is(err, io.EOF) {
			return nodes, depth
		} else if err != nil {
			t.Fatalf("let through, but no YAML: %v", err)
		}
		walk(&doc, 0)
	}
}

// What the parser quotes of a text may be a secret.
func TestSyntaxFindingsQuoteNoValues(t *testing.T) {
	for _, value := range []string{"*hunter2", "!!int hunter2", "{{ hunter2 }}"} {
		text := []byte("services:\n  web:\n    environment:\n      DB_PASSWORD: " + value + "\n")
		found := checkText(text, 0)
		if found == nil {
			_, found = parseDocument("shop.yml", text)
		}
		if found == nil || strings.Contains(found.String(), "hunter2") {
			t.Errorf("%s: %v", value, found)
		}
	}
}
