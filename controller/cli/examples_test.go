package cli

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

const exampleShop = `x-skep:
  images: as-written
  rollout: {bake: 0s}
services:
  db:
    image: db:1
    deploy: {replicas: 1}
  web:
    image: shop:%d
    depends_on: [db]
    deploy: {replicas: 2}
`

const exampleBlog = `x-skep:
  images: as-written
  rollout: {bake: 0s}
services:
  web:
    image: blog:${TAG:-1}
    deploy: {replicas: 1}
`

// examplesRun says how an example's line is run where skep is what PATH says it is: false
// where that is not for here.
func examplesRun(line string) (how string, ok bool) {
	switch {
	case strings.Contains(line, "skep run"): // on a port that may be taken: daemon.txt runs it
		return "", false
	case strings.Contains(line, "| jq"):
		if _, err := exec.LookPath("jq"); err != nil {
			line, _, _ = strings.Cut(line, "|")
		}
	}
	return line, true
}

// Every example in a help text is carried out, as it is written, by a shell, in a
// directory that has stacks/shop.yml and stacks/blog, on a Swarm where shop is at its
// seventh release: each is understood, and can tell what it was asked.
func TestExamplesRun(t *testing.T) {
	engine := seededEngine(t)
	dir, n := t.TempDir(), 0
	for cmd := range commands(newRoot(nil)) {
		for _, line := range strings.Split(cmd.Example, "\n") {
			line, ok := examplesRun(strings.TrimSpace(line))
			if line == "" || !ok {
				continue
			}
			n++
			script := []string{"# " + line}
			if cmd.Name() == "rollback" { // somebody has to carry it out
				script = append(script, "exec skep run --specs stacks --listen 127.0.0.1:0 &daemon&")
			}
			if cmd.Name() == "validate" && !strings.Contains(line, "stacks") { // where one stands
				script = append(script, "cd stacks")
			}
			if strings.Contains(line, "--git-ref") { // of a repository that knows a remote's branch
				script = append(script, "exec git init -q .", "exec git add stacks", "exec git -c user.name=x -c user.email=x@test.invalid commit -qm one", "exec git update-ref refs/remotes/origin/main HEAD")
			}
			script = append(script, "exec sh $WORK/example.sh", `stdout '^exit [01]$'`, "! stderr panic",
				"-- example.sh --", line, "echo exit $?",
				"-- stacks/shop.yml --", fmt.Sprintf(exampleShop, 7), "-- stacks/blog/compose.yaml --", exampleBlog)
			name := fmt.Sprintf("%02d-%s.txt", n, cmd.Name())
			if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.Join(script, "\n")), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n < 35 {
		t.Errorf("only %d examples were found", n)
	}
	testscript.Run(t, testscript.Params{
		Dir: dir,
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", e.WorkDir)
			e.Setenv("DOCKER_HOST", engine.again().serve(e.Defer))
			return nil
		},
		RequireExplicitExec: true,
	})
}

// seededEngine has a stack shop with seven releases.
func seededEngine(t *testing.T) *smallEngine {
	t.Helper()
	engine := emptyEngine()
	host, dir := engine.serve(t.Cleanup), t.TempDir()
	for release := range 7 {
		if err := os.WriteFile(filepath.Join(dir, "shop.yml"), fmt.Appendf(nil, exampleShop, release+1), 0o600); err != nil {
			t.Fatal(err)
		}
		var said bytes.Buffer
		if code := Main(context.Background(), []string{"apply", "--specs", dir, "--host", host, "--wait"}, nil, &said, &said); code != exitGood {
			t.Fatalf("apply: exit code %d\n%s", code, said.String())
		}
	}
	return engine
}
