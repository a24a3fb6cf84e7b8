package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"

	"github.com/skep-io/skep/controller/cli"
	"github.com/skep-io/skep/e2e/leaks"
	"github.com/skep-io/skep/reconcile"
)

// web is a small stack's file: one service of the test application. Its releases bake
// for no longer than it takes to see that they do.
func web(image string, replicas int) string {
	return fmt.Sprintf(`services:
  web:
    x-skep: {rollout: {bake: 1s}}
    image: %s
    deploy:
      replicas: %d
      update_config: {monitor: 2s}
    healthcheck:
      test: ["CMD", "curl", "-f", "http://localhost:8000/healthz"]
      interval: 1s
      timeout: 1s
      retries: 3
`, image, replicas)
}

// taskIDs are those of a service's running tasks, sorted.
func taskIDs(t *testing.T, name string) []string {
	t.Helper()
	var ids []string
	for _, task := range running(t, name, "") {
		ids = append(ids, task.ID)
	}
	slices.Sort(ids)
	return ids
}

func TestAdoptionRestartsNothing(t *testing.T) {
	t.Parallel()
	const stack = "adopted"
	cleanUp(t, stack)
	dir := t.TempDir()
	file := web("app:1.0", 2) + `    environment: {B: "2", A: "1"}
    configs: [{source: motd, target: /motd}]
    secrets: [token]
configs: {motd: {file: ./motd.txt}}
secrets: {token: {file: ./token.txt}}
`
	secret := leaked.Plant("the secret of an adopted stack", leaks.Secret)
	for name, text := range map[string]string{"motd.txt": "hello\n", "token.txt": secret + "\n", "compose.yaml": file} {
		if err := os.MkdirAll(filepath.Join(dir, stack), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, stack, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	docker(t, "stack", "deploy", "--detach", "--resolve-image", "never", "-c", filepath.Join(dir, stack, "compose.yaml"), stack)
	awaitRunning(t, time.Minute, stack+"_web", "app:1.0", 2)
	tasks := taskIDs(t, stack+"_web")

	d := start(t, &daemon{specs: dir})
	// Docker leaves the updater's settings out and skep is explicit about them: what
	// lives is remembered as release 0, and the change restarts nothing.
	awaitReady(t, d, stack, 1)
	if got := taskIDs(t, stack+"_web"); !slices.Equal(got, tasks) {
		t.Errorf("tasks were replaced: %v, then %v", tasks, got)
	}
	if c := service(t, stack+"_web").Spec.UpdateConfig; c == nil || c.Order != swarm.UpdateOrderStartFirst {
		t.Errorf("it is not updated start-first: %+v", c)
	}
	if out := docker(t, "stack", "ls"); !strings.Contains(out, stack) {
		t.Errorf("docker stack ls does not list it:\n%s", out)
	}
	refs := service(t, stack+"_web").Spec.TaskTemplate.ContainerSpec
	if refs.Configs[0].ConfigName != stack+"_motd" || refs.Secrets[0].SecretName != stack+"_token" {
		t.Errorf("plain names are not kept: %s, %s", refs.Configs[0].ConfigName, refs.Secrets[0].SecretName)
	}
	d.write(stack+"/motd.txt", "hello again\n")
	await(t, time.Minute, "the new content rolls the service", func() error {
		if c := service(t, stack+"_web").Spec.TaskTemplate.ContainerSpec.Configs[0].ConfigName; !strings.HasPrefix(c, stack+"_motd-") {
			return fmt.Errorf("it uses %s", c)
		}
		return nil
	})
	awaitReady(t, d, stack, 1)
	if s := service(t, stack+"_web").Spec.TaskTemplate.ContainerSpec.Secrets[0].SecretName; s != stack+"_token" {
		t.Errorf("the secret, which did not change, is now %s", s)
	}
	d.write(stack+"/token.txt", leaked.Plant("the secret that replaced it", leaks.Secret)+"\n")
	await(t, time.Minute, "the new secret rolls the service", func() error {
		if s := service(t, stack+"_web").Spec.TaskTemplate.ContainerSpec.Secrets[0].SecretName; !strings.HasPrefix(s, stack+"_token-") {
			return fmt.Errorf("it uses %s", s)
		}
		return nil
	})
	awaitReady(t, d, stack, 1)
}

// TestSteadyStateWritesNothing: no version of any object moves, however often
// files are touched, the daemon is restarted or a resync strikes.
func TestSteadyStateWritesNothing(t *testing.T) {
	t.Parallel()
	d := start(t, &daemon{})
	file := web("app:1.0", 1) + `    environment: {B: "2", A: "1"}
    configs: [{source: c, target: /c}]
    secrets: [s]
  job: {image: "app:1.0", command: ["sh"], deploy: {mode: replicated-job, replicas: 0}}
configs: {c: {content: hello}}
secrets: {s: {file: ./s.txt}}
`
	d.write("s.txt", leaked.Plant("the secret of a steady state", leaks.Secret)+"\n")
	stacks := []string{"steady-1", "steady-2", "steady-3"}
	for _, stack := range stacks {
		cleanUp(t, stack)
		d.write(stack+".yml", file)
	}
	all := func() string {
		var text string
		for _, stack := range stacks {
			text += fmt.Sprint(versions(t, stack))
		}
		return text
	}
	for _, stack := range stacks {
		awaitReady(t, d, stack, 1)
	}
	previous := service(t, "steady-1_web").PreviousSpec
	before := all()
	for range 3 {
		for _, stack := range stacks {
			d.write(stack+".yml", file+"# touched\n")
		}
	}
	d.stop()
	start(t, &daemon{owner: d.owner, specs: d.specs, log: d.log})
	always(t, 25*time.Second, "steady state", func() error { // longer than a resync
		if after := all(); after != before {
			return fmt.Errorf("versions moved from %s to %s", before, after)
		}
		return nil
	})
	if now := service(t, "steady-1_web").PreviousSpec; !reflect.DeepEqual(previous, now) {
		t.Errorf("the spec to roll back to is not what it was: %+v", now)
	}
}

func TestDriftIsSeenAndCorrected(t *testing.T) {
	t.Parallel()
	const stack = "drift"
	cleanUp(t, stack)
	d := start(t, &daemon{})
	d.write(stack+".yml", web("app:1.0", 1)+"    configs: [{source: c, target: /c}]\nconfigs: {c: {content: hello}}\n")
	awaitReady(t, d, stack, 1)

	seen := time.Now()
	docker(t, "service", "scale", "--detach", stack+"_web=3")
	await(t, 10*time.Second, "replicas are corrected", func() error {
		if n := *service(t, stack+"_web").Spec.Mode.Replicated.Replicas; n != 1 {
			return fmt.Errorf("%d replicas", n)
		}
		return nil
	})
	t.Logf("scaling by hand was corrected after %s", time.Since(seen).Round(time.Millisecond))
	awaitReady(t, d, stack, 1)
	docker(t, "service", "update", "--detach", "--image", "app:2.0", stack+"_web")
	awaitRunning(t, time.Minute, stack+"_web", "app:1.0", 1)
	awaitReady(t, d, stack, 1)
	docker(t, "service", "rm", stack+"_web")
	awaitRunning(t, time.Minute, stack+"_web", "app:1.0", 1)
	awaitReady(t, d, stack, 1)
	if got := d.log.lines("drift-corrected"); len(got) < 3 {
		t.Errorf("%d corrections in the log", len(got))
	}

	t.Log("a removed network and config come back, before the service that needs them")
	docker(t, "stack", "rm", stack)
	awaitRunning(t, time.Minute, stack+"_web", "app:1.0", 1)
	awaitReady(t, d, stack, 1)

	t.Log("drift: report tells and writes nothing")
	d.write(stack+".yml", "x-skep: {drift: report}\n"+web("app:1.0", 1)+"    configs: [{source: c, target: /c}]\nconfigs: {c: {content: hello}}\n")
	awaitReady(t, d, stack, 1)
	docker(t, "service", "scale", "--detach", stack+"_web=2")
	await(t, 10*time.Second, "drift is reported", func() error {
		for _, l := range d.log.lines("held") {
			if l["reason"] == "Drifted" {
				return nil
			}
		}
		return errors.New("not in the log")
	})
	always(t, 3*time.Second, "and left alone", func() error {
		if n := *service(t, stack+"_web").Spec.Mode.Replicated.Replicas; n != 2 {
			return fmt.Errorf("%d replicas", n)
		}
		return nil
	})

	t.Log("ignore: the live value wins, also when other fields are written")
	d.write(stack+".yml", "x-skep: {ignore: [services.web.deploy.replicas]}\n"+web("app:2.0", 1)+"    configs: [{source: c, target: /c}]\nconfigs: {c: {content: hello}}\n")
	awaitRunning(t, time.Minute, stack+"_web", "app:2.0", 2)
	awaitReady(t, d, stack, 1)
}

func TestPruneTakesOnlyItsOwn(t *testing.T) {
	t.Parallel()
	const stack = "prune"
	cleanUp(t, stack)
	d := start(t, &daemon{})
	d.write(stack+".yml", web("app:1.0", 1)+"  old: {image: \"app:1.0\", networks: [side]}\nnetworks: {side: {}}\n")
	awaitReady(t, d, stack, 1)
	docker(t, "service", "create", "--detach", "--name", stack+"_foreign", "--label", "com.docker.stack.namespace="+stack, "--replicas", "0", "app:1.0")
	d.write(stack+".yml", web("app:1.0", 1))
	await(t, time.Minute, "what left the file is removed", func() error {
		if service(t, stack+"_old") != nil {
			return errors.New("the service is there")
		}
		nets, err := lab.Client(0).NetworkList(t.Context(), network.ListOptions{Filters: filters.NewArgs(filters.Arg("name", stack+"_side"))})
		if err != nil || len(nets) > 0 {
			return fmt.Errorf("networks %v, %v", nets, err)
		}
		return nil
	})
	awaitReady(t, d, stack, 2)
	if service(t, stack+"_foreign") == nil {
		t.Error("what is not skep's own was removed")
	}
}

func TestFileGone(t *testing.T) {
	t.Parallel()
	for _, prune := range []bool{false, true} {
		t.Run(fmt.Sprintf("prune-%v", prune), func(t *testing.T) {
			t.Parallel()
			stack := fmt.Sprintf("gone-%v", prune)
			cleanUp(t, stack)
			d := start(t, &daemon{prune: prune})
			cleanUp(t, stack+"-stays") // a directory without any stack is never believed
			d.write("stays.yml", "name: "+stack+"-stays\nservices: {web: {image: \"app:1.0\", deploy: {replicas: 0}}}\n")
			d.write(stack+".yml", web("app:1.0", 1))
			awaitReady(t, d, stack, 1)
			d.remove(stack + ".yml")
			if prune {
				await(t, 2*time.Minute, "the stack is removed", func() error {
					if v := versions(t, stack); len(v) > 0 {
						return fmt.Errorf("%v are there", v)
					}
					return nil
				})
				return
			}
			await(t, 2*time.Minute, "the orphan is told", func() error {
				for _, l := range d.log.lines("held") {
					if l["reason"] == "Orphaned" {
						return nil
					}
				}
				return errors.New("not in the log")
			})
			if len(running(t, stack+"_web", "app:1.0")) != 1 {
				t.Error("it does not run any more")
			}
		})
	}
}

func TestGitCommitRollsOutAndRevertGoesBack(t *testing.T) {
	t.Parallel()
	const stack = "gitops"
	cleanUp(t, stack)
	dir := t.TempDir()
	git := func(args ...string) string {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-C", dir, "-c", "user.name=e2e", "-c", "user.email=e2e@localhost", "-c", "commit.gpgsign=false"}, args...)...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("git %v: %v: %s", args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	commit := func(text, subject string) string {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, stack+".yml"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		git("add", "-A")
		git("commit", "-q", "-m", subject)
		return git("rev-parse", "HEAD")[:7]
	}
	git("init", "-q", "-b", "main")
	first := commit(web("app:1.0", 2), "web 1.0")
	d := start(t, &daemon{specs: dir})
	awaitReady(t, d, stack, 1)
	if res := status(t, d.owner, stack); res.Release.Revision != first || res.Release.Subject != "web 1.0" {
		t.Errorf("revision %q, subject %q; the commit is %s", res.Release.Revision, res.Release.Subject, first)
	}
	second := commit(web("app:2.0", 2), "web 2.0")
	awaitRunning(t, time.Minute, stack+"_web", "app:2.0", 2)
	awaitReady(t, d, stack, 2)
	await(t, 10*time.Second, "the release is of the commit", func() error {
		// A file is seen before its commit: then it is the working tree's, dirty.
		if r := status(t, d.owner, stack).Release.Revision; !strings.HasPrefix(r, second) && !strings.HasPrefix(r, first) {
			return fmt.Errorf("it is of %s", r)
		}
		return nil
	})
	git("revert", "--no-edit", "HEAD")
	awaitRunning(t, time.Minute, stack+"_web", "app:1.0", 2)
	awaitReady(t, d, stack, 3)
}

func TestStacksAndServicesInOrder(t *testing.T) {
	t.Parallel()
	cleanUp(t, "order-app")
	cleanUp(t, "order-infra")
	d := start(t, &daemon{})
	d.write("order-app.yml", "x-skep: {depends_on: [order-infra]}\n"+web("app:1.0", 1))
	always(t, 3*time.Second, "the stack waits for one that is not there", func() error {
		if service(t, "order-app_web") != nil {
			return errors.New("it was deployed")
		}
		return nil
	})
	d.write("order-infra.yml", web("app:1.0", 1)+"    depends_on: [db]\n  db:\n    image: app:1.0\n    healthcheck: {test: [\"CMD\", \"curl\", \"-f\", \"http://localhost:8000/healthz\"], interval: 1s}\n")
	awaitReady(t, d, "order-app", 1)
	created := func(name string) time.Time { return service(t, name).CreatedAt }
	db, app, next := created("order-infra_db"), created("order-infra_web"), created("order-app_web")
	if !db.Before(app) || !app.Before(next) {
		t.Errorf("created at %s, %s, %s", db, app, next)
	}
	for _, task := range running(t, "order-infra_db", "") {
		if task.Status.Timestamp.After(app) {
			t.Errorf("web was created at %s, before db ran at %s", app, task.Status.Timestamp)
		}
	}
}

func TestBrokenFileHarmsOnlyItsOwnStack(t *testing.T) {
	t.Parallel()
	cleanUp(t, "broken-a")
	cleanUp(t, "broken-b")
	d := start(t, &daemon{})
	d.write("broken-a.yml", web("app:1.0", 1))
	awaitReady(t, d, "broken-a", 1)
	before := versions(t, "broken-a")
	d.write("broken-a.yml", "services: {web: {image: [")
	d.write("broken-b.yml", web("app:1.0", 1))
	awaitReady(t, d, "broken-b", 1)
	if after := versions(t, "broken-a"); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("the broken stack was touched: %v, then %v", before, after)
	}
	if !strings.Contains(d.log.String(), "broken-a.yml") {
		t.Error("the log does not name the broken file")
	}
	d.write("broken-a.yml", web("app:2.0", 1))
	awaitRunning(t, time.Minute, "broken-a_web", "app:2.0", 1)
}

// TestBadVersionsGoBack: Swarm pauses, which is what skep asks of it where the
// file is silent, and skep goes back by what it remembers.
func TestBadVersionsGoBack(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"crash", "sick"} {
		t.Run(bad, func(t *testing.T) {
			t.Parallel()
			stack := "bad-" + bad
			cleanUp(t, stack)
			d := start(t, &daemon{})
			d.write(stack+".yml", web("app:1.0", 2))
			awaitReady(t, d, stack, 1)
			d.write(stack+".yml", web("app:"+bad, 2))
			await(t, 2*time.Minute, "it is back", func() error {
				res := status(t, d.owner, stack)
				if res.Release.Phase != reconcile.PhaseFailed || len(running(t, stack+"_web", "app:1.0")) != 2 || len(running(t, stack+"_web", "")) != 2 {
					return fmt.Errorf("release %d is %s: %s", res.Release.Number, res.Release.Phase, res.Message)
				}
				return nil
			})
			t.Logf("status says: %s", status(t, d.owner, stack).Message)
			await(t, 30*time.Second, "the rollback has settled", func() error {
				if len(d.log.lines("rolled-back")) == 0 {
					return errors.New("not in the log")
				}
				return nil
			})
			before := versions(t, stack)
			d.stop()
			d = start(t, &daemon{owner: d.owner, specs: d.specs, log: d.log})
			always(t, 10*time.Second, "it is not tried again", func() error {
				if after := versions(t, stack); fmt.Sprint(after) != fmt.Sprint(before) {
					return fmt.Errorf("versions moved from %v to %v", before, after)
				}
				return nil
			})
			d.write(stack+".yml", web("app:2.0", 2))
			awaitRunning(t, time.Minute, stack+"_web", "app:2.0", 2)
		})
	}
}

