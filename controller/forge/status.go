package forge

import (
	"bytes"
	"context"
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
	"unicode"
)

// A Kind is a forge's API.
type Kind string

// The APIs that there are. Forgejo has Gitea's.
const (
	GitHub Kind = "github"
	GitLab Kind = "gitlab"
	Gitea  Kind = "gitea"
)

// Kinds are all of them.
func Kinds() []Kind { return []Kind{GitHub, GitLab, Gitea} }

// A State is what became of a commit.
type State string

// States, in skep's words. Each forge has its own for them.
const (
	Pending State = "pending"
	Success State = "success"
	Failure State = "failure"
	// Canceled is of a commit that a newer one took the place of before it was decided.
	Canceled State = "canceled"
)

// A Status is what is shown at a commit.
type Status struct {
	Commit      string // in full
	State       State
	Context     string // tells it from the statuses of others; a later one with the same takes its place
	Description string // a sentence; what is longer than the forge takes is cut off
	URL         string // what it leads to; empty: nothing
}

// ErrRefused says that the forge will not take a status, however often it is posted. The
// error that wraps it says why, and what to do.
var ErrRefused = errors.New("refused")

// A LaterError says that a status may be taken later, and not before After has passed.
type LaterError struct {
	After time.Duration // 0: whenever
	why   string
}

func (e *LaterError) Error() string { return e.why }

const (
	// laterMost is how long a forge may have itself waited for.
	laterMost = time.Hour
	// answerMost is how much of an answer is read, in bytes.
	answerMost = 64 << 10
	// errorMost is how much of a connection's error is told, in characters.
	errorMost = 300
	// redirectsMost is how many are followed, on the same host.
	redirectsMost = 3
)

// ClientConfig says where a Client posts, and as whom.
type ClientConfig struct {
	Kind Kind
	// URL is the API's, such as https://git.example/api/v4; empty: the public one of the
	// kind, for repositories that are there. The token goes to its host alone.
	URL string
	// Token gives the token that is good now.
	Token func() (string, error)
	Now   func() time.Time
}

// A Client posts statuses to one forge. Nothing that it returns holds the token.
type Client struct {
	kind  Kind
	api   *url.URL
	only  string // the host that repositories have to be at; empty: any
	token func() (string, error)
	now   func() time.Time
	http  *http.Client
}

// public are the APIs that anybody uses, with the host of their repositories.
var public = map[Kind][2]string{
	GitHub: {"https://api.github.com", "github.com"},
	GitLab: {"https://gitlab.com/api/v4", "gitlab.com"},
}

// apiPath is how the path of a kind's API ends.
var apiPath = map[Kind]string{GitLab: "/api/v4", Gitea: "/api/v1"}

// NewClient checks what it is to post to. It asks nobody.
func NewClient(c ClientConfig) (*Client, error) {
	if !slices.Contains(Kinds(), c.Kind) {
		return nil, fmt.Errorf("there is no forge of kind %q (there are github, gitlab, and gitea, which is Forgejo's too)", string(c.Kind))
	}
	x := &Client{kind: c.Kind, token: c.Token, now: c.Now}
	if c.URL == "" {
		known, ok := public[c.Kind]
		if !ok {
			return nil, fmt.Errorf("where its API is has to be said (as https://git.example.com%s)", apiPath[c.Kind])
		}
		c.URL, x.only = known[0], known[1]
	}
	var err error
	if x.api, err = parseAPI(c.Kind, c.URL); err != nil {
		return nil, err
	}
	transport, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return nil, errors.New("this build of skep has no HTTP transport of its own")
	}
	transport = transport.Clone()
	transport.DisableKeepAlives = true // statuses are rare
	transport.MaxResponseHeaderBytes = answerMost
	x.http = &http.Client{Transport: transport, CheckRedirect: x.mayFollow}
	return x, nil
}

// parseAPI reads the URL of an API: the token is not to be sent in clear.
func parseAPI(kind Kind, text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || u.Opaque != "":
		return nil, errors.New("this is no URL (write https://HOST/PATH)")
	case u.User != nil:
		return nil, errors.New("it has a user or a password in it (a token is given in a file)")
	case u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("it has more than a host and a path")
	case u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(u.Hostname())):
		return nil, errors.New("it is not of https: the token would come in clear over the network")
	}
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), ""
	if end := apiPath[kind]; !strings.HasSuffix(u.Path, end) {
		return nil, fmt.Errorf("it does not lead to the API (write …%s)", end)
	}
	return u, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback() || strings.EqualFold(host, "localhost")
}

