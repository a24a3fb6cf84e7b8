package reconcile

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/go-units"

	"github.com/skep-io/skep/spec"
)

// A symptom is what is the matter with a slot, or with several alike.
type symptom struct {
	code    string
	cause   Cause
	gravity int
	final   bool   // it cannot end by itself
	of      string // what of the tasks, where not they themselves: "the healthcheck of "
	state   string // what became of the tasks: "rejected", "pending"
	text    string // what they say themselves
	remedy  string
	nodes   []string // hostnames, sorted
	slots   int
	since   time.Time
	until   time.Time
}

// How much a symptom says, from least to most.
const (
	gravityWaiting = iota
	gravityPending
	gravityDied
	gravityLost
	gravityFailing
	gravityFinal
)

// symptom tells what is the matter with a slot that is down, or that fails.
func (x *exam) symptom(sl *slot) symptom {
	y := x.symptomOf(sl)
	y.final = y.final && (!sl.stuck || x.tooMany(x.stuck))
	if y.slots = 1; y.final {
		y.gravity = gravityFinal
	}
	return y
}

func (x *exam) symptomOf(sl *slot) symptom {
	next := sl.next
	switch {
	case x.fails(sl):
		y := x.death(sl)
		y.gravity = gravityFailing
		return y
	case next != nil && nodeDown(next.NodeID, x.nodes):
		return symptom{code: CodeNodeLost, cause: CauseWorld, gravity: gravityLost, state: "lost", text: "the node is down", nodes: x.on(next)}
	case next != nil && strings.HasPrefix(taskError(next), noSuitableNode):
		return x.pending(next)
	case len(sl.deaths) > 0:
		return x.death(sl)
	case next != nil:
		y := x.waiting(next)
		if from := x.leftBehind(sl); from != "" {
			y.code, y.cause, y.gravity, y.text = CodeNodeLost, CauseWorld, gravityLost, "they ran on "+from+", which is down"
		}
		return y
	}
	return symptom{code: CodeScaling, state: "waited for"}
}

// leftBehind is the host, which is down, that a slot's newest task but the waiting one
// claims to run on; "" where there is none.
func (x *exam) leftBehind(sl *slot) string {
	for _, t := range sl.tasks {
		if t == sl.next {
			continue
		}
		if t.Status.State == swarm.TaskStateRunning && nodeDown(t.NodeID, x.nodes) {
			return hostname(t.NodeID, x.nodes)
		}
		return ""
	}
	return ""
}

// waiting tells how far a task is that nothing is known to be wrong with.
func (x *exam) waiting(t *swarm.Task) symptom {
	y := symptom{state: string(t.Status.State), text: taskError(t), since: t.Status.Timestamp, nodes: x.on(t)}
	switch t.Status.State {
	case swarm.TaskStatePreparing:
		y.code = CodePulling
		y.text = orElse(y.text, "its image is pulled, or its networks and volumes are made")
	case swarm.TaskStateReady, swarm.TaskStateStarting:
		y.code = CodeStarting
		if t.Status.State == swarm.TaskStateStarting {
			x.checked(&y, t)
		}
	case swarm.TaskStateRunning:
		y.code = CodeRunning
	default:
		y = x.pending(t)
		y.nodes = x.on(t)
	}
	return y
}

// checked tells by when a container that starts will have been found well or sick. A
// task stays STARTING until its healthcheck passes, as far as the engine is concerned
// for ever; without one, only for as long as its container needs to start.
func (x *exam) checked(y *symptom, t *swarm.Task) {
	limit := checkTime(containerOf(&x.s.Spec).Healthcheck)
	if y.text != "" {
		return
	}
	switch x.check() {
	case checkNone:
		y.text = "its container starts"
		return
	case checkOfImage:
		y.text = "its container starts, or the healthcheck of its image, where that has one, is pending"
		return
	}
	if y.text = "waiting for the healthcheck to pass"; limit == 0 {
		return
	}
	y.until = t.Status.Timestamp.Add(limit)
	at := y.until.UTC().Format("15:04:05")
	if y.text += ", which takes until " + at + " UTC at most"; x.now.After(y.until) {
		y.text = "its healthcheck should have passed or failed by " + at + " UTC"
	}
}

