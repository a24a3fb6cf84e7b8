//go:build linux

package swarmlab

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/docker/docker/client"
	"golang.org/x/sync/errgroup"
)

// Options of a lab.
type Options struct {
	// Managers is the number of hosts, each a manager: 1 to 9. Default 1.
	Managers int
	// Dir is where the lab keeps its files; it must not exist yet. Default: a new
	// directory in Base(). Only labs in Base() are found by List, and by the next Up
	// after a crash.
	Dir string
	// Subnet is an IPv4 /24 that nothing on this machine uses. Default: a free one
	// of 198.18.0.0/15, which is set aside for measuring network gear.
	Subnet netip.Prefix
	// Keep lets the lab outlive the process that made it: only Down ends it then.
	Keep bool
	// Suite is the Debian suite whose engine the hosts run: "bookworm" has 20.10,
	// "trixie" 26.1. Default: the engine of this machine. See Suite.
	Suite string
}

// A Lab is a running Swarm. Its methods may be called from many goroutines.
type Lab struct {
	ID      string
	Dir     string
	Subnet  netip.Prefix
	Gateway netip.Addr // this machine's address in Subnet
	Nodes   []*Node

	state    *state
	lock     *os.File         // held for as long as the owner lives
	stdin    []io.WriteCloser // the holders', which end when it closes
	children sync.WaitGroup   // holders and engines that this process started
	closers  []func()         // what dies with this process, newest last
	mu       sync.Mutex
	bin      sync.Mutex // guards the build of the programs
	built    string
}

// A Node is one host of a lab.
type Node struct {
	Name    string     // host name and node name
	Socket  string     // the engine's unix socket
	Address netip.Addr // in the lab's subnet
	PID     int        // of the holder, the host's first process

	dir    string
	keeper string // the child that the holder waits for, as the host counts
	client *client.Client
	mu     sync.Mutex // one at a time starts or stops the engine
}

// Up brings up a lab and returns when all its managers are ready and know each
// other. What a dead process left behind is removed first. When Up fails, it
// leaves nothing, and the error has the end of the engine's log.
func Up(ctx context.Context, o Options) (l *Lab, err error) {
	if o.Managers == 0 {
		o.Managers = 1
	}
	if o.Managers < 1 || o.Managers > 9 {
		return nil, fmt.Errorf("a lab has 1 to 9 managers, not %d", o.Managers)
	}
	if err := Check(); err != nil {
		return nil, err
	}
	system := ""
	if o.Suite != "" {
		if system, err = Suite(ctx, o.Suite); err != nil {
			return nil, err
		}
	}
	if l, err = prepare(ctx, o, system); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Down())
			l = nil
		}
	}()
	g, gctx := errgroup.WithContext(ctx)
	for i := range l.Nodes {
		g.Go(func() error { return l.StartEngine(gctx, i) })
	}
	if err = g.Wait(); err != nil {
		return l, err
	}
	if err = l.form(ctx); err != nil {
		return l, err
	}
	if o.Keep {
		err = l.release()
	}
	return l, err
}

// Check tells what this machine lacks for a lab, in words that say what to do.
func Check() error {
	if runtime.GOOS != "linux" {
		return fmt.Errorf("a lab needs Linux: this is %s", runtime.GOOS)
	}
	if os.Geteuid() != 0 {
		return errors.New("a lab needs root, for namespaces and dockerd: run it as root (or with sudo), or test with -short")
	}
	for _, tool := range []string{"dockerd", "docker", "containerd", "iptables", "ip", "nsenter", "mount", "hostname"} {
		if _, err := lookPath(tool); err != nil {
			return fmt.Errorf("a lab needs %s, which is not installed: run `make engine` (e2e/install-engine.sh), or test with -short", tool)
		}
	}
	return nil
}

// systemPath is where engines and tools are looked for: sbin is not on every PATH.
const systemPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

func lookPath(tool string) (string, error) {
	for _, dir := range filepath.SplitList(systemPath) {
		file := filepath.Join(dir, tool)
		if info, err := os.Stat(file); err == nil && !info.IsDir() && info.Mode()&0o111 != 0 {
			return file, nil
		}
	}
	return "", exec.ErrNotFound
}

