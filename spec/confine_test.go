package spec

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// outsideText is what stands in every file outside of the stack's folder. It is YAML, a
// list of variables and text at once, so that whatever reads it can use it.
const outsideText = "services: {web: {image: 'leaked:1', labels: {leaked: leaked}}}\n"

// outsideVars is the same for what reads variables alone.
const outsideVars = "LEAKED=leaked\n"

// confinedKeys are all the keys of a compose file that make skep open a file, each
// with a stack in which it names FILE, and the other files that this takes.
var confinedKeys = map[string]struct {
	files map[string]string
	// variables: FILE holds variables. directory: FILE is a folder.
	variables, directory bool
}{
	"configs.file":                     {files: compose("configs: {c: {file: FILE}}\nservices: {web: {image: 'x:1'}}")},
	"secrets.file":                     {files: compose("secrets: {c: {file: FILE}}\nservices: {web: {image: 'x:1'}}")},
	"env_file":                         {files: compose("services: {web: {image: 'x:1', env_file: FILE}}"), variables: true},
	"env_file list":                    {files: compose("services: {web: {image: 'x:1', env_file: [FILE]}}"), variables: true},
	"env_file not required":            {files: compose("services: {web: {image: 'x:1', env_file: [{path: FILE, required: false}]}}"), variables: true},
	"env_file raw":                     {files: compose("services: {web: {image: 'x:1', env_file: [{path: FILE, format: raw}]}}"), variables: true},
	"label_file":                       {files: compose("services: {web: {image: 'x:1', label_file: FILE}}"), variables: true},
	"label_file list":                  {files: compose("services: {web: {image: 'x:1', label_file: [FILE]}}"), variables: true},
	"extends.file":                     {files: compose("services: {web: {extends: {file: FILE, service: web}}}")},
	"include":                          {files: compose("include: [FILE]\nservices: {own: {image: 'x:1'}}")},
	"include.path":                     {files: compose("include: [{path: FILE}]\nservices: {own: {image: 'x:1'}}")},
	"include.path, overriding":         {files: with("part.yml", "services: {part: {image: 'x:1'}}", compose("include: [{path: [part.yml, FILE]}]\nservices: {own: {image: 'x:1'}}"))},
	"include.env_file":                 {files: with("part.yml", "services: {part: {image: 'x:${LEAKED:-1}', environment: [LEAKED]}}", compose("include: [{path: part.yml, env_file: FILE}]\nservices: {own: {image: 'x:1'}}")), variables: true},
	"include.env_file list":            {files: with("part.yml", "services: {part: {image: 'x:${LEAKED:-1}', environment: [LEAKED]}}", compose("include: [{path: part.yml, env_file: [FILE]}]\nservices: {own: {image: 'x:1'}}")), variables: true},
	"include.project_directory":        {files: with("part.yml", "services: {part: {image: 'x:${LEAKED:-1}', env_file: [{path: within, required: false}]}}", compose("include: [{path: part.yml, project_directory: FILE}]\nservices: {own: {image: 'x:1'}}")), directory: true},
	"include in an included file":      {files: with("sub/part.yml", "include: [FILE]\nservices: {part: {image: 'x:1'}}", compose("include: [sub/part.yml]\nservices: {own: {image: 'x:1'}}"))},
	"extends in an included file":      {files: with("sub/part.yml", "services: {part: {extends: {file: FILE, service: web}}}", compose("include: [sub/part.yml]\nservices: {own: {image: 'x:1'}}"))},
	"extends in an extended file":      {files: with("sub/part.yml", "services: {part: {extends: {file: FILE, service: web}}}", compose("services: {own: {extends: {file: sub/part.yml, service: part}}}"))},
	"env_file in an included file":     {files: with("sub/part.yml", "services: {part: {image: 'x:1', env_file: FILE}}", compose("include: [sub/part.yml]\nservices: {own: {image: 'x:1'}}")), variables: true},
	"env_file in an extended file":     {files: with("sub/part.yml", "services: {part: {image: 'x:1', env_file: FILE}}", compose("services: {own: {extends: {file: sub/part.yml, service: part}}}")), variables: true},
	"label_file in an included file":   {files: with("sub/part.yml", "services: {part: {image: 'x:1', label_file: FILE}}", compose("include: [sub/part.yml]\nservices: {own: {image: 'x:1'}}")), variables: true},
	"configs.file in an included file": {files: with("sub/part.yml", "configs: {c: {file: FILE}}", compose("include: [sub/part.yml]\nservices: {own: {image: 'x:1'}}"))},
	"secrets.file in an included file": {files: with("sub/part.yml", "secrets: {c: {file: FILE}}", compose("include: [sub/part.yml]\nservices: {own: {image: 'x:1'}}"))},
	"a variable in include":            {files: with(".env", "WHERE=FILE\n", compose("include: ['${WHERE}']\nservices: {own: {image: 'x:1'}}"))},
	"a variable in include.env_file":   {files: with(".env", "WHERE=FILE\n", with("part.yml", "services: {part: {image: 'x:${LEAKED:-1}'}}", compose("include: [{path: part.yml, env_file: '${WHERE}'}]\nservices: {own: {image: 'x:1'}}"))), variables: true},
	"a variable in env_file":           {files: with(".env", "WHERE=FILE\n", compose("services: {web: {image: 'x:1', env_file: '${WHERE}'}}")), variables: true},
	"a variable in configs.file":       {files: with(".env", "WHERE=FILE\n", compose("configs: {c: {file: '${WHERE}'}}\nservices: {web: {image: 'x:1'}}"))},
}

