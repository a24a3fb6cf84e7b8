package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/mount"

	"github.com/skep-io/skep/controller"
)

const (
	maxImage     = 30_000_000 // bytes
	gracePeriod  = 30 * time.Second
	serviceUID   = 65532
	gitSyncOwner = 65533 // the user of git-sync's image
)

// TestSkepAsService runs skep as deploy/stack.yml says, which `docker stack deploy`
// takes as it is: as the image of the Dockerfile, on one manager and then on
// another, without root, without capabilities, with a root that it cannot write.
func TestSkepAsService(t *testing.T) {
	t.Parallel()
	const (
		stack = "skep-as-service"
		inner = "within"
		owner = "skep" // stack.yml leaves it at its default
	)
	skepImage(t, "skep:e2e")
	gitSyncImage(t, "git-sync:e2e")
	cleanUp(t, inner)
	cleanUpService(t, stack)
	offerSocket(t)

	cmd := exec.CommandContext(t.Context(), "docker", "stack", "deploy", "--resolve-image", "never", "-c", "../deploy/stack.yml", stack)
	cmd.Env = append(lab.Env(0), "SKEP_IMAGE=skep:e2e", "GIT_SYNC_IMAGE=git-sync:e2e", "SKEP_USER="+user(t))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("docker stack deploy: %v\n%s", err, out)
	}
	awaitRunning(t, time.Minute, stack+"_git-sync", "git-sync:e2e", len(lab.Nodes))
	sync := newGitSync(t, stack+"_specs")

	t.Log("it starts without specs: well, and waiting for them")
	awaitRunning(t, time.Minute, stack+"_skep", "skep:e2e", 2) // healthy, as there is a healthcheck
	first := acting(t, owner, stack+"_skep")
	confined(t, first.InspectResponse)

	t.Log("specs arrive, and it deploys them")
	commit := sync.commit(t, "Add the stack", inner+".yml", web("app:1.0", 2))
	awaitRunning(t, time.Minute, inner+"_web", "app:1.0", 2)
	awaitRevision(t, owner, inner, commit)

	t.Log("a commit rolls out")
	commit = sync.commit(t, "Move on to 2.0", inner+".yml", web("app:2.0", 2))
	awaitRunning(t, 2*time.Minute, inner+"_web", "app:2.0", 2)
	awaitRevision(t, owner, inner, commit)

	t.Log("it leaves its manager: stops cleanly, and goes on elsewhere")
	ended := first.watchEnd(t)
	docker(t, "service", "update", "--quiet", "--detach", "--constraint-add", "node.id!="+first.nodeID, stack+"_skep")
	exit := <-ended
	if exit.err != nil || exit.code != 0 || exit.took > gracePeriod {
		t.Errorf("skep ended with %d after %s: %v", exit.code, exit.took, exit.err)
	}
	t.Logf("it stopped within %s", exit.took.Round(time.Millisecond))
	awaitRunning(t, time.Minute, stack+"_skep", "skep:e2e", 2)
	before := versions(t, inner)
	second := acting(t, owner, stack+"_skep")
	if second.nodeID == first.nodeID {
		t.Fatal("it runs where it ran before")
	}
	always(t, 5*time.Second, "the next one writes nothing", func() error {
		if now := versions(t, inner); fmt.Sprint(now) != fmt.Sprint(before) {
			return fmt.Errorf("versions moved from %v to %v", before, now)
		}
		return nil
	})
	commit = sync.commit(t, "Scale up", inner+".yml", web("app:2.0", 3))
	awaitRunning(t, time.Minute, inner+"_web", "app:2.0", 3)
	awaitRevision(t, owner, inner, commit)
}

// skepImage builds the image from the Dockerfile with the classic builder, which
// is what a machine has that has no registry, and loads it into every node.
func skepImage(t *testing.T, ref string) {
	t.Helper()
	dir := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(dir, "dist", "skep"), ".")
	build.Dir = ".."
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build skep: %v\n%s", err, out)
	}
	for from, to := range map[string]string{
		"../Dockerfile":                      "Dockerfile",
		"../.dockerignore":                   ".dockerignore",
		"/etc/ssl/certs/ca-certificates.crt": "dist/ca-certificates.crt",
	} {
		text, err := os.ReadFile(from)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, to), text, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "docker", "build", "--target", "prebuilt", "-t", ref, dir)
	cmd.Env = append(lab.Env(0), "DOCKER_BUILDKIT=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("docker build: %v\n%s", err, out)
	}
	made, err := lab.Client(0).ImageInspect(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the image has %.1f MB", float64(made.Size)/1e6)
	if made.Size > maxImage {
		t.Errorf("the image has %d bytes, more than %d", made.Size, maxImage)
	}
	spread(t, ref)
}

