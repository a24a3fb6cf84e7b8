//go:build !linux

package gitsync

import "os"

// syncFileSystem is Linux's alone.
func syncFileSystem(*os.File) (all bool, err error) { return false, nil }
