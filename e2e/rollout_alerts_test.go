package e2e

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"github.com/skep-io/skep/e2e/prom"
)

// A watchtower is a Prometheus that scrapes a theatre's skep while its scenes are played,
// with the rules of deploy/prometheus, each minute of which is a second.
type watchtower struct {
	t      *testing.T
	server *prom.Server
	began  time.Time
	all    []string // the addresses that skep had, the newest last
}

func newWatchtower(t *testing.T) *watchtower {
	t.Helper()
	rules := map[string][]byte{}
	for _, name := range []string{"skep.rules.yml", "skep.alerts.yml"} {
		text, err := os.ReadFile(filepath.Join("..", "deploy", "prometheus", name))
		if err != nil {
			t.Fatal(err)
		}
		rules[name] = prom.Hasten(text)
	}
	s, err := prom.Start(t.Context(), t.TempDir(), rules)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return &watchtower{t: t, server: s, began: time.Now()}
}

// scrape adds an address to those that are scraped; what ends there is missed.
func (w *watchtower) scrape(address string) {
	w.t.Helper()
	w.all = append(w.all, address)
	if err := w.server.Scrape(w.all...); err != nil {
		w.t.Errorf("tell prometheus where skep is: %v", err)
	}
}

// forget has only the newest address be scraped.
func (w *watchtower) forget() {
	w.t.Helper()
	w.all = w.all[len(w.all)-1:]
	if err := w.server.Scrape(w.all...); err != nil {
		w.t.Errorf("tell prometheus where skep is: %v", err)
	}
}

func (w *watchtower) query(query string) []prom.Series {
	w.t.Helper()
	series, err := w.server.Query(w.t.Context(), query, time.Now())
	if err != nil {
		w.t.Errorf("%s: %v", query, err)
	}
	return series
}

