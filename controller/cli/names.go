package cli

import (
	"context"
	"slices"
	"strings"

	"github.com/skep-io/skep/reconcile"
)

// nearest is the name that was probably meant: at most two edits from the one that was
// given, or a third of its length where that is less, or one that begins with it.
// Empty where there is none, or where it is one of them.
func nearest(name string, names []string) string {
	if len(name) < 2 || slices.Contains(names, name) {
		return ""
	}
	best, at := "", min(3, len(name)/3+2)
	for _, n := range names {
		d := editDistance(strings.ToLower(n), strings.ToLower(name))
		if strings.HasPrefix(n, name) {
			d = min(d, 1)
		}
		if d < at {
			best, at = n, d
		}
	}
	return best
}

// meant is "did you mean shop?", or nothing.
func meant(name string, names []string) string {
	if near := nearest(name, names); near != "" {
		return "did you mean " + near + "?"
	}
	return ""
}

func orElse(s, otherwise string) string {
	if s != "" {
		return s
	}
	return otherwise
}

// unknownStack adds to a refusal the stack that was probably meant, where there is none
// of the name that was given.
func unknownStack(ctx context.Context, r *reconcile.Reconciler, stack string, err error) error {
	if err == nil || !isRefused(err) {
		return err
	}
	if _, bad := r.Refresh(ctx); bad != nil {
		return err
	}
	if word := meant(stack, r.Stacks()); word != "" {
		return verdict{err.Error() + "; " + word}
	}
	return err
}
