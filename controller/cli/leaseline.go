package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/docker/go-units"

	"github.com/skep-io/skep/controller"
)

// silent is how long ago a lease has to have been written for its holder to be taken
// for gone, as far as one look can tell: many renewals, as the engine's clock and ours
// may differ.
const silent = time.Minute

// tellHolder says in a line who acts for an owner. It is a word beside the data: whether
// a holder is alive only those know who watch it for a while.
func (a *app) tellHolder(ctx context.Context, store controller.LeaseStore, owner string, quiet bool) error {
	if quiet {
		return nil
	}
	holder, err := controller.ReadHolder(ctx, store, owner)
	if err != nil {
		return err
	}
	fmt.Fprintln(a.err, holderLine(holder, time.Now()))
	return nil
}

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
