package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/docker/docker/client"

	"github.com/skep-io/skep/e2e/lab/swarmlab"
	"github.com/skep-io/skep/e2e/leaks"
	"github.com/skep-io/skep/e2e/rights"
)

// Whatever skep says to an engine in the scenarios goes through one gate, which has
// the list of docs/rights.md, and whatever it says at all is looked through for values
// that were planted. What the tests themselves ask, they ask the engine.
var (
	leaked leaks.Watch
	gate   = gates{Gate: rights.NewGate(rights.List()), open: map[string]*opened{}}
)

func init() { gate.Tap = leaked.LookAtRequest }

type gates struct {
	*rights.Gate
	mu   sync.Mutex
	open map[string]*opened // by socket
}

type opened struct {
	client *client.Client
	shut   func()
}

// before opens the gate before node i of l, and gives what stands there.
func (g *gates) before(l *swarmlab.Lab, i int) (host string, c *client.Client) {
	g.mu.Lock()
	defer g.mu.Unlock()
	socket := filepath.Join(l.Dir, fmt.Sprintf("gate%d.sock", i))
	host = "unix://" + socket
	o := g.open[socket]
	if o == nil {
		shut, err := g.Open(socket, l.Nodes[i].Socket)
		if err == nil {
			err = sameAccess(socket, l.Nodes[i].Socket)
		}
		if err != nil {
			panic(err) // the lab's own directory cannot be written
		}
		o = &opened{shut: shut}
		if o.client, err = client.NewClientWithOpts(client.WithHost(host), client.WithAPIVersionNegotiation()); err != nil {
			panic(err) // the only input is a path that was made here
		}
		g.open[socket] = o
	}
	return host, o.client
}

// sameAccess lets those use a socket who may use the other.
func sameAccess(socket, as string) error {
	var s syscall.Stat_t
	if err := syscall.Stat(as, &s); err != nil {
		return err
	}
	return errors.Join(os.Chown(socket, int(s.Uid), int(s.Gid)), os.Chmod(socket, os.FileMode(s.Mode&0o777)))
}

// close shuts all gates; it is for the end.
func (g *gates) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, o := range g.open {
		_ = o.client.Close()
		o.shut()
	}
}

// skepHost is the address by which skep reaches node i of l.
func skepHost(l *swarmlab.Lab, i int) string {
	host, _ := gate.before(l, i)
	return host
}

// skepClient is a client for parts of skep that run within the test.
func skepClient(l *swarmlab.Lab, i int) *client.Client {
	_, c := gate.before(l, i)
	return c
}

// overstepped says what skep asked for or told that it may not, in all scenarios.
func overstepped() error {
	var errs []error
	if refused := gate.Refused(); len(refused) > 0 {
		errs = append(errs, fmt.Errorf("skep asked for more than docs/rights.md says:\n\t%s", strings.Join(refused, "\n\t")))
	}
	if found := leaked.Found(); len(found) > 0 {
		errs = append(errs, fmt.Errorf("skep tells what it must not:\n\t%s", strings.Join(found, "\n\t")))
	}
	return errors.Join(errs...)
}
