package spec

import (
	"slices"
	"strings"
	"testing"
)

const latest = "services:\n  web:\n    image: nginx:latest\n    healthcheck: {test: \"true\"}\n"

// severityIn is the severity of the first finding of a code, "" where there is none.
func severityIn(findings []Finding, code string) Severity {
	i := slices.IndexFunc(findings, func(f Finding) bool { return f.Code == code })
	if i < 0 {
		return ""
	}
	return findings[i].Severity
}

func TestSeverityCanBeSet(t *testing.T) {
	t.Parallel()
	for set, want := range map[string]Severity{"": Warning, "error": Error, "warning": Warning, "info": Info, "off": "", "'off'": "", "false": ""} {
		stack, findings := loadText(t, "x-skep: {findings: {image-latest: "+set+"}}\n"+latest)
		if got := severityIn(findings, "image-latest"); got != want {
			t.Errorf("set to %q: %q", set, got)
		}
		if (stack == nil) != (want == Error) {
			t.Errorf("set to %q: stack %v", set, stack)
		}
	}
}

func TestSeverityThatCannotBeSet(t *testing.T) {
	t.Parallel()
	for set, want := range map[string]string{
		"imagelatest: off":          "did you mean image-latest?",
		"image-latest: true":        "write error or warning or info or off",
		"image-missing: false":      "an error stays one",
		"image-latest: loud":        "write error or warning or info or off",
		"image-missing: warning":    "an error stays one",
		"yaml-syntax: off":          "found before x-skep is read",
		"image-missing: error":      "",
		"image-latest: [off]":       "write error",
		"external-missing: 'off'":   "an error stays one",
		"qqqqqqqqqqqqqqqqqqqq: off": "docs/findings.md",
	} {
		_, findings := loadText(t, "x-skep:\n  findings:\n    "+set+"\n"+latest)
		var told []Finding
		for _, f := range findings {
			if f.Code == "x-skep" {
				told = append(told, f)
			}
		}
		switch {
		case want == "" && len(told) > 0:
			t.Errorf("%s: %v", set, told)
		case want != "" && (len(told) != 1 || !strings.Contains(told[0].Message, want) || told[0].Line != 3):
			t.Errorf("%s: %v, want %q on line 3", set, told, want)
		}
	}
}

// Where a code has errors and others, what is an error stays one.
func TestErrorsOfAMixedCodeStay(t *testing.T) {
	t.Parallel()
	stack, findings := loadText(t, "x-skep: {findings: {label-reserved: off}}\n"+latest+
		"    deploy: {labels: {skep.x: y, com.docker.stack.image: z}}\n")
	var got []Severity
	for _, f := range findings {
		if f.Code == "label-reserved" {
			got = append(got, f.Severity)
		}
	}
	if stack != nil || !slices.Equal(got, []Severity{Error}) {
		t.Errorf("%v", got)
	}
}

func TestWeighLeavesItsArgument(t *testing.T) {
	t.Parallel()
	p := Policy{Findings: map[string]Severity{"a": Off, "b": Error, "c": Info}}
	in := []Finding{{Code: "a", Severity: Info}, {Code: "b", Severity: Warning}, {Code: "c", Severity: Error}, {Code: "d", Severity: Info}}
	before := slices.Clone(in)
	want := []Finding{{Code: "b", Severity: Error}, {Code: "c", Severity: Error}, {Code: "d", Severity: Info}}
	once := p.Weigh(in)
	if !slices.Equal(once, want) || !slices.Equal(p.Weigh(once), want) {
		t.Errorf("%v, then %v", once, p.Weigh(once))
	}
	if !slices.Equal(in, before) {
		t.Errorf("the argument became %v", in)
	}
}

