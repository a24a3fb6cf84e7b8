//go:build linux

package swarmlab

import (
	"bufio"
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

//go:embed host.sh
var hostScript string

// hold starts a holder and waits until its namespaces are set up. The holder's
// stdin stays open until this process ends, or closes it in Down.
func (l *Lab) hold(ctx context.Context, name, dir, system string) (holder, error) {
	fail := func(err error) (holder, error) {
		return holder{}, fmt.Errorf("start host %s: %w", name, err)
	}
	log, err := os.Create(filepath.Join(l.Dir, name+".log"))
	if err != nil {
		return fail(err)
	}
	defer log.Close()

	cmd := exec.Command("/bin/sh", "-c", hostScript, "host", name, dir, system)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=" + systemPath}
	cmd.Stderr = log
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS,
		Setsid:     true, // an interrupt at the terminal is for the owner
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return fail(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return fail(err)
	}
	if err := cmd.Start(); err != nil {
		return fail(err)
	}
	pid := cmd.Process.Pid
	stop := context.AfterFunc(ctx, func() { _ = syscall.Kill(pid, syscall.SIGKILL) })
	line, readErr := bufio.NewReader(stdout).ReadString('\n')
	stop()
	keeper, isReady := strings.CutPrefix(strings.TrimSpace(line), "ready ")
	if readErr != nil || !isReady {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		said, _ := os.ReadFile(log.Name())
		return fail(errors.Join(ctx.Err(), fmt.Errorf("it did not get ready: %s", bytes.TrimSpace(said))))
	}
	self := holder{Keeper: keeper}
	if self.process, err = lookup(pid); err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return fail(err)
	}
	l.children.Go(func() { _ = cmd.Wait() })
	l.mu.Lock()
	l.stdin = append(l.stdin, stdin)
	l.mu.Unlock()
	return self, nil
}

// release lets the holders outlive this process.
func (l *Lab) release() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, w := range l.stdin {
		if _, err := io.WriteString(w, "keep\n"); err != nil {
			return fmt.Errorf("let the lab outlive its owner: %w", err)
		}
	}
	return nil
}

// A process is one that a number alone would not tell from a later one with the
// same number.
type process struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // clock ticks after boot
}

// A holder is the first process of a host.
type holder struct {
	process
	Keeper string `json:"keeper"` // its child, as the host counts: the one it waits for
}

// lookup reads /proc for the process that has pid now.
func lookup(pid int) (process, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, err
	}
	// The second field is the program's name in brackets, which may hold anything.
	_, rest, ok := strings.Cut(string(b[bytes.LastIndexByte(b, ')')+1:]), " ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 20 {
		return process{}, fmt.Errorf("process %d: cannot read its stat", pid)
	}
	if fields[0] == "Z" || fields[0] == "X" {
		return process{}, fmt.Errorf("process %d: %w", pid, os.ErrProcessDone)
	}
	start, err := strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return process{}, fmt.Errorf("process %d: read its start time: %w", pid, err)
	}
	return process{PID: pid, Start: start}, nil
}

// alive says whether this very process still runs.
func (p process) alive() bool {
	if p.PID == 0 {
		return false
	}
	now, err := lookup(p.PID)
	return err == nil && now == p
}

// kill ends the process and waits until it is gone.
func (p process) kill() error {
	if !p.alive() {
		return nil
	}
	if err := syscall.Kill(p.PID, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("kill process %d: %w", p.PID, err)
	}
	return wait(context.Background(), 20*time.Second, fmt.Sprintf("process %d to end", p.PID), func() error {
		if p.alive() {
			return errors.New("it still runs")
		}
		return nil
	})
}

// namespace returns which namespace of a kind ("net", "pid") the process is in.
func namespace(pid int, kind string) (string, error) {
	return os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, kind))
}

// pids lists the processes of this machine.
func pids() ([]int, error) {
	names, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	all := make([]int, 0, len(names))
	for _, name := range names {
		if pid, err := strconv.Atoi(filepath.Base(name)); err == nil {
			all = append(all, pid)
		}
	}
	return all, nil
}

// guests lists the processes that are in the network of p, but p itself.
func (p process) guests() ([]process, error) {
	its, err := namespace(p.PID, "net")
	if err != nil {
		return nil, nil // it ended meanwhile
	}
	all, err := pids()
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var found []process
	for _, pid := range all {
		if ns, err := namespace(pid, "net"); err != nil || ns != its || pid == p.PID {
			continue
		}
		if g, err := lookup(pid); err == nil {
			found = append(found, g)
		}
	}
	return found, nil
}

// enter returns a command inside some of the namespaces of the process pid.
func enter(ctx context.Context, pid int, namespaces []string, argv ...string) *exec.Cmd {
	args := append([]string{"--target", strconv.Itoa(pid)}, namespaces...)
	cmd := exec.CommandContext(ctx, "nsenter", append(append(args, "--"), argv...)...)
	cmd.Env = withPath(os.Environ())
	return cmd
}

// withPath adds the directories of system tools to env's PATH.
func withPath(env []string) []string {
	out := append([]string(nil), env...)
	for i, kv := range out {
		if rest, ok := strings.CutPrefix(kv, "PATH="); ok {
			out[i] = "PATH=" + rest + ":" + systemPath
			return out
		}
	}
	return append(out, "PATH="+systemPath)
}

// output runs cmd and returns its stdout; an error has its stderr.
func output(cmd *exec.Cmd) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s: %w: %s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.String(), nil
}

func hasPrefix(s string, prefixes ...string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}

// wait calls f until it returns nil, for at most limit; what says what is waited
// for. The error has f's last one.
func wait(ctx context.Context, limit time.Duration, what string, f func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w: %w", what, ctx.Err(), err)
		case <-tick.C:
		}
	}
}
