// Package follow asks registries what services that follow tags (x-skep.follow) are to
// run: the digest of a tag, or the newest version among a repository's tags. It pulls
// nothing, writes nothing, and decides nothing: what is done with an answer is package
// reconcile's.
//
// A registry is asked once for each repository and interval, however many services follow
// it, one request of a host at a time, and is left alone for as long as it says.
package follow

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/distribution/reference"
)

// What one answer may take.
const (
	requestTime  = 20 * time.Second
	maxPage      = 8 << 20 // bytes of a page of tags
	maxManifest  = 4 << 20
	maxToken     = 1 << 20
	maxPages     = 200
	maxTags      = 100_000
	pageSize     = 1000
	maxRetryWait = 24 * time.Hour
)

// manifests are the kinds of manifest that an image may be: without them a registry
// answers with the digest of another one.
var manifests = strings.Join([]string{
	"application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json",
	"application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json",
}, ", ")

// A Refusal is an answer that is none: by its status, and for how long it asks to be left
// alone.
type Refusal struct {
	Host   string
	Status int
	After  time.Duration // from Retry-After; 0: it does not say
}

func (r *Refusal) Error() string {
	switch {
	case r.Status == http.StatusTooManyRequests:
		return fmt.Sprintf("%s limits how often it is asked (status 429; log in with --registry-config, or follow less often)", r.Host)
	case r.Status == http.StatusUnauthorized, r.Status == http.StatusForbidden:
		return fmt.Sprintf("%s denies access (status %d; see that --registry-config has credentials that may pull it)", r.Host, r.Status)
	case r.Status == http.StatusNotFound:
		return fmt.Sprintf("%s has no such image (status 404)", r.Host)
	}
	return fmt.Sprintf("%s answers with status %d", r.Host, r.Status)
}

// waits says that it is the host, and not this request, that cannot do better now.
func (r *Refusal) waits() bool {
	return r.Status == http.StatusTooManyRequests || r.Status == http.StatusRequestTimeout || r.Status >= 500
}

// A session speaks to one registry about one repository. It keeps the token that it was
// given, and is thrown away after a few requests.
type session struct {
	http       *http.Client
	base       *url.URL // https://registry.example.com
	host       string   // as people write it
	repository string
	auth       func() (login, error)
	header     string // what authorizes a request; empty for nothing
}

// tags lists all tags of the repository.
func (s *session) tags(ctx context.Context) ([]string, error) {
	next := s.base.JoinPath("v2", s.repository, "tags", "list")
	next.RawQuery = "n=" + strconv.Itoa(pageSize)
	var all []string
	seen := map[string]bool{}
	for range maxPages {
		seen[next.String()] = true
		page, link, err := s.page(ctx, next)
		if err != nil {
			return nil, err
		}
		if all = append(all, page...); len(all) > maxTags {
			return nil, fmt.Errorf("%s has more than %d tags of %s (follow a tag, not versions)", s.host, maxTags, s.repository)
		}
		if link == "" && len(page) < pageSize {
			return all, nil
		}
		if link == "" { // there may be more, and some registries do not say so
			if last := page[len(page)-1]; next.Query().Get("last") != last {
				again := *next
				again.RawQuery = url.Values{"n": {strconv.Itoa(pageSize)}, "last": {last}}.Encode()
				next = &again
				continue
			}
			return all, nil // it knows no pages, and has all that it has
		}
		to, err := next.Parse(link)
		if err != nil || to.Scheme != s.base.Scheme || to.Host != s.base.Host || to.Path != next.Path || seen[to.String()] {
			return nil, fmt.Errorf("%s says that its list of tags goes on where it cannot", s.host)
		}
		next = to
	}
	return nil, fmt.Errorf("%s has more than %d pages of tags of %s (follow a tag, not versions)", s.host, maxPages, s.repository)
}

func (s *session) page(ctx context.Context, at *url.URL) (tags []string, next string, err error) {
	resp, err := s.do(ctx, http.MethodGet, at, "application/json")
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	var list struct {
		Tags []string `json:"tags"`
	}
	if err := decode(resp.Body, maxPage, &list); err != nil {
		return nil, "", fmt.Errorf("%s gives no list of tags: %w", s.host, err)
	}
	list.Tags = slices.DeleteFunc(list.Tags, func(tag string) bool { return !wholeTag.MatchString(tag) })
	return list.Tags, nextLink(resp.Header.Values("Link")), nil
}

var wholeTag = regexp.MustCompile(`^[0-9A-Za-z_][0-9A-Za-z_.-]{0,127}$`)

// nextLink is where a list goes on (RFC 8288), "" where it is whole.
func nextLink(links []string) string {
	for _, header := range links {
		for link := range strings.SplitSeq(header, ",") {
			target, params, ok := strings.Cut(strings.TrimSpace(link), ">")
			if ok && strings.HasPrefix(target, "<") && relNext.MatchString(params) {
				return target[1:]
			}
		}
	}
	return ""
}

var relNext = regexp.MustCompile(`(?i);\s*rel="?next"?\s*(;|$)`)

