package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/docker/docker/api/types/swarm"

	"github.com/skep-io/skep/controller/cli"
	"github.com/skep-io/skep/reconcile"
)

const quick = "bake: 2s, guard: 90s"

// one is a service with one task.
func one(image string, env ...string) app { return app{image: image, env: env, replicas: 1} }

// after has a service wait for another.
func (a app) after(service string) app {
	a.more = append(a.more, "depends_on: ["+service+"]")
	return a
}

// with has a further line in a service's deploy.
func (a app) with(line string) app {
	a.deploy = append(a.deploy, line)
	return a
}

// deploys says a file and waits until its release is healthy.
func (s *scene) deploys(release int, file string) memo {
	s.t.Helper()
	s.say(file)
	return s.phase(3*time.Minute, release, "Healthy")
}

// written is what was written of one service.
func (s *scene) written(service string, since time.Time) []write {
	var all []write
	for _, w := range s.door.of(s.stack, "services", since) {
		if w.name == s.stack+"_"+service {
			all = append(all, w)
		}
	}
	return all
}

// untouched says that a service has not been written.
func (s *scene) untouched(service string, since time.Time) {
	s.t.Helper()
	if w := s.written(service, since); len(w) > 0 {
		s.fail("%s was written, which was not to be touched: %v", service, w)
	}
}

// docker is Docker's own command, by hand.
func (s *scene) docker(args ...string) {
	s.t.Helper()
	_, err := s.lab.Docker(s.t.Context(), s.door.node(), args...)
	s.try(err)
}

// skepSays runs a verb of skep and returns what it wrote.
func (s *scene) skepSays(args ...string) string {
	s.t.Helper()
	var out, words bytes.Buffer
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	args = append(args, "--host", skepHost(s.lab, s.door.node(), args[0]), "--owner", actor)
	if code := cli.Main(ctx, args, strings.NewReader(""), &out, &words); code != 0 {
		s.fail("skep %s: exit %d: %s", strings.Join(args, " "), code, &words)
	}
	leaked.Look("skep "+args[0], []byte(out.String()+words.String()))
	return out.String() + words.String()
}

// condition waits until status tells it of the stack.
func (s *scene) condition(limit time.Duration, want reconcile.ConditionType) {
	s.t.Helper()
	s.await(limit, fmt.Sprintf("it is %s", want), func(*view) error {
		res, err := reconcile.New(reconcile.Options{Swarm: skepClient(s.lab, s.door.node(), "status"), Owner: actor}).Status(s.t.Context(), s.stack)
		if err != nil {
			return err
		}
		for _, c := range res.Conditions {
			if c.Type == want && c.True {
				return nil
			}
		}
		return fmt.Errorf("%+v", res.Conditions)
	})
}

// held waits until skep's log tells that it holds, and why.
func (s *scene) held(limit time.Duration, reason string) {
	s.t.Helper()
	s.await(limit, "it is held: "+reason, func(*view) error {
		for _, l := range s.log.lines("held") {
			if l["stack"] == s.stack && l["reason"] == reason {
				return nil
			}
		}
		return errors.New("not in the log")
	})
}

// A stack goes back as a whole, or only what is bad of it, and what was not changed is
// not touched. What is bad comes when the rest has converged.
func threeServices(scope, first, second string, env ...string) string {
	return stackFile(quick+", scope: "+scope, one(first).yaml("one"), app{image: second, env: env, replicas: 2, update: "delay: 3s"}.after("one").yaml("two"), one("app:1.0").yaml("three"))
}

func scopeFails(scope, first string) func(*scene) {
	return func(s *scene) {
		s.deploys(1, threeServices(scope, "app:1.0", "app:1.0"))
		began := time.Now()
		s.probe("two")
		s.say(threeServices(scope, "app:2.0", "app:bad", "APP_CRASH=1"))
		s.bad(3*time.Minute, 2, map[string]string{"two": "app:1.0"}, 2)
		s.running(time.Minute, map[string]string{"one": first, "three": "app:1.0"}, 1)
		s.untouched("three", began)
		if wrote := len(s.written("one", began)); first == "app:2.0" && wrote != 1 {
			s.fail("one was written %d times", wrote)
		}
	}
}

