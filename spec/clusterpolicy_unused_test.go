package spec

import (
	"strings"
	"testing"
)

// A rule that is for nobody forbids nothing: it is told, and so is each pattern of a
// rule that fits no stack. One that only allows is told softly, as it closes.
func TestRulesForNobody(t *testing.T) {
	t.Parallel()
	here := map[string][]string{"team-a-shop": {"team-a-shop/compose.yaml"}, "blog": {"blog.yml"}}
	for _, x := range []struct {
		rule, want string
		severity   Severity
	}{
		{"deny: {binds: [/etc]}", "", ""},
		{"stacks: [team-*], deny: {binds: [/etc]}", "", ""},
		{"stacks: [taem-*], deny: {binds: [/etc]}", "no stack here fits stacks: taem-*", Warning},
		{"stacks: [taem-*], limit: {replicas: 2}", "so it forbids nothing", Warning},
		{"stacks: [taem-*], limit: {non_root: true}", "so it forbids nothing", Warning},
		{"stacks: [taem-*], allow: {binds: [/etc]}", "so it allows nothing", Info},
		{"stacks: [taem-*], allow: {binds: [/etc]}, deny: {ports: []}, limit: {digest: false}", "so it allows nothing", Info},
		{"stacks: [team-*, taem-*], deny: {binds: [/etc]}", "of what rule x names, no stack here fits stacks: taem-* (", Warning},
		{"directories: [team-a-*], deny: {binds: [/etc]}", "", ""},
		{"directories: [.], deny: {binds: [/etc]}", "", ""},
		{"directories: [team-b-*], deny: {binds: [/etc]}", "directories: team-b-*", Warning},
		{"stacks: [blog], directories: [team-a-*], deny: {binds: [/etc]}", "none fits both stacks and directories", Warning},
	} {
		p := policyOf(t, "rules:\n- {name: x, "+x.rule+"}\n")
		found := p.Unused(here)
		if x.want == "" {
			if len(found) > 0 {
				t.Errorf("%s: %v", x.rule, found)
			}
			continue
		}
		if len(found) != 1 || found[0].Severity != x.severity || found[0].Code != "policy-rule-unused" || found[0].Line != 2 ||
			found[0].File != "policy.yml" || !strings.Contains(found[0].Message, x.want) || !strings.HasSuffix(found[0].Message, ")") {
			t.Errorf("%s: %v, want %s %q", x.rule, found, x.severity, x.want)
		}
		if found := p.Unused(nil); len(found) > 0 {
			t.Errorf("%s: of no stacks %v", x.rule, found)
		}
	}
}

// A stack that does not load is still one that a rule is for.
func TestSitesOfStacksThatDoNotLoad(t *testing.T) {
	t.Parallel()
	snap := &Snapshot{
		Stacks:   map[string]*Stack{"blog": {Name: "blog", Source: Source{File: "blog.yml"}}},
		Problems: map[string][]Finding{"shop": {{File: "team/shop.yml"}, {File: "team/shop.yml"}, {File: "other/shop.yml"}}},
	}
	p := policyOf(t, "rules:\n- {name: x, stacks: [shop], directories: [other], deny: {binds: [/etc]}}\n- {name: y, stacks: [blog], deny: {binds: [/etc]}}\n")
	if found := p.Unused(SitesOf(snap.Stacks, snap.Problems)); len(found) > 0 {
		t.Error(found)
	}
}
