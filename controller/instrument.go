package controller

import (
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Instrument counts and times the requests that go through rt, by operation and by
// the engine's answer ("error" where none came). The time is until the answer's
// head: the events that follow in a stream are no part of it. What it counts is
// registered with reg; several transports may share one registry.
func Instrument(rt http.RoundTripper, reg prometheus.Registerer) http.RoundTripper {
	return &instrumented{
		next: rt,
		requests: register(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "skep_docker_requests_total",
			Help: "Requests to the engine, by operation and by the status code of the answer.",
		}, []string{"operation", "code"})),
		duration: register(reg, prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "skep_docker_request_duration_seconds",
			Help:    "How long the engine took to answer.",
			Buckets: prometheus.ExponentialBucketsRange(0.001, 30, 12),
		}, []string{"operation"})),
	}
}

type instrumented struct {
	next     http.RoundTripper
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
}

func (i *instrumented) RoundTrip(r *http.Request) (*http.Response, error) {
	op := Operation(r.Method, r.URL.Path)
	start := time.Now()
	response, err := i.next.RoundTrip(r)
	i.duration.WithLabelValues(op).Observe(time.Since(start).Seconds())
	code := "error"
	if err == nil {
		code = strconv.Itoa(response.StatusCode)
	}
	i.requests.WithLabelValues(op, code).Inc()
	return response, err
}

// CloseIdleConnections lets http.Client.CloseIdleConnections through.
func (i *instrumented) CloseIdleConnections() {
	if c, ok := i.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

var apiVersion = regexp.MustCompile(`^/v[0-9]+\.[0-9]+/`)

// objects are the engine's collections that skep uses, by their paths.
var objects = map[string]string{
	"services": "Service",
	"tasks":    "Task",
	"nodes":    "Node",
	"networks": "Network",
	"configs":  "Config",
	"secrets":  "Secret",
}

// single are the paths that stand for themselves.
var single = map[string]string{
	"_ping":   "Ping",
	"events":  "Events",
	"info":    "Info",
	"version": "ServerVersion",
}

// Operation names a request as Docker's Go client names the call behind it. It has
// no more values than this file has words, whatever the path.
func Operation(method, path string) string {
	path = strings.TrimPrefix(apiVersion.ReplaceAllString(path, "/"), "/")
	segments := strings.Split(path, "/")
	head, rest := segments[0], segments[1:]
	if name := single[head]; name != "" && len(rest) == 0 {
		return name
	}
	if head == "distribution" {
		return "DistributionInspect"
	}
	if object := objects[head]; object != "" {
		if verb := verb(method, rest); verb != "" {
			return object + verb
		}
	}
	return "Other"
}

// verb is what a request does to a collection, given what follows in its path.
func verb(method string, rest []string) string {
	switch {
	case method == http.MethodGet && len(rest) == 0:
		return "List"
	case method == http.MethodGet && len(rest) == 1:
		return "Inspect"
	case method == http.MethodGet && len(rest) == 2 && rest[1] == "logs":
		return "Logs"
	case method == http.MethodDelete && len(rest) == 1:
		return "Remove"
	case method == http.MethodPost && len(rest) == 1 && rest[0] == "create":
		return "Create"
	case method == http.MethodPost && len(rest) == 2 && rest[1] == "update":
		return "Update"
	}
	return ""
}