// digest is that of what a tag means now.
func (s *session) digest(ctx context.Context, tag string) (string, error) {
	at := s.base.JoinPath("v2", s.repository, "manifests", tag)
	resp, err := s.do(ctx, http.MethodHead, at, manifests)
	if err != nil {
		return "", err
	}
	resp.Body.Close()
	if d := resp.Header.Get("Docker-Content-Digest"); d != "" {
		return s.checked(d)
	}
	if resp, err = s.do(ctx, http.MethodGet, at, manifests); err != nil { // it need not say so
		return "", err
	}
	defer resp.Body.Close()
	body, err := readAll(resp.Body, maxManifest)
	if err != nil {
		return "", fmt.Errorf("%s gives no manifest: %w", s.host, err)
	}
	sum := sha256.Sum256(body)
	return s.checked("sha256:" + hex.EncodeToString(sum[:]))
}

// checked is a digest that is one.
func (s *session) checked(digest string) (string, error) {
	if _, err := reference.ParseNormalizedNamed("x@" + digest); err != nil || !strings.HasPrefix(digest, "sha256:") && !strings.HasPrefix(digest, "sha512:") {
		return "", fmt.Errorf("%s gives a digest that is none", s.host)
	}
	return digest, nil
}

// do makes a request, and once more with what the registry wants to see. The response is
// one of success.
func (s *session) do(ctx context.Context, method string, at *url.URL, accept string) (*http.Response, error) {
	resp, err := s.once(ctx, method, at, accept)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusUnauthorized {
		drop(resp)
		if s.header, err = s.authorize(ctx, resp.Header.Values("WWW-Authenticate")); err != nil {
			return nil, err
		}
		if resp, err = s.once(ctx, method, at, accept); err != nil {
			return nil, err
		}
	}
	if resp.StatusCode != http.StatusOK {
		drop(resp)
		return nil, refusal(s.host, resp)
	}
	return resp, nil
}

func (s *session) once(ctx context.Context, method string, at *url.URL, accept string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, at.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", accept)
	if s.header != "" {
		req.Header.Set("Authorization", s.header)
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return nil, unreachable(s.host, err)
	}
	return resp, nil
}

// drop reads what is left of an answer, so that its connection can be used again.
func drop(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
	resp.Body.Close()
}

func refusal(host string, resp *http.Response) error {
	return &Refusal{Host: host, Status: resp.StatusCode, After: retryAfter(resp.Header, time.Now())}
}

// retryAfter is how long a host asks to be left alone (RFC 9110: seconds, or a date; some
// registries tell of their limit's reset instead), 0 where it does not.
func retryAfter(h http.Header, now time.Time) time.Duration {
	text := strings.TrimSpace(h.Get("Retry-After"))
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && n >= 0 {
		return min(time.Duration(min(n, int64(maxRetryWait/time.Second)))*time.Second, maxRetryWait)
	}
	if at, err := http.ParseTime(text); err == nil {
		return min(max(0, at.Sub(now)), maxRetryWait)
	}
	return 0
}

func decode(r io.Reader, most int64, to any) error {
	body, err := readAll(r, most)
	if err != nil {
		return err
	}
	if json.Unmarshal(body, to) != nil {
		return errors.New("what it answers is not JSON as it should be") // and may be anything
	}
	return nil
}

func readAll(r io.Reader, most int64) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r, most+1))
	if err != nil {
		return nil, errors.New("the answer breaks off")
	}
	if int64(len(body)) > most {
		return nil, fmt.Errorf("the answer is larger than %d bytes", most)
	}
	return body, nil
}

// An awayError is of a host that gave no answer.
type awayError struct {
	host, why string
	err       error
}

func (e *awayError) Error() string { return fmt.Sprintf("%s cannot be asked: %s", e.host, e.why) }
func (e *awayError) Unwrap() error { return e.err }

// unreachable says why a host gave no answer, in words that are the same each time: without
// the ports of a connection, and without a URL.
func unreachable(host string, err error) error {
	e := &awayError{host: host, err: err}
	var dns *net.DNSError
	var op *net.OpError
	var timeout net.Error
	switch {
	case errors.Is(err, errElsewhere):
		e.why = errElsewhere.Error()
	case errors.As(err, &dns):
		e.why = "its name cannot be resolved"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		e.why = "it does not answer in time"
	case errors.As(err, &op):
		for inner := error(op); inner != nil; inner = errors.Unwrap(inner) {
			e.why = inner.Error()
		}
	default:
		for inner := err; inner != nil; inner = errors.Unwrap(inner) {
			e.why = inner.Error()
		}
	}
	return e
}

var errElsewhere = errors.New("it sends the request elsewhere, where its credentials do not belong")

// newHTTP is a client that follows no redirect to another host.
func newHTTP(transport http.RoundTripper) *http.Client {
	return &http.Client{
		Transport: transport,
		Timeout:   requestTime,
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if len(via) > 3 || req.URL.Host != via[0].URL.Host || req.URL.Scheme != via[0].URL.Scheme {
				return errElsewhere
			}
			return nil
		},
	}
}

// baseOf is where the registry of an image is asked: by TLS but on this machine, or where
// the operator said otherwise.
func baseOf(named reference.Named, plain func(host string) bool) (base *url.URL, host string) {
	host = reference.Domain(named)
	at := host
	if host == "docker.io" || host == "index.docker.io" {
		at = "registry-1.docker.io"
	}
	u := &url.URL{Scheme: "https", Host: at, Path: "/"}
	if plain(host) || isLocal(host) {
		u.Scheme = "http"
	}
	return u, host
}

func isLocal(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	ip := net.ParseIP(strings.Trim(name, "[]"))
	return name == "localhost" || ip != nil && ip.IsLoopback()
}
