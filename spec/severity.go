package spec

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// How loud a finding is, and whether it is told at all, is its author's to say: under
// x-skep.findings, or in a comment beside the value. An error stays one.

// Weigh gives findings the severities that x-skep.findings sets for their codes,
// and leaves out those that are off. Errors stay errors. It may be called again on
// what it returned, and leaves its argument as it is.
func (p Policy) Weigh(findings []Finding) []Finding {
	if len(p.Findings) == 0 {
		return findings
	}
	out := make([]Finding, 0, len(findings))
	for _, f := range findings {
		if s, set := p.Findings[f.Code]; set && f.Severity != Error {
			f.Severity = s
		}
		if f.Severity != Off {
			out = append(out, f)
		}
	}
	return out
}

// readSeverities reads x-skep.findings: severities by code.
func readSeverities(f *fields, to *map[string]Severity) {
	block, ok := policyBlock(f.report, f.block["findings"], under(f.at, "findings"))
	if !ok {
		return
	}
	set := map[string]Severity{}
	inner := fields{report: f.report, block: block, at: under(f.at, "findings")}
	inner.known(codeNames(func(Code) bool { return true })...)
	for _, name := range sortedKeys(block) {
		code, ok := CodeOf(name)
		if !ok {
			continue
		}
		if block[name] == false { // what off is to a program that reads YAML 1.1
			block[name] = string(Off)
		}
		var s Severity
		choose(&inner, name, &s, Error, Warning, Info, Off)
		switch {
		case code.From == Reading:
			inner.fail(name, "is found before x-skep is read (take this line out)")
		case s == "" || s == Error && !code.Settable():
		case !code.Settable():
			inner.fail(name, "is an error, and an error stays one (correct what it is about, and take this line out)")
		default:
			set[name] = s
		}
	}
	if len(set) > 0 {
		*to = set
	}
}

// ignores tells, for the lines of one file, what a comment ignores there.
type ignores map[int][]ignored

// ignored is a code that a comment ignores, and the comment's place.
type ignored struct {
	code         string
	line, column int
}

// ignoreComment is a comment `# skep:ignore CODE, CODE why`, partedComment one that
// was meant to be.
var (
	ignoreComment = regexp.MustCompile(`(?:^|\s)#\s*skep:ignore(?:[ \t]+([^\s,]+(?:[ \t]*,[ \t]*[^\s,]+)*))?`)
	partedComment = regexp.MustCompile(`(?:^|\s)#\s*skep(?:[ \t]+:[ \t]*|:[ \t]+)ignore\b`)
)

// maxIgnored is how many codes a comment may name; there are fewer.
const maxIgnored = 100

// readIgnores finds the comments that ignore findings. One behind a value is about
// its own line, one on a line of its own about the next line that is none. A
// comment that names no code, or one whose findings are errors, is a finding.
func (r *report) readIgnores(file string, text []byte) (ignores, []Finding) {
	if !bytes.Contains(text, []byte("skep")) || !bytes.Contains(text, []byte("ignore")) {
		return nil, nil
	}
	found, problems := ignores{}, []Finding(nil)
	var above []ignored
	for i, line := range strings.Split(string(text), "\n") {
		var here []ignored
		tell := func(m []int, problem string) (column int) {
			column = 1 + strings.Index(line[m[0]:], "#") + m[0]
			if problem != "" {
				problems = append(problems, Finding{File: file, Line: i + 1, Column: column, Severity: Warning, Code: "ignore-comment", Message: problem})
			}
			return column
		}
		if m := partedComment.FindStringIndex(line); m != nil {
			tell(m, "the comment ignores nothing (write skep:ignore in one word)")
		}
		if m := ignoreComment.FindStringSubmatchIndex(line); m != nil {
			words := ""
			if m[2] >= 0 {
				words = line[m[2]:m[3]]
			}
			for n, word := range strings.SplitN(words, ",", maxIgnored+1) {
				word = strings.TrimSpace(word)
				problem := ""
				if n == maxIgnored {
					problem = fmt.Sprintf("the comment names more than %d codes, and those behind them ignore nothing (take findings you do not want to see out under x-skep.findings)", maxIgnored)
				} else {
					problem = r.notIgnorable(word)
				}
				column := tell(m, problem)
				if problem == "" && !ignoring(here, word) && !ignoring(above, word) {
					here = append(here, ignored{word, i + 1, column})
				}
			}
		}
		if strings.HasPrefix(strings.TrimSpace(line), "#") {
			above = append(above, here...)
			continue
		}
		if codes := append(above, here...); len(codes) > 0 {
			found[i+1] = codes
		}
		above = nil
	}
	return found, problems
}

