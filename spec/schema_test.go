package spec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"gopkg.in/yaml.v3"
	"pgregory.net/rapid"
)

// editorSchema is what editors make of Schema. The library checks it against its
// meta-schema before it compiles it.
func editorSchema(t testing.TB) *jsonschema.Schema {
	t.Helper()
	text, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("skep.json", doc); err != nil {
		t.Fatal(err)
	}
	compiled, err := c.Compile("skep.json")
	if err != nil {
		t.Fatalf("the schema does not fit its own meta-schema: %v", err)
	}
	return compiled
}

// schemaTree is Schema as a tree.
func schemaTree(t testing.TB) map[string]any {
	t.Helper()
	text, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	var tree map[string]any
	if err := json.Unmarshal(text, &tree); err != nil {
		t.Fatal(err)
	}
	return tree
}

func TestSchemaIsStable(t *testing.T) {
	t.Parallel()
	first, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if again, _ := Schema(); !bytes.Equal(first, again) {
			t.Fatal("the same schema twice is not the same text")
		}
	}
	if !strings.Contains(string(first), `"$schema": "https://json-schema.org/draft/`) {
		t.Error("the schema names no draft")
	}
}

// knownKeys are those that the loader's finding about an unknown key lists.
func knownKeys(t *testing.T, file string) []string {
	t.Helper()
	_, findings := loadText(t, file)
	for _, f := range findings {
		if m := regexp.MustCompile(`\(the keys here are ([^)]+)\)`).FindStringSubmatch(f.Message); m != nil && f.Code == "x-skep" {
			return slices.Sorted(slices.Values(strings.Split(m[1], ", ")))
		}
	}
	t.Fatalf("the loader took the unknown key of %q: %s", file, findingsText(findings))
	return nil
}

// What the schema describes is what the loader reads: each key of each block, no
// more and no fewer, and as its default what holds where the key is left out.
func TestSchemaHasTheLoadersKeys(t *testing.T) {
	t.Parallel()
	const unknown, services = "qqqqqqqqqqqqqqqq: 1", "services: {web: {image: 'x:1'"
	defs := mapping(schemaTree(t), "$defs")
	for def, file := range map[string]string{
		"x-skep":         "x-skep: {" + unknown + "}\n" + services + "}}",
		"x-skep-rollout": "x-skep: {rollout: {" + unknown + "}}\n" + services + "}}",
		"x-skep-service": services + ", x-skep: {" + unknown + "}}}",
		"x-skep-follow":  services + ", x-skep: {follow: {" + unknown + "}}}}",
	} {
		properties := mapping(defs, def, "properties")
		if got, want := sortedKeys(properties), knownKeys(t, file); !slices.Equal(got, want) {
			t.Errorf("%s has the keys %v, and the loader knows %v", def, got, want)
		}
		for key := range properties {
			p := mapping(properties, key)
			if p["description"] == nil && p["$ref"] == nil {
				t.Errorf("%s.%s has no description", def, key)
			}
		}
	}
	stack, findings := loadText(t, "x-skep:\n"+defaultsOf(t, defs, "x-skep", "  ")+services+"}}")
	if stack == nil {
		t.Fatalf("the defaults are no x-skep block: %s", findingsText(findings))
	}
	if got, want := fmt.Sprintf("%+v", stack.Policy), fmt.Sprintf("%+v", defaultPolicy()); got != want {
		t.Errorf("the schema's defaults make the policy %s, want %s", got, want)
	}
}

// defaultsOf writes a block out with every default that the schema names.
func defaultsOf(t *testing.T, defs map[string]any, def, indent string) string {
	t.Helper()
	var out strings.Builder
	properties := mapping(defs, def, "properties")
	for _, key := range sortedKeys(properties) {
		p := mapping(properties, key)
		switch to, _ := p["$ref"].(string); {
		case to != "":
			fmt.Fprintf(&out, "%s%s:\n%s", indent, key, defaultsOf(t, defs, strings.TrimPrefix(to, "#/$defs/"), indent+"  "))
		case p["default"] != nil:
			fmt.Fprintf(&out, "%s%s: %v\n", indent, key, p["default"])
		}
	}
	return out.String()
}

