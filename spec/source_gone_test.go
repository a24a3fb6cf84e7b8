package spec

import (
	"os"
	"testing"
)

// A folder may have a name that looks like a file's: a link to it that dangles for
// a while does not mean that the stack is gone.
func TestDanglingFolderIsNotGone(t *testing.T) {
	const text = "name: site\nservices:\n  web:\n    image: a:1\n"
	d := newSpecs(t, map[string]string{"_rev/1/compose.yaml": text, "other.yml": "services:\n  web:\n    image: a:1\n"})
	d.link("_rev/1", "example.com")
	s := NewScanner(d.dir, Options{})
	if s.Scan(t.Context()).Stacks["site"] == nil {
		t.Fatal("the stack did not load")
	}
	d.check(os.Rename(d.path("_rev"), d.path("_away")))
	for scan := range 3 {
		snap := s.Scan(t.Context())
		if !snap.Complete || snap.Gone("site") || snap.Problems["site"] == nil {
			t.Errorf("scan %d: complete %t, gone %t, problems %v", scan, snap.Complete, snap.Gone("site"), snap.Problems)
		}
	}
	d.check(os.Rename(d.path("_away"), d.path("_rev")))
	if s.Scan(t.Context()).Stacks["site"] == nil {
		t.Error("the stack did not come back")
	}
	d.check(os.Remove(d.path("example.com")))
	if !s.Scan(t.Context()).Gone("site") {
		t.Error("the stack is not gone without its link")
	}
}

// Without its variables a stack is another one: a link to them that leads nowhere
// is an error, where a file that is not there is none.
func TestDanglingVariablesAreAnError(t *testing.T) {
	d := newSpecs(t, map[string]string{
		"shop/_v/env":       "PW=abc\n",
		"shop/compose.yaml": "services:\n  web:\n    image: a:1\n    environment: {PW: $PW}\n",
	})
	d.link("_v/env", "shop/.env")
	s := NewScanner(d.dir, Options{})
	if s.Scan(t.Context()).Stacks["shop"] == nil {
		t.Fatal("the stack did not load")
	}
	d.check(os.Rename(d.path("shop/_v"), d.path("shop/_w")))
	if snap := s.Scan(t.Context()); snap.Stacks["shop"] != nil || snap.Problems["shop"] == nil {
		t.Errorf("it loaded without its variables: %v", snap.Stacks["shop"].Services[0].Spec.TaskTemplate.ContainerSpec.Env)
	}
}

// An optional env_file that appears later is read.
func TestOptionalEnvFileAppears(t *testing.T) {
	d := newSpecs(t, map[string]string{"shop/compose.yaml": "services:\n  web:\n    image: a:1\n    env_file:\n      - path: extra.env\n        required: false\n"})
	d.age()
	s := NewScanner(d.dir, Options{})
	before := s.Scan(t.Context()).Stacks["shop"]
	s.Scan(t.Context()) // proven from now on
	d.write("shop/extra.env", "A=1\n")
	after := s.Scan(t.Context()).Stacks["shop"]
	if env := after.Services[0].Spec.TaskTemplate.ContainerSpec.Env; len(env) != 1 || env[0] != "A=1" {
		t.Errorf("env %q", env)
	}
	if before.Source.Fingerprint == after.Source.Fingerprint {
		t.Error("the fingerprint is the same")
	}
}

// What makes another stack of the same files is in the fingerprint: by that the
// daemon sees a change, and a release that failed is told from others.
func TestFingerprintTellsFolderAndProfiles(t *testing.T) {
	d := newSpecs(t, map[string]string{"a/compose.yaml": "name: shop\nservices:\n  web:\n    image: a:1\n    volumes: [./data:/data]\n  b:\n    image: b:1\n    profiles: [x]\n"})
	of := func(o Options) string { return Scan(t.Context(), d.dir, o).Stacks["shop"].Source.Fingerprint }
	first, profiled := of(Options{}), of(Options{Profiles: []string{"x"}})
	d.check(os.Rename(d.path("a"), d.path("b")))
	if moved := of(Options{}); first == profiled || first == moved {
		t.Errorf("%s, with a profile %s, in another folder %s", first, profiled, moved)
	}
}
