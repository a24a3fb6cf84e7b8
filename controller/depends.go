package controller

import (
	"fmt"
	"slices"
	"strings"

	"github.com/skep-io/skep/spec"
)

// readiness says whether a stack is Ready at the version that is in force, and if
// not, why not, in a sentence without its full stop.
type readiness func(stack *spec.Stack) (ready bool, why string)

// blocked says, in a sentence, what has to happen before the stack's turn; it is
// empty when nothing has to.
func (d desired) blocked(stack *spec.Stack, ready readiness) string {
	if circle := d.circle(stack.Name); circle != nil {
		return fmt.Sprintf("the stacks %s wait for each other: break the circle in x-skep.depends_on", strings.Join(circle, " → "))
	}
	for _, name := range stack.Policy.DependsOn {
		if why := d.waitsFor(name, ready); why != "" {
			return why
		}
	}
	return ""
}

func (d desired) waitsFor(name string, ready readiness) string {
	if d.problems[name] != nil {
		return fmt.Sprintf("stack %s has to be Ready first, and its file has an error: %s", name, d.problem(name))
	}
	dep := d.stacks[name]
	if dep == nil {
		return fmt.Sprintf("stack %s has to be Ready first, and there is no such stack: correct x-skep.depends_on, or add its file", name)
	}
	ok, why := ready(dep)
	switch {
	case ok:
		return ""
	case why == "":
		return fmt.Sprintf("stack %s has to be Ready first", name)
	}
	return fmt.Sprintf("stack %s has to be Ready first: %s", name, why)
}

// circle is a way along depends_on from the stack back to itself, or nil.
func (d desired) circle(start string) []string {
	seen := map[string]bool{}
	var walk func(path []string) []string
	walk = func(path []string) []string {
		at := d.stacks[path[len(path)-1]]
		if at == nil {
			return nil
		}
		for _, name := range at.Policy.DependsOn {
			if name == start {
				return append(path, name)
			}
			if seen[name] {
				continue
			}
			seen[name] = true
			if found := walk(append(slices.Clone(path), name)); found != nil {
				return found
			}
		}
		return nil
	}
	return walk([]string{start})
}

// dependents holds the stacks that directly depend on one of these, sorted.
func (d desired) dependents(on []string) []string {
	var found []string
	if len(on) == 0 {
		return nil
	}
	for name, s := range d.stacks {
		if slices.ContainsFunc(s.Policy.DependsOn, func(dep string) bool { return slices.Contains(on, dep) }) {
			found = append(found, name)
		}
	}
	slices.Sort(found)
	return found
}
