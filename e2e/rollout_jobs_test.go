package e2e

import (
	"errors"
	"fmt"
	"time"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/swarm"
)

// migrated is an application with its database's migration, which goes before it.
func migrated(image, schema string, env ...string) string {
	job := fmt.Sprintf(`  migrate:
    image: app:1.0
    entrypoint: [/bin/job]
    environment: {SCHEMA: %q, APP_TAKES: 3s%s}
    networks: [%s]
    deploy: {mode: replicated-job, restart_policy: {condition: none}}
`, schema, join(env), stage)
	return stackFile(quick, job, app{image: image, replicas: 2}.after("migrate").yaml("web"))
}

func join(env []string) string {
	text := ""
	for _, e := range env {
		text += ", " + e
	}
	return text
}

// runs are the tasks of the migration to a schema, with when they ended.
func (s *scene) migrations(schema string) []swarm.Task {
	s.t.Helper()
	tasks, err := s.lab.Client(s.door.node()).TaskList(s.t.Context(), swarm.TaskListOptions{Filters: filters.NewArgs(filters.Arg("service", s.stack+"_migrate"))})
	s.try(err)
	var its []swarm.Task
	for _, t := range tasks {
		for _, e := range t.Spec.ContainerSpec.Env {
			if e == "SCHEMA="+schema {
				its = append(its, t)
			}
		}
	}
	return its
}

// A migration goes before its application, and does not run again without a reason.
func migrates(s *scene) {
	s.deploys(1, migrated("app:1.0", "1"))
	s.probe("web")
	began := time.Now()
	m := s.deploys(2, migrated("app:2.0", "2"))
	s.running(time.Minute, map[string]string{"web": "app:2.0"}, 2)
	web, runs := s.written("web", began), s.migrations("2")
	if len(web) != 1 || len(runs) != 1 || runs[0].Status.State != swarm.TaskStateComplete {
		s.fail("web was written %d times, the migration ran %d times", len(web), len(runs))
	}
	if done := runs[0].Status.Timestamp; web[0].at.Before(done) {
		s.fail("web was written at %s, before the migration was done at %s", web[0].at, done)
	}
	s.told.seen, s.told.decided, s.told.note = m.started, m.ended, "new version, after its migration"
	s.deploys(3, migrated("app:3.0", "2"))
	if again := s.migrations("2"); len(again) != 1 {
		s.fail("the migration ran %d times", len(again))
	}
	s.answers(true)
}

// A migration that fails keeps its application from rolling out.
func migrationFails(s *scene) {
	s.deploys(1, migrated("app:1.0", "1"))
	s.probe("web")
	began := time.Now()
	s.say(migrated("app:2.0", "2", "APP_EXIT: 1"))
	s.bad(3*time.Minute, 2, map[string]string{"web": "app:1.0"}, 2)
	s.untouched("web", began)
	if runs := s.migrations("2"); len(runs) != 1 {
		s.fail("the migration ran %d times", len(runs))
	}
	if runs := s.migrations("1"); len(runs) > 1 {
		s.fail("the old migration ran again: %d times", len(runs))
	}
}

func migrationMends(s *scene) {
	if runs := s.migrations("2"); len(runs) != 1 {
		s.fail("the migration ran %d times", len(runs))
	}
	s.deploys(3, migrated("app:2.0", "2"))
	s.running(time.Minute, map[string]string{"web": "app:2.0"}, 2)
	s.await(10*time.Second, "the migration is done", func(*view) error {
		for _, t := range s.migrations("2") {
			if t.Status.State == swarm.TaskStateComplete {
				return nil
			}
		}
		return errors.New("it is not")
	})
	s.answers(true)
}
