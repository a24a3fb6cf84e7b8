package reconcile

import (
	"cmp"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/swarm"

	"github.com/skep-io/skep/spec"
)

// fromLive renders what lives of a stack as if a file had asked for it: names in
// the place of IDs, so that it can be written again later.
func fromLive(stack string, live *Live) *Desired {
	d := &Desired{Stack: stack}
	for _, ref := range live.Stack(stack) {
		switch ref.Kind {
		case KindService:
			d.Services = append(d.Services, foundService(stack, live.Services[ref.Name], live))
		case KindNetwork:
			n := live.Networks[ref.Name]
			d.Networks = append(d.Networks, DesiredNetwork{Key: keyOf(stack, n.Name), Name: n.Name, Create: n.CreateOptions})
		case KindConfig:
			d.Configs = append(d.Configs, foundObject(stack, live.Configs[ref.Name]))
		case KindSecret:
			d.Secrets = append(d.Secrets, foundObject(stack, live.Secrets[ref.Name]))
		}
	}
	slices.SortFunc(d.Services, func(a, b DesiredService) int { return cmp.Compare(a.Name, b.Name) })
	return d
}

func foundService(stack string, s *swarm.Service, live *Live) DesiredService {
	c := cloneSpec(&s.Spec)
	for i := range c.TaskTemplate.Networks {
		n := &c.TaskTemplate.Networks[i]
		if name, ok := live.networkNames[n.Target]; ok {
			n.Target = name
		}
	}
	if cs := c.TaskTemplate.ContainerSpec; cs != nil {
		for _, r := range cs.Configs {
			r.ConfigID = ""
		}
		for _, r := range cs.Secrets {
			r.SecretID = ""
		}
		if p := cs.Privileges; p != nil && p.CredentialSpec != nil && p.CredentialSpec.Config != "" {
			if name, ok := live.lookUp().configs[p.CredentialSpec.Config]; ok {
				p.CredentialSpec.Config = name
			}
		}
	}
	return DesiredService{Key: keyOf(stack, s.Spec.Name), Name: s.Spec.Name, Spec: *c, Written: s.Spec.Labels[spec.LabelImage]}
}

// foundObject has no hash: what an adopted object holds is believed from the
// first release on that a file asked for.
func foundObject(stack string, o *LiveObject) DesiredObject {
	return DesiredObject{Key: keyOf(stack, o.Name), Name: o.Name, Plain: o.Name, External: true, Labels: o.Labels}
}

func keyOf(stack, name string) string { return strings.TrimPrefix(name, stack+"_") }

// labels returns the labels of a live object.
func (l *Live) labels(ref Ref) map[string]string {
	switch ref.Kind {
	case KindService:
		if s := l.Services[ref.Name]; s != nil {
			return s.Spec.Labels
		}
	case KindNetwork:
		if n := l.Networks[ref.Name]; n != nil {
			return n.Labels
		}
	case KindConfig:
		if o := l.Configs[ref.Name]; o != nil {
			return o.Labels
		}
	case KindSecret:
		if o := l.Secrets[ref.Name]; o != nil {
			return o.Labels
		}
	}
	return nil
}

// id returns the ID of a live object.
func (l *Live) id(ref Ref) string {
	switch ref.Kind {
	case KindService:
		if s := l.Services[ref.Name]; s != nil {
			return s.ID
		}
	case KindNetwork:
		if n := l.Networks[ref.Name]; n != nil {
			return n.ID
		}
	case KindConfig:
		if o := l.Configs[ref.Name]; o != nil {
			return o.ID
		}
	case KindSecret:
		if o := l.Secrets[ref.Name]; o != nil {
			return o.ID
		}
	}
	return ""
}
