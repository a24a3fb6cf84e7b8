package spec

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A stack reads nothing outside of its folder, whatever leads there.
func TestLoadConfined(t *testing.T) {
	t.Parallel()
	outside := filepath.Join(t.TempDir(), "outside")
	writeFile(t, outside, "A=leaked\n")
	root := t.TempDir()
	folder := filepath.Join(root, "shop")
	writeFile(t, filepath.Join(root, "other", "file"), "A=leaked\n")
	writeFile(t, filepath.Join(folder, "fine"), "A=fine\n")
	for link, to := range map[string]string{
		"absolute": outside, "relative": "../other/file", "folder": "..", "inside": "fine",
	} {
		if err := os.Symlink(to, filepath.Join(folder, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(folder, "pipe"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, use := range []string{
		"configs: {c: {file: %s}}\nservices: {web: {image: 'x:1'}}",
		"secrets: {c: {file: %s}}\nservices: {web: {image: 'x:1'}}",
		"services: {web: {image: 'x:1', env_file: %s}}",
		"services: {web: {image: 'x:1', env_file: [{path: %s, required: false}]}}",
		"services: {web: {image: 'x:1', label_file: %s}}",
		"services: {web: {extends: {file: %s, service: web}}}",
	} {
		for _, file := range []string{"absolute", "relative", "folder/other/file", "pipe", outside, "../other/file", "sub/../../other/file", "~/x"} {
			writeFile(t, filepath.Join(folder, "compose.yaml"), fmt.Sprintf(use, file))
			stack, findings := load(t.Context(), shop(t, root), Options{})
			if stack != nil || !hasError(findings) {
				t.Errorf("%s of %s: loaded, want an error", use, file)
			}
			if strings.Contains(string(findingsText(findings)), "leaked") {
				t.Errorf("%s of %s: the file's content is in a finding", use, file)
			}
		}
		if !strings.Contains(use, "extends") {
			writeFile(t, filepath.Join(folder, "compose.yaml"), fmt.Sprintf(use, "inside"))
			if stack, findings := load(t.Context(), shop(t, root), Options{}); stack == nil {
				t.Errorf("%s of a link within the folder: %s", use, findingsText(findings))
			}
		}
	}
}

// What the compose file and its .env are themselves is confined too.
func TestLoadConfinedItself(t *testing.T) {
	t.Parallel()
	outside := filepath.Join(t.TempDir(), "outside")
	writeFile(t, outside, "services: {web: {image: '${IMAGE:-none:1}'}}\n#IMAGE=leaked:1\n")
	root := t.TempDir()
	folder := filepath.Join(root, "shop")
	writeFile(t, filepath.Join(folder, "compose.yaml"), "services: {web: {image: 'x:1'}}")
	if err := os.Symlink(outside, filepath.Join(folder, ".env")); err != nil {
		t.Fatal(err)
	}
	if stack, findings := load(t.Context(), shop(t, root), Options{}); stack != nil {
		t.Errorf("a .env outside of the folder was read: %s", findingsText(findings))
	}
	os.Remove(filepath.Join(folder, ".env"))
	os.Remove(filepath.Join(folder, "compose.yaml"))
	if err := os.Symlink(outside, filepath.Join(folder, "compose.yaml")); err != nil {
		t.Fatal(err)
	}
	if stack, findings := load(t.Context(), shop(t, root), Options{}); stack != nil {
		t.Errorf("a compose file outside of the folder was read: %s", findingsText(findings))
	}
}

// The process's environment stays outside, and so does what Options do not allow.
func TestLoadOwnEnvironment(t *testing.T) {
	t.Setenv("SKEP_TEST_LEAK", "leaked")
	t.Setenv("HOME", "/leaked")
	stack, findings := loadText(t, "services: {web: {image: 'x:1', environment: [SKEP_TEST_LEAK], labels: {a: '${SKEP_TEST_LEAK}'}}}")
	if stack == nil {
		t.Fatalf("%s", findingsText(findings))
	}
	if out := string(objectsJSON(stack)); strings.Contains(out, "leaked") {
		t.Errorf("the process's environment is in the stack: %s", out)
	}
	if stack, _ := loadText(t, "services: {web: {image: 'x:1', volumes: ['~/x:/x:ro']}}"); stack != nil {
		t.Error("~ was expanded to this process's HOME")
	}
}

// A secret's value is in nothing that can be printed, and in no finding.
func TestLoadSecretsStaySecret(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	writeFile(t, filepath.Join(root, "shop", "pw"), "hunter2-file")
	writeFile(t, filepath.Join(root, "shop", ".env"), "PW=hunter2-dotenv\n")
	writeFile(t, filepath.Join(root, "shop", "compose.yaml"), `
services: {web: {image: "x:1", secrets: [file, dotenv, env], environment: {PASSWORD: hunter2-literal}}}
secrets: {file: {file: pw}, dotenv: {environment: PW}, env: {environment: ALLOWED}}
`)
	stack, findings := load(t.Context(), shop(t, root), Options{Env: map[string]string{"ALLOWED": "hunter2-env"}})
	if stack == nil {
		t.Fatalf("%s", findingsText(findings))
	}
	for i, want := range []string{"hunter2-dotenv", "hunter2-env", "hunter2-file"} {
		if got := string(stack.Secrets[i].Value.Reveal()); got != want {
			t.Errorf("secret %s = %q, want %q", stack.Secrets[i].Key, got, want)
		}
		if len(stack.Secrets[i].Spec.Data) > 0 {
			t.Errorf("secret %s has its data in its spec", stack.Secrets[i].Key)
		}
	}
	encoded, err := json.Marshal(stack.Secrets)
	if err != nil {
		t.Fatal(err)
	}
	for _, printed := range []string{string(encoded), fmt.Sprintf("%v %+v %#v", stack.Secrets, stack.Secrets, stack.Secrets), string(findingsText(findings))} {
		if strings.Contains(printed, "hunter2") {
			t.Errorf("a secret is printed: %s", printed)
		}
	}
}

// The same files make the same stack, byte for byte.
func TestLoadDeterministic(t *testing.T) {
	t.Parallel()
	text := `
x-skep: {nope: 1, prune: 5}
services:
  b: {image: "x", build: ., privileged: true, ports: ["80:80", "99999:1"], zzz: 1, deploy: {replicas: x, mode: 5}}
  a: {image: [5], healthcheck: {test: 5, retries: []}, networks: [n, m], ulimits: {a: b, c: d}}
networks: {n: {driver: 5, zz: 1}, m: {external: {name: x}, name: y}}
`
	_, first := loadText(t, text)
	if len(first) < 5 {
		t.Fatalf("only these findings: %s", findingsText(first))
	}
	for range 30 {
		if _, again := loadText(t, text); !reflect.DeepEqual(first, again) {
			t.Fatalf("other findings for the same file:\n%s---\n%s", findingsText(first), findingsText(again))
		}
	}
	root := t.TempDir()
	writeFile(t, filepath.Join(root, "shop", "one.env"), "A=1\nB=2\nC=3\n")
	writeFile(t, filepath.Join(root, "shop", "compose.yaml"), `
services:
  a: {image: "x:1", env_file: one.env, environment: {D: 1, E: 2}, labels: {x: "1", y: "2"}, cap_add: [A, B, C], ports: ["80-90:80-90", "70:1"], networks: [n, m], configs: [d, c], ulimits: {x: 1, y: 2}}
  b: {image: "x:1", extra_hosts: {b: 10.0.0.1, a: 10.0.0.2}, depends_on: {a: {condition: service_started}}, sysctls: {a: 1, b: 2}}
networks: {n: {}, m: {}}
configs: {c: {content: x}, d: {content: y}}
`)
	stack, _ := load(t.Context(), shop(t, root), Options{})
	want := objectsJSON(stack)
	for range 30 {
		again, _ := load(t.Context(), shop(t, root), Options{})
		if got := objectsJSON(again); string(got) != string(want) || again.Source.Fingerprint != stack.Source.Fingerprint {
			t.Fatal("another stack for the same file")
		}
	}
}

// The fingerprint moves with every file that was read and every variable that was
// used, and with nothing else.
func TestLoadFingerprint(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	write := func(name, text string) { writeFile(t, filepath.Join(root, "shop", name), text) }
	write("compose.yaml", "services: {web: {image: 'x:${TAG}', configs: [c], env_file: e}}\nconfigs: {c: {file: c}}")
	write("c", "content")
	write("e", "A=1")
	write(".env", "TAG=1\nUNUSED=1\n")
	print := func() string {
		stack, findings := load(t.Context(), shop(t, root), Options{})
		if stack == nil {
			t.Fatalf("%s", findingsText(findings))
		}
		if want := []string{"shop/.env", "shop/c", "shop/compose.yaml", "shop/e"}; !slices.Equal(stack.Source.Files, want) || stack.Source.File != "shop/compose.yaml" {
			t.Errorf("source %q of %q, want %q", stack.Source.File, stack.Source.Files, want)
		}
		return stack.Source.Fingerprint
	}
	first := print()
	write(".env", "TAG=1\nUNUSED=2\n")
	write("other", "x")
	if print() != first {
		t.Error("moved with what the stack does not use")
	}
	seen := map[string]bool{first: true}
	for _, change := range [][2]string{{".env", "TAG=2\n"}, {"c", "changed"}, {"e", "A=2"}} {
		write(change[0], change[1])
		if now := print(); seen[now] {
			t.Errorf("did not move with %s", change[0])
		} else {
			seen[now] = true
		}
	}
}

func TestLoadCancelled(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	writeFile(t, filepath.Join(root, "shop", "compose.yaml"), "services: {web: {image: 'x:1'}}")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if stack, findings := load(ctx, shop(t, root), Options{}); stack != nil || !slices.Contains(codes(findings, Error), "cancelled") {
		t.Errorf("stack %v, findings %s", stack != nil, findingsText(findings))
	}
}

// LoadFile names a stack by its path.
func TestLoadFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const text = "services: {web: {image: 'x:${TAG:-1}'}}"
	for _, name := range []string{"shop.yml", "blog/compose.yaml", "blog/own.yaml", "wiki/docker-stack.yml", "two/compose.yml", "two/stack.yml"} {
		writeFile(t, filepath.Join(dir, name), text)
	}
	writeFile(t, filepath.Join(dir, "blog/.env"), "TAG=2\n")
	writeFile(t, filepath.Join(dir, "named.yml"), "name: given\n"+text)
	for _, c := range []struct{ path, name, image string }{
		{"shop.yml", "shop", "x:1"},
		{"blog", "blog", "x:2"},
		{"blog/compose.yaml", "blog", "x:2"},
		{"blog/own.yaml", "own", "x:2"},
		{"wiki/docker-stack.yml", "wiki", "x:1"},
		{"named.yml", "given", "x:1"},
	} {
		stack, findings := LoadFile(t.Context(), filepath.Join(dir, c.path), Options{})
		if stack == nil {
			t.Errorf("%s: %s", c.path, findingsText(findings))
			continue
		}
		if image := stack.Services[0].Spec.TaskTemplate.ContainerSpec.Image; stack.Name != c.name || image != c.image {
			t.Errorf("%s: stack %s with image %s, want %s with %s", c.path, stack.Name, image, c.name, c.image)
		}
	}
	for _, path := range []string{"two", "none.yml", "."} {
		if stack, findings := LoadFile(t.Context(), filepath.Join(dir, path), Options{}); stack != nil || !hasError(findings) {
			t.Errorf("%s was loaded: %s", path, findingsText(findings))
		}
	}
}

// What variables can make of a file is bounded, and what braces cost too.
func TestLoadHostileVariables(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"multiplied": "services: {web: {image: 'x:1', environment: {A: '" + strings.Repeat("$BIG", 50_000) + "'}}}",
		"braces":     "services: {web: {image: 'x:1', environment: {A: '" + strings.Repeat("${A:-{", 150_000) + "'}}}",
		"nested":     "services: {web: {image: 'x:1', environment: {A: '" + strings.Repeat("${A:-", 1000) + strings.Repeat("}", 1000) + "'}}}",
	} {
		root := t.TempDir()
		writeFile(t, filepath.Join(root, "shop", "compose.yaml"), text)
		start := time.Now()
		stack, findings := load(t.Context(), shop(t, root), Options{Env: map[string]string{"BIG": strings.Repeat("x", 100_000)}})
		if took := time.Since(start); took > 20*time.Second {
			t.Errorf("%s took %v", name, took)
		}
		if stack != nil || !slices.Contains(codes(findings, Error), "variable") {
			t.Errorf("%s was loaded", name)
		}
	}
}

// Every file of a corpus of real ones loads, or is refused with a finding that says
// where. SKEP_CORPUS names the folder.
func TestLoadCorpus(t *testing.T) {
	dir := os.Getenv("SKEP_CORPUS")
	if dir == "" {
		t.Log("SKEP_CORPUS names no folder of compose files: the cases in testdata stand alone")
		return
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.y*ml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no compose files in %s", dir)
	}
	loaded := 0
	for _, file := range files {
		stack, findings := LoadFile(t.Context(), file, Options{})
		if stack != nil {
			loaded++
			continue
		}
		for _, f := range findings {
			placed := f.Line > 0 || f.Code == "invalid-name" // a name may be the path's
			if f.Severity == Error && (!placed || f.Message == "") {
				t.Errorf("%s: an error without a place: %s", filepath.Base(file), f)
			}
		}
		if !hasError(findings) {
			t.Errorf("%s: neither loaded nor refused", filepath.Base(file))
		}
	}
	t.Logf("%d of %d loaded", loaded, len(files))
}

// Literal text comes out of interpolation as it went in, once its dollars are
// doubled, and so does a variable's value, whatever is in it.
func TestInterpolateLiteral(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		literal, value := rapid.String().Draw(t, "literal"), rapid.String().Draw(t, "value")
		r := &report{}
		in := &interpolator{env: map[string]string{"V": value}, report: r, used: map[string]*string{}}
		out := in.tree(strings.ReplaceAll(literal, "$", "$$")+"${V}"+"$V", []string{"services", "web", "hostname"})
		if want := literal + value + value; out != want {
			t.Fatalf("got %q, want %q", out, want)
		}
		if len(r.findings) > 0 {
			t.Fatalf("findings: %v", r.findings)
		}
	})
}

// A default without variables in it is literal text.
func TestInterpolateDefaultLiteral(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.StringMatching(`[a-zA-Z0-9$./: ,=-]*`).Filter(func(s string) bool { return !strings.Contains(s, "$$") }).Draw(t, "default")
		r := &report{}
		in := &interpolator{env: map[string]string{}, report: r, used: map[string]*string{}}
		if out := in.tree("<${V:-"+word+"}>", []string{"x"}); out != "<"+word+">" {
			t.Fatalf("default %q became %q", word, out)
		}
	})
}