// prepare makes the lab's directory, network and hosts, all but the engines. It
// holds the machine-wide lock, so that two labs never choose the same subnet and
// nobody takes one that is being made for one that was left behind. The hosts
// have the programs of system, or of this machine where that is "".
func prepare(ctx context.Context, o Options, system string) (l *Lab, err error) {
	unlock, err := lockMachine(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := reap(); err != nil {
		return nil, err
	}

	l = &Lab{ID: newID(), Dir: o.Dir, Subnet: o.Subnet}
	if l.Dir == "" {
		l.Dir = filepath.Join(Base(), dirPrefix+l.ID)
	}
	if l.Dir, err = filepath.Abs(l.Dir); err != nil {
		return nil, fmt.Errorf("find the lab's directory: %w", err)
	}
	if !l.Subnet.IsValid() {
		if l.Subnet, err = freeSubnet(); err != nil {
			return nil, err
		}
	}
	if !l.Subnet.Addr().Is4() || l.Subnet.Bits() != 24 {
		return nil, fmt.Errorf("lab subnet %s: want an IPv4 /24", l.Subnet)
	}
	l.Gateway = hostAddr(l.Subnet, 1)

	if err := os.MkdirAll(filepath.Dir(l.Dir), 0o755); err != nil {
		return nil, fmt.Errorf("make the lab's directory: %w", err)
	}
	if err := os.Mkdir(l.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("make the lab's directory: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Down())
			l = nil
		}
	}()
	if l.lock, err = flock(filepath.Join(l.Dir, lockFile), true); err != nil {
		return l, err
	}
	l.state = &state{ID: l.ID, Dir: l.Dir, Subnet: l.Subnet, Keep: o.Keep, Owner: os.Getpid(), Created: time.Now().UTC()}
	if err := l.state.write(); err != nil {
		return l, err
	}
	return l, l.wire(ctx, o.Managers, system)
}

func newID() string {
	b := make([]byte, 3)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// wire starts the switch and the hosts, and plugs them together.
func (l *Lab) wire(ctx context.Context, managers int, system string) error {
	sw, err := l.hold(ctx, "switch", "", "")
	if err != nil {
		return err
	}
	l.state.Switch = sw
	if err := l.state.write(); err != nil {
		return err
	}
	if err := l.startSwitch(ctx); err != nil {
		return err
	}
	for n := 1; n <= managers; n++ {
		node, err := l.newNode(n)
		if err != nil {
			return err
		}
		holder, err := l.hold(ctx, node.Name, node.dir, system)
		if err != nil {
			return err
		}
		node.PID, node.keeper = holder.PID, holder.Keeper
		l.Nodes = append(l.Nodes, node)
		l.state.Hosts = append(l.state.Hosts, host{Name: node.Name, Address: node.Address, Holder: holder})
		if err := l.state.write(); err != nil {
			return err
		}
		if err := l.plug(ctx, n, node); err != nil {
			return err
		}
	}
	return nil
}

// newNode makes host n's directory and files; it starts nothing.
func (l *Lab) newNode(n int) (*Node, error) {
	name := fmt.Sprintf("node%d", n)
	node := l.node(name, hostAddr(l.Subnet, 10+n))
	// A unix socket's path has room for 107 bytes; the engine's own error for a
	// longer one does not say so.
	if len(node.Socket) > 107 {
		return nil, fmt.Errorf("socket path %s is longer than 107 bytes: choose a shorter directory for the lab", node.Socket)
	}
	if err := os.MkdirAll(filepath.Join(node.dir, "data"), 0o711); err != nil {
		return nil, fmt.Errorf("make %s's directory: %w", name, err)
	}
	return node, l.writeEngineFiles(node)
}

func (l *Lab) node(name string, addr netip.Addr) *Node {
	dir := filepath.Join(l.Dir, name)
	return &Node{Name: name, Address: addr, Socket: filepath.Join(dir, "docker.sock"), dir: dir}
}

// Open returns a lab that runs already, of another process or of an earlier Up
// with Keep. Dir is the lab's directory. Down works on it as on one's own.
func Open(dir string) (*Lab, error) {
	s, err := readState(dir)
	if err != nil {
		return nil, err
	}
	if !s.alive() {
		return nil, fmt.Errorf("lab %s does not run any more: `go run ./e2e/lab down %s` removes what it left", s.ID, s.ID)
	}
	l := &Lab{ID: s.ID, Dir: s.Dir, Subnet: s.Subnet, Gateway: hostAddr(s.Subnet, 1), state: s}
	for _, h := range s.Hosts {
		n := l.node(h.Name, h.Address)
		n.PID, n.keeper = h.Holder.PID, h.Holder.Keeper
		l.Nodes = append(l.Nodes, n)
	}
	return l, nil
}

// Down ends the lab and removes all that it made on this machine. It may be
// called again, also after an error: it then does what is left to do.
func (l *Lab) Down() error {
	l.mu.Lock()
	closers := l.closers
	l.closers = nil
	l.mu.Unlock()
	for i := len(closers) - 1; i >= 0; i-- {
		closers[i]()
	}
	for _, n := range l.Nodes {
		n.closeClient()
	}
	if l.state == nil { // nothing but the directory was made
		return os.RemoveAll(l.Dir)
	}
	err := l.state.remove()
	if err == nil {
		l.children.Wait()
	}
	for _, w := range l.stdin {
		_ = w.Close()
	}
	if l.lock != nil {
		_ = l.lock.Close()
		l.lock = nil
	}
	return err
}

// onDown has f called by Down, before the hosts end.
func (l *Lab) onDown(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closers = append(l.closers, f)
}

// Client returns a client of node i's engine, counted from 0, that speaks the
// newest API both sides know. Down closes it.
func (l *Lab) Client(i int) *client.Client {
	n := l.Nodes[i]
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.engine()
}

// engine returns the node's client; the caller holds n.mu.
func (n *Node) engine() *client.Client {
	if n.client == nil {
		c, err := client.NewClientWithOpts(client.WithHost("unix://"+n.Socket), client.WithAPIVersionNegotiation())
		if err != nil {
			// The only input is a path that was made here.
			panic(fmt.Sprintf("client for %s: %v", n.Socket, err))
		}
		n.client = c
	}
	return n.client
}

func (n *Node) closeClient() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.client != nil {
		_ = n.client.Close()
		if t, ok := n.client.HTTPClient().Transport.(*http.Transport); ok {
			t.CloseIdleConnections()
		}
		n.client = nil
	}
}

// DockerHost returns what DOCKER_HOST is set to for node i's engine.
func (l *Lab) DockerHost(i int) string { return "unix://" + l.Nodes[i].Socket }

// Env returns os.Environ with DOCKER_HOST set to node i's engine, and without
// what else would lead a docker client elsewhere or to a person's credentials.
func (l *Lab) Env(i int) []string {
	var env []string
	for _, kv := range os.Environ() {
		if !hasPrefix(kv, "DOCKER_HOST=", "DOCKER_CONTEXT=", "DOCKER_TLS", "DOCKER_CERT_PATH=", "DOCKER_CONFIG=", "DOCKER_API_VERSION=") {
			env = append(env, kv)
		}
	}
	return append(env, "DOCKER_HOST="+l.DockerHost(i), "DOCKER_CONFIG="+filepath.Join(l.Dir, "docker"))
}

// Docker runs the docker command against node i and returns what it wrote to
// stdout. The error of a command that failed has what it wrote to stderr.
func (l *Lab) Docker(ctx context.Context, i int, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.Env = l.Env(i)
	return output(cmd)
}

// Command returns a command that runs inside node i's network and under its host
// name, but with the files and processes of this machine. The caller starts it,
// and sees to its end: Down kills it where it is still there.
func (l *Lab) Command(ctx context.Context, i int, name string, args ...string) *exec.Cmd {
	return l.enter(ctx, i, []string{"--net", "--uts"}, name, args)
}

// Shell returns a command that runs wholly inside host i: its files, processes,
// network and name.
func (l *Lab) Shell(ctx context.Context, i int, name string, args ...string) *exec.Cmd {
	return l.enter(ctx, i, []string{"--mount", "--net", "--uts", "--pid"}, name, args)
}

// enter is the function of that name for a host, with docker speaking to its engine.
func (l *Lab) enter(ctx context.Context, i int, namespaces []string, name string, args []string) *exec.Cmd {
	cmd := enter(ctx, l.Nodes[i].PID, namespaces, append([]string{name}, args...)...)
	cmd.Env = withPath(l.Env(i))
	return cmd
}

// Hide lays an empty directory over dir on host i, as if only the other hosts had
// what is in it: hosts share this machine's files otherwise. It lasts as long as
// the lab.
func (l *Lab) Hide(ctx context.Context, i int, dir string) error {
	if _, err := output(l.Shell(ctx, i, "mount", "-t", "tmpfs", "tmpfs", dir)); err != nil {
		return fmt.Errorf("hide %s from %s: %w", dir, l.Nodes[i].Name, err)
	}
	return nil
}
