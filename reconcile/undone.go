package reconcile

import (
	"strings"

	"github.com/skep-io/skep/spec"
)

// undone says what a file asks for and no write brings about, so that no plan has it:
// what is warned of networks, which nobody can change. It is "" where there is none,
// and leaves the remedies to the findings.
func undone(findings []spec.Finding) string {
	var left []string
	for _, f := range findings {
		if f.Code == "network-changed" && f.Severity == spec.Warning {
			what, _, _ := strings.Cut(f.Message, " (")
			left = append(left, what)
		}
	}
	if len(left) == 0 {
		return ""
	}
	return "left undone: " + strings.Join(left, "; ")
}

// adopting is the reason and the message of a release that needs no write, and what
// it is said to be where nothing was left undone.
func adopting(plan *Plan, reason, message string) Decision {
	if plan != nil {
		if left := undone(plan.Findings); left != "" {
			reason, message = "LeftUndone", left
		}
	}
	return Decision{Act: ActAdopt, Reason: reason, Message: message, Again: again}
}
