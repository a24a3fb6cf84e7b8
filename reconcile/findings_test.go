package reconcile

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"

	"github.com/skep-io/skep/spec"
)

// finding returns the finding of a code, or nil.
func finding(findings []spec.Finding, code string) *spec.Finding {
	i := slices.IndexFunc(findings, func(f spec.Finding) bool { return f.Code == code })
	if i < 0 {
		return nil
	}
	return &findings[i]
}

// global makes a service run on every node.
func global(s spec.Service) spec.Service {
	s.Spec.Mode = swarm.ServiceMode{Global: &swarm.GlobalService{}}
	return s
}

func with(s spec.Service, set ...func(*swarm.ServiceSpec)) spec.Service {
	for _, f := range set {
		f(&s.Spec)
	}
	return s
}

func ingressPort(number uint32) func(*swarm.ServiceSpec) {
	return func(s *swarm.ServiceSpec) {
		s.EndpointSpec = &swarm.EndpointSpec{Ports: []swarm.PortConfig{{PublishedPort: number, TargetPort: 80, PublishMode: swarm.PortConfigPublishModeIngress}}}
	}
}

func binding(source string) func(*swarm.ServiceSpec) {
	return func(s *swarm.ServiceSpec) {
		s.TaskTemplate.ContainerSpec.Mounts = []mount.Mount{{Type: mount.TypeBind, Source: source, Target: "/x"}}
	}
}

// Each code that is found with an engine at hand, as a first release meets it: told
// by plan, and by a pass.
func TestFindingsOfAnEngine(t *testing.T) {
	web := func(set ...func(*swarm.ServiceSpec)) *spec.Stack {
		return makeStack("shop", with(service("shop", "web", "app:1"), set...))
	}
	pinned := web()
	pinned.Policy.Images = spec.ImagesPin
	changed := web()
	changed.Networks[0].Create.Attachable = true
	for code, tt := range map[string]struct {
		stack    *spec.Stack
		world    func(e *fakeEngine)
		severity spec.Severity
		says     string
	}{
		"no-node-fits":          {web(on("node.labels.disk == tape")), nil, spec.Warning, "node.labels.disk == tape"},
		"replicas-exceed-nodes": {web(perNode(1)), nil, spec.Warning, "2 replicas have room for 1"},
		"host-port-taken": {web(hostPort(80)), func(e *fakeEngine) {
			e.nodes = append(e.nodes, *testNode("n2"))
			e.services["x"] = &swarm.Service{ID: "x", Spec: *placed("blog", 1, hostPort(80), func(s *swarm.ServiceSpec) { mutContainer(s) })}
		}, spec.Warning, "service blog_app of stack blog"},
		"ingress-port-taken": {web(ingressPort(80)), func(e *fakeEngine) {
			s := placed("blog", 1, ingressPort(80), func(s *swarm.ServiceSpec) { mutContainer(s) })
			s.Labels = nil // a plain service, of no stack
			e.services["x"] = &swarm.Service{ID: "x", Spec: *s}
		}, spec.Error, "port 80/tcp, which shop_web publishes, is held by service blog_app"},
		"network-changed": {changed, func(e *fakeEngine) {
			e.networks["x"] = network.Summary{ID: "x", Name: "shop_default", Scope: "swarm", Driver: "overlay"}
		}, spec.Warning, "attachable"},
		"field-unsupported": {web(func(s *swarm.ServiceSpec) {
			s.TaskTemplate.ContainerSpec.Healthcheck = &container.HealthConfig{Test: []string{"CMD", "x"}, StartInterval: time.Second}
		}), nil, spec.Warning, "healthcheck.start_interval"},
		"image-local-only": {pinned, func(e *fakeEngine) {
			e.nodes, e.noImage = append(e.nodes, *testNode("n2")), fmt.Errorf("manifest unknown: %w", cerrdefs.ErrNotFound)
		}, spec.Warning, "the registry has no image app:1, and 2 nodes take tasks"},
		"mode-changed": {makeStack("shop", global(service("shop", "web", "app:1"))), func(e *fakeEngine) {
			s := service("shop", "web", "app:1").Spec
			e.services["x"] = &swarm.Service{ID: "x", Spec: s}
			e.networks["y"] = network.Summary{ID: "y", Name: "shop_default", Scope: "swarm", Driver: "overlay", Labels: map[string]string{spec.LabelNamespace: "shop"}}
		}, spec.Warning, "from replicated to global"},
	} {
		t.Run(code, func(t *testing.T) {
			w := newWorld(t, tt.stack)
			if tt.world != nil {
				tt.world(w.engine)
			}
			plan, err := w.r.Plan(t.Context(), w.stack)
			if err != nil {
				t.Fatal(err)
			}
			pass := w.pass()
			if pass.Err != nil {
				t.Fatal(pass.Err)
			}
			for who, findings := range map[string][]spec.Finding{"plan": plan.Findings, "pass": pass.Findings} {
				if f := finding(findings, code); f == nil || f.Severity != tt.severity || f.File != "shop.yml" || !strings.Contains(f.Message, tt.says) {
					t.Errorf("%s told %v", who, findings)
				}
			}
			if known, ok := spec.CodeOf(code); !ok || !slices.Contains(known.Severities, tt.severity) {
				t.Errorf("package spec does not know %s %s", tt.severity, code)
			}
			if held := pass.Outcome == Held; held != (tt.severity == spec.Error) {
				t.Errorf("%s: %s", pass.Outcome, pass.Message)
			}
		})
	}
}

