package cli

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/shlex"
	"gopkg.in/yaml.v3"
)

// A hook is an entry of .pre-commit-hooks.yaml.
type hook struct {
	ID            string `yaml:"id"`
	Name          string `yaml:"name"`
	Description   string `yaml:"description"`
	Entry         string `yaml:"entry"`
	Language      string `yaml:"language"`
	Files         string `yaml:"files"`
	PassFilenames bool   `yaml:"pass_filenames"`
	RequireSerial bool   `yaml:"require_serial"`
}

func readHooks(t *testing.T) map[string]hook {
	t.Helper()
	f, err := os.Open("../../.pre-commit-hooks.yaml")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var list []hook
	d := yaml.NewDecoder(f)
	d.KnownFields(true)
	if err := d.Decode(&list); err != nil {
		t.Fatal(err)
	}
	hooks := map[string]hook{}
	for _, h := range list {
		hooks[h.ID] = h
	}
	return hooks
}

func TestHooks(t *testing.T) {
	hooks := readHooks(t)
	if len(hooks) != 2 {
		t.Fatalf("hooks %v, want two", hooks)
	}
	for id, h := range hooks {
		if h.Language != "golang" || h.Name == "" || h.Description == "" {
			t.Errorf("%s: %+v", id, h)
		}
		checkSkep(t, h.Entry+" stacks/a.yml")
	}
	files := regexp.MustCompile(hooks["skep-validate"].Files)
	for name, want := range map[string]bool{
		"compose.yaml": true, "stacks/blog/docker-compose.yml": true, "a/docker-stack.yaml": true, "stack.yml": true,
		"stacks/blog/nginx.conf": false, "stacks/blog/.env": false, "mycompose.yaml": false, "compose.yaml.bak": false, "compose.override.yaml": false,
	} {
		if files.MatchString(name) != want {
			t.Errorf("skep-validate gets %s: %v", name, !want)
		}
	}
}

// What docs/ci.md shows can be copied: its YAML and JSON are that, every call of skep
// in it is understood, and the hooks it names are there.
func TestDocsCanBeCopied(t *testing.T) {
	text, err := os.ReadFile("../../docs/ci.md")
	if err != nil {
		t.Fatal(err)
	}
	hooks, used := readHooks(t), 0
	for _, block := range regexp.MustCompile("(?ms)^```(yaml|json)\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
		if block[1] == "json" {
			if !json.Valid([]byte(block[2])) {
				t.Errorf("no JSON:\n%s", block[2])
			}
			continue
		}
		var any any
		if err := yaml.Unmarshal([]byte(block[2]), &any); err != nil {
			t.Errorf("no YAML: %v\n%s", err, block[2])
		}
		var config struct {
			Repos []struct {
				Hooks []struct {
					ID    string   `yaml:"id"`
					Files string   `yaml:"files"`
					Args  []string `yaml:"args"`
				} `yaml:"hooks"`
			} `yaml:"repos"`
		}
		if yaml.Unmarshal([]byte(block[2]), &config) != nil {
			continue // the list of a workflow's steps
		}
		for _, repo := range config.Repos {
			for _, h := range repo.Hooks {
				used++
				if _, err := regexp.Compile(h.Files); err != nil || hooks[h.ID].ID == "" {
					t.Errorf("hook %q with files %q: %v", h.ID, h.Files, err)
				}
				checkSkep(t, hooks[h.ID].Entry+" "+strings.Join(h.Args, " "))
			}
		}
	}
	if used == 0 {
		t.Error("no hook is shown")
	}
	checkPinned(t, string(text))
	calls := regexp.MustCompile("\\bskep (?:validate|render|plan|apply|schema|run|status)\\b[^`>|\n]*").FindAllString(string(text), -1)
	for _, call := range calls {
		call, _, _ = strings.Cut(call, "  ")
		checkSkep(t, call)
	}
	if len(calls) < 10 {
		t.Errorf("only the calls %q were found", calls)
	}
	for _, id := range regexp.MustCompile("`(skep-[a-z-]+)`").FindAllStringSubmatch(string(text), -1) {
		if _, ok := hooks[id[1]]; !ok {
			t.Errorf("there is no hook %s", id[1])
		}
	}
}

// checkPinned sees that every action of a workflow is a commit, with its version beside it.
func checkPinned(t *testing.T, text string) {
	t.Helper()
	uses := regexp.MustCompile(`(?m)^ *- uses: (.*)$`).FindAllStringSubmatch(text, -1)
	for _, m := range uses {
		if !regexp.MustCompile(`^[a-z-]+/[a-z-]+@[0-9a-f]{40} # v[0-9.]+$`).MatchString(m[1]) {
			t.Errorf("%s is not pinned to a commit", m[1])
		}
	}
	if len(uses) < 4 {
		t.Errorf("only %d actions were found", len(uses))
	}
}

// Every call of skep that a page shows or names is understood.
func TestCallsCanBeCopied(t *testing.T) {
	for file, least := range map[string]int{
		"README.md": 25, "docs/rollouts.md": 15, "docs/runbook.md": 15, "docs/sources.md": 5, "docs/high-availability.md": 5, "docs/policy.md": 2,
		"docs/install.md": 5, "docs/from-stack-deploy.md": 5, "docs/gitops.md": 3, "docs/git.md": 1, "docs/operations.md": 3, "docs/comparison.md": 1, "docs/rights.md": 1, "docs/dependencies.md": 1, "deploy/examples/README.md": 3,
	} {
		text, err := os.ReadFile("../../" + file)
		if err != nil {
			t.Fatal(err)
		}
		calls := regexp.MustCompile("(?m)(?:`|\\$ |^    )(skep [a-z]+(?: [^`\n]*)?)").FindAllStringSubmatch(string(text), -1)
		for _, call := range calls {
			if call := plainCall(call[1]); strings.Count(call, " ") > 1 { // else it is the verb's name
				checkSkep(t, call)
			}
		}
		if len(calls) < least {
			t.Errorf("only %d calls were found in %s", len(calls), file)
		}
	}
}

// plainCall is a call without what a shell or a table makes of it.
func plainCall(call string) string {
	for _, end := range []string{"  ", ";", " >", " &&", " |"} {
		call, _, _ = strings.Cut(call, end)
	}
	call = strings.NewReplacer("\"…\"", "x", "[", "", "]", "", "…", "", "--to N", "--to 4", "STACK N", "STACK 4", " RELEASE", " 7").Replace(call)
	return strings.TrimRight(call, " \\")
}

// checkSkep sees that a call of skep is understood.
func checkSkep(t *testing.T, call string) {
	t.Helper()
	words, err := shlex.Split(call)
	if err != nil || len(words) < 2 || words[0] != "skep" || slices.Contains(words, "") {
		t.Errorf("%q is no call of skep: %v", call, err)
		return
	}
	checkCall(t, nil, words[1:])
}
