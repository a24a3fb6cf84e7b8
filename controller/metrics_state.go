package controller

import (
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
)

// A stateCollector tells the state of the daemon at the moment it is asked.
type stateCollector struct {
	fleet    func() []member
	findings func() []spec.Finding // about the directory itself
	sources  func() []standing
	policy   func() *policyFile // nil: there is none
	engine   check
	leads    func() bool
}

// A member is a stack as metrics tell it.
type member struct {
	name       string
	conditions []reconcile.Condition
	suspended  bool
	findings   []spec.Finding
	// result is the newest pass's, nil before the first one; ready when one found the
	// stack Ready the last time.
	result *reconcile.Result
	ready  time.Time
}

var (
	descCondition = prometheus.NewDesc("skep_stack_condition",
		"Whether a condition of a stack is true (1) or not (0), by its newest pass.", []string{"stack", "condition"}, nil)
	descInfo = prometheus.NewDesc("skep_stack_info",
		"Always 1; the labels say which release of a stack is the newest, and of which revision.", []string{"stack", "revision", "release"}, nil)
	descSuspended = prometheus.NewDesc("skep_stack_suspended",
		"Whether nothing of a stack may be written (1), by its file or by hand, or else 0.", []string{"stack"}, nil)
	descDrifted = prometheus.NewDesc("skep_stack_drifted_objects",
		"Objects of a stack that live otherwise than they were rolled out, by its newest pass.", []string{"stack"}, nil)
	descSuccess = prometheus.NewDesc("skep_stack_last_success_timestamp_seconds",
		"When a pass of this controller found the stack Ready the last time.", []string{"stack"}, nil)
	descTasks = prometheus.NewDesc("skep_service_tasks",
		"Tasks of a service: desired, running, and failed since the newest release began (as far as the engine still has them).", []string{"stack", "service", "state"}, nil)
	descFindings = prometheus.NewDesc("skep_findings",
		"Findings that hold, by severity; with no stack those about the specs directory itself.", []string{"stack", "severity"}, nil)
	descSource = prometheus.NewDesc("skep_source_ready",
		"Whether a source could be read completely and is up to date (1), or what was read of it before is in force (0).", []string{"source"}, nil)
	descScanned = prometheus.NewDesc("skep_source_last_scan_timestamp_seconds",
		"When a source was read completely the last time.", []string{"source"}, nil)
	descPolicy = prometheus.NewDesc("skep_policy_ready",
		"Whether what the policy file says is in force (1), or, since it cannot be read, what it said before or, after a start, nothing (0); not there without a policy.", nil, nil)
	descEngine = prometheus.NewDesc("skep_engine_ready",
		"Whether the engine could be listed the last time (1) or not (0).", nil, nil)
	descLeader = prometheus.NewDesc("skep_leader",
		"Whether this controller acts (1) or stands by (0).", nil, nil)
)

func (s *stateCollector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descCondition, descInfo, descSuspended, descDrifted, descSuccess, descTasks, descFindings,
		descSource, descScanned, descPolicy, descEngine, descLeader} {
		out <- d
	}
}

func (s *stateCollector) Collect(out chan<- prometheus.Metric) {
	for _, m := range s.fleet() {
		m.collect(out)
	}
	collectFindings(out, "", s.findings())
	for _, source := range s.sources() {
		out <- yes(descSource, source.problem() == nil, source.name)
		if !source.scanned.IsZero() {
			out <- gauge(descScanned, seconds(source.scanned), source.name)
		}
	}
	if p := s.policy(); p != nil {
		out <- yes(descPolicy, p.problem() == nil)
	}
	out <- yes(descEngine, s.engine() == nil)
	out <- yes(descLeader, s.leads())
}

func (m *member) collect(out chan<- prometheus.Metric) {
	for t, on := range truth(m.conditions) {
		out <- yes(descCondition, on, m.name, string(t))
	}
	out <- yes(descSuspended, m.suspended, m.name)
	collectFindings(out, m.name, m.findings)
	if !m.ready.IsZero() {
		out <- gauge(descSuccess, seconds(m.ready), m.name)
	}
	r := m.result
	if r == nil {
		return
	}
	out <- gauge(descDrifted, float64(r.Drifted), m.name)
	if r.Release != nil {
		out <- gauge(descInfo, 1, m.name, r.Release.Revision, strconv.Itoa(r.Release.Number))
	}
	for i := range r.Services {
		s := &r.Services[i]
		for state, n := range map[string]uint64{"desired": s.Desired, "running": s.Running, "failed": s.Failed} {
			out <- gauge(descTasks, float64(n), m.name, s.Name, state)
		}
	}
}

func collectFindings(out chan<- prometheus.Metric, stack string, findings []spec.Finding) {
	n := map[spec.Severity]int{}
	for _, f := range findings {
		n[f.Severity]++
	}
	for _, s := range []spec.Severity{spec.Error, spec.Warning, spec.Info} {
		out <- gauge(descFindings, float64(n[s]), stack, string(s))
	}
}

func gauge(d *prometheus.Desc, value float64, labels ...string) prometheus.Metric {
	return prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
}

func yes(d *prometheus.Desc, on bool, labels ...string) prometheus.Metric {
	if on {
		return gauge(d, 1, labels...)
	}
	return gauge(d, 0, labels...)
}

// seconds is a moment as Prometheus tells it.
func seconds(t time.Time) float64 { return float64(t.UnixNano()) / 1e9 }

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

// fleet are the stacks that this controller looks after; none while it does not act.
func (c *controller) fleet() []member {
	conditions := c.conditions()
	d, results := c.desired.Load(), c.book.results()
	all := make([]member, 0, len(conditions))
	for _, name := range slices.Sorted(maps.Keys(conditions)) {
		m := member{name: name, conditions: conditions[name], ready: c.metrics.lastReady(name), findings: slices.Clone(d.problems[name])}
		if s := d.stacks[name]; s != nil {
			m.suspended = s.Policy.Suspend
			m.findings = append(m.findings, s.Findings...)
		}
		if r, ok := results[name]; ok {
			m.result, m.suspended = &r, m.suspended || r.State.IsSuspended()
			m.findings = more(m.findings, r.Findings)
		}
		all = append(all, m)
	}
	return all
}

// more adds the findings that are not there yet.
func more(findings, others []spec.Finding) []spec.Finding {
	for _, f := range others {
		if !slices.ContainsFunc(findings, func(g spec.Finding) bool { return reconcile.SameFinding(f, g) }) {
			findings = append(findings, f)
		}
	}
	return findings
}

// directoryFindings are about the specs directories themselves.
func (c *controller) directoryFindings() []spec.Finding { return c.desired.Load().findings }
