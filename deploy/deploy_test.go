// Package deploy holds what is in deploy/prometheus, deploy/grafana and docs/runbook.md to
// each other, to Prometheus' own checks, and to the metrics that skep has. That all of it
// works on a real skep is package e2e's to show.
package deploy

import (
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

	"gopkg.in/yaml.v3"

	"github.com/skep-io/skep/e2e/prom"
)

const (
	runbookFile   = "../docs/runbook.md"
	runbookURL    = "https://github.com/skep-io/skep/blob/main/docs/runbook.md"
	dashboardFile = "grafana/dashboards/skep.json"
)

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// promtool runs it, in prometheus/.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	if testing.Short() {
		t.Skip("-short leaves out what needs promtool (make tools)")
	}
	if err := prom.Promtool(t.Context(), "prometheus", args...); err != nil {
		t.Error(err)
	}
}

func TestConfigurationsAreValid(t *testing.T) {
	promtool(t, "check", "config", "prometheus.yml")
	promtool(t, "check", "config", "prometheus-static.yml")
}

func TestRulesAreValid(t *testing.T) {
	promtool(t, "check", "rules", "skep.rules.yml", "skep.alerts.yml")
}

func TestRulesFireWhenTheyShall(t *testing.T) {
	promtool(t, "test", "rules", "skep.test.yml")
}

