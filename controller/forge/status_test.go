package forge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/config"
	"pgregory.net/rapid"
)

const (
	commit = "4be1c07d9b0c1a3e5f7a9b1c3d5e7f9a1b3c5d7e"
	secret = "ghp_planted0123456789"
)

// A server speaks a forge's API as its documentation has it, and nothing else: what is
// not in there is an answer of 400 that fails the test.
type server struct {
	t    *testing.T
	kind Kind
	path string // of the one repository, unescaped

	mu      sync.Mutex
	shown   map[string]string // state by context
	said    []statusBody
	answers []func(w http.ResponseWriter) // the next ones, in place of its own
	bad     []string
}

func serve(t *testing.T, kind Kind, path string) (*server, *httptest.Server) {
	s := &server{t: t, kind: kind, path: path, shown: map[string]string{}}
	h := httptest.NewServer(s)
	t.Cleanup(func() {
		h.Close()
		for _, bad := range s.bad {
			t.Errorf("%s: %s", kind, bad)
		}
	})
	return s, h
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	refuse := func(code int, format string, args ...any) {
		s.bad = append(s.bad, fmt.Sprintf(format, args...))
		w.WriteHeader(code)
	}
	wants := map[string]string{"Content-Type": "application/json", "User-Agent": "skep"}
	var path string
	var states []string
	most := 255
	switch s.kind {
	case GitHub:
		path, states, most = "/repos/"+s.path+"/statuses/"+commit, []string{"error", "failure", "pending", "success"}, 140
		wants["Authorization"], wants["Accept"], wants["X-GitHub-Api-Version"] = "Bearer "+secret, "application/vnd.github+json", "2022-11-28"
	case GitLab:
		path, states = "/api/v4/projects/"+url.PathEscape(s.path)+"/statuses/"+commit, []string{"pending", "running", "success", "failed", "canceled", "skipped"}
		wants["PRIVATE-TOKEN"] = secret
	case Gitea:
		path, states = "/api/v1/repos/"+s.path+"/statuses/"+commit, []string{"pending", "success", "error", "failure", "warning"}
		wants["Authorization"] = "token " + secret
	}
	if r.Method != http.MethodPost || !strings.HasSuffix(r.URL.EscapedPath(), path) || r.URL.RawQuery != "" {
		refuse(http.StatusNotFound, "%s %s, want %s", r.Method, r.URL.EscapedPath(), path)
		return
	}
	for name, want := range wants {
		if got := r.Header.Get(name); got != want {
			refuse(http.StatusUnauthorized, "%s: %q, want %q", name, got, want)
			return
		}
	}
	var fields map[string]string
	if err := json.Unmarshal(body, &fields); err != nil {
		refuse(http.StatusBadRequest, "the body %s: %v", body, err)
		return
	}
	for name := range fields {
		if !slices.Contains([]string{"state", "context", "description", "target_url"}, name) {
			refuse(http.StatusUnprocessableEntity, "there is no field %s", name)
			return
		}
	}
	if n := utf8.RuneCountInString(fields["description"]); !slices.Contains(states, fields["state"]) || n > most || fields["context"] == "" {
		refuse(http.StatusUnprocessableEntity, "%v: %d characters", fields, n)
		return
	}
	if len(s.answers) > 0 {
		answer := s.answers[0]
		s.answers = s.answers[1:]
		answer(w)
		return
	}
	if s.kind == GitLab && fields["state"] == "running" && s.shown[fields["context"]] == "running" {
		w.WriteHeader(http.StatusBadRequest)
		io.WriteString(w, `{"message":"Cannot transition status via :run from :running (Reason(s): Status cannot transition via \"run\")"}`)
		return
	}
	s.shown[fields["context"]] = fields["state"]
	s.said = append(s.said, statusBody{fields["state"], fields["context"], fields["description"], fields["target_url"]})
	w.WriteHeader(http.StatusCreated)
	io.WriteString(w, `{"id":1,"description":"`+secret+`"}`)
}

