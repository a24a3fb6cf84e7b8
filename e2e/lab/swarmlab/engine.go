//go:build linux

package swarmlab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// writeEngineFiles writes what node's dockerd reads: all its options are in
// daemon.json, so that this machine's own /etc/docker/daemon.json has no say.
func (l *Lab) writeEngineFiles(n *Node) error {
	options := map[string]any{
		// The second for containers that mount the engine's socket from where every
		// host has it; /run is the host's own.
		"hosts":     []string{"unix://" + n.Socket, "unix:///run/docker.sock"},
		"data-root": filepath.Join(n.dir, "data"),
		// In the host's own /run, so that paths stay short and nothing is left.
		"exec-root": "/run/docker",
		"pidfile":   n.pidfile(),
		// cgroupfs also on a machine whose systemd would like to be asked: its
		// systemd knows nothing of this host.
		"exec-opts":           []string{"native.cgroupdriver=cgroupfs"},
		"cgroup-parent":       "/" + cgroupName(l.ID) + "/" + n.Name,
		"insecure-registries": []string{"127.0.0.0/8", l.Subnet.String()},
	}
	b, err := json.MarshalIndent(options, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s's options: %w", n.Name, err)
	}
	if err := os.WriteFile(filepath.Join(n.dir, "daemon.json"), append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("write %s's options: %w", n.Name, err)
	}
	// An address that hosts have no route to (RFC 5737).
	if err := os.WriteFile(filepath.Join(n.dir, "resolv.conf"), []byte("nameserver 192.0.2.53\n"), 0o644); err != nil {
		return fmt.Errorf("write %s's resolv.conf: %w", n.Name, err)
	}
	return nil
}

func (n *Node) pidfile() string { return filepath.Join(n.dir, "docker.pid") }

// Log returns the file that node i's engine logs to.
func (l *Lab) Log(i int) string { return filepath.Join(l.Nodes[i].dir, "dockerd.log") }

// StartEngine starts node i's dockerd and returns when it answers. It does nothing
// where one runs.
func (l *Lab) StartEngine(ctx context.Context, i int) error {
	n := l.Nodes[i]
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, err := n.enginePID(); err == nil {
		return n.await(ctx, nil)
	}
	// Of a killed engine: by its number another process may go now, and dockerd
	// would refuse to start.
	if err := os.Remove(n.pidfile()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("start %s's engine: %w", n.Name, err)
	}
	log, err := os.OpenFile(l.Log(i), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("start %s's engine: %w", n.Name, err)
	}
	defer log.Close()
	cmd := exec.Command("nsenter", "--target", strconv.Itoa(n.PID), "--mount", "--net", "--uts", "--pid", "--wd=/",
		"--", "dockerd", "--config-file", filepath.Join(n.dir, "daemon.json"))
	// Nothing of the caller's: a proxy's address, for one, would be used for pulls.
	cmd.Env = []string{"PATH=" + systemPath, "HOME=/run"}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s's engine: %w", n.Name, err)
	}
	ended := make(chan struct{})
	l.children.Go(func() { defer close(ended); _ = cmd.Wait() })
	return n.await(ctx, ended)
}

// await waits until the engine answers, or has ended.
func (n *Node) await(ctx context.Context, ended <-chan struct{}) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	answered := make(chan struct{})
	defer close(answered)
	go func() {
		select {
		case <-ended:
			cancel(errors.New("it ended"))
		case <-answered:
		}
	}()
	c := n.engine()
	err := wait(ctx, time.Minute, n.Name+"'s engine to answer", func() error {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		if _, err := n.enginePID(); err != nil {
			return err
		}
		_, err := c.Ping(ctx)
		return err
	})
	if err != nil {
		return fmt.Errorf("%w (%v); the end of its log:\n%s", err, context.Cause(ctx), tail(filepath.Join(n.dir, "dockerd.log"), 15))
	}
	return nil
}

