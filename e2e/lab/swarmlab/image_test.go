//go:build linux

package swarmlab

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
)

// entries reads a tar: what each entry is, by name, in order.
func entries(t *testing.T, b []byte) (list []string, data map[string][]byte) {
	t.Helper()
	data = map[string][]byte{}
	r := tar.NewReader(bytes.NewReader(b))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return list, data
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, fmt.Sprintf("%c %s %o %s%s", h.Typeflag, h.Name, h.Mode, h.Linkname, body))
		data[h.Name] = body
	}
}

func TestArchive(t *testing.T) {
	files := []File{
		{Path: "/tmp", Mode: os.ModeDir | os.ModeSticky | 0o777},
		{Path: "/bin/b", Link: "a"},
		{Path: "/etc/x/y", Mode: 0o600, Data: []byte("why")},
		{Path: "/bin/a", Mode: 0o755, Data: []byte("aye")},
	}
	other := slices.Clone(files)
	slices.Reverse(other)
	got, err := Archive(Image{Ref: "one:1", Files: files, Env: []string{"A=1"}}, Image{Ref: "two:2", Files: other})
	if err != nil {
		t.Fatal(err)
	}
	list, data := entries(t, got)
	if len(list) != 4 { // one layer for both, two configurations, the manifest
		t.Fatalf("entries: %q", list)
	}
	manifest := string(data["manifest.json"])
	if !strings.Contains(manifest, `"RepoTags":["one:1"]`) || !strings.Contains(manifest, `"RepoTags":["two:2"]`) {
		t.Errorf("manifest: %s", manifest)
	}
	var layer []byte
	for name, b := range data {
		if strings.HasSuffix(name, "/layer.tar") {
			layer = b
		}
	}
	inside, _ := entries(t, layer)
	want := []string{
		"5 bin/ 755 ", "0 bin/a 755 aye", "2 bin/b 777 a",
		"5 etc/ 755 ", "5 etc/x/ 755 ", "0 etc/x/y 600 why",
		"5 tmp/ 1777 ",
	}
	if !slices.Equal(inside, want) {
		t.Errorf("layer:\n%q\nwant\n%q", inside, want)
	}
}

func TestArchiveRefuses(t *testing.T) {
	for name, f := range map[string]File{
		"relative path":  {Path: "bin/a"},
		"missing source": {Path: "/a", Source: "/nonexistent"},
	} {
		if _, err := Archive(Image{Ref: "x:1", Files: []File{f}}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
