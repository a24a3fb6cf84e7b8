package cli

import (
	"bytes"
	"testing"

	"github.com/skep-io/skep/spec"
)

func TestPrintGitHubEscapes(t *testing.T) {
	var b bytes.Buffer
	printGitHub(&b, []spec.Finding{
		{File: "a,b:c.yml", Line: 3, Column: 7, Severity: spec.Error, Code: "x", Message: "50% of\nit: wrong, so"},
		{File: "d.yml", Severity: spec.Info, Code: "y", Message: "m"},
	})
	want := "::error file=a%2Cb%3Ac.yml,line=3,col=7,title=x::50%25 of%0Ait: wrong, so\n::notice file=d.yml,title=y::m\n"
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func TestFindingsAreSortedAndToldOnce(t *testing.T) {
	late := spec.Finding{File: "a", Line: 9, Severity: spec.Error, Code: "c"}
	early := spec.Finding{File: "a", Line: 1, Severity: spec.Warning, Code: "c"}
	other := spec.Finding{File: "b", Severity: spec.Error, Code: "c"}
	v := validation{findings: []spec.Finding{other, late, early, late}, stacks: map[string]bool{"/a": true, "/b": true}}
	got := v.sorted()
	if len(got) != 3 || got[0] != early || got[1] != late || got[2] != other {
		t.Errorf("got %v", got)
	}
	if v.summary() != "2 stacks, 2 errors, 1 warning" {
		t.Errorf("summary %q", v.summary())
	}
}

func TestColourIsForTerminals(t *testing.T) {
	if newApp(nil).colour(&bytes.Buffer{}) {
		t.Error("colour in what is not a terminal")
	}
	if got := paint(true, red, "x"); got != "\x1b[31mx\x1b[0m" {
		t.Errorf("painted %q", got)
	}
	if got := paint(false, red, "x"); got != "x" {
		t.Errorf("not painted %q", got)
	}
}
