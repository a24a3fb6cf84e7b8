package spec

import (
	"strings"
	"testing"
)

func TestNamesOfTwoStacks(t *testing.T) {
	t.Parallel()
	const web = "services:\n  web:\n    image: a:1\n"
	const network = web + "    networks: [n]\nnetworks:\n  n:\n    name: shared\n"
	config := func(more string) string {
		return web + "    configs: [n]\nconfigs:\n  n:\n    name: shared\n    " + more + "\n"
	}
	secret := func(more string) string {
		return web + "    secrets: [n]\nsecrets:\n  n:\n    name: shared\n    " + more + "\n"
	}
	for name, c := range map[string]struct {
		a, b string
		told bool
	}{
		"network":                  {network, network, true},
		"network, one external":    {network, network + "    external: true\n", false},
		"network that is not used": {network, strings.Replace(network, "    networks: [n]\n", "", 1), false},
		"network, another name":    {network, strings.Replace(network, "shared", "other", 1), false},
		"config":                   {config("content: x"), config("content: y"), true},
		"config, one external":     {config("content: x"), config("external: true"), false},
		"secret":                   {secret("file: s"), secret("file: s"), true},
		"secret and config":        {secret("file: s"), config("content: x"), false},
		"by key":                   {network, web + "    networks: [n]\nnetworks:\n  n: {}\n", false},
		"by key all the same":      {strings.Replace(network, "shared", "b_n", 1), web + "    networks: [n]\n\n\nnetworks: {n: {}}\n", true},
	} {
		d := newSpecs(t, map[string]string{"a.yml": c.a, "b.yml": c.b, "s": "x"})
		snap := Scan(t.Context(), d.dir, Options{})
		for stack, other := range map[string]string{"a": "b", "b": "a"} {
			want := Severity("")
			if c.told {
				want = Warning
			}
			if got := severityIn(snap.found(stack), "duplicate-name"); got != want || snap.Stacks[stack] == nil {
				t.Errorf("%s: %q of %s, want %q", name, got, stack, want)
			}
			for _, f := range snap.found(stack) {
				if f.Code == "duplicate-name" && (f.File != stack+".yml" || f.Line != 7 || !strings.Contains(f.Message, "the stack "+other+" ("+other+".yml)")) {
					t.Errorf("%s: %v", name, f)
				}
			}
		}
	}
}

// Comments and x-skep.findings hold for what is found across stacks too.
func TestNamesOfTwoStacksAsTheyWantIt(t *testing.T) {
	t.Parallel()
	const text = "services: {web: {image: 'a:1', networks: [n]}}\nnetworks:\n  n:\n    name: shared"
	d := newSpecs(t, map[string]string{
		"a.yml": text + " # skep:ignore duplicate-name\n",
		"b.yml": text + "\nx-skep: {findings: {duplicate-name: error}}\n",
		"c.yml": text + "\n",
	})
	snap := Scan(t.Context(), d.dir, Options{})
	for stack, want := range map[string]Severity{"a": "", "b": Error, "c": Warning} {
		if got := severityIn(snap.found(stack), "duplicate-name"); got != want {
			t.Errorf("%s: %q, want %q", stack, got, want)
		}
	}
}

func TestStacksThatDependOnEachOther(t *testing.T) {
	t.Parallel()
	const web = "services: {web: {image: 'a:1'}}\n"
	depends := func(on string) string { return web + "x-skep:\n  depends_on:\n    - " + on + "\n" }
	d := newSpecs(t, map[string]string{
		"a.yml": depends("b"), "b.yml": depends("c"), "c.yml": depends("a"),
		"on-circle.yml": depends("a"), "on-nothing.yml": depends("nostack"),
		"ignored.yml": depends("nostack # skep:ignore depends-on-unknown"),
		"x.yml":       depends("y # skep:ignore depends-on-cycle"), "y.yml": depends("x"),
		"fine.yml": depends("on-nothing"), "on-broken.yml": depends("broken"),
		"broken.yml": "name: broken\nservices: {web: {}}\n",
	})
	snap := Scan(t.Context(), d.dir, Options{})
	for stack, want := range map[string]struct{ cycle, unknown Severity }{
		"a": {Warning, ""}, "b": {Warning, ""}, "c": {Warning, ""},
		"x": {}, "y": {Warning, ""}, "on-circle": {}, "fine": {}, "on-broken": {}, "ignored": {}, "on-nothing": {"", Warning},
	} {
		found := snap.found(stack)
		if severityIn(found, "ignore-comment") != "" {
			t.Errorf("%s: %s", stack, findingsText(found))
		}
		if got := severityIn(found, "depends-on-cycle"); got != want.cycle {
			t.Errorf("%s: cycle %q, want %q", stack, got, want.cycle)
		}
		if got := severityIn(found, "depends-on-unknown"); got != want.unknown {
			t.Errorf("%s: unknown %q, want %q", stack, got, want.unknown)
		}
		for _, f := range found {
			if strings.HasPrefix(f.Code, "depends-on") && (f.File != stack+".yml" || f.Line != 4) {
				t.Errorf("%s: %v", stack, f)
			}
		}
	}
	if f := snap.found("a"); !strings.Contains(string(findingsText(f)), "a → b → c → a") {
		t.Errorf("a: %s", findingsText(f))
	}
	// While a file may be any stack's, none is unknown.
	d.write("torn.yml", "services: [")
	if snap := Scan(t.Context(), d.dir, Options{}); severityIn(snap.found("on-nothing"), "depends-on-unknown") != "" {
		t.Error("nostack is unknown, and torn.yml may be it")
	}
}

// A stack that waits for itself needs no other file to be told.
func TestStackThatDependsOnItself(t *testing.T) {
	t.Parallel()
	stack, findings := loadText(t, "name: shop\nservices: {web: {image: 'a:1'}}\nx-skep:\n  depends_on: [infra, shop]\n")
	if stack != nil || severityIn(findings, "x-skep") != Error || !strings.Contains(string(findingsText(findings)), "depends_on names the stack itself") {
		t.Errorf("%s", findingsText(findings))
	}
}
