package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/swarm"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/skep-io/skep/controller"
	"github.com/skep-io/skep/spec"
)

// patience is how far apart two scans have to be.
const patience = 2 * time.Second

// A sourceRig is a daemon on a directory that is done all sorts of things to. Its faults
// can be repeated as often as one likes: each leaves the rig as it found it.
type sourceRig struct {
	t     *testing.T
	owner string
	size  int    // so many small stacks
	base  string // holds the directory, by the name of specs
	addr  string
}

func newSourceRig(t *testing.T, owner string, size int) *sourceRig {
	t.Helper()
	r := &sourceRig{t: t, owner: owner, size: size, base: t.TempDir()}
	r.fill()
	for i := range r.size {
		cleanUp(t, r.stack(i))
	}
	ctx, cancel := context.WithCancel(context.Background())
	done, listening, log := make(chan error, 1), make(chan net.Addr, 1), &logbook{}
	go func() {
		done <- controller.Run(ctx, controller.Config{
			Specs: r.specs(), Owner: r.owner, Client: lab.Client(0), PruneStacks: true, Resync: 5 * time.Second, VanishAfter: patience,
			Listen: "127.0.0.1:0", Listening: func(a net.Addr) { listening <- a }, Registry: prometheus.NewRegistry(), Logger: log.logger(),
		})
	}()
	var once sync.Once
	t.Cleanup(func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("the daemon ended with %v", err)
			}
			if t.Failed() {
				t.Logf("the daemon's log:\n%s", log)
			}
		})
	})
	r.addr = (<-listening).String()
	r.settled(r.size)
	return r
}

func (r *sourceRig) specs() string      { return filepath.Join(r.base, "specs") }
func (r *sourceRig) stack(i int) string { return fmt.Sprintf("%s-%d", r.owner, i) }
func (r *sourceRig) file(i int) string  { return filepath.Join(r.specs(), r.stack(i)+".yml") }
func (r *sourceRig) text() string {
	return "services:\n  web: {image: app:1.0}\nx-skep: {rollout: {bake: 0s}}\n"
}
func (r *sourceRig) must(errs ...error) {
	r.t.Helper()
	if err := errors.Join(errs...); err != nil {
		r.t.Fatal(err)
	}
}

// fill puts all files where they belong.
func (r *sourceRig) fill() {
	r.t.Helper()
	r.must(os.MkdirAll(r.specs(), 0o755))
	for i := range r.size {
		r.must(os.WriteFile(r.file(i), []byte(r.text()), 0o644))
	}
}

// lives are the services of the rig's stacks, with their IDs.
func (r *sourceRig) lives() map[string]string {
	r.t.Helper()
	list, err := lab.Client(1).ServiceList(r.t.Context(), swarm.ServiceListOptions{Filters: filters.NewArgs(filters.Arg("label", "skep.owner="+r.owner))})
	r.must(err)
	ids := map[string]string{}
	for _, s := range list {
		ids[s.Spec.Name] = fmt.Sprint(s.ID, " ", s.Version.Index)
	}
	return ids
}

// withoutTasks are the services that have not all tasks running yet.
func (r *sourceRig) withoutTasks() (names []string) {
	r.t.Helper()
	list, err := lab.Client(1).ServiceList(r.t.Context(), swarm.ServiceListOptions{Status: true, Filters: filters.NewArgs(filters.Arg("label", "skep.owner="+r.owner))})
	r.must(err)
	for _, s := range list {
		if st := s.ServiceStatus; st == nil || st.DesiredTasks == 0 || st.RunningTasks < st.DesiredTasks {
			names = append(names, s.Spec.Name)
		}
	}
	return names
}

func (r *sourceRig) code(path string) int {
	r.t.Helper()
	resp, err := http.Get("http://" + r.addr + path)
	r.must(err)
	r.must(resp.Body.Close())
	return resp.StatusCode
}

func (r *sourceRig) published() *controller.Published {
	r.t.Helper()
	p, err := controller.ReadPublished(r.t.Context(), lab.Client(1), r.owner)
	r.must(err)
	return p
}

// settled waits until n stacks live, with their tasks, ready, and nothing is the matter:
// until its tasks are there an engine moves a service's Version by itself.
func (r *sourceRig) settled(n int) {
	r.t.Helper()
	await(r.t, time.Minute, fmt.Sprintf("%d stacks live", n), func() error {
		if got := len(r.lives()); got != n {
			return fmt.Errorf("%d do", got)
		}
		if waiting := r.withoutTasks(); len(waiting) > 0 {
			return fmt.Errorf("no task runs of %v", waiting)
		}
		if got := r.code("/readyz"); got != http.StatusOK {
			return fmt.Errorf("/readyz says %d", got)
		}
		if p := r.published(); p != nil && (!p.Source.Ready || p.Prune != nil) {
			return fmt.Errorf("published: %+v", p)
		}
		return nil
	})
}

// A sourceFault makes a directory lie, and mends it.
type sourceFault struct {
	name   string
	reason string // that is told
	do     func(*sourceRig)
	undo   func(*sourceRig)
}

func away(r *sourceRig) string { return filepath.Join(r.base, "away") }

