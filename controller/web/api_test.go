package web

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
)

// schemas compiles the document's, with nothing allowed in answers that it does not
// tell of.
func schemas(t *testing.T) func(name string) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(openAPI))
	if err != nil {
		t.Fatal(err)
	}
	all := doc.(map[string]any)["components"].(map[string]any)["schemas"].(map[string]any)
	for _, s := range all {
		s.(map[string]any)["additionalProperties"] = false
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020) // OpenAPI 3.1's
	c.AssertFormat()
	if err := c.AddResource("skep:openapi", doc); err != nil {
		t.Fatal(err)
	}
	return func(name string) *jsonschema.Schema {
		s, err := c.Compile("skep:openapi#/components/schemas/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
}

func get(t *testing.T, h http.Handler, path string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w
}

// TestAPIIsAsDocumented holds every answer of every scene to the document.
func TestAPIIsAsDocumented(t *testing.T) {
	schema := schemas(t)
	check := func(h http.Handler, path, name string, code int) {
		t.Helper()
		w := get(t, h, path)
		if w.Code != code || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d, %s", path, w.Code, w.Header().Get("Content-Type"))
		}
		value, err := jsonschema.UnmarshalJSON(w.Body)
		if err != nil {
			t.Fatal(err)
		}
		if err := schema(name).Validate(value); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	for scene, snapshot := range scenes() {
		t.Run(scene, func(t *testing.T) {
			site := NewSite(still{snapshot, changed()})
			check(site, "/api/v1/", "Index", http.StatusOK)
			check(site, "/api/v1/stacks", "Board", http.StatusOK)
			check(site, "/api/v1/stacks/nobody", "Problem", http.StatusNotFound)
			check(site, "/api/v1/else", "Problem", http.StatusNotFound)
			for _, s := range snapshot.Stacks {
				check(site, "/api/v1/stacks/"+s.Name, "Stack", http.StatusOK)
			}
		})
	}
}

// documented are the types that the document tells of.
var documented = map[string]reflect.Type{
	"Board": reflect.TypeFor[Board](), "Stack": reflect.TypeFor[StackPage](), "Notice": reflect.TypeFor[Notice](), "Counts": reflect.TypeFor[Counts](),
	"Controller": reflect.TypeFor[Controller](), "SourceLine": reflect.TypeFor[SourceLine](), "StackLine": reflect.TypeFor[StackLine](), "Service": reflect.TypeFor[Service](), "Task": reflect.TypeFor[Task](),
	"TaskCount": reflect.TypeFor[TaskCount](), "Timeline": reflect.TypeFor[Timeline](), "Row": reflect.TypeFor[Row](), "Bar": reflect.TypeFor[Bar](),
	"Mark": reflect.TypeFor[Mark](), "Event": reflect.TypeFor[Event](), "Span": reflect.TypeFor[Span](), "Difference": reflect.TypeFor[Difference](),
	"Entry": reflect.TypeFor[Entry](), "Index": reflect.TypeFor[Index](), "Problem": reflect.TypeFor[Problem](), "Step": reflect.TypeFor[Step](),
	"Change": reflect.TypeFor[reconcile.ChangeView](), "Field": reflect.TypeFor[reconcile.Field](), "Restart": reflect.TypeFor[reconcile.Restart](),
	"Condition": reflect.TypeFor[reconcile.Condition](), "Finding": reflect.TypeFor[spec.Finding](),
}

// fields are the names that a type has in JSON.
func fields(t reflect.Type) []string {
	var names []string
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous || name == "-" || name == "" || !f.IsExported() {
			continue
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// TestDocumentIsWhole sees that each field there is is documented, and no other.
func TestDocumentIsWhole(t *testing.T) {
	var doc struct {
		OpenAPI    string
		Paths      map[string]any
		Components struct {
			Schemas map[string]struct {
				Description string
				Required    []string
				Properties  map[string]any
			}
		}
	}
	if err := json.Unmarshal(openAPI, &doc); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(doc.OpenAPI, "3.1.") {
		t.Errorf("OpenAPI %s", doc.OpenAPI)
	}
	for name, s := range doc.Components.Schemas {
		of, ok := documented[name]
		if !ok {
			t.Errorf("%s is documented, and there is no such type", name)
			continue
		}
		var props []string
		for p := range s.Properties {
			props = append(props, p)
		}
		slices.Sort(props)
		if got := fields(of); !slices.Equal(got, props) {
			t.Errorf("%s has the fields\n %v, documented are\n %v", name, got, props)
		}
		for _, r := range s.Required {
			if s.Properties[r] == nil {
				t.Errorf("%s requires %s, which it has not", name, r)
			}
		}
		if s.Description == "" {
			t.Errorf("%s: no word about it", name)
		}
	}
	if len(documented) != len(doc.Components.Schemas) {
		t.Errorf("%d types, %d documented", len(documented), len(doc.Components.Schemas))
	}
	text, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	for path := range doc.Paths {
		if !strings.Contains(string(text), "`"+path+"`") {
			t.Errorf("docs/api.md does not tell of %s", path)
		}
	}
	for _, m := range regexp.MustCompile("`(/[a-z0-9/.{}-]*)`").FindAllStringSubmatch(string(text), -1) {
		if _, ok := doc.Paths[m[1]]; !ok && !slices.Contains([]string{"/", "/stacks/{stack}", "/metrics", "/healthz", "/readyz", "/api/v1/"}, m[1]) {
			t.Errorf("docs/api.md tells of %s, which is not there", m[1])
		}
	}
}
