package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"github.com/skep-io/skep/e2e/faults"
	"github.com/skep-io/skep/e2e/lab/swarmlab"
	"github.com/skep-io/skep/reconcile"
)

// rigQuiet is how long nothing may be written when all is well again.
const rigQuiet = 30 * time.Second

// A rig is a daemon that reaches an engine through a proxy, which does to it what an
// ordeal asks for. Rigs share a Swarm that is theirs to break: each has an owner of its
// own, or is one of several controllers of an owner.
type rig struct {
	t     *testing.T
	lab   *swarmlab.Lab
	owner string
	node  int // whose engine the daemon speaks to
	eye   int // whose engine the test asks
	proxy *faults.Proxy
	specs string
	flags []string // more of them for the daemon
	log   *logbook

	killing sync.Mutex // one at a time kills the daemon and starts another one
	mu      sync.Mutex
	skep    *process
	addr    string
	// What it took when all was well for the first time.
	goroutines, memory float64
}

// breakable is a Swarm of three managers for rigs.
func breakable(t *testing.T) *swarmlab.Lab {
	t.Helper()
	l := swarmlab.ForTest(t, swarmlab.Options{Managers: 3})
	img, err := l.Web(t.Context(), "app:1.0", "APP_VERSION=v1.0")
	if err == nil {
		err = l.LoadImage(t.Context(), img)
	}
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// newRig starts a daemon beside a node, on a directory of its own, or on specs.
func newRig(t *testing.T, l *swarmlab.Lab, owner string, node int, specs string, flags ...string) *rig {
	t.Helper()
	r := &rig{t: t, lab: l, owner: owner, node: node, eye: 1, specs: specs, flags: flags, log: &logbook{}}
	if specs == "" {
		r.specs = t.TempDir()
	}
	var err error
	if r.proxy, err = faults.Listen(faults.Options{Engine: l.DockerHost(node)}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.proxy.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the log of skep at node%d, owner %s:\n%s", r.node+1, owner, r.log)
		}
	})
	r.start()
	t.Cleanup(func() { r.signal(syscall.SIGKILL) })
	return r
}

// start starts the daemon: this binary under another hat, as startSkep has it.
func (r *rig) start() {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Error(err)
		return
	}
	addr := free.Addr().String()
	_ = free.Close()
	p, err := launch(r.lab, r.log, append([]string{"run", "--host", r.proxy.Host(), "--specs", r.specs, "--owner", r.owner,
		"--listen", addr, "--log-format", "json", "--resync", "10s"}, r.flags...)...)
	if err != nil {
		r.t.Error(err)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.skep, r.addr = p, addr
}

// signal sends one to the daemon and waits for its end.
func (r *rig) signal(sig syscall.Signal) { r.process().signal(sig) }

func (r *rig) process() *process {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.skep
}

// dies kills the daemon and starts another one.
func (r *rig) dies() { r.ends(syscall.SIGKILL) }

// ends is dies by another signal.
func (r *rig) ends(sig syscall.Signal) {
	r.killing.Lock()
	defer r.killing.Unlock()
	r.signal(sig)
	r.start()
}

// beside has the daemon speak to another node's engine from now on.
func (r *rig) beside(node int) {
	if err := r.proxy.Lead(r.lab.DockerHost(node)); err != nil {
		r.t.Error(err)
	}
	r.node = node
	r.proxy.CutStreams()
}

// get asks the daemon's own address; code 0 is no answer.
func (r *rig) get(path string) (code int, text string) {
	r.mu.Lock()
	addr := r.addr
	r.mu.Unlock()
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + addr + path)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	leaked.Look("the daemon's "+path, body)
	return resp.StatusCode, strings.TrimSpace(string(body))
}

// metric is the sum of a metric of the daemon's, by its name.
func (r *rig) metric(name string) float64 {
	_, text := r.get("/metrics")
	sum := 0.0
	for line := range strings.Lines(text) {
		series, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		series, _, _ = strings.Cut(series, "{")
		if v, err := strconv.ParseFloat(value, 64); err == nil && series == name {
			sum += v
		}
	}
	return sum
}

