package controller

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/swarm"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/skep-io/skep/reconcile"
)

func TestMetricsAreCleanAndForgetStacks(t *testing.T) {
	w := newWorld()
	defer w.queue.work.ShutDown()
	Instrument(http.DefaultTransport, w.Registry).(*instrumented).requests.WithLabelValues("ServiceList", "200").Inc()
	next, _ := w.desired.Load().fold(broken(snapshot(stack("a", "1"), stack("b", "1")), "c", "bad"), nil, w.Now())
	w.controller.desired.Store(&next)
	w.take(reconcile.Input{Name: "a", Stack: stack("a", "1")}, good(), 1)
	problems, err := testutil.GatherAndLint(w.Registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	expect := func(want string) {
		t.Helper()
		if err := testutil.GatherAndCompare(w.Registry, strings.NewReader(want), "skep_stack_condition", "skep_reconcile_total"); err != nil {
			t.Error(err)
		}
	}
	const head = `# HELP skep_stack_condition Whether a condition of a stack is true (1) or not (0), by its newest pass.
# TYPE skep_stack_condition gauge
`
	conditions := func(stack, ready string) string {
		return `skep_stack_condition{condition="Degraded",stack="` + stack + `"} 0
skep_stack_condition{condition="Progressing",stack="` + stack + `"} 0
skep_stack_condition{condition="Ready",stack="` + stack + `"} ` + ready + `
skep_stack_condition{condition="Stalled",stack="` + stack + `"} 0
`
	}
	expect(`# HELP skep_reconcile_total Passes over a stack, by what they did.
# TYPE skep_reconcile_total counter
skep_reconcile_total{result="unchanged",stack="a"} 1
` + head + conditions("a", "1") + conditions("b", "0") + conditions("c", "0"))

	before, after := next, desired{}
	w.controller.desired.Store(&after)
	w.forgetLost(before, after)
	expect("")
}

func TestFailedPassIsNotReady(t *testing.T) {
	b := newBook()
	in := reconcile.Input{Name: "a", Stack: stack("a", "1")}
	if !b.record(in, good()) {
		t.Error("it did not become ready")
	}
	if b.record(in, good()) {
		t.Error("it became ready twice")
	}
	b.record(in, failed("a", "Refused", errors.New("refused")))
	if ok, why := b.ready(in.Stack); ok || why != "refused" {
		t.Errorf("ready %v, %q", ok, why)
	}
	if !b.record(in, good()) {
		t.Error("it did not become ready again")
	}
	if ok, _ := b.ready(stack("a", "2")); ok {
		t.Error("another version counts as ready")
	}
}

func TestOperation(t *testing.T) {
	for path, want := range map[string]string{
		"GET /v1.41/services":                         "ServiceList",
		"GET /services":                               "ServiceList",
		"POST /v1.51/services/create":                 "ServiceCreate",
		"POST /v1.51/services/abc123/update":          "ServiceUpdate",
		"GET /v1.51/services/abc123":                  "ServiceInspect",
		"DELETE /v1.51/services/abc123":               "ServiceRemove",
		"GET /v1.51/tasks":                            "TaskList",
		"GET /v1.51/nodes":                            "NodeList",
		"GET /v1.51/networks":                         "NetworkList",
		"POST /v1.51/networks/create":                 "NetworkCreate",
		"DELETE /v1.51/configs/x":                     "ConfigRemove",
		"POST /v1.51/secrets/x/update":                "SecretUpdate",
		"GET /v1.51/distribution/registry/a/b:1/json": "DistributionInspect",
		"GET /v1.51/events":                           "Events",
		"GET /v1.51/services/x/logs":                  "ServiceLogs",
		"HEAD /_ping":                                 "Ping",
		"GET /v1.51/info":                             "Info",
		"GET /v1.51/swarm":                            "Other",
		"GET /v1.51/services/a/b/c":                   "Other",
		"PUT /v1.51/services/a":                       "Other",
		"GET /":                                       "Other",
		"GET /v1.51/containers/json":                  "Other",
	} {
		method, path, _ := strings.Cut(path, " ")
		if got := Operation(method, path); got != want {
			t.Errorf("%s %s: %s, want %s", method, path, got, want)
		}
	}
}

func TestInstrumentCountsWhatAClientAsks(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.45")
		switch {
		case strings.HasSuffix(r.URL.Path, "/services"):
			_, _ = w.Write([]byte("[]"))
		case strings.HasSuffix(r.URL.Path, "/nodes"):
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	reg := prometheus.NewRegistry()
	c, err := Connect(EngineOptions{
		Host: "tcp://" + server.Listener.Addr().String(), Getenv: noEnv, ConfigDir: t.TempDir(),
		Wrap: func(rt http.RoundTripper) http.RoundTripper { return Instrument(rt, reg) },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithCancel(t.Context())
	_, _ = c.ServiceList(ctx, swarm.ServiceListOptions{Status: true})
	_, _ = c.NodeList(ctx, swarm.NodeListOptions{})
	cancel()
	_, _ = c.TaskList(ctx, swarm.TaskListOptions{})
	err = testutil.GatherAndCompare(reg, strings.NewReader(`# HELP skep_docker_requests_total Requests to the engine, by operation and by the status code of the answer.
# TYPE skep_docker_requests_total counter
skep_docker_requests_total{code="200",operation="Ping"} 1
skep_docker_requests_total{code="200",operation="ServiceList"} 1
skep_docker_requests_total{code="503",operation="NodeList"} 1
skep_docker_requests_total{code="error",operation="TaskList"} 1
`), "skep_docker_requests_total")
	if err != nil {
		t.Error(err)
	}
	if n, _ := testutil.GatherAndCount(reg, "skep_docker_request_duration_seconds"); n != 4 {
		t.Errorf("%d durations", n)
	}
}
