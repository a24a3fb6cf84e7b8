package gitsync

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/go-git/go-git/v5/plumbing/protocol/packp"
	"github.com/go-git/go-git/v5/plumbing/protocol/packp/capability"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/skep-io/skep/spec"
)

// sameString is a function that always says the same.
func sameString(s string) func() string { return func() string { return s } }

// pemOf writes a server's certificate for clients to trust.
func pemOf(t testing.TB, s *httptest.Server) string {
	t.Helper()
	return writeFile(t, filepath.Join(t.TempDir(), "ca.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})))
}

// A sshServer runs git-upload-pack for who has a key, in the directory root.
type sshServer struct {
	addr    string
	host    ssh.Signer
	key     string // the client's, a file
	known   string // a file
	allowed atomic.Pointer[ssh.PublicKey]
}

func newSigner(t testing.TB) (ssh.Signer, ed25519.PrivateKey) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return s, key
}

func newSSHServer(t testing.TB, root, passphrase string) *sshServer {
	t.Helper()
	s := &sshServer{}
	s.host, _ = newSigner(t)
	client, private := newSigner(t)
	public := client.PublicKey()
	s.allowed.Store(&public)
	var block *pem.Block
	var err error
	if passphrase == "" {
		block, err = ssh.MarshalPrivateKey(private, "")
	} else {
		block, err = ssh.MarshalPrivateKeyWithPassphrase(private, "", []byte(passphrase))
	}
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	dir := t.TempDir()
	s.key = writeFile(t, filepath.Join(dir, "id"), string(pem.EncodeToMemory(block)))
	s.known = writeFile(t, filepath.Join(dir, "known_hosts"), knownhosts.Line([]string{s.addr}, s.host.PublicKey())+"\n")
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { s.serve(conn, root) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		all.Wait()
	})
	return s
}

func (s *sshServer) serve(conn net.Conn, root string) {
	defer conn.Close()
	cfg := &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		if string(key.Marshal()) != string((*s.allowed.Load()).Marshal()) {
			return nil, fmt.Errorf("nobody knows this key")
		}
		return nil, nil
	}}
	cfg.AddHostKey(s.host)
	c, channels, requests, err := ssh.NewServerConn(conn, cfg)
	if err != nil {
		return
	}
	defer c.Close()
	var all sync.WaitGroup
	defer all.Wait()
	all.Go(func() { ssh.DiscardRequests(requests) })
	for ch := range channels {
		channel, requests, err := ch.Accept()
		if err != nil {
			return
		}
		all.Go(func() { serveSession(channel, requests, root) })
	}
}

func serveSession(channel ssh.Channel, requests <-chan *ssh.Request, root string) {
	var all sync.WaitGroup
	defer all.Wait()
	defer channel.Close()
	for r := range requests {
		if r.Type != "exec" {
			_ = r.Reply(false, nil)
			continue
		}
		_ = r.Reply(true, nil)
		line := string(r.Payload[4:])
		all.Go(func() {
			cmd := exec.Command("sh", "-c", line)
			cmd.Dir, cmd.Stdout, cmd.Stderr = root, channel, channel.Stderr()
			cmd.Env = append(os.Environ(), "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*")
			in, _ := cmd.StdinPipe()
			go func() {
				_, _ = io.Copy(in, channel)
				in.Close()
			}()
			_ = cmd.Run()
			channel.Close()
		})
	}
}

