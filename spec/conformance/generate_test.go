package conformance

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
	"pgregory.net/rapid"
)

// generatedProjects is how many projects a run compares; -rapid.checks says otherwise.
const generatedProjects = "300"

// testGenerated compares projects that nobody wrote. What both take is generated, so
// that a refusal by either is a bug, of the generator or of skep.
func testGenerated(t *testing.T, known *differences) {
	for name, value := range map[string]string{
		"rapid.checks":     generatedProjects,
		"rapid.nofailfile": "true", // the seed that is told says as much
	} {
		if f := flag.Lookup(name); f.Value.String() == f.DefValue {
			if err := f.Value.Set(value); err != nil {
				t.Fatal(err)
			}
		}
	}
	folder := filepath.Join(t.TempDir(), "shop")
	count := 0
	rapid.Check(t, func(r *rapid.T) {
		g := &generator{T: r, env: map[string]string{"HOME": "/home/app"}, files: map[string]string{}}
		text := g.dressed(g.encode(g.project()))
		docker, dockerError, skep, skepError := g.both(folder, text)
		if dockerError != nil || skepError != nil {
			r.Fatalf("docker says: %v\nskep says: %v\nof\n%s", dockerError, skepError, g.show(text))
		}
		g.expectSame(known, docker, skep, text)
		count++
	})
	compared["generated"] += count
}

// testMutated compares generated projects in which something is not as it should be.
// Either side may refuse them for its own reasons; what both take is the same.
func testMutated(t *testing.T, known *differences) {
	folder := filepath.Join(t.TempDir(), "shop")
	count, refused := 0, 0
	rapid.Check(t, func(r *rapid.T) {
		g := &generator{T: r, env: map[string]string{"HOME": "/home/app"}, files: map[string]string{}, mutating: true}
		root := g.project()
		for range 1 + g.upTo(2) {
			g.mutate(root)
		}
		text := g.encode(root)
		docker, dockerError, skep, skepError := g.both(folder, text)
		if dockerError != nil || skepError != nil {
			refused++
			return
		}
		g.expectSame(known, docker, skep, text)
		count++
	})
	t.Logf("%d compared, %d refused by either side", count, refused)
	compared["generated"] += count
}

// both has both sides load a project.
func (g *generator) both(folder string, text []byte) (docker *objects, dockerError error, skep *objects, skepError error) {
	if err := os.RemoveAll(folder); err != nil {
		g.Fatal(err)
	}
	path := filepath.Join(folder, composeFile)
	write(g, path, text)
	for name, data := range g.files {
		write(g, filepath.Join(folder, name), []byte(data))
	}
	docker, _, dockerError = dockerObjects(path, filepath.Base(folder), g.env)
	skep, _, skepError = skepObjects(path, g.env)
	return docker, dockerError, skep, skepError
}

func (g *generator) expectSame(known *differences, docker, skep *objects, text []byte) {
	for _, d := range compare(docker, skep) {
		if !known.explains("generated", d) {
			g.Errorf("%s", d)
		}
	}
	if g.Failed() {
		g.Fatalf("of\n%s", g.show(text))
	}
}

// mutate changes one thing in a tree: a scalar becomes another, a key goes, an element
// comes twice, or a value takes another's place.
func (g *generator) mutate(root *yaml.Node) {
	var all []*yaml.Node
	var collect func(*yaml.Node)
	collect = func(n *yaml.Node) {
		all = append(all, n)
		for i, inner := range n.Content {
			if n.Kind != yaml.MappingNode || i%2 == 1 {
				collect(inner)
			}
		}
	}
	collect(root)
	n := all[1+g.upTo(len(all)-2)]
	switch {
	case n.Kind == yaml.ScalarNode && g.chance(2):
		*n = *g.scalar(true)
	case n.Kind == yaml.ScalarNode:
		n.Tag, n.Style, n.Value = "", 0, one(g, "0", "-1", "1", "true", "null", "99999999999", "0.5", "x", "1d", "1w", "10", "1h", "all", "/", "..", "default", "host")
	case n.Kind == yaml.MappingNode && len(n.Content) > 0:
		at := 2 * g.upTo(len(n.Content)/2-1)
		n.Content = append(n.Content[:at:at], n.Content[at+2:]...)
	case n.Kind == yaml.SequenceNode && len(n.Content) > 0 && g.chance(2):
		n.Content = append(n.Content, n.Content[g.upTo(len(n.Content)-1)])
	case n.Kind != yaml.AliasNode:
		anchor := n.Anchor
		*n = *g.scalar(true)
		n.Anchor = anchor
	}
}

