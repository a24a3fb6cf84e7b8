package web

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"
)

var update = flag.Bool("update", false, "write the pages of testdata anew")

// pages are all pages of all scenes, by name.
func pages(t testing.TB) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	for scene, snapshot := range scenes() {
		var b bytes.Buffer
		if err := WriteBoard(&b, NewBoard(snapshot)); err != nil {
			t.Fatal(err)
		}
		out[scene] = b.Bytes()
		for _, s := range snapshot.Stacks {
			if scene != "fleet" && s.Name != "shop" {
				continue
			}
			var b bytes.Buffer
			if err := WriteStack(&b, NewStackPage(snapshot, s.Name, changed())); err != nil {
				t.Fatal(err)
			}
			out[scene+"-"+s.Name] = b.Bytes()
		}
	}
	return out
}

// TestPages compares pages, and what the API tells of the same, with those that a person
// has looked at.
func TestPages(t *testing.T) {
	golden := pages(t)
	for _, scene := range []string{"fleet", "standby", "stale"} {
		text, err := json.MarshalIndent(NewBoard(scenes()[scene]), "", " ")
		if err != nil {
			t.Fatal(err)
		}
		golden[scene+".json"] = text
	}
	for _, name := range []string{"shop", "search", "queue"} {
		text, err := json.MarshalIndent(NewStackPage(fleet(), name, changed()), "", " ")
		if err != nil {
			t.Fatal(err)
		}
		golden["fleet-"+name+".json"] = text
	}
	for name, got := range golden {
		if strings.HasPrefix(name, "fleet-team") {
			continue // as blog
		}
		if filepath.Ext(name) == "" {
			name += ".html"
		}
		file := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(file, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is another one: %s\n(look at it, and write it with -update)", name, firstDifference(string(got), string(want)))
		}
	}
}

func firstDifference(got, want string) string {
	a, b := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return fmt.Sprintf("line %d\n got %s\nwant %s", i+1, a[i], b[i])
		}
	}
	return fmt.Sprintf("%d lines, want %d", len(a), len(b))
}

// An element is one of a page, with what is in it.
type element struct {
	name     string
	attrs    map[string]string
	parent   *element
	children []*element
	text     string // its own
}

func (e *element) all(f func(*element)) {
	f(e)
	for _, c := range e.children {
		c.all(f)
	}
}

// words are what a screen reader makes of it.
func (e *element) words() string {
	if label := e.attrs["aria-label"]; label != "" {
		return label
	}
	if e.attrs["aria-hidden"] == "true" {
		return ""
	}
	text := e.text
	for _, c := range e.children {
		text += " " + c.words()
	}
	return strings.TrimSpace(text)
}

// parsePage reads a page as strictly as XML is read.
func parsePage(t *testing.T, page []byte) *element {
	t.Helper()
	d := xml.NewDecoder(bytes.NewReader(page))
	d.Entity = map[string]string{} // what html/template writes is numbers, or XML's own
	root := &element{name: "#root"}
	at := root
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("not well-formed: %v", err)
		}
		switch x := token.(type) {
		case xml.StartElement:
			e := &element{name: x.Name.Local, attrs: map[string]string{}, parent: at}
			for _, a := range x.Attr {
				if _, twice := e.attrs[a.Name.Local]; twice {
					t.Errorf("<%s> has %s twice", e.name, a.Name.Local)
				}
				e.attrs[a.Name.Local] = a.Value
			}
			at.children = append(at.children, e)
			at = e
		case xml.EndElement:
			at = at.parent
		case xml.CharData:
			at.text += string(x)
		}
	}
	return root.children[0]
}

// shape is what elements there are, and in what.
func (e *element) shape() string {
	var b strings.Builder
	b.WriteString(e.name + "(")
	for _, c := range e.children {
		b.WriteString(c.shape())
	}
	return b.String() + ")"
}