// Whatever the way, a branch is followed, and what is written out is a work tree of that
// very commit, whose history package spec can compare.
func TestFollowsABranch(t *testing.T) {
	for name, way := range map[string]func(t *testing.T, r *repo) Config{
		"file": func(_ *testing.T, r *repo) Config { return Config{URL: r.url()} },
		"bare file": func(t *testing.T, r *repo) Config {
			return Config{URL: "file://" + filepath.Join(r.dir, ".git")}
		},
		"http of this host": func(t *testing.T, r *repo) Config {
			srv := httptest.NewServer(httpBackend(t, filepath.Dir(r.dir)))
			t.Cleanup(srv.Close)
			return Config{URL: srv.URL + "/stacks/.git/"}
		},
		"https with a token": func(t *testing.T, r *repo) Config {
			srv := httptest.NewTLSServer(basicAuth(httpBackend(t, filepath.Dir(r.dir)), sameString("git"), sameString("t0ken")))
			t.Cleanup(srv.Close)
			return Config{URL: srv.URL + "/stacks/.git", CAFile: pemOf(t, srv), TokenFile: writeFile(t, filepath.Join(t.TempDir(), "token"), "t0ken\n")}
		},
		"https with a user of its own": func(t *testing.T, r *repo) Config {
			srv := httptest.NewTLSServer(basicAuth(httpBackend(t, filepath.Dir(r.dir)), sameString("x-token-auth"), sameString("t0ken")))
			t.Cleanup(srv.Close)
			u := strings.Replace(srv.URL, "https://", "https://x-token-auth@", 1)
			return Config{URL: u + "/stacks/.git", CAFile: pemOf(t, srv), TokenFile: writeFile(t, filepath.Join(t.TempDir(), "token"), "t0ken\n")}
		},
		"https with a password": func(t *testing.T, r *repo) Config {
			srv := httptest.NewTLSServer(basicAuth(httpBackend(t, filepath.Dir(r.dir)), sameString("ann"), sameString("pa:ss")))
			t.Cleanup(srv.Close)
			return Config{URL: srv.URL + "/stacks/.git", CAFile: pemOf(t, srv), PasswordFile: writeFile(t, filepath.Join(t.TempDir(), "password"), "ann:pa:ss\n")}
		},
		"ssh": func(t *testing.T, r *repo) Config {
			srv := newSSHServer(t, "/", "")
			return Config{URL: "ssh://git@" + srv.addr + r.dir, SSHKeyFile: srv.key, KnownHostsFile: srv.known}
		},
		"ssh with a passphrase": func(t *testing.T, r *repo) Config {
			srv := newSSHServer(t, "/", "open sesame")
			return Config{
				URL: "ssh://git@" + srv.addr + r.dir, SSHKeyFile: srv.key, KnownHostsFile: srv.known,
				SSHPassphraseFile: writeFile(t, filepath.Join(t.TempDir(), "passphrase"), "open sesame\n"),
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRepo(t)
			first := r.commit("one", map[string]string{"web.yml": stack("nginx:1"), "blog/compose.yaml": stack("blog:1")})
			s := open(t, way(t, r))
			wantState(t, s, GitNotRead, "no commit is there yet")
			if changes := looked(t, s); changes != 1 {
				t.Errorf("%d changes were told, want 1", changes)
			}
			wantState(t, s, "")
			wantCommit(t, s, first)
			if changes := looked(t, s); changes != 0 {
				t.Errorf("%d changes were told of nothing new", changes)
			}
			for i := range 3 {
				r.commit(fmt.Sprint("more ", i), map[string]string{"web.yml": stack(fmt.Sprint("nginx:2.", i))})
			}
			last := r.commit("two", map[string]string{"web.yml": stack("nginx:3")})
			if changes := looked(t, s); changes != 1 {
				t.Errorf("%d changes were told, want 1 (%v)", changes, s.State())
			}
			snap := wantCommit(t, s, last)
			if image := snap.Stacks["web"].Services[0].Spec.TaskTemplate.ContainerSpec.Image; !strings.Contains(image, "nginx:3") {
				t.Errorf("image %s", image)
			}
			if d, err := spec.NewAncestry(s.Dir()).Descent(last, first); d != spec.DescentNewer || err != nil {
				t.Errorf("the commit is %q to the first one (%v)", d, err)
			}
			wantState(t, s, "")
		})
	}
}

