//go:build linux

package swarmlab

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestSuiteRefuses(t *testing.T) {
	if testing.Short() {
		t.Skip("a suite is not fetched under -short")
	}
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("SKEP_LAB_MIRROR", "file:///nonexistent")
	for suite, words := range map[string]string{
		"../etc": "not the name of a Debian suite",
		"trixie": "fetch Debian trixie from file:///nonexistent",
	} {
		dir, err := Suite(t.Context(), suite)
		if err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("suite %q: %q, %v", suite, dir, err)
		}
	}
	cache, err := Cache()
	if err != nil {
		t.Fatal(err)
	}
	for _, pattern := range []string{halfMade + "*", "trixie-" + runtime.GOARCH} {
		if left, err := filepath.Glob(filepath.Join(cache, pattern)); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	}
}

func TestReapRemovesHalfMadeSuites(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("SKEP_LAB_BASE", t.TempDir())
	cache, err := Cache()
	if err != nil {
		t.Fatal(err)
	}
	left, busy, whole := filepath.Join(cache, halfMade+"a"), filepath.Join(cache, halfMade+"b"), filepath.Join(cache, "c")
	for _, dir := range []string{left, busy, whole} {
		if err := os.MkdirAll(filepath.Join(dir, "usr"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	lock, err := flock(filepath.Join(cache, "b.lock"), false)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := Reap(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a suite that nobody makes is left: %v", err)
	}
	for _, dir := range []string{busy, whole} {
		if _, err := os.Stat(dir); err != nil {
			t.Error(err)
		}
	}
}
