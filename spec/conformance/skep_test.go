package conformance

import (
	"context"
	"fmt"
	"strings"

	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"

	"github.com/skep-io/skep/spec"
)

// A refusal is an error that skep finds in a file.
type refusal []spec.Finding

func (r refusal) Error() string {
	var lines []string
	for _, f := range r {
		lines = append(lines, f.String())
	}
	return strings.Join(lines, "\n")
}

// codes is a refusal in short: each error's line and code, in the order of the file.
func (r refusal) codes() []string {
	var out []string
	for _, f := range r {
		out = append(out, fmt.Sprintf("%d: %s", f.Line, f.Code))
	}
	return out
}

// skepObjects is what skep would send for a file: the stack as `skep render` shows it
// without an engine at hand, with secrets' values in their place. Findings are all
// that it tells about the file.
func skepObjects(file string, env map[string]string) (*objects, []spec.Finding, error) {
	stack, findings := spec.LoadFile(context.Background(), file, spec.Options{Env: env})
	if stack == nil {
		var errors refusal
		for _, f := range findings {
			if f.Severity == spec.Error {
				errors = append(errors, f)
			}
		}
		return nil, findings, errors
	}
	o := &objects{
		Services: map[string]swarm.ServiceSpec{},
		Networks: map[string]network.CreateOptions{},
		External: map[string]struct{}{},
		Configs:  map[string]swarm.ConfigSpec{},
		Secrets:  map[string]swarm.SecretSpec{},
	}
	for _, service := range stack.Services {
		o.Services[service.Key] = service.Spec
	}
	for _, n := range stack.Networks {
		if n.External {
			o.External[n.Name] = struct{}{}
		} else {
			o.Networks[n.Name] = n.Create
		}
	}
	for _, c := range stack.Configs {
		if !c.External {
			o.Configs[c.Name] = c.Spec
		}
	}
	for _, s := range stack.Secrets {
		if !s.External {
			withValue := s.Spec
			withValue.Data = s.Value.Reveal()
			o.Secrets[s.Name] = withValue
		}
	}
	return o, findings, nil
}