func scopeMends(scope string) func(*scene) {
	return func(s *scene) {
		s.deploys(3, threeServices(scope, "app:2.0", "app:2.0"))
		s.running(time.Minute, map[string]string{"one": "app:2.0", "three": "app:1.0"}, 1)
		s.running(time.Minute, map[string]string{"two": "app:2.0"}, 2)
		s.answers(true)
	}
}

// The first release ever is bad: it is left to be seen.
func firstFails(s *scene) {
	s.say(stackFile("bake: 20s", one("app:bad", "APP_CRASH=1").yaml("web")))
	m := s.phase(3*time.Minute, 1, "Failed")
	s.told.seen, s.told.decided, s.told.reason, s.told.note = m.started, m.ended, m.reason, "left to be seen"
	s.condition(time.Minute, reconcile.Stalled)
	if v, _ := s.now(); v.services[s.stack+"_web"].Spec.TaskTemplate.ContainerSpec.Image != "app:bad" {
		s.fail("the service is not what the file says")
	}
}

func firstMends(s *scene) {
	s.deploys(2, stackFile(quick, one("app:1.0").yaml("web")))
	s.running(time.Minute, map[string]string{"web": "app:1.0"}, 1)
}

// The way back is closed: the old image is nowhere any more.
func backFails(s *scene) {
	s.deploys(1, stackFile(quick, one("app:fragile").yaml("web")))
	s.try(s.lab.RemoveImage(s.t.Context(), "app:fragile"))
	a := one("app:bad", "APP_CRASH=1")
	a.update = "order: stop-first"
	s.say(stackFile(quick, a.yaml("web")))
	m := s.phase(3*time.Minute, 2, "Failed")
	s.told.seen, s.told.decided, s.told.reason, s.told.note = m.started, m.ended, m.reason, "hands off: the rollback fails too"
	s.held(2*time.Minute, "RollbackFailed")
	s.condition(time.Minute, reconcile.Stalled)
}

func backMends(s *scene) {
	s.deploys(3, stackFile(quick, one("app:2.0").yaml("web")))
	s.running(time.Minute, map[string]string{"web": "app:2.0"}, 1)
}

// A newer commit comes in the middle of a rollout, and is bad: the way back leads past
// what was superseded.
func newerFails(s *scene) {
	slow := func(image string, env ...string) string {
		return stackFile(quick, app{image: image, env: env, replicas: 2, update: "delay: 20s"}.yaml("web"))
	}
	s.deploys(1, slow("app:1.0"))
	s.probe("web")
	s.say(slow("app:2.0"))
	s.await(time.Minute, "half of release 2 runs", func(v *view) error {
		for _, t := range v.tasks[s.stack+"_web"] {
			if t.Spec.ContainerSpec.Image == "app:2.0" && t.Status.State == swarm.TaskStateRunning {
				return nil
			}
		}
		return errors.New("not yet")
	})
	s.say(slow("app:bad", "APP_CRASH=1"))
	s.phase(time.Minute, 2, "Superseded")
	s.bad(3*time.Minute, 3, map[string]string{"web": "app:1.0"}, 2)
}

func newerMends(s *scene) {
	s.deploys(4, stackFile(quick, app{image: "app:3.0", replicas: 2}.yaml("web")))
	s.running(time.Minute, map[string]string{"web": "app:3.0"}, 2)
	s.answers(true)
}

// Somebody writes the service in the middle of its rollout.
func handMeddles(s *scene) {
	file := func(image string) string {
		return stackFile(quick, app{image: image, replicas: 3, update: "delay: 4s"}.yaml("web"))
	}
	s.deploys(1, file("app:1.0"))
	s.probe("web")
	s.say(file("app:2.0"))
	s.await(time.Minute, "Swarm updates", func(v *view) error {
		if u := v.services[s.stack+"_web"].UpdateStatus; u == nil || u.State != swarm.UpdateStateUpdating {
			return errors.New("it does not")
		}
		return nil
	})
	s.docker("service", "update", "--detach", "--quiet", "--env-add", "HAND=1", s.stack+"_web")
	m := s.phase(3*time.Minute, 2, "Healthy")
	v := s.running(time.Minute, map[string]string{"web": "app:2.0"}, 3)
	s.told.seen, s.told.decided, s.told.back, s.told.note = m.started, m.ended, v.at, "new version, without what the hand wrote"
	if env := v.services[s.stack+"_web"].Spec.TaskTemplate.ContainerSpec.Env; len(env) > 0 {
		s.fail("what a hand wrote is there: %v", env)
	}
	s.answers(true)
}

