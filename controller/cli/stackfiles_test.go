package cli

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The stacks in which skep itself runs load without an error or a warning, and each variable in them,
// those in comments too, is a flag of run.
func TestStacksOfSkepItself(t *testing.T) {
	files, err := filepath.Glob(root + "/deploy/stack*.yml")
	if err != nil || len(files) != 2 {
		t.Fatalf("%v, %v", files, err)
	}
	cmd, _, err := newRoot(nil).Find([]string{"run"})
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		var out bytes.Buffer
		if code := Main(context.Background(), []string{"validate", "--strict", "--allow-host-root", file}, strings.NewReader(""), &out, &out); code != 0 {
			t.Errorf("validate %s: exit code %d:\n%s", file, code, &out)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		names := regexp.MustCompile(`\bSKEP_([A-Z_]+): `).FindAllSubmatch(text, -1)
		if len(names) < 4 {
			t.Errorf("%s has %d variables", file, len(names))
		}
		for _, m := range names {
			flag := strings.ToLower(strings.ReplaceAll(string(m[1]), "_", "-"))
			if cmd.Flags().Lookup(flag) == nil {
				t.Errorf("%s: SKEP_%s is no flag of skep run", file, m[1])
			}
		}
	}
}
