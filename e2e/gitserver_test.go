package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/url"
	"os"
	"os/exec"
	osuser "os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/skep-io/skep/e2e/leaks"
)

// A gitHost is the machine of a forge, as far as git is concerned: Apache's httpd with
// TLS and basic auth before git's own http-backend, and OpenSSH's sshd, over the same bare
// repositories. Its programs are Debian's, run by configurations of their own, and end
// with the test.
type gitHost struct {
	t     *testing.T
	dir   string // /tmp/skep-git-…: sockets are in it, and httpd's own user has to get there
	addr  string // of httpd
	ca    string // file of the CA that signed its certificate
	token string // what opens it, with any user
	httpd *process

	sshd    *process
	sshAddr string
	sshKey  string // file of a key that sshd lets in
	known   string // file with the host's key
}

// httpdConfig is all that httpd needs, as a forge's administrator would write it. Its
// arguments are the directory and the address.
const httpdConfig = `ServerRoot "%[1]s"
DefaultRuntimeDir "%[1]s"
PidFile "%[1]s/httpd.pid"
Mutex "file:%[1]s" default
Listen %[2]s
ServerName git.lab
LogLevel ssl:error
User %[3]s
Group %[3]s
ErrorLog "%[1]s/error.log"
LogFormat "%%t %%U%%q %%>s" short
CustomLog "%[1]s/access.log" short
LoadModule mpm_prefork_module /usr/lib/apache2/modules/mod_mpm_prefork.so
LoadModule alias_module /usr/lib/apache2/modules/mod_alias.so
LoadModule auth_basic_module /usr/lib/apache2/modules/mod_auth_basic.so
LoadModule authn_core_module /usr/lib/apache2/modules/mod_authn_core.so
LoadModule authn_file_module /usr/lib/apache2/modules/mod_authn_file.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule authz_user_module /usr/lib/apache2/modules/mod_authz_user.so
LoadModule cgi_module /usr/lib/apache2/modules/mod_cgi.so
LoadModule env_module /usr/lib/apache2/modules/mod_env.so
LoadModule ssl_module /usr/lib/apache2/modules/mod_ssl.so
SSLEngine on
SSLSessionCache none
SSLCertificateFile "%[1]s/host.pem"
SetEnv GIT_PROJECT_ROOT "%[1]s/srv"
SetEnv GIT_HTTP_EXPORT_ALL
SetEnv GIT_CONFIG_NOSYSTEM 1
SetEnv GIT_CONFIG_GLOBAL /dev/null
ScriptAlias / "%[4]s/git-http-backend/"
<Location />
  AuthType Basic
  AuthName git
  AuthUserFile "%[1]s/users"
  Require valid-user
</Location>
`

// newGitHost starts httpd.
func newGitHost(t *testing.T) *gitHost {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "skep-git-")
	if err != nil {
		t.Fatal(err)
	}
	h := &gitHost{t: t, dir: dir, addr: freeAddress(t), token: leaked.Plant("the token of a git host", leaks.Secret)}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("httpd's log:\n%s", logEnd(h.file("error.log")))
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("what the git host left: %v", err)
		}
	})
	sum := sha1.Sum([]byte(h.token))
	h.must(os.Chmod(dir, 0o755), os.Mkdir(h.file("srv"), 0o755))
	h.write("users", "git:{SHA}"+base64.StdEncoding.EncodeToString(sum[:])+"\n", 0o644)
	h.write("httpd.conf", fmt.Sprintf(httpdConfig, dir, h.addr, httpdUser, h.execPath()), 0o644)
	h.certify()
	h.up()
	t.Cleanup(func() { h.down() })
	return h
}

// httpdUser is whom httpd and its backend run as. Every Debian has it.
const httpdUser = "www-data"

func (h *gitHost) file(name string) string { return filepath.Join(h.dir, name) }

func (h *gitHost) write(name, text string, mode fs.FileMode) string {
	h.t.Helper()
	h.must(os.WriteFile(h.file(name), []byte(text), mode))
	return h.file(name)
}

func (h *gitHost) must(errs ...error) {
	h.t.Helper()
	if err := errors.Join(errs...); err != nil {
		h.t.Fatal(err)
	}
}

// logEnd is the end of a log, which may not be there.
func logEnd(file string) string {
	text, _ := os.ReadFile(file)
	return string(text[max(0, len(text)-4000):])
}

