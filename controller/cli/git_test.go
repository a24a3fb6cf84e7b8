package cli

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/skep-io/skep/spec"
)

// Repositories of flags and of a file become sources, each with a cache of its own that
// it finds again.
func TestGitSources(t *testing.T) {
	dir := t.TempDir()
	g := gitFlags{cache: dir, maxSize: 1 << 20}
	g.of.Ref, g.of.Interval = "main", 1
	for _, url := range []string{"file:///srv/stacks.git", "shops=file:///srv/stacks.git", "git@git.example:team/infra.git"} {
		if err := g.urls.Set(url); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := g.urls.String(), "file:///srv/stacks.git, shops=file:///srv/stacks.git, ssh://git.example/team/infra.git"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	configs, err := (&sourceFlags{git: g}).configs()
	if err != nil {
		t.Fatal(err)
	}
	caches := map[string]bool{}
	for i, name := range []string{"stacks", "shops", "infra"} {
		if c := configs[i]; c.Name != name || c.Ref != "main" {
			t.Errorf("%+v, want %s", c, name)
		}
		caches[filepath.Base(g.cacheOf(configs[i]))] = true
	}
	other := configs[0]
	other.Path = "sub"
	caches[filepath.Base(g.cacheOf(other))] = true
	if len(caches) != 3 { // shops is the same as stacks
		t.Errorf("caches %v", caches)
	}
	defer g.close()
	source, err := g.open(configs[0])
	if err != nil {
		t.Fatal(err)
	}
	if source.Name != "stacks" || !strings.HasPrefix(source.Dir, dir) || source.Keep == nil || source.Look == nil || spec.SourceReason(source.State()) != "GitNotRead" {
		t.Errorf("%+v (%v)", source, source.State())
	}
	if _, err := g.open(configs[1]); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("two sources of one thing share a cache: %v", err)
	}
	if g.urls.Set("") == nil {
		t.Error("nothing names a repository")
	}
}
