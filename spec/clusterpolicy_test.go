package spec

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func policyOf(t rapid.TB, text string) *ClusterPolicy {
	t.Helper()
	p, err := ParseClusterPolicy("policy.yml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// What is wrong in a policy is told with its line, and with what to write there.
func TestPoliciesThatAreWrong(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                                              "policy p.yml:1: the policy has no rules",
		"[a]":                                           "policy p.yml:1: the policy has no rules",
		"a: 1\n---\nb: 2":                               "more than one YAML document",
		"rules: []":                                     "p.yml:1: the policy has no rules, and all",
		"rules: {a: 1}":                                 "p.yml:1: the policy has no rules",
		"rule: [{name: a}]":                             "p.yml:1: rule is not known in a policy (did you mean rules?)",
		"rules:\n- name: a\n- 1":                        "p.yml:3: rule 2 is not a mapping",
		"rules:\n- allow: {}":                           "p.yml:2: rule 1 has no name",
		"rules:\n- name: a b":                           "rule 1 has no name",
		"rules:\n- name: a\n- name: a":                  "p.yml:3: there are two rules a",
		"rules:\n- name: a\n  alow: {}":                 "p.yml:3: alow is not known in rule 1 (did you mean allow?)",
		"rules:\n- name: a\n  allow: [a]":               "p.yml:3: rule 1.allow is not a mapping",
		"rules:\n- name: a\n  allow:":                   "rule 1.allow is not a mapping",
		rule("allow: {bind: [/a]}"):                     "p.yml:3: bind is not known in rule 1.allow (did you mean binds?)",
		rule("allow: {binds: /a}"):                      "rule 1.allow.binds is not a list",
		rule("allow: {binds: [[a]]}"):                   "neither text nor a number",
		rule("allow: {binds: ['']}"):                    "an entry that is empty",
		rule("allow: {binds: [a]}"):                     "is no absolute path",
		rule("allow: {binds: [/a**]}"):                  "** stands for whole parts",
		rule("allow: {binds: ['/{{.X}}']}"):             "is no absolute path",
		rule("deny: {binds: ['/a:ro']}"):                "what is denied may not be read either",
		rule("deny: {log_drivers: [syslog, journald]}"): "p.yml:3: deny.log_drivers has journald, which every stack may use and no rule is asked for",
		rule("deny: {volume_drivers: [local]}"):         "deny.volume_drivers has local",
		rule("deny: {network_drivers: [overlay]}"):      "deny.network_drivers has overlay",
		rule("deny: {template_drivers: [golang]}"):      "deny.template_drivers has golang",
		rule("deny: {volume_types: [tmpfs]}"):           "deny.volume_types has tmpfs",
		rule("allow: {ports: [http]}"):                  "is no port and no range",
		rule("allow: {ports: [0-10]}"):                  "begins at 0",
		rule("allow: {ports: [90-80]}"):                 "is no port",
		rule("allow: {ports: [65536]}"):                 "is no port",
		rule("allow: {images: [nginx]}"):                "did you mean docker.io/library/nginx?",
		rule("allow: {images: [bitnami/*]}"):            "did you mean docker.io/bitnami/*?",
		rule("allow: {images: [r.example]}"):            "write r.example/** for all",
		rule("allow: {images: ['r.x/a@b']}"):            "names a digest",
		rule("allow: {capabilities: ['N*']}"):           "is no capability",
		rule("allow: {privileges: [all]}"):              "is no privilege (write one of credential_spec",
		rule("limit: {replica: 3}"):                     "did you mean replicas?",
		rule("limit: {replicas: -1}"):                   `limit.replicas is "-1"`,
		rule("limit: {replicas: 0}"):                    `limit.replicas is "0"`,
		rule("limit: {cpus: .nan}"):                     "such as 0.5",
		rule("limit: {memory: lots}"):                   "such as 512M",
		rule("limit: {digest: 'yes'}"):                  "neither true nor false",
		rule("deny: !reset {binds: [/etc]}"):            "p.yml:2: rule 1.deny has the tag !reset",
		rule("deny: {binds: !reset [/etc]}"):            "p.yml:3: rule 1.deny.binds has the tag !reset",
		rule("deny: !override {binds: [/etc]}"):         "the tag !override",
		rule("deny: {binds: ['/etc ']}"):                "white space around it",
		rule("deny: {networks: [' proxy']}"):            "white space around it",
		rule("stacks: []"):                              "selects nothing",
		rule("stacks:"):                                 "selects nothing",
		rule("stacks: web"):                             "rule 1.stacks is not a list",
		rule("directories: [/etc]"):                     "does not lie in the specs directory",
		rule("directories: [../x]"):                     "does not lie in the specs directory",
		rule("allow: {binds: [/a], binds: []}"):         "binds",
		strings.Repeat("#", maxPolicySize+1):            "bytes",
	} {
		_, err := ParseClusterPolicy("p.yml", []byte(text))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "p.yml:") {
			t.Errorf("%.60s\nis told as: %v\nwant: %s", text, err, want)
		}
	}
}

