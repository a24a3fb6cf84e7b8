package e2e

import (
	"os"
	"strings"
	"testing"

	"github.com/skep-io/skep/controller/gitsync"
)

// gitBySSH fetches from sshd, which then shows another key than the one that is known,
// and at last what is signed alone.
func gitBySSH(t *testing.T) {
	h := newGitHost(t)
	h.ssh()
	l := newGitLane(t, h, "git-ssh", func(r *gitRepo) []string {
		return []string{"--git", r.sshURL(), "--git-ssh-key-file", h.sshKey, "--git-known-hosts", h.known}
	})
	t.Log("a push, found by asking")
	commit := l.next()
	l.push()
	l.follows(commit)

	t.Log("500 commits, in five pushes")
	before := status(t, l.owner, l.stack(0)).Release.Number
	for range 5 {
		for range 100 {
			commit = l.next()
		}
		l.push()
	}
	l.follows(commit)
	if n := status(t, l.owner, l.stack(0)).Release.Number - before; n > 5 {
		t.Errorf("%d releases of five pushes", n)
	}

	t.Log("the host shows a key that nobody knows")
	known, err := os.ReadFile(h.known)
	l.must(err)
	other, err := os.ReadFile(h.keygen("another_host") + ".pub")
	l.must(err)
	host, _, _ := strings.Cut(string(known), " ")
	h.write("known_hosts", host+" "+string(other), 0o644)
	l.next()
	l.push()
	l.stays("a host with another key", gitsync.GitUntrusted, "known")

	t.Log("and is known again")
	h.write("known_hosts", string(known), 0o644)
	l.follows(l.head())
	gitSigned(l)
}

// gitSigned pushes commits that nobody signed, and that somebody else did.
func gitSigned(l *gitLane) {
	l.t.Helper()
	key, other := l.keygen("signer"), l.keygen("nobody")
	public, err := os.ReadFile(key + ".pub")
	l.must(err)
	signers := l.write("signers", `ann@example.org namespaces="git" `+string(public), 0o644)
	l.git("config", "gpg.format", "ssh")
	sign := func(key string) string {
		l.git("config", "user.signingkey", key)
		commit := l.next("-S")
		l.push()
		return commit
	}
	l.t.Log("commits have to be signed from now on")
	l.follows(sign(key))
	l.daemon.end()
	l.daemon.again("--git-verify", signers)
	l.follows(sign(key))
	l.next()
	l.push()
	l.stays("a commit that nobody signed", gitsync.GitUnverified, l.head()[:7], "sign")
	commit := sign(other)
	l.stays("a commit that somebody else signed", gitsync.GitUnverified, commit[:7], "sign")
	l.follows(sign(key))
}