// answer has the next requests be answered so.
func (s *server) answer(code int, header ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers = append(s.answers, func(w http.ResponseWriter) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
		io.WriteString(w, "you sent "+secret)
	})
}

var testNow = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

func client(t *testing.T, kind Kind, api string) *Client {
	t.Helper()
	c, err := NewClient(ClientConfig{Kind: kind, URL: api, Token: func() (string, error) { return secret, nil }, Now: func() time.Time { return testNow }})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func post(t *testing.T, c *Client, repo Repository, s Status) error {
	t.Helper()
	err := c.Post(t.Context(), repo, s)
	if err != nil && strings.Contains(err.Error(), secret) {
		t.Errorf("the token is in the error: %v", err)
	}
	return err
}

// Every forge is told every state, in its own words, as often as one likes.
func TestStatuses(t *testing.T) {
	words := map[Kind][]string{
		GitHub: {"pending", "success", "failure", "error"},
		GitLab: {"running", "success", "failed", "canceled"},
		Gitea:  {"pending", "success", "failure", "warning"},
	}
	for _, tt := range []struct {
		kind       Kind
		below      string // where the forge is on its host
		path, repo string
	}{
		{GitHub, "", "acme/shop", "acme/shop"},
		{GitHub, "/api/v3", "acme/shop", "acme/shop"},
		{GitLab, "/api/v4", "acme/web/sites/shop.1", "acme/web/sites/shop.1"},
		{GitLab, "/git/api/v4", "acme/shop", "git/acme/shop"},
		{Gitea, "/api/v1", "acme/shop", "acme/shop"},
		{Gitea, "/git/api/v1", "acme/shop", "git/acme/shop"},
	} {
		t.Run(string(tt.kind)+tt.below, func(t *testing.T) {
			s, h := serve(t, tt.kind, tt.path)
			c := client(t, tt.kind, h.URL+tt.below+"/")
			long := "release 13 failed: " + strings.Repeat("wörter\n\x1b[31m ", 60)
			for i, state := range []State{Pending, Success, Failure, Canceled} {
				for range 2 {
					if err := post(t, c, Repository{"git.example", tt.repo}, Status{commit, state, "skep/skep/shop", long, "https://skep.example/stacks/shop"}); err != nil {
						t.Fatalf("%s: %v", state, err)
					}
				}
				last := s.said[len(s.said)-1]
				if last.State != words[tt.kind][i] || last.Context != "skep/skep/shop" || last.URL != "https://skep.example/stacks/shop" {
					t.Errorf("%+v", last)
				}
				if !strings.HasPrefix(last.Description, "release 13 failed: wörter [31m wörter") || !strings.HasSuffix(last.Description, "…") {
					t.Errorf("description %q", last.Description)
				}
			}
		})
	}
}

func TestWhatAnswersMean(t *testing.T) {
	const refused, taken = -1, -2
	in := func(d time.Duration) string { return fmt.Sprint(testNow.Add(d).Unix()) }
	for name, tt := range map[string]struct {
		code   int
		header []string
		after  time.Duration // or one of the above
	}{
		"taken":                     {201, nil, taken},
		"taken, otherwise":          {200, nil, taken},
		"no good token":             {401, nil, 0},
		"not allowed":               {403, nil, refused},
		"not allowed, with a limit": {403, []string{"X-RateLimit-Remaining", "4999"}, refused},
		"not there":                 {404, nil, refused},
		"not understood":            {422, nil, refused},
		"bad":                       {400, nil, refused},
		"too many":                  {429, nil, 0},
		"too many, in a while":      {429, []string{"Retry-After", "30"}, 30 * time.Second},
		"too many, until":           {429, []string{"Retry-After", testNow.Add(2 * time.Minute).Format(http.TimeFormat)}, 2 * time.Minute},
		"too many, until then":      {429, []string{"RateLimit-Remaining", "0", "RateLimit-Reset", in(time.Minute)}, time.Minute},
		"GitHub's limit":            {403, []string{"X-RateLimit-Remaining", "0", "X-RateLimit-Reset", in(20 * time.Minute)}, 20 * time.Minute},
		"GitHub's other limit":      {403, []string{"Retry-After", "60"}, time.Minute},
		"a limit long past":         {403, []string{"X-RateLimit-Remaining", "0", "X-RateLimit-Reset", in(-time.Hour)}, 0},
		"a limit for ever":          {429, []string{"Retry-After", "99999999"}, laterMost},
		"a limit that is none":      {429, []string{"Retry-After", "-5"}, 0},
		"broken":                    {500, nil, 0},
		"away":                      {503, []string{"Retry-After", "5"}, 5 * time.Second},
		"busy with it":              {409, nil, 0},
		"elsewhere":                 {301, []string{"Location", "/x"}, refused},
	} {
		t.Run(name, func(t *testing.T) {
			s, h := serve(t, GitHub, "acme/shop")
			s.answer(tt.code, tt.header...)
			err := post(t, client(t, GitHub, h.URL), Repository{"github.com", "acme/shop"}, Status{Commit: commit, State: Success, Context: "c"})
			var later *LaterError
			switch {
			case tt.after == taken:
				if err != nil {
					t.Error(err)
				}
			case tt.after == refused:
				if !errors.Is(err, ErrRefused) {
					t.Errorf("error %v, want a refusal", err)
				}
			case !errors.As(err, &later) || later.After != tt.after || errors.Is(err, ErrRefused):
				t.Errorf("error %v, want one that says to wait for %s", err, tt.after)
			}
		})
	}
}

// A repository that was moved is found on its own host. The token goes nowhere else.
func TestRedirects(t *testing.T) {
	thief := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("another host was asked, with %v", r.Header)
	}))
	defer thief.Close()
	for _, kind := range Kinds() {
		s, h := serve(t, kind, "acme/shop")
		c := client(t, kind, h.URL+apiPath[kind])
		to := Repository{"git.example", "acme/shop"}
		own, err := c.address(to, commit)
		if err != nil {
			t.Fatal(err)
		}
		for _, code := range []int{307, 308} {
			s.answer(code, "Location", own.String())
			if err := post(t, c, to, Status{Commit: commit, State: Success, Context: "c"}); err != nil {
				t.Errorf("%s, moved on its own host by %d: %v", kind, code, err)
			}
		}
		for _, code := range []int{301, 302, 303, 307, 308} {
			s.answer(code, "Location", thief.URL+own.RequestURI())
			if err := post(t, c, to, Status{Commit: commit, State: Success, Context: "c"}); !errors.Is(err, ErrRefused) {
				t.Errorf("%s, sent elsewhere by %d: %v", kind, code, err)
			}
		}
		s.answer(307, "Location", strings.Replace(own.String(), "http:", "https:", 1))
		if err := post(t, c, to, Status{Commit: commit, State: Success, Context: "c"}); !errors.Is(err, ErrRefused) {
			t.Errorf("%s, sent to another port: %v", kind, err)
		}
		for range redirectsMost + 2 {
			s.answer(307, "Location", own.String())
		}
		if err := post(t, c, to, Status{Commit: commit, State: Success, Context: "c"}); !errors.Is(err, ErrRefused) {
			t.Errorf("%s, in a circle: %v", kind, err)
		}
		s.answers = nil
	}
}

