//go:build unix

package cli

import (
	"os"
	"os/user"
	"slices"
	"strconv"
	"syscall"
)

// socketGroup is the name of the group that a socket belongs to, and whether the user is
// in it by the system's files; empty where that cannot be told, or is root's.
func socketGroup(socket string) (group string, has bool) {
	info, err := os.Stat(socket)
	if err != nil {
		return "", false
	}
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok || s.Gid == 0 {
		return "", false
	}
	id := strconv.FormatUint(uint64(s.Gid), 10)
	group = id
	if g, err := user.LookupGroupId(id); err == nil {
		group = g.Name
	}
	if u, err := user.Current(); err == nil {
		ids, _ := u.GroupIds()
		has = slices.Contains(ids, id)
	}
	return group, has
}
