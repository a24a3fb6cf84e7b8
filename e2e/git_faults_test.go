package e2e

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/swarm"

	"github.com/skep-io/skep/controller/gitsync"
	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
)

// A gitLane is a repository with two small stacks, and a skep that asks for it every
// second and may remove stacks.
type gitLane struct {
	*gitRepo
	daemon *gitDaemon
	owner  string
	turn   int
}

func (l *gitLane) stack(n int) string { return fmt.Sprintf("%s-%d", l.owner, n) }

// newGitLane starts skep on url's repository, and waits until both stacks are ready.
func newGitLane(t *testing.T, h *gitHost, owner string, args func(r *gitRepo) []string) *gitLane {
	t.Helper()
	l := &gitLane{gitRepo: h.repo("team/" + owner), owner: owner}
	for n := range 2 {
		cleanUp(t, l.stack(n))
	}
	first := l.next()
	l.push()
	l.daemon = gitFollow(t, owner, append(args(l.gitRepo), "--git-path", "stacks", "--git-interval", "1s", "--prune-stacks")...)
	for n := range 2 {
		l.daemon.awaitRelease(l.stack(n), first, reconcile.PhaseHealthy)
	}
	l.daemon.awaitActs()
	return l
}

// next commits another version of both stacks.
func (l *gitLane) next(options ...string) string {
	l.t.Helper()
	l.turn++
	files := map[string]string{}
	for n := range 2 {
		files["stacks/"+l.stack(n)+".yml"] = quickStack(fmt.Sprint("TURN=", l.turn))
	}
	return l.commit(fmt.Sprintf("turn %d", l.turn), files, options...)
}

// quickStack is a stack of which nothing takes long, with a variable.
func quickStack(variable string) string {
	return fmt.Sprintf("x-skep: {images: as-written, rollout: {bake: 0s, guard: 0s}}\n"+
		"services: {web: {image: app:1.0, environment: [%q], stop_grace_period: 1s, deploy: {update_config: {monitor: 1s}}}}\n", variable)
}

// follows waits until both stacks' newest release is of a commit, and healthy.
func (l *gitLane) follows(commit string) {
	l.t.Helper()
	for n := range 2 {
		l.daemon.awaitRelease(l.stack(n), commit, reconcile.PhaseHealthy)
	}
	l.daemon.awaitActs()
}

// lives are the services of the lane's stacks, each with what changes when it is written.
func (l *gitLane) lives() map[string]string {
	l.t.Helper()
	list, err := lab.Client(1).ServiceList(l.t.Context(), swarm.ServiceListOptions{Filters: filters.NewArgs(filters.Arg("label", "skep.owner="+l.owner))})
	l.must(err)
	all := map[string]string{}
	for _, s := range list {
		all[s.Spec.Name] = fmt.Sprint(s.ID, " ", s.Spec.TaskTemplate.ContainerSpec.Env, " ", s.Spec.Labels[spec.LabelNamespace])
	}
	return all
}

// stays waits until a fault is told, and sees that nothing changes by it.
func (l *gitLane) stays(what, reason string, words ...string) {
	l.t.Helper()
	before := l.lives()
	l.daemon.awaitSource(reason, append(words, "stays in force")...)
	always(l.t, 2*time.Second, what+" changes nothing", func() error {
		if now := l.lives(); len(now) != 2 || !maps.Equal(now, before) {
			return fmt.Errorf("%v, and it was %v", now, before)
		}
		return nil
	})
	l.t.Logf("%s: %s", what, l.daemon.says())
}

// byHTTPS is what it takes to fetch by https.
func (h *gitHost) byHTTPS() func(r *gitRepo) []string {
	token := h.write("token", h.token, 0o600)
	return func(r *gitRepo) []string {
		return []string{"--git", r.url(), "--git-ca-file", h.ca, "--git-token-file", token}
	}
}

// gitFaults takes a repository away in every way, and moves it back.
func gitFaults(t *testing.T) {
	h := newGitHost(t)
	l := newGitLane(t, h, "git-faults", h.byHTTPS())

	t.Log("pushes that nobody tells of are found by asking")
	seen := watchStack(t, l.stack(0))
	var took []time.Duration
	for range 3 {
		commit := l.next()
		l.push()
		pushed := l.pushed()
		l.follows(commit)
		took = append(took, seen.since(pushed, "service")[0].at.Sub(pushed))
	}
	t.Logf("from a push to the service's update, asking every second: %v", took)
	if slices.Min(took) > 3*time.Second {
		t.Errorf("it takes longer than an interval of 1s and 2s: %v", took)
	}

	t.Log("the branch is deleted")
	l.git("push", "-q", "origin", "--delete", "main")
	l.stays("a deleted branch", gitsync.GitRefGone, "main")
	l.push()
	l.daemon.awaitActs()

	t.Log("the token is not good any more")
	l.write("token", "wrong", 0o600)
	l.stays("a bad token", gitsync.GitDenied)
	l.write("token", l.token, 0o600)
	l.daemon.awaitActs()

	t.Log("the host is gone, and skep is started anew meanwhile")
	h.down()
	l.stays("a host that is gone", gitsync.GitUnreachable, "last heard of")
	l.daemon.end()
	l.daemon.again()
	l.stays("a host that is gone at the start", gitsync.GitUnreachable, l.head()[:7])
	h.up()
	l.daemon.awaitActs()
	l.must(l.daemon.has(l.head()))
	commit := l.next()
	l.push()
	l.follows(commit)

	gitRewinds(l)
	gitHostile(l)

	commit = l.next()
	l.push()
	l.follows(commit)
}

