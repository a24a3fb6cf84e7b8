package e2e

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/skep-io/skep/controller"
	"github.com/skep-io/skep/e2e/leaks"
	"github.com/skep-io/skep/reconcile"
)

// TestGit has skep follow repositories as a forge serves them: git's http-backend behind
// Apache's httpd, and sshd. Each lane has a host, repositories and controllers of its own.
func TestGit(t *testing.T) {
	t.Parallel()
	t.Run("push", func(t *testing.T) { t.Parallel(); gitPush(t) })
	t.Run("faults", func(t *testing.T) { t.Parallel(); gitFaults(t) })
	t.Run("ssh", func(t *testing.T) { t.Parallel(); gitBySSH(t) })
}

// A gitDaemon is a skep that follows repositories: a process of its own.
type gitDaemon struct {
	*daemon
	*process
	cache string
	args  []string
}

// gitFollow starts one. What it takes to look at the repositories is in args.
func gitFollow(t *testing.T, owner string, args ...string) *gitDaemon {
	t.Helper()
	d := &gitDaemon{daemon: &daemon{t: t, owner: owner, log: &logbook{}}, cache: t.TempDir(), args: args}
	t.Cleanup(func() {
		d.signal(syscall.SIGTERM)
		if bad := misfortune(d.log.String()); bad != "" {
			t.Errorf("skep's log has %q", bad)
		}
		if t.Failed() {
			t.Logf("the log of %s:\n%s", owner, d.log)
		}
	})
	d.again()
	return d
}

// again starts it with the cache that it had, and what else is said; it has ended.
func (d *gitDaemon) again(more ...string) {
	d.t.Helper()
	d.addr = freeAddress(d.t)
	d.process = startSkep(d.t, lab, d.log, slices.Concat([]string{"run", "--host", skepHost(lab, 0, "run"), "--owner", d.owner,
		"--listen", d.addr, "--log-format", "json", "--resync", "10s", "--git-cache", d.cache}, d.args, more)...)
	await(d.t, time.Minute, "skep listens", func() error {
		select {
		case <-d.ended:
			d.t.Fatal("skep ended")
		default:
		}
		if d.says() == "" {
			return errors.New("it does not")
		}
		return nil
	})
}

// end ends it, in good order.
func (d *gitDaemon) end() {
	d.t.Helper()
	d.lookAtMetrics()
	d.signal(syscall.SIGTERM)
	if code := d.cmd.ProcessState.ExitCode(); code != 0 {
		d.t.Errorf("skep ended with %d", code)
	}
}

// says is what skep says at /readyz.
func (d *gitDaemon) says() string { return (&rival{addr: d.addr}).says() }

// awaitSource waits until the source is not ready for a reason, and says words.
func (d *gitDaemon) awaitSource(reason string, words ...string) {
	d.t.Helper()
	await(d.t, time.Minute, "the source says "+reason, func() error {
		p, err := controller.ReadPublished(d.t.Context(), lab.Client(1), d.owner)
		if err != nil || p == nil || p.Source.Ready || p.Source.Reason != reason {
			return fmt.Errorf("published: %+v, %v", p, err)
		}
		for _, w := range words {
			if !strings.Contains(p.Source.Message, w) {
				return fmt.Errorf("it does not say %q: %s", w, p.Source.Message)
			}
		}
		if says := d.says(); says == "acts" {
			return errors.New("/readyz says that all is well")
		}
		return nil
	})
}

// awaitActs waits until nothing is the matter with the source.
func (d *gitDaemon) awaitActs() {
	d.t.Helper()
	await(d.t, time.Minute, "skep acts", func() error {
		if says := d.says(); says != "acts" {
			return fmt.Errorf("it says %q", says)
		}
		return nil
	})
}

// awaitRelease waits until the newest release of a stack is of a commit, in a phase.
func (d *gitDaemon) awaitRelease(stack, commit string, phase reconcile.Phase) reconcile.Result {
	d.t.Helper()
	var res reconcile.Result
	await(d.t, 2*time.Minute, fmt.Sprintf("%s is %s at %.7s", stack, phase, commit), func() error {
		if res = status(d.t, d.owner, stack); res.Release == nil {
			return errors.New("no release yet")
		}
		if r := res.Release; r.Commit != commit || r.Phase != phase || phase == reconcile.PhaseHealthy && !ready(res) {
			return fmt.Errorf("release %d of %.7s is %s: %s", r.Number, r.Commit, r.Phase, res.Message)
		}
		return nil
	})
	return res
}

// A statusBoard is the part of a forge's API that takes statuses, as GitHub's does.
type statusBoard struct {
	*httptest.Server
	token string
	mu    sync.Mutex
	all   []postedStatus
}

type postedStatus struct {
	at                                      time.Time
	commit, state, context, said, targetURL string
}

var statusPath = regexp.MustCompile(`^/repos/team/shop/statuses/([0-9a-f]{40})$`)