// A block is a random x-skep block: of known keys with the values they may have,
// and now and then of others.
func drawBlock(t *rapid.T) map[string]any {
	durations := rapid.OneOf(
		rapid.SampledFrom([]any{"10m", "1h30m", "90s", "0", "0s", "1.5h", "250ms", 0, nil}),
		rapid.Map(rapid.Int64Range(0, int64(2000*time.Hour)), func(n int64) any { return time.Duration(n).Truncate(time.Millisecond).String() }),
		rapid.SampledFrom([]any{"10", "1d", "-1s", "m", "", "ten minutes", "1h ", 10, 1.5, true, []any{}, map[string]any{}}),
	)
	anything := rapid.SampledFrom([]any{nil, true, false, 0, 5, 1.5, "", "yes", "no", "nope", []any{}, []any{"a"}, map[string]any{}, map[string]any{"a": 1}})
	words := func(words ...any) *rapid.Generator[any] { return rapid.OneOf(rapid.SampledFrom(words), anything) }
	several := func(good, bad []any) *rapid.Generator[any] {
		list := func(of []any) *rapid.Generator[any] {
			return rapid.Map(rapid.SliceOfN(rapid.SampledFrom(of), 0, 3), func(l []any) any { return l })
		}
		return rapid.OneOf(list(good), list(slices.Concat(good, bad)), anything)
	}
	rollout := map[string]*rapid.Generator[any]{
		"deadline": durations, "bake": durations, "guard": durations,
		"on_failure": words("rollback", "hold"), "scope": words("stack", "service"),
	}
	rollouts := rapid.OneOf(drawMapping(rollout), drawMapping(rollout), anything)
	follow := map[string]*rapid.Generator[any]{
		"tag":    words("1.27", "latest", "v1", "a:b", "-x", "a b", 1.27, nil),
		"semver": words("~1.27", "^1", ">=1.2 <3", "1.x", "* || 2", "one", "{", 1, nil),
		"every":  rapid.OneOf(durations, rapid.SampledFrom([]any{"59s", "1m", "60s", "0h1m", "59.9s", "0.5h"})),
	}
	return drawMapping(map[string]*rapid.Generator[any]{
		"suspend": words(true, false), "prune": words(true, false),
		"depends_on": several([]any{"infra", "a-b", "x_1"}, []any{"a b", "-", 5, nil, ""}),
		"profiles":   several([]any{"debug", "*", "a b"}, []any{"", 5, nil}),
		"drift":      words("correct", "report"), "images": words("pin", "as-written"),
		"ignore":  several([]any{"services.web.deploy.replicas", "services.web.image", "services.web.deploy.resources", "services.web.deploy.labels.a.b"}, []any{"services.web", "services.web.deploy.replica", "services.web.healthcheck.tests", "web.image", "services.web.nope", 5, ""}),
		"rollout": rollouts, "follow": rapid.OneOf(drawMapping(follow), drawMapping(follow), anything),
		"notify": several([]any{"team-shop", "a", "a", map[string]any{"to": "ops"}, map[string]any{"to": "a", "on": []any{"rolled-back", "held"}}, map[string]any{"to": "b", "on": nil}},
			[]any{"Team", "", 5, nil, "a b", map[string]any{}, map[string]any{"to": 5}, map[string]any{"to": "a", "on": "held"}, map[string]any{"to": "a", "on": []any{"rolled back"}}, map[string]any{"to": "a", "event": []any{}}}),
		"findings": rapid.OneOf(anything, drawMapping(map[string]*rapid.Generator[any]{
			"bind": words("error", "warning", "info", "off", false, true), "image-latest": words("error", "off"),
			"image-missing": words("error", "warning", false), "yaml-syntax": words("error", "off"),
		})),
	}).Draw(t, "block").(map[string]any)
}

// drawMapping draws some of the keys, and seldom one that there is not.
func drawMapping(keys map[string]*rapid.Generator[any]) *rapid.Generator[any] {
	return rapid.Custom(func(t *rapid.T) any {
		out := map[string]any{}
		for _, key := range rapid.SliceOfNDistinct(rapid.SampledFrom(sortedKeys(keys)), 0, 3, rapid.ID[string]).Draw(t, "keys") {
			out[key] = keys[key].Draw(t, key)
		}
		if rapid.IntRange(0, 19).Draw(t, "unknown") == 7 {
			out["unknown"] = 1
		}
		return out
	})
}

// What an editor underlines in x-skep, the loader refuses; and nothing else.
func TestSchemaAgreesWithTheLoader(t *testing.T) {
	t.Parallel()
	schema := editorSchema(t)
	taken, refused := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		service := map[string]any{"image": "x:1"}
		file := map[string]any{"services": map[string]any{"web": service}}
		block := drawBlock(t)
		if rapid.Bool().Draw(t, "in a service") {
			delete(block, "ignore")
			if rapid.Bool().Draw(t, "nothing else") {
				maps.DeleteFunc(block, func(key string, _ any) bool { return key != "rollout" && key != "follow" })
			}
			service["x-skep"] = block
		} else {
			file["x-skep"] = block
		}
		text, err := yaml.Marshal(file)
		if err != nil {
			t.Fatal(err)
		}
		findings := findingsOf(t, string(text))
		schemaError := schema.Validate(asJSON(t, file))
		if hasError(findings) != (schemaError != nil) {
			t.Fatalf("%s\nthe loader says:\n%s\nthe schema says: %v", text, findingsText(findings), schemaError)
		}
		if schemaError == nil {
			taken++
		} else {
			refused++
		}
	})
	if taken < 10 || refused < 10 {
		t.Errorf("%d blocks were taken and %d refused: too few of one to tell", taken, refused)
	}
}