// gitRewinds moves the branch back, and aside.
func gitRewinds(l *gitLane) {
	l.t.Helper()
	head := l.head()
	l.t.Log("the branch is moved back")
	l.git("reset", "-q", "--hard", "HEAD~2")
	l.push("--force")
	l.stays("a branch that was moved back", gitsync.GitRewound, "--git-allow-rewind", "moved back")
	l.git("reset", "-q", "--hard", head)
	l.push("--force")
	l.daemon.awaitActs()

	l.t.Log("its history is rewritten, which a restart does not make good")
	rewritten := l.next("--amend")
	l.push("--force")
	l.stays("a history that was rewritten", gitsync.GitRewound, "--git-allow-rewind", "rewritten")
	l.daemon.end()
	l.daemon.again()
	l.stays("a history that was rewritten, after a restart", gitsync.GitRewound, "--git-allow-rewind", "rewritten")
	l.daemon.end()
	l.daemon.again("--git-allow-rewind")
	l.follows(rewritten)

	l.t.Log("and moved back, where that is allowed")
	before := l.commitOf("HEAD~1")
	l.git("reset", "-q", "--hard", before)
	l.push("--force")
	l.follows(before)
	l.daemon.end()
	l.daemon.again()
	l.daemon.awaitActs()
}

// gitHostile pushes commits that want more than to be read.
func gitHostile(l *gitLane) {
	l.t.Helper()
	good := l.head()
	text := l.blob("evil\n")
	link := func(target string) string { return l.blob(target) }
	for _, hostile := range []struct {
		name, reason, words string
		tree                func() string
	}{
		{"a symlink out", gitsync.GitRefused, "leads out", func() string { return l.tree("120000", "evil.yml", link("../../../../../../etc/passwd")) }},
		{"a symlink out, absolute", gitsync.GitRefused, "leads out", func() string { return l.tree("120000", "evil.yml", link("/etc/passwd")) }},
		{"git's own configuration", gitsync.GitRefused, "git's own", func() string {
			return l.tree("40000", ".git", l.rawTree("100644", "config", l.blob("[core]\n\tfsmonitor = touch "+filepath.Join(l.dir, "evil")+"\n")))
		}},
		{"a name that leads out", gitsync.GitRefused, "leads out of its folder", func() string { return l.tree("40000", "..", l.rawTree("100644", "evil.yml", text)) }},
		{"a name that is a path", gitsync.GitRefused, "separator", func() string { return l.tree("100644", "../../../evil.yml", text) }},
		{"100,000 files", gitsync.GitTooLarge, "more than 20000 files", func() string { return l.manyFiles(100_000) }},
	} {
		l.t.Log(hostile.name)
		tree := hostile.tree()
		commit := l.git("commit-tree", "-m", hostile.name, "-p", good, tree)
		l.git("push", "-q", "origin", "+"+commit+":refs/heads/main")
		l.stays(hostile.name, hostile.reason, hostile.words, commit[:7], good[:7])
		l.must(l.daemon.has(good))
	}
	l.must(filepath.WalkDir(l.daemon.cache, func(path string, _ os.DirEntry, err error) error {
		if strings.Contains(filepath.Base(path), "evil") {
			return fmt.Errorf("%s was written", path)
		}
		return err
	}))
	if _, err := os.Stat(filepath.Join(l.dir, "evil")); err == nil {
		l.t.Error("what the hostile configuration says was run")
	}
	l.push("--force")
	l.daemon.awaitActs()
}

// commitOf is the commit that a name stands for.
func (r *gitRepo) commitOf(name string) string {
	r.t.Helper()
	return r.git("rev-parse", name)
}

// blob, rawTree and tree write objects as they are told, whatever git thinks of them.
func (r *gitRepo) blob(text string) string {
	r.t.Helper()
	return runGit(r.t, r.work, []byte(text), "hash-object", "-w", "--stdin")
}

// rawTree is a tree of one entry.
func (r *gitRepo) rawTree(mode, name, hash string) string {
	r.t.Helper()
	id, err := hex.DecodeString(hash)
	r.must(err)
	return runGit(r.t, r.work, fmt.Appendf(nil, "%s %s\x00%s", mode, name, id), "hash-object", "-w", "-t", "tree", "--stdin", "--literally")
}

// tree is the tree of HEAD, in whose folder of stacks an entry stands before all others.
func (r *gitRepo) tree(mode, name, hash string) string {
	r.t.Helper()
	id, err := hex.DecodeString(hash)
	r.must(err)
	raw := fmt.Appendf(nil, "%s %s\x00%s", mode, name, id)
	for line := range strings.Lines(r.git("ls-tree", "HEAD:stacks")) {
		f := strings.Fields(line)
		id, err := hex.DecodeString(f[2])
		r.must(err)
		raw = fmt.Appendf(raw, "%s %s\x00%s", f[0], f[3], id)
	}
	stacks := runGit(r.t, r.work, raw, "hash-object", "-w", "-t", "tree", "--stdin", "--literally")
	return runGit(r.t, r.work, fmt.Appendf(nil, "040000 tree %s\tstacks\n", stacks), "mktree")
}

// manyFiles is the tree of HEAD with so many files more, by git fast-import.
func (r *gitRepo) manyFiles(n int) string {
	r.t.Helper()
	var in bytes.Buffer
	fmt.Fprintf(&in, "blob\nmark :1\ndata 2\nx\n\ncommit refs/heads/many\ncommitter e2e <e2e@localhost> %d +0000\ndata 4\nmany\nfrom %s\n", time.Now().Unix(), r.head())
	for i := range n {
		fmt.Fprintf(&in, "M 100644 :1 stacks/many/%d/f%d\n", i/1000, i)
	}
	runGit(r.t, r.work, in.Bytes(), "fast-import", "--quiet", "--force")
	return r.commitOf("refs/heads/many^{tree}")
}
