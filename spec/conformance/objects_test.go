package conformance

import (
	"cmp"
	"slices"

	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"
)

// objects is what one side makes of a compose file: what goes to an engine, with
// names where an engine would have its own IDs.
type objects struct {
	Services map[string]swarm.ServiceSpec
	Networks map[string]network.CreateOptions
	// External holds the names of the networks that services use and that must exist.
	External map[string]struct{}
	Configs  map[string]swarm.ConfigSpec
	Secrets  map[string]swarm.SecretSpec
}

// canonical brings into one order what an engine takes as a set and either side may
// give in any order, and takes out what only an engine can know. Nothing else is
// brought into line: what else differs is told.
func (o *objects) canonical() {
	for _, spec := range o.Services {
		if spec.EndpointSpec != nil {
			// docker/cli sorts ports by their published number alone, with a sort that
			// keeps no order among equals. An engine hands out ports one by one and
			// compares them as a set.
			slices.SortFunc(spec.EndpointSpec.Ports, func(a, b swarm.PortConfig) int {
				return cmp.Or(cmp.Compare(a.PublishedPort, b.PublishedPort), cmp.Compare(a.TargetPort, b.TargetPort),
					cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.PublishMode, b.PublishMode))
			})
		}
		container := spec.TaskTemplate.ContainerSpec
		// docker/cli collects references in a map by their target and sorts them by the
		// object's name, so that those of one object come in any order. They are files
		// in a container: their order means nothing.
		slices.SortFunc(container.Configs, func(a, b *swarm.ConfigReference) int {
			return cmp.Or(cmp.Compare(a.ConfigName, b.ConfigName), cmp.Compare(configTarget(a), configTarget(b)))
		})
		slices.SortFunc(container.Secrets, func(a, b *swarm.SecretReference) int {
			return cmp.Or(cmp.Compare(a.SecretName, b.SecretName), cmp.Compare(secretTarget(a), secretTarget(b)))
		})
		// The oracle's engine gives out a name as the ID of what has it.
		for _, reference := range container.Configs {
			reference.ConfigID = ""
		}
		for _, reference := range container.Secrets {
			reference.SecretID = ""
		}
	}
}

// configTarget is a reference's target; one without is for the engine itself.
func configTarget(r *swarm.ConfigReference) string {
	if r.File == nil {
		return ""
	}
	return r.File.Name
}

func secretTarget(r *swarm.SecretReference) string {
	if r.File == nil {
		return ""
	}
	return r.File.Name
}
