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