// A generator makes one project, and the files and variables it needs.
type generator struct {
	*rapid.T
	env      map[string]string
	files    map[string]string
	mutating bool // something will be changed in the project
	serial   int  // makes names, targets and ports that must differ
	shared   []*yaml.Node
}

func (g *generator) show(text []byte) string {
	return fmt.Sprintf("%s\nvariables: %q\nfiles: %q", text, g.env, g.files)
}

// next is a number that was not there before.
func (g *generator) next() int { g.serial++; return g.serial }

// chance is true once in n.
func (g *generator) chance(n int) bool {
	return rapid.IntRange(0, n-1).Draw(g.T, "chance") == n-1
}

// one draws one of what is given.
func one[V any](g *generator, of ...V) V { return rapid.SampledFrom(of).Draw(g.T, "one") }

// upTo draws a number from 0 to n.
func (g *generator) upTo(n int) int { return rapid.IntRange(0, n).Draw(g.T, "upTo") }

// project is the file's tree.
func (g *generator) project() *yaml.Node {
	p := g.names()
	root := &mappingOf{}
	if g.chance(3) {
		root.add("version", &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: one(g, "3", "3.13"), Style: yaml.DoubleQuotedStyle})
	}
	services := &mappingOf{}
	for i, key := range p.services {
		services.add(key, g.service(p, i))
	}
	body := &mappingOf{}
	body.add("services", services.node(g, false))
	body.addIf("networks", g.section(p.networks, g.network))
	body.addIf("volumes", g.section(p.volumes, g.volume))
	body.addIf("configs", g.section(p.configs, g.config))
	body.addIf("secrets", g.section(p.secrets, g.secret))
	if g.chance(6) {
		body.add("x-more", g.pairsOf(2, true, true))
	}
	g.shuffle(body)
	for i, node := range g.shared { // anchors stand before what refers to them
		root.add(fmt.Sprintf("x-shared-%d", i), node)
	}
	root.pairs = append(root.pairs, body.pairs...)

	top := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	for _, pair := range root.pairs {
		top.Content = append(top.Content, pair[0], pair[1])
	}
	return top
}

func (g *generator) encode(root *yaml.Node) []byte {
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(one(g, 2, 4))
	if err := encoder.Encode(root); err != nil {
		g.Fatalf("encode: %v", err)
	}
	return out.Bytes()
}

// dressed is a text with what may stand around a YAML document, and with the other ends
// of lines.
func (g *generator) dressed(text []byte) []byte {
	before := one(g, "", "", "", "---\n", "# a comment\n", "%YAML 1.1\n---\n", "\ufeff", "\n\n", "--- # a comment\n")
	text = append([]byte(before), text...)
	text = append(text, one(g, "", "", "...\n", "\n\n", "# a comment")...)
	if g.chance(8) {
		text = bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n"))
	}
	return text
}

// names are the keys that a project's parts know each other by.
type names struct {
	services                            []string
	networks, volumes, configs, secrets []string
}

func (g *generator) names() names {
	keys := func(most int, kind string) []string {
		var out []string
		for range g.upTo(most) {
			out = append(out, fmt.Sprintf("%s%s%d", kind, one(g, "", "-", "_"), g.next()))
		}
		return out
	}
	p := names{
		networks: keys(3, "net"), volumes: keys(3, "vol"), configs: keys(3, "conf"), secrets: keys(3, "sec"),
	}
	if g.chance(4) {
		p.networks = append(p.networks, "default")
	}
	for range 1 + g.upTo(2) {
		p.services = append(p.services, fmt.Sprintf("%s%d", one(g, "web", "Db-", "9_a"), g.next()))
	}
	return p
}

func (g *generator) section(keys []string, make func(key string) *yaml.Node) *yaml.Node {
	if len(keys) == 0 && !g.chance(6) {
		return nil
	}
	m := &mappingOf{}
	for _, key := range keys {
		m.add(key, make(key))
	}
	return m.node(g, true)
}

// A mappingOf collects a mapping's keys and values.
type mappingOf struct{ pairs [][2]*yaml.Node }

func (m *mappingOf) add(key string, value *yaml.Node) {
	k := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: key}
	m.pairs = append(m.pairs, [2]*yaml.Node{k, value})
}