// mayFollow follows a forge that has moved a repository, and says so with the method
// kept, to the very same place: anywhere else the token is none of their business.
func (c *Client) mayFollow(next *http.Request, via []*http.Request) error {
	if len(via) > redirectsMost || next.Method != http.MethodPost || next.URL.Scheme != c.api.Scheme || next.URL.Host != c.api.Host {
		return http.ErrUseLastResponse
	}
	return nil
}

// Post writes a status at a commit of a repository. The same one again does no harm. Its
// error is ErrRefused, or a *LaterError, or that of a connection, which may be tried again.
func (c *Client) Post(ctx context.Context, repo Repository, s Status) error {
	token, err := c.token()
	if err != nil {
		return err
	}
	req, err := c.request(ctx, repo, s, token)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		var at *url.Error // which has the whole URL in it
		if errors.As(err, &at) {
			err = at.Err
		}
		return &unreachedError{oneLine("reach the API at "+c.api.Host+": "+strings.ReplaceAll(err.Error(), token, "…"), errorMost), err}
	}
	defer func() { _ = resp.Body.Close() }()
	answer, _ := io.ReadAll(io.LimitReader(resp.Body, answerMost)) // a number is all that counts, but for one
	return c.verdict(resp, answer, repo, s)
}

// An unreachedError is that of a connection, in words that may be told: HTTP's own repeat
// what the other side sent.
type unreachedError struct {
	text string
	err  error
}

func (e *unreachedError) Error() string { return e.text }
func (e *unreachedError) Unwrap() error { return e.err }

var fullHash = regexp.MustCompile(`^(?:[0-9a-f]{40}|[0-9a-f]{64})$`)

// request is what is asked of the API.
func (c *Client) request(ctx context.Context, repo Repository, s Status, token string) (*http.Request, error) {
	if !fullHash.MatchString(s.Commit) {
		return nil, fmt.Errorf("%w: %q is no commit in full", ErrRefused, s.Commit)
	}
	if c.only != "" && repo.Host != c.only {
		return nil, fmt.Errorf("%w: the repository is at %s, and the token is for %s (say where the API is)", ErrRefused, repo.Host, c.only)
	}
	to, err := c.address(repo, s.Commit)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(c.body(s))
	if err != nil {
		return nil, fmt.Errorf("encode the status: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to.String(), bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("%w: the API's URL cannot be asked", ErrRefused)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "skep")
	switch c.kind {
	case GitHub:
		req.Header.Set("Accept", "application/vnd.github+json")
		req.Header.Set("X-GitHub-Api-Version", "2022-11-28")
		req.Header.Set("Authorization", "Bearer "+token)
	case GitLab:
		req.Header.Set("Accept", "application/json")
		req.Header.Set("PRIVATE-TOKEN", token)
	case Gitea:
		req.Header.Set("Accept", "application/json")
		req.Header.Set("Authorization", "token "+token)
	}
	return req, nil
}

// address is where a status of a commit is posted.
func (c *Client) address(repo Repository, commit string) (*url.URL, error) {
	path := repo.Path
	if root := strings.Trim(strings.TrimSuffix(c.api.Path, apiPath[c.kind]), "/"); root != "" && c.kind != GitHub {
		path = strings.TrimPrefix(path, root+"/") // a forge that does not have its host to itself
	}
	if c.kind == GitLab {
		to := *c.api
		to.Path = c.api.Path + "/projects/" + path + "/statuses/" + commit
		to.RawPath = c.api.EscapedPath() + "/projects/" + url.PathEscape(path) + "/statuses/" + commit
		return &to, nil
	}
	if strings.Count(path, "/") != 1 {
		return nil, fmt.Errorf("%w: %s is no OWNER/NAME, as a repository at %s is called", ErrRefused, path, c.kind)
	}
	to := *c.api
	to.Path += "/repos/" + path + "/statuses/" + commit
	return &to, nil
}

// A statusBody is a status in JSON, by the names that the APIs have in common.
type statusBody struct {
	State       string `json:"state"`
	Context     string `json:"context"`
	Description string `json:"description"`
	URL         string `json:"target_url,omitempty"`
}

// stateNames are the forges' words. A status of GitLab that is pending waits for somebody
// to take it up: a rollout runs. GitHub has no word for what was given up but that for what
// could not be found out, as CI systems use it there; Gitea has one that does not look like
// a failure.
var stateNames = map[Kind]map[State]string{
	GitHub: {Pending: "pending", Success: "success", Failure: "failure", Canceled: "error"},
	GitLab: {Pending: "running", Success: "success", Failure: "failed", Canceled: "canceled"},
	Gitea:  {Pending: "pending", Success: "success", Failure: "failure", Canceled: "warning"},
}

// descriptionMost is how many characters a description may have: GitHub refuses more.
var descriptionMost = map[Kind]int{GitHub: 140, GitLab: 255, Gitea: 255}

func (c *Client) body(s Status) statusBody {
	return statusBody{State: stateNames[c.kind][s.State], Context: s.Context, Description: oneLine(s.Description, descriptionMost[c.kind]), URL: s.URL}
}

// oneLine is a sentence of at most so many characters, of which all can be printed.
func oneLine(text string, most int) string {
	text = strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case unicode.IsPrint(r):
			return r
		}
		return -1
	}, text)), " ")
	if r := []rune(text); len(r) > most {
		return strings.TrimRight(string(r[:most-1]), " ") + "…"
	}
	return text
}