// asBrowser is the shape of a page as a browser reads it, mending what is wrong.
func asBrowser(t *testing.T, page []byte) string {
	t.Helper()
	root, err := html.Parse(bytes.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	var shape func(n *html.Node) string
	shape = func(n *html.Node) string {
		text := n.Data + "("
		for c := n.FirstChild; c != nil; c = c.NextSibling {
			if c.Type == html.ElementNode {
				text += shape(c)
			}
		}
		return text + ")"
	}
	for c := root.FirstChild; c != nil; c = c.NextSibling {
		if c.Type == html.ElementNode {
			return shape(c)
		}
	}
	return ""
}

// may says in what an element may stand, for those where that is not anywhere.
var may = map[string][]string{
	"li": {"ul", "ol"}, "dt": {"div", "dl"}, "dd": {"div", "dl"}, "tr": {"thead", "tbody"}, "th": {"tr"}, "td": {"tr"}, "thead": {"table"}, "tbody": {"table"},
	"summary": {"details"}, "figcaption": {"figure"}, "main": {"body"}, "header": {"body"}, "footer": {"body"}, "rect": {"svg"}, "line": {"svg"}, "circle": {"svg"}, "text": {"svg"},
}

// only says what alone may stand in an element.
var only = map[string][]string{"ul": {"li"}, "ol": {"li"}, "dl": {"div"}, "table": {"thead", "tbody"}, "tr": {"th", "td"}}

// TestPagesAreSound holds every page to what a browser, a keyboard and a screen reader
// need, and to the page's own policy.
func TestPagesAreSound(t *testing.T) {
	for name, page := range pages(t) {
		t.Run(name, func(t *testing.T) { checkPage(t, page) })
	}
}

func checkPage(t *testing.T, page []byte) {
	t.Helper()
	if !bytes.HasPrefix(page, []byte("<!DOCTYPE html>\n<html lang=\"en\">")) {
		t.Error("no doctype, or no language")
	}
	root := parsePage(t, page)
	if got := asBrowser(t, page); got != root.shape() {
		t.Errorf("a browser has to mend it:\n%s\n%s", got, root.shape())
	}
	ids, count := map[string]bool{}, map[string]int{}
	level := 0
	var labels, labelled []string
	root.all(func(e *element) {
		count[e.name]++
		if id, ok := e.attrs["id"]; ok {
			if ids[id] || id == "" {
				t.Errorf("id %q twice, or empty", id)
			}
			ids[id] = true
		}
		checkElement(t, e)
		if len(e.name) == 2 && e.name[0] == 'h' && e.name[1] >= '1' && e.name[1] <= '6' {
			is := int(e.name[1] - '0')
			if is > level+1 && !(level == 0 && is == 2) { // notices stand before the title
				t.Errorf("<%s> %q comes after <h%d>", e.name, e.words(), level)
			}
			level = is
			if e.words() == "" {
				t.Errorf("<%s> says nothing", e.name)
			}
		}
		if e.name == "label" {
			labels = append(labels, e.attrs["for"])
		}
		if e.name == "input" {
			labelled = append(labelled, e.attrs["id"])
		}
	})
	for _, id := range labelled {
		if !slices.Contains(labels, id) {
			t.Errorf("input %q has no label", id)
		}
	}
	root.all(func(e *element) {
		for _, ref := range []string{e.attrs["aria-labelledby"], strings.TrimPrefix(e.attrs["href"], "#")} {
			if ref != "" && (e.attrs["aria-labelledby"] != "" || strings.HasPrefix(e.attrs["href"], "#")) && !ids[ref] {
				t.Errorf("<%s> refers to %q, which is not there", e.name, ref)
			}
		}
	})
	for name, want := range map[string]int{"html": 1, "title": 1, "main": 1, "header": 1, "footer": 1, "h1": 1} {
		if count[name] != want {
			t.Errorf("%d <%s>, want %d", count[name], name, want)
		}
	}
	if first := firstLink(root); first.attrs["href"] != "#main" {
		t.Errorf("the first link is %q, and skips nothing", first.attrs["href"])
	}
}

func firstLink(root *element) (link *element) {
	root.all(func(e *element) {
		if e.name == "a" && link == nil {
			link = e
		}
	})
	return link
}

func checkElement(t *testing.T, e *element) {
	t.Helper()
	for name, value := range e.attrs {
		if name == "style" || strings.HasPrefix(name, "on") {
			t.Errorf("<%s %s> is against the policy", e.name, name)
		}
		if (name == "href" || name == "src") && !strings.HasPrefix(value, "/") && !strings.HasPrefix(value, "#") || strings.HasPrefix(value, "//") {
			t.Errorf("<%s %s=%q> leads elsewhere", e.name, name, value)
		}
		if name == "tabindex" && value != "0" && value != "-1" {
			t.Errorf("<%s> has a place of its own in the order of focus", e.name)
		}
	}
	parent := ""
	if e.parent != nil {
		parent = e.parent.name
	}
	if in, ok := may[e.name]; ok && !slices.Contains(in, parent) {
		t.Errorf("<%s> in <%s>", e.name, parent)
	}
	for _, c := range e.children {
		if of, ok := only[e.name]; ok && !slices.Contains(of, c.name) {
			t.Errorf("<%s> in <%s>", c.name, e.name)
		}
	}
	switch e.name {
	case "style":
		t.Error("a style sheet in the page")
	case "script":
		if e.attrs["src"] == "" || strings.TrimSpace(e.text) != "" {
			t.Error("a script in the page")
		}
	case "a", "summary", "title", "th", "caption", "label":
		if e.words() == "" {
			t.Errorf("<%s %s> says nothing", e.name, e.attrs["href"])
		}
	case "svg":
		if e.parent.name != "svg" && e.attrs["aria-hidden"] != "true" && !hidden(e) {
			t.Error("a picture that a screen reader cannot tell")
		}
	case "time":
		if _, err := time.Parse(time.RFC3339, e.attrs["datetime"]); err != nil {
			t.Errorf("<time datetime=%q>", e.attrs["datetime"])
		}
	case "details":
		if len(e.children) == 0 || e.children[0].name != "summary" || e.attrs["id"] == "" {
			t.Error("<details> without a summary first, or without an id")
		}
	case "section":
		if e.attrs["aria-label"] == "" && e.attrs["aria-labelledby"] == "" {
			t.Error("<section> has no name")
		}
	case "nav":
		if e.attrs["aria-label"] == "" {
			t.Error("<nav> has no name")
		}
	}
	if e.name == "th" && e.attrs["scope"] == "" {
		t.Error("<th> has no scope")
	}
	if role := e.attrs["role"]; (role == "img" || role == "region") && e.attrs["aria-label"] == "" {
		t.Errorf("a %s without a name", role)
	}
}

func hidden(e *element) bool {
	for ; e != nil; e = e.parent {
		if e.attrs["aria-hidden"] == "true" {
			return true
		}
	}
	return false
}

// poison is put into every text of a snapshot.
const poison = `</td><script>alert("planted")</script><img src=x onerror='alert(1)'>{{.}} --password=hunter2planted`

// poisoned fills every string below v.
func poisoned(v reflect.Value, depth int) {
	switch v.Kind() {
	case reflect.String:
		if v.CanSet() {
			v.SetString(v.String() + poison)
		}
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() && depth < 12 {
			poisoned(v.Elem(), depth+1)
		}
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			return
		}
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				poisoned(v.Field(i), depth+1)
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			poisoned(v.Index(i), depth+1)
		}
	}
}