// measure notes what the daemon takes now that all is well.
func (r *rig) measure() {
	r.goroutines, r.memory = r.metric("go_goroutines"), r.metric("process_resident_memory_bytes")
}

// idle waits until nothing was asked of the engine for so long.
func (r *rig) idle(d time.Duration) bool {
	n, since := -1, time.Now()
	return until(r.t, 30*time.Second, "the daemon has nothing to ask", func() error {
		if now := len(r.proxy.Recorded()); now != n {
			n, since = now, time.Now()
		}
		if time.Since(since) < d {
			return errors.New("it has")
		}
		return nil
	})
}

// reconciler is the part of skep that a verb of the command line asks, about the rig's
// stacks.
func (r *rig) reconciler(verb string) *reconcile.Reconciler {
	return reconcile.New(reconcile.Options{Swarm: skepClient(r.lab, r.eye, verb), Owner: r.owner})
}

// own says that a write is one that a daemon makes of itself when nothing happens.
func own(q faults.Request) bool {
	return strings.HasPrefix(q.Object, "skep-lease-") || strings.HasPrefix(q.Object, "skep-report-")
}

// rest says of rigs for which all is well again that nothing is written for a while,
// that their daemons take no more than they did, and that they stop as they should.
func rest(t *testing.T, rigs ...*rig) {
	t.Helper()
	for _, r := range rigs {
		r.proxy.Clear()
		r.proxy.Forget()
	}
	timer := time.NewTimer(rigQuiet)
	defer timer.Stop()
	<-timer.C
	for _, r := range rigs {
		for _, q := range r.proxy.Writes() {
			if !own(q) {
				t.Errorf("%s: written in a steady state: %+v", r.owner, q)
			}
		}
		if now := r.metric("go_goroutines"); r.goroutines > 0 && (now == 0 || now > r.goroutines+20) {
			t.Errorf("%s: %.0f goroutines, and there were %.0f", r.owner, now, r.goroutines)
		}
		if now := r.metric("process_resident_memory_bytes"); r.memory > 0 && now > 1.5*r.memory+64<<20 {
			t.Errorf("%s: %.0f MB, and it was %.0f", r.owner, now/1e6, r.memory/1e6)
		}
	}
	for _, r := range rigs {
		stop := time.Now()
		r.signal(syscall.SIGTERM)
		if took, code := time.Since(stop), r.process().cmd.ProcessState.ExitCode(); took > 5*time.Second || code != 0 {
			t.Errorf("%s: it stopped after %s with %d", r.owner, took, code)
		}
		for _, bad := range []string{"DATA RACE", "panic:", `"level":"panic"`} {
			if bytes.Contains([]byte(r.log.String()), []byte(bad)) {
				t.Errorf("%s: its log has %q", r.owner, bad)
			}
		}
	}
}

// each does f to all at once.
func each[T any](all []T, f func(T)) {
	var wg sync.WaitGroup
	for _, one := range all {
		wg.Go(func() { f(one) })
	}
	wg.Wait()
}

// indices are those of a slice.
func indices[T any](all []T) []int {
	var is []int
	for i := range all {
		is = append(is, i)
	}
	return is
}

// until is await for what runs beside the test: it fails the test and goes on.
func until(t *testing.T, limit time.Duration, what string, f func() error) bool {
	t.Helper()
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return true
		}
		select {
		case <-deadline.C:
			t.Errorf("%s: not within %s: %v", what, limit, err)
			return false
		case <-tick.C:
		}
	}
}

// leaderOf is the node that leads, as another one sees it.
func leaderOf(ctx context.Context, l *swarmlab.Lab, eye int) (int, error) {
	nodes, err := l.Client(eye).NodeList(ctx, swarm.NodeListOptions{})
	if err != nil {
		return 0, fmt.Errorf("ask who leads: %w", err)
	}
	i := slices.IndexFunc(l.Nodes, func(own *swarmlab.Node) bool {
		return slices.ContainsFunc(nodes, func(n swarm.Node) bool {
			return n.Description.Hostname == own.Name && n.ManagerStatus != nil && n.ManagerStatus.Leader
		})
	})
	if i < 0 {
		return 0, errors.New("nobody leads")
	}
	return i, nil
}