// Somebody has Swarm roll back afterwards: from a good release, and to a bad one.
func handRollsBack(s *scene) {
	file := func(image string, env ...string) string {
		return stackFile(quick, one(image, env...).yaml("web"))
	}
	back := func() {
		s.t.Helper()
		began := time.Now()
		s.docker("service", "rollback", "--detach", "--quiet", s.stack+"_web")
		s.await(2*time.Minute, "what a hand rolled back is put right", func(v *view) error {
			if len(s.written("web", began)) == 0 {
				return errors.New("nothing was written")
			}
			return v.runs(s.stack+"_web", "app:2.0", 1)
		})
		s.told.note += fmt.Sprintf("put right after %s; ", time.Since(began).Round(100*time.Millisecond))
	}
	s.deploys(1, file("app:1.0"))
	s.deploys(2, file("app:2.0"))
	back()
	s.say(file("app:bad", "APP_CRASH=1"))
	s.bad(3*time.Minute, 3, map[string]string{"web": "app:2.0"}, 1)
	back() // to the bad one
	s.settles()
}

// settles waits until a pass has told that all is done: nothing of a correction is left
// in the newest record.
func (s *scene) settles() {
	s.t.Helper()
	s.await(2*time.Minute, "all corrections have settled", func(v *view) error {
		if v.newest(s.stack).correcting {
			return errors.New("one is under way")
		}
		return nil
	})
}

// A release passes its bake and falls ill afterwards.
func guardFails(s *scene) {
	s.deploys(1, stackFile(quick, one("app:1.0").yaml("web")))
	s.say(stackFile("bake: 0s, guard: 90s", one("app:bad", "APP_CRASH_AFTER=15s").yaml("web")))
	s.phase(time.Minute, 2, "Healthy")
	s.bad(3*time.Minute, 2, map[string]string{"web": "app:1.0"}, 1)
	s.told.note = "after it was healthy"
}

func guardMends(s *scene) {
	s.deploys(3, stackFile(quick, one("app:2.0").yaml("web")))
}

// Waves wait for what this release changes, until it has converged; not for its bake,
// and not for a neighbour that was sick before.
func wavesWait(s *scene) {
	const bake = 20 * time.Second
	file := func(policy, image string) string {
		return stackFile(policy, one(image).yaml("db"), one("app:1.0").with("placement: {constraints: [node.labels.lame == yes]}").yaml("lame"),
			one(image).after("db, lame").yaml("web"))
	}
	node := s.lab.Nodes[2].Name
	s.docker("node", "update", "--label-add", "lame=yes", node)
	s.deploys(1, file(quick, "app:1.0"))
	s.docker("node", "update", "--label-rm", "lame", node)
	s.await(time.Minute, "lame runs no more", func(v *view) error {
		if v.runs(s.stack+"_lame", "app:1.0", 1) == nil {
			return errors.New("it runs")
		}
		return nil
	})
	began := time.Now()
	m := s.deploys(2, file("bake: 20s", "app:2.0"))
	v := s.running(time.Minute, map[string]string{"db": "app:2.0", "web": "app:2.0"}, 1)
	db, web := s.written("db", began), s.written("web", began)
	if len(db) != 1 || len(web) != 1 {
		s.fail("written: %v, %v", db, web)
	}
	s.untouched("lame", began)
	whole := v.services[s.stack+"_db"].UpdateStatus.CompletedAt
	if whole == nil || web[0].at.Before(*whole) {
		s.fail("web was written at %s, db had converged at %v", web[0].at, whole)
	}
	if waited := web[0].at.Sub(*whole); waited > bake/2 || m.ended.Sub(web[0].at) < bake {
		s.fail("web was written %s after db had converged, the bake is %s and the release ended %s later", waited, bake, m.ended.Sub(web[0].at))
	}
	s.told.note = fmt.Sprintf("web written %s after db had converged", web[0].at.Sub(*whole).Round(100*time.Millisecond))
}
