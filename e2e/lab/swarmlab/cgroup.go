//go:build linux

package swarmlab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// cgroupName is the cgroup, from the root of each hierarchy, that all containers
// of the lab with that id are below.
func cgroupName(id string) string { return dirPrefix + id }

// removeCgroups kills what still runs below the cgroup name, in every hierarchy
// of this machine, version 1 or 2, and removes it.
func removeCgroups(name string) error {
	roots, err := mounts(func(_, fstype string) bool { return fstype == "cgroup" || fstype == "cgroup2" })
	if err != nil {
		return err
	}
	for _, root := range roots {
		dir := filepath.Join(root, name)
		err := wait(context.Background(), 20*time.Second, "cgroup "+dir+" to be empty", func() error { return removeCgroup(dir) })
		if err != nil {
			return err
		}
	}
	return nil
}

// removeCgroup tries once. A cgroup stays busy for a moment after its last process
// ended.
func removeCgroup(dir string) error {
	var dirs []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	if err != nil {
		return err
	}
	for i := len(dirs) - 1; i >= 0; i-- {
		if err := killCgroup(dirs[i]); err != nil {
			return err
		}
		if err := os.Remove(dirs[i]); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// killCgroup kills the processes that are in the cgroup itself.
func killCgroup(dir string) error {
	b, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, line := range strings.Fields(string(b)) {
		pid, err := strconv.Atoi(line)
		if err != nil || pid == 0 { // 0: a process this namespace cannot see
			continue
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("kill process %d of %s: %w", pid, dir, err)
		}
	}
	return nil
}
