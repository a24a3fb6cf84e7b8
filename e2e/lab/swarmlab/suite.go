//go:build linux

package swarmlab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// Engines of other Debian suites than this machine's: each is fetched once by
// debootstrap into a cache, and a lab's hosts see its files in place of their own. The
// machine's own engine is never touched.

// halfMade is what the name of a suite that is being made begins with, or of one
// that never was finished.
const halfMade = ".making-"

// Cache is the directory that holds the systems of other Debian suites, about
// 400 MB each, so that they are fetched once: skep-lab in the user's cache. All
// of it may be removed at any time when no lab runs.
func Cache() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find where to keep the engines of other suites: %w (set XDG_CACHE_HOME)", err)
	}
	return filepath.Join(dir, "skep-lab"), nil
}

// mirror is where suites are fetched from: SKEP_LAB_MIRROR, or Debian's own.
func mirror() string {
	if url := os.Getenv("SKEP_LAB_MIRROR"); url != "" {
		return url
	}
	return "http://deb.debian.org/debian"
}

var suiteName = regexp.MustCompile(`^[a-z][a-z-]*$`)

// Suite returns the directory of a Debian suite's system with its engine, of which
// there is /usr and /etc. The first call fetches it, which takes half a minute;
// those after it find it where Cache says. No suite is ever brought up to date:
// remove it to have it fetched anew.
func Suite(ctx context.Context, suite string) (dir string, err error) {
	if !suiteName.MatchString(suite) {
		return "", fmt.Errorf("%q is not the name of a Debian suite", suite)
	}
	cache, err := Cache()
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", fmt.Errorf("make the cache of suites: %w", err)
	}
	dir = filepath.Join(cache, suite+"-"+runtime.GOARCH)
	lock, err := lockSuite(ctx, dir)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if _, err := lookPath("debootstrap"); err != nil {
		return "", fmt.Errorf("the engine of Debian %s needs debootstrap, which is not installed: run `make tools`", suite)
	}
	making := filepath.Join(cache, halfMade+filepath.Base(dir))
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(making))
		}
	}()
	if err := bootstrap(ctx, suite, making); err != nil {
		return "", fmt.Errorf("fetch Debian %s from %s: %w", suite, mirror(), err)
	}
	if err := os.Rename(making, dir); err != nil {
		return "", fmt.Errorf("fetch Debian %s: %w", suite, err)
	}
	return dir, nil
}

// lockSuite waits for another process that makes the same suite.
func lockSuite(ctx context.Context, dir string) (lock *os.File, err error) {
	err = wait(ctx, 10*time.Minute, "another process that fetches "+filepath.Base(dir), func() error {
		lock, err = flock(dir+".lock", false)
		return err
	})
	return lock, err
}

// bootstrap makes a system of the suite in dir and leaves there what an engine
// needs of it.
func bootstrap(ctx context.Context, suite, dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	// In namespaces of its own, so that what it mounts and starts ends with it,
	// however this process ends.
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", `set -eu
mount --make-rprivate /
mount -t proc proc /proc
debootstrap --variant=minbase --include=docker.io,iptables,iproute2,ca-certificates "$1" "$2" "$3"
cd "$2"
mkdir -p etc/docker
find . -mindepth 1 -maxdepth 1 ! -name usr ! -name etc -exec rm -rf --one-file-system {} +
`, "bootstrap", suite, dir, mirror())
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=" + systemPath, "LC_ALL=C"}
	for _, name := range []string{"http_proxy", "https_proxy", "no_proxy"} {
		if value, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID,
		Setsid:     true,
		Pdeathsig:  syscall.SIGKILL,
	}
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	// The parent whose death is meant is a thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Run(); err != nil {
		lines := strings.Split(strings.TrimSpace(said.String()), "\n")
		return errors.Join(ctx.Err(), fmt.Errorf("%w: %s", err, strings.Join(lines[max(0, len(lines)-5):], "\n")))
	}
	return nil
}

// reapSuites removes suites that were never finished and that nobody makes now.
func reapSuites() error {
	cache, err := Cache()
	if err != nil {
		return nil // then there are none
	}
	left, err := filepath.Glob(filepath.Join(cache, halfMade+"*"))
	if err != nil {
		return fmt.Errorf("look for suites that were left half made: %w", err)
	}
	var errs []error
	for _, making := range left {
		name := strings.TrimPrefix(filepath.Base(making), halfMade)
		lock, err := flock(filepath.Join(cache, name+".lock"), false)
		if errors.Is(err, syscall.EWOULDBLOCK) {
			continue
		}
		if err == nil {
			err = errors.Join(os.RemoveAll(making), lock.Close())
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("remove a suite that was left half made: %w", err))
		}
	}
	return errors.Join(errs...)
}