// One node only needs no registry, and one that cannot be reached may have the image.
func TestImageThatIsNowhere(t *testing.T) {
	for name, tt := range map[string]struct {
		image string
		nodes []swarm.Node
		err   error
		want  string
	}{
		"nowhere":                     {"app:1", []swarm.Node{*testNode("a"), *testNode("b")}, cerrdefs.ErrNotFound, "image-local-only"},
		"in the registry's words":     {"reg.example.com/app:1", []swarm.Node{*testNode("a"), *testNode("b")}, fmt.Errorf("errors: manifest unknown: manifest unknown"), "image-local-only"},
		"an official image, denied":   {"app:1", []swarm.Node{*testNode("a"), *testNode("b")}, cerrdefs.ErrPermissionDenied, "image-local-only"},
		"another one, denied":         {"team/app:1", []swarm.Node{*testNode("a"), *testNode("b")}, cerrdefs.ErrPermissionDenied, "image-not-pinned"},
		"another registry's, denied":  {"reg.example.com/library/app:1", []swarm.Node{*testNode("a"), *testNode("b")}, cerrdefs.ErrPermissionDenied, "image-not-pinned"},
		"the registry is away":        {"app:1", []swarm.Node{*testNode("a"), *testNode("b")}, fmt.Errorf("no route to host"), "image-not-pinned"},
		"one node":                    {"app:1", []swarm.Node{*testNode("a")}, cerrdefs.ErrNotFound, "image-not-pinned"},
		"one node that takes tasks":   {"app:1", []swarm.Node{*testNode("a"), *testNode("b", drained)}, cerrdefs.ErrNotFound, "image-not-pinned"},
		"nowhere, three nodes' worth": {"app:1", []swarm.Node{*testNode("a"), *testNode("b"), *testNode("c")}, cerrdefs.ErrNotFound, "image-local-only"},
	} {
		w := newWorld(t, makeStack("shop", service("shop", "web", tt.image)))
		w.stack.Policy.Images = spec.ImagesPin
		w.engine.nodes, w.engine.noImage = tt.nodes, tt.err
		plan, err := w.r.Plan(t.Context(), w.stack)
		if err != nil {
			t.Fatal(err)
		}
		if len(plan.Findings) != 1 || plan.Findings[0].Code != tt.want {
			t.Errorf("%s: %v, want %s", name, plan.Findings, tt.want)
		}
	}
}

// A new mode is written by removal and creation, and so is the way back.
func TestModeChangeAndItsRollback(t *testing.T) {
	w := newWorld(t, makeStack("shop", service("shop", "web", "app:1")))
	w.settle()
	w.engine.takeWrites()

	w.stack = makeStack("shop", global(service("shop", "web", "app:2")))
	if res := w.settle(); res.Outcome != Unchanged || modeOf(&w.engine.service(t, "shop_web").Spec) != modeGlobal {
		t.Fatalf("%s: %s", res.Outcome, res.Message)
	}
	if writes := strings.Join(w.engine.takeWrites(), ", "); !strings.Contains(writes, "remove service") || strings.Contains(writes, "update service") {
		t.Errorf("writes: %s", writes)
	}

	w.stack = makeStack("shop", service("shop", "web", "app:3-bad"))
	w.stack.Policy.Rollout.Deadline = 30 * time.Second
	res := w.settle()
	s := w.engine.service(t, "shop_web")
	if modeOf(&s.Spec) != modeGlobal || s.Spec.TaskTemplate.ContainerSpec.Image != "app:2" || w.phases() != "1:Healthy 2:Healthy 3:Failed" {
		t.Errorf("%s %s after %s: %s", modeOf(&s.Spec), s.Spec.TaskTemplate.ContainerSpec.Image, w.phases(), res.Message)
	}
}