// Credentials are for the host they were given for: a redirect to another one is not
// followed, not even without them.
func TestRedirectGetsNoCredentials(t *testing.T) {
	r := newRepo(t)
	commit := r.commit("one", map[string]string{"web.yml": stack("nginx:1")})
	backend := httpBackend(t, filepath.Dir(r.dir))
	var asked atomic.Int32
	var leaked atomic.Bool
	thief := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		leaked.Store(leaked.Load() || r.Header.Get("Authorization") != "")
		backend.ServeHTTP(w, r)
	}))
	defer thief.Close()
	target := thief.URL
	status := http.StatusMovedPermanently
	onlyPost := false
	srv := httptest.NewServer(basicAuth(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if onlyPost == (r.Method == http.MethodPost) {
			http.Redirect(w, r, target+r.URL.RequestURI(), status)
			return
		}
		backend.ServeHTTP(w, r)
	}), sameString("git"), sameString("t0ken")))
	defer srv.Close()
	cfg := Config{URL: srv.URL + "/stacks/.git", TokenFile: writeFile(t, filepath.Join(t.TempDir(), "token"), "t0ken")}
	for _, test := range []struct {
		name, target string
		status       int
		post         bool
	}{
		{"another port", thief.URL, http.StatusMovedPermanently, false},
		{"another name", strings.Replace(thief.URL, "127.0.0.1", "localhost", 1), http.StatusFound, false},
		{"with a user", strings.Replace(srv.URL, "http://", "http://eve:pw@", 1), http.StatusFound, false},
		{"a body, kept", thief.URL, http.StatusTemporaryRedirect, true},
		{"a body, dropped", thief.URL, http.StatusFound, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			target, status, onlyPost = test.target, test.status, test.post
			s := open(t, cfg)
			looked(t, s)
			wantState(t, s, GitRefused, "redirects")
			if strings.Contains(s.State().Error(), "pw") {
				t.Errorf("the state has a password: %v", s.State())
			}
			if asked.Load() != 0 || leaked.Load() {
				t.Fatalf("the other host was asked %d times, and got credentials: %v", asked.Load(), leaked.Load())
			}
			if s.Status().Commit == commit {
				t.Error("it was fetched all the same")
			}
		})
	}
}

// A redirect within the host, as of a repository that was renamed, is followed.
func TestRedirectWithinTheHost(t *testing.T) {
	r := newRepo(t)
	commit := r.commit("one", map[string]string{"web.yml": stack("nginx:1")})
	backend := httpBackend(t, filepath.Dir(r.dir))
	srv := httptest.NewServer(basicAuth(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if path, old := strings.CutPrefix(r.URL.Path, "/old/"); old {
			http.Redirect(w, r, "/stacks/"+path+"?"+r.URL.RawQuery, http.StatusMovedPermanently)
			return
		}
		backend.ServeHTTP(w, r)
	}), sameString("git"), sameString("t0ken")))
	defer srv.Close()
	s := open(t, Config{URL: srv.URL + "/old/.git", TokenFile: writeFile(t, filepath.Join(t.TempDir(), "token"), "t0ken")})
	looked(t, s)
	wantState(t, s, "")
	wantCommit(t, s, commit)
}

