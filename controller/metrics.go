package controller

import (
	"errors"
	"runtime"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/skep-io/skep/controller/forge"
	"github.com/skep-io/skep/reconcile"
)

// Values of labels. Each is there, with 0, as soon as its stack had a pass: an increase
// from nothing is none to Prometheus.
var (
	passResults = []reconcile.Outcome{reconcile.Unchanged, reconcile.Applied, reconcile.Waiting, reconcile.Held, reconcile.RolledBack, reconcile.Failed}
	// rolloutResults are the ways in which a release comes to its end.
	rolloutResults = []string{rolloutHealthy, rolloutFailed, rolloutSuperseded, rolloutRefused}
	// rollbackCauses are the reasons of a rollback, in few enough words.
	rollbackCauses = []string{causeService, causeDeadline, causeSwarm, causeGuard, causeHand}
)

const (
	rolloutHealthy    = "healthy"
	rolloutFailed     = "failed"
	rolloutSuperseded = "superseded" // a newer one came first
	rolloutRefused    = "refused"    // it failed before, and was not tried again

	causeService  = "service"  // a service of the release is sick by its own doing
	causeDeadline = "deadline" // it was not healthy in time
	causeSwarm    = "swarm"    // Swarm's updater gave up, and nothing tells why
	causeGuard    = "guard"    // it broke after it had been healthy
	causeHand     = "hand"     // somebody asked for it
)

// metrics are what the daemon counts. What is a state and not a count comes from a
// stateCollector, so that it is never out of date.
type metrics struct {
	passes          *prometheus.CounterVec
	duration        prometheus.Histogram
	rollouts        *prometheus.CounterVec
	rolloutDuration *prometheus.HistogramVec
	rollbacks       *prometheus.CounterVec
	corrections     *prometheus.CounterVec
	reconnects      prometheus.Counter
	notifications   *prometheus.CounterVec
	commitStatuses  *prometheus.CounterVec
	webhooks        *prometheus.CounterVec
	followed        *prometheus.CounterVec

	mu     sync.Mutex
	stacks map[string]*tally
}

// A tally is what is known of a stack beside its counters.
type tally struct {
	ready time.Time // when a pass found it Ready the last time
	late  int       // the newest release that failed after it had been healthy
}

func newMetrics(reg prometheus.Registerer) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels))
	}
	m := &metrics{
		stacks: map[string]*tally{},
		passes: counter("skep_reconcile_total", "Passes over a stack, by what they did.", "stack", "result"),
		duration: register(reg, prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "skep_reconcile_duration_seconds",
			Help:    "How long passes over a stack took.",
			Buckets: prometheus.ExponentialBucketsRange(0.0001, 60, 16),
		})),
		rollouts: counter("skep_rollouts_total", "Releases of a stack that came to their end, by how.", "stack", "result"),
		rolloutDuration: register(reg, prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "skep_rollout_duration_seconds",
			Help:    "How long rollouts took that became healthy (with their bake) or failed (until that was decided).",
			Buckets: []float64{5, 10, 20, 30, 60, 90, 120, 180, 300, 600, 900, 1200, 1800, 3600},
		}, []string{"result"})),
		rollbacks:   counter("skep_rollbacks_total", "Times that a stack began to go back to an earlier release, by why.", "stack", "cause"),
		corrections: counter("skep_drift_corrections_total", "Times that drift of a stack was written right; once for each wave of services.", "stack"),
		reconnects: register(reg, prometheus.NewCounter(prometheus.CounterOpts{
			Name: "skep_events_reconnects_total",
			Help: "Times that the engine's event stream was opened again after it had ended.",
		})),
		notifications:  counter("skep_notifications_total", "Messages by notifier: sent, failed (given up), dropped (behind too many others), and attempts that ended with an error.", "notifier", "result"),
		commitStatuses: counter("skep_commit_statuses_total", "Statuses of commits: sent, failed (given up), dropped (behind too many others), and attempts that ended with an error.", "result"),
		webhooks:       counter("skep_webhooks_total", "Requests to /hooks/git: accepted, forged (no good signature), large (too large a body), limited (too many forged ones before), broken (no whole POST).", "result"),
	}
	m.followed = newFollowedCounter(reg)
	for _, result := range []string{rolloutHealthy, rolloutFailed} {
		m.rolloutDuration.WithLabelValues(result)
	}
	return m
}