func takeAway(r *sourceRig) { r.t.Helper(); r.must(os.Rename(r.specs(), away(r))) }

func bringBack(r *sourceRig) {
	r.t.Helper()
	r.must(os.RemoveAll(r.specs()), os.Rename(away(r), r.specs()))
}

var sourceFaults = []sourceFault{
	{"missing", spec.SourceMissing, takeAway, bringBack},
	{"empty", spec.SourceEmpty, func(r *sourceRig) { takeAway(r); r.must(os.Mkdir(r.specs(), 0o755)) }, bringBack},
	{"a file", spec.SourceNoDirectory, func(r *sourceRig) { takeAway(r); r.must(os.WriteFile(r.specs(), nil, 0o644)) }, bringBack},
	{"a dangling link", spec.SourceDangling, func(r *sourceRig) { takeAway(r); r.must(os.Symlink("nowhere", r.specs())) }, bringBack},
	{"a link in a circle", spec.SourceUnreadable, func(r *sourceRig) { takeAway(r); r.must(os.Symlink("specs", r.specs())) }, bringBack},
	{"git at work", spec.SourceMoving, func(r *sourceRig) {
		r.must(os.Mkdir(filepath.Join(r.specs(), ".git"), 0o755), os.WriteFile(filepath.Join(r.specs(), ".git", "index.lock"), nil, 0o644))
		for i := range 4 {
			r.must(os.Remove(r.file(i)))
		}
	}, func(r *sourceRig) { r.fill(); r.must(os.RemoveAll(filepath.Join(r.specs(), ".git"))) }},
}

// lies has the directory lie, and looks that this is told and does nothing.
func (r *sourceRig) lies(f sourceFault) {
	r.t.Helper()
	before := r.lives()
	f.do(r)
	await(r.t, 30*time.Second, f.name+" is told", func() error {
		if p := r.published(); p == nil || p.Source.Reason != f.reason {
			return fmt.Errorf("published: %+v", p)
		}
		if ready, healthy := r.code("/readyz"), r.code("/healthz"); ready == http.StatusOK || healthy != http.StatusOK {
			return fmt.Errorf("/readyz says %d, /healthz %d", ready, healthy)
		}
		return nil
	})
	always(r.t, 3*patience, f.name+" changes nothing", func() error {
		if now := r.lives(); !maps.Equal(now, before) {
			return fmt.Errorf("%v, and it was %v", now, before)
		}
		return nil
	})
	f.undo(r)
	r.settled(r.size)
	if now := r.lives(); !maps.Equal(now, before) {
		r.t.Errorf("%s: afterwards %v, and it was %v", f.name, now, before)
	}
}

// vanish takes n stacks' files away: what is too much waits until it is confirmed.
func (r *sourceRig) vanish(n int) {
	r.t.Helper()
	if n == r.size { // a directory without a stack is not believed at all
		r.must(os.WriteFile(filepath.Join(r.specs(), "broken-off.yml"), []byte("x-skep: {suspend: true}\n"+r.text()[:strings.Index(r.text(), "x-skep")]), 0o644))
		defer func() { r.must(os.RemoveAll(filepath.Join(r.specs(), "broken-off.yml"))) }()
	}
	for i := range n {
		r.must(os.Remove(r.file(i)))
	}
	if n > 1 && 3*n > r.size {
		var id string
		await(r.t, 30*time.Second, fmt.Sprintf("the removal of %d waits", n), func() error {
			p := r.published()
			if p == nil || p.Prune == nil || len(p.Prune.Names) != n {
				return fmt.Errorf("published: %+v", p)
			}
			id = p.Prune.ID
			return nil
		})
		always(r.t, 2*patience, "nothing is removed unasked", func() error {
			if got := len(r.lives()); got != r.size {
				return fmt.Errorf("%d are left", got)
			}
			return nil
		})
		_, err := controller.ConfirmPrune(r.t.Context(), lab.Client(1), r.owner, id)
		r.must(err)
	}
	await(r.t, time.Minute, fmt.Sprintf("%d are gone", n), func() error {
		want := []string{}
		for i := n; i < r.size; i++ {
			want = append(want, r.stack(i)+"_web")
		}
		if got := slices.Sorted(maps.Keys(r.lives())); !slices.Equal(got, want) {
			return fmt.Errorf("left are %v", got)
		}
		return nil
	})
	r.fill()
	r.settled(r.size)
}

// TestSources has directories of six stacks lie in every way, and lose stacks in several
// sizes: what takes its time is to see that nothing happens.
func TestSources(t *testing.T) {
	t.Parallel()
	half := len(sourceFaults) / 2
	each([]func(){
		func() { sourceLane(t, "source-a", sourceFaults[:half], nil) },
		func() { sourceLane(t, "source-b", sourceFaults[half:], nil) },
		func() { sourceLane(t, "source-c", nil, []int{1, 2, 3, 6}) },
	}, func(f func()) { f() })
}

func sourceLane(t *testing.T, owner string, lies []sourceFault, vanish []int) {
	t.Run(owner, func(t *testing.T) {
		r := newSourceRig(t, owner, 6)
		for _, f := range lies {
			r.lies(f)
		}
		for _, n := range vanish {
			r.vanish(n)
		}
	})
}
