//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"sync"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"

	"github.com/skep-io/skep/controller"
	"github.com/skep-io/skep/e2e/lab/swarmlab"
	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
)

const (
	owner   = "bench"
	workers = 4 // as the daemon has by default
)

// A bench is the measuring at work.
type bench struct {
	config
	lab    *swarmlab.Lab
	engine engine
	dir    string
	log    io.Writer // what goes on, for who waits
}

// A size is what was measured with so many stacks. Slices have a value a turn.
type size struct {
	stacks, services int

	// First deployments: from the start until the engine had the last service.
	raw, skep, loop []time.Duration
	// Passes over what is as it shall be.
	list     []time.Duration // one ServiceList with status, in turns with pass
	pass     []time.Duration // a whole resync: files, Swarm, every stack
	refresh  []time.Duration // the Swarm's part of it
	scan     []time.Duration // the files' part of it
	restart  []time.Duration // the first such pass of a new process
	loopList []time.Duration // one ServiceList with status, in turns with loopPass
	loopPass []time.Duration // docker stack deploy of all stacks, which changes nothing

	changes  []time.Duration // a file's write → its service's update, as the engine tells it
	resident int64           // bytes, idle
	most     int64           // bytes, ever
	idleCPU  time.Duration
	idle     time.Duration
}

func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(b.log, "%s  "+format+"\n", append([]any{time.Now().Format("15:04:05")}, args...)...)
}

// all measures everything and prints what came of it.
func (b *bench) all(ctx context.Context, out io.Writer) error {
	main, err := b.size(ctx, b.stacks, b.rounds)
	if err != nil {
		return err
	}
	report(out, main)
	if b.steady > 0 {
		q, err := b.countRequests(ctx)
		if err != nil {
			return err
		}
		q.report(out)
	}
	if b.larger > 0 {
		larger, err := b.size(ctx, b.larger, 1)
		if err != nil {
			return err
		}
		report(out, larger)
		reportGrowth(out, main, larger)
	}
	return nil
}

// size measures with so many stacks. What is compared is measured in turns.
func (b *bench) size(ctx context.Context, stacks, rounds int) (*size, error) {
	src, err := b.source(stacks)
	if err != nil {
		return nil, err
	}
	m := &size{stacks: stacks, services: src.size()}
	for i := range rounds {
		b.say("%d stacks, round %d of %d", stacks, i+1, rounds)
		if err := b.floor(ctx, src, m); err != nil {
			return nil, fmt.Errorf("the engine by itself: %w", err)
		}
		if err := b.firstLoop(ctx, src, m); err != nil {
			return nil, err
		}
		if err := b.daemonRound(ctx, src, m, i == rounds-1); err != nil {
			return nil, err
		}
		if err := b.passRound(ctx, src, m); err != nil {
			return nil, err
		}
		if err := b.engine.clear(ctx); err != nil {
			return nil, fmt.Errorf("clear the Swarm: %w", err)
		}
	}
	if b.profiles != "" {
		return m, b.profileDeployment(ctx, src, m)
	}
	return m, nil
}

func (b *bench) source(stacks int) (*source, error) {
	dir, err := os.MkdirTemp(b.dir, "specs-")
	if err != nil {
		return nil, err
	}
	return newSource(dir, stacks, b.services)
}

// floor has the engine make all objects, and docker look at them, which are just
// what it would make.
func (b *bench) floor(ctx context.Context, src *source, m *size) error {
	desired, err := src.desired(ctx)
	if err != nil {
		return err
	}
	took, err := b.engine.create(ctx, desired)
	if err != nil {
		return err
	}
	m.raw = append(m.raw, took)
	b.say("  raw creates: %s", round(took))
	for i := range 6 {
		took, err := b.engine.listTime(ctx)
		if err != nil {
			return err
		}
		m.loopList = append(m.loopList, took)
		if i != 2 {
			continue
		}
		if took, err = b.loop(ctx, src, b.config.loop); err != nil {
			return err
		}
		m.loopPass = append(m.loopPass, took)
		b.say("  docker stack deploy over all, unchanged: %s", round(took))
	}
	return b.engine.clear(ctx)
}

// firstLoop has docker deploy what is not there yet. Where it is not given all
// stacks, that flatters it: it gets slower with what there is.
func (b *bench) firstLoop(ctx context.Context, src *source, m *size) error {
	took, err := b.loop(ctx, src, b.config.loop)
	if err != nil {
		return err
	}
	m.loop = append(m.loop, took)
	b.say("  docker stack deploy over all, first: %s", round(took))
	return b.engine.clear(ctx)
}

