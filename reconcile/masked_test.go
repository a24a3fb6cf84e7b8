package reconcile

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/swarm"

	"github.com/skep-io/skep/spec"
)

// sealedSpec is a service with values in every field that a variable out of an encrypted
// file can be in.
func sealedSpec(value, masked string) swarm.ServiceSpec {
	return swarm.ServiceSpec{
		Annotations: swarm.Annotations{Name: "shop_web", Labels: map[string]string{spec.LabelMasked: masked, spec.LabelNamespace: "shop", "a": value}},
		TaskTemplate: swarm.TaskSpec{
			ContainerSpec: &swarm.ContainerSpec{
				Image: "web:1", Env: []string{"HARMLESS=" + value, "OPEN=told", "NONE"}, Args: []string{"-x", value}, Command: []string{value},
				Hostname: value, User: value, Dir: value, Hosts: []string{value}, Labels: map[string]string{"b": value},
				Healthcheck: &container.HealthConfig{Test: []string{"CMD", value}}, Sysctls: map[string]string{"c": value},
				Mounts: []mount.Mount{{Type: mount.TypeVolume, Target: "/data", Source: value, VolumeOptions: &mount.VolumeOptions{DriverConfig: &mount.Driver{Options: map[string]string{"o": value}}}}},
			},
			LogDriver: &swarm.Driver{Name: "x", Options: map[string]string{"d": value}},
		},
	}
}

const allMasked = "command deploy.labels.a entrypoint environment.HARMLESS extra_hosts healthcheck.test hostname labels.b logging.options.d sysctls.c user volumes./data working_dir"

// What the label names is shown neither as it was nor as it is to be: also where one of
// the two does not have the label.
func TestMaskedFieldsAreNotShown(t *testing.T) {
	t.Parallel()
	for name, masked := range map[string][2]string{
		"both": {allMasked, allMasked}, "what is to be": {allMasked, ""}, "what was": {"", allMasked}, "whole sections": {strings.NewReplacer(".HARMLESS", "", ".a", "", ".b", "", ".d", "", ".c", "", "./data", "").Replace(allMasked), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			desired := &Desired{Stack: "shop", Services: []DesiredService{{Key: "web", Name: "shop_web", Spec: sealedSpec("word-new", masked[0])}}}
			live := &Live{APIVersion: "1.47", Services: map[string]*swarm.Service{"shop_web": {ID: "x", Spec: sealedSpec("word-old", masked[1])}}}
			plan := Diff(desired, live, DiffOptions{})
			var out bytes.Buffer
			if err := (Rendering{Whole: true}).Plan(&out, plan); err != nil {
				t.Fatal(err)
			}
			view, err := json.Marshal(plan.View())
			if err != nil {
				t.Fatal(err)
			}
			for _, text := range []string{out.String(), string(view)} {
				if strings.Contains(text, "word-") {
					t.Errorf("a value is told:\n%s", text)
				}
				if !strings.Contains(text, "environment.HARMLESS") || !strings.Contains(text, "(changed)") {
					t.Errorf("it is not told that a value changes:\n%s", text)
				}
			}
		})
	}
}

func TestShown(t *testing.T) {
	t.Parallel()
	s := sealedSpec("word-1", allMasked)
	text, err := json.Marshal(Shown(&s))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "word-") || !strings.Contains(string(text), "OPEN=told") || !strings.Contains(string(text), "HARMLESS=•••") {
		t.Errorf("it shows %s", text)
	}
	if s.TaskTemplate.ContainerSpec.Env[0] != "HARMLESS=word-1" {
		t.Error("the service itself was changed")
	}
	if plain := sealedSpec("word-1", ""); Shown(&plain) != &plain {
		t.Error("a service without such values is another one")
	}
}

// A config out of an encrypted file is named by a hash that nobody can guess it by, and
// so is the stack.
func TestSealedConfigIsNamedByAKeyedHash(t *testing.T) {
	t.Parallel()
	stack := func(sealed bool) *spec.Stack {
		return &spec.Stack{Name: "shop", Configs: []spec.Config{{Key: "a", Name: "shop_a", Sealed: sealed, Spec: swarm.ConfigSpec{Data: []byte("1234")}}}}
	}
	name := func(sealed bool, key string) string {
		b := Binding{}
		if key != "" {
			b.Key = []byte(key)
		}
		return Bind(stack(sealed), b).Configs[0].Name
	}
	if name(false, "k1") != name(false, "k2") {
		t.Error("the name of an open config depends on the key")
	}
	if name(true, "k1") == name(true, "k2") || name(true, "k1") == name(false, "k1") {
		t.Error("the name of a sealed config does not depend on the key")
	}
	if got := name(true, ""); got != "shop_a-(new)" {
		t.Errorf("before there is a key it is called %q", got)
	}
	if Digest(stack(true), []byte("k1")) == Digest(stack(true), []byte("k2")) || Digest(stack(false), []byte("k1")) != Digest(stack(false), []byte("k2")) {
		t.Error("the digest does not depend on the key where it has to, or where it need not")
	}
	if o := Bind(stack(true), Binding{Key: []byte("k")}).Configs[0]; !o.payloadKnown(KindConfig) || (&DesiredObject{Hash: "x", Sealed: true}).payloadKnown(KindConfig) {
		t.Error("whether its content is known is told wrongly")
	}
}
