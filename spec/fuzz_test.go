package spec

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"gopkg.in/yaml.v3"
	"pgregory.net/rapid"
)

// The fuzz targets hold package spec to what it promises of any text at all.
// `go test` runs them on their seeds, the cases in testdata among them; `make fuzz`
// goes on from there.

// canary stands in files and variables that no stack may see.
const canary = "tweet-4f1c"

// A fuzzSpecs is a specs directory with the stack "shop" in it that is written anew
// for every input: each worker is a process and takes one input after the other.
type fuzzSpecs struct {
	root *os.Root
	dir  string
}

func newFuzzSpecs(f *testing.F) *fuzzSpecs {
	f.Helper()
	dir := filepath.Join(f.TempDir(), "specs")
	writeFile(f, filepath.Join(dir, "..", "outside"), "CANARY="+canary+"\n")
	writeFile(f, filepath.Join(dir, "other", "file"), "CANARY="+canary+"\n")
	writeFile(f, filepath.Join(dir, "other", "compose.yaml"), "services: {web: {image: '"+canary+":1'}}\n")
	writeFile(f, filepath.Join(dir, "shop", "fine"), "A=fine\n")
	writeFile(f, filepath.Join(dir, "shop", "base.yml"), "services: {base: {image: 'base:1'}}\n")
	for link, to := range map[string]string{
		"absolute": filepath.Join(dir, "..", "outside"), "relative": "../other/file", "up": "..", "inside": "fine", "loop": "loop",
	} {
		if err := os.Symlink(to, filepath.Join(dir, "shop", link)); err != nil {
			f.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { root.Close() })
	f.Setenv("SKEP_CANARY", canary)
	return &fuzzSpecs{root: root, dir: dir}
}

// load loads the stack of a compose file and a .env, checks what is so for every
// stack, and gives back what came out.
func (s *fuzzSpecs) load(t rapid.TB, compose, dotenv []byte) (*Stack, []Finding) {
	for file, text := range map[string][]byte{"compose.yaml": compose, ".env": dotenv} {
		if err := os.WriteFile(filepath.Join(s.dir, "shop", file), text, 0o600); err != nil {
			t.Fatalf("%v", err)
		}
	}
	f := stackFile{root: s.root, dir: "shop", file: "shop/compose.yaml", name: "shop", dotenv: "shop/.env"}
	stack, findings := load(context.Background(), f, Options{})
	again, same := load(context.Background(), f, Options{})
	if !slices.Equal(findings, same) || !bytes.Equal(objectsJSON(stack), objectsJSON(again)) {
		t.Fatalf("read twice, it is not the same:\n%s%s\nand\n%s%s", findingsText(findings), objectsJSON(stack), findingsText(same), objectsJSON(again))
	}
	if (stack == nil) != hasError(findings) {
		t.Fatalf("stack %v with the findings\n%s", stack, findingsText(findings))
	}
	for _, finding := range findings {
		checkFinding(t, finding)
	}
	if stack != nil {
		checkStack(t, stack)
	}
	return stack, findings
}

// withoutPlace are the codes of findings about a file as a whole, or about what
// the parser lost its place in.
var withoutPlace = set("unreadable", "file-too-large", "not-text", "yaml-syntax", "yaml-too-large", "empty-file", "env-file", "invalid-name", "no-services", "invalid-compose", "include", "extends", "extends-cycle")

// checkFinding sees that a finding tells where, what, and what to do.
func checkFinding(t rapid.TB, f Finding) {
	switch {
	case f.File == "" || f.Code == "" || f.Message == "":
		t.Fatalf("a finding lacks its file, code or message: %+v", f)
	case !strings.HasSuffix(f.Message, ")") || !strings.Contains(f.Message, " ("):
		t.Fatalf("a finding without a remedy: %s", f)
	case strings.Contains(f.Message, "please report this"):
		t.Fatalf("something panicked: %s", f)
	case f.Line == 0 && !withoutPlace[f.Code]:
		t.Fatalf("a finding without a place: %s", f)
	}
	code, known := CodeOf(f.Code)
	if !known || !slices.Contains(code.Severities, f.Severity) && !code.Settable() {
		t.Fatalf("a finding of a code or severity that there is not: %+v", f)
	}
}

// checkStack sees that a stack hangs together: whoever applies it relies on that.
func checkStack(t rapid.TB, s *Stack) {
	names := map[string]bool{"host": true, "bridge": true, "none": true}
	for _, n := range s.Networks {
		names["network "+n.Name] = true
	}
	for _, c := range s.Configs {
		names["config "+c.Name] = true
	}
	for _, c := range s.Secrets {
		names["secret "+c.Name] = true
		if len(c.Spec.Data) > 0 {
			t.Fatalf("secret %s carries its value in its spec", c.Name)
		}
	}
	if len(s.Services) == 0 {
		t.Fatalf("a stack without services was taken")
	}
	last := ""
	for _, service := range s.Services {
		spec, container := service.Spec, service.Spec.TaskTemplate.ContainerSpec
		if service.Name <= last {
			t.Fatalf("service %q comes after %q", service.Name, last)
		}
		last = service.Name
		if service.Name != s.Name+"_"+service.Key || spec.Name != service.Name || spec.Labels[LabelNamespace] != s.Name || container.Image == "" {
			t.Fatalf("service %s: name %q, labels %v, image %q", service.Key, spec.Name, spec.Labels, container.Image)
		}
		modes := 0
		for _, set := range []bool{spec.Mode.Replicated != nil, spec.Mode.Global != nil, spec.Mode.ReplicatedJob != nil, spec.Mode.GlobalJob != nil} {
			if set {
				modes++
			}
		}
		if modes != 1 {
			t.Fatalf("service %s is of %d modes", service.Key, modes)
		}
		for _, n := range spec.TaskTemplate.Networks {
			if !names["network "+n.Target] && !names[n.Target] {
				t.Fatalf("service %s is on the network %q, which the stack has not", service.Key, n.Target)
			}
		}
		for _, c := range container.Configs {
			if !names["config "+c.ConfigName] {
				t.Fatalf("service %s has the config %q, which the stack has not", service.Key, c.ConfigName)
			}
		}
		for _, c := range container.Secrets {
			if !names["secret "+c.SecretName] {
				t.Fatalf("service %s has the secret %q, which the stack has not", service.Key, c.SecretName)
			}
		}
	}
}

// A seed is a compose file of testdata, and the .env beside it.
type seed struct{ compose, dotenv []byte }

func seeds(f *testing.F) []seed {
	f.Helper()
	files, _ := filepath.Glob(filepath.Join("testdata", "*", "*.txtar"))
	var out []seed
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		var dotenv []byte
		for _, part := range archive.Files {
			if part.Name == ".env" {
				dotenv = part.Data
			}
		}
		for _, part := range archive.Files {
			if ext := filepath.Ext(part.Name); ext == ".yaml" || ext == ".yml" {
				out = append(out, seed{part.Data, dotenv})
			}
		}
	}
	if len(out) < 50 {
		f.Fatalf("only %d seeds were found", len(out))
	}
	return out
}