// rule is a policy of one rule.
func rule(parts string) string { return "rules:\n- name: a\n  " + parts }

// All that is wrong is told at once.
func TestPoliciesTellAllThatIsWrong(t *testing.T) {
	t.Parallel()
	_, err := ParseClusterPolicy("p.yml", []byte("rules:\n- name: a\n  allow: {ports: [x]}\n- allow: {binds: [y]}\n"))
	if err == nil || strings.Count(err.Error(), "p.yml:") != 3 {
		t.Errorf("told: %v", err)
	}
}

func TestPolicyFilesAreRead(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "policy.yml")
	if _, err := LoadClusterPolicy(file); err == nil || !strings.HasPrefix(err.Error(), "read policy: ") {
		t.Errorf("a file that is not there: %v", err)
	}
	if _, err := LoadClusterPolicy(filepath.Dir(file)); err == nil {
		t.Error("a folder is read")
	}
	if err := os.WriteFile(file, []byte(rule("allow: {binds: [/a]}")), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := LoadClusterPolicy(file)
	if err != nil || len(p.Rules) != 1 || p.Rules[0].Name != "a" || p.Rules[0].Line != 2 {
		t.Errorf("%+v, %v", p, err)
	}
}

// Which rules are for a stack.
func TestRulesSelectStacks(t *testing.T) {
	t.Parallel()
	p := policyOf(t, `rules:
- {name: all}
- {name: named, stacks: [shop, "infra-*"]}
- {name: dir, directories: [team-a, "team-*/prod"]}
- {name: both, stacks: ["*-db"], directories: ["team-b/**"]}
- {name: top, directories: [.]}
- {name: root, directories: ["**"]}
`)
	for at, want := range map[string]string{
		"shop at shop.yml":                  "all named top root",
		"shopper at shopper/compose.yaml":   "all top root",
		"infra-x at x.yml":                  "all named top root",
		"infra at x.yml":                    "all top root",
		"x at team-a/x.yml":                 "all dir top root",
		"x at team-a/x/compose.yaml":        "all dir top root",
		"x at team-ab/x.yml":                "all top root",
		"x at team-c/prod/x/compose.yaml":   "all dir top root",
		"x at team-c/stage/x/compose.yaml":  "all top root",
		"x-db at team-b/x-db/compose.yaml":  "all both top root",
		"x at team-b/x/compose.yaml":        "all top root",
		"x at team-c/../team-a/compose.yml": "all dir top root",
	} {
		stack, file, _ := strings.Cut(at, " at ")
		var names []string
		for _, r := range p.For(stack, file).rules {
			names = append(names, r.Name)
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s: %s, want %s", at, got, want)
		}
	}
}

// With several sources a folder is that of any, unless a rule names the source. Nothing
// that somebody calls a folder of theirs makes it one of another source.
func TestRulesSelectSources(t *testing.T) {
	t.Parallel()
	p := policyOf(t, `rules:
- {name: any, directories: [proxy]}
- {name: one, directories: ["infra:proxy"]}
- {name: whole, directories: ["infra:"]}
- {name: dot, directories: ["infra:."]}
- {name: some, directories: ["team-*:./web"]}
- {name: all, directories: [.]}
- {name: deep, directories: ["a/b:c"]}
`)
	for at, want := range map[string]string{
		"infra proxy/compose.yaml":       "any one whole dot all",
		"infra shop.yml":                 "whole dot all",
		"shops proxy/compose.yaml":       "any all",
		"shops infra:proxy/compose.yaml": "all",
		"shops infra:/compose.yaml":      "all",
		"team-a web/compose.yaml":        "some all",
		"team web/compose.yaml":          "all",
		"shops a/b:c/compose.yaml":       "all deep",
		" proxy/compose.yaml":            "any all",
		" infra:proxy/compose.yaml":      "one all", // of one source alone it is a folder's name
		" infra/compose.yaml":            "all",
	} {
		source, file, _ := strings.Cut(at, " ")
		var names []string
		for _, r := range p.For("x", Source{Name: source, File: file}.Site()).rules {
			names = append(names, r.Name)
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s: %s, want %s", at, got, want)
		}
	}
}