// Credentials are read for each look, and are in no sentence, even if the server says them.
func TestCredentialsAreReadAnew(t *testing.T) {
	r := newRepo(t)
	commit := r.commit("one", map[string]string{"web.yml": stack("nginx:1")})
	valid := "s3cret-one"
	echo := false
	backend := basicAuth(httpBackend(t, filepath.Dir(r.dir)), sameString("git"), func() string { return valid })
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if echo {
			_, password, _ := r.BasicAuth()
			w.Header().Set("Content-Type", "application/x-git-upload-pack-advertisement")
			text := "ERR you said " + password + ", as " + r.Header.Get("Authorization")
			fmt.Fprintf(w, "%04x%s", len(text)+4, text)
			return
		}
		backend.ServeHTTP(w, r)
	}))
	defer srv.Close()
	token := writeFile(t, filepath.Join(t.TempDir(), "token"), "s3cret-one\n")
	s := open(t, Config{URL: srv.URL + "/stacks/.git", TokenFile: token})
	looked(t, s)
	wantCommit(t, s, commit)
	valid = "s3cret-two"
	looked(t, s)
	wantState(t, s, GitDenied, "refuses the credentials", commit[:7])
	writeFile(t, token, "s3cret-two\n")
	looked(t, s)
	wantState(t, s, "")
	echo = true
	looked(t, s)
	wantState(t, s, GitUnreachable, "you said …")
	for _, secret := range []string{"s3cret", "Z2l0OnMzY3JldC10d28="} {
		if strings.Contains(s.State().Error(), secret) {
			t.Errorf("the state tells a secret: %v", s.State())
		}
	}
	echo = false
	writeFile(t, token, "two\nlines\n")
	looked(t, s)
	wantState(t, s, GitDenied, "more than one line")
	if strings.Contains(s.State().Error(), "lines\n") {
		t.Errorf("the state tells what the file has: %v", s.State())
	}
	if err := os.Remove(token); err != nil {
		t.Fatal(err)
	}
	looked(t, s)
	wantState(t, s, GitDenied, "read the token", "no such file")
}

// What a server says instead of what it should is told, with a remedy.
func TestAnswersOfHTTP(t *testing.T) {
	answer := func(status int, contentType, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	const refs = "application/x-git-upload-pack-advertisement"
	for name, test := range map[string]struct {
		handler http.HandlerFunc
		reason  string
		words   string
	}{
		"wants credentials": {answer(401, "", ""), GitDenied, "wants credentials"},
		"forbidden":         {answer(403, "", ""), GitDenied, "may not read it"},
		"not there":         {answer(404, "", ""), GitDenied, "no such repository"},
		"broken":            {answer(502, "", ""), GitUnreachable, "status 502"},
		"a web page":        {answer(200, "text/html", "<p>hello"), GitUnreachable, "smart protocol"},
		"nonsense":          {answer(200, refs, "what?"), GitUnreachable, "list of refs"},
		"nothing":           {answer(200, refs, ""), GitUnreachable, "list of refs"},
		"cut off":           {answer(200, refs, "001e# service=git-upload-pack\n0000"), GitUnreachable, "list of refs"},
		"empty":             {answer(200, refs, "001e# service=git-upload-pack\n00000000"), GitRefGone, "no branch or tag main"},
		"in circles": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.String(), http.StatusFound)
		}, GitUnreachable, "in circles"},
		"without end": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", refs)
			first := strings.Repeat("1", 40) + " HEAD\x00shallow\n"
			fmt.Fprintf(w, "%04x%s", len(first)+4, first)
			line := strings.Repeat("1", 40) + " refs/heads/a-branch\n"
			block := strings.Repeat(fmt.Sprintf("%04x%s", len(line)+4, line), 1000)
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, block); err != nil {
					return
				}
			}
		}, GitTooLarge, "list of refs"},
	} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(test.handler)
			defer srv.Close()
			s := open(t, Config{URL: srv.URL + "/stacks.git"})
			looked(t, s)
			wantState(t, s, test.reason, test.words)
		})
	}
}

// What comes before the pack is bounded too: a server that goes on and on with it does not
// have skep remember all of that.
func TestAnswerWithoutEnd(t *testing.T) {
	for name, line := range map[string]string{
		"history":  "0035shallow " + strings.Repeat("2", 40) + "\n",
		"promises": "0038ACK " + strings.Repeat("2", 40) + " common\n",
	} {
		t.Run(name, func(t *testing.T) {
			adv := packp.NewAdvRefs()
			_ = adv.Capabilities.Set(capability.Shallow)
			q := request{advertised: adv, depth: 1}
			if name == "promises" {
				q.depth = 0
			}
			read := &countingReader{text: []byte(line)}
			if _, err := q.answer(read); reasonOf(err) != GitTooLarge {
				t.Fatalf("the error is %v", err)
			}
			if read.n > 2*maxAnswer {
				t.Errorf("%d bytes were read", read.n)
			}
		})
	}
}