// certify makes a CA, and a certificate of it for the loopback address.
func (h *gitHost) certify() {
	h.t.Helper()
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	key, err2 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	h.must(err, err2)
	now := time.Now()
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "the lab's CA"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	host := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "git"}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"git.lab"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	caCert, err := x509.CreateCertificate(rand.Reader, ca, ca, &caKey.PublicKey, caKey)
	cert, err2 := x509.CreateCertificate(rand.Reader, host, ca, &key.PublicKey, caKey)
	private, err3 := x509.MarshalPKCS8PrivateKey(key)
	h.must(err, err2, err3)
	block := func(kind string, b []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}))
	}
	h.ca = h.write("ca.pem", block("CERTIFICATE", caCert), 0o644)
	h.write("host.pem", block("CERTIFICATE", cert)+block("PRIVATE KEY", private), 0o600)
}

// execPath is where git keeps its programs.
func (h *gitHost) execPath() string {
	h.t.Helper()
	return runGit(h.t, "", nil, "--exec-path")
}

// up starts httpd at the address that it had before, and waits until it answers.
func (h *gitHost) up() {
	h.t.Helper()
	h.httpd = h.serve("apache2", "-D", "FOREGROUND", "-f", h.file("httpd.conf"))
	h.awaitListener(h.httpd, h.addr)
}

// down ends httpd, and what it has running.
func (h *gitHost) down() { h.httpd.endGroup() }

// serve starts a server in a process group of its own.
func (h *gitHost) serve(program string, args ...string) *process {
	h.t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		path = filepath.Join("/usr/sbin", program) // which is not in the PATH of everybody
	}
	out, err := os.OpenFile(h.file("error.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	h.must(err)
	defer func() { _ = out.Close() }()
	cmd := exec.Command(path, args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = h.dir, out, out, &syscall.SysProcAttr{Setpgid: true}
	p, err := begin(cmd, syscall.SIGTERM) // by which it ends its children as well
	if err != nil {
		h.t.Fatalf("%v (make tools installs it)", err)
	}
	return p
}

// endGroup ends a server and its children: those that linger too.
func (p *process) endGroup() {
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(5 * time.Second):
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // the group is there as long as one of it is
	<-p.ended
}

func (h *gitHost) awaitListener(p *process, addr string) {
	h.t.Helper()
	await(h.t, 30*time.Second, "a server at "+addr, func() error {
		select {
		case <-p.ended:
			h.t.Fatalf("it ended: %s", logEnd(h.file("error.log")))
		default:
		}
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			err = c.Close()
		}
		return err
	})
}

// sshdConfig is all that sshd needs. Its arguments are the directory, the address and the
// port.
const sshdConfig = `ListenAddress %[2]s
Port %[3]s
HostKey %[1]s/host_key
PidFile none
AuthorizedKeysFile %[1]s/authorized_keys
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
PubkeyAuthentication yes
UseDNS no
SetEnv GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0=*
`

// ssh starts sshd. It has a /run and passwords of its own: nothing of this machine's is
// needed or changed, and it matters not whether root has a password there.
func (h *gitHost) ssh() {
	h.t.Helper()
	h.sshAddr = freeAddress(h.t)
	address, port, err := net.SplitHostPort(h.sshAddr)
	h.must(err)
	h.sshKey = h.keygen("deploy")
	public, err := os.ReadFile(h.keygen("host_key") + ".pub")
	h.must(err)
	may, err := os.ReadFile(h.sshKey + ".pub")
	h.must(err)
	h.write("authorized_keys", `restrict `+string(may), 0o600)
	h.known = h.write("known_hosts", fmt.Sprintf("[%s]:%s %s", address, port, public), 0o644)
	h.write("shadow", "root:*:19000:0:99999:7:::\n", 0o600)
	h.write("sshd.conf", fmt.Sprintf(sshdConfig, h.dir, address, port), 0o644)
	h.sshd = h.serve("unshare", "--mount", "--propagation", "private", "sh", "-ec",
		`mount -t tmpfs tmpfs /run; mkdir -m 755 /run/sshd; mount --bind "$0/shadow" /etc/shadow; exec /usr/sbin/sshd -D -e -f "$0/sshd.conf"`, h.dir)
	h.t.Cleanup(func() { h.sshd.endGroup() })
	h.awaitListener(h.sshd, h.sshAddr)
}

// keygen makes a key of ssh without a passphrase.
func (h *gitHost) keygen(name string) string {
	h.t.Helper()
	out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", h.file(name)).CombinedOutput()
	if err != nil {
		h.t.Fatalf("ssh-keygen: %v: %s", err, out)
	}
	return h.file(name)
}

// A gitRepo is a bare repository of a host, and the clone of somebody who pushes to it.
type gitRepo struct {
	*gitHost
	name string // team/shop
	bare string
	work string
}

// repo makes one. Its branch is main, and may be moved and deleted.
func (h *gitHost) repo(name string) *gitRepo {
	h.t.Helper()
	r := &gitRepo{gitHost: h, name: name, bare: filepath.Join(h.dir, "srv", name+".git"), work: filepath.Join(h.t.TempDir(), "work")}
	runGit(h.t, "", nil, "init", "-q", "--bare", "-b", "main", r.bare)
	for key, value := range map[string]string{"http.receivepack": "true", "receive.denyNonFastForwards": "false", "receive.denyDeleteCurrent": "ignore", "gc.auto": "0"} {
		runGit(h.t, r.bare, nil, "config", key, value)
	}
	h.own()
	runGit(h.t, "", nil, "init", "-q", "-b", "main", r.work)
	for key, value := range map[string]string{"http.sslCAInfo": h.ca, "gc.auto": "0"} {
		runGit(h.t, r.work, nil, "config", key, value)
	}
	r.git("remote", "add", "origin", (&url.URL{Scheme: "https", Host: h.addr, User: url.UserPassword("git", h.token), Path: "/" + name + ".git"}).String())
	return r
}

// own gives the repositories to whom httpd runs as.
func (h *gitHost) own() {
	h.t.Helper()
	as, err := osuser.Lookup(httpdUser)
	h.must(err)
	uid, err := strconv.Atoi(as.Uid)
	gid, err2 := strconv.Atoi(as.Gid)
	h.must(err, err2, filepath.WalkDir(filepath.Join(h.dir, "srv"), func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, uid, gid))
	}))
}

