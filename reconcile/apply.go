package reconcile

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/docker/docker/api/types/swarm"
)

// inFlight is how many writes of one stack are under way at once.
const inFlight = 8

// An applier carries out one step of a plan. What it creates gets its ID into
// ids, for the services that come after it.
type applier struct {
	swarm Swarm
	creds Credentials
	owner string
	live  *Live

	mu      sync.Mutex
	refused map[string]bool // IDs that are still in use
	made    map[Ref]string  // what this step created → ID
}

// apply writes the changes: networks, configs and secrets, what frees a port (one
// after another), services, removals; within each group side by side. It goes on to
// the next group only when the one before went through, and returns every error.
// It never repeats a write: the next pass looks again and decides anew.
func (a *applier) apply(ctx context.Context, changes []Change) error {
	groups := make([][]Change, 4)
	for _, c := range changes {
		switch {
		case c.Early:
			groups[1] = append(groups[1], c)
		case c.Op == OpRemove:
			groups[3] = append(groups[3], c)
		case c.Kind == KindService:
			groups[2] = append(groups[2], c)
		default:
			groups[0] = append(groups[0], c)
		}
	}
	for i, g := range groups {
		limit := inFlight
		if i == 1 {
			limit = 1 // a port moves from one to the next: the plan's order counts
		}
		if err := a.all(ctx, g, limit); err != nil {
			return err
		}
	}
	return nil
}

// all writes the changes of a group, a few at a time. One that fails does not
// stop the others: they are independent, and a write that is cut off half-way is
// worse than one that is done.
func (a *applier) all(ctx context.Context, changes []Change, limit int) error {
	errs := make([]error, len(changes))
	slots := make(chan struct{}, limit)
	var wg sync.WaitGroup
	var bad panics
	for i := range changes {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			defer bad.catch()
			errs[i] = a.write(ctx, &changes[i])
		})
	}
	wg.Wait()
	bad.raise()
	return errors.Join(errs...)
}

func (a *applier) write(ctx context.Context, c *Change) error {
	err := a.dispatch(ctx, c)
	if err != nil {
		return fmt.Errorf("%s %s %s: %w", c.Op, c.Kind, c.Name, &maskedError{err})
	}
	return nil
}

func (a *applier) dispatch(ctx context.Context, c *Change) error {
	if c.Op == OpRemove {
		return a.remove(ctx, c)
	}
	switch c.Kind {
	case KindNetwork:
		return a.createNetwork(ctx, c.Network)
	case KindConfig, KindSecret:
		return a.writeObject(ctx, c)
	case KindService:
		return a.writeService(ctx, c)
	}
	return fmt.Errorf("unknown kind %q", c.Kind)
}

// remove removes by the ID that was observed, never by name. What is gone already
// is removed; what is still in use (tasks that are being stopped) is left to the
// next pass.
func (a *applier) remove(ctx context.Context, c *Change) error {
	var err error
	switch c.Kind {
	case KindService:
		err = a.swarm.ServiceRemove(ctx, c.ID)
	case KindNetwork:
		err = a.swarm.NetworkRemove(ctx, c.ID)
	case KindConfig:
		err = a.swarm.ConfigRemove(ctx, c.ID)
	case KindSecret:
		err = a.swarm.SecretRemove(ctx, c.ID)
	}
	if isInUse(err) {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.refused == nil {
			a.refused = map[string]bool{}
		}
		a.refused[c.ID] = true
		return nil
	}
	if isNotFound(err) {
		return nil
	}
	return err
}

func (a *applier) createNetwork(ctx context.Context, n *DesiredNetwork) error {
	options := n.Create
	options.Labels = a.owned(options.Labels)
	resp, err := a.swarm.NetworkCreate(ctx, n.Name, options)
	if err != nil {
		return err
	}
	a.note(Ref{KindNetwork, n.Name}, resp.ID)
	return nil
}

