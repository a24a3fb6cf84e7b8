package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"
)

// knobs say how the web application is to fail. Durations are as Go writes them
// ("30s"), counted from the process's start; what is unset is off.
type knobs struct {
	version    string        // APP_VERSION: what GET / says
	listen     string        // APP_LISTEN: default ":8000"
	sick       bool          // APP_SICK=1: /healthz answers 503
	sickAfter  time.Duration // APP_SICK_AFTER: well first, sick from then on
	slowStart  time.Duration // APP_SLOW_START: nothing listens before
	crash      bool          // APP_CRASH=1: exits 1 at once
	crashAfter time.Duration // APP_CRASH_AFTER: exits 1 then
	ignoreTerm bool          // APP_IGNORE_TERM=1: SIGTERM does nothing
	exit       int           // APP_EXIT: the exit code on SIGTERM, default 0
	hog        int           // APP_HOG_MIB: takes so much memory before it listens
}

func readKnobs(getenv func(string) string) (knobs, error) {
	k := knobs{version: getenv("APP_VERSION"), listen: getenv("APP_LISTEN")}
	if k.listen == "" {
		k.listen = ":8000"
	}
	var errs []error
	for name, to := range map[string]*bool{"APP_SICK": &k.sick, "APP_CRASH": &k.crash, "APP_IGNORE_TERM": &k.ignoreTerm} {
		errs = append(errs, read(getenv, name, to, strconv.ParseBool))
	}
	for name, to := range map[string]*time.Duration{"APP_SICK_AFTER": &k.sickAfter, "APP_SLOW_START": &k.slowStart, "APP_CRASH_AFTER": &k.crashAfter} {
		errs = append(errs, read(getenv, name, to, time.ParseDuration))
	}
	for name, to := range map[string]*int{"APP_EXIT": &k.exit, "APP_HOG_MIB": &k.hog} {
		errs = append(errs, read(getenv, name, to, strconv.Atoi))
	}
	return k, errors.Join(errs...)
}

func read[T any](getenv func(string) string, name string, to *T, parse func(string) (T, error)) error {
	s := getenv(name)
	if s == "" {
		return nil
	}
	v, err := parse(s)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	*to = v
	return nil
}

// web serves until ctx ends, or until a knob has it fail.
func web(ctx context.Context, _ []string) error {
	k, err := readKnobs(os.Getenv)
	if err != nil {
		return err
	}
	if k.crash {
		return errors.New("crashing, as APP_CRASH says")
	}
	if k.ignoreTerm {
		ctx = context.Background()
	}
	if k.crashAfter > 0 {
		time.AfterFunc(k.crashAfter, func() {
			fmt.Fprintln(os.Stderr, "web: crashing, as APP_CRASH_AFTER says")
			os.Exit(1)
		})
	}
	hogged := hog(k.hog)
	if k.slowStart > 0 {
		fmt.Fprintln(os.Stderr, "starting, for", k.slowStart)
		if err := pause(ctx, k.slowStart); err != nil {
			return nil // told to stop before it served
		}
	}
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	if err := serve(ctx, k.listen, k.handler(host)); err != nil {
		return err
	}
	runtime.KeepAlive(hogged)
	if k.exit != 0 {
		os.Exit(k.exit)
	}
	return nil
}

// hog takes memory, and writes to all of it so that it is really taken.
func hog(mib int) []byte {
	b := make([]byte, mib<<20)
	for i := 0; i < len(b); i += 4096 {
		b[i] = 1
	}
	return b
}

// pause waits for d, or until ctx ends, which is an error.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// handler answers as the seed's application does: with its version and the
// container's host name, and with its health.
func (k knobs) handler(host string) http.Handler {
	var sick atomic.Bool
	sick.Store(k.sick)
	if k.sickAfter > 0 {
		time.AfterFunc(k.sickAfter, func() { sick.Store(true) })
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, struct {
			Message     string `json:"message"`
			ContainerID string `json:"container_id"`
			Hostname    string `json:"hostname"`
		}{"Hello from version: " + k.version, host, host})
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if sick.Load() {
			reply(w, http.StatusServiceUnavailable, map[string]string{"status": "unhealthy"})
			return
		}
		reply(w, http.StatusOK, map[string]string{"status": "ok"})
	})
	return mux
}

func reply(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body) // the other side may be gone
}

// serve answers on addr until ctx ends, and then finishes what was asked before.
func serve(ctx context.Context, addr string, h http.Handler) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "listening on", l.Addr())
	s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan error, 1)
	go func() {
		<-ctx.Done()
		limit, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		done <- s.Shutdown(limit)
	}()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-done
}