// A countingReader gives a text again and again, up to 100 MB.
type countingReader struct {
	text []byte
	n    int
}

func (r *countingReader) Read(p []byte) (int, error) {
	if r.n > 100<<20 {
		return 0, io.EOF
	}
	at := r.n % len(r.text)
	n := copy(p, r.text[at:])
	r.n += n
	return n, nil
}

// Who is known by a name alone has nothing to hide.
func TestHide(t *testing.T) {
	err := refused(GitDenied, "it said pw")
	for _, c := range []struct {
		secrets []string
		want    string
	}{{nil, "it said pw"}, {[]string{""}, "it said pw"}, {[]string{"pw"}, "it said …"}} {
		if got := hide(err, c.secrets); got.Error() != c.want || reasonOf(got) != GitDenied {
			t.Errorf("%q: %v", c.secrets, got)
		}
	}
}

// Nobody is believed who is not known.
func TestTrust(t *testing.T) {
	r := newRepo(t)
	r.commit("one", map[string]string{"web.yml": stack("nginx:1")})
	t.Run("certificate", func(t *testing.T) {
		srv := httptest.NewUnstartedServer(httpBackend(t, filepath.Dir(r.dir)))
		srv.Config.ErrorLog = nil
		srv.StartTLS()
		defer srv.Close()
		s := open(t, Config{URL: srv.URL + "/stacks/.git"})
		looked(t, s)
		wantState(t, s, GitUntrusted, "certificate")
	})
	srv := newSSHServer(t, "/", "")
	cfg := Config{URL: "ssh://git@" + srv.addr + r.dir, SSHKeyFile: srv.key, KnownHostsFile: srv.known}
	t.Run("unknown host", func(t *testing.T) {
		c := cfg
		c.KnownHostsFile = writeFile(t, filepath.Join(t.TempDir(), "known"), "")
		s := open(t, c)
		looked(t, s)
		wantState(t, s, GitUntrusted, "known hosts have no key")
	})
	t.Run("another host key", func(t *testing.T) {
		other, _ := newSigner(t)
		c := cfg
		c.KnownHostsFile = writeFile(t, filepath.Join(t.TempDir(), "known"), knownhosts.Line([]string{srv.addr}, other.PublicKey())+"\n")
		s := open(t, c)
		looked(t, s)
		wantState(t, s, GitUntrusted, "another host key")
	})
	t.Run("another client key", func(t *testing.T) {
		other, _ := newSigner(t)
		was := srv.allowed.Load()
		public := other.PublicKey()
		srv.allowed.Store(&public)
		defer srv.allowed.Store(was)
		s := open(t, cfg)
		looked(t, s)
		wantState(t, s, GitDenied, "refuses the ssh key")
	})
	t.Run("no repository", func(t *testing.T) {
		c := cfg
		c.URL = "ssh://git@" + srv.addr + "/no/such/re'po"
		s := open(t, c)
		looked(t, s)
		wantState(t, s, GitUnreachable, "list of refs")
	})
	t.Run("passphrase", func(t *testing.T) {
		locked := newSSHServer(t, "/", "open sesame")
		c := cfg
		c.SSHKeyFile = locked.key
		s := open(t, c)
		looked(t, s)
		wantState(t, s, GitDenied, "wants a passphrase")
		c.SSHPassphraseFile, c.Cache = writeFile(t, filepath.Join(t.TempDir(), "p"), "wrong"), t.TempDir()
		s = open(t, c)
		looked(t, s)
		wantState(t, s, GitDenied, "does not open the ssh key")
	})
}

