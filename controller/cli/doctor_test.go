package cli

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/swarm"

	"github.com/skep-io/skep/controller"
)

// remedied is what every check that is not good has to have.
func remedied(t *testing.T, c check, status, words string) {
	t.Helper()
	if c.Status != status || !strings.Contains(c.Message+" → "+c.Remedy, words) {
		t.Errorf("%+v, want %s with %q", c, status, words)
	}
	if c.Remedy == "" && (c.Status == checkBad || c.Status == checkWarning) {
		t.Errorf("%+v says nothing of what to do", c)
	}
}

func TestJudgeSwarm(t *testing.T) {
	explained := errors.New("the Docker engine at x is not a Swarm manager (run skep on a manager)")
	for _, tt := range []struct {
		status *swarm.Status
		words  string
	}{
		{&swarm.Status{NodeState: swarm.LocalNodeStateInactive}, "docker swarm init"},
		{&swarm.Status{NodeState: swarm.LocalNodeStateActive}, "a worker of its Swarm → run skep on a manager"},
		{&swarm.Status{NodeState: swarm.LocalNodeStatePending}, "still joining"},
		{&swarm.Status{NodeState: swarm.LocalNodeStateLocked}, "docker swarm unlock"},
		{&swarm.Status{NodeState: swarm.LocalNodeStateError}, `in the state "error"`},
		{nil, "is not a Swarm manager → `docker swarm init`"}, // an engine before 23.0
	} {
		remedied(t, judgeSwarm(tt.status, explained), checkBad, tt.words)
	}
	remedied(t, judgeSwarm(nil, errors.New("the Swarm at x has no leader: too few answer (bring managers back)")), checkBad, "too few answer → bring managers back")
}

func TestJudgeHolder(t *testing.T) {
	h := controller.Holder{ID: "here.1", Host: "host1", Since: noon.Add(-time.Hour), Renewed: noon.Add(-3 * time.Second)}
	remedied(t, judgeHolder(h, "skep", noon), checkGood, `here.1 on host1 acts for owner "skep"`)
	h.Renewed = noon.Add(-10 * time.Minute)
	remedied(t, judgeHolder(h, "skep", noon), checkBad, "has not been heard of for 10 minutes")
	remedied(t, judgeHolder(controller.Holder{}, "skep", noon), checkWarning, "nobody acts")
}

func TestJudgeReport(t *testing.T) {
	good := controller.PublishedSource{Ready: true}
	for _, tt := range []struct {
		p      *controller.Published
		acts   bool
		status string
		words  string
	}{
		{nil, true, checkGood, "nothing to complain"},
		{nil, false, checkGood, "none is left"},
		{&controller.Published{Source: good}, false, checkGood, "none is left"},
		{&controller.Published{Source: good, Policy: &controller.PublishedPolicy{Message: "no rules"}}, true, checkBad, "cannot read its policy file: no rules"},
		{&controller.Published{At: noon.Add(-time.Hour), Source: good, Omitted: 1}, false, checkWarning, "a controller that acts no more, from 2026-01-02 11:00:00 UTC"},
		{&controller.Published{Source: controller.PublishedSource{Message: "is empty"}}, true, checkBad, "does not believe its specs directory: is empty"},
		{&controller.Published{Source: good, Stacks: []controller.PublishedStack{{Stack: "shop"}}, Omitted: 2}, true, checkWarning, "3 stacks: shop → `skep status`"},
		{&controller.Published{Source: good, Prune: &controller.PublishedPrune{}}, true, checkWarning, "`skep prune`"},
	} {
		for _, c := range judgeReport(tt.p, tt.acts, noon) {
			remedied(t, c, tt.status, tt.words)
		}
	}
}

