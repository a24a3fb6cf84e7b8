package cli

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

var (
	codeBlock  = regexp.MustCompile("(?ms)^ *(```+|~~~+)[^\n]*\n.*?^ *(```+|~~~+) *$")
	codeSpan   = regexp.MustCompile("`[^`\n]*`")
	markedLink = regexp.MustCompile(`\]\(([^)\s]*)\)`)
	heading    = regexp.MustCompile(`(?m)^#{1,6} +(.*?) *#*$`)
	headLink   = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
	address    = regexp.MustCompile(`https?://[^\s)>"]+`)
	mention    = regexp.MustCompile(`\b(?:docs|deploy|e2e)(?:/[a-z0-9-]+)*/[A-Za-z0-9_-]+\.md\b`)
)

// A page is a Markdown file of the repository.
type page struct {
	file  string // relative to the root, with slashes
	text  string
	links []string // targets, as written
}

// pages are all Markdown files, but for those that tests read or that were built.
func readPages(t *testing.T) map[string]page {
	t.Helper()
	pages := map[string]page{}
	walk(t, func(file, text string) {
		if filepath.Ext(file) != ".md" {
			return
		}
		p := page{file: file, text: codeBlock.ReplaceAllString(text, "")}
		for _, m := range markedLink.FindAllStringSubmatch(codeSpan.ReplaceAllString(p.text, "``"), -1) {
			p.links = append(p.links, m[1])
		}
		pages[file] = p
	})
	return pages
}

// walk gives the repository's own text files to see.
func walk(t *testing.T, see func(file, text string)) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(root), ".", func(file string, d fs.DirEntry, err error) error {
		switch name := d.Name(); {
		case err != nil:
			return err
		case d.IsDir() && (slices.Contains([]string{"testdata", "bin", "dist"}, name) || name != "." && strings.HasPrefix(name, ".")):
			return fs.SkipDir
		case d.IsDir() || !slices.Contains([]string{".md", ".go", ".yml", ".yaml", ".sh"}, filepath.Ext(name)):
			return nil
		}
		text, err := os.ReadFile(filepath.Join(root, file))
		see(file, string(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// anchors are what may stand behind a # in a link to a page, by GitHub's rule: the
// heading in lower case, letters, digits, - and _ alone, spaces as -, and a number
// behind the second of a name.
func anchors(text string) map[string]bool {
	found, times := map[string]bool{}, map[string]int{}
	for _, m := range heading.FindAllStringSubmatch(text, -1) {
		name := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, headLink.ReplaceAllString(m[1], "$1"))
		if n := times[name]; n > 0 {
			found[name+"-"+strconv.Itoa(n)] = true
		} else {
			found[name] = true
		}
		times[name]++
	}
	return found
}

func TestAnchors(t *testing.T) {
	got := anchors("# What `skep` does, and not\n\nwords\n\n## x-skep\n### x-skep\n## [A link](b.md) to_it!\n")
	for _, want := range []string{"what-skep-does-and-not", "x-skep", "x-skep-1", "a-link-to_it"} {
		if !got[want] {
			t.Errorf("no %s in %v", want, got)
		}
	}
	if len(got) != 4 {
		t.Errorf("%v", got)
	}
}

// Every link of a page leads to a file of the repository, and to a heading of it.
func TestLinksLeadSomewhere(t *testing.T) {
	pages, checked := readPages(t), 0
	for _, p := range pages {
		for _, link := range p.links {
			if strings.Contains(link, "://") {
				continue
			}
			checked++
			name, anchor, _ := strings.Cut(link, "#")
			file := p.file
			if name != "" {
				file = filepath.ToSlash(filepath.Join(filepath.Dir(p.file), name))
			}
			if _, err := os.Stat(filepath.Join(root, file)); err != nil || strings.HasPrefix(file, "..") {
				t.Errorf("%s links to %s, which is not there", p.file, link)
				continue
			}
			if anchor != "" && !anchors(pages[file].text)[anchor] {
				t.Errorf("%s links to %s: %s has no such heading", p.file, link, file)
			}
		}
	}
	if checked < 60 {
		t.Errorf("only %d links were found", checked)
	}
}

// What messages, comments and pages name of the documentation is there.
func TestNamedPagesAreThere(t *testing.T) {
	pages, named := readPages(t), 0
	walk(t, func(file, text string) {
		text = address.ReplaceAllStringFunc(text, func(url string) string {
			if strings.Contains(url, "/skep-io/skep/") {
				return url
			}
			return "" // of somebody else's documentation
		})
		for _, name := range mention.FindAllString(text, -1) {
			named++
			if _, ok := pages[name]; !ok && !strings.HasSuffix(file, "_test.go") {
				t.Errorf("%s names %s, which is not there", file, name)
			}
		}
	})
	if named < 30 {
		t.Errorf("only %d were found", named)
	}
}

// Who reads README finds every page from there.
func TestReadmeLeadsToAllPages(t *testing.T) {
	pages := readPages(t)
	seen, next := map[string]bool{"README.md": true}, []string{"README.md"}
	for len(next) > 0 {
		p := pages[next[0]]
		next = next[1:]
		for _, link := range p.links {
			name, _, _ := strings.Cut(link, "#")
			file := filepath.ToSlash(filepath.Join(filepath.Dir(p.file), name))
			if _, ok := pages[file]; ok && !seen[file] {
				seen[file] = true
				next = append(next, file)
			}
		}
	}
	for file := range pages {
		if !seen[file] {
			t.Errorf("nothing that README leads to links to %s", file)
		}
	}
}