// stacks are those in an answer.
func stacks(series []prom.Series) []string {
	var names []string
	for _, s := range series {
		names = append(names, s.Labels["stack"])
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// fires are the stacks that an alert fires for now, or fired for at any time.
func (w *watchtower) fires(alert string) []string {
	return stacks(w.query(fmt.Sprintf(`ALERTS{alertname=%q, alertstate="firing"}`, alert)))
}

func (w *watchtower) fired(alert, more string) []string {
	whole := int(time.Since(w.began).Seconds()) + 1
	return stacks(w.query(fmt.Sprintf(`max_over_time(ALERTS{alertname=%q, alertstate="firing"%s}[%ds])`, alert, more, whole)))
}

// await waits until f returns nil.
func (w *watchtower) await(limit time.Duration, what string, f func() error) {
	w.t.Helper()
	await(w.t, limit, what, f)
}

// afterTheBad is what has to have been told when all that was bad is back.
func (w *watchtower) afterTheBad(back []string) {
	w.t.Helper()
	w.await(20*time.Second, "each rollback fires its alert", func() error {
		fired := w.fired("SkepStackRolledBack", "")
		for _, stack := range back {
			if !slices.Contains(fired, stack) {
				return fmt.Errorf("not for %s, though for %v", stack, fired)
			}
		}
		return nil
	})
	if got := w.fired("SkepStackRolledBack", `, cause="guard"`); !slices.Equal(got, []string{"guard"}) {
		w.t.Errorf("alerts of rollbacks for their guard: %v", got)
	}
	if got := w.fired("SkepStackRolledBack", ""); slices.Contains(got, "suspend") || slices.Contains(got, "first-bad") {
		w.t.Errorf("alerts of rollbacks that were none: %v", got)
	}
	if len(w.fired("SkepRolloutSlow", "")) == 0 {
		w.t.Error("no rollout was slow")
	}
}

// afterTheQuarantine is what has to be told when nothing has happened for a minute, but
// that the directory was away for a while, and that skep was killed.
func (w *watchtower) afterTheQuarantine() {
	w.t.Helper()
	for _, alert := range []string{"SkepNoLeader", "SkepControllerDown", "SkepSourceUnreadable"} {
		if len(w.fired(alert, "")) == 0 {
			w.t.Errorf("%s did not fire", alert)
		}
	}
	w.forget()
	w.await(30*time.Second, "what is over fires no more", func() error {
		for _, alert := range []string{"SkepNoLeader", "SkepControllerDown", "SkepSourceUnreadable", "SkepStackRolledBack", "SkepReconcileErrors", "SkepEngineUnreachable"} {
			if names := w.fires(alert); len(names) > 0 {
				return fmt.Errorf("%s does, for %q", alert, names)
			}
		}
		return nil
	})
	w.await(40*time.Second, "the alerts of stacks are those of their conditions", func() error {
		stalled := stacks(w.query(`skep_stack_condition{condition="Stalled"} == 1`))
		if got := w.fires("SkepStackStalled"); !slices.Equal(got, stalled) || len(stalled) == 0 {
			return fmt.Errorf("SkepStackStalled fires for %v, stalled are %v", got, stalled)
		}
		short := stacks(w.query(`(skep_stack_condition{condition="Degraded"} == 1) and on (stack) (job_stack:skep_service_tasks:missing > 0)`))
		sick := w.fires("SkepStackDegraded")
		for _, stack := range short {
			if !slices.Contains(sick, stack) {
				return fmt.Errorf("SkepStackDegraded fires for %v, short of tasks are %v", sick, short)
			}
		}
		for _, stack := range []string{"first-bad", "back-fails"} {
			if !slices.Contains(sick, stack) {
				return fmt.Errorf("SkepStackDegraded fires for %v, and not for %s", sick, stack)
			}
		}
		for _, stack := range sick {
			if strings.HasPrefix(stack, "bad-") {
				return fmt.Errorf("SkepStackDegraded fires for %s, which went back", stack)
			}
		}
		return nil
	})
}

// panels asks all that the dashboard asks, over all that was played.
func (w *watchtower) panels() {
	w.t.Helper()
	d, err := prom.ReadDashboard(filepath.Join("..", "deploy", "grafana", "dashboards", "skep.json"))
	if err != nil {
		w.t.Fatal(err)
	}
	const step = 5 * time.Second
	now := time.Now()
	asked, points := 0, 0
	ask := func(what, query string) {
		query = prom.Fill(query, "skep", ".+", step, now.Sub(w.began))
		series, err := w.server.QueryRange(w.t.Context(), query, w.began, now, step)
		asked++
		n := 0
		for _, s := range series {
			n += len(s.Values)
		}
		if points += n; err != nil || n == 0 {
			w.t.Errorf("%s has no data: %s: %v", what, query, err)
		}
	}
	for _, p := range d.Panels {
		for _, q := range p.Queries {
			ask("panel "+p.Title, q.Expr)
		}
	}
	for _, q := range d.Annotations {
		ask("annotation", q)
	}
	for name, selector := range map[string]string{"job": "skep_leader", "stack": `skep_stack_condition{job="skep"}`} {
		if prom.Fill(d.Variables[name], "skep", ".+", step, now.Sub(w.began)) != fmt.Sprintf("label_values(%s, %s)", selector, name) {
			w.t.Errorf("variable %s is %s", name, d.Variables[name])
		}
		if values, err := w.server.LabelValues(w.t.Context(), name, selector); err != nil || len(values) == 0 {
			w.t.Errorf("variable %s has no values: %v", name, err)
		}
	}
	w.t.Logf("the dashboard asked %d queries, and got %d points", asked, points)
}

// told logs which alerts fired, for how many stacks, and how much there is to scrape.
func (w *watchtower) told() {
	w.t.Helper()
	n := map[string]int{}
	for _, s := range w.query(fmt.Sprintf(`max_over_time(ALERTS{alertstate="firing"}[%ds])`, int(time.Since(w.began).Seconds())+1)) {
		n[s.Labels["alertname"]]++
	}
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(n)) {
		lines = append(lines, fmt.Sprintf("%s: %d", name, n[name]))
	}
	for what, query := range map[string]string{"stacks": `count(count by (stack) (skep_stack_condition))`, "series scraped": `sum(scrape_samples_scraped{job="skep"})`, "seconds a scrape": `max(scrape_duration_seconds{job="skep"})`} {
		for _, s := range w.query(query) {
			lines = append(lines, fmt.Sprintf("%s: %v", what, s.Values))
		}
	}
	w.t.Logf("alerts, by how many they fired for:\n  %s", strings.Join(lines, "\n  "))
}

// wentBack names the stacks whose newest release failed, and that are at an earlier one.
func (th *theatre) wentBack() []string {
	v, _ := th.now()
	var names []string
	for stack := range v.records {
		healthy := slices.ContainsFunc(v.records[stack], func(m memo) bool { return m.phase == "Healthy" })
		if m := v.newest(stack); m.phase == "Failed" && m.back && healthy {
			names = append(names, stack)
		}
	}
	slices.Sort(names)
	return names
}

// hide takes the specs directory away until the function is called that it returns.
func (th *theatre) hide() (back func(), err error) {
	away := th.specs + ".away"
	if err := os.Rename(th.specs, away); err != nil {
		return nil, err
	}
	return func() {
		if err := os.Rename(away, th.specs); err != nil {
			th.t.Errorf("bring the specs back: %v", err)
		}
	}, nil
}

// discovers has a Prometheus with the configuration of deploy/prometheus find the tasks of
// a service by the engine's API, as it finds those of skep in its own Swarm.
func (w *watchtower) discovers(th *theatre, service string) {
	w.t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "deploy", "prometheus", "prometheus.yml"))
	if err != nil {
		w.t.Fatal(err)
	}
	config := string(text)
	for _, r := range [][2]string{
		{"unix:///var/run/docker.sock", th.lab.DockerHost(th.door.node())}, {"regex: skep_skep", "regex: " + service}, {"regex: skep_monitoring", "regex: " + stage},
	} {
		if strings.Count(config, r[0]) != 1 {
			w.t.Fatalf("prometheus.yml has %q not once", r[0])
		}
		config = strings.Replace(config, r[0], r[1], 1)
	}
	s, err := prom.StartWith(w.t.Context(), w.t.TempDir(), []byte(config), nil)
	if err != nil {
		w.t.Error(err)
		return
	}
	defer s.Stop()
	w.await(30*time.Second, "prometheus finds the tasks of "+service, func() error {
		v, _ := th.now()
		var want, got []string
		for _, task := range v.tasks[service] {
			for _, a := range task.NetworksAttachments {
				if a.Network.Spec.Name == stage {
					address, _, _ := strings.Cut(a.Addresses[0], "/")
					want = append(want, "http://"+address+":9470/metrics on "+task.NodeID)
				}
			}
		}
		names, err := th.lab.Client(th.door.node()).NodeList(w.t.Context(), swarm.NodeListOptions{})
		if err != nil {
			return err
		}
		targets, err := s.Targets(w.t.Context())
		if err != nil {
			return err
		}
		for url, labels := range targets {
			for _, n := range names {
				if n.Description.Hostname == labels["instance"] && labels["job"] == "skep" {
					got = append(got, url+" on "+n.ID)
				}
			}
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) || len(want) == 0 {
			return fmt.Errorf("found %v of %d, there are %v; it said %s", got, len(targets), want, s.Said())
		}
		return nil
	})
}