func TestPortMovesBetweenServices(t *testing.T) {
	t.Parallel()
	const stack = "ports"
	cleanUp(t, stack)
	d := start(t, &daemon{})
	with := func(name string) string {
		return strings.Replace(web("app:1.0", 1), "  web:", "  "+name+":", 1) + "    ports: [\"18473:8000\"]\n"
	}
	d.write(stack+".yml", with("one"))
	awaitReady(t, d, stack, 1)
	d.write(stack+".yml", with("two"))
	awaitRunning(t, time.Minute, stack+"_two", "app:1.0", 1)
	await(t, 30*time.Second, "the old service is gone", func() error {
		if service(t, stack+"_one") != nil {
			return errors.New("it is there")
		}
		return nil
	})
	awaitReady(t, d, stack, 2)
	if !strings.Contains(d.log.String(), "port-handover") {
		t.Error("the handover is not told")
	}
}

func TestHostPortIsUpdatedStopFirst(t *testing.T) {
	t.Parallel()
	const stack = "hostport"
	cleanUp(t, stack)
	d := start(t, &daemon{})
	file := func(image string) string {
		return strings.Replace(web(image, 0), "      replicas: 0\n", "      mode: global\n", 1) + "    ports: [{target: 8000, published: 18474, mode: host}]\n"
	}
	d.write(stack+".yml", file("app:1.0"))
	awaitReady(t, d, stack, 1)
	if o := service(t, stack+"_web").Spec.UpdateConfig.Order; o != swarm.UpdateOrderStopFirst {
		t.Errorf("order %s with a host-mode port", o)
	}
	warns(t, d, "start-first-unsafe")
	d.write(stack+".yml", file("app:2.0"))
	awaitRunning(t, 2*time.Minute, stack+"_web", "app:2.0", 3)
	awaitReady(t, d, stack, 2)
}