// findingsOf is what the policy's reader finds in a file.
func findingsOf(t *rapid.T, text string) []Finding {
	doc, problem := parseDocument("compose.yaml", []byte(text))
	if problem != nil {
		t.Fatalf("%s: %v", text, problem)
	}
	r := &report{doc: doc, file: "compose.yaml"}
	in := &interpolator{report: r, used: map[string]*string{}}
	tree, _ := in.tree(doc.tree, nil).(map[string]any)
	readPolicy(r, tree)
	return r.findings
}

// asJSON is a tree as a JSON parser makes it.
func asJSON(t interface{ Fatal(...any) }, tree any) any {
	text, err := json.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// A variable may stand for a value, and is no error in an editor.
func TestSchemaTakesVariables(t *testing.T) {
	t.Parallel()
	schema := editorSchema(t)
	for text, good := range map[string]bool{
		"{x-skep: {suspend: '${S:-no}', drift: $DRIFT, depends_on: ['${BASE}'], rollout: {deadline: '${D}m', guard: $G}}}": true,
		"{x-skep: {rollout: $R}}":                                        false,
		"{x-skep: {suspend: maybe}}":                                     false,
		"{services: {w: {image: a, x-skep: {rollout: {bake: '${B}'}}}}}": true,
		"{services: {w: {image: a, x-skep: {suspend: true}}}}":           false,
		"{services: {w: {image: a, x-other: {suspend: 1}}}}":             true,
		"{services: {w: {imagine: a}}}":                                  false,
	} {
		var tree any
		if err := yaml.Unmarshal([]byte(text), &tree); err != nil {
			t.Fatal(err)
		}
		if err := schema.Validate(asJSON(t, tree)); (err == nil) != good {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// Whatever skep takes, an editor does not underline: the cases of the tests, and
// the real files of SKEP_CORPUS where that is set.
func TestSchemaTakesWhatSkepTakes(t *testing.T) {
	t.Parallel()
	schema := editorSchema(t)
	compared := 0
	check := func(name string, text []byte) {
		doc, problem := parseDocument(name, text)
		if problem != nil {
			t.Errorf("%s: %v", name, problem)
			return
		}
		compared++
		if err := schema.Validate(asJSON(t, doc.tree)); err != nil {
			t.Errorf("%s: skep takes it, and the schema does not: %v", name, err)
		}
	}
	cases, _ := filepath.Glob(filepath.Join("testdata", "*", "*.txtar"))
	for _, file := range cases {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		folder := filepath.Join(unpack(t, archive), "shop")
		for _, f := range archive.Files {
			if ext := filepath.Ext(f.Name); ext != ".yaml" && ext != ".yml" {
				continue
			}
			if stack, _ := LoadFile(t.Context(), filepath.Join(folder, f.Name), Options{Env: envOf(archive)}); stack != nil {
				check(file+" "+f.Name, f.Data)
			}
		}
	}
	if compared < 50 {
		t.Errorf("only %d cases were compared", compared)
	}
	corpus := os.Getenv("SKEP_CORPUS")
	if corpus == "" {
		return
	}
	before := compared
	files, _ := filepath.Glob(filepath.Join(corpus, "*.y*ml"))
	for _, file := range files {
		if stack, _ := LoadFile(t.Context(), file, Options{}); stack == nil {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		check(file, text)
	}
	if compared == before {
		t.Errorf("no file of %s was compared", corpus)
	}
}

// What does not work in a Swarm is marked, and what works is not.
func TestSchemaMarksWhatASwarmIgnores(t *testing.T) {
	t.Parallel()
	properties := map[string]any{}
	for _, def := range serviceDefs {
		for key, p := range mapping(schemaTree(t), "$defs", def, "properties") {
			properties[key] = p
		}
	}
	for key, want := range map[string]string{
		"build": "Ignored in a Swarm", "mem_limit": "deploy.resources.limits.memory", "privileged": "cap_add",
	} {
		p := mapping(properties, key)
		if text, _ := p["description"].(string); p["deprecated"] != true || !strings.Contains(text, want) {
			t.Errorf("%s: %v, want it marked, with %q", key, p, want)
		}
	}
	for _, key := range []string{"jobs", "models"} {
		if mapping(schemaTree(t), "properties", key)["deprecated"] != true {
			t.Errorf("%s is not marked", key)
		}
	}
	for key := range converted {
		if mapping(properties, key)["deprecated"] == true {
			t.Errorf("%s is marked as deprecated, and skep converts it", key)
		}
	}
}
