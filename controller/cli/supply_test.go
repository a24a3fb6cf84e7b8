package cli

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"debug/buildinfo"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

const root = "../.."

// docs/dependencies.md has a line with a reason for each direct dependency, and for
// nothing else.
func TestDependenciesAreTold(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "mod", "edit", "-json", root+"/go.mod").Output()
	if err != nil {
		t.Fatal(err)
	}
	var mod struct {
		Require []struct {
			Path     string
			Indirect bool
		}
		Tool    []struct{ Path string }
		Replace []any
	}
	if err := json.Unmarshal(out, &mod); err != nil {
		t.Fatal(err)
	}
	if len(mod.Replace) > 0 {
		t.Error("go.mod replaces modules: what is built is not what it names")
	}
	var direct []string
	for _, r := range mod.Require {
		if !r.Indirect || slices.ContainsFunc(mod.Tool, func(x struct{ Path string }) bool { return strings.HasPrefix(x.Path, r.Path+"/") }) {
			direct = append(direct, regexp.MustCompile(`/v[0-9]+$`).ReplaceAllString(r.Path, ""))
		}
	}
	text, err := os.ReadFile(root + "/docs/dependencies.md")
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	for _, row := range regexp.MustCompile("(?m)^\\| (`.*) \\| (.*) \\|$").FindAllStringSubmatch(string(text), -1) {
		if len(row[2]) < 20 {
			t.Errorf("%s is there for no reason", row[1])
		}
		for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(row[1], -1) {
			told = append(told, regexp.MustCompile(`/v[0-9]+$`).ReplaceAllString(m[1], ""))
		}
	}
	slices.Sort(direct)
	slices.Sort(told)
	if !slices.Equal(direct, told) {
		t.Errorf("go.mod has\n%s\ndocs/dependencies.md has\n%s", strings.Join(direct, "\n"), strings.Join(told, "\n"))
	}
}

func TestMaterials(t *testing.T) {
	info := &debug.BuildInfo{
		GoVersion: "go1.26.1", Main: debug.Module{Path: "github.com/skep-io/skep"},
		Settings: []debug.BuildSetting{{Key: "vcs.revision", Value: "abc"}, {Key: "-ldflags", Value: "-X secret"}, {Key: "GOOS", Value: "linux"}},
		Deps: []*debug.Module{
			{Path: "github.com/docker/docker", Version: "v28.5.2+incompatible", Sum: "h1:x="},
			{Path: "example.com/old", Version: "v1.0.0", Replace: &debug.Module{Path: "example.com/new", Version: "v1.0.1"}},
		},
	}
	got, err := json.Marshal(materials(info, "v1.2.3"))
	if err != nil {
		t.Fatal(err)
	}
	want := `{"bomFormat":"CycloneDX","specVersion":"1.5","version":1,"metadata":{"component":{"type":"application",` +
		`"bom-ref":"pkg:golang/github.com/skep-io/skep@v1.2.3","name":"github.com/skep-io/skep","version":"v1.2.3","purl":"pkg:golang/github.com/skep-io/skep@v1.2.3",` +
		`"licenses":[{"license":{"id":"Apache-2.0"}}],"properties":[{"name":"go:build:GOOS","value":"linux"},{"name":"go:build:vcs.revision","value":"abc"}]}},` +
		`"components":[{"type":"library","bom-ref":"pkg:golang/example.com/new@v1.0.1","name":"example.com/new","version":"v1.0.1","purl":"pkg:golang/example.com/new@v1.0.1"},` +
		`{"type":"library","bom-ref":"pkg:golang/github.com/docker/docker@v28.5.2%2Bincompatible","name":"github.com/docker/docker","version":"v28.5.2+incompatible",` +
		`"purl":"pkg:golang/github.com/docker/docker@v28.5.2%2Bincompatible","properties":[{"name":"go:sum","value":"h1:x="}]},` +
		`{"type":"library","bom-ref":"pkg:golang/std@1.26.1","name":"std","version":"1.26.1","purl":"pkg:golang/std@1.26.1"}]}`
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestReproducibleBuild has `make build` run in one directory and `make release` in
// another, with different environments, on the same commit: the same bytes come out,
// and the binary tells all that is in it.
func TestReproducibleBuild(t *testing.T) {
	if testing.Short() {
		t.Skip("-short leaves builds out")
	}
	dir := filepath.Join(t.TempDir(), "built-here")
	runMake(t, dir, "build", "HOME=/root", "TZ=UTC", "LANG=C")
	other := filepath.Join(t.TempDir(), "built-elsewhere/with/a/longer")
	runMake(t, other, "release", "HOME=/tmp", "TZ=Asia/Tokyo", "LANG=de_DE.UTF-8", "USER=somebody", "GOFLAGS=-buildvcs=false")
	built := filepath.Join(dir, "dist", "skep")
	released := filepath.Join(other, "dist", "release")
	first, err := os.ReadFile(built)
	if err != nil {
		t.Fatal(err)
	}
	second, err := os.ReadFile(filepath.Join(released, "skep-linux-"+runtime.GOARCH))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, second) {
		t.Errorf("two builds of %d and %d bytes differ", len(first), len(second))
	}
	for _, word := range []string{filepath.Dir(filepath.Dir(dir)), "/root/", "built-here", "built-elsewhere"} {
		if bytes.Contains(first, []byte(word)) {
			t.Errorf("the binary knows %s", word)
		}
	}
	checkBinary(t, built)
	checkRelease(t, released)
}