func (m *mappingOf) addIf(key string, value *yaml.Node) {
	if value != nil {
		m.add(key, value)
	}
}

func (g *generator) shuffle(m *mappingOf) {
	if len(m.pairs) > 1 {
		m.pairs = rapid.Permutation(m.pairs).Draw(g.T, "order")
	}
}

// node is the mapping in any order and style; part of it may come from a shared mapping
// by a merge key.
func (m *mappingOf) node(g *generator, mayShare bool) *yaml.Node {
	g.shuffle(m)
	n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	pairs := m.pairs
	if mayShare && len(pairs) > 1 && g.chance(8) {
		cut := 1 + g.upTo(len(pairs)-2)
		from := &mappingOf{pairs: pairs[:cut]}
		anchored := from.node(g, false)
		anchored.Anchor = fmt.Sprintf("shared%d", g.next())
		g.shared = append(g.shared, anchored)
		alias := &yaml.Node{Kind: yaml.AliasNode, Alias: anchored, Value: anchored.Anchor}
		merged := alias
		if g.chance(2) {
			merged = &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle, Content: []*yaml.Node{alias}}
		}
		n.Content = append(n.Content, g.plain("<<"), merged)
		pairs = pairs[cut:]
		if g.chance(2) { // what stands in the mapping itself wins over what is merged
			n.Content = append(n.Content, from.pairs[0][0], from.pairs[0][1])
		}
	}
	for _, pair := range pairs {
		n.Content = append(n.Content, pair[0], pair[1])
	}
	if g.chance(4) {
		n.Style = yaml.FlowStyle
	}
	return n
}

// list is a list in either style.
func (g *generator) list(elements ...*yaml.Node) *yaml.Node {
	n := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Content: elements}
	if g.chance(3) {
		n.Style = yaml.FlowStyle
	}
	return n
}

// text is a text in any style, $ escaped, or as a variable.
func (g *generator) text(value string) *yaml.Node {
	written := strings.ReplaceAll(value, "$", "$$")
	if g.chance(6) {
		written = g.variable(value)
	}
	return g.quoted(written)
}

func (g *generator) quoted(written string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: written}
	n.Style = one[yaml.Style](g, 0, 0, yaml.SingleQuotedStyle, yaml.DoubleQuotedStyle)
	if strings.Contains(written, "\n") && g.chance(2) {
		n.Style = yaml.LiteralStyle
	}
	return n
}

// variable writes a value by way of a variable.
func (g *generator) variable(value string) string {
	name := fmt.Sprintf("%s%d", one(g, "VAR_", "v", "_V"), g.next())
	plain := !strings.ContainsAny(value, "}")
	switch form := g.upTo(6); {
	case form == 0 && plain: // not set
		return "${" + name + ":-" + value + "}"
	case form == 1 && plain:
		return "${" + name + "-" + value + "}"
	case form == 2 && plain: // set to nothing
		g.env[name] = ""
		return "${" + name + ":-" + value + "}"
	case form == 3:
		g.env[name] = value
		return "$" + name
	case form == 4 && value != "":
		g.env[name] = value
		return "${" + name + one(g, ":?must be set", "?must be set", ":-other", "-other", ":-") + "}"
	case form == 5: // between other text
		runes := []rune(value)
		cut := g.upTo(len(runes))
		g.env[name] = string(runes[:cut])
		return "${" + name + "}" + strings.ReplaceAll(string(runes[cut:]), "$", "$$")
	default:
		g.env[name] = value
		return "${" + name + "}"
	}
}

// number is a number; where both sides turn text into one, as a variable too.
func (g *generator) number(value int, cast bool) *yaml.Node {
	if cast && g.chance(6) {
		return g.quoted(g.variable(fmt.Sprint(value)))
	}
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: fmt.Sprint(value)}
}

func (g *generator) boolean(cast bool) *yaml.Node {
	if cast && g.chance(6) {
		return g.quoted(g.variable(one(g, "true", "false", "yes", "no", "on", "off", "TRUE", "y", "N")))
	}
	return g.plain(one(g, "true", "false"))
}

// plain is a scalar whose meaning is the parser's to find.
func (g *generator) plain(value string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Value: value}
}

// nothing stands where a mapping may.
func (g *generator) nothing() *yaml.Node {
	if g.chance(2) {
		return &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Style: yaml.FlowStyle}
	}
	return g.plain(one(g, "null", "~"))
}

