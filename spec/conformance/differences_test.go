package conformance

import (
	"cmp"
	"os"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

// differences is testdata/differences.yaml: what differs on purpose.
type differences struct {
	Fields   []*fieldEntry   `yaml:"fields"`
	Refusals []*refusalEntry `yaml:"refusals"`
}

// A fieldEntry is a field that skep fills differently, from one value to another.
type fieldEntry struct {
	Path   string  `yaml:"path"`
	Docker *string `yaml:"docker"` // nil: absent
	Skep   *string `yaml:"skep"`
	File   string  `yaml:"file"` // where it is one file's own; "" for all
	Reason string  `yaml:"reason"`
	needed bool
}

// A refusalEntry is a file that one side does not take, or neither.
type refusalEntry struct {
	File string `yaml:"file"` // "mapping/…" or "corpus/…"
	// Docker holds its error, none where it takes the file; several where it walks
	// through a mapping in any order and tells the first error it comes to.
	Docker []string `yaml:"docker"`
	Skep   []string `yaml:"skep"` // its errors as "line: code", none where it takes the file
	Reason string   `yaml:"reason"`
	needed bool
}

const differencesFile = "testdata/differences.yaml"

func readDifferences(t *testing.T) *differences {
	t.Helper()
	text, err := os.ReadFile(differencesFile)
	if err != nil {
		t.Fatal(err)
	}
	var d differences
	decoder := yaml.NewDecoder(strings.NewReader(string(text)))
	decoder.KnownFields(true)
	if err := decoder.Decode(&d); err != nil {
		t.Fatal(err)
	}
	for _, f := range d.Fields {
		if f.Path == "" || f.Reason == "" || strings.Contains(f.Path, "*") {
			t.Errorf("%s: the entry of %q has no exact path or no reason", differencesFile, f.Path)
		}
	}
	for _, r := range d.Refusals {
		if r.File == "" || r.Reason == "" || len(r.Docker) == 0 && len(r.Skep) == 0 {
			t.Errorf("%s: the entry of %q has no file, no refusal or no reason", differencesFile, r.File)
		}
	}
	return &d
}

// explains says whether an entry is about a difference, and remembers that it was
// needed.
func (d *differences) explains(file string, found difference) bool {
	explained := false
	for _, f := range d.Fields {
		if f.Path == found.Path && text(f.Docker) == found.Docker && text(f.Skep) == found.Skep && (f.File == "" || f.File == file) {
			f.needed, explained = true, true
		}
	}
	return explained
}

func text(value *string) string {
	if value == nil {
		return absent
	}
	return *value
}

// refusal gives the entry about a file.
func (d *differences) refusal(file string) *refusalEntry {
	i := slices.IndexFunc(d.Refusals, func(r *refusalEntry) bool { return r.File == file })
	if i < 0 {
		return nil
	}
	d.Refusals[i].needed = true
	return d.Refusals[i]
}

// unneeded names the entries that no file needed, but for those of the kinds of files
// that were not there.
func (d *differences) unneeded(kinds map[string]bool) []string {
	var out []string
	here := func(file string) bool {
		kind, _, _ := strings.Cut(file, "/")
		return file == "" || kinds[kind]
	}
	for _, f := range d.Fields {
		if !f.needed && here(f.File) {
			out = append(out, "field "+cmp.Or(f.File+" ", "")+f.Path+": "+text(f.Docker)+" → "+text(f.Skep))
		}
	}
	for _, r := range d.Refusals {
		if !r.needed && here(r.File) {
			out = append(out, "refusal of "+r.File)
		}
	}
	return out
}