// spread copies an image from the first node to all others.
func spread(t *testing.T, ref string) {
	t.Helper()
	saved, err := lab.Client(0).ImageSave(t.Context(), []string{ref})
	if err != nil {
		t.Fatal(err)
	}
	archive, err := io.ReadAll(saved)
	if err := errors.Join(err, saved.Close()); err != nil {
		t.Fatal(err)
	}
	for i := range lab.Nodes[1:] {
		r, err := lab.Client(i+1).ImageLoad(t.Context(), bytes.NewReader(archive))
		if err == nil {
			_, err = io.Copy(io.Discard, r.Body)
			err = errors.Join(err, r.Body.Close())
		}
		if err != nil {
			t.Fatalf("load %s into %s: %v", ref, lab.Nodes[i+1].Name, err)
		}
	}
}

// gitSyncImage makes a stand-in for git-sync's image, which no registry here has:
// it only holds the volume and the place in the stack. What git-sync does in the
// volume, gitSync does from outside.
func gitSyncImage(t *testing.T, ref string) {
	t.Helper()
	img, err := lab.Web(t.Context(), ref)
	if err == nil {
		img.User = fmt.Sprintf("%d:%d", gitSyncOwner, gitSyncOwner)
		err = lab.LoadImage(t.Context(), img)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// offerSocket puts a socket of each host's engine, the one before which the gate
// stands, where stack.yml looks for it; in a lab's host, /run is the host's own.
func offerSocket(t *testing.T) {
	t.Helper()
	for i, n := range lab.Nodes {
		if out, err := lab.Shell(t.Context(), i, "ln", "-sfn", strings.TrimPrefix(skepHost(lab, i, "run"), "unix://"), "/run/docker.sock").CombinedOutput(); err != nil {
			t.Fatalf("offer %s's socket: %v\n%s", n.Name, err, out)
		}
	}
}

// user is not root, and has the group of the engines' sockets.
func user(t *testing.T) string {
	t.Helper()
	var s syscall.Stat_t
	if err := syscall.Stat(lab.Nodes[0].Socket, &s); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%d:%d", serviceUID, s.Gid)
}

// cleanUpService takes skep's own stack down and its volumes away, before what it
// deployed is.
func cleanUpService(t *testing.T, stack string) {
	t.Cleanup(func() {
		ctx := context.Background()
		if _, err := lab.Docker(ctx, 0, "stack", "rm", stack); err != nil {
			t.Logf("clean up: %v", err)
		}
		removeVolumes(t, stack+"_specs")
	})
}

// removeVolumes removes a volume from every node as soon as no container has it
// any more.
func removeVolumes(t *testing.T, name string) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for i := range lab.Nodes {
		for err := lab.Client(i).VolumeRemove(ctx, name, true); err != nil; err = lab.Client(i).VolumeRemove(ctx, name, true) {
			select {
			case <-tick.C:
			case <-ctx.Done():
				t.Logf("clean up: %v", err)
				return
			}
		}
	}
}

// An instance is the container of a service's task.
type instance struct {
	container.InspectResponse
	nodeID string
	node   int
}

// acting is the controller's instance that holds the lease: stack.yml has it named by
// its node.
func acting(t *testing.T, owner, service string) instance {
	t.Helper()
	var found instance
	await(t, 30*time.Second, "one of "+service+" acts", func() error {
		holder, err := controller.ReadHolder(t.Context(), lab.Client(0), owner)
		if err != nil {
			return err
		}
		for _, task := range running(t, service, "") {
			node := nodeIndex(t, task.NodeID)
			if !strings.HasPrefix(holder.ID, lab.Nodes[node].Name+".") {
				continue
			}
			c, err := lab.Client(node).ContainerInspect(t.Context(), task.Status.ContainerStatus.ContainerID)
			found = instance{c, task.NodeID, node}
			return err
		}
		return fmt.Errorf("the lease says %q", holder.ID)
	})
	return found
}

func nodeIndex(t *testing.T, id string) int {
	t.Helper()
	for i := range lab.Nodes {
		info, err := lab.Client(i).Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if info.Swarm.NodeID == id {
			return i
		}
	}
	t.Fatalf("no node of the lab has the id %s", id)
	return -1
}

// confined says that a container runs as stack.yml means it to.
func confined(t *testing.T, c container.InspectResponse) {
	t.Helper()
	if c.State.Health == nil || c.State.Health.Status != container.Healthy {
		t.Errorf("its health is %+v", c.State.Health)
	}
	if !slices.Contains(c.Config.Healthcheck.Test, "/skep") {
		t.Errorf("its healthcheck is %v, not the binary", c.Config.Healthcheck.Test)
	}
	if !c.HostConfig.ReadonlyRootfs || !slices.Contains(c.HostConfig.CapDrop, "ALL") || c.HostConfig.Privileged {
		t.Errorf("root read-only: %t, dropped: %v", c.HostConfig.ReadonlyRootfs, c.HostConfig.CapDrop)
	}
	if !strings.HasPrefix(c.Config.User, strconv.Itoa(serviceUID)+":") {
		t.Errorf("it runs as %s", c.Config.User)
	}
	for _, m := range c.Mounts {
		if m.Type == mount.TypeVolume && m.RW {
			t.Errorf("it may write to %s", m.Destination)
		}
	}
}

// An exit is how a container ended, and how long after it was told to.
type exit struct {
	code int
	took time.Duration
	err  error
}

// watchEnd tells of the container's end, when it comes.
func (c instance) watchEnd(t *testing.T) <-chan exit {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	messages, errs := lab.Client(c.node).Events(ctx, events.ListOptions{Filters: filters.NewArgs(
		filters.Arg("container", c.ID), filters.Arg("event", "kill"), filters.Arg("event", "die"))})
	ended := make(chan exit, 1)
	go func() {
		defer cancel()
		var told time.Time
		for {
			select {
			case err := <-errs:
				ended <- exit{code: -1, err: err}
				return
			case m := <-messages:
				at := time.Unix(0, m.TimeNano)
				if m.Action == events.ActionKill && told.IsZero() {
					told = at
				}
				if m.Action == events.ActionDie {
					code, err := strconv.Atoi(m.Actor.Attributes["exitCode"])
					ended <- exit{code, at.Sub(told), err}
					return
				}
			}
		}
	}()
	return ended
}

// awaitRevision waits until a stack's newest release is healthy and of a commit.
func awaitRevision(t *testing.T, owner, stack, commit string) {
	t.Helper()
	await(t, 2*time.Minute, stack+" is at "+commit, func() error {
		res := status(t, owner, stack)
		if res.Release == nil || !strings.HasPrefix(commit, res.Release.Revision) || !ready(res) {
			return fmt.Errorf("release %+v: %s", res.Release, res.Message)
		}
		return nil
	})
}

// A gitSync does in the volume of every node what git-sync does: a repository, a
// worktree for each commit, and a link that is swapped when there is a new one.
type gitSync struct {
	upstream string
	volumes  []string // where this machine has them
}

func newGitSync(t *testing.T, volume string) *gitSync {
	t.Helper()
	s := &gitSync{upstream: t.TempDir()}
	s.git(t, s.upstream, "init", "--quiet", "--initial-branch=main")
	for i, n := range lab.Nodes {
		v, err := lab.Client(i).VolumeInspect(t.Context(), volume)
		if err != nil {
			t.Fatalf("volume of %s: %v", n.Name, err)
		}
		s.volumes = append(s.volumes, v.Mountpoint)
	}
	return s
}

// commit commits a file and brings the commit, which it returns, to every node.
func (s *gitSync) commit(t *testing.T, subject, name, text string) string {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.upstream, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	s.git(t, s.upstream, "add", name)
	s.git(t, s.upstream, "-c", "user.name=E2E", "-c", "user.email=e2e@example.invalid", "commit", "--quiet", "-m", subject)
	commit := strings.TrimSpace(s.git(t, s.upstream, "rev-parse", "HEAD"))
	for _, v := range s.volumes {
		s.fetch(t, v, commit)
	}
	return commit
}

func (s *gitSync) fetch(t *testing.T, root, commit string) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(root, ".git")); os.IsNotExist(err) {
		s.git(t, root, "init", "--quiet")
	}
	s.git(t, root, "fetch", "--quiet", s.upstream, "main")
	worktree := filepath.Join(root, ".worktrees", commit)
	s.git(t, root, "worktree", "add", "--quiet", "--detach", "--force", worktree, commit)
	// git wrote where the volume is out here; inside it is /git.
	for file, text := range map[string]string{
		filepath.Join(worktree, ".git"):                            "gitdir: /git/.git/worktrees/" + commit + "\n",
		filepath.Join(root, ".git", "worktrees", commit, "gitdir"): "/git/.worktrees/" + commit + "/.git\n",
	} {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := filepath.Walk(root, func(path string, _ os.FileInfo, err error) error {
		return errors.Join(err, os.Lchown(path, gitSyncOwner, gitSyncOwner))
	}); err != nil {
		t.Fatal(err)
	}
	next := filepath.Join(root, ".next")
	if err := errors.Join(os.Symlink(filepath.Join(".worktrees", commit), next), os.Rename(next, filepath.Join(root, "current"))); err != nil {
		t.Fatal(err)
	}
}

func (s *gitSync) git(t *testing.T, dir string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "git", append([]string{"-C", dir, "-c", "safe.directory=*", "-c", "gc.auto=0"}, args...)...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git %s: %v: %s", strings.Join(args, " "), err, &stderr)
	}
	return string(out)
}
