package reconcile

import (
	"slices"
	"strings"

	"github.com/docker/docker/api/types/swarm"

	"github.com/skep-io/skep/spec"
)

// What came out of encrypted files is in a service as anything else is, and the label
// spec.LabelMasked says in which of its fields: these are never shown, whatever they are
// called.

// maskedFields are the fields of services that are not shown.
func maskedFields(services ...*swarm.ServiceSpec) map[string]bool {
	out := map[string]bool{}
	for _, s := range services {
		for _, field := range strings.Fields(s.Labels[spec.LabelMasked]) {
			out[field] = true
		}
	}
	return out
}

// hasMasked says whether a stack has values that came out of encrypted files.
func hasMasked(stack *spec.Stack) bool {
	return slices.ContainsFunc(stack.Configs, func(c spec.Config) bool { return c.Sealed }) ||
		slices.ContainsFunc(stack.Services, func(s spec.Service) bool { return s.Spec.Labels[spec.LabelMasked] != "" })
}

// hides says that a field is not shown, or a section that it is in.
func hides(hidden map[string]bool, field string) bool {
	for {
		if hidden[field] {
			return true
		}
		at := strings.LastIndexByte(field, '.')
		if at < 0 {
			return false
		}
		field = field[:at]
	}
}

// maskField hides the values of a difference that are not to be shown.
func maskField(hidden map[string]bool, f Field) Field {
	if !hides(hidden, f.Path) {
		return f
	}
	if f.Old != "" {
		f.Old = masked
	}
	if f.New != "" {
		f.New = masked
	}
	return f
}

// Shown is a service as people get to see it: without the values that came out of
// encrypted files. It is s itself where there are none.
func Shown(s *swarm.ServiceSpec) *swarm.ServiceSpec {
	hidden := maskedFields(s)
	if len(hidden) == 0 || s.TaskTemplate.ContainerSpec == nil {
		return s
	}
	s = cloneSpec(s)
	c := s.TaskTemplate.ContainerSpec
	for i, entry := range c.Env {
		if name, _, set := strings.Cut(entry, "="); set && hides(hidden, "environment."+name) {
			c.Env[i] = name + "=" + masked
		}
	}
	pairs := func(section string, m map[string]string) {
		for key := range m {
			if hides(hidden, section+"."+key) {
				m[key] = masked
			}
		}
	}
	pairs("labels", c.Labels)
	pairs("sysctls", c.Sysctls)
	pairs("deploy.labels", s.Labels)
	if d := s.TaskTemplate.LogDriver; d != nil {
		pairs("logging.options", d.Options)
	}
	for field, text := range map[string]*string{"hostname": &c.Hostname, "user": &c.User, "working_dir": &c.Dir} {
		if hidden[field] {
			*text = masked
		}
	}
	lists := map[string]*[]string{"command": &c.Args, "entrypoint": &c.Command, "extra_hosts": &c.Hosts}
	if c.Healthcheck != nil {
		lists["healthcheck.test"] = &c.Healthcheck.Test
	}
	for field, list := range lists {
		if hidden[field] {
			*list = []string{masked}
		}
	}
	for i := range c.Mounts {
		m := &c.Mounts[i]
		if !hides(hidden, "volumes."+m.Target) {
			continue
		}
		m.Source = masked
		if m.VolumeOptions != nil && m.VolumeOptions.DriverConfig != nil {
			for key := range m.VolumeOptions.DriverConfig.Options {
				m.VolumeOptions.DriverConfig.Options[key] = masked
			}
		}
	}
	return s
}
