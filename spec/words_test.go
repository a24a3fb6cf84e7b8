package spec

import (
	"fmt"
	"strings"
	"testing"
)

// toldOf are the messages of a code's findings.
func toldOf(findings []Finding, code string) []string {
	var out []string
	for _, f := range findings {
		if f.Code == code {
			out = append(out, f.Message)
		}
	}
	return out
}

// A stack's name that is too long for its services is told once, not with each.
func TestTooLongStackNameIsToldOnce(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	fmt.Fprintf(&text, "name: %s\nservices:\n", strings.Repeat("s", 60))
	for i := range 30 {
		fmt.Fprintf(&text, "  web%d: {image: 'a:1'}\n", i)
	}
	_, findings := loadText(t, text.String())
	told := toldOf(findings, "invalid-name")
	if len(told) != 1 || !strings.Contains(told[0], "30 services") || findings[0].Line != 1 {
		t.Errorf("%q", told)
	}
	_, findings = loadText(t, "name: s\nservices: {"+strings.Repeat("w", 70)+": {image: 'a:1'}}\n")
	if told := toldOf(findings, "invalid-name"); len(told) != 1 || !strings.Contains(told[0], "cannot be a service's name") {
		t.Errorf("one service: %q", told)
	}
}

// What begins with ~ and has no HOME is an error, and nothing is told beside it.
func TestBindOfNoHomeIsToldOnce(t *testing.T) {
	t.Parallel()
	_, findings := loadText(t, "services:\n  web:\n    image: a:1\n    volumes: ['~/x:/x']\n")
	if severityIn(findings, "bind-home") != Error || severityIn(findings, "bind") != "" {
		t.Errorf("%s", findingsText(findings))
	}
}

// A code that is near no other is not answered with all there are.
func TestUnknownCodeIsSentToThePage(t *testing.T) {
	t.Parallel()
	_, findings := loadText(t, "x-skep: {findings: {qqqqqqqqqqqqqqqqqqqq: info}}\n"+latest)
	told := toldOf(findings, "x-skep")
	if len(told) != 1 || len(told[0]) > 200 || !strings.Contains(told[0], "docs/findings.md") {
		t.Errorf("%q", told)
	}
}

func TestFileWithoutServicesIsToldSo(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"{}\n", "x-a: 1\n", "name: shop\n"} {
		_, findings := loadText(t, text)
		if severityIn(findings, "no-services") != Error || severityIn(findings, "invalid-compose") != "" {
			t.Errorf("%q: %s", text, findingsText(findings))
		}
	}
}

// The line of a file of variables is told, and nothing of what stands in it.
func TestLineThatIsNoVariableIsTold(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"A=1\n# b\n\n  export C=3\n": "line 4 of web.env begins with export (",
		"\ufeffA=1\nMY SECRET=3\n":   "line 2 of web.env is no variable (",
		"A=1\n=SECRET\n":             "line 2 of web.env is no variable (",
		"A=1\nB=\xff\n":              "line 2 of web.env is no variable (",
		"A=1\nB='x\nSECRET y\n":      "line 3 of web.env is no variable (",
	} {
		d := newSpecs(t, map[string]string{"web.env": text, "shop.yml": "services:\n  web:\n    image: a:1\n    env_file: web.env\n"})
		_, findings := LoadFile(t.Context(), d.path("shop.yml"), Options{})
		told := toldOf(findings, "env-file")
		if len(told) != 1 || !strings.Contains(told[0], want) || strings.Contains(told[0], "SECRET") {
			t.Errorf("%q: %q, want %q", text, told, want)
		}
	}
}

// A path in x-skep.ignore is known to its end, where a file's own keys do not follow.
func TestIgnoredPathIsKnownToItsEnd(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"deploy.replicas": "", "deploy": "", "deploy.resources.limits": "", "deploy.labels.a.b": "", "environment.X": "",
		"healthcheck.test": "", "logging.options.tag": "", "deploy.mode": "",
		"deploy.replica":                   "did you mean deploy.replicas?",
		"deploy.resources.limits.cpu":      "did you mean deploy.resources.limits.cpus?",
		"healthcheck.tests":                "did you mean healthcheck.test?",
		"deploy.replicas.x":                "deploy.replicas.x is no field",
		"deploy.resources.reservations.no": "is no field of a service",
	} {
		stack, findings := loadText(t, "services: {web: {image: 'a:1'}}\nx-skep:\n  ignore: [services.web."+path+"]\n")
		told := strings.Join(toldOf(findings, "x-skep"), "\n")
		if (told == "") != (want == "") || !strings.Contains(told, want) || (stack == nil) != (want != "") {
			t.Errorf("%s: %q, want %q", path, told, want)
		}
	}
}
