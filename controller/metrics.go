package controller

import (
	"errors"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"k8s.io/client-go/util/workqueue"

	"github.com/skep-io/skep/reconcile"
)

// metrics are what the daemon counts about its passes. What is a state and not a
// count comes from a stateCollector, so that it is never out of date.
type metrics struct {
	passes   *prometheus.CounterVec
	duration prometheus.Histogram
}

func newMetrics(reg prometheus.Registerer) *metrics {
	m := &metrics{
		passes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "skep_reconcile_total",
			Help: "Passes over a stack, by what they did.",
		}, []string{"stack", "result"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "skep_reconcile_duration_seconds",
			Help:    "How long passes over a stack took.",
			Buckets: prometheus.ExponentialBucketsRange(0.0001, 60, 16),
		}),
	}
	m.passes = register(reg, m.passes)
	m.duration = register(reg, m.duration)
	return m
}

func (m *metrics) observe(stack string, r reconcile.Result, took time.Duration) {
	m.passes.WithLabelValues(stack, string(r.Outcome)).Inc()
	m.duration.Observe(took.Seconds())
}

// forget drops the series of a stack that is no more.
func (m *metrics) forget(stack string) {
	m.passes.DeletePartialMatch(prometheus.Labels{"stack": stack})
}

// register adds c, or returns the collector of the same name and kind that is
// there already: a test or a verb may run more than once in one process.
func register[C prometheus.Collector](reg prometheus.Registerer, c C) C {
	err := reg.Register(c)
	if err == nil {
		return c
	}
	if is, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		if existing, ok := is.ExistingCollector.(C); ok {
			return existing
		}
	}
	panic(err) // two metrics of one name: a bug that no input can cause
}

// registerProcess adds what tells of the process itself.
func registerProcess(reg prometheus.Registerer, version string) {
	register(reg, collectors.NewGoCollector())
	register(reg, collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	info := register(reg, prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "skep_build_info",
		Help: "Always 1; the labels say which build of skep this is.",
	}, []string{"version", "goversion"}))
	info.WithLabelValues(version, runtime.Version()).Set(1)
}

// A stateCollector tells the state of the daemon at the moment it is asked.
type stateCollector struct {
	conditions func() map[string][]reconcile.Condition // by stack
	source     check
	engine     check
	leads      func() bool
	policy     func() *policyFile // nil: there is none
}

var (
	descCondition = prometheus.NewDesc("skep_stack_condition",
		"Whether a condition of a stack is true (1) or not (0), by its newest pass.", []string{"stack", "condition"}, nil)
	descSource = prometheus.NewDesc("skep_source_ready",
		"Whether the specs directory could be read completely (1) or not (0).", nil, nil)
	descEngine = prometheus.NewDesc("skep_engine_ready",
		"Whether the engine could be listed the last time (1) or not (0).", nil, nil)
	descPolicy = prometheus.NewDesc("skep_policy_ready",
		"Whether what the policy file says is in force (1), or, since it cannot be read, what it said before (0); not there without a policy.", nil, nil)
	descLeader = prometheus.NewDesc("skep_leader",
		"Whether this controller acts (1) or stands by (0).", nil, nil)
)

func (s *stateCollector) Describe(out chan<- *prometheus.Desc) {
	out <- descCondition
	out <- descSource
	out <- descEngine
	out <- descLeader
	out <- descPolicy
}

func (s *stateCollector) Collect(out chan<- prometheus.Metric) {
	for stack, conditions := range s.conditions() {
		for t, on := range truth(conditions) {
			out <- gauge(descCondition, on, stack, string(t))
		}
	}
	out <- gauge(descSource, s.source() == nil)
	out <- gauge(descEngine, s.engine() == nil)
	out <- gauge(descLeader, s.leads())
	if p := s.policy(); p != nil {
		out <- gauge(descPolicy, p.problem() == nil)
	}
}

func gauge(d *prometheus.Desc, on bool, labels ...string) prometheus.Metric {
	value := 0.0
	if on {
		value = 1
	}
	return prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
}

// truth says of every condition whether it is true; one that is not told is not.
func truth(conditions []reconcile.Condition) map[reconcile.ConditionType]bool {
	t := map[reconcile.ConditionType]bool{
		reconcile.Ready: false, reconcile.Progressing: false, reconcile.Degraded: false, reconcile.Stalled: false,
	}
	for _, c := range conditions {
		t[c.Type] = c.True
	}
	return t
}

// conditions holds those of every stack: what its newest pass found, but not Ready
// where its file does not load. Who does not act makes no passes, and has none to tell.
func (c *controller) conditions() map[string][]reconcile.Condition {
	if c.termNow() == 0 {
		return nil
	}
	d := c.desired.Load()
	out := map[string][]reconcile.Condition{}
	for name, r := range c.book.results() {
		out[name] = r.Conditions
	}
	for name := range d.stacks {
		if _, ok := out[name]; !ok {
			out[name] = nil
		}
	}
	for name := range d.problems {
		out[name] = unready(out[name], sourceInvalid, d.problem(name))
	}
	return out
}

// queueMetrics gives the queue the metrics by which Kubernetes' controllers are
// watched, under their names.
type queueMetrics struct {
	depth, unfinished, longest *prometheus.GaugeVec
	adds, retries              *prometheus.CounterVec
	latency, work              *prometheus.HistogramVec
}

func newQueueMetrics(reg prometheus.Registerer) *queueMetrics {
	label := []string{"name"}
	gauge := func(name, help string) *prometheus.GaugeVec {
		return register(reg, prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, label))
	}
	counter := func(name, help string) *prometheus.CounterVec {
		return register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, label))
	}
	histogram := func(name, help string) *prometheus.HistogramVec {
		return register(reg, prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: name, Help: help, Buckets: prometheus.ExponentialBucketsRange(0.0001, 60, 10),
		}, label))
	}
	return &queueMetrics{
		depth:      gauge("workqueue_depth", "Names in the queue."),
		unfinished: gauge("workqueue_unfinished_work_seconds", "How long the passes under way have taken together so far."),
		longest:    gauge("workqueue_longest_running_processor_seconds", "How long the longest pass under way has taken so far."),
		adds:       counter("workqueue_adds_total", "Names added to the queue."),
		retries:    counter("workqueue_retries_total", "Names added to the queue for later."),
		latency:    histogram("workqueue_queue_duration_seconds", "How long a name waited in the queue."),
		work:       histogram("workqueue_work_duration_seconds", "How long a name was worked on."),
	}
}

var _ workqueue.MetricsProvider = (*queueMetrics)(nil)

func (m *queueMetrics) NewDepthMetric(name string) workqueue.GaugeMetric {
	return m.depth.WithLabelValues(name)
}

func (m *queueMetrics) NewAddsMetric(name string) workqueue.CounterMetric {
	return m.adds.WithLabelValues(name)
}

func (m *queueMetrics) NewRetriesMetric(name string) workqueue.CounterMetric {
	return m.retries.WithLabelValues(name)
}

func (m *queueMetrics) NewLatencyMetric(name string) workqueue.HistogramMetric {
	return m.latency.WithLabelValues(name)
}

func (m *queueMetrics) NewWorkDurationMetric(name string) workqueue.HistogramMetric {
	return m.work.WithLabelValues(name)
}

func (m *queueMetrics) NewUnfinishedWorkSecondsMetric(name string) workqueue.SettableGaugeMetric {
	return m.unfinished.WithLabelValues(name)
}

func (m *queueMetrics) NewLongestRunningProcessorSecondsMetric(name string) workqueue.SettableGaugeMetric {
	return m.longest.WithLabelValues(name)
}
