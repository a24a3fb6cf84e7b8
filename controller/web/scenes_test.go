package web

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
)

// The scenes that pages are tested with: what a controller knows at a moment.

var noon = time.Date(2026, 3, 14, 12, 0, 0, 0, time.UTC)

func before(d time.Duration) time.Time { return noon.Add(-d) }

func scenes() map[string]*Snapshot {
	return map[string]*Snapshot{"fleet": fleet(), "standby": standby(), "stale": stale(), "sources": severalSources(), "empty": {Now: noon, Version: "v0.6.0", Owner: "skep", Specs: "stacks", Acts: true, Listed: noon, Revision: "4be1c07"}}
}

// base is a controller that acts, and to which nothing has happened.
func base() *Snapshot {
	return &Snapshot{Now: noon, Version: "v0.6.0", Owner: "skep", Specs: "/git/current/stacks", Acts: true, Listed: before(2 * time.Second),
		Revision: "4be1c07", Subject: "Show prices with tax"}
}

func fleet() *Snapshot {
	s := base()
	s.Stacks = []Stack{
		well("blog", 3), following("infra"), rollingOut("shop"), wentBack("search"), degraded("queue"), invalid("wiki"), blocked("mail"), suspended("stats"), unknown("new"),
	}
	for i := range 4 {
		s.Stacks = append(s.Stacks, well(fmt.Sprintf("team-%c", 'a'+i), 1+i))
	}
	s.Findings = []spec.Finding{{File: "stacks/_old", Severity: spec.Info, Code: "passed-over", Message: "names that begin with _ are passed over"}}
	return s
}

// following is a stack that a newer tag was rolled out of, and whose registry limits now.
func following(name string) Stack {
	s := well(name, 2)
	s.Glance.Releases[0].Subject = "followed app 1.6.9 → 1.7.0"
	s.Glance.Releases[0].Followed = []string{s.Glance.Releases[0].Subject}
	image := "registry.example.com/app:1.7.0@sha256:" + strings.Repeat("7", 64)
	s.Result.Followed = []reconcile.FollowStatus{{Service: "web", Name: name + "_web", Follows: "registry.example.com/app, semver ^1.6", Image: image,
		Found: reconcile.Found{Image: image, Asked: before(20 * time.Minute), Problem: "the registry registry.example.com limits how often it is asked"}}}
	return s
}

func standby() *Snapshot {
	s := base()
	s.Acts, s.Holder = false, "node2.5e0c11fa"
	shop := rollingOut("shop")
	shop.Passed = false
	s.Stacks = []Stack{well("blog", 3), shop}
	return s
}

// stale is a controller to which everything happens.
func stale() *Snapshot {
	s := base()
	s.Engine, s.EngineSince = "cannot reach the engine at unix:///var/run/docker.sock: connection refused (is docker running?)", before(4*time.Minute)
	s.Source, s.SourceReason, s.SourceSince = "open /git/current: no such file or directory", "SourceUnreadable", before(9*time.Minute)
	s.Prune = &reconcile.Blockade{ID: "3fa91c02", Names: []string{"blog", "shop", "wiki"}, Of: 5, Since: before(20 * time.Minute)}
	s.Policy = "policy.yaml:4: unknown key \"alow\" (did you mean allow?)"
	s.Listed = before(4 * time.Minute)
	s.Stacks = []Stack{well("blog", 3), degraded("queue")}
	return s
}

// severalSources is a controller of three directories, of which one may be old and one was
// never read.
func severalSources() *Snapshot {
	s := base()
	s.Specs, s.Revision, s.Subject = "infra=/srv/infra, shops=/git/shops/current/stacks, team=/srv/team", "infra=sha256:0f1e2d3c4b5a shops=4be1c07", ""
	s.Sources = []Directory{
		{Name: "infra", Dir: "/srv/infra", Revision: "sha256:0f1e2d3c4b5a", Scanned: before(20 * time.Second)},
		{Name: "shops", Dir: "/git/shops/current/stacks", Revision: "4be1c07", Subject: "Show prices with tax", Scanned: before(20 * time.Second),
			Reason: "GitUnreachable", Message: "git.example.com does not answer, the last good commit is 9 minutes old (is it up?)", Since: before(9 * time.Minute)},
		{Name: "team", Dir: "/srv/team", Reason: "SourceMissing", Message: "specs directory /srv/team does not exist", Since: before(time.Hour)},
	}
	s.Source, s.SourceReason, s.SourceSince = "source shops: git.example.com does not answer; source team: it does not exist", "GitUnreachable", before(time.Hour)
	db, shop := well("db", 2), rollingOut("shop")
	db.Source, shop.Source = "infra", "shops"
	s.Stacks = []Stack{db, shop}
	s.Findings = []spec.Finding{{Source: "infra", File: "old", Severity: spec.Warning, Code: "no-compose-file", Message: "the folder is empty"}}
	return s
}