func newStatusBoard(t *testing.T) *statusBoard {
	t.Helper()
	b := &statusBoard{token: leaked.Plant("the token for statuses", leaks.Secret)}
	b.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body struct{ State, Context, Description, Target_url string }
		text, err := io.ReadAll(r.Body)
		leaked.Look("a commit's status", text)
		at := statusPath.FindStringSubmatch(r.URL.Path)
		switch {
		case errors.Join(err, json.Unmarshal(text, &body)) != nil || r.Method != http.MethodPost || at == nil:
			t.Errorf("the forge was asked %s %s: %s", r.Method, r.URL, text)
			http.NotFound(w, r)
			return
		case r.Header.Get("Authorization") != "Bearer "+b.token:
			t.Error("the forge was asked without the token")
			http.Error(w, "{}", http.StatusUnauthorized)
			return
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		b.all = append(b.all, postedStatus{time.Now(), at[1], body.State, body.Context, body.Description, body.Target_url})
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, "{}")
	}))
	t.Cleanup(b.Close)
	return b
}

// of are the statuses of a commit, in the order in which they came.
func (b *statusBoard) of(commit string) (all []postedStatus) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.all {
		if s.commit == commit {
			all = append(all, s)
		}
	}
	return all
}

// await waits until a commit's status is state, and returns it.
func (b *statusBoard) await(t *testing.T, commit, state string) postedStatus {
	t.Helper()
	var last postedStatus
	await(t, time.Minute, fmt.Sprintf("the status of %.7s is %s", commit, state), func() error {
		all := b.of(commit)
		if len(all) == 0 || all[len(all)-1].state != state {
			return fmt.Errorf("there are %+v", all)
		}
		last = all[len(all)-1]
		return nil
	})
	return last
}

// hookScript is the hook that docs/webhooks.md gives to people with a bare repository.
func hookScript(t *testing.T, secretFile, url string) string {
	t.Helper()
	text, err := os.ReadFile("../docs/webhooks.md")
	if err != nil {
		t.Fatal(err)
	}
	script := firstMatch("(?s)```sh\n(#!/bin/sh\nnow=.*?)```", string(text))
	for old, put := range map[string]string{"/etc/skep/hook-secret": secretFile, "https://skep.example.com/hooks/git": url} {
		if strings.Count(script, old) != 1 {
			t.Fatalf("the hook of docs/webhooks.md does not have %s once:\n%s", old, script)
		}
		script = strings.Replace(script, old, put, 1)
	}
	return script
}