// What entries mean, allowed and denied.
func TestEntriesOfPolicies(t *testing.T) {
	t.Parallel()
	bind := func(path string) Request {
		clean, _ := CanonicalPath(path)
		return Request{Aspect: AspectBinds, Value: clean}
	}
	readOnly := func(q Request) Request { q.ReadOnly = true; return q }
	literal := func(q Request) Request { q.Literal = true; return q }
	image := func(name, tag string) Request { return Request{Aspect: AspectImages, Value: name, Tag: tag} }
	of := func(a Aspect, value string) Request { return Request{Aspect: a, Value: value} }
	port := func(n uint32) Request { return Request{Aspect: AspectPorts, Port: n} }
	for _, tt := range []struct {
		entry         string
		q             Request
		allow, denied bool // by a rule that allows, or denies, the entry
	}{
		{"/srv/data", bind("/srv/data"), true, true},
		{"/srv/data", bind("//srv/./x/../data/"), true, true},
		{"/srv/data", bind("/srv/data/x"), false, true},
		{"/srv/data", bind("/srv"), false, true},
		{"/srv/data", bind("/"), false, true},
		{"/srv/data", bind("/srv/database"), false, false},
		{"/srv/**", bind("/srv"), true, true},
		{"/srv/**", bind("/srv/a/b"), true, true},
		{"/srv/**", bind("/srv2"), false, false},
		{"/srv/*", bind("/srv/a"), true, true},
		{"/srv/*", bind("/srv/a/b"), false, true},
		{"/srv/*/data", bind("/srv/x/data"), true, true},
		{"/srv/*/data", bind("/srv/x"), false, true}, // it holds /srv/x/data
		{"/srv/*/data", bind("/srv/x/y"), false, false},
		{"/srv/**/data", bind("/srv/data"), true, true},
		{"/srv/**/data", bind("/srv/x/y/data"), true, true},
		{"/srv/**/data", bind("/srv/x/y"), false, true},
		{"/**", bind("/"), true, true},
		{"/**", literal(bind("/")), false, true},
		{"/", literal(bind("/")), true, true},
		{"/", bind("/etc"), false, true},
		{"/var/run/docker.sock", literal(bind("/run/docker.sock")), true, true},
		{"/run/docker.sock", literal(bind("/var/run//docker.sock")), true, true},
		{"/var/run/*", literal(bind("/run/docker.sock")), false, true},
		{"/var/*/x", bind("/run/x"), false, true},
		{"/proc:ro", readOnly(bind("/proc")), true, false},
		{"/proc:ro", bind("/proc"), false, false},
		{"/srv/*", bind("/srv/{{.Node.Hostname}}"), true, true},
		{"/srv/a", bind("/srv/{{.Node.Hostname}}"), false, true}, // a host may be called so
		{"/srv/{{.Node.Hostname}}", bind("/srv/{{ .Node.Hostname }}"), true, true},
		{"/etc", bind("/srv/{{.Node.Hostname}}"), false, false},
		{`C:\data\**`, bind(`c:\Data\x`), true, true},

		{"docker.io/library/*", image("docker.io/library/nginx", "1"), true, true},
		{"docker.io/library/*", image("docker.io/bitnami/nginx", "1"), false, false},
		{"docker.io/**", image("docker.io/bitnami/nginx", "1"), true, true},
		{"docker.io/**", image("docker.io.evil.example/a", "1"), false, false},
		{"*.example.com/**", image("r.example.com/a/b", "1"), true, true},
		{"r.example:5000/a:1.*", image("r.example:5000/a", "1.2"), true, true},
		{"r.example:5000/a:1.*", image("r.example:5000/a", "2"), false, false},
		{"*", image("r.example/a/b", ""), true, true},
		{"**:latest", image("r.example/a/b", "latest"), true, true},
		{"**:latest", image("r.example/a/b", ""), false, false},

		{"net_admin", of(AspectCapabilities, "NET_ADMIN"), true, true},
		{"CAP_NET_ADMIN", of(AspectCapabilities, "SYS_ADMIN"), false, false},
		{"SYS_ADMIN", of(AspectCapabilities, "ALL"), false, true},
		{"ALL", of(AspectCapabilities, "SYS_ADMIN"), true, true},
		{"net.*", of(AspectSysctls, "net.core.somaxconn"), true, true},
		{"secret-*", of(AspectVolumes, "{{`secret-x`}}"), false, true},
		{"host", literal(of(AspectNetworks, "host")), true, true},
		{"*", literal(of(AspectNetworks, "host")), false, true},

		{"80", port(80), true, true},
		{"80", port(8080), false, false},
		{"8000-8999", port(8000), true, true},
		{"8000-8999", port(8999), true, true},
		{"8000-8999", port(9000), false, false},
		{"1-65535", port(0), false, false},
		{"0", port(0), true, true},
	} {
		e, err := aspects[tt.q.Aspect](tt.entry)
		if err != nil {
			t.Errorf("%s: %v", tt.entry, err)
			continue
		}
		if e.allows(tt.q) != tt.allow {
			t.Errorf("%s allows %+v: %v", tt.entry, tt.q, !tt.allow)
		}
		if denied := e.denies(tt.q); denied != tt.denied && !e.readOnly {
			t.Errorf("%s denies %+v: %v", tt.entry, tt.q, denied)
		}
	}
}