// skep runs a command of the command line in this process: its exit code,
// its output, and what it told.
func skep(t *testing.T, args ...string) (code int, out, words string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	all := args
	if args[0] != "validate" { // which knows no engine
		all = append(all, "--host", skepHost(lab, 0, args[0]))
	}
	code = cli.Main(ctx, all, strings.NewReader(""), &stdout, &stderr)
	leaked.Look("skep "+args[0], append(bytes.Clone(stdout.Bytes()), stderr.Bytes()...))
	return code, stdout.String(), stderr.String()
}

func TestVerbs(t *testing.T) {
	t.Parallel()
	const stack = "verbs"
	cleanUp(t, stack)
	dir := t.TempDir()
	write := func(text string) {
		if err := os.WriteFile(filepath.Join(dir, stack+".yml"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(want int, contains string, args ...string) {
		t.Helper()
		code, out, words := skep(t, args...)
		if code != want || !strings.Contains(out+words, contains) {
			t.Errorf("skep %s: exit %d, want %d and %q:\n%s%s", strings.Join(args, " "), code, want, contains, out, words)
		}
	}
	password, later := leaked.Plant("a password", leaks.Env), leaked.Plant("a password that changed", leaks.Env)
	write(web("app:1.0", 1) + "    environment: {DB_PASSWORD: \"" + password + "\"}\n")
	expect(1, "2 to create", "plan", "--specs", dir, "--owner", "verbs", stack)
	expect(0, stack, "apply", "--specs", dir, "--owner", "verbs", "--wait", stack)
	expect(0, "", "plan", "--specs", dir, "--owner", "verbs", stack)
	expect(1, "other-owner", "plan", "--specs", dir, "--owner", "somebody-else", stack)
	expect(0, stack, "status", stack)
	write(web("app:2.0", 1) + "    environment: {DB_PASSWORD: \"" + later + "\"}\n")
	code, out, words := skep(t, "plan", "--specs", dir, "--owner", "verbs", stack)
	if code != 1 || !strings.Contains(out, "app:1.0") || !strings.Contains(out, "app:2.0") || !strings.Contains(out, "DB_PASSWORD") {
		t.Errorf("plan: exit %d:\n%s%s", code, out, words)
	}
	if strings.Contains(out+words, "planted") {
		t.Errorf("plan shows a secret:\n%s", out)
	}
	t.Logf("plan:\n%s", out)
	write(web("app:crash", 1))
	expect(1, "failed", "apply", "--specs", dir, "--owner", "verbs", "--wait", stack)
	expect(1, "app:1.0", "status", stack)
	// Of what is healthy again, too, what the version printed that failed.
	expect(0, "crashing, as APP_CRASH says", "logs", stack)
	expect(0, "listening on", "logs", stack, "web", "--tail", "1000")
	expect(0, stack, "logs", stack, "--all", "--format", "json")
	expect(0, "manager", "doctor", "--specs", dir, "--owner", "verbs")
	write("services: {web: {imagee: x}}")
	expect(1, "cannot be loaded: "+stack, "doctor", "--specs", dir, "--owner", "verbs")
	expect(1, stack+".yml:1", "plan", "--specs", dir, "--owner", "verbs", stack)
}
