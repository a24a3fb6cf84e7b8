package spec

import (
	"fmt"
	"slices"
	"strings"
)

// Rules that are for no stack. One that allows closes when its pattern is misspelt; one
// that denies or limits opens, and nobody would see it: so it is told. It is never an
// error, as the stack may be one that is still to come.

// SitesOf are the files of stacks by their names: of those that loaded, and of those
// that did not.
func SitesOf(stacks map[string]*Stack, problems map[string][]Finding) map[string][]string {
	sites := map[string][]string{}
	for name, stack := range stacks {
		sites[name] = append(sites[name], stack.Source.Site())
	}
	for name, findings := range problems {
		for _, f := range findings {
			if at := (Source{Name: f.Source, File: f.File}).Site(); !slices.Contains(sites[name], at) {
				sites[name] = append(sites[name], at)
			}
		}
	}
	return sites
}

// Unused finds rules that are for none of a directory's stacks, whose files it has by
// their names, and patterns of rules that fit none. Of no stacks at all it finds nothing.
func (p *ClusterPolicy) Unused(sites map[string][]string) []Finding {
	if p == nil || len(sites) == 0 {
		return nil
	}
	var found []Finding
	for i := range p.Rules {
		r := &p.Rules[i]
		if why := r.unused(sites); why != "" {
			f := Finding{File: p.File, Line: r.Line, Severity: Info, Code: "policy-rule-unused", Message: why}
			if r.forbids() {
				f.Severity = Warning
			}
			found = append(found, f)
		}
	}
	return found
}

// Unjudged finds the rules that may or may not be for a stack whose file's place below
// the specs directory is not known.
func (p *ClusterPolicy) Unjudged(stack string) []Finding {
	if p == nil {
		return nil
	}
	var found []Finding
	for i := range p.Rules {
		r := &p.Rules[i]
		const top = "compose.yaml" // whose rules are for every file
		if len(r.directories) == 0 || r.isFor(stack, top) || !r.isForName(stack) {
			continue
		}
		found = append(found, Finding{File: p.File, Line: r.Line, Severity: Warning, Code: "policy-rule-unjudged",
			Message: fmt.Sprintf("rule %s goes by directories, and whether it is for a path could not be judged here, as the specs directory is not known: the path was taken as it is written (use --specs DIR, or set SKEP_SPECS beside the path)", r.Name)})
	}
	return found
}

func (r *PolicyRule) unused(sites map[string][]string) string {
	var dead []string
	deadIn := func(key string, entries []entry, fits func(e entry, stack, file string) bool) {
		var none []string
		for _, e := range entries {
			if !anySite(sites, func(stack, file string) bool { return fits(e, stack, file) }) {
				none = append(none, e.text)
			}
		}
		if len(none) > 0 {
			dead = append(dead, key+": "+strings.Join(none, ", "))
		}
	}
	deadIn("stacks", r.stacks, func(e entry, stack, _ string) bool { return e.pattern.MatchString(stack) })
	deadIn("directories", r.directories, func(e entry, _, file string) bool { return e.holds(file) })
	nothing := "allows nothing"
	if r.forbids() {
		nothing = "forbids nothing"
	}
	switch named := strings.Join(dead, "; "); {
	case !anySite(sites, r.isFor) && named != "":
		return fmt.Sprintf("rule %s is for no stack here, so it %s: no stack here fits %s (correct that, or take the rule out)", r.Name, nothing, named)
	case !anySite(sites, r.isFor):
		return fmt.Sprintf("rule %s is for no stack here, so it %s: none fits both stacks and directories (correct them, or take the rule out)", r.Name, nothing)
	case named != "":
		return fmt.Sprintf("of what rule %s names, no stack here fits %s (correct that, or take it out)", r.Name, named)
	}
	return ""
}

// forbids says that the rule denies or limits something.
func (r *PolicyRule) forbids() bool {
	for _, entries := range r.deny {
		if len(entries) > 0 {
			return true
		}
	}
	return r.Limit != PolicyLimit{}
}

func anySite(sites map[string][]string, is func(stack, file string) bool) bool {
	for stack, files := range sites {
		if slices.ContainsFunc(files, func(file string) bool { return is(stack, file) }) {
			return true
		}
	}
	return false
}
