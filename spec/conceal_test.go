package spec

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"
)

// loadFiles loads a stack of these files.
func loadFiles(t *testing.T, files map[string]string) (*Stack, []Finding) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		writeFile(t, filepath.Join(dir, "shop", name), text)
	}
	return load(t.Context(), shop(t, dir), Options{})
}

// A path with a variable in it is told as it is written, from wherever it counts: the
// variable may hold what was meant for another place.
func TestPathsAreToldAsWritten(t *testing.T) {
	part := "services: {web: {image: 'x:1', %s}}"
	for name, files := range map[string]map[string]string{
		"env_file":                  compose(fmt.Sprintf(part, "env_file: '${V}'")),
		"env_file, long":            compose(fmt.Sprintf(part, "env_file: [{path: './a/${V}'}]")),
		"env_file, extended":        with("sub/base.yml", fmt.Sprintf(part, "env_file: '${V}'"), compose(fmt.Sprintf(part, "extends: {file: sub/base.yml, service: web}"))),
		"label_file":                compose(fmt.Sprintf(part, "label_file: ['${V}']")),
		"extends":                   compose(fmt.Sprintf(part, "extends: {file: '${V}', service: web}")),
		"include":                   compose("include: ['${V}']"),
		"include.path":              compose("include: [{path: [part.yml, 'a/../${V}']}]"),
		"include.env_file":          with("part.yml", fmt.Sprintf(part, ""), compose("include: [{path: part.yml, env_file: '${V}'}]")),
		"include.project_directory": with("part.yml", fmt.Sprintf(part, ""), compose("include: [{path: part.yml, project_directory: '${V}'}]")),
		"configs.file":              compose(fmt.Sprintf(part, "") + "\nconfigs: {c: {file: '${V}'}}"),
		"secrets.file":              compose(fmt.Sprintf(part, "") + "\nsecrets: {c: {file: './${V}'}}"),
		"secrets.file, included":    with("sub/part.yml", fmt.Sprintf(part, "")+"\nsecrets: {c: {file: '${V}'}}", compose("include: [sub/part.yml]")),
	} {
		for _, value := range []string{"valued-thing", "../valued-thing", "../../../valued-thing", "/valued-thing/x", "~valued-thing", "valued-thing//./x/..", "http://valued-thing/", "valued-thing" + strings.Repeat("/x", 3000)} {
			files[".env"] = "V=" + value + "\n"
			stack, findings := loadFiles(t, files)
			told := string(findingsText(findings))
			if stack != nil || strings.Contains(told, "valued-thing") {
				t.Errorf("%s, %.40s: loaded %v:\n%.500s", name, value, stack != nil, told)
			}
			if len(value) < maxPath && !strings.Contains(told, "${V}") {
				t.Errorf("%s, %s: nobody could find the path:\n%s", name, value, told)
			}
		}
	}
}

// Where a secret variable stands in the wrong place, what is found there names the
// variable and not its value, be it in quotes or the part that a parser stumbles on.
func TestSecretVariablesAreNotTold(t *testing.T) {
	fields := []string{
		"image: 'X'", "ports: ['X']", "ports: ['80:X']", "volumes: ['X:/x']", "volumes: ['./X:/x']", "networks: ['X']", "configs: ['X']", "secrets: ['X']",
		"depends_on: ['X']", "extra_hosts: ['X']", "restart: 'X'", "isolation: 'X'", "stop_grace_period: 'X'", "init: 'X'", "oom_score_adj: 'X'",
		"extends: 'X'", "extends: {service: 'X'}", "healthcheck: {test: x, interval: 'X'}", "configs: [{source: c, mode: 'X'}]",
		"deploy: {replicas: 'X'}", "deploy: {mode: 'X'}", "deploy: {endpoint_mode: 'X'}", "deploy: {resources: {limits: {cpus: 'X'}}}", "deploy: {resources: {limits: {memory: 'X'}}}",
		"shm_size: 'X'", "stop_grace_period: '7X'", "mem_limit: 'X'", "ulimits: {nofile: 'X'}", "volumes: [{type: tmpfs, target: /x, tmpfs: {size: 'X'}}]", "credential_spec: {config: 'X'}", "env_file: [{path: x, format: 'X'}]",
	}
	for _, name := range []string{"DB_PASSWORD", "TAKEN"} {
		for _, value := range []string{"Valued-thing", "pre:Valued-thing/post", `a "Valued-thing`, "Valued7thing", "7Valued-thing", "/pre/7Valued"} {
			for _, field := range fields {
				text := "services: {web: {image: 'x:1', " + strings.ReplaceAll(field, "X", "${"+name+"}") + "}}\n" +
					"configs: {c: {content: x}}\nsecrets: {s: {environment: TAKEN}}\n"
				if strings.HasPrefix(field, "image") {
					text = strings.Replace(text, "image: 'x:1', ", "", 1)
				}
				_, findings := loadFiles(t, with(".env", "TAKEN=other-value\n"+name+"='"+value+"'\n", compose(text)))
				if told := string(findingsText(findings)); strings.Contains(told, "Valued") {
					t.Errorf("%s=%s in %s is told:\n%s", name, value, field, told)
				}
			}
		}
	}
}

