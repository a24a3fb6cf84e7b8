package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// playEnv has this test binary play one of the programs.
const playEnv = "APPS_TEST_PLAY"

func TestMain(m *testing.M) {
	if name := os.Getenv(playEnv); name != "" {
		os.Args = append([]string{name}, os.Args[1:]...)
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// play returns a command that runs a program with env.
func play(t *testing.T, name string, env []string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(append(os.Environ(), playEnv+"="+name), env...)
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

func TestWebAnswersAsTheSeedDoes(t *testing.T) {
	srv := httptest.NewServer(knobs{version: "v1.0"}.handler("0c7b20cf804d"))
	defer srv.Close()
	for path, want := range map[string]string{
		"/":        `200 {"message":"Hello from version: v1.0","container_id":"0c7b20cf804d","hostname":"0c7b20cf804d"}`,
		"/healthz": `200 {"status":"ok"}`,
		"/other":   `404 404 page not found`,
	} {
		resp, err := http.Get(srv.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if got := fmt.Sprintf("%d %s", resp.StatusCode, strings.TrimSpace(string(body))); err != nil || got != want {
			t.Errorf("%s: %s, want %s (%v)", path, got, want, err)
		}
	}
}

func TestWebFallsSick(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		health := func(h http.Handler) int {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/healthz", nil))
			return w.Code
		}
		if code := health(knobs{sick: true}.handler("h")); code != http.StatusServiceUnavailable {
			t.Errorf("sick from the start: %d", code)
		}
		later := knobs{sickAfter: time.Minute}.handler("h")
		time.Sleep(time.Minute - time.Second)
		synctest.Wait()
		if code := health(later); code != http.StatusOK {
			t.Errorf("before it is to be sick: %d", code)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if code := health(later); code != http.StatusServiceUnavailable {
			t.Errorf("after: %d", code)
		}
	})
}

func TestKnobs(t *testing.T) {
	env := map[string]string{"APP_VERSION": "v2", "APP_SICK_AFTER": "30s", "APP_CRASH": "1", "APP_EXIT": "3", "APP_HOG_MIB": "64"}
	k, err := readKnobs(func(name string) string { return env[name] })
	want := knobs{version: "v2", listen: ":8000", sickAfter: 30 * time.Second, crash: true, exit: 3, hog: 64}
	if err != nil || k != want {
		t.Errorf("%+v, %v; want %+v", k, err, want)
	}
	for name, value := range map[string]string{"APP_SICK": "perhaps", "APP_CRASH_AFTER": "30", "APP_EXIT": "x"} {
		if _, err := readKnobs(func(n string) string {
			if n == name {
				return value
			}
			return ""
		}); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s=%s: %v", name, value, err)
		}
	}
	if n := len(hog(2)); n != 2<<20 {
		t.Errorf("hog took %d bytes", n)
	}
}

func TestWebEnds(t *testing.T) {
	cases := map[string]struct {
		env  []string
		said string // SIGTERM once it says something that begins like this
		code int
	}{
		"well, on SIGTERM":                 {said: "listening", code: 0},
		"with a code, on SIGTERM":          {env: []string{"APP_EXIT=7"}, said: "listening", code: 7},
		"at once":                          {env: []string{"APP_CRASH=1"}, code: 1},
		"after a while, SIGTERM or no":     {env: []string{"APP_CRASH_AFTER=300ms", "APP_IGNORE_TERM=1"}, said: "listening", code: 1},
		"well, on SIGTERM while it starts": {env: []string{"APP_SLOW_START=1h"}, said: "starting", code: 0},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := play(t, "web", append(c.env, "APP_LISTEN=127.0.0.1:0"))
			stderr, err := cmd.StderrPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if c.said != "" {
				line := make([]byte, 64)
				if n, err := stderr.Read(line); err != nil || !strings.HasPrefix(string(line[:n]), c.said) {
					t.Fatalf("said %q, %v", line[:n], err)
				}
				_ = cmd.Process.Signal(syscall.SIGTERM)
			}
			_, _ = io.Copy(io.Discard, stderr)
			err = cmd.Wait()
			if code := cmd.ProcessState.ExitCode(); code != c.code {
				t.Errorf("exit code %d (%v), want %d", code, err, c.code)
			}
		})
	}
}

