package controller

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestEveryRequestHasADeadline(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	const limit = 50 * time.Millisecond
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		out := http.NewResponseController(w)
		switch r.URL.Path {
		case "/v1.41/nodes": // never answers
			<-r.Context().Done()
		case "/v1.41/services", "/v1.41/events", "/v1.41/services/x/logs": // answers, and then stays silent
			_, _ = io.WriteString(w, "[")
			_ = out.Flush()
			select {
			case <-r.Context().Done():
			case <-time.After(4 * limit):
			}
			_, _ = io.WriteString(w, "]")
		}
	}))
	defer server.Close()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	c := &http.Client{Transport: &bounded{next: transport, limit: limit}}
	for path, want := range map[string]error{
		"/v1.41/nodes":    context.DeadlineExceeded,
		"/v1.41/services": context.DeadlineExceeded,
		"/v1.41/events":   nil,
		"/v1.41/configs":  nil,

		"/v1.41/services/x/logs":          context.DeadlineExceeded,
		"/v1.41/services/x/logs?follow=1": nil,
	} {
		began := time.Now()
		resp, err := c.Get(server.URL + path)
		if err == nil {
			_, err = io.ReadAll(resp.Body)
			err = errors.Join(err, resp.Body.Close())
		}
		if !errors.Is(err, want) {
			t.Errorf("%s: %v after %s, want %v", path, err, time.Since(began), want)
		}
	}
	// A caller's own end stays its own.
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(limit/5, cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/v1.41/nodes", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Do(r); !errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a request that was given up: %v", err)
	}
}