func condition(t reconcile.ConditionType, on bool, reason, message string, since time.Duration) reconcile.Condition {
	return reconcile.Condition{Type: t, True: on, Reason: reason, Message: message, Since: before(since)}
}

// conditions has one that holds, and Ready that does not unless that is it.
func conditions(holds reconcile.ConditionType, reason, message string, since time.Duration) []reconcile.Condition {
	var out []reconcile.Condition
	for _, t := range []reconcile.ConditionType{reconcile.Ready, reconcile.Progressing, reconcile.Degraded, reconcile.Stalled} {
		c := condition(t, t == holds, "", "", since)
		if t == holds || t == reconcile.Ready {
			c.Reason, c.Message = reason, message
		}
		out = append(out, c)
	}
	return out
}

func release(n int, phase reconcile.Phase, revision, subject string, started, ended time.Duration) reconcile.ReleaseGlance {
	r := reconcile.ReleaseGlance{BackTo: -1, HistoryEntry: reconcile.HistoryEntry{Number: n, Digest: fmt.Sprintf("sha256:%064d", n), Revision: revision, Subject: subject,
		Phase: phase, Started: before(started), By: reconcile.ByFile, Seconds: (started - ended).Seconds()}}
	if phase != reconcile.PhaseProgressing {
		r.Ended = before(ended)
	}
	return r
}

// newest is the release that a result has.
func newest(r reconcile.ReleaseGlance) *reconcile.Release {
	return &reconcile.Release{Number: r.Number, Digest: r.Digest, Revision: r.Revision, Subject: r.Subject, Phase: r.Phase, Message: r.Message, Started: r.Started, Ended: r.Ended}
}

func task(id string, slot int, node, state, image string, created, since time.Duration) reconcile.TaskView {
	t := reconcile.TaskView{ID: id + "8w2k4q1z9x", Slot: slot, Node: node, State: state, Image: image, Created: before(created), Since: before(since)}
	t.Up = state == "running"
	t.Wanted = state == "running" || state == "starting" || state == "preparing" || state == "pending"
	t.Current = true
	return t
}

func service(stack, key, image string, running, desired uint64, health reconcile.HealthStatus, reason string) reconcile.ServiceStatus {
	return reconcile.ServiceStatus{Name: stack + "_" + key, Key: key, Image: image, Mode: "replicated", Running: running, Updated: running, Desired: desired, Health: health, Reason: reason}
}

func well(name string, services int) Stack {
	last := release(12, reconcile.PhaseHealthy, "a61f0d3", "Faster search", 26*time.Hour, 26*time.Hour-90*time.Second)
	last.Running, last.Message = true, "release 12 has converged"
	s := Stack{Name: name, Passed: true, HasFile: true, Glance: reconcile.Glance{At: noon, Tasks: map[string]reconcile.TaskGlance{}, Releases: []reconcile.ReleaseGlance{last}}}
	s.Result = reconcile.Result{Stack: name, Outcome: reconcile.Unchanged, Reason: "InSync", Conditions: conditions(reconcile.Ready, "InSync", "", 25*time.Hour),
		Release: newest(last), Plan: &reconcile.Plan{Stack: name}}
	for i, key := range []string{"web", "api", "worker", "db"}[:services] {
		n := uint64(1 + i*2)
		image := "registry.example.com/" + name + "-" + key + ":1.7"
		s.Result.Services = append(s.Result.Services, service(name, key, image, n, n, reconcile.Healthy, ""))
		g := reconcile.TaskGlance{At: before(time.Minute)}
		for slot := range n {
			g.Tasks = append(g.Tasks, task(fmt.Sprintf("%s%d", key, slot+1), int(slot)+1, fmt.Sprintf("node%d", slot%3+1), "running", image, 26*time.Hour, 26*time.Hour-20*time.Second))
		}
		s.Glance.Tasks[name+"_"+key] = g
	}
	return s
}

