package cli

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

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

// Where an error keeps the rest of a file from being looked at, the summary says so.
func TestSummaryTellsThatMoreMayBeFound(t *testing.T) {
	for code, want := range map[string]bool{"invalid-compose": true, "yaml-syntax": true, "image-missing": false} {
		v := validation{findings: []spec.Finding{{File: "a", Severity: spec.Error, Code: code}}}
		if got := strings.Contains(v.summary(), "\nmore may be found when these are mended"); got != want {
			t.Errorf("%s: %q", code, v.summary())
		}
	}
	v := validation{findings: []spec.Finding{{File: "a", Severity: spec.Warning, Code: "invalid-value"}}}
	if strings.Contains(v.summary(), "\n") {
		t.Errorf("a warning: %q", v.summary())
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

// A commit hook waits for it: a small stack takes less than 100 ms, the start of the
// program included, as it ships: without the race detector. What counts is the processor's time, and the best of some runs,
// for other work on the machine only ever adds to it.
func TestValidateIsQuick(t *testing.T) {
	dir := t.TempDir()
	program, stack := filepath.Join(dir, "skep"), filepath.Join(dir, "shop.yml")
	if out, err := exec.Command("go", "build", "-o", program, "../..").CombinedOutput(); err != nil {
		t.Fatalf("build skep: %v: %s", err, out)
	}
	text := "services:\n  web:\n    image: web:1\n    ports: ['80:80']\n  db:\n    image: db:1\n    volumes: [data:/data]\nvolumes: {data: {}}\n"
	if err := os.WriteFile(stack, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	best := time.Hour
	for range 10 {
		cmd := exec.Command(program, "validate", stack)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		best = min(best, cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime())
	}
	t.Logf("validate takes %v", best)
	if best > 100*time.Millisecond {
		t.Errorf("validate took %v, want less than 100ms", best)
	}
}
