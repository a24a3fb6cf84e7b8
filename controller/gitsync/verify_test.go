package gitsync

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// run runs a program and returns what it prints.
func run(t testing.TB, env []string, in []byte, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env, cmd.Stdin = append(os.Environ(), env...), bytes.NewReader(in)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, &stderr)
	}
	return string(out)
}

// sshKey makes a key by ssh-keygen, and returns its file and its public half.
func sshKey(t testing.TB, args ...string) (file, public string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "key")
	run(t, nil, nil, "ssh-keygen", append([]string{"-q", "-N", "", "-C", "a comment", "-f", file}, args...)...)
	return file, strings.TrimSpace(readFile(t, file+".pub"))
}

// signWith has git sign each commit with an ssh key.
func (r *repo) signWith(key string) {
	r.git("config", "gpg.format", "ssh")
	r.git("config", "user.signingkey", key)
	r.git("config", "commit.gpgsign", "true")
}

// Commits that ssh keys sign by way of git are taken, of those who may alone; others
// leave the last one in force.
func TestVerifySSH(t *testing.T) {
	for kind, args := range map[string][]string{
		"ed25519": {"-t", "ed25519"}, "ecdsa": {"-t", "ecdsa"}, "rsa": {"-t", "rsa", "-b", "2048"},
	} {
		t.Run(kind, func(t *testing.T) {
			r := newRepo(t)
			ann, annPublic := sshKey(t, args...)
			eve, _ := sshKey(t, args...)
			r.signWith(ann)
			first := r.commit("one\n\nwith a body,\n gpgsig in it\n", map[string]string{"web.yml": stack("nginx:1")})
			signers := writeFile(t, filepath.Join(t.TempDir(), "signers"), "# who may\n\nann@example.org namespaces=\"git\" "+annPublic+"\n")
			s := open(t, Config{URL: r.url(), VerifyFile: signers})
			looked(t, s)
			wantState(t, s, "")
			wantCommit(t, s, first)

			r.git("config", "commit.gpgsign", "false")
			r.commit("unsigned", map[string]string{"web.yml": stack("nginx:2")})
			looked(t, s)
			wantState(t, s, GitUnverified, "it is not signed", first[:7]+" stays in force")
			wantCommit(t, s, first)

			r.signWith(eve)
			r.commit("by eve", map[string]string{"web.yml": stack("nginx:3")})
			looked(t, s)
			wantState(t, s, GitUnverified, "which "+signers+" does not have", "SHA256:")
			wantCommit(t, s, first)

			r.signWith(ann)
			last := r.commit("four", map[string]string{"web.yml": stack("nginx:4")})
			looked(t, s)
			wantState(t, s, "")
			wantCommit(t, s, last)

			// A signature of another commit does not do for this one.
			raw := git(t, r.dir, "cat-file", "commit", r.commit("five", map[string]string{"web.yml": stack("nginx:5")}))
			forged := gitIn(t, r.dir, []byte(strings.Replace(raw, "five", "evil", 1)+"\n"), "hash-object", "-w", "-t", "commit", "--stdin")
			r.git("update-ref", "refs/heads/main", forged)
			looked(t, s)
			wantState(t, s, GitUnverified, "does not belong to it")
			wantCommit(t, s, last)
		})
	}
}

// Who may sign is read for each commit, and a start does not believe what it has of
// somebody who may not.
func TestSignersAreReadAnew(t *testing.T) {
	r := newRepo(t)
	ann, annPublic := sshKey(t)
	r.signWith(ann)
	commit := r.commit("one", map[string]string{"web.yml": stack("nginx:1")})
	_, evePublic := sshKey(t)
	signers := writeFile(t, filepath.Join(t.TempDir(), "signers"), "eve "+evePublic+"\n")
	cfg := Config{URL: r.url(), VerifyFile: signers, Cache: t.TempDir()}
	s := open(t, cfg)
	looked(t, s)
	wantState(t, s, GitUnverified, "no commit is there yet")
	if n := s.cache.stores(); len(n) != 1 {
		t.Errorf("what was fetched is not kept until it may be used: %v", n)
	}
	writeFile(t, signers, "ann "+annPublic+"\n")
	looked(t, s)
	wantState(t, s, "")
	wantCommit(t, s, commit)
	s.Close()
	writeFile(t, signers, "eve "+evePublic+"\n")
	s = open(t, cfg)
	if got := s.Status().Commit; got != "" {
		t.Errorf("%s is in force, and nobody who may has signed it", got)
	}
	looked(t, s)
	wantState(t, s, GitUnverified)
	if err := os.Remove(signers); err != nil {
		t.Fatal(err)
	}
	looked(t, s)
	wantState(t, s, GitUnverified, "read who may sign", "no such file")
}