func TestCanonicalPaths(t *testing.T) {
	t.Parallel()
	for source, want := range map[string]string{
		"/": "/", "//": "/", "/a/../..": "/", "/etc/": "/etc", "/./etc//x": "/etc/x",
		"/var/run": "/run", "/var/run/x": "/run/x", "/var/running": "/var/running", "/var/./run/../run/x": "/run/x",
		"/dev/fd/3/x": "/proc/self/fd/3/x", "/a/{{.Task.Slot}}": "/a/" + Placeholder,
		`C:\Data`: "c:/data",
	} {
		if got, opaque := CanonicalPath(source); got != want || opaque {
			t.Errorf("%s is %q, %v, want %q", source, got, opaque, want)
		}
	}
	for _, source := range []string{"", "etc", "./etc", "~/x", `{{"/"}}`, "/a/{{.Service.Labels}}", "/a/{{.Task.Slot}}/../b", `/{{index .Service.Labels "a"}}`, "{{.Node.Hostname}}{{printf `/`}}"} {
		if got, opaque := CanonicalPath(source); !opaque {
			t.Errorf("%s is %q", source, got)
		}
	}
}

// Words that policies in tests are made of, and asked about.
var (
	somePaths  = []string{"/", "/srv", "/srv/a", "/srv/a/b", "/srv/*", "/srv/**", "/**", "/run/docker.sock", "/etc", "/proc", "/*/a"}
	someNames  = []string{"a", "b", "a-b", "*", "a*", "host"}
	someImages = []string{"docker.io/library/a", "r.example/a", "r.example/**", "**", "r.example/*:1.*", "docker.io/**"}
	somePorts  = []string{"0", "80", "80-90", "1-65535"}
)

func someEntries(a Aspect) []string {
	switch a {
	case AspectBinds:
		return somePaths
	case AspectPorts, AspectHostPorts:
		return somePorts
	case AspectImages:
		return someImages
	case AspectCapabilities:
		return []string{"ALL", "NET_ADMIN", "cap_sys_admin"}
	case AspectPrivileges:
		return Privileges
	}
	return someNames
}

// drawRule draws the text of a rule; one that only forbids allows nothing.
func drawRule(t *rapid.T, name string, forbids bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "- name: %s\n", name)
	if rapid.Bool().Draw(t, "by stack") {
		fmt.Fprintf(&b, "  stacks: [%q]\n", rapid.SampledFrom([]string{"shop", "s*", "blog"}).Draw(t, "stack"))
	}
	if rapid.Bool().Draw(t, "by directory") {
		fmt.Fprintf(&b, "  directories: [%q]\n", rapid.SampledFrom([]string{".", "team", "**", "t*"}).Draw(t, "directory"))
	}
	blocks := []string{"allow", "deny"}
	if forbids {
		blocks = blocks[1:]
	}
	for _, block := range blocks {
		fmt.Fprintf(&b, "  %s:\n    volumes: []\n", block)
		for _, a := range aspectNames() {
			if a != AspectVolumes && rapid.IntRange(0, 2).Draw(t, "has") == 0 {
				fmt.Fprintf(&b, "    %s: [%q]\n", a, rapid.SampledFrom(someEntries(a)).Draw(t, string(a)))
			}
		}
	}
	return b.String()
}

func aspectNames() []Aspect {
	var names []Aspect
	for a := range aspects {
		names = append(names, a)
	}
	slices.Sort(names)
	return names
}

