package reconcile

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/skep-io/skep/spec"
)

// x-skep.ignore takes the path of every part that is compared: package spec has its
// own table of the nested ones.
func TestEveryUnitCanBeIgnored(t *testing.T) {
	paths := []string{modePath}
	for _, u := range serviceUnits {
		paths = append(paths, u.path)
		if u.keyed {
			paths = append(paths, u.path+".a.b")
		}
	}
	file := filepath.Join(t.TempDir(), "shop.yml")
	text := "services: {web: {image: 'a:1'}}\nx-skep:\n  ignore:\n    - services.web." + strings.Join(paths, "\n    - services.web.") + "\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	stack, findings := spec.LoadFile(t.Context(), file, spec.Options{})
	if stack == nil {
		t.Fatalf("%v", findings)
	}
	for _, i := range stack.Policy.Ignore {
		if !isField(i.Path) {
			t.Errorf("%s is no field here", i.Path)
		}
	}
	if len(stack.Policy.Ignore) != len(paths) {
		t.Errorf("%d of %d paths were taken", len(stack.Policy.Ignore), len(paths))
	}
}
