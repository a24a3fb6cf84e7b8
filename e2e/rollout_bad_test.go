package e2e

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// An app is a service of the test application, as a compose file has it.
type app struct {
	image    string
	env      []string
	check    bool     // it has a healthcheck
	replicas int      // 0 is 2
	update   string   // of its update_config, beside monitor
	back     string   // of its rollback_config, likewise
	deploy   []string // further lines of deploy
	more     []string // further lines of the service
}

func (a app) yaml(name string) string {
	var b strings.Builder
	line := func(indent int, format string, args ...any) {
		fmt.Fprintf(&b, "%s%s\n", strings.Repeat("  ", indent), fmt.Sprintf(format, args...))
	}
	line(1, "%s:", name)
	line(2, "image: %s", a.image)
	if len(a.env) > 0 {
		line(2, "environment: [%s]", strings.Join(a.env, ", "))
	}
	line(2, "networks: [%s]", stage)
	if a.check {
		line(2, `healthcheck: {test: ["CMD", "curl", "-f", "http://localhost:8000/healthz"], interval: 2s, timeout: 5s, retries: 2}`)
	}
	for _, l := range a.more {
		line(2, "%s", l)
	}
	update := "monitor: 3s"
	if a.update != "" {
		update += ", " + a.update
	}
	back := "monitor: 2s"
	if a.back != "" {
		back += ", " + a.back
	}
	line(2, "deploy:")
	line(3, "replicas: %d", max(a.replicas, 1))
	line(3, "endpoint_mode: dnsrr")
	line(3, "update_config: {%s}", update)
	line(3, "rollback_config: {%s}", back)
	line(3, "restart_policy: {delay: 1s}")
	for _, l := range a.deploy {
		line(3, "%s", l)
	}
	return b.String()
}

// stackFile is a stack's file. policy is of x-skep.rollout, beside the deadline.
func stackFile(policy string, services ...string) string {
	return fmt.Sprintf("x-skep: {images: as-written, rollout: {deadline: 100s, %s}}\nservices:\n%snetworks: {%s: {external: true}}\n",
		policy, strings.Join(services, ""), stage)
}

// A kind of bad version.
type kind struct {
	name   string
	policy string // of the bad version, where it is not quick
	good   app    // with the image app:1.0
	bad    func(good app) app
	next   func(good app) app // what comes after it, the good one with app:2.0 where nil
	codes  []string           // what the release's reason may be
	says   []string           // words of its message
	lives  bool               // old tasks could serve all the time
}

func sick(env ...string) func(app) app {
	return func(a app) app {
		a.image, a.env = "app:bad", env
		return a
	}
}

// kinds are the bad versions of the issue.
func kinds() []kind {
	const watched = "bake: 60s, guard: 120s"
	// Without a delay Swarm may be at the next task before it has noticed that the last
	// one failed, and no old one is left.
	const slowly = "delay: 3s"
	checked := app{replicas: 2, check: true, update: slowly}
	plain := app{replicas: 2, update: slowly}
	limited := app{replicas: 2, check: true, update: slowly, deploy: []string{"resources: {limits: {memory: 24M}}"}}
	port := app{replicas: 3, update: "order: start-first", more: []string{"ports: [{target: 8000, published: 18511, mode: host}]"}}
	return []kind{
		{name: "sick", good: checked, bad: sick("APP_SICK=1"), lives: true,
			codes: []string{"Unhealthy"}, says: []string{"healthcheck failed"}},
		{name: "sick-20s", policy: watched, good: checked, bad: sick("APP_SICK_AFTER=20s"),
			codes: []string{"Unhealthy"}, says: []string{"healthcheck failed"}},
		{name: "crash", good: plain, bad: sick("APP_CRASH=1"), lives: true,
			codes: []string{"Crashed", "CrashLoop", "Flapping"}, says: []string{"non-zero exit (1)"}},
		{name: "crash-5s", policy: watched, good: plain, bad: sick("APP_CRASH_AFTER=5s"),
			codes: []string{"CrashLoop", "Flapping"}, says: []string{"again and again", "non-zero exit (1)"}},
		{name: "image", good: plain, lives: true,
			bad:   func(a app) app { a.image = "app:gone"; return a },
			codes: []string{"ImageMissing"}, says: []string{"No such image: app:gone", "push it to a registry"}},
		{name: "constraint", good: plain, lives: true,
			bad: func(a app) app {
				a.image, a.deploy = "app:bad", append(a.deploy, "placement: {constraints: [node.labels.zone == nowhere]}")
				return a
			},
			codes: []string{"NoNodeFits"}, says: []string{"node.labels.zone == nowhere"}},
		{name: "port", good: port, lives: true,
			bad:   sick(),
			next:  func(a app) app { a.update = "order: stop-first"; return a },
			codes: []string{"PortTaken"}, says: []string{"host-mode port already in use", "use order: stop-first"}},
		{name: "memory", good: limited, bad: sick("APP_HOG_MIB=64"), lives: true,
			codes: []string{"OutOfMemory"}, says: []string{"non-zero exit (137)", "limit of 24MiB"}},
	}
}

// withActions are the kinds that Swarm itself reacts to, as the file asks it to.
func withActions() []kind {
	var all []kind
	for _, k := range kinds() {
		switch k.name {
		case "sick", "crash", "image", "memory":
		default:
			continue
		}
		for _, action := range []string{"rollback", "pause", "continue"} {
			if k.name == "memory" && action != "rollback" {
				continue // like a crash
			}
			its := k
			its.name += "-" + action
			its.good.update += ", failure_action: " + action
			if action == "rollback" { // the reason tells who noticed first
				its.codes = append(slices.Clip(k.codes), "SwarmRolledBack")
			}
			its.lives = k.lives && action != "continue" // Swarm goes on to the last old task
			all = append(all, its)
		}
	}
	return all
}

func (k kind) file(image string) string {
	a := k.good
	a.image = image
	return stackFile(quick, a.yaml("web"))
}

func (k kind) badFile() string {
	policy := k.policy
	if policy == "" {
		policy = quick
	}
	a := k.good
	a.image = "app:1.0"
	return stackFile(policy, k.bad(a).yaml("web"))
}

func (k kind) nextFile() string {
	a := k.good
	a.image = "app:2.0"
	if k.next != nil {
		a = k.next(a)
	}
	return stackFile(quick, a.yaml("web"))
}

// fails is the first part: a good version, a bad one, and the way back.
func (k kind) fails(s *scene) {
	old := map[string]string{"web": "app:1.0"}
	s.say(k.file("app:1.0"))
	s.phase(3*time.Minute, 1, "Healthy")
	s.running(time.Minute, old, k.good.replicas)
	s.probe("web")
	s.say(k.badFile())
	m := s.bad(4*time.Minute, 2, old, k.good.replicas)
	if !slices.Contains(k.codes, m.reason) {
		s.fail("the reason is %s, not one of %v: %s", m.reason, k.codes, m.message)
	}
	for _, w := range k.says {
		if !strings.Contains(m.message, w) {
			s.fail("the message has no %q: %s", w, m.message)
		}
	}
}

// mends is the second part: the next version is good, and rolls out.
func (k kind) mends(s *scene) {
	s.say(k.nextFile())
	s.phase(3*time.Minute, 3, "Healthy")
	s.running(time.Minute, map[string]string{"web": "app:2.0"}, k.good.replicas)
	s.answers(k.lives)
}
