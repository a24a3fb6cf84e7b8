package reconcile

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/swarm"
	"pgregory.net/rapid"

	"github.com/skep-io/skep/spec"
)

var validName = regexp.MustCompile(`^[a-zA-Z0-9]+(?:[a-zA-Z0-9-_.]*[a-zA-Z0-9])?$`) // swarmkit's rule for configs and secrets

func TestNamesAreValidAndTellContentsApart(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringMatching(`[a-z][a-z0-9_.-]{0,80}[a-z0-9]`).Draw(t, "name")
		other := rapid.StringMatching(`[a-z][a-z0-9_.-]{0,80}[a-z0-9]`).Draw(t, "other")
		a, b := rapid.String().Draw(t, "a"), rapid.String().Draw(t, "b")
		final := func(name, content string) string {
			return bindConfig("s", &spec.Config{Name: name, Spec: swarm.ConfigSpec{Data: []byte(content)}}, Binding{}).Name
		}
		x, y := final(name, a), final(other, b)
		if len(x) > maxObjectName || !validName.MatchString(x) {
			t.Fatalf("name %q", x)
		}
		if (x == y) != (name == other && a == b) {
			t.Fatalf("%q of %q is %q, %q of %q is %q", name, a, x, other, b, y)
		}
	})
}

func TestRecordNames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		stack := rapid.StringMatching(`[a-z0-9][a-z0-9_-]{0,70}`).Draw(t, "stack")
		n := rapid.IntRange(0, 99999).Draw(t, "n")
		name := recordName(stack, n)
		if len(name) > maxObjectName || !validName.MatchString(name) {
			t.Fatalf("name %q", name)
		}
		if got := stackOfRecord(name); got != "" && got != stack {
			t.Fatalf("%q is taken for stack %q, it is %q's", name, got, stack)
		}
	})
}

func TestSecretNamesNeedTheKey(t *testing.T) {
	s := spec.Secret{Name: "s_token", Value: spec.NewSensitive([]byte("1234"))}
	a := bindSecret("s", &s, Binding{Key: []byte("one")})
	b := bindSecret("s", &s, Binding{Key: []byte("two")})
	if a.Name == b.Name || a.Hash == b.Hash {
		t.Error("a name can be guessed from without the key")
	}
}

func TestDesiredKeepsNoPayload(t *testing.T) {
	stack := makeStack("s", service("s", "web", "app:1"))
	stack.Secrets = []spec.Secret{{Key: "t", Name: "s_t", Value: spec.NewSensitive([]byte("planted-secret"))}}
	stack.Configs = []spec.Config{{Key: "c", Name: "s_c", Spec: swarm.ConfigSpec{Data: []byte("planted-config")}}}
	text, err := json.Marshal(Bind(stack, Binding{Key: []byte("k")}))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "planted") {
		t.Errorf("%s", text)
	}
}

func TestDigest(t *testing.T) {
	base := func() *spec.Stack { return configured("app:1", "one") }
	key := []byte("key")
	want := Digest(base(), key)
	if Digest(base(), key) != want {
		t.Error("the same stack has two digests")
	}
	for name, change := range map[string]func(*spec.Stack){
		"an image":           func(s *spec.Stack) { s.Services[0].Spec.TaskTemplate.ContainerSpec.Image = "app:2" },
		"a config's content": func(s *spec.Stack) { s.Configs[0].Spec.Data = []byte("two") },
		"an order":           func(s *spec.Stack) { s.Services[0].DependsOn = []string{"db"} },
		"a secret": func(s *spec.Stack) {
			s.Secrets = []spec.Secret{{Key: "t", Name: "s_t", Value: spec.NewSensitive([]byte("x"))}}
		},
	} {
		s := base()
		change(s)
		if Digest(s, key) == want {
			t.Errorf("%s does not change the digest", name)
		}
	}
	s := base()
	s.Policy.Suspend, s.Source.Revision = true, "other"
	if Digest(s, key) != want {
		t.Error("what is not deployed changes the digest")
	}
}

func TestWaves(t *testing.T) {
	services := []spec.Service{
		service("s", "web", "x", "api", "cache"), service("s", "api", "x", "db"), service("s", "db", "x"), service("s", "cache", "x"),
	}
	got := waves(services)
	for key, want := range map[string]int{"db": 0, "cache": 0, "api": 1, "web": 2} {
		if got[key] != want {
			t.Errorf("wave of %s is %d, want %d", key, got[key], want)
		}
	}
}
