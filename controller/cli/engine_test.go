package cli

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"
)

// A smallEngine plays a manager of a Swarm of one node, over HTTP, for scripts: names
// that clash, versions that guard, and services that are there at once. An image with
// "bad" in its name dies, and Swarm pauses its update; one with "slow" starts for ever.
type smallEngine struct {
	mu       sync.Mutex
	next     int
	services map[string]*swarm.Service
	configs  map[string]*swarm.Config
	networks map[string]network.Summary
	watchers map[chan events.Message]bool
}

// newSmallEngine gives the address of one.
func newSmallEngine(done func(func())) string { return emptyEngine().serve(done) }

func emptyEngine() *smallEngine {
	return &smallEngine{services: map[string]*swarm.Service{}, configs: map[string]*swarm.Config{}, networks: map[string]network.Summary{}, watchers: map[chan events.Message]bool{}}
}

// again is another one, with the same in it.
func (e *smallEngine) again() *smallEngine {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := emptyEngine()
	c.next, c.networks = e.next, maps.Clone(e.networks)
	for id, s := range e.services {
		c.services[id] = copied(s)
	}
	for id, x := range e.configs {
		c.configs[id] = copied(x)
	}
	return c
}

// copied is a deep copy, the way an engine gives things out.
func copied[T any](v *T) *T {
	text, err := json.Marshal(v)
	var c T
	if err == nil {
		err = json.Unmarshal(text, &c)
	}
	if err != nil {
		panic(err) // it was read from JSON
	}
	return &c
}

// serve gives an address at which the engine answers.
func (e *smallEngine) serve(done func(func())) string {
	server := httptest.NewServer(e.handler())
	done(func() {
		server.CloseClientConnections() // those that follow events too
		server.Close()
	})
	return "tcp://" + server.Listener.Addr().String()
}

// A refusal is an answer that is no.
type refusal struct {
	status  int
	message string
}

func (e *smallEngine) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/_ping", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Api-Version", "1.45")
		w.Header().Set("Swarm", "active/manager")
	})
	mux.HandleFunc("GET /{api}/events", e.stream)
	on := func(pattern string, f func(*http.Request) any) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			e.mu.Lock()
			defer e.mu.Unlock()
			w.Header().Set("Content-Type", "application/json")
			answer := f(r)
			if no, ok := answer.(refusal); ok {
				w.WriteHeader(no.status)
				answer = map[string]string{"message": no.message}
			}
			_ = json.NewEncoder(w).Encode(answer)
		})
	}
	const v = "/{api}"
	on("GET "+v+"/nodes", func(*http.Request) any {
		return []swarm.Node{{ID: "n1", Description: swarm.NodeDescription{Hostname: "host1"},
			Spec: swarm.NodeSpec{Availability: swarm.NodeAvailabilityActive}, Status: swarm.NodeStatus{State: swarm.NodeStateReady}}}
	})
	on("GET "+v+"/secrets", func(*http.Request) any { return []swarm.Secret{} })
	on("GET "+v+"/networks", func(*http.Request) any { return slices.Collect(maps.Values(e.networks)) })
	on("POST "+v+"/networks/create", e.createNetwork)
	on("GET "+v+"/services", e.listServices)
	on("POST "+v+"/services/create", e.createService)
	on("POST "+v+"/services/{id}/update", e.updateService)
	mux.HandleFunc("GET "+v+"/services/{id}/logs", e.logs)
	on("GET "+v+"/distribution/{image...}", func(r *http.Request) any {
		switch image := r.PathValue("image"); {
		case strings.Contains(image, "private") && r.Header.Get("X-Registry-Auth") == "":
			return refusal{http.StatusUnauthorized, "unauthorized: authentication required"}
		case strings.Contains(image, "gone"):
			return refusal{http.StatusNotFound, "manifest unknown"}
		}
		return map[string]any{"Descriptor": map[string]string{"digest": "sha256:" + strings.Repeat("0", 64)}}
	})
	on("GET "+v+"/tasks", e.listTasks)
	on("GET "+v+"/configs", e.listConfigs)
	on("POST "+v+"/configs/create", e.createConfig)
	on("GET "+v+"/configs/{id}", func(r *http.Request) any {
		if c := e.configs[r.PathValue("id")]; c != nil {
			return c
		}
		return refusal{http.StatusNotFound, "config not found"}
	})
	on("POST "+v+"/configs/{id}/update", e.updateConfig)
	on("DELETE "+v+"/configs/{id}", func(r *http.Request) any {
		delete(e.configs, r.PathValue("id"))
		return nil
	})
	return mux
}

// stream sends an event for every write of a config, as long as somebody listens.
func (e *smallEngine) stream(w http.ResponseWriter, r *http.Request) {
	watcher := make(chan events.Message, 100)
	e.mu.Lock()
	e.watchers[watcher] = true
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		delete(e.watchers, watcher)
		e.mu.Unlock()
	}()
	w.WriteHeader(http.StatusOK)
	flush := http.NewResponseController(w)
	for flush.Flush() == nil {
		select {
		case m := <-watcher:
			_ = json.NewEncoder(w).Encode(m)
		case <-r.Context().Done():
			return
		}
	}
}

