package spec

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/swarm"
)

// These are the traps between a compose file and the Swarm: what compose's library
// reads otherwise than `docker stack deploy`, and what surprises people of both. Each
// has a test by its name.

// trap loads a stack of several files, which must be good.
func trap(t *testing.T, files map[string]string, env map[string]string) *Stack {
	t.Helper()
	stack, findings := trapFindings(t, files, env)
	if stack == nil {
		t.Fatalf("refused: %s", findingsText(findings))
	}
	return stack
}

func trapFindings(t *testing.T, files map[string]string, env map[string]string) (*Stack, []Finding) {
	t.Helper()
	root := t.TempDir()
	for file, text := range files {
		writeFile(t, filepath.Join(root, "shop", file), text)
	}
	return load(t.Context(), shop(t, root), Options{Env: env})
}

// trapService is the container of the one service of a stack.
func trapService(t *testing.T, text string) *swarm.ContainerSpec {
	t.Helper()
	return trap(t, compose(text), nil).Services[0].Spec.TaskTemplate.ContainerSpec
}

// trapError wants an error of a code at a line, and gives its message.
func trapError(t *testing.T, files, env map[string]string, code string, line int) string {
	t.Helper()
	stack, findings := trapFindings(t, files, env)
	for _, f := range findings {
		if f.Severity == Error && f.Code == code && (line == 0 || f.Line == line) {
			if stack != nil {
				t.Errorf("loaded with an error")
			}
			return f.Message
		}
	}
	t.Fatalf("want the error %s at line %d: %s", code, line, findingsText(findings))
	return ""
}

// trapWarning wants a finding of a code that leaves the stack good.
func trapWarning(t *testing.T, text, code string) *Stack {
	t.Helper()
	stack, findings := trapFindings(t, compose(text), nil)
	if stack == nil || !slices.ContainsFunc(findings, func(f Finding) bool { return f.Code == code && f.Severity != Error && f.Line > 0 }) {
		t.Fatalf("want the finding %s: %s", code, findingsText(findings))
	}
	return stack
}

func TestTrapCommandIsCutAtOperator(t *testing.T) {
	for command, want := range map[string][]string{
		"a && b":                {"a", "&&", "b"},
		"a;b":                   {"a;b"},
		"a ; b":                 {"a", ";", "b"},
		"a | b":                 {"a", "|", "b"},
		"a > /b":                {"a", ">", "/b"},
		"a 2>&1 &":              {"a", "2>&1", "&"},
		"sh -c 'a && b; c > d'": {"sh", "-c", "a && b; c > d"},
		"echo (unbalanced":      {"echo", "(unbalanced"},
		"a $$HOME `b` $$(c)":    {"a", "$HOME", "`b`", "$(c)"},
		`a "b c" 'd e' f\ g`:    {"a", "b c", "d e", "f g"},
	} {
		for _, key := range []string{"command", "entrypoint"} {
			c := trapService(t, "services: {web: {image: 'x:1', "+key+": "+yamlText(command)+"}}")
			got := c.Args
			if key == "entrypoint" {
				got = c.Command
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s %q became %q, want %q", key, command, got, want)
			}
		}
	}
}