const oldImage, newImage = "registry.example.com/shop:1.8", "registry.example.com/shop:1.9"

func rollingOut(name string) Stack {
	now := release(7, reconcile.PhaseProgressing, "4be1c07", "Show prices with tax", 48*time.Second, 0)
	now.Running, now.Changed, now.Until, now.Seconds = true, []string{name + "_web"}, noon.Add(9*time.Minute+12*time.Second), 48
	was := release(6, reconcile.PhaseHealthy, "a61f0d3", "Faster search", 3*time.Hour, 3*time.Hour-91*time.Second)
	was.Message = "release 6 has converged"
	message := "release 7 (4be1c07): web: 1 of 4 tasks starting on node3: waiting for the healthcheck to pass (must be healthy within 9m12s)"
	s := Stack{Name: name, Passed: true, HasFile: true}
	s.Result = reconcile.Result{Stack: name, Outcome: reconcile.Waiting, Reason: "RollingOut", Message: message,
		Conditions: conditions(reconcile.Progressing, "RollingOut", message, 48*time.Second), Release: newest(now),
		Progress: &reconcile.Progress{Step: reconcile.StepConverge, Since: now.Started, Until: now.Until},
		Plan:     &reconcile.Plan{Stack: name}}
	web := service(name, "web", newImage, 4, 4, reconcile.HealthProgressing, "web: 1 of 4 tasks starting on node3: waiting for the healthcheck to pass")
	web.Updated, web.Code, web.Since, web.Until = 2, reconcile.CodeStarting, before(8*time.Second), noon.Add(22*time.Second)
	db := service(name, "db", "postgres:17", 1, 1, reconcile.Healthy, "")
	s.Result.Services = []reconcile.ServiceStatus{db, web}
	old := func(t reconcile.TaskView, wanted bool) reconcile.TaskView {
		t.Current, t.Wanted = false, wanted
		return t
	}
	s.Glance = reconcile.Glance{At: noon, Releases: []reconcile.ReleaseGlance{now, was}, Tasks: map[string]reconcile.TaskGlance{
		name + "_db": {At: noon, Tasks: []reconcile.TaskView{task("db1", 1, "node1", "running", "postgres:17", 50*time.Hour, 50*time.Hour)}},
		name + "_web": {At: noon, Tasks: []reconcile.TaskView{
			old(task("o1", 1, "node1", "shutdown", oldImage, 3*time.Hour, 30*time.Second), false),
			old(task("o2", 2, "node2", "shutdown", oldImage, 3*time.Hour, 10*time.Second), false),
			old(task("o3", 3, "node3", "running", oldImage, 3*time.Hour, 3*time.Hour), true),
			old(task("o4", 4, "node1", "running", oldImage, 3*time.Hour, 3*time.Hour), true),
			task("n1", 1, "node2", "running", newImage, 46*time.Second, 32*time.Second),
			task("n2", 2, "node1", "running", newImage, 28*time.Second, 12*time.Second),
			task("n3", 3, "node3", "starting", newImage, 9*time.Second, 8*time.Second),
		}},
	}}
	return s
}