// A start finds the signature of the commit in force where that commit is, though the
// last process was killed while it fetched into a new store.
func TestVerifiedCommitOutlivesAStoreThatWasBegun(t *testing.T) {
	r := newRepo(t)
	ann, annPublic := sshKey(t)
	r.signWith(ann)
	commit := r.commit("one", map[string]string{"web.yml": stack("nginx:1")})
	cfg := Config{URL: r.url(), VerifyFile: writeFile(t, filepath.Join(t.TempDir(), "signers"), "ann "+annPublic+"\n"), Cache: t.TempDir()}
	s := open(t, cfg)
	looked(t, s)
	wantCommit(t, s, commit)
	s.Close()
	if err := os.Mkdir(filepath.Join(cfg.Cache, "repo", "2"), 0o755); err != nil {
		t.Fatal(err)
	}
	s = open(t, cfg)
	wantCommit(t, s, commit)
}

// Commits that gpg signs by way of git are taken.
func TestVerifyOpenPGP(t *testing.T) {
	home, err := os.MkdirTemp("/tmp", "gpg") // its socket's path has to be short
	if err != nil {
		t.Fatal(err)
	}
	env := []string{"GNUPGHOME=" + home}
	t.Cleanup(func() {
		_ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
		os.RemoveAll(home)
	})
	t.Setenv("GNUPGHOME", home)
	gpg := func(args ...string) string {
		return run(t, env, nil, "gpg", append([]string{"--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""}, args...)...)
	}
	for _, who := range []string{"ann@example.org", "eve@example.org"} {
		gpg("--quick-generate-key", who, "ed25519", "sign", "never")
	}
	ring := writeFile(t, filepath.Join(t.TempDir(), "ring"), gpg("--armor", "--export", "ann@example.org"))
	r := newRepo(t)
	r.git("config", "user.signingkey", "ann@example.org")
	r.git("config", "commit.gpgsign", "true")
	first := r.commit("one", map[string]string{"web.yml": stack("nginx:1")})
	s := open(t, Config{URL: r.url(), VerifyFile: ring})
	looked(t, s)
	wantState(t, s, "")
	wantCommit(t, s, first)
	r.git("config", "user.signingkey", "eve@example.org")
	r.commit("two", nil)
	looked(t, s)
	wantState(t, s, GitUnverified, "nobody who may sign")
	key, _ := sshKey(t)
	r.signWith(key)
	r.commit("three", nil)
	looked(t, s)
	wantState(t, s, GitUnverified, "not by OpenPGP")
	wantCommit(t, s, first)
	// Of two keys that follow each other both may.
	writeFile(t, ring, gpg("--armor", "--export", "ann@example.org")+gpg("--armor", "--export", "eve@example.org"))
	r.git("config", "--unset", "gpg.format")
	r.git("config", "user.signingkey", "eve@example.org")
	last := r.commit("four", nil)
	looked(t, s)
	wantState(t, s, "")
	wantCommit(t, s, last)
	for want, text := range map[string]string{
		"private key": gpg("--armor", "--export-secret-keys", "ann@example.org"),
		"cut off":     "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nabc\n",
		"no armored":  "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nabc\n-----END PGP PUBLIC KEY BLOCK-----\n",
	} {
		if _, err := readSigners(writeFile(t, ring, text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestAllowedSigners(t *testing.T) {
	_, key := sshKey(t)
	day := func(text string) time.Time {
		d, err := time.Parse(time.DateOnly, text)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	for line, want := range map[string]string{ // what allows says in the middle of 2026, or the error
		"ann " + key:                                                          "",
		"ann@a,bob@b " + key + " and words":                                   "",
		"\"a principal\" " + key:                                              "",
		"ann namespaces=\"git\" " + key:                                       "",
		"ann namespaces=\"file,g*\" " + key:                                   "",
		"ann namespaces=git " + key:                                           "",
		"ann namespaces=\"file\" " + key:                                      "does not let it sign for git",
		"ann namespaces=\"*,!git\" " + key:                                    "does not let it sign for git",
		"ann valid-after=\"20260101Z\" " + key:                                "",
		"ann valid-after=\"20260701Z\" " + key:                                "did not let it sign",
		"ann valid-before=\"20260701Z\",valid-after=\"202601010000Z\" " + key: "",
		"ann valid-before=\"20260101000000Z\" " + key:                         "did not let it sign",
		"ann Valid-Before=20300101 " + key:                                    "",
		"ann valid-before=\"soon\" " + key:                                    "is no time",
		"ann cert-authority " + key:                                           "does not follow certificates",
		"ann cert-authority,namespaces=\"git\" " + key:                        "does not follow certificates",
		"ann no-such-option " + key:                                           "neither an option",
		"ann namespaces=\"git " + key:                                         "quote is not closed",
		"ann":                                                                 "has no ssh key",
		"ann ssh-ed25519":                                                     "neither an option",
		"ann ssh-ed25519 AAAA":                                                "neither an option",
		key:                                                                   "neither an option",
		"# nobody":                                                            "names nobody",
	} {
		got := ""
		s, err := parseAllowedSigners("signers", line+"\n")
		if err == nil {
			err = s.(allowedSigners).lines[0].allows(day("2026-06-15"))
		}
		if err != nil {
			got = err.Error()
		}
		if want == "" && got != "" || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
}

// What is no signature is none, whatever it looks like.
func TestForgedSignatures(t *testing.T) {
	file, key := sshKey(t)
	payload := []byte("tree x\ncommitter Ann <a> 1700000000 +0000\n\nmessage\n")
	sign := func(args ...string) string {
		return run(t, nil, payload, "ssh-keygen", append([]string{"-q", "-Y", "sign", "-f", file}, args...)...)
	}
	good := sign("-n", "git")
	s, err := parseAllowedSigners("signers", "ann "+key)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.verify(payload, good, time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := s.verify(payload, sign("-n", "git", "-O", "hashalg=sha256"), time.Now()); err != nil {
		t.Error(err)
	}
	for want, signature := range map[string]string{
		"is for \"file\", not for git": sign("-n", "file"),
		"not by ssh":                   "-----BEGIN PGP SIGNATURE-----\n\nabc\n-----END PGP SIGNATURE-----\n",
		"is damaged":                   good[:40] + "AAAA" + good[40:],
	} {
		if err := s.verify(payload, signature, time.Now()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if err := s.verify(append(payload, '\n'), good, time.Now()); err == nil {
		t.Error("a payload with something behind it is taken")
	}
	for want, raw := range map[string]string{
		"several signatures": "tree x\ngpgsig a\n b\ngpgsig c\n\nm\n",
		"of a kind":          "tree x\ngpgsig-sha256 a\n\nm\n",
	} {
		if _, _, err := splitSignature([]byte(raw)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	signed, sig, err := splitSignature([]byte("tree x\nmergetag object y\n gpgsig no\ngpgsig a\n b\nextra z\n\ngpgsig in words\n"))
	if err != nil || sig != "a\nb\n" || string(signed) != "tree x\nmergetag object y\n gpgsig no\nextra z\n\ngpgsig in words\n" {
		t.Errorf("%q, %q, %v", signed, sig, err)
	}
}

func FuzzSSHSig(f *testing.F) {
	f.Add("-----BEGIN SSH SIGNATURE-----\nU1NIU0lH\n-----END SSH SIGNATURE-----\n")
	f.Fuzz(func(t *testing.T, text string) {
		if s, err := parseSSHSig(text); err == nil {
			_ = s.check([]byte("payload"))
		}
	})
}