func TestIgnoreComments(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		image string // the lines that set the image
		found bool
		told  string // by ignore-comment
	}{
		"none":                    {"    image: nginx:latest", true, ""},
		"behind":                  {"    image: nginx:latest # skep:ignore image-latest", false, ""},
		"behind, with a reason":   {"    image: nginx:latest # skep:ignore image-latest we follow it", false, ""},
		"above":                   {"    # skep:ignore image-latest\n    image: nginx:latest", false, ""},
		"two above":               {"    # skep:ignore image-latest\n    # and more words\n    image: nginx:latest", false, ""},
		"far above":               {"    # skep:ignore image-latest\n    hostname: a\n    image: nginx:latest", true, "found on line 5 "},
		"behind the line above":   {"    hostname: a # skep:ignore image-latest\n    image: nginx:latest", true, "found on line 4 "},
		"several":                 {"    image: nginx:latest #skep:ignore bind, image-latest", false, "bind, which is not found here (remove"},
		"parted":                  {"    image: nginx:latest # skep: ignore image-latest", true, "skep:ignore in one word"},
		"found across stacks":     {"    image: nginx:latest # skep:ignore image-latest, port-conflict", false, ""},
		"another":                 {"    image: nginx:latest # skep:ignore bind", true, "bind, which is not found here (remove"},
		"misspelt":                {"    image: nginx:latest # skep:ignore image-lates", true, "did you mean image-latest?"},
		"nothing":                 {"    image: nginx:latest # skep:ignore", true, "ignores nothing"},
		"an error":                {"    image: nginx:latest # skep:ignore image-missing", true, "an error stays one"},
		"of the Swarm":            {"    image: nginx:latest # skep:ignore foreign", true, "x-skep.findings"},
		"in a text, not a remark": {"    image: nginx:latest\n    hostname: \"a#skep:ignore\"", true, ""},
	} {
		_, findings := loadText(t, "services:\n  web:\n"+c.image+"\n    healthcheck: {test: \"true\"}\n")
		if found := severityIn(findings, "image-latest") != ""; found != c.found {
			t.Errorf("%s: found is %v, in\n%s", name, found, findingsText(findings))
		}
		told := ""
		for _, f := range findings {
			if f.Code == "ignore-comment" {
				told += f.Message
				if f.Line == 0 || f.Column == 0 {
					t.Errorf("%s: %v has no place", name, f)
				}
			}
		}
		if (told == "") != (c.told == "") || !strings.Contains(told, c.told) {
			t.Errorf("%s: told %q, want %q", name, told, c.told)
		}
	}
}

// Where something is not looked at, nobody can tell that a comment there is in vain.
func TestIgnoreCommentWhereNothingIsLookedAt(t *testing.T) {
	t.Parallel()
	for name, more := range map[string]string{
		"an error":   "  b: {}\n",
		"a profile":  "  b:\n    profiles: [never]\n    image: nginx:latest # skep:ignore image-latest\n",
		"nothing is": "",
	} {
		_, findings := loadText(t, "services:\n  web:\n    image: a:1 # skep:ignore image-latest\n"+more)
		want := Severity("")
		if more == "" {
			want = Info
		}
		if got := severityIn(findings, "ignore-comment"); got != want {
			t.Errorf("%s: %q, want %q, in\n%s", name, got, want, findingsText(findings))
		}
	}
}

// An error is never ignored.
func TestIgnoreCommentKeepsErrors(t *testing.T) {
	t.Parallel()
	stack, findings := loadText(t, "services:\n  web:\n    image: a:1\n    labels: {skep.x: y} # skep:ignore label-reserved\n")
	if stack != nil || severityIn(findings, "label-reserved") != Error {
		t.Errorf("%s", findingsText(findings))
	}
}

// A comment is stronger than x-skep.findings, which is about the whole stack.
func TestIgnoreCommentBeatsRaisedSeverity(t *testing.T) {
	t.Parallel()
	stack, _ := loadText(t, "x-skep: {findings: {image-latest: error}}\nservices:\n  web:\n    image: nginx:latest # skep:ignore image-latest\n")
	if stack == nil {
		t.Error("the stack has an error")
	}
}
