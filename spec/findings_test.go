package spec

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// withoutExample are codes of files that have none in testdata/findings, and why.
var withoutExample = map[string]string{
	"config-too-large":   "larger than a page: TestDataThatIsTooLarge",
	"secret-too-large":   "larger than a page: TestDataThatIsTooLarge",
	"include-too-large":  "larger than a page: TestIncludesThatAreTooMany",
	"depends-on-unknown": "found in a whole directory: TestStacksThatDependOnEachOther",
}

func TestDataThatIsTooLarge(t *testing.T) {
	t.Parallel()
	for kind, limit := range map[string]int{"config": 1000 << 10, "secret": 500 << 10} {
		for size, want := range map[int]Severity{limit - 1: "", limit: Error, limit + 1: Error} {
			text := fmt.Sprintf("services:\n  web:\n    image: a:1\n    %[1]ss: [big]\n%[1]ss:\n  big:\n    file: big.txt\n", kind)
			e := example{archive: &txtar.Archive{Files: []txtar.File{{Name: "big.txt", Data: bytes.Repeat([]byte("x"), size)}}}}
			if got := severityIn(e.load(t, text), kind+"-too-large"); got != want {
				t.Errorf("a %s of %d bytes: %q, want %q", kind, size, got, want)
			}
		}
	}
}

func TestIncludesThatAreTooMany(t *testing.T) {
	t.Parallel()
	e := example{archive: &txtar.Archive{Files: []txtar.File{{Name: "a.yaml", Data: []byte("services: {a: {image: \"a:1\"}}\n")}}}}
	for files, want := range map[int]Severity{maxTexts: "", maxTexts + 1: Error} {
		found := e.load(t, "include:\n"+strings.Repeat("  - a.yaml\n", files-1)+"services: {b: {image: \"b:1\"}}\n")
		if got := severityIn(found, "include-too-large"); got != want || want == "" && hasError(found) {
			t.Errorf("%d files: %q, want %q:\n%s", files, got, want, findingsText(found))
		}
	}
}

// An example is a file that gets a finding, and one as it should be.
type example struct {
	bad, good string
	archive   *txtar.Archive
}

func examples(t *testing.T) map[string]example {
	t.Helper()
	files, err := filepath.Glob("testdata/findings/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	out := map[string]example{}
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		e := example{archive: archive}
		for _, f := range archive.Files {
			switch f.Name {
			case "bad.yaml":
				e.bad = string(f.Data)
			case "good.yaml":
				e.good = string(f.Data)
			}
		}
		if e.bad == "" || e.good == "" {
			t.Errorf("%s has no bad.yaml or no good.yaml", file)
		}
		out[strings.TrimSuffix(filepath.Base(file), ".txtar")] = e
	}
	return out
}

// load loads one of the texts with the example's other files beside it.
func (e example) load(t *testing.T, text string) []Finding {
	t.Helper()
	root := t.TempDir()
	for _, f := range e.archive.Files {
		if f.Name != "bad.yaml" && f.Name != "good.yaml" {
			writeFile(t, filepath.Join(root, "shop", f.Name), string(f.Data))
		}
	}
	writeFile(t, filepath.Join(root, "shop", "compose.yaml"), text)
	_, findings := load(t.Context(), shop(t, root), Options{})
	return findings
}

// The bad file of each example gets its finding, with its place, and the good one
// neither that nor an error.
func TestExamplesOfFindings(t *testing.T) {
	for code, e := range examples(t) {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			if _, ok := CodeOf(code); !ok {
				t.Error("there is no such code")
			}
			bad := e.load(t, e.bad)
			i := slices.IndexFunc(bad, func(f Finding) bool { return f.Code == code })
			if i < 0 {
				t.Fatalf("the bad file has other findings:\n%s", findingsText(bad))
			}
			f := bad[i]
			if f.Line == 0 || !strings.HasPrefix(f.File, "shop/") || !strings.HasSuffix(f.Message, ")") {
				t.Errorf("it has no place or no remedy: %s", f)
			}
			for _, f := range e.load(t, e.good) {
				if f.Code == code || f.Severity == Error {
					t.Errorf("the good file has %s", f)
				}
			}
		})
	}
}

func TestCodesOfFilesHaveAnExample(t *testing.T) {
	t.Parallel()
	have := examples(t)
	for _, c := range Codes() {
		_, ok := have[c.Name]
		switch reason := withoutExample[c.Name]; {
		case ok && reason != "":
			t.Errorf("%s has an example, and a reason to have none", c.Name)
		case !ok && reason == "" && c.From == File:
			t.Errorf("%s has no example in testdata/findings", c.Name)
		}
	}
}

// A section of docs/findings.md is about one code.
type section struct {
	head   string // the line below the heading
	text   string
	blocks []string // of YAML
}

var yamlBlock = regexp.MustCompile("(?s)```yaml\n(.*?)```\n")

func pageSections(t *testing.T) (map[string]section, string) {
	t.Helper()
	page, err := os.ReadFile("../docs/findings.md")
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(string(page), "\n### ")
	out := map[string]section{}
	for _, part := range parts[1:] {
		part, _, _ = strings.Cut(part, "\n## ")
		name, rest, _ := strings.Cut(part, "\n\n")
		head, text, _ := strings.Cut(rest, "\n\n")
		s := section{head: head, text: text}
		for _, m := range yamlBlock.FindAllStringSubmatch(text, -1) {
			s.blocks = append(s.blocks, m[1])
		}
		if _, twice := out[name]; twice {
			t.Errorf("docs/findings.md has two sections %s", name)
		}
		out[name] = s
	}
	return out, string(page)
}

// docs/findings.md has a section for each code and no other, with the severities
// and the meaning of the table, a text, and the two files of its example.
func TestPageOfFindings(t *testing.T) {
	t.Parallel()
	have := examples(t)
	pages, _ := pageSections(t)
	for _, c := range Codes() {
		s, ok := pages[c.Name]
		if !ok {
			t.Errorf("docs/findings.md has no section %s", c.Name)
			continue
		}
		delete(pages, c.Name)
		if want := headOf(c); s.head != want {
			t.Errorf("the section %s begins with %q, want %q", c.Name, s.head, want)
		}
		if len(yamlBlock.ReplaceAllString(s.text, "")) < 50 {
			t.Errorf("the section %s says too little: %q", c.Name, s.text)
		}
		var want []string
		if e, ok := have[c.Name]; ok {
			want = []string{e.bad, e.good}
		}
		if !slices.Equal(s.blocks, want) {
			t.Errorf("the section %s has the examples %q, want those of testdata/findings, %q", c.Name, s.blocks, want)
		}
	}
	for name := range pages {
		t.Errorf("docs/findings.md has a section %s, and there is no such code", name)
	}
}

// headOf is the first line of a code's section.
func headOf(c Code) string {
	var words []string
	for _, s := range c.Severities {
		words = append(words, string(s))
	}
	return fmt.Sprintf("**%s**: %s.", strings.Join(words, ", "), c.Meaning)
}

var anchor = regexp.MustCompile(`\]\(#([a-z-]+)\)`)

func TestLinksOfThePageOfFindings(t *testing.T) {
	t.Parallel()
	pages, text := pageSections(t)
	for _, m := range anchor.FindAllStringSubmatch(text, -1) {
		_, isCode := pages[m[1]]
		heading := "## " + strings.ReplaceAll(m[1], "-", " ")
		if !isCode && !bytes.Contains(bytes.ToLower([]byte(text)), []byte(heading+"\n")) {
			t.Errorf("docs/findings.md links to #%s, which is not there", m[1])
		}
	}
}