func wentBack(name string) Stack {
	bad := release(9, reconcile.PhaseFailed, "9d02ff1", "Try the new index", 14*time.Minute, 14*time.Minute-38*time.Second)
	bad.Message = "index: 2 of 3 tasks failed on node1 and node2: the container ended with exit code 1 (see skep logs search)"
	bad.Changed, bad.BackAt, bad.BackTo, bad.Back = []string{name + "_index"}, before(14*time.Minute-39*time.Second), 8, true
	good := release(8, reconcile.PhaseHealthy, "07d2b9e", "Search by category", 5*time.Hour, 5*time.Hour-87*time.Second)
	good.Running, good.Message = true, "release 8 has converged"
	hand := release(7, reconcile.PhaseSuperseded, "07d2b9a", "", 6*time.Hour, 5*time.Hour)
	hand.By, hand.Of = reconcile.ByHand, new(5)
	message := "release 9 (9d02ff1) failed: " + bad.Message + "; release 8 (07d2b9e) runs until the file changes, or: skep resume " + name
	s := Stack{Name: name, Passed: true, HasFile: true}
	s.Result = reconcile.Result{Stack: name, Outcome: reconcile.Held, Reason: "ReleaseFailed", Message: message,
		Conditions: conditions(reconcile.Stalled, "ReleaseFailed", message, 13*time.Minute), Release: newest(bad), Plan: &reconcile.Plan{Stack: name},
		Services: []reconcile.ServiceStatus{service(name, "index", "index:2.0", 3, 3, reconcile.Healthy, "")}}
	at := func(ago time.Duration) time.Duration { return 14*time.Minute - ago }
	failed := func(id string, slot int, node string, from, to time.Duration, why string) reconcile.TaskView {
		t := task(id, slot, node, "failed", "index:2.1", at(from), at(to))
		t.Current, t.Error = false, why
		return t
	}
	stopped := func(id string, slot int, node string, to time.Duration) reconcile.TaskView {
		t := task(id, slot, node, "shutdown", "index:2.0", 5*time.Hour, at(to))
		t.Current = false
		return t
	}
	s.Glance = reconcile.Glance{At: noon, Releases: []reconcile.ReleaseGlance{bad, good, hand}, Tasks: map[string]reconcile.TaskGlance{name + "_index": {At: before(3 * time.Minute), Tasks: []reconcile.TaskView{
		stopped("o1", 1, "node1", 3*time.Second), stopped("o2", 2, "node2", 12*time.Second), task("o3", 3, "node3", "running", "index:2.0", 5*time.Hour, 5*time.Hour),
		failed("b1", 1, "node1", 2*time.Second, 14*time.Second, "task: non-zero exit (1): open /data/index: permission denied"),
		failed("b2", 2, "node2", 11*time.Second, 24*time.Second, "task: non-zero exit (1)"),
		failed("b3", 1, "node1", 19*time.Second, 31*time.Second, "task: non-zero exit (1): open /data/index: permission denied"),
		task("g1", 1, "node1", "running", "index:2.0", at(41*time.Second), at(49*time.Second)),
		task("g2", 2, "node2", "running", "index:2.0", at(51*time.Second), at(58*time.Second)),
	}}}}
	return s
}

func degraded(name string) Stack {
	last := release(3, reconcile.PhaseHealthy, "c0ffee1", "Keep a day of messages", 50*time.Hour, 50*time.Hour-time.Minute)
	last.Running = true
	why := "broker: 1 of 3 tasks pending: no node fits: 2 nodes have no label zone=b (skep status tells which)"
	s := Stack{Name: name, Passed: true, HasFile: true}
	s.Result = reconcile.Result{Stack: name, Outcome: reconcile.Unchanged, Reason: "InSync", Conditions: conditions(reconcile.Degraded, "NoNodeFits", why, 35*time.Minute), Release: newest(last),
		Plan: &reconcile.Plan{Stack: name, Changes: []reconcile.Change{{Op: reconcile.OpUpdate, Kind: reconcile.KindService, Name: name + "_broker", Key: "broker", Restarts: true,
			Spec:   &swarm.ServiceSpec{Mode: swarm.ServiceMode{Replicated: &swarm.ReplicatedService{Replicas: new(uint64(3))}}},
			Fields: []reconcile.Field{{Path: "environment.RETENTION", Old: "24h", New: "48h", Restarts: true}, {Path: "environment.DB_PASSWORD", Old: "(masked)", New: "(masked) (changed)"}, {Path: "deploy.replicas", Old: "", New: "3"}}},
			{Op: reconcile.OpRemove, Kind: reconcile.KindConfig, Name: name + "_old-23e13c10f357"}}},
		Services: []reconcile.ServiceStatus{service(name, "broker", "rabbitmq:4", 1, 3, reconcile.HealthDegraded, why)},
		Findings: []spec.Finding{{File: "queue.yml", Line: 12, Severity: spec.Warning, Code: "image-latest", Service: "broker", Message: "the image's tag moves (name a version)"},
			{File: "queue.yml", Line: 3, Severity: spec.Info, Code: "no-healthcheck", Service: "broker", Message: "there is no healthcheck, so that a task counts as well as soon as it runs (add one)"}}}
	lost := task("b2", 2, "node2", "failed", "rabbitmq:4", 40*time.Minute, 36*time.Minute)
	lost.Error = "task: non-zero exit (137)"
	pending := task("b3", 2, "", "pending", "rabbitmq:4", 36*time.Minute, 35*time.Minute)
	pending.Error = "no suitable node (scheduling constraints not satisfied on 2 nodes)"
	given := task("b5", 3, "node3", "rejected", "rabbitmq:4", 36*time.Minute, 35*time.Minute)
	given.Error = "No such image: rabbitmq:4"
	s.Glance = reconcile.Glance{At: noon, Releases: []reconcile.ReleaseGlance{last}, Tasks: map[string]reconcile.TaskGlance{name + "_broker": {At: before(8 * time.Second), Tasks: []reconcile.TaskView{
		task("b1", 1, "node1", "running", "rabbitmq:4", 50*time.Hour, 50*time.Hour), lost, pending, given}}}}
	return s
}