// runMake makes a target in dir, of a copy of what the program is made of.
func runMake(t *testing.T, dir, target string, env ...string) {
	t.Helper()
	commitCopy(t, dir)
	cmd := exec.CommandContext(t.Context(), "make", target)
	cmd.Dir = dir
	cmd.Env = append(append(os.Environ(), goCaches(t)...), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make %s: %v\n%s", target, err, out)
	}
}

// checkRelease sees that a release has all that it should, that its checksums are
// right, and that what is for another platform is.
func checkRelease(t *testing.T, dir string) {
	t.Helper()
	sums := exec.CommandContext(t.Context(), "sha256sum", "--strict", "-c", "SHA256SUMS")
	sums.Dir = dir
	if out, err := sums.CombinedOutput(); err != nil {
		t.Errorf("its checksums: %v\n%s", err, out)
	}
	var names []string
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	want := []string{"SHA256SUMS", "skep-extras.tar.gz",
		"skep-linux-amd64", "skep-linux-amd64.cdx.json", "skep-linux-amd64.rootfs.tar.gz",
		"skep-linux-arm64", "skep-linux-arm64.cdx.json", "skep-linux-arm64.rootfs.tar.gz"}
	if !slices.Equal(names, want) {
		t.Errorf("it has %v, want %v", names, want)
	}
	for _, arch := range []string{"amd64", "arm64"} {
		binary := filepath.Join(dir, "skep-linux-"+arch)
		info, err := buildinfo.ReadFile(binary)
		if err != nil {
			t.Fatal(err)
		}
		for key, value := range map[string]string{"GOARCH": arch, "GOOS": "linux", "CGO_ENABLED": "0"} {
			if !slices.Contains(info.Settings, debug.BuildSetting{Key: key, Value: value}) {
				t.Errorf("%s was not built with %s=%s", binary, key, value)
			}
		}
		bill, err := os.ReadFile(binary + ".cdx.json")
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(bill, []byte(`"go:build:GOARCH"`)) || !bytes.Contains(bill, []byte(`"`+arch+`"`)) || !bytes.Contains(bill, []byte(`skep@v1.2.3"`)) {
			t.Errorf("the bill of %s is not its own:\n%s", binary, bill[:min(len(bill), 1000)])
		}
		if got, want := contents(t, binary+".rootfs.tar.gz"), []string{"etc/ssl/certs/ca-certificates.crt", "skep"}; !slices.Equal(got, want) {
			t.Errorf("the root of an image for %s has %v, want %v", arch, got, want)
		}
	}
	extras := contents(t, filepath.Join(dir, "skep-extras.tar.gz"))
	for _, name := range []string{"LICENSE", "CHANGELOG.md", "skep.1", "completion/skep", "completion/_skep", "completion/skep.fish", "deploy/stack.yml"} {
		if !slices.Contains(extras, name) {
			t.Errorf("the extras have no %s: %v", name, extras)
		}
	}
}

// contents are the names of an archive's files, which belong to root and are none of
// them empty.
func contents(t *testing.T, archive string) []string {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	packed, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for files := tar.NewReader(packed); ; {
		h, err := files.Next()
		if err == io.EOF {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if h.Uid != 0 || h.Uname != "" || h.Size == 0 || h.ModTime.Unix() != 1577836800 {
			t.Errorf("%s in %s: %+v", h.Name, archive, h)
		}
		names = append(names, strings.TrimPrefix(h.Name, "./"))
	}
}

// goCaches are the caches that Go uses here: another HOME must not empty them.
func goCaches(t *testing.T) []string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "env", "GOCACHE", "GOMODCACHE", "GOPATH").Output()
	if err != nil {
		t.Fatal(err)
	}
	dirs := strings.Split(strings.TrimSpace(string(out)), "\n")
	return []string{"GOCACHE=" + dirs[0], "GOMODCACHE=" + dirs[1], "GOPATH=" + dirs[2]}
}