func TestJudgeImages(t *testing.T) {
	denied := errors.Join(cerrdefs.ErrUnauthenticated, errors.New("denied"))
	got := judgeImages([]imageAnswer{
		{image: "r.example.com/a:1", registry: "r.example.com", err: denied},
		{image: "r.example.com/b:1", registry: "r.example.com", err: denied},
		{image: "s.example.com/c:1", registry: "s.example.com", known: true, err: denied},
		{image: "web:9", registry: "docker.io", err: errors.New("manifest unknown")},
		{image: "t.example.com/d:1", registry: "t.example.com", err: errors.New("dial tcp: i/o timeout" + strings.Repeat("!", 500))},
		{image: "u/e:1", registry: "docker.io", err: errors.New("registry credentials for x: docker-credential-y is not on the PATH (install it)")},
		{image: "fine:1", registry: "docker.io"},
	})
	want := []struct{ status, words string }{
		{checkBad, "does not give out r.example.com/a:1, and there are no credentials for it (and 1 images more are alike) → `docker login r.example.com`"},
		{checkBad, "to the user of the credentials there are → `docker login s.example.com` anew"},
		{checkBad, "docker.io has no image web:9"},
		{checkWarning, "could not be asked for t.example.com/d:1: dial tcp"},
		{checkBad, "is not on the PATH → install it"},
	}
	if len(got) != len(want) {
		t.Fatalf("%d checks, want %d: %+v", len(got), len(want), got)
	}
	for i, w := range want {
		remedied(t, got[i], w.status, w.words)
		if len(got[i].Message) > 400 {
			t.Errorf("a message of %d bytes", len(got[i].Message))
		}
	}
	remedied(t, judgeImages([]imageAnswer{{image: "fine:1"}})[0], checkGood, "all of 1 image")
}

// The engine's clock is compared by the Date of its answers, within what one second's
// resolution and the time of the answer allow.
func TestClock(t *testing.T) {
	for _, tt := range []struct {
		ahead, took time.Duration
		status      string
		words       string
	}{
		{0, 10 * time.Millisecond, checkGood, "agrees"},
		{2 * time.Second, 10 * time.Millisecond, checkGood, "agrees"},
		{10 * time.Second, 10 * time.Millisecond, checkWarning, "ahead of this machine's → have both set by NTP"},
		{10 * time.Second, 20 * time.Second, checkGood, "agrees"}, // nobody knows when it looked at its clock
		{-2 * time.Minute, time.Second, checkBad, "behind this machine's"},
	} {
		synctest.Test(t, func(t *testing.T) {
			var w clockWatch
			next := roundTrip(func(*http.Request) (*http.Response, error) {
				time.Sleep(tt.took / 2)
				answer := httptest.NewRecorder()
				answer.Header().Set("Date", time.Now().Add(tt.ahead).UTC().Format(http.TimeFormat))
				time.Sleep(tt.took / 2)
				return answer.Result(), nil
			})
			answer, err := w.watch(next).RoundTrip(httptest.NewRequest(http.MethodGet, "/_ping", nil))
			if err != nil {
				t.Fatal(err)
			}
			_ = answer.Body.Close()
			remedied(t, w.judge(), tt.status, tt.words)
		})
	}
	remedied(t, (&clockWatch{}).judge(), checkSkipped, "does not tell its time")
}

func TestDiagnosis(t *testing.T) {
	for status, want := range map[string]int{"ok": exitGood, "ok warning skipped": exitGood, "ok unknown": exitUnknown, "unknown error": exitNo} {
		var checks []check
		for _, s := range strings.Fields(status) {
			checks = append(checks, check{Status: s})
		}
		if got := newApp(nil).exit(nil, diagnosis(checks)); got != want {
			t.Errorf("%s: exit code %d, want %d", status, got, want)
		}
	}
}

func TestSplitRemedy(t *testing.T) {
	for text, want := range map[string][2]string{
		"it broke (mend it (soon), or not)": {"it broke", "mend it (soon), or not"},
		"it broke":                          {"it broke", ""},
		"it (x) broke":                      {"it (x) broke", ""},
	} {
		if message, remedy := splitRemedy(text); message != want[0] || remedy != want[1] {
			t.Errorf("%q: %q, %q", text, message, remedy)
		}
	}
}

