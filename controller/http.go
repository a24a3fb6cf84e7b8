package controller

import (
	"context"
	"crypto/tls"
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

// What one client, or all of them, may take of the daemon. A stop waits no longer
// for requests under way than shutdownLimit; then their connections are closed.
const (
	headerLimit   = 16 << 10 // bytes of a request's line and fields
	headerTime    = 5 * time.Second
	requestTime   = 10 * time.Second
	answerTime    = 30 * time.Second
	idleTime      = 20 * time.Second // a scraper may connect anew
	shutdownLimit = 500 * time.Millisecond
)

// A check is nil while what it looks at is good; its error says why it is not.
type check func() error

// handler serves what watches skep: nothing here changes anything. Paths are
// matched as they are: http.ServeMux would answer one that it cleans with a
// redirect, which repeats the path. Role is what a process that is ready says of itself.
func handler(metrics prometheus.Gatherer, healthy, ready check, role func() string) byPath {
	return byPath{
		"/metrics": promhttp.HandlerFor(metrics, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: requestTime}),
		"/healthz": answer(healthy, func() string { return "ok" }),
		"/readyz":  answer(ready, role),
	}
}

type byPath map[string]http.Handler

func (b byPath) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h, ok := b[r.URL.Path]; ok {
		h.ServeHTTP(w, r)
		return
	}
	say(w, http.StatusNotFound, "there is nothing here")
}

// answer says the word for all is well, or 503 and why it is not.
func answer(c check, word func() string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		if err := c(); err != nil {
			say(w, http.StatusServiceUnavailable, err.Error())
			return
		}
		say(w, http.StatusOK, word())
	}
}

// say answers with a line of plain text, which never is of the request.
func say(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, text+"\n")
}

// A site is the daemon's HTTP side as its configuration wants it: where it listens,
// and what stands between a client and the handlers.
type site struct {
	listener net.Listener
	tls      *tls.Config // nil: none
	door     *door
}

// site opens the address and reads the files of token and certificate, so that what
// is wrong with them is told before anything starts.
func (c *Config) site() (*site, error) {
	s := &site{door: &door{}}
	if c.TokenFile != "" {
		t, err := newToken(c.TokenFile, c.Now, c.Logger)
		if err != nil {
			return nil, err
		}
		s.door.token = t
	}
	if c.TLSCert != "" || c.TLSKey != "" {
		pair, err := newKeyPair(c.TLSCert, c.TLSKey, c.Now, c.Logger)
		if err != nil {
			return nil, err
		}
		s.tls = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: pair.certificate}
	}
	l, err := listen(c.Listen)
	if err != nil {
		return nil, err
	}
	s.listener = l
	local := isLoopback(l.Addr().String())
	s.door.ownNameOnly = local && s.door.token == nil
	if s.door.token != nil && s.tls == nil && !local {
		c.Logger.Warn("the token comes in clear over the network (give --http-tls-cert and --http-tls-key)")
	}
	return s, nil
}

// serve answers requests until ctx ends, open ones to all, pages through the door.
func (s *site) serve(ctx context.Context, open byPath, pages http.Handler, log *zap.Logger) error {
	return serve(ctx, s.listener, s.tls, s.door.guard(open, pages), log)
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
// within shutdownLimit. Of HTTP it speaks version 1 alone: with TLS too, one
// connection is one request at a time, and the limits hold for all of it.
func serve(ctx context.Context, l net.Listener, secure *tls.Config, h http.Handler, log *zap.Logger) error {
	// Go has a line for each client that breaks off or speaks no HTTP: by default
	// whoever can connect could fill the log.
	quiet, err := zap.NewStdLogAt(log, zap.DebugLevel)
	if err != nil {
		return fmt.Errorf("serve metrics and health: %w", err)
	}
	var only1 http.Protocols
	only1.SetHTTP1(true)
	server := &http.Server{
		Handler:                      h,
		TLSConfig:                    secure,
		Protocols:                    &only1,
		DisableGeneralOptionsHandler: true, // OPTIONS * is a method like any other
		ReadHeaderTimeout:            headerTime,
		ReadTimeout:                  requestTime,
		WriteTimeout:                 answerTime,
		IdleTimeout:                  idleTime,
		MaxHeaderBytes:               headerLimit,
		ErrorLog:                     quiet,
	}
	l = limitConnections(l, maxConnections, maxConnectionsEach)
	served := make(chan error, 1)
	go func() {
		if secure != nil {
			served <- server.ServeTLS(l, "", "")
		} else {
			served <- server.Serve(l)
		}
	}()
	select {
	case err := <-served:
		return fmt.Errorf("serve metrics and health: %w", err)
	case <-ctx.Done():
	}
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownLimit)
	defer cancel()
	err = server.Shutdown(limit)
	if errors.Is(err, context.DeadlineExceeded) {
		err = server.Close()
	}
	<-served
	return err
}

// ready is nil with a live engine, where some controller is known to act, a policy (where
// there is to be one) and a readable source. Who has lost the lease and knows of nobody who has it is cut off, most likely:
// that is known long before a request was given up.
func (c *controller) ready() error {
	var why []string
	if err := c.engine.up(); err != nil {
		why = append(why, "engine: "+err.Error())
	} else if s := c.leader.standing(); !s.Acts() && s.Holder.ID == "" {
		why = append(why, "lease: no controller is known to act, and this one cannot have the lease now (has the Swarm its quorum, does the engine answer?)")
	}
	if err := c.policy.missing(); err != nil {
		why = append(why, "policy: "+err.Error())
	} else {
		for _, s := range c.sources() {
			if err := s.problem(); err != nil {
				why = append(why, c.called(s)+": "+err.Error())
			}
		}
	}
	if why == nil {
		return nil
	}
	return errors.New(strings.Join(why, "\n"))
}

// sourceReady is nil while the newest scan of every source was complete, and none of them
// may be old.
func (c *controller) sourceReady() error {
	d := c.desired.Load()
	if d.err == nil && !d.loaded {
		return errors.New("the directory was not read yet")
	}
	return d.err
}

// sources tell how each source stands.
func (c *controller) sources() []standing { return c.desired.Load().sources }

// called is what a source is called among what is not ready.
func (c *controller) called(s standing) string {
	if len(c.Sources) == 1 {
		return "specs"
	}
	return "source " + s.name
}
