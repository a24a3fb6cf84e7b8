package reconcile

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// What skep keeps for itself in a Swarm are config objects: of no stack, never an orphan,
// never pruned, and in no stack's reach. Each has a kind, by its label and by its name,
// and here alone it is said which kinds there are.

// LabelKind tells what an object is for that skep keeps for itself. No such object
// carries a stack's namespace.
const LabelKind = "skep.kind"

// Kinds of objects that skep keeps for itself.
const (
	KindRelease = "release" // what is remembered of a release: skep-release-STACK-N
	KindState   = "state"   // what people ask of a stack: skep-state-STACK
	KindKey     = "key"     // with which hashes over secrets are made: skep-key
	KindLease   = "lease"   // which controller of an owner acts: skep-lease-OWNER
	KindReport  = "report"  // what that one tells: skep-report-OWNER
	KindTold    = "told"    // what it sent messages about: skep-told-OWNER
	KindPrune   = "prune"   // which removal a person confirmed to it: skep-prune-OWNER
	KindLook    = "look"    // that a forge told another one of a push: skep-look-OWNER
)

var ownKinds = []string{KindRelease, KindState, KindKey, KindLease, KindReport, KindTold, KindPrune, KindLook}

const (
	labelKind = LabelKind
	ownStart  = "skep-"
)

// ownPrefix begins the names of a kind of which there are several objects.
func ownPrefix(kind string) string { return ownStart + kind + "-" }

// OwnName is the name of what an owner's controllers keep of a kind: skep-KIND-OWNER,
// shortened to something as unique where that is too long for the engine.
func OwnName(kind, owner string) string { return fitName(ownPrefix(kind), owner, "") }

// OwnKind tells by an object's name which kind of skep's own it is; "" is none.
func OwnKind(name string) string {
	for _, kind := range ownKinds {
		if kind == KindKey && name == keyName || kind != KindKey && strings.HasPrefix(name, ownPrefix(kind)) {
			return kind
		}
	}
	return ""
}

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