// yamlText is text in double quotes.
func yamlText(text string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`
}

func TestTrapExtraHostsKeepTheirOrder(t *testing.T) {
	got := trapService(t, `services: {web: {image: "x:1", extra_hosts: ["z:10.0.0.9", "a=10.0.0.1", "m:[::1]", "a:10.0.0.2"]}}`).Hosts
	if want := []string{"10.0.0.9 z", "10.0.0.1 a", "::1 m", "10.0.0.2 a"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestTrapCPUsAreExact(t *testing.T) {
	for written, want := range map[string]int64{"'0.123456789'": 123456789, "0.123456789": 123456789, "0.1": 100_000_000, "2": 2_000_000_000, "'1.5'": 1_500_000_000, "16.000000001": 16_000_000_001} {
		stack := trap(t, compose("services: {web: {image: 'x:1', deploy: {resources: {limits: {cpus: "+written+"}, reservations: {cpus: "+written+"}}}}}"), nil)
		resources := stack.Services[0].Spec.TaskTemplate.Resources
		if got := resources.Limits.NanoCPUs; got != want {
			t.Errorf("a limit of %s became %d, want %d", written, got, want)
		}
		if got := resources.Reservations.NanoCPUs; got != want {
			t.Errorf("a reservation of %s became %d, want %d", written, got, want)
		}
	}
}

func TestTrapEnvFileLinesAreRaw(t *testing.T) {
	raw := "QUOTED=\"a b\"\nSINGLE='x'\nCOMMENT=a # b\n# whole\nDOLLAR=$HOME ${X:-y} $$\nESCAPE=a\\nb\nSPACES=  a  \nEMPTY=\nEQUALS=a=b\n"
	want := []string{"COMMENT=a # b", "DOLLAR=$HOME ${X:-y} $$", "EMPTY=", "EQUALS=a=b", `ESCAPE=a\nb`, `QUOTED="a b"`, "SINGLE='x'", "SPACES=  a  "}
	for _, written := range []string{"e", "[e]", "[{path: e}]", "[{path: e, required: true}]", "[{path: e, format: raw}]", "['${WHERE}']", "[{path: '${WHERE}', required: false}]"} {
		stack := trap(t, with("e", raw, compose("services: {web: {image: 'x:1', env_file: "+written+"}}")), map[string]string{"WHERE": "e"})
		if got := stack.Services[0].Spec.TaskTemplate.ContainerSpec.Env; !slices.Equal(got, want) {
			t.Errorf("env_file: %s\ngot  %q\nwant %q", written, got, want)
		}
	}
}

func TestTrapEnvFileNotRequired(t *testing.T) {
	stack := trap(t, compose("services: {web: {image: 'x:1', env_file: [{path: gone, required: false}]}}"), nil)
	if !slices.Contains(stack.Source.Files, "shop/gone") {
		t.Errorf("the file is not watched for: %q", stack.Source.Files)
	}
	trapError(t, compose("services:\n  web:\n    image: 'x:1'\n    env_file: [gone]"), nil, "env-file", 4)
	trapError(t, compose("services:\n  web:\n    image: 'x:1'\n    env_file: [{path: gone, required: true}]"), nil, "env-file", 4)
	trapError(t, with("e", "A=1", compose("services:\n  web:\n    image: 'x:1'\n    env_file: [{path: e, format: toml}]")), nil, "env-file", 4)
}

func TestTrapLabelFile(t *testing.T) {
	for _, written := range []string{"l", "[l]", "['${WHERE}']"} {
		stack := trap(t, with("l", "a=\"1\"\nb=2 # x\n", compose("services: {web: {image: 'x:1', label_file: "+written+", labels: {b: own}}}")), map[string]string{"WHERE": "l"})
		labels := stack.Services[0].Spec.TaskTemplate.ContainerSpec.Labels
		if labels["a"] != `"1"` || labels["b"] != "own" {
			t.Errorf("label_file: %s: %q", written, labels)
		}
	}
}

func TestTrapBcryptHashInDefault(t *testing.T) {
	const hash = "$2y$05$CzyJwpFlXyPCsEyYd2lUEuTN1gOPBA1LJoqbFzEhGvRqcyVnhhY4G"
	c := trapService(t, "services: {web: {image: 'x:1', environment: {HASH: '${USER_HASH:-admin:"+hash+"}', TWO: '${A-"+hash+"}'}}}")
	if want := []string{"HASH=admin:" + hash, "TWO=" + hash}; !slices.Equal(c.Env, want) {
		t.Errorf("%q, want %q", c.Env, want)
	}
}

func TestTrapRequiredVariableAmongOthers(t *testing.T) {
	for _, value := range []string{"${A?needed}:${B}", "${B}${A:?needed}", "${A:?}"} {
		trapError(t, compose("services:\n  web:\n    image: 'x:1'\n    environment: {V: '"+value+"'}"), map[string]string{"B": "b"}, "variable", 4)
	}
	stack := trap(t, compose("services: {web: {image: 'x:1', environment: {V: '${A?needed}:${B}'}}}"), map[string]string{"A": "a", "B": "b"})
	if got := stack.Services[0].Spec.TaskTemplate.ContainerSpec.Env; !slices.Equal(got, []string{"V=a:b"}) {
		t.Errorf("%q", got)
	}
}

func TestTrapMountTargetKeepsItsSlash(t *testing.T) {
	for _, written := range []string{"vol:/d/", "{type: volume, source: vol, target: /d/}"} {
		mounts := trapService(t, "services: {web: {image: 'x:1', volumes: ["+written+"]}}\nvolumes: {vol: {}}").Mounts
		if len(mounts) != 1 || mounts[0].Target != "/d/" {
			t.Errorf("%s became %+v", written, mounts)
		}
	}
}

// Both are kept, and an engine refuses that: it is told at once.
func TestTrapDuplicateMountTarget(t *testing.T) {
	for _, second := range []string{"'two:/d'", "'two:/d/'", "{type: tmpfs, target: /d}"} {
		message := trapError(t, compose("services:\n  web:\n    image: x:1\n    volumes: ['one:/d', "+second+"]\nvolumes: {one: {}, two: {}}"), nil, "duplicate-target", 4)
		if !strings.Contains(message, "/d") {
			t.Errorf("%q", message)
		}
	}
}

func TestTrapModeFromVariableIsDecimal(t *testing.T) {
	text := func(mode string) string {
		return "services: {web: {image: 'x:1', configs: [{source: c, mode: " + mode + "}]}}\nconfigs: {c: {content: x}}"
	}
	for written, want := range map[string]uint32{"0440": 0o440, "'0440'": 0o440, "0o440": 0o440, "288": 0o440, "'${M}'": 440} {
		stack := trap(t, compose(text(written)), map[string]string{"M": "0440"})
		if got := uint32(stack.Services[0].Spec.TaskTemplate.ContainerSpec.Configs[0].File.Mode); got != want {
			t.Errorf("mode: %s became %#o, want %#o", written, got, want)
		}
	}
	_, findings := trapFindings(t, compose(text("'${M}'")), map[string]string{"M": "0440"})
	if !slices.ContainsFunc(findings, func(f Finding) bool { return f.Code == "mode-decimal" }) {
		t.Errorf("nothing is said of it: %s", findingsText(findings))
	}
}

func TestTrapPublishedRange(t *testing.T) {
	for written, want := range map[string][][2]uint32{
		"'8000-8002:80-82'":                           {{8000, 80}, {8001, 81}, {8002, 82}},
		"'3000-3002:3000'":                            {{3000, 3000}, {3001, 3000}, {3002, 3000}},
		"'5000-5001'":                                 {{0, 5000}, {0, 5001}},
		"{target: 80, published: '8000-8002'}":        {{8000, 80}, {8001, 80}, {8002, 80}},
		"{target: 80, published: '9000', mode: host}": {{9000, 80}},
	} {
		stack := trap(t, compose("services: {web: {image: 'x:1', ports: ["+written+"]}}"), nil)
		var got [][2]uint32
		for _, p := range stack.Services[0].Spec.EndpointSpec.Ports {
			got = append(got, [2]uint32{p.PublishedPort, p.TargetPort})
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s became %v, want %v", written, got, want)
		}
	}
}

func TestTrapSeveralDocuments(t *testing.T) {
	for _, text := range []string{
		"services: {web: {image: 'x:1'}}\n---\nservices: {more: {image: 'y:1'}}\n",
		"services: {web: {image: 'x:1'}}\n---\n",
	} {
		message := trapError(t, compose(text), nil, "several-documents", 2)
		if !strings.Contains(message, "more than one YAML document") {
			t.Errorf("%q", message)
		}
	}
	for _, text := range []string{"---\nservices: {web: {image: 'x:1'}}\n", "%YAML 1.1\n---\nservices: {web: {image: 'x:1'}}\n...\n"} {
		trap(t, compose(text), nil)
	}
	trapError(t, with("part.yml", "services: {a: {image: 'x:1'}}\n---\n{}\n", compose("include: [part.yml]")), nil, "several-documents", 2)
}

// `docker stack deploy` takes any name that a shell command may have; what it makes of
// My.Stack an engine refuses, since a service's name has no dots.
func TestTrapProjectName(t *testing.T) {
	for _, name := range []string{"My-Stack", "MY_STACK", "9lives", "a"} {
		stack := trap(t, compose("name: "+name+"\nservices: {web: {image: 'x:1'}}"), nil)
		if stack.Name != name || stack.Services[0].Name != name+"_web" {
			t.Errorf("%q became %q with the service %q", name, stack.Name, stack.Services[0].Name)
		}
	}
	for _, name := range []string{"My.Stack", "-a", "a b", "é", "''", "a/b", "a_", "[a]", "5.5"} {
		trapError(t, compose("name: "+name+"\nservices: {web: {image: 'x:1'}}"), nil, "invalid-name", 1)
	}
	stack, findings := trapFindings(t, compose("name: '${NAME}'\nservices: {web: {image: 'x:1'}}"), map[string]string{"NAME": "given"})
	if stack == nil || stack.Name != "given" {
		t.Errorf("a name by a variable: %s", findingsText(findings))
	}
	stack = trap(t, with("part.yml", "name: other\nservices: {a: {image: 'x:1'}}", compose("include: [part.yml]\nservices: {web: {image: 'x:1'}}")), nil)
	if stack.Name != "shop" {
		t.Errorf("an included file named the stack %s", stack.Name)
	}
}

func TestTrapExternalName(t *testing.T) {
	stack := trap(t, compose(`
services:
  web: {image: "x:1", networks: [n], configs: [c], secrets: [s], volumes: ["vol:/v"]}
networks: {n: {external: {name: real-n}}}
configs: {c: {external: {name: real-c}}}
secrets: {s: {external: {name: real-s}}}
volumes: {vol: {external: {name: real-v}}}
`), nil)
	task := stack.Services[0].Spec.TaskTemplate
	c := task.ContainerSpec
	if !stack.Networks[0].External || stack.Networks[0].Name != "real-n" || task.Networks[0].Target != "real-n" {
		t.Errorf("network: %+v", stack.Networks[0])
	}
	if !stack.Configs[0].External || c.Configs[0].ConfigName != "real-c" || c.Configs[0].File.Name != "c" {
		t.Errorf("config: %+v", c.Configs[0])
	}
	if !stack.Secrets[0].External || c.Secrets[0].SecretName != "real-s" || c.Secrets[0].File.Name != "s" {
		t.Errorf("secret: %+v", c.Secrets[0])
	}
	if c.Mounts[0].Source != "real-v" {
		t.Errorf("volume: %+v", c.Mounts[0])
	}
	trapError(t, compose("services: {web: {image: 'x:1', networks: [n]}}\nnetworks:\n  n: {name: a, external: {name: b}}"), nil, "external-name", 3)
}

func TestTrapRequiredVariableUnset(t *testing.T) {
	message := trapError(t, compose("services:\n  web:\n    image: 'x:${TAG:?say which}'"), nil, "variable", 3)
	if !strings.Contains(message, "TAG") || !strings.Contains(message, "say which") {
		t.Errorf("%q", message)
	}
}

func TestTrapEnvironmentOfConfigAndSecretUnset(t *testing.T) {
	for _, section := range []string{"configs", "secrets"} {
		files := compose("services: {web: {image: 'x:1', " + section + ": [c]}}\n" + section + ": {c: {environment: VALUE}}")
		trapError(t, files, nil, "variable-unset", 2)
		if stack := trap(t, files, map[string]string{"VALUE": "v"}); stack == nil {
			t.Fatal("refused")
		}
		trapError(t, files, map[string]string{"VALUE": ""}, strings.TrimSuffix(section, "s")+"-empty", 2)
	}
}

// ~ is another folder on the machine of everyone who reads the file, and the daemon's
// own is nobody's.
func TestTrapHome(t *testing.T) {
	trapError(t, compose("services:\n  web:\n    image: 'x:1'\n    volumes: ['~/d:/d']"), nil, "bind-home", 4)
	stack := trap(t, compose("services: {web: {image: 'x:1', volumes: ['~/d:/d']}}"), map[string]string{"HOME": "/home/u"})
	if got := stack.Services[0].Spec.TaskTemplate.ContainerSpec.Mounts[0]; got.Source != "/home/u/d" || got.Type != mount.TypeBind {
		t.Errorf("%+v", got)
	}
}

// What `docker stack deploy` ignores, aloud or not, is told.
func TestTrapIgnoredAloud(t *testing.T) {
	for key, value := range map[string]string{
		"build": ".", "cgroupns_mode": "host", "cgroup_parent": "x", "devices": "['/dev/a:/dev/a']", "domainname": "x", "external_links": "[a]",
		"ipc": "host", "links": "[a]", "mac_address": "'02:42:ac:11:65:43'", "network_mode": "host", "pid": "host", "privileged": "true",
		"security_opt": "[a]", "shm_size": "64m", "userns_mode": "host", "container_name": "xy", "expose": "['80']",
	} {
		code := "option-ignored"
		if key == "build" {
			code = "build-ignored"
		}
		if key == "cgroupns_mode" {
			key = "cgroup" // as the specification calls it
		}
		trapWarning(t, "services:\n  web:\n    image: registry.example.com/x:1\n    "+key+": "+value, code)
	}
}

// What it loses without a word is done, or told.
func TestTrapLostWithoutAWord(t *testing.T) {
	stack := trap(t, compose("services: {web: {image: 'x:1', depends_on: [db]}, db: {image: 'y:1'}}"), nil)
	if got := stack.Services[1].DependsOn; !slices.Equal(got, []string{"db"}) {
		t.Errorf("depends_on is lost: %q", got)
	}
	for _, text := range []string{
		"volumes: [{type: bind, source: /a, target: /a, bind: {create_host_path: true}}]",
		"volumes: ['/a:/a:z']",
		"networks: {default: {ipv4_address: 10.0.0.5}}",
		"networks: {default: {ipv6_address: '2001:db8::5'}}",
		"ports: ['10.0.0.1:80:80']",
	} {
		trapWarning(t, "services:\n  web:\n    image: x:1\n    "+text, "option-ignored")
	}
	c := trapService(t, "services: {web: {image: 'x:1', tmpfs: [/t]}}")
	if len(c.Mounts) != 1 || c.Mounts[0].Type != mount.TypeTmpfs || c.Mounts[0].Target != "/t" {
		t.Errorf("tmpfs is lost: %+v", c.Mounts)
	}
	c = trapService(t, "services: {web: {image: 'x:1', volumes: [{type: tmpfs, target: /t, tmpfs: {mode: 0700}}]}}")
	if len(c.Mounts) != 1 || c.Mounts[0].TmpfsOptions == nil || c.Mounts[0].TmpfsOptions.Mode != 0o700 {
		t.Errorf("tmpfs.mode is lost: %+v", c.Mounts)
	}
	if c = trapService(t, "services: {web: {image: 'x:1', oom_score_adj: 100}}"); c.OomScoreAdj != 100 {
		t.Errorf("oom_score_adj is lost: %d", c.OomScoreAdj)
	}
}

// What it refuses is refused, or done where compose can.
func TestTrapHardErrors(t *testing.T) {
	for key, value := range map[string]string{"volumes_from": "[a]", "cpu_quota": "5", "cpu_shares": "5", "cpuset": "'0'", "mem_limit": "1g", "memswap_limit": "1g"} {
		trapError(t, compose("services:\n  web:\n    image: x:1\n    "+key+": "+value), nil, "option-forbidden", 4)
	}
	c := trapService(t, "services: {web: {extends: {service: base}}, base: {image: 'x:1', user: u}}")
	if c.User != "u" {
		t.Errorf("extends is lost: %+v", c)
	}
}

// What its schema refuses and compose takes is taken.
func TestTrapSchemaOfComposeIsWider(t *testing.T) {
	stack := trap(t, with("part.yml", "services: {part: {image: 'x:1'}}", with("e", "A=1\n", compose(`
version: "2.4"
name: other
include: [part.yml]
services:
  web:
    image: x:1
    profiles: ["on"]
    depends_on: {db: {condition: service_healthy}}
    ports: [{target: 80, published: "8000-8001"}]
    configs: [c]
    env_file: [{path: e}]
    group_add: ["5"]
    stop_grace_period: 1d
  db: {image: "y:1", healthcheck: {test: [CMD, x], interval: 1d12h}}
  off: {image: "z:1", profiles: ["off"]}
configs: {c: {content: "text ${A:-b}"}}
x-skep: {profiles: ["on"]}
`))), nil)
	if stack.Name != "other" || len(stack.Services) != 3 {
		t.Fatalf("%s with %d services", stack.Name, len(stack.Services))
	}
	if got := string(stack.Configs[0].Spec.Data); got != "text b" {
		t.Errorf("content: %q", got)
	}
	web := stack.Services[2].Spec
	if len(web.EndpointSpec.Ports) != 2 || web.TaskTemplate.ContainerSpec.StopGracePeriod.Hours() != 24 || !slices.Equal(web.TaskTemplate.ContainerSpec.Groups, []string{"5"}) {
		t.Errorf("%+v", web)
	}
}

// What compose's library refuses and `docker stack deploy` takes is taken.
func TestTrapLibraryIsNarrower(t *testing.T) {
	c := trapService(t, `services: {web: {image: "x:1", command: "echo (a", environment: {"A ": b}}}`)
	if !slices.Equal(c.Args, []string{"echo", "(a"}) || !slices.Equal(c.Env, []string{"A =b"}) {
		t.Errorf("%q, %q", c.Args, c.Env)
	}
}

// What YAML itself makes of a text.
func TestTrapYAML(t *testing.T) {
	env := func(text string) []string {
		return trapService(t, "services: {web: {image: 'x:1', environment: {A: "+text+"}}}").Env
	}
	for text, want := range map[string]string{
		"yes": "A=yes", "'yes'": "A=yes", "true": "A=true", "on": "A=on", "0x1f": "A=31", "1e3": "A=1000", "0o17": "A=15", "1.10": "A=1.1", "'1.10'": "A=1.10",
		"!!str 1.10": "A=1.10", "!!binary aGk=": "A=hi", "null": "A", "~": "A", "''": "A=", "12:30": "A=12:30", "1:30:00": "A=1:30:00",
	} {
		if got := env(text); !slices.Equal(got, []string{want}) {
			t.Errorf("%s became %q, want %q", text, got, want)
		}
	}
	for name, text := range map[string]string{
		"a byte order mark": "\ufeffservices:\n  web:\n    image: x:1\n",
		"CRLF":              "services:\r\n  web:\r\n    image: x:1\r\n",
		"tabs behind":       "services:\n  web:\t\n    image:\tx:1\t# c\n",
		"no line break":     "services:\n  web:\n    image: x:1",
		"flow":              "{services: {web: {image: 'x:1'}}}",
		"!!set":             "services: {web: {image: 'x:1', networks: !!set {default}}}",
		"!!map":             "services: !!map {web: {image: 'x:1'}}",
		"merge":             "x-a: &a {image: 'x:1'}\nx-b: &b {user: u}\nservices: {web: {<<: [*a, *b], labels: {a: b}}}",
	} {
		if got := trapService(t, text); got.Image != "x:1" {
			t.Errorf("%s: the image is %q", name, got.Image)
		}
	}
	for name, c := range map[string]struct {
		text, code string
		line       int
	}{
		"a tab before":       {"services:\n\tweb:\n", "yaml-syntax", 2},
		"a number as key":    {"services:\n  5: {image: 'x:1'}\n", "key-not-text", 1},
		"a list as key":      {"services:\n  ? [a]\n  : {image: 'x:1'}\n", "yaml-syntax", 2},
		"equal keys":         {"services:\n  web: {image: 'x:1'}\n  web: {image: 'y:1'}\n", "yaml-syntax", 3},
		"merge of no map":    {"services:\n  web: {image: 'x:1', <<: 5}\n", "yaml-syntax", 2},
		"merge of a list":    {"services:\n  web: {image: 'x:1', <<: [5]}\n", "yaml-syntax", 2},
		"no such anchor":     {"services:\n  web: *a\n", "yaml-syntax", 0},
		"bad !!binary":       {"services:\n  web: {image: !!binary '%'}\n", "yaml-syntax", 2},
		"bad !!int":          {"services:\n  web: {image: !!int x}\n", "yaml-syntax", 2},
		"a tag of one's own": {"services:\n  web: {image: !env X}\n", "yaml-tag", 2},
		"a list":             {"- a\n", "not-a-mapping", 1},
		"nothing":            {"", "empty-file", 1},
		"a comment":          {"# nothing\n", "empty-file", 1},
		"a date":             {"services:\n  web: {image: 2020-01-01}\n", "invalid-compose", 2},
	} {
		t.Run(name, func(t *testing.T) { trapError(t, compose(c.text), nil, c.code, c.line) })
	}
}

// Files are named in any script, and in no way that is empty.
func TestTrapFileNames(t *testing.T) {
	for _, name := range []string{"ключ.txt", "鍵", "a b", "a\tb", "-", "...", "naïve", strings.Repeat("é", 120)} {
		stack := trap(t, with(name, "x", compose("services: {web: {image: 'x:1', configs: [c]}}\nconfigs: {c: {file: "+yamlText(name)+"}}")), nil)
		if string(stack.Configs[0].Spec.Data) != "x" {
			t.Errorf("%q was not read", name)
		}
	}
	for _, section := range []string{"configs", "secrets"} {
		trapError(t, compose("services: {web: {image: 'x:1'}}\n"+section+": {c: {file: ''}}"), nil, strings.TrimSuffix(section, "s")+"-file", 2)
		trapError(t, compose("services: {web: {image: 'x:1'}}\n"+section+": {c: {file: '"+strings.Repeat("n", 300)+"'}}"), nil, strings.TrimSuffix(section, "s")+"-file", 2)
	}
	trapError(t, compose("include: ['']\nservices: {web: {image: 'x:1'}}"), nil, "include", 1)
	trapError(t, compose("services: {web: {extends: {file: '', service: base}}}"), nil, "extends", 1)
}
