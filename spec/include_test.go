package spec

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The fingerprint moves with every file that is included or extended from, with those
// that come, and with nothing else; all of them are told, for whoever watches.
func TestIncludeFingerprint(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	write := func(name, text string) { writeFile(t, filepath.Join(root, "shop", name), text) }
	write("compose.yaml", "include: [{path: part.yml, env_file: part.env}, sub/more.yml]\nservices: {web: {extends: {file: base.yml, service: base}}}")
	write("part.yml", "services: {part: {image: 'x:${TAG:-1}', environment: [PART]}}")
	write("part.env", "PART=1\n")
	write("sub/more.yml", "services: {more: {image: 'x:${MORE:-1}', env_file: own.env}}")
	write("sub/own.env", "OWN=1\n")
	write("base.yml", "services: {base: {image: 'x:1', env_file: [{path: later, required: false}]}}")
	write("unused", "1")
	print := func() string {
		stack, findings := load(t.Context(), shop(t, root), Options{})
		if stack == nil {
			t.Fatalf("%s", findingsText(findings))
		}
		want := []string{"shop/base.yml", "shop/compose.yaml", "shop/later", "shop/part.env", "shop/part.yml", "shop/sub/.env", "shop/sub/more.yml", "shop/sub/own.env"}
		if got := slices.DeleteFunc(slices.Clone(stack.Source.Files), func(f string) bool { return f == "shop/.env" }); !slices.Equal(got, want) {
			t.Errorf("made of %q, want %q", got, want)
		}
		return stack.Source.Fingerprint
	}
	seen := map[string]string{print(): "the first"}
	write("unused", "2")
	if seen[print()] == "" {
		t.Error("moved with a file that nothing names")
	}
	for _, change := range [][2]string{
		{"part.yml", "services: {part: {image: 'x:${TAG:-2}', environment: [PART]}}"},
		{"part.env", "PART=2\n"},
		{"sub/more.yml", "services: {more: {image: 'x:${MORE:-2}', env_file: own.env}}"},
		{"sub/own.env", "OWN=2\n"},
		{"sub/.env", "MORE=3\n"},
		{"base.yml", "services: {base: {image: 'x:2', env_file: [{path: later, required: false}]}}"},
		{"later", "LATER=1\n"},
		{".env", "TAG=4\n"},
	} {
		write(change[0], change[1])
		now := print()
		if before, ok := seen[now]; ok {
			t.Errorf("%s changed, and the fingerprint is that of %s", change[0], before)
		}
		seen[now] = change[0]
	}
}

// The file with the stack's variables counts by what is used of it; where the stack
// names it as a file too, as a whole.
func TestFingerprintOfDotenv(t *testing.T) {
	t.Parallel()
	for text, moves := range map[string]bool{
		"services: {web: {image: 'x:1'}}":                                                             false,
		"services: {web: {image: 'x:$A'}}":                                                            true,
		"services: {web: {image: 'x:1', env_file: .env}}":                                             true,
		"services: {web: {image: 'x:1', env_file: ./sub/../.env}}":                                    true,
		"services: {web: {image: 'x:1', label_file: .env}}":                                           true,
		"services: {web: {image: 'x:1', configs: [c]}}\nconfigs: {c: {file: .env}}":                   true,
		"services: {web: {image: 'x:1', secrets: [c]}}\nsecrets: {c: {file: .env}}":                   true,
		"include: [{path: part.yml, env_file: .env}]\nservices: {web: {image: 'x:1'}}":                true,
		"include: [sub/part.yml]\nservices: {web: {image: 'x:1'}}":                                    true,
		"services: {web: {extends: {file: part.yml, service: part}}}":                                 true,
		"services: {web: {image: 'x:1', environment: [A]}}":                                           true,
		"services: {web: {image: 'x:1', environment: [B]}}":                                           false,
		"services: {web: {image: 'x:1', configs: [c]}}\nconfigs: {c: {environment: A}}":               true,
		"services: {web: {image: 'x:1', env_file: [{path: absent, required: false}]}}\nx-skep: {}":    false,
		"services: {web: {image: 'x:1', env_file: [{path: .env, required: false}]}}\nx-skep: {}":      true,
		"services: {web: {image: 'x:1', deploy: {labels: {a: '${B:-1}'}}, environment: {C: '${B}'}}}": false,
	} {
		print := func(dotenv string) string {
			root := t.TempDir()
			for name, text := range map[string]string{
				"compose.yaml": text, ".env": dotenv,
				"part.yml": "services: {part: {image: 'p:$A'}}", "sub/part.yml": "services: {part: {image: 'p:$A'}}",
			} {
				writeFile(t, filepath.Join(root, "shop", name), text)
			}
			stack, findings := load(t.Context(), shop(t, root), Options{})
			if stack == nil {
				t.Fatalf("%s\n%s", text, findingsText(findings))
			}
			return stack.Source.Fingerprint
		}
		if moved := print("A=1\n") != print("A=2\n"); moved != moves {
			t.Errorf("moved: %v, want %v, for\n%s", moved, moves, text)
		}
	}
}

