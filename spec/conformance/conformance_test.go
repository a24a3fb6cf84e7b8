package conformance

import (
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"github.com/sirupsen/logrus"

	"github.com/skep-io/skep/spec"
)

// corpusVariable names the folder with stack files of others. They are read where they
// lie and are no part of the project.
const corpusVariable = "SKEP_CORPUS"

// compared counts what was compared, by kind.
var compared = map[string]int{}

func TestMain(m *testing.M) {
	logrus.SetLevel(logrus.ErrorLevel) // the oracle's warnings are no news here
	code := m.Run()
	fmt.Printf("conformance with docker stack deploy: %d fixtures, %d files of the corpus and %d generated projects compared\n",
		compared["mapping"], compared["corpus"], compared["generated"])
	os.Exit(code)
}

// TestConformance compares what skep and `docker stack deploy` make of the same files.
func TestConformance(t *testing.T) {
	known := readDifferences(t)
	kinds := map[string]bool{"mapping": true}
	complete := t.Run("mapping", func(t *testing.T) { testMapping(t, known) })
	complete = t.Run("generated", func(t *testing.T) { testGenerated(t, known) }) && complete
	complete = t.Run("mutated", func(t *testing.T) { testMutated(t, known) }) && complete
	if folder := os.Getenv(corpusVariable); folder != "" {
		kinds["corpus"] = true
		complete = t.Run("corpus", func(t *testing.T) { testCorpus(t, known, folder) }) && complete
	}
	t.Logf("compared: %d fixtures, %d files of the corpus, %d generated projects; %d fields and %d refusals differ on purpose",
		compared["mapping"], compared["corpus"], compared["generated"], len(known.Fields), len(known.Refusals))
	if complete && !filtered() {
		for _, entry := range known.unneeded(kinds) {
			t.Errorf("%s: nothing needs the entry about %s (remove it)", differencesFile, entry)
		}
	}
}

// testMapping compares the fixtures of the mapping's rows.
func testMapping(t *testing.T, known *differences) {
	files, err := filepath.Glob("../testdata/mapping/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("there are no fixtures: %v", err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txtar")
		t.Run(name, func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			folder := filepath.Join(t.TempDir(), "shop")
			env := unpack(t, archive, folder)
			if slices.Contains(strings.Split(string(archive.Comment), "\n"), "refused: both") {
				expectBothRefuse(t, folder, env)
			} else {
				compareFile(t, known, "mapping/"+name, folder, env)
			}
			compared["mapping"]++
		})
	}
}

// unpack writes a fixture's files into a folder and gives back its variables.
func unpack(t *testing.T, archive *txtar.Archive, folder string) map[string]string {
	t.Helper()
	env := map[string]string{}
	for _, f := range archive.Files {
		if f.Name == "env" {
			for line := range strings.Lines(string(f.Data)) {
				key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
				env[key] = value
			}
			continue
		}
		write(t, filepath.Join(folder, f.Name), f.Data)
	}
	return env
}

