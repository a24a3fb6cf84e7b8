package cli

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func readme(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(root + "/README.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// README has a row for each verb, and for none that there is not.
func TestReadmeTellsAllVerbs(t *testing.T) {
	_, verbs, _ := strings.Cut(readme(t), "\n## The verbs\n")
	verbs, _, _ = strings.Cut(verbs, "\n## ")
	told := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| (`skep .*?`) \\|").FindAllStringSubmatch(verbs, -1) {
		for _, m := range regexp.MustCompile("`skep ([a-z]+)").FindAllStringSubmatch(row[1], -1) {
			told[m[1]] = true
		}
	}
	root := newRoot(nil)
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		if cmd.Hidden {
			continue
		}
		if !told[cmd.Name()] {
			t.Errorf("README has no row for skep %s", cmd.Name())
		}
		delete(told, cmd.Name())
	}
	for name := range told {
		t.Errorf("README has a row for skep %s, which is not there", name)
	}
}

// Each flag of README's table is one of each verb that it names, and of no other.
func TestReadmeTellsFlagsAsTheyAre(t *testing.T) {
	known := map[string][]string{ // words that stand for several verbs
		"all that read files":     {"run", "validate", "render", "plan", "apply", "doctor"},
		"all that ask the engine": {"run", "plan", "apply", "status", "history", "rollback", "suspend", "resume", "prune", "logs", "doctor"},
	}
	rows := regexp.MustCompile("(?m)^\\| (`--[^|]*) \\| ([^|]+) \\| ([^|]*) \\| [^|]+ \\|$").FindAllStringSubmatch(readme(t), -1)
	for _, row := range rows {
		verbs, ok := known[row[2]]
		if !ok {
			verbs = strings.Split(row[2], ", ")
		}
		for _, m := range regexp.MustCompile("--([a-z-]+)").FindAllStringSubmatch(row[1], -1) {
			var have []string
			for _, cmd := range newRoot(nil).Commands() {
				if !cmd.Hidden && cmd.Flags().Lookup(m[1]) != nil {
					have = append(have, cmd.Name())
				}
			}
			slices.Sort(have)
			if want := slices.Sorted(slices.Values(verbs)); !slices.Equal(have, want) {
				t.Errorf("--%s is a flag of %v, README says %v", m[1], have, want)
			}
			cmd, _, err := newRoot(nil).Find([]string{verbs[0]})
			if err != nil {
				t.Fatal(err)
			}
			f := cmd.Flags().Lookup(m[1])
			if word := strings.Trim(row[3], "`"); f != nil && f.DefValue != "" && f.DefValue != "[]" && f.Value.Type() != "bool" && !strings.HasPrefix(f.DefValue, word) {
				t.Errorf("--%s is %q by default, README says %q", m[1], f.DefValue, word)
			}
		}
	}
	if len(rows) < 10 {
		t.Errorf("only %d rows were found", len(rows))
	}
}
