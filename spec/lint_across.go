package spec

import (
	"fmt"
	"slices"
	"strings"
)

// What stacks of one directory do to each other. It is seen when all are read, and
// changes none of them.

// holdAgainst is across, and tells of a panic in it.
func (snap *Snapshot) holdAgainst() {
	if p := caught(snap.across); p != "" {
		snap.Findings = append(snap.Findings, Finding{File: ".", Severity: Warning, Code: "internal",
			Message: "stacks could not be held against each other: " + p})
	}
}

// across tells of what stacks of one directory do to each other. Mostly it is a
// warning, as one stack is to stay as it is whatever another file says; where
// x-skep.findings makes an error of it, it is one of the stack that says so.
func (snap *Snapshot) across() {
	found := foundAcross{}
	snap.portsAcross(found)
	snap.namesAcross(found)
	snap.dependsAcross(found)
	for name, findings := range found {
		snap.tell(name, findings)
	}
}

// foundAcross holds the findings of several stacks by their names.
type foundAcross map[string][]Finding

// add records a finding of a stack about what stands at a place, unless a comment
// ignores it there.
func (found foundAcross) add(stack *Stack, at place, f Finding) {
	if slices.Contains(at.ignored, f.Code) {
		return
	}
	f.Source, f.File, f.Line, f.Column = stack.Source.Name, at.file, at.line, at.column
	found[stack.Name] = append(found[stack.Name], f)
}

// tell adds findings to a stack, which thereby becomes a problem where one of them
// is an error. The stack itself is kept for the next scan and stays as it is.
func (snap *Snapshot) tell(name string, findings []Finding) {
	stack := *snap.Stacks[name]
	stack.Findings = slices.Concat(stack.Findings, stack.Policy.Weigh(findings))
	if hasError(stack.Findings) {
		delete(snap.Stacks, name)
		snap.Problems[name] = stack.Findings
		return
	}
	snap.Stacks[name] = &stack
}

// A named is an object that a stack declares as its own, in a Swarm that has one of
// a kind and name.
type named struct {
	stack           *Stack
	kind, key, name string
	at              place
}

// ownNames are the objects of a stack that are not external.
func ownNames(stack *Stack) []named {
	var out []named
	add := func(kind, key, name string, external bool, at place) {
		if !external {
			out = append(out, named{stack, kind, key, name, at})
		}
	}
	for _, n := range stack.Networks {
		add("network", n.Key, n.Name, n.External, n.at)
	}
	for _, c := range stack.Configs {
		add("config", c.Key, c.Name, c.External, c.at)
	}
	for _, s := range stack.Secrets {
		add("secret", s.Key, s.Name, s.External, s.at)
	}
	return out
}

// namesAcross tells of networks, configs and secrets of one name that several stacks
// take for their own: the first and each that comes after it.
func (snap *Snapshot) namesAcross(found foundAcross) {
	first := map[[2]string]named{}
	told := map[[2]string]bool{}
	for _, name := range sortedKeys(snap.Stacks) {
		for _, object := range ownNames(snap.Stacks[name]) {
			id := [2]string{object.kind, object.name}
			other, taken := first[id]
			if !taken {
				first[id] = object
				continue
			}
			if !told[id] {
				found.add(other.stack, other.at, other.beside(object))
			}
			told[id] = true
			found.add(object.stack, object.at, object.beside(other))
		}
	}
}

// beside is the finding that another stack has an object of the same name.
func (n named) beside(other named) Finding {
	return Finding{Severity: Warning, Code: "duplicate-name", Message: fmt.Sprintf(
		"the %s %s is named %s, as is one of the stack %s (%s), and it belongs to the stack that made it (declare it external: true in all but one, or give one another name)",
		n.kind, n.key, n.name, other.stack.Name, other.stack.Source.at())}
}

// dependsAcross tells of x-skep.depends_on that is never fulfilled: of stacks that
// there are not, where all names are known, and of circles, none of whose stacks could
// ever get a release.
func (snap *Snapshot) dependsAcross(found foundAcross) {
	for _, name := range sortedKeys(snap.Stacks) {
		stack := snap.Stacks[name]
		if circle := snap.circle(name); circle != nil {
			found.add(stack, stack.dependsOn[slices.Index(stack.Policy.DependsOn, circle[1])], Finding{Severity: Warning, Code: "depends-on-cycle",
				Message: fmt.Sprintf("stacks wait for each other in a circle, and none of them gets another release: %s (take one of these out of x-skep.depends_on)", strings.Join(circle, " → "))})
		}
		for i, other := range stack.Policy.DependsOn {
			if snap.Stacks[other] == nil && snap.Problems[other] == nil && len(snap.Nameless) == 0 && (snap.directories == nil || snap.Complete) {
				found.add(stack, stack.dependsOn[i], Finding{Severity: Warning, Code: "depends-on-unknown",
					Message: fmt.Sprintf("x-skep.depends_on names %s, and the directory has no such stack: this one gets no release before it has (correct the name, or add its file)", other)})
			}
		}
	}
}

// circle is a way along x-skep.depends_on from a stack back to itself, nil where there
// is none.
func (snap *Snapshot) circle(start string) []string {
	seen := map[string]bool{}
	var walk func(path []string) []string
	walk = func(path []string) []string {
		at := snap.Stacks[path[len(path)-1]]
		if at == nil {
			return nil
		}
		for _, next := range at.Policy.DependsOn {
			if next == start {
				return append(path, next)
			}
			if seen[next] {
				continue
			}
			seen[next] = true
			if circle := walk(append(slices.Clone(path), next)); circle != nil {
				return circle
			}
		}
		return nil
	}
	return walk([]string{start})
}
