package controller

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Headers of a webhook's request.
const (
	headerEvent     = "X-Skep-Event"         // Message.Event
	headerID        = "X-Skep-Id"            // Message.ID
	headerTimestamp = "X-Skep-Timestamp"     // when it is sent, in seconds since 1970
	headerSignature = "X-Skep-Signature-256" // sha256=HEX over TIMESTAMP.BODY
)

// A webhook posts messages as JSON.
type webhook struct {
	url    string
	key    []byte // empty: unsigned
	client *http.Client
	now    func() time.Time
}

func newWebhook(u *url.URL, key []byte) (*webhook, error) {
	if u.Host == "" {
		return nil, errors.New("its URL has no host (write https://HOST/PATH)")
	}
	transport, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return nil, errors.New("this build of skep has no HTTP transport of its own")
	}
	transport = transport.Clone()
	transport.DisableKeepAlives = true // messages are rare
	return &webhook{url: u.String(), key: key, now: time.Now, client: &http.Client{
		Transport: transport,
		// Where somebody else's answer leads to was not asked for.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

func (w *webhook) send(ctx context.Context, m Message) error {
	body, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode the message: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(body))
	if err != nil {
		return errors.New("its URL cannot be asked")
	}
	stamp := strconv.FormatInt(w.now().Unix(), 10)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "skep")
	req.Header.Set(headerEvent, string(m.Event))
	req.Header.Set(headerID, m.ID)
	req.Header.Set(headerTimestamp, stamp)
	if len(w.key) > 0 {
		req.Header.Set(headerSignature, sign(w.key, stamp, body))
	}
	resp, err := w.client.Do(req)
	if err != nil {
		var at *url.Error // which has the URL in it
		if errors.As(err, &at) {
			err = at.Err
		}
		return errors.New(conceal(err.Error(), w.url))
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
	return verdict(resp.StatusCode)
}

// sign is the header's value: who has the key knows that the body was sent at that time.
func sign(key []byte, stamp string, body []byte) string {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(stamp + "."))
	h.Write(body)
	return "sha256=" + hex.EncodeToString(h.Sum(nil))
}

// verdict is nil where the receiver took the message. What it refuses for good is not sent
// again, but for those answers that say "later".
func verdict(status int) error {
	switch {
	case status >= 200 && status < 300:
		return nil
	case status == http.StatusRequestTimeout, status == http.StatusTooEarly, status == http.StatusTooManyRequests, status >= 500:
		return fmt.Errorf("the receiver answered %d %s", status, http.StatusText(status))
	case status >= 300 && status < 400:
		return fmt.Errorf("%w: the receiver answered %d, which leads elsewhere (give the URL that it leads to)", errRefused, status)
	}
	return fmt.Errorf("%w: the receiver answered %d %s", errRefused, status, http.StatusText(status))
}
