package controller

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
)

// everything is a daemon that tells of itself all that one can: about stack a, which
// had a pass, b, which had none, and c, whose file is broken.
func everything(t *testing.T) *world {
	t.Helper()
	w := newWorld()
	t.Cleanup(w.queue.work.ShutDown)
	requests := Instrument(http.DefaultTransport, w.Registry).(*instrumented)
	requests.requests.WithLabelValues("ServiceList", "200").Inc()
	requests.duration.WithLabelValues("ServiceList").Observe(0.01)
	next, _ := w.desired.Load().fold(broken(snapshot(stack("a", "1"), stack("b", "1")), "c", "bad"), nil, w.Now())
	w.controller.desired.Store(&next)
	w.queue.changed("a")
	name, _ := w.queue.work.Get()
	w.queue.work.Done(name)
	r := good()
	r.Release = &reconcile.Release{Number: 7, Revision: "4be1c07"}
	r.Services = []reconcile.ServiceStatus{{Name: "a_web", Desired: 3, Running: 2, Failed: 1}}
	w.take(reconcile.Input{Name: "a", Stack: stack("a", "1")}, r, 1)
	w.metrics.notifies("hook")
	w.metrics.tellsCommits()
	w.metrics.hears()
	w.Sources[0].Asked = func() Asked {
		return Asked{Heard: w.Now(), Results: map[string]uint64{"unchanged": 7, "changed": 2, "refused": 1, "error": 0}}
	}
	return w
}