// FuzzLoad: any bytes as a compose file and its .env.
func FuzzLoad(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add(s.compose, s.dotenv)
	}
	for _, text := range []string{
		"services: {web: {image: x, ports: ['80-90:80-90/udp', {target: 1}], volumes: ['./a:/b:z', {type: tmpfs, target: /x}], deploy: {mode: global-job}}}",
		"x-skep: {ignore: [services.a.image], rollout: {bake: 1m}}\nservices: {a: {image: '${A:-${B}}', ulimits: {a: {soft: 1}}}}",
		"services: {a: &a {image: x}, b: {<<: *a, extends: a}}\nconfigs: {c: {external: {name: x}}}\nsecrets: {s: {driver: d}}",
		"services: {a: {image: x, healthcheck: {test: [CMD, x], disable: true}, depends_on: {a: {condition: x}}}}\nnetworks: {default: {ipam: {config: [null]}}}",
		"services: {a: {!x 0: {b: 1}}}",
		"services: {a: null}\nvolumes: {v: null}\nnetworks: null\n---\n",
		"services: {a: {image: x, environment: [1, null, a=b], labels: [1], extra_hosts: [5, {a: b}], command: [1, null]}}",
	} {
		f.Add([]byte(text), []byte(nil))
	}
	specs := newFuzzSpecs(f)
	f.Fuzz(func(t *testing.T, compose, dotenv []byte) {
		stack, findings := specs.load(t, compose, dotenv)
		if told := append(objectsJSON(stack), findingsText(findings)...); bytes.Contains(told, []byte(canary)) && !bytes.Contains(compose, []byte(canary)) && !bytes.Contains(dotenv, []byte(canary)) {
			t.Errorf("what lies outside of the stack's folder is in it:\n%s", told)
		}
	})
}