// notIgnorable says why the findings of a code cannot be ignored by a comment, ""
// where they can.
func (r *report) notIgnorable(word string) string {
	code, ok := CodeOf(word)
	switch {
	case word == "":
		return "the comment ignores nothing (write the code of a finding behind skep:ignore)"
	case !ok:
		return fmt.Sprintf("the comment ignores %s, which is no code of a finding%s", word, r.orNearest(word, codeNames(Code.Settable)))
	case !code.Settable():
		return fmt.Sprintf("the comment ignores %s, which is an error, and an error stays one (correct what it is about)", word)
	case code.From == Swarm:
		return fmt.Sprintf("the comment ignores %s, which is found in the Swarm and has no line in the file (write it under x-skep.findings)", word)
	}
	return ""
}

// silent says whether a comment ignores the finding.
func (i ignores) silent(f Finding) bool {
	return f.Severity != Error && f.Line > 0 && ignoring(i[f.Line], f.Code)
}

// ignoring says whether a code is among those that are ignored.
func ignoring(all []ignored, code string) bool {
	return slices.ContainsFunc(all, func(i ignored) bool { return i.code == code })
}

// foundAcrossStacks are the codes of findings that other files have a part in: a
// comment that ignores one may be in vain today.
var foundAcrossStacks = set("port-conflict", "host-port-conflict", "duplicate-name", "depends-on-unknown", "depends-on-cycle")

// inVain tells of the comments in the stack's own file that ignore nothing, where all
// of that file was looked at: without an error, and without services that are left
// out. What it has of other files may be a part of them.
func (l *loading) inVain(findings []Finding) []Finding {
	comments := l.ignores[l.report.file]
	if len(comments) == 0 || hasError(findings) || slices.ContainsFunc(findings, func(f Finding) bool { return f.Code == "profile-inactive" }) {
		return nil
	}
	type found struct {
		line int
		code string
	}
	here, first := map[found]bool{}, map[string]int{}
	for _, f := range slices.Backward(findings) { // in the order of lines
		if f.File == l.report.file {
			here[found{f.Line, f.Code}], first[f.Code] = true, f.Line
		}
	}
	var out []Finding
	for line, all := range comments {
		for _, i := range all {
			if here[found{line, i.code}] || foundAcrossStacks[i.code] {
				continue
			}
			where := "not found here (remove the comment)"
			if n := first[i.code]; n > 0 {
				where = fmt.Sprintf("not found here but found on line %d (put the comment there, or on a line of its own above)", n)
			}
			out = append(out, Finding{File: l.report.file, Line: i.line, Column: i.column, Severity: Info, Code: "ignore-comment",
				Message: fmt.Sprintf("the comment ignores %s, which is %s", i.code, where)})
		}
	}
	return out
}

// places remembers where the stack names ports, objects and other stacks, for
// what is found when all stacks are read.
func (l *loading) places(stack *Stack, mountedAt map[string]map[string][]string) {
	for i := range stack.Services {
		if s := &stack.Services[i]; len(s.Spec.EndpointSpec.Ports) > 0 {
			s.ports = l.place("services", s.Key, "ports")
		}
		l.placesOf(&stack.Services[i], mountedAt[stack.Services[i].Key])
	}
	for i := range stack.Policy.DependsOn {
		stack.dependsOn = append(stack.dependsOn, l.place("x-skep", "depends_on", strconv.Itoa(i)))
	}
	for i := range stack.Networks {
		stack.Networks[i].at = l.place("networks", stack.Networks[i].Key, "name")
	}
	for i := range stack.Configs {
		stack.Configs[i].at = l.place("configs", stack.Configs[i].Key, "name")
	}
	for i := range stack.Secrets {
		stack.Secrets[i].at = l.place("secrets", stack.Secrets[i].Key, "name")
	}
}

// asking are the keys of a service by which it asks for what a policy may refuse.
var asking = []string{"image", "ports", "networks", "configs", "secrets", "cap_add", "sysctls", "credential_spec", "deploy", "logging", "user"}

// placesOf remembers where a service asks for what.
func (l *loading) placesOf(s *Service, mountedAt map[string][]string) {
	at := []string{"services", s.Key}
	s.places = map[string]place{"": l.place(at...)}
	for _, key := range asking {
		if p := l.place(under(at, key)...); p.line != s.places[""].line || p.file != s.places[""].file {
			s.places[key] = p
		}
	}
	for target, where := range mountedAt {
		s.places[MountPlace(target)] = l.place(where...)
	}
}

func (l *loading) place(at ...string) place {
	file, line, column := l.report.where(at)
	var codes []string
	for _, i := range l.ignores[file][line] {
		codes = append(codes, i.code)
	}
	return place{file, line, column, codes}
}