func TestMetricsAreCleanAndForgetStacks(t *testing.T) {
	w := everything(t)
	problems, err := testutil.GatherAndLint(w.Registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	want := `# HELP skep_service_tasks Tasks of a service: desired, running, and failed since the newest release began (as far as the engine still has them).
# TYPE skep_service_tasks gauge
skep_service_tasks{service="a_web",stack="a",state="desired"} 3
skep_service_tasks{service="a_web",stack="a",state="failed"} 1
skep_service_tasks{service="a_web",stack="a",state="running"} 2
# HELP skep_stack_condition Whether a condition of a stack is true (1) or not (0), by its newest pass.
# TYPE skep_stack_condition gauge
`
	for stack, ready := range map[string]string{"a": "1", "b": "0", "c": "0"} {
		want += `skep_stack_condition{condition="Degraded",stack="` + stack + `"} 0
skep_stack_condition{condition="Progressing",stack="` + stack + `"} 0
skep_stack_condition{condition="Ready",stack="` + stack + `"} ` + ready + `
skep_stack_condition{condition="Stalled",stack="` + stack + `"} 0
`
	}
	want += `# HELP skep_stack_info Always 1; the labels say which release of a stack is the newest, and of which revision.
# TYPE skep_stack_info gauge
skep_stack_info{release="7",revision="4be1c07",stack="a"} 1
`
	if err := testutil.GatherAndCompare(w.Registry, strings.NewReader(want), "skep_stack_condition", "skep_service_tasks", "skep_stack_info"); err != nil {
		t.Error(err)
	}

	before, after := *w.controller.desired.Load(), desired{}
	w.controller.desired.Store(&after)
	w.forgetLost(before, after)
	if n := ofStacks(t, w.Registry); n > 0 {
		t.Errorf("%d series of stacks are left", n)
	}
}

func TestStandbyTellsOfNoStack(t *testing.T) {
	besideAnother(t, func(w *world) { w.snapshot = snapshot(stack("a", "1")) }, func(t *testing.T, w *world, l *stagedLease) {
		if n := ofStacks(t, w.Registry); n > 0 {
			t.Errorf("%d series of stacks while it stands by", n)
		}
		l.stands(Standing{Term: 1, Holder: Holder{ID: "me"}})
		w.sleep(100 * time.Millisecond)
		if ofStacks(t, w.Registry) == 0 {
			t.Error("none of stacks while it acts")
		}
	})
}

// What a pass tells happened is counted once, under the right words.
func TestTransitionsAreCounted(t *testing.T) {
	release := func(reason string) *reconcile.Release { return &reconcile.Release{Number: 3, Reason: reason} }
	did := func(action string, more ...func(*reconcile.Transition)) reconcile.Transition {
		tr := reconcile.Transition{Action: action, Duration: 40 * time.Second}
		for _, f := range more {
			f(&tr)
		}
		return tr
	}
	begins := func(tr *reconcile.Transition) { tr.Begins = true }
	late := func(tr *reconcile.Transition) { tr.Late = true }
	byHand := func(tr *reconcile.Transition) { tr.Reason = "Pinned" }
	for name, c := range map[string]struct {
		release *reconcile.Release
		passes  []reconcile.Transition
		want    map[string]float64
	}{
		"it becomes healthy": {release("Converged"), []reconcile.Transition{did("rollout-started"), did("rollout-converged"), did("rollout-healthy")},
			map[string]float64{"rollouts healthy": 1, "took healthy": 1}},
		"a service is sick": {release("CrashLoop"), []reconcile.Transition{did("rollout-failed"), did("going-back", begins), did("going-back"), did("rolled-back")},
			map[string]float64{"rollouts failed": 1, "took failed": 1, "rollbacks service": 1}},
		"the deadline": {release("DeadlineExceeded"), []reconcile.Transition{did("rollout-failed"), did("going-back", begins)},
			map[string]float64{"rollouts failed": 1, "took failed": 1, "rollbacks deadline": 1}},
		"Swarm went back": {release(reconcile.CodeSwarmRolledBack), []reconcile.Transition{did("rollout-failed"), did("rolled-back", begins)},
			map[string]float64{"rollouts failed": 1, "took failed": 1, "rollbacks swarm": 1}},
		"its guard": {release("CrashLoop"), []reconcile.Transition{did("rollout-healthy"), did("rollout-failed", late), did("going-back", begins)},
			map[string]float64{"rollouts healthy": 1, "took healthy": 1, "rollbacks guard": 1}},
		"by hand": {release(""), []reconcile.Transition{did("rollout-started", byHand), did("superseded")},
			map[string]float64{"rollbacks hand": 1, "rollouts superseded": 1}},
		"refused": {release("CrashLoop"), []reconcile.Transition{did("rollout-refused")}, map[string]float64{"rollouts refused": 1}},
		"drift":   {release(""), []reconcile.Transition{did("drift-corrected"), did("drift-settled")}, map[string]float64{"corrections": 1}},
	} {
		t.Run(name, func(t *testing.T) {
			reg := prometheus.NewRegistry()
			m := newMetrics(reg)
			for _, tr := range c.passes {
				m.observe("a", reconcile.Result{Outcome: reconcile.Waiting, Release: c.release, Transitions: []reconcile.Transition{tr}}, time.Second, time.Now())
			}
			got := map[string]float64{}
			for _, f := range []struct{ name, word, label string }{
				{"skep_rollouts_total", "rollouts ", "result"}, {"skep_rollout_duration_seconds", "took ", "result"},
				{"skep_rollbacks_total", "rollbacks ", "cause"}, {"skep_drift_corrections_total", "corrections", ""},
			} {
				for _, x := range gathered(t, reg)[f.name].samples {
					if x.value > 0 {
						got[f.word+x.labels[f.label]] += x.value
					}
				}
			}
			if !maps.Equal(got, c.want) {
				t.Errorf("counted %v, want %v", got, c.want)
			}
			if n := testutil.ToFloat64(m.passes.WithLabelValues("a", "waiting")); int(n) != len(c.passes) {
				t.Errorf("%v passes", n)
			}
		})
	}
}

func TestReopenedStreamIsCounted(t *testing.T) {
	inDaemon(t, nil, func(t *testing.T, w *world) {
		if n := testutil.ToFloat64(w.metrics.reconnects); n != 0 {
			t.Errorf("%v at the start", n)
		}
		w.broken <- errors.New("gone")
		w.sleep(time.Minute)
		if n := testutil.ToFloat64(w.metrics.reconnects); n != 1 {
			t.Errorf("%v after the stream broke once", n)
		}
	})
}

// A hundred stacks of three services each, all at once in their worst words.
func TestSeriesOfAHundredStacks(t *testing.T) {
	w := newWorld()
	defer w.queue.work.ShutDown()
	var stacks []*spec.Stack
	for i := range 100 {
		stacks = append(stacks, stack(fmt.Sprintf("stack-%03d", i), "1"))
	}
	next, _ := w.desired.Load().fold(snapshot(stacks...), nil, w.Now())
	w.controller.desired.Store(&next)
	count := func() (n int) {
		for _, f := range gathered(t, w.Registry) {
			for _, s := range f.samples {
				n += s.series
			}
		}
		return n
	}
	bare := testutil.CollectAndCount(w.metrics.passes)
	for _, s := range stacks {
		r := good()
		r.Release = &reconcile.Release{Number: 1, Revision: "4be1c07"}
		for _, key := range []string{"web", "api", "db"} {
			r.Services = append(r.Services, reconcile.ServiceStatus{Name: s.Name + "_" + key, Desired: 1, Running: 1})
		}
		w.take(reconcile.Input{Name: s.Name, Stack: s}, r, time.Millisecond)
	}
	n := count()
	t.Logf("%d series for 100 stacks of 3 services", n)
	if bare != 0 || n > 4000 {
		t.Errorf("%d series before a pass, %d after: more than 4000 is too many", bare, n)
	}
}

// Nothing that has no bounds is a label.
func TestLabelsAreFew(t *testing.T) {
	allowed := map[string]bool{"stack": true, "service": true, "result": true, "cause": true, "condition": true, "state": true, "severity": true,
		"revision": true, "release": true, "operation": true, "code": true, "notifier": true, "source": true, "name": true, "version": true, "goversion": true}
	for name, d := range described(t, everything(t).Registry) {
		for _, label := range d.labels {
			if !allowed[label] {
				t.Errorf("%s has label %s", name, label)
			}
		}
	}
}

// A family is what a registry gathers under a name.
type family struct {
	kind    string
	samples []sample
}

// A sample is a counter, a gauge, or a histogram with its count as its value.
type sample struct {
	labels map[string]string
	value  float64
	series int // that Prometheus makes of it
}

// gathered are the families of a registry, by name.
func gathered(t *testing.T, reg *prometheus.Registry) map[string]family {
	t.Helper()
	all, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]family{}
	for _, f := range all {
		x := family{kind: strings.ToLower(f.GetType().String())}
		for _, m := range f.GetMetric() {
			s := sample{map[string]string{}, m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount()), 1}
			for _, l := range m.GetLabel() {
				s.labels[l.GetName()] = l.GetValue()
			}
			if h := m.GetHistogram(); h != nil {
				s.series = len(h.GetBucket()) + 3 // +Inf, sum and count
			}
			if q := m.GetSummary(); q != nil {
				s.series = len(q.GetQuantile()) + 2
			}
			x.samples = append(x.samples, s)
		}
		out[f.GetName()] = x
	}
	return out
}

// ofStacks counts what is told of a stack in a registry.
func ofStacks(t *testing.T, reg *prometheus.Registry) (n int) {
	t.Helper()
	for _, f := range gathered(t, reg) {
		for _, s := range f.samples {
			if s.labels["stack"] != "" {
				n++
			}
		}
	}
	return n
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