// What a secret variable holds is no less said where it has nothing to do with it:
// that alone would tell what it is.
func TestSecretVariablesAreConcealedWhereTheyAre(t *testing.T) {
	_, findings := loadFiles(t, with(".env", "DB_PASSWORD=postgres\n",
		compose("services: {db: {image: postgres, environment: {POSTGRES_PASSWORD: '${DB_PASSWORD}'}}}")))
	if told := string(findingsText(findings)); !strings.Contains(told, "postgres") || strings.Contains(told, "DB_PASSWORD") {
		t.Errorf("told:\n%s", told)
	}
}

// Many secrets and many findings do not multiply.
func TestConcealingIsQuick(t *testing.T) {
	var text, env strings.Builder
	text.WriteString("services: {web: {image: 'x:1', networks: [")
	for i := range 15_000 {
		fmt.Fprintf(&env, "TOKEN%d=%d-value\n", i, i)
		fmt.Fprintf(&text, "'${TOKEN%d}',", i)
	}
	text.WriteString("]}}\n")
	start := cpuTime(t)
	_, findings := loadFiles(t, with(".env", env.String(), compose(text.String())))
	if took := cpuTime(t) - start; took > 5*time.Second {
		t.Errorf("%d findings took %v", len(findings), took)
	} else {
		t.Logf("%d findings took %v", len(findings), took)
	}
	if told := string(findingsText(findings)); strings.Contains(told, "-value") {
		t.Errorf("a value is told: %.200s", told)
	}
}

// What a file holds cannot steer a terminal, nor a CI system that reads lines, nor fill
// a log.
func TestFindingsStayOnTheirLine(t *testing.T) {
	for name, text := range map[string]string{
		"a volume":          `services: {web: {image: 'x:1', volumes: ["./a\e[1m\n::error::x:/y"]}}`,
		"a bind":            `services: {web: {image: 'x:1', volumes: ["./a\e[1m\n\u2028\u202e::error:/y"]}}`,
		"a variable":        `services: {web: {image: 'x:1', environment: {"A\r\n::error::PASSWORD\u0007": hunter2}}}`,
		"a service":         `services: {"web\n::error::\u009b1m": {image: 'x:1'}}`,
		"an include":        `include: ["a\n::error::\e[1m"]`,
		"something long":    `services: {web: {image: 'x:1', restart: "` + strings.Repeat("long", 10_000) + `"}}`,
		"a key, not a text": "services: {web: {image: 'x:1', ? [\"a\\n::error::\\e[1m\"] : 1}}",
	} {
		_, findings := loadFiles(t, compose(text))
		if len(findings) == 0 {
			t.Errorf("%s: nothing is found", name)
		}
		for _, f := range findings {
			for _, told := range []string{f.Message, f.Service, f.String()} {
				if strings.ContainsFunc(told, func(r rune) bool { return !unicode.IsPrint(r) }) || len(told) > maxMessage+200 {
					t.Errorf("%s: %.300q", name, told)
				}
			}
		}
	}
	if told := (Finding{File: "a\n::error::b.yml", Severity: Error, Code: "unreadable", Message: "m"}).String(); told != `a\n::error::b.yml: error: unreadable: m` {
		t.Errorf("told %q", told)
	}
}
