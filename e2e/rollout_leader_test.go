package e2e

import (
	"errors"
	"fmt"
	"time"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/swarm"
)

// killLeader kills the engine of the manager that leads while one stack is in the
// middle of a rollout and another in the middle of a rollback, and both have to end as
// they would have without.
func (th *theatre) killLeader() []*scene {
	actor := func(stack string) *scene {
		s := &scene{theatre: th, stack: stack}
		s.told.stack = stack
		return s
	}
	forth, back := actor("leader-rollout"), actor("leader-rollback")
	both := []*scene{forth, back}
	forthFile := func(image string) string {
		return stackFile(quick, app{image: image, replicas: 3, update: "delay: 6s"}.yaml("web"))
	}
	backFile := func(image, zone string) string {
		slow := app{image: image, replicas: 3, back: "delay: 6s"}
		stuck := one(image).with(fmt.Sprintf("placement: {constraints: [node.labels.zone != %s]}", zone))
		if zone == "nowhere" {
			stuck = one(image).with("placement: {constraints: [node.labels.zone == nowhere]}")
		}
		return stackFile(quick, slow.yaml("web"), stuck.after("web").yaml("next"))
	}

	// All that looks at the Swarm does so by a manager that lives on.
	victim, err := th.leader(th.t.Context(), th.door.node())
	if err != nil {
		th.t.Errorf("find who leads: %v", err)
		return nil
	}
	th.door.lead((victim + 1) % len(th.lab.Nodes))
	play(both, func(s *scene) {
		if s == forth {
			s.deploys(1, forthFile("app:1.0"))
		} else {
			s.deploys(1, backFile("app:1.0", "elsewhere"))
		}
		s.probe("web")
	})
	half := func(s *scene, image string) {
		s.await(2*time.Minute, "a part of the tasks is "+image, func(v *view) error {
			got, other := 0, 0
			for _, t := range v.tasks[s.stack+"_web"] {
				switch {
				case t.Spec.ContainerSpec.Image != image:
					other++
				case t.Status.State == swarm.TaskStateRunning:
					got++
				}
			}
			if got == 0 || other == 0 {
				return fmt.Errorf("%d are, %d are not", got, other)
			}
			return nil
		})
	}
	// The rollback begins when the bad half of the stack shows; the rollout then.
	play([]*scene{back}, func(s *scene) {
		s.say(backFile("app:2.0", "nowhere"))
		s.phase(2*time.Minute, 2, "Failed")
		half(s, "app:1.0")
	})
	play([]*scene{forth}, func(s *scene) {
		s.say(forthFile("app:2.0"))
		half(s, "app:2.0")
	})
	if forth.ended || back.ended {
		return both
	}
	v, _ := th.now()
	th.t.Logf("%s dies, which leads; the rollback is %v, the rollout %v", th.lab.Nodes[victim].Name,
		v.runs("leader-rollback_web", "app:1.0", 3), v.runs("leader-rollout_web", "app:2.0", 3))
	if v.runs("leader-rollback_web", "app:1.0", 3) == nil {
		th.t.Error("the rollback was over before the leader died")
	}
	if err := th.lab.KillEngine(th.t.Context(), victim); err != nil {
		th.t.Errorf("kill the leader's engine: %v", err)
		return both
	}
	play([]*scene{forth}, func(s *scene) {
		s.await(2*time.Minute, "another leads", func(*view) error {
			now, err := th.leader(th.t.Context(), th.door.node())
			if err == nil && now == victim {
				err = errors.New("it still does")
			}
			return err
		})
	})
	if err := th.lab.StartEngine(th.t.Context(), victim); err != nil {
		th.t.Errorf("start the engine again: %v", err)
	}
	play(both, func(s *scene) {
		if s == forth {
			m := s.phase(3*time.Minute, 2, "Healthy")
			v := s.running(time.Minute, map[string]string{"web": "app:2.0"}, 3)
			s.told.seen, s.told.decided, s.told.back, s.told.note = m.started, m.ended, v.at, "new version everywhere"
			s.answers(false)
			return
		}
		s.bad(3*time.Minute, 2, map[string]string{"web": "app:1.0"}, 3)
		s.running(time.Minute, map[string]string{"next": "app:1.0"}, 1)
		s.answers(false)
	})
	return both
}

// seedFails is the seed's step 5, to the letter: Swarm itself goes back.
func seedFails(s *scene) {
	const policy = "x-skep: {images: as-written, rollout: {bake: 3s, deadline: 150s}}\n"
	if _, err := s.lab.Client(0).ConfigCreate(s.t.Context(), swarm.ConfigSpec{Annotations: swarm.Annotations{Name: "nginx_config"}, Data: []byte(nginxConf)}); err != nil {
		s.fail("%v", err)
	}
	s.deploys(1, policy+seed(s.t, 3))
	tasks, err := s.lab.Client(0).TaskList(s.t.Context(), swarm.TaskListOptions{Filters: filters.NewArgs(filters.Arg("service", s.stack+"_nginx"), filters.Arg("desired-state", "running"))})
	s.try(err)
	nodes, err := s.lab.Client(0).NodeList(s.t.Context(), swarm.NodeListOptions{})
	s.try(err)
	for _, n := range nodes {
		for i, own := range s.lab.Nodes {
			if n.ID == tasks[0].NodeID && n.Description.Hostname == own.Name {
				s.probeFrom(i, tasks[0].Status.ContainerStatus.ContainerID, "http://127.0.0.1/")
			}
		}
	}
	s.say(policy + seed(s.t, 5))
	s.bad(3*time.Minute, 2, map[string]string{"web": "masungil/my-fastapi-app:1.0"}, 3)
	s.answers(true)
}
