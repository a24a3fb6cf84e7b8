package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestMakeRun does what README's first command does on a machine without an
// engine: the real target of the Makefile, to its end by a signal.
func TestMakeRun(t *testing.T) {
	t.Parallel()
	m := makeRun(t)

	var engine, web string
	await(t, 5*time.Minute, "make run says where its engine is", func() error {
		engine = firstMatch(`export DOCKER_HOST=(unix://\S+)`, m.out.String())
		web = firstMatch(`curl (http://\S+:8082/)`, m.out.String())
		if engine == "" || web == "" {
			return errors.Join(m.running(), errors.New("it has not"))
		}
		return nil
	})
	await(t, 5*time.Minute, "all examples are Ready", func() error {
		return errors.Join(m.running(), examplesReady(t, engine))
	})
	// As its words tell a person to look.
	for _, port := range []string{"8082", "8083", "8084"} {
		await(t, 30*time.Second, "an answer at port "+port, func() error {
			return answers(strings.Replace(web, "8082", port, 1), "v1.0")
		})
	}
	if strings.Contains(m.out.String(), `"level":"warn"`) || strings.Contains(m.out.String(), `"level":"error"`) {
		t.Error("the examples make skep warn")
	}

	began := time.Now()
	m.signal(t, syscall.SIGINT)
	select {
	case <-m.ended:
	case <-time.After(time.Minute):
		t.Fatal("make run did not end within a minute of an interrupt")
	}
	t.Logf("it ended %s after the interrupt", time.Since(began).Round(time.Millisecond))
	if !strings.Contains(m.out.String(), "stopped") {
		t.Error("skep did not stop in good order")
	}
	m.leftNothing(t)
}

// A made is a `make run` in a process group of its own, with labs in a directory
// of its own.
type made struct {
	cmd   *exec.Cmd
	base  string
	out   *transcript
	ended chan struct{}
	err   error
}

// A transcript is what a command writes, to be read while it runs.
type transcript struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (x *transcript) Write(p []byte) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.text.Write(p)
}

func (x *transcript) String() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.text.String()
}

func makeRun(t *testing.T) *made {
	t.Helper()
	base, err := os.MkdirTemp("/tmp", "skep-run-") // short: sockets lie in it
	if err != nil {
		t.Fatal(err)
	}
	m := &made{cmd: exec.Command("make", "run"), base: base, out: &transcript{}, ended: make(chan struct{})}
	m.cmd.Dir = ".."
	m.cmd.Env = withoutEngine(os.Environ(), base)
	m.cmd.Stdout, m.cmd.Stderr = m.out, m.out
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	started := make(chan error)
	go func() {
		defer close(m.ended)
		runtime.LockOSThread() // the parent whose death is meant is a thread
		defer runtime.UnlockOSThread()
		err := m.cmd.Start()
		started <- err
		if err == nil {
			m.err = m.cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.signal(t, syscall.SIGTERM)
		select {
		case <-m.ended:
		case <-time.After(time.Minute):
			t.Error("make run does not end")
			m.signal(t, syscall.SIGKILL)
		}
		if t.Failed() {
			t.Logf("make run said:\n%s", m.out)
		}
		if err := os.RemoveAll(base); err != nil {
			t.Errorf("the lab of make run left something behind: %v", err)
		}
	})
	return m
}

// withoutEngine is an environment in which no engine is known: a person's own
// is none of a test's business.
func withoutEngine(env []string, base string) []string {
	var kept []string
	for _, kv := range env {
		if name, _, _ := strings.Cut(kv, "="); !strings.HasPrefix(name, "DOCKER_") && !strings.HasPrefix(name, "SKEP_") {
			kept = append(kept, kv)
		}
	}
	return append(kept, "SKEP_LAB_BASE="+base, "DOCKER_HOST=unix://"+filepath.Join(base, "none.sock"))
}

// running is an error where make run has ended.
func (m *made) running() error {
	select {
	case <-m.ended:
		return fmt.Errorf("make run ended: %w", m.err)
	default:
		return nil
	}
}

// signal sends sig to make and all that it started, as a terminal does.
func (m *made) signal(t *testing.T, sig syscall.Signal) {
	if err := syscall.Kill(-m.cmd.Process.Pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		t.Errorf("signal make run: %v", err)
	}
}

// leftNothing says that nothing on the machine is of the lab any more.
func (m *made) leftNothing(t *testing.T) {
	t.Helper()
	id := firstMatch(`lab (\w{6}) is up`, m.out.String())
	if id == "" {
		t.Fatal("make run does not tell its lab's id")
	}
	if err := syscall.Kill(-m.cmd.Process.Pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("processes of make run are left: %v", err)
	}
	left, err := filepath.Glob(filepath.Join(m.base, "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("files are left: %v %v", left, err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(mounts), m.base) {
		t.Errorf("mounts are left below %s: %v", m.base, err)
	}
	if link, err := net.InterfaceByName("sk" + id); err == nil {
		t.Errorf("interface %s is left", link.Name)
	}
	if dirs, _ := filepath.Glob("/sys/fs/cgroup/*" + id + "*"); len(dirs) > 0 {
		t.Errorf("cgroups are left: %v", dirs)
	}
	commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range commands { // some end while they are looked at
		if text, err := os.ReadFile(file); err == nil && bytes.Contains(text, []byte(m.base)) {
			t.Errorf("%s is left: %q", filepath.Dir(file), text)
		}
	}
}

// examplesReady asks skep's own status, as a person would.
func examplesReady(t *testing.T, engine string) error {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "../bin/skep", "status", "--host", engine, "--format", "{{.Name}}={{.Ready}}")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil && stderr.Len() > 0 {
		return fmt.Errorf("skep status: %w: %s", err, &stderr)
	}
	want := "step1-replicas=true step2-config=true step3-rolling=true step4-rollback=true"
	if got := strings.Join(strings.Fields(string(out)), " "); got != want {
		return fmt.Errorf("skep status says %s", got)
	}
	return err
}

// answers is nil where url answers with word in it.
func answers(url, word string) error {
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK || !strings.Contains(string(text), word) {
		return fmt.Errorf("%s: %s", resp.Status, text)
	}
	return nil
}

// firstMatch returns what the first group of a pattern matches first, or "".
func firstMatch(pattern, text string) string {
	if m := regexp.MustCompile(pattern).FindStringSubmatch(text); m != nil {
		return m[1]
	}
	return ""
}