// death tells what a slot's newest dead task died of.
func (x *exam) death(sl *slot) symptom {
	t := sl.deaths[0]
	y := x.diagnose(t)
	y.gravity, y.cause, y.since = gravityDied, CauseOwn, since(sl.deaths[len(sl.deaths)-1])
	for _, d := range sl.deaths {
		if taskError(d) == taskError(t) {
			y.nodes = append(y.nodes, x.on(d)...)
		}
	}
	slices.Sort(y.nodes)
	y.nodes = slices.Compact(y.nodes)
	again := len(sl.deaths) >= failsForGood
	switch {
	case sl.stuck && y.of != "":
		y.final = true
		y.state += ", and they are not started again, as deploy.restart_policy says,"
	case sl.stuck:
		y.final = true
		y.state += " and are not started again, as deploy.restart_policy says,"
	case again && y.code == CodeRestarting && x.lifetime(t) > x.monitor():
		y.code, y.state = CodeFlapping, y.state+" again and again, each time after a while,"
	case again && y.code == CodeRestarting:
		y.code, y.state = CodeCrashLoop, y.state+" again and again"
	}
	if y.code == CodeRestarting && sl.stuck {
		y.code = CodeFailed
	}
	if isJob(&x.s.Spec) && slices.Contains([]string{CodeFailed, CodeCrashLoop, CodeFlapping}, y.code) {
		y.code = CodeJobFailed
	}
	return y
}

// causesOfDeath map the engine's words for what a task died of (swarmkit, moby) to a code
// and to what helps.
var causesOfDeath = []struct{ words, code, remedy string }{
	{"No such image", CodeImageMissing, "push it to a registry that every node reaches; a private one needs --registry-config"},
	{"pull access denied", CodeImageMissing, "push it to a registry that every node reaches, or log in: --registry-config"},
	{"manifest unknown", CodeImageMissing, "the tag is not in the registry: push it"},
	{"bind source path does not exist", CodeMountRejected, "the path is not on that node: use a config for a file, a volume for data"},
	{"invalid mount config", CodeMountRejected, "what is mounted is not on that node: use a config for a file, a volume for data"},
	{"error while mounting", CodeMountRejected, "the volume cannot be mounted on that node: see its driver and options"},
	{"port is already allocated", CodePortTaken, "something else on that node has the port: free it, or publish another"},
	{"unhealthy container", CodeUnhealthy, ""},
	{"OOM", CodeOutOfMemory, "raise deploy.resources.limits.memory"},
	{"starting container failed", CodeCannotStart, "compare command, entrypoint and user with the image"},
	{"OCI runtime", CodeCannotStart, "compare command, entrypoint and user with the image"},
}

// killed is the exit code of what was killed by SIGKILL. Swarm sends that only to
// what it stops; else it is the kernel, which an engine does not tell of in a task:
// its error is the same.
const killed = 137

// diagnose tells what a task died of.
func (x *exam) diagnose(t *swarm.Task) symptom {
	y := symptom{code: CodeRestarting, state: string(t.Status.State), text: taskError(t), remedy: x.logs()}
	for _, c := range causesOfDeath {
		if strings.Contains(y.text, c.words) {
			if y.code, y.remedy = c.code, c.remedy; y.code == CodeUnhealthy {
				y.of, y.remedy = "the healthcheck of ", x.checkOutput()
			}
			return y
		}
	}
	limit := memoryLimit(x.s)
	switch {
	case t.Status.State == swarm.TaskStateRejected:
		y.code, y.remedy = CodeRejected, ""
	case exitCode(t) == killed && limit > 0:
		y.code, y.remedy = CodeOutOfMemory, "killed, most likely for more memory than its limit of "+units.BytesSize(float64(limit))+": raise deploy.resources.limits.memory"
	case exitCode(t) == killed:
		y.remedy = "killed from outside, or since the node had no memory left: see its kernel's log"
	case t.Status.State == swarm.TaskStateComplete && x.check() == checkOfFile:
		y.code, y.remedy = CodeUnhealthy, x.checkOutput()+"; and "+x.logs()
		y.text = orElse(y.text, "its healthcheck failed, or it ended by itself, with exit code 0")
	case t.Status.State == swarm.TaskStateComplete && x.check() == checkOfImage:
		y.code, y.text = CodeExited, orElse(y.text, "it ended with exit code 0, by itself or, where its image has a healthcheck, since that failed")
	case t.Status.State == swarm.TaskStateComplete:
		y.code, y.text = CodeExited, orElse(y.text, "it ended by itself, with exit code 0")
	}
	return y
}

