package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"

	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
)

const victimReplicas = 2

// A victim is a stack of a rig: a service, a config and a secret, and for a while a
// second service with a network.
type victim struct {
	*rig
	name     string
	age      int         // of the file: how often it changed its config, secret and tasks
	more     bool        // the file has the second service
	runs     int         // the age that is to run; another one than the file's after a rollback
	releases int         // how many there are to be
	due      map[int]int // how many tasks of each age there have to have been
	id       string      // of its service, once it is there
	// moved says that a manager was lost: Swarm itself has made tasks anew.
	moved bool
}

func (r *rig) victims(names ...string) []*victim {
	var all []*victim
	for _, n := range names {
		all = append(all, &victim{rig: r, name: n, due: map[int]int{}})
	}
	return all
}

// change gives the stack's file its next version: a new config and a new secret, and new
// tasks that have both.
func (v *victim) change() {
	v.age++
	v.releases++
	v.runs = v.age
	v.due[v.age] = victimReplicas
	v.write()
}

// grow and shrink give the file its second service, and take it away.
func (v *victim) grow()   { v.more = true; v.releases++; v.write() }
func (v *victim) shrink() { v.more = false; v.releases++; v.write() }

// back has somebody ask for the release before.
func (v *victim) back() {
	v.runs--
	v.releases++
	v.due[v.runs] += victimReplicas
	if _, err := v.reconciler("rollback").RequestRollback(v.t.Context(), v.name, reconcile.Any); err != nil {
		v.t.Errorf("ask for a rollback of %s: %v", v.name, err)
	}
}

func (v *victim) write() {
	side, nets := "", ""
	if v.more {
		side, nets = "  side: {image: app:1.0, networks: [net], deploy: {replicas: 0}}\n", "networks: {net: {}}\n"
	}
	text := fmt.Sprintf(`x-skep: {images: as-written, rollout: {bake: 1s, guard: 0s}}
services:
  web:
    image: app:1.0
    environment: {GENERATION: "%d"}
    configs: [conf]
    secrets: [key]
    stop_grace_period: 1s
    deploy: {replicas: %d, update_config: {parallelism: 0, monitor: 1s}}
%sconfigs:
  conf: {file: ./%s/conf}
secrets:
  key: {file: ./%s/key}
%s`, v.age, victimReplicas, side, v.name, v.name, nets)
	dir := filepath.Join(v.specs, v.name)
	err := os.MkdirAll(dir, 0o755)
	for file, content := range map[string]string{"conf": "conf", "key": "key"} {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, file), fmt.Appendf(nil, "%s %d\n", content, v.age), 0o644))
	}
	if err = errors.Join(err, replaceFile(filepath.Join(v.specs, v.name+".yml"), text)); err != nil {
		v.t.Errorf("change %s: %v", v.name, err)
	}
}

// replaceFile writes a file in one step.
func replaceFile(file, text string) error {
	tmp := filepath.Join(filepath.Dir(file), "."+filepath.Base(file)+".tmp")
	return errors.Join(os.WriteFile(tmp, []byte(text), 0o644), os.Rename(tmp, file))
}

// amiss is nil when all is as it should be: what is to run runs and is healthy, no task
// was replaced twice, the service is the one that it ever was, and the Swarm has just
// the objects that the file and the releases name.
func (v *victim) amiss(ctx context.Context) error {
	if err := v.unready(ctx); err != nil {
		return err
	}
	if err := v.tasksAmiss(ctx); err != nil {
		return err
	}
	return v.objectsAmiss(ctx)
}

func (v *victim) unready(ctx context.Context) error {
	res, err := v.reconciler("status").Status(ctx, v.name)
	switch {
	case err != nil:
		return err
	case res.Release == nil:
		return errors.New("no release yet")
	case res.Release.Number != v.releases || string(res.Release.Phase) != "Healthy" || !ready(res):
		return fmt.Errorf("release %d of %d is %s: %s", res.Release.Number, v.releases, res.Release.Phase, res.Message)
	}
	return nil
}

func (v *victim) tasksAmiss(ctx context.Context) error {
	tasks, err := v.lab.Client(v.eye).TaskList(ctx, swarm.TaskListOptions{Filters: filters.NewArgs(filters.Arg("service", v.name+"_web"))})
	if err != nil {
		return fmt.Errorf("list the tasks of %s: %w", v.name, err)
	}
	up, made := map[int]bool{}, map[int]int{} // slots: where its leader changes in the middle of an update, Swarm may run two tasks in one
	for _, t := range tasks {
		age := generation(t)
		made[age]++
		if t.DesiredState == swarm.TaskStateRunning && t.Status.State == swarm.TaskStateRunning {
			up[t.Slot] = true
			if age != v.runs {
				return fmt.Errorf("a task of version %d runs, want %d", age, v.runs)
			}
		}
	}
	switch {
	case len(up) != victimReplicas:
		return fmt.Errorf("%d slots run", len(up))
	case !v.moved && made[v.runs] != v.due[v.runs]:
		return fmt.Errorf("%d tasks of version %d were made, %d are due", made[v.runs], v.runs, v.due[v.runs])
	}
	return nil
}