// FuzzBounds: what checkText lets through is as small as it says, by a count that
// does it the long way.
func FuzzBounds(f *testing.F) {
	for _, text := range []string{
		"", "a: 1\n", "x-a: &a {b: [1, *c]}\n", "a: &a [1]\nb: *a\n", "&a [*a]", "a: &a\n  <<: *a\n", "---\n---\n...\n", "? [a, b]\n: {c}\n",
		nested(101), nested(9000), staircase(120), bomb(3), bomb(9), strings.Repeat("- ", 200), "a: |\n  [[[[\n", "%YAML 1.1\n---\na", "\ufeffa: \"\\u0041\"", "!!binary aGk=",
		"a: \x00", "\xff\xfe", "{", "'", "\"", "*", "&", "!<", "a:\n\tb", "#\n\n#",
	} {
		f.Add([]byte(text), int64(0))
	}
	for _, s := range seeds(f) {
		f.Add(s.compose, int64(1<<20))
	}
	f.Fuzz(func(t *testing.T, text []byte, limit int64) {
		found := checkText(text, limit)
		if again := checkText(text, limit); !reflect.DeepEqual(found, again) {
			t.Fatalf("read twice, it is not the same: %v and %v", found, again)
		}
		if found != nil {
			found.File = "compose.yaml"
			checkFinding(t, *found)
			if found.Severity != Error || found.Line < 0 || found.Line > len(text)+1 {
				t.Fatalf("%+v", found)
			}
			return
		}
		if limit > 0 && int64(len(text)) > limit {
			t.Fatalf("%d bytes were taken, and %d are allowed", len(text), limit)
		}
		if nodes, depth := expanded(t, text); nodes > maxTextNodes || depth > maxTextDepth {
			t.Fatalf("%d nodes, %d levels were let through", nodes, depth)
		}
	})
}

// FuzzConvert: stacks of services with fields drawn at random, far more of them
// valid than any bytes are.
func FuzzConvert(f *testing.F) {
	for i := range byte(16) {
		f.Add(bytes.Repeat([]byte{i * 17, 255 - i, i, 3 * i}, 256))
	}
	specs := newFuzzSpecs(f)
	f.Fuzz(rapid.MakeFuzz(func(t *rapid.T) {
		text, err := yaml.Marshal(drawProject(t))
		if err != nil {
			t.Fatal(err)
		}
		specs.load(t, text, nil)
	}))
}

