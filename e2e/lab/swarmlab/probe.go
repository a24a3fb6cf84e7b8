//go:build linux

package swarmlab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// ProbeRate is how many requests a probe sends a second.
const ProbeRate = 25

// A ProbeResult is what a probe counted.
type ProbeResult struct {
	Requests   int
	Failed     int            // no answer within 5 s, or one that is not 200
	Unresolved int            // neither: the engine's name server was silent
	Versions   map[string]int // good answers, by the version that gave them
	Hosts      map[string]int // and by the container
	First      time.Time      // when the first request was sent
	Last       time.Time      // and the last
	LongestGap time.Duration  // the longest time between two good answers
	Errors     []string       // the first ten failures
}

// A Probe asks a URL without a pause until Stop.
type Probe struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	out    bytes.Buffer
	errOut bytes.Buffer
	ended  chan struct{}

	once   sync.Once
	result ProbeResult
	err    error
}

// Probe starts to ask url ProbeRate times a second, each request once and on a
// connection of its own, from inside the network of a running container: there
// localhost is the container, and service names and tasks.<service> are what its
// name server says. ctx is for the start alone; Stop or Down ends the probe.
func (l *Lab) Probe(ctx context.Context, node int, containerID, url string) (*Probe, error) {
	return l.ProbeAt(ctx, ProbeRate, 5*time.Second, node, containerID, url)
}

// ProbeAt is Probe with rate requests a second, of which each may take for so long: for
// where many probes run side by side, and all are slow.
func (l *Lab) ProbeAt(ctx context.Context, rate int, timeout time.Duration, node int, containerID, url string) (*Probe, error) {
	bin, err := l.apps(ctx)
	if err != nil {
		return nil, err
	}
	cmd, err := l.Inside(context.Background(), node, containerID, bin, "probe",
		"-rate", strconv.Itoa(rate), "-timeout", timeout.String(), "-dns", "127.0.0.11:53", url)
	if err != nil {
		return nil, fmt.Errorf("probe %s: %w", url, err)
	}
	p := &Probe{cmd: cmd, ended: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.errOut
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if p.stdin, err = p.cmd.StdinPipe(); err != nil { // closes when this process dies
		return nil, fmt.Errorf("probe %s: %w", url, err)
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("probe %s: %w", url, err)
	}
	go func() {
		defer close(p.ended)
		p.err = p.cmd.Wait()
	}()
	l.onDown(func() { _ = p.cmd.Process.Kill(); <-p.ended })
	return p, nil
}

// Stop ends the probe, waits for the answers that are due, and returns what it
// counted. Later calls return the same.
func (p *Probe) Stop() (ProbeResult, error) {
	p.once.Do(func() {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		<-p.ended
		p.result, p.err = p.read()
	})
	return p.result, p.err
}

func (p *Probe) read() (ProbeResult, error) {
	var r struct {
		ProbeResult
		LongestGap float64
	}
	if err := errors.Join(p.err, json.Unmarshal(p.out.Bytes(), &r)); err != nil {
		return ProbeResult{}, fmt.Errorf("probe: %w: %s", err, bytes.TrimSpace(p.errOut.Bytes()))
	}
	if r.Unresolved*5 > r.Requests {
		return r.ProbeResult, fmt.Errorf("probe: the engine's name server was silent %d of %d times: the machine is too busy to tell", r.Unresolved, r.Requests)
	}
	r.ProbeResult.LongestGap = time.Duration(r.LongestGap * float64(time.Second))
	return r.ProbeResult, nil
}

// Inside returns a command that runs in the network of a running container of node
// i, with the files and processes of this machine. The container's name server is
// at 127.0.0.11; the command's own resolv.conf is this machine's.
func (l *Lab) Inside(ctx context.Context, i int, containerID, name string, args ...string) (*exec.Cmd, error) {
	n := l.Nodes[i]
	c, err := l.Client(i).ContainerInspect(ctx, containerID)
	if err != nil {
		return nil, fmt.Errorf("find container %s on %s: %w", containerID, n.Name, err)
	}
	if c.State == nil || c.State.Pid == 0 {
		return nil, fmt.Errorf("container %s on %s does not run", containerID, n.Name)
	}
	// The container's number is the host's, and so is the /proc to look it up in.
	net := fmt.Sprintf("--net=/proc/%d/root/proc/%d/ns/net", n.PID, c.State.Pid)
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{net, "--", name}, args...)...)
	cmd.Env = withPath(cmd.Environ())
	return cmd, nil
}
