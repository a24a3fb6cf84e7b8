package controller

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// A bounded transport gives each request a deadline of its own, to the last byte of its
// answer: a connection whose other end is gone, or holds it and says nothing, would keep
// its caller for ever. A stream of events, or of logs that are followed, has one for its
// head only; what follows is as long as it is, and is watched by who reads it.
type bounded struct {
	next  *http.Transport
	limit time.Duration
}

func (b *bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(r.Context())
	late := time.AfterFunc(b.limit, func() {
		cancel(fmt.Errorf("no answer within %s: %w", b.limit, context.DeadlineExceeded))
		// Those that wait to be used again are as dead as this one, one by one.
		b.next.CloseIdleConnections()
	})
	end := func() {
		late.Stop()
		cancel(nil)
	}
	response, err := b.next.RoundTrip(r.WithContext(ctx))
	if err != nil {
		// The cause says more, and is what the caller can tell from its own end.
		if cause := context.Cause(ctx); cause != nil && r.Context().Err() == nil {
			err = cause
		}
		end()
		return nil, err
	}
	if isStream(r) {
		late.Stop()
	}
	response.Body = &boundedBody{response.Body, ctx, end}
	return response, nil
}

// isStream says that an answer ends when its reader does.
func isStream(r *http.Request) bool {
	operation := Operation(r.Method, r.URL.Path)
	return operation == "Events" || operation == "ServiceLogs" && r.URL.Query().Get("follow") == "1"
}

// CloseIdleConnections lets http.Client.CloseIdleConnections through.
func (b *bounded) CloseIdleConnections() { b.next.CloseIdleConnections() }

// A boundedBody is an answer that has to come to its end in time.
type boundedBody struct {
	io.ReadCloser
	ctx context.Context
	end func()
}

func (b *boundedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF && b.ctx.Err() != nil {
		err = context.Cause(b.ctx)
	}
	return n, err
}

func (b *boundedBody) Close() error {
	b.end()
	return b.ReadCloser.Close()
}