// drawProject draws a compose file.
func drawProject(t *rapid.T) map[string]any {
	services := map[string]any{}
	for _, key := range []string{"web", "db", "job"}[:rapid.IntRange(1, 3).Draw(t, "services")] {
		services[key] = drawFields(t, serviceValues, map[string]any{"image": "x:1"})
	}
	return drawFields(t, map[string][]any{
		"networks": {map[string]any{"back": nil}, map[string]any{"back": map[string]any{"external": true}}, map[string]any{"back": map[string]any{"name": "n", "ipam": map[string]any{"config": []any{map[string]any{"subnet": "10.9.0.0/24"}}}}}},
		"volumes":  {map[string]any{"data": nil}, map[string]any{"data": map[string]any{"driver": "local", "driver_opts": map[string]any{"o": 1}, "labels": []any{"a", "b=c"}}}},
		"configs":  {map[string]any{"conf": map[string]any{"content": "x"}}, map[string]any{"conf": map[string]any{"file": "fine", "template_driver": "golang"}}, map[string]any{"conf": map[string]any{"external": map[string]any{"name": "c"}}}},
		"secrets":  {map[string]any{"key": map[string]any{"file": "./fine"}}, map[string]any{"key": map[string]any{"driver": "vault"}}, map[string]any{"key": map[string]any{"external": true, "name": "other"}}},
		"x-skep":   {nil, map[string]any{"suspend": true}, map[string]any{"rollout": map[string]any{"deadline": "5m"}}},
	}, map[string]any{"services": services})
}

// drawFields adds some fields to those that there have to be, now and then with a
// value that belongs to another.
func drawFields(t *rapid.T, values map[string][]any, fields map[string]any) map[string]any {
	for _, key := range rapid.SliceOfNDistinct(rapid.SampledFrom(sortedKeys(values)), 0, 8, rapid.ID[string]).Draw(t, "fields") {
		of := key
		if rapid.IntRange(0, 15).Draw(t, "odd") == 11 {
			of = rapid.SampledFrom(sortedKeys(values)).Draw(t, "of")
		}
		fields[key] = clone(rapid.SampledFrom(values[of]).Draw(t, key))
	}
	return fields
}