// StopEngine ends node i's dockerd in good order, as a service manager would: its
// containers stop with it.
func (l *Lab) StopEngine(ctx context.Context, i int) error {
	return l.signalEngine(ctx, i, syscall.SIGTERM)
}

// KillEngine kills node i's dockerd at once. Its containers run on, without
// anybody who watches them, until StartEngine's new one ends them.
func (l *Lab) KillEngine(ctx context.Context, i int) error {
	return l.signalEngine(ctx, i, syscall.SIGKILL)
}

// Crash kills node i's dockerd and everything that it started, at once, as a power
// cut would. StartEngine is the boot after it.
func (l *Lab) Crash(ctx context.Context, i int) error {
	n := l.Nodes[i]
	n.mu.Lock()
	defer n.mu.Unlock()
	return wait(ctx, time.Minute, n.Name+" to crash", func() error {
		left, err := n.processes()
		if err != nil || len(left) == 0 {
			return err
		}
		kill := append([]string{"-c", "kill -KILL \"$@\" 2>/dev/null", "kill"}, left...)
		_ = l.Shell(ctx, i, "sh", kill...).Run() // some ended before it came to them
		return fmt.Errorf("%d processes are left", len(left))
	})
}

// processes lists what runs on the host, as the host counts, but what holds it.
func (n *Node) processes() ([]string, error) {
	dirs, err := filepath.Glob(fmt.Sprintf("/proc/%d/root/proc/[0-9]*", n.PID))
	if err != nil {
		return nil, fmt.Errorf("list the processes of %s: %w", n.Name, err)
	}
	var found []string
	for _, dir := range dirs {
		if pid := filepath.Base(dir); pid != "1" && pid != n.keeper {
			found = append(found, pid)
		}
	}
	return found, nil
}

func (l *Lab) signalEngine(ctx context.Context, i int, sig syscall.Signal) error {
	n := l.Nodes[i]
	n.mu.Lock()
	defer n.mu.Unlock()
	pid, err := n.enginePID()
	if err != nil {
		return nil // none runs
	}
	p, err := lookup(pid)
	if err != nil {
		return nil
	}
	if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("stop %s's engine: %w", n.Name, err)
	}
	return wait(ctx, time.Minute, n.Name+"'s engine to end", func() error {
		if p.alive() {
			return fmt.Errorf("process %d still runs", pid)
		}
		return nil
	})
}

// EnginePID returns the process of node i's dockerd, as this machine counts; an
// error where none runs.
func (l *Lab) EnginePID(i int) (int, error) { return l.Nodes[i].enginePID() }

func (n *Node) enginePID() (int, error) {
	b, err := os.ReadFile(n.pidfile())
	if err != nil {
		return 0, fmt.Errorf("find %s's engine: %w", n.Name, err)
	}
	inner, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0, fmt.Errorf("find %s's engine: %w", n.Name, err)
	}
	return n.outer(inner)
}

// outer returns the number that this machine knows a process of the host by.
func (n *Node) outer(inner int) (int, error) {
	ns, err := namespace(n.PID, "pid")
	if err != nil {
		return 0, fmt.Errorf("%s does not run: %w", n.Name, err)
	}
	all, err := pids()
	if err != nil {
		return 0, fmt.Errorf("list processes: %w", err)
	}
	for _, pid := range all {
		if its, err := namespace(pid, "pid"); err != nil || its != ns {
			continue
		}
		if _, err := lookup(pid); err != nil { // a zombie
			continue
		}
		if numbers := statusField(pid, "NSpid:"); len(numbers) > 0 && numbers[len(numbers)-1] == strconv.Itoa(inner) {
			return pid, nil
		}
	}
	return 0, fmt.Errorf("%s has no process %d: %w", n.Name, inner, os.ErrProcessDone)
}

// statusField returns the values of a line in /proc/<pid>/status.
func statusField(pid int, name string) []string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			return strings.Fields(rest)
		}
	}
	return nil
}

// tail returns the last n lines of a file, or why it cannot be read.
func tail(file string, n int) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(b), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-n):], []byte("\n")))
}
