package spec

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "write what came out into testdata, to be read before it is committed")

// TestLoad loads the stacks of testdata, one a file in the txtar format. Its files
// go into the folder of a stack "shop"; the file env holds what is allowed from the
// environment. What must come out of it stands beside them, as far as it matters
// there: want.json (the objects), policy.json, and findings.
func TestLoad(t *testing.T) {
	for _, dir := range []string{"convert", "lint", "policy"} {
		files, err := filepath.Glob(filepath.Join("testdata", dir, "*.txtar"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no cases in %s: %v", dir, err)
		}
		for _, file := range files {
			t.Run(dir+"/"+strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
				t.Parallel()
				runCase(t, file)
			})
		}
	}
}

var wanted = map[string]func(*Stack, []Finding) []byte{
	"want.json":   func(s *Stack, _ []Finding) []byte { return objectsJSON(s) },
	"policy.json": func(s *Stack, _ []Finding) []byte { return policyJSON(s) },
	"findings":    func(_ *Stack, f []Finding) []byte { return findingsText(f) },
}

func runCase(t *testing.T, file string) {
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	root := unpack(t, archive)
	stack, findings := load(context.Background(), shop(t, root), Options{Env: envOf(archive)})
	if (stack == nil) != hasError(findings) {
		t.Errorf("stack is nil: %v, findings:\n%s", stack == nil, findingsText(findings))
	}
	for i, f := range archive.Files {
		render, ok := wanted[f.Name]
		if !ok {
			continue
		}
		checked++
		got := bytes.ReplaceAll(render(stack, findings), []byte(root), []byte("/specs"))
		if *update {
			archive.Files[i].Data = got
		} else if !bytes.Equal(got, f.Data) {
			t.Errorf("%s is not as it should be.\n--- got\n%s--- want\n%s", f.Name, got, f.Data)
		}
	}
	if checked == 0 {
		t.Error("the case wants nothing: add want.json, policy.json or findings")
	}
	if *update {
		if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// unpack writes a case's files into the folder shop of a new specs directory.
func unpack(t testing.TB, archive *txtar.Archive) string {
	t.Helper()
	root := t.TempDir()
	for _, f := range archive.Files {
		if wanted[f.Name] != nil || f.Name == "env" {
			continue
		}
		writeFile(t, filepath.Join(root, "shop", f.Name), string(f.Data))
	}
	return root
}

func writeFile(t testing.TB, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// shop is the stack in the folder shop of a specs directory.
func shop(t testing.TB, dir string) stackFile {
	t.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return stackFile{root: root, dir: "shop", file: "shop/compose.yaml", name: "shop", dotenv: "shop/.env"}
}

func envOf(archive *txtar.Archive) map[string]string {
	env := map[string]string{}
	for _, f := range archive.Files {
		if f.Name == "env" {
			for line := range strings.Lines(string(f.Data)) {
				key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
				env[key] = value
			}
		}
	}
	return env
}

// loadText loads a compose file that stands alone.
func loadText(t testing.TB, text string) (*Stack, []Finding) {
	t.Helper()
	root := t.TempDir()
	writeFile(t, filepath.Join(root, "shop", "compose.yaml"), text)
	return load(context.Background(), shop(t, root), Options{})
}

// objectsJSON is a stack's objects; unlike anything that skep prints, with the
// values of its secrets, which a test has to see.
func objectsJSON(s *Stack) []byte {
	if s == nil {
		return []byte("null\n")
	}
	out := map[string]any{}
	put := func(key string, n int, value any) {
		if n > 0 {
			out[key] = value
		}
	}
	services := map[string]any{}
	for _, service := range s.Services {
		entry := map[string]any{"spec": service.Spec}
		if len(service.DependsOn) > 0 {
			entry["depends_on"] = service.DependsOn
		}
		if service.StartFirstUnsafe != "" {
			entry["start_first_unsafe"] = service.StartFirstUnsafe
		}
		services[service.Name] = entry
	}
	put("services", len(services), services)
	put("networks", len(s.Networks), s.Networks)
	var configs, secrets []any
	for _, c := range s.Configs {
		configs = append(configs, map[string]any{"key": c.Key, "name": c.Name, "external": c.External, "data": string(c.Spec.Data), "labels": c.Spec.Labels, "templating": c.Spec.Templating})
	}
	for _, c := range s.Secrets {
		secrets = append(secrets, map[string]any{"key": c.Key, "name": c.Name, "external": c.External, "value": string(c.Value.Reveal()), "labels": c.Spec.Labels, "driver": c.Spec.Driver, "templating": c.Spec.Templating})
	}
	put("configs", len(configs), configs)
	put("secrets", len(secrets), secrets)
	return indented(out)
}

func policyJSON(s *Stack) []byte {
	if s == nil {
		return []byte("null\n")
	}
	rollouts := map[string]Rollout{}
	for _, service := range s.Services {
		if service.Rollout != s.Policy.Rollout {
			rollouts[service.Key] = service.Rollout
		}
	}
	return indented(map[string]any{"stack": s.Policy, "services": rollouts})
}

func indented(value any) []byte {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(value); err != nil {
		panic(err)
	}
	return out.Bytes()
}

func findingsText(findings []Finding) []byte {
	var out bytes.Buffer
	for _, f := range findings {
		fmt.Fprintln(&out, f)
	}
	return out.Bytes()
}

// codes are the codes of findings of a severity.
func codes(findings []Finding, severity Severity) []string {
	var out []string
	for _, f := range findings {
		if f.Severity == severity {
			out = append(out, f.Code)
		}
	}
	return out
}

// Where the library panics at a value, its author is told which one it is.
func TestTargetThatIsNotText(t *testing.T) {
	for _, target := range []string{"8080", "", "true"} {
		d := newSpecs(t, map[string]string{"shop.yml": "services:\n  web:\n    image: a:1\n    configs:\n      - source: c\n        target: " + target + "\nconfigs:\n  c: {content: x}\n"})
		found := Scan(t.Context(), d.dir, Options{}).Problems["shop"]
		if len(found) != 1 || found[0].Line != 6 || found[0].Code != "invalid-value" {
			t.Errorf("target %q: %v", target, found)
		}
	}
}

// A secret's value that stands where a file's name belongs is not told, whatever it
// looks like as a path.
func TestSecretInTheWrongKeyIsNotTold(t *testing.T) {
	text := "services: {web: {image: \"a:1\", secrets: [db]}}\nsecrets: {db: {file: \"${DB_PASSWORD}\"}}\n"
	for _, value := range []string{"planted-value", "planted//value", "./planted-value", "planted/./value/", "x/../planted", "/planted", "../planted", "~planted", " planted", `C:\planted`} {
		file := filepath.Join(t.TempDir(), "s.yml")
		writeFile(t, file, text)
		stack, findings := LoadFile(t.Context(), file, Options{Env: map[string]string{"DB_PASSWORD": value}})
		if stack != nil || len(findings) == 0 {
			t.Fatalf("%q: %v, %v", value, stack, findings)
		}
		if told := fmt.Sprint(findings); strings.Contains(told, "planted") || !strings.Contains(told, "${DB_PASSWORD}") {
			t.Errorf("%q: %s", value, told)
		}
	}
}

// A word that is neither true nor false is told at its place, and nothing panics at it.
func TestExternalThatIsNeitherTrueNorFalse(t *testing.T) {
	for _, section := range []string{"networks", "volumes", "configs", "secrets"} {
		stack, found := loadText(t, "services: {web: {image: 'a:1'}}\n"+section+":\n  x: {external: truN}\n")
		if stack != nil || len(found) != 1 || found[0].Code != "invalid-compose" || found[0].Line != 3 || !strings.Contains(found[0].Message, "truN") {
			t.Errorf("%s: %s", section, findingsText(found))
		}
	}
}
