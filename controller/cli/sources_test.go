package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/skep-io/skep/controller"
)

func TestSourcesFile(t *testing.T) {
	got, err := parseSources("/etc/skep/sources.yml", []byte(`sources:
  - name: infra
    specs: ../infra
  - name: shops
    git: https://git.example.com/shops.git
    ref: main
    path: stacks/
    interval: 30s
    username: bot
    token-file: token
    known-hosts: /run/known_hosts
    ssh-key-file: key
    allow-rewind: true
    verify: signers
`))
	if err != nil {
		t.Fatal(err)
	}
	want := []SourceConfig{
		{Name: "infra", Specs: "/etc/infra", File: "/etc/skep/sources.yml", Line: 2},
		{Name: "shops", Git: "https://git.example.com/shops.git", Ref: "main", Path: "stacks/", Interval: 30 * time.Second, Username: "bot",
			TokenFile: "/etc/skep/token", KnownHosts: "/run/known_hosts", SSHKeyFile: "/etc/skep/key", AllowRewind: true, Verify: "/etc/skep/signers",
			File: "/etc/skep/sources.yml", Line: 4},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// Each mistake is told with its line, and with what to do.
func TestSourcesFileThatIsWrong(t *testing.T) {
	const good = "sources:\n- {name: a, specs: a}\n"
	for text, want := range map[string][]string{
		"":                        {"s.yml:1: the file is empty (write sources: and a list of them)"},
		"sources: []\n":           {"s.yml:1: there are no sources"},
		"- name: a\n  specs: a\n": {"s.yml:1: the file has to be keys with values (sources)", "s.yml:1: there are no sources (write sources:"},
		"sources: [\n":            {"s.yml: line "},
		"source:\n- a\n":          {"s.yml:1: source is not known in the file (did you mean sources?)"},
		"sources:\n- {name: a, specs: a}\n- {name: a, specs: b}\n": {"s.yml:3: there are two sources a (give one another name:)"},
		"sources:\n- name: a\n":                                                 {"s.yml:2: source a needs specs: with a directory, or git:"},
		"sources:\n- {name: a, specs: a, git: b}\n":                             {"s.yml:2: source a needs", "and not both"},
		"sources:\n- {specs: a}\n":                                              {`s.yml:2: "" cannot be the name of a source`, "(write name:)"},
		"sources:\n- name: a:b\n  specs: a\n":                                   {`s.yml:2: "a:b" cannot be the name of a source`},
		"sources:\n- name: a\n  git: b\n  refs: c\n":                            {"s.yml:4: refs is not known in a source (did you mean ref?)"},
		"sources:\n- name: a\n  specs: b\n  ref: c\n":                           {"s.yml:4: ref is for a git repository, and source a is a directory (take it out)"},
		"sources:\n- name: a\n  specs: b\n  specs: c\n":                         {"s.yml:4: specs stands in a source twice (keep one)"},
		"sources:\n- name: a\n  specs:\n":                                       {"s.yml:3: specs has to be text (give it a value, or take it out)"},
		"sources:\n- name: a\n  specs: [b]\n":                                   {"s.yml:3: specs has to be text"},
		"sources:\n- name: a\n  git: b\n  interval: soon\n  allow-rewind: ja\n": {`s.yml:4: interval: "soon" is no duration (write it like 1m or 30s)`, `s.yml:5: allow-rewind: "ja" is neither true nor false`},
		"sources:\n- name: a\n  git: b\n  interval: -1m\n":                      {`"-1m" is no duration`},
		"sources:\n- shops\n":                                                   {"s.yml:2: a source has to be keys with values (name, specs, git"},
		"a: &a {name: x, specs: x}\nsources:\n- *a\n":                           {"s.yml:1: a is not known in the file", "s.yml:3: a source has to be keys"},
		good + "---\n" + good:                                                   {"there is more than one document"},
	} {
		got, err := parseSources("s.yml", []byte(text))
		if err == nil {
			t.Errorf("%q is good: %+v", text, got)
			continue
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%q: %v\nwant %q", text, err, w)
			}
		}
	}
}

func TestSourcesOfFlags(t *testing.T) {
	file := filepath.Join(t.TempDir(), "sources.yml")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("sources:\n- {name: shops, specs: /srv/shops}\n")
	for what, tt := range map[string]struct {
		specs []string
		file  string
		want  string
	}{
		"nothing":             {nil, "", "error which stacks? (give --specs DIR, or set SKEP_SPECS)"},
		"one":                 {[]string{"stacks/"}, "", "specs=stacks/"},
		"one twice":           {[]string{"stacks/", "stacks/"}, "", "specs=stacks/"},
		"one with a name":     {[]string{"infra=stacks/"}, "", "infra=stacks/"},
		"several":             {[]string{"/srv/infra/", "shops=/x"}, "", "infra=/srv/infra/ shops=/x"},
		"a path with =":       {[]string{"./a=b"}, "", "specs=./a=b"},
		"a file":              {nil, file, "shops=/srv/shops"},
		"both":                {[]string{"/srv/infra"}, file, "infra=/srv/infra shops=/srv/shops"},
		"two of a name":       {[]string{"/a/stacks", "/b/stacks"}, "", "error --specs /b/stacks: there are two sources stacks (give one another name: --specs NAME=/b/stacks)"},
		"one of the file's":   {[]string{"shops=/a"}, file, fmt.Sprintf("error %s:2: there are two sources shops (give one another name:)", file)},
		"none can be made":    {[]string{".", "/a"}, "", `error --specs .: a source cannot be called "." (give it a name: --specs NAME=.)`},
		"a file that is away": {nil, file + "x", "error read sources: open"},
	} {
		flags := sourceFlags{file: tt.file}
		for _, s := range tt.specs {
			if err := flags.specs.Set(s); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
		var got []string
		sources, err := (&app{}).sources(&flags)
		for _, s := range sources {
			got = append(got, s.Name+"="+s.Dir)
		}
		told := strings.Join(got, " ")
		if err != nil {
			told = "error " + err.Error()
		}
		if told != tt.want && !(strings.HasPrefix(tt.want, "error read") && strings.HasPrefix(told, tt.want)) {
			t.Errorf("%s: got  %s\nwant %s", what, told, tt.want)
		}
	}
	var v specsValue
	for _, bad := range []string{"", "infra="} {
		if v.Set(bad) == nil {
			t.Errorf("%q names a directory", bad)
		}
	}

	// A repository is for whoever can fetch one.
	write("sources:\n- {name: shops, git: 'https://git.example.com/shops.git', path: stacks}\n")
	flags := sourceFlags{file: file}
	if _, err := (&app{}).sources(&flags); err == nil || !strings.Contains(err.Error(), file+":2: source shops is a git repository") {
		t.Errorf("without one: %v", err)
	}
	a := &app{openGit: func(c SourceConfig) (controller.Source, error) {
		if c.Git != "https://git.example.com/shops.git" || c.Path != "stacks" {
			return controller.Source{}, errors.New("not what the file says")
		}
		return controller.Source{Name: c.Name, Dir: "/cache", Keep: func(context.Context, func()) {}}, nil
	}}
	if got, err := a.sources(&flags); err != nil || len(got) != 1 || got[0].Dir != "/cache" || got[0].Keep == nil {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := a.readSpecs(t.Context(), &flags, &specFlags{}); err == nil || !strings.Contains(err.Error(), "only skep run fetches one") {
		t.Errorf("%v", err)
	}
}

func TestPlanReadsSeveralDirectories(t *testing.T) {
	dir := t.TempDir()
	for file, text := range map[string]string{
		"infra/db.yml":    "services: {db: {image: 'db:1'}}\n",
		"shops/shop.yml":  "services: {web: {image: 'web:1'}}\nx-skep: {depends_on: [db]}\n",
		"other/shop.yml":  "services: {web: {image: 'web:2'}}\n",
		"sources.yml":     "sources:\n- {name: infra, specs: infra}\n- {name: shops, specs: shops}\n",
		"twice.yml":       "sources:\n- {name: other, specs: other}\n- {name: shops, specs: shops}\n",
		"one-missing.yml": "sources:\n- {name: other, specs: nowhere}\n- {name: shops, specs: shops}\n",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, file)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	read := func(file string) (string, error) {
		s, err := newApp(nil).readSpecs(t.Context(), &sourceFlags{file: filepath.Join(dir, file)}, &specFlags{maxSize: 1 << 20})
		if err != nil {
			return "", err
		}
		var told []string
		for _, name := range everything(nil, s) {
			told = append(told, name)
			for _, f := range s.Problems[name] {
				told = append(told, f.Code)
			}
			if x := s.Stacks[name]; x != nil {
				told = append(told, x.Source.Name)
				for _, f := range x.Findings {
					if strings.HasPrefix(f.Code, "depends-on") {
						told = append(told, f.Code)
					}
				}
			}
		}
		return strings.Join(told, " "), nil
	}
	for file, want := range map[string]string{
		"sources.yml": "db infra shop shops",
		"twice.yml":   "shop duplicate-stack duplicate-stack",
	} {
		if got, err := read(file); err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", file, got, err, want)
		}
	}
	if _, err := read("one-missing.yml"); err == nil || !strings.Contains(err.Error(), "read stacks: source other: specs directory ") {
		t.Errorf("%v", err)
	}
}

// What a rule says of a source is judged where the directory has its name, and of that
// alone.
func TestValidateKnowsWhichSourceADirectoryIs(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "stacks", "proxy"), 0o700); err != nil {
		t.Fatal(err)
	}
	for file, text := range map[string]string{
		"stacks/proxy/compose.yaml": "services: {web: {image: 'proxy:1'}}\n",
		"policy.yml":                "rules:\n- name: proxy\n  directories: ['infra:proxy']\n  allow: {images: ['**']}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	stacks := filepath.Join(dir, "stacks")
	for specs, want := range map[string]int{"infra=" + stacks: exitGood, "shops=" + stacks: exitNo, stacks: exitNo} {
		var out, said strings.Builder
		got := Main(t.Context(), []string{"validate", "--policy", filepath.Join(dir, "policy.yml"), "--specs", specs}, strings.NewReader(""), &out, &said)
		if got != want || (want == exitNo) != strings.Contains(out.String(), "policy-image") || strings.Contains(out.String(), "infra:proxy/") {
			t.Errorf("--specs %s: exit code %d, want %d\n%s%s", specs, got, want, out.String(), said.String())
		}
	}
}
