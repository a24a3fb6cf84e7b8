package reconcile

import (
	"errors"
	"fmt"
	"regexp"
)

// LabelKind tells what an object is for that skep keeps for itself: a release, a
// state, a lease. No such object carries a stack's namespace.
const LabelKind = labelKind

// KindRelease is the LabelKind of what is remembered of a release.
const KindRelease = kindRelease

// OwnName is the name of what an owner's controllers keep of a kind: skep-KIND-OWNER,
// shortened to something as unique where that is too long for the engine.
func OwnName(kind, owner string) string { return fitName("skep-"+kind+"-", owner, "") }

var ownerName = regexp.MustCompile(`^[a-z0-9]([a-z0-9_.-]*[a-z0-9])?$`)

// CheckOwner is nil for what can be a controller's name: the engine takes it as a part
// of an object's, and knows no upper and lower case there, so that two owners who differ
// in that alone would want the same lease.
func CheckOwner(owner string) error {
	switch {
	case owner == "":
		return errors.New("an owner needs a name")
	case !ownerName.MatchString(owner):
		return fmt.Errorf("%q cannot be an owner's name (small letters, digits and, between them, any of _ . -)", owner)
	}
	return nil
}

// IsConflict says that an engine refused a write since somebody else wrote first: a
// name that is taken, or a Version that is not the newest.
func IsConflict(err error) bool { return isConflict(err) }
