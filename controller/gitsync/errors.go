package gitsync

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/skep-io/skep/spec"
)

// Why what Dir holds may not be what the remote has, in one word each.
const (
	GitNotRead     = "GitNotRead"     // nobody has asked the remote yet: skep has only just started
	GitUnreachable = "GitUnreachable" // the remote does not answer, or not as git does
	GitDenied      = "GitDenied"      // it does not let skep in, or the credentials cannot be read
	GitUntrusted   = "GitUntrusted"   // its host key or certificate is not one that is trusted
	GitRefGone     = "GitRefGone"     // it has no such branch or tag any more
	GitPathGone    = "GitPathGone"    // the commit has no such directory
	GitRewound     = "GitRewound"     // the ref moved to a commit that does not descend from the last one
	GitUnverified  = "GitUnverified"  // the commit is not signed by anybody who may sign
	GitTooLarge    = "GitTooLarge"    // it is larger than the limits allow
	GitRefused     = "GitRefused"     // it has something that skep does not write to a disk, or leads elsewhere
	GitCacheFull   = "GitCacheFull"   // the disk of the cache is full
	GitCacheBroken = "GitCacheBroken" // the cache cannot be read or written
)

func sourceError(reason string, err error) error {
	return &spec.SourceError{Reason: reason, Err: err}
}

func refused(reason, format string, args ...any) error {
	return sourceError(reason, fmt.Errorf(format, args...))
}

func tooLarge(format string, args ...any) error {
	return refused(GitTooLarge, format, args...)
}

// blamed gives an error without a reason that of what was being done, unless it is the
// disk's.
func blamed(reason string, err error) error {
	if err == nil {
		return nil
	}
	for _, full := range []error{syscall.ENOSPC, syscall.EDQUOT} {
		if errors.Is(err, full) {
			return sourceError(GitCacheFull, err)
		}
	}
	if _, ok := errors.AsType[*spec.SourceError](err); ok {
		return err
	}
	return sourceError(reason, err)
}

// reasonOf is the reason of an error, "" for none.
func reasonOf(err error) string {
	if e, ok := errors.AsType[*spec.SourceError](err); ok {
		return e.Reason
	}
	return ""
}