// daemonRound has skep deploy all from nothing, and in the last round looks at it
// for longer.
func (b *bench) daemonRound(ctx context.Context, src *source, m *size, last bool) error {
	d, err := b.startDaemon(ctx, src)
	if err != nil {
		return err
	}
	err = func() error {
		if err := d.awaitReady(ctx, m.stacks); err != nil {
			return err
		}
		took, err := b.engine.lastCreated(ctx, d.began, m.services)
		if err != nil {
			return err
		}
		m.skep = append(m.skep, took)
		b.say("  skep run, first: %s", round(took))
		if b.profiles != "" {
			if err := b.sayRequests(ctx, d); err != nil {
				return err
			}
		}
		if err := d.awaitQuiet(ctx); err != nil || !last {
			return err
		}
		if err := b.watchIdle(ctx, d, m); err != nil {
			return err
		}
		if err := b.change(ctx, d, src, m); err != nil {
			return err
		}
		return d.awaitQuiet(ctx)
	}()
	if stopErr := d.stop(); err == nil {
		err = stopErr
	}
	return err
}

// sayRequests tells what the daemon asked of the engine so far, and how long the
// answers took together.
func (b *bench) sayRequests(ctx context.Context, d *daemon) error {
	c, err := d.metrics(ctx)
	if err != nil {
		return err
	}
	for series, n := range c {
		if op, ok := label(series, "skep_docker_request_duration_seconds_count", "operation"); ok {
			total := c.sum("skep_docker_request_duration_seconds_sum{", `"`+op+`"`)
			b.say("    %4.0f %-20s %s", n, op, round(time.Duration(total*float64(time.Second))))
		}
	}
	return nil
}

// watchIdle tells what the daemon takes of the machine while nothing happens.
func (b *bench) watchIdle(ctx context.Context, d *daemon, m *size) error {
	b.say("  idle for %s", b.idle)
	before, err := d.cpu()
	if err != nil {
		return err
	}
	began := time.Now()
	if err := sleep(ctx, b.idle); err != nil {
		return err
	}
	after, err := d.cpu()
	if err != nil {
		return err
	}
	m.idle, m.idleCPU = time.Since(began), after-before
	m.resident, m.most, err = d.memory()
	b.say("  idle: %s of CPU in %s, %d MB resident (at most %d)", m.idleCPU, round(m.idle), m.resident>>20, m.most>>20)
	return err
}

// change changes one file after another, each of another stack, and takes the time
// until the engine tells that the service was updated.
func (b *bench) change(ctx context.Context, d *daemon, src *source, m *size) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	messages, errs := b.engine.Events(ctx, events.ListOptions{Filters: filters.NewArgs(
		filters.Arg("scope", "swarm"), filters.Arg("type", string(events.ServiceEventType)))})
	for i := range b.changes {
		stack := src.names[(i*7)%len(src.names)]
		service := fmt.Sprintf("%s_s00", stack)
		began := time.Now()
		if err := src.write(stack, i+1); err != nil {
			return err
		}
		limit := time.NewTimer(time.Minute)
	wait:
		for {
			select {
			case e := <-messages:
				if e.Action == events.ActionUpdate && e.Actor.Attributes["name"] == service {
					m.changes = append(m.changes, time.Unix(0, e.TimeNano).Sub(began))
					break wait
				}
			case err := <-errs:
				return fmt.Errorf("follow the engine's events: %w", err)
			case <-limit.C:
				return fmt.Errorf("%s was changed, and %s not updated within a minute; the end of the daemon's log:\n%s", stack, service, d.tail())
			}
		}
		limit.Stop()
		// The events of one change have to be over before the next one, which is
		// recognised by its service: never two changes of one stack in a row.
		if err := sleep(ctx, 300*time.Millisecond+time.Duration(i%7)*100*time.Millisecond); err != nil {
			return err
		}
	}
	b.say("  file → update: %s (median of %d)", round(median(m.changes)), len(m.changes))
	return nil
}

// passRound makes passes over what is as it shall be, in this process, as the daemon
// makes them at every resync.
func (b *bench) passRound(ctx context.Context, src *source, m *size) error {
	stopProfile, err := b.profile("passes", m.stacks)
	if err != nil {
		return err
	}
	defer stopProfile()
	p := newPasser(b.engine, src)
	first, err := p.pass(ctx)
	if err != nil {
		return err
	}
	m.restart = append(m.restart, first.all)
	for range b.passes {
		took, err := b.engine.listTime(ctx)
		if err != nil {
			return err
		}
		m.list = append(m.list, took)
		t, err := p.pass(ctx)
		if err != nil {
			return err
		}
		m.pass, m.refresh, m.scan = append(m.pass, t.all), append(m.refresh, t.refresh), append(m.scan, t.scan)
	}
	b.say("  a pass over all: %s (list %s)", round(median(m.pass)), round(median(m.list)))
	return nil
}

// A passer makes passes over all stacks of a source.
type passer struct {
	source     *source
	scanner    *spec.Scanner
	reconciler *reconcile.Reconciler
}

func newPasser(e engine, src *source) *passer {
	return &passer{
		source:     src,
		scanner:    spec.NewScanner(src.dir, spec.Options{}),
		reconciler: reconcile.New(reconcile.Options{Swarm: e, Owner: owner}),
	}
}