// What plan calls a replacement the release calls one too.
func TestRolloutCountsReplacements(t *testing.T) {
	w := newWorld(t, makeStack("shop", service("shop", "web", "app:1"), service("shop", "db", "db:1")))
	w.settle()
	w.stack = makeStack("shop", global(service("shop", "web", "app:2")), service("shop", "db", "db:1"))
	res := w.pass()
	const want = "release 2: 0 to create, 0 to update, 1 to replace, 0 to remove; 1 service restarts"
	if len(res.Transitions) != 1 || res.Transitions[0].Message != want {
		t.Errorf("%+v, want %s", res.Transitions, want)
	}
}

// A process that dies between removal and creation leaves nothing that the next one
// does not make good.
func TestModeChangeCutInTwo(t *testing.T) {
	w := newWorld(t, makeStack("shop", service("shop", "web", "app:1")))
	w.settle()
	w.engine.fault = func(op string, after bool) error {
		if op == "create service" && !after {
			return fmt.Errorf("the engine is gone")
		}
		return nil
	}
	w.stack = makeStack("shop", global(service("shop", "web", "app:2")))
	for range 3 {
		w.pass()
	}
	w.engine.fault = nil
	w.restart()
	if res := w.settle(); res.Outcome != Unchanged || modeOf(&w.engine.service(t, "shop_web").Spec) != modeGlobal {
		t.Errorf("%s: %s", res.Outcome, res.Message)
	}
}

// What x-skep.findings raises to an error keeps a release from beginning.
func TestRaisedFindingsBlock(t *testing.T) {
	w := newWorld(t, makeStack("shop", service("shop", "web", "app:1")))
	w.settle()
	w.engine.takeWrites()
	w.stack = makeStack("shop", global(service("shop", "web", "app:2")))
	w.stack.Policy.Findings = map[string]spec.Severity{"mode-changed": spec.Error}
	res := w.settle()
	if res.Outcome != Held || res.Reason != "ModeChanged" || len(w.engine.takeWrites()) > 0 || w.phases() != "1:Healthy" {
		t.Errorf("%s %s, %s", res.Outcome, res.Reason, w.phases())
	}
	plan, err := w.r.Plan(t.Context(), w.stack)
	if err != nil || !plan.Empty() || firstError(plan) == nil {
		t.Errorf("plan %+v, %v", plan, err)
	}
	w.stack.Policy.Findings["mode-changed"] = spec.Off
	if res := w.pass(); finding(res.Findings, "mode-changed") != nil || res.Outcome != Applied {
		t.Errorf("off: %s %s, %v", res.Outcome, res.Message, res.Findings)
	}
}

// One that only the registry's answer brings is as good.
func TestRaisedImageFindingBlocks(t *testing.T) {
	w := newWorld(t, makeStack("shop", service("shop", "web", "app:1")))
	w.stack.Policy.Images = spec.ImagesPin
	w.stack.Policy.Findings = map[string]spec.Severity{"image-not-pinned": spec.Error}
	plan, err := w.r.Plan(t.Context(), w.stack)
	if err != nil || !plan.Empty() || firstError(plan) == nil {
		t.Errorf("plan %+v, %v", plan, err)
	}
	res := w.pass()
	if res.Outcome != Held || res.Reason != "ImageNotPinned" || len(w.engine.takeWrites()) > 0 || res.Requeue == 0 {
		t.Errorf("%s %s: %s, again in %s", res.Outcome, res.Reason, res.Message, res.Requeue)
	}
	w.engine.digest = "there"
	w.engine.advance(2 * negativeFor)
	if res := w.settle(); res.Outcome != Unchanged {
		t.Errorf("%s %s: %s", res.Outcome, res.Reason, res.Message)
	}
}

