package gitsync

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
)

const (
	dialLimit   = 15 * time.Second
	headerLimit = 2 * time.Minute // a server may take its time to put a pack together
	maxRedirect = 5
)

// A httpRemote speaks git's smart protocol by https. One is made for each look, with
// credentials as they are then.
type httpRemote struct {
	at     address
	base   string // without /info/refs; where a redirect within the host led to, later
	login  login
	client *http.Client
}

func newHTTPRemote(c *Config, at address) (*httpRemote, error) {
	login, err := c.login(at)
	if err != nil {
		return nil, sourceError(GitDenied, err)
	}
	if login != noLogin && at.scheme == "http" && !at.loopback() {
		return nil, refused(GitDenied, "credentials are not sent without TLS (use https for %s)", at)
	}
	transport := &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: dialLimit}).DialContext,
		TLSHandshakeTimeout:    dialLimit,
		ResponseHeaderTimeout:  headerLimit,
		MaxResponseHeaderBytes: 1 << 20,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
	}
	if c.CAFile != "" {
		text, err := readCAs(c.CAFile)
		if err != nil {
			return nil, sourceError(GitUntrusted, err)
		}
		transport.TLSClientConfig.RootCAs = text
	}
	h := &httpRemote{at: at, login: login}
	h.base = (&url.URL{Scheme: at.scheme, Host: at.host, Path: strings.TrimSuffix(at.path, "/")}).String()
	h.client = &http.Client{Transport: transport, CheckRedirect: h.checkRedirect}
	return h, nil
}

// noLogin is that of a repository that all may read.
var noLogin login

// maxCAs is how much of a file with certificates is read.
const maxCAs = 4 << 20

func readCAs(file string) (*x509.CertPool, error) {
	text, err := readUpTo(file, maxCAs)
	if err != nil {
		return nil, fmt.Errorf("read the CA's certificate: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s has no certificate in PEM", file)
	}
	return pool, nil
}

// errElsewhere is why a redirect is not followed.
var errElsewhere = errors.New("redirects elsewhere")

// checkRedirect follows redirects within the host only: credentials are bound to it,
// and nobody asked for what another one has.
func (h *httpRemote) checkRedirect(next *http.Request, via []*http.Request) error {
	from := via[0].URL
	upgraded := from.Scheme == "http" && next.URL.Scheme == "https" && from.Port() == "" && next.URL.Port() == ""
	switch {
	case len(via) > maxRedirect:
		return errors.New("redirects in circles")
	case via[0].Method != http.MethodGet:
		return fmt.Errorf("the server redirects what is not asked for by GET: %w", errElsewhere)
	case next.URL.User != nil, !strings.EqualFold(next.URL.Hostname(), from.Hostname()),
		(next.URL.Scheme != from.Scheme || next.URL.Port() != from.Port()) && !upgraded:
		return fmt.Errorf("%w: to %s (give that URL, if it is right)", errElsewhere, clean(next.URL.Scheme+"://"+next.URL.Host))
	}
	return nil
}

func (h *httpRemote) refs(ctx context.Context) (*packp.AdvRefs, error) {
	const query = "/info/refs?service=git-upload-pack"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.base+query, nil)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", h.at, err)
	}
	resp, err := h.do(req, "application/x-git-upload-pack-advertisement")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if base, ok := strings.CutSuffix(resp.Request.URL.String(), query); ok {
		h.base = base
	}
	return readRefs(resp.Body)
}

func (h *httpRemote) fetch(ctx context.Context, q request) (*delivery, error) {
	body, err := q.encode()
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.base+"/git-upload-pack", bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", h.at, err)
	}
	req.Header.Set("Content-Type", "application/x-git-upload-pack-request")
	resp, err := h.do(req, "application/x-git-upload-pack-result")
	if err != nil {
		return nil, err
	}
	d, err := q.answer(resp.Body)
	if err != nil {
		resp.Body.Close()
		return nil, err
	}
	d.close = resp.Body.Close
	return d, nil
}

// do makes a request with the credentials, and sees that the answer is what it should be.
func (h *httpRemote) do(req *http.Request, contentType string) (*http.Response, error) {
	req.Header.Set("Accept", contentType)
	req.Header.Set("User-Agent", "git/skep") // some hosts answer browsers otherwise
	if h.login != noLogin {
		req.SetBasicAuth(h.login.user, h.login.password)
	}
	resp, err := h.client.Do(req)
	if err != nil {
		return nil, h.explain(err)
	}
	if err := h.check(resp, contentType); err != nil {
		resp.Body.Close()
		return nil, err
	}
	return resp, nil
}

func (h *httpRemote) check(resp *http.Response, contentType string) error {
	switch got, _, _ := strings.Cut(resp.Header.Get("Content-Type"), ";"); {
	case resp.StatusCode == http.StatusUnauthorized && h.login == noLogin:
		return refused(GitDenied, "%s wants credentials (give a token's file)", h.at)
	case resp.StatusCode == http.StatusUnauthorized, resp.StatusCode == http.StatusForbidden:
		return refused(GitDenied, "%s refuses the credentials, or they may not read it (status %d)", h.at, resp.StatusCode)
	case resp.StatusCode == http.StatusNotFound:
		return refused(GitDenied, "%s has no such repository, or hides it from these credentials (status 404)", h.at)
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("%s answers with status %d", h.at, resp.StatusCode)
	case got != contentType:
		return fmt.Errorf("%s does not speak git's smart protocol (is it the URL that git clones?)", h.at)
	}
	return nil
}

// explain tells an error without what the client puts around it: its URL may be one that
// the server chose.
func (h *httpRemote) explain(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err
	}
	err = fmt.Errorf("ask %s: %w", h.at, spoken(err))
	_, badCert := errors.AsType[*tls.CertificateVerificationError](err)
	switch {
	case errors.Is(err, errElsewhere):
		return sourceError(GitRefused, err)
	case badCert:
		return sourceError(GitUntrusted, err)
	}
	return err
}

func (h *httpRemote) secrets() []string {
	if h.login == noLogin {
		return nil
	}
	both := h.login.user + ":" + h.login.password
	return []string{base64.StdEncoding.EncodeToString([]byte(both)), h.login.password}
}

// end lets go of connections.
func (h *httpRemote) end() { h.client.CloseIdleConnections() }