func TestSocketRemedy(t *testing.T) {
	for _, socket := range []string{"", filepath.Join(t.TempDir(), "none.sock")} {
		if got := socketRemedy(socket); !strings.Contains(got, "usually docker") {
			t.Errorf("%q: %q", socket, got)
		}
	}
	file := filepath.Join(t.TempDir(), "docker.sock")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(file, os.Getuid(), os.Getgid()); err != nil {
		t.Fatal(err)
	}
	group, has := socketGroup(file)
	if os.Getgid() == 0 {
		if err := os.Chown(file, 0, 54321); err != nil {
			t.Fatal(err)
		}
		if group, has := socketGroup(file); group != "54321" || has {
			t.Errorf("group %q, in it: %v", group, has)
		}
		if got := socketRemedy(file); !strings.Contains(got, "usermod -aG 54321") {
			t.Errorf("%q", got)
		}
		return
	}
	if group == "" || !has {
		t.Errorf("group %q, in it: %v", group, has)
	}
	if got := socketRemedy(file); !strings.Contains(got, "log in again") {
		t.Errorf("%q", got)
	}
}

// What an engine is, doctor finds by asking it.
func TestDoctorLooksAtEngines(t *testing.T) {
	const elsewhere = `{"message":"This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again."}`
	for name, tt := range map[string]struct {
		api, swarm string
		answer     func(path string) (int, string)
		ahead      time.Duration
		want       string // a line
		code       int
	}{
		"well":          {api: "1.45", swarm: "active/manager", want: "ok rights", code: exitGood},
		"old":           {api: "1.38", swarm: "active/manager", want: "error engine engine at %s: API version 1.38 is too old", code: exitNo},
		"no docker":     {want: "error engine what answers at %s does not say which Docker API it speaks", code: exitNo},
		"no swarm":      {api: "1.45", swarm: "inactive", answer: func(string) (int, string) { return 503, elsewhere }, want: "error swarm this engine is in no Swarm", code: exitNo},
		"worker":        {api: "1.45", swarm: "active/worker", answer: func(string) (int, string) { return 503, elsewhere }, want: "error swarm this node is a worker", code: exitNo},
		"before 23.0":   {api: "1.41", answer: func(string) (int, string) { return 503, elsewhere }, want: "error swarm the Docker engine at %s is not a Swarm manager", code: exitNo},
		"a filter":      {api: "1.45", swarm: "active/manager", answer: forbidding("/secrets", 403), want: "error rights what stands before the engine refuses: GET /secrets", code: exitNo},
		"it stumbles":   {api: "1.45", swarm: "active/manager", answer: forbidding("/tasks", 500), want: "unknown rights GET /tasks: ", code: exitUnknown},
		"another clock": {api: "1.45", swarm: "active/manager", ahead: time.Hour, want: "error clock the engine's is 1h0m0s ahead of this machine's", code: exitNo},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Date", time.Now().Add(tt.ahead).UTC().Format(http.TimeFormat))
				if strings.HasSuffix(r.URL.Path, "/_ping") {
					if tt.api != "" {
						w.Header().Set("Api-Version", tt.api)
					}
					if tt.swarm != "" {
						w.Header().Set("Swarm", tt.swarm)
					}
					return
				}
				w.Header().Set("Content-Type", "application/json")
				if tt.answer != nil {
					if code, text := tt.answer(r.URL.Path); code != 0 {
						w.WriteHeader(code)
						_, _ = io.WriteString(w, text)
						return
					}
				}
				_, _ = io.WriteString(w, "[]")
			}))
			defer server.Close()
			host := "tcp://" + server.Listener.Addr().String()
			var said bytes.Buffer
			a := newApp(nil)
			a.out = &said
			root := a.root()
			root.SetArgs([]string{"doctor", "-H", host, "--format", "{{.Status}} {{.Check}} {{.Message}}"})
			cmd, err := root.ExecuteContextC(t.Context())
			if code := a.exit(cmd, err); code != tt.code {
				t.Errorf("exit code %d, want %d", code, tt.code)
			}
			if want := strings.ReplaceAll(tt.want, "%s", host); !strings.Contains(said.String(), want) {
				t.Errorf("%s\nwant %s", said.String(), want)
			}
		})
	}
}

// forbidding answers one path with a status of its own.
func forbidding(end string, status int) func(string) (int, string) {
	return func(path string) (int, string) {
		if !strings.HasSuffix(path, end) {
			return 0, ""
		}
		return status, `{"message":"no"}`
	}
}
