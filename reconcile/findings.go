package reconcile

import (
	"cmp"
	"maps"
	"slices"

	"github.com/skep-io/skep/spec"
)

// Findings with an engine at hand: how loud they are, which of them keep a release from
// beginning, and which a release remembers. They never stand in the way of what is under
// way already, a correction or a way back.

// ofWorld are codes of findings that tell how the Swarm is just now: with a node that
// comes or goes their sentence is another one. They are looked for anew each time.
var ofWorld = []string{"bind-missing-on-nodes", "no-node-fits", "replicas-exceed-nodes", "host-port-taken"}

// ofChange are codes of findings that are about a change, and over with it, or about what
// is remembered by now.
var ofChange = []string{"mode-changed", "port-handover", "still-used", "record-damaged"}

// SameFinding says whether two findings tell the same, be it in other words: what a
// finding says of the Swarm changes from moment to moment, and is told once.
func SameFinding(a, b spec.Finding) bool {
	if a.Line == 0 && b.Line == 0 && slices.Contains(ofWorld, a.Code) {
		a.Message = b.Message
	}
	return a == b
}

// grade gives findings the severity that the stack's x-skep.findings asks for, and
// the file's name where they have none.
//
// What that raises to an error keeps a release from being begun, and nothing else: it
// would be no help if a node that goes away kept a broken release, which is under way
// already, from being judged and taken back. There such a finding is a warning.
func (p *pass) grade(findings []spec.Finding) []spec.Finding {
	if p.beginning() {
		return p.stack.Policy.Weigh(ofFile(findings, p.stack))
	}
	return p.gradeTold(findings)
}

// gradeTold is grade for what stands in the way of nothing.
func (p *pass) gradeTold(findings []spec.Finding) []spec.Finding {
	policy := spec.Policy{Findings: maps.Clone(p.stack.Policy.Findings)}
	for code, s := range policy.Findings {
		if s == spec.Error {
			policy.Findings[code] = spec.Warning
		}
	}
	return policy.Weigh(ofFile(findings, p.stack))
}

// beginning says that the file asks for a release that has not begun.
func (p *pass) beginning() bool {
	n := len(p.releases)
	return p.failed == nil && (n == 0 || p.releases[n-1].Digest != p.digest)
}

// ofFile says of findings that name no file that they are about the stack's.
func ofFile(findings []spec.Finding, stack *spec.Stack) []spec.Finding {
	for i := range findings {
		findings[i].File = cmp.Or(findings[i].File, stack.Source.File)
		findings[i].Source = cmp.Or(findings[i].Source, stack.Source.Name)
	}
	return findings
}

// blocks says that one of the findings is an error.
func blocks(findings []spec.Finding) bool {
	return slices.ContainsFunc(findings, func(f spec.Finding) bool { return f.Severity == spec.Error })
}

// Bounds of the findings that a record keeps.
const (
	maxFindings = 50
	maxFinding  = 500 // characters of one's sentence
)

// lasting are the warnings and errors that a release's record keeps, so that who has
// no file can see them: those that hold as long as the release, errors first.
func lasting(lists ...[]spec.Finding) []spec.Finding {
	var out []spec.Finding
	for _, f := range slices.Concat(lists...) {
		if f.Severity == spec.Info || slices.Contains(ofChange, f.Code) || f.Line == 0 && slices.Contains(ofWorld, f.Code) {
			continue
		}
		f.Message = clip(f.Message, maxFinding)
		if !slices.Contains(out, f) {
			out = append(out, f)
		}
	}
	slices.SortStableFunc(out, func(a, b spec.Finding) int {
		return cmp.Compare(gravityOf(b.Severity), gravityOf(a.Severity))
	})
	return out[:min(len(out), maxFindings):min(len(out), maxFindings)]
}

func gravityOf(s spec.Severity) int {
	return slices.Index([]spec.Severity{spec.Info, spec.Warning, spec.Error}, s)
}

// standing are the findings of a stack of which no file is at hand: what its newest
// release was recorded with, and how its services stand in the Swarm now.
func standing(p *pass) []spec.Finding {
	var out []spec.Finding
	if n := len(p.releases); n > 0 {
		newest := &p.releases[n-1].index
		p.stack.Policy.Findings = newest.severities
		out = append(out, newest.findings...)
	}
	out = append(out, p.gradeTold(damagedRecords(p.releases))...)
	for i := range p.desired.Services {
		d := &p.desired.Services[i]
		out = append(out, p.gradeTold(nodeFindings(d.Key, d.Name, &d.Spec, p.live))...)
	}
	return out
}