func generation(t swarm.Task) int {
	for _, kv := range t.Spec.ContainerSpec.Env {
		if n, ok := strings.CutPrefix(kv, "GENERATION="); ok {
			age, _ := strconv.Atoi(n)
			return age
		}
	}
	return -1
}

// objectsAmiss counts what there is of each kind: a config and a secret for each
// version, as every release is kept.
func (v *victim) objectsAmiss(ctx context.Context) error {
	of := filters.NewArgs(filters.Arg("label", spec.LabelNamespace+"="+v.name))
	eye := v.lab.Client(v.eye)
	services, err := eye.ServiceList(ctx, swarm.ServiceListOptions{Filters: of})
	configs, err2 := eye.ConfigList(ctx, swarm.ConfigListOptions{})
	secrets, err3 := eye.SecretList(ctx, swarm.SecretListOptions{Filters: of})
	networks, err4 := eye.NetworkList(ctx, network.ListOptions{Filters: of})
	if err := errors.Join(err, err2, err3, err4); err != nil {
		return err
	}
	got := map[string]int{"services": len(services), "secrets": len(secrets), "networks": len(networks)}
	for _, c := range configs {
		switch {
		case c.Spec.Labels[spec.LabelNamespace] == v.name:
			got["configs"]++
		case strings.HasPrefix(c.Spec.Name, "skep-release-"+v.name+"-"):
			got["releases"]++
			if c.Spec.Labels["skep.corrected"] != "" {
				return fmt.Errorf("a correction of %s is under way", v.name)
			}
		}
	}
	both := 1
	if v.more {
		both = 2
	}
	if want := map[string]int{"services": both, "networks": both, "configs": v.age, "secrets": v.age, "releases": v.releases}; !maps.Equal(got, want) {
		return fmt.Errorf("there are %v, want %v", got, want)
	}
	for _, s := range services {
		switch {
		case s.Spec.Name != v.name+"_web":
		case v.id == "":
			v.id = s.ID
		case v.id != s.ID:
			return fmt.Errorf("its service was removed and made anew")
		}
	}
	return nil
}

// survives waits until nothing is amiss with the stack any more.
func (v *victim) survives(limit time.Duration) {
	ctx, cancel := context.WithTimeout(v.t.Context(), limit+10*time.Second)
	defer cancel()
	until(v.t, limit, v.name+" is well", func() error { return v.amiss(ctx) })
}

// together does something to stacks at once and waits until all have come through.
func together(all []*victim, limit time.Duration, do func(*victim)) {
	each(all, func(v *victim) {
		do(v)
		v.survives(limit)
	})
}

// wellStill says that nothing has gone amiss with stacks meanwhile.
func wellStill(all ...*victim) {
	for _, v := range all {
		if err := v.amiss(v.t.Context()); err != nil {
			v.t.Errorf("%s: %v", v.name, err)
		}
	}
}

// A point is a kind of write in what may happen to a stack.
type point struct{ deed, operation string }

func (p point) String() string { return p.deed + ", " + p.operation }

// points are twelve: of the changes of a stack, each kind of write.
var points = []point{
	{"change", "ConfigCreate"}, {"change", "SecretCreate"}, {"change", "ServiceUpdate"}, {"change", "ConfigUpdate"},
	{"create", "NetworkCreate"}, {"create", "ConfigCreate"}, {"create", "SecretCreate"}, {"create", "ServiceCreate"},
	{"prune", "ServiceRemove"}, {"prune", "NetworkRemove"},
	{"rollback", "ServiceUpdate"}, {"rollback", "ConfigUpdate"},
}

// meets is what has to have happened to a victim before a point.
func (v *victim) meets(p point) {
	steps := map[string][]func(){
		"change":   {v.change},
		"prune":    {v.change, v.grow},
		"rollback": {v.change, v.change},
	}
	for _, do := range steps[p.deed] {
		do()
		v.survives(2 * time.Minute)
	}
}

// does what a point is about.
func (v *victim) does(p point) {
	map[string]func(){"create": v.change, "change": v.change, "prune": v.shrink, "rollback": v.back}[p.deed]()
}

// byID says that what is written there is named by its ID alone.
func (p point) byID() bool { return strings.HasSuffix(p.operation, "Remove") }

// objects matches the names of what is written of a victim.
func (v *victim) objects() *regexp.Regexp {
	return regexp.MustCompile("^(" + regexp.QuoteMeta(v.name) + "_|skep-release-" + regexp.QuoteMeta(v.name) + "-)")
}
