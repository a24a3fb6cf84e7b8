package controller

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"
)

// shutdownLimit is how long requests under way may go on after a stop; then their
// connections are closed.
const shutdownLimit = 3 * time.Second

// A check is nil while what it looks at is good; its error says why it is not.
type check func() error

// handler serves what watches skep: nothing here changes anything.
// role is what a process that is ready says of itself.
func handler(metrics prometheus.Gatherer, healthy, ready check, role func() string) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second}))
	mux.Handle("GET /healthz", answer(healthy, func() string { return "ok" }))
	mux.Handle("GET /readyz", answer(ready, role))
	return mux
}

// answer says the word for all is well, or 503 and why it is not.
func answer(c check, word func() string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if err := c(); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, err.Error()+"\n")
			return
		}
		_, _ = io.WriteString(w, word()+"\n")
	}
}

// listen opens the address, so that a bad one is told before anything starts.
func listen(address string) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("serve metrics and health: %w (give --listen another address)", err)
	}
	return l, nil
}

// serve answers requests on l until ctx ends, then lets those under way finish
// within shutdownLimit.
func serve(ctx context.Context, l net.Listener, h http.Handler, log *zap.Logger) error {
	server := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          zap.NewStdLog(log.WithOptions(zap.IncreaseLevel(zap.WarnLevel))),
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve metrics and health: %w", err)
	case <-ctx.Done():
	}
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownLimit)
	defer cancel()
	err := server.Shutdown(limit)
	if errors.Is(err, context.DeadlineExceeded) {
		err = server.Close()
	}
	<-served
	return err
}

// ready is nil with a live engine and a readable source.
func (c *controller) ready() error {
	var why []string
	if err := c.engine.up(); err != nil {
		why = append(why, "engine: "+err.Error())
	}
	if err := c.sourceReady(); err != nil {
		why = append(why, "specs: "+err.Error())
	}
	if why == nil {
		return nil
	}
	return errors.New(strings.Join(why, "\n"))
}

// sourceReady is nil while the newest scan was complete.
func (c *controller) sourceReady() error {
	d := c.desired.Load()
	if d.err == nil && !d.loaded {
		return errors.New("the directory was not read yet")
	}
	return d.err
}