func write(t interface {
	Helper()
	Fatal(...any)
}, file string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

const composeFile = "compose.yaml"

func expectBothRefuse(t *testing.T, folder string, env map[string]string) {
	t.Helper()
	_, _, docker := dockerObjects(filepath.Join(folder, composeFile), filepath.Base(folder), env)
	_, _, skep := skepObjects(filepath.Join(folder, composeFile), env)
	t.Logf("docker: %v\nskep: %v", docker, skep)
	if docker == nil || skep == nil {
		t.Errorf("both are to refuse the file: docker says %v, skep says %v", docker, skep)
	}
}

// compareFile compares what both make of the compose file in a folder, which has the
// stack's name. File is what differences.yaml calls it.
func compareFile(t *testing.T, known *differences, file, folder string, env map[string]string) {
	t.Helper()
	path := filepath.Join(folder, composeFile)
	docker, ignored, dockerError := dockerObjects(path, filepath.Base(folder), env)
	skep, findings, skepError := skepObjects(path, env)
	if dockerError != nil || skepError != nil {
		expectRefusal(t, known, file, filepath.Dir(folder), dockerError, skepError)
		return
	}
	if known.refusal(file) != nil {
		t.Errorf("%s: %s is to be refused, and neither refuses it (remove the entry)", differencesFile, file)
	}
	found := compare(docker, skep)
	unexplained := 0
	for _, d := range found {
		if !known.explains(file, d) {
			unexplained++
			t.Errorf("%s: %s", file, d)
		}
	}
	for _, option := range ignored {
		if option == "restart" {
			continue // docker says that it passes over restart, and carries it out
		}
		if !slices.ContainsFunc(findings, func(f spec.Finding) bool { return strings.Contains(f.Message, option) }) {
			t.Errorf("%s: docker says that it passes over %s, and skep says nothing about it", file, option)
		}
	}
	if unexplained == 0 {
		t.Logf("same: %d services, but for %d fields that differ on purpose", len(skep.Services), len(found))
	}
}

// expectRefusal holds the reasons of a file that is refused against its entry.
func expectRefusal(t *testing.T, known *differences, file, root string, dockerError, skepError error) {
	t.Helper()
	docker := ""
	if dockerError != nil {
		docker = strings.ReplaceAll(dockerError.Error(), root, "")
	}
	var skep refusal
	if skepError != nil && !errors.As(skepError, &skep) {
		t.Fatal(skepError)
	}
	t.Logf("refused.\ndocker: %s\nskep: %s", docker, strings.ReplaceAll(fmt.Sprint(skepError), root, ""))
	entry := known.refusal(file)
	if entry == nil {
		t.Errorf("%s is refused and has no entry in %s:\n  docker: %q\n  skep: %q", file, differencesFile, docker, skep.codes())
		return
	}
	if (docker != "" || len(entry.Docker) > 0) && !slices.Contains(entry.Docker, docker) || !slices.Equal(entry.Skep, skep.codes()) {
		t.Errorf("%s is refused otherwise than its entry in %s says:\n  docker: %q\n  skep: %q", file, differencesFile, docker, skep.codes())
	}
}

// testCorpus compares the files of others.
func testCorpus(t *testing.T, known *differences, folder string) {
	var files []string
	for _, pattern := range []string{"*.yml", "*.yaml"} {
		found, err := filepath.Glob(filepath.Join(folder, pattern))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	if len(files) == 0 {
		t.Fatalf("%s is %s, where no compose file is", corpusVariable, folder)
	}
	for _, file := range files {
		name := filepath.Base(file)
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			stack := filepath.Join(t.TempDir(), "shop")
			write(t, filepath.Join(stack, composeFile), text)
			writeCompanions(t, stack, string(text))
			compareFile(t, known, corpusName(text), stack, variablesFor(string(text)))
			compared["corpus"]++
		})
	}
}

// corpusName is what differences.yaml calls a file of the corpus: by its content, so
// that a file that has changed is looked at anew.
func corpusName(text []byte) string {
	return fmt.Sprintf("corpus/%x", sha256.Sum256(text))[:len("corpus/")+12]
}

var (
	// companion is a file that a compose file names: the file of a config or secret, or
	// an env_file, in a list or alone.
	companion = regexp.MustCompile(`(?m)\bfile:[ \t]*["']?([\w./-]+)|\benv_file:\s*(?:-\s*)?["']?([\w./-]+)|^\s*-\s+(\./[\w./-]+\.env)\s*$`)
	variable  = regexp.MustCompile(`\$\{?([A-Za-z_][A-Za-z0-9_]*)`)
	// numbers and paths are words in the names of variables that stand where not any
	// text may.
	numbers = regexp.MustCompile(`PORT|MODE|REPLICAS|SIZE|LIMIT`)
	paths   = regexp.MustCompile(`PATH|DIR|ROOT|FOLDER`)
)

// writeCompanions makes the files that a compose file names and that did not come with
// it.
func writeCompanions(t *testing.T, stack, text string) {
	t.Helper()
	for _, match := range companion.FindAllStringSubmatch(text, -1) {
		name := strings.Join(match[1:], "")
		if filepath.IsLocal(name) && filepath.Clean(name) != "." {
			write(t, filepath.Join(stack, name), []byte("A=1\nB=\"x\"\n"))
		}
	}
}

// variablesFor gives a value to the variables of a compose file; those that stand for a
// number are left to their defaults.
func variablesFor(text string) map[string]string {
	env := map[string]string{"HOME": "/home/app"}
	for _, match := range variable.FindAllStringSubmatch(text, -1) {
		switch name := match[1]; {
		case numbers.MatchString(name):
		case paths.MatchString(name):
			env[name] = fmt.Sprintf("/val%d", len(name))
		default:
			env[name] = fmt.Sprintf("val%d", len(name))
		}
	}
	return env
}

// filtered says whether only some of the tests were asked for.
func filtered() bool {
	return flag.Lookup("test.run").Value.String() != "" || flag.Lookup("test.skip").Value.String() != ""
}
