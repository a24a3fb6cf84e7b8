//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A daemon is `skep run` as a process, watched from outside: by its metrics and by
// what the kernel knows of it.
type daemon struct {
	cmd   *exec.Cmd
	url   string
	log   string // a file
	began time.Time
	ended chan struct{}
	err   error // how it ended; valid when ended is closed
}

// startDaemon starts skep on a source.
func (b *bench) startDaemon(ctx context.Context, s *source) (*daemon, error) {
	d := &daemon{log: filepath.Join(b.dir, "skep.log"), ended: make(chan struct{})}
	log, err := os.Create(d.log)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	// Port 0 would leave it to skep where it listens, and it tells only in its log.
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	d.url = "http://" + address + "/metrics"
	d.cmd = exec.CommandContext(ctx, b.skep, "run", "--specs", s.dir, "--owner", owner, "--listen", address, "--log-format", "json")
	d.cmd.Env = b.lab.Env(0)
	d.cmd.Stdout, d.cmd.Stderr = log, log
	d.cmd.Cancel = func() error { return d.cmd.Process.Signal(syscall.SIGTERM) }
	d.cmd.WaitDelay = 15 * time.Second
	d.began = time.Now()
	if err := d.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start skep: %w", err)
	}
	go func() {
		defer close(d.ended)
		d.err = d.cmd.Wait()
	}()
	return d, nil
}

// stop ends it in good order.
func (d *daemon) stop() error {
	_ = d.cmd.Process.Signal(syscall.SIGTERM) // where it ended already, it says how
	<-d.ended
	if d.err != nil {
		return fmt.Errorf("skep run: %w; the end of its log:\n%s", d.err, d.tail())
	}
	return nil
}

func (d *daemon) tail() string {
	b, _ := os.ReadFile(d.log)
	return string(b[max(0, len(b)-4000):])
}

// counts are the daemon's metrics at one moment.
type counts map[string]float64

// metrics reads the daemon's metrics: a series by its name and labels as written.
func (d *daemon) metrics(ctx context.Context) (counts, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return readMetrics(bufio.NewScanner(resp.Body))
}

func readMetrics(lines *bufio.Scanner) (counts, error) {
	c := counts{}
	for lines.Scan() {
		series, value, ok := cutLast(lines.Text(), " ")
		if !ok || strings.HasPrefix(series, "#") {
			continue
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return nil, fmt.Errorf("read metrics: %w", err)
		}
		c[series] = v
	}
	return c, lines.Err()
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// sum adds up the series that have all of these in them.
func (c counts) sum(parts ...string) float64 {
	total := 0.0
series:
	for series, v := range c {
		for _, p := range parts {
			if !strings.Contains(series, p) {
				continue series
			}
		}
		total += v
	}
	return total
}

// requests counts those to the engine; writes among them those that change it.
func (c counts) requests() (all, writes float64) {
	all = c.sum("skep_docker_requests_total{")
	for _, verb := range []string{"Create", "Update", "Remove"} {
		writes += c.sum("skep_docker_requests_total{", verb+`"`)
	}
	return all, writes
}

// awaitReady waits until all stacks are Ready.
func (d *daemon) awaitReady(ctx context.Context, stacks int) error {
	return d.await(ctx, 15*time.Minute, "all stacks to be Ready", func(c counts) error {
		if n := c.sum("skep_stack_condition{", `condition="Ready"`); int(n) != stacks {
			return fmt.Errorf("%d of %d are", int(n), stacks)
		}
		return nil
	})
}

// awaitQuiet waits until the daemon has asked nothing of the engine for a while.
func (d *daemon) awaitQuiet(ctx context.Context) error {
	const quiet = 8 * time.Second
	last, since := -1.0, time.Now()
	return d.await(ctx, 5*time.Minute, "the daemon to have nothing to do", func(c counts) error {
		if all, _ := c.requests(); all != last {
			last, since = all, time.Now()
		}
		if time.Since(since) < quiet {
			return errors.New("it asks the engine")
		}
		return nil
	})
}

// await reads the metrics until they are as f wants them.
func (d *daemon) await(ctx context.Context, limit time.Duration, what string, f func(counts) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		c, err := d.metrics(ctx)
		if err == nil {
			err = f(c)
		}
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-d.ended:
			return fmt.Errorf("skep run ended: %v; the end of its log:\n%s", d.err, d.tail())
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w; the end of the daemon's log:\n%s", what, err, d.tail())
		}
	}
}

// memory is what the daemon holds resident now, and held at most, in bytes.
func (d *daemon) memory() (now, most int64, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid))
	if err != nil {
		return 0, 0, err
	}
	return statusBytes(string(b), "VmRSS"), statusBytes(string(b), "VmHWM"), nil
}

// statusBytes reads a line such as "VmRSS:  1234 kB".
func statusBytes(status, key string) int64 {
	for line := range strings.Lines(status) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == key+":" {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			return n << 10
		}
	}
	return 0
}

// cpu is the time that the daemon has spent computing, itself and in the kernel.
func (d *daemon) cpu() (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", d.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	return statCPU(string(b))
}

// clockTick is the kernel's unit in /proc, the same on all of today's machines.
const clockTick = 10 * time.Millisecond

// statCPU adds up fields 14 and 15 of /proc/PID/stat. Field 2 is the program's name
// in parentheses, with whatever is in it.
func statCPU(stat string) (time.Duration, error) {
	_, rest, ok := cutLast(stat, ")")
	f := strings.Fields(rest)
	if !ok || len(f) < 13 {
		return 0, fmt.Errorf("read CPU time: unexpected %q", stat)
	}
	user, err1 := strconv.ParseInt(f[11], 10, 64)
	system, err2 := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * clockTick, errors.Join(err1, err2)
}