func invalid(name string) Stack {
	s := well(name, 1)
	why := "wiki.yml:7: services.web.ports: \"80:80:80\" is no port (write published:target)"
	s.Result.Conditions = conditions(reconcile.Stalled, "SourceInvalid", why, 6*time.Minute)
	s.Result.Findings = []spec.Finding{{File: "wiki.yml", Line: 7, Column: 9, Severity: spec.Error, Code: "port-invalid", Service: "web", Message: why}}
	s.Result.Plan = nil
	return s
}

func blocked(name string) Stack {
	s := well(name, 2)
	s.Result.State = reconcile.State{PrunePlan: "9c01d2aa", PruneServices: "mail_api,mail_web", PruneOf: 2, PruneSince: before(11 * time.Minute)}
	why := s.Result.State.Blockade(name).Why()
	s.Result.Outcome, s.Result.Reason, s.Result.Message = reconcile.Held, reconcile.PruneBlocked, why
	s.Result.Conditions = conditions(reconcile.Stalled, reconcile.PruneBlocked, why, 11*time.Minute)
	return s
}

func suspended(name string) Stack {
	s := well(name, 4)
	s.Result.State = reconcile.State{Suspended: before(70 * time.Minute), Why: "moving the database"}
	why := "suspended since 10:50 UTC: moving the database"
	s.Result.Outcome, s.Result.Reason, s.Result.Message = reconcile.Held, "Suspended", why
	s.Result.Conditions = conditions("", "Suspended", why, 70*time.Minute)
	return s
}

func unknown(name string) Stack { return Stack{Name: name, HasFile: true} }

// still is a source that always knows the same.
type still struct {
	snapshot *Snapshot
	changes  map[int]Change
}

func (s still) Snapshot(context.Context) *Snapshot                     { return s.snapshot }
func (s still) Changes(_ context.Context, stack string) map[int]Change { return s.changes }

// changed is what releases of a scene changed.
func changed() map[int]Change {
	plan := &reconcile.Plan{Changes: []reconcile.Change{{Op: reconcile.OpUpdate, Kind: reconcile.KindService, Name: "search_index", Restarts: true,
		Fields: []reconcile.Field{{Path: "image", Old: "index:2.0", New: "index:2.1", Restarts: true}, {Path: "environment.INDEX", New: "trigram", Restarts: true}}},
		{Op: reconcile.OpCreate, Kind: reconcile.KindConfig, Name: "search_words-23e13c10f357"}}}
	return map[int]Change{9: {Against: new(8), Plan: plan.View()}, 8: {Against: new(7), Plan: (&reconcile.Plan{}).View()}, 7: {Plan: (&reconcile.Plan{Changes: plan.Changes[1:]}).View()}}
}
