package gitsync

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// syncFileSystem puts all of the file system that d lies on to the disk; all says that
// it can.
func syncFileSystem(d *os.File) (all bool, err error) {
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return true, fmt.Errorf("sync the cache's file system: %w", err)
	}
	return true, nil
}
