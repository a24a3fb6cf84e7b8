package cli

import (
	"fmt"
	"time"

	"github.com/docker/go-units"

	"github.com/skep-io/skep/controller"
)

// silent is how long ago a lease has to have been written for its holder to be taken
// for gone, as far as one look can tell: many renewals, as the engine's clock and ours
// may differ.
const silent = time.Minute

// acts says that somebody holds a lease, and was heard of lately.
func acts(h controller.Holder, now time.Time) bool {
	return h.ID != "" && now.Sub(h.Renewed) <= silent
}

// holderLine says who acts for an owner. It is a word beside the data: whether a holder is
// alive only those know who watch it for a while.
func holderLine(h controller.Holder, now time.Time) string {
	switch {
	case h.ID == "":
		return "Controller: none acts"
	case now.Sub(h.Renewed) > silent:
		return fmt.Sprintf("Controller: %s acted, and has not been heard of for %s", h, units.HumanDuration(now.Sub(h.Renewed)))
	}
	if h.Since.IsZero() {
		return fmt.Sprintf("Controller: %s acts", h)
	}
	return fmt.Sprintf("Controller: %s acts, for %s", h, units.HumanDuration(now.Sub(h.Since)))
}

// tellsWait tells whom an act waits for.
func (a *app) tellsWait(quiet bool) func(controller.Holder) {
	return func(h controller.Holder) {
		if !quiet {
			fmt.Fprintf(a.err, "controller %s has the lease; waiting up to 15s to see whether it is alive\n", h)
		}
	}
}
