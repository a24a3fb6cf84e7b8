package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"

	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"
	"github.com/spf13/cobra"

	"github.com/skep-io/skep/reconcile"
	"github.com/skep-io/skep/spec"
)

func (a *app) render() *cobra.Command {
	var (
		specs  specFlags
		format formatFlag
	)
	cmd := &cobra.Command{
		Use:     "render FILE",
		Short:   "Print the Swarm objects that a stack's file means, as JSON",
		GroupID: groupFiles,
		Long: `Print the Swarm objects that a stack's file means, as JSON: services, networks,
configs and secrets as the Engine API has them. The same file gives the same
output. A secret's value is not in it, and neither is what came out of an encrypted
file. No engine is asked.

FILE is a compose file or the folder of one. Exit code 1 says that there are errors
in it, 2 that it could not be read.`,
		Example: `  skep render stacks/shop.yml
  skep render stacks/blog | jq '.services[].Name'
  skep render stacks/blog --profile debug --env TAG
  skep render stacks/blog --format '{{range .Services}}{{println .Name}}{{end}}'`,
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := format.parse()
			if err != nil {
				return err
			}
			o, err := specs.options(a.lookup)
			if err != nil {
				return err
			}
			if _, err := os.Stat(args[0]); err != nil {
				return fmt.Errorf("render: %w", err)
			}
			stack, findings := spec.LoadFile(cmd.Context(), args[0], o)
			a.printFindings(a.err, findings)
			switch {
			case stack == nil && slices.ContainsFunc(findings, unreadable):
				return fmt.Errorf("render: %s could not be read", args[0])
			case stack == nil:
				return no
			case t != nil:
				return printEach(a.out, t, []rendering{renderStack(stack)})
			}
			e := json.NewEncoder(a.out)
			e.SetIndent("", "  ")
			e.SetEscapeHTML(false)
			if err := e.Encode(renderStack(stack)); err != nil {
				return fmt.Errorf("render: %w", err)
			}
			return nil
		},
	}
	specs.install(cmd)
	format.install(cmd, "json")
	return cmd
}

// A rendering is a stack as the Engine API would have it.
type rendering struct {
	Stack    string              `json:"stack"`
	Services []swarm.ServiceSpec `json:"services"`
	Networks []renderedNetwork   `json:"networks"`
	Configs  []renderedConfig    `json:"configs"`
	Secrets  []renderedSecret    `json:"secrets"`
}

type renderedNetwork struct {
	Name     string
	External bool `json:",omitempty"`
	*network.CreateOptions
}

type renderedConfig struct {
	External bool `json:",omitempty"`
	swarm.ConfigSpec
	// Data shadows the specification's own: text, in base64, or how a value looks that
	// came out of an encrypted file.
	Data any `json:",omitempty"`
}

type renderedSecret struct {
	External bool `json:",omitempty"`
	swarm.SecretSpec
	// Data shadows the specification's own, and says how a value that is not shown
	// looks. The value itself is nowhere below: a template may call every method.
	Data string `json:",omitempty"`
}

func renderStack(stack *spec.Stack) rendering {
	r := rendering{
		Stack:    stack.Name,
		Services: []swarm.ServiceSpec{}, Networks: []renderedNetwork{}, Configs: []renderedConfig{}, Secrets: []renderedSecret{},
	}
	for _, s := range stack.Services {
		r.Services = append(r.Services, *reconcile.Shown(&s.Spec))
	}
	for _, n := range stack.Networks {
		rendered := renderedNetwork{Name: n.Name, External: n.External}
		if !n.External {
			rendered.CreateOptions = &n.Create
		}
		r.Networks = append(r.Networks, rendered)
	}
	for _, c := range stack.Configs {
		rendered := renderedConfig{External: c.External, ConfigSpec: c.Spec}
		rendered.Name, rendered.ConfigSpec.Data = c.Name, nil
		switch {
		case c.Sealed:
			rendered.Data = spec.NewSensitive(nil).String()
		case len(c.Spec.Data) > 0:
			rendered.Data = c.Spec.Data
		}
		r.Configs = append(r.Configs, rendered)
	}
	for _, s := range stack.Secrets {
		rendered := renderedSecret{External: s.External, SecretSpec: s.Spec}
		rendered.Name = s.Name
		if !s.External && s.Spec.Driver == nil {
			rendered.Data = s.Value.String()
		}
		r.Secrets = append(r.Secrets, rendered)
	}
	return r
}