func drawRequest(t *rapid.T) Request {
	q := Request{Aspect: rapid.SampledFrom(aspectNames()).Draw(t, "aspect")}
	q.Value = strings.ReplaceAll(rapid.SampledFrom(someEntries(q.Aspect)).Draw(t, "value"), "*", "x")
	if q.Aspect == AspectBinds {
		q.Value, _ = CanonicalPath(q.Value)
		q.ReadOnly = rapid.Bool().Draw(t, "read-only")
		q.Literal = rapid.Bool().Draw(t, "literal")
	}
	q.Port = rapid.Uint32Range(0, 100).Draw(t, "port")
	q.Tag = rapid.SampledFrom([]string{"", "1.2", "latest"}).Draw(t, "tag")
	return q
}

// A rule that only forbids, wherever it is put, never makes something allowed; neither
// does the order of rules; and whatever is refused names a rule, or that none is there.
func TestForbiddingNeverAllows(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var rules []string
		for i := range rapid.IntRange(1, 4).Draw(t, "rules") {
			rules = append(rules, drawRule(t, fmt.Sprintf("rule-%d", i), false))
		}
		before := policyOf(t, "rules:\n"+strings.Join(rules, ""))
		more := slices.Insert(slices.Clone(rules), rapid.IntRange(0, len(rules)).Draw(t, "at"), drawRule(t, "forbids", true))
		after := policyOf(t, "rules:\n"+strings.Join(more, ""))
		slices.Reverse(rules)
		turned := policyOf(t, "rules:\n"+strings.Join(rules, ""))
		for range 10 {
			q := drawRequest(t)
			stack := rapid.SampledFrom([]string{"shop", "blog", "x"}).Draw(t, "stack")
			file := rapid.SampledFrom([]string{"x.yml", "team/x.yml", "team/x/compose.yaml", "other/x.yml"}).Draw(t, "file")
			why, refused := before.For(stack, file).Refuses(q)
			if _, still := after.For(stack, file).Refuses(q); refused && !still {
				t.Fatalf("%+v was refused (%s), and is allowed with another rule that only forbids", q, why)
			}
			if _, other := turned.For(stack, file).Refuses(q); other != refused {
				t.Fatalf("%+v depends on the order of rules", q)
			}
			if refused && !strings.Contains(why, "rule rule-") && !strings.Contains(why, "no rule of policy.yml is for stack "+stack) {
				t.Fatalf("the refusal names no rule: %s", why)
			}
			if !refused && why != "" {
				t.Fatalf("allowed, and yet: %s", why)
			}
		}
	})
}

// Whatever a policy's file holds, reading it ends, and leads to a policy or to errors
// with a place each; a policy lets nothing past by itself.
func FuzzClusterPolicy(f *testing.F) {
	f.Add([]byte("rules:\n- name: a\n  stacks: [x]\n  directories: [a/**]\n  allow: {binds: [/srv/**, '/proc:ro'], ports: [80, 90-99], images: ['r.io/*:1']}\n  deny: {capabilities: [ALL]}\n  limit: {cpus: 0.5, memory: 1G, digest: true}\n"), "shop", "/srv/a")
	f.Add([]byte("rules: [{name: a, allow: &x {binds: [/]}}, {name: b, allow: *x}]"), "b", "/{{.Task.Slot}}/..")
	f.Add([]byte("rules: [{name: a, allow: {binds: ['/**/**/*/**']}}]"), "", `{{"/"}}`)
	f.Fuzz(func(t *testing.T, text []byte, stack, source string) {
		p, err := ParseClusterPolicy("policy.yml", text)
		if err != nil {
			if p != nil {
				t.Error("there is a policy, and an error")
			}
			for line := range strings.SplitSeq(err.Error(), "\n") {
				if !strings.HasPrefix(line, "policy policy.yml:") {
					t.Errorf("an error without a place: %q", line)
				}
			}
			return
		}
		if len(p.Rules) == 0 {
			t.Error("a policy without rules")
		}
		clean, opaque := CanonicalPath(source)
		if again, stillOpaque := CanonicalPath(clean); !opaque && !strings.Contains(clean, Placeholder) && (again != clean || stillOpaque) && !windowsStart.MatchString(source) {
			t.Errorf("%q is canonical as %q, and that as %q", source, clean, again)
		}
		empty := &ClusterPolicy{File: "policy.yml", Rules: []PolicyRule{{Name: "none"}}}
		for _, a := range aspectNames() {
			q := Request{Aspect: a, Value: clean, Port: 80}
			why, refused := p.For(stack, source).Refuses(q)
			if refused == (why == "") {
				t.Errorf("%+v: %v, %q", q, refused, why)
			}
			if _, refused := empty.For(stack, source).Refuses(q); !refused {
				t.Errorf("a rule that says nothing allows %+v", q)
			}
		}
	})
}