// commitCopy copies what the program is made of into dir, and commits it there as it
// would be committed anywhere.
func commitCopy(t *testing.T, dir string) {
	t.Helper()
	for _, name := range []string{"Makefile", "LICENSE", "CHANGELOG.md", "go.mod", "go.sum", "main.go"} {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err == nil {
			err = os.MkdirAll(dir, 0o755)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), text, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"spec", "reconcile", "controller", "deploy"} {
		if err := os.CopyFS(filepath.Join(dir, name), os.DirFS(filepath.Join(root, name))); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, ".gitignore"), []byte("/dist/\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"init", "-q"}, {"add", "-A"},
		{"-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "commit.gpgsign=false", "commit", "-q", "-m", "all"},
		{"tag", "v1.2.3"},
	} {
		cmd := exec.CommandContext(t.Context(), "git", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GIT_AUTHOR_DATE=2020-01-01T00:00:00Z", "GIT_COMMITTER_DATE=2020-01-01T00:00:00Z")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %s: %v\n%s", args[0], err, out)
		}
	}
}

// checkBinary sees that the bill of a binary has what a reader of CycloneDX wants, and
// every module that the toolchain says is in it.
func checkBinary(t *testing.T, binary string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), binary, "version", "--sbom").Output()
	if err != nil {
		t.Fatal(err)
	}
	again, err := exec.CommandContext(t.Context(), binary, "version", "--sbom").Output()
	if err != nil || !bytes.Equal(out, again) {
		t.Errorf("it says something else the second time: %v", err)
	}
	var b bom
	dec := json.NewDecoder(bytes.NewReader(out))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&b); err != nil {
		t.Fatal(err)
	}
	self := b.Metadata.Component
	if b.Format != "CycloneDX" || b.Spec != "1.5" || b.Version != 1 || self.Name != "github.com/skep-io/skep" || self.Version != "v1.2.3" || self.Type != "application" {
		t.Errorf("%+v of %+v", b, self)
	}
	if !slices.ContainsFunc(self.Properties, func(p bomProperty) bool { return p.Name == "go:build:vcs.revision" && len(p.Value) == 40 }) {
		t.Errorf("it does not tell its commit: %v", self.Properties)
	}
	refs := map[string]bool{self.Ref: true}
	for _, c := range b.Components {
		if refs[c.Ref] || c.Type != "library" || c.Version == "" || !strings.HasPrefix(c.PURL, "pkg:golang/") {
			t.Errorf("component %+v", c)
		}
		refs[c.Ref] = true
	}
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range info.Deps {
		if !refs[packageURL(m.Path, m.Version)] {
			t.Errorf("%s %s is missing", m.Path, m.Version)
		}
	}
	if len(b.Components) != len(info.Deps)+1 || len(info.Deps) < 20 {
		t.Errorf("%d components of %d modules", len(b.Components), len(info.Deps))
	}
	for _, s := range info.Settings {
		if s.Key == "CGO_ENABLED" && s.Value != "0" {
			t.Error("it is built with cgo")
		}
	}
}

// deploy/release-workflow.yml calls nothing that is not there.
func TestReleaseWorkflow(t *testing.T) {
	text, err := os.ReadFile(root + "/deploy/release-workflow.yml")
	if err != nil {
		t.Fatal(err)
	}
	var flow struct {
		On          map[string]any    `yaml:"on"`
		Permissions map[string]string `yaml:"permissions"`
		Jobs        map[string]struct {
			Needs any `yaml:"needs"`
			Steps []struct {
				Uses string `yaml:"uses"`
				Run  string `yaml:"run"`
			} `yaml:"steps"`
		} `yaml:"jobs"`
	}
	if err := yaml.Unmarshal(text, &flow); err != nil {
		t.Fatal(err)
	}
	if flow.Permissions["contents"] != "read" || len(flow.Jobs) == 0 {
		t.Errorf("jobs %v with permissions %v, want few of them unless a job says more", flow.Jobs, flow.Permissions)
	}
	makefile, err := os.ReadFile(root + "/Makefile")
	if err != nil {
		t.Fatal(err)
	}
	calls := 0
	for _, job := range flow.Jobs {
		for _, s := range job.Steps {
			for _, m := range regexp.MustCompile(`\bmake ([a-z]+)`).FindAllStringSubmatch(s.Run, -1) {
				calls++
				if !bytes.Contains(makefile, []byte("\n"+m[1]+":")) {
					t.Errorf("there is no make %s", m[1])
				}
			}
		}
	}
	if calls < 3 {
		t.Errorf("only %d calls were found", calls)
	}
}