// logs says how to see what the service printed.
func (x *exam) logs() string {
	return strings.TrimSpace("see skep logs " + x.s.Spec.Labels[spec.LabelNamespace])
}

// Whose healthcheck a service has.
const (
	checkOfFile  = iota // the service's own
	checkOfImage        // its image's, if that has one
	checkNone           // none: it is turned off
)

func (x *exam) check() int {
	switch c := containerOf(&x.s.Spec).Healthcheck; {
	case c == nil || len(c.Test) == 0:
		return checkOfImage
	case c.Test[0] == "NONE":
		return checkNone
	}
	return checkOfFile
}

// checkOutput says where the output of a healthcheck is: no log has it, but the node's
// engine, for as long as it keeps the container.
func (x *exam) checkOutput() string {
	return "the output of its healthcheck, there: docker inspect -f '{{json .State.Health}}' $(docker ps -aqf name=" + x.s.Spec.Name + ")"
}

func memoryLimit(s *swarm.Service) int64 {
	if r := s.Spec.TaskTemplate.Resources; r != nil && r.Limits != nil {
		return r.Limits.MemoryBytes
	}
	return 0
}

func exitCode(t *swarm.Task) int {
	if c := t.Status.ContainerStatus; c != nil {
		return c.ExitCode
	}
	return 0
}

// taskError is what a task says of itself, with its exit code. It may tell the command
// that could not be started, with all that stands in it.
func taskError(t *swarm.Task) string {
	text := maskText(strings.TrimSpace(strings.Trim(t.Status.Err, "\"")))
	if code := exitCode(t); code != 0 && !strings.Contains(text, fmt.Sprint(code)) {
		text = strings.TrimSpace(fmt.Sprintf("%s (exit code %d)", text, code))
	}
	return text
}

// on is the host of a task, if it has one.
func (x *exam) on(t *swarm.Task) []string {
	if host := hostname(t.NodeID, x.nodes); host != "" {
		return []string{host}
	}
	return nil
}

func hostname(id string, nodes map[string]*swarm.Node) string {
	if n := nodes[id]; n != nil && n.Description.Hostname != "" {
		return n.Description.Hostname
	}
	return id
}

// worstOfSymptoms puts together what is alike, and returns what says most; of equals
// what is the matter with most slots. Nil where there is nothing.
func worstOfSymptoms(all []symptom) *symptom {
	alike := map[string]*symptom{}
	for _, y := range all {
		key := y.code + "\x00" + y.state + "\x00" + y.text
		g := alike[key]
		if g == nil {
			alike[key] = &y
			continue
		}
		g.slots += y.slots
		g.nodes = append(slices.Clone(g.nodes), y.nodes...)
		g.gravity, g.final = max(g.gravity, y.gravity), g.final || y.final
		if y.since.Before(g.since) {
			g.since = y.since
		}
		if y.until.After(g.until) {
			g.until = y.until
		}
	}
	var worst *symptom
	for _, key := range sortedKeys(alike) {
		g := alike[key]
		slices.Sort(g.nodes)
		g.nodes = slices.Compact(g.nodes)
		if worst == nil || cmp.Or(cmp.Compare(g.gravity, worst.gravity), cmp.Compare(g.slots, worst.slots)) > 0 {
			worst = g
		}
	}
	return worst
}