// words are texts that a reader of YAML, of a shell or of variables may stumble on.
var words = []string{
	"", "a", "plain", "two words", " before and after ", "true", "null", "~", "1", "1.0", "0x10", "010", "1e3", "1_000",
	"2020-01-01", "12:30:45", "a: b", "a #b", "# a", "- a", "{a}", "[a", "*a", "&a", "!a", "%a", "@a", "`a`", "|", ">",
	"it's", `"quoted"`, `back\slash`, "tab\there", "line\nbreak", "last\n", "ünïcödé", "日本", "a=b", "=", "a,b", "a|b;c&&d",
	"$HOME", "$$", "${X}", "$2y$05$abc.DEF/123", "a$", "{{.Node.Hostname}}", "https://example.com/?a=b&c=d#e", "<<", "yes", "no", "on", "off",
}

func (g *generator) word() string { return one(g, words...) }

func (g *generator) key() string {
	return fmt.Sprintf("%s%d", one(g, "key", "KEY_", "a.b", "com.example/x-", "traefik.http.routers.r"), g.next())
}

// pairsOf is a mapping of text to text, as a mapping or as a list where that may be.
// Values in a mapping may be numbers, and nothing where that may be.
func (g *generator) pairsOf(most int, asList, nothing bool) *yaml.Node {
	if asList && g.chance(3) {
		var elements []*yaml.Node
		for range g.upTo(most) {
			key := g.key()
			if nothing && g.chance(5) {
				elements = append(elements, g.text(key))
			} else {
				elements = append(elements, g.text(key+"="+g.word()))
			}
		}
		return g.list(elements...)
	}
	m := &mappingOf{}
	for range g.upTo(most) {
		m.add(g.key(), g.scalar(nothing))
	}
	return m.node(g, true)
}

// scalar is text, a number or, where that may be, nothing.
func (g *generator) scalar(nothing bool) *yaml.Node {
	switch kind := g.upTo(9); {
	case kind == 0:
		return g.number(one(g, 0, 1, -1, 8080, 65536, 10000000, 1<<40), false)
	case kind == 1:
		return g.plain(one(g, "1.5", "0.10", "1.0", "-2.50", "1e3", "1e21", "0x10", "0o17", "017", "1_000", ".5", "100000000.0", "123456789012345678"))
	case kind == 2:
		return g.plain(one(g, "yes", "no", "on", "off", "y", "n", "12:30", "190:20:30", "1.2.3", "1.0.0-rc", "0755a",
			"2020-01-01", "2001-12-14t21:59:43.10-05:00", "2001-12-14 21:59:43Z", "0b11", "-0", "+1", "1e-7", "0.1e1"))
	case kind == 4:
		tagged := one(g, [2]string{"!!str", "5"}, [2]string{"!!str", "null"}, [2]string{"!!int", "5"}, [2]string{"!!float", "3"}, [2]string{"!!binary", "aGVsbG8="})
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: tagged[0], Value: tagged[1], Style: yaml.TaggedStyle}
	case kind == 3 && nothing:
		return g.plain(one(g, "null", "~", ""))
	}
	return g.text(g.word())
}

func (g *generator) duration() *yaml.Node {
	return g.text(one(g, "1s", "1m30s", "500ms", "1.5h", "2h3m4s", "90s", "1ms", "0.5s", "72h", "1h0m0s", "1500us"))
}

// subset draws some of the keys.
func (g *generator) subset(keys []string) []string {
	var out []string
	for _, key := range keys {
		if g.chance(2) {
			out = append(out, key)
		}
	}
	return out
}

// texts is a list of texts.
func (g *generator) texts(values ...string) *yaml.Node {
	var elements []*yaml.Node
	for _, value := range values {
		elements = append(elements, g.text(value))
	}
	return g.list(elements...)
}

// textOrList is one text as such, or a list of some.
func (g *generator) textOrList(values ...string) *yaml.Node {
	if g.chance(2) {
		return g.text(values[0])
	}
	return g.texts(values[:1+g.upTo(len(values)-1)]...)
}

// file makes a file with some content and gives back its name.
func (g *generator) file(content string) string {
	name := fmt.Sprintf("%sfile%d.txt", one(g, "", "sub/", "sub/deeper/"), g.next())
	g.files[name] = content
	return one(g, "", "./") + name
}
