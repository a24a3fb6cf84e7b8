package spec

import (
	"strings"
	"testing"
)

// toldUnset are the findings of variables that are not set, a line each.
func toldUnset(findings []Finding) []Finding {
	var out []Finding
	for _, f := range findings {
		if f.Code == "variable-unset" {
			out = append(out, f)
		}
	}
	return out
}

// A variable that is passed on by its name alone is told as one that is put in.
func TestVariablePassedByNameIsTold(t *testing.T) {
	t.Parallel()
	for name, env := range map[string]string{
		"list":    "      - A=1\n      - TOKEN\n",
		"mapping": "      A: 1\n      TOKEN:\n",
	} {
		text := "services:\n  web:\n    image: a:1\n    environment:\n" + env
		_, findings := loadText(t, text)
		told := toldUnset(findings)
		if len(told) != 1 || told[0].Severity != Warning || told[0].Line != 6 || told[0].Service != "web" ||
			!strings.Contains(told[0].Message, "the variable TOKEN is not set") || !strings.Contains(told[0].Message, "--env TOKEN") {
			t.Errorf("%s: %v", name, told)
		}
	}
	_, findings := loadText(t, "services:\n  web:\n    image: a:1\n    environment: [A=, B=1]\n")
	if told := toldUnset(findings); told != nil {
		t.Errorf("with a value: %v", told)
	}
}

// Each variable is told once a file, with the first place and the number of others.
func TestUnsetVariableIsToldOnceAFile(t *testing.T) {
	t.Parallel()
	text := "services:\n  web:\n    image: a:1\n    hostname: ${A}${B}\n    user: ${A}\n    working_dir: /${A}\n    environment: [A]\n"
	_, findings := loadText(t, text)
	told := toldUnset(findings)
	if len(told) != 2 || told[0].Line != 4 || !strings.Contains(told[0].Message, "services.web.hostname and 3 more places (") ||
		told[1].Line != 4 || !strings.Contains(told[1].Message, "services.web.hostname (") {
		t.Errorf("%v", told)
	}
	// What a comment ignores is not counted, and ignores no other place.
	text = strings.Replace(text, "${A}${B}", "${A} # skep:ignore variable-unset", 1)
	_, findings = loadText(t, text)
	if told := toldUnset(findings); len(told) != 1 || told[0].Line != 5 || !strings.Contains(told[0].Message, "and 2 more places (") {
		t.Errorf("with a comment: %v", told)
	}
}

// What cannot be a variable's name, or is more likely a part of a password, is not told.
func TestUnsetVariablesTellNoValues(t *testing.T) {
	t.Parallel()
	for _, env := range []string{
		"['DB_PASSWORD: hunter2']", "['DB_PASSWORD hunter2']", "['DB_PASSWORD=ab$hunter2']", "{DB_PASSWORD: 'ab$hunter2'}",
		"{URL: 'postgres://a:b$hunter2@db'}", "['URL=postgres://a:b$hunter2@db']",
	} {
		_, findings := loadText(t, "services:\n  web:\n    image: a:1\n    environment: "+env+"\n")
		told := toldUnset(findings)
		if len(told) != 1 || told[0].Line != 4 || !strings.Contains(told[0].Message, "services.web.environment") {
			t.Errorf("%s: %v", env, told)
		}
		if text := string(findingsText(findings)); strings.Contains(text, "hunter2") {
			t.Errorf("%s is told: %s", env, text)
		}
	}
	_, findings := loadText(t, "services:\n  web:\n    image: a:1\n    environment: {DB_PASSWORD: 'ab$PART', TOKEN: $token}\n")
	if text := string(findingsText(findings)); !strings.Contains(text, "variable PART is") || !strings.Contains(text, "variable token is") {
		t.Errorf("variables are not told: %s", text)
	}
}