// serviceValues are the fields of a service with values they may have, or nearly.
var serviceValues = map[string][]any{
	"image":             {"", "x", "x:1", "UPPER", "h:5000/a/b:c@sha256:" + strings.Repeat("a", 64)},
	"command":           {"a && b", "a 'b c", "", nil, []any{"a", "$$b"}, "(", `\`},
	"entrypoint":        {[]any{}, "sh -c", nil, []any{""}},
	"environment":       {map[string]any{"A": nil, "B": 1, "C": true}, []any{"A", "A=", "=b", "C=${A:-x}"}, nil},
	"env_file":          {"fine", []any{"fine"}, []any{map[string]any{"path": "gone", "required": false}}, []any{map[string]any{"path": "fine", "format": "raw"}}, "../other/file"},
	"label_file":        {"fine", []any{"up/other/file"}},
	"labels":            {map[string]any{"a": nil}, []any{"a=b", "skep.x=1"}, map[string]any{LabelImage: "y"}},
	"hostname":          {"h", "", "{{.Node.Hostname}}"},
	"user":              {"0:0", 5, ""},
	"working_dir":       {"/", "x"},
	"init":              {true, false, "yes"},
	"isolation":         {"hyperv", ""},
	"stop_signal":       {"SIGTERM", "9"},
	"stop_grace_period": {"1m", "1d", "0", "-1s", "x", 5},
	"sysctls":           {map[string]any{"a": 1}, []any{"a=1", "b"}},
	"extra_hosts":       {[]any{"a:1.2.3.4", "b=[::1]", "c"}, map[string]any{"z": "1.1.1.1", "a": []any{"2.2.2.2", "3.3.3.3"}}},
	"dns":               {"1.1.1.1", []any{"1.1.1.1", "x"}, []any{}},
	"cap_add":           {[]any{"net_admin", "CAP_NET_ADMIN", "ALL"}, []any{""}},
	"cap_drop":          {[]any{"ALL"}, []any{"net_admin"}},
	"ulimits":           {map[string]any{"nofile": 5}, map[string]any{"nofile": map[string]any{"soft": 1, "hard": -1}}, map[string]any{"nofile": "x"}},
	"healthcheck":       {map[string]any{"test": "true"}, map[string]any{"test": []any{"NONE"}}, map[string]any{"disable": true}, map[string]any{"test": []any{"CMD"}, "interval": "1d", "start_interval": "1s", "retries": -1}, map[string]any{"retries": "99999999999999999999"}},
	"logging":           {map[string]any{"driver": "none"}, map[string]any{"options": map[string]any{"a": 1, "b": nil}}},
	"credential_spec":   {map[string]any{"config": "conf"}, map[string]any{"file": "a", "registry": "b"}, map[string]any{"registry": "b"}},
	"ports":             {[]any{"80:80", 90, "1-3:1-3/udp"}, []any{"80", "127.0.0.1:81:80"}, []any{map[string]any{"target": 80, "published": "8000-8002", "mode": "host"}}, []any{"65536:1"}, []any{"[::1]:1:2"}},
	"volumes":           {[]any{"data:/d", "/a:/b:ro,z"}, []any{"/x"}, []any{map[string]any{"type": "tmpfs", "target": "/t", "tmpfs": map[string]any{"size": "1m", "mode": 0o755}}}, []any{map[string]any{"type": "volume", "source": "data", "target": "/d/", "volume": map[string]any{"nocopy": true, "subpath": "s"}}}, []any{map[string]any{"type": "image", "source": "i", "target": "/i"}, map[string]any{"type": "npipe", "source": `\\.\pipe\x`, "target": `\\.\pipe\y`}, map[string]any{"type": "cluster", "source": "group:x", "target": "/c"}}, []any{":", "C:\\a:C:\\b", "~/x:/x", "./x:/x"}},
	"tmpfs":             {"/t", []any{"/t:size=1m"}},
	"configs":           {[]any{"conf"}, []any{map[string]any{"source": "conf", "target": "/c", "mode": 0o440, "uid": "5"}}, []any{"nope"}, []any{"conf", "conf"}},
	"secrets":           {[]any{"key"}, []any{map[string]any{"source": "key", "target": "k", "mode": "0400"}}},
	"networks":          {[]any{"back", "default"}, map[string]any{"back": map[string]any{"aliases": []any{"b"}, "driver_opts": map[string]any{"a": 1}}}, []any{"nope"}, []any{}, nil},
	"restart":           {"always", "on-failure:3", "no", "on-failure:x", "sometimes"},
	"depends_on":        {[]any{"db"}, []any{"web"}, map[string]any{"job": map[string]any{"condition": "service_healthy"}}, []any{"nope"}},
	"profiles":          {[]any{"p"}, []any{}},
	"extends":           {"db", map[string]any{"service": "web"}, map[string]any{"file": "base.yml", "service": "base"}, map[string]any{"file": "../other/compose.yaml", "service": "web"}},
	"oom_score_adj":     {5, -1000, 2000, "5"},
	"build":             {".", map[string]any{"context": "x"}},
	"privileged":        {true},
	"mem_limit":         {"1g"},
	"x-skep":            {map[string]any{"rollout": map[string]any{"bake": "1s"}}, nil, 5},
	"deploy": {
		nil,
		map[string]any{"replicas": 0, "labels": []any{"a=b"}, "endpoint_mode": "DNSRR"},
		map[string]any{"mode": "global", "placement": map[string]any{"constraints": []any{"node.role==manager"}, "preferences": []any{map[string]any{"spread": "node.labels.a"}}, "max_replicas_per_node": 1}},
		map[string]any{"mode": "global", "replicas": 2}, map[string]any{"mode": "replicated-job", "replicas": 3}, map[string]any{"mode": "global-job"}, map[string]any{"mode": "odd"},
		map[string]any{"resources": map[string]any{"limits": map[string]any{"cpus": "0.123456789", "memory": "1g", "pids": 5}, "reservations": map[string]any{"cpus": 0.5, "generic_resources": []any{map[string]any{"discrete_resource_spec": map[string]any{"kind": "gpu", "value": 1}}}}}},
		map[string]any{"resources": map[string]any{"limits": map[string]any{"cpus": "1e400", "memory": "-1"}}},
		map[string]any{"update_config": map[string]any{"parallelism": 0, "order": "start-first", "failure_action": "rollback", "delay": "1d", "monitor": "1s", "max_failure_ratio": 0.5}, "rollback_config": map[string]any{"failure_action": "continue"}},
		map[string]any{"restart_policy": map[string]any{"condition": "on-failure", "max_attempts": 3, "window": "1m", "delay": "0s"}},
	},
}

// FuzzPolicy: any text below x-skep, of the stack and of a service. What the schema
// of an editor takes, the loader takes too.
func FuzzPolicy(f *testing.F) {
	for _, s := range seeds(f) {
		var file struct {
			Policy yaml.Node `yaml:"x-skep"`
		}
		if yaml.Unmarshal(s.compose, &file) != nil || file.Policy.IsZero() {
			continue
		}
		text, err := yaml.Marshal(&file.Policy)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text, false)
		f.Add(text, true)
	}
	for _, text := range []string{
		"{rollout: {deadline: 10m, bake: 1h30m, guard: 0, on_failure: hold, scope: service}}", "{rollout: {deadline: 0s}}", "{rollout: {guard: 1e3}}",
		"{findings: {bind: error, image-latest: off, image-missing: warning, nope: info}}", "{findings: [bind]}", "{ignore: [services.web.deploy.replicas, services.web.nope, 5]}",
		"{depends_on: [a, a, '-', null]}", "{suspend: yes, prune: Off, drift: null}", "{suspend: $A, drift: '${B:-report}'}", "[]", "null", "5", "{5: 6}", "{profiles: [a, 5]}",
	} {
		f.Add([]byte(text), false)
		f.Add([]byte(text), true)
	}
	schema := editorSchema(f)
	f.Fuzz(func(t *testing.T, block []byte, inService bool) {
		if checkText(block, 0) != nil {
			return
		}
		var value any
		if yaml.Unmarshal(block, &value) != nil {
			return
		}
		web := map[string]any{"image": "x:1"}
		tree := map[string]any{"services": map[string]any{"web": web}}
		if inService {
			web["x-skep"] = value
		} else {
			tree["x-skep"] = value
		}
		text, err := json.Marshal(tree)
		if err != nil {
			return // a key that is not text, or a number that is none
		}
		doc, problem := parseDocument("compose.yaml", text)
		if problem != nil {
			t.Fatalf("%s: %v", text, problem)
		}
		r := &report{doc: doc, file: "compose.yaml"}
		in := &interpolator{report: r, used: map[string]*string{}}
		resolved, _ := in.tree(doc.tree, nil).(map[string]any)
		policy, services := readPolicy(r, resolved)
		for _, finding := range r.sorted() {
			checkFinding(t, finding)
		}
		if hasError(r.findings) {
			if err := schema.Validate(asJSON(t, tree)); err == nil && !bytes.Contains(text, []byte("$")) && !aboutServices(r.findings) {
				t.Errorf("%s: the schema takes it, and the loader says:\n%s", text, findingsText(r.findings))
			}
			return
		}
		if own, ok := services["web"]; ok != (inService && value != nil) || ok && own.rollout.Deadline <= 0 || policy.Rollout.Deadline <= 0 {
			t.Errorf("%s: policy %+v, services %+v", text, policy, services)
		}
	})
}

// aboutServices says that all the errors are about the file's services, which a
// schema cannot know.
func aboutServices(findings []Finding) bool {
	return !slices.ContainsFunc(findings, func(f Finding) bool {
		return f.Severity == Error && !strings.Contains(f.Message, "x-skep.ignore holds")
	})
}

// fileUses are the keys that name files.
var fileUses = []string{
	"configs: {c: {file: %s}}\nservices: {web: {image: 'x:1', configs: [c]}}",
	"secrets: {c: {file: %s}}\nservices: {web: {image: 'x:1', secrets: [c]}}",
	"services: {web: {image: 'x:1', env_file: %s}}",
	"services: {web: {image: 'x:1', env_file: [{path: %s, required: false, format: raw}]}}",
	"services: {web: {image: 'x:1', label_file: %s}}",
	"services: {web: {image: 'x:1', extends: {file: %s, service: web}}}",
	"include: [%s]\nservices: {web: {image: 'x:1'}}",
	"include: [{path: fine, env_file: %s}]\nservices: {web: {image: 'x:1'}}",
	"include: [{path: [base.yml, %s]}]\nservices: {web: {image: '${CANARY}:1'}}",
	"include: [{path: base.yml, project_directory: %s}]\nservices: {web: {image: 'x:1', env_file: file}}",
	"services: {web: {image: 'x:1', volumes: [{type: bind, source: %s, target: /x}]}}",
}

// FuzzFiles: whatever a key names as its file, no content from outside of the
// stack's folder comes in, not even in a finding.
func FuzzFiles(f *testing.F) {
	specs := newFuzzSpecs(f)
	for _, file := range []string{
		"absolute", "relative", "up/other/file", "up/other/compose.yaml", "loop", "inside", "fine", "base.yml", "../other/file", "../../outside", "a/../../other/file",
		"~/x", "/etc/passwd", specs.dir + "/../outside", "file:///etc/passwd", "//other/file", "./../shop/../other/file", "", ".", "..", "up/../other/file", "../other", "up/other",
		"https://example.invalid/x", "git@example.invalid:x", `..\other\file`, "/proc/self/environ", "/proc/self/cwd", "oci://x", "\x00", "${PWD}/../other/file",
	} {
		for use := range fileUses {
			f.Add(file, byte(use))
		}
	}
	f.Fuzz(func(t *testing.T, file string, use byte) {
		if strings.Contains(file, canary) {
			return
		}
		quoted, err := json.Marshal(file)
		if err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprintf(fileUses[int(use)%len(fileUses)], quoted)
		stack, findings := specs.load(t, []byte(text), nil)
		if told := append(objectsJSON(stack), findingsText(findings)...); bytes.Contains(told, []byte(canary)) {
			t.Errorf("%s\nbrought in what lies outside:\n%s", text, told)
		}
	})
}

// FuzzVariables: any text as a value with variables in it. What is not a variable
// stays as it is, and no variable comes from elsewhere than from the stack.
func FuzzVariables(f *testing.F) {
	for _, text := range []string{
		"plain", "$A", "${A}", "${A:-b}", "${A-b}", "${A:?no}", "${A?}", "${A:+b}", "${A+b}", "$$A", "${A:-${B:-c}}", "${A:-$2y$05$x}", "${", "$", "$1", "${A:-}}",
		"${SKEP_CANARY}", "$HOME", "${PATH:-x}", "${A:-\n}", "${Ä}", strings.Repeat("${A:-", 50) + "x" + strings.Repeat("}", 50),
	} {
		f.Add(text, "value")
	}
	f.Fuzz(func(t *testing.T, text, value string) {
		expand := func() (string, []Finding) {
			in := &interpolator{env: map[string]string{"A": canary + value}, report: &report{file: "compose.yaml"}, used: map[string]*string{}}
			out, ok := in.tree(text, []string{"services", "web", "image"}).(string)
			if !ok {
				t.Fatalf("%q became no text", text)
			}
			for name, used := range in.used {
				if name != "A" && used != nil {
					t.Errorf("%q: the variable %s is %q, and nobody set it", text, name, *used)
				}
			}
			return out, in.report.findings
		}
		out, findings := expand()
		if again, same := expand(); again != out || !slices.Equal(findings, same) {
			t.Errorf("%q expanded to %q, and then to %q", text, out, again)
		}
		if !strings.Contains(text, "$") && (out != text || len(findings) > 0) {
			t.Errorf("%q has no variable, and became %q with %v", text, out, findings)
		}
		if !strings.Contains(text, canary) && strings.Contains(string(findingsText(findings)), canary) {
			t.Errorf("%q: a variable's value is told:\n%s", text, findingsText(findings))
		}
		for _, finding := range findings {
			finding.Line = 1 // there is no document to find a place in
			checkFinding(t, finding)
		}
	})
}
