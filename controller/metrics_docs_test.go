package controller

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

//go:generate go test -run ^TestMetricsAreDocumented$ . -update

var update = flag.Bool("update", false, "write the tables of docs/metrics.md anew")

const (
	metricsFile  = "../docs/metrics.md"
	metricsBegin = "<!-- The tables up to the end mark are made of the registry, by: go generate ./controller -->\n"
	metricsEnd   = "<!-- end -->\n"
)

// docs/metrics.md has a row for each metric that the daemon registers, made of it.
func TestMetricsAreDocumented(t *testing.T) {
	text, err := os.ReadFile(metricsFile)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, begins := strings.Cut(string(text), metricsBegin)
	got, after, ends := strings.Cut(rest, metricsEnd)
	if !begins || !ends {
		t.Fatalf("%s has not both marks of its tables", metricsFile)
	}
	want := metricTables(t)
	switch {
	case got == want:
	case *update:
		if err := os.WriteFile(metricsFile, []byte(before+metricsBegin+want+metricsEnd+after), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("the tables of %s are not those of the registry (run: go generate ./controller)", metricsFile)
	}
	for _, name := range regexp.MustCompile("`(skep_[a-z_]+|workqueue_[a-z_]+)").FindAllStringSubmatch(before+after, -1) {
		if !strings.Contains(want, "| `"+name[1]+"` |") {
			t.Errorf("%s tells of %s, which is no metric", metricsFile, name[1])
		}
	}
}

// A description is what a registry says of a metric.
type description struct {
	help   string
	labels []string
}

var descText = regexp.MustCompile(`^Desc\{fqName: "([^"]*)", help: "(.*?)", (?:unit: "[^"]*", )?constLabels: \{[^}]*\}, variableLabels: \{(.*)\}\}$`)

// described are the metrics of skep and of its queue that a registry has, by name. Those
// of Go and of the process are for their libraries to describe.
func described(t *testing.T, reg *prometheus.Registry) map[string]description {
	t.Helper()
	descs := make(chan *prometheus.Desc)
	go func() {
		reg.Describe(descs)
		close(descs)
	}()
	out := map[string]description{}
	for d := range descs {
		m := descText.FindStringSubmatch(d.String())
		if m == nil {
			t.Fatalf("%s is not as descriptions are", d)
		}
		if !strings.HasPrefix(m[1], "skep_") && !strings.HasPrefix(m[1], "workqueue_") {
			continue
		}
		x := description{help: m[2]}
		if m[3] != "" {
			x.labels = strings.Split(m[3], ",")
		}
		out[m[1]] = x
	}
	return out
}

// metricTables are the metrics in Markdown, by what they are about.
func metricTables(t *testing.T) string {
	w := everything(t)
	w.controller.policy = &policyFile{}
	families := gathered(t, w.Registry)
	all := described(t, w.Registry)
	var out strings.Builder
	done := map[string]bool{}
	for _, group := range []struct{ title, names string }{
		{"Passes and rollouts", `skep_(reconcile|rollouts?|rollbacks|drift)_.*`},
		{"Stacks", `skep_(stack|service|findings).*|skep_prune_blocked`},
		{"Source, engine and controller", `skep_.*`},
		{"The queue of stacks", `workqueue_.*`},
	} {
		belongs := regexp.MustCompile("^(?:" + group.names + ")$")
		fmt.Fprintf(&out, "\n## %s\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n", group.title)
		for _, name := range slices.Sorted(maps.Keys(all)) {
			if done[name] || !belongs.MatchString(name) {
				continue
			}
			done[name] = true
			f, ok := families[name]
			if !ok {
				t.Errorf("%s is registered, and never told", name)
				continue
			}
			fmt.Fprintf(&out, "| `%s` | %s | %s | %s |\n", name, f.kind, labelsOf(all[name].labels, valuesOf(f.samples)), all[name].help)
		}
	}
	out.WriteString("\n")
	return out.String()
}

// closed are the labels whose values are known beforehand.
var closed = []string{"result", "cause", "condition", "state", "severity"}

func labelsOf(labels []string, values map[string]map[string]bool) string {
	if len(labels) == 0 {
		return "-"
	}
	var out []string
	for _, l := range labels {
		text := "`" + l + "`"
		if slices.Contains(closed, l) {
			text += ": " + strings.Join(slices.Sorted(maps.Keys(values[l])), ", ")
		}
		out = append(out, text)
	}
	return strings.Join(out, "; ")
}

// valuesOf are the values that each label has.
func valuesOf(samples []sample) map[string]map[string]bool {
	out := map[string]map[string]bool{}
	for _, s := range samples {
		for name, value := range s.labels {
			if out[name] == nil {
				out[name] = map[string]bool{}
			}
			out[name][value] = true
		}
	}
	return out
}
