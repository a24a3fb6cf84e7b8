package spec

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// A folder whose compose file has a name that skep does not look for is told, and
// the stack that may be meant is not gone.
func TestFolderWithoutAComposeFile(t *testing.T) {
	t.Parallel()
	const text = "services:\n  web:\n    image: a:1\n"
	d := newSpecs(t, map[string]string{
		"shop.yml": text + "    configs: [c]\nconfigs: {c: {file: used/c.yaml}}\n", "used/c.yaml": "a: b\n",
		"blog/compose.yaml": "name: journal\n" + text,
		"docs/README.md":    "words\n", "_base/base.yaml": text, ".git2/base.yaml": text,
	})
	s := NewScanner(d.dir, Options{})
	bare := func(snap *Snapshot) (files []string) {
		for _, f := range snap.Findings {
			if f.Code == "no-compose-file" {
				files = append(files, f.File)
				if f.Severity != Warning || !strings.Contains(f.Message, "prod.yml") {
					t.Errorf("%v", f)
				}
			}
		}
		return files
	}
	if snap := s.Scan(t.Context()); bare(snap) != nil || snap.Stacks["journal"] == nil {
		t.Fatalf("%v", snap.Findings)
	}
	d.check(os.Rename(d.path("blog/compose.yaml"), d.path("blog/prod.yml")))
	d.write("blog/more.yml", text)
	for scanner, s := range map[string]*Scanner{"the same": s, "another": NewScanner(d.dir, Options{})} {
		for range 2 {
			snap := s.Scan(t.Context())
			if !snap.Complete || !slices.Equal(bare(snap), []string{"blog"}) {
				t.Errorf("%s: complete %t, findings %v", scanner, snap.Complete, snap.Findings)
			}
			if snap.Gone("journal") || snap.Gone("blog") || !snap.Gone("other") {
				t.Errorf("%s: gone: journal %t, blog %t, other %t", scanner, snap.Gone("journal"), snap.Gone("blog"), snap.Gone("other"))
			}
		}
	}
	// What the stack was called is remembered, even where the file says it no more.
	d.write("blog/prod.yml", text)
	if snap := s.Scan(t.Context()); snap.Gone("journal") {
		t.Error("journal is gone with its folder still there")
	}
	d.check(os.RemoveAll(d.path("blog")))
	if snap := s.Scan(t.Context()); bare(snap) != nil || !snap.Gone("journal") || !snap.Gone("blog") {
		t.Errorf("with the folder gone: %v", snap.Findings)
	}
}