// observe takes in a pass over a stack, which ended now.
func (m *metrics) observe(stack string, r reconcile.Result, took time.Duration, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.stacks[stack]
	if s == nil {
		s = &tally{late: -1}
		m.stacks[stack] = s
		m.begin(stack)
	}
	m.passes.WithLabelValues(stack, string(r.Outcome)).Inc()
	m.duration.Observe(took.Seconds())
	if isReady(r) {
		s.ready = now
	}
	for _, t := range r.Transitions {
		m.transition(stack, s, r, t)
	}
}

// begin puts 0 where nothing was counted yet.
func (m *metrics) begin(stack string) {
	for _, result := range passResults {
		m.passes.WithLabelValues(stack, string(result))
	}
	for _, result := range rolloutResults {
		m.rollouts.WithLabelValues(stack, result)
	}
	for _, cause := range rollbackCauses {
		m.rollbacks.WithLabelValues(stack, cause)
	}
	m.corrections.WithLabelValues(stack)
}

// transition counts what happened in a pass.
func (m *metrics) transition(stack string, s *tally, r reconcile.Result, t reconcile.Transition) {
	switch t.Action {
	case "rollout-started":
		if t.Reason == "Pinned" { // by which somebody's rollback begins
			m.rollbacks.WithLabelValues(stack, causeHand).Inc()
		}
	case "rollout-healthy":
		m.ended(stack, rolloutHealthy, t.Duration)
	case "rollout-failed":
		if t.Late { // it was counted when it became healthy
			s.late = releaseOf(r)
			return
		}
		m.ended(stack, rolloutFailed, t.Duration)
	case "superseded":
		m.rollouts.WithLabelValues(stack, rolloutSuperseded).Inc()
	case "rollout-refused":
		m.rollouts.WithLabelValues(stack, rolloutRefused).Inc()
	case "going-back", "rolled-back":
		if t.Begins {
			m.rollbacks.WithLabelValues(stack, rollbackCause(r.Release, s.late)).Inc()
		}
	case "drift-corrected":
		m.corrections.WithLabelValues(stack).Inc()
	}
}

func (m *metrics) ended(stack, result string, took time.Duration) {
	m.rollouts.WithLabelValues(stack, result).Inc()
	m.rolloutDuration.WithLabelValues(result).Observe(took.Seconds())
}

// rollbackCause is why a release is gone back from; late is the newest one that failed
// after it had been healthy.
func rollbackCause(failed *reconcile.Release, late int) string {
	switch {
	case failed == nil:
		return causeService
	case failed.Number == late:
		return causeGuard
	case failed.Reason == "DeadlineExceeded":
		return causeDeadline
	case failed.Reason == reconcile.CodeUpdatePaused, failed.Reason == reconcile.CodeRollbackPaused, failed.Reason == reconcile.CodeSwarmRolledBack:
		return causeSwarm
	}
	return causeService
}

// notifies puts 0 where no message was given to a notifier yet.
func (m *metrics) notifies(notifier string) {
	for _, result := range sendResults {
		m.notifications.WithLabelValues(notifier, result)
	}
}

// notified counts a message to a notifier, or an attempt, by what became of it.
func (m *metrics) notified(notifier, result string) {
	m.notifications.WithLabelValues(notifier, result).Inc()
}

// tellsCommits puts 0 where no status was posted yet.
func (m *metrics) tellsCommits() {
	for _, result := range statusResults {
		m.commitStatuses.WithLabelValues(result)
	}
}

// commitTold counts a commit's status, or an attempt, by what became of it.
func (m *metrics) commitTold(result string) { m.commitStatuses.WithLabelValues(result).Inc() }

// hears puts 0 where no hook came yet.
func (m *metrics) hears() {
	for _, result := range forge.HookResults() {
		m.webhooks.WithLabelValues(result)
	}
}

// heard counts a request to the webhook, by what came of it.
func (m *metrics) heard(result string) { m.webhooks.WithLabelValues(result).Inc() }

// lastReady is when a pass found the stack Ready the last time; zero: none did.
func (m *metrics) lastReady(stack string) time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.stacks[stack]; s != nil {
		return s.ready
	}
	return time.Time{}
}

// forget drops the series of a stack that is no more.
func (m *metrics) forget(stack string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.stacks, stack)
	for _, v := range []*prometheus.CounterVec{m.passes, m.rollouts, m.rollbacks, m.corrections} {
		v.DeletePartialMatch(prometheus.Labels{"stack": stack})
	}
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
