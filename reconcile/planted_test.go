package reconcile

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/swarm"

	"github.com/skep-io/skep/spec"
)

// planted is a service in which something secret stands wherever one can be written.
func planted(value string) func(*swarm.ServiceSpec) {
	return func(s *swarm.ServiceSpec) {
		c := mutContainer(s)
		c.Env = []string{"DB_PASSWORD=" + value, "URL=postgres://app:" + value + "@db/x", "OPTS=--verbose token=" + value}
		c.Labels["app.api-key"] = value
		s.Labels["app.basicauth.users"] = "admin:" + value
		c.Command = []string{"serve", "--password=" + value, "--token", value}
		c.Args = []string{"sh", "-c", "exec serve --secret '" + value + "'"}
		c.Hosts = []string{"10.0.0.1 db"}
		c.Healthcheck = &container.HealthConfig{Test: []string{"CMD-SHELL", "curl -H 'Authorization: Bearer " + value + "' localhost"}}
		s.TaskTemplate.LogDriver = &swarm.Driver{Name: "splunk", Options: map[string]string{"splunk-token": value}}
		c.Mounts = []mount.Mount{{Type: mount.TypeVolume, Source: "shop_x", Target: "/x", VolumeOptions: &mount.VolumeOptions{
			DriverConfig: &mount.Driver{Name: "local", Options: map[string]string{"type": "cifs", "device": "//srv/x", "o": "username=a,password=" + value}}}}}
	}
}

// What looks secret shows in nothing that is told, of whatever happens to a stack: of a
// plan, a pass, a status, a history, of what is refused. That it changed does show; and
// the record, to which a rollback leads, has it.
func TestPlantedValuesAreNotTold(t *testing.T) {
	const first, second = "hunter-4f1c", "hunter-77aa"
	stackOf := func(image, value string) *spec.Stack {
		stack := makeStack("shop", with(service("shop", "web", image), planted(value)))
		stack.Secrets = []spec.Secret{{Key: "s", Name: "shop_s", Spec: swarm.SecretSpec{}, Value: spec.NewSensitive([]byte(value))}}
		return stack
	}
	var told strings.Builder
	tell := func(v any) {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&told, "%s\n%v\n%+v\n", text, v, v)
	}
	w := newWorld(t, stackOf("app:1", first))
	plan := func() *Plan {
		t.Helper()
		plan, err := w.r.Plan(t.Context(), w.stack)
		if err != nil {
			t.Fatal(err)
		}
		if err := RenderPlan(&told, true, plan); err != nil {
			t.Fatal(err)
		}
		tell(plan.View())
		tell(plan.Findings)
		return plan
	}
	result := func(res Result) {
		tell(res.Message)
		tell(res.Conditions)
		tell(res.Services)
		tell(res.Findings)
		tell(res.Transitions)
		if res.Plan != nil {
			tell(res.Plan.View())
		}
	}
	plan()
	result(w.settle())
	w.stack = stackOf("app:2", second)
	changed := map[string]bool{}
	for _, c := range plan().Changes {
		for _, f := range c.Fields {
			changed[f.Path] = true
			if f.Old == f.New {
				t.Errorf("%s does not show that it changes: %q", f.Path, f.New)
			}
		}
	}
	for _, path := range []string{"environment.DB_PASSWORD", "environment.URL", "environment.OPTS", "entrypoint", "command", "healthcheck.test", "labels.app.api-key", "deploy.labels.app.basicauth.users", "logging.options.splunk-token"} {
		if !changed[path] {
			t.Errorf("the change of %s is not told: %v", path, changed)
		}
	}
	result(w.settle())
	w.stack = stackOf("bad:3", first)
	refusals := 0
	w.engine.fault = func(op string, after bool) error {
		if op == "update service" {
			refusals++
			return errors.New("rpc error: code = InvalidArgument desc = invalid environment DB_PASSWORD=" + first)
		}
		return nil
	}
	refused := w.pass()
	if refused.Outcome != Failed || refusals == 0 {
		t.Fatalf("%s, %d refusals", refused.Outcome, refusals)
	}
	tell(refused.Err)
	result(refused)
	w.engine.fault = nil
	result(w.pass())
	for _, s := range w.engine.services {
		tasks := w.engine.tasks[s.ID]
		for i := range tasks {
			tasks[i].Status.Err = `starting container failed: exec: "serve --password=` + first + `": not found`
		}
	}
	result(w.settle())
	for _, number := range []int{1, 2, 3} {
		c, err := w.r.Compare(t.Context(), "shop", number)
		if err != nil {
			t.Fatal(err)
		}
		if err := RenderComparison(&told, false, c); err != nil {
			t.Fatal(err)
		}
		tell(c.Plan.View())
	}
	h, err := w.r.History(t.Context(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	tell(h)
	tell((Guard{Policy: policy(t, "rules: [{name: a}]")}).CheckStack(w.stack))

	text := told.String()
	for _, value := range []string{first, second, fmt.Sprintf("%x", first), strings.Trim(fmt.Sprint([]byte(second)), "[]")} {
		if i := strings.Index(text, value); i >= 0 {
			t.Errorf("%s is told: …%s…", value, text[max(0, i-200):min(len(text), i+60)])
		}
	}
	if !strings.Contains(text, masked) {
		t.Error("nothing is masked: the test no longer plants what is told")
	}
	recorded := 0
	for _, c := range w.engine.configs {
		if c.Spec.Labels[labelKind] != KindRelease {
			continue
		}
		r, err := unpack(c.Spec.Data, "shop")
		if err != nil {
			t.Fatal(err)
		}
		asJSON, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if env := strings.Join(containerOf(&r.Desired.Services[0].Spec).Env, " "); strings.Contains(env, "DB_PASSWORD=hunter-") {
			recorded++
		}
		if strings.Contains(string(asJSON), "SecretData\":\"hunter") {
			t.Error("a record has a secret's value")
		}
		labels, _ := json.Marshal(c.Spec.Labels)
		if strings.Contains(string(labels), "hunter-") {
			t.Errorf("a record's labels tell a value: %s", labels)
		}
	}
	if recorded != 3 {
		t.Errorf("%d records have what a rollback needs, want 3", recorded)
	}
}
