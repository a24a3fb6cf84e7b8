package faults

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/client"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// An engine that counts what reaches it, and whose events the test sends.
type engine struct {
	*httptest.Server
	asked  atomic.Int64
	events chan string
	left   chan struct{} // whoever followed the events has gone
}

func newEngine(t *testing.T) *engine {
	e := &engine{events: make(chan string), left: make(chan struct{}, 1)}
	e.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		e.asked.Add(1)
		_, _ = io.Copy(io.Discard, r.Body)
		switch {
		case strings.HasSuffix(r.URL.Path, "/events"):
			w.WriteHeader(http.StatusOK)
			out := http.NewResponseController(w)
			_ = out.Flush()
			for {
				select {
				case id := <-e.events:
					_, _ = fmt.Fprintf(w, `{"Type":"service","Actor":{"ID":%q}}`, id)
					_ = out.Flush()
				case <-r.Context().Done():
					e.left <- struct{}{}
					return
				}
			}
		case strings.HasSuffix(r.URL.Path, "/create"):
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusCreated)
			_, _ = io.WriteString(w, `{"ID":"made"}`)
		default:
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, `[]`)
		}
	}))
	t.Cleanup(e.Close)
	return e
}

func newProxy(t *testing.T, e *engine) (*Proxy, *client.Client) {
	t.Helper()
	p, err := Listen(Options{Engine: "tcp://" + e.Listener.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p, connect(t, p.Host())
}

func connect(t *testing.T, host string) *client.Client {
	t.Helper()
	c, err := client.NewClientWithOpts(client.WithHost(host), client.WithVersion("1.41"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Close()
		c.HTTPClient().CloseIdleConnections()
	})
	return c
}

func create(ctx context.Context, c *client.Client, name string) error {
	_, err := c.ConfigCreate(ctx, swarm.ConfigSpec{Annotations: swarm.Annotations{Name: name}, Data: []byte("x")})
	return err
}

func TestFaults(t *testing.T) {
	const short = 50 * time.Millisecond
	for _, tt := range []struct {
		name    string
		fault   Fault
		reaches bool   // the engine hears of the request
		err     string // what the caller gets; "" nothing
		slow    bool   // the caller waits for at least that short time
		told    string
	}{
		{name: "none", reaches: true},
		{name: "delay", fault: Delay(short), reaches: true, slow: true, told: "delayed by 50ms"},
		{name: "drop", fault: DropBefore(), err: "EOF", told: "dropped before it was sent"},
		{name: "cut", fault: CutAfter(), reaches: true, err: "EOF", told: "cut off after it was done"},
		{name: "500", fault: Status(500, "it is broken"), err: "it is broken", told: "answered with 500"},
		{name: "no leader", fault: NoLeader(), err: "does not have a leader", told: "answered with 500"},
		{name: "worker", fault: NoManager(), err: "not a swarm manager", told: "answered with 503"},
		{name: "conflict", fault: Conflict(), err: "out of sequence", told: "answered with 409"},
		{name: "half-open", fault: HalfOpen(), err: "deadline exceeded", slow: true, told: "never answered"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := newEngine(t)
			p, c := newProxy(t, e)
			p.Add(Rule{Operation: "ConfigCreate", Fault: tt.fault})
			limit := time.Minute
			if strings.Contains(tt.err, "deadline") {
				limit = 4 * short
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			began := time.Now()
			err := create(ctx, c, "one")
			if tt.err == "" && err != nil || tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("error %v, want %q", err, tt.err)
			}
			if took := time.Since(began); tt.slow && took < short {
				t.Errorf("it took %s", took)
			}
			if got := e.asked.Load() == 1; got != tt.reaches {
				t.Errorf("%d requests reached the engine", e.asked.Load())
			}
			rec := p.Recorded()
			if len(rec) != 1 || rec[0].Operation != "ConfigCreate" || rec[0].Object != "one" || rec[0].Fault != tt.told || rec[0].Sent != tt.reaches {
				t.Errorf("recorded %+v", rec)
			}
			if err := create(t.Context(), c, "two"); err != nil {
				t.Errorf("the next request: %v", err)
			}
		})
	}
}

func TestRules(t *testing.T) {
	e := newEngine(t)
	p, c := newProxy(t, e)
	ctx := t.Context()
	p.Add(
		Rule{Object: regexp.MustCompile("^shop"), Writes: true, Nth: 2, Times: 2, Fault: Status(500, "second and third")},
		Rule{Method: http.MethodGet, Path: regexp.MustCompile("^/nodes$"), Times: Always, Fault: Status(503, "always")},
	)
	for i, want := range []bool{true, false, false, true, true} {
		if err := create(ctx, c, "shop_conf"); (err == nil) != want {
			t.Errorf("write %d: %v", i+1, err)
		}
		if err := create(ctx, c, "blog_conf"); err != nil {
			t.Errorf("another object: %v", err)
		}
	}
	for range 3 {
		if _, err := c.NodeList(ctx, swarm.NodeListOptions{}); err == nil {
			t.Error("a rule that never ends let a request through")
		}
	}
	if _, err := c.ServiceList(ctx, swarm.ServiceListOptions{}); err != nil {
		t.Error(err)
	}
	if got := p.Struck(); got != 5 {
		t.Errorf("struck %d requests, want 5", got)
	}
	if got := len(p.Writes()); got != 8 {
		t.Errorf("%d writes went through, want 8", got)
	}
	p.Clear()
	if _, err := c.NodeList(ctx, swarm.NodeListOptions{}); err != nil {
		t.Errorf("after Clear: %v", err)
	}
	p.Forget()
	if err := c.ServiceRemove(ctx, "abc"); err != nil {
		t.Fatal(err)
	}
	rec := p.Recorded()
	if len(rec) != 1 {
		t.Fatalf("recorded %+v", rec)
	}
	if q := rec[0]; q.Method != http.MethodDelete || q.Path != "/services/abc" || q.Version != "1.41" || q.Operation != "ServiceRemove" || q.Object != "abc" || q.Status != 200 || !q.Write() || !q.Sent {
		t.Errorf("recorded %+v", q)
	}
}

func TestHooksSeeTheRequestBeforeAndAfter(t *testing.T) {
	e := newEngine(t)
	p, c := newProxy(t, e)
	var before, after int64 = -1, -1
	p.Add(
		Rule{Object: regexp.MustCompile("one"), Fault: Before(func(q Request) { before = e.asked.Load() })},
		Rule{Object: regexp.MustCompile("two"), Fault: After(func(q Request) {
			after = e.asked.Load()
			if q.Status != http.StatusCreated {
				t.Errorf("after: %+v", q)
			}
		})},
	)
	for _, name := range []string{"one", "two"} {
		if err := create(t.Context(), c, name); err != nil {
			t.Error(err)
		}
	}
	if before != 0 || after != 2 {
		t.Errorf("the engine had heard of %d requests before the first, and %d after the second", before, after)
	}
}

func TestRefuseAndAccept(t *testing.T) {
	for _, listen := range []string{"", "tcp://127.0.0.1:0"} {
		t.Run(listen, func(t *testing.T) {
			e := newEngine(t)
			p, err := Listen(Options{Engine: "tcp://" + e.Listener.Addr().String(), Listen: listen})
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			c := connect(t, p.Host())
			for range 2 {
				if err := create(t.Context(), c, "x"); err != nil {
					t.Error(err)
				}
				p.Refuse()
				if err := create(t.Context(), c, "x"); !client.IsErrConnectionFailed(err) {
					t.Errorf("refused: %v", err)
				}
				if err := p.Accept(); err != nil {
					t.Fatal(err)
				}
			}
			if err := create(t.Context(), c, "x"); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestLeadElsewhere(t *testing.T) {
	one, two := newEngine(t), newEngine(t)
	p, c := newProxy(t, one)
	if err := p.Lead("tcp://" + two.Listener.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if err := create(t.Context(), c, "x"); err != nil || one.asked.Load() != 0 || two.asked.Load() != 1 {
		t.Errorf("%v; %d and %d requests", err, one.asked.Load(), two.asked.Load())
	}
	if err := p.Lead("two"); err == nil {
		t.Error("not a host, and no error")
	}
}

func TestStreams(t *testing.T) {
	for name, tt := range map[string]struct {
		fault func(*Proxy)
		ends  bool // for who listens
		stays bool // for the engine
	}{
		"cut":       {(*Proxy).CutStreams, true, false},
		"silent":    {(*Proxy).SilenceStreams, false, true},
		"half-open": {(*Proxy).HalfOpenStreams, false, false},
		"gone":      {(*Proxy).Refuse, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			e := newEngine(t)
			p, c := newProxy(t, e)
			ctx, cancel := context.WithCancel(t.Context())
			messages, errs := c.Events(ctx, events.ListOptions{})
			e.events <- "first"
			if m := <-messages; m.Actor.ID != "first" {
				t.Fatalf("event %+v", m)
			}
			if p.Streams() != 1 {
				t.Errorf("%d streams are open", p.Streams())
			}
			tt.fault(p)
			if tt.stays {
				e.events <- "second"
			}
			ended := false
			select {
			case m := <-messages:
				t.Errorf("event %+v", m)
			case <-errs:
				ended = true
			case <-time.After(200 * time.Millisecond):
			}
			if ended != tt.ends {
				t.Errorf("the stream ended: %v, want %v", ended, tt.ends)
			}
			if !tt.stays {
				select {
				case <-e.left:
				case <-time.After(5 * time.Second):
					t.Error("the engine still sends")
				}
			}
			cancel()
		})
	}
}

func TestSilenceNewStreams(t *testing.T) {
	e := newEngine(t)
	p, c := newProxy(t, e)
	p.SilenceNewStreams()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	messages, errs := c.Events(ctx, events.ListOptions{})
	e.events <- "unheard"
	select {
	case m := <-messages:
		t.Errorf("event %+v", m)
	case err := <-errs:
		t.Error(err)
	case <-time.After(100 * time.Millisecond):
	}
}

func TestBadOptions(t *testing.T) {
	for _, o := range []Options{{}, {Engine: "unix:///x", Listen: "http://x"}, {Engine: "unix:///x", Listen: "unix:///not/there/x.sock"}} {
		if p, err := Listen(o); err == nil {
			t.Errorf("%+v: no error", o)
			_ = p.Close()
		}
	}
}