func TestAddress(t *testing.T) {
	for raw, want := range map[string]string{
		"https://git.example/a/b.git":      "https://git.example/a/b.git",
		"https://ann@git.example/a.git":    "https://git.example/a.git",
		"HTTPS://Git.Example:8443/a.git":   "https://git.example:8443/a.git",
		"http://127.0.0.1:80/a.git":        "http://127.0.0.1:80/a.git",
		"http://localhost/a.git":           "http://localhost/a.git",
		"http://[::1]:80/a.git":            "http://[::1]:80/a.git",
		"ssh://git@git.example:2222/a.git": "ssh://git.example:2222/a.git",
		"ssh://git.example/~ann/a.git":     "ssh://git.example/~ann/a.git",
		"git@git.example:a/b.git":          "ssh://git.example/a/b.git",
		"git.example:/srv/a.git":           "ssh://git.example/srv/a.git",
		"file:///srv/a.git":                "file:///srv/a.git",
		"http://git.example/a.git":         "error: without TLS",
		"https://ann:pw@git.example/a.git": "error: has a password",
		"https://ann:pw%zz@git.example/a":  "error: no URL of a repository",
		"https://git.example/a.git?t=pw":   "error: behind the path",
		"https://git.example/a.git#pw":     "error: behind the path",
		"https://git.example/":             "error: no repository",
		"https:///a.git":                   "error: names no host",
		"git://git.example/a.git":          "error: does not speak git",
		"ext::sh -c pw":                    "error: no URL",
		"file://host/a.git":                "error: no host",
		"git@git.example:-oProxy":          "error: no repository",
		"oauth2:pw@git.example/a.git":      "error: has a password",
		"oauth2:pw@git.example:a.git":      "error: has a password",
		"git.example:a@b/c.git":            "error: has a password",
		"git.example:a/b@c.git":            "ssh://git.example/a/b@c.git",
		"/srv/a.git":                       "error: no URL",
		"stacks":                           "error: no URL",
		"":                                 "error: no URL",
	} {
		a, err := parseAddress(raw, false)
		got := a.String()
		if err != nil {
			got = "error: " + err.Error()
			if strings.Contains(got, "pw") {
				t.Errorf("%s: the error has the password: %v", raw, err)
			}
		}
		if words, isErr := strings.CutPrefix(want, "error: "); isErr && (err == nil || !strings.Contains(got, words)) || !isErr && got != want {
			t.Errorf("%s is %q, want %q", raw, got, want)
		}
	}
	if _, err := parseAddress("http://git.example/a.git", true); err != nil {
		t.Error(err)
	}
}

func TestConfig(t *testing.T) {
	for want, cfg := range map[string]Config{
		"directory for its cache":    {URL: "file:///a", Cache: ""},
		"name of a branch":           {URL: "file:///a", Cache: "x", Ref: "a b"},
		"not the name of a":          {URL: "file:///a", Cache: "x", Ref: "--upload-pack"},
		"less than nothing":          {URL: "file:///a", Cache: "x", Interval: -1},
		"not both":                   {URL: "https://h/a", Cache: "x", TokenFile: "a", PasswordFile: "b"},
		"needs an ssh key":           {URL: "ssh://h/a", Cache: "x"},
		"needs a file with the host": {URL: "ssh://h/a", Cache: "x", SSHKeyFile: "a"},
		"known hosts are of no use":  {URL: "https://h/a", Cache: "x", KnownHostsFile: "a"},
		"or a CA is of no use":       {URL: "file:///a", Cache: "x", CAFile: "a"},
		"a part of it leads out":     {URL: "file:///a", Cache: "x", Path: "a/../../b"},
		"git's own":                  {URL: "file:///a", Cache: "x", Path: ".git/hooks"},
	} {
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", cfg, err, want)
		}
	}
}
