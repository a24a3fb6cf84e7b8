package spec

import "errors"

// Why a specs directory cannot be believed, in one word each.
const (
	SourceMissing     = "SourceMissing"     // it does not exist
	SourceEmpty       = "SourceEmpty"       // it holds no stack file, as a mount does that is not there
	SourceDangling    = "SourceDangling"    // it is a symlink to nothing
	SourceNoDirectory = "SourceNoDirectory" // it is a file
	SourceUnreadable  = "SourceUnreadable"  // it, or something on the way to it, cannot be read
	SourceMoving      = "SourceMoving"      // it does not come to rest while it is read, or git is at work in it
)

// A SourceError is why a snapshot is not complete.
type SourceError struct {
	Reason string // one CamelCase word
	Err    error
}

func (e *SourceError) Error() string { return e.Err.Error() }
func (e *SourceError) Unwrap() error { return e.Err }

// SourceReason is the word for why a snapshot is not complete, "" for no error.
func SourceReason(err error) string {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*SourceError](err); ok {
		return e.Reason
	}
	return SourceUnreadable
}
