package controller

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Asked is what came of a source's questions to its remote.
type Asked struct {
	// Heard is when the remote last said what it has; zero: not since the start.
	Heard time.Time
	// Results are how many questions there were, by what came of them.
	Results map[string]uint64
}

// A gitCollector tells of the sources that are kept by asking a remote.
type gitCollector struct{ sources func() []Source }

var (
	descHeard = prometheus.NewDesc("skep_git_last_answer_timestamp_seconds",
		"When the remote of a git source last said what it has; not there before it did.", []string{"source"}, nil)
	descLooks = prometheus.NewDesc("skep_git_looks_total",
		"Looks at the remote of a git source: it has nothing new (unchanged), or something that is in force now (changed), or that is not taken (refused), or it gave no answer that could be used (error).", []string{"source", "result"}, nil)
)

func (g *gitCollector) Describe(out chan<- *prometheus.Desc) {
	out <- descHeard
	out <- descLooks
}

func (g *gitCollector) Collect(out chan<- prometheus.Metric) {
	for _, s := range g.sources() {
		if s.Asked == nil {
			continue
		}
		asked := s.Asked()
		if !asked.Heard.IsZero() {
			out <- gauge(descHeard, seconds(asked.Heard), s.Name)
		}
		for result, n := range asked.Results {
			out <- prometheus.MustNewConstMetric(descLooks, prometheus.CounterValue, float64(n), s.Name, result)
		}
	}
}