// What stops being a rule is missed by the tests of rules: they can fail.
func TestTestsOfRulesCanFail(t *testing.T) {
	if testing.Short() {
		t.Skip("-short leaves out what needs promtool (make tools)")
	}
	for _, a := range alerts(t) {
		t.Run(a.Alert, func(t *testing.T) {
			t.Parallel()
			for what, expr := range map[string]string{"never fires": "vector(0) > 1", "always fires": "vector(1)"} {
				dir := t.TempDir()
				for _, name := range []string{"skep.rules.yml", "skep.alerts.yml", "skep.test.yml"} {
					text := read(t, filepath.Join("prometheus", name))
					if name == "skep.alerts.yml" {
						text = withExpr(t, text, a.Alert, expr)
					}
					if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				if prom.Promtool(t.Context(), dir, "test", "rules", "skep.test.yml") == nil {
					t.Errorf("no test misses it when it %s", what)
				}
			}
		})
	}
}

// withExpr has an alert ask something else.
func withExpr(t *testing.T, text, alert, expr string) string {
	t.Helper()
	var file map[string][]map[string]any
	if err := yaml.Unmarshal([]byte(text), &file); err != nil {
		t.Fatal(err)
	}
	for _, g := range file["groups"] {
		for _, r := range g["rules"].([]any) {
			if rule := r.(map[string]any); rule["alert"] == alert {
				rule["expr"] = expr
			}
		}
	}
	out, err := yaml.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// A rule is one of a rule file's.
type rule struct {
	Record      string            `yaml:"record"`
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	For         string            `yaml:"for"`
	KeepFiring  string            `yaml:"keep_firing_for"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

func rules(t *testing.T, file string) []rule {
	t.Helper()
	var out struct {
		Groups []struct {
			Name  string `yaml:"name"`
			Rules []rule `yaml:"rules"`
		} `yaml:"groups"`
	}
	d := yaml.NewDecoder(strings.NewReader(read(t, file)))
	d.KnownFields(true)
	if err := d.Decode(&out); err != nil {
		t.Fatal(err)
	}
	var all []rule
	for _, g := range out.Groups {
		all = append(all, g.Rules...)
	}
	if len(all) == 0 {
		t.Fatalf("%s has no rules", file)
	}
	return all
}

func alerts(t *testing.T) []rule   { return rules(t, "prometheus/skep.alerts.yml") }
func recorded(t *testing.T) []rule { return rules(t, "prometheus/skep.rules.yml") }

// Each alert has a section in the runbook, and each section that is called like an alert
// is about one; the table of deploy/prometheus/README.md has them all.
func TestAlertsHaveSections(t *testing.T) {
	runbook, table := read(t, runbookFile), read(t, "prometheus/README.md")
	sections := map[string]string{}
	for _, part := range strings.Split(runbook, "\n## ")[1:] {
		title, text, _ := strings.Cut(part, "\n")
		if strings.HasPrefix(title, "Skep") {
			sections[title] = text
		}
	}
	for _, a := range alerts(t) {
		text, ok := sections[a.Alert]
		if !ok {
			t.Errorf("%s has no section %s", runbookFile, a.Alert)
		}
		delete(sections, a.Alert)
		for _, part := range []string{"**It means**", "**To see it:**", "**To do:**"} {
			if !strings.Contains(text, part) {
				t.Errorf("the section %s has no %s", a.Alert, part)
			}
		}
		if !strings.Contains(text, "`skep ") && !strings.Contains(text, "$ skep ") && !strings.Contains(text, "`docker ") {
			t.Errorf("the section %s tells of no command", a.Alert)
		}
		if want := runbookURL + "#" + strings.ToLower(a.Alert); a.Annotations["runbook_url"] != want {
			t.Errorf("%s leads to %q, want %q", a.Alert, a.Annotations["runbook_url"], want)
		}
		if a.Annotations["summary"] == "" || a.Annotations["description"] == "" || !slices.Contains([]string{"critical", "warning"}, a.Labels["severity"]) {
			t.Errorf("%s: %v, %v", a.Alert, a.Labels, a.Annotations)
		}
		if !strings.Contains(table, "| "+a.Alert+" | "+a.Labels["severity"]+" | ") {
			t.Errorf("prometheus/README.md has no line for %s, which is %s", a.Alert, a.Labels["severity"])
		}
	}
	for title := range sections {
		t.Errorf("%s has a section %s, and there is no such alert", runbookFile, title)
	}
}

// The issue names them; none may get lost.
func TestAlertsAreAllThere(t *testing.T) {
	var names []string
	for _, a := range alerts(t) {
		names = append(names, a.Alert)
	}
	for _, want := range []string{"SkepControllerDown", "SkepNoLeader", "SkepSourceUnreadable", "SkepStackDegraded", "SkepStackRolledBack", "SkepStackStalled",
		"SkepRolloutSlow", "SkepPruneBlocked", "SkepDriftReturns", "SkepReconcileErrors", "SkepNotificationsFailing", "SkepPolicyBroken"} {
		if !slices.Contains(names, want) {
			t.Errorf("there is no alert %s", want)
		}
	}
}

// known are the labels of each metric, as docs/metrics.md has them of the registry, and
// of what is recorded.
func known(t *testing.T) map[string][]string {
	t.Helper()
	out := map[string][]string{"up": nil}
	for _, line := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| (\\w+) \\| ([^|]*) \\|").FindAllStringSubmatch(read(t, "../docs/metrics.md"), -1) {
		labels := []string{}
		for _, l := range regexp.MustCompile("`([a-z]+)`").FindAllStringSubmatch(line[3], -1) {
			labels = append(labels, l[1])
		}
		out[line[1]] = labels
		if line[2] == "histogram" {
			out[line[1]+"_bucket"], out[line[1]+"_sum"], out[line[1]+"_count"] = append(slices.Clone(labels), "le"), labels, labels
		}
	}
	if len(out) < 30 {
		t.Fatalf("docs/metrics.md tells of %d metrics", len(out))
	}
	for _, r := range recorded(t) {
		out[r.Record] = strings.Split(strings.SplitN(r.Record, ":", 2)[0], "_")
	}
	for _, name := range []string{"process_cpu_seconds_total", "process_resident_memory_bytes"} { // of the Go client's library
		out[name] = nil
	}
	return out
}

var (
	quoted   = regexp.MustCompile(`"[^"]*"`)
	windows  = regexp.MustCompile(`\[[^]]*\]`)
	grouping = regexp.MustCompile(`\b(?:by|on|without|ignoring) \(([^)]*)\)`)
	selector = regexp.MustCompile(`\b([a-z][a-z0-9_:]*)\b(\{[^}]*\}|\()?`)
	matcher  = regexp.MustCompile(`([a-z_]+)\s*(?:=~|!~|!=|=)`)
)

// asks sees that a query asks for metrics that there are, by labels that they have.
func asks(t *testing.T, where, expr string, metrics map[string][]string) {
	t.Helper()
	found := 0
	bare := grouping.ReplaceAllString(windows.ReplaceAllString(quoted.ReplaceAllString(expr, `""`), ""), "")
	for _, m := range selector.FindAllStringSubmatch(bare, -1) {
		if m[2] == "(" || !strings.ContainsAny(m[1], "_:") && m[1] != "up" {
			continue // a function or an operator
		}
		labels, ok := metrics[m[1]]
		if !ok {
			t.Errorf("%s asks for %s, which is no metric: %s", where, m[1], expr)
			continue
		}
		found++
		for _, l := range matcher.FindAllStringSubmatch(m[2], -1) {
			if !slices.Contains(labels, l[1]) && l[1] != "job" && l[1] != "instance" {
				t.Errorf("%s asks for %s by %s, which it has not: %s", where, m[1], l[1], expr)
			}
		}
	}
	if found == 0 {
		t.Errorf("%s asks for no metric: %s", where, expr)
	}
	every := map[string]bool{"job": true, "instance": true}
	for _, labels := range metrics {
		for _, l := range labels {
			every[l] = true
		}
	}
	for _, g := range grouping.FindAllStringSubmatch(expr, -1) {
		for l := range strings.SplitSeq(g[1], ",") {
			if !every[strings.TrimSpace(l)] {
				t.Errorf("%s groups by %q, which no metric has: %s", where, l, expr)
			}
		}
	}
}

func TestRulesAskForWhatThereIs(t *testing.T) {
	metrics := known(t)
	for _, r := range append(recorded(t), alerts(t)...) {
		asks(t, r.Record+r.Alert, r.Expr, metrics)
	}
}

// What a dashboard's queries would be in a rule file, which promtool checks.
func TestDashboardAsksForWhatThereIs(t *testing.T) {
	d, metrics := dashboard(t), known(t)
	type recording struct {
		Record string `json:"record"`
		Expr   string `json:"expr"`
	}
	var all []recording
	add := func(where, expr string) {
		asks(t, where, expr, metrics)
		all = append(all, recording{fmt.Sprintf("q:%d", len(all)), prom.Fill(expr, "skep", ".+", 15*time.Second, time.Hour)})
	}
	used := map[string]bool{}
	for _, p := range d.Panels {
		for _, q := range p.Queries {
			add("panel "+p.Title, q.Expr)
			for name := range metrics {
				if regexp.MustCompile(`\b` + name + `\b`).MatchString(q.Expr) {
					used[strings.TrimSuffix(name, "_bucket")] = true
				}
			}
		}
	}
	for _, q := range d.Annotations {
		add("annotation", q)
	}
	for name, q := range d.Variables {
		m := regexp.MustCompile(`^label_values\((.*), ([a-z]+)\)$`).FindStringSubmatch(q)
		if m == nil {
			t.Errorf("variable %s is %s", name, q)
			continue
		}
		add("variable "+name, m[1])
	}
	// Those that answer no question of a dashboard's reader.
	for name := range metrics {
		base := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_sum"), "_count")
		if strings.HasPrefix(name, "skep_") && !used[base] && base != "skep_build_info" && base != "skep_policy_ready" {
			t.Errorf("the dashboard shows nothing of %s", name)
		}
	}
	text, err := json.Marshal(map[string]any{"groups": []any{map[string]any{"name": "dashboard", "rules": all}}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "dashboard.yml")
	if err := os.WriteFile(file, text, 0o644); err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "rules", file)
}

func dashboard(t *testing.T) *prom.Dashboard {
	t.Helper()
	d, err := prom.ReadDashboard(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// No panel lies on another or reaches out of the picture, and each tells what it is.
func TestDashboardIsInOrder(t *testing.T) {
	d := dashboard(t)
	taken, titles := map[[2]int]string{}, map[string]bool{}
	for _, p := range d.Panels {
		if p.Title == "" || titles[p.Title] {
			t.Errorf("two panels %q, or one without a title", p.Title)
		}
		titles[p.Title] = true
		x, y, w, h := p.Place[0], p.Place[1], p.Place[2], p.Place[3]
		if w <= 0 || h <= 0 || x < 0 || x+w > 24 {
			t.Errorf("panel %s is at %v", p.Title, p.Place)
		}
		for i := x; i < x+w; i++ {
			for j := y; j < y+h; j++ {
				if other, ok := taken[[2]int{i, j}]; ok && p.Kind != "row" {
					t.Fatalf("panel %s lies on %s", p.Title, other)
				}
				taken[[2]int{i, j}] = p.Title
			}
		}
	}
	if d.UID != "skep" || !maps.Equal(map[string]bool{"job": d.Variables["job"] != "", "stack": d.Variables["stack"] != ""}, map[string]bool{"job": true, "stack": true}) {
		t.Errorf("dashboard %q with variables %v", d.UID, d.Variables)
	}
}

// What Grafana is provisioned with finds the dashboard where its README mounts it.
func TestProvisioning(t *testing.T) {
	var providers struct {
		APIVersion int `yaml:"apiVersion"`
		Providers  []struct {
			Type    string `yaml:"type"`
			Options struct {
				Path string `yaml:"path"`
			} `yaml:"options"`
		} `yaml:"providers"`
	}
	if err := yaml.Unmarshal([]byte(read(t, "grafana/provisioning/dashboards/skep.yml")), &providers); err != nil {
		t.Fatal(err)
	}
	if providers.APIVersion != 1 || len(providers.Providers) != 1 || providers.Providers[0].Type != "file" {
		t.Fatalf("%+v", providers)
	}
	if mount := "dashboards:" + providers.Providers[0].Options.Path + ":ro"; !strings.Contains(read(t, "grafana/README.md"), mount) {
		t.Errorf("grafana/README.md mounts nothing as %s", mount)
	}
	var sources struct {
		APIVersion  int `yaml:"apiVersion"`
		Datasources []struct {
			Type string `yaml:"type"`
			URL  string `yaml:"url"`
		} `yaml:"datasources"`
	}
	if err := yaml.Unmarshal([]byte(read(t, "grafana/provisioning/datasources/skep.yml")), &sources); err != nil {
		t.Fatal(err)
	}
	if sources.APIVersion != 1 || len(sources.Datasources) != 1 || sources.Datasources[0].Type != "prometheus" {
		t.Errorf("%+v", sources)
	}
}