// passTime is how long a pass and its parts took.
type passTime struct {
	all, scan, refresh time.Duration
}

// pass reads the files, lists the Swarm and passes over every stack; nothing may
// come of it.
func (p *passer) pass(ctx context.Context) (t passTime, err error) {
	began := time.Now()
	snap, err := p.source.scan(ctx, p.scanner)
	if err != nil {
		return t, err
	}
	t.scan = time.Since(began)
	listed := time.Now()
	if _, err := p.reconciler.Refresh(ctx); err != nil {
		return t, err
	}
	t.refresh = time.Since(listed)
	results := make([]reconcile.Result, len(p.source.names))
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w; i < len(results); i += workers {
				name := p.source.names[i]
				results[i] = p.reconciler.Reconcile(ctx, reconcile.Input{Name: name, Stack: snap.Stacks[name]})
			}
		})
	}
	wg.Wait()
	t.all = time.Since(began)
	for i := range results {
		if r := &results[i]; r.Outcome != reconcile.Unchanged {
			return t, fmt.Errorf("a pass over stack %s, which is as it shall be, was %s: %s %v", r.Stack, r.Outcome, r.Message, r.Plan)
		}
	}
	return t, nil
}

// profileDeployment has skep deploy all from nothing once more, in this process, so
// that it can be profiled.
func (b *bench) profileDeployment(ctx context.Context, src *source, m *size) error {
	stopProfile, err := b.profile("deployment", m.stacks)
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	began := time.Now()
	go func() {
		ended <- controller.Run(running, controller.Config{Specs: src.dir, Client: b.engine.Client, Owner: owner})
	}()
	took, err := b.engine.awaitCreated(ctx, began, m.services)
	stopProfile()
	stop()
	if err == nil {
		b.say("  in this process: %s", round(took))
	}
	return errors.Join(err, <-ended, b.engine.clear(ctx))
}

// profile starts a CPU profile where profiles are wanted; the function it returns
// ends it, and writes what the heap holds then.
func (b *bench) profile(what string, stacks int) (stop func(), err error) {
	if b.profiles == "" {
		return func() {}, nil
	}
	base := filepath.Join(b.profiles, fmt.Sprintf("%s-%d", what, stacks))
	cpu, err := os.Create(base + ".cpu")
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(cpu); err != nil {
		return nil, err
	}
	return func() {
		pprof.StopCPUProfile()
		_ = cpu.Close()
		if heap, err := os.Create(base + ".heap"); err == nil {
			runtime.GC()
			_ = pprof.WriteHeapProfile(heap)
			_ = heap.Close()
		}
	}, nil
}

// quiet is what the daemon asked of the engine while nothing changed.
type quiet struct {
	stacks, services int
	lasted           time.Duration
	requests, writes float64
	moved            int // objects whose Version.Index is another one
	byOperation      map[string]float64
	resident, most   int64
	cpu              time.Duration
}

// countRequests watches the daemon while nothing changes.
func (b *bench) countRequests(ctx context.Context) (q *quiet, err error) {
	src, err := b.source(b.quiet)
	if err != nil {
		return nil, err
	}
	d, err := b.startDaemon(ctx, src)
	if err != nil {
		return nil, err
	}
	defer func() {
		if stopErr := d.stop(); err == nil {
			err = stopErr
		}
		if clearErr := b.engine.clear(ctx); err == nil {
			err = clearErr
		}
	}()
	if err := d.awaitReady(ctx, b.quiet); err != nil {
		return nil, err
	}
	if err := d.awaitQuiet(ctx); err != nil {
		return nil, err
	}
	b.say("%d stacks, nothing changes for %s", b.quiet, b.steady)
	q = &quiet{stacks: b.quiet, services: src.size()}
	return q, b.countQuiet(ctx, d, q)
}

func (b *bench) countQuiet(ctx context.Context, d *daemon, q *quiet) error {
	versions, err := b.engine.versions(ctx)
	if err != nil {
		return err
	}
	cpu, err := d.cpu()
	if err != nil {
		return err
	}
	before, err := d.metrics(ctx)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := sleep(ctx, b.steady); err != nil {
		return err
	}
	after, err := d.metrics(ctx)
	if err != nil {
		return err
	}
	q.lasted = time.Since(began)
	q.byOperation = map[string]float64{}
	for series, n := range after {
		if op, ok := label(series, "skep_docker_requests_total", "operation"); ok && n > before[series] {
			q.byOperation[op] += n - before[series]
		}
	}
	all, writes := after.requests()
	allBefore, writesBefore := before.requests()
	q.requests, q.writes = all-allBefore, writes-writesBefore
	now, err := b.engine.versions(ctx)
	if err != nil {
		return err
	}
	q.moved = moved(versions, now)
	if q.cpu, err = d.cpu(); err != nil {
		return err
	}
	q.cpu -= cpu
	q.resident, q.most, err = d.memory()
	return err
}

// sleep waits for d: what is measured is what happens meanwhile.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}