// TestNothingIsBelieved puts markup and a secret into every text that a controller knows.
func TestNothingIsBelieved(t *testing.T) {
	for scene, snapshot := range scenes() {
		poisoned(reflect.ValueOf(snapshot), 0)
		for i := range snapshot.Stacks { // maps cannot be filled in place
			for name, g := range snapshot.Stacks[i].Glance.Tasks {
				poisoned(reflect.ValueOf(&g), 0)
				snapshot.Stacks[i].Glance.Tasks[name+poison] = g
			}
		}
		changes := changed()
		for n, c := range changes {
			poisoned(reflect.ValueOf(&c), 0)
			changes[n] = c
		}
		all := map[string][]byte{}
		var b bytes.Buffer
		if err := WriteBoard(&b, NewBoard(snapshot)); err != nil {
			t.Fatal(err)
		}
		all["board"] = b.Bytes()
		for i := range snapshot.Stacks {
			var b bytes.Buffer
			if err := WriteStack(&b, NewStackPage(snapshot, snapshot.Stacks[i].Name, changes)); err != nil {
				t.Fatal(err)
			}
			all[fmt.Sprint("stack ", i)] = b.Bytes()
		}
		for _, name := range slices.Sorted(maps.Keys(all)) {
			page := all[name]
			t.Run(scene+" "+name, func(t *testing.T) {
				if bytes.Contains(page, []byte("<script>")) || bytes.Contains(page, []byte("<img")) {
					t.Error("markup comes through")
				}
				root := parsePage(t, page)
				if got := asBrowser(t, page); got != root.shape() {
					t.Error("a browser has to mend it")
				}
				root.all(func(e *element) { checkElement(t, e) })
			})
		}
	}
}

// TestSecretsAreMasked puts a secret into the sentences that come from tasks and engines.
func TestSecretsAreMasked(t *testing.T) {
	const secret = "hunter2planted"
	leak := "cannot start: --password=" + secret
	s := base()
	s.Engine, s.Source, s.Policy = leak, leak, leak
	x := degraded("queue")
	x.Result.Message, x.Result.Services[0].Reason = leak, leak
	x.Result.Conditions[2].Message = leak
	x.Result.Findings[0].Message = leak
	x.Result.State.Suspended, x.Result.State.Why = before(time.Hour), leak
	x.Glance.Releases[0].Message, x.Glance.Releases[0].Phase, x.Glance.Releases[0].Subject = leak, "Failed", leak
	x.Glance.Releases[0].Changed = []string{"queue_broker"}
	s.Stacks = []Stack{x}
	var b bytes.Buffer
	page := NewStackPage(s, "queue", nil)
	if err := errors.Join(WriteBoard(&b, NewBoard(s)), WriteStack(&b, page), json.NewEncoder(&b).Encode(page), json.NewEncoder(&b).Encode(NewBoard(s))); err != nil {
		t.Fatal(err)
	}
	if i := strings.Index(b.String(), secret); i >= 0 {
		t.Errorf("a secret is shown: …%s", b.String()[max(0, i-120):i+20])
	}
	if n := strings.Count(b.String(), "cannot start"); n < 8 {
		t.Errorf("only %d of the sentences are told", n)
	}
}
