package spec

import (
	"slices"
	"testing"
)

// What can be known of a file is told in one round: one kind of error does not hide
// the others.
func TestErrorsAreToldInOneRound(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		service string
		codes   []string
	}{
		"refused and unknown":            {"    mem_limit: 1g\n    hostnam: x\n", []string{"option-forbidden", "invalid-compose"}},
		"refused and ignored":            {"    mem_limit: 1g\n    privileged: true\n", []string{"option-forbidden", "option-ignored"}},
		"a port and an unknown":          {"    ports: ['x:y']\n    hostnam: x\n", []string{"invalid-port", "invalid-compose"}},
		"refused, a port and an unknown": {"    cpus: 1\n    ports: ['x:y']\n    hostnam: x\n", []string{"option-forbidden", "invalid-port", "invalid-compose"}},
		"a label and an image":           {"    labels: {skep.x: y}\n    volumes: ['a:b']\n", []string{"label-reserved", "invalid-volume"}},
	} {
		stack, findings := loadText(t, "services:\n  web:\n    image: a:1\n"+c.service)
		if stack != nil {
			t.Errorf("%s: it loaded", name)
		}
		for _, code := range c.codes {
			if severityIn(findings, code) == "" {
				t.Errorf("%s: no %s in\n%s", name, code, findingsText(findings))
			}
		}
	}
}

// What was told of a value is not told in the schema's words too.
func TestOneValueIsToldOnce(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"services: [a]\n", "services:\n  web: 5\n", "services:\n  web:\n    image: a:1\n    ports: ['x:y']\n",
		"services:\n  web:\n    image: a:1\n    configs: [{source: 5}]\n", "services: {web: {image: 'a:1'}}\nconfigs: {c: 5}\n",
	} {
		_, findings := loadText(t, text)
		findings = slices.DeleteFunc(findings, func(f Finding) bool { return f.Severity != Error })
		if len(findings) != 1 {
			t.Errorf("%q:\n%s", text, findingsText(findings))
		}
	}
}

func TestCodesThatHideOthers(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]bool{"yaml-syntax": true, "invalid-compose": true, "variable": true, "image-missing": false, "option-forbidden": false, "git-unreadable": false} {
		if c, ok := CodeOf(code); !ok || c.Hides() != want {
			t.Errorf("%s hides others: %t", code, !want)
		}
	}
}