// Each included file has its own variables, those of one folder too.
func TestIncludeVariablesApart(t *testing.T) {
	t.Parallel()
	const one, two = "services: {one: {image: 'x:1', environment: [V]}}\nconfigs: {a: {environment: V}}\n",
		"services: {two: {image: 'x:1', environment: [V]}}\nconfigs: {b: {environment: V}}\n"
	stack, findings := trapFindings(t, map[string]string{
		"compose.yaml": "include: [{path: parts/a.yml, env_file: a.env}, {path: parts/b.yml, env_file: b.env}, {path: ./parts/a.yml, env_file: a.env}]\nservices: {web: {image: 'x:1'}}",
		"a.env":        "V=first\n",
		"b.env":        "V=second\n",
		"parts/a.yml":  one,
		"parts/b.yml":  two,
	}, nil)
	if stack == nil {
		t.Fatalf("%s", findingsText(findings))
	}
	got := map[string]string{}
	for _, c := range stack.Configs {
		got[c.Key] = string(c.Spec.Data)
	}
	for _, s := range stack.Services {
		got[s.Key] = strings.Join(s.Spec.TaskTemplate.ContainerSpec.Env, " ")
	}
	for key, want := range map[string]string{"a": "first", "b": "second", "one": "V=first", "two": "V=second"} {
		if got[key] != want {
			t.Errorf("%s has %q, want %q", key, got[key], want)
		}
	}
}

// One file under two sets of variables says two things, and one name can mean one.
func TestIncludeVariablesConflict(t *testing.T) {
	t.Parallel()
	_, findings := trapFindings(t, map[string]string{
		"compose.yaml": "include: [{path: a.yml, env_file: a.env}, {path: a.yml, env_file: b.env}]\nservices: {web: {image: 'x:1'}}",
		"a.env":        "V=first\n",
		"b.env":        "V=second\n",
		"a.yml":        "configs: {a: {environment: V}}",
	}, nil)
	if !slices.ContainsFunc(findings, func(f Finding) bool { return f.Code == "include-conflict" && f.Line > 0 }) {
		t.Errorf("%s", findingsText(findings))
	}
}

// What two files declare and say nothing about is the same, however they write it.
func TestIncludeOfBareNames(t *testing.T) {
	t.Parallel()
	stack, findings := trapFindings(t, with("part.yml", "services: {part: {image: 'x:1', volumes: ['data:/d']}}\nvolumes: {data: {}}\nnetworks: {back: }\n",
		compose("include: [part.yml]\nservices: {web: {image: 'x:1', volumes: ['data:/d'], networks: [back]}}\nvolumes: {data: }\nnetworks: {back: {}}\n")), nil)
	if stack == nil {
		t.Errorf("%s", findingsText(findings))
	}
}

// A daemon that looks again sees what changed in an included file, and one that came.
func TestIncludeIsScannedAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string) { writeFile(t, filepath.Join(dir, name), text) }
	write("shop/compose.yaml", "include: [sub/part.yml]\nservices: {web: {image: 'x:1'}}")
	s := NewScanner(dir, Options{})
	image := func() string {
		snap := s.Scan(t.Context())
		if snap.Stacks["shop"] == nil {
			return ""
		}
		return snap.Stacks["shop"].Services[0].Spec.TaskTemplate.ContainerSpec.Image
	}
	if got := image(); got != "" {
		t.Fatalf("loaded without the file it includes: %s", got)
	}
	for _, change := range [][3]string{
		{"shop/sub/part.yml", "services: {part: {image: 'p:${TAG:-1}'}}", "p:1"},
		{"shop/sub/part.yml", "services: {part: {image: 'p:${TAG:-2}'}}", "p:2"},
		{"shop/sub/.env", "TAG=3\n", "p:3"},
		{"shop/.env", "TAG=4\n", "p:4"},
	} {
		write(change[0], change[1])
		if got := image(); got != change[2] {
			t.Errorf("after %s the image is %q, want %q", change[0], got, change[2])
		}
	}
	if err := os.Remove(filepath.Join(dir, "shop/sub/part.yml")); err != nil {
		t.Fatal(err)
	}
	if got := image(); got != "" {
		t.Errorf("the included file is gone, and the stack has %s", got)
	}
}

// A comment in an included file ignores findings of that file, where they stand.
func TestIncludeIgnoresComment(t *testing.T) {
	t.Parallel()
	stack, findings := trapFindings(t, with("part.yml", "services:\n  part:\n    image: x:1\n    privileged: true # skep:ignore option-ignored\n    pid: host\n",
		compose("include: [part.yml]\nservices: {web: {image: 'x:1'}}")), nil)
	var told []string
	for _, f := range findings {
		if f.Code == "option-ignored" {
			told = append(told, f.File+" "+f.Message)
		}
	}
	if stack == nil || len(told) != 1 || !strings.HasPrefix(told[0], "shop/part.yml pid") {
		t.Errorf("%s", findingsText(findings))
	}
}

// A stack that is a file of its own includes files beside it, another stack's too.
func TestIncludeOfSingleFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "shop.yml"), "include: [blog.yml, _parts/p.yml]\nservices: {web: {image: 'x:1'}}")
	writeFile(t, filepath.Join(dir, "blog.yml"), "x-skep: {suspend: true}\nservices: {blog: {image: 'b:1'}}")
	writeFile(t, filepath.Join(dir, "_parts/p.yml"), "services: {p: {image: 'p:1', env_file: p.env}}")
	writeFile(t, filepath.Join(dir, "_parts/p.env"), "A=1\n")
	snap := Scan(t.Context(), dir, Options{})
	shop, blog := snap.Stacks["shop"], snap.Stacks["blog"]
	if shop == nil || blog == nil {
		t.Fatalf("%v %v", snap.Problems, snap.Err)
	}
	if len(shop.Services) != 3 || shop.Policy.Suspend || !blog.Policy.Suspend {
		t.Errorf("%d services, suspended: %v, the other one: %v", len(shop.Services), shop.Policy.Suspend, blog.Policy.Suspend)
	}
}