// logs has each task of a service say that it listens, or why it dies, and one whose
// logs are followed a line more.
func (e *smallEngine) logs(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	s := e.services[r.PathValue("id")]
	e.mu.Unlock()
	query := r.URL.Query()
	if s == nil || query.Get("details") != "1" || query.Get("timestamps") != "1" {
		http.Error(w, `{"message":"service not found"}`, http.StatusNotFound)
		return
	}
	say := func(stream byte, slot uint64, second int, text string) {
		line := fmt.Sprintf("%s com.docker.swarm.node.id=n1,com.docker.swarm.service.id=%s,com.docker.swarm.task.id=%s.%d %s\n",
			noon.Add(time.Duration(second)*time.Second).Format(time.RFC3339Nano), s.ID, s.ID, slot, text)
		head := []byte{stream, 0, 0, 0, 0, 0, 0, 0}
		binary.BigEndian.PutUint32(head[4:], uint32(len(line)))
		_, _ = w.Write(append(head, line...))
	}
	replicas := *s.Spec.Mode.Replicated.Replicas
	for slot := range replicas {
		say(1, slot+1, int(slot), "starting "+s.Spec.Name)
	}
	for slot := range replicas {
		if stateOf(&s.Spec) == swarm.TaskStateFailed {
			say(2, slot+1, 10+int(slot), "panic: no such table")
		} else {
			say(1, slot+1, 10+int(slot), "listening")
		}
	}
	if query.Get("follow") == "1" {
		say(1, 1, 20, "and more")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
}

func (e *smallEngine) wrote(c *swarm.Config, action events.Action) {
	for watcher := range e.watchers {
		select {
		case watcher <- events.Message{Type: events.ConfigEventType, Action: action, Scope: "swarm",
			Actor: events.Actor{ID: c.ID, Attributes: map[string]string{"name": c.Spec.Name}}}:
		default: // events get lost
		}
	}
}

func (e *smallEngine) id() string { e.next++; return fmt.Sprintf("id%d", e.next) }

func (e *smallEngine) meta(old swarm.Meta) swarm.Meta {
	e.next++
	old.Version.Index, old.UpdatedAt = uint64(e.next), time.Now()
	if old.CreatedAt.IsZero() {
		old.CreatedAt = old.UpdatedAt
	}
	return old
}

func read[T any](r *http.Request) (v T) {
	_ = json.NewDecoder(r.Body).Decode(&v)
	return v
}

func filterOf(r *http.Request) filters.Args {
	args, err := filters.FromJSON(r.URL.Query().Get("filters"))
	if err != nil {
		return filters.NewArgs()
	}
	return args
}

// current says whether a write names the version that there is.
func current(r *http.Request, m swarm.Meta) bool {
	return r.URL.Query().Get("version") == strconv.FormatUint(m.Version.Index, 10)
}

var outOfSequence = refusal{http.StatusInternalServerError, "rpc error: code = Unknown desc = update out of sequence"}

func (e *smallEngine) createNetwork(r *http.Request) any {
	n := read[network.CreateRequest](r)
	id := e.id()
	e.networks[id] = network.Summary{ID: id, Name: n.Name, Scope: "swarm", Driver: n.Driver, Options: n.Options, Labels: n.Labels, Attachable: n.Attachable, Internal: n.Internal}
	return network.CreateResponse{ID: id}
}

func (e *smallEngine) listServices(r *http.Request) any {
	list, wanted := []swarm.Service{}, filterOf(r)
	for _, id := range slices.Sorted(maps.Keys(e.services)) {
		if wanted.Contains("id") && !wanted.ExactMatch("id", id) {
			continue
		}
		s := *e.services[id]
		if slices.ContainsFunc(wanted.Get("label"), func(l string) bool { return !hasLabel(s.Spec.Labels, l) }) {
			continue
		}
		status := swarm.ServiceStatus{DesiredTasks: *s.Spec.Mode.Replicated.Replicas}
		if stateOf(&s.Spec) == swarm.TaskStateRunning {
			status.RunningTasks = status.DesiredTasks
		}
		s.ServiceStatus = &status
		list = append(list, s)
	}
	return list
}

func stateOf(s *swarm.ServiceSpec) swarm.TaskState {
	switch image := s.TaskTemplate.ContainerSpec.Image; {
	case strings.Contains(image, "bad"):
		return swarm.TaskStateFailed
	case strings.Contains(image, "slow"):
		return swarm.TaskStateStarting
	}
	return swarm.TaskStateRunning
}

func (e *smallEngine) createService(r *http.Request) any {
	s := &swarm.Service{ID: e.id(), Meta: e.meta(swarm.Meta{}), Spec: read[swarm.ServiceSpec](r)}
	for _, other := range e.services {
		if other.Spec.Name == s.Spec.Name {
			return refusal{http.StatusConflict, "name conflicts with an existing object"}
		}
	}
	e.services[s.ID] = e.onNetworks(s)
	return swarm.ServiceCreateResponse{ID: s.ID}
}

// onNetworks names networks by their IDs, as an engine does.
func (e *smallEngine) onNetworks(s *swarm.Service) *swarm.Service {
	for i := range s.Spec.TaskTemplate.Networks {
		n := &s.Spec.TaskTemplate.Networks[i]
		for id, known := range e.networks {
			if known.Name == n.Target {
				n.Target = id
			}
		}
	}
	return s
}

func (e *smallEngine) updateService(r *http.Request) any {
	s := e.services[r.PathValue("id")]
	switch {
	case s == nil:
		return refusal{http.StatusNotFound, "service not found"}
	case !current(r, s.Meta):
		return outOfSequence
	}
	before, now := s.Spec, time.Now()
	s.PreviousSpec, s.Spec, s.Meta = &before, read[swarm.ServiceSpec](r), e.meta(s.Meta)
	e.onNetworks(s)
	s.UpdateStatus = &swarm.UpdateStatus{State: swarm.UpdateStateCompleted, StartedAt: &now, CompletedAt: &now}
	switch stateOf(&s.Spec) {
	case swarm.TaskStateFailed:
		s.UpdateStatus = &swarm.UpdateStatus{State: swarm.UpdateStatePaused, StartedAt: &now, Message: "update paused due to failure or early termination of task t1"}
	case swarm.TaskStateStarting:
		s.UpdateStatus = &swarm.UpdateStatus{State: swarm.UpdateStateUpdating, StartedAt: &now}
	}
	return swarm.ServiceUpdateResponse{}
}

func (e *smallEngine) listTasks(r *http.Request) any {
	list := []swarm.Task{}
	for _, id := range filterOf(r).Get("service") {
		s := e.services[id]
		if s == nil {
			continue
		}
		for slot := range *s.Spec.Mode.Replicated.Replicas {
			t := swarm.Task{ID: fmt.Sprintf("%s.%d", id, slot+1), ServiceID: id, Slot: int(slot) + 1, NodeID: "n1", Meta: swarm.Meta{CreatedAt: s.UpdatedAt},
				Spec: s.Spec.TaskTemplate, DesiredState: swarm.TaskStateRunning, Status: swarm.TaskStatus{State: stateOf(&s.Spec), Timestamp: s.UpdatedAt}}
			if t.Status.State == swarm.TaskStateFailed {
				t.DesiredState, t.Status.Err = swarm.TaskStateShutdown, "task: non-zero exit (3)"
				t.Status.ContainerStatus = &swarm.ContainerStatus{ExitCode: 3}
			}
			list = append(list, t)
		}
	}
	return list
}

func (e *smallEngine) listConfigs(r *http.Request) any {
	list, wanted := []swarm.Config{}, filterOf(r)
	for _, id := range slices.Sorted(maps.Keys(e.configs)) {
		c := e.configs[id]
		named := !wanted.Contains("name") || slices.ContainsFunc(wanted.Get("name"), func(n string) bool { return strings.HasPrefix(c.Spec.Name, n) })
		if named && !slices.ContainsFunc(wanted.Get("label"), func(l string) bool { return !hasLabel(c.Spec.Labels, l) }) {
			list = append(list, *c)
		}
	}
	return list
}

func hasLabel(labels map[string]string, want string) bool {
	key, value, exact := strings.Cut(want, "=")
	have, ok := labels[key]
	return ok && (!exact || have == value)
}

func (e *smallEngine) createConfig(r *http.Request) any {
	c := &swarm.Config{ID: e.id(), Meta: e.meta(swarm.Meta{}), Spec: read[swarm.ConfigSpec](r)}
	if len(c.Spec.Data) == 0 {
		return refusal{http.StatusBadRequest, "config data must be larger than 0 and less than 1024000 bytes"}
	}
	for _, other := range e.configs {
		if other.Spec.Name == c.Spec.Name {
			return refusal{http.StatusConflict, "name conflicts with an existing object"}
		}
	}
	e.configs[c.ID] = c
	e.wrote(c, events.ActionCreate)
	return swarm.ConfigCreateResponse{ID: c.ID}
}

func (e *smallEngine) updateConfig(r *http.Request) any {
	c := e.configs[r.PathValue("id")]
	switch {
	case c == nil:
		return refusal{http.StatusNotFound, "config not found"}
	case !current(r, c.Meta):
		return outOfSequence
	}
	c.Spec.Labels, c.Meta = read[swarm.ConfigSpec](r).Labels, e.meta(c.Meta)
	e.wrote(c, events.ActionUpdate)
	return nil
}