func compose(text string) map[string]string { return map[string]string{"compose.yaml": text} }

func with(name, text string, files map[string]string) map[string]string {
	files[name] = text
	return files
}

// A trick is a way to name something that is not a file of the stack's folder. It
// gets the folder with the stack, the name of the file to lead to (outside, beside
// the folder), and gives what to write.
var tricks = map[string]func(t *testing.T, folder, outside string) string{
	"..": func(t *testing.T, folder, outside string) string {
		return relative(t, folder, outside)
	},
	".. behind a folder": func(t *testing.T, folder, outside string) string {
		return "sub/../" + relative(t, folder, outside)
	},
	".. further than there are folders": func(t *testing.T, folder, outside string) string {
		return strings.Repeat("../", 40) + strings.TrimPrefix(outside, "/")
	},
	"./..":     func(t *testing.T, folder, outside string) string { return "./" + relative(t, folder, outside) },
	"absolute": func(t *testing.T, _, outside string) string { return outside },
	"absolute, into the folder": func(t *testing.T, folder, outside string) string {
		link(t, outside, filepath.Join(folder, "inner"))
		return filepath.Join(folder, "inner")
	},
	"file://": func(t *testing.T, _, outside string) string { return "file://" + outside },
	"~":       func(t *testing.T, _, outside string) string { return "~/" + filepath.Base(outside) },
	"~ alone": func(*testing.T, string, string) string { return "~" },
	"~root":   func(*testing.T, string, string) string { return "~root/.profile" },
	"a link to the file": func(t *testing.T, folder, outside string) string {
		return linked(t, folder, outside)
	},
	"a relative link to the file": func(t *testing.T, folder, outside string) string {
		return linked(t, folder, relative(t, folder, outside))
	},
	"a link to a link": func(t *testing.T, folder, outside string) string {
		linked(t, folder, outside)
		link(t, "link", filepath.Join(folder, "second"))
		link(t, "../link", filepath.Join(folder, "sub", "second"))
		return "second"
	},
	"a link to the folder": func(t *testing.T, folder, outside string) string {
		return linked(t, folder, filepath.Dir(outside)) + "/" + filepath.Base(outside)
	},
	"a link to the folder, and back": func(t *testing.T, folder, outside string) string {
		return linked(t, folder, filepath.Dir(outside)) + "/../" + filepath.Base(filepath.Dir(outside)) + "/" + filepath.Base(outside)
	},
	"a link to /": func(t *testing.T, folder, outside string) string {
		return linked(t, folder, "/") + outside
	},
	"/proc/self/environ": func(*testing.T, string, string) string { return "/proc/self/environ" },
	"a link to /proc/self/environ": func(t *testing.T, folder, _ string) string {
		return linked(t, folder, "/proc/self/environ")
	},
	"a link to /proc/self/root": func(t *testing.T, folder, outside string) string {
		return linked(t, folder, "/proc/self/root") + outside
	},
	"a link to /dev/zero": func(t *testing.T, folder, _ string) string { return linked(t, folder, "/dev/zero") },
	"a pipe": func(t *testing.T, folder, _ string) string {
		for _, dir := range []string{folder, filepath.Join(folder, "sub")} {
			if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		return "pipe"
	},
	"a folder": func(t *testing.T, folder, _ string) string {
		for _, dir := range []string{folder, filepath.Join(folder, "sub")} {
			if err := os.MkdirAll(filepath.Join(dir, "dir"), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		return "dir"
	},
	"the folder itself": func(*testing.T, string, string) string { return "." },
	"a link to itself": func(t *testing.T, folder, _ string) string {
		return linked(t, folder, "link")
	},
	"nothing":              func(*testing.T, string, string) string { return "''" },
	"a very long name":     func(*testing.T, string, string) string { return strings.Repeat("x", 5000) },
	"a very long way":      func(*testing.T, string, string) string { return strings.Repeat("x/../", 5000) + "../outside" },
	"a NUL":                func(*testing.T, string, string) string { return `"a\0b"` },
	"a line break":         func(*testing.T, string, string) string { return `"../outside\n"` },
	"UNC":                  func(*testing.T, string, string) string { return `\\host\share\file` },
	"another drive":        func(*testing.T, string, string) string { return `C:/file` },
	"dots of another kind": func(*testing.T, string, string) string { return "\u2024\u2024/outside" },
}

// insideTricks are those tricks that name a folder of the stack, which is what a
// project_directory is.
var insideTricks = map[string]bool{"a folder": true, "the folder itself": true}

// missingTricks are those that come out as a path in the folder, where nothing is.
var missingTricks = map[string]bool{"a link to the folder, and back": true, "dots of another kind": true}

func relative(t *testing.T, folder, outside string) string {
	t.Helper()
	rel, err := filepath.Rel(folder, outside)
	if err != nil {
		t.Fatal(err)
	}
	return rel
}

// linked makes the symbolic link "link" in the folder and below it.
func linked(t *testing.T, folder, to string) string {
	t.Helper()
	link(t, to, filepath.Join(folder, "link"))
	if !filepath.IsAbs(to) && strings.HasPrefix(to, "..") {
		to = "../" + to
	}
	link(t, to, filepath.Join(folder, "sub", "link"))
	return "link"
}

func link(t *testing.T, to, name string) {
	t.Helper()
	if err := os.Symlink(to, name); err != nil {
		t.Fatal(err)
	}
}

// No key opens a file outside of the stack's folder, whatever leads there; and what
// is inside and no file is an error too, at once.
func TestConfinedKeysAndTricks(t *testing.T) {
	t.Setenv("LEAKED", "leaked") // /proc/self/environ has it
	for key, at := range confinedKeys {
		for trick, lay := range tricks {
			t.Run(key+"/"+trick, func(t *testing.T) {
				base := t.TempDir()
				folder, outside := filepath.Join(base, "specs", "shop"), filepath.Join(base, "far", "outside")
				content := outsideText
				if at.variables {
					content = outsideVars
				}
				if at.directory {
					writeFile(t, filepath.Join(outside, "within"), outsideVars)
					writeFile(t, filepath.Join(outside, ".env"), outsideVars)
				} else {
					writeFile(t, outside, content)
				}
				if err := os.MkdirAll(filepath.Join(folder, "sub"), 0o755); err != nil {
					t.Fatal(err)
				}
				name := lay(t, folder, outside)
				for file, text := range at.files {
					writeFile(t, filepath.Join(folder, file), strings.ReplaceAll(text, "FILE", quoted(file, name)))
				}
				stack, findings := load(t.Context(), shop(t, filepath.Join(base, "specs")), Options{})
				if at.directory && insideTricks[trick] {
					if stack == nil {
						t.Fatalf("a folder of the stack is refused: %s", findingsText(findings))
					}
				} else if key == "env_file not required" && missingTricks[trick] {
					if stack == nil {
						t.Fatalf("a file that need not be there is refused: %s", findingsText(findings))
					}
				} else if stack != nil || !hasError(findings) {
					t.Errorf("loaded, want an error: %s", objectsJSON(stack))
				}
				if out := string(objectsJSON(stack)) + string(findingsText(findings)); strings.Contains(out, "leaked") {
					t.Errorf("what is outside came in: %s", out)
				}
				for _, f := range findings {
					if f.Severity == Error && (f.Line == 0 && f.Code != "env-file" || strings.Contains(f.Message, "cannot be understood")) {
						t.Errorf("an error that does not say where or what: %s", f)
					}
				}
			})
		}
	}
}

// quoted puts a name into quotes where it goes into YAML and has none.
func quoted(file, name string) string {
	if strings.HasSuffix(file, ".env") || strings.HasPrefix(name, "'") || strings.HasPrefix(name, `"`) {
		return name
	}
	return "'" + name + "'"
}

// The same keys read what is in the folder, links within it included: the tricks fail
// for where they lead.
func TestConfinedKeysReadWhatIsInside(t *testing.T) {
	for key, at := range confinedKeys {
		for _, name := range []string{"fine", "link", "sub/../fine", "./fine", "façade ✓", "..fine", "a:b"} {
			t.Run(key+"/"+name, func(t *testing.T) {
				root := t.TempDir()
				folder := filepath.Join(root, "shop")
				content := strings.ReplaceAll(outsideText, "leaked", "fine")
				if at.variables || at.directory {
					content = "FINE=fine\n"
				}
				for _, dir := range []string{folder, filepath.Join(folder, "sub")} {
					for _, file := range []string{"fine", "façade ✓", "..fine", "a:b"} {
						if at.directory {
							writeFile(t, filepath.Join(dir, file, "within"), content)
						} else {
							writeFile(t, filepath.Join(dir, file), content)
						}
					}
					link(t, "fine", filepath.Join(dir, "link"))
				}
				for file, text := range at.files {
					writeFile(t, filepath.Join(folder, file), strings.ReplaceAll(text, "FILE", quoted(file, name)))
				}
				if err := os.MkdirAll(filepath.Join(folder, "sub", "sub"), 0o755); err != nil {
					t.Fatal(err)
				}
				if stack, findings := load(t.Context(), shop(t, root), Options{}); stack == nil {
					t.Errorf("a file of the folder is refused: %s", findingsText(findings))
				}
			})
		}
	}
}

// A link that is swapped between inside and outside while stacks are loaded gives
// what is inside, or an error; never what is outside.
func TestConfinedSwappedLink(t *testing.T) {
	for _, key := range []string{"configs.file", "secrets.file", "env_file", "label_file", "extends.file", "include", "include.env_file", "include.project_directory"} {
		at := confinedKeys[key]
		t.Run(key, func(t *testing.T) {
			base := t.TempDir()
			folder, outside := filepath.Join(base, "specs", "shop"), filepath.Join(base, "outside")
			content := outsideText
			if at.variables {
				content = outsideVars
			}
			inside := filepath.Join(folder, "inside")
			if at.directory {
				writeFile(t, filepath.Join(outside, "within"), outsideVars)
				writeFile(t, filepath.Join(outside, ".env"), outsideVars)
				writeFile(t, filepath.Join(inside, "within"), "FINE=1\n")
			} else {
				writeFile(t, outside, content)
				writeFile(t, inside, strings.ReplaceAll(strings.ReplaceAll(content, "leaked", "fine"), "LEAKED", "FINE"))
			}
			for file, text := range at.files {
				writeFile(t, filepath.Join(folder, file), strings.ReplaceAll(text, "FILE", "link"))
			}
			name := filepath.Join(folder, "link")
			link(t, "inside", name)
			stop, done := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(done)
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					to := []string{"../../outside", "inside"}[i%2]
					next := fmt.Sprintf("%s.%d", name, i%2)
					os.Remove(next)
					if os.Symlink(to, next) == nil {
						_ = os.Rename(next, name)
					}
				}
			}()
			at := shop(t, filepath.Join(base, "specs"))
			loaded, refused := 0, 0
			for tries := 0; tries < 60 || (loaded == 0 || refused == 0) && tries < 5000; tries++ {
				stack, findings := load(t.Context(), at, Options{})
				if stack != nil {
					loaded++
				} else {
					refused++
				}
				if out := string(objectsJSON(stack)) + string(findingsText(findings)); strings.Contains(out, "leaked") {
					t.Errorf("what is outside came in: %s", out)
					break
				}
			}
			close(stop)
			<-done
			if loaded == 0 || refused == 0 {
				t.Errorf("%d loads, %d refusals: the link was not swapped in between", loaded, refused)
			}
		})
	}
}

// The daemon's environment is not there for what is included and extended either.
func TestConfinedEnvironment(t *testing.T) {
	t.Setenv("LEAKED", "leaked")
	t.Setenv("HOME", "/leaked")
	root := t.TempDir()
	write := func(name, text string) { writeFile(t, filepath.Join(root, "shop", name), text) }
	write("compose.yaml", `
include: [{path: part.yml, env_file: part.env}]
services:
  own: {image: 'x:${LEAKED:-1}', environment: [LEAKED, ALLOWED], env_file: own.env, extends: {file: base.yml, service: base}}
`)
	write("part.yml", "services: {part: {image: 'x:${LEAKED:-1}', environment: [LEAKED, ALLOWED], env_file: own.env}}")
	write("base.yml", "services: {base: {labels: {a: '${LEAKED:-1}'}, env_file: own.env}}")
	write("part.env", "PART=${LEAKED:-1}\nLEAKED\n")
	write("own.env", "LEAKED\n")
	write(".env", "DOT=${LEAKED:-1}\nLEAKED\n")
	stack, findings := load(t.Context(), shop(t, root), Options{Env: map[string]string{"ALLOWED": "allowed"}})
	if stack == nil {
		t.Fatal(string(findingsText(findings)))
	}
	out := string(objectsJSON(stack)) + string(findingsText(findings))
	if strings.Contains(out, "leaked") {
		t.Errorf("the process's environment came in: %s", out)
	}
	if strings.Count(out, "ALLOWED=allowed") != 2 {
		t.Errorf("what was allowed did not come in: %s", out)
	}
}