// A finding of the Swarm that comes up later, raised or not, keeps nothing that is
// under way from being judged and taken back.
func TestRaisedFindingsLeaveTheWayBackOpen(t *testing.T) {
	raised := map[string]spec.Severity{"no-node-fits": spec.Error}
	w := newWorld(t, makeStack("shop", with(service("shop", "web", "app:1"), on("node.id == n1"))))
	w.stack.Policy.Findings = raised
	w.settle()
	w.stack = makeStack("shop", with(service("shop", "web", "app:2-bad"), on("node.id == n1")))
	w.stack.Policy.Findings = raised
	w.pass()
	w.engine.nodes[0].Spec.Availability = swarm.NodeAvailabilityDrain
	if _, err := w.r.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	res := w.settle()
	if f := finding(res.Findings, "no-node-fits"); f == nil || f.Severity != spec.Warning {
		t.Errorf("told %v", res.Findings)
	}
	if w.images() != "shop_web=app:1" || w.phases() != "1:Healthy 2:Failed" {
		t.Errorf("%s, %s: %s %s", w.images(), w.phases(), res.Outcome, res.Message)
	}
}

// A rejected task tells what its node lacks: to the pass, to plan, and to status.
func TestMissingBindIsTold(t *testing.T) {
	w := newWorld(t, makeStack("shop", with(service("shop", "web", "app:1"), binding("/srv/www"))))
	w.engine.nodes = []swarm.Node{*testNode("n1"), *testNode("n2")}
	w.pass()
	s := w.engine.service(t, "shop_web")
	for slot, node := range []string{"n1", "n2"} {
		task := w.engine.task(s, slot+1, swarm.TaskStateRejected)
		task.NodeID, task.Status.Err = node, `invalid mount config for type "bind": bind source path does not exist: /srv/www`
		w.engine.tasks[s.ID] = append(w.engine.tasks[s.ID], task)
	}
	w.engine.advance(time.Minute)
	plan, err := w.r.Plan(t.Context(), w.stack)
	if err != nil {
		t.Fatal(err)
	}
	st, err := w.r.Status(t.Context(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	for who, findings := range map[string][]spec.Finding{"pass": w.pass().Findings, "plan": plan.Findings, "status": st.Findings} {
		if f := finding(findings, "bind-missing-on-nodes"); f == nil || !strings.Contains(f.Message, "/srv/www on host-n1, host-n2") {
			t.Errorf("%s told %v", who, findings)
		}
	}
}

// Status has no file: what it told is in the release's record, without what is no
// warning, and what is of the Swarm is looked for anew, as x-skep.findings has it.
func TestStatusTellsFindings(t *testing.T) {
	w := newWorld(t, makeStack("shop", with(service("shop", "web", "app:1"), perNode(1), func(s *swarm.ServiceSpec) {
		s.TaskTemplate.ContainerSpec.Healthcheck = &container.HealthConfig{StartInterval: time.Second}
	})))
	w.stack.Findings = []spec.Finding{
		{File: "shop.yml", Line: 3, Column: 5, Severity: spec.Warning, Code: "image-untagged", Message: "the image has no tag", Service: "web"},
		{File: "shop.yml", Line: 4, Severity: spec.Info, Code: "unused", Message: "nobody uses it"},
	}
	w.stack.Policy.Findings = map[string]spec.Severity{"replicas-exceed-nodes": spec.Info}
	w.settle()
	status := func() []spec.Finding {
		t.Helper()
		w.restart()
		st, err := w.r.Status(context.Background(), "shop")
		if err != nil {
			t.Fatal(err)
		}
		return st.Findings
	}
	got := status()
	if len(got) != 3 || got[0] != w.stack.Findings[0] || finding(got, "field-unsupported") == nil || finding(got, "replicas-exceed-nodes") == nil || finding(got, "replicas-exceed-nodes").Severity != spec.Info {
		t.Errorf("status told %v", got)
	}
	w.engine.nodes = append(w.engine.nodes, *testNode("n2"))
	if got := status(); finding(got, "replicas-exceed-nodes") != nil {
		t.Errorf("with a node more: %v", got)
	}
	w.stack = makeStack("shop", service("shop", "web", "app:2"))
	w.settle()
	if got := status(); len(got) != 0 {
		t.Errorf("of the release before: %v", got)
	}
}

// Only the newest release's findings are kept in memory, and all of them bounded.
func TestRecordedFindingsAreBounded(t *testing.T) {
	var many []spec.Finding
	for i := range 200 {
		many = append(many, spec.Finding{Severity: spec.Warning, Code: "option-ignored", Line: i + 1, Message: strings.Repeat("x", 5000)})
	}
	many = append(many, spec.Finding{Severity: spec.Error, Code: "worst"}, spec.Finding{Severity: spec.Warning, Code: "mode-changed"}, many[0])
	got := lasting(many, many)
	if len(got) != maxFindings || got[0].Code != "worst" || len([]rune(got[1].Message)) != maxFinding || finding(got, "mode-changed") != nil {
		t.Errorf("%d findings, the first %v", len(got), got[0])
	}
	data, err := pack(&record{Format: 1, Desired: &Desired{}, Findings: got})
	if err != nil || len(data) > maxRecord/10 {
		t.Errorf("%d bytes, %v", len(data), err)
	}

	w := newWorld(t, makeStack("shop", service("shop", "web", "app:1")))
	for i := range 3 {
		w.stack = makeStack("shop", service("shop", "web", fmt.Sprintf("app:%d", i)))
		w.stack.Findings = got
		w.settle()
	}
	for _, restart := range []bool{false, true} {
		if restart {
			w.restart()
		}
		releases, err := w.r.memory.releases(t.Context(), "shop")
		if err != nil || len(releases) != 3 {
			t.Fatalf("%d releases, %v", len(releases), err)
		}
		for i, rel := range releases {
			if kept := len(rel.index.findings) > 0; kept != (i == 2) {
				t.Errorf("release %d keeps findings: %t", rel.Number, kept)
			}
		}
	}
}

// What the Swarm makes of a finding from moment to moment is one finding.
func TestSameFinding(t *testing.T) {
	world := spec.Finding{Code: "bind-missing-on-nodes", Service: "web", Severity: spec.Warning, Message: "on n1"}
	later := world
	later.Message = "on n1, n2"
	other := later
	other.Service = "db"
	file := spec.Finding{Code: "network-changed", Message: "a"}
	second := file
	second.Message = "b"
	inFile, inFile2 := spec.Finding{Code: "replicas-exceed-nodes", Line: 3, Message: "a"}, spec.Finding{Code: "replicas-exceed-nodes", Line: 3, Message: "b"}
	for _, tt := range []struct {
		a, b spec.Finding
		want bool
	}{{world, world, true}, {world, later, true}, {world, other, false}, {file, second, false}, {inFile, inFile2, false}} {
		if SameFinding(tt.a, tt.b) != tt.want {
			t.Errorf("%v and %v: want %t", tt.a, tt.b, tt.want)
		}
	}
}

// A record of an earlier version has neither findings nor severities.
func TestOlderRecordsAreRead(t *testing.T) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write([]byte(`{"format":1,"desired":{"stack":"shop","services":[{"key":"web","name":"shop_web","spec":{"Name":"shop_web"}}]},"changed":{"shop_web":"-"}}`)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	r := parseRelease(&swarm.Config{Spec: swarm.ConfigSpec{Data: b.Bytes(), Annotations: swarm.Annotations{Labels: map[string]string{labelRelease: "7", labelStack: "shop"}}}})
	if r == nil || r.damaged || r.Number != 7 || !r.index.objects[Ref{KindService, "shop_web"}] || r.index.findings != nil {
		t.Errorf("%+v", r)
	}
}

// A label that goes from a node is noticed by a stack that was settled.
func TestNodeLabelsAreWatched(t *testing.T) {
	w := newWorld(t, makeStack("shop", with(service("shop", "web", "app:1"), on("node.labels.disk == ssd"))))
	w.engine.nodes = []swarm.Node{*testNode("n1", labelled1("disk", "ssd"))}
	if res := w.settle(); finding(res.Findings, "no-node-fits") != nil {
		t.Errorf("told %v", res.Findings)
	}
	w.engine.nodes[0].Spec.Labels = map[string]string{"disk": "tape"}
	changed, err := w.r.Refresh(t.Context())
	if err != nil || !slices.Equal(changed, []string{"shop"}) {
		t.Fatalf("changed %v, %v", changed, err)
	}
	if res := w.pass(); finding(res.Findings, "no-node-fits") == nil {
		t.Errorf("told %v", res.Findings)
	}
}
