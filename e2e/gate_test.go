package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/docker/docker/client"

	"github.com/skep-io/skep/e2e/lab/swarmlab"
	"github.com/skep-io/skep/e2e/leaks"
	"github.com/skep-io/skep/e2e/rights"
)

// Whatever skep says to an engine in the scenarios goes through a gate, which has the
// list of docs/rights.md for that verb, and whatever it says at all is looked through for values
// that were planted. What the tests themselves ask, they ask the engine.
var (
	leaked leaks.Watch
	gate   = newGates()
)

// gates are one for each kind of verb, before any number of engines.
type gates struct {
	of   map[string]*rights.Gate // by rights.Who
	mu   sync.Mutex
	open map[string]*opened // by socket
}

func newGates() *gates {
	g := &gates{of: map[string]*rights.Gate{}, open: map[string]*opened{}}
	for _, who := range rights.Who {
		g.of[who] = rights.NewGate(rights.For(who))
		g.of[who].Tap = leaked.LookAtRequest
	}
	return g
}

// guard puts the gate for a verb before an engine that something else leads to.
func (g *gates) guard(verb string, next http.Handler) http.Handler {
	return g.of[rights.OfVerb(verb)].Guard(next)
}

type opened struct {
	client *client.Client
	shut   func()
}

// before opens the gate for a verb before node i of l, and gives what stands there.
func (g *gates) before(l *swarmlab.Lab, i int, verb string) (host string, c *client.Client) {
	g.mu.Lock()
	defer g.mu.Unlock()
	who := rights.OfVerb(verb)
	socket := filepath.Join(l.Dir, fmt.Sprintf("%s%d.sock", who, i))
	host = "unix://" + socket
	o := g.open[socket]
	if o == nil {
		shut, err := g.of[who].Open(socket, l.Nodes[i].Socket)
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
		o.client.NegotiateAPIVersion(context.Background()) // which is no thing to do side by side
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

// skepHost is the address by which a verb of skep reaches node i of l.
func skepHost(l *swarmlab.Lab, i int, verb string) string {
	host, _ := gate.before(l, i, verb)
	return host
}

// skepClient is a client for a verb, or a part of one, that runs within the test.
func skepClient(l *swarmlab.Lab, i int, verb string) *client.Client {
	_, c := gate.before(l, i, verb)
	return c
}

// overstepped says what skep asked for or told that it may not, in all scenarios.
func overstepped(g *gates, w *leaks.Watch) error {
	var errs []error
	for _, who := range rights.Who {
		if refused := g.of[who].Refused(); len(refused) > 0 {
			errs = append(errs, fmt.Errorf("skep asked for more than docs/rights.md says of those who %s:\n\t%s", who, strings.Join(refused, "\n\t")))
		}
	}
	if found := w.Found(); len(found) > 0 {
		errs = append(errs, fmt.Errorf("skep tells what it must not:\n\t%s", strings.Join(found, "\n\t")))
	}
	return errors.Join(errs...)
}

// TestOversteppingIsTold sees that the end of a run would tell: each verb is held to
// its own rights, and a value that gets out is seen.
func TestOversteppingIsTold(t *testing.T) {
	g, w := newGates(), &leaks.Watch{}
	ask := func(verb, method, path string) int {
		answer := httptest.NewRecorder()
		g.guard(verb, http.NotFoundHandler()).ServeHTTP(answer, httptest.NewRequest(method, path, nil))
		return answer.Code
	}
	for verb, path := range map[string]string{"run": "/v1.45/services/create", "apply": "/v1.45/services/create", "suspend": "/v1.45/configs/create"} {
		if code := ask(verb, http.MethodPost, path); code != http.StatusNotFound {
			t.Errorf("%s, POST %s: %d", verb, path, code)
		}
	}
	if err := overstepped(g, w); err != nil {
		t.Errorf("told without reason: %v", err)
	}
	if code := ask("status", http.MethodPost, "/v1.45/configs/create"); code != http.StatusForbidden {
		t.Errorf("status may write: %d", code)
	}
	if err := overstepped(g, w); err == nil || !strings.Contains(err.Error(), "POST /v1.45/configs/create (1 times)") {
		t.Errorf("told: %v", err)
	}
	w.Look("a log", []byte("it is "+w.Plant("the value", leaks.Secret)))
	if err := overstepped(g, w); err == nil || !strings.Contains(err.Error(), "a log has the value, as it is") {
		t.Errorf("told: %v", err)
	}
}