func TestCurl(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/good" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		fmt.Fprint(w, "said")
	}))
	defer srv.Close()
	for _, c := range []struct {
		args []string
		out  string
		code int
	}{
		{[]string{"-f", srv.URL + "/good"}, "said", 0},
		{[]string{"-f", strings.TrimPrefix(srv.URL, "http://") + "/good"}, "said", 0},
		{[]string{"-f", srv.URL + "/bad"}, "", 1},
		{[]string{"-f", "http://127.0.0.1:1/"}, "", 1},
		{[]string{"-f"}, "", 1},
	} {
		cmd := play(t, "curl", nil, c.args...)
		out, _ := cmd.Output()
		if string(out) != c.out || cmd.ProcessState.ExitCode() != c.code {
			t.Errorf("%v: %q and exit code %d, want %q and %d", c.args, out, cmd.ProcessState.ExitCode(), c.out, c.code)
		}
	}
}

func TestParseConf(t *testing.T) {
	for text, want := range map[string]conf{
		"server { listen 80; location / { proxy_pass http://web:8000; } }":                                    {"80", "web", "8000"},
		"server { listen [::]:8080 default_server; location / { proxy_pass http://web:8000/; } }":             {"8080", "web", "8000"},
		"upstream app {\n  least_conn;\n  server web:8000 max_fails=3;\n}\nserver { proxy_pass http://app; }": {"80", "web", "8000"},
		"server { # proxy_pass http://no:1;\n proxy_pass http://web; }":                                       {"80", "web", "80"},
		"server { listen 81; root /srv; }":                                                                    {port: "81"},
	} {
		if got, err := parseConf(text); err != nil || got != want {
			t.Errorf("%s\ngave %+v, %v; want %+v", text, got, err, want)
		}
	}
}

func TestProxyTriesAnotherAddress(t *testing.T) {
	live := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "alive "+r.URL.Path) }))
	defer live.Close()
	_, port, err := net.SplitHostPort(strings.TrimPrefix(live.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	var none atomic.Bool
	u := &upstream{host: "web", port: port, lookup: func(context.Context, string) ([]string, error) {
		if none.Load() {
			return nil, errors.New("no such host")
		}
		return []string{"127.0.0.2", "127.0.0.1", "127.0.0.3"}, nil // only one listens
	}}
	front := httptest.NewServer(u.handler())
	defer front.Close()
	for range 20 {
		if body, err := get(http.DefaultClient, front.URL+"/x"); err != nil || body != "alive /x" {
			t.Fatalf("%q, %v", body, err)
		}
	}
	none.Store(true)
	if _, err := get(http.DefaultClient, front.URL+"/x"); err == nil || !strings.Contains(err.Error(), "502") {
		t.Errorf("without an upstream: %v, want 502", err)
	}
}

func TestProxyEndsWithoutItsUpstream(t *testing.T) {
	file := t.TempDir() + "/default.conf"
	if err := os.WriteFile(file, []byte("server { listen 0; proxy_pass http://nobody.invalid:8000; }"), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := play(t, "proxy", []string{"PROXY_CONF=" + file})
	out, _ := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), `host not found in upstream "nobody.invalid"`) {
		t.Errorf("exit code %d: %s", cmd.ProcessState.ExitCode(), out)
	}
}

func TestProbeCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// A server that answers after 10 ms, but for a second in between, when it fails.
		var asked atomic.Int64
		began := time.Now()
		c := &http.Client{Transport: roundTrip(func(r *http.Request) (*http.Response, error) {
			asked.Add(1)
			time.Sleep(10 * time.Millisecond)
			since := time.Since(began)
			if since > 2*time.Second && since < 3*time.Second {
				return nil, errors.New("refused")
			}
			version := "v1"
			if since > 4*time.Second {
				version = "v2"
			}
			w := httptest.NewRecorder()
			knobs{version: version}.handler("host").ServeHTTP(w, r)
			return w.Result(), nil
		})}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second-time.Millisecond)
		defer cancel()
		r := &report{Versions: map[string]int{}, Hosts: map[string]int{}}
		r.run(ctx, c, "http://web/", 40*time.Millisecond)
		if r.Requests != 125 || int(asked.Load()) != r.Requests || r.Failed != 25 || r.Versions["v1"] != 75 || r.Versions["v2"] != 25 || r.Hosts["host"] != 100 {
			t.Errorf("%d asked; %+v", asked.Load(), r)
		}
		if r.LongestGap < 1 || r.LongestGap > 1.1 || len(r.Errors) != keptErrors || !r.First.Equal(began) || r.Last.Sub(r.First) != 4960*time.Millisecond {
			t.Errorf("gap %v, first %v, last %v, %d errors", r.LongestGap, r.First, r.Last, len(r.Errors))
		}
	})
}

// A name server that is silent tells nothing of the service; one that knows no such name
// does.
func TestProbeWithoutNames(t *testing.T) {
	r := &report{Versions: map[string]int{}, Hosts: map[string]int{}}
	now := time.Now()
	for err, want := range map[error][2]int{
		&url.Error{Op: "Get", Err: &net.DNSError{Err: "i/o timeout", Name: "tasks.web", IsTimeout: true}}:   {0, 1},
		&url.Error{Op: "Get", Err: &net.DNSError{Err: "no such host", Name: "tasks.web", IsNotFound: true}}: {1, 0},
		&url.Error{Op: "Get", Err: &net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}}:                   {1, 0},
		errors.New("502 Bad Gateway"): {1, 0},
	} {
		r.Failed, r.Unresolved = 0, 0
		if r.add(now, now, "", err); r.Failed != want[0] || r.Unresolved != want[1] {
			t.Errorf("%v: %d failed, %d unresolved", err, r.Failed, r.Unresolved)
		}
	}
	if r.Requests != 4 {
		t.Errorf("%d requests", r.Requests)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestProbeStops(t *testing.T) {
	asked := make(chan struct{}, 1000)
	answer := knobs{version: "v1"}.handler("h")
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer.ServeHTTP(w, r)
		asked <- struct{}{}
	}))
	defer srv.Close()
	for name, stop := range map[string]func(*exec.Cmd, io.Closer) error{
		"on SIGTERM":            func(c *exec.Cmd, _ io.Closer) error { return c.Process.Signal(syscall.SIGTERM) },
		"when its stdin closes": func(_ *exec.Cmd, stdin io.Closer) error { return stdin.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			cmd := play(t, "probe", nil, srv.URL)
			var out strings.Builder
			cmd.Stdout = &out
			stdin, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			<-asked
			if err := stop(cmd, stdin); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(out.String(), `"failed":0`) || !strings.Contains(out.String(), `"v1":`) {
				t.Errorf("printed %s", out.String())
			}
		})
	}
}

func TestJobEnds(t *testing.T) {
	for name, c := range map[string]struct {
		env  []string
		code int
		says string
	}{
		"well":        {[]string{"APP_TAKES=10ms"}, 0, "working, for 10ms"},
		"badly":       {[]string{"APP_EXIT=3"}, 3, "failing"},
		"not at all":  {[]string{"APP_TAKES=soon"}, 1, "APP_TAKES"},
		"by a signal": {[]string{"APP_TAKES=1h"}, 1, "before it was done"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := play(t, "job", c.env)
			stderr, err := cmd.StderrPipe()
			if err == nil {
				err = cmd.Start()
			}
			if err != nil {
				t.Fatal(err)
			}
			said := bufio.NewReader(stderr)
			first, err := said.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if c.says == "before it was done" {
				if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
					t.Fatal(err)
				}
			}
			rest, err := io.ReadAll(said)
			if err != nil {
				t.Fatal(err)
			}
			_ = cmd.Wait() // what it ended with is looked at
			if all := first + string(rest); cmd.ProcessState.ExitCode() != c.code || !strings.Contains(all, c.says) {
				t.Errorf("exit %d, it said %s", cmd.ProcessState.ExitCode(), all)
			}
		})
	}
}
