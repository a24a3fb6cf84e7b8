package cli

import (
	"bytes"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// The page has every verb and flag, and nothing in it that roff would take for its own.
func TestManual(t *testing.T) {
	root := newRoot(nil)
	var b bytes.Buffer
	if err := printManual(&b, root, "1.2.3"); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	for _, cmd := range verbs(root) {
		if !strings.Contains(page, ".SS \"skep "+escape(cmd.Name())) {
			t.Errorf("skep %s is missing", cmd.Name())
		}
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Name != "help" && !strings.Contains(page, `\fB`+escape("--"+f.Name)+`\fR`) {
				t.Errorf("skep %s --%s is missing", cmd.Name(), f.Name)
			}
		})
	}
	known := regexp.MustCompile(`^\.(TH|SH|SS|PP|TP|nf|fi|RS|RE)( |$)`)
	for i, line := range strings.Split(page, "\n") {
		if (strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'")) && !known.MatchString(line) {
			t.Errorf("line %d: %q is no request", i+1, line)
		}
	}
	if got := guarded(escape(`.a 'b' -c \d`)); got != `\&.a \(aqb\(aq \-c \ed` {
		t.Errorf("escaped as %q", got)
	}
}

// Where this machine formats manual pages, it has nothing to complain of this one.
func TestManualIsRoff(t *testing.T) {
	groff, err := exec.LookPath("groff")
	if err != nil {
		t.Log("there is no groff here: TestManual alone looks at the page")
		return
	}
	var page bytes.Buffer
	if err := printManual(&page, newRoot(nil), "1.2.3"); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), groff, "-man", "-Tutf8", "-Kutf8", "-ww")
	cmd.Stdin = &page
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil || said.Len() > 0 || !strings.Contains(string(out), "skep status") {
		t.Errorf("%v: %s", err, said.String())
	}
}