// gitPush is a day of a repository whose pushes tell skep by a webhook, and are told what
// became of them: a good one, a bad one, one that has nothing to do with it.
func gitPush(t *testing.T) {
	const owner, stack = "git-push", "git-shop"
	cleanUp(t, stack)
	h, board := newGitHost(t), newStatusBoard(t)
	r := h.repo("team/shop")
	file := func(image string) map[string]string {
		return map[string]string{"stacks/" + stack + ".yml": web(image, 2), "README.md": image}
	}
	first := r.commit("web 1.0", file("app:1.0"))
	r.push()

	secret := leaked.Plant("the secret of a webhook", leaks.Secret)
	secretFile := h.write("hook-secret", secret, 0o644) // httpd's user runs the hook
	d := gitFollow(t, owner, "--git", r.url(), "--git-path", "stacks", "--git-ca-file", h.ca, "--git-token-file", h.write("token", h.token, 0o600),
		"--git-interval", "1h", // nobody but the hook has it look
		"--git-webhook-secret-file", secretFile,
		"--commit-status", "github", "--commit-status-url", board.URL, "--commit-status-token-file", h.write("status-token", board.token, 0o600),
		"--page-url", "https://skep.example")
	h.must(os.WriteFile(filepath.Join(r.bare, "hooks/post-receive"), []byte(hookScript(t, secretFile, "http://"+d.addr+"/hooks/git")), 0o755))

	t.Log("the first commit: pending, and success after the bake")
	d.awaitRelease(stack, first, reconcile.PhaseHealthy)
	s := board.await(t, first, "success")
	if s.context != "skep/"+owner+"/"+stack || s.targetURL != "https://skep.example/stacks/"+stack || !strings.HasPrefix(s.said, "release 1 is healthy") {
		t.Errorf("the status is %+v", s)
	}

	t.Log("pushes, which the hook tells of")
	seen := watchStack(t, stack)
	var took []time.Duration
	for i, image := range []string{"app:2.0", "app:1.0", "app:2.0"} {
		commit := r.commit(fmt.Sprintf("the %d. change", i+1), file(image))
		r.push()
		pushed := r.pushed()
		awaitRunning(t, 2*time.Minute, stack+"_web", image, 2)
		d.awaitRelease(stack, commit, reconcile.PhaseHealthy)
		took = append(took, seen.since(pushed, "service")[0].at.Sub(pushed))
		if s := board.await(t, commit, "success"); board.of(commit)[0].state != "pending" {
			t.Errorf("nobody was told that %.7s began: %+v", commit, s)
		}
	}
	t.Logf("from a push to the service's update, by webhook: %v", took)
	if slices.Min(took) > 2*time.Second { // the others may have met a busy machine
		t.Errorf("it takes longer than 2s: %v", took)
	}

	t.Log("a bad one is taken back, and its commit says so")
	good := r.head()
	bad := r.commit("a sick version", file("app:sick"))
	r.push()
	res := d.awaitRelease(stack, bad, reconcile.PhaseFailed)
	awaitRunning(t, 2*time.Minute, stack+"_web", "app:2.0", 2)
	s = board.await(t, bad, "failure")
	if !strings.Contains(s.said, fmt.Sprintf("release %d failed: ", res.Release.Number)) || !strings.Contains(s.said, "web") {
		t.Errorf("the failure's status is %q", s.said)
	}
	t.Logf("the forge is told: %s", s.said)
	await(t, 2*time.Minute, "the rollback has settled", func() error {
		if len(d.log.lines("rolled-back")) == 0 {
			return errors.New("not in the log")
		}
		return nil
	})
	if all := board.of(good); all[len(all)-1].state != "success" {
		t.Errorf("the status of what runs again is now %+v", all)
	}

	t.Log("neither a commit of something else nor a restart tries it again")
	before, told := versions(t, stack), len(board.of(bad))
	other := r.commit("only words", map[string]string{"README.md": "words"})
	r.push()
	await(t, time.Minute, "skep has the commit", func() error { return d.has(other) })
	d.end()
	d.again()
	h.must(os.WriteFile(filepath.Join(r.bare, "hooks/post-receive"), []byte(hookScript(t, secretFile, "http://"+d.addr+"/hooks/git")), 0o755))
	d.awaitActs()
	always(t, 8*time.Second, "it is not tried again", func() error {
		if now := versions(t, stack); !maps.Equal(now, before) {
			return fmt.Errorf("versions moved from %v to %v", before, now)
		}
		return nil
	})
	if all := board.of(other); len(all) > 0 {
		t.Errorf("a commit that changed nothing of the stack has statuses: %+v", all)
	}
	if now := len(board.of(bad)); now != told {
		t.Errorf("the bad commit was told of %d times, and then %d", told, now)
	}

	t.Log("a new one is")
	fixed := r.commit("the fix", file("app:1.0"))
	r.push()
	d.awaitRelease(stack, fixed, reconcile.PhaseHealthy)
	awaitRunning(t, 2*time.Minute, stack+"_web", "app:1.0", 2)
	board.await(t, fixed, "success")
	gitForgeries(t, d, secret, stack)
}

// gitForgeries knocks at the hook without its secret, without end, and with what was heard
// before.
func gitForgeries(t *testing.T, d *gitDaemon, secret, stack string) {
	t.Helper()
	before, body := versions(t, stack), []byte(`{"ref": "refs/heads/main", "deleted": true}`)
	knock := func(secret string) int {
		t.Helper()
		resp, err := http.DefaultClient.Do(hookRequest(t, d.addr, secret, body))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	t.Log("hooks that are replayed, forged, and too many")
	for range 20 {
		if code := knock(secret); code != http.StatusAccepted {
			t.Errorf("a hook that is replayed: %d", code)
		}
	}
	codes := map[int]int{}
	for range 300 {
		codes[knock("not the secret")]++
	}
	if codes[http.StatusUnauthorized] == 0 || codes[http.StatusTooManyRequests] < 100 || len(codes) != 2 {
		t.Errorf("forged hooks, by their answers: %v", codes)
	}
	await(t, time.Minute, "a genuine one is taken again", func() error {
		if code := knock(secret); code != http.StatusAccepted {
			return fmt.Errorf("answered %d", code)
		}
		return nil
	})
	if now := versions(t, stack); !maps.Equal(now, before) {
		t.Errorf("versions moved from %v to %v", before, now)
	}
}

// has is nil where a commit is in force at skep.
func (d *gitDaemon) has(commit string) error {
	heads, err := filepath.Glob(filepath.Join(d.cache, "*", "current"))
	if err != nil || len(heads) != 1 {
		return fmt.Errorf("there is no commit: %v %v", heads, err)
	}
	target, err := os.Readlink(heads[0])
	if err != nil {
		return fmt.Errorf("see what is in force: %w", err)
	}
	if name, _, _ := strings.Cut(filepath.Base(target), "."); name != commit { // where it was written out anew, it has a number
		return fmt.Errorf("it has %s", target)
	}
	return nil
}

// hookRequest is a webhook as GitHub sends it.
func hookRequest(t *testing.T, addr, secret string, body []byte) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr+"/hooks/git", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	r.Header.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(mac.Sum(nil)))
	return r
}