func TestForgeThatIsAway(t *testing.T) {
	h := httptest.NewServer(nil)
	h.Close()
	err := post(t, client(t, GitHub, h.URL), Repository{"github.com", "acme/shop"}, Status{Commit: commit, State: Success, Context: "c"})
	if err == nil || errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "reach the API at 127.0.0.1") {
		t.Errorf("error %v", err)
	}
	s, h := serve(t, GitHub, "acme/shop")
	s.answer(307, "Location", "http://%zz"+secret+strings.Repeat("x", 5000))
	if err := post(t, client(t, GitHub, h.URL), Repository{"github.com", "acme/shop"}, Status{Commit: commit, State: Success, Context: "c"}); err == nil || len(err.Error()) > 2*errorMost {
		t.Errorf("error %v", err)
	}
	came := make(chan struct{})
	h = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(came)
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}))
	defer h.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-came
		cancel()
	}()
	if err := client(t, GitHub, h.URL).Post(ctx, Repository{"github.com", "acme/shop"}, Status{Commit: commit, State: Success, Context: "c"}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestNothingIsPostedAstray(t *testing.T) {
	for name, tt := range map[string]struct {
		kind   Kind
		repo   Repository
		commit string
	}{
		"another host":  {GitHub, Repository{"evil.example", "acme/shop"}, commit},
		"another forge": {GitLab, Repository{"github.com", "acme/shop"}, commit},
		"a group":       {GitHub, Repository{"github.com", "acme/web/shop"}, commit},
		"a short hash":  {GitHub, Repository{"github.com", "acme/shop"}, commit[:7]},
		"no hash":       {GitHub, Repository{"github.com", "acme/shop"}, strings.Repeat("../", 13) + "a"},
	} {
		if err := post(t, client(t, tt.kind, ""), tt.repo, Status{Commit: tt.commit, State: Success, Context: "c"}); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	c, err := NewClient(ClientConfig{Kind: GitHub, Token: func() (string, error) { return "", os.ErrNotExist }, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	if err := post(t, c, Repository{"github.com", "acme/shop"}, Status{Commit: commit, State: Success, Context: "c"}); !errors.Is(err, os.ErrNotExist) || errors.Is(err, ErrRefused) {
		t.Errorf("without a token: %v", err)
	}
}

func TestAPIs(t *testing.T) {
	for _, tt := range []struct {
		kind      Kind
		url, want string // the error; "": it is good
	}{
		{GitHub, "", ""},
		{GitLab, "", ""},
		{Gitea, "", "where its API is has to be said"},
		{"bitbucket", "", "no forge of kind"},
		{GitHub, "https://git.example/api/v3", ""},
		{GitLab, "https://git.example/api/v4/", ""},
		{GitLab, "https://git.example", "write …/api/v4"},
		{Gitea, "https://git.example/api/v4", "write …/api/v1"},
		{Gitea, "http://127.0.0.1:3000/api/v1", ""},
		{Gitea, "http://[::1]:3000/api/v1", ""},
		{Gitea, "http://localhost/api/v1", ""},
		{Gitea, "http://git.example/api/v1", "not of https"},
		{Gitea, "http://localhost.git.example/api/v1", "not of https"},
		{Gitea, "ftp://127.0.0.1/api/v1", "not of https"},
		{GitHub, "https://planted@git.example", "a user or a password"},
		{GitHub, "https://git.example?planted", "more than a host and a path"},
		{GitHub, "git.example", "no URL"},
		{GitHub, "https:git.example", "no URL"},
		{GitHub, "https://%zz", "no URL"},
	} {
		_, err := NewClient(ClientConfig{Kind: tt.kind, URL: tt.url})
		if (err == nil) != (tt.want == "") || err != nil && (!strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "planted")) {
			t.Errorf("%s at %q: %v, want %q", tt.kind, tt.url, err, tt.want)
		}
	}
}

func TestRemotes(t *testing.T) {
	for remote, want := range map[string]string{
		"https://github.com/acme/shop.git":                   "github.com/acme/shop",
		"https://github.com/acme/shop":                       "github.com/acme/shop",
		"https://user:planted@GitHub.com/acme/shop.git/":     "github.com/acme/shop",
		"https://git.example:8443/acme/shop":                 "git.example:8443/acme/shop",
		"https://git.example:443/acme/shop":                  "git.example/acme/shop",
		"ssh://git@git.example:2222/acme/shop.git":           "git.example/acme/shop",
		"ssh://git@ssh.github.com:443/acme/shop.git":         "github.com/acme/shop",
		"git@altssh.gitlab.com:acme/web/shop.git":            "gitlab.com/acme/web/shop",
		"git@gitlab.com:acme/web/shop.git":                   "gitlab.com/acme/web/shop",
		"git.example:/acme/shop.git":                         "git.example/acme/shop",
		" git://git.example/acme/shop ":                      "git.example/acme/shop",
		"https://github.com/shop":                            "",
		"https://github.com/acme/../shop":                    "",
		"https://github.com/acme//shop":                      "",
		"https://github.com/acme/shop?a=b":                   "",
		"https://github.com/acme/sh%2fop":                    "github.com/acme/sh/op",
		"https://github.com/acme/sh%0aop":                    "",
		"https://github.com/acme/sh op":                      "",
		"file:///srv/git/acme/shop.git":                      "",
		"/srv/git/acme/shop.git":                             "",
		"../acme/shop.git":                                   "",
		`C:\acme\shop`:                                       "",
		"C:/acme/shop":                                       "",
		"https:///acme/shop":                                 "",
		"https://git.example/acme/" + strings.Repeat("/", 9): "",
		"": "",
	} {
		r, ok := ParseRemote(remote)
		if got := r.String(); ok != (want != "") || ok && got != want {
			t.Errorf("%s: %s, %v; want %s", remote, got, ok, want)
		}
	}
}

// Whatever a remote says, what comes of it is a path below the API.
func TestRemotesLeadNowhereElse(t *testing.T) {
	c := client(t, GitLab, "https://git.example/api/v4")
	rapid.Check(t, func(t *rapid.T) {
		r, ok := ParseRemote(rapid.StringMatching(`((https|ssh|file)://)?(a:b@)?[a-z.:@]{0,6}[/:]?([a-z.%2f~ ?#/-]{0,9}/){0,3}[a-z.%-]{0,6}`).Draw(t, "remote"))
		if !ok {
			return
		}
		to, err := c.address(r, commit)
		if err != nil {
			t.Fatal(err)
		}
		rest, ok := strings.CutPrefix(to.EscapedPath(), "/api/v4/projects/")
		if !ok || strings.Count(rest, "/") != 2 || to.Host != "git.example" || to.RawQuery != "" || strings.Contains(rest, "..%2F") {
			t.Fatalf("%+v: %s", r, to)
		}
	})
}

func TestRepositoryOfAWorkTree(t *testing.T) {
	dir := t.TempDir()
	check := func(dir, want string) {
		t.Helper()
		r, ok, err := RepositoryOf(dir)
		if err != nil || ok != (want != "") || ok && r.String() != want {
			t.Errorf("%s: %s, %v, %v; want %s", dir, r, ok, err, want)
		}
	}
	check(dir, "")
	repo, err := git.PlainInit(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	check(dir, "")
	if _, err := repo.CreateRemote(&config.RemoteConfig{Name: "origin", URLs: []string{"https://user:planted@git.example/acme/shop.git"}}); err != nil {
		t.Fatal(err)
	}
	check(dir, "git.example/acme/shop")
	below := filepath.Join(dir, "stacks", "shop")
	linked := filepath.Join(dir, ".git", "worktrees", "one")
	tree := t.TempDir()
	for _, d := range []string{below, linked} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	check(below, "git.example/acme/shop")
	for name, text := range map[string]string{ // as git worktree makes one
		filepath.Join(linked, "commondir"): "../..\n",
		filepath.Join(linked, "HEAD"):      commit + "\n",
		filepath.Join(linked, "gitdir"):    filepath.Join(tree, ".git") + "\n",
		filepath.Join(tree, ".git"):        "gitdir: " + linked + "\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	check(tree, "git.example/acme/shop")
	if err := os.WriteFile(filepath.Join(dir, ".git", "config"), []byte("[remote \"origin\"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if r, ok, err := RepositoryOf(dir); ok || err == nil {
		t.Errorf("a broken file: %s, %v", r, err)
	}
}

func TestTokens(t *testing.T) {
	for text, want := range map[string]string{" " + secret + "\n": secret, "": "", "\n": "", "planted two": "", "planted\ntwo": "", "planted\x01": "", "plantéd": ""} {
		got, err := ParseToken(text)
		if got != want || (err == nil) != (want != "") || err != nil && strings.Contains(err.Error(), "plant") {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}