// url is where skep fetches it.
func (r *gitRepo) url() string { return "https://" + r.addr + "/" + r.name + ".git" }

// sshURL is where skep fetches it by ssh: the path is that of the machine.
func (r *gitRepo) sshURL() string { return "ssh://root@" + r.sshAddr + r.bare }

func (r *gitRepo) git(args ...string) string {
	r.t.Helper()
	return runGit(r.t, r.work, nil, args...)
}

// commit writes files, removes those without a text, and commits all that there is.
func (r *gitRepo) commit(subject string, files map[string]string, options ...string) string {
	r.t.Helper()
	for name, text := range files {
		file := filepath.Join(r.work, name)
		if text == "" {
			r.must(os.Remove(file))
			continue
		}
		r.must(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o644))
	}
	r.git("add", "-A")
	r.git(append([]string{"commit", "-q", "--allow-empty", "-m", subject}, options...)...)
	return r.head()
}

func (r *gitRepo) head() string {
	r.t.Helper()
	return r.git("rev-parse", "HEAD")
}

// push pushes main as it is.
func (r *gitRepo) push(options ...string) {
	r.t.Helper()
	r.git(append(append([]string{"push", "-q"}, options...), "origin", "main")...)
}

// pushed is when the bare repository's main came to be what it is.
func (r *gitRepo) pushed() time.Time {
	r.t.Helper()
	info, err := os.Stat(filepath.Join(r.bare, "refs/heads/main"))
	r.must(err)
	return info.ModTime()
}

// runGit runs the git program, as nobody in particular, and returns what it prints.
func runGit(t testing.TB, dir string, in []byte, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir, cmd.Stdin = dir, bytes.NewReader(in)
	cmd.Env = append(withoutGit(os.Environ()), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_TERMINAL_PROMPT=0",
		"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*",
		"GIT_AUTHOR_NAME=e2e", "GIT_AUTHOR_EMAIL=e2e@localhost", "GIT_COMMITTER_NAME=e2e", "GIT_COMMITTER_EMAIL=e2e@localhost")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("git %s: %v: %s", args[0], err, &stderr)
	}
	return strings.TrimSpace(string(out))
}

// withoutGit is an environment in which no repository is set.
func withoutGit(env []string) []string {
	var kept []string
	for _, kv := range env {
		if !strings.HasPrefix(kv, "GIT_") {
			kept = append(kept, kv)
		}
	}
	return kept
}
