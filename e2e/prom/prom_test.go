package prom

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// needsTools says that -short leaves out what needs Prometheus.
func needsTools(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("-short leaves out what needs prometheus (make tools)")
	}
}

func TestHasten(t *testing.T) {
	const rules = `      - alert: A
        expr: sum(increase(x[15m])) > 0 and rate(y[1h]) > max_over_time(z[2m])
        for: 5m
        keep_firing_for: 2m
        annotations: {summary: "for: 5m"}
`
	const want = `      - alert: A
        expr: sum(increase(x[15s])) > 0 and rate(y[60s]) > max_over_time(z[10s])
        for: 5s
        keep_firing_for: 2s
        annotations: {summary: "for: 5m"}
`
	if got := string(Hasten([]byte(rules))); got != want {
		t.Errorf("got:\n%s", got)
	}
}

func TestFill(t *testing.T) {
	got := Fill(`rate(a{job="$job", stack=~"$stack"}[$__rate_interval]) + b[$__range] + c[$__interval]`, "skep", "shop|blog", 2*time.Second, 10*time.Minute)
	if want := `rate(a{job="skep", stack=~"shop|blog"}[8s]) + b[600s] + c[2s]`; got != want {
		t.Errorf("got %s", got)
	}
}

// A server scrapes what it is told to, and evaluates its rules.
func TestServer(t *testing.T) {
	needsTools(t)
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("cats 9\n")) }))
	defer up.Close()
	s, err := Start(t.Context(), t.TempDir(), map[string][]byte{"a.yml": []byte("groups: [{name: a, rules: [{alert: Cats, expr: 'cats > 3'}]}]")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	if err := s.Scrape(strings.TrimPrefix(up.URL, "http://")); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(20 * time.Second)
	for {
		fires, err := s.Query(t.Context(), `ALERTS{alertstate="firing"}`, time.Now())
		if err == nil && len(fires) == 1 && fires[0].Labels["alertname"] == "Cats" && fires[0].Labels["job"] == "skep" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("it does not fire: %v, %v; it said %s", fires, err, s.Said())
		}
		time.Sleep(200 * time.Millisecond)
	}
	targets, err := s.Targets(t.Context())
	if labels := targets[up.URL+"/metrics"]; err != nil || len(targets) != 1 || labels["job"] != "skep" {
		t.Errorf("targets %v, %v", targets, err)
	}
	values, err := s.LabelValues(t.Context(), "job", "cats")
	if err != nil || len(values) != 1 || values[0] != "skep" {
		t.Errorf("jobs %v, %v", values, err)
	}
	many, err := s.QueryRange(t.Context(), "cats", time.Now().Add(-10*time.Second), time.Now(), time.Second)
	if err != nil || len(many) != 1 || len(many[0].Values) == 0 || many[0].Values[0] != 9 {
		t.Errorf("%v, %v", many, err)
	}
	if _, err := s.Query(t.Context(), "cats{", time.Now()); err == nil {
		t.Error("it understands what is no query")
	}
}
