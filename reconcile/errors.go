package reconcile

import (
	"strings"

	cerrdefs "github.com/containerd/errdefs"
)

// isNotFound says that what was to be removed is gone. For a network that a manager
// is just removing the engine says so in words only.
func isNotFound(err error) bool {
	return err != nil && (cerrdefs.IsNotFound(err) || strings.Contains(err.Error(), " not found"))
}

// isConflict says that somebody else wrote first: a name that is taken (409), or
// a Version that is stale, which the engine tells as a 500 with these words.
func isConflict(err error) bool {
	return err != nil && (cerrdefs.IsConflict(err) || strings.Contains(err.Error(), "update out of sequence") ||
		strings.Contains(err.Error(), "already exists"))
}

// isInUse says that a removal was refused since something still uses the object:
// tasks that are being stopped do for a while.
func isInUse(err error) bool {
	return err != nil && (strings.Contains(err.Error(), "in use") || strings.Contains(err.Error(), "is in use by"))
}

// A maskedError is an error of an engine about what was written, of which it may quote a
// part: it goes to logs and into the Swarm.
type maskedError struct{ err error }

func (e *maskedError) Error() string { return maskText(e.err.Error()) }
func (e *maskedError) Unwrap() error { return e.err }