func (a *applier) writeObject(ctx context.Context, c *Change) error {
	o := c.Object
	note := swarm.Annotations{Name: o.Name, Labels: a.owned(o.Labels)}
	if c.Op == OpUpdate { // labels are all that the engine lets anyone change
		if c.Kind == KindConfig {
			return a.swarm.ConfigUpdate(ctx, c.ID, c.Version, swarm.ConfigSpec{Annotations: note, Templating: o.Templating})
		}
		return a.swarm.SecretUpdate(ctx, c.ID, c.Version, swarm.SecretSpec{Annotations: note, Driver: o.Driver, Templating: o.Templating})
	}
	if c.Kind == KindConfig {
		resp, err := a.swarm.ConfigCreate(ctx, swarm.ConfigSpec{Annotations: note, Data: o.ConfigData, Templating: o.Templating})
		if err != nil {
			return err
		}
		a.note(Ref{KindConfig, o.Name}, resp.ID)
		return nil
	}
	resp, err := a.swarm.SecretCreate(ctx, swarm.SecretSpec{Annotations: note, Data: o.SecretData.Reveal(), Driver: o.Driver, Templating: o.Templating})
	if err != nil {
		return err
	}
	a.note(Ref{KindSecret, o.Name}, resp.ID)
	return nil
}

func (a *applier) owned(labels map[string]string) map[string]string {
	l := make(map[string]string, len(labels)+1)
	maps.Copy(l, labels)
	l[LabelOwner] = a.owner
	return l
}

func (a *applier) note(r Ref, id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.made == nil {
		a.made = map[Ref]string{}
	}
	a.made[r] = id
}

// id finds an object's ID by its name: just created, or observed.
func (a *applier) id(r Ref) (string, error) {
	a.mu.Lock()
	id := a.made[r]
	a.mu.Unlock()
	if id != "" {
		return id, nil
	}
	switch r.Kind {
	case KindNetwork:
		if n := a.live.Networks[r.Name]; n != nil {
			return n.ID, nil
		}
		return r.Name, nil // host, bridge, none: every node's own, known by name only
	case KindConfig:
		if o := a.live.Configs[r.Name]; o != nil {
			return o.ID, nil
		}
	case KindSecret:
		if o := a.live.Secrets[r.Name]; o != nil {
			return o.ID, nil
		}
	}
	return "", fmt.Errorf("%s %s does not exist", r.Kind, r.Name)
}

// createTimeout bounds the second half of a replacement; an engine gives up by itself
// after 20 s.
const createTimeout = 30 * time.Second

func (a *applier) writeService(ctx context.Context, c *Change) error {
	s := cloneSpec(c.Spec) // the client writes into what it is given
	if err := a.resolve(s); err != nil {
		return err
	}
	auth, err := a.auth(s)
	if err != nil {
		return err
	}
	switch c.Op {
	case OpUpdate:
		_, err = a.swarm.ServiceUpdate(ctx, c.ID, c.Version, *s, swarm.ServiceUpdateOptions{EncodedRegistryAuth: auth})
		return err
	case OpReplace: // the engine refuses to change a mode
		if err := a.swarm.ServiceRemove(ctx, c.ID); err != nil && !isNotFound(err) {
			return err
		}
		// Nobody else brings it back: a stop that comes now waits for the other half.
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), createTimeout)
		defer cancel()
	}
	_, err = a.swarm.ServiceCreate(ctx, *s, swarm.ServiceCreateOptions{EncodedRegistryAuth: auth})
	return err
}

func (a *applier) auth(s *swarm.ServiceSpec) (string, error) {
	if a.creds == nil || s.TaskTemplate.ContainerSpec == nil {
		return "", nil
	}
	return a.creds.EncodedAuth(s.TaskTemplate.ContainerSpec.Image)
}

// resolve turns names into IDs, where there are none yet: what is as it was keeps
// the ID that it had.
func (a *applier) resolve(s *swarm.ServiceSpec) error {
	var err error
	for i := range s.TaskTemplate.Networks {
		n := &s.TaskTemplate.Networks[i]
		if n.Target, err = a.id(Ref{KindNetwork, n.Target}); err != nil {
			return err
		}
	}
	c := s.TaskTemplate.ContainerSpec
	if c == nil {
		return nil
	}
	for _, r := range c.Configs {
		if r.ConfigID != "" {
			continue
		}
		if r.ConfigID, err = a.id(Ref{KindConfig, r.ConfigName}); err != nil {
			return err
		}
	}
	for _, r := range c.Secrets {
		if r.SecretID != "" {
			continue
		}
		if r.SecretID, err = a.id(Ref{KindSecret, r.SecretName}); err != nil {
			return err
		}
	}
	if p := c.Privileges; p != nil && p.CredentialSpec != nil && p.CredentialSpec.Config != "" {
		if _, isID := a.live.lookUp().configs[p.CredentialSpec.Config]; !isID {
			p.CredentialSpec.Config, err = a.id(Ref{KindConfig, p.CredentialSpec.Config})
		}
	}
	return err
}