// verdict says what an answer means. Of its body nothing is repeated.
func (c *Client) verdict(resp *http.Response, answer []byte, repo Repository, s Status) error {
	code := resp.StatusCode
	switch {
	case code >= 200 && code < 300:
		return nil
	case c.kind == GitLab && code == http.StatusBadRequest && bytes.Contains(answer, []byte("Cannot transition status")):
		return nil // it stands there already
	case code == http.StatusTooManyRequests, code == http.StatusForbidden && limited(resp.Header):
		return &LaterError{c.after(resp.Header), fmt.Sprintf("%s answered %d: too many requests", c.api.Host, code)}
	case code == http.StatusUnauthorized:
		return &LaterError{0, fmt.Sprintf("%s answered 401: the token is not good (has it expired?)", c.api.Host)}
	case code == http.StatusRequestTimeout, code == http.StatusConflict, code == http.StatusTooEarly, code >= 500:
		return &LaterError{c.after(resp.Header), fmt.Sprintf("%s answered %d %s", c.api.Host, code, http.StatusText(code))}
	}
	return fmt.Errorf("%w: %s answered %d for commit %s of %s: %s", ErrRefused, c.api.Host, code, s.Commit[:7], repo.Path, why(code))
}

// why says what a refusal mostly means.
func why(code int) string {
	switch {
	case code >= 300 && code < 400:
		return "it leads elsewhere (was the repository moved? give its newest URL)"
	case code == http.StatusForbidden:
		return "the token may not write statuses there (see docs/webhooks.md)"
	case code == http.StatusNotFound:
		return "there is no such repository or commit, or the token may not see it"
	case code == http.StatusBadRequest, code == http.StatusUnprocessableEntity:
		return "it does not know the commit, or takes no more statuses of it"
	}
	return http.StatusText(code)
}

// limited says whether a refusal is one of rate: GitHub answers 403 to both.
func limited(h http.Header) bool {
	return h.Get("Retry-After") != "" || h.Get("X-RateLimit-Remaining") == "0"
}

// after is how long a forge wants to be left alone: Retry-After in seconds or as a date,
// or the moment at which its limit begins anew.
func (c *Client) after(h http.Header) time.Duration {
	var wait time.Duration
	text := h.Get("Retry-After")
	if n, err := strconv.ParseUint(text, 10, 31); err == nil {
		wait = time.Duration(n) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		wait = at.Sub(c.now())
	} else if h.Get("X-RateLimit-Remaining") == "0" || h.Get("RateLimit-Remaining") == "0" {
		for _, name := range []string{"X-RateLimit-Reset", "RateLimit-Reset"} {
			if at, err := parseSeconds(h.Get(name)); err == nil {
				wait = at.Sub(c.now())
			}
		}
	}
	return min(max(wait, 0), laterMost)
}

// ParseToken reads the text of a token's file: one word. Its error shows nothing of it.
func ParseToken(text string) (string, error) {
	token := strings.TrimSpace(text)
	if token == "" {
		return "", errors.New("there is no token in it")
	}
	if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", errors.New("it holds more than one word, or other than plain characters")
	}
	return token, nil
}
